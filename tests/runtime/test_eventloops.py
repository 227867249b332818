"""What the runtime and the stores have to know of event loops: clocks, signals, bells and shields."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest import mock

import anyio
import pytest

from statemachine.eventloops import bells, clock, is_cancelled, shield, signals, to_its_end


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


@pytest.mark.anyio
async def test_bell_wakes_its_task_each_time_and_is_not_heard_in_between() -> None:
    bell = bells()()
    bell.ring()
    woken = 0

    async def live() -> None:
        nonlocal woken
        while woken < 3:
            await bell.wait()
            woken += 1

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(live)
            for expected in range(1, 4):
                await anyio.wait_all_tasks_blocked()
                assert woken == expected - 1, "what rang before it waited is not heard"
                bell.ring()
                bell.ring()  # which adds nothing
    bell.ring()


@pytest.mark.anyio
async def test_bell_rings_on_after_a_wait_for_it_was_cancelled() -> None:
    bell = bells()()

    async def live() -> None:
        await bell.wait()

    with anyio.fail_after(60):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await bell.wait()
        assert scope.cancelled_caught
        bell.ring()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(live)
            await anyio.wait_all_tasks_blocked()
            bell.ring()


@pytest.mark.anyio
async def test_shield_keeps_cancellations_around_it_away() -> None:
    for _ in range(2):  # it is known then which class scopes have here
        with anyio.fail_after(60), anyio.CancelScope() as scope:
            scope.cancel()
            with shield():
                await anyio.lowlevel.checkpoint()
                assert not is_cancelled()
            assert is_cancelled()
            await anyio.lowlevel.checkpoint()
        assert scope.cancelled_caught


@pytest.mark.parametrize("cancels_caller", [True, False])
def test_work_that_is_done_to_its_end_is_begun_once_though_its_task_is_cancelled_before_that(
    cancels_caller: bool,
) -> None:
    """What many programs do when they are told to stop: `for task in asyncio.all_tasks(): task.cancel()`."""
    done: list[str] = []

    async def work() -> str:
        done.append("begun")
        for _ in range(3):
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(0)
        return "done"

    async def main(passes: int) -> list[asyncio.Task[Any]]:
        done.clear()
        ours = asyncio.current_task()
        caller = asyncio.ensure_future(to_its_end(work))
        for _ in range(passes):
            await asyncio.sleep(0)
            others = asyncio.all_tasks() - {ours} - (set() if cancels_caller else {caller})
            if not done:
                for task in others:
                    task.cancel()
        await asyncio.wait([caller])
        assert done == ["begun"]
        assert caller.cancelled() or caller.result() == "done"
        return [caller]

    for passes in range(1, 8):
        (caller,) = asyncio.run(main(passes))
        assert caller.cancelled() == cancels_caller
