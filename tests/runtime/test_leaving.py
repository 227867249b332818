"""How the block of a session is left, and what that means for loads, shutdowns, flushes and traces (harm)."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import anyio
import pytest

from statemachine import MemoryStore, SessionConfig, SlotPolicy, Turn
from statemachine.core.records import Cause
from statemachine.errors import InvalidConfig, WrongTask
from statemachine.runtime import AgentControl, AgentInfo, Thread
from statemachine.stores import SQLiteStore
from tests.runtime.running import Open, Stage, completed, echo, ending, traced_sessions, virtual_time

pytestmark = pytest.mark.anyio
FIXTURES = (traced_sessions, virtual_time)


class Left(Exception):
    """By which a block is left."""


class Slow(Thread):
    """Takes a second to load."""

    async def load(self, history: tuple[Any, ...]) -> None:
        await anyio.sleep(1)

    async def run(self, turn: Turn) -> str:
        return await echo(turn)


@pytest.mark.parametrize("policy", SlotPolicy)
@pytest.mark.parametrize("how", ["by an error", "cancelled"])
async def test_load_under_way_when_the_block_is_left_is_not_taken_for_one_that_a_crash_cut_off(
    open_session: Open, how: str, policy: SlotPolicy
) -> None:
    """However often: the process has left it in order, so the load has not killed it."""
    store: Any = MemoryStore()
    config: dict[str, Any] = {"max_concurrent": 4, "slot_policy": policy}
    for number in range(5):
        with pytest.raises(Left) if how == "by an error" else anyio.CancelScope() as scope:
            async with open_session(Slow, store, **config) as control:
                for name in "ab" if number == 0 else "":
                    await control.spawn("/root", name, "x", key=name)
                await anyio.sleep(0.5)
                if how == "by an error":
                    raise Left
                assert isinstance(scope, anyio.CancelScope)
                scope.cancel()
                await anyio.sleep_forever()
    async with open_session(Slow, store, **config) as control:
        for name in "ab":
            handle = await control.spawn("/root", name, "x", key=name)
            assert ending(await handle.outcome()) == completed("x")


async def test_block_that_is_left_shortens_the_shutdown_under_way(open_session: Open) -> None:
    stage = Stage()
    async with open_session(stage) as control:
        await control.spawn("/root", "a", "x")
        await stage.scene("/root/a")
        with anyio.move_on_after(1):
            await control.shutdown(3600)
        since = anyio.current_time()
    assert anyio.current_time() - since < 60


async def test_flush_that_is_given_up_when_the_block_is_left_is_told(
    open_session: Open, caplog: pytest.LogCaptureFixture
) -> None:
    class Hanging(Thread):
        async def run(self, turn: Turn) -> str:
            return await echo(turn)

        async def flush(self) -> None:
            await anyio.sleep_forever()

    async with open_session(Hanging) as control:
        for name in "ab":
            await (await control.spawn("/root", name, "x")).outcome()
    (told,) = [each.message for each in caplog.records if each.levelno >= logging.WARNING]
    assert told.endswith("still to flush: /root/a, /root/b")


async def test_load_that_takes_too_long_is_told_in_the_log(
    open_session: Open, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_session(Slow, load_timeout=0.5) as control:
        assert (await (await control.spawn("/root", "a", "x")).outcome()).cause is Cause.LOAD_TIMED_OUT
    assert [each for each in caplog.messages if "/root/a was not loaded within 0.5 s" in each]


async def test_log_names_the_session_of_each_failure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def work(turn: Turn) -> None:
        raise ValueError("of the turn")

    for name in ("orders-17", "orders-18"):
        async with AgentControl.open(SQLiteStore(tmp_path / f"{name}.db"), work) as control:
            await (await control.spawn("/root", "a", "x")).outcome()
    told = [each for each in caplog.records if each.levelno == logging.ERROR]
    for name, record in zip(("orders-17", "orders-18"), told, strict=True):
        assert f"{name}.db: the code of agent /root/a raised in turn 1" in record.message
        assert (record.session, record.agent, record.turn) == (  # type: ignore[attr-defined]
            str(tmp_path / f"{name}.db"),
            "/root/a",
            1,
        )


async def test_opening_that_is_refused_leaves_no_trace(tmp_path: Path, open_session: Open) -> None:
    store: Any = MemoryStore()
    async with open_session(echo, store) as control:
        for name in "ab":
            await (await control.spawn("/root", name, "x")).outcome()
    with pytest.raises(InvalidConfig):
        async with AgentControl.open(store, echo, SessionConfig(max_agents=1), trace=tmp_path / "trace.ndjson"):
            pass
    assert not (tmp_path / "trace.ndjson").exists()


@pytest.mark.parametrize("max_abandoned", [0, 3])
async def test_root_has_one_thread_beside_those_that_were_abandoned(open_session: Open, max_abandoned: int) -> None:
    """Each turn loses its thread, whose `close` takes longer than the next turn needs to begin."""
    alive, most, hangs = 0, 0, False

    class Root(Thread):
        def __init__(self, agent: AgentInfo) -> None:
            nonlocal alive, most
            super().__init__(agent)
            alive += 1
            most = max(most, alive)

        async def run(self, turn: Turn) -> str:
            self.report_lost("gone")
            await anyio.sleep_forever()
            return "never"

        async def close(self) -> None:
            nonlocal alive
            with anyio.CancelScope(shield=True):
                await anyio.sleep(100 if hangs else 0.5)
            alive -= 1

    async with open_session(Root, max_abandoned=max_abandoned, stop_grace=1.0) as control:
        for _ in range(10):
            assert (await (await control.start("/root", "x")).outcome()).cause is Cause.THREAD_DIED
        assert most == 1
        hangs = True
        for _ in range(max_abandoned):
            assert (await (await control.start("/root", "x")).outcome()).cause is Cause.THREAD_DIED
            await anyio.sleep(2)
        assert most <= max_abandoned + 1
        handle = await control.start("/root", "x")
        await anyio.sleep(0.1)
        await control.interrupt("/root")
        assert (await handle.outcome()).cause in (Cause.INTERRUPTED, Cause.THREAD_DIED)


# By which task, and in which order


async def test_block_that_another_task_leaves_is_refused_before_anything_is_cancelled() -> None:
    async with AgentControl.open(MemoryStore(), echo) as control:
        refused: list[str] = []

        async def leave() -> None:
            with pytest.raises(WrongTask) as error:
                await control.__aexit__(None, None, None)
            refused.append(str(error.value))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(leave)
        assert "another task has entered it" in refused[0]
        await anyio.sleep(0.1)
        assert ending(await (await control.start("/root", "x")).outcome()) == completed("x")


async def test_block_that_is_left_before_one_entered_later_is_refused_before_anything_is_cancelled() -> None:
    async with AgentControl.open(MemoryStore(), echo) as first, AgentControl.open(MemoryStore(), echo) as second:
        with pytest.raises(WrongTask, match="has entered another one since"):
            await first.__aexit__(None, None, None)
        await anyio.sleep(0.1)
        for control in (first, second):
            assert ending(await (await control.start("/root", "x")).outcome()) == completed("x")


def test_block_whose_task_has_ended_is_left_by_any_other(tmp_path: Path) -> None:
    """As fixtures of unittest, and of many tools for tests, enter and leave it."""
    with asyncio.Runner() as runner:
        for number in range(3):
            control = AgentControl.open(tmp_path / "session.db", echo)
            runner.run(control.__aenter__())
            handle = runner.run(control.start("/root", "x"))
            if number == 1:
                with pytest.raises(TimeoutError):
                    runner.run(asyncio.wait_for(asyncio.sleep(10), 0.01))
            assert ending(runner.run(handle.outcome())) == completed("x")
            runner.run(control.__aexit__(None, None, None))
            assert runner.run(others()) == []


async def others() -> list[str]:
    """The other tasks of the event loop."""
    return [str(task) for task in asyncio.all_tasks() - {asyncio.current_task()}]
