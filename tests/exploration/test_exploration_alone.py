"""The second edition, explored in the reference alone: golden counts, theorems 2 to 4, and rules broken on purpose."""

from __future__ import annotations

import inspect
import textwrap

import pytest

from model import exploration_alone as alone
from model import reference
from model.exploration_alone import SCOPES, Watched, caps, explore, starving
from model.reference import HOST, World, step

BY_NAME = {scope.name: scope for scope in SCOPES}

GOLDEN = {
    "nested": (74, 86),
    "nested on two": (4503, 14231),
    "at the bound": (84, 96),
    "no lending": (1431, 2562),
    "circles": (355, 774),
    "attempts": (6655, 21818),
    "attempts of three": (60, 235),
    "overtaking 0": (2253, 3874),
    "overtaking 1": (2343, 4138),
    "overtaking 2": (2975, 5274),
    "seniority": (4909, 13236),
    "flushes fail": (443, 1672),
    "draining": (677, 1913),
    "draining by mail": (361, 913),
    "subtrees": (814, 2890),
    "subtrees by turns": (40, 66),
    "two waits": (238, 419),
    "polls": (306, 637),
    "sleep": (441, 1205),
    "withdraw": (137, 423),
    "forget": (880, 3036),
    "turn timeout": (193, 492),
    "refusals": (42, 71),
    "live threads": (7198, 47172),
}
"""Scope -> states, transitions. A change here is a change of the rules."""

STARVES = {"overtaking 0": ("return", 1)}
"""Theorem 2 does not hold with max_overtaken 0: who is to go on is passed by the queue for ever."""


@pytest.mark.parametrize("name", GOLDEN)
def test_scope_holds_all_properties_with_as_many_states_as_before(name: str) -> None:
    found = explore(BY_NAME[name], keep=True)
    assert (found.fault, found.path) == (None, ())
    assert (found.states, found.transitions) == GOLDEN[name]
    starved = starving(found)
    assert (starved and starved[:2]) == STARVES.get(name)


def test_every_end_of_a_wait_and_every_new_refusal_occurs_in_some_scope() -> None:
    found = [
        explore(BY_NAME[name])
        for name in ("at the bound", "draining by mail", "subtrees", "polls", "circles", "withdraw")
    ]
    ends = {end for each in found for end in each.ends}
    assert ends == {"answered", "stalled", "draining", "target", "mail", "interrupted", "timeout"}
    refusals = {refusal for each in found for refusal in each.refusals}
    assert {"WaitCircle", "MailRead", "NotSender"} <= refusals


# Rules that are broken on purpose


def broken(method: str, old: str, new: str) -> type[Watched]:
    """A world with one method changed."""
    source = textwrap.dedent(inspect.getsource(getattr(World, method)))
    assert source.count(old) == 1, source
    names = dict(vars(reference))
    exec("from __future__ import annotations\n" + source.replace(old, new), names)
    return type("Broken", (Watched,), {method: names[method]})


J6 = ("advance", "if self.needs_load(*other) and self.since[other[0]] < self.since[agent]:", "if False:")
"""Seniority left out: J6 as it was in the first edition."""

BREAKS = {
    "lending beyond the bound": ("serve", "returns or self.to_lend() > 0", "True", "at the bound", "L1"),
    "next before those who return": ("end", "called or self.oldest_due()", "self.oldest_due()", "nested on two", "L12"),
    "nobody is ever due": ("oldest_due", ">= most", ">= 99", "overtaking 1", "L11"),
    "nobody stalls": ("break_stall", "if stuck and", "if False and", "no lending", "L8'"),
    "circles are not seen": ("dead_waits", "return dead", "return []", "circles", "L10"),
    "one attempt more": ("may_try_again", "+ 1 <", "<", "attempts", "S17"),
    "waits in vain": ("why_over", 'return "draining" if', 'return "draining" if False and', "draining", "L4"),
    "no call back": ("finish", 'self.enter(wait.agent, "returning")', "pass", "nested", "L7"),
    "returned mail stays read": ("conclude", "self.mark(letters, read=False)", "pass", "attempts", "L3"),
    "lent slots count": ("held", "a not in self.lent", "True", "nested", "L7"),
    "triggers in the subtree": ("interrupt", 'self.mark(among, kind="queue")', "pass", "subtrees", "S10"),
    "withdrawn, and queued": ("withdraw", "not in self.wanted()", "in ()", "withdraw", "L2"),
    "evicted while it waits": ("evictable", "*BUSY", '"starting", "running"', "polls", "L6"),
    "starting while draining": ("shutdown", 'self.enter(agent, "queued")', "pass", "draining", "S3'"),
    "loads without end": ("advance", "self.loads[agent] >=", "0 >=", "attempts", "S17"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_rule_that_is_broken_on_purpose_is_found(name: str) -> None:
    method, old, new, scope, property_id = BREAKS[name]
    found = explore(BY_NAME[scope], most=6000, world=broken(method, old, new))
    assert found.fault is not None, f"{name}: {found.states} states, nothing found"
    assert found.fault.startswith(f"{property_id}:")


# Theorems


def rounds_until_c_starts(world: World, most: int) -> int:
    """Two agents swap one slot, and each is evicted for the third, which holds the other slot and has no room.

    Each round, the idle one of the two is asked and the one that runs ends. Loads are answered at once, flushes when
    nothing else is to be done, so nothing is under way for ever.
    """
    for name in "abc":
        world = step(world, (World.spawn, 0, name, "work", HOST))[0]
    a, b, c = 1, 2, 3
    for agent in (a, b):
        world = step(world, (World.loaded, agent, 1, True))[0]
    world = step(world, (World.ended, a, 1, "completed"))[0]
    for done in range(most):
        if world.phase[c] == "running":
            return done
        running = [agent for agent in (a, b) if world.phase[agent] == "running"]
        flushing = [agent for agent, number in world.flush.items() if number is not None]
        loading = [agent for agent, place in world.place.items() if place == "loading"]
        events: list[reference.Words] = []
        if loading:
            events.append((World.loaded, loading[0], world.load[loading[0]], True))
        elif running:
            other = a + b - running[0]
            events.append((World.send, HOST, other, "work", True))
            events.append((World.ended, running[0], world.turn[running[0]], "completed"))
        else:
            events.append((World.flushed, flushing[0], world.load[flushing[0]], world.flush[flushing[0]], True))
        for event in events:
            world = step(world, event)[0]
            alone.judge_state(world)
    return most


def test_turn_with_a_slot_but_no_room_starves_for_1000_rounds_if_each_eviction_for_it_is_taken_back() -> None:
    bounds = caps(2, 2)
    assert rounds_until_c_starts(broken(*J6)(bounds), 1000) == 1000
    assert rounds_until_c_starts(Watched(bounds), 1000) < 10


def test_graph_in_which_evictions_are_taken_back_has_a_fair_run_that_starves() -> None:
    found = explore(BY_NAME["seniority"], keep=True, world=broken(*J6))
    assert found.fault is None
    starved = starving(found)
    assert starved is not None
    assert starved[0] == "queue"


def test_shallow_turn_starves_in_a_fair_run_if_nobody_is_ever_due() -> None:
    unbounded = BY_NAME["overtaking 1"]._replace(caps=caps(1, 2))
    starved = starving(explore(unbounded, keep=True))
    assert starved is not None
    assert starved[0] == "queue"


@pytest.mark.parametrize("name", ["nested", "nested on two", "at the bound"])
def test_at_most_slots_times_depth_turns_wait_where_turns_await_only_their_descendants(name: str) -> None:
    scope = BY_NAME[name]._replace(caps=BY_NAME[name].caps._replace(max_overtaken=alone.NEVER_DUE))
    depth = max(len(parent.split("/")) - 1 for parent, _ in scope.tree)
    assert 0 < explore(scope).most_waiting <= scope.caps.slots * depth


def test_interrupt_of_a_turn_that_waits_lets_more_turns_wait_than_slots_times_depth() -> None:
    """Why theorem 4 asks that no turn is being stopped."""
    world: World = Watched(caps(1, 9))

    def play(*event: object) -> reference.Words:
        nonlocal world
        world, reply, _ = step(world, event)
        alone.judge_state(world)
        return reply

    def ask(parent: int, name: str, sender: int) -> int:
        _, agent, request = play(World.spawn, parent, name, "work", sender)
        if sender != HOST:
            play(World.wait, parent, 1, None, (), (request,), False, False)
        if world.place[agent] == "loading":
            play(World.loaded, agent, 1, True)
        return int(agent)

    a = ask(0, "a", HOST)
    b = ask(a, "b", a)
    c = ask(b, "c", b)
    d = ask(c, "d", c)
    e = ask(0, "e", HOST)
    play(World.interrupt, HOST, c, False)
    play(World.ended, d, 1, "completed")
    play(World.loaded, e, 1, True)
    g = ask(ask(e, "f", e), "g", e + 1)
    ask(g, "h", g)
    assert [agent for agent in world.path if alone.pending(world, agent)] == [a, b, e, e + 1, g]
