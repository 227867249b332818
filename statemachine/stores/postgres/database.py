"""Connects a process with a database: all stores of the process that name it share three connections and their threads.

One connection writes. Its thread writes together, by one statement, what all sessions appended while it wrote the last
time (`statements.py`), and tells each of its own: a commit costs a wait for the disk, whatever is in it. Two others
read, and open sessions, which takes a while and would hold up the appends of all.

The writing connection also holds a lock that says that the process lives: PostgreSQL gives it back when the connection
ends. It is not ownership, which only the epoch is; it says of an owner that it has gone.

A connection that is lost fails all sessions on it, also those that were idle: the server may have been replaced by one
that lost the last commits, and only opening finds out.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from statemachine.stores.encoding import EncodingError
from statemachine.stores.errors import (
    ConnectionLost,
    SessionInUse,
    StoreBusy,
    StoreError,
    StoreExhausted,
    Unstorable,
)
from statemachine.stores.postgres import driver, schema, statements
from statemachine.stores.postgres.statements import ALONE_BYTES, Append, Owned
from statemachine.stores.protocol import Snapshot, Write
from statemachine.stores.rows import encode_items
from statemachine.stores.worker import CommonWorker, Worker

if TYPE_CHECKING:
    from psycopg import Connection

READERS = 2
SESSIONS_AT_ONCE = 1000
"""The most sessions whose appends are written together."""
BYTES_AT_ONCE = 8 * 2**20
"""About as much is written together."""
RETRY_S = 0.005
"""Seconds after which an append is tried again whose session was locked."""
LOCKED_S = 60.0
"""Seconds for which a session may be locked before its append fails."""

Asked = tuple[Owned, Sequence[Write | Snapshot]]
"""A session, and what it appends."""

T = TypeVar("T")


class Writer:
    """The connection that writes, in its thread."""

    def __init__(self, connection: Connection[tuple[Any, ...]], shown: str) -> None:
        self.connection = connection
        self.shown = shown
        self.lost: StoreError | None = None
        """Why nothing can be written any more."""

    def together(self, asked: Sequence[Asked]) -> list[Exception | None]:
        """Appends what sessions want. Returns of each what went wrong."""
        results: list[Exception | None] = []
        for some in once_each(asked):
            results += self._together(some)
        return results

    def _together(self, asked: Sequence[Asked]) -> list[Exception | None]:
        refused: dict[int, Exception] = {}
        appends: list[Append] = []
        for number, (owned, items) in enumerate(asked):
            if owned.failure is not None:
                refused[number] = again(owned.failure)
                continue
            try:
                appends.append(statements.append_of(owned, encode_items(items)))
            except EncodingError as error:
                refused[number] = Unstorable(self.shown, str(error))
        for some in shares(appends):
            self._write(some)
        return [refused.get(number, owned.failure) for number, (owned, _) in enumerate(asked)]

    def _write(self, appends: Sequence[Append]) -> None:
        deadline = time.monotonic() + LOCKED_S
        waiting = list(appends)
        while waiting:
            try:
                written = self._attempt(waiting)
                for append in waiting:
                    if append.owned.id in written:
                        append.succeed()
                left = [append for append in waiting if append.owned.id not in written]
                waiting = self._locked(left, time.monotonic() > deadline) if left else left
            except Exception as error:  # whatever it is, nothing is known of what was written
                self._fail(waiting, error if isinstance(error, StoreError) else StoreError(self.shown, repr(error)))
                return

    def _attempt(self, appends: Sequence[Append]) -> set[int]:
        if self.lost is not None:
            raise self.lost
        with driver.typed(self.shown):
            if len(appends) == 1 and appends[0].size > ALONE_BYTES:
                return {appends[0].owned.id} if statements.write_alone(self.connection, appends[0]) else set()
            return statements.write(self.connection, appends)

    def _fail(self, appends: Sequence[Append], error: StoreError) -> None:
        """Fails these appends, none of which was written, because of this error; or only the one that is to blame."""
        if isinstance(error, ConnectionLost) or self.connection.closed:
            self.lost = self.lost or error
        elif len(appends) > 1:
            for append in appends:
                self._write([append])
            return
        for append in appends:
            append.owned.failure = again(error)

    def _locked(self, left: Sequence[Append], is_late: bool) -> list[Append]:
        """Returns those that are to be tried again: their sessions are locked, as by one who is taking them over."""
        with driver.typed(self.shown):
            epochs = statements.epochs(self.connection, [append.owned.id for append in left])
        locked: list[Append] = []
        for append in left:
            owned = append.owned
            if (epoch := epochs.get(owned.id)) != owned.epoch:
                append.owned.failure = taken_over(self.shown, epoch, owned.epoch)
            elif is_late:
                append.owned.failure = StoreBusy(self.shown, "another transaction keeps the row of the session locked")
            else:
                locked.append(append)
        if locked:
            time.sleep(RETRY_S)
        return locked


def taken_over(shown: str, epoch: int | None, own: int) -> SessionInUse:
    """Returns the error for an owner that was fenced."""
    now = "it was deleted" if epoch is None else f"epoch {epoch}"
    return SessionInUse(shown, f"the session was taken over ({now}, this store has {own})")


def again(error: Exception) -> Exception:
    """Returns the error once more: one that is raised in several tasks would grow a traceback of all."""
    copy = type(error)(*error.args)
    copy.__cause__ = error.__cause__
    return copy


def shares(appends: Sequence[Append]) -> list[list[Append]]:
    """Returns what is written together, in its order. A large one is alone."""
    found: list[list[Append]] = [[]]
    size = 0
    for append in appends:
        size += append.size
        if found[-1] and size > BYTES_AT_ONCE:
            found.append([])
            size = append.size
        found[-1].append(append)
    return [some for some in found if some]


def once_each(asked: Sequence[Asked]) -> list[list[Asked]]:
    """Returns what may be written together, in its order: no session is there twice. An owner that was taken over
    within this process may append beside the new one, and the statement tells sessions apart by their ids.
    """
    found: list[list[Asked]] = [[]]
    sessions = set[int]()
    for each in asked:
        if each[0].id in sessions:
            found.append([])
            sessions = set[int]()
        found[-1].append(each)
        sessions.add(each[0].id)
    return found


class Database:
    """The connections of this process to a database. Get one with `Database.of`, and give it back with `leave`."""

    known: ClassVar[dict[tuple[int, str, str], Database]] = {}
    """Process, way to connect and `synchronous_commit` -> its database."""
    knowing: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, database: str, shown: str, synchronous: str, at_once: int = SESSIONS_AT_ONCE) -> None:
        """Connects. Raises `StoreError`."""
        self.shown = shown
        self.users = 0
        self.worker_id = secrets.randbits(62)
        """Number of the lock that says that this process lives."""
        self._connections: list[Connection[tuple[Any, ...]]] = []
        self._workers: list[Worker] = []
        try:
            writing = self._connect(database, synchronous)
            with driver.typed(shown):
                schema.migrate(writing, shown, schema.MIGRATIONS)
                writing.execute("SELECT pg_advisory_lock(%s::bigint)", (self.worker_id,))
                writing.execute("SET enable_seqscan = off")  # each statement names its rows by their keys
                writing.execute("SET plan_cache_mode = force_generic_plan")  # so a plan is made once
            self._readers = [self._connect(database, synchronous) for _ in range(READERS)]
            self.writer = Writer(writing, shown)
            self.common = CommonWorker("statemachine-postgres", self.writer.together, at_once)
            self._workers = [self.common]
            self._reading = [Worker(f"statemachine-reader-{number}") for number in range(READERS)]
            self._workers += self._reading
        except BaseException as error:
            self.disconnect()
            if isinstance(error, RuntimeError):
                raise StoreExhausted(shown, f"the process has no thread left ({error})") from error
            raise
        self._next = 0

    def _connect(self, database: str, synchronous: str) -> Connection[tuple[Any, ...]]:
        connection = driver.connect(database, self.shown)
        self._connections.append(connection)
        statements.prepare(connection)
        with driver.typed(self.shown):
            (now,) = connection.execute("SELECT current_setting('synchronous_commit')").fetchone() or ("",)
            if synchronous == "off" or now == "off":
                connection.execute("SELECT set_config('synchronous_commit', %s, false)", (synchronous,))
        return connection

    @classmethod
    def of(cls, database: str, shown: str, synchronous: str) -> Database:
        """Returns the one of this process, which is connected if it was not yet. Raises `StoreError`."""
        key = (os.getpid(), database, synchronous)
        with cls.knowing:
            found = cls.known.get(key)
            if found is None or found.writer.lost is not None or found.writer.connection.closed:
                found = cls.known[key] = cls(database, shown, synchronous)
            found.users += 1
            return found

    def leave(self) -> None:
        """Gives it back. When it is needed no more, its connections end."""
        with Database.knowing:
            self.users -= 1
            if self.users > 0:
                return
            for key, found in [*Database.known.items()]:
                if found is self:
                    del Database.known[key]
        self.disconnect()

    def disconnect(self) -> None:
        """Ends the threads, after the calls in line, and the connections."""
        for worker in self._workers:
            worker.stop()
        for connection in self._connections:
            connection.close()

    def reader(self) -> tuple[Worker, Connection[tuple[Any, ...]]]:
        """Returns a connection that reads, and its thread."""
        self._next = number = (self._next + 1) % READERS
        return self._reading[number], self._readers[number]

    async def read(self, work: Callable[..., T], *arguments: Any) -> T:
        """Makes a call with a connection that reads, in its thread."""
        worker, connection = self.reader()
        return await worker.do(work, connection, *arguments)


def here() -> tuple[int, str]:
    """Returns the process and the machine, as they are told to others."""
    return os.getpid(), socket.gethostname()[:200]
