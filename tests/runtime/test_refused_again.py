"""Code that repeats a refused verb without end: others run meanwhile, and its own bounds end it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import pytest

from statemachine.core.records import Cause
from statemachine.core.refusals import NotRunning, Refusal, SessionClosed
from statemachine.runtime import AgentControl, AgentRef, Turn
from statemachine.runtime.errors import NotJson, WrongEventLoop
from statemachine.stores import MemoryStore
from tests.runtime.running import Open, echo, in_session, traced_sessions, virtual_time

pytestmark = pytest.mark.anyio
FIXTURES = (traced_sessions, virtual_time)

TRIES = 5
CallOf = Callable[[Any], Awaitable[object]]
Call = Callable[[], Awaitable[object]]
Expected = type[Exception] | tuple[type[Exception], ...]


async def within(turn: Turn) -> None:
    async with turn.lend():
        pass


async def first_of(turn: Turn, *handles: Any) -> None:
    async for _ in turn.as_completed(*handles):
        pass


async def answer(control: AgentControl) -> Any:
    """The result of a turn of the root."""
    return (await (await control.start("/root", "x")).outcome()).result


class Wrong:
    """What no verb takes."""


WRONG: Any = Wrong()
WRONG_OF_BOTH: dict[str, list[CallOf]] = {
    "send": [
        lambda by: by.send(WRONG, "x"),
        lambda by: by.send("/root", WRONG),
        lambda by: by.send("/root", "x", headers=WRONG),
        lambda by: by.send("/root", "x", key=WRONG),
        lambda by: by.send("/nobody", "x"),
        lambda by: by.send("/root", ""),
    ],
    "follow_up": [lambda by: by.follow_up(WRONG, "x"), lambda by: by.follow_up("/root", "x" * (1 << 28))],
    "withdraw": [lambda by: by.withdraw(WRONG), lambda by: by.withdraw(99)],
    "interrupt": [lambda by: by.interrupt(WRONG), lambda by: by.interrupt(99)],
    "close": [lambda by: by.close(WRONG), lambda by: by.close("/root")],
    "resume": [lambda by: by.resume(WRONG), lambda by: by.resume("/root")],
    "status": [lambda by: by.status(WRONG), lambda by: by.status(99)],
    "list": [lambda by: by.list(WRONG)],
    "history": [lambda by: by.history(WRONG), lambda by: by.history(99), lambda by: by.history("/nobody")],
}
WRONG_OF_A_TURN: dict[str, list[CallOf]] = {
    **WRONG_OF_BOTH,
    "spawn": [
        lambda turn: turn.spawn("b", "x", role="nobody"),
        lambda turn: turn.spawn("b", "x", WRONG),
        lambda turn: turn.spawn(WRONG, "x"),
    ],
    "record": [lambda turn: turn.record({1, 2})],
    "wait": [
        lambda turn: turn.wait(WRONG),
        lambda turn: turn.wait(-1),
        lambda turn: turn.wait(targets="/root"),
        lambda turn: turn.wait(targets=("/nobody",)),
        lambda turn: turn.wait(requests=(WRONG,)),
        lambda turn: turn.wait(mode=WRONG),
    ],
    "outcomes": [lambda turn: turn.outcomes(WRONG)],
    "as_completed": [lambda turn: first_of(turn, WRONG)],
    "sleep": [lambda turn: turn.sleep(WRONG), lambda turn: turn.sleep(-1)],
    "drain": [],
    "lend": [],
}
WRONG_OF_THE_HOST: dict[str, list[CallOf]] = {
    **WRONG_OF_BOTH,
    "spawn": [
        lambda control: control.spawn("/root", "b", "x", role="nobody"),
        lambda control: control.spawn("/root", "b", "x", WRONG),
        lambda control: control.spawn("/root", "b", "x", sender=WRONG),
    ],
    "start": [lambda control: control.start(WRONG, "x"), lambda control: control.start("/root", WRONG)],
    "forget": [lambda control: control.forget(WRONG), lambda control: control.forget("/root")],
    "shutdown": [lambda control: control.shutdown(WRONG)],
    "handle": [lambda control: control.handle(WRONG)],
    "backup": [lambda control: control.backup("x", WRONG)],
}
RIGHT: dict[str, list[CallOf]] = {
    "send": [lambda by: by.send("/root", "x"), lambda by: by.send("/root", "x", key="a key")],
    "follow_up": [lambda by: by.follow_up("/root", "x")],
    "withdraw": [lambda by: by.withdraw(1)],
    "interrupt": [lambda by: by.interrupt("/root")],
    "close": [lambda by: by.close("/root/a")],
    "resume": [lambda by: by.resume("/root/a")],
    "status": [lambda by: by.status("/root")],
    "list": [lambda by: by.list()],
    "history": [lambda by: by.history("/root")],
}
RIGHT_OF_A_TURN: dict[str, list[CallOf]] = {
    **RIGHT,
    "spawn": [lambda turn: turn.spawn("b", "x")],
    "record": [lambda turn: turn.record(1)],
    "wait": [lambda turn: turn.wait(1)],
    "outcomes": [lambda turn: turn.outcomes()],
    "as_completed": [],  # of requests: it gives nothing when there are none
    "sleep": [lambda turn: turn.sleep(1)],
    "drain": [lambda turn: turn.drain()],
    "lend": [within],
}
RIGHT_OF_THE_HOST: dict[str, list[CallOf]] = {
    **RIGHT,
    "spawn": [lambda control: control.spawn("/root", "b", "x", key="a key"), lambda c: c.spawn("/root", "b", "x")],
    "start": [lambda control: control.start("/root", "x")],
    "forget": [lambda control: control.forget("/root/a")],
    "shutdown": [lambda control: control.shutdown(1)],
    "handle": [lambda control: control.handle(AgentRef(0, "/root", 0))],
    "backup": [],  # of what is in memory is never made
}


async def give_way_each_time(call: Call, name: str, expected: Expected = Exception) -> None:
    """Each of several tries is refused, and lets another task run."""
    passes = 0

    async def watch() -> None:
        nonlocal passes
        while True:
            await anyio.lowlevel.checkpoint()
            passes += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        await anyio.sleep(0)
        before = passes
        for _ in range(TRIES):
            with pytest.raises(expected):
                await call()
        assert passes >= before + TRIES - 1, f"{name} was refused, and no other task ran"
        tasks.cancel_scope.cancel()


async def all_give_way(by: Any, calls: dict[str, list[CallOf]], expected: Expected = Exception) -> None:
    for name, ways in calls.items():
        for call in ways:
            await give_way_each_time(partial(call, by), name, expected)


def verbs_of(kind: type) -> set[str]:
    """The public names of a class whose calls are awaited, iterated or entered."""
    return {
        name
        for name, found in vars(kind).items()
        if not name.startswith("_")
        and (inspect.iscoroutinefunction(found) or inspect.isasyncgenfunction(found) or name == "lend")
    }


def test_every_verb_is_tried() -> None:
    assert verbs_of(Turn) == set(WRONG_OF_A_TURN) == set(RIGHT_OF_A_TURN)
    assert verbs_of(AgentControl) == set(WRONG_OF_THE_HOST) == set(RIGHT_OF_THE_HOST)


async def test_verb_of_a_turn_that_is_refused_lets_others_run(open_session: Open) -> None:
    async def work(turn: Turn) -> str:
        await all_give_way(turn, WRONG_OF_A_TURN)
        return "done"

    async with open_session(work) as control:
        assert (await (await control.start("/root", "go")).outcome()).result == "done"


async def test_verb_of_a_turn_that_is_over_lets_others_run(open_session: Open) -> None:
    kept: list[Turn] = []

    async def work(turn: Turn) -> str:
        kept.append(turn)
        return "done"

    async with open_session(work) as control:
        request = await control.start("/root", "go")
        await request.outcome()
        await all_give_way(kept[0], RIGHT_OF_A_TURN, NotRunning)
        await give_way_each_time(partial(first_of, kept[0], request), "as_completed", NotRunning)
    await all_give_way(kept[0], RIGHT_OF_A_TURN, (NotRunning, SessionClosed))


async def test_verb_of_the_host_that_is_refused_lets_others_run(open_session: Open) -> None:
    async with open_session(echo) as control:
        await all_give_way(control, WRONG_OF_THE_HOST)
        assert await answer(control) == "x"
    told_still = ("status", "list")
    await all_give_way(control, {k: v for k, v in RIGHT_OF_THE_HOST.items() if k not in told_still}, Refusal)


def test_verb_of_the_host_in_another_event_loop_lets_others_run_there() -> None:
    async def do(control: AgentControl) -> None:
        there = partial(all_give_way, control, RIGHT_OF_THE_HOST, WrongEventLoop)
        await anyio.to_thread.run_sync(lambda: asyncio.run(there()))

    in_session(MemoryStore(), do)


async def test_task_that_a_turn_left_behind_and_that_passes_over_refusals_keeps_no_other_from_running(
    open_session: Open,
) -> None:
    async def report(turn: Turn) -> None:
        done = 0
        while True:
            try:
                await turn.record({"done": done})
                done += 1
                await anyio.sleep(0.1)
            except Exception:
                pass

    async with anyio.create_task_group() as tasks:

        async def work(turn: Turn) -> str:
            if turn.number == 1:
                tasks.start_soon(report, turn)
                await anyio.sleep(0.3)
            return "done"

        async with open_session(work) as control:
            assert [await answer(control) for _ in range(3)] == ["done"] * 3
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("what", ["a value", "a role", "a path"])
async def test_turn_that_repeats_a_refused_verb_without_end_can_be_interrupted(open_session: Open, what: str) -> None:
    async def work(turn: Turn) -> str:
        if turn.path == "/root":
            return "x"
        while True:
            try:
                if what == "a value":
                    await turn.record({1, 2})
                elif what == "a role":
                    await turn.spawn("b", "x", role="nobody")
                else:
                    await turn.send("/nobody", "x")
            except Exception:
                continue

    async with open_session(work) as control:
        turn = await control.spawn("/root", "a", "go")
        assert await answer(control) == "x"
        await control.interrupt("/root/a")
        assert (await turn.outcome()).cause is Cause.INTERRUPTED


async def test_verb_that_is_refused_raises_what_it_raised_before_and_does_nothing(open_session: Open) -> None:
    async def work(turn: Turn) -> str:
        with pytest.raises(NotJson, match="not a JSON value"):
            await turn.record({1, 2})
        return str(len(await turn.history()))

    async with open_session(work) as control:
        assert await answer(control) == "2"
