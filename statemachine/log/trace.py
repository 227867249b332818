"""Traces: what happened to a session, one JSON object a line, so that it can happen again.

    {"format":"agent-statemachine-trace","version":3,"config":{"max_concurrent":4, ...}}
    {"event":"Spawn","parent":0,"name":"a","message":"work","settings":null,"sender":-1}
    {"event":"Restart"}

The first line says what the file is, and the whole configuration; then comes one line an event, with every field by its
name. The core is deterministic, so configuration and events are the session (section 5). msgspec takes their classes as
they are: an enum is its value, a result that is not a text an object with its JSON text. Numbers that JSON does not
have are the words "inf", "-inf" and "nan". A number that is too large for one is not read as infinite.

What versions 1 and 2 wrote otherwise is brought up to date by `older.py`.

Reading is strict: whatever `write` would not have written is a `TraceError`, because a trace that is not quite what it
seems shows something that never happened.
"""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast, get_args

import msgspec
from attrs import frozen

from statemachine.core import exact
from statemachine.core.config import SessionConfig
from statemachine.core.events import EVENTS, Event, Restart
from statemachine.core.ledger import Ledger
from statemachine.core.refusals import InvalidConfig
from statemachine.log import older
from statemachine.log.recovery import refuse_too_small
from statemachine.log.snapshot import AgentFacts, facts_of, ledger_of
from statemachine.log.strict import Reader, fields_of, shape_of

__all__ = ["Facts", "Trace", "TraceError", "event_line", "header_line", "read", "write"]

FORMAT = "agent-statemachine-trace"
VERSION = 3
HEADER_BYTES_MAX = 1 << 16
"""What has a longer first line is read on only if it begins as a trace does."""

PROBLEM_MAX = 1_000
"""Most characters of an error."""
PATH_MAX = 1_000
"""Most characters of the path in its message."""

BEGINNING = f'{{"format":"{FORMAT}",'.encode()
EVENT_BEGINNING = b'{"event":"'
"""As `write` and `Writer` begin every line but the first."""


class TraceError(ValueError):
    """This is not a trace that can be read, or not an event that can be written; the message says what to do.

    `path` is the file, and `line` the line in it, counted from 1. Both may be unknown. A problem is cut off where it
    quotes too much.
    """

    def __init__(self, problem: str, line: int | None = None, path: str | None = None) -> None:
        problem = problem if len(problem) <= PROBLEM_MAX else f"{problem[:PROBLEM_MAX]}..."
        super().__init__(problem)
        self.problem, self.line, self.path = problem, line, path

    def __str__(self) -> str:
        place = [] if self.path is None else [exact.bounded(_printable(self.path), PATH_MAX)]
        if self.line is not None:
            place.append(f"line {self.line}")
        return f"{', '.join(place)}: {self.problem}" if place else self.problem


def _printable(path: str) -> str:
    """Returns the path; or its `repr`, if no output takes it: it has a NUL or a lone surrogate."""
    try:
        return path if "\0" not in path and path.encode() else repr(path)
    except UnicodeEncodeError:
        return repr(path)


@frozen
class Facts:
    """All agents of a session, and how many mails are in which state: what its log said when it was opened."""

    agents: tuple[AgentFacts, ...]
    mail_states: tuple[int, ...]


@frozen
class Trace:
    """A configuration, and everything that happened to a session with it. The session began with these facts, as it
    was recovered from its log, or (None) it was new.
    """

    config: SessionConfig
    events: tuple[Event | Restart, ...]
    facts: Facts | None = None


@frozen
class Header:
    """What the first line of a trace says."""

    config: SessionConfig
    facts: Facts | None
    version: int
    """Of the format; the events that follow are written in it."""


# Files


def write(path: Path, config: SessionConfig, events: Iterable[Event | Restart]) -> None:
    """Writes a whole trace; a file that is there is replaced. Raises `TraceError` before anything is written."""
    lines = [header_line(config), *map(event_line, events)]
    path.write_bytes(b"".join(lines))


def read(path: Path) -> Trace:
    """Reads a whole trace. Raises `TraceError`, with the number of the line, for anything that is none."""
    return _read_lines(path, leaves_out=False)[0]


def read_what_is_whole(path: Path) -> tuple[Trace, bool]:
    """Reads a trace, without a last line that was cut off by the end of its process. Returns also whether there was
    one. Raises `TraceError` as `read` does.
    """
    return _read_lines(path, leaves_out=True)


def _read_lines(path: Path, *, leaves_out: bool) -> tuple[Trace, bool]:
    header: Header | None = None
    events: list[Event | Restart] = []
    line, is_cut = b"", False
    check_regular(path)
    try:
        with path.open("rb") as file:
            line = file.readline(HEADER_BYTES_MAX)
            if line.startswith(BEGINNING):
                line += file.readline() if not line.endswith(b"\n") else b""
            header = header_of(line)
            for line in file:
                events.append(event_of(line, header.version))
    except TraceError as error:
        is_cut = leaves_out and header is not None and is_cut_off(line)
        if header is None or not is_cut:
            number = 1 if header is None else len(events) + 2
            raise TraceError(error.problem, number, str(path)) from None
    except OSError as error:
        raise unreadable(path, error) from None
    return Trace(header.config, tuple(events), header.facts), is_cut


def check_regular(path: Path) -> None:
    """Raises `TraceError` for what is not a regular file: reading a pipe could wait for ever."""
    try:
        is_regular = stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise unreadable(path, error) from None
    if not is_regular:
        raise TraceError("is not a regular file; give the path of a trace file", None, str(path))


def unreadable(path: Path, error: Exception) -> TraceError:
    """Returns the error for a file that cannot be read."""
    problem = f"cannot be read: {getattr(error, 'strerror', None) or error}; give the path of a trace file"
    return TraceError(problem, None, str(path))


# Lines


def header_line(config: SessionConfig, ledger: Ledger | None = None) -> bytes:
    """The first line of a trace; `ledger` has the facts with which the session began, None if it was new."""
    header = {"format": FORMAT, "version": VERSION, "config": msgspec.to_builtins(config)}
    if ledger is not None:
        facts = Facts(tuple([facts_of(ledger, agent) for agent in ledger.agents]), tuple(ledger.mail_states))
        header["facts"] = msgspec.to_builtins(facts)
    return _line(header)


def event_line(event: Event | Restart) -> bytes:
    """The line of an event. Raises `TraceError` for what is not an event, or has a value that no reader would take."""
    kind = event.__class__
    if KINDS.get(kind.__name__) is not kind:
        raise TraceError(f"{event!r:.200} is not an event of statemachine.core.events")
    try:
        fields = msgspec.to_builtins(event)
        msgspec.convert(fields, kind)
    except UNREADABLE as error:
        raise TraceError(f"{kind.__name__}: {error}") from None
    for name in NUMBERS[kind]:
        if not math.isfinite(fields[name] or 0):
            fields[name] = str(fields[name])
    # In an order of our own, because a repeated key is compared by this line.
    return _line({"event": kind.__name__, **{name: fields[name] for name in fields_of(kind)}})


def config_of(line: bytes) -> SessionConfig:
    """The configuration in the first line of a trace."""
    return header_of(line).config


def header_of(line: bytes) -> Header:
    """What the first line of a trace says."""
    if not line:
        raise TraceError("the file is empty; a trace begins with a header")
    try:
        header = _object(line)
    except TraceError:
        header = {}
    if header.get("format") != FORMAT:
        raise TraceError(f'this is not a trace: a trace begins with {{"format":"{FORMAT}", ...}}; give another file')
    version = header.get("version")
    if type(version) is not int or version < 1:
        raise TraceError(f"'version' must be a whole number from 1, not {version!r:.100}; write the trace again")
    if version > VERSION:
        raise TraceError(
            f"this trace has version {version}, newer than {VERSION}; read it with a newer agent-statemachine"
        )
    _only(header, ("format", "version", "config", *(["facts"] if "facts" in header else [])), "the header")
    told = header["config"]
    if version < VERSION:
        told = _up_to_date(lambda: older.config(told))
    try:
        config = SessionConfig(**_config_fields(told))
    except InvalidConfig as error:
        raise TraceError(f"no session can have this config: {error}") from None
    if "facts" not in header:
        return Header(config, None, version)
    found = header["facts"]
    if version < VERSION:
        found = _up_to_date(lambda: {**found, "agents": [older.facts(one) for one in found["agents"]]})
    facts: Facts = _read((FACTS, OLDER_FACTS)[version < VERSION], found, "facts")
    try:
        refuse_too_small(config, ledger_of(config, facts.agents, facts.mail_states))
    except InvalidConfig as error:
        raise TraceError(f"no session with these facts can have this config: {error}") from None
    except ValueError as error:
        raise TraceError(f"no session can have these facts: {error}") from None
    return Header(config, facts, version)


def event_of(line: bytes, version: int = VERSION) -> Event | Restart:
    """The event in a later line of a trace of this version."""
    found = _object(line)
    name = found.pop("event", None)
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise TraceError(f"{name!r:.100} is not an event; the field 'event' must be one of {', '.join(KINDS)}")
    if version < VERSION:
        found = _up_to_date(lambda: older.event(kind.__name__, found))
    for number in NUMBERS[kind]:
        if found.get(number) in ("inf", "-inf", "nan"):
            found[number] = float(found[number])
    event: Event | Restart = _read((READERS, OLDER_READERS)[version < VERSION][kind], found, kind.__name__)
    return event


def is_cut_off(line: bytes) -> bool:
    """Tells whether this is the beginning of a line of an event, as the last line is where a process died in the
    middle of it.
    """
    return not line.endswith(b"\n") and (line.startswith(EVENT_BEGINNING) or EVENT_BEGINNING.startswith(line))


KINDS: dict[str, type[Event] | type[Restart]] = {kind.__name__: kind for kind in (*EVENTS, Restart)}
"""Name -> event class."""


# JSON


def _line(value: dict[str, Any]) -> bytes:
    # What UTF-8 cannot say are lone surrogates, and their replacement is just how JSON escapes them.
    return f"{json.dumps(value, ensure_ascii=False, separators=(',', ':'))}\n".encode("utf-8", "backslashreplace")


def _object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(
            line.decode(), object_pairs_hook=_fields_once, parse_float=_float, parse_constant=_no_constant
        )
    except UnicodeDecodeError:
        raise TraceError("this is not UTF-8; a trace is text, so give another file") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, TraceError):
            raise
        cut = "" if line.endswith(b"\n") else ", and the line has no end: remove it to read what comes before"
        raise TraceError(f"this is not a line of JSON ({error}){cut}") from None
    if not isinstance(value, dict):
        raise TraceError("this is not a JSON object; every line of a trace is {...}")
    return cast("dict[str, Any]", value)


def _fields_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise TraceError("a field stands twice; leave one of them")
    return fields


def _no_constant(word: str) -> None:
    raise TraceError(f'{word} is not JSON; write "inf", "-inf" or "nan"')


def _float(word: str) -> float:
    number = float(word)
    if math.isinf(number):
        raise TraceError(f"{word:.100} is beyond all numbers; no trace has it")
    return number


def _only(found: dict[str, Any], expected: Iterable[str], where: str) -> None:
    if missing := [name for name in expected if name not in found]:
        raise TraceError(f"{where} has no field '{missing[0]}'; a trace says every field")
    if extra := [name for name in found if name not in expected]:
        raise TraceError(f"{where} has a field '{extra[0]:.100}' that it should not have; remove it")


def _up_to_date(change: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return change()
    except (KeyError, TypeError, ValueError) as error:
        raise TraceError(f"no earlier version wrote this: {error!r:.200}; write the trace again") from None


def _read(reader: Reader, found: Any, where: str) -> Any:
    try:
        return reader.convert(found)
    except UNREADABLE as error:
        raise TraceError(f"{where}: {error}") from None


def _config_fields(found: Any) -> dict[str, Any]:
    try:
        return msgspec.structs.asdict(msgspec.convert(found, CONFIG))
    except UNREADABLE as error:
        raise TraceError(f"config: {error}") from None


UNREADABLE = (TypeError, ValueError, RecursionError)
"""What msgspec and json raise for what they cannot write, or read. Both derive their own errors from `ValueError`."""
READERS = {kind: Reader(kind) for kind in KINDS.values()}
OLDER_READERS = {kind: Reader(kind, whole=False) for kind in KINDS.values()}
"""What an earlier version did not have yet has its default."""
FACTS, OLDER_FACTS = Reader(Facts), Reader(Facts, whole=False)
CONFIG: type[msgspec.Struct] = shape_of(SessionConfig)
"""The fields of a configuration. They are given to its constructor, which checks them and knows their defaults."""
NUMBERS: dict[type, tuple[str, ...]] = {
    kind: tuple([name for name, of in fields_of(kind).items() if float in {of, *get_args(of)}])
    for kind in KINDS.values()
}
"""Event class -> its fields that may be numbers which JSON does not have."""
