"""Judges what is read of earlier versions of traces and records: what they wrote is read as it was meant."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any

import attrs

from statemachine.core.events import Failed
from statemachine.core.facts import Result
from statemachine.core.machines import Identity, TurnState
from statemachine.core.records import Cause
from statemachine.log import older, trace
from statemachine.log.snapshot import facts_of

from .lives import life
from .traces import HEADER, events, refused, text_of

LATER = ("turn_timeout", "max_attempts", "max_overtaken")
"""What a configuration has only since version 3."""


def older_is_read(seed: int) -> Iterator[str]:
    """Yields what of earlier versions is not read as it was meant. Lives without what came later are written as those
    versions wrote it.
    """
    for event in events(Random(seed)):
        was = earlier_event(event)
        if was is not None:
            back = trace.event_of(text_of(was), 2)
            if back != event:
                yield f"{was!r:.200} is read as {back!r:.200}"
    for number in range(40):
        *_, (s, _, _) = life(Random(seed + number), 40)
        config = attrs.evolve(s.config, turn_timeout=None, max_attempts=1, max_overtaken=256)
        known: list[Any] = [facts_of(s.ledger, agent) for agent in s.agents]
        agents = [attrs.evolve(f, stopped=None, attempts=0, loads=0) for f in known]
        states = tuple(s.ledger.mail_states)
        if (
            any(f.identity is Identity.FORGOTTEN or has_later(f) for f in agents)
            or config.max_attempts != s.config.max_attempts
        ):
            continue
        header = json.loads(trace.header_line(config))
        told = {name: value for name, value in header["config"].items() if name not in LATER}
        for as_list in (False, True):
            facts = {"agents": [earlier_facts(f, as_list) for f in agents], "mail_states": list(states)}
            found = trace.header_of(text_of(header | {"version": 2, "config": told, "facts": facts}))
            if found.config != config or found.version != 2 or found.facts is None:
                yield f"seed {seed + number}: an earlier header is read as {found!r:.200}"
            elif (found.facts.agents, found.facts.mail_states) != (tuple(agents), states):
                yield f"seed {seed + number}: earlier facts are read as {found.facts!r:.200}"
    yield from oldest_is_read()


def has_later(facts: Any) -> bool:
    """Has the agent what no earlier version knew?"""
    mails = [*facts.taken, *facts.mailbox]
    return any(mail.headers is not None or mail.answers for mail in mails)


def word(member: Any) -> str:
    """Returns the name of a member, as earlier versions wrote it."""
    return str(member.name).lower()


def earlier_result(value: Result) -> Any:
    return value if isinstance(value, str) else value.value


def earlier_outcome(found: Any) -> Any:
    if found is None:
        return None
    said = {"agent": found.agent, "turn": found.turn, "status": word(found.status)}
    return {**said, "result": earlier_result(found.raw), "cause": word(found.cause), "by": found.by}


def earlier_mail(found: Any) -> dict[str, Any]:
    said = {"mail": found.mail, "sender": found.sender, "target": found.target, "kind": word(found.kind)}
    return {**said, "message": found.message, "notice": earlier_outcome(found.notice)}


def earlier_facts(f: Any, as_list: bool) -> Any:
    outcome = earlier_outcome(f.outcome)
    said = {
        "agent": f.agent,
        "parent": f.parent,
        "name": f.name,
        "settings": f.settings,
        "identity": word(f.identity),
        "closed_by": f.closed_by,
        "status": word(f.status),
        "turn": f.turn,
        "outcome": list(outcome.values()) if as_list and outcome else outcome,
        "asked": [earlier_mail(mail) for mail in f.taken],
        "mailbox": [earlier_mail(mail) for mail in f.mailbox],
    }
    return list(said.values()) if as_list else said


def earlier_event(event: Any) -> dict[str, Any] | None:
    """Returns an event as version 2 wrote it; None: it could not have happened then."""
    found = json.loads(trace.event_line(event))
    kind = event.__class__.__name__
    if kind == "StopWaiting":
        if event.wait != 0:
            return None
        del found["wait"]
    if kind == "Failed":
        found["cause"] = word(event.cause)
    if kind == "Finished":
        found["result"] = earlier_result(event.result)
    defaults = {field.name: field.default for field in attrs.fields(event.__class__)}
    return {name: value for name, value in found.items() if name == "event" or getattr(event, name) != defaults[name]}


WORDS = (
    *[(TurnState.COMPLETED, words, Cause.FINISHED) for words in ("", "closed", "its thread died: x")],
    (TurnState.ERRORED, "its thread died: x", Cause.THREAD_DIED),
    (TurnState.ERRORED, "load failed: its thread died: x", Cause.LOAD_DIED),
    (TurnState.ERRORED, "load failed: no answer for 30.0 s", Cause.LOAD_TIMED_OUT),
    (TurnState.ERRORED, "load failed: x", Cause.LOAD_FAILED),
    (TurnState.ERRORED, "no residency slot: x", Cause.NO_ROOM),
    (TurnState.ERRORED, "ValueError: closed", Cause.FAILED),
    (TurnState.INTERRUPTED, "closed", Cause.CLOSED),
    (TurnState.INTERRUPTED, "its thread died", Cause.THREAD_DIED),
    (TurnState.INTERRUPTED, "interrupted before it started", Cause.NOT_STARTED),
    (TurnState.INTERRUPTED, "interrupted by a crash", Cause.CRASHED),
    (TurnState.INTERRUPTED, "interrupted; it did not stop within 5.0 s", Cause.NOT_STOPPED),
    (TurnState.INTERRUPTED, "interrupted", Cause.INTERRUPTED),
)
"""The status of a turn, the words of its end, and its cause, which the oldest versions did not write."""


def oldest_is_read() -> Iterator[str]:
    """Yields what of the oldest versions is not read as it was meant."""
    for status, words, cause in WORDS:
        ending = {"agent": 1, "turn": 2, "status": word(status), "result": words}
        meant = {"agent": 1, "turn": 2, "status": status, "raw": words, "cause": cause, "by": None}
        mail = {"mail": 3, "kind": "queue", "notice": ending}
        for kind, given, expected in (
            ("TurnEnded", {"outcome": ending}, {"outcome": meant}),
            ("NoticeBuried", {"mail": 3, "notice": ending}, {"mail": 3, "notice": meant}),
            ("MailAccepted", mail, {"mail": 3, "kind": 0, "notice": meant}),
            ("AgentSpawned", {"agent": 1}, {"agent": 1}),
        ):
            if older.record(kind, given) != expected:
                yield f"{kind} with {given} is read as {older.record(kind, given)}"
    if trace.event_of(b'{"event":"Failed","agent":1,"turn":1,"error":"x"}', 1) != Failed(1, 1, "x"):
        yield "an oldest failure is read as another"
    for name in ("Queue", "QUEUE", "nothing", 1, None, ""):
        try:
            found = older.mail({"kind": name, "notice": None})
        except (KeyError, TypeError, ValueError):
            continue
        yield f"mail of kind {name!r} is read as {found!r}"
    for line in (b'{"event":"Failed","agent":1,"turn":1,"error":"x","cause":"Failed"}', b'{"event":"Finished"}'):
        yield from refused(lambda text: trace.event_of(text, 2), line)
    header = json.loads(HEADER)
    config = {name: value for name, value in header["config"].items() if name not in LATER}
    wrong_facts: tuple[Any, ...] = (
        {"agents": [[1, 2]], "mail_states": [0, 0, 0]},
        {"agents": [{}], "mail_states": [0, 0, 0]},
        [],
    )
    for facts in wrong_facts:
        yield from refused(trace.header_of, text_of(header | {"version": 2, "config": config, "facts": facts}))
    yield from refused(trace.header_of, text_of(header | {"version": 2, "config": []}))
