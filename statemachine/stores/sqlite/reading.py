"""Reads a session's file without owning it: while the session runs in another process, and long after.

Nothing here changes or creates a file. SQLite needs its WAL and the index of it, two files beside the session's:

- The session is open, or its process died: both exist, and are read as they are.
- The session was closed: neither exists. The file is read as if it could not change (`immutable`), and again if it
  did.
- The WAL exists without its index, as after copying a session whose process died: a copy of both files is read.
- The WAL has no header, since a power cut has torn it: opening passes over such a WAL, and so does reading.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from attrs import define, field, frozen

from statemachine.core.config import SessionConfig
from statemachine.stores import options
from statemachine.stores.contents import Contents, Sizes, problems_of, recovered_of, unwatched
from statemachine.stores.encoding import EncodingError, Stored, asked_agent
from statemachine.stores.errors import ForeignFile, OlderSchema, StoreBusy, StoreCorrupt, StoreError, StoreMissing
from statemachine.stores.folding import Folded
from statemachine.stores.protocol import LogRecord, Recovered
from statemachine.stores.rows import Meta
from statemachine.stores.sqlite import schema, tables
from statemachine.stores.sqlite.interrupting import interrupted_by
from statemachine.stores.sqlite.regular import open_to_read
from statemachine.stores.sqlite.shape import WrongShape, check_shape
from statemachine.stores.sqlite.translation import typed

__all__ = ["check_file", "read_rollout", "read_session"]

ATTEMPTS_MAX = 100
"""Most attempts to read a file that keeps changing."""
BUSY_S = 5.0
TICK_S = 0.02
"""Longer than a tick of a local file system's clock, and than that differs from ours: two changes within one tick look
like one.
"""
WAL_HEADER_BYTES = 32
"""A WAL of this size is empty. If its process died then, its index does not match it, and SQLite would wait ten seconds
for another process to repair it. So it would for one whose header is torn.
"""
WAL_ORDERS = {0x377F0682: "<", 0x377F0683: ">"}
"""The number with which a WAL begins -> the order of bytes in the words that are summed up, as `struct` has it."""
PAGE_SIZES = tuple([2**power for power in range(9, 17)])
GONE = "the working directory was deleted, so a relative path leads nowhere, and only an absolute one to a file"
QUICK_TABLES = ("meta", "agents")
"""The tables that opening reads whole. The end of the log is checked record by record."""

under_way: Counter[str] = Counter()
"""Path -> the number of reads under way in this process."""
counting = threading.Lock()

T = TypeVar("T")


def read_session(path: str | os.PathLike[str]) -> Recovered:
    """Returns what opening the session would find, without claiming it: the ledger as of the last commit, and the
    present epoch. Raises `StoreError`.
    """
    return reading_contents(path, recovered_of)


def read_rollout(path: str | os.PathLike[str], agent: int) -> tuple[LogRecord, ...]:
    """Returns the agent's mail, turns and entries as of the last commit, oldest first. Raises `StoreError`."""
    agent = asked_agent(agent)
    return reading(path, lambda connection: tables.read_rollout(connection, agent))


def owner(path: str) -> int | None:
    """Returns the id of the process that opened the session last, if that can be read."""
    try:
        return reading(path, tables.read_meta).owner
    except StoreError:
        return None


def real_path(path: str | os.PathLike[str]) -> str:
    """Returns the path with links resolved, so that all names of a file are one. Raises `StoreMissing` for a path that
    no file can have, or that is relative to a working directory that is gone, `ForeignFile` for SQLite's names of what
    is not a file, and `TypeError` for what is not a path.
    """
    if not isinstance(path, bytes):  # which a `PathLike` may be, too
        options.check_place(path, "a path is a text or a Path, such as 'session.db'")
    name = os.fsdecode(path)
    if name == ":memory:" or name.startswith("file:"):
        raise ForeignFile(name, "this is SQLite's name for a database elsewhere; for one in memory, open MemoryStore()")
    try:
        os.fsencode(name)
        return os.path.realpath(name)
    except ValueError as error:  # a NUL, or a lone surrogate
        raise StoreMissing(repr(name)[:200], f"no file can have this path ({error})") from None
    except FileNotFoundError as error:  # of the working directory: links that lead nowhere are resolved all the same
        raise StoreMissing(name, GONE) from error


@contextmanager
def reading_copy(path: str) -> Generator[FileContents]:
    """Reads a copy of our own, which nothing changes meanwhile, piece by piece. Raises `StoreError`."""
    with typed(path), _connected(path, "mode=ro&immutable=1") as connection:
        yield FileContents(connection, path)


def reading(path: str | os.PathLike[str], read: Callable[[sqlite3.Connection], T]) -> T:
    """Returns what `read` makes of the file, in one transaction. Raises `StoreError`."""
    real = real_path(path)
    with typed(real):
        for _ in range(ATTEMPTS_MAX):
            if not schema.examine(real):
                raise StoreMissing(real, "there is no session")
            before = _state(real)
            if before.is_fresh and not before.index:
                time.sleep(TICK_S)
                before = _state(real)
            try:
                found, is_sure = _read_as(real, before, read)
            except FileNotFoundError:
                continue  # the session was closed meanwhile, and its WAL removed
            except (sqlite3.Error, StoreError, EncodingError, UnicodeDecodeError):
                if _is_same(real, before):
                    raise
                continue  # the result may mix two states
            if is_sure or _is_same(real, before, index_too=not before.index):
                return found
        raise StoreBusy(real, f"the file was changed each of the {ATTEMPTS_MAX} times that it was read")


def reading_contents(path: str | os.PathLike[str], read: Callable[[Contents], T]) -> T:
    """Returns what `read` makes of the contents of the file, in one transaction. Raises `StoreError`."""
    real = real_path(path)
    return reading(path, lambda connection: read(FileContents(connection, real)))


@frozen
class _State:
    """What shows whether a file was changed, and how it can be read."""

    identity: tuple[int, ...]
    index: bool
    wal: bool
    is_fresh: bool = field(eq=False)
    """Whether it was changed so recently that one more change may not show."""


def _is_same(path: str, before: _State, index_too: bool = True) -> bool:
    """Tells whether the file is unchanged. If it is too early to tell, waits until the next call can."""
    if before.is_fresh:
        time.sleep(TICK_S)
        return False
    after = _state(path)
    return after == before if index_too else after.identity == before.identity


def _state(path: str) -> _State:
    found = os.stat(path)
    wal_bytes = _wal_bytes(path)
    return _State(
        (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns),
        index=wal_bytes != WAL_HEADER_BYTES and os.path.exists(f"{path}-shm"),
        wal=wal_bytes > WAL_HEADER_BYTES,
        is_fresh=abs(time.time_ns() - found.st_mtime_ns) < TICK_S * 1e9,
    )


def _wal_bytes(path: str) -> int:
    """Returns the size of the WAL; that of an empty one if there is none, or it is passed over when the file is opened.
    SQLite has no lock on the WAL that opening it here could drop.
    """
    try:
        with open(open_to_read(f"{path}-wal"), "rb") as wal:
            header = wal.read(WAL_HEADER_BYTES)
            wal_bytes = os.fstat(wal.fileno()).st_size
    except FileNotFoundError:
        return WAL_HEADER_BYTES
    return wal_bytes if len(header) < WAL_HEADER_BYTES or _is_header(header) else WAL_HEADER_BYTES


def _is_header(header: bytes) -> bool:
    """Tells whether SQLite takes these bytes for the header of a WAL: see "The WAL File Format" of its documents. The
    version is left to SQLite, which refuses to open a file beside a WAL of another one.
    """
    magic, _, page_bytes = struct.unpack_from(">III", header)
    if magic not in WAL_ORDERS or page_bytes not in PAGE_SIZES:
        return False
    first = second = 0
    for one, other in struct.iter_unpack(f"{WAL_ORDERS[magic]}II", header[:24]):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return struct.unpack_from(">II", header, 24) == (first, second)


def is_under_way(path: str) -> bool:
    """Tells whether a read of the file is under way in this process."""
    return under_way[path] > 0


@contextmanager
def _counted(path: str) -> Generator[None]:
    with counting:
        under_way[path] += 1
    try:
        yield
    finally:
        with counting:
            under_way[path] -= 1


def _read_as(path: str, before: _State, read: Callable[[sqlite3.Connection], T]) -> tuple[T, bool]:
    """Returns what `read` makes of a file in this state, and whether locks kept others from changing it meanwhile."""
    if not before.index:
        return (_read_copy(path, read) if before.wal else _read(path, "mode=ro&immutable=1", read)), False
    try:
        return _read(path, "mode=ro&readonly_shm=1", read), True
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_READONLY_RECOVERY:
            raise
        return _read_copy(path, read), False  # its owner has not made the index yet


def _read(path: str, parameters: str, read: Callable[[sqlite3.Connection], T]) -> T:
    with _connected(path, parameters) as connection:
        return read(connection)


@contextmanager
def _connected(path: str, parameters: str) -> Generator[sqlite3.Connection]:
    """Begins a transaction in which the file is read, if it is a session of today."""
    with _counted(path), closing(schema.connect(path, parameters, BUSY_S)) as connection:
        newest = len(schema.MIGRATIONS)
        connection.execute("BEGIN")
        version = schema.version_of(connection, path, newest)
        if version < newest:
            raise OlderSchema(path, f"the file has schema version {version}, older than {newest}")
        check_shape(connection, path, schema.MIGRATIONS)
        yield connection


def _read_copy(path: str, read: Callable[[sqlite3.Connection], T]) -> T:
    try:
        temporary = TemporaryDirectory()
    except OSError as error:
        raise StoreError(
            path, f"there is no directory for a temporary copy of it: {error.strerror or error}"
        ) from error
    with temporary as directory:
        copy = os.path.join(directory, "session")
        shutil.copyfile(f"{path}-wal", f"{copy}-wal")
        schema.copy_pages(path, copy)
        return _read(copy, "mode=rw", read)


# Checks


def quick_check(connection: sqlite3.Connection, path: str) -> None:
    """Raises `StoreCorrupt` if the tables that opening reads as a whole are damaged."""
    for table in QUICK_TABLES:
        rows = connection.execute(f"PRAGMA quick_check({table})").fetchall()
        problems = [str(found) for (found,) in rows if found != "ok"]
        if problems:
            raise StoreCorrupt(path, f"table {table} is damaged: {problems[0]}")


def check_file(path: str | os.PathLike[str], look: Callable[[], object] = unwatched) -> tuple[str, ...]:
    """Returns all problems of a session's file, each as a sentence; none if it is sound.

    Checks every page, reads every record, folds snapshot and tail, and compares the last turns in the rollouts with
    the facts. Raises `StoreError` if the file is not a session, or cannot be read at all. `look` is called again and
    again; what it raises ends the check.
    """
    real = real_path(path)

    def problems(connection: sqlite3.Connection) -> tuple[str, ...]:
        with interrupted_by(connection, look):
            return tuple(problems_of(FileContents(connection, real), look))

    try:
        return reading(path, problems)
    except WrongShape as error:
        return error.problems  # nothing more is believed


@define
class FileContents:
    """The contents of a session's file, in the transaction of a connection."""

    connection: sqlite3.Connection
    path: str
    unreadable: tuple[type[Exception], ...] = (sqlite3.DatabaseError,)

    def damage(self) -> Iterator[str]:
        """See `Contents`: checks every page."""
        rows = self.connection.execute("PRAGMA integrity_check").fetchall()
        yield from [str(found) for (found,) in rows if found != "ok"]

    def quick_check(self) -> None:
        """See `Contents`."""
        quick_check(self.connection, self.path)

    def meta(self) -> Meta:
        """See `Contents`."""
        return tables.read_meta(self.connection)

    def folded(self, meta: Meta, config: SessionConfig) -> Folded:
        """See `Contents`."""
        return tables.read_folded(self.connection, meta, config)

    def facts(self) -> Iterator[tuple[int, Stored]]:
        """See `Contents`."""
        return self.connection.execute("SELECT agent, facts FROM agents ORDER BY agent")

    def log(self) -> Iterator[tuple[int, int | None, str, Stored]]:
        """See `Contents`."""
        return self.connection.execute("SELECT position, agent, kind, data FROM log ORDER BY position")

    def receipts(self) -> Iterator[tuple[Any, Any, Any]]:
        """See `Contents`."""
        return self.connection.execute("SELECT key, request, answer FROM keys ORDER BY key")

    def rollout(self, agent: int) -> tuple[LogRecord, ...]:
        """See `Contents`."""
        return tables.read_rollout(self.connection, agent)

    def misplaced(self, covered: int) -> Iterator[str]:
        """See `Contents`."""
        in_log = "SELECT agent, position FROM log WHERE agent IS NOT NULL AND position <= ?"
        in_rollouts = "SELECT agent, position FROM rollouts"
        for agent, position in self.connection.execute(f"{in_log} EXCEPT {in_rollouts}", (covered,)):
            yield f"log position {position} is missing in the rollout of agent {agent}"
        for agent, position in self.connection.execute(f"{in_rollouts} EXCEPT {in_log}", (covered,)):
            yield f"the rollout of agent {agent} has position {position}, which is not in the log for it"

    def last_position(self, covered: int) -> int:
        """See `Contents`."""
        return tables.last_position(self.connection, covered)

    def sizes(self) -> Sizes:
        """See `Contents`."""
        (records,) = self.connection.execute("SELECT count(*) FROM log").fetchone()
        (receipts,) = self.connection.execute("SELECT count(*) FROM keys").fetchone()
        version = schema.number(self.connection, "user_version")
        return Sizes(version, records, receipts, _size_of(self.path), _size_of(f"{self.path}-wal"))


def _size_of(path: str) -> int:
    """Returns the size in bytes; 0 if there is no such file."""
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0
