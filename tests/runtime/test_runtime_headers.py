"""Headers: what a sender gives with a mail reaches the turn that reads it, and nothing else looks at it."""

from __future__ import annotations

import inspect
import math
from collections import UserDict
from typing import Any

import pytest

from statemachine.core.config import Overflow
from statemachine.core.records import MailAccepted
from statemachine.core.rules import HEADERS_BYTES_MAX
from statemachine.errors import InvalidHeaders
from statemachine.runtime import AgentControl, Mail, Turn
from statemachine.runtime.control import inside
from statemachine.stores import MemoryStore
from tests.runtime.running import Open, Stage, echo, traced_sessions, virtual_time

__all__ = ["traced_sessions", "virtual_time"]

pytestmark = pytest.mark.anyio

TRACED = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tenant": 7}


class Text(str):
    __slots__ = ()


def told(mail: tuple[Mail, ...]) -> list[tuple[str, dict[str, Any]]]:
    return [(one.text, one.headers) for one in mail]


async def test_headers_of_every_verb_reach_the_turn_that_reads_the_mail(open_session: Open) -> None:
    seen: list[Any] = []

    async def work(turn: Turn) -> None:
        seen.append((turn.path, turn.headers, told(turn.mail)))

    async with open_session(work) as control:
        a = await control.spawn("/root", "a", "one", headers=TRACED)
        await a.outcome()
        await control.send(a, "two", headers={"n": 2})
        await control.send(a, "three")
        await (await control.follow_up(a, "four", headers={"n": 4})).outcome()
        await (await control.start("/root", "five", headers={"n": 5})).outcome()
        await (await control.start("/root", "six", headers={})).outcome()
    assert seen == [
        ("/root/a", TRACED, [("one", TRACED)]),
        ("/root/a", {"n": 4}, [("two", {"n": 2}), ("three", {}), ("four", {"n": 4})]),
        ("/root", {"n": 5}, [("five", {"n": 5})]),
        ("/root", {}, [("six", {})]),
    ]


async def test_headers_of_a_turn_are_those_of_its_oldest_trigger_mail(open_session: Open) -> None:
    seen: list[dict[str, Any]] = []

    async def work(turn: Turn) -> None:
        seen.append(turn.headers)

    config: dict[str, Any] = {"max_concurrent": 2, "max_resident": 3, "overflow": Overflow.QUEUE}
    stage = Stage()
    async with open_session({"stage": stage, "default": work}, **config) as control:
        await control.spawn("/root", "busy", "x", role="stage")
        scene = await stage.scene("/root/busy")
        await control.spawn("/root", "a", "first")  # without any
        second = await control.follow_up("/root/a", "second", headers={"n": 2})
        scene.end()
        await second.outcome()
    assert seen == [{}]


async def test_headers_are_passed_on_to_children_by_those_who_give_them_on(open_session: Open) -> None:
    seen: dict[str, dict[str, Any]] = {}

    async def work(turn: Turn) -> None:
        seen[turn.path] = turn.headers
        if turn.path == "/root/a":
            await turn.spawn("traced", "x", headers=turn.headers)
            await turn.spawn("alone", "x")
            await turn.send("/root", "x", headers=turn.headers)
            await turn.follow_up("/root/b", "x", headers={**turn.headers, "hop": 2})
        elif turn.path == "/root":
            seen["mail of the root"] = turn.mail[0].headers

    async with open_session(work, max_concurrent=9) as control:
        await (await control.spawn("/root", "b", "x")).outcome()
        await (await control.spawn("/root", "a", "x", headers=TRACED)).outcome()
        await (await control.start("/root", "x")).outcome()
    assert seen == {
        "/root/a": TRACED,
        "/root/a/traced": TRACED,
        "/root/a/alone": {},
        "/root/b": {**TRACED, "hop": 2},
        "/root": {},
        "mail of the root": TRACED,
    }


async def test_notice_has_no_headers_and_its_mail_is_hashed_as_every_fact(open_session: Open) -> None:
    mail: list[Mail] = []

    async def work(turn: Turn) -> None:
        if turn.path == "/root":
            await turn.spawn("a", "x", headers=TRACED)
            await turn.wait(60)
            mail.extend([*turn.mail, *await turn.drain()])

    async with open_session(work) as control:
        await (await control.start("/root", "go", headers=TRACED)).outcome()
    assert [(one.is_trigger, one.headers) for one in mail] == [(True, TRACED), (False, {})]
    assert len({*mail}) == 2


async def test_headers_of_unread_mail_survive_a_turn_that_never_started_and_a_restart(open_session: Open) -> None:
    store = MemoryStore()
    seen: list[Any] = []

    async def work(turn: Turn) -> None:
        seen.append(told(turn.mail))

    config: dict[str, Any] = {"max_concurrent": 2, "max_resident": 3, "overflow": Overflow.QUEUE}
    stage = Stage()
    async with open_session(stage, store, **config) as control:
        await control.spawn("/root", "busy", "x")
        await stage.scene("/root/busy")
        await control.spawn("/root", "a", "one", headers=TRACED)
        await control.send("/root/a", "two", headers={"n": 2})
        await control.interrupt("/root/a")  # the mail that asked for the turn is queue-only now
    async with open_session(work, MemoryStore(store.log), **config) as control:
        await (await control.follow_up("/root/a", "three", headers={"n": 3})).outcome()
        history = await control.history("/root/a")
    assert seen == [[("one", TRACED), ("two", {"n": 2}), ("three", {"n": 3})]]
    assert [record.headers for record in history if isinstance(record, MailAccepted)] == [
        '{"tenant":7,"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}',
        '{"n":2}',
        '{"n":3}',
    ]


BAD: list[tuple[Any, str]] = [
    ([1], "a value of class list"),
    ("{}", "a value of class str"),
    ((("a", 1),), "a value of class tuple"),
    ({"a": math.nan}, "what JSON does not have"),
    ({"a": {1}}, "what JSON does not have"),
    ({("a",): 1}, "what JSON does not have"),
    ({"a": 1, 2: 3}, "what JSON does not have"),  # and no order of its keys
    ({"a": "x" * (HEADERS_BYTES_MAX - 7)}, "one of 16385 bytes"),
]


@pytest.mark.parametrize(("headers", "problem"), BAD, ids=[problem for _, problem in BAD])
async def test_headers_that_are_no_small_object_are_refused_and_nothing_changes(
    open_session: Open, headers: Any, problem: str
) -> None:
    stage = Stage()
    async with open_session(stage) as control:
        await control.spawn("/root", "a", "x")
        turn = (await stage.scene("/root/a")).turn
        before = inside(control).session.fingerprint()
        for ask in (
            lambda: control.spawn("/root", "b", "x", headers=headers),
            lambda: control.send("/root", "x", headers=headers),
            lambda: control.follow_up("/root/a", "x", headers=headers),
            lambda: control.start("/root", "x", headers=headers),
            lambda: turn.spawn("b", "x", headers=headers),
            lambda: turn.send("/root", "x", headers=headers),
            lambda: turn.follow_up("/root/a", "x", headers=headers),
        ):
            with pytest.raises(InvalidHeaders) as caught:
                await ask()
            assert problem in caught.value.problem
            assert (caught.value.size, caught.value.max_bytes) == (
                16385 if "16385" in problem else None,
                HEADERS_BYTES_MAX,
            )
        assert inside(control).session.fingerprint() == before


async def test_headers_as_large_as_is_allowed_are_kept(open_session: Open) -> None:
    headers = {"a": "x" * (HEADERS_BYTES_MAX - 8)}
    async with open_session(echo_headers) as control:
        a = await control.spawn("/root", "a", "x", headers=headers)
        assert (await a.outcome()).result == headers


async def echo_headers(turn: Turn) -> Any:
    return turn.headers


async def test_values_of_derived_classes_become_those_that_are_read_again(open_session: Open) -> None:
    store = MemoryStore()
    headers: Any = UserDict({Text("a"): Text("b"), "in": (1, {"c": True})})
    async with open_session(echo_headers, store) as control:
        a = await control.spawn("/root", Text("a"), Text("x"), headers=headers)
        assert (await a.outcome()).result == {"a": "b", "in": [1, {"c": True}]}
        await control.send(a, Text("y"), headers=headers)
        mail = inside(control).session.agents[1].mailbox[-1]
        assert [type(value) for value in (mail.message, mail.headers, a.path)] == [str, str, str]
    async with open_session(echo, MemoryStore(store.log)) as control:
        assert inside(control).session.agents[1].mailbox == (mail,)


async def test_request_with_the_same_key_and_other_headers_is_the_same_request(open_session: Open) -> None:
    seen: list[dict[str, Any]] = []

    async def work(turn: Turn) -> None:
        seen.append(turn.headers)

    async with open_session(work) as control:
        first = await control.spawn("/root", "a", "x", headers={"try": 1}, key="k")
        again = await control.spawn("/root", "a", "x", headers={"try": 2}, key="k")
        assert again.ref == first.ref
        await first.outcome()
    assert seen == [{"try": 1}]


def test_examples_use_every_verb_that_takes_headers() -> None:
    takes = {
        (cls.__name__, name)
        for cls in (AgentControl, Turn)
        for name, verb in inspect.getmembers(cls, inspect.isfunction)
        if "headers" in inspect.signature(verb).parameters
    }
    host = {("AgentControl", verb) for verb in ("spawn", "send", "follow_up", "start")}
    assert takes == host | {("Turn", verb) for verb in ("spawn", "send", "follow_up")}
