"""Records, entries and facts as JSON texts, and back.

    MailAccepted  {"mail":0,"sender":-1,"target":1,"kind":"trigger","message":"work","notice":null}
    TurnEnded     {"outcome":{"agent":1,"turn":1,"status":"completed","result":"done","cause":"finished","by":null}}
    Entry         {"agent":1,"turn":1,"data":{"said":"hello"}}

A result is any JSON value, a member of an enum its name in lower case. The facts of a snapshot, which can be derived
from the log, are lists in the order of `AgentFacts`: opening reads those of every agent, and a list takes a third of
the time.

    [1,0,"a",null,"open",-1,"completed",1,[1,1,"completed","done","finished",null],[],[]]

Outcomes in files of older versions have no `cause` and no `by`; the cause is told from their words (`log/older.py`).

Every class is written and read by hand here, because a turn writes four records, and anything that looks at
annotations while it does so takes several times as long.

Reading is strict: what `encode` would not have written is an `EncodingError`. Texts are any texts of Python: where one
has lone surrogates, which UTF-8 cannot say, the JSON text becomes bytes (UTF-8 with `surrogatepass`), because escapes
would join two of them into one character.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from enum import IntEnum
from itertools import chain
from json.encoder import encode_basestring
from operator import attrgetter
from typing import Any, TypeVar

from statemachine.core.facts import Json, Result
from statemachine.core.machines import Identity, TurnState
from statemachine.core.records import (
    AgentResumed,
    AgentsClosed,
    AgentSpawned,
    Cause,
    MailAccepted,
    MailDrained,
    MailKind,
    NoticeBuried,
    Outcome,
    TurnEnded,
    TurnStarted,
)
from statemachine.log.older import cause_in_words
from statemachine.log.snapshot import AgentFacts
from statemachine.stores.protocol import Entry, LogRecord

NESTING_MAX = 100
"""Lists and dicts within each other in the data of an entry, or in a result. What is nested deeper could be written,
but perhaps not read again by somebody with less stack left.
"""

TEXT_MAX = 100_000_000
"""Characters in the data of an entry or in a result, as JSON; in a result that is a text, of that. SQLite takes 10**9
bytes; some have to be escaped.
"""

E = TypeVar("E", bound=IntEnum)
Stored = str | bytes
"""A text as it is stored: bytes only if it has lone surrogates."""


class EncodingError(ValueError):
    """This cannot be written, or is not what was written."""


# Records


def encode(record: LogRecord) -> tuple[str, int | None, Stored]:
    """Its class name, the agent whose rollout it belongs to (None: to no rollout) and its fields.

    Raises `EncodingError` for what is no record, or has a value that could not be read again.
    """
    kind = record.__class__
    if kind not in WRITE:
        raise EncodingError(f"a {kind.__name__} is no record")
    name, owner, write = WRITE[kind]
    try:
        text = write(record)
        return name, None if owner is None else owner(record), text if text.isascii() else stored(text)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise EncodingError(f"this {kind.__name__} cannot be written: {error}") from None


def decode(kind: str, data: Stored) -> LogRecord:
    """The record with this class name and these fields. Raises `EncodingError`."""
    read = READ.get(kind)
    if read is None:
        raise EncodingError(f"{kind!r:.100} is no kind of record")
    try:
        record: LogRecord = read(parse(data))
    except (KeyError, TypeError, ValueError, RecursionError):
        raise EncodingError(f"{data!r:.200} is no {kind}") from None
    return record


# Facts


def encode_facts(facts: AgentFacts) -> Stored:
    """The facts as a list. Raises `EncodingError`."""
    try:
        return stored(_write_facts(facts))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise EncodingError(f"these facts cannot be written: {error}") from None


def decode_facts(data: Stored) -> AgentFacts:
    """The facts in this list. Raises `EncodingError`."""
    try:
        return _read_facts(parse(data))
    except (KeyError, TypeError, ValueError, RecursionError):
        raise EncodingError(f"{data!r:.200} are no facts of an agent") from None


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
    """The text that was stored. Raises `EncodingError` for what is none."""
    if isinstance(data, str):
        return data
    if not isinstance(data, bytes):
        raise EncodingError(f"{data!r:.100} is no text")
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise EncodingError(f"{data!r:.100} is not UTF-8") from None


# JSON


def to_json(value: Any) -> str:
    """The JSON text of a value, as entries have it. Raises `EncodingError` for what JSON does not have: other classes,
    numbers that are not finite, what is nested more than `NESTING_MAX` deep, or longer than `TEXT_MAX`.
    """
    try:
        text = ENCODER.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise EncodingError(f"a value of class {type(value).__name__}, which is not a JSON value: {error}") from None
    if may_be_deep(text) and _nesting(value) > NESTING_MAX:
        raise EncodingError(f"a value of class {type(value).__name__}, nested more than {NESTING_MAX} deep")
    if len(text) > TEXT_MAX:
        raise EncodingError(
            f"a value of class {type(value).__name__}, {len(text):,} characters as JSON, more than {TEXT_MAX:,}"
        )
    return text


def may_be_deep(text: str) -> bool:
    """Does the JSON text have enough brackets to be nested more than `NESTING_MAX` deep?"""
    return text.count("[") + text.count("{") > NESTING_MAX


def parse(data: Stored) -> Any:
    """The value of a JSON text. Raises `EncodingError` for what is none."""
    text = data if isinstance(data, str) else text_of(data)
    try:
        value, end = DECODER.raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise EncodingError(f"{text!r:.100} is no JSON: {error}") from None
    if end != len(text):
        raise EncodingError(f"{text!r:.100} goes on after its JSON")
    return value


def _nesting(value: Any) -> int:
    depth = 0
    level: list[Any] = [value]
    while level := [part for part in level if issubclass(part.__class__, (dict, list, tuple))]:
        depth += 1
        level = list(chain.from_iterable([_parts(whole) for whole in level]))
    return depth


def _parts(whole: Any) -> Iterable[Any]:
    parts: Iterable[Any] = whole.values() if issubclass(whole.__class__, dict) else whole
    return parts


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


# A value that contains itself is found by the depth of the stack.
ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"))
DECODER = json.JSONDecoder(parse_constant=_no_constant)


# Writing. The format `d` takes whole numbers only.


def _texts(members: type[E]) -> dict[E, str]:
    return {member: f'"{member.name.lower()}"' for member in members}


MAIL_KIND_TEXT, IDENTITY_TEXT = _texts(MailKind), _texts(Identity)
TURN_TEXT, CAUSE_TEXT = _texts(TurnState), _texts(Cause)
quote = encode_basestring


def _write_result(raw: Result) -> str:
    if isinstance(raw, str):
        return quote(raw)
    return to_json(raw.value) if may_be_deep(raw.text) else raw.text


def _write_outcome(r: Outcome) -> str:
    by = "null" if r.by is None else f"{r.by:d}"
    return (
        f'{{"agent":{r.agent:d},"turn":{r.turn:d},"status":{TURN_TEXT[r.status]},"result":{_write_result(r.raw)},'
        f'"cause":{CAUSE_TEXT[r.cause]},"by":{by}}}'
    )


def _write_mail(r: MailAccepted) -> str:
    notice = "null" if r.notice is None else _write_outcome(r.notice)
    return (
        f'{{"mail":{r.mail:d},"sender":{r.sender:d},"target":{r.target:d},"kind":{MAIL_KIND_TEXT[r.kind]},'
        f'"message":{quote(r.message)},"notice":{notice}}}'
    )


def _write_mails(mails: tuple[MailAccepted, ...]) -> str:
    return f"[{','.join([_write_mail(mail) for mail in mails])}]" if mails else "[]"


def _write_spawned(r: AgentSpawned) -> str:
    settings = "null" if r.settings is None else quote(r.settings)
    return f'{{"agent":{r.agent:d},"parent":{r.parent:d},"name":{quote(r.name)},"settings":{settings}}}'


def _write_turn(r: TurnStarted | MailDrained) -> str:
    return f'{{"agent":{r.agent:d},"turn":{r.turn:d}}}'


def _write_closed(r: AgentsClosed) -> str:
    return f'{{"target":{r.target:d},"agents":[{",".join([f"{agent:d}" for agent in r.agents])}]}}'


def _write_buried(r: NoticeBuried) -> str:
    return f'{{"mail":{r.mail:d},"target":{r.target:d},"notice":{_write_outcome(r.notice)}}}'


def _write_ended(r: TurnEnded) -> str:
    return f'{{"outcome":{_write_outcome(r.outcome)}}}'


def _write_resumed(r: AgentResumed) -> str:
    return f'{{"agent":{r.agent:d}}}'


def _write_entry(r: Entry) -> str:
    return f'{{"agent":{r.agent:d},"turn":{r.turn:d},"data":{to_json(r.data)}}}'


def _write_facts(f: AgentFacts) -> str:
    settings = "null" if f.settings is None else quote(f.settings)
    outcome, o = "null", f.outcome
    if o is not None:
        by = "null" if o.by is None else f"{o.by:d}"
        said, cause = _write_result(o.raw), CAUSE_TEXT[o.cause]
        outcome = f"[{o.agent:d},{o.turn:d},{TURN_TEXT[o.status]},{said},{cause},{by}]"
    return (
        f"[{f.agent:d},{f.parent:d},{quote(f.name)},{settings},{IDENTITY_TEXT[f.identity]},{f.closed_by:d},"
        f"{TURN_TEXT[f.status]},{f.turn:d},{outcome},{_write_mails(f.asked)},{_write_mails(f.mailbox)}]"
    )


WRITE: dict[type, tuple[str, Callable[[Any], int] | None, Callable[[Any], str]]] = {
    kind: (kind.__name__, owner, write)
    for kind, owner, write in (
        (AgentSpawned, None, _write_spawned),
        (MailAccepted, attrgetter("target"), _write_mail),
        (NoticeBuried, None, _write_buried),
        (TurnStarted, attrgetter("agent"), _write_turn),
        (MailDrained, attrgetter("agent"), _write_turn),
        (TurnEnded, attrgetter("outcome.agent"), _write_ended),
        (AgentsClosed, None, _write_closed),
        (AgentResumed, None, _write_resumed),
        (Entry, attrgetter("agent"), _write_entry),
    )
}
"""Record class -> its name, the agent whose rollout it belongs to (the others only change facts), how it is written."""


# Reading. Whatever does not fit raises a KeyError, TypeError or ValueError, which `decode` explains.


def _members(members: type[E]) -> dict[str, E]:
    return {member.name.lower(): member for member in members}


MAIL_KIND, TURN, IDENTITY, CAUSE = _members(MailKind), _members(TurnState), _members(Identity), _members(Cause)


def _fields(found: Any, count: int) -> Any:
    if found.__class__ is not dict or len(found) != count:
        raise ValueError("other fields")
    return found


def _whole(value: Any) -> int:
    if value.__class__ is not int:  # a bool is no number here
        raise ValueError("no whole number")
    return value


def _text(value: Any) -> str:
    if value.__class__ is not str:
        raise ValueError("no text")
    return value


def _list(value: Any) -> list[Any]:
    if value.__class__ is not list:
        raise ValueError("no list")
    return value


OLDER_OUTCOME = 4
"""How many fields an outcome of an older version has."""


def _read_outcome(found: Any) -> Outcome:
    if found.__class__ is dict and len(found) == OLDER_OUTCOME:
        return _older_outcome(found["agent"], found["turn"], found["status"], found["result"])
    f = _fields(found, 6)
    return _outcome(f["agent"], f["turn"], f["status"], f["result"], f["cause"], f["by"])


def _outcome(agent: Any, turn: Any, status: Any, result: Any, cause: Any, by: Any) -> Outcome:
    who = None if by is None else _whole(by)
    raw = result if result.__class__ is str else Json(result)
    return Outcome(_whole(agent), _whole(turn), TURN[status], raw, CAUSE[cause], who)


def _older_outcome(agent: Any, turn: Any, status: Any, result: Any) -> Outcome:
    state, words = TURN[status], _text(result)
    return Outcome(_whole(agent), _whole(turn), state, words, cause_in_words(state, words))


def _read_mail(found: Any) -> MailAccepted:
    f = _fields(found, 6)
    notice = f["notice"]
    return MailAccepted(
        _whole(f["mail"]),
        _whole(f["sender"]),
        _whole(f["target"]),
        MAIL_KIND[f["kind"]],
        _text(f["message"]),
        None if notice is None else _read_outcome(notice),
    )


def _read_mails(found: Any) -> tuple[MailAccepted, ...]:
    return tuple([_read_mail(mail) for mail in _list(found)])


def _read_spawned(found: Any) -> AgentSpawned:
    f = _fields(found, 4)
    settings = f["settings"]
    name, settings = _text(f["name"]), None if settings is None else _text(settings)
    return AgentSpawned(_whole(f["agent"]), _whole(f["parent"]), name, settings)


def _read_buried(found: Any) -> NoticeBuried:
    f = _fields(found, 3)
    return NoticeBuried(_whole(f["mail"]), _whole(f["target"]), _read_outcome(f["notice"]))


def _read_started(found: Any) -> TurnStarted:
    f = _fields(found, 2)
    return TurnStarted(_whole(f["agent"]), _whole(f["turn"]))


def _read_drained(found: Any) -> MailDrained:
    f = _fields(found, 2)
    return MailDrained(_whole(f["agent"]), _whole(f["turn"]))


def _read_closed(found: Any) -> AgentsClosed:
    f = _fields(found, 2)
    return AgentsClosed(_whole(f["target"]), tuple([_whole(agent) for agent in _list(f["agents"])]))


def _read_entry(found: Any) -> Entry:
    f = _fields(found, 3)
    return Entry(_whole(f["agent"]), _whole(f["turn"]), f["data"])


def _read_facts(found: Any) -> AgentFacts:
    agent, parent, name, settings, identity, closed_by, status, turn, outcome, asked, mailbox = _list(found)
    if outcome is not None:
        outcome = (_older_outcome if len(_list(outcome)) == OLDER_OUTCOME else _outcome)(*outcome)
    return AgentFacts(
        _whole(agent),
        _whole(parent),
        _text(name),
        None if settings is None else _text(settings),
        IDENTITY[identity],
        _whole(closed_by),
        TURN[status],
        _whole(turn),
        outcome,
        () if asked == [] else _read_mails(asked),
        () if mailbox == [] else _read_mails(mailbox),
    )


READ: dict[str, Callable[[Any], LogRecord]] = {
    "AgentSpawned": _read_spawned,
    "MailAccepted": _read_mail,
    "NoticeBuried": _read_buried,
    "TurnStarted": _read_started,
    "MailDrained": _read_drained,
    "TurnEnded": lambda found: TurnEnded(_read_outcome(_fields(found, 1)["outcome"])),
    "AgentsClosed": _read_closed,
    "AgentResumed": lambda found: AgentResumed(_whole(_fields(found, 1)["agent"])),
    "Entry": _read_entry,
}
"""Name of a record class -> how its fields are read."""
