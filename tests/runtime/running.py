"""Sessions that run, for tests: virtual time on asyncio and on trio, work that does what the test says, and a judge.

Every session that `open_session` opens writes a trace; when its test is over, the trace is played on the reference
model with all properties (`model/scenarios/replay.py`). Time passes only when nothing else can happen, so a bound of an
hour costs nothing, and a session in which nothing can happen any more ends by `PATIENCE_S` instead of hanging.

A test module takes the fixtures by importing `virtual_time` and `traced_sessions`.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import selectors
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import anyio
import pytest
import trio
from anyio.lowlevel import current_token
from trio.testing import MockClock

from model.scenarios.passed_over import PassedOver
from model.scenarios.replay import frames
from statemachine import Outcome, SessionConfig, check
from statemachine.core.machines import TurnState
from statemachine.log import trace
from statemachine.runtime import AgentControl, AgentInfo, Thread, Turn
from statemachine.runtime.caps import MAX_ABANDONED
from statemachine.runtime.control import inside
from statemachine.runtime.threads import Work
from statemachine.stores import MemoryStore, Store

SEED = 1
"""Of the order in which trio runs what can run."""
PATIENCE_S = 100_000.0
"""Longer than any bound of a session. In virtual time that is as long as it takes to see that nothing happens."""


# Time


class VirtualSelector(selectors.DefaultSelector):
    """Waits for nothing: when a loop has nothing to do before a timer, its clock goes there at once."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is not None:
            self.now += max(timeout, 0)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """What trio's `MockClock(autojump_threshold=0)` is for trio. Not for tests with threads."""

    def __init__(self) -> None:
        self._virtual = VirtualSelector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now

    def stand_still(self, seconds: float) -> None:
        self._virtual.now += seconds


BACKENDS: dict[str, Callable[[], tuple[str, dict[str, Any]]]] = {
    "asyncio": lambda: ("asyncio", {"loop_factory": VirtualLoop}),
    "trio": lambda: ("trio", {"clock": MockClock(autojump_threshold=0)}),
}


def stand_still(seconds: float) -> None:
    """Lets the clock go on and nothing run: the process is stopped, or this code blocks the event loop."""
    native: Any = current_token().native_token
    if isinstance(native, VirtualLoop):
        native.stand_still(seconds)
    else:
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, MockClock)
        clock.jump(seconds)


@pytest.fixture(name="anyio_backend", params=sorted(BACKENDS))
def virtual_time(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, dict[str, Any]]:
    """Both backends, with clocks that do not wait. Trio shuffles its tasks; here it always does so in the same way."""
    monkeypatch.setattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
    monkeypatch.setattr(trio._core._run, "_r", random.Random(SEED))
    return BACKENDS[request.param]()


# Sessions


class Open(Protocol):
    """Opens a session with this work, in a new store or in this one, and with what the configuration says else;
    `max_abandoned` may be among it.
    """

    def __call__(
        self, work: Work | Mapping[str, Work], store: Store | None = None, **config: Any
    ) -> AbstractAsyncContextManager[AgentControl]: ...


@pytest.fixture(name="open_session")
def traced_sessions(tmp_path: Path) -> Iterator[Open]:
    """An `Open` that writes traces, which are judged when the test is over."""
    numbers = itertools.count()
    traces: list[Path] = []

    @asynccontextmanager
    async def open_session(
        work: Work | Mapping[str, Work], store: Store | None = None, **config: Any
    ) -> AsyncIterator[AgentControl]:
        path = tmp_path / f"{next(numbers)}.ndjson"
        most = config.pop("max_abandoned", MAX_ABANDONED)
        limits = SessionConfig(**{"notice": SessionConfig().notice, **config})
        control = AgentControl.open(store or MemoryStore(), work, limits, trace=path, max_abandoned=most)
        with anyio.fail_after(PATIENCE_S):
            async with control:
                traces.append(path)
                yield control
            check(inside(control).session)

    yield open_session
    assert traces, "a test of the runtime opens a session"
    for path in traces:
        judge(path)


def in_session(
    store: Path | Store,
    do: Callable[[AgentControl], Awaitable[object]],
    work: Work | Mapping[str, Work] | None = None,
    config: SessionConfig | None = None,
    trace: Path | None = None,
    backend: str = "asyncio",
    clock: Callable[[], float] = time.time,
) -> None:
    """Opens a session, whose work is `echo` if none is given, does something in it and leaves it: with the clock of
    the machine, for as long as that takes and no longer than a minute.
    """

    async def main() -> None:
        with anyio.fail_after(60):
            async with AgentControl.open(store, work or echo, config, trace=trace, clock=clock) as control:
                await do(control)

    anyio.run(main, backend=backend)


def judge(path: Path) -> None:
    """Every step of the trace holds every property, and is what the reference does; nothing is reported unasked, and
    the clock never goes back.
    """
    without = PassedOver()
    for frame in frames(trace.read(path), without):
        assert frame.broken is None, f"{path.name}, event {frame.number} ({frame.line}): {frame.broken}"
    assert without.unasked.count == 0, f"{path.name}, event {without.unasked.first}: {without.unasked.event}"
    wrong = without.wrong_time
    assert wrong.count == 0, f"{path.name}, event {wrong.first}: {wrong.event}"


# Work that does what the test says


class Scene:
    """One turn on the stage. It goes on until the test says how it ends."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.ending: str | BaseException | None = None
        self.is_told = anyio.Event()
        self.was_cancelled = False

    def end(self, how: str | BaseException = "done") -> None:
        """The turn returns this, or raises it."""
        self.ending = how
        self.is_told.set()

    @property
    def texts(self) -> list[str]:
        """What the turn read at its start."""
        return [mail.text for mail in self.turn.mail]


class Stage:
    """Work for every agent: `await stage.scene(path)` is its turn, which goes on until `end` is called."""

    def __init__(self) -> None:
        self.scenes: dict[tuple[str, int], Scene] = {}
        self._changed: list[anyio.Event] = []

    async def __call__(self, turn: Turn) -> str:
        scene = self.scenes[turn.path, turn.number] = Scene(turn)
        for event in self._changed:
            event.set()
        self._changed.clear()
        try:
            await scene.is_told.wait()
        except BaseException:
            scene.was_cancelled = True
            raise
        assert scene.ending is not None
        if isinstance(scene.ending, BaseException):
            raise scene.ending
        return scene.ending

    async def scene(self, path: str, number: int = 1) -> Scene:
        """The turn of the agent with this number, as soon as it runs."""
        while (path, number) not in self.scenes:
            event = anyio.Event()
            self._changed.append(event)
            await event.wait()
        return self.scenes[path, number]


async def echo(turn: Turn) -> str:
    """Ends at once; the result is what it read."""
    return " ".join(mail.text for mail in turn.mail)


class Floor:
    """Where turns work: shows from outside how many sub-agents do so at the same time (S1)."""

    def __init__(self) -> None:
        self.working: set[str] = set()
        self.most = 0

    async def work(self, turn: Turn, seconds: float = 1.0) -> None:
        """The turn works, without a wait."""
        assert turn.path not in self.working
        self.working.add(turn.path)
        self.most = max(self.most, len(self.working - {"/root"}))
        try:
            await anyio.sleep(seconds)
        finally:
            self.working.remove(turn.path)


def chain(depth: int) -> Work:
    """Work that spawns a child and returns its result, down to this depth."""

    async def work(turn: Turn) -> Any:
        if turn.path.count("/") <= depth:
            child = await turn.spawn("kid", "go")
            return (await child.outcome()).result
        return f"leaf at {turn.path.count('/') - 1}"

    return work


class Recorder(Thread):
    """A thread that keeps count of what is done with it, and can be told to fail or to hang there."""

    log: list[str]
    hang: dict[str, anyio.Event]
    """Where to wait until the event is set: load, flush, close."""
    fail: dict[str, BaseException]
    """Where to raise what."""
    play: Callable[[Turn], Any]
    left_over: Any = None
    """What a flush returns."""

    def __init__(self, agent: AgentInfo) -> None:
        super().__init__(agent)
        self.log.append(f"new {agent.path}")

    async def _do(self, what: str) -> None:
        self.log.append(f"{what} {self.agent.path}")
        if what in self.hang:
            await self.hang[what].wait()
        if what in self.fail:
            raise self.fail[what]

    async def load(self, history: tuple[Any, ...]) -> None:
        self.history = history
        await self._do("load")

    async def run(self, turn: Turn) -> str:
        await self._do("run")
        result: str = await type(self).play(turn)
        return result

    async def flush(self) -> Any:
        await self._do("flush")
        return self.left_over

    async def close(self) -> None:
        await self._do("close")


def recorder(play: Callable[[Turn], Any] = echo) -> type[Recorder]:
    """A class of recorders of its own."""
    return type("ThisRecorder", (Recorder,), {"log": [], "hang": {}, "fail": {}, "play": staticmethod(play)})


# Looking


async def states(control: AgentControl) -> dict[str, str]:
    """Path -> status of every open agent but the root, and whether it is in memory."""
    return {
        s.path: f"{s.status.name.lower()}{' loaded' if s.resident else ''}" for s in await control.list() if s.agent
    }


def counts(control: AgentControl) -> dict[str, int]:
    """What is held or waits now. Nothing of it is not mentioned."""
    s = control.statistics()
    found = {"slots": s.slots_held, "resident": s.resident, "queued": s.queued, "waiting": s.waiting}
    return {name: count for name, count in found.items() if count}


def results(outcomes: Iterable[Outcome]) -> list[Any]:
    """The results of outcomes, in their order."""
    return [outcome.result for outcome in outcomes]


def completed(result: Any) -> tuple[TurnState, Any]:
    """What `ending` gives for a turn that came to this result."""
    return TurnState.COMPLETED, result


def ending(outcome: Outcome | None) -> tuple[TurnState, Any] | None:
    """Status and result of an outcome."""
    return None if outcome is None else (outcome.status, outcome.result)
