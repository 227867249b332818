"""A host and a client are entered once, on asyncio, and say so if that is not so (harm)."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from pathlib import Path

import anyio
import pytest

from statemachine.errors import FolderInUse, SessionClosed, StoreMissing, WrongEventLoop, WrongTask
from statemachine.hosting import SessionClient, SessionHost
from tests.hosting.test_hosts import until
from tests.hosting.test_leaving import check_nothing_is_left, sockets, threads_of
from tests.hosting.work import CONFIG, LONG, QUICK, work

pytestmark = pytest.mark.anyio


async def entered(block: SessionHost | SessionClient) -> None:
    """Enters it, and leaves it."""
    async with block:
        pass


async def test_host_that_is_entered_within_its_block_is_refused_and_goes_on(place: Path) -> None:
    opened, tasks = sockets(), len(asyncio.all_tasks())
    found = SessionHost(place, work, CONFIG, **QUICK)
    async with found, SessionClient(place) as client:
        at, listening = found.where, sockets()
        with pytest.raises(RuntimeError, match="a host is entered once; make another one"):
            await entered(found)
        assert (found.where, sockets()) == (at, listening)
        await until(lambda: threads_of("host") == 1)
        assert (await (await client.session("a").spawn("/root", "x", "go")).outcome()).result == "done: go"
    await check_nothing_is_left("host", opened, tasks)


async def test_host_that_was_left_is_refused_when_it_is_entered_again_and_takes_nothing(place: Path) -> None:
    found = SessionHost(place, work, CONFIG, **QUICK)
    await entered(found)
    async with SessionHost(place, work, CONFIG, **QUICK), SessionClient(place) as client:
        with pytest.raises(RuntimeError, match="a host is entered once; make another one"):
            await entered(found)
        assert [agent.path for agent in await client.session("a").list()] == ["/root"]


async def test_client_that_is_entered_within_its_block_or_after_it_is_refused_and_the_first_goes_on(
    place: Path,
) -> None:
    async with SessionHost(place, work, CONFIG, **QUICK):
        client = SessionClient(place)
        async with client:
            with pytest.raises(RuntimeError, match="a client is entered once; make another one"):
                await entered(client)
            await until(lambda: threads_of("client") == 1)
            assert [agent.path for agent in await client.session("a").list()] == ["/root"]
        with pytest.raises(RuntimeError, match="a client is entered once; make another one"):
            await entered(client)


async def test_block_that_is_left_twice_or_was_never_entered_is_left_without_harm(place: Path) -> None:
    for kind in (SessionHost(place, work, CONFIG, **QUICK), SessionClient(place)):
        with pytest.raises(RuntimeError, match="is not open: enter it with `async with` first"):
            await kind.__aexit__(None, None, None)
        await entered(kind)  # which is still its first time
        await kind.__aexit__(None, None, None)


@pytest.mark.parametrize("verb", ["run", "drain"])
async def test_host_that_was_not_entered_neither_runs_nor_drains(place: Path, verb: str) -> None:
    found = SessionHost(place, work, CONFIG, **QUICK)
    with (
        anyio.fail_after(LONG),
        pytest.raises(RuntimeError, match="the host is not open: enter it with `async with` first"),
    ):
        await getattr(found, verb)()
    async with found, SessionClient(place) as client:
        assert await client.session("a").list()


async def test_block_that_could_not_be_entered_is_entered_once_what_was_missing_is_there(place: Path) -> None:
    client, second = SessionClient(place), SessionHost(place, work, CONFIG, **QUICK)
    with pytest.raises(StoreMissing):
        await entered(client)
    async with SessionHost(place, work, CONFIG, **QUICK):
        with pytest.raises(FolderInUse):
            await entered(second)
    async with second, client:
        assert await client.session("a").list()


@pytest.mark.parametrize("kind", ["host", "client"])
def test_block_that_is_entered_on_trio_asks_for_asyncio_before_anything_is_made(place: Path, kind: str) -> None:
    place.mkdir()
    block = SessionHost(place, work, CONFIG, **QUICK) if kind == "host" else SessionClient(place)

    async def enter() -> None:
        with pytest.raises(RuntimeError, match=f"a {kind} needs asyncio, which does not run here; begin with"):
            await entered(block)
        assert {*threading.enumerate()} <= threads
        assert [*place.iterdir()] == []

    threads = {*threading.enumerate()}
    anyio.run(enter, backend="trio")
    anyio.run(entered, block)


async def test_call_from_trio_of_a_client_of_asyncio_is_refused_as_from_any_other_event_loop(place: Path) -> None:
    async with SessionHost(place, work, CONFIG, **QUICK) as found, SessionClient(place) as client:
        for call in (client.session("a").list, found.run, found.drain):
            with pytest.raises(WrongEventLoop):
                await anyio.to_thread.run_sync(partial(anyio.run, call, backend="trio"))
            with pytest.raises(WrongEventLoop):
                await anyio.to_thread.run_sync(partial(anyio.run, call))
        assert [agent.path for agent in await client.session("a").list()] == ["/root"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_call_of_a_client_that_was_not_entered_says_what_to_do(place: Path, backend: str) -> None:
    place.mkdir()
    with pytest.raises(RuntimeError, match="the client is not open: enter it with `async with` first"):
        anyio.run(SessionClient(place).session("a").list, backend=backend)


async def test_call_that_waits_as_its_client_is_left_is_told_so(place: Path, tmp_path: Path) -> None:
    async with SessionHost(place, work, CONFIG, **QUICK):
        async with SessionClient(place) as client, asyncio.TaskGroup() as tasks:
            session = client.session("a")
            handle = await session.spawn("/root", "x", f"until {tmp_path / 'there'}")

            async def hear() -> None:
                with pytest.raises(SessionClosed, match="the client was left"):
                    await handle.outcome()

            tasks.create_task(hear())
            (talk,) = client._talks.values()
            await until(lambda: talk._waiting, LONG)
            await client.__aexit__(None, None, None)
        for call in (session.list, handle.outcome, partial(session.spawn, "/root", "y", "go", key="k")):
            with pytest.raises(SessionClosed, match="the client was left"):
                await call()
        (tmp_path / "there").touch()
        async with SessionClient(place) as client:
            session = client.session("a")
            assert (await session.handle(handle.ref).outcome()).result == f"done: until {tmp_path / 'there'}"
            assert [agent.path for agent in await session.list()] == ["/root", "/root/x"]


async def test_call_that_waits_for_a_host_as_its_client_is_left_is_told_so(place: Path) -> None:
    place.mkdir()
    client = SessionClient(place)
    async with client, asyncio.TaskGroup() as tasks:

        async def ask() -> None:
            with pytest.raises(SessionClosed, match="the client was left"):
                await client.session("a").list()

        tasks.create_task(ask())
        await anyio.sleep(0.1)
        await client.__aexit__(None, None, None)


def test_call_of_a_client_that_was_left_says_so_in_any_event_loop(place: Path) -> None:
    place.mkdir()
    client = SessionClient(place)
    anyio.run(entered, client)
    for backend in ("asyncio", "trio"):
        with pytest.raises(SessionClosed, match="the client was left"):
            anyio.run(client.session("a").list, backend=backend)


async def test_host_that_another_task_leaves_is_refused_and_goes_on(place: Path) -> None:
    async with SessionHost(place, work, CONFIG, **QUICK) as found, SessionClient(place) as client:
        with pytest.raises(WrongTask, match="another task has entered it"):
            await asyncio.create_task(found.__aexit__(None, None, None))
        await anyio.sleep(0.1)
        assert [agent.path for agent in await client.session("a").list()] == ["/root"]


def test_host_whose_task_has_ended_is_left_by_any_other(place: Path) -> None:
    """As fixtures of many tools for tests enter and leave it."""
    with asyncio.Runner() as runner:
        for _ in range(2):
            found, client = SessionHost(place, work, CONFIG, **QUICK), SessionClient(place)
            runner.run(found.__aenter__())
            runner.run(client.__aenter__())
            assert [agent.path for agent in runner.run(client.session("a").list())] == ["/root"]
            runner.run(client.__aexit__(None, None, None))
            runner.run(found.__aexit__(None, None, None))
