"""Code that swallows its cancellation is cancelled once, then seldom, and not any more once it was abandoned."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

import anyio
import pytest

from statemachine.core.machines import TurnState
from statemachine.core.records import Cause
from statemachine.runtime import AgentControl, Thread, Turn
from statemachine.runtime.tasks import AGAIN_S_MAX
from tests.runtime.running import Open, completed, echo, ending, traced_sessions, virtual_time

pytestmark = pytest.mark.anyio
FIXTURES = (traced_sessions, virtual_time)
GRACE_S = 20.0
MOST = 5 + GRACE_S / AGAIN_S_MAX
"""At 0, 0.1, 0.3, 0.7 and 1.5 seconds, and then every second."""
TOO_MANY = 1_000


class Deaf(Thread):
    """Swallows every cancellation at one place, until it is told to end."""

    where: ClassVar[str] = "run"
    agent_of: ClassVar[str] = "/root/a"
    cancelled: ClassVar[list[float]] = []
    released: ClassVar[anyio.Event]

    @classmethod
    def at(cls, where: str, path: str = "/root/a") -> type[Deaf]:
        return type("ThisDeaf", (cls,), {"where": where, "agent_of": path, "cancelled": [], "released": anyio.Event()})

    async def _hear(self, here: str) -> None:
        is_here = (here, self.agent.path) == (self.where, self.agent_of)
        while is_here and not self.released.is_set() and len(self.cancelled) < TOO_MANY:
            try:
                await self.released.wait()
            except BaseException:
                self.cancelled.append(anyio.current_time())

    async def load(self, history: Any) -> None:
        await self._hear("load")

    async def run(self, turn: Turn) -> Any:
        await self._hear("run")
        return await echo(turn)

    async def flush(self) -> None:
        await self._hear("flush")

    async def close(self) -> None:
        await self._hear("close")


async def interrupted(control: AgentControl) -> None:
    handle = await control.spawn("/root", "a", "x")
    await anyio.wait_all_tasks_blocked()
    await control.interrupt("/root/a")
    outcome = await handle.outcome()
    assert (outcome.status, outcome.cause) == (TurnState.INTERRUPTED, Cause.NOT_STOPPED)


async def loaded_too_slowly(control: AgentControl) -> None:
    outcome = await (await control.spawn("/root", "a", "x")).outcome()
    assert outcome.cause is Cause.LOAD_TIMED_OUT


async def root_loaded_too_slowly(control: AgentControl) -> None:
    await control.start("/root", "x")
    await anyio.sleep(GRACE_S + 1)


async def flushed_too_slowly(control: AgentControl) -> None:
    await (await control.spawn("/root", "a", "x")).outcome()
    await anyio.sleep(6)
    await control.close("/root/a")


async def closed_too_slowly(control: AgentControl) -> None:
    await (await control.spawn("/root", "a", "x")).outcome()
    await control.close("/root/a")


PLACES: dict[str, tuple[str, str, Callable[[AgentControl], Coroutine[Any, Any, None]]]] = {
    "run": ("run", "/root/a", interrupted),
    "load": ("load", "/root/a", loaded_too_slowly),
    "load of the root": ("load", "/root", root_loaded_too_slowly),
    "flush": ("flush", "/root/a", flushed_too_slowly),
    "close": ("close", "/root/a", closed_too_slowly),
}


@pytest.mark.parametrize("place", PLACES)
async def test_code_that_swallows_its_cancellation_is_cancelled_seldom_and_never_after_it_was_abandoned(
    place: str, open_session: Open
) -> None:
    where, path, case = PLACES[place]
    work = Deaf.at(where, path)
    bounds: dict[str, Any] = {"load_timeout": 5.0, "flush_timeout": 5.0, "idle_ttl": 5.0, "stop_grace": GRACE_S}
    async with open_session(work, max_concurrent=3, **bounds) as control:
        began = anyio.current_time()
        try:
            await case(control)
            await anyio.sleep(2 * GRACE_S)
            count = len(work.cancelled)
            assert 1 <= count <= 5 + (anyio.current_time() - began) / AGAIN_S_MAX
            if path != "/root":  # the load of the root is a part of its turn, which goes on
                assert count <= MOST
                await anyio.sleep(1000)
                assert len(work.cancelled) == count
            assert ending(await (await control.spawn("/root", "b", "y")).outcome()) == completed("y")
        finally:
            work.released.set()


async def test_code_that_swallows_one_cancellation_stops_at_the_next_and_is_not_abandoned(open_session: Open) -> None:
    async def work(_: Turn) -> None:
        with anyio.CancelScope() as own:
            try:
                await anyio.sleep_forever()
            except BaseException:
                assert not own.cancel_called
            await anyio.sleep_forever()

    async with open_session(work, stop_grace=GRACE_S) as control:
        handle = await control.spawn("/root", "a", "x")
        await anyio.wait_all_tasks_blocked()
        began = anyio.current_time()
        await control.interrupt("/root/a")
        assert (await handle.outcome()).cause is Cause.INTERRUPTED
        assert anyio.current_time() - began < 1


async def test_clean_up_after_a_cancellation_may_await_a_little(open_session: Open) -> None:
    cleaned: list[str] = []

    async def work(turn: Turn) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            await anyio.sleep(0.01)
            cleaned.append(turn.path)

    async with open_session(work) as control:
        handle = await control.spawn("/root", "a", "x")
        await anyio.wait_all_tasks_blocked()
        await control.interrupt("/root/a")
        assert (await handle.outcome()).cause is Cause.INTERRUPTED
        assert cleaned == ["/root/a"]


async def test_code_that_was_abandoned_is_cancelled_seldom_again_when_the_session_is_left(open_session: Open) -> None:
    cancelled: list[float] = []

    async def work(_: Turn) -> None:
        while len(cancelled) < 6:
            try:
                await anyio.sleep_forever()
            except BaseException:
                cancelled.append(anyio.current_time())

    async with open_session(work, stop_grace=0.25) as control:
        handle = await control.spawn("/root", "a", "x")
        await anyio.wait_all_tasks_blocked()
        await control.interrupt("/root/a")
        assert (await handle.outcome()).cause is Cause.NOT_STOPPED
        await anyio.sleep(1000)
        assert len(cancelled) == 2
    pauses = [after - before for before, after in itertools.pairwise(cancelled[2:])]
    assert pauses == pytest.approx([0.1, 0.2, 0.4])
