"""Whole sessions are compared: no field may differ, and none is forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from statemachine.checking.whole import FIELDS, LEFT_OUT, OF_STATE, ONE_BY_ONE, ROOMS, difference
from statemachine.core.agents import Agent
from statemachine.core.config import SessionConfig
from statemachine.core.deadlines import Deadlines
from statemachine.core.events import HOST, ROOT, Loaded, Shutdown, Spawn, Wait
from statemachine.core.session import Session
from statemachine.core.state import Draining, State


def drains() -> Session:
    session = Session(SessionConfig(max_concurrent=2))
    for event in (Spawn(ROOT, "a", "m", None, HOST), Loaded(1, 1), Wait(1, 1, 1.0), Shutdown(9.0)):
        session.handle(event)
    return session


def parts(s: Session) -> list[tuple[type, Any]]:
    """Every object of a session whose fields are compared."""
    rooms = [*zip(ROOMS, OF_STATE(s), strict=True)]
    return [(State, s), *rooms, (Agent, s.agents[1]), (Draining, s.draining)]


CASES = [(kind, name) for kind, names in FIELDS.items() for name in names]


@pytest.mark.parametrize(("kind", "name"), CASES, ids=lambda case: getattr(case, "__name__", case))
def test_difference_sees_each_field(kind: type, name: str) -> None:
    before = drains()
    after = before.fork()
    assert difference(before, after) is None
    part = dict(parts(after))[kind]
    setattr(part, name, "another value")
    value = getattr(dict(parts(before))[kind], name)
    assert difference(before, after) == f"{kind.__name__.lower()}.{name}: {value}, then another value"


def test_difference_compares_every_slot_of_a_session_but_those_it_names() -> None:
    compared = {name for names in FIELDS.values() for name in names}
    slots = {name for kind in FIELDS for name in kind.__dict__["__slots__"]}
    assert slots - compared == {*LEFT_OUT, *ONE_BY_ONE}


def test_difference_sees_the_order_of_a_dict_a_new_agent_and_a_deadline_that_the_heap_has_lost() -> None:
    before = Session(SessionConfig(max_concurrent=3))
    for name in ("a", "b"):
        before.handle(Spawn(ROOT, name, "m", None, HOST))
    swapped, more, lost = before.fork(), before.fork(), before.fork()
    swapped.residents.loading = dict(reversed(swapped.residents.loading.items()))
    assert swapped.residents.loading == before.residents.loading
    assert "loading" in (difference(before, swapped) or "")
    more.agents.append(more.agents[1])
    assert difference(before, more) == "3 agents, then 4"
    lost.deadlines.heap.clear()
    assert difference(before, lost) == "the heap of deadlines"
    ended = drains()
    ended.draining = None
    assert (difference(drains(), ended) or "").startswith("draining: ")


def test_difference_leaves_void_deadlines_out() -> None:
    one, other = Deadlines(), Deadlines()
    before, after = Session(), Session()
    before.deadlines, after.deadlines = one, other
    for deadlines in (one, other):
        deadlines.set(0, 1, 5.0)  # type: ignore[arg-type]
    other.heap.append((1.0, 99, (0, 1)))  # type: ignore[arg-type]
    assert difference(before, after) is None
