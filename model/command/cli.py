"""Runs the command `statemachine`. It is in `model` because nothing in `statemachine` imports `model`, and
`statemachine/__main__.py` finds it, or says what to install if an import of it is missing.

Exit codes: 0 everything held, 1 something failed, 2 it could not run: one clear line on stderr, and nothing written.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeVar

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from statemachine.checking import diagrams
from statemachine.checking.properties import PROPERTIES
from statemachine.core.machines import MACHINES
from statemachine.log.trace import TraceError
from statemachine.stores import StoreError, read_rollout

from .. import check as checking
from .. import checkout
from ..audits import verify as verification
from ..crashes import kills as crashes
from ..documents import generated
from ..exploration.explorer import Exploration, Progress, explore
from ..exploration.scopes import RUNGS, SCOPES, BadScope, Scope, find
from ..fuzzing import fuzz
from ..fuzzing.fuzz import FAILURES
from ..scenarios import replay
from ..simulation import campaign as simulation_campaign
from ..simulation.schedule import NotRepeatable
from . import demo, inspect_session
from .inspect_session import NoSuchAgent

JOBS = click.option("--jobs", type=click.IntRange(1, 64), default=2, show_default=True, help="Processes.")
SEED = click.option("--seed", type=int, default=1, show_default=True, help="Of the fuzz campaigns.")
JSON = click.option("--json", "as_json", is_flag=True, help="The result as JSON on stdout.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="agent-statemachine")
def command() -> None:
    """Check the rules of agent-statemachine, explore them, fuzz them, and look at traces."""


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


def conduct(title: str, run: Callable[[Callable[[C], None]], C], as_json: bool) -> NoReturn:
    """Runs a campaign, shows its progress on stderr, prints its result, and exits: 1 if something failed."""
    with Console(stderr=True).status(title) as status:
        found = run(lambda so_far: status.update(so_far.progress()))
    if as_json:
        click.echo(json.dumps(found.as_json(), indent=2))
    else:
        console = Console()
        print_failures(found.failures, console)
        console.print(found.summary(), markup=False, soft_wrap=True)
    sys.exit(1 if found.failures else 0)


@command.command()
@JOBS
@SEED
@JSON
def check(jobs: int, seed: int, as_json: bool) -> None:
    """Check the rules: tables, every reachable state of the small scopes, fuzz; a verdict for every property."""
    errors = Console(stderr=True)
    parts: dict[str, checking.Part] = {}
    with Live(console=errors, refresh_per_second=4, transient=True) as live:

        def show(part: checking.Part) -> None:
            parts[part.name] = part
            live.update(progress_table(parts))

        report = checking.check(jobs, seed, show)
    if as_json:
        click.echo(json.dumps(checking.as_json(report), indent=2))
    else:
        print_report(report, Console())
    sys.exit(0 if report.held else 1)


def progress_table(parts: dict[str, checking.Part]) -> Table:
    """Returns the progress of all parts."""
    table = Table("part", "states or steps", "depth", "a second", box=None, header_style="dim")
    for part in parts.values():
        speed = "done" if part.done else f"{part.per_second:,.0f}"
        table.add_row(part.name, f"{part.states:,}", str(part.depth or ""), speed)
    return table


def print_report(report: checking.Report, console: Console) -> None:
    """Prints the verdict: a line per property, the work of the engines, and every failure with its scenario."""
    table = Table("property", "engine", "verdict", "behind it", title="verdict", title_justify="left")
    table.columns[3].justify = "right"
    for row in report.rows:
        style = "bold red" if row.verdict == "BROKEN" else ""
        table.add_row(row.subject, row.engine, row.verdict, f"{row.evidence:,} {row.unit}", style=style)
    console.print(table)
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


def scope_table(explorations: tuple[Exploration, ...]) -> Table:
    """Returns the explored scopes as a table."""
    table = Table(
        "scope",
        "states",
        "events",
        "transitions",
        "depth",
        "seconds",
        "events/s",
        "",
        title="exploration",
        title_justify="left",
    )
    for column in table.columns[1:7]:
        column.justify = "right"
    for x in explorations:
        counts = [f"{n:,}" for n in (x.states, x.offered, x.transitions, x.depth)]
        speed = f"{x.offered / x.seconds:,.0f}"
        table.add_row(x.scope.name, *counts, f"{x.seconds:.1f}", speed, "closed" if x.closed else "open")
    return table


@command.command("explore")
@click.argument("names", nargs=-1, metavar="[SCOPE]...")
@click.option("--ladder", is_flag=True, help="Every scope, one after the other, without the nightly ones.")
@click.option("--nightly", is_flag=True, help="With --ladder: the top rung too, which takes many minutes.")
@click.option("--max-states", type=click.IntRange(1), default=None, help="Stop at so many states.")
@click.option("--list", "listing", is_flag=True, help="Say which scopes there are.")
@JOBS
@JSON
def explore_command(
    names: tuple[str, ...], ladder: bool, nightly: bool, max_states: int | None, listing: bool, jobs: int, as_json: bool
) -> None:
    """Explore every reachable state of the named scopes (default: those of `check`)."""
    if listing:
        for scope in (*SCOPES, *RUNGS):
            click.echo(f"{scope.name:16} {scope.meaning}{' (nightly)' if scope.nightly else ''}")
        return
    scopes: tuple[Scope, ...] = tuple(find(name) for name in names) or SCOPES
    if ladder:
        scopes = tuple(s for s in (*SCOPES, *RUNGS) if nightly or not s.nightly)
    done: list[Exploration] = []
    console, errors = Console(), Console(stderr=True)
    for scope in scopes:
        with errors.status(scope.name) as status:

            def show(p: Progress, status: Any = status, name: str = scope.name) -> None:
                speed = p.offered / p.seconds
                status.update(
                    f"{name}: {p.states:,} states, depth {p.depth}, {p.waiting:,} in line, {speed:,.0f} events/s"
                )

            done.append(explore(scope, jobs, max_states, show))
        if not as_json:
            console.print(scope_table((done[-1],)))
        if done[-1].fault is not None:
            break
    faults = [checking.exploration_failure(x, FAILURES) for x in done if x.fault is not None]
    if as_json:
        click.echo(json.dumps([checking.scope_json(x) for x in done], indent=2))
    print_failures(faults, errors if as_json else console)
    sys.exit(1 if faults else 0)


@command.command("fuzz")
@click.option("--minutes", type=click.FloatRange(0), default=1.0, show_default=True, help="How long.")
@JOBS
@SEED
@JSON
def fuzz_command(minutes: float, jobs: int, seed: int, as_json: bool) -> None:
    """Fuzz in rounds until the time is over. Ctrl-C ends it early and keeps what was found."""
    conduct("fuzzing", lambda show: fuzz.soak(minutes, jobs, seed, show), as_json)


@command.command("simulate")
@click.option("--seeds", type=click.IntRange(1), default=1000, show_default=True, help="How many.")
@click.option("--first", type=click.IntRange(0), default=1, show_default=True, help="The first of them.")
@JOBS
@JSON
def simulate_command(seeds: int, first: int, jobs: int, as_json: bool) -> None:
    """Simulate whole lives of running sessions, with crashes, in virtual time. Ctrl-C ends it early."""
    conduct("simulating", lambda show: simulation_campaign.campaign(seeds, first, jobs, show), as_json)


@command.command("replay")
@click.argument("file", type=click.Path(path_type=Path))
def replay_command(file: Path) -> None:
    """Show a trace step by step: event, effects, every agent, what changed, and what broke."""
    sys.exit(replay.show(file, Console()))


@command.command("demo")
@click.option(
    "--seconds",
    type=click.FloatRange(0),
    default=demo.NOMINAL_SECONDS,
    show_default=True,
    help="About how long it takes; 0: as fast as it goes.",
)
@click.option("--plain", is_flag=True, help="Lines instead of a live view, as without a terminal.")
@click.option("--keep", metavar="DIR", type=click.Path(path_type=Path), help="Keep session and trace in this folder.")
def demo_command(seconds: float, plain: bool, keep: Path | None) -> None:
    """Watch eight agents with two slots and room for three in memory, with simulated work. Ends by itself."""
    sys.exit(demo.run(seconds, plain, keep, Console()))


@command.command("verify")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--every",
    metavar="EVENTS",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Of a trace, judge properties and whole states after so many events only; replies and effects after each. "
    "Much faster with many agents; what is wrong for less than that may be missed.",
)
def verify_command(file: Path, every: int) -> None:
    """Verify what a session left behind, and name the first deviation.

    A trace (`AgentControl.open(..., trace=FILE)`) has every event: all of it is played again, against the reference
    model and with every property judged after each event.

    A session's database has no events, only what became of them. Its file is checked page by page, and its log record
    by record: that a session could have written each of them where it stands, and that what is recovered from them has
    every property. Records of spawns, closes and resumes that a snapshot replaces are not kept, so of those times the
    rollouts alone are judged. Refused requests are not in a database: for those, verify a trace.
    """
    errors = Console(stderr=True)
    with errors.status("verifying") as status:

        def show(done: int, size: int) -> None:
            status.update(f"verifying: {done / max(1, size):.0%} of {size:,} bytes")

        result = verification.verify(file, every, show)
    for line in result.lines:
        click.echo(line)
    sys.exit(0 if result.held else 1)


@command.command("inspect")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--agent", "wanted", metavar="PATH", help="The life of one agent: its rollout. Its path, or its id.")
@JSON
def inspect_command(file: Path, wanted: str | None, as_json: bool) -> None:
    """Look into a session's database, also while it runs: agents, status, unread mail, last outcomes, size of the log.

    Nothing is changed. What is shown is what is durable; slots and residency are not.
    """
    found, console = inspect_session.inspect(file), Console()
    if wanted is None:
        if as_json:
            click.echo(json.dumps(inspect_session.as_json(found), indent=2))
        else:
            inspect_session.print_inspection(found, console)
        return
    agent = inspect_session.find(found, wanted)
    rollout = read_rollout(file, agent.id)
    if as_json:
        said = {**inspect_session.agent_json(found, agent), "rollout": inspect_session.rollout_json(rollout)}
        click.echo(json.dumps(said, indent=2))
    else:
        inspect_session.print_rollout(found, agent, rollout, console)


@command.command("crash")
@click.option("--kills", type=click.IntRange(1), default=50, show_default=True, help="How often.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the first life; each life has the next one.")
@click.option(
    "--keep", metavar="DIR", type=click.Path(path_type=Path), default=FAILURES, help="Where failures are kept."
)
@JSON
def crash_command(kills: int, seed: int, keep: Path, as_json: bool) -> None:
    """Kill a session under load, again and again, and compare its file with what was acknowledged."""
    if not hasattr(os, "fork"):
        raise click.UsageError("this needs an operating system with fork and SIGKILL, such as Linux")
    conduct("killing", lambda show: crashes.crash(kills, seed, keep, show), as_json)


@command.command()
@click.argument("machine", required=False)
@click.option("--svg", is_flag=True, help="As SVG, drawn by Graphviz.")
def diagram(machine: str | None, svg: bool) -> None:
    """Print the diagram of a machine (default: all) as Mermaid."""
    names = {m.name.lower(): m for m in MACHINES}
    if machine is not None and machine.lower() not in names:
        raise click.UsageError(f"there is no machine '{machine}'; there are {', '.join(names)}")
    for known in [names[machine.lower()]] if machine else MACHINES:
        click.echo(diagrams.svg(known) if svg else diagrams.mermaid(known))


@command.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
def properties(ids: tuple[str, ...]) -> None:
    """Say what must hold: id, sentence, source."""
    known = {p.id: p for p in PROPERTIES}
    unknown = [name for name in ids if name.upper() not in known]
    if unknown:
        raise click.UsageError(f"there is no property '{unknown[0]}'; there are {', '.join(known)}")
    table = Table("id", "property", "source")
    for p in [known[name.upper()] for name in ids] or PROPERTIES:
        table.add_row(p.id, p.sentence, p.source)
    Console().print(table)


@command.command()
@click.option("--check", "only_check", is_flag=True, help="Write nothing; fail if one is stale.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("specs"), show_default=True)
def docs(only_check: bool, folder: Path) -> None:
    """Write the generated documents anew."""
    if not folder.is_dir():
        raise click.UsageError(f"there is no folder '{folder}'; run this at the top of the repository")
    names = generated.stale(folder) if only_check else generated.write(folder)
    for name in names:
        click.echo(f"{'stale' if only_check else 'written'}: {folder / name}")
    sys.exit(1 if only_check and names else 0)


CANNOT_RUN = (
    BadScope,
    NoSuchAgent,
    NotRepeatable,
    StoreError,
    TraceError,
    checkout.NeedsCheckout,
    diagrams.DrawingUnavailable,
)
"""Errors whose message says what to do."""


def main() -> None:
    """Runs the command: an error of use is one line on stderr and exit code 2."""
    try:
        command.main(standalone_mode=False)
    except click.exceptions.Abort:
        fail("interrupted", 130)
    except KeyboardInterrupt:
        fail("interrupted", 130)
    except click.ClickException as error:
        fail(error.format_message(), 2)
    except CANNOT_RUN as error:
        fail(str(error), 2)
    except OSError as error:
        fail(f"{error.filename or ''}: {error.strerror or error}".lstrip(": "), 2)


def fail(message: str, code: int) -> None:
    """Prints one line to stderr and exits with this code."""
    print(f"statemachine: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
