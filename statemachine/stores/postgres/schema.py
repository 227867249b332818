"""Defines the tables that all sessions of a database share, and brings older ones up to date.

    version   one row: the number of `MIGRATIONS` applied
    sessions  a row for each session: its name, epoch, last owner, and the facts of it as a whole
    log       session, position -> a record or entry; `agent` is whose rollout it belongs to, or NULL
    agents    session, agent -> its facts, as of position `covered` of the session
    keys      session, digest of a key -> a receipt
    workers   a row for each process that hosts sessions: where it can be reached, with which token, and when it
              was last there
    asks      what callers want of sessions that no worker had

A session's row has what hosts need to know of it: whether it needs an owner (`wanted`), and how often callers have
asked for it (`asked`).

They are in a schema of their own, `statemachine`. Texts are bytes: PostgreSQL's have no NUL and no lone surrogates. A
key may be longer than what an index of PostgreSQL takes, so it is found by its digest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from statemachine.stores.errors import ForeignFile, NewerSchema, OlderSchema, StoreMissing

if TYPE_CHECKING:
    from psycopg import Connection

SCHEMA = "statemachine"
LOCK = 0x41674D61
"""Number of the lock under which the tables are made and changed."""

Migration = Callable[["Connection[tuple[Any, ...]]"], object]


def _first(connection: Connection[tuple[Any, ...]]) -> None:
    for statement in (
        "CREATE SCHEMA statemachine",
        "CREATE TABLE statemachine.version (number integer NOT NULL)",
        "INSERT INTO statemachine.version VALUES (0)",
        # Half of each page is left free, so that a row that is written anew stays on its page, and in no index.
        """CREATE TABLE statemachine.sessions (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            name text COLLATE "C" NOT NULL UNIQUE,
            epoch bigint NOT NULL DEFAULT 0,
            worker bigint,
            pid bigint,
            host text,
            config bytea,
            covered bigint NOT NULL DEFAULT 0,
            mail_states text NOT NULL DEFAULT '[0,0,0]',
            keys bigint NOT NULL DEFAULT 0
        ) WITH (fillfactor = 50)""",
        """CREATE TABLE statemachine.log (
            session bigint NOT NULL,
            position bigint NOT NULL,
            agent bigint,
            kind text NOT NULL,
            data bytea NOT NULL,
            PRIMARY KEY (session, position)
        )""",
        "CREATE INDEX log_by_agent ON statemachine.log (session, agent, position) WHERE agent IS NOT NULL",
        """CREATE TABLE statemachine.agents (
            session bigint NOT NULL,
            agent bigint NOT NULL,
            facts bytea NOT NULL,
            PRIMARY KEY (session, agent)
        )""",
        """CREATE TABLE statemachine.keys (
            session bigint NOT NULL,
            digest bytea NOT NULL,
            key bytea NOT NULL,
            request bytea NOT NULL,
            answer bytea NOT NULL,
            agent bigint,
            PRIMARY KEY (session, digest)
        )""",
    ):
        connection.execute(statement)


def _second(connection: Connection[tuple[Any, ...]]) -> None:
    for statement in (
        """ALTER TABLE statemachine.sessions
            ADD COLUMN wanted boolean NOT NULL DEFAULT false,
            ADD COLUMN asked bigint NOT NULL DEFAULT 0""",
        "CREATE INDEX sessions_wanted ON statemachine.sessions (id) WHERE wanted",
        "CREATE INDEX sessions_free ON statemachine.sessions (id) WHERE wanted AND worker IS NULL",
        "CREATE INDEX sessions_by_worker ON statemachine.sessions (worker) WHERE worker IS NOT NULL",
        """CREATE TABLE statemachine.workers (
            id bigint PRIMARY KEY,
            address text NOT NULL,
            token text NOT NULL,
            capacity bigint NOT NULL,
            beat timestamptz NOT NULL,
            draining boolean NOT NULL DEFAULT false
        ) WITH (fillfactor = 50)""",
        """CREATE TABLE statemachine.asks (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            session bigint NOT NULL,
            request bytea NOT NULL
        )""",
        "CREATE INDEX asks_by_session ON statemachine.asks (session, id)",
    ):
        connection.execute(statement)


MIGRATIONS: tuple[Migration, ...] = (_first, _second)
"""Each leads from the version that is its index to the next. They are never changed, only added to."""

COLUMNS = (
    ("asks", "id", "bigint"), ("asks", "request", "bytea"), ("asks", "session", "bigint"),
    ("agents", "agent", "bigint"), ("agents", "facts", "bytea"), ("agents", "session", "bigint"),
    ("keys", "agent", "bigint"), ("keys", "answer", "bytea"), ("keys", "digest", "bytea"), ("keys", "key", "bytea"),
    ("keys", "request", "bytea"), ("keys", "session", "bigint"),
    ("log", "agent", "bigint"), ("log", "data", "bytea"), ("log", "kind", "text"), ("log", "position", "bigint"),
    ("log", "session", "bigint"),
    ("sessions", "asked", "bigint"), ("sessions", "config", "bytea"), ("sessions", "covered", "bigint"),
    ("sessions", "epoch", "bigint"),
    ("sessions", "host", "text"), ("sessions", "id", "bigint"), ("sessions", "keys", "bigint"),
    ("sessions", "mail_states", "text"), ("sessions", "name", "text"), ("sessions", "pid", "bigint"),
    ("sessions", "wanted", "boolean"), ("sessions", "worker", "bigint"),
    ("version", "number", "integer"),
    ("workers", "address", "text"), ("workers", "beat", "timestamp with time zone"), ("workers", "capacity", "bigint"),
    ("workers", "draining", "boolean"),
    ("workers", "id", "bigint"), ("workers", "token", "text"),
)  # fmt: skip
"""Table, column and type of all that the migrations make."""
UNIQUE = (
    ("agents", "{session,agent}"),
    ("asks", "{id}"),
    ("keys", "{session,digest}"),
    ("log", "{session,position}"),
    ("sessions", "{id}"),
    ("sessions", "{name}"),
    ("workers", "{id}"),
)
"""Table, and columns that tell its rows apart."""
SHAPE = """
    SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'statemachine'
"""
KEYS = """
    SELECT c.relname::text, array(SELECT a.attname FROM unnest(i.indkey) WITH ORDINALITY AS k (number, at)
        JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.number ORDER BY k.at)::text
    FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid
    WHERE c.relnamespace = 'statemachine'::regnamespace AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
"""
FOREIGN = """
    SELECT 'trigger', tgname::text, c.relname::text FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
    WHERE c.relnamespace = 'statemachine'::regnamespace AND NOT t.tgisinternal
    UNION ALL SELECT 'rule', rulename::text, tablename::text FROM pg_rules WHERE schemaname = 'statemachine'
    UNION ALL SELECT 'policy', policyname::text, tablename::text FROM pg_policies WHERE schemaname = 'statemachine'
"""


def migrate(connection: Connection[tuple[Any, ...]], shown: str, migrations: Sequence[Migration]) -> None:
    """Brings the tables up to date, one transaction for each version: after a failure they have the version before.
    Fences all owners that have a session open as the older one. Several processes may do this at once.

    Raises `NewerSchema`, and `ForeignFile` if the schema is there and has something else.
    """
    while (version := version_of(connection, shown, len(migrations))) < len(migrations):
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            if version_of(connection, shown, len(migrations)) != version:
                continue  # another process was quicker
            migrations[version](connection)
            connection.execute("UPDATE statemachine.version SET number = %s", (version + 1,))
            if version:
                connection.execute("UPDATE statemachine.sessions SET epoch = epoch + 1")


def version_of(connection: Connection[tuple[Any, ...]], shown: str, newest: int) -> int:
    """Returns the number of migrations applied; 0 if there are no tables. Raises `NewerSchema` and `ForeignFile`."""
    # The catalogue is read as tables: by name, it is remembered for the length of a transaction.
    found = connection.execute(
        "SELECT array(SELECT c.relname::text FROM pg_class AS c WHERE c.relnamespace = n.oid) FROM pg_namespace AS n"
        " WHERE n.nspname = 'statemachine'"
    ).fetchone()
    if found is None:
        return 0
    if not {"version", "sessions"}.issubset(found[0]):
        raise ForeignFile(shown, f"the schema {SCHEMA} of this database has something else than sessions")
    rows = connection.execute("SELECT number FROM statemachine.version").fetchall()
    if len(rows) != 1 or rows[0][0] < 1:
        raise ForeignFile(shown, f"the schema {SCHEMA} of this database does not say which version it has")
    version = int(rows[0][0])
    if version > newest:
        raise NewerSchema(shown, f"the tables have version {version}, newer than {newest}")
    return version


def check_version(connection: Connection[tuple[Any, ...]], shown: str, migrations: Sequence[Migration]) -> None:
    """Raises `StoreMissing`, `OlderSchema`, `NewerSchema` and `ForeignFile` unless the tables are those of today."""
    version = version_of(connection, shown, len(migrations))
    if version == 0:
        raise StoreMissing(shown, "no session was ever opened in this database")
    if version < len(migrations):
        raise OlderSchema(shown, f"the tables have version {version}, older than {len(migrations)}")


def differences(connection: Connection[tuple[Any, ...]]) -> list[str]:
    """Returns what differs from what the migrations make: a trigger or a rule can ignore what is written."""
    found = set(connection.execute(SHAPE).fetchall())
    problems = [f"column {table}.{name} ({kind}) is missing" for table, name, kind in set(COLUMNS) - found]
    problems += [f"column {table}.{name} ({kind}) does not belong there" for table, name, kind in found - set(COLUMNS)]
    keys = set(connection.execute(KEYS).fetchall())
    problems += [f"rows of {table} are not told apart by {columns}" for table, columns in set(UNIQUE) - keys]
    foreign = connection.execute(FOREIGN).fetchall()
    problems += [f"{kind} {name!r:.100} of {table} does not belong there" for kind, name, table in foreign]
    return sorted(problems)
