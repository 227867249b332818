"""Stores a session in one SQLite file, on one machine.

The problem. What a caller was told must be on the disk, one process may write while others read, and a disk takes a
millisecond in which the event loop has to go on. Every step can fail: the disk is full, a process is killed in the
middle, the file is copied, linked or taken over.

What is done. The file is in WAL mode, so it can be read while a session runs, also by other processes (`reading.py`).
`append` is one transaction, on the disk when it returns, for all that arrived while the one before ran. A session
writes on one connection, one call after another, in threads that all stores of the process share (`pool.py`); rollouts
and receipts are read on a second one, which is opened when something is read. A session that is not used while many
others are has no connection (`resting.py`), and is the owner still. A lock file
keeps two processes from opening one session by mistake (`ownership.py`); the epoch, compared within the very
transaction that writes, makes it impossible. An append that has begun always runs to its end: a cancelled caller waits
for it, and a task of asyncio that is cancelled past anyio's shields leaves it to the thread. After a failed append
every later one reports the same failure, because nothing is known of what it wrote.

What was rejected.

- The lock alone. A lock can be taken away, some file systems have none, and a process that was stopped for an hour
  still believes that it has it.
- Writing in the event loop. It saves two hand-overs between threads, and a slow disk would stop every agent.
- A thread for each session. Two threads, six descriptors and 400 KiB of memory, for sessions that mostly wait.
- An index of the log by agent. Each commit wrote a page for each of its agents; now a table is brought up to date
  with the snapshots.
- Opening the file by hand to look at it. Closing it drops the POSIX locks of the whole process, also SQLite's.

What remains ugly.

- Within a process, SQLite shares a reader's index of a crashed session with the next connection. So opening waits
  until such a reader is done (`_claim_when_unread`).
- A foreign transaction keeps the calls of a session waiting for up to `busy_timeout`, and so a caller that closes the
  store waits as long.
- Without a descriptor left, a session that rested cannot open its file again, and fails.
- A file with a second name (a hard link) would have two logs, and is refused.
- If the disk fails at the very end of a commit, the caller gets `StoreFailed`, and the next opening may find the
  records nevertheless. A key tells.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from anyio import from_thread

from statemachine.core import exact
from statemachine.core.config import SessionConfig
from statemachine.log import trace
from statemachine.pauses import Bound
from statemachine.sinks import carry_out_all
from statemachine.stores.durability import BUSY_TIMEOUT, Synchronous
from statemachine.stores.encoding import EncodingError, asked_agent, asked_key, check_config
from statemachine.stores.errors import SessionInUse, StoreBusy, StoreClosed, StoreError, StoreExhausted, Unstorable
from statemachine.stores.leaving_out import asked_ids, check_left_out, warn
from statemachine.stores.pool import SerialQueue, ThreadPool
from statemachine.stores.protocol import LogRecord, Receipt, Recovered, Snapshot, Write
from statemachine.stores.rows import Encoded, encode_items, encode_opening
from statemachine.stores.sqlite import reading, rights, schema, tables
from statemachine.stores.sqlite.backup import Progress, back_up
from statemachine.stores.sqlite.leaving import copy_wal
from statemachine.stores.sqlite.names import check_new
from statemachine.stores.sqlite.ownership import Ownership
from statemachine.stores.sqlite.patience import Patience
from statemachine.stores.sqlite.resting import Connections
from statemachine.stores.sqlite.shape import check_shape
from statemachine.stores.sqlite.tables import Tables
from statemachine.stores.sqlite.translation import has_descriptors, typed
from statemachine.stores.worker import aside, told_in_loop

__all__ = ["SQLiteStore"]

CACHE_KIB = 16 * 1024
CHECKPOINT_PAGES = 250
"""Pages in the WAL after which they are copied into the database and the WAL is begun anew. Until it has been that
large once, every commit makes the file longer, and takes the disk twice as long as one that overwrites old pages.
"""
WAL_BYTES_MAX = 16 * 2**20
"""Size to which the WAL is cut once it is written anew, after a reader has kept it from that for a while."""

WRITING = ThreadPool("statemachine-store", 4)
"""The threads in which sessions write: so many commits wait for the disk at once. More gain little (`bench/README.md`).
"""
READING = ThreadPool("statemachine-reader", 2)
"""The threads in which sessions read."""
CONNECTIONS = Connections()
"""The sessions of this process that have connections."""

CLOSED = sqlite3.connect(":memory:", check_same_thread=False)
"""What sessions that rest have instead of a connection: even a closed one has some 3 KiB of its own."""
CLOSED.close()

T = TypeVar("T")


class NoReader(Exception):
    """There is no connection that reads, and there can be none now."""


class SQLiteStore:
    """A `Store` in the file at `path`, which is created if it is missing.

    Its owner alone may read and write the file and those beside it; an older one with wider rights is opened with a
    warning. `takeover` opens a session that another owner has open, and fences that owner. `busy_timeout` is for how
    many seconds other programs may keep the file locked: opening and every append wait that long, with a warning in the
    log, before they raise `StoreBusy`. A store may be opened again after it was closed. Closing waits for a second at
    most for a program that reads the file; if commits are still in the WAL alone then, a warning names it.

    `without` has the ids of agents that are damaged, as `AgentCorrupt` names them: the session is opened without these
    and all below them, which are forgotten then, and a warning names them. What is left of their rollouts stays in the
    file, for `read_rollout`. An agent that is forgotten already is passed over.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        takeover: bool = False,
        synchronous: Synchronous = Synchronous.FULL,
        busy_timeout: float = BUSY_TIMEOUT,
        without: Collection[int] = (),
    ) -> None:
        if type(synchronous) is not Synchronous:
            raise TypeError(f"synchronous is Synchronous.FULL or NORMAL, not {exact.shown(synchronous)}")
        self.path = reading.real_path(path)
        """The path with links resolved, so that all names of a file have one lock."""
        self.takeover = takeover
        self.synchronous = synchronous
        self._patience = Patience(self.path, busy_timeout)
        self.without = asked_ids(without)
        self.epoch = 0
        """The epoch in which this store owns, or owned, the session."""
        self._ownership: Ownership | None = None
        self._tables: Tables | None = None
        self._reader: sqlite3.Connection | None = None
        """The connection that reads, once something was read."""
        self._is_claimed = False
        """Whether the session is this store's, to be read and written."""
        self._is_resting = False
        """Whether the connection of the tables is closed, because it was not used."""
        self._failure: StoreError | None = None
        self._worker: SerialQueue | None = None
        """The calls that write, while the store is open."""
        self._reading_worker: SerialQueue | None = None
        """The calls that read, once something was read."""
        self.used_at = 0.0
        """See `Connected`."""
        self._read_at = 0.0
        """When it was read last, by `time.monotonic`."""
        self._schema_version: int | None = None
        """SQLite's number of the schema that was checked, which every change of it raises."""
        self._process = 0
        """Id of the process that has it open."""
        # The locks also hold back a thread whose caller has gone, or of an earlier opening.
        self._writing, self._reading = threading.RLock(), threading.RLock()

    async def open(self, config: SessionConfig) -> Recovered:
        """See `Store.open`. Raises `ForeignFile`, `NewerSchema`, `StoreCorrupt`, `StoreReadOnly`, `StoreFull` and
        `StoreMissing`, depending on the file. Checks the tables that it reads for damage.
        """
        check_config(config)
        if self._worker is not None and self._process == os.getpid():
            raise SessionInUse(self.path, "this store is open already", os.getpid())
        try:
            self._worker, self._reading_worker = SerialQueue(WRITING), None
        except RuntimeError as error:
            raise StoreExhausted(self.path, f"the process has no thread left ({error})") from error
        self._process = os.getpid()
        # The lock is made here: what a thread of the pool keeps lies between what SQLite frees there (`resting.py`).
        ownership = Ownership(self.path)
        try:
            return await self._write(self._open, config, ownership)
        except BaseException:
            await self.close()
            raise

    async def append(self, items: Sequence[Write | Snapshot]) -> None:
        """See `Store.append`."""
        await self._write(self._append, items)

    async def rollout(self, agent: int, since: int | None = None, *, last: int | None = None) -> tuple[LogRecord, ...]:
        """See `Store.rollout`."""
        agent = asked_agent(agent)
        uncovered = [] if self._tables is None else self._tables.uncovered(agent)
        if since is not None:
            return await self._read(tables.read_needed, agent, uncovered, since)
        if last is not None:
            return await self._read(tables.read_last, agent, uncovered, last)
        return await self._read(tables.read_own_rollout, agent, uncovered)

    async def receipt(self, key: str) -> Receipt | None:
        """See `Store.receipt`."""
        return await self._read(tables.read_receipt, asked_key(key))

    async def close(self) -> None:
        """See `Store.close`."""
        worker, reading_worker = self._worker, self._reading_worker
        if self._process != os.getpid():
            self._worker = self._reading_worker = None  # the threads, and the session, are the parent's
        elif worker is not None:
            try:
                await worker.do(self._locked, self._writing, self._close_with, worker)
            finally:
                worker.stop()
                if reading_worker is not None:
                    reading_worker.stop()

    async def check(self) -> tuple[str, ...]:
        """Returns all problems of the file, each as a sentence; none if it is sound. The time grows with the file. The
        store need not be open, and the session may have another owner. Raises as `read_session` does. A cancellation
        ends it.
        """
        return await aside(self.path, reading.check_file, self.path, from_thread.check_cancelled)

    async def backup(self, to: str | os.PathLike[str], progress: Progress) -> None:
        """See `BackedUp.backup`. The store need not be open, and the session may have another owner."""
        await aside(self.path, back_up, self.path, to, told_in_loop(progress))

    # In threads

    async def _write(self, work: Callable[..., T], *args: Any) -> T:
        return await self._open_in_this_process().do(self._locked, self._writing, work, *args)

    async def _read(self, read: Callable[..., T], *wanted: Any) -> T:
        self._open_in_this_process()
        try:
            return await self._reads().do(self._locked, self._reading, self._read_with, read, *wanted)
        except NoReader:
            return await self._write(self._read_as_writer, read, *wanted)

    def _reads(self) -> SerialQueue:
        """Returns the calls that read. Raises `NoReader` if the process has no thread left for them."""
        if self._reading_worker is None:
            try:
                self._reading_worker = SerialQueue(READING)
            except RuntimeError as error:
                raise NoReader from error
        return self._reading_worker

    def _open_in_this_process(self) -> SerialQueue:
        if self._worker is None:
            raise StoreClosed(self.path, "the store is not open")
        if self._process != os.getpid():
            raise StoreClosed(self.path, f"the store was opened in process {self._process}, of which this is a fork")
        return self._worker

    def _locked(self, lock: threading.RLock, work: Callable[..., T], *args: Any) -> T:
        with lock, typed(self.path):
            return work(*args)

    # Opening and closing

    def _open(self, config: SessionConfig, ownership: Ownership) -> Recovered:
        if self._ownership is not None:
            raise SessionInUse(self.path, "this store is open already", os.getpid())
        exists = schema.examine(self.path)
        if not exists:
            check_new(self.path)
        if exists and os.stat(self.path).st_nlink > 1:
            raise StoreError(self.path, "the file has a second name (a hard link), which would get a log of its own")
        taken = ownership.take()
        if not taken and not self.takeover:
            owner = reading.owner(self.path) if exists else None
            taken = ownership.take()  # looking up the owner takes a while, and it may have closed meanwhile
            if not taken:
                raise SessionInUse(self.path, f"the session is open in process {owner or '(unknown)'}", owner)
        self._ownership, self._failure = ownership, None
        try:
            if not exists:
                rights.make_private(self.path)
            recovered: Recovered = self._patience.do(self._when_unread, self._claim, config)
            if not taken:
                ownership.take_over()  # the earlier owner is fenced now, and not before
            self._is_claimed = True
            self._connected()
            rights.warn_of_wider(self.path)
            return recovered
        except BaseException:
            self._close()
            raise

    def _when_unread(self, connect: Callable[..., T], *args: object) -> T:
        """Connects with the file when no reader of this process is on it: SQLite would share the reader's index of a
        crashed session, which cannot be written, with this connection.
        """
        bound = Bound(self._patience.busy_timeout)
        while True:
            is_read = reading.is_under_way(self.path)
            try:
                return connect(*args)
            except sqlite3.OperationalError as error:
                is_read = is_read or reading.is_under_way(self.path)
                if error.sqlite_errorcode != sqlite3.SQLITE_READONLY or not is_read:
                    raise
                if bound.is_over():
                    raise StoreBusy(self.path, "this process is reading it, as a crash left it") from error
            time.sleep(schema.RETRY_S)

    def _claim(self, config: SessionConfig) -> Recovered:
        self._schema_version = None
        connection = schema.connect(self.path, "mode=rwc", self._patience.step)
        schema.open_here[self.path] += 1
        self._tables = Tables(connection, 0, 0)
        try:
            return self._claim_with(connection, config)
        except BaseException:
            self._close_tables()
            raise

    def _claim_with(self, connection: sqlite3.Connection, config: SessionConfig) -> Recovered:
        self._set_up(connection)
        schema.migrate(connection, self.path, schema.MIGRATIONS)
        if not schema.use_wal(connection, self._patience.step):
            raise StoreError(self.path, "this file system has no shared memory, which SQLite needs for its WAL")
        connection.execute("BEGIN IMMEDIATE")  # what is found is what is claimed
        self._check_shape(connection)
        reading.quick_check(connection, self.path)
        meta = tables.read_meta(connection)
        left_out = set(self.without)
        folded = tables.read_folded(connection, meta, config, left_out)
        check_left_out(self.path, self.without, folded.ledger)
        self._tables = Tables(connection, tables.last_position(connection, meta.covered), meta.covered)
        self.epoch = meta.epoch + 1
        self._tables.set_meta("epoch", self.epoch)
        self._tables.set_meta("owner", os.getpid())
        self._tables.set_meta("config", trace.header_line(config).decode())
        if folded.tail or left_out:
            self._tables.write(encode_opening(folded.snapshot, left_out))
        connection.execute("COMMIT")
        warn(self.path, left_out)
        connection.execute("PRAGMA temp_store = MEMORY")  # no file is opened once the session is open
        self._tables.committed()
        return Recovered(self.epoch, meta.config, folded.ledger, folded.tail, folded.times)

    def _set_up(self, connection: sqlite3.Connection) -> None:
        """Says how the connection writes."""
        connection.execute(f"PRAGMA synchronous = {self.synchronous.value}")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_MAX}")
        connection.execute("PRAGMA secure_delete = ON")  # what is forgotten is overwritten, too

    def _check_shape(self, connection: sqlite3.Connection) -> None:
        """Raises `StoreCorrupt` if the schema is not what it should be. Looks only if it was changed since."""
        version = schema.number(connection, "schema_version")
        if version != self._schema_version:
            check_shape(connection, self.path, schema.MIGRATIONS)
            self._schema_version = version

    def _close_with(self, worker: SerialQueue) -> None:
        if self._worker is worker:  # another task may have closed it too, and opened it again
            try:
                self._close()
            finally:
                self._worker = None

    def _close(self) -> None:
        CONNECTIONS.remove(self)
        was_claimed = self._is_claimed
        carry_out_all(self._end_reading, self._close_tables, partial(self._copy_wal, was_claimed), self._give_up)

    def _end_reading(self) -> None:
        with self._reading:
            self._is_claimed = False
            self._close_reader()

    def _copy_wal(self, was_claimed: bool) -> None:
        if was_claimed:
            copy_wal(self.path, self.epoch, self._patience.busy_timeout)  # a reader may have kept it from the file

    def _give_up(self) -> None:
        ownership, self._ownership = self._ownership, None
        if ownership is not None:
            ownership.release()

    def _close_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def _close_tables(self) -> None:
        self._is_resting = False
        tables, self._tables = self._tables, None
        if tables is not None:
            try:
                tables.connection.close()  # rolls back what was not committed
            finally:
                schema.open_here[self.path] -= 1

    # Resting

    def _connected(self) -> None:
        """Notes that there are connections, and that they are used."""
        self._is_resting = False
        self.used_at = time.monotonic()
        CONNECTIONS.add(self)

    def rest(self, since: float) -> bool:
        """See `Connected`. Called in another thread."""
        if not self._writing.acquire(blocking=False):
            return False
        try:
            if not self._reading.acquire(blocking=False):
                return False
            try:
                return self._rest(since)
            finally:
                self._reading.release()
        finally:
            self._writing.release()

    def _rest(self, since: float) -> bool:
        if self._tables is None or not self._is_claimed or self._failure is not None:
            return False
        had_reader = self._reader is not None
        if self._read_at < since:
            with suppress(sqlite3.Error):  # the others are to be closed whatever becomes of it
                self._close_reader()
        if self._reader is not None or self.used_at >= since or reading.is_under_way(self.path):
            return had_reader and self._reader is None
        try:
            self._tables.connection.close()
        except sqlite3.Error:
            return had_reader  # the connection stays
        self._tables.connection = CLOSED
        self._is_resting = True
        CONNECTIONS.remove(self)
        return True

    def _wake(self, writer: Tables) -> None:
        """Opens the file again if it rested. Raises `StoreError` if it is not as it was left."""
        if self._is_resting:
            writer.connection = self._patience.do(self._when_unread, self._reopened, writer)
            self._connected()

    def _reopened(self, writer: Tables) -> sqlite3.Connection:
        connection = schema.connect(self.path, "mode=rw", self._patience.step)
        try:
            self._set_up(connection)
            schema.use_wal(connection, self._patience.step)  # another program may have ended that
            connection.execute("BEGIN")
            check_shape(connection, self.path, schema.MIGRATIONS)
            meta = tables.read_meta(connection)
            if meta.epoch != self.epoch:
                raise self._taken_over(meta.epoch)
            found = (meta.covered, tables.last_position(connection, meta.covered))
            if found != (writer.covered, writer.position):
                raise StoreError(
                    self.path,
                    f"another program has changed the file: its log ends at {found[1]} (snapshot {found[0]}), and this"
                    f" session left it at {writer.position} (snapshot {writer.covered})",
                )
            connection.execute("COMMIT")
            connection.execute("PRAGMA temp_store = MEMORY")
        except BaseException:
            connection.close()
            raise
        return connection

    def _taken_over(self, epoch: int | None) -> SessionInUse:
        return SessionInUse(self.path, f"the session was taken over (epoch {epoch}, this store has {self.epoch})")

    # Writing and reading

    def _append(self, items: Sequence[Write | Snapshot]) -> None:
        if self._tables is None:
            raise StoreClosed(self.path, "the store is not open")
        if self._failure is not None:
            raise self._failure
        try:
            parts = encode_items(items)
        except EncodingError as error:
            raise Unstorable(self.path, str(error)) from error
        try:
            with typed(self.path):
                self._wake(self._tables)
                self._commit(self._tables, parts)
                self.used_at = time.monotonic()
        except BaseException as error:
            self._failure = error if isinstance(error, StoreError) else StoreError(self.path, repr(error))
            raise

    def _commit(self, writer: Tables, parts: Sequence[Encoded]) -> None:
        if self._patience.do(writer.write_alone, parts, self.epoch):
            return
        connection = writer.connection
        self._patience.do(connection.execute, "BEGIN IMMEDIATE")
        try:
            epoch = writer.epoch
            if epoch != self.epoch:
                raise self._taken_over(epoch)
            self._check_shape(connection)
            writer.write(parts)
            connection.execute("COMMIT")
            writer.committed()
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _read_with(self, read: Callable[..., T], *wanted: Any) -> T:
        """Reads on the connection for that. Raises `NoReader` if the writing one has to do it."""
        if not self._is_claimed:
            raise StoreClosed(self.path, "the store is not open")
        if self._is_resting:
            raise NoReader
        if self._reader is None:
            self._reader = self._connected_reader()
        found = self._patience.do(read, self._reader, *wanted)
        self._read_at = time.monotonic()
        return found

    def _connected_reader(self) -> sqlite3.Connection:
        """Returns a connection that has opened all files that it reads, for a time when no more can be opened."""
        try:
            reader = schema.connect(self.path, "mode=ro", self._patience.step)
            try:
                self._patience.do(tables.read_receipt, reader, "")
            except BaseException:
                reader.close()
                raise
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CANTOPEN and not has_descriptors():
                raise NoReader from error
            raise
        return reader

    def _read_as_writer(self, read: Callable[..., T], *wanted: Any) -> T:
        if self._tables is None or not self._is_claimed:
            raise StoreClosed(self.path, "the store is not open")
        self._wake(self._tables)
        self.used_at = time.monotonic()
        return self._patience.do(read, self._tables.connection, *wanted)
