"""Explores every reachable world of a scope, breadth first, and judges H1 to H8.

Worlds that differ only by the names of sessions, or by numbers of which only the order matters, are the same
(`world.canonical`). States and steps are judged on the way, so the first fault that is found is one of the shortest.
Then the graph is judged: H2 and H6 from each of its states, by letting time go on with every live worker polling once a
tick, in each order of the workers and whatever they choose; H4 on its cycles.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

from attrs import define, field, frozen

from statemachine.core.machines import IllegalMove
from statemachine.hosting.machines import WorkerState

from .properties import H2, H4, H6, H8, PROPERTIES, Property
from .world import Aim, Event, Life, Link, Protocol, Scope, Worker, World, canonical, start

STATES_MAX = 1_000_000
"""More states than any scope has; a broken protocol may have no end of them."""
CALM = frozenset({"tick", "poll", "balance", "open", "unload", "settle"})
"""What happens without callers and faults (H4)."""


class TooManyStates(Exception):
    """A protocol has more states than any scope is known to have: something of it is not bounded."""

    def __init__(self, scope: str) -> None:
        super().__init__(f"scope '{scope}' has more than {STATES_MAX:,} states; find what grows without bound")
        self.scope = scope


class Step(NamedTuple):
    """An event, and where it leads."""

    event: Event
    to: int
    claims: bool
    """Whether a session that was free has been claimed, even if it was given away at once."""


@frozen
class Fault:
    """A property that does not hold, and the shortest way there: events, and the world after each."""

    property: Property
    detail: str
    path: tuple[tuple[Event, World], ...]


@define
class Graph:
    """All worlds that were reached, by number; the steps from each; and from where each was reached first."""

    scope: Scope
    worlds: list[World] = field(factory=list)
    steps: list[list[Step]] = field(factory=list)
    parents: list[tuple[int, Event]] = field(factory=list)

    def way_to(self, number: int) -> tuple[tuple[Event, World], ...]:
        """Returns a shortest way to a world."""
        found: list[tuple[Event, World]] = []
        while number:
            before, event = self.parents[number]
            found.append((event, self.worlds[number]))
            number = before
        return tuple(reversed(found))


@frozen
class Exploration:
    """The result of exploring a scope."""

    scope: Scope
    states: int
    steps: int
    depth: int
    seconds: float
    events: Counter[str]
    """How often each event was played."""
    faults: tuple[Fault, ...]
    """The first of each property that does not hold; the first of all, unless all were wanted."""
    graph: Graph = field(repr=False)


def explore(
    scope: Scope,
    protocol: Callable[[Scope], Protocol] = Protocol,
    progress: Callable[[int], None] = lambda _: None,
    *,
    finds_all: bool = False,
) -> Exploration:
    """Visits every reachable world of the scope, up to the first fault; with `finds_all` it goes on, until each
    property has a fault or was judged on all. `progress` is told how many worlds there are. Raises `TooManyStates`.
    """
    began = time.perf_counter()
    walk = Walk(scope, protocol(scope), finds_all)
    walk.visit(progress)
    graph = walk.graph
    if finds_all or not walk.faults:
        for fault in judge_graph(graph):
            walk.faults.setdefault(fault.property.id, fault)
    return Exploration(
        scope=scope,
        states=len(graph.worlds),
        steps=sum(map(len, graph.steps)),
        depth=max(walk.depths),
        seconds=time.perf_counter() - began,
        events=walk.events,
        faults=tuple(walk.faults.values()),
        graph=graph,
    )


@define
class Walk:
    """One walk through the worlds of a scope, which judges states and steps."""

    scope: Scope
    protocol: Protocol
    finds_all: bool
    graph: Graph = field(init=False)
    depths: list[int] = field(factory=lambda: [0])
    events: Counter[str] = field(factory=Counter[str])
    faults: dict[str, Fault] = field(factory=dict[str, Fault])

    def __attrs_post_init__(self) -> None:
        self.graph = Graph(self.scope)

    def visit(self, progress: Callable[[int], None]) -> None:
        """Visits all worlds, or those up to the first fault."""
        graph = self.graph
        known = {canonical(start(self.scope), self.scope): 0}
        graph.worlds.extend(known)
        graph.parents.append((0, Event("start")))
        for number, before in enumerate(graph.worlds):
            if number % 1_000 == 0:
                progress(number)
            self.judge_state(number)
            found: dict[Step, None] = {}
            for event in self.protocol.events(before):
                self.events[event.name] += 1
                for after in self.play(number, event):
                    same = canonical(after, self.scope)
                    to = known.setdefault(same, len(graph.worlds))
                    if to == len(graph.worlds):
                        self.add(number, event, same)
                    found[Step(event, to, is_claim(before, event, after))] = None
                if self.faults and not self.finds_all:
                    graph.steps.append([*found])
                    return
            graph.steps.append([*found])

    def add(self, number: int, event: Event, world: World) -> None:
        """Adds a world that an event leads to."""
        if len(self.graph.worlds) >= STATES_MAX:
            raise TooManyStates(self.scope.name)
        self.graph.worlds.append(world)
        self.graph.parents.append((number, event))
        self.depths.append(self.depths[number] + 1)

    def play(self, number: int, event: Event) -> list[World]:
        """Returns what an event leads to, once that is judged. Nothing, if a table refuses it."""
        before = self.graph.worlds[number]
        try:
            afters = self.protocol.successors(before, event)
        except IllegalMove as error:
            self.note(H8, str(error), number, (event, before))
            return []
        for after in afters:
            for judged, judge in STEP_JUDGES:
                detail = judge(before, event, after)
                if detail is not None:
                    self.note(judged, detail, number, (event, after))
        return afters

    def judge_state(self, number: int) -> None:
        """Judges one state."""
        for known, judge in STATE_JUDGES:
            detail = judge(self.graph.worlds[number])
            if detail is not None:
                self.note(known, detail, number)

    def note(self, known: Property, detail: str, number: int, *last: tuple[Event, World]) -> None:
        """Notes a fault, if it is the first of its property."""
        if known.id not in self.faults:
            self.faults[known.id] = Fault(known, detail, (*self.graph.way_to(number), *last))


STEP_JUDGES = [(known, known.step) for known in PROPERTIES if known.step is not None]
STATE_JUDGES = [(known, known.state) for known in PROPERTIES if known.state is not None]


def judge_graph(graph: Graph) -> Iterator[Fault]:
    """Yields the faults that only the whole graph shows."""
    rounds, without_gifts = Rounds(graph), Rounds(graph, gives=False)
    for fault in (judge_rounds(H2, rounds, without_gifts), judge_cycles(graph), judge_rounds(H6, rounds, rounds)):
        if fault is not None:
            yield fault


# Rounds: H2 and H6


class Rounds:
    """Where rounds lead: in a round, the database's clock goes on and every live worker polls once, in any order. What
    workers and the database have under way is ended in between. Without `gives`, rounds in which a session is given
    away are left out: it is free then, until the next poll.
    """

    def __init__(self, graph: Graph, gives: bool = True) -> None:
        self.graph, self.gives = graph, gives
        self.workers = len(graph.scope.capacities)
        self.settled: dict[int, frozenset[int]] = {}
        self.rounds: dict[int, frozenset[int]] = {}

    def after(self, number: int) -> frozenset[int]:
        """Returns the states in which a round may end that begins in this one."""
        found = self.rounds.get(number)
        if found is None:
            states = self.all_settled({number})
            late = {one for one in states if not self.by(one, "tick")}  # a worker has to poll before time goes on
            states = (states - late) | self.polled(late)
            ticked = self.all_settled({to for one in states for to in self.by(one, "tick")})
            found = self.rounds[number] = frozenset(self.polled(ticked))
        return found

    def polled(self, states: set[int]) -> set[int]:
        """Returns where these states lead once every live worker has polled, and done what follows from it."""
        states = self.balanced(states)
        ended = set[int]()
        for _ in range(self.workers):
            after = set[int]()
            for one in states:
                workers = self.graph.worlds[one].workers
                to_poll = [w for w, worker in enumerate(workers) if worker.is_live and not has_polled(worker)]
                after |= {to for w in to_poll for to in self.by(one, "poll", w)}
                if not to_poll:
                    ended.add(one)
            states = self.balanced(self.all_settled(after))
        return ended | states

    def balanced(self, states: set[int]) -> set[int]:
        """Returns where these states lead once workers have acted on what they counted."""
        for _ in range(self.workers):
            acted = {to for one in states for to in self.acted(one)}
            if acted == states:
                break
            states = self.all_settled(acted)
        return states

    def acted(self, number: int) -> list[int]:
        """Returns where it leads that a worker acts on what it counted; the state itself if none has counted."""
        found, owned = self.by(number, "balance"), owned_in(self.graph.worlds[number])
        if not found:
            return [number]
        return found if self.gives else [to for to in found if owned_in(self.graph.worlds[to]) >= owned]

    def by(self, number: int, name: str, w: int | None = None) -> list[int]:
        """Returns where an event leads, of one worker or of any."""
        return [
            to for event, to, _ in self.graph.steps[number] if event.name == name and (w is None or event.worker == w)
        ]

    def all_settled(self, numbers: set[int]) -> set[int]:
        """Returns where these states lead once appends are committed and claimed sessions opened."""
        return {to for number in numbers for to in self.settle(number)}

    def settle(self, number: int) -> frozenset[int]:
        """Ends what is under way, one after the other."""
        found = self.settled.get(number)
        if found is None:
            steps = self.graph.steps[number]
            first = next((event for event, _, _ in steps if event.name in UNDER_WAY), None)
            afters = {to for event, to, _ in steps if event == first}
            found = self.settled[number] = frozenset(self.all_settled(afters) if afters else {number})
        return found


UNDER_WAY = ("commit", "open", "settle")
"""Ends of something that was begun."""


def has_polled(worker: Worker) -> bool:
    """Whether a worker has polled since the last tick."""
    return worker.state is not WorkerState.ABSENT and worker.age == 0 and worker.link is Link.UP


def judge_rounds(known: Property, rounds: Rounds, last: Rounds) -> Fault | None:
    """Judges what must be so after TTL and one poll, from every state; `last` says where the last round leads."""
    judge, graph = known.after_rounds, rounds.graph
    assert judge is not None
    scope = graph.scope
    verdicts: dict[tuple[int, int], str | None] = {}
    for number in range(len(graph.worlds)):
        states = {number}
        for _ in range(scope.ttl):
            states = {to for one in states for to in rounds.after(one)}
        for before in states:
            for after in last.after(before):
                if (before, after) not in verdicts:
                    verdicts[before, after] = judge(scope, graph.worlds[before], graph.worlds[after])
                detail = verdicts[before, after]
                if detail is not None:
                    polls = f"after {scope.ttl + 1} ticks, in each of which every worker that lives polls"
                    return Fault(known, f"{detail}, {polls}", graph.way_to(number))
    return None


# Cycles: H4


def judge_cycles(graph: Graph) -> Fault | None:
    """Judges that no cycle without callers and faults claims a session, if time goes on in it."""
    calm = [[step for step in steps if is_calm(graph, n, step)] for n, steps in enumerate(graph.steps)]
    part_of = parts([[step.to for step in steps] for steps in calm])
    inside = [[step for step in steps if part_of[step.to] == part_of[n]] for n, steps in enumerate(calm)]
    ticking = {part_of[n]: n for n, steps in enumerate(inside) for step in steps if step.event.name == "tick"}
    for number, steps in enumerate(inside):
        for step in steps:
            if step.claims and part_of[number] in ticking:
                tick = ticking[part_of[number]]
                cycle = [*way_in(inside, graph, step.to, tick), *way_in(inside, graph, tick, number)]
                path = (*graph.way_to(number), (step.event, graph.worlds[step.to]), *cycle)
                return Fault(H4, f"a session is claimed again and again; the last {len(cycle) + 1} steps repeat", path)
    return None


def is_calm(graph: Graph, number: int, step: Step) -> bool:
    """Whether it is a step without callers and faults: workers that live are not late."""
    if step.event.name not in CALM:
        return False
    if step.event.name != "tick":
        return True
    return not any(w.is_live and (w.age >= graph.scope.ttl or w.fair >= 0) for w in graph.worlds[number].workers)


def is_claim(before: World, event: Event, after: World) -> bool:
    """Whether a session that was free has been claimed."""
    if event.name != "balance":
        return False
    pairs = zip(before.sessions, after.sessions, strict=True)
    return any(was.owner < 0 and (now.owner >= 0 or now.epoch != was.epoch) for was, now in pairs)


def owned_in(world: World) -> int:
    """Returns how many sessions have an owner."""
    return sum(s.owner >= 0 for s in world.sessions)


def way_in(inside: list[list[Step]], graph: Graph, first: int, last: int) -> list[tuple[Event, World]]:
    """Returns a shortest way from one state to another, by these steps."""
    reached: dict[int, tuple[int, Event]] = {}
    line = [first]
    for number in line:
        for event, to, _ in inside[number]:
            if to != first and to not in reached:
                reached[to] = number, event
                line.append(to)
    found: list[tuple[Event, World]] = []
    while last != first:
        before, event = reached[last]
        found.append((event, graph.worlds[last]))
        last = before
    return found[::-1]


def parts(graph: list[list[int]]) -> list[int]:
    """Returns for each state the number of its strongly connected part: Tarjan's walk."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    part = [-1] * len(graph)
    kept: list[int] = []
    for root in range(len(graph)):
        if root in index:
            continue
        work: list[tuple[int, Iterator[int]]] = [(root, iter(graph[root]))]
        index[root] = low[root] = len(index)
        kept.append(root)
        while work:
            number, to = work[-1][0], next(work[-1][1], None)
            if to is None:
                work.pop()
                if work:
                    above = work[-1][0]
                    low[above] = min(low[above], low[number])
                if low[number] == index[number]:
                    while True:
                        last = kept.pop()
                        part[last] = number
                        if last == number:
                            break
            elif to not in index:
                index[to] = low[to] = len(index)
                kept.append(to)
                work.append((to, iter(graph[to])))
            elif part[to] < 0:
                low[number] = min(low[number], index[to])
    return part


# Words


def story(fault: Fault, protocol: Protocol) -> str:
    """Returns the fault as a story: a line for each event, and the world after it."""
    lines = list[str]()
    before, detail = start(protocol.scope), fault.detail
    for event, world in replayed(fault, protocol):
        lines += [f"  {said(event)}", f"      {shown(world)}"]
        detail, before = anew(fault, before, event, world) or fault.detail, world
    return "\n".join([f"{fault.property.id}: {detail}", *lines])


def anew(fault: Fault, before: World, event: Event, after: World) -> str | None:
    """Judges a step or its end anew, with the names of the story."""
    known = fault.property
    step = None if known.step is None else known.step(before, event, after)
    return step or (None if known.state is None else known.state(after))


def replayed(fault: Fault, protocol: Protocol) -> Iterator[tuple[Event, World]]:
    """Yields the events of a fault, with names of workers and sessions that stay the same from one to the next."""
    world = start(protocol.scope)
    for played, target in fault.path:
        wanted = canonical(target, protocol.scope)
        found = next(arrivals(protocol, world, played.name, wanted), None)
        if found is None:  # a move that the tables refuse
            yield played, world
            return
        event, world = found
        yield event, world


def arrivals(protocol: Protocol, world: World, name: str, wanted: World) -> Iterator[tuple[Event, World]]:
    """Yields the events of this name that lead to a world, up to names."""
    for event in protocol.events(world):
        if event.name == name:
            with suppress(IllegalMove):
                for after in protocol.successors(world, event):
                    if canonical(after, protocol.scope) == wanted:
                        yield event, after


SENTENCES = {
    "tick": "a tick of the database's clock",
    "ask": "a caller asks for session {s}",
    "poll": "worker {w} beats, buries the dead, and counts",
    "balance": "worker {w} claims, gives or leaves sessions",
    "open": "worker {w} opens session {s}",
    "append": "worker {w} sends an append to session {s}",
    "commit": "the database commits the append of worker {w} to session {s}",
    "unload": "worker {w} leaves session {s}, which is idle",
    "settle": "worker {w} says that session {s} needs no owner",
    "crash": "worker {w} is killed",
    "start": "worker {w} is started",
    "pause": "worker {w} is stopped",
    "wake": "worker {w} goes on",
    "cut": "worker {w} is cut off from the database",
    "heal": "worker {w} can reach the database again",
    "drain": "worker {w} is told to end",
    "restart": "the database restarts",
}


def said(event: Event) -> str:
    """Returns an event in words."""
    return SENTENCES[event.name].format(w=event.worker, s=event.session)


def shown(world: World) -> str:
    """Returns a world on one line."""
    workers = [
        f"w{w} {worker.state.name.lower()}, silent for {worker.age}"
        + ("" if worker.life is Life.RUNNING else f", {worker.life.name.lower()}")
        + ("" if worker.link is Link.UP else f", connection {worker.link.name.lower()}")
        + ("" if worker.aim is Aim.SERVE else ", to end")
        + ("" if worker.fair < 0 else f", counted a share of {worker.fair}")
        for w, worker in enumerate(world.workers)
    ]
    sessions = [
        f"s{n} {s.lease.name.lower()}{f' by w{s.owner}' if s.owner >= 0 else ''}, epoch {s.epoch}"
        + (", open work" if s.work else "")
        + (f", {s.asked - s.handled} asked" if s.asked > s.handled else "")
        + "".join(f", w{w} has it {h.phase.name.lower()} with {h.epoch}" for w, h in enumerate(s.holds) if h)
        + "".join(f", w{w} appends with {f.epoch}" for w, f in enumerate(s.flights) if f)
        for n, s in enumerate(world.sessions)
    ]
    return "; ".join([*workers, *sessions])
