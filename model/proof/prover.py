"""Obligations: what is to be shown, one formula each, and Z3's verdict.

*Initiation*: an opened or recovered session has every invariant. *Consecution*: where all invariants hold, each
transition keeps each. *Counting*: each counter is the size of its set, because each transition changes both alike.
*Step*: each transition has each property of steps. *Settled*: where no rule can fire, each property of settled states
holds.

Two axioms stand for what finite sets of agents have and first-order logic cannot say (`counting_axioms`,
`line_axioms`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import z3
from attrs import frozen

from . import relation as r
from .invariants import INVARIANTS, SETTLED, STEPS
from .logic import Agent, Bounded, Symbolic, Term
from .relation import RULES, TRANSITIONS, Transition
from .state import CONFIG, COUNTERS, FLAGS, INPUTS, LINES, NUMBERS, RELATIONS, SCALARS, State

STEPS_MAX = 50_000_000
"""The most steps, as Z3 counts them, that one obligation may take: the hardest takes a million, in a second. One that
takes more does not hold. Time would make the verdict depend on what else the machine does.
"""


@frozen
class Obligation:
    """Assuming `given`, `goal` holds. `hints` are parts of what is given from which it is known to follow; with them
    alone Z3 is much faster, and what follows from a part follows from all.
    """

    property: str
    name: str
    given: tuple[Term, ...]
    make: Callable[[], Term]
    """Makes the goal. Most of the time is spent on making terms, so it is made when it is needed."""
    hints: tuple[Term, ...] = ()


@frozen
class Proof:
    """Z3's verdict. `model` is a counterexample, if there is one."""

    property: str
    name: str
    holds: bool
    seconds: float
    model: z3.ModelRef | None
    note: str


def symbolic_state(logic: Symbolic) -> State:
    """A state of which nothing is known."""
    integer, truth, agent = z3.IntSort(), z3.BoolSort(), logic.sort
    parts: dict[str, Any] = {}
    for name in (*NUMBERS, *LINES):
        parts[name] = z3.Function(name, agent, integer)
    for name in FLAGS:
        parts[name] = z3.Function(name, agent, truth)
    for name in RELATIONS:
        parts[name] = z3.Function(name, agent, agent, truth)
    for name in (*SCALARS, *CONFIG):
        parts[name] = z3.Int(name)
    for name in (*INPUTS, "rejects"):
        parts[name] = z3.Bool(name)
    return State(logic, parts)


def configuration(s: State) -> Term:
    """What construction of a configuration makes sure of."""
    return z3.And(
        s.cap >= 0,
        s.max_resident >= s.cap,
        s.max_overtaken >= 0,
        s.max_attempts >= 1,
        s.max_queued >= 0,
        s.max_agents >= 0,
        s.max_depth >= 0,
    )


COUNTED: dict[str, Callable[[State, Agent], Term]] = {
    "held": lambda s, x: s.logic.all(x != s.logic.root, r.holds(s, x)),
    "occupied": lambda s, x: s.logic.all(x != s.logic.root, s.residency(x) != r.UNLOADED),
    "without": lambda s, x: s.lent(x),
    "queued": lambda s, x: s.ready(x) > 0,
    "lenders": lambda s, x: s.lender(x) > 0,
    "members": lambda s, x: s.logic.all(x != s.logic.root, s.identity(x) == r.OPEN),
}
"""Counter -> the set whose size it is."""


def counting_axioms(s: State, named: tuple[Agent, ...]) -> Iterator[Term]:
    """What the sizes of finite sets have: at least as many members as are named; none, and it is empty; a set
    within another is not larger; and one within the union of two others, one of whose members is outside it, is smaller
    than both together.
    """
    yield from at_least_one(s, named)
    for name, within in COUNTED.items():
        for i, x in enumerate(named):
            for y in named[i + 1 :]:
                yield z3.Implies(z3.And(within(s, x), within(s, y), x != y), s.parts[name] >= 2)
        yield s.logic.forall(lambda y, name=name, within=within: z3.Implies(within(s, y), s.parts[name] >= 1))
        yield z3.Implies(s.parts[name] > 0, s.logic.exists(lambda y, within=within: within(s, y)))
    occupied, held, lent = COUNTED["occupied"], COUNTED["held"], COUNTED["without"]
    covered = s.logic.forall(lambda y: z3.Implies(occupied(s, y), z3.Or(held(s, y), lent(s, y))))
    all_lend = s.logic.forall(lambda y: z3.Implies(held(s, y), COUNTED["lenders"](s, y)))
    yield z3.Implies(all_lend, s.held <= s.lenders)
    for x in named:
        outside = z3.And(held(s, x), z3.Not(occupied(s, x)))
        yield z3.Implies(z3.And(covered, outside), s.occupied <= s.held + s.without - 1)


def at_least_one(s: State, named: tuple[Agent, ...]) -> Iterator[Term]:
    """A set with a member is not empty."""
    for name, within in COUNTED.items():
        for x in named:
            yield z3.Implies(within(s, x), s.parts[name] >= 1)


def line_axioms(s: State) -> dict[str, Term]:
    """A finite set that is not empty has a first and a last in each line, and a deepest. By name."""
    logic = s.logic

    def first(member: Callable[[Agent], Term], before: Callable[[Agent, Agent], Term]) -> Term:
        return z3.Implies(
            logic.exists(member),
            logic.exists(lambda x: z3.And(member(x), logic.forall(lambda y: z3.Implies(member(y), before(x, y))))),
        )

    def not_after(x: Agent, y: Agent) -> Term:
        return z3.Or(s.depth(x) > s.depth(y), z3.And(s.depth(x) == s.depth(y), s.ready(x) <= s.ready(y)))

    return {
        "first queued": first(lambda x: s.ready(x) > 0, lambda x, y: s.ready(x) <= s.ready(y)),
        "deepest queued": first(lambda x: s.ready(x) > 0, not_after),
        "first lender": first(lambda x: s.lender(x) > 0, lambda x, y: s.lender(x) <= s.lender(y)),
        "last lender": first(lambda x: s.lender(x) > 0, lambda x, y: s.lender(x) >= s.lender(y)),
        "first returning": first(lambda x: s.returning(x) > 0, lambda x, y: s.returning(x) <= s.returning(y)),
    }


def victim_axiom(s: State, x: Agent) -> Term:
    """Of the candidates for `x`, one comes before the others (N2)."""
    logic = s.logic

    def candidate(v: Agent) -> Term:
        return z3.And(s.use(v) > 0, z3.Not(s.tried(x, v)))

    return z3.Implies(
        logic.exists(candidate),
        logic.exists(
            lambda v: z3.And(candidate(v), logic.forall(lambda y: z3.Implies(candidate(y), r.comes_before(s, v, y))))
        ),
    )


def counts(s: State, after: State, name: str, agents: tuple[Agent, ...]) -> Term:
    """A counter changes as its set does: by the agents that the transition names, and no other enters or leaves."""
    within = COUNTED[name]
    others = s.logic.forall(lambda y: z3.Implies(z3.And(*(y != x for x in agents)), within(s, y) == within(after, y)))
    moved = sum((z3.If(within(after, x), 1, 0) - z3.If(within(s, x), 1, 0) for x in agents), z3.IntVal(0))
    apart = [agents[0] != agents[1]] if len(agents) == 2 else []
    return z3.And(others, after.parts[name] - s.parts[name] == moved, *apart)


def exact_counts(s: State, logic: Bounded) -> Iterator[Term]:
    """With a few agents each counter is a sum."""
    for name, within in COUNTED.items():
        yield s.parts[name] == sum((z3.If(within(s, x), 1, 0) for x in logic.members), z3.IntVal(0))


class Proofs:
    """All obligations about one symbolic state."""

    transitions = TRANSITIONS

    def __init__(self, logic: Symbolic | None = None) -> None:
        self.logic = logic or Symbolic()
        self.state = symbolic_state(self.logic)
        s = self.state
        self.named = tuple(z3.Const(name, self.logic.sort) for name in ("a", "b"))
        self.invariants = {i.name: i.formula(s) for i in INVARIANTS.values()}
        self.configuration = configuration(s)
        self.known: tuple[Term, ...] = (self.configuration, *self.invariants.values())
        if isinstance(self.logic, Bounded):
            self.known += tuple(exact_counts(s, self.logic))

    def obligations(self) -> Iterator[Obligation]:
        """All of them."""
        yield from self.initiation()
        for transition in TRANSITIONS.values():
            yield from self.of(transition)
        yield from self.settled()

    def initiation(self) -> Iterator[Obligation]:
        """A session that was just opened, or recovered: any tree, any mail, nothing in memory but the root."""
        s, logic = self.state, self.logic
        resting = logic.forall(
            lambda x: z3.And(
                s.identity(x) >= r.UNKNOWN,
                s.identity(x) <= r.FORGOTTEN,
                s.status(x) >= r.NEW,
                s.status(x) <= r.INTERRUPTED,
                s.residency(x) == z3.If(x == logic.root, r.RESIDENT, r.UNLOADED),
                s.slot(x) == r.FREE,
                z3.Not(s.lent(x)),
                *(s.parts[line](x) == 0 for line in LINES),
                *(s.parts[name](x) >= 0 for name in ("turn", "generation", "triggers", "attempts", "loads", "depth")),
                *(s.parts[name](x) == 0 for name in ("taken", "conditional", "chosen")),
                s.depth(x) <= s.max_depth,
                z3.Or(s.attempts(x) == 0, s.attempts(x) < s.max_attempts),
                s.loads(x) <= z3.If(s.max_attempts >= 3, s.max_attempts, 3),
                z3.Implies(s.loads(x) > 0, s.triggers(x) > 0),
                z3.Implies(s.identity(x) != r.OPEN, z3.And(s.triggers(x) == 0, s.attempts(x) == 0, s.loads(x) == 0)),
            )
        )
        none = logic.forall(lambda x, y: z3.Not(z3.Or(s.serves(x, y), s.tried(x, y))))
        tree = [self.invariants[name] for name in ("tree", "ancestry", "one parent", "has a parent", "unborn")]
        given = (
            self.configuration,
            resting,
            none,
            *tree,
            s.identity(logic.root) == r.OPEN,
            *(s.parts[name] == 0 for name in SCALARS if name != "members"),
            s.members >= 0,
            s.members <= s.max_agents,
        )
        for known in INVARIANTS.values():
            yield Obligation(known.property, f"initiation: {known.name}", given, partial(known.formula, s))

    def after(self, transition: Transition) -> tuple[tuple[Term, ...], State]:
        """What may be assumed of a transition, and the state after it."""
        s = self.state
        agents = self.named[: transition.agents]
        axioms = counting_axioms(s, agents)
        return (*self.known, *axioms, transition.guard(s, *agents)), transition.effect(s, *agents)

    def of(self, transition: Transition) -> Iterator[Obligation]:
        """Consecution, counting and steps of one transition."""
        s = self.state
        given, after = self.after(transition)
        agents = self.named[: transition.agents]
        guard = given[-1]
        for known in INVARIANTS.values():
            hints = (self.configuration, self.invariants["types"], self.invariants[known.name], guard)
            yield Obligation(
                known.property, f"{transition.name}: {known.name}", given, partial(known.formula, after), hints
            )
        for name in COUNTERS:
            goal = partial(counts, s, after, name, agents)
            yield Obligation("counting", f"{transition.name}: {name}", given, goal)
        for step in STEPS:
            if not step.applies(transition):
                continue
            yield Obligation(step.property, f"{transition.name}: {step.name}", given, partial(step.formula, s, after))

    def happens(self, transition: Transition) -> Obligation:
        """Vacuity: that the transition never happens, which must not hold."""
        given, _ = self.after(transition)
        return Obligation("vacuity", f"{transition.name}: never happens", given, lambda: z3.BoolVal(False))

    def settled(self) -> Iterator[Obligation]:
        """Where no rule can fire: at `w`, of which nothing is known, and so of every agent."""
        s, logic = self.state, self.logic
        w = z3.Const("w", logic.sort)
        at_rest: dict[str, list[Term]] = {}
        for known in RULES:
            if known.agents == 1:
                forms = [logic.no(known.guard(s, w)), logic.forall(lambda x, known=known: logic.no(known.guard(s, x)))]
            else:
                forms = [
                    logic.forall(lambda y, known=known: logic.no(known.guard(s, w, y))),
                    logic.forall(lambda x, y, known=known: logic.no(known.guard(s, x, y))),
                ]
            at_rest[known.name] = forms
        axioms = [*counting_axioms(s, (w,)), victim_axiom(s, w)]
        lines = line_axioms(s)
        shown = {theorem.name: logic.forall(lambda x, of=theorem: of.formula(s, x)) for theorem in SETTLED}
        for theorem in SETTLED:
            before = [shown[name] for name in theorem.before]
            needed = [self.invariants[name] for name in ("types", *theorem.needs)]
            rules = [form for name in theorem.rules for form in at_rest[name]]
            found = [lines[name] for name in theorem.lines]
            hints = (self.configuration, *needed, *rules, *found, *at_least_one(s, (w,)), victim_axiom(s, w), *before)
            given = (
                *self.known,
                *axioms,
                *lines.values(),
                *(form for forms in at_rest.values() for form in forms),
                *before,
            )
            yield Obligation(theorem.property, f"settled: {theorem.name}", given, partial(theorem.formula, s, w), hints)


def prove(obligation: Obligation) -> Proof:
    """Decides one obligation: it holds if Z3 shows that what is given and the negated goal have no model."""
    began = time.perf_counter()
    goal = obligation.make()
    verdict, model, note = z3.unknown, None, ""
    for given in (obligation.hints, obligation.given):
        if not given:
            continue
        solver = z3.Solver()
        solver.set("rlimit", STEPS_MAX)
        solver.add(*given, z3.Not(goal))
        verdict = solver.check()
        if verdict == z3.unsat:
            break
        model = solver.model() if verdict == z3.sat else None
        note = solver.reason_unknown() if verdict == z3.unknown else ""
    return Proof(obligation.property, obligation.name, verdict == z3.unsat, time.perf_counter() - began, model, note)
