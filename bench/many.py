"""(l) many sessions in one process, in files and in PostgreSQL: threads, descriptors and memory of each; turns of all.

Memory is what the process has of the machine's (RSS), so each case has a process of its own: `python -m bench.many CASE
COUNT DIRECTORY` prints its figures as JSON.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import anyio

from bench.measure import Row, Size, at_least, at_most
from model.postgres_server import NoServer, server
from statemachine import AgentControl, MemoryStore, PostgresStore, SQLiteStore, Store, Turn
from statemachine.stores.sqlite import resting
from statemachine.stores.sqlite.store import CONNECTIONS

FIRST = 20
"""Sessions that are opened before anything is counted: what all share is there then."""
BUSY = 100
"""Sessions whose turns are counted."""
ROUNDS = 10
AGENTS = 4
"""Agents that are added to each session, to see what one takes."""
Figures = dict[str, float]


def rows(size: Size) -> list[Row]:
    count = size.many // 100
    found = {case: in_process(case, count) for case in ("file", "memory", "postgres", "connection")}
    loaded = in_process("agents", count)
    alone, together = (in_process("turns", sessions)["turns"] for sessions in (1, BUSY))
    files = found["file"]
    sessions = f"{count:,} sessions"
    return [
        Row(f"(l) {sessions} in files, threads", files["threads"], "", at_most(16)),
        Row(f"(l) {sessions} in files, descriptors", files["descriptors"] / count, "each", at_most(1.2)),
        Row(f"(l) {sessions} in files, memory, just opened", files["opened"] / count, "KiB each"),
        Row(f"(l) {sessions} in files, memory, not used since", files["rested"] / count, "KiB each", at_most(30)),
        Row("(l) the same in memory", found["memory"]["opened"] / count, "KiB each"),
        Row(
            "(l) an agent that is loaded and idle, in memory",
            (loaded["opened"] - found["memory"]["opened"]) / count / AGENTS,
            "KiB",
        ),
        *in_postgres(found["postgres"], sessions, count),
        Row("(l) a bare connection of SQLite in WAL mode", found["connection"]["opened"] / count, "KiB each"),
        Row("(l) durable turns of one session, one after the other", alone, "/s"),
        Row(f"(l) durable turns of {BUSY} sessions, each one after the other", together, "/s"),
        Row("(l) relative to one session", together / alone, "x", at_least(2)),
    ]


def in_postgres(figures: Figures, sessions: str, count: int) -> list[Row]:
    """The rows of sessions in PostgreSQL, if there is a server."""
    return [
        Row(f"(l) {sessions} in PostgreSQL, {what}", figures[what_of] / count, unit, at_most(most))
        for what, what_of, unit, most in (
            ("memory", "opened", "KiB each", 30),
            ("descriptors", "descriptors", "each", 0.1),
        )
        if figures
    ]


def in_process(case: str, count: int) -> Figures:
    """Measures in a process of its own."""
    with TemporaryDirectory() as directory:
        words = [sys.executable, "-m", "bench.many", case, f"{count}", directory]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        figures: Figures = json.loads(done.stdout)
        return figures


async def work(turn: Turn) -> str:
    await turn.record("I have looked at it, and this is what there is to say.")
    return "it is done"


def memory_kib() -> int:
    """What the process has of the machine's memory."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def opened(count: int, new_store: Callable[[int], Store], figures: Figures, agents: int = 0) -> None:
    """Opens so many sessions with a root alone, which has no thread, or with agents that have had a turn and stay
    loaded. Waits until those that are not used rest.
    """
    async with AsyncExitStack() as stack:

        async def enter(number: int) -> None:
            control = await stack.enter_async_context(AgentControl.open(new_store(number), work))
            for agent in range(agents):
                await (await control.spawn("/root", f"agent{agent}", "begin")).outcome()

        for number in range(FIRST):
            await enter(number)
        memory, files = memory_kib(), descriptors()
        for number in range(FIRST, FIRST + count):
            await enter(number)
        figures["opened"] = memory_kib() - memory
        while len(CONNECTIONS) > resting.OPEN_MAX:
            await anyio.sleep(resting.LOOK_S)
        await anyio.sleep(2 * resting.LOOK_S)  # what was freed is given back
        figures["rested"] = memory_kib() - memory
        figures["descriptors"] = descriptors() - files
        figures["threads"] = threading.active_count()


def connected(count: int, directory: str, figures: Figures) -> None:
    """Opens connections that have read and written a table."""
    kept: list[sqlite3.Connection] = []
    memory = 0
    for number in range(FIRST + count):
        if number == FIRST:
            memory = memory_kib()
        connection = sqlite3.connect(os.path.join(directory, f"{number}.db"), isolation_level=None)
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE log (position INTEGER PRIMARY KEY, data)")
        kept.append(connection)
    figures["opened"] = memory_kib() - memory
    for connection in kept:
        connection.close()


async def turns(count: int, directory: str, figures: Figures) -> None:
    """Turns of so many sessions, each of which has one after the other."""
    rounds = ROUNDS * BUSY // count
    begun, ended = perf_counter(), perf_counter()
    async with AsyncExitStack() as stack:
        controls: list[AgentControl] = []
        for number in range(count):
            store = SQLiteStore(os.path.join(directory, f"{number}.db"))
            controls.append(await stack.enter_async_context(AgentControl.open(store, work)))
            await (await controls[-1].spawn("/root", "agent", "begin")).outcome()

        async def ask(control: AgentControl) -> None:
            for _ in range(rounds):
                await (await control.follow_up("/root/agent", "please look at this")).outcome()

        begun = perf_counter()
        async with anyio.create_task_group() as tasks:
            for control in controls:
                tasks.start_soon(ask, control)
        ended = perf_counter()
    figures["turns"] = count * rounds / (ended - begun)


def main(case: str, count: int, directory: str) -> None:
    """Prints the figures of one case."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    figures: Figures = {}

    def in_file(number: int) -> Store:
        return SQLiteStore(os.path.join(directory, f"{number}.db"))

    async def in_database() -> None:
        try:
            with server() as found:
                await opened(count, lambda number: PostgresStore(found.dsn(f"session {number}")), figures)
        except NoServer as error:
            print(error, file=sys.stderr)

    cases: dict[str, Callable[[], Awaitable[None]]] = {
        "file": lambda: opened(count, in_file, figures),
        "memory": lambda: opened(count, lambda _: MemoryStore(), figures),
        "agents": lambda: opened(count, lambda _: MemoryStore(), figures, AGENTS),
        "postgres": in_database,
        "turns": lambda: turns(count, directory, figures),
    }
    if case == "connection":
        connected(count, directory, figures)
    else:
        anyio.run(cases[case])
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
