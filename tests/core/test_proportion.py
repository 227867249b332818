"""A step that is about very many agents takes time in proportion to their number."""

from __future__ import annotations

import gc
import time

import pytest

from statemachine.core import events as ev
from statemachine.core.config import SessionConfig
from statemachine.core.events import HOST
from statemachine.core.session import Session

FEW, MANY = 2_000, 32_000
STEPS = {
    "close": (ev.Close(HOST, 1),),
    "forget": (ev.Close(HOST, 1), ev.Forget(1)),
    "interrupt": (ev.Interrupt(HOST, 1, True),),
    "shutdown": (ev.Shutdown(1.0),),
}


def session_of(number: int) -> Session:
    """A session in which an agent has so many idle children."""
    session = Session(SessionConfig(max_resident=2 * MANY, max_agents=None))
    for agent in range(1, number + 2):
        session.handle(ev.Spawn(min(agent - 1, 1), f"a{agent}", "work", sender=HOST))
        session.handle(ev.Loaded(agent, session.agents[agent].generation))
        session.handle(ev.Finished(agent, 1, "done"))
    return session


@pytest.fixture(scope="module")
def sessions() -> dict[int, Session]:
    return {number: session_of(number) for number in (FEW, MANY)}


@pytest.mark.parametrize("step", STEPS)
def test_step_over_many_agents_takes_time_in_proportion(step: str, sessions: dict[int, Session]) -> None:
    def taken(number: int) -> float:
        session = sessions[number].fork()
        *before, last = STEPS[step]
        for event in before:
            session.handle(event)
        gc.collect()
        gc.disable()  # what it takes depends on all else in memory
        try:
            began = time.process_time()
            session.handle(last)
            return time.process_time() - began
        finally:
            gc.enable()

    few = min(taken(FEW) for _ in range(5))
    assert min(taken(MANY) for _ in range(3)) < 3 * MANY / FEW * few  # in proportion to its square: 16 times as much
