"""The thread in which one store writes.

`anyio.to_thread` does the same for anybody's threads and any number of them. A commit is what the whole session waits
for, and with one thread of its own it takes half the processor time (`bench/README.md`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar
from weakref import finalize

from anyio import CancelScope
from attrs import define, field

from statemachine.eventloops import Crossing

T = TypeVar("T")


@define(eq=False)
class Job:
    """A call, and what came of it."""

    work: Callable[..., Any]
    arguments: tuple[Any, ...]
    done: Crossing = field(factory=Crossing)
    """Set in the thread, when the call is over."""
    result: Any = None
    error: BaseException | None = None


class Worker:
    """One thread that makes calls, one after another, in their order, for whatever event loop asks."""

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self.stop = finalize(self, self._jobs.put, None)
        """Ends the thread after all that was asked. Happens by itself when nobody has the worker any more."""
        # A daemon, so that a program that leaves its event loop with a store open comes to its end.
        threading.Thread(target=work_off, args=(self._jobs,), name=name, daemon=True).start()

    async def do(self, work: Callable[..., T], *arguments: Any) -> T:
        """Makes the call and returns what it does, after all that was asked before. A call comes to its end, whatever
        becomes of its caller: a cancelled one waits for it, unless asyncio cancels it past anyio's shields.
        """
        job = Job(work, arguments)
        self._jobs.put(job)
        with CancelScope(shield=True):
            await job.done.wait()
        if job.error is not None:
            raise job.error
        result: T = job.result
        return result


def work_off(jobs: SimpleQueue[Job | None]) -> None:
    """Makes the calls, in the thread. It does not know the worker, which can be collected."""
    while (job := jobs.get()) is not None:
        try:
            job.result = job.work(*job.arguments)
        except BaseException as error:
            job.error = error
        with suppress(RuntimeError):  # the event loop has gone, and with it whoever waited
            job.done.set()
        del job  # or its result would live until the next one
