"""Compares the statements of leases with the model: `world.py` and the product go the same way, event for event.

The problem. The model is written by hand beside the statements of `leases.py`, and what is proved of it says nothing of
them as long as the two were not compared.

What is done. An event is played on both sides (`fleet.py`), and everything is read back from the database as a world of
the model. It has to be the model's: every row, who has which session open with an epoch that counts, which appends were
written and which refused, and what each process counted. H1, H3, H5, H6 and H7 are judged on what was read back, and so
is H8: each session and each worker has made a move of its table. After a walk of chance, time goes on and all workers
poll, and H2, H4 and H6 are judged.

Three ways to walk. `cover` goes along every step of the graph that `explore.py` finds in a scope, edge for edge.
`wander` takes events by chance, with a seed. `follow` takes those that it is given.

What is left out. While an append of a worker that was cut off holds a row, that worker does not connect again: the
model has it wait, the product joins under a new number and has two rows for a while. The same with a worker that was
told to end and connects again while another one is dead: the product buries that one, too. Between `Leases.unload` and
the handover that follows, nothing else happens here. Sessions that are spare, and those of a program that is not a
worker, have no word in the model.
"""

from __future__ import annotations

import random
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence

from attrs import define, field, frozen

from statemachine.hosting.machines import MACHINES

from .explore import Graph, explore, said, shown
from .fleet import Fleet
from .properties import H2, H4, H6, H8, PROPERTIES
from .world import NONE, Aim, Event, Link, Protocol, Scope, World, canonical, canonical_session, start

WALK = 120
"""Events of a walk, after which all begins again: logs stay short."""
CALM_ROUNDS = 8
"""Rounds without callers and faults after which no session is claimed any more."""
WEIGHTS = {"crash": 1, "pause": 1, "cut": 1, "restart": 1, "drain": 1, "ask": 2, "tick": 4, "append": 12, "unload": 40}
"""How often an event is taken by chance, beside the others, which have 8."""
MOOD = 15
"""Events for which a worker is late, or none is: then others take it for dead, and it goes on as if nothing was."""


class Diverged(AssertionError):
    """Model and product have parted, or a property does not hold in the database; the message tells the way there."""

    def __init__(self, why: str, events: list[Event], wanted: World | None, found: World | None) -> None:
        lines = [why, *(f"  {said(event)}" for event in events)]
        lines += [f"  the model:    {shown(wanted)}"] if wanted is not None else []
        lines += [f"  the database: {shown(found)}"] if found is not None else []
        super().__init__("\n".join(lines))
        self.events = events


@frozen
class Compared:
    """What was compared."""

    steps: int
    """Steps of the graph, each at least once; 0 for walks of chance."""
    unchosen: int
    """Steps that the product did not take, since it takes other sessions of those that there are."""
    unmapped: int
    """Steps that are left out, and those that only they lead to."""
    events: Counter[str]
    walks: int
    seconds: float


@define
class Pair:
    """The model and the product, at the same place."""

    fleet: Fleet
    protocol: Protocol
    world: World = field(init=False)
    found: World = field(init=False)
    events: list[Event] = field(factory=list[Event])
    """Since the beginning."""
    played: Counter[str] = field(factory=Counter[str])
    walks: int = 0

    def __attrs_post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Makes both as in the beginning."""
        self.fleet.begin()
        self.world, self.events = start(self.protocol.scope), []
        self.found = self.fleet.seen()
        self.walks += 1
        self.compare(Event("start"))

    def enabled(self) -> list[Event]:
        """Returns what may happen next, and is not left out."""
        return [event for event in self.protocol.events(self.world) if is_mapped(self.protocol, self.world, event)]

    def play(self, event: Event, wanted: World | None = None) -> None:
        """Plays an event on both sides, to this world of the model if the product can be brought there."""
        successors = self.protocol.successors(self.world, event)
        chosen = list[World]()

        def after(claimed: frozenset[int]) -> World:
            fits = [world for world in successors if fits_claim(self.world, event, world, claimed)]
            if not fits:
                raise Diverged(f"sessions {sorted(claimed)} are claimed", [*self.events, event], self.world, None)
            chosen.append(wanted if wanted in fits and wanted is not None else fits[0])
            return chosen[-1]

        before = self.found
        self.events.append(event)
        self.played[event.name] += 1
        try:
            self.fleet.play(event, self.world, after)
            found = self.fleet.seen()
        except Diverged:
            raise
        except Exception as error:
            raise Diverged(f"{type(error).__name__}: {error}", self.events, successors[0], None) from error
        self.world = chosen[-1] if chosen else successors[0]
        self.found = found
        self.compare(event)
        self.judge(before, event)

    def compare(self, event: Event) -> None:
        """Raises `Diverged` unless what was read back is the model's world."""
        if same(self.world) != same(self.found):
            raise Diverged("model and database differ", self.events, self.world, self.found)

    def judge(self, before: World, event: Event) -> None:
        """Raises `Diverged` if a property does not hold of what was read back."""
        after = self.found
        for known in PROPERTIES:
            detail = known.state(after) if known.state is not None else None
            if detail is None and known.step is not None:
                detail = known.step(before, event, after)
            if detail is not None:
                raise Diverged(f"{known.id}: {detail}", self.events, self.world, after)
        for detail in strange_moves(before, event, after):
            raise Diverged(f"{H8.id}: {detail}", self.events, self.world, after)

    # Rounds: what must be so in the end

    def calm_down(self) -> None:
        """Lets time go on, every worker that lives polling once a tick, and judges H2, H4 and H6 in the end; not if a
        poll is among what is left out.
        """
        scope, before = self.protocol.scope, self.found
        for _ in range(scope.ttl + 1):
            before = self.found
            if not self.round():
                return
        for known in (H2, H6):
            assert known.after_rounds is not None
            detail = known.after_rounds(scope, before, self.found)
            if detail is not None:
                raise Diverged(f"{known.id}: {detail}", self.events, self.world, self.found)
        for _ in range(CALM_ROUNDS):
            self.round()
        epochs = [s.epoch for s in self.found.sessions]
        self.round()
        if epochs != [s.epoch for s in self.found.sessions]:
            raise Diverged(f"{H4.id}: a session is claimed again and again", self.events, self.world, self.found)

    def round(self) -> bool:
        """A tick, and a poll of each worker that lives. Returns whether each could."""
        self.settle()
        self.play(Event("tick"))
        for w in range(len(self.world.workers)):
            if self.world.workers[w].is_live:
                if Event("poll", w) not in self.enabled():
                    return False
                self.play(Event("poll", w))
                self.settle()
        return True

    def settle(self) -> None:
        """Ends what is under way."""
        while True:
            found = next((event for event in self.enabled() if event.name in ("commit", "open", "balance")), None)
            if found is None:
                return
            self.play(found)


def same(world: World) -> tuple[object, ...]:
    """Returns what has to be the same on both sides: all but the size of epochs, which the product also raises where it
    need not.
    """
    counts = tuple((s.log, s.work, s.asked, s.handled) for s in world.sessions)
    return world.workers, tuple(map(canonical_session, world.sessions)), counts


def fits_claim(before: World, event: Event, after: World, claimed: frozenset[int]) -> bool:
    """Whether a worker has claimed just these sessions in the model: it has raised their epochs."""
    pairs = enumerate(zip(before.sessions, after.sessions, strict=True))
    return event.name != "balance" or {n for n, (was, now) in pairs if was.epoch != now.epoch} == claimed


def is_mapped(protocol: Protocol, world: World, event: Event) -> bool:
    """Whether the product does the same as the model: see above what is left out."""
    if event.name != "poll" or world.workers[event.worker].link is Link.UP:
        return True
    w = event.worker
    if any(s.owner == w and protocol.is_locked(s) for s in world.sessions):
        return False
    others = (other for other in range(len(world.workers)) if other != w and world.workers[other].state)
    return world.workers[w].aim is Aim.SERVE or not any(protocol.is_dead(world, w, other) for other in others)


def strange_moves(before: World, event: Event, after: World) -> Iterator[str]:
    """Yields changes that the tables do not have. A worker that connects again is buried and joins in one poll."""
    lease, worker = ({(source, row.target) for row in m.rows for source in row.sources} for m in MACHINES)
    for n, (was, now) in enumerate(zip(before.sessions, after.sessions, strict=True)):
        if was.lease is not now.lease and (was.lease, now.lease) not in lease:
            yield f"session {n} was {was.lease.name.lower()} and is {now.lease.name.lower()}"
        if NONE not in (was.owner, now.owner) and was.owner != now.owner:
            yield f"session {n} went from worker {was.owner} to worker {now.owner} without being free"
        if now.epoch < was.epoch or (now.owner != NONE and was.owner == NONE and now.epoch == was.epoch):
            yield f"session {n} had epoch {was.epoch} and has {now.epoch}"
    for w, (one, other) in enumerate(zip(before.workers, after.workers, strict=True)):
        is_new = event == Event("poll", w) and one.link is not Link.UP
        if one.state is not other.state and (one.state, other.state) not in worker and not is_new:
            yield f"worker {w} was {one.state.name.lower()} and is {other.state.name.lower()}"


# Every step


def cover(fleet: Fleet) -> Compared:
    """Goes along every step of the graph of the fleet's scope. Raises `Diverged`."""
    began = time.perf_counter()
    scope = fleet.scope
    graph = explore(scope).graph
    walk = Walk(Pair(fleet, Protocol(scope)), graph)
    walk.go()
    return Compared(
        steps=walk.covered,
        unchosen=walk.unchosen,
        unmapped=len(walk.todo),
        events=walk.pair.played,
        walks=walk.pair.walks,
        seconds=time.perf_counter() - began,
    )


@define
class Walk:
    """Walks that go along every step of a graph."""

    pair: Pair
    graph: Graph
    number_of: dict[World, int] = field(init=False)
    todo: set[tuple[int, str, int]] = field(init=False)
    """Steps that were not taken yet: from where, by an event of which name, to where."""
    shut: set[tuple[int, str, int]] = field(factory=set[tuple[int, str, int]])
    """Steps that the product does not take from here."""
    covered: int = 0
    unchosen: int = 0

    def __attrs_post_init__(self) -> None:
        self.number_of = {world: number for number, world in enumerate(self.graph.worlds)}
        self.todo = {(n, step.event.name, step.to) for n, steps in enumerate(self.graph.steps) for step in steps}

    def go(self) -> None:
        """Walks until no step is left that can be taken."""
        is_fresh = True
        while self.todo:
            at = self.here()
            way = self.way(at) if len(self.pair.events) < WALK else None
            if way is None and is_fresh:
                return
            if way is None:
                self.pair.begin()
                is_fresh = True
                continue
            is_fresh = False
            for step in way:
                if not self.take(step):
                    break

    def here(self) -> int:
        """Returns the number of the world in which the pair is."""
        return self.number_of[canonical(self.pair.world, self.graph.scope)]

    def way(self, number: int) -> list[tuple[int, str, int]] | None:
        """Returns a shortest way whose last step was not taken yet."""
        reached: dict[int, tuple[int, str, int]] = {}
        line = deque([number])
        while line:
            at = line.popleft()
            for step in self.graph.steps[at]:
                key = (at, step.event.name, step.to)
                if key in self.shut:
                    continue
                if key in self.todo:
                    found = [key]
                    while found[0][0] != number:
                        found.insert(0, reached[found[0][0]])
                    return found
                if step.to not in reached and step.to != number:
                    reached[step.to] = key
                    line.append(step.to)
        return None

    def take(self, step: tuple[int, str, int]) -> bool:
        """Takes a step. Returns whether the product did."""
        at, name, to = step
        pair, scope = self.pair, self.graph.scope
        for event in pair.enabled():
            if event.name != name:
                continue
            for after in pair.protocol.successors(pair.world, event):
                if canonical(after, scope) == self.graph.worlds[to]:
                    pair.play(event, after)
                    is_there = pair.world == after
                    self.note((at, name, self.here()))
                    if not is_there:
                        self.shut.add(step)
                        self.unchosen += step in self.todo
                        self.todo.discard(step)
                    return is_there
        self.shut.add(step)
        return False

    def note(self, taken: tuple[int, str, int]) -> None:
        """Notes a step that was taken."""
        if taken in self.todo:
            self.todo.remove(taken)
            self.covered += 1


# By chance


def wander(fleet: Fleet, seed: int, walks: int, length: int = WALK) -> Compared:
    """Takes events by chance, so many walks of so many. Raises `Diverged`."""
    began = time.perf_counter()
    pair = Pair(fleet, Protocol(fleet.scope))
    for walk in range(walks):
        rnd = random.Random(f"{seed} {walk}")
        late = NONE
        for number in range(length):
            late = rnd.randrange(NONE, len(fleet.scope.capacities)) if number % MOOD == 0 else late
            events = pair.enabled()
            (event,) = rnd.choices(events, [weight(event, late) for event in events])
            pair.play(event, rnd.choice(pair.protocol.successors(pair.world, event)))
        pair.calm_down()
        if walk + 1 < walks:
            pair.begin()
    return Compared(0, 0, 0, pair.played, pair.walks, time.perf_counter() - began)


def weight(event: Event, late: int) -> float:
    """Returns how likely an event is while this worker is late."""
    if event.name in ("poll", "balance") and event.worker == late:
        return 0.2
    return WEIGHTS.get(event.name, 8) * (3 if event.name == "tick" and late != NONE else 1)


def follow(fleet: Fleet, events: Sequence[Event], protocol: Callable[[Scope], Protocol] = Protocol) -> World:
    """Takes these events, one after the other, and returns what is there then. Raises `Diverged`."""
    pair = Pair(fleet, protocol(fleet.scope))
    for event in events:
        if event not in pair.enabled():
            raise ValueError(f"it cannot happen now: {said(event)}")
        pair.play(event)
    return pair.found
