"""What is forgotten goes from memory and from the file, and is never given again (semantics.md section 7)."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from model.audits.verify import verify_database
from model.lockstep import core_step
from model.scenarios import script
from statemachine import AgentControl, AgentRef, Turn
from statemachine.core.machines import Identity
from statemachine.core.records import AgentsForgotten, MailAccepted, Record
from statemachine.core.refusals import UnknownAgent
from statemachine.core.session import Session
from statemachine.errors import UnknownPath
from statemachine.log.recovery import durable_facts
from statemachine.log.snapshot import facts_of, touched
from statemachine.stores import Entry, MemoryStore, PostgresStore, Receipt, Snapshot, SQLiteStore, Store, Write
from statemachine.stores.errors import StoreError
from statemachine.stores.sqlite import schema
from statemachine.stores.sqlite.tables import Tables
from tests.stores.session_files import CONFIG, ready, sql

pytestmark = pytest.mark.anyio

LIFE = """
    spawn root a by host; loaded a; spawn a kid; loaded a/kid; spawn root b by host; loaded b; send a b;
    follow_up a/kid b; finished a/kid; finished a; finished b; close host a
"""
"""Agents 1 (a), 2 (below it) and 3 (b), which both of them have sent mail."""
RECEIPTS = (
    Receipt("of a", "spawn a", '[1,"/root/a",0]'),
    Receipt("of b", '{"event":"Start","target":3,"message":"work","headers":null}', '[3,"/root/b",2]'),
    Receipt("of 11", "spawn", '[11,"/root/x",9]'),
    Receipt("a number", "x", "1"),
    Receipt("a longer number", "x", "21"),
    Receipt("an object", "x", '{"agent":1}'),
)

NewStore = Callable[..., Store]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "session.db"


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def new_store(request: pytest.FixtureRequest, path: Path) -> NewStore:
    """Makes one more store for the same session."""
    if request.param == "postgres":
        dsn: str = request.getfixturevalue("dsn")
        return lambda **options: PostgresStore(dsn, **options)
    if request.param == "sqlite":
        return lambda **options: SQLiteStore(path, **options)
    first = MemoryStore()
    return lambda **options: MemoryStore(first.log, **options)


class Life:
    """A session, and what the runtime appends of it."""

    def __init__(self, program: str) -> None:
        self.session = Session(CONFIG)
        self.changed: set[int] = set()
        self.lived = Write(self.play(program))

    def play(self, program: str) -> tuple[Record, ...]:
        records: list[Record] = []
        for line in program.split(";"):
            self.session, step = core_step(self.session, script.parse(line.strip(), self.session))
            records += step.records
        self.changed |= touched(records, self.session.ledger)
        return tuple(records)

    def snapshot(self) -> Snapshot:
        ledger = self.session.ledger
        facts = tuple([facts_of(ledger, ledger.agents[agent]) for agent in sorted(self.changed)])
        self.changed.clear()
        return Snapshot(facts, tuple(ledger.mail_states))

    def forgets(self, program: str = "forget a") -> list[Write | Snapshot]:
        return [Write(self.play(program)), self.snapshot()]


async def lived(store: Store, receipts: Sequence[Receipt] = RECEIPTS[:2]) -> Life:
    """The life, in a store that is open now: a part of it before a snapshot, and the rest behind."""
    await store.open(CONFIG)
    life = Life(LIFE)
    early = Life(LIFE.partition("; follow_up")[0])
    await store.append([early.lived, Write((Entry(1, 1, "secret"),)), early.snapshot()])
    await store.append([Write(life.lived.records[len(early.lived.records) :])])
    await store.append([Write((Entry(1, 1, "last words"),)), *[Write((), receipt) for receipt in receipts]])
    return life


async def test_forgetting_deletes_rollouts_and_what_was_asked_with_keys_and_keeps_all_else(new_store: NewStore) -> None:
    store = new_store()
    life = await lived(store, RECEIPTS)
    kept = await store.rollout(3)
    assert await store.rollout(1) != () != await store.rollout(2)
    await store.append(life.forgets())
    for _ in range(3):
        assert await store.rollout(1) == await store.rollout(2) == ()
        assert await store.rollout(3) == kept
        assert [record.sender for record in kept if isinstance(record, MailAccepted)] == [-1, 1, 2]
        found = [await store.receipt(receipt.key) for receipt in RECEIPTS]
        assert found == [Receipt("of a", "", RECEIPTS[0].answer), *RECEIPTS[1:]]
        await store.close()
        store = new_store()
        ledger = (await store.open(CONFIG)).ledger
        assert durable_facts(ledger) == durable_facts(life.session.ledger)
        assert [agent.identity for agent in ledger.agents[1:]] == [
            Identity.FORGOTTEN,
            Identity.FORGOTTEN,
            Identity.OPEN,
        ]
        assert (ledger.agents[1].path, ledger.agents[1].outcome, ledger.agents[1].settings) == ("", None, None)
        assert (len(ledger.agents), ledger.next_mail) == (4, life.session.ledger.next_mail)
    await store.close()


async def test_forgetting_many_at_once_deletes_each(new_store: NewStore) -> None:
    names = [f"x{number}" for number in range(40)]
    life = Life(";".join(f"spawn root {name} by host; close host {name}" for name in names))
    store = await ready(new_store())
    await store.append([life.lived])
    await store.append(life.forgets(";".join(f"forget {name}" for name in names[:30])))
    assert [agent for agent in range(1, 41) if await store.rollout(agent)] == list(range(31, 41))
    await store.close()


async def test_file_has_nothing_of_the_forgotten_and_is_sound(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where SQLite was built to leave the bytes of deleted rows where they are."""
    connect = schema.connect

    def careless(*words: Any) -> sqlite3.Connection:
        connection = connect(*words)
        connection.execute("PRAGMA secure_delete = OFF")
        return connection

    monkeypatch.setattr(schema, "connect", careless)
    store = SQLiteStore(path)
    life = await lived(store)
    await store.append(life.forgets())
    assert await store.check() == ()
    await store.close()
    assert await store.check() == ()
    assert verify_database(path).held
    assert (
        sql(path, "SELECT agent FROM log WHERE agent IN (1, 2) UNION SELECT agent FROM rollouts WHERE agent < 3") == []
    )
    said = path.read_bytes()
    assert b"settings of b" in said
    for secret in (b"secret", b"last words", b"settings of a", b"settings of kid", b"spawn a"):
        assert secret not in said, secret


async def test_crash_in_the_middle_of_forgetting_leaves_all_or_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SQLiteStore(path)
    life = await lived(store)
    before, rollout = durable_facts(life.session.ledger), await store.rollout(1)
    real = Tables._forget

    def fail(self: Tables, agents: list[int]) -> None:
        real(self, agents)
        raise MemoryError

    monkeypatch.setattr(Tables, "_forget", fail)
    with pytest.raises(MemoryError):
        await store.append(life.forgets())
    monkeypatch.undo()
    with pytest.raises(StoreError, match="MemoryError"):
        await store.append(life.forgets("status b"))
    await store.close()
    assert durable_facts((await store.open(CONFIG)).ledger) == before
    assert await store.rollout(1) == rollout
    assert await store.receipt("of a") == RECEIPTS[0]
    await store.close()


@pytest.mark.parametrize("reopened", [False, True])
async def test_forgetting_waits_for_the_snapshot_if_that_has_facts_too_large_for_a_row(
    path: Path, monkeypatch: pytest.MonkeyPatch, reopened: bool
) -> None:
    connect = schema.connect

    def limited(*words: Any) -> sqlite3.Connection:
        connection = connect(*words)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 100_000)
        return connection

    monkeypatch.setattr(schema, "connect", limited)
    store = SQLiteStore(path)
    life = await lived(store)
    await store.append([Write(life.play("; ".join(["send host b"] * 900)))])
    await store.append(life.forgets())
    assert sql(path, "SELECT count(*) FROM log WHERE agent = 1") != [(0,)]
    if reopened:
        await store.close()
        store = SQLiteStore(path)
        assert durable_facts((await store.open(CONFIG)).ledger) == durable_facts(life.session.ledger)
        assert await store.check() == ()
    await store.append([Write(life.play("drain b")), life.snapshot()])
    assert sql(path, "SELECT count(*) FROM log WHERE agent = 1") == [(0,)]
    assert await store.check() == ()
    await store.close()


# With the runtime


async def work(turn: Turn) -> str:
    if turn.path == "/root/a":
        await (await turn.spawn("kid", "go")).outcome()
        await turn.send("/root/b", "from a")
    await turn.record("secret")
    return "done"


class Watched(MemoryStore):
    """Knows what was appended."""

    def __init__(self, log: Any = None) -> None:
        super().__init__(log)
        self.appended: list[Sequence[Write | Snapshot]] = []

    async def append(self, items: Sequence[Write | Snapshot]) -> None:
        self.appended.append(items)
        await super().append(items)


async def test_snapshot_without_the_forgotten_is_in_the_append_that_forgets_them() -> None:
    store = Watched()
    async with AgentControl.open(store, work) as control:
        await (await control.spawn("/root", "b", "go")).outcome()
        await (await control.spawn("/root", "a", "go")).outcome()
        await control.close("/root/a")
        await control.forget("/root/a")
    (items,) = [
        items
        for items in store.appended
        if any(
            isinstance(record, AgentsForgotten) for item in items if isinstance(item, Write) for record in item.records
        )
    ]
    *_, last = items
    assert isinstance(last, Snapshot)
    forgotten = {facts.agent: facts for facts in last.agents if facts.identity is Identity.FORGOTTEN}
    assert [(number, facts.name, facts.outcome, facts.times) for number, facts in forgotten.items()] == [
        (2, "", None, None),
        (3, "", None, None),
    ]


async def test_forgotten_agent_is_unknown_by_path_reference_and_key_before_and_after_reopening(
    new_store: NewStore,
) -> None:
    async def is_unknown(control: AgentControl, reference: AgentRef) -> None:
        asks: tuple[Callable[[], Awaitable[object]], ...] = (
            lambda: control.spawn("/root", "a", "go", key="of a"),
            lambda: control.follow_up("/root/b", "other", key="of a"),
            lambda: control.status(reference.id),
            lambda: control.history(reference.id),
            lambda: control.handle(reference),
            lambda: control.resume(reference.id),
            lambda: control.forget(reference.id),
        )
        for ask in asks:
            with pytest.raises(UnknownAgent):
                await ask()
        with pytest.raises(UnknownPath):
            await control.status("/root/a")

    async with AgentControl.open(new_store(), work) as control:
        await (await control.spawn("/root", "b", "go")).outcome()
        handle = await control.spawn("/root", "a", "go", key="of a")
        await handle.outcome()
        await control.close("/root/a")
        assert (await control.forget("/root/a")).paths == ("/root/a", "/root/a/kid")
        await is_unknown(control, handle.ref)
    async with AgentControl.open(new_store(), work) as control:
        await is_unknown(control, handle.ref)
        assert [agent.path for agent in await control.list("/", closed=True)] == ["/root", "/root/b"]
        again = await control.spawn("/root", "a", "go")
        assert (again.ref.id, again.ref.mail > handle.ref.mail) == (4, True)
        assert (await again.outcome()).result == "done"
        assert [mail.sender for mail in await control.history("/root/b") if isinstance(mail, MailAccepted)] == [
            -1,
            2,
            4,
        ]
