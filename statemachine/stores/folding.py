"""From what a store has kept to a ledger: the facts of the last snapshot, and the records after it (section 5)."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import define, field

from statemachine.core.config import SessionConfig
from statemachine.core.ledger import Ledger
from statemachine.core.machines import MailState
from statemachine.log.recovery import apply
from statemachine.log.snapshot import AgentFacts, facts_of, ledger_of, touched
from statemachine.stores.encoding import EncodingError
from statemachine.stores.protocol import Entry, LogRecord, Snapshot

NO_MAIL = (0,) * len(MailState)
"""How many mails are in which state when nothing ever happened."""


@define
class Folded:
    """A ledger, and which of its agents have other facts than in the snapshot that it started from."""

    ledger: Ledger
    touched: set[int] = field(factory=set[int])
    tail: int = 0
    """Records that were folded."""

    @property
    def snapshot(self) -> Snapshot:
        """What makes the records that were folded superfluous."""
        agents = self.ledger.agents
        return Snapshot(
            tuple([facts_of(self.ledger, agents[agent]) for agent in sorted(self.touched)]),
            tuple(self.ledger.mail_states),
        )


def fold(
    config: SessionConfig, facts: Iterable[AgentFacts], mail_states: Iterable[int], tail: Iterable[LogRecord]
) -> Folded:
    """The ledger that facts and records come to. Raises `EncodingError` for what no session can have come to."""
    try:
        folded = Folded(ledger_of(config, facts, mail_states))
    except EncodingError:
        raise
    except Exception as error:
        raise EncodingError(f"the snapshot cannot be: {error!r}") from error
    ledger = folded.ledger
    for record in tail:
        folded.tail += 1
        if isinstance(record, Entry):
            continue
        try:
            apply(ledger, record)
            folded.touched |= touched((record,), ledger)
        except Exception as error:
            raise EncodingError(f"{record!r:.200} cannot follow what comes before it: {error!r}") from error
    return folded
