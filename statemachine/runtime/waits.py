"""Keeps the waits of a turn's code, and tells the core of them (semantics.md section 7).

The core lends the slot of a turn that waits, so code may go on after a wait only when its turn has a slot again,
however the wait ended. If the core ends it, the `Wake` comes with the slot. If the code gives it up, because a time-out
or a task group of its own cancelled it, the cancellation is held back here until the slot is there. A turn that is
stopped needs no slot to go on.

`TURN` says in which turn's code a task runs, so that `Handle.outcome` awaited there is a wait of that turn. Tasks that
the code starts inherit it, as all context variables.
"""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from types import TracebackType
from typing import NoReturn

import anyio
from attrs import define

from statemachine.core import effects as fx
from statemachine.core import events as ev
from statemachine.core.events import WaitMode
from statemachine.core.exact import whole
from statemachine.core.machines import TurnState
from statemachine.core.refusals import NotRunning, SessionDraining
from statemachine.core.session import Session
from statemachine.eventloops import Signal
from statemachine.runtime.engine import Engine
from statemachine.runtime.errors import Stalled, gives_way
from statemachine.runtime.stack import check_stack

__all__ = ["Lending"]

RUNNING = TurnState.RUNNING
WITHOUT_SLOT = (TurnState.WAITING, TurnState.RETURNING)


@define(eq=False)
class Waiter:
    """One wait of a turn's code, and why it ended."""

    over: Signal
    end: fx.WaitEnd | None = None


class Waits:
    """What the runtime knows of one turn's code: whether the turn lasts, and its waits."""

    __slots__ = ("_engine", "_session", "_waiters", "agent", "is_over", "turn")

    def __init__(self, engine: Engine, agent: int, turn: int) -> None:
        self._engine = engine
        self._session = engine.session
        self.agent = agent
        self.turn = turn
        self.is_over = False
        """Whether the turn has ended, even if its code still runs."""
        self._waiters: dict[int, Waiter] = {}
        """Number of a wait -> the code that waits."""

    # The turn

    def check(self) -> None:
        """Raises `NotRunning` once the turn has ended, even if its code was not told yet."""
        known = self._session.agents[self.agent]
        if self.is_over or known.turn != self.turn or known.status < RUNNING:
            raise self._ended()

    def _ended(self) -> Exception:
        if self._engine.error is not None:
            return self._engine.ended_by()
        return NotRunning(self.agent, self.turn, self._session.agents[self.agent].path)

    def is_ended_by(self, error: BaseException) -> bool:
        """Tells whether this is the refusal of a verb because this turn does not run any more."""
        return type(error) is NotRunning and (whole(error.agent), whole(error.turn)) == (self.agent, self.turn)

    def end(self) -> None:
        """Marks the turn as ended, and ends its waits."""
        self.is_over = True
        if self._waiters:
            for waiter in self._waiters.values():
                waiter.over.set()
            self._waiters.clear()

    def lasts_in(self, session: Session) -> bool:
        """Tells whether this is a turn of that session, and has not ended."""
        return self._session is session and not self.is_over

    # Waits

    async def wait(
        self,
        timeout: float | None,
        targets: tuple[int, ...] = (),
        requests: tuple[int, ...] = (),
        mode: WaitMode = WaitMode.ANY,
        mail: bool = False,
    ) -> fx.WaitEnd:
        """Waits until the core ends the wait; see `Wait`. Raises the refusal, or `NotRunning` if the turn is over."""
        reply = self._engine.apply(ev.Wait(self.agent, self.turn, timeout, targets, requests, mode, mail))
        if not isinstance(reply, fx.Waiting):
            return (await self._engine.answered(reply, fx.WaitOver)).end
        waiter = self._begin(reply.wait)
        try:
            await waiter.over.wait()
        except self._engine.cancelled:
            await self.give_up(reply.wait)
            raise
        except BaseException:
            self.abandon(reply.wait)
            raise
        if waiter.end is None:
            raise self._ended()
        return waiter.end

    async def until_answered(self, requests: tuple[int, ...], mode: WaitMode) -> None:
        """Waits until one of these requests is answered, or all of them, and reads their notices. Raises `WaitCircle`,
        `Stalled`, `SessionDraining` if their agents' turns do not start any more, and `NotRunning`.
        """
        if not self._concerns(requests):
            return
        end = await self.wait(None, (), requests, mode)
        if end is fx.WaitEnd.ANSWERED:
            return
        if end is fx.WaitEnd.DRAINING:
            raise SessionDraining
        if end is fx.WaitEnd.STALLED:
            known, config = self._session.agents[self.agent], self._session.config
            raise Stalled(self.agent, known.path, config.max_resident)
        await self._stop()

    def _concerns(self, requests: tuple[int, ...]) -> bool:
        """Tells whether the core has anything to say of these requests: no answer yet, or a notice that is unread."""
        if any(request in self._session.ledger.requests for request in requests):
            return True
        mailbox = self._session.agents[self.agent].mailbox
        return any(request in mail.answers for mail in mailbox if mail.answers for request in requests)

    async def _stop(self) -> NoReturn:
        """The turn was asked to stop, and its code is cancelled here; code that is shielded from that gets an error."""
        await anyio.lowlevel.checkpoint()
        raise self._ended()

    def lend(self) -> Lending:
        """Returns the block in which the turn needs no slot."""
        return Lending(self)

    async def begin_lending(self) -> int:
        """Begins a wait that the code itself ends. Returns its number."""
        reply = self._engine.apply(ev.Wait(self.agent, self.turn, None, mail=False))
        if isinstance(reply, fx.Waiting):
            self._begin(reply.wait)
            return reply.wait
        return (await self._engine.answered(reply, fx.Waiting)).wait  # it is a refusal, and is raised

    async def give_up(self, number: int) -> None:
        """Ends a wait from the side of the code, which goes on as soon as its turn has a slot."""
        waiter = self._waiters.get(number)
        self._stop_waiting(number)
        if waiter is None or not self._lacks_slot():
            return
        self._waiters[number] = waiter  # its wake comes with the slot
        held_back: BaseException | None = None
        while not self.is_over and waiter.end is None:
            try:
                with anyio.CancelScope(shield=True):
                    await waiter.over.wait()
            except self._engine.cancelled as error:  # by means of asyncio itself, which no shield stops
                held_back = error
        self._waiters.pop(number, None)
        if held_back is not None:
            raise held_back

    def abandon(self, number: int) -> None:
        """Ends a wait whose code is closed, so that it cannot await a slot."""
        with contextlib.suppress(RuntimeError):  # if the event loop is closed, the turn has gone with it
            self._stop_waiting(number)

    def _begin(self, number: int) -> Waiter:
        waiter = self._waiters[number] = Waiter(self._engine.signal())
        return waiter

    def _stop_waiting(self, number: int) -> None:
        waiter = self._waiters.pop(number, None)
        if waiter is not None and waiter.end is None and not self.is_over:
            self._engine.apply_at_once(ev.StopWaiting(self.agent, self.turn, number))

    def _lacks_slot(self) -> bool:
        known = self._session.agents[self.agent]
        return known.turn == self.turn and known.status in WITHOUT_SLOT

    def wake(self, number: int, end: fx.WaitEnd) -> None:
        """Ends the wait with this number, if its code still waits, for the reason that the core gave."""
        waiter = self._waiters.pop(number, None)
        if waiter is not None:
            waiter.end = end
            waiter.over.set()


class Lending:
    """A block in which a turn needs no slot: others may use it meanwhile. The block is left with a slot."""

    def __init__(self, waits: Waits) -> None:
        self._waits = waits
        self._numbers: list[int] = []
        """Waits that it is: it may be entered again before it is left, as any block that has no result."""

    @gives_way
    async def __aenter__(self) -> None:
        self._waits.check()
        self._numbers.append(await self._waits.begin_lending())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not isinstance(error, GeneratorExit):
            check_stack()  # it may be left deeper than it was entered
        if not self._numbers:
            return  # it was left before, by hand
        if isinstance(error, GeneratorExit):
            self._waits.abandon(self._numbers.pop())
        else:
            await self._waits.give_up(self._numbers.pop())


TURN: ContextVar[Waits | None] = ContextVar("statemachine.turn", default=None)
"""The turn in whose code a task runs."""
