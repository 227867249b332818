"""Defects of the protocol, planted one at a time: each is one decision that is taken otherwise, and says who notices.

`noticed_by` is complete: all properties of which the exploration of the scope finds a fault. Those without any are not
needed: what they leave out is there twice, and the reason is in their sentence.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen

from statemachine.hosting.machines import LeaseState, WorkerState

from .scopes import find
from .world import (
    CLAIM,
    HAND_OVER,
    NONE,
    UP,
    Hold,
    Phase,
    Protocol,
    Scope,
    Session,
    Worker,
    World,
    can_be_left,
    held_by,
    is_idle,
    with_hold,
    with_session,
    with_worker,
)


class NoRaiseByClaim(Protocol):
    """Claiming does not raise the epoch."""

    def claimed(self, epoch: int) -> int:
        return epoch


class NoRaiseByBurial(Protocol):
    """Burying does not raise the epoch."""

    def buried(self, epoch: int) -> int:
        return epoch


class NoFence(Protocol):
    """An append does not compare the epoch."""

    def may_append(self, session: Session, hold: Hold, worker: Worker) -> bool:
        return True


class NoLock(Protocol):
    """An append compares the epoch and does not lock the row, so that a takeover may come before it commits."""

    def is_locked(self, session: Session) -> bool:
        return False


class OwnLease(Protocol):
    """An append is allowed while the worker has beaten within TTL by its own clock."""

    def may_append(self, session: Session, hold: Hold, worker: Worker) -> bool:
        return worker.own <= self.scope.ttl


class OwnClocks(Protocol):
    """Heartbeats are stamped and compared with the clocks of workers, not with that of the database."""

    def is_dead(self, world: World, reader: int, other: int) -> bool:
        worker, ahead = world.workers[other], self.scope.ahead
        return worker.age + ahead[reader] - ahead[other] > self.scope.ttl or worker.link is not UP


class Greedy(Protocol):
    """A worker claims as many sessions as it has room for, whatever its share. It gives most of them away at once."""

    def most_to_claim(self, held: int, w: int, fair: int) -> int:
        return self.scope.capacities[w] - held


class TwoShares(Protocol):
    """A worker gives away what is beyond the share rounded down, at once, and claims up to the share rounded up."""

    def to_give(self, held: int, fair: int) -> int:
        return max(0, held - max(1, fair - 1))


class OneShare(Protocol):
    """The share does not look at capacities: it is the same part of all sessions for every worker."""

    def share(self, world: World) -> int:
        serving = sum(worker.state is WorkerState.SERVING for worker in world.workers)
        return -(-self.count(world) // max(1, serving))


class CountedLate(Protocol):
    """A worker counts what the others had with their last heartbeat, not what they have."""

    def reported(self, held: int) -> int:
        return held

    def count(self, world: World) -> int:
        free = sum(s.lease is LeaseState.WANTED for s in world.sessions)
        return free + sum(worker.held for worker in world.workers)


class FreeAlone(Protocol):
    """A worker counts the free sessions alone, so its share is too small as soon as it has some."""

    def count(self, world: World) -> int:
        return sum(s.lease is LeaseState.WANTED for s in world.sessions)


class ForgetsAsks(Protocol):
    """Unloading does not look whether the session was asked for meanwhile."""

    def is_done(self, session: Session, hold: Hold) -> bool:
        return True


class TwoStatements(Protocol):
    """Unloading is two statements: the session is freed, then it is said that it needs no owner if nothing has happened
    to it since.
    """

    def unload(self, world: World, w: int, number: int) -> list[World]:
        s = world.sessions[number]
        hold = s.holds[w]
        assert hold is not None
        if s.owner != w or hold.epoch != s.epoch:
            return [with_session(world, number, with_hold(s, w, None))]
        freed = s._replace(lease=HAND_OVER[s.lease], owner=NONE)
        return [with_session(world, number, with_hold(freed, w, hold._replace(phase=Phase.LEFT)))]

    def settle(self, world: World, w: int, number: int) -> list[World]:
        """The second statement."""
        s = world.sessions[number]
        hold = s.holds[w]
        assert hold is not None
        if s.lease is LeaseState.WANTED and hold.epoch == s.epoch and self.is_done(s, hold):
            s = s._replace(lease=LeaseState.IDLE)
        return [with_session(world, number, with_hold(s, w, None))]


class SlowSign(Protocol):
    """The dead are known by their silence alone."""

    def is_dead(self, world: World, reader: int, other: int) -> bool:
        return world.workers[other].age > self.scope.ttl


class NoTtl(Protocol):
    """The dead are known by their connections alone."""

    def is_dead(self, world: World, reader: int, other: int) -> bool:
        return world.workers[other].link is not UP


class NoBurial(Protocol):
    """No other worker is ever found dead."""

    def is_dead(self, world: World, reader: int, other: int) -> bool:
        return False


class BuriedClaims(Protocol):
    """A claim does not look whether the worker's own row is still there."""

    def may_claim(self, worker: Worker) -> bool:
        return True


class HastyBurial(Protocol):
    """The row of a dead worker is deleted although a session of it was locked and is still its own."""

    def bury(self, world: World, dead: int) -> World:
        world = super().bury(world, dead)
        worker = world.workers[dead]
        return with_worker(world, dead, worker._replace(state=WorkerState.ABSENT, age=0, held=0))


class HastyLeave(Protocol):
    """A worker that drains leaves although an append holds one of its sessions."""

    def may_leave(self, world: World, w: int) -> bool:
        return True


class PatientDrain(Protocol):
    """A worker that drains hands over idle sessions, and waits for the others."""

    def hand_over_all(self, world: World, w: int) -> World:
        mine = [n for n in held_by(world, w) if can_be_left(world.sessions[n], w)]
        idle = [n for n in mine if is_idle(world.sessions[n], world.sessions[n].holds[w])]
        world = self.hand_over(world, w, tuple(idle))
        return self.leave(world, w) if self.may_leave(world, w) else world


class KeepsRow(Protocol):
    """A process that connects again goes on with its row, and what it had stays its own in the database."""

    def connect(self, world: World, w: int) -> World:
        world = self.drop_all(world, w)
        return with_worker(world, w, world.workers[w]._replace(link=UP))


class KeepsLease(Protocol):
    """A session that is given away is closed and not freed."""

    def hand_over(self, world: World, w: int, numbers: tuple[int, ...]) -> World:
        for number in numbers:
            world = with_session(world, number, with_hold(world.sessions[number], w, None))
        return world


class OpensWhatIsFree(Protocol):
    """Opening looks whether the session has another owner, and not whether it is the worker's own by its claim."""

    def may_open(self, session: Session, hold: Hold, w: int) -> bool:
        return session.owner in (w, NONE)

    def open(self, world: World, w: int, number: int) -> list[World]:
        s = world.sessions[number]
        if s.owner == NONE:
            world = with_session(world, number, s._replace(lease=CLAIM[s.lease], owner=w))
        return super().open(world, w, number)


@frozen
class Defect:
    """A protocol with a defect, the scope in which it is looked for, and which properties notice it there."""

    protocol: Any
    scope: Scope
    noticed_by: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of its class."""
        name: str = self.protocol.__name__
        return name

    @property
    def sentence(self) -> str:
        """What is otherwise."""
        return " ".join((self.protocol.__doc__ or "").split())


DEFECTS: tuple[Defect, ...] = (
    Defect(NoRaiseByClaim, find("late"), ("H1",)),
    Defect(NoRaiseByBurial, find("late"), ("H1",)),
    Defect(NoFence, find("late"), ("H1", "H3")),
    Defect(NoLock, find("late"), ("H1", "H2", "H3", "H5")),
    Defect(OwnLease, find("clocks"), ("H1", "H3")),
    Defect(OwnClocks, find("clocks"), ("H4",)),
    Defect(Greedy, find("shares"), ()),
    Defect(TwoShares, find("shares"), ("H2", "H4")),
    Defect(OneShare, find("rooms"), ("H2",)),
    Defect(CountedLate, find("shares"), ("H2",)),
    Defect(FreeAlone, find("shares"), ("H2", "H4")),
    Defect(ForgetsAsks, find("crash"), ("H2", "H5")),
    Defect(TwoStatements, find("crash"), ("H4",)),
    Defect(SlowSign, find("crash"), ("H7",)),
    Defect(NoTtl, find("stop"), ("H2",)),
    Defect(NoBurial, find("crash"), ("H2", "H7")),
    Defect(BuriedClaims, find("late"), ("H2", "H6")),
    Defect(HastyBurial, find("late"), ("H2", "H6")),
    Defect(HastyLeave, find("drain"), ("H2", "H6", "H7")),
    Defect(PatientDrain, find("drain"), ("H6",)),
    Defect(KeepsRow, find("restart"), ("H2",)),
    Defect(KeepsLease, find("shares"), ("H2",)),
    Defect(OpensWhatIsFree, find("late"), ("H1", "H2", "H6", "H8")),
)
"""All of them."""
