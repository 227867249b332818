"""Rows that can be read, and that no session can have written: told as damage before anything is carried out, wherever
a session is opened or looked at (harm, one agent's rows are damaged).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from model.audits import verify
from statemachine import AgentControl, MemoryStore, PostgresStore, SessionConfig, SQLiteStore, Turn
from statemachine.core.events import HOST, ROOT
from statemachine.core.records import AgentSpawned, MailAccepted, MailKind
from statemachine.errors import AgentCorrupt, StoreCorrupt
from statemachine.stores import Store, Write, read_session
from statemachine.stores.contents import recovered_of
from statemachine.stores.errors import Unstorable
from statemachine.stores.places import read
from statemachine.stores.postgres.dsn import dsn_of
from tests.stores import databases
from tests.stores.session_files import CONFIG, ready

pytestmark = pytest.mark.anyio

SETTINGS = {"tools": ["ls"]}


async def work(turn: Turn) -> str:
    return turn.mail[-1].text


async def make(store: Any, *, tail: bool) -> None:
    """A session whose agents a, b and c have worked. a has an unread note of b, with headers. With `tail`, that and
    more stands behind the snapshot.
    """
    async with AgentControl.open(store(), work, SessionConfig()) as control:
        for name in "abc":
            await (await control.spawn("/root", name, "x", SETTINGS)).outcome()
        await control.close("/root/c")
        if not tail:
            await control.send("/root/a", "note", sender=2, headers={"trace": 1})
    async with AgentControl.open(store(), work, SessionConfig()) as control:
        if tail:
            await control.send("/root/a", "note", sender=2, headers={"trace": 1})
            await (await control.follow_up("/root/b", "y")).outcome()
            await control.resume("/root/c")
            await control.spawn("/root/a", "kid", "z", SETTINGS)
            await control.close("/root/b")


AGENT, PARENT, NAME, TEXT, IDENTITY, CLOSED_BY, STATUS, TURN, OUTCOME, TAKEN, MAILBOX, STOPPED, ATTEMPTS, LOADS = range(
    14
)
STOP = {"agent": 1, "at": None, "below": None, "by": None, "cause": 7, "turn": 1}

FACTS: dict[str, tuple[int, Any, str]] = {
    "sender that never was": (MAILBOX, {"sender": 77}, "from agent 77, which never was"),
    "sender below the host": (MAILBOX, {"sender": -3}, "from agent -3, which never was"),
    "mail of a later number": (MAILBOX, {"mail": 50}, "there never was a mail 50"),
    "headers that are not JSON": (MAILBOX, {"headers": '{"tr'}, "are not the headers of a mail"),
    "headers that are a list": (MAILBOX, {"headers": "[1]"}, "are not the headers of a mail"),
    "notice of nobody": (
        MAILBOX,
        {"notice": {"agent": 9, "by": None, "cause": 0, "raw": "", "status": 1, "turn": 1}},
        "there never was an agent 9",
    ),
    "notice of a turn that goes on": (
        MAILBOX,
        {"notice": {"agent": 2, "by": None, "cause": 0, "raw": "", "status": 7, "turn": 1}},
        "no turn 1 ends STOPPING",
    ),
    "queued": (STATUS, 4, "cannot be QUEUED"),
    "starting": (STATUS, 5, "cannot be STARTING"),
    "running": (STATUS, 6, "cannot be RUNNING"),
    "stopping": (STATUS, 7, "cannot be STOPPING"),
    "waiting": (STATUS, 8, "cannot be WAITING"),
    "returning": (STATUS, 9, "cannot be RETURNING"),
    "turn below 0": (TURN, -1, "its turn -1"),
    "end that is none": (OUTCOME, {"status": 8}, "cannot be COMPLETED"),
    "end of another agent": (OUTCOME, {"agent": 2}, "cannot be COMPLETED"),
    "end by nobody": (OUTCOME, {"by": 9}, "there never was an agent 9"),
    "unknown identity": (IDENTITY, 0, "it is UNKNOWN"),
    "closed with no agent": (IDENTITY, 2, "it is not said together with which agent"),
    "closed, and open": (CLOSED_BY, 1, "it is open, and was closed"),
    "stop of no turn": (STOPPED, STOP, "was not asked to stop"),
    "attempts below 0": (ATTEMPTS, -1, "-1 attempts"),
    "loads below 0": (LOADS, -1, "-1 loads"),
    "settings that are not JSON": (TEXT, "not json", "are not the role and settings"),
    "settings cut off": (TEXT, '{"role":"default","settings":{"to', "are not the role and settings"),
    "settings without a role": (TEXT, '{"settings":1}', "are not the role and settings"),
    **{
        f"name {name!r:.20}": (NAME, name, "is not a name")
        for name in ("", "root", "a/b", "a\n", "\n", "[/x]", "A", "é", "x" * 65)
    },
}
"""What is wrong with the facts of agent 1 -> which of them, what is there instead, and what is said."""

TAIL: dict[str, tuple[str, dict[str, Any], str, int | None]] = {
    "sender that never was": ("MailAccepted", {"sender": 77}, "there never was an agent 77", 1),
    "sender below the host": ("MailAccepted", {"sender": -3}, "there never was an agent -3", 1),
    "headers that are not JSON": ("MailAccepted", {"headers": "{"}, "are not the headers of a mail", 1),
    "mail of another number": ("MailAccepted", {"mail": 99}, "the next mail is 3", 1),
    "load of nobody": ("LoadBegun", {"agent": 99}, "there never was an agent 99", None),
    "load below 0": ("LoadBegun", {"agent": -1}, "there never was an agent -1", None),
    "load of the next agent": ("LoadBegun", {"agent": 4}, "there never was an agent 4", None),
    "load of a closed agent": ("LoadBegun", {"agent": 3}, "agent 3 is not open", 3),
    "start of another turn": ("TurnStarted", {"turn": 7}, "its turn 1 is COMPLETED", 2),
    "start of nobody's turn": ("TurnStarted", {"agent": -2}, "there never was an agent -2", None),
    "end that is none": ("TurnEnded", {"outcome.status": 7}, "no turn 2 ends STOPPING", 2),
    "end of another turn": ("TurnEnded", {"outcome.turn": 3}, "its turn 2 is RUNNING", 2),
    "end of nobody's turn": ("TurnEnded", {"outcome.agent": -2}, "there never was an agent -2", None),
    "end by nobody": ("TurnEnded", {"outcome.by": 9}, "there never was an agent 9", 2),
    "close of nobody": ("AgentsClosed", {"agents": [99]}, "there never was an agent 99", None),
    "close below 0": ("AgentsClosed", {"agents": [-3]}, "there never was an agent -3", None),
    "close by nobody": ("AgentsClosed", {"target": -3}, "there never was an agent -3", None),
    "close of the root": ("AgentsClosed", {"agents": [0]}, "the root is never closed", None),
    "resume of nobody": ("AgentResumed", {"agent": -1}, "there never was an agent -1", None),
    "resume of an open agent": ("AgentResumed", {"agent": 1}, "agent 1 is not closed", 1),
    "spawn under nobody": ("AgentSpawned", {"parent": -2}, "there never was an agent -2", 4),
    "spawn at a path that is taken": ("AgentSpawned", {"parent": 0, "name": "a"}, "agent 1 is open at /root/a", 4),
    "spawn with another name": ("AgentSpawned", {"name": "a/b"}, "is not a name", 4),
    "spawn of another agent": ("AgentSpawned", {"agent": 7}, "the next agent is 4", None),
    "spawn with settings that are not JSON": ("AgentSpawned", {"settings": "not json"}, "are not the role and", 4),
}
"""What is wrong with the first record of a kind behind the snapshot -> its fields, what is said, and of which agent."""


def changed(facts: str, what: int, value: Any) -> str:
    found = json.loads(facts)
    if isinstance(value, dict) and what == MAILBOX:
        found[what][0].update(value)
    elif isinstance(value, dict) and what == OUTCOME:
        found[what].update(value)
    else:
        found[what] = value
    return json.dumps(found)


def changed_record(data: str, fields: dict[str, Any]) -> str:
    found = json.loads(data)
    for name, value in fields.items():
        inner, _, last = name.rpartition(".")
        (found[inner] if inner else found)[last] = value
    return json.dumps(found)


def change_file(path: Path, select: str, update: str, change: Any) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        where, text = connection.execute(select).fetchone()
        assert connection.execute(update, (change(text), where)).rowcount == 1


async def expect(path: Path, said: str, agent: int | None) -> None:
    """Expects that every door tells of the damage, and that nothing is changed."""
    before = path.read_bytes()
    doors: list[Callable[[], object]] = [lambda: read_session(path), lambda: read(path, recovered_of)]
    for door in doors:
        with pytest.raises(StoreCorrupt) as refused:
            door()
        assert said in refused.value.problem
        assert getattr(refused.value, "agent", None) == agent
    with pytest.raises(StoreCorrupt) as refused:
        async with AgentControl.open(path, work, SessionConfig()):
            pass
    assert said in refused.value.problem
    assert isinstance(refused.value, AgentCorrupt) == (agent is not None)
    assert said in " ".join(await SQLiteStore(path).check())
    assert path.read_bytes() == before
    found = verify.verify(path, 1, lambda *_: None)
    assert not found.held
    if agent is not None:
        async with AgentControl.open(SQLiteStore(path, without=[agent]), work, SessionConfig()) as control:
            assert "/root" in [one.path for one in await control.list(closed=True)]


@pytest.mark.parametrize("damage", FACTS)
async def test_facts_that_can_be_read_and_cannot_be_are_told_as_damage_of_their_agent(
    damage: str, tmp_path: Path
) -> None:
    what, value, said = FACTS[damage]
    path = tmp_path / "session.db"
    await make(lambda: SQLiteStore(path), tail=False)
    change_file(
        path,
        "SELECT agent, facts FROM agents WHERE agent = 1",
        "UPDATE agents SET facts = ? WHERE agent = ?",
        lambda facts: changed(facts, what, value),
    )
    await expect(path, said, 1)


@pytest.mark.parametrize("damage", TAIL)
async def test_record_behind_the_snapshot_that_cannot_be_is_told_as_damage(damage: str, tmp_path: Path) -> None:
    kind, fields, said, agent = TAIL[damage]
    path = tmp_path / "session.db"
    await make(lambda: SQLiteStore(path), tail=True)
    change_file(
        path,
        "SELECT position, data FROM log WHERE position > (SELECT value FROM meta WHERE name = 'covered')"
        f" AND kind = '{kind}' ORDER BY position",
        "UPDATE log SET data = ? WHERE position = ?",
        lambda data: changed_record(data, fields),
    )
    await expect(path, said, agent)


@pytest.mark.parametrize("damage", ["sender that never was", "stopping", "settings that are not JSON", "name 'a/b'"])
async def test_facts_in_postgresql_that_cannot_be_are_told_as_damage_of_their_agent(damage: str, dsn: str) -> None:
    what, value, said = FACTS[damage]
    await make(lambda: PostgresStore(dsn), tail=False)
    named = dsn_of(dsn).session
    of_a = "agent = 1 AND session = (SELECT id FROM statemachine.sessions WHERE name = %s)"
    ((facts,),) = databases.sql(dsn, f"SELECT facts FROM statemachine.agents WHERE {of_a}", named)
    text = changed(facts.decode(), what, value).encode()
    databases.sql(dsn, f"UPDATE statemachine.agents SET facts = %s WHERE {of_a}", text, named)
    with pytest.raises(AgentCorrupt, match="agent 1: ") as refused:
        await ready(PostgresStore(dsn))
    assert said in refused.value.problem
    assert said in " ".join(await PostgresStore(dsn).check())
    assert not verify.verify(dsn, 1, lambda *_: None).held


@pytest.mark.parametrize(
    ("counts", "said"),
    [("[1,1,0]", "knows of 2 mails, and mail 3 is at"), ("[1,2,0]", "knows of 3 mails"), ("[1,0,2]", "knows of 3")],
)
async def test_snapshot_that_knows_of_fewer_mails_than_there_are_is_not_opened(
    counts: str, said: str, tmp_path: Path
) -> None:
    """Their numbers would be given again."""
    path = tmp_path / "session.db"
    await make(lambda: SQLiteStore(path), tail=False)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE agents SET facts = replace(facts, '\"mail\":3', '\"mail\":1')")
        connection.execute("UPDATE meta SET value = ? WHERE name = 'mail_states'", (counts,))
    await expect(path, said, None)


async def test_snapshot_in_postgresql_that_knows_of_fewer_mails_than_there_are_is_not_opened(dsn: str) -> None:
    await make(lambda: PostgresStore(dsn), tail=False)
    named = dsn_of(dsn).session
    of_a = "agent = 1 AND session = (SELECT id FROM statemachine.sessions WHERE name = %s)"
    ((facts,),) = databases.sql(dsn, f"SELECT facts FROM statemachine.agents WHERE {of_a}", named)
    fewer = facts.decode().replace('"mail":3', '"mail":1').encode()
    databases.sql(dsn, f"UPDATE statemachine.agents SET facts = %s WHERE {of_a}", fewer, named)
    databases.sql(dsn, "UPDATE statemachine.sessions SET mail_states = '[1,1,0]' WHERE name = %s", named)
    with pytest.raises(StoreCorrupt, match="knows of 2 mails, and mail 3 is at"):
        await ready(PostgresStore(dsn))


async def test_snapshot_with_more_dead_letters_than_there_can_be_is_not_held(tmp_path: Path) -> None:
    path = tmp_path / "session.db"
    await make(lambda: SQLiteStore(path), tail=False)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE meta SET value = '[1,3,5]' WHERE name = 'mail_states'")
    found = verify.verify(path, 1, lambda *_: None)
    assert not found.held
    assert "5 mails are in no rollout, and at most 0 notices can be dead letters" in found.lines[0]


@pytest.mark.parametrize("store", [MemoryStore, None])
async def test_text_that_could_not_be_opened_again_is_not_written(store: Any, tmp_path: Path) -> None:
    opened: Store = await ready(MemoryStore() if store else SQLiteStore(tmp_path / "session.db"))
    with pytest.raises(Unstorable, match="are not the headers of a mail"):
        await opened.append([Write((MailAccepted(0, HOST, ROOT, MailKind.QUEUE, "x", headers="first"),))])
    await opened.close()
    opened = await ready(MemoryStore() if store else SQLiteStore(tmp_path / "session.db"))
    with pytest.raises(Unstorable, match="are not the role and settings"):
        await opened.append([Write((AgentSpawned(1, ROOT, "a", "first", at=1.0),))])
    await opened.close()


async def test_settings_of_another_host_of_the_core_are_any_text(tmp_path: Path) -> None:
    """It gives no times, as the runtime does."""
    store = await ready(SQLiteStore(tmp_path / "session.db"))
    await store.append([Write((AgentSpawned(1, ROOT, "a", "settings of a"),))])
    await store.close()
    for _ in range(2):
        store = SQLiteStore(tmp_path / "session.db")
        assert (await store.open(CONFIG)).ledger.agents[1].settings == "settings of a"
        await store.close()
