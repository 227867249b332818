"""What the runtime and the stores have to know of event loops: clocks and signals."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest import mock

import anyio
import pytest

from statemachine.eventloops import clock, signals


def test_clock_is_that_of_the_event_loop_also_if_somebody_has_set_it() -> None:
    async def read() -> list[float]:
        loop = asyncio.get_running_loop()
        found = [clock()() - loop.time()]
        with mock.patch.object(loop, "time", return_value=5.0):
            return [*found, clock()()]

    usual, patched = asyncio.run(read())
    assert abs(usual) < 60
    assert patched == 5.0


@pytest.mark.anyio
async def test_signal_wakes_all_who_wait_and_forgets_who_was_cancelled() -> None:
    signal = signals()()
    woken: list[str] = []
    waiting: list[Any] = []

    async def wait(name: str) -> None:
        await signal.wait()
        woken.append(name)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for name in ("a", "b"):
                tasks.start_soon(wait, name)
            await anyio.wait_all_tasks_blocked()
            for _ in range(1_000):
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    await signal.wait()
                assert scope.cancelled_caught
            waiting = list(getattr(signal, "_waiting", ()))
            with anyio.CancelScope() as scope:
                scope.cancel()
                signal.set()  # it and a cancellation at once
                await anyio.lowlevel.checkpoint()
            assert scope.cancelled_caught
    assert sorted(woken) == ["a", "b"]
    assert len(waiting) <= 12, "those who still wait, and few who were cancelled"
    with anyio.fail_after(60):
        await signal.wait()


@pytest.mark.anyio
async def test_waiter_that_is_cancelled_when_the_signal_comes_is_cancelled() -> None:
    signal = signals()()
    ended: list[str] = []

    async def wait() -> None:
        try:
            await signal.wait()
            await anyio.sleep_forever()
        finally:
            ended.append("ended")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
        signal.set()
    assert ended == ["ended"]
