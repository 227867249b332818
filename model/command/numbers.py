"""Reads the numbers among the options of all commands: every one is finite, and has bounds."""

from __future__ import annotations

import math
from typing import Any

import click

WHOLE_MAX = 10**9
SEED_MAX = 2**63 - 1
SECONDS_MAX = 366 * 24 * 3600.0


class Whole(click.IntRange):
    """A whole number from `least` to `most`."""

    def __init__(self, least: int, most: int = WHOLE_MAX) -> None:
        super().__init__(least, most)


class Seconds(click.FloatRange):
    """A finite number from `least`, or `above` it, to `most`."""

    def __init__(self, least: float, most: float = SECONDS_MAX, *, above: bool = False) -> None:
        super().__init__(least, most, min_open=above)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Returns the number. Raises `BadParameter`."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):  # no comparison with NaN is true, so it is in every range
            self.fail(f"{number} is not a finite number.", param, ctx)
        return number
