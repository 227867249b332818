"""Runs one session on its store and its clock (semantics.md section 5, effects and order).

Every event goes through `apply`, which hands it to the core at once and puts the step in line. The committer takes
all steps in line, makes them durable in one transaction, then releases the replies, then has the effects carried out:
what arrives during one commit goes into the next one (group commit). Nothing is awaited between an event and its place
in the line, so a caller that is cancelled leaves nothing half done.

Records are told the time of the wall clock when they are committed; the core is told run time (`pauses.py`): that of
the event loop, less the time in which it could not run. While a commit takes long, it stands still as well, because
nothing that the core decides then could be carried out.

If a write fails the session fails (section 5): every waiting caller gets `StoreFailed`, no more effects are carried
out, and the log says what is true.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import anyio
from attrs import define, field

from statemachine.core import exact
from statemachine.core.effects import Effect, Refused, Reply, Stale, Step
from statemachine.core.events import Event, Tick, WriteFailed
from statemachine.core.machines import SessionState
from statemachine.core.records import AgentsForgotten, LoadBegun, LoadEnded, MailAccepted, TurnEnded
from statemachine.core.refusals import SessionClosed, StoreFailed
from statemachine.core.session import Session
from statemachine.eventloops import Bell, Signal, bells, calls_soon, clock, running, signals
from statemachine.log.snapshot import facts_of, touched
from statemachine.log.times import Times, stamp
from statemachine.pauses import RunTime
from statemachine.runtime.errors import WrongEventLoop, words
from statemachine.runtime.stack import check_stack
from statemachine.runtime.tracing import TraceFile
from statemachine.sinks import carry_out_all, log
from statemachine.stores.protocol import Entry, LogRecord, Receipt, Snapshot, Store, Write

R = TypeVar("R")
CLOSED = SessionState.CLOSED

TICK_SECONDS = 0.002
"""Shortest time between two ticks of the core, so a bound may end this much early."""
CLOCK_FAILED = "%s: the clock of the session does not tell the time (%s): that of the machine is used instead"
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
        self.counts = Counts()
        self.error: BaseException | None = None
        """Why the store, or the core, failed."""
        self._is_over = False
        """Whether committing has ended."""
        self.signal: Callable[[], Signal] = signals()
        self.bell: Callable[[], Bell] = bells()
        self.cancelled = anyio.get_cancelled_exc_class()
        self._batch = Batch(self.signal())
        self._committing: Batch | None = None
        self._work: Signal = self.signal()
        self._since_snapshot = 0
        """Records behind the last snapshot."""
        self._changed: set[int] = set()
        """Agents whose facts have changed since the last snapshot."""
        self._running = running()
        self._loop = self._running()
        self._soon = calls_soon()
        self._told: deque[Callable[[], object]] = deque()
        """What code at any place has told, and is taken between two events."""
        self._time = RunTime(clock())
        self.now = self._time.now
        """Returns the run time since the session was opened, in seconds: the only clock of the core."""
        self._bounded: dict[Callable[[], object], float] = {}
        """What ends code that is bounded -> the run time at which it is called."""
        self._alarm = math.inf
        """The run time at which something is due next."""
        self._alarm_moved = self.signal()

    @property
    def place(self) -> str:
        """What names the session in the log of the process: where it is stored."""
        return str(getattr(self.store, "path", "a session in memory"))

    # Events

    def is_here(self) -> bool:
        """Tells whether it is called in the thread and the event loop of the session."""
        is_here: bool = self._running() == self._loop
        return is_here

    def check_here(self) -> None:
        """Raises `WrongEventLoop` in another thread or event loop than the session's: an event of another thread in the
        middle of a step would break any rule.
        """
        if self._running() is not self._loop and not self._is_over and not self.is_here():
            raise WrongEventLoop(threading.current_thread().name)  # what has ended says so everywhere

    def enter(self) -> None:
        """Raises `WrongEventLoop`, as `check_here`, and `RecursionError` if the caller has too little stack left. Every
        verb begins with it, or with `apply`, before it changes anything.
        """
        check_stack()
        self.check_here()

    def apply(self, event: Event, receipt: Callable[[Reply], Receipt] | None = None) -> Reply:
        """Applies one event of a verb and returns its reply. Its step is in line; `settled` waits until it is durable.

        `receipt` makes the idempotency receipt from the reply, if the event is accepted. Raises as `enter`.
        """
        check_stack()
        if self._running() is not self._loop:
            self.check_here()
        if self._told:
            self._take_told()
        session = self.session
        if self._is_over and session.state < CLOSED:
            return Refused(SessionClosed())  # it was left as a crash would leave it
        now = self.now()
        if now >= session.now + TICK_SECONDS and session.state < CLOSED:
            self._take(Tick(now), None)
        return self._take(event, receipt)

    def tell(self, told: Callable[[], object]) -> None:
        """Has this called between two events, before the next one. May be called in any thread, and in the middle of
        anything: by a finalizer, which the collector calls anywhere, or by the handler of a signal.
        """
        self._told.append(told)
        with suppress(RuntimeError):  # the event loop was closed, and the session has gone with it
            self._soon(self._look_again)

    def _look_again(self) -> None:
        self._alarm_moved.set()

    def _take_told(self) -> None:
        while self._told:
            self._told.popleft()()

    def report(self, event: Event) -> Reply:
        """Applies one event of the runtime itself, as `apply` does one of a verb: its stack is never deep, and it is
        where the event loop runs.
        """
        if self._told:
            self._take_told()
        session = self.session
        if self._is_over and session.state < CLOSED:
            return Refused(SessionClosed())
        now = self.now()
        if now >= session.now + TICK_SECONDS and session.state < CLOSED:
            self._take(Tick(now), None)
        return self._take(event, None)

    def apply_at_once(self, event: Event) -> Reply:
        """Applies one event without a tick before it, so that nothing else happens first."""
        return self._take(event, None)

    def tick(self) -> None:
        """Tells the core what time it is: what is due ends. Not a time before the last one: an alarm that comes up to
        `TICK_SECONDS` early tells when it was due.
        """
        self._take(Tick(max(self.now(), self.session.now)), None)

    def report_failure(self, report: Event, agent: int, traceback: str | None) -> None:
        """Applies a report of code that raised. If it ends a turn of the agent, that has the traceback."""
        before = len(self._batch.records)
        self.report(report)
        for record in self._batch.records[before:]:
            if isinstance(record, TurnEnded) and record.outcome.agent == agent:
                told: Any = record
                told.traceback = traceback

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
        deadlines = self.session.deadlines
        if deadlines.heap:
            deadline = deadlines.next()
            if deadline is not None and deadline < self._alarm:
                self._move_alarm(deadline)
        return reply

    def put(self, step: Step, receipt: Receipt | None = None) -> None:
        """Puts the step in line for the next commit."""
        batch = self._batch
        batch.records += step.records
        if receipt is not None:
            batch.receipts.append(receipt)
        if not batch.events:
            self._work.set()
        batch.events.append(step)

    def record(self, entry: Entry) -> None:
        """Puts an entry of a rollout in line for the next commit."""
        self.check_here()
        self._batch.records.append(entry)
        self._batch.events.append(entry)
        self._work.set()

    @property
    def in_line(self) -> Batch:
        """What the next commit makes durable."""
        return self._batch

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
        if self.trace is not None:
            batch.traced = self.trace.take()
        try:
            self._stamp(batch.records)
            if items := self._items(batch):
                self._time.hold()
                await self.store.append(items)
                self._time.release()
                self.counts.commits += 1
        except BaseException as error:
            self.fail(error)
            if isinstance(error, Exception):
                return
            raise
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
        at = self._wall_time()
        for agent in self.times.commit(records, at):
            unknown = [mail for mail in self.session.agents[agent].mailbox if mail.at is None]
            if unknown:
                accepted = {record.mail for record in records if isinstance(record, MailAccepted)}
                stamp([mail for mail in unknown if mail.mail in accepted], at)

    def _wall_time(self) -> float:
        """Returns the time for records. Of a clock that fails, which is code of the host, that is told once; from then
        on it is the time of the machine.
        """
        try:
            told = self._wall_clock()
            at = exact.number(told)
            if at is not None and math.isfinite(at):
                return float(at)
            problem = f"it tells {exact.shown(told)}"
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            problem = words(error)
        log.warning(CLOCK_FAILED, self.place, problem)
        self._wall_clock = time.time
        return time.time()

    def _items(self, batch: Batch) -> Sequence[Write | Snapshot]:
        """Returns what to append, with a snapshot if one is due. The session is in its state after the batch."""
        session = self.session
        records = batch.records
        items: list[Write | Snapshot] = [Write((), receipt) for receipt in batch.receipts]
        if records:
            items.append(Write(tuple(records)))
        self.counts.records += len(records)
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

    async def end_loads(self) -> None:
        """Records that the loads under way end with the block of the session. They count as cut off by a crash
        otherwise, and the process has not died. For the time after the last commit. Raises `StoreError`.
        """
        session = self.session
        if self.error is not None or session.state >= CLOSED:
            return
        unwritten = {record.agent for record in self._batch.records if isinstance(record, LoadBegun)}
        counted = session.ledger.loads.keys() - unwritten
        ended = [LoadEnded(agent) for agent in session.residents.loading if agent in counted]
        if ended:
            self._stamp(ended)
            await self.store.append([Write(tuple(ended))])

    def fail(self, error: BaseException) -> None:
        """Fails the session because the store or the core has failed."""
        self.error = error
        try:
            event = WriteFailed(words(error))
            try:
                self.session.handle(event)
            finally:
                if self.trace is not None:
                    self.trace.add(event)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Ends committing after what is being written now. Callers that wait for more, or ask later, are told so."""
        self._is_over = True
        failed = self._committing if self.error is not None else None
        carry_out_all(
            self._batch.settled.set,
            *([] if failed is None else [failed.settled.set]),
            self._work.set,
            self._end_trace,
        )

    def _end_trace(self) -> None:
        """Writes all events that the session has seen, durable or not."""
        if self.trace is not None:
            for lines in ([] if self._committing is None else self._committing.traced, self.trace.take()):
                self.trace.write(lines)
                lines.clear()

    @contextmanager
    def within(self, seconds: float, cancel: Callable[[], object]) -> Generator[None]:
        """Calls `cancel`, which ends the block, once so many seconds of run time have passed in it."""
        due = self._bounded[cancel] = self.now() + seconds
        if due < self._alarm:
            self._move_alarm(due)
        try:
            yield
        finally:
            del self._bounded[cancel]

    def _move_alarm(self, due: float) -> None:
        self._alarm = due
        self._time.look(due)  # now, because what runs next may block the event loop
        self._alarm_moved.set()

    async def keep_time(self) -> None:
        """Gives the core a tick whenever something is due (L5), and takes what was told."""
        while True:
            self._alarm_moved = self.signal()
            if self._told:
                self._take_told()
            deadline = self.session.deadlines.next()
            self._alarm = min([math.inf if deadline is None else deadline, *self._bounded.values()])
            until = self._time.look(self._alarm)
            if until == math.inf:  # as in a session at rest, where a scope would stay
                await self._alarm_moved.wait()
                continue
            with anyio.CancelScope(deadline=until):
                await self._alarm_moved.wait()
                continue
            if self.session.state >= CLOSED:
                return
            now = self.now()
            if now < self._alarm - TICK_SECONDS:
                continue
            now = max(now, self._alarm)
            for cancel in [cancel for cancel, due in self._bounded.items() if due <= now]:
                cancel()
                self._bounded[cancel] = math.inf
            if deadline is not None and deadline <= now:
                self._take(Tick(now), None)
