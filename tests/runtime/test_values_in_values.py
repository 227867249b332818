"""A JSON value that has another one twice, and that again: small in memory, and enormous as a text."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from statemachine.core.exact import json_size_least, shown
from statemachine.core.facts import NESTING_MAX
from statemachine.core.machines import TurnState
from statemachine.core.refusals import InvalidHeaders
from statemachine.runtime import Turn
from statemachine.runtime.errors import NotJson, TooLarge
from statemachine.stores.encoding import to_json
from tests.runtime.running import Open, echo, traced_sessions, virtual_time

FIXTURES = (traced_sessions, virtual_time)

Make = Callable[[int], Any]


def lists(times: int) -> Any:
    value: Any = []
    for _ in range(times):
        value = [value, value]
    return value


def dicts(times: int) -> Any:
    value: Any = ()
    for _ in range(times):
        value = {"a": value, "b": (value, value)} if times % 2 else {"a": value, "b": value}
    return value


def long_text(times: int) -> Any:
    text = "x" * 1_000_000
    return [[text] * times] * times


TOO_LARGE = {"lists": lists(60), "dicts": dicts(60), "a long text": long_text(60)}
DOORS: dict[str, Callable[[Turn, Any], Awaitable[object]]] = {
    "entry": lambda turn, value: turn.record(value),
    "settings": lambda turn, value: turn.spawn("b", "x", value),
}


@pytest.mark.anyio
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", TOO_LARGE)
async def test_value_whose_text_would_be_enormous_is_refused_before_one_is_made(
    open_session: Open, kind: str, door: str
) -> None:
    async def work(turn: Turn) -> str:
        with pytest.raises(TooLarge) as caught:
            await DOORS[door](turn, TOO_LARGE[kind])
        assert caught.value.size > caught.value.bytes_max
        with pytest.raises(InvalidHeaders, match="at least"):
            await turn.send("/root", "x", headers={"a": TOO_LARGE[kind]})
        return await echo(turn)

    async with open_session(work) as control:
        assert (await (await control.start("/root", "a")).outcome()).result == "a"


@pytest.mark.anyio
@pytest.mark.parametrize("kind", TOO_LARGE)
async def test_result_whose_text_would_be_enormous_fails_its_turn_alone(open_session: Open, kind: str) -> None:
    async def work(turn: Turn) -> Any:
        return TOO_LARGE[kind] if turn.number == 1 else "done"

    async with open_session(work) as control:
        outcome = await (await control.start("/root", "a")).outcome()
        assert outcome.status is TurnState.ERRORED
        assert "TooLarge" in str(outcome.result)
        assert (await (await control.start("/root", "a")).outcome()).result == "done"


@pytest.mark.anyio
async def test_value_that_is_nested_too_deep_or_in_a_circle_is_refused_before_a_text_is_made(
    open_session: Open,
) -> None:
    circle: list[Any] = []
    circle += [circle, circle]

    async def work(turn: Turn) -> str:
        for value in (lists(NESTING_MAX + 50), circle):
            for door in DOORS.values():
                with pytest.raises(NotJson, match="nested more than 100 deep"):
                    await door(turn, value)
            with pytest.raises(InvalidHeaders, match="nested more than 100 deep"):
                await turn.send("/root", "x", headers={"a": value})
        return await echo(turn)

    async with open_session(work) as control:
        assert (await (await control.start("/root", "a")).outcome()).result == "a"


@pytest.mark.parametrize(
    "value", [lists(9), dicts(5), dicts(4), [], {}, None, True, 1.5, "é\0", ["a", ("b", {"c": [1, None]})], [[], [[]]]]
)
def test_least_size_of_a_value_is_at_most_that_of_its_text_and_nearly_that(value: Any) -> None:
    size = json_size_least(value, 10**9, NESTING_MAX, id)
    assert size is not None
    assert size <= len(to_json(value)) <= 2 * size + 10


def test_size_of_a_value_is_counted_as_far_as_it_is_nested() -> None:
    assert json_size_least(lists(9), 10**9, 10) == len(to_json(lists(9)))
    assert json_size_least(lists(9), 10**9, 9) is None


@pytest.mark.parametrize("value", [lists(60), dicts(60), (lists(60),), {1: lists(150)}])
def test_value_whose_repr_would_be_enormous_is_shown_by_its_class(value: Any) -> None:
    assert shown(value) == f"a value of class {type(value).__name__}"


@pytest.mark.anyio
async def test_verb_with_such_a_value_in_place_of_a_text_is_refused_at_once(open_session: Open) -> None:
    async with open_session(echo) as control:
        with pytest.raises(TypeError, match="a message is a text, not a value of class list"):
            await control.send("/root", lists(60))
        with pytest.raises(TypeError, match="a value of class list"):
            await control.status(lists(60))
