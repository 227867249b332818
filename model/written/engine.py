"""Judges what is written, given and asked, one obligation after the other, with random lives and values from seeds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from attrs import frozen

from ..verdicts import Verdict
from . import fingerprints, goldens, older, snapshots, times, traces, values, views

SEED = 1
"""The first; it is printed with whatever it shows to be wrong."""
QUICK_LIVES, LIVES = 24, 80
"""Random lives of an obligation: in the quick part, and in all."""


@frozen
class Obligation:
    """What has to hold, of what, and who yields where it does not. `wrong` gets the seeds."""

    about: str
    sentence: str
    wrong: Callable[[range], Iterable[str]]


OBLIGATIONS = (
    Obligation("snapshots", "facts and the records after them are the whole log", snapshots.lives_fold),
    Obligation("snapshots", "a log is recovered as its session knows it", snapshots.logs_are_recovered),
    Obligation("snapshots", "facts that no log has are refused", lambda _: snapshots.wrong_is_refused()),
    Obligation("snapshots", "facts of this and of earlier versions are taken", lambda _: snapshots.right_is_taken()),
    Obligation("times", "each agent has the times of its records", times.lives_are_timed),
    Obligation("times", "of others nothing is known", lambda _: times.others_are_unknown()),
    Obligation("traces", "what is written is read back", lambda seeds: traces.written_is_read(seeds[0])),
    Obligation(
        "traces", "a file is read whole, or refused with its line", lambda seeds: traces.files_are_read(seeds[0])
    ),
    Obligation("traces", "readers take what fits, and nothing else", lambda seeds: traces.readers_are_strict(seeds[0])),
    Obligation("traces", "what no version writes is refused", lambda seeds: traces.foreign_is_refused(seeds[0])),
    Obligation("traces", "what earlier versions wrote is read", lambda seeds: older.older_is_read(seeds[0])),
    Obligation("values", "configurations have their bounds and defaults", lambda _: values.configurations()),
    Obligation("values", "headers are carried, up to their bound", lambda _: values.headers()),
    Obligation("values", "results are JSON values, up to their depth", lambda _: values.results()),
    Obligation("values", "values are shown in part", lambda _: values.shown()),
    Obligation("all", "a copy has the fingerprint of its session", fingerprints.fingerprints_are_values),
    Obligation("all", "golden traces have the logs that are on file", lambda _: goldens.traces_are_played()),
    Obligation("S7", "status, list and paths say what is so", views.views_are_true),
)


def run_all(quick: bool, progress: Callable[[str], None]) -> tuple[Verdict, ...]:
    """Judges every obligation; `quick`: in fewer lives. `progress` is told what is begun."""
    seeds = range(SEED, SEED + (QUICK_LIVES if quick else LIVES))
    verdicts = []
    for number, obligation in enumerate(OBLIGATIONS, 1):
        progress(f"obligation {number} of {len(OBLIGATIONS)}: {obligation.sentence}")
        verdicts.append(judge(obligation, seeds))
    return tuple(verdicts)


def judge(obligation: Obligation, seeds: range) -> Verdict:
    """Judges one obligation, up to the first thing that is wrong."""
    began = time.perf_counter()
    wrong = first(iter(obligation.wrong(seeds)))
    seconds = time.perf_counter() - began
    return Verdict(obligation.about, "log", obligation.sentence, wrong is None, seconds, wrong or "")


def first(wrong: Iterator[str]) -> str | None:
    """Returns the first thing that is wrong, which may be that something raises."""
    try:
        return next(wrong, None)
    except Exception as error:  # of a defect
        return f"{type(error).__name__}: {error}"
