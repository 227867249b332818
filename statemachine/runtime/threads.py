"""The work of agents, which users write (semantics.md section 4, threads report).

A plain async function does a turn and holds nothing between turns. A `Thread` has state in memory: it is built when its
agent is loaded, gets the rollout then, and is dropped when its agent is unloaded.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from itertools import pairwise
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, cast

from attrs import define

from statemachine.core.exact import shown, text
from statemachine.runtime.checks import reason_of
from statemachine.runtime.errors import InvalidWork, UnknownRole
from statemachine.runtime.rollout import Rollout
from statemachine.runtime.settings import DEFAULT_ROLE, AgentInfo
from statemachine.runtime.turn import Turn
from statemachine.stores.protocol import LogRecord

__all__ = ["Thread", "Work"]


@define(eq=False)
class Listener:
    """What a thread tells that it is lost. It is ours, so that it can be changed whatever the thread has become."""

    hear: Callable[[str], None]


class Thread:
    """An agent in memory. Subclass it, and give the class as work.

    All of these methods are called in one task, one after another, from the load to `close`, and each has context
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

    __listener: Listener | None = None
    """Hears that the thread is lost; None until it has been made."""

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

        It may be called anywhere: in another thread, by a finalizer, by the handler of a signal. It is heard before the
        next verb of the session. Raises `RuntimeError` in `__init__`: there, raise an error, and the load has failed.
        """
        if self.__listener is None:
            raise RuntimeError("the thread is still being made: raise an error in `__init__` instead")
        self.__listener.hear(reason_of(why))

    async def load(self, history: tuple[LogRecord, ...]) -> None:
        """Builds what is in memory from the rollout: the agent's mail, turns and entries, oldest first. If it raises,
        the turn that waits for it ends with an error (*cannot_start*).
        """

    async def load_from(self, rollout: Rollout) -> None:
        """Builds what is in memory, as `load` does, but reads only what it needs of a rollout that has grown long: a
        class has one of the two. By default, calls `load` with all of it; for a class that has neither, nothing is
        read::

            async def load_from(self, rollout):  # from the last summary on that a turn, or `flush`, has recorded
                self.recent = await rollout.since(lambda data: isinstance(data, dict) and "summary" in data)
        """
        if getattr(self.load, "__func__", None) is not Thread.load:
            await self.load(await rollout.whole())

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


def listen(thread: Thread, listener: Listener) -> None:
    """Has `report_lost` of the thread tell this one, also if the attributes of its class cannot be set."""
    object.__setattr__(thread, "_Thread__listener", listener)


Function = Callable[[Turn], Awaitable[Any]]


class FunctionThread(Thread):
    """A plain async function as work, with nothing to load or flush."""

    def __init__(self, agent: AgentInfo, function: Function) -> None:
        super().__init__(agent)
        self.run = function  # type: ignore[method-assign,assignment]


Work = Function | type[Thread]
"""The work of a role: an async function of a turn, or a class of threads."""


WRITE = (
    "write `async def work(turn)`, which calls what blocks with `await anyio.to_thread.run_sync(...)`, or a class "
    "derived from Thread"
)
FUNCTIONS = (FunctionType, MethodType, BuiltinFunctionType)
AWAITABLES = ("Awaitable", "Coroutine")
LAYERS_MAX = 100
"""Most functions around a function that are looked through: they could go in a circle."""


METHODS = {"run": ("turn",), "load": ("history",), "load_from": ("rollout",), "flush": (), "close": ()}
"""The methods of a class of threads that are awaited -> what they are called with."""
NEVER_AWAITED = {"None", "bool", "int", "float", "str", "bytes", "list", "tuple", "dict", "set"}
"""Annotations of what cannot be awaited."""
VALUES = ("LOAD_CONST", "LOAD_SMALL_INT", "RETURN_CONST", "BUILD_", "FORMAT_", "COMPARE_OP", "IS_OP", "CONTAINS_OP")
"""How the names of instructions begin that make what cannot be awaited."""
MAY_SET_RUN = ("__new__", "__init__", "load", "load_from")
"""Methods that are called before the first turn, and could give the object a `run` that its class does not have."""


def check_work(work: object, role: str | None = None) -> None:
    """Raises `InvalidWork` for what cannot be the work of an agent, or of those with this role. What only may be wrong
    is taken: a signature that cannot be read, or one of a decorator that takes anything.
    """
    kind = type(work)
    if issubclass(kind, type):
        if not issubclass(cast("type", work), Thread):
            raise InvalidWork(role, f"{shown(work)}, a class that is not derived from Thread; {WRITE}")
        problem = _problem_of_class(cast("type[Thread]", work))
        if problem is not None:
            raise InvalidWork(role, f"{shown(work)}, {problem}")
    elif issubclass(kind, Thread):
        raise InvalidWork(role, f"one object of {shown(kind)}; give the class, of which each agent gets an object")
    elif not callable(work):
        raise InvalidWork(role, f"{shown(work)}, which cannot be called; {WRITE}")
    elif _is_sync(work):
        raise InvalidWork(role, f"{shown(work)}, which is not an async function; {WRITE}")
    elif not _takes(work, 1):
        raise InvalidWork(role, f"{shown(work)}, which cannot be called with a turn and nothing else; {WRITE}")


def _problem_of_class(work: type[Thread]) -> str | None:
    """Returns what is surely wrong with a class of threads, and what to write instead; None: nothing that is seen."""
    if inspect.isabstract(work):
        return "which is abstract; give a class that has all methods"
    if not _is_own(work, "run") and not any(_is_own(work, name) for name in MAY_SET_RUN):
        return "which has no method `run`; write `async def run(self, turn)`"
    for name, given in METHODS.items():
        if not _is_own(work, name):
            continue
        method = inspect.getattr_static(work, name)
        write = f"write `async def {name}({', '.join(('self', *given))})`"
        function, bound = _function_of(method)
        if not isinstance(function, FunctionType):
            if not callable(function) and not hasattr(type(function), "__get__"):
                return f"of which `{name}` cannot be called; {write}"
            continue  # an object may do anything
        if inspect.isasyncgenfunction(function):
            return f"of which `{name}` is an async generator, because it has a `yield`; {write}, and return the result"
        if not _may_be_awaited(function):
            return f"of which `{name}` is not async; {write}"
        if not _takes(function, bound + len(given)):
            return f"of which `{name}` cannot be called with {' and '.join(given) or 'nothing else'}; {write}"
    if inspect.iscoroutinefunction(work.__init__):
        return "of which `__init__` is async; write `def __init__(self, agent)`, and await in `load`"
    if not _takes(work, 1):
        return "which cannot be made of an agent and nothing else; write `def __init__(self, agent)`"
    return None


def _is_own(work: type[Thread], name: str) -> bool:
    """Tells whether a class has an attribute that is not the one of `Thread`: its own, or that of a mixin."""
    return inspect.getattr_static(work, name) is not inspect.getattr_static(Thread, name)


def _function_of(method: Any) -> tuple[object, int]:
    """Returns the function of a method, as it stands in its class, and how many arguments it has got by being bound."""
    if issubclass(type(method), staticmethod | classmethod):
        return method.__func__, int(issubclass(type(method), classmethod))
    return method, 1


def _may_be_awaited(function: FunctionType) -> bool:
    """Tells whether what a method returns may be awaited: that of one that is not async, too, unless it says, or can be
    seen, that it never returns such a thing.
    """
    if inspect.iscoroutinefunction(function) or function.__code__.co_flags & inspect.CO_ITERABLE_COROUTINE:
        return True
    if inspect.isgeneratorfunction(function):
        return False
    try:
        if not hasattr(function, "__wrapped__") and "return" in function.__annotations__:  # a wrapper has another's
            said = function.__annotations__["return"]
            name = said if isinstance(said, str) else getattr(said, "__name__", str(said))
            return name.partition("[")[0] not in NEVER_AWAITED
        code = list(dis.get_instructions(function))
        returned = [
            line.opname if line.opname != "RETURN_VALUE" or line.is_jump_target else before.opname
            for before, line in pairwise(code)
            if line.opname.startswith("RETURN_") and line.opname != "RETURN_GENERATOR"
        ]
    except Exception:
        return True
    return not returned or not all(each.startswith(VALUES) for each in returned)


def _takes(work: Callable[..., object], number: int) -> bool:
    """Tells whether a callable may be called with so many arguments: also if its signature cannot be read, and if it
    has one that it was given, and that may be another one's. What a decorator takes is what counts, not what is taken
    by the function below it.
    """
    try:
        if hasattr(work, "__signature__"):
            return True
        signature = inspect.signature(work, follow_wrapped=False)
    except Exception:
        return True
    try:
        signature.bind(*range(number))
    except TypeError:
        return False
    return True


def _is_sync(work: object) -> bool:
    """Tells whether nothing in a callable is async: neither it, nor a function that it decorates or completes. Of an
    object whose call is not written in Python, and of what raises when it is looked at, the first turn tells.
    """
    try:
        for _ in range(LAYERS_MAX):
            if isinstance(work, type):
                return True  # what it makes is not awaited
            call = work if isinstance(work, FUNCTIONS) else type(work).__call__
            flags = getattr(getattr(call, "__code__", None), "co_flags", 0)
            if any(map(inspect.iscoroutinefunction, (work, call))) or flags & inspect.CO_ITERABLE_COROUTINE:
                return False
            if _says_awaitable(call):
                return False
            below = work.func if isinstance(work, partial) else getattr(work, "__wrapped__", None)
            if below is None:
                return isinstance(call, FUNCTIONS)
            work = below
    except Exception:
        return False
    return True


def _says_awaitable(call: object) -> bool:
    """Tells whether a function is annotated as one that returns what is awaited, such as `Coroutine[Any, Any, str]`."""
    returned = str(getattr(call, "__annotations__", {}).get("return", ""))
    return returned.partition("[")[0].rpartition(".")[2] in AWAITABLES


class Roles:
    """Role -> work. A single work is that of the role "default", which the root has and who is spawned without one."""

    def __init__(self, work: Work | Mapping[str, Work]) -> None:
        """Raises `InvalidWork`."""
        self.work: dict[str, Work] = {}
        if not isinstance(work, Mapping):
            check_work(work)
            self.work[DEFAULT_ROLE] = work
            return
        for role, one in cast("Mapping[object, Work]", work).items():
            name = text(role)
            if name is None:
                raise InvalidWork(None, f"a mapping with {shown(role)} for a role, which is not a text; name the role")
            check_work(one, name)
            self.work[name] = one
        if DEFAULT_ROLE not in self.work:
            raise InvalidWork(
                None,
                f"a mapping without the role {DEFAULT_ROLE!r}, which the root has, and all agents that are spawned "
                "without a role; give it work too",
            )

    def of(self, role: str) -> Work:
        """Returns the work of a role. Raises `UnknownRole`."""
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
