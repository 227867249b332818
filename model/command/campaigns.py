"""Runs the commands that judge the rules in bulk: check, explore, fuzz, simulate, crash.

What they need comes with the extra `check`, so `cli.py` imports this module when one of them is called.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeVar

import attrs
import click
from attrs import frozen
from rich.live import Live
from rich.status import Status
from rich.table import Table

from statemachine.checking.properties import PROPERTIES

from .. import check as checking
from .. import contracts as contracting
from .. import proof
from ..cluster import exploring, ray_adapter
from ..cluster.errors import Lost
from ..cluster.ray_adapter import Cluster
from ..crashes import kills
from ..exploration.explorer import Exploration, Progress
from ..exploration.explorer import explore as explore_scope
from ..exploration.scopes import RUNGS, SCOPES, Scope, find
from ..fuzzing import fuzz as fuzzing
from ..fuzzing.fuzz import FAILURES
from ..pools import Hire, workers
from ..printing import Console, say, table
from ..simulation import campaign as simulation
from ..simulation.schedule import NotRepeatable

JOBS = 2
"""Processes, unless something else is asked for."""


class Campaign(Protocol):
    """The results of a campaign so far."""

    @property
    def failures(self) -> Sequence[object]:
        """The failures; as a text, each says what failed, and how to see it."""
        ...

    def progress(self) -> str:
        """Returns the progress as a line."""
        ...

    def summary(self) -> str:
        """Returns the result in words."""
        ...

    def as_json(self) -> dict[str, Any]:
        """Returns the result for programs."""
        ...


C = TypeVar("C", bound=Campaign)


@frozen
class Spread:
    """Where work is done: in `jobs` processes of this machine, or in those of a Ray cluster. An empty address is a
    cluster that is started for the work; `jobs` is None where the default is wanted.
    """

    jobs: int | None
    address: str | None

    @contextmanager
    def cluster(self) -> Iterator[Cluster | None]:
        """Gives the cluster; None if there is none. Raises `RayMissing` or `ClusterFailed`."""
        if self.address is None:
            yield None
            return
        with ExitStack() as stack:
            with Console(stderr=True).status("joining Ray" if self.address else "starting Ray"):
                joined = stack.enter_context(ray_adapter.cluster(self.address, self.jobs))
            yield joined

    @contextmanager
    def processes(self, folder: Path) -> Iterator[tuple[int, Hire]]:
        """Gives their number, and how they are hired. Failures are kept in the folder, wherever they happen."""
        with self.cluster() as cluster:
            yield (self.jobs or JOBS, workers) if cluster is None else (cluster.jobs, cluster.pool(folder))


def conduct(title: str, run: Callable[[Callable[[C], None]], C], as_json: bool) -> NoReturn:
    """Runs a campaign, shows its progress on stderr, prints its result, and exits: 1 if something failed."""
    with Console(stderr=True).status(title) as status:
        found = run(lambda so_far: status.update(so_far.progress()))
    if as_json:
        say(json.dumps(found.as_json(), indent=2))
    else:
        console = Console()
        print_failures(found.failures, console)
        console.print(found.summary(), markup=False, soft_wrap=True)
    sys.exit(1 if found.failures else 0)


def prove(quick: bool, as_json: bool) -> NoReturn:
    """Proves, ties, refutes and enumerates, and prints every verdict and story."""
    with Console(stderr=True).status("proving") as status:
        verdicts = proof.run(quick=quick, progress=status.update)
    if as_json:
        say(json.dumps([attrs.asdict(verdict) for verdict in verdicts], indent=2))
    else:
        for verdict in verdicts:
            word, ms = "holds" if verdict.holds else "FAILS", verdict.seconds * 1000
            say(f"{word} {ms:8.0f} ms  {verdict.property:9} {verdict.engine:11} {verdict.obligation}")
            if verdict.note:
                say(f"{verdict.note}\n" if verdict.engine == "defect" else f"      {verdict.note}")
        kept = sum(verdict.holds for verdict in verdicts)
        say(f"{kept:,} of {len(verdicts):,} hold")
    sys.exit(0 if all(verdict.holds for verdict in verdicts) else 1)


def fuzz(minutes: float, spread: Spread, seed: int, as_json: bool) -> NoReturn:
    """Fuzzes in rounds until the time is over."""
    with spread.processes(FAILURES) as (jobs, hire):
        conduct("fuzzing", lambda show: fuzzing.soak(minutes, jobs, seed, show, hire=hire), as_json)


def simulate(seeds: int, first: int, spread: Spread, as_json: bool) -> NoReturn:
    """Simulates lives with so many seeds."""
    try:
        with spread.processes(FAILURES) as (jobs, hire):
            conduct("simulating", lambda show: simulation.campaign(seeds, first, jobs, show, hire=hire), as_json)
    except NotRepeatable as error:
        raise click.UsageError(str(error)) from error


def crash(count: int, seed: int, keep: Path | None, address: str | None, as_json: bool) -> NoReturn:
    """Kills a session so many times: one after the other, or side by side on a cluster."""
    if not hasattr(os, "fork"):
        raise click.UsageError("this needs an operating system with fork and SIGKILL, such as Linux")
    folder = keep or FAILURES
    if address is None:
        conduct("killing", lambda show: kills.crash(count, seed, folder, show), as_json)
    with Spread(None, address).processes(folder) as (jobs, hire):
        conduct("killing", lambda show: kills.crash_together(count, seed, folder, show, jobs, hire), as_json)


# Contracts


def contracts(quick: bool, as_json: bool) -> NoReturn:
    """Judges all contracts, and prints a line for each."""
    console, errors = Console(), Console(stderr=True)
    with errors.status("contracts") as status:
        verdicts = contracting.run(quick=quick, progress=status.update)
    failed = [verdict for verdict in verdicts if not verdict.holds]
    if as_json:
        say(json.dumps([attrs.asdict(verdict) for verdict in verdicts], indent=2))
    else:
        made = table("about", "obligation", "verdict", "seconds", title="contracts")
        for verdict in verdicts:
            style = "" if verdict.holds else "bold red"
            made.add_row(verdict.property, verdict.obligation, verdict.note, f"{verdict.seconds:.2f}", style=style)
        console.print(made)
        seconds = sum(verdict.seconds for verdict in verdicts)
        held = "all held" if not failed else f"{len(failed)} failed"
        console.print(f"{held}: {len(verdicts)} contracts and wordings, {seconds:.1f} s of processor time")
    sys.exit(1 if failed else 0)


# Check


def check(jobs: int, seed: int, as_json: bool) -> NoReturn:
    """Runs all parts of the check, shows their progress on stderr, and prints the verdict."""
    parts: dict[str, checking.Part] = {}
    with Live(console=Console(stderr=True), refresh_per_second=4, transient=True) as live:

        def show(part: checking.Part) -> None:
            parts[part.name] = part
            live.update(progress_table(parts))

        report = checking.check(jobs, seed, show)
    if as_json:
        say(json.dumps(checking.as_json(report), indent=2))
    else:
        print_report(report, Console())
    sys.exit(0 if report.held else 1)


def progress_table(parts: dict[str, checking.Part]) -> Table:
    """Returns the progress of all parts."""
    made = Table("part", "states, steps, obligations", "depth", "a second", "", box=None, header_style="dim")
    for part in parts.values():
        speed = "done" if part.done else f"{part.per_second:,.0f}" if part.per_second else ""
        made.add_row(part.name, f"{part.states:,}", str(part.depth or ""), speed, "" if part.done else part.doing)
    return made


def print_report(report: checking.Report, console: Console) -> None:
    """Prints the verdict: a line per property, the work of the engines, and every failure with its scenario."""
    verdicts = table("property", "engine", "verdict", "behind it", title="verdict")
    verdicts.columns[3].justify = "right"
    for row in report.rows:
        style = "bold red" if row.verdict == "BROKEN" else ""
        verdicts.add_row(row.subject, row.engine, row.verdict, f"{row.evidence:,} {row.unit}", style=style)
    console.print(verdicts)
    console.print(scope_table(report.explorations))
    print_failures(report.failures, console)
    verdict = "all held" if report.held else f"{len(report.failures)} failed"
    console.print(f"{verdict}: {len(PROPERTIES)} properties, {report.fuzz_steps:,} fuzz steps, {report.seconds:.1f} s")


def print_failures(failures: Iterable[object], console: Console) -> None:
    """Prints each failure, and how to see it."""
    for failure in failures:
        first, *rest = str(failure).splitlines()
        console.print(first, style="bold red", markup=False, soft_wrap=True)
        for line in rest:
            console.print(line, markup=False, soft_wrap=True)


# Explore


def list_scopes() -> None:
    """Prints a line for each scope."""
    for scope in (*SCOPES, *RUNGS):
        say(f"{scope.name:16} {scope.meaning}{' (nightly)' if scope.nightly else ''}")


def explore(
    names: tuple[str, ...],
    ladder: bool,
    nightly: bool,
    max_states: int | None,
    complete: bool,
    spread: Spread,
    as_json: bool,
) -> NoReturn:
    """Explores the named scopes (default: those of the check), up to the first with a fault, and prints the counts.
    `complete`: the complete alphabet is tried in each state, too.
    """
    scopes: tuple[Scope, ...] = tuple(find(name) for name in names) or SCOPES
    if ladder:
        scopes = tuple(s for s in (*SCOPES, *RUNGS) if nightly or not s.nightly)
    done: list[Exploration] = []
    console, errors = Console(), Console(stderr=True)
    with spread.cluster() as cluster:
        for scope in scopes:
            with errors.status(scope.name) as status:
                done.append(explore_one(scope, spread, cluster, max_states, complete, status, errors))
            if not as_json:
                console.print(scope_table((done[-1],)))
            if done[-1].fault is not None:
                break
    faults = [checking.exploration_failure(x, FAILURES) for x in done if x.fault is not None]
    if as_json:
        say(json.dumps([checking.scope_json(x) for x in done], indent=2))
    print_failures(faults, errors if as_json else console)
    sys.exit(1 if faults else 0)


def explore_one(
    scope: Scope,
    spread: Spread,
    cluster: Cluster | None,
    max_states: int | None,
    complete: bool,
    status: Status,
    errors: Console,
) -> Exploration:
    """Explores a scope, and shows where it is."""

    def show(p: Progress) -> None:
        speed = p.offered / p.seconds
        status.update(
            f"{scope.name}: {p.states:,} states, depth {p.depth}, {p.waiting:,} in line, {speed:,.0f} events/s"
        )

    def lose(lost: Lost) -> None:
        errors.print(f"{scope.name} begins again: {lost}", markup=False, soft_wrap=True)

    if cluster is None:
        return explore_scope(scope, spread.jobs or JOBS, max_states, show, complete)
    return exploring.explore(scope, cluster.hire, max_states, show, lose)


def scope_table(explorations: tuple[Exploration, ...]) -> Table:
    """Returns the explored scopes as a table."""
    headers = ("scope", "states", "events", "transitions", "depth", "seconds", "events/s", "")
    made = table(*headers, title="exploration")
    for column in made.columns[1:7]:
        column.justify = "right"
    for x in explorations:
        counts = [f"{n:,}" for n in (x.states, x.offered, x.transitions, x.depth)]
        speed = f"{x.offered / x.seconds:,.0f}"
        made.add_row(x.scope.name, *counts, f"{x.seconds:.1f}", speed, "closed" if x.closed else "open")
    return made
