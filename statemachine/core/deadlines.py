"""Bounds on what may take time (L5): a heap of deadlines, served by Tick.

Nothing here reads a clock. A deadline is identified by what it bounds and for which agent or wait; setting it again
moves it. Deadlines that are due are served by time, and those due at the same time in the order in which they were set.
"""

from __future__ import annotations

import heapq
from enum import IntEnum


class Bound(IntEnum):
    """What a deadline bounds."""

    LOAD = 0
    FLUSH = 1
    STOP = 2
    WAIT = 3
    IDLE = 4
    GRACE = 5
    TURN = 6


Key = tuple[Bound, int]


class Deadlines:
    """What is due when."""

    __slots__ = ("heap", "pending", "tickets")

    def __init__(self) -> None:
        self.pending: dict[Key, tuple[float, int]] = {}
        """(bound, agent; or WAIT and the number of the wait) -> (when, ticket). What the heap has besides is void."""
        self.heap: list[tuple[float, int, Key]] = []
        self.tickets = 0

    def copy(self) -> Deadlines:
        """An independent copy."""
        other = Deadlines.__new__(Deadlines)
        other.pending = self.pending.copy()
        other.heap = self.heap[:]
        other.tickets = self.tickets
        return other

    def set(self, bound: Bound, agent: int, at: float) -> None:
        """The deadline is at `at`."""
        self.tickets += 1
        self.pending[bound, agent] = (at, self.tickets)
        heapq.heappush(self.heap, (at, self.tickets, (bound, agent)))
        if len(self.heap) > 64 + 2 * len(self.pending):
            self.heap = [(when, ticket, key) for key, (when, ticket) in self.pending.items()]
            heapq.heapify(self.heap)

    def clear(self, bound: Bound, agent: int) -> None:
        """What it bounds is over, if it ever began."""
        self.pending.pop((bound, agent), None)

    def pop_due(self, now: float, last: int) -> Key | None:
        """Takes the first deadline that is not later than `now`, of those up to ticket `last`.

        Later tickets sort behind: what is set while others are served is due after them at the earliest.
        """
        while self.heap and self.heap[0][0] <= now and self.heap[0][1] <= last:
            _, ticket, key = heapq.heappop(self.heap)
            if self.pending.get(key, (0.0, 0))[1] == ticket:
                del self.pending[key]
                return key
        return None

    def next(self) -> float | None:
        """When the next deadline is due, if there is any."""
        while self.heap:
            when, ticket, key = self.heap[0]
            if self.pending.get(key, (0.0, 0))[1] == ticket:
                return when
            heapq.heappop(self.heap)
        return None
