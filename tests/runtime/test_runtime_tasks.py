"""The task of a thread: all calls of its code are made there, and what one of them does to it ends with that call."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
import weakref
from collections.abc import Callable, Generator
from contextvars import Context, ContextVar
from typing import Any, ClassVar

import anyio
import pytest

from statemachine.core.config import SessionConfig
from statemachine.core.events import HOST, ROOT, Interrupt, Start
from statemachine.core.machines import TurnState
from statemachine.runtime import AgentControl, Thread, ThreadLost, Turn
from statemachine.runtime.control import inside
from statemachine.runtime.tasks import own_context
from statemachine.stores import LogRecord, MemoryStore
from tests.runtime.running import Open, completed, counts, ending, traced_sessions, virtual_time

pytestmark = pytest.mark.anyio
FIXTURES = (traced_sessions, virtual_time)
ONLY_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)


class Located(Thread):
    """Notes in which task its code runs."""

    where: ClassVar[list[tuple[str, int]]] = []

    def note(self, what: str) -> None:
        self.where.append((what, anyio.get_current_task().id))

    async def load(self, history: tuple[LogRecord, ...]) -> None:
        self.note("load")

    async def run(self, turn: Turn) -> str:
        self.note("run")
        return "done"

    async def flush(self) -> None:
        self.note("flush")

    async def close(self) -> None:
        self.note("close")


async def test_all_code_of_a_thread_runs_in_one_task_which_ends_with_it(open_session: Open) -> None:
    Located.where.clear()
    async with open_session(Located, max_concurrent=2, idle_ttl=10.0) as control:
        before = len(anyio.get_running_tasks())
        await (await control.spawn("/root", "a", "x")).outcome()
        await (await control.follow_up("/root/a", "y")).outcome()
        assert len(anyio.get_running_tasks()) == before + 1
        await anyio.sleep(11)
        await anyio.wait_all_tasks_blocked()
        assert [what for what, _ in Located.where] == ["load", "run", "run", "flush", "close"]
        assert len({task for _, task in Located.where}) == 1
        assert len(anyio.get_running_tasks()) == before


async def test_context_variables_that_a_turn_sets_are_gone_with_it(open_session: Open) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="nothing")
    seen: list[str] = []

    async def work(turn: Turn) -> None:
        seen.append(variable.get())
        token = variable.set(turn.mail[0].text)
        await anyio.lowlevel.checkpoint()
        seen.append(variable.get())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep, 1)
        variable.reset(token)
        variable.set("left behind")

    variable.set("of the host")
    async with open_session(work) as control:
        handle = await control.spawn("/root", "a", "first")
        await handle.outcome()
        await (await control.follow_up("/root/a", "second")).outcome()
    assert seen == ["nothing", "first", "nothing", "second"]


async def test_code_with_a_context_of_its_own_returns_raises_and_is_cancelled_as_without() -> None:
    async def returns() -> int:
        await anyio.lowlevel.checkpoint()
        return 7

    async def raises() -> None:
        await anyio.lowlevel.checkpoint()
        raise ValueError("no")

    ended: list[str] = []

    async def hangs() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("cancelled")

    assert await own_context(returns(), Context()) == 7
    with pytest.raises(ValueError, match="no"):
        await own_context(raises(), Context())
    with anyio.move_on_after(1) as scope:
        await own_context(hangs(), Context())
    assert (scope.cancelled_caught, ended) == (True, ["cancelled"])


async def test_objects_of_a_turn_that_was_interrupted_or_failed_are_gone_with_it(
    open_session: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pytest keeps what is logged, and with an exception all that its frames hold
    monkeypatch.setattr(logging.getLogger("statemachine"), "disabled", True)

    class Big:
        pass

    alive: list[weakref.ref[Big]] = []

    async def work(turn: Turn) -> None:
        big = Big()
        alive.append(weakref.ref(big))
        if turn.number == 1:
            await anyio.sleep_forever()
        await anyio.lowlevel.checkpoint()
        raise ValueError("no")

    async with open_session(work) as control:
        gc.disable()
        try:
            handle = await control.spawn("/root", "a", "x")
            await anyio.wait_all_tasks_blocked()
            await control.interrupt("/root/a")
            await handle.outcome()
            await (await control.follow_up("/root/a", "y")).outcome()
            await anyio.wait_all_tasks_blocked()
            assert [ref() for ref in alive] == [None, None]
        finally:
            gc.enable()


class Closing(Thread):
    """Its `close` is looked at."""

    closed: ClassVar[list[str]] = []

    async def run(self, turn: Turn) -> str:
        if turn.mail[0].text == "leave":
            raise GeneratorExit
        return turn.mail[0].text

    async def close(self) -> None:
        time.sleep(0.05)
        self.closed.append(self.agent.path)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("stop_grace", [0.0, 0.25])
def test_threads_that_rest_are_all_closed_though_each_takes_its_time(backend: str, stop_grace: float) -> None:
    """In real time, because closing blocks the event loop: altogether for longer than `stop_grace`."""
    Closing.closed.clear()
    config = SessionConfig(stop_grace=stop_grace, max_resident=8, max_concurrent=9)

    async def live() -> None:
        async with AgentControl.open(MemoryStore(), Closing, config) as control:
            for number in range(8):
                await (await control.spawn("/root", f"a{number}", "x")).outcome()

    anyio.run(live, backend=backend)
    assert sorted(Closing.closed) == [f"/root/a{number}" for number in range(8)]


async def test_code_that_raises_generator_exit_fails_its_turn_and_its_thread_goes_on(open_session: Open) -> None:
    Closing.closed.clear()
    async with open_session(Closing) as control:
        outcome = await (await control.spawn("/root", "a", "leave")).outcome()
        assert outcome.status is TurnState.ERRORED
        assert ending(await (await control.follow_up("/root/a", "y")).outcome()) == completed("y")
    assert Closing.closed == ["/root/a"]


async def test_close_may_return_anything_that_can_be_awaited(open_session: Open) -> None:
    closed: list[str] = []

    class Promise:
        def __await__(self) -> Generator[Any, Any, None]:
            closed.append("promise")
            yield from anyio.lowlevel.checkpoint().__await__()

    class Promising(Thread):
        async def run(self, turn: Turn) -> None:
            pass

        def close(self) -> Any:
            return Promise()

    async with open_session(Promising) as control:
        await (await control.spawn("/root", "a", "x")).outcome()
    assert closed == ["promise"]


async def test_root_whose_first_turn_is_interrupted_before_it_begins_is_loaded_for_the_next(
    open_session: Open,
) -> None:
    Located.where.clear()
    async with open_session(Located) as control:
        inside(control).engine.apply(Start(ROOT, "x"))
        inside(control).engine.apply(Interrupt(HOST, ROOT))  # in one commit
        await anyio.wait_all_tasks_blocked()
        assert [what for what, _ in Located.where] == ["close"]
        await (await control.start("/root", "y")).outcome()
        assert [what for what, _ in Located.where] == ["close", "load", "run"]


kept: list[asyncio.Task[Any]] = []


class Cancelling(Thread):
    """Asks asyncio to cancel its task, and is lost."""

    closed: ClassVar[list[str]] = []

    async def run(self, turn: Turn) -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        raise ThreadLost("gone")

    async def close(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.closed.append(self.agent.path)


@ONLY_ASYNCIO
async def test_thread_that_cancels_its_task_and_is_lost_is_closed(open_session: Open) -> None:
    Cancelling.closed.clear()
    async with open_session(Cancelling) as control:
        assert (await (await control.spawn("/root", "a", "x")).outcome()).status is TurnState.ERRORED
        await anyio.wait_all_tasks_blocked()
        assert Cancelling.closed == ["/root/a"]


async def cancels_its_task(turn: Turn) -> str:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    return "went on"


async def cancels_its_task_and_waits(turn: Turn) -> str:
    await cancels_its_task(turn)
    await anyio.sleep(1)
    return "went on"


async def keeps_its_task(turn: Turn) -> str:
    task = asyncio.current_task()
    assert task is not None
    kept.append(task)
    return "went on"


@ONLY_ASYNCIO
@pytest.mark.parametrize(
    ("misdeed", "status"),
    [
        (cancels_its_task, TurnState.COMPLETED),
        (cancels_its_task_and_waits, TurnState.ERRORED),
        (keeps_its_task, TurnState.COMPLETED),
    ],
)
async def test_task_that_a_turn_cancels_serves_the_next_turn_as_if_new(
    open_session: Open, misdeed: Callable[[Turn], Any], status: TurnState
) -> None:
    kept.clear()

    async def work(turn: Turn) -> str:
        if turn.number == 1:
            said: str = await misdeed(turn)
            return said
        task = asyncio.current_task()
        assert task is not None
        try:
            async with asyncio.timeout(1):
                await anyio.sleep_forever()
        except TimeoutError:
            return f"timed out, {task.cancelling()} cancellations"
        return "never"

    async with open_session(work) as control:
        first = await (await control.spawn("/root", "a", "x")).outcome()
        assert first.status is status
        await anyio.wait_all_tasks_blocked()
        for task in kept:
            task.cancel()
        await anyio.wait_all_tasks_blocked()
        for _ in range(2):
            outcome = await (await control.follow_up("/root/a", "y")).outcome()
            assert ending(outcome) == completed("timed out, 0 cancellations")
        assert counts(control) == {"resident": 1}


left_entered: list[anyio.CancelScope] = []


def enters_a_scope_for_ever() -> None:
    left_entered.append(anyio.CancelScope())
    left_entered[-1].__enter__()


def enters_a_time_out_for_ever() -> None:
    left_entered.append(anyio.move_on_after(0.5))
    left_entered[-1].__enter__()


async def is_interrupted(control: AgentControl) -> TurnState:
    slow = await control.follow_up("/root/a", "sleep")
    await anyio.wait_all_tasks_blocked()
    await control.interrupt("/root/a")
    return (await slow.outcome()).status


async def raises(control: AgentControl) -> TurnState:
    return (await (await control.follow_up("/root/a", "raise")).outcome()).status


async def is_evicted(control: AgentControl) -> TurnState:
    for name in ("c", "d"):
        await (await control.spawn("/root", name, "x")).outcome()
    return TurnState.ERRORED


MISDEEDS = pytest.mark.parametrize("misdeed", [enters_a_scope_for_ever, enters_a_time_out_for_ever])
THEN = pytest.mark.parametrize("then", [is_interrupted, raises, is_evicted])


def misbehaving(misdeed: Callable[[], None]) -> Callable[[Turn], Any]:
    async def work(turn: Turn) -> str:
        if turn.number == 1 and turn.path == "/root/a":
            misdeed()
        elif turn.mail[0].text == "raise":
            raise ValueError("of the code")
        elif turn.mail[0].text == "sleep":
            await anyio.sleep(2)
        return "done"

    return work


@pytest.mark.parametrize("anyio_backend", ["trio"], indirect=True)
@MISDEEDS
@THEN
async def test_code_that_leaves_a_scope_entered_costs_its_own_thread_only(
    open_session: Open, caplog: pytest.LogCaptureFixture, misdeed: Callable[[], None], then: Callable[..., Any]
) -> None:
    async with open_session(misbehaving(misdeed), max_concurrent=3, max_resident=2) as control:
        await (await control.spawn("/root", "b", "x")).outcome()
        assert ending(await (await control.spawn("/root", "a", "x")).outcome()) == completed("done")
        assert await then(control) is not TurnState.COMPLETED
        assert "left a scope entered" in caplog.text
        for _ in range(2):
            for path in ("/root/a", "/root/b"):
                assert ending(await (await control.follow_up(path, "y")).outcome()) == completed("done")
                await anyio.sleep(1)
        assert await is_interrupted(control) is TurnState.INTERRUPTED


@ONLY_ASYNCIO
@MISDEEDS
@THEN
async def test_code_that_leaves_a_scope_entered_ends_the_session_on_asyncio_and_hangs_nothing(
    open_session: Open, caplog: pytest.LogCaptureFixture, misdeed: Callable[[], None], then: Callable[..., Any]
) -> None:
    """There the task cannot be left in order any more. What was acknowledged is in the log."""
    store = MemoryStore()

    async def session() -> None:
        async with open_session(misbehaving(misdeed), store=store, max_concurrent=3, max_resident=2) as control:
            await (await control.spawn("/root", "b", "x")).outcome()
            assert ending(await (await control.spawn("/root", "a", "x")).outcome()) == completed("done")
            assert await then(control) is not TurnState.COMPLETED
            await anyio.sleep_forever()

    with pytest.raises(RuntimeError, match="cancel scope"):
        await session()
    assert "left a scope entered" in caplog.text
    async with open_session(misbehaving(misdeed), store=store, max_concurrent=3, max_resident=2) as control:
        for path in ("/root/a", "/root/b"):
            assert ending(await (await control.follow_up(path, "y")).outcome()) == completed("done")
