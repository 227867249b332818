"""Runs work in several processes and handles Ctrl-C, for campaigns, the check and the explorer. A campaign can be given
a pool of another kind (`Pool`), such as one whose processes are on many machines (`model/cluster`).

Ctrl-C reaches every process of a terminal. Those of a pool ignore it: the process that has the pool gets it, and asks
them to stop. So finished work is kept, and no process of the pool prints a traceback.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import AbstractContextManager, contextmanager
from multiprocessing import get_context
from multiprocessing.synchronize import Event as Flag
from threading import current_thread, main_thread
from typing import Any, Generic, Protocol, TypeVar

from attrs import frozen

T = TypeVar("T")

CONTEXT = get_context("spawn")
"""A fork would copy the caller while its threads, such as that of a progress display, hold locks."""


@frozen
class Task(Generic[T]):
    """A function of a module, and its arguments, to be called in another process."""

    function: Callable[..., T]
    arguments: tuple[Any, ...]


class Pool(Protocol):
    """Processes that run submitted tasks, wherever they are."""

    def submit(self, task: Task[T]) -> Future[T]:
        """Puts a task in line."""
        ...

    def ask_to_stop(self) -> None:
        """Asks running tasks to end soon, see `stop_is_asked`."""
        ...


Hire = Callable[[int], AbstractContextManager[Pool]]
"""Gives a pool of so many processes. Leaving the block begins no more tasks; the pool has ended then."""


class Workers:
    """Processes that run submitted tasks."""

    def __init__(self, executor: ProcessPoolExecutor, stop: Flag) -> None:
        self._executor = executor
        self._stop = stop

    def submit(self, task: Task[T]) -> Future[T]:
        """Puts a task in line."""
        with deaf_to_interrupts():  # this may start a process
            return self._executor.submit(task.function, *task.arguments)

    def map(self, function: Callable[[Any], T], items: Iterable[Any]) -> Iterator[T]:
        """Yields the function's result for each item, in their order."""
        with deaf_to_interrupts():
            return self._executor.map(function, items)

    def ask_to_stop(self) -> None:
        """Asks running tasks to end soon, see `stop_is_asked`."""
        self._stop.set()


@contextmanager
def workers(jobs: int, begin: Callable[..., None] | None = None, *arguments: Any) -> Iterator[Workers]:
    """Gives `jobs` processes, each of which calls `begin` first. Leaving the block begins no more tasks and waits for
    those that run; if an exception leaves it, they are asked to stop.
    """
    stop = CONTEXT.Event()
    executor = ProcessPoolExecutor(jobs, CONTEXT, _begin, (stop, begin, arguments))
    try:
        yield Workers(executor, stop)
    except BaseException:
        stop.set()
        raise
    finally:
        with deaf_to_interrupts():  # interrupted in the middle, it would leave processes behind that wait for work
            executor.shutdown(cancel_futures=True)


def campaign(
    jobs: int,
    next_task: Callable[[int], Task[T] | None],
    take: Callable[[T], None],
    in_line: int = 0,
    hire: Hire = workers,
) -> bool:
    """Runs tasks until `next_task` returns None and all have ended; `take` gets each result as it comes. `next_task`
    gets the number of tasks before it. Besides those that run, `in_line` tasks wait for a process. `hire` gives the
    processes.

    Ctrl-C ends it early: running tasks are asked to stop, and their results are taken. A second Ctrl-C is raised.
    Returns whether it was ended early.
    """
    running: set[Future[T]] = set()
    begun, interrupted = 0, False
    with hire(jobs) as processes:
        while True:
            try:
                while not interrupted and len(running) < jobs + in_line and (task := next_task(begun)) is not None:
                    running.add(processes.submit(task))
                    begun += 1
                if not running:
                    return interrupted
                for future in wait_for(running, return_when=FIRST_COMPLETED).done:
                    running.remove(future)
                    take(future.result())
            except KeyboardInterrupt:
                if interrupted:
                    raise
                processes.ask_to_stop()
                interrupted = True


# In the processes

_is_asked: Callable[[], bool] | None = None
"""Tells whether the work of this process should end; None outside of a pool."""


def _begin(stop: Flag, begin: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    stops_when(stop.is_set)
    if begin is not None:
        begin(*arguments)


def stops_when(is_asked: Callable[[], bool] | None) -> None:
    """Says how this process is asked to end its work."""
    global _is_asked  # noqa: PLW0603  (each process of a pool is told)
    _is_asked = is_asked


def stop_is_asked() -> bool:
    """Tells whether the work of this process should end. Always False in a process outside of a pool."""
    return _is_asked is not None and _is_asked()


# Ctrl-C


NOTED: list[list[int]] = []
"""Where interrupts are noted, in the blocks of `noting_interrupts` that are entered; the last one counts."""


def interrupt(*_: object) -> None:
    """Does what Ctrl-C does, or would do if it were not ignored, as a shell has it in what it starts in the background.
    A handler of another signal.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.raise_signal(signal.SIGINT)
    elif NOTED:
        NOTED[-1].append(signal.SIGINT)
    else:
        raise KeyboardInterrupt


@contextmanager
def noting_interrupts() -> Iterator[list[int]]:
    """Notes each Ctrl-C, and each `interrupt`, instead of raising it: in the middle of a life it would look as if that
    had failed.
    """
    noted: list[int] = []
    if current_thread() is not main_thread():  # nothing else is ever interrupted
        yield noted
        return
    NOTED.append(noted)
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda number, _: noted.append(number))
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)
        NOTED.pop()


@contextmanager
def delaying_interrupts() -> Iterator[None]:
    """Delays a Ctrl-C until the block is left. A process is started in it: else one may be there that nothing knows."""
    with noting_interrupts() as noted:
        yield
    if noted:
        interrupt()


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Delays a Ctrl-C until the block is left, and has processes started within it ignore Ctrl-C: a blocked signal is
    blocked in a new process too. Blocking alone is not enough here, because it is for one thread, and another may take
    the signal.
    """
    with delaying_interrupts():
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
