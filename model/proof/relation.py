"""The rules of semantics.md as one relation between states, for any number of agents and mails, and any caps.

A step of the core is a word of transitions: those that its event stands for, the ends of waits that conditions bring
about, then joint rules until none can fire. Each transition is small: it names at most two agents, and what it changes
of others are relations alone. So most invariants hold between any two transitions, not only between steps.

What it does not speak of: which mail it is, and its order; what a wait is for, so that any wait may end at any time;
time; records, effects and refusals; recovery, whose result is an initial state; shutdown; `LIVE_THREADS`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from attrs import frozen

from statemachine.core.machines import Identity, Residency, SlotState, TurnState

from .logic import Agent, Term, arity
from .state import State

NEW, COMPLETED, ERRORED = +TurnState.NEW, +TurnState.COMPLETED, +TurnState.ERRORED
INTERRUPTED, QUEUED, STARTING = +TurnState.INTERRUPTED, +TurnState.QUEUED, +TurnState.STARTING
RUNNING, STOPPING = +TurnState.RUNNING, +TurnState.STOPPING
WAITING, RETURNING = +TurnState.WAITING, +TurnState.RETURNING
UNLOADED, LOADING = +Residency.UNLOADED, +Residency.LOADING
RESIDENT, UNLOADING = +Residency.RESIDENT, +Residency.UNLOADING
FREE, RESERVED, ACTIVE = +SlotState.FREE, +SlotState.RESERVED, +SlotState.ACTIVE
UNKNOWN, OPEN, CLOSED, FORGOTTEN = (+identity for identity in Identity)


class Kind(Enum):
    """Why a transition happens."""

    EVENT = "event"
    """What the host, an agent, a thread or the clock does; or a condition of a wait has come to hold."""
    RULE = "rule"
    """A joint rule."""


@frozen
class Transition:
    """One transition: `guard` says in which states and with which agents, `effect` what comes of it."""

    name: str
    kind: Kind
    rule: str
    """Of semantics.md."""
    guard: Callable[..., Term]
    effect: Callable[..., State]

    @property
    def agents(self) -> int:
        """How many agents it names."""
        return arity(self.guard) - 1


TRANSITIONS: dict[str, Transition] = {}
"""Name -> transition. Joint rules stand in the order in which the core tries them."""


# Words of the rules


def holds(s: State, x: Agent) -> Term:
    return s.slot(x) != FREE


def idle(s: State, x: Agent) -> Term:
    return s.status(x) <= INTERRUPTED


def works(s: State, x: Agent) -> Term:
    return s.logic.any(s.status(x) == RUNNING, s.status(x) == WAITING, s.status(x) == RETURNING)


def waits(s: State, x: Agent) -> Term:
    return s.conditional(x) + s.chosen(x) > 0


def evictable(s: State, x: Agent) -> Term:
    """N1."""
    return s.logic.all(x != s.logic.root, s.residency(x) == RESIDENT, s.status(x) < STARTING)


def one(s: State, condition: Term) -> Term:
    """1 if it holds, else 0."""
    return s.logic.pick(condition, 1, 0)


def counted(s: State, x: Agent) -> Term:
    """1 for a sub-agent, 0 for the root (S13)."""
    return one(s, x != s.logic.root)


def is_first(s: State, x: Agent, line: str) -> Term:
    """Stands `x` first in this line?"""
    place = getattr(s, line)
    return s.logic.all(place(x) > 0, s.logic.forall(lambda y: s.logic.when(place(y) > 0, place(x) <= place(y))))


def is_empty(s: State, line: str) -> Term:
    return s.logic.forall(lambda y: getattr(s, line)(y) == 0)


def is_due(s: State, most: Term) -> Term:
    """J2: does the turn that has queued longest come before all others?"""
    return s.logic.all(s.queued > 0, s.overtaken >= most)


def at_least_one(s: State) -> Term:
    """D20: a due turn lets one returning turn pass."""
    return s.logic.pick(s.max_overtaken >= 1, s.max_overtaken, 1)


def slot_is_free(s: State) -> Term:
    return s.held < s.cap


def has_room(s: State) -> Term:
    return s.occupied < s.max_resident


def may_lend(s: State) -> Term:
    """J7: to the ready queue."""
    return s.without < s.max_resident - s.cap


def may_load(s: State, x: Agent) -> Term:
    return s.loads(x) < s.logic.pick(s.max_attempts >= 3, s.max_attempts, 3)


def may_return(s: State, x: Agent) -> Term:
    """S17: has the agent attempts left?"""
    return s.attempts(x) + 1 < s.max_attempts


def turn_has_room(s: State) -> Term:
    """QUEUE: room in the ready queue; REJECT: a slot. One is available too if a turn that waits may lend it."""
    logic, spare = s.logic, s.max_resident - s.cap - s.without
    lendable = logic.pick(spare <= 0, 0, logic.pick(spare < s.lenders, spare, s.lenders))
    available = s.cap - s.held + lendable
    return logic.pick(s.rejects, available > 0, s.queued - available < s.max_queued)


# Parts of effects


def use(s: State, x: Agent) -> State:
    """N2: an evictable agent becomes the most recently used."""
    logic, clock = s.logic, s.clock
    return s.at(x, use=logic.pick(evictable(s, x), clock + 1, 0)).add(clock=1)


def make_room_no_more(s: State, x: Agent) -> State:
    """D11: what leaves for `x` leaves for none, and what was tried for it is forgotten."""
    logic = s.logic
    return s.relate("serves", lambda u, y: logic.all(s.serves(u, y), y != x)).relate(
        "tried", lambda y, v: logic.all(s.tried(y, v), y != x)
    )


def leave_no_more(s: State, u: Agent) -> State:
    """`u` is not on its way out."""
    logic = s.logic
    return s.relate("serves", lambda v, y: logic.all(s.serves(v, y), v != u)).at(u, leaving=0)


def drop_waits(s: State, x: Agent) -> State:
    lends = one(s, s.lender(x) > 0)
    return s.at(x, conditional=0, chosen=0, lender=0, returning=0).add(lenders=-lends)


def lay_down(s: State, x: Agent, status: Term) -> State:
    """A turn that had started is over: its slot is free, its waits are dropped."""
    s1 = drop_waits(s, x).add(held=s.logic.pick(holds(s, x), -counted(s, x), 0), without=s.logic.pick(s.lent(x), -1, 0))
    return s1.at(x, status=status, slot=FREE, lent=False)


def end(s: State, x: Agent, status: Term) -> State:
    """A turn that had started ends."""
    return use(lay_down(s, x, status).at(x, taken=0, attempts=0, loads=0), x)


def end_and_go_on(s: State, x: Agent) -> State:
    """*next*: the slot of the turn that ends is that of the agent's next turn."""
    s1 = drop_waits(s, x).at(x, taken=0, attempts=0, loads=0, status=STARTING, slot=RESERVED, turn=s.turn(x) + 1)
    passes = s.logic.all(x != s.logic.root, s.queued > 0)
    return s1.ticket(x, "starting").add(overtaken=s.logic.pick(passes, 1, 0))


def goes_on(s: State, x: Agent) -> Term:
    """*next*: does the end of this turn start the agent's next one?"""
    logic = s.logic
    wanted = logic.any(
        logic.exists(lambda y: logic.all(s.returning(y) > 0, y != x)), is_due(s, s.max_overtaken), s.called_back
    )
    return logic.all(
        s.triggers(x) > 0, holds(s, x), s.identity(x) == OPEN, logic.any(x == logic.root, logic.no(wanted))
    )


def end_before_start(s: State, x: Agent, status: Term) -> State:
    """A turn that is starting ends: its mail stays unread, and wakes no more."""
    s1 = make_room_no_more(s, x).add(held=-counted(s, x))
    return use(s1.at(x, status=status, slot=FREE, starting=0, triggers=0, attempts=0, loads=0), x)


def dequeue(s: State, x: Agent) -> State:
    """`x` queues no more. If it was the one that had queued longest, the next one has been overtaken by none."""
    was_first = is_first(s, x, "ready")
    left = s.put(overtaken=s.logic.pick(was_first, 0, s.overtaken))
    return left.at(x, ready=0).add(queued=-one(s, s.ready(x) > 0))


def drop(s: State, x: Agent) -> State:
    """The thread is gone. The root has a new one (S13)."""
    logic = s.logic
    root = x == logic.root
    s1 = leave_no_more(s, x).at(
        x,
        residency=logic.pick(root, RESIDENT, UNLOADED),
        use=0,
        generation=s.generation(x) + one(s, root),
    )
    return s1.add(occupied=-one(s, logic.all(x != logic.root, s.residency(x) != UNLOADED)))


def lend(s: State, x: Agent) -> State:
    return s.at(x, status=WAITING, slot=FREE, lent=True, lender=0).add(held=-1, without=1, lenders=-1)


def take_slot_again(s: State, x: Agent) -> State:
    """J2: a returning turn goes on. With other waits it begins to wait anew."""
    logic = s.logic
    s1 = s.at(x, status=RUNNING, slot=ACTIVE, lent=False, returning=0, lender=logic.pick(waits(s, x), s.clock + 1, 0))
    return s1.add(held=1, without=-1, clock=1, lenders=one(s, waits(s, x)), overtaken=logic.pick(s.queued > 0, 1, 0))


# Events


def event(rule: str, guard: Callable[..., Term], effect: Callable[..., State], name: str) -> None:
    TRANSITIONS[name] = Transition(name, Kind.EVENT, rule, guard, effect)


def can_spawn(s: State, x: Agent, p: Agent) -> Term:
    logic = s.logic
    return logic.all(
        s.identity(x) == UNKNOWN,
        s.identity(p) == OPEN,
        s.members < s.max_agents,
        s.depth(p) < s.max_depth,
        turn_has_room(s),
    )


def spawn(s: State, x: Agent, p: Agent) -> State:
    logic = s.logic
    return (
        s.at(x, identity=OPEN, depth=s.depth(p) + 1, triggers=1)
        .relate("parent", lambda y, z: logic.any(s.parent(y, z), logic.all(y == x, z == p)))
        .relate("below", lambda y, z: logic.any(s.below(y, z), logic.all(y == x, logic.any(z == x, s.below(p, z)))))
        .add(members=1)
    )


def can_ask(s: State, x: Agent) -> Term:
    logic = s.logic
    return logic.all(s.identity(x) == OPEN, logic.any(x == logic.root, logic.no(idle(s, x)), turn_has_room(s)))


def can_close(s: State, x: Agent) -> Term:
    """Those below it first: a close of the core is a word of these, of the target and of all that is open below it."""
    logic = s.logic
    childless = logic.forall(lambda y: logic.when(s.parent(y, x), s.identity(y) != OPEN))
    return logic.all(x != logic.root, s.identity(x) == OPEN, childless)


def close(s: State, x: Agent) -> State:
    """What it held is given back, and nothing of it starts again."""
    logic = s.logic
    ended = logic.pick(idle(s, x), s.status(x), INTERRUPTED)
    s1 = drop(make_room_no_more(dequeue(s, x), x), x)
    s2 = lay_down(s1, x, ended)
    return s2.at(x, identity=CLOSED, triggers=0, taken=0, attempts=0, loads=0, starting=0).add(members=-1)


def can_resume(s: State, x: Agent) -> Term:
    logic = s.logic
    parent_open = logic.forall(lambda y: logic.when(s.parent(x, y), s.identity(y) == OPEN))
    return logic.all(s.identity(x) == CLOSED, parent_open, s.members < s.max_agents)


def can_forget(s: State, x: Agent) -> Term:
    logic = s.logic
    childless = logic.forall(lambda y: logic.no(s.parent(y, x)))
    return logic.all(s.identity(x) == CLOSED, childless)


def forget(s: State, x: Agent) -> State:
    logic = s.logic
    s1 = s.relate("parent", lambda y, z: logic.all(s.parent(y, z), y != x))
    s2 = s1.relate("below", lambda y, z: logic.all(s.below(y, z), y != x, z != x))
    return s2.at(x, identity=FORGOTTEN, depth=0)


def read_all(s: State, x: Agent) -> State:
    kept = s.logic.pick(s.max_attempts > 1, s.taken(x) + s.triggers(x), 0)
    return s.at(x, triggers=0, taken=kept)


def stop(s: State, x: Agent) -> State:
    return drop_waits(s, x).at(x, status=STOPPING)


def begin_wait(which: str) -> Callable[[State, Agent], State]:
    def effect(s: State, x: Agent) -> State:
        logic = s.logic
        lines_up = logic.all(s.status(x) == RUNNING, s.lender(x) == 0, x != logic.root)
        s1 = s.at(x, **{which: getattr(s, which)(x) + 1}, lender=logic.pick(lines_up, s.clock + 1, s.lender(x)))
        return s1.add(clock=1, lenders=one(s, lines_up))

    return effect


def end_wait(which: str) -> Callable[[State, Agent], State]:
    def effect(s: State, x: Agent) -> State:
        logic = s.logic
        last = logic.all(s.conditional(x) + s.chosen(x) == 1, s.lender(x) > 0)
        returns = s.status(x) == WAITING
        s1 = s.at(
            x,
            **{which: getattr(s, which)(x) - 1},
            lender=logic.pick(last, 0, s.lender(x)),
            status=logic.pick(returns, RETURNING, s.status(x)),
            returning=logic.pick(returns, s.clock + 1, s.returning(x)),
        )
        return s1.add(clock=1, lenders=-one(s, last))

    return effect


def flush_failed(s: State, u: Agent) -> State:
    """N3: it stays, is the most recently used, and is not tried again for the same turn."""
    logic = s.logic
    s1 = s.relate("tried", lambda x, v: logic.any(s.tried(x, v), logic.all(v == u, s.serves(u, x))))
    return use(leave_no_more(s1, u).at(u, residency=RESIDENT), u)


def leave(s: State, v: Agent) -> State:
    return s.at(v, residency=UNLOADING, use=0).ticket(v, "leaving")


def give_up(s: State, x: Agent) -> State:
    """S17: the turn is returned, and its mail is unread again."""
    s1 = lay_down(drop(s, x), x, NEW)
    return s1.at(x, triggers=s.triggers(x) + s.taken(x), taken=0, attempts=s.attempts(x) + 1)


event("spawn", can_spawn, spawn, "spawn")
event("follow_up, start", can_ask, lambda s, x: s.at(x, triggers=s.triggers(x) + 1), "ask")
event("notices", lambda s, x: s.identity(x) == OPEN, lambda s, x: s.at(x, triggers=s.triggers(x) + 1), "notice")
event(
    "withdraw, demote",
    lambda s, x: s.logic.all(s.triggers(x) > 0, s.logic.no(idle(s, x))),
    lambda s, x: s.at(x, triggers=s.triggers(x) - 1),
    "demote",
)
event("drain", works, read_all, "drain")
event("interrupt, turn_timeout", works, stop, "stop")
event(
    "interrupt",
    lambda s, x: s.status(x) == QUEUED,
    lambda s, x: use(dequeue(s, x).at(x, status=INTERRUPTED, triggers=0, attempts=0, loads=0), x),
    "cancel_queued",
)
event(
    "interrupt",
    lambda s, x: s.status(x) == STARTING,
    lambda s, x: end_before_start(s, x, INTERRUPTED),
    "cancel_starting",
)
event("close", can_close, close, "close")
event("resume", can_resume, lambda s, x: s.at(x, identity=OPEN).add(members=1), "resume")
event("forget", can_forget, forget, "forget")
event("wait", works, begin_wait("conditional"), "wait")
event("wait by choice", works, begin_wait("chosen"), "wait_by_choice")
event("L4, timeout, stop_waiting", lambda s, x: s.conditional(x) > 0, end_wait("conditional"), "wait_over")
event("timeout, stop_waiting", lambda s, x: s.chosen(x) > 0, end_wait("chosen"), "choice_over")
event(
    "Loaded",
    lambda s, x: s.residency(x) == LOADING,
    lambda s, x: use(s.at(x, residency=RESIDENT), x),
    "loaded",
)
event(
    "LoadFailed",
    lambda s, x: s.logic.all(s.residency(x) == LOADING, s.status(x) != STARTING),
    drop,
    "load_failed",
)
event(
    "LoadFailed: cannot_start",
    lambda s, x: s.logic.all(s.residency(x) == LOADING, s.status(x) == STARTING),
    lambda s, x: end_before_start(drop(s, x), x, ERRORED),
    "load_failed_starting",
)
event("Flushed", lambda s, x: s.residency(x) == UNLOADING, drop, "flushed")
event("FlushFailed, flush_timeout", lambda s, x: s.residency(x) == UNLOADING, flush_failed, "flush_failed")
event("idle_ttl", evictable, leave, "idle_overdue")
event(
    "Died",
    lambda s, x: s.logic.all(
        s.residency(x) != UNLOADED,
        s.status(x) <= STARTING,
        s.logic.no(s.logic.all(s.status(x) == STARTING, s.residency(x) == LOADING)),
    ),
    drop,
    "died",
)
event("Died: return", lambda s, x: s.logic.all(works(s, x), may_return(s, x)), give_up, "died_returned")


def ended(name: str, rule: str, can_end: Callable[[State, Agent], Term], status: int, dies: bool) -> None:
    """Two transitions: the end of a turn that frees its slot, and the one that gives it to the next turn."""

    def lost(s: State, x: Agent) -> State:
        return drop(s, x) if dies else s

    event(
        rule,
        lambda s, x: s.logic.all(can_end(s, x), s.logic.no(goes_on(s, x))),
        lambda s, x: end(lost(s, x), x, status),
        name,
    )
    event(
        f"{rule}: next",
        lambda s, x: s.logic.all(can_end(s, x), goes_on(s, x)),
        lambda s, x: end_and_go_on(lost(s, x), x),
        f"{name}_next",
    )


def has_begun(s: State, x: Agent) -> Term:
    return s.status(x) >= RUNNING


def is_stopping(s: State, x: Agent) -> Term:
    return s.status(x) == STOPPING


ended("finished", "Finished", has_begun, COMPLETED, dies=False)
ended("failed", "Failed", has_begun, ERRORED, dies=False)
ended("aborted", "Aborted", is_stopping, INTERRUPTED, dies=False)
ended("dropped", "stop_grace, Died", is_stopping, INTERRUPTED, dies=True)
ended("died_failed", "Died", lambda s, x: s.logic.all(works(s, x), s.logic.no(may_return(s, x))), ERRORED, dies=True)


# Joint rules, in the order in which the core tries them


def rule(cited: str, guard: Callable[..., Term], effect: Callable[..., State], name: str) -> None:
    TRANSITIONS[name] = Transition(name, Kind.RULE, cited, guard, effect)


def wants_turn(s: State, x: Agent) -> Term:
    """J1."""
    return s.logic.all(s.identity(x) == OPEN, idle(s, x), s.triggers(x) > 0)


def request(s: State, x: Agent) -> State:
    logic = s.logic
    s1 = s.at(x, status=QUEUED, turn=s.turn(x) + 1, ready=logic.pick(x == logic.root, 0, s.clock + 1))
    return s1.add(clock=1, queued=counted(s, x))


def seated(s: State, x: Agent) -> State:
    """The turn has a slot, and is starting."""
    return s.at(x, status=STARTING, slot=RESERVED, use=0).ticket(x, "starting")


def is_next_in_queue(s: State, x: Agent) -> Term:
    """J2: the one that is due; else the deepest, the oldest request first within a depth."""
    logic = s.logic

    def not_before(y: Agent) -> Term:
        deeper = s.depth(x) > s.depth(y)
        return logic.any(deeper, logic.all(s.depth(x) == s.depth(y), s.ready(x) <= s.ready(y)))

    deepest = logic.forall(lambda y: logic.when(s.ready(y) > 0, not_before(y)))
    return logic.all(s.ready(x) > 0, logic.pick(is_due(s, s.max_overtaken), is_first(s, x, "ready"), deepest))


def nothing_returns_first(s: State) -> Term:
    """L12."""
    return s.logic.any(is_empty(s, "returning"), is_due(s, at_least_one(s)))


def admit(s: State, x: Agent) -> State:
    logic = s.logic
    passed = logic.pick(is_first(s, x, "ready"), 0, s.overtaken + 1)
    return seated(s.put(overtaken=passed).at(x, ready=0).add(queued=-1, held=1), x)


def can_swap(s: State, x: Agent, y: Agent) -> Term:
    """J7: `y` lends its slot to the returning `x`; before a due turn too, if it may not be lent to that."""
    logic = s.logic
    return logic.all(
        is_first(s, x, "returning"),
        is_first(s, y, "lender"),
        logic.no(slot_is_free(s)),
        logic.any(logic.no(is_due(s, at_least_one(s))), logic.no(may_lend(s))),
    )


def can_lend(s: State, x: Agent) -> Term:
    """J7: to the ready queue."""
    return s.logic.all(
        is_first(s, x, "lender"), s.logic.no(slot_is_free(s)), s.queued > 0, nothing_returns_first(s), may_lend(s)
    )


def is_stalled(s: State, x: Agent) -> Term:
    """J8."""
    logic = s.logic
    last = logic.all(s.lender(x) > 0, logic.forall(lambda y: s.lender(y) <= s.lender(x)))
    all_wait = logic.forall(
        lambda y: logic.when(logic.all(holds(s, y), y != logic.root), logic.all(s.lender(y) > 0, s.conditional(y) > 0))
    )
    none_stops = logic.forall(lambda y: logic.no(logic.all(s.lent(y), s.status(y) == STOPPING)))
    return logic.all(
        last,
        logic.no(slot_is_free(s)),
        s.queued > 0,
        is_empty(s, "returning"),
        logic.no(may_lend(s)),
        all_wait,
        none_stops,
    )


def needs_room(s: State, x: Agent) -> Term:
    return s.logic.all(s.status(x) == STARTING, s.residency(x) == UNLOADED)


def is_served(s: State, x: Agent) -> Term:
    """Is an agent on its way out for it?"""
    return s.logic.exists(lambda u: s.serves(u, x))


def serves_none(s: State, u: Agent) -> Term:
    """Is it on its way out for none?"""
    logic = s.logic
    return logic.all(s.residency(u) == UNLOADING, logic.forall(lambda y: logic.no(s.serves(u, y))))


def can_adopt(s: State, x: Agent, u: Agent) -> Term:
    """D11."""
    logic = s.logic
    first = logic.forall(lambda v: logic.when(serves_none(s, v), s.leaving(u) <= s.leaving(v)))
    return logic.all(needs_room(s, x), logic.no(has_room(s)), logic.no(is_served(s, x)), serves_none(s, u), first)


def no_help_comes(s: State, x: Agent) -> Term:
    """J5: no room, and no agent leaves that could make some for it."""
    logic = s.logic
    return logic.all(
        needs_room(s, x),
        logic.no(has_room(s)),
        logic.no(is_served(s, x)),
        logic.no(logic.exists(lambda u: serves_none(s, u))),
    )


def comes_before(s: State, x: Agent, y: Agent) -> Term:
    """N2: is `x` evicted rather than `y`?"""
    logic = s.logic
    older = s.use(x) <= s.use(y)
    return logic.pick(s.triggers(x) > 0, logic.all(s.triggers(y) > 0, older), logic.any(s.triggers(y) > 0, older))


def can_evict(s: State, x: Agent, v: Agent) -> Term:
    logic = s.logic
    chosen = logic.forall(lambda y: logic.when(logic.all(s.use(y) > 0, logic.no(s.tried(x, y))), comes_before(s, v, y)))
    return logic.all(no_help_comes(s, x), s.use(v) > 0, logic.no(s.tried(x, v)), chosen)


def evict(s: State, x: Agent, v: Agent) -> State:
    return serve(leave(s, v), x, v)


def serve(s: State, x: Agent, u: Agent) -> State:
    return s.relate("serves", lambda v, y: s.logic.any(s.serves(v, y), s.logic.all(v == u, y == x)))


def has_no_room(s: State, x: Agent) -> Term:
    """J5: every candidate was tried, and nothing is in transit."""
    logic = s.logic

    def in_transit(u: Agent) -> Term:
        return logic.any(s.residency(u) == UNLOADING, logic.all(s.residency(u) == LOADING, logic.no(holds(s, u))))

    return logic.all(
        no_help_comes(s, x),
        logic.forall(lambda v: logic.when(s.use(v) > 0, s.tried(x, v))),
        logic.no(logic.exists(in_transit)),
    )


def start(s: State, x: Agent) -> State:
    """J3."""
    s1 = make_room_no_more(s, x)
    return read_all(s1.at(x, status=RUNNING, slot=ACTIVE, starting=0, loads=0, taken=0), x)


def load(s: State, x: Agent) -> State:
    """J4."""
    s1 = make_room_no_more(s, x).add(occupied=1)
    return s1.at(x, residency=LOADING, generation=s.generation(x) + 1, loads=s.loads(x) + 1)


def can_keep(s: State, x: Agent) -> Term:
    """J6."""
    logic = s.logic
    serves_older = logic.exists(lambda y: logic.all(s.serves(x, y), s.starting(y) < s.starting(x)))
    return logic.all(s.status(x) == STARTING, s.residency(x) == UNLOADING, logic.no(serves_older))


rule("J1", wants_turn, request, "request")
rule(
    "J2: the root",
    lambda s, x: s.logic.all(x == s.logic.root, s.status(x) == QUEUED),
    seated,
    "admit_root",
)
rule(
    "J2",
    lambda s, x: s.logic.all(is_first(s, x, "returning"), slot_is_free(s), s.logic.no(is_due(s, at_least_one(s)))),
    take_slot_again,
    "go_on",
)
rule(
    "J2",
    lambda s, x: s.logic.all(is_next_in_queue(s, x), slot_is_free(s), nothing_returns_first(s)),
    admit,
    "admit",
)
rule("J7, J2", can_swap, lambda s, x, y: take_slot_again(lend(s, y), x), "swap")
rule("J7", can_lend, lend, "lend")
rule("J8", is_stalled, drop_waits, "stalled")
rule("J3", lambda s, x: s.logic.all(s.status(x) == STARTING, s.residency(x) == RESIDENT), start, "start")
rule("J4", lambda s, x: s.logic.all(needs_room(s, x), has_room(s), may_load(s, x)), load, "load")
rule(
    "J4: cannot_start",
    lambda s, x: s.logic.all(needs_room(s, x), has_room(s), s.logic.no(may_load(s, x))),
    lambda s, x: end_before_start(s, x, ERRORED),
    "loads_lost",
)
rule("J5", can_adopt, serve, "adopt")
rule("J5", can_evict, evict, "evict")
rule("J5: cannot_start", has_no_room, lambda s, x: end_before_start(s, x, ERRORED), "no_room")
rule("J6", can_keep, lambda s, x: leave_no_more(s, x).at(x, residency=RESIDENT), "keep")

RULES: tuple[Transition, ...] = tuple(t for t in TRANSITIONS.values() if t.kind is Kind.RULE)
