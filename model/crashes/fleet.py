"""Kills, stops and starts again what a fleet of hosts consists of, under load, and compares the sessions with what was
told: `statemachine crash --fleet`.

Some workers, each a process, have the sessions of one database. Callers of this process ask sessions for turns, with
keys, and note every answer. Meanwhile a worker is killed, or stopped for longer than its `ttl` and woken, or the
database is ended at once and started again; after each the time is taken until sessions answer. In the end each session
is read: every request that was acknowledged is there once, with the outcome that was told, and every property holds.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from enum import Enum
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import anyio
from attrs import define, evolve, field, frozen

from statemachine.checking import properties
from statemachine.core.config import SessionConfig
from statemachine.core.records import MailAccepted, Outcome
from statemachine.errors import UnknownPath
from statemachine.hosting import RemoteSession, SessionClient
from statemachine.log.recovery import restart
from statemachine.runtime import AgentRef, Turn
from statemachine.stores import places, read_rollout, read_session
from statemachine.stores.errors import StoreError
from statemachine.stores.postgres.dsn import with_session
from statemachine.stores.protocol import LogRecord

from ..pools import delaying_interrupts, interrupt
from ..postgres_server import Server, server
from ..scenarios.answers import answers_of
from .judge import Blame, Fault

CONFIG = SessionConfig(max_attempts=50)
TTL, POLL = 1.0, 0.2
WORKERS, SESSIONS, CALLERS = 3, 24, 8
PAUSE_S = TTL + 1.5
REST_S = 60.0


async def work(turn: Turn) -> str:
    """Takes a moment, so that turns are under way when their worker dies."""
    await turn.record(turn.mail[0].text)
    await anyio.sleep(0.01)
    return f"done: {turn.mail[0].text}"


class WorkerProcess:
    """A process that runs `statemachine host`, and serves."""

    def __init__(self, place: str, work: str, *options: str) -> None:
        """`place` is a DSN, or the path of a folder."""
        named = ["--dsn", place] if places.is_dsn(place) else [place]
        command = [sys.executable, "-m", "statemachine", "host", *named, "--work", work, *options]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        try:
            with delaying_interrupts():
                self.process = subprocess.Popen(
                    command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
                )
            assert self.process.stdout is not None
            line = self.process.stdout.readline()
            if not line.startswith("serving at "):
                raise RuntimeError(f"a worker does not serve: it said {line!r:.500}")
        except BaseException:  # Ctrl-C, too
            if hasattr(self, "process"):
                self.kill()
            raise
        self.where = line.removeprefix("serving at ").strip()

    def send(self, number: int) -> None:
        """Sends it a signal."""
        self.process.send_signal(number)

    def drain(self) -> tuple[int, str]:
        """Has it end. Returns its exit code, and what it said."""
        self.send(signal.SIGTERM)
        said, _ = self.process.communicate(timeout=REST_S)
        return self.process.returncode, said

    def kill(self) -> None:
        """Kills it, if it still lives."""
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


class Blow(Enum):
    """What happens to the fleet."""

    KILL = "kill of a worker"
    PAUSE = "pause of a worker beyond its ttl"
    RESTART = "restart of the database"


@frozen
class Told:
    """A request that was acknowledged, and what was told of it."""

    session: str
    text: str
    key: str
    ref: AgentRef
    outcome: Outcome | None


@define
class FleetResult:
    """What a campaign came to."""

    asked: int
    """Blows to come."""
    blows: Counter[Blow] = field(factory=Counter[Blow])
    told: list[Told] = field(factory=list[Told])
    first_answers: dict[Blow, list[float]] = field(factory=dict[Blow, "list[float]"])
    """Seconds from a blow until a session answered that the worker had, or any session after a restart."""
    failures: list[Blame] = field(factory=list[Blame])

    def progress(self) -> str:
        """One line while it runs."""
        return f"{sum(self.blows.values())} of {self.asked} blows, {len(self.told):,} requests acknowledged"

    def summary(self) -> str:
        """What there is to say in the end."""
        lines = [f"{len(self.told):,} requests acknowledged, {len(self.failures)} faults"]
        for blow, seconds in self.first_answers.items():
            lines.append(
                f"{self.blows[blow]} x {blow.value}: answered after {statistics.median(seconds):.2f} s (median), "
                f"{max(seconds):.2f} s (worst)"
            )
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            "requests": len(self.told),
            "blows": {blow.value: count for blow, count in self.blows.items()},
            "seconds": {blow.value: found for blow, found in self.first_answers.items()},
            "faults": [f"{each.fault.value}: {each.text}" for each in self.failures],
        }


@define(eq=False)
class Fleet:
    """The workers of one database, their callers, and what these were told."""

    server: Server
    dsn: str
    result: FleetResult
    rng: Random
    show: Callable[[FleetResult], None]
    workers: list[WorkerProcess] = field(factory=list[WorkerProcess])
    asked: int = 0
    is_over: bool = False

    # Callers

    async def call(self, client: SessionClient, number: int) -> None:
        """Asks sessions for turns, one after the other, until the campaign is over."""
        rng = Random(f"caller {self.rng.random()} {number}")
        while not self.is_over:
            self.asked += 1
            name, text = f"s{rng.randrange(SESSIONS)}", f"request {self.asked}"
            session = client.session(name)
            agent = f"a{rng.randrange(3)}"
            try:
                handle = await session.follow_up(f"/root/{agent}", text, key=text)
            except UnknownPath:
                await self.spawn(session, agent)
                continue
            self.result.told.append(Told(name, text, text, handle.ref, None))
            if rng.random() < 0.7:
                outcome = await handle.outcome()
                self.result.told.append(Told(name, text, text, handle.ref, outcome))

    async def spawn(self, session: RemoteSession, agent: str) -> None:
        """Spawns an agent that is not there yet. Another caller may do the same: the key makes it one request."""
        await session.spawn("/root", agent, f"first of {agent}", key=f"spawn {agent}")

    # Blows

    async def strike(self, client: SessionClient, blow: Blow) -> None:
        """Strikes, and takes the time until what was struck answers again."""
        worker = self.rng.choice(self.workers)
        owned = await anyio.to_thread.run_sync(self.sessions_of, worker)
        name = self.rng.choice(owned or ["s0"])
        begun = time.monotonic()
        if blow is Blow.RESTART:
            self.server.end()
            self.server.start()  # in this thread, with which it would end
            begun = time.monotonic()
        elif blow is Blow.KILL:
            worker.process.kill()
        else:
            worker.send(signal.SIGSTOP)
        with anyio.fail_after(REST_S):
            await client.session(name).list()
        self.result.first_answers.setdefault(blow, []).append(time.monotonic() - begun)
        if blow is Blow.PAUSE:
            await anyio.sleep(max(0.0, PAUSE_S - (time.monotonic() - begun)))
            worker.send(signal.SIGCONT)
        elif blow is Blow.KILL:
            worker.kill()
            self.workers[self.workers.index(worker)] = await anyio.to_thread.run_sync(self.new_worker)
        self.result.blows[blow] += 1
        self.show(self.result)

    def sessions_of(self, worker: WorkerProcess) -> list[str]:
        """The sessions that a worker has."""
        asked = (
            "SELECT s.name FROM statemachine.sessions AS s JOIN statemachine.workers AS w ON w.id = s.worker"
            " WHERE w.address = %s"
        )
        return [name for (name,) in self.server.rows(asked, worker.where)]

    def end(self) -> None:
        """Kills all workers, and those that were being started when this was interrupted, which nothing else knows."""
        for worker in self.workers:
            worker.kill()
        for pid in own_children():
            with suppress(OSError):
                if self.dsn.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)

    def new_worker(self) -> WorkerProcess:
        """Starts a worker."""
        options = ("--config", f"{__name__}:CONFIG", "--ttl", str(TTL), "--poll", str(POLL), "--grace", "0.2")
        return WorkerProcess(self.dsn, f"{__name__}:work", *options)

    async def run(
        self, blows: Sequence[Blow], pause: float = 0.3, before: Callable[[Blow], object] = lambda _: None
    ) -> None:
        """Strikes again and again while callers ask, after up to `pause` seconds each, then lets everything come to
        rest. Tells `before` what comes.
        """
        async with SessionClient(self.dsn, patience=REST_S) as client, anyio.create_task_group() as tasks:
            for number in range(CALLERS):
                tasks.start_soon(self.call, client, number)
            for blow in blows:
                await anyio.sleep(self.rng.uniform(pause / 2, pause))
                before(blow)
                await self.strike(client, blow)
            self.is_over = True
        last = {(told.session, told.ref.id): told for told in self.result.told}
        async with SessionClient(self.dsn, patience=REST_S) as client:
            for told in last.values():  # the mail before it is answered by then
                with anyio.fail_after(REST_S):
                    outcome = await client.session(told.session).handle(told.ref).outcome()
                self.result.told.append(evolve(told, outcome=outcome))


def own_children() -> list[int]:
    """The processes that threads of this one have started."""
    lists = [path.read_text("ascii") for path in Path("/proc/self/task").glob("*/children")]
    return [int(pid) for pid in " ".join(lists).split()]


def judge(place_of: Callable[[str], str], told: Sequence[Told]) -> Iterator[Blame]:
    """Yields every difference between what was told and what the sessions have. `place_of` says where the session with
    a name is.
    """
    by_session: dict[str, list[Told]] = {}
    for each in told:
        by_session.setdefault(each.session, []).append(each)
    for name, mine in by_session.items():
        place = place_of(name)
        try:
            yield from (Blame(Fault.BROKEN, f"{name}: {problem}") for problem in places.check(place))
            ledger = read_session(place).ledger
            properties.check(restart(CONFIG, ledger, 0.0)[0])
            rollouts = {agent.id: read_rollout(place, agent.id) for agent in ledger.agents[1:]}
        except StoreError as error:
            yield Blame(Fault.BROKEN, f"{name} cannot be read: {error!r:.300}")
            continue
        except Exception as error:  # a property
            yield Blame(Fault.BROKEN, f"{name}: {error!r:.300}")
            continue
        yield from judge_one(name, mine, rollouts)


def judge_one(name: str, told: Sequence[Told], rollouts: dict[int, tuple[LogRecord, ...]]) -> Iterator[Blame]:
    """Yields every difference in one session."""
    accepted = [
        (agent, record) for agent, rollout in rollouts.items() for record in rollout if isinstance(record, MailAccepted)
    ]
    counts = Counter(record.message for _, record in accepted)
    for text, count in counts.items():
        if count > 1 and text.startswith("request"):
            yield Blame(Fault.TWICE, f"{name}: {text!r} was accepted {count} times")
    found = {record.mail: (agent, record.message) for agent, record in accepted}
    answers = {agent: answers_of(rollout) for agent, rollout in rollouts.items()}
    for each in told:
        if found.get(each.ref.mail) != (each.ref.id, each.text):
            yield Blame(Fault.LOST, f"{name}: {each.text!r} was acknowledged as {each.ref}, and is not there")
            continue
        outcome = answers[each.ref.id].get(each.ref.mail)
        if outcome is None:
            yield Blame(Fault.OTHER, f"{name}: {each.text!r} was acknowledged, and never answered")
        elif each.outcome not in (None, outcome):
            yield Blame(Fault.OTHER, f"{name}: {each.text!r} was told as {each.outcome}, and the log has another end")


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Has SIGTERM end this process as Ctrl-C does: by itself it would leave the workers behind. Only the main thread
    may say so. A shell that starts it in the background has it ignore Ctrl-C.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def fleet(result: FleetResult, seed: int, show: Callable[[FleetResult], None]) -> Iterator[Fleet]:
    """Gives a database and its workers, which end with the block."""
    with ExitStack() as stack:
        stack.enter_context(terminated_as_interrupted())
        found = stack.enter_context(server("max_connections=100"))
        made = Fleet(found, found.dsn(), result, Random(seed), show)
        stack.callback(made.end)
        made.workers.extend(made.new_worker() for _ in range(WORKERS))
        yield made


def strike(kills: int, pauses: int, restarts: int, seed: int, show: Callable[[FleetResult], None]) -> FleetResult:
    """Runs a campaign with so many blows of each kind, in an order that the seed draws."""
    blows = [Blow.KILL] * kills + [Blow.PAUSE] * pauses + [Blow.RESTART] * restarts
    result = FleetResult(len(blows))
    with fleet(result, seed, show) as found:
        found.rng.shuffle(blows)
        try:
            anyio.run(found.run, blows)
        except Exception as error:
            result.failures.append(Blame(Fault.BROKEN, f"the fleet does not come to rest: {error!r:.500}"))
        result.failures += judge(partial(with_session, found.dsn), result.told)
    return result
