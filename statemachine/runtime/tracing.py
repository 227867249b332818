"""Writes the trace of a running session: every event given to the core, for `statemachine replay` and `verify`.

A trace is of one opening: its header has the facts with which that began. A program that gives the same path each time
it starts gets a file for each, beside the first: `trace.ndjson`, `trace.2.ndjson`, and so on. Nothing is overwritten,
and nothing is appended to what a kill may have cut off in the middle of a line.

A trace only observes. If it cannot be written (the disk is full, or taken away), that is told once and tracing ends:
the file has what was written before, and the session goes on.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from statemachine.core.config import SessionConfig
from statemachine.core.events import Event
from statemachine.core.ledger import Ledger
from statemachine.log.trace import BEGINNING, TraceError, check_regular, event_line, header_line, unreadable
from statemachine.sinks import log

TRACES_MAX = 10_000
"""Most traces beside each other."""
NOT_WRITTEN = "the trace %s cannot be written any more (%s): the session goes on without one"


class TraceFile:
    """A file that grows with the session. Lines are written when the steps of their events are durable.

    Once it is made, nothing that it does raises.
    """

    def __init__(self, path: Path, header: bytes) -> None:
        """Raises `TraceError` if there is a file that is not a trace, or the file cannot be made."""
        self._file: BinaryIO | None = new_file(path)
        self._lines: list[bytes] = []
        self.write([header])

    def add(self, event: Event) -> None:
        """Adds an event."""
        if self._file is not None:
            try:
                self._lines.append(event_line(event))
            except Exception as error:
                self._give_up(error)

    def take(self) -> list[bytes]:
        """Returns the lines of all events since the last call, to be written once their steps are durable."""
        lines, self._lines = self._lines, []
        return lines

    def write(self, lines: list[bytes]) -> None:
        """Writes lines and flushes them, so that others can read the file meanwhile."""
        if self._file is not None:
            try:
                self._file.write(b"".join(lines))
                self._file.flush()
            except Exception as error:
                self._give_up(error)

    def close(self) -> None:
        """Closes the file."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except Exception as error:
                log.warning(NOT_WRITTEN, file.name, error)

    def _give_up(self, error: Exception) -> None:
        """Ends tracing, because no trace is sound that lacks an event."""
        file, self._file = self._file, None
        self._lines.clear()
        assert file is not None
        with suppress(Exception):  # it fails again, because it has still to write what it could not
            file.close()
        log.warning(NOT_WRITTEN, file.name, error)


def header_of(config: SessionConfig, ledger: Ledger) -> bytes:
    """Returns the header of a trace that begins with these facts, which the session goes on to change."""
    is_new = len(ledger.agents) == 1 and ledger.next_mail == 0
    return header_line(config, None if is_new else ledger)


def new_file(path: Path) -> BinaryIO:
    """Makes and opens the file, or one beside it if that is a trace of an earlier opening. Raises `TraceError`."""
    for number in range(1, TRACES_MAX + 1):
        beside = path if number == 1 else path.with_name(f"{path.stem}.{number}{path.suffix}")
        try:
            return open(beside, "xb", opener=private)
        except FileExistsError:
            check_is_trace(beside)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            problem = f"cannot be made: {getattr(error, 'strerror', None) or error}; give another path"
            raise TraceError(problem, None, str(beside)) from None
    raise TraceError(f"there are {TRACES_MAX:,} traces beside it; move them away", None, str(path))


def private(path: str, flags: int) -> int:
    """Makes a file that its owner alone may read and write: conversations are in it."""
    return os.open(path, flags, 0o600)


def check_is_trace(path: Path) -> None:
    """Raises `TraceError` unless the file begins as a trace, or is empty, as a kill before the first line leaves it."""
    check_regular(path)
    try:
        with path.open("rb") as file:
            begins = file.read(len(BEGINNING))
    except OSError as error:
        raise unreadable(path, error) from None
    if begins not in (BEGINNING, b""):
        raise TraceError("there is a file already that is not a trace; give another path", None, str(path))
