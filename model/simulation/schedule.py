"""Runs trio repeatably: seeded scheduling order, and a clock that jumps (for `model/simulation/life.py`).

trio shuffles the tasks that are ready, with a private random generator and no documented way to seed it. Its plugin for
Hypothesis has one: a private switch has every batch of tasks sorted before it is shuffled, so that the generator's seed
decides the order. That private use is here and nowhere else; `ensure_repeatable` tries it, so that a version of trio
without it is an error and not a simulation that cannot be repeated.

Garbage is not collected while a run lasts: its time depends on what the process did before, and an unreferenced handle
stays in the session's weak dictionary until then.
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import coroutine
from typing import Any, NoReturn

import outcome
import trio
import trio.testing
from trio._core import _run as trio_run

STUCK_ROUNDS = 20_000
"""Rounds of the scheduler without progress of the clock after which a run is stuck: no task wakes, or none sleeps."""
NURSERY_WAITS = "_nested_child_finished"
"""The function in which trio waits for the tasks of a nursery."""
LIFE_MAX_S = 3_600.0
"""Virtual seconds after which a run counts as endless."""

SWITCH, GENERATOR = "_ALLOW_DETERMINISTIC_SCHEDULING", "_r"
TASKS, TURNS = 6, 4
"""Size of the trial: 720 orders, four times."""


class NotRepeatable(RuntimeError):
    """A seed would not repeat with this version of trio."""


class Stuck(Exception):
    """Raised in every task of a run that would never end, wherever it waits, shielded or not."""


class Watch(trio.abc.Instrument):
    """Ends a run that would never end: without this, such a seed would stop the whole campaign."""

    def __init__(self) -> None:
        self.main: trio.lowlevel.Task | None = None
        self.now = -1.0
        self.rounds = 0
        self.stuck: list[str] = []
        """Where tasks were waiting when the run was ended."""

    def before_io_wait(self, timeout: float) -> None:
        """Called in every round."""
        del timeout
        now = trio.current_time()
        self.rounds = self.rounds + 1 if now == self.now else 0
        self.now = now
        if (self.rounds >= STUCK_ROUNDS or now > LIFE_MAX_S) and self.main is not None:
            self.rounds = 0
            self._throw_into(self.main)

    def _throw_into(self, task: trio.lowlevel.Task) -> None:
        # A nursery that waits for its tasks ends with them; an exception thrown into it would corrupt it.
        frames = [frame.f_code.co_name for frame, _ in task.iter_await_frames()]
        if NURSERY_WAITS not in frames:
            place = where(task)
            if task._next_send_fn is None:
                self.stuck.append(place)
                task._abort_func = None
                trio.lowlevel.reschedule(task, outcome.Error(Stuck(place)))
            elif task._next_send is not None:  # it is about to go on
                self.stuck.append(place)
                task._next_send = outcome.Error(Stuck(place))
        for nursery in task.child_nurseries:
            for child in nursery.child_tasks:
                self._throw_into(child)


def where(task: trio.lowlevel.Task) -> str:
    """Returns the code of ours in which a task waits."""
    lines = [f"{Path(f.f_code.co_filename).name}:{line}" for f, line in task.iter_await_frames()]
    ours = [line for line in lines if not line.startswith(("_", "tasks"))]
    return f"for ever, in {' < '.join(reversed(ours[-4:] or lines[-2:]))}"


def run(main: Callable[[], Awaitable[None]], seed: int) -> list[str]:
    """Does `trio.run` in virtual time, with the scheduling order of this seed. Returns where tasks waited for ever;
    empty if the run ended by itself. Raises `NotRepeatable`, and what `main` raises.
    """
    ensure_repeatable()
    watch = Watch()

    async def watched() -> None:
        watch.main = trio.lowlevel.current_task()
        await main()

    with _order_of(seed):
        try:
            trio.run(watched, clock=trio.testing.MockClock(autojump_threshold=0), instruments=[watch])
        except (Exception, BaseExceptionGroup):
            if not watch.stuck:
                raise
    return watch.stuck


def stand_still(seconds: float) -> None:
    """Lets the clock go on and nothing run, as if the process was stopped."""
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, trio.testing.MockClock)
    clock.jump(seconds)


class CancelledPastShields(BaseException):
    """A cancellation as asyncio can make one: it is raised where the task waits, through every shield."""


@coroutine
def past_shields(work: Coroutine[Any, Any, Any], at: int) -> Generator[Any, Any, Any]:
    """Runs the work and cancels it, past every shield, when it waits for the `at`-th time, from 1, or soon after. It
    raises `CancelledPastShields` then, perhaps in a group, unless the work comes to its end nevertheless.
    """

    def cancel() -> NoReturn:
        raise CancelledPastShields

    count, is_due = 0, True
    step: Callable[[Any], Any] = work.send
    value: Any = None
    while True:
        try:
            trap = step(value)
        except StopIteration as end:
            return end.value
        abort = getattr(trap, "abort_func", None)  # None: a checkpoint, at which nothing is waited for
        count += abort is not None
        if abort is not None and is_due and count >= at:
            is_due = False
            if abort(cancel) is trio.lowlevel.Abort.SUCCEEDED:
                step, value = work.throw, CancelledPastShields()
                continue  # trio never heard that it waited
        try:
            step, value = work.send, (yield trap)
        except BaseException as error:
            step, value = work.throw, error


@contextmanager
def _order_of(seed: int) -> Iterator[None]:
    internals: Any = trio_run
    if not hasattr(internals, SWITCH) or not hasattr(random_of_trio(), "setstate"):
        raise NotRepeatable(f"trio {trio.__version__} has no seed for its scheduling order; use trio 0.35")
    switch, generator = getattr(internals, SWITCH), random_of_trio()
    state, collects = generator.getstate(), gc.isenabled()
    gc.disable()
    setattr(internals, SWITCH, True)
    generator.seed(seed)
    try:
        yield
    finally:
        generator.setstate(state)
        setattr(internals, SWITCH, switch)
        if collects:
            gc.enable()


def random_of_trio() -> Any:
    """Returns the generator that decides the scheduling order."""
    return getattr(trio_run, GENERATOR, None)


@cache
def ensure_repeatable() -> None:
    """Raises `NotRepeatable` unless the seed decides the order in which tasks run."""
    orders = [_order_of_tasks(seed) for seed in (1, 2, 3, 1, 2, 3)]
    if orders[:3] != orders[3:] or len({tuple(order) for order in orders}) != 3:
        raise NotRepeatable(f"the scheduling order of trio {trio.__version__} does not follow its seed; use trio 0.35")


def _order_of_tasks(seed: int) -> list[int]:
    ran: list[int] = []

    async def work(number: int) -> None:
        for _ in range(TURNS):
            ran.append(number)
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(TASKS):
                nursery.start_soon(work, number)

    with _order_of(seed):
        trio.run(main)
    return ran
