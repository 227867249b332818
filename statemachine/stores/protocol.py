"""Says what a store does for a session: appends what happened, and finds it again (semantics.md section 5).

A store keeps the log of one session, in two forms. The *rollouts* (every agent's mail, turns and entries) stay until
their agent is forgotten. The *facts* (who is open, what is unread, how turns ended) are the fold of the log; snapshots
replace the part of the log that they cover, so the time to open depends on the number of agents, not on the age of the
log.

What `append` was given is durable when it returns, and none of it if it raises. One process owns a session at a time;
every opening raises the *epoch*, and a store with an older one is refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from attrs import field

from statemachine.core.config import SessionConfig
from statemachine.core.facts import fact
from statemachine.core.ledger import Ledger
from statemachine.core.records import Record
from statemachine.log.snapshot import AgentFacts
from statemachine.log.times import Times

__all__ = ["BackedUp", "Entry", "LogRecord", "Receipt", "Recovered", "Snapshot", "Store", "Write"]


@fact
class Entry:
    """An entry that a turn wrote into its agent's rollout.

    `data` is any JSON value, and comes back as JSON has it: a tuple as a list, the keys of a dict as texts.
    """

    agent: int
    turn: int
    data: Any
    at: float | None = field(default=None, eq=False, kw_only=True, repr=False)
    """When it was committed: see `statemachine.core.records`."""


LogRecord = Record | Entry
"""An item of a rollout."""


@fact
class Receipt:
    """The answer that was given for an idempotency key: `request` is the canonical text of the request, `answer` is
    JSON text. A key has one receipt; a later one replaces it.

    If the answer is a list, it begins with the id of the agent that was asked. Once that is forgotten, `request` is
    empty.
    """

    key: str
    request: str
    answer: str


@fact
class Write:
    """The records of one or more steps of the session, in their order: all become durable, or none.

    Headers of a mail are an object of JSON. Settings of an agent are as the runtime writes them if their record has a
    time (`at`), and else any text.
    """

    records: tuple[LogRecord, ...]
    receipt: Receipt | None = None


@fact
class Snapshot:
    """The facts of some agents after everything appended before, and the counts of mails by `MailState`.

    Every agent whose facts have changed since the last snapshot, or since opening, has to be among them
    (`snapshot.touched` says which records do that), because the log up to here is not folded again. The rollouts of
    those that are forgotten are deleted, and the requests of their receipts; an append with an `AgentsForgotten` ends
    with a snapshot.
    """

    agents: tuple[AgentFacts, ...]
    mail_states: tuple[int, ...]


@fact
class Recovered:
    """What a store has of a session. `config` is that of the last run (None: never run), `tail` the number of records
    folded on top of the snapshot, `times` when what the records say happened.
    """

    epoch: int
    config: SessionConfig | None
    ledger: Ledger
    tail: int
    times: Times = field(factory=Times, eq=False)


class Store(Protocol):
    """Stores one session. All methods raise `StoreError` (`stores/errors.py`)."""

    async def open(self, config: SessionConfig) -> Recovered:
        """Claims the session: raises the epoch, stores the configuration, and returns the fold of what is stored.

        A new store gives a ledger with the root alone. Raises `SessionInUse` if another owner has it open. What was
        folded is kept as a snapshot, so the next one needs only what is touched from now on.
        """
        ...

    async def append(self, items: Sequence[Write | Snapshot]) -> None:
        """Makes all items durable, in their order, in one transaction; or raises, and none is, unless the disk failed
        at the very end: then the next opening tells.

        Do not call it while another append is under way. A caller that is cancelled waits for the outcome first. After
        a failure every later append raises the same error, because the session has failed (section 5): close the store,
        and open it again. Raises `Unstorable` for a value that no log can hold, and `SessionInUse` if another process
        has taken the session over.
        """
        ...

    async def rollout(self, agent: int, since: int | None = None, *, last: int | None = None) -> tuple[LogRecord, ...]:
        """Returns the agent's mail, turns and entries, oldest first. May be called while an append is under way.

        With `since`, the number of a mail, returns what tells how that mail was answered, and not much more: records
        without entries from the last start or end of a turn on before the mail was accepted (`folding.needed`). With
        `last` instead, returns only so many records, the last ones, and reads not many more.
        """
        ...

    async def receipt(self, key: str) -> Receipt | None:
        """Returns the receipt for the key, if there is one. May be called while an append is under way."""
        ...

    async def close(self) -> None:
        """Releases the session, after an append that is under way. Closing twice is not an error."""
        ...


@runtime_checkable
class BackedUp(Protocol):
    """A store that can make a backup of its session."""

    async def backup(self, to: str | os.PathLike[str], progress: Callable[[int, int], object]) -> None:
        """Makes a new file `to` that has the session as of the last commit before, while it goes on. Only its owner may
        read it. `progress` is called in the event loop with the pages that are copied, and all; what it raises ends the
        backup, and so does a cancellation. Raises `StoreError`: `StoreExists` if there is a file already.
        """
        ...
