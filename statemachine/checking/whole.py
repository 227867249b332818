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

LEFT_OUT = ("stale_reports", "records", "effects", "heap", "agents", "ledger", *("slots", "residents", "waits"))
"""Fields that are not compared as they are: rooms and agents are, field by field."""


def fields_of(kind: type) -> tuple[str, ...]:
    """The fields that are compared as they are."""
    slots: tuple[str, ...] = kind.__slots__  # type: ignore[attr-defined]
    return tuple([name for name in slots if name not in (*LEFT_OUT, "deadlines", "draining", "__weakref__")])


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
    if values == others and all(list(v) == list(o) for v, o in zip(values, others, strict=True) if type(v) is dict):
        return None
    for name, v, o in zip(FIELDS[kind], values, others, strict=True):
        if v != o or (isinstance(v, dict) and list(v) != list(o)):
            return f"{kind.__name__.lower()}.{name}: {v}, then {o}"
    return None


def current(deadlines: Deadlines) -> list[tuple[float, int]]:
    """What of the heap is not void, in order."""
    pending = deadlines.pending
    return sorted([(at, ticket) for at, ticket, key in deadlines.heap if pending.get(key) == (at, ticket)])
