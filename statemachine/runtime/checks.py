"""Values of callers, looked at before they are part of an event: the core takes them for what they say they are, and a
value of another type would be a defect there, which fails the session. A value of a class derived from the right one
becomes one of the right class itself, because that is what is read again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

from statemachine.core.facts import Json, Result
from statemachine.core.refusals import InvalidHeaders
from statemachine.core.rules import HEADERS_BYTES_MAX
from statemachine.runtime.errors import NotJson
from statemachine.runtime.handles import AgentRef
from statemachine.runtime.settings import json_text
from statemachine.stores.encoding import TEXT_MAX, EncodingError, parse, to_json


def text_of(value: object, what: str = "a message") -> str:
    """The text. Raises `TypeError` for what is not one."""
    if not isinstance(value, str):
        raise TypeError(f"{what} is a text, not {value!r:.100}")
    return str.__str__(value)


def sender_of(value: object) -> int:
    """The sender. Raises `TypeError` for what is not an agent's id."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"a sender is an agent's id, or HOST, not {value!r:.100}")
    return int(value)


def seconds_of(value: object) -> float:
    """The number of seconds. Raises `TypeError` for what is not one."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"a timeout is a number of seconds, not {value!r:.100}")
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf  # which is refused likewise


def count_of(value: object, what: str, least: int = 1) -> int:
    """The number. Raises `TypeError` for what is not a whole number, and `ValueError` for one below `least`."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{what} is a whole number, not {value!r:.100}")
    if int(value) < least:
        raise ValueError(f"{what} is at least {least}, not {int(value)}")
    return int(value)


def headers_of(value: object) -> str | None:
    """The headers as the core carries them; without any, None. Raises `InvalidHeaders` for what is not an object of
    JSON; whether it is too large, the core says.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise InvalidHeaders(f"a value of class {type(value).__name__}", None, HEADERS_BYTES_MAX)
    try:
        return json_text(dict(cast("Mapping[str, Any]", value))) if value else None
    except NotJson as error:
        raise InvalidHeaders(f"what JSON does not have ({error.problem})", None, HEADERS_BYTES_MAX) from None


def check_reference(value: object) -> None:
    """Raises `TypeError` if the value is not a reference."""
    if not isinstance(value, AgentRef):
        raise TypeError(f"a reference is an AgentRef, as Handle.ref is, not {value!r:.100}")


def result_of(value: object) -> Result:
    """Returns the result of a turn as the core has it. Raises `ValueError` if it is not a JSON value, or is one that
    no store can hold.
    """
    if not isinstance(value, str):
        try:
            return Json(parse(to_json(value)))
        except EncodingError as error:
            raise ValueError(f"a turn returned {error}") from None
    if len(value) > TEXT_MAX:
        raise ValueError(f"a turn returned {len(value):,} characters, more than {TEXT_MAX:,}")
    return str.__str__(value)
