"""Many more agents than slots and room in memory: caps hold at every step, every turn is accounted for, memory is flat.

Everything goes through `AgentControl` on a SQLite file. What is counted here is counted from `events()`, so it is not
the session's own count: turns between their start and their end, threads between their load and their unload.
"""

from __future__ import annotations

import gc
import json
import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from attrs import define, field

from statemachine import SessionConfig, check
from statemachine.core.config import Overflow
from statemachine.core.effects import Load, StartTurn, Unload
from statemachine.core.records import AgentsClosed, Outcome, TurnEnded
from statemachine.core.refusals import AgentClosed, Refusal
from statemachine.runtime import AgentControl, AgentInfo, Thread, Turn
from statemachine.runtime.control import inside
from statemachine.stores import Entry, SQLiteStore, Synchronous
from statemachine.stores.sqlite.reading import check_file

SLOTS, RESIDENT, CLIENTS = 8, 64, 40
BLOCKS_MAX = {"asyncio": 1_000, "trio": 6_000}
BLOCKS_A_TURN_MAX = 0.1
"""Blocks of memory that the second half of a life may leave behind. An object that is kept for every turn is a block at
least, and most often several. What is measured when nothing is kept is noise, however many turns there are: mail that
happens to be unread, tasks that have not gone yet, pools; and on trio up to a thousand timeouts that are over.
"""
HOLD = "hold"


class Counting(Thread):
    """Numbers its turns, and finds the number again after every reload."""

    def __init__(self, agent: AgentInfo) -> None:
        super().__init__(agent)
        self.turns = 0

    async def load(self, history: tuple[Any, ...]) -> None:
        self.turns = sum("turn" in record.data for record in history if isinstance(record, Entry))

    async def run(self, turn: Turn) -> str:
        self.turns += 1
        await turn.record({"turn": self.turns})
        return await work(turn)

    async def flush(self) -> Any:
        return {"flushed": self.turns}


async def work(turn: Turn) -> str:
    """A short turn; one that is told to goes on until it is interrupted."""
    if turn.mail[-1].text == HOLD:
        await anyio.sleep_forever()
    await checkpoint()
    return str(turn.number)


@define(eq=False)
class Watch:
    """What the events say."""

    running: set[int] = field(factory=set[int])
    loaded: set[int] = field(factory=set[int])
    running_max: int = 0
    loaded_max: int = 0
    ended: Counter[str] = field(factory=Counter[str])
    """Turns by status."""
    closed: int = 0
    sampled: Counter[str] = field(factory=Counter[str])

    async def follow(self, control: AgentControl, events: AsyncIterator[Any]) -> None:
        """Until the session ends."""
        async for event in events:
            match event:
                case StartTurn():
                    self.running.add(event.agent)
                    self.running_max = max(self.running_max, len(self.running))
                case TurnEnded():
                    self.running.discard(event.outcome.agent)
                    self.ended[event.outcome.status.name] += 1
                case Load():
                    self.loaded.add(event.agent)
                    self.loaded_max = max(self.loaded_max, len(self.loaded))
                case Unload():
                    self.loaded.discard(event.agent)
                case AgentsClosed():
                    self.closed += len(event.agents)
                case _:
                    continue
            now = control.statistics()
            for name, count in (("slots", now.slots_held), ("resident", now.resident), ("queued", now.queued)):
                self.sampled[name] = max(self.sampled[name], count)


@define(eq=False)
class Crowd:
    """Clients that keep all agents busy. `asked` and `told` are requests and their outcomes."""

    control: AgentControl
    watch: Watch
    agents: list[int] = field(factory=list[int])
    turns: int = 0
    asked: int = 0
    told: Counter[str] = field(factory=Counter[str])
    refused: Counter[str] = field(factory=Counter[str])
    reopening: anyio.Lock = field(factory=anyio.Lock)

    async def client(self, number: int) -> None:
        """One client: asks, mostly waits for the outcome, and now and then interrupts, or closes and opens again."""
        rng = Random(f"client {number}")
        while self.watch.ended.total() < self.turns:
            agent = rng.choice(self.agents)
            chance = rng.random()
            try:
                if chance < 0.04:
                    await self.hold(agent)
                elif chance < 0.06:
                    await self.reopen(agent)
                else:
                    self.count(await self.ask(agent, "work"))
            except Refusal as refusal:
                self.refused[type(refusal).__name__] += 1
                await checkpoint()

    async def ask(self, agent: int, text: str) -> Outcome:
        handle = await self.control.follow_up(agent, text)
        self.asked += 1
        return await handle.outcome()

    def count(self, outcome: Outcome) -> None:
        self.told[outcome.status.name] += 1

    async def hold(self, agent: int) -> None:
        """A turn that goes on until it is interrupted, wherever it is then: queued, starting or running."""
        handle = await self.control.follow_up(agent, HOLD)
        self.asked += 1
        for _ in range(self.asked % 7):
            await checkpoint()
        while True:
            with suppress(AgentClosed):  # then the request is answered too
                await self.control.interrupt(agent)
            with anyio.move_on_after(0):
                self.count(await handle.outcome())
                return

    async def reopen(self, agent: int) -> None:
        """Closed with all below it, and opened again, top down."""
        async with self.reopening:
            for member in (await self.control.close(agent)).agents:
                await self.control.resume(member)

    async def spawn_all(self, count: int) -> None:
        """So many agents: a root of ten in each ten, half of them threads."""

        async def spawn(parent: int, number: int) -> None:
            role = ("default", "counting")[number % 2]
            handle = await self.control.spawn(parent, f"a{number}", "work", role=role)
            self.agents.append(handle.id)
            self.asked += 1
            self.count(await handle.outcome())

        for first in range(0, count, 10):
            await spawn(0, first)
            parent = self.agents[-1]
            async with anyio.create_task_group() as tasks:
                for number in range(first + 1, first + 10):
                    tasks.start_soon(spawn, parent, number)

    async def fill_slots(self) -> None:
        """As many turns run at a time as there are slots."""
        held = self.agents[:SLOTS]
        handles = [await self.control.follow_up(agent, HOLD) for agent in held]
        self.asked += SLOTS
        while len(self.watch.running) < SLOTS:
            await checkpoint()
        for agent in held:
            await self.control.interrupt(agent)
        for handle in handles:
            self.count(await handle.outcome())

    async def keep_busy(self, turns: int) -> None:
        """Until so many turns have ended, and every request has an outcome."""
        self.turns = turns
        async with anyio.create_task_group() as tasks:
            for number in range(CLIENTS):
                tasks.start_soon(self.client, number)


async def blocks(events: Any) -> int:
    """Blocks of memory that the interpreter holds when all events are read, without garbage."""
    while events._unread:
        await checkpoint()
    gc.collect()
    return sys.getallocatedblocks()


async def crowd_on(path: Path, agents: int, turns: int) -> tuple[Crowd, Watch, int]:
    """The whole life. Returns clients and watch, and how many blocks its second half left behind."""
    config = SessionConfig(
        max_concurrent=SLOTS + 1, max_resident=RESIDENT, overflow=Overflow.QUEUE, max_queued=2 * CLIENTS
    )
    store = SQLiteStore(path, synchronous=Synchronous.NORMAL)
    watch = Watch()
    async with (
        AgentControl.open(store, {"default": work, "counting": Counting}, config) as control,
        anyio.create_task_group() as tasks,
        control.events(10**9) as events,
    ):
        tasks.start_soon(watch.follow, control, events)
        crowd = Crowd(control, watch)
        await crowd.spawn_all(agents)
        await crowd.fill_slots()
        await crowd.keep_busy(turns // 2)
        before = await blocks(events)
        await crowd.keep_busy(turns)
        left = await blocks(events) - before
        check(inside(control).session)
        assert control.statistics().open_agents == agents
        assert (control.statistics().slots_held, control.statistics().queued) == (0, 0)
        await control.shutdown(0)
    return crowd, watch, left


def judge(path: Path, crowd: Crowd, watch: Watch) -> None:
    """Caps, and every turn."""
    assert watch.running_max == SLOTS, "caps are reached, and not exceeded"
    assert watch.loaded_max == RESIDENT
    assert (watch.sampled["slots"], watch.sampled["resident"]) == (SLOTS, RESIDENT)
    assert watch.sampled["queued"] <= 2 * CLIENTS
    assert sum(crowd.told.values()) == crowd.asked, "every request has an outcome"
    assert set(crowd.told) == {"COMPLETED", "INTERRUPTED"}
    assert set(crowd.refused) <= {"AgentClosed"}
    assert watch.closed > 0
    assert watch.ended.total() >= crowd.turns
    with closing(sqlite3.connect(path)) as connection:
        ended = "SELECT agent, count(*), max(json_extract(data, '$.outcome.turn')) FROM log WHERE kind = 'TurnEnded' "
        of_agents = connection.execute(f"{ended} GROUP BY agent").fetchall()
        (started,) = connection.execute("SELECT count(*) FROM log WHERE kind = 'TurnStarted'").fetchone()
        entries = connection.execute("SELECT agent, data FROM log WHERE kind = 'Entry' ORDER BY position").fetchall()
    assert len(of_agents) == len(crowd.agents)
    assert all(count == last for _, count, last in of_agents), "turns are numbered without gaps, and each ended once"
    assert sum(count for _, count, _ in of_agents) == watch.ended.total()
    assert started <= watch.ended.total()
    numbered: Counter[int] = Counter()
    for agent, data in entries:
        entry = json.loads(data)["data"]
        numbered[agent] += "turn" in entry
        assert entry.get("turn", entry.get("flushed")) == numbered[agent], "threads find again what they had recorded"
    assert check_file(path) == ()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_300_agents_on_8_slots_and_64_places_in_memory_keep_all_caps_and_no_memory(
    tmp_path: Path, anyio_backend: str
) -> None:
    crowd, watch, left = await crowd_on(tmp_path / "session.db", 300, 3_000)
    judge(tmp_path / "session.db", crowd, watch)
    assert left < BLOCKS_MAX[anyio_backend] + BLOCKS_A_TURN_MAX * watch.ended.total() / 2


@pytest.mark.nightly
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_2000_agents_and_20000_turns_keep_all_caps_and_no_memory(tmp_path: Path, anyio_backend: str) -> None:
    crowd, watch, left = await crowd_on(tmp_path / "session.db", 2_000, 20_000)
    judge(tmp_path / "session.db", crowd, watch)
    assert left < BLOCKS_MAX[anyio_backend] + BLOCKS_A_TURN_MAX * watch.ended.total() / 2
