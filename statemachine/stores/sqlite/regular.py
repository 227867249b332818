"""Refuses pipes, devices and directories where files of a session are to be.

Opening a pipe waits until another process opens its other end, perhaps for ever, and a thread that waits in the system
cannot be cancelled. SQLite opens what lies beside a database without looking what it is. So it is looked at before, and
what is opened here is opened without waiting.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from statemachine.stores.errors import ForeignFile

OF_SQLITE = ("", "-wal", "-shm", "-journal")
"""The files that SQLite opens for a database: what follows its path."""


def check_regular(path: str, besides: tuple[str, ...] = OF_SQLITE) -> None:
    """Raises `ForeignFile` if one of these is there and not a regular file. What cannot be looked at is told by who
    opens it.
    """
    for beside in besides:
        with suppress(OSError):
            check_mode(path + beside, os.stat(path + beside).st_mode)


def check_mode(path: str, mode: int) -> None:
    """Raises `ForeignFile` unless this is the mode of a regular file."""
    if not stat.S_ISREG(mode):
        what = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
        raise ForeignFile(path, f"this is {what}")


def open_to_read(path: str) -> int:
    """Returns a descriptor of a regular file. Raises `ForeignFile` for anything else, and `OSError`."""
    check_regular(path, ("",))
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        check_mode(path, os.fstat(descriptor).st_mode)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
