"""Decides who is dead, who takes how many sessions, and who gives some away. Pure; `leases.py` and the model ask it.

Time is the database's alone: heartbeats are stamped and compared there, so clocks of workers may say what they like. No
rule here keeps a session safe: the epoch does, which every claim and every burial raises (`stores/postgres`). The rules
are about who should have it.
"""

from __future__ import annotations

from collections.abc import Sequence

SLACK = 2
"""Sessions that a worker may have beyond its share before it gives any away."""


def is_dead(silent: float, ttl: float, is_connected: bool) -> bool:
    """Tells whether a worker is dead: it has been silent for longer than `ttl` seconds, or its connection is gone."""
    return silent > ttl or not is_connected


def share(wanted: int, capacities: Sequence[int]) -> int:
    """Returns how many of the sessions that need an owner each worker should have, or as many as it has room for: the
    least number with which workers of these capacities have room for all, if they have.
    """
    left, shared = wanted, 0
    for number, capacity in enumerate(sorted(capacities)):
        shared = -(-left // (len(capacities) - number))
        if shared <= capacity:
            return shared
        left -= capacity
    return max(capacities, default=0)


def most_to_claim(held: int, capacity: int, fair: int, at_once: int) -> int:
    """Returns how many sessions a worker claims now: up to its share, as long as it has room."""
    return max(0, min(capacity - held, fair - held, at_once))


def to_give(held: int, fair: int) -> int:
    """Returns how many sessions a worker gives away: those beyond its share, once they are more than slack.

    A worker claims only up to its share, so what one gives is claimed by one that has fewer, and given away again only
    if the shares have changed: no two workers swap a session for ever.
    """
    return held - fair if held > fair + max(SLACK, fair // 8) else 0


def to_unload(free: int, claimed: int, idle: int) -> int:
    """Returns how many of its idle sessions a full worker unloads, so that others find room."""
    return min(idle, max(0, free - claimed))
