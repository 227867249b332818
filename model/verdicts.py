"""What the engines find out that judge single obligations: contracts, the proof, fairness, the independent checker."""

from __future__ import annotations

from attrs import frozen


@frozen
class Verdict:
    """What one engine found out about one obligation of a property.

    `property` is an id of semantics.md, or names a lemma, a rule, or `all` for a scope or a shape; `seconds` is how
    long it took; `note` says what a verdict means or how it was reached, or tells the story of a defect.
    """

    property: str
    engine: str
    obligation: str
    holds: bool
    seconds: float
    note: str = ""
