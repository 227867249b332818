"""What earlier versions wrote, as the classes of today have it: here, once, and nowhere else.

Files up to schema 3 and traces up to version 2 have the names of enums instead of their numbers, and results as JSON
values. All functions take and give values of JSON, and raise `KeyError`, `TypeError` or `ValueError` for what no such
version wrote; whether all fields are there is for the reader of what they give.

Versions before causes were recorded (schema 2, trace version 1) wrote of how a turn ended its status, and words. The
cause is told from the words. Who interrupted a turn or closed its agent they do not say, and an interrupt and the end
of a shutdown's grace have the same words. What a turn's code returned is told by the status; what it raised begins with
the name of a class, unless the host of the core chose other words.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, TypeVar

from statemachine.core.facts import Json
from statemachine.core.machines import Identity, TurnState
from statemachine.core.records import Cause, MailKind

E = TypeVar("E", bound=IntEnum)

ERRORED: tuple[tuple[str, Cause], ...] = (
    ("its thread died: ", Cause.THREAD_DIED),
    ("load failed: its thread died: ", Cause.LOAD_DIED),
    ("load failed: no answer for ", Cause.LOAD_TIMED_OUT),
    ("load failed: ", Cause.LOAD_FAILED),
    ("no residency slot: ", Cause.NO_ROOM),
    ("", Cause.FAILED),
)
INTERRUPTED: tuple[tuple[str, Cause], ...] = (
    ("closed", Cause.CLOSED),
    ("its thread died", Cause.THREAD_DIED),
    ("interrupted before it started", Cause.NOT_STARTED),
    ("interrupted by a crash", Cause.CRASHED),
    ("interrupted; it did not stop within ", Cause.NOT_STOPPED),
    ("", Cause.INTERRUPTED),
)
"""How the words begin, and the cause that they mean. The first match counts."""

NO_WAIT = 0
"""Waits had no numbers, and count from 1."""
OLDEST_OUTCOME = {"agent", "turn", "status", "result"}
"""All that an outcome had before causes were recorded."""
OUTCOME = ("agent", "turn", "status", "result", "cause", "by")
FACTS = (
    "agent",
    "parent",
    "name",
    "settings",
    "identity",
    "closed_by",
    "status",
    "turn",
    "outcome",
    "asked",
    "mailbox",
)
"""What the facts of an agent were, in their order."""


def cause_in_words(status: TurnState, words: str) -> Cause:
    """Returns the cause of an outcome with this status and these words."""
    if status is TurnState.COMPLETED:
        return Cause.FINISHED
    known = ERRORED if status is TurnState.ERRORED else INTERRUPTED
    return next(cause for beginning, cause in known if words.startswith(beginning))


def record(kind: str, found: Any) -> Any:
    """The fields of a record of this class."""
    change = RECORDS.get(kind)
    return found if change is None else change(found)


def config(found: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields of a configuration. Those that came with the second edition have their defaults."""
    return {"turn_timeout": None, "max_attempts": 1, "max_overtaken": 256} | found


def facts(found: Any) -> dict[str, Any]:
    """The facts of an agent: a list in a store, an object in a trace."""
    said = named(FACTS, found)
    last = said["outcome"]
    return said | {
        "identity": number(Identity, said["identity"]),
        "status": number(TurnState, said["status"]),
        "outcome": last and outcome(named(OUTCOME[: len(last)], last)),
        "taken": [mail(one) for one in said.pop("asked")],
        "mailbox": [mail(one) for one in said["mailbox"]],
    }


def event(kind: str, found: dict[str, Any]) -> dict[str, Any]:
    """The fields of an event of this class."""
    if kind == "StopWaiting":
        return found | {"wait": NO_WAIT}
    if kind == "Failed":
        return found | {"cause": number(Cause, found.get("cause", "failed"))}
    return found | {"result": result(found["result"])} if "result" in found else found


def mail(found: dict[str, Any]) -> dict[str, Any]:
    """A mail, be it a record or in a mailbox."""
    return found | {"kind": number(MailKind, found["kind"]), "notice": found["notice"] and outcome(found["notice"])}


def outcome(found: dict[str, Any]) -> dict[str, Any]:
    """How a turn ended."""
    status, raw = number(TurnState, found["status"]), result(found["result"])
    if found.keys() == OLDEST_OUTCOME:
        found = found | {"cause": cause_in_words(status, str(raw)).name.lower(), "by": None}
    said = {name: value for name, value in found.items() if name != "result"}
    return said | {"status": status, "cause": number(Cause, found["cause"]), "raw": raw}


def result(value: Any) -> Any:
    """What a turn came to: a text as it is, any other value as its JSON text."""
    return value if isinstance(value, str) else {"text": Json(value).text}


def named(names: tuple[str, ...], found: Any) -> dict[str, Any]:
    """The fields of an object, or those of a list that has them in this order."""
    fields: dict[str, Any] = {**found} if found.__class__ is dict else dict(zip(names, found, strict=True))
    return fields


def number(members: type[E], name: Any) -> E:
    """The member of this name, in lower case."""
    if not isinstance(name, str) or not name.islower():
        raise ValueError(f"{name!r:.100} is not the name of a {members.__name__}")
    return members[name.upper()]


RECORDS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "MailAccepted": mail,
    "NoticeBuried": lambda found: found | {"notice": outcome(found["notice"])},
    "TurnEnded": lambda found: {"outcome": outcome(found["outcome"])},
}
"""Record class -> what became of its fields. The others have theirs still."""
