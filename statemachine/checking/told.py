"""Judges what a step does to the outside: the effects and records that its changes need, and no others (S19).

Both are compared with what has become of agents, threads, turns and waits, whatever rule it was that changed them. So a
change that no thread is told of is seen, and so is a word to a thread for which there is no reason.
"""

from __future__ import annotations

from statemachine.checking.moment import Moment
from statemachine.core.agents import Agent
from statemachine.core.effects import Cancel, Flush, Load, ShutDown, Stale, StartTurn, Unload, WaitOver, Wake
from statemachine.core.events import (
    ROOT,
    Aborted,
    Died,
    Failed,
    Finished,
    FlushFailed,
    LoadFailed,
    Shutdown,
    StopWaiting,
    Tick,
    WriteFailed,
)
from statemachine.core.machines import Identity, Residency, SessionState, TurnState
from statemachine.core.records import LoadBegun, TurnEnded, TurnReturned, TurnStarted
from statemachine.core.session import Session

RUNNING, STOPPING, STARTING = TurnState.RUNNING, TurnState.STOPPING, TurnState.STARTING
WORKING = (RUNNING, TurnState.WAITING, TurnState.RETURNING)
RESIDENT, LOADING, UNLOADED = Residency.RESIDENT, Residency.LOADING, Residency.UNLOADED
OPEN, CLOSED, DRAINING = SessionState.OPEN, SessionState.CLOSED, SessionState.DRAINING
FAILED = SessionState.FAILED
JUDGED = (Finished, Failed, Aborted, LoadFailed, Died, Tick)
"""Events of which is told what a turn has come to."""


def s19_told(m: Moment) -> str | None:
    """Loads, starts, stops, flushes, threads that go, wakes, the end of the session. Looks only at what has changed or
    was told of.
    """
    assert m.before is not None
    before, after, kinds = m.before, m.after, m.kinds()
    found = None
    if Load in kinds or before.residents.loading != after.residents.loading:
        found = loads(m)
    if StartTurn in kinds or TurnStarted in kinds:
        found = found or starts(m)
    if Cancel in kinds or before.ledger.stops != after.ledger.stops:
        found = found or stops(m)
    if Flush in kinds or before.residents.last_flush != after.residents.last_flush or after.state is DRAINING:
        found = found or flushes(m)
    if Unload in kinds or m.event.__class__ is Died or m.changed() or before.state is not after.state:
        found = found or threads(m)
    if Wake in kinds or before.waits.pending != after.waits.pending or before.waits.over != after.waits.over:
        found = found or wakes(m)
    if before.state is DRAINING and (TurnEnded in kinds or isinstance(m.event, FlushFailed | Died)):
        found = found or lists(m, before)
    if before.state is not after.state or ShutDown in kinds or m.event.__class__ is WriteFailed:
        found = found or end_of_session(m)
    return found or (reports(m) if isinstance(m.event, JUDGED) else None)


def pairs(m: Moment) -> list[tuple[Agent | None, Agent]]:
    """Every agent, with what it was before, if it was."""
    assert m.before is not None
    before = m.before.agents
    return [(before[a.id] if a.id < len(before) else None, a) for a in m.agents]


def differ(what: str, told: list[tuple[int, ...]], due: list[tuple[int, ...]]) -> str | None:
    """Says what is wrong, if these are not the same, in any order."""
    return None if sorted(told) == sorted(due) else f"{what}: told {told}, by what has become of agents {due}"


def loads(m: Moment) -> str | None:
    """J4: a thread of a new generation is asked to load, and that is on record."""
    assert m.before is not None
    known = m.before.residents.loading
    due: list[tuple[int, ...]] = []
    for agent in m.after.residents.loading:
        a, before = m.agents[agent], m.before.agent(agent)
        if agent not in known or before is None or before.generation != a.generation:
            due.append((agent, a.generation))
    told: list[tuple[int, ...]] = [(e.agent, e.generation) for e in m.of_kind(Load)]
    on_record: list[tuple[int, ...]] = [(r.agent,) for r in m.of_kind(LoadBegun)]
    return differ("loads", told, due) or differ("loads on record", on_record, [load[:1] for load in due])


def starts(m: Moment) -> str | None:
    """J3: each turn that starts is told to its thread, which is in memory."""
    told: list[tuple[int, ...]] = [(e.agent, e.turn) for e in m.of_kind(StartTurn)]
    due: list[tuple[int, ...]] = [(r.agent, r.turn) for r in m.of_kind(TurnStarted)]
    for e in m.of_kind(StartTurn):
        a = m.agents[e.agent]
        if a.turn != e.turn or a.status < RUNNING or e.generation != a.generation:
            return f"turn {e.turn} of agent {a.id} starts on thread {e.generation}, and it is {a.status.name}"
    return differ("starts", told, due)


def stops(m: Moment) -> str | None:
    """A turn that is stopping is asked to, once."""
    assert m.before is not None
    known = m.before.ledger.stops
    due: list[tuple[int, ...]] = [(a, stop.turn) for a, stop in m.after.ledger.stops.items() if a not in known]
    return differ("stops", [(e.agent, e.turn) for e in m.of_kind(Cancel)], due)


def flushes(m: Moment) -> str | None:
    """N3: each flush that begins is asked for, and has the next number; at a shutdown all that rests is flushed."""
    assert m.before is not None
    told = m.of_kind(Flush)
    last, begun = m.before.residents.last_flush, m.after.residents.last_flush
    if [e.flush for e in told] != list(range(last + 1, begun + 1)):
        return f"flushes {last + 1} to {begun} began, asked for are {[e.flush for e in told]}"
    for e in told:
        if e.generation != m.agents[e.agent].generation or m.agents[e.agent].residency is LOADING:
            return f"agent {e.agent} is to flush thread {e.generation}"
    for agent, flush in m.after.residents.flushes.items():
        if flush > last and (agent, flush) not in [(e.agent, e.flush) for e in told]:
            return f"agent {agent} is not asked for flush {flush}"
    return unflushed(m) if m.after.state is DRAINING else None


def unflushed(m: Moment) -> str | None:
    """D14: an agent that was in memory at the shutdown, or whose turn has ended since, is being flushed by now."""
    assert m.before is not None
    began = m.before.state is OPEN
    ended = {r.outcome.agent for r in m.of_kind(TurnEnded)} | {r.agent for r in m.of_kind(TurnReturned)}
    for before, a in pairs(m):
        if before is None or a.residency is not RESIDENT or a.status >= RUNNING or before.residency is not RESIDENT:
            continue
        ran = before.status >= RUNNING and a.id in ended and before.generation == a.generation
        if (began or ran) and a.id not in m.after.residents.flushes:
            return f"the session drains, and agent {a.id}, which rests in memory, is not flushed"
    return None


def threads(m: Moment) -> str | None:
    """A thread that is gone was told so, unless it said so itself; a thread that stays was not."""
    assert m.before is not None
    said = m.event.agent if isinstance(m.event, Died | LoadFailed) else None
    closes = m.after.state is CLOSED and m.before.state is not CLOSED
    due: list[tuple[int, ...]] = []
    for before, a in pairs(m):
        if before is None or before.residency is UNLOADED:
            continue
        if a.id == ROOT:  # it has a new thread at once, which the end of the session may drop, too
            last = max(a.generation, before.generation + closes)
            due += [(ROOT, generation) for generation in range(before.generation, last)][said == ROOT :]
        elif (closes or a.residency is UNLOADED or a.generation != before.generation) and a.id != said:
            due.append((a.id, before.generation))
    told: list[tuple[int, ...]] = [(e.agent, e.generation) for e in m.of_kind(Unload)]
    return differ("threads dropped", told, due)


def wakes(m: Moment) -> str | None:
    """A wait that is over is told to its turn, once, unless the turn is over too."""
    assert m.before is not None
    known, now = m.before.waits, m.after.waits
    told: list[tuple[int, ...]] = [(e.agent, e.wait) for e in m.of_kind(Wake)]
    ended = {r.outcome.agent for r in m.of_kind(TurnEnded)} | {r.agent for r in m.of_kind(TurnReturned)}
    left = {number for over in now.over.values() for number, _ in over}
    before = [(wait.agent, number) for number, wait in known.pending.items()]
    before += [(agent, number) for agent, over in known.over.items() for number, _ in over]
    before += [(w, number) for w, number in begun(m) if number not in now.pending]
    due: list[tuple[int, ...]] = [
        (agent, n) for agent, n in before if agent not in ended and n not in now.pending and n not in left
    ]
    if isinstance(m.event, StopWaiting) and m.step is not None and isinstance(m.step.reply, WaitOver):
        due.remove((m.event.agent, m.event.wait))
    return differ("wakes", told, due)


def begun(m: Moment) -> list[tuple[int, int]]:
    """The wait that began in this step, as (agent, number): none, if it was over at once."""
    number = getattr(m.step.reply, "wait", None) if m.step is not None else None
    return [] if number is None else [(m.event.agent, number)]  # type: ignore[union-attr]


def end_of_session(m: Moment) -> str | None:
    """A session that closes says so, last of all."""
    assert m.before is not None
    assert m.step is not None
    closes = m.after.state is CLOSED and m.before.state is not CLOSED
    told = m.of_kind(ShutDown)
    if len(told) != closes or (closes and m.step.effects[-1] is not told[0]):
        return f"the session is {m.after.state.name}, and told is {told}"
    if closes and isinstance(m.event, Shutdown):
        return "the session is closed at once, and no rollout was flushed"
    if isinstance(m.event, WriteFailed) and m.after.state in (OPEN, DRAINING):
        return f"the store has failed, and the session is {m.after.state.name}"
    return None


def lists(m: Moment, before: Session) -> str | None:
    """D17: the caller of a shutdown is told which turns ended, and which rollouts could not be flushed."""
    was, now = before.draining, m.after.draining
    if was is None or now is None:
        return f"the session was {before.state.name}, and it is not known what its shutdown has come to"
    ended = {r.outcome.agent for r in m.of_kind(TurnEnded)} | {r.agent for r in m.of_kind(TurnReturned)}
    due = sorted([a.id for a in before.agents if a.status >= RUNNING and a.id in ended])
    told = sorted([*now.done[len(was.done) :], *now.interrupted[len(was.interrupted) :]])
    if told != due:
        return f"turns of {due} ended during the shutdown, and its caller is to be told of {told}"
    event = m.event
    if not isinstance(event, FlushFailed | Died) or m.agents[event.agent].identity is not Identity.OPEN:
        return None
    if event.agent not in before.residents.flushes or event.agent in now.unflushed:
        return None
    return f"the rollout of agent {event.agent} is not durable, and the caller of the shutdown is not told so"


def reports(m: Moment) -> str | None:
    """A turn of which a thread reports the end has ended; one whose load failed, too; and one that did not stop in time
    has no thread any more (D4).
    """
    assert m.before is not None
    assert m.step is not None
    event = m.event
    if m.step.reply.__class__ is Stale:
        return None
    ended = {(r.outcome.agent, r.outcome.turn) for r in m.of_kind(TurnEnded)}
    returned = {(r.agent, r.turn) for r in m.of_kind(TurnReturned)}
    if isinstance(event, Finished | Failed | Aborted) and (event.agent, event.turn) not in ended:
        return f"turn {event.turn} of agent {event.agent} has not ended, as its thread said"
    if isinstance(event, LoadFailed | Died):
        before = m.before.agents[event.agent]
        is_lost = before.status is STARTING and before.residency is LOADING
        if (is_lost or before.status >= RUNNING) and (before.id, before.turn) not in ended | returned:
            return f"turn {before.turn} of agent {before.id} goes on without its thread"
    if isinstance(event, Died):
        return returned_in_time(m, m.before)
    if isinstance(event, Tick):
        for agent, turn in ended:
            a = m.before.agent(agent)
            if a is None or a.status is not STOPPING or a.turn != turn:
                continue
            if a.generation == m.agents[agent].generation and m.agents[agent].residency is RESIDENT:
                return f"turn {turn} of agent {agent} did not stop, and its thread is kept"
    return None


def returned_in_time(m: Moment, before: Session) -> str | None:
    """S17: a turn that a death or a crash ends is returned while its agent has attempts left."""
    most = m.config.max_attempts
    if most == 1:
        return None
    lost = before.agents if not isinstance(m.event, Died) else [before.agents[m.event.agent]]
    returned = {r.agent for r in m.of_kind(TurnReturned)}
    for a in lost:
        is_closed = before.live_threads and a.id != ROOT and isinstance(m.event, Died)
        due = a.status in WORKING and before.ledger.attempts.get(a.id, 0) + 1 < most and not is_closed
        if due != (a.id in returned):
            return f"turn {a.turn} of agent {a.id} was {a.status.name}, and is {'not ' * due}returned"
    return None


# States


def s19_moves(m: Moment) -> str | None:
    """J3 to J6: no turn that is starting stands still though it could go on, and none starts during a shutdown."""
    s = m.after
    starting = s.residents.starting
    if not starting:
        return None
    if s.state is DRAINING:
        return f"{list(starting)} are starting, and the session drains"
    if s.state is not OPEN:
        return None
    in_memory = sum(a.residency is not UNLOADED for a in m.agents) - 1
    lost = any(count > (a in s.residents.loading) for a, count in s.ledger.loads.items())
    for agent in starting:
        a = m.agents[agent]
        if a.residency is RESIDENT:
            return f"agent {agent} is in memory, has a slot, and does not start"
        if a.residency is UNLOADED and in_memory < m.config.max_resident and not (lost and s.residents.loading):
            return f"agent {agent} has a slot, there is room in memory, and it is not loaded"
    return None


def s19_work(m: Moment) -> str | None:
    """J1: a turn that has not started has trigger mail to read."""
    for a in m.agents:
        if (a.status is TurnState.QUEUED or a.status is STARTING) and not a.triggers:
            return f"agent {a.id} is {a.status.name}, and no mail asks for its turn"
    return None


def loads_apart(m: Moment) -> str | None:
    """D30: after a crash has cut off a load, loads are made one at a time."""
    s = m.after
    if len(s.residents.loading) < 2 or not m.of_kind(Load):
        return None
    lost = [a for a, count in s.ledger.loads.items() if count > (a in s.residents.loading)]
    return f"{list(s.residents.loading)} load at the same time, after crashes cut off loads of {lost}" if lost else None
