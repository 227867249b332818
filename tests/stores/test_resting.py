"""Sessions that are open and not used: their files are closed, and they are their owner's still."""

from __future__ import annotations

import ctypes
import gc
import math
import os
import shutil
import sqlite3
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, closing
from pathlib import Path

import anyio
import pytest

from statemachine import AgentControl, MemoryStore, Turn
from statemachine.stores import Entry, Receipt, SQLiteStore, Write, read_rollout
from statemachine.stores.errors import SessionInUse, StoreError
from statemachine.stores.pool import ThreadPool
from statemachine.stores.sqlite import reading, resting, schema, tables
from statemachine.stores.sqlite import store as sqlite
from tests.stores.other_process import Other, other_process
from tests.stores.session_files import CONFIG, LIFE, beside, make, opened, sql

pytestmark = pytest.mark.anyio
BYTES_MAX = 24_000
"""What the objects of a session take, whose root alone is there: 20,400 on asyncio, CPython 3.11."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "session.db"


@pytest.fixture
def other(path: Path) -> Iterator[Other]:
    with other_process(path) as process:
        yield process


def entry(data: object) -> list[Write]:
    return [Write((Entry(1, 1, data),))]


def rest(store: SQLiteStore) -> None:
    """Lets the store rest."""
    assert store.rest(math.inf)
    assert store._is_resting


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"))


async def test_session_that_rests_holds_its_lock_alone_and_goes_on_as_it_was(path: Path, other: Other) -> None:
    before = descriptors()
    store = await opened(path)
    await store.append([Write(LIFE, Receipt("key", "request", "[1]"))])
    await store.rollout(1)
    for number in range(3):
        rest(store)
        assert descriptors() == before + 1
        assert beside(path) == ["session.db", "session.db.lock"]
        assert other.ask("open") == "SessionInUse"
        assert len(read_rollout(path, 1)) == 4 + number
        await store.append(entry(number))
        assert len(await store.rollout(1)) == 5 + number
    rest(store)
    assert await store.receipt("key") == Receipt("key", "request", "[1]")
    assert not store._is_resting
    await store.close()
    assert reading.check_file(path) == ()
    assert other.ask("open") == "2"


async def test_session_that_rests_is_closed_and_opened_as_any_other(path: Path) -> None:
    store = await opened(path)
    await store.append([Write(LIFE)])
    rest(store)
    await store.close()
    await store.open(CONFIG)
    assert len(await store.rollout(1)) == 4
    await store.close()
    assert schema.open_here[store.path] == 0


async def test_session_that_was_taken_over_while_it_rested_writes_and_reads_nothing(path: Path) -> None:
    store = await opened(path)
    await store.append([Write(LIFE)])
    rest(store)
    new = await opened(path, takeover=True)
    await new.append(entry("of the new owner"))
    for verb in (store.rollout(1), store.append(entry("late")), store.append(entry("late"))):
        with pytest.raises(SessionInUse, match="epoch 2"):
            await verb
    assert [record.data for record in await new.rollout(1) if isinstance(record, Entry)] == ["said", "of the new owner"]
    await new.close()
    await store.close()


@pytest.mark.parametrize("change", ["shorter", "restored", "another shape", "gone"])
async def test_file_that_another_program_changed_while_the_session_rested_is_not_written(
    path: Path, change: str
) -> None:
    store = await opened(path)
    await store.append([Write(LIFE)])
    rest(store)
    copy = path.with_name("copy.db")
    shutil.copyfile(path, copy)
    await store.append(entry("after the copy"))
    rest(store)
    if change == "shorter":
        sql(path, "DELETE FROM log WHERE position = (SELECT max(position) FROM log)")
    elif change == "restored":
        shutil.copyfile(copy, path)
    elif change == "another shape":
        sql(path, "CREATE TRIGGER more AFTER INSERT ON log BEGIN DELETE FROM keys; END")
    else:
        path.unlink()
    said = {"another shape": "does not belong there", "gone": "unable to open"}
    for _ in range(2):
        with pytest.raises(StoreError, match=said.get(change, "another program has changed the file")):
            await store.append(entry("late"))
    await store.close()
    if change == "gone":
        assert not path.exists(), "no new file was made"
    else:
        assert "late" not in [record.data for record in read_rollout_as_is(path)]


def read_rollout_as_is(path: Path) -> list[Entry]:
    with closing(sqlite3.connect(path)) as connection:
        return [record for record in tables.read_rollout(connection, 1) if isinstance(record, Entry)]


async def test_session_that_is_used_read_or_failed_does_not_rest(path: Path) -> None:
    store = await opened(path)
    await store.append([Write(LIFE)])
    assert not store.rest(store.used_at), "it was used since"
    await store.rollout(1)
    assert not store.rest(min(store.used_at, store._read_at)), "it was read since"
    inside, gate = threading.Event(), threading.Event()

    def hold() -> None:
        inside.set()
        gate.wait(60)

    for lock in (store._writing, store._reading):
        async with anyio.create_task_group() as tasks:
            assert store._worker is not None
            tasks.start_soon(store._worker.do, store._locked, lock, hold)
            assert await anyio.to_thread.run_sync(inside.wait, 60)
            assert not store.rest(math.inf), "a call is under way"
            gate.set()
        inside.clear()
        gate.clear()
    with reading._counted(store.path):
        store.rest(math.inf)
        assert not store._is_resting, "this process reads it as others do"
    sql(path, "UPDATE meta SET value = 7 WHERE name = 'epoch'")
    with pytest.raises(SessionInUse):
        await store.append(entry("late"))
    assert not store.rest(math.inf), "it has failed"
    await store.close()


async def test_reading_connection_is_closed_alone_if_only_that_is_not_used(path: Path) -> None:
    store = await opened(path)
    await store.append([Write(LIFE)])
    before = descriptors()
    await store.rollout(1)
    assert descriptors() == before + 2, "it is opened when something is read"
    store.used_at = math.inf
    assert store.rest(1e18)
    assert not store._is_resting
    assert descriptors() == before + 1, "SQLite keeps one for the next: closing it would drop the locks of the other"
    assert len(await store.rollout(1)) == 4
    assert descriptors() == before + 2
    store.used_at = 0.0
    await store.close()


async def test_process_that_is_killed_while_its_session_rests_leaves_all_it_acknowledged(
    path: Path, other: Other
) -> None:
    for line in ("open", "append", "rest", "append", "rest"):
        other.ask(line)
    assert beside(path) == ["session.db", "session.db.lock"]
    other.kill()
    store = await opened(path)
    assert store.epoch == 2
    assert len(await store.rollout(1)) == 2
    await store.close()


async def test_process_that_is_killed_after_its_session_rested_leaves_all_it_acknowledged(
    path: Path, other: Other
) -> None:
    for line in ("open", "append", "rest", "append"):
        other.ask(line)
    other.kill()
    assert "session.db-wal" in beside(path)
    store = await opened(path)
    assert len(await store.rollout(1)) == 2
    await store.close()


async def test_session_whose_file_is_locked_keeps_no_other_session_waiting(tmp_path: Path) -> None:
    locked = [await opened(tmp_path / f"locked-{number}.db") for number in range(2 * sqlite.WRITING.size)]
    free, done = await opened(tmp_path / "free.db"), list[str]()

    async def append(store: SQLiteStore) -> None:
        await store.append(entry("at last"))
        done.append(store.path)

    async with anyio.create_task_group() as tasks:
        with ExitStack() as stack:
            for store in locked:
                foreign = stack.enter_context(closing(sqlite3.connect(store.path, isolation_level=None)))
                foreign.execute("BEGIN IMMEDIATE")
                tasks.start_soon(append, store)
            await anyio.wait_all_tasks_blocked()
            with anyio.fail_after(30):
                for number in range(10):
                    await free.append(entry(number))
                    assert len(await free.rollout(1)) == number + 1
            assert done == [], "they wait still"
    assert sorted(done) == sorted([store.path for store in locked])
    for store in (free, *locked):
        assert len(await store.rollout(1)) == (10 if store is free else 1)
        await store.close()


async def test_failure_of_one_session_of_many_is_its_own(tmp_path: Path) -> None:
    stores = [await opened(tmp_path / f"{number}.db") for number in range(8)]
    sql(tmp_path / "3.db", "UPDATE meta SET value = 7 WHERE name = 'epoch'")
    refused: list[str] = []

    async def append(store: SQLiteStore) -> None:
        for number in range(5):
            try:
                await store.append(entry(number))
            except SessionInUse as error:
                refused.append(error.path)

    async with anyio.create_task_group() as tasks:
        for store in stores:
            tasks.start_soon(append, store)
    assert refused == [stores[3].path] * 5
    await stores[5].close()
    for number, store in enumerate(stores):
        if number != 5:
            assert len(await store.rollout(1)) == 5 * (number != 3)
        await store.close()


async def test_longest_unused_sessions_rest_if_more_than_so_many_are_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = resting.Connections()
    monkeypatch.setattr(sqlite, "CONNECTIONS", connections)
    monkeypatch.setattr(resting, "OPEN_MAX", 2)
    monkeypatch.setattr(resting, "LOOK_S", 0.0)
    monkeypatch.setattr(resting, "REST_S", 0.0)
    rested = threading.Event()
    monkeypatch.setattr(resting, "give_back", rested.set)
    stores = [await opened(tmp_path / f"{number}.db") for number in range(2)]
    assert not connections._is_looked_at
    stores.append(await opened(tmp_path / "2.db"))
    assert await anyio.to_thread.run_sync(rested.wait, 60)
    for thread in [thread for thread in threading.enumerate() if thread.name == "statemachine-rest"]:
        thread.join(60)
        assert not thread.is_alive()
    assert [store._is_resting for store in stores] == [True, False, False]
    assert len(connections) == 2
    for store in stores:
        await store.close()
    assert len(connections) == 0


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 and later, of processes with threads
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_fork_does_not_look_after_the_sessions_of_its_parent(path: Path) -> None:
    store = await opened(path)
    assert store in sqlite.CONNECTIONS._sessions
    with sqlite.CONNECTIONS._lock:  # as of a thread that looks
        child = os.fork()
    if not child:
        os._exit(7 if len(sqlite.CONNECTIONS) == 0 else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    await store.close()


async def work(turn: Turn) -> str:
    """Records what it was told."""
    await turn.record(turn.mail[0].text)
    return "done"


async def test_session_that_rests_after_each_answer_answers_as_any_other(path: Path) -> None:
    store = SQLiteStore(path)
    async with AgentControl.open(store, work) as control:
        handle = await control.spawn("/root", "a", "begin", key="k")
        assert (await handle.outcome()).result == "done"
        for number in range(5):
            store.rest(math.inf)
            assert (await (await control.follow_up("/root/a", f"{number}")).outcome()).result == "done"
            store.rest(math.inf)
            assert (await control.spawn("/root", "a", "begin", key="k")).ref == handle.ref
        history = await control.history("/root/a")
    assert [each.data for each in history if isinstance(each, Entry)] == ["begin", *"01234"]
    assert reading.check_file(path) == ()


async def test_process_without_threads_for_reading_reads_where_it_writes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(sqlite, "READING", ThreadPool("statemachine-reader", 2))
    await make(path)
    store = await opened(path)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        assert len(await store.rollout(1)) == 4
    assert store._reader is None
    await store.close()


async def test_session_with_nothing_to_do_takes_little_memory() -> None:
    count, before = 40, 0
    async with AsyncExitStack() as stack:
        for number in range(2 * count):
            if number == count:  # what all share is there
                tracemalloc.start()
                stack.callback(tracemalloc.stop)
                gc.collect()
                before = tracemalloc.get_traced_memory()[0]
            await stack.enter_async_context(AgentControl.open(MemoryStore(), work))
        gc.collect()
        taken = (tracemalloc.get_traced_memory()[0] - before) / count
    assert taken < BYTES_MAX


def test_memory_is_given_back_where_the_library_can(monkeypatch: pytest.MonkeyPatch) -> None:
    resting.give_back()

    def library(_: None) -> object:
        return object()

    monkeypatch.setattr(ctypes, "CDLL", library)
    resting.give_back()
