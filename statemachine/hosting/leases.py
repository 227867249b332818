"""Keeps the leases of hosts in PostgreSQL: which worker there is, which session needs an owner, and which has one.

The problem. Any of N processes may die, hang, or be cut off at any moment, and their sessions have to be owned again
soon, by one process each.

What is done. A session's row says whether it needs an owner (`wanted`) and which worker has it. A worker has one row,
with a heartbeat; a session has none, so that ten thousand sessions cost no more heartbeats than one. Every worker looks
every `poll` seconds for others that are dead: their connection is gone, which the server knows at once, or they have
been silent for `ttl` seconds. It frees the sessions of a dead worker and raises their epochs, which is what keeps that
worker from writing if it is not dead after all. Free sessions are claimed by rows that are locked and passed over if
another worker has them locked (`SKIP LOCKED`), so workers never wait for each other.

What was rejected. An advisory lock for each session: it is not ownership, and would be lost with the connection. A
lease that its owner renews for each session: with ten thousand sessions, that is two thousand writes a second. Clocks
of workers: only the database's clock is read. A leader: there is nothing that needs one.

No commit here waits for the disk. If the server fails, moves of the last moments are as if they had not been made: what
a session's owner then wrote, which it waits for, comes later in the server's log, and takes them with it.

What remains ugly. A worker that hangs keeps its sessions for `ttl` seconds, since its connection stays.

Shares are counted in the rows of sessions. Workers' own counts, as of their last heartbeat, would count a session twice
that moves in between, and then two workers give it to each other again and again.

Each method names the moves of `machines.py` that it makes.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import anyio

from statemachine.hosting import rules
from statemachine.hosting.directory import Ask, Claimed, Poll, Where
from statemachine.stores.postgres import PostgresStore, driver, schema
from statemachine.stores.postgres.claiming import Lease
from statemachine.stores.postgres.dsn import Dsn, dsn_of, with_session

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["CHANNEL", "Callers", "Database", "Leases", "ask", "is_there", "owner_of"]

CHANNEL = "statemachine_asks"
"""Where callers notify that they have asked for a session."""
AT_ONCE = 50
"""The most sessions that a worker claims in one poll: the others find some, too, and opening takes a while."""
LOCK_MS = 1000
"""Milliseconds for which a statement waits for a lock of another."""

JOIN = """
    INSERT INTO statemachine.workers (id, address, token, capacity, beat)
    VALUES (%(me)s, %(address)s, %(token)s, %(capacity)s, clock_timestamp())
    ON CONFLICT (id) DO UPDATE SET address = %(address)s, token = %(token)s, beat = clock_timestamp(),
        capacity = %(capacity)s, draining = false
"""
BEAT = """
    UPDATE statemachine.workers SET beat = clock_timestamp(), draining = %(draining)s WHERE id = %(me)s
"""
DEAD = """
    SELECT id FROM statemachine.workers
    WHERE id <> %(me)s
        AND (beat < clock_timestamp() - make_interval(secs => %(ttl)s) OR pg_try_advisory_xact_lock_shared(id))
    FOR UPDATE SKIP LOCKED
"""
BURY = """
    WITH free AS MATERIALIZED (
        SELECT id FROM statemachine.sessions WHERE worker = ANY (%(dead)s) FOR UPDATE SKIP LOCKED
    ), freed AS (
        UPDATE statemachine.sessions AS s SET worker = NULL, epoch = s.epoch + 1 FROM free WHERE s.id = free.id
        RETURNING s.id
    )
    SELECT count(*) FROM freed
"""
BURIED = """
    DELETE FROM statemachine.workers AS w WHERE w.id = ANY (%(dead)s)
        AND NOT EXISTS (SELECT FROM statemachine.sessions AS s WHERE s.worker = w.id)
"""
ORPHANS = """
    WITH lost AS MATERIALIZED (
        SELECT s.id FROM statemachine.sessions AS s
        WHERE s.wanted AND s.worker IS NOT NULL
            AND NOT EXISTS (SELECT FROM statemachine.workers AS w WHERE w.id = s.worker)
            AND pg_try_advisory_xact_lock_shared(s.worker)
        FOR UPDATE OF s SKIP LOCKED
    )
    UPDATE statemachine.sessions AS s SET worker = NULL, epoch = s.epoch + 1 FROM lost WHERE s.id = lost.id
"""
COUNTS = """
    SELECT ARRAY(SELECT capacity FROM statemachine.workers WHERE NOT draining),
        (SELECT count(*) FROM statemachine.sessions WHERE wanted),
        (SELECT count(*) FROM statemachine.sessions WHERE wanted AND worker IS NULL)
"""
CLAIM = """
    WITH me AS MATERIALIZED (
        SELECT id FROM statemachine.workers WHERE id = %(me)s AND NOT draining FOR UPDATE
    ), free AS MATERIALIZED (
        SELECT s.id FROM statemachine.sessions AS s CROSS JOIN me
        WHERE s.wanted AND s.worker IS NULL AND s.id <> ALL (%(held)s)
        ORDER BY s.id LIMIT %(most)s
        FOR UPDATE OF s SKIP LOCKED
    )
    UPDATE statemachine.sessions AS s SET worker = %(me)s, epoch = s.epoch + 1 FROM free WHERE s.id = free.id
    RETURNING s.id, s.name, s.epoch
"""
ASKS = "SELECT session, id, request FROM statemachine.asks WHERE session = ANY (%(held)s) ORDER BY id"
ASKED = "SELECT asked FROM statemachine.sessions WHERE id = %(session)s"
DONE = "DELETE FROM statemachine.asks WHERE id = ANY (%(asks)s)"
UNLOAD = """
    UPDATE statemachine.sessions SET wanted = false
    WHERE id = %(session)s AND worker = %(me)s AND epoch = %(epoch)s AND asked = %(asked)s
        AND NOT EXISTS (SELECT FROM statemachine.asks WHERE session = %(session)s)
"""
GIVE_BACK = """
    UPDATE statemachine.sessions SET worker = NULL, epoch = epoch + 1
    WHERE id = %(session)s AND worker = %(me)s AND epoch = %(epoch)s
"""
STRAY = """
    UPDATE statemachine.sessions SET worker = NULL, epoch = epoch + 1 WHERE worker = %(me)s AND id <> ALL (%(held)s)
"""
LEAVE = """
    WITH mine AS (UPDATE statemachine.sessions SET worker = NULL, epoch = epoch + 1 WHERE worker = %(me)s)
    DELETE FROM statemachine.workers WHERE id = %(me)s
"""

ASK = """
    INSERT INTO statemachine.sessions (name, wanted, asked) VALUES (%(name)s, true, 1)
    ON CONFLICT (name) DO UPDATE SET wanted = true, asked = sessions.asked + 1
    RETURNING id
"""
REQUEST = "INSERT INTO statemachine.asks (session, request) VALUES (%(session)s, %(request)s)"
THERE = "SELECT EXISTS (SELECT FROM statemachine.workers WHERE address = %(address)s AND token = %(token)s)"
OWNER = """
    SELECT w.address, w.token FROM statemachine.sessions AS s JOIN statemachine.workers AS w ON w.id = s.worker
    WHERE s.name = %(name)s
"""


class Leases:
    """The leases as a worker sees them, on a connection of its own: a `HostDirectory`."""

    is_alone = False

    def __init__(self, database: str, shown: str, capacity: int, ttl: float) -> None:
        """Connects. `capacity` is the most sessions at a time, `ttl` is in seconds."""
        self.shown, self.capacity, self.ttl = shown, capacity, ttl
        self._database = database
        self.worker = secrets.randbits(62)
        """The number of this worker, and of a lock that says that its connection is there."""
        self._where = Where("", "")
        self._polls = 0
        self.connection: Connection[tuple[Any, ...]] = driver.connect(
            database, shown, lock_timeout=f"{LOCK_MS}ms", synchronous_commit="off"
        )
        try:
            with driver.typed(shown):
                schema.migrate(self.connection, shown, schema.MIGRATIONS)
                self._run("SELECT pg_advisory_lock(%(me)s)")
                self._run(f"LISTEN {CHANNEL}")
        except BaseException:
            self.connection.close()
            raise

    def join(self, where: Where) -> None:
        """Says that the worker is there, and where it can be reached (*join*)."""
        self._where = where
        with driver.typed(self.shown):
            self._run(JOIN, address=where.address, token=where.token, capacity=self.capacity)

    def poll(self, held: Sequence[int], spare: int, draining: bool) -> Poll:
        """Says that the worker lives (*beat*), frees the sessions of dead workers (*bury*), and claims some (*claim*),
        unless it drains. `held` are the sessions that it has: others that are its own in the database, as after their
        epochs were raised by a change of the tables, are freed (*hand_over*). Spare ones take no room, and count among
        its share.
        """
        with driver.typed(self.shown):
            is_buried = self._run(BEAT, draining=draining).rowcount == 0
            if is_buried:
                self.join(self._where)
            self._bury()
            self._run(STRAY, held=list(held))
            capacities, wanted, free = self._run(COUNTS).fetchone() or ((), 0, 0)
            fair = rules.share(wanted, capacities)
            most = 0 if draining or is_buried else rules.most_to_claim(len(held), self.capacity + spare, fair, AT_ONCE)
            claimed: list[Claimed] = []
            if most > 0 and free:
                claimed = [Claimed(*row) for row in self._run(CLAIM, most=most, held=list(held)).fetchall()]
            ids = [*held, *(each.id for each in claimed)]
            asks = [Ask(session, ask, bytes(request)) for session, ask, request in self._run(ASKS, held=ids).fetchall()]
            return Poll(is_buried, fair, free - len(claimed), most, tuple(claimed), tuple(asks))

    def _bury(self) -> None:
        """Frees the sessions of dead workers; those whose rows are locked stay for the next time. From time to time it
        also frees sessions that a process had which was not a worker.
        """
        with self.connection.transaction():
            dead = [worker for (worker,) in self._run(DEAD, ttl=self.ttl).fetchall()]
            if dead:
                self._run(BURY, dead=dead)
        if dead:
            self._run(BURIED, dead=dead)
        self._polls += 1
        if self._polls % 10 == 1:
            self._run(ORPHANS)

    def want(self, name: str) -> None:
        """See `HostDirectory.want`."""
        ask(self.connection, self.shown, name, None)

    def store(self, claimed: Claimed) -> PostgresStore:
        """See `HostDirectory.store`. It is opened only in the epoch of the claim."""
        return PostgresStore(with_session(self._database, claimed.name), lease=Lease(claimed.epoch, self.worker))

    def asked(self, session: int) -> int:
        """Returns how often callers have asked for the session."""
        with driver.typed(self.shown):
            found = self._run(ASKED, session=session).fetchone()
        return 0 if found is None else int(found[0])

    def done(self, asks: Sequence[int]) -> None:
        """Drops asks that were carried out."""
        with driver.typed(self.shown):
            self._run(DONE, asks=list(asks))

    def unload(self, claimed: Claimed, asked: int) -> bool:
        """Says that a session, which this worker is about to leave, needs no owner (*unload*). Returns whether it said
        so: not if a caller has asked for it meanwhile, or another worker has it. It is said by the owner, so that none
        claims the session in between.
        """
        with driver.typed(self.shown):
            said: int = self._run(UNLOAD, session=claimed.id, epoch=claimed.epoch, asked=asked).rowcount
        return said == 1

    def give_back(self, claimed: Claimed) -> None:
        """Frees a session that was claimed, if it still is this worker's in that epoch (*hand_over*)."""
        with driver.typed(self.shown):
            self._run(GIVE_BACK, session=claimed.id, epoch=claimed.epoch)

    def leave(self) -> None:
        """Says that the worker is there no more (*leave*). What it has even so is free then."""
        with driver.typed(self.shown):
            self._run(LEAVE)

    def close(self) -> None:
        """Ends the connection."""
        self.connection.close()

    def stir(self) -> None:
        """See `HostDirectory.stir`: what has room here looks again after `poll` seconds, as the other workers do."""

    async def until_asked(self) -> None:
        """See `HostDirectory.until_asked`: the server tells on the connection."""
        with driver.typed(self.shown):
            await anyio.wait_readable(self.connection.fileno())

    def _run(self, statement: Any, **values: Any) -> Any:
        return self.connection.execute(statement, {"me": self.worker, **values})


def ask(connection: Connection[tuple[Any, ...]], shown: str, name: str, request: bytes | None) -> None:
    """Asks for a session, which is made if it is missing (*ask*). The request, if there is one, is carried out by the
    worker that then has it, whatever becomes of the caller.
    """
    with driver.typed(shown), connection.transaction():
        (session,) = connection.execute(ASK, {"name": name}).fetchone() or (0,)
        if request is not None:
            connection.execute(REQUEST, {"session": session, "request": request})
        connection.execute("SELECT pg_notify(%s, '')", (CHANNEL,))


def owner_of(connection: Connection[tuple[Any, ...]], shown: str, name: str) -> Where | None:
    """Returns where the worker can be reached that has the session; None: none has it."""
    with driver.typed(shown):
        found = connection.execute(OWNER, {"name": name}).fetchone()
    return None if found is None else Where(*found)


def is_there(connection: Connection[tuple[Any, ...]], shown: str, where: Where) -> bool:
    """Tells whether the worker that could be reached there still is one: it has not left, nor been taken for dead."""
    with driver.typed(shown):
        (found,) = connection.execute(THERE, {"address": where.address, "token": where.token}).fetchone() or (False,)
    return bool(found)


class Callers:
    """The leases as a client sees them, on a connection of its own: a `ClientDirectory`."""

    def __init__(self, names: Dsn) -> None:
        """Connects."""
        self._shown = names.shown
        self._connection = driver.connect(names.database, names.shown)
        try:
            with driver.typed(names.shown):
                schema.migrate(self._connection, names.shown, schema.MIGRATIONS)
        except BaseException:
            self._connection.close()
            raise

    @property
    def is_lost(self) -> bool:
        """See `ClientDirectory.is_lost`."""
        return self._connection.closed

    def owner_of(self, session: str, /) -> Where | None:
        """See `owner_of`."""
        return owner_of(self._connection, self._shown, session)

    def is_there(self, where: Where) -> bool:
        """See `is_there`."""
        return is_there(self._connection, self._shown, where)

    def ask(self, session: str, request: bytes | None) -> None:
        """See `ask`."""
        ask(self._connection, self._shown, session, request)

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()


class Database:
    """A database as the `Kind` of directory that hosts and clients are given."""

    def __init__(self, dsn: str) -> None:
        """`dsn` names the database, not a session. Raises `StoreUnreachable` for what is not a DSN."""
        self.named = dsn_of(with_session(dsn, "x")).shown
        self._dsn = dsn

    def check_name(self, session: str) -> None:
        """Raises `SessionUnnamed` for what is not the name of a session."""
        dsn_of(with_session(self._dsn, session))

    def for_host(self, capacity: int, ttl: float, /) -> Leases:
        """See `Kind.for_host`."""
        names = dsn_of(with_session(self._dsn, "host"))
        return Leases(names.database, names.shown, capacity, ttl)

    def for_client(self) -> Callers:
        """See `Kind.for_client`."""
        return Callers(dsn_of(with_session(self._dsn, "client")))
