"""Runs the commands that judge with one engine, `fairness` and `spin`, and prints a verdict for each obligation."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import NoReturn, Protocol

from attrs import asdict

from ..exploration import fairness as fair_runs
from ..printing import Console, say, table
from ..spin import engine, tool
from ..verdicts import Verdict


class Run(Protocol):
    """What an engine offers."""

    def __call__(self, *, quick: bool, progress: Callable[[str], None]) -> tuple[Verdict, ...]:
        """Judges, and says where it is."""
        ...


def fairness(quick: bool, as_json: bool) -> NoReturn:
    """Judges runs without end on the graph of the core."""
    conduct(fair_runs.run, quick, as_json)


def spin(quick: bool, as_json: bool) -> NoReturn:
    """Judges with Spin. Raises `SpinMissing` where it is not installed."""
    lacks = tool.missing()
    if lacks is not None:
        raise lacks
    conduct(engine.run, quick, as_json)


def conduct(run: Run, quick: bool, as_json: bool) -> NoReturn:
    """Runs an engine, shows its progress on stderr, prints its verdicts, and exits: 1 if one does not hold."""
    with Console(stderr=True).status("") as status:
        verdicts = run(quick=quick, progress=status.update)
    if as_json:
        say(json.dumps([asdict(verdict) for verdict in verdicts], indent=2))
    else:
        made = table("property", "obligation", "verdict", "seconds", "note")
        for v in verdicts:
            made.add_row(v.property, v.obligation, "holds" if v.holds else "FAILED", f"{v.seconds:.1f}", v.note)
        Console().print(made)
    sys.exit(0 if all(v.holds for v in verdicts) else 1)
