"""Rules of one's own: what a subclass of `Fuzz` adds to it with the decorators of Hypothesis, or as its `teardown`.

What they check is not in the events of a life: they look at the session, and may keep things of their own. So each call
of one goes by way of the machine, which takes it down among the events (`guard`). A life of events and calls can be
played again without what Hypothesis drew, and so be shrunk by `shrink.py`: the events that a call feeds are part of it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from copy import copy
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar
from unittest import SkipTest

from attrs import frozen
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException
from hypothesis.stateful import INITIALIZE_RULE_MARKER, INVARIANT_MARKER, RULE_MARKER, multiple

from statemachine.core.facts import short

T = TypeVar("T")

MARKERS = {"rule": RULE_MARKER, "initialize": INITIALIZE_RULE_MARKER, "invariant": INVARIANT_MARKER}
"""Kind of a call -> the attribute by which Hypothesis knows the functions of that kind."""
TEARDOWN = "teardown"
NOT_FAILURES = (HypothesisException, SkipTest)
"""What Hypothesis itself raises, as `assume` does, and what skips a test."""


@frozen(eq=False)
class Call:
    """A call of a function of a subclass, with what Hypothesis drew for it."""

    kind: str
    """One of `MARKERS`, or `TEARDOWN`."""
    function: Callable[..., Any]
    drawn: Mapping[str, Any]
    nothing: Any
    """What it returns if it is not carried out."""

    @property
    def name(self) -> str:
        """The kind of the verdict if it fails."""
        return f"{self.kind}-{self.function.__name__}"

    def __str__(self) -> str:
        drawn = ", ".join(f"{name}={short(value)}" for name, value in self.drawn.items())
        return f"{self.kind} {self.function.__name__}({drawn})"

    def on(self, machine: Any) -> Any:
        """Carries it out."""
        return self.function(machine, **self.drawn)

    def words(self, error: BaseException) -> str:
        """Returns what the function raised, and where in the file of the function."""
        said = f"{type(error).__name__}: {error}".removesuffix(": ")
        code = getattr(inspect.unwrap(self.function), "__code__", None)
        line, at = None, error.__traceback__
        while at is not None:
            if code is not None and at.tb_frame.f_code.co_filename == code.co_filename:
                line = at.tb_lineno
            at = at.tb_next
        where = "" if code is None or line is None else f", {Path(code.co_filename).name} line {line}"
        return f"{said} ({self.function.__qualname__}{where})"


def guard(machine: type, known: type) -> None:
    """Has the functions that this subclass of `known` adds called by its `call_own`, and not directly."""
    for name, function in inspect.getmembers(machine, inspect.isfunction):
        for kind, marker in MARKERS.items():
            rule = getattr(function, marker, None)
            if rule is None or vars(known).get(name) is function or hasattr(rule.function, "guards"):
                continue
            guarded = copy(rule)  # of a class that may be frozen, and is another one in other versions of Hypothesis
            nothing: Any = multiple() if getattr(rule, "targets", ()) else None
            object.__setattr__(guarded, "function", by_way_of_machine(kind, rule.function, nothing))
            setattr(function, marker, guarded)
    if TEARDOWN in vars(machine):
        setattr(machine, TEARDOWN, by_way_of_machine(TEARDOWN, vars(machine)[TEARDOWN], None))


def by_way_of_machine(kind: str, function: Callable[..., Any], nothing: Any) -> Callable[..., Any]:
    """Returns the function, called by `call_own` of its machine."""

    @wraps(function)
    def called(machine: Any, **drawn: Any) -> Any:
        call_own = getattr(machine, "call_own", None)
        if call_own is None:  # a class beside `Fuzz` has it too
            return function(machine, **drawn)
        return call_own(Call(kind, function, drawn, nothing))

    called.guards = function  # type: ignore[attr-defined]
    return called


def failures() -> tuple[type[BaseException], ...]:
    """Returns the exceptions that mean that something failed. That of `pytest.fail` is not an `Exception`."""
    outcomes = sys.modules.get("_pytest.outcomes")
    return (Exception,) if outcomes is None else (Exception, outcomes.Failed)


def in_hypothesis(do: Callable[[], T]) -> T:
    """Returns what `do` returns, called as a test of Hypothesis is: within one, `assume` and `note` may be called."""
    done: list[T] = []

    @settings(
        max_examples=1,
        phases=[Phase.generate],
        verbosity=Verbosity.quiet,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.none())
    def called(_: None) -> None:
        done.append(do())

    called()
    return done[0]
