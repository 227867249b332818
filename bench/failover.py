"""(n) how soon a session answers elsewhere when its worker is killed or stopped; beside it, an actor of Ray.

Three workers have the sessions of one database. One of them is struck, and all sessions that it had are asked at once
for a turn. A session has answered when the request is durable at another worker.

Ray starts a killed actor again in a new process, without its state, and makes the call again. One actor with nothing in
it is killed and called, again and again: a process for each session would not fit into the machine. DBOS leaves the
work of a dead process to its Conductor, a service that is not run here (docs.dbos.dev, "Distributed recovery": it waits
for 60 seconds by default).
"""

from __future__ import annotations

import json
import logging
import os
import signal
import statistics
import subprocess
import sys
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from time import perf_counter

import anyio

from bench.measure import Row, Size, at_most
from model.crashes.fleet import WorkerProcess
from model.postgres_server import NoServer, Server, server
from statemachine.hosting import SessionClient

SESSIONS, WORKERS = 200, 3
TTL, POLL = 5.0, 0.5
KILLS = 5
OWNED = """
    SELECT s.name FROM statemachine.sessions AS s JOIN statemachine.workers AS w ON w.id = s.worker WHERE w.address = %s
"""


def rows(size: Size) -> list[Row]:
    kills, sessions = (KILLS, SESSIONS) if size.repetitions > 3 else (1, 6)
    try:
        killed = [struck(signal.SIGKILL, sessions) for _ in range(kills)]
        stopped = struck(signal.SIGSTOP, sessions)
    except NoServer as error:
        print(error, file=sys.stderr)
        return []
    ours = statistics.median([statistics.median(seconds) for seconds in killed])
    actor = of_ray(2 * kills)
    return [
        Row(f"(n) first answers elsewhere after kill -9, {sessions} sessions, median", ours, "s", at_most(1.5)),
        Row("(n) the same, worst", max(map(max, killed)), "s", at_most(3)),
        Row(f"(n) the same after SIGSTOP, ttl {TTL:g} s, worst", max(stopped), "s", at_most(TTL + 1)),
        *([Row("(n) an actor of Ray after kill -9, median", statistics.median(actor), "s")] if actor else []),
        *([Row("(n) the same, worst", max(actor), "s")] if actor else []),
    ]


def struck(blow: int, sessions: int) -> list[float]:
    """Seconds from a blow at a worker until each of the sessions that it had has answered."""
    with server() as found:
        workers: list[WorkerProcess] = []
        try:
            options = ("--ttl", f"{TTL:g}", "--poll", f"{POLL:g}", "--grace", "0.2")
            workers.extend(WorkerProcess(found.dsn(), "bench.many:work", *options) for _ in range(WORKERS))
            return anyio.run(first_answers, found, workers, blow, sessions)
        finally:
            for worker in workers:
                worker.kill()


async def first_answers(found: Server, workers: list[WorkerProcess], blow: int, sessions: int) -> list[float]:
    taken: list[float] = []
    async with SessionClient(found.dsn()) as client:

        async def begin(number: int) -> None:
            await (await client.session(f"s{number}").spawn("/root", "agent", "begin")).outcome()

        async with anyio.create_task_group() as tasks:
            for number in range(sessions):
                tasks.start_soon(begin, number)
        owned = list[str]()
        while len(owned) < sessions // WORKERS:  # they are shared out
            await anyio.sleep(POLL)
            owned = [name for (name,) in found.rows(OWNED, workers[0].where)]

        async def ask(name: str) -> None:
            await client.session(name).follow_up("/root/agent", "please look at this")
            taken.append(perf_counter() - begun)

        workers[0].send(blow)
        begun = perf_counter()
        async with anyio.create_task_group() as tasks:
            for name in owned:
                tasks.start_soon(ask, name)
    return taken


def of_ray(kills: int) -> list[float]:
    """What `actor_seconds` gives, in a process of its own, because Ray writes of every death; nothing without Ray."""
    if find_spec("ray") is None:
        print("Ray is not installed: nothing is measured of it", file=sys.stderr)
        return []
    words = [sys.executable, "-m", "bench.failover", f"{kills}"]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    seconds: list[float] = json.loads(next(line for line in said.splitlines() if line.startswith("[")))
    return seconds


def actor_seconds(kills: int) -> list[float]:
    """Seconds from the death of an actor of Ray until it answers again."""
    ray = import_module("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        actor = ray.remote(max_restarts=-1, max_task_retries=-1)(Actor).remote()
        taken: list[float] = []
        for _ in range(kills):
            pid = ray.get(actor.pid.remote())
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            begun = perf_counter()
            ray.get(actor.pid.remote())
            taken.append(perf_counter() - begun)
        return taken
    finally:
        ray.shutdown()


class Actor:
    """Has nothing, and answers."""

    def pid(self) -> int:
        return os.getpid()


if __name__ == "__main__":
    print(json.dumps(actor_seconds(int(sys.argv[1]))))
