"""Values of callers, made exact: a `str`, `int` or `float` itself, and not of a class derived from one, whose methods
could raise or lie wherever the value goes later. Nothing here calls a method that a value brings along, except `shown`
and `said`, which expect it to raise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

WHOLE_MAX = 10**100
"""The largest whole number that is taken. No count or second comes near it; JSON and floats take it."""
SHORT = frozenset([int, float, bool, type(None)])
"""Of which a value has few characters in JSON."""
DICT_VALUES: Any = dict[Any, Any].values
LIST_PARTS: Any = list[Any].__getitem__
TUPLE_PARTS: Any = tuple[Any, ...].__getitem__
EVERY = slice(None)
TOO_DEEP = -1
"""The size of what is nested too deep."""
REPR_MOST, DEEP_MOST = 100_000, 100
"""A list, tuple or dict of more is shown by its class: it may have another one twice, and that again."""
class_of: Callable[[object], type[Any]] = type


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


def json_size_least(value: object, most: int, deep: int, identity: Callable[[object], int] | None = None) -> int | None:
    """The least number of characters that the JSON text of a value has, or any above `most` if it has more. None if it
    is nested more than `deep` deep, or in a circle. This takes no longer than `most` is large. With `identity`, which
    is `id`, what is in the value more than once is looked at once: then it takes no longer than the value is large in
    memory, however long its text would be.
    """
    size = _size_least(value, most, deep, identity, {})
    return None if size == TOO_DEEP else size


def _size_least(
    value: Any, most: int, deep: int, identity: Callable[[object], int] | None, known: dict[int, int]
) -> int:
    kind = class_of(value)
    parts: Any
    if kind is dict:  # as nearly always
        parts, size = value.values(), 2 + 4 * len(value)
    elif kind is list:
        parts, size = value, 2
    elif issubclass(kind, str):
        return str.__len__(value) + 2
    elif issubclass(kind, dict):
        parts = DICT_VALUES(value)
        size = 2 + 4 * len(parts)
    elif issubclass(kind, list):
        parts, size = LIST_PARTS(value, EVERY), 2
    elif issubclass(kind, tuple):
        parts, size = TUPLE_PARTS(value, EVERY), 2
    else:
        return 1
    if identity is not None and (found := known.get(identity(value))) is not None:
        return found
    if not deep:
        return TOO_DEEP
    size += max(0, 2 * len(parts) - 1)
    if not SHORT.issuperset(map(type, parts)):
        for part in parts:
            kind = class_of(part)
            if kind is str:
                size += len(part) + 1
            elif kind not in SHORT:
                least = _size_least(part, most, deep - 1, identity, known)
                if least == TOO_DEEP:
                    return TOO_DEEP
                size += least - 1
                if size > most:
                    return size
    if identity is not None:
        known[identity(value)] = size
    return size


def class_name(value: object) -> str:
    """The name of the class of a value, whatever its metaclass says."""
    name: str = type.__dict__["__name__"].__get__(type(value))
    return name


def shown(value: object, most: int | None = 100) -> str:
    """The `repr` of a value for an error about it, or so many characters of it; its class if it cannot make one, or one
    that would take long to make.
    """
    try:
        if issubclass(type(value), (list, tuple, dict)):
            size = json_size_least(value, REPR_MOST, DEEP_MOST)
            if size is None or size > REPR_MOST:
                return f"a value of class {class_name(value)}"
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
