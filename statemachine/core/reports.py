"""What threads report, and the passing of time (semantics.md section 4, threads report; L5).

A report about a generation, turn or flush that is not the current one is ignored and counted (S9). When a bound is
over, what it bounded is treated as a failed report; a thread that did not answer a load or a stop is dropped, because
it may still be at work (decision D4).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from statemachine.core import joint, rules, turns
from statemachine.core.agents import Agent
from statemachine.core.deadlines import Bound
from statemachine.core.effects import Noted, Reply, Stale, Unload, WaitEnd
from statemachine.core.events import (
    ROOT,
    Aborted,
    Died,
    Failed,
    Finished,
    Flushed,
    FlushFailed,
    Loaded,
    LoadFailed,
    Tick,
    WriteFailed,
)
from statemachine.core.machines import Residency, SessionState, TurnState
from statemachine.core.operations import Ending, close_subtree
from statemachine.core.records import Cause
from statemachine.core.residency import NO_AGENT
from statemachine.core.rules import has_attempts_left
from statemachine.core.state import State

LIVING = (SessionState.OPEN, SessionState.DRAINING)
RUNNING, FINISHED = TurnState.RUNNING, Cause.FINISHED
WORKING = (TurnState.RUNNING, TurnState.WAITING, TurnState.RETURNING)
LOADING, UNLOADING, UNLOADED = Residency.LOADING, Residency.UNLOADING, Residency.UNLOADED
NOTED = Noted()


def stale(s: State) -> Reply:
    """Nothing changes."""
    s.stale_reports += 1
    return Stale()


# Threads on their way in and out


def loaded(s: State, event: Loaded) -> Reply:
    """The thread is there: the turn that waits for it starts (J3), or it is idle and evictable."""
    agent = thread(s, event.agent, event.generation)
    if agent is None or agent.residency is not LOADING:
        return stale(s)
    s.residents.loaded(agent)
    s.deadlines.clear(Bound.LOAD, agent.id)
    turns.mark_use(s, agent)
    return NOTED


def load_failed(s: State, event: LoadFailed) -> Reply:
    """The turn that waits for the thread cannot start."""
    agent = thread(s, event.agent, event.generation)
    if agent is None or agent.residency is not LOADING:
        return stale(s)
    load_is_lost(s, agent, event.error, Cause.LOAD_FAILED)
    return NOTED


def load_is_lost(s: State, agent: Agent, error: str, cause: Cause) -> None:
    """No thread; the residency slot is free again."""
    s.residents.load_failed(agent)
    s.deadlines.clear(Bound.LOAD, agent.id)
    if agent.status is TurnState.STARTING:
        turns.end(s, agent, turns.CANNOT_START, f"load failed: {error}", cause)


def flushed(s: State, event: Flushed) -> Reply:
    """The rollout is durable: an agent on its way out is gone."""
    agent = flush_in_flight(s, event.agent, event.generation, event.flush)
    if agent is None:
        return stale(s)
    s.deadlines.clear(Bound.FLUSH, agent.id)
    if agent.residency is UNLOADING:
        s.residents.gone(agent)
        s.effects.append(Unload(agent.id, agent.generation))
    else:
        del s.residents.flushes[agent.id]
    return NOTED


def flush_failed(s: State, event: FlushFailed) -> Reply:
    """The agent stays in memory, and the next candidate is tried (N3)."""
    agent = flush_in_flight(s, event.agent, event.generation, event.flush)
    if agent is None:
        return stale(s)
    flush_is_lost(s, agent)
    return NOTED


def flush_is_lost(s: State, agent: Agent) -> None:
    """N3: resident, most recently used, and not tried again for the same waiting turn."""
    s.deadlines.clear(Bound.FLUSH, agent.id)
    if agent.residency is UNLOADING:
        served = s.residents.keep(agent)
        turns.mark_use(s, agent)
        if served != NO_AGENT:
            s.residents.tried[served] = (*s.residents.tried.get(served, ()), agent.id)
    else:
        del s.residents.flushes[agent.id]
    if s.draining is not None:
        s.draining.to_flush.pop(agent.id, None)
        s.draining.unflushed += (agent.id,)


def died(s: State, event: Died) -> Reply:
    """The thread is lost: its turn with it, if it had one. `LIVE_THREADS`: the agent is closed (decision D2)."""
    agent = thread(s, event.agent, event.generation)
    if agent is None or agent.residency is UNLOADED:
        return stale(s)
    if s.draining is not None and agent.id in s.residents.flushes:
        flush_is_lost(s, agent)
    was_loading = agent.residency is LOADING
    turns.drop_thread(s, agent, tell_thread=False)
    trigger, why, cause = turns.ABORT, "its thread died", Cause.THREAD_DIED
    works = agent.status in WORKING
    failed = s.ledger.attempts.get(agent.id, 0)
    if works and not (s.live_threads and agent.id != ROOT) and has_attempts_left(failed, s.config.max_attempts):
        turns.give_up(s, agent)
        return NOTED
    if works:
        trigger, why = turns.FAIL, f"its thread died: {event.error}"
    elif agent.status is TurnState.STARTING and was_loading:
        trigger, why, cause = turns.CANNOT_START, f"load failed: its thread died: {event.error}", Cause.LOAD_DIED
    if s.live_threads and agent.id != ROOT:
        close_subtree(s, agent.id, Ending(trigger, why, cause))
    elif agent.status >= TurnState.RUNNING or trigger is turns.CANNOT_START:
        turns.end(s, agent, trigger, why, cause)
    return NOTED


def thread(s: State, agent: int, generation: int) -> Agent | None:
    """The agent, if this is its current thread; None: the report is stale."""
    found = s.agent(agent) if s.state in LIVING else None
    return found if found is not None and rules.is_current(generation, found.generation) else None


def flush_in_flight(s: State, agent: int, generation: int, flush: int) -> Agent | None:
    """The agent, if this flush of its current thread is in flight; None: the report is stale (decision D3)."""
    found = thread(s, agent, generation)
    current = s.residents.flushes.get(agent)
    return found if current is not None and rules.is_current(flush, current) else None


# Turns


def finished(s: State, event: Finished) -> Reply:
    """The turn completed, even if it was asked to stop in the meantime."""
    agent = turn(s, event.agent, event.turn)
    if agent is None:
        return stale(s)
    turns.end(s, agent, turns.FINISH, event.result, FINISHED)
    return NOTED


def failed(s: State, event: Failed) -> Reply:
    """The turn raised."""
    agent = turn(s, event.agent, event.turn)
    if agent is None:
        return stale(s)
    turns.end(s, agent, turns.FAIL, event.error, event.cause)
    return NOTED


def aborted(s: State, event: Aborted) -> Reply:
    """The turn stopped as asked. A turn that was not asked to stop cannot abort: the report is stale."""
    agent = turn(s, event.agent, event.turn)
    if agent is None or agent.status is not TurnState.STOPPING:
        return stale(s)
    why = s.ledger.stops[agent.id]
    turns.end(s, agent, turns.ABORT, "interrupted", why.cause, why.by)
    return NOTED


def turn(s: State, agent: int, number: int) -> Agent | None:
    """The agent, if this turn of it has started and is not over; None: the report is stale."""
    if s.state in LIVING and 0 <= agent < len(s.agents):
        found = s.agents[agent]
        if found.status >= RUNNING and rules.is_current(number, found.turn):
            return found
    return None


# Time and the store


def tick(s: State, event: Tick) -> Reply:
    """Time has passed: what is due ends, first due first. What begins now ends with a later tick, even if its bound is
    0, so that a tick ends too.
    """
    if s.now < event.now < math.inf:
        s.now = event.now
    if s.deadlines.heap and s.state in LIVING:
        end_due(s)
    return NOTED


def end_due(s: State) -> None:
    """Ends what is due, first due first."""
    last = s.deadlines.tickets
    waits: list[int] = []
    while (due := s.deadlines.pop_due(s.now, last)) is not None:
        bound, of = due
        if bound is Bound.WAIT:
            waits.append(of)
        else:
            OVERDUE[bound](s, s.agents[of])
    if waits:
        end_overdue(s, waits)


def end_overdue(s: State, waits: list[int]) -> None:
    """Ends waits whose timeout is over (BUG-B38). Conditions that hold by now come first (section 7), and so does that
    nothing can end the wait any more (D26).
    """
    if s.state is SessionState.DRAINING:
        joint.end_waits_while_draining(s)
    else:
        joint.end_waits(s)
    for number in waits:
        if number in s.waits.pending:
            turns.wait_is_over(s, number, WaitEnd.TIMEOUT)


def load_overdue(s: State, agent: Agent) -> None:
    """`load_timeout`: as if the load had failed, and the half-loaded thread is dropped."""
    s.effects.append(Unload(agent.id, agent.generation))
    load_is_lost(s, agent, f"no answer for {s.config.load_timeout} s", Cause.LOAD_TIMED_OUT)


def stop_overdue(s: State, agent: Agent) -> None:
    """`stop_grace`: the turn is interrupted, and its thread, which may still be at work, is dropped (decision D4)."""
    turns.drop_thread(s, agent)
    words = f"interrupted; it did not stop within {s.config.stop_grace} s"
    why = s.ledger.stops[agent.id]
    cause = why.cause if why.cause is Cause.TIMED_OUT else Cause.NOT_STOPPED
    turns.end(s, agent, turns.ABORT, words, cause, why.by)


def turn_overdue(s: State, agent: Agent) -> None:
    """`turn_timeout`: the turn is stopped, whether it waits or not."""
    if agent.status in WORKING:
        turns.stop(s, agent, Cause.TIMED_OUT)


def idle_overdue(s: State, agent: Agent) -> None:
    """`idle_ttl`: unloaded without waiting for pressure."""
    if s.state is SessionState.OPEN:
        turns.evict(s, agent, NO_AGENT)


def grace_overdue(s: State, _: Agent) -> None:
    """The grace of a shutdown: what still runs is interrupted."""
    for agent in [s.agents[number] for number in sorted({*s.slots.holders, *s.slots.lent})]:
        if agent.status in WORKING:
            turns.stop(s, agent, Cause.SHUT_DOWN)


OVERDUE: dict[Bound, Callable[[State, Agent], None]] = {
    Bound.LOAD: load_overdue,
    Bound.FLUSH: flush_is_lost,
    Bound.STOP: stop_overdue,
    Bound.TURN: turn_overdue,
    Bound.IDLE: idle_overdue,
    Bound.GRACE: grace_overdue,
}


def write_failed(s: State, event: WriteFailed) -> Reply:
    """Section 5: no reply, no effect; every later call gets StoreFailed, and the log says what is true."""
    s.fail(event.error)
    return NOTED


REPORTS: dict[type, Callable[[State, Any], Reply]] = {
    Loaded: loaded,
    LoadFailed: load_failed,
    Flushed: flushed,
    FlushFailed: flush_failed,
    Finished: finished,
    Failed: failed,
    Aborted: aborted,
    Died: died,
    Tick: tick,
    WriteFailed: write_failed,
}
