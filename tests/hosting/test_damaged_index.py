"""Rows of `host.db` that no host or client wrote, and a schema that is not the host's: neither ends a host."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from statemachine.errors import FolderCorrupt
from statemachine.hosting import SessionClient, SessionHost
from statemachine.hosting.folder import FolderCallers, FolderSessions
from tests.hosting.test_folders import LONG, QUICK, index
from tests.hosting.test_hosts import until
from tests.hosting.work import CONFIG, work

pytestmark = pytest.mark.anyio
REQUEST = b'["spawn",{"parent":"/root","name":"x","message":"go","key":"k"}]'
ENDLESS = "CREATE VIEW {} AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS {} FROM n"
SHAPES: dict[str, tuple[str, ...]] = {
    "a trigger that ignores": ("CREATE TRIGGER x BEFORE INSERT ON asks BEGIN SELECT RAISE(IGNORE); END",),
    "a table too few": ("DROP TABLE asks",),
    "a column too many": ("ALTER TABLE sessions ADD COLUMN x",),
    "a view without end": (
        "DROP TABLE sessions",
        ENDLESS.format("sessions", "id, i AS name, i AS asked, NULL AS mark"),
    ),
    "the host as a view without end": ("DROP TABLE host", ENDLESS.format("host", "address, i AS token, i AS pid")),
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where a folder is to be."""
    return tmp_path / "sessions"


@pytest.fixture
def callers(place: Path) -> Iterator[FolderCallers]:
    """A client's connection."""
    place.mkdir()
    found = FolderCallers(str(place))
    yield found
    found.close()


def run(place: Path, *statements: str) -> None:
    """Runs them in the file, as another program does."""
    with closing(sqlite3.connect(place / "host.db", isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


# The schema


@pytest.mark.parametrize("shape", SHAPES)
async def test_file_of_a_host_with_another_schema_is_refused_by_host_and_client(
    shape: str, place: Path, callers: FolderCallers
) -> None:
    run(place, *SHAPES[shape])
    with pytest.raises(FolderCorrupt, match=r"trigger 'x'|table '(asks|sessions|host)'"):
        async with SessionHost(place, work, CONFIG, **QUICK):
            pass
    with pytest.raises(FolderCorrupt):
        FolderCallers(str(place))
    with pytest.raises(FolderCorrupt):
        callers.ask("a", b"request")
    with pytest.raises(FolderCorrupt):
        callers.owner_of("a")


@pytest.mark.parametrize("shape", SHAPES)
async def test_schema_that_is_changed_while_a_host_runs_is_noticed_before_a_request_is_lost(
    shape: str, place: Path
) -> None:
    place.mkdir()
    found = FolderSessions(str(place), 10)
    try:
        found.want("a")
        (claimed,) = found.poll([], 0, draining=False).claimed
        run(place, *SHAPES[shape])
        for use in (
            lambda: found.poll([claimed.id], 0, draining=False),
            lambda: found.asked(claimed.id),
            lambda: found.unload(claimed, 1),
            lambda: found.done([1]),
            lambda: found.want("b"),
            found.leave,
        ):
            with pytest.raises(FolderCorrupt):
                use()
    finally:
        found.close()


async def test_host_goes_on_when_its_schema_is_mended(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("statemachine.hosting.host.BACKOFF_S", 0.01)
    async with SessionHost(place, work, CONFIG, **QUICK) as found, SessionClient(place) as client:
        await client.session("a").spawn("/root", "x", "go")
        run(place, *SHAPES["a trigger that ignores"])
        await until(lambda: not found.sessions, LONG)
        run(place, "DROP TRIGGER x")
        assert (await client.session("a").status("/root/x")).path == "/root/x"


async def test_file_that_was_analyzed_is_taken(place: Path, callers: FolderCallers) -> None:
    callers.ask("a", None)
    run(place, "ANALYZE")
    callers.ask("a", REQUEST)
    async with SessionHost(place, work, CONFIG, **QUICK):
        await until(lambda: index(place, "SELECT * FROM asks") == [], LONG)
