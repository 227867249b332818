"""What sessions, stores and hosts are given, looked at before anything is opened. Each refusal names the value,
and what to give.
"""

from __future__ import annotations

import math
import os

from statemachine.core import exact
from statemachine.core.exact import shown


def seconds(value: object, name: str, *, zero: bool = True, end: bool = True) -> float:
    """Returns the number of seconds. Raises `TypeError` for what is not a number, and `ValueError` for one below 0, for
    0 unless `zero`, and for one without an end unless `end` is False.
    """
    least = "0 or more" if zero else "more than 0"
    found = exact.number(value)
    if found is None:
        raise TypeError(f"{name}={shown(value)}; give a number of seconds, {least}")
    try:
        number = float(found)
    except OverflowError:
        number = math.inf if found > 0 else -math.inf
    if number < 0 or math.isnan(number) or (number == 0 and not zero) or (number == math.inf and end):
        raise ValueError(f"{name}={shown(value)}; give seconds, {least}{', with an end' if end else ''}")
    return number


def whole(value: object, name: str, least: int, most: int | None = None) -> int:
    """Returns the whole number. Raises `TypeError` for what is not one, and `ValueError` for one out of bounds."""
    bounds = f"{least} or more" if most is None else f"{least} to {most}"
    found = exact.whole(value)
    if found is None:
        raise TypeError(f"{name}={shown(value)}; give a whole number, {bounds}")
    if found < least or (most is not None and found > most):
        raise ValueError(f"{name}={shown(value)}; give a whole number, {bounds}")
    return found


def text(value: object, name: str, what: str) -> str:
    """Returns the text. Raises `TypeError` for what is not one; `what` says what it is."""
    found = exact.text(value)
    if found is None:
        raise TypeError(f"{name}={shown(value)}; give a text, {what}")
    return found


def one_of(value: object, name: str, kind: type, what: str) -> None:
    """Raises `TypeError` for what is neither None nor such an object; `what` says how to make one."""
    if value is not None and not isinstance(value, kind):
        raise TypeError(f"{name}={shown(value)}; give {what}")


def check_place(value: object, what: str) -> None:
    """Raises `TypeError` for what is neither a text nor a path."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{what}, not {shown(value)}")
