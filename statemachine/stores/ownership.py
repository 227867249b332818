"""The lock beside a session's file: held as long as the session is open, and gone with the process that holds it.

The lock keeps two processes from working on one session by mistake. What makes it impossible is the epoch, which every
append checks inside its transaction: a lock can be taken away (`takeover`), and some file systems have none.
"""

from __future__ import annotations

import os
from contextlib import suppress

from filelock import FileLock, Timeout


class Ownership:
    """The lock of the session's file at `path`."""

    def __init__(self, path: str) -> None:
        self.lock_path = f"{path}.lock"
        # Closed by another thread of the pool than the one that opened.
        self._lock = FileLock(self.lock_path, thread_local=False)

    def take(self) -> bool:
        """Takes the lock. False: somebody else holds it. Raises `OSError` where no file can be locked."""
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return False
        return True

    def take_over(self) -> None:
        """Takes the lock from whoever holds it: their lock is on a file that has no name any more. Where a file in use
        cannot be removed, there is no lock for the new owner, but still the epoch.
        """
        with suppress(OSError):
            os.unlink(self.lock_path)
        self.take()

    def release(self) -> None:
        """Gives the lock back, if it is held."""
        self._lock.release()
