"""Turns that await the outcomes of others: no form of code deadlocks, and no more turns work than there are slots
(semantics.md section 7).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from statemachine import SessionConfig
from statemachine.core.machines import TurnState
from statemachine.core.records import Cause
from statemachine.core.refusals import NotRunning, WaitCircle
from statemachine.runtime import AgentControl, Handle, Turn
from statemachine.runtime.errors import Stalled
from tests.runtime.running import (
    Floor,
    Open,
    Stage,
    chain,
    completed,
    counts,
    ending,
    in_session,
    judge,
    results,
    traced_sessions,
    virtual_time,
)

pytestmark = pytest.mark.anyio
FIXTURES = (traced_sessions, virtual_time)
ONLY_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)


# The program of the first try


@pytest.mark.parametrize("slots", [1, 2, 3])
async def test_chain_of_awaited_children_returns_at_every_depth_up_to_max_resident(
    open_session: Open, slots: int
) -> None:
    for depth in range(1, 8):
        async with open_session(chain(depth), max_concurrent=slots + 1, max_resident=7) as control:
            outcome = await (await control.start("/root", "go")).outcome()
            assert ending(outcome) == completed(f"leaf at {depth}")
            assert counts(control) == {"resident": depth}


async def test_chain_as_deep_as_the_residency_slots_by_default_returns_on_one_slot(open_session: Open) -> None:
    async with open_session(chain(32), max_concurrent=2) as control:
        outcome = await (await control.start("/root", "go")).outcome()
        assert ending(outcome) == completed("leaf at 32")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("slots", [1, 2, 3])
def test_chain_of_awaited_children_returns_on_sqlite(tmp_path: Path, slots: int, backend: str) -> None:
    trace = tmp_path / "trace.ndjson"

    async def start(control: AgentControl) -> None:
        assert (await (await control.start("/root", "go")).outcome()).result == "leaf at 12"

    config = SessionConfig(max_concurrent=slots + 1, max_resident=12)
    in_session(tmp_path / "session.db", start, chain(12), config, trace, backend)
    judge(trace)


# Every way to await children


async def one_by_one(_: Turn, children: list[Handle]) -> list[Any]:
    return results([await child.outcome() for child in children])


async def in_reverse(_: Turn, children: list[Handle]) -> list[Any]:
    return results(reversed([await child.outcome() for child in reversed(children)]))


async def all_at_once(turn: Turn, children: list[Handle]) -> list[Any]:
    return results(await turn.outcomes(*children))


async def as_they_end(turn: Turn, children: list[Handle]) -> list[Any]:
    return sorted(results([outcome async for outcome in turn.as_completed(*children)]))


async def task_group(_: Turn, children: list[Handle]) -> list[Any]:
    found: dict[str, Any] = {}

    async def one(child: Handle) -> None:
        found[child.path] = (await child.outcome()).result

    async with anyio.create_task_group() as tasks:
        for child in children:
            tasks.start_soon(one, child)
    return [found[child.path] for child in children]


async def move_on_after(turn: Turn, children: list[Handle]) -> list[Any]:
    with anyio.move_on_after(1000) as scope:
        return await one_by_one(turn, children)
    return [scope]


async def fail_after(turn: Turn, children: list[Handle]) -> list[Any]:
    with anyio.fail_after(1000):
        return await task_group(turn, children)


async def shielded(turn: Turn, children: list[Handle]) -> list[Any]:
    found: list[Any] = []
    with anyio.CancelScope(shield=True):
        found += await one_by_one(turn, children)
    return found


async def in_finally(turn: Turn, children: list[Handle]) -> list[Any]:
    found: list[Any] = []
    with contextlib.suppress(KeyError):
        try:
            raise KeyError(turn.path)
        finally:
            found += await one_by_one(turn, children)
    return found


async def by_wait(turn: Turn, children: list[Handle]) -> list[Any]:
    for child in children:
        await turn.wait(requests=(child,), mail=False)
    return await one_by_one(turn, children)


async def asyncio_gather(_: Turn, children: list[Handle]) -> list[Any]:
    return results(await asyncio.gather(*[child.outcome() for child in children]))


async def asyncio_task_group(_: Turn, children: list[Handle]) -> list[Any]:
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(child.outcome()) for child in children]
    return results(task.result() for task in running)


async def asyncio_timeout(turn: Turn, children: list[Handle]) -> list[Any]:
    async with asyncio.timeout(1000):
        return await one_by_one(turn, children)


async def asyncio_wait_for(_: Turn, children: list[Handle]) -> list[Any]:
    return results([await asyncio.wait_for(child.outcome(), 1000) for child in children])


async def asyncio_shield(_: Turn, children: list[Handle]) -> list[Any]:
    return results([await asyncio.shield(child.outcome()) for child in children])


async def asyncio_as_completed(_: Turn, children: list[Handle]) -> list[Any]:
    ended = asyncio.as_completed([child.outcome() for child in children])
    return sorted(results([await one for one in ended]))


Await = Callable[[Turn, list[Handle]], Awaitable[list[Any]]]
FORMS: list[Await] = [
    one_by_one,
    in_reverse,
    all_at_once,
    as_they_end,
    task_group,
    move_on_after,
    fail_after,
    shielded,
    in_finally,
    by_wait,
]
ASYNCIO_FORMS: list[Await] = [
    asyncio_gather,
    asyncio_task_group,
    asyncio_timeout,
    asyncio_wait_for,
    asyncio_shield,
    asyncio_as_completed,
]


async def tree_returns(open_session: Open, form: Await, slots: int) -> None:
    """A tree of 1 + 2 + 4 turns, each of which works before and after it awaits its children."""
    floor = Floor()
    left_over: list[Any] = []

    async def work(turn: Turn) -> Any:
        await floor.work(turn)
        if turn.path.count("/") > 2:
            return turn.path
        children = [await turn.spawn(name, "go") for name in "ab"]
        below = await form(turn, children)
        await floor.work(turn)
        left_over.extend(await turn.drain())
        return [turn.path, *below]

    async with open_session(work, max_concurrent=slots + 1) as control:
        outcome = await (await control.start("/root", "go")).outcome()
        below = [[f"/root/{a}", f"/root/{a}/a", f"/root/{a}/b"] for a in "ab"]
        assert ending(outcome) == completed(["/root", *below])
        assert floor.most == slots
        assert left_over == [], "an outcome is told once"
        assert counts(control) == {"resident": 6}


@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
async def test_tree_of_awaited_children_returns(open_session: Open, form: Await, slots: int) -> None:
    await tree_returns(open_session, form, slots)


@ONLY_ASYNCIO
@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("form", ASYNCIO_FORMS, ids=lambda form: form.__name__)
async def test_tree_of_children_awaited_by_means_of_asyncio_returns(
    open_session: Open, form: Await, slots: int
) -> None:
    await tree_returns(open_session, form, slots)


# Code that gives up its wait


async def moves_on(child: Handle) -> str:
    with anyio.move_on_after(5):
        await child.outcome()
        return "answered"
    return "gave up"


async def fails(child: Handle) -> str:
    try:
        with anyio.fail_after(5):
            await child.outcome()
    except TimeoutError:
        return "gave up"
    return "answered"


async def cancels_a_task(child: Handle) -> str:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(child.outcome)
        await anyio.sleep(5)
        tasks.cancel_scope.cancel()
    return "gave up"


async def times_out(child: Handle) -> str:
    try:
        async with asyncio.timeout(5):
            await child.outcome()
    except TimeoutError:
        return "gave up"
    return "answered"


async def waits_for(child: Handle) -> str:
    try:
        await asyncio.wait_for(child.outcome(), 5)
    except TimeoutError:
        return "gave up"
    return "answered"


async def cancels_natively(child: Handle) -> str:
    task = asyncio.create_task(child.outcome())
    await asyncio.sleep(5)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return "gave up"
    return "answered"


async def cancels_natively_twice(child: Handle) -> str:
    task = asyncio.create_task(child.outcome())
    for _ in range(2):
        await asyncio.sleep(2.5)
        task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return "gave up"
    return "answered"


GIVES_UP = [moves_on, fails, cancels_a_task]
GIVES_UP_BY_ASYNCIO = [times_out, waits_for, cancels_natively, cancels_natively_twice]


async def goes_on_with_a_slot(open_session: Open, give_up: Callable[[Handle], Awaitable[str]], lends: bool) -> None:
    floor = Floor()

    async def work(turn: Turn) -> Any:
        if turn.path == "/root/a/b":
            await (turn.sleep(100) if lends else floor.work(turn, 100))
            return "late"
        began = anyio.current_time()
        child = await turn.spawn("b", "go")
        said = await give_up(child)
        gone_on = anyio.current_time() - began
        await floor.work(turn)
        return [said, round(gone_on), (await child.outcome()).result, len(await turn.drain())]

    async with open_session(work, max_concurrent=2) as control:
        outcome = await (await control.spawn("/root", "a", "go")).outcome()
        assert ending(outcome) == completed(["gave up", 5 if lends else 100, "late", 0])
        assert floor.most == 1
        assert counts(control) == {"resident": 2}


@pytest.mark.parametrize("lends", [False, True])
@pytest.mark.parametrize("give_up", GIVES_UP, ids=lambda how: how.__name__)
async def test_code_that_gives_up_its_wait_goes_on_when_its_turn_has_a_slot(
    open_session: Open, give_up: Callable[[Handle], Awaitable[str]], lends: bool
) -> None:
    await goes_on_with_a_slot(open_session, give_up, lends)


@ONLY_ASYNCIO
@pytest.mark.parametrize("lends", [False, True])
@pytest.mark.parametrize("give_up", GIVES_UP_BY_ASYNCIO, ids=lambda how: how.__name__)
async def test_code_that_gives_up_its_wait_by_means_of_asyncio_goes_on_when_its_turn_has_a_slot(
    open_session: Open, give_up: Callable[[Handle], Awaitable[str]], lends: bool
) -> None:
    await goes_on_with_a_slot(open_session, give_up, lends)


# Circles


async def test_two_turns_that_await_each_other_get_a_circle_and_both_end(open_session: Open) -> None:
    refused: list[WaitCircle] = []

    async def work(turn: Turn) -> Any:
        if turn.mail[0].text != "go":
            return f"answer to {turn.mail[0].text}"
        other = "/root/b" if turn.path == "/root/a" else "/root/a"
        await anyio.sleep(1)
        question = await turn.follow_up(other, f"question of {turn.path}")
        try:
            return (await question.outcome()).result
        except WaitCircle as error:
            refused.append(error)
            return "refused"

    async with open_session(work, max_concurrent=3) as control:
        handles = [await control.spawn("/root", name, "go") for name in "ab"]
        ends = [ending(await handle.outcome()) for handle in handles]
        assert sorted(ends, key=str) == [completed("answer to question of /root/a"), completed("refused")] or sorted(
            ends, key=str
        ) == [completed("answer to question of /root/b"), completed("refused")]
        (error,) = refused
        assert (error.agents, error.paths) == ((1, 2), ("/root/a", "/root/b"))
        assert "/root/a (1), /root/b (2)" in str(error)
        await anyio.wait_all_tasks_blocked()
        assert counts(control) == {"resident": 2}


async def test_turn_that_awaits_its_own_request_or_that_of_an_ancestor_that_awaits_it_gets_a_circle(
    open_session: Open,
) -> None:
    given: list[Handle] = []

    async def work(turn: Turn) -> Any:
        await anyio.sleep(1)
        if turn.path == "/root/a":
            with pytest.raises(WaitCircle) as of_itself:
                await given[0].outcome()
            child = await turn.spawn("b", "go")
            below = (await child.outcome()).result
            return [list(of_itself.value.paths), below]
        with pytest.raises(WaitCircle) as of_its_parent:
            await given[0].outcome()
        await turn.wait(5, requests=(given[0],), mail=False)  # a time-out keeps it alive
        return list(of_its_parent.value.paths)

    async with open_session(work, max_concurrent=2) as control:
        given.append(await control.spawn("/root", "a", "go"))
        assert ending(await given[0].outcome()) == completed([["/root/a"], ["/root/a", "/root/a/b"]])


# Beyond max_resident


@pytest.mark.parametrize("slots", [1, 2, 3])
async def test_chain_deeper_than_max_resident_ends_with_stalled_and_the_session_goes_on(
    open_session: Open, slots: int
) -> None:
    stalled: list[Stalled] = []

    async def work(turn: Turn) -> Any:
        if turn.number > 1 or turn.path.count("/") > 6:
            return "leaf"
        child = await turn.spawn("kid", "go")
        try:
            return (await child.outcome()).result
        except Stalled as error:
            stalled.append(error)
            return "stalled"

    async with open_session(work, max_concurrent=slots + 1, max_resident=4) as control:
        assert ending(await (await control.start("/root", "go")).outcome()) == completed("stalled")
        await anyio.wait_all_tasks_blocked()
        deepest = "/root/kid/kid/kid/kid"
        assert [(error.path, error.max_resident) for error in stalled] == [(deepest, 4)]
        assert "raise max_resident" in str(stalled[0])
        assert [one.status for one in await control.list()] == [TurnState.COMPLETED] * 7
        assert ending(await (await control.follow_up(deepest, "again")).outcome()) == completed("leaf")


# What waits with its parent


async def test_interrupt_of_a_waiting_parent_leaves_its_child_and_its_outcome(open_session: Open) -> None:
    stage = Stage()
    seen: list[str] = []

    async def work(turn: Turn) -> Any:
        if turn.path == "/root/a/b":
            return await stage(turn)
        if turn.number > 1:
            return [mail.outcome.result for mail in turn.mail if mail.outcome is not None]
        child = await turn.spawn("b", "go")
        try:
            await child.outcome()
        except BaseException as error:
            seen.append(type(error).__name__)
            with anyio.CancelScope(shield=True), pytest.raises(NotRunning):
                await child.outcome()
            raise
        return "not reached"

    async with open_session(work, max_concurrent=2) as control:
        parent = await control.spawn("/root", "a", "go")
        scene = await stage.scene("/root/a/b")
        assert counts(control) == {"slots": 1, "resident": 2, "waiting": 1}
        assert (await control.interrupt("/root/a")).previous is TurnState.WAITING
        assert ending(await parent.outcome()) == (TurnState.INTERRUPTED, "interrupted")
        assert seen == [anyio.get_cancelled_exc_class().__name__]
        scene.end("worked on")
        await anyio.wait_all_tasks_blocked()
        again = await control.follow_up("/root/a", "what came of it?")
        assert ending(await again.outcome()) == completed(["worked on"])


async def test_interrupt_of_a_parent_that_returns_needs_no_slot(open_session: Open) -> None:
    stage = Stage()

    async def work(turn: Turn) -> Any:
        if turn.path != "/root/a":
            return await stage(turn)
        with anyio.move_on_after(5):
            await (await turn.spawn("b", "go")).outcome()
        return "not reached"

    async with open_session(work, max_concurrent=2) as control:
        parent = await control.spawn("/root", "a", "go")
        scene = await stage.scene("/root/a/b")
        await anyio.sleep(10)
        assert (await control.status("/root/a")).status is TurnState.RETURNING
        assert (await control.interrupt("/root/a")).previous is TurnState.RETURNING
        assert ending(await parent.outcome()) == (TurnState.INTERRUPTED, "interrupted")
        assert counts(control) == {"slots": 1, "resident": 2}
        scene.end()


async def test_close_of_a_waiting_parent_closes_its_child_and_frees_everything(open_session: Open) -> None:
    stage = Stage()

    async def work(turn: Turn) -> Any:
        if turn.path == "/root/a":
            return (await (await turn.spawn("b", "go")).outcome()).result
        return await stage(turn)

    async with open_session(work, max_concurrent=2) as control:
        parent = await control.spawn("/root", "a", "go")
        scene = await stage.scene("/root/a/b")
        assert (await control.close("/root/a")).paths == ("/root/a", "/root/a/b")
        assert (await parent.outcome()).cause is Cause.CLOSED
        assert counts(control) == {}
        await anyio.wait_all_tasks_blocked()
        assert scene.was_cancelled
        await control.spawn("/root", "c", "go")
        (await stage.scene("/root/c")).end()


async def test_child_that_is_forgotten_while_it_is_awaited_is_answered_by_its_close(open_session: Open) -> None:
    stage = Stage()

    async def work(turn: Turn) -> Any:
        if turn.path == "/root/a/b":
            return await stage(turn)
        child = await turn.spawn("b", "go")
        outcome = await child.outcome()
        await anyio.sleep(5)
        assert await child.outcome() == outcome
        return outcome.cause.name

    async with open_session(work, max_concurrent=2) as control:
        parent = await control.spawn("/root", "a", "go")
        await stage.scene("/root/a/b")
        await control.close("/root/a/b")
        await control.forget("/root/a/b")
        assert ending(await parent.outcome()) == completed("CLOSED")
