"""Stores a session in one SQLite file, on one machine.

The problem. What a caller was told must be on the disk, one process may write while others read, and a disk takes a
millisecond in which the event loop has to go on. Every step can fail: the disk is full, a process is killed in the
middle, the file is copied, linked or taken over.

What is done. The file is in WAL mode, so it can be read while a session runs, also by other processes (`reading.py`).
`append` is one transaction, on the disk when it returns, for all that arrived while the one before ran. All writing
is done by one thread (`worker.py`) on one connection, and rollouts and receipts are read on another. A lock file
keeps two processes from opening one session by mistake (`ownership.py`); the epoch, compared within the very
transaction that writes, makes it impossible. An append that has begun always runs to its end: a cancelled caller waits
for it, and a task of asyncio that is cancelled past anyio's shields leaves it to the thread. After a failed append
every later one reports the same failure, because nothing is known of what it wrote.

What was rejected.

- The lock alone. A lock can be taken away, some file systems have none, and a process that was stopped for an hour
  still believes that it has it.
- Writing in the event loop. It saves two hand-overs between threads, and a slow disk would stop every agent.
- A pool of threads. SQLite writes one transaction at a time anyway, and a thread of our own halves the time of a
  commit.
- An index of the log by agent. Each commit wrote a page for each of its agents; now a table is brought up to date
  with the snapshots.
- Opening the file by hand to look at it. Closing it drops the POSIX locks of the whole process, also SQLite's.

What remains ugly.

- Within a process, SQLite shares a reader's index of a crashed session with the next connection. So opening waits
  until such a reader is done (`_claim_when_unread`).
- A foreign transaction keeps the thread that writes for up to `busy_timeout`, and so a caller that closes the
  store waits as long.
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
from typing import Any, TypeVar

from statemachine.core import exact
from statemachine.core.config import SessionConfig
from statemachine.log import trace
from statemachine.stores.durability import BUSY_TIMEOUT, Synchronous
from statemachine.stores.encoding import EncodingError, asked_agent, asked_key, check_config
from statemachine.stores.errors import SessionInUse, StoreBusy, StoreClosed, StoreError, StoreExhausted, Unstorable
from statemachine.stores.leaving_out import asked_ids, check_left_out, warn
from statemachine.stores.protocol import LogRecord, Receipt, Recovered, Snapshot, Write
from statemachine.stores.rows import Encoded, encode_items, encode_opening
from statemachine.stores.sqlite import reading, rights, schema, tables
from statemachine.stores.sqlite.backup import Progress, back_up
from statemachine.stores.sqlite.ownership import Ownership
from statemachine.stores.sqlite.patience import Patience
from statemachine.stores.sqlite.shape import check_shape
from statemachine.stores.sqlite.tables import Tables
from statemachine.stores.sqlite.translation import typed
from statemachine.stores.worker import Worker, aside, told_in_loop

__all__ = ["SQLiteStore"]

CACHE_KIB = 16 * 1024
CHECKPOINT_PAGES = 250
"""Pages in the WAL after which they are copied into the database and the WAL is begun anew. Until it has been that
large once, every commit makes the file longer, and takes the disk twice as long as one that overwrites old pages.
"""
WAL_BYTES_MAX = 16 * 2**20
"""Size to which the WAL is cut once it is written anew, after a reader has kept it from that for a while."""

T = TypeVar("T")


class SQLiteStore:
    """A `Store` in the file at `path`, which is created if it is missing.

    Its owner alone may read and write the file and those beside it; an older one with wider rights is opened with a
    warning. `takeover` opens a session that another owner has open, and fences that owner. `busy_timeout` is for how
    many seconds other programs may keep the file locked: opening and every append wait that long, with a warning in the
    log, before they raise `StoreBusy`. A store may be opened again after it was closed.

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
        self._failure: StoreError | None = None
        self._worker: Worker | None = None
        """The thread that writes, while the store is open."""
        self._reading_worker: Worker | None = None
        """The thread that reads, while the store is open."""
        self._schema_version: int | None = None
        """SQLite's number of the schema that was checked, which every change of it raises."""
        self._process = 0
        """Id of the process that has these threads."""
        # The locks also hold back a thread whose caller has gone, or of an earlier opening.
        self._writing, self._reading = threading.RLock(), threading.RLock()

    async def open(self, config: SessionConfig) -> Recovered:
        """See `Store.open`. Raises `ForeignFile`, `NewerSchema`, `StoreCorrupt`, `StoreReadOnly`, `StoreFull` and
        `StoreMissing`, depending on the file. Checks the tables that it reads for damage.
        """
        check_config(config)
        if self._worker is not None and self._process == os.getpid():
            raise SessionInUse(self.path, "this store is open already", os.getpid())
        self._worker, self._reading_worker = self._workers()
        self._process = os.getpid()
        try:
            return await self._write(self._open, config)
        except BaseException:
            await self.close()
            raise

    def _workers(self) -> tuple[Worker, Worker]:
        """Starts the threads. Raises `StoreExhausted` if there can be no more."""
        started = list[Worker]()
        try:
            for name in ("statemachine-store", "statemachine-reader"):
                started.append(Worker(name))
        except RuntimeError as error:
            for worker in started:
                worker.stop()
            raise StoreExhausted(self.path, f"the process has no thread left ({error})") from error
        writer, reader = started
        return writer, reader

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
        elif worker is not None and reading_worker is not None:
            try:
                await worker.do(self._locked, self._writing, self._close_with, worker)
            finally:
                worker.stop()
                reading_worker.stop()

    async def check(self) -> tuple[str, ...]:
        """Returns all problems of the file, each as a sentence; none if it is sound. The time grows with the file. The
        store need not be open, and the session may have another owner. Raises as `read_session` does.
        """
        return await aside(self.path, reading.check_file, self.path)

    async def backup(self, to: str | os.PathLike[str], progress: Progress) -> None:
        """See `BackedUp.backup`. The store need not be open, and the session may have another owner."""
        await aside(self.path, back_up, self.path, to, told_in_loop(progress))

    # In threads

    async def _write(self, work: Callable[..., T], *args: Any) -> T:
        return await self._open_in_this_process(self._worker).do(self._locked, self._writing, work, *args)

    async def _read(self, read: Callable[..., T], *wanted: Any) -> T:
        worker = self._open_in_this_process(self._reading_worker)
        return await worker.do(self._locked, self._reading, self._read_with, read, *wanted)

    def _open_in_this_process(self, worker: Worker | None) -> Worker:
        if self._worker is None or worker is None:
            raise StoreClosed(self.path, "the store is not open")
        if self._process != os.getpid():
            raise StoreClosed(self.path, f"the store was opened in process {self._process}, of which this is a fork")
        return worker

    def _locked(self, lock: threading.RLock, work: Callable[..., T], *args: Any) -> T:
        with lock, typed(self.path):
            return work(*args)

    # Opening and closing

    def _open(self, config: SessionConfig) -> Recovered:
        if self._ownership is not None:
            raise SessionInUse(self.path, "this store is open already", os.getpid())
        exists = schema.examine(self.path)
        if exists and os.stat(self.path).st_nlink > 1:
            raise StoreError(self.path, "the file has a second name (a hard link), which would get a log of its own")
        ownership = Ownership(self.path)
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
            recovered = self._patience.do(self._claim_when_unread, config)
            if not taken:
                ownership.take_over()  # the earlier owner is fenced now, and not before
            self._reader = self._connected_reader()
            rights.warn_of_wider(self.path)
            return recovered
        except BaseException:
            self._close()
            raise

    def _claim_when_unread(self, config: SessionConfig) -> Recovered:
        """Claims the session when no reader of this process is on it: SQLite would share the reader's index of a
        crashed session, which cannot be written, with this connection.
        """
        deadline = time.monotonic() + self._patience.busy_timeout
        while True:
            is_read = reading.is_under_way(self.path)
            try:
                return self._claim(config)
            except sqlite3.OperationalError as error:
                is_read = is_read or reading.is_under_way(self.path)
                if error.sqlite_errorcode != sqlite3.SQLITE_READONLY or not is_read:
                    raise
                if time.monotonic() > deadline:
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
        connection.execute(f"PRAGMA synchronous = {self.synchronous.value}")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_MAX}")
        connection.execute("PRAGMA secure_delete = ON")  # what is forgotten is overwritten, too
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

    def _check_shape(self, connection: sqlite3.Connection) -> None:
        """Raises `StoreCorrupt` if the schema is not what it should be. Looks only if it was changed since."""
        version = schema.number(connection, "schema_version")
        if version != self._schema_version:
            check_shape(connection, self.path, schema.MIGRATIONS)
            self._schema_version = version

    def _close_with(self, worker: Worker) -> None:
        if self._worker is worker:  # another task may have closed it too, and opened it again
            try:
                self._close()
            finally:
                self._worker = None

    def _close(self) -> None:
        with self._reading:
            reader, self._reader = self._reader, None
            if reader is not None:
                reader.close()
        try:
            self._close_tables()
        finally:
            if self._ownership is not None:
                self._ownership.release()
                self._ownership = None

    def _close_tables(self) -> None:
        tables, self._tables = self._tables, None
        if tables is not None:
            try:
                tables.connection.close()  # rolls back what was not committed
            finally:
                schema.open_here[self.path] -= 1

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
                self._commit(self._tables, parts)
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
                raise SessionInUse(
                    self.path, f"the session was taken over (epoch {epoch}, this store has {self.epoch})"
                )
            self._check_shape(connection)
            writer.write(parts)
            connection.execute("COMMIT")
            writer.committed()
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _connected_reader(self) -> sqlite3.Connection:
        """Returns a connection that has opened all files that it reads, for a time when no more can be opened."""
        reader = schema.connect(self.path, "mode=ro", self._patience.step)
        try:
            self._patience.do(tables.read_receipt, reader, "")
        except BaseException:
            reader.close()
            raise
        return reader

    def _read_with(self, read: Callable[..., T], *wanted: Any) -> T:
        if self._reader is None:
            raise StoreClosed(self.path, "the store is not open")
        return self._patience.do(read, self._reader, *wanted)
