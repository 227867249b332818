"""Records, entries and facts as JSON texts, and back: msgspec writes and reads their classes as they are.

    MailAccepted  {"kind":1,"mail":0,"message":"work","notice":null,"sender":-1,"target":1}
    TurnEnded     {"outcome":{"agent":1,"by":null,"cause":0,"raw":"done","status":1,"turn":1}}
    Entry         {"agent":1,"data":{"said":"hello"},"turn":1}

An enum is its number, which therefore never changes (`tests/stores/test_encoding.py` has them all). A result that is
not a text is an object with its JSON text. The facts of a snapshot, which can be derived from the log, are lists in the
order of `AgentFacts`: opening reads those of every agent, and a list is half as long.

Reading is strict (`log/strict.py`): another type, a field too many and one too few are an `EncodingError`.

Writing checks no types, and makes a text of bytes. So what was written is read and compared, before it goes anywhere.

Texts are any texts of Python. Where one has lone surrogates, which UTF-8 and msgspec cannot say, the JSON text becomes
bytes (UTF-8 with `surrogatepass`), written and read by `json`; escapes would join two of them into one character.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import Any, cast

import msgspec

from statemachine.core.facts import NESTING_MAX, is_too_deep
from statemachine.core.records import (
    RECORDS,
    MailAccepted,
    MailDemoted,
    MailDrained,
    MailRead,
    MailWithdrawn,
    TurnEnded,
    TurnReturned,
    TurnStarted,
)
from statemachine.log import older, trace
from statemachine.log.snapshot import AgentFacts
from statemachine.log.strict import Reader, fields_of, tuple_of
from statemachine.stores.protocol import Entry, LogRecord

TEXT_MAX = 100_000_000
"""Characters in the data of an entry or in a result, as JSON; in a result that is a text, of that. SQLite takes 10**9
bytes; some have to be escaped.
"""

Stored = str | bytes
"""A text as it is stored: bytes only if it has lone surrogates."""


class EncodingError(ValueError):
    """This cannot be written, or is not what was written."""


UNREADABLE = (TypeError, ValueError, RecursionError)
"""What msgspec and json raise for what they cannot write, or read. Both derive their own errors from `ValueError`."""


# Records

OWNER: dict[type, Callable[[Any], int]] = {
    MailAccepted: attrgetter("target"),
    TurnStarted: attrgetter("agent"),
    MailDrained: attrgetter("agent"),
    MailRead: attrgetter("agent"),
    MailWithdrawn: attrgetter("agent"),
    MailDemoted: attrgetter("agent"),
    TurnReturned: attrgetter("agent"),
    TurnEnded: attrgetter("outcome.agent"),
    Entry: attrgetter("agent"),
}
"""Record class -> the agent whose rollout it belongs to. The others only change facts."""

KINDS: dict[str, type[LogRecord]] = {kind.__name__: kind for kind in (*RECORDS, Entry)}
"""Name -> record class."""


def encode(record: LogRecord) -> tuple[str, int | None, Stored]:
    """Its class name, the agent whose rollout it belongs to (None: to no rollout) and its fields.

    Raises `EncodingError` for what is not a record, or has a value that could not be read again.
    """
    kind = record.__class__
    name = kind.__name__
    if KINDS.get(name) is not kind:
        raise EncodingError(f"a {name} is not a record")
    owner, reader = OWNER.get(kind), RECORD_READERS[name]
    try:
        if kind is Entry:
            to_json(cast("Entry", record).data)  # what it is read as may be another value: a list for a tuple
        data = _written(record)
        if _read_own(reader, data) != record and kind is not Entry:
            raise ValueError(f"it would be read as {_read_own(reader, data)!r:.200}")
        return name, None if owner is None else owner(record), data
    except (AttributeError, *UNREADABLE) as error:
        raise EncodingError(f"this {name} cannot be written: {error}") from None


def decode(kind: str, data: Stored) -> LogRecord:
    """The record with this class name and these fields. Raises `EncodingError`."""
    reader = RECORD_READERS.get(kind)
    if reader is None:
        raise EncodingError(f"{kind!r:.100} is not a kind of record")
    record: LogRecord = _read(reader, data, kind)
    return record


# Facts

FACTS = fields_of(AgentFacts)
facts_fields: Callable[[AgentFacts], tuple[Any, ...]] = attrgetter(*FACTS)


def encode_facts(facts: AgentFacts) -> Stored:
    """The facts as a list. Raises `EncodingError`."""
    fields = facts_fields(facts)
    try:
        data = _written(fields)
        if _read_own(FACTS_READER, data) != fields:
            raise ValueError(f"they would be read as {_read_own(FACTS_READER, data)!r:.200}")
        return data
    except UNREADABLE as error:
        raise EncodingError(f"these facts cannot be written: {error}") from None


def decode_facts(data: Stored) -> AgentFacts:
    """The facts in this list. Raises `EncodingError`."""
    return AgentFacts(*_read(FACTS_READER, data, "the facts of an agent"))


# What earlier versions wrote


def record_of_today(kind: str, data: Stored) -> Stored:
    """The fields of a record, as they are written now. Raises `EncodingError`."""
    if kind not in KINDS:
        raise EncodingError(f"{kind!r:.100} is not a kind of record")
    return encode(_converted(partial(older.record, kind), data, KINDS[kind]))[2]


def facts_of_today(data: Stored) -> Stored:
    """The facts of an agent, as they are written now. Raises `EncodingError`."""
    return encode_facts(_converted(older.facts, data, AgentFacts))


def request_of_today(request: str) -> str:
    """The request of a receipt, as it is written now. One that is not an event's line is whatever its writer wanted."""
    try:
        return trace.event_line(trace.event_of(request.encode("utf-8", "surrogatepass"), 2)).decode().strip()
    except trace.TraceError:
        return request


def _converted(change: Callable[[Any], Any], data: Stored, kind: type[Any]) -> Any:
    try:
        return Reader(kind, whole=False).convert(change(parse(data)))
    except (AttributeError, KeyError, *UNREADABLE) as error:
        raise EncodingError(f"{data!r:.200} is not a {kind.__name__} of an earlier version: {error!r}") from None


# With msgspec, and the small path beside it

ENCODER = msgspec.json.Encoder()
RECORD_READERS = {name: Reader(kind) for name, kind in KINDS.items()}
FACTS_READER = Reader(tuple_of(FACTS.values()))


def _written(value: Any) -> Stored:
    try:
        return ENCODER.encode(value).decode()
    except UnicodeEncodeError:
        return JSON_ENCODER.encode(msgspec.to_builtins(value)).encode("utf-8", "surrogatepass")


def _read_own(reader: Reader, data: Stored) -> Any:
    return reader.decode_own(data) if isinstance(data, str) else reader.convert(parse(data))


def _read(reader: Reader, data: Stored, what: str) -> Any:
    try:
        return reader.decode(data) if isinstance(data, str) else reader.convert(parse(data))
    except UNREADABLE as error:
        raise EncodingError(f"{data!r:.200} is not {what}: {error}") from None


# Texts


def stored(text: str) -> Stored:
    """The text as it can be stored."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def text_of(data: Any) -> str:
    """The text that was stored. Raises `EncodingError` for what is not one."""
    if isinstance(data, str):
        return data
    if not isinstance(data, bytes):
        raise EncodingError(f"{data!r:.100} is not a text")
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise EncodingError(f"{data!r:.100} is not UTF-8") from None


# JSON of callers


def to_json(value: Any) -> str:
    """The JSON text of a value, as entries have it. Raises `EncodingError` for what JSON does not have: other classes,
    numbers that are not finite, what is nested more than `NESTING_MAX` deep, or longer than `TEXT_MAX`.
    """
    try:
        text = JSON_ENCODER.encode(value)
    except UNREADABLE as error:
        raise EncodingError(f"a value of class {type(value).__name__}, which is not a JSON value: {error}") from None
    if is_too_deep(value, text):
        raise EncodingError(f"a value of class {type(value).__name__}, nested more than {NESTING_MAX} deep")
    if len(text) > TEXT_MAX:
        raise EncodingError(
            f"a value of class {type(value).__name__}, {len(text):,} characters as JSON, more than {TEXT_MAX:,}"
        )
    return text


def parse(data: Stored) -> Any:
    """The value of a JSON text. Raises `EncodingError` for what is not one."""
    text = data if isinstance(data, str) else text_of(data)
    try:
        value, end = JSON_DECODER.raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise EncodingError(f"{text!r:.100} is not JSON: {error}") from None
    if end != len(text):
        raise EncodingError(f"{text!r:.100} goes on after its JSON")
    return value


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


# A value that contains itself is found by the depth of the stack.
JSON_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"))
JSON_DECODER = json.JSONDecoder(parse_constant=_no_constant)
