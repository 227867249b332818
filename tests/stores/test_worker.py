"""The thread in which a store writes: calls in their order, to their end, and no thread left behind."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from functools import partial
from itertools import count
from pathlib import Path

import anyio
import pytest

from statemachine.stores import Entry, SQLiteStore, Write
from statemachine.stores.errors import SessionInUse, StoreClosed, StoreError
from statemachine.stores.pool import ThreadPool
from statemachine.stores.sqlite import store as sqlite
from statemachine.stores.sqlite.store import CHECKPOINT_PAGES
from statemachine.stores.sqlite.tables import ALONE_MAX
from statemachine.stores.worker import Worker
from tests.stores.session_files import CONFIG, opened, sql

pytestmark = pytest.mark.anyio
numbers = count()


@pytest.fixture
def closed_stores() -> None:
    """Stores are left to the garbage collector here (`conftest.py` closes them elsewhere)."""


@pytest.fixture(autouse=True)
def own_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool without threads. One of the process's pool that is about to end stays if a store is opened meanwhile."""
    monkeypatch.setattr(sqlite, "WRITING", ThreadPool(f"test-of-workers-{next(numbers)}", 4))


def threads() -> list[threading.Thread]:
    """Those in which stores write in this test."""
    return [thread for thread in threading.enumerate() if thread.name == sqlite.WRITING._name]


def left() -> list[threading.Thread]:
    """Those that do not end. One that was told to end may take a while."""
    for thread in threads():
        thread.join(60)
    return threads()


async def test_calls_are_made_one_after_another_in_one_thread_and_give_what_they_return_or_raise() -> None:
    worker, log = Worker("worker"), []

    def work(number: int) -> int:
        log.append((number, threading.current_thread().name))
        if number == 3:
            raise ValueError("three")
        return number

    results: dict[int, int | str] = {}

    async def ask(number: int) -> None:
        try:
            results[number] = await worker.do(work, number)
        except ValueError as error:
            results[number] = str(error)

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(ask, number)
    worker.stop()
    assert sorted(results.items(), key=lambda item: item[0]) == [(0, 0), (1, 1), (2, 2), (3, "three"), (4, 4)]
    assert sorted(log) == [(number, "worker") for number in range(5)]


async def test_cancelled_caller_waits_for_its_call() -> None:
    worker, gate, ended = Worker("worker"), threading.Event(), []

    def work() -> None:
        gate.wait()
        ended.append("work")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker.do, work)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
        gate.set()
    assert ended == ["work"]
    worker.stop()


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize("scope_first", [False, True])
async def test_task_that_is_cancelled_by_asyncio_and_by_a_scope_at_once_is_cancelled(scope_first: bool) -> None:
    worker, gate, scope = Worker("worker"), threading.Event(), anyio.CancelScope()
    ended: list[str] = []

    async def work() -> None:
        try:
            with scope:
                await worker.do(gate.wait)
            ended.append("the task went on")
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    task = asyncio.ensure_future(work())
    await anyio.wait_all_tasks_blocked()
    for cancel in (scope.cancel, task.cancel) if scope_first else (task.cancel, scope.cancel):
        cancel()
    gate.set()
    await asyncio.wait([task])
    worker.stop()
    assert ended == ["cancelled"]


async def test_closed_store_has_no_thread_and_neither_has_one_that_could_not_be_opened(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.db"
    foreign.write_text("this is no session, and long enough to be looked at " * 4)
    with pytest.raises(StoreError):
        await SQLiteStore(foreign).open(CONFIG)
    assert left() == []
    store = SQLiteStore(tmp_path / "session.db")
    for _ in range(2):
        await store.open(CONFIG)
        with pytest.raises(SessionInUse, match="open already"):
            await store.open(CONFIG)
        assert len(threads()) == 1
        await store.append([Write((Entry(0, 0, "x"),))])
        await store.close()
        await store.close()
        assert left() == []
    with pytest.raises(StoreClosed):
        await store.append([Write((Entry(0, 0, "x"),))])


OPEN = """
import anyio, sys
from statemachine import SessionConfig
from statemachine.stores import Entry, SQLiteStore, Write

async def main():
    store = SQLiteStore(sys.argv[1])
    await store.open(SessionConfig())
    await store.append([Write((Entry(0, 0, "x"),))])

anyio.run(main)
print("left")
"""
BUSY = """
import asyncio, gc, threading
from statemachine.stores.worker import Worker

gate = threading.Event()

async def main():
    task = asyncio.create_task(Worker("worker").do(gate.wait))
    await asyncio.sleep(0)  # it begins

asyncio.run(main())
gc.collect()  # ends the thread: newer Pythons have the worker in a cycle with the task that was cancelled
(thread,) = [thread for thread in threading.enumerate() if thread.name == "worker"]
gate.set()
thread.join()
print("left")
"""


@pytest.mark.parametrize("program", [OPEN, BUSY], ids=["open", "busy"])
def test_program_that_leaves_its_event_loop_comes_to_its_end_without_a_word(tmp_path: Path, program: str) -> None:
    path = tmp_path / "session.db"
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "left\n", "")
    if program is OPEN:
        assert sql(path, "SELECT kind FROM log") == [("Entry",)]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_store_that_is_open_can_be_used_and_closed_in_another_event_loop(tmp_path: Path, backend: str) -> None:
    store = anyio.run(opened, tmp_path / "session.db", backend=backend)

    async def go_on() -> None:
        with anyio.fail_after(60):
            await store.append([Write((Entry(0, 0, "x"),))])
            assert len(await store.rollout(0)) == 1
            await store.close()

    anyio.run(go_on, backend=backend)


async def test_store_that_is_being_closed_is_not_opened_before_that_is_done(tmp_path: Path) -> None:
    store = await opened(tmp_path / "session.db")
    gate = threading.Event()
    assert store._worker is not None
    refused: list[str] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store._worker.do, gate.wait)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(store.close)
        tasks.start_soon(store.close)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(SessionInUse, match="open already"):
            await store.open(CONFIG)
        refused.append("while it is closed")
        gate.set()
    assert refused
    assert (await store.open(CONFIG)).epoch == 2
    await store.append([Write((Entry(0, 0, "x"),))])
    await store.close()


async def test_store_that_two_close_and_one_opens_again_is_open(tmp_path: Path) -> None:
    """The second one's turn in the thread of the first opening comes when the store is open again."""
    store = await opened(tmp_path / "session.db")
    first, begin, opened_again = store._worker, threading.Event(), threading.Event()
    assert first is not None

    async def close_and_open() -> None:
        await store.close()
        await store.open(CONFIG)
        opened_again.set()

    async with anyio.create_task_group() as tasks:
        for work in (partial(first.do, begin.wait, 60), close_and_open, partial(first.do, opened_again.wait, 60)):
            tasks.start_soon(work)
            await anyio.wait_all_tasks_blocked()  # in this order
        tasks.start_soon(store.close)
        await anyio.wait_all_tasks_blocked()
        begin.set()
    await store.append([Write((Entry(0, 0, "x"),))])
    await store.close()
    assert store._worker is None
    assert store._tables is None


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_close_of_a_task_that_asyncio_cancels_is_left_to_the_thread(tmp_path: Path) -> None:
    path, gate = tmp_path / "session.db", threading.Event()
    store = await opened(path)
    assert store._worker is not None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store._worker.do, gate.wait, 60)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(store.close(), 0.05)
        with pytest.raises(SessionInUse, match="open already"):
            await store.open(CONFIG)
        gate.set()
    assert left() == []
    for again in (store, SQLiteStore(path)):
        await again.open(CONFIG)
        await again.append([Write((Entry(0, 0, "x"),))])
        await again.close()


@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")  # it is unclosed, as Python 3.13 says
async def test_store_that_nobody_closes_leaves_no_thread(tmp_path: Path) -> None:
    for number in range(3):
        await opened(tmp_path / f"{number}.db")
    gc.collect()
    assert left() == []


@pytest.mark.parametrize("rows", [1, 2, ALONE_MAX, ALONE_MAX + 1, 3 * ALONE_MAX])
async def test_append_of_any_number_of_rows_is_all_there_in_its_order(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "session.db"
    store = await opened(path)
    for first in (0, rows):
        await store.append([Write((Entry(0, 0, first + number),)) for number in range(rows)])
    entries = await store.rollout(0)
    await store.close()
    assert [entry.data for entry in entries if isinstance(entry, Entry)] == list(range(2 * rows))
    assert sql(path, "SELECT position FROM log ORDER BY position") == [(at,) for at in range(1, 2 * rows + 1)]


@pytest.mark.parametrize("rows", [1, ALONE_MAX + 1])
async def test_append_after_the_session_was_taken_over_writes_nothing(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "session.db"
    store = await opened(path)
    await store.append([Write((Entry(0, 0, "before"),))])
    sql(path, "UPDATE meta SET value = 7 WHERE name = 'epoch'")
    for _ in range(2):
        with pytest.raises(SessionInUse, match="epoch 7"):
            await store.append([Write((Entry(0, 0, "after"),)) for _ in range(rows)])
    await store.close()
    assert sql(path, "SELECT count(*) FROM log") == [(1,)]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_rollouts_are_read_from_two_event_loops_at_once(tmp_path: Path, backend: str) -> None:
    done: list[int] = []

    async def read(store: SQLiteStore) -> None:
        for _ in range(100):
            assert len(await store.rollout(0)) == 1
        done.append(1)

    async def both() -> None:
        store = await opened(tmp_path / "session.db")
        await store.append([Write((Entry(0, 0, "x"),))])
        thread = threading.Thread(target=partial(anyio.run, read, store, backend=backend), daemon=True)
        thread.start()
        with anyio.fail_after(60):
            await read(store)
            await anyio.to_thread.run_sync(thread.join, 60)
        await store.close()

    anyio.run(both, backend=backend)
    assert done == [1, 1]


async def test_wal_stays_small_and_is_written_over_again_and_again(tmp_path: Path) -> None:
    path = tmp_path / "session.db"
    store = await opened(path)
    sizes: list[int] = []
    for number in range(3 * CHECKPOINT_PAGES):
        await store.append([Write((Entry(0, 0, f"{number}"),))])
        sizes.append(Path(f"{path}-wal").stat().st_size)
    await store.close()
    assert sizes[-1] < 1.2 * CHECKPOINT_PAGES * 4096
    assert len(set(sizes[-CHECKPOINT_PAGES:])) == 1, "no commit makes it longer any more"
