"""Compares two sessions in every field: what a refusal or a stale report must leave as it was (S9, S12).

A fingerprint leaves out what decides nothing, such as numbers that only count up. An event that is refused must not
even change those. Left out here are alone: the count of stale reports, which S9 has count; the records and effects of
the last step, which its `Step` has; entries of the heap of deadlines that are void.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from statemachine.core.agents import Agent
from statemachine.core.deadlines import Deadlines
from statemachine.core.ledger import Ledger
from statemachine.core.residency import Residents
from statemachine.core.slots import Slots
from statemachine.core.state import Draining, State
from statemachine.core.waits import Waits

LEFT_OUT = ("stale_reports", "records", "effects", "heap", "__weakref__")
"""Fields that are not compared."""
ONE_BY_ONE = ("agents", "ledger", "slots", "residents", "waits", "deadlines", "draining")
"""What is compared field by field."""


def fields_of(kind: Any) -> tuple[str, ...]:
    """The fields that are compared as they are."""
    slots: tuple[str, ...] = kind.__slots__
    return tuple([name for name in slots if name not in (*LEFT_OUT, *ONE_BY_ONE)])


ROOMS = (Ledger, Slots, Residents, Waits, Deadlines)
FIELDS: dict[type, tuple[str, ...]] = {kind: fields_of(kind) for kind in (State, *ROOMS, Draining, Agent)}
VALUES: dict[type, attrgetter[Any]] = {kind: attrgetter(*names) for kind, names in FIELDS.items()}
OF_STATE = attrgetter("ledger", "slots", "residents", "waits", "deadlines")


def difference(before: State, after: State) -> str | None:
    """Returns a field in which the sessions differ, with both values; None, if they are the same. The order of a dict
    is a part of it.
    """
    found = differs(State, before, after)
    for kind, one, other in zip(ROOMS, OF_STATE(before), OF_STATE(after), strict=True):
        found = found or differs(kind, one, other)
    if found is not None:
        return found
    if before.draining is not None and after.draining is not None:
        found = differs(Draining, before.draining, after.draining)
    elif before.draining is not after.draining:
        found = f"draining: {before.draining}, then {after.draining}"
    if len(before.agents) != len(after.agents):
        return f"{len(before.agents)} agents, then {len(after.agents)}"
    for one, other in zip(before.agents, after.agents, strict=True):
        found = found or differs(Agent, one, other)
    if found is None and current(before.deadlines) != current(after.deadlines):
        found = "the heap of deadlines"
    return found


def differs(kind: type, one: Any, other: Any) -> str | None:
    """Returns the first field of two objects of this class that differs, with both values."""
    values, others = VALUES[kind](one), VALUES[kind](other)
    if values == others and in_order(values) == in_order(others):
        return None
    for name, v, o in zip(FIELDS[kind], values, others, strict=True):
        if v != o or in_order((v,)) != in_order((o,)):
            return f"{kind.__name__.lower()}.{name}: {v}, then {o}"
    return None


def in_order(values: tuple[Any, ...]) -> list[list[Any]]:
    """The keys of each dict among these values, which are the same in any order for `==`."""
    return [[*value] for value in values if value.__class__ is dict and len(value) > 1]


def current(deadlines: Deadlines) -> list[tuple[float, int]]:
    """What of the heap is not void, in order."""
    pending = deadlines.pending
    return sorted([(at, ticket) for at, ticket, key in deadlines.heap if pending.get(key) == (at, ticket)])
