"""The file of a session: what is in it, what an append leaves in it, and what a check finds."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from anyio import CancelScope, create_task_group, to_thread

from statemachine.core.events import ROOT
from statemachine.core.records import AgentSpawned, MailAccepted, MailKind, TurnStarted
from statemachine.log.recovery import durable_facts, fold
from statemachine.log.snapshot import facts_of
from statemachine.stores import Entry, Receipt, Snapshot, SQLiteStore, Synchronous, Write
from statemachine.stores.errors import (
    StoreCorrupt,
    StoreError,
    StoreFull,
)
from statemachine.stores.rows import Encoded
from statemachine.stores.sqlite import schema, tables
from statemachine.stores.sqlite.reading import read_rollout, read_session
from tests.stores.session_files import CONFIG, FACTS, LIFE, beside, make, opened, sql

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "session.db"


# What is in the file


async def test_facts_that_are_too_large_for_a_row_wait_for_a_later_snapshot(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = schema.connect

    def limited(*words: Any) -> sqlite3.Connection:
        connection = connect(*words)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 100_000)
        return connection

    monkeypatch.setattr(schema, "connect", limited)
    agents = (AgentSpawned(1, ROOT, "a", None), AgentSpawned(2, ROOT, "b", None))
    mails = tuple([MailAccepted(number, ROOT, 1, MailKind.QUEUE, "x" * 1000) for number in range(200)])
    await make(path, Write((*agents, *mails)))

    async def opened(*items: Write | Snapshot) -> None:
        store = SQLiteStore(path)
        found = await store.open(CONFIG)
        assert durable_facts(found.ledger) == durable_facts(fold(CONFIG, [*agents, *mails]))
        await store.append(items)
        await store.close()

    await opened()  # with a snapshot that cannot be taken
    assert sql(path, "SELECT value FROM meta WHERE name = 'covered'") == [(0,)]
    await opened(Snapshot((), (200, 0, 0)), Write((Entry(2, 1, "x"),)))
    store = SQLiteStore(path)
    found = await store.open(CONFIG)
    await store.append([Write((TurnStarted(1, 1),))])
    assert store._tables is not None
    facts = fold(CONFIG, [*agents, *mails, TurnStarted(1, 1)])
    await store.append(
        [Snapshot((facts_of(facts, facts.agents[1]),), tuple(facts.mail_states))]
    )  # b was touched before
    await store.close()
    assert sql(path, "SELECT value FROM meta WHERE name = 'covered'") == [(204,)]
    found = read_session(path)
    assert (durable_facts(found.ledger), found.tail) == (durable_facts(facts), 0)


async def test_file_says_what_it_is_and_is_alone_but_for_the_lock_when_closed(path: Path) -> None:
    store = await opened(path)
    assert sql(path, "PRAGMA journal_mode") == [("wal",)]
    assert store._tables is not None
    assert store._tables.connection.execute("PRAGMA synchronous").fetchone() == (2,)
    await store.close()
    assert sql(path, "PRAGMA application_id") == [(schema.APPLICATION_ID,)]
    assert sql(path, "PRAGMA user_version") == [(len(schema.MIGRATIONS),)]
    assert beside(path) == ["session.db", "session.db.lock"]


async def test_synchronous_normal_is_what_the_connection_has_if_asked_for(path: Path) -> None:
    store = await opened(path, synchronous=Synchronous.NORMAL)
    assert store._tables is not None
    assert store._tables.connection.execute("PRAGMA synchronous").fetchone() == (1,)
    await store.close()


async def test_snapshot_removes_what_is_in_no_rollout_up_to_it_and_positions_are_never_given_again(path: Path) -> None:
    store = await opened(path)
    ledger = fold(CONFIG, LIFE[:1])
    await store.append([Write((*LIFE[1:], LIFE[0])), Snapshot((facts_of(ledger, ledger.agents[1]),), (0, 1, 0))])
    kept = sql(path, "SELECT position, kind FROM log ORDER BY position")
    assert kept == [(1, "MailAccepted"), (2, "TurnStarted"), (3, "Entry"), (4, "TurnEnded")]
    second = AgentSpawned(2, ROOT, "b", None)
    await store.append([Write((second,))])
    assert sql(path, "SELECT position, kind FROM log WHERE position > 4") == [(6, "AgentSpawned")]
    await store.close()
    reopened = SQLiteStore(path)
    found = await reopened.open(CONFIG)
    assert (found.tail, len(found.ledger.agents)) == (1, 3)
    assert sql(path, "SELECT value FROM meta WHERE name = 'covered'") == [(6,)]
    await reopened.close()
    assert sql(path, "SELECT max(position) FROM log") == [(4,)]
    await reopened.open(CONFIG)
    await reopened.append([Write((TurnStarted(2, 1),))])
    assert sql(path, "SELECT max(position) FROM log") == [(7,)]
    await reopened.close()


@pytest.mark.parametrize("moment", ["in line", "not committed", "committed", "twice"])
async def test_rollout_that_is_read_while_a_snapshot_is_taken_has_all_records(
    path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """More than are looked up at a time, some in the table of rollouts, some not, for two agents."""
    store, cover = SQLiteStore(path), tables.Tables._cover
    covered, go_on = threading.Event(), threading.Event()
    covers: list[int] = []

    def wait_then_cover(self: tables.Tables, *facts: Any) -> None:
        covers.append(len(covers))
        if moment == "in line" and covers == [0]:
            covered.set()
            go_on.wait(60)
        cover(self, *facts)
        if moment == "not committed" and covers == [0, 1]:
            covered.set()
            go_on.wait(60)

    def entries(numbers: range) -> Write:
        return Write(tuple([Entry(agent, 1, number) for number in numbers for agent in (ROOT, 1)]))

    async def take_snapshot() -> None:
        snapshot = Snapshot((), (0, 1, 0))
        await store.append([snapshot, entries(range(100, 102)), snapshot, entries(range(102, 104))])

    async def numbers() -> list[Any]:
        rollout = await store.rollout(1)
        return [record.data for record in rollout if isinstance(record, Entry)]

    await store.open(CONFIG)
    await store.append([entries(range(40)), Snapshot((), (0, 1, 0))])
    await store.append([entries(range(40, 100))])
    assert await numbers() == list(range(100))
    monkeypatch.setattr(tables.Tables, "_cover", wait_then_cover)
    async with create_task_group() as tasks:
        tasks.start_soon(take_snapshot)
        if moment in ("in line", "not committed"):
            assert await to_thread.run_sync(covered.wait, 60)
            assert await numbers() == list(range(100))
            assert store._tables is not None
            assert max(store._tables.uncovered(1)) <= 80 + 2 * 60, "what is not durable is not told"
            go_on.set()
    if moment == "twice":
        await take_snapshot()
        assert store._tables is not None
        assert len(store._tables.uncovered(1)) == 2, "what is covered is forgotten"
    assert await numbers() == [*range(100), *([*range(100, 104)] * (2 if moment == "twice" else 1))]
    await store.close()
    assert len(read_rollout(path, 1)) == len(await reopened_rollout(path))


async def reopened_rollout(path: Path) -> tuple[Any, ...]:
    store = await opened(path)
    try:
        return await store.rollout(1)
    finally:
        await store.close()


async def test_opening_reads_nothing_of_the_log_that_a_snapshot_covers(path: Path) -> None:
    await make(path)
    await make(path, Write((Entry(1, 2, "more"),)))
    sql(path, "UPDATE log SET data = 'damaged' WHERE kind != 'Entry'")
    store = SQLiteStore(path)
    found = await store.open(CONFIG)
    assert (found.tail, durable_facts(found.ledger)) == (1, FACTS)
    with pytest.raises(StoreCorrupt, match="log position"):
        await store.rollout(1)
    await store.close()


# Two ways of appending less than all


async def test_failure_in_the_middle_of_an_append_leaves_nothing_of_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await opened(path)
    await store.append([Write(LIFE[:2])])
    real = tables.Tables.set_meta

    def fail(self: tables.Tables, name: str, value: int | str) -> None:
        real(self, name, value)
        raise MemoryError

    monkeypatch.setattr(tables.Tables, "set_meta", fail)
    with pytest.raises(MemoryError):
        await store.append([Write(LIFE[2:], Receipt("key", "", "1")), Snapshot((), (0, 1, 0))])
    monkeypatch.undo()
    with pytest.raises(StoreError, match="MemoryError"):  # the session has failed, so nothing may follow
        await store.append([Write(LIFE[2:])])
    assert await store.rollout(1) == LIFE[1:2]
    assert await store.receipt("key") is None
    await store.close()
    assert read_session(path).tail == 2
    assert (await store.open(CONFIG)).tail == 2
    await store.append([Write(LIFE[2:])])
    await store.close()


RECEIPT = Receipt("key", "", "1")
"""Makes an append more than rows of the log, which are written and committed by one statement."""


class Gate:
    """Holds an append in its thread, between its first row and its commit, until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()
        self.error: Exception | None = None
        real = tables.Tables.write

        def write(tables_: tables.Tables, parts: Sequence[Encoded]) -> None:
            real(tables_, parts)
            self.entered.set()
            self.opened.wait()
            if self.error is not None:
                raise self.error

        monkeypatch.setattr(tables.Tables, "write", write)


async def test_append_whose_caller_is_cancelled_on_the_way_comes_to_its_end_and_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, said = SQLiteStore(path), []
    await store.open(CONFIG)
    gate = Gate(monkeypatch)
    async with create_task_group() as group:

        async def append(scope: CancelScope) -> None:
            with scope:
                await store.append([Write(LIFE, RECEIPT)])
                said.append("durable")

        scope = CancelScope()
        group.start_soon(append, scope)
        await to_thread.run_sync(gate.entered.wait)
        assert await store.rollout(1) == ()  # reading does not wait for it, and sees nothing of it
        scope.cancel()
        gate.opened.set()
    assert said == ["durable"]
    assert await store.rollout(1) == LIFE[1:]
    await store.close()


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_append_of_a_task_that_asyncio_cancels_ends_before_the_next_which_tells_if_it_failed(
    path: Path, monkeypatch: pytest.MonkeyPatch, anyio_backend: str, fails: bool
) -> None:
    store = await opened(path)
    gate = Gate(monkeypatch)
    gate.error = StoreFull(str(path), "no space") if fails else None
    task = asyncio.create_task(store.append([Write(LIFE[:3], RECEIPT)]))
    await to_thread.run_sync(gate.entered.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    following = asyncio.create_task(store.append([Write(LIFE[3:])]))
    gate.opened.set()
    if fails:
        with pytest.raises(StoreFull, match="no space"):
            await following
        assert await store.rollout(1) == ()
    else:
        await following
        assert await store.rollout(1) == LIFE[1:]
    await store.close()


# Opening and closing


async def test_nobody_can_write_between_what_opening_finds_and_its_claim(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(path)
    real = tables.read_folded
    tried: list[str] = []

    def read_folded(*arguments: Any) -> Any:
        with closing(sqlite3.connect(path, timeout=0)) as connection:
            with pytest.raises(sqlite3.OperationalError) as locked:
                connection.execute("BEGIN IMMEDIATE")
            tried.append(str(locked.value))
        return real(*arguments)

    monkeypatch.setattr(tables, "read_folded", read_folded)
    store = await opened(path)
    await store.close()
    assert tried == ["database is locked"]


async def test_session_that_another_thread_closes_can_be_opened_again(path: Path) -> None:
    store = await opened(path)
    ownership = store._ownership  # not left to the collector, which would release it too
    thread = threading.Thread(target=store._close)
    thread.start()
    thread.join()
    assert ownership is not None
    assert (await SQLiteStore(path).open(CONFIG)).epoch == 2


async def test_collecting_garbage_goes_on_after_opening_if_it_was_on(path: Path) -> None:
    for begin in (gc.disable, gc.enable):
        begin()
        was_enabled = gc.isenabled()
        await make(path)
        assert gc.isenabled() == was_enabled


# Checking


UNSEEN: dict[str, tuple[str, str]] = {
    "record": ("UPDATE log SET data = replace(data, 'work', '\"') WHERE position = 2", "position 2"),
    "kind": ("UPDATE log SET kind = 'MailDrained' WHERE position = 2", "position 2"),
    "owner": ("UPDATE log SET agent = 2 WHERE position = 3", "rollout of agent 2"),
    "outcome": ("UPDATE log SET data = replace(data, 'done', 'undone') WHERE position = 5", "agent 1"),
    "lost outcome": ("DELETE FROM log WHERE position = 5", "agent 1"),
    "lost position": ("DELETE FROM rollouts WHERE position = 3", "position 3 is missing in the rollout of agent 1"),
    "invented position": ("INSERT INTO rollouts VALUES (1, 1)", "agent 1 has position 1, which is not in the log"),
    "answer": ("INSERT INTO keys VALUES ('key', 'spawn', '{')", "receipt"),
    "request": ("INSERT INTO keys VALUES ('key', 7, '1')", "receipt"),
}
"""What opening does not look at, and how `check` says it."""


@pytest.mark.parametrize(("statement", "said"), [pytest.param(*what, id=name) for name, what in UNSEEN.items()])
async def test_check_finds_what_opening_does_not_look_at(path: Path, statement: str, said: str) -> None:
    await make(path)
    await make(path, Write((Entry(1, 1, "more"),), Receipt("other", "", "1")))
    assert await SQLiteStore(path).check() == ()
    sql(path, statement)
    store = await opened(path)
    problems = await store.check()
    assert any(said in problem for problem in problems)
    await store.close()
    assert await store.check() == problems


async def test_check_finds_a_damaged_page_of_the_rollouts(path: Path) -> None:
    await make(path)
    ((page,),) = sql(path, "SELECT rootpage FROM sqlite_master WHERE name = 'rollouts'")
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096 + 3)  # how many entries the page has
        file.write(bytes([0, 1]))
    assert any("rollouts" in problem for problem in await SQLiteStore(path).check())
