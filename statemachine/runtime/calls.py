"""The calls of a thread's code: load, run a turn, flush. Each ends with one report to the core."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextvars import Context
from typing import Any

from attrs import define, field

from statemachine.core import events as ev
from statemachine.core.records import Cause
from statemachine.runtime.checks import result_of
from statemachine.runtime.engine import Engine
from statemachine.runtime.rollout import Rollout
from statemachine.runtime.settings import AgentInfo, json_value
from statemachine.runtime.tasks import TaskScope, own_context
from statemachine.runtime.threads import Thread
from statemachine.runtime.turn import Turn
from statemachine.runtime.waits import TURN, Waits
from statemachine.stores.protocol import Entry


@define(eq=False)
class InMemory:
    """A thread in memory, and the load of its agent that it belongs to."""

    agent: int
    generation: int
    info: AgentInfo
    thread: Thread
    loaded: bool
    """Whether it has seen its rollout."""


@define(eq=False)
class Call(ABC):
    """One call, in line or under way."""

    live: InMemory
    engine: Engine
    is_cancelled: bool = field(default=False, init=False)
    """Whether it was asked to stop."""
    traceback: str | None = field(default=None, init=False)
    """Where its code raised, if it did."""

    @abstractmethod
    async def make(self) -> ev.Report:
        """Makes the call and returns the report of it. Raises what the thread's code raises."""

    @abstractmethod
    def failed(self, error: str) -> ev.Report:
        """Returns the report of a call that raised."""

    def cancelled(self) -> ev.Report:
        """Returns the report of a call that stopped when asked to."""
        return self.failed("cancelled")

    async def load_thread(self) -> None:
        """Loads the thread from its rollout. All that led to this load is durable, so no commit of it is pending."""
        rollout = Rollout(self.engine.store, self.live.agent)
        try:
            await self.live.thread.load_from(rollout)
        finally:
            rollout.end()
        self.live.loaded = True


@define(eq=False)
class LoadCall(Call):
    """Loads a thread."""

    async def make(self) -> ev.Report:
        await self.load_thread()
        return ev.Loaded(self.live.agent, self.live.generation)

    def failed(self, error: str) -> ev.Report:
        return ev.LoadFailed(self.live.agent, self.live.generation, error)


@define(eq=False)
class TurnCall(Call):
    """Runs a turn. The root has no load effect, so its first turn loads it."""

    turn: Turn
    waits: Waits
    context: Context
    """Has the context variables for a load, which is a call of its own: what it sets does not reach the turn."""
    scope: Callable[[Any], TaskScope]
    """Returns the scope of a load of this thread."""

    async def make(self) -> ev.Report:
        TURN.set(self.waits)
        live, number = self.live, self.waits.turn
        if not live.loaded:
            load_timeout = self.engine.session.config.load_timeout
            with self.scope(live) as scope, self.engine.within(load_timeout, scope.cancel):
                await own_context(self.load_thread(), self.context.copy(), scope.survived)
            if not live.loaded:
                words = f"load failed: no answer for {load_timeout} s"
                return ev.Failed(live.agent, number, words, Cause.LOAD_TIMED_OUT)
        result = result_of(await live.thread.run(self.turn))
        return ev.Finished(live.agent, number, result)

    def failed(self, error: str) -> ev.Report:
        cause = Cause.FAILED if self.live.loaded else Cause.LOAD_FAILED
        return ev.Failed(self.live.agent, self.waits.turn, error, cause)

    def cancelled(self) -> ev.Report:
        return ev.Aborted(self.live.agent, self.waits.turn)


@define(eq=False)
class FlushCall(Call):
    """Flushes a rollout. What the thread returns becomes an entry, unless the flush is cancelled."""

    flush: int

    async def make(self) -> ev.Report:
        live = self.live
        data = await live.thread.flush()
        if data is not None and not self.is_cancelled:
            turn = self.engine.session.agents[live.agent].turn
            self.engine.record(Entry(live.agent, turn, json_value(data)))
        return ev.Flushed(live.agent, live.generation, self.flush)

    def failed(self, error: str) -> ev.Report:
        return ev.FlushFailed(self.live.agent, self.live.generation, self.flush, error)
