"""One API for the host and for agents, told by its own help (semantics.md section 4, operations)."""

from __future__ import annotations

import builtins
import doctest
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
from attrs import fields

import statemachine
import statemachine.errors
from statemachine import (
    HOST,
    ClosedAgents,
    Entry,
    Interrupted,
    MailAccepted,
    MemoryStore,
    Overflow,
    Resumed,
    SlotPolicy,
    TurnState,
)
from statemachine.core.refusals import REFUSALS
from statemachine.errors import ExecutionFull, NotRunning, Refusal, UnknownRequest
from statemachine.runtime import AgentControl, AgentRef, Handle, Turn
from tests.runtime.running import Open, Stage, echo, traced_sessions, virtual_time

FIXTURES = (traced_sessions, virtual_time)

GIVES_WORK = ("spawn", "send", "follow_up")
CONTROLS = ("withdraw", "interrupt", "close", "resume")
LOOKS = ("status", "list", "history")
WAITS = ("wait", "outcomes", "as_completed", "lend", "sleep")
PUBLIC: dict[type, set[str]] = {
    AgentControl: {
        *GIVES_WORK,
        *CONTROLS,
        *LOOKS,
        "backup",
        "events",
        "forget",
        "handle",
        "open",
        "shutdown",
        "start",
        "statistics",
    },
    Turn: {*GIVES_WORK, *CONTROLS, *LOOKS, *WAITS, "drain", "headers", "over", "path", "record", "settings"},
    Handle: {"id", "is_answered", "outcome", "path", "ref"},
}
"""What users see, and no more."""


@pytest.mark.parametrize("cls", PUBLIC, ids=lambda cls: cls.__name__)
def test_class_shows_its_users_this_and_nothing_of_the_runtime(cls: type) -> None:
    assert {name for name in dir(cls) if not name.startswith("_")} == PUBLIC[cls]


@pytest.mark.anyio
async def test_objects_show_nothing_else_either(open_session: Open) -> None:
    stage = Stage()
    async with open_session(stage) as control:
        handle = await control.spawn("/root", "a", "x")
        scene = await stage.scene("/root/a")
        shown: list[tuple[object, set[str]]] = [
            (control, set()),
            (handle, set()),
            (scene.turn, {"agent", "attempt", "mail", "number"}),
        ]
        for one, attributes in shown:
            assert {name for name in dir(one) if not name.startswith("_")} == PUBLIC[type(one)] | attributes
        scene.end()


# Evenness

OF_THE_HOST: dict[str, set[str]] = {"spawn": {"parent", "sender"}}
"""Verb -> parameters that a turn does not need, because it is the sender."""


@pytest.mark.parametrize("verb", [*GIVES_WORK, *CONTROLS, *LOOKS])
def test_verb_of_a_turn_takes_and_returns_what_that_of_the_host_does(verb: str) -> None:
    host, turn = (inspect.signature(getattr(cls, verb)) for cls in (AgentControl, Turn))
    left_out = OF_THE_HOST.get(verb, {"sender"})
    expected = [p for name, p in host.parameters.items() if name not in left_out]
    if verb == "history":  # a turn's own, unless it says whose
        expected[1] = expected[1].replace(default=None, annotation="Target | None")
    assert [*turn.parameters.values()] == expected
    assert turn.return_annotation == host.return_annotation


def test_verbs_that_act_take_a_sender_and_verbs_that_are_requests_a_key() -> None:
    def takes(name: str) -> set[str]:
        return {
            verb for verb in PUBLIC[AgentControl] if name in inspect.signature(getattr(AgentControl, verb)).parameters
        }

    assert takes("sender") == {*GIVES_WORK, *CONTROLS}
    assert takes("key") == {*GIVES_WORK, "start"}


# Help


def documented() -> dict[str, str]:
    """Verb of `AgentControl` -> its docstring."""
    return {verb: inspect.getdoc(getattr(AgentControl, verb)) or "" for verb in PUBLIC[AgentControl]}


@pytest.mark.parametrize("verb", sorted(PUBLIC[AgentControl]))
def test_help_of_a_verb_says_what_it_does_and_names_every_parameter(verb: str) -> None:
    text = documented()[verb]
    assert re.match(r"[A-Z]\w+s ", text), "a verb begins with a verb"
    for name in inspect.signature(getattr(AgentControl, verb)).parameters:
        assert name == "self" or re.search(rf"`{name}`", text), name


def test_help_names_every_refusal_of_a_verb_and_no_error_that_is_not_there() -> None:
    texts = [inspect.getdoc(AgentControl) or "", *documented().values()]
    texts += [inspect.getdoc(getattr(cls, verb)) or "" for cls in (Turn, Handle) for verb in PUBLIC[cls]]
    texts += [inspect.getdoc(Turn) or ""]
    named = set(re.findall(r"`([A-Z]\w+)`", "\n".join(texts)))
    assert {refusal.__name__ for refusal in REFUSALS} <= named
    homes = (statemachine, statemachine.errors, builtins, SlotPolicy)
    assert {name for name in named if not any(hasattr(home, name) for home in homes)} == set()


def test_example_in_the_help_runs_as_shown() -> None:
    (example,) = [found for found in doctest.DocTestFinder(recurse=False).find(AgentControl) if found.examples]
    results = doctest.DocTestRunner().run(example)
    assert (results.failed, results.attempted) == (0, len(example.examples))
    assert len(example.examples) > 3


# What is given back


@pytest.mark.anyio
async def test_settings_come_back_as_they_were_given_with_the_role_beside_them(open_session: Open) -> None:
    store = MemoryStore()
    given: dict[str, Any] = {"model": "large", "tools": ["read", "write"], "limit": None}
    async with open_session({"reader": echo, "default": echo}, store) as control:
        await (await control.spawn("/root", "a", "x", given, role="reader")).outcome()
        await (await control.spawn("/root", "b", "x", "a text")).outcome()
    async with open_session({"reader": echo, "default": echo}, MemoryStore(store.log)) as control:
        told = await control.status("/root/a")
        assert (told.role, told.settings) == ("reader", given)
        assert [(one.path, one.role, one.settings) for one in await control.list()] == [
            ("/root", "default", None),
            ("/root/a", "reader", given),
            ("/root/b", "default", "a text"),
        ]


@pytest.mark.anyio
async def test_interrupt_close_and_resume_reply_with_their_facts_to_the_host_and_to_a_turn(open_session: Open) -> None:
    stage = Stage()
    async with open_session(stage, max_concurrent=8) as control:
        for name in ("a", "b"):
            await control.spawn("/root", name, "x")
        turn = (await stage.scene("/root/a")).turn
        await stage.scene("/root/b")
        for asker in (control, turn):
            assert await asker.interrupt("/root/b") == Interrupted(TurnState.RUNNING, (2,), ("/root/b",))
            await anyio.wait_all_tasks_blocked()
            assert await asker.close("/root/b") == ClosedAgents((2,), ("/root/b",))
            assert await asker.close("/root/b") == ClosedAgents((), ())
            assert await asker.resume("/root/b") == Resumed((2,), (), ("/root/b",), ())
            await control.follow_up("/root/b", "again")
            await anyio.wait_all_tasks_blocked()


@pytest.mark.anyio
async def test_resume_names_those_that_it_had_to_skip(open_session: Open) -> None:
    async with open_session(echo, max_concurrent=3, slot_policy=SlotPolicy.LIVE_THREADS) as control:
        await (await control.spawn("/root", "a", "x")).outcome()
        await (await control.spawn("/root/a", "b", "x")).outcome()
        await control.close("/root/a")
        await (await control.spawn("/root", "c", "x")).outcome()
        assert await control.resume("/root/a") == Resumed((1,), (2,), ("/root/a",), ("/root/a/b",))


@pytest.mark.anyio
async def test_host_acts_in_the_name_of_an_agent_with_every_verb_that_has_a_sender(open_session: Open) -> None:
    stage = Stage()
    async with open_session(stage, max_concurrent=8) as control:
        boss = await control.spawn("/root", "boss", "x")
        await control.spawn("/root", "a", "x", sender=boss.id)
        await stage.scene("/root/a")
        await control.send("/root/a", "psst", sender=boss.id)
        await control.follow_up("/root/a", "next", sender=boss.id)
        assert {r.sender for r in await control.history("/root/a") if isinstance(r, MailAccepted)} == {boss.id}
        refused: list[Callable[[], Any]] = [
            lambda: control.spawn("/root", "b", "x", sender=True),
            lambda: control.send("/root/a", "x", sender="/root/boss"),  # type: ignore[arg-type]
            lambda: control.follow_up("/root/a", "x", sender=None),  # type: ignore[arg-type]
            lambda: control.interrupt("/root/a", sender=1.5),  # type: ignore[arg-type]
        ]
        for call in refused:
            with pytest.raises(TypeError, match="a sender is an agent's id, or HOST"):
                await call()
        assert (await control.interrupt("/root/a", sender=boss.id)).previous is TurnState.RUNNING
        assert (await control.close("/root/a", sender=boss.id)).paths == ("/root/a",)
        assert (await control.resume("/root/a", sender=HOST)).paths == ("/root/a",)


ONE, SEVERAL = ("agent", "holder"), ("agents", "holders", "queued")
PATHLESS = {"UnknownAgent"}
"""The agent was never there, or was forgotten with its path."""


def refusals() -> Iterator[type[Refusal]]:
    """Every refusal that is about one agent, or several, by id."""
    for name in statemachine.errors.__all__:
        found = getattr(statemachine.errors, name)
        if issubclass(found, Refusal) and {f.name for f in fields(found)} & {*ONE, *SEVERAL}:
            yield found


@pytest.mark.parametrize("kind", [*refusals()], ids=lambda kind: kind.__name__)
def test_refusal_that_names_an_agent_by_id_names_its_path_beside(kind: type[Refusal]) -> None:
    given: dict[str, Any] = {**dict.fromkeys(ONE, 7001), **dict.fromkeys(SEVERAL, (7001, 7002))}
    given |= {"path": "/root/p1", "paths": ("/root/p1", "/root/p2")}
    names = {f.name for f in fields(kind)}
    refusal = kind(**{name: given.get(name, "1") for name in names})
    assert ("path" in names or "paths" in names) == (kind.__name__ not in PATHLESS)
    for id, path in ((7001, "/root/p1"), (7002, "/root/p2")):
        if str(id) in str(refusal) and kind.__name__ not in PATHLESS:
            assert path in str(refusal)


@pytest.mark.anyio
async def test_refusals_name_agents_by_path_and_by_id(open_session: Open) -> None:
    stage = Stage()
    async with open_session(stage, max_concurrent=3, overflow=Overflow.REJECT) as control:
        for name in ("a", "b"):
            await control.spawn("/root", name, "x")
        scene = await stage.scene("/root/a")
        with pytest.raises(ExecutionFull, match=r"by /root/a \(1\), /root/b \(2\);") as full:
            await control.spawn("/root", "c", "x")
        assert (full.value.holders, full.value.paths) == ((1, 2), ("/root/a", "/root/b"))
        with pytest.raises(UnknownRequest, match=r"agent /root/a \(1\) never got mail 9"):
            await control.handle(AgentRef(1, "/root/a", 9))
        scene.end()
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(NotRunning, match=r"turn 1 of agent /root/a \(1\) is not running"):
            await scene.turn.drain()


@pytest.mark.anyio
async def test_turn_reads_its_own_history_and_that_of_another(open_session: Open) -> None:
    stage = Stage()
    async with open_session(stage) as control:
        await control.spawn("/root", "a", "x")
        await control.spawn("/root", "b", "y")
        turn = (await stage.scene("/root/a")).turn
        assert await turn.history() == await control.history("/root/a")
        assert await turn.history("/root/b") == await control.history("/root/b") != await turn.history()


@pytest.mark.anyio
async def test_events_show_what_turns_recorded_where_it_stands_in_the_log(open_session: Open) -> None:
    stage = Stage()
    async with open_session(stage) as control:
        await control.spawn("/root", "a", "x")
        turn = (await stage.scene("/root/a")).turn
        async with control.events() as events:
            before = control.statistics().commits
            async with anyio.create_task_group() as tasks:
                for number in range(5):
                    tasks.start_soon(control.send, "/root/a", f"mail {number}")
                    tasks.start_soon(turn.record, {"step": number})
            assert control.statistics().commits == before + 1
            shown = [await anext(events) for _ in range(10)]
        assert shown == [*await control.history("/root/a")][-10:]
        assert sum(isinstance(event, Entry) for event in shown) == 5
