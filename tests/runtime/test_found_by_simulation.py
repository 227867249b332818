"""Faults of the runtime that simulated lives have found, each as small as it could be made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any

import anyio
import pytest

from statemachine.core.events import HOST, ROOT, Close, Forget, Spawn
from statemachine.core.machines import TurnState
from statemachine.core.refusals import UnknownAgent
from statemachine.runtime import AgentControl, ThreadLost, Turn, UnknownPath
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


class Gated(MemoryStore):
    """Its appends wait while the gate is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = anyio.Event()
        self.gate.set()

    async def append(self, items: Sequence[Write | Snapshot]) -> None:
        await self.gate.wait()
        await super().append(items)

    async def hold(
        self, forget: Callable[[], Coroutine[Any, Any, object]], calls: Iterable[Callable[[], Awaitable[object]]]
    ) -> None:
        """Checks that none of the calls tells anything while it is not durable that the agent is forgotten."""
        self.gate = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(forget)
            await anyio.wait_all_tasks_blocked()
            try:
                for call in calls:
                    with anyio.move_on_after(1) as scope:
                        await call()
                    assert scope.cancelled_caught, "it waits"
            finally:
                self.gate.set()


async def test_reference_is_refused_as_forgotten_only_when_that_is_durable(open_session: Open) -> None:
    store = Gated()
    async with open_session(echo, store) as control:
        handle = await control.spawn("/root", "a", "x")
        await handle.outcome()
        await control.close("/root/a")
        calls = [partial(call, handle.ref) for call in (control.handle, control.history)]
        await store.hold(partial(control.forget, "/root/a"), calls)
        with pytest.raises(UnknownAgent):
            await control.handle(handle.ref)


async def test_path_is_unknown_only_when_it_is_durable_that_its_agent_is_forgotten(open_session: Open) -> None:
    """A crash before that would undo it, and the path would lead to the agent again."""
    store, path = Gated(), "/root/a"

    def calls_of(by: AgentControl | Turn) -> list[Callable[[], Awaitable[object]]]:
        with_text = [partial(verb, path, "x") for verb in (by.send, by.follow_up)]
        return [
            *with_text,
            *[partial(verb, path) for verb in (by.interrupt, by.close, by.resume, by.status, by.history)],
        ]

    async def work(turn: Turn) -> None:
        if turn.path == "/root":
            await store.hold(partial(control.forget, path), [*calls_of(turn), partial(turn.wait, 5, (path,))])

    async with open_session(work, store) as control:
        for forgets_in_a_turn in (False, True):
            await (await control.spawn("/root", "a", "x")).outcome()
            await control.close(path)
            if forgets_in_a_turn:
                outcome = await (await control.start("/root", "go")).outcome()
                assert outcome.status is TurnState.COMPLETED, outcome
            else:
                more = [partial(control.spawn, path, "b", "x"), partial(control.start, path, "x")]
                await store.hold(
                    partial(control.forget, path), [*calls_of(control), *more, partial(control.forget, path)]
                )
            with pytest.raises(UnknownPath):
                await control.status(path)


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
