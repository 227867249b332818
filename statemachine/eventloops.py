"""What the runtime and the stores need from the event loops of asyncio and trio."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

import anyio
from anyio.lowlevel import current_token


class Signal(Protocol):
    """An event that happens once, and that tasks wait for."""

    def set(self) -> None:
        """Marks the event as having happened, and wakes the tasks that wait."""

    def wait(self) -> Awaitable[Any]:
        """Returns an awaitable that ends when the event has happened. Await it at once, in one task."""
        ...


class LoopSignal:
    """A signal of asyncio. Its own `Event` can be cleared and works in any loop, which costs a turn 4 % of its time."""

    __slots__ = ("_is_set", "_loop", "_sweep_at", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._is_set = False
        self._waiting: list[asyncio.Future[None]] = []
        self._sweep_at = 8
        """Number of waiting futures at which the cancelled ones are removed."""

    def set(self) -> None:
        """See `Signal`."""
        if self._is_set:
            return
        self._is_set = True
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    def wait(self) -> Awaitable[None]:
        """See `Signal`."""
        if self._is_set:
            return asyncio.sleep(0)  # a caller that asks repeatedly lets other tasks run
        waiting = self._waiting
        if len(waiting) == self._sweep_at:
            waiting[:] = [future for future in waiting if not future.done()]
            self._sweep_at = 8 + 2 * len(waiting)
        future: asyncio.Future[None] = asyncio.Future(loop=self._loop)
        waiting.append(future)
        return future


def signals() -> Callable[[], Signal]:
    """Returns the function that makes signals in the event loop that runs here. On asyncio that is not `anyio.Event`,
    which adds a layer to asyncio's own: a turn makes two signals and is woken by three.
    """
    native: Any = current_token().native_token
    return partial(LoopSignal, native) if isinstance(native, asyncio.AbstractEventLoop) else anyio.Event


def clock() -> Callable[[], float]:
    """Returns a clock in seconds, as `anyio.current_time`, that does not look up the event loop at each call."""
    native: Any = current_token().native_token
    if not isinstance(native, asyncio.AbstractEventLoop):
        return anyio.current_time
    is_usual = getattr(native.time, "__func__", None) is asyncio.BaseEventLoop.time  # not replaced by a test
    return time.monotonic if is_usual else native.time


def running() -> Callable[[], Any]:
    """Returns what tells which event loop runs where it is called, in which thread ever; None: none of this kind. It is
    called with every event of a session.
    """
    token = current_token()
    if isinstance(token.native_token, asyncio.AbstractEventLoop):
        return asyncio._get_running_loop

    def running_here() -> Any:
        try:
            return current_token()
        except RuntimeError:
            return None

    return running_here


def end_of_loop() -> Callable[[], bool]:
    """Returns what tells whether the event loop that runs here was closed. trio never leaves tasks behind."""
    native: Any = current_token().native_token
    is_closed: Callable[[], bool] = getattr(native, "is_closed", lambda: False)
    return is_closed


class Crossing:
    """A signal that another thread gives to a task. Create it where the task runs."""

    __slots__ = ("_signal", "_soon")

    def __init__(self) -> None:
        loop = asyncio._get_running_loop()
        self._signal: Signal
        self._soon: Callable[..., Any]
        if loop is not None:
            self._signal, self._soon = LoopSignal(loop), loop.call_soon_threadsafe
        else:
            native: Any = current_token().native_token
            self._signal, self._soon = anyio.Event(), native.run_sync_soon

    def set(self) -> None:
        """Sets the signal, from the other thread. Raises `RuntimeError` if the event loop is closed."""
        self._soon(self._signal.set)

    def wait(self) -> Awaitable[None]:
        """See `Signal`."""
        return self._signal.wait()


def is_cancelled() -> bool:
    """Tells whether the task's cancel scope is cancelled. A cancellation by asyncio's own means does not count."""
    return anyio.current_effective_deadline() == -math.inf
