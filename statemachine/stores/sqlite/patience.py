"""Waits for other programs that have the file of a session locked.

A backup tool, a person with a database shell, a checkpoint of another process: each may hold the lock of writers for
some seconds, and nothing is wrong. So what finds the file locked is tried again, for `busy_timeout` seconds in all, in
which the process could run.
SQLite itself waits for a short while each time; the warning is why it does not wait for all of it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeVar

from statemachine.pauses import ATTEMPT_S, Bound
from statemachine.sinks import log
from statemachine.stores import options

NOTICE_S = ATTEMPT_S
"""Seconds of waiting after which there is a warning: the longest that SQLite waits by itself."""
LOCKED = (
    "%s: another program keeps the file locked; waiting up to %g seconds for it (busy_timeout of SQLiteStore). Find the"
    " program, and have it write in short transactions"
)

T = TypeVar("T")


class Patience:
    """Tries again what finds the file at `path` locked, for `busy_timeout` seconds of run time."""

    def __init__(self, path: str, busy_timeout: float) -> None:
        """Raises `TypeError` or `ValueError` unless the time is a number of seconds from 0 on, with an end."""
        self._path = path
        self.busy_timeout = options.seconds(busy_timeout, "busy_timeout")

    @property
    def step(self) -> float:
        """Returns the seconds that SQLite waits by itself."""
        return min(NOTICE_S, self.busy_timeout)

    def do(self, work: Callable[..., T], *args: object) -> T:
        """Makes the call, which changes nothing if it finds the file locked, until it does not find it so; in the end
        raises the error of SQLite. Writes one warning to the log if it has to wait.
        """
        try:
            return work(*args)
        except sqlite3.OperationalError as error:
            if not is_busy(error) or self.busy_timeout <= self.step:
                raise
        bound = Bound(self.busy_timeout - self.step)
        log.warning(LOCKED, self._path, self.busy_timeout)
        while True:
            try:
                return work(*args)
            except sqlite3.OperationalError as error:
                if not is_busy(error) or bound.is_over():
                    raise


def is_busy(error: sqlite3.Error) -> bool:
    """Tells whether another connection has what was wanted."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF == sqlite3.SQLITE_BUSY
