"""Other programs that have the file of a session locked, or keep its WAL from being written anew."""

from __future__ import annotations

import logging
import math
import sqlite3
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from statemachine.sinks import log
from statemachine.stores import Entry, Receipt, SQLiteStore, StoreBusy, Write
from statemachine.stores.postgres import database
from statemachine.stores.postgres.statements import Owned
from statemachine.stores.sqlite import patience, reading, schema, tables
from statemachine.stores.sqlite import store as sqlite
from statemachine.stores.worker import patiently
from tests.stores.session_files import make, opened

pytestmark = pytest.mark.anyio

APPENDS = {
    "few rows": Write((Entry(1, 1, "mine"),)),
    "a receipt": Write((Entry(1, 1, "mine"),), Receipt("key", "request", "[1]")),
}


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(patience, "NOTICE_S", 0.05)
    return tmp_path / "session.db"


class Heard(logging.Handler):
    """Ends the transaction of the foreign program when a warning tells of it."""

    error: BaseException | None = None
    """What it raises then."""

    def __init__(self, foreign: sqlite3.Connection) -> None:
        super().__init__(logging.WARNING)
        self.foreign = foreign
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())
        self.foreign.execute("ROLLBACK")
        if self.error is not None:
            raise self.error


@contextmanager
def locked(path: Path, begin: str = "BEGIN IMMEDIATE") -> Iterator[Heard]:
    """Has a foreign program keep the file locked until it is warned of."""
    logger = logging.getLogger("statemachine")
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as foreign:
        foreign.execute(begin)
        heard = Heard(foreign)
        logger.addHandler(heard)
        try:
            yield heard
        finally:
            logger.removeHandler(heard)


@pytest.mark.parametrize("write", APPENDS.values(), ids=APPENDS)
async def test_append_waits_for_a_foreign_transaction_with_one_warning(path: Path, write: Write) -> None:
    store = await opened(path)
    with locked(path) as heard:
        await store.append([write])
    assert len(heard.texts) == 1
    assert "busy_timeout" in heard.texts[0]
    await store.append([write])
    assert await store.rollout(1) == (*write.records, *write.records)
    await store.close()


async def test_warning_whose_handler_raises_keeps_no_append_from_being_made(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Heard, "error", SystemExit("no log"))
    monkeypatch.setattr(log, "has_failed", True)  # and was told
    store = await opened(path)
    with locked(path) as heard:
        await store.append([APPENDS["few rows"]])
    assert len(heard.texts) == 1
    assert await store.rollout(1) == APPENDS["few rows"].records
    await store.close()


async def test_opening_waits_for_a_foreign_transaction_with_one_warning(path: Path) -> None:
    await make(path)
    with locked(path) as heard:
        store = await opened(path)
    assert (store.epoch, len(heard.texts)) == (2, 1)
    assert schema.open_here[store.path] == 1, "what was tried before is closed"
    await store.close()


async def test_read_of_an_owner_waits_for_a_foreign_transaction(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await make(path)
    store = await opened(path)
    read, found = tables.read_receipt, [sqlite3.OperationalError("database is locked")]
    found[0].sqlite_errorcode = sqlite3.SQLITE_BUSY_RECOVERY

    def read_receipt(connection: sqlite3.Connection, key: str) -> Receipt | None:
        if found:
            raise found.pop()
        return read(connection, key)

    monkeypatch.setattr(tables, "read_receipt", read_receipt)
    assert await store.receipt("none") is None
    await store.close()


async def test_foreign_transaction_longer_than_busy_timeout_is_told_as_such(path: Path) -> None:
    store = await opened(path, busy_timeout=0.1)
    with closing(sqlite3.connect(path, isolation_level=None)) as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        for _ in range(2):
            with pytest.raises(StoreBusy, match="end the other programs"):
                await store.append([APPENDS["few rows"]])
    await store.close()
    store = await opened(path)
    assert await store.rollout(1) == ()
    await store.close()


class Attempts:
    """What is tried again and again: each attempt takes a second, and the process stands still in some of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception, paused: Collection[int], until: int) -> None:
        self.error, self.paused, self.until = error, paused, until
        self.count, self.passed = 0, 0.0
        real = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: real() + self.passed)

    def __call__(self, *_: object) -> Any:
        self.count += 1
        self.passed += 100 if self.count in self.paused else 1
        if self.count < self.until:
            raise self.error
        return self

    async def called(self) -> Any:
        return self()

    execute = __call__  # of a connection

    def fetchone(self) -> tuple[str]:
        return ("wal",)


def locked_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("locked")
    error.sqlite_errorcode = code
    return error


BUSY_S = 6.0


async def by_patience(attempt: Attempts) -> None:
    patience.Patience("path", BUSY_S).do(attempt)


async def when_unread(attempt: Attempts) -> None:
    store = SQLiteStore("/path", busy_timeout=BUSY_S)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "is_under_way", lambda _: True)
        store._when_unread(attempt)


async def use_wal(attempt: Attempts) -> None:
    connection: Any = attempt
    schema.use_wal(connection, BUSY_S)


async def by_a_worker(attempt: Attempts) -> None:
    await patiently(BUSY_S, attempt.called)


async def by_a_writer(attempt: Attempts) -> None:
    owned = Owned(1, 1, 0, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "LOCKED_S", BUSY_S)
        while attempt.count < attempt.until:
            if database.is_over(owned):
                raise attempt.error
            with suppress(StoreBusy):
                attempt()


WAITS = {
    "SQLite": (by_patience, locked_error(sqlite3.SQLITE_BUSY)),
    "a reader of this process": (when_unread, locked_error(sqlite3.SQLITE_READONLY)),
    "another one that makes the WAL": (use_wal, locked_error(sqlite3.SQLITE_BUSY)),
    "a claim in PostgreSQL": (by_a_worker, StoreBusy("path", "locked")),
    "an append in PostgreSQL": (by_a_writer, StoreBusy("path", "locked")),
}


@pytest.mark.parametrize(("wait", "error"), WAITS.values(), ids=WAITS)
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_pause_of_the_process_is_not_charged_to_the_time_for_which_others_may_lock(
    wait: Callable[[Attempts], Awaitable[None]], error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = Attempts(monkeypatch, error, {2}, until=5)
    await wait(attempt)
    assert attempt.count == 5
    for paused in ((), range(100)):
        attempt = Attempts(monkeypatch, error, paused, until=100)
        with pytest.raises((type(error), StoreBusy)):
            await wait(attempt)
        assert 5 <= attempt.count < 30, "it ends nevertheless"


@pytest.mark.parametrize("seconds", [-1, math.inf, math.nan])
def test_busy_timeout_that_is_not_a_bound_is_refused(path: Path, seconds: float) -> None:
    with pytest.raises(ValueError, match="give seconds"):
        SQLiteStore(path, busy_timeout=seconds)


async def test_wal_that_a_reader_has_let_grow_is_cut_once_the_reader_has_gone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "WAL_BYTES_MAX", 2**20)
    store = await opened(path)
    wal = Path(f"{path}-wal")
    large = [Write((Entry(1, 1, "x" * 2**20),))]
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM meta").fetchall()
        for _ in range(4):
            await store.append(large)
        assert wal.stat().st_size > 4 * 2**20
    for _ in range(3):
        await store.append([APPENDS["few rows"]])
    assert wal.stat().st_size <= 2**20
    assert len(await store.rollout(1)) == 7
    await store.close()
