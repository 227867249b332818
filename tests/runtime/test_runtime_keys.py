"""Idempotency keys: a repeat gives the first receipt, also at the same time, also after a restart (semantics.md 4)."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from statemachine import Overflow
from statemachine.core.machines import TurnState
from statemachine.core.refusals import ExecutionFull, PathTaken, UnknownAgent
from statemachine.runtime import (
    AgentControl,
    AgentRef,
    Handle,
    KeyReused,
    Turn,
    UnknownRequest,
    UnknownRole,
    Work,
)
from statemachine.runtime.control import inside
from statemachine.stores import MemoryStore
from tests.runtime.running import Open, Stage, completed, counts, echo, ending, states, traced_sessions, virtual_time

pytestmark = pytest.mark.anyio
FIXTURES = (traced_sessions, virtual_time)


async def test_repeat_with_the_same_key_gives_the_first_receipt_and_does_nothing_else(open_session: Open) -> None:
    async with open_session(echo) as control:
        first = await control.spawn("/root", "a", "x", {"b": 1, "a": 2}, key="one")
        await first.outcome()
        records = control.statistics().records
        second = await control.spawn("/root", "a", "x", {"a": 2, "b": 1}, key="one")
        assert second.ref == first.ref
        assert await second.outcome() == await first.outcome()
        assert await control.send("/root/a", "y", key="two") == await control.send("/root/a", "y", key="two")
        assert (await control.status("/root/a")).unread == 1
        assert control.statistics().records == records + 1


async def test_key_that_comes_again_with_another_request_is_refused_with_the_first_one(open_session: Open) -> None:
    async with open_session(echo) as control:
        await (await control.spawn("/root", "a", "x", key="k")).outcome()
        calls: list[Any] = [
            lambda: control.spawn("/root", "a", "other", key="k"),
            lambda: control.spawn("/root", "a", "x", {"s": 1}, key="k"),
            lambda: control.send("/root/a", "x", key="k"),
            lambda: control.follow_up("/root/a", "x", key="k"),
        ]
        for call in calls:
            with pytest.raises(KeyReused) as refused:
                await call()
            assert (refused.value.key, refused.value.agent, refused.value.path) == ("k", 1, "/root/a")
            assert "another request to /root/a (1), " in str(refused.value)
            assert '"Spawn"' in refused.value.first
        assert inside(control).session.ledger.next_mail == 1


async def test_same_key_from_many_callers_at_the_same_time_spawns_one_agent(open_session: Open) -> None:
    refs: list[AgentRef] = []

    async def ask(control: AgentControl) -> None:
        refs.append((await control.spawn("/root", "a", "x", key="k")).ref)

    async with open_session(echo) as control:
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(ask, control)
        assert refs == [AgentRef(1, "/root/a", 0)] * 10
        assert len(inside(control).session.agents) == 2


async def test_refused_request_does_not_use_up_its_key(open_session: Open) -> None:
    stage = Stage()
    async with open_session(stage, max_concurrent=2, overflow=Overflow.REJECT) as control:
        await control.spawn("/root", "a", "x")
        with pytest.raises(ExecutionFull):
            await control.spawn("/root", "b", "x", key="k")
        with pytest.raises(PathTaken):
            await control.spawn("/root", "a", "x", key="k")
        (await stage.scene("/root/a")).end()
        await anyio.wait_all_tasks_blocked()
        handle = await control.spawn("/root", "b", "x", key="k")
        assert handle.path == "/root/b"


async def test_repeat_while_the_turn_runs_waits_for_the_same_outcome(open_session: Open) -> None:
    stage = Stage()
    async with open_session(stage) as control:
        first = await control.spawn("/root", "a", "x", key="k")
        second = await control.spawn("/root", "a", "x", key="k")
        (await stage.scene("/root/a")).end("done")
        assert ending(await first.outcome()) == ending(await second.outcome()) == completed("done")


async def test_repeat_whose_first_asker_was_cancelled_still_gets_the_outcome(open_session: Open) -> None:
    async with open_session(echo) as control:
        ref = (await control.spawn("/root", "a", "x")).ref
        await anyio.wait_all_tasks_blocked()
        handles: list[Handle] = []

        async def ask() -> None:
            handles.append(await control.handle(ref))

        async with anyio.create_task_group() as tasks:
            scope = anyio.CancelScope()

            async def ask_and_give_up() -> None:
                with scope:
                    await control.handle(ref)

            tasks.start_soon(ask_and_give_up)
            tasks.start_soon(ask)
            scope.cancel()
        assert ending(await handles[0].outcome()) == completed("x")


async def test_keys_and_outcomes_are_there_after_a_restart(open_session: Open) -> None:
    store, stage = MemoryStore(), Stage()
    refs: dict[str, AgentRef] = {}

    async def crash() -> None:
        async with open_session(stage, store, max_concurrent=4) as control:
            for name in ("done", "running", "closed"):
                refs[name] = (await control.spawn("/root", name, "x", key=name)).ref
            (await stage.scene("/root/done")).end("before the crash")
            await stage.scene("/root/closed")
            refs["late"] = (await control.follow_up("/root/closed", "late", key="late")).ref
            refs["next"] = (await control.follow_up("/root/running", "next", key="next")).ref
            await control.close("/root/closed")
            raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        await crash()
    async with open_session(echo, MemoryStore(store.log), max_concurrent=4) as control:
        for name in ("done", "running", "closed"):
            assert (await control.spawn("/root", name, "x", key=name)).ref == refs[name]
        assert (await control.follow_up("/root/closed", "late", key="late")).ref == refs["late"]
        again = await control.follow_up("/root/running", "next", key="next")
        assert again.ref == refs["next"]
        assert ending(await again.outcome()) == completed("next")
        outcomes = {name: ending(await (await control.handle(ref)).outcome()) for name, ref in refs.items()}
        assert outcomes == {
            "done": completed("before the crash"),
            "running": (TurnState.INTERRUPTED, outcomes["running"][1]),  # type: ignore[index]
            "closed": (TurnState.INTERRUPTED, "closed"),
            "late": (TurnState.INTERRUPTED, "closed"),
            "next": completed("next"),
        }
        assert len(inside(control).session.agents) == 4


async def test_reference_that_never_was_is_refused(open_session: Open) -> None:
    async with open_session(echo) as control:
        await (await control.spawn("/root", "a", "x")).outcome()
        for ref, refusal in (
            (AgentRef(1, "/root/a", 7), UnknownRequest),
            (AgentRef(5, "/root/b", 0), UnknownAgent),
            (AgentRef(0, "/root", 0), UnknownRequest),
        ):
            with pytest.raises(refusal):
                await control.handle(ref)
            assert counts(control) == {"resident": 1}
        assert ending(await (await control.handle(AgentRef(1, "/root/a", 0))).outcome()) == completed("x")


async def test_restart_runs_what_was_asked_and_not_begun_and_keeps_everything_else(open_session: Open) -> None:
    store, stage = MemoryStore(), Stage()

    async def crash() -> None:
        async with open_session(stage, store, max_concurrent=2, overflow=Overflow.QUEUE) as control:
            await control.spawn("/root", "a", "x")
            await control.spawn("/root", "b", "y", {"s": 1})
            await control.send("/root/a", "aside")
            await (await stage.scene("/root/a")).turn.record({"step": 1})
            raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        await crash()
    seen: list[tuple[str, Any, list[str]]] = []

    async def work(turn: Turn) -> str:
        seen.append((turn.path, turn.settings, [mail.text for mail in turn.mail]))
        return ""

    async with open_session(work, MemoryStore(store.log), max_concurrent=2, overflow=Overflow.QUEUE) as control:
        await anyio.wait_all_tasks_blocked()
        assert seen == [("/root/b", {"s": 1}, ["y"])]
        assert await states(control) == {"/root/a": "interrupted", "/root/b": "completed loaded"}
        await (await control.follow_up("/root/a", "again")).outcome()
        assert seen[1:] == [("/root/a", None, ["aside", "again"])]
        assert [r.data for r in await control.history("/root/a") if hasattr(r, "data")] == [{"step": 1}]


async def test_role_that_is_unknown_after_a_restart_is_refused_but_a_repeated_key_gets_its_answer(
    open_session: Open,
) -> None:
    store = MemoryStore()
    async with open_session({"default": echo, "reader": echo, "writer": echo}, store) as control:
        for name in ("reader", "writer"):
            await (await control.spawn("/root", name, "x", role=name, key=name)).outcome()
        await (await control.follow_up("/root/reader", "y", key="again")).outcome()
    async with open_session({"default": echo, "writer": echo}, MemoryStore(store.log)) as control:
        for call in (control.follow_up, control.start):
            for key in (None, f"{call.__name__} 1"):
                with pytest.raises(UnknownRole) as refused:
                    await call("/root/reader", "x", key=key)
                assert (refused.value.role, refused.value.roles) == ("reader", ("default", "writer"))
        assert counts(control) == {}
        assert (await control.status("/root/reader")).unread == 0
        assert ending(await (await control.follow_up("/root/writer", "y")).outcome()) == completed("y")
        first = await control.spawn("/root", "reader", "x", role="reader", key="reader")
        assert ending(await first.outcome()) == completed("x")
        again = await control.follow_up("/root/reader", "y", key="again")
        assert ending(await again.outcome()) == completed("y")


async def test_turn_that_waited_for_a_role_that_is_unknown_after_a_restart_fails_alone(open_session: Open) -> None:
    store, stage = MemoryStore(), Stage()

    async def until_it_is_cut_off() -> None:
        roles: dict[str, Work] = {"default": stage, "reader": echo}
        async with open_session(roles, store, max_concurrent=2, overflow=Overflow.QUEUE) as control:
            await control.spawn("/root", "a", "x")
            await stage.scene("/root/a")
            await control.spawn("/root", "reader", "x", role="reader")
            raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        await until_it_is_cut_off()
    async with open_session(echo, MemoryStore(store.log), max_concurrent=2, overflow=Overflow.QUEUE) as control:
        await anyio.wait_all_tasks_blocked()
        told = await control.status("/root/reader")
        assert told.status is TurnState.ERRORED
        assert str(told.outcome and told.outcome.result).startswith("load failed: UnknownRole: ")
        assert ending(await (await control.follow_up("/root/a", "y")).outcome()) == completed("y")


async def test_empty_key_is_refused(open_session: Open) -> None:
    """It comes of a variable that was never set, and would make one request of many."""
    async with open_session(echo) as control:
        for call in (control.send, control.follow_up, control.start):
            with pytest.raises(ValueError, match="a key is a text that is not empty"):
                await call("/root", "x", key="")
        with pytest.raises(ValueError, match="a key is a text that is not empty"):
            await control.spawn("/root", "a", "x", key="")
        assert counts(control) == {}
        assert [agent.path for agent in await control.list()] == ["/root"]
