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
- *Stopping.* A scope of anyio that is cancelled cancels its task again at every pass of the event loop until it is
  left. Code that swallows that takes half a processor from all others. `TaskScope` is two scopes, one in the other:
  the outer one is cancelled, and the inner one is shielded as soon as the code has survived that. To cancel again is
  to take the shield away until the code has survived it again.
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
- What code cancels itself, it cancels as its library does: a task group of anyio, in which a task swallows every
  cancellation, is cancelled at every pass.
- A call that keeps its task and cancels it later, from elsewhere, still hits the call that runs then. It is caught
  between two calls, and within a call it counts as that call's.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from types import TracebackType, coroutine
from typing import Any, TypeVar

import anyio

from statemachine.runtime.forks import end_if_forked

T = TypeVar("T")

AGAIN_S_MIN, AGAIN_S_MAX = 0.1, 1.0
"""Seconds after which code that has swallowed its cancellation is cancelled again: first, and at most."""


class ScopeLeftEntered(Exception):
    """User code entered a cancel scope, a time-out or a task group in the task of its thread, and never left it."""


class TaskScope:
    """A cancel scope around user code, which asks it to stop once, and then seldom (`insist`). Leaving it raises
    `ScopeLeftEntered` if a scope within it was not left.

    `survived` has to be told of what was raised into the code, and did not end it.
    """

    def __init__(self, on_survived: Callable[[TaskScope], None], shield: bool = False) -> None:
        """`on_survived` is called when the code has survived its first cancellation, and has to see to `insist`."""
        self._outer = anyio.CancelScope(shield=shield)
        self._inner = anyio.CancelScope()
        self._on_survived = on_survived
        self._over: anyio.Event | None = None
        """Set when the scope is left. None: the code has survived no cancellation."""
        self.cancel = self._outer.cancel

    def survived(self, error: BaseException) -> None:
        """Hears that this was raised into the code, which goes on. If it is a cancellation, no other comes for a while.

        Not before: an exception that is on its way is taken for its own by each scope that is cancelled too, if no
        cancellation from outside is visible there. So are checkpoints of trio made.
        """
        if not self._outer.cancel_called or not isinstance(error, anyio.get_cancelled_exc_class()):
            return
        self._inner.shield = True
        if self._over is None:
            self._over = anyio.Event()
            self._on_survived(self)

    async def insist(self, is_dropped: Callable[[], bool], grace: float) -> None:
        """Cancels the code again, at a slow rate, until it has ended, or was dropped and has had its grace. It goes on
        at that rate when this is cancelled, because the session is left: that waits for the code.
        """
        assert self._over is not None
        waited, pause, is_left = 0.0, AGAIN_S_MIN, False
        while True:
            with anyio.move_on_after(pause, shield=True):
                await self._over.wait()
                return
            waited += pause  # and no more, though the process stood still meanwhile
            pause = min(2 * pause, AGAIN_S_MAX)
            if is_dropped() and waited >= grace and not is_left:
                try:
                    await self._over.wait()
                except anyio.get_cancelled_exc_class():
                    is_left, pause = True, AGAIN_S_MIN
                if self._over.is_set():
                    return
            self._inner.shield = False

    def __enter__(self) -> TaskScope:
        self._outer.__enter__()
        self._inner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        if self._over is not None:
            self._over.set()
        try:
            try:
                self._inner.__exit__(kind, error, traceback)
            except BaseException as raised:
                self._outer.__exit__(type(raised), raised, raised.__traceback__)
                raise
            return self._outer.__exit__(kind, error, traceback)
        except RuntimeError as found:  # errors of the code itself are passed on as they are, or in a group
            raise ScopeLeftEntered("a cancel scope, time-out or task group was entered and never left") from found


def nothing(_: BaseException) -> None:
    """Hears nothing."""


@coroutine
def own_context(
    code: Coroutine[Any, Any, T], context: Context, survived: Callable[[BaseException], None] = nothing
) -> Generator[Any, Any, T]:
    """Runs the code with these context variables, as a new task would. `survived` is told what was raised into it,
    once the code awaits something else after it.
    """
    process = os.getpid()
    step: Any = code.send
    value: Any = None
    raised: Any = None
    try:
        while True:
            try:
                asked_for = context.run(step, value)
            except StopIteration as end:
                end_if_forked(process, end)
                result: T = end.value
                return result
            except GeneratorExit as error:
                if value is error:
                    raise  # the event loop was closed
                raise RuntimeError("the code raised GeneratorExit") from error
            except BaseException as error:
                end_if_forked(process, error)
                raise
            if raised is not None:
                survived(raised)
                raised = None
            try:
                step, value = code.send, (yield asked_for)
                if value is not None:
                    raised = getattr(value, "error", None)  # trio sends what it raises
            except BaseException as error:  # for the code, which may go on after it
                step, value = code.throw, error
                raised = error
    finally:
        del step, value, raised  # otherwise an error would hold this frame, and the frame the error


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
