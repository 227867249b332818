"""Runs the calls of one store in a thread of its own.

`anyio.to_thread` does the same for any number of threads. The whole session waits for a commit, and with one thread of
its own that takes half the processor time (`bench/README.md`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar
from weakref import finalize

from anyio import CancelScope, from_thread, to_thread
from attrs import define, field

from statemachine.eventloops import Crossing
from statemachine.stores.errors import StoreExhausted

T = TypeVar("T")


@define(eq=False)
class Job:
    """A call and its result."""

    work: Callable[..., Any]
    arguments: tuple[Any, ...]
    done: Crossing = field(factory=Crossing)
    """Set in the thread, when the call has ended."""
    result: Any = None
    error: BaseException | None = None


class Worker:
    """One thread that makes calls in their order, for any event loop."""

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self.stop = finalize(self, self._jobs.put, None)
        """Ends the thread after all calls in line. Called automatically when the worker is collected."""
        # A daemon, so that a program that leaves its event loop with a store open can end.
        threading.Thread(target=work_off, args=(self._jobs,), name=name, daemon=True).start()

    async def do(self, work: Callable[..., T], *arguments: Any) -> T:
        """Makes the call, after those in line, and returns its result. A call always runs to its end: a cancelled
        caller waits for it, unless asyncio cancels it past anyio's shields.
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
    """Makes the calls, in the thread. Has no reference to the worker, so that it can be collected."""
    while (job := jobs.get()) is not None:
        try:
            job.result = job.work(*job.arguments)
        except BaseException as error:
            job.error = error
        with suppress(RuntimeError):  # the event loop was closed, and its callers are gone
            job.done.set()
        del job  # otherwise its result would live until the next one


async def aside(path: str, work: Callable[..., T], *arguments: Any) -> T:
    """Makes a call that has nothing to do with what is open at `path`, in a thread of anyio's. Raises `StoreExhausted`
    if there is none.
    """
    begun = threading.Event()

    def begin() -> T:
        begun.set()
        return work(*arguments)

    try:
        return await to_thread.run_sync(begin)
    except RuntimeError as error:
        if begun.is_set():
            raise
        raise StoreExhausted(path, f"the process has no thread left ({error})") from error


def told_in_loop(progress: Callable[[int, int], object]) -> Callable[[int, int], None]:
    """Returns what a call that was put aside tells its progress to: it is told in the event loop, and a cancellation of
    the caller ends the call.
    """

    def tell(done: int, pages: int) -> None:
        from_thread.check_cancelled()
        from_thread.run_sync(progress, done, pages)

    return tell
