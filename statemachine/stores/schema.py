"""The tables of a session's file, how they came to be, and whether a file is one of ours.

    meta      name -> value: epoch, owner, config, covered, mail_states
    log       position -> a record or entry; `agent` is whose rollout it belongs to, or NULL
    agents    the facts of every agent, as of position `covered`
    rollouts  agent -> the positions of its rollout, up to `covered`; what follows is looked for in the log
    keys      receipts

The file says by its application id that it is a session, and by its user version how many of the `MIGRATIONS` it has
been through. A file that is none of ours is not even opened as a database.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from statemachine.stores.errors import ForeignFile, NewerSchema, StoreMissing

APPLICATION_ID = 0x41674D61
MAGIC = b"SQLite format 3\0"
HEADER_BYTES = 100

Migration = Callable[[sqlite3.Connection], object]


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
    """The index of the log by agent becomes a table that is brought up to date with every snapshot. An index costs each
    commit a page for every agent in it, which is more than all that the commit says.
    """
    for statement in (
        "DROP INDEX log_by_agent",
        "CREATE TABLE rollouts (agent INTEGER, position INTEGER, PRIMARY KEY (agent, position)) WITHOUT ROWID",
        "INSERT INTO rollouts SELECT agent, position FROM log WHERE agent IS NOT NULL"
        " AND position <= (SELECT value FROM meta WHERE name = 'covered') ORDER BY agent, position",
    ):
        connection.execute(statement)


MIGRATIONS: tuple[Migration, ...] = (_first, _rollouts)
"""Each leads from the version that is its index to the next. They are never changed, only added to."""


def migrate(connection: sqlite3.Connection, path: str, migrations: Sequence[Migration]) -> None:
    """Brings the file up to date, one transaction a version: after a failure it has the version before. It fences
    whoever still has the file open as the older one. A new file is made in one transaction, so that nobody ever sees it
    as an older one.

    Raises `NewerSchema`, and `ForeignFile` for a database of somebody else's.
    """
    version = 0 if is_empty(connection) else version_of(connection, path, len(migrations))
    while version < len(migrations):
        until = version + 1 if version else len(migrations)
        connection.execute("BEGIN IMMEDIATE")
        try:
            for migration in migrations[version:until]:
                migration(connection)
            if version:
                connection.execute("UPDATE meta SET value = value + 1 WHERE name = 'epoch'")
            connection.execute(f"PRAGMA user_version = {until}")
            connection.execute("COMMIT")
            version = until
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def is_empty(connection: sqlite3.Connection) -> bool:
    """Is there nothing in the file yet?"""
    return number(connection, "page_count") == 0


def version_of(connection: sqlite3.Connection, path: str, newest: int) -> int:
    """How many migrations the file has been through. Raises `NewerSchema` if these are more than `newest`, and
    `ForeignFile`.
    """
    if number(connection, "application_id") != APPLICATION_ID:
        raise ForeignFile(path, "this is a database, but not of a session")
    version = number(connection, "user_version")
    if version > newest:
        raise NewerSchema(path, f"the file has schema version {version}, newer than {newest}")
    return version


def number(connection: sqlite3.Connection, pragma: str) -> int:
    """The value of a PRAGMA that is a number."""
    (value,) = connection.execute(f"PRAGMA {pragma}").fetchone()
    return int(value)


def examine(path: str) -> bool:
    """Does the file exist, with something in it? Raises `ForeignFile` if it is no session, without touching it, and
    `StoreMissing` if there is no directory for it.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        if not os.path.isdir(os.path.dirname(path)):
            raise StoreMissing(path, "there is no such directory") from None
        return False
    if not stat.S_ISREG(mode):
        raise ForeignFile(path, "this is a directory" if stat.S_ISDIR(mode) else "this is no regular file")
    with open(path, "rb") as file:
        header = file.read(HEADER_BYTES)
    if not header:
        return False
    if os.path.exists(f"{path}-journal"):
        return True  # it was being created when the process died; SQLite puts that right
    if len(header) < HEADER_BYTES or not header.startswith(MAGIC):
        raise ForeignFile(path, "this is no session")
    if int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        raise ForeignFile(path, "this is a database, but not of a session")
    return True


def connect(path: str, parameters: str, busy_s: float) -> sqlite3.Connection:
    """A connection in autocommit mode. `busy_s` is how long, in seconds, it waits for what others have locked."""
    uri = f"{Path(path).as_uri()}?{parameters}"
    return sqlite3.connect(uri, uri=True, timeout=busy_s, isolation_level=None, check_same_thread=False)
