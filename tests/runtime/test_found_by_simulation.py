"""Faults of the runtime that simulated lives have found, each as small as it could be made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from statemachine.core.events import HOST, ROOT, Close, Forget, Spawn
from statemachine.core.machines import TurnState
from statemachine.core.refusals import UnknownAgent
from statemachine.runtime import AgentControl, ThreadLost, Turn
from statemachine.runtime.control import inside
from statemachine.stores import MemoryStore
from statemachine.stores.protocol import Snapshot, Write
from tests.runtime.running import Open, Stage, echo, recorder, traced_sessions, virtual_time

pytestmark = pytest.mark.anyio
FIXTURES = (traced_sessions, virtual_time)


async def test_task_that_fails_while_the_session_is_cancelled_around_it_does_not_leave_the_block_by_its_error(
    open_session: Open,
) -> None:
    works = anyio.Event()

    async def fail_when_cancelled() -> None:
        works.set()
        try:
            await anyio.sleep_forever()
        finally:
            raise ValueError("of an agent's code")

    async def work(_: Turn) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fail_when_cancelled)
            await anyio.sleep_forever()

    with anyio.CancelScope() as scope:
        async with open_session(work) as control:
            await control.spawn("/root", "a", "x")
            await works.wait()
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught


async def test_turn_whose_agent_is_closed_before_its_code_begins_knows_its_attempt(open_session: Open) -> None:
    attempts: list[int] = []
    stage = Stage()

    async def work(turn: Turn) -> Any:
        attempts.append(turn.attempt)
        if turn.attempt == 1:
            raise ThreadLost("for the first time")
        return await stage(turn)

    async with open_session(work, max_attempts=3) as control:
        await control.spawn("/root", "a", "x")
        close_when_it_starts(control, turn=2)
        while len(attempts) < 2:
            await anyio.lowlevel.checkpoint()
    assert attempts == [1, 2]


def close_when_it_starts(control: AgentControl, turn: int) -> None:
    """The core closes the agent as soon as the turn is durable, and before the runtime carries out its start."""
    engine = inside(control).engine
    publish = engine.publish

    def close(events: Any) -> None:
        publish(events)
        agent = inside(control).session.agents[1]
        if (agent.turn, agent.status) == (turn, TurnState.RUNNING):
            engine.apply(Close(HOST, agent.id))

    engine.publish = close


async def test_reference_is_refused_as_forgotten_only_when_that_is_durable(open_session: Open) -> None:
    gate = anyio.Event()
    gate.set()

    class Gated(MemoryStore):
        async def append(self, items: Sequence[Write | Snapshot]) -> None:
            await gate.wait()
            await super().append(items)

    async with open_session(echo, Gated()) as control:
        handle = await control.spawn("/root", "a", "x")
        await handle.outcome()
        await control.close("/root/a")
        gate = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(control.forget, "/root/a")
            await anyio.wait_all_tasks_blocked()
            try:
                for call in (control.handle, control.history):
                    with anyio.move_on_after(1) as scope:
                        await call(handle.ref)
                    assert scope.cancelled_caught, "it waits"
            finally:
                gate.set()
        with pytest.raises(UnknownAgent):
            await control.handle(handle.ref)


async def test_thread_of_an_agent_that_is_forgotten_in_the_commit_that_loads_it_is_not_built(
    open_session: Open,
) -> None:
    """It would be built for no path and without its settings."""
    work = recorder()
    async with open_session(work) as control:
        engine = inside(control).engine
        for event in (Spawn(ROOT, "a", "x", '{"role":"default","settings":1}'), Close(HOST, 1), Forget(1)):
            engine.apply(event)
        await engine.settled()
        await anyio.wait_all_tasks_blocked()
        assert work.log == []
        await (await control.spawn("/root", "b", "x")).outcome()
    assert work.log[0] == "new /root/b"
