"""The task of a thread: all calls of its code are made there, and what one of them does to it ends with that call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, ClassVar

import anyio
import pytest

from statemachine.machines import Turn as Status
from statemachine.runtime import Thread, Turn
from statemachine.runtime.tasks import own_context
from statemachine.stores import LogRecord
from tests.running import Open, completed, counts, ending, traced_sessions, virtual_time

pytestmark = pytest.mark.anyio
FIXTURES = (traced_sessions, virtual_time)
ONLY_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)


class Located(Thread):
    """Notes in which task its code runs."""

    where: ClassVar[list[tuple[str, int]]] = []

    def note(self, what: str) -> None:
        self.where.append((what, anyio.get_current_task().id))

    async def load(self, history: tuple[LogRecord, ...]) -> None:
        self.note("load")

    async def run(self, turn: Turn) -> str:
        self.note("run")
        return "done"

    async def flush(self) -> None:
        self.note("flush")

    async def close(self) -> None:
        self.note("close")


async def test_all_code_of_a_thread_runs_in_one_task_which_ends_with_it(open_session: Open) -> None:
    Located.where.clear()
    async with open_session(Located, max_concurrent=2, idle_ttl=10.0) as control:
        before = len(anyio.get_running_tasks())
        await (await control.spawn("/root", "a", "x")).outcome()
        await (await control.follow_up("/root/a", "y")).outcome()
        assert len(anyio.get_running_tasks()) == before + 1
        await anyio.sleep(11)
        await anyio.wait_all_tasks_blocked()
        assert [what for what, _ in Located.where] == ["load", "run", "run", "flush", "close"]
        assert len({task for _, task in Located.where}) == 1
        assert len(anyio.get_running_tasks()) == before


async def test_context_variables_that_a_turn_sets_are_gone_with_it(open_session: Open) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="nothing")
    seen: list[str] = []

    async def work(turn: Turn) -> None:
        seen.append(variable.get())
        token = variable.set(turn.mail[0].text)
        await anyio.lowlevel.checkpoint()
        seen.append(variable.get())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep, 1)
        variable.reset(token)
        variable.set("left behind")

    variable.set("of the host")
    async with open_session(work) as control:
        handle = await control.spawn("/root", "a", "first")
        await handle.outcome()
        await (await control.follow_up("/root/a", "second")).outcome()
    assert [seen[1], seen[3]] == ["first", "second"]
    assert seen[0] == seen[2] != "left behind"


async def test_code_with_a_context_of_its_own_returns_raises_and_is_cancelled_as_without() -> None:
    async def returns() -> int:
        await anyio.lowlevel.checkpoint()
        return 7

    async def raises() -> None:
        await anyio.lowlevel.checkpoint()
        raise ValueError("no")

    ended: list[str] = []

    async def hangs() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("cancelled")

    assert await own_context(returns()) == 7
    with pytest.raises(ValueError, match="no"):
        await own_context(raises())
    with anyio.move_on_after(1) as scope:
        await own_context(hangs())
    assert (scope.cancelled_caught, ended) == (True, ["cancelled"])


kept: list[asyncio.Task[Any]] = []


async def cancels_its_task(turn: Turn) -> str:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    return "went on"


async def cancels_its_task_and_waits(turn: Turn) -> str:
    await cancels_its_task(turn)
    await anyio.sleep(1)
    return "went on"


async def keeps_its_task(turn: Turn) -> str:
    task = asyncio.current_task()
    assert task is not None
    kept.append(task)
    return "went on"


@ONLY_ASYNCIO
@pytest.mark.parametrize(
    ("misdeed", "status"),
    [
        (cancels_its_task, Status.COMPLETED),
        (cancels_its_task_and_waits, Status.ERRORED),
        (keeps_its_task, Status.COMPLETED),
    ],
)
async def test_task_that_a_turn_cancels_serves_the_next_turn_as_if_new(
    open_session: Open, misdeed: Callable[[Turn], Any], status: Status
) -> None:
    kept.clear()

    async def work(turn: Turn) -> str:
        if turn.number == 1:
            said: str = await misdeed(turn)
            return said
        task = asyncio.current_task()
        assert task is not None
        try:
            async with asyncio.timeout(1):
                await anyio.sleep_forever()
        except TimeoutError:
            return f"timed out, {task.cancelling()} cancellations"
        return "never"

    async with open_session(work) as control:
        first = await (await control.spawn("/root", "a", "x")).outcome()
        assert first.status is status
        await anyio.wait_all_tasks_blocked()
        for task in kept:
            task.cancel()
        await anyio.wait_all_tasks_blocked()
        for _ in range(2):
            outcome = await (await control.follow_up("/root/a", "y")).outcome()
            assert ending(outcome) == completed("timed out, 0 cancellations")
        assert counts(control) == {"resident": 1}
