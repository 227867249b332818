"""Draws mutants, judges them in a few processes, and says which survive, and why they may.

A survivor either shows that a check is missing, or is *equivalent*: no caller could tell it from the core. Which of
them it is, people find out; `EXPLAINED` keeps what they found.

What became of each mutant is kept in a file as soon as it is known, so a campaign that was ended goes on where it was.
What no check noticed is judged again, because there may be one that does by now. What was noticed is not; without the
file, all mutants are judged.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from attrs import asdict, evolve, frozen

from ..check import OnProgress, Part
from ..evidence.campaign import tools
from ..pools import Task
from ..pools import campaign as conduct
from .drawing import Mutant, draw
from .explained import EQUIVALENT, EXPLAINED, MENDED, Explanation
from .judging import Verdict, judge

KEPT = Path(".statemachine") / "mutants"
"""Default folder for what is known of the mutants of each seed."""


class NothingIsNoticed(Exception):
    """The checks fail on what was not mutated, so what they say of mutants means nothing."""


@frozen
class Results:
    """What became of the mutants of one seed."""

    day: str
    """On which the last was judged, in UTC: 2026-01-31."""
    seed: int
    tools: str
    """With which versions: `CPython 3.11.9, hypothesis 6.130`."""
    jobs: int
    """Processes at a time."""
    seconds: float
    """How long they took for all mutants together."""
    verdicts: tuple[Verdict, ...]
    """In the order in which the mutants were drawn."""

    @property
    def survivors(self) -> tuple[Verdict, ...]:
        """Those that no check of the evidence noticed."""
        return tuple(verdict for verdict in self.verdicts if not verdict.by)

    @property
    def equivalent(self) -> tuple[Verdict, ...]:
        """Survivors that no caller could tell from the core."""
        return tuple(verdict for verdict in self.survivors if explanation(verdict).kind == EQUIVALENT)

    @property
    def unexplained(self) -> tuple[Verdict, ...]:
        """Survivors that have no explanation yet."""
        return tuple(verdict for verdict in self.survivors if verdict.id not in EXPLAINED)

    @property
    def caught(self) -> int:
        """Number of those that a check of the evidence noticed."""
        return len(self.verdicts) - len(self.survivors)

    @property
    def share(self) -> float:
        """The part of those that are not equivalent that a check noticed."""
        return self.caught / max(1, len(self.verdicts) - len(self.equivalent))

    @property
    def mended(self) -> tuple[Verdict, ...]:
        """Those that a check notices which was added for them."""
        return tuple(verdict for verdict in self.verdicts if verdict.by and verdict.id in MENDED)

    @property
    def share_at_first(self) -> float:
        """What `share` was before any check was added."""
        return (self.caught - len(self.mended)) / max(1, len(self.verdicts) - len(self.equivalent))

    def by_engine(self) -> Counter[str]:
        """Returns how many mutants each engine noticed first."""
        return Counter(verdict.engine for verdict in self.verdicts if verdict.by)


def explanation(verdict: Verdict) -> Explanation:
    """Returns why a mutant survives, as far as it is known."""
    return EXPLAINED.get(verdict.id, Explanation("", ""))


def run(number: int, seed: int, jobs: int, on_progress: OnProgress, folder: Path = KEPT) -> Results | None:
    """Judges so many mutants with `jobs` processes, and first what was not mutated. Raises `NothingIsNoticed` if a
    check fails on the latter. Ctrl-C ends it early, and returns None; the next run goes on.
    """
    on_progress(Part("drawing", 0, doing=f"{number} mutants with seed {seed}"))
    drawn = draw(number, seed)
    on_progress(Part("drawing", len(drawn), done=True))
    file = folder / f"{seed}.jsonl"
    known = {verdict.id: verdict for verdict in kept(file)}
    waiting = [mutant for mutant in drawn if not known.get(mutant.id, NOT_JUDGED).by]
    control = unmutated(drawn[0])
    line = [control, *waiting]
    began, done = time.perf_counter(), 0

    def next_task(begun: int) -> Task[Verdict | None] | None:
        return Task(judge, (line[begun],)) if begun < len(line) else None

    def take(verdict: Verdict | None) -> None:
        nonlocal done
        if verdict is None:
            return
        if verdict.id == control.id:
            if verdict.by or verdict.tests:
                raise NothingIsNoticed(f"{verdict.by or 'tests'} fails on the core as it is; mend that first")
            return
        done += 1
        known[verdict.id] = verdict
        keep(file, verdict)
        speed = done / (time.perf_counter() - began)
        doing = f"{len(waiting) - done} left; {verdict.by or 'survives'}: {verdict.id}"
        on_progress(Part("mutants", done, per_second=speed, doing=doing))

    if conduct(jobs, next_task, take):
        return None
    day = datetime.now(UTC).date().isoformat()
    verdicts = tuple(known[mutant.id] for mutant in drawn)
    seconds = sum(verdict.seconds for verdict in verdicts) / jobs
    return Results(day, seed, ", ".join(f"{name} {version}" for name, version in tools()), jobs, seconds, verdicts)


NOT_JUDGED = Verdict("", "", False, 0.0)


def unmutated(mutant: Mutant) -> Mutant:
    """Returns the module of a mutant with nothing changed in it."""
    return evolve(mutant, after=mutant.before, source=mutant.original)


def kept(file: Path) -> list[Verdict]:
    """Returns what is known already, oldest first. A line that was cut off is passed over."""
    found: list[Verdict] = []
    for line in file.read_text("utf-8").splitlines() if file.is_file() else []:
        with suppress(ValueError):
            found.append(Verdict(**json.loads(line)))
    return found


def keep(file: Path, verdict: Verdict) -> None:
    """Adds what became of a mutant, in a line of its own whatever the last one is like."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as lines:
        lines.write(f"\n{json.dumps(asdict(verdict))}")
