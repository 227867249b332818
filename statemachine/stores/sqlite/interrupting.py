"""Ends a long statement of SQLite once its caller does not want it any more."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator
from contextlib import contextmanager

OPERATIONS = 100_000
"""Operations of SQLite between two looks, some 20 ms."""


@contextmanager
def interrupted_by(connection: sqlite3.Connection, look: Callable[[], object]) -> Generator[None]:
    """Calls `look` again and again while the connection works in the block: what it raises ends the statement, and is
    raised when the block is left, whatever became of SQLite's error in it.
    """
    raised: list[BaseException] = []

    def is_over() -> bool:
        try:
            look()
        except BaseException as error:  # SQLite would pass on that it was interrupted
            raised.append(error)
        return bool(raised)

    connection.set_progress_handler(is_over, OPERATIONS)
    try:
        yield
    except sqlite3.DatabaseError:
        if raised:
            raise raised[0] from None
        raise
    finally:
        connection.set_progress_handler(None, 0)
    if raised:
        raise raised[0]
