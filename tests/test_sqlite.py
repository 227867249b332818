"""The file of a session: what is in it, what can be wrong with it, and what is said then."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from anyio import CancelScope, create_task_group, to_thread

from statemachine.config import SessionConfig
from statemachine.events import ROOT
from statemachine.machines import Turn
from statemachine.records import AgentSpawned, MailAccepted, MailKind, Outcome, TurnEnded, TurnStarted
from statemachine.recovery import durable_facts, fold
from statemachine.snapshot import facts_of
from statemachine.stores import Entry, Receipt, Snapshot, SQLiteStore, Synchronous, Write, schema, tables
from statemachine.stores.errors import (
    ForeignFile,
    NewerSchema,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreMissing,
    StoreReadOnly,
)
from statemachine.stores.reading import read_rollout, read_session

pytestmark = pytest.mark.anyio

CONFIG = SessionConfig()
LIFE = (
    AgentSpawned(1, ROOT, "a", None),
    MailAccepted(0, ROOT, 1, MailKind.TRIGGER, "work"),
    TurnStarted(1, 1),
    Entry(1, 1, "said"),
    TurnEnded(Outcome(1, 1, Turn.COMPLETED, "done")),
)
RECORDS = [record for record in LIFE if not isinstance(record, Entry)]
FACTS = durable_facts(fold(CONFIG, RECORDS))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "session.db"


async def make(path: Path, *items: Write | Snapshot) -> None:
    """A session that was opened, written to (`LIFE`, if nothing is said) and closed."""
    store = SQLiteStore(path)
    await store.open(CONFIG)
    await store.append(items or [Write(LIFE)])
    await store.close()


def sql(path: Path, *statements: str) -> list[Any]:
    """What the last of the statements gives, by a connection of its own."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return [connection.execute(statement).fetchall() for statement in statements][-1]


def beside(path: Path) -> list[str]:
    """The files in the session's directory."""
    return sorted(entry.name for entry in path.parent.iterdir())


# What is in the file


async def test_file_says_what_it_is_and_is_alone_but_for_the_lock_when_closed(path: Path) -> None:
    store = SQLiteStore(path)
    await store.open(CONFIG)
    assert sql(path, "PRAGMA journal_mode") == [("wal",)]
    assert store._tables is not None
    assert store._tables.connection.execute("PRAGMA synchronous").fetchone() == (2,)
    await store.close()
    assert sql(path, "PRAGMA application_id") == [(schema.APPLICATION_ID,)]
    assert sql(path, "PRAGMA user_version") == [(len(schema.MIGRATIONS),)]
    assert beside(path) == ["session.db", "session.db.lock"]


async def test_synchronous_normal_is_what_the_connection_has_if_asked_for(path: Path) -> None:
    store = SQLiteStore(path, synchronous=Synchronous.NORMAL)
    await store.open(CONFIG)
    assert store._tables is not None
    assert store._tables.connection.execute("PRAGMA synchronous").fetchone() == (1,)
    await store.close()


async def test_snapshot_removes_what_is_in_no_rollout_up_to_it_and_positions_are_never_given_again(path: Path) -> None:
    store = SQLiteStore(path)
    await store.open(CONFIG)
    agents = fold(CONFIG, LIFE[:1]).agents
    await store.append([Write((*LIFE[1:], LIFE[0])), Snapshot((facts_of(agents[1]),), (0, 1, 0))])
    kept = sql(path, "SELECT position, kind FROM log ORDER BY position")
    assert kept == [(1, "MailAccepted"), (2, "TurnStarted"), (3, "Entry"), (4, "TurnEnded")]
    second = AgentSpawned(2, ROOT, "b", None)
    await store.append([Write((second,))])
    assert sql(path, "SELECT position, kind FROM log WHERE position > 4") == [(6, "AgentSpawned")]
    await store.close()
    reopened = SQLiteStore(path)
    found = await reopened.open(CONFIG)
    assert (found.tail, len(found.ledger.agents)) == (1, 3)
    assert sql(path, "SELECT value FROM meta WHERE name = 'covered'") == [(6,)]
    await reopened.append([Write((TurnStarted(2, 1),))])
    assert sql(path, "SELECT max(position) FROM log") == [(7,)]
    await reopened.close()


async def test_opening_reads_nothing_of_the_log_that_a_snapshot_covers(path: Path) -> None:
    await make(path)
    await make(path, Write((Entry(1, 2, "more"),)))
    sql(path, "UPDATE log SET data = 'damaged' WHERE kind != 'Entry'")
    store = SQLiteStore(path)
    found = await store.open(CONFIG)
    assert (found.tail, durable_facts(found.ledger)) == (1, FACTS)
    with pytest.raises(StoreCorrupt, match="log position"):
        await store.rollout(1)
    await store.close()


# Two ways of appending less than all


async def test_failure_in_the_middle_of_an_append_leaves_nothing_of_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SQLiteStore(path)
    await store.open(CONFIG)
    await store.append([Write(LIFE[:2])])
    real = tables.Tables.set_meta

    def fail(self: tables.Tables, name: str, value: int | str) -> None:
        real(self, name, value)
        raise MemoryError

    monkeypatch.setattr(tables.Tables, "set_meta", fail)
    with pytest.raises(MemoryError):
        await store.append([Write(LIFE[2:], Receipt("key", "", "1")), Snapshot((), (0, 1, 0))])
    monkeypatch.undo()
    with pytest.raises(StoreError, match="MemoryError"):  # the session has failed, so nothing may follow
        await store.append([Write(LIFE[2:])])
    assert await store.rollout(1) == LIFE[1:2]
    assert await store.receipt("key") is None
    await store.close()
    assert read_session(path).tail == 2
    assert (await store.open(CONFIG)).tail == 2
    await store.append([Write(LIFE[2:])])
    await store.close()


class Gate:
    """Holds an append in its thread, between its first row and its commit, until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()
        self.error: Exception | None = None
        real = tables.Tables.write

        def write(tables_: tables.Tables, parts: Sequence[tables.Encoded]) -> None:
            real(tables_, parts)
            self.entered.set()
            self.opened.wait()
            if self.error is not None:
                raise self.error

        monkeypatch.setattr(tables.Tables, "write", write)


async def test_append_whose_caller_is_cancelled_on_the_way_comes_to_its_end_and_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, said = SQLiteStore(path), []
    await store.open(CONFIG)
    gate = Gate(monkeypatch)
    async with create_task_group() as group:

        async def append(scope: CancelScope) -> None:
            with scope:
                await store.append([Write(LIFE)])
                said.append("durable")

        scope = CancelScope()
        group.start_soon(append, scope)
        await to_thread.run_sync(gate.entered.wait)
        assert await store.rollout(1) == ()  # reading does not wait for it, and sees nothing of it
        scope.cancel()
        gate.opened.set()
    assert said == ["durable"]
    assert await store.rollout(1) == LIFE[1:]
    await store.close()


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_append_of_a_task_that_asyncio_cancels_ends_before_the_next_which_tells_if_it_failed(
    path: Path, monkeypatch: pytest.MonkeyPatch, anyio_backend: str, fails: bool
) -> None:
    store = SQLiteStore(path)
    await store.open(CONFIG)
    gate = Gate(monkeypatch)
    gate.error = StoreFull(str(path), "no space") if fails else None
    task = asyncio.create_task(store.append([Write(LIFE[:3])]))
    await to_thread.run_sync(gate.entered.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    following = asyncio.create_task(store.append([Write(LIFE[3:])]))
    gate.opened.set()
    if fails:
        with pytest.raises(StoreFull, match="no space"):
            await following
        assert await store.rollout(1) == ()
    else:
        await following
        assert await store.rollout(1) == LIFE[1:]
    await store.close()


# What can be wrong: no room, no right to write


async def test_full_file_is_a_typed_error_and_what_was_acknowledged_is_there(path: Path) -> None:
    store = SQLiteStore(path)
    await store.open(CONFIG)
    await store.append([Write(LIFE)])
    assert store._tables is not None
    (pages,) = store._tables.connection.execute("PRAGMA page_count").fetchone()
    store._tables.connection.execute(f"PRAGMA max_page_count = {pages + 1}")
    for _ in range(2):
        with pytest.raises(StoreFull, match="make room"):
            await store.append([Write((Entry(1, 1, "small"), Entry(1, 1, "x" * 100_000)))])
    assert await store.rollout(1) == LIFE[1:]
    await store.close()
    assert durable_facts((await store.open(CONFIG)).ledger) == FACTS
    await store.append([Write((Entry(1, 1, "x" * 100_000),))])
    await store.close()


@contextmanager
def small_disk(size: str) -> Iterator[Path]:
    """A file system of this size."""
    directory = Path(mkdtemp())
    mount = shutil.which("mount")
    try:
        if (
            mount is None
            or subprocess.run(
                [mount, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", directory], capture_output=True, check=False
            ).returncode
        ):
            pytest.skip("no right to mount a small disk")
        try:
            yield directory
        finally:
            subprocess.run(["umount", directory], check=True)
    finally:
        directory.rmdir()


async def test_full_disk_is_a_typed_error_and_what_was_acknowledged_is_there() -> None:
    with small_disk("256k") as disk:
        store, acknowledged = SQLiteStore(disk / "session.db"), []
        await store.open(CONFIG)

        async def fill() -> None:
            for number in range(1000):
                await store.append([Write((Entry(1, number, "x" * 3000),))])
                acknowledged.append(number)

        with pytest.raises(StoreFull, match="make room"):
            await fill()
        count = len(acknowledged)
        assert len(await store.rollout(1)) == count > 5
        await store.close()
        assert len(read_rollout(disk / "session.db", 1)) == count
        assert await store.check() == ()


@contextmanager
def nobody() -> Iterator[Path]:
    """A directory that anybody may enter, and no right to write to what root owns."""
    directory = Path(mkdtemp())
    directory.chmod(0o755)
    is_root = os.geteuid() == 0
    try:
        yield directory
    finally:
        if is_root:
            os.seteuid(0)
        directory.chmod(0o755)
        shutil.rmtree(directory)


def give_up_rights() -> None:
    """Only for tests in `nobody`: root may write to anything, so it becomes somebody else for a while."""
    if os.geteuid() == 0:
        os.seteuid(65534)


@pytest.mark.parametrize("what", ["file", "directory", "lock", "new"])
async def test_file_that_may_not_be_written_is_a_typed_error_and_may_still_be_read(what: str) -> None:
    with nobody() as directory:
        path = directory / "session.db"
        if what != "new":
            await make(path)
        lock = Path(f"{path}.lock")
        if what == "file":
            lock.unlink()
            path.chmod(0o444)
            directory.chmod(0o777)
        elif what == "directory":
            lock.chmod(0o666)
            path.chmod(0o666)
            directory.chmod(0o555)
        elif what == "lock":
            lock.chmod(0o444)
            directory.chmod(0o777)
        else:
            directory.chmod(0o555)
        give_up_rights()
        for _ in range(2):
            with pytest.raises(StoreReadOnly, match="right to write"):
                await SQLiteStore(path).open(CONFIG)
        if what != "new":
            assert durable_facts(read_session(path).ledger) == FACTS
            assert read_rollout(path, 1) == LIFE[1:]
            assert await SQLiteStore(path).check() == ()


# What can be wrong: another file


def text_file(path: Path) -> None:
    path.write_text("Dear diary, today I was no database at all. " * 10)


def short_file(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0")


def other_database(path: Path) -> None:
    sql(path, "CREATE TABLE meta (name TEXT PRIMARY KEY, value)", "INSERT INTO meta VALUES ('epoch', 1)")


def other_wal_database(path: Path) -> None:
    sql(path, "PRAGMA journal_mode = WAL", "CREATE TABLE t (x)")


@pytest.mark.parametrize("write", [text_file, short_file, other_database, other_wal_database, Path.mkdir, os.mkfifo])
@pytest.mark.parametrize("takeover", [False, True])
async def test_foreign_file_is_refused_and_not_touched(
    path: Path, write: Callable[[Path], object], takeover: bool
) -> None:
    write(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(ForeignFile, match="give another path"):
        await SQLiteStore(path, takeover=takeover).open(CONFIG)
    for read in (read_session, lambda path: read_rollout(path, 1)):
        with pytest.raises(ForeignFile):
            read(path)
    assert beside(path) == ["session.db"]
    assert (path.read_bytes() if path.is_file() else None) == before


async def test_newer_schema_is_refused_and_not_touched(path: Path) -> None:
    await make(path)
    sql(path, "PRAGMA user_version = 99")
    before = path.read_bytes()
    for _ in range(2):  # the first failure has given the lock back
        with pytest.raises(NewerSchema, match="schema version 99"):
            await SQLiteStore(path).open(CONFIG)
    with pytest.raises(NewerSchema):
        read_session(path)
    assert path.read_bytes() == before


async def test_missing_directory_and_missing_session_are_typed_errors(path: Path) -> None:
    with pytest.raises(StoreMissing, match="no such directory"):
        await SQLiteStore(path / "in" / "session.db").open(CONFIG)
    for read in (read_session, lambda path: read_rollout(path, 1)):
        with pytest.raises(StoreMissing):
            read(path)
    assert beside(path) == []


async def test_empty_file_is_a_new_session(path: Path) -> None:
    path.touch()
    store = SQLiteStore(path)
    assert (await store.open(CONFIG)).epoch == 1
    await store.close()


# What can be wrong: damage


def damage_page(table: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        ((page,),) = sql(path, f"SELECT rootpage FROM sqlite_master WHERE name = '{table}'")
        ((size,),) = sql(path, "PRAGMA page_size")
        with path.open("r+b") as file:
            file.seek((page - 1) * size)
            file.write(bytes(255 - byte for byte in file.read(16)))

    return damage


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def change(statement: str) -> Callable[[Path], None]:
    return lambda path: void(sql(path, statement))


def void(_: object) -> None:
    pass


DAMAGE: dict[str, Callable[[Path], None]] = {
    "page of meta": damage_page("meta"),
    "page of agents": damage_page("agents"),
    "page of the log": damage_page("log"),
    "cut": cut,
    "no table": change("DROP TABLE agents"),
    "no epoch": change("DELETE FROM meta WHERE name = 'epoch'"),
    "epoch": change("UPDATE meta SET value = 'two' WHERE name = 'epoch'"),
    "config": change("UPDATE meta SET value = '{}' WHERE name = 'config'"),
    "config that cannot work": change("UPDATE meta SET value = replace(value, '3600.0', '-1') WHERE name = 'config'"),
    "mail states": change("UPDATE meta SET value = '[0,2,-1]' WHERE name = 'mail_states'"),
    "facts": change("UPDATE agents SET facts = replace(facts, 'open', 'ajar')"),
    "facts of another": change("UPDATE agents SET agent = 5, facts = replace(facts, '[1,', '[5,') WHERE agent = 1"),
    "record": change("UPDATE log SET data = replace(data, 'agent', 'aggnt') WHERE position = 7"),
    "impossible record": change("UPDATE log SET data = replace(data, '1', '9') WHERE position = 7"),
}


@pytest.mark.parametrize("damage", [pytest.param(damage, id=name) for name, damage in DAMAGE.items()])
async def test_damage_to_what_opening_reads_is_a_typed_error_and_the_lock_is_given_back(
    path: Path, damage: Callable[[Path], None]
) -> None:
    await make(path)
    late = MailAccepted(1, ROOT, 1, MailKind.TRIGGER, "again")
    await make(path, Write((late, TurnStarted(1, 2), TurnEnded(Outcome(1, 2, Turn.ERRORED, "why")))))
    damage(path)
    before = path.read_bytes()
    for _ in range(2):
        with pytest.raises(StoreCorrupt, match="copy"):
            await SQLiteStore(path).open(CONFIG)
    with pytest.raises(StoreCorrupt):
        read_session(path)
    assert path.read_bytes() == before
    assert beside(path) == ["session.db", "session.db.lock"]
    with suppress(StoreCorrupt):  # so damaged that there is nothing to list
        assert await SQLiteStore(path).check() != ()
