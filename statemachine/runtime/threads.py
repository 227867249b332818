"""The work of agents, which users write (semantics.md section 4, threads report).

A plain async function does a turn and holds nothing between turns. A `Thread` has state in memory: it is built when its
agent is loaded, gets the rollout then, and is dropped when its agent is unloaded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from statemachine.core.exact import shown, text
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
    goes on without it, and every later call of the API by the abandoned code is refused.

    No process can do more than ask. Code that blocks the event loop (a long computation, `time.sleep`, a call that
    waits for a disk or a socket) stops all agents and every clock, so no bound ends it: put it into a thread with
    `anyio.to_thread.run_sync`. Code that swallows its cancellation for ever keeps the block of the session from being
    left, because a task group waits for its tasks.
    """

    def __init__(self, agent: AgentInfo) -> None:
        self.agent = agent

    async def load(self, history: tuple[LogRecord, ...]) -> None:
        """Builds what is in memory from the rollout: the agent's mail, turns and entries, oldest first. If it raises,
        the turn that waits for it ends with an error (*cannot_start*).
        """

    async def run(self, turn: Turn) -> Any:
        """Does one turn. Returns its result, any JSON value; an exception becomes its error. Raise `ThreadLost` to be
        rebuilt.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method `run`")

    async def flush(self) -> Any:
        """Returns what the thread has to pass on before it is unloaded, any JSON value, which becomes an entry of the
        rollout; None for nothing. If it raises, the agent stays in memory (N3).
        """
        return None

    async def close(self) -> None:
        """Releases what the thread holds. Called once, however the thread ended, unless code of it that ignores its
        cancellation still runs after `stop_grace`. Its errors are only logged.
        """


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
    is_foreign = isinstance(work, type) and not issubclass(work, Thread)
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
