"""Work in several processes, and Ctrl-C: campaigns, the check and the explorer have both from here.

Ctrl-C reaches every process of a terminal. Those of a pool never hear it: the process that has the pool does, and asks
them to stop. So what was done is kept, and no process prints a traceback of its own.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.synchronize import Event as Flag
from threading import current_thread, main_thread
from typing import Any, Generic, TypeVar

from attrs import frozen

T = TypeVar("T")

CONTEXT = get_context("spawn")
"""A fork would copy whatever threads the caller has, that of a progress display for one."""


@frozen
class Task(Generic[T]):
    """A function of a module, and what it is called with in another process."""

    function: Callable[..., T]
    arguments: tuple[Any, ...]


class Workers:
    """Processes that do what is submitted."""

    def __init__(self, executor: ProcessPoolExecutor, stop: Flag) -> None:
        self._executor = executor
        self._stop = stop

    def submit(self, task: Task[T]) -> Future[T]:
        """Puts a task in line."""
        with deaf_to_interrupts():  # a process may be started for it
            return self._executor.submit(task.function, *task.arguments)

    def map(self, function: Callable[[Any], T], items: Iterable[Any]) -> Iterator[T]:
        """What the function makes of each of the items, in their order."""
        with deaf_to_interrupts():
            return self._executor.map(function, items)

    def ask_to_stop(self) -> None:
        """What runs is to come to its end soon, see `stop_is_asked`."""
        self._stop.set()


@contextmanager
def workers(jobs: int, begin: Callable[..., None] | None = None, *arguments: Any) -> Iterator[Workers]:
    """So many processes, each of which calls `begin` first. When the block is left nothing more is begun, and what runs
    comes to its end; if it is left by an exception, that is asked to stop.
    """
    stop = CONTEXT.Event()
    executor = ProcessPoolExecutor(jobs, CONTEXT, _begin, (stop, begin, arguments))
    try:
        yield Workers(executor, stop)
    except BaseException:
        stop.set()
        raise
    finally:
        with deaf_to_interrupts():  # cut off in the middle, it would leave processes behind that wait for work
            executor.shutdown(cancel_futures=True)


def campaign(
    jobs: int, next_task: Callable[[int], Task[T] | None], take: Callable[[T], None], in_line: int = 0
) -> bool:
    """Has tasks done until `next_task` has none any more and all are over; `take` is told each result as it comes.
    `next_task` is called with the number of those before it. Besides those at work, `in_line` tasks wait for a process.

    Ctrl-C ends it early: what runs is asked to stop, and what it comes to is taken. The second one is raised. Returns
    whether it was ended early.
    """
    running: set[Future[T]] = set()
    begun, interrupted = 0, False
    with workers(jobs) as processes:
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

_stop: Flag | None = None


def _begin(stop: Flag, begin: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    global _stop  # noqa: PLW0603  (each process of a pool is told once)
    _stop = stop
    if begin is not None:
        begin(*arguments)


def stop_is_asked() -> bool:
    """Is the work of this process to come to its end? Never in a process that is of no pool."""
    return _stop is not None and _stop.is_set()


# Ctrl-C


@contextmanager
def noting_interrupts() -> Iterator[list[int]]:
    """Ctrl-C is noted and no more: in the middle of a life it would look as if that had broken."""
    noted: list[int] = []
    if current_thread() is not main_thread():  # nothing else is ever interrupted
        yield noted
        return
    before = signal.signal(signal.SIGINT, lambda number, _: noted.append(number))
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Ctrl-C that comes meanwhile is heard afterwards, and a process that starts meanwhile never hears it: a blocked
    signal is blocked in the new process too. Blocking alone would not do here, because it is for one thread, and
    another one may take the signal.
    """
    with noting_interrupts() as noted:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if noted:
        signal.raise_signal(signal.SIGINT)
