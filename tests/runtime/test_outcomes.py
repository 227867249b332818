"""Outcomes as a turn gets them: whose handle it is, in which order they come, and that each is told once (semantics.md
section 7, what can be waited for).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest

from statemachine import Notice, SlotPolicy
from statemachine.core.records import Outcome
from statemachine.core.refusals import NotRunning, UnknownMail
from statemachine.runtime import AgentControl, Handle, Turn
from statemachine.runtime.control import inside
from statemachine.runtime.verbs import PAGE
from statemachine.stores import MemoryStore
from tests.runtime.running import (
    Open,
    Stage,
    chain,
    completed,
    counts,
    echo,
    ending,
    results,
    traced_sessions,
    virtual_time,
)

pytestmark = pytest.mark.anyio
FIXTURES = (traced_sessions, virtual_time)
ONLY_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)


# Which handles


async def test_handle_that_the_host_made_is_awaited_in_a_turn_like_its_own(open_session: Open) -> None:
    given: list[Handle] = []

    async def work(turn: Turn) -> Any:
        await anyio.sleep(1)
        if turn.path == "/root/a":
            return (await given[0].outcome()).result
        return "worked"

    async with open_session(work, max_concurrent=2) as control:
        awaiting = await control.spawn("/root", "a", "go")
        given.append(await control.spawn("/root", "b", "go"))
        assert ending(await awaiting.outcome()) == completed("worked")
        assert ending(await given[0].outcome()) == completed("worked")


async def test_handle_of_another_turn_is_awaited_and_its_notice_is_for_that_turn_alone(open_session: Open) -> None:
    given: list[Handle] = []
    told: dict[str, int] = {}

    async def work(turn: Turn) -> Any:
        if turn.path == "/root/c":
            return "worked"
        if turn.path == "/root/a":
            given.append(await turn.follow_up("/root/c", "go"))
        outcome = await given[0].outcome()
        told[turn.path] = len(await turn.drain())
        return outcome.result

    async with open_session(work, max_concurrent=2) as control:
        await (await control.spawn("/root", "c", "go")).outcome()
        first = await control.spawn("/root", "a", "go")
        second = await control.spawn("/root", "b", "go")
        assert ending(await first.outcome()) == ending(await second.outcome()) == completed("worked")
        assert told == {"/root/a": 0, "/root/b": 0}


async def test_handle_found_by_its_reference_is_awaited_in_a_turn_like_any_other(open_session: Open) -> None:
    controls: list[AgentControl] = []

    async def work(turn: Turn) -> Any:
        if turn.path == "/root/a/b":
            return "worked"
        child = await turn.spawn("b", "go")
        return (await (await controls[0].handle(child.ref)).outcome()).result

    async with open_session(work, max_concurrent=2) as control:
        controls.append(control)
        assert ending(await (await control.spawn("/root", "a", "go")).outcome()) == completed("worked")


async def test_handle_of_another_session_is_awaited_in_a_turn_without_a_wait_of_this_one(open_session: Open) -> None:
    stage = Stage()
    given: list[Handle] = []

    async def work(_: Turn) -> Any:
        return (await given[0].outcome()).result

    async with open_session(stage) as other, open_session(work, max_concurrent=2) as control:
        await other.spawn("/root", "x", "numbers of mail differ")
        given.append(await other.spawn("/root", "a", "go"))
        waiting = await control.spawn("/root", "a", "go")
        await anyio.wait_all_tasks_blocked()
        assert counts(control) == {"slots": 1, "resident": 1}
        assert counts(other) == {"slots": 2, "resident": 2}
        (await stage.scene("/root/a")).end("elsewhere")
        assert ending(await waiting.outcome()) == completed("elsewhere")


async def test_session_opened_in_a_turn_knows_nothing_of_that_turn(open_session: Open) -> None:
    async def work(turn: Turn) -> Any:
        if turn.path != "/root/a":
            return "worked"
        async with open_session(chain(2), max_concurrent=2) as inner:
            outcome = await (await inner.start("/root", "go")).outcome()
        assert counts(controls[0])["slots"] == 1
        return outcome.result

    controls: list[AgentControl] = []
    async with open_session(work, max_concurrent=2) as control:
        controls.append(control)
        assert ending(await (await control.spawn("/root", "a", "go")).outcome()) == completed("leaf at 2")


# What an outcome is, and when


async def test_outcome_awaited_again_returns_at_once_and_its_notice_is_not_drained(open_session: Open) -> None:
    seen: list[Any] = []

    async def work(turn: Turn) -> Any:
        if turn.path == "/root/a/b":
            return "worked"
        child = await turn.spawn("b", "go")
        first = await child.outcome()
        began = inside(controls[0]).session.waits.last
        assert await child.outcome() == first
        assert await turn.outcomes(child, child) == (first, first)
        assert [outcome async for outcome in turn.as_completed(child)] == [first]
        assert inside(controls[0]).session.waits.last == began, "no wait begins for what is known"
        seen.extend(await turn.drain())
        return first.result

    controls: list[AgentControl] = []
    async with open_session(work, max_concurrent=2) as control:
        controls.append(control)
        assert ending(await (await control.spawn("/root", "a", "go")).outcome()) == completed("worked")
        assert seen == []
        assert (await control.status("/root/a")).unread == 0


async def test_notice_that_came_before_its_outcome_is_awaited_counts_as_read(open_session: Open) -> None:
    async def work(turn: Turn) -> Any:
        if turn.path == "/root/a/b":
            return "worked"
        child = await turn.spawn("b", "go")
        await anyio.sleep(10)
        assert child.is_answered
        unread = (await turn.status("/root/a")).unread
        result = (await child.outcome()).result
        return [unread, result, len(await turn.drain())]

    async with open_session(work) as control:
        assert ending(await (await control.spawn("/root", "a", "go")).outcome()) == completed([1, "worked", 0])


async def test_outcome_in_a_turn_reads_no_other_mail(open_session: Open) -> None:
    async def work(turn: Turn) -> Any:
        if turn.path != "/root/a":
            await turn.send("/root/a", f"from {turn.path}")
            return "worked"
        one, two = await turn.spawn("b", "go"), await turn.spawn("c", "go")
        await one.outcome()
        await two.outcome()
        return [mail.text for mail in await turn.drain()]

    async with open_session(work, max_concurrent=2) as control:
        outcome = await (await control.spawn("/root", "a", "go")).outcome()
        assert ending(outcome) == completed(["from /root/a/b", "from /root/a/c"])


async def test_outcomes_are_in_the_order_of_their_handles_and_as_completed_in_that_of_answers(
    open_session: Open,
) -> None:
    async def work(turn: Turn) -> Any:
        if turn.path != "/root/a":
            await anyio.sleep(float(turn.mail[0].text))
            return turn.mail[0].text
        children = [await turn.spawn(f"b{seconds}", str(seconds)) for seconds in (30, 10, 20)]
        ended = results([outcome async for outcome in turn.as_completed(*children)])
        return [ended, results(await turn.outcomes(*children)), len(await turn.drain())]

    async with open_session(work, max_concurrent=5) as control:
        outcome = await (await control.spawn("/root", "a", "go")).outcome()
        assert ending(outcome) == completed([["10", "20", "30"], ["30", "10", "20"], 0])


async def test_as_completed_gives_what_was_answered_meanwhile_in_the_order_of_answers(open_session: Open) -> None:
    async def work(turn: Turn) -> Any:
        if turn.path != "/root/a":
            await anyio.sleep(float(turn.mail[0].text))
            return turn.mail[0].text
        children = [await turn.spawn(f"b{seconds}", str(seconds)) for seconds in (30, 20, 40, 10)]
        ended: list[Any] = []
        async for outcome in turn.as_completed(*children, children[3]):
            ended.append(outcome.result)
            await anyio.sleep(25)  # the next two end meanwhile
        return [ended, len(await turn.drain())]

    async with open_session(work, max_concurrent=6) as control:
        outcome = await (await control.spawn("/root", "a", "go")).outcome()
        assert ending(outcome) == completed([["10", "10", "20", "30", "40"], 0])


async def test_as_completed_of_many_that_are_answered_lets_others_run(open_session: Open) -> None:
    passes = 0

    async def count() -> None:
        nonlocal passes
        while True:
            passes += 1
            await anyio.lowlevel.checkpoint()

    async def work(turn: Turn) -> int:
        child = await turn.spawn("b", "x")
        await child.outcome()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(count)
            found = len([outcome async for outcome in turn.as_completed(*[child] * 4 * PAGE)])
            tasks.cancel_scope.cancel()
        return found

    async with open_session({"default": echo, "asks": work}) as control:
        handle = await control.spawn("/root", "a", "go", role="asks")
        assert ending(await handle.outcome()) == completed(4 * PAGE)
        assert passes >= 3


async def test_as_completed_reads_the_notices_of_children_that_end_at_the_same_time(open_session: Open) -> None:
    stage = Stage()

    async def work(turn: Turn) -> Any:
        if turn.path != "/root/a":
            return await stage(turn)
        children = [await turn.spawn(name, "go") for name in "bcd"]
        ended = results([outcome async for outcome in turn.as_completed(*children)])
        return [ended, len(await turn.drain())]

    async with open_session(work, max_concurrent=5) as control:
        parent = await control.spawn("/root", "a", "go")
        scenes = [await stage.scene(f"/root/a/{name}") for name in "bcd"]
        await anyio.wait_all_tasks_blocked()
        for scene in reversed(scenes):
            scene.end(scene.turn.path)
        ended, unread = (await parent.outcome()).result
        assert sorted(ended) == ["/root/a/b", "/root/a/c", "/root/a/d"]
        assert unread == 0


async def test_as_completed_that_is_left_early_leaves_the_other_notices_unread(open_session: Open) -> None:
    async def work(turn: Turn) -> Any:
        if turn.path != "/root/a":
            await anyio.sleep(float(turn.mail[0].text))
            return turn.mail[0].text
        children = [await turn.spawn(f"b{seconds}", str(seconds)) for seconds in (30, 10)]
        async with AsyncExitStack() as stack:
            ended: AsyncIterator[Outcome] = turn.as_completed(*children)
            stack.push_async_callback(ended.aclose)  # type: ignore[attr-defined]
            first = await anext(ended)
        await anyio.sleep(60)
        (notice,) = await turn.drain()
        assert notice.outcome is not None
        return [first.result, notice.outcome.result]

    async with open_session(work, max_concurrent=4) as control:
        outcome = await (await control.spawn("/root", "a", "go")).outcome()
        assert ending(outcome) == completed(["10", "30"])


@pytest.mark.parametrize("notice", [Notice.NONE, Notice.TRIGGER])
async def test_outcomes_come_without_notices_and_with_notices_that_wake(open_session: Open, notice: Notice) -> None:
    async with open_session(chain(3), max_concurrent=2, notice=notice) as control:
        outcome = await (await control.start("/root", "go")).outcome()
        assert ending(outcome) == completed("leaf at 3")
        await anyio.wait_all_tasks_blocked()
        assert [(one.path, one.turn) for one in await control.list()] == [
            ("/root", 1),
            ("/root/kid", 1),
            ("/root/kid/kid", 1),
            ("/root/kid/kid/kid", 1),
        ], "what is told as an outcome wakes nobody"


async def test_awaiting_children_with_live_threads_keeps_every_slot(open_session: Open) -> None:
    async with open_session(chain(3), max_concurrent=4, slot_policy=SlotPolicy.LIVE_THREADS) as control:
        assert ending(await (await control.start("/root", "go")).outcome()) == completed("leaf at 3")
        assert counts(control) == {"slots": 3, "resident": 3}


async def test_outcomes_of_children_that_fail_are_closed_or_lose_their_thread_reach_the_parent(
    open_session: Open,
) -> None:
    stage = Stage()

    async def work(turn: Turn) -> Any:
        if turn.path != "/root/a":
            return await stage(turn)
        children = [await turn.spawn(name, "go") for name in ("fails", "closed", "interrupted")]
        return [f"{o.status.name} {o.cause.name}" for o in await turn.outcomes(*children)]

    async with open_session(work, max_concurrent=5) as control:
        parent = await control.spawn("/root", "a", "go")
        (await stage.scene("/root/a/fails")).end(ValueError("no"))
        await stage.scene("/root/a/closed")
        await control.close("/root/a/closed")
        await stage.scene("/root/a/interrupted")
        await control.interrupt("/root/a/interrupted")
        assert ending(await parent.outcome()) == completed(
            ["ERRORED FAILED", "INTERRUPTED CLOSED", "INTERRUPTED INTERRUPTED"]
        )


# Bad input


async def test_wait_for_what_cannot_be_waited_for_is_refused_and_the_turn_goes_on(open_session: Open) -> None:
    others: list[Handle] = []

    async def work(turn: Turn) -> Any:
        with pytest.raises(UnknownMail) as unknown:
            await turn.wait(requests=(99,), mail=False)
        assert unknown.value.mail == 99
        wrong: list[Any] = ["/root", 1.5, None, True]
        for request in wrong:
            with pytest.raises(TypeError, match="a request is a handle"):
                await turn.wait(requests=(request,))
        not_ours: list[Any] = ["/root", others[0], None]
        for handle in not_ours:
            with pytest.raises(TypeError, match="is not a handle of this session"):
                await turn.outcomes(handle)
            with pytest.raises(TypeError, match="is not a handle of this session"):
                async for _ in turn.as_completed(handle):
                    pass
        assert await turn.outcomes() == ()
        assert [one async for one in turn.as_completed()] == []
        return "went on"

    async with open_session(echo, MemoryStore()) as other, open_session(work) as control:
        others.append(await other.spawn("/root", "a", "x"))
        assert ending(await (await control.spawn("/root", "a", "go")).outcome()) == completed("went on")
        assert counts(control) == {"resident": 1}


# Code that outlives its turn


@ONLY_ASYNCIO
async def test_code_that_outlives_its_turn_awaits_an_outcome_like_the_host(open_session: Open) -> None:
    stage = Stage()
    left_behind: list[asyncio.Task[Outcome]] = []

    async def work(turn: Turn) -> Any:
        if turn.path != "/root/a":
            return await stage(turn)
        child = await turn.spawn("b", "go")

        async def outlive() -> Outcome:
            await asyncio.sleep(5)
            return await child.outcome()

        left_behind.append(asyncio.create_task(outlive()))
        return "gone"

    async with open_session(work, max_concurrent=2) as control:
        assert ending(await (await control.spawn("/root", "a", "go")).outcome()) == completed("gone")
        scene = await stage.scene("/root/a/b")
        await anyio.sleep(10)
        assert counts(control) == {"slots": 1, "resident": 2}
        scene.end("late")
        assert ending(await left_behind[0]) == completed("late")
        assert (await control.status("/root/a")).unread == 1


@ONLY_ASYNCIO
async def test_wait_that_outlives_its_turn_is_refused(open_session: Open) -> None:
    left_behind: list[asyncio.Task[Outcome]] = []

    async def work(turn: Turn) -> Any:
        if turn.path != "/root/a":
            await anyio.sleep(100)
        left_behind.append(asyncio.create_task((await turn.spawn("b", "go")).outcome()))
        await anyio.sleep(5)
        return "gone"

    async with open_session(work, max_concurrent=3) as control:
        assert ending(await (await control.spawn("/root", "a", "go")).outcome()) == completed("gone")
        with pytest.raises(NotRunning, match="turn 1 of agent /root/a"):
            await left_behind[0]
