"""Records, entries and facts as JSON texts, and back: msgspec writes and reads their classes as they are.

    TurnStopped   {"agent":1,"at":1800000000.25,"below":null,"by":-1,"cause":7,"turn":1}
    TurnEnded     {"at":null,"outcome":{"agent":1,"by":null,"cause":0,"raw":"ok","status":1,"turn":1},"traceback":null}
    Entry         {"agent":1,"at":1800000000.25,"data":{"said":"hello"},"turn":1}

An enum is its number, which therefore never changes (`tests/stores/test_encoding.py` has them all). A result that is
not a text is an object with its JSON text. The facts of a snapshot, which can be derived from the log, are lists in the
order of `AgentFacts`: opening reads those of every agent, and a list is half as long.

Reading is strict (`log/strict.py`): another type, a field too many and one too few are an `EncodingError`.

Writing checks no types, and makes a text of bytes. So if anything in a record has another class than its field, what
was written is read and compared before it goes anywhere; the data of an entry always are. Facts are what such records
came to.

Texts are any texts of Python. Where one has lone surrogates, which UTF-8 and msgspec cannot say, the JSON text becomes
bytes (UTF-8 with `surrogatepass`), written and read by `json`; escapes would join two of them into one character.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import msgspec

from statemachine.core import exact
from statemachine.core.config import SessionConfig
from statemachine.core.facts import NESTING_MAX, Json, is_too_deep
from statemachine.core.machines import TurnState
from statemachine.core.records import (
    RECORDS,
    AgentSpawned,
    Cause,
    MailAccepted,
    MailDemoted,
    MailDrained,
    MailKind,
    MailRead,
    MailWithdrawn,
    Outcome,
    TurnEnded,
    TurnReturned,
    TurnStarted,
    TurnStopped,
)
from statemachine.log import older, texts, trace
from statemachine.log.snapshot import AgentFacts
from statemachine.log.strict import Reader, fields_of, tuple_of
from statemachine.stores.limits import ROW_BYTES_MAX, is_larger
from statemachine.stores.protocol import Entry, LogRecord, Receipt, Snapshot, Write

Stored = str | bytes
"""A text as it is stored: bytes only if it has lone surrogates."""


class EncodingError(ValueError):
    """This cannot be written, or is not what was written."""

    def __init__(self, problem: str, agent: int | None = None) -> None:
        super().__init__(problem)
        self.agent = agent
        """The one agent that it is about, if it was read and is about one."""


ID_MAX = 2**63 - 1
"""The largest id of an agent that SQLite can hold. No session gives so many."""


UNREADABLE = (TypeError, ValueError, RecursionError)
"""What msgspec and json raise for what they cannot write, or read. Both derive their own errors from `ValueError`."""


# Records

OWNER: dict[type, Callable[[Any], int]] = {
    MailAccepted: attrgetter("target"),
    MailWithdrawn: attrgetter("agent"),
    MailDemoted: attrgetter("agent"),
    TurnStarted: attrgetter("agent"),
    MailDrained: attrgetter("agent"),
    MailRead: attrgetter("agent"),
    TurnStopped: attrgetter("agent"),
    TurnReturned: attrgetter("agent"),
    TurnEnded: attrgetter("outcome.agent"),
    Entry: attrgetter("agent"),
}
"""Record class -> the agent whose rollout it belongs to. The others only change facts."""

KINDS: dict[str, type[LogRecord]] = {kind.__name__: kind for kind in (*RECORDS, Entry)}
"""Name -> record class."""


ENTRY = Entry.__name__


def encode(record: LogRecord) -> tuple[str, int | None, Stored]:
    """Its class name, the agent whose rollout it belongs to (None: to no rollout) and its fields.

    Raises `EncodingError` for what is not a record, or has a value that could not be read again.
    """
    kind = record.__class__
    try:
        name, owner, is_exact = WAYS[kind]
    except KeyError:
        raise EncodingError(f"a {kind.__name__} is not a record") from None
    try:
        try:
            data: Stored = WRITE(record).decode() if is_exact(record) else _checked(record)
        except UnicodeEncodeError:
            data = _written(record)
        if len(data) * 4 > ROW_BYTES_MAX:
            _check_size(data)
        return name, None if owner is None else owner(record), data
    except Exception as error:  # of msgspec, or of a value in it
        raise EncodingError(f"this {name} cannot be written: {exact.said(error)}") from None


def check_id(agent: int | None) -> None:
    """Raises `EncodingError` for the id of an agent that no store can hold. None is the agent of no rollout."""
    if agent is not None and not (type(agent) is int and 0 <= agent <= ID_MAX):
        raise EncodingError(f"an agent has an id from 0 to {ID_MAX}, and not {exact.shown(agent)}")


def is_id(agent: int) -> bool:
    """Tells whether an agent can have this id."""
    return type(agent) is int and 0 <= agent <= ID_MAX


def _checked(record: LogRecord) -> Stored:
    """The text of a record that may not be read as it is, which raises an error."""
    if isinstance(record, Entry):
        return _entry_text(record)
    data = _written(record)
    back = _read(RECORD_READERS[record.__class__.__name__], data, "what was written")
    if back != record:
        raise ValueError(f"it would be read as {back!r:.200}")
    return data


def _entry_text(entry: Entry) -> Stored:
    """Data that would be read otherwise, such as a tuple, is written as JSON has it, if JSON has it at all."""
    reader = RECORD_READERS["Entry"]
    try:
        data = _written(entry)
        if _read(reader, data, "Entry") != entry:
            raise ValueError("it would be read otherwise")
    except UNREADABLE:
        data = _written(Entry(entry.agent, entry.turn, parse(to_json(entry.data)), at=entry.at))
        _read(reader, data, "Entry")
    if is_too_deep(entry.data, text_of(data)):
        to_json(entry.data)  # says what is wrong with it
    return data


WITH_TEXTS = frozenset({MailAccepted, AgentSpawned})
"""The records that `check_texts` judges."""


def check_texts(record: LogRecord) -> None:
    """Raises `EncodingError` for settings or headers in which reading would find damage, so that nothing is written
    that could not be opened again.
    """
    problem = texts.texts_problem(record)
    if problem is not None:
        raise EncodingError(f"this {record.__class__.__name__} cannot be written: {problem}")


def _check_size(data: Stored) -> None:
    """Raises `ValueError` for what no store takes as one row."""
    if is_larger(data, ROW_BYTES_MAX):
        raise ValueError(f"it takes more than {ROW_BYTES_MAX:,} bytes")


def encode_receipt(receipt: Receipt) -> tuple[Stored, Stored, Stored]:
    """The texts of a receipt. Raises `EncodingError` for what is not one."""
    texts = (receipt.key, receipt.request, receipt.answer)
    if any(type(text) is not str for text in texts):
        raise EncodingError("a receipt has three texts, exactly of class str")
    key, request, answer = map(stored, texts)
    try:
        for data in (key, request, answer):
            _check_size(data)
    except ValueError as error:
        raise EncodingError(f"this receipt cannot be written: {error}") from None
    return key, request, answer


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
    try:
        return _written(facts_fields(facts))
    except Exception as error:  # of msgspec, or of a value in them
        raise EncodingError(f"these facts cannot be written: {exact.said(error)}") from None


def decode_facts(data: Stored) -> AgentFacts:
    """The facts in this list. Raises `EncodingError`."""
    try:  # as `_read` does, without its calls: every opening comes here for every agent
        FACTS_READER.check(data)
        return AgentFacts(*FACTS_READER.decode_only(data))
    except UNREADABLE:
        return AgentFacts(*_read(FACTS_READER, data, "the facts of an agent"))


# What earlier versions wrote


def record_of_today(kind: str, data: Stored) -> Stored:
    """The fields of a record, as they are written now. Raises `EncodingError`."""
    if kind not in KINDS:
        raise EncodingError(f"{kind!r:.100} is not a kind of record")
    return encode(_converted(partial(older.record, kind), data, OLDER_READERS[kind]))[2]


def facts_of_today(data: Stored) -> Stored:
    """The facts of an agent, as they are written now. Raises `EncodingError`."""
    return encode_facts(_converted(older.facts, data, OLDER_FACTS_READER))


def request_of_today(request: str) -> str:
    """The request of a receipt, as it is written now. One that is not an event's line is whatever its writer wanted."""
    try:
        return trace.event_line(trace.event_of(request.encode("utf-8", "surrogatepass"), 2)).decode().strip()
    except trace.TraceError:
        return request


def _converted(change: Callable[[Any], Any], data: Stored, reader: Reader) -> Any:
    try:
        return reader.convert(change(parse(data)))
    except (AttributeError, KeyError, *UNREADABLE) as error:
        raise EncodingError(f"{data!r:.200} is not a {reader.kind.__name__} of an earlier version: {error!r}") from None


# With msgspec, and the small path beside it


def _compiled(kind: type) -> Callable[[Any], bool]:
    """Returns what tells of a record whether all in it has the very classes of its fields: then it is read as it is
    written. It is compiled, as attrs compiles methods, since a loop over the fields takes longer than reading.
    """
    names = {each.__name__: each for each in (int, str, float, Json, Outcome, MailKind, TurnState, Cause)}
    is_exact: Callable[[Any], bool] = eval(f"lambda record: {_parts_are_exact(kind, 'record')}", names)
    return is_exact


def _parts_are_exact(kind: type, value: str) -> str:
    return " and ".join([_is_exact(of, f"{value}.{name}") for name, of in fields_of(kind).items()])


def _is_exact(of: Any, value: str) -> str:
    if of is Any:
        return "False"
    if get_origin(of) in (UnionType, Union):
        parts = sorted(get_args(of), key=lambda part: part is not NoneType)  # None is looked for first: it is cheap
        return f"({' or '.join([_is_exact(part, value) for part in parts])})"
    if get_origin(of) is tuple:
        only = f"{{{get_args(of)[0].__name__}}}.issuperset(map(type, {value}))"
        return f"{value}.__class__ is tuple and (not {value} or {only})"
    if of is NoneType:
        return f"{value} is None"
    return f"{value}.__class__ is {of.__name__}" + (f" and {_parts_are_exact(of, value)}" if of is Outcome else "")


WRITE = msgspec.json.Encoder().encode
RECORD_READERS = {name: Reader(kind) for name, kind in KINDS.items()}
Owner = Callable[[Any], int]
WAYS: dict[type, tuple[str, Owner | None, Callable[[Any], bool]]] = {
    kind: (name, OWNER.get(kind), _compiled(kind)) for name, kind in KINDS.items()
}
"""Record class -> its name, whose it is, and what tells whether it need not be checked."""
FACTS_READER = Reader(tuple_of(FACTS.values()))
OLDER_READERS = {name: Reader(kind, whole=False) for name, kind in KINDS.items()}
OLDER_FACTS_READER = Reader(AgentFacts, whole=False)
"""What an earlier version did not have yet has its default."""


def _written(value: Any) -> Stored:
    try:
        return WRITE(value).decode()
    except UnicodeEncodeError:
        return JSON_ENCODER.encode(msgspec.to_builtins(value)).encode("utf-8", "surrogatepass")


def _read(reader: Reader, data: Stored, what: str) -> Any:
    try:
        return reader.decode(data) if isinstance(data, str) else reader.convert(parse(data))
    except UNREADABLE as error:
        raise EncodingError(f"{data!r:.200} is not {what}: {error}") from None


# What callers ask for


def asked_agent(agent: object) -> int:
    """The id that a caller asks for. Raises `TypeError` for what is not one; an id that is too large is unknown."""
    number = exact.whole(agent)
    if number is None:
        raise TypeError(f"an agent's id is a whole number, not {exact.shown(agent)}")
    return max(-1, min(number, ID_MAX))


def asked_key(key: object) -> str:
    """The key that a caller asks for. Raises `TypeError` for what is not a text."""
    text = exact.text(key)
    if text is None:
        raise TypeError(f"a key is a text, not {exact.shown(key)}")
    return text


def check_items(items: Sequence[object]) -> None:
    """Raises `EncodingError` for what cannot be appended."""
    for item in items:
        if type(item) is not Write and type(item) is not Snapshot:
            raise EncodingError(f"a Write or a Snapshot is appended, not {exact.shown(item)}")


def check_config(config: object) -> None:
    """Raises `TypeError` for what is not a configuration."""
    if type(config) is not SessionConfig:
        raise TypeError(
            f"a session is opened with a SessionConfig, as SessionConfig(max_concurrent=2), not {exact.shown(config)}"
        )


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
    numbers that are not finite, what is nested more than `NESTING_MAX` deep, and values whose own methods raise.
    """
    name = exact.class_name(value)
    try:
        text = JSON_ENCODER.encode(value)
        deep = is_too_deep(value, text)
    except Exception as error:
        raise EncodingError(f"a value of class {name}, which is not a JSON value: {exact.said(error)}") from None
    if deep:
        raise EncodingError(f"a value of class {name}, nested more than {NESTING_MAX} deep")
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
