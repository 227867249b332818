"""Defines the tables of a session's file, brings older files up to date, and tells whether a file is a session.

    meta      name -> value: epoch, owner, config, covered, mail_states, keys (the number of receipts)
    log       position -> a record or entry; `agent` is whose rollout it belongs to, or NULL
    agents    the facts of every agent, as of position `covered`
    rollouts  agent -> the positions of its rollout, up to `covered`; later ones are looked up in the log
    keys      receipts

The file's application id marks it as a session, and its user version is the number of `MIGRATIONS` applied to it. A
file that is not a session is neither locked nor changed.

When a process opens a file by itself and closes it, SQLite loses its locks on it in that process, and the next process
to close the database removes its WAL. So only SQLite opens a session's file here, unless SQLite cannot read it and no
store of this process has it open.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from statemachine.pauses import Bound
from statemachine.stores.encoding import (
    EncodingError,
    Stored,
    facts_of_today,
    record_of_today,
    request_of_today,
    stored,
    text_of,
)
from statemachine.stores.errors import ForeignFile, NewerSchema, StoreMissing
from statemachine.stores.rows import NUMBER_MAX
from statemachine.stores.sqlite.regular import check_regular, open_to_read
from statemachine.stores.sqlite.shape import Migration, check_shape

APPLICATION_ID = 0x41674D61
MAGIC = b"SQLite format 3\0"
HEADER_BYTES = 100
RETRY_S = 0.005
NO_DATABASE = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CANTOPEN)
"""SQLite's codes for a file that it cannot read at all."""
open_here: Counter[str] = Counter()
"""Path -> the number of stores of this process that have the session open, and so locks to lose."""


def _first(connection: sqlite3.Connection) -> None:
    for statement in (
        f"PRAGMA application_id = {APPLICATION_ID}",
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID",
        "CREATE TABLE log (position INTEGER PRIMARY KEY, agent INTEGER, kind TEXT NOT NULL, data NOT NULL)",
        "CREATE INDEX log_by_agent ON log (agent) WHERE agent IS NOT NULL",
        "CREATE TABLE agents (agent INTEGER PRIMARY KEY, facts NOT NULL)",
        "CREATE TABLE keys (key NOT NULL PRIMARY KEY, request NOT NULL, answer NOT NULL) WITHOUT ROWID",
        "INSERT INTO meta VALUES ('epoch', 0), ('covered', 0), ('mail_states', '[0,0,0]')",
    ):
        connection.execute(statement)


def _rollouts(connection: sqlite3.Connection) -> None:
    """Replaces the index of the log by agent with a table that every snapshot brings up to date. An index costs each
    commit a page for every agent in it, which is more than all records of the commit.
    """
    for statement in (
        "DROP INDEX log_by_agent",
        "CREATE TABLE rollouts (agent INTEGER, position INTEGER, PRIMARY KEY (agent, position)) WITHOUT ROWID",
        "INSERT INTO rollouts SELECT agent, position FROM log WHERE agent IS NOT NULL"
        " AND position <= (SELECT value FROM meta WHERE name = 'covered') ORDER BY agent, position",
    ):
        connection.execute(statement)


def _causes(_: sqlite3.Connection) -> None:
    """Outcomes have a cause. No row changed then, but who cannot read those to come must not open the file."""


ROWS_AT_ONCE = 1000


def _classes(connection: sqlite3.Connection) -> None:
    """Records and facts are written as their classes are, by a library (`encoding.py`): every row changes."""
    _rewrite(connection, "log", "position", "kind, data", "data", record_of_today)
    _rewrite(connection, "agents", "agent", "facts", "facts", facts_of_today)
    for key, request in connection.execute("SELECT key, request FROM keys").fetchall():
        changed = stored(request_of_today(text_of(request)))
        connection.execute("UPDATE keys SET request = ? WHERE key = ?", (changed, key))


def _rewrite(
    connection: sqlite3.Connection, table: str, number: str, read: str, column: str, change: Callable[..., Stored]
) -> None:
    """Changes a column in all rows of the table, some of them at a time, since there may be millions."""
    last = -1
    some = f"SELECT {number}, {read} FROM {table} WHERE {number} > ? ORDER BY {number} LIMIT {ROWS_AT_ONCE}"
    while rows := connection.execute(some, (last,)).fetchall():
        changed = [(change(*found), at) for at, *found in rows]
        connection.executemany(f"UPDATE {table} SET {column} = ? WHERE {number} = ?", changed)
        last = rows[-1][0]


def _counted(connection: sqlite3.Connection) -> None:
    """The file says how many receipts it has, so that one that is lost is missed."""
    connection.execute("INSERT INTO meta SELECT 'keys', count(*) FROM keys")


MIGRATIONS: tuple[Migration, ...] = (_first, _rollouts, _causes, _classes, _counted)
"""Each leads from the version that is its index to the next. They are never changed, only added to."""


def migrate(connection: sqlite3.Connection, path: str, migrations: Sequence[Migration]) -> None:
    """Brings the file up to date, one transaction for each version: after a failure it has the version before. Fences
    an owner that has the file open as the older one. A new file is made in one transaction, so that it never looks like
    an older one. Two processes may do this at once.

    Raises `NewerSchema`, `WrongShape` if its tables are not those of its version,
    and `ForeignFile` for a database that is not a session.
    """
    while (version := present_version(connection, path, len(migrations))) < len(migrations):
        until = version + 1 if version else len(migrations)
        connection.execute("BEGIN IMMEDIATE")
        try:
            if number(connection, "user_version") == version:  # no other process was quicker
                if version:
                    check_shape(connection, path, migrations[:version])
                for migration in migrations[version:until]:
                    migration(connection)
                if version:
                    raise_epoch(connection)
                connection.execute(f"PRAGMA user_version = {until}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def raise_epoch(connection: sqlite3.Connection) -> None:
    """Fences an owner that has the file open. Raises `EncodingError` for an epoch that no session reaches."""
    is_sound = f"typeof(value) = 'integer' AND value BETWEEN 0 AND {NUMBER_MAX}"
    found = connection.execute(f"UPDATE meta SET value = value + 1 WHERE name = 'epoch' AND {is_sound}")
    if found.rowcount != 1:
        raise EncodingError("epoch is not a number that a session reaches")


def use_wal(connection: sqlite3.Connection, busy_s: float) -> bool:
    """Puts the file into WAL mode, if its file system supports that. If two processes do it at once, SQLite lets
    neither wait for the other, so this waits itself.
    """
    bound = Bound(busy_s)
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or bound.is_over():
                raise
            time.sleep(RETRY_S)
        else:
            return bool(mode == "wal")


def present_version(connection: sqlite3.Connection, path: str, newest: int) -> int:
    """Returns what `version_of` does, and 0 for an empty file."""
    is_empty = number(connection, "page_count") == 0
    return 0 if is_empty else version_of(connection, path, newest)


def version_of(connection: sqlite3.Connection, path: str, newest: int) -> int:
    """Returns the number of migrations applied to the file. Raises `NewerSchema` if it is more than `newest`, and
    `ForeignFile`.
    """
    if number(connection, "application_id") != APPLICATION_ID:
        raise ForeignFile(path, "this is a database, but not of a session")
    version = number(connection, "user_version")
    if version > newest:
        raise NewerSchema(path, f"the file has schema version {version}, newer than {newest}")
    return version


def number(connection: sqlite3.Connection, pragma: str) -> int:
    """Returns the value of a PRAGMA that is a number."""
    (value,) = connection.execute(f"PRAGMA {pragma}").fetchone()
    return int(value)


def examine(path: str) -> bool:
    """Tells whether there is a session; False while it is being made. Raises `ForeignFile` if the file is not a
    session, without touching it, and `StoreMissing` if there is no directory for it.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError:
        if not os.path.isdir(os.path.dirname(path)):
            raise StoreMissing(path, "there is no such directory") from None
        return False
    check_regular(path)
    if found.st_size == 0 or is_unfinished(path):
        return False
    mark = mark_of(path)
    if mark is None:
        raise ForeignFile(path, "this is not a session")
    if mark != APPLICATION_ID:
        raise ForeignFile(path, "this is a database, but not of a session")
    return True


def is_unfinished(path: str) -> bool:
    """Tells whether the file is being made, or its making was broken off. Then its journal leads back to an empty file,
    and SQLite will roll back to that. The file has no change that the journal does not know.
    """
    try:
        with open(open_to_read(f"{path}-journal"), "rb") as journal:
            header = journal.read(20)
    except FileNotFoundError:
        return False
    return len(header) == 20 and header[0] != 0 and header[16:] == b"\0\0\0\0"  # the file had no pages


def mark_of(path: str) -> int | None:
    """Returns the application id of the database; None: not a database. A damaged one still has its id. Raises
    `OSError`, and `sqlite3.Error` if the disk fails.
    """
    if os.path.getsize(path) == 0:
        return None
    try:
        with closing(connect_as_is(path)) as connection:
            return number(connection, "application_id")
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode not in NO_DATABASE or open_here[path]:
            raise
    with open(open_to_read(path), "rb") as file:
        header = file.read(HEADER_BYTES)
    is_database = len(header) == HEADER_BYTES and header.startswith(MAGIC)
    return int.from_bytes(header[68:72], "big") if is_database else None


def copy_pages(path: str, copy: str) -> None:
    """Copies the file, without its WAL. Raises `OSError`."""
    try:
        with closing(connect_as_is(path)) as connection:
            pages = connection.serialize()
    except (sqlite3.Error, AttributeError):  # damaged, or over 2 GiB; or a build of SQLite that cannot do it
        if open_here[path]:
            raise
        shutil.copyfile(path, copy)
    else:
        Path(copy).write_bytes(pages)


def connect_as_is(path: str) -> sqlite3.Connection:
    """Returns a connection that reads the file as it is, regardless of its WAL and of writers."""
    connection = connect(path, "mode=ro&immutable=1", 0)
    connection.execute("PRAGMA writable_schema = ON")  # half a checkpoint is not damage: the WAL has the rest
    return connection


def connect(path: str, parameters: str, busy_s: float) -> sqlite3.Connection:
    """Returns a connection in autocommit mode that waits `busy_s` seconds for what others have locked. Raises
    `ForeignFile` if the file, or what lies beside it, cannot be a database.
    """
    check_regular(path)
    uri = f"{Path(path).as_uri()}?{parameters}"
    connection = sqlite3.connect(uri, uri=True, timeout=busy_s, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA trusted_schema = OFF")  # no function that a file names has side effects
    return connection
