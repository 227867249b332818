"""Refusals of the runtime itself, beside those of the core (`statemachine.core.refusals`).

Each names its cause in its attributes, and its message says what to do. Code that is refused may try again, and again:
every verb that is refused lets others run first (`gives_way`), or such code would be the last that runs.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import wraps
from typing import Any, ClassVar, ParamSpec, TypeVar

import anyio
from attrs import define, field

from statemachine.core.exact import class_name, said, shown
from statemachine.core.facts import represent, short
from statemachine.core.refusals import BESIDE, Refusal
from statemachine.stores import limits
from statemachine.tracebacks import is_group, members, text_of

__all__ = [
    "EventsLost",
    "InvalidWork",
    "KeyReused",
    "NotJson",
    "Stalled",
    "ThreadLost",
    "TooLarge",
    "UnknownPath",
    "UnknownRequest",
    "UnknownRole",
    "WrongEventLoop",
    "WrongTask",
]


P = ParamSpec("P")
R = TypeVar("R")


async def give_way() -> None:
    """Lets the event loop run others, and cancel the code that runs here."""
    with suppress(RuntimeError):  # no event loop runs here, or the stack is at its end
        await anyio.lowlevel.checkpoint()


def gives_way(verb: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Has the verb let others run before it raises: what is refused at once awaits nothing, and code that repeats it
    until it succeeds would keep the event loop for good. No bound ends such code, and no cancellation reaches it.
    """

    @wraps(verb)
    async def giving_way(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await verb(*args, **kwargs)
        except Exception:
            await give_way()
            raise

    return giving_way


@define(auto_exc=True)
class InvalidWork(TypeError):
    """What cannot be the work of agents, given to `AgentControl.open`; the message says what to write instead."""

    role: str | None
    """The role whose work it would have been; None: it is not about one role."""
    problem: str

    __repr__ = represent

    def __str__(self) -> str:
        whose = "" if self.role is None else f" of role {short(self.role)}"
        return f"the work{whose} is {self.problem}"


OURS = "statemachine.runtime."
"""The modules whose frames stand around those of an agent's code."""


@define(auto_exc=True)
class UnknownPath(Refusal):
    """No agent ever had this path, or those that had it are forgotten."""

    path: str
    text: ClassVar[str] = "no agent is known at {self.path!r:.200}; `list` shows the open ones"


@define(auto_exc=True)
class UnknownRequest(Refusal):
    """The agent never got a mail with this number."""

    agent: int
    path: str
    mail: int
    text: ClassVar[str] = (
        "agent {self.path} ({self.agent}) never got mail {self.mail}; give a reference as `Handle.ref` has it"
    )


@define(auto_exc=True)
class UnknownRole(Refusal):
    """The session was opened without work for this role: that of an agent to be spawned, or of one asked for a turn."""

    role: str
    roles: tuple[str, ...]
    text: ClassVar[str] = (
        "there is no work for role {self.role!r:.100}, only for {self.roles}; open the session with work for it, or "
        "spawn an agent of one of these"
    )


@define(auto_exc=True)
class KeyReused(Refusal):
    """An idempotency key came again with another request."""

    key: str
    first: str
    """The first request with the key."""
    agent: int
    """The agent that it was made of, or spawned."""
    path: str = field(metadata={BESIDE: True})
    text: ClassVar[str] = (
        "key {self.key!r:.100} was used for another request to {self.path} ({self.agent}), {self.first:.200}; take a "
        "new key for a new request"
    )


@define(auto_exc=True)
class WrongEventLoop(Refusal):
    """A verb was called in another thread, or another event loop, than that of its session."""

    thread: str
    """The name of the thread in which it was called."""
    text: ClassVar[str] = (
        "called in thread {self.thread!r:.100}, outside of the event loop in which the session was opened; call it "
        "there: from a thread by `anyio.from_thread.run`, or by `asyncio.run_coroutine_threadsafe` with that loop"
    )


@define(auto_exc=True)
class WrongTask(Refusal):
    """A block was left by another task than that which entered it, or before one that this task entered later."""

    problem: str
    text: ClassVar[str] = (
        "it cannot be left here: {self.problem}; leave it in the task that entered it, with `async with` or an"
        " `AsyncExitStack` of that task, in the reverse order"
    )


@define(auto_exc=True)
class NotJson(Refusal):
    """Settings or an entry are not a JSON value, so no store could hold them."""

    value: Any
    problem: str
    text: ClassVar[str] = "{self.shown} is not a JSON value ({self.problem:.200}); convert it first"

    @property
    def shown(self) -> str:
        """The value as the message shows it."""
        return shown(self.value)


ANSWER = "an answer to a client"
KEEP_ELSEWHERE = "keep it elsewhere, such as in a file, and give its name"
ADVICE = {
    **{limit.what: "give a shorter one" for limit in (limits.NAME, limits.ROLE, limits.KEY, limits.PATH)},
    ANSWER: "ask for less, such as `list` with a prefix, or ask in the process of the session",
}
"""What is too large -> what to do, where it cannot be kept elsewhere."""


@define(auto_exc=True)
class TooLarge(Refusal):
    """A value is larger than the log takes. `size` and `bytes_max` count bytes as it is stored, with what is escaped
    within JSON; `what` says what it would have been. Of a value that is not even made a text of, `size` is a number
    that it exceeds or reaches.
    """

    what: str
    size: int
    bytes_max: int
    text: ClassVar[str] = (
        "{self.what} has at most {self.bytes_max:,} bytes as it is stored, this one has {self.size:,}; {self.advice}"
    )

    @property
    def advice(self) -> str:
        """What to do, as the message says it."""
        return ADVICE.get(self.what, KEEP_ELSEWHERE)


@define(auto_exc=True)
class Stalled(Refusal):
    """A turn waits for outcomes, all slots are held by turns that wait, and as many turns as `max_resident` allows are
    in memory without a slot (J8): nothing would ever come of its waits.
    """

    agent: int
    path: str
    max_resident: int
    text: ClassVar[str] = (
        "turn of {self.path} ({self.agent}) cannot wait any longer: every slot is held by a turn that waits, and "
        "max_resident={self.max_resident} allows no more turns in memory; raise max_resident, delegate less deep, or "
        "end the turn and let the notice start the next one"
    )


@define(auto_exc=True)
class EventsLost(Refusal):
    """A reader of `events()` was slower than the session, which does not wait for readers."""

    unread_max: int
    text: ClassVar[str] = (
        "more than {self.unread_max} events were unread, so some are lost; read faster, or ask for the log instead"
    )


def words(error: BaseException) -> str:
    """Returns an exception as one line, even if it has no message or cannot make one, and not longer than is stored."""
    name, message = class_name(error), said(error)[: limits.ERROR.bytes_max + 1]
    return limits.cut(f"{name}: {message}" if message else name)


TRACEBACK_FRAMES, TRACEBACK_MAX = 20, 4_000
"""Most frames, and most characters, of a traceback that is kept."""


def traceback_of(error: BaseException) -> str | None:
    """Returns the traceback of an exception of an agent's code as a short text, without the frames around that code.
    None if it cannot be had.
    """
    try:
        frames = error.__traceback__
        while frames is not None and frames.tb_next and frames.tb_frame.f_globals.get("__name__", "").startswith(OURS):
            frames = frames.tb_next
    except KeyboardInterrupt:
        raise
    except BaseException:  # of what the exception's class says that it is
        return None
    text = text_of(error, frames, TRACEBACK_FRAMES)
    if text is None or len(text) <= TRACEBACK_MAX:
        return text
    half = TRACEBACK_MAX // 2
    return f"{text[:half]}\n... ({len(text):,} characters) ...\n{text[-half:]}"


def leaves(error: BaseException) -> list[BaseException]:
    """Returns the exceptions in a group, and in the groups in it; or the exception itself. Asks no class of theirs. A
    group that is in it more than once is looked at once.
    """
    found: list[BaseException] = []
    todo, known = [error], set[int]()
    while todo:
        one = todo.pop()
        if is_group(one):
            if id(one) not in known:
                known.add(id(one))
                todo.extend(reversed(members(one)))
        else:
            found.append(one)
    return found


def interrupt_in(error: BaseException) -> BaseException | None:
    """Returns the interrupt of the process by which code has ended. One that code has raised itself looks the same, so
    it counts too: a user's Ctrl-C must not be lost.
    """
    return next((leaf for leaf in leaves(error) if issubclass(type(leaf), KeyboardInterrupt)), None)


class ThreadLost(Exception):
    """Raise it from a thread's `run` or `flush` if the thread cannot be used any more: its turn, if it has one, fails,
    and the agent's next turn loads a new thread from the rollout. Outside of these, call `Thread.report_lost`.
    """
