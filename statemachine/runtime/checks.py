"""Values of callers, looked at before they are part of an event: the core takes them for what they say they are, and a
value of another type would be a defect there, which fails the session.
"""

from __future__ import annotations

from statemachine.runtime.handles import AgentRef
from statemachine.stores.encoding import TEXT_MAX


def check_text(value: object, what: str = "a message") -> None:
    """Raises `TypeError` for what is no text."""
    if not isinstance(value, str):
        raise TypeError(f"{what} is a text, not {value!r}")


def check_sender(value: object) -> None:
    """Raises `TypeError` for what is no agent's id."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"a sender is an agent's id, or HOST, not {value!r}")


def check_seconds(value: object) -> None:
    """Raises `TypeError` for what is no number of seconds."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"a timeout is a number of seconds, not {value!r}")


def check_reference(value: object) -> None:
    """Raises `TypeError` for what is no reference."""
    if not isinstance(value, AgentRef):
        raise TypeError(f"a reference is an AgentRef, as Handle.ref is, not {value!r}")


def check_result(value: object) -> None:
    """Raises `TypeError` for what no turn returns, and `ValueError` for what no store takes."""
    if value is None:
        return
    if not isinstance(value, str):
        raise TypeError(f"a turn returns a text or None, not {type(value).__name__}")
    if len(value) > TEXT_MAX:
        raise ValueError(f"a turn returned {len(value):,} characters, more than {TEXT_MAX:,}")
