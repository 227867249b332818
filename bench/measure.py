"""How things are measured here: interleaved repetitions, the best of each, and rows with a target.

Other work on the machine only ever slows a repetition down, so the best one says most about the code. Contestants take
turns within one run, so that a slow minute hits all of them; only ratios within one run are worth comparing.
Repetitions are many and short (tens of milliseconds), so that some of them fall between what others do.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Mapping
from time import perf_counter

from attrs import frozen


@frozen
class Target:
    """What a figure has to be: at most `bound`, or at least."""

    word: str
    bound: float

    def is_met(self, figure: float) -> bool:
        """Is the figure good enough?"""
        return figure <= self.bound if self.word == "at most" else figure >= self.bound


def at_most(bound: float) -> Target:
    return Target("at most", bound)


def at_least(bound: float) -> Target:
    return Target("at least", bound)


@frozen
class Row:
    """One figure. `figure` is in `unit`; without a target it is only reported."""

    what: str
    figure: float
    unit: str
    target: Target | None = None

    @property
    def met(self) -> bool | None:
        """Is the target met? None: there is none."""
        return None if self.target is None else self.target.is_met(self.figure)


@frozen
class Size:
    """How much is done: the full sizes of README.md, or small ones to see that everything runs."""

    repetitions: int
    cycles: int
    """Turn cycles, or calls, in one repetition."""
    many: int
    """Open agents where there are to be many."""


FULL = Size(repetitions=100, cycles=1_000, many=100_000)
QUICK = Size(repetitions=3, cycles=200, many=1_000)


def seconds(work: Callable[[], object]) -> float:
    """How long the work takes. Garbage collection stays on, as it is for users."""
    begin = perf_counter()
    work()
    return perf_counter() - begin


def best_seconds(repetitions: int, contestants: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """The shortest time of each contestant; they take turns."""
    best = dict.fromkeys(contestants, float("inf"))
    for _ in range(repetitions):
        for name, work in contestants.items():
            best[name] = min(best[name], seconds(work))
    return best


def traced_bytes() -> int:
    """What is allocated now and was allocated since tracemalloc was started, garbage not counted."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
