"""Kills a session under load with SIGKILL, repeatedly, and compares its file with what was told.

A *life* is one file with one configuration. A *round* starts a process on it (`model/crashes/child.py`), kills it
somewhere, and judges the file as it was left (`model/crashes/judge.py`): without owning it first, then, in most rounds,
by opening it with work that ends at once. Then all keys are repeated, every request has to be answered, and the session
comes to rest. In the other rounds the next process finds the file as the last one left it.

A seed decides the requests and when the kill is due, counted in acknowledgements and microseconds after one. The system
decides at which instruction it falls, so a seed repeats the kind of a failure, not its moment. SIGKILL loses nothing
that was written: this does not test whether commits reach the disk (`synchronous`).
"""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import anyio
from attrs import define, evolve, field, frozen

from statemachine.checking import properties
from statemachine.core.ledger import Ledger
from statemachine.core.machines import Identity
from statemachine.core.records import MailKind
from statemachine.core.session import Session
from statemachine.log import trace
from statemachine.log.recovery import restart
from statemachine.runtime import AgentControl, Turn
from statemachine.runtime.control import inside
from statemachine.stores.errors import StoreError, StoreMissing
from statemachine.stores.sqlite.reading import check_file

from ..pools import Hire, Task, campaign, noting_interrupts, stop_is_asked
from ..scenarios.passed_over import is_wrong_time
from ..scenarios.replay import Trial, verdict_of
from .child import Journal, Life, Order, config_of
from .judge import Blame, Fault, Log, Story, judge, read_log
from .server import Server, Signal, Start, Wait, server

ROUNDS = 8
"""Rounds of a life."""
ACKNOWLEDGED_MAX = 120
"""Acknowledgements after which a process is killed at the latest."""
REST_S = 60.0
"""Far longer than any bound of the configurations: a session that is not at rest by then never will be."""
REPEATED_MAX = 40
"""Most keys, and most answered requests, that are repeated."""
BLAMES_SHOWN = 10


@define(eq=False)
class FileLife:
    """One file, and all that was told about it."""

    seed: int
    folder: Path
    story: Story = field(factory=Story)
    notes: Counter[str] = field(factory=Counter[str])
    known: list[tuple[int, int, str, Any]] = field(factory=list[tuple[int, int, str, Any]])
    """The rows of the log as found last. They never change, and go only with an agent that is forgotten."""
    waiting: set[int] = field(factory=set[int])
    """Unread trigger mail as found last."""

    @property
    def path(self) -> Path:
        return self.folder / "session.db"

    # A round

    def round(self, server: Server, number: int) -> list[Blame]:
        """Plays one kill. Returns all faults after it."""
        rng = Random(f"round {self.seed} {number}")
        told = self.folder / f"{number}.ndjson"
        order = self.order(rng, number, told)
        (heard,) = server.run(Start("writer", order), moment_of(rng), Signal(0, signal.SIGKILL))
        self.told(heard.lines)
        if not heard.killed:
            return [Blame(Fault.BROKEN, text) for text in (*self.story.broken, "the process ended by itself")]
        blames = self.look()
        if told.exists() and rng.random() < 0.3:
            blames += self.replay(told)
        if not blames and rng.random() < 0.7:
            blames = self.rest(rng, number)
        return blames

    def order(self, rng: Random, number: int, told: Path) -> Order:
        """Draws the task of the process."""
        keys = self.story.with_keys()
        return Order(
            path=str(self.path),
            seed=self.seed,
            number=number,
            trace=str(told),
            repeat=[asked.request for asked in rng.sample(keys, min(len(keys), 5))],
            requests=self.story.requests(rng, 5),
        )

    def told(self, lines: list[dict[str, Any]]) -> None:
        """Adds what a process has written."""
        self.story.add(lines)
        with (self.folder / "said.ndjson").open("a", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(line)}\n" for line in lines)

    # Judging

    def look(self) -> list[Blame]:
        """Judges the file as it is, without owning it."""
        try:
            damage = check_file(self.path)
            log = read_log(self.path)
        except StoreMissing:
            damage, log = (), Log([], 0, {}, Ledger(True))
        except StoreError as error:
            return [Blame(Fault.BROKEN, f"it cannot be read: {error!r}")]
        blames = [Blame(Fault.BROKEN, text) for text in damage]
        blames += judge(self.story, log)
        if not log.begins_with(self.known):
            blames.append(Blame(Fault.LOST, "what was found before is not the beginning of what is found now"))
        self.known = log.rows
        self.waiting = {
            mail.mail
            for agent in log.ledger.agents
            for mail in agent.mailbox
            if mail.kind is MailKind.TRIGGER and agent.identity is Identity.OPEN
        }
        blames += self.judge_session(lambda: restart(config_of(self.seed), log.ledger, 0.0)[0])
        return blames

    def judge_session(self, find: Callable[[], Session]) -> Iterator[Blame]:
        """Yields a fault if a property does not hold of the session."""
        try:
            properties.check(find())
        except Exception as error:
            yield Blame(Fault.BROKEN, str(verdict_of(error)))

    def replay(self, told: Path) -> list[Blame]:
        """Plays a trace again, beside the reference, with all properties at each step. The kill may have cut off its
        first line, or its last.
        """
        text = told.read_bytes()
        told.write_bytes(text[: text.rfind(b"\n") + 1])
        if not told.stat().st_size:
            return []
        found = trace.read(told)
        try:
            trial = Trial(found.config, 1_000, found.facts)
            for event in found.events:
                trial.play(event)
                self.notes["events replayed"] += 1
                if is_wrong_time(event, trial.session):
                    return [Blame(Fault.BROKEN, f"{told.name}: the clock went back, by event {trial.played}: {event}")]
        except Exception as error:
            return [Blame(Fault.BROKEN, f"{told.name}: {verdict_of(error)}")]
        return []

    # Rest

    def rest(self, rng: Random, number: int) -> list[Blame]:
        """Opens the file here, makes all requests that are due, and lets it come to rest. Returns the faults."""
        said: list[dict[str, Any]] = []
        journal = Journal(lambda line: said.append(json.loads(line)), 1_000 + number)
        told = self.folder / f"{number}-rest.ndjson"
        blames: list[Blame] = []
        try:
            anyio.run(self.come_to_rest, rng, journal, told, blames, backend=rng.choice(("asyncio", "trio")))
        except Exception as error:
            blames.append(Blame(Fault.BROKEN, f"it does not come to rest: {words(error)}"))
        took = {mail for line in said if "took" in line for mail in line["mail"]}
        lost = self.waiting - took
        if lost:
            blames.append(Blame(Fault.LOST, f"the trigger mails {sorted(lost)} were unread, and no turn came of them"))
        self.notes["unread trigger mails that ran"] += len(self.waiting & took)
        self.notes["times at rest"] += 1
        self.told(said)
        blames += self.look()
        if not blames and rng.random() < 0.5:
            blames += self.replay(told)
        return blames

    async def come_to_rest(self, rng: Random, journal: Journal, told: Path, blames: list[Blame]) -> None:
        """Runs the session until everything in the log is answered."""

        async def calm(turn: Turn) -> str:
            mails = [mail.number for mail in turn.mail]
            journal.line(took=[turn.agent.id, turn.number], mail=mails, attempt=turn.attempt)
            return "calm"

        keys = self.story.with_keys()
        repeat = [a.request for a in keys if a.reply is None]
        repeat += [a.request for a in rng.sample(keys, min(len(keys), REPEATED_MAX))]
        requests = self.story.requests(rng, REPEATED_MAX)
        order = Order(path=str(self.path), seed=self.seed, number=0, repeat=repeat, requests=requests)
        # Bounds so long that a slow machine does not reach them: a turn that cannot start is not an answer here.
        config = evolve(config_of(self.seed), flush_timeout=REST_S, stop_grace=REST_S)
        control = AgentControl.open(self.path, {"default": calm, "keeper": calm}, config, trace=told)
        with anyio.fail_after(REST_S):
            async with control, control.events(10**9) as events, anyio.create_task_group() as tasks:
                life = Life(order, journal, tasks)
                life.control = control
                await life.again()
                while not is_at_rest(inside(control).session):
                    await anext(events)
                blames += self.judge_session(lambda: inside(control).session)


def is_at_rest(session: Session) -> bool:
    """Tells whether every turn has ended and no other is requested."""
    return all(
        agent.status.is_idle and not (agent.triggers and agent.identity is Identity.OPEN) for agent in session.agents
    )


def moment_of(rng: Random) -> Wait:
    """Draws when to kill: now and then while the session is being opened."""
    if rng.random() < 0.15:
        return Wait(count=0, further_s=rng.random() * 0.04)
    return Wait(count=rng.randrange(ACKNOWLEDGED_MAX), further_s=rng.random() * 0.003)


def words(error: BaseException) -> str:
    """Returns the first error in a group, and where it was raised."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{error!r} at {Path(place.filename).name}:{place.lineno}"


# Many lives


@frozen
class Failure:
    """A round that ended with faults."""

    seed: int
    number: int
    blames: tuple[Blame, ...]
    kept: Path
    """The folder with the file as it was left, the traces, and `said.ndjson` with all that was told."""

    @property
    def command(self) -> str:
        """The command that repeats it, except for the moment of the kill."""
        return f"statemachine crash --kills {self.number + 1} --seed {self.seed}"

    def __str__(self) -> str:
        lines = [f"round {self.number} of seed {self.seed}"]
        lines += [f"    {blame}" for blame in self.blames[:BLAMES_SHOWN]]
        if len(self.blames) > BLAMES_SHOWN:
            lines.append(f"    and {len(self.blames) - BLAMES_SHOWN} more")
        return "\n".join([*lines, f"    again: {self.command}", f"    as it was left: {self.kept}"])


@define(eq=False)
class Report:
    """The results so far."""

    kills: int = 0
    rounds_s: list[float] = field(factory=list[float])
    acknowledged: int = 0
    """Number of verbs that had returned, and were looked up in the log."""
    notes: Counter[str] = field(factory=Counter[str])
    failures: list[Failure] = field(factory=list[Failure])
    interrupts: list[int] = field(factory=list[int])
    """Each Ctrl-C that came; the first ended the campaign before its time."""

    def add(self, other: Report) -> None:
        """Adds the results of other lives."""
        self.kills += other.kills
        self.rounds_s += other.rounds_s
        self.acknowledged += other.acknowledged
        self.notes += other.notes
        self.failures = sorted([*self.failures, *other.failures], key=lambda failure: failure.seed)

    def faults(self, *faults: Fault) -> int:
        """Returns the number of faults of these kinds."""
        return sum(blame.fault in faults for failure in self.failures for blame in failure.blames)

    def progress(self) -> str:
        """Returns the progress as a line."""
        per_round = sum(self.rounds_s) / max(1, len(self.rounds_s))
        said = f"{self.kills} kills, {self.acknowledged:,} acknowledged operations, {len(self.failures)} failures"
        return f"{said}, {per_round:.2f} s each"

    def summary(self) -> str:
        """Returns the verdict: what was compared, and the number of faults."""
        counts = ", ".join(f"{count:,} {what}" for what, count in sorted(self.notes.items()))
        end = ", stopped early" if self.interrupts else ""
        lost, twice = self.faults(Fault.LOST), self.faults(Fault.TWICE)
        others = self.faults(Fault.INVENTED, Fault.OTHER, Fault.BROKEN)
        verdict = f"{lost} lost, {twice} there twice, {others} other violations"
        return (
            f"{self.kills} kills in {sum(self.rounds_s):.1f} s: {counts}\n"
            f"{self.acknowledged:,} acknowledged operations: {verdict}{end}"
        )

    def as_json(self) -> dict[str, Any]:
        """Returns the results for programs."""
        return {
            "kills": self.kills,
            "acknowledged": self.acknowledged,
            "notes": dict(sorted(self.notes.items())),
            "faults": {fault.value: self.faults(fault) for fault in Fault},
            "failures": [
                {
                    "seed": failure.seed,
                    "round": failure.number,
                    "blames": [str(blame) for blame in failure.blames],
                    "again": failure.command,
                    "kept": str(failure.kept),
                }
                for failure in self.failures
            ],
        }


def crash(kills: int, seed: int, keep: Path, show: Callable[[Report], None]) -> Report:
    """Plays `kills` kills, in lives with the seeds from `seed` on. Each failure is kept in a folder of its own in
    `keep`. Ctrl-C ends it after the present round, and what was done is returned all the same.
    """
    with server() as killer, noting_interrupts() as interrupts:
        report = Report(interrupts=interrupts)
        while report.kills < kills and not interrupts:
            with tempfile.TemporaryDirectory(prefix="crash-") as folder:
                life = FileLife(seed, Path(folder))
                live(life, killer, min(ROUNDS, kills - report.kills), report, keep, show)
            seed += 1
    return report


def play(seed: int, rounds: int, keep: Path) -> Report:
    """Plays the life with this seed, with its own server. As a task it may be asked to stop."""
    report = Report()
    with server() as killer, tempfile.TemporaryDirectory(prefix="crash-") as folder:
        live(FileLife(seed, Path(folder)), killer, rounds, report, keep, lambda _: None)
    return report


def crash_together(kills: int, seed: int, keep: Path, show: Callable[[Report], None], jobs: int, hire: Hire) -> Report:
    """Plays the same lives as `crash`, side by side in `jobs` processes, which `hire` gives. Ctrl-C ends it after the
    present rounds.
    """
    report = Report()
    planned: dict[int, int] = {}
    """Seed -> rounds. A failure ends a life early, and others make up for it."""

    def next_life(number: int) -> Task[Report] | None:
        rounds = min(ROUNDS, kills - sum(planned.values()))
        planned[seed + number] = rounds
        return Task(play, (seed + number, rounds, keep)) if rounds else None

    def take(played: Report) -> None:
        planned.update({failure.seed: played.kills for failure in played.failures})
        report.add(played)
        show(report)

    if campaign(jobs, next_life, take, hire=hire):
        report.interrupts.append(signal.SIGINT)
    return report


def live(
    life: FileLife, killer: Server, rounds: int, report: Report, keep: Path, show: Callable[[Report], None]
) -> None:
    """Plays one life, until its end or the first round with faults."""
    for number in range(rounds):
        began = time.monotonic()
        blames = life.round(killer, number)
        report.rounds_s.append(time.monotonic() - began)
        report.kills += 1
        if blames:
            kept = keep / f"crash-{life.seed}-{number}"
            shutil.copytree(life.folder, kept, dirs_exist_ok=True)
            report.failures.append(Failure(life.seed, number, tuple(blames), kept))
        show(report)
        if blames or report.interrupts or stop_is_asked():
            break
    story = life.story
    report.acknowledged += len(story.acknowledged())
    report.notes["commits"] += story.commits
    report.notes["turns begun"] += len(story.took)
    report.notes["outcomes told"] += sum(len(told) for told in story.outcomes.values())
    report.notes["keys asked again"] += story.repeated
    report.notes["outcomes awaited in turns"] += len(story.awaited)
    report.notes["attempts after returned turns"] += sum(attempt > 1 for attempt in story.attempts.values())
    report.notes += life.notes
