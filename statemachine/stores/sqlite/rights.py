"""Keeps the files of a session from other users: conversations are in them, and who may read one may also lock it.

Each is made with the rights of its owner alone, whatever the umask is, before anything is in it. SQLite gives its WAL,
the index of that and its journal the rights and the owner of the database. Rights and an owner that a file has already
are left as they are, since they may be meant; there is a warning.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from statemachine.sinks import log

PRIVATE = stat.S_IRUSR | stat.S_IWUSR
OTHERS = stat.S_IRWXG | stat.S_IRWXO
ROOT = 0
BESIDE = ("", "-wal", "-shm", "-journal", ".lock")
"""The files of a session: what follows its path."""
WIDER = (
    "%s: other users have rights on files of this session, and can read the conversations or stop it (mode %s);"
    " chmod 600 them, unless you mean that"
)
OWNED = (
    "%s: files of this session belong to another user (uid %s), who can read the conversations or stop it; chown them,"
    " unless you mean that"
)


def make_private(path: str) -> None:
    """Makes an empty file that its owner alone may read and write. Leaves one that is there. Raises `OSError`."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE))


def warn_of_wider(path: str) -> None:
    """Writes a warning to the log if there are files of the session on which others than their owner have rights, and
    one if there are some whose owner is neither this user nor root, which can read everything.
    """
    wider: dict[str, str] = {}
    owned: dict[str, str] = {}
    for beside in BESIDE:
        with suppress(FileNotFoundError):
            found = os.stat(path + beside)
            mode = stat.S_IMODE(found.st_mode)
            if mode & OTHERS:
                wider[path + beside] = f"{mode:o}"
            if found.st_uid not in (os.geteuid(), ROOT):
                owned[path + beside] = str(found.st_uid)
    for text, files in ((WIDER, wider), (OWNED, owned)):
        if files:
            log.warning(text, ", ".join(files), ", ".join(dict.fromkeys(files.values())))
