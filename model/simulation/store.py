"""Simulates a disk that survives crashes, and a store on it that delays, fails, is kept busy by another process, or is
cut off by a crash.

The store is `MemoryStore` with failures. When the process dies in an append, either all of the batch is durable or
nothing of it is, and the simulation abandons the session at that moment: what callers are told then does not count.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from enum import Enum

import anyio
from anyio.lowlevel import checkpoint
from attrs import define, field

from statemachine.core.config import Notice, SessionConfig
from statemachine.core.ledger import Ledger
from statemachine.core.records import (
    AgentsClosed,
    AgentsForgotten,
    AgentSpawned,
    MailAccepted,
    MailDemoted,
    MailWithdrawn,
    Outcome,
    Record,
    TurnEnded,
    TurnReturned,
    TurnStarted,
)
from statemachine.log.recovery import apply, durable_facts, fold
from statemachine.stores.errors import StoreError
from statemachine.stores.memory import MemoryLog, MemoryStore
from statemachine.stores.protocol import Entry, LogRecord, Receipt, Recovered, Snapshot, Write

DELAYS_S = (0.001, 0.01, 0.05, 0.2)
CONTENTION_S = 4.0
"""How long another process keeps the store busy. Longer than most bounds of a session."""
APPENDS_MAX = 3_000
"""More than any seed needs: more appends mean an endless run."""


class End(Enum):
    """How an opening ends."""

    CALM = "left in peace"
    SHUTDOWN = "shut down by a host"
    RAISED = "left by an exception"
    CANCELLED = "cancelled as a whole"
    LOST = "died before its append was durable"
    KEPT = "died after its append was durable"
    FAILED = "store failed"
    TAKEN = "taken over by another process"


@define(eq=False)
class Disk:
    """What is durable, with an index for the judge."""

    log: MemoryLog = field(factory=MemoryLog)
    records: list[LogRecord] = field(factory=list[LogRecord])
    """All records, in their order."""
    writes: list[list[Record]] = field(factory=list[list[Record]])
    """What each append of the present opening wrote, without entries."""
    folded: Ledger = field(factory=lambda: fold(SessionConfig(), ()))
    """The fold of all records."""
    began: int = 0
    """Number of records when the present opening began."""
    appends: int = 0
    """Appends of the present opening that became durable, acknowledged or not."""
    mails: dict[int, MailAccepted] = field(factory=dict[int, MailAccepted])
    first_mail: dict[int, MailAccepted] = field(factory=dict[int, MailAccepted])
    """Agent -> its first mail, with which all but the root were spawned."""
    texts: Counter[str] = field(factory=Counter[str])
    spawned: dict[int, AgentSpawned] = field(factory=dict[int, AgentSpawned])
    started: set[tuple[int, int]] = field(factory=set[tuple[int, int]])
    ended: dict[tuple[int, int], Outcome] = field(factory=dict[tuple[int, int], Outcome])
    closed: Counter[tuple[int, ...]] = field(factory=Counter[tuple[int, ...]])
    returned: dict[tuple[int, int], int] = field(factory=dict[tuple[int, int], int])
    """Turn that was returned -> in which append of its opening."""
    in_a_row: Counter[int] = field(factory=Counter[int])
    """Agent -> how many turns of it, one after the other, were returned."""
    dead: set[int] = field(factory=set[int])
    """Mail that no turn will ever read: withdrawn, or unread when its agent was closed."""
    withdrawn: set[int] = field(factory=set[int])
    answered_apart: list[Outcome] = field(factory=list[Outcome])
    """What answered requests that no turn took: they were withdrawn or demoted."""
    forgotten: set[int] = field(factory=set[int])
    entries: dict[int, list[Entry]] = field(factory=dict[int, list[Entry]])
    """Number of an entry -> the entries with it."""
    told_twice: list[str] = field(factory=list[str])

    def begin(self) -> None:
        """Begins a new opening."""
        self.writes, self.appends, self.began = [], 0, len(self.records)

    def take(self, items: Sequence[Write | Snapshot]) -> None:
        """Makes the items durable."""
        self.appends += 1
        written: list[Record] = []
        for item in items:
            if isinstance(item, Snapshot):
                continue
            self.records.extend(item.records)
            for record in item.records:
                if isinstance(record, Entry):
                    self.entries.setdefault(record.data["n"], []).append(record)
                else:
                    written.append(record)
                    self.index(record)
                    apply(self.folded, record)
        self.writes.append(written)

    def index(self, record: Record) -> None:
        """One more record, before it is applied."""
        kind = record.__class__
        if isinstance(record, MailAccepted):
            if record.mail in self.mails:
                self.told_twice.append(f"mail {record.mail} is in the log twice")
            self.mails[record.mail] = record
            self.first_mail.setdefault(record.target, record)
            self.texts[record.message] += 1
        elif isinstance(record, TurnStarted):
            if (record.agent, record.turn) in self.started:
                self.told_twice.append(f"turn {record.turn} of agent {record.agent} started twice")
            self.started.add((record.agent, record.turn))
        elif isinstance(record, TurnEnded):
            turn = record.outcome.agent, record.outcome.turn
            if turn in self.ended:
                self.told_twice.append(f"turn {turn[1]} of agent {turn[0]} ended twice")
            self.ended[turn] = record.outcome
            self.in_a_row[turn[0]] = 0
        elif isinstance(record, TurnReturned):
            self.returned[record.agent, record.turn] = self.appends
            self.in_a_row[record.agent] += 1
        elif isinstance(record, MailWithdrawn):
            self.answered_apart.append(record.outcome)
            self.withdrawn.add(record.mail)
            self.dead.add(record.mail)
        elif isinstance(record, MailDemoted):
            self.answered_apart.append(record.outcome)
        elif isinstance(record, AgentsForgotten):
            self.forgotten.update(record.agents)
        elif kind is AgentSpawned:
            assert isinstance(record, AgentSpawned)
            self.spawned[record.agent] = record
        elif isinstance(record, AgentsClosed):
            self.closed[record.agents] += 1
            for agent in record.agents:
                self.dead.update([mail.mail for mail in self.folded.agents[agent].mailbox])
                self.in_a_row[agent] = 0


class SimulatedStore:
    """A `Store` that ends as `end` says at append number `at`, counted from 0. It calls `die` when the process is to
    die, and `note` with what happens.
    """

    def __init__(
        self, disk: Disk, rng: random.Random, end: End, at: int, die: Callable[[], None], note: Callable[[str], None]
    ) -> None:
        self.disk, self.rng, self.end, self.at, self.die, self.note = disk, rng, end, at, die, note
        self.inner = MemoryStore(disk.log, takeover=True)
        self.appends = 0
        self.error: StoreError | None = None
        self.recovered_well = True
        """Whether opening found what was durable."""
        self.slow = rng.random() < 0.6
        self.reads_fail = rng.random() < 0.05
        self.contended = rng.random() < 0.1

    async def open(self, config: SessionConfig) -> Recovered:
        """See `Store.open`."""
        recovered = await self.inner.open(config)
        self.disk.folded.promises = config.notice is not Notice.NONE
        self.disk.folded.returns = config.max_attempts > 1
        self.recovered_well = durable_facts(recovered.ledger) == durable_facts(self.disk.folded)
        return recovered

    async def append(self, items: Sequence[Write | Snapshot]) -> None:
        """See `Store.append`."""
        number = self.appends
        self.appends += 1
        assert number < APPENDS_MAX, "this seed goes on for ever"
        if self.error is not None:
            raise self.error
        if number == self.at and self.end in (End.LOST, End.KEPT):
            await self._wait()
            if self.end is End.KEPT:
                await self.inner.append(items)
                self.disk.take(items)
            self.die()
            self.error = StoreError("simulated", "the process died")  # no caller is left to be told
            raise self.error
        with anyio.CancelScope(shield=True):
            await self._wait()
            if self.contended and self.rng.random() < 0.2:
                self.note("store was busy")
                await anyio.sleep(CONTENTION_S)
            if number >= self.at and self.end is End.FAILED:
                self.error = StoreError("simulated", "the disk is broken")
                self.note("store failed")
                raise self.error
            if number == self.at and self.end is End.TAKEN:
                await MemoryStore(self.disk.log, takeover=True).open(self.disk.log.config or SessionConfig())
                self.note("session taken over")
            await self.inner.append(items)  # nothing else runs between this and the next line
            self.disk.take(items)

    async def rollout(self, agent: int, since: int | None = None, *, last: int | None = None) -> tuple[LogRecord, ...]:
        """See `Store.rollout`."""
        await self._read()
        return await self.inner.rollout(agent, since, last=last)

    async def receipt(self, key: str) -> Receipt | None:
        """See `Store.receipt`."""
        await self._read()
        return await self.inner.receipt(key)

    async def close(self) -> None:
        """See `Store.close`."""
        await self.inner.close()

    async def _wait(self) -> None:
        if self.slow and self.rng.random() < 0.5:
            await anyio.sleep(DELAYS_S[int(self.rng.random() * len(DELAYS_S))])

    async def _read(self) -> None:
        if self.rng.random() < 0.3:
            await self._wait()
        if self.reads_fail and self.rng.random() < 0.2:
            await checkpoint()
            self.note("store could not be read")
            raise StoreError("simulated", "cannot be read just now")
