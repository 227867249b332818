"""Threads that report at any time that they are lost (harm, kind 14)."""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from statemachine import SlotPolicy
from statemachine.core.machines import TurnState
from statemachine.core.records import Cause
from statemachine.core.slots import Slots
from statemachine.runtime import AgentInfo, Thread, Turn
from tests.runtime.running import (
    Open,
    completed,
    counts,
    echo,
    ending,
    recorder,
    states,
    traced_sessions,
    virtual_time,
)

pytestmark = pytest.mark.anyio
FIXTURES = (traced_sessions, virtual_time)


class Mortal(Thread):
    """Depends on something that may die: all of the class are in `born`."""

    born: list[Mortal]
    closed: list[int]
    hang: set[str]

    def __init__(self, agent: AgentInfo) -> None:
        super().__init__(agent)
        self.number = len(self.born)
        self.born.append(self)

    async def _do(self, what: str) -> None:
        if what in self.hang:
            self.hang.remove(what)
            await anyio.sleep_forever()

    async def load(self, history: Sequence[Any]) -> None:
        self.read = len(history)
        await self._do("load")

    async def run(self, turn: Turn) -> str:
        await self._do("run")
        return f"{self.number}: {await echo(turn)}"

    async def flush(self) -> None:
        await self._do("flush")

    async def close(self) -> None:
        self.closed.append(self.number)


def mortal() -> type[Mortal]:
    """A class of such threads of its own."""
    return type("ThisMortal", (Mortal,), {"born": [], "closed": [], "hang": set()})


class Sealed(Mortal):
    """Its attributes cannot be set any more, once the constructor or `load` is over, as those of a frozen dataclass."""

    sealed_at: str
    is_sealed = False

    def __init__(self, agent: AgentInfo) -> None:
        super().__init__(agent)
        self._seal("init")

    def _seal(self, at: str) -> None:
        if at == self.sealed_at:
            object.__setattr__(self, "is_sealed", True)

    def __setattr__(self, name: str, value: Any) -> None:
        if self.is_sealed:
            raise AttributeError(f"cannot assign to {name}")
        super().__setattr__(name, value)

    @property
    def _tell(self) -> str:
        return "a name of its own"

    async def load(self, history: Sequence[Any]) -> None:
        self._seal("load")


@pytest.mark.parametrize("at", ["init", "load"])
async def test_thread_whose_attributes_cannot_be_set_harms_no_other_and_can_be_lost(
    at: str, open_session: Open
) -> None:
    sealed: type[Sealed] = type("ThisSealed", (Sealed,), {"sealed_at": at, "born": [], "closed": [], "hang": set()})
    async with open_session({"default": echo, "sealed": sealed}) as control:
        first = await control.spawn("/root", "a", "x", role="sealed")
        assert ending(await first.outcome()) == completed("0: x")
        sealed.born[0].report_lost("its process has died")
        assert ending(await (await control.follow_up("/root/a", "y")).outcome()) == completed("1: y")
        await control.close("/root/a")
        assert ending(await (await control.spawn("/root", "b", "z")).outcome()) == completed("z")
    assert sealed.closed == [0, 1]


@pytest.mark.parametrize("path", ["/root", "/root/a"])
@pytest.mark.parametrize("why", ["its process has died", ConnectionError("closed by the other side")])
async def test_idle_thread_that_reports_its_loss_is_closed_and_the_next_request_loads_it_anew(
    open_session: Open, path: str, why: Any
) -> None:
    work = mortal()
    async with open_session(work) as control:
        first = await (control.start(path, "x") if path == "/root" else control.spawn("/root", "a", "x"))
        assert ending(await first.outcome()) == completed("0: x")
        before = await control.status(path)
        work.born[0].report_lost(why)
        await anyio.wait_all_tasks_blocked()
        assert work.closed == [0]
        assert counts(control) == {}
        assert (await control.status(path)).outcome == before.outcome
        assert (await control.status(path)).status is TurnState.COMPLETED
        assert len(work.born) == 1, "nothing is loaded before a turn needs it"
        assert ending(await (await control.follow_up(path, "y")).outcome()) == completed("1: y")
        assert work.born[1].read > 0
    assert work.closed == [0, 1]


async def test_task_that_watches_for_a_thread_reports_its_loss(open_session: Open) -> None:
    work = mortal()
    died = anyio.Event()

    async def watch(thread: Thread) -> None:
        await died.wait()
        thread.report_lost("its process has died")

    async with anyio.create_task_group() as tasks, open_session(work) as control:
        await (await control.spawn("/root", "a", "x")).outcome()
        tasks.start_soon(watch, work.born[0])
        died.set()
        await anyio.wait_all_tasks_blocked()
        assert await states(control) == {"/root/a": "completed"}


@pytest.mark.parametrize(
    ("attempts", "expected"), [(1, (TurnState.ERRORED, "its thread died: gone")), (2, completed("1: x"))]
)
async def test_turn_under_way_whose_thread_reports_its_loss_ends_as_by_thread_lost(
    open_session: Open, attempts: int, expected: Any
) -> None:
    work = mortal()
    work.hang.add("run")
    async with open_session(work, max_attempts=attempts) as control:
        handle = await control.spawn("/root", "a", "x")
        await anyio.wait_all_tasks_blocked()
        work.born[0].report_lost("gone")
        assert ending(await handle.outcome()) == expected
        await anyio.wait_all_tasks_blocked()
        assert work.closed == [0]


async def test_turn_that_reports_the_loss_of_its_own_thread_ends_there(open_session: Open) -> None:
    class Hara(Thread):
        async def run(self, turn: Turn) -> str:
            self.report_lost("by its own hand")
            await anyio.lowlevel.checkpoint()
            return "went on"

    async with open_session(Hara) as control:
        outcome = await (await control.spawn("/root", "a", "x")).outcome()
        assert (outcome.cause, outcome.result) == (Cause.THREAD_DIED, "its thread died: by its own hand")


async def test_thread_that_is_lost_while_it_loads_or_is_flushed_is_gone(open_session: Open) -> None:
    work = mortal()
    work.hang.add("load")
    async with open_session(work, max_resident=1, max_concurrent=2) as control:
        handle = await control.spawn("/root", "a", "x")
        await anyio.wait_all_tasks_blocked()
        work.born[0].report_lost("gone")
        assert (await handle.outcome()).cause is Cause.LOAD_DIED
        assert ending(await (await control.follow_up("/root/a", "y")).outcome()) == completed("1: x y")
        work.hang.add("flush")
        other = await control.spawn("/root", "b", "z")
        await anyio.wait_all_tasks_blocked()
        work.born[1].report_lost("gone")
        assert ending(await other.outcome()) == completed("2: z")
    assert work.closed == [0, 1, 2]


async def test_live_thread_that_reports_its_loss_closes_its_agent(open_session: Open) -> None:
    work = mortal()
    async with open_session(work, slot_policy=SlotPolicy.LIVE_THREADS) as control:
        await (await control.spawn("/root", "a", "x")).outcome()
        work.born[0].report_lost("gone")
        await anyio.wait_all_tasks_blocked()
        assert await states(control) == {}
        assert counts(control) == {}


async def test_loss_of_a_thread_that_is_dropped_already_changes_nothing(open_session: Open) -> None:
    work = mortal()
    async with open_session(work) as control:
        await (await control.spawn("/root", "a", "x")).outcome()
        work.born[0].report_lost("gone")
        assert ending(await (await control.follow_up("/root/a", "y")).outcome()) == completed("1: y")
        work.born[0].report_lost("gone")
        await control.close("/root/a")
        await anyio.wait_all_tasks_blocked()
        work.born[1].report_lost("gone")
        assert control.statistics().stale_reports == 0
    work.born[1].report_lost("after the end")
    assert work.closed == [0, 1]


async def test_loss_in_the_constructor_is_refused_and_the_load_has_failed(open_session: Open) -> None:
    class Stillborn(Thread):
        def __init__(self, agent: AgentInfo) -> None:
            super().__init__(agent)
            self.report_lost("at once")

    async with open_session(Stillborn) as control:
        outcome = await (await control.spawn("/root", "a", "x")).outcome()
        assert outcome.cause is Cause.LOAD_FAILED
        assert "raise an error in `__init__` instead" in str(outcome.result)


@pytest.mark.parametrize("why", [None, 3, b"gone"])
async def test_loss_for_a_reason_that_is_not_a_text_is_refused(open_session: Open, why: Any) -> None:
    work = recorder()
    threads: list[Thread] = []
    work.play = staticmethod(echo)

    class Kept(work):  # type: ignore[valid-type,misc]
        def __init__(self, agent: AgentInfo) -> None:
            super().__init__(agent)
            threads.append(self)

    async with open_session(Kept) as control:
        await (await control.spawn("/root", "a", "x")).outcome()
        with pytest.raises(TypeError, match="a reason is a text"):
            threads[0].report_lost(why)
        assert await states(control) == {"/root/a": "completed loaded"}


async def test_loss_reported_by_another_thread_of_the_machine_is_heard(open_session: Open) -> None:
    work = mortal()
    async with open_session(work) as control:
        await (await control.spawn("/root", "a", "x")).outcome()
        in_thread(lambda: work.born[0].report_lost("gone"))
        assert await states(control) == {"/root/a": "completed"}
        in_thread(lambda: work.born[0].report_lost("again"))
        assert await states(control) == {"/root/a": "completed"}


@pytest.mark.parametrize("by", ["finalizer", "signal"])
async def test_loss_reported_in_the_middle_of_a_step_is_heard_after_it(
    by: str, open_session: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The collector calls finalizers anywhere, and a signal comes at any time."""
    work, steps = mortal(), 0
    reserve = Slots.reserve

    class Resource:
        def __init__(self, thread: Any) -> None:
            self.cycle, self.thread = self, thread

        def __del__(self) -> None:
            self.thread.report_lost("its resource is gone")

    def reserved(*given: Any) -> None:  # in the middle of a step
        nonlocal steps
        reserve(*given)
        if work.born:
            steps += 1
            if by == "signal":
                before = signal.signal(signal.SIGUSR1, lambda *_: work.born[-1].report_lost("a signal said so"))
                signal.raise_signal(signal.SIGUSR1)
                signal.signal(signal.SIGUSR1, before)
            else:
                Resource(work.born[-1])
                gc.collect()

    monkeypatch.setattr(Slots, "reserve", reserved)
    async with open_session(work, max_concurrent=3) as control:
        await (await control.spawn("/root", "a", "x")).outcome()
        for number in range(5):
            for asked in (control.spawn("/root", f"b{number}", "x"), control.follow_up("/root/a", "x")):
                outcome = await (await asked).outcome()
                assert outcome.cause in (Cause.FINISHED, Cause.THREAD_DIED)
    assert steps == 10


def in_thread(call: Any) -> None:
    """Calls it in another thread of the machine, and waits for that."""
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
