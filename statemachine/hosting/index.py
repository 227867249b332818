"""Keeps the host's own file of a folder, `host.db`: which sessions are not known to rest, what callers have left, and
where the host is.

    host      the address and the token of the host, while it runs
    sessions  name -> how often callers have asked for it, and its mark
    asks      requests that callers left, to be carried out

A *mark* is what the file of a session was like when its host left it with nothing to do. A session without one is not
known to rest: it has open work, or a caller asked for it, or its host died. A mark is taken away, durably, before its
session is opened, and given after it was closed. So losing one costs an opening, and no crash leaves one that is wrong.

Only the owner of the folder may read the file, since who has the token may call. It is made so before anything is in
it. A host that lives holds a lock beside it, `host.db.lock`: without that, what the file says of a host is of a dead
one, and a client sends nothing there.

Other programs can write the file, so little of it is believed. Its schema is compared with `TABLES` when it is opened,
and whenever it was changed. A row with a value that none of us writes is dropped, with a warning: it costs its own
request or session, and not those of others.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial

from statemachine.hosting.errors import FolderCorrupt
from statemachine.hosting.file_names import INDEX, SUFFIX
from statemachine.stores.durability import BUSY_TIMEOUT
from statemachine.stores.errors import ForeignFile, NewerSchema, StoreCorrupt, StoreError, StoreMissing
from statemachine.stores.sqlite import rights, schema
from statemachine.stores.sqlite.patience import Patience
from statemachine.stores.sqlite.shape import check_shape
from statemachine.stores.sqlite.translation import typed

APPLICATION_ID = 0x41674D48
VERSION = 1
TABLES = (
    "CREATE TABLE host (address TEXT NOT NULL, token TEXT NOT NULL, pid INTEGER NOT NULL)",
    "CREATE TABLE sessions"
    " (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, asked INTEGER NOT NULL, mark TEXT)",
    "CREATE INDEX sessions_wanted ON sessions (id) WHERE mark IS NULL",
    "CREATE TABLE asks (id INTEGER PRIMARY KEY AUTOINCREMENT, session INTEGER NOT NULL, request BLOB NOT NULL)",
    "CREATE INDEX asks_by_session ON asks (session)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {VERSION}",
)
ASK = """
    INSERT INTO sessions (name, asked) VALUES (?, 1)
    ON CONFLICT (name) DO UPDATE SET asked = asked + 1, mark = NULL RETURNING id
"""


ID_MAX = 2**62
"""The highest number of a row. SQLite gives numbers above the highest that it knows, and none after 2**63 - 1."""
TOO_HIGH = (
    "DELETE FROM asks WHERE id > ?",
    "DELETE FROM sessions WHERE id > ?",
    "DELETE FROM sqlite_sequence WHERE seq > ?",
)


def make(connection: sqlite3.Connection) -> None:
    """Makes the tables."""
    for statement in TABLES:
        connection.execute(statement)


class Index:
    """A connection with the host's file of a folder. What it writes is durable, unless it is `light`."""

    def __init__(self, folder: str) -> None:
        """Connects with the file, which is made if it is missing. Raises `StoreError`."""
        self.path = os.path.join(folder, f"{INDEX}{SUFFIX}")
        if not os.path.isdir(folder):
            raise StoreMissing(folder, "there is no such directory")
        self._schema_version: int | None = None
        """SQLite's number of the schema that was looked at."""
        with self._typed():
            check_within(folder, self.path)
            rights.make_private(self.path)
            self._patience = Patience(self.path, BUSY_TIMEOUT)
            self.connection = schema.connect(self.path, "mode=rw", self._patience.step)
            # What is not UTF-8 is a text that no name, token or mark equals, and not an error of the whole file.
            self.connection.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
            try:
                self._begin()
                rights.warn_of_wider(self.path)
                self._inode = os.stat(self.path).st_ino
            except BaseException:
                self.connection.close()
                raise

    def _begin(self) -> None:
        self.connection.execute("PRAGMA synchronous = FULL")
        (tables,) = self.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and schema.number(self.connection, "application_id") != APPLICATION_ID:
            raise ForeignFile(self.path, "this is not the file of a host")
        if not schema.use_wal(self.connection, BUSY_TIMEOUT):
            raise StoreError(self.path, "this file system has no shared memory, which SQLite needs for its WAL")
        with self._transaction():
            version = schema.number(self.connection, "user_version")
            if version > VERSION:
                raise NewerSchema(self.path, f"the file has schema version {version}, newer than {VERSION}")
            if version == 0:
                make(self.connection)
            self._check_shape()

    def _check_shape(self) -> None:
        """Raises `StoreCorrupt` if the schema is not that of `TABLES`. Looks only if it was changed since."""
        version = self._patience.do(schema.number, self.connection, "schema_version")
        if version != self._schema_version:
            self._patience.do(check_shape, self.connection, self.path, (make,))
            self._schema_version = version

    def execute(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        """Runs a statement. While another program has the file locked, it is waited for, with one warning."""
        return self._patience.do(self.connection.execute, statement, values)

    @contextmanager
    def typed(self) -> Generator[None]:
        """Raises as a `StoreError` what goes wrong with the file. Looks at its schema first."""
        with self._typed():
            self._check_shape()
            yield

    @contextmanager
    def _typed(self) -> Generator[None]:
        try:
            with typed(self.path):
                yield
        except StoreCorrupt as error:
            raise FolderCorrupt(error.path, error.problem) from error

    @contextmanager
    def writing(self) -> Generator[None]:
        """Makes one transaction of the block, with the schema as it should be."""
        with self._transaction():
            self._check_shape()
            yield

    @contextmanager
    def _transaction(self) -> Generator[None]:
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise

    @contextmanager
    def light(self) -> Generator[None]:
        """Makes one transaction of the block, which does not wait for the disk: a power cut may undo it."""
        self.connection.execute("PRAGMA synchronous = NORMAL")
        try:
            with self.writing():
                yield
        finally:
            self.connection.execute("PRAGMA synchronous = FULL")

    def check_same(self) -> None:
        """Raises `StoreMissing` if the file was removed, or another one is in its place."""
        try:
            is_same = os.stat(self.path).st_ino == self._inode
        except FileNotFoundError:
            is_same = False
        if not is_same:
            raise StoreMissing(self.path, "the file of the host was removed")

    def ask(self, name: str) -> int:
        """Notes that a caller has asked for a session, within a transaction. Returns its number."""
        (session,) = self.connection.execute(ASK, (name,)).fetchone()
        return int(session)

    def lower(self) -> bool:
        """Drops rows with numbers after which SQLite has none left for others. Returns whether there were any."""
        if not self.connection.execute("SELECT 1 FROM sqlite_sequence WHERE seq > ?", (ID_MAX,)).fetchall():
            return False
        with self.writing():
            for statement in TOO_HIGH:
                self.connection.execute(statement, (ID_MAX,))
        return True

    def close(self) -> None:
        """Ends the connection."""
        self.connection.close()


def check_within(folder: str, path: str) -> None:
    """Raises `ForeignFile` for a link that leads out of the folder, where another folder may have the file, or to
    nothing, where one would be made.
    """
    if os.path.islink(path):
        target = os.path.realpath(path)
        if os.path.dirname(target) != folder or not os.path.exists(target):
            raise ForeignFile(path, f"this is a link to {target}, which is not a file of this folder")
