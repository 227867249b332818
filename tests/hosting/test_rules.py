"""The rules of hosts: who takes and gives how many sessions."""

from __future__ import annotations

import random

import pytest

from statemachine.hosting.rules import SLACK, is_dead, most_to_claim, share, to_give, to_unload


@pytest.mark.parametrize(
    ("wanted", "capacities", "fair"),
    [
        (0, (10, 10), 0), (1, (10, 10), 1), (20, (10, 10), 10), (20, (100, 100), 10), (21, (100, 100), 11),
        (6, (1, 10), 5), (6, (10, 1), 5), (30, (5, 5), 5), (7, (), 0), (9, (1, 2, 100), 6), (5, (7,), 5),
    ],
)  # fmt: skip
def test_share_is_the_least_with_which_all_have_an_owner(wanted: int, capacities: tuple[int, ...], fair: int) -> None:
    assert share(wanted, capacities) == fair
    assert sum(min(fair, capacity) for capacity in capacities) >= min(wanted, sum(capacities))
    assert fair == 0 or sum(min(fair - 1, capacity) for capacity in capacities) < wanted


@pytest.mark.parametrize(
    ("silent", "connected", "dead"), [(0.0, True, False), (5.0, True, False), (5.1, True, True), (0.0, False, True)]
)
def test_worker_is_dead_if_it_is_silent_for_too_long_or_not_connected(
    silent: float, connected: bool, dead: bool
) -> None:
    assert is_dead(silent, 5.0, connected) is dead


def test_worker_claims_up_to_its_share_its_room_and_what_it_takes_at_once() -> None:
    assert most_to_claim(3, 100, 10, 50) == 7
    assert most_to_claim(3, 5, 10, 50) == 2
    assert most_to_claim(3, 100, 10, 2) == 2
    assert most_to_claim(12, 100, 10, 50) == most_to_claim(7, 5, 10, 50) == 0


def test_worker_gives_what_is_beyond_its_share_once_that_is_more_than_slack() -> None:
    assert to_give(10 + SLACK, 10) == 0
    assert to_give(11 + SLACK, 10) == 1 + SLACK
    assert to_give(112, 100) == 0
    assert to_give(113, 100) == 13


def test_full_worker_unloads_as_many_idle_sessions_as_others_wait_for() -> None:
    assert to_unload(3, 1, 10) == 2
    assert to_unload(3, 0, 2) == 2
    assert to_unload(1, 2, 10) == 0


@pytest.mark.parametrize("seed", range(50))
def test_sessions_move_until_shares_are_fair_and_then_rest(seed: int) -> None:
    """Workers poll in any order, with any sessions at first: after some rounds nothing moves any more."""
    rnd = random.Random(seed)
    capacities = [rnd.randint(1, 40) for _ in range(rnd.randint(1, 6))]
    held = [rnd.randint(0, capacity) for capacity in capacities]
    free, moved = rnd.randint(0, 60), 0
    wanted = free + sum(held)
    for _ in range(40):
        moved = 0
        for worker in rnd.sample(range(len(held)), len(held)):
            fair = share(wanted, capacities)
            claimed = min(free, most_to_claim(held[worker], capacities[worker], fair, 50))
            given = to_give(held[worker] + claimed, fair)
            held[worker] += claimed - given
            free += given - claimed
            moved += claimed + given
    assert moved == 0
    assert free == max(0, wanted - sum(capacities))
