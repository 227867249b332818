"""Converts role and settings of an agent, which the core keeps as one text and never reads (S11).

Beside them is what they share with entries and receipts: JSON values.
"""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

from attrs import field, frozen

from statemachine.core.exact import class_name, json_size_least, said
from statemachine.core.facts import NESTING_MAX, is_too_deep, represent
from statemachine.runtime.errors import NotJson, TooLarge
from statemachine.runtime.stack import check_stack
from statemachine.stores import limits
from statemachine.stores.encoding import EncodingError, to_json
from statemachine.stores.limits import Limit

__all__ = ["AgentInfo"]

DEFAULT_ROLE = "default"
"""The role of the root, and of agents that are spawned without one. It always has work."""
BEFORE_ROLE = '{"role":'
"""How `wrap` begins, because keys are sorted."""
DECODER = json.JSONDecoder()


@frozen
class AgentInfo:
    """The agent that a thread works for."""

    id: int
    path: str
    role: str
    _settings: Any = field(alias="settings")

    __repr__ = represent

    @property
    def settings(self) -> Any:
        """What the agent was spawned with, the same at every load (S11): a copy each time, which may be changed."""
        return deepcopy(self._settings)


def info_of(agent: int, path: str, settings: str | None) -> AgentInfo:
    """Returns the agent that a thread works for, from the text that the core keeps."""
    return AgentInfo(agent, path, *unwrap(settings))


def wrap(role: str, settings: Any) -> str | None:
    """Returns role and settings as a text. Raises `NotJson` and `TooLarge`."""
    if role == DEFAULT_ROLE and settings is None:
        return None
    whole, limit = {"role": role, "settings": settings}, limits.SETTINGS
    try:
        check_size(whole, limit)
    except EncodingError as error:
        raise NotJson(whole, str(error)) from None
    text = json_text(whole)
    size = limit.excess(text)
    if size is not None:
        raise TooLarge(limit.what, size, limit.bytes_max)
    return text


def unwrap(text: str | None) -> tuple[str, Any]:
    """Returns role and settings from their text."""
    if text is None:
        return DEFAULT_ROLE, None
    found = json.loads(text)
    return found["role"], found["settings"]


def role_of(text: str | None) -> str:
    """Returns the role alone, without reading the settings behind it, which may be large."""
    if text is None:
        return DEFAULT_ROLE
    if not text.startswith(BEFORE_ROLE):
        return unwrap(text)[0]
    role: str = DECODER.raw_decode(text, len(BEFORE_ROLE))[0]
    return role


def size_least(value: object, most: int) -> int:
    """Returns how many bytes the JSON text of the value takes at least, or a number above `most` if it takes more. A
    value that has another one twice, and that again, is small in memory and would take all of it as a text, so this is
    asked before one is made. Raises `EncodingError` for one that is nested too deep.
    """
    try:
        size = json_size_least(value, most, NESTING_MAX, id)
    except RuntimeError:  # the stack ends, or another thread changes it: its encoder tells
        return 0
    if size is None:
        raise EncodingError(f"a value of class {class_name(value)}, nested more than {NESTING_MAX} deep")
    return size


def check_size(value: object, limit: Limit) -> None:
    """Raises `TooLarge` or `EncodingError` for a value whose text need not be made to know that it is refused."""
    size = size_least(value, limit.bytes_max)
    if size > limit.bytes_max:
        raise TooLarge(limit.what, size, limit.bytes_max)


def json_text(value: Any) -> str:
    """Returns the value as JSON text, the same for equal values. Raises `NotJson`."""
    check_stack()  # or its end would be told as a fault of the value
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
        deep = is_too_deep(value, text)
    except Exception as error:  # of JSON, or of a value in it
        raise NotJson(value, said(error)) from None
    if deep:
        json_value(value)
    return text


def json_value(value: Any) -> Any:
    """Returns a private copy of an entry, as JSON has it. Raises `NotJson` for what is not a JSON value, and `TooLarge`
    for what no store can hold.
    """
    check_stack()
    limit = limits.ENTRY
    try:
        check_size(value, limit)
        text = to_json(value)
        copy = json.loads(text)
    except (EncodingError, RecursionError) as error:
        raise NotJson(value, str(error)) from None
    size = limit.excess_of_json(text)
    if size is not None:
        raise TooLarge(limit.what, size, limit.bytes_max)
    return copy
