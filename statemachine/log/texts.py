"""Judges the texts of the runtime that the core never reads: the settings of agents, and the headers of mails. See
`judging.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NoReturn

import msgspec

from statemachine.core.records import AgentSpawned, MailAccepted
from statemachine.log.agent_facts import AgentFacts

__all__ = ["facts_problem", "texts_problem"]


def settings_problem(text: str, at: float | None) -> str | None:
    """Returns why these are not the role and settings of an agent, as the runtime writes them, or None.

    The core never reads settings, so another host of it may give any text. The runtime dates what it writes (`at`), and
    has since there are times; without one, only what begins as its settings do is judged.
    """
    if at is None and not text.startswith(BEFORE_ROLE):
        return None
    try:
        SETTINGS.decode(text)
    except UNREADABLE:
        found = _json(text)  # which takes lone surrogates, too
        if not isinstance(found, dict) or found.keys() != {"role", "settings"} or not isinstance(found["role"], str):
            return f"{text!r:.100} are not the role and settings of an agent"
    return None


def headers_problem(text: str) -> str | None:
    """Returns why these are not the headers of a mail, which are an object of JSON, or None."""
    try:
        HEADERS.decode(text)
    except UNREADABLE:
        if not isinstance(_json(text), dict):
            return f"{text!r:.100} are not the headers of a mail"
    return None


def texts_problem(record: Any) -> str | None:
    """Returns what is wrong with the settings or headers in a record, or None."""
    kind = record.__class__
    if kind is MailAccepted:
        return None if record.headers is None else headers_problem(record.headers)
    if kind is AgentSpawned:
        return None if record.settings is None else settings_problem(record.settings, record.at)
    return None


def _json(text: str) -> Any:
    """Returns the value of a JSON text; None, too, if it is not one."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """Role and settings of an agent: the settings are any JSON value."""

    role: str
    settings: msgspec.Raw


UNREADABLE = (msgspec.MsgspecError, UnicodeEncodeError, RecursionError)
"""What msgspec raises for what is not JSON, is not of the type, or has lone surrogates."""
BEFORE_ROLE = '{"role":'
SETTINGS = msgspec.json.Decoder(Settings)
HEADERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def facts_problem(facts: Sequence[AgentFacts]) -> tuple[int, str] | None:
    """Returns the first agent with settings or mail that it cannot have, and why, or None. All settings are read before
    any is judged, which takes half the time.
    """
    read = SETTINGS.decode
    are_sound = True
    try:
        for text in {f.settings for f in facts}:
            if text is not None:
                read(text)
    except UNREADABLE:
        are_sound = False
    for f in facts:
        if not are_sound and f.settings is not None:
            problem = settings_problem(f.settings, None if f.times is None else f.times[0])
            if problem is not None:
                return f.agent, problem
        if f.mailbox or f.taken:
            for mail in (*f.taken, *f.mailbox):
                if mail.headers is not None and (problem := headers_problem(mail.headers)):
                    return f.agent, f"mail {mail.mail}: {problem}"
    return None
