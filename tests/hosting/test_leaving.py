"""A host and a client that are left leave nothing, however they are left (harm)."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from statemachine import TurnState
from statemachine.errors import SessionClosed
from statemachine.hosting import SessionClient, SessionHost
from statemachine.hosting import talk as hosting_talk
from statemachine.hosting.directory import Where
from statemachine.hosting.talk import Talk
from tests.hosting.test_hosts import until
from tests.hosting.work import CONFIG, LONG, QUICK, work

pytestmark = pytest.mark.anyio


def threads_of(kind: str) -> int:
    """How many threads of hosts, or of clients, there are."""
    return sum(thread.name == f"statemachine-{kind}" for thread in threading.enumerate())


def sockets() -> int:
    """How many are open. SQLite keeps descriptors of files, to use them again."""
    links = list[str]()
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            links.append(os.readlink(f"/proc/self/fd/{number}"))
    return sum(link.startswith("socket:") for link in links)


async def check_nothing_is_left(kind: str, opened: int, tasks: int) -> None:
    """Threads end by themselves, soon."""
    await until(lambda: threads_of(kind) == 0)
    await until(lambda: sockets() <= opened)
    await until(lambda: len(asyncio.all_tasks()) <= tasks)


async def cancelled(entered: AbstractAsyncContextManager[Any], passes: int, times: int) -> None:
    """Enters and leaves this in a task of its own, which is cancelled by asyncio: after so many passes of the event
    loop, so many times.
    """

    async def enter() -> None:
        async with entered:
            pass

    task = asyncio.create_task(enter())
    for _ in range(passes):
        await asyncio.sleep(0)
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    with suppress(asyncio.CancelledError):
        await task


async def test_client_that_is_left_by_a_time_out_leaves_no_thread_connection_or_task(
    place: Path, tmp_path: Path
) -> None:
    async with SessionHost(place, work, CONFIG, **QUICK) as found:
        async with SessionClient(place) as client:
            ref = (await client.session("a").spawn("/root", "x", f"until {tmp_path / 'there'}")).ref
            while (await client.session("a").status("/root/x")).status is not TurnState.RUNNING:
                await anyio.sleep(0.02)
        await until(lambda: threads_of("client") == 0)
        opened, tasks = sockets(), len(asyncio.all_tasks())
        for _ in range(4):
            with anyio.CancelScope() as scope:
                async with SessionClient(place) as client, anyio.create_task_group() as others:
                    others.start_soon(client.session("a").handle(ref).outcome)
                    await until(lambda client=client: any(talk._waiting for talk in client._talks.values()), LONG)
                    scope.cancel()
        await check_nothing_is_left("client", opened, tasks)
        assert found.sessions == ("a",)
        (tmp_path / "there").touch()


async def test_step_of_leaving_a_client_that_raises_keeps_no_other_from_being_carried_out(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Talk.close

    async def fails(talk: Talk) -> None:
        await real(talk)
        raise ArithmeticError("of a connection")

    async with SessionHost(place, work, CONFIG, **QUICK):
        async with SessionClient(place) as client:
            await client.session("a").list()
        await until(lambda: threads_of("client") == 0)
        opened, tasks = sockets(), len(asyncio.all_tasks())
        with monkeypatch.context() as patched:
            patched.setattr(Talk, "close", fails)
            with pytest.raises(ArithmeticError):
                async with SessionClient(place) as client:
                    await client.session("a").list()
        await check_nothing_is_left("client", opened, tasks)
        with pytest.raises(SessionClosed, match="the client was left"):
            await client.session("a").list()


async def test_connection_that_is_made_as_its_caller_is_cancelled_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = list[str]()

    class Connection:
        async def close(self) -> None:
            closed.append("closed")

    async def connect(*_: object, **__: object) -> Connection:
        task.cancel()
        return Connection()

    async def is_there() -> bool:
        return True

    monkeypatch.setattr(hosting_talk, "connect", connect)
    task = asyncio.create_task(Talk.begin(Where("ws://127.0.0.1:1", "token"), None, is_there))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed == ["closed"]


@pytest.mark.parametrize("kind", ["client", "host"])
@pytest.mark.parametrize("times", [1, 200])
async def test_host_or_client_that_asyncio_cancels_at_any_pass_leaves_nothing(
    place: Path, kind: str, times: int
) -> None:
    place.mkdir()
    await cancelled(SessionHost(place, work, CONFIG, **QUICK), 0, 0)  # what is imported and made once
    opened, tasks = sockets(), len(asyncio.all_tasks())
    for passes in range(16):
        found = SessionHost(place, work, CONFIG, **QUICK) if kind == "host" else SessionClient(place)
        await cancelled(found, passes, times)
    await check_nothing_is_left(kind, opened, tasks)


async def test_host_that_asyncio_cancels_again_and_again_while_it_is_left_leaves_nothing(place: Path) -> None:
    opened, tasks = sockets(), len(asyncio.all_tasks())
    entered = anyio.Event()

    async def serve() -> None:
        async with SessionHost(place, work, CONFIG, **QUICK), SessionClient(place) as client:
            await client.session("a").list()
            entered.set()
            await anyio.sleep_forever()

    for _ in range(3):
        entered = anyio.Event()
        task = asyncio.create_task(serve())
        await entered.wait()
        for _ in range(2_000):
            task.cancel()
            await asyncio.sleep(0)
        with suppress(asyncio.CancelledError):
            await task
    await check_nothing_is_left("host", opened, tasks)
    await check_nothing_is_left("client", opened, tasks)


async def test_connection_that_cannot_be_closed_keeps_no_other_from_being_closed() -> None:
    class Broken:
        async def close(self) -> None:
            raise AttributeError("'NoneType' object has no attribute 'call_soon'")

    await Talk(cast("Any", Broken()), "token").close()


LEFT_BEHIND = """
import asyncio, logging, sys
from statemachine.hosting import SessionClient, SessionHost

logging.disable()  # asyncio tells of the tasks that it leaves behind

async def work(turn):
    await asyncio.sleep(0 if turn.mail[-1].text == "again" else 1000)
    return "done"

async def begun(number, port):
    host = SessionHost(sys.argv[1], work, port=port, poll=0.05)
    await host.__aenter__()
    async with SessionClient(sys.argv[1]) as client:
        await client.session("a").spawn("/root", f"a{number}", "x", key=str(number))
    return host

async def again():
    async with SessionHost(sys.argv[1], work, port=port, poll=0.05), SessionClient(sys.argv[1]) as client:
        for number in range(3):
            print((await (await client.session("a").follow_up(f"/root/a{number}", "again")).outcome()).result)

kept, port = [], 0
for number in range(3):
    loop = asyncio.new_event_loop()
    kept.append(loop.run_until_complete(begun(number, port)))
    port = int(kept[-1].where.rpartition(":")[2])
    loop.close()
asyncio.run(again())
"""


def test_host_whose_event_loop_was_closed_in_its_block_leaves_folder_and_address_to_another(place: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LEFT_BEHIND, str(place)],
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "done\ndone\ndone\n"), done.stderr
