"""Requests found by their reference after they were withdrawn, demoted, returned or forgotten (section 7)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from statemachine import Overflow
from statemachine.core.records import Cause, MailRead, TurnReturned
from statemachine.core.refusals import UnknownAgent
from statemachine.runtime import AgentControl, AgentRef, ThreadLost, Turn
from statemachine.stores import MemoryStore
from statemachine.stores.sqlite.reading import check_file
from tests.runtime.running import Open, Stage, completed, echo, ending, in_session, traced_sessions, virtual_time

FIXTURES = (traced_sessions, virtual_time)


@pytest.mark.anyio
async def test_request_that_was_withdrawn_is_found_withdrawn_by_its_reference_in_a_later_opening(
    open_session: Open,
) -> None:
    store, stage = MemoryStore(), Stage()
    async with open_session(stage, store) as control:
        busy = await control.spawn("/root", "a", "x")
        scene = await stage.scene("/root/a")
        regretted = await control.follow_up("/root/a", "not this")
        await control.withdraw(regretted)
        told = await regretted.outcome()
        assert told.cause is Cause.WITHDRAWN
        scene.end("other work")
        assert ending(await busy.outcome()) == completed("other work")
        assert await (await control.handle(regretted.ref)).outcome() == told
    async with open_session(echo, MemoryStore(store.log)) as control:
        assert await (await control.handle(regretted.ref)).outcome() == told


@pytest.mark.anyio
async def test_request_that_an_interrupted_subtree_demoted_is_found_interrupted_by_its_reference(
    open_session: Open,
) -> None:
    store, stage = MemoryStore(), Stage()
    async with open_session(stage, store) as control:
        await control.spawn("/root", "a", "x")
        parent = (await stage.scene("/root/a")).turn
        await parent.spawn("b", "x")
        child = await stage.scene("/root/a/b")
        late = await parent.follow_up("/root/a/b", "not any more")
        assert not late.is_answered
        await control.interrupt("/root/a", subtree=True)
        told = await late.outcome()
        assert told.cause is Cause.NOT_STARTED
        assert child.turn.number == told.turn
    async with open_session(echo, MemoryStore(store.log)) as control:
        assert ending(await (await control.follow_up("/root/a/b", "next")).outcome()) == completed("not any more next")
        assert await (await control.handle(late.ref)).outcome() == told


@pytest.mark.anyio
async def test_request_of_a_returned_turn_is_answered_by_the_turn_that_read_it_last(open_session: Open) -> None:
    store = MemoryStore()

    async def work(turn: Turn) -> Any:
        if turn.attempt == 1:
            raise ThreadLost("for the first time")
        return turn.attempt

    async with open_session(work, store, max_attempts=3) as control:
        handle = await control.spawn("/root", "a", "x")
        assert ending(await handle.outcome()) == completed(2)
        history = await control.history("/root/a")
        assert TurnReturned(1, 1) in history
    async with open_session(echo, MemoryStore(store.log), max_attempts=3) as control:
        assert ending(await (await control.handle(handle.ref)).outcome()) == completed(2)


@pytest.mark.anyio
async def test_request_that_was_withdrawn_after_its_turn_was_returned_is_found_withdrawn(open_session: Open) -> None:
    store, stage = MemoryStore(), Stage()
    async with open_session(stage, store, max_concurrent=2, overflow=Overflow.QUEUE, max_attempts=3) as control:
        handle = await control.spawn("/root", "a", "x")
        first = await stage.scene("/root/a")
        await control.spawn("/root", "b", "y")
        first.end(ThreadLost("once"))
        await stage.scene("/root/b")
        await control.withdraw(handle)
        told = await handle.outcome()
        assert told.cause is Cause.WITHDRAWN
        (await stage.scene("/root/b")).end()
    async with open_session(echo, MemoryStore(store.log), max_attempts=3) as control:
        assert await (await control.handle(handle.ref)).outcome() == told


@pytest.mark.anyio
async def test_history_has_the_notices_that_a_turn_has_read_by_awaiting_their_requests(open_session: Open) -> None:
    async def work(turn: Turn) -> Any:
        if turn.path == "/root/a":
            return (await (await turn.spawn("b", "x")).outcome()).result
        return "of b"

    async with open_session(work) as control:
        assert ending(await (await control.spawn("/root", "a", "x")).outcome()) == completed("of b")
        assert [record for record in await control.history("/root/a") if isinstance(record, MailRead)]


@pytest.mark.anyio
async def test_calls_references_and_keys_of_a_forgotten_agent_are_refused_as_unknown(open_session: Open) -> None:
    store = MemoryStore()
    async with open_session(echo, store) as control:
        handle = await control.spawn("/root", "a", "x", key="a")
        await handle.outcome()
        await control.close("/root/a")
        await control.forget("/root/a")
        await refused_as_unknown(control, handle.ref)
    async with open_session(echo, MemoryStore(store.log)) as control:
        await refused_as_unknown(control, handle.ref)


async def refused_as_unknown(control: AgentControl, ref: AgentRef) -> None:
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: control.handle(ref),
        lambda: control.history(ref),
        lambda: control.status(ref),
        lambda: control.follow_up(ref, "y"),
        lambda: control.spawn("/root", "a", "x", key="a"),
    ]
    for call in calls:
        with pytest.raises(UnknownAgent):
            await call()


def test_file_with_a_forgotten_agent_is_sound(tmp_path: Path) -> None:
    async def forget(control: AgentControl) -> None:
        await (await control.spawn("/root", "a", "x")).outcome()
        await control.close("/root/a")
        await control.forget("/root/a")

    in_session(tmp_path / "session.db", forget)
    assert check_file(tmp_path / "session.db") == ()
