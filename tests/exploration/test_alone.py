"""The reference explored alone: theorems 2, 3 and 4, golden counts, and rules without which agents starve.

The counts are golden: a change of a rule or of a scope changes them, and has to say why.
"""

from __future__ import annotations

from typing import Any

import pytest

from model.exploration.alone import NEVER_DUE, SCOPES, Edge, Graph, Scope, caps, explore, has_fair_cycle, starving
from model.reference import HOST, Wait, Words, World, having, step

GOLDEN = {
    "nested": (74, 86),
    "bound": (84, 96),
    "no lending": (1_579, 2_846),
    "due at once": (1_719, 2_936),
    "due": (2_577, 4_568),
    "due late": (3_339, 5_930),
    "seniority": (4_909, 13_236),
    "attempts": (8_890, 29_389),
    "nested on two": (6_024, 16_823),
}
"""Scope -> states, steps."""
LARGE = ("due late", "attempts", "nested on two")
NAMES = [pytest.param(name, marks=pytest.mark.nightly) if name in LARGE else name for name in GOLDEN]


class TakesBack(World):
    """J6 as it was in the first edition: an agent that gets a slot is kept, whichever turn it makes room for."""

    def advance(self) -> bool:
        for agent in having(self.phase, "starting"):
            if self.place[agent] == "leaving":
                self.place[agent] = "in"
                del self.flush[agent]
                self.serves.pop(agent, None)
        return super().advance()


class DueFirst(World):
    """A turn that is due comes before returning turns even if none has passed it."""

    def serve(self) -> bool:
        due = self.oldest_due() if self.state == "open" else []
        for agent in due if len(self.held()) < self.caps.slots else ():
            self.enter(agent, "starting")
        return (due != [] and self.phase[due[0]] == "starting") or super().serve()


def size(graph: Graph) -> tuple[int, int]:
    return len(graph.edges), sum(len(edges) for edges in graph.edges)


@pytest.mark.parametrize("name", NAMES)
def test_no_agent_starves_in_a_fair_run_and_no_wait_stalls_before_memory_is_full(name: str) -> None:
    graph = explore(SCOPES[name])
    assert size(graph) == GOLDEN[name]
    assert starving(graph) is None, "theorem 2"
    assert graph.earliest_stall is None or graph.earliest_stall >= SCOPES[name].caps.resident, "theorem 3"


def test_golden_counts_cover_every_scope() -> None:
    assert list(GOLDEN) == list(SCOPES)


def test_scopes_reach_stalls_and_waits() -> None:
    bound, nested = explore(SCOPES["bound"]), explore(SCOPES["nested"])
    assert (bound.earliest_stall, bound.most_waiting) == (2, 1)
    assert (nested.earliest_stall, nested.most_waiting) == (None, 2)


# Rules without which agents starve


def test_turn_that_waits_for_room_starves_if_each_eviction_for_it_is_taken_back() -> None:
    """J6 of the first edition."""
    starved = starving(explore(SCOPES["seniority"], TakesBack))
    assert starved is not None
    assert starved[0] == "queue"


def test_shallow_turn_starves_if_no_turn_is_ever_due() -> None:
    starved = starving(explore(SCOPES["due"]._replace(caps=caps(1, 2, max_overtaken=NEVER_DUE))))
    assert starved is not None
    assert starved[0] == "queue"


def test_returning_turn_starves_if_the_queue_is_due_at_once_and_comes_first() -> None:
    """D20: with max_overtaken 0, a turn is due before returning ones only once one has passed it."""
    starved = starving(explore(SCOPES["due at once"], DueFirst))
    assert starved is not None
    assert starved[0] == "return"


# Fairness itself


@pytest.mark.parametrize(
    ("kept", "is_fair"),
    [
        ([{("queue", 1)}, {("queue", 1)}], True),
        ([{("queue", 1), ("load", 2)}, {("queue", 1), ("load", 2)}], False),
        ([{("queue", 1), ("load", 2)}, {("queue", 1)}], True),
        ([{("turn", 2)}, {("turn", 2)}], False),
        ([{("turn", 2), ("wait", 2)}, {("turn", 2), ("wait", 2)}], True),
        ([{("turn", 2), ("wait", 2)}, {("turn", 2)}], False),
        ([{("turn", 2), ("return", 2)}, {("turn", 2), ("wait", 2)}], True),
    ],
)
def test_cycle_is_fair_unless_something_that_must_end_goes_on_all_along(
    kept: list[set[tuple[str, int]]], is_fair: bool
) -> None:
    there, back = (frozenset(same) for same in kept)
    assert has_fair_cycle({0: [Edge(1, there)], 1: [Edge(0, back), Edge(2, back)]}) == is_fair


# Theorem 4


@pytest.mark.parametrize("name", ["nested", "bound", pytest.param("nested on two", marks=pytest.mark.nightly)])
def test_at_most_slots_times_depth_turns_wait_where_turns_await_only_their_descendants(name: str) -> None:
    scope: Scope = SCOPES[name]
    scope = scope._replace(caps=scope.caps._replace(max_overtaken=NEVER_DUE))
    depth = max(parent.count("/") for parent, _ in scope.tree)
    assert 0 < explore(scope).most_waiting <= scope.caps.slots * depth


class Played:
    """A world to which events are given one by one. A turn that is asked for by another is awaited by it."""

    def __init__(self, slots: int, resident: int) -> None:
        self.world = World(caps(slots, resident, max_overtaken=NEVER_DUE))

    def play(self, *event: Any) -> Words:
        self.world, reply, _ = step(self.world, event)
        assert reply[0] not in ("refused", "stale"), reply
        return reply

    def ask(self, parent: int, name: str, sender: int) -> int:
        """Spawns an agent, which begins its turn. Returns its id."""
        _, agent, request = self.play(World.spawn, parent, name, "work", sender)
        if sender != HOST:
            self.play(World.wait, 1, None, Wait(parent, (), (request,), False, False))
        if self.world.place[agent] == "loading":
            self.play(World.loaded, agent, 1, True)
        return int(agent)


def test_interrupt_of_a_turn_that_waits_lets_more_turns_wait_than_slots_times_depth() -> None:
    """Why theorem 4 asks that no turn is being stopped."""
    p = Played(slots=1, resident=9)
    a = p.ask(0, "a", HOST)
    b = p.ask(a, "b", a)
    c = p.ask(b, "c", b)
    d = p.ask(c, "d", c)
    e = p.ask(0, "e", HOST)
    p.play(World.interrupt, HOST, c, False)
    p.play(World.ended, d, 1, "completed")
    p.play(World.loaded, e, 1, True)
    f = p.ask(e, "f", e)
    g = p.ask(f, "g", f)
    p.ask(g, "h", g)
    assert [wait.agent for wait in p.world.pending().values()] == [a, b, e, f, g]
