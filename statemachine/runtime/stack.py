"""Sees to it that a verb has stack to spare before it begins.

Code that recurses without end meets the end of the stack wherever it happens to be. If that is in the middle of a step
of the core, the step is half done and the session, which is that of all agents, cannot go on. So every door through
which code of a turn or of the host comes in asks here first, and raises in its caller while nothing has happened.

Python does not tell how deep its stack is. It refuses a limit below that, though, and that is as dear as three calls;
to ask for a frame that is not there costs twice as much, for the exception. `filter` lowers the limit and
restores it in one call, between whose halves no other thread runs.
"""

from __future__ import annotations

from sys import getrecursionlimit, setrecursionlimit

SPARE = 100
"""Frames that a verb finds free. The deepest step of the core takes less than half of them."""


def check_stack() -> None:
    """Raises `RecursionError` unless there are so many frames left."""
    limit = getrecursionlimit()
    try:
        next(filter(setrecursionlimit, (limit - SPARE, limit)), None)
    except (RecursionError, ValueError):  # the latter for a limit below 1
        raise RecursionError(
            f"called too deep in the stack: what enters a session needs {SPARE} of the {limit} frames that "
            "`sys.getrecursionlimit` allows"
        ) from None
