"""Reads the evidence for the properties from files, so that no number is typed by hand.

The counts of explored states are in `model/exploration/golden_counts.py`. The fuzzed steps are in specs/reached.md, and
the judge that noticed each break in specs/breaks.md: both are written by a run and held to the code by tests.
"""

from __future__ import annotations

import re

from attrs import frozen

from statemachine.checking.properties import Property

from .. import checkout
from ..exploration.explorer import REFUSAL_JUDGES, STALE_JUDGES
from ..exploration.golden_counts import together
from ..scenarios import golden

SPECS = checkout.REPOSITORY / "specs"
EVERY_EVENT = {known.id for known, _ in (*REFUSAL_JUDGES, *STALE_JUDGES)}
"""Properties that are also judged on refused or stale events, not only on steps that changed something."""


# Amounts


def explored(known: Property) -> str:
    """Returns the states and steps of the scopes of `make check` on which the property was judged."""
    counts = together()
    amounts = []
    if known.state is not None or known.step is None:  # neither: it is judged on the paths from every state
        amounts.append(f"{counts.states:,} states")
    if known.step is not None:
        amounts.append(f"{counts.events if known.id in EVERY_EVENT else counts.transitions:,} steps")
    return ", ".join(amounts)


def fuzzed() -> int:
    """Returns the number of steps of the campaigns of `make check`."""
    found = re.search(r"^Fuzzed: ([\d,]+) steps", (SPECS / "reached.md").read_text("utf-8"), re.MULTILINE)
    assert found is not None, "specs/reached.md does not say how many steps were fuzzed"
    return int(found[1].replace(",", ""))


def traced() -> tuple[int, int]:
    """Returns the number of golden traces, and of their events together."""
    files = golden.files()
    return len(files), sum(len(golden.read(path).events) for path in files)


# Breaks


@frozen
class Caught:
    """A row of specs/breaks.md: what noticed a break, with the reference and without it."""

    id: str
    sentence: str
    rules: str
    place: str
    by: str
    states: str
    events: str
    alone: str
    """`S1 (13, 2)`: the property (or other judge), states, events; `-`: nothing noticed it."""

    @property
    def by_alone(self) -> str:
        """The judge that noticed it without the reference; empty: none."""
        return "" if self.alone == "-" else self.alone.partition(" (")[0]

    def names(self, property_id: str) -> bool:
        """Tells whether the property is among the rules that the break breaks."""
        return property_id in re.findall(r"\w+", self.rules)


def caught() -> list[Caught]:
    """Returns every break of the file."""
    rows = re.findall(r"^\| (`[a-z-]+` \| .*) \|$", (SPECS / "breaks.md").read_text("utf-8"), re.MULTILINE)
    cells = [row.split(" | ") for row in rows]
    return [Caught(name.strip("`"), *rest) for name, *rest in cells]
