"""Facts of agents as values, so that the part of the log that made them need not be folded again (section 5).

What is kept of an agent are its durable facts, as they would be after a crash: a turn that was requested but has not
started never was, and one that is being stopped still runs. Everything else in a ledger follows from them.

A snapshot is incremental: it holds the agents that were *touched* by a record since the one before. For any run and
any cut, the snapshots so far and the fold of the records after them are the fold of all records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any

from attrs import field

from statemachine.core.agents import Agent
from statemachine.core.config import Notice, SessionConfig
from statemachine.core.events import ROOT
from statemachine.core.facts import fact
from statemachine.core.ledger import ACCEPTED, Ledger
from statemachine.core.machines import Identity, TurnState
from statemachine.core.records import (
    AgentResumed,
    AgentsClosed,
    AgentSpawned,
    MailAccepted,
    MailDrained,
    Outcome,
    TurnEnded,
    TurnStarted,
)

OPEN = Identity.OPEN
QUEUED, STARTING, RUNNING, STOPPING = TurnState.QUEUED, TurnState.STARTING, TurnState.RUNNING, TurnState.STOPPING


AgentTimes = tuple[float | None, float | None, float | None]
"""When an agent was opened or closed last, and when its last turn began and ended: see `times.py`."""


@fact
class AgentFacts:
    """The durable facts of one agent; what they mean is said at `agents.Agent`. `name` is the end of its path. They are
    equal whatever their times are.
    """

    agent: int
    parent: int
    name: str
    settings: str | None
    identity: Identity
    closed_by: int
    status: TurnState
    turn: int
    outcome: Outcome | None
    asked: tuple[MailAccepted, ...]
    mailbox: tuple[MailAccepted, ...]
    times: AgentTimes | None = field(default=None, eq=False)


def facts_of(agent: Agent, times: AgentTimes | None = None) -> AgentFacts:
    """The facts of an agent, whether it is of a live session or of a fold."""
    status, turn = durable_turn(agent)
    name = agent.path[agent.path.rfind("/") + 1 :]
    return AgentFacts(
        agent.id,
        agent.parent,
        name,
        agent.settings,
        agent.identity,
        agent.closed_by,
        status,
        turn,
        agent.outcome,
        agent.asked,
        agent.mailbox,
        times,
    )


def durable_turn(agent: Agent) -> tuple[TurnState, int]:
    """Status and turn number as the log has them."""
    status = agent.status
    if status is QUEUED or status is STARTING:
        return (TurnState.NEW if agent.outcome is None else agent.outcome.status), agent.turn - 1
    return (RUNNING if status is STOPPING else status), agent.turn


def ledger_of(config: SessionConfig, facts: Iterable[AgentFacts], mail_states: Iterable[int]) -> Ledger:
    """The ledger in which exactly these facts hold. Agents come in the order of their ids, without gaps; only the root
    may be left out, if nothing ever happened to it. Raises `ValueError` for facts that no log has.
    """
    ledger = Ledger(config.notice is not Notice.NONE)
    agents = ledger.agents
    with_mail: list[AgentFacts] = []
    for f in facts:
        if f.agent == ROOT and len(agents) == 1 and not with_mail:
            agents[ROOT].status, agents[ROOT].turn, agents[ROOT].outcome = f.status, f.turn, f.outcome
        else:
            _add_agent(ledger, f)
        if f.mailbox or f.asked:
            with_mail.append(f)
    ledger.open_agents = len(ledger.by_path) - 1
    for f in with_mail:
        _add_mail(ledger, f)
    states = list(mail_states)
    if len(states) != len(ledger.mail_states) or min(states) < 0 or states[ACCEPTED] != ledger.mail_states[ACCEPTED]:
        raise ValueError(f"{ledger.mail_states[ACCEPTED]} mails are unread, which {states} does not say")
    ledger.mail_states = states
    ledger.next_mail = sum(states)
    return ledger


def _add_agent(ledger: Ledger, f: AgentFacts) -> None:
    agents = ledger.agents
    if f.agent != len(agents) or not 0 <= f.parent < f.agent:
        raise ValueError(f"agent {f.agent} with parent {f.parent} cannot come after {len(agents)} agents")
    parent = agents[f.parent]
    path = f"{parent.path}/{f.name}"
    agents.append(
        Agent(f.agent, f.parent, path, f.settings, f.identity, f.closed_by, None, f.status, f.turn, f.outcome)
    )
    if parent.children is None:
        parent.children = []
    parent.children.append(f.agent)
    if f.identity is OPEN:
        if path in ledger.by_path:
            raise ValueError(f"agents {ledger.by_path[path]} and {f.agent} are both open at {path}")
        ledger.by_path[path] = f.agent


def _add_mail(ledger: Ledger, f: AgentFacts) -> None:
    """The way the mail came: what the running turn has taken was accepted and read, the rest was accepted. So the
    numbers that follow from it (`triggers`, `promised`) are counted where they always are.
    """
    agent = ledger.agents[f.agent]
    for mail in f.asked:
        ledger.accept(mail)
    ledger.read_mail(agent)
    for mail in f.mailbox:
        ledger.accept(mail)
    if agent.asked != f.asked or agent.mailbox != f.mailbox:
        raise ValueError(f"agent {f.agent} cannot have asked={f.asked} and mailbox={f.mailbox}")


# What a record changes


def touched(records: Iterable[Any], ledger: Ledger) -> set[int]:
    """The agents whose facts the records change, and perhaps some more. `ledger` is that before each of them or at any
    time after it. What is no record of `statemachine.core.records`, such as an entry of a rollout, changes none.
    """
    found: set[int] = set()
    for record in records:
        kind = record.__class__
        if (agent := TOUCHED.get(kind)) is not None:
            found.add(agent(record))
        elif kind is AgentsClosed:
            found.update(_touched_by_close(record, ledger))
    return found


def _touched_by_close(record: AgentsClosed, ledger: Ledger) -> Iterable[int]:
    """Those closed now, and those below that no longer wait for the target to be resumed
    (`Ledger.forget_earlier_close`): before it they were closed by the target, and ever after by themselves.
    """
    found = dict.fromkeys(record.agents)
    line = [record.target]
    for member in line:
        agent = ledger.agents[member]
        line.extend(agent.children or ())
        if agent.closed_by in (record.target, member):
            found[member] = None
    return found


TOUCHED: dict[type, Callable[[Any], int]] = {
    AgentSpawned: attrgetter("agent"),
    MailAccepted: attrgetter("target"),
    TurnStarted: attrgetter("agent"),
    MailDrained: attrgetter("agent"),
    TurnEnded: attrgetter("outcome.agent"),
    AgentResumed: attrgetter("agent"),
}
"""Record class -> the one agent that it touches. `AgentsClosed` touches several, `NoticeBuried` none."""
