"""`python -m bench`: measures, and prints a table. Exits 0 whatever comes out, but for `--strict`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from bench import copies, crowds, cycles, database, exploration, failover, folders, many, report, runtime, scale, store
from bench.measure import FULL, QUICK, Row, Size
from bench.peers import comparison

PARTS: dict[str, Callable[[Size], list[Row]]] = {
    "turn cycles": cycles.rows,
    "cost with many agents": scale.cost_rows,
    "cost beside turns that stand still": crowds.rows,
    "memory": scale.memory_rows,
    "copies": copies.rows,
    "exploration": exploration.rows,
    "the store": store.rows,
    "many sessions": many.rows,
    "the database": database.rows,
    "a folder of sessions": folders.rows,
    "take-overs": failover.rows,
    "the runtime": runtime.rows,
    "durable turns, here and on peers": comparison.rows,
}


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures the core; see bench/README.md.")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON instead of a table")
    form.add_argument("--markdown", action="store_true", help="print the table for bench/README.md")
    parser.add_argument("--strict", action="store_true", help="exit 1 if a target is missed")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs; not to be compared")
    chosen = parser.parse_args(arguments)
    rows: list[Row] = []
    for name, measure in PARTS.items():
        print(f"measuring {name} ...", file=sys.stderr)
        rows += measure(QUICK if chosen.quick else FULL)
    if chosen.json:
        print(report.as_json(rows))
    elif chosen.markdown:
        print(report.markdown(rows), end="")
    else:
        report.show(rows)
    return int(chosen.strict and any(row.met is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
