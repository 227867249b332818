"""Exports a session's file for programs: a line of JSON for each thing in it.

The log may be larger than memory, so lines are made as they are read, some at a time. A session that runs changes
meanwhile, and a reader of its file may have to begin anew; so it is a backup that is read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from statemachine.stores import places
from statemachine.stores.contents import Contents
from statemachine.stores.encoding import parse, text_of
from statemachine.stores.errors import StoreCorrupt
from statemachine.stores.rows import decode_at
from statemachine.stores.sqlite import reading
from statemachine.stores.sqlite.backup import Progress

from . import inspect_session

TEXT_AT_ONCE = 100_000
"""Characters that are printed at a time, or the length of one line."""


def export(place: str | Path, progress: Progress) -> Iterator[str]:
    """Yields the lines, some at a time. `place` is a file or a DSN. Raises `StoreError`."""
    with TemporaryDirectory() as folder:
        copy = os.path.join(folder, "session")
        places.back_up(place, copy, progress)
        try:
            yield from lines_of(copy, places.shown(place))
        except StoreCorrupt as error:  # what is damaged is not only the copy
            error.path = places.shown(place)
            error.args = (error.path, *error.args[1:])
            raise


def lines_of(copy: str, shown: str) -> Iterator[str]:
    """Yields the lines of a copy of the session that is named `shown`, some at a time. Raises `StoreError`."""
    found = inspect_session.as_json(inspect_session.inspect(Path(copy)))
    agents = found.pop("agents")
    found |= {"path": shown}
    yield from joined(chain([{"type": "session", **found}], ({"type": "agent", **agent} for agent in agents)))
    with reading.reading_copy(copy) as contents:
        yield from joined(chain(records(contents), receipts(contents)))


def records(contents: Contents) -> Iterator[dict[str, Any]]:
    """Yields the log, oldest first."""
    for position, _, kind, data in contents.log():
        record = decode_at(position, kind, data)
        yield {"type": "record", "position": position, "record": kind, **inspect_session.record_json(record)}


def receipts(contents: Contents) -> Iterator[dict[str, Any]]:
    """Yields what was answered to requests with a key."""
    for key, request, answer in contents.receipts():
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
