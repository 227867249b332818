"""Checks what leases must hold: H1 to H8, as named objects.

A property is judged on *states*, on *steps* (the world before, the event, the world after), on *rounds* (what a tick
and one poll of each live worker lead to, whatever they choose and in whatever order they poll), or on *cycles* of the
graph. It returns None if it holds, or what is wrong. `explore.py` judges; H8 is judged by the tables themselves, which
refuse a move that they do not have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attrs import field, frozen

from statemachine.hosting.machines import LeaseState, WorkerState

from .world import Aim, Event, Life, Link, Phase, Scope, Session, World, held_by

StateJudge = Callable[[World], str | None]
StepJudge = Callable[[World, Event, World], str | None]
RoundJudge = Callable[[Scope, World, World], str | None]


@frozen
class Property:
    """One property. One or two of its judges are there; H4 and H8 have none, since they are about cycles and tables."""

    id: str
    sentence: str
    judged_on: str
    """States, steps, rounds, cycles, or tables."""
    state: StateJudge | None = field(default=None, repr=False)
    step: StepJudge | None = field(default=None, repr=False)
    after_rounds: RoundJudge | None = field(default=None, repr=False)
    """Judges a state (the second world) which `ttl` + 1 rounds and one poll before that (the first) have led to."""


def h1_one_writes(before: World, event: Event, after: World) -> str | None:
    """An append is committed by the owner alone, and no two workers commit with the same epoch."""
    if event.name != "commit":
        return None
    session = before.sessions[event.session]
    flight = session.flights[event.worker]
    assert flight is not None
    if flight.epoch != session.epoch or session.owner != event.worker:
        return f"worker {event.worker} commits, but session {event.session} {belongs(session)}"
    others = {w for epoch, w in session.writers if epoch == flight.epoch} - {event.worker}
    return f"worker {event.worker} commits with the epoch of worker {min(others)}" if others else None


def h2_is_served(scope: Scope, before: World, after: World) -> str | None:
    """What is to be done is owned by a worker that lives and has it open, as long as one has room, and had it when it
    polled.
    """
    waiting = [n for n, s in enumerate(after.sessions) if is_to_be_served(s) and not is_served(after, s)]
    if waiting and any(has_room(scope, before)) and any(has_room(scope, after)):
        return f"a session {belongs(after.sessions[waiting[0]])} and is not served, and a worker has room"
    return None


def h3_nothing_is_lost(world: World) -> str | None:
    """The owner knows every append that was committed."""
    for number, s in enumerate(world.sessions):
        for w, hold in enumerate(s.holds):
            if hold is not None and hold.phase is Phase.OPEN and hold.epoch == s.epoch and hold.known < s.log:
                return f"worker {w} has session {number} open and does not know all that was acknowledged"
    return None


def h5_is_not_forgotten(world: World) -> str | None:
    """A session with something to do never counts as one that needs no owner."""
    for number, s in enumerate(world.sessions):
        if s.is_needy and s.lease is LeaseState.IDLE:
            return f"session {number} has {'open work' if s.work else 'an ask'} and counts as idle"
    return None


def h6_owner_is_there(world: World) -> str | None:
    """A worker that has left, or was buried, owns nothing."""
    for number, s in enumerate(world.sessions):
        if s.lease is LeaseState.OWNED and world.workers[s.owner].state is WorkerState.ABSENT:
            return f"session {number} is owned by worker {s.owner}, which is not there"
    return None


def h6_drain_ends(scope: Scope, before: World, after: World) -> str | None:
    """A worker that was told to end, and lives, has left."""
    left = [w for w, worker in enumerate(after.workers) if worker.is_live and worker.aim is Aim.END]
    return (
        f"a worker that was told to end has {len(held_by(after, left[0]))} sessions, and has not left" if left else None
    )


def h7_is_noticed(before: World, event: Event, after: World) -> str | None:
    """A poll frees the sessions of workers whose connection is gone, but for those with an append under way."""
    if event.name != "poll" or after.workers[event.worker].link is not Link.UP:
        return None
    if after.workers[event.worker].life is Life.DEAD:
        return None
    for number, s in enumerate(after.sessions):
        if s.lease is LeaseState.OWNED and after.workers[s.owner].link is not Link.UP and not any(s.flights):
            return (
                f"worker {event.worker} polls, and leaves session {number} to worker {s.owner}, which has no connection"
            )
    return None


def belongs(session: Session) -> str:
    """Returns the words for whose session it is."""
    return f"belongs to worker {session.owner}" if session.owner >= 0 else "belongs to no worker"


def is_to_be_served(session: Session) -> bool:
    """Whether it needs an owner."""
    return session.is_needy or session.lease is LeaseState.WANTED


def is_served(world: World, session: Session) -> bool:
    """Whether a worker that lives owns it and has it open."""
    if session.lease is not LeaseState.OWNED or not world.workers[session.owner].is_live:
        return False
    hold = session.holds[session.owner]
    return hold is not None and hold.phase is Phase.OPEN and hold.epoch == session.epoch


def has_room(scope: Scope, world: World) -> Iterator[bool]:
    """Yields for each worker that lives and is not to end whether it has fewer sessions than it may have."""
    for w, worker in enumerate(world.workers):
        if worker.is_live and worker.aim is Aim.SERVE:
            yield len(held_by(world, w)) < scope.capacities[w]


H1 = Property(
    "H1",
    "At most one owner can write: an append is committed by the worker that owns the session alone, and no two workers"
    " commit with the same epoch.",
    "steps",
    step=h1_one_writes,
)
H2 = Property(
    "H2",
    "A session with open work, or that was asked for, is owned and open within TTL and one poll, as long as a worker"
    " with room runs and polls.",
    "rounds",
    after_rounds=h2_is_served,
)
H3 = Property(
    "H3",
    "Nothing acknowledged is lost: a worker that owns a session and has opened it knows every append to it.",
    "states",
    state=h3_nothing_is_lost,
)
H4 = Property(
    "H4",
    "No two workers swap a session for ever: where callers ask for nothing and workers poll in time, no cycle claims"
    " one.",
    "cycles",
)
H5 = Property(
    "H5",
    "A session that was asked for, or has open work, is not forgotten: it never counts as one that needs no owner, also"
    " if it is asked for while it is unloaded.",
    "states",
    state=h5_is_not_forgotten,
)
H6 = Property(
    "H6",
    "A drain hands over all: a worker that is told to end leaves within TTL and one poll, and one that is not there"
    " owns nothing.",
    "states and rounds",
    state=h6_owner_is_there,
    after_rounds=h6_drain_ends,
)
H7 = Property(
    "H7",
    "A worker whose connection is gone is found dead by the next poll of any other, without waiting for TTL.",
    "steps",
    step=h7_is_noticed,
)
H8 = Property(
    "H8",
    "Every move of a session and of a worker is one of the tables, so a session changes its owner only by being freed"
    " and claimed.",
    "tables",
)
PROPERTIES = (H1, H2, H3, H4, H5, H6, H7, H8)
