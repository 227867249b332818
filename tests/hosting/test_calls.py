"""A call that cannot be carried out says so to its caller, and harms no other (harm)."""

from __future__ import annotations

import asyncio
import inspect
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from statemachine import AgentControl, MemoryStore, SessionConfig, TurnState
from statemachine.core.refusals import Refusal
from statemachine.errors import KeyReused, StoreBusy, TooLarge, WrongEventLoop
from statemachine.hosting import SessionClient, SessionHost, server, wire
from statemachine.hosting.remote import RemoteHandle, RemoteSession
from statemachine.runtime.handles import requests_of
from tests.hosting.test_hosts import until
from tests.hosting.work import CONFIG, LONG, QUICK, work

HOLE: list[Any] = []
HOLE.append(HOLE)

pytestmark = pytest.mark.anyio


# What is too long for the wire


@pytest.fixture
def short_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages between clients and hosts are short."""
    monkeypatch.setattr(wire, "BYTES_MAX", 20_000)


@pytest.mark.usefixtures("short_wire")
async def test_call_too_long_for_the_wire_is_refused_before_anything_is_done_and_harms_no_other(
    place: Path, tmp_path: Path
) -> None:
    async with SessionHost(place, work, CONFIG, **QUICK), SessionClient(place) as client:
        other = await client.session("other").spawn("/root", "x", f"until {tmp_path / 'there'}")
        (talk,) = client._talks.values()
        outcomes = list[TurnState]()

        async def hear() -> None:
            outcomes.append((await other.outcome()).status)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hear)
            await until(lambda: talk._waiting, LONG)
            for settings in ("x" * 30_000, "\x00" * 5_000):
                with pytest.raises(TooLarge, match="a call of a session") as refused:
                    await client.session("long").spawn("/root", "x", "go", settings, key="k")
                assert refused.value.size > refused.value.bytes_max == 20_000
            (tmp_path / "there").touch()
        assert outcomes == [TurnState.COMPLETED]
        assert [each.path for each in await client.session("long").list()] == ["/root"]
        assert [*client._talks.values()] == [talk]
        assert not talk.is_over


@pytest.mark.usefixtures("short_wire")
async def test_answer_too_long_for_the_wire_is_refused_and_the_connection_goes_on(place: Path) -> None:
    async with SessionHost(place, work, CONFIG, **QUICK), SessionClient(place, patience=5) as client:
        session = client.session("a")
        handle = await session.spawn("/root", "x", "long " + "x" * 8_000)
        assert (await handle.outcome()).status is TurnState.COMPLETED
        (talk,) = client._talks.values()
        with pytest.raises(TooLarge, match="an answer") as refused:
            await session.history("/root/x")
        assert refused.value.size > refused.value.bytes_max == 20_000
        await session.spawn("/root", "y", '"' * 9_000, key="k")
        with pytest.raises(KeyReused, match="was used for another request to /root/y") as reused:
            await session.spawn("/root", "z", "go", key="k")
        assert reused.value.key == "k"
        assert (await session.status("/root/x")).turn == 1
        assert [*client._talks.values()] == [talk]
        assert not talk.is_over


REFUSED: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "headers that are not an object": ("start", ("/root", "go"), {"headers": 5}),
    "headers that JSON does not have": ("send", ("/root", "go"), {"headers": {"x": object()}}),
    "settings that are not a number": ("spawn", ("/root", "x", "go", float("nan")), {}),
    "settings without an end": ("spawn", ("/root", "x", "go", [HOLE]), {}),
    "a message that is not a text": ("follow_up", ("/root", b"go"), {}),
    "a target that is not a path": ("status", (b"/root",), {}),
    "a target that is a number of a kind": ("close", (1.5,), {}),
    "a name that is too long": ("spawn", ("/root", "x" * 2_000, "go"), {}),
    "a role that is not a text": ("spawn", ("/root", "x", "go"), {"role": 5}),
    "a key that is not a text": ("start", ("/root", "go"), {"key": 5}),
    "a key that is too long": ("start", ("/root", "go"), {"key": "k" * 5_000}),
    "a prefix that is not a text": ("list", (5,), {}),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_value_that_a_session_refuses_is_refused_by_a_client_in_the_same_words_before_anything_is_sent(
    place: Path, case: str
) -> None:
    verb, given, named = REFUSED[case]
    async with AgentControl.open(MemoryStore(), work) as control:
        with pytest.raises((TypeError, Refusal)) as here:
            await getattr(control, verb)(*given, **named)
    place.mkdir()
    async with SessionClient(place, patience=0) as client:  # without a host
        with pytest.raises((TypeError, Refusal)) as there:
            await getattr(client.session("a"), verb)(*given, **named)
        with closing(sqlite3.connect(place / "host.db")) as found:
            assert found.execute("SELECT * FROM sessions").fetchall() == []
    assert (type(there.value), str(there.value)) == (type(here.value), str(here.value))


async def test_handle_of_a_client_is_a_target_as_that_of_a_session_is(place: Path) -> None:
    async with SessionHost(place, work, CONFIG, **QUICK), SessionClient(place) as client:
        session = client.session("a")
        handle = await session.spawn("/root", "x", "go")
        assert (await session.status(handle)).path == "/root/x"
        assert (await (await session.follow_up(handle, "more")).outcome()).result == "done: more"


TAKES_A_HANDLE: dict[str, Callable[[RemoteSession, RemoteHandle], Awaitable[Any]]] = {
    "spawn": lambda session, handle: session.spawn(handle, "y", "go"),
    "send": lambda session, handle: session.send(handle, "go"),
    "follow_up": lambda session, handle: session.follow_up(handle, "go"),
    "start": lambda session, handle: session.start(handle, "go"),
    "withdraw": lambda session, handle: session.withdraw(handle),
    "interrupt": lambda session, handle: session.interrupt(handle),
    "close": lambda session, handle: session.close(handle),
    "resume": lambda session, handle: session.resume(handle),
    "forget": lambda session, handle: session.forget(handle),
    "status": lambda session, handle: session.status(handle),
    "history": lambda session, handle: session.history(handle),
}


def test_verbs_above_are_all_that_take_a_handle() -> None:
    verbs = {name for name, found in vars(RemoteSession).items() if inspect.iscoroutinefunction(found)}
    assert verbs - {"_request", "call", "list"} == {*TAKES_A_HANDLE}


async def test_handle_of_another_session_is_refused_in_the_words_of_a_turn_before_anything_is_sent(
    place: Path,
) -> None:
    async with SessionHost(place, work, CONFIG, **QUICK), SessionClient(place) as client:
        theirs = await client.session("a").spawn("/root", "x", "go")
        session = client.session("b")
        ours = await session.spawn("/root", "y", "go")
        assert theirs.ref.id == ours.ref.id
        await ours.outcome()
        before = await session.history(ours)
        with pytest.raises(TypeError) as of_a_turn:
            requests_of(cast("Any", None), (theirs,))
        assert "is not a handle of this session" in str(of_a_turn.value)
        for call in TAKES_A_HANDLE.values():
            with pytest.raises(TypeError) as refused:
                await call(session, theirs)
            assert str(refused.value) == str(of_a_turn.value)
        assert await session.history(ours) == before
        assert [agent.path for agent in await session.list()] == ["/root", "/root/y"]


async def test_handle_of_another_client_or_of_another_name_of_the_folder_is_one_of_the_session(
    place: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(place)
    async with SessionHost(place, work, CONFIG, **QUICK):
        async with SessionClient(place) as client:
            handle = await client.session("a").spawn("/root", "x", "go")
        async with SessionClient(tmp_path / "link") as client:
            assert (await client.session("a").status(handle)).path == "/root/x"
            with pytest.raises(TypeError, match="is not a handle of this session"):
                await client.session("b").status(handle)


def test_session_of_another_folder_or_database_is_another_one_though_its_name_is_the_same(tmp_path: Path) -> None:
    places = (tmp_path / "a", tmp_path / "b", "postgresql://host/a", "postgresql://host/b")
    sessions = [SessionClient(at).session("s") for at in places]
    assert len({*sessions}) == 4
    assert sessions == [SessionClient(at).session("s") for at in places]
    assert SessionClient("postgresql://u:one@host/a").session("s") == SessionClient("postgresql://u@host/a").session(
        "s"
    )
    assert sessions[0] != SessionClient(places[0]).session("t")


async def test_answer_of_very_many_is_said_and_read_while_others_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "STEP_S", -1.0)
    passes = 0

    async def others() -> None:
        nonlocal passes
        while True:
            passes += 1
            await anyio.sleep(0)

    async with (
        AgentControl.open(MemoryStore(), work, SessionConfig(max_concurrent=50, max_resident=50)) as control,
        anyio.create_task_group() as tasks,
    ):
        for number in range(50):
            await control.spawn("/root", f"a{number}", "go")
        there = await control.list()
        tasks.start_soon(others)

        async def served(call: Callable[..., Awaitable[Any]], *given: Any) -> Any:
            before = passes
            answer = await call(*given)
            assert passes - before >= len(there)
            return answer

        said = await served(wire.said, "list", there)
        reply = await served(wire.answer_of, 1, said)
        assert reply == wire.pack([1, "answer", said])
        assert await served(wire.read, "list", wire.unpack(reply)[1:]) == there
        tasks.cancel_scope.cancel()


# What a caller is told


async def test_call_from_another_event_loop_is_refused_before_anything_is_sent(place: Path) -> None:
    async with SessionHost(place, work, CONFIG, **QUICK), SessionClient(place) as client:
        session = client.session("a")
        assert await session.list()

        def elsewhere() -> None:
            with pytest.raises(WrongEventLoop):
                asyncio.run(session.spawn("/root", "elsewhere", "x"))

        await anyio.to_thread.run_sync(elsewhere)
        assert [status.path for status in await session.list()] == ["/root"]


async def test_call_too_many_is_refused_and_the_others_of_its_connection_go_on(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CALLS_MAX", 5)
    async with SessionHost(place, work, CONFIG, **QUICK), SessionClient(place, patience=1.0) as client:
        session = client.session("a")
        handle = await session.start("/root", f"until {tmp_path / 'there'}")
        outcomes = [asyncio.create_task(handle.outcome()) for _ in range(5)]
        await anyio.sleep(0.1)
        with pytest.raises(StoreBusy, match="not answered yet"):
            await session.list()
        (tmp_path / "there").touch()
        assert [outcome.status for outcome in await asyncio.gather(*outcomes)] == [TurnState.COMPLETED] * 5
        assert await session.list()


async def test_session_that_another_program_has_open_is_told_so(place: Path) -> None:
    async with SessionHost(place, work, CONFIG, **QUICK), SessionClient(place, patience=1.0) as client:
        async with AgentControl.open(place / "a.db", work, CONFIG):
            with pytest.raises(StoreBusy, match=r"a\.db"):
                await client.session("a").list()
            assert await client.session("b").list()
        assert await client.session("a").list()
