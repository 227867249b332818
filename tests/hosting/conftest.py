"""A database of its own for each test of hosts: workers look at all sessions of a database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from model.postgres_server import Server
from tests.stores.databases import sql


@pytest.fixture
def anyio_backend() -> str:
    """Websockets are asyncio's."""
    return "asyncio"


@pytest.fixture
def database(postgres: Server, numbers: Iterator[int]) -> Iterator[str]:
    """The DSN of a database."""
    name = f"hosts_{next(numbers)}"
    sql(postgres.dsn("x"), f"CREATE DATABASE {name}")
    yield postgres.dsn(database=name)
    sql(postgres.dsn("x"), f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where a folder is to be."""
    return tmp_path / "sessions"
