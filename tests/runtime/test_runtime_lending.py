"""Turns that lend their slot by their own choice, by `turn.lend` and `turn.sleep`: others use it meanwhile, and however
the block is left, code goes on with a slot (semantics.md section 7, J7).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import anyio
import pytest

from statemachine import SlotPolicy
from statemachine.core.machines import TurnState
from statemachine.core.records import Cause
from statemachine.core.refusals import InvalidTimeout, NotRunning
from statemachine.runtime import AgentControl, Turn
from statemachine.runtime.control import inside
from tests.runtime.running import Floor, Open, Stage, completed, counts, ending, traced_sessions, virtual_time

pytestmark = pytest.mark.anyio
FIXTURES = (traced_sessions, virtual_time)
ONLY_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)


async def test_lent_slot_runs_others_and_the_block_is_left_with_a_slot(open_session: Open) -> None:
    floor = Floor()
    order: list[str] = []

    async def work(turn: Turn) -> str:
        if turn.path == "/root/a":
            async with turn.lend():
                await anyio.sleep(5)
                order.append("a lends")
            order.append("a goes on")
        await floor.work(turn, 10)
        order.append(f"{turn.path} worked")
        return "done"

    async with open_session(work, max_concurrent=2) as control:
        first = await control.spawn("/root", "a", "go")
        second = await control.spawn("/root", "b", "go")
        await anyio.sleep(2)
        assert counts(control) == {"slots": 1, "resident": 2, "waiting": 1}
        assert (await control.status("/root/a")).status is TurnState.WAITING
        assert ending(await first.outcome()) == ending(await second.outcome()) == completed("done")
        assert order == ["a lends", "/root/b worked", "a goes on", "/root/a worked"]
        assert floor.most == 1


async def test_slot_that_is_not_needed_stays_with_the_turn_that_would_lend_it(open_session: Open) -> None:
    async def work(turn: Turn) -> str:
        async with turn.lend():
            await anyio.sleep(10)
        return "done"

    async with open_session(work, max_concurrent=2) as control:
        handle = await control.spawn("/root", "a", "go")
        await anyio.sleep(5)
        assert (await control.status("/root/a")).status is TurnState.RUNNING
        assert counts(control) == {"slots": 1, "resident": 1, "waiting": 1}
        assert ending(await handle.outcome()) == completed("done")


async def test_turn_that_lends_for_an_approval_keeps_its_requester_waiting_for_the_real_end(
    open_session: Open,
) -> None:
    approved = anyio.Event()
    floor = Floor()

    async def work(turn: Turn) -> Any:
        if turn.path == "/root/boss":
            return (await (await turn.spawn("clerk", "buy it")).outcome()).result
        if turn.path == "/root/boss/clerk":
            async with turn.lend():
                await approved.wait()
        await floor.work(turn)
        return f"{turn.path} did it"

    async with open_session(work, max_concurrent=2) as control:
        boss = await control.spawn("/root", "boss", "go")
        await anyio.sleep(1800)
        for name in ("x", "y"):  # the slot is free for others all the time
            assert ending(await (await control.spawn("/root", name, "go")).outcome()) == completed(
                f"/root/{name} did it"
            )
        await anyio.sleep(1800)
        assert not boss.is_answered
        approved.set()
        assert ending(await boss.outcome()) == completed("/root/boss/clerk did it")
        assert floor.most == 1


async def test_error_in_the_block_is_raised_when_the_turn_has_a_slot_again(open_session: Open) -> None:
    floor = Floor()

    async def fails(turn: Turn) -> None:
        async with turn.lend():
            await anyio.sleep(5)
            raise KeyError

    async def work(turn: Turn) -> Any:
        if turn.path != "/root/a":
            return await floor.work(turn, 100)
        began = anyio.current_time()
        with pytest.raises(KeyError):
            await fails(turn)
        await floor.work(turn)
        return round(anyio.current_time() - began)

    async with open_session(work, max_concurrent=2) as control:
        handle = await control.spawn("/root", "a", "go")
        await control.spawn("/root", "b", "go")
        assert ending(await handle.outcome()) == completed(101)
        assert floor.most == 1


@pytest.mark.parametrize("of", ["each its own", "the same twice", "one for all"])
async def test_blocks_in_each_other_and_in_several_tasks_lend_until_the_last_is_left(
    of: str, open_session: Open
) -> None:
    floor = Floor()
    blocks: list[Any] = []

    async def lend(turn: Turn, seconds: float) -> None:
        blocks.append(block := turn.lend())
        outer = blocks[0] if of == "one for all" else block
        async with outer, turn.lend() if of == "each its own" else outer:
            await anyio.sleep(seconds)

    async def work(turn: Turn) -> Any:
        if turn.path != "/root/a":
            return await floor.work(turn, 7)
        async with anyio.create_task_group() as tasks:
            for seconds in (5, 10, 15):
                tasks.start_soon(lend, turn, seconds)
        await floor.work(turn)
        return "done"

    async with open_session(work, max_concurrent=2) as control:
        handle = await control.spawn("/root", "a", "go")
        others = [await control.spawn("/root", name, "go") for name in "bcd"]
        assert ending(await handle.outcome()) == completed("done")
        for other in others:
            await other.outcome()
        assert floor.most == 1
        assert counts(control) == {"resident": 4}


async def test_root_and_live_threads_lend_nothing(open_session: Open) -> None:
    stage = Stage()

    async def work(turn: Turn) -> str:
        async with turn.lend():
            await stage(turn)
        return "done"

    async with open_session(work, max_concurrent=2, slot_policy=SlotPolicy.LIVE_THREADS) as control:
        handles = [await control.start("/root", "go"), await control.spawn("/root", "a", "go")]
        scenes = [await stage.scene("/root"), await stage.scene("/root/a")]
        assert counts(control) == {"slots": 1, "resident": 1, "waiting": 2}
        for scene, handle in zip(scenes, handles, strict=True):
            scene.end()
            assert ending(await handle.outcome()) == completed("done")


async def test_turn_that_waits_by_its_own_choice_is_no_reason_for_a_stall(open_session: Open) -> None:
    async def work(turn: Turn) -> str:
        if turn.path == "/root/a":
            async with turn.lend():
                await anyio.sleep(50)
            return "slept"
        return "ran"

    async with open_session(work, max_concurrent=2, max_resident=1) as control:
        began = anyio.current_time()
        first = await control.spawn("/root", "a", "go")
        second = await control.spawn("/root", "b", "go")
        assert ending(await second.outcome()) == completed("ran")
        assert anyio.current_time() - began == pytest.approx(50, abs=0.1), "no residency slot is left to lend for"
        assert ending(await first.outcome()) == completed("slept")


# Code that leaves the block by a cancellation


async def block(turn: Turn) -> None:
    async with turn.lend():
        await anyio.sleep(1000)


async def moves_on(turn: Turn) -> None:
    with anyio.move_on_after(5) as scope:
        await block(turn)
    assert scope.cancelled_caught


async def is_cancelled_with_its_group(turn: Turn) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(block, turn)
        tasks.start_soon(turn.sleep, 1000)
        await anyio.sleep(5)
        tasks.cancel_scope.cancel()


async def moves_on_twice(turn: Turn) -> None:
    with anyio.move_on_after(10) as outer:
        with anyio.move_on_after(5):
            await block(turn)
        await anyio.lowlevel.checkpoint()
    assert outer.cancelled_caught


async def times_out(turn: Turn) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5):
            await block(turn)


async def waits_for(turn: Turn) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(turn.sleep(1000), 5)


async def is_cancelled_natively(turn: Turn) -> None:
    task = asyncio.create_task(block(turn))
    await asyncio.sleep(5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def is_cancelled_natively_again(turn: Turn) -> None:
    """Once in the block, and again while it waits for a slot."""
    task = asyncio.create_task(block(turn))
    for _ in range(3):
        await asyncio.sleep(5)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def is_cancelled_natively_on_its_way_out(turn: Turn) -> None:
    task = asyncio.create_task(turn.sleep(5))
    await asyncio.sleep(10)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


Leave = Callable[[Turn], Awaitable[None]]
LEAVES: list[Leave] = [moves_on, moves_on_twice, is_cancelled_with_its_group]
LEAVES_BY_ASYNCIO: list[Leave] = [
    times_out,
    waits_for,
    is_cancelled_natively,
    is_cancelled_natively_again,
    is_cancelled_natively_on_its_way_out,
]


async def goes_on_with_a_slot(open_session: Open, leave: Leave) -> None:
    floor = Floor()

    async def work(turn: Turn) -> Any:
        if turn.path != "/root/a":
            return await floor.work(turn, 100)
        began = anyio.current_time()
        await leave(turn)
        gone_on = round(anyio.current_time() - began)
        assert inside(controls[0]).session.agents[1].status is TurnState.RUNNING
        await floor.work(turn)
        return gone_on

    controls: list[AgentControl] = []
    async with open_session(work, max_concurrent=2) as control:
        controls.append(control)
        handle = await control.spawn("/root", "a", "go")
        await control.spawn("/root", "b", "go")
        assert ending(await handle.outcome()) == completed(100)
        assert floor.most == 1
        assert counts(control) == {"resident": 2}


@pytest.mark.parametrize("leave", LEAVES, ids=lambda leave: leave.__name__)
async def test_block_left_by_a_cancellation_is_left_with_a_slot(open_session: Open, leave: Leave) -> None:
    await goes_on_with_a_slot(open_session, leave)


@ONLY_ASYNCIO
@pytest.mark.parametrize("leave", LEAVES_BY_ASYNCIO, ids=lambda leave: leave.__name__)
async def test_block_left_by_a_cancellation_of_asyncio_is_left_with_a_slot(open_session: Open, leave: Leave) -> None:
    await goes_on_with_a_slot(open_session, leave)


# Code that is closed


async def closes_a_generator(turn: Turn) -> None:
    async def lent() -> AsyncGenerator[None]:
        async with turn.lend():
            yield

    generator = lent()
    await anext(generator)
    await anyio.sleep(5)
    await generator.aclose()


async def closes_a_coroutine(turn: Turn) -> None:
    code = block(turn)
    code.send(None)
    await anyio.sleep(5)
    code.close()


async def closes_a_wait(turn: Turn) -> None:
    code = turn.wait()
    code.send(None)
    await anyio.sleep(5)
    code.close()


@ONLY_ASYNCIO
@pytest.mark.parametrize("close", [closes_a_generator, closes_a_coroutine, closes_a_wait])
async def test_code_that_is_closed_waits_no_more_and_its_turn_gets_a_slot_again(
    open_session: Open, close: Callable[[Turn], Awaitable[None]]
) -> None:
    async def work(turn: Turn) -> Any:
        if turn.path != "/root/a":
            return await anyio.sleep(100)
        await close(turn)
        (closed,) = [agent.status for agent in await turn.list("/root/a")]
        await anyio.sleep(100)
        (then,) = [agent.status for agent in await turn.list("/root/a")]
        return [closed.name, then.name]

    async with open_session(work, max_concurrent=2) as control:
        handle = await control.spawn("/root", "a", "go")
        await control.spawn("/root", "b", "go")
        assert ending(await handle.outcome()) == completed(["RETURNING", "RUNNING"])


# Turns that are stopped meanwhile


async def test_interrupt_of_a_turn_that_lends_ends_it_without_a_slot(open_session: Open) -> None:
    stage = Stage()
    left: list[str] = []

    async def work(turn: Turn) -> Any:
        if turn.path != "/root/a":
            return await stage(turn)
        try:
            await block(turn)
        finally:
            left.append("block")
            with anyio.CancelScope(shield=True), pytest.raises(NotRunning):
                await block(turn)
        return "not reached"

    async with open_session(work, max_concurrent=2) as control:
        lending = await control.spawn("/root", "a", "go")
        await control.spawn("/root", "b", "go")
        scene = await stage.scene("/root/b")
        assert (await control.interrupt("/root/a")).previous is TurnState.WAITING
        assert ending(await lending.outcome()) == (TurnState.INTERRUPTED, "interrupted")
        assert left == ["block"]
        assert counts(control) == {"slots": 1, "resident": 2}
        scene.end()


async def test_interrupt_of_a_turn_that_waits_for_a_slot_to_leave_the_block_ends_it_without_one(
    open_session: Open,
) -> None:
    stage = Stage()

    async def work(turn: Turn) -> Any:
        if turn.path != "/root/a":
            return await stage(turn)
        await moves_on(turn)
        await anyio.sleep(1000)
        return "not reached"

    async with open_session(work, max_concurrent=2) as control:
        lending = await control.spawn("/root", "a", "go")
        await control.spawn("/root", "b", "go")
        scene = await stage.scene("/root/b")
        await anyio.sleep(10)
        assert (await control.interrupt("/root/a")).previous is TurnState.RETURNING
        assert ending(await lending.outcome()) == (TurnState.INTERRUPTED, "interrupted")
        assert counts(control) == {"slots": 1, "resident": 2}
        scene.end()


async def test_close_of_an_agent_whose_turn_lends_gives_everything_back(open_session: Open) -> None:
    stage = Stage()

    async def work(turn: Turn) -> Any:
        await (block(turn) if turn.path == "/root/a" else stage(turn))

    async with open_session(work, max_concurrent=2) as control:
        lending = await control.spawn("/root", "a", "go")
        await control.spawn("/root", "b", "go")
        scene = await stage.scene("/root/b")
        await control.close("/root/a")
        assert (await lending.outcome()).cause is Cause.CLOSED
        assert counts(control) == {"slots": 1, "resident": 1}
        scene.end()


async def test_block_entered_after_the_end_of_the_turn_is_refused(open_session: Open) -> None:
    kept: list[Turn] = []

    async def work(turn: Turn) -> None:
        kept.append(turn)

    async with open_session(work) as control:
        await (await control.spawn("/root", "a", "go")).outcome()
        for call in (block, lambda turn: turn.sleep(1)):
            with pytest.raises(NotRunning):
                await call(kept[0])
        assert counts(control) == {"resident": 1}


# Sleep


async def test_sleep_lends_the_slot_for_its_time(open_session: Open) -> None:
    floor = Floor()

    async def work(turn: Turn) -> Any:
        began = anyio.current_time()
        if turn.path == "/root/a":
            await turn.sleep(20)
            return round(anyio.current_time() - began)
        return await floor.work(turn, 5)

    async with open_session(work, max_concurrent=2) as control:
        handle = await control.spawn("/root", "a", "go")
        others = [await control.spawn("/root", name, "go") for name in "bc"]
        for other in others:
            await other.outcome()
        assert not handle.is_answered
        assert ending(await handle.outcome()) == completed(20)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1, -float("inf"), "1", None, True, 1j])
async def test_sleep_for_no_number_of_seconds_is_refused_and_the_turn_goes_on(open_session: Open, seconds: Any) -> None:
    async def work(turn: Turn) -> str:
        is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        with pytest.raises(InvalidTimeout if is_number else TypeError):
            await turn.sleep(seconds)
        await turn.sleep(0)
        return "went on"

    async with open_session(work) as control:
        assert ending(await (await control.spawn("/root", "a", "go")).outcome()) == completed("went on")
        assert counts(control) == {"resident": 1}
