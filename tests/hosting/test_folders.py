"""Hosts of folders: sessions are files, are opened when they are asked for, and rest; nothing acknowledged is lost."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from websockets.asyncio.server import serve

from statemachine import AgentControl, TurnState, read_rollout, read_session
from statemachine.core.records import MailAccepted, TurnEnded
from statemachine.errors import (
    AgentCorrupt,
    FolderCorrupt,
    FolderInUse,
    ForeignFile,
    HostMissing,
    NewerSchema,
    SessionUnnamed,
    StoreBusy,
    StoreMissing,
)
from statemachine.hosting import SessionClient, SessionHost, folder, host
from statemachine.hosting.directory import Claimed, Where
from statemachine.hosting.folder import FolderCallers, FolderSessions
from statemachine.runtime import AgentRef
from tests.hosting.test_hosts import until
from tests.hosting.work import CONFIG, LONG, QUICK, work
from tests.hosting.workers import workers

pytestmark = pytest.mark.anyio


def names_in(place: Path, *suffixes: str) -> list[str]:
    """The files of the folder with these ends."""
    return sorted(file for file in os.listdir(place) if file.endswith(suffixes))


def index(place: Path, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """Rows of the host's own file."""
    with closing(sqlite3.connect(place / "host.db", isolation_level=None)) as connection:
        return connection.execute(statement, values).fetchall()


def not_at_rest(place: Path) -> list[str]:
    """The sessions that a host would open when it begins."""
    found = FolderSessions(str(place), 1000)
    try:
        return [each.name for each in found.poll([], 0, draining=False).claimed]
    finally:
        found.leave()
        found.close()


# Calls


async def test_session_is_made_called_left_and_opened_again_when_it_is_asked_for(place: Path) -> None:
    async with SessionHost(place, work, CONFIG, idle_ttl=0.2, **QUICK) as found, SessionClient(place) as client:
        session = client.session("Orders 17")
        handle = await session.spawn("/root", "clerk", "check", key="once")
        assert (await handle.outcome()).result == "done: check"
        await until(lambda: not found.sessions, LONG)
        assert index(place, "SELECT name FROM sessions WHERE mark IS NOT NULL") == [("Orders 17",)]
        assert names_in(place, "-wal", "-shm") == ["host.db-shm", "host.db-wal"], "what rests has one file open: none"
        assert (await session.spawn("/root", "clerk", "check", key="once")).ref == handle.ref
        assert (await session.status("/root/clerk")).turn == 1
        assert found.sessions == ("Orders 17",)
    assert names_in(place, "") == ["%4frders%2017.db", "%4frders%2017.db.lock", "host.db", "host.db.lock"]
    assert not_at_rest(place) == [], "it was left with nothing to do"


async def test_session_with_open_work_is_not_left_and_goes_on_by_itself_with_the_next_host(
    place: Path, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    async with SessionHost(place, work, CONFIG, idle_ttl=0.05, grace=0, **QUICK) as found:
        async with SessionClient(place) as client:
            await client.session("idle").spawn("/root", "x", "go")
            await client.session("busy").spawn("/root", "x", f"until {there}")
            await until(lambda: found.sessions == ("busy",), LONG)
        await found.drain()
    assert not_at_rest(place) == ["busy"]
    there.touch()
    async with SessionHost(place, work, CONFIG, idle_ttl=0.2, **QUICK) as found:
        await until(lambda: index(place, "SELECT mark IS NULL FROM sessions") == [(0,), (0,)], LONG)
        outcomes = [each.outcome for each in read_rollout(place / "busy.db", 1) if isinstance(each, TurnEnded)]
        assert [each.status for each in outcomes] == [TurnState.COMPLETED]
    assert not_at_rest(place) == []


async def test_more_sessions_than_capacity_are_all_served_and_no_more_are_open(place: Path) -> None:
    most = 0
    async with (
        SessionHost(place, work, CONFIG, capacity=20, idle_ttl=LONG, **QUICK) as found,
        SessionClient(place, patience=LONG) as client,
    ):

        async def ask(name: str) -> None:
            nonlocal most
            handle = await client.session(name).spawn("/root", "x", "go", key=name)
            most = max(most, len(found.sessions))
            assert (await handle.outcome()).result == "done: go"

        with anyio.fail_after(2 * LONG):
            async with anyio.create_task_group() as tasks:
                for number in range(200):
                    tasks.start_soon(ask, f"s{number}")
        assert 1 < most <= 20
        assert len(found.sessions) <= 20
    assert len(names_in(place, ".db")) == 201
    assert not_at_rest(place) == []
    for number in range(200):
        assert len(read_session(place / f"s{number}.db").ledger.agents) == 2


async def test_call_waits_for_room_and_is_then_asked_for_as_without_a_host(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "CLAIM_S", 0.05)
    async with SessionHost(place, work, CONFIG, capacity=1, **QUICK), SessionClient(place, patience=0.2) as client:
        await client.session("busy").spawn("/root", "x", f"until {tmp_path / 'there'}")
        with pytest.raises(HostMissing, match="give the workers more capacity"):
            await client.session("waits").spawn("/root", "x", "go", key="k")
        assert index(place, "SELECT count(*) FROM asks") == [(1,)]
        (tmp_path / "there").touch()
        await until(lambda: index(place, "SELECT count(*) FROM asks") == [(0,)], LONG)
        assert (await client.session("waits").status("/root/x")).agent == 1


async def test_full_host_leaves_idle_sessions_for_the_calls_that_wait(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "CLAIM_S", LONG)
    async with SessionHost(place, work, CONFIG, capacity=1, **QUICK) as found, SessionClient(place) as client:
        for number in range(6):
            handle = await client.session(f"s{number}").spawn("/root", "x", "go")
            assert (await handle.outcome()).result == "done: go"
            assert found.sessions == (f"s{number}",)
    assert index(place, "SELECT * FROM sqlite_sequence WHERE name = 'asks'") == [], "nothing was left for another host"


async def test_client_without_a_host_leaves_a_request_which_the_next_host_carries_out(place: Path) -> None:
    with pytest.raises(StoreMissing, match="no such directory"):
        async with SessionClient(place):
            pass
    place.mkdir()
    async with SessionClient(place, patience=0.1) as client:
        with pytest.raises(HostMissing, match=r"no worker took session 'a' within 0\.1 s; start `statemachine host`"):
            await client.session("a").spawn("/root", "x", "left behind", key="k")
        with pytest.raises(HostMissing):
            await client.session("b").status("/root")
    async with SessionHost(place, work, CONFIG, **QUICK), SessionClient(place) as client:
        await until(lambda: index(place, "SELECT count(*) FROM asks") == [(0,)], LONG)
        handle = await client.session("a").spawn("/root", "x", "left behind", key="k")
        assert (await handle.outcome()).result == "done: left behind"
        assert (await client.session("a").status("/root/x")).turn == 1
        assert [each.path for each in await client.session("b").list()] == ["/root"]


async def test_session_that_a_program_has_open_is_left_to_it_until_it_ends(place: Path) -> None:
    async with SessionHost(place, work, CONFIG, **QUICK) as found, SessionClient(place, patience=0.2) as client:
        async with AgentControl.open(place / "a.db", work) as control:
            await control.spawn("/root", "x", "go")
            with pytest.raises(StoreBusy):
                await client.session("a").status("/root/x")
        await until(lambda: found.sessions == ("a",), LONG)
        assert (await client.session("a").status("/root/x")).agent == 1


# Names


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "..", "CON", "host", "Host", "-rf", "Straße", "名前", "x" * 200, "%2e"]
)
async def test_hostile_name_is_a_session_of_the_folder(place: Path, tmp_path: Path, name: str) -> None:
    place.mkdir()
    before = sorted(tmp_path.iterdir())
    async with SessionHost(place, work, CONFIG, **QUICK) as found, SessionClient(place) as client:
        assert (await (await client.session(name).spawn("/root", "x", "go")).outcome()).result == "done: go"
        assert found.sessions == (name,)
    assert sorted(tmp_path.iterdir()) == before
    assert len(names_in(place, ".db")) == 2
    os.remove(place / "host.db")
    assert not_at_rest(place) == [name], "its file tells its name"


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800", "x" * 201, "名" * 50])
async def test_name_that_no_file_can_have_is_refused_by_client_and_host(place: Path, name: str) -> None:
    async with SessionHost(place, work, CONFIG, **QUICK) as found, SessionClient(place) as client:
        with pytest.raises(SessionUnnamed):
            client.session(name)
        with pytest.raises(SessionUnnamed, match=r"is not the name of a session|bytes as the name of a file"):
            await client.call(name, "list", {})
        assert found.sessions == ()
    assert names_in(place, ".db") == ["host.db"]


async def test_names_that_differ_in_case_alone_are_two_sessions(place: Path) -> None:
    async with SessionHost(place, work, CONFIG, **QUICK), SessionClient(place) as client:
        await client.session("orders").spawn("/root", "x", "go")
        assert [each.path for each in await client.session("Orders").list()] == ["/root"]


# Files that are not as they should be


async def test_damaged_and_foreign_files_fail_with_their_error_and_hold_up_neither_the_others_nor_a_drain(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "BACKOFF_S", LONG)
    async with SessionHost(place, work, CONFIG, **QUICK), SessionClient(place) as client:
        for name in ("damaged", "newer"):
            await (await client.session(name).spawn("/root", "x", "go")).outcome()
    with closing(sqlite3.connect(place / "damaged.db")) as damaged, damaged:
        damaged.execute("UPDATE log SET data = '{'")
    with closing(sqlite3.connect(place / "newer.db", isolation_level=None)) as newer:
        newer.execute("PRAGMA user_version = 4711")
    with closing(sqlite3.connect(place / "foreign.db")) as foreign, foreign:
        foreign.execute("CREATE TABLE mine (x)")
    (place / "text.db").write_text("this is not a database" * 100)
    (place / "Not a name.db").write_text("passed over")
    (place / "folder.db").mkdir()
    text = (place / "text.db").read_bytes()
    wrong = {"damaged": AgentCorrupt, "newer": NewerSchema, "foreign": ForeignFile, "text": ForeignFile}
    async with SessionHost(place, work, CONFIG, capacity=1, **QUICK) as found, SessionClient(place) as client:
        await until(lambda: {*wrong, "folder"} <= {*found.sessions}, LONG)
        for name in ("good", "better"):
            assert (await (await client.session(name).spawn("/root", "x", "go")).outcome()).result == "done: go"
        for name, kind in wrong.items():
            with pytest.raises(kind, match=str(place / f"{name}.db")) as raised:
                await client.session(name).list()
            assert type(raised.value) is kind
        with anyio.fail_after(LONG / 2):
            await found.drain()
    assert (place / "text.db").read_bytes() == text
    assert (place / "Not a name.db").read_text() == "passed over"


async def test_session_whose_file_is_mended_is_opened_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "BACKOFF_S", 0.01)
    place.mkdir()
    (place / "a.db").write_text("this is not a database" * 100)
    async with SessionHost(place, work, CONFIG, **QUICK), SessionClient(place) as client:
        with pytest.raises(ForeignFile):
            await client.session("a").list()
        os.remove(place / "a.db")
        with anyio.fail_after(LONG):
            while True:
                try:
                    assert [each.path for each in await client.session("a").list()] == ["/root"]
                    break
                except ForeignFile:
                    await anyio.sleep(0.02)


async def test_host_whose_own_file_is_gone_opens_every_session_once_and_one_that_is_damaged_is_refused(
    place: Path,
) -> None:
    async with SessionHost(place, work, CONFIG, **QUICK), SessionClient(place) as client:
        for name in ("a", "b"):
            await client.session(name).spawn("/root", "x", "go", key=name)
    (place / "host.db").write_bytes(b"this is not a database" * 100)
    for begin in (SessionHost(place, work), SessionClient(place)):
        with pytest.raises(FolderCorrupt, match=r"host\.db: .*; move it away"):
            async with begin:
                pass
    os.remove(place / "host.db")
    async with SessionHost(place, work, CONFIG, **QUICK) as found, SessionClient(place) as client:
        await until(lambda: found.sessions == ("a", "b"), LONG)
        assert (await client.session("a").spawn("/root", "x", "go", key="a")).ref.id == 1


async def test_host_and_client_whose_file_is_removed_while_they_run_begin_with_a_new_one(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "BACKOFF_S", 0.01)
    async with SessionHost(place, work, CONFIG, **QUICK), SessionClient(place, patience=LONG) as client:
        await client.session("a").spawn("/root", "x", "go", key="a")
        for file in names_in(place, "host.db", "host.db-wal", "host.db-shm"):
            os.remove(place / file)
        await until((place / "host.db").exists, LONG)
        assert (await client.session("a").spawn("/root", "x", "go", key="a")).ref.id == 1
        assert (await client.session("b").spawn("/root", "x", "go", key="b")).ref.id == 1


def test_database_of_something_else_is_not_taken_for_the_host_s_file(place: Path) -> None:
    place.mkdir()
    index(place, "CREATE TABLE mine (x)")
    with pytest.raises(ForeignFile, match="not the file of a host"):
        FolderSessions(str(place), 1)
    assert index(place, "SELECT name FROM sqlite_master") == [("mine",)]
    os.remove(place / "host.db")
    not_at_rest(place)
    index(place, "PRAGMA user_version = 4711")
    with pytest.raises(NewerSchema):
        FolderCallers(str(place))


# Who has the folder


async def test_second_host_of_a_folder_is_refused_and_the_first_goes_on(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "LOCK_S", 0.0)
    async with SessionHost(place, work, CONFIG, **QUICK), SessionClient(place) as client:
        with pytest.raises(FolderInUse, match=f"process {os.getpid()} is the host of this folder; one host") as refused:
            async with SessionHost(place, work, CONFIG, **QUICK):
                pass
        assert (refused.value.path, refused.value.owner) == (str(place), os.getpid())
        assert (await (await client.session("a").spawn("/root", "x", "go")).outcome()).result == "done: go"
    async with SessionHost(place, work, CONFIG, **QUICK), SessionClient(place) as client:
        assert (await client.session("a").status("/root/x")).turn == 1


async def test_client_sends_nothing_to_where_a_host_was_that_has_died(place: Path) -> None:
    seen = list[str]()
    place.mkdir()

    async def other(connection: Any) -> None:
        seen.append("connected")

    def check(connection: Any, request: Any) -> None:
        seen.append(request.headers.get("Authorization", ""))

    async with serve(other, "127.0.0.1", 0, process_request=check) as server:
        where = Where(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", "token of a dead host")
        died = FolderSessions(str(place), 1)
        died.join(where)
        callers = FolderCallers(str(place))
        assert (callers.owner_of("a"), callers.is_there(where)) == (where, True)
        died.close()  # and has not left
        assert index(place, "SELECT address FROM host") == [(where.address,)]
        assert (callers.owner_of("a"), callers.is_there(where)) == (None, False)
        async with SessionClient(place, patience=0.1) as client:
            with pytest.raises(HostMissing):
                await client.session("a").list()
        following = FolderSessions(str(place), 1)
        assert callers.owner_of("a") is None, "it has the lock, and has not said where it is"
        following.close()
        callers.close()
        assert seen == []


async def test_files_are_their_owner_s_alone_before_anything_is_in_them_and_the_address_goes_with_the_host(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = list[int]()
    real = sqlite3.connect

    def connect(name: str, **given: Any) -> Any:
        if "host.db" in name:
            found = os.stat(place / "host.db")
            empty.append(found.st_size)
            assert stat.S_IMODE(found.st_mode) == 0o600
        return real(name, **given)

    before = os.umask(0)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(sqlite3, "connect", connect)
            async with SessionHost(place, work, CONFIG, **QUICK), SessionClient(place) as client:
                await client.session("a").spawn("/root", "x", "go")
                assert {stat.S_IMODE(each.stat().st_mode) for each in place.iterdir()} == {0o600}
                assert len(names_in(place, "")) == 8
    finally:
        os.umask(before)
    assert empty[0] == 0
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert index(place, "SELECT * FROM host") == []


# Hosts that die and end


async def test_killed_host_under_load_loses_nothing_that_was_acknowledged(place: Path, tmp_path: Path) -> None:
    told = dict[str, AgentRef]()
    there = tmp_path / "there"
    with workers(str(place), 1, "--idle-ttl", "0.2", "--capacity", "10") as (first,):
        async with SessionClient(place, patience=2 * LONG) as client:
            await client.session("open").spawn("/root", "x", f"until {there}", key="open")

            async def ask(name: str) -> None:
                session = client.session(name)
                told[f"{name} x"] = (await session.spawn("/root", "x", "sleep 0.05", key=f"{name} x")).ref
                for number in range(5):
                    handle = await session.follow_up("/root/x", f"more {number}", key=f"{name} {number}")
                    told[f"{name} {number}"] = handle.ref
                    await handle.outcome()

            with anyio.fail_after(2 * LONG):
                async with anyio.create_task_group() as tasks:
                    for number in range(20):
                        tasks.start_soon(ask, f"s{number}")
                    await until(lambda: len(told) > 15, LONG)
                    first.kill()
                    acknowledged = dict(told)
                    with workers(str(place), 1, "--idle-ttl", "0.2", "--capacity", "10") as (second,):
                        there.touch()
                        await until(lambda: len(told) == 120, 2 * LONG)
                        for name in {key.partition(" ")[0] for key in acknowledged}:
                            again = await client.session(name).spawn("/root", "x", "sleep 0.05", key=f"{name} x")
                            assert again.ref == acknowledged.get(f"{name} x", again.ref)
                        second.drain()
    for key, ref in told.items():
        name, _, what = key.partition(" ")
        texts = {"x": "sleep 0.05", **{str(number): f"more {number}" for number in range(5)}}
        mail = [each for each in read_rollout(place / f"{name}.db", ref.id) if isinstance(each, MailAccepted)]
        assert [each.message for each in mail if each.mail == ref.mail] == [texts[what]]
        assert len(mail) == 6, "each request was made once"
    for key, ref in acknowledged.items():
        assert told[key] == ref
    assert [type(each) for each in read_rollout(place / "open.db", 1)][-1] is TurnEnded, "it went on by itself"


async def test_host_that_is_told_to_end_closes_every_session_and_leaves_no_mess(place: Path) -> None:
    with workers(str(place), 1) as (process,):
        async with SessionClient(place) as client:
            for number in range(4):
                await (await client.session(f"s{number}").spawn("/root", "x", "go")).outcome()
        code, said = await anyio.to_thread.run_sync(process.drain)
        assert (code, said) == (0, "draining: sessions are handed over\n")
    assert names_in(place, "-wal", "-shm", "-journal") == []
    assert index(place, "SELECT count(*) FROM host") == [(0,)]
    assert not_at_rest(place) == []


async def test_session_that_is_claimed_as_a_drain_begins_is_left_too(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed, told = threading.Event(), threading.Event()
    real = FolderSessions.poll

    def poll(self: FolderSessions, *given: Any, **named: Any) -> Any:
        """Claims a session before the drain begins, and comes back after it has told all sessions to leave."""
        self.want("late")
        result = real(self, *given, **named)
        claimed.set()
        assert told.wait(LONG)
        return result

    monkeypatch.setattr(FolderSessions, "poll", poll)
    async with SessionHost(place, work, CONFIG, poll=0.01, ttl=1.0, idle_ttl=10 * LONG) as found:
        drop_all = found._drop_all

        def tell() -> None:
            drop_all()
            told.set()

        monkeypatch.setattr(found, "_drop_all", tell)
        await until(claimed.is_set, LONG)
        await found.drain()
        await until(lambda: (place / "late.db").exists() and not found.sessions, LONG)


def test_host_of_a_folder_needs_no_psycopg(place: Path) -> None:
    program = f"""
import sys
sys.modules["psycopg"] = None
import anyio
from statemachine.hosting import SessionClient, SessionHost
from tests.hosting.work import work
async def main():
    async with SessionHost({str(place)!r}, work), SessionClient({str(place)!r}) as client:
        print((await (await client.session("a").spawn("/root", "x", "go")).outcome()).result)
anyio.run(main)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=LONG)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done: go\n", "")


# The directory, step by step


@pytest.fixture
def opened(place: Path) -> Iterator[Callable[..., FolderSessions]]:
    """Opens the folder as a host does; the one before has died."""
    made = list[FolderSessions]()
    place.mkdir()

    def begin(capacity: int = 10) -> FolderSessions:
        if made:
            made[-1].close()
        made.append(FolderSessions(str(place), capacity))
        return made[-1]

    yield begin
    made[-1].close()


def session_file(place: Path, name: str) -> None:
    """Makes something that looks like the file of a session."""
    (place / f"{name}.db").write_text(name)


def claims(found: FolderSessions, held: tuple[int, ...] = (), spare: int = 0) -> list[Claimed]:
    return [*found.poll(held, spare, draining=False).claimed]


def test_session_that_was_wanted_is_opened_by_the_next_host_until_it_was_left_with_nothing_to_do(
    place: Path, opened: Callable[..., FolderSessions]
) -> None:
    opened().want("a")
    for _ in range(2):
        (claimed,) = claims(opened())  # the host before has died, before or after it opened it
    session_file(place, "a")
    found = opened()
    (claimed,) = claims(found)
    assert found.unload(claimed, found.asked(claimed.id))
    assert claims(opened()) == [claimed], "the host died before the file was closed"
    found = opened()
    (claimed,) = claims(found)
    found.give_back(claimed)
    assert claims(found) == [claimed], "it was given back with open work"
    assert found.unload(claimed, found.asked(claimed.id))
    found.give_back(claimed)
    assert claims(found) == []
    assert claims(opened()) == []
    opened().want("a")
    assert claims(opened()) == [claimed], "it was wanted again"


def test_session_whose_file_is_not_as_it_was_left_is_opened(place: Path, opened: Callable[..., FolderSessions]) -> None:
    found = opened()
    for name in ("same", "changed", "replaced", "crashed", "removed"):
        session_file(place, name)
        found.want(name)
    for claimed in claims(found):
        assert found.unload(claimed, found.asked(claimed.id))
        found.give_back(claimed)
    assert claims(opened()) == []
    (place / "changed.db").write_text("changex")
    (place / "other").write_text("replaced")
    os.replace(place / "other", place / "replaced.db")
    (place / "crashed.db-wal").touch()
    os.remove(place / "removed.db")
    session_file(place, "new")
    found = opened()
    assert sorted(each.name for each in claims(found)) == ["changed", "crashed", "new", "replaced"]
    assert index(place, "SELECT name FROM sessions WHERE name = 'removed'") == []


def test_session_that_is_asked_for_while_it_is_being_left_stays_wanted(
    place: Path, opened: Callable[..., FolderSessions]
) -> None:
    found, callers = opened(), FolderCallers(str(place))
    session_file(place, "a")
    callers.ask("a", None)
    (claimed,) = claims(found)
    asked = found.asked(claimed.id)
    callers.ask("a", b"request")
    assert not found.unload(claimed, asked), "a caller has asked for it"
    assert not found.unload(claimed, asked + 1), "a request is not carried out"
    (ask,) = found.poll([claimed.id], 0, draining=False).asks
    assert (ask.session, ask.request) == (claimed.id, b"request")
    found.done([ask.id])
    assert found.poll([claimed.id], 0, draining=False).asks == ()
    assert not found.unload(claimed, asked), "it was asked for, if only for the request"
    assert found.unload(claimed, asked + 1)
    callers.ask("a", None)
    found.give_back(claimed)
    assert claims(found) == [claimed], "a caller has asked for it before it was closed"
    callers.close()


def test_host_claims_what_has_waited_longest_as_far_as_it_has_room(
    place: Path, opened: Callable[..., FolderSessions]
) -> None:
    found = opened(2)
    for name in ("c", "a", "b", "d"):
        found.want(name)
    first = claims(found)
    assert [each.name for each in first] == ["c", "a"]
    held = tuple(each.id for each in first)
    polled = found.poll(held, 0, draining=False)
    assert (polled.claimed, polled.free) == ((), 2)
    found.give_back(first[0])
    assert [each.name for each in claims(found, held[1:])] == ["b"]
    assert [each.name for each in claims(found, (*held, 3), 1)] == [], "two of three take room"
    assert [each.name for each in claims(found, (*held, 3), 2)] == ["d"], "one that cannot be opened takes none"
    assert found.poll([], 0, draining=True).claimed == ()


def test_request_of_a_session_that_is_not_open_waits_for_it(place: Path, opened: Callable[..., FolderSessions]) -> None:
    found, callers = opened(1), FolderCallers(str(place))
    callers.ask("a", None)
    (claimed,) = claims(found)
    callers.ask("b", b"for b")
    polled = found.poll([claimed.id], 0, draining=False)
    assert (polled.claimed, polled.asks, polled.free) == ((), (), 1)
    found.give_back(claimed)
    polled = found.poll([], 0, draining=False)
    assert [each.name for each in polled.claimed] == ["b"]
    assert [each.request for each in polled.asks] == [b"for b"]
    callers.close()
