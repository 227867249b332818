"""Values of callers, made exact: a `str`, `int` or `float` itself, and not of a class derived from one, whose methods
could raise or lie wherever the value goes later. Nothing here calls a method that a value brings along, except `shown`
and `said`, which expect it to raise.
"""

from __future__ import annotations

WHOLE_MAX = 10**100
"""The largest whole number that is taken. No count or second comes near it; JSON and floats take it."""


def text(value: object) -> str | None:
    """The text, or None for what is not one."""
    if type(value) is str:
        return value
    return str.__str__(value) if issubclass(type(value), str) else None  # pyright: ignore[reportArgumentType]


def whole(value: object) -> int | None:
    """The whole number, or None for what is not one. True and False are not numbers here."""
    kind = type(value)
    if kind is int:
        return value  # type: ignore[return-value]
    return int.__int__(value) if issubclass(kind, int) and kind is not bool else None  # type: ignore[arg-type]


def number(value: object) -> int | float | None:
    """The number, or None for what is not one."""
    if issubclass(type(value), float):
        return float.__float__(value)  # type: ignore[arg-type]
    return whole(value)


def class_name(value: object) -> str:
    """The name of the class of a value, whatever its metaclass says."""
    name: str = type.__dict__["__name__"].__get__(type(value))
    return name


def shown(value: object, most: int | None = 100) -> str:
    """The `repr` of a value for an error about it, or so many characters of it; its class if it cannot make one."""
    try:
        return str.__str__(repr(value))[:most]
    except KeyboardInterrupt:  # is not the value's own, but meant for the process
        raise
    except BaseException:
        return f"a value of class {class_name(value)}"


def bounded(text: str, most: int) -> str:
    """The text, or its first `most` characters and how many there are."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"


def said(error: BaseException) -> str:
    """The words of an exception, or nothing if it cannot make any."""
    try:
        return str.__str__(str(error))
    except KeyboardInterrupt:  # is not the exception's own, but meant for the process
        raise
    except BaseException:
        return ""
