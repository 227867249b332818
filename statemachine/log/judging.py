"""Judges facts and records that were read: can a session have them, by its rules and its other facts?

What is read has the right types (`strict.py`), and may be wrong still, because a file was damaged or changed: an agent
that never was, a status that no durable fact has, a name that no agent may have. What uses that later would fail in
the middle of a session. Here it is told before, with the agent that it is about.

Judged is what costs little: every opening does it, for every agent. What no session can have written though each
part of it could be, is for the audit (`model/audits/audit.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from statemachine.core import rules
from statemachine.core.agents import Agent
from statemachine.core.events import HOST, ROOT
from statemachine.core.ledger import Ledger
from statemachine.core.machines import Identity, TurnState
from statemachine.core.records import (
    RECORDS,
    AgentResumed,
    AgentsClosed,
    AgentsForgotten,
    AgentSpawned,
    Cause,
    LoadBegun,
    MailAccepted,
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
from statemachine.core.residency import NO_AGENT
from statemachine.log.agent_facts import AgentFacts

OPEN, CLOSED, FORGOTTEN = Identity.OPEN, Identity.CLOSED, Identity.FORGOTTEN
NEW, COMPLETED, ERRORED = TurnState.NEW, TurnState.COMPLETED, TurnState.ERRORED
INTERRUPTED, RUNNING = TurnState.INTERRUPTED, TurnState.RUNNING
MAY_STOP = (Cause.INTERRUPTED, Cause.TIMED_OUT, Cause.SHUT_DOWN)
"""The causes for which a turn that has started is asked to stop."""


# Facts

IN_NAMES = b"abcdefghijklmnopqrstuvwxyz0123456789_\n"
"""What names with a newline between them consist of."""
NAME_MAX = 64


def wrong_name(facts: Sequence[AgentFacts]) -> AgentFacts | None:
    """Returns the first facts with a name that no agent can have. All are judged at once, which takes a third of the
    time.
    """
    names = [f.name for f in facts]
    if facts and facts[0].agent == ROOT:
        del names[0]
    if not names:
        return None
    joined, lengths = "\n".join(names), {*map(len, names)}
    others = joined.encode("utf-8", "surrogatepass").translate(None, IN_NAMES)
    if others or joined.count("\n") >= len(names) or min(lengths) < 1 or max(lengths) > NAME_MAX or "root" in names:
        # The name of an agent that is forgotten is empty.
        judged = (f for f in facts if f.agent != ROOT and f.identity is not FORGOTTEN)
        return next((f for f in judged if not rules.name_is_valid(f.name)), None)
    return None


def is_ordinary(f: AgentFacts, parent: Agent) -> bool:
    """Tells whether `facts_problem` need not look, as is so of nearly all agents: the agent is open, and its last turn
    has ended.
    """
    outcome = f.outcome
    return (
        outcome is not None
        and outcome.status is f.status
        and outcome.turn == f.turn > 0
        and outcome.agent == f.agent
        and (f.status is COMPLETED or is_end(f.status))
        and f.identity is OPEN
        and parent.identity is OPEN
        and f.closed_by == NO_AGENT
        and f.stopped is None
        and not f.taken
        and not f.attempts
        and not f.loads
    )


def facts_problem(f: AgentFacts, agents: Sequence[Agent]) -> str | None:
    """Returns why no agent can have these facts, or None. `agents` are those before it. Its name and its mail are
    judged by `wrong_name` and `mail_problem`.
    """
    status, outcome, turn = f.status, f.outcome, f.turn
    if f.agent == ROOT:
        if (f.parent, f.name, f.settings, f.identity, f.closed_by) != (NO_AGENT, "root", None, OPEN, NO_AGENT):
            return "the root is open, has no parent and no settings, and is named root"
    elif f.identity is OPEN:
        if agents[f.parent].identity is not OPEN:
            return f"it is open, and its parent {f.parent} is not"
        if f.closed_by != NO_AGENT:
            return f"it is open, and was closed by {f.closed_by}"
    elif problem := _not_open_problem(f, agents):
        return problem
    if outcome is None:
        is_sound = status is NEW or status is RUNNING
    elif status is COMPLETED or status is ERRORED or status is INTERRUPTED:
        is_sound = outcome.status is status and outcome.turn == turn and outcome.agent == f.agent
    else:
        is_sound = (status is NEW or status is RUNNING) and outcome.turn < turn and _is_end(outcome, f.agent)
    if not is_sound or turn < (status is not NEW):
        return f"its turn {turn} cannot be {status.name} after {outcome!r:.200}"
    if f.taken and status is not RUNNING:
        return "mail was read by its turn, and none runs"
    if f.stopped is not None and (status is not RUNNING or not _is_stop(f.stopped, f.agent, turn)):
        return f"its turn {turn} was not asked to stop as {f.stopped!r:.200} says"
    if f.attempts < 0 or f.loads < 0:
        return f"it has {f.attempts} attempts and {f.loads} loads"
    return None


def _not_open_problem(f: AgentFacts, agents: Sequence[Agent]) -> str | None:
    if f.identity is not CLOSED:
        return f"it is {f.identity.name}"
    if agents[f.parent].identity is FORGOTTEN:
        return f"its parent {f.parent} is forgotten, and it is not"
    if f.closed_by == NO_AGENT:
        return "it is closed, and it is not said together with which agent"
    if f.mailbox or f.status is RUNNING:
        return "it is closed, and has unread mail or a turn that runs"
    return None


def _is_end(outcome: Outcome, agent: int) -> bool:
    return outcome.agent == agent and outcome.turn > 0 and is_end(outcome.status)


def _is_stop(stop: TurnStopped, agent: int, turn: int) -> bool:
    return stop.agent == agent and stop.turn == turn and stop.cause in MAY_STOP


def is_end(status: TurnState) -> bool:
    """Tells whether a turn may have ended with this status."""
    return status is COMPLETED or status is ERRORED or status is INTERRUPTED


def references_problem(f: AgentFacts, count: int) -> str | None:
    """Returns which agent the facts name that never was, or None. There are `count` agents."""
    if f.outcome is not None and f.outcome.by is not None and not HOST <= f.outcome.by < count:
        return f"there never was an agent {f.outcome.by}, which ended its turn"
    if f.stopped is not None:
        return record_problem(f.stopped, count)
    return None


def mail_problem(f: AgentFacts, count: int, next_mail: int) -> str | None:
    """Returns why these cannot be the mails of an agent, or None. There are `count` agents, and the mails before the
    number `next_mail`. Unread mail is in order; what a turn has read is not, since it reads of an outcome that it
    awaits before the mail that came earlier.
    """
    last = -1
    for mail in f.mailbox:
        if mail.mail <= last:
            return f"mail {mail.mail} comes after mail {last}"
        last = mail.mail
    for mail in (*f.taken, *f.mailbox):
        if not 0 <= mail.mail < next_mail:
            return f"there never was a mail {mail.mail}: there are {next_mail}"
        if not HOST <= mail.sender < count:
            return f"mail {mail.mail} is from agent {mail.sender}, which never was"
        if mail.notice is not None and (problem := record_problem(mail.notice, count)):
            return f"mail {mail.mail}: {problem}"
    return None


# Records


def record_problem(record: Any, count: int) -> str | None:
    """Returns what in a record, or an outcome, no session with `count` agents can have, or None. Its texts are judged
    in `texts.py`.
    """
    kind = record.__class__
    agents, askers, outcomes = FIELDS[kind]
    for name in agents:
        agent = getattr(record, name)
        if not 0 <= agent < count:
            return f"there never was an agent {agent}"
    for name in askers:
        asker = getattr(record, name)
        if asker is not None and not HOST <= asker < count:
            return f"there never was an agent {asker}"
    for name in outcomes:
        outcome = getattr(record, name)
        if outcome is not None:
            problem = record_problem(outcome, count)
            if problem is not None:
                return problem
    if kind is Outcome:
        return (
            None if is_end(record.status) and record.turn >= 0 else f"no turn {record.turn} ends {record.status.name}"
        )
    if kind is AgentsClosed or kind is AgentsForgotten:
        return next((f"there never was an agent {agent}" for agent in record.agents if not 0 <= agent < count), None)
    if kind is AgentSpawned and not rules.name_is_valid(record.name):
        return f"{record.name!r:.100} is not a name"
    return None


Fields = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]


def _fields_of(kind: type) -> Fields:
    """Returns the fields of a class that are an agent, those that are an agent, HOST or None, and those that are an
    outcome or None. The agent of an `AgentSpawned` is not one yet.
    """
    names = [field.name for field in attrs.fields(kind)]
    agents = ("parent",) if kind is AgentSpawned else ("agent", "target")
    wanted = (agents, ("sender", "by", "below"), ("outcome", "notice"))
    a, b, c = [tuple([name for name in some if name in names]) for some in wanted]
    return a, b, c


FIELDS: dict[type, Fields] = {kind: _fields_of(kind) for kind in (*RECORDS, Outcome)}


def tail_problem(record: Any, ledger: Ledger) -> str | None:
    """Returns why a record cannot follow the facts before it, or None: see `record_problem` too."""
    if record.__class__ not in FIELDS:
        return None  # not a record, which `apply` says
    problem = record_problem(record, len(ledger.agents))
    judge = AFTER.get(record.__class__)
    return problem if problem is not None or judge is None else judge(ledger, record)


def _spawn(ledger: Ledger, record: AgentSpawned) -> str | None:
    if record.agent != len(ledger.agents):
        return f"the next agent is {len(ledger.agents)}"
    parent = ledger.agents[record.parent]
    if parent.identity is not OPEN:
        return f"its parent {parent.id} is not open"
    return _path_problem(ledger, f"{parent.path}/{record.name}")


def _path_problem(ledger: Ledger, path: str) -> str | None:
    holder = ledger.by_path.get(path)
    return None if holder is None else f"agent {holder} is open at {path}"


def _number(ledger: Ledger, record: MailAccepted | NoticeBuried) -> str | None:
    return None if record.mail == ledger.next_mail else f"the next mail is {ledger.next_mail}"


def _accept(ledger: Ledger, mail: MailAccepted) -> str | None:
    return _number(ledger, mail) or _open(ledger, mail.target)


def _open(ledger: Ledger, agent: int) -> str | None:
    return None if ledger.agents[agent].identity is OPEN else f"agent {agent} is not open"


def _start(ledger: Ledger, record: TurnStarted) -> str | None:
    agent = ledger.agents[record.agent]
    if agent.status is RUNNING or record.turn != agent.turn + 1:
        return f"its turn {agent.turn} is {agent.status.name}"
    return _open(ledger, record.agent)


def _at_work(ledger: Ledger, record: MailDrained | MailRead | TurnStopped | TurnReturned) -> str | None:
    agent = ledger.agents[record.agent]
    is_its = agent.status is RUNNING and agent.turn == record.turn
    return None if is_its else f"its turn {agent.turn} is {agent.status.name}"


def _stop(ledger: Ledger, record: TurnStopped) -> str | None:
    if record.cause not in MAY_STOP:
        return f"no turn is asked to stop by {record.cause.name}"
    return _at_work(ledger, record)


def _end(ledger: Ledger, record: TurnEnded) -> str | None:
    agent = ledger.agents[record.outcome.agent]
    is_next = record.outcome.turn == agent.turn + (agent.status is not RUNNING)
    return None if is_next else f"its turn {agent.turn} is {agent.status.name}"


def _withdraw(ledger: Ledger, record: MailWithdrawn) -> str | None:
    mail = ledger.find_unread(record.mail)
    is_its = mail is not None and mail.target == record.agent
    return None if is_its else f"mail {record.mail} is not unread by agent {record.agent}"


def _close(ledger: Ledger, record: AgentsClosed) -> str | None:
    if ROOT in record.agents:
        return "the root is never closed"
    return next((problem for agent in record.agents if (problem := _open(ledger, agent))), None)


def _resume(ledger: Ledger, record: AgentResumed) -> str | None:
    agent = ledger.agents[record.agent]
    if agent.identity is not CLOSED:
        return f"agent {agent.id} is not closed"
    return _open(ledger, agent.parent) or _path_problem(ledger, agent.path)


def _forget(ledger: Ledger, record: AgentsForgotten) -> str | None:
    wrong = (agent for agent in record.agents if ledger.agents[agent].identity is not CLOSED)
    return next((f"agent {agent} is not closed" for agent in wrong), None)


AFTER: dict[type, Callable[[Ledger, Any], str | None]] = {
    AgentSpawned: _spawn,
    MailAccepted: _accept,
    NoticeBuried: _number,
    MailWithdrawn: _withdraw,
    LoadBegun: lambda ledger, record: _open(ledger, record.agent),
    TurnStarted: _start,
    MailDrained: _at_work,
    MailRead: _at_work,
    TurnStopped: _stop,
    TurnReturned: _at_work,
    TurnEnded: _end,
    AgentsClosed: _close,
    AgentResumed: _resume,
    AgentsForgotten: _forget,
}
"""Record class -> how it is judged by the facts before it, once its agents are known to be there. `MailDemoted` and
`LoadEnded` can follow any facts.
"""
