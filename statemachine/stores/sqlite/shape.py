"""Compares the schema of a file with what the migrations make.

A trigger can ignore what is written, a view can have no end, an index can differ from its table: what a file says its
tables are is believed by SQLite, so it is looked at before anything is read. `ANALYZE` adds tables of SQLite's own,
which do no harm.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cache

from statemachine.stores.errors import StoreCorrupt

Migration = Callable[[sqlite3.Connection], object]

SHOWN_MAX = 10
"""Most differences that are named."""
OF_ANALYZE = (("table", "sqlite_stat1"), ("table", "sqlite_stat4"))
Objects = dict[tuple[str, str], str]
"""Kind and name of all that a schema has -> the statement that makes it."""


class WrongShape(StoreCorrupt):
    """The schema is not what the migrations make; `problems` says where."""

    def __init__(self, path: str, problems: Sequence[str]) -> None:
        more = f", and {len(problems) - SHOWN_MAX} more" if len(problems) > SHOWN_MAX else ""
        super().__init__(path, f"{', '.join(problems[:SHOWN_MAX])}{more}")
        self.args = (path, problems)
        self.problems = tuple(problems)


def check_shape(connection: sqlite3.Connection, path: str, migrations: Sequence[Migration]) -> None:
    """Raises `WrongShape` unless the file's schema is what these migrations make."""
    wanted, found = made(tuple(migrations)), objects(connection)
    if wanted != found:
        problems = [f"{_short(*each)} is missing" for each in wanted.keys() - found.keys()]
        problems += [f"{_short(*each)} does not belong there" for each in found.keys() - wanted.keys()]
        problems += [f"{_short(*each)} differs" for each in wanted.keys() & found.keys() if wanted[each] != found[each]]
        raise WrongShape(path, sorted(problems))


@cache
def made(migrations: tuple[Migration, ...]) -> Objects:
    """Returns what these migrations make."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for migration in migrations:
            migration(connection)
        return objects(connection)


def objects(connection: sqlite3.Connection) -> Objects:
    """Returns what a schema has, however its statements are broken into lines."""
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
    return {
        (f"{kind}", f"{name}"): " ".join(f"{table} {sql}".split())
        for kind, name, table, sql in rows
        if (kind, name) not in OF_ANALYZE
    }


def _short(kind: str, name: str) -> str:
    return f"{kind} {name!r:.100}"
