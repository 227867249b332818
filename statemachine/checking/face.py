"""Judges what callers see: what `find`, `status`, `list` and `resume` answer, and effects tell (S6, S7, S8, S10).

No answer is believed. In every state, what each of them says of each agent is compared with what the agent is; in
every step, what an agent has become with what the step's records and effects tell of it. Both together say that a
caller sees what an observer of records and effects would expect, whatever an index of the core has.
"""

from __future__ import annotations

from operator import attrgetter

from statemachine.checking.moment import Moment
from statemachine.core.agents import Agent
from statemachine.core.effects import AgentStatus, Listing, Resumed, StartTurn, Unload
from statemachine.core.events import Died, Flushed, ListAgents, Resume, Status
from statemachine.core.machines import Identity, Residency, SessionState, TurnState
from statemachine.core.records import AgentResumed, AgentsClosed, AgentsForgotten, AgentSpawned, TurnEnded
from statemachine.core.session import HANDLERS

OPEN, CLOSED, FORGOTTEN, UNKNOWN = Identity.OPEN, Identity.CLOSED, Identity.FORGOTTEN, Identity.UNKNOWN
OF_IDENTITY = {AgentSpawned, AgentResumed, AgentsClosed, AgentsForgotten}
RESIDENT, LOADING = Residency.RESIDENT, Residency.LOADING
FAILED, CLOSED_SESSION = SessionState.FAILED, SessionState.CLOSED
STOPPING = TurnState.STOPPING


def s7_found(m: Moment) -> str | None:
    """Checks that each path leads to the open agent there, loaded or not, and to none if none is open."""
    is_open = {a.path: a.id for a in m.agents if a.identity is OPEN}
    known = dict.fromkeys(a.path for a in m.agents if a.identity is not FORGOTTEN)  # in order, for the text told
    found = {path: agent for path in known if (agent := m.after.find(path)) is not None}
    return None if found == is_open else f"found by path {found}, open {is_open}"


def s8_answers(m: Moment) -> str | None:
    """Checks that `status` and `list` say what each agent is, loaded or not, open or closed."""
    if m.after.state is FAILED:
        return None  # it answers nothing more
    asked = m.after.fork()  # by the handlers: `handle` would go on with joint rules, which is not asked here
    known = [a for a in m.agents if a.identity is not FORGOTTEN]
    said = {a.id: facts(a) for a in known}
    for agent, expected in said.items():
        reply = HANDLERS[Status](asked, Status(agent))
        if reply != expected:
            return f"status says {reply}, and it is {expected}"
    known.sort(key=attrgetter("path", "id"))
    for closed in (False, True):
        reply = HANDLERS[ListAgents](asked, ListAgents("/root", closed))
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
    told: dict[int, Identity] = {}
    if not OF_IDENTITY.isdisjoint(m.kinds()):
        told |= {r.agent: OPEN for r in m.of_kind(AgentSpawned)}
        told |= {r.agent: OPEN for r in m.of_kind(AgentResumed)}
        told |= {agent: Identity.CLOSED for r in m.of_kind(AgentsClosed) for agent in r.agents}
        told |= {agent: FORGOTTEN for r in m.of_kind(AgentsForgotten) for agent in r.agents}
    known = m.before.agents
    for a in m.agents:
        expected = told.get(a.id, known[a.id].identity if a.id < len(known) else UNKNOWN)
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


# Resume


def s10_reopened(m: Moment) -> str | None:
    """Checks that a resume opens, or names as skipped, all that is to be opened with its target, and that each closed
    agent is to be opened with its parent if and only if the same close closed both, whatever was skipped since.
    """
    detail = wrong_resume(m) if isinstance(m.event, Resume) else None
    if detail is not None:
        return detail
    assert m.before is not None
    closed = {agent for r in m.of_kind(AgentsClosed) for agent in r.agents}
    for a in m.agents[1:]:
        if a.identity is not CLOSED:
            continue
        if a.id in closed or a.parent in closed:
            expected = a.id in closed and a.parent in closed
        else:
            expected = goes_with_its_parent(m.before.agents, a.id) and m.agents[a.parent].identity is CLOSED
        if goes_with_its_parent(m.agents, a.id) is not expected:
            return f"agent {a.id} is {'not ' * expected}to be opened with {a.parent}, against what closed them"
    return None


def goes_with_its_parent(agents: list[Agent], agent: int) -> bool:
    """Is this closed agent to be opened when its parent is, which is closed, too?"""
    found = agents[agent]
    return found.closed_by == found.parent and agents[found.parent].identity is CLOSED


def wrong_resume(m: Moment) -> str | None:
    """A resume that opened other agents than it had to, skipped one for no reason, or did not name one."""
    assert m.before is not None
    assert m.step is not None
    before, config = m.before.agents, m.config
    reply, event = m.step.reply, m.event
    assert isinstance(event, Resume)
    if not isinstance(reply, Resumed):
        return None
    taken = {a.path for a in before if a.identity is OPEN}
    line, opened, skipped = [event.target], list[int](), list[int]()
    for agent in line:
        most = (config.max_agents, config.execution_cap if m.after.live_threads else None)
        is_full = any(bound is not None and len(taken) > bound for bound in most)  # the root is one of them
        if is_full or before[agent].path in taken:
            skipped.append(agent)
            continue
        opened.append(agent)
        taken.add(before[agent].path)
        if m.after.live_threads:
            line += [child for child in before[agent].children or () if goes_with_its_parent(before, child)]
    told = [r.agent for r in m.of_kind(AgentResumed)]
    if [*reply.agents] != opened or [*reply.skipped] != skipped or told != opened:
        return f"{told} were opened, and told were {reply.agents} and {reply.skipped}; due are {opened} and {skipped}"
    paths = [tuple([before[agent].path for agent in agents]) for agents in (opened, skipped)]
    return None if [reply.paths, reply.skipped_paths] == paths else f"told were paths other than {paths}"
