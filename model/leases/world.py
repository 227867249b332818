"""The lease protocol as a small reference: what the database says of workers and sessions, what each process believes.

A world is what the database holds (a row a worker, a row a session), and what every process has in its memory: which
sessions it thinks it has, with which epoch, and how much it knows of their logs. An event is one transaction, or what
happens to a process, its connection, or the database. So between any two transactions of a worker the others may do
anything, and a process may be paused for any time between what it has read and what it does about it.

Time is a number of *ticks* of the database's clock since a worker's last heartbeat. Two things go beyond what
PostgreSQL does, so that less has to be believed: a process whose connection is gone for the others still appends, and a
committed append counts as acknowledged at once.

`Protocol` has one method for each decision, so that a defect (`defects.py`) is one other method. Who is dead, and how
many sessions a worker takes or gives, is asked of `statemachine/hosting/rules.py`, and each move is looked up in the
tables of `statemachine/hosting/machines.py`: a move that they do not have is an `IllegalMove`.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from functools import lru_cache
from itertools import combinations, permutations
from typing import Any, NamedTuple

from attrs import frozen

from statemachine.core.machines import Moves
from statemachine.hosting import rules
from statemachine.hosting.machines import LEASE, WORKER, LeaseState, WorkerState

NONE = -1
"""No worker; or no share that was counted."""


class Life(IntEnum):
    """What the process of a worker does."""

    RUNNING = 0
    PAUSED = 1
    """It was stopped, and may go on at any time."""
    DEAD = 2


class Link(IntEnum):
    """The connection of a worker, by which the others tell whether it is there."""

    UP = 0
    LOST = 1
    """It is gone; the process makes another one when it polls next."""
    CUT = 2
    """It is gone, and the process cannot make another one: the network is partitioned."""


class Aim(IntEnum):
    """What a process was told."""

    SERVE = 0
    END = 1


class Phase(IntEnum):
    """How far a worker is with a session that it has."""

    CLAIMED = 0
    """It has not opened it yet."""
    OPEN = 1
    LEFT = 2
    """Only with a defect: it has freed it, and has yet to say that it needs no owner."""


class Append(IntEnum):
    """What an append is about."""

    BEGIN = 0
    """Asks become open work."""
    FINISH = 1
    """Open work is done."""
    NOTE = 2
    """Anything else."""


class Worker(NamedTuple):
    """One worker: its row in the database (`state`, `age`, `held`), and its process."""

    state: WorkerState
    age: int
    """Ticks since its last heartbeat; those beyond `ttl` + 1 are not counted."""
    held: int
    """Only with a defect: how many sessions it had when it beat last."""
    life: Life
    link: Link
    aim: Aim
    fair: int
    """Its share, as it counted it in this poll, before it acts on that; otherwise NONE."""
    most: int
    """How many sessions it claims at most when it acts on what it counted; otherwise 0."""
    own: int
    """Ticks of its own clock since its last heartbeat; 0 where own clocks are not looked at."""

    @property
    def is_live(self) -> bool:
        """Whether it runs, and reaches the database or will when it polls."""
        return self.life is Life.RUNNING and self.link is not Link.CUT


class Hold(NamedTuple):
    """What a process believes of a session that it has."""

    phase: Phase
    epoch: int
    known: int
    """Appends of its log that it knows."""
    seen: int
    """How often it had been asked for when the worker looked last."""


class Flight(NamedTuple):
    """An append that the database has begun. It has compared the epoch, and holds the lock of the row."""

    what: Append
    epoch: int
    seen: int


class Session(NamedTuple):
    """One session: its row, its log, and what each worker has of it."""

    lease: LeaseState
    owner: int
    epoch: int
    log: int
    """Committed appends."""
    work: int
    """1: it has open work."""
    asked: int
    """How often callers have asked for it."""
    handled: int
    """How many of these asks have become work."""
    holds: tuple[Hold | None, ...]
    """By worker."""
    flights: tuple[Flight | None, ...]
    """By worker."""
    writers: tuple[tuple[int, int], ...]
    """(epoch, worker) of the appends that were committed, for epochs that are still in use."""

    @property
    def is_needy(self) -> bool:
        """Whether it has open work, or was asked for and that is not work yet."""
        return self.work > 0 or self.asked > self.handled


class World(NamedTuple):
    """Everything."""

    workers: tuple[Worker, ...]
    sessions: tuple[Session, ...]


class Event(NamedTuple):
    """What happens: `name` says what, `worker` and `session` to which, NONE where it is about none."""

    name: str
    worker: int = NONE
    session: int = NONE


@frozen
class Scope:
    """What is explored: so many workers and sessions, and what may happen to them."""

    name: str
    capacities: tuple[int, ...]
    """The most sessions that each worker has: as many workers as there are numbers."""
    sessions: int
    meaning: str
    ttl: int = 1
    """In ticks; a worker polls once a tick if it is not late."""
    faults: frozenset[str] = frozenset()
    """Of FAULTS."""
    asks: bool = True
    """Whether callers ask; otherwise every session has open work in the beginning, for good."""
    rates: tuple[int, ...] = ()
    """How many ticks of its own clock each worker counts while the database counts one. Empty: not looked at."""
    ahead: tuple[int, ...] = ()
    """By how many ticks each worker's clock is ahead of the database's. Empty: by none."""
    long: bool = False
    """Whether it takes more than some seconds."""


FAULTS = ("crash", "pause", "cut", "drain", "restart", "late")
"""Faults of a scope: processes are killed and started, stopped and woken, cut off from the database, told to end; the
database restarts; workers that are not paused poll later than they should.
"""

# Changing one thing


def put(items: tuple[Any, ...], index: int, item: Any) -> tuple[Any, ...]:
    """Returns the items with another one at this index."""
    return (*items[:index], item, *items[index + 1 :])


def of_lease(trigger: str) -> Moves[LeaseState]:
    """The moves of a trigger of a session's lease."""
    return LEASE.moves(trigger)


ASK, ASK_OWNER, CLAIM, UNLOAD = map(of_lease, ("ask", "ask_owner", "claim", "unload"))
HAND_OVER, BURY_SESSION = map(of_lease, ("hand_over", "bury"))
JOIN, BEAT, DRAIN, LEAVE, BURY = (WORKER.moves(trigger) for trigger in ("join", "beat", "drain", "leave", "bury"))
RUNNING, PAUSED, DEAD = Life.RUNNING, Life.PAUSED, Life.DEAD
UP, LOST, CUT = Link.UP, Link.LOST, Link.CUT
SERVING, DRAINING, ABSENT = WorkerState.SERVING, WorkerState.DRAINING, WorkerState.ABSENT
WANTED, OWNED, IDLE = LeaseState.WANTED, LeaseState.OWNED, LeaseState.IDLE
ALONE = Worker(ABSENT, 0, 0, RUNNING, LOST, Aim.SERVE, NONE, 0, 0)
"""A process that has just begun."""


def start(scope: Scope) -> World:
    """Returns the world in the beginning: no worker has joined, and no session has an owner."""
    nothing = (None,) * len(scope.capacities)
    new = Session(IDLE, NONE, 0, 0, 0, 0, 0, nothing, nothing, ())
    if not scope.asks:
        new = new._replace(lease=ASK[IDLE], work=1)
    return World((ALONE,) * len(scope.capacities), (new,) * scope.sessions)


class Protocol:
    """The protocol. `successors` plays an event; all other methods are the decisions that make it up."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    # Decisions of the database's statements

    def claimed(self, epoch: int) -> int:
        """Returns the epoch of a session that is claimed."""
        return epoch + 1

    def buried(self, epoch: int) -> int:
        """Returns the epoch of a session whose worker is dead."""
        return epoch + 1

    def is_locked(self, session: Session) -> bool:
        """Whether an append holds the row of the session: then others pass it over, or wait."""
        return any(session.flights)

    def may_append(self, session: Session, hold: Hold, worker: Worker) -> bool:
        """Whether the database carries out an append of a process that believes this."""
        return hold.epoch == session.epoch

    def may_open(self, session: Session, hold: Hold, w: int) -> bool:
        """Whether a session that was claimed may be opened."""
        return session.owner == w and hold.epoch == session.epoch

    def may_claim(self, worker: Worker) -> bool:
        """Whether a worker may claim: it is looked up in the same statement."""
        return worker.state is SERVING

    def is_done(self, session: Session, hold: Hold) -> bool:
        """Whether a session that its owner leaves needs no owner: it was not asked for since that looked last."""
        return session.asked == hold.seen

    def is_dead(self, world: World, reader: int, other: int) -> bool:
        """Whether a worker finds that another one is dead."""
        worker = world.workers[other]
        return rules.is_dead(worker.age, self.scope.ttl, worker.link is UP)

    def count(self, world: World) -> int:
        """Returns how many sessions need an owner, or have one."""
        return sum(s.lease is not IDLE for s in world.sessions)

    def reported(self, held: int) -> int:
        """Returns what a heartbeat says of the number of sessions that the worker has: nothing."""
        return 0

    def share(self, world: World) -> int:
        """Returns the share of a worker."""
        capacities = [
            most for most, other in zip(self.scope.capacities, world.workers, strict=True) if other.state is SERVING
        ]
        return rules.share(self.count(world), capacities)

    def most_to_claim(self, held: int, w: int, fair: int) -> int:
        """Returns how many sessions a worker claims."""
        return rules.most_to_claim(held, self.scope.capacities[w], fair, self.scope.sessions)

    def to_give(self, held: int, fair: int) -> int:
        """Returns how many sessions a worker gives away."""
        return rules.to_give(held, fair)

    # Events

    def events(self, world: World) -> Iterator[Event]:
        """Yields what may happen next."""
        faults = self.scope.faults
        if self.may_tick(world):
            yield Event("tick")
        for w, worker in enumerate(world.workers):
            if worker.life is RUNNING:
                if worker.fair != NONE:
                    yield Event("balance", w)
                elif worker.link is not CUT:
                    yield Event("poll", w)
                if "pause" in faults:
                    yield Event("pause", w)
            elif worker.life is PAUSED:
                yield Event("wake", w)
            if "crash" in faults:
                yield Event("start" if worker.life is DEAD else "crash", w)
            elif worker.life is DEAD:
                yield Event("start", w)
            if "cut" in faults and worker.life is not DEAD:
                yield Event("heal" if worker.link is CUT else "cut", w)
            if "drain" in faults and worker.aim is Aim.SERVE and worker.life is RUNNING and worker.state is SERVING:
                yield Event("drain", w)
        if "restart" in faults and any(worker.link is UP for worker in world.workers):
            yield Event("restart")
        for number, session in enumerate(world.sessions):
            if self.scope.asks and not self.is_locked(session):
                yield Event("ask", NONE, number)
            for w, worker in enumerate(world.workers):
                hold, flight = session.holds[w], session.flights[w]
                if flight is not None:
                    yield Event("commit", w, number)
                elif hold is not None and worker.life is RUNNING:
                    yield from self.events_of_hold(session, number, w, worker, hold)

    def may_tick(self, world: World) -> bool:
        """Whether time goes on. Workers that are not late poll before they would be taken for dead."""
        if "late" in self.scope.faults:
            return True
        return not any(
            worker.is_live and (worker.fair != NONE or worker.age >= self.scope.ttl or worker.state is ABSENT)
            for worker in world.workers
        )

    def events_of_hold(self, session: Session, number: int, w: int, worker: Worker, hold: Hold) -> Iterator[Event]:
        """Yields what a process may do with a session that it thinks it has."""
        if hold.phase is Phase.CLAIMED:
            if not self.is_locked(session) and worker.link is UP:
                yield Event("open", w, number)
        elif hold.phase is Phase.LEFT:
            yield Event("settle", w, number)
        elif self.scope.asks:
            yield Event("append", w, number)
            if worker.link is UP and not self.is_locked(session) and is_idle(session, hold):
                yield Event("unload", w, number)

    def successors(self, world: World, event: Event) -> list[World]:
        """Returns what the event may lead to: of sessions that are the same for a worker, it may take any."""
        found: list[World] = getattr(self, event.name)(world, *event[1:])
        return found

    # Events: callers

    def ask(self, world: World, _: int, number: int) -> list[World]:
        """A caller asks for the session: a row that stays."""
        s = world.sessions[number]
        lease = (ASK_OWNER if s.lease is OWNED else ASK)[s.lease]
        return [with_session(world, number, s._replace(lease=lease, asked=s.asked + 1))]

    # Events: a worker polls

    def poll(self, world: World, w: int, _: int) -> list[World]:
        """A worker beats, buries the dead, counts, and looks which of its sessions were asked for. It claims none in
        this poll if it was taken for dead, or counted none that is free.
        """
        worker = world.workers[w]
        is_buried = worker.link is UP and worker.state is ABSENT
        if worker.link is not UP:
            world = self.connect(world, w)
            worker = world.workers[w]
            if worker.link is not UP:
                return [world]
        if worker.state is ABSENT:  # it was buried, or has connected
            world = self.drop_all(world, w)
            if worker.aim is Aim.END:
                return [with_worker(world, w, ALONE._replace(life=DEAD, link=LOST))]
            state = JOIN[worker.state]
        elif worker.state is SERVING:
            state = (DRAIN if worker.aim is Aim.END else BEAT)[worker.state]
        else:
            state = worker.state
        held = self.reported(len(held_by(world, w)))
        world = with_worker(world, w, worker._replace(state=state, age=0, own=0, held=held))
        for other in range(len(world.workers)):
            if other != w and world.workers[other].state is not ABSENT and self.is_dead(world, w, other):
                world = self.bury(world, other)
        fair = self.share(world)
        claims = worker.aim is Aim.SERVE and not is_buried and any(s.lease is WANTED for s in world.sessions)
        most = max(0, self.most_to_claim(len(held_by(world, w)), w, fair)) if claims else 0
        world = with_worker(world, w, world.workers[w]._replace(fair=fair, most=most))
        for number in held_by(world, w):
            s, hold = world.sessions[number], world.sessions[number].holds[w]
            if hold is not None and hold.phase is Phase.OPEN:
                world = with_session(world, number, with_hold(s, w, hold._replace(seen=s.asked)))
        return [world]

    def connect(self, world: World, w: int) -> World:
        """A process that has lost its connection makes another one. It is a new worker: what it had before is lost, and
        its row is that of a dead worker, which it buries itself.
        """
        world = self.drop_all(world, w)
        if world.workers[w].state is not ABSENT:
            world = self.bury(world, w)
        if world.workers[w].state is not ABSENT:  # an append of before holds a row: once more, next time
            return world
        return with_worker(world, w, world.workers[w]._replace(link=UP))

    def drop_all(self, world: World, w: int) -> World:
        """A process closes all sessions that it thinks it has."""
        for number, s in enumerate(world.sessions):
            if s.holds[w] is not None:
                world = with_session(world, number, with_hold(s, w, None))
        return world

    def bury(self, world: World, dead: int) -> World:
        """Frees the sessions of a dead worker and raises their epochs, but for those that are locked; deletes its row
        if it has none left.
        """
        left = 0
        for number, s in enumerate(world.sessions):
            if s.owner != dead:
                continue
            if self.is_locked(s):
                left += 1
                continue
            freed = s._replace(lease=BURY_SESSION[s.lease], owner=NONE, epoch=self.buried(s.epoch))
            world = with_session(world, number, freed)
        if left:
            return world
        worker = world.workers[dead]
        return with_worker(world, dead, worker._replace(state=BURY[worker.state], age=0, held=0))

    # Events: a worker acts on what it counted

    def balance(self, world: World, w: int, _: int) -> list[World]:
        """A worker claims as many sessions as it counted room for, gives away those beyond its share, or leaves idle
        ones if it is full; if it was told to end, it hands over all, also what it has just claimed.
        """
        worker = world.workers[w]
        fair, most = worker.fair, worker.most
        world = with_worker(world, w, worker._replace(fair=NONE, most=0))
        if worker.link is not UP:
            return [world]
        found = self.claim(world, w, most) if self.may_claim(worker) else [world]
        if worker.aim is Aim.END:
            return [self.hand_over_all(claimed, w) for claimed in found]
        return [after for claimed in found for after in self.give(claimed, w, fair)]

    def claim(self, world: World, w: int, most: int) -> list[World]:
        """A worker claims free sessions that are not locked."""
        free = [n for n, s in enumerate(world.sessions) if s.lease is WANTED and not self.is_locked(s)]
        if not free or most <= 0:
            return [world]
        found: list[World] = []
        for chosen in choices(world, free, most):
            after = world
            for number in chosen:
                s = after.sessions[number]
                epoch = self.claimed(s.epoch)
                taken = s._replace(lease=CLAIM[s.lease], owner=w, epoch=epoch)
                after = with_session(after, number, with_hold(taken, w, Hold(Phase.CLAIMED, epoch, 0, 0)))
            found.append(after)
        return found

    def give(self, world: World, w: int, fair: int) -> list[World]:
        """A worker hands over sessions beyond its share; if it is full, it leaves idle ones to make room."""
        mine = [n for n in held_by(world, w) if can_be_left(world.sessions[n], w)]
        held = len(held_by(world, w))
        beyond = min(len(mine), self.to_give(held, fair))
        if beyond > 0:
            return [self.hand_over(world, w, chosen) for chosen in choices(world, mine, beyond)]
        free = sum(s.lease is WANTED for s in world.sessions)
        idle = [n for n in mine if is_idle(world.sessions[n], world.sessions[n].holds[w])]
        leaving = rules.to_unload(free, 0, len(idle)) if held >= self.scope.capacities[w] else 0
        if leaving <= 0:
            return [world]
        found: list[World] = []
        for chosen in choices(world, idle, leaving):
            after = world
            for number in chosen:
                after = self.unload(after, w, number)[0]
            found.append(after)
        return found

    def hand_over(self, world: World, w: int, numbers: tuple[int, ...]) -> World:
        """A worker closes sessions and frees them, with their open work."""
        for number in numbers:
            s = world.sessions[number]
            hold = s.holds[w]
            if hold is not None and hold.epoch == s.epoch and s.owner == w:
                s = s._replace(lease=HAND_OVER[s.lease], owner=NONE)
            world = with_session(world, number, with_hold(s, w, None))
        return world

    def hand_over_all(self, world: World, w: int) -> World:
        """A worker that was told to end hands over its sessions, and leaves once it has none."""
        mine = [n for n in held_by(world, w) if can_be_left(world.sessions[n], w)]
        world = self.hand_over(world, w, tuple(mine))
        return self.leave(world, w) if self.may_leave(world, w) else world

    def may_leave(self, world: World, w: int) -> bool:
        """Whether a worker that drains has handed over all."""
        return not any(s.owner == w or s.holds[w] is not None for s in world.sessions)

    def leave(self, world: World, w: int) -> World:
        """A worker deletes its row, which another one may have done, and its process ends."""
        state = world.workers[w].state
        if state is not ABSENT:
            state = LEAVE[state]
        return with_worker(world, w, ALONE._replace(state=state, life=DEAD, link=LOST))

    # Events: a worker and a session

    def open(self, world: World, w: int, number: int) -> list[World]:
        """A worker opens a session that it has claimed: it reads the log and what callers ask for."""
        s = world.sessions[number]
        hold = s.holds[w]
        assert hold is not None
        if not self.may_open(s, hold, w):
            return [with_session(world, number, with_hold(s, w, None))]
        return [with_session(world, number, with_hold(s, w, Hold(Phase.OPEN, s.epoch, s.log, s.asked)))]

    def append(self, world: World, w: int, number: int) -> list[World]:
        """The database begins an append, or refuses it: then the process knows that it has the session no more."""
        s, worker = world.sessions[number], world.workers[w]
        hold = s.holds[w]
        assert hold is not None
        if not self.may_append(s, hold, worker):
            return [with_session(world, number, with_hold(s, w, None))]
        what = Append.BEGIN if hold.seen > s.handled else Append.FINISH if s.work else Append.NOTE
        flights = put(s.flights, w, Flight(what, hold.epoch, hold.seen))
        return [with_session(world, number, s._replace(flights=flights))]

    def commit(self, world: World, w: int, number: int) -> list[World]:
        """The database commits an append, also of a process that is paused meanwhile."""
        s = world.sessions[number]
        flight, hold = s.flights[w], s.holds[w]
        assert flight is not None
        writers = tuple(sorted({*s.writers, (flight.epoch, w)}))
        s = s._replace(log=s.log + 1, flights=put(s.flights, w, None), writers=writers)
        if flight.what is Append.BEGIN:
            s = s._replace(handled=max(s.handled, flight.seen), work=1)
        elif flight.what is Append.FINISH:
            s = s._replace(work=0)
        if hold is not None and hold.epoch == flight.epoch:
            s = with_hold(s, w, hold._replace(known=hold.known + 1))
        return [with_session(world, number, s)]

    def unload(self, world: World, w: int, number: int) -> list[World]:
        """A worker leaves a session that has nothing to do: it needs no owner. If it was asked for meanwhile, or is not
        the worker's any more, nothing happens: the worker keeps it.
        """
        s = world.sessions[number]
        hold = s.holds[w]
        assert hold is not None
        if s.owner != w or hold.epoch != s.epoch or not self.is_done(s, hold):
            return [world]
        s = s._replace(lease=UNLOAD[s.lease], owner=NONE)
        return [with_session(world, number, with_hold(s, w, None))]

    # Events: what happens to workers and the database

    def tick(self, world: World, _: int, __: int) -> list[World]:
        """The database's clock goes on, and so do those of the workers, each in its own way."""
        most = self.scope.ttl + 1
        rates = self.scope.rates or (0,) * len(world.workers)
        workers = tuple(
            worker._replace(age=min(most, worker.age + (worker.state is not ABSENT)), own=min(most, worker.own + rate))
            for worker, rate in zip(world.workers, rates, strict=True)
        )
        return [World(workers, world.sessions)]

    def crash(self, world: World, w: int, _: int) -> list[World]:
        """The process is killed. The server knows at once; what was not committed is not."""
        worker = world.workers[w]
        gone = worker._replace(life=DEAD, link=LOST, aim=Aim.SERVE, fair=NONE, most=0, own=0)
        return [with_worker(World(world.workers, forgotten(world.sessions, w)), w, gone)]

    def start(self, world: World, w: int, _: int) -> list[World]:
        """A process is started in the place of one that ended."""
        return [with_worker(world, w, world.workers[w]._replace(life=RUNNING, link=LOST, aim=Aim.SERVE))]

    def pause(self, world: World, w: int, _: int) -> list[World]:
        """The process is stopped. Its connection stays, and what the database has begun goes on."""
        return [with_worker(world, w, world.workers[w]._replace(life=PAUSED))]

    def wake(self, world: World, w: int, _: int) -> list[World]:
        """The process goes on where it was."""
        return [with_worker(world, w, world.workers[w]._replace(life=RUNNING))]

    def cut(self, world: World, w: int, _: int) -> list[World]:
        """The network is partitioned: the others see no connection, and the process goes on."""
        return [with_worker(world, w, world.workers[w]._replace(link=CUT))]

    def heal(self, world: World, w: int, _: int) -> list[World]:
        """The network is whole again."""
        return [with_worker(world, w, world.workers[w]._replace(link=LOST))]

    def drain(self, world: World, w: int, _: int) -> list[World]:
        """The process is told to end. Its row says so from its next poll on."""
        return [with_worker(world, w, world.workers[w]._replace(aim=Aim.END))]

    def restart(self, world: World, _: int, __: int) -> list[World]:
        """The database restarts: all connections are gone, and with them all sessions of all processes, and all that
        was not committed.
        """
        sessions = world.sessions
        for w in range(len(world.workers)):
            sessions = forgotten(sessions, w)
        workers = tuple(
            worker._replace(link=LOST if worker.link is UP else worker.link, fair=NONE, most=0)
            for worker in world.workers
        )
        return [World(workers, sessions)]


# What the events share


def with_worker(world: World, w: int, worker: Worker) -> World:
    """Returns the world with another worker in this place."""
    return World(put(world.workers, w, worker), world.sessions)


def with_session(world: World, number: int, session: Session) -> World:
    """Returns the world with another session in this place."""
    return World(world.workers, put(world.sessions, number, session))


def with_hold(session: Session, w: int, hold: Hold | None) -> Session:
    """Returns the session, of which this worker believes something else."""
    return session._replace(holds=put(session.holds, w, hold))


def held_by(world: World, w: int) -> list[int]:
    """Returns the numbers of the sessions that a worker thinks it has."""
    return [n for n, s in enumerate(world.sessions) if (hold := s.holds[w]) is not None and hold.phase < Phase.LEFT]


def is_idle(session: Session, hold: Hold | None) -> bool:
    """Whether a process that has the session open knows of nothing to do for it."""
    return hold is not None and hold.phase is Phase.OPEN and not session.work and hold.seen <= session.handled


def can_be_left(session: Session, w: int) -> bool:
    """Whether no append of the worker is under way, so that it can close the session."""
    return session.flights[w] is None and not any(session.flights)


def forgotten(sessions: tuple[Session, ...], w: int) -> tuple[Session, ...]:
    """Returns the sessions without what a process had in memory or under way."""
    return tuple(
        s._replace(holds=put(s.holds, w, None), flights=put(s.flights, w, None)) if s.holds[w] or s.flights[w] else s
        for s in sessions
    )


def choices(world: World, numbers: list[int], most: int) -> list[tuple[int, ...]]:
    """Returns the ways to take so many of these sessions that differ by more than the sessions' names."""
    if len(numbers) <= most:
        return [tuple(numbers)]
    told_apart: dict[tuple[Any, ...], tuple[int, ...]] = {}
    for chosen in combinations(numbers, most):
        kind = tuple(sorted(name_of(canonical_session(world.sessions[number])) for number in chosen))
        told_apart.setdefault(kind, chosen)
    return [*told_apart.values()]


# When two worlds are the same

NAMES: dict[Session, int] = {}
BY_NAME: list[Session] = []
"""A number for each session in canonical form that was seen, to sort by, and back."""


def name_of(session: Session) -> int:
    """Returns a number for a session in canonical form."""
    name = NAMES.setdefault(session, len(BY_NAME))
    if name == len(BY_NAME):
        BY_NAME.append(session)
    return name


@lru_cache(maxsize=1_000_000)
def canonical_session(s: Session) -> Session:
    """Returns the session with small numbers. An epoch is the row's or an older one, which the database will not see
    again; asks are only compared with each other, so their ranks are enough; of a log it is enough whether all of it is
    known. What a process knows of a session that another one owns serves nothing.
    """
    counts = {s.asked, s.handled}
    counts.update(hold.seen for hold in s.holds if hold and hold.phase > Phase.CLAIMED and hold.epoch == s.epoch)
    counts.update(flight.seen for flight in s.flights if flight)
    asks = {count: rank for rank, count in enumerate(sorted(counts))}
    holds = tuple(
        hold
        and (
            Hold(hold.phase, int(hold.epoch == s.epoch), 0, asks[s.handled])
            if hold.phase is Phase.CLAIMED or hold.epoch != s.epoch
            else Hold(hold.phase, 1, int(hold.known >= s.log), asks[hold.seen])
        )
        for hold in s.holds
    )
    flights = tuple(
        flight and Flight(flight.what, int(flight.epoch == s.epoch), asks[flight.seen]) for flight in s.flights
    )
    writers = tuple((1, w) for epoch, w in s.writers if epoch == s.epoch)
    return Session(s.lease, s.owner, 1, 1, s.work, asks[s.asked], asks[s.handled], holds, flights, writers)


def canonical(world: World, scope: Scope) -> World:
    """Returns the world that stands for all that differ from it by the names of sessions and of workers with the
    same capacity and clock, or by numbers alone.
    """
    workers = world.workers
    clocks = [*zip(scope.rates or (0,) * len(workers), scope.ahead or (0,) * len(workers), strict=True)]
    kinds = [(scope.capacities[w], *clocks[w], worker) for w, worker in enumerate(workers)]
    best, chosen = list[int](), ORDERED
    for order in orders(tuple(kinds)):
        names = sorted(name_of(renamed(s, order)) for s in world.sessions)
        if not best or names < best:
            best, chosen = names, order
    return World(tuple(workers[w] for w in chosen), tuple(BY_NAME[name] for name in best))


@lru_cache(maxsize=100_000)
def orders(kinds: tuple[tuple[int, int, int, Worker], ...]) -> list[tuple[int, ...]]:
    """Returns the ways to sort the workers. Their capacities, rates and offsets are sorted in the scope, too."""
    found = {tuple(kinds[w] for w in order): list[tuple[int, ...]]() for order in permutations(range(len(kinds)))}
    for order in permutations(range(len(kinds))):
        found[tuple(kinds[w] for w in order)].append(order)
    return found[min(found)]


@lru_cache(maxsize=1_000_000)
def renamed(session: Session, order: tuple[int, ...]) -> Session:
    """Returns the session in canonical form, with the workers in another order."""
    s = canonical_session(session)
    if order == ORDERED[: len(order)]:
        return s
    return s._replace(
        owner=NONE if s.owner == NONE else order.index(s.owner),
        holds=tuple(s.holds[w] for w in order),
        flights=tuple(s.flights[w] for w in order),
        writers=tuple(sorted((epoch, order.index(w)) for epoch, w in s.writers)),
    )


ORDERED = tuple(range(10))
