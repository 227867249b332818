"""What one session, call or pause does to a host and to a client harms no other (harm)."""

from __future__ import annotations

import logging
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from statemachine import AgentControl, MemoryStore, SessionConfig, SQLiteStore, Turn, TurnState, read_rollout
from statemachine.core.records import TurnEnded
from statemachine.errors import ForeignFile, HostMissing, RemoteError, StoreBusy, StoreExhausted, StoreFull
from statemachine.hosting import SessionClient, SessionHost, host, index, server
from statemachine.hosting.directory import Claimed
from statemachine.hosting.host import Hosted
from statemachine.runtime.control import inside
from statemachine.sinks import log
from statemachine.stores.sqlite import patience
from tests.hosting.test_hosts import until
from tests.hosting.work import CONFIG, LONG, QUICK, work

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


# A machine that is full


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
