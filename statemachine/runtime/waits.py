"""Keeps the waits of a turn's code, and the turn's end, which ends them all (semantics.md section 4, wait)."""

from __future__ import annotations

import anyio
from attrs import define, field

from statemachine.core import effects as fx
from statemachine.core import events as ev
from statemachine.core.machines import TurnState
from statemachine.core.refusals import NotRunning
from statemachine.runtime.engine import Engine

RUNNING = TurnState.RUNNING


@define(eq=False)
class Waiter:
    """One wait of a turn's code, and why it ended."""

    over: anyio.Event = field(factory=anyio.Event)
    end: fx.WaitEnd | None = None


class Waits:
    """What the runtime knows of one turn's code: whether the turn lasts, and its waits."""

    def __init__(self, engine: Engine, agent: int, turn: int) -> None:
        self._engine = engine
        self._session = engine.session
        self._agent = agent
        self._turn = turn
        self.is_over = False
        """Whether the turn has ended, even if its code still runs."""
        self._waiters: list[Waiter] = []
        """Waits under way; more than one only if the wakes of the others are pending."""

    def check(self) -> None:
        """Raises `NotRunning` once the turn has ended, even if its code was not told yet."""
        known = self._session.agents[self._agent]
        if self.is_over or known.turn != self._turn or known.status < RUNNING:
            raise self._ended()

    def _ended(self) -> Exception:
        if self._engine.error is not None:
            return self._engine.ended_by()
        return NotRunning(self._agent, self._turn, self._session.agents[self._agent].path)

    def end(self) -> None:
        """Marks the turn as ended, and ends its waits."""
        self.is_over = True
        for waiter in self._waiters:
            waiter.over.set()
        self._waiters.clear()

    async def wait(self, timeout: float, targets: tuple[int, ...]) -> fx.WaitEnd:
        """Waits until the core ends the wait. Raises the refusal, or `NotRunning` if the turn ends before."""
        reply = self._engine.apply(ev.Wait(self._agent, self._turn, timeout, targets))
        if not isinstance(reply, fx.Waiting):
            return (await self._engine.answered(reply, fx.WaitOver)).end
        waiter = Waiter()
        self._waiters.append(waiter)
        try:
            await waiter.over.wait()
        except BaseException:
            self._give_up(waiter)
            raise
        if waiter.end is None:
            raise self._ended()
        return waiter.end

    def _give_up(self, waiter: Waiter) -> None:
        """Gives up a wait whose caller was cancelled. If the core has ended that wait, its wake is pending and has to
        find it in line, because the next one in line may be another wait of this turn.
        """
        waiting = self._session.waits.get(self._agent)
        is_last = bool(self._waiters) and self._waiters[-1] is waiter
        if is_last and waiting is not None and waiting.turn == self._turn:
            self._waiters.pop()
            self._engine.apply_at_once(ev.StopWaiting(self._agent, self._turn))

    def wake(self, end: fx.WaitEnd) -> None:
        """Ends the first wait in line, because the core has ended it."""
        if self._waiters:
            waiter = self._waiters.pop(0)
            waiter.end = end
            waiter.over.set()
