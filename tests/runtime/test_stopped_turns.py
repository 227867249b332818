"""A turn that was asked to stop, and whose code hears of that from a verb before its cancellation comes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from statemachine.core.events import HOST, Close, Event, Interrupt, Shutdown, Tick
from statemachine.core.machines import TurnState
from statemachine.core.records import Cause
from statemachine.core.refusals import NotRunning
from statemachine.runtime import AgentControl, Turn
from statemachine.runtime.control import inside
from tests.runtime.running import Open, echo, traced_sessions, virtual_time

pytestmark = pytest.mark.anyio
FIXTURES = (traced_sessions, virtual_time)

Stop = Callable[[AgentControl, int], Event]
STOPS: dict[str, tuple[Stop, Cause]] = {
    "interrupt": (lambda _, agent: Interrupt(HOST, agent), Cause.INTERRUPTED),
    "interrupt of a subtree": (lambda _, __: Interrupt(HOST, 0, True), Cause.INTERRUPTED),
    "shutdown": (lambda _, __: Shutdown(0.0), Cause.SHUT_DOWN),
    "turn_timeout": (lambda control, _: Tick(inside(control).session.deadlines.next() or 0.0), Cause.TIMED_OUT),
}


async def lent(turn: Turn) -> None:
    async with turn.lend():
        pass


async def in_tasks(turn: Turn) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(turn.drain)
        group.start_soon(turn.wait)
        group.start_soon(anyio.sleep_forever)


async def shielded(turn: Turn) -> None:
    with anyio.CancelScope(shield=True):
        await turn.drain()


VERBS: dict[str, Callable[[Turn], Awaitable[object]]] = {
    "drain": lambda turn: turn.drain(),
    "wait": lambda turn: turn.wait(1),
    "lend": lent,
    "several in tasks": in_tasks,
    "shielded": shielded,
}


def stopping(stop: Stop, then: Callable[[Turn], Awaitable[object]], control: list[AgentControl]) -> Any:
    """Work whose first turn is asked to stop, and does this before anything of that is carried out."""

    async def work(turn: Turn) -> str:
        if turn.path == "/root/a" and turn.number == 1:
            engine, session = inside(control[0]).engine, inside(control[0]).session
            engine.apply_at_once(stop(control[0], turn.agent.id))
            engine.apply_at_once(Tick(session.now))  # ends the grace of a shutdown without one
            await then(turn)
        return await echo(turn)

    return work


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("how", STOPS)
async def test_turn_that_ends_by_the_refusal_of_a_verb_after_it_was_asked_to_stop_is_interrupted(
    open_session: Open, how: str, verb: str, caplog: pytest.LogCaptureFixture
) -> None:
    stop, cause = STOPS[how]
    opened: list[AgentControl] = []
    async with open_session(stopping(stop, VERBS[verb], opened), turn_timeout=60.0) as control:
        opened.append(control)
        outcome = await (await control.spawn("/root", "a", "x")).outcome()
        assert (outcome.status, outcome.cause) == (TurnState.INTERRUPTED, cause)
        if how != "shutdown":
            assert (await (await control.follow_up("/root/a", "y")).outcome()).status is TurnState.COMPLETED
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def wrapped(turn: Turn) -> None:
    try:
        await shielded(turn)
    except NotRunning as error:
        raise ValueError("of a tool") from error


async def beside_an_error(turn: Turn) -> None:
    try:
        await shielded(turn)
    except NotRunning as error:
        raise ExceptionGroup("both", [error, ValueError("of a tool")]) from None


async def of_another_turn(turn: Turn) -> None:
    raise NotRunning(turn.agent.id, turn.number + 1, turn.path)


async def of_no_turn(_: Turn) -> None:
    raise NotRunning([], float("nan"), "")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("then", [wrapped, beside_an_error, of_another_turn, of_no_turn])
async def test_turn_that_was_asked_to_stop_and_raises_an_error_of_its_own_is_errored(
    open_session: Open, then: Callable[[Turn], Awaitable[object]]
) -> None:
    opened: list[AgentControl] = []
    async with open_session(stopping(STOPS["interrupt"][0], then, opened)) as control:
        opened.append(control)
        outcome = await (await control.spawn("/root", "a", "x")).outcome()
        assert (outcome.status, outcome.cause) == (TurnState.ERRORED, Cause.FAILED)


async def test_turn_that_was_not_asked_to_stop_and_raises_the_refusal_of_a_verb_is_errored(open_session: Open) -> None:
    async def work(turn: Turn) -> None:
        raise NotRunning(turn.agent.id, turn.number, turn.path)

    async with open_session(work) as control:
        outcome = await (await control.spawn("/root", "a", "x")).outcome()
        assert (outcome.status, outcome.cause) == (TurnState.ERRORED, Cause.FAILED)


async def test_turn_whose_agent_is_closed_and_that_ends_by_the_refusal_of_a_verb_is_told_as_closed(
    open_session: Open,
) -> None:
    opened: list[AgentControl] = []
    async with open_session(stopping(lambda _, agent: Close(HOST, agent), VERBS["drain"], opened)) as control:
        opened.append(control)
        outcome = await (await control.spawn("/root", "a", "x")).outcome()
        assert (outcome.status, outcome.cause) == (TurnState.INTERRUPTED, Cause.CLOSED)
