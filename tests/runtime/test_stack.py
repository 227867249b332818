"""Code that recurses until the stack ends, and enters its session there: it alone fails, by an error of its own.

Each test dives to the end of the stack and tries a door at every depth on the way up, so that wherever a step could be
cut off, one is tried.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest

from statemachine.core.machines import TurnState
from statemachine.runtime import AgentControl, Rollout, Thread, Turn
from statemachine.runtime.stack import SPARE, check_stack
from statemachine.stores import MemoryStore
from tests.runtime.running import Open, completed, counts, echo, ending, traced_sessions, virtual_time

pytestmark = pytest.mark.anyio
FIXTURES = (traced_sessions, virtual_time)
Door = Callable[[Any, int], Awaitable[object]]

TRIED = SPARE + 50
"""Depths at which a door is tried, from the end of the stack up."""


class Dive:
    """What came of going through a door at each depth."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.deepest = self.refused = self.passed = 0

    async def __call__(self, entered: Any, depth: int = 0) -> None:
        self.deepest = depth
        with suppress(RecursionError):
            await self(entered, depth + 1)
        if depth <= self.deepest - TRIED:
            return
        try:
            await self.door(entered, depth)
            self.passed += 1
        except RecursionError:
            self.refused += 1


async def spawned(turn: Turn, depth: int) -> None:
    await turn.spawn(f"c{depth}", "x", {"a": [1]})
    await turn.close(f"{turn.path}/c{depth}")


async def lent(turn: Turn, _: int) -> None:
    async with turn.lend():
        await anyio.sleep(0)


async def awaited(turn: Turn, _: int) -> None:
    await (await turn.follow_up("/root/other", "x")).outcome()


DOORS: dict[str, Door] = {
    "send": lambda turn, _: turn.send("/root", "x"),
    "with a key": lambda turn, depth: turn.send("/root", "x", key=f"k{depth}"),
    "spawn and close": spawned,
    "record": lambda turn, depth: turn.record({"depth": depth}),
    "wait": lambda turn, _: turn.wait(0),
    "drain": lambda turn, _: turn.drain(),
    "status": lambda turn, _: turn.status("/root"),
    "list": lambda turn, _: turn.list(),
    "history": lambda turn, _: turn.history("/root"),
    "interrupt": lambda turn, _: turn.interrupt("/root/other"),
    "lend": lent,
    "outcome": awaited,
}


@pytest.mark.parametrize("door", DOORS)
async def test_verb_at_the_end_of_the_stack_is_refused_in_its_caller_and_changes_nothing_for_others(
    open_session: Open, door: str
) -> None:
    dive = Dive(DOORS[door])

    async def work(turn: Turn) -> str:
        if turn.path == "/root/a" and turn.number == 1:
            await dive(turn)
            if door == "with a key":
                for depth in range(dive.deepest + 1):  # every key can be used, or was
                    await turn.send("/root", "x", key=f"k{depth}")
        return await echo(turn)

    async with open_session(work, max_unread=10_000) as control:
        await (await control.spawn("/root", "other", "x")).outcome()
        outcome = await (await control.spawn("/root", "a", "x")).outcome()
        assert ending(outcome) == completed("x")
        assert min(dive.refused, dive.passed) > 20
        assert ending(await (await control.follow_up("/root/other", "y")).outcome()) == completed("y")
        assert (await (await control.follow_up("/root/a", "z")).outcome()).result.endswith("z")
        assert "slots" not in counts(control)


async def test_turn_that_recurses_without_end_through_a_verb_is_errored_alone(open_session: Open) -> None:
    async def solve(turn: Turn, step: int) -> None:
        await turn.record({"step": step})
        await solve(turn, step + 1)

    async def work(turn: Turn) -> str:
        if turn.path == "/root/a" and turn.number == 1:
            await solve(turn, 0)
        return await echo(turn)

    async with open_session(work) as control:
        outcome = await (await control.spawn("/root", "a", "x")).outcome()
        assert outcome.status is TurnState.ERRORED
        assert outcome.result.startswith("RecursionError: called too deep in the stack")
        assert ending(await (await control.spawn("/root", "other", "y")).outcome()) == completed("y")
        assert (await (await control.follow_up("/root/a", "z")).outcome()).result.endswith("z")


HOST_DOORS: dict[str, Door] = {
    "follow_up": lambda control, _: control.follow_up("/root/other", "x"),
    "with a key": lambda control, depth: control.follow_up("/root/other", "x", key=f"k{depth}"),
    "list": lambda control, _: control.list(),
    "history": lambda control, _: control.history("/root/other"),
}


@pytest.mark.parametrize("door", HOST_DOORS)
async def test_verb_of_the_host_at_the_end_of_the_stack_is_refused_and_the_session_goes_on(
    open_session: Open, door: str
) -> None:
    dive = Dive(HOST_DOORS[door])
    async with open_session(echo, max_unread=10_000) as control:
        await (await control.spawn("/root", "other", "x")).outcome()
        await dive(control)
        assert min(dive.refused, dive.passed) > 20
        assert ending(await (await control.spawn("/root", "a", "y")).outcome()) == completed("y")


async def test_thread_that_reports_its_loss_at_the_end_of_the_stack_is_lost_once_and_no_other_is(
    open_session: Open,
) -> None:
    class Reporting(Thread):
        async def load(self, history: tuple[Any, ...]) -> None:
            pass

        async def run(self, turn: Turn) -> str:
            if turn.path == "/root/a" and turn.number == 1:
                await dive(self)
            return await echo(turn)

    async def reported(thread: Thread, _: int) -> None:
        thread.report_lost("of the stack")

    dive = Dive(reported)
    async with open_session(Reporting) as control:
        outcome = await (await control.spawn("/root", "a", "x")).outcome()
        assert outcome.result == "its thread died: of the stack"
        assert ending(await (await control.follow_up("/root/a", "y")).outcome()) == completed("y")
        assert dive.passed, "it asks for no more of the stack than its call"


async def test_rollout_that_is_read_at_the_end_of_the_stack_is_refused_and_the_next_load_has_it(
    open_session: Open,
) -> None:
    class Diving(Thread):
        async def load_from(self, rollout: Rollout) -> None:
            if not dive.passed:
                await dive(rollout)

        async def run(self, turn: Turn) -> str:
            return await echo(turn)

    async def read(rollout: Rollout, _: int) -> None:
        assert await rollout.last(1)

    dive = Dive(read)
    async with open_session(Diving) as control:
        assert ending(await (await control.spawn("/root", "a", "x")).outcome()) == completed("x")
        assert min(dive.refused, dive.passed) > 20


async def test_block_of_lending_that_is_left_at_the_end_of_the_stack_is_over_with_its_turn(open_session: Open) -> None:
    async def leave(lending: Any, _: int) -> None:
        await lending.__aexit__(None, None, None)

    async def work(turn: Turn) -> str:
        if turn.number == 1:
            lending = turn.lend()
            await lending.__aenter__()
            await Dive(leave)(lending)
        return await echo(turn)

    async with open_session(work) as control:
        assert ending(await (await control.spawn("/root", "a", "x")).outcome()) == completed("x")
        assert ending(await (await control.follow_up("/root/a", "y")).outcome()) == completed("y")
        assert "slots" not in counts(control)


def at_depth(frames: int, do: Callable[[], object]) -> object:
    return at_depth(frames - 1, do) if frames else do()


def test_session_is_not_opened_where_its_own_stack_would_be_too_deep() -> None:
    async def open_one() -> None:
        async with AgentControl.open(MemoryStore(), echo):
            raise AssertionError

    here = sum(1 for _ in traceback.walk_stack(None))
    with pytest.raises(RecursionError, match="called too deep"):
        at_depth(sys.getrecursionlimit() - here - SPARE, lambda: asyncio.run(open_one()))


def test_check_of_the_stack_leaves_the_limit_as_it_is() -> None:
    limit = sys.getrecursionlimit()
    check_stack()
    with suppress(RecursionError):
        at_depth(limit, check_stack)
    assert sys.getrecursionlimit() == limit
    sys.setrecursionlimit(limit + 1_000)
    try:
        at_depth(limit, check_stack)
        assert sys.getrecursionlimit() == limit + 1_000
    finally:
        sys.setrecursionlimit(limit)
