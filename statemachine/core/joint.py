"""The joint rules (semantics.md section 3), applied after every event until none of them fires.

J1 is asked where mail arrives and turns end (`turns.consider`); here are the rules about waits, slots and residency
slots, and how a shutdown comes to its end. All of them look at the state and none at the event.
Who is first served is first come: the ready queue by request, starting turns by the order in which they got a slot.
"""

from __future__ import annotations

from statemachine.core import rules, turns
from statemachine.core.agents import Agent
from statemachine.core.deadlines import Bound
from statemachine.core.effects import Flush, Load, ShutDown, WaitEnd
from statemachine.core.events import ROOT
from statemachine.core.machines import SESSION, Residency, SessionState, TurnState
from statemachine.core.state import State

DRAINED = SESSION.moves("drained")
OPEN_SESSION, DRAINING = SessionState.OPEN, SessionState.DRAINING
RESIDENT, UNLOADED, UNLOADING = Residency.RESIDENT, Residency.UNLOADED, Residency.UNLOADING


def settle(s: State) -> None:
    """The fixed point. It ends, because every pass takes a turn nearer to its start, or ends it."""
    if s.state is OPEN_SESSION:
        serve(s)
        while s.residents.starting and advance(s):
            pass
    if s.waits:
        end_waits(s)
        if s.slots.ready and s.state is OPEN_SESSION:
            wake_stalled(s)
    if s.state is DRAINING:
        drain(s)


def serve(s: State) -> None:
    """J2: slots to those entitled to one, and to the ready queue."""
    slots = s.slots
    while slots.entitled:
        first = next(iter(slots.entitled))
        del slots.entitled[first]
        turns.admit(s, s.agents[first])
    while slots.ready and rules.slot_is_free(slots.held, slots.cap):
        turns.admit(s, s.agents[slots.ready.popitem(last=False)[0]])


def advance(s: State) -> bool:
    """The first of J3 to J6 that fires, for the turn that has been starting longest. Did any? One at a time, because
    the room that it leaves to others goes to whoever has been starting longest, too.
    """
    for agent_id in s.residents.starting:
        agent = s.agents[agent_id]
        if agent.residency is RESIDENT:
            turns.start(s, agent)
        elif agent.residency is UNLOADED:
            if s.residents.has_room:
                load(s, agent)
            elif not make_room(s, agent):
                continue
        elif agent.residency is UNLOADING:
            keep(s, agent)
        else:
            continue
        return True
    return False


def load(s: State, agent: Agent) -> None:
    """J4: a residency slot is free."""
    s.residents.load(agent)
    s.residents.stop_waiting(agent.id)
    s.deadlines.set(Bound.LOAD, agent.id, s.now + s.config.load_timeout)
    s.effects.append(Load(agent.id, agent.generation, agent.settings))


def make_room(s: State, agent: Agent) -> bool:
    """J5: evict one victim for this turn; or wait for what is in transit; or the turn cannot start. Then its slot goes
    to whoever queues for it, before the next turn needs room.
    """
    residents = s.residents
    if residents.room_is_coming(agent.id):
        return False
    tried = residents.tried.get(agent.id, ())
    chosen = residents.victim(s.agents, tried)
    if chosen is not None:
        turns.evict(s, s.agents[chosen], agent.id)
    elif residents.in_transit_without_slot(s.slots.holders):
        return False
    else:
        names = ", ".join(s.agents[candidate].path for candidate in tried)
        turns.end(s, agent, turns.CANNOT_START, f"no residency slot: could not flush {names}")
        serve(s)
    return True


def keep(s: State, agent: Agent) -> None:
    """J6: the agent got a slot on its way out, so it stays; whoever waited for its residency slot looks further."""
    s.residents.keep(agent)
    s.deadlines.clear(Bound.FLUSH, agent.id)


def end_waits(s: State) -> None:
    """L4: a wait whose condition holds returns, whenever it came to hold (B36)."""
    for agent, waiting in tuple(s.waits.items()):
        end = turns.wait_end(s, agent, waiting.targets)
        if end is not None:
            turns.wake(s, agent, end)


def wake_stalled(s: State) -> None:
    """J7: everybody waits and somebody queues, so whoever began to wait last is woken."""
    waiting = [agent for agent in s.waits if rules.is_counted(agent)]
    if waiting and rules.is_stalled(len(waiting), s.slots.held, len(s.slots.ready)):
        turns.wake(s, waiting[-1], WaitEnd.STALLED)


def drain(s: State) -> None:
    """A shutdown: what rests in memory is flushed; when nothing runs and nothing is in flight, the session closes."""
    draining = s.draining
    assert draining is not None
    for agent_id in tuple(draining.to_flush):
        agent = s.agents[agent_id]
        if agent.residency is not RESIDENT:
            del draining.to_flush[agent_id]  # closed, died, or on its way out
        elif agent.status < TurnState.RUNNING and agent_id not in s.residents.flushes:
            del draining.to_flush[agent_id]
            s.deadlines.set(Bound.FLUSH, agent_id, s.now + s.config.flush_timeout)
            s.effects.append(Flush(agent_id, agent.generation, s.residents.flush(agent)))
    if not draining.to_flush and not s.residents.flushes:
        close_session(s)


def close_session(s: State) -> None:
    """Every thread is dropped, and the caller of `shutdown` is told."""
    draining = s.draining
    assert draining is not None
    s.state = DRAINED[s.state]
    s.deadlines.clear(Bound.GRACE, ROOT)
    for agent in s.agents:
        turns.drop_thread(s, agent)
    s.effects.append(ShutDown(draining.done, draining.interrupted, draining.unflushed))
