"""Translates errors of SQLite and the operating system into those of `errors.py`."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager

from statemachine.stores.encoding import EncodingError
from statemachine.stores.errors import (
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreExhausted,
    StoreFull,
    StoreMissing,
    StoreReadOnly,
    corrupt,
)

BY_CODE: dict[int, type[StoreError]] = {
    sqlite3.SQLITE_BUSY: StoreBusy,
    sqlite3.SQLITE_LOCKED: StoreBusy,
    sqlite3.SQLITE_FULL: StoreFull,
    sqlite3.SQLITE_IOERR_SHMSIZE: StoreFull,  # the index of the WAL cannot grow
    sqlite3.SQLITE_READONLY: StoreReadOnly,
    sqlite3.SQLITE_PERM: StoreReadOnly,
    sqlite3.SQLITE_CORRUPT: StoreCorrupt,
    sqlite3.SQLITE_NOTADB: StoreCorrupt,
    sqlite3.SQLITE_CONSTRAINT: StoreCorrupt,  # a row is there that a sound file cannot have
    sqlite3.SQLITE_IOERR_SHORT_READ: StoreCorrupt,
}
"""Result code, extended or primary -> error. Other codes are failures of the disk or the system."""

BY_ERRNO: dict[int, type[StoreError]] = {
    errno.EACCES: StoreReadOnly,
    errno.EPERM: StoreReadOnly,
    errno.EROFS: StoreReadOnly,
    errno.ENOSPC: StoreFull,
    errno.EDQUOT: StoreFull,
    errno.EMFILE: StoreExhausted,
    errno.ENFILE: StoreExhausted,
    errno.ENAMETOOLONG: StoreMissing,
    errno.ELOOP: StoreMissing,
    errno.ENOENT: StoreMissing,
    errno.ENOTDIR: StoreMissing,
}

DESCRIPTORS = 8
"""The most files that opening a session has open at once."""


@contextmanager
def typed(path: str) -> Generator[None]:
    """Raises as a `StoreError` what goes wrong with the file at `path` within the block."""
    try:
        yield
    except sqlite3.Error as error:
        raise of_sqlite(path, error) from error
    except (EncodingError, UnicodeDecodeError) as error:  # the latter for damaged names of tables
        agent = error.agent if isinstance(error, EncodingError) else None
        raise corrupt(path, str(error), agent) from error
    except OSError as error:
        raise BY_ERRNO.get(error.errno or 0, StoreError)(path, error.strerror or str(error)) from error


def of_sqlite(path: str, error: sqlite3.Error) -> StoreError:
    """Returns the `StoreError` for an error of SQLite."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    problem = f"{error} ({getattr(error, 'sqlite_errorname', type(error).__name__)})"
    primary = code & 0xFF
    if primary == sqlite3.SQLITE_ERROR and isinstance(error, sqlite3.OperationalError):
        return StoreCorrupt(path, problem)  # all statements here are right, so it is a table or column that is missing
    if primary == sqlite3.SQLITE_CANTOPEN and not has_descriptors():
        return StoreExhausted(path, f"the process has no file descriptor left ({problem})")
    if primary == sqlite3.SQLITE_CANTOPEN and not takes_files(path):
        return StoreFull(path, f"the disk takes no more files ({problem})")
    return BY_CODE.get(code, BY_CODE.get(primary, StoreError))(path, problem)


def has_descriptors() -> bool:
    """Tells whether the process can open as many files as opening a session needs. SQLite does not say why it cannot
    open one, and has closed others by then.
    """
    opened = list[int]()
    try:
        for _ in range(DESCRIPTORS):
            opened.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno not in (errno.EMFILE, errno.ENFILE)
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return True


def takes_files(path: str) -> bool:
    """Tells whether the disk takes one more file beside this one; True, if that cannot be known."""
    try:
        found = os.statvfs(os.path.dirname(path))
    except (OSError, ValueError):
        return True
    return found.f_files == 0 or found.f_favail > 0  # some file systems have no number of files
