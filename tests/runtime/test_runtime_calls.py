"""Calls of a thread's code that overlap with what is asked of it meanwhile: each ends with its own report."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from statemachine.core.machines import TurnState
from statemachine.runtime import AgentControl, Thread, ThreadLost, Turn
from statemachine.stores import MemoryStore
from tests.runtime.running import Open, completed, ending, traced_sessions, virtual_time

pytestmark = pytest.mark.anyio
FIXTURES = (traced_sessions, virtual_time)


async def awaits_what_was_cancelled() -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


async def loses_the_thread() -> None:
    raise ThreadLost("in the clean-up of a flush")


async def raises() -> None:
    raise ValueError("in the clean-up of a flush")


async def returns() -> None:
    pass


def slow_to_stop(clean_up: Callable[[], Awaitable[None]]) -> type[Thread]:
    """Its flush takes long, is slow to stop, and ends as `clean_up` does."""

    class SlowToStop(Thread):
        async def run(self, turn: Turn) -> str:
            if turn.mail[0].text == "slow":
                await anyio.sleep(1)
            return "done"

        async def flush(self) -> None:
            try:
                await anyio.sleep(3)
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.3)
                await clean_up()

    return SlowToStop


@pytest.mark.parametrize("clean_up", [raises, loses_the_thread, returns, awaits_what_was_cancelled])
async def test_interrupt_of_a_turn_in_line_leaves_the_call_alone_that_is_made(
    open_session: Open, anyio_backend: str, clean_up: Callable[[], Awaitable[None]]
) -> None:
    if clean_up is awaits_what_was_cancelled and anyio_backend == "trio":
        clean_up = returns  # there is nothing like it
    async with open_session(slow_to_stop(clean_up), max_concurrent=3, max_resident=2) as control:
        for name in ("a", "b"):
            await (await control.spawn("/root", name, "x")).outcome()
        third = await control.spawn("/root", "c", "x")  # a is flushed for it
        await anyio.sleep(0.1)
        slow = await control.follow_up("/root/a", "slow")  # a is kept; its flush does not stop yet
        await anyio.sleep(0.1)
        await control.interrupt("/root/a")
        assert (await slow.outcome()).status is TurnState.INTERRUPTED
        await anyio.sleep(1)
        assert ending(await (await control.follow_up("/root/a", "y")).outcome()) == completed("done")
        assert ending(await third.outcome()) == completed("done")


async def test_queue_only_mail_leaves_nothing_that_waits_for_an_answer(open_session: Open) -> None:
    async def work(turn: Turn) -> str:
        return str(len(turn.mail))

    async with open_session(work) as control:
        handle = await control.spawn("/root", "a", "x")
        assert control._handles
        assert ending(await handle.outcome()) == completed("1")
        for _ in range(10):
            await control.send("/root/a", "m")
        assert ending(await (await control.follow_up("/root/a", "y")).outcome()) == completed("11")
        assert not control._handles


async def test_turn_and_its_mail_are_gone_when_it_has_completed(open_session: Open) -> None:
    turns: list[weakref.ref[Turn]] = []

    async def work(turn: Turn) -> None:
        turns.append(weakref.ref(turn))

    async with open_session(work) as control:
        gc.disable()
        try:
            await (await control.spawn("/root", "a", "x" * 1000)).outcome()
            await anyio.wait_all_tasks_blocked()
            assert [turn() for turn in turns] == [None]
        finally:
            gc.enable()


class CancelsItsTaskAtTheEnd(Thread):
    """Leaves its task with a cancellation that nobody has seen."""

    async def run(self, turn: Turn) -> str:
        return "done"

    async def close(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_close_that_cancels_its_task_ends_no_session(open_session: Open) -> None:
    async with open_session(CancelsItsTaskAtTheEnd, max_concurrent=2, max_resident=1) as control:
        for name in ("a", "b", "c"):
            assert ending(await (await control.spawn("/root", name, "x")).outcome()) == completed("done")
            await anyio.sleep(1)


class FullStore(MemoryStore):
    """A disk that is full, and slow to say so."""

    is_full = False

    async def append(self, items: Any) -> None:
        if self.is_full:
            await anyio.sleep(0.1)
            raise OSError("disk full")
        await super().append(items)


async def test_who_asks_a_failed_session_again_and_again_can_be_cancelled() -> None:
    async def work(_: Turn) -> None:
        return None

    store, refusals = FullStore(), 0

    async def session() -> None:
        nonlocal refusals
        async with AgentControl.open(store, work) as control:
            store.is_full = True
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(refused, control)
                await anyio.sleep(0.05)
                tasks.start_soon(refused, control)  # in line behind what fails
            others: list[int] = []

            async def other() -> None:
                others.append(refusals)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(other)
                while not others and refusals < 100:
                    await refused(control)
                assert others, "others had their turn"

    async def refused(control: AgentControl) -> None:
        nonlocal refusals
        with pytest.raises(Exception, match="disk full"):
            await control.send("/root", "x")
        refusals += 1

    with pytest.raises(Exception, match="disk full"):
        await session()
