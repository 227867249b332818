"""Steps that tell too little or too much: the properties notice each effect that is left out, doubled, or not the one
that is due, though the state is right.
"""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from model.scenarios import script
from statemachine.checking.properties import PropertyViolation, check_step
from statemachine.core import effects as fx
from statemachine.core import events as ev
from statemachine.core.config import SessionConfig
from statemachine.core.effects import Accepted, Effect, Step, WaitEnd
from statemachine.core.session import Session

LIFE = (
    *("spawn root a by host", "loaded a", "spawn a b by a", "loaded a/b", "await a 1", "finished a/b"),
    *("wait a 5", "interrupt host a", "aborted a", "spawn root c by host", "flushed a/b", "loaded c", "shutdown 5"),
    *("finished c", "flushed c", "flushed a", "flushed root"),
)
"""A life in which every effect is told that threads and turns hang on."""
Told = tuple[Session, ev.Event, Step, Session]


def life() -> list[Told]:
    session, steps = Session(SessionConfig(max_concurrent=3, max_resident=2)), list[Told]()
    for line in LIFE:
        before, event = session.fork(), script.parse(line, session)
        step = session.handle(event)  # type: ignore[arg-type]  # no restart is among them
        steps.append((before, event, step, session.fork()))  # type: ignore[arg-type]
    return steps


STEPS = life()
EFFECTS = [(number, effect) for number, (_, _, step, _) in enumerate(STEPS) for effect in step.effects]
OF_THREADS = [(n, e) for n, e in EFFECTS if not isinstance(e, fx.Answer)]


def evolved(effect: Any, **changes: Any) -> Any:
    return attrs.evolve(effect, **changes)


def noticed(number: int, *effects: Effect) -> str | None:
    """The property that does not hold if this step of the life has these effects instead."""
    before, event, step, after = STEPS[number]
    try:
        check_step(before, event, evolved(step, effects=effects), after)
    except PropertyViolation as violation:
        return violation.property.id
    return None


def test_life_has_each_effect_on_a_thread_and_a_turn() -> None:
    kinds = {effect.__class__ for _, effect in OF_THREADS}
    assert kinds == {fx.Load, fx.StartTurn, fx.Cancel, fx.Flush, fx.Unload, fx.Wake, fx.ShutDown}
    assert [noticed(number, *step.effects) for number, (_, _, step, _) in enumerate(STEPS)] == [None] * len(STEPS)


@pytest.mark.parametrize(("number", "effect"), OF_THREADS)
def test_effect_that_is_left_out_is_noticed(number: int, effect: Effect) -> None:
    assert noticed(number, *[other for other in STEPS[number][2].effects if other is not effect])


@pytest.mark.parametrize(("number", "effect"), OF_THREADS)
def test_effect_that_is_told_twice_is_noticed(number: int, effect: Effect) -> None:
    assert noticed(number, *STEPS[number][2].effects, effect)


@pytest.mark.parametrize("kind", [fx.Load, fx.StartTurn, fx.Cancel, fx.Flush, fx.Unload, fx.Wake])
def test_effect_on_another_agent_is_noticed(kind: Any) -> None:
    number, told = next((n, e) for n, e in OF_THREADS if isinstance(e, kind))
    assert noticed(number, *[evolved(e, agent=ev.ROOT) if e is told else e for e in STEPS[number][2].effects])


def test_end_of_a_wait_that_is_not_the_true_one_is_noticed() -> None:
    number, wake = next((n, e) for n, e in OF_THREADS if isinstance(e, fx.Wake))
    for end in set(WaitEnd) - {wake.end, WaitEnd.STALLED}:
        changed = [evolved(e, end=end) if e is wake else e for e in STEPS[number][2].effects]
        assert noticed(number, *changed) == "S21", end.name


def test_refusal_that_is_true_and_is_not_the_first_that_is_due_is_noticed() -> None:
    session = Session(SessionConfig(max_concurrent=3))
    for event in (ev.Spawn(ev.ROOT, "a", "m", None, ev.HOST), ev.Close(ev.HOST, 1)):
        session.handle(event)
    empty = session.handle(ev.Send(ev.HOST, ev.ROOT, ""))
    with pytest.raises(PropertyViolation, match="AgentClosed"):
        check_step(session.fork(), ev.Send(ev.HOST, 1, ""), empty, session)


def test_acceptance_of_what_fails_a_check_is_noticed() -> None:
    session = Session(SessionConfig(max_concurrent=3))
    with pytest.raises(PropertyViolation, match="S18"):
        check_step(session.fork(), ev.Send(ev.HOST, 7, "m"), Step((), Accepted(0), ()), session)
