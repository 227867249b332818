"""Judges what callers see: the answers of `find`, `status` and `list`, and what effects tell (S6, S7, S8).

No answer is believed. In every state, what each of them says of each agent is compared with what the agent is; in
every step, what an agent has become with what the step's records and effects tell of it. Both together say that a
caller sees what an observer of records and effects would expect, whatever an index of the core has.
"""

from __future__ import annotations

from operator import attrgetter

from statemachine.checking.moment import Moment
from statemachine.core.agents import Agent
from statemachine.core.effects import AgentStatus, Listing, StartTurn, Unload
from statemachine.core.events import Died, Flushed, ListAgents, Status
from statemachine.core.machines import Identity, Residency, SessionState, TurnState
from statemachine.core.records import AgentResumed, AgentsClosed, AgentsForgotten, AgentSpawned, TurnEnded

OPEN, FORGOTTEN = Identity.OPEN, Identity.FORGOTTEN
RESIDENT, LOADING = Residency.RESIDENT, Residency.LOADING
FAILED, CLOSED_SESSION = SessionState.FAILED, SessionState.CLOSED
STOPPING = TurnState.STOPPING


def s7_found(m: Moment) -> str | None:
    """Checks that each path leads to the open agent there, loaded or not, and to none if none is open."""
    is_open = {a.path: a.id for a in m.agents if a.identity is OPEN}
    known = {a.path for a in m.agents if a.identity is not FORGOTTEN}
    found = {path: agent for path in known if (agent := m.after.find(path)) is not None}
    return None if found == is_open else f"found by path {found}, open {is_open}"


def s8_answers(m: Moment) -> str | None:
    """Checks that `status` and `list` say what each agent is, loaded or not, open or closed."""
    if m.after.state is FAILED:
        return None  # it answers nothing more
    asked = m.after.fork()
    known = [a for a in m.agents if a.identity is not FORGOTTEN]
    said = {a.id: facts(a) for a in known}
    for agent, expected in said.items():
        reply = asked.handle(Status(agent)).reply
        if reply != expected:
            return f"status says {reply}, and it is {expected}"
    known.sort(key=attrgetter("path", "id"))
    for closed in (False, True):
        reply = asked.handle(ListAgents("/root", closed)).reply
        listed = Listing(tuple([said[a.id] for a in known if closed or a.identity is OPEN]))
        if reply != listed:
            return f"list says {reply}, and there are {listed}"
    return None


def facts(a: Agent) -> AgentStatus:
    """What a caller is to be told of an agent."""
    return AgentStatus(
        agent=a.id,
        path=a.path,
        parent=a.parent,
        open=a.identity is OPEN,
        status=a.status,
        turn=a.turn,
        unread=len(a.mailbox),
        outcome=a.outcome,
        settings=a.settings,
        resident=a.residency is RESIDENT,
    )


def s8_told(m: Moment) -> str | None:
    """Checks that agents are what the records and effects of the step tell: open, at work, with an outcome."""
    return wrong_identity(m) or wrong_turn(m)


def wrong_identity(m: Moment) -> str | None:
    """An agent that is open, closed or forgotten, and no record told so."""
    assert m.before is not None
    told: dict[int, Identity] = {r.agent: OPEN for kind in (AgentSpawned, AgentResumed) for r in m.of_kind(kind)}
    told |= {agent: Identity.CLOSED for r in m.of_kind(AgentsClosed) for agent in r.agents}
    told |= {agent: FORGOTTEN for r in m.of_kind(AgentsForgotten) for agent in r.agents}
    for a in m.agents:
        before = m.before.agent(a.id)
        expected = told.get(a.id, Identity.UNKNOWN if before is None else before.identity)
        if a.identity is not expected:
            return f"agent {a.id} is {a.identity.name}, and was told to be {expected.name}"
    for r in m.of_kind(AgentSpawned):
        if m.agents[r.agent].path != f"{m.agents[r.parent].path}/{r.name}":
            return f"agent {r.agent} was spawned as {r.name} below {r.parent}, and is at {m.agents[r.agent].path}"
    return None


def wrong_turn(m: Moment) -> str | None:
    """An agent whose turn or outcome is not that which a record or an effect told."""
    for e in m.of_kind(StartTurn):
        a = m.agents[e.agent]
        if a.turn != e.turn or a.status < TurnState.RUNNING:
            return f"turn {e.turn} of agent {a.id} was started, and it is {a.status.name} with turn {a.turn}"
    for agent, outcome in {r.outcome.agent: r.outcome for r in m.of_kind(TurnEnded)}.items():
        a = m.agents[agent]
        if a.outcome != outcome or (a.status.is_idle and a.status is not outcome.status):
            return f"a turn of agent {agent} ended with {outcome}, and it is {a.status.name} with {a.outcome}"
    return None


def s6_dropped(m: Moment) -> str | None:
    """Checks by effects that a thread is dropped only when its rollout is durable, or it is of no use any more: it was
    not loaded yet, died, did not stop, or its agent is closed.
    """
    assert m.before is not None
    event = m.event
    for e in m.of_kind(Unload):
        before = m.before.agents[e.agent]
        is_lost = before.residency is LOADING or before.status is STOPPING
        if is_lost or m.agents[e.agent].identity is not OPEN or m.after.state is CLOSED_SESSION:
            continue
        if isinstance(event, Died) and event.agent == e.agent:
            continue
        flush = m.before.residents.flushes.get(e.agent)
        if not (isinstance(event, Flushed) and (event.agent, event.flush) == (e.agent, flush)):
            return f"agent {e.agent} is unloaded, and no report said that its rollout is durable"
    return None
