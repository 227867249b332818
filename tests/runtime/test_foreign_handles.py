"""Handles and references of another session, whose numbers are those of agents and mail here (harm)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from statemachine import MemoryStore, Turn
from statemachine.errors import UnknownAgent, UnknownRequest
from statemachine.runtime import AgentControl, AgentRef, Handle
from tests.runtime.running import Open, Stage, completed, echo, ending, traced_sessions, virtual_time

pytestmark = pytest.mark.anyio
FIXTURES = (traced_sessions, virtual_time)

Verb = Callable[[AgentControl, Any], Coroutine[Any, Any, Any]]
TO_AN_AGENT: dict[str, Verb] = {
    "spawn": lambda control, named: control.spawn(named, "x", "go"),
    "spawn with a key": lambda control, named: control.spawn(named, "x", "go", key="k"),
    "send": lambda control, named: control.send(named, "x"),
    "follow_up": lambda control, named: control.follow_up(named, "x"),
    "start": lambda control, named: control.start(named, "x"),
    "interrupt": lambda control, named: control.interrupt(named),
    "close": lambda control, named: control.close(named),
    "resume": lambda control, named: control.resume(named),
    "forget": lambda control, named: control.forget(named),
    "status": lambda control, named: control.status(named),
    "history": lambda control, named: control.history(named),
    "withdraw": lambda control, named: control.withdraw(named),
}


async def two(control: AgentControl) -> tuple[Handle, Handle]:
    """Has an agent that works, and one whose mail is unread."""
    return await control.spawn("/root", "a", "go"), await control.spawn("/root", "b", "go")


@pytest.mark.parametrize("verb", TO_AN_AGENT)
async def test_handle_or_reference_of_another_session_is_refused_and_changes_nothing(
    open_session: Open, verb: str
) -> None:
    stage = Stage()
    async with open_session(stage, max_concurrent=2) as control, AgentControl.open(MemoryStore(), echo) as other:
        await two(control)
        foreign = await other.spawn("/root", "foreign", "go"), await other.spawn("/root", "too", "go")
        before = await control.list(closed=True)
        for handle in foreign:
            for named in (handle, handle.ref):
                with pytest.raises(TypeError, match="of this session"):
                    await TO_AN_AGENT[verb](control, named)
        assert await control.list(closed=True) == before
        with pytest.raises(UnknownRequest):
            await control.handle(foreign[0].ref)


async def test_handle_of_another_session_with_the_same_agents_is_refused(open_session: Open) -> None:
    async with open_session(echo) as control, AgentControl.open(MemoryStore(), echo) as other:
        (a, _), (same, _) = await two(control), await two(other)
        assert a.ref == same.ref
        with pytest.raises(TypeError, match="is not a handle of this session"):
            await control.send(same, "x")


async def test_turn_is_refused_a_handle_of_another_session(open_session: Open) -> None:
    async def work(turn: Turn) -> str:
        for named in (foreign, foreign.ref):
            for refused in (turn.send(named, "x"), turn.follow_up(named, "x"), turn.wait(requests=(named,))):
                with pytest.raises(TypeError, match="of this session"):
                    await refused
        return "done"

    async with AgentControl.open(MemoryStore(), echo) as other, open_session(work) as control:
        foreign = await other.spawn("/root", "foreign", "go")
        assert ending(await (await control.spawn("/root", "a", "go")).outcome()) == completed("done")


async def test_request_is_withdrawn_by_its_own_reference_alone(open_session: Open) -> None:
    stage = Stage()
    async with open_session(stage, max_concurrent=2) as control:
        a, b = await two(control)
        await stage.scene("/root/a")
        with pytest.raises(UnknownRequest):
            await control.withdraw(AgentRef(a.ref.id, a.ref.path, b.ref.mail))
        assert (await control.status("/root/b")).unread == 1
        await control.withdraw(b.ref)
        await control.close("/root/b")
        await control.forget("/root/b")
        for named in (b, b.ref):
            with pytest.raises(UnknownAgent):
                await control.withdraw(named)
