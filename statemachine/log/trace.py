"""Traces: what happened to a session, one JSON object a line, so that it can happen again.

    {"format":"agent-statemachine-trace","version":2,"config":{"max_concurrent":4, ...}}
    {"event":"Spawn","parent":0,"name":"a","message":"work","settings":null,"sender":-1}
    {"event":"Restart"}

The first line says what the file is, and the whole configuration; then comes one line an event, with every field by its
name. The core is deterministic, so configuration and events are the session (section 5). How a field is written follows
from its annotation. Numbers that JSON does not have are the words "inf", "-inf" and "nan".

Version 1 had no causes; those of its facts are told from their words (`older.py`).

Reading is strict: whatever `write` would not have written is a `TraceError`, because a trace that is not quite what it
seems shows something that never happened.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

import attrs
from attrs import frozen

from statemachine.core.config import SessionConfig
from statemachine.core.events import EVENTS, Event, Failed, Restart
from statemachine.core.facts import Json, Result
from statemachine.core.ledger import Ledger
from statemachine.core.refusals import InvalidConfig
from statemachine.log.older import with_causes
from statemachine.log.snapshot import AgentFacts, facts_of, ledger_of

__all__ = ["Facts", "Trace", "TraceError", "event_line", "header_line", "read", "write"]

FORMAT = "agent-statemachine-trace"
VERSION = 2
HEADER_BYTES_MAX = 1 << 16
"""What has a longer first line is read on only if it begins as a trace does."""

BEGINNING = f'{{"format":"{FORMAT}",'.encode()

T = TypeVar("T")


class TraceError(ValueError):
    """This is no trace that can be read, or no event that can be written; the message says what to do.

    `path` is the file, and `line` the line in it, counted from 1. Both may be unknown.
    """

    def __init__(self, problem: str, line: int | None = None, path: str | None = None) -> None:
        super().__init__(problem)
        self.problem, self.line, self.path = problem, line, path

    def __str__(self) -> str:
        place = [] if self.path is None else [self.path]
        if self.line is not None:
            place.append(f"line {self.line}")
        return f"{', '.join(place)}: {self.problem}" if place else self.problem


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
    header: Header | None = None
    events: list[Event | Restart] = []
    try:
        with path.open("rb") as file:
            line = file.readline(HEADER_BYTES_MAX)
            if line.startswith(BEGINNING):
                line += file.readline() if not line.endswith(b"\n") else b""
            header = header_of(line)
            for line in file:
                events.append(event_of(line, header.version))  # noqa: PERF401  (how many there are says which failed)
    except TraceError as error:
        raise TraceError(error.problem, 1 if header is None else len(events) + 2, str(path)) from None
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}; give the path of a trace file"
        raise TraceError(problem, None, str(path)) from None
    return Trace(header.config, tuple(events), header.facts)


# Lines


def header_line(config: SessionConfig, ledger: Ledger | None = None) -> bytes:
    """The first line of a trace; `ledger` has the facts with which the session began, None if it was new."""
    header = {"format": FORMAT, "version": VERSION, "config": _to_json(SessionConfig, config)}
    if ledger is not None:
        facts = Facts(tuple([facts_of(ledger, agent) for agent in ledger.agents]), tuple(ledger.mail_states))
        header["facts"] = _to_json(Facts, facts)
    return _line(header)


def event_line(event: Event | Restart) -> bytes:
    """The line of an event. Raises `TraceError` for what is no event, or has a value that no reader would take."""
    kind = event.__class__
    if KINDS.get(kind.__name__) is not kind:
        raise TraceError(f"{event!r} is no event of statemachine.core.events")
    return _line({"event": kind.__name__, **_to_json(kind, event)})


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
        raise TraceError(f'this is no trace: a trace begins with {{"format":"{FORMAT}", ...}}; give another file')
    version = header.get("version")
    if type(version) is not int or version < 1:
        raise TraceError(f"'version' must be a whole number from 1, not {version!r}; write the trace again")
    if version > VERSION:
        raise TraceError(
            f"this trace has version {version}, newer than {VERSION}; read it with a newer agent-statemachine"
        )
    _only(header, ("format", "version", "config", *(["facts"] if "facts" in header else [])), "the header")
    try:
        config = _from_json(SessionConfig, header["config"], "config")
    except InvalidConfig as error:
        raise TraceError(f"no session can have this config: {error}") from None
    if "facts" not in header:
        return Header(config, None, version)
    facts = _from_json(Facts, with_causes(header["facts"]) if version == 1 else header["facts"], "facts")
    try:
        ledger_of(config, facts.agents, facts.mail_states)
    except ValueError as error:
        raise TraceError(f"no session can have these facts: {error}") from None
    return Header(config, facts, version)


def event_of(line: bytes, version: int = VERSION) -> Event | Restart:
    """The event in a later line of a trace of this version."""
    found = _object(line)
    name = found.pop("event", None)
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise TraceError(f"{name!r} is no event; the field 'event' must be one of {', '.join(KINDS)}")
    if version == 1 and kind is Failed:
        found.setdefault("cause", "failed")
    event: Event | Restart = _from_json(kind, found, kind.__name__)
    return event


KINDS: dict[str, type[Event] | type[Restart]] = {kind.__name__: kind for kind in (*EVENTS, Restart)}
"""Name -> event class."""


# JSON


def _line(value: dict[str, Any]) -> bytes:
    # What UTF-8 cannot say are lone surrogates, and their replacement is just how JSON escapes them.
    return f"{json.dumps(value, ensure_ascii=False, separators=(',', ':'))}\n".encode("utf-8", "backslashreplace")


def _object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line.decode(), object_pairs_hook=_fields_once, parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise TraceError("this is not UTF-8; a trace is text, so give another file") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, TraceError):
            raise
        cut = "" if line.endswith(b"\n") else ", and the line has no end: remove it to read what comes before"
        raise TraceError(f"this is no line of JSON ({error}){cut}") from None
    if not isinstance(value, dict):
        raise TraceError("this is no JSON object; every line of a trace is {...}")
    return cast("dict[str, Any]", value)


def _fields_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise TraceError("a field stands twice; leave one of them")
    return fields


def _no_constant(word: str) -> None:
    raise TraceError(f'{word} is not JSON; write "inf", "-inf" or "nan"')


def _only(found: dict[str, Any], expected: Iterable[str], where: str) -> None:
    if missing := [name for name in expected if name not in found]:
        raise TraceError(f"{where} has no field '{missing[0]}'; a trace says every field")
    if extra := [name for name in found if name not in expected]:
        raise TraceError(f"{where} has a field '{extra[0]}' that it should not have; remove it")


def _to_json(kind: type, value: Any) -> dict[str, Any]:
    return {
        name: field.codec.encode(getattr(value, field.attribute), f"{kind.__name__}.{name}")
        for name, field in FIELDS[kind].items()
    }


def _from_json(kind: type[T], found: Any, where: str) -> T:
    if not isinstance(found, dict):
        raise TraceError(f"'{where}' must be a JSON object, not {found!r}")
    said, fields = cast("dict[str, Any]", found), FIELDS[kind]
    _only(said, fields, where)
    return kind(**{name: field.codec.decode(said[name], f"{where}.{name}") for name, field in fields.items()})


# Fields


@frozen
class Codec:
    """How values of one annotation are written (`encode`) and read (`decode`); both are told where, for complaints."""

    encode: Callable[[Any, str], Any]
    decode: Callable[[Any, str], Any]


@frozen
class Field:
    """One field of a class: the attribute that holds it, and how it is written and read. It is written by the name that
    the constructor has for it.
    """

    attribute: str
    codec: Codec


def codec_of(annotation: Any) -> Codec:
    """The codec for an annotation. Raises `TypeError` for one that no event and no configuration has yet."""
    if annotation in PLAIN:
        return PLAIN[annotation]
    if get_origin(annotation) is tuple and get_args(annotation)[1:] == (Ellipsis,):
        return _tuple_of(codec_of(get_args(annotation)[0]))
    if get_origin(annotation) is UnionType and NoneType in get_args(annotation):
        (other,) = (kind for kind in get_args(annotation) if kind is not NoneType)
        return _or_none(codec_of(other))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return _member_of(annotation)
    if isinstance(annotation, type) and attrs.has(annotation):
        return _record_of(annotation)
    raise TypeError(f"a trace cannot hold {annotation}; teach statemachine.log.trace how to write it")


def _same(kind: type, words: str) -> Codec:
    def same(value: Any, where: str) -> Any:
        if type(value) is not kind:  # a bool is no number here
            raise TraceError(f"{where} must be {words}, not {value!r}")
        return value

    return Codec(same, same)


def _number(value: Any, where: str) -> int | float:
    if type(value) is float:
        return value
    if type(value) is not int or abs(value) >> 1023:  # more than any float, so no time
        raise TraceError(f"{where} must be a number, not {value!r:.60}")
    return value


def _write_number(value: Any, where: str) -> int | float | str:
    number = _number(value, where)
    return number if math.isfinite(number) else str(number)


def _read_number(value: Any, where: str) -> int | float:
    return float(value) if value in ("inf", "-inf", "nan") else _number(value, where)


def _write_result(value: Any, where: str) -> Any:
    return value.value if isinstance(value, Json) else PLAIN[str].encode(value, where)


def _read_result(value: Any, where: str) -> Result:
    try:
        return value if isinstance(value, str) else Json(value)
    except (ValueError, RecursionError) as error:  # of a number that is larger than any float
        raise TraceError(f"{where} must be a JSON value: {error}") from None


def _or_none(other: Codec) -> Codec:
    return Codec(
        lambda value, where: None if value is None else other.encode(value, where),
        lambda value, where: None if value is None else other.decode(value, where),
    )


def _tuple_of(item: Codec) -> Codec:
    def each(convert: Callable[[Any, str], Any], sequence: type[Any], words: str) -> Callable[[Any, str], Any]:
        def convert_all(value: Any, where: str) -> Any:
            if type(value) is not sequence:
                raise TraceError(f"{where} must be {words}, not {value!r}")
            return [convert(one, f"{where}[{index}]") for index, one in enumerate(value)]

        return convert_all

    read_all = each(item.decode, list, "a JSON array")
    return Codec(each(item.encode, tuple, "a tuple"), lambda value, where: tuple(read_all(value, where)))


def _record_of(kind: type) -> Codec:
    def write_record(value: Any, where: str) -> Any:
        if type(value) is not kind:
            raise TraceError(f"{where} must be a {kind.__name__}, not {value!r}")
        return _to_json(kind, value)

    def read_record(value: Any, where: str) -> Any:
        return _from_json(cast("type[Any]", kind), value, where)

    FIELDS[kind] = _fields(kind)
    return Codec(write_record, read_record)


def _member_of(kind: type[Enum]) -> Codec:
    """By value, or by name if values are numbers."""
    words = {member: member.value if isinstance(member.value, str) else member.name.lower() for member in kind}
    members = {word: member for member, word in words.items()}

    def write_member(value: Any, where: str) -> Any:
        if not isinstance(value, kind):
            raise TraceError(f"{where} must be a {kind.__name__}, not {value!r}")
        return words[value]

    def read_member(value: Any, where: str) -> Any:
        if not isinstance(value, str) or value not in members:
            raise TraceError(f"{where} must be one of {', '.join(members)}, not {value!r}")
        return members[value]

    return Codec(write_member, read_member)


PLAIN: dict[Any, Codec] = {
    int: _same(int, "a whole number"),
    str: _same(str, "a text"),
    bool: _same(bool, "true or false"),
    float: Codec(_write_number, _read_number),
    Result: Codec(_write_result, _read_result),
}


def _fields(kind: type) -> dict[str, Field]:
    hints = get_type_hints(kind)
    return {found.alias: Field(found.name, codec_of(hints[found.name])) for found in attrs.fields(kind)}


FIELDS: dict[type, dict[str, Field]] = {}
"""Class -> its fields in their order."""
FIELDS.update({kind: _fields(kind) for kind in (SessionConfig, Facts, *KINDS.values())})
