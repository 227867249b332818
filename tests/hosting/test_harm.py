"""What one session, call or pause does to a host and to a client harms no other (harm)."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, closing, suppress
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from statemachine import AgentControl, MemoryStore, SessionConfig, SQLiteStore, Turn, TurnState, read_rollout
from statemachine.core.records import TurnEnded
from statemachine.core.refusals import Refusal
from statemachine.errors import (
    ForeignFile,
    HostMissing,
    KeyReused,
    RemoteError,
    SessionClosed,
    StoreBusy,
    StoreExhausted,
    StoreFull,
    TooLarge,
    WrongEventLoop,
)
from statemachine.hosting import SessionClient, SessionHost, host, index, server, wire
from statemachine.hosting import talk as hosting_talk
from statemachine.hosting.directory import Claimed, Where
from statemachine.hosting.host import Hosted
from statemachine.hosting.remote import RemoteHandle, RemoteSession
from statemachine.hosting.talk import Talk
from statemachine.runtime.control import inside
from statemachine.runtime.handles import requests_of
from statemachine.sinks import log
from statemachine.stores.sqlite import patience
from tests.hosting.test_hosts import until
from tests.hosting.work import CONFIG, LONG, QUICK, work

HOLE: list[Any] = []
HOLE.append(HOLE)

pytestmark = pytest.mark.anyio


# The root's turn is work


async def test_session_whose_root_is_at_work_is_left_neither_as_idle_nor_for_others(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "CLAIM_S", 0.5)
    async with (
        SessionHost(place, work, CONFIG, capacity=1, idle_ttl=0.05, **QUICK) as found,
        SessionClient(place, patience=0.5) as client,
    ):
        handle = await client.session("busy").start("/root", f"until {tmp_path / 'there'}")
        with pytest.raises(HostMissing):
            await client.session("waits").list()
        assert found.sessions == ("busy",)
        (tmp_path / "there").touch()
        assert (await handle.outcome()).status is TurnState.COMPLETED


async def test_drain_gives_the_root_s_turn_its_grace(place: Path, tmp_path: Path) -> None:
    async with SessionHost(place, work, CONFIG, grace=LONG, **QUICK) as found:
        async with SessionClient(place) as client:
            await client.session("a").start("/root", f"until {tmp_path / 'there'}")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(found.drain)
            await anyio.sleep(0.5)
            assert found.sessions == ("a",)
            (tmp_path / "there").touch()
    async with SessionHost(place, work, CONFIG, **QUICK), SessionClient(place) as client:
        assert (await client.session("a").status("/root")).status is TurnState.COMPLETED


async def test_session_is_idle_only_when_no_turn_of_any_agent_has_begun_or_was_asked_for(tmp_path: Path) -> None:
    there = tmp_path / "there"

    async def lends(turn: Turn) -> None:
        """Lends its slot, and takes its time to stop."""
        try:
            if turn.path == "/root/lends":
                await turn.sleep(LONG)
        finally:
            with anyio.CancelScope(shield=True):
                while turn.path == "/root/lends" and not there.exists():
                    await anyio.sleep(0.02)

    async with AgentControl.open(MemoryStore(), lends, SessionConfig(max_concurrent=2)) as control:
        hosted = Hosted(Claimed(1, "a", 0), control)

        def is_idle() -> bool:
            return hosted.is_idle

        assert is_idle()
        await control.start("/root", "go")
        assert not is_idle()
        await until(is_idle, LONG)
        handle = await control.spawn("/root", "lends", "go")
        assert not is_idle()
        await until(lambda: inside(control).session.waits.of_agent, LONG)
        await (await control.spawn("/root", "other", "go")).outcome()
        assert not is_idle()
        await control.interrupt("/root/lends")
        await anyio.wait_all_tasks_blocked()
        assert not is_idle(), "its code runs still"
        there.touch()
        await handle.outcome()
        assert is_idle()


# Sinks


async def test_handler_of_logging_that_raises_ends_neither_host_nor_client(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    met = list[str]()

    class Sick(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            met.append(record.name.partition(".")[0])
            raise RuntimeError("no log")

    async def fails(*_: object, **__: object) -> None:
        raise RuntimeError("of the verb")

    monkeypatch.setattr(log, "has_failed", False)
    monkeypatch.setattr(AgentControl, "status", fails)
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(logging.root, "handlers", [Sick()])
    place.mkdir()
    (place / "Not a name.db").write_text("which is warned of")
    (place / "text.db").write_text("this is not a database" * 100)
    async with SessionHost(place, work, CONFIG, **QUICK), SessionClient(place) as client:
        with pytest.raises(ForeignFile):
            await client.session("text").list()
        with pytest.raises(RemoteError, match="of the verb"):
            await client.session("a").status("/root")
        assert (await (await client.session("a").spawn("/root", "x", "go")).outcome()).result == "done: go"
    assert {*met} == {"statemachine", "websockets"}
    assert "handler or filter of logging raised" in capsys.readouterr().err


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


async def test_connection_that_cannot_be_closed_keeps_no_other_from_being_closed() -> None:
    class Broken:
        async def close(self) -> None:
            raise AttributeError("'NoneType' object has no attribute 'call_soon'")

    await Talk(cast("Any", Broken()), "token").close()


# Leaving


def threads_of(kind: str) -> int:
    """How many threads of hosts, or of clients, there are."""
    return sum(thread.name == f"statemachine-{kind}" for thread in threading.enumerate())


def sockets() -> int:
    """How many are open. SQLite keeps descriptors of files, to use them again."""
    links = list[str]()
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            links.append(os.readlink(f"/proc/self/fd/{number}"))
    return sum(link.startswith("socket:") for link in links)


async def check_nothing_is_left(kind: str, opened: int, tasks: int) -> None:
    """Threads end by themselves, soon."""
    await until(lambda: threads_of(kind) == 0)
    await until(lambda: sockets() <= opened)
    await until(lambda: len(asyncio.all_tasks()) <= tasks)


async def cancelled(entered: AbstractAsyncContextManager[Any], passes: int, times: int) -> None:
    """Enters and leaves this in a task of its own, which is cancelled by asyncio: after so many passes of the event
    loop, so many times.
    """

    async def enter() -> None:
        async with entered:
            pass

    task = asyncio.create_task(enter())
    for _ in range(passes):
        await asyncio.sleep(0)
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    with suppress(asyncio.CancelledError):
        await task


async def test_client_that_is_left_by_a_time_out_leaves_no_thread_connection_or_task(
    place: Path, tmp_path: Path
) -> None:
    async with SessionHost(place, work, CONFIG, **QUICK) as found:
        async with SessionClient(place) as client:
            ref = (await client.session("a").spawn("/root", "x", f"until {tmp_path / 'there'}")).ref
            while (await client.session("a").status("/root/x")).status is not TurnState.RUNNING:
                await anyio.sleep(0.02)
        await until(lambda: threads_of("client") == 0)
        opened, tasks = sockets(), len(asyncio.all_tasks())
        for _ in range(4):
            with anyio.CancelScope() as scope:
                async with SessionClient(place) as client, anyio.create_task_group() as others:
                    others.start_soon(client.session("a").handle(ref).outcome)
                    await until(lambda client=client: any(talk._waiting for talk in client._talks.values()), LONG)
                    scope.cancel()
        await check_nothing_is_left("client", opened, tasks)
        assert found.sessions == ("a",)
        (tmp_path / "there").touch()


async def test_step_of_leaving_a_client_that_raises_keeps_no_other_from_being_carried_out(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Talk.close

    async def fails(talk: Talk) -> None:
        await real(talk)
        raise ArithmeticError("of a connection")

    async with SessionHost(place, work, CONFIG, **QUICK):
        async with SessionClient(place) as client:
            await client.session("a").list()
        await until(lambda: threads_of("client") == 0)
        opened, tasks = sockets(), len(asyncio.all_tasks())
        with monkeypatch.context() as patched:
            patched.setattr(Talk, "close", fails)
            with pytest.raises(ArithmeticError):
                async with SessionClient(place) as client:
                    await client.session("a").list()
        await check_nothing_is_left("client", opened, tasks)
        with pytest.raises(SessionClosed, match="the client was left"):
            await client.session("a").list()


async def test_connection_that_is_made_as_its_caller_is_cancelled_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = list[str]()

    class Connection:
        async def close(self) -> None:
            closed.append("closed")

    async def connect(*_: object, **__: object) -> Connection:
        task.cancel()
        return Connection()

    async def is_there() -> bool:
        return True

    monkeypatch.setattr(hosting_talk, "connect", connect)
    task = asyncio.create_task(Talk.begin(Where("ws://127.0.0.1:1", "token"), None, is_there))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed == ["closed"]


@pytest.mark.parametrize("kind", ["client", "host"])
@pytest.mark.parametrize("times", [1, 200])
async def test_host_or_client_that_asyncio_cancels_at_any_pass_leaves_nothing(
    place: Path, kind: str, times: int
) -> None:
    place.mkdir()
    await cancelled(SessionHost(place, work, CONFIG, **QUICK), 0, 0)  # what is imported and made once
    opened, tasks = sockets(), len(asyncio.all_tasks())
    for passes in range(16):
        found = SessionHost(place, work, CONFIG, **QUICK) if kind == "host" else SessionClient(place)
        await cancelled(found, passes, times)
    await check_nothing_is_left(kind, opened, tasks)


async def test_host_that_asyncio_cancels_again_and_again_while_it_is_left_leaves_nothing(place: Path) -> None:
    opened, tasks = sockets(), len(asyncio.all_tasks())
    entered = anyio.Event()

    async def serve() -> None:
        async with SessionHost(place, work, CONFIG, **QUICK), SessionClient(place) as client:
            await client.session("a").list()
            entered.set()
            await anyio.sleep_forever()

    for _ in range(3):
        entered = anyio.Event()
        task = asyncio.create_task(serve())
        await entered.wait()
        for _ in range(2_000):
            task.cancel()
            await asyncio.sleep(0)
        with suppress(asyncio.CancelledError):
            await task
    await check_nothing_is_left("host", opened, tasks)
    await check_nothing_is_left("client", opened, tasks)


# Time in which the process could not run


async def test_drain_gives_a_turn_its_grace_though_another_session_blocks_the_process(
    place: Path, tmp_path: Path
) -> None:
    async with SessionHost(place, work, CONFIG, grace=1.5, **QUICK) as found:
        async with SessionClient(place) as client:
            await client.session("a").spawn("/root", "x", f"until {tmp_path / 'there'}")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(found.drain)
            await anyio.sleep(0.2)
            time.sleep(2.5)  # a turn of another session
            await anyio.sleep(0.05)
            assert found.sessions == ("a",)
            (tmp_path / "there").touch()
    outcomes = [each.outcome for each in read_rollout(place / "a.db", 1) if isinstance(each, TurnEnded)]
    assert [each.status for each in outcomes] == [TurnState.COMPLETED]


async def test_session_stays_for_its_idle_ttl_though_the_process_stood_still(place: Path) -> None:
    async with SessionHost(place, work, CONFIG, idle_ttl=2, **QUICK) as found, SessionClient(place) as client:
        await client.session("a").list()
        time.sleep(3)
        for _ in range(20):
            await anyio.sleep(0.005)
        assert found.sessions == ("a",)
        await until(lambda: not found.sessions, LONG)


async def test_session_has_its_idle_ttl_from_the_end_of_its_last_turn(place: Path, tmp_path: Path) -> None:
    async with SessionHost(place, work, CONFIG, idle_ttl=2, **QUICK) as found, SessionClient(place) as client:
        await client.session("a").spawn("/root", "x", f"until {tmp_path / 'there'}")
        await anyio.sleep(2.6)
        (tmp_path / "there").touch()
        await anyio.sleep(0.6)
        assert found.sessions == ("a",)
        await until(lambda: not found.sessions, LONG)


async def test_call_waits_for_room_in_time_in_which_the_process_could_run() -> None:
    event, is_over = anyio.Event(), False

    async def wait() -> None:
        nonlocal is_over
        await host.happens(event, 1.0)
        is_over = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.sleep(0.1)
        time.sleep(2)
        await anyio.sleep(0.05)
        assert not is_over
        with anyio.fail_after(LONG):
            while not is_over:
                await anyio.sleep(0.02)


# A folder that others use


async def test_host_s_own_file_that_another_program_locks_is_waited_for_with_a_warning_within_the_client_s_patience(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(patience, "NOTICE_S", 0.05)
    monkeypatch.setattr(index, "BUSY_TIMEOUT", 0.2)
    async with SessionHost(place, work, CONFIG, **QUICK), SessionClient(place, patience=LONG) as client:
        with closing(sqlite3.connect(place / "host.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.session("a").list)
                await anyio.sleep(1)
                other.execute("COMMIT")
        assert "host.db: another program keeps the file locked" in caplog.text


async def test_busy_file_is_told_once_the_client_s_patience_is_over(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "BUSY_TIMEOUT", 0.05)
    async with SessionHost(place, work, CONFIG, **QUICK), SessionClient(place, patience=0.3) as client:
        with closing(sqlite3.connect(place / "host.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreBusy):
                await client.session("a").list()


@pytest.mark.parametrize(("mode", "warnings"), [(0o700, 0), (0o755, 0), (0o777, 1), (0o770, 1)])
async def test_folder_in_which_others_may_write_is_used_with_a_warning(
    place: Path, mode: int, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    place.mkdir()
    place.chmod(mode)
    async with SessionHost(place, work, CONFIG, **QUICK):
        pass
    assert caplog.text.count("other users have rights on this folder") == warnings


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


async def test_session_whose_store_fails_is_left_with_a_warning_that_says_why(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is opened again, where its turn counts as interrupted by a crash; it was not handed over."""
    is_full = False
    append = SQLiteStore.append

    async def appended(self: SQLiteStore, records: Any) -> None:
        nonlocal is_full
        if is_full:
            is_full = False
            raise StoreFull(self.path, "database or disk is full")
        await append(self, records)

    async def fills(turn: Turn) -> str:
        nonlocal is_full
        if turn.attempt == 1:
            is_full = True
            await turn.record("more than there is room for")
        return "done"

    monkeypatch.setattr(SQLiteStore, "append", appended)
    config = SessionConfig(max_attempts=2)
    with caplog.at_level("INFO", "statemachine"):
        async with SessionHost(place, fills, config, **QUICK), SessionClient(place, patience=5.0) as client:
            outcome = await (await client.session("a").start("/root", "go")).outcome()
    assert outcome.result == "done"
    said = [record for record in caplog.records if "session a" in record.getMessage()]
    assert "database or disk is full" in said[0].getMessage()
    assert said[0].levelname == "WARNING"
    assert "handed over" not in said[0].getMessage()


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


async def test_host_without_a_descriptor_to_listen_with_is_a_typed_error(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Deaf:
        sockets = ()

        def close(self, *_: object) -> None: ...

        async def wait_closed(self) -> None: ...

    async def listen(*_: object) -> Deaf:
        return Deaf()

    monkeypatch.setattr(server.CallServer, "listen", listen)
    with pytest.raises(StoreExhausted):
        async with SessionHost(place, work, CONFIG, **QUICK):
            pass


LEFT_BEHIND = """
import asyncio, logging, sys
from statemachine.hosting import SessionClient, SessionHost

logging.disable()  # asyncio tells of the tasks that it leaves behind

async def work(turn):
    await asyncio.sleep(0 if turn.mail[-1].text == "again" else 1000)
    return "done"

async def begun(number, port):
    host = SessionHost(sys.argv[1], work, port=port, poll=0.05)
    await host.__aenter__()
    async with SessionClient(sys.argv[1]) as client:
        await client.session("a").spawn("/root", f"a{number}", "x", key=str(number))
    return host

async def again():
    async with SessionHost(sys.argv[1], work, port=port, poll=0.05), SessionClient(sys.argv[1]) as client:
        for number in range(3):
            print((await (await client.session("a").follow_up(f"/root/a{number}", "again")).outcome()).result)

kept, port = [], 0
for number in range(3):
    loop = asyncio.new_event_loop()
    kept.append(loop.run_until_complete(begun(number, port)))
    port = int(kept[-1].where.rpartition(":")[2])
    loop.close()
asyncio.run(again())
"""


def test_host_whose_event_loop_was_closed_in_its_block_leaves_folder_and_address_to_another(place: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LEFT_BEHIND, str(place)],
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "done\ndone\ndone\n"), done.stderr
