"""Makes a ledger of what a store has kept: the facts of the last snapshot, and the records after it (section 5)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import define, field

from statemachine.core.config import SessionConfig
from statemachine.core.ledger import Ledger
from statemachine.core.machines import MailState
from statemachine.core.records import MailAccepted, TurnEnded, TurnStarted
from statemachine.log import judging, texts
from statemachine.log.recovery import apply
from statemachine.log.snapshot import AgentFacts, WrongFacts, facts_of, ledger_of, touched
from statemachine.log.times import Times
from statemachine.stores.encoding import EncodingError
from statemachine.stores.leaving_out import Unreadable, counts, seen_without, whose, without
from statemachine.stores.protocol import Entry, LogRecord, Snapshot

NO_MAIL = (0,) * len(MailState)
"""The counts of mails by state in a new session."""


def needed(records: Iterable[LogRecord], mail: int) -> tuple[LogRecord, ...]:
    """Returns, oldest first, those of an agent's records that tell how a mail was answered; they are given from the
    newest one back. Its acceptance is needed, and the last start or end of a turn before that, which says whether a
    turn that ends after it had started.
    """
    found = list[LogRecord]()
    is_accepted = False
    for record in records:
        found.append(record)
        if is_accepted and isinstance(record, TurnStarted | TurnEnded):
            break
        is_accepted |= isinstance(record, MailAccepted) and record.mail <= mail  # less: it never was
    return tuple(reversed(found))


@define
class Folded:
    """A ledger, and the agents whose facts differ from the snapshot that it started from."""

    ledger: Ledger
    times: Times
    touched: set[int] = field(factory=set[int])
    tail: int = 0
    """Number of records that were folded."""

    @property
    def snapshot(self) -> Snapshot:
        """Returns the snapshot that replaces the folded records."""
        agents = self.ledger.agents
        return Snapshot(
            tuple([facts_of(self.ledger, agents[agent], self.times.of(agent)) for agent in sorted(self.touched)]),
            tuple(self.ledger.mail_states),
        )


def fold(
    config: SessionConfig,
    facts: Sequence[AgentFacts],
    mail_states: Iterable[int],
    tail: Iterable[LogRecord | Unreadable],
    left_out: set[int] | None = None,
) -> Folded:
    """Returns the ledger of these facts and records. Raises `EncodingError` if no session can have them. Agents that
    are `left_out` are forgotten (`leaving_out.py`); those below them are added to the set.
    """
    if left_out:
        facts = without(facts, left_out)
        mail_states = counts(facts, mail_states)
    if (wrong := texts.facts_problem(facts)) is not None:
        raise EncodingError(wrong[1], wrong[0])
    try:
        folded = Folded(ledger_of(config, facts, mail_states), Times())
    except EncodingError:
        raise
    except Exception as error:
        if isinstance(error, WrongFacts):
            raise EncodingError(f"the snapshot cannot be: {error}", error.agent) from error
        raise EncodingError(f"the snapshot cannot be: {error!r}") from error
    ledger, times = folded.ledger, folded.times
    times.restore(facts)
    for written in tail:
        folded.tail += 1
        if isinstance(written, Entry):
            continue
        record = seen_without(written, ledger, left_out) if left_out else written
        if record is None:
            continue
        if isinstance(record, Unreadable):
            raise EncodingError(str(record.error), whose(record, ledger)) from record.error
        wrong_record = judging.tail_problem(record, ledger) or texts.texts_problem(record)
        if wrong_record is not None:
            problem = f"{record!r:.200} cannot follow what comes before it: {wrong_record}"
            raise EncodingError(problem, whose(record, ledger))
        try:
            apply(ledger, record)
            times.note(record)
            folded.touched |= touched((record,), ledger)
        except Exception as error:
            problem = f"{record!r:.200} cannot follow what comes before it: {error!r}"
            raise EncodingError(problem, whose(record, ledger)) from error
    folded.touched.update(left_out or ())
    return folded
