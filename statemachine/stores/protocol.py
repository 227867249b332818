"""What a session needs of a store: append what happened, and find it again (semantics.md section 5).

A store keeps the log of one session, in two forms. The *rollouts* (every agent's mail, turns and entries) stay for
ever. The *facts* (who is open, what is unread, how turns ended) are the fold of the log; snapshots replace the part of
the log that they cover, so opening takes as long as there are agents, whatever the age of the log.

The order is the contract's: what `append` was given is durable when it returns, and nothing of it if it raises. One
process owns a session at a time; every opening raises the *epoch*, and whoever has an older one is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from attrs import field

from statemachine.core.config import SessionConfig
from statemachine.core.facts import fact
from statemachine.core.ledger import Ledger
from statemachine.core.records import Record
from statemachine.log.snapshot import AgentFacts
from statemachine.log.times import Times

__all__ = ["Entry", "LogRecord", "Receipt", "Recovered", "Snapshot", "Store", "Write"]


@fact
class Entry:
    """What a turn recorded into its agent's rollout.

    `data` is any JSON value, and comes back as JSON has it: a tuple as a list, the keys of a dict as texts.
    """

    agent: int
    turn: int
    data: Any
    at: float | None = field(default=None, eq=False, kw_only=True, repr=False)
    """When it was committed: see `statemachine.core.records`."""


LogRecord = Record | Entry
"""What a rollout consists of."""


@fact
class Receipt:
    """The answer that was given for an idempotency key: `request` is the canonical text of what was asked, `answer`
    is JSON text. A key has one receipt; a later one replaces it.
    """

    key: str
    request: str
    answer: str


@fact
class Write:
    """What one or more steps of the session have to say, in their order: all of it becomes durable, or none."""

    records: tuple[LogRecord, ...]
    receipt: Receipt | None = None


@fact
class Snapshot:
    """The facts of some agents as of everything appended before, and how many mails are in which `MailState`.

    An agent whose facts were changed since the last snapshot, or since opening, has to be among them
    (`snapshot.touched` says by which record), because the log up to here is not folded again.
    """

    agents: tuple[AgentFacts, ...]
    mail_states: tuple[int, ...]


@fact
class Recovered:
    """What was found in the store. `config` is what the session ran with last (None: never), `tail` how many records
    were folded on top of the snapshot, `times` when what the records say happened.
    """

    epoch: int
    config: SessionConfig | None
    ledger: Ledger
    tail: int
    times: Times = field(factory=Times, eq=False)


class Store(Protocol):
    """Where one session is kept. All methods raise `StoreError` (`stores/errors.py`)."""

    async def open(self, config: SessionConfig) -> Recovered:
        """Claims the session: raises the epoch, remembers the configuration, and folds what is there with it.

        A new store gives a ledger with the root alone. Raises `SessionInUse` if somebody has it open. What was folded
        is kept as a snapshot, so the next one needs only what is touched from now on.
        """
        ...

    async def append(self, items: Sequence[Write | Snapshot]) -> None:
        """Makes all of them durable, in their order, in one transaction; or raises, and none of them is, unless the
        disk failed at the very end: then the next opening tells.

        Never called twice at once. A cancelled caller gets its outcome first. After a failure every later append
        raises the same error, because the session has failed (section 5): close the store, and open it again. Raises
        `Unstorable` for what no log can hold, and `SessionInUse` if another process has taken the session over.
        """
        ...

    async def rollout(self, agent: int) -> tuple[LogRecord, ...]:
        """The agent's mail, turns and entries, oldest first. May be called while an append is under way."""
        ...

    async def receipt(self, key: str) -> Receipt | None:
        """The receipt for the key, if there is one. May be called while an append is under way."""
        ...

    async def close(self) -> None:
        """Gives the session back, after an append that is under way. Closing twice is no error."""
        ...
