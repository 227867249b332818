"""Derives what the cause of an outcome has to be (S8) from the event, and from the session before it.

The core sets the cause where it ends a turn. Here it is derived a second time, from outside: from who reported or
asked, and from the states of turn and thread before.
"""

from __future__ import annotations

import math

from statemachine.checking.moment import Moment
from statemachine.core.agents import Agent
from statemachine.core.deadlines import Bound
from statemachine.core.events import (
    ROOT,
    Aborted,
    Close,
    Died,
    Failed,
    Finished,
    FlushFailed,
    Interrupt,
    LoadFailed,
    Tick,
    Withdraw,
)
from statemachine.core.machines import Residency, TurnState
from statemachine.core.records import AgentsClosed, Cause, Outcome, TurnEnded
from statemachine.core.rules import may_load

COMPLETED, ERRORED, INTERRUPTED = TurnState.COMPLETED, TurnState.ERRORED, TurnState.INTERRUPTED
STARTING, RUNNING, STOPPING, LOADING = TurnState.STARTING, TurnState.RUNNING, TurnState.STOPPING, Residency.LOADING

STATUSES: dict[Cause, tuple[TurnState, ...]] = {
    Cause.FINISHED: (COMPLETED,),
    Cause.FAILED: (ERRORED,),
    Cause.THREAD_DIED: (ERRORED, INTERRUPTED),
    Cause.LOAD_FAILED: (ERRORED,),
    Cause.LOAD_DIED: (ERRORED,),
    Cause.LOAD_TIMED_OUT: (ERRORED,),
    Cause.NO_ROOM: (ERRORED,),
    Cause.INTERRUPTED: (INTERRUPTED,),
    Cause.NOT_STARTED: (INTERRUPTED,),
    Cause.NOT_STOPPED: (INTERRUPTED,),
    Cause.CLOSED: (INTERRUPTED,),
    Cause.SHUT_DOWN: (INTERRUPTED,),
    Cause.CRASHED: (INTERRUPTED,),
    Cause.TIMED_OUT: (INTERRUPTED,),
    Cause.WITHDRAWN: (INTERRUPTED,),
    Cause.LOADS_LOST: (ERRORED,),
}
"""Cause -> the statuses with which a turn may have ended by it."""

ASKED = (Cause.INTERRUPTED, Cause.NOT_STARTED, Cause.NOT_STOPPED, Cause.CLOSED, Cause.WITHDRAWN)
"""The causes for which an outcome may name the agent that asked."""

End = tuple[TurnState, Cause, int | None]
"""Status, cause, and the agent that asked for the end, if one did."""


def wrong_cause(m: Moment) -> str | None:
    """Finds a turn that ended in this step for another cause than its outcome says, or that is stopping for another
    than that of the first request to stop.
    """
    assert m.before is not None
    for record in m.of_kind(TurnEnded):
        outcome: Outcome = record.outcome
        said, true = (outcome.status, outcome.cause, outcome.by), true_end(m, outcome)
        if said != true:
            return f"turn {outcome.turn} of agent {outcome.agent} ended {words(said)}; in truth {words(true)}"
    known = m.before.ledger.stops
    for number, stop in m.after.ledger.stops.items():
        asked = (known[number].cause, known[number].by) if number in known else _asked(m, number)
        if (stop.cause, stop.by) != asked:
            return f"agent {number} is stopped by {who(stop.cause, stop.by)}; in truth by {who(*asked)}"
    return None


def _asked(m: Moment, number: int) -> tuple[Cause, int | None]:
    """Who asked in this step for the turn of the agent to stop, and why."""
    assert m.before is not None
    if isinstance(m.event, Interrupt):
        return Cause.INTERRUPTED, m.event.sender
    at, _ = m.before.deadlines.pending.get((Bound.TURN, number), (math.inf, 0))
    grace, _ = m.before.deadlines.pending.get((Bound.GRACE, ROOT), (math.inf, 0))
    return (Cause.TIMED_OUT, None) if at <= min(grace, m.after.now) else (Cause.SHUT_DOWN, None)


def true_end(m: Moment, outcome: Outcome) -> End:
    """Returns how this turn ended. L1 judges whether there was room."""
    assert m.before is not None
    before, event, number = m.before.agent(outcome.agent), m.event, outcome.agent
    if before is None:
        return ERRORED, Cause.NO_ROOM, None
    lost = m.before.ledger.loads.get(number, 0)
    if outcome.cause is Cause.LOADS_LOST and not may_load(lost, m.config.max_attempts):
        return ERRORED, Cause.LOADS_LOST, None  # in whatever step there was room for its load
    if isinstance(event, Died) and event.agent == number:
        return _end_by_death(before)
    if any(number in closed.agents for closed in m.of_kind(AgentsClosed)):
        return INTERRUPTED, Cause.CLOSED, event.sender if isinstance(event, Close) else None
    if isinstance(event, Withdraw):
        return INTERRUPTED, Cause.WITHDRAWN, event.sender
    if isinstance(event, Interrupt):
        return INTERRUPTED, Cause.NOT_STARTED, event.sender
    if isinstance(event, Finished) and event.agent == number:
        return COMPLETED, Cause.FINISHED, None
    if isinstance(event, Failed) and event.agent == number:
        return ERRORED, event.cause, None
    stop = m.before.ledger.stops.get(number)
    if stop is not None and isinstance(event, Aborted) and event.agent == number:
        return INTERRUPTED, stop.cause, stop.by
    if isinstance(event, LoadFailed) and event.agent == number:
        return ERRORED, Cause.LOAD_FAILED, None
    if stop is not None and isinstance(event, Tick):
        return INTERRUPTED, stop.cause if stop.cause is Cause.TIMED_OUT else Cause.NOT_STOPPED, stop.by
    if isinstance(event, Tick) and before.residency is LOADING:
        return ERRORED, Cause.LOAD_TIMED_OUT, None
    is_room_lost = isinstance(event, FlushFailed | Tick | Died) or number in m.before.residents.tried
    if not may_load(lost, m.config.max_attempts) and not is_room_lost:
        return ERRORED, Cause.LOADS_LOST, None
    return ERRORED, Cause.NO_ROOM, None


def _end_by_death(before: Agent) -> End:
    if before.status in (RUNNING, TurnState.WAITING, TurnState.RETURNING):
        return ERRORED, Cause.THREAD_DIED, None
    if before.status is STARTING and before.residency is LOADING:
        return ERRORED, Cause.LOAD_DIED, None
    return INTERRUPTED, Cause.THREAD_DIED, None


def s8_stops(m: Moment) -> str | None:
    """Checks that a reason to stop is known for each stopping turn, and for no other."""
    stopping = [a.id for a in m.agents if a.status is STOPPING]
    known = m.after.ledger.stops
    return None if stopping == sorted(known) else f"{stopping} are stopping, reasons are known for {sorted(known)}"


def words(end: End) -> str:
    """Returns an end in words, for people."""
    status, cause, by = end
    return f"{status.name} by {who(cause, by)}"


def who(cause: Cause, by: int | None) -> str:
    """A cause and who asked for it, for people."""
    return cause.name if by is None else f"{cause.name} of {by}"
