"""What the task of a thread has to know of event loops."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Generator
from contextvars import copy_context
from types import coroutine
from typing import Any, TypeVar

import anyio
from anyio.lowlevel import current_token

T = TypeVar("T")


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
