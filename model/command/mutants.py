"""Runs the command `mutants`: changes the core and the log at random, and shows which check notices."""

from __future__ import annotations

import json
import sys
from typing import NoReturn

from attrs import asdict
from rich.live import Live
from rich.text import Text

from .. import check as checking
from .. import checkout
from ..documents import mutants as document
from ..mutants import campaign
from ..printing import Console, say, table
from .campaigns import progress_table


def run(number: int, seed: int, jobs: int, write: bool, as_json: bool) -> NoReturn:
    """Judges mutants, shows progress on stderr, prints the survivors, and exits: 1 if one is not explained, 130 if
    Ctrl-C ended it.
    """
    checkout.require(document.DOCUMENT.parent)  # the tests of a checkout are the last to look
    errors, parts = Console(stderr=True), dict[str, checking.Part]()
    with Live(console=errors, refresh_per_second=4, transient=True) as live:

        def show(part: checking.Part) -> None:
            if not errors.is_terminal and part.doing:
                errors.print(f"{part.name} {part.states}: {part.doing}", markup=False, soft_wrap=True)
            parts[part.name] = part
            live.update(progress_table(parts))

        results = campaign.run(number, seed, jobs, show)
    if results is None:
        sys.exit(130)
    if as_json:
        say(json.dumps(results_json(results), indent=2))
    else:
        console = Console()
        made = table("survivor", "noticed by tests", "kind", "why", title=f"mutants of seed {seed}")
        for survivor in results.survivors:
            made.add_row(*map(Text, document.row(survivor)))
        console.print(made)
        caught = f"{results.caught} of {len(results.verdicts)} caught"
        console.print(f"{caught}, {results.share:.1%} of those that are not equivalent")
    if write:
        errors.print(f"written: {document.write(results)}", markup=False, soft_wrap=True)
    sys.exit(1 if results.unexplained else 0)


def results_json(results: campaign.Results) -> dict[str, object]:
    """Returns the results for programs."""
    return {
        "day": results.day,
        "seed": results.seed,
        "seconds": round(results.seconds, 1),
        "caught": results.caught,
        "equivalent": len(results.equivalent),
        "share": results.share,
        "mutants": [asdict(verdict) for verdict in results.verdicts],
    }
