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
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from attrs import define, field

from statemachine.eventloops import Crossing
from statemachine.pauses import Bound
from statemachine.sinks import carry_out_all
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
from statemachine.stores.worker import LATER, CommonWorker, Limiter, Worker, aside

if TYPE_CHECKING:
    from psycopg import Connection

READERS = 2
SESSIONS_AT_ONCE = 1000
"""The most sessions whose appends are written together."""
BYTES_AT_ONCE = 8 * 2**20
"""About as much is written together."""
LOCKED_S = 60.0
"""Seconds of run time for which a session may be locked before its append fails."""

Asked = tuple[Owned, Sequence[Write | Snapshot] | None]
"""A session, and what it appends; None: its owner leaves it."""

Key = tuple[int, str, str]
"""Of a database: the process, the way to connect, and `synchronous_commit`."""

CONNECTING = Limiter("statemachine.connecting")
"""The threads in which databases are connected, each for up to `driver.CONNECT_S` or longer."""

T = TypeVar("T")


class Writer:
    """The connection that writes, in its thread."""

    def __init__(self, connection: Connection[tuple[Any, ...]], shown: str) -> None:
        self.connection = connection
        self.shown = shown
        self.lost: StoreError | None = None
        """Why nothing can be written any more."""

    def together(self, asked: Sequence[Asked]) -> list[Exception | None]:
        """Appends what sessions want. Returns of each what went wrong, or `LATER` if it is to be asked for again before
        what its session asks for next: its row is locked, as by another process that is taking it over.
        """
        late = set[int]()
        results: list[Exception | None] = []
        for some in once_each(asked):
            results += self._together(some, late)
        return results

    def _together(self, asked: Sequence[Asked], late: set[int]) -> list[Exception | None]:
        refused: dict[int, Exception] = {}
        appends: list[Append] = []
        leaving: list[Owned] = []
        for number, (owned, items) in enumerate(asked):
            if owned.id in late:
                refused[number] = LATER
            elif items is None:
                leaving.append(owned)
            elif owned.failure is not None:
                refused[number] = again(owned.failure)
            else:
                try:
                    appends.append(owned.waiting or statements.append_of(owned, encode_items(items)))
                except EncodingError as error:
                    refused[number] = Unstorable(self.shown, str(error))
        for some in shares(appends):
            self._write(some)
        late.update(append.owned.id for append in appends if append.owned.waiting is not None)
        late.update(self._release(leaving))
        return [
            refused.get(number) or (LATER if owned.id in late else None if items is None else owned.failure)
            for number, (owned, items) in enumerate(asked)
        ]

    def _release(self, leaving: Sequence[Owned]) -> set[int]:
        """Says of these sessions that they have no owner. Returns those that are locked, for a while."""
        if not leaving or self.lost is not None:
            return set()  # without a connection, the server has found out
        left: list[Owned] = []
        with suppress(StoreError), driver.typed(self.shown):
            released = statements.release(self.connection, leaving)
            left = [owned for owned in leaving if owned.id not in released]
            epochs = statements.epochs(self.connection, [owned.id for owned in left]) if left else {}
            left = [owned for owned in left if epochs.get(owned.id) == owned.epoch]
        return {owned.id for owned in left if not is_over(owned)}

    def _write(self, appends: Sequence[Append]) -> None:
        left = list(appends)
        try:
            written = self._attempt(appends)
            for append in appends:
                if append.owned.id in written:
                    append.succeed()
                    append.owned.waiting = append.owned.locked = None
            left = [append for append in appends if append.owned.id not in written]
            if left:
                self._locked(left)
        except Exception as error:  # whatever it is, nothing is known of what was written
            self._fail(left, error if isinstance(error, StoreError) else StoreError(self.shown, repr(error)))

    def _attempt(self, appends: Sequence[Append]) -> set[int]:
        if self.lost is not None:
            raise self.lost
        with driver.typed(self.shown):
            if len(appends) == 1 and appends[0].size > ALONE_BYTES:
                owned = appends[0].owned
                if owned.waiting is not None and not statements.is_free(self.connection, owned):
                    return set()  # the pipeline would fail, which psycopg warns of each time
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
            end(append.owned, again(error))

    def _locked(self, left: Sequence[Append]) -> None:
        """Says of these, which were not written, why: their sessions were taken over, or are locked."""
        with driver.typed(self.shown):
            epochs = statements.epochs(self.connection, [append.owned.id for append in left])
        for append in left:
            owned = append.owned
            if (epoch := epochs.get(owned.id)) != owned.epoch:
                end(owned, taken_over(self.shown, epoch, owned.epoch))
            elif is_over(owned):
                end(owned, StoreBusy(self.shown, "another transaction keeps the row of the session locked"))
            else:
                owned.waiting = append


def is_over(owned: Owned) -> bool:
    """Tells whether a session that is locked has been that for too long."""
    owned.locked = owned.locked or Bound(LOCKED_S)
    return owned.locked.is_over()


def end(owned: Owned, failure: Exception) -> None:
    """Fails this append of a session, and every later one."""
    owned.failure, owned.waiting = failure, None


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


@define(eq=False)
class Connecting:
    """A database that is being connected."""

    waiting: list[Crossing] = field(factory=list[Crossing])
    """Those that want it, too."""
    error: StoreError | None = None
    """Why it could not be connected."""


class Database:
    """The connections of this process to a database. Get one with `Database.of`, and give it back with `leave`."""

    known: ClassVar[dict[Key, Database]] = {}
    connecting: ClassVar[dict[Key, Connecting]] = {}
    knowing: ClassVar[threading.Lock] = threading.Lock()
    """Held while these two are looked at. It is taken in event loops, so nothing is waited for while it is held."""

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
            if isinstance(error, StoreExhausted):
                raise StoreExhausted(shown, error.problem) from error
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
    async def of(cls, database: str, shown: str, synchronous: str) -> Database:
        """Returns the one of this process, which is connected if it was not yet: once, for all that want it meanwhile,
        who get its error if that fails. Raises `StoreError`. A caller that is cancelled has it no more.
        """
        key = (os.getpid(), database, synchronous)
        while True:
            told = Crossing()
            with cls.knowing:
                found = cls.known.get(key)
                if found is not None and found.writer.lost is None and not found.writer.connection.closed:
                    found.users += 1
                    return found
                connecting = cls.connecting.get(key)
                is_first = connecting is None
                if connecting is None:
                    connecting = cls.connecting[key] = Connecting()
                else:
                    connecting.waiting.append(told)
            if is_first:
                return await cls._connected(key, shown, connecting)
            await told.wait()
            if connecting.error is not None:
                raise again(connecting.error)

    @classmethod
    async def _connected(cls, key: Key, shown: str, connecting: Connecting) -> Database:
        """Connects, in a thread, and tells those that wait. No lock is held meanwhile: a server that does not answer
        keeps no others waiting than those that want it.
        """
        made: list[Database] = []

        def connect() -> None:
            found = cls(key[1], shown, key[2])
            found.users = 1
            made.append(found)
            with cls.knowing:
                cls.known[key] = found

        try:
            await aside(shown, connect, limiter=CONNECTING)
        except BaseException as error:
            if isinstance(error, StoreError):
                connecting.error = error
            if made:  # it was cancelled meanwhile
                made[0].leave()
            raise
        finally:
            with cls.knowing:
                del cls.connecting[key]
            for told in connecting.waiting:
                with suppress(RuntimeError):  # the event loop of this one was closed
                    told.set()
        return made[0]

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
        carry_out_all(
            *[worker.stop for worker in self._workers], *[connection.close for connection in self._connections]
        )

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
