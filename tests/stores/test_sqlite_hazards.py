"""What may become of a session's file with nobody wanting harm: other programs, other names, forks, failing looks."""

from __future__ import annotations

import math
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from model.audits.verify import verify
from statemachine.stores import SQLiteStore, Write, read_rollout, read_session
from statemachine.stores.errors import SessionInUse, StoreBusy, StoreClosed, StoreError
from statemachine.stores.sqlite import reading, schema, tables
from statemachine.stores.sqlite.ownership import Ownership
from tests.stores.other_process import (
    ENTRIES,
    STEPS,
    Other,
    group,
    other_process,
    process_beside,
    session_path,
    whole_groups,
)
from tests.stores.session_files import CONFIG, LIFE, opened

pytestmark = pytest.mark.anyio
FIXTURES = (session_path, process_beside)


def read_inside(path: Path) -> None:
    read_session(path)


def open_twice(path: Path) -> None:
    with pytest.raises(SessionInUse):
        anyio.from_thread.run(SQLiteStore(path).open, CONFIG)


def copy_inside(path: Path) -> None:
    schema.copy_pages(str(path), f"{path}.copy")


def verify_inside(path: Path) -> None:
    verify(path, 1, lambda done, size: None)


@pytest.mark.parametrize("look", [read_inside, open_twice, copy_inside, verify_inside])
async def test_owner_that_looks_at_its_own_file_keeps_the_locks_that_keep_its_wal(
    path: Path, look: Callable[[Path], None]
) -> None:
    store = await opened(path)
    await store.append(group(0))
    await anyio.to_thread.run_sync(look, path)
    closes = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM log').fetchone(); c.close()"
    )
    subprocess.run(
        [sys.executable, "-c", closes, path], check=True
    )  # it takes the WAL away if nobody has the file open
    await store.append(group(1))
    assert whole_groups(path) == 2
    await store.close()


@pytest.mark.parametrize("code", schema.NO_DATABASE)
async def test_owner_whose_look_at_its_file_fails_keeps_its_locks_too(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    store = await opened(path)

    def fail(_: str) -> sqlite3.Connection:
        error = sqlite3.OperationalError("the disk, or too many open files")
        error.sqlite_errorcode = code
        raise error

    def forbidden(*_: object) -> None:
        raise AssertionError("it was opened by hand")

    monkeypatch.setattr(schema, "connect_as_is", fail)
    monkeypatch.setattr(schema, "open", forbidden, raising=False)
    monkeypatch.setattr(shutil, "copyfile", forbidden)
    with pytest.raises(sqlite3.OperationalError):
        schema.mark_of(str(path))
    with pytest.raises(sqlite3.OperationalError):
        schema.copy_pages(str(path), f"{path}.copy")
    await store.close()
    with pytest.raises(AssertionError, match="by hand"):
        schema.mark_of(str(path))


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("alive", [False, True])
async def test_copy_is_made_again_if_somebody_opened_the_session_meanwhile(
    path: Path, other: Other, monkeypatch: pytest.MonkeyPatch, alive: bool, fails: bool
) -> None:
    store = await opened(path)
    await store.append(group(0))
    await store.close()
    other.ask("open")
    other.ask("append")
    if alive:
        with open(f"{path}-shm", "r+b") as index:
            index.seek(48)  # the header is there twice, and here the second one is half made
            index.write(b"another")
    else:
        other.kill()
        os.unlink(f"{path}-shm")
    copy_pages, late = schema.copy_pages, list[int]()

    def copied(*words: str) -> None:
        if not late:
            late.append(1)
            other.kill()
            with other_process(path) as third:  # the WAL has been copied, and gets into the file now
                third.ask("open")
                third.ask("append")
                third.ask("close")
            if fails:
                raise sqlite3.DatabaseError("what was copied does not fit together")
        copy_pages(*words)

    monkeypatch.setattr(schema, "copy_pages", copied)
    assert len(read_rollout(path, 1)) == STEPS * ENTRIES + 2
    assert late


async def test_crashed_session_that_is_read_in_this_process_is_opened_as_soon_as_that_is_done(
    path: Path, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    other.ask("open")
    other.ask("append")
    other.kill()
    inside, go_on, tried = threading.Event(), threading.Event(), threading.Event()
    close_tables = SQLiteStore._close_tables

    def read(connection: sqlite3.Connection) -> int:
        found = tables.read_rollout(connection, 1)
        inside.set()
        go_on.wait(60)
        return len(found)

    def close_between_attempts(store: SQLiteStore) -> None:
        close_tables(store)
        tried.set()

    async def open_it(seconds: float) -> None:
        store = await opened(path, busy_timeout=seconds)
        assert len(await store.rollout(1)) == 1
        await store.close()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, reading.reading, path, read)
        await anyio.to_thread.run_sync(inside.wait)
        with pytest.raises(StoreBusy, match="this process is reading it"):
            await open_it(0.05)
        monkeypatch.setattr(SQLiteStore, "_close_tables", close_between_attempts)
        tasks.start_soon(open_it, 60)
        assert await anyio.to_thread.run_sync(tried.wait, 60)
        go_on.set()


async def test_file_with_two_names_is_refused_because_each_would_have_a_log(path: Path) -> None:
    await (await opened(path)).close()
    second = path.with_name("second.db")
    os.link(path, second)
    for name in (path, second):
        with pytest.raises(StoreError, match="hard link"):
            await opened(name)
        assert read_session(name).epoch == 1
    second.unlink()
    await (await opened(path)).close()


async def test_take_over_that_fails_leaves_the_owner_its_lock(path: Path, other: Other) -> None:
    store = await opened(path)
    assert store._tables is not None
    store._tables.connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusy):
        await opened(path, takeover=True, busy_timeout=0.05)
    store._tables.connection.execute("ROLLBACK")
    assert other.ask("open") == "SessionInUse"
    await store.append(group(0))
    await store.close()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 and later, of processes with threads
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_fork_of_an_owner_is_told_that_it_is_one_and_harms_nothing(path: Path, other: Other) -> None:
    store = await opened(path)
    await store.append(group(0))
    child = os.fork()
    if not child:

        async def use() -> int:
            for verb in (store.append(group(1)), store.rollout(1), store.receipt("x")):
                with pytest.raises(StoreClosed, match="fork"):
                    await verb
            await store.close()
            return 7

        coroutine = use()
        try:
            coroutine.send(None)  # nothing of it waits
        except StopIteration as end:
            os._exit(end.value)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    assert other.ask("open") == "SessionInUse"
    await store.append(group(1))
    await store.close()
    assert whole_groups(path) == 2


class Spoiled:
    """A connection that raises when it is closed, and is closed."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)

    def close(self) -> None:
        self.connection.close()
        raise sqlite3.OperationalError("disk I/O error")


@pytest.mark.parametrize("what", ["reader", "tables", "lock"])
async def test_step_of_closing_that_raises_keeps_no_other_from_being_carried_out(
    what: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await opened(path)
    await store.append([Write(LIFE)])
    assert await store.rollout(1) == LIFE[1:]
    assert store._reader is not None
    assert store._tables is not None
    connections = [store._reader, store._tables.connection]
    spoiled: Any = Spoiled(connections[what == "tables"])
    real = Ownership.release

    def release(ownership: Ownership) -> None:
        real(ownership)
        raise OSError("no lock")

    with monkeypatch.context() as patch:
        if what == "reader":
            store._reader = spoiled
        elif what == "tables":
            store._tables.connection = spoiled
        else:
            patch.setattr(Ownership, "release", release)
        with pytest.raises(StoreError):
            await store.close()
    assert schema.open_here[store.path] == 0
    for connection in connections:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")
    for again in (store, SQLiteStore(path)):
        await again.open(CONFIG)
        assert await again.rollout(1) == LIFE[1:]
        await again.close()


async def test_reading_connection_that_cannot_be_closed_keeps_no_session_from_resting(path: Path) -> None:
    store = await opened(path)
    await store.append([Write(LIFE)])
    await store.rollout(1)
    spoiled: Any = Spoiled(store._reader)  # type: ignore[arg-type]
    store._reader = spoiled
    assert store.rest(math.inf)
    assert store._is_resting
    assert await store.rollout(1) == LIFE[1:]
    await store.close()
