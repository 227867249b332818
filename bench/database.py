"""(k) sessions in PostgreSQL: turns beside SQLite's, and commits that many sessions of a process share.

The server is started for this, with its own settings: each commit waits for the disk.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import anyio

from bench.measure import Row, Size, at_least
from model.postgres_server import NoServer, Server, server
from statemachine import AgentControl, PostgresStore, SQLiteStore, Store, Turn
from statemachine.stores.postgres.database import SESSIONS_AT_ONCE, Database
from statemachine.stores.postgres.dsn import dsn_of

SESSIONS = 100
ROUNDS = 5


async def work(turn: Turn) -> str:
    await turn.record("I have looked at it, and this is what there is to say.")
    return "it is done"


async def turns(store: Store, count: int) -> float:
    """Durable turns a second of one agent, one after the other."""
    async with AgentControl.open(store, work) as control:
        await (await control.spawn("/root", "agent", "begin")).outcome()
        begin = perf_counter()
        for _ in range(count):
            await (await control.follow_up("/root/agent", "please look at this")).outcome()
        return count / (perf_counter() - begin)


async def turns_of_many(stores: list[PostgresStore], count: int) -> float:
    """Durable turns a second of many sessions, each of which has one turn after the other."""
    ready, begun, taken = 0, anyio.Event(), list[float]()

    async def live(store: PostgresStore) -> None:
        nonlocal ready
        async with AgentControl.open(store, work) as control:
            await (await control.spawn("/root", "agent", "begin")).outcome()
            ready += 1
            if ready == len(stores):
                taken.append(perf_counter())
                begun.set()
            await begun.wait()
            for _ in range(count):
                await (await control.follow_up("/root/agent", "please look at this")).outcome()
            taken.append(perf_counter())

    async with anyio.create_task_group() as tasks:
        for store in stores:
            tasks.start_soon(live, store)
    return len(stores) * count / (max(taken) - taken[0])


def many(found: Server, name: str, at_once: int, count: int) -> float:
    """Turns of many sessions, of which so many are committed together."""
    dsns = [found.dsn(f"{name} {number}") for number in range(SESSIONS)]
    names = dsn_of(dsns[0])
    key = (os.getpid(), names.database, "on")
    Database.known[key] = Database(names.database, names.shown, "on", at_once)
    return anyio.run(turns_of_many, [PostgresStore(dsn) for dsn in dsns], count)


def apart(found: Server, name: str, count: int) -> float:
    """Turns of many sessions that share no connections: each way to connect has its own."""
    dsns = [f"{found.dsn(f'{name} {number}')}&application_name={number}" for number in range(SESSIONS)]
    return anyio.run(turns_of_many, [PostgresStore(dsn) for dsn in dsns], count)


def rows(size: Size) -> list[Row]:
    try:
        with server(f"max_connections={4 * SESSIONS}") as found, TemporaryDirectory() as folder:
            return measured(found, Path(folder), size)
    except NoServer as error:
        print(error, file=sys.stderr)
        return []


def measured(found: Server, folder: Path, size: Size) -> list[Row]:
    count, few = size.cycles // 4, max(2, size.cycles // 100)
    rounds: dict[str, list[float]] = {"sqlite": [], "postgres": [], "together": [], "alone": [], "apart": []}
    measures: dict[str, Callable[[int], float]] = {
        "sqlite": lambda number: run(turns, SQLiteStore(folder / f"{number}.db"), count),
        "postgres": lambda number: run(turns, PostgresStore(found.dsn(f"turns {number}")), count),
        "together": lambda number: many(found, f"together {number}", SESSIONS_AT_ONCE, few),
        "alone": lambda number: many(found, f"alone {number}", 1, few),
        "apart": lambda number: apart(found, f"apart {number}", few),
    }
    for number in range(ROUNDS if size.repetitions > 3 else 1):
        for name, measure in measures.items():
            rounds[name].append(measure(number))
    best = {name: max(figures) for name, figures in rounds.items()}
    return [
        Row("(k) durable turns in PostgreSQL, one session", best["postgres"], "/s"),
        Row("(k) the same in SQLite", best["sqlite"], "/s"),
        Row("(k) PostgreSQL's part of SQLite's", best["postgres"] / best["sqlite"], "x", at_least(0.7)),
        Row(f"(k) durable turns of {SESSIONS} sessions in PostgreSQL", best["together"], "/s"),
        Row("(k) the same with a commit for each append", best["alone"], "/s"),
        Row("(k) the same with connections of its own for each", best["apart"], "/s"),
        Row("(k) what common commits gain", best["together"] / best["alone"], "x", at_least(3)),
    ]


def run(measure: Callable[[Store, int], Awaitable[float]], store: Store, count: int) -> float:
    return anyio.run(measure, store, count)
