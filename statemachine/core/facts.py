"""`fact`: the decorator of every event, record, effect and reply. `Json`: a value of a caller, as part of one.

A fact is a value: slotted, compared and hashed by its fields, never changed. Type checkers treat it as frozen and
reject an assignment. At run time it is not, because a frozen attrs class pays about 0.1 microseconds a field on
construction, and one turn cycle builds ten facts: freezing them would cost a quarter of the core's speed
(`bench/README.md`).
"""

from __future__ import annotations

import json
from typing import Any, TypeVar, dataclass_transform

from attrs import define, field

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def fact(cls: type[T]) -> type[T]:
    """Turns an annotated class into a fact."""
    return define(cls, eq=True, unsafe_hash=True, order=False, weakref_slot=False)


ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


@define(init=False, repr=False, eq=True, unsafe_hash=True, order=False, weakref_slot=False)
class Json:
    """A JSON value that is not a text, held as its JSON text: it is compared and hashed like every fact, nothing can
    change it, and the core never looks inside. A tuple becomes a list, and the keys of a dict become texts.

    Raises `TypeError` or `ValueError` for what is not a JSON value.
    """

    text: str

    def __init__(self, value: Any) -> None:
        self.text = ENCODER.encode(value)

    @property
    def value(self) -> Any:
        """The value: a new copy each time."""
        return json.loads(self.text)

    def __repr__(self) -> str:
        return f"Json({self.value!r})"


Result = str | Json
"""What a turn came to: a text as it is, any other JSON value as `Json`."""
