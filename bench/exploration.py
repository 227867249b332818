"""(f) figures of the exhaustive check: states and transitions a second."""

from __future__ import annotations

from bench.measure import Row


def rows() -> list[Row]:
    """None yet: this is where the figures of `model.explorer` belong."""
    return []
