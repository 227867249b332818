"""Judges all contracts, their twins, and the pairs of wordings, in one process."""

from __future__ import annotations

from collections.abc import Callable

from ..verdicts import Verdict
from . import admission, configuration, ends, lookups, mail, residency, slots, turns, waits
from .contract import CONTRACTS, Contract, Twin
from .prover import Finding, Judgement, compare, judge
from .wording import PAIRS, Pair

__all__ = ["MODULES", "run"]

MODULES = (slots, residency, turns, ends, waits, mail, admission, configuration, lookups)
"""Importing them fills `CONTRACTS`."""


def run(*, quick: bool, progress: Callable[[str], None]) -> tuple[Verdict, ...]:
    """Confirms every contract. Without `quick`, also plants its twin, which has to be refuted, and compares rules with
    the reference's wording of them, with and without a defect.
    """
    verdicts: list[Verdict] = []
    for number, contract in enumerate(CONTRACTS, 1):
        progress(f"contract {number} of {len(CONTRACTS)}: {contract.name}")
        verdicts.append(verdict_on(contract, judge, "contract", contract.name, quick))
    for pair in () if quick else PAIRS:
        progress(f"wording: {pair.name}")
        verdicts.append(verdict_on(pair, compare, "wording", pair.name, quick))
    return tuple(verdicts)


def verdict_on(
    subject: Contract | Pair, judged: Callable[..., Judgement], engine: str, obligation: str, quick: bool
) -> Verdict:
    """Judges it as it is, and then with its defect."""
    found = judged(subject)
    note, seconds, holds = described(found), found.seconds, found.finding is Finding.CONFIRMED
    if holds and not quick:
        with subject.twin.planted():
            planted = judged(subject)
        seconds += planted.seconds
        holds = planted.finding is Finding.REFUTED
        note += f"; {seen(subject.twin, planted)}"
    return Verdict(subject.about, engine, obligation, holds, seconds, note)


def described(found: Judgement) -> str:
    if found.finding is Finding.CONFIRMED:
        return f"{found.finding.value} ({found.paths})"
    return ": ".join(filter(None, (found.finding.value, found.said)))


def seen(twin: Twin, found: Judgement) -> str:
    if found.finding is not Finding.REFUTED:
        return f"its twin ({twin}) is not refuted: {described(found)}"
    shown = ", ".join(f"{name}={value!r}" for name, value in (found.arguments or {}).items())
    return f"refuted with its twin ({twin}) by {shown}"
