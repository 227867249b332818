"""What the log says of turns that ended because the session was left, and of code that raised."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from statemachine import MemoryStore
from statemachine.core.machines import TurnState
from statemachine.core.records import Cause, TurnEnded
from statemachine.core.refusals import SessionDraining
from statemachine.runtime import AgentControl, Thread, ThreadLost, Turn
from statemachine.runtime.errors import TRACEBACK_MAX
from tests.runtime.running import (
    Open,
    Stage,
    completed,
    echo,
    ending,
    in_session,
    recorder,
    traced_sessions,
    virtual_time,
)

pytestmark = pytest.mark.anyio
FIXTURES = (traced_sessions, virtual_time)


# Leaving


async def sends(turn: Turn) -> None:
    await turn.send("/root", "x")


async def sends_with_a_key(turn: Turn) -> None:
    await turn.send("/root", "x", key=turn.path)


async def spawns(turn: Turn) -> None:
    await turn.spawn("child", "x")


async def spawns_in_a_group(turn: Turn) -> None:
    async with anyio.create_task_group() as tasks:
        for name in ("one", "two"):
            tasks.start_soon(turn.spawn, name, "x")
        await anyio.sleep_forever()


async def sleeps(_: Turn) -> None:
    await anyio.sleep_forever()


async def lends(turn: Turn) -> None:
    await turn.sleep(1000)


DOING: tuple[Callable[[Turn], Awaitable[None]], ...] = (
    *(sends, sends_with_a_key, spawns, spawns_in_a_group, sleeps, lends),
)


@pytest.mark.parametrize("grace", [None, 0.0, 60.0])
@pytest.mark.parametrize("what", DOING, ids=lambda what: what.__name__)
async def test_turn_that_is_under_way_when_the_session_is_left_is_interrupted_by_that_whatever_it_does(
    what: Callable[[Turn], Awaitable[None]], grace: float | None, open_session: Open, caplog: pytest.LogCaptureFixture
) -> None:
    store, goes_on = MemoryStore(), anyio.Event()

    async def work(turn: Turn) -> None:
        with anyio.CancelScope(shield=True):
            await goes_on.wait()
        await what(turn)
        await anyio.sleep_forever()

    async with open_session(work, store) as control, anyio.create_task_group() as tasks:
        await control.spawn("/root", "a", "x")
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(control.shutdown, grace or 0.0)
        if grace is not None:
            await anyio.wait_all_tasks_blocked()  # otherwise the code goes on while the shutdown is being written
        goes_on.set()
    async with open_session(echo, MemoryStore(store.log)) as control:
        outcome = (await control.status("/root/a")).outcome
        assert outcome is not None
        assert outcome.status is TurnState.INTERRUPTED
        assert outcome.cause in (Cause.SHUT_DOWN, Cause.INTERRUPTED if grace else Cause.SHUT_DOWN)
        assert [record.name for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_turn_that_fails_by_itself_while_the_session_is_left_is_errored(open_session: Open) -> None:
    async def work(turn: Turn) -> None:
        try:
            await anyio.sleep_forever()
        except BaseException:
            with anyio.CancelScope(shield=True), pytest.raises(SessionDraining):
                await turn.spawn("child", "x")
            raise ValueError("of the tool") from None

    store = MemoryStore()
    async with open_session(work, store) as control:
        await control.spawn("/root", "a", "x")
        await anyio.wait_all_tasks_blocked()
    async with open_session(echo, MemoryStore(store.log)) as control:
        assert ending((await control.status("/root/a")).outcome) == (TurnState.ERRORED, "ValueError: of the tool")


# Tracebacks


def raises_deep(depth: int) -> None:
    if depth:
        raises_deep(depth - 1)
    raise ValueError("at the bottom")


async def traceback_in(control: AgentControl, path: str) -> str | None:
    ends = [record for record in await control.history(path) if isinstance(record, TurnEnded)]
    return ends[-1].traceback


@pytest.mark.parametrize("place", ["run", "load", "a lost thread", "__init__"])
async def test_traceback_of_code_that_raised_is_logged_and_kept_with_the_end_of_its_turn(
    place: str, open_session: Open, caplog: pytest.LogCaptureFixture
) -> None:
    class Raising(Thread):
        def __init__(self, agent: Any) -> None:
            super().__init__(agent)
            if place == "__init__":
                raises_deep(0)

        async def load(self, history: Any) -> None:
            if place == "load":
                raises_deep(0)

        async def run(self, turn: Turn) -> None:
            if place == "a lost thread":
                raise ThreadLost("gone")
            raises_deep(0)

    async with open_session(Raising) as control:
        for path in ("/root", "/root/a"):
            ask = control.start(path, "x") if path == "/root" else control.spawn("/root", "a", "x")
            outcome = await (await ask).outcome()
            assert outcome.status is TurnState.ERRORED
            kept = await traceback_in(control, path)
            assert kept is not None
            assert kept.startswith("Traceback (most recent call last):\n")
            assert __file__ in kept.splitlines()[1], "the frames around the code are left out"
            assert kept.splitlines()[-1] in (
                "ValueError: at the bottom",
                "statemachine.runtime.errors.ThreadLost: gone",
            )
            record = caplog.records[-1]
            assert (record.name, record.levelname) == ("statemachine", "ERROR")
            assert (record.__dict__["agent"], record.__dict__["turn"]) == (path, 1)
            assert path in record.getMessage()
            assert record.exc_info is not None


@pytest.mark.parametrize("error", [ValueError("x" * 1_000_000), RecursionError()])
async def test_traceback_that_is_kept_is_short_however_long_it_was(open_session: Open, error: Exception) -> None:
    async def work(_: Turn) -> None:
        if isinstance(error, RecursionError):
            raises_deep(1_000_000)
        raise error

    async with open_session(work) as control:
        await (await control.spawn("/root", "a", "x")).outcome()
        kept = await traceback_in(control, "/root/a")
        assert kept is not None
        assert 100 < len(kept) < TRACEBACK_MAX + 100


async def test_turn_that_completes_or_is_interrupted_has_no_traceback(open_session: Open) -> None:
    stage = Stage()
    async with open_session(stage) as control:
        first = await control.spawn("/root", "a", "x")
        (await stage.scene("/root/a")).end()
        assert ending(await first.outcome()) == completed("done")
        assert await traceback_in(control, "/root/a") is None
        second = await control.follow_up("/root/a", "x")
        await stage.scene("/root/a", 2)
        await control.interrupt("/root/a")
        await second.outcome()
        assert await traceback_in(control, "/root/a") is None


async def test_flush_that_raises_is_logged(open_session: Open, caplog: pytest.LogCaptureFixture) -> None:
    work = recorder()
    async with open_session(work, idle_ttl=5.0) as control:
        await (await control.spawn("/root", "a", "x")).outcome()
        work.fail["flush"] = OSError("disk")
        await anyio.sleep(6)
        assert any("/root/a" in record.getMessage() and record.exc_info for record in caplog.records)
        work.fail.clear()


async def test_log_handler_that_raises_harms_no_turn(open_session: Open) -> None:
    class Broken(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            raise OSError("the disk is full")

    async def work(_: Turn) -> None:
        raise ValueError("no")

    handler = Broken()
    logging.getLogger("statemachine").addHandler(handler)
    try:
        async with open_session(work) as control:
            outcome = await (await control.spawn("/root", "a", "x")).outcome()
            assert ending(outcome) == (TurnState.ERRORED, "ValueError: no")
    finally:
        logging.getLogger("statemachine").removeHandler(handler)


def test_traceback_is_in_the_file_for_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "session.db"

    async def work(_: Turn) -> None:
        raises_deep(2)

    async def fails(control: AgentControl) -> None:
        await (await control.spawn("/root", "a", "x")).outcome()

    async def looks(control: AgentControl) -> None:
        kept = await traceback_in(control, "/root/a")
        assert kept is not None
        assert kept.count("raises_deep") == 6

    in_session(path, fails, work)
    in_session(path, looks, work)


async def test_traceback_in_the_log_has_nothing_that_a_terminal_obeys_and_no_file_can_hold(
    open_session: Open, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(turn: Turn) -> None:
        raise ValueError("red \x1b[31m and half \ud800 of a pair")

    async with open_session(work) as control:
        await (await control.spawn("/root", "a", "go")).outcome()
    [record] = [record for record in caplog.records if record.exc_info]
    assert "ValueError: red \\x1b[31m and half \\ud800 of a pair" in caplog.text
    assert record.exc_text is not None
    record.exc_text.encode()
