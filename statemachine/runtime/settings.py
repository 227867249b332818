"""Who an agent is to its code: role and settings, which the core keeps as one text and never looks into (S11).

Beside them stands what both share with entries and receipts: values as JSON has them.
"""

from __future__ import annotations

import json
from typing import Any

from attrs import frozen

from statemachine.core.facts import is_too_deep
from statemachine.runtime.errors import NotJson
from statemachine.stores.encoding import EncodingError, to_json

__all__ = ["AgentInfo"]

DEFAULT_ROLE = "default"


@frozen
class AgentInfo:
    """Who a thread works for. `settings` is what the agent was spawned with, the same at every load (S11)."""

    id: int
    path: str
    role: str
    settings: Any


def info_of(agent: int, path: str, settings: str | None) -> AgentInfo:
    """Who a thread works for, from what the core keeps."""
    return AgentInfo(agent, path, *unwrap(settings))


def wrap(role: str, settings: Any) -> str | None:
    """The text of a role and settings. Raises `NotJson`."""
    if role == DEFAULT_ROLE and settings is None:
        return None
    return json_text({"role": role, "settings": settings})


def unwrap(text: str | None) -> tuple[str, Any]:
    """Role and settings again."""
    if text is None:
        return DEFAULT_ROLE, None
    found = json.loads(text)
    return found["role"], found["settings"]


def json_text(value: Any) -> str:
    """The value as JSON, the same text for equal values. Raises `NotJson`."""
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise NotJson(value, str(error)) from None
    if is_too_deep(value, text):
        json_value(value)
    return text


def json_value(value: Any) -> Any:
    """A copy of the value as JSON has it, which nobody else can change. Raises `NotJson` for what no store takes."""
    try:
        return json.loads(to_json(value))
    except (EncodingError, RecursionError) as error:
        raise NotJson(value, str(error)) from None
