"""Plays many seeds of `model/simulation/life.py`, in several processes.

A seed that fails is reported with the command that plays it again, and its traces are saved for `statemachine replay`.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import attrs
from attrs import field, frozen

from .. import pools
from ..fuzzing.fuzz import FAILURES
from ..pools import Hire, Task, noting_interrupts, stop_is_asked, workers
from .life import Run, simulate

CHUNK = 20
"""Seeds that a process plays in one go."""
FAILURES_MAX = 10
"""Failures after which a campaign stops."""


@frozen
class Failure:
    """A seed that failed."""

    seed: int
    blames: tuple[str, ...]
    traces: tuple[Path, ...]

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {self.blames[0]}", *[f"    {blame}" for blame in self.blames[1:]]]
        lines.append(f"    to play it again: statemachine simulate --seeds 1 --first {self.seed}")
        lines += [f"    step by step: statemachine replay {trace}" for trace in self.traces]
        return "\n".join(lines)


@frozen
class Campaign:
    """The results of several seeds."""

    seeds: int = 0
    events: int = 0
    """Events given to the core."""
    notes: Counter[str] = field(factory=Counter[str])
    """What happened -> count."""
    failures: tuple[Failure, ...] = ()
    interrupted: bool = False
    """Whether Ctrl-C ended it before its time."""
    first: int = 0
    wanted: int = 0
    """The number of seeds of the whole campaign, from `first` on."""

    def plus(self, other: Campaign) -> Campaign:
        """Returns both together."""
        return Campaign(
            self.seeds + other.seeds,
            self.events + other.events,
            self.notes + other.notes,
            tuple(sorted((*self.failures, *other.failures), key=lambda failure: failure.seed)),
            self.interrupted or other.interrupted,
            self.first,
            self.wanted,
        )

    def progress(self) -> str:
        """Returns the progress as a line."""
        return f"{self.seeds:,} of {self.wanted:,} seeds, {self.events:,} events, {len(self.failures)} failures"

    def summary(self) -> str:
        """Returns the result as a line."""
        end = ", stopped early" if self.interrupted else ""
        found = f"{len(self.failures)} failures{end}"
        return f"{self.seeds:,} seeds from {self.first}, {self.events:,} events, {found}"

    def as_json(self) -> dict[str, Any]:
        """Returns the result for programs."""
        found = [{"seed": f.seed, "blames": f.blames, "traces": [str(t) for t in f.traces]} for f in self.failures]
        result = {"seeds": self.seeds, "first": self.first, "events": self.events, "failures": found}
        return {**result, "notes": dict(sorted(self.notes.items()))}


def play(seeds: Iterable[int], folder: Path = FAILURES) -> Campaign:
    """Plays these seeds in this process, up to the first that fails or until the campaign is stopped."""
    so_far = Campaign()
    for seed in seeds:
        if stop_is_asked():
            break
        run = simulate(seed)
        failures = (failure_of(run, folder),) if run.blames else ()
        so_far = so_far.plus(Campaign(1, run.events, run.notes, failures))
    gc.collect()  # not while a seed runs, see `simulation_schedule`
    return so_far


def failure_of(run: Run, folder: Path) -> Failure:
    """Saves the traces of a seed that failed, and returns the failure."""
    folder.mkdir(parents=True, exist_ok=True)
    traces: list[Path] = []
    for number, content in enumerate(run.traces, 1):
        traces.append(folder / f"seed-{run.seed}-opening-{number}.ndjson")
        traces[-1].write_bytes(content)
    return Failure(run.seed, run.blames, tuple(traces))


def campaign(
    seeds: int,
    first: int,
    jobs: int,
    on_progress: Callable[[Campaign], None] | None = None,
    folder: Path = FAILURES,
    hire: Hire = workers,
) -> Campaign:
    """Plays `seeds` seeds from `first` on in `jobs` processes, which `hire` gives, until too many have failed. Ctrl-C
    ends it early, and what was done is returned all the same. Raises `NotRepeatable`.
    """
    if hire is workers and (seeds <= CHUNK or jobs == 1):
        return _in_this_process(seeds, first, on_progress, folder)
    chunks = iter([range(at, min(at + CHUNK, first + seeds)) for at in range(first, first + seeds, CHUNK)])
    so_far = Campaign(first=first, wanted=seeds)

    def next_chunk(_: int) -> Task[Campaign] | None:
        chunk = next(chunks, None) if len(so_far.failures) < FAILURES_MAX else None
        return None if chunk is None else Task(play, (chunk, folder))

    def take(played: Campaign) -> None:
        nonlocal so_far
        so_far = so_far.plus(played)
        if on_progress is not None:
            on_progress(so_far)

    interrupted = pools.campaign(jobs, next_chunk, take, jobs, hire)
    return attrs.evolve(so_far, interrupted=interrupted)


def _in_this_process(seeds: int, first: int, on_progress: Callable[[Campaign], None] | None, folder: Path) -> Campaign:
    so_far = Campaign(first=first, wanted=seeds)
    with noting_interrupts() as interrupts:
        for at in range(first, first + seeds):
            so_far = so_far.plus(play([at], folder))
            if on_progress is not None:
                on_progress(so_far)
            if interrupts or len(so_far.failures) >= FAILURES_MAX:
                break
    return attrs.evolve(so_far, interrupted=bool(interrupts))
