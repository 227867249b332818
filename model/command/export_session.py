"""Exports a session's file for programs: a line of JSON for each thing in it.

The log may be larger than memory, so lines are made as they are read, some at a time. A session that runs changes
meanwhile, and a reader of its file may have to begin anew; so it is a backup that is read.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from statemachine.stores import reading, tables
from statemachine.stores.backup import Progress, back_up
from statemachine.stores.encoding import parse, text_of

from . import inspect_session

TEXT_AT_ONCE = 100_000
"""Characters that are printed at a time, or the length of one line."""


def export(path: Path, progress: Progress) -> Iterator[str]:
    """Yields the lines, some at a time. Raises `StoreError`."""
    with TemporaryDirectory() as folder:
        copy = os.path.join(folder, "session")
        back_up(path, copy, progress)
        found = inspect_session.as_json(inspect_session.inspect(Path(copy)))
        agents = found.pop("agents")
        found |= {"path": str(path)}
        yield from joined(chain([{"type": "session", **found}], ({"type": "agent", **agent} for agent in agents)))
        with reading.reading_copy(copy) as connection:
            yield from joined(chain(records(connection), receipts(connection)))


def records(connection: sqlite3.Connection) -> Iterator[dict[str, Any]]:
    """Yields the log, oldest first."""
    for position, kind, data in connection.execute("SELECT position, kind, data FROM log ORDER BY position"):
        record = tables.decode_at(position, kind, data)
        yield {"type": "record", "position": position, "record": kind, **inspect_session.record_json(record)}


def receipts(connection: sqlite3.Connection) -> Iterator[dict[str, Any]]:
    """Yields what was answered to requests with a key."""
    for key, request, answer in connection.execute("SELECT key, request, answer FROM keys ORDER BY key"):
        yield {"type": "receipt", "key": text_of(key), "request": text_of(request), "answer": parse(answer)}


def joined(found: Iterator[dict[str, Any]]) -> Iterator[str]:
    """Yields lines of JSON, some at a time."""
    lines, size = list[str](), 0
    for each in found:
        line = json.dumps(each)
        lines.append(line)
        size += len(line)
        if size >= TEXT_AT_ONCE:
            yield "\n".join(lines)
            lines, size = [], 0
    if lines:
        yield "\n".join(lines)
