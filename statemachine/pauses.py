"""Tells time in which the process could not run from time that code took (semantics.md section 4, `Tick`; L5).

The problem. A process stands still: it was stopped, its container was paused, code of one agent blocks the event loop.
When it goes on, the clock says that every bound of that time is over. A load that needed half a second of its two is
errored, waits time out, and clean-up is abandoned, though none of them had its time.

What is done. Bounds are measured in *run time*. Code that waits for a bound says when the event loop is to look again;
if it looks later than that by more than `GAP_S`, it could not run, and the delay is taken out of run time. Then run
time stands still for `RESPITE_S` more, so that reports that are there already are taken first, and what they lead to
has a fresh start. A loop that is blocked again and again gets a respite only after as much run time, so every bound
ends.

A wait of an hour need not be watched as closely as one of a second: the loop looks at least when an eighth of what is
left has passed. So a pause shorter than an eighth of what was left may be charged.

What was rejected.

- To look at a fixed rate. A session that waits for an hour would wake 36,000 times.
- The processor time of the process. It does not pass either while the process waits for its agents' servers.
- A clock that stands still while the machine sleeps. It goes on while a process is stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import anyio

from statemachine.eventloops import clock

GAP_S = 0.25
"""How late the event loop may look without having been kept from it. A busy machine makes it late by less."""
HELD_S = 0.1
"""What is charged of a commit that takes longer than `GAP_S`. A decision waits for up to two of them, the one under way
and its own: what it asks for must not be over before it is carried out.
"""
RESPITE_S = 1.0
"""How long run time stands still after a pause."""
LOOK_S = 0.1
"""Shortest time between two looks, unless what is waited for is due."""
ATTEMPT_S = 1.0
"""The longest that an attempt takes that will be repeated, as that of SQLite to get a lock."""
LOOKS = 8
"""The loop looks when a part of what is left has passed: one of so many."""


class RunTime:
    """The seconds, since it was made, in which the process could run."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._origin = clock()
        self._look_at = math.inf
        """When, on that clock, the event loop is to look again."""
        self._seen_at = self._origin
        """When, on that clock, code asked last."""
        self._told = 0.0
        """The run time when it last stood still."""
        self._respite_from = 0.0
        """The run time from which a pause gives a respite."""
        self._held_at = self._held_until = math.inf
        """When something began without which nothing that is decided can be carried out, and what is charged of it."""

    def now(self) -> float:
        """Returns the run time. It never goes back."""
        at = self._clock()
        if at > self._held_until:  # noqa: PLR1730  (`min` takes longer than all the rest)
            at = self._held_until
        if at > self._seen_at + GAP_S and at > self._look_at + GAP_S:
            self._take_out(max(self._look_at, self._seen_at), at)
        self._seen_at = at
        now = at - self._origin
        return now if now > self._told else self._told

    def look(self, due: float) -> float:
        """Returns when, on the clock, to look again, if something is due at this run time. To be called anew when
        another thing is due first.
        """
        if due == math.inf:
            self._look_at = due
            return due
        left = due - self.now()
        at = self._clock()
        until = self._origin + due - at  # longer, in a respite; over already, while it is held
        self._look_at = at
        if left > 0:
            self._look_at += min(until if until > 0 else LOOK_S, max(LOOK_S, left / LOOKS))
        return self._look_at

    def expect(self, seconds: float) -> None:
        """It is asked again after so many seconds at the latest, unless the process cannot run."""
        self._look_at = self._clock() + seconds

    def hold(self) -> None:
        """Something begins without which nothing that is decided can be carried out. If it takes longer than `GAP_S`,
        it is a pause, too, but for `HELD_S`.
        """
        self._held_at = self._clock()
        self._held_until = self._held_at + HELD_S

    def release(self) -> None:
        """It has ended."""
        self.now()
        held_at, self._held_at, self._held_until = self._held_at, math.inf, math.inf
        at = self._clock()
        if at > held_at + GAP_S:
            self._take_out(held_at + HELD_S, at)
            self._seen_at = at

    def _take_out(self, since: float, until: float) -> None:
        """The process could not run. If there is a respite, it is as if nothing had run since code asked last, because
        what is due in the meantime should have it, too.
        """
        told = max(self._seen_at - self._origin, self._told)
        self._look_at = max(self._look_at, until)
        if told < self._respite_from:
            self._origin += until - since
        else:
            self._origin = until + RESPITE_S - told
            self._told, self._respite_from = told, told + RESPITE_S


class Bound:
    """Seconds of run time for which something is tried again and again, in a thread or a task. An attempt that takes
    longer than `ATTEMPT_S` counts as a pause.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._time = RunTime(time.monotonic)
        self._time.expect(ATTEMPT_S)

    def is_over(self) -> bool:
        """Tells whether the time is over. To be asked after each attempt."""
        is_over = self._time.now() >= self._seconds
        self._time.expect(ATTEMPT_S)
        return is_over


async def happens_within(event: anyio.Event, seconds: float) -> bool:
    """Waits for the event, and returns True once it has happened; False once so many seconds of run time are over. Not
    cancelled by a scope around it.
    """
    time = RunTime(clock())
    while True:
        with anyio.CancelScope(deadline=time.look(seconds), shield=True):
            await event.wait()
        if event.is_set() or time.now() >= seconds:
            return event.is_set()
