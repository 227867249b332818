"""Bounds how long a step may take, so that one that never ends fails the check instead of hanging it.

The bound is on the time of the processor, not of the clock: a process that waits for its turn on a busy machine, or is
stopped, has not begun to hang. It is a timer of the process, so it works in the main thread, where checks run, and on
systems that have one; elsewhere a step that never ends is not noticed.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType

SECONDS_MAX = 3.0
"""Seconds of the processor for what takes milliseconds: the events of one state, or one event of a life."""


class StepNeverEnds(Exception):
    """A step took longer than it was given."""

    def __str__(self) -> str:
        return "the step does not end"


@contextmanager
def watched() -> Iterator[None]:
    """Within the block, whatever `arm` begins is bounded."""
    if current_thread() is not main_thread() or not hasattr(signal, "SIGVTALRM"):
        yield
        return
    before = signal.signal(signal.SIGVTALRM, stop)
    try:
        yield
    finally:
        disarm()
        signal.signal(signal.SIGVTALRM, before)


def arm(seconds: float = SECONDS_MAX) -> None:
    """What begins now is to end within so many seconds. Has no effect outside `watched`."""
    if is_watched():
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)


def disarm() -> None:
    """It has ended."""
    if is_watched():
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def is_watched() -> bool:
    """Is the alarm ours, and not one that ends the process?"""
    return hasattr(signal, "SIGVTALRM") and signal.getsignal(signal.SIGVTALRM) is stop


def stop(_signal: int, _frame: FrameType | None) -> None:
    """Ends what takes too long."""
    raise StepNeverEnds
