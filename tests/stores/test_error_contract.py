"""Errors that are of the contract, however the disk, the file or the process comes to them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from statemachine.errors import StoreClosed, StoreCorrupt, StoreExhausted, StoreFull
from statemachine.hosting import SessionClient, SessionHost
from statemachine.log import trace
from statemachine.log.trace import TraceError
from statemachine.stores import SQLiteStore
from statemachine.stores.worker import CommonWorker, Worker
from tests.hosting.work import work
from tests.stores.session_files import CONFIG, make, sql
from tests.stores.test_sqlite_errors import small_disk

pytestmark = pytest.mark.anyio
WORKERS: dict[str, Callable[[], Worker]] = {
    "worker": lambda: Worker("a worker"),
    "common worker": lambda: CommonWorker("a worker", lambda things: [*things], 10),
}


@pytest.mark.parametrize("size", [f"{kib}k" for kib in range(4, 64, 4)])
async def test_opening_on_a_full_disk_is_told_as_that_wherever_the_room_ends(size: str) -> None:
    with small_disk(size) as disk:
        store = SQLiteStore(disk / "session.db")
        with pytest.raises(StoreFull, match="make room"):
            await store.open(CONFIG)


@pytest.mark.parametrize("files", range(1, 6))
async def test_opening_on_a_disk_that_takes_no_more_files_is_told_as_a_full_disk(files: int) -> None:
    with small_disk(f"1m,nr_inodes={files}") as disk:
        store = SQLiteStore(disk / "session.db")
        try:
            await store.open(CONFIG)
        except StoreFull:
            return
        await store.close()
        assert files > 3, "there was room for the file, its lock, and its WAL with its index"


@pytest.mark.parametrize("version", range(-1, 5))
async def test_file_that_says_it_is_older_than_it_is_is_told_as_damaged(version: int, tmp_path: Path) -> None:
    path = tmp_path / "session.db"
    await make(path)
    sql(path, f"PRAGMA user_version = {version}")
    with pytest.raises(StoreCorrupt, match="put it back from a copy"):
        await SQLiteStore(path).open(CONFIG)


@pytest.mark.parametrize("kind", WORKERS)
async def test_call_to_a_worker_that_was_stopped_is_refused_at_once(kind: str) -> None:
    worker = WORKERS[kind]()
    assert await worker.do(int, "17") == 17
    worker.stop()
    with pytest.raises(StoreClosed, match="a worker"):
        await worker.do(int, "17")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio keeps threads of earlier tests
async def test_host_or_client_without_a_thread_is_a_typed_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def enter(found: Any) -> None:
        async with found:
            pass

    await enter(SessionHost(tmp_path, work, CONFIG))
    monkeypatch.setattr(threading.Thread, "start", start)
    for found in (SessionHost(tmp_path, work, CONFIG), SessionClient(tmp_path)):
        with pytest.raises(StoreExhausted, match="ulimit -u"):
            await enter(found)
    monkeypatch.undo()
    await enter(SessionHost(tmp_path, work, CONFIG))


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b"])
def test_error_of_a_trace_shows_a_path_that_no_file_can_have_as_its_repr(name: str) -> None:
    with pytest.raises(TraceError) as error:
        trace.read(Path(name))
    assert repr(name) in str(error.value)
    str(error.value).encode()
    assert "\0" not in str(error.value)
