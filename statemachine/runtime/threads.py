"""The work of agents, which users write (semantics.md section 4, threads report).

A plain async function does a turn and holds nothing between turns. A `Thread` has state in memory: it is built when its
agent is loaded, gets the rollout then, and is dropped when its agent is unloaded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from statemachine.core.exact import shown, text
from statemachine.runtime.checks import reason_of
from statemachine.runtime.errors import UnknownRole
from statemachine.runtime.settings import AgentInfo
from statemachine.runtime.turn import Turn
from statemachine.stores.protocol import LogRecord

__all__ = ["Thread", "Work"]


class Thread:
    """An agent in memory. Subclass it, and give the class as work.

    All of these methods are called in one task, one after another, from `load` to `close`, and each has context
    variables of its own. A time-out, cancel scope or task group has to be left by the call that entered it.

    Each may be cancelled at any await: `load` after `load_timeout`, `run` by an interrupt, `flush` because a turn
    begins or after `flush_timeout`. Code that ignores cancellation for longer than its bound is abandoned: the agent
    goes on without it, and every later call of the API by the abandoned code is refused. It still counts: while more
    than `max_abandoned` threads are left behind (`AgentControl.open`), loads and turns wait.

    No process can do more than ask. Code that blocks the event loop (a long computation, `time.sleep`, a call that
    waits for a disk or a socket) stops all agents and every clock, so no bound ends it: put it into a thread with
    `anyio.to_thread.run_sync`. Code that swallows its cancellation for ever keeps the block of the session from being
    left, because a task group waits for its tasks.
    """

    _tell: Callable[[str], None] | None = None
    """Tells the runtime that the thread is lost; None until it has been made."""

    def __init__(self, agent: AgentInfo) -> None:
        self.agent = agent

    def report_lost(self, why: str | BaseException) -> None:
        """Says, at any time from `load` on, that the thread cannot be used any more: its process has died, say, or its
        connection is closed. Also while the agent is idle; then nothing is loaded before its next turn needs a thread.

        The thread is dropped and closed, and the agent's next turn loads a new one. A turn under way ends as by
        `ThreadLost`. Of a thread that is dropped already, nothing happens.

            async def watch(self, process):  # in a task that the host, or the thread, has started
                await process.wait()
                self.report_lost("the process has ended")

        Call it where the event loop runs; in another thread, as `anyio.from_thread.run_sync(thread.report_lost, why)`.
        Raises `RuntimeError` elsewhere, and in `__init__`: there, raise an error, and the load has failed.
        """
        if self._tell is None:
            raise RuntimeError("the thread is still being made: raise an error in `__init__` instead")
        self._tell(reason_of(why))

    async def load(self, history: tuple[LogRecord, ...]) -> None:
        """Builds what is in memory from the rollout: the agent's mail, turns and entries, oldest first. If it raises,
        the turn that waits for it ends with an error (*cannot_start*).
        """

    async def run(self, turn: Turn) -> Any:
        """Does one turn. Returns its result, any JSON value; an exception of any class becomes its error, `SystemExit`
        too. Only `KeyboardInterrupt` leaves the session's block. Raise `ThreadLost` to be rebuilt; between turns, call
        `report_lost`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method `run`")

    async def flush(self) -> Any:
        """Returns what the thread has to pass on before it is unloaded, any JSON value, which becomes an entry of the
        rollout; None for nothing. If it raises, the agent stays in memory (N3).
        """
        return None

    async def close(self) -> None:
        """Releases what the thread holds; until it has ended, its residency slot is taken. Called once, however the
        thread ended, unless code of it that ignores its cancellation still runs after `stop_grace`. Its errors
        are only logged.
        """


def listen(thread: Thread, tell: Callable[[str], None]) -> None:
    """Has `report_lost` of the thread call this."""
    thread._tell = tell  # pyright: ignore[reportPrivateUsage]


Function = Callable[[Turn], Awaitable[Any]]


class FunctionThread(Thread):
    """A plain async function as work, with nothing to load or flush."""

    def __init__(self, agent: AgentInfo, function: Function) -> None:
        super().__init__(agent)
        self.run = function  # type: ignore[method-assign,assignment]


Work = Function | type[Thread]
"""The work of a role: an async function of a turn, or a class of threads."""


def check_work(work: object) -> None:
    """Raises `TypeError` for what cannot be the work of an agent."""
    is_foreign = issubclass(type(work), type) and not issubclass(cast("type", work), Thread)
    if is_foreign or not callable(work):
        raise TypeError(f"the work of an agent is an async function or a class derived from Thread, not {shown(work)}")


class Roles:
    """Role -> work. A single work is used for every role."""

    def __init__(self, work: Work | Mapping[str, Work]) -> None:
        self.only: Work | None = None
        self.work: dict[str, Work] = {}
        if isinstance(work, Mapping):
            for role, one in cast("Mapping[object, Work]", work).items():
                name = text(role)
                if name is None:
                    raise TypeError(f"a role is a text, not {shown(role)}")
                check_work(one)
                self.work[name] = one
        else:
            check_work(work)
            self.only = work

    def of(self, role: str) -> Work:
        """Returns the work of a role. Raises `UnknownRole`."""
        if self.only is not None:
            return self.only
        if role not in self.work:
            raise UnknownRole(role, tuple(sorted(self.work)))
        return self.work[role]

    def build(self, info: AgentInfo) -> Thread:
        """Returns a new thread for the agent. Raises `UnknownRole`, and what the constructor raises."""
        work = self.of(info.role)
        if not isinstance(work, type):
            return FunctionThread(info, work)
        thread: object = work(info)
        if not isinstance(thread, Thread):
            raise TypeError(f"a class of threads makes a Thread, not {type(thread).__name__}")
        return thread
