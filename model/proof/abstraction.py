"""The state of a real session as the relation sees it, and the relation at work on such states.

`of_session` is the abstraction. `Machine` applies words of transitions, and settles: joint rules in the order in which
the core tries them, until none can fire. States are values here, with the tickets of each line renumbered from 1, so
two that are equal go on in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any

from attrs import frozen

from statemachine.core.config import Overflow, SessionConfig
from statemachine.core.events import ROOT
from statemachine.core.machines import Identity, SlotState
from statemachine.core.records import MailKind
from statemachine.core.residency import NO_AGENT
from statemachine.core.session import Session

from .logic import Plain
from .relation import TRANSITIONS, Transition
from .state import CONFIG, FLAGS, LINES, NUMBERS, RELATIONS, SCALARS, State

NEVER = 10**9
"""Stands for "no bound"."""

Value = tuple[Any, ...]
"""A state as a value: fields by agent, relations as sets of pairs, numbers of the session; in the order of `PARTS`."""

FIELDS = (*NUMBERS, *LINES, *FLAGS)
PARTS = (*FIELDS, *RELATIONS, *SCALARS)
CLOCK = PARTS.index("clock")


def configured(config: SessionConfig) -> dict[str, Any]:
    """The configuration as the relation knows it."""
    values = (
        config.execution_cap,
        config.max_resident,
        config.max_overtaken,
        config.max_attempts,
        config.max_queued,
        NEVER if config.max_agents is None else config.max_agents,
        NEVER if config.max_depth is None else config.max_depth,
        config.overflow is Overflow.REJECT,
    )
    return dict(zip(CONFIG, values, strict=True))


def of_session(s: Session, base: Session, size: int) -> Value:
    """The abstraction, with room for `size` agents, of which some are not spawned yet. Numbers of turns and threads
    count from those in `base`.
    """
    parts: dict[str, Any] = {name: [0] * size for name in FIELDS}
    relations: dict[str, set[tuple[int, int]]] = {name: set() for name in RELATIONS}
    for a in s.agents:
        x = a.id
        is_new = x >= len(base.agents)
        waits = list(s.waits.of(x))
        chosen = sum(wait.is_own_choice for wait in waits)
        facts = {
            "identity": +a.identity,
            "status": +a.status,
            "residency": +a.residency,
            "slot": +s.slots.holders[x][1] if x in s.slots.holders else +SlotState.FREE,
            "turn": a.turn - (0 if is_new else base.agents[x].turn),
            "generation": a.generation - (0 if is_new else base.agents[x].generation),
            "triggers": a.triggers,
            "taken": sum(m.kind is MailKind.TRIGGER for m in a.taken) if s.config.max_attempts > 1 else 0,
            "attempts": s.ledger.attempts.get(x, 0),
            "loads": s.ledger.loads.get(x, 0),
            "conditional": len(waits) - chosen,
            "chosen": chosen,
        }
        if a.identity is not Identity.FORGOTTEN:
            facts["depth"] = a.depth
            if x != ROOT:
                relations["parent"].add((x, a.parent))
            above = x
            while above >= 0:
                relations["below"].add((x, above))
                above = s.agents[above].parent
        for name, value in facts.items():
            parts[name][x] = value
    residents = s.residents
    lines: dict[str, Iterable[int]] = {
        "ready": s.slots.ready,
        "starting": residents.starting,
        "use": residents.idle,
        "leaving": residents.serves,
        "lender": s.waits.lenders,
        "returning": s.waits.returning,
    }
    for name, line in lines.items():
        for place, x in enumerate(line, 1):
            parts[name][x] = place
    parts["lent"] = [x in s.slots.lent for x in range(size)]
    relations["serves"] = {(u, x) for u, x in residents.serves.items() if x != NO_AGENT}
    relations["tried"] = {(x, v) for x, tried in residents.tried.items() for v in tried}
    scalars = (
        s.slots.held,
        residents.occupied,
        len(s.slots.lent),
        len(s.slots.ready),
        len(s.waits.lenders),
        s.ledger.open_agents,
        s.slots.overtaken,
        size,
    )
    return (*(tuple(parts[name]) for name in FIELDS), *(frozenset(relations[name]) for name in RELATIONS), *scalars)


@frozen
class Item:
    """One letter of a word: the one of these transitions that is enabled. If none is, the word cannot happen, unless
    the letter is optional.
    """

    names: tuple[str, ...]
    agents: tuple[int, ...]
    optional: bool = False


Word = tuple[Item, ...]


class Machine:
    """The relation with one configuration and so many agents, on values."""

    def __init__(self, config: SessionConfig, size: int) -> None:
        self.logic = Plain(tuple(range(size)))
        self.config = configured(config)
        self.size = size
        self.pairs = [(x, y) for x in range(size) for y in range(size)]
        self.fired: dict[str, int] = {}
        """Transition -> how often it was applied."""

    def state(self, value: Value, called_back: bool = False) -> State:
        """The state of which formulas speak."""
        parts: dict[str, Any] = dict(self.config)
        parts["called_back"] = called_back
        for name, part in zip(PARTS, value, strict=True):
            if name in RELATIONS:
                parts[name] = lambda x, y, part=part: (x, y) in part
            else:
                parts[name] = part.__getitem__ if name in FIELDS else part
        return State(self.logic, parts)

    def value(self, s: State, before: Value, origin: State) -> Value:
        """The state as a value. `before` is that of `origin`, of which unchanged parts are taken over."""
        found: list[Any] = []
        for name, old in zip(PARTS, before, strict=True):
            part = s.parts[name]
            if part is origin.parts[name]:
                found.append(old)
            elif name in LINES:
                tickets = [part(x) for x in range(self.size)]
                ranks = {ticket: place for place, ticket in enumerate(sorted({t for t in tickets if t > 0}), 1)}
                found.append(tuple(ranks.get(ticket, 0) for ticket in tickets))
            elif name in FIELDS:
                found.append(tuple(part(x) for x in range(self.size)))
            elif name in RELATIONS:
                found.append(frozenset(pair for pair in self.pairs if part(*pair)))
            else:
                found.append(part)
        found[CLOCK] = self.size
        return tuple(found)

    def apply(self, value: Value, transition: Transition, agents: tuple[int, ...], called_back: bool) -> Value | None:
        """The state after the transition, or None if it cannot happen."""
        s = self.state(value, called_back)
        if not transition.guard(s, *agents):
            return None
        self.fired[transition.name] = self.fired.get(transition.name, 0) + 1
        return self.value(transition.effect(s, *agents), value, s)

    def spell(self, value: Value, word: Word, called_back: bool = False) -> Value | None:
        """The settled state after the word, or None if the word cannot happen."""
        for item in word:
            after = None
            for name in item.names:
                after = self.apply(value, TRANSITIONS[name], item.agents, called_back)
                if after is not None:
                    value = after
                    break
            if after is None and not item.optional:
                return None
        return self.settle(value)

    def settle(self, value: Value) -> Value:
        """Joint rules, until none can fire. Raises `Restless` if they never come to an end."""
        for _ in range(RULES_MAX):
            after = next(self.firing(value), None)
            if after is None:
                return value
            value = after
        raise Restless(value)

    def firing(self, value: Value) -> Iterator[Value]:
        """The states that joint rules lead to, in the order in which the core tries them."""
        s = self.state(value)
        for name, lines in SERVING.items():
            yield from self.fire(value, s, name, [self.standing(s, line) for line in lines])
        for x in self.standing(s, "starting"):
            for name, lines in ADVANCING.items():
                yield from self.fire(value, s, name, [[x], *(self.standing(s, line) for line in lines)])

    def standing(self, s: State, line: str) -> list[int]:
        """The agents in a line, the first one first; all of them, if there is none."""
        if not line:
            return [*self.logic.agents]
        place = s.parts[line]
        return sorted((x for x in self.logic.agents if place(x) > 0), key=place)

    def fire(self, value: Value, s: State, name: str, choices: list[list[int]]) -> Iterator[Value]:
        """What the rule leads to, with each choice of its agents."""
        known = TRANSITIONS[name]
        for agents in product(*choices):
            if known.guard(s, *agents):
                self.fired[name] = self.fired.get(name, 0) + 1
                yield self.value(known.effect(s, *agents), value, s)


RULES_MAX = 200
"""The most joint rules that one step may take, far above what a scope needs."""


class Restless(AssertionError):
    """Joint rules fire for ever."""


SERVING: dict[str, tuple[str, ...]] = {
    "request": ("",),
    "admit_root": ("",),
    "go_on": ("returning",),
    "admit": ("ready",),
    "swap": ("returning", "lender"),
    "lend": ("lender",),
    "stalled": ("lender",),
}
"""Rules that give slots, in the order in which the core tries them -> the lines in which their agents stand."""
ADVANCING: dict[str, tuple[str, ...]] = {
    "start": (),
    "load": (),
    "loads_lost": (),
    "keep": (),
    "adopt": ("leaving",),
    "evict": ("use",),
    "no_room": (),
}
"""The same for the rules of a starting turn: lines of the other agent. The turn that has been starting longest is
served first."""


def differences(one: Value, other: Value) -> list[str]:
    """The parts in which two states differ."""
    return [f"{name}: {a} and {b}" for name, a, b in zip(PARTS, one, other, strict=True) if a != b]
