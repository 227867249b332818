"""Runs the command `statemachine`. It is in `model` because nothing in `statemachine` imports `model`, and
`statemachine/__main__.py` finds it, or says what to install if an import of it is missing.

All that looks at what a session left behind works with the plain install. The commands that need the extra `check`
import it when they are called, so that these and the help do without.

Exit codes: 0 everything held, and there was something to judge; 1 something did not hold, or there was nothing to
judge; 2 it could not run, or what it was given cannot be read: one clear line on stderr, and nothing written;
130 it was interrupted, 141 its output was not read to its end.
"""

from __future__ import annotations

import _thread
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click

from statemachine.checking import diagrams
from statemachine.checking.properties import PROPERTIES
from statemachine.core.machines import MACHINES
from statemachine.hosting import HostingMissing
from statemachine.interrupts import INTERRUPTED
from statemachine.log.trace import TraceError
from statemachine.stores import StoreError, places, read_rollout

from .. import checkout
from ..audits import verify as verification
from ..cluster.errors import ClusterFailed, RayMissing
from ..exploration.scopes import BadScope
from ..printing import ERROR_MAX, Console, Unwritten, bounded, printable, say, table, until_reader_leaves
from ..scenarios import replay
from ..spin.errors import SpinFailed, SpinMissing
from . import demo, export_session, host_sessions, inspect_session
from .inspect_session import NoSuchAgent
from .numbers import SEED_MAX, Seconds, Whole

MINUTES_MAX = 366 * 24 * 60
AGAIN_S = 0.01
"""Seconds until an interrupt that a finalizer got is raised again."""
JOBS = click.option("--jobs", type=Whole(1, 64), default=2, show_default=True, help="Processes.")
SPREAD_JOBS = click.option(
    "--jobs",
    type=Whole(1, 64),
    default=None,
    help="Processes.  [default: 2; with --ray ADDRESS: as many as the cluster has processors]",
)
RAY = click.option(
    "--ray",
    "address",
    metavar="[ADDRESS]",
    is_flag=False,
    flag_value="",
    default=None,
    help="Spread it over the Ray cluster at ADDRESS, HOST:PORT or `auto`; without ADDRESS, over one that is started on "
    "this machine and stopped again.",
)
SEED = click.option("--seed", type=Whole(0, SEED_MAX), default=1, show_default=True, help="Of the fuzz campaigns.")
QUICK = click.option("--quick", is_flag=True, help="Only what takes seconds.")
JSON = click.option("--json", "as_json", is_flag=True, help="The result as JSON on stdout.")


def place(word: str) -> str | Path:
    """Returns the path of a file, or a DSN, which stays a text: as a path it would lose a slash."""
    return word if places.is_dsn(word) else Path(word)


class Commands(click.Group):
    """The commands. Its help has the first sentence of each, whole."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list of commands."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, self.commands[name].get_short_help_str(1_000)) for name in self.list_commands(ctx)]
            )


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.version_option(package_name="agent-statemachine")
@click.pass_context
def command(context: click.Context) -> None:
    """Check the rules of agent-statemachine, explore them, fuzz them, and look at traces."""
    if context.invoked_subcommand is None:
        say(context.get_help())
        sys.exit(2)


@command.command()
@JOBS
@SEED
@JSON
def check(jobs: int, seed: int, as_json: bool) -> None:
    """Check the rules: tables, every reachable state of the small scopes, fuzz; a verdict for every property."""
    from . import campaigns

    campaigns.check(jobs, seed, as_json)


@command.command("explore")
@click.argument("names", nargs=-1, metavar="[SCOPE]...")
@click.option("--ladder", is_flag=True, help="Every scope, one after the other, without the nightly ones.")
@click.option("--nightly", is_flag=True, help="With --ladder: the top rung too, which takes many minutes.")
@click.option("--max-states", type=Whole(1), default=None, help="Stop at so many states.")
@click.option("--complete", is_flag=True, help="In each state, try the complete alphabet of events, too.")
@click.option("--list", "listing", is_flag=True, help="Say which scopes there are.")
@SPREAD_JOBS
@RAY
@JSON
def explore_command(
    names: tuple[str, ...],
    ladder: bool,
    nightly: bool,
    max_states: int | None,
    complete: bool,
    listing: bool,
    jobs: int | None,
    address: str | None,
    as_json: bool,
) -> None:
    """Explore every reachable state of the named scopes (default: those of `check`).

    With --ray, name the scopes first: what follows --ray is an address.
    """
    from . import campaigns

    if listing:
        campaigns.list_scopes()
    else:
        if complete and address is not None:
            raise click.UsageError("--complete is not spread over a cluster; leave out --ray")
        spread = campaigns.Spread(jobs, address)
        campaigns.explore(names, ladder, nightly, max_states, complete, spread, as_json)


@command.command("fuzz")
@click.option("--minutes", type=Seconds(0, MINUTES_MAX), default=1.0, show_default=True, help="How long.")
@SPREAD_JOBS
@RAY
@SEED
@JSON
def fuzz_command(minutes: float, jobs: int | None, address: str | None, seed: int, as_json: bool) -> None:
    """Fuzz in rounds until the time is over. Ctrl-C ends it early and keeps what was found."""
    from . import campaigns

    campaigns.fuzz(minutes, campaigns.Spread(jobs, address), seed, as_json)


@command.command("contracts")
@click.option("--quick", is_flag=True, help="Only confirm them: without twins, and without the reference's wording.")
@JSON
def contracts_command(quick: bool, as_json: bool) -> None:
    """Confirm contracts of the rules over all paths, refute each with a defect, compare rules with the reference."""
    from . import campaigns

    campaigns.contracts(quick, as_json)


@command.command("simulate")
@click.option("--seeds", type=Whole(1), default=1000, show_default=True, help="How many.")
@click.option("--first", type=Whole(0, SEED_MAX), default=1, show_default=True, help="The first of them.")
@SPREAD_JOBS
@RAY
@JSON
def simulate_command(seeds: int, first: int, jobs: int | None, address: str | None, as_json: bool) -> None:
    """Simulate whole lives of running sessions, with crashes, in virtual time. Ctrl-C ends it early."""
    from . import campaigns

    campaigns.simulate(seeds, first, campaigns.Spread(jobs, address), as_json)


@command.command("prove")
@click.option("--quick", is_flag=True, help="The part that takes a few seconds.")
@JSON
def prove_command(quick: bool, as_json: bool) -> None:
    """Prove the rules for any number of agents, tie the proof to the core, and refute planted defects."""
    from . import campaigns

    campaigns.prove(quick, as_json)


@command.command("fairness")
@QUICK
@JSON
def fairness_command(quick: bool, as_json: bool) -> None:
    """Judge runs without end on the graph of the core: theorem 2, L5, L7, L11, L12."""
    from . import engines

    engines.fairness(quick, as_json)


@command.command("leases")
@click.option("--long", is_flag=True, help="Also the scopes that take minutes.")
@click.option("--defects", is_flag=True, help="Also plant each defect, and say which properties notice it.")
@JSON
def leases_command(long: bool, defects: bool, as_json: bool) -> None:
    """Explore the lease protocol of hosts, with crashes, pauses, partitions and drains: H1 to H8."""
    from . import leases

    leases.leases(long, defects, as_json)


@command.command("spin")
@QUICK
@JSON
def spin_command(quick: bool, as_json: bool) -> None:
    """Compare the core, edge for edge, with a model in Spin that was written from the specification alone.

    And let Spin visit larger worlds, and judge fair runs. Spin and a C compiler must be installed.
    """
    from . import engines

    engines.spin(quick, as_json)


@command.command("log")
@QUICK
@JSON
def log_command(quick: bool, as_json: bool) -> None:
    """Judge what is written and read back, what callers give, and what a session says when it is asked."""
    from . import engines

    engines.log(quick, as_json)


@command.command("evidence")
@click.option("--write", is_flag=True, help="Write what was found into specs/evidence.md.")
@JOBS
@SEED
@JSON
def evidence_command(write: bool, jobs: int, seed: int, as_json: bool) -> None:
    """Run every engine whole, and hunt every break with each: what each property rests on. Takes many minutes."""
    from . import engines

    engines.evidence(jobs, seed, write, as_json)


@command.command("mutants")
@click.option("--number", type=Whole(1, 100_000), default=200, show_default=True, help="How many to draw.")
@click.option("--seed", type=Whole(0, SEED_MAX), default=1, show_default=True, help="Of the drawing.")
@click.option("--write", is_flag=True, help="Write what became of them into specs/mutants.md.")
@JOBS
@JSON
def mutants_command(number: int, seed: int, write: bool, jobs: int, as_json: bool) -> None:
    """Change the core and the log at random, and see which check notices. Takes an hour.

    What is known is kept in .statemachine/mutants: Ctrl-C ends it, and the next run goes on. What no check noticed is
    judged again; delete the file there to judge all of them again.
    """
    from . import mutants

    mutants.run(number, seed, jobs, write, as_json)


@command.command("replay")
@click.argument("file", type=click.Path(path_type=Path))
def replay_command(file: Path) -> None:
    """Show a trace step by step: event, effects, every agent, what changed, what broke, and the verdict of `verify`.

    A report that came late changes nothing, and may be there. One that was not asked for has not held, nor has a tick
    that told a time in the past.

    Exit code 0: everything held, and there was something to judge. 1: something did not hold, or there was nothing.
    2: it cannot be read.
    """
    sys.exit(replay.show(file, Console()))


@command.command("demo")
@click.option(
    "--seconds",
    type=Seconds(0, demo.SECONDS_MAX),
    default=demo.NOMINAL_SECONDS,
    show_default=True,
    help="About how long it takes; 0: as fast as it goes.",
)
@click.option("--plain", is_flag=True, help="Lines instead of a live view, as without a terminal.")
@click.option("--keep", metavar="DIR", type=click.Path(path_type=Path), help="Keep session and trace in this folder.")
@click.option("--fleet", is_flag=True, help="Three workers on a database instead, one of which is killed.")
def demo_command(seconds: float, plain: bool, keep: Path | None, fleet: bool) -> None:
    """Watch eight agents with two slots and room for three in memory, with simulated work. Ends by itself.

    With --fleet, watch three workers host the sessions of a database while one is killed, one is stopped and the
    database is restarted, for about twenty seconds. Needs the extra `check`, which brings PostgreSQL as a wheel.
    """
    if fleet:
        from . import demo_fleet

        sys.exit(demo_fleet.run(Console()))
    sys.exit(demo.run(seconds, plain, keep, Console()))


@command.command("verify")
@click.argument("file", type=place)
@click.option(
    "--every",
    metavar="EVENTS",
    type=Whole(1),
    default=1,
    show_default=True,
    help="Of a trace, judge properties and whole states after so many events only; replies and effects after each. "
    "Much faster with many agents; what is wrong for less than that may be missed.",
)
def verify_command(file: str | Path, every: int) -> None:
    """Verify what a session left behind, and name the first deviation.

    A trace (`AgentControl.open(..., trace=FILE)`) has every event: all of it is played again, against the reference
    model and with every property judged after each event.

    A session's database has no events, only what became of them. Its file is checked page by page, and its log record
    by record: that a session could have written each of them where it stands, and that what is recovered from them has
    every property. Records of spawns, closes and resumes that a snapshot replaces are not kept, so of those times the
    rollouts alone are judged. Refused requests are not in a database: for those, verify a trace.

    A report that came late, to what the core had asked for and does not need any more, changes nothing; every runtime
    has such reports, and a trace with them holds. One that was not asked for, or that was there before, has not held.
    Nor has a tick that told a time in the past: no bound is applied until the clock has caught up.

    Exit code 0: everything held, and there was something to judge. 1: something did not hold, or there was nothing.
    2: it cannot be read.
    """
    errors = Console(stderr=True)
    with errors.status("verifying") as status:

        def show(done: int, size: int) -> None:
            status.update(f"verifying: {done / max(1, size):.0%} of {size:,} bytes")

        result = verification.verify(file, every, show)
    for line in result.lines:
        say(bounded(line))
    sys.exit(0 if result.held else 1)


@command.command("inspect")
@click.argument("file", type=place)
@click.option("--agent", "wanted", metavar="PATH", help="The life of one agent: its rollout. Its path, or its id.")
@JSON
def inspect_command(file: str | Path, wanted: str | None, as_json: bool) -> None:
    """Look into a session's database, also while it runs: agents, status, unread mail, last outcomes, size of the log.

    Nothing is changed. What is shown is what is durable; slots and residency are not.
    """
    found, console = inspect_session.inspect(file), Console()
    if wanted is None:
        if as_json:
            say(json.dumps(inspect_session.as_json(found), indent=2))
        else:
            inspect_session.print_inspection(found, console)
        return
    agent = inspect_session.find(found, wanted)
    rollout = read_rollout(file, agent.id)
    if as_json:
        said = {**inspect_session.agent_json(found, agent), "rollout": inspect_session.rollout_json(rollout)}
        say(json.dumps(said, indent=2))
    else:
        inspect_session.print_rollout(found, agent, rollout, console)
    differs = inspect_session.difference(found, agent, rollout)
    if differs is not None:
        Console(stderr=True).print(printable(differs), markup=False, soft_wrap=True)
        sys.exit(1)


@command.command("host")
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--dsn", help="A database instead of a folder, as postgresql://user@host/database.")
@click.option("--work", required=True, metavar="MODULE:NAME", help="What agents do: a function, class or mapping.")
@click.option("--config", metavar="MODULE:NAME", help="A SessionConfig: the limits of each session.")
@click.option("--address", default="127.0.0.1", show_default=True, help="To listen on for clients.")
@click.option("--port", type=Whole(0, 65_535), default=0, show_default=True, help="0: a free one.")
@click.option("--advertise", metavar="URI", help="Where clients reach it, if not there.")
@click.option("--capacity", type=Whole(1), default=1000, show_default=True, help="The most sessions at a time.")
@click.option(
    "--idle-ttl",
    type=Seconds(0, above=True),
    default=30.0,
    show_default=True,
    help="Seconds of rest after which a session is left.",
)
@click.option(
    "--ttl",
    type=Seconds(0, above=True),
    default=5.0,
    show_default=True,
    help="Seconds of silence after which a worker counts as dead.",
)
@click.option(
    "--poll",
    type=Seconds(0, above=True),
    default=0.5,
    show_default=True,
    help="Seconds between two looks at the database or the folder.",
)
@click.option(
    "--grace",
    type=Seconds(0),
    default=10.0,
    show_default=True,
    help="Seconds for turns to end before a session is left.",
)
def host_command(folder: Path | None, dsn: str | None, work: str, config: str | None, **options: Any) -> None:
    """Run the sessions of FOLDER, each a file there, or of a database in PostgreSQL, until Ctrl-C or SIGTERM.

    A folder has one host, and is made if it is missing. A database has any number of workers; one that ends hands its
    sessions over to the others. Needs the extra `hosts`; a folder needs websockets alone.

    What the code of agents prints to stdout is left as it is. All that is written to stderr or logged is escaped,
    colours too, because texts of others are in it.
    """
    if (folder is None) == (dsn is None):
        raise click.UsageError("give a folder, or --dsn and a database")
    host_sessions.host(str(folder) if dsn is None else dsn, work, config, **options)


@command.command("backup")
@click.argument("session", type=place)
@click.argument("to", type=click.Path(path_type=Path))
def backup_command(session: str | Path, to: Path) -> None:
    """Copy a session's database into the new file TO, also while it runs. Nothing is overwritten.

    The copy is the session as of the moment in which the command begins. A session with damaged pages is refused, so
    that no copy of it takes the place of an earlier one. Copying the file by other means, as with `cp`,
    loses what is in its write-ahead log, and may mix two states.
    """
    with Console(stderr=True).status("copying") as status:
        places.back_up(session, to, lambda done, pages: status.update(f"copying: {done / max(1, pages):.0%}"))
    say(f"{to}: {to.stat().st_size:,} bytes")


@command.command("export")
@click.argument("session", type=place)
def export_command(session: str | Path) -> None:
    """Print a session's database as JSON, a line for each thing in it, also while it runs.

    The first line is the session, then come its agents, all records of its log in their order, and its receipts; `type`
    says which a line is. The log is never in memory as a whole. It is read from a temporary backup, so there has to be
    room for one (the environment variable TMPDIR says where).
    """
    with Console(stderr=True).status("copying") as status:
        for lines in export_session.export(session, lambda done, pages: status.update(f"copying: {done} of {pages}")):
            status.stop()
            say(lines)


@command.command("crash")
@click.option("--kills", type=Whole(1), default=50, show_default=True, help="How often.")
@click.option(
    "--seed",
    type=Whole(0, SEED_MAX),
    default=1,
    show_default=True,
    help="Of the first life; each has the next one.",
)
@click.option(
    "--keep",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where failures are kept (default: .statemachine/failures).",
)
@RAY
@JSON
@click.option("--fleet", is_flag=True, help="Kill workers of a fleet of hosts on PostgreSQL instead.")
@click.option("--pauses", type=Whole(0), default=0, help="With --fleet: pauses beyond the ttl.")
@click.option("--restarts", type=Whole(0), default=0, help="With --fleet: restarts of the database.")
def crash_command(
    kills: int,
    seed: int,
    keep: Path | None,
    address: str | None,
    fleet: bool,
    pauses: int,
    restarts: int,
    as_json: bool,
) -> None:
    """Kill a session under load, again and again, and compare its file with what was acknowledged.

    With --fleet, the session is many, in PostgreSQL, and what is killed are the workers that host them.
    With --ray, several sessions are killed at the same time, each with its seed.
    """
    from . import campaigns

    if fleet:
        from ..crashes import fleet as fleets

        run = partial(fleets.strike, kills, pauses, restarts, seed)
        campaigns.conduct("striking", run, as_json)
    if pauses or restarts:
        raise click.UsageError("--pauses and --restarts need --fleet")
    campaigns.crash(kills, seed, keep, address, as_json)


@command.command()
@click.argument("machine", required=False)
@click.option("--svg", is_flag=True, help="As SVG, drawn by Graphviz.")
def diagram(machine: str | None, svg: bool) -> None:
    """Print the diagram of a machine (default: all) as Mermaid."""
    names = {m.name.lower(): m for m in MACHINES}
    if machine is not None and machine.lower() not in names:
        raise click.UsageError(f"there is no machine '{machine}'; there are {', '.join(names)}")
    for known in [names[machine.lower()]] if machine else MACHINES:
        say(diagrams.svg(known) if svg else diagrams.mermaid(known))


@command.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
def properties(ids: tuple[str, ...]) -> None:
    """Say what must hold: id, sentence, source."""
    known = {p.id: p for p in PROPERTIES}
    unknown = [name for name in ids if name.upper() not in known]
    if unknown:
        raise click.UsageError(f"there is no property '{unknown[0]}'; there are {', '.join(known)}")
    made = table("id", "property", "source")
    for p in [known[name.upper()] for name in ids] or PROPERTIES:
        made.add_row(p.id, p.sentence, p.source)
    Console().print(made)


@command.command()
@click.option("--check", "only_check", is_flag=True, help="Write nothing; fail if one is stale.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("specs"), show_default=True)
def docs(only_check: bool, folder: Path) -> None:
    """Write the generated documents anew."""
    from ..documents import generated

    if not folder.is_dir():
        raise click.UsageError(f"there is no folder '{folder}'; run this at the top of the repository")
    names = generated.stale(folder) if only_check else generated.write(folder)
    for name in names:
        say(f"{'stale' if only_check else 'written'}: {folder / name}")
    sys.exit(1 if only_check and names else 0)


CANNOT_RUN = (
    BadScope,
    NoSuchAgent,
    StoreError,
    TraceError,
    HostingMissing,
    checkout.NeedsCheckout,
    diagrams.DrawingUnavailable,
    SpinMissing,
    SpinFailed,
    RayMissing,
    ClusterFailed,
)
"""Errors whose message says what to do."""


def main() -> None:
    """Runs the command, and prints nothing more once its output is not read any more."""
    with until_reader_leaves(), interrupts_found():
        run()


@contextmanager
def interrupts_found() -> Iterator[None]:
    """Within the block, Ctrl-C that Python finds in a finalizer, as in those of z3, is raised again outside of it, and
    not printed; and what finalizers say of an end by Ctrl-C is not printed.
    """
    before, is_over = sys.unraisablehook, False

    def found(raised: sys.UnraisableHookArgs) -> None:
        if issubclass(raised.exc_type, KeyboardInterrupt):
            while not is_over:
                try:  # not at once: it would be raised in here, and printed
                    again = threading.Timer(AGAIN_S, _thread.interrupt_main)
                    again.daemon = True
                    again.start()
                    break
                except KeyboardInterrupt:  # it came before this one was left, as on a busy machine
                    pass
        elif not is_over:
            before(raised)

    sys.unraisablehook = found
    try:
        yield
    except SystemExit as ended:
        is_over = ended.code == INTERRUPTED
        raise
    finally:
        if not is_over:
            sys.unraisablehook = before


def run() -> None:
    """Runs the command: an error of use is one line on stderr and exit code 2."""
    try:
        command.main(standalone_mode=False)
    except click.exceptions.Abort:
        fail("interrupted", INTERRUPTED)
    except KeyboardInterrupt:
        fail("interrupted", INTERRUPTED)
    except click.ClickException as error:
        fail(error.format_message(), 2)
    except CANNOT_RUN as error:
        fail(str(error), 2)
    except Unwritten:
        raise
    except OSError as error:
        fail(f"{error.filename or ''}: {error.strerror or error}".lstrip(": "), 2)


def fail(message: str, code: int) -> None:
    """Prints one line to stderr and exits with this code."""
    line = printable(" ".join(message.split()))
    print(f"statemachine: {bounded(line, ERROR_MAX)}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
