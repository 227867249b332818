"""Explores every reachable world of a scope, breadth first, and judges H1 to H8.

Worlds that differ only by the names of sessions, or by numbers of which only the order matters, are the same
(`world.canonical`). States and steps are judged on the way, so the first fault that is found is one of the shortest.
Then the graph is judged: H2 and H6 from each of its states, by letting time go on with every live worker polling once a
tick, in each order of the workers and whatever they choose; H4 on its cycles.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
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
    fault: Fault | None
    graph: Graph = field(repr=False)


def explore(
    scope: Scope,
    protocol: Callable[[Scope], Protocol] = Protocol,
    judged: Iterable[Property] = PROPERTIES,
    progress: Callable[[int], None] = lambda states: None,
) -> Exploration:
    """Visits every reachable world of the scope, up to the first fault of one of these properties. Raises
    `TooManyStates`.
    """
    began = time.perf_counter()
    wanted = {known.id for known in judged}
    walk = Walk(scope, protocol(scope), [known for known in PROPERTIES if known.id in wanted])
    fault = walk.visit(progress)
    graph = walk.graph
    if fault is None:
        fault = judge_graph(graph, walk.judged)
    depth = max(walk.depths)
    steps = sum(map(len, graph.steps))
    return Exploration(
        scope, len(graph.worlds), steps, depth, time.perf_counter() - began, walk.events, fault, graph
    )


@define
class Walk:
    """One walk through the worlds of a scope."""

    scope: Scope
    protocol: Protocol
    judged: list[Property]
    graph: Graph = field(init=False)
    depths: list[int] = field(factory=lambda: [0])
    events: Counter[str] = field(factory=Counter[str])

    def __attrs_post_init__(self) -> None:
        self.graph = Graph(self.scope)

    def visit(self, progress: Callable[[int], None]) -> Fault | None:
        """Visits all worlds, and judges states and steps."""
        graph, protocol = self.graph, self.protocol
        step_judges = [(known, known.step) for known in self.judged if known.step is not None]
        judges_tables = H8 in self.judged
        first = canonical(start(self.scope), self.scope)
        known: dict[World, int] = {first: 0}
        graph.worlds.append(first)
        graph.parents.append((0, Event("start")))
        for number, before in enumerate(graph.worlds):
            if number % 10_000 == 0:
                progress(number)
            fault = self.judge_state(number)
            if fault is not None:
                return fault
            found: dict[Step, None] = {}
            for event in protocol.events(before):
                self.events[event.name] += 1
                try:
                    afters = protocol.successors(before, event)
                except IllegalMove as error:
                    if judges_tables:
                        return Fault(H8, str(error), (*graph.way_to(number), (event, before)))
                    continue
                for after in afters:
                    for judged, judge in step_judges:
                        detail = judge(before, event, after)
                        if detail is not None:
                            return Fault(judged, detail, (*graph.way_to(number), (event, after)))
                    same = canonical(after, self.scope)
                    to = known.setdefault(same, len(graph.worlds))
                    if to == len(graph.worlds):
                        if to >= STATES_MAX:
                            raise TooManyStates(self.scope.name)
                        graph.worlds.append(same)
                        graph.parents.append((number, event))
                        self.depths.append(self.depths[number] + 1)
                    found[Step(event, to)] = None
            graph.steps.append([*found])
        return None

    def judge_state(self, number: int) -> Fault | None:
        """Judges one state."""
        world = self.graph.worlds[number]
        for known in self.judged:
            detail = None if known.state is None else known.state(world)
            if detail is not None:
                return Fault(known, detail, self.graph.way_to(number))
        return None


def judge_graph(graph: Graph, judged: Iterable[Property]) -> Fault | None:
    """Judges what takes the whole graph."""
    for known in judged:
        fault = judge_cycles(graph) if known is H4 else judge_rounds(graph, known) if known in (H2, H6) else None
        if fault is not None:
            return fault
    return None


# Rounds: H2 and H6


class Rounds:
    """Where rounds lead: in a round, the database's clock goes on and every live worker polls once, in any order. What
    workers and the database have under way is ended in between.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
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
            states = self.all_settled({to for one in states for to in self.by(one, "balance") or [one]})
        return states

    def by(self, number: int, name: str, w: int | None = None) -> list[int]:
        """Returns where an event leads, of one worker or of any."""
        return [
            to for event, to in self.graph.steps[number] if event.name == name and (w is None or event.worker == w)
        ]

    def all_settled(self, numbers: set[int]) -> set[int]:
        """Returns where these states lead once appends are committed and claimed sessions opened."""
        return {to for number in numbers for to in self.settle(number)}

    def settle(self, number: int) -> frozenset[int]:
        """Ends what is under way, one after the other."""
        found = self.settled.get(number)
        if found is None:
            steps = self.graph.steps[number]
            first = next((event for event, _ in steps if event.name in UNDER_WAY), None)
            afters = {to for event, to in steps if event == first}
            found = self.settled[number] = frozenset(self.all_settled(afters) if afters else {number})
        return found


UNDER_WAY = ("commit", "open", "settle")
"""Ends of something that was begun."""


def has_polled(worker: Worker) -> bool:
    """Whether a worker has polled since the last tick."""
    return worker.state is not WorkerState.ABSENT and worker.age == 0 and worker.link is Link.UP


def judge_rounds(graph: Graph, known: Property) -> Fault | None:
    """Judges what must be so after TTL and one poll, from every state."""
    judge = known.after_rounds
    assert judge is not None
    scope, rounds = graph.scope, Rounds(graph)
    verdicts: dict[tuple[int, int], str | None] = {}
    for number in range(len(graph.worlds)):
        states = {number}
        for _ in range(scope.ttl):
            states = {to for one in states for to in rounds.after(one)}
        for before in states:
            for after in rounds.after(before):
                if (before, after) not in verdicts:
                    verdicts[before, after] = judge(scope, graph.worlds[before], graph.worlds[after])
                detail = verdicts[before, after]
                if detail is not None:
                    polls = f"after {scope.ttl + 1} ticks, in each of which every worker that lives polls"
                    return Fault(known, f"{detail}, {polls}", graph.way_to(number))
    return None


# Cycles: H4


def judge_cycles(graph: Graph) -> Fault | None:
    """Judges that no cycle without callers and faults claims a session."""
    calm: dict[int, list[int]] = {
        number: [step.to for step in steps if is_calm(graph, number, step)]
        for number, steps in enumerate(graph.steps)
    }
    part_of = parts(calm)
    for number, steps in enumerate(graph.steps):
        for step in steps:
            if step.event.name == "balance" and part_of[number] == part_of[step.to] and number != step.to:
                if claims(graph.worlds[number], graph.worlds[step.to]):
                    w = step.event.worker
                    cycle = way_in(calm, graph, step.to, number)
                    path = (*graph.way_to(number), (step.event, graph.worlds[step.to]), *cycle)
                    return Fault(H4, f"worker {w} claims a session again and again", path)
    return None


def is_calm(graph: Graph, number: int, step: Step) -> bool:
    """Whether it is a step without callers and faults: workers that live are not late."""
    if step.event.name not in CALM:
        return False
    if step.event.name != "tick":
        return True
    return not any(w.is_live and (w.age >= graph.scope.ttl or w.fair >= 0) for w in graph.worlds[number].workers)


def claims(before: World, after: World) -> bool:
    """Whether more sessions are owned."""
    return sum(s.owner >= 0 for s in after.sessions) > sum(s.owner >= 0 for s in before.sessions)


def way_in(calm: dict[int, list[int]], graph: Graph, start_: int, end: int) -> list[tuple[Event, World]]:
    """Returns a shortest way between two states by calm steps."""
    reached: dict[int, tuple[int, Event]] = {}
    line = [start_]
    for number in line:
        if number == end:
            break
        allowed = {*calm[number]}
        for event, to in graph.steps[number]:
            if to in allowed and event.name in CALM and to not in reached and to != start_:
                reached[to] = number, event
                line.append(to)
    found: list[tuple[Event, World]] = []
    while end != start_:
        before, event = reached[end]
        found.append((event, graph.worlds[end]))
        end = before
    return found[::-1]


def parts(graph: dict[int, list[int]]) -> list[int]:
    """Returns for each state the number of its strongly connected part: Tarjan's walk."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    part = [-1] * len(graph)
    kept: list[int] = []
    for root in graph:
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
    lines = [f"{fault.property.id}: {fault.detail}"]
    for event, world in replayed(fault, protocol):
        lines += [f"  {said(event)}", f"      {shown(world)}"]
    return "\n".join(lines)


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
