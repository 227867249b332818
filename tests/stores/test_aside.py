"""Calls that are put aside, in threads of anyio: what they wait for, and how they end."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from statemachine.stores import PostgresStore, SQLiteStore
from statemachine.stores.worker import ASIDE_MAX, LOOKING
from tests.stores.session_files import CONFIG, make

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
