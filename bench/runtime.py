"""(h) the runtime on SQLite: durable turns, pairs of parent and child, evict and reload, opening many agents."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import anyio

from bench.measure import QUICK, Row, Size, at_least, at_most
from statemachine import Overflow, SessionConfig
from statemachine.core.machines import TurnState
from statemachine.runtime import AgentControl, AgentInfo, Handle, Thread, Turn
from statemachine.stores import Entry, LogRecord

ENTRY_BYTES = 4096


async def echo(turn: Turn) -> str:
    """The least work that a turn can do."""
    return f"done: {turn.mail[0].text}"


def durable_turns(directory: Path, *, agents: int, slots: int, turns: int) -> float:
    """Seconds that `turns` turns take, `slots` at a time, with all mail, starts and ends acknowledged as durable. Every
    agent has a client that follows up, waits for the outcome, and follows up again; whoever finds no slot queues.
    """
    return anyio.run(partial(_durable_turns, directory / "session.db", agents, slots, turns))


async def _durable_turns(path: Path, agents: int, slots: int, turns: int) -> float:
    config = SessionConfig(max_concurrent=slots + 1, max_resident=agents, overflow=Overflow.QUEUE)
    async with AgentControl.open(path, echo, config) as control:
        handles = [await control.spawn("/root", f"a{number}", "begin") for number in range(agents)]
        for handle in handles:
            await handle.outcome()
        began = time.perf_counter()
        async with anyio.create_task_group() as clients:
            for number, handle in enumerate(handles):
                clients.start_soon(_client, control, handle, turns // agents + (number < turns % agents))
        took = time.perf_counter() - began
        statuses = await control.list()
        done = sum(status.turn for status in statuses)
        assert done == agents + turns, f"{done} turns, not {agents + turns}"
        return took


async def _client(control: AgentControl, handle: Handle, turns: int) -> None:
    for _ in range(turns):
        outcome = await (await control.follow_up(handle, "work")).outcome()
        assert outcome.status is TurnState.COMPLETED, outcome


async def delegate(turn: Turn) -> str:
    """A parent asks for as many turns of children as its mail says, one after the other, of one child or each of a new
    one, and awaits each outcome.
    """
    asked = turn.mail[-1].text.split()
    if asked[0] == "child":
        return "done"
    pairs, which = int(asked[0]), asked[1]
    child = None
    for number in range(pairs):
        if child is None or which == "new":
            child = await turn.spawn(f"c{turn.number}_{number}", "child")
        else:
            child = await turn.follow_up(child, "child")
        outcome = await child.outcome()
        assert outcome.status is TurnState.COMPLETED, outcome
    return "done"


def pair_seconds(directory: Path, which: str, *, pairs: int, repetitions: int) -> float:
    """Seconds that a parent and a turn of a child take on one slot, where the parent awaits `outcome()`: the best of
    some repetitions of so many pairs. `which` is "new" for a new child in each pair, or "same".
    """
    return anyio.run(partial(_pair_seconds, directory / f"{which}.db", which, pairs, repetitions))


async def _pair_seconds(path: Path, which: str, pairs: int, repetitions: int) -> float:
    best = float("inf")
    async with AgentControl.open(path, delegate, SessionConfig(max_concurrent=2)) as control:
        parent = await control.spawn("/root", "a", f"1 {which}")
        for _ in range(repetitions):
            await parent.outcome()
            began = time.perf_counter()
            parent = await control.follow_up(parent, f"{pairs} {which}")
            assert (await parent.outcome()).result == "done"
            best = min(best, time.perf_counter() - began)
    return best / pairs


class Rememberer(Thread):
    """Holds its rollout's entries in memory, and notes when it is flushed and when it is there again."""

    flushed_at: ClassVar[list[float]] = []
    loaded_at: ClassVar[list[float]] = []

    def __init__(self, agent: AgentInfo) -> None:
        super().__init__(agent)
        self.memory = ""

    async def load(self, history: tuple[LogRecord, ...]) -> None:
        self.memory = "".join([record.data for record in history if isinstance(record, Entry)])
        self.loaded_at.append(time.perf_counter())

    async def run(self, turn: Turn) -> str:
        if not self.memory:
            self.memory = "x" * ENTRY_BYTES
            await turn.record(self.memory)
        assert len(self.memory) == ENTRY_BYTES
        return ""

    async def flush(self) -> None:
        self.flushed_at.append(time.perf_counter())


def reload_seconds(directory: Path, agents: int) -> float:
    """Seconds from the flush of one agent, which makes room, to the end of the load of another, which is built from its
    rollout of 4 KiB: the median over as many agents.
    """
    return anyio.run(partial(_reload_seconds, directory / "reload.db", agents))


async def _reload_seconds(path: Path, agents: int) -> float:
    async with AgentControl.open(path, Rememberer, SessionConfig(max_concurrent=2, max_resident=1)) as control:
        handles = [await _spawned(control, f"a{number}") for number in range(agents)]
        before = control.statistics().reloads
        Rememberer.flushed_at.clear()
        Rememberer.loaded_at.clear()
        for handle in handles:
            await (await control.follow_up(handle, "work")).outcome()
        assert control.statistics().reloads == before + agents == before + len(Rememberer.loaded_at)
        pairs = zip(Rememberer.flushed_at, Rememberer.loaded_at, strict=True)
        return sorted([loaded - flushed for flushed, loaded in pairs])[agents // 2]


async def _spawned(control: AgentControl, name: str) -> Handle:
    handle = await control.spawn("/root", name, "begin")
    await handle.outcome()
    return handle


def opening_seconds(directory: Path, agents: int) -> float:
    """Seconds to open a session with so many open agents, each of which had a turn, until it takes work."""
    return anyio.run(partial(_opening_seconds, directory / "many.db", agents))


async def _opening_seconds(path: Path, agents: int) -> float:
    config = SessionConfig(max_concurrent=9, max_resident=16, overflow=Overflow.QUEUE, max_queued=agents)
    async with AgentControl.open(path, echo, config) as control:
        for number in range(0, agents, 500):
            async with anyio.create_task_group() as clients:
                for name in range(number, min(number + 500, agents)):
                    clients.start_soon(_spawned, control, f"a{name}")
    began = time.perf_counter()
    async with AgentControl.open(path, echo, config) as control:
        took = time.perf_counter() - began
        assert control.statistics().open_agents == agents
    return took


def rows(size: Size) -> list[Row]:
    """The rows; the rate of durable turns is measured together with the peers (g)."""
    few, agents = (20, 200) if size is QUICK else (200, 100_000)
    repetitions = 2 if size is QUICK else 20
    with TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        reload_us = 1e6 * reload_seconds(directory, few)
        same, new = (pair_seconds(directory, w, pairs=few, repetitions=repetitions) for w in ("same", "new"))
        return [
            Row("(h) parent and child by outcome(), one slot, pairs", 1 / same, "/s", at_least(2_000)),
            Row("(h) the same, each child new", 1 / new, "/s"),
            Row("(h) evict and reload, 4 KiB of rollout", reload_us, "us", at_most(1_000)),
            Row(f"(h) open a session of {agents:,} agents", opening_seconds(directory, agents), "s", at_most(2)),
        ]
