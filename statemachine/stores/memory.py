"""Keeps a session in memory, until the process ends: for tests, and for sessions that need not last.

It behaves as the store on disk does, down to the texts that records become, so that what works here works there. A
`MemoryLog` takes the place of the file. A store that is left open and another one on the same log with `takeover=True`
stand for a process that crashed, or hangs, and the next.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint
from attrs import define, field

from statemachine.core.config import SessionConfig
from statemachine.core.machines import Identity
from statemachine.stores import options
from statemachine.stores.encoding import (
    ENTRY,
    EncodingError,
    Stored,
    asked_agent,
    asked_key,
    check_config,
    check_id,
    check_items,
    check_texts,
    decode,
    decode_facts,
    encode,
    encode_facts,
    encode_receipt,
)
from statemachine.stores.errors import SessionInUse, StoreClosed, Unstorable
from statemachine.stores.folding import NO_MAIL, fold, needed
from statemachine.stores.protocol import LogRecord, Receipt, Recovered, Snapshot, Write

__all__ = ["MemoryLog", "MemoryStore"]

PATH = "memory"

Row = tuple[str, int | None, Stored]
"""Kind, agent and fields of a record (`encoding.encode`)."""


@define(eq=False)
class MemoryLog:
    """Keeps what was appended, as long as the process lives."""

    epoch: int = 0
    is_owned: bool = False
    config: SessionConfig | None = None
    rollouts: defaultdict[int, list[Row]] = field(factory=lambda: defaultdict[int, list[Row]](list))
    """Agent -> the rows of its rollout, oldest first."""
    facts: dict[int, Stored] = field(factory=dict[int, Stored])
    mail_states: tuple[int, ...] = NO_MAIL
    tail: list[Row] = field(factory=list[Row])
    """Rows after the last snapshot."""
    receipts: dict[str, Receipt] = field(factory=dict[str, Receipt])

    def take(self, item: list[Row] | Snapshot, facts: Sequence[tuple[int, Stored]], receipt: Receipt | None) -> None:
        """Takes one item of an append."""
        if isinstance(item, Snapshot):
            self.facts.update(facts)
            self.mail_states = item.mail_states
            self.tail.clear()
            self._forget([f.agent for f in item.agents if f.identity is Identity.FORGOTTEN])
            return
        self.tail.extend(item)
        for row in item:
            if row[1] is not None:
                self.rollouts[row[1]].append(row)
        if receipt is not None:
            self.receipts[receipt.key] = receipt

    def _forget(self, agents: Sequence[int]) -> None:
        """Deletes the rollouts of these agents, and what was asked of them with keys. The keys stay used."""
        for agent in agents:
            self.rollouts.pop(agent, None)
        beginnings = tuple([f"[{agent}," for agent in agents])
        for key, receipt in self.receipts.items() if agents else ():
            if receipt.answer.startswith(beginnings):
                self.receipts[key] = Receipt(key, "", receipt.answer)


class MemoryStore:
    """A `Store` in memory, on `log` or else a new one."""

    def __init__(self, log: MemoryLog | None = None, *, takeover: bool = False) -> None:
        """Raises `TypeError` for a log that is not one."""
        options.one_of(log, "log", MemoryLog, "a MemoryLog(), or nothing")
        self.log = MemoryLog() if log is None else log
        self.takeover = takeover
        self._epoch: int | None = None
        """The epoch in which this store owns the log; None: not open."""

    async def open(self, config: SessionConfig) -> Recovered:
        """See `Store.open`."""
        check_config(config)
        await checkpoint()
        log = self.log
        if log.is_owned and not self.takeover:
            raise SessionInUse(PATH, "another store has this session open")
        facts = [decode_facts(log.facts[agent]) for agent in sorted(log.facts)]
        folded = fold(config, facts, log.mail_states, [decode(kind, data) for kind, _, data in log.tail])
        before, log.config = log.config, config
        log.is_owned, log.epoch = True, log.epoch + 1
        self._epoch = log.epoch
        snapshot = folded.snapshot
        log.take(snapshot, [(f.agent, encode_facts(f)) for f in snapshot.agents], None)
        return Recovered(log.epoch, before, folded.ledger, folded.tail, folded.times)

    async def append(self, items: Sequence[Write | Snapshot]) -> None:
        """See `Store.append`."""
        await cancel_shielded_checkpoint()
        log = self._owned()
        try:
            check_items(items)
            rows = [[encode(record) for record in item.records] if isinstance(item, Write) else item for item in items]
            facts = [
                [(f.agent, encode_facts(f)) for f in item.agents] if isinstance(item, Snapshot) else []
                for item in items
            ]
            for part in rows:
                for agent in [f.agent for f in part.agents] if isinstance(part, Snapshot) else [row[1] for row in part]:
                    check_id(agent)
            for item in items:
                if isinstance(item, Write):
                    for record in item.records:
                        check_texts(record)
                    if item.receipt is not None:
                        encode_receipt(item.receipt)
        except EncodingError as error:
            raise Unstorable(PATH, str(error)) from None
        for item, row, fact in zip(items, rows, facts, strict=True):
            log.take(row, fact, item.receipt if isinstance(item, Write) else None)

    async def rollout(self, agent: int, since: int | None = None, *, last: int | None = None) -> tuple[LogRecord, ...]:
        """See `Store.rollout`."""
        agent = asked_agent(agent)
        await checkpoint()
        rows = self._open().rollouts.get(agent, [])
        if since is None:
            wanted = rows if last is None else rows[max(0, len(rows) - last) :]
            return tuple([decode(kind, data) for kind, _, data in wanted])
        return needed((decode(kind, data) for kind, _, data in reversed(rows) if kind != ENTRY), since)

    async def receipt(self, key: str) -> Receipt | None:
        """See `Store.receipt`."""
        key = asked_key(key)
        await checkpoint()
        return self._open().receipts.get(key)

    async def close(self) -> None:
        """See `Store.close`."""
        if self._epoch == self.log.epoch:
            self.log.is_owned = False
        self._epoch = None
        await cancel_shielded_checkpoint()  # which asyncio's own cancellation may end

    def _open(self) -> MemoryLog:
        if self._epoch is None:
            raise StoreClosed(PATH, "the store is not open")
        return self.log

    def _owned(self) -> MemoryLog:
        log = self._open()
        if self._epoch != log.epoch:
            raise SessionInUse(PATH, f"the session was taken over (epoch {log.epoch}, this store has {self._epoch})")
        return log
