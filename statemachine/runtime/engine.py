"""Runs one session on its store and its clock (semantics.md section 5, effects and order).

Every event goes through `apply`, which hands it to the core at once and puts the step in line. The committer takes
all steps in line, makes them durable in one transaction, then releases the replies, then has the effects carried out:
what arrives during one commit goes into the next one (group commit). Nothing is awaited between an event and its place
in the line, so a caller that is cancelled leaves nothing half done.

Records are told the time of the wall clock when they are committed; the core is told that of the event loop.

If a write fails the session fails (section 5): every waiting caller gets `StoreFailed`, no more effects are carried
out, and the log says what is true.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

import anyio
from attrs import define, field

from statemachine.core import exact
from statemachine.core.effects import Effect, Refused, Reply, Stale, Step
from statemachine.core.events import Event, Tick, WriteFailed
from statemachine.core.machines import SessionState
from statemachine.core.records import AgentsForgotten, MailAccepted, MailDemoted, TurnEnded
from statemachine.core.refusals import SessionClosed, StoreFailed
from statemachine.core.session import Session
from statemachine.eventloops import Signal, clock, signals
from statemachine.log.snapshot import facts_of, touched
from statemachine.log.times import Times, stamp
from statemachine.runtime.errors import words
from statemachine.runtime.tracing import TraceFile
from statemachine.stores.protocol import Entry, LogRecord, Receipt, Snapshot, Store, Write

R = TypeVar("R")
log = logging.getLogger("statemachine")

NO_TIME = "the clock that the session was opened with fails (%s): records have no times while it does"

TICK_SECONDS = 0.002
"""Shortest time between two ticks of the core, so a bound may end this much early."""
DEMOTING = (TurnEnded, MailDemoted)
"""Records after which unread mail is perhaps queue-only."""
SNAPSHOT_RECORDS = 4_000
"""Records behind the last snapshot at which a commit includes a new one: the most that opening has to fold, and that
another process has to search to read a rollout.
"""


@define(eq=False)
class Batch:
    """What one commit makes durable, all or nothing."""

    settled: Signal
    """Set when the commit has succeeded or failed."""
    records: list[LogRecord] = field(factory=list[LogRecord])
    receipts: list[Receipt] = field(factory=list[Receipt])
    events: list[Step | Entry] = field(factory=list[Step | Entry])
    """What happened, in the order of its records."""
    traced: list[bytes] = field(factory=list[bytes])
    """The lines of its events, if there is a trace."""
    is_durable: bool = False


@define(eq=False)
class Counts:
    """Counts since the session was opened."""

    commits: int = 0
    records: int = 0
    refusals: Counter[str] = field(factory=Counter[str])
    """Refusals by cause."""


class Engine:
    """Runs one session. Calls `carry_out` with every effect, once its step is durable; it must not block."""

    def __init__(
        self,
        session: Session,
        store: Store,
        carry_out: Callable[[Effect], None],
        publish: Callable[[Sequence[Step | Entry]], None],
        trace: TraceFile | None = None,
        times: Times | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.session = session
        self.store = store
        self.carry_out = carry_out
        self.publish = publish
        self.trace = trace
        self.times = Times() if times is None else times
        """When what was committed happened."""
        self._wall_clock = wall_clock
        self._clock_has_failed = False
        self.counts = Counts()
        self.error: BaseException | None = None
        """Why the store, or the core, failed."""
        self._is_over = False
        """Whether committing has ended."""
        self.signal: Callable[[], Signal] = signals()
        self.cancelled = anyio.get_cancelled_exc_class()
        self._batch = Batch(self.signal())
        self._committing: Batch | None = None
        self._work: Signal = self.signal()
        self._since_snapshot = 0
        """Records behind the last snapshot."""
        self._changed: set[int] = set()
        """Agents whose facts have changed since the last snapshot."""
        self._clock = clock()
        self._origin = self._clock()
        self._alarm = math.inf
        """When the core gets its next tick."""
        self._alarm_moved = self.signal()

    # Events

    def now(self) -> float:
        """Returns the seconds since the session was opened, the only clock of the core."""
        return self._clock() - self._origin

    def apply(self, event: Event, receipt: Callable[[Reply], Receipt] | None = None) -> Reply:
        """Applies one event and returns its reply. Its step is in line; `settled` waits until it is durable.

        `receipt` makes the idempotency receipt from the reply, if the event is accepted.
        """
        session = self.session
        if self._is_over and session.state < SessionState.CLOSED:
            return Refused(SessionClosed())  # it was left as a crash would leave it
        now = self.now()
        if now >= session.now + TICK_SECONDS and session.state < SessionState.CLOSED:
            self._take(Tick(now), None)
        return self._take(event, receipt)

    def apply_at_once(self, event: Event) -> Reply:
        """Applies one event without a tick before it, so that nothing else happens first."""
        return self._take(event, None)

    def _take(self, event: Event, receipt: Callable[[Reply], Receipt] | None) -> Reply:
        try:
            step = self.session.handle(event)
        except BaseException as error:  # a defect of the core: nothing of this step is true
            self.fail(error)
            raise
        if self.trace is not None:
            self.trace.add(event)
        reply = step.reply
        kind = reply.__class__
        if kind is Refused:
            self.counts.refusals[type(reply.refusal).__name__] += 1  # type: ignore[union-attr]  # pyright: ignore
        elif kind is not Stale and (step.records or step.effects or receipt):
            self.put(step, None if receipt is None else receipt(reply))
        deadline = self.session.deadlines.next()
        if deadline is not None and deadline < self._alarm:
            self._alarm_moved.set()
        return reply

    def put(self, step: Step, receipt: Receipt | None = None) -> None:
        """Puts the step in line for the next commit."""
        batch = self._batch
        batch.records += step.records
        if receipt is not None:
            batch.receipts.append(receipt)
        batch.events.append(step)
        self._work.set()

    def record(self, entry: Entry) -> None:
        """Puts an entry of a rollout in line for the next commit."""
        self._batch.records.append(entry)
        self._batch.events.append(entry)
        self._work.set()

    async def settled(self) -> None:
        """Waits until everything applied so far is durable. Raises `StoreFailed` if it never will be, or
        `SessionClosed` if the session was left before.
        """
        batch = self._batch if self._batch.events else self._committing
        if batch is not None:
            await batch.settled.wait()
            if batch.is_durable:
                return
        else:
            await anyio.lowlevel.checkpoint()  # a caller that asks repeatedly lets other tasks run
        if self.error is not None or batch is not None:
            raise self.ended_by()

    def ended_by(self) -> Exception:
        """Returns why nothing more is made durable: the session has failed, or was shut down or left."""
        if self.error is None:
            return SessionClosed()
        refusal = StoreFailed(words(self.error))
        refusal.__cause__ = self.error
        return refusal

    # Asking

    async def ask(self, event: Event, kind: type[R]) -> R:
        """Applies one event and returns its reply once that is durable. Raises the refusal if it is refused."""
        return await self.answered(self.apply(event), kind)

    async def answered(self, reply: Reply, kind: type[R]) -> R:
        """Returns the reply once it is durable. Raises it if it is a refusal."""
        await self.settled()
        if isinstance(reply, Refused):
            raise reply.refusal
        assert isinstance(reply, kind)
        return reply

    # Tasks

    async def commit_for_ever(self) -> None:
        """Makes durable what is in line, batch by batch, until the session has failed or is left. A commit that has
        begun runs to its end, so that callers waiting for it learn its outcome.
        """
        with anyio.CancelScope(shield=True):
            while not self._is_over:
                await self._work.wait()
                if not self._is_over:
                    await self._commit()

    async def _commit(self) -> None:
        self._work = self.signal()
        batch, self._batch = self._batch, Batch(self.signal())
        if not batch.events:
            return
        self._committing = batch
        self._stamp(batch.records)
        items = self._items(batch)
        if self.trace is not None:
            batch.traced = self.trace.take()
        if items:
            try:
                await self.store.append(items)
            except BaseException as error:
                self.fail(error)
                if isinstance(error, Exception):
                    return
                raise
            self.counts.commits += 1
        self._committing = None
        batch.is_durable = True
        batch.settled.set()
        if self.trace is not None:
            self.trace.write(batch.traced)
        self.publish(batch.events)
        if not self._is_over:  # otherwise the threads are gone
            for event in batch.events:
                if isinstance(event, Step):
                    for effect in event.effects:
                        self.carry_out(effect)

    def _stamp(self, records: Sequence[LogRecord]) -> None:
        """The records are committed now. Mail that was demoted since it was accepted is another object than its record,
        and is told too.
        """
        at = self._told_time()
        if at is None:
            return
        stamp(records, at)
        agents = self.session.agents
        ended = [record.outcome.agent for record in records if isinstance(record, DEMOTING)]
        unknown = [mail for agent in ended for mail in agents[agent].mailbox if mail.at is None]
        if unknown:
            accepted = {record.mail for record in records if isinstance(record, MailAccepted)}
            stamp([mail for mail in unknown if mail.mail in accepted], at)

    def _told_time(self) -> float | None:
        """Returns what the clock of the host says, or None: records without a time harm less than a session that ends
        by its clock.
        """
        try:
            at = exact.number(self._wall_clock())
            if at is not None and math.isfinite(at):
                return float(at)
            problem = f"it tells {exact.shown(at)}"
        except Exception as error:
            problem = words(error)
        if not self._clock_has_failed:
            self._clock_has_failed = True
            log.warning(NO_TIME, problem)
        return None

    def _items(self, batch: Batch) -> Sequence[Write | Snapshot]:
        """Returns what to append, with a snapshot if one is due. The session is in its state after the batch."""
        session = self.session
        records = batch.records
        items: list[Write | Snapshot] = [Write((), receipt) for receipt in batch.receipts]
        if records:
            items.append(Write(tuple(records)))
        self.counts.records += len(records)
        self.times.note(records)
        self._changed |= touched(records, session.ledger)
        self._since_snapshot += len(records)
        if self._since_snapshot >= SNAPSHOT_RECORDS or AgentsForgotten in map(type, records):
            facts = tuple(
                [
                    facts_of(session.ledger, session.agents[agent], self.times.of(agent))
                    for agent in sorted(self._changed)
                ]
            )
            self._changed.clear()
            self._since_snapshot = 0
            items.append(Snapshot(facts, tuple(session.ledger.mail_states)))
        return items

    def fail(self, error: BaseException) -> None:
        """Fails the session because the store or the core has failed."""
        self.error = error
        event = WriteFailed(words(error))
        self.session.handle(event)
        if self.trace is not None:
            self.trace.add(event)
        self.abandon()

    def abandon(self) -> None:
        """Ends committing after what is being written now. Callers that wait for more, or ask later, are told so."""
        self._is_over = True
        if self.trace is not None:  # all events that the session has seen, durable or not
            for lines in ([] if self._committing is None else self._committing.traced, self.trace.take()):
                self.trace.write(lines)
                lines.clear()
        self._batch.settled.set()
        if self.error is not None and self._committing is not None:
            self._committing.settled.set()
        self._work.set()

    async def keep_time(self) -> None:
        """Gives the core a tick whenever something is due (L5)."""
        while True:
            self._alarm_moved = self.signal()
            deadline = self.session.deadlines.next()
            self._alarm = math.inf if deadline is None else deadline
            with anyio.CancelScope(deadline=self._origin + self._alarm):
                await self._alarm_moved.wait()
                continue
            if self.session.state >= SessionState.CLOSED:
                return
            self._take(Tick(max(self.now(), self._alarm)), None)
