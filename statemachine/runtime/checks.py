"""Checks values of callers before they are part of an event. The core does not check types: a value of another type
would be a defect there, which fails the session.
"""

from __future__ import annotations

from statemachine.core.facts import Json, Result
from statemachine.runtime.handles import AgentRef
from statemachine.stores.encoding import TEXT_MAX, EncodingError, parse, to_json


def check_text(value: object, what: str = "a message") -> None:
    """Raises `TypeError` if the value is not a text."""
    if not isinstance(value, str):
        raise TypeError(f"{what} is a text, not {value!r}")


def check_sender(value: object) -> None:
    """Raises `TypeError` if the value is not an agent's id."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"a sender is an agent's id, or HOST, not {value!r}")


def check_seconds(value: object) -> None:
    """Raises `TypeError` if the value is not a number of seconds."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"a timeout is a number of seconds, not {value!r}")


def check_reference(value: object) -> None:
    """Raises `TypeError` if the value is not a reference."""
    if not isinstance(value, AgentRef):
        raise TypeError(f"a reference is an AgentRef, as Handle.ref is, not {value!r}")


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
    return str.__str__(value)  # an instance of a subclass would be read back as another text
