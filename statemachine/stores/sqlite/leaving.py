"""Copies into a session's file what a reader has kept in its WAL, when the session is left.

The problem. SQLite copies the WAL into the file, and removes it, when the last connection is closed. If another program
reads then, ours is not the last one: the WAL stays, and the file alone lacks what was committed since. A reader that
ends later does not copy it, since it may not write.

What is done. If a WAL is left after closing, a new connection copies what can be copied at once, and waits for a short
while for the reader to end its transaction. Without a reader there is no WAL to be found, and closing takes as long as
before. If the reader keeps something from the file nevertheless, there is a warning: a copy of the file alone would
lack turns that were acknowledged. It would not even be as of an earlier moment, since SQLite copies page by page.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

from statemachine.sinks import log
from statemachine.stores.errors import StoreError
from statemachine.stores.sqlite import schema

WAIT_S = 1.0
"""Most seconds for which leaving waits for a reader."""
LEFT = (
    "%s: the session is closed, and its last commits are still in %s, because %s. The session is these two files"
    " together, so copy or move both, until it is opened and closed again while no other program reads it"
)


def copy_wal(path: str, epoch: int, busy_timeout: float) -> None:
    """Copies the WAL into the file, if one is left of the session that was owned in this epoch. Waits for readers, for
    `WAIT_S` seconds or half of `busy_timeout` at most. Writes a warning to the log if something is in the WAL alone.
    Raises nothing.
    """
    try:
        if os.path.getsize(f"{path}-wal") == 0 or _is_copied(path, epoch, min(WAIT_S, busy_timeout / 2)):
            return
        why = "another program reads it"
    except FileNotFoundError:
        return  # there is no WAL, or the next owner has copied it
    except (sqlite3.Error, OSError, StoreError) as error:
        why = f"they cannot be copied ({error})"
    log.warning(LEFT, path, f"{path}-wal", why)


def _is_copied(path: str, epoch: int, wait_s: float) -> bool:
    """Copies what can be copied. Returns whether that is all; also True if another owner has the session by now."""
    schema.open_here[path] += 1
    try:
        with closing(schema.connect(path, "mode=rw", wait_s)) as connection:
            if connection.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchall() != [(epoch,)]:
                return True
            found = [
                connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
                for mode in ("PASSIVE", "TRUNCATE")  # the first does not wait
            ]
            return any(0 <= frames == copied for _, frames, copied in found)
    finally:
        schema.open_here[path] -= 1
