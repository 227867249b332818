"""How long a client waits for hosts that hang, move or are not there, and whose time that is (harm)."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from statemachine import AgentControl
from statemachine.errors import HostMissing
from statemachine.hosting import SessionClient, SessionHost, host, server
from statemachine.hosting import client as hosting_client
from statemachine.hosting.directory import Where
from statemachine.hosting.folder import FolderSessions
from statemachine.hosting.talk import Talk
from tests.hosting.test_hosts import until
from tests.hosting.work import CONFIG, LONG, QUICK, work
from tests.hosting.workers import workers

MUCH = "x" * 1_000_000
"""More than the buffers of a connection hold, if it is sent a few times."""
SOON = 10.0
"""Seconds within which that ends which has a bound of about a second, also on a busy machine."""

pytestmark = pytest.mark.anyio


@contextmanager
def stopped_host(place: Path) -> Iterator[Any]:
    """A host of a process of its own. What it gives stops the process, until the block is left."""
    with workers(str(place), 1) as (process,):
        try:
            yield lambda: process.send(signal.SIGSTOP)
        finally:
            process.send(signal.SIGCONT)


@asynccontextmanager
async def begun(*calls: Coroutine[Any, Any, object]) -> AsyncIterator[list[asyncio.Task[object]]]:
    """Calls under way, which are cancelled in the end."""
    tasks = [asyncio.create_task(call) for call in calls]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=SOON)


async def ended(tasks: list[asyncio.Task[object]]) -> list[object]:
    """Waits until they have ended, soon. Returns what they raised."""
    done, _ = await asyncio.wait(tasks, timeout=SOON)
    assert len(done) == len(tasks), "some did not end"
    return [type(task.exception()) for task in tasks]


# Calls that are cancelled, and clients that are left


async def test_cancelled_calls_return_and_their_client_is_left_though_the_host_takes_nothing_any_more(
    place: Path,
) -> None:
    with stopped_host(place) as stop:
        client = SessionClient(place)
        await client.__aenter__()
        session = client.session("a")
        await session.list()
        stop()

        async def send() -> None:
            async with asyncio.timeout(0.5):
                await session.send("/root", MUCH)

        async with begun(*(send() for _ in range(8))) as tasks:
            assert await ended(tasks) == [TimeoutError] * 8
        (talk,) = client._talks.values()
        assert not talk._waiting
        assert talk.connection.transport.get_write_buffer_size() < 3 * len(MUCH), "what no caller waits for is not kept"
        async with begun(client.__aexit__(None, None, None)) as tasks:
            assert await ended(tasks) == [type(None)]


async def test_worker_is_told_that_the_caller_has_gone_of_a_call_that_was_sent_and_of_no_other(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way, begun_calls = set[str](), list[str]()
    real = server.called

    async def called(control: AgentControl, verb: str, given: dict[str, Any]) -> Any:
        begun_calls.append(verb)
        under_way.add(verb)
        try:
            return await real(control, verb, given)
        finally:
            under_way.discard(verb)

    monkeypatch.setattr(server, "called", called)
    async with SessionHost(place, work, CONFIG, **QUICK), SessionClient(place) as client:
        session = client.session("a")
        handle = await session.start("/root", f"until {tmp_path / 'there'}")
        async with begun(handle.outcome()):
            await until(lambda: "outcome" in under_way, LONG)
        await until(lambda: "outcome" not in under_way, LONG)
        (talk,) = client._talks.values()
        send, takes = talk.connection.send, asyncio.Event()

        async def slowly(message: bytes) -> None:
            await takes.wait()
            await send(message)

        monkeypatch.setattr(talk.connection, "send", slowly)
        async with begun(session.list()) as tasks:
            async with begun(session.history("/root")):
                await until(lambda: len(talk._waiting) == 2 and len(talk._unsaid) == 1, LONG)
            assert not talk._unsaid
            takes.set()
            assert await ended(tasks) == [type(None)]
        assert begun_calls == ["start", "outcome", "list"]
        assert not talk.is_over
        (tmp_path / "there").touch()


async def test_connection_of_which_a_task_fails_ends_its_calls(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with SessionHost(place, work, CONFIG, **QUICK), SessionClient(place) as client:
        session = client.session("a")
        await session.list()
        (talk,) = client._talks.values()

        async def fails(_: object) -> None:
            raise ArithmeticError("of websockets")

        monkeypatch.setattr(talk.connection, "send", fails)
        assert await session.list(), "on another connection"
        assert talk.is_over
        assert isinstance(next(iter(client._talks.values())), Talk)


# Patience


async def test_call_waits_for_a_host_in_time_in_which_the_client_could_run(place: Path) -> None:
    place.mkdir()
    async with SessionClient(place, patience=2.0) as client:
        async with begun(client.session("a").list()) as tasks:
            await anyio.sleep(0.3)
            time.sleep(3)  # as if the process was stopped
            await anyio.sleep(0.3)
            async with SessionHost(place, work, CONFIG, **QUICK):
                assert await ended(tasks) == [type(None)]
        assert client._stopwatch._measured == 0


@pytest.mark.parametrize("seconds", [0.0, 0.05])
async def test_call_without_a_host_ends_with_its_patience_after_one_look_at_least(
    place: Path, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.mkdir()
    looks = list[str]()
    real = SessionClient._owner

    async def owner(client: SessionClient, session: str) -> Any:
        looks.append(session)
        return await real(client, session)

    monkeypatch.setattr(SessionClient, "_owner", owner)
    async with SessionClient(place, patience=seconds) as client, begun(client.session("a").list()) as tasks:
        assert await ended(tasks) == [HostMissing]
    assert looks


@contextmanager
def silent_host(place: Path) -> Iterator[socket.socket]:
    """A host whose system takes connections, and that answers nothing. What it gives listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        silent = FolderSessions(str(place), 1)
        silent.join(Where(f"ws://127.0.0.1:{listening.getsockname()[1]}", "token"))
        try:
            yield listening
        finally:
            silent.leave()
            silent.close()


def taken(listening: socket.socket) -> int:
    """Returns how many connections wait to be taken, and ends them."""
    number = 0
    with suppress(BlockingIOError):
        while True:
            listening.accept()[0].close()
            number += 1
    return number


async def test_calls_that_wait_for_the_same_connection_share_an_attempt_and_end_within_their_patience(
    place: Path,
) -> None:
    place.mkdir()
    with silent_host(place) as listening:
        async with SessionClient(place, patience=1.0) as client:
            async with begun(*(client.session(f"s{number}").list() for number in range(12))) as tasks:
                assert await ended(tasks) == [HostMissing] * 12
            assert not client._attempts
        assert taken(listening) <= 2


async def test_attempt_to_connect_ends_with_the_last_caller_that_waits_for_it(place: Path) -> None:
    place.mkdir()
    with silent_host(place) as listening:
        async with SessionClient(place) as client:
            before = asyncio.all_tasks()
            async with begun(client.session("a").list()) as (last,):
                async with begun(*(client.session("b").list() for _ in range(3))):
                    await until(lambda: [each.callers for each in client._attempts.values()] == [4], LONG)
                assert [each.callers for each in client._attempts.values()] == [1]
                assert not last.done()
            assert not client._attempts
            assert asyncio.all_tasks() == before
        assert taken(listening) == 1


async def test_call_on_a_connection_whose_host_hangs_ends_within_its_patience(place: Path, tmp_path: Path) -> None:
    with stopped_host(place) as stop:
        async with SessionClient(place, patience=1.5) as client:
            session = client.session("a")
            handle = await session.start("/root", f"until {tmp_path / 'there'}")
            async with begun(handle.outcome()) as tasks:
                await anyio.sleep(0.5)
                stop()
                assert await ended(tasks) == [HostMissing]
            async with begun(*(session.list() for _ in range(12))) as tasks:
                assert await ended(tasks) == [HostMissing] * 12


@pytest.mark.parametrize("how", ["drained", "killed"])
async def test_call_waits_for_a_worker_that_lives_and_has_its_patience_when_that_one_ends(
    place: Path, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosting_client, "ROOM_S", 0.2)
    there = tmp_path / "there"
    with workers(str(place), 1) as (process,):
        async with SessionClient(place, patience=3.0) as client:
            handle = await client.session("a").start("/root", f"until {there}")
            async with begun(handle.outcome(), handle.outcome()) as outcomes:
                await anyio.sleep(3.5)
                assert not any(each.done() for each in outcomes)
                if how == "drained":
                    await anyio.to_thread.run_sync(process.drain)
                else:
                    process.kill()
                await anyio.sleep(0.3)
                there.touch()
                async with SessionHost(place, work, CONFIG, **QUICK):
                    assert await ended(outcomes) == [type(None)] * 2


def test_client_charges_of_a_call_no_more_than_a_worker_waits_for_room() -> None:
    assert hosting_client.ROOM_S == host.CLAIM_S
