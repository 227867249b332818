"""Keeps sessions as files of a folder, for one host on one machine, without a server.

The problem. Thousands of sessions, each a file that one process may have open; few of them have something to do. After
a crash those have to be opened again, and opening all of them to find out takes minutes.

What is done. One host has the folder: it holds a lock, and a second one is refused. Beside the sessions lies a small
file of the host (`index.py`), which says which of them rest. When it begins, a host lists the folder: a session that is
not known to rest, or whose file is not as it was left, is opened once. It costs no memory as long as it rests. Callers
find the address and the token of the host in its file, and what they ask for without a host is written there. A call of
a session that is not open makes the host open it.

What was rejected. Several hosts for one folder, as on a database: each process would have to find out which of the
others are dead, and PostgreSQL is there for that. To ask each file whether it rests: that takes a millisecond each. To
note only that a session rests, without what its file was like: a program that opens the file meanwhile, or a copy that
is put back, would not be noticed.

What remains ugly. A host that hangs keeps its folder until it goes on or is killed. A file that is put there while the
host runs is found when it is asked for, or by the next host.
"""

from __future__ import annotations

import json
import math
import os
import stat
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice

import anyio

from statemachine.hosting import file_names, rules
from statemachine.hosting.directory import Ask, Claimed, Poll, Where
from statemachine.hosting.errors import FolderInUse
from statemachine.hosting.index import Index, check_within
from statemachine.sinks import log
from statemachine.stores.errors import SessionUnnamed, StoreError
from statemachine.stores.sqlite import SQLiteStore
from statemachine.stores.sqlite.ownership import Ownership
from statemachine.stores.sqlite.reading import real_path
from statemachine.stores.sqlite.rights import ROOT
from statemachine.stores.sqlite.translation import typed

__all__ = ["Folder", "FolderCallers", "FolderSessions"]

AT_ONCE = 50
"""The most sessions that are claimed in one poll: opening them takes a while, and calls are to be answered, too."""
LOCK_S = 1.0
"""Seconds for which a host tries to get its lock: a client that looks whether it is held has it for an instant."""
LOCK_RETRY_S = 0.01
WIDER = (
    "%s: other users have rights on this folder of sessions, and can put files there that the host opens, or take"
    " sessions away (mode %s); chmod 700 it, unless you mean that"
)

OWNED = (
    "%s: this folder of sessions belongs to another user (uid %d), who can put files there that the host opens, or take"
    " sessions away; chown it, unless you mean that"
)

WANTED = "SELECT id, name FROM sessions WHERE mark IS NULL ORDER BY id"
ASKS = """
    SELECT session, id, request FROM asks WHERE session IN (SELECT value FROM json_each(?)) ORDER BY id
"""
REST = """
    UPDATE sessions SET mark = ?
    WHERE id = ? AND asked = ? AND NOT EXISTS (SELECT 1 FROM asks WHERE session = sessions.id)
"""
GONE = "DELETE FROM sessions WHERE id = ? AND id NOT IN (SELECT session FROM asks)"
DROP = "DELETE FROM sessions WHERE id = ?"
COUNT = "UPDATE sessions SET asked = 0 WHERE id = ?"
HOST = "SELECT address, token, pid FROM host"
WRONG = "%s: %s, which no host or client writes, is dropped; find out what other program writes this file"


class Folder:
    """A folder as the `Kind` of directory that hosts and clients are given."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Raises `StoreMissing` for a path that no folder can have."""
        self.named = self.path = real_path(path)

    def check_name(self, session: str) -> None:
        """Raises `SessionUnnamed` for what is not the name of a session, or is too long for a file."""
        file_names.file_of(self.path, session)

    def for_host(self, capacity: int, _ttl: float, /) -> FolderSessions:
        """See `Kind.for_host`. The folder is made if it is missing. Raises `FolderInUse` if it has a host."""
        with typed(self.path), suppress(FileExistsError):
            os.mkdir(self.path, 0o700)
        warn_of_wider(self.path)
        return FolderSessions(self.path, capacity)

    def for_client(self) -> FolderCallers:
        """See `Kind.for_client`. Raises `StoreMissing` if there is no such folder."""
        return FolderCallers(self.path)


def warn_of_wider(folder: str) -> None:
    """Writes a warning to the log if others than this user, and root, can put files into the folder, or take them
    away.
    """
    with suppress(OSError):  # which is told when its files are opened
        found = os.stat(folder)
        mode = stat.S_IMODE(found.st_mode)
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            log.warning(WIDER, folder, f"{mode:o}")
        if found.st_uid not in (os.geteuid(), ROOT):
            log.warning(OWNED, folder, found.st_uid)


class FolderSessions:
    """The sessions of a folder as their one host sees them: a `HostDirectory`."""

    is_alone = True
    ttl = math.inf

    def __init__(self, folder: str, capacity: int) -> None:
        """Takes the folder, and looks which sessions are not known to rest. Raises `FolderInUse`."""
        self.shown, self._capacity = folder, capacity
        self._free: dict[str, int] = {}
        """The sessions that need an owner and have none, by name; what has waited longest comes first."""
        self._claimed: dict[int, int | None] = {}
        """A session that the host has -> how often callers had asked for it when it was said to rest; None: it is not
        said.
        """
        self._has_asks = True
        """Whether there may be requests that were left."""
        self._seen = -1
        """SQLite's number of the last change by another connection that was looked at."""
        self._is_stirred = False
        self._stirred: anyio.Event | None = None
        """What the host waits for, if it waits."""
        self._where: tuple[str, str, int] | None = None
        """What the file is to say of this host, once it can be reached."""
        self._index = Index(folder)
        self._ownership = Ownership(self._index.path)
        try:
            self._take()
            self.leave()  # what is written there is of a host that has died
            with self._index.typed():
                self._list()
        except BaseException:
            self.close()
            raise

    def _take(self) -> None:
        deadline = time.monotonic() + LOCK_S
        with typed(self._ownership.lock_path):
            while not self._ownership.take():
                if time.monotonic() > deadline:
                    raise FolderInUse(self.shown, self._pid())
                time.sleep(LOCK_RETRY_S)

    def _pid(self) -> int | None:
        with self._index.typed():
            found = self._index.execute(HOST).fetchone()
        return found[2] if found is not None and type(found[2]) is int else None

    def _list(self) -> None:
        """Takes the marks of sessions whose files are not as they were left, and drops sessions without a file."""
        files = set(os.listdir(self.shown))
        there = {file: file_names.name_of(file) for file in files if file.endswith(file_names.SUFFIX)}
        foreign = [file for file, name in there.items() if name is None and file != os.path.basename(self._index.path)]
        if foreign:
            log.warning(
                "%s: %d with names that no session has are passed over, such as %.200r; give them the names that"
                " statemachine.hosting.file_names makes",
                *(self.shown, len(foreign), min(foreign)),
            )
        names = {name for name in there.values() if name is not None}
        self._lower()
        with self._index.writing():
            known: dict[str, tuple[int, str | None]] = {
                name: (session, mark)
                for session, name, mark in self._index.execute("SELECT id, name, mark FROM sessions")
            }
            for name in sorted(names):
                _, mark = known.get(name, (0, None))
                if name not in known or (mark is not None and mark != self._mark(name, files)):
                    self._index.ask(name)
            for name, (session, mark) in known.items():
                if mark is not None and name not in names:
                    self._index.execute(GONE, (session,))

    def _mark(self, name: str, files: set[str] | None = None) -> str | None:
        """Returns what shows whether the file of a session was changed since; None: it is missing, or was not closed.
        `files` are those of the folder, if it was listed.
        """
        path = file_names.file_of(self.shown, name)
        log_path = f"{path}-wal"
        if os.path.basename(log_path) in files if files is not None else os.path.lexists(log_path):
            return None
        try:
            found = os.stat(path)
        except FileNotFoundError:
            return None
        return f"{found.st_ino} {found.st_size} {found.st_ctime_ns}"

    def join(self, where: Where) -> None:
        """See `HostDirectory.join`."""
        self._where = (where.address, where.token, os.getpid())
        with self._index.typed():
            self._say_where(self._where)

    def _say_where(self, where: tuple[str, str, int]) -> None:
        with self._index.writing():
            self._index.execute("DELETE FROM host")
            self._index.execute("INSERT INTO host VALUES (?, ?, ?)", where)

    def want(self, name: str) -> None:
        """See `HostDirectory.want`. Raises `SessionUnnamed`."""
        file_names.file_of(self.shown, name)
        if name not in self._free:
            with self._index.typed():
                with self._index.writing():
                    session = self._index.ask(name)
                if session not in self._claimed:
                    self._free[name] = session

    def poll(self, held: Sequence[int], spare: int, draining: bool) -> Poll:
        """See `HostDirectory.poll`."""
        self._index.check_same()
        with self._index.typed():
            (seen,) = self._index.execute("PRAGMA data_version").fetchone()
            if seen != self._seen:
                self._seen, self._has_asks = seen, True
                self._lower()
                if self._where is not None and self._index.execute(HOST).fetchall() != [self._where]:
                    self._say_where(self._where)
                for session, name in self._index.execute(WANTED).fetchall():
                    if session not in self._claimed and (name in self._free or self._is_sound(session, name)):
                        self._free.setdefault(name, session)
            room = 0 if draining else rules.most_to_claim(len(held) - spare, self._capacity, self._capacity, AT_ONCE)
            here = set(held)  # may have some that an earlier connection of this host has claimed
            free = ((name, session) for name, session in self._free.items() if session not in here)
            claimed = [Claimed(session, name, 0) for name, session in islice(free, room)]
            for each in claimed:
                self._claimed[each.id] = None
                del self._free[each.name]
            asks = self._asks([*held, *(each.id for each in claimed)])
            return Poll(False, sys.maxsize, len(self._free), room, tuple(claimed), asks)

    def _lower(self) -> None:
        if self._index.lower():
            log.warning(WRONG, self._index.path, "a row with a number that leaves none for others")

    def _is_sound(self, session: int, name: str) -> bool:
        """Tells whether this is the name of a session. Its row is dropped if it is not."""
        try:
            file_names.file_of(self.shown, name)
        except (SessionUnnamed, TypeError):
            log.warning(WRONG, self._index.path, f"a session with the name {name!r:.100}")
            with self._index.writing():
                self._index.execute(DROP, (session,))
            return False
        return True

    def _asks(self, held: Sequence[int]) -> tuple[Ask, ...]:
        if not self._has_asks:
            return ()
        found = self._index.execute(ASKS, (json.dumps(held),)).fetchall()
        wrong = [ask for _, ask, request in found if type(request) is not bytes]
        if wrong:
            log.warning(WRONG, self._index.path, f"what {len(wrong)} request(s) of {len(found)} say")
            self.done(wrong)
        self._has_asks = bool(found or self._index.execute("SELECT 1 FROM asks LIMIT 1").fetchone())
        return tuple([Ask(*each) for each in found if type(each[2]) is bytes])

    def store(self, claimed: Claimed) -> SQLiteStore:
        """See `HostDirectory.store`. Raises `SessionUnnamed` for a name that no file can have, and `ForeignFile` for
        a link that leads elsewhere.
        """
        path = file_names.file_of(self.shown, claimed.name)
        check_within(self.shown, path)
        return SQLiteStore(path)

    def asked(self, session: int) -> int:
        """See `HostDirectory.asked`."""
        with self._index.typed():
            found = self._index.execute("SELECT asked FROM sessions WHERE id = ?", (session,)).fetchone()
            if found is not None and type(found[0]) is not int:
                log.warning(WRONG, self._index.path, f"the count {found[0]!r:.100} of session {session}")
                with self._index.writing():
                    self._index.execute(COUNT, (session,))
                return 0
        return 0 if found is None else int(found[0])

    def unload(self, claimed: Claimed, asked: int) -> bool:
        """See `HostDirectory.unload`. It is written once the file is closed."""
        with self._index.typed():
            left = self._index.execute("SELECT 1 FROM asks WHERE session = ?", (claimed.id,)).fetchone()
        if left is not None or self.asked(claimed.id) != asked:
            return False
        self._claimed[claimed.id] = asked
        return True

    def give_back(self, claimed: Claimed) -> None:
        """See `HostDirectory.give_back`. A session that was said to rest gets its mark; any other waits again."""
        asked = self._claimed.pop(claimed.id, None)
        self._free.setdefault(claimed.name, claimed.id)
        if asked is not None and self._give_mark(claimed, asked):
            del self._free[claimed.name]

    def _give_mark(self, claimed: Claimed, asked: int) -> bool:
        mark = self._mark(claimed.name)
        with self._index.typed(), self._index.light():
            return self._index.execute(REST, (mark, claimed.id, asked)).rowcount == 1 and mark is not None

    def done(self, asks: Sequence[int]) -> None:
        """See `HostDirectory.done`."""
        with self._index.typed(), self._index.light():
            self._index.connection.executemany("DELETE FROM asks WHERE id = ?", [(ask,) for ask in asks])

    def leave(self) -> None:
        """See `HostDirectory.leave`."""
        self._where = None
        with self._index.typed(), self._index.writing():
            self._index.execute("DELETE FROM host")

    def close(self) -> None:
        """Ends the connection, and leaves the folder to another host."""
        self._index.close()
        self._ownership.release()

    def stir(self) -> None:
        """See `HostDirectory.stir`."""
        self._is_stirred = True
        if self._stirred is not None:
            self._stirred.set()

    async def until_asked(self) -> None:
        """See `HostDirectory.until_asked`. What clients write in the file is found by looking."""
        if not self._is_stirred:
            self._stirred = anyio.Event()
            await self._stirred.wait()
        self._is_stirred = False


class FolderCallers:
    """The sessions of a folder as a client sees them: a `ClientDirectory`."""

    def __init__(self, folder: str) -> None:
        """Connects with the host's file, which is made if it is missing."""
        self._index = Index(folder)
        self._ownership = Ownership(self._index.path)
        self.is_lost = False
        """See `ClientDirectory.is_lost`: the file was removed."""

    def _check(self) -> None:
        try:
            self._index.check_same()
        except StoreError:
            self.is_lost = True
            raise

    def _where(self) -> Where | None:
        """Returns where the host can be reached; None: no host lives, whatever the file says."""
        self._check()
        with self._index.typed():
            found = self._index.execute(HOST).fetchone()
        if found is None or not type(found[0]) is type(found[1]) is str:
            return None
        with typed(self._ownership.lock_path):
            return Where(*found[:2]) if self._ownership.is_held() else None

    def owner_of(self, _session: str, /) -> Where | None:
        """See `ClientDirectory.owner_of`. The host of a folder has all of its sessions."""
        return self._where()

    def is_there(self, where: Where) -> bool:
        """See `ClientDirectory.is_there`."""
        return self._where() == where

    def ask(self, session: str, request: bytes | None) -> None:
        """See `ClientDirectory.ask`."""
        self._check()
        with self._index.typed(), self._index.writing():
            number = self._index.ask(session)
            if request is not None:
                self._index.execute("INSERT INTO asks (session, request) VALUES (?, ?)", (number, request))

    def close(self) -> None:
        """Ends the connection."""
        self._index.close()
