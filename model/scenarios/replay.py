"""Plays traces again and judges every step.

`Trial` is a session under judgement: every property is checked (`statemachine/checking/properties.py`), each event also
goes to the reference, and reply, effects and state are compared (`model/lockstep.py`); and all records so far must fold
to the durable facts of the session (section 5). `replay` plays a trace (`statemachine/log/trace.py`) on one and yields
a frame a step, up to the first step that breaks something; `show` prints the frames. `program_of` writes any scenario
as a program in the language of `model/scenarios/script.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from itertools import zip_longest
from pathlib import Path
from typing import Any

import attrs
from attrs import frozen
from rich.console import Console
from rich.text import Text

from statemachine.checking import properties
from statemachine.checking.moment import Moment
from statemachine.checking.properties import REFUSED_BY, STALE_BY, PropertyViolation
from statemachine.core.config import SessionConfig
from statemachine.core.effects import Refused, Stale, Step
from statemachine.core.session import Session
from statemachine.log import trace
from statemachine.log.recovery import durable_facts, fold
from statemachine.log.snapshot import ledger_of
from statemachine.log.trace import Facts, Trace

from .. import lockstep, reference
from ..kept import RecoveryDiffers, compare_snapshot, follow
from ..lockstep import AnyEvent, Deviation, Restart
from ..printing import bounded, printable
from ..watch import StepNeverEnds, arm, disarm, watched
from . import golden, script
from .passed_over import PassedOver, counted

REFERENCE_STEP: Any = reference.step
CUT = "the last line has no end, as when a process dies in the middle of it, and was left out"
STEP_SECONDS_MAX = 1.0
"""Seconds of the processor for one step and its judges, which take a millisecond."""
NOTHING_CHANGED = tuple([known for known in properties.STEP_PROPERTIES if known.id in (*REFUSED_BY, *STALE_BY)])
"""The properties that say that stale reports, and refusals, change nothing."""


@frozen
class Verdict:
    """The fault of a step. `kind` is a property's id, `lockstep`, `recovery`, `endless` or `crash`."""

    kind: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"


class Trial:
    """A session under judgement. Recovery is compared every `fold_every` events; `facts` are those that the session was
    recovered with, None if it is new.
    """

    def __init__(self, config: SessionConfig, fold_every: int = 1, facts: Facts | None = None) -> None:
        self.folded = fold(config, ())
        self.step: Step | None = None
        """The core's step for the last event, unless it raised; before the first, that of a recovery."""
        if facts is None:
            self.session, self.world = lockstep.start(config)
        else:
            ledger = ledger_of(config, facts.agents, facts.mail_states)
            self.folded = ledger.copy()
            self.session, self.world, self.step = lockstep.start_from(config, ledger)
            follow(self.folded, self.step.records)
            properties.check(self.session)
        self.before = self.session
        """A fork from before the last event."""
        self.fold_every = fold_every
        self.played = 0

    def play(self, event: AnyEvent) -> Step:
        """Plays one event and returns its step. Raises `PropertyViolation`, `Deviation`, `RecoveryDiffers`,
        `StepNeverEnds`, or what the core raises."""
        with watched():
            arm(STEP_SECONDS_MAX)
            step = self.judged(event)
            disarm()
            return step

    def judged(self, event: AnyEvent) -> Step:
        """Plays one event, and judges its step."""
        self.before = self.session.fork()
        self.step = None
        self.session, step = lockstep.core_step(self.session, event)
        self.step = step
        self.played += 1
        self.check(event, step)
        if lockstep.asks_reference(event, step):
            self.world, reply, effects = REFERENCE_STEP(self.world, lockstep.TRANSLATE[event.__class__](event))
            lockstep.compare_step(step, reply, effects)
        lockstep.compare_states(self.session, self.world)
        follow(self.folded, step.records)
        if self.played % self.fold_every == 0:
            self.compare_recovery()
        return step

    def check(self, event: AnyEvent, step: Step) -> None:
        """Judges the properties. A refused or stale step is judged only by those that say that nothing changed."""
        if step.reply.__class__ in (Refused, Stale):
            moment = Moment(self.session, self.before, event, step)  # type: ignore[arg-type]  # no restart is refused
            for known in NOTHING_CHANGED:
                properties.judge(known, known.step, moment)
        elif isinstance(event, Restart):
            properties.check_crash(self.before, step, self.session)
        else:
            properties.check_step(self.before, event, step, self.session)
        properties.check(self.session)

    def compare_recovery(self) -> None:
        """Raises `RecoveryDiffers` if the log does not fold to the facts of the session, or a snapshot does not come to
        them.
        """
        folded, live = durable_facts(self.folded), durable_facts(self.session.ledger)
        compare_snapshot(self.session, live)
        if folded != live:
            rows = [pair for pair in zip_longest((*folded[0], folded[1]), (*live[0], live[1])) if pair[0] != pair[1]]
            raise RecoveryDiffers(f"the log folds to {rows[0][0]!r}, where the session has {rows[0][1]!r}")


def begin(config: SessionConfig, fold_every: int, facts: Facts | None) -> Trial | Verdict:
    """Returns a `Trial` at its beginning; or the verdict, if the beginning itself breaks something: core and reference
    recover these facts to different sessions, or to one that breaks a property.
    """
    try:
        return Trial(config, fold_every, facts)
    except Exception as error:
        return verdict_of(error)


def verdict_of(error: Exception) -> Verdict:
    """Returns the verdict for an exception of a trial."""
    if isinstance(error, PropertyViolation):
        return Verdict(error.property.id, f"{error.property.sentence}: {error.detail}")
    if isinstance(error, RecoveryDiffers):
        return Verdict("recovery", error.detail)
    if isinstance(error, Deviation):
        return Verdict("lockstep", str(error))
    if isinstance(error, StepNeverEnds):
        return Verdict("endless", str(error))
    return Verdict("crash", f"{type(error).__name__}: {error}")


# Frames


@frozen
class Frame:
    """One step as shown. Number 0 is the beginning, before any event."""

    number: int
    line: str
    """The event in the language of `model/scenarios/script.py`."""
    json: str
    """The event as JSON, as in the trace."""
    step: tuple[str, ...]
    """Reply, records and effects, a line each (`model/scenarios/golden.py`)."""
    view: tuple[str, ...]
    """Every agent, the session with slots, residency slots and ready queue, the time with what is due."""
    changed: tuple[bool, ...]
    """For each line of the view, whether it has changed in this step."""
    broken: Verdict | None = None


def replay(path: Path) -> Iterator[Frame]:
    """Returns the frames of a trace file, up to the first faulty step, without a last line that is cut off. Reads the
    whole file first: raises `TraceError` at once, not in the middle."""
    return frames(trace.read_what_is_whole(path)[0])


def frames(told: Trace, without: PassedOver | None = None) -> Iterator[Frame]:
    """Yields the frames of a trace; what changed nothing is counted in `without`. If the beginning itself breaks
    something, its frame is the only one, and there is no session to show.
    """
    trial, without = begin(told.config, 1, told.facts), without or PassedOver()
    if isinstance(trial, Verdict):
        yield Frame(0, "", "", (), (), (), trial)
        return
    without.begin(trial.step)
    view = shown(lambda: golden.view(trial.session))
    yield Frame(0, "", "", (), view, (False,) * len(view))
    for number, event in enumerate(told.events, 1):
        line, text = program_line(event, trial.session), json_of(event)
        broken = None
        try:
            without.take(number, event, trial.play(event), trial.session)
            without.count()
        except Exception as error:
            broken = verdict_of(error)
        before, view = view, shown(lambda: golden.view(trial.session))
        said = shown(lambda: [] if trial.step is None else golden.step_lines(trial.session, trial.step))
        yield Frame(number, line, text, said, view, changes(before, view), broken)
        if broken is not None:
            return


def shown(make: Callable[[], Iterable[str]]) -> tuple[str, ...]:
    """Returns the lines; or one that says why there are none: a defect may leave a state that cannot be shown."""
    try:
        return tuple(make())
    except Exception as error:
        return (f"cannot be shown: {type(error).__name__}: {error}",)


def changes(before: Sequence[str], after: Sequence[str]) -> tuple[bool, ...]:
    """Returns for each line after whether it has changed. Agents keep their lines, new ones come before the last two; a
    change of alignment, by a new agent's path, does not count."""
    if len(after) < len(before):
        return (True,) * len(after)  # the state cannot be shown
    aligned = [*before[:-2], *[""] * (len(after) - len(before)), *before[-2:]]
    return tuple([old.split() != new.split() for old, new in zip(aligned, after, strict=True)])


# Programs


def program_of(config: SessionConfig, events: Iterable[AnyEvent]) -> list[str]:
    """Returns a scenario as a short program: the fields that differ from the default, then one line for each event."""
    default = SessionConfig(max_concurrent=config.max_concurrent)
    words = ["config"]
    for attribute in attrs.fields(SessionConfig):
        name, value = attribute.name, getattr(config, attribute.name)
        ordinary = attribute.default if name == "max_concurrent" else getattr(default, name)
        if value != ordinary:
            words.append(f"{name}={value.name if isinstance(value, Enum) else json.dumps(value)}")
    lines = [" ".join(words)]
    session = Session(config)
    for event in events:
        lines.append(program_line(event, session))
        try:
            session, _ = lockstep.core_step(session, event)
        except Exception:
            break
    return lines


def program_line(event: AnyEvent, s: Session) -> str:
    """Returns the event as a line; with its JSON behind it, if the line does not say all of it."""
    line = " ".join(script.line_of(event, s).split())
    try:
        said = script.parse(line, s)
    except (script.BadScript, IndexError):
        said = None
    return line if said == event else f"{line}  -- {json_of(event)}"


def json_of(event: AnyEvent) -> str:
    """Returns the event as JSON, as in a trace."""
    return trace.event_line(event).decode().rstrip("\n")


# Printing


def show(path: Path, console: Console) -> int:
    """Prints a trace step by step, and the verdict, as `verify` does. Returns the exit code of the command: 0 if all
    held, 1 if not. Raises `TraceError` before anything is printed.
    """
    (told, is_cut), without = trace.read_what_is_whole(path), PassedOver()
    last: Frame | None = None
    for last in frames(told, without):
        print_frame(last, console)
    assert last is not None, "there is a frame before the first event"
    count = len(told.events)
    if last.broken is not None:
        where = f"broken by event {last.number} of {counted(count)}" if last.number else "the beginning deviates"
        print_line(console, f"{where}: {last.broken}", "bold red")
        return 1
    held = without.held(count)
    if count:
        said = f"{without.said_of(count)}: every property, and the core did what the reference does"
        print_line(console, said, "bold green" if held else "")
    for line in (*without.lines(), *([CUT] if is_cut else [])):
        print_line(console, line)
    print_line(console, without.verdict(count), "bold green" if held else "bold red")
    return 0 if held else 1


def print_frame(frame: Frame, console: Console) -> None:
    """Prints one step: the event twice, its results, the state with `*` at changed lines, and the fault."""
    print_line(console, f"{frame.number}  {frame.line or 'the beginning'}", "bold")
    if frame.json:
        print_line(console, f"   {frame.json}", "dim")
    for line in frame.step:
        print_line(console, f"   {line}", "cyan")
    for line, changed in zip(frame.view, frame.changed, strict=True):
        print_line(console, f"   {'*' if changed else ' '} {line}", "yellow" if changed else "")
    if frame.broken is not None:
        print_line(console, f"   broken: {frame.broken}", "bold red")
    print_line(console, "")


def print_line(console: Console, line: str, style: str = "") -> None:
    """Prints a line without markup or wrapping, as much of it as a person reads."""
    console.print(Text(printable(bounded(line)), style), soft_wrap=True)
