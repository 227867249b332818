"""A list of many agents is told page by page, and the event loop serves others in between (harm)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import anyio
import pytest

from statemachine.core import effects as fx
from statemachine.core import events as ev
from statemachine.core.events import HOST
from statemachine.errors import StoreFailed, UnknownPath
from statemachine.runtime import AgentControl, AgentStatus, verbs
from statemachine.runtime.control import inside
from tests.core.test_listing import Counted
from tests.runtime.running import Open, Stage, echo, traced_sessions, virtual_time

pytestmark = pytest.mark.anyio
FIXTURES = (traced_sessions, virtual_time)

PAGE, AGENTS = 16, 100


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verbs, "PAGE", PAGE)


async def crowded(control: AgentControl) -> list[str]:
    """Spawns many agents, not in the order of their names, a few of them below one. Returns all paths in order."""
    names = [f"a{number * 7 % AGENTS}" for number in range(AGENTS)]
    for name in names:
        await control.spawn("/root", name, "x")
    for name in "xyz":
        await control.spawn("/root/a7", name, "x")
    return sorted(["/root", *[f"/root/{name}" for name in names], *[f"/root/a7/{name}" for name in "xyz"]])


def counting(control: AgentControl) -> Counted:
    """Has it counted how often agents of the session are looked at."""
    session = inside(control).session
    session.agents = session.ledger.agents = agents = Counted(session.agents)
    return agents


def applied(control: AgentControl, monkeypatch: pytest.MonkeyPatch) -> list[ev.Event]:
    """The events that the session is given from now on."""
    engine, events = inside(control).engine, list[ev.Event]()
    apply = engine.apply

    def noted(event: ev.Event, *rest: Any) -> Any:
        events.append(event)
        return apply(event, *rest)

    monkeypatch.setattr(engine, "apply", noted)
    return events


def paths(told: tuple[AgentStatus, ...]) -> list[str]:
    return [agent.path for agent in told]


async def during(control: AgentControl, step: Callable[[int], Any], **asked: Any) -> tuple[AgentStatus, ...]:
    """Lists the agents, and calls `step` at every pass of the event loop meanwhile, with its number."""
    over = False

    async def watch() -> None:
        number = 0
        while not over:
            await anyio.lowlevel.checkpoint()
            step(number)
            number += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        await anyio.lowlevel.checkpoint()
        told = await control.list(**asked)
        over = True
    return told


@pytest.mark.parametrize("closed", [False, True])
async def test_list_of_many_agents_looks_at_a_page_of_them_at_a_time(open_session: Open, closed: bool) -> None:
    async with open_session(echo) as control:
        expected = await crowded(control)
        await anyio.wait_all_tasks_blocked()
        agents, seen = counting(control), list[int]()
        told = await during(control, lambda _: seen.append(agents.looked_at), closed=closed)
        assert paths(told) == expected
        steps = [after - before for before, after in pairwise(seen)]
        assert max(steps) <= 5 * PAGE
        assert len([step for step in steps if step]) > AGENTS / PAGE


async def test_list_of_many_agents_is_told_in_pages_however_the_root_is_written(
    open_session: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_session(echo) as control:
        for number in range(2 * PAGE):
            await control.spawn("/root", f"a{number}", "x")
        await anyio.wait_all_tasks_blocked()
        events = applied(control, monkeypatch)
        for prefix in ("/root", "/root/", "/", "", "//"):
            for closed in (False, True):
                assert len(await control.list(prefix, closed=closed)) == 2 * PAGE + 1
        assert {type(event) for event in events} == {ev.Status}


async def test_list_of_many_agents_tells_of_each_what_its_status_tells(open_session: Open) -> None:
    stage = Stage()
    async with open_session(stage, max_concurrent=3) as control:
        await crowded(control)
        await stage.scene("/root/a0")
        await control.close("/root/a1")
        for told in await control.list(closed=True):
            assert told == await control.status(told.agent)
        assert {str(told.status.name) for told in await control.list()} == {"NEW", "RUNNING", "QUEUED"}


async def test_list_of_many_agents_leaves_out_those_that_go_before_their_page_comes(open_session: Open) -> None:
    async with open_session(echo) as control:
        expected = await crowded(control)
        await anyio.wait_all_tasks_blocked()
        apply, find = inside(control).engine.apply, inside(control).session.find
        a98, a99 = find("/root/a98"), find("/root/a99")
        assert a98 is not None
        assert a99 is not None

        def go(number: int) -> None:
            if number == 2:
                for event in (ev.Close(HOST, a99), ev.Close(HOST, a98), ev.Forget(a98), ev.Spawn(0, "late", "x")):
                    assert not isinstance(apply(event), fx.Refused)

        told = paths(await during(control, go))
        assert set(expected) - set(told) == {"/root/a98", "/root/a99"}
        assert set(told) - set(expected) <= {"/root/late"}
        assert told == sorted(told)
        every = await control.list(closed=True)
        assert [agent.path for agent in every if not agent.open] == ["/root/a99"]


async def test_few_agents_are_told_by_one_event_as_of_one_moment(
    open_session: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_session(echo) as control:
        await crowded(control)
        await anyio.wait_all_tasks_blocked()
        events = applied(control, monkeypatch)
        assert paths(await control.list("/root/a7")) == ["/root/a7", "/root/a7/x", "/root/a7/y", "/root/a7/z"]
        assert events == [ev.ListAgents("/root/a7")]


async def test_list_of_a_subtree_and_a_path_that_is_unknown_look_at_no_other_agents(open_session: Open) -> None:
    async with open_session(echo) as control:
        await crowded(control)
        await anyio.wait_all_tasks_blocked()
        agents = counting(control)
        assert len(await control.list("/root/a7", closed=True)) == 4
        assert await control.list("/root/unknown") == await control.list("/root/unknown", closed=True) == ()
        for call in (control.status, control.history, control.close, control.interrupt):
            with pytest.raises(UnknownPath):
                await call("/root/unknown")
        assert agents.looked_at <= 5 * 4


async def test_list_of_many_agents_of_a_session_whose_store_fails_meanwhile_is_refused(open_session: Open) -> None:
    refused = list[str]()

    async def ask(control: AgentControl) -> None:
        with pytest.raises(StoreFailed) as told:
            await control.list()
        refused.append(str(told.value))

    async def in_block() -> None:
        async with open_session(echo) as control, anyio.create_task_group() as tasks:
            await crowded(control)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(ask, control)
            for _ in range(3):
                await anyio.lowlevel.checkpoint()
            inside(control).engine.fail(OSError("the disk is gone"))

    with pytest.raises(StoreFailed, match="gone"):
        await in_block()
    assert ["gone" in said for said in refused] == [True]
