"""Records the numbers of states, events and transitions of the scopes: golden numbers.

A change of a rule, of a scope or of the fingerprint changes them, and has to say why. `make check` and
`tests/exploration/test_explorer.py` hold the explorer to them; the documents in specs/ print them.
"""

from __future__ import annotations

from attrs import frozen

from .explorer import Exploration
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
    "pair": Counts(1_022, 27_597, 9_989, 15),
    "trio": Counts(3_952, 122_865, 34_587, 16),
    "reject": Counts(620, 21_160, 3_080, 14),
    "root": Counts(3_823, 106_229, 56_598, 12),
    "wake": Counts(1_254, 27_429, 8_697, 16),
    "live": Counts(2_844, 85_190, 34_158, 18),
    "idle": Counts(2_097, 51_025, 12_964, 15),
    "end": Counts(769, 22_028, 5_819, 12),
    "nested": Counts(1_834, 32_932, 19_436, 17),
    "bound": Counts(826, 8_833, 5_885, 19),
    "gather": Counts(474, 3_716, 1_808, 21),
    "wide": Counts(1_019, 12_690, 6_216, 16),
    "anew": Counts(1_989, 25_286, 25_114, 19),
    "tasks": Counts(435, 6_543, 4_230, 12),
    "circle": Counts(1_351, 18_426, 9_892, 19),
    "attempts": Counts(678, 5_521, 4_321, 16),
    "read": Counts(2_301, 17_059, 10_242, 20),
    "due": Counts(1_741, 10_444, 5_716, 30),
    "recall": Counts(407, 5_894, 3_645, 12),
    "forget": Counts(595, 10_489, 4_728, 18),
    "drain": Counts(1_088, 11_817, 7_120, 19),
    "drain-tasks": Counts(717, 6_383, 4_240, 12),
    "spare": Counts(204, 1_271, 1_117, 12),
    "end-alone": Counts(97, 885, 692, 7),
    "end-faults": Counts(644, 5_362, 4_423, 15),
    "live-end": Counts(76, 752, 591, 7),
}
"""The scopes of `make check`."""

TOP_RUNG = "trio-everything"
GOLDEN_TOP_RUNG = Counts(189_390, 9_649_697, 1_381_856, 23)
GOLDEN_NIGHTLY: dict[str, Counts] = {
    "live-line": Counts(39_126, 399_468, 243_377, 15),
    TOP_RUNG: GOLDEN_TOP_RUNG,
}
"""Explored by `make nightly`."""


def unexpected(found: Exploration) -> str:
    """Returns which counts a complete exploration has instead of the golden ones of its scope. Empty: it has these, or
    its scope has none.
    """
    counts = Counts(found.states, found.offered, found.transitions, found.depth)
    golden = GOLDEN.get(found.scope.name, counts)
    return "" if counts == golden else f"{counts}, where {golden} is golden"


def together() -> Counts:
    """Returns the sums over all scopes of `make check`; `depth` is that of the deepest."""
    counts = [GOLDEN[scope.name] for scope in SCOPES]
    return Counts(
        sum(c.states for c in counts),
        sum(c.events for c in counts),
        sum(c.transitions for c in counts),
        max(c.depth for c in counts),
    )
