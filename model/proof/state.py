"""The state that the relation speaks of: what of a session its rules for turns, slots, memory and waits look at.

Fields of an agent are functions, and so are relations between two agents; the session has numbers of its own. In
`Plain` they look into dictionaries. Lines (the ready queue, the order of use, and so on) are *tickets*: the agent with
the lowest stands first, and 0 is not in the line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .logic import Agent, Logic, Term

NUMBERS = (
    "identity",
    "status",
    "residency",
    "slot",
    "depth",
    "turn",
    "generation",
    "triggers",  # unread trigger mail
    "taken",  # trigger mail that the turn has read, where it may be unread again
    "attempts",
    "loads",
    "conditional",  # waits that something else ends
    "chosen",  # waits by the turn's own choice
)
LINES = ("ready", "starting", "use", "leaving", "lender", "returning")
"""Tickets. `ready`: turns that queue. `starting`: turns with a slot that have not started. `use`: evictable agents, the
least recently used first. `leaving`: agents on their way out. `lender`: turns that wait and hold a slot. `returning`:
turns whose wait is over."""
FLAGS = ("lent",)
"""`lent`: the turn is in memory without a slot."""
RELATIONS = ("parent", "below", "serves", "tried")
"""`parent(x, y)`: y is x's. `below(x, y)`: x is y, or below. `serves(u, x)`: u leaves memory for x. `tried(x, v)`: v's
flush failed for x."""
COUNTERS = ("held", "occupied", "without", "queued", "lenders", "members")
"""How many sub-agents: hold a slot, are in memory or in transit, have a turn without a slot, queue, may lend, are
open."""
SCALARS = (*COUNTERS, "overtaken", "clock")
INPUTS = ("called_back",)
"""Decided by what the relation does not speak of. `called_back`: this end ends a wait of a turn that lent its slot."""
CONFIG = ("cap", "max_resident", "max_overtaken", "max_attempts", "max_queued", "max_agents", "max_depth", "rejects")


class State:
    """Functions, numbers and the logic that they are of. Immutable: `put` returns another."""

    def __init__(self, logic: Logic, parts: Mapping[str, Any]) -> None:
        self.logic = logic
        self.parts = parts

    def __getattr__(self, name: str) -> Any:
        try:
            return self.parts[name]
        except KeyError:
            raise AttributeError(name) from None

    def put(self, **changes: Any) -> State:
        """The state with these functions and numbers instead."""
        return State(self.logic, {**self.parts, **changes})

    def at(self, x: Agent, **values: Term) -> State:
        """The state in which these fields of `x` have these values."""
        return self.put(**{name: changed(self.logic, self.parts[name], x, value) for name, value in values.items()})

    def add(self, **amounts: Term) -> State:
        """The state with these numbers of the session so much larger."""
        return self.put(**{name: self.parts[name] + amount for name, amount in amounts.items()})

    def ticket(self, x: Agent, line: str) -> State:
        """The state with `x` at the end of the line."""
        return self.at(x, **{line: self.clock + 1}).add(clock=1)

    def relate(self, name: str, holds: Callable[[Agent, Agent], Term]) -> State:
        """The state with this relation."""
        return self.put(**{name: holds})


def changed(logic: Logic, function: Callable[[Agent], Term], x: Agent, value: Term) -> Callable[[Agent], Term]:
    """The function, but for its value at `x`."""
    return lambda y: logic.pick(y == x, value, function(y))
