"""Rows of `host.db` that no host or client wrote, and a schema that is not the host's: neither ends a host."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from statemachine import AgentControl
from statemachine.errors import FolderCorrupt, ForeignFile
from statemachine.hosting import SessionClient, SessionHost
from statemachine.hosting.folder import FolderCallers, FolderSessions
from tests.hosting.test_folders import index
from tests.hosting.test_hosts import until
from tests.hosting.work import CONFIG, LONG, QUICK, work

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
WRONG: dict[str, tuple[str, ...]] = {
    "a request that is a text": ("INSERT INTO asks (session, request) VALUES (1, 'text')",),
    "a request that is a number": ("INSERT INTO asks (session, request) VALUES (1, 1000000000000)",),
    "a request that is not a call": ("INSERT INTO asks (session, request) VALUES (1, x'ff')",),
    "a request that is not UTF-8": ("INSERT INTO asks (session, request) VALUES (1, CAST(x'ff' AS TEXT))",),
    "a request of what is not a session": (
        "INSERT INTO asks (session, request) VALUES (99, x'00')",
        "INSERT INTO asks (session, request) VALUES ('a', x'00')",
    ),
    "the highest number of a request": ("INSERT INTO asks VALUES (9223372036854775807, 1, 'text')",),
    "a name that is a blob": ("INSERT INTO sessions (name, asked) VALUES (x'00', 1)",),
    "a name that no session has": ("INSERT INTO sessions (name, asked) VALUES ('', 1)",),
    "a name that is not UTF-8": ("INSERT INTO sessions (name, asked) VALUES (CAST(x'ff' AS TEXT), 1)",),
    "a count that is a text": ("UPDATE sessions SET asked = 'text'",),
    "a count that is not a text of UTF-8": ("UPDATE sessions SET asked = CAST(x'ff' AS TEXT)",),
    "a count that is infinite": ("UPDATE sessions SET asked = 9e999",),
    "the highest count": ("UPDATE sessions SET asked = 9223372036854775807",),
    "a mark that is a blob": ("INSERT INTO sessions (name, asked, mark) VALUES ('b', 1, x'00')",),
    "a mark that is not a text of UTF-8": (
        "INSERT INTO sessions (name, asked, mark) VALUES ('b', 1, CAST(x'ff' AS TEXT))",
    ),
    "the highest number of a session": ("INSERT INTO sessions VALUES (9223372036854775807, 'b', 1, NULL)",),
    "an address that is a blob": ("UPDATE host SET address = x'00'",),
    "a token that is a number": ("UPDATE host SET token = 17",),
    "a process that is infinite": ("UPDATE host SET pid = 9e999",),
    "a second host": ("INSERT INTO host VALUES ('', '', 0)",),
    "no host": ("DELETE FROM host",),
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


@pytest.mark.parametrize("wrong", WRONG)
async def test_row_that_no_host_or_client_wrote_is_dropped_and_all_sessions_go_on(wrong: str, place: Path) -> None:
    async with SessionHost(place, work, CONFIG, idle_ttl=0.1, **QUICK) as found, SessionClient(place) as client:
        session = client.session("a")
        await session.spawn("/root", "x", "go")
        run(place, *WRONG[wrong])
        handle = await session.spawn("/root", "y", "go")
        assert (await handle.outcome()).result == "done: go"
        await until(lambda: not found.sessions, LONG)
        assert (await session.status("/root/y")).turn == 1
    async with SessionHost(place, work, CONFIG, **QUICK), SessionClient(place) as client:
        assert (await client.session("a").status("/root/y")).turn == 1
        await client.session("new").spawn("/root", "x", "go")


@pytest.mark.parametrize("wrong", WRONG)
async def test_host_begins_whatever_a_row_is(wrong: str, place: Path) -> None:
    async with SessionHost(place, work, CONFIG, **QUICK), SessionClient(place) as client:
        await client.session("a").spawn("/root", "x", "go")
    run(place, *WRONG[wrong])
    async with SessionHost(place, work, CONFIG, idle_ttl=0.1, **QUICK) as found, SessionClient(place) as client:
        assert (await client.session("a").status("/root/x")).turn == 1
        await client.session("new").spawn("/root", "x", "go")
        await until(lambda: not found.sessions, LONG)


async def test_wrong_request_is_told_once_and_those_beside_it_are_carried_out(
    place: Path, callers: FolderCallers, caplog: pytest.LogCaptureFixture
) -> None:
    callers.ask("a", None)
    run(place, "INSERT INTO asks (session, request) VALUES (1, 'text'), (1, 17)")
    callers.ask("a", REQUEST)
    with caplog.at_level(logging.WARNING):
        async with SessionHost(place, work, CONFIG, **QUICK), SessionClient(place) as client:
            await until(lambda: index(place, "SELECT * FROM asks") == [], LONG)
            assert (await client.session("a").status("/root/x")).path == "/root/x"
    assert len([each for each in caplog.messages if "request" in each]) == 1


async def test_host_goes_on_whatever_a_look_raises(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poll, failures = FolderSessions.poll, [MemoryError(), RuntimeError(), KeyError()]

    def failing(*given: Any, **named: Any) -> Any:
        if failures:
            raise failures.pop()
        return poll(*given, **named)

    monkeypatch.setattr("statemachine.hosting.host.BACKOFF_S", 0.01)
    async with SessionHost(place, work, CONFIG, **QUICK), SessionClient(place) as client:
        await client.session("a").spawn("/root", "x", "go")
        monkeypatch.setattr(FolderSessions, "poll", failing)
        await until(lambda: not failures, LONG)
        assert (await client.session("a").status("/root/x")).path == "/root/x"


async def test_session_that_a_failed_look_drops_is_claimed_once_it_has_been_left(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The host connects with its folder anew meanwhile: what is left late is given back to that connection."""
    poll, give_back, failures = FolderSessions.poll, FolderSessions.give_back, [MemoryError()]

    def failing(*given: Any, **named: Any) -> Any:
        if failures:
            raise failures.pop()
        return poll(*given, **named)

    def slow(*given: Any) -> None:
        time.sleep(0.3)
        give_back(*given)

    monkeypatch.setattr("statemachine.hosting.host.BACKOFF_S", 0.01)
    monkeypatch.setattr(FolderSessions, "give_back", slow)
    go_on = place.parent / "go on"
    async with SessionHost(place, work, CONFIG, **QUICK) as found, SessionClient(place) as client:
        session = client.session("a")
        handle = await session.spawn("/root", "x", f"until {go_on}")
        (earlier,) = found._held.values()
        monkeypatch.setattr(FolderSessions, "poll", failing)
        await until(lambda: earlier.give_away, LONG)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.status, "/root/x")
            await anyio.sleep(0.5)  # looks go on, and the turn has its grace
            go_on.touch()
            assert (await handle.outcome()).result == f"done: until {go_on}"
        await until(lambda: all(hosted.ready.is_set() for hosted in found._held.values()), LONG)
    told = [each.message for each in caplog.records if each.levelno >= logging.WARNING]
    assert len(told) == 1, "the look alone"
    assert not [each for each in caplog.messages if "is not here any more" in each]


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


# Links


@pytest.mark.parametrize("is_there", [True, False])
async def test_link_that_leads_out_of_the_folder_is_refused_and_nothing_is_made_there(
    is_there: bool, place: Path, tmp_path: Path
) -> None:
    place.mkdir()
    outside = tmp_path / "outside.db"
    if is_there:
        async with AgentControl.open(outside, work, CONFIG):
            pass
    before = sorted(os.listdir(tmp_path))
    os.symlink(outside, place / "l.db")
    os.symlink(place / "nothing.db", place / "n.db")
    async with SessionHost(place, work, CONFIG, **QUICK), SessionClient(place) as client:
        for name in ("l", "n"):
            with pytest.raises(ForeignFile, match="link"):
                await client.session(name).spawn("/root", "x", "go")
        await client.session("a").spawn("/root", "x", "go")
    assert sorted(os.listdir(tmp_path)) == before
    assert not os.path.exists(place / "nothing.db")


async def test_link_within_the_folder_is_another_name_of_its_session(place: Path) -> None:
    place.mkdir()
    async with AgentControl.open(place / "a.db", work, CONFIG) as control:
        await control.spawn("/root", "x", "go")
    os.symlink("a.db", place / "l.db")
    async with SessionHost(place, work, CONFIG, idle_ttl=0.05, **QUICK), SessionClient(place) as client:
        assert (await client.session("l").status("/root/x")).path == "/root/x"


@pytest.mark.parametrize("is_there", [True, False])
def test_host_s_own_file_that_is_a_link_out_of_the_folder_is_refused(
    is_there: bool, place: Path, tmp_path: Path
) -> None:
    place.mkdir()
    other = tmp_path / "other"
    other.mkdir()
    if is_there:
        FolderCallers(str(other)).close()
    os.symlink(other / "host.db", place / "host.db")
    with pytest.raises(ForeignFile, match="link"):
        FolderCallers(str(place))
    assert ("host.db" in os.listdir(other)) is is_there
