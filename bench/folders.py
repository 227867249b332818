"""(m) a host of a folder of files: what sessions that rest cost it, and how soon one answers.

Memory is what the process has of the machine's (RSS), so each case has a process of its own: `python -m bench.folders
COUNT DIRECTORY` prints its figures as JSON.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import anyio

from bench.many import work
from bench.measure import Row, Size
from statemachine.hosting import SessionClient, SessionHost
from statemachine.hosting.folder import FolderSessions
from statemachine.hosting.index import Index

ASKED = 100
POLLS = 1000
Figures = dict[str, float]


def rows(size: Size) -> list[Row]:
    count = size.many // 10
    none, many = in_process(0), in_process(count)
    resting = f"{count:,} sessions at rest"
    return [
        Row(f"(m) host of a folder with {resting}, time to begin", many["begin"], "s"),
        Row("(m) the same with none", none["begin"], "s"),
        Row(f"(m) {resting}, memory", (many["memory"] - none["memory"]) * 1024 / count, "bytes each"),
        Row(f"(m) {resting}, a look at the folder, median", many["poll"] * 1e6, "us"),
        Row("(m) first answer of a session at rest, median", many["first"] * 1e3, "ms"),
        Row("(m) the same, worst", many["worst"] * 1e3, "ms"),
        Row("(m) the next answer, median", many["next"] * 1e3, "ms"),
        Row("(m) sessions that are not known to rest, opened and left", many["opened"], "/s"),
    ]


def in_process(count: int) -> Figures:
    """Measures in a process of its own."""
    with TemporaryDirectory() as directory:
        words = [sys.executable, "-m", "bench.folders", f"{count}", directory]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        figures: Figures = json.loads(done.stdout)
        return figures


def memory() -> float:
    """KiB that the process has."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1024


async def fill(directory: Path, count: int) -> None:
    """Makes sessions that rest: one, and copies of it that the host's file knows."""
    async with SessionHost(directory, work), SessionClient(directory) as client:
        await (await client.session("first").spawn("/root", "agent", "begin")).outcome()
    for number in range(count):
        shutil.copyfile(directory / "first.db", directory / f"s{number}.db")
        os.chmod(directory / f"s{number}.db", 0o600)
    found = FolderSessions(str(directory), 1)
    known = found._index
    with known.writing():
        marks = [(found._mark(f"s{number}"), f"s{number}") for number in range(count)]
        known.connection.executemany("UPDATE sessions SET mark = ? WHERE name = ?", marks)
    found.close()


async def measured(directory: Path, count: int) -> Figures:
    await fill(directory, count)
    begun = perf_counter()
    async with SessionHost(directory, work) as host, SessionClient(directory) as client:
        begin = perf_counter() - begun
        await (await client.session("first").follow_up("/root/agent", "go on")).outcome()
        assert host.sessions == ("first",)
        figures = {"begin": begin, "memory": memory()}
        first, following = list[float](), list[float]()
        for number in range(0, count, max(1, count // ASKED)):
            session = client.session(f"s{number}")
            for times in (first, following):
                asked = perf_counter()
                assert (await session.status("/root/agent")).turn == 1
                times.append(perf_counter() - asked)
    if not count:
        return figures
    figures |= {"first": statistics.median(first), "worst": max(first), "next": statistics.median(following)}
    figures["poll"] = polled(directory)
    figures["opened"] = await opened(directory, count // 10)
    return figures


def polled(directory: Path) -> float:
    found, times = FolderSessions(str(directory), 1000), list[float]()
    for _ in range(POLLS):
        begun = perf_counter()
        found.poll([], 0, draining=False)
        times.append(perf_counter() - begun)
    found.close()
    return statistics.median(times)


async def opened(directory: Path, count: int) -> float:
    """Sessions a second that a host opens and leaves again which begins without knowing that they rest."""
    known = FolderSessions(str(directory), 1)
    with known._index.writing():
        known._index.connection.execute("UPDATE sessions SET mark = NULL WHERE id <= ?", (count,))
    known.close()
    begun = perf_counter()
    async with SessionHost(directory, work, idle_ttl=0.1, poll=0.05, ttl=1):
        while True:
            await anyio.sleep(0.05)
            if not waiting(directory):
                return count / (perf_counter() - begun)


def waiting(directory: Path) -> int:
    """How many sessions are not known to rest."""
    index = Index(str(directory))
    (found,) = index.connection.execute("SELECT count(*) FROM sessions WHERE mark IS NULL").fetchone()
    index.close()
    return int(found)


if __name__ == "__main__":
    print(json.dumps(anyio.run(measured, Path(sys.argv[2]), int(sys.argv[1]))))
