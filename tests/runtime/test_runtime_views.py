"""What a running session shows: events, lists, and mail with its senders (semantics.md section 4)."""

from __future__ import annotations

import anyio
import pytest

from statemachine.core.effects import WaitEnd
from statemachine.core.records import MailAccepted
from statemachine.runtime import AgentControl, EventsLost
from tests.runtime.running import Open, Stage, echo, traced_sessions, virtual_time

pytestmark = pytest.mark.anyio
FIXTURES = (traced_sessions, virtual_time)


async def test_events_show_records_and_effects_in_their_order_until_the_session_ends(open_session: Open) -> None:
    seen: list[str] = []

    async def watch(control: AgentControl, ready: anyio.Event) -> None:
        async with control.events() as events:
            ready.set()
            seen.extend([type(event).__name__ async for event in events])

    async with open_session(echo) as control, anyio.create_task_group() as tasks:
        ready = anyio.Event()
        tasks.start_soon(watch, control, ready)
        await ready.wait()
        await (await control.spawn("/root", "a", "x")).outcome()
        await control.shutdown(0)
    assert " ".join(seen) == (
        "AgentSpawned MailAccepted LoadBegun Load TurnStarted StartTurn TurnEnded Answer "
        "Flush Flush Unload Unload ShutDown"
    )


async def test_reader_of_events_that_is_too_slow_is_told_and_goes_on_from_there(open_session: Open) -> None:
    async with open_session(echo) as control:
        await (await control.spawn("/root", "a", "x")).outcome()
        async with control.events(unread_max=3) as events:
            for text in "1234":
                await control.send("/root/a", text)
            with pytest.raises(EventsLost):
                await anext(events)
            await control.send("/root/a", "5")
            last = await anext(events)
            assert isinstance(last, MailAccepted)
            assert last.message == "5"


async def test_readers_of_one_stream_get_each_event_once_and_all_hear_its_end(open_session: Open) -> None:
    seen: list[type] = []

    async def read() -> None:
        seen.extend([type(event) async for event in events])

    with anyio.fail_after(5):
        async with (
            open_session(echo) as control,
            anyio.create_task_group() as tasks,
            control.events() as events,
            control.events() as alone,
        ):
            for _ in range(3):
                tasks.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            await (await control.spawn("/root", "a", "x")).outcome()
            await control.shutdown(0)
            expected = [type(event) async for event in alone]
    assert sorted(map(str, seen)) == sorted(map(str, expected))


async def test_stream_of_a_block_that_was_left_ends_after_what_is_unread(open_session: Open) -> None:
    async with open_session(echo) as control:
        async with control.events() as events:
            await control.send("/root", "x")
        await control.send("/root", "y")
        with anyio.fail_after(5):
            assert [type(event) async for event in events] == [MailAccepted]


async def test_list_shows_open_agents_below_a_prefix_root_first_then_by_path(open_session: Open) -> None:
    async with open_session(echo) as control:
        for parent, name in (("/root", "b"), ("/root", "a"), ("/root/a", "z"), ("/root", "a0")):
            await (await control.spawn(parent, name, "x")).outcome()
        assert [s.path for s in await control.list()] == ["/root", "/root/a", "/root/a/z", "/root/a0", "/root/b"]
        assert [s.path for s in await control.list("/root/a")] == ["/root/a", "/root/a/z"]


async def test_mail_between_agents_names_its_sender_and_the_notice_goes_to_whoever_asked(open_session: Open) -> None:
    stage = Stage()
    async with open_session(stage) as control:
        await control.spawn("/root", "a", "x")
        await control.spawn("/root", "b", "x")
        a, b = await stage.scene("/root/a"), await stage.scene("/root/b")
        await a.turn.send("/root/b", "psst")
        await a.turn.follow_up("/root/b", "next")
        assert [(mail.sender, mail.is_trigger) for mail in await b.turn.drain()] == [
            ("/root/a", False),
            ("/root/a", True),
        ]
        b.end("b is done")
        assert await a.turn.wait(60) is WaitEnd.MAIL
        (notice,) = await a.turn.drain()
        assert notice.outcome is not None
        assert (notice.sender, notice.outcome.result) == ("/root/b", "b is done")


async def test_host_that_asks_again_and_again_lets_the_turns_run(open_session: Open) -> None:
    async with open_session(echo) as control:
        await control.spawn("/root", "a", "x")
        asked = 0
        while not (await control.status("/root/a")).status.is_idle:
            asked += 1
            assert asked < 1_000, "the turn never gets to run"
        await control.send("/root/a", "y")
        others: list[int] = []

        async def other() -> None:
            others.append(asked)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(other)
            await control.status("/root/a")
            await control.list()
            assert others, "nobody else gets to run"
