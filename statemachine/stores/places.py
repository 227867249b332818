"""Tells from the name of a session where it is: a path is a file of SQLite, and `postgresql://...?session=NAME` is a
session in a database of PostgreSQL.

The modules of PostgreSQL are imported when the first such name is used: a session in a file needs neither their time
nor the extra `postgres`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar, cast

from statemachine.core import exact
from statemachine.stores.contents import Contents, problems_of, recovered_of, unwatched
from statemachine.stores.encoding import asked_agent
from statemachine.stores.protocol import LogRecord, Recovered, Store
from statemachine.stores.sqlite import SQLiteStore, backup, reading

__all__ = ["back_up", "check", "is_dsn", "read", "read_rollout", "read_session", "shown", "store_at", "store_of"]

SCHEMES = ("postgresql://", "postgres://")
PASSWORD = re.compile(r"(?<=://)([^/?#@:]*):[^/?#@]*(?=@)|(?<=[?&])password=[^&]*&?")

Place = str | os.PathLike[str]
"""The path of a session's file, or its DSN."""

T = TypeVar("T")


def is_dsn(place: object) -> bool:
    """Tells whether this names a session in a database."""
    return isinstance(place, str) and place.startswith(SCHEMES)


def shown(place: Place) -> str:
    """Returns the place as it may be told: without the password, if it is a DSN with one."""
    return PASSWORD.sub(r"\1", place) if isinstance(place, str) and is_dsn(place) else str(place)


STORE = ("open", "append", "rollout", "receipt", "close")
"""What every `Store` has."""


def store_of(value: object) -> Store:
    """Returns the store that this is, or names. Raises `TypeError` for what is and names none, and as `store_at`."""
    if isinstance(value, str | os.PathLike):
        return store_at(cast("Place", value))
    if isinstance(value, type) or not all(callable(getattr(value, name, None)) for name in STORE):
        raise TypeError(
            "a session is opened with the path of a file, as 'session.db', the DSN of one in a database, or a Store, "
            f"as MemoryStore(), not {exact.shown(value)}"
        )
    return cast("Store", value)


def store_at(place: Place) -> Store:
    """Returns a store for the session there, which is not opened yet. Raises `StoreError` for a name that no session
    has.
    """
    if is_dsn(place):
        found: Store = _postgres("store").PostgresStore(place)
        return found
    return SQLiteStore(Path(place))


def read_session(path: Place) -> Recovered:
    """Returns what opening the session would find, without claiming it: the ledger as of the last commit, and the
    present epoch. `path` is that of its file, or its DSN. Raises `StoreError`.
    """
    return read(path, recovered_of)


def read_rollout(path: Place, agent: int) -> tuple[LogRecord, ...]:
    """Returns the agent's mail, turns and entries as of the last commit, oldest first. `path` is that of the session's
    file, or its DSN. Raises `StoreError`.
    """
    agent = asked_agent(agent)
    return read(path, lambda contents: contents.rollout(agent))


def read(place: Place, read: Callable[[Contents], T]) -> T:
    """Returns what `read` makes of what a session has, in one transaction, without claiming it. Raises `StoreError`."""
    if is_dsn(place):
        found: T = _postgres("contents").reading(place, read)
        return found
    return reading.reading_contents(place, read)


def check(place: Place, look: Callable[[], object] = unwatched) -> tuple[str, ...]:
    """Returns all problems of a session, each as a sentence; none if it is sound. Raises `StoreError` if there is no
    session, or it cannot be read at all. `look` is called again and again; what it raises ends the check.
    """
    if is_dsn(place):
        return read(place, lambda contents: tuple(problems_of(contents, look)))
    return reading.check_file(place, look)


def back_up(place: Place, to: str | os.PathLike[str], progress: Callable[[int, int], object]) -> None:
    """Copies the session into a new file `to`, in the form of a session's file, wherever it is. `progress` is called
    with how much is copied, and all; what it raises ends it. Raises `StoreExists`, and what `read_session` raises.
    """
    if is_dsn(place):
        backup.make(to, lambda part: read(place, lambda contents: backup.write(contents, part, progress)))
    else:
        backup.back_up(place, to, progress)


def _postgres(module: str) -> Any:
    return import_module(f"statemachine.stores.postgres.{module}")
