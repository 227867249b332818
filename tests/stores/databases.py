"""Sessions in PostgreSQL, for the tests of that store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from psycopg import Connection

from statemachine.core.config import SessionConfig
from statemachine.stores import Entry, Snapshot, StoreBusy, Write
from statemachine.stores.postgres import driver, schema, statements
from statemachine.stores.postgres.claiming import Claim, claim
from statemachine.stores.postgres.database import Writer
from statemachine.stores.postgres.dsn import dsn_of
from statemachine.stores.postgres.statements import Owned
from statemachine.stores.protocol import Recovered
from statemachine.stores.rows import encode_items

Rows = Connection[tuple[Any, ...]]


@contextmanager
def connected(dsn: str) -> Iterator[Rows]:
    """A connection of its own, as the store makes them, to a database that has the tables."""
    names = dsn_of(dsn)
    with driver.connect(names.database, names.shown) as connection:
        statements.prepare(connection)
        schema.migrate(connection, names.shown, schema.MIGRATIONS)
        yield connection


def claimed(connection: Rows, dsn: str, worker: int = 1) -> tuple[Owned, Recovered]:
    """The session, taken over by a worker."""
    names = dsn_of(dsn)
    for _ in range(1200):
        with suppress(StoreBusy):
            return claim(connection, Claim(names.session, names.shown, SessionConfig(), True, worker))
    raise AssertionError("the session stays locked")


def put(connection: Rows, owned: Owned, *items: Write | Snapshot, beside: Owned | None = None) -> bool:
    """Appends, past all threads, perhaps together with another session. Was the session owned?"""
    asked = [
        statements.append_of(each, encode_items(items or [said()])) for each in (owned, beside) if each is not None
    ]
    written = statements.write(connection, asked)
    for append in asked:
        if append.owned.id in written:
            append.succeed()
    return owned.id in written


def said(text: str = "said") -> Write:
    """An entry of an agent."""
    return Write((Entry(1, 1, text),))


def entries(connection: Rows, owned: Owned) -> list[str]:
    """What the log has of the session: the texts of its entries."""
    found = connection.execute("SELECT data FROM statemachine.log WHERE session = %s ORDER BY position", (owned.id,))
    return [data.decode().partition('"data":"')[2].partition('"')[0] for (data,) in found.fetchall()]


def sql(dsn: str, statement: str, *values: Any) -> list[Any]:
    """What the statement gives, by a connection of its own."""
    with driver.connect(dsn_of(dsn).database, "test") as connection:
        cursor = connection.execute(statement, values)
        return [] if cursor.description is None else cursor.fetchall()


def until_unlocked(dsn: str, lock: int) -> None:
    """Waits until no connection has this advisory lock. A server notices after a while that a connection has ended."""
    with driver.connect(dsn_of(dsn).database, "test", lock_timeout="60s") as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (lock,))  # until the statement has ended


def told(writer: Writer, asked: Sequence[tuple[Owned, str]]) -> list[str]:
    """What each of these appends, made together, comes to: "durable", "Later", or the name of its error."""
    results = writer.together([(owned, [said(text)]) for owned, text in asked])
    return ["durable" if error is None else type(error).__name__ for error in results]
