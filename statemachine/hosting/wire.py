"""Says how a client and a worker talk: messages of JSON on a websocket.

The problem. A call takes a fraction of a millisecond and its outcome hours; both have to go over one connection, in any
order, with an end of the connection seen by both sides at once.

What is done. Websockets (RFC 6455, the library `websockets`): messages have an end, both sides may speak at any time,
a ping sees a peer that is gone, a token in a header is checked before anything is read, sizes are bounded by the
library, and TLS is that of `ssl`. Each message is one JSON value, in ASCII, with lone surrogates escaped.

What was rejected. HTTP/2, whose libraries for asyncio are servers of web applications: an outcome that takes hours is a
stream to be kept alive by hand there. gRPC: a compiler and generated code for nine verbs. A protocol of our own on
TCP: frames, pings and bounds would all have to be written.

The protocol, version 1. The client connects with `Authorization: Bearer TOKEN` and the subprotocol `statemachine.1`::

    client -> worker    [number, session, verb, arguments]       arguments: an object
    worker -> client    [number, "answer", value]
                        [number, "error", name, text, facts]     facts: the attributes of the error
                        [number, "moved"]                        the worker has not (or no longer) the session
    client -> worker    [number]                                 the caller of this call has gone

Numbers are the client's, one for each call. A call is answered once; answers come in any order. A connection that ends
says nothing about its calls: the client asks the next owner again, with the same key.
"""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from typing import Any, TypeVar, cast

import anyio
import attrs

import statemachine.errors
from statemachine.core.effects import ClosedAgents, Forgotten, Interrupted, Resumed
from statemachine.core.machines import TurnState
from statemachine.core.records import Outcome, TurnEnded
from statemachine.core.refusals import Refusal
from statemachine.hosting.errors import RemoteError
from statemachine.runtime.errors import ANSWER, TooLarge
from statemachine.runtime.handles import AgentRef, Handle
from statemachine.runtime.status import AgentStatus
from statemachine.sinks import Log, log
from statemachine.stores.encoding import decode, encode, stored, text_of
from statemachine.stores.protocol import LogRecord

T = TypeVar("T")

SUBPROTOCOL: Any = "statemachine.1"
BYTES_MAX = 64 * 2**20
"""The longest message, in bytes."""
STEP_S = 0.005
"""Seconds after which the event loop serves others while one answer is said or read."""
CHARACTERS_MAX = 1_000
"""How much is told of each text of an error that is too long."""

KEYED = frozenset({"spawn", "send", "follow_up", "start"})
"""Verbs that give work: repeated with the same key, they are carried out once."""
NOT_A_VERB = "not a verb of sessions"


def logs(side: str) -> Log:
    """Returns the logger of websockets for this side, `server` or `client`. Handlers of it may raise, too."""
    return Log(log.logger.root.getChild(f"websockets.{side}"))


def pack(message: Any) -> bytes:
    """Returns a message as it is sent."""
    return json.dumps(message, separators=(",", ":"), allow_nan=False).encode()


def bounded(message: bytes, what: str) -> bytes:
    """Returns the message. Raises `TooLarge` if it is longer than messages may be: the peer would end the connection,
    on which all other calls are.
    """
    if len(message) > BYTES_MAX:
        raise TooLarge(what, len(message), BYTES_MAX)
    return message


def call_of(number: int, session: str, request: bytes) -> bytes:
    """Returns the call of a request, which is `[verb, arguments]` as it is packed."""
    return pack([number, session])[:-1] + b"," + request[1:]


async def answer_of(number: int, answer: Any) -> bytes:
    """Returns the reply with this answer. Raises `TooLarge`."""
    start = pack([number, "answer"])[:-1] + b","
    is_many = answer.__class__ is list
    packed = b"[" + b",".join(await in_steps(pack, answer)) + b"]" if is_many else pack(answer)
    return bounded(start + packed + b"]", ANSWER)


async def in_steps(change: Callable[[Any], T], values: Iterable[Any]) -> list[T]:
    """Changes each of these, which may be very many or very large, and lets others run in between."""
    changed, since = list[T](), time.monotonic()
    for value in values:
        changed.append(change(value))
        if time.monotonic() - since > STEP_S:
            await anyio.sleep(0)
            since = time.monotonic()
    return changed


def refusal_of(number: int, error: Exception) -> bytes:
    """Returns the reply with this error. If it is too long, as that with the first request of a key may be, only the
    start of each text is in it.
    """
    name, text, facts = said_error(error)
    reply = pack([number, "error", name, text, facts])
    if len(reply) <= BYTES_MAX:
        return reply
    short = {word: fact[:CHARACTERS_MAX] if isinstance(fact, str) else fact for word, fact in facts.items()}
    return pack([number, "error", name, text[:CHARACTERS_MAX], short])


def unpack(message: str | bytes) -> Any:
    """Returns what was sent. Raises `ValueError`."""
    return json.loads(message)


# Values


def _outcome(outcome: Outcome) -> str:
    return text_of(encode(TurnEnded(outcome))[2])


def _outcome_in(text: str) -> Outcome:
    return cast("TurnEnded", decode(TurnEnded.__name__, stored(text))).outcome


def _status(status: AgentStatus) -> dict[str, Any]:
    said = {field.name: getattr(status, field.name) for field in attrs.fields(AgentStatus)}
    said["outcome"] = None if status.outcome is None else _outcome(status.outcome)
    return said


def _status_in(said: dict[str, Any]) -> AgentStatus:
    outcome = said["outcome"]
    read: dict[str, Any] = {**said, "status": TurnState(said["status"])}
    read["outcome"] = None if outcome is None else _outcome_in(outcome)
    return AgentStatus(**read)


def _record(record: LogRecord) -> list[str]:
    kind, _, data = encode(record)
    return [kind, text_of(data)]


def _record_in(said: list[str]) -> LogRecord:
    return decode(said[0], stored(said[1]))


def _fact(kind: type[Any]) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Returns how a class of numbers, texts and tuples of these is said and read."""

    def said(value: Any) -> list[Any]:
        return [getattr(value, field.name) for field in attrs.fields(kind)]

    def read(values: list[Any]) -> Any:
        return kind(*map(_unlisted, values))

    return said, read


def _unlisted(value: Any) -> Any:
    """Returns a value that was sent: what was a tuple came as a list."""
    return tuple(value) if value.__class__ is list else value


def target_in(value: Any) -> Any:
    """Returns a target that was sent: a reference came as a list."""
    return value if isinstance(value, str | int) else REF[1](value)


def _same(value: Any) -> Any:
    return value


def _interrupted_in(said: list[Any]) -> Interrupted:
    previous, agents, paths = said
    return Interrupted(TurnState(previous), tuple(agents), tuple(paths))


REF = _fact(AgentRef)
ANSWERS: Mapping[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    **dict.fromkeys(("spawn", "follow_up", "start"), (lambda handle: REF[0](cast("Handle", handle).ref), REF[1])),
    "send": (_same, _same),
    "outcome": (_outcome, _outcome_in),
    "withdraw": (_same, _same),
    "interrupt": (_fact(Interrupted)[0], _interrupted_in),
    "close": _fact(ClosedAgents),
    "resume": _fact(Resumed),
    "forget": _fact(Forgotten),
    "status": (_status, _status_in),
    "list": (_status, _status_in),
    "history": (_record, _record_in),
}
"""Verb -> how its answer is said, and read; of those that give many, each."""
MANY = frozenset({"list", "history"})
"""Verbs that answer with a tuple."""


async def said(verb: str, answer: Any) -> Any:
    """Returns the answer of a verb as it is packed."""
    change = ANSWERS[verb][0]
    return await in_steps(change, answer) if verb in MANY else change(answer)


async def read(verb: str, reply: list[Any]) -> Any:
    """Returns the answer of a verb, or raises its error."""
    if reply[0] != "answer":
        raise error_in(*reply[1:])
    change = ANSWERS[verb][1]
    return tuple(await in_steps(change, reply[1])) if verb in MANY else change(reply[1])


# Errors

PYTHONS = {"TypeError": TypeError, "ValueError": ValueError}
"""What verbs raise beside our own errors."""


def said_error(error: Exception) -> list[Any]:
    """Returns an error as it is sent: the name of its class, or of the next one above that callers know; its text; and
    its facts, which are what that class is made of.
    """
    kind = next(filter(is_ours, type(error).__mro__), type(error))
    facts = {word: _plain(getattr(error, word)) for word in words_of(kind) or () if hasattr(error, word)}
    return [kind.__name__, str(error), facts]


def ours(name: str) -> type[Exception] | None:
    """Returns the error of this version that has the name."""
    found: type[Exception] | None = getattr(statemachine.errors, name) if name in statemachine.errors.__all__ else None
    return found


def is_ours(kind: type) -> bool:
    """Tells whether callers know this class of errors. `Refusal` itself does not count: it has no words of its own."""
    return kind is not Refusal and ours(kind.__name__) is kind


def words_of(kind: Any) -> tuple[str, ...] | None:
    """Returns the names of what an error of this class is made of; None: of its text, as Python's own are."""
    made = kind.__init__
    return tuple(inspect.signature(made).parameters)[1:] if inspect.isfunction(made) else None


def _plain(value: Any) -> Any:
    if isinstance(value, IntEnum):
        return int(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return [_plain(each) for each in cast("Iterable[Any]", value)] if isinstance(value, tuple | list) else repr(value)


def error_in(name: str, text: str, facts: Mapping[str, Any]) -> Exception:
    """Returns the error that was sent, if this version knows it, and else a `RemoteError`."""
    kind = ours(name) or PYTHONS.get(name)
    if kind is None:
        return RemoteError(name, text)
    if words_of(kind) is None:
        return kind(text)
    try:
        return kind(**{word: _unlisted(value) for word, value in facts.items()})
    except Exception:  # of what it says in another version
        return RemoteError(name, text)
