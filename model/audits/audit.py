"""Judges the log of a session record by record: could a session have written each of them where it stands?

A log holds no events, so it cannot be replayed. What can be judged is what remains in it (section 5):

- Of the *rollouts*, which stay for ever: turns of an agent count from 1 without gaps and never run two at once; mail
  numbers go up; nothing comes before an agent's first mail, and nothing is recorded by a turn that has not begun.
- Of the *tail*, the records behind the last snapshot, everything that the facts decide: who is there and open, which
  path is free, what is unread, which notice is true.
- Of the *snapshot* between them: that the rollouts before it come to its facts. Which agents were closed and opened
  again before it is not in the log any more, so unread mail may have become dead letters there, but none may appear.

Then the session is recovered, every property is judged, and the reference has to recover to the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from attrs import define, field

from statemachine.checking import properties
from statemachine.checking.causes import ASKED, STATUSES
from statemachine.core.agents import Agent
from statemachine.core.config import SessionConfig
from statemachine.core.events import HOST, ROOT
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
    """Number of the last turn that ended or was returned."""
    outcome: Outcome | None = None
    """Of the last turn that ended."""
    was_returned: bool = False
    """Whether the last turn was returned."""
    running: bool = False
    forgettable: set[int] = field(factory=set[int])
    """Mails, not requests, that a returned turn had read. They are unread again, unless the configuration of that time
    returned no turns, and so did not keep them.
    """
    read: list[MailAccepted] = field(factory=list[MailAccepted])
    """Mail that the running turn has read."""
    unread: list[MailAccepted] = field(factory=list[MailAccepted])

    def take(self) -> None:
        """Has the running turn read all unread mail."""
        self.read += self.unread
        self.unread = []


class Rollouts:
    """Judges all rollouts, side by side as the log has them."""

    def __init__(self) -> None:
        self.agents: dict[int, Rollout] = {}
        self.mails = 0
        self.last_mail = -1
        self.asked = 0
        """Requests of other agents, less the notices that answered some: so many notices at most found a closed
        requester.
        """
        self.dropped = 0
        """Dead letters: mails that were withdrawn, or that no turn has read and that are not unread in the snapshot."""

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
        if mail.notice is not None:
            self.asked -= 1
        elif mail.kind is TRIGGER and mail.sender not in (HOST, mail.target):
            self.asked += 1
        found.unread.append(mail)
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
        if not found.running or record.turn != found.ended + 1:
            return f"turn {record.turn} of agent {record.agent} reads mail, and does not run"
        if not found.unread:
            return f"turn {record.turn} of agent {record.agent} reads mail, and none was unread"
        found.take()
        return None

    def read(self, found: Rollout, record: MailRead) -> str | None:
        if not found.running or record.turn != found.ended + 1:
            return f"turn {record.turn} of agent {record.agent} reads mail, and does not run"
        mails = [mail for mail in found.unread if mail.mail in record.mails]
        if len(mails) != len(record.mails) or not mails:
            return f"turn {record.turn} of agent {record.agent} reads mails {[*record.mails]}, and not all were unread"
        found.read += mails
        found.unread = [mail for mail in found.unread if mail not in mails]
        return None

    def withdrawn(self, found: Rollout, record: MailWithdrawn) -> str | None:
        left = [mail for mail in found.unread if mail.mail != record.mail]
        if len(left) == len(found.unread):
            return f"mail {record.mail} is withdrawn, and was not unread"
        found.unread = left
        self.dropped += 1
        return None

    def demoted(self, found: Rollout, record: MailDemoted) -> str | None:
        known = {mail.mail for mail in found.unread if mail.kind is TRIGGER}
        if not record.mails or not known.issuperset(record.mails):
            return f"mails {[*record.mails]} are demoted, and not all were unread trigger mail"
        found.unread = [demoted(mail) if mail.mail in record.mails else mail for mail in found.unread]
        return None

    def returned(self, found: Rollout, record: TurnReturned) -> str | None:
        if not found.running or record.turn != found.ended + 1:
            return f"turn {record.turn} of agent {record.agent} is returned, and does not run"
        kept = requests(tuple(found.read))
        found.forgettable |= {mail.mail for mail in found.read if mail not in kept}
        found.unread = sorted([*found.read, *found.unread], key=lambda mail: mail.mail)
        found.ended, found.was_returned, found.running, found.read = record.turn, True, False, []
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
        problem = cause_problem(outcome, found.running)
        if problem is not None:
            return problem
        if not found.running:
            found.unread = [demoted(mail) for mail in found.unread]
        found.ended, found.outcome, found.running, found.read = outcome.turn, outcome, False, []
        found.was_returned = False
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
            if agent.identity is not Identity.FORGOTTEN:
                problem = problem or self._differs(agent)
        dead, accepted = ledger.mail_states[MailState.DEAD], ledger.next_mail
        if problem is None and self.last_mail >= accepted:
            problem = f"mail {self.last_mail} is in a rollout, the snapshot knows of {accepted} mails"
        lost = accepted - self.mails + self.dropped  # buried notices, and mail that was unread at a close
        knows_all = not any(agent.identity is Identity.FORGOTTEN for agent in ledger.agents)
        if problem is None and lost > dead and knows_all:
            problem = f"{lost} mails are in no rollout, or neither read nor unread, and {dead} are dead letters"
        buried = accepted - self.mails
        if problem is None and buried > self.asked and knows_all:
            problem = f"{buried} mails are in no rollout, and at most {self.asked} notices can be dead letters"
        if problem is not None:
            raise Unsound(covered, None, f"the snapshot is not what the rollouts before it come to: {problem}")

    def _differs(self, agent: Agent) -> str | None:
        found = self.agents.get(agent.id)
        if found is None:
            if agent.id != ROOT:
                return f"agent {agent.id} has no rollout"
            found = self.agents[agent.id] = Rollout()
        status, turn = durable_turn(agent)
        idle = TurnState.NEW if found.was_returned else status_of(found.outcome)
        ours = (found.ended + found.running, RUNNING if found.running else idle, found.outcome)
        if ours != (turn, status, agent.outcome):
            return f"of agent {agent.id} it says {said(turn, status, agent.outcome)}; its rollout says {said(*ours)}"
        unread = tuple([m for m in found.unread if m.mail not in found.forgettable or m in agent.mailbox])
        read = tuple(found.read)
        for what, facts, rollout in (
            ("are unread", agent.mailbox, unread),
            ("were read by its turn", agent.taken, read if agent.taken == read else requests(read)),
        ):
            if facts != rollout[len(rollout) - len(facts) :]:
                numbers = [mail.mail for mail in rollout]
                return f"of agent {agent.id} it says that mails {[m.mail for m in facts]} {what}, its rollout {numbers}"
        self.dropped += len(unread) - len(agent.mailbox)
        found.unread = [*agent.mailbox]
        return None


def cause_problem(outcome: Outcome, started: bool) -> str | None:
    """Returns why this turn cannot have ended by its cause, or None."""
    cause = outcome.cause
    what = f"turn {outcome.turn} of agent {outcome.agent} ended {outcome.status.name.lower()} by {cause.name}"
    if outcome.status not in STATUSES[cause] or (outcome.by is not None and cause not in ASKED):
        return what + ("" if outcome.by is None else f" of {outcome.by}")
    if cause in (OF_STARTED, OF_NOT_STARTED)[started]:
        return f"{what}, and {'had' if started else 'never'} started"
    return None


OF_STARTED = (
    *(Cause.FINISHED, Cause.FAILED, Cause.INTERRUPTED, Cause.NOT_STOPPED, Cause.SHUT_DOWN),
    *(Cause.CRASHED, Cause.TIMED_OUT),
)
OF_NOT_STARTED = (Cause.LOAD_DIED, Cause.NO_ROOM, Cause.NOT_STARTED, Cause.WITHDRAWN, Cause.LOADS_LOST)
"""Causes that end only turns that had started, and causes that end only turns that had not."""


def status_of(outcome: Outcome | None) -> TurnState:
    """Returns the status of an agent without a turn."""
    return TurnState.NEW if outcome is None else outcome.status


def said(turn: int, status: TurnState, outcome: Outcome | None) -> str:
    """Returns in words what a snapshot or a rollout says of turns."""
    last = "" if outcome is None else f", the last to end {outcome.turn} {outcome.status.name} {outcome.result!r:.100}"
    return f"turn {turn} is {status.name}{last}"


IN_ROLLOUT: dict[type, Callable[[Rollouts, Rollout, Any], str | None]] = {
    MailAccepted: Rollouts.accepted,
    TurnStarted: Rollouts.started,
    MailDrained: Rollouts.drained,
    MailRead: Rollouts.read,
    MailWithdrawn: Rollouts.withdrawn,
    MailDemoted: Rollouts.demoted,
    TurnReturned: Rollouts.returned,
    TurnEnded: Rollouts.ended,
    Entry: Rollouts.entry,
}
