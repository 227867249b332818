"""Judges what callers give: which values a configuration, a mail and a result take, and how values are shown."""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import Enum
from typing import Any

import attrs

from statemachine.core import exact, facts
from statemachine.core.config import Notice, Overflow, SessionConfig, SlotPolicy
from statemachine.core.effects import Refused
from statemachine.core.events import HOST, FollowUp, Send, Spawn, Start
from statemachine.core.exact import WHOLE_MAX
from statemachine.core.facts import NESTING_MAX, SHOWN_MAX, Json
from statemachine.core.refusals import InvalidConfig, InvalidHeaders
from statemachine.core.rules import HEADERS_BYTES_MAX
from statemachine.core.session import Session

LEAST = {"max_concurrent": 1, "max_queued": 1, "max_unread": 2, "max_message_bytes": 1, "max_attempts": 1}
"""Number -> its least value; of all others it is 0."""
MAY_BE_NONE = ("max_depth", "max_agents", "turn_timeout", "idle_ttl")
SECONDS = ("flush_timeout", "load_timeout", "stop_grace", "max_wait", "turn_timeout", "idle_ttl")
MEMBERS: dict[str, type[Enum]] = {"slot_policy": SlotPolicy, "overflow": Overflow, "notice": Notice}


class Text(str):
    """A text that lies."""

    __slots__ = ()

    def __len__(self) -> int:
        return 0

    def __str__(self) -> str:
        return "a lie"


class Whole(int):
    """A number that lies."""

    def __int__(self) -> int:
        return -5


class Number(float):
    """Another."""

    def __float__(self) -> float:
        return -5.0


class Mute:
    """What cannot be shown."""

    def __repr__(self) -> str:
        raise ValueError


class MuteError(Exception):
    """An error without words."""

    def __str__(self) -> str:
        raise ValueError


GIVEN: tuple[Any, ...] = (
    *(None, True, False, "1", Text("1"), [], math.nan, math.inf, -math.inf, -1, -0.5, 0, 0.5, 1, 1.0, 2, 3, 1e300),
    *(WHOLE_MAX, WHOLE_MAX + 1, Whole(3), Number(3.5), *Notice, *Overflow, *SlotPolicy),
)
"""What a configuration is given for each of its fields."""


def configurations() -> Iterator[str]:
    """Yields which values a configuration takes, or refuses, or changes, though it should not."""
    for field in attrs.fields(SessionConfig):
        name = field.name
        for value in GIVEN:
            meant, others = plain(value), beside(name, value)
            try:
                found = getattr(SessionConfig(**{**others, name: value}), name)
            except InvalidConfig as error:
                if may_be(name, meant):
                    yield f"{name}={value!r} is refused: {error}"
                elif not str(error).startswith((f"{name} must be", f"{name}={meant}")):
                    yield f"{name}={value!r} is refused with {error}"
            else:
                if not may_be(name, meant):
                    yield f"{name}={value!r} is taken"
                elif type(found) is not type(meant) or found != meant:
                    yield f"{name}={value!r} is taken as {found!r}"
    yield from defaults()


def beside(name: str, value: Any) -> dict[str, Any]:
    """Returns what else a configuration has, so that this value of the field could do."""
    if name == "max_concurrent":
        return {"max_resident": WHOLE_MAX, **({"overflow": Overflow.REJECT} if value == 1 else {})}
    if name == "max_resident":
        return {"max_concurrent": 2}
    return {"overflow": Overflow.REJECT} if name == "slot_policy" else {}


def plain(value: Any) -> Any:
    """Returns the number that a value is, or the value."""
    if isinstance(value, Whole):
        return 3
    return 3.5 if isinstance(value, Number) else value


def may_be(name: str, value: Any) -> bool:
    """May the field have this value, beside what suits it?"""
    if name in MEMBERS:
        return type(value) is MEMBERS[name]
    if name == "notify_interrupted":
        return type(value) is bool
    if value is None:
        return name in MAY_BE_NONE
    if name == "max_resident" and value == 0:
        return False  # there is a slot
    if name in SECONDS:
        return (type(value) is int and 0 <= value <= WHOLE_MAX) or (type(value) is float and 0 <= value < math.inf)
    return type(value) is int and LEAST.get(name, 0) <= value <= WHOLE_MAX


def defaults() -> Iterator[str]:
    """Yields which defaults are others than the documented ones."""
    for most, resident in ((1, 32), (2, 32), (5, 32), (6, 40), (WHOLE_MAX, WHOLE_MAX)):
        made = SessionConfig(max_concurrent=most)
        if (made.max_resident, made.execution_cap) != (resident, most - 1):
            yield f"max_concurrent={most} has room for {made.max_resident}"
        if (made.overflow is Overflow.REJECT) != (most == 1):
            yield f"max_concurrent={most} has {made.overflow}"
    if SessionConfig(slot_policy=SlotPolicy.LIVE_THREADS).overflow is not Overflow.REJECT:
        yield "live threads queue"
    for wrong in (
        {"max_concurrent": 4, "max_resident": 2},
        {"max_concurrent": 1, "overflow": Overflow.QUEUE},
        {"slot_policy": SlotPolicy.LIVE_THREADS, "overflow": Overflow.QUEUE},
        {"slot_policy": SlotPolicy.LIVE_THREADS, "idle_ttl": 0},
        {"max_concurrent": Mute()},
    ):
        made_of: Any = wrong
        try:
            yield f"{SessionConfig(**made_of)} is taken"
        except InvalidConfig as error:
            if not str(error):
                yield f"{wrong} is refused without a word"
    right: tuple[dict[str, Any], ...] = (
        {"max_concurrent": 4, "max_resident": 3},
        {"max_concurrent": 1, "max_resident": 0},
    )
    for caps in right:
        if SessionConfig(**caps).max_resident != caps["max_resident"]:
            yield f"{caps} is taken as another"


# Mail


def headers() -> Iterator[str]:
    """Yields which headers are taken, refused, or lost, though they should not be."""
    s = Session(SessionConfig(max_unread=100))
    s.handle(Spawn(0, "a", "m", headers="first"))
    for kind in (
        lambda text: Spawn(0, "b", "m", None, HOST, text),
        lambda text: Send(HOST, 1, "m", text),
        lambda text: FollowUp(HOST, 1, "m", text),
        lambda text: Start(1, "m", text),
    ):
        for text in (None, "{}", "x" * HEADERS_BYTES_MAX, "é" * (HEADERS_BYTES_MAX // 2)):
            with_text = s.fork()
            step = with_text.handle(kind(text))
            mails = [record for record in step.records if hasattr(record, "headers")]
            if isinstance(step.reply, Refused) or [mail.headers for mail in mails] != [text]:
                yield f"headers {text!r:.20} come to {step.reply!r:.200}"
        for text, size in (
            ("", 0),
            ("x" * (HEADERS_BYTES_MAX + 1), HEADERS_BYTES_MAX + 1),
            ("é" * HEADERS_BYTES_MAX, 2 * HEADERS_BYTES_MAX),
        ):
            reply = s.fork().handle(kind(text)).reply
            said = reply.refusal.facts if isinstance(reply, Refused) else ()
            if not isinstance(reply, Refused) or not isinstance(reply.refusal, InvalidHeaders):
                yield f"headers of {size} bytes come to {reply!r:.200}"
            elif said != InvalidHeaders(f"one of {size} bytes", size, HEADERS_BYTES_MAX).facts:
                yield f"headers of {size} bytes are refused with {said}"


# Results, and how values are shown


def nested(depth: int, kind: type) -> Any:
    """Returns lists, tuples or dicts within each other."""
    value: Any = 1
    for _ in range(depth):
        value = {"a": value} if kind is dict else kind([value])
    return value


def results() -> Iterator[str]:
    """Yields which results are taken, or not, though they should not be; and those that are kept as others."""
    some: tuple[Any, ...] = (None, True, 0, -1.5, [], {}, [1, [2]], {"a": {"b": "é"}}, ["[" * 200], [[]] * 200, "x")
    for value in some:
        held = Json(value)
        if (
            held.value != value
            or held != Json(value)
            or hash(held) != hash(Json(value))
            or repr(held) != f"Json({value!r})"
        ):
            yield f"{value!r:.50} is held as {held!r:.50}"
        if Json((1, value)).value != [1, value] or ": " in held.text or "\\u" in held.text:
            yield f"{value!r:.50} is written as {held.text!r:.50}"
    for kind in (list, tuple, dict):
        for depth in (NESTING_MAX - 1, NESTING_MAX, NESTING_MAX + 1):
            try:
                Json(nested(depth, kind))
                is_taken = True
            except ValueError as error:
                is_taken = not str(error)
            if is_taken != (depth <= NESTING_MAX):
                yield f"{kind.__name__}s nested {depth} deep are {'taken' if is_taken else 'refused'}"
    for wrong in (math.nan, math.inf, {1}, b"x", object()):
        try:
            yield f"{wrong!r} is taken as {Json(wrong)!r}"
        except (TypeError, ValueError):
            continue
    for text, is_right in (('{"a":1}', True), ('{"a": 1}', False), ('"\\u00e9"', False), ("1 ", False), ("NaN", False)):
        held = Json.__new__(Json)
        held.text = text
        try:
            held.__attrs_post_init__()
            is_taken = True
        except ValueError:
            is_taken = False
        if is_taken != is_right:
            yield f"the text {text!r} is {'taken' if is_taken else 'refused'}"


def shown() -> Iterator[str]:
    """Yields what is shown otherwise than it should be: long values in part, and those that raise not at all."""
    most = SHOWN_MAX
    pairs: tuple[tuple[object, str], ...] = (
        ("x" * most, repr("x" * most)),
        ("x" * (most + 1), f"{'x' * most!r}... ({most + 1} characters)"),
        (Text("abc"), "'abc'"),
        ("x" * 5_000, f"{'x' * most!r}... (5,000 characters)"),
        ((), "()"),
        ((1,), "(1,)"),
        ((1, "a"), "(1, 'a')"),
        (tuple(range(most)), repr(tuple(range(most)))),
        (tuple(range(most + 1)), f"{repr(tuple(range(most)))[:-1]}, ... ({most + 1} values))"),
        ([0] * 100, f"{repr([0] * 100)[:most]}... (300 characters)"),
        ([1, 2], "[1, 2]"),
        (10**50, str(10**50)),
        (Json(["x" * 50]), f"{repr(Json(['x' * 50]))[:most]}... (60 characters)"),
        (Mute(), "a value of class Mute"),
    )
    for value, expected in pairs:
        if facts.short(value) != expected:
            yield f"{value!r:.50} is shown as {facts.short(value)}" if type(value) is not Mute else "Mute is shown"
    if (
        repr(Send(1, 2, "x" * 50))
        != f"Send(sender=1, target=2, message={'x' * most!r}... (50 characters), headers=None)"
    ):
        yield f"an event is shown as {Send(1, 2, 'x' * 50)!r}"
    wanted: tuple[tuple[object, object], ...] = (
        (exact.text("a"), "a"),
        (exact.text(Text("a")), "a"),
        (exact.text(1), None),
        (exact.whole(Whole(3)), 3),
        (exact.whole(True), None),
        (exact.whole("1"), None),
        (exact.whole(1.0), None),
        (exact.number(Number(3.5)), 3.5),
        (exact.number(2), 2),
        (exact.number(True), None),
        (exact.class_name(Mute()), "Mute"),
        (exact.shown("x" * 200), repr("x" * 200)[:100]),
        (exact.shown("x" * 200, None), repr("x" * 200)),
        (exact.shown(Mute()), "a value of class Mute"),
        (exact.said(ValueError("why")), "why"),
        (exact.said(MuteError()), ""),
    )
    for number, (found, expected_value) in enumerate(wanted):
        if type(found) is not type(expected_value) or found != expected_value:
            yield f"{number}: {found!r} instead of {expected_value!r}"
