"""Draws mutants, judges them side by side, and says which survive, and why they may.

A survivor either shows that a check is missing, or is *equivalent*: no caller could tell it from the core. Which of
them it is, people find out; `EXPLAINED` keeps what they found.
"""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime

from attrs import evolve, frozen

from ..check import OnProgress, Part, report_part, side_by_side
from ..pools import Task
from .drawing import Mutant, draw
from .explained import EQUIVALENT, EXPLAINED, Explanation
from .judging import Verdict, judge


class NothingIsNoticed(Exception):
    """The checks fail on what was not mutated, so what they say of mutants means nothing."""


@frozen
class Results:
    """What became of the mutants of one seed."""

    day: str
    """In UTC: 2026-01-31."""
    seed: int
    seconds: float
    verdicts: tuple[Verdict, ...]

    @property
    def survivors(self) -> tuple[Verdict, ...]:
        """Those that the evidence did not notice, in the order in which they were drawn."""
        return tuple(verdict for verdict in self.verdicts if not verdict.is_caught_by_evidence)

    @property
    def unexplained(self) -> tuple[Verdict, ...]:
        """Survivors of which nobody has said why they survive."""
        return tuple(verdict for verdict in self.survivors if verdict.mutant.id not in EXPLAINED)

    @property
    def equivalent(self) -> int:
        """Number of survivors that no caller could tell from the core."""
        return sum(1 for verdict in self.survivors if explanation(verdict).kind == EQUIVALENT)

    @property
    def caught(self) -> int:
        """Number of those that the evidence noticed."""
        return len(self.verdicts) - len(self.survivors)

    @property
    def share(self) -> float:
        """The part of those that are not equivalent that the evidence noticed."""
        return self.caught / max(1, len(self.verdicts) - self.equivalent)

    def by_check(self) -> Counter[str]:
        """Returns how many mutants each check noticed first."""
        return Counter(verdict.by for verdict in self.verdicts if verdict.is_caught_by_evidence)


def explanation(verdict: Verdict) -> Explanation:
    """Returns why a mutant survives, as far as it is known."""
    return EXPLAINED.get(verdict.mutant.id, Explanation("", ""))


def run(number: int, seed: int, jobs: int, on_progress: OnProgress) -> Results:
    """Judges so many mutants with `jobs` processes, and what was not mutated. Raises `NothingIsNoticed` if a check
    fails on the latter. Ctrl-C ends it cleanly and is raised again.
    """
    began, day = time.perf_counter(), datetime.now(UTC).date().isoformat()
    on_progress(Part("drawing", 0, doing=f"{number} mutants with seed {seed}"))
    drawn = draw(number, seed)
    on_progress(Part("drawing", len(drawn), done=True))
    tasks = [Task(judged, (unmutated(drawn[0]), 0)), *[Task(judged, (mutant, n)) for n, mutant in enumerate(drawn, 1)]]
    control, *verdicts = side_by_side(jobs, tasks, on_progress)
    if control.by:
        raise NothingIsNoticed(f"{control.by} fails on the core as it is; mend that first")
    return Results(day, seed, time.perf_counter() - began, tuple(verdicts))


def unmutated(mutant: Mutant) -> Mutant:
    """Returns the module of a mutant with nothing changed in it."""
    return evolve(mutant, after=mutant.before, source=mutant.original)


def judged(mutant: Mutant, number: int) -> Verdict:
    """Judges one mutant, in a process of the pool, and reports it."""
    report_part(Part("mutants", number, doing=mutant.id))
    return judge(mutant)
