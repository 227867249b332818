"""Runs the commands that judge with one engine, `fairness`, `spin` and `log`, and the one that judges with all,
`evidence`.
"""

from __future__ import annotations

import json
import sys
from typing import Any, NoReturn

from attrs import asdict
from rich.live import Live

from .. import check as checking
from .. import checkout, written
from ..documents import evidence_table
from ..engines import Run
from ..evidence import campaign
from ..exploration import fairness as fair_runs
from ..printing import Console, say, table
from ..spin import engine, tool
from .campaigns import print_failures, progress_table


def fairness(quick: bool, as_json: bool) -> NoReturn:
    """Judges runs without end on the graph of the core."""
    conduct(fair_runs.run, quick, as_json)


def spin(quick: bool, as_json: bool) -> NoReturn:
    """Judges with Spin. Raises `SpinMissing` where it is not installed."""
    lacks = tool.missing()
    if lacks is not None:
        raise lacks
    conduct(engine.run, quick, as_json)


def log(quick: bool, as_json: bool) -> NoReturn:
    """Judges what is written and read back."""
    conduct(written.run, quick, as_json)


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


# All of them


def evidence(jobs: int, seed: int, write: bool, as_json: bool) -> NoReturn:
    """Runs every engine whole, shows its progress on stderr, prints what they found, and exits: 1 if something failed.
    With `write`, specs/evidence.md has it too, unless something failed.
    """
    if write:
        checkout.require(evidence_table.DOCUMENT.parent)
    errors, parts = Console(stderr=True), dict[str, checking.Part]()
    with Live(console=errors, refresh_per_second=4, transient=True) as live:

        def show(part: checking.Part) -> None:
            if not errors.is_terminal and is_news(part, parts.get(part.name)):
                errors.print(f"{part.name}: {'done' if part.done else part.doing or 'begun'}", markup=False)
            parts[part.name] = part
            live.update(progress_table(parts))

        results = campaign.run(jobs, seed, show)
    if as_json:
        say(json.dumps(results_json(results), indent=2))
    else:
        console = Console()
        made = table("engine", "judged", "held", "seconds", title="evidence")
        for row in evidence_table.engine_rows(results):
            made.add_row(*row)
        console.print(made)
        print_failures((*results.failures, *results.lacking), console)
        held = "all held" if not results.failures else f"{len(results.failures)} failed"
        console.print(f"{held}: {results.seconds:,.0f} s, {len(results.verdicts):,} obligations")
    if write and not results.failures:
        errors.print(f"written: {evidence_table.write(results)}", markup=False, soft_wrap=True)
    sys.exit(1 if results.failures else 0)


def is_news(part: checking.Part, last: checking.Part | None) -> bool:
    """Is it worth a line where no table is drawn? What begins and ends is, and each 20th obligation or break."""
    return part.done or last is None or (part.doing != "" and part.states // 20 > last.states // 20)


def results_json(results: campaign.Results) -> dict[str, Any]:
    """Returns the results for programs."""
    return {
        "held": not results.failures,
        "day": results.day,
        "seconds": round(results.seconds, 1),
        "tools": dict(results.tools),
        "not_run": results.lacking,
        "check": checking.as_json(results.report),
        "verdicts": [asdict(verdict) for verdict in results.verdicts],
        "breaks": [asdict(found) for found in results.hunts],
    }
