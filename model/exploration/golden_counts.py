"""Records the numbers of states, events and transitions of the scopes: golden numbers.

A change of a rule, of a scope or of the fingerprint changes them, and has to say why.
`tests/exploration/test_explorer.py` holds the explorer to them; the documents in specs/ print them.
"""

from __future__ import annotations

from attrs import frozen

from .scopes import SCOPES


@frozen
class Counts:
    """The numbers of a complete exploration."""

    states: int
    events: int
    """Events tried, refused and stale ones included."""
    transitions: int
    """Accepted events."""
    depth: int
    """Length of the longest shortest path, in events."""


GOLDEN: dict[str, Counts] = {
    "pair": Counts(808, 22_577, 7_955, 13),
    "trio": Counts(3_533, 108_328, 31_749, 14),
    "reject": Counts(540, 18_976, 2_700, 14),
    "root": Counts(3_192, 90_650, 47_587, 12),
    "wake": Counts(842, 18_859, 6_019, 16),
    "live": Counts(2_562, 78_134, 31_350, 18),
    "idle": Counts(1_903, 46_375, 12_240, 14),
    "end": Counts(813, 23_358, 5_822, 12),
}
"""The scopes of `make check`."""

TOP_RUNG = "trio-everything"
GOLDEN_TOP_RUNG = Counts(189_390, 9_649_697, 1_381_856, 23)
"""Explored by `make nightly`."""


def together() -> Counts:
    """Returns the sums over all scopes of `make check`; `depth` is that of the deepest."""
    counts = [GOLDEN[scope.name] for scope in SCOPES]
    return Counts(
        sum(c.states for c in counts),
        sum(c.events for c in counts),
        sum(c.transitions for c in counts),
        max(c.depth for c in counts),
    )
