"""Writes the trace of a running session: every event given to the core, for `statemachine replay` and `verify`."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from statemachine.core.config import SessionConfig
from statemachine.core.events import Event
from statemachine.core.ledger import Ledger
from statemachine.log.trace import TraceError, event_line, header_line


class TraceFile:
    """A file that grows with the session. Lines are written when the steps of their events are durable."""

    def __init__(self, path: Path, config: SessionConfig, ledger: Ledger) -> None:
        """Raises `TraceError` if the file exists already or cannot be made."""
        try:
            self._file: BinaryIO = path.open("xb")
        except FileExistsError:
            raise TraceError("there is such a file already; give another path", None, str(path)) from None
        except OSError as error:
            raise TraceError(f"cannot be made: {error.strerror or error}; give another path", None, str(path)) from None
        is_new = len(ledger.agents) == 1 and ledger.next_mail == 0
        self._lines: list[bytes] = []
        self.write([header_line(config, None if is_new else ledger)])

    def add(self, event: Event) -> None:
        """Adds an event."""
        self._lines.append(event_line(event))

    def take(self) -> list[bytes]:
        """Returns the lines of all events since the last call, to be written once their steps are durable."""
        lines, self._lines = self._lines, []
        return lines

    def write(self, lines: list[bytes]) -> None:
        """Writes lines and flushes them, so that others can read the file meanwhile."""
        self._file.write(b"".join(lines))
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
