"""What a turn returned, as the core carries it: a text as it is, any other JSON value as `Json`."""

from __future__ import annotations

import math
from typing import Any

import pytest

from statemachine.core import effects as fx
from statemachine.core.events import Finished
from statemachine.core.facts import Json, Result
from statemachine.core.machines import TurnState
from statemachine.core.records import Cause, Outcome
from tests.core.scenario import running


@pytest.mark.parametrize("result", ["a river", Json({"depth": 2}), Json(None), Json([1, "two"])])
def test_core_carries_any_result_to_whoever_is_told_of_it(result: Result) -> None:
    s = running()
    ended = Outcome(1, 1, TurnState.COMPLETED, result, Cause.FINISHED)
    s.feed(Finished(1, 1, result))
    s.asks(fx.Answer((0,), ended)).see("""
        /root    new
        /root/a  completed 1, resident
        session  open, slots 0/3, residency 1/3, ready -, idle a""")
    assert s.session.agents[1].outcome == ended
    assert s.session.fork().agents[1].outcome == ended
    assert ended.raw is result
    assert ended.result == (result if isinstance(result, str) else result.value)


def test_outcome_shows_the_value_and_takes_it_by_its_name() -> None:
    outcome = Outcome(1, 2, TurnState.COMPLETED, result=Json({"depth": 2}), cause=Cause.FINISHED)
    assert outcome.result == {"depth": 2}
    assert repr(outcome) == (
        "Outcome(agent=1, turn=2, status=<TurnState.COMPLETED: 1>, result={'depth': 2}, "
        "cause=<Cause.FINISHED: 0>, by=None)"
    )


def test_json_is_a_fact_by_its_text() -> None:
    assert Json({"a": [1, 2]}) == Json({"a": (1, 2)})
    assert hash(Json({"a": [1, 2]})) == hash(Json({"a": (1, 2)}))
    assert len({Json(1), Json(True), Json(1.0), Json("1"), Json([1]), Json(None), "null"}) == 7
    text: object = "null"
    assert Json(None) != text
    assert repr(Json({"a": None})) == "Json({'a': None})"


def test_json_is_not_changed_by_what_it_was_made_of_or_what_it_gave() -> None:
    value: dict[str, list[int]] = {"a": []}
    held = Json(value)
    value["a"].append(1)
    held.value["a"].append(2)
    assert held.value == {"a": []}


@pytest.mark.parametrize("value", [b"bytes", {1, 2}, math.nan, [math.inf], object(), {(1, 2): 3}])
def test_what_is_not_json_is_refused_at_once(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        Json(value)
