"""Keeps facts of agents as values, so that the part of the log behind them need not be folded again (section 5).

A snapshot has the durable facts of an agent, as they would be after a crash: a turn that was requested but has not
started is left out, and one that is being stopped still runs. Everything else in a ledger follows from them.

A snapshot is incremental: it holds the agents that were *touched* by a record since the one before. For any run and
any cut, the snapshots so far and the fold of the records after them are the fold of all records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any

from statemachine.core.agents import Agent
from statemachine.core.config import Notice, SessionConfig
from statemachine.core.events import ROOT
from statemachine.core.ledger import ACCEPTED, Ledger, requests
from statemachine.core.machines import Identity, TurnState
from statemachine.core.records import (
    AgentResumed,
    AgentsClosed,
    AgentsForgotten,
    AgentSpawned,
    LoadBegun,
    LoadEnded,
    MailAccepted,
    MailDemoted,
    MailDrained,
    MailRead,
    MailWithdrawn,
    TurnEnded,
    TurnReturned,
    TurnStarted,
    TurnStopped,
)
from statemachine.core.residency import NO_AGENT
from statemachine.log import judging
from statemachine.log.agent_facts import AgentFacts, AgentTimes

__all__ = ["TOUCHED", "AgentFacts", "AgentTimes", "WrongFacts", "durable_turn", "facts_of", "ledger_of", "touched"]

OPEN, FORGOTTEN = Identity.OPEN, Identity.FORGOTTEN
QUEUED, STARTING, RUNNING = TurnState.QUEUED, TurnState.STARTING, TurnState.RUNNING


class WrongFacts(ValueError):
    """These facts of an agent cannot be."""

    def __init__(self, agent: int, problem: str) -> None:
        super().__init__(problem)
        self.agent = agent


def facts_of(ledger: Ledger, agent: Agent, times: AgentTimes | None = None) -> AgentFacts:
    """Returns the facts of an agent, of a live session or of a fold."""
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
        agent.taken,
        agent.mailbox,
        ledger.stops.get(agent.id),
        ledger.attempts.get(agent.id, 0),
        ledger.loads.get(agent.id, 0),
        times,
    )


def durable_turn(agent: Agent) -> tuple[TurnState, int]:
    """Returns status and turn number as the log has them. A turn before this one that left no outcome was returned."""
    status = agent.status
    if status is QUEUED or status is STARTING:
        ended, last = agent.outcome, agent.turn - 1
        return (ended.status if ended is not None and ended.turn == last else TurnState.NEW), last
    return (RUNNING if status > RUNNING else status), agent.turn


def ledger_of(config: SessionConfig, facts: Iterable[AgentFacts], mail_states: Iterable[int]) -> Ledger:
    """Returns the ledger in which exactly these facts hold. Agents come in the order of their ids, without gaps; only
    the root may be left out, if nothing ever happened to it. Raises `ValueError` for facts that no log leads to:
    `WrongFacts` if they are those of one agent.
    """
    ledger = Ledger(config.notice is not Notice.NONE, config.max_attempts > 1)
    agents = ledger.agents
    known = [*facts]
    with_mail: list[AgentFacts] = []
    naming: list[AgentFacts] = []
    closed_by: dict[int, int] = {}
    for f in known:
        if f.closed_by != NO_AGENT:
            closed_by[f.agent] = f.closed_by
        if f.agent == ROOT and len(agents) == 1 and not with_mail:
            _refuse(f, judging.facts_problem(f, agents))
            agents[ROOT].status, agents[ROOT].turn, agents[ROOT].outcome = f.status, f.turn, f.outcome
        else:
            try:
                _add_agent(ledger, f, _closed_by(f, closed_by))
            except ValueError as error:
                missing = f.agent > len(agents)
                raise WrongFacts(len(agents) if missing else f.agent, str(error)) from error
        if f.mailbox or f.taken:
            with_mail.append(f)
        if f.stopped is not None or f.attempts or f.loads:
            _add_attempts(ledger, f)
            naming.append(f)
        elif f.outcome is not None and f.outcome.by is not None:
            naming.append(f)
    if (named := judging.wrong_name(known)) is not None:
        raise WrongFacts(named.agent, f"{named.name!r:.100} is not a name")
    for f in naming:
        _refuse(f, judging.references_problem(f, len(agents)))
    ledger.open_agents = len(ledger.by_path) - 1
    states = list(mail_states)
    next_mail, taken = sum(states), 0
    for f in with_mail:
        taken += len(requests(f.taken))
        _refuse(f, judging.mail_problem(f, len(agents), next_mail))
        try:
            _add_mail(ledger, f)
        except (ValueError, LookupError) as error:
            raise WrongFacts(f.agent, str(error)) from error
    if len(states) != len(ledger.mail_states) or min(states) < 0 or states[ACCEPTED] != ledger.mail_states[ACCEPTED]:
        raise ValueError(f"{ledger.mail_states[ACCEPTED]} mails are unread, which {states} does not say")
    if len(ledger.letters) + len(ledger.requests) < states[ACCEPTED] + taken:
        _refuse_twice(with_mail)
    ledger.mail_states = states
    ledger.next_mail = next_mail
    return ledger


def _refuse(f: AgentFacts, problem: str | None) -> None:
    if problem is not None:
        raise WrongFacts(f.agent, problem)


def _refuse_twice(with_mail: Iterable[AgentFacts]) -> None:
    """Raises `WrongFacts` if a mail is in two places."""
    seen = set[int]()
    for f in with_mail:
        numbers = [mail.mail for mail in (*f.taken, *f.mailbox)]
        before = len(seen)
        seen.update(numbers)
        if len(seen) - before < len(numbers):
            raise WrongFacts(f.agent, f"of its mails {numbers} one is there twice")


def _closed_by(f: AgentFacts, of_others: dict[int, int]) -> int:
    """Returns the agent together with which this one was closed. Earlier versions gave the target of the close."""
    if f.closed_by in (NO_AGENT, f.agent, f.parent):
        return f.closed_by
    return f.parent if of_others.get(f.parent) == f.closed_by else f.agent


def _add_agent(ledger: Ledger, f: AgentFacts, closed_by: int) -> None:
    agents = ledger.agents
    if f.identity is FORGOTTEN and f.agent == len(agents):
        _refuse(f, "it is forgotten, and has mail" if f.mailbox or f.taken else None)
        agents.append(Agent(f.agent, NO_AGENT, "", 0, None, f.identity, status=f.status, turn=f.turn))
        return
    if f.agent != len(agents) or not 0 <= f.parent < f.agent:
        raise ValueError(f"agent {f.agent} with parent {f.parent} cannot come after {len(agents)} agents")
    parent = agents[f.parent]
    if not judging.is_ordinary(f, parent) and (problem := judging.facts_problem(f, agents)) is not None:
        raise ValueError(problem)
    path = f"{parent.path}/{f.name}"
    depth = parent.depth + 1
    agents.append(
        Agent(f.agent, f.parent, path, depth, f.settings, f.identity, closed_by, None, f.status, f.turn, f.outcome)
    )
    if parent.children is None:
        parent.children = []
    parent.children.append(f.agent)
    if f.identity is OPEN:
        if path in ledger.by_path:
            raise ValueError(f"agents {ledger.by_path[path]} and {f.agent} are both open at {path}")
        ledger.by_path[path] = f.agent
    else:
        ledger.keep_closed(agents[f.agent])


def _add_mail(ledger: Ledger, f: AgentFacts) -> None:
    """Repeats how the mail came: the running turn's was accepted and read, the rest was accepted. So `triggers` and
    `promised`, which follow from it, are counted where they always are.
    """
    agent = ledger.agents[f.agent]
    for mail in f.taken:
        ledger.accept(mail)
    ledger.read_mail(agent)
    for mail in f.mailbox:
        ledger.accept(mail)
    if agent.taken != ledger.kept(f.taken) or agent.mailbox != f.mailbox:
        raise ValueError(f"agent {f.agent} cannot have taken={f.taken} and mailbox={f.mailbox}")


def _add_attempts(ledger: Ledger, f: AgentFacts) -> None:
    """What is known of few agents, and so is not kept with each."""
    if f.stopped is not None:
        ledger.stops[f.agent] = f.stopped
    if f.attempts:
        ledger.attempts[f.agent] = f.attempts
    if f.loads:
        ledger.loads[f.agent] = f.loads


# What a record changes


def touched(records: Iterable[Any], ledger: Ledger) -> set[int]:
    """Returns the agents whose facts the records change, and perhaps some more. `ledger` may be as before each of them
    or at any time after it. Only records of `statemachine.core.records` change facts; an entry of a rollout does not.
    """
    found: set[int] = set()
    for record in records:
        kind = record.__class__
        if kind is MailAccepted:  # every turn has one of each of these three, so they stand here
            found.add(record.target)
        elif kind is TurnStarted:
            found.add(record.agent)
        elif kind is TurnEnded:
            found.add(record.outcome.agent)
        elif (agent := TOUCHED.get(kind)) is not None:
            found.add(agent(record))
        elif kind is AgentsClosed:
            found.update(_touched_by_close(record, ledger))
        elif kind is AgentsForgotten:
            found.update(record.agents)
    return found


def _touched_by_close(record: AgentsClosed, ledger: Ledger) -> Iterable[int]:
    """Returns the agents closed now, and those right below that no longer wait for their parent to be resumed
    (`Ledger.close`): before it they were closed with the parent, afterwards by themselves.
    """
    found = dict.fromkeys(record.agents)
    for member in record.agents:
        for child in ledger.agents[member].children or ():
            if ledger.agents[child].closed_by in (member, child):
                found[child] = None
    return found


TOUCHED: dict[type, Callable[[Any], int]] = {
    AgentSpawned: attrgetter("agent"),
    MailAccepted: attrgetter("target"),
    TurnStarted: attrgetter("agent"),
    MailDrained: attrgetter("agent"),
    MailWithdrawn: attrgetter("agent"),
    TurnEnded: attrgetter("outcome.agent"),
    TurnStopped: attrgetter("agent"),
    TurnReturned: attrgetter("agent"),
    MailRead: attrgetter("agent"),
    MailDemoted: attrgetter("agent"),
    LoadBegun: attrgetter("agent"),
    LoadEnded: attrgetter("agent"),
    AgentResumed: attrgetter("agent"),
}
"""Record class -> the one agent that it touches. `AgentsClosed` and `AgentsForgotten` touch several agents,
`NoticeBuried` none.
"""
