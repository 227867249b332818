"""Turns on DBOS with a SQLite system database: a turn is a workflow with one step, and the step does the work.

DBOS has no agents: the agent is an argument of the workflow, and the slots see to it that it has one turn at a time.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from dbos import DBOS, DBOSConfig

from bench.peers.workload import SLOTS, WARM_UP_SECONDS, Way, Work, answer, main

FULL_SYNC = 2  # PRAGMA synchronous: the file is synced at every commit
QUEUE = "turns"


@DBOS.step()
def work_step(message: str) -> str:
    return answer(message)


@DBOS.workflow()
def turn_workflow(agent: str, message: str) -> str:  # noqa: ARG001 - recorded as input, like the message
    return work_step(message)


def call(agent: str, message: str) -> str:
    """Runs in the thread of the caller."""
    return turn_workflow(agent, message)


def start(agent: str, message: str) -> str:
    """Runs in a thread of DBOS."""
    return DBOS.start_workflow(turn_workflow, agent, message).get_result()


def enqueue(agent: str, message: str) -> str:
    handle = DBOS.enqueue_workflow(QUEUE, turn_workflow, agent, message)
    return handle.get_result(polling_interval_sec=0.01)


@contextmanager
def launched(path: Path, wal: bool, connections: int | None) -> Iterator[None]:
    """DBOS on a new file. Whether a file has a write-ahead log is kept in the file, so it is said before."""
    if wal:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
    settings = DBOSConfig(name="peers", system_database_url=f"sqlite:///{path}", log_level="WARNING", enable_otlp=False)
    if connections is not None:
        settings["sys_db_pool_size"] = connections
    DBOS(config=settings)
    DBOS.launch()
    try:
        yield
    finally:
        DBOS.destroy()


def measure(turn: Callable[[str, str], str], wal: bool, connections: int | None, seconds: float) -> tuple[int, float]:
    with TemporaryDirectory(dir=".") as directory:
        path, work = Path(directory, "system.sqlite").absolute(), Work()
        with launched(path, wal, connections):
            if turn is enqueue:
                DBOS.register_queue(QUEUE, worker_concurrency=SLOTS, polling_interval_sec=0.01)
                time.sleep(1.5)  # new queues are looked for once a second
            work.in_threads(turn, WARM_UP_SECONDS)
            measured = work.in_threads(turn, seconds)
        check_file(path, work, wal)
    return measured


def check_file(path: Path, work: Work, wal: bool) -> None:
    """Opened again, the file has the outcome of every turn and of its step. DBOS leaves syncing as SQLite has it."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal" if wal else "delete",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (FULL_SYNC,)
        done = connection.execute("SELECT count(*) FROM workflow_status WHERE status = 'SUCCESS'").fetchone()
        assert done == (work.turns,)
        assert connection.execute("SELECT count(*) FROM operation_outputs").fetchone() == (work.turns,)


if __name__ == "__main__":
    main(
        "DBOS",
        "dbos",
        True,
        [
            Way("workflow called in 8 threads, write-ahead log, 1 connection", partial(measure, call, True, 1)),
            Way("workflow called in 8 threads, write-ahead log, 2 connections", partial(measure, call, True, 2)),
            Way("start_workflow from 8 threads, write-ahead log, 1 connection", partial(measure, start, True, 1)),
            Way("workflow called in 8 threads, write-ahead log", partial(measure, call, True, None), counts=False),
            Way("workflow called in 8 threads, all defaults", partial(measure, call, False, None), counts=False),
            Way("start_workflow from 8 threads, all defaults", partial(measure, start, False, None), counts=False),
            Way("queue with 8 at once, write-ahead log", partial(measure, enqueue, True, None), counts=False),
        ],
    )
