"""What a turn returns is given back as it was, to everyone who is told of it and after a restart."""

from __future__ import annotations

from typing import Any

import pytest

from statemachine import Cause, TurnState
from statemachine.core.records import MailAccepted, Outcome, TurnEnded
from statemachine.runtime import AgentRef, Turn
from statemachine.stores import MemoryStore
from tests.runtime.running import Open, echo, traced_sessions, virtual_time

__all__ = ["traced_sessions", "virtual_time"]

pytestmark = pytest.mark.anyio

RESULTS: list[Any] = [
    *("done", "", "null", '{"depth":2}', "\ud800 \x00"),
    *({"depth": 2, "found": ["a river", None, {"wide": True}]}, {}, [], [1, [2.5, [False]]]),
    *(0, 1, -(2**70), 1.0, -0.0, 1e300, True, False, None),
]


def same(found: Any, result: Any) -> bool:
    """Equal, and of the same classes all the way down: 1 is not True, and 1.0 is not 1."""
    return repr(found) == repr(result)


@pytest.mark.parametrize("result", RESULTS, ids=repr)
async def test_result_is_the_same_for_handle_notice_status_and_log_and_after_a_restart(
    open_session: Open, result: Any
) -> None:
    store = MemoryStore()
    notices: list[Outcome | None] = []

    async def work(turn: Turn) -> Any:
        if turn.path != "/root":
            return result
        handle = await turn.spawn("a", "find out")
        await turn.wait(60)
        notices.extend([mail.outcome for mail in await turn.drain()])
        return handle.ref.mail

    async with open_session(work, store) as control:
        number = (await (await control.start("/root", "go")).outcome()).result
        ref = AgentRef(1, "/root/a", number)
        told = [(await (await control.handle(ref)).outcome()), *notices, (await control.status("/root/a")).outcome]
        log = [*await control.history("/root/a"), *await control.history("/root")]
    async with open_session(echo, MemoryStore(store.log)) as control:
        told += [await (await control.handle(ref)).outcome(), (await control.status("/root/a")).outcome]
    told += [record.outcome for record in log if isinstance(record, TurnEnded) and record.outcome.agent == 1]
    told += [record.notice for record in log if isinstance(record, MailAccepted) and record.notice is not None]
    assert len(told) == 7
    assert len(set(told)) == 1  # facts are hashed and compared, whatever they hold
    for outcome in told:
        assert outcome is not None
        assert (outcome.status, outcome.cause) == (TurnState.COMPLETED, Cause.FINISHED)
        assert same(outcome.result, result)


async def test_result_that_is_changed_by_who_returned_it_or_was_told_it_stays_the_same_for_others(
    open_session: Open,
) -> None:
    returned = {"found": [1]}

    async def work(_: Turn) -> Any:
        return returned

    async with open_session(work) as control:
        handle = await control.spawn("/root", "a", "find out")
        outcome = await handle.outcome()
        returned["found"].append(2)
        outcome.result["found"].append(3)
        assert outcome.result == (await (await control.handle(handle.ref)).outcome()).result == {"found": [1]}


class Word(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("returned", "result"),
    [((1, (2,)), [1, [2]]), ({1: "one", None: "none"}, {"1": "one", "null": "none"}), (Word("river"), "river")],
)
async def test_result_of_another_class_is_at_once_what_it_is_when_it_is_read_again(
    open_session: Open, returned: Any, result: Any
) -> None:
    async def work(_: Turn) -> Any:
        return returned

    async with open_session(work) as control:
        handle = await control.spawn("/root", "a", "find out")
        live = await handle.outcome()
        (read,) = [r.outcome for r in await control.history("/root/a") if isinstance(r, TurnEnded)]
    assert live == read
    assert same(live.result, result)
    assert same(read.result, result)
