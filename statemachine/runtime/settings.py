"""Converts role and settings of an agent, which the core keeps as one text and never reads (S11).

Beside them is what they share with entries and receipts: JSON values.
"""

from __future__ import annotations

import json
from typing import Any

from attrs import frozen

from statemachine.core.facts import is_too_deep, represent
from statemachine.runtime.errors import NotJson
from statemachine.stores.encoding import EncodingError, to_json

__all__ = ["AgentInfo"]

DEFAULT_ROLE = "default"


@frozen
class AgentInfo:
    """The agent that a thread works for. `settings` is what it was spawned with, the same at every load (S11)."""

    id: int
    path: str
    role: str
    settings: Any

    __repr__ = represent


def info_of(agent: int, path: str, settings: str | None) -> AgentInfo:
    """Returns the agent that a thread works for, from the text that the core keeps."""
    return AgentInfo(agent, path, *unwrap(settings))


def wrap(role: str, settings: Any) -> str | None:
    """Returns role and settings as a text. Raises `NotJson`."""
    if role == DEFAULT_ROLE and settings is None:
        return None
    return json_text({"role": role, "settings": settings})


def unwrap(text: str | None) -> tuple[str, Any]:
    """Returns role and settings from their text."""
    if text is None:
        return DEFAULT_ROLE, None
    found = json.loads(text)
    return found["role"], found["settings"]


def json_text(value: Any) -> str:
    """Returns the value as JSON text, the same for equal values. Raises `NotJson`."""
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise NotJson(value, str(error)) from None
    if is_too_deep(value, text):
        json_value(value)
    return text


def json_value(value: Any) -> Any:
    """Returns a private copy of the value, as JSON has it. Raises `NotJson` for a value that no store can hold."""
    try:
        return json.loads(to_json(value))
    except (EncodingError, RecursionError) as error:
        raise NotJson(value, str(error)) from None
