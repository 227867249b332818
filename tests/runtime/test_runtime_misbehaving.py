"""Code of users that raises, hangs, ignores cancellation or does what it may not: every count stays right.

Each test ends with `works_on`: no slot is held, the agent does another turn, and `open_session` checks the rest.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from statemachine import Outcome
from statemachine.core.machines import SessionState, TurnState
from statemachine.core.records import Cause
from statemachine.core.refusals import NotRunning, Refusal, SessionClosed
from statemachine.runtime import AgentControl, AgentInfo, NotJson, Thread, ThreadLost, Turn
from statemachine.runtime.control import inside
from statemachine.stores import Entry, MemoryStore
from tests.runtime.running import (
    Open,
    Stage,
    completed,
    counts,
    echo,
    ending,
    recorder,
    traced_sessions,
    virtual_time,
)

pytestmark = pytest.mark.anyio
FIXTURES = (traced_sessions, virtual_time)
ONLY_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)


class Stop(BaseException):
    """What KeyboardInterrupt is, without what event loops do about that one."""


async def works_on(control: AgentControl, path: str = "/root/a") -> None:
    """Nothing is held but one residency slot, and the agent does another turn."""
    await anyio.wait_all_tasks_blocked()
    assert "slots" not in counts(control)
    outcome = await (await control.follow_up(path, "again")).outcome()
    assert outcome.status is TurnState.COMPLETED
    assert outcome.result.endswith("again")
    assert counts(control) == {"resident": 1}


def once(misdeed: Callable[[Turn], Any]) -> Callable[[Turn], Any]:
    """Work that does this in its first turn, and echoes from then on."""

    async def work(turn: Turn) -> Any:
        return await (misdeed(turn) if turn.number == 1 else echo(turn))

    return work


# Raising

DEEP: list[Any] = []
for _ in range(500):
    DEEP = [DEEP]


class Unspeakable(Exception):
    """Even its words cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("no"), "ValueError: no"),
        (ExceptionGroup("two", [ValueError("a"), KeyError("b")]), "ExceptionGroup: two (2 sub-exceptions)"),
        (TimeoutError(), "TimeoutError"),
        (Unspeakable(), "Unspeakable"),
        (ValueError("\ud800"), "ValueError: \ud800"),
        (StopIteration(), "RuntimeError: coroutine raised StopIteration"),
    ],
)
async def test_turn_that_raises_ends_errored_with_the_words_of_its_error(
    open_session: Open, error: Exception, said: str
) -> None:
    async def misdeed(_: Turn) -> None:
        raise error

    async with open_session(once(misdeed)) as control:
        outcome = await (await control.spawn("/root", "a", "x")).outcome()
        assert outcome.status is TurnState.ERRORED
        assert outcome.result.startswith(said)
        await works_on(control)


@pytest.mark.parametrize("error", [ThreadLost("gone"), ExceptionGroup("some", [ValueError("a"), ThreadLost("gone")])])
async def test_turn_that_loses_its_thread_ends_errored_and_the_next_one_gets_a_new_thread(
    open_session: Open, error: Exception
) -> None:
    async def misdeed(_: Turn) -> None:
        raise error

    work = recorder(once(misdeed))
    async with open_session(work) as control:
        outcome = await (await control.spawn("/root", "a", "x")).outcome()
        assert outcome.status is TurnState.ERRORED
        assert outcome.result.startswith("its thread died: ")
        await anyio.wait_all_tasks_blocked()
        assert counts(control) == {}
        assert work.log == ["new /root/a", "load /root/a", "run /root/a", "close /root/a"]
        await works_on(control)
        assert control.statistics().reloads == 1


async def test_thread_of_the_root_that_is_lost_is_closed_and_built_anew(open_session: Open) -> None:
    async def misdeed(_: Turn) -> None:
        raise ThreadLost("gone")

    work = recorder(once(misdeed))
    async with open_session(work) as control:
        assert (await (await control.start("/root", "x")).outcome()).status is TurnState.ERRORED
        assert ending(await (await control.start("/root", "y")).outcome()) == completed("y")
    assert work.log == [
        *("new /root", "load /root", "run /root", "close /root"),
        *("new /root", "load /root", "run /root", "flush /root", "close /root"),
    ]


def fails_as_pytest_does() -> None:
    pytest.fail("of a tool")


def exits() -> None:
    sys.exit("usage: tool FILE")


def parses_arguments() -> None:
    argparse.ArgumentParser(prog="tool").parse_args(["--no-such-option"])


def raises(error: BaseException) -> Callable[[], None]:
    def misdeed() -> None:
        raise error

    return misdeed


class SaysNothing(Exception):
    """Its words exit."""

    def __str__(self) -> str:
        exits()
        return "never"


ENDINGS: dict[str, tuple[Callable[[], None], str]] = {
    "exit": (exits, "SystemExit: usage: tool FILE"),
    "argparse": (parses_arguments, "SystemExit: 2"),
    "panic": (raises(Stop("panicked")), "Stop: panicked"),
    "pytest": (fails_as_pytest_does, "Failed: of a tool"),
    "group": (raises(BaseExceptionGroup("some", [Stop("a"), ValueError("b")])), "BaseExceptionGroup: some (2 sub-"),
    "words": (raises(SaysNothing()), "SaysNothing"),
    "GeneratorExit": (raises(GeneratorExit()), ""),
}
"""What ends a program elsewhere, and here only the code that does it."""
PLACES = ("__init__", "load", "run", "flush", "close")


@pytest.mark.parametrize("path", ["/root", "/root/a"])
@pytest.mark.parametrize("how", ENDINGS)
@pytest.mark.parametrize("place", PLACES)
async def test_any_exception_of_an_agent_wherever_its_code_is_called_is_its_own(
    place: str, how: str, path: str, open_session: Open
) -> None:
    misdeed, said = ENDINGS[how]
    is_bad = True

    base: Any = recorder()

    class Bad(base):  # type: ignore[misc]
        def __init__(self, agent: AgentInfo) -> None:
            super().__init__(agent)
            self.is_of_it = agent.path == path
            if self.is_of_it and place == "__init__" and is_bad:
                misdeed()

        async def _do(self, what: str) -> None:
            await super()._do(what)
            if self.is_of_it and what == place and is_bad:
                misdeed()

    async def asked(text: str) -> Outcome:
        if path == "/root":
            return await (await control.start("/root", text)).outcome()
        if text == "first":
            return await (await control.spawn("/root", "a", text)).outcome()
        return await (await control.follow_up(path, text)).outcome()

    async with open_session(Bad, max_concurrent=3, idle_ttl=5.0, max_attempts=1) as control:
        other = await control.spawn("/root", "other", "x")
        first = await asked("first")
        if place in ("__init__", "load", "run"):
            assert first.status is TurnState.ERRORED
            assert first.cause is (Cause.FAILED if place == "run" else Cause.LOAD_FAILED)
            assert said in first.result
        else:
            assert ending(first) == completed("first")
        await anyio.sleep(20)
        is_bad = False
        assert ending(await other.outcome()) == completed("x")
        again = await asked("second")
        assert again.status is TurnState.COMPLETED
        assert again.result.endswith("second")


async def test_exception_in_the_block_leaves_it_as_itself_and_closes_every_thread(open_session: Open) -> None:
    stage = Stage()
    work = recorder(stage)
    controls: list[AgentControl] = []

    async def block() -> None:
        async with open_session(work) as control:
            controls.append(control)
            await control.spawn("/root", "a", "x")
            await stage.scene("/root/a")
            raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await block()
    assert work.log == ["new /root/a", "load /root/a", "run /root/a", "close /root/a"]
    with pytest.raises(SessionClosed):
        await controls[0].send("/root/a", "late")


@ONLY_ASYNCIO  # its tasks are cancelled one by one
async def test_task_that_somebody_else_cancelled_fails_the_turn_that_awaits_it_and_leaks_no_slot(
    open_session: Open,
) -> None:
    async def misdeed(_: Turn) -> None:
        task = asyncio.ensure_future(asyncio.sleep(1000))
        asyncio.get_running_loop().call_soon(task.cancel)
        await task

    async with open_session(once(misdeed)) as control:
        outcome = await (await control.spawn("/root", "a", "x")).outcome()
        assert ending(outcome) == (TurnState.ERRORED, "CancelledError")
        await works_on(control)


@ONLY_ASYNCIO  # in trio there is no cancellation that a constructor could raise
async def test_constructor_that_raises_a_cancellation_of_something_else_is_a_failed_load(
    open_session: Open,
) -> None:
    raised: list[bool] = []

    class Careless(Thread):
        def __init__(self, agent: Any) -> None:
            super().__init__(agent)
            if not raised:
                raised.append(True)
                raise asyncio.CancelledError

        async def run(self, turn: Turn) -> str:
            return await echo(turn)

    async with open_session(Careless) as control:
        outcome = await (await control.spawn("/root", "a", "x")).outcome()
        assert ending(outcome) == (TurnState.ERRORED, "load failed: CancelledError")
        await works_on(control)


# Wrong types


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (b"bytes", "a value of class bytes, which is not a JSON value: Object of type bytes is not JSON serializable"),
        ([{1}], "a value of class list, which is not a JSON value: Object of type set is not JSON serializable"),
        (float("nan"), "a value of class float, which is not a JSON value: Out of range float values are not JSON"),
        (DEEP, "a value of class list, "),
    ],
)
async def test_turn_that_returns_what_is_not_json_ends_errored(open_session: Open, result: object, said: str) -> None:
    async def misdeed(_: Turn) -> object:
        return result

    async with open_session(once(misdeed)) as control:
        outcome = await (await control.spawn("/root", "a", "x")).outcome()
        assert outcome.status is TurnState.ERRORED
        assert outcome.cause is Cause.FAILED
        assert outcome.result.startswith(f"ValueError: a turn returned {said}")
        await works_on(control)


@pytest.mark.parametrize("result", ["\ud800 \x00", None])
async def test_turn_that_returns_any_text_or_none_completes(open_session: Open, result: str | None) -> None:
    async def misdeed(_: Turn) -> str | None:
        return result

    async with open_session(once(misdeed)) as control:
        assert ending(await (await control.spawn("/root", "a", "x")).outcome()) == completed(result)
        await works_on(control)


async def test_constructor_that_raises_or_makes_no_thread_fails_the_load(open_session: Open) -> None:
    made: list[object] = []

    class Odd(Thread):
        def __new__(cls, agent: Any) -> Any:
            made.append(agent)
            if len(made) == 1:
                raise ValueError("not today")
            return super().__new__(cls) if len(made) > 2 else "no thread"

        async def run(self, turn: Turn) -> str:
            return await echo(turn)

    async with open_session(Odd) as control:
        outcome = await (await control.spawn("/root", "a", "x")).outcome()
        assert ending(outcome) == (TurnState.ERRORED, "load failed: ValueError: not today")
        outcome = await (await control.follow_up("/root/a", "x")).outcome()
        assert outcome.status is TurnState.ERRORED
        assert outcome.result.startswith("load failed: ")
        await works_on(control)


@pytest.mark.parametrize("entry", [object(), {1, 2}, float("nan"), DEEP, b"x", {"a": {object()}}])
async def test_record_of_what_is_no_json_value_is_refused_and_the_turn_goes_on(
    open_session: Open, entry: object
) -> None:
    async def misdeed(turn: Turn) -> str:
        with pytest.raises(NotJson):
            await turn.record(entry)
        await turn.record({"fine": True})
        return "went on"

    async with open_session(once(misdeed)) as control:
        assert ending(await (await control.spawn("/root", "a", "x")).outcome()) == completed("went on")
        await works_on(control)


async def test_entry_that_is_changed_after_record_began_is_kept_as_it_was(open_session: Open) -> None:
    async def misdeed(turn: Turn) -> str:
        entry: dict[str, Any] = {"n": 1}
        with anyio.CancelScope() as scope:
            scope.cancel()
            await turn.record(entry)
        entry["n"] = object()
        return "changed"

    async with open_session(once(misdeed)) as control:
        await (await control.spawn("/root", "a", "x")).outcome()
        assert [r.data for r in await control.history("/root/a") if isinstance(r, Entry)] == [{"n": 1}]
        await works_on(control)


WRONG: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("spawn", ("/root", 5, "x"), {}),
    ("spawn", ("/root", "b", 5), {}),
    ("spawn", ("/root", "b", b"x"), {}),
    ("spawn", ("/root", "b", "x", object()), {}),
    ("spawn", ("/root", "b", "x", DEEP), {}),
    ("spawn", (None, "b", "x"), {}),
    ("spawn", (1.0, "b", "x"), {}),
    ("spawn", (True, "b", "x"), {}),
    ("spawn", ("/root", "b", "x"), {"role": 5}),
    ("spawn", ("/root", "b", "x"), {"key": 5}),
    ("send", ("/root/a", "x"), {"sender": "/root"}),
    ("send", ("/root/a", "x"), {"sender": 0.0}),
    ("send", ("/root/a", ""), {}),
    ("send", ("/root/a", "x"), {"key": b"k"}),
    ("send", (["/root/a"], "x"), {}),
    ("follow_up", (99, "x"), {}),
    ("follow_up", (-1, "x"), {}),
    ("start", ("/root/a", None), {}),
    ("interrupt", ("/root/a",), {"sender": None}),
    ("interrupt", (1.5,), {}),
    ("close", ("/root/a",), {"sender": "host"}),
    ("close", (object(),), {}),
    ("resume", (b"/root/a",), {}),
    ("status", (None,), {}),
    ("list", (5,), {}),
    ("history", (99,), {}),
    ("history", (1.0,), {}),
    ("handle", ("/root/a",), {}),
    ("shutdown", ("soon",), {}),
    ("shutdown", (None,), {}),
    ("shutdown", (float("nan"),), {}),
]


@pytest.mark.parametrize(("verb", "args", "options"), WRONG, ids=lambda value: str(value)[:20])
async def test_verb_with_arguments_of_the_wrong_type_is_refused_and_the_session_goes_on(
    open_session: Open, verb: str, args: tuple[Any, ...], options: dict[str, Any]
) -> None:
    async with open_session(echo) as control:
        await (await control.spawn("/root", "a", "x")).outcome()
        with pytest.raises((Refusal, TypeError)):
            await getattr(control, verb)(*args, **options)
        assert inside(control).session.state is SessionState.OPEN
        assert len(inside(control).session.agents) == 2
        await works_on(control)


@pytest.mark.parametrize("timeout", ["1", [], float("nan"), -1, True, 1j])
async def test_wait_with_a_timeout_of_the_wrong_type_is_refused_and_the_turn_goes_on(
    open_session: Open, timeout: Any
) -> None:
    async def misdeed(turn: Turn) -> str:
        with pytest.raises((Refusal, TypeError)):
            await turn.wait(timeout)
        return "went on"

    async with open_session(once(misdeed)) as control:
        assert ending(await (await control.spawn("/root", "a", "x")).outcome()) == completed("went on")
        await works_on(control)


async def test_message_with_any_characters_comes_back_as_it_was(open_session: Open) -> None:
    async with open_session(echo) as control:
        text = "\x00 \x7f \U0001f600 \u2028 \uffff"
        assert ending(await (await control.spawn("/root", "a", text)).outcome()) == completed(text)
        await works_on(control)


# A turn that is over


async def test_turn_that_is_over_refuses_every_verb_and_changes_nothing(open_session: Open) -> None:
    stage = Stage()
    async with open_session(stage) as control:
        await control.spawn("/root", "a", "x")
        scene = await stage.scene("/root/a")
        scene.end()
        await anyio.wait_all_tasks_blocked()
        turn, before = scene.turn, control.statistics()
        calls: list[Callable[[], Any]] = [
            turn.drain,
            lambda: turn.wait(1),
            lambda: turn.record(1),
            turn.history,
            lambda: turn.spawn("b", "x"),
            lambda: turn.send("/root", "x"),
            lambda: turn.follow_up("/root/a", "x"),
            lambda: turn.interrupt("/root/a"),
            lambda: turn.close("/root/a"),
            lambda: turn.resume("/root/a"),
            lambda: turn.status("/root/a"),
            turn.list,
        ]
        for call in calls:
            with pytest.raises(NotRunning):
                await call()
        assert control.statistics() == before


async def test_wait_that_outlives_its_turn_in_a_task_of_its_own_is_told_so(open_session: Open) -> None:
    told: list[type[Exception]] = []

    async def outlive(turn: Turn) -> None:
        try:
            await turn.wait(3000)
        except Refusal as refusal:
            told.append(type(refusal))

    async with anyio.create_task_group() as others:

        async def misdeed(turn: Turn) -> str:
            others.start_soon(outlive, turn)
            await anyio.wait_all_tasks_blocked()
            return "left it"

        async with open_session(once(misdeed)) as control:
            assert ending(await (await control.spawn("/root", "a", "x")).outcome()) == completed("left it")
            await anyio.wait_all_tasks_blocked()
            assert told == [NotRunning]
            await works_on(control)


async def test_verb_before_the_block_is_entered_says_what_to_do() -> None:
    control = AgentControl.open(MemoryStore(), echo)
    with pytest.raises(RuntimeError, match="enter it with `async with` first"):
        await control.status("/root")
