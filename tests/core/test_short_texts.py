"""What a `repr` or an error shows of messages, settings and other values of callers: a short start (harm, kind 10)."""

from __future__ import annotations

from typing import Any, get_type_hints

import pytest
from attrs import fields

from statemachine import AgentInfo, AgentStatus, Entry, Mail, Receipt
from statemachine.core import effects as fx
from statemachine.core import events as ev
from statemachine.core import exact, refusals
from statemachine.core.agents import Agent
from statemachine.core.facts import SHOWN_MAX, Json, short
from statemachine.core.machines import TurnState
from statemachine.core.records import RECORDS, Cause, MailAccepted, MailKind, Outcome
from statemachine.log.snapshot import AgentFacts
from statemachine.log.trace import PROBLEM_MAX, TraceError
from statemachine.runtime import errors as runtime_errors
from statemachine.stores import StoreError
from statemachine.stores import errors as store_errors

LONG = "start " + "x" * 100_000 + "SECRET"
OUTCOME = Outcome(1, 1, TurnState.COMPLETED, LONG, Cause.FINISHED)
MAIL = MailAccepted(1, 0, 2, MailKind.TRIGGER, LONG, OUTCOME, LONG)
VALUES: dict[str, Any] = {
    **dict.fromkeys(("str", "str | None", "Result", "Any", "int | str"), LONG),
    **dict.fromkeys(("Outcome", "Outcome | None"), OUTCOME),
    "tuple[MailAccepted, ...]": (MAIL,) * 3,
    "dict[str, Any]": {LONG: LONG},
}
"""Annotation -> the longest value of it; 1 where there is none."""
CLASSES: list[type] = [
    *(*ev.EVENTS, *RECORDS, fx.Load, fx.StartTurn, fx.Wake, fx.Answer, fx.Drained, fx.AgentStatus, fx.Refused),
    *(Agent, AgentFacts, AgentInfo, AgentStatus, Mail, Entry, Receipt),
    *refusals.REFUSALS,
    *[getattr(runtime_errors, name) for name in runtime_errors.__all__ if name != "ThreadLost"],
]


def with_long_texts(kind: type) -> Any:
    """An object of the class with the longest values."""
    return kind(**{f.alias: VALUES.get(str(f.type), 1) for f in fields(kind) if f.init})


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_repr_shows_of_long_values_only_the_start(kind: type) -> None:
    said = repr(with_long_texts(kind))
    assert "SECRET" not in said
    assert len(said) < 5_000


def test_classes_with_long_values_are_among_those_that_are_tried() -> None:
    annotations = {str(f.type) for kind in CLASSES for f in fields(kind)}
    assert set(VALUES) - {"int | str"} <= annotations
    assert get_type_hints(MailAccepted)["message"] is str


@pytest.mark.parametrize(
    "error",
    [
        refusals.InvalidName(LONG),
        refusals.StoreFailed(LONG),
        runtime_errors.UnknownPath(LONG),
        runtime_errors.UnknownRole(LONG, ("a",)),
        runtime_errors.WrongEventLoop(LONG),
        runtime_errors.KeyReused(LONG, LONG, 1, "/root/a"),
        runtime_errors.NotJson(LONG, LONG),
        TraceError(LONG, 1, "t.ndjson"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_message_of_an_error_is_short_however_long_its_cause(error: Exception) -> None:
    assert "SECRET" not in str(error)
    assert len(str(error)) < PROBLEM_MAX + 100


def test_short_value_is_whole_and_a_long_one_says_how_long_it_is() -> None:
    assert short("go") == "'go'"
    assert short("x" * SHOWN_MAX) == repr("x" * SHOWN_MAX)
    assert short("x" * (SHOWN_MAX + 1)) == f"{'x' * SHOWN_MAX!r}... (41 characters)"
    assert short(Json({"a": 1})) == "Json({'a': 1})"
    assert short(("a",)) == "('a',)"
    assert short((1, "b")) == "(1, 'b')"
    assert short(tuple(range(1000))).endswith("38, 39, ... (1,000 values))")
    assert repr(ev.Send(0, 1, "hello")) == "Send(sender=0, target=1, message='hello', headers=None)"
    assert repr(refusals.InvalidName("A")) == "InvalidName(name='A')"


STORE_ERRORS: list[type[StoreError]] = [getattr(store_errors, name) for name in store_errors.__all__]


@pytest.mark.parametrize("kind", STORE_ERRORS)
@pytest.mark.parametrize("path", [LONG, f"postgresql://{LONG}"])
def test_error_of_a_store_is_short_however_long_path_and_problem_are(kind: type[StoreError], path: str) -> None:
    more = (7,) if kind is store_errors.AgentCorrupt else ()
    error = kind(path, LONG, *more)
    assert (error.path, error.problem) == (path, LONG)
    for text in (str(error), repr(error)):
        assert len(text) < 3_000
        assert "SECRET" not in text
    assert error.advice in str(error) or (error.in_database or "") in str(error)


def test_error_of_a_trace_is_short_however_long_its_path_is() -> None:
    error = TraceError(LONG, 3, LONG)
    assert error.path == LONG
    assert len(str(error)) < 3_000
    assert len(repr(error)) < 3_000
    assert ", line 3: " in str(error)


class Hostile:
    """A value whose `repr` raises this."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __repr__(self) -> str:
        raise self.error


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit(), ValueError(), BaseException()])
def test_value_whose_repr_ends_the_process_is_shown_by_its_class(error: BaseException) -> None:
    value = Hostile(error)
    assert exact.shown(value) == "a value of class Hostile"
    assert str(runtime_errors.NotJson(value, "x")).startswith("a value of class Hostile is not a JSON value")


def test_interrupt_while_a_value_is_shown_is_not_swallowed() -> None:
    with pytest.raises(KeyboardInterrupt):
        exact.shown(Hostile(KeyboardInterrupt()))
