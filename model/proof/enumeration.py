"""The inductive step by enumeration, on the real core: every typed state of a small shape, not only the reachable ones.

A *typed* state gives each of two sub-agents every identity, status, place in memory, mail and wait that its types
allow, and every order to each line. Of these, the ones that satisfy the properties are kept, then those that satisfy
the lemmas of the proof and in which no joint rule can fire. From each, every event of a scope with all faults of
threads: properties and lemmas hold again. So an induction over steps of the real core needs no more than these.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from itertools import permutations, product

from attrs import define, field, frozen

from statemachine.checking.properties import PropertyViolation
from statemachine.core.config import Overflow, SessionConfig
from statemachine.core.deadlines import Bound
from statemachine.core.effects import Refused, Stale, WaitEnd
from statemachine.core.events import HOST, ROOT, WaitMode
from statemachine.core.machines import Identity, Residency, SlotState, TurnState
from statemachine.core.records import AgentSpawned, Cause, MailAccepted, MailKind, Outcome, TurnStopped
from statemachine.core.residency import NO_AGENT
from statemachine.core.session import Session
from statemachine.core.waits import Waiting

from ..exploration.explorer import FAULTS, judge_state, judge_step
from ..exploration.scopes import PAIR, THREADS, TRIO, Scope, events
from ..lockstep import Restart
from .abstraction import Machine, of_session
from .invariants import INVARIANTS

NEW, COMPLETED, QUEUED = TurnState.NEW, TurnState.COMPLETED, TurnState.QUEUED
STARTING, RUNNING, STOPPING = TurnState.STARTING, TurnState.RUNNING, TurnState.STOPPING
WAITING, RETURNING = TurnState.WAITING, TurnState.RETURNING


def _config(resident: int) -> SessionConfig:
    return SessionConfig(
        max_concurrent=2,
        max_resident=resident,
        max_unread=3,
        overflow=Overflow.QUEUE,
        load_timeout=2,
        flush_timeout=2,
        stop_grace=1,
        max_wait=1,
    )


def _shape(name: str, tree: tuple[tuple[str, str], ...], resident: int) -> Scope:
    return Scope(name=name, tree=tree, config=_config(resident), faults=THREADS, waits=("mail", "choice"))


SHAPES: tuple[Scope, ...] = (
    _shape("one above the other, no lending", PAIR, 1),
    _shape("one above the other, one may lend", PAIR, 2),
    _shape("side by side, one may lend", TRIO[:2], 2),
)
"""Two sub-agents on one slot."""


NOTHING, MAIL, CHOICE = "", "mail", "choice"
"""What a turn waits for."""


@frozen
class Local:
    """What one sub-agent is, as far as it is not in a line."""

    identity: Identity
    status: TurnState
    has_lent: bool
    residency: Residency
    has_mail: bool
    """Has it unread trigger mail?"""
    wait: str


def locals_() -> Iterator[Local]:
    """Everything that a sub-agent can be by its types; what the properties bar at sight is left out."""
    for identity, status, has_lent, residency, has_mail, wait in product(
        (Identity.OPEN, Identity.CLOSED),
        (NEW, COMPLETED, QUEUED, STARTING, RUNNING, STOPPING, WAITING, RETURNING),
        (False, True),
        Residency,
        (False, True),
        (NOTHING, MAIL, CHOICE),
    ):
        local = Local(identity, status, has_lent, residency, has_mail, wait)
        closed_holds = residency is not Residency.UNLOADED or status >= QUEUED or has_mail
        if (
            (identity is Identity.CLOSED and closed_holds)
            or has_lent != (status in (WAITING, RETURNING) or (status is STOPPING and has_lent))
            or (wait and status not in (RUNNING, WAITING, RETURNING))
            or (status is WAITING and not wait)
            or (status >= RUNNING and residency is not Residency.RESIDENT)
        ):
            continue
        yield local


@define
class Enumeration:
    """The result for one shape."""

    shape: str
    typed: int = 0
    excluded: Counter[str] = field(factory=Counter)
    """Property or lemma -> how many typed states it excludes, the first one that does so counted."""
    states: int = 0
    steps: int = 0
    """Steps, refused and stale ones included."""
    failures: list[str] = field(factory=list)
    seconds: float = 0.0


def orders(agents: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [*permutations(agents)]


def typed_states(scope: Scope) -> Iterator[Session]:
    """Every typed state of the shape."""
    choices = [*locals_()]
    for chosen in product(choices, repeat=len(scope.tree)):
        subs = dict(enumerate(chosen, 1))

        def those(*status: TurnState, subs: dict[int, Local] = subs) -> tuple[int, ...]:
            return tuple(x for x, local in subs.items() if local.status in status)

        resting = tuple(
            x for x, local in subs.items() if local.residency is Residency.RESIDENT and local.status < STARTING
        )
        leaving = tuple(x for x, local in subs.items() if local.residency is Residency.UNLOADING)
        lenders = tuple(x for x, local in subs.items() if local.status is RUNNING and local.wait)
        lines = (those(QUEUED), resting, those(STARTING), lenders, those(RETURNING), leaving)
        targets = (NO_AGENT, *those(STARTING))
        for ordered in product(*(orders(line) for line in lines)):
            for served in product(targets, repeat=len(leaving)):
                if len({x for x in served if x != NO_AGENT}) == len([x for x in served if x != NO_AGENT]):
                    yield build(scope, subs, ordered, served)


def build(scope: Scope, subs: dict[int, Local], lines: tuple[tuple[int, ...], ...], served: tuple[int, ...]) -> Session:
    """One state, put together from its parts."""
    s = Session(scope.config)
    paths = {"/root": ROOT}
    for x, (parent, name) in enumerate(scope.tree, 1):
        paths[f"{parent}/{name}"] = x
        s.ledger.spawn(AgentSpawned(x, paths[parent], name, None))
    queued, resting, starting, lenders, returning, leaving = lines
    for x, local in subs.items():
        furnish(s, x, local)
    for x in queued:
        s.slots.enqueue(x, s.agents[x].depth)
    residents = s.residents
    residents.idle.update(dict.fromkeys(resting))
    for x in starting:
        residents.last_ticket += 1
        residents.starting[x] = residents.last_ticket
        if x not in residents.loading:
            residents.unsettled[x] = None
    residents.serves.update(zip(leaving, served, strict=True))
    residents.room_for.update((x, u) for u, x in residents.serves.items() if x != NO_AGENT)
    s.waits.lenders = dict.fromkeys(lenders)
    s.waits.returning = dict.fromkeys(returning)
    return s


def furnish(s: Session, x: int, local: Local) -> None:
    """Gives an agent what it is and holds."""
    a, config = s.agents[x], s.config
    a.status, a.residency = local.status, local.residency
    a.turn = 0 if local.status is NEW else 1
    a.generation = 0 if local.residency is Residency.UNLOADED and local.status is NEW else 1
    if local.status is COMPLETED:
        a.outcome = Outcome(x, 1, COMPLETED, "r", Cause.FINISHED, None)
    if local.has_mail:
        s.ledger.accept(MailAccepted(s.ledger.next_mail, HOST, x, MailKind.TRIGGER, "m"))
    if local.status in (STARTING, RUNNING, STOPPING) and not local.has_lent:
        s.slots.holders[x] = (1, SlotState.RESERVED if local.status is STARTING else SlotState.ACTIVE)
        s.slots.held += 1
    if local.has_lent:
        s.slots.lent[x] = None
    if local.residency is not Residency.UNLOADED:
        s.residents.occupied += 1
    if local.residency is Residency.LOADING:
        s.residents.loading[x] = None
        if local.status is STARTING:  # loads are for a turn
            s.ledger.loads[x] = 1
        s.deadlines.set(Bound.LOAD, x, config.load_timeout)
    if local.residency is Residency.UNLOADING:
        s.residents.flush(a)
        s.deadlines.set(Bound.FLUSH, x, config.flush_timeout)
    if local.status is STOPPING:
        s.ledger.stops[x] = TurnStopped(x, 1, Cause.INTERRUPTED, HOST, None)
        s.deadlines.set(Bound.STOP, x, config.stop_grace)
    if local.wait:
        number = s.waits.last + 1
        by_mail = local.wait == MAIL
        s.waits.begin(Waiting(number, x, by_mail, (), (), WaitMode.ANY, by_mail), (), holds_slot=False)
        if by_mail:
            s.deadlines.set(Bound.WAIT, number, config.max_wait)
    if local.status is RETURNING:
        s.waits.over[x] = ((s.waits.last + 1, WaitEnd.TIMEOUT),)
        s.waits.last += 1
    if local.identity is Identity.CLOSED:
        s.ledger.close(a, x)


def excluded_by(machine: Machine, s: Session) -> str | None:
    """The property or lemma that bars the state, if there is one."""
    try:
        judge_state(s)
    except PropertyViolation as violation:
        return violation.property.id
    value = of_session(s, s, machine.size)
    state = machine.state(value)
    for known in INVARIANTS.values():
        if not known.formula(state):
            return f"{known.property}, {known.name}"
    return None if machine.settle(value) == value else "settled"


def enumerate_shape(scope: Scope) -> Enumeration:
    """Takes every step from every typed state of the shape that has all properties and lemmas."""
    began = time.perf_counter()
    found, machine = Enumeration(scope.name), Machine(scope.config, len(scope.tree) + 2)
    for session in typed_states(scope):
        found.typed += 1
        barred = excluded_by(machine, session)
        if barred is not None:
            found.excluded[barred] += 1
            continue
        found.states += 1
        for event in events(scope, session):
            found.steps += 1
            assert not isinstance(event, Restart)
            after = session.fork()
            try:
                step = after.handle(event)
                judge_step(session, event, step, after)
                if not isinstance(step.reply, Refused | Stale):
                    judge_state(after)
                    barred = excluded_by(machine, after)
                    if barred is not None:
                        found.failures.append(f"{event}: {barred}")
            except FAULTS as error:
                found.failures.append(f"{event}: {type(error).__name__}: {error}")
    found.seconds = time.perf_counter() - began
    return found
