"""What the runtime and the stores need from the event loops of asyncio and trio."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from typing import Any, Protocol, TypeVar

import anyio
from anyio.lowlevel import current_token
from attrs import define

T = TypeVar("T")


class Signal(Protocol):
    """An event that happens once, and that tasks wait for."""

    def set(self) -> None:
        """Marks the event as having happened, and wakes the tasks that wait."""

    def wait(self) -> Awaitable[Any]:
        """Returns an awaitable that ends when the event has happened. Await it at once, in one task."""
        ...


SWEEP_MIN = 8
"""Number of waiting futures at which the cancelled ones are removed for the first time."""


class LoopSignal:
    """A signal of asyncio. Its own `Event` can be cleared and works in any loop, which costs a turn 4 % of its time. A
    turn makes one signal and waits for two, so what few signals need is not made with them, and the loop is the one
    that runs where it is waited for: to name it costs a future a third of its making.
    """

    __slots__ = ("_is_set", "_sweep_at", "_waiting")

    def __init__(self) -> None:
        self._is_set = False
        self._waiting: list[asyncio.Future[None]] | None = None

    def set(self) -> None:
        """See `Signal`."""
        if self._is_set:
            return
        self._is_set = True
        if self._waiting is not None:
            for future in self._waiting:
                if not future.done():
                    future.set_result(None)

    def wait(self) -> Awaitable[None]:
        """See `Signal`."""
        if self._is_set:
            return asyncio.sleep(0)  # a caller that asks repeatedly lets other tasks run
        future: asyncio.Future[None] = asyncio.Future()
        waiting = self._waiting
        if waiting is None:
            self._waiting = [future]
            self._sweep_at = SWEEP_MIN
            return future
        if len(waiting) == self._sweep_at:
            waiting[:] = [future for future in waiting if not future.done()]
            self._sweep_at = SWEEP_MIN + 2 * len(waiting)
        waiting.append(future)
        return future


def signals() -> Callable[[], Signal]:
    """Returns the function that makes signals in the event loop that runs here. On asyncio that is not `anyio.Event`,
    which adds a layer to asyncio's own: a turn makes a signal and is woken by two.
    """
    native: Any = current_token().native_token
    return LoopSignal if isinstance(native, asyncio.AbstractEventLoop) else anyio.Event


class Bell(Protocol):
    """Wakes the one task that waits for it, each time anew. It is not kept for later, so the task looks first whether
    there is something to do.
    """

    def ring(self) -> None:
        """Wakes the task that waits."""

    def wait(self) -> Awaitable[Any]:
        """Returns an awaitable that ends when the bell rings. Await it at once, in the task whose bell it is."""
        ...


class LoopBell:
    """A bell of asyncio."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: asyncio.Future[None] | None = None

    def ring(self) -> None:
        """See `Bell`."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def wait(self) -> Awaitable[None]:
        """See `Bell`."""
        self._waiting = asyncio.Future()
        return self._waiting


class OtherBell:
    """A bell of every other event loop."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = anyio.Event()

    def ring(self) -> None:
        """See `Bell`."""
        self._event.set()

    def wait(self) -> Awaitable[None]:
        """See `Bell`."""
        self._event = anyio.Event()
        return self._event.wait()


def bells() -> Callable[[], Bell]:
    """Returns the function that makes bells in the event loop that runs here. A thread has one bell for all its turns,
    which saves each of them a signal.
    """
    return LoopBell if isinstance(current_token().native_token, asyncio.AbstractEventLoop) else OtherBell


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


@define(eq=False)
class Entered:
    """A block that was entered and not left."""

    task: Any
    """The task that entered it."""
    is_closed: Callable[[], bool]
    """Tells whether its event loop was closed."""
    free: Callable[[], Awaitable[object]]
    """Frees what it holds."""


ENTERED: dict[object, Entered] = {}
"""The blocks of this process, in the order in which they were entered."""


def note_entered(block: object, free: Callable[[], Awaitable[object]]) -> None:
    """Notes a block that holds what others wait for, until `note_left`."""
    ENTERED[block] = Entered(current_task(), end_of_loop(), free)


def note_left(block: object) -> None:
    """Notes that a block was left, if it was entered."""
    ENTERED.pop(block, None)


def misplaced(block: object) -> str | None:
    """Returns why a block may not be left here and now, if so: its tasks are a group, which anyio binds to the task
    that entered it, and to the order in which that enters and leaves. Of a task that has ended, nothing is in the way.
    """
    entered = ENTERED.get(block)
    if entered is None or is_orphan(block):
        return None
    if entered.task is not current_task():
        return "another task has entered it"
    *_, last = [other for other, found in ENTERED.items() if found.task is entered.task]
    return None if last is block else f"this task has entered another one since, which it leaves first: {last!r:.200}"


def is_orphan(block: object) -> bool:
    """Tells whether the task that entered a block has ended, as that of a fixture of some testing tools has, and each
    that `loop.run_until_complete` made.
    """
    entered = ENTERED.get(block)
    is_done = None if entered is None else getattr(entered.task, "done", None)  # trio ends no task before its blocks
    return is_done is not None and bool(is_done())


@contextmanager
def leaving(block: object) -> Generator[None]:
    """Leaves the task group of a block within this one. anyio tells that it was entered in another task, once all of
    its tasks have ended; if that task is over, nothing comes of it.
    """
    was_orphan = is_orphan(block)
    try:
        yield
    except RuntimeError as error:
        if not was_orphan or "cancel scope" not in str(error):
            raise


async def free_left_behind() -> None:
    """Frees what blocks hold whose event loop was closed within them: none of their code runs any more, and they would
    hold their files as long as this process lives.
    """
    for block, entered in list(ENTERED.items()):
        if entered.is_closed() and ENTERED.pop(block, None) is not None:
            with suppress(Exception):  # it is tried; who wants the same is told
                await entered.free()


def current_task() -> object:
    """Returns the task that runs here."""
    if isinstance(current_token().native_token, asyncio.AbstractEventLoop):
        return asyncio.current_task()
    return import_module("trio").lowlevel.current_task()


def end_of_loop() -> Callable[[], bool]:
    """Returns what tells whether the event loop that runs here was closed. trio never leaves tasks behind."""
    native: Any = current_token().native_token
    is_closed: Callable[[], bool] = getattr(native, "is_closed", lambda: False)
    return is_closed


def calls_soon() -> Callable[[Callable[[], object]], object]:
    """Returns what has the event loop that runs here call a function soon, from any thread, and from the handler of a
    signal. Raises `RuntimeError` if the loop is closed.
    """
    native: Any = current_token().native_token
    soon: Callable[..., object] = getattr(native, "call_soon_threadsafe", None) or native.run_sync_soon
    return soon


class Crossing:
    """A signal that another thread gives to a task. Create it where the task runs."""

    __slots__ = ("_signal", "_soon")

    def __init__(self) -> None:
        loop = asyncio._get_running_loop()
        self._signal: Signal
        self._soon: Callable[..., Any]
        if loop is not None:
            self._signal, self._soon = LoopSignal(), loop.call_soon_threadsafe
        else:
            native: Any = current_token().native_token
            self._signal, self._soon = anyio.Event(), native.run_sync_soon

    def set(self) -> None:
        """Sets the signal, from the other thread. Raises `RuntimeError` if the event loop is closed."""
        self._soon(self._signal.set)

    def wait(self) -> Awaitable[None]:
        """See `Signal`."""
        return self._signal.wait()


def shield() -> anyio.CancelScope:
    """Returns a scope that keeps the cancellations around it away, as `anyio.CancelScope(shield=True)`. That looks up
    the event loop each time and sets all its attributes twice, which makes a third of its cost.
    """
    return scopes(asyncio._get_running_loop() is not None)(shield=True)


@cache
def scopes(_: bool) -> type[anyio.CancelScope]:
    """Returns the class of the scopes in the event loop that runs here, which is one of asyncio or is not."""
    return type(anyio.CancelScope())


def is_cancelled() -> bool:
    """Tells whether the task's cancel scope is cancelled. A cancellation by asyncio's own means does not count."""
    return anyio.current_effective_deadline() == -math.inf


async def to_its_end(work: Callable[[], Awaitable[T]], shield: bool = True) -> T:
    """Does the work in a task of its own, and waits until it has ended though the caller is cancelled, once or again:
    asyncio's own cancellation passes every shield, but not a task group, which waits for its tasks. Without `shield`
    the work is cancelled with its caller, by anyio. A cancellation that the work raises by itself is raised too.

    Code that cancels all tasks of asyncio in one pass cancels the work's task before its first step, and asyncio never
    runs any of its code then: another task begins the work. Without `shield` it is not begun.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    begun: list[bool] = []

    async def do() -> None:
        begun.append(True)
        try:
            with anyio.CancelScope(shield=shield):
                results.append(await work())
        except BaseException as error:  # to be raised as it is, not in a group
            errors.append(error)
            if isinstance(error, anyio.get_cancelled_exc_class()):
                raise

    def given() -> Coroutine[Any, Any, None]:
        return code

    cancelled: BaseException | None = None
    while not begun:
        code = do()
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(given)
        except anyio.get_cancelled_exc_class() as error:
            if begun or not shield:
                raise
            cancelled = error
        finally:
            code.close()  # Python warns of one that was never begun
    if cancelled is not None:
        raise cancelled
    if errors:
        raise errors[0]
    return results[0]
