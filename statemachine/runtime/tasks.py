"""What the runtime has to know of event loops."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Generator
from contextvars import copy_context
from functools import partial
from types import TracebackType, coroutine
from typing import Any, Protocol, TypeVar

import anyio
from anyio.lowlevel import current_token

T = TypeVar("T")


class Signal(Protocol):
    """Something that happens once, and that tasks wait for."""

    def set(self) -> None:
        """It has happened."""

    async def wait(self) -> Any:
        """Waits until it has happened."""


class LoopSignal:
    """A signal of asyncio. Its own `Event` can be cleared and is for any loop, which costs a turn 4 % of its time."""

    __slots__ = ("_is_set", "_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._is_set = False
        self._waiting: list[asyncio.Future[None]] = []

    def set(self) -> None:
        """See `Signal`."""
        self._is_set = True
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def wait(self) -> None:
        """See `Signal`."""
        if self._is_set:
            await anyio.lowlevel.checkpoint()  # who asks again and again lets others have their turn
            return
        future = self._loop.create_future()
        self._waiting.append(future)
        try:
            await future
        except BaseException:
            self._waiting.remove(future)
            raise


def signals() -> Callable[[], Signal]:
    """What makes signals in the event loop that runs here. On asyncio that is not `anyio.Event`, a layer above its own:
    a turn makes two signals and is woken by three.
    """
    native: Any = current_token().native_token
    return partial(LoopSignal, native) if isinstance(native, asyncio.AbstractEventLoop) else anyio.Event


class ScopeLeftEntered(Exception):
    """User code has entered a cancel scope, a time-out or a task group in the task of its thread, and never left it."""


class TaskScope:
    """A cancel scope around user code. Raises `ScopeLeftEntered` if it is left while one within it is not."""

    def __init__(self) -> None:
        self._scope = anyio.CancelScope()
        self.cancel = self._scope.cancel

    def __enter__(self) -> TaskScope:
        self._scope.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        try:
            return self._scope.__exit__(kind, error, traceback)
        except RuntimeError as found:  # errors of the code itself are passed on as they are, or in a group
            raise ScopeLeftEntered("a cancel scope, time-out or task group was entered and never left") from found


@coroutine
def own_context(code: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Runs the code with context variables of its own, a copy of those that are there, as a new task would."""
    context = copy_context()
    step: Any = code.send
    value: Any = None
    try:
        while True:
            try:
                asked_for = context.run(step, value)
            except StopIteration as end:
                result: T = end.value
                return result
            except GeneratorExit as error:
                if value is error:
                    raise  # the event loop has gone
                raise RuntimeError("the code raised GeneratorExit") from error
            try:
                step, value = code.send, (yield asked_for)
            except BaseException as error:  # for the code, which may go on after it
                step, value = code.throw, error
    finally:
        del step, value  # or an error would hold this frame, and the frame the error


def is_session_cancelled() -> bool:
    """Is the task cancelled with all the others? To be asked where no scope of our own is entered."""
    return anyio.current_effective_deadline() == -math.inf


def clock() -> Callable[[], float]:
    """The time in seconds, as `anyio.current_time`, but without asking each time which event loop runs."""
    native: Any = current_token().native_token
    return native.time if isinstance(native, asyncio.AbstractEventLoop) else anyio.current_time


def forget_cancellations(cancelled: type[BaseException]) -> bool:
    """Between two calls of user code: if the code has asked asyncio to cancel the task it runs in, or somebody who kept
    that task, this was about the call that has ended. It shows in the counts of the task, and some releases of Python
    3.11 take a time-out of the next call for it.

    `cancelled` is the class of this event loop's cancellations. True: there was one, which the next await may still
    raise.
    """
    task = asyncio.current_task() if cancelled is asyncio.CancelledError else None
    if task is None or not task.cancelling():
        return False
    while task.uncancel():
        pass
    return True
