"""`sys.exit` in a task that an agent's code starts, on asyncio: it ends that agent's call, and not the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from statemachine.core.machines import TurnState
from statemachine.runtime import AgentControl, Thread, Turn
from statemachine.stores import MemoryStore
from tests.runtime.running import Open, completed, echo, ending, traced_sessions, virtual_time

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)]
FIXTURES = (traced_sessions, virtual_time)


async def tool() -> None:
    await asyncio.sleep(0.01)
    sys.exit(3)


async def at_once() -> None:
    sys.exit(3)


async def when_cancelled() -> None:
    try:
        await asyncio.sleep(100)
    finally:
        sys.exit(3)


async def grouped() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(tool())


async def grouped_by_anyio() -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(tool)
        group.start_soon(anyio.sleep, 5)


async def with_a_context() -> None:
    await asyncio.get_running_loop().create_task(tool(), context=contextvars.copy_context())


async def with_an_empty_context() -> None:
    await asyncio.get_running_loop().create_task(tool(), context=contextvars.Context())


WAYS: dict[str, Callable[[], Awaitable[Any]]] = {
    "create_task": lambda: asyncio.create_task(tool()),
    "at once": lambda: asyncio.create_task(at_once()),
    "gather": lambda: asyncio.gather(tool(), asyncio.sleep(1)),
    "wait_for": lambda: asyncio.wait_for(tool(), 5),
    "cancelled": lambda: asyncio.wait_for(when_cancelled(), 1),
    "group": grouped,
    "group of anyio": grouped_by_anyio,
    "context": with_a_context,
    "empty context": with_an_empty_context,
}


WITHOUT_A_TASK = ("wait_for", "cancelled") if sys.version_info >= (3, 12) else ()
"""Ways in which the code runs in the turn's own task: `wait_for` makes none since Python 3.12."""


@pytest.mark.parametrize("way", WAYS)
async def test_exit_in_a_task_of_a_turn_fails_that_turn_alone(open_session: Open, way: str) -> None:
    async def work(turn: Turn) -> str:
        if turn.path == "/root/a" and turn.number == 1:
            await WAYS[way]()
        return await echo(turn)

    async with open_session(work) as control:
        outcome = await (await control.spawn("/root", "a", "x")).outcome()
        assert outcome.status is TurnState.ERRORED
        if way in WITHOUT_A_TASK:
            assert outcome.result == "SystemExit: 3"
        elif "group" not in way:
            assert outcome.result == "RuntimeError: a task of the agent's code has exited (SystemExit: 3)"
        assert ending(await (await control.spawn("/root", "other", "y")).outcome()) == completed("y")
        assert ending(await (await control.follow_up("/root/a", "z")).outcome()) == completed("z")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio has eager tasks from Python 3.12 on")
@pytest.mark.parametrize("way", [*WAYS, "none"])
async def test_session_in_a_loop_with_eager_tasks_works_and_contains_exits(open_session: Open, way: str) -> None:
    async def work(turn: Turn) -> str:
        if turn.path == "/root/a" and way != "none":
            await WAYS[way]()
        return await echo(turn)

    loop = asyncio.get_running_loop()
    eager: Any = getattr(asyncio, "eager_task_factory", None)
    loop.set_task_factory(eager)
    try:
        async with open_session(work) as control:
            outcome = await (await control.spawn("/root", "a", "x", key="once")).outcome()
            assert outcome.status is (TurnState.COMPLETED if way == "none" else TurnState.ERRORED)
            assert ending(await (await control.spawn("/root", "other", "y")).outcome()) == completed("y")
            async with anyio.create_task_group() as tasks:  # of the host
                tasks.start_soon(anyio.sleep, 0)
        assert loop.get_task_factory() is eager
    finally:
        loop.set_task_factory(None)


async def test_exit_in_a_task_of_a_load_or_a_close_is_that_of_the_agent(open_session: Open) -> None:
    class Exiting(Thread):
        async def load(self, history: tuple[Any, ...]) -> None:
            if self.agent.path == "/root/a":
                await asyncio.wait_for(tool(), 5)

        async def run(self, turn: Turn) -> str:
            return await echo(turn)

        async def close(self) -> None:
            await asyncio.wait_for(tool(), 5)

    async with open_session(Exiting) as control:
        outcome = await (await control.spawn("/root", "a", "x")).outcome()
        assert outcome.status is TurnState.ERRORED
        assert ending(await (await control.spawn("/root", "other", "y")).outcome()) == completed("y")


async def test_task_that_is_cancelled_before_it_begins_leaves_no_warning(
    open_session: Open, recwarn: pytest.WarningsRecorder
) -> None:
    async def work(turn: Turn) -> str:
        asyncio.create_task(tool()).cancel()
        await asyncio.sleep(0)
        return await echo(turn)

    async with open_session(work) as control:
        assert ending(await (await control.spawn("/root", "a", "x")).outcome()) == completed("x")
    assert not recwarn.list


async def test_task_factory_of_the_loop_is_used_and_is_as_it_was_once_all_sessions_are_left(
    open_session: Open,
) -> None:
    loop = asyncio.get_running_loop()
    made: list[Any] = []

    def own(loop: Any, code: Any, **options: Any) -> Any:
        made.append(code)
        return asyncio.Task(code, loop=loop, **options)

    loop.set_task_factory(own)
    try:
        async with open_session(echo) as control:
            async with AgentControl.open(MemoryStore(), echo):
                assert loop.get_task_factory() is not own
            mine = tool()
            task = asyncio.create_task(mine)
            task.cancel()
            await asyncio.wait([task])
            assert made[-1] is mine, "a task of the host is as it was"
            await (await control.spawn("/root", "a", "x")).outcome()
        assert loop.get_task_factory() is own
    finally:
        loop.set_task_factory(None)
