"""The file of a session as older and newer versions of the library write it."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

import statemachine.stores
from statemachine.core.config import Overflow, SessionConfig
from statemachine.core.machines import TurnState
from statemachine.core.records import Cause, Outcome, TurnEnded, TurnStarted
from statemachine.log.recovery import durable_facts
from statemachine.stores import SQLiteStore, Write, read_session
from statemachine.stores.errors import (
    ForeignFile,
    OlderSchema,
    StoreCorrupt,
    StoreError,
    StoreMissing,
)
from statemachine.stores.sqlite import schema, tables
from tests.stores.session_files import CONFIG, opened

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "session.db"


FIRST_VERSION = (
    "PRAGMA application_id = 1097289057",
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID",
    "CREATE TABLE log (position INTEGER PRIMARY KEY, agent INTEGER, kind TEXT NOT NULL, data NOT NULL)",
    "CREATE INDEX log_by_agent ON log (agent) WHERE agent IS NOT NULL",
    "CREATE TABLE agents (agent INTEGER PRIMARY KEY, facts NOT NULL)",
    "CREATE TABLE keys (key NOT NULL PRIMARY KEY, request NOT NULL, answer NOT NULL) WITHOUT ROWID",
    """INSERT INTO meta VALUES ('epoch', 3), ('owner', 77), ('covered', 3), ('mail_states', '[0,1,0]'),
        ('config', '{"format":"agent-statemachine-trace","version":1,"config":{"max_concurrent":4,"max_resident":3,
        "slot_policy":"active_turns","overflow":"reject","max_queued":1000,"max_depth":null,"max_agents":null,
        "max_unread":1000,"max_message_bytes":1048576,"notice":"queue","notify_interrupted":false,"flush_timeout":10.0,
        "load_timeout":30.0,"stop_grace":5.0,"max_wait":3600.0,"idle_ttl":null}}')""",
    """INSERT INTO log VALUES
        (2, 1, 'MailAccepted', '{"mail":0,"sender":0,"target":1,"kind":"trigger","message":"work","notice":null}'),
        (3, 1, 'TurnStarted', '{"agent":1,"turn":1}'),
        (4, 1, 'Entry', '{"agent":1,"turn":1,"data":{"said":"hello"}}'),
        (5, 1, 'TurnEnded', '{"outcome":{"agent":1,"turn":1,"status":"completed","result":"done"}}'),
        (6, NULL, 'AgentSpawned', '{"agent":2,"parent":1,"name":"b","settings":"of b"}')""",
    """INSERT INTO agents VALUES (1, '[1,0,"a",null,"open",-1,"running",1,null,
        [{"mail":0,"sender":0,"target":1,"kind":"trigger","message":"work","notice":null}],[]]')""",
    """INSERT INTO keys VALUES ('key', 'spawn', '{"agent":1}')""",
    "PRAGMA user_version = 1",
)
"""A file as the first version wrote it. It is never changed: every later version of the code has to read it, by way of
a migration if need be.
"""


FIRST_EPOCH = 3
"""Its epoch. Each migration raises it, and so does each opening."""
FIRST_CONFIG = SessionConfig(max_resident=3, overflow=Overflow.REJECT)
"""Its configuration: what was the default then, and what was not there yet as it is by default."""


def write_first_version(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in FIRST_VERSION:
            connection.execute(statement)


async def test_file_of_the_first_version_is_found_whole(path: Path) -> None:
    write_first_version(path)
    store = SQLiteStore(path)
    found = await store.open(CONFIG)
    assert (found.epoch, found.config, found.tail) == (FIRST_EPOCH + len(schema.MIGRATIONS), FIRST_CONFIG, 3)
    a, b = found.ledger.agents[1:]
    assert (a.path, a.status.name, a.taken, b.path, b.settings) == ("/root/a", "COMPLETED", (), "/root/a/b", "of b")
    assert len(await store.rollout(1)) == 4
    receipt = await store.receipt("key")
    assert receipt is not None
    assert receipt.answer == '{"agent":1}'
    assert await store.check() == ()
    await store.close()


def say_which(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE log ADD COLUMN which INTEGER NOT NULL DEFAULT 2")
    connection.execute("INSERT INTO meta VALUES ('migrated', 'yes')")


def fail_half_way(connection: sqlite3.Connection) -> None:
    connection.execute("DROP TABLE log")
    raise MemoryError


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return schema.number(connection, "user_version")


ENDED = TurnEnded(Outcome(1, 2, TurnState.COMPLETED, "done", Cause.FINISHED))


async def test_older_file_is_brought_up_to_date_by_opening_and_read_only_then(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_first_version(path)
    other = SQLiteStore(path.with_name("other.db"))
    write_first_version(Path(other.path))
    before = durable_facts((await other.open(CONFIG)).ledger)
    await other.close()
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, say_which))
    with pytest.raises(OlderSchema, match="open it once"):
        read_session(path)
    for number in (1, 2):
        store = await opened(path)
        await store.append([Write(((TurnStarted(1, 2), ENDED)[number - 1],))])
        assert (store.epoch, version_of(path)) == (
            FIRST_EPOCH + len(schema.MIGRATIONS) + number - 1,
            len(schema.MIGRATIONS),
        )
        assert len(await store.rollout(1)) == 4 + number
        await store.close()
    assert durable_facts(read_session(path).ledger) != before
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT DISTINCT which FROM log").fetchall() == [(2,)]
    monkeypatch.undo()
    with pytest.raises(StoreError, match="newer"):
        read_session(path)


async def test_migration_that_fails_leaves_the_file_at_the_version_before(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_first_version(path)
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, say_which, fail_half_way))
    with pytest.raises(MemoryError):
        await SQLiteStore(path).open(CONFIG)
    assert version_of(path) == len(schema.MIGRATIONS) - 1
    monkeypatch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:-1])
    store = await opened(path)
    assert (store.epoch, len(await store.rollout(1))) == (FIRST_EPOCH + len(schema.MIGRATIONS), 4)
    await store.close()


async def test_rollouts_of_a_first_version_are_found_before_and_after_its_snapshot(path: Path) -> None:
    write_first_version(path)
    with closing(sqlite3.connect(path)) as connection:
        schema._rollouts(connection)
        assert connection.execute("SELECT * FROM rollouts").fetchall() == [(1, 2), (1, 3)]  # covered is 3
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'")]
        assert "log_by_agent" not in names
        kinds = [kind for _, kind, _ in connection.execute(tables.ROLLOUT, {"agent": 1})]
        assert kinds == ["MailAccepted", "TurnStarted", "Entry", "TurnEnded"]


async def test_migration_fences_whoever_has_the_file_open_as_the_older_one(path: Path) -> None:
    write_first_version(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        schema.migrate(connection, str(path), schema.MIGRATIONS)
        found = connection.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchall()
    assert found == [(FIRST_EPOCH + len(schema.MIGRATIONS) - 1,)]  # and whoever has the older one writes nothing more


async def test_file_whose_creation_was_lost_is_new(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "MIGRATIONS", (fail_half_way,))
    with pytest.raises(StoreCorrupt):  # there is no table to drop
        await SQLiteStore(path).open(CONFIG)
    monkeypatch.undo()
    store = await opened(path)
    assert store.epoch == 1
    await store.close()


async def test_database_with_another_mark_is_foreign_even_with_our_tables(path: Path) -> None:
    write_first_version(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA application_id = 7")
    with pytest.raises(ForeignFile):
        await SQLiteStore(path).open(CONFIG)


@pytest.mark.parametrize("first", [0, 1])
async def test_two_that_bring_a_file_up_to_date_at_once_do_it_once(
    path: Path, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    if first:
        write_first_version(path)
    present_version = schema.present_version
    with (
        closing(schema.connect(str(path), "mode=rwc", 1)) as one,
        closing(schema.connect(str(path), "mode=rwc", 1)) as two,
    ):

        def overtaken(connection: sqlite3.Connection, path: str, newest: int) -> int:
            found = present_version(connection, path, newest)
            monkeypatch.undo()
            schema.migrate(two, path, schema.MIGRATIONS)  # after the one has looked, and before it begins
            return found

        monkeypatch.setattr(schema, "present_version", overtaken)
        schema.migrate(one, str(path), schema.MIGRATIONS)
        assert one.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchall() == [
            (FIRST_EPOCH + len(schema.MIGRATIONS) - 1 if first else 0,)
        ]
    assert version_of(path) == len(schema.MIGRATIONS)
    store = await opened(path)
    assert await store.check() == ()
    await store.close()


async def test_two_that_turn_to_the_wal_at_once_wait_for_each_other(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        closing(schema.connect(str(path), "mode=rwc", 1)) as one,
        closing(schema.connect(str(path), "mode=rwc", 1)) as two,
    ):
        schema.migrate(two, str(path), schema.MIGRATIONS)
        two.execute("BEGIN IMMEDIATE")  # SQLite does not wait for this one: it might be waiting for us
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            schema.use_wal(one, busy_s=0.02)
        monkeypatch.setattr(time, "sleep", lambda _: two.execute("COMMIT"))
        assert schema.use_wal(one, busy_s=60)
        assert schema.use_wal(two, busy_s=60)


def make_half_and_die(path: Path) -> None:
    """The process dies with some of the first transaction in the file, and all of it in no place."""

    def die(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("INSERT INTO meta VALUES ('large', zeroblob(100000))")
        os.kill(os.getpid(), signal.SIGKILL)

    with closing(schema.connect(str(path), "mode=rwc", 1)) as connection:
        schema.migrate(connection, str(path), (schema.MIGRATIONS[0], die))


async def test_file_that_was_half_made_is_no_session_yet_and_is_made_by_the_next_one(path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=make_half_and_die, args=(path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert path.stat().st_size > 50_000
    with pytest.raises(StoreMissing, match="no session"):
        read_session(path)
    store = await opened(path)
    assert (store.epoch, await store.check()) == (1, ())
    await store.close()


async def test_session_that_exists_is_one_while_its_journal_is_written(path: Path) -> None:
    with closing(schema.connect(str(path), "mode=rwc", 1)) as connection:
        schema.migrate(connection, str(path), schema.MIGRATIONS)
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO meta VALUES ('large', zeroblob(100000))")
        assert Path(f"{path}-journal").read_bytes()[0]  # as while a new file turns to WAL
        assert schema.examine(str(path))
        connection.execute("ROLLBACK")


async def test_file_that_a_checkpoint_has_half_written_is_read_without_opening_it_by_hand(path: Path) -> None:
    await (await opened(path)).close()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])  # its first page is written first, and names the pages to come
    with closing(schema.connect_as_is(str(path))) as connection:
        assert schema.number(connection, "application_id") == schema.APPLICATION_ID
        assert whole.startswith(connection.serialize())


def test_no_statement_has_numbered_placeholders() -> None:
    """Python 3.14 refuses values in a sequence for them, and 3.12 warns."""
    stores = Path(statemachine.stores.__file__).parent
    assert [path.name for path in stores.rglob("*.py") if re.search(r"\?\d", path.read_text("utf-8"))] == []
