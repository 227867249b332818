"""Plays a small delegation tree at work, to be watched: eight agents, two slots, room for three in memory.

The host asks the root for a survey. The root asks three leads, two of which ask two helpers each; one helper fails and
is asked again. A lead is woken by the notice that a helper's turn ended, writes up what it has when all are in, and
tells the root. Then the host asks each of the seven what it remembers: with room for three, at least four of them were
out of memory and come back from their rollouts, regardless of the timing.

The work is simulated: all agents sleep. Everything else is real, in an SQLite file, with a trace that is verified at
the end.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
from anyio.abc import TaskStatus
from attrs import define
from rich.console import Console
from rich.live import Live

from statemachine import Notice, Overflow, SessionConfig
from statemachine.core.machines import TurnState
from statemachine.log.trace import TraceError
from statemachine.runtime import AgentControl, AgentInfo, Statistics, Thread, Turn
from statemachine.stores.protocol import Entry, LogRecord

from ..audits import verify
from .demo_view import Show, said, screen

CONFIG = SessionConfig(max_concurrent=3, max_resident=3, overflow=Overflow.QUEUE, notice=Notice.TRIGGER)
NOMINAL_SECONDS = 13.0
"""Duration at pace 1, in seconds."""
SECONDS_MAX = 3600.0
"""At this pace no wait takes as long as `PATIENCE_S`."""
FRAMES_PER_SECOND = 12
PATIENCE_S = 3000.0
LEADS = {"atlas": ("north", "south"), "forge": ("code", "tests"), "quill": ()}
"""Lead -> its helpers."""
SESSION, TRACE = "session.db", "trace.ndjson"

Sleep = Callable[[float], Awaitable[None]]


class Worker(Thread):
    """An agent of the demo. Its knowledge is in memory, and comes back from its rollout."""

    sleep: Sleep

    def __init__(self, agent: AgentInfo) -> None:
        super().__init__(agent)
        self.knows: list[str] = []

    async def load(self, history: tuple[LogRecord, ...]) -> None:
        """Reads what it wrote into its rollout."""
        await self.sleep(0.25)
        self.knows = [record.data for record in history if isinstance(record, Entry) and isinstance(record.data, str)]

    async def learn(self, turn: Turn, what: str) -> None:
        """Learns something, and records it."""
        self.knows.append(what)
        await turn.record(what)

    async def flush(self) -> Any:
        """Takes some time. Everything is in the rollout already."""
        await self.sleep(0.25)


class Root(Worker):
    """Asks the leads, and waits until each has reported."""

    async def run(self, turn: Turn) -> str:
        if all(mail.outcome is not None for mail in turn.mail):
            return "good to know"  # the notice of a lead whose report was read already
        for lead in LEADS:
            await self.sleep(0.4)
            await turn.spawn(lead, f"survey the {lead} side", role="lead")
        told: list[str] = []
        while len(told) < len(LEADS):
            await turn.wait(PATIENCE_S)
            told += [mail.text for mail in await turn.drain() if mail.outcome is None]
        return f"the survey is complete: {', '.join(told)}"


class Lead(Worker):
    """Asks its helpers, and tells the root when all of them are done."""

    async def run(self, turn: Turn) -> str:
        helpers = LEADS[self.agent.path.rpartition("/")[2]]
        if turn.mail[-1].text == "what do you remember?":
            await self.sleep(0.3)
            return f"I remember: {', '.join(self.knows)}"
        if turn.number == 1:
            await self.sleep(0.5)
            for helper in helpers:
                await turn.spawn(helper, f"look at {helper}", role="helper")
            if helpers:
                return f"asked {' and '.join(helpers)}"
        for mail in turn.mail:
            if mail.outcome is not None and mail.sender.endswith("tests") and mail.outcome.turn == 1:
                await turn.follow_up(mail.sender, "try again")
            elif mail.outcome is not None:
                await self.learn(turn, mail.outcome.result)
        if len(self.knows) < len(helpers):
            return f"{len(self.knows)} of {len(helpers)} helpers are done"
        await self.sleep(0.8)
        if not helpers:
            await self.learn(turn, "a page of text")
        await turn.send("/root", f"{self.agent.path.rpartition('/')[2]} has {' and '.join(self.knows)}")
        return "told the root"


class Helper(Worker):
    """Does the work."""

    async def run(self, turn: Turn) -> str:
        name = self.agent.path.rpartition("/")[2]
        if turn.mail[-1].text == "what do you remember?":
            await self.sleep(0.3)
            return f"I remember: {', '.join(self.knows)}"
        await self.sleep(1.6)
        if name == "tests" and turn.number == 1:
            raise RuntimeError("a test is red")
        await self.learn(turn, f"a map of {name}" if name in LEADS["atlas"] else f"green {name}")
        return self.knows[-1]


def roles(sleep: Sleep) -> dict[str, type[Thread]]:
    """Returns the work of the demo by role, with this way to sleep."""
    body = {"sleep": staticmethod(sleep)}
    kinds = {"default": Root, "lead": Lead, "helper": Helper}
    return {role: type(kind.__name__, (kind,), body) for role, kind in kinds.items()}


# The play


async def play(show: Show, sleep: Sleep) -> bool:
    """Does what the host does. Returns whether every requested turn was completed."""
    control = show.control
    show.act = "the host asks the root for a survey"
    survey = await control.start("/root", "make a survey")
    outcomes = [await survey.outcome()]
    show.act = "the host asks all agents: what do you remember?"
    everybody = [agent.path for agent in await control.list() if agent.parent >= 0]
    asked = [await control.follow_up(path, "what do you remember?") for path in everybody]
    outcomes += [await request.outcome() for request in asked]
    show.act = "the host closes the forge and all agents below it"
    await control.close("/root/forge")
    await sleep(1.0)
    show.act = "the end"
    return all(outcome.status is TurnState.COMPLETED for outcome in outcomes)


@define
class Seen:
    """The result of the demo."""

    statistics: Statistics
    missing: tuple[str, ...]
    """What the demo should have shown, and did not."""


async def perform(folder: Path, pace: float, plain: bool, console: Console) -> Seen:
    """Plays the demo in this folder, to its end. Returns its result."""

    async def sleep(seconds: float) -> None:
        await anyio.sleep(seconds * pace)

    async with AgentControl.open(folder / SESSION, roles(sleep), CONFIG, trace=folder / TRACE) as control:
        show = Show(control)
        live = nullcontext() if plain else Live(console=console, auto_refresh=False, transient=False)
        with live as shown:

            async def watch(*, task_status: TaskStatus[None]) -> None:
                async with control.events() as events:
                    task_status.started()
                    async for event in events:
                        line = said(show, event)
                        if line is not None and shown is None:
                            console.print(line, soft_wrap=True)
                        elif line is not None:
                            show.lines.append(line)

            async def draw() -> None:
                while shown is not None:
                    shown.update(screen(show, console.height), refresh=True)
                    await anyio.sleep(1 / FRAMES_PER_SECOND)

            async with anyio.create_task_group() as tasks:
                await tasks.start(watch)
                tasks.start_soon(draw)
                ended_well = await play(show, sleep)
                if shown is not None:
                    shown.update(screen(show, console.height), refresh=True)
                tasks.cancel_scope.cancel()
        found = control.statistics()
    wanted = {"an eviction": found.evictions, "a reload": found.reloads, "a complete survey": ended_well}
    return Seen(found, tuple([what for what, count in wanted.items() if not count]))


def run(seconds: float, plain: bool, keep: Path | None, console: Console) -> int:
    """Runs the command. Returns the exit code: 0, or 1 if the demo did not show everything that it is for."""
    if keep is None:
        with TemporaryDirectory(prefix="statemachine-") as folder:
            return run_in(Path(folder), seconds, plain, False, console)
    for name in (SESSION, TRACE):
        if (keep / name).exists():
            raise TraceError("there is such a file already; give another folder", None, str(keep / name))
    keep.mkdir(parents=True, exist_ok=True)
    return run_in(keep, seconds, plain, True, console)


def run_in(folder: Path, seconds: float, plain: bool, keep: bool, console: Console) -> int:
    """Plays the demo in this folder, verifies what it left behind, and says what to look at. Returns the exit code."""
    plain = plain or not console.is_terminal
    logging.getLogger("statemachine").addHandler(logging.NullHandler())  # the demo shows itself that a turn failed
    seen = anyio.run(perform, folder, seconds / NOMINAL_SECONDS, plain, console)
    print_statistics(seen.statistics, console)
    results = {name: verify.verify(folder / name, 1, lambda _, __: None) for name in (TRACE, SESSION)}
    for name, result in results.items():
        for line in result.lines:
            console.print(f"{name}: {line}", markup=False, highlight=False, soft_wrap=True)
    if keep:
        look = (
            f"inspect {folder / SESSION}",
            f"inspect {folder / SESSION} --agent /root/atlas",
            f"verify {folder / TRACE}",
            f"verify {folder / SESSION}",
            f"replay {folder / TRACE}",
        )
        console.print("to look further:")
        for line in look:
            console.print(f"    statemachine {line}", markup=False, highlight=False, soft_wrap=True)
    else:
        console.print("the files are gone; --keep DIR keeps them, for statemachine inspect, verify and replay")
    for what in seen.missing:
        console.print(f"{what} was to be seen, and was not", style="bold red")
    return 1 if seen.missing or not all(result.held for result in results.values()) else 0


def print_statistics(found: Statistics, console: Console) -> None:
    """Prints the counts of the demo."""
    console.print(
        f"{found.open_agents + 1} agents open at the end; {found.loads} loads, {found.evictions} evictions, "
        f"{found.reloads} reloads, {found.stale_reports} stale reports; {found.records} records in {found.commits} "
        f"commits; at most {found.execution_cap} worked and {found.max_resident} were in memory at a time",
        highlight=False,
        soft_wrap=True,
    )
