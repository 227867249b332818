"""Rows as a table to look at, as Markdown for README.md, or as JSON for programs."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.measure import Row

HEAD = ("figure", "value", "target", "met")


def machine() -> dict[str, str]:
    """What it ran on."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text("utf-8").splitlines() if facts.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "processors": str(len(models) or "unknown"),
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "attrs": version("attrs"),
        "transitions": version("transitions"),
    }


def cells(row: Row) -> tuple[str, str, str, str]:
    """The row as text."""
    target = "" if row.target is None else f"{row.target.word} {number(row.target.bound)}"
    met = "" if row.met is None else "yes" if row.met else "NO"
    return row.what, f"{number(row.figure)} {row.unit}", target, met


def number(value: float) -> str:
    """Three or more digits that mean something, thousands set apart."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def facts_line() -> str:
    """What it ran on, in one line."""
    return ", ".join(f"{name} {value}" for name, value in machine().items())


def show(rows: list[Row]) -> None:
    """A table on standard output."""
    table = Table(title=facts_line())
    for name, justify in zip(HEAD, ("left", "right", "right", "left"), strict=True):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*cells(row), style="red" if row.met is False else None)
    Console(width=max(100, Console().width)).print(table)  # a log or a pipe counts as 80 columns


def markdown(rows: list[Row]) -> str:
    """The table of README.md."""
    lines = [HEAD, ("---", "---:", "---:", "---"), *(cells(row) for row in rows)]
    return "".join([f"{facts_line()}\n\n", *(f"| {' | '.join(line)} |\n" for line in lines)])


def as_json(rows: list[Row]) -> str:
    """Everything, for programs."""
    return json.dumps({"machine": machine(), "rows": [_plain(row) for row in rows]}, indent=2)


def _plain(row: Row) -> dict[str, Any]:
    target = None if row.target is None else {"word": row.target.word, "bound": row.target.bound}
    return {"what": row.what, "figure": row.figure, "unit": row.unit, "target": target, "met": row.met}
