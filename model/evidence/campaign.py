"""Runs every engine whole, side by side in a few processes: less than twenty minutes on two of them.

First the check, without the quick parts, and with the complete alphabet in every state of every scope. Then the engines
of `engines.py`, each in a process, and a hunt for each break, for which the processes take turns.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from attrs import frozen

from ..breaks.catalogue import BREAKS
from ..check import Failure, OnProgress, Part, Report, check, obligation_failure, run_engine, side_by_side
from ..engines import ENGINES
from ..fuzzing.fuzz import FAILURES
from ..pools import Task
from ..spin import tool
from ..verdicts import Verdict
from .hunts import Hunt, hunts

DISTRIBUTIONS = ("z3-solver", "crosshair-tool", "hypothesis", "transitions")


@frozen
class Results:
    """What all engines found."""

    day: str
    """Of the run, in UTC: 2026-01-31."""
    seconds: float
    jobs: int
    tools: tuple[tuple[str, str], ...]
    """Tool -> version, or that it is not installed."""
    report: Report
    verdicts: tuple[Verdict, ...]
    hunts: tuple[Hunt, ...]
    lacking: tuple[str, ...]
    """What was not run, and why."""

    @property
    def uncaught(self) -> tuple[str, ...]:
        """The breaks that no engine noticed."""
        caught = {found.id for found in self.hunts if found.by}
        return tuple(dict.fromkeys(found.id for found in self.hunts if found.id not in caught))

    @property
    def failures(self) -> tuple[Failure, ...]:
        """All that failed: in the check, an obligation, or a break that nothing noticed."""
        broken = [obligation_failure(verdict) for verdict in self.verdicts if not verdict.holds]
        unseen = [Failure("breaks", name, "no engine notices it") for name in self.uncaught]
        return (*self.report.failures, *broken, *unseen)


def run(jobs: int, seed: int, on_progress: OnProgress, folder: Path = FAILURES) -> Results:
    """Runs everything with `jobs` processes. Ctrl-C ends it cleanly and is raised again."""
    began, day = time.perf_counter(), datetime.now(UTC).date().isoformat()
    report = check(jobs, seed, on_progress, folder, engines=(), probes=True)
    able = [engine for engine in ENGINES if engine.lacks() is None]
    lacking = tuple(f"{engine.name}: {engine.lacks()}" for engine in ENGINES if engine not in able)
    judging = [Task(run_engine, (engine.name, False)) for engine in able]
    hunting = [Task(hunts, (known.id,)) for known in BREAKS]
    results = side_by_side(jobs, [*judging, *hunting], counting(on_progress))
    verdicts = tuple(verdict for of_engine in results[: len(judging)] for verdict in of_engine)
    found = tuple(hunt for of_break in results[len(judging) :] for hunt in of_break)
    return Results(day, time.perf_counter() - began, jobs, tuple(tools()), report, verdicts, found, lacking)


def counting(on_progress: OnProgress) -> OnProgress:
    """Passes progress on; of the hunts, one line together that counts the breaks begun."""
    begun: set[str] = set()

    def tell(part: Part) -> None:
        if part.name == "breaks":
            begun.add(part.doing.partition(",")[0])
            part = Part(f"breaks, of {len(BREAKS)}", len(begun), doing=part.doing)
        on_progress(part)

    return tell


# Versions


def tools() -> Iterator[tuple[str, str]]:
    """Yields the tools on which the results rest, with their versions."""
    yield platform.python_implementation(), platform.python_version()
    yield from ((name, version(name)) for name in DISTRIBUTIONS)
    yield "spin", said_by(tool.SPIN, "-V")
    compiler = tool.compiler()
    yield ("C compiler", "not installed") if compiler is None else (Path(compiler).name, said_by(compiler, "--version"))


def said_by(program: str, option: str) -> str:
    """Returns the version that a program says it has: the first word of its first line that looks like one."""
    if shutil.which(program) is None:
        return "not installed"
    done = subprocess.run([program, option], capture_output=True, text=True, check=False, timeout=60)
    first = (done.stdout or done.stderr).partition("\n")[0]
    found = re.search(r"\d+\.\d+(\.\d+)?", re.sub(r"\([^)]*\)", "", first))
    return "unknown" if found is None else found[0]
