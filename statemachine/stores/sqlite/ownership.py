"""Locks a session's file while the session is open. The lock ends with the process that holds it.

The lock keeps two processes from working on one session by mistake. The epoch, which every append checks inside its
transaction, makes it impossible: a lock can be taken away (`takeover`), and some file systems have none.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress

from filelock import FileLock, Timeout

from statemachine.stores.errors import ForeignFile
from statemachine.stores.sqlite.regular import check_regular, open_to_read
from statemachine.stores.sqlite.rights import PRIVATE

ATTEMPTS = 3
"""Attempts to make a lock that is held and does not exist: another owner may be taking it over."""


class Ownership:
    """The lock of the session's file at `path`."""

    def __init__(self, path: str) -> None:
        self.lock_path = f"{path}.lock"
        # The thread that closes may be another than the one that opened.
        self._lock = FileLock(self.lock_path, mode=PRIVATE, thread_local=False)

    def take(self) -> bool:
        """Takes the lock and returns True, or False if another owner holds it. Raises `OSError` where files cannot be
        locked, and `ForeignFile` if something else is in the place of the lock.
        """
        try:
            check_regular(self.lock_path, ("",))
        except ForeignFile as error:
            raise ForeignFile(error.path, f"its lock {error.path} cannot be made: {error.problem}") from None
        for _ in range(ATTEMPTS):
            try:
                self._lock.acquire(blocking=False)
            except Timeout:
                if os.path.lexists(self.lock_path):
                    return False
            except OSError as error:
                problem = f"its lock {self.lock_path} cannot be made: {error.strerror or error}"
                raise OSError(error.errno, problem) from error
            else:
                return True
        raise OSError(errno.ENOENT, f"its lock {self.lock_path} cannot be made: this file system has none")

    def take_over(self) -> None:
        """Takes the lock from its present holder, whose lock is then on a file without a name. Where a file in use
        cannot be removed, the new owner has no lock, but still the epoch.
        """
        with suppress(OSError):
            os.unlink(self.lock_path)
        self.take()

    def release(self) -> None:
        """Releases the lock, if it is held."""
        self._lock.release()

    def is_held(self) -> bool:
        """Tells whether an owner that lives has the lock. Who takes it in the same instant may find it held. Raises
        `OSError` where files cannot be locked, and `ForeignFile` if something else is in the place of the lock.
        """
        try:
            descriptor = open_to_read(self.lock_path)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False
