"""Calls that are put aside, in threads of anyio: what they wait for, and how they end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from statemachine.stores import PostgresStore, SQLiteStore, Write, contents
from statemachine.stores.rows import decode_at as decode_at_position
from statemachine.stores.sqlite import interrupting, reading
from statemachine.stores.worker import ASIDE_MAX, LOOKING
from tests.stores.session_files import CONFIG, LIFE, make, ready

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"], indirect=True)
async def test_check_backup_and_opening_begin_though_tools_have_all_threads(tmp_path: Path, dsn: str) -> None:
    await make(tmp_path / "session.db")
    store, other = SQLiteStore(tmp_path / "session.db"), PostgresStore(dsn)
    tools = anyio.to_thread.current_default_thread_limiter()
    taken = [object() for _ in range(int(tools.available_tokens))]
    for tool in taken:
        tools.acquire_on_behalf_of_nowait(tool)
    try:
        with anyio.fail_after(20):
            await store.backup(tmp_path / "backup.db", lambda done, pages: (done, pages))
            assert await store.check() == ()
            await other.open(CONFIG)
            await other.close()
    finally:
        for tool in taken:
            tools.release_on_behalf_of(tool)
    assert LOOKING.here().available_tokens == ASIDE_MAX


@pytest.mark.parametrize("during", ["pages", "records"])
async def test_check_that_is_cancelled_ends_at_once(
    during: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(tmp_path / "session.db")
    monkeypatch.setattr(interrupting, "OPERATIONS", 1 if during == "pages" else 10**9)
    await cancelled_check(SQLiteStore(tmp_path / "session.db"), during, monkeypatch)


async def test_check_of_a_session_in_a_database_that_is_cancelled_ends_at_the_next_record(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await ready(PostgresStore(dsn))
    await store.append([Write(LIFE)])
    await store.close()
    await cancelled_check(store, "records", monkeypatch)


async def cancelled_check(store: PostgresStore | SQLiteStore, during: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancels a check as its pages, or its records, are looked at."""
    decoded: list[int] = []
    real, real_problems = decode_at_position, contents.problems_of
    with anyio.CancelScope() as scope:

        def decode_at(position: int, *words: Any) -> Any:
            decoded.append(position)
            if during == "records":
                anyio.from_thread.run_sync(scope.cancel)
            return real(position, *words)

        def problems_of(*words: Any) -> Iterator[str]:
            if during == "pages":
                anyio.from_thread.run_sync(scope.cancel)
            yield from real_problems(*words)

        monkeypatch.setattr(contents, "decode_at", decode_at)
        monkeypatch.setattr(reading, "problems_of", problems_of)
        await store.check()
    assert scope.cancelled_caught
    assert len(decoded) == (during == "records")
    monkeypatch.undo()
    assert await store.check() == ()
