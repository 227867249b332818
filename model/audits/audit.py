"""Judges the log of a session record by record: could a session have written each of them where it stands?

A log holds no events, so it cannot be replayed. What can be judged is what remains in it (section 5):

- Of the *rollouts*, which stay for ever: turns of an agent count from 1 without gaps and never run two at once; mail
  numbers go up; nothing comes before an agent's first mail, and nothing is recorded by a turn that has not begun.
- Of the *tail*, the records behind the last snapshot, everything that the facts decide: who is there and open, which
  path is free, what is unread, which notice is true.
- Of the *snapshot* between them: that the rollouts before it come to its facts. Which agents were closed and opened
  again before it is not in the log any more, so unread mail may have become dead letters there, but none may appear.
  Of agents that were forgotten there is no rollout.

Then the session is recovered, every property is judged, and the reference has to recover to the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any

from attrs import define, field

from statemachine.checking import properties
from statemachine.checking.causes import ASKED, STATUSES
from statemachine.core.agents import Agent
from statemachine.core.config import SessionConfig
from statemachine.core.events import ROOT
from statemachine.core.ledger import Ledger, demoted, requests
from statemachine.core.machines import Identity, MailState, TurnState
from statemachine.core.records import (
    AgentsClosed,
    AgentsForgotten,
    Cause,
    MailAccepted,
    MailDemoted,
    MailDrained,
    MailKind,
    MailRead,
    MailWithdrawn,
    Outcome,
    TurnEnded,
    TurnReturned,
    TurnStarted,
    TurnStopped,
)
from statemachine.log.snapshot import AgentFacts, durable_turn, ledger_of
from statemachine.stores.protocol import Entry, LogRecord

from .. import lockstep
from .audit_tail import Tail

OPEN, TRIGGER, RUNNING = Identity.OPEN, MailKind.TRIGGER, TurnState.RUNNING


class Unsound(Exception):
    """A session cannot have written this log. `position` and `record` are the first that is wrong; without a record, it
    is the snapshot (`position` is where it ends), or the state at the end of the log.
    """

    def __init__(self, position: int, record: LogRecord | None, problem: str) -> None:
        super().__init__(position, record, problem)
        self.position, self.record, self.problem = position, record, problem

    def __str__(self) -> str:
        where = "" if self.record is None else f", {self.record!r:.300}"
        return f"log position {self.position}{where}: {self.problem}"


def audit(
    config: SessionConfig,
    facts: Sequence[AgentFacts],
    mail_states: Sequence[int],
    covered: int,
    log: Iterable[tuple[int, LogRecord]],
) -> Ledger:
    """Judges a log: the facts of the snapshot as of position `covered`, and all records that are kept, with their
    positions. Returns the facts at its end. Raises `Unsound` for the first fault.
    """
    try:
        ledger = ledger_of(config, facts, mail_states)
    except Exception as error:  # impossible facts may raise anything
        raise Unsound(covered, None, f"the snapshot cannot be: {error}") from error
    tail = Tail(ledger)
    rollouts = Rollouts()
    at_tail, last = False, covered
    for position, record in log:
        if position > covered and not at_tail:
            at_tail = True
            rollouts.come_to(ledger, covered)
        problem = None
        if at_tail:
            problem = f"log position {last + 1} is missing" if position != last + 1 else None
            last = position
        problem = problem or rollouts.judge(record) or (tail.judge(record) if at_tail else None)
        if problem is not None:
            raise Unsound(position, record, problem)
    if not at_tail:
        rollouts.come_to(ledger, covered)
    if tail.spawned is not None:
        raise Unsound(last, None, f"agent {tail.spawned} has no first mail")
    come_back(config, ledger, last)
    return ledger


def come_back(config: SessionConfig, ledger: Ledger, last: int) -> None:
    """Raises `Unsound` if the session that is recovered from these facts is wrong."""
    for agent in ledger.agents:
        if agent.identity is not OPEN and agent.status is RUNNING:
            raise Unsound(last, None, f"agent {agent.id} is closed, and its turn {agent.turn} has not ended")
    try:
        session, _, _ = lockstep.start_from(config, ledger.copy())
        properties.check(session)
    except Exception as error:  # a verdict, or any error on the way to one
        raise Unsound(last, None, f"what is recovered from the log is wrong: {error}") from error


# Rollouts


@define
class Rollout:
    """State of the rollout of one agent so far."""

    ended: int = 0
    """Number of the last turn that ended, or was returned."""
    outcome: Outcome | None = None
    returned: int = 0
    """Turns that were returned, one after the other."""
    running: bool = False
    stopped: TurnStopped | None = None
    """Why the running turn was asked to stop."""
    read: list[MailAccepted] = field(factory=list[MailAccepted])
    """Mail that the running turn has read."""
    unread: list[MailAccepted] = field(factory=list[MailAccepted])
    perhaps: set[int] = field(factory=set[int])
    """Mails that a returned turn had read, and that are unread again only if they were kept (`Ledger.returns`)."""

    def take(self) -> None:
        """Has the running turn read all unread mail."""
        self.read += self.unread
        self.unread = []

    def runs(self, turn: int) -> bool:
        """Tells whether this turn runs."""
        return self.running and turn == self.ended + 1


class Rollouts:
    """Judges all rollouts, side by side as the log has them."""

    def __init__(self) -> None:
        self.agents: dict[int, Rollout] = {}
        self.mails = 0
        self.last_mail = -1
        self.dropped = 0
        """Dead letters: mails that no turn has read, and that are not unread in the snapshot."""

    def judge(self, record: LogRecord) -> str | None:
        """Takes one more record. Returns what is wrong with it, or None."""
        if isinstance(record, AgentsClosed):  # unread mail is lost: no turn reads it after the agent is opened again
            for member in record.agents:
                self.agents.get(member, Rollout()).unread = []
        if isinstance(record, AgentsForgotten):
            for member in record.agents:
                self.agents.pop(member, None)
        judge = IN_ROLLOUT.get(record.__class__)
        if judge is None:
            return None
        number = record.outcome.agent if isinstance(record, TurnEnded) else getattr(record, "agent", -1)
        if isinstance(record, MailAccepted):
            number = record.target
        found = self.agents.get(number)
        if found is None:
            if number != ROOT and (record.__class__ is not MailAccepted or record.kind is not TRIGGER):
                return f"the rollout of agent {number} does not begin with its first mail"
            found = self.agents[number] = Rollout()
        return judge(self, found, record)

    def accepted(self, found: Rollout, mail: MailAccepted) -> str | None:
        if mail.mail <= self.last_mail:
            return f"mail {mail.mail} comes after mail {self.last_mail}"
        self.last_mail = mail.mail
        self.mails += 1
        found.unread.append(mail)
        return None

    def withdrawn(self, found: Rollout, record: MailWithdrawn) -> str | None:
        sent = [mail.mail for mail in found.unread if mail.notice is None]
        if record.mail not in sent:
            return f"mail {record.mail} is withdrawn, and {sent} of agent {record.agent} are unread"
        found.unread = [mail for mail in found.unread if mail.mail != record.mail]
        self.dropped += 1
        return answer_problem(record.outcome, record.agent)

    def demoted(self, found: Rollout, record: MailDemoted) -> str | None:
        asking = [mail.mail for mail in found.unread if mail.kind is TRIGGER]
        if not record.mails or not {*record.mails} <= {*asking}:
            return f"mails {[*record.mails]} are demoted, and {asking} of agent {record.agent} ask for a turn"
        found.unread = [demoted(mail) if mail.mail in record.mails else mail for mail in found.unread]
        return answer_problem(record.outcome, record.agent)

    def read(self, found: Rollout, record: MailRead) -> str | None:
        if not found.runs(record.turn):
            return f"turn {record.turn} of agent {record.agent} reads mail, and does not run"
        told = [mail.mail for mail in found.unread if mail.notice is not None]
        if not record.mails or not {*record.mails} <= {*told}:
            return f"turn {record.turn} of agent {record.agent} reads notices {[*record.mails]}, and {told} are unread"
        found.read += [mail for mail in found.unread if mail.mail in record.mails]
        found.unread = [mail for mail in found.unread if mail.mail not in record.mails]
        return None

    def stopped(self, found: Rollout, record: TurnStopped) -> str | None:
        if not found.runs(record.turn):
            return f"turn {record.turn} of agent {record.agent} is asked to stop, and does not run"
        before = found.stopped
        if before is not None and (before.cause, before.by) != (record.cause, record.by):
            what = f"turn {record.turn} of agent {record.agent} is stopped by {record.cause.name}"
            return f"{what}, before by {before.cause.name}"
        found.stopped = record
        return None

    def returned(self, found: Rollout, record: TurnReturned) -> str | None:
        if not found.runs(record.turn):
            return f"turn {record.turn} of agent {record.agent} is returned, and does not run"
        if found.stopped is not None:
            return f"turn {record.turn} of agent {record.agent} is returned, and was asked to stop"
        asked = requests(tuple(found.read))
        found.perhaps.update([mail.mail for mail in found.read if mail not in asked])
        found.unread = sorted([*found.read, *found.unread], key=attrgetter("mail"))
        found.ended, found.running, found.read, found.returned = record.turn, False, [], found.returned + 1
        return None

    def started(self, found: Rollout, record: TurnStarted) -> str | None:
        if found.running:
            return f"turn {record.turn} of agent {record.agent} starts while its turn {found.ended + 1} runs"
        if record.turn != found.ended + 1:
            return f"turn {record.turn} of agent {record.agent} starts, its last one was {found.ended}"
        if not any(mail.kind is TRIGGER for mail in found.unread):
            return f"turn {record.turn} of agent {record.agent} starts, and no trigger mail was unread"
        found.running = True
        found.take()
        return None

    def drained(self, found: Rollout, record: MailDrained) -> str | None:
        if not found.runs(record.turn):
            return f"turn {record.turn} of agent {record.agent} reads mail, and does not run"
        if not found.unread:
            return f"turn {record.turn} of agent {record.agent} reads mail, and none was unread"
        found.take()
        return None

    def ended(self, found: Rollout, record: TurnEnded) -> str | None:
        outcome = record.outcome
        if outcome.turn != found.ended + 1:
            what = f"its turn {found.ended + 1} runs" if found.running else f"its last one was {found.ended}"
            return f"turn {outcome.turn} of agent {outcome.agent} ends, {what}"
        if not outcome.status.is_idle or outcome.status is TurnState.NEW:
            return f"no turn ends {outcome.status.name.lower()}"
        if not found.running and outcome.status is TurnState.COMPLETED:
            return f"turn {outcome.turn} of agent {outcome.agent} is completed, and never started"
        problem = cause_problem(outcome, found.running, found.stopped)
        if problem is not None:
            return problem
        if not found.running:
            found.unread = [demoted(mail) for mail in found.unread]
        found.ended, found.outcome, found.running, found.read = outcome.turn, outcome, False, []
        found.stopped, found.returned = None, 0
        return None

    def entry(self, found: Rollout, record: Entry) -> str | None:
        # A thread may still record after the end of its turn or of its agent, and a flush may come before the first
        # turn, or while the next one queues.
        if 0 <= record.turn <= found.ended + 1:
            return None
        return f"turn {record.turn} of agent {record.agent} records an entry, its last one was {found.ended}"

    def come_to(self, ledger: Ledger, covered: int) -> None:
        """Raises `Unsound` if the rollouts so far are not those of the facts of the snapshot at this position."""
        problem = None
        unknown = [number for number in self.agents if not 0 <= number < len(ledger.agents)]
        if unknown:
            problem = f"there is a rollout of agent {unknown[0]}, which the snapshot does not know"
        for agent in ledger.agents:
            problem = problem or self._differs(ledger, agent)
        dead, accepted = ledger.mail_states[MailState.DEAD], ledger.next_mail
        if problem is None and self.last_mail >= accepted:
            problem = f"mail {self.last_mail} is in a rollout, the snapshot knows of {accepted} mails"
        lost = accepted - self.mails + self.dropped  # buried notices, and mail that was unread at a close
        has_forgotten = any(agent.identity is Identity.FORGOTTEN for agent in ledger.agents)  # and so its mail
        if problem is None and lost > dead and not has_forgotten:
            problem = f"{lost} mails are in no rollout, or neither read nor unread, and {dead} are dead letters"
        if problem is not None:
            raise Unsound(covered, None, f"the snapshot is not what the rollouts before it come to: {problem}")

    def _differs(self, ledger: Ledger, agent: Agent) -> str | None:
        found = self.agents.get(agent.id)
        if agent.identity is Identity.FORGOTTEN:
            return None if found is None else f"agent {agent.id} is forgotten, and has a rollout"
        if found is None:
            if agent.id != ROOT:
                return f"agent {agent.id} has no rollout"
            found = self.agents[agent.id] = Rollout()
        status, turn = durable_turn(ledger, agent)
        ours = (found.ended + found.running, status_of(found), found.outcome)
        if ours != (turn, status, agent.outcome):
            return f"of agent {agent.id} it says {said(turn, status, agent.outcome)}; its rollout says {said(*ours)}"
        unread = [mail for mail in found.unread if mail.mail not in found.perhaps or mail in agent.mailbox]
        for what, facts, rollout in (
            ("are unread", agent.mailbox, tuple(unread)),
            ("asked for its turn", requests(agent.taken), requests(tuple(found.read))),
        ):
            if facts != rollout[len(rollout) - len(facts) :]:
                numbers = [mail.mail for mail in rollout]
                return f"of agent {agent.id} it says that mails {[m.mail for m in facts]} {what}, its rollout {numbers}"
        known = (ledger.stops.get(agent.id), ledger.attempts.get(agent.id, 0))
        if known != (found.stopped, found.returned):
            return f"of agent {agent.id} it says {known}, its rollout {(found.stopped, found.returned)}"
        self.dropped += len(unread) - len(agent.mailbox)
        found.unread = [*agent.mailbox]
        return None


def cause_problem(outcome: Outcome, started: bool, stopped: TurnStopped | None) -> str | None:
    """Returns why this turn cannot have ended by its cause, or None. `stopped` says that it was asked to stop."""
    cause = outcome.cause
    what = f"turn {outcome.turn} of agent {outcome.agent} ended {outcome.status.name.lower()} by {cause.name}"
    if outcome.status not in STATUSES[cause] or (outcome.by is not None and cause not in ASKED):
        return what + ("" if outcome.by is None else f" of {outcome.by}")
    if cause in (OF_STARTED, OF_NOT_STARTED)[started]:
        return f"{what}, and {'had' if started else 'never'} started"
    if stopped is not None and cause in OF_STOPPED and (cause, outcome.by) != (stopped.cause, stopped.by):
        return f"{what}, and was asked to stop by {stopped.cause.name}"
    return None


OF_STOPPED = (Cause.INTERRUPTED, Cause.SHUT_DOWN, Cause.TIMED_OUT, Cause.CRASHED)
"""Causes by which a turn ends because it was asked to stop for that, or (CRASHED) was not asked to stop."""
OF_STARTED = (Cause.FINISHED, Cause.FAILED, Cause.NOT_STOPPED, *OF_STOPPED)
OF_NOT_STARTED = (Cause.LOAD_DIED, Cause.NO_ROOM, Cause.NOT_STARTED, Cause.WITHDRAWN, Cause.LOADS_LOST)
"""Causes that end only turns that had started, and causes that end only turns that had not."""


def answer_problem(outcome: Outcome, agent: int) -> str | None:
    """Returns why this cannot be the answer to mail that the agent does not read as a request any more, or None."""
    is_one = outcome.agent == agent and outcome.cause in (Cause.NOT_STARTED, Cause.WITHDRAWN)
    return None if is_one else f"{outcome!r:.200} answers no mail of agent {agent} that is unread"


def status_of(found: Rollout) -> TurnState:
    """Returns the durable status of the agent with this rollout."""
    if found.running:
        return RUNNING
    return TurnState.NEW if found.outcome is None or found.returned else found.outcome.status


def said(turn: int, status: TurnState, outcome: Outcome | None) -> str:
    """Returns in words what a snapshot or a rollout says of turns."""
    last = "" if outcome is None else f", the last to end {outcome.turn} {outcome.status.name} {outcome.result!r:.100}"
    return f"turn {turn} is {status.name}{last}"


IN_ROLLOUT: dict[type, Callable[[Rollouts, Rollout, Any], str | None]] = {
    MailAccepted: Rollouts.accepted,
    MailWithdrawn: Rollouts.withdrawn,
    MailDemoted: Rollouts.demoted,
    TurnStarted: Rollouts.started,
    MailDrained: Rollouts.drained,
    MailRead: Rollouts.read,
    TurnStopped: Rollouts.stopped,
    TurnReturned: Rollouts.returned,
    TurnEnded: Rollouts.ended,
    Entry: Rollouts.entry,
}
