"""The joint rules (semantics.md section 3), applied after every event until none of them fires.

J1 is asked where mail arrives and turns end (`turns.consider`); here are the rules about waits, slots and residency
slots, and how a shutdown comes to its end. All of them look at the state and none at the event.
The ready queue is served in J2's order, returning and starting turns first come, first served.
"""

from __future__ import annotations

from statemachine.core import rules, turns
from statemachine.core.agents import Agent
from statemachine.core.deadlines import Bound
from statemachine.core.effects import Flush, Load, ShutDown, WaitEnd
from statemachine.core.events import ROOT
from statemachine.core.machines import SESSION, Residency, SessionState, TurnState
from statemachine.core.records import Cause, LoadBegun
from statemachine.core.state import State

RUNNING = TurnState.RUNNING
DRAINED = SESSION.moves("drained")
OPEN_SESSION, DRAINING = SessionState.OPEN, SessionState.DRAINING
RESIDENT, UNLOADED, UNLOADING = Residency.RESIDENT, Residency.UNLOADED, Residency.UNLOADING


def settle(s: State) -> None:
    """The fixed point. It ends, because every pass ends a wait, or takes a turn nearer to its start or to its end."""
    if s.state is OPEN_SESSION:
        slots, waits, residents = s.slots, s.waits, s.residents
        while True:
            if waits.touched:
                end_waits(s)
            if slots.ready or slots.entitled or waits.returning:
                serve(s)
            if not (residents.unsettled and residents.moved and advance(s)):
                return
    elif s.state is DRAINING:
        while end_waits_while_draining(s) or return_turns(s):
            pass
        drain(s)


# Waits


def end_waits(s: State) -> bool:
    """L4: a wait whose condition holds is over, whenever it came to hold (BUG-B36). Of several, the one that began
    first comes first, and its turn returns before the others.
    """
    waits = s.waits
    touched, waits.touched = waits.touched, {}
    is_any_over = False
    for number in sorted(touched):  # those that are over at the same moment return in the order in which they began
        end = turns.wait_end(s, waits.pending[number])
        if end is not None:
            turns.wait_is_over(s, number, end)
            is_any_over = True
    return is_any_over


def end_waits_while_draining(s: State) -> bool:
    """Ends also the waits that only turns which will not start could end. Both kinds are over at the same moment, so
    they stand in one line.
    """
    s.waits.touched = {}
    over: list[tuple[int, WaitEnd]] = []
    for number, wait in s.waits.pending.items():  # in the order in which they began
        end = turns.wait_end(s, wait)
        if end is None and not turns.has_hope(s, wait):
            end = WaitEnd.DRAINING
        if end is not None:
            over.append((number, end))
    for number, end in over:
        turns.wait_is_over(s, number, end)
    return bool(over)


# Slots


def serve(s: State) -> None:
    """J2, J7: gives slots to turns entitled to one, to returning turns and to the ready queue."""
    slots, waits = s.slots, s.waits
    while slots.entitled:
        first = next(iter(slots.entitled))
        del slots.entitled[first]
        turns.admit(s, s.agents[first])
    while slots.ready or waits.returning:
        returns = False
        if waits.returning:
            returns = not slots.is_due(max(1, s.config.max_overtaken))  # decision D20
        if not rules.slot_is_free(slots.held, slots.cap):
            if not waits.lenders:
                return
            if not returns and not rules.may_lend_to_queue(len(slots.lent), s.config.max_resident, slots.cap):
                if not waits.returning:
                    wake_stalled(s)
                    return
                returns = True  # it may not be lent to the queue, so the turn that is due waits a little longer
            turns.lend(s, s.agents[next(iter(waits.lenders))])
        if returns:
            turns.go_on(s, s.agents[next(iter(waits.returning))])
        else:
            turns.admit(s, s.agents[slots.take(s.config.max_overtaken)])


def return_turns(s: State) -> bool:
    """Gives slots, while the session drains, to returning turns alone. Did any turn get one?"""
    slots, waits = s.slots, s.waits
    served = False
    while waits.returning:
        if not rules.slot_is_free(slots.held, slots.cap):
            if not waits.lenders:
                return served
            turns.lend(s, s.agents[next(iter(waits.lenders))])
        turns.go_on(s, s.agents[next(iter(waits.returning))])
        served = True
    return served


def wake_stalled(s: State) -> None:
    """J8: ends the waits of the holder that began to wait last, if every holder waits and no more turns may be in
    memory without a slot.
    """
    lenders = s.waits.lenders
    by_choice = 0
    if len(lenders) == s.slots.held:
        by_choice = len([a for a in lenders if all(wait.is_own_choice for wait in s.waits.of(a))])
    stopping = len([a for a in s.slots.lent if s.agents[a].status is TurnState.STOPPING])
    if rules.is_stalled(len(lenders), s.slots.held, by_choice, stopping):
        for wait in tuple(s.waits.of(next(reversed(lenders)))):
            turns.wait_is_over(s, wait.number, WaitEnd.STALLED)


# Memory


def advance(s: State) -> bool:
    """The first of J3 to J6 that fires, for the turn that has been starting longest. Did any? One at a time, because
    the room that it leaves to others goes to the turn that has been starting longest, too.
    """
    residents = s.residents
    unsettled = residents.unsettled
    for agent_id in residents.in_order() if len(unsettled) > 1 else unsettled:
        agent = s.agents[agent_id]
        if agent.residency is RESIDENT:
            residents.wait_over(agent_id)
            turns.start(s, agent)
        elif agent.residency is UNLOADED:
            if residents.has_room:
                if residents.lost and residents.loading:
                    continue  # one at a time, so that the next crash tells which load was its cause
                load(s, agent)
            elif not make_room(s, agent):
                continue
        elif residents.leaves_for_an_older(agent_id):
            continue
        else:
            keep(s, agent)
        return True
    residents.moved = False
    return False


def load(s: State, agent: Agent) -> None:
    """J4: loads the agent into a free residency slot, unless crashes cut off too many of its loads (BUG-B84)."""
    lost = s.ledger.loads.get(agent.id, 0)
    if not rules.may_load(lost, s.config.max_attempts):
        turns.end(s, agent, turns.CANNOT_START, f"load failed: {lost} crashes cut it off", Cause.LOADS_LOST)
        return
    s.records.append(LoadBegun(agent.id))
    s.ledger.loads[agent.id] = lost + 1
    s.residents.load(agent)
    s.residents.stop_waiting(agent.id)
    s.deadlines.set(Bound.LOAD, agent.id, s.now + s.config.load_timeout)
    s.effects.append(Load(agent.id, agent.generation, agent.settings))


def make_room(s: State, agent: Agent) -> bool:
    """J5: evicts one victim for this turn; waits (False) for what is in transit; or else ends the turn."""
    residents = s.residents
    if residents.room_is_coming(agent.id):
        return False
    tried = residents.tried.get(agent.id, ())
    chosen = residents.victim(s.agents, tried)
    if chosen is not None:
        turns.evict(s, s.agents[chosen], agent.id)
    elif residents.is_in_transit(s.slots.holders):
        return False
    else:
        names = ", ".join(s.agents[candidate].path for candidate in tried)
        turns.end(s, agent, turns.CANNOT_START, f"no residency slot: could not flush {names}", Cause.NO_ROOM)
    return True


def keep(s: State, agent: Agent) -> None:
    """J6: keeps an agent that got a slot on its way out; a younger turn that waited for its room looks further."""
    s.residents.keep(agent)
    s.deadlines.clear(Bound.FLUSH, agent.id)


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
