"""Shares a few threads between all stores of a process.

The problem. A store makes its calls one after another, and a call waits for the disk. A thread for each store is the
simplest way to do that, and with a thousand sessions it is a thousand stacks, nearly all of which wait for work. One
thread for all of them would make each session wait for the disks, and the locked files, of all others.

What is done. Each store has a *serial queue*: its calls are made in their order, one at a time. Queues that have calls
stand in one line, and the threads of the pool take one call from the first of them. A queue that has more calls goes
to the end of the line. A thread is started when there is work for it, so one session has one thread, and its calls are
handed over as to a thread of its own.

A call may take long: another program keeps the file locked for a minute, a disk hangs. A thread whose call takes longer
than `STALL_S` is not counted any more, while calls of others stand in line: another is started in its place. So there
are `size` threads that get on, and one more for each queue that does not. Those that are too many end when they can.

The threads end when the last queue has gone.

What was rejected.

- `concurrent.futures.ThreadPoolExecutor`. It has no queues in order, its number of threads is fixed, so that a few
  locked files stop all sessions, and leaving a program waits for its threads.
- `anyio.to_thread`. It takes twice the processor time of a thread that waits for the next call (`bench/README.md`).
- Asking calls to tell when they wait. SQLite does not say that it waits for a lock or the disk.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from queue import SimpleQueue
from weakref import finalize

from attrs import define, field

from statemachine.stores.worker import Caller, Job, make

STALL_S = 0.1
"""Seconds after which a call does not keep its thread from being replaced: longer than a commit on a slow disk."""


@define(eq=False)
class Calls:
    """What a queue has to do. Has no reference to the queue, so that it can be collected."""

    jobs: list[Job] = field(factory=list[Job])  # it is short, and a deque begins with 600 bytes
    is_given: bool = False
    """Whether it stands in line, or a thread makes one of the calls."""


class Sign(Enum):
    """What stands in line besides calls."""

    LEFT = 1
    """A queue has gone."""
    END = 2
    """The thread that finds this ends, unless there are queues again."""


class ThreadPool:
    """Up to `size` threads that get on, shared by all queues of this process."""

    def __init__(self, name: str, size: int) -> None:
        self.size = size
        self._name = name
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """Begins without threads and queues: those of a parent process are not in its child."""
        self._lock = threading.Lock()
        self._line: SimpleQueue[Calls | Sign] = SimpleQueue()
        self._queues = 0
        self._threads = 0
        self._given = 0
        """Queues that have calls."""
        self._began: dict[int, float] = {}
        """Id of a thread -> when the call that it makes began."""
        self._is_watched = False

    def enter(self) -> Callable[[], None]:
        """Counts one more queue, and returns what tells that it has gone. Raises `RuntimeError` if there is not a
        single thread, and there can be none.
        """
        with self._lock:
            if self._threads == 0:
                self._start()
            self._queues += 1
            line = self._line
        # The collector may call this at any moment, in any thread, so it takes no lock.
        return lambda: line.put(Sign.LEFT)

    def give(self, calls: Calls, job: Job) -> None:
        """Puts a call at the end of a queue."""
        with self._lock:
            calls.jobs.append(job)
            if calls.is_given:
                return
            calls.is_given = True
            self._given += 1
            self._line.put(calls)
            if self._given > self._threads:
                self._grow()

    def _grow(self) -> None:
        """Sees to it that there will be a thread for what stands in line."""
        with suppress(RuntimeError):  # the process has no thread left: those that there are have to do
            if self._threads < self.size:
                self._start()
            elif not self._is_watched:
                threading.Thread(target=self._watch, name=f"{self._name}-watch", daemon=True).start()
                self._is_watched = True

    def _start(self) -> None:
        # A daemon, so that a program that leaves its event loop with a store open can end.
        threading.Thread(target=self._work, name=self._name, daemon=True).start()
        self._threads += 1

    # In threads

    def _work(self) -> None:
        """Makes calls until the last queue has gone."""
        me = threading.get_ident()
        is_needed = True
        while is_needed:
            found = self._line.get()
            if isinstance(found, Sign):
                is_needed = self._read(found)
            else:
                self._began[me] = time.monotonic()
                make(found.jobs.pop(0))
                is_needed = self._made(found, me)

    def _made(self, calls: Calls, me: int) -> bool:
        """Puts the queue at the end of the line if it has more calls. Returns whether the thread is needed still."""
        with self._lock:
            del self._began[me]
            if calls.jobs:
                self._line.put(calls)
            else:
                calls.jobs.clear()  # a list that became empty by `pop` keeps a block, in memory of this thread
                calls.is_given = False
                self._given -= 1
                self._end_if_over()
            is_needed = self._threads <= self.size or self._threads - self._stalled() <= self.size
            self._threads -= not is_needed
            return is_needed

    def _read(self, sign: Sign) -> bool:
        """Returns whether the thread that found this sign is needed still."""
        with self._lock:
            if sign is Sign.LEFT:
                self._queues -= 1
                self._end_if_over()
                return True
            self._threads -= self._is_over
            return not self._is_over

    @property
    def _is_over(self) -> bool:
        return self._queues == 0 and self._given == 0

    def _end_if_over(self) -> None:
        """Has the threads end if the last queue has gone and its calls are made."""
        if self._is_over:
            for _ in range(self._threads):
                self._line.put(Sign.END)

    def _stalled(self) -> int:
        """Returns the number of threads whose call takes long."""
        since = time.monotonic() - STALL_S
        return sum([began < since for began in self._began.values()])

    def _watch(self) -> None:
        """Replaces the threads that do not get on, as long as calls stand in line."""
        while self._is_waited_for():
            time.sleep(STALL_S)

    def _is_waited_for(self) -> bool:
        with self._lock:
            waiting = self._given - self._threads
            missing = self.size - (self._threads - self._stalled())
            with suppress(RuntimeError):
                for _ in range(min(waiting, missing)):
                    self._start()
            self._is_watched = waiting > 0
            return self._is_watched


class SerialQueue(Caller):
    """Calls that are made in their order, one at a time, by the threads of a pool."""

    def __init__(self, pool: ThreadPool) -> None:
        """Raises `RuntimeError` if a thread cannot be started and there is none."""
        self._pool = pool
        self._calls = Calls()
        self.stop = finalize(self, pool.enter())
        """Gives the threads back. Called automatically when the queue is collected. Calls in line are made first."""

    def _put(self, job: Job) -> None:
        self._pool.give(self._calls, job)
