"""What the task of a thread has to know of event loops."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Generator
from contextvars import copy_context
from types import coroutine
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


@coroutine
def own_context(code: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Runs the code with context variables of its own, a copy of those that are there, as a new task would."""
    context = copy_context()
    step: Any = code.send
    value: Any = None
    while True:
        try:
            asked_for = context.run(step, value)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        try:
            step, value = code.send, (yield asked_for)
        except BaseException as error:  # for the code, which may go on after it
            step, value = code.throw, error


def is_session_cancelled() -> bool:
    """Is the task cancelled with all the others? To be asked where no scope of our own is entered."""
    return anyio.current_effective_deadline() == -math.inf


def forget_cancellations() -> None:
    """Between two calls of user code: if the code has asked asyncio to cancel the task it runs in, or somebody who kept
    that task, this was about the call that has ended. A time-out in the next one would take it for its own.
    """
    if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
        task = asyncio.current_task()
        while task is not None and task.cancelling():
            task.uncancel()
