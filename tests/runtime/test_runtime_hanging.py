"""Threads that hang, fail to load or to flush, or ignore cancellation: every wait has its bound (L5, N3, D4)."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest
from anyio import get_cancelled_exc_class

from statemachine import Notice, SlotPolicy
from statemachine.core.events import HOST, Drain, Send
from statemachine.core.machines import TurnState
from statemachine.core.refusals import NotRunning
from statemachine.runtime import Handle, Thread, ThreadLost, Turn, Work
from statemachine.runtime.control import inside
from tests.runtime.running import (
    Open,
    Stage,
    completed,
    counts,
    echo,
    ending,
    recorder,
    states,
    traced_sessions,
    virtual_time,
)

pytestmark = pytest.mark.anyio
FIXTURES = (traced_sessions, virtual_time)


def seconds(expected: float) -> Any:
    """A time in virtual seconds; the core may be told of it a tick early."""
    return pytest.approx(expected, abs=0.01)


# Loads


async def test_load_that_hangs_ends_with_load_timeout_and_the_next_turn_loads_again(open_session: Open) -> None:
    work = recorder()
    work.hang["load"] = anyio.Event()
    async with open_session(work, load_timeout=7.0) as control:
        began = anyio.current_time()
        outcome = await (await control.spawn("/root", "a", "x")).outcome()
        assert anyio.current_time() - began == seconds(7)
        assert ending(outcome) == (TurnState.ERRORED, "load failed: no answer for 7.0 s")
        await anyio.wait_all_tasks_blocked()
        assert counts(control) == {}
        assert work.log == ["new /root/a", "load /root/a", "close /root/a"]
        work.hang.clear()
        assert ending(await (await control.follow_up("/root/a", "y")).outcome()) == completed("x y")


async def test_load_of_the_root_that_hangs_ends_with_load_timeout_on_a_thread_that_is_dropped(
    open_session: Open,
) -> None:
    work = recorder()
    work.hang["load"] = anyio.Event()
    async with open_session(work, load_timeout=7.0) as control:
        outcome = await (await control.start("/root", "x")).outcome()
        assert ending(outcome) == (TurnState.ERRORED, "load failed: no answer for 7.0 s")
        work.hang.clear()
        assert ending(await (await control.start("/root", "y")).outcome()) == completed("y")
    assert work.log == [
        *("new /root", "load /root", "close /root"),
        *("new /root", "load /root", "run /root", "flush /root", "close /root"),
    ]


async def test_load_that_raises_ends_the_turn_with_its_words_and_its_mail_is_read_later(open_session: Open) -> None:
    work = recorder()
    work.fail["load"] = ConnectionError("no model")
    async with open_session(work) as control:
        outcome = await (await control.spawn("/root", "a", "x")).outcome()
        assert ending(outcome) == (TurnState.ERRORED, "load failed: ConnectionError: no model")
        assert counts(control) == {}
        await anyio.wait_all_tasks_blocked()
        assert work.log == ["new /root/a", "load /root/a", "close /root/a"]
        work.fail.clear()
        assert ending(await (await control.follow_up("/root/a", "y")).outcome()) == completed("x y")


async def test_interrupt_of_a_loading_turn_ends_it_and_the_load_goes_on_to_an_idle_agent(open_session: Open) -> None:
    work = recorder()
    loaded = work.hang["load"] = anyio.Event()
    async with open_session(work) as control:
        handle = await control.spawn("/root", "a", "x")
        await anyio.wait_all_tasks_blocked()
        assert await states(control) == {"/root/a": "starting"}
        assert (await control.interrupt("/root/a")).previous is TurnState.STARTING
        assert ending(await handle.outcome()) == (TurnState.INTERRUPTED, "interrupted before it started")
        assert counts(control) == {"resident": 1}
        loaded.set()
        await anyio.wait_all_tasks_blocked()
        assert await states(control) == {"/root/a": "interrupted loaded"}
        assert "run /root/a" not in work.log


async def test_close_of_a_loading_agent_drops_its_thread_at_once(open_session: Open) -> None:
    work = recorder()
    work.hang["load"] = anyio.Event()
    async with open_session(work) as control:
        handle = await control.spawn("/root", "a", "x")
        await anyio.wait_all_tasks_blocked()
        assert (await control.close("/root/a")).paths == ("/root/a",)
        assert counts(control) == {}
        assert ending(await handle.outcome()) == (TurnState.INTERRUPTED, "closed")
        await anyio.wait_all_tasks_blocked()
        assert work.log == ["new /root/a", "load /root/a", "close /root/a"]


# Turns


async def test_turn_that_ignores_cancellation_is_dropped_after_stop_grace_and_its_late_calls_are_refused(
    open_session: Open,
) -> None:
    late: list[type[Exception]] = []
    released = anyio.Event()

    async def work(turn: Turn) -> str:
        if turn.number > 1:
            return await echo(turn)
        with anyio.CancelScope(shield=True):
            await released.wait()
            for call in (turn.drain(), turn.send("/root", "x"), turn.record(1), turn.wait(1)):
                try:
                    await call
                except NotRunning as error:
                    late.append(type(error))
        return "far too late"

    async with open_session(work, stop_grace=3.0) as control:
        handle = await control.spawn("/root", "a", "x")
        await anyio.wait_all_tasks_blocked()
        began = anyio.current_time()
        await control.interrupt("/root/a")
        assert await states(control) == {"/root/a": "stopping loaded"}
        assert ending(await handle.outcome()) == (TurnState.INTERRUPTED, "interrupted; it did not stop within 3.0 s")
        assert anyio.current_time() - began == seconds(3)
        assert counts(control) == {}
        assert ending(await (await control.follow_up("/root/a", "y")).outcome()) == completed("y")
        released.set()
        await anyio.wait_all_tasks_blocked()
        assert late == [NotRunning] * 4
        assert (await control.status("/root/a")).outcome.result == "y"  # type: ignore[union-attr]
        assert control.statistics().stale_reports == 1


async def test_turn_that_swallows_its_cancellation_and_returns_in_time_completes(open_session: Open) -> None:
    swallowed: list[int] = []

    async def work(_: Turn) -> str:
        while len(swallowed) < 5:
            try:
                await anyio.sleep_forever()
            except BaseException:
                swallowed.append(len(swallowed))
        return "done at last"

    async with open_session(work) as control:
        handle = await control.spawn("/root", "a", "x")
        await anyio.wait_all_tasks_blocked()
        await control.interrupt("/root/a")
        assert ending(await handle.outcome()) == completed("done at last")
        assert counts(control) == {"resident": 1}


async def test_block_is_left_only_when_abandoned_code_has_come_to_its_end(open_session: Open) -> None:
    async def work(_: Turn) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(50)

    async with open_session(work, stop_grace=1.0) as control:
        began = anyio.current_time()
        handle = await control.spawn("/root", "a", "x")
        await anyio.wait_all_tasks_blocked()
        asked = anyio.current_time()
        await control.interrupt("/root/a")
        await handle.outcome()
        result = await control.shutdown(0)
        assert (result.done, result.interrupted, result.unflushed) == ((), (), ())
        assert anyio.current_time() - asked == seconds(1)
    assert anyio.current_time() - began == seconds(50)


async def test_wait_in_a_shield_ends_when_its_agent_is_closed(open_session: Open) -> None:
    told: list[float] = []

    async def work(turn: Turn) -> None:
        with anyio.CancelScope(shield=True):
            try:
                await turn.wait(3000)
            except NotRunning:
                told.append(anyio.current_time())

    async with open_session(work) as control:
        await control.spawn("/root", "a", "x")
        await anyio.wait_all_tasks_blocked()
        began = anyio.current_time()
        await control.close("/root/a")
        await anyio.wait_all_tasks_blocked()
        assert told == [began]
        assert counts(control) == {}


async def test_wait_that_was_cancelled_is_over_and_its_wake_never_ends_the_next_one(open_session: Open) -> None:
    stage = Stage()
    async with open_session(stage) as control:
        await control.spawn("/root", "a", "x")
        turn = (await stage.scene("/root/a")).turn
        for _ in range(3):
            with anyio.move_on_after(5):
                await turn.wait(60)
            assert counts(control) == {"slots": 1, "resident": 1}
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(turn.wait, 60)
            await anyio.wait_all_tasks_blocked()
            inside(control).engine.apply(Send(HOST, 1, "mail"))  # ends the wait; its wake is on its way
            tasks.cancel_scope.cancel()
        await turn.drain()
        began = anyio.current_time()
        assert (await turn.wait(60)).name == "TIMEOUT"
        assert anyio.current_time() - began == seconds(60)


async def test_wake_goes_to_the_wait_that_it_ends_although_the_next_one_has_begun(open_session: Open) -> None:
    stage = Stage()
    ends: list[tuple[str, str]] = []
    async with open_session(stage) as control:
        await control.spawn("/root", "a", "x")
        turn = (await stage.scene("/root/a")).turn

        async def wait(name: str) -> None:
            ends.append((name, (await turn.wait(60)).name))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, "first")
            await anyio.wait_all_tasks_blocked()
            inside(control).engine.apply(Send(HOST, 1, "one"))  # ends the first wait; the wake is on its way
            inside(control).engine.apply(Drain(1, 1))
            tasks.start_soon(wait, "second")
            await anyio.wait_all_tasks_blocked()
            assert ends == [("first", "MAIL")]
            assert counts(control)["waiting"] == 1
            await control.send("/root/a", "two")
        assert ends == [("first", "MAIL"), ("second", "MAIL")]


# Flushes


async def test_eviction_flushes_the_thread_and_the_reload_sees_its_history_role_and_settings(
    open_session: Open,
) -> None:
    seen: list[Any] = []

    class Remembering(Thread):
        async def load(self, history: tuple[Any, ...]) -> None:
            self.count = max([record.data["count"] for record in history if hasattr(record, "data")], default=0)
            seen.append((self.agent.path, self.agent.role, self.agent.settings, self.count))

        async def run(self, turn: Turn) -> str:
            self.count += 1
            return f"{turn.settings['name']} {self.count}"

        async def flush(self) -> Any:
            return {"count": self.count}

    roles: dict[str, Work] = {"default": echo, "reader": Remembering, "writer": Remembering}
    async with open_session(roles, max_concurrent=2, max_resident=1) as control:
        for name, role in (("a", "reader"), ("b", "writer")):
            handle = await control.spawn("/root", name, "x", {"name": name}, role=role)
            assert ending(await handle.outcome()) == completed(f"{name} 1")
        assert await states(control) == {"/root/a": "completed", "/root/b": "completed loaded"}
        assert ending(await (await control.follow_up("/root/a", "x")).outcome()) == completed("a 2")
        assert ending(await (await control.follow_up("/root/b", "x")).outcome()) == completed("b 2")
        assert seen == [
            ("/root/a", "reader", {"name": "a"}, 0),
            ("/root/b", "writer", {"name": "b"}, 0),
            ("/root/a", "reader", {"name": "a"}, 1),
            ("/root/b", "writer", {"name": "b"}, 1),
        ]
        statistics = control.statistics()
        assert (statistics.loads, statistics.reloads, statistics.evictions) == (4, 2, 3)


@pytest.mark.parametrize("how", ["raises", "hangs", "is no JSON", "is deep"])
async def test_flush_that_fails_keeps_the_agent_in_memory_and_the_turn_that_needs_room_cannot_start(
    open_session: Open, how: str
) -> None:
    work = recorder()
    async with open_session(work, max_concurrent=2, max_resident=1, flush_timeout=4.0) as control:
        await (await control.spawn("/root", "a", "x")).outcome()
        if how == "raises":
            work.fail["flush"] = OSError("disk")
        elif how == "hangs":
            work.hang["flush"] = anyio.Event()
        else:
            work.left_over = {1, 2} if how == "is no JSON" else deep(300)
        began = anyio.current_time()
        outcome = await (await control.spawn("/root", "b", "x")).outcome()
        assert ending(outcome) == (TurnState.ERRORED, "no residency slot: could not flush /root/a")
        assert anyio.current_time() - began == seconds(4 if how == "hangs" else 0)
        assert await states(control) == {"/root/a": "completed loaded", "/root/b": "errored"}
        assert counts(control) == {"resident": 1}
        work.hang.clear()
        work.fail.clear()
        work.left_over = None
        assert ending(await (await control.follow_up("/root/b", "y")).outcome()) == completed("x y")
        assert await states(control) == {"/root/a": "completed", "/root/b": "completed loaded"}
        assert ending(await (await control.follow_up("/root/a", "z")).outcome()) == completed("z")


def deep(levels: int) -> list[Any]:
    """A list in a list in a list."""
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


async def test_follow_up_to_an_agent_on_its_way_out_keeps_it_and_cancels_the_flush(open_session: Open) -> None:
    work = recorder()
    async with open_session(work, max_concurrent=2, idle_ttl=10.0) as control:
        await (await control.spawn("/root", "a", "x")).outcome()
        work.hang["flush"] = anyio.Event()
        await anyio.sleep(11)
        assert await states(control) == {"/root/a": "completed"}
        assert counts(control) == {"resident": 1}
        assert ending(await (await control.follow_up("/root/a", "y")).outcome()) == completed("y")
        assert await states(control) == {"/root/a": "completed loaded"}
        assert work.log == ["new /root/a", "load /root/a", "run /root/a", "flush /root/a", "run /root/a"]
        work.hang.clear()


async def test_thread_that_is_lost_in_its_flush_is_gone_and_closed(open_session: Open) -> None:
    work = recorder()
    async with open_session(work, idle_ttl=10.0) as control:
        await (await control.spawn("/root", "a", "x")).outcome()
        work.fail["flush"] = ThreadLost("gone")
        await anyio.sleep(11)
        assert await states(control) == {"/root/a": "completed"}
        assert counts(control) == {}
        assert work.log[-2:] == ["flush /root/a", "close /root/a"]
        work.fail.clear()
        assert ending(await (await control.follow_up("/root/a", "y")).outcome()) == completed("y")


async def test_thread_that_is_lost_in_its_flush_while_its_next_turn_is_in_line_ends_that_turn(
    open_session: Open,
) -> None:
    work = recorder()
    async with open_session(work, idle_ttl=10.0) as control:
        await (await control.spawn("/root", "a", "x")).outcome()
        leave = work.hang["flush"] = anyio.Event()
        work.fail["flush"] = ThreadLost("gone")
        await anyio.sleep(11)
        handles: list[Handle] = []

        async def follow_up() -> None:
            handles.append(await control.follow_up("/root/a", "y"))

        async with anyio.create_task_group() as tasks:
            leave.set()
            tasks.start_soon(follow_up)  # keeps the agent, whose thread is lost before the commit
        work.fail.clear()
        outcome = await handles[0].outcome()
        if outcome.status.name == "ERRORED":
            assert outcome.result == "its thread died: ThreadLost: gone"
        else:
            assert ending(outcome) == completed("y")
        assert ending(await (await control.follow_up("/root/a", "z")).outcome()) == completed("z")


class Deaf(Thread):
    """Its flush does not stop when it is asked to."""

    async def run(self, turn: Turn) -> str:
        return turn.mail[0].text

    async def flush(self) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(50)


async def test_turn_that_waits_for_a_flush_that_does_not_stop_is_interrupted_at_once(open_session: Open) -> None:
    async with open_session(Deaf, idle_ttl=10.0, flush_timeout=100.0, stop_grace=1.0) as control:
        await (await control.spawn("/root", "a", "x")).outcome()
        await anyio.sleep(11)
        handle = await control.follow_up("/root/a", "y")
        await anyio.wait_all_tasks_blocked()
        began = anyio.current_time()
        await control.interrupt("/root/a")
        outcome = await handle.outcome()
        assert (outcome.status, outcome.result) == (TurnState.INTERRUPTED, "interrupted")
        assert anyio.current_time() == began
        assert ending(await (await control.follow_up("/root/a", "z")).outcome()) == completed("z")
        assert anyio.current_time() - began > 30  # that one waits for the end of the flush


async def test_live_thread_that_is_lost_closes_its_agent_with_its_subtree(open_session: Open) -> None:
    stage = Stage()
    async with open_session(stage, slot_policy=SlotPolicy.LIVE_THREADS, notice=Notice.NONE) as control:
        first = await control.spawn("/root", "a", "x")
        below = await control.spawn("/root/a", "b", "x")
        late = await control.follow_up("/root/a", "late")
        (await stage.scene("/root/a")).end(ThreadLost("gone"))
        assert ending(await first.outcome()) == (TurnState.ERRORED, "its thread died: ThreadLost: gone")
        assert ending(await below.outcome()) == (TurnState.INTERRUPTED, "closed")
        assert await states(control) == {}
        assert counts(control) == {}
        again = await control.handle(late.ref)
        assert await again.outcome() == await late.outcome()


# Closes, and the end


def anyio_cancelled() -> BaseException:
    """The cancellation of something else; trio's cannot be made, so an error stands for it there."""
    return asyncio.CancelledError() if get_cancelled_exc_class() is asyncio.CancelledError else OSError("cancelled")


@pytest.mark.parametrize("how", ["raises", "awaits what was cancelled", "hangs"])
async def test_close_of_a_thread_that_fails_is_only_logged(
    open_session: Open, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    work = recorder()
    if how == "raises":
        work.fail["close"] = OSError("disk")
    elif how != "hangs":
        work.fail["close"] = anyio_cancelled()
    else:
        work.hang["close"] = anyio.Event()
    async with open_session(work, max_concurrent=2, max_resident=1, stop_grace=2.0) as control:
        await (await control.spawn("/root", "a", "x")).outcome()
        await (await control.spawn("/root", "b", "x")).outcome()
        assert await states(control) == {"/root/a": "completed", "/root/b": "completed loaded"}
        assert counts(control) == {"resident": 1}
        await anyio.sleep(3)
    assert [record.name for record in caplog.records] == ["statemachine"] * 2
    assert "/root/a" in caplog.text


async def test_shutdown_names_who_could_not_be_flushed_and_ends_within_its_bounds(open_session: Open) -> None:
    work = recorder()
    async with open_session(work, flush_timeout=4.0) as control:
        await (await control.spawn("/root", "a", "x")).outcome()
        work.hang["flush"] = anyio.Event()
        began = anyio.current_time()
        result = await control.shutdown(0)
        assert (result.done, result.interrupted, result.unflushed) == ((), (), (1,))
        assert anyio.current_time() - began == seconds(4)
        assert counts(control) == {}


async def test_shutdown_drops_a_turn_that_does_not_stop_and_ends_within_its_bounds(open_session: Open) -> None:
    released = anyio.Event()

    async def work(_: Turn) -> None:
        with anyio.CancelScope(shield=True):
            await released.wait()

    async with open_session(work, stop_grace=3.0) as control:
        await control.spawn("/root", "a", "x")
        await anyio.wait_all_tasks_blocked()
        began = anyio.current_time()
        result = await control.shutdown(2)
        assert (result.done, result.interrupted) == ((), (1,))
        assert anyio.current_time() - began == seconds(5)
        released.set()
