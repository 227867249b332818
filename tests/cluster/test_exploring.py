"""Exploration by partitions, in one process: the numbers, the first fault and the way to it are those of `explorer`."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import pytest

from model.cluster.errors import ClusterFailed, Lost
from model.cluster.exploring import RESTARTS, Partition, explore, owner
from model.exploration import explorer
from model.exploration.explorer import Expander, Exploration, Origin
from model.exploration.golden_counts import GOLDEN, Counts
from model.exploration.scopes import Scope, find
from statemachine.core import rules


class Here:
    """Partitions in this process. What they give each other is pickled, as on a cluster. `calls` counts those made."""

    def __init__(self, count: int, scope: Scope, dies_at: int | None = None) -> None:
        self.count = count
        self.partitions = [Partition(scope, number, count) for number in range(count)]
        self.calls, self.dies_at = 0, dies_at
        self.results: list[bytes] = []

    def call(self, actor: int, method: str, *arguments: Any) -> int:
        self.calls += 1
        given = [pickle.loads(self.results[one]) if isinstance(one, Reference) else one for one in arguments]
        self.results.append(pickle.dumps(getattr(self.partitions[actor], method)(*given)))
        return Reference(len(self.results) - 1)

    def call_for_each(self, actor: int, method: str, *arguments: Any) -> list[Any]:
        values = pickle.loads(self.results[self.call(actor, method, *arguments)])
        self.results += [pickle.dumps(value) for value in values]
        return [Reference(len(self.results) - len(values) + n) for n in range(len(values))]

    def get(self, references: Sequence[Any]) -> list[Any]:
        if self.dies_at is not None and self.calls >= self.dies_at:
            raise Lost("a machine is gone")
        return [pickle.loads(self.results[one]) for one in references]

    def first(self, references: Sequence[Any]) -> Any:
        return references[-1]  # the order in which partitions answer is any


class Reference(int):
    """Names a result."""


def on(count: int) -> Callable[[type[Partition], Scope], Here]:
    return lambda _, scope: Here(count, scope)


def facts(found: Exploration) -> dict[str, Any]:
    """All that an exploration found but how long it took."""
    return attrs.asdict(attrs.evolve(found, seconds=0.0), recurse=False)


@pytest.mark.parametrize("partitions", [1, 2, 3, 7])
@pytest.mark.parametrize("name", ["reject", "recall", "tasks"])
def test_partitions_find_what_one_process_finds(name: str, partitions: int) -> None:
    found = explore(find(name), on(partitions))
    assert facts(found) == facts(explorer.explore(find(name)))
    assert Counts(found.states, found.offered, found.transitions, found.depth) == GOLDEN[name]


@pytest.mark.nightly
@pytest.mark.parametrize("name", GOLDEN)
def test_partitions_find_what_one_process_finds_in_every_scope(name: str) -> None:
    assert facts(explore(find(name), on(3))) == facts(explorer.explore(find(name)))


def test_partitions_stop_where_one_process_stops() -> None:
    limited = explore(find("pair"), on(2), max_states=100)
    assert facts(limited) == facts(explorer.explore(find("pair"), max_states=100))
    assert not limited.closed


def test_states_are_spread_evenly() -> None:
    here = Here(3, find("reject"))
    explore(find("reject"), lambda *_: here)
    shares = [len(partition.known) for partition in here.partitions]
    assert sum(shares) == GOLDEN["reject"].states
    assert min(shares) > 0.8 * sum(shares) / 3


def test_owner_is_named_by_the_digest_alone() -> None:
    assert [owner(bytes([0, 0, 0, 0, 0, 0, 1, n, *range(8)]), 5) for n in range(6)] == [1, 2, 3, 4, 0, 1]


@pytest.mark.parametrize("rule", ["goes_on", "mailbox_has_room", "is_evictable", "is_current"])
def test_fault_and_the_way_to_it_are_those_of_one_process(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, rule, lambda *_: False)
    alone, spread = explorer.explore(find("pair")), explore(find("pair"), on(3))
    assert alone.fault is not None
    assert (spread.fault, spread.path, spread.closed) == (alone.fault, alone.path, False)


def test_state_that_never_comes_to_rest_is_the_first_that_one_process_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """L7, with states, in several partitions, of which each answer leads back to themselves."""
    arrive, in_order = Expander.arrive, list[bytes]()

    def astray(self: Expander, index: int, origin: Origin, arrivals: list[Any], found: Any) -> bytes | None:
        home, here = arrive(self, index, origin, arrivals, found), self.digest(origin.session.fingerprint())
        in_order.append(here)
        return here if here in stray else home

    stray: set[bytes] = set()
    monkeypatch.setattr(Expander, "arrive", astray)
    assert explorer.explore(find("reject")).closed
    stray.update(in_order[200:220])
    alone, spread = explorer.explore(find("reject")), explore(find("reject"), on(3))
    assert alone.fault == explorer.NEVER_HOME
    assert facts(spread) == facts(alone)


# Losses


def test_loss_begins_the_scope_again_and_costs_nothing_of_the_verdict() -> None:
    told: list[Lost] = []
    deaths = iter([30, 60, None])
    found = explore(find("recall"), lambda _, scope: Here(2, scope, next(deaths)), on_loss=told.append)
    assert facts(found) == facts(explorer.explore(find("recall")))
    assert list(map(str, told)) == ["a machine is gone"] * 2


def test_losses_without_end_are_an_error_and_not_a_verdict() -> None:
    told: list[Lost] = []
    with pytest.raises(ClusterFailed, match="scope recall has no verdict: it lost a process of the cluster 4 times"):
        explore(find("recall"), lambda _, scope: Here(2, scope, 30), on_loss=told.append)
    assert len(told) == RESTARTS
