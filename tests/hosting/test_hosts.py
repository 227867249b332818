"""Hosts: sessions are claimed, called, left, moved and taken over, and nothing acknowledged is lost."""

from __future__ import annotations

import math
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import anyio
import pytest
from rich.console import Console
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from model.command import demo_fleet
from statemachine import AgentControl, TurnState
from statemachine.core.records import Cause
from statemachine.errors import InvalidName, PathTaken, UnknownPath
from statemachine.hosting import HostMissing, SessionClient, SessionHost, host, server
from statemachine.hosting.directory import Where
from statemachine.hosting.leases import Leases
from statemachine.hosting.talk import Talk
from statemachine.stores.postgres.dsn import with_session
from tests.hosting.work import CONFIG, work
from tests.hosting.workers import workers
from tests.stores.databases import sql

pytestmark = pytest.mark.anyio
QUICK: Any = {"poll": 0.1, "ttl": 1.0}


async def until(condition: object, seconds: float = 20.0) -> None:
    """Waits until the condition, a function, holds."""
    assert callable(condition)
    with anyio.fail_after(seconds):
        while not condition():
            await anyio.sleep(0.02)


# Calls


async def test_session_that_is_asked_for_is_made_claimed_and_called_from_anywhere(database: str) -> None:
    async with SessionHost(database, work, CONFIG, **QUICK) as worker, SessionClient(database) as client:
        session = client.session("orders 17")
        handle = await session.spawn("/root", "clerk", "check", {"odd": "\ud800"}, headers={"tenant": 7})
        outcome = await handle.outcome()
        assert (outcome.status, outcome.result, outcome.cause) == (TurnState.COMPLETED, "done: check", Cause.FINISHED)
        assert worker.sessions == ("orders 17",)
        status = await session.status("/root/clerk")
        assert (status.settings, status.outcome, status.agent) == ({"odd": "\ud800"}, outcome, 1)
        assert [each.path for each in await session.list()] == ["/root", "/root/clerk"]
        assert [type(each).__name__ for each in await session.history(handle.ref)] == [
            "MailAccepted", "TurnStarted", "Entry", "TurnEnded"
        ]  # fmt: skip
        again = session.handle((await session.follow_up(handle.ref, "check again")).ref)
        assert (await again.outcome()).result == "done: check again"
        assert await session.send("/root/clerk", "for later") == 2
        assert (await session.interrupt("/root/clerk")).previous is TurnState.COMPLETED
        assert (await session.close("/root/clerk")).paths == ("/root/clerk",)
        assert (await session.resume("/root/clerk")).agents == (1,)


async def test_refusals_come_back_as_what_they_are(database: str) -> None:
    async with SessionHost(database, work, CONFIG, **QUICK), SessionClient(database) as client:
        session = client.session("a")
        handle = await session.spawn("/root", "x", "go", key="once")
        assert (await session.spawn("/root", "x", "go", key="once")).ref == handle.ref
        with pytest.raises(PathTaken) as taken:
            await session.spawn("/root", "x", "go")
        assert taken.value.facts == ("PathTaken", "/root/x", 1)
        with pytest.raises(UnknownPath, match="no agent is known at '/root/y'"):
            await session.status("/root/y")
        with pytest.raises(InvalidName):
            await session.spawn("/root", "Not a name", "go")
        with pytest.raises(TypeError):
            await session.call("send", target="/root/x", message="x", nonsense=1)
        with pytest.raises(ValueError, match="not a verb"):
            await client.call("a", "__init__", {})


async def test_session_without_a_worker_is_asked_for_and_what_gives_work_is_carried_out_by_the_next(
    database: str,
) -> None:
    async with SessionClient(database, patience=0.2) as client:
        with pytest.raises(HostMissing, match=r"no worker took session 'a' within 0\.2 s"):
            await client.session("a").spawn("/root", "x", "left behind", key="k")
    async with SessionHost(database, work, CONFIG, **QUICK), SessionClient(database) as client:
        session = client.session("a")
        with anyio.fail_after(10):
            while "/root/x" not in [each.path for each in await session.list()]:
                await anyio.sleep(0.02)
        handle = await session.spawn("/root", "x", "left behind", key="k")
        assert (await handle.outcome()).result == "done: left behind"
        assert (await session.status("/root/x")).turn == 1
        await until(lambda: sql(with_session(database, "x"), "SELECT count(*) FROM statemachine.asks") == [(0,)])


async def test_request_that_is_left_behind_waits_for_the_next_owner_if_this_one_leaves(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SessionClient(database, patience=0.2) as client:
        with pytest.raises(HostMissing):
            await client.session("a").spawn("/root", "x", "left behind", key="k")
    tries = list[str]()
    real = server.called

    async def called(control: AgentControl, verb: str, given: dict[str, Any]) -> Any:
        tries.append(verb)
        if len(tries) == 1:
            await control.shutdown(0)
        return await real(control, verb, given)

    monkeypatch.setattr(server, "called", called)
    async with SessionHost(database, work, CONFIG, **QUICK), SessionClient(database) as client:
        with anyio.fail_after(20):
            while "/root/x" not in [each.path for each in await client.session("a").list()]:
                await anyio.sleep(0.02)
        assert tries.count("spawn") == 2


TAKE_OVER = "UPDATE statemachine.sessions SET epoch = epoch + 1"


async def test_session_that_was_taken_over_is_opened_anew_for_a_caller_that_writes(database: str) -> None:
    async with SessionHost(database, work, CONFIG, **QUICK) as worker, SessionClient(database) as client:
        session = client.session("a")
        await (await session.spawn("/root", "x", "go")).outcome()
        sql(with_session(database, "x"), TAKE_OVER)
        assert (await (await session.follow_up("/root/x", "more")).outcome()).result == "done: more"
        assert worker.sessions == ("a",)


async def test_session_that_was_taken_over_is_opened_anew_for_a_caller_that_reads(database: str) -> None:
    """Nothing is written, so the session that is open does not fail."""
    async with SessionHost(database, work, CONFIG, **QUICK), SessionClient(database) as client:
        session = client.session("a")
        handle = await session.spawn("/root", "x", "go")
        await handle.outcome()
        before = await session.history(handle.ref)
        sql(with_session(database, "x"), TAKE_OVER)
        assert await session.history(handle.ref) == before


async def test_session_that_fails_without_a_caller_is_opened_anew(database: str, tmp_path: Path) -> None:
    """A turn finds out that the session was taken over, when it ends."""
    async with SessionHost(database, work, CONFIG, **QUICK) as worker, SessionClient(database) as client:
        session, until_here = client.session("a"), tmp_path / "goes on"
        handle = await session.spawn("/root", "x", f"until {until_here}")
        sql(with_session(database, "x"), TAKE_OVER)
        failed = worker._by_name["a"]
        until_here.touch()
        await until(lambda: worker._by_name.get("a", failed) is not failed)
        assert (await handle.outcome()).result == f"done: until {until_here}"


async def test_session_that_cannot_be_opened_holds_up_neither_the_others_nor_a_drain(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "BACKOFF_S", 30.0)
    async with SessionClient(database) as client:
        async with SessionHost(database, work, CONFIG, **QUICK):
            await (await client.session("bad").spawn("/root", "x", "go")).outcome()
        sql(with_session(database, "x"), "UPDATE statemachine.agents SET facts = '{'")
        async with SessionHost(database, work, CONFIG, **QUICK) as second:
            for number in range(3):
                await (await client.session(f"s{number}").spawn("/root", "x", "go")).outcome()
            await until(lambda: "bad" in second.sessions)
            with anyio.fail_after(5):
                await second.drain()


async def test_caller_without_the_token_is_refused_before_anything_is_read(database: str) -> None:
    async with SessionHost(database, work, **QUICK) as worker:
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            with pytest.raises(InvalidStatus, match="401"):
                await connect(worker.where, additional_headers=headers, proxy=None)
        assert worker.where.startswith("ws://127.0.0.1:")


# Residency, one floor up


async def test_session_without_work_is_left_and_comes_back_when_it_is_asked_for(database: str) -> None:
    async with SessionHost(database, work, CONFIG, idle_ttl=0.3, **QUICK) as worker, SessionClient(database) as client:
        session = client.session("a")
        await (await session.spawn("/root", "x", "go")).outcome()
        await until(lambda: not worker.sessions)
        row = "SELECT wanted, worker FROM statemachine.sessions"
        await until(lambda: sql(with_session(database, "x"), row) == [(False, None)])
        assert (await session.status("/root/x")).turn == 1
        assert worker.sessions == ("a",)


async def test_session_with_open_work_is_not_left(database: str, tmp_path: Path) -> None:
    async with SessionHost(database, work, CONFIG, idle_ttl=0.1, **QUICK) as worker, SessionClient(database) as client:
        handle = await client.session("a").spawn("/root", "x", f"until {tmp_path / 'there'}")
        await anyio.sleep(1)
        assert worker.sessions == ("a",)
        (tmp_path / "there").touch()
        assert (await handle.outcome()).status is TurnState.COMPLETED
        await until(lambda: not worker.sessions)


async def test_full_worker_leaves_idle_sessions_for_others(database: str) -> None:
    async with SessionHost(database, work, CONFIG, capacity=2, **QUICK) as worker, SessionClient(database) as client:
        for number in range(6):
            handle = await client.session(f"s{number}").spawn("/root", "x", "go")
            assert (await handle.outcome()).result == "done: go"
            assert len(worker.sessions) <= 2


async def test_sessions_are_shared_between_workers_and_come_to_rest(database: str) -> None:
    async with SessionClient(database) as client, SessionHost(database, work, CONFIG, **QUICK) as first:
        for number in range(20):
            await client.session(f"s{number}").spawn("/root", "x", "go")
        assert len(first.sessions) == 20
        async with SessionHost(database, work, CONFIG, **QUICK) as second:
            await until(lambda: len(second.sessions) == 10 and len(first.sessions) == 10)
            before = first.sessions
            await anyio.sleep(1)
            assert first.sessions == before
            for number in range(20):
                assert (await client.session(f"s{number}").status("/root/x")).turn == 1
        await until(lambda: len(first.sessions) == 20)


async def test_drain_hands_over_open_work(database: str, tmp_path: Path) -> None:
    async with SessionClient(database) as client, SessionHost(database, work, CONFIG, **QUICK) as second:
        async with SessionHost(database, work, CONFIG, grace=0.2, **QUICK) as first:
            names = [f"s{number}" for number in range(4)]
            waiting = [await client.session(name).spawn("/root", "x", f"until {tmp_path / 'there'}") for name in names]
            assert first.sessions
            await first.drain()
            await first.run()
            assert first.sessions == ()
        await until(lambda: second.sessions == tuple(names))
        (tmp_path / "there").touch()
        for handle in waiting:
            assert (await handle.outcome()).status is TurnState.COMPLETED


async def test_session_that_a_program_has_open_is_left_to_it_until_it_ends(database: str) -> None:
    async with SessionHost(database, work, CONFIG, **QUICK) as worker, SessionClient(database, patience=0.5) as client:
        async with AgentControl.open(with_session(database, "a"), work) as control:
            await control.spawn("/root", "x", "go")
            with pytest.raises(HostMissing):
                await client.session("a").status("/root/x")
            assert worker.sessions == ()
        assert (await client.session("a").status("/root/x")).agent == 1


@pytest.mark.parametrize(
    "options", [{"poll": 0.0}, {"ttl": float("inf")}, {"poll": 1.0, "ttl": 2.0}, {"capacity": 0}, {"grace": -1.0}]
)
def test_host_that_could_not_work_is_refused(options: Any) -> None:
    with pytest.raises(ValueError, match="; give"):
        SessionHost("postgresql:///x", work, **options)


LIBRARY = "import statemachine.hosting; statemachine.hosting.SessionHost"
COMMAND = (
    "import runpy; sys.argv = ['statemachine', 'host', '--dsn', 'postgresql:///x', '--work', 'os:path'];"
    "runpy.run_module('statemachine', run_name='__main__')"
)


@pytest.mark.parametrize(("program", "code"), [(LIBRARY, 1), (COMMAND, 2)], ids=["library", "command"])
def test_host_without_websockets_says_what_to_install(program: str, code: int) -> None:
    words = [sys.executable, "-c", f"import sys; sys.modules['websockets'] = None; {program}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code
    assert "install it with `pip install 'agent-statemachine[hosts]'`" in done.stderr
    assert ("Traceback" in done.stderr) is (code == 1)


# Workers that die, hang and end


async def test_killed_worker_is_followed_by_another_at_once_and_nothing_is_lost(database: str) -> None:
    with workers(database, 2) as processes:
        async with SessionClient(database) as client:
            names = [f"s{number}" for number in range(10)]
            handles = [await client.session(name).spawn("/root", "x", "sleep 0.5", key=name) for name in names]
            dead, alive = processes
            rows = sql(with_session(database, "x"), OWNED_BY)
            lost = {name for name, where in rows if where == dead.where}
            assert lost
            dead.process.kill()
            killed, answered = time.monotonic(), list[float]()

            async def ask(name: str) -> None:
                assert (await client.session(name).status("/root/x")).agent == 1
                answered.append(time.monotonic() - killed)

            async with anyio.create_task_group() as tasks:
                for name in lost:
                    tasks.start_soon(ask, name)
            assert max(answered) < 3
            for handle in handles:
                assert (await handle.outcome()).result == "done: sleep 0.5"
            for name in names:
                again = await client.session(name).spawn("/root", "x", "sleep 0.5", key=name)
                assert again.ref.id == 1
                entries = [each for each in await client.session(name).history("/root/x") if hasattr(each, "data")]
                assert len(entries) == 1
            assert {where for _, where in sql(with_session(database, "x"), OWNED_BY)} == {alive.where}


async def test_worker_that_is_cut_off_from_the_database_is_fenced_and_comes_back(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        SessionHost(database, work, CONFIG, **QUICK) as one,
        SessionHost(database, work, CONFIG, **QUICK) as other,
        SessionClient(database) as client,
    ):
        session = client.session("a")
        handle = await session.spawn("/root", "x", f"until {tmp_path / 'there'}")
        cut, next_one = (one, other) if one.sessions else (other, one)
        leases = cut._directory
        assert isinstance(leases, Leases)
        terminate = f"SELECT pg_terminate_backend({leases.connection.info.backend_pid})"
        connect_again = cut._connect

        def late() -> None:
            time.sleep(3)
            connect_again()

        monkeypatch.setattr(cut, "_connect", late)
        sql(with_session(database, "x"), terminate)
        await until(lambda: next_one.sessions == ("a",), 3)
        (tmp_path / "there").touch()
        assert (await handle.outcome()).status is TurnState.COMPLETED
        entries = [each for each in await session.history("/root/x") if hasattr(each, "data")]
        assert len(entries) == 1
        workers_now = "SELECT count(*) FROM statemachine.workers"
        await until(lambda: sql(with_session(database, "x"), workers_now) == [(2,)])


OWNED_BY = """
    SELECT s.name, w.address FROM statemachine.sessions AS s JOIN statemachine.workers AS w ON w.id = s.worker
"""


async def test_worker_that_hangs_beyond_its_ttl_loses_its_sessions_and_writes_nothing_when_it_wakes(
    database: str,
) -> None:
    with workers(database, 2, "--ttl", "1", "--poll", "0.2") as processes:
        async with SessionClient(database) as client:
            session = client.session("a")
            await (await session.spawn("/root", "x", "go")).outcome()
            ((_, where),) = sql(with_session(database, "x"), OWNED_BY)
            hung, other = sorted(processes, key=lambda each: each.where != where)
            await session.spawn("/root", "y", "sleep 1.5")
            hung.send(signal.SIGSTOP)
            stopped = time.monotonic()
            assert (await session.status("/root/x")).turn == 1
            assert time.monotonic() - stopped < 10
            assert sql(with_session(database, "x"), OWNED_BY) == [("a", other.where)]
            hung.send(signal.SIGCONT)
            assert (await (await session.follow_up("/root/x", "more")).outcome()).result == "done: more"
            await anyio.sleep(2)
            assert [each.turn for each in await session.list()][:2] == [0, 2]
            entries = [each for each in await session.history("/root/y") if hasattr(each, "data")]
            assert len(entries) == 1
            assert sql(with_session(database, "x"), "SELECT count(*) FROM statemachine.workers") == [(2,)]


async def test_client_that_connects_to_a_worker_that_hangs_gives_up_once_that_is_taken_for_dead() -> None:
    """The system takes the connection, and nothing answers on it."""
    looks = list[Where]()

    async def is_there(where: Where) -> bool:
        looks.append(where)
        return len(looks) < 2

    with socket.create_server(("127.0.0.1", 0)) as hung:
        where = Where(f"ws://127.0.0.1:{hung.getsockname()[1]}", "token")
        with pytest.raises(ConnectionError, match="the worker is not there any more"):
            await Talk.begin(where, None, partial(is_there, where))
    assert looks == [where, where]


@pytest.mark.parametrize("during", [False, True], ids=["before the call", "during the call"])
async def test_worker_that_was_silent_for_its_ttl_answers_nothing_before_it_has_looked_again(
    database: str, monkeypatch: pytest.MonkeyPatch, during: bool
) -> None:
    """It hung, and the session may be another worker's by now: what it would answer may be old."""
    hangs, goes_on, calls = anyio.Event(), anyio.Event(), list[str]()
    real_look, real_called = SessionHost._look, server.called
    async with SessionHost(database, work, CONFIG, **QUICK) as worker, SessionClient(database, patience=5) as client:
        session = client.session("a")
        await (await session.spawn("/root", "x", "go")).outcome()

        async def look(self: SessionHost) -> bool:
            hangs.set()
            await goes_on.wait()
            return await real_look(self)

        async def called(control: AgentControl, verb: str, given: dict[str, Any]) -> Any:
            calls.append(verb)
            answer = await real_called(control, verb, given)
            worker._beat = -math.inf
            return answer

        monkeypatch.setattr(server, "called", called)
        monkeypatch.setattr(SessionHost, "_look", look)
        await hangs.wait()
        if not during:
            worker._beat = -math.inf
        client._patience = 0.2
        with pytest.raises(HostMissing):
            await session.status("/root/x")
        assert calls == ["status"] * during
        client._patience = 60
        monkeypatch.setattr(server, "called", real_called)
        goes_on.set()
        assert (await session.status("/root/x")).turn == 1


async def test_worker_that_is_told_to_end_hands_over_and_exits(database: str) -> None:
    with workers(database, 2) as (first, second):
        async with SessionClient(database) as client:
            names = [f"s{number}" for number in range(4)]
            for name in names:
                await client.session(name).spawn("/root", "x", "go")
            code, said = await anyio.to_thread.run_sync(first.drain)
            assert (code, said) == (0, "draining: sessions are handed over\n")
            for name in names:
                assert (await client.session(name).status("/root/x")).agent == 1
            assert {where for _, where in sql(with_session(database, "x"), OWNED_BY)} == {second.where}


async def test_demo_of_a_fleet_shows_the_blows_and_judges_the_sessions() -> None:
    shown = StringIO()
    code = await anyio.to_thread.run_sync(demo_fleet.run, Console(file=shown, width=200))
    text = shown.getvalue()
    assert code == 0, text
    for word in ("a worker is killed", "is stopped for longer than its ttl", "the database is ended", "once: "):
        assert word in text
    assert text.count("answers again, after") == 3
