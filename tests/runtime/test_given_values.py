"""What callers are given is theirs: code that changes it changes nothing of the session (harm, values)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import fields

from statemachine import AgentControl, SQLiteStore, Turn, TurnState
from statemachine.core.records import MailAccepted, Outcome
from tests.runtime.running import Open, completed, ending, in_session, traced_sessions, virtual_time

FIXTURES = (traced_sessions, virtual_time)


def spoil(given: Any) -> None:
    """Changes all that can be changed in a value."""
    for field in fields(type(given)):
        try:
            setattr(given, field.name, object())
        except AttributeError:
            return  # it is frozen


async def by_handle(turn: Turn) -> None:
    handle = await turn.spawn("kid", "x")
    spoil(await handle.outcome())
    spoil(handle.ref)
    await turn.send(handle, "to the same agent")
    assert ending(await handle.outcome()) == completed("x")


async def by_outcomes(turn: Turn) -> None:
    handle = await turn.spawn("kid", "x")
    (outcome,) = await turn.outcomes(handle)
    spoil(outcome)
    async for outcome in turn.as_completed(handle):
        assert ending(outcome) == completed("x")
        spoil(outcome)


async def by_notice(turn: Turn) -> None:
    await turn.spawn("kid", "x")
    await turn.wait()
    (mail,) = await turn.drain()
    assert mail.outcome is not None
    spoil(mail.outcome)
    spoil(mail)


async def by_status(turn: Turn) -> None:
    handle = await turn.spawn("kid", "x")
    await handle.outcome()
    for status in (await turn.status(handle), *await turn.list()):
        if status.outcome is not None:
            spoil(status.outcome)
        spoil(status)


async def by_history(turn: Turn) -> None:
    handle = await turn.spawn("kid", "x")
    await handle.outcome()
    for record in await turn.history(handle):
        if hasattr(record, "outcome"):
            spoil(record.outcome)
        spoil(record)


WAYS: dict[str, Callable[[Turn], Awaitable[None]]] = {
    "handle": by_handle,
    "outcomes": by_outcomes,
    "notice": by_notice,
    "status": by_status,
    "history": by_history,
}


@pytest.mark.parametrize("way", WAYS)
def test_value_that_a_turn_has_changed_is_for_all_others_as_it_was(way: str, tmp_path: Path) -> None:
    path = tmp_path / "session.db"

    async def work(turn: Turn) -> str:
        if turn.path == "/root" and turn.number == 1:
            await WAYS[way](turn)
        return turn.mail[0].text

    async def live(control: AgentControl) -> None:
        assert ending(await (await control.start("/root", "go")).outcome()) == completed("go")
        await control.spawn("/root", "gone", "x")
        await control.close("/root/gone")
        await control.forget("/root/gone")  # makes a snapshot
        kid = (await control.status("/root/kid")).outcome
        assert kid is not None
        assert ending(kid) == completed("x")

    async def look(control: AgentControl) -> None:
        kid = (await control.status("/root/kid")).outcome
        assert kid == Outcome(kid.agent, 1, TurnState.COMPLETED, "x", kid.cause) if kid else False

    in_session(path, live, work)
    assert anyio.run(SQLiteStore(path).check) == ()
    in_session(path, look, work)


@pytest.mark.anyio
async def test_event_that_a_reader_has_changed_is_for_the_session_and_other_readers_as_it_was(
    open_session: Open,
) -> None:
    async def work(turn: Turn) -> Any:
        return [mail.text for mail in turn.mail]

    async def next_mail(events: AsyncIterator[Any]) -> MailAccepted:
        while not isinstance(event := await anext(events), MailAccepted):
            pass
        return event

    async with open_session(work) as control, control.events() as spoiled, control.events() as read:
        await control.send("/root", "a long message")
        spoil(await next_mail(spoiled))
        assert (await next_mail(read)).message == "a long message"
        handle = await control.start("/root", "go")
        assert ending(await handle.outcome()) == completed(["a long message", "go"])


@pytest.mark.anyio
async def test_settings_that_a_turn_has_changed_are_for_the_next_one_as_they_were(open_session: Open) -> None:
    async def work(turn: Turn) -> Any:
        turn.settings["tools"].append(turn.number)
        turn.agent.settings["tools"].append(turn.number)
        return turn.settings["tools"]

    async with open_session(work) as control:
        handle = await control.spawn("/root", "a", "x", settings={"tools": ["ls"]})
        for _ in range(2):
            assert ending(await handle.outcome()) == completed(["ls"])
            handle = await control.follow_up("/root/a", "again")
