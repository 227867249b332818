"""Simulates the runtime deterministically: one seed is one whole life of a session, with its crashes.

A seed draws a configuration, what agents do (`model/simulation/work.py`, `delegation.py`), what the embedding program
asks (`hosts.py`), what the store does (`store.py`), the order in which tasks run (`schedule.py`), and how often and at
which moment the process dies. All of it runs `AgentControl` as it is, in virtual time, and `observed.py` looks who has
a slot whenever code goes on. Every opening writes its trace; the last one comes to rest, with every turn ended. Then
`judges.py` says what broke.

The same seed gives the same run, to the byte, as long as the code is the same.
"""

from __future__ import annotations

import logging
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint
from attrs import frozen

from statemachine.core.machines import SessionState
from statemachine.core.refusals import Refusal, StoreFailed
from statemachine.runtime import AgentControl, EventsLost, engine
from statemachine.runtime.control import inside
from statemachine.sinks import log
from statemachine.stores.errors import StoreError

from ..configurations import SIMULATED, draw
from . import schedule as simulation_schedule
from .hosts import host
from .judges import judge_log, judge_opening, judge_rest
from .store import Disk, End, SimulatedStore
from .work import roles_of
from .world import Opening, World

CRASHES_MAX = 3
PATIENCE_S = 30.0
"""Longer than any bound of any configuration that is drawn: an answer that has not come by then never comes."""


FULL: Any = (None,)
"""Lines that cannot be written."""


class Crash(Exception):
    """The process dies. Raised out of the session's block."""


@frozen
class Run:
    """The result of one seed."""

    seed: int
    blames: tuple[str, ...]
    """The faults; empty: all held."""
    notes: Counter[str]
    """What happened -> count."""
    events: int
    """Events given to the core, in all openings."""
    traces: tuple[bytes, ...]
    """One for each opening."""
    digest: str
    """Digest of traces and log, the same for all runs of a seed."""


def simulate(seed: int) -> Run:
    """Plays one seed. Raises `NotRepeatable`; every other failure is in the result."""
    with tempfile.TemporaryDirectory(prefix="simulation-") as folder, _sick_logging():
        return _simulate(seed, Path(folder))


def _simulate(seed: int, folder: Path) -> Run:
    rng = random.Random(seed)
    config = draw(SIMULATED, lambda among: among[int(rng.random() * len(among))])
    world = World(seed, rng, config, Disk())
    snapshot_records, engine.SNAPSHOT_RECORDS = engine.SNAPSHOT_RECORDS, world.choose((4, 25, 5_000))
    try:
        stuck = simulation_schedule.run(lambda: live(world, folder), seed)
        if stuck:
            world.blame(f"the run never ended: {'; '.join(stuck)}")
    except simulation_schedule.NotRepeatable:
        raise
    except trio_errors() as error:
        world.blame(f"the run ended by {describe(error)}")
    finally:
        engine.SNAPSHOT_RECORDS = snapshot_records
    traces = tuple([path.read_bytes() for path in sorted(folder.glob("*.ndjson"))])
    records = [f"{record!r} {record.at}".encode() for record in world.disk.records]
    digest = blake2b(b"\0".join([*traces, *records]), digest_size=16)
    events = sum(trace.count(b"\n") - 1 for trace in traces)
    if any(b" at 0x" in told for told in (*traces, *records)):
        world.blame("a trace or the log has the address of an object: it would be another one in the next run")
    return Run(seed, tuple(world.blames), world.notes, events, traces, digest.hexdigest())


def trio_errors() -> tuple[type[BaseException], ...]:
    """Returns the exceptions that count as failures of a run: all except requests to stop."""
    return (Exception, BaseExceptionGroup)


def describe(error: BaseException) -> str:
    """Returns an exception as a line, without the groups around it."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    place = ""
    traceback = error.__traceback__
    while traceback is not None:
        place = f" at {Path(traceback.tb_frame.f_code.co_filename).name}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return f"{type(error).__name__}: {error}{place}"


class Sick(logging.Handler):
    """A handler that fails at every message, of which there are many: the simulation does a lot on purpose."""

    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError(record.msg)


@contextmanager
def _sick_logging() -> Iterator[None]:
    """The runtime's logging fails, which nothing may depend on, and tells nothing."""
    logger, handler = logging.getLogger("statemachine"), Sick()
    before = logger.propagate, log.has_failed
    logger.propagate, log.has_failed = False, True
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate, log.has_failed = before


# A life


async def live(world: World, folder: Path) -> None:
    """Plays all openings of one session; the last one comes to rest."""
    crashes = int(world.rng.random() * (CRASHES_MAX + 1))
    for number in range(crashes + 1):
        is_last = number == crashes
        end = End.CALM if is_last else world.choose([end for end in End if end is not End.CALM])
        await open_once(world, end, folder / f"{number}.ndjson", is_last)
        if world.blames:
            return
    judge_log(world)


async def open_once(world: World, end: End, trace: Path, is_last: bool) -> None:
    """Plays one opening, to its end."""
    world.opening += 1
    world.crashed = False
    world.calm = anyio.Event()
    world.old_turns, world.threads, world.handles = [], [], []
    world.at_turn, world.waits = [], []
    world.at_work.clear()
    world.loads &= world.disk.ended.keys()  # others begin anew
    world.disk.begin()
    everything = anyio.CancelScope()

    def die() -> None:
        world.crashed = True
        world.note("died in an append")
        everything.cancel()

    store = SimulatedStore(world.disk, world.rng, end, int(world.rng.random() * 14), die, world.note)
    opening = Opening(end, trace, store)
    async with anyio.create_task_group() as hosts:
        try:
            with everything:
                await hold_open(world, opening, hosts, everything, is_last)
        except trio_errors() as error:
            expected(world, opening, error)
        world.calm.set()
        await finish_hosts(world, hosts)
    world.note(f"opening {end.value}")
    judge_opening(world, opening)


def expected(world: World, opening: Opening, error: BaseException) -> None:
    """Blames an error of the block that is neither the one raised in it nor a failure of the store while opening."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            expected(world, opening, one)
        return
    is_of_store = isinstance(error, StoreFailed) and opening.end in (End.FAILED, End.TAKEN)
    is_of_opening = isinstance(error, StoreFailed | StoreError) and opening.session is None
    if not (isinstance(error, Crash) or is_of_store or is_of_opening):
        world.blame(f"the session's block was left by {describe(error)}")


async def hold_open(
    world: World, opening: Opening, hosts: TaskGroup, everything: anyio.CancelScope, is_last: bool
) -> None:
    """Holds the block open while hosts work. They are outside of it, so they see it end."""
    control = AgentControl.open(
        opening.store, roles_of(world), world.config, trace=opening.trace, clock=anyio.current_time
    )
    world.control = control
    async with control:
        opening.session, opening.control = inside(control).session, control
        if world.rng.random() < 0.05:
            hosts.start_soon(break_trace, world, opening, control)
        hosts.start_soon(read_events, world, opening, control)
        await use(world, opening, control, hosts, everything)
        if is_last:
            await come_to_rest(world, opening, control)


async def use(
    world: World, opening: Opening, control: AgentControl, hosts: TaskGroup, everything: anyio.CancelScope
) -> None:
    """Runs the hosts until they are done or the opening ends."""
    over = anyio.Event()
    count = 2 + int(world.rng.random() * 3)
    left = [count]

    async def one(number: int) -> None:
        try:
            await host(world, control, number, opening.end is End.SHUTDOWN)
        except trio_errors() as error:
            world.blame(f"a host that asked `{world.at_work.pop(number, None)}` was met by {describe(error)}")
        left[0] -= 1
        if not left[0]:
            over.set()

    for number in range(count):
        hosts.start_soon(one, number)
    patience = PATIENCE_S
    if opening.end in (End.RAISED, End.CANCELLED):
        patience = world.choose((0.0, 0.001, 0.01, 0.05, 0.2, 0.5))
        for _ in range(int(world.rng.random() * 10)):
            await checkpoint()
    with anyio.move_on_after(patience):
        await over.wait()
    if opening.end is End.RAISED:
        world.crashed = True
        raise Crash
    if opening.end is End.CANCELLED:
        world.crashed = True
        if world.rng.random() < 0.5:
            hosts.cancel_scope.cancel()
        everything.cancel()
        await checkpoint()
    if opening.end is End.SHUTDOWN and inside(control).session.state is SessionState.OPEN:
        answer = await control.shutdown(world.choose((0.0, 1.0)))
        world.note("shutdown interrupted", len(answer.interrupted))
        world.note("shutdown could not flush", len(answer.unflushed))


async def break_trace(world: World, opening: Opening, control: AgentControl) -> None:
    """After a while the disk of the trace is full."""
    await world.pause()
    found = inside(control).engine.trace
    if found is not None:
        world.note("trace failed")
        opening.trace_failed = True
        found.write(FULL)


async def read_events(world: World, opening: Opening, control: AgentControl) -> None:
    """Reads `events()` until they end."""
    unread_max = world.choose((3, 10_000, 10_000, 10_000))
    world.at_work[-1] = "events"
    async with control.events(unread_max) as events:
        while True:
            try:
                async for event in events:
                    opening.stream.append(event)
                    if unread_max == 3 and world.rng.random() < 0.2:
                        await world.pause()
                del world.at_work[-1]
                return
            except EventsLost:
                world.note("events lost by a slow reader")
                opening.lost = True


async def finish_hosts(world: World, hosts: TaskGroup) -> None:
    """Checks that no host waits for a session that has ended. When the process stands still, which one of them may be
    about to see to, nothing runs: the others have as long again.
    """
    still = -1
    while still != world.notes["process stood still"]:
        still = world.notes["process stood still"]
        await anyio.sleep(PATIENCE_S)
    for what in world.at_work.values():
        world.blame(f"a host still waits in `{what}`, and the session is gone")
    world.at_work.clear()
    hosts.cancel_scope.cancel()


async def come_to_rest(world: World, opening: Opening, control: AgentControl) -> None:
    """Has threads answer from now on, without new requests, until the session is at rest."""
    world.calm.set()
    opening.store.reads_fail = False
    appends = -1
    while appends != world.disk.appends:  # until nothing happens any more
        appends = world.disk.appends
        await anyio.sleep(PATIENCE_S)
    if inside(control).session.state is not SessionState.FAILED:
        try:
            await judge_rest(world, control)
        except Refusal as refusal:
            world.blame(f"at rest: {refusal!r}")
