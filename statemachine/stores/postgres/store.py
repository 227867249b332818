"""Stores sessions in a database of PostgreSQL, which any number of processes and machines share.

The problem. A session outlives its process, and the process that goes on with it may be on another machine, while
the process before still runs, hangs, or is cut off. And a process with a thousand sessions has neither a thousand
connections nor a thousand commits at a time.

What is done. A session is a row; its epoch says whose it is (`statements.py`). The stores of a process share its
connections, and what they append at the same time is one commit (`database.py`). All else is as with SQLite: the same
rows (`stores/rows.py`), the same recovery, the same errors.

What was rejected. psycopg's asynchronous connections: they are asyncio's alone, and a thread of our own takes many
appends at a time anyway. A pool of connections: one connection that writes is what makes commits common.

What remains ugly.

- If the connection breaks while an append commits, the caller gets `ConnectionLost`, and the next opening may find the
  records nevertheless. A key tells.
- A pooler between this and the server has to keep a connection for its client (as pgbouncer does in session mode): the
  lock that says that a process lives is one of the connection. Without it, a session whose owner lives is opened as one
  whose owner has died; the owner is fenced then, and nothing is lost.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from anyio import from_thread

from statemachine.core import exact
from statemachine.core.config import SessionConfig
from statemachine.stores import options, places
from statemachine.stores.durability import BUSY_TIMEOUT, Synchronous
from statemachine.stores.encoding import asked_agent, asked_key, check_config
from statemachine.stores.errors import SessionInUse, StoreClosed, StoreError
from statemachine.stores.leaving_out import asked_ids
from statemachine.stores.postgres import claiming, driver, statements
from statemachine.stores.postgres.claiming import Lease
from statemachine.stores.postgres.database import Database
from statemachine.stores.postgres.dsn import dsn_of
from statemachine.stores.postgres.statements import Owned, Reader
from statemachine.stores.protocol import LogRecord, Receipt, Recovered, Snapshot, Write
from statemachine.stores.worker import aside, patiently, told_in_loop

__all__ = ["PostgresStore"]

T = TypeVar("T")


class PostgresStore:
    """A `Store` for the session that a DSN names, as in `postgresql://user@host/database?session=NAME`, which is made
    if it is missing. Everything else in the DSN is libpq's. Needs the extra `postgres`.

    `takeover` opens a session that another owner has open, and fences that owner; the session of a process whose
    connection has ended needs none. With `Synchronous.FULL` a commit waits for what the server's `synchronous_commit`
    says, and at least for its disk. `busy_timeout` is for how many seconds opening waits for others that have the row
    of the session locked, before it raises `StoreBusy`. `without` has the ids of agents that are damaged, as
    `AgentCorrupt` names them: as for `SQLiteStore`. `lease` is what this process has claimed the session by as a host:
    it is opened only in that epoch. A store may be opened again after it was closed.
    """

    def __init__(
        self,
        dsn: str,
        *,
        takeover: bool = False,
        synchronous: Synchronous = Synchronous.FULL,
        busy_timeout: float = BUSY_TIMEOUT,
        without: Collection[int] = (),
        lease: Lease | None = None,
    ) -> None:
        """Raises `SessionUnnamed` and `StoreUnreachable` for what is not the DSN of a session, `TypeError` and
        `ValueError` for options that are not what they have to be.
        """
        if type(synchronous) is not Synchronous:
            raise TypeError(f"synchronous is Synchronous.FULL or NORMAL, not {exact.shown(synchronous)}")
        self._dsn = dsn
        self._names = dsn_of(dsn)
        self.path = self._names.shown
        """The DSN without a password."""
        self.takeover = takeover
        self.synchronous = synchronous
        self.busy_timeout = options.seconds(busy_timeout, "busy_timeout")
        self.without = asked_ids(without)
        self._lease = lease
        self.epoch = 0
        """The epoch in which this store owns, or owned, the session."""
        self._database: Database | None = None
        self._owned: Owned | None = None
        self._process = 0
        """Id of the process that has it open."""

    async def open(self, config: SessionConfig) -> Recovered:
        """See `Store.open`. Raises `DriverMissing`, `StoreUnreachable`, `StoreMissing`, `StoreReadOnly`, `StoreBusy`,
        `ForeignFile`, `NewerSchema` and `StoreCorrupt`, depending on the database.
        """
        check_config(config)
        if self._database is not None and self._process == os.getpid():
            raise SessionInUse(self.path, "this store is open already", os.getpid())
        self._process = os.getpid()
        self._database = database = await self._connected()
        worker_id = database.worker_id if self._lease is None else self._lease.worker
        wanted = claiming.Claim(
            self._names.session, self.path, config, self.takeover, worker_id, self.without, self._lease
        )
        worker, connection = database.reader()
        try:
            return await patiently(self.busy_timeout, partial(worker.do, self._claim, connection, wanted))
        except BaseException:
            try:
                await worker.do(self._give_back, connection)  # a claim that goes on has ended before
            finally:
                self._leave(database)
            raise

    def _claim(self, connection: Any, wanted: claiming.Claim) -> Recovered:
        self._owned, recovered = claiming.claim(connection, wanted)
        self.epoch = recovered.epoch
        return recovered

    async def _connected(self) -> Database:
        """Returns the connections of this process."""
        synchronous = "on" if self.synchronous is Synchronous.FULL else "off"
        return await Database.of(self._names.database, self.path, synchronous)

    async def append(self, items: Sequence[Write | Snapshot]) -> None:
        """See `Store.append`."""
        database, owned = self._open_here()
        await database.common.share((owned, items))

    async def rollout(self, agent: int, since: int | None = None, *, last: int | None = None) -> tuple[LogRecord, ...]:
        """See `Store.rollout`. With `last`, returns only so many records, the last ones. Raises `SessionInUse` if the
        session was taken over: another owner may have forgotten what is asked for.
        """
        agent = asked_agent(agent)
        if since is not None:
            return await self._read(lambda reader: reader.needed(agent, since))
        if last is not None:
            return await self._read(lambda reader: reader.last(agent, last))
        return await self._read(lambda reader: reader.rollout(agent))

    async def receipt(self, key: str) -> Receipt | None:
        """See `Store.receipt`. Raises `SessionInUse` as `rollout` does."""
        key = asked_key(key)
        return await self._read(lambda reader: reader.receipt(key))

    async def close(self) -> None:
        """See `Store.close`."""
        database = self._database
        if database is None:
            return
        if self._process != os.getpid():
            self._database = self._owned = None  # the connections, and the session, are the parent's
            return
        owned = self._owned
        try:
            if owned is not None:
                await database.common.share((owned, None))
        finally:
            self._leave(database)

    async def check(self) -> tuple[str, ...]:
        """Returns all problems of the session, each as a sentence; none if it is sound. The time grows with the
        session. The store need not be open, and the session may have another owner. Raises as `read_session` does. A
        cancellation ends it at the next record.
        """
        return await aside(self.path, places.check, self._dsn, from_thread.check_cancelled)

    async def backup(self, to: str | os.PathLike[str], progress: Callable[[int, int], object]) -> None:
        """See `BackedUp.backup`: the new file is one of SQLite, which `SQLiteStore` opens. The store need not be open,
        and the session may have another owner. `progress` is called with rows.
        """
        await aside(self.path, places.back_up, self._dsn, to, told_in_loop(progress))

    def _leave(self, database: Database) -> None:
        if self._database is database:  # another task may have closed it too, and opened it again
            self._database = self._owned = None
            database.leave()

    def _give_back(self, connection: Any) -> None:
        """Says that the session has no owner, after a claim that is under way, which nothing waits for any more."""
        owned, self._owned = self._owned, None
        if owned is not None:
            with suppress(StoreError), driver.typed(self.path):  # without a connection, the server has found out
                statements.release(connection, [owned])

    async def _read(self, read: Callable[[Reader], T]) -> T:
        database, owned = self._open_here()
        return await database.read(self._read_with, owned, read)

    def _read_with(self, connection: Any, owned: Owned, read: Callable[[Reader], T]) -> T:
        with driver.typed(self.path):
            try:
                return read(statements.Reader(connection, owned))
            except statements.Fenced:
                raise SessionInUse(
                    self.path, f"the session was taken over (this store has epoch {owned.epoch})"
                ) from None

    def _open_here(self) -> tuple[Database, Owned]:
        if self._database is None or self._owned is None:
            raise StoreClosed(self.path, "the store is not open")
        if self._process != os.getpid():
            raise StoreClosed(self.path, f"the store was opened in process {self._process}, of which this is a fork")
        return self._database, self._owned
