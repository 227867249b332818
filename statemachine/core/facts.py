"""`fact`: the decorator of every event, record, effect and reply. `Json`: a value of a caller, as part of one. `short`:
how values are shown in errors, logs and `repr`, where neither whole messages nor whole settings belong.

A fact is a value: slotted, compared and hashed by its fields, never changed. Type checkers treat it as frozen and
reject an assignment. At run time it is not, because a frozen attrs class pays about 0.1 microseconds a field on
construction, and one turn cycle builds ten facts: freezing them would cost a quarter of the core's speed
(`bench/README.md`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, TypeVar, cast, dataclass_transform

from attrs import define, field, fields

from statemachine.core import exact

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def fact(cls: type[T]) -> type[T]:
    """Turns an annotated class into a fact. Its `repr` shows of long texts the start."""
    made = define(cls, repr=False, eq=True, unsafe_hash=True, order=False, weakref_slot=False)
    if "__repr__" not in cls.__dict__:
        made.__repr__ = represent  # type: ignore[method-assign]
    return made


SHOWN_MAX = 40
"""Most characters of a text of a caller that an error or a `repr` shows, and most of the values in a tuple."""


def short(value: object) -> str:
    """Returns the `repr` of a value, of long texts and other values of callers only the start."""
    if isinstance(value, tuple):
        values = cast("tuple[object, ...]", value)
        parts = [short(part) for part in values[:SHOWN_MAX]]
        if len(values) > SHOWN_MAX:
            parts.append(f"... ({len(values):,} values)")
        return f"({', '.join(parts)}{',' * (len(values) == 1)})"
    said = exact.text(value)
    if said is not None:
        start, size = repr(said[:SHOWN_MAX]), len(said)
    else:
        said = exact.shown(value, None)
        if not isinstance(value, list | dict | bytes | Json):
            return said
        start, size = said[:SHOWN_MAX], len(said)
    return start if size <= SHOWN_MAX else f"{start}... ({size:,} characters)"


def represent(self: Any) -> str:
    """The `__repr__` of attrs classes that hold values of callers."""
    kind: type[Any] = self.__class__
    shown = [f"{f.alias}={short(getattr(self, f.name))}" for f in fields(kind) if f.repr]
    return f"{kind.__name__}({', '.join(shown)})"


NESTING_MAX = 100
"""Lists and dicts within each other in a value of a caller. What is nested deeper could be written, but perhaps not be
read again by code with less stack left.
"""

ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


@define(init=False, repr=False, eq=True, unsafe_hash=True, order=False, weakref_slot=False)
class Json:
    """A JSON value that is not a text, held as its JSON text: it is compared and hashed like every fact, nothing can
    change it, and the core never looks inside. A tuple becomes a list, and the keys of a dict become texts.

    Raises `TypeError` or `ValueError` for what is not a JSON value, or nested more than `NESTING_MAX` deep.
    """

    text: str

    def __init__(self, value: Any) -> None:
        self.text = ENCODER.encode(value)
        if is_too_deep(value, self.text):
            raise ValueError(f"a value nested more than {NESTING_MAX} deep")

    def __attrs_post_init__(self) -> None:
        """Called by who reads a file, and has set the text as it stood there. Raises `ValueError` for a text that no
        value has.
        """
        if ENCODER.encode(self.value) != self.text:
            raise ValueError(f"{self.text!r:.100} is not how a JSON value is written here")

    @property
    def value(self) -> Any:
        """The value: a new copy each time."""
        return json.loads(self.text)

    def __repr__(self) -> str:
        return f"Json({self.value!r})"


Result = str | Json
"""What a turn came to: a text as it is, any other JSON value as `Json`."""


def is_too_deep(value: Any, text: str) -> bool:
    """Is a value, whose JSON text this is, nested more than `NESTING_MAX` deep?"""
    if text.count("[") + text.count("{") <= NESTING_MAX:
        return False
    depth = 0
    level: list[Any] = [value]
    while level := [part for part in level if issubclass(part.__class__, (dict, list, tuple))]:
        depth += 1
        level = [part for whole in level for part in _parts(whole)]
    return depth > NESTING_MAX


def _parts(whole: Any) -> Iterable[Any]:
    parts: Iterable[Any] = whole.values() if issubclass(whole.__class__, dict) else whole
    return parts
