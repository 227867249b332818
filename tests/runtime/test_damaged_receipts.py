"""A receipt that no session can have written is told as damage, by the key that names it; all else goes on (harm, one
agent's rows are damaged).
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from model.audits import verify
from statemachine import AgentControl, PostgresStore, SessionConfig, SQLiteStore, Turn
from statemachine.runtime import AgentRef, KeyReused, UnknownRequest
from statemachine.stores import StoreCorrupt
from tests.stores import databases

SEND = '{"event":"Send","sender":-1,"target":1,"message":"x","headers":null}'
SPAWN = '{"event":"Spawn","parent":0,"name":"a","message":"x","settings":null,"sender":-1,"headers":null}'
DAMAGES: dict[str, tuple[str, Any, str]] = {
    "request that is not one": ("request", "zz", "its request is 'zz', and not the line of one"),
    "request without words": ("request", "", "its request is '', and not the line of one"),
    "event that is not a request": ("request", '{"event":"Tick","now":1.0}', "and not the line of one"),
    "request of another agent": ("request", SEND.replace(":1,", ":2,"), "is not one of agent 1"),
    "spawn of another agent": (
        "request",
        '{"event":"Spawn","parent":0,"name":"b","message":"x","settings":null,"sender":-1,"headers":null}',
        "is not one of agent 1",
    ),
    "answer that is not JSON": ("answer", "zz", "its answer is 'zz'"),
    "answer that is deep": ("answer", "[" * 100_000, "its answer is '[[["),
    "answer of other types": ("answer", '[1,5,{"a":1}]', "its answer is '[1,5"),
    "answer that is a truth": ("answer", '[true,"/root/a",0]', "its answer is '[true"),
    "answer without a mail": ("answer", '[1,"/root/a"]', "its answer is '[1,"),
    "agent that never was": ("answer", '[99,"/root",0]', "it names agent 99, which the session does not have"),
    "agent below 0": ("answer", '[-1,"/root",0]', "it names agent -1"),
    "agent at another path": ("answer", '[1,"/root/b",0]', "it names agent 1 as '/root/b'"),
    "mail that never was": ("answer", '[1,"/root/a",999999]', "never got its mail 999999"),
    "mail of another agent": ("answer", '[1,"/root/a",1]', "never got its mail 1"),
    "another mail of the agent": ("answer", '[1,"/root/a",2]', "did not make mail 2"),
    "mail of another key": ("answer", '[1,"/root/a",3]', "did not make mail 3"),
    "another message": ("request", SPAWN.replace('"x"', '"y"'), "did not make mail 0"),
    "another sender": ("request", SPAWN.replace('"sender":-1', '"sender":0'), "did not make mail 0"),
}
TEXT_THAT_IS_NONE = ("answer", b"\xff\xfe", "is not UTF-8")


async def echo(turn: Turn) -> str:
    return turn.mail[-1].text


async def make(store: Any) -> None:
    """A session with a receipt of each of two agents, and of a later mail of the first one."""
    async with AgentControl.open(store, echo, SessionConfig()) as control:
        for name in ("a", "b"):
            await (await control.spawn("/root", name, "x", key=f"key of {name}")).outcome()
        await (await control.follow_up("/root/a", "z")).outcome()
        await (await control.follow_up("/root/a", "z", key="key of z")).outcome()


async def meet(store: Any, text: str) -> None:
    """Repeats both requests: the one with the damaged receipt is told as damage, and nothing is carried out."""
    async with AgentControl.open(store, echo, SessionConfig()) as control:
        before = control.statistics().records
        for message in ("x", "something else"):
            with pytest.raises(StoreCorrupt, match="the receipt for key 'key of a': ") as refused:
                await control.spawn("/root", "a", message, key="key of a")
            assert text in refused.value.problem
        assert control.statistics().records == before
        assert (await (await control.spawn("/root", "b", "x", key="key of b")).outcome()).result == "x"
        with pytest.raises(KeyReused):
            await control.spawn("/root", "b", "y", key="key of b")
        assert (await (await control.follow_up("/root/a", "on", key="new")).outcome()).result == "on"


@pytest.mark.parametrize("damage", [*DAMAGES, "text that is none"])
def test_receipt_that_cannot_be_is_told_as_damage_and_the_session_goes_on(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "session.db"
    column, value, text = DAMAGES.get(damage, TEXT_THAT_IS_NONE)
    anyio.run(make, path)
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(f"UPDATE keys SET {column} = ? WHERE key = 'key of a'", (value,)).rowcount == 1
    result = verify.verify(path, 1, lambda *_: None)
    assert not result.held
    assert "key of a" in " ".join(result.lines)
    # A request that is not of the runtime may be anything to a store.
    problems = anyio.run(SQLiteStore(path).check)
    assert bool(problems) is ("and not the line of one" not in text)
    assert all("key of a" in problem for problem in problems)
    anyio.run(meet, path, text)


def test_mail_that_two_receipts_name_is_found(tmp_path: Path) -> None:
    path = tmp_path / "session.db"

    async def ask_twice_alike() -> None:
        async with AgentControl.open(path, echo, SessionConfig()) as control:
            for key in ("first", "second"):
                await (await control.start("/root", "x", key=key)).outcome()

    anyio.run(ask_twice_alike)
    assert anyio.run(SQLiteStore(path).check) == ()
    assert verify.verify(path, 1, lambda *_: None).held
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE keys SET answer = (SELECT answer FROM keys WHERE key = 'first')")
    assert "receipt 'second': it names mail 0, and so does the receipt for key 'first'" in anyio.run(
        SQLiteStore(path).check
    )
    assert not verify.verify(path, 1, lambda *_: None).held


@pytest.mark.parametrize("damage", [*DAMAGES, "text that is none"])
def test_receipt_that_cannot_be_in_postgresql_is_told_as_damage(damage: str, dsn: str) -> None:
    column, value, text = DAMAGES.get(damage, TEXT_THAT_IS_NONE)
    anyio.run(make, PostgresStore(dsn))
    data = value if isinstance(value, bytes) else value.encode()
    with databases.connected(dsn) as connection:
        statement = (
            f"UPDATE statemachine.keys SET {column} = %s WHERE session = (SELECT max(id) FROM statemachine.sessions"
        )
        assert connection.execute(f"{statement}) AND key = 'key of a'", (data,)).rowcount == 1
    assert bool(anyio.run(PostgresStore(dsn).check)) is ("and not the line of one" not in text)
    anyio.run(meet, PostgresStore(dsn), text)


async def refer(path: Path) -> None:
    async with AgentControl.open(path, echo, SessionConfig()) as control:
        handle = await control.spawn("/root", "a", "x")
        await control.spawn("/root", "b", "x")
        wrong = AgentRef(2, "/root/b", handle.ref.mail)
        for _ in range(2):  # while it is not answered, and then
            with pytest.raises(UnknownRequest):
                await control.handle(wrong)
            assert (await (await control.handle(handle.ref)).outcome()).result == "x"


def test_reference_to_the_mail_of_another_agent_is_refused_and_never_answered_by_it(tmp_path: Path) -> None:
    anyio.run(refer, tmp_path / "session.db")
