"""Reads a session of a database, as one transaction sees it: to open it, to check it, to show it and to copy it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, LiteralString, TypeVar

from statemachine.core.config import SessionConfig
from statemachine.stores.contents import Contents, Sizes
from statemachine.stores.encoding import Stored, is_id
from statemachine.stores.errors import StoreCorrupt, StoreMissing
from statemachine.stores.folding import Folded, fold
from statemachine.stores.leaving_out import gone
from statemachine.stores.postgres import driver, schema, statements
from statemachine.stores.postgres.dsn import dsn_of
from statemachine.stores.postgres.statements import as_stored, record_at
from statemachine.stores.protocol import LogRecord
from statemachine.stores.rows import (
    LOOKED_BACK_MAX,
    Meta,
    check_last_mail,
    facts_in,
    meta_of,
    no_collections,
    tail_of,
)

if TYPE_CHECKING:
    from psycopg import Connection

AT_ONCE = 1000
"""Rows that are fetched at a time."""
MOMENT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

T = TypeVar("T")


class DatabaseContents:
    """The contents of a session, in the transaction of a connection."""

    unreadable: tuple[type[Exception], ...] = ()

    def __init__(self, connection: Connection[tuple[Any, ...]], shown: str, session: int) -> None:
        self.connection, self.shown, self.session = connection, shown, session

    def damage(self) -> Iterator[str]:
        """See `Contents`: compares the tables with what they should be. Their pages are the server's to check."""
        return iter(schema.differences(self.connection))

    def quick_check(self) -> None:
        """See `Contents`: there is nothing that is quick. Every row is read strictly."""

    def meta(self) -> Meta:
        """See `Contents`."""
        names = ("epoch", "owner", "config", "covered", "mail_states", "keys")
        row = self.connection.execute(
            "SELECT epoch, pid, config, covered, mail_states, keys FROM statemachine.sessions WHERE id = %s",
            (self.session,),
        ).fetchone()
        if row is None:
            raise StoreMissing(self.shown, "the session was deleted")
        values = {name: value for name, value in zip(names, row, strict=True) if value is not None}
        return meta_of(values)

    def folded(self, meta: Meta, config: SessionConfig, left_out: set[int] | None = None) -> Folded:
        """See `Contents`. Agents that are `left_out` are forgotten, however damaged their rows are; those below them
        are added to the set.
        """
        left_out = set() if left_out is None else left_out
        asked = (
            "SELECT agent, position, kind, data FROM statemachine.log WHERE session = %s AND position <= %s"
            " AND position > %s AND kind = 'MailAccepted' ORDER BY position DESC LIMIT 1"
        )
        looked = (self.session, meta.covered, meta.covered - LOOKED_BACK_MAX)
        for agent, position, kind, data in self.connection.execute(asked, looked).fetchall():
            if agent not in left_out:
                check_last_mail(meta, position, kind, as_stored(data))
        with no_collections():
            facts = [gone(agent) if agent in left_out else facts_in(agent, data) for agent, data in self.facts()]
            return fold(config, facts, meta.mail_states, tail_of(self._tail(meta.covered), meta.covered), left_out)

    def facts(self) -> Iterator[tuple[int, Stored]]:
        """See `Contents`."""
        asked = "SELECT agent, facts FROM statemachine.agents WHERE session = %s ORDER BY agent"
        for agent, data in self._rows(asked, self.session):
            yield agent, as_stored(data)

    def log(self) -> Iterator[tuple[int, int | None, str, Stored]]:
        """See `Contents`."""
        asked = "SELECT position, agent, kind, data FROM statemachine.log WHERE session = %s ORDER BY position"
        for position, agent, kind, data in self._rows(asked, self.session):
            yield position, agent, kind, as_stored(data)

    def receipts(self) -> Iterator[tuple[Any, Any, Any]]:
        """See `Contents`."""
        asked = "SELECT key, request, answer FROM statemachine.keys WHERE session = %s ORDER BY key"
        for row in self._rows(asked, self.session):
            key, request, answer = map(as_stored, row)
            yield key, request, answer

    def rollout(self, agent: int) -> tuple[LogRecord, ...]:
        """See `Contents`."""
        asked = (
            "SELECT position, kind, data FROM statemachine.log WHERE session = %s AND agent = %s::bigint"
            " ORDER BY position"
        )
        return tuple([record_at(*row) for row in self._rows(asked, self.session, agent)]) if is_id(agent) else ()

    def misplaced(self, covered: int) -> Iterator[str]:
        """See `Contents`. The rollouts are the log itself; but what only said facts is there until it is covered."""
        asked = (
            "SELECT position FROM statemachine.log WHERE session = %s AND position <= %s AND agent IS NULL"
            " ORDER BY position"
        )
        for (position,) in self._rows(asked, self.session, covered):
            yield f"log position {position} is covered by the snapshot, and belongs to no rollout"
        keys = "SELECT key FROM statemachine.keys WHERE session = %s AND digest <> sha256(key)"
        for (key,) in self._rows(keys, self.session):
            yield f"receipt {key!r:.100} is not found by its key"

    def last_position(self, covered: int) -> int:
        """See `Contents`."""
        row = self.connection.execute(
            "SELECT max(position) FROM statemachine.log WHERE session = %s", (self.session,)
        ).fetchone()
        return max(covered, 0 if row is None or row[0] is None else int(row[0]))

    def sizes(self) -> Sizes:
        """See `Contents`. The bytes are those of the rows, before they are compressed."""
        row = self.connection.execute(
            """
            SELECT (SELECT number FROM statemachine.version),
                (SELECT count(*) FROM statemachine.log WHERE session = s.id),
                (SELECT count(*) FROM statemachine.keys WHERE session = s.id),
                (SELECT coalesce(sum(octet_length(data)), 0) FROM statemachine.log WHERE session = s.id)
                + (SELECT coalesce(sum(octet_length(facts)), 0) FROM statemachine.agents WHERE session = s.id)
                + (SELECT coalesce(sum(octet_length(key) + octet_length(request) + octet_length(answer)), 0)
                    FROM statemachine.keys WHERE session = s.id)
            FROM statemachine.sessions AS s WHERE id = %s
            """,
            (self.session,),
        ).fetchone()
        version, records, receipts, size = row or (0, 0, 0, 0)
        return Sizes(version, records, receipts, int(size), 0)

    def _tail(self, covered: int) -> Iterator[tuple[int, int | None, str, Stored]]:
        asked = (
            "SELECT position, agent, kind, data FROM statemachine.log WHERE session = %s AND position > %s"
            " ORDER BY position"
        )
        for position, agent, kind, data in self._rows(asked, self.session, covered):
            yield position, agent, kind, as_stored(data)

    def _rows(self, asked: LiteralString, *values: Any) -> Iterator[Any]:
        """Yields the rows, some at a time: there may be millions."""
        with self.connection.cursor(f"rows_{secrets.token_hex(4)}", binary=True) as cursor:
            cursor.itersize = AT_ONCE
            cursor.execute(asked, values)
            yield from cursor


def session_of(connection: Connection[tuple[Any, ...]], name: str) -> int | None:
    """Returns the number of the session with this name, if there is one."""
    row = connection.execute("SELECT id FROM statemachine.sessions WHERE name = %s", (name,)).fetchone()
    return None if row is None else int(row[0])


def reading(text: str, read: Callable[[Contents], T]) -> T:
    """Returns what `read` makes of the session that this DSN names, in one transaction. Raises `StoreError`."""
    dsn = dsn_of(text)
    connection = driver.connect(dsn.database, dsn.shown, default_transaction_read_only="on")
    with connection, driver.typed(dsn.shown):
        statements.prepare(connection)
        connection.execute(MOMENT)
        schema.check_version(connection, dsn.shown, schema.MIGRATIONS)
        session = session_of(connection, dsn.session)
        if session is None:
            raise StoreMissing(dsn.shown, "there is no such session")
        return read(DatabaseContents(connection, dsn.shown, session))


def check_shape(connection: Connection[tuple[Any, ...]], shown: str) -> None:
    """Raises `StoreCorrupt` unless the tables are what the migrations make."""
    problems = schema.differences(connection)
    if problems:
        raise StoreCorrupt(shown, ", ".join(problems[:10]))
