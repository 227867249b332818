"""Explores the reference alone, for what only the graph of all states can show: theorems 2, 3 and 4.

Properties of states and steps are judged elsewhere, on the core and the reference in lockstep. Here the question is
what happens for ever: a run is fair if each load, flush, turn and stop that is under way ends at some time, and the
host does what it likes (theorem 2). An agent starves if there is a fair run in which it queues, is to go on, or waits
for a request without end. Such a run is a cycle of the graph on which nothing that must end goes on (`starving`).
"""

from __future__ import annotations

import marshal
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, NamedTuple

from ..reference import HOST, ROOT, WORKING, Caps, Letter, Wait, Words, World, step

Kept = frozenset[tuple[str, int]]
"""What goes on unanswered over a step: (load, flush, turn, stop, queue, return or wait; agent)."""

NEVER_DUE = 256
"""A `max_overtaken` that no path of a scope reaches: how often the oldest was passed is then no part of the state."""

STAGE = {
    **{"queued": "queue", "starting": "queue", "stopping": "stop"},
    **{"running": "turn", "waiting": "turn", "returning": "turn"},
}


class Scope(NamedTuple):
    """A small world in which turns ask their children and await them."""

    caps: Caps
    tree: tuple[tuple[str, str], ...]
    """(path of the parent, name) of the agents that the host and the parents may spawn."""
    follows: bool = True
    """Does the host ask the agents for further turns?"""
    awaits: bool = True
    """Do turns spawn and ask their children, and await their own requests?"""
    faults: bool = False
    """Do threads die, and is the process lost?"""


class Edge(NamedTuple):
    """A step in the graph of states."""

    to: int
    kept: Kept


class Graph(NamedTuple):
    """All states of a scope; `edges[n]` are the steps from state n."""

    edges: list[list[Edge]]
    most_waiting: int
    """Turns that wait at the same time (theorem 4)."""
    earliest_stall: int | None
    """Fewest turns that waited when a wait ended with STALLED (theorem 3)."""


def caps(slots: int, resident: int, max_overtaken: int = 1, max_attempts: int = 1) -> Caps:
    """A configuration of a scope: QUEUE, notices that wake no agent, and bounds that no scope reaches."""
    limits = {"max_queued": 99, "max_depth": 9, "max_agents": 9, "max_unread": 9, "max_bytes": 9, "max_wait": 9}
    return Caps(
        slots=slots,
        resident=resident,
        live=False,
        queueing=True,
        notice="queue",
        notify_interrupted=False,
        max_overtaken=max_overtaken,
        max_attempts=max_attempts,
        seconds={},
        **limits,
    )


PAIR = (("/root", "a"), ("/root/a", "b"))
CHAIN = (*PAIR, ("/root/a/b", "c"))
FAN = (*PAIR, ("/root/a", "c"))
THREE = (("/root", "a"), ("/root", "b"), ("/root", "c"))

SCOPES: dict[str, Scope] = {
    "nested": Scope(caps(1, 3), CHAIN, follows=False),
    "bound": Scope(caps(1, 2), CHAIN, follows=False),
    "no lending": Scope(caps(1, 1), FAN),
    "due at once": Scope(caps(1, 2, max_overtaken=0), FAN),
    "due": Scope(caps(1, 2), FAN),
    "due late": Scope(caps(1, 2, max_overtaken=2), FAN),
    "seniority": Scope(caps(2, 2), THREE, awaits=False),
    "attempts": Scope(caps(1, 2, max_attempts=2), PAIR, faults=True),
    "nested on two": Scope(caps(2, 4), CHAIN),
}


def events(scope: Scope, w: World) -> Iterator[Words]:
    """Yields all that may happen next."""
    known = {path: agent for agent, path in w.path.items()}
    asking = {letter.sender for letter in w.mail.values() if letter.kind == "request"}
    for parent, name in scope.tree:
        if parent in known and f"{parent}/{name}" not in known:
            yield World.spawn, known[parent], name, "m", HOST
            if scope.awaits and w.phase[known[parent]] in WORKING and known[parent] not in asking:
                yield World.spawn, known[parent], name, "m", known[parent]
    for agent in w.path:
        if scope.follows and agent != ROOT and not w.unread(agent):
            yield World.send, HOST, agent, "m", True
        yield from turn_events(scope, w, agent)
        yield from thread_events(scope, w, agent)
    if scope.faults:
        yield (World.restart,)


def turn_events(scope: Scope, w: World, agent: int) -> Iterator[Words]:
    """Yields what the code of a turn may do: it awaits its requests one by one, and ends when it waits for none."""
    if w.phase[agent] in WORKING and scope.awaits and not [x for x in w.waits.values() if x.agent == agent]:
        for letter in w.mail.values():
            if letter.sender == agent and letter.kind == "request":
                yield World.wait, w.turn[agent], None, Wait(agent, (), (letter.number,), False, False)
    if w.phase[agent] in ("running", "stopping") and not w.pending(agent):
        yield World.ended, agent, w.turn[agent], "completed"


def thread_events(scope: Scope, w: World, agent: int) -> Iterator[Words]:
    """Yields what a thread may report."""
    if w.place[agent] == "loading":
        yield World.loaded, agent, w.load[agent], True
    if agent in w.flush:
        yield World.flushed, agent, w.load[agent], w.flush[agent], True
    if scope.faults and agent != ROOT and w.place[agent] != "out":
        yield World.died, agent, w.load[agent]


# The graph


def fingerprint(w: World) -> bytes:
    """Returns what matters of a world: mail, turns, loads and stamps by their order alone, not by their numbers."""
    told = [m for m in w.mail.values() if w.caps.max_attempts > 1 or not m.read or m.kind == "request"]
    rank = {number: i for i, number in enumerate(sorted({n for m in told for n in (m.number, *m.answers)}))}

    def letter(m: Letter) -> tuple[Any, ...]:
        about = m.about or ""
        return rank[m.number], m.sender, m.to, m.kind, about, tuple(rank[n] for n in m.answers), m.read

    def wait(x: Wait) -> tuple[Any, ...]:
        return x.agent, tuple(rank.get(n, -1) for n in x.requests), x.over or ""

    passed = w.passed[w.queue()[0]] if w.queue() else 0
    value = (
        [(a, path, w.phase[a], w.place[a], a in w.lent, w.attempts[a], w.loads[a]) for a, path in w.path.items()],
        [letter(m) for m in told],
        [wait(x) for x in w.waits.values()],
        [(a, w.serves[a][0] if a in w.serves and w.needs_load(*w.serves[a]) else -1) for a in w.flush],
        [w.in_order(phase) for phase in ("queued", "starting", "returning")],
        w.lenders(),
        w.evictable(),
        min(passed, w.caps.max_overtaken) if w.caps.max_overtaken < NEVER_DUE else 0,
    )
    return blake2b(marshal.dumps(value, 2), digest_size=16).digest()


def explore(scope: Scope, world: type[World] = World) -> Graph:
    """Visits every state of the scope, breadth first."""
    line = [world(scope.caps)]
    known = {fingerprint(line[0]): 0}
    edges: list[list[Edge]] = []
    most_waiting = 0
    stalls: list[int] = []
    for before in line:
        most_waiting = max(most_waiting, len({wait.agent for wait in before.pending().values()}))
        found: list[Edge] = []
        for event in events(scope, before):
            after, _, effects = step(before, event)
            if after is before:
                continue
            stalled = {effect[1] for effect in effects if effect[0] == "wake" and effect[-1] == "stalled"}
            if stalled:
                stalls.append(len(stalled | {wait.agent for wait in after.pending().values()}))
            number = known.setdefault(fingerprint(after), len(line))
            if number == len(line):
                line.append(after)
            found.append(Edge(number, kept(before, after, event)))
        edges.append(found)
    return Graph(edges, most_waiting, min(stalls, default=None))


def kept(before: World, after: World, event: Words) -> Kept:
    """Returns what is under way and was not answered in this step. Nothing outlives a crash of the process: no run in
    which it crashes for ever is fair.
    """
    same: set[tuple[str, int]] = set()
    for agent in before.path if event[0] is not World.restart else ():
        if before.place[agent] == after.place[agent] == "loading" and before.load[agent] == after.load[agent]:
            same.add(("load", agent))
        if agent in before.flush and before.flush[agent] == after.flush.get(agent):
            same.add(("flush", agent))
        stage = STAGE.get(before.phase[agent])
        if before.turn[agent] == after.turn[agent] and stage is not None:
            if stage == STAGE.get(after.phase[agent]):
                same.add((stage, agent))
            if before.phase[agent] == after.phase[agent] == "returning":
                same.add(("return", agent))
    same |= {("wait", wait.agent) for n, wait in before.pending().items() if n in after.pending()}
    return frozenset(same)


# Theorem 2


def starving(graph: Graph) -> tuple[str, int] | None:
    """Returns how an agent goes without its turn for ever in a fair run (queue, return or wait), and the agent.

    Each turn ends at some time, unless it waits for a request or for a slot to go on with, and never runs again.
    """
    for stage, agent in sorted({one for edges in graph.edges for edge in edges for one in edge.kept}):
        if stage in ("queue", "return", "wait"):
            part = {n: [e for e in edges if (stage, agent) in e.kept] for n, edges in enumerate(graph.edges)}
            if has_fair_cycle({n: edges for n, edges in part.items() if edges}):
                return stage, agent
    return None


def has_fair_cycle(graph: dict[int, list[Edge]]) -> bool:
    """Tells whether the graph has a cycle on which nothing that must end goes on for ever."""
    return bool(fair_part(graph))


def fair_part(graph: dict[int, list[Edge]]) -> list[tuple[int, Edge]]:
    """Returns the edges, each with the state that it starts from, of a strongly connected part through which a run can
    be fair; none if no part is like that.
    """
    for part in strongly_connected(graph):
        edges = [(n, edge) for n in part for edge in graph.get(n, ()) if edge.to in part]
        if not edges:
            continue
        endless = edges[0][1].kept.intersection(*[edge.kept for _, edge in edges])
        if any(what in ("load", "flush", "stop") for what, _ in endless):
            continue
        turns = [a for what, a in endless if what == "turn" and not all(excuses(a) & edge.kept for _, edge in edges)]
        if not turns:
            return edges
        inside: dict[int, list[Edge]] = {}  # where the first of these turns need not end
        for n, edge in edges:
            if excuses(turns[0]) & edge.kept:
                inside.setdefault(n, []).append(edge)
        found = fair_part(inside)
        if found:
            return found
    return []


def excuses(agent: int) -> Kept:
    """For what a turn need not end: it waits, or has no slot to go on with."""
    return frozenset({("wait", agent), ("return", agent)})


def strongly_connected(graph: dict[int, list[Edge]]) -> Iterator[set[int]]:
    """Yields the strongly connected parts: Kosaraju's two walks, the second against the edges."""
    order: list[int] = []
    seen: set[int] = set()
    for root, first in graph.items():
        stack = [(root, iter(first))] if root not in seen else []
        seen.add(root)
        while stack:
            number, edges = stack[-1]
            edge = next(edges, None)
            if edge is None:
                order.append(number)
                stack.pop()
            elif edge.to not in seen:
                seen.add(edge.to)
                stack.append((edge.to, iter(graph.get(edge.to, ()))))
    against: dict[int, list[int]] = {}
    for number, all_edges in graph.items():
        for edge in all_edges:
            against.setdefault(edge.to, []).append(number)
    while order:
        root = order.pop()
        if root not in seen:
            continue
        part, line = {root}, [root]
        seen.discard(root)
        for number in line:
            new = [n for n in against.get(number, ()) if n in seen]
            seen.difference_update(new)
            part.update(new)
            line.extend(new)
        yield part
