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

from anyio import CancelScope, Event
from anyio.lowlevel import current_token
from attrs import define, field

T = TypeVar("T")


def in_event_loop() -> Callable[..., Any]:
    """What has something called in the event loop that runs here: asyncio's loop and trio's token both can."""
    native: Any = current_token().native_token
    soon: Callable[..., Any] = getattr(native, "call_soon_threadsafe", None) or native.run_sync_soon
    return soon


@define(eq=False)
class Job:
    """A call, and what came of it."""

    work: Callable[..., Any]
    arguments: tuple[Any, ...]
    soon: Callable[..., Any] = field(factory=in_event_loop)
    done: Event = field(factory=Event)
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
            job.soon(job.done.set)
        del job  # or its result would live until the next one
