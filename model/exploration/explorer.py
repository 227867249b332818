"""Explores every reachable state of a scope, core and reference in lockstep, breadth first.

From each state, each event of the scope goes to both. Reply, effects and state are compared, the properties are
judged, and a new state is put in line. All events of a state are played, then compared, then judged; if anything is
wrong, they are played once more one by one, to find the event. Breadth first, so the first fault found is one of the
shortest. Two states are the same if their fingerprints are, up to the names of interchangeable agents where the scope
says so; the reference's state follows from the core's, because they were just found to be equal.

Refused events and stale reports are played on one copy, of which no field may be changed in the end.

If asked, each state is *probed* too: the events of the complete alphabet (`model/alphabet.py`) that the scope does not
offer are played in the same way, one step deep. Where they lead is compared and judged, and not followed, so
the counts of states, events and transitions are those of the scope alone.

A step that does not end is a fault like any other (`model/watch.py`).

With several processes, each expands a part of every layer and remembers the states that it has sent; the parent alone
decides which are new, in a fixed order, so counts and counterexamples do not depend on the number of processes.
"""

from __future__ import annotations

import pickle
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from attrs import define, field, frozen

from statemachine.checking.moment import Moment
from statemachine.checking.properties import (
    REFUSED_BY,
    STALE_BY,
    STATE_PROPERTIES,
    STEP_PROPERTIES,
    PropertyViolation,
    check_crash,
)
from statemachine.checking.whole import difference
from statemachine.core.effects import Refused, Stale, Step
from statemachine.core.fingerprint import fingerprint
from statemachine.core.ledger import Ledger
from statemachine.core.machines import IllegalMove
from statemachine.core.session import Session
from statemachine.log.recovery import durable_facts, forget
from statemachine.stores.rows import no_collections

from .. import lockstep, reference
from ..alphabet import complete
from ..coverage import Coverage, counting, moves_seen, uncounted
from ..kept import RecoveryDiffers, compare_snapshot, follow
from ..lockstep import AnyEvent, Deviation, Restart, compare_states, compare_step, core_step, of_world
from ..pools import workers
from ..watch import StepNeverEnds, arm, watched
from .homeward import drive_home, is_answer
from .scopes import Scope, events
from .symmetry import Digest, canonical, digest_of, hashed, relevant

STEP_JUDGES = tuple((known, known.step) for known in STEP_PROPERTIES if known.step is not None)
REFUSAL_JUDGES = tuple((known, judge) for known, judge in STEP_JUDGES if known.id in REFUSED_BY)
STALE_JUDGES = tuple((known, judge) for known, judge in STEP_JUDGES if known.id in STALE_BY)
"""The judges of events that must change nothing. That is verified once, after all such events of a state."""
STATE_JUDGES = tuple((known, known.state) for known in STATE_PROPERTIES if known.state is not None)

Both = tuple[Session, Any]
Kept = Both | bytes
"""A state in line, as an object or pickled."""


@frozen
class Fault:
    """A failure by `event` in the state at the end of a path. `kind` is a property's id, `lockstep`, `recovery`,
    `refusal`, `crash` or `endless`."""

    kind: str
    detail: str
    event: AnyEvent | None


@define
class Found:
    """The result of expanding some states."""

    successors: list[tuple[int, int, Digest, Kept]] = field(factory=list)
    """(index of the state, number of the event, digest, the state), each state once in the life of a process."""
    offered: int = 0
    """Events played, refused and stale ones included."""
    probed: int = 0
    """Events played besides, one step deep."""
    changes: int = 0
    """Accepted events."""
    coverage: Counter[str] = field(factory=Counter)
    homeward: list[tuple[int, Digest | None]] = field(factory=list)
    """For L7: (index of the state, digest of the state after one more thread has answered; None: it is at rest)."""
    fault: tuple[int, Fault] | None = None


@frozen
class Exploration:
    """The result of exploring a scope."""

    scope: Scope
    states: int
    offered: int
    transitions: int
    depth: int
    seconds: float
    closed: bool
    """Whether every reachable state was visited."""
    judged: Counter[str]
    coverage: Counter[str]
    fault: Fault | None
    path: tuple[AnyEvent, ...]
    """The events that lead to the fault, its own included."""
    probed: int = 0
    """Events of the complete alphabet that were tried besides."""


def pack(session: Session, world: Any, travels: bool) -> Kept:
    """Returns the state in line; pickled, if it goes to another process."""
    return pickle.dumps((session, world)) if travels else (session, world)


def unpack(kept: Kept) -> Both:
    """Returns the state from the form that `pack` gave it."""
    state: Both = pickle.loads(kept) if isinstance(kept, bytes) else kept  # our own processes wrote it
    return state


# Expanding one state

OF_PYTHON = (AssertionError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError, RuntimeError)
FAULTS = (Deviation, IllegalMove, StepNeverEnds, *OF_PYTHON)
"""The exceptions that count as faults; a `PropertyViolation` is an `AssertionError`."""

Arrival = tuple[int, AnyEvent, Step, Session, Any]
"""An accepted event: its number, the event, its step, and both afterwards."""


@define
class Origin:
    """A state whose events are played, and what their results are compared with."""

    session: Session
    world: Any
    said: tuple[Any, ...]
    """The result of `of_world` for the world."""
    facts: Ledger
    """The facts that a crash would leave."""
    folded: tuple[Any, ...]
    """The result of `durable_facts` for them."""
    idle: Session
    """The copy on which refused and stale events are played."""
    stale: int = 0
    """Stale reports so far."""

    @classmethod
    def of(cls, session: Session, world: Any) -> Origin:
        """Makes an origin of this state."""
        facts = forget(session.ledger)
        return cls(
            session=session,
            world=world,
            said=of_world(world),
            facts=facts,
            folded=durable_facts(facts),
            idle=session.fork(),
        )


class Expander:
    """Plays every event of the scope on states. Has the memory of one process.

    States that go to other processes, as `travels` says, are pickled; those that stay are handed on as they are.
    """

    def __init__(self, scope: Scope, travels: Callable[[Digest], bool], probes: bool = False) -> None:
        self.scope = scope
        self.travels = travels
        self.probes = probes
        self.sent: set[Digest] = set()
        self.digests: dict[Digest, Digest] = {}
        """Digest of a fingerprint -> digest of the state, where renaming makes them differ. Most states come up about
        ten times."""
        self.coverage = Coverage()

    def expand(self, states: list[Kept]) -> Found:
        """Returns all successors of these states, up to the first fault."""
        found = Found()
        self.coverage.counts.clear()
        with no_collections(), watched(), counting() as moves:  # states have no cycles: to look for some takes time
            for index, kept in enumerate(states):
                session, world = unpack(kept)
                fault = self.expand_one(index, session, world, found)
                if fault is not None:
                    found.fault = (index, fault)
                    break
            found.coverage = self.coverage.counts + moves_seen(moves)
        return found

    def expand_one(self, index: int, session: Session, world: Any, found: Found) -> Fault | None:
        """Adds the successors of one state to `found`. Returns the fault, if there is one."""
        event: AnyEvent | None = None
        try:
            judge_state(session)
            origin = Origin.of(session, world)
            line = [*enumerate(events(self.scope, session))]
            try:
                arrivals = self.play(origin, line)
            except FAULTS:
                origin = Origin.of(session, world)
                for number, event in line:  # with which event?
                    found.offered += 1
                    self.arrive(index, origin, self.play(origin, [(number, event)]), found)
                event = None
                raise
            found.offered += len(line)
            home = self.arrive(index, origin, arrivals, found)
            require_idle(origin)
            found.homeward.append((index, home))
            if home is None:
                arm()
                drive_home(session)
            if self.probes:
                offered = {event for _, event in line}
                rest = [(0, event) for event in complete(session) if event not in offered]
                found.probed += len(rest)
                with uncounted():
                    for event in self.probe(session, world, rest):  # noqa: B007  (a fault names it)
                        pass
        except PropertyViolation as violation:
            return Fault(violation.property.id, violation.detail, event)
        except Changed as changed:
            return self.who_changed(session, world, str(changed))
        except Deviation as deviation:
            return Fault("lockstep", str(deviation), event)
        except StepNeverEnds as endless:
            return Fault("endless", str(endless), event)
        except FAULTS as error:
            return Fault("crash", f"{type(error).__name__}: {error}", event)
        return None

    def probe(self, session: Session, world: Any, rest: list[tuple[int, AnyEvent]]) -> Iterator[AnyEvent | None]:
        """Plays these events, which the scope does not offer, on a state. Follows none. Yields each before it is
        played alone, which is done if anything is wrong with all of them together. Raises one of `FAULTS`.
        """
        origin = Origin.of(session, world)
        try:
            self.play(origin, rest, counted=False)
        except FAULTS:
            for number, event in rest:
                yield event
                self.play(Origin.of(session, world), [(number, event)], counted=False)
            yield None
            raise
        require_idle(origin)

    def play(self, origin: Origin, line: list[tuple[int, AnyEvent]], counted: bool = True) -> list[Arrival]:
        """Plays these events, each on the same state, and returns where the accepted ones lead. Raises one of `FAULTS`
        if anything is wrong, without saying by which event. `counted`: do they count for what was reached?

        All events are taken from stage to stage together. That is faster by an eighth than one event after the other,
        because what the processor has just done is still in its caches.
        """
        arm()
        session, world = origin.session, origin.world
        answers = [reference.step(world, lockstep.TRANSLATE[event.__class__](event)) for _, event in line]
        same: list[tuple[AnyEvent, Step]] = []
        arrivals: list[Arrival] = []
        for (number, event), (after_world, reply, effects) in zip(line, answers, strict=True):
            if reply[0] in ("refused", "stale"):
                origin.idle, step = core_step(origin.idle, event)
                same.append((event, step))
                origin.stale += step.reply.__class__ is Stale
            else:
                after, step = core_step(session.fork(), event)
                arrivals.append((number, event, step, after, after_world))
            compare_step(step, reply, effects)
        for _, _, step, after, after_world in arrivals:
            if step.reply.__class__ in (Refused, Stale):
                raise Deviation("reply", step.reply, "accepted")
            compare_states(after, after_world, origin.said if after_world is world else None)
        for event, step in same:
            judge_step(session, event, step, origin.idle)
        for _, event, step, after, _ in arrivals:
            judge_step(session, event, step, after)
        for _, _, step, after, _ in arrivals:
            compare_recovery(origin, step, after)
        if not counted:
            for _, _, _, after, _ in arrivals:
                judge_state(after)  # it is not expanded
            return arrivals
        for event, step in same:
            self.coverage.observe(session, event, step, origin.idle)
        for _, event, step, after, _ in arrivals:
            self.coverage.observe(session, event, step, after)
        return arrivals

    def arrive(self, index: int, origin: Origin, arrivals: list[Arrival], found: Found) -> Digest | None:
        """Notes the states that the events lead to. Returns the first that an answering thread leads to, for L7."""
        home: Digest | None = None
        found.changes += len(arrivals)
        values = [fingerprint(after) for _, _, _, after, _ in arrivals]
        digests = [self.digest(value) for value in values]
        for (number, event, _, after, world), digest in zip(arrivals, digests, strict=True):
            if home is None and is_answer(origin.session, event):
                home = digest
            if digest not in self.sent:
                self.sent.add(digest)
                found.successors.append((index, number, digest, pack(after, world, self.travels(digest))))
        return home

    def digest(self, value: tuple[Any, ...]) -> Digest:
        """Returns `digest_of` a fingerprint, and remembers it."""
        value = relevant(value, self.scope)
        plain = hashed(value)
        if not self.scope.symmetric:
            return plain
        found = self.digests.get(plain)
        if found is None:
            found = self.digests[plain] = hashed(canonical(value))
        return found

    def who_changed(self, session: Session, world: Any, what: str) -> Fault:
        """Returns which refused or stale event changed the session."""
        for event in (*events(self.scope, session), *complete(session)):
            origin = Origin.of(session, world)
            try:
                self.play(origin, [(0, event)], counted=False)
                require_idle(origin)
            except Changed as changed:
                _, step = core_step(session.fork(), event)
                return Fault("refusal", f"{step.reply} changed the session: {changed}", event)
        return Fault("refusal", f"refused and stale events together changed the session: {what}", None)


class Changed(Exception):
    """A refused or stale event has changed the session."""


def require_idle(origin: Origin) -> None:
    """Checks that refused and stale events have left the session as it was, and were counted (S9). Raises `Changed`."""
    found = difference(origin.session, origin.idle)
    if found is not None:
        raise Changed(found)
    counted = origin.idle.stale_reports - origin.session.stale_reports
    if counted != origin.stale:
        raise Changed(f"{origin.stale} reports were stale, {counted} counted")


def judge_state(session: Session) -> None:
    """Judges the properties of a state."""
    moment = Moment(session)
    for known, judge in STATE_JUDGES:
        detail = judge(moment)
        if detail is not None:
            raise PropertyViolation(known, detail)


def judge_step(before: Session, event: AnyEvent, step: Step, after: Session) -> None:
    """Judges the properties of a step."""
    if event.__class__ is Restart:
        check_crash(before, step, after)
        return
    kind = step.reply.__class__
    judges = REFUSAL_JUDGES if kind is Refused else STALE_JUDGES if kind is Stale else STEP_JUDGES
    moment = Moment(after, before, event, step, judges is not STEP_JUDGES)  # type: ignore[arg-type]
    for known, judge in judges:
        detail = judge(moment)
        if detail is not None:
            raise PropertyViolation(known, detail)


def compare_recovery(origin: Origin, step: Step, after: Session) -> None:
    """Checks one step of the induction that the fold of the log gives the live facts: facts before + records = facts
    after. Raises `RecoveryDiffers`.
    """
    folded, live = origin.folded, durable_facts(after.ledger)
    if step.records:
        ledger = origin.facts.copy()
        follow(ledger, step.records)
        compare_snapshot(after, live)
        folded = durable_facts(ledger)
    if folded != live:
        raise RecoveryDiffers(f"the records come to {folded!r}, where the session has {live!r}")


# Exploring

_expander: Expander | None = None


def _start_worker(scope: Scope, probes: bool) -> None:
    global _expander  # noqa: PLW0603  (one expander per process of the pool)
    _expander = Expander(scope, lambda _: True, probes)


def _expand(states: list[Kept]) -> Found:
    assert _expander is not None
    return _expander.expand(states)


@frozen
class Progress:
    """Progress of an exploration."""

    states: int
    waiting: int
    depth: int
    offered: int
    seconds: float


CHUNK = 100
"""Number of states that a process expands at a time."""


def explore(
    scope: Scope,
    jobs: int = 1,
    max_states: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    probes: bool = False,
) -> Exploration:
    """Visits every reachable state of the scope with `jobs` processes, up to the first fault or `max_states`. `probes`:
    is the complete alphabet tried in each?
    """
    if jobs == 1:
        expander = Expander(scope, lambda _: False, probes)
        return _explore(scope, lambda chunks: map(expander.expand, chunks), max_states, on_progress)
    with workers(jobs, _start_worker, scope, probes) as processes:
        return _explore(scope, lambda chunks: processes.map(_expand, chunks), max_states, on_progress)


def _explore(
    scope: Scope,
    expand: Callable[[list[list[Kept]]], Iterator[Found]],
    max_states: int | None,
    on_progress: Callable[[Progress], None] | None,
) -> Exploration:
    began = time.perf_counter()
    first = lockstep.start(scope.config)
    known: dict[Digest, int] = {digest_of(first[0], scope): 0}
    origins: list[tuple[int, int]] = [(-1, -1)]  # state -> (state before, number of the event)
    homeward: dict[int, Digest | None] = {}
    layer: list[tuple[int, Kept]] = [(0, first)]
    coverage: Counter[str] = Counter()
    offered = transitions = depth = probed = 0
    fault: Fault | None = None
    at = 0
    while layer and fault is None and (max_states is None or len(known) < max_states):
        following: list[tuple[int, Kept]] = []
        chunks = [layer[i : i + CHUNK] for i in range(0, len(layer), CHUNK)]
        for chunk, found in zip(chunks, expand([[state for _, state in chunk] for chunk in chunks]), strict=True):
            offered, transitions = offered + found.offered, transitions + found.changes
            coverage += found.coverage
            probed += found.probed
            for index, number, digest, state in found.successors:
                if digest not in known:
                    known[digest] = len(origins)
                    following.append((len(origins), state))
                    origins.append((chunk[index][0], number))
            homeward.update((chunk[index][0], digest) for index, digest in found.homeward)
            if found.fault is not None:
                at, fault = chunk[found.fault[0]][0], found.fault[1]
                break
            if on_progress is not None:
                seconds = time.perf_counter() - began
                on_progress(Progress(len(known), len(following), depth, offered, seconds))
        layer = following
        depth += 1
    if fault is None and not layer:
        at, fault = never_home(homeward, known)
    path = path_to(scope, way_to(origins, at)) if fault is not None else ()
    if fault is not None and fault.event is not None:
        path = (*path, fault.event)
    closed = fault is None and not layer
    judged = how_often(len(known) - len(layer), offered, transitions)
    seconds = time.perf_counter() - began
    return Exploration(
        scope, len(known), offered, transitions, depth - 1, seconds, closed, judged, coverage, fault, path, probed
    )


def how_often(states: int, offered: int, transitions: int) -> Counter[str]:
    """Returns property -> number of states or steps on which it was judged."""
    judged: Counter[str] = Counter()
    for known in STATE_PROPERTIES:
        judged[known.id] += states
    for known in STEP_PROPERTIES:
        judged[known.id] += offered if known.id in (*REFUSED_BY, *STALE_BY) else transitions
    judged["L7"] = states
    return judged


NEVER_HOME = Fault("L7", "threads answer for ever and nothing comes to rest", None)


def never_home(homeward: dict[int, Digest | None], known: dict[Digest, int]) -> tuple[int, Fault | None]:
    """Checks L7: from every state, letting threads answer one by one leads to a state at rest. Returns the first
    state from which it does not, and the fault; or no fault."""
    home = {state for state, after in homeward.items() if after is None}
    for start in homeward:
        walked: list[int] = []
        here = start
        while here not in home:
            if here in walked:
                return start, NEVER_HOME
            walked.append(here)
            after = homeward[here]
            assert after is not None
            here = known[after]
        home.update(walked)
    return 0, None


def way_to(origins: list[tuple[int, int]], state: int) -> list[int]:
    """Returns the numbers of the events that lead from the beginning to this state."""
    numbers: list[int] = []
    while state:
        state, number = origins[state]
        numbers.append(number)
    return numbers[::-1]


def path_to(scope: Scope, numbers: list[int]) -> tuple[AnyEvent, ...]:
    """Returns the events with these numbers, found by playing them again."""
    session, _ = lockstep.start(scope.config)
    path: list[AnyEvent] = []
    for number in numbers:
        event = next(e for i, e in enumerate(events(scope, session)) if i == number)
        path.append(event)
        session, _ = core_step(session.fork(), event)
    return tuple(path)
