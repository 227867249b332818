"""Judges what only runs without end can show, on the graph of the core itself: theorem 2, L5, L7, L11 and L12.

`alone.py` does this for the reference; here the states are those of the core. Agents keep their names in such a graph
(no symmetry), because it matters which of them starves. Each edge says what was under way before and after it and was
not answered in it (`kept`); a run in which something goes on for ever is a cycle all of whose edges keep it.

Fair is a run in which each load, flush, turn and stop that is under way ends at some time; a turn need not end while it
awaits a request or has no slot to go on with. The host does what it likes.

- *Theorem 2*: no fair cycle keeps a trigger mail unread, a turn without a slot or room, a turn that returns, or a wait
  for a request.
- *L5*, without any answer of a thread, but with time that goes on: no cycle with a tick in it keeps a load, a flush or
  a stop, and while one is under way a tick is due.
- *L7*: from each state, for each open agent, answers of threads and requests of the host lead to the start of a turn.
- *L11*: others get a slot at most `max_overtaken` times while a turn is the one that has queued longest.
- *L12*: while a turn returns, and no other has been returning longer, at most one turn that starts passes it: one
  that is due.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from attrs import frozen

from statemachine.core import events as ev
from statemachine.core.effects import Refused, Stale
from statemachine.core.machines import STARTED, Identity, Residency, TurnState
from statemachine.core.records import MailKind
from statemachine.core.session import Session

from ..lockstep import AnyEvent, Restart, core_step
from ..verdicts import Verdict
from .alone import Edge, Kept, excuses, fair_part, strongly_connected
from .explorer import judge_state, judge_step
from .scopes import FAN, LINE, PAIR, TRIO, Scope, events, small_config
from .symmetry import Digest, digest_of

STAGE = {
    **dict.fromkeys((TurnState.QUEUED, TurnState.STARTING), "queue"),
    **dict.fromkeys((TurnState.RUNNING, TurnState.WAITING, TurnState.RETURNING), "turn"),
    TurnState.STOPPING: "stop",
}
STATES_MAX = 100_000
"""More states than any scope of this engine has; a broken core may have no end of them."""
STARVES = ("mail", "queue", "return", "wait")
"""What must not go on for ever in a fair run (theorem 2)."""
BOUNDED = ("load", "flush", "stop")
"""What a thread must answer in time (L5)."""


class TooManyStates(Exception):
    """The core has more states than a scope is known to have: something of it is not bounded."""

    def __init__(self, scope: str) -> None:
        super().__init__(f"scope '{scope}' has more than {STATES_MAX:,} states; find what grows without bound")
        self.scope = scope


class Passed(NamedTuple):
    """A turn was first in a line before and after a step, and `times` others were served in it."""

    line: str
    """`queue` (L11) or `return` (L12)."""
    agent: int
    times: int


@frozen
class Graph:
    """All states of the core in a scope. The lists run by state; `marks` and `played` have a place for each edge."""

    scope: Scope
    edges: list[list[Edge]]
    played: list[list[AnyEvent]]
    """The event of each edge."""
    passed: list[list[tuple[Passed, ...]]]
    began: list[list[frozenset[int]]]
    """The agents a turn of which started in this step."""
    open: list[frozenset[int]]
    """The open sub-agents of each state."""
    untimed: list[frozenset[tuple[str, int]]]
    """What a thread must answer although no tick is due: in each state."""
    digests: list[Digest]
    parent: list[tuple[int, int]]
    """The state from which each was found first, and by which edge."""

    @property
    def size(self) -> tuple[int, int]:
        """States and steps."""
        return len(self.edges), sum(map(len, self.edges))


# The graph


def explore(scope: Scope, *, judge: bool = False) -> Graph:
    """Visits every state of the core in this scope, breadth first; with `judge` every property is judged, too, and a
    broken one is raised as a `PropertyViolation`. Refused events and stale reports are not steps.
    """
    line: list[Session | None] = [Session(scope.config)]
    known: dict[Digest, int] = {digest_of(line[0], scope): 0}  # type: ignore[arg-type]
    graph = Graph(scope, [], [], [], [], [], [], [*known], [(-1, -1)])
    for number, before in enumerate(line):
        assert before is not None
        if number > STATES_MAX:
            raise TooManyStates(scope.name)
        if judge:
            judge_state(before)
        found: list[Edge] = []
        played: list[AnyEvent] = []
        passed: list[tuple[Passed, ...]] = []
        began: list[frozenset[int]] = []
        for event in events(scope, before):
            after, step = core_step(before.fork(), event)
            if judge:
                judge_step(before, event, step, after)
            if step.reply.__class__ in (Refused, Stale):
                continue
            digest = digest_of(after, scope)
            to = known.setdefault(digest, len(line))
            if to == len(line):
                line.append(after)
                graph.digests.append(digest)
                graph.parent.append((number, len(found)))
            found.append(Edge(to, kept(before, after, event)))
            played.append(event)
            passed.append(() if event.__class__ is Restart else tuple(passes(before, after)))
            began.append(turns_begun(before, after))
        graph.edges.append(found)
        graph.played.append(played)
        graph.passed.append(passed)
        graph.began.append(began)
        graph.open.append(frozenset(a.id for a in before.agents[1:] if a.identity is Identity.OPEN))
        graph.untimed.append(frozenset() if before.deadlines.pending else frozenset(under_way(before)))
        line[number] = None  # room for those to come
    return graph


def under_way(s: Session) -> Iterator[tuple[str, int]]:
    """Yields what threads are to answer in time: (what, agent)."""
    for a in s.agents:
        if a.residency is Residency.LOADING:
            yield "load", a.id
        if a.id in s.residents.flushes:
            yield "flush", a.id
        if a.status is TurnState.STOPPING:
            yield "stop", a.id


def kept(before: Session, after: Session, event: AnyEvent) -> Kept:
    """Returns what was under way before, is under way after, and is the same. Nothing outlives a crash of the process:
    no run in which it crashes for ever is fair.
    """
    if event.__class__ is Restart:
        return frozenset()
    same: set[tuple[str, int]] = set()
    for was in before.agents:
        agent, now = was.id, after.agents[was.id]
        if was.residency is now.residency is Residency.LOADING and was.generation == now.generation:
            same.add(("load", agent))
        if agent in before.residents.flushes and before.residents.flushes[agent] == after.residents.flushes.get(agent):
            same.add(("flush", agent))
        stage = STAGE.get(was.status)
        if stage is not None and was.turn == now.turn and stage == STAGE.get(now.status):
            same.add((stage, agent))
            if is_to_go_on(before, agent) and is_to_go_on(after, agent):
                same.add(("return", agent))
        asked = oldest_trigger(before, agent)
        if asked is not None and asked == oldest_trigger(after, agent):
            same.add(("mail", agent))
    for number, wait in before.waits.pending.items():
        if number in after.waits.pending and wait.requests and not (wait.is_bounded or wait.mail or wait.targets):
            same.add(("wait", wait.agent))
    return frozenset(same)


def is_to_go_on(s: Session, agent: int) -> bool:
    """Has its turn no slot, and nothing to wait for any more?"""
    status = s.agents[agent].status
    return status is TurnState.RETURNING or (status is TurnState.WAITING and agent not in s.waits.of_agent)


def oldest_trigger(s: Session, agent: int) -> int | None:
    """The number of the oldest unread mail that asks for a turn. It is read with all others, so it is the last to be
    unread if any is unread for ever.
    """
    return next((m.mail for m in s.agents[agent].mailbox if m.kind is MailKind.TRIGGER), None)


def turns_begun(before: Session, after: Session) -> frozenset[int]:
    """Returns the agents whose turn works now and did not before."""
    return frozenset(
        now.id
        for now in after.agents
        if now.status in STARTED
        and (
            now.id >= len(before.agents)
            or before.agents[now.id].status not in STARTED
            or before.agents[now.id].turn != now.turn
        )
    )


def passes(before: Session, after: Session) -> Iterator[Passed]:
    """Yields who stayed the first in line in this step, and how many others got a slot meanwhile."""
    ready, returning = next(iter(before.slots.ready), None), next(iter(before.waits.returning), None)
    starts, goes_on = set(admitted(before, after)), set(gone_on(before, after))
    if ready is not None and ready == next(iter(after.slots.ready), None) and same_turn(before, after, ready):
        swaps: set[int] = goes_on if is_at_bound(before, after) else set()
        yield Passed("queue", ready, len(starts | (goes_on - swaps)))
    if returning is not None and returning == next(iter(after.waits.returning), None):
        yield Passed("return", returning, len(starts))


def same_turn(before: Session, after: Session, agent: int) -> bool:
    """Is it the same turn of the agent?"""
    return before.agents[agent].turn == after.agents[agent].turn


def is_at_bound(before: Session, after: Session) -> bool:
    """Is a slot lent in this step, while as many turns are in memory without a slot as may be? Then only a returning
    turn may have it, and one swaps its place with the other (J7).
    """
    most = after.config.max_resident - after.config.execution_cap
    return len(after.slots.lent) >= most and bool(set(after.slots.lent) - set(before.slots.lent))


def admitted(before: Session, after: Session) -> Iterator[int]:
    """Yields the agents a new turn of which got a slot: from the ready queue or as *next*."""
    for now in after.agents[1:]:
        has = now.status in STARTED or now.status is TurnState.STARTING
        if not has:
            continue
        was = before.agents[now.id] if now.id < len(before.agents) else None
        if was is None or was.turn != now.turn or was.status is TurnState.QUEUED:
            yield now.id


def gone_on(before: Session, after: Session) -> Iterator[int]:
    """Yields the agents whose returning turn got a slot."""
    for was in before.agents[1:]:
        now = after.agents[was.id]
        if was.status is TurnState.RETURNING and now.status is TurnState.RUNNING and was.turn == now.turn:
            yield was.id


# What runs without end show


def starving(graph: Graph) -> tuple[str, int] | None:
    """Theorem 2: returns what goes on for ever in a fair run, of `STARVES`, and the agent."""
    for what in every(graph, STARVES):
        if fair_part(keeping(graph, what)):
            return what
    return None


def every(graph: Graph, kinds: Iterable[str]) -> list[tuple[str, int]]:
    """What of these kinds is ever kept, in order."""
    return sorted({one for edges in graph.edges for edge in edges for one in edge.kept if one[0] in kinds})


def keeping(graph: Graph, what: tuple[str, int]) -> dict[int, list[Edge]]:
    """The part of the graph in which this goes on."""
    part = {n: [e for e in edges if what in e.kept] for n, edges in enumerate(graph.edges)}
    return {n: edges for n, edges in part.items() if edges}


def unanswered(graph: Graph) -> tuple[str, int] | None:
    """L5: returns what goes on for ever though no thread answers and time goes on."""
    for without in graph.untimed:
        if without:
            return min(without)
    for what in every(graph, BOUNDED):
        for part in strongly_connected(keeping(graph, what)):
            for n in part:
                for event, edge in zip(graph.played[n], graph.edges[n], strict=True):
                    if event.__class__ is ev.Tick and what in edge.kept and edge.to in part:
                        return what
    return None


def dead_end(graph: Graph) -> tuple[int, int] | None:
    """L7: returns a state and an open agent that gets to no turn any more, whatever threads answer and hosts ask."""
    into: list[list[tuple[int, frozenset[int]]]] = [[] for _ in graph.edges]
    for n, edges in enumerate(graph.edges):
        for event, edge, began in zip(graph.played[n], edges, graph.began[n], strict=True):
            if is_helpful(event):
                into[edge.to].append((n, began))
    for agent in sorted({a for agents in graph.open for a in agents}):
        line = list({n for sources in into for n, began in sources if agent in began})
        good = set(line)
        for state in line:
            new = {n for n, _ in into[state]} - good
            good |= new
            line.extend(new)
        for n, open_agents in enumerate(graph.open):
            if agent in open_agents and n not in good:
                return n, agent
    return None


def is_helpful(event: AnyEvent) -> bool:
    """Is it an answer of a thread, the code of a turn that gives up its waits, or a request of the host?"""
    kinds = (ev.Loaded, ev.Flushed, ev.Finished, ev.Aborted, ev.StopWaiting)
    asks = (ev.FollowUp, ev.Close, ev.Resume)  # a mailbox full of demoted mail is emptied by closing
    return isinstance(event, kinds) or (isinstance(event, asks) and event.sender == ev.HOST)


def most_passed(graph: Graph, line: str) -> int | None:
    """L11, L12: returns how many others are served at most while the same turn is the first in this line; None if
    there is no bound.
    """
    firsts = {p.agent for marks in graph.passed for mark in marks for p in mark if p.line == line}
    return max_or_none([longest(weighted(graph, line, agent)) for agent in sorted(firsts)])


def max_or_none(counts: Iterable[int | None]) -> int | None:
    """The largest; None if one of them is None."""
    most = 0
    for count in counts:
        if count is None:
            return None
        most = max(most, count)
    return most


def weighted(graph: Graph, line: str, agent: int) -> dict[int, list[tuple[int, int]]]:
    """The part of the graph in which the agent's turn stays the first in line: state -> (next state, others served)."""
    found: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for n, (edges, marks) in enumerate(zip(graph.edges, graph.passed, strict=True)):
        for edge, mark in zip(edges, marks, strict=True):
            found[n] += [(edge.to, p.times) for p in mark if (p.line, p.agent) == (line, agent)]
    return {n: steps for n, steps in found.items() if steps}


def longest(part: dict[int, list[tuple[int, int]]]) -> int | None:
    """The greatest sum of weights along a path; None if a cycle has one."""
    parts = list(strongly_connected({n: [Edge(to, frozenset()) for to, _ in steps] for n, steps in part.items()}))
    of = {n: i for i, members in enumerate(parts) for n in members}
    best: dict[int, int] = {}
    for i in reversed(range(len(parts))):  # steps lead from earlier parts to later ones
        best[i] = 0
        for n in parts[i]:
            for to, weight in part.get(n, ()):
                if of[to] == i and weight:
                    return None
                if of[to] != i:
                    best[i] = max(best[i], weight + best[of[to]])
    return max(best.values(), default=0)


# How it comes about


Path = list[tuple[int, int]]
"""Edges one after the other: (state, number of the edge there)."""


def story(graph: Graph, what: tuple[str, int]) -> tuple[list[AnyEvent], list[AnyEvent]]:
    """Returns the events of a fair run in which this goes on for ever: how it begins, and what repeats without end."""
    part = fair_part(keeping(graph, what))
    inside = {(n, edge) for n, edge in part}
    ways: dict[int, Path] = defaultdict(list)
    for n in sorted({n for n, _ in part}):
        ways[n] = [(n, i) for i, edge in enumerate(graph.edges[n]) if (n, edge) in inside]
    start = here = min(ways)
    circle: Path = []
    open_ends = endless(graph, [ways[n][0] for n in ways])  # what some step of the part keeps, and the circle must not
    for must_end in sorted(open_ends):
        if any(not keeps(graph, step, must_end) for step in circle):
            continue
        enders = {step for steps in ways.values() for step in steps if not keeps(graph, step, must_end)}
        if enders:
            circle += shortest(graph, ways, here, enders)
            here = end_of(graph, circle[-1])
    if here != start or not circle:
        home = {step for steps in ways.values() for step in steps if end_of(graph, step) == start}
        circle += shortest(graph, ways, here, home)
    beginning = stem(graph, start)
    found = played_again(graph, beginning + circle)
    return found[: len(beginning)], found[len(beginning) :]


def endless(graph: Graph, steps: Path) -> set[tuple[str, int]]:
    """What these steps keep and a fair run must not keep for ever."""
    kinds = (*BOUNDED, "turn")
    return {one for n, i in steps for one in graph.edges[n][i].kept if one[0] in kinds}


def keeps(graph: Graph, step: tuple[int, int], what: tuple[str, int]) -> bool:
    """Does this go on in the step, with no excuse for it?"""
    kept_here = graph.edges[step[0]][step[1]].kept
    return what in kept_here and not (what[0] == "turn" and excuses(what[1]) & kept_here)


def end_of(graph: Graph, step: tuple[int, int]) -> int:
    """The state that the step leads to."""
    return graph.edges[step[0]][step[1]].to


def shortest(graph: Graph, ways: dict[int, Path], start: int, wanted: set[tuple[int, int]]) -> Path:
    """Returns a shortest path from the state that ends with one of the wanted steps. There is one."""
    before: dict[int, tuple[int, int]] = {}
    line, seen = [start], {start}
    for state in line:
        for step in ways[state]:
            if step in wanted:
                path = [step]
                while path[-1][0] != start:
                    path.append(before[path[-1][0]])
                return path[::-1]
            to = end_of(graph, step)
            if to not in seen:
                seen.add(to)
                before[to] = step
                line.append(to)
    raise AssertionError("the part is strongly connected")


def stem(graph: Graph, state: int) -> Path:
    """Returns the path by which the state was found first."""
    path: Path = []
    while state:
        path.append(graph.parent[state])
        state = path[-1][0]
    return path[::-1]


def played_again(graph: Graph, path: Path) -> list[AnyEvent]:
    """Returns the events of a path from the beginning, with the numbers of turns, loads and mail that they have there:
    states do not tell these, so those of `Graph.played` may be another path's.
    """
    session, found = Session(graph.scope.config), list[AnyEvent]()
    for n, i in path:
        wanted = graph.played[n][i].__class__, graph.digests[end_of(graph, (n, i))]
        for event in events(graph.scope, session):
            after, step = core_step(session.fork(), event)
            is_move = step.reply.__class__ not in (Refused, Stale)
            if is_move and (event.__class__, digest_of(after, graph.scope)) == wanted:
                session = after
                found.append(event)
                break
    assert len(found) == len(path)
    return found


# The engine


def _scope(name: str, **rest: Any) -> Scope:
    """Turns that ask and are asked; what does not bear on runs without end is left out."""
    plain: dict[str, Any] = {
        "waits": ("request",),
        "host_sends": ("follow_up",),
        "host_spawns": False,
        "agents_send": False,
        "interrupts": False,
        "closes": False,
        "stale": False,
        "mails": 2,
    }
    return Scope(name=name, **{**plain, **rest})


TIMED = frozenset({"deadlines"})
SCOPES: tuple[Scope, ...] = (
    _scope(
        "seniority",
        tree=TRIO,
        config=small_config(2, 2, 2, max_overtaken=1),
        mails=1,
        host_spawns=True,
        agents_act=False,
        waits=(),
        meaning="three agents on two slots and two residency slots: which makes room for which",
    ),
    _scope(
        "due",
        tree=FAN,
        config=small_config(1, 2, 2, max_overtaken=1),
        meaning="delegation on one slot, where a turn is due after one other",
    ),
    _scope(
        "due at once",
        tree=FAN,
        config=small_config(1, 2, 2, max_overtaken=0),
        meaning="the same with a queue that is first in, first out",
    ),
    _scope(
        "deep",
        tree=LINE,
        config=small_config(1, 3, 2, max_overtaken=1),
        mails=1,
        closes=True,
        meaning="delegation three deep on one slot",
    ),
    _scope(
        "stops",
        tree=PAIR,
        config=small_config(1, 2, 2, max_overtaken=1),
        interrupts=True,
        closes=True,
        faults=TIMED,
        meaning="a pair that is interrupted and closed, and bounds run out",
    ),
    _scope(
        "threads",
        tree=PAIR,
        config=small_config(1, 1, 2, max_overtaken=1),
        host_spawns=True,
        agents_act=False,
        waits=(),
        interrupts=True,
        closes=True,
        faults=TIMED | {"load", "flush"},
        meaning="a pair on one residency slot: loads and flushes fail or take too long",
    ),
    _scope(
        "bounds",
        tree=PAIR,
        config=small_config(1, 2, 2, max_overtaken=1),
        closes=True,
        faults=TIMED,
        meaning="a pair that delegates, and bounds run out",
    ),
    _scope(
        "seniority in time",
        tree=TRIO,
        config=small_config(2, 2, 2, max_overtaken=1),
        mails=1,
        host_spawns=True,
        agents_act=False,
        waits=(),
        closes=True,
        faults=TIMED,
        meaning="seniority, with closes, and bounds run out",
    ),
    _scope(
        "attempts",
        tree=PAIR,
        config=small_config(1, 2, 2, max_attempts=2, max_overtaken=1),
        closes=True,
        faults=frozenset({"death", "restart"}),
        meaning="turns that a death or a crash ended are tried once more",
    ),
)
QUICK = ("seniority", "bounds", "threads", "stops")
ENGINE = "fairness"


def run(*, quick: bool = False, progress: Callable[[str], None] | None = None) -> tuple[Verdict, ...]:
    """Judges every scope, with `quick` those that take seconds. Says with `progress` which scope it is at."""
    verdicts: list[Verdict] = []
    for scope in SCOPES:
        if not quick or scope.name in QUICK:
            if progress is not None:
                progress(f"{ENGINE}: {scope.name}")
            verdicts += judge(scope)
    return tuple(verdicts)


def spoken_of(scope: Scope) -> tuple[str, ...]:
    """The properties that a scope is judged by: L5 needs bounds that run out, and L12 agents that ask others."""
    in_time, asking = ("L5",) if "deadlines" in scope.faults else (), ("L12",) if scope.agents_act else ()
    return ("theorem 2", *in_time, "L7", "L11", *asking)


def judge(scope: Scope) -> Iterator[Verdict]:
    """Explores one scope and yields a verdict for each obligation that it speaks of."""
    began = time.perf_counter()
    graph = explore(scope)
    explored = time.perf_counter() - began
    states, steps = graph.size
    began = time.perf_counter()
    size = f"{states:,} states, {steps:,} steps, explored in {explored:.1f} s"

    def verdict(known: str, what: str, fault: str | None) -> Verdict:
        nonlocal began
        now = time.perf_counter()
        seconds, began = now - began, now
        note = size if fault is None else f"{fault}; {size}"
        return Verdict(known, ENGINE, f"{scope.name}: {what}", fault is None, seconds, note)

    starved = starving(graph)
    yield verdict("theorem 2", "no trigger mail starves in a fair run", starved and f"agent {starved[1]}: {starved[0]}")
    if "L5" in spoken_of(scope):
        late = unanswered(graph)
        yield verdict("L5", "time ends what no thread answers", late and f"agent {late[1]}: {late[0]}")
    end = dead_end(graph)
    yield verdict("L7", "every open agent can get to a turn", end and f"agent {end[1]} in state {end[0]}")
    bound = max(1, scope.config.max_overtaken)
    passed = most_passed(graph, "queue")
    fault = None if passed is not None and passed <= bound else f"the oldest is passed {passed or 'without bound'}"
    yield verdict("L11", f"the turn that has queued longest is passed by {bound} at most", fault)
    if "L12" in spoken_of(scope):
        passed = most_passed(graph, "return")
        fault = None if passed is not None and passed <= 1 else f"it is passed {passed or 'without bound'}"
        yield verdict("L12", "a returning turn is passed by one due turn at most", fault)
