"""Judges fingerprints where no scope leads: in random lives of many agents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random

from .lives import life


def fingerprints_are_values(seeds: Iterable[int]) -> Iterator[str]:
    """Yields where a copy has another fingerprint than its session, or one that has forgotten something the same."""
    for seed in seeds:
        for number, (s, _, _) in enumerate(life(Random(seed))):
            value, copy = s.fingerprint(), s.fork()
            if copy.fingerprint() != value or hash(copy.fingerprint()) != hash(value):
                yield f"seed {seed}, event {number}: a copy has another fingerprint"
            if copy.residents.tried:
                copy.residents.tried.clear()
                if copy.fingerprint() == value:
                    yield f"seed {seed}, event {number}: it does not tell which agents were tried"
