"""How long a caller of a session waits: in run time, and while the session has no owner that lives."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from attrs import define

from statemachine.eventloops import clock
from statemachine.pauses import LOOKS, RunTime

LOOK_S = 0.5
"""Seconds between two looks for a worker that does not answer."""

LEAST_S = 1.0
"""Seconds that a worker has at least to connect, and to give a sign of life, however little is left of a patience."""

SHORTEST_S = 0.01
"""Seconds for which nothing waits less, however little is left of a time."""


class Stopwatch:
    """The run time of a client (`pauses.py`). While anything is measured, within `with`, the event loop looks every
    `LOOK_S`, whatever callers wait for: a pause that is shorter may be charged to them.
    """

    def __init__(self) -> None:
        self._time: RunTime | None = None
        self._measured = 0
        self._look_again: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        self._measured += 1
        if self._measured == 1:
            self._look()

    def __exit__(self, *_: object) -> None:
        self._measured -= 1
        if not self._measured and self._look_again is not None:
            self._look_again.cancel()
            self._run_time().look(math.inf)

    def now(self) -> float:
        """Returns the run time, in seconds. It never goes back."""
        return self._run_time().now()

    async def wait(self, awaited: asyncio.Future[Any], seconds: float) -> None:
        """Waits until this has ended, for so many seconds."""
        due = self.now() + seconds
        while not awaited.done() and (left := due - self.now()) > 0:
            await asyncio.wait([awaited], timeout=None if left == math.inf else max(left, SHORTEST_S))

    def _run_time(self) -> RunTime:
        if self._time is None:
            self._time = RunTime(clock())
        return self._time

    def _look(self) -> None:
        run_time = self._run_time()
        at = run_time.look(run_time.now() + LOOK_S * LOOKS)
        self._look_again = asyncio.get_running_loop().call_at(at, self._look)


@define
class Patience:
    """For how long the session of one call may be without an owner that lives, in run time."""

    _stopwatch: Stopwatch
    _due: float

    @classmethod
    def of(cls, seconds: float, stopwatch: Stopwatch) -> Patience:
        """Returns a patience of so many seconds from now."""
        return cls(stopwatch, stopwatch.now() + seconds)

    @property
    def left(self) -> float:
        """Seconds, negative once it is over."""
        return self._due - self._stopwatch.now()

    @property
    def is_over(self) -> bool:
        """Whether nothing is left."""
        return self.left <= 0

    def had_owner(self, seconds: float) -> None:
        """Takes back so many of the seconds that were charged: the session had an owner. Fewer than 0 are none."""
        self._due += max(0.0, seconds)
