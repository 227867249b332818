"""Exceptions of an agent that are large: telling and logging them takes a bounded amount of work.

What is bounded is measured as memory, since nothing here may look at the wall clock: a copy of a text, or an object for
each member of a group, shows in the peak.
"""

from __future__ import annotations

import logging
import tracemalloc
from collections.abc import Callable

import pytest

from statemachine.core.machines import TurnState
from statemachine.runtime import Turn
from statemachine.runtime.errors import TRACEBACK_MAX, leaves, traceback_of, words
from statemachine.sinks import log
from statemachine.stores import limits
from tests.runtime.running import Open, completed, echo, ending, traced_sessions, virtual_time

FIXTURES = (traced_sessions, virtual_time)
PEAK_BYTES_MAX = 2_000_000
LOGGED_MAX = 40_000


def of_many_notes() -> Exception:
    error = ValueError("x")
    error.__notes__ = ["n" * 10] * 200_000
    return error


def of_a_long_note() -> Exception:
    error = ValueError("x")
    error.add_note("n" * 20_000_000)
    return error


def wide() -> Exception:
    return ExceptionGroup("wide", [ValueError(number) for number in range(50_000)])


def nested_twice() -> Exception:
    """Has 2**60 members."""
    error: Exception = ValueError("x")
    for _ in range(60):
        error = ExceptionGroup("twice", [error, error])
    return error


def deep() -> Exception:
    error: Exception = ValueError("x")
    for _ in range(50_000):
        error = ExceptionGroup("deep", [error])
    return error


def chained(by: str) -> Exception:
    error = ValueError("first")
    for _ in range(50_000):
        after = ValueError("y")
        setattr(after, by, error)
        error = after
    return error


def circular() -> Exception:
    one, other = ValueError("one"), ValueError("other")
    one.__context__, other.__context__ = other, one
    return one


def of_a_long_line() -> Exception:
    return SyntaxError("x", ("file", 1, 1, "y" * 20_000_000))


LARGE: dict[str, Callable[[], Exception]] = {
    "message": lambda: ValueError("\0" * 20_000_000),
    "line": of_a_long_line,
    "notes": of_many_notes,
    "note": of_a_long_note,
    "group": wide,
    "group of the same": nested_twice,
    "nested group": deep,
    "causes": lambda: chained("__cause__"),
    "contexts": lambda: chained("__context__"),
}


class Keeping(logging.Handler):
    """Formats every record, and keeps the length of the text."""

    def __init__(self) -> None:
        super().__init__()
        self.lengths: list[int] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lengths.append(len(self.format(record)))


@pytest.fixture(name="handler")
def keeping_handler(monkeypatch: pytest.MonkeyPatch) -> Keeping:
    handler = Keeping()
    monkeypatch.setattr(log.logger, "handlers", [handler])
    monkeypatch.setattr(log.logger, "propagate", False)
    return handler


def peak_of(work: Callable[[], object]) -> int:
    """The bytes that it takes at most."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", LARGE)
def test_words_traceback_and_log_of_a_large_exception_are_short_and_take_little_work(
    kind: str, handler: Keeping
) -> None:
    try:
        raise LARGE[kind]()
    except Exception as raised:
        error = raised
    assert peak_of(lambda: words(error)) < PEAK_BYTES_MAX
    assert limits.ERROR.excess(words(error)) is None
    assert peak_of(lambda: traceback_of(error)) < PEAK_BYTES_MAX
    kept = traceback_of(error)
    assert kept is not None
    assert "Traceback (most recent call last):" in kept
    assert len(kept) < TRACEBACK_MAX + 100
    assert peak_of(lambda: log.error("raised", exc_info=error)) < PEAK_BYTES_MAX
    assert len(handler.lengths) == 1
    assert handler.lengths[0] < LOGGED_MAX


@pytest.mark.anyio
@pytest.mark.parametrize("kind", LARGE)
async def test_turn_that_raises_a_large_exception_is_errored_and_the_session_goes_on(
    open_session: Open, kind: str, handler: Keeping
) -> None:
    async def work(turn: Turn) -> str:
        if turn.number == 1:
            raise LARGE[kind]()
        return await echo(turn)

    async with open_session(work) as control:
        outcome = await (await control.spawn("/root", "a", "x")).outcome()
        assert outcome.status is TurnState.ERRORED
        assert len(outcome.result) <= limits.ERROR.bytes_max
        assert ending(await (await control.follow_up("/root/a", "y")).outcome()) == completed("y")
    assert max(handler.lengths) < LOGGED_MAX


def test_traceback_of_an_exception_within_the_bounds_is_that_of_python() -> None:
    try:
        try:
            raise KeyError("first")
        except KeyError as first:
            raise ExceptionGroup("some", [ValueError("a"), circular()]) from first
    except Exception as raised:
        raised.add_note("of the tool")
        kept = traceback_of(raised)
    assert kept is not None
    for part in ("KeyError: 'first'", "direct cause", "ValueError: a", "ValueError: one", "of the tool"):
        assert part in kept


def test_outline_of_a_large_exception_names_what_it_can() -> None:
    kept = traceback_of(wide())
    assert kept is not None
    assert "ExceptionGroup: wide (50000 sub-exceptions)\n  with ValueError: 0\n" in kept
    assert kept.endswith("is too long)\n")
    kept = traceback_of(chained("__cause__"))
    assert kept is not None
    assert kept.count("after ValueError: y") == 10


def test_leaves_of_a_group_that_has_others_twice_are_each_looked_at_a_few_times() -> None:
    assert len(leaves(nested_twice())) == 2
