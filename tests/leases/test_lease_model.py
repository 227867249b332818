"""The lease protocol explored: H1 to H8 hold in every scope, counts are golden, and no clock of a worker matters."""

from __future__ import annotations

from collections import Counter

import pytest
from attrs import evolve

from model.coverage import counting
from model.leases.explore import Rounds, TooManyStates, explore, has_polled, parts
from model.leases.scopes import GOLDEN, SCOPES, find
from model.leases.world import (
    Event,
    Hold,
    Phase,
    Protocol,
    Scope,
    World,
    canonical,
    canonical_session,
    start,
    with_hold,
    with_session,
)
from statemachine.hosting.machines import MACHINES, LeaseState, WorkerState

NAMES = [pytest.param(scope.name, marks=pytest.mark.nightly) if scope.long else scope.name for scope in SCOPES]


@pytest.mark.parametrize("name", NAMES)
def test_every_property_holds_in_all_that_can_be_reached_and_counts_are_golden(name: str) -> None:
    found = explore(find(name))
    assert [fault.property.id for fault in found.faults] == []
    assert (found.states, found.steps) == GOLDEN[name]


def test_scopes_and_golden_counts_are_of_each_other() -> None:
    assert [scope.name for scope in SCOPES] == list(GOLDEN)


def test_every_move_of_both_tables_is_made_and_every_event_is_played() -> None:
    events: Counter[str] = Counter()
    with counting() as moves:
        for name in ("crash", "drain"):
            events += explore(find(name)).events
        made = {(machine, trigger, state) for machine, trigger, state in moves}
    wanted = {(m.name, row.trigger, source) for m in MACHINES for row in m.rows for source in row.sources}
    assert {move for move in made if move[0] in ("Lease", "Worker")} == wanted
    by_workers = {"poll", "balance", "open", "append", "commit", "unload"}
    assert set(events) == {"tick", "ask", *by_workers, "crash", "start", "drain"}


CLOCKS = Scope("own clocks", (1, 1), 1, "", faults=frozenset({"late"}), rates=(0, 1), ahead=(3, 0))


def test_clocks_of_workers_at_any_speed_change_nothing_that_can_be_reached() -> None:
    """Their clocks are in the state here: one stands, one goes, one is ahead. Without them, all is as if there were
    none.
    """
    plain, clocked = explore(find("late")), explore(CLOCKS)
    assert clocked.faults == ()
    assert clocked.states > plain.states

    def without(world: World) -> World:
        workers = tuple(worker._replace(own=0) for worker in world.workers)
        return canonical(World(workers, world.sessions), plain.scope)

    assert {without(world) for world in clocked.graph.worlds} == set(plain.graph.worlds)


# Single steps


def played(protocol: Protocol, *events: Event) -> World:
    """The world after these events, each of which may happen and leads to one world."""
    world = start(protocol.scope)
    for event in events:
        assert event in protocol.events(world)
        (world,) = protocol.successors(world, event)
    return world


CLAIMED = (Event("ask", -1, 0), Event("poll", 0), Event("balance", 0), Event("open", 0, 0))


def test_session_that_is_asked_for_is_claimed_with_its_epoch_raised_and_opened() -> None:
    world = played(Protocol(find("late")), *CLAIMED)
    (session,) = world.sessions
    assert session.lease is LeaseState.OWNED
    assert (session.owner, session.epoch) == (0, 1)
    assert session.holds == (Hold(Phase.OPEN, 1, 0, 1), None)
    assert world.workers[0].state is WorkerState.SERVING


def test_append_that_is_under_way_keeps_a_burial_out_until_it_is_committed() -> None:
    protocol = Protocol(find("late"))
    world = played(protocol, *CLAIMED, Event("append", 0, 0), Event("tick"), Event("tick"), Event("poll", 1))
    assert world.sessions[0].owner == 0
    assert world.workers[0].state is WorkerState.SERVING
    for event in (Event("commit", 0, 0), Event("balance", 1), Event("poll", 1)):
        (world,) = protocol.successors(world, event)
    assert world.sessions[0].owner == -1
    assert world.sessions[0].log == 1
    assert world.workers[0].state is WorkerState.ABSENT


def test_worker_that_was_buried_is_refused_its_append_and_then_knows() -> None:
    protocol = Protocol(find("late"))
    world = played(protocol, *CLAIMED, Event("tick"), Event("tick"), Event("poll", 1))
    assert world.sessions[0].holds[0] is not None
    (world,) = protocol.successors(world, Event("append", 0, 0))
    assert world.sessions[0].flights == (None, None)
    assert world.sessions[0].holds[0] is None


def test_worlds_that_differ_by_names_and_numbers_alone_are_the_same() -> None:
    scope = find("full")
    protocol = Protocol(scope)
    first = played(protocol, Event("ask", -1, 0), Event("poll", 0))
    second = played(protocol, Event("ask", -1, 1), Event("poll", 1))
    again = played(protocol, Event("ask", -1, 1), Event("ask", -1, 1), Event("poll", 1))
    other = played(protocol, Event("ask", -1, 1))
    assert canonical(first, scope) == canonical(second, scope) == canonical(again, scope) != canonical(other, scope)
    roomy = evolve(scope, capacities=(1, 2))
    assert canonical(first, roomy) != canonical(second, roomy)


def test_owner_that_lacks_an_append_is_told_apart_from_one_that_knows_all() -> None:
    (session,) = played(Protocol(find("late")), *CLAIMED).sessions
    lacking = with_hold(session._replace(log=1), 0, session.holds[0])
    assert canonical_session(lacking) != canonical_session(session)


# The explorer


def test_states_without_end_are_an_error_that_names_the_scope(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.leases.explore.STATES_MAX", 100)
    with pytest.raises(TooManyStates, match="scope 'late' has more than 100 states") as caught:
        explore(find("late"))
    assert caught.value.scope == "late"


def test_parts_are_the_strongly_connected_ones() -> None:
    found = parts([[1], [2], [0, 3], [4], [], [4, 5]])
    assert found[0] == found[1] == found[2]
    assert len({found[0], found[3], found[4], found[5]}) == 4


def test_session_that_is_put_in_a_world_leaves_the_others_alone() -> None:
    world = start(find("full"))
    after = with_session(world, 1, world.sessions[1]._replace(work=1))
    assert after.sessions[0] == world.sessions[0]
    assert after.sessions[1].work == 1


@pytest.mark.parametrize("name", ["crash", "restart", "full", "three"])
def test_round_goes_on_from_every_state_and_ends_with_every_live_worker_having_polled(name: str) -> None:
    graph = explore(find(name)).graph
    rounds = Rounds(graph)
    for number in range(len(graph.worlds)):
        after = rounds.after(number)
        assert after
        for to in after:
            assert all(not w.is_live or (has_polled(w) and w.fair < 0) for w in graph.worlds[to].workers)
