"""(j) does a turn cycle cost more beside turns that stand still: that wait, load, or queue?"""

from __future__ import annotations

from collections.abc import Callable

from bench.measure import QUICK, Row, Size, at_most, best_seconds
from bench.sessions import drive
from statemachine.core.config import SessionConfig
from statemachine.core.events import HOST, ROOT, Finished, FollowUp, Loaded, Spawn, Wait
from statemachine.core.machines import TurnState
from statemachine.core.session import Session

ALONE, WAITING, LOADING, QUEUED = "alone", "waiting", "loading", "queued"
CROWDS = {WAITING: 3_000, LOADING: 1_000, QUEUED: 50_000}
"""What stands still, and how much of it."""


class QueuedCycles:
    """Turn cycles of two agents that take turns on one slot: one is asked while the other runs, and so queues.
    When they begin, the first runs.
    """

    def __init__(self, s: Session, workers: tuple[int, int], cycles: int) -> None:
        self.session, self.workers, self.rounds = s, workers, cycles // 2
        first, second = workers
        assert s.agents[first].status is TurnState.RUNNING
        assert s.agents[second].status is TurnState.COMPLETED
        self.before = s.agents[second].turn

    @property
    def cycles(self) -> int:
        """How many a call makes."""
        return 2 * self.rounds

    def __call__(self) -> None:
        handle, (first, second) = self.session.handle, self.workers
        one, other = self.session.agents[first].turn, self.session.agents[second].turn
        for turn in range(self.rounds):
            handle(FollowUp(HOST, second, "x"))
            handle(Finished(first, one + turn, "ok"))
            handle(FollowUp(HOST, first, "x"))
            handle(Finished(second, other + turn + 1, "ok"))

    def check(self, calls: int) -> None:
        """Every cycle was one."""
        s, second = self.session, self.workers[1]
        assert s.stale_reports == 0
        assert s.agents[second].turn == self.before + calls * self.rounds


def rows(size: Size) -> list[Row]:
    """The same cycle beside nobody, and beside each crowd."""
    shrink = 50 if size is QUICK else 1
    crowds: dict[str, Callable[[int], tuple[Session, tuple[int, int]]]] = {
        ALONE: lambda _: beside_waiting(0),
        WAITING: beside_waiting,
        LOADING: beside_loading,
        QUEUED: beside_queued,
    }
    work = {name: QueuedCycles(*make(CROWDS.get(name, 0) // shrink), size.cycles) for name, make in crowds.items()}
    best = best_seconds(size.repetitions, work)
    for contestant in work.values():
        contestant.check(size.repetitions)
    cycles = work[ALONE].cycles
    return [
        Row("(j) a cycle through the queue, alone", best[ALONE] / cycles * 1e6, "us"),
        *[
            Row(f"(j) beside {CROWDS[name] // shrink:,} {name} turns", best[name] / best[ALONE], "x", at_most(1.5))
            for name in CROWDS
        ],
    ]


def workers_in(s: Session) -> tuple[int, int]:
    """Two resident agents at depth 4, each of which had one turn."""
    parent = ROOT
    for name in ("a", "b", "c"):
        drive(s, Spawn(parent, name, "work", None, HOST))
        parent = len(s.agents) - 1
    for name in ("one", "other"):
        drive(s, Spawn(parent, name, "work", None, HOST))
    return len(s.agents) - 2, len(s.agents) - 1


def beside_waiting(count: int) -> tuple[Session, tuple[int, int]]:
    """One slot, and turns that lent it: half of them wait for mail, half by their own choice."""
    s = Session(SessionConfig(max_concurrent=2, max_resident=count + 10))
    workers = workers_in(s)
    for number in range(count):
        s.handle(Spawn(ROOT, f"w{number}", "work", None, HOST))
        agent = len(s.agents) - 1
        s.handle(Loaded(agent, 1))
        s.handle(Wait(agent, 1, 1000.0, ()) if number % 2 else Wait(agent, 1, None, mail=False))
    assert len(s.waits.pending) == count
    s.handle(FollowUp(HOST, workers[0], "x"))
    return s, workers


def beside_loading(count: int) -> tuple[Session, tuple[int, int]]:
    """A slot for each of the turns whose thread is being loaded, and one more."""
    s = Session(SessionConfig(max_concurrent=count + 2, max_resident=count + 10))
    workers = workers_in(s)
    for number in range(count):
        s.handle(Spawn(ROOT, f"l{number}", "work", None, HOST))
    assert len(s.residents.loading) == count
    s.handle(FollowUp(HOST, workers[0], "x"))
    return s, workers


def beside_queued(count: int) -> tuple[Session, tuple[int, int]]:
    """One slot, and turns that queue for it at three depths, none of them due."""
    s = Session(SessionConfig(max_concurrent=2, max_resident=10, max_queued=count + 10, max_overtaken=10**9))
    workers = workers_in(s)
    s.handle(FollowUp(HOST, workers[0], "x"))
    for number in range(count):
        s.handle(Spawn(number % 3, f"q{number}", "work", None, HOST))
    assert len(s.slots.ready) == count
    return s, workers
