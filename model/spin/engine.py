"""Runs all that Spin is asked: comparisons with the core, larger worlds by Spin alone, and claims about fair runs.

Where Spin or a compiler is missing, `run` says so by `progress` and has no verdicts; the other engines go on.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..verdicts import Verdict
from . import tool
from .compare import compare
from .worlds import NEVER_DUE, Small

ENGINE = "spin"
THREE, CHAIN, FAN = (0, 0, 0), (0, 1, 2), (0, 1, 1)
STOPS, THREADS = ("INTERRUPTS",), ("INTERRUPTS", "CLOSES", "FAULTS")

WORLDS: tuple[Small, ...] = (
    Small("pair", (0, 0), 1, 1, mails=2, overtaken=1),
    Small("trio", THREE, 2, 2, overtaken=1),
    Small("trio, two mails", THREE, 2, 2, mails=2),
    Small("trio, sends", THREE, 1, 2, overtaken=1, features=("SENDS",)),
    Small("stops", (0, 1), 1, 1, mails=2, overtaken=1, features=("INTERRUPTS", "SENDS")),
    Small("threads", (0, 1), 1, 1, overtaken=1, features=THREADS),
    Small("trio, threads", THREE, 2, 2, features=THREADS),
    Small("asks", (0, 1), 1, 2, overtaken=1, features=("ASKS",)),
    Small("chain", CHAIN, 1, 3, overtaken=1, features=("ASKS",)),
    Small("chain, bound", CHAIN, 1, 2, overtaken=1, features=("ASKS",)),
    Small("chain, two slots", CHAIN, 2, 2, overtaken=1, features=("ASKS",)),
    Small("fan", FAN, 1, 2, overtaken=1, features=("ASKS",)),
    Small("fan, two slots", FAN, 2, 3, overtaken=2, features=("ASKS",)),
    Small("asks, threads", (0, 1), 1, 2, overtaken=1, features=("ASKS", *THREADS)),
    Small("wakes", (0, 1), 1, 2, mails=2, overtaken=1, features=("ASKS", "WAKES")),
    Small("wakes, threads", (0, 1), 1, 2, overtaken=1, features=("ASKS", "WAKES", *THREADS)),
    Small("wakes, fan", FAN, 1, 2, overtaken=1, features=("ASKS", "WAKES")),
    Small("attempts", (0, 1), 1, 1, overtaken=1, features=("ATTEMPTS", *THREADS)),
    Small("asks, trees", (0, 1), 1, 2, mails=2, overtaken=1, features=("ASKS", *STOPS, "TREES")),
)
"""Where Spin and the core are compared, edge for edge."""

SLOW: tuple[Small, ...] = (
    Small("attempts, two mails", (0, 1), 1, 1, mails=2, overtaken=1, features=("ATTEMPTS", "SENDS", *THREADS)),
    Small("attempts, trio", THREE, 2, 2, overtaken=1, features=("ATTEMPTS", *STOPS, "FAULTS")),
    Small("fan, trees", FAN, 1, 2, overtaken=1, features=("ASKS", *STOPS, "TREES")),
    Small("fan, threads", FAN, 1, 2, overtaken=1, features=("ASKS", *THREADS)),
)
"""Compared in nightly tests alone: the core takes minutes."""

LARGE: tuple[Small, ...] = (
    Small("four", (0, 0, 0, 0), 2, 2, mails=2, overtaken=1),
    Small("four, stops", (0, 0, 0, 0), 2, 3, mails=2, overtaken=1, features=STOPS),
)
"""Four agents, two mails each: by Spin alone."""

FAIR: tuple[Small, ...] = (
    Small("trio", THREE, 2, 2, overtaken=1),
    Small("fan, stops", FAN, 1, 2, overtaken=1, features=("ASKS", *STOPS)),
    Small("fan, first in first out", FAN, 1, 2, overtaken=0, features=("ASKS", *STOPS)),
    Small("fan, threads", FAN, 1, 2, overtaken=1, features=("ASKS", *THREADS)),
)
"""Where claims about fair runs are judged."""
NEVER = Small("fan, never due", FAN, 1, 2, overtaken=NEVER_DUE, features=("ASKS", *STOPS))
"""Where no turn is ever due, so that L12 has no exception."""

QUICK = ("pair", "trio", "threads", "asks")
ASSERTED = ("S1", "S2", "S3", "S6", "S10", "S14", "S16", "L2", "L8")
"""The properties that `agents.pml` asserts of every state of every world."""


def claims(world: Small) -> Iterator[tuple[str, str]]:
    """Yields (property, claim of `agents.pml`) for a world."""
    numbers = range(1, len(world.parents) + 1)
    asking = [n for n in numbers if "ASKS" in world.features and n in world.parents]
    if world.overtaken >= NEVER_DUE:
        yield from (("L12", f"l12_before_{n}_{m}") for n in asking for m in numbers if n < m)
        return
    yield "L11", "l11"
    for n in numbers:
        yield from (("theorem 2", f"theorem2_{n}"), ("L5", f"l5_{n}"), ("L7", f"l7_{n}"))
    yield from (("L12", f"l12_{n}") for n in asking)


def reached(world: Small) -> tuple[str, ...]:
    """The claims that must be refuted, or the others speak of nothing."""
    return ("never_asked", "never_starting", *(("never_returning",) if "ASKS" in world.features else ()))


def run(*, quick: bool = False, progress: Callable[[str], None] | None = None) -> tuple[Verdict, ...]:
    """Judges everything, with `quick` some small comparisons and the claims of one world. Says with `progress` where
    it is. Without Spin or a compiler it says so, and has no verdicts.
    """
    say = progress or _silent
    lacks = tool.missing()
    if lacks is not None:
        say(f"{ENGINE}: {lacks}")
        return ()
    verdicts: list[Verdict] = []
    for world in WORLDS:
        if not quick or world.name in QUICK:
            say(f"{ENGINE}: {world.name}, edge for edge")
            verdicts.append(compared(world))
    for world in () if quick else LARGE:
        say(f"{ENGINE}: {world.name}, alone")
        verdicts.append(alone(world))
    for world in FAIR[:1] if quick else (*FAIR, NEVER):
        say(f"{ENGINE}: {world.name}, fair runs")
        verdicts += claimed(world)
    return tuple(verdicts)


def _silent(_: str) -> None:
    """Says nothing."""


def compared(world: Small) -> Verdict:
    """Compares a world with the core."""
    found = compare(world)
    note = f"{found.states:,} states, {found.edges:,} edges in both"
    if not found.is_same:
        counts = f"{len(found.core_only):,} edges of the core alone, {len(found.spin_only):,} of Spin alone"
        note = "; ".join([counts, *found.differences()])
    seconds = found.seconds_core + found.seconds_spin
    return Verdict("rules", ENGINE, f"{world.name}: the same edges as the core", found.is_same, seconds, note)


def alone(world: Small) -> Verdict:
    """Visits a world that is too large for the core, and judges the assertions of `agents.pml`."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="statemachine-spin-") as folder:
        verifier = tool.build(world, Path(folder), tool.NO_CYCLES, "-DCOLLAPSE", optimise="-O2")
        found = tool.search(verifier)
    note = f"{found.states:,} states, {found.transitions:,} steps, {found.rate:,} steps/s"
    what = f"{world.name}: {', '.join(ASSERTED)} in every state"
    return Verdict("rules", ENGINE, what, found.errors == 0, time.perf_counter() - began, note)


def claimed(world: Small, *spoiled: str) -> Iterator[Verdict]:
    """Judges each claim about fair runs, and that what they speak of comes up. `spoiled`: a rule is broken."""
    with tempfile.TemporaryDirectory(prefix="statemachine-spin-") as folder:
        verifier = tool.build(world, Path(folder), "-DFAIR", *spoiled)
        for claim in reached(world):
            found = tool.search(verifier, claim)
            if not found.errors:
                note = "no state is like that, so the claims of this world say less than they seem to"
                yield Verdict("reached", ENGINE, f"{world.name}: not {claim}", False, found.seconds, note)
        for known, claim in claims(world):
            found = tool.search(verifier, claim)
            note = f"{found.states:,} states with those of the claim, {found.transitions:,} steps"
            yield Verdict(known, ENGINE, f"{world.name}: {claim} in fair runs", not found.errors, found.seconds, note)
