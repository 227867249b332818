"""The runtime, from spawn to shutdown: what the core does, done by a session that runs (semantics.md section 4)."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from statemachine import Notice, Overflow, SlotPolicy
from statemachine.core.effects import ClosedAgents, Resumed, WaitEnd
from statemachine.core.machines import TurnState
from statemachine.core.records import MailAccepted, TurnEnded, TurnStarted
from statemachine.core.refusals import (
    AgentClosed,
    ExecutionFull,
    InvalidTimeout,
    LiveThreadsFull,
    PathTaken,
    QueueFull,
    RootRefused,
    SelfRefused,
    SessionClosed,
    SessionDraining,
)
from statemachine.runtime import Turn, UnknownPath
from statemachine.runtime.control import inside
from tests.runtime.running import Open, Stage, completed, counts, echo, ending, states, traced_sessions, virtual_time

pytestmark = pytest.mark.anyio
FIXTURES = (traced_sessions, virtual_time)


# Turns


async def test_spawn_of_an_agent_runs_its_turn_on_the_message_and_gives_its_outcome(open_session: Open) -> None:
    async with open_session(echo) as control:
        handle = await control.spawn("/root", "a", "hello")
        outcome = await handle.outcome()
        assert (handle.path, handle.id) == ("/root/a", 1)
        assert ending(outcome) == completed("hello")
        assert await states(control) == {"/root/a": "completed loaded"}
        assert counts(control) == {"resident": 1}


async def test_start_of_the_root_runs_its_turn_without_a_slot(open_session: Open) -> None:
    stage = Stage()
    async with open_session(stage) as control:
        handle = await control.start("/root", "go")
        scene = await stage.scene("/root")
        assert counts(control) == {}
        assert (await control.status("/root")).status is TurnState.RUNNING
        scene.end("gone")
        assert ending(await handle.outcome()) == completed("gone")


async def test_follow_up_while_the_turn_runs_starts_the_next_turn_on_the_same_slot(open_session: Open) -> None:
    stage = Stage()
    async with open_session(stage, max_concurrent=2) as control:
        first = await control.spawn("/root", "a", "one")
        scene = await stage.scene("/root/a")
        second = await control.follow_up("/root/a", "two")
        third = await control.follow_up("/root/a", "three")
        scene.end("first")
        next_scene = await stage.scene("/root/a", 2)
        assert next_scene.texts == ["two", "three"]
        assert counts(control) == {"slots": 1, "resident": 1}
        next_scene.end("second")
        assert ending(await first.outcome()) == completed("first")
        assert ending(await second.outcome()) == ending(await third.outcome()) == completed("second")


async def test_send_to_an_idle_agent_wakes_nobody_and_is_read_by_its_next_turn(open_session: Open) -> None:
    async with open_session(echo) as control:
        await (await control.spawn("/root", "a", "one")).outcome()
        await control.send("/root/a", "aside")
        status = await control.status("/root/a")
        assert (status.status, status.unread) == (TurnState.COMPLETED, 1)
        assert ending(await (await control.follow_up("/root/a", "two")).outcome()) == completed("aside two")


async def test_drain_in_a_turn_reads_what_came_since_it_started_once(open_session: Open) -> None:
    stage = Stage()
    async with open_session(stage) as control:
        await control.spawn("/root", "a", "one")
        turn = (await stage.scene("/root/a")).turn
        await control.send("/root/a", "two")
        await control.send("/root/a", "three")
        assert [(mail.text, mail.sender, mail.is_trigger) for mail in await turn.drain()] == [
            ("two", "host", False),
            ("three", "host", False),
        ]
        assert await turn.drain() == ()


# Delegation


async def test_delegation_with_wait_gives_the_parent_the_notice_of_its_child(open_session: Open) -> None:
    ends: list[WaitEnd] = []

    async def work(turn: Turn) -> str:
        if turn.path != "/root":
            return f"{turn.path} did {turn.mail[0].text} for {turn.mail[0].sender}"
        await turn.spawn("a", "half of it")
        ends.append(await turn.wait(60))
        (notice,) = await turn.drain()
        assert (notice.sender, notice.text, notice.is_trigger) == ("/root/a", "", False)
        assert notice.outcome is not None
        return str(notice.outcome.result)

    async with open_session(work) as control:
        handle = await control.start("/root", "do it")
        assert ending(await handle.outcome()) == completed("/root/a did half of it for /root")
        assert ends == [WaitEnd.MAIL]
        assert counts(control) == {"resident": 1}


async def test_wait_for_targets_returns_when_one_of_them_is_idle_with_an_outcome(open_session: Open) -> None:
    async def work(turn: Turn) -> str:
        if turn.path == "/root/slow":
            await anyio.sleep(1000)
        if turn.path == "/root":
            slow = await turn.spawn("slow", "x")
            fast = await turn.spawn("fast", "x")
            return (await turn.wait(100, targets=(slow.ref, fast.path, "/root/slow"))).name
        return "done"

    async with open_session(work, notice=Notice.NONE) as control:
        assert ending(await (await control.start("/root", "go")).outcome()) == completed("TARGET")


async def test_wait_without_mail_returns_timeout_at_its_time_and_keeps_a_slot_that_is_not_needed(
    open_session: Open,
) -> None:
    took: list[float] = []

    async def work(turn: Turn) -> str:
        began = anyio.current_time()
        end = await turn.wait(30)
        took.append(anyio.current_time() - began)
        return end.name

    async with open_session(work) as control:
        handle = await control.spawn("/root", "a", "x")
        await anyio.sleep(29)
        assert counts(control) == {"slots": 1, "resident": 1, "waiting": 1}
        assert ending(await handle.outcome()) == completed("TIMEOUT")
        assert took == [pytest.approx(30, abs=0.01)]


async def test_wait_without_a_timeout_waits_as_long_as_a_wait_may(open_session: Open) -> None:
    async def work(turn: Turn) -> Any:
        began = anyio.current_time()
        end = await turn.wait()
        return [end.name, round(anyio.current_time() - began)]

    async with open_session(work, max_wait=500.0) as control:
        assert ending(await (await control.spawn("/root", "a", "x")).outcome()) == completed(["TIMEOUT", 500])


async def test_wait_with_unread_mail_or_no_time_returns_at_once(open_session: Open) -> None:
    stage = Stage()
    async with open_session(stage) as control:
        await control.spawn("/root", "a", "x")
        turn = (await stage.scene("/root/a")).turn
        assert await turn.wait(0) is WaitEnd.TIMEOUT
        await control.send("/root/a", "mail")
        assert await turn.wait(60) is WaitEnd.MAIL
        with pytest.raises(InvalidTimeout):
            await turn.wait(1e9)
        assert counts(control) == {"slots": 1, "resident": 1}


@pytest.mark.parametrize(("max_resident", "end"), [(2, "TIMEOUT"), (1, "STALLED")])
async def test_wait_of_the_only_holder_while_another_turn_queues_lends_its_slot_or_ends_stalled(
    open_session: Open, max_resident: int, end: str
) -> None:
    async def work(turn: Turn) -> str:
        if turn.path == "/root/a":
            return (await turn.wait(60)).name
        return "ran"

    async with open_session(work, max_concurrent=2, max_resident=max_resident) as control:
        first = await control.spawn("/root", "a", "x")
        second = await control.spawn("/root", "b", "x")
        began = anyio.current_time()
        assert ending(await second.outcome()) == completed("ran")
        assert anyio.current_time() - began < 1, "the wait does not keep the other turn from its slot"
        assert ending(await first.outcome()) == completed(end)


async def test_two_waits_of_a_turn_at_the_same_time_end_each_by_its_own_condition(open_session: Open) -> None:
    stage = Stage()
    async with open_session(stage) as control:
        await control.spawn("/root", "a", "x")
        turn = (await stage.scene("/root/a")).turn
        ends: list[tuple[float, WaitEnd]] = []

        async def wait(seconds: float) -> None:
            ends.append((seconds, await turn.wait(seconds)))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, 60)
            tasks.start_soon(wait, 10)
            await anyio.sleep(11)
            assert ends == [(10, WaitEnd.TIMEOUT)]
            assert counts(control) == {"slots": 1, "resident": 1, "waiting": 1}
            await control.send("/root/a", "mail")
        assert ends == [(10, WaitEnd.TIMEOUT), (60, WaitEnd.MAIL)]


# Caps


async def test_spawn_beyond_the_cap_is_refused_with_the_holders_and_leaves_no_trace(open_session: Open) -> None:
    stage = Stage()
    async with open_session(stage, max_concurrent=3, overflow=Overflow.REJECT) as control:
        await control.spawn("/root", "a", "x")
        await control.spawn("/root", "b", "x")
        with pytest.raises(ExecutionFull) as refused:
            await control.spawn("/root", "c", "x")
        assert (refused.value.cap, refused.value.holders) == (2, (1, 2))
        with pytest.raises(UnknownPath):
            await control.status("/root/c")
        assert control.statistics().refusals == {"ExecutionFull": 1}
        assert inside(control).session.ledger.next_mail == 2


async def test_queued_spawns_run_one_after_the_other_in_their_order(open_session: Open) -> None:
    order: list[str] = []

    async def work(turn: Turn) -> str:
        order.append(turn.path)
        await anyio.sleep(1)
        return ""

    async with open_session(work, max_concurrent=2, max_resident=1, max_queued=3) as control:
        handles = [await control.spawn("/root", name, "x") for name in "abcd"]
        with pytest.raises(QueueFull):
            await control.spawn("/root", "e", "x")
        assert counts(control) == {"slots": 1, "resident": 1, "queued": 3}
        for handle in handles:
            await handle.outcome()
        assert order == ["/root/a", "/root/b", "/root/c", "/root/d"]
        assert counts(control) == {"resident": 1}
        assert control.statistics().evictions == 3


async def test_live_threads_hold_their_slots_until_they_are_closed(open_session: Open) -> None:
    async with open_session(echo, max_concurrent=3, slot_policy=SlotPolicy.LIVE_THREADS) as control:
        await (await control.spawn("/root", "a", "x")).outcome()
        await (await control.spawn("/root/a", "b", "x")).outcome()
        with pytest.raises(LiveThreadsFull) as refused:
            await control.spawn("/root", "c", "x")
        assert refused.value.holders == (1, 2)
        assert (await control.close("/root/a")).agents == (1, 2)
        assert counts(control) == {}
        assert (await control.resume("/root/a")).agents == (1, 2)
        assert counts(control) == {"slots": 2}
        assert ending(await (await control.follow_up("/root/a/b", "again")).outcome()) == completed("again")


# Interrupts


async def test_interrupt_of_a_running_turn_cancels_its_work_and_frees_its_slot(open_session: Open) -> None:
    stage = Stage()
    async with open_session(stage) as control:
        handle = await control.spawn("/root", "a", "x")
        scene = await stage.scene("/root/a")
        assert (await control.interrupt("/root/a")).previous is TurnState.RUNNING
        assert ending(await handle.outcome()) == (TurnState.INTERRUPTED, "interrupted")
        assert scene.was_cancelled
        assert counts(control) == {"resident": 1}
        again = await control.follow_up("/root/a", "y")
        (await stage.scene("/root/a", 2)).end("fine")
        assert ending(await again.outcome()) == completed("fine")


async def test_interrupt_of_a_waiting_turn_ends_its_wait_and_then_its_work(open_session: Open) -> None:
    ends: list[WaitEnd] = []

    async def work(turn: Turn) -> str:
        with anyio.CancelScope(shield=True):
            ends.append(await turn.wait(60))
        await anyio.sleep(1000)
        return "slept"

    async with open_session(work) as control:
        handle = await control.spawn("/root", "a", "x")
        await anyio.wait_all_tasks_blocked()
        assert counts(control)["waiting"] == 1
        await control.interrupt("/root/a")
        assert ending(await handle.outcome()) == (TurnState.INTERRUPTED, "interrupted")
        assert ends == [WaitEnd.INTERRUPTED]
        assert counts(control) == {"resident": 1}


async def test_interrupt_of_a_queued_turn_ends_it_unread_and_leaves_the_holder_alone(open_session: Open) -> None:
    stage = Stage()
    async with open_session(stage, max_concurrent=2, overflow=Overflow.QUEUE) as control:
        await control.spawn("/root", "a", "x")
        queued = await control.spawn("/root", "b", "y")
        assert (await control.interrupt("/root/b")).previous is TurnState.QUEUED
        assert ending(await queued.outcome()) == (TurnState.INTERRUPTED, "interrupted before it started")
        assert (await control.status("/root/b")).unread == 1
        assert await states(control) == {"/root/a": "running loaded", "/root/b": "interrupted"}
        (await stage.scene("/root/a")).end()
        await control.follow_up("/root/b", "z")
        scene = await stage.scene("/root/b", 2)
        assert scene.texts == ["y", "z"]


async def test_interrupt_of_an_idle_agent_does_nothing(open_session: Open) -> None:
    async with open_session(echo) as control:
        await (await control.spawn("/root", "a", "x")).outcome()
        assert (await control.interrupt("/root/a")).previous is TurnState.COMPLETED
        assert await states(control) == {"/root/a": "completed loaded"}


async def test_interrupt_and_close_by_agents_are_refused_for_the_root_and_themselves(open_session: Open) -> None:
    stage = Stage()
    async with open_session(stage) as control:
        await control.start("/root", "x")
        await control.spawn("/root", "a", "x")
        turn = (await stage.scene("/root/a")).turn
        for target, refusal in (("/root", RootRefused), ("/root/a", SelfRefused)):
            with pytest.raises(refusal):
                await turn.interrupt(target)
            with pytest.raises(refusal):
                await turn.close(target)
        with pytest.raises(RootRefused):
            await turn.follow_up("/root", "x")
        assert await states(control) == {"/root/a": "running loaded"}


# Close and resume


async def test_close_of_a_subtree_while_it_runs_gives_everything_back_at_once(open_session: Open) -> None:
    stage = Stage()
    async with open_session(stage, max_concurrent=4) as control:
        first = await control.spawn("/root", "a", "x")
        second = await control.spawn("/root/a", "b", "x")
        await control.spawn("/root", "c", "x")
        scenes = [await stage.scene(path) for path in ("/root/a", "/root/a/b", "/root/c")]
        late = await control.follow_up("/root/a", "late")
        assert (await control.close("/root/a")).agents == (1, 2)
        assert counts(control) == {"slots": 1, "resident": 1}
        for handle in (first, second, late):
            assert ending(await handle.outcome()) == (TurnState.INTERRUPTED, "closed")
        assert await states(control) == {"/root/c": "running loaded"}
        await anyio.wait_all_tasks_blocked()
        assert [scene.was_cancelled for scene in scenes] == [True, True, False]
        with pytest.raises(AgentClosed):
            await control.follow_up("/root/a", "x")
        assert await control.close("/root/a") == ClosedAgents((), ())


async def test_resume_of_a_closed_agent_keeps_its_history_and_works_again(open_session: Open) -> None:
    async with open_session(echo) as control:
        await (await control.spawn("/root", "a", "one", {"model": "large"})).outcome()
        await control.close("/root/a")
        assert await control.resume("/root/a") == Resumed((1,), (), ("/root/a",), ())
        assert ending(await (await control.follow_up("/root/a", "two")).outcome()) == completed("two")
        assert [type(record) for record in await control.history("/root/a")] == [
            MailAccepted,
            TurnStarted,
            TurnEnded,
        ] * 2


async def test_path_of_a_closed_agent_can_be_taken_and_then_means_the_new_one(open_session: Open) -> None:
    async with open_session(echo) as control:
        await (await control.spawn("/root", "a", "x")).outcome()
        with pytest.raises(PathTaken):
            await control.spawn("/root", "a", "x")
        await control.close("/root/a")
        assert (await control.status("/root/a")).open is False
        new = await control.spawn("/root", "a", "x")
        assert (await control.status("/root/a")).agent == new.id == 2
        assert (await control.status(1)).open is False


# Shutdown


async def test_shutdown_lets_turns_finish_within_its_grace_and_interrupts_the_rest(open_session: Open) -> None:
    async def work(turn: Turn) -> str:
        await anyio.sleep(float(turn.mail[0].text))
        return "slept"

    async with open_session(work) as control:
        short = await control.spawn("/root", "a", "5")
        long = await control.spawn("/root", "b", "50")
        began = anyio.current_time()
        result = await control.shutdown(10)
        assert anyio.current_time() - began == pytest.approx(10, abs=0.01)
        assert (result.done, result.interrupted, result.unflushed) == ((1,), (2,), ())
        assert ending(await short.outcome()) == completed("slept")
        assert ending(await long.outcome()) == (TurnState.INTERRUPTED, "interrupted")
        with pytest.raises(SessionClosed):
            await control.spawn("/root", "c", "x")
        assert [status.path for status in await control.list()] == ["/root", "/root/a", "/root/b"]


async def test_requests_during_a_shutdown_are_refused_and_a_queued_turn_waits_for_the_next_opening(
    open_session: Open,
) -> None:
    stage = Stage()
    async with open_session(stage, max_concurrent=2, overflow=Overflow.QUEUE) as control:
        await control.spawn("/root", "a", "x")
        queued = await control.spawn("/root", "b", "x")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(control.shutdown, 60)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(SessionDraining):
                await control.send("/root/a", "x")
            (await stage.scene("/root/a")).end()
        with pytest.raises(SessionClosed):
            await queued.outcome()
