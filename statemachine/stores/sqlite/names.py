"""Refuses names that the file of a new session cannot have: those of what lies beside another one, and too long ones.

A session `session.db` has its WAL in `session.db-wal`. If another session were there, SQLite would delete it as soon as
the first one is opened, or begin. A file whose name leaves no room for what lies beside it can be made, as by a backup,
and then neither be read nor opened.
"""

from __future__ import annotations

import os
from contextlib import suppress

from statemachine.stores.errors import ForeignFile, StoreMissing
from statemachine.stores.sqlite.rights import BESIDE

LONGEST = max(BESIDE, key=len)
PATH_BYTES_MAX = 512
"""The longest path that SQLite opens on POSIX systems, that of the journal included (`MAX_PATHNAME` of its VFS)."""


def check_new(path: str) -> None:
    """Raises `ForeignFile` if another session would have something else at this path, `StoreMissing` if the name or the
    path is too long, and `OSError`.
    """
    for beside in BESIDE:
        if beside and path.endswith(beside):
            other = os.path.basename(path).removesuffix(beside)
            raise ForeignFile(
                path, f"a session {other or 'without a name'} has its {beside[1:]} here, and deletes what it finds"
            )
    if len(os.fsencode(path + LONGEST)) > PATH_BYTES_MAX:
        longest = PATH_BYTES_MAX - len(LONGEST)
        raise StoreMissing(path, f"the path is too long for a session, which has one of {longest} bytes at most")
    with suppress(FileNotFoundError):
        os.lstat(path + LONGEST)  # raises ENAMETOOLONG, by the limit of this file system
