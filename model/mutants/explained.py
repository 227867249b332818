"""Says of each mutant that survived why it did. Written by people, after they had looked."""

from __future__ import annotations

from attrs import frozen

EQUIVALENT = "equivalent"
"""No caller can tell it from the core: it is slower or larger at most."""
WORDS = "words"
"""It changes a text for people, or what is only shown to them."""
TESTS = "tests"
"""It concerns what the engines of the evidence do not look at; tests notice it."""
MISSED = "missed"
"""A check is missing."""


@frozen
class Explanation:
    """Why a mutant survives: one of the kinds above, and the reason."""

    kind: str
    reason: str


EXPLAINED: dict[str, Explanation] = {}
"""The id of a mutant -> why it survives."""
