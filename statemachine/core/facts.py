"""`fact`: the decorator of every event, record, effect and reply.

A fact is a value: slotted, compared and hashed by its fields, never changed. Type checkers treat it as frozen and
reject an assignment. At run time it is not, because a frozen attrs class pays about 0.1 microseconds a field on
construction, and one turn cycle builds ten facts: freezing them would cost a quarter of the core's speed
(`bench/README.md`).
"""

from __future__ import annotations

from typing import TypeVar, dataclass_transform

from attrs import define

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def fact(cls: type[T]) -> type[T]:
    """Turns an annotated class into a fact."""
    return define(cls, eq=True, unsafe_hash=True, order=False, weakref_slot=False)
