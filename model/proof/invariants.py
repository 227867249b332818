"""What is proved: invariants of the relation, what every transition does, and what holds when no rule can fire.

Named as the properties of semantics.md, section 6; a *lemma* is what a property needs and does not say. A property of
a state that a joint rule may have to mend first (L2, L8, S6, ...) is one about *settled* states: no rule can fire.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from . import relation as r
from .logic import Agent, Term
from .relation import Transition
from .state import LINES, State


@frozen
class Invariant:
    """It holds in every state, also between two transitions of one step."""

    property: str
    name: str
    formula: Callable[[State], Term]


INVARIANTS: dict[str, Invariant] = {}
"""Name -> invariant."""


def invariant(proved: str, name: str, formula: Callable[[State], Term]) -> None:
    INVARIANTS[name] = Invariant(proved, name, formula)


def each(proved: str, name: str, formula: Callable[[State, Agent], Term]) -> None:
    """An invariant of every agent."""
    invariant(proved, name, lambda s: s.logic.forall(lambda x: formula(s, x)))


def pairs(proved: str, name: str, formula: Callable[[State, Agent, Agent], Term]) -> None:
    """An invariant of every two agents."""
    invariant(proved, name, lambda s: s.logic.forall(lambda x, y: formula(s, x, y)))


def same(s: State, one: Term, other: Term) -> Term:
    """Are both true, or neither?"""
    return s.logic.all(s.logic.when(one, other), s.logic.when(other, one))


def typed(s: State, x: Agent) -> Term:
    counts = (s.triggers(x), s.taken(x), s.attempts(x), s.loads(x), s.conditional(x), s.chosen(x))
    return s.logic.all(
        *(count >= 0 for count in (*counts, s.turn(x), s.generation(x), s.depth(x))),
        s.identity(x) >= r.UNKNOWN,
        s.identity(x) <= r.FORGOTTEN,
        s.status(x) >= r.NEW,
        s.status(x) <= r.RETURNING,
        s.residency(x) >= r.UNLOADED,
        s.residency(x) <= r.UNLOADING,
        s.slot(x) >= r.FREE,
        s.slot(x) <= r.ACTIVE,
    )


def empty_handed(s: State, x: Agent) -> Term:
    """What is not open holds nothing."""
    return s.logic.when(
        s.identity(x) != r.OPEN,
        s.logic.all(
            s.residency(x) == r.UNLOADED,
            r.idle(s, x),
            s.slot(x) == r.FREE,
            s.logic.no(s.lent(x)),
            s.triggers(x) == 0,
            s.taken(x) == 0,
            s.attempts(x) == 0,
            s.loads(x) == 0,
            s.logic.no(r.waits(s, x)),
        ),
    )


def unborn(s: State, x: Agent) -> Term:
    """An agent that is not spawned yet stands in no relation."""
    logic = s.logic
    apart = logic.forall(
        lambda y: logic.no(logic.any(s.parent(x, y), s.parent(y, x), logic.all(x != y, s.below(y, x))))
    )
    return logic.when(s.identity(x) == r.UNKNOWN, logic.all(s.status(x) == r.NEW, apart))


def slot_of_turn(s: State, x: Agent) -> Term:
    logic, status = s.logic, s.status(x)
    active = logic.any(status == r.RUNNING, logic.all(status == r.STOPPING, logic.no(s.lent(x))))
    return logic.all(
        same(s, s.slot(x) == r.RESERVED, status == r.STARTING),
        same(s, s.slot(x) == r.ACTIVE, active),
        logic.when(logic.any(status == r.WAITING, status == r.RETURNING), s.lent(x)),
        logic.when(s.lent(x), logic.any(status == r.WAITING, status == r.RETURNING, logic.all(status == r.STOPPING))),
    )


def in_line(s: State, x: Agent) -> Term:
    status = s.status(x)
    return s.logic.all(
        same(s, s.ready(x) > 0, s.logic.all(x != s.logic.root, status == r.QUEUED)),
        same(s, s.starting(x) > 0, status == r.STARTING),
    )


def serving(s: State, u: Agent, x: Agent) -> Term:
    return s.logic.when(
        s.serves(u, x),
        s.logic.all(s.residency(u) == r.UNLOADING, s.status(x) == r.STARTING, s.residency(x) == r.UNLOADED),
    )


def served_once(s: State, x: Agent) -> Term:
    logic = s.logic
    return logic.forall(
        lambda u, v: logic.all(
            logic.when(logic.all(s.serves(u, x), s.serves(v, x)), u == v),
            logic.when(logic.all(s.serves(x, u), s.serves(x, v)), u == v),
        )
    )


def tree(s: State, x: Agent, y: Agent) -> Term:
    """An open agent's parent is open, and one higher."""
    logic = s.logic
    return logic.when(
        s.parent(x, y),
        logic.all(
            x != logic.root,
            x != y,
            logic.when(s.identity(x) == r.OPEN, s.identity(y) == r.OPEN),
            logic.when(s.identity(x) == r.CLOSED, s.identity(y) != r.FORGOTTEN),
            s.depth(x) == s.depth(y) + 1,
            s.identity(y) != r.UNKNOWN,
            s.identity(x) != r.UNKNOWN,
        ),
    )


def ancestry(s: State, x: Agent, y: Agent) -> Term:
    logic = s.logic
    above = logic.forall(lambda z: logic.when(s.parent(y, z), logic.when(s.below(x, y), s.below(x, z))))
    there = logic.any(s.identity(x) == r.OPEN, s.identity(x) == r.CLOSED)
    return logic.all(above, logic.when(s.parent(x, y), s.below(x, y)), logic.when(there, s.below(x, x)))


def one_parent(s: State, x: Agent) -> Term:
    logic = s.logic
    return logic.forall(lambda y, z: logic.when(logic.all(s.parent(x, y), s.parent(x, z)), y == z))


def has_parent(s: State, x: Agent) -> Term:
    """Every sub-agent that is not forgotten has one."""
    logic = s.logic
    there = logic.any(s.identity(x) == r.OPEN, s.identity(x) == r.CLOSED)
    return logic.when(logic.all(there, x != logic.root), logic.exists(lambda y: s.parent(x, y)))


def tickets(line: str) -> Callable[[State, Agent, Agent], Term]:
    def formula(s: State, x: Agent, y: Agent) -> Term:
        place = getattr(s, line)
        twice = s.logic.all(place(x) == place(y), place(x) > 0)
        return s.logic.all(place(x) >= 0, place(x) <= s.clock, s.logic.when(twice, x == y))

    return formula


each("lemma", "types", typed)
each("lemma", "unborn", unborn)
invariant(
    "lemma",
    "counts are not negative",
    lambda s: s.logic.all(
        *(n >= 0 for n in (s.held, s.occupied, s.without, s.queued, s.lenders, s.members, s.overtaken, s.clock))
    ),
)
invariant("S1", "slots", lambda s: s.held <= s.cap)
invariant("S2", "residency", lambda s: s.occupied <= s.max_resident)
each("S3", "a slot is its turn's", slot_of_turn)
each("S4", "in line", in_line)
each("S4", "thread in line", lambda s, x: same(s, s.leaving(x) > 0, s.residency(x) == r.UNLOADING))
each(
    "S6",
    "what leaves does not run",
    lambda s, x: s.logic.when(s.residency(x) == r.UNLOADING, s.logic.all(x != s.logic.root, s.status(x) <= r.STARTING)),
)
pairs("S7", "tree", tree)
pairs("S7", "ancestry", ancestry)
each("S7", "one parent", one_parent)
each("S7", "has a parent", has_parent)
each("S10", "closed holds nothing", empty_handed)
invariant("S10", "bounds", lambda s: s.members <= s.max_agents)
each("S10", "depth", lambda s, x: s.depth(x) <= s.max_depth)
invariant(
    "S13",
    "root",
    lambda s: s.logic.all(
        s.identity(s.logic.root) == r.OPEN,
        s.residency(s.logic.root) == r.RESIDENT,
        s.logic.no(s.lent(s.logic.root)),
    ),
)
each("S14", "running is resident", lambda s, x: s.logic.when(s.status(x) >= r.RUNNING, s.residency(x) == r.RESIDENT))
invariant("S16", "without a slot", lambda s: s.without <= s.max_resident - s.cap)
each("S17", "attempts", lambda s, x: s.logic.any(s.attempts(x) == 0, s.attempts(x) + 1 <= s.max_attempts))
each("S17", "loads", lambda s, x: s.loads(x) <= s.logic.pick(s.max_attempts >= 3, s.max_attempts, 3))
each(
    "S17",
    "loads are for a turn",
    lambda s, x: s.logic.any(
        s.loads(x) == 0,
        s.status(x) == r.QUEUED,
        s.status(x) == r.STARTING,
        s.logic.all(r.idle(s, x), s.triggers(x) > 0),
    ),
)
each("L6", "evictable", lambda s, x: same(s, s.use(x) > 0, r.evictable(s, x)))
each("L4", "waits", lambda s, x: s.logic.when(r.waits(s, x), r.works(s, x)))
each("L4", "waiting waits", lambda s, x: s.logic.when(s.status(x) == r.WAITING, r.waits(s, x)))
each("L4", "returning", lambda s, x: same(s, s.returning(x) > 0, s.status(x) == r.RETURNING))
each(
    "L8",
    "who may lend",
    lambda s, x: same(s, s.lender(x) > 0, s.logic.all(x != s.logic.root, s.status(x) == r.RUNNING, r.waits(s, x))),
)
pairs("D11", "serves", serving)
each("D11", "room from one", served_once)
pairs("N3", "tried", lambda s, x, v: s.logic.when(s.tried(x, v), r.needs_room(s, x)))
for each_line in LINES:
    pairs(
        {"ready": "J2", "use": "S15", "lender": "J7", "returning": "J2", "starting": "J5", "leaving": "D11"}[each_line],
        f"order of {each_line}",
        tickets(each_line),
    )


# What every transition does


@frozen
class StepProperty:
    """What holds of every transition: `formula` sees the state before, the one after, and the agents it names."""

    property: str
    name: str
    formula: Callable[[State, State], Term]
    applies: Callable[[Transition], bool] = lambda _: True


def numbers_grow(s: State, after: State) -> Term:
    """S9: a new thread or turn has a new number, so a report of the one before is stale for ever."""
    logic = s.logic

    def fenced(x: Agent) -> Term:
        new_thread = logic.all(after.residency(x) == r.LOADING, s.residency(x) != r.LOADING)
        begins = logic.all(after.status(x) == r.QUEUED, s.status(x) != r.QUEUED)
        goes_on = logic.all(after.status(x) == r.STARTING, s.status(x) >= r.RUNNING)
        return logic.all(
            after.generation(x) >= s.generation(x),
            after.turn(x) >= s.turn(x),
            logic.when(new_thread, after.generation(x) > s.generation(x)),
            logic.when(logic.any(begins, goes_on), after.turn(x) > s.turn(x)),
        )

    return logic.forall(fenced)


def victim(s: State, after: State) -> Term:
    """S15: of the evictable agents, the least recently used without trigger mail; if there is none, the least
    recently used. Those whose flush failed for the turn it serves do not count.
    """
    logic = s.logic

    def chosen(v: Agent, x: Agent) -> Term:
        def rather(y: Agent) -> Term:
            older = logic.all(s.use(y) < s.use(v), y != v)
            better = logic.pick(
                s.triggers(v) == 0, logic.all(s.triggers(y) == 0, older), logic.any(s.triggers(y) == 0, older)
            )
            return logic.all(r.evictable(s, y), logic.no(s.tried(x, y)), y != v, better)

        return logic.no(logic.exists(rather))

    def leaves_for(v: Agent, x: Agent) -> Term:
        leaves = logic.all(s.residency(v) == r.RESIDENT, after.residency(v) == r.UNLOADING, after.serves(v, x))
        return logic.when(leaves, logic.all(r.evictable(s, v), logic.no(s.tried(x, v)), chosen(v, x)))

    return logic.forall(leaves_for)


def queue_order(s: State, after: State) -> Term:
    """J2: a turn that is admitted is the one that has queued longest, or none is due and no deeper or equally deep one
    has queued longer.
    """
    logic = s.logic

    def fair(x: Agent, y: Agent) -> Term:
        admitted = logic.all(s.ready(x) > 0, after.status(x) == r.STARTING)
        other = logic.all(s.ready(y) > 0, x != y)
        passes = logic.any(s.depth(y) < s.depth(x), logic.all(s.depth(y) == s.depth(x), s.ready(x) < s.ready(y)))
        due = s.overtaken >= s.max_overtaken
        return logic.when(logic.all(admitted, other), logic.pick(due, s.ready(x) < s.ready(y), passes))

    return logic.forall(fair)


def wait_order(s: State, after: State) -> Term:
    """J7: of those that may lend, the one that began to wait first; J2: of those that return, the one that has been
    returning longest.
    """
    logic = s.logic

    def fair(x: Agent, y: Agent) -> Term:
        lends = logic.all(s.slot(x) == r.ACTIVE, after.status(x) == r.WAITING)
        goes_on = logic.all(s.status(x) == r.RETURNING, after.status(x) == r.RUNNING)
        return logic.all(
            logic.when(logic.all(lends, s.lender(y) > 0, x != y), s.lender(x) < s.lender(y)),
            logic.when(logic.all(goes_on, s.returning(y) > 0, x != y), s.returning(x) < s.returning(y)),
        )

    return logic.forall(fair)


def gets_slot(s: State, after: State, x: Agent) -> Term:
    """Does it get a slot that another could have had?"""
    logic = s.logic
    passed_on = logic.all(s.status(x) >= r.RUNNING, after.status(x) == r.STARTING)
    return logic.all(x != logic.root, logic.any(passed_on, logic.all(s.slot(x) == r.FREE, after.slot(x) != r.FREE)))


def fairness(s: State, after: State) -> Term:
    """L11: no other gets a slot before a turn that is due, and each that gets one before the turn that has queued
    longest is counted; but for a swap at the bound of lending, and the one returning turn of D20.
    """
    logic = s.logic
    swap = logic.all(logic.no(r.slot_is_free(s)), logic.no(r.may_lend(s)))

    def fair(x: Agent, oldest: Agent) -> Term:
        passes = logic.all(gets_slot(s, after, x), r.is_first(s, oldest, "ready"), x != oldest)
        most = logic.pick(s.status(x) == r.RETURNING, r.at_least_one(s), s.max_overtaken)
        bounded = logic.any(s.overtaken < most, logic.all(s.status(x) == r.RETURNING, swap))
        return logic.when(passes, logic.all(bounded, after.overtaken == s.overtaken + 1))

    return logic.forall(fair)


def returning_first(s: State, after: State) -> Term:
    """L12: a turn that starts or is the next of its agent gets no slot while another returns, unless one is due."""
    logic = s.logic

    def first(x: Agent, y: Agent) -> Term:
        begins = logic.all(gets_slot(s, after, x), after.status(x) == r.STARTING)
        waits = logic.all(s.status(y) == r.RETURNING, x != y)
        due = logic.all(s.queued > 0, s.overtaken >= r.at_least_one(s))
        return logic.when(logic.all(begins, waits), due)

    return logic.forall(first)


def untouched(s: State, after: State) -> Term:
    """S10: what is closed or forgotten changes only by resume and forget, and holds nothing before its first mail."""
    logic = s.logic
    return logic.forall(
        lambda x: logic.when(
            logic.all(s.identity(x) != r.OPEN, s.identity(x) != r.UNKNOWN),
            logic.all(after.residency(x) == r.UNLOADED, after.status(x) == s.status(x), after.triggers(x) == 0),
        )
    )


def true_failure(s: State, after: State) -> Term:
    """L1: a turn that could not start for want of room had a flush that failed for it: with theorem 1 in front, and
    counting, there is always a victim or room to come.
    """
    logic = s.logic

    def honest(x: Agent) -> Term:
        fails = logic.all(s.status(x) == r.STARTING, after.status(x) == r.ERRORED, s.residency(x) == r.UNLOADED)
        lost = logic.no(r.may_load(s, x))
        return logic.when(logic.all(fails, logic.no(lost)), logic.exists(lambda v: s.tried(x, v)))

    return logic.forall(honest)


def stalled_late(s: State, after: State) -> Term:
    """Theorem 3: where a wait ends as stalled, as many turns wait as may be in memory."""
    logic = s.logic
    all_wait = logic.forall(lambda x: logic.when(s.lent(x), s.status(x) == r.WAITING))
    return logic.all(all_wait, s.lenders + s.without >= s.max_resident, after.max_resident == s.max_resident)


STEPS: tuple[StepProperty, ...] = (
    StepProperty("S9", "numbers grow", numbers_grow),
    StepProperty("S15", "victim", victim),
    StepProperty("J2", "queue order", queue_order),
    StepProperty("J7", "wait order", wait_order),
    StepProperty("L11", "fairness of turns", fairness),
    StepProperty("L12", "returning first", returning_first),
    StepProperty("S10", "closed is left alone", untouched),
    StepProperty("L1", "true failure", true_failure),
    StepProperty("theorem 3", "stalled late", stalled_late, lambda known: known.name == "stalled"),
)


# Settled states


@frozen
class Settled:
    """What holds of every agent where no joint rule can fire. The rest is what it follows from, as hints: joint rules,
    invariants, theorems before it, and axioms of lines.
    """

    property: str
    name: str
    formula: Callable[[State, Agent], Term]
    rules: tuple[str, ...]
    needs: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()


def never_idle(s: State, x: Agent) -> Term:
    """L2, first half."""
    return s.logic.no(r.wants_turn(s, x))


def no_idle_slot(s: State, x: Agent) -> Term:
    """L2, second half."""
    logic = s.logic
    return logic.when(s.status(x) == r.QUEUED, logic.all(x != logic.root, s.held >= s.cap))


def none_lends_to(s: State, x: Agent) -> Term:
    """L8, where `x` returns."""
    logic = s.logic
    wants = logic.all(s.returning(x) > 0, logic.no(r.slot_is_free(s)))
    return logic.when(wants, logic.forall(lambda y: s.lender(y) <= 0))


def no_stall(s: State, x: Agent) -> Term:
    """L8, where `x` wants a slot."""
    logic = s.logic

    def may_lend(y: Agent) -> Term:
        return logic.all(y != logic.root, s.status(y) == r.RUNNING, r.waits(s, y))

    wanted = logic.any(s.ready(x) > 0, s.returning(x) > 0)
    returns = logic.exists(lambda y: s.returning(y) > 0)
    all_wait = logic.forall(
        lambda y: logic.when(logic.all(y != logic.root, r.holds(s, y)), logic.all(may_lend(y), s.conditional(y) > 0))
    )
    stops = logic.exists(lambda y: logic.all(s.lent(y), s.status(y) == r.STOPPING))
    bounded = logic.no(logic.any(returns, r.may_lend(s)))
    return logic.when(
        logic.all(wanted, logic.no(r.slot_is_free(s))),
        logic.any(logic.no(logic.exists(may_lend)), logic.all(bounded, logic.any(logic.no(all_wait), stops))),
    )


def leaves_rightly(s: State, x: Agent) -> Term:
    """S6: what is unloading is evictable but for its residency, or its own turn lets an older turn go first."""
    logic = s.logic
    yields = logic.exists(lambda y: logic.all(s.serves(x, y), s.starting(y) > 0, s.starting(y) < s.starting(x)))
    return logic.when(s.residency(x) == r.UNLOADING, logic.any(s.status(x) < r.STARTING, yields))


def theorem_1(s: State, x: Agent) -> Term:
    """While a turn is starting, its agent or what makes room for it is in transit. With L1: it has a residency slot, or
    a victim, or waits for one of these, unless every candidate's flush failed.
    """
    logic = s.logic
    moving = logic.exists(lambda u: logic.any(s.residency(u) == r.UNLOADING, s.residency(u) == r.LOADING))
    return logic.when(s.status(x) == r.STARTING, moving)


def quiescent(s: State, x: Agent) -> Term:
    """L9. Where sub-agents share no slot at all, a turn that a log has brought along queues for ever."""
    logic = s.logic
    at_rest = logic.forall(
        lambda y: logic.all(
            s.status(y) < r.RUNNING, logic.any(s.residency(y) == r.UNLOADED, s.residency(y) == r.RESIDENT)
        )
    )
    nothing = logic.all(s.slot(x) == r.FREE, s.ready(x) == 0, s.starting(x) == 0)
    return logic.when(logic.all(at_rest, s.cap > 0), nothing)


SETTLED: tuple[Settled, ...] = (
    Settled("L2", "never idle with trigger mail", never_idle, ("request",)),
    Settled(
        "L2",
        "never a free slot while turns queue",
        no_idle_slot,
        ("admit", "admit_root", "go_on"),
        ("in line", "returning"),
        lines=("first queued", "deepest queued", "first returning"),
    ),
    Settled(
        "L8",
        "no lender while a turn returns",
        none_lends_to,
        ("swap", "lend"),
        lines=("first lender", "first returning"),
    ),
    Settled(
        "L8",
        "no stall",
        no_stall,
        ("lend", "stalled"),
        ("who may lend", "returning", "order of returning"),
        ("no lender while a turn returns",),
        lines=("first lender", "last lender"),
    ),
    Settled(
        "S6", "only the evictable leave", leaves_rightly, ("keep",), ("in line", "serves", "what leaves does not run")
    ),
    Settled(
        "theorem 1",
        "room is there or to come",
        theorem_1,
        ("start", "load", "loads_lost", "evict", "no_room"),
        ("serves",),
    ),
    Settled(
        "L9",
        "nothing is held at rest",
        quiescent,
        (),
        ("in line", "a slot is its turn's", "slots"),
        ("never a free slot while turns queue", "room is there or to come"),
    ),
)
