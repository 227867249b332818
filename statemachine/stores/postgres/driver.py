"""Gets psycopg, or says what to install; makes connections; and makes `StoreError`s of what goes wrong on them.

Every connection has what the store relies on, whatever the server's defaults are: READ COMMITTED, in which the lock of
a row is enough (`statements.py`); an end of transactions that are left idle, because a process that hangs in one keeps
others out; and probes of TCP, without which either side may wait for hours for one that is gone.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from statemachine.stores.encoding import EncodingError
from statemachine.stores.errors import (
    ConnectionLost,
    DriverMissing,
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreExhausted,
    StoreFull,
    StoreMissing,
    StoreReadOnly,
    StoreUnreachable,
    corrupt,
)

if TYPE_CHECKING:
    from psycopg import Connection, Error

CONNECT_S = 10
"""Seconds for which the server may keep a connection waiting, unless the DSN has `connect_timeout`."""
IDLE_S = 30
"""Seconds after which the server ends a transaction whose process does nothing."""
KEEPALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 25_000}
"""When a peer that does not answer counts as gone: after 25 seconds. The last one is in milliseconds."""

SETTINGS: dict[str, str] = {
    "default_transaction_isolation": "read committed",
    "idle_in_transaction_session_timeout": f"{IDLE_S}s",
    "tcp_keepalives_idle": "10s",
    "tcp_keepalives_interval": "5s",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "25s",
    "statement_timeout": "0",
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
    "search_path": "pg_catalog",
}
"""Parameter of the server -> its value on every connection; older servers do not have the last ones."""

BY_STATE: dict[str, type[StoreError]] = {
    "08": ConnectionLost,
    "57P01": ConnectionLost,  # an administrator ended it
    "57P02": ConnectionLost,
    "57P03": StoreUnreachable,  # the server starts or stops
    "57P05": ConnectionLost,
    "25P03": ConnectionLost,  # idle in a transaction
    "25006": StoreReadOnly,
    "28": StoreUnreachable,
    "3D000": StoreMissing,
    "42501": StoreReadOnly,
    "42P01": StoreCorrupt,  # all statements here are right, so it is a table or column that is missing
    "42703": StoreCorrupt,
    "53100": StoreFull,
    "53200": StoreExhausted,
    "53300": StoreUnreachable,
    "55P03": StoreBusy,
    "58030": StoreError,
    "XX001": StoreCorrupt,
    "XX002": StoreCorrupt,
}
"""State of an error, or its class -> error."""


def psycopg(shown: str) -> Any:
    """Returns psycopg. Raises `DriverMissing`."""
    try:
        return import_module("psycopg")
    except ImportError as error:
        raise DriverMissing(shown, f"psycopg cannot be imported ({error})") from error


def connect(database: str, shown: str, **settings: str) -> Connection[tuple[Any, ...]]:
    """Returns a connection in autocommit mode, with these settings too. Raises `DriverMissing`, `StoreMissing` and
    `StoreUnreachable`.
    """
    driver = psycopg(shown)
    try:
        given = driver.conninfo.conninfo_to_dict(database)
        words = {"connect_timeout": CONNECT_S, "application_name": "agent-statemachine", "keepalives": 1, **KEEPALIVE}
        missing = {word: value for word, value in words.items() if word not in given}
        connection: Connection[tuple[Any, ...]] = driver.connect(
            database, autocommit=True, client_encoding="utf8", **missing
        )
    except driver.Error as error:
        raise of_connecting(shown, error) from error
    try:
        with typed(shown):
            names, values = zip(*(SETTINGS | settings).items(), strict=True)
            connection.execute(
                "SELECT pg_catalog.set_config(name, value, false) FROM unnest(%s::text[], %s::text[])"
                " AS given (name, value) WHERE name IN (SELECT name FROM pg_catalog.pg_settings)",
                (list(names), list(values)),
            )
    except BaseException:
        connection.close()
        raise
    return connection


def of_connecting(shown: str, error: Error) -> StoreError:
    """Returns the error for a connection that could not be made. libpq tells the cause in words alone."""
    problem = " ".join(str(error).split())
    if error.sqlstate is not None:
        return StoreUnreachable(shown, problem) if error.sqlstate != "3D000" else StoreMissing(shown, problem)
    missing = 'database "' in problem and '" does not exist' in problem
    return StoreMissing(shown, problem) if missing else StoreUnreachable(shown, problem)


@contextmanager
def typed(shown: str) -> Generator[None]:
    """Raises as a `StoreError` what goes wrong with the database within the block."""
    driver = psycopg(shown)
    try:
        yield
    except driver.Error as error:
        raise of_postgres(shown, error) from error
    except EncodingError as error:
        raise corrupt(shown, str(error), error.agent) from error


def of_postgres(shown: str, error: Error) -> StoreError:
    """Returns the `StoreError` for an error of psycopg."""
    state = error.sqlstate
    problem = " ".join(str(error).split()) or type(error).__name__
    if state is None:
        driver = psycopg(shown)
        is_lost = isinstance(error, driver.OperationalError | driver.InterfaceError)
        return ConnectionLost(shown, problem) if is_lost else StoreError(shown, problem)
    return BY_STATE.get(state, BY_STATE.get(state[:2], StoreError))(shown, f"{problem} ({state})")
