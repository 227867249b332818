"""Makes calls in a thread, for a task that waits for what they return.

`anyio.to_thread` does the same for any number of threads. The whole session waits for a commit, and with a thread that
waits for the next call that takes half the processor time (`bench/README.md`). A `Worker` has a thread of its own;
`pool.py` has threads that stores share.
"""

from __future__ import annotations

import inspect
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar
from weakref import finalize

from anyio import CapacityLimiter, from_thread, sleep, to_thread
from anyio.lowlevel import RunVar
from attrs import define, field

from statemachine.core.exact import shown
from statemachine.eventloops import Crossing, shield, to_its_end
from statemachine.pauses import Bound
from statemachine.stores.errors import StoreBusy, StoreClosed, StoreExhausted

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


class Caller(ABC):
    """Makes calls in their order, elsewhere, for any event loop."""

    @abstractmethod
    def _put(self, job: Job) -> None:
        """Puts a call in line."""

    async def do(self, work: Callable[..., T], *arguments: Any) -> T:
        """Makes the call, after those in line, and returns its result. A call always runs to its end: a cancelled
        caller waits for it, unless asyncio cancels it past anyio's shields.
        """
        job = Job(work, arguments)
        self._put(job)
        with shield():
            await job.done.wait()
        if job.error is not None:
            raise job.error
        result: T = job.result
        return result


class Worker(Caller):
    """One thread that makes calls in their order. Once it was stopped, a call raises `StoreClosed`."""

    def __init__(self, name: str) -> None:
        """Raises `StoreExhausted` if the process has no thread left."""
        self._begin(name, work_off)

    def _begin(self, name: str, work: Callable[..., object], *arguments: object) -> None:
        self._name = name
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._putting = threading.Lock()
        """Held while a call is put in line, so that none comes behind the end of the line."""
        self.stop = finalize(self, put_end, self._jobs, self._putting)
        """Ends the thread after all calls in line. Called automatically when the worker is collected."""
        try:
            # A daemon, so that a program that leaves its event loop with a store open can end.
            threading.Thread(target=work, args=(self._jobs, *arguments), name=name, daemon=True).start()
        except RuntimeError as error:
            raise StoreExhausted(name, f"the process has no thread left ({error})") from error

    def _put(self, job: Job) -> None:
        with self._putting:
            if not self.stop.alive:
                raise StoreClosed(self._name, "this thread was ended")
            self._jobs.put(job)


def put_end(jobs: SimpleQueue[Job | None], putting: threading.Lock) -> None:
    """Ends the line. The collector calls this for a worker that makes no call, so it never waits for itself."""
    with putting:
        jobs.put(None)


def work_off(jobs: SimpleQueue[Job | None]) -> None:
    """Makes the calls, in the thread. Has no reference to the worker, so that it can be collected."""
    while (job := jobs.get()) is not None:
        make(job)
        del job  # otherwise its result would live until the next one


def make(job: Job) -> None:
    """Makes one call, and tells its caller."""
    try:
        job.result = job.work(*job.arguments)
    except BaseException as error:
        job.error = error
    tell(job)


def tell(job: Job) -> None:
    """Tells the caller that the call has ended."""
    with suppress(RuntimeError):  # the event loop was closed, and its callers are gone
        job.done.set()


Together = Callable[[Sequence[Any]], Sequence[Any]]
"""Does one thing for each of these, all at once. Returns a result for each, its exception, or `LATER`."""


class Later(Exception):
    """A thing cannot be done yet. Its worker tries it again, and does what others ask for meanwhile."""


LATER = Later()
RETRY_S = 0.005
"""Seconds after which a thing is tried again, if nothing else is asked for before."""


class CommonWorker(Worker):
    """A thread that does `together` what has come in line while it did the last of it, up to `at_once` things, and
    makes calls in between.
    """

    def __init__(self, name: str, together: Together, at_once: int) -> None:
        self._begin(name, work_off_together, together, at_once)

    async def share(self, thing: object) -> Any:
        """Has this thing done together with others, and returns its result. Cancelled as `do`."""
        return await self.do(alone, thing)


def alone(thing: object) -> None:
    """Stands for what is done together."""
    raise AssertionError(f"{thing!r} is never done alone")


def work_off_together(jobs: SimpleQueue[Job | None], together: Together, at_once: int) -> None:
    """Does what is in line, in the thread. Has no reference to the worker, as `work_off`."""
    late: list[Job] = []
    is_last = False
    while not is_last or late:
        waiting = [*late, *in_line(jobs, at_once, RETRY_S if late else None)]
        shared = [job for job in waiting if job is not None and job.work is alone]
        late = share(shared, together) if shared else []
        for job in waiting:
            if job is not None and job.work is not alone:
                make(job)
        is_last = is_last or None in waiting
        del waiting, shared  # otherwise their results would live until the next ones


def in_line(jobs: SimpleQueue[Job | None], at_once: int, timeout: float | None) -> list[Job | None]:
    """Returns what is in line, which is waited for."""
    found: list[Job | None] = []
    with suppress(Empty):
        found.append(jobs.get(timeout=timeout))
        while len(found) < at_once:
            found.append(jobs.get_nowait())
    return found


def share(jobs: Sequence[Job], together: Together) -> list[Job]:
    """Does what these want at once, and tells each of its own result. Returns those that are to be tried again."""
    late: list[Job] = []
    try:
        results = together([job.arguments[0] for job in jobs])
    except BaseException as error:
        results = [error] * len(jobs)
    for job, result in zip(jobs, results, strict=True):
        if result is LATER:
            late.append(job)
            continue
        if isinstance(result, BaseException):
            job.error = result
        else:
            job.result = result
        tell(job)
    return late


async def patiently(timeout: float, call: Callable[[], Awaitable[T]]) -> T:
    """Makes the call again and again while it raises `StoreBusy`, for so many seconds of run time. Returns its
    result.
    """
    bound = Bound(timeout)
    while True:
        try:
            return await call()
        except StoreBusy:
            if bound.is_over():
                raise
        await sleep(RETRY_S)


ASIDE_MAX = 40
"""The most threads of a kind that an event loop has at work aside."""


class Limiter:
    """So many threads for calls of a kind, in each event loop: those that agents' blocking tools have are not these."""

    def __init__(self, name: str) -> None:
        self._here: RunVar[CapacityLimiter] = RunVar(name)

    def here(self) -> CapacityLimiter:
        """Returns the limiter of the event loop that runs here."""
        found = self._here.get(None)
        if found is None:
            found = CapacityLimiter(ASIDE_MAX)
            self._here.set(found)
        return found


LOOKING = Limiter("statemachine.looking")
"""The threads in which sessions are checked and copied, which may take minutes."""


async def aside(path: str, work: Callable[..., T], *arguments: Any, limiter: Limiter = LOOKING) -> T:
    """Makes a call that has nothing to do with what is open at `path`, in a thread of anyio's. Raises `StoreExhausted`
    if there is none. It has ended when this returns, however it is cancelled: asyncio's own cancellation reaches no
    thread.
    """
    begun = threading.Event()

    def begin() -> T:
        begun.set()
        return work(*arguments)

    try:
        return await to_its_end(partial(to_thread.run_sync, begin, limiter=limiter.here()), shield=False)
    except RuntimeError as error:
        if begun.is_set():
            raise
        raise StoreExhausted(path, f"the process has no thread left ({error})") from error


def told_in_loop(progress: Callable[[int, int], object]) -> Callable[[int, int], None]:
    """Returns what a call that was put aside tells its progress to: it is told in the event loop, and a cancellation of
    the caller ends the call. So does whatever `progress` raises: it is raised here, in the thread, and never in the
    event loop, which `SystemExit` would end while the thread waits for it. Raises `TypeError` for an async function,
    which would never be awaited.
    """
    function: Any = progress
    while isinstance(function, partial):
        function = function.func
    if any(map(inspect.iscoroutinefunction, (function, type(function).__call__))):
        raise TypeError(f"progress is {shown(progress)}, which is async; give a plain function, which is not awaited")

    def told(done: int, pages: int) -> BaseException | None:
        try:
            progress(done, pages)
        except BaseException as error:
            return error
        return None

    def tell(done: int, pages: int) -> None:
        from_thread.check_cancelled()
        error = from_thread.run_sync(told, done, pages)
        if error is not None:
            raise error

    return tell
