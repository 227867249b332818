"""A drain that the code of the turn gives up while it is being made durable: no mail is lost to the turn."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import anyio
import pytest

from statemachine.core.effects import WaitEnd
from statemachine.core.refusals import InvalidTimeout
from statemachine.runtime import Turn
from statemachine.stores import MemoryStore
from statemachine.stores.protocol import Snapshot, Write
from tests.runtime.running import Open, traced_sessions, virtual_time

pytestmark = pytest.mark.anyio
FIXTURES = (traced_sessions, virtual_time)


class SlowStore(MemoryStore):
    """Takes half a second for what it appends, once it is told to."""

    is_slow = False

    async def append(self, items: Sequence[Write | Snapshot]) -> None:
        if self.is_slow:
            await anyio.sleep(0.5)
        await super().append(items)


async def try_to_drain(turn: Turn, seconds: float = 0.2) -> list[str]:
    """Drains for so long, and returns the texts."""
    with anyio.move_on_after(seconds):
        return [mail.text for mail in await turn.drain()]
    return ["given up"]


async def test_drain_gives_what_one_before_it_that_was_cancelled_had_read_in_order_and_once(
    open_session: Open,
) -> None:
    store, begun, sent = SlowStore(), anyio.Event(), [anyio.Event(), anyio.Event()]

    async def work(turn: Turn) -> list[list[str]]:
        begun.set()
        await sent[0].wait()
        store.is_slow = True
        got = [await try_to_drain(turn)]
        await sent[1].wait()
        got.append(await try_to_drain(turn))
        assert (await turn.status("/root")).unread == 0
        return [*got, await try_to_drain(turn, 5), await try_to_drain(turn, 5)]

    async with open_session(work, store) as control:
        request = await control.start("/root", "go")
        await begun.wait()
        await control.send("/root", "first")
        await control.send("/root", "second")
        sent[0].set()
        await anyio.sleep(0.3)
        await control.send("/root", "third")
        sent[1].set()
        assert (await request.outcome()).result == [["given up"], ["given up"], ["first", "second", "third"], []]


async def test_wait_for_mail_that_a_cancelled_drain_has_read_is_over_at_once(open_session: Open) -> None:
    store, begun, sent = SlowStore(), anyio.Event(), anyio.Event()

    async def work(turn: Turn) -> list[object]:
        begun.set()
        await sent.wait()
        store.is_slow = True
        assert await try_to_drain(turn) == ["given up"]
        store.is_slow = False
        with pytest.raises(InvalidTimeout):
            await turn.wait(-1)
        with pytest.raises(InvalidTimeout):
            await turn.wait(1e9)
        ends = [await turn.wait(3), await turn.wait(3, ("/root",)), await turn.wait(0.1, mail=False)]
        texts = await try_to_drain(turn, 5)
        return [[end.name for end in ends], texts, (await turn.wait(0.1)).name]

    async with open_session(work, store) as control:
        request = await control.start("/root", "go")
        await begun.wait()
        await control.send("/root", "precious")
        sent.set()
        assert (await request.outcome()).result == [["MAIL", "MAIL", "TIMEOUT"], ["precious"], WaitEnd.TIMEOUT.name]


async def test_drains_of_several_tasks_give_each_mail_to_one_of_them(open_session: Open) -> None:
    store, begun, sent = SlowStore(), anyio.Event(), anyio.Event()

    async def work(turn: Turn) -> list[str]:
        begun.set()
        await sent.wait()
        store.is_slow = True
        got: list[str] = []

        async def drain(seconds: float) -> None:
            got.extend(await try_to_drain(turn, seconds))

        async with anyio.create_task_group() as tasks:
            for seconds in (0.2, 5.0, 0.3, 5.0):
                tasks.start_soon(drain, seconds)
        got.extend(await try_to_drain(turn, 5))
        return sorted(text for text in got if text != "given up")

    async with open_session(work, store) as control:
        request = await control.start("/root", "go")
        await begun.wait()
        for text in ("a", "b", "c"):
            await control.send("/root", text)
        sent.set()
        assert (await request.outcome()).result == ["a", "b", "c"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_drain_that_asyncio_cancels_at_any_pass_loses_no_mail(open_session: Open) -> None:
    async def work(turn: Turn) -> list[list[str]]:
        got: list[list[str]] = []
        for passes in range(12):
            await turn.send("/root", f"{passes}")
            task = asyncio.ensure_future(turn.drain())
            for _ in range(passes):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            found = () if task.cancelled() else task.result()
            got.append([mail.text for mail in (*found, *await turn.drain())])
        return got

    async with open_session(work) as control:
        request = await control.start("/root", "go")
        assert (await request.outcome()).result == [[f"{passes}"] for passes in range(12)]
