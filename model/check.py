"""Runs every judge on what fits into a minute, and gives one verdict per property and engine.

*Tables*: the look-ups that the core runs agree with `transitions` on every pair of every machine. *Exploration*: every
reachable state of every default scope, core and reference in lockstep; there have to be as many as ever. *Fuzz*: long
lives of many agents, likewise in lockstep. Then the quick part of each engine of `engines.py`. All but the tables run
side by side in a pool of processes. A *sometimes* property that was not reached is a failure too; an engine whose tools
are not installed is not: its line says so.
"""

from __future__ import annotations

import queue
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any

from attrs import frozen
from transitions import MachineError

from statemachine.checking import diagrams
from statemachine.checking.properties import PROPERTIES, STATE_PROPERTIES
from statemachine.core.machines import MACHINES, IllegalMove

from .coverage import required
from .engines import ENGINES, Engine
from .engines import find as find_engine
from .exploration.explorer import Exploration, Progress, explore
from .exploration.golden_counts import unexpected
from .exploration.scopes import SCOPES, Scope
from .fuzzing import fuzz
from .fuzzing.fuzz import FAILURES, FuzzResult, save
from .pools import CONTEXT, Task, stop_is_asked, workers
from .scenarios.replay import program_of
from .verdicts import Verdict

FUZZ_EXAMPLES, FUZZ_STEPS = 60, 200
"""Size of one fuzz part; there are as many parts as processes."""


@frozen
class Row:
    """One line of the verdict. `evidence` counts the states or steps (`unit`) judged."""

    subject: str
    engine: str
    verdict: str
    evidence: int
    unit: str


@frozen
class Failure:
    """A failed check: what failed, why, the shortest scenario known, and its trace file."""

    engine: str
    kind: str
    detail: str
    program: tuple[str, ...] = ()
    trace: str = ""

    def __str__(self) -> str:
        lines = [f"{self.engine}: {self.kind}: {self.detail}", *[f"    {line}" for line in self.program]]
        return "\n".join([*lines, *([f"    step by step: statemachine replay {self.trace}"] if self.trace else [])])


@frozen
class Report:
    """The result of a check."""

    rows: tuple[Row, ...]
    failures: tuple[Failure, ...]
    explorations: tuple[Exploration, ...]
    fuzz_steps: int
    coverage: Counter[str]
    verdicts: tuple[Verdict, ...]
    """Those of the quick parts."""
    seconds: float

    @property
    def held(self) -> bool:
        """Whether everything held, and everything required was reached."""
        return not self.failures


@frozen
class Part:
    """Progress of one part of the work: a scope, a fuzz campaign, or an engine. `depth` is that of the exploration."""

    name: str
    states: int
    """States, steps, or obligations."""
    depth: int = 0
    per_second: float = 0.0
    done: bool = False
    doing: str = ""


OnProgress = Callable[[Part], None]


class Interrupted(Exception):
    """The check was asked to stop."""


# In the processes of the pool

_news: Any = None


def _begin_worker(news: Any) -> None:
    global _news  # noqa: PLW0603  (each process of the pool is told once)
    _news = news


def report_part(part: Part) -> None:
    if _news is not None:
        _news.put(part)
    if stop_is_asked():
        raise Interrupted


def _explore_part(scope: Scope, probes: bool) -> Exploration:
    last = 0.0

    def tell(progress: Progress) -> None:
        nonlocal last
        if progress.seconds - last > 0.2:
            last = progress.seconds
            report_part(Part(scope.name, progress.states, progress.depth, progress.offered / progress.seconds))

    found = explore(scope, on_progress=tell, probes=probes or scope.probed)
    report_part(Part(scope.name, found.states, found.depth, found.offered / found.seconds, done=True))
    return found


def _fuzz_part(name: str, seed: int, folder: Path) -> FuzzResult:
    began = time.perf_counter()

    def tell(_: int, steps: int) -> None:
        seconds = time.perf_counter() - began
        report_part(Part(name, steps, per_second=steps / seconds if seconds else 0.0))

    result = fuzz.run(FUZZ_EXAMPLES, FUZZ_STEPS, seed, tell, folder)
    seconds = time.perf_counter() - began
    report_part(Part(name, result.steps, per_second=result.steps / seconds, done=True))
    return result


def run_engine(name: str, quick: bool) -> tuple[Verdict, ...]:
    """Runs an engine, or its quick part, in a process of the pool. One that raises has failed, and the others go on."""
    begun = 0

    def tell(doing: str) -> None:
        nonlocal begun
        begun += 1
        report_part(Part(name, begun, doing=doing))

    began = time.perf_counter()
    try:
        verdicts = find_engine(name).run(quick=quick, progress=tell)
    except Exception as error:  # of a defect of the core, or of a tool; `Interrupted` is raised again below
        seconds, note = time.perf_counter() - began, f"{type(error).__name__}: {error}"
        verdicts = (Verdict("all", find_engine(name).judges[0], "it comes to its end", False, seconds, note),)
    seconds = time.perf_counter() - began
    report_part(Part(name, len(verdicts), per_second=len(verdicts) / seconds, done=True))
    return verdicts


# The check


def check(
    jobs: int = 2,
    seed: int = 1,
    on_progress: OnProgress | None = None,
    folder: Path = FAILURES,
    scopes: tuple[Scope, ...] = SCOPES,
    engines: tuple[Engine, ...] = ENGINES,
    probes: bool = False,
) -> Report:
    """Runs everything with `jobs` processes, the quick parts of `engines` among it. Ctrl-C ends it cleanly and is
    raised again. `probes`: is the complete alphabet tried in all scopes, and not only where that takes seconds?
    """
    began = time.perf_counter()
    pairs, broken_tables = judge_tables()
    able = tuple(engine for engine in engines if engine.lacks() is None)
    tell = on_progress or (lambda _: None)
    explorations, campaigns, verdicts = run_parts(jobs, seed, tell, folder, scopes, able, probes)
    coverage: Counter[str] = Counter()
    for exploration in explorations:
        coverage += exploration.coverage
    for campaign in campaigns:
        coverage += campaign.coverage
    failures = [
        *broken_tables,
        *[exploration_failure(x, folder) for x in explorations if x.fault is not None],
        *[fuzz_failure(c.failure) for c in campaigns if c.failure is not None],
        *[
            Failure("exploration", "not closed", f"scope {x.scope.name}")
            for x in explorations
            if not x.closed and not x.fault
        ],
        *[
            Failure("exploration", "counts", f"scope {x.scope.name}: {unexpected(x)}")
            for x in explorations
            if x.closed and unexpected(x)
        ],
        *[obligation_failure(verdict) for verdict in verdicts if not verdict.holds],
    ]
    if not failures:
        failures += [Failure("sometimes", "unseen", name) for name in required() if not coverage[name]]
    steps = sum(campaign.steps for campaign in campaigns)
    rows = make_rows(pairs, explorations, steps, coverage, failures)
    rows += [engine_row(engine, verdicts) for engine in engines]
    seconds = time.perf_counter() - began
    return Report(tuple(rows), tuple(failures), tuple(explorations), steps, coverage, verdicts, seconds)


def run_parts(
    jobs: int,
    seed: int,
    on_progress: OnProgress,
    folder: Path,
    scopes: tuple[Scope, ...],
    engines: tuple[Engine, ...],
    probes: bool,
) -> tuple[list[Exploration], list[FuzzResult], tuple[Verdict, ...]]:
    """Explores the scopes, fuzzes, and runs the quick part of the engines, side by side. Returns the results."""
    by_weight = sorted(scopes, key=lambda s: -s.weight)
    fuzzing = [Task(_fuzz_part, (f"fuzz {seed + n}", seed + n, folder)) for n in range(jobs)]
    judging = [Task(run_engine, (engine.name, True)) for engine in engines]
    exploring = [Task(_explore_part, (scope, probes)) for scope in by_weight]
    results = side_by_side(jobs, [*fuzzing, *judging, *exploring], on_progress)
    campaigns, judged = results[:jobs], results[jobs : jobs + len(judging)]
    by_name = {found.scope.name: found for found in results[jobs + len(judging) :]}
    verdicts = tuple(verdict for of_engine in judged for verdict in of_engine)
    return [by_name[scope.name] for scope in scopes], campaigns, verdicts


def side_by_side(jobs: int, tasks: Sequence[Task[Any]], on_progress: OnProgress) -> list[Any]:
    """Runs tasks, which may `report_part`, in `jobs` processes. Returns their results, in their order."""
    news = CONTEXT.Queue()
    with workers(jobs, _begin_worker, news) as processes:
        try:
            running = [processes.submit(task) for task in tasks]
            waiting: set[Future[Any]] = {*running}
            while waiting:
                waiting = set(wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED).not_done)
                pass_on(news, on_progress)
            return [future.result() for future in running]
        finally:
            pass_on(news, on_progress)


def pass_on(news: Any, on_progress: OnProgress) -> None:
    """Passes on the progress that the processes have reported since the last call."""
    while True:
        try:
            on_progress(news.get_nowait())
        except queue.Empty:
            return


def judge_tables() -> tuple[int, list[Failure]]:
    """Compares the compiled look-ups with the `transitions` machines on every (state, trigger) pair. Returns the number
    of pairs, and the failures."""
    pairs, failures = 0, []
    for machine in MACHINES:
        model = diagrams.load(machine)
        for state in machine.states:
            for trigger in machine.triggers:
                pairs += 1
                model.state = diagrams.name_of(state)
                try:
                    model.trigger(trigger)
                    theirs = model.state
                except MachineError:
                    theirs = "refused"
                try:
                    ours = diagrams.name_of(machine.moves(trigger)[state])
                except IllegalMove:
                    ours = "refused"
                if ours != theirs:
                    what = f"{trigger} from {diagrams.name_of(state)}: the core has {ours}, the table {theirs}"
                    failures.append(Failure("tables", machine.name, what))
    return pairs, failures


# Verdicts


def make_rows(
    pairs: int, explorations: list[Exploration], steps: int, coverage: Counter[str], failures: list[Failure]
) -> list[Row]:
    """Returns one line per property and engine, then those of judges that are not about one property."""
    broken = {(failure.engine, failure.kind) for failure in failures}

    def row(subject: str, engine: str, evidence: int, unit: str) -> Row:
        return Row(subject, engine, "BROKEN" if (engine, subject) in broken else "held", evidence, unit)

    judged: Counter[str] = Counter()
    for exploration in explorations:
        judged += exploration.judged
    by_state = {known.id for known in STATE_PROPERTIES} | {"L7"}
    rows = []
    for known in PROPERTIES:
        rows.append(row(known.id, "exploration", judged[known.id], "states" if known.id in by_state else "steps"))
        if known.id != "L7":
            rows.append(row(known.id, "fuzz", steps, "states" if known.id in by_state else "steps"))
    offered = sum(exploration.offered for exploration in explorations)
    for engine, count in (("exploration", offered), ("fuzz", steps)):
        rows += [row(kind, engine, count, "steps") for kind in ("lockstep", "recovery", "crash")]
    tables = any(failure.engine == "tables" for failure in failures)
    rows.append(Row("tables", "tables", "BROKEN" if tables else "held", pairs, "pairs"))
    seen = sum(1 for name in required() if coverage[name])
    rows.append(Row("sometimes", "all", "held" if seen == len(required()) else "BROKEN", seen, f"of {len(required())}"))
    return rows


def engine_row(engine: Engine, verdicts: tuple[Verdict, ...]) -> Row:
    """Returns the line of an engine: whether all of its quick part holds, or why it was not run."""
    lacks = engine.lacks()
    if lacks is not None:
        return Row("quick part", engine.name, "not run", 0, f"obligations: {lacks}")
    mine = [verdict for verdict in verdicts if verdict.engine in engine.judges]
    held = mine and all(verdict.holds for verdict in mine)
    return Row("quick part", engine.name, "held" if held else "BROKEN", len(mine), "obligations")


def obligation_failure(verdict: Verdict) -> Failure:
    """Returns the failure of an obligation that does not hold."""
    return Failure(verdict.engine, verdict.property, ": ".join(filter(None, (verdict.obligation, verdict.note))))


def exploration_failure(found: Exploration, folder: Path) -> Failure:
    """Returns the fault with its shortest scenario, saved as a trace."""
    assert found.fault is not None
    path = save(found.scope.config, found.path, found.fault.kind, folder)
    detail = f"in scope {found.scope.name}: {found.fault.detail}"
    return Failure("exploration", found.fault.kind, detail, program(found), str(path))


def program(found: Exploration) -> tuple[str, ...]:
    """Returns the path to the fault as a short program."""
    return tuple(program_of(found.scope.config, found.path))


def fuzz_failure(failure: fuzz.Failure) -> Failure:
    """Returns the failure of a fuzz campaign."""
    detail = f"{failure.message} (seed {failure.seed})"
    return Failure("fuzz", failure.kind, detail, failure.program, str(failure.trace))


def as_json(report: Report) -> dict[str, Any]:
    """Returns the report for programs."""
    return {
        "held": report.held,
        "seconds": round(report.seconds, 1),
        "rows": [
            {"subject": r.subject, "engine": r.engine, "verdict": r.verdict, "evidence": r.evidence, "unit": r.unit}
            for r in report.rows
        ],
        "scopes": [scope_json(x) for x in report.explorations],
        "fuzz_steps": report.fuzz_steps,
        "coverage": dict(sorted(report.coverage.items())),
        "failures": [
            {"engine": f.engine, "kind": f.kind, "detail": f.detail, "program": f.program, "trace": f.trace}
            for f in report.failures
        ],
    }


def scope_json(x: Exploration) -> dict[str, Any]:
    """Returns the result of one scope for programs."""
    return {
        "scope": x.scope.name,
        "states": x.states,
        "events": x.offered,
        "transitions": x.transitions,
        "probed": x.probed,
        "depth": x.depth,
        "seconds": round(x.seconds, 2),
        "closed": x.closed,
    }
