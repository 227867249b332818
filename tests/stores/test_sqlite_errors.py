"""What can be wrong with the file of a session, with real causes, and what is said then."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

import pytest

from statemachine.core.events import ROOT
from statemachine.core.machines import TurnState
from statemachine.core.records import Cause, MailAccepted, MailKind, Outcome, TurnEnded, TurnStarted
from statemachine.log.recovery import durable_facts
from statemachine.stores import Entry, SQLiteStore, Write
from statemachine.stores.errors import (
    ForeignFile,
    NewerSchema,
    StoreCorrupt,
    StoreFull,
    StoreMissing,
    StoreReadOnly,
)
from statemachine.stores.sqlite.reading import read_rollout, read_session
from tests.stores.session_files import CONFIG, FACTS, LIFE, beside, make, opened, sql

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "session.db"


# What can be wrong: no room, no right to write


async def test_full_file_is_a_typed_error_and_what_was_acknowledged_is_there(path: Path) -> None:
    store = await opened(path)
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
            path.chmod(0o444)
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


async def test_foreign_file_beside_an_unfinished_journal_is_refused(path: Path) -> None:
    other_database(path)
    Path(f"{path}-journal").touch()
    with pytest.raises(ForeignFile):
        await SQLiteStore(path).open(CONFIG)
    assert sql(path, "SELECT * FROM meta") == [("epoch", 1)]


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


def damage_page(table: str, at: int = 0) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        ((page,),) = sql(path, f"SELECT rootpage FROM sqlite_master WHERE name = '{table}'")
        ((size,),) = sql(path, "PRAGMA page_size")
        with path.open("r+b") as file:
            file.seek((page - 1) * size + at)  # 0: what kind of page it is; 16: where its fifth row begins
            file.write(b"\xf5")

    return damage


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def change(statement: str) -> Callable[[Path], None]:
    return lambda path: void(sql(path, statement))


def void(_: object) -> None:
    pass


DAMAGE: dict[str, Callable[[Path], None]] = {
    "page of meta": damage_page("meta"),
    "row of meta": damage_page("meta", 16),
    "page of agents": damage_page("agents"),
    "page of the log": damage_page("log"),
    "cut": cut,
    "names": lambda path: void(
        path.write_bytes(path.read_bytes().replace(b"CREATE TABLE log", b"CREATE T\xacBLE log"))
    ),
    "no table": change("DROP TABLE agents"),
    "no epoch": change("DELETE FROM meta WHERE name = 'epoch'"),
    "epoch": change("UPDATE meta SET value = 'two' WHERE name = 'epoch'"),
    "config": change("UPDATE meta SET value = '{}' WHERE name = 'config'"),
    "config that cannot work": change("UPDATE meta SET value = replace(value, '3600.0', '-1') WHERE name = 'config'"),
    "mail states": change("UPDATE meta SET value = '[0,2,-1]' WHERE name = 'mail_states'"),
    "facts": change("UPDATE agents SET facts = replace(facts, '\"a\"', 'true')"),
    "facts of another": change("UPDATE agents SET agent = 5, facts = replace(facts, '[1,', '[5,') WHERE agent = 1"),
    "gap": change("DELETE FROM log WHERE position = 6"),
    "record": change("UPDATE log SET data = replace(data, 'agent', 'aggnt') WHERE position = 7"),
    "impossible record": change("UPDATE log SET data = replace(data, '1', '9') WHERE position = 7"),
}


@pytest.mark.parametrize("damage", [pytest.param(damage, id=name) for name, damage in DAMAGE.items()])
async def test_damage_to_what_opening_reads_is_a_typed_error_and_the_lock_is_given_back(
    path: Path, damage: Callable[[Path], None]
) -> None:
    await make(path)
    late = MailAccepted(1, ROOT, 1, MailKind.TRIGGER, "again")
    await make(path, Write((late, TurnStarted(1, 2), TurnEnded(Outcome(1, 2, TurnState.ERRORED, "why", Cause.FAILED)))))
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
