"""(i) the store on disk: what a record, a commit, a rollout and an opening cost. Needs a disk that can sync."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import anyio

from bench.measure import Row, Size, at_least, at_most, best_seconds
from statemachine.core.config import SessionConfig
from statemachine.core.events import HOST, ROOT
from statemachine.core.machines import Identity, TurnState
from statemachine.core.records import Cause, MailAccepted, MailKind, Outcome, TurnEnded, TurnStarted
from statemachine.log.recovery import restart
from statemachine.log.snapshot import AgentFacts
from statemachine.log.times import stamp
from statemachine.stores import Entry, Snapshot, SQLiteStore, Write
from statemachine.stores.encoding import decode, encode

CONFIG = SessionConfig()
TOGETHER = 50
"""Turns that wait while a commit runs, when thousands run at a time."""
ROLLOUT_BYTES = 4096
AGENTS = 1000


def turn(agent: int, number: int, said: str = "I have looked at it, and this is what there is to say.") -> Write:
    """The four records of one turn."""
    return Write(
        (
            MailAccepted(number, HOST, agent, MailKind.TRIGGER, "please look at this"),
            TurnStarted(agent, number),
            Entry(agent, number, {"said": said}),
            TurnEnded(Outcome(agent, number, TurnState.COMPLETED, "it is done", Cause.FINISHED)),
        )
    )


def agents(count: int) -> Snapshot:
    """Open agents, each of which had one turn."""
    ended = TurnState.COMPLETED
    return Snapshot(
        tuple(
            [
                AgentFacts(
                    *(number, ROOT, f"agent_{number}", None, Identity.OPEN, -1, ended, 1),
                    *(Outcome(number, 1, ended, f"result of {number}", Cause.FINISHED), (), ()),
                )
                for number in range(1, count + 1)
            ]
        ),
        (0, 0, 0),
    )


def rows(size: Size) -> list[Row]:
    with TemporaryDirectory() as directory:
        found = codec_rows(size)
        for measure in (commit_rows, rollout_row, opening_rows):
            path = Path(directory) / measure.__name__
            found += anyio.run(measure, path, size)
        return found


def codec_rows(size: Size) -> list[Row]:
    """Records as texts, and back."""
    records = turn(1, 1).records
    stamp(records, 1_800_000_000.25)
    texts = [encode(record) for record in records]

    def write() -> None:
        for _ in range(size.cycles):
            for record in records:
                encode(record)

    def read() -> None:
        for _ in range(size.cycles):
            for kind, _, data in texts:
                decode(kind, data)

    best = best_seconds(size.repetitions, {"as text": write, "read": read})
    return [
        Row(f"(i) a record {what}, mean of a turn's four", taken / size.cycles / len(records) * 1e6, "us", at_most(3))
        for what, taken in best.items()
    ]


async def best_of(times: int, work: Callable[[], Awaitable[object]]) -> float:
    """The shortest time that the work takes, in seconds."""
    best = float("inf")
    for _ in range(times):
        begin = perf_counter()
        await work()
        best = min(best, perf_counter() - begin)
    return best


async def commit_rows(path: Path, size: Size) -> list[Row]:
    """Appends of one turn, and of the turns of many agents."""
    store, count = SQLiteStore(path), 0
    await store.open(CONFIG)

    async def append(turns: int, commits: int) -> None:
        nonlocal count
        for _ in range(commits):
            numbers = range(count, count + turns)
            await store.append([turn(number * 7919 % AGENTS + 1, number) for number in numbers])  # here and there
            count += turns

    commits = max(2, size.cycles // 50)
    alone = await best_of(size.repetitions // 10 or 1, partial(append, 1, commits)) / commits
    together = await best_of(size.repetitions // 10 or 1, partial(append, TOGETHER, commits)) / commits
    await store.close()
    return [
        Row("(i) append of one turn, durable", alone * 1e6, "us"),
        Row(f"(i) append of {TOGETHER} turns, turns", TOGETHER / together, "/s", at_least(5_000)),
        Row(f"(i) append of {TOGETHER} turns, rows of the log", 4 * TOGETHER / together, "/s"),
    ]


async def rollout_row(path: Path, size: Size) -> list[Row]:
    """Reading a rollout whose rows lie between those of other agents."""
    store, written, number = SQLiteStore(path), 0, 0
    await store.open(CONFIG)
    while written < ROLLOUT_BYTES:
        number += 1
        mine = turn(1, number, "x" * 500)
        written += sum([len(encode(record)[2]) for record in mine.records])
        await store.append([mine, *[turn(other, number) for other in range(2, 50)]])
    taken = await best_of(size.cycles, partial(store.rollout, 1))
    assert len(await store.rollout(1)) == 4 * number
    await store.close()
    return [Row(f"(i) reading a rollout of 4 KiB, {4 * number} rows", taken * 1e6, "us", at_most(500))]


async def opening_rows(path: Path, size: Size) -> list[Row]:
    """Opening with many agents; and with few, after a short life and after a long one."""
    few, long = size.many // 100, size.many // 4
    many = await made(path, size.many, 0)
    young, old = await made(Path(f"{path}-young"), few, few), await made(Path(f"{path}-old"), few, long)
    best = dict.fromkeys((many, young, old), float("inf"))
    for number in range(size.repetitions):
        for store in (young, old) if number % 20 else best:
            best[store] = min(best[store], await best_of(1, partial(open_and_recover, store)))
            await store.close()
    return [
        Row(f"(i) opening with {size.many:,} agents, recovery included", best[many], "s", at_most(2)),
        Row(f"(i) opening with {few:,} agents", best[young] * 1e3, "ms"),
        Row(f"(i) relative to that, {long:,} turns later", best[old] / best[young], "x", at_most(1.25)),
    ]


async def made(path: Path, count: int, turns: int) -> SQLiteStore:
    """A store with so many agents, whose log has so many turns that a snapshot covers. It is closed."""
    store = SQLiteStore(path)
    await store.open(CONFIG)
    await store.append([*[turn(number % count + 1, number) for number in range(turns)], agents(count)])
    await store.close()
    return store


async def open_and_recover(store: SQLiteStore) -> None:
    found = await store.open(CONFIG)
    session, _ = restart(CONFIG, found.ledger, 0.0)
    assert len(session.agents) > 1
