"""(e) what exploring pays for every transition: a copy of a small session, and its fingerprint."""

from __future__ import annotations

from bench.measure import Row, Size, best_seconds
from statemachine.core.config import Overflow, SessionConfig
from statemachine.core.events import HOST, ROOT, Finished, FollowUp, Loaded, Send, Spawn, Wait
from statemachine.core.machines import Residency, TurnState
from statemachine.core.session import Session


def small_session() -> Session:
    """Root and three sub-agents: one waits in its turn, one is loading, one queues; there is unread mail."""
    s = Session(SessionConfig(max_concurrent=3, overflow=Overflow.QUEUE))
    s.handle(Spawn(ROOT, "a", "work"))
    s.handle(Loaded(1, 1))
    s.handle(Finished(1, 1, "ok"))
    s.handle(FollowUp(HOST, 1, "work"))
    s.handle(Spawn(1, "b", "work"))
    s.handle(Wait(1, 2, 10.0, (2,)))
    s.handle(Spawn(ROOT, "c", "work"))
    s.handle(Send(1, 3, "note"))
    assert [agent.status for agent in s.agents] == [
        TurnState.NEW,
        TurnState.RUNNING,
        TurnState.STARTING,
        TurnState.QUEUED,
    ]
    assert s.agents[2].residency is Residency.LOADING
    assert list(s.waits.of_agent) == [1]
    assert len(s.agents[3].mailbox) == 2
    return s


def rows(size: Size) -> list[Row]:
    s = small_session()
    assert s.fork().fingerprint() == s.fingerprint()

    def fork() -> None:
        for _ in range(size.cycles):
            s.fork()

    def fingerprint() -> None:
        for _ in range(size.cycles):
            s.fingerprint()

    best = best_seconds(size.repetitions, {"fork": fork, "fingerprint": fingerprint})
    return [Row(f"(e) {name}() of four agents", taken / size.cycles * 1e6, "us") for name, taken in best.items()]
