"""A session of which the rows of one agent are damaged is opened without that agent, when asked to (harm)."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.fuzzing import chance
from model.lockstep import core_step
from statemachine import AgentControl, Turn, check
from statemachine.core.events import HOST, ROOT
from statemachine.core.ledger import Ledger
from statemachine.core.machines import Identity
from statemachine.core.records import AgentSpawned, MailAccepted, MailKind, TurnStarted
from statemachine.core.session import Session
from statemachine.errors import AgentCorrupt, StoreCorrupt, StoreError, UnknownAgent, UnknownPath
from statemachine.log.recovery import durable_facts, restart
from statemachine.log.snapshot import facts_of, touched
from statemachine.stores import Entry, PostgresStore, Snapshot, SQLiteStore, Store, Write, read_rollout
from tests.stores import databases
from tests.stores.session_files import CONFIG, make, opened, ready, sql

pytestmark = pytest.mark.anyio

FAMILY = (
    AgentSpawned(1, ROOT, "a", None),
    AgentSpawned(2, 1, "b", None),
    AgentSpawned(3, ROOT, "c", '{"role":"x","settings":1}'),
    MailAccepted(0, HOST, 1, MailKind.TRIGGER, "to a"),
    MailAccepted(1, 1, 3, MailKind.TRIGGER, "from a to c"),
    MailAccepted(2, 3, 2, MailKind.TRIGGER, "from c to b"),
    TurnStarted(1, 1),
    Entry(1, 1, "said by a"),
)
"""a, with b below it, and c beside it. b and c have unread mail, and the turn of a runs."""
DAMAGES = {
    "its facts": ("UPDATE agents SET facts = '{' WHERE agent = 1", True),
    "facts of another kind": ("UPDATE agents SET facts = x'00' WHERE agent = 1", True),
    "facts of another agent": (
        "UPDATE agents SET facts = (SELECT facts FROM agents WHERE agent = 3) WHERE agent = 1",
        True,
    ),
    "no facts at all": ("DELETE FROM agents WHERE agent = 1", True),
    "a record": ("UPDATE log SET data = '{' WHERE agent = 1 AND kind = 'TurnStarted'", False),
    "its mail": ("UPDATE log SET data = '{' WHERE agent = 1 AND kind = 'MailAccepted'", False),
    "a record that cannot be": ("UPDATE log SET kind = 'TurnReturned' WHERE agent = 1 AND kind = 'TurnStarted'", False),
    "its spawn": ("UPDATE log SET data = '{' WHERE position = 1", False),
    "an entry": ("UPDATE log SET data = '[' WHERE agent = 1 AND kind = 'Entry'", False),
}
"""What is damaged -> how, and whether that is in the snapshot, or else behind it."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "session.db"


async def damaged(path: Path, damage: str) -> None:
    statement, is_covered = DAMAGES[damage]
    await make(path, Write(FAMILY))
    if is_covered:
        await (await opened(path)).close()
    assert sql(path, statement, "SELECT changes()") == [(1,)]


def identities(ledger: Ledger) -> list[str]:
    return [f"{agent.path} {agent.identity.name}" for agent in ledger.agents]


@pytest.mark.parametrize("damage", DAMAGES)
async def test_damage_of_one_agent_is_told_with_its_id_and_what_to_do(damage: str, path: Path) -> None:
    await damaged(path, damage)
    before = path.read_bytes()
    with pytest.raises(AgentCorrupt, match=r"agent 1: .*`SQLiteStore\(path, without=\[id\]\)`") as refused:
        await opened(path)
    assert refused.value.agent == 1
    assert isinstance(refused.value, StoreCorrupt)
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", DAMAGES)
async def test_session_is_opened_without_the_damaged_agent_and_all_below_it(
    damage: str, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await damaged(path, damage)
    for without in ([1], [], [1], [1, 2]):
        store = SQLiteStore(path, without=without)
        with caplog.at_level(logging.WARNING):
            found = await store.open(CONFIG)
        assert identities(found.ledger) == ["/root OPEN", " FORGOTTEN", " FORGOTTEN", "/root/c OPEN"]
        (mail,) = found.ledger.agents[3].mailbox
        assert (mail.mail, mail.sender, mail.message) == (1, 1, "from a to c")
        assert found.ledger.next_mail == 3
        assert found.ledger.agents[3].promised == 0
        assert found.ledger.by_path == {"/root": 0, "/root/c": 3}
        await store.close()
    assert (
        caplog.messages[0] == f"{path} is opened without agents 1, 2, as asked: they and all below them are forgotten"
    )
    if damage in ("its facts", "no facts at all"):
        assert [record for record in read_rollout(path, 1) if isinstance(record, Entry)] == [FAMILY[-1]]


async def test_damage_that_says_it_is_of_an_agent_that_never_was_is_not_told_as_that_of_one(path: Path) -> None:
    await make(path, Write(FAMILY))
    sql(path, """UPDATE log SET data = replace(data, '"agent":1', '"agent":9') WHERE kind = 'TurnStarted'""")
    with pytest.raises(StoreCorrupt, match="cannot follow") as refused:
        await opened(path)
    assert type(refused.value) is StoreCorrupt


@pytest.mark.parametrize("damage", ["its facts", "its mail"])
async def test_damage_of_the_root_does_not_advise_to_do_without_it(damage: str, path: Path) -> None:
    await make(path, Write((*FAMILY, MailAccepted(3, HOST, ROOT, MailKind.QUEUE, "to the root"))))
    if damage == "its facts":
        await (await opened(path)).close()
    table, column = ("agents", "facts") if damage == "its facts" else ("log", "data")
    assert sql(path, f"UPDATE {table} SET {column} = '{{' WHERE agent = 0", "SELECT changes()") == [(1,)]
    with pytest.raises(StoreCorrupt) as refused:
        await opened(path)
    assert type(refused.value) is StoreCorrupt
    assert "without=" not in str(refused.value)


async def test_session_without_a_damaged_agent_works_on(path: Path) -> None:
    asked = list[str]()

    async def work(turn: Turn) -> str:
        asked.append(f"{turn.path}: {[mail.text for mail in turn.mail]}")
        return ""

    async with AgentControl.open(path, work) as control:
        for parent, name in (("/root", "a"), ("/root/a", "b"), ("/root", "c")):
            handle = await control.spawn(parent, name, "x", key=name)
            await handle.outcome()
    await (await opened(path)).close()
    assert sql(path, "UPDATE agents SET facts = '{' WHERE agent = 1", "SELECT changes()") == [(1,)]
    with pytest.raises(AgentCorrupt):
        await AgentControl.open(path, work).__aenter__()
    async with AgentControl.open(SQLiteStore(path, without=[1]), work) as control:
        assert [agent.path for agent in await control.list(closed=True)] == ["/root", "/root/c"]
        for path_of in ("/root/a", "/root/a/b"):
            with pytest.raises(UnknownPath):
                await control.status(path_of)
        with pytest.raises(UnknownAgent):
            await control.spawn("/root", "a", "x", key="a")
        again = await control.spawn("/root", "a", "once more")
        assert again.ref.id == 4
        await again.outcome()
        await (await control.follow_up("/root/c", "y")).outcome()
    assert asked[-2:] == ["/root/a: ['once more']", "/root/c: ['y']"]
    async with AgentControl.open(path, work) as control:
        assert [agent.agent for agent in await control.list()] == [0, 4, 3]


@pytest.mark.parametrize("without", [[0], [-1], ["a"], [True], [1.0]])
@pytest.mark.parametrize("store", [SQLiteStore, PostgresStore])
def test_agent_that_cannot_be_left_out_is_refused(store: Callable[..., Store], without: Any) -> None:
    with pytest.raises(TypeError, match="ids of agents other than the root"):
        store("postgresql://host/database?session=x", without=without)


async def test_agent_that_never_was_cannot_be_left_out(path: Path) -> None:
    await make(path, Write(FAMILY))
    with pytest.raises(StoreError, match="never was an agent 9"):
        await opened(path, without=[9])
    await (await opened(path)).close()


@pytest.mark.parametrize("seed", range(20))
async def test_what_is_known_of_others_is_the_same_without_a_damaged_agent_in_any_life(seed: int, path: Path) -> None:
    rnd = random.Random(seed)
    config = chance.config_of(rnd.randbytes(chance.CONFIG_BYTES))
    s, store, dirty = Session(config), await opened(path, config), set[int]()
    for number in range(200):
        s, step = core_step(s, chance.event_of(s, chance.PLENTY, rnd.randbytes(chance.BYTES)))
        dirty |= touched(step.records, s.ledger)
        await store.append([Write(step.records)])
        if number == 120:
            facts = tuple([facts_of(s.ledger, s.agents[agent]) for agent in sorted(dirty)])
            await store.append([Snapshot(facts, tuple(s.ledger.mail_states))])
    await store.close()
    known = [a.id for a in s.agents[1:] if a.identity is not Identity.FORGOTTEN]
    agent = rnd.choice(known)
    gone = {agent, *[member.id for member in s.subtree(agent)]}
    sql(
        path,
        f"UPDATE agents SET facts = '{{' WHERE agent = {agent}",
        f"""UPDATE log SET data = '{{' WHERE agent = {agent}
            AND position > (SELECT value FROM meta WHERE name = 'covered')""",
    )
    store = SQLiteStore(path, without=[agent])
    found = (await store.open(config)).ledger
    await store.close()
    assert {a.id for a in found.agents if a.identity is Identity.FORGOTTEN} >= gone
    for mine, other in zip(s.ledger.agents, found.agents, strict=True):
        if mine.id not in gone:
            assert facts_of(found, other) == facts_of(s.ledger, mine)
    assert found.next_mail == s.ledger.next_mail
    store = SQLiteStore(path)
    assert durable_facts((await store.open(config)).ledger) == durable_facts(found)
    await store.close()
    session, _ = restart(config, found, 0.0)
    check(session)


# In PostgreSQL

DAMAGES_THERE = {
    "its facts": ("UPDATE statemachine.agents SET facts = '{' WHERE session = %s AND agent = 1", True),
    "facts of another agent": (
        """UPDATE statemachine.agents AS damaged SET facts = other.facts FROM statemachine.agents AS other
        WHERE damaged.session = %s AND damaged.agent = 1 AND other.session = damaged.session AND other.agent = 3""",
        True,
    ),
    "no facts at all": ("DELETE FROM statemachine.agents WHERE session = %s AND agent = 1", True),
    "its mail": (
        "UPDATE statemachine.log SET data = '{' WHERE session = %s AND agent = 1 AND kind = 'MailAccepted'",
        False,
    ),
    "its spawn": ("UPDATE statemachine.log SET data = '{' WHERE session = %s AND position = 1", False),
    "an entry": ("UPDATE statemachine.log SET data = '[' WHERE session = %s AND agent = 1 AND kind = 'Entry'", False),
}
"""See `DAMAGES`."""


async def damaged_there(dsn: str, damage: str) -> None:
    statement, is_covered = DAMAGES_THERE[damage]
    store = await ready(PostgresStore(dsn))
    await store.append([Write(FAMILY)])
    await store.close()
    if is_covered:
        await (await ready(PostgresStore(dsn))).close()
    with databases.connected(dsn) as connection:
        named = store._names.session
        row = connection.execute("SELECT id FROM statemachine.sessions WHERE name = %s", (named,)).fetchone()
        assert row is not None
        assert connection.execute(statement, row).rowcount == 1


@pytest.mark.parametrize("damage", DAMAGES_THERE)
async def test_damage_of_one_agent_in_postgresql_is_told_and_the_session_opened_without_it(
    damage: str, dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    await damaged_there(dsn, damage)
    with pytest.raises(AgentCorrupt, match=r"agent 1: .*`PostgresStore\(dsn, without=\[id\]\)`") as refused:
        await ready(PostgresStore(dsn))
    assert refused.value.agent == 1
    for without in ([1], [], [1], [1, 2]):
        store = PostgresStore(dsn, without=without)
        with caplog.at_level(logging.WARNING):
            found = await store.open(CONFIG)
        assert identities(found.ledger) == ["/root OPEN", " FORGOTTEN", " FORGOTTEN", "/root/c OPEN"]
        (mail,) = found.ledger.agents[3].mailbox
        assert (mail.mail, mail.sender, mail.message) == (1, 1, "from a to c")
        assert found.ledger.next_mail == 3
        await store.close()
    assert caplog.messages[0].endswith(
        " is opened without agents 1, 2, as asked: they and all below them are forgotten"
    )
    if damage in ("its facts", "no facts at all"):
        assert [record for record in read_rollout(dsn, 1) if isinstance(record, Entry)] == [FAMILY[-1]]


async def test_agent_that_never_was_cannot_be_left_out_in_postgresql(dsn: str) -> None:
    store = await ready(PostgresStore(dsn))
    await store.append([Write(FAMILY)])
    await store.close()
    with pytest.raises(StoreError, match="never was an agent 9"):
        await ready(PostgresStore(dsn, without=[9]))
    store = await ready(PostgresStore(dsn))
    assert store.epoch == 2
    await store.close()
