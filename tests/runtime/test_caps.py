"""The caps bound what the machine has, and not only what the core counts (harm, kind 16)."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import anyio
import pytest

from statemachine import MemoryStore
from statemachine.core.machines import TurnState
from statemachine.core.records import Cause
from statemachine.runtime import AgentControl, AgentInfo, Thread, Turn
from tests.runtime.running import Open, completed, echo, ending, states, traced_sessions, virtual_time

pytestmark = pytest.mark.anyio
FIXTURES = (traced_sessions, virtual_time)

PATIENCE_S = 1000.0
"""Longer than all bounds here."""


async def ignore_until(event: anyio.Event) -> None:
    """Ignores that it is cancelled: not for ever, or a test that fails would not end."""
    with anyio.move_on_after(10 * PATIENCE_S, shield=True):
        await event.wait()


class Alive(Thread):
    """Counts the threads of sub-agents that have been made and whose code has not ended."""

    now: int
    most: int
    close_s: float
    stubborn: dict[str, anyio.Event]
    """Path, or "close" for all -> until when it ignores that it is cancelled."""

    def __init__(self, agent: AgentInfo) -> None:
        super().__init__(agent)
        kind = type(self)
        kind.now += bool(agent.id)
        kind.most = max(kind.most, kind.now)
        self.is_counted = bool(agent.id)

    async def run(self, turn: Turn) -> str:
        if turn.path in self.stubborn and turn.number == 1:
            await self._ignore(turn.path)
        return await echo(turn)

    async def _ignore(self, what: str) -> None:
        await ignore_until(self.stubborn[what])
        self._is_gone()  # code that was abandoned is not closed

    async def close(self) -> None:
        if "close" in self.stubborn:
            await self._ignore("close")
        try:
            await anyio.sleep(self.close_s)
        finally:
            self._is_gone()

    def _is_gone(self) -> None:
        type(self).now -= self.is_counted
        self.is_counted = False


def alive(close_s: float = 0.0, **stubborn: anyio.Event) -> type[Alive]:
    """A class of such threads of its own."""
    paths = {name if name == "close" else f"/root/{name}": event for name, event in stubborn.items()}
    return type("ThisAlive", (Alive,), {"now": 0, "most": 0, "close_s": close_s, "stubborn": paths})


def on_their_way_out(control: AgentControl) -> tuple[int, int]:
    """How many threads are closing, and how many are abandoned."""
    found = control.statistics()
    return found.closing, found.abandoned


# Loads


@pytest.mark.parametrize("max_resident", [1, 2])
async def test_thread_that_is_slow_to_close_keeps_its_residency_slot_until_it_is_closed(
    open_session: Open, max_resident: int
) -> None:
    work = alive(close_s=1.0)
    seen: set[tuple[int, int]] = set()
    async with open_session(work, max_resident=max_resident, max_concurrent=2, max_queued=100) as control:
        handles = [await control.spawn("/root", f"a{number}", "x") for number in range(20)]
        for handle in handles:
            assert ending(await handle.outcome()) == completed("x")
            await anyio.wait_all_tasks_blocked()
            seen.add(on_their_way_out(control))
        assert (work.most, work.now) == (max_resident, max_resident)
        assert seen == {(0, 0), (1, 0)}


async def test_load_that_waits_for_a_thread_to_close_ends_with_its_bound_or_its_agent(open_session: Open) -> None:
    work = alive(close_s=30.0)
    async with open_session(work, max_resident=1, max_concurrent=2, stop_grace=60.0, load_timeout=5.0) as control:
        await (await control.spawn("/root", "a", "x")).outcome()
        late = await control.spawn("/root", "b", "y")
        outcome = await late.outcome()
        assert (outcome.cause, outcome.result) == (Cause.LOAD_TIMED_OUT, "load failed: no answer for 5.0 s")
        closed = await control.spawn("/root", "c", "z")
        await anyio.wait_all_tasks_blocked()
        await control.close("/root/c")
        assert (await closed.outcome()).cause is Cause.CLOSED
        left = await control.spawn("/root", "d", "z")
        await anyio.sleep(PATIENCE_S)
        assert (await left.outcome()).cause is Cause.LOAD_TIMED_OUT
        assert work.most == 1, "what waited no more was never made"
        assert ending(await (await control.follow_up("/root/b", "again")).outcome()) == completed("y again")


async def test_load_waits_while_too_many_threads_are_abandoned_and_goes_on_when_one_has_ended(
    open_session: Open, caplog: pytest.LogCaptureFixture
) -> None:
    release = anyio.Event()
    work = alive(close=release)
    async with open_session(work, max_resident=1, max_concurrent=2, max_abandoned=2, stop_grace=1.0) as control:
        for number in range(3):  # each is evicted by the next one
            await control.spawn("/root", f"a{number}", "x")
            await anyio.sleep(5)
        handle = await control.spawn("/root", "a3", "x")
        await anyio.sleep(5)
        assert on_their_way_out(control) == (0, 3)
        assert [m for m in caplog.messages if "the code of 3 threads does not stop, and max_abandoned is 2" in m]
        assert (work.now, work.most) == (3, 3)
        release.set()
        assert ending(await handle.outcome()) == completed("x")
        assert on_their_way_out(control) == (0, 0)
        assert work.now == 1


# Turns


async def test_bodies_of_turns_that_ignore_their_cancellation_are_bounded(open_session: Open) -> None:
    release = anyio.Event()
    bodies: list[str] = []

    async def work(turn: Turn) -> str:
        if turn.path == "/root":
            return "root"
        bodies.append(turn.path)
        await ignore_until(release)
        bodies.remove(turn.path)
        return "at last"

    async with open_session(work, max_concurrent=2, max_abandoned=2, stop_grace=1.0) as control:
        for number in range(8):
            await control.spawn("/root", f"a{number}", "x")
        for _ in range(3):
            await anyio.sleep(5)
            (path,) = [path for path, status in (await states(control)).items() if status.startswith("running")]
            await control.interrupt(path)
            await anyio.sleep(5)
        assert on_their_way_out(control) == (0, 3)
        assert bodies == ["/root/a0", "/root/a1", "/root/a2"], "as many as execution_cap and max_abandoned"
        release.set()
        await anyio.sleep(5)
        assert on_their_way_out(control) == (0, 0)
        found = [status.outcome for status in await control.list() if status.agent]
        assert [outcome.cause for outcome in found if outcome is not None] == [Cause.NOT_STOPPED] * 3 + [
            Cause.FINISHED
        ] * 5


async def test_turn_that_waits_to_begin_is_interrupted_timed_out_or_closed_and_never_runs(open_session: Open) -> None:
    release = anyio.Event()
    began: list[tuple[str, int]] = []

    async def work(turn: Turn) -> str:
        began.append((turn.path, turn.number))
        if turn.path == "/root/a":
            await ignore_until(release)
        return await echo(turn)

    async with open_session(work, max_concurrent=4, max_abandoned=0, stop_grace=1.0, turn_timeout=100.0) as control:
        names = ("b", "c", "d")
        for name in names:
            await (await control.spawn("/root", name, "x")).outcome()
        await control.spawn("/root", "a", "x")
        await anyio.wait_all_tasks_blocked()
        await control.interrupt("/root/a")
        await anyio.sleep(5)
        assert on_their_way_out(control) == (0, 1)
        handles = {name: await control.follow_up(f"/root/{name}", "y") for name in names}
        root = await control.start("/root", "y")
        assert (await control.status("/root/b")).status is TurnState.RUNNING
        await control.interrupt("/root/b")
        assert (await handles["b"].outcome()).cause is Cause.INTERRUPTED
        await control.close("/root/c")
        assert (await handles["c"].outcome()).cause is Cause.CLOSED
        await anyio.sleep(101)
        for handle in (handles["d"], root):
            assert (await handle.outcome()).cause is Cause.TIMED_OUT
        again = await control.follow_up("/root/b", "z")
        assert len(began) == 4
        release.set()
        assert ending(await again.outcome()) == completed("z")


@pytest.mark.parametrize("error", [None, KeyError("of the host")])
async def test_session_is_left_though_loads_and_turns_wait(open_session: Open, error: Exception | None) -> None:
    release = anyio.Event()
    work = alive(a=release, b=release)
    async with anyio.create_task_group() as tasks:
        with suppress(KeyError):
            async with open_session(work, max_concurrent=3, max_resident=3, max_abandoned=1, stop_grace=1.0) as control:
                for name in ("c", "a", "b"):
                    await control.spawn("/root", name, "x")
                await anyio.wait_all_tasks_blocked()
                for name in ("a", "b"):
                    await control.interrupt(f"/root/{name}")
                    await anyio.sleep(5)
                assert on_their_way_out(control) == (0, 2)
                await control.follow_up("/root/c", "waits")
                await control.spawn("/root", "d", "waits")
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(in_a_while, release)
                if error is not None:
                    raise error
    assert work.now == 0


async def in_a_while(event: anyio.Event) -> None:
    """Sets the event."""
    await anyio.sleep(50)
    event.set()


# All together


@pytest.mark.parametrize("seed", range(5))
async def test_machine_never_has_more_threads_than_its_caps_say(open_session: Open, seed: int) -> None:
    rng = random.Random(seed)
    release = anyio.Event()
    max_resident, max_abandoned = rng.choice(((2, 0), (2, 2), (3, 1)))
    work = alive(close_s=rng.choice((0.0, 0.5, 3.0)), **{f"a{number}": release for number in range(0, 12, 3)})
    limits: dict[str, Any] = {"max_resident": max_resident, "max_concurrent": 3, "max_abandoned": max_abandoned}
    bounds: dict[str, Any] = {"stop_grace": 1.0, "load_timeout": 5.0, "turn_timeout": 4.0}
    async with open_session(work, **limits, **bounds) as control:
        for number in range(12):
            await control.spawn("/root", f"a{number}", "x")
        for _ in range(60):
            path = f"/root/a{rng.randrange(12)}"
            if rng.random() < 0.5:
                await control.interrupt(path)
            else:
                await control.follow_up(path, "y")
            await anyio.sleep(rng.choice((0.0, 0.1, 2.0)))
            assert work.now <= max_resident + max_abandoned
        release.set()
        await anyio.sleep(PATIENCE_S)
        assert on_their_way_out(control) == (0, 0)
        assert work.now == control.statistics().resident
        for number in range(12):
            outcome = await (await control.follow_up(f"/root/a{number}", "z")).outcome()
            assert outcome.status is TurnState.COMPLETED
    assert work.most <= max_resident + max_abandoned
    assert work.now == 0


@pytest.mark.parametrize(("value", "error"), [("3", TypeError), (None, TypeError), (True, TypeError), (-1, ValueError)])
def test_bound_of_abandoned_threads_that_is_not_a_count_is_refused(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="max_abandoned is"):
        AgentControl.open(MemoryStore(), echo, max_abandoned=value)
