"""Every reachable state of a scope, core and reference in lockstep, breadth first.

From each state, each event of the scope goes to both. Reply, effects and state are compared, the properties are
judged, and a state that was not seen before is put in line. Breadth first, so the first fault found is one of the
shortest. Two states are the same if their fingerprints are, up to the names of interchangeable agents where the scope
says so; the reference's state follows from the core's, because they were just found to be equal.

Refusals and stale reports are played on one copy, whose fingerprint must still be that of the state in the end.

With several processes, each expands a part of every layer and keeps in mind what it has sent already; the parent alone
decides what is new, in a fixed order, so counts and counterexamples do not depend on the number of processes.
"""

from __future__ import annotations

import pickle
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from attrs import define, field, frozen

from model import lockstep, reference
from model.coverage import Coverage, counting, moves_seen
from model.lockstep import AnyEvent, Deviation, Restart, compare_states, compare_step, core_step
from model.scopes import Scope, events
from model.symmetry import Digest, digest_of, hashed
from statemachine import events as ev
from statemachine.effects import Refused, Reply, Stale, Step
from statemachine.fingerprint import fingerprint
from statemachine.machines import Identity, Turn
from statemachine.moment import Moment
from statemachine.properties import PROPERTIES, STATE_PROPERTIES, STEP_PROPERTIES, PropertyViolation
from statemachine.recovery import apply, durable_facts, forget
from statemachine.refusals import MailboxFull
from statemachine.session import Session
from statemachine.view import is_quiescent

L7 = next(known for known in PROPERTIES if known.id == "L7")

STEP_JUDGES = tuple((known, known.step) for known in STEP_PROPERTIES if known.step is not None)
REFUSAL_JUDGES = tuple((known, judge) for known, judge in STEP_JUDGES if known.id == "S12")
STALE_JUDGES = tuple((known, judge) for known, judge in STEP_JUDGES if known.id == "S9")
"""Those about events that change nothing; that they do not is seen once, after all of them."""
STATE_JUDGES = tuple((known, known.state) for known in STATE_PROPERTIES if known.state is not None)

Both = tuple[Session, Any]
Kept = Both | bytes
"""A state in line: as it is, or pickled."""


@frozen
class Fault:
    """What went wrong, after `event` in the state at the end of a path. `kind` is a property's id, `lockstep`,
    `recovery`, `refusal` or `crash`."""

    kind: str
    detail: str
    event: AnyEvent | None


@define
class Found:
    """What expanding some states came to."""

    successors: list[tuple[int, int, Digest, Kept | None]] = field(factory=list)
    """(index of the state, number of the event, digest, the state unless it was sent before)."""
    offered: int = 0
    """Events played, refused and stale ones included."""
    changes: int = 0
    """Events that were accepted."""
    coverage: Counter[str] = field(factory=Counter)
    homeward: list[tuple[int, Digest | None]] = field(factory=list)
    """For L7: (index of the state, digest of the state after one more thread answered), None: it is at rest."""
    fault: tuple[int, Fault] | None = None


@frozen
class Exploration:
    """What was found in a scope."""

    scope: Scope
    states: int
    offered: int
    transitions: int
    depth: int
    seconds: float
    closed: bool
    """Every reachable state was visited."""
    judged: Counter[str]
    coverage: Counter[str]
    fault: Fault | None
    path: tuple[AnyEvent, ...]
    """The events that lead to the fault, its own included."""


def pack(session: Session, world: Any, travels: bool) -> Kept:
    """The state, fit to go to another process if it has to."""
    return pickle.dumps((session, world)) if travels else (session, world)


def unpack(kept: Kept) -> Both:
    """The state again."""
    state: Both = pickle.loads(kept) if isinstance(kept, bytes) else kept  # our own processes wrote it
    return state


# Expanding one state


class Expander:
    """Plays every event of the scope on states. Holds what one process remembers.

    States that go to other processes are pickled; those that stay are handed on as they are.
    """

    def __init__(self, scope: Scope, travels: bool) -> None:
        self.scope = scope
        self.travels = travels
        self.sent: set[Digest] = set()
        self.digests: dict[Digest, Digest] = {}
        """Of the fingerprint -> of the state, where renaming makes two of it. Most states are met about ten times."""
        self.coverage = Coverage()

    def expand(self, states: list[Kept]) -> Found:
        """All successors of these states, up to the first fault."""
        found = Found()
        self.coverage.counts.clear()
        with counting() as moves:
            for index, kept in enumerate(states):
                session, world = unpack(kept)
                fault = self.expand_one(index, session, world, found)
                if fault is not None:
                    found.fault = (index, fault)
                    break
            found.coverage = self.coverage.counts + moves_seen(moves)
        return found

    def expand_one(self, index: int, session: Session, world: Any, found: Found) -> Fault | None:
        """The successors of one state, or what is wrong with it."""
        event: AnyEvent | None = None
        try:
            judge_state(session)
            before = fingerprint(session)
            idle = session.fork()
            home: Digest | None = None
            resting = is_quiescent(session)
            for number, event in enumerate(events(self.scope, session)):
                after_world, reply, effects = reference.step(world, lockstep.TRANSLATE[event.__class__](event))
                found.offered += 1
                if reply[0] in ("refused", "stale"):
                    idle, step = core_step(idle, event)
                    compare_step(step, reply, effects)
                    self.judge_step(session, event, step, idle)
                    continue
                after, step = core_step(session.fork(), event)
                compare_step(step, reply, effects)
                if step.reply.__class__ in (Refused, Stale):
                    raise Deviation("reply", step.reply, reply)
                compare_states(after, after_world)
                self.judge_step(session, event, step, after)
                compare_recovery(session, event, step, after)
                found.changes += 1
                digest = self.digest(after)
                if home is None and not resting and is_answer(event):
                    home = digest
                fresh = digest not in self.sent
                self.sent.add(digest)
                state = pack(after, after_world, self.travels) if fresh else None
                found.successors.append((index, number, digest, state))
            event = None
            if fingerprint(idle) != before:
                return self.who_changed(session, world, before)
            found.homeward.append((index, home))
            if home is None:
                drive_home(session)
        except PropertyViolation as violation:
            return Fault(violation.property.id, violation.detail, event)
        except Deviation as deviation:
            return Fault("lockstep", str(deviation), event)
        except (AssertionError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
            return Fault("crash", f"{type(error).__name__}: {error}", event)
        return None

    def digest(self, s: Session) -> Digest:
        """`digest_of`, remembered."""
        if not self.scope.symmetric:
            return digest_of(s, self.scope)
        plain = hashed(fingerprint(s))
        found = self.digests.get(plain)
        if found is None:
            found = self.digests[plain] = digest_of(s, self.scope)
        return found

    def judge_step(self, before: Session, event: AnyEvent, step: Step, after: Session) -> None:
        """The step properties, and what was seen."""
        self.coverage.observe(before, event, step, after)
        if event.__class__ is Restart:
            return
        kind = step.reply.__class__
        judges = REFUSAL_JUDGES if kind is Refused else STALE_JUDGES if kind is Stale else STEP_JUDGES
        moment = Moment(after, before, event, step, judges is not STEP_JUDGES)  # type: ignore[arg-type]
        for known, judge in judges:
            detail = judge(moment)
            if detail is not None:
                raise PropertyViolation(known, detail)

    def who_changed(self, session: Session, world: Any, before: tuple[Any, ...]) -> Fault:
        """Some refused or stale event changed the session; this says which."""
        for event in events(self.scope, session):
            if reference.step(world, lockstep.TRANSLATE[event.__class__](event))[1][0] in ("refused", "stale"):
                after, step = core_step(session.fork(), event)
                if fingerprint(after) != before:
                    return Fault("refusal", f"{step.reply} changed the session", event)
        return Fault("refusal", "refused and stale events together changed the session", None)


def judge_state(session: Session) -> None:
    """The state properties."""
    moment = Moment(session)
    for known, judge in STATE_JUDGES:
        detail = judge(moment)
        if detail is not None:
            raise PropertyViolation(known, detail)


def compare_recovery(before: Session, event: AnyEvent, step: Step, after: Session) -> None:
    """One step of the induction that folding the log gives the live facts: facts before + records = facts after."""
    if not step.records and event.__class__ is not Restart:
        return
    ledger = forget(before.ledger)
    for agent in ledger.agents:
        if before.agents[agent.id].status is Turn.STOPPING:
            agent.status = Turn.RUNNING
    for record in step.records:
        apply(ledger, record)
    if durable_facts(ledger) != durable_facts(after.ledger):
        raise Deviation("recovery", durable_facts(after.ledger), durable_facts(ledger))


# L7


def is_answer(event: AnyEvent) -> bool:
    """Is this a thread that does what it was asked?"""
    return event.__class__ in (ev.Loaded, ev.Flushed, ev.Finished, ev.Aborted)


def drive_home(session: Session) -> None:
    """L7 in a state at rest: every open agent gets to a turn, if threads answer."""
    if session.state.name != "OPEN" or session.config.execution_cap == 0:
        return
    for agent in session.agents:
        if agent.identity is not Identity.OPEN or agent.status is Turn.RUNNING:
            continue
        trial = session.fork()
        event = ev.FollowUp(ev.HOST, agent.id, "drive")
        reply = trial.handle(event).reply
        if is_full(reply) and agent.id != ev.ROOT:  # of mail demoted from trigger: it is closed, and opened again
            trial.handle(ev.Close(ev.HOST, agent.id))
            trial.handle(ev.Resume(ev.HOST, agent.id))
            reply = trial.handle(event).reply
        for _ in range(4 * len(trial.agents)):
            answer = next(answers_of(trial), None)
            if answer is None or trial.agents[agent.id].status is Turn.RUNNING:
                break
            trial.handle(answer)
        if trial.agents[agent.id].status is not Turn.RUNNING:
            raise PropertyViolation(L7, f"agent {agent.id} gets no turn any more: {reply}")


def is_full(reply: Reply) -> bool:
    """Was the operation refused for want of room in a mailbox?"""
    return isinstance(reply, Refused) and isinstance(reply.refusal, MailboxFull)


def answers_of(s: Session) -> Iterator[ev.Event]:
    """What the threads owe."""
    for a in s.agents:
        if a.id in s.residents.loading:
            yield ev.Loaded(a.id, a.generation)
        if a.id in s.residents.flushes:
            yield ev.Flushed(a.id, a.generation, s.residents.flushes[a.id])
        if a.status is Turn.RUNNING:
            yield ev.Finished(a.id, a.turn, "r")
        if a.status is Turn.STOPPING:
            yield ev.Aborted(a.id, a.turn)


# Exploring

_expander: Expander | None = None


def _start_worker(scope: Scope) -> None:
    global _expander  # noqa: PLW0603  (one expander per process of the pool)
    _expander = Expander(scope, travels=True)


def _expand(states: list[Kept]) -> Found:
    assert _expander is not None
    return _expander.expand(states)


@frozen
class Progress:
    """How far an exploration is."""

    states: int
    waiting: int
    depth: int
    offered: int
    seconds: float


CHUNK = 100
"""States a process expands at a time."""


def explore(
    scope: Scope,
    jobs: int = 1,
    max_states: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Exploration:
    """Visits every reachable state of the scope with `jobs` processes, up to the first fault or `max_states`."""
    if jobs == 1:
        expander = Expander(scope, travels=False)
        return _explore(scope, lambda chunks: map(expander.expand, chunks), max_states, on_progress)
    with ProcessPoolExecutor(jobs, initializer=_start_worker, initargs=(scope,)) as pool:
        try:
            return _explore(scope, lambda chunks: pool.map(_expand, chunks), max_states, on_progress)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


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
    offered = transitions = depth = 0
    fault: Fault | None = None
    at = 0
    while layer and fault is None and (max_states is None or len(known) < max_states):
        following: list[tuple[int, Kept]] = []
        chunks = [layer[i : i + CHUNK] for i in range(0, len(layer), CHUNK)]
        for chunk, found in zip(chunks, expand([[state for _, state in chunk] for chunk in chunks]), strict=True):
            offered, transitions = offered + found.offered, transitions + found.changes
            coverage += found.coverage
            for index, number, digest, state in found.successors:
                if digest not in known and state is not None:
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
    path = path_to(scope, origins, at) if fault is not None else ()
    if fault is not None and fault.event is not None:
        path = (*path, fault.event)
    closed = fault is None and not layer
    judged = how_often(len(known) - len(layer), offered, transitions)
    seconds = time.perf_counter() - began
    return Exploration(
        scope, len(known), offered, transitions, depth - 1, seconds, closed, judged, coverage, fault, path
    )


def how_often(states: int, offered: int, transitions: int) -> Counter[str]:
    """Property -> states or steps that it was judged on."""
    judged: Counter[str] = Counter()
    for known in STATE_PROPERTIES:
        judged[known.id] += states
    for known in STEP_PROPERTIES:
        judged[known.id] += offered if known.id in ("S9", "S12") else transitions
    judged["L7"] = states
    return judged


def never_home(homeward: dict[int, Digest | None], known: dict[Digest, int]) -> tuple[int, Fault | None]:
    """L7: from every state, letting threads answer one by one leads to a state at rest. Where does it not?"""
    home = {state for state, after in homeward.items() if after is None}
    for start in homeward:
        walked: list[int] = []
        here = start
        while here not in home:
            if here in walked:
                return start, Fault("L7", "threads answer for ever and nothing comes to rest", None)
            walked.append(here)
            after = homeward[here]
            assert after is not None
            here = known[after]
        home.update(walked)
    return 0, None


def path_to(scope: Scope, origins: list[tuple[int, int]], state: int) -> tuple[AnyEvent, ...]:
    """The events that lead from the beginning to this state, found by playing them again."""
    numbers: list[int] = []
    while state:
        state, number = origins[state]
        numbers.append(number)
    session, _ = lockstep.start(scope.config)
    path: list[AnyEvent] = []
    for number in reversed(numbers):
        event = next(e for i, e in enumerate(events(scope, session)) if i == number)
        path.append(event)
        session, _ = core_step(session.fork(), event)
    return tuple(path)
