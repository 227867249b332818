"""Closes the stores that tests leave open, as processes do that are killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import anyio
import pytest

from statemachine.core.config import SessionConfig
from statemachine.stores import PostgresStore, Recovered, SQLiteStore
from statemachine.stores.errors import StoreError


@pytest.fixture(autouse=True)
def closed_stores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Python 3.13 warns of a database that is collected and was not closed, and warnings are errors here."""
    opened: list[SQLiteStore | PostgresStore] = []
    real, real_of_postgres = SQLiteStore.open, PostgresStore.open

    async def open_store(store: SQLiteStore, config: SessionConfig) -> Recovered:
        opened.append(store)
        return await real(store, config)

    async def open_in_postgres(store: PostgresStore, config: SessionConfig) -> Recovered:
        opened.append(store)
        return await real_of_postgres(store, config)

    async def close() -> None:
        for store in opened:
            with suppress(StoreError):
                await store.close()

    monkeypatch.setattr(SQLiteStore, "open", open_store)
    monkeypatch.setattr(PostgresStore, "open", open_in_postgres)
    yield
    monkeypatch.undo()
    anyio.run(close)
