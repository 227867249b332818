"""A session that is left while something reads its file: the WAL gets into the file, or there is a warning."""

from __future__ import annotations

import logging
import math
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import anyio
import pytest

from statemachine.stores import Entry, SQLiteStore, Write, read_rollout
from statemachine.stores.sqlite import leaving, schema
from tests.stores.session_files import beside, make, opened

pytestmark = pytest.mark.anyio
WHOLE = ["session.db", "session.db.lock"]
READER = """
import sqlite3, sys
reader = sqlite3.connect(sys.argv[1], isolation_level=None)
reader.execute("BEGIN")
reader.execute("SELECT count(*) FROM log").fetchone()
print("reads", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "session.db"


@pytest.fixture(autouse=True)
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "WAIT_S", 0.01)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.WARNING, "statemachine")
    return lambda: caplog.messages


@contextmanager
def reading_here(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM log").fetchone()
        yield reader


@contextmanager
def reading_elsewhere(path: Path) -> Iterator[None]:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", READER, path], stdin=pipe, stdout=pipe) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"reads\n"
        yield
        reader.communicate()


def entry(number: int) -> list[Write]:
    return [Write((Entry(1, 1, number),))]


def entries_in_copy(path: Path, *suffixes: str) -> int:
    """How many entries a copy of these files has."""
    copy = path.with_name("copy") / "session.db"
    copy.parent.mkdir()
    for suffix in suffixes:
        subprocess.run(["cp", f"{path}{suffix}", f"{copy}{suffix}"], check=True)  # here, it would drop SQLite's locks
    found = sum(isinstance(record, Entry) for record in read_rollout(copy, 1))
    shutil.rmtree(copy.parent)
    return found


async def written(path: Path) -> SQLiteStore:
    """A store that has written one entry more than is in the file alone."""
    await make(path)
    store = await opened(path)
    await store.append(entry(2))
    return store


@pytest.mark.parametrize("reading", [reading_here, reading_elsewhere])
@pytest.mark.parametrize("rests", [False, True])
async def test_session_that_is_left_while_it_is_read_says_that_its_wal_belongs_to_it(
    rests: bool, reading: Callable[[Path], AbstractContextManager[object]], path: Path, said: Callable[[], list[str]]
) -> None:
    store = await written(path)
    with reading(path):
        await store.append(entry(3))
        if rests:
            assert store.rest(math.inf)
        await store.close()
        (warning,) = said()
        assert warning.startswith(f"{path}: the session is closed, and its last commits are still in {path}-wal,")
        assert "another program reads it" in warning
        assert "copy or move both" in warning
        assert entries_in_copy(path, "", "-wal") == 3
    await (await opened(path)).close()
    assert beside(path) == WHOLE
    assert entries_in_copy(path, "") == 3
    assert len(said()) == 1


@pytest.mark.parametrize("rests", [False, True])
async def test_leaving_waits_for_a_reader_that_ends_soon(
    rests: bool, path: Path, said: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaving, "WAIT_S", 20)
    store = await written(path)
    waits, connect = threading.Event(), schema.connect

    def watched(place: str, parameters: str, busy_s: float) -> sqlite3.Connection:
        connection = connect(place, parameters, busy_s)
        connection.set_trace_callback(lambda statement: waits.set() if "TRUNCATE" in statement else None)
        return connection

    with reading_here(path) as reader:

        def end() -> None:
            assert waits.wait(60)
            reader.close()

        await store.append(entry(3))
        if rests:
            store.rest(math.inf)
        monkeypatch.setattr(schema, "connect", watched)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, end)
            await store.close()
    assert beside(path) == WHOLE
    assert entries_in_copy(path, "") == 3
    assert said() == []


async def test_reader_that_has_seen_everything_keeps_nothing_from_the_file(
    path: Path, said: Callable[[], list[str]]
) -> None:
    store = await written(path)
    with reading_elsewhere(path):
        await store.close()
        assert os.path.getsize(f"{path}-wal") > 0
        assert entries_in_copy(path, "") == 2
    assert said() == []


async def test_connection_that_reads_nothing_keeps_nothing_from_the_file(
    path: Path, said: Callable[[], list[str]]
) -> None:
    store = await written(path)
    with reading_here(path) as reader:
        reader.execute("COMMIT")
        await store.close()
        assert os.path.getsize(f"{path}-wal") == 0
        assert entries_in_copy(path, "") == 2
    assert said() == []


async def test_owner_that_was_fenced_leaves_the_wal_to_its_successor_without_a_word(
    path: Path, said: Callable[[], list[str]]
) -> None:
    store = await written(path)
    successor = await opened(path, takeover=True)
    await successor.append(entry(3))
    size = os.path.getsize(f"{path}-wal")
    await store.close()
    assert os.path.getsize(f"{path}-wal") == size > 0
    await successor.append(entry(4))
    await successor.close()
    assert beside(path) == WHOLE
    assert entries_in_copy(path, "") == 4
    assert said() == []


async def test_session_that_nobody_reads_is_left_without_another_connection(
    path: Path, said: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await written(path)
    connections, connect = list[str](), schema.connect

    def counted(place: str, parameters: str, busy_s: float) -> sqlite3.Connection:
        connections.append(place)
        return connect(place, parameters, busy_s)

    monkeypatch.setattr(schema, "connect", counted)
    await store.close()
    assert (connections, said(), beside(path)) == ([], [], WHOLE)


async def test_wal_that_cannot_be_copied_is_told_and_the_session_is_left(
    path: Path, said: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await written(path)

    def failing(*_: object) -> sqlite3.Connection:
        raise sqlite3.OperationalError("disk I/O error")

    with reading_here(path):
        monkeypatch.setattr(schema, "connect", failing)
        await store.close()
        monkeypatch.undo()
    (warning,) = said()
    assert "because they cannot be copied (disk I/O error)" in warning
    await (await opened(path)).close()
    assert beside(path) == WHOLE
