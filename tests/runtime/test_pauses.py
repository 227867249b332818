"""Time in which the process could not run is charged to nothing that is bounded (harm, kind 6)."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from statemachine import MemoryStore
from statemachine.core.machines import TurnState
from statemachine.core.records import Cause
from statemachine.pauses import GAP_S, HELD_S, LOOK_S, LOOKS, RESPITE_S, RunTime
from statemachine.runtime import Thread, Turn
from statemachine.stores import Snapshot, Write
from tests.runtime.running import (
    Open,
    completed,
    echo,
    ending,
    recorder,
    stand_still,
    states,
    traced_sessions,
    virtual_time,
)

FIXTURES = (traced_sessions, virtual_time)

PAUSE_S = 60.0
"""Longer than every bound here."""
BOUND_S = 2.0
WORK_S = 1.2
"""What code takes, of `BOUND_S`. The process stands still in the middle."""


async def interrupted_work() -> None:
    """Takes `WORK_S` of run time, before and after a pause."""
    await anyio.sleep(WORK_S / 2)
    stand_still(PAUSE_S)
    await anyio.sleep(WORK_S / 2)


class Slow(Thread):
    """Takes its time in one of its methods, the first time, while the process stands still."""

    where = ""
    log: list[str]

    async def _do(self, what: str) -> None:
        if what == self.where and what not in self.log:
            self.log.append(what)
            await interrupted_work()
            self.log.append(f"{what} done")

    async def load(self, history: Sequence[Any]) -> None:
        await self._do("load")

    async def run(self, turn: Turn) -> str:
        try:
            await self._do("run")
            if self.where == "stop":
                await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await self._do("stop")
        return await echo(turn)

    async def flush(self) -> Any:
        await self._do("flush")

    async def close(self) -> None:
        await self._do("close")


def slow(where: str) -> type[Slow]:
    """A class of threads that are slow there."""
    return type("ThisSlow", (Slow,), {"where": where, "log": []})


BOUNDS: dict[str, Any] = {
    **{f"{name}_timeout": BOUND_S for name in ("load", "flush", "turn")},
    **{"stop_grace": BOUND_S, "max_concurrent": 2},
}


@pytest.mark.anyio
@pytest.mark.parametrize("where", ["load", "run"])
@pytest.mark.parametrize("path", ["/root", "/root/a"])
async def test_turn_and_its_load_have_their_time_though_the_process_stood_still(
    open_session: Open, where: str, path: str
) -> None:
    work = slow(where)
    async with open_session(work, **BOUNDS) as control:
        if path != "/root":
            handle = await control.spawn("/root", "a", "x")
        else:
            handle = await control.start("/root", "x")
        assert ending(await handle.outcome()) == completed("x")
        assert work.log == [where, f"{where} done"]
        assert control.statistics().stale_reports == 0


@pytest.mark.anyio
async def test_turn_that_stops_within_its_grace_is_not_abandoned_though_the_process_stood_still(
    open_session: Open, caplog: pytest.LogCaptureFixture
) -> None:
    work = slow("stop")
    async with open_session(work, **{**BOUNDS, "turn_timeout": None}) as control:
        handle = await control.spawn("/root", "a", "x")
        await anyio.wait_all_tasks_blocked()
        await control.interrupt("/root/a")
        assert (await handle.outcome()).cause is Cause.INTERRUPTED
        assert await states(control) == {"/root/a": "interrupted loaded"}
    assert caplog.messages == []


@pytest.mark.anyio
@pytest.mark.parametrize("where", ["stop", "close"])
@pytest.mark.parametrize("how", ["close", "leave"])
async def test_thread_that_is_dropped_is_not_abandoned_within_its_grace_though_the_process_stood_still(
    open_session: Open, where: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    work = slow(where)
    async with open_session(work, **{**BOUNDS, "turn_timeout": None}) as control:
        await control.spawn("/root", "a", "x")
        await anyio.wait_all_tasks_blocked()
        if how == "close":
            await control.close("/root/a")
            await anyio.sleep(PAUSE_S + 3 * BOUND_S)
    assert work.log == [where, f"{where} done"]
    assert caplog.messages == []


@pytest.mark.anyio
async def test_flush_has_its_time_though_the_process_stood_still(open_session: Open) -> None:
    work = slow("flush")
    async with open_session(work, max_resident=1, **BOUNDS) as control:
        await (await control.spawn("/root", "a", "x")).outcome()
        assert ending(await (await control.spawn("/root", "b", "y")).outcome()) == completed("y")
        assert await states(control) == {"/root/a": "completed", "/root/b": "completed loaded"}


@pytest.mark.anyio
async def test_shutdown_gives_its_grace_though_the_process_stood_still(open_session: Open) -> None:
    async with open_session(slow("run"), **{**BOUNDS, "turn_timeout": None}) as control:
        await control.spawn("/root", "a", "x")
        await anyio.wait_all_tasks_blocked()
        shut_down = await control.shutdown(BOUND_S)
        assert (shut_down.done, shut_down.interrupted) == ((1,), ())


@pytest.mark.anyio
async def test_wait_is_not_timed_out_though_the_process_stood_still(open_session: Open) -> None:
    async def work(turn: Turn) -> str:
        return (await turn.wait(BOUND_S)).name

    async with open_session(work) as control:
        handle = await control.spawn("/root", "a", "x")
        await interrupted_work()
        await control.send("/root/a", "here it is")
        assert ending(await handle.outcome()) == completed("MAIL")
        alone = await control.follow_up("/root/a", "again")
        stand_still(PAUSE_S)
        assert ending(await alone.outcome()) == completed("TIMEOUT"), "the respite is bounded"


@pytest.mark.anyio
async def test_idle_thread_stays_for_its_time_though_the_process_stood_still(open_session: Open) -> None:
    async with open_session(recorder(), idle_ttl=BOUND_S) as control:
        await (await control.spawn("/root", "a", "x")).outcome()
        await interrupted_work()
        assert await states(control) == {"/root/a": "completed loaded"}
        await anyio.sleep(BOUND_S + RESPITE_S)
        assert await states(control) == {"/root/a": "completed"}


@pytest.mark.anyio
async def test_report_that_is_there_after_a_pause_comes_before_the_bound_that_is_over(open_session: Open) -> None:
    """The answer came while the process stood still, when all but nothing was left of the bound."""
    answer = anyio.Event()

    class Late(Thread):
        async def load(self, history: Sequence[Any]) -> None:
            await answer.wait()

        async def run(self, turn: Turn) -> str:
            return await echo(turn)

    async with open_session(Late, load_timeout=BOUND_S) as control:
        handle = await control.spawn("/root", "a", "x")
        await anyio.sleep(BOUND_S - LOOK_S / 2)
        stand_still(PAUSE_S)
        answer.set()
        assert ending(await handle.outcome()) == completed("x")


@pytest.mark.anyio
async def test_agent_that_blocks_the_loop_again_and_again_is_stopped_after_all(open_session: Open) -> None:
    blocked = 0

    async def work(turn: Turn) -> None:
        nonlocal blocked
        while blocked < 1_000:
            blocked += 1
            stand_still(PAUSE_S)
            for _ in range(5):
                await anyio.lowlevel.checkpoint()

    async with open_session(work, turn_timeout=BOUND_S) as control:
        outcome = await (await control.spawn("/root", "a", "x")).outcome()
        assert (outcome.status, outcome.cause) == (TurnState.INTERRUPTED, Cause.TIMED_OUT)
        assert blocked < 100


class SlowStore(MemoryStore):
    """Takes its time to append, once it is told to."""

    seconds = 0.0

    async def append(self, items: Sequence[Write | Snapshot]) -> None:
        seconds, self.seconds = self.seconds, 0.0
        await anyio.sleep(seconds)
        await super().append(items)


@pytest.mark.anyio
async def test_load_that_waits_for_a_slow_commit_has_its_time(open_session: Open) -> None:
    """Neither the load nor its end could be carried out meanwhile."""
    store = SlowStore()
    async with open_session(slow("load"), store, **BOUNDS) as control:
        store.seconds = PAUSE_S
        handle = await control.spawn("/root", "a", "x")
        assert ending(await handle.outcome()) == completed("x")


# Run time by itself


class Clock:
    """A clock that a test sets."""

    at = 1000.0

    def __call__(self) -> float:
        return self.at


def test_run_time_is_that_of_the_clock_while_looks_are_in_time() -> None:
    clock = Clock()
    time = RunTime(clock)
    for late in (0.0, GAP_S / 2, GAP_S):
        before = time.now()
        clock.at = time.look(before + 1000) + late
        assert time.now() == pytest.approx(before + 1000 / LOOKS + late)
    assert time.look(float("inf")) == float("inf")
    before = time.now()
    clock.at += 1e6
    assert time.now() == pytest.approx(before + 1e6), "while nothing is bounded, nothing is charged either"


def test_run_time_stands_still_in_a_pause_and_in_the_respite_after_it() -> None:
    clock = Clock()
    time = RunTime(clock)
    clock.at = time.look(80)
    assert time.now() == pytest.approx(10)
    clock.at = time.look(80) + PAUSE_S
    assert time.now() == pytest.approx(10)
    began = clock.at
    while clock.at < began + RESPITE_S:
        clock.at = min(time.look(10.5), began + RESPITE_S)
        assert time.now() == pytest.approx(10)
    assert time.look(10) == clock.at, "what is due is looked at at once"
    assert time.look(10.01) == pytest.approx(clock.at + 0.01)
    assert time.look(10.5) == pytest.approx(clock.at + LOOK_S)
    clock.at = time.look(18)
    assert time.now() == pytest.approx(11)


def test_run_time_goes_on_though_pauses_follow_each_other() -> None:
    clock = Clock()
    time = RunTime(clock)
    looks = 0
    while time.now() < BOUND_S:
        clock.at = time.look(BOUND_S) + PAUSE_S
        looks += 1
        assert looks < 100
    assert looks > 10


def test_run_time_never_goes_back() -> None:
    clock = Clock()
    time = RunTime(clock)
    told = 0.0
    for number in range(1000):
        due = told + (0.05, 0.3, 7)[number % 3]
        clock.at = time.look(due) + (0, 0.1, 5, 0.3, 0)[number % 5]
        assert time.now() >= told
        told = time.now()
        if number % 7 == 0:
            time.hold()
            clock.at += number % 4
            assert time.now() >= told
            time.release()
            assert time.now() >= told


def test_run_time_stands_still_while_it_is_held_for_long_and_looks_do_not_spin() -> None:
    clock = Clock()
    time = RunTime(clock)
    time.hold()
    clock.at += HELD_S / 2
    assert time.now() == pytest.approx(HELD_S / 2)
    for _ in range(10):
        clock.at += PAUSE_S
        assert time.now() == pytest.approx(HELD_S)
        assert time.look(1) == pytest.approx(clock.at + LOOK_S)
    time.release()
    assert time.now() == pytest.approx(HELD_S)
    began = clock.at
    while clock.at < began + RESPITE_S:
        clock.at = min(time.look(2), began + RESPITE_S)
        assert time.now() == pytest.approx(HELD_S)
    clock.at = time.look(HELD_S + 80)
    assert time.now() == pytest.approx(HELD_S + 10)


def test_run_time_of_a_hold_that_is_short_is_charged_whole() -> None:
    clock = Clock()
    time = RunTime(clock)
    time.hold()
    clock.at += GAP_S
    assert time.now() == pytest.approx(HELD_S)
    time.release()
    assert time.now() == pytest.approx(GAP_S)


def test_run_time_of_long_holds_that_follow_each_other_is_charged_little_and_goes_on() -> None:
    clock = Clock()
    time = RunTime(clock)
    time.hold()
    clock.at += PAUSE_S
    time.release()
    clock.at += RESPITE_S  # the only one for a while
    before = time.now()
    for count in range(1, 4):
        time.hold()
        clock.at += PAUSE_S
        time.release()
        assert time.now() == pytest.approx(before + count * HELD_S)


# A process that is stopped

STOPPED = """
import anyio
from statemachine import AgentControl, MemoryStore, SessionConfig, Thread

class Slow(Thread):
    async def load(self, history):
        print("loading", flush=True)
        await anyio.sleep(0.5)

    async def run(self, turn):
        return "loaded"

async def main():
    config = SessionConfig(load_timeout=1.0)
    async with AgentControl.open(MemoryStore(), Slow, config) as control:
        print((await (await control.spawn("/root", "a", "x")).outcome()).result)

anyio.run(main)
"""


def test_load_has_its_time_though_the_process_was_stopped_for_longer_than_its_bound() -> None:
    with subprocess.Popen([sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == "loading\n"
            child.send_signal(signal.SIGSTOP)
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(3)
            child.send_signal(signal.SIGCONT)
            assert child.communicate(timeout=60)[0] == "loaded\n"
        finally:
            child.kill()
