"""Closes the files of sessions that are open and not used.

The problem. A connection of SQLite in WAL mode costs 100 to 180 KiB and three descriptors, a reading one as much again.
A session of which nothing is asked needs none of that: what keeps it is its lock and its epoch.

What is done. If more than `OPEN_MAX` sessions of a process have connections, those that were not used for `REST_S`
seconds have theirs closed, the longest unused first. They stay open sessions: the lock is held, and the next append
opens the file again, and looks whether it is as it was left (`SQLiteStore`). Fewer sessions keep their connections for
ever, so a program with a few sessions never waits for that.

SQLite copies the WAL into the database when the last connection is closed, which takes as long as some commits. So one
session is closed at a time, in a thread of its own that is there while there are too many connections. What SQLite
frees lies in pieces between what is used, and the C library keeps it, unless it is told to give it back: with 1,000
sessions that are 120 MB. It gives back whole pages alone, so a byte that a session keeps in the memory of a thread that
works with SQLite costs 4 KiB: locks and lists are made elsewhere, or cleared.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from contextlib import suppress
from typing import Protocol
from weakref import WeakSet

OPEN_MAX = 16
"""Sessions of a process that keep their connections however long they are not used."""
REST_S = 5.0
"""Seconds for which a session keeps its connections when there are more: opening them again takes as long as twenty
commits.
"""
LOOK_S = 1.0
"""Seconds between two looks at how long connections were not used."""


class Connected(Protocol):
    """A session that has connections."""

    used_at: float
    """When it was used last, by `time.monotonic`."""

    def rest(self, since: float) -> bool:
        """Closes what was not used since then, if nothing uses it now. Returns whether there was something."""
        ...


class Connections:
    """The sessions of this process that have connections."""

    def __init__(self) -> None:
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """Begins without sessions: those of a parent process are not its child's."""
        self._lock = threading.Lock()
        self._sessions: WeakSet[Connected] = WeakSet()
        self._is_looked_at = False

    def __len__(self) -> int:
        """Returns their number."""
        with self._lock:
            return len(self._sessions)

    def add(self, session: Connected) -> None:
        """Notes that the session has connections."""
        with self._lock:
            self._sessions.add(session)
            if len(self._sessions) > OPEN_MAX and not self._is_looked_at:
                with suppress(RuntimeError):  # the process has no thread left: the connections stay open
                    threading.Thread(target=self._look, name="statemachine-rest", daemon=True).start()
                    self._is_looked_at = True

    def remove(self, session: Connected) -> None:
        """Notes that the session has none."""
        with self._lock:
            self._sessions.discard(session)

    def _look(self) -> None:
        """Closes connections, in its thread, until there are not too many."""
        while self._are_too_many():
            time.sleep(LOOK_S)
            if self.close_unused(time.monotonic() - REST_S):
                give_back()

    def _are_too_many(self) -> bool:
        with self._lock:
            self._is_looked_at = len(self._sessions) > OPEN_MAX
            return self._is_looked_at

    def close_unused(self, since: float) -> int:
        """Closes the connections that are too many and were not used since then. Returns of how many sessions."""
        with self._lock:
            found = sorted(self._sessions, key=lambda session: session.used_at)
            found = found[: max(0, len(found) - OPEN_MAX)]
        return sum([session.rest(since) for session in found])


def give_back() -> None:
    """Gives freed memory back to the system, where the C library can be told to: that of GNU."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
