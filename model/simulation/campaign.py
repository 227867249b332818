"""Many seeds of `model/simulation/life.py`, in several processes.

A seed that fails is told with the command that plays it again, and its traces are saved for `statemachine replay`.
"""

from __future__ import annotations

import gc
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context
from multiprocessing.synchronize import Event as Flag
from pathlib import Path

import attrs
from attrs import field, frozen

from ..fuzzing.fuzz import FAILURES, deaf_to_interrupts
from .life import Run, simulate

CHUNK = 20
"""Seeds that a process plays in one go."""
FAILURES_MAX = 10
"""A campaign with so many failures has done what it could."""


@frozen
class Failure:
    """A seed that broke something."""

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
    """What so many seeds came to."""

    seeds: int = 0
    events: int = 0
    """Given to the core."""
    notes: Counter[str] = field(factory=Counter[str])
    """What happened, how often."""
    failures: tuple[Failure, ...] = ()
    interrupted: bool = False
    """Ctrl-C ended it before its time."""

    def plus(self, other: Campaign) -> Campaign:
        """Both together."""
        return Campaign(
            self.seeds + other.seeds,
            self.events + other.events,
            self.notes + other.notes,
            tuple(sorted((*self.failures, *other.failures), key=lambda failure: failure.seed)),
            self.interrupted or other.interrupted,
        )


def play(seeds: Iterable[int], folder: Path = FAILURES) -> Campaign:
    """These seeds, in this process, up to the first that fails or until the campaign is stopped."""
    so_far = Campaign()
    for seed in seeds:
        if _stop is not None and _stop.is_set():
            break
        run = simulate(seed)
        failures = (failure_of(run, folder),) if run.blames else ()
        so_far = so_far.plus(Campaign(1, run.events, run.notes, failures))
    gc.collect()  # not while a seed runs, see `simulation_schedule`
    return so_far


def failure_of(run: Run, folder: Path) -> Failure:
    """Saves the traces of a seed that failed."""
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
) -> Campaign:
    """Plays `seeds` seeds from `first` on in `jobs` processes, until too many have failed. Ctrl-C ends it early, and
    what was done is returned all the same. Raises `NotRepeatable`.
    """
    if seeds <= CHUNK or jobs == 1:
        return _in_this_process(seeds, first, on_progress, folder)
    context = get_context("spawn")  # a fork would copy whatever threads the caller has
    stop = context.Event()
    chunks = iter([range(at, min(at + CHUNK, first + seeds)) for at in range(first, first + seeds, CHUNK)])
    so_far = Campaign()
    running: set[Future[Campaign]] = set()
    with ProcessPoolExecutor(jobs, context, _begin_worker, (stop,)) as pool:
        while True:
            try:
                if not so_far.interrupted and len(so_far.failures) < FAILURES_MAX:
                    with deaf_to_interrupts():
                        running.update(pool.submit(play, chunk, folder) for chunk in _next(chunks, jobs, running))
                if not running:
                    return so_far
                for future in wait_for(running, return_when=FIRST_COMPLETED).done:
                    running.remove(future)
                    so_far = so_far.plus(future.result())
                    if on_progress is not None:
                        on_progress(so_far)
            except KeyboardInterrupt:
                if so_far.interrupted:
                    raise
                stop.set()
                so_far = attrs.evolve(so_far, interrupted=True)


def _next(chunks: Iterator[range], jobs: int, running: set[Future[Campaign]]) -> list[range]:
    """What is to be played next: each process has one chunk at work and one in line."""
    return list(islice(chunks, 2 * jobs - len(running)))


def _in_this_process(seeds: int, first: int, on_progress: Callable[[Campaign], None] | None, folder: Path) -> Campaign:
    so_far = Campaign()
    with _noting_interrupts() as interrupts:
        for at in range(first, first + seeds):
            so_far = so_far.plus(play([at], folder))
            if on_progress is not None:
                on_progress(so_far)
            if interrupts or len(so_far.failures) >= FAILURES_MAX:
                break
    return attrs.evolve(so_far, interrupted=bool(interrupts))


@contextmanager
def _noting_interrupts() -> Iterator[list[int]]:
    """Ctrl-C is noted and no more: in the middle of a seed it would look as if the runtime had broken."""
    noted: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: noted.append(number))
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


_stop: Flag | None = None


def _begin_worker(stop: Flag) -> None:
    global _stop  # noqa: PLW0603  (each process of the pool is told once)
    _stop = stop
