"""Judges the last part of a log record by record, with the facts before each: see `audit.py`.

These are the records behind the last snapshot. None is missing, so everything that facts decide can be judged: which
agents exist and are open, which path is free, which mail number is next, which notice is true.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from statemachine.core import rules
from statemachine.core.events import HOST, ROOT
from statemachine.core.ledger import Ledger
from statemachine.core.machines import Identity, TurnState
from statemachine.core.records import (
    AgentResumed,
    AgentsClosed,
    AgentsForgotten,
    AgentSpawned,
    Cause,
    LoadBegun,
    LoadEnded,
    MailAccepted,
    MailDemoted,
    MailDrained,
    MailRead,
    MailWithdrawn,
    NoticeBuried,
    Outcome,
    TurnEnded,
    TurnReturned,
    TurnStarted,
    TurnStopped,
)
from statemachine.log.recovery import apply
from statemachine.stores.protocol import Entry, LogRecord

OPEN, RUNNING = Identity.OPEN, TurnState.RUNNING


class Tail:
    """Judges each record by the facts before it, then adds it to them."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.spawned: int | None = None
        """The agent whose first mail has to be the next record."""
        self.ending: set[int] = set()
        """Closed agents whose turn has not ended."""
        self.not_asked: set[int] = set()
        """Agents of whose trigger mail some was withdrawn or demoted: a turn that had not started may end of that."""
        self.answers: dict[int, Outcome] = {}
        """Agent -> what answered its requests that were demoted last."""

    def judge(self, record: LogRecord) -> str | None:
        """Takes one more record. Returns what is wrong with it, or None; then it is among the facts."""
        if isinstance(record, Entry):
            return None  # it changes no facts
        if self.spawned is not None and (not isinstance(record, MailAccepted) or record.target != self.spawned):
            return f"agent {self.spawned} was spawned, and this is not its first mail"
        problem = IN_TAIL[record.__class__](self, record)
        if problem is None:
            try:
                apply(self.ledger, record)
            except Exception as error:  # facts may be wrong in ways not checked here
                problem = f"it cannot follow what comes before it: {error!r}"
        return problem

    def knows(self, agent: int) -> bool:
        return 0 <= agent < len(self.ledger.agents)

    def is_open(self, agent: int) -> bool:
        return self.knows(agent) and self.ledger.agents[agent].identity is OPEN

    def spawn(self, record: AgentSpawned) -> str | None:
        if record.agent != len(self.ledger.agents):
            return f"agent {record.agent} is spawned, the next one is {len(self.ledger.agents)}"
        if not self.is_open(record.parent):
            return f"its parent {record.parent} is not open"
        if not rules.name_is_valid(record.name):
            return f"{record.name!r:.80} is not a name"
        self.spawned = record.agent
        return self.path_is_taken(f"{self.ledger.agents[record.parent].path}/{record.name}")

    def path_is_taken(self, path: str) -> str | None:
        holder = self.ledger.by_path.get(path)
        return None if holder is None else f"agent {holder} is open at {path}"

    def accept(self, mail: MailAccepted) -> str | None:
        if mail.mail != self.ledger.next_mail:
            return f"mail {mail.mail} is accepted, the next one is {self.ledger.next_mail}"
        if not self.is_open(mail.target):
            return f"its target {mail.target} is not open"
        if self.spawned is not None and mail.notice is not None:
            return f"the first mail of agent {self.spawned} is a notice"
        self.spawned = None
        if mail.notice is not None:
            problem = "a notice has a text" if mail.message else None
            return problem or self.notice(mail.notice, mail.sender, mail.target)
        if mail.sender != HOST and not self.is_open(mail.sender):
            return f"its sender {mail.sender} is not open"
        return None if mail.message else "it has neither text nor outcome"

    def bury(self, record: NoticeBuried) -> str | None:
        if record.mail != self.ledger.next_mail:
            return f"mail {record.mail} is accepted, the next one is {self.ledger.next_mail}"
        if not self.knows(record.target) or self.is_open(record.target):
            return f"its target {record.target} is not closed"
        return self.notice(record.notice, record.notice.agent, record.target)

    def notice(self, notice: Outcome, sender: int, target: int) -> str | None:
        """Checks that the sender's last turn ended like this, and that the notice goes to another agent."""
        if notice.agent != sender or not self.knows(sender):
            return f"it is not from agent {notice.agent}, of which it tells"
        if notice not in (self.ledger.agents[sender].outcome, self.answers.get(sender)):
            return f"the last turn of agent {notice.agent} did not end like that"
        return "it is a notice to itself" if sender == target else None

    def end(self, record: TurnEnded) -> str | None:
        outcome = record.outcome
        if outcome.by not in (None, HOST) and not self.knows(outcome.by):
            return f"it was ended by agent {outcome.by}, which does not exist"
        if self.is_open(outcome.agent):
            agent = self.ledger.agents[outcome.agent]
            was_asked = agent.status is RUNNING or agent.triggers or outcome.agent in self.not_asked
            self.not_asked.discard(outcome.agent)
            return None if was_asked else "it had not started, and nothing asked for it"
        if outcome.agent not in self.ending:
            return f"agent {outcome.agent} is closed, and has no turn"
        self.ending.remove(outcome.agent)
        return None

    def close(self, record: AgentsClosed) -> str | None:
        if record.target == ROOT or not self.is_open(record.target):
            return f"agent {record.target} is the root, or not open"
        line = [record.target]
        for member in line:
            line.extend(child for child in self.ledger.agents[member].children or () if self.is_open(child))
        if sorted(record.agents) != sorted(line) or record.agents[0] != record.target:
            return f"those open at and below it are {sorted(line)}"
        self.ending.update(record.agents)
        return None

    def withdraw(self, record: MailWithdrawn) -> str | None:
        mail = self.ledger.find_unread(record.mail)
        if mail is None or mail.target != record.agent:
            return f"mail {record.mail} is not unread by agent {record.agent}"
        self.not_asked.add(record.agent)
        return self.answer(record.agent, record.outcome, Cause.WITHDRAWN)

    def demote(self, record: MailDemoted) -> str | None:
        self.not_asked.add(record.agent)
        self.answers[record.agent] = record.outcome
        return self.answer(record.agent, record.outcome, Cause.NOT_STARTED)

    def answer(self, agent: int, outcome: Outcome, cause: Cause) -> str | None:
        """Checks the outcome that answers requests of which no turn came."""
        said = (outcome.agent, outcome.status, outcome.cause)
        return None if said == (agent, TurnState.INTERRUPTED, cause) else f"{outcome} is not what answers that"

    def stop(self, record: TurnStopped) -> str | None:
        if record.cause not in MAY_STOP:
            return f"no turn is asked to stop by {record.cause.name}"
        agent = self.ledger.agents[record.agent] if self.knows(record.agent) else None
        if agent is None or agent.status is not RUNNING or agent.turn != record.turn:
            return f"turn {record.turn} of agent {record.agent} does not run"
        unknown = [one for one in (record.by, record.below) if one not in (None, HOST) and not self.knows(one)]
        return f"there is no agent {unknown[0]}" if unknown else None

    def give_up(self, record: TurnReturned) -> str | None:
        return "it was asked to stop" if record.agent in self.ledger.stops else None

    def load(self, record: LoadBegun) -> str | None:
        return None if self.is_open(record.agent) else f"agent {record.agent} is not open"

    def end_load(self, record: LoadEnded) -> str | None:
        return None if record.agent in self.ledger.loads else f"no load of agent {record.agent} has begun"

    def forget(self, record: AgentsForgotten) -> str | None:
        if not self.knows(record.target) or self.ledger.agents[record.target].identity is not Identity.CLOSED:
            return f"agent {record.target} is not closed"
        line = [record.target]
        for member in line:
            line.extend(self.ledger.agents[member].children or ())
        if sorted(record.agents) != sorted(line) or record.agents[0] != record.target:
            return f"it and those below it are {sorted(line)}"
        return None

    def resume(self, record: AgentResumed) -> str | None:
        if not self.knows(record.agent) or self.is_open(record.agent):
            return f"agent {record.agent} is not closed"
        agent = self.ledger.agents[record.agent]
        if not self.is_open(agent.parent):
            return f"its parent {agent.parent} is not open"
        return self.path_is_taken(agent.path)


MAY_STOP = (Cause.INTERRUPTED, Cause.TIMED_OUT, Cause.SHUT_DOWN)
"""The causes for which a turn that has started is asked to stop."""

IN_TAIL: dict[type, Callable[[Tail, Any], str | None]] = {
    AgentSpawned: Tail.spawn,
    MailAccepted: Tail.accept,
    NoticeBuried: Tail.bury,
    TurnStarted: lambda *_: None,  # only with unread mail, so its agent is open
    MailDrained: lambda *_: None,
    MailRead: lambda *_: None,
    MailWithdrawn: Tail.withdraw,
    MailDemoted: Tail.demote,
    LoadBegun: Tail.load,
    LoadEnded: Tail.end_load,
    TurnStopped: Tail.stop,
    TurnReturned: Tail.give_up,
    TurnEnded: Tail.end,
    AgentsClosed: Tail.close,
    AgentResumed: Tail.resume,
    AgentsForgotten: Tail.forget,
}
