"""The file of a session between processes: owned, taken over, read from outside, killed, cut."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from statemachine import AgentControl, Turn
from statemachine.core.events import ROOT
from statemachine.core.records import AgentSpawned, MailAccepted, MailKind
from statemachine.stores import Entry, SQLiteStore, Write, read_rollout, read_session
from statemachine.stores.encoding import EncodingError
from statemachine.stores.errors import (
    SessionInUse,
    StoreBusy,
)
from statemachine.stores.sqlite import reading
from tests.stores.other_process import ENTRIES, STEPS, Other, group, process_beside, session_path, whole_groups
from tests.stores.session_files import CONFIG, beside, opened

pytestmark = pytest.mark.anyio
FIXTURES = (session_path, process_beside)


# Owning


async def test_session_open_in_another_process_is_refused_by_its_number_until_that_closes_it(
    path: Path, other: Other
) -> None:
    assert other.ask("open") == "1"
    with pytest.raises(SessionInUse, match=f"process {other.pid}") as refused:
        await SQLiteStore(path).open(CONFIG)
    assert (refused.value.owner, refused.value.path) == (other.pid, str(path))
    assert other.ask("append") == "durable"
    assert other.ask("close") == "closed"
    store = await opened(path)
    assert (store.epoch, other.ask("open")) == (2, "SessionInUse")
    await store.close()


async def test_session_that_its_owner_closes_while_a_refusal_looks_for_its_number_is_opened(
    path: Path, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert other.ask("open") == "1"

    def owner_that_closes(_: str) -> int:
        assert other.ask("close") == "closed"
        return other.pid

    monkeypatch.setattr(reading, "owner", owner_that_closes)
    store = await opened(path)
    assert (store.epoch, other.ask("open")) == (2, "SessionInUse")
    await store.close()


async def test_session_is_one_by_whatever_name_it_is_opened(path: Path, other: Other) -> None:
    other.ask("open")
    link = path.with_name("link.db")
    link.symlink_to(path)
    with pytest.raises(SessionInUse):
        await SQLiteStore(link).open(CONFIG)
    assert read_session(link).epoch == 1


async def test_session_of_a_process_that_was_killed_can_be_opened_at_once(path: Path, other: Other) -> None:
    other.ask("open")
    other.ask("append")
    other.kill()
    store = await opened(path)
    assert (store.epoch, len(await store.rollout(1))) == (2, 1)
    await store.close()


async def test_owner_that_was_paused_while_another_took_over_writes_nothing_more(path: Path, other: Other) -> None:
    other.ask("open")
    other.ask("append")
    other.pause()
    with pytest.raises(SessionInUse):
        await SQLiteStore(path).open(CONFIG)
    store = await opened(path, takeover=True)
    await store.append([Write((Entry(1, 2, "mine"),))])
    other.go_on()
    assert other.ask("append") == "SessionInUse"
    await store.append([Write((Entry(1, 3, "mine"),))])
    assert other.ask("append") == "SessionInUse"
    with pytest.raises(SessionInUse, match=f"process {os.getpid()}"):
        await SQLiteStore(path).open(CONFIG)
    assert other.ask("close") == "closed"
    with pytest.raises(SessionInUse):  # the lock of the second owner is not that of the first
        await SQLiteStore(path).open(CONFIG)
    assert [entry.turn for entry in await store.rollout(1) if isinstance(entry, Entry)] == [1, 2, 3]
    await store.close()


async def test_what_a_session_in_use_advises_opens_it(path: Path, other: Other) -> None:
    async def work(turn: Turn) -> str:
        return turn.path

    other.ask("open")
    other.ask("append")
    with pytest.raises(SessionInUse, match=r"open `SQLiteStore\(path, takeover=True\)`"):
        await AgentControl.open(path, work).__aenter__()
    async with AgentControl.open(SQLiteStore(path, takeover=True), work) as control:
        assert (await control.status("/root")).open
    assert other.ask("append") == "SessionInUse"


async def test_owner_that_is_paused_while_it_writes_keeps_others_out_until_it_ends(path: Path, other: Other) -> None:
    other.ask("open")
    other.ask("append")
    other.tell("begin and stop")
    other.wait_until_stopped()
    with pytest.raises(StoreBusy, match="paused owner"):
        await SQLiteStore(path, takeover=True, busy_timeout=0.05).open(CONFIG)
    other.kill()
    store = await opened(path)
    assert len(await store.rollout(1)) == 1
    await store.close()


# Reading from outside


async def test_other_process_reads_what_is_durable_while_this_one_writes(path: Path, other: Other) -> None:
    store = await opened(path)
    await store.append([Write((AgentSpawned(1, ROOT, "a", None), MailAccepted(0, ROOT, 1, MailKind.TRIGGER, "x")))])
    files = beside(path)
    assert other.ask("read") == "2 1"
    for number in range(10):
        other.tell("read")  # at the same time as this:
        await store.append([Write((Entry(1, 1, "a"), Entry(1, 1, "b")))])
        tail, rollout = other.hear().split()
        assert (int(tail) - 2 * number, int(rollout) - 2 * number) in {(2, 1), (4, 3), (2, 3)}
    assert other.ask("read") == "22 21"
    assert beside(path) == files
    await store.close()
    assert other.ask("read") == "22 21"
    assert beside(path) == ["session.db", "session.db.lock"]


async def test_session_whose_process_died_is_read_as_it_is_and_nothing_is_put_right(path: Path, other: Other) -> None:
    other.ask("open")
    other.ask("append")
    other.kill()
    before = {name: (path.parent / name).read_bytes() for name in beside(path)}
    assert set(before) == {"session.db", "session.db.lock", "session.db-shm", "session.db-wal"}
    assert (read_session(path).epoch, len(read_rollout(path, 1))) == (1, 1)
    assert {name: (path.parent / name).read_bytes() for name in beside(path)} == before


@pytest.mark.parametrize("suffixes", [("", "-wal"), ("", "-wal", "-shm")])
async def test_copy_of_a_session_that_runs_is_read_wherever_it_is(
    path: Path, tmp_path: Path, suffixes: tuple[str, ...]
) -> None:
    store = await opened(path)
    await store.append(group(0))
    copy = tmp_path / "elsewhere" / "copy.db"
    copy.parent.mkdir()
    for suffix in suffixes:
        shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
    await store.append(group(1))
    files = beside(copy)
    assert (whole_groups(copy), read_session(copy).tail) == (1, STEPS * ENTRIES)
    assert whole_groups(path) == 2
    assert beside(copy) == files
    await store.close()


async def test_closed_session_that_changes_while_it_is_read_is_read_again(path: Path) -> None:
    store = await opened(path)
    await store.append(group(0))
    await store.close()
    seen: list[int] = []

    def read(connection: sqlite3.Connection, times: int) -> int:
        (count,) = connection.execute("SELECT count(*) FROM log").fetchone()
        seen.append(count)
        if len(seen) <= times:
            with closing(sqlite3.connect(path)) as writer, writer:
                writer.execute("INSERT INTO log VALUES (NULL, 1, 'Entry', ?)", ("x" * 10_000,))
        return int(count)

    assert reading.reading(path, lambda connection: read(connection, 2)) == STEPS * ENTRIES + 2
    assert seen == [STEPS * ENTRIES + number for number in range(3)]
    with pytest.raises(StoreBusy):
        reading.reading(path, lambda connection: read(connection, 1000))


def change_by_a_slow_clock(path: Path, ahead_ns: int = 0) -> None:
    """The file has a time of change again that others can have, too, by a clock that may be ahead of ours."""
    tick_ns = 10_000_000
    now = time.time_ns() // tick_ns * tick_ns + ahead_ns
    os.utime(path, ns=(now, now))


@pytest.mark.parametrize("ahead_ns", [0, 9_000_000])
@pytest.mark.parametrize("failure", [None, sqlite3.DatabaseError, EncodingError])
async def test_closed_session_that_changes_twice_within_a_tick_of_the_clock_is_read_again(
    path: Path, failure: type[Exception] | None, ahead_ns: int
) -> None:
    store = await opened(path)
    await store.append(group(0))
    await store.close()
    seen: list[int] = []

    def read(connection: sqlite3.Connection) -> int:
        (count,) = connection.execute("SELECT count(*) FROM log").fetchone()
        seen.append(count)
        if len(seen) == 1:
            size = path.stat().st_size
            with closing(sqlite3.connect(path)) as writer, writer:
                writer.execute("PRAGMA synchronous = OFF")  # so that it is within the tick
                writer.execute("INSERT INTO log VALUES (NULL, 1, 'Entry', '')")
            change_by_a_slow_clock(path, ahead_ns)
            assert path.stat().st_size == size
            if failure is not None:
                raise failure("what was read did not fit together")
        return int(count)

    time.sleep(0.01 - time.time() % 0.01)
    change_by_a_slow_clock(path, ahead_ns)
    assert reading.reading(path, read) == STEPS * ENTRIES + 1


async def test_error_of_a_running_session_that_changed_a_moment_ago_counts_if_it_comes_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await opened(path)
    calls: list[int] = []

    def read(_: sqlite3.Connection) -> int:
        calls.append(1)
        if len(calls) == 1:
            raise sqlite3.DatabaseError("it was closed and opened again within a tick of the clock")
        return len(calls)

    monkeypatch.setattr(time, "time_ns", lambda: path.stat().st_mtime_ns)  # it is the moment of the change
    assert reading.reading(path, read) == 2
    await store.close()


# Dying


@pytest.mark.parametrize("after", [1, 7, 40])
async def test_process_killed_while_it_appends_leaves_whole_appends_and_all_that_it_acknowledged(
    path: Path, other: Other, after: int
) -> None:
    other.ask("open")
    other.tell("append for ever")
    acknowledged = [other.hear() for _ in range(after)]
    other.kill()
    acknowledged += other.stdout.read().split()
    found = whole_groups(path)
    assert found in (len(acknowledged), len(acknowledged) + 1)
    store = await opened(path)
    assert whole_groups(path) == found
    assert await store.check() == ()
    await store.append(group(found))
    await store.close()
    assert whole_groups(path) == found + 1


async def test_log_that_was_cut_anywhere_or_damaged_near_its_end_is_found_up_to_a_whole_append(
    path: Path, tmp_path: Path
) -> None:
    store = await opened(path)
    groups = 6
    for number in range(groups):
        await store.append(group(number))
    size = Path(f"{path}-wal").stat().st_size
    counts: list[int] = []
    for number, at in enumerate(range(0, size, size // 40)):
        for cut in (False, True):
            copy = tmp_path / f"{number}-{cut}.db"
            shutil.copyfile(path, copy)
            wal = Path(f"{copy}-wal")
            shutil.copyfile(f"{path}-wal", wal)
            if cut:
                os.truncate(wal, at)
            else:
                with wal.open("r+b") as file:
                    file.seek(at)
                    byte = file.read(1)
                    file.seek(at)
                    file.write(bytes([byte[0] ^ 0x55]))
            found = await opened(copy)
            counts.append(whole_groups(copy))
            await found.close()
    await store.close()
    assert set(counts) == set(range(groups)), "cuts at all ends of appends"
