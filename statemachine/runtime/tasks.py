"""Keeps calls of user code that share a task apart: their scopes, context variables and cancellations.

The problem. Several calls of user code run in one task, one after the other (`live.py`). What one call does to its
task would reach the next: a context variable that it sets, a cancel scope that it enters and never leaves, a
cancellation of the task that it asks asyncio for. A task of its own for each call would keep them apart, and costs a
third of a turn.

What is done, one measure for each.

- *Context variables.* `own_context` drives the coroutine by hand and runs each of its steps in a copy of the context,
  as a new task would. What a call sets is gone with the call.
- *Scopes.* `TaskScope` stands around all calls of a stretch. anyio raises if it is left while one within it is not,
  which becomes `ScopeLeftEntered`: the thread is dropped, because the forgotten scope would act on all that its task
  does next.
- *Cancellations.* asyncio counts them in the task (`cancelling`), and some releases of Python 3.11 take one that is
  left over for the time-out of a later block. `forget_cancellations` takes them back between two calls.

What was rejected.

- `contextvars.Context.run` around the whole call: it takes a function, and a coroutine is many steps.
- Refusing scopes in user code: task groups and time-outs are what well-written code is made of.
- Finding the forgotten scope and closing it: anyio does not say which it was, and its deadline may have passed.

What remains ugly.

- `own_context` reimplements `yield from` for coroutines, with `send`, `throw` and `GeneratorExit`. It is thirty lines
  that must be right, and a traceback goes through them.
- The counts of cancellations are asyncio's own; trio has no such thing, so `OwnTask` is None there, and every user of
  it has to ask.
- A call that keeps its task and cancels it later, from elsewhere, still hits the call that runs then. It is caught
  between two calls, and within a call it counts as that call's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context
from types import TracebackType, coroutine
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


async def to_its_end(work: Callable[[], Awaitable[T]]) -> T:
    """Does the work in a task of its own, and waits until it has ended though the caller is cancelled, once or again:
    asyncio's own cancellation passes every shield, but not a task group, which waits for its tasks.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    async def do() -> None:
        try:
            with anyio.CancelScope(shield=True):
                results.append(await work())
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:  # to be raised as it is, not in a group
            errors.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(do)
    if errors:
        raise errors[0]
    return results[0]


class ScopeLeftEntered(Exception):
    """User code entered a cancel scope, a time-out or a task group in the task of its thread, and never left it."""


class TaskScope:
    """A cancel scope around user code. Leaving it raises `ScopeLeftEntered` if a scope within it was not left."""

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
def own_context(code: Coroutine[Any, Any, T], context: Context) -> Generator[Any, Any, T]:
    """Runs the code with these context variables, as a new task would."""
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
                    raise  # the event loop was closed
                raise RuntimeError("the code raised GeneratorExit") from error
            try:
                step, value = code.send, (yield asked_for)
            except BaseException as error:  # for the code, which may go on after it
                step, value = code.throw, error
    finally:
        del step, value  # otherwise an error would hold this frame, and the frame the error


OwnTask = asyncio.Task[Any] | None
"""The task in which a thread's code runs, if it is an asyncio task."""


def own_task(cancelled: type[BaseException]) -> OwnTask:
    """Returns the task that runs here. `cancelled` is the class of this event loop's cancellations."""
    return asyncio.current_task() if cancelled is asyncio.CancelledError else None


def cancellations(task: OwnTask) -> int:
    """Returns how often asyncio was asked to cancel the task, less what was taken back."""
    return 0 if task is None else task.cancelling()


def forget_cancellations(task: OwnTask) -> bool:
    """Takes back, between two calls of user code, a cancellation of the task that the code, or other code that kept the
    task, asked asyncio for: it was meant for the call that has ended. It shows in the counts of the task, and some
    releases of Python 3.11 mistake a time-out of the next call for it.

    Returns True if there was one, which the next await may still raise.
    """
    if task is None or not task.cancelling():
        return False
    while task.uncancel():
        pass
    return True
