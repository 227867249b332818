"""Who notices when a rule is broken? `catalogue.py` has the breaks, specs/breaks.md the answers.

Each break is put into the core and hunted as `make check` does it: scope by scope until something fails, then by the
fuzz campaigns. Each is hunted twice: with the reference model beside the core, and without it, by the properties, the
fold of the log and the core's own assertions alone. The second result shows what the properties are worth.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from attrs import frozen

from statemachine.core.config import SessionConfig
from statemachine.core.session import Session

from .. import lockstep, reference
from ..check import FUZZ_EXAMPLES, FUZZ_STEPS
from ..exploration import explorer
from ..exploration.explorer import Exploration, explore
from ..exploration.scopes import SCOPES, Scope, find
from ..fuzzing import fuzz
from ..fuzzing.fuzz import FuzzResult
from ..lockstep import AnyEvent, core_step, effects_of, reply_of
from ..scenarios import replay
from ..scenarios.script import line_of
from .defects import Break, Where, put

FUZZ = "fuzz"
FUZZ_SEEDS = (1, 2)
"""The seeds of `make check` with two processes."""
STATES_MAX, ALONE_STATES_MAX = 50_000, 4_000
"""Most states to visit in one scope, with the reference (no default scope has so many) and without it."""


@frozen
class Catch:
    """How a break was noticed."""

    place: str
    """A scope, or `fuzz`."""
    by: str
    """A property's id, `recovery`, `refusal`, `crash`, or `lockstep` and what differs."""
    detail: str
    states: int
    """Number of states found before; of events played, if the fuzz noticed."""
    lines: tuple[str, ...]
    """The path to it, in the language of `script.py`."""


# The hunt


def hunt(a_break: Break | None, with_reference: bool = True, everywhere: bool = True) -> Catch | None:
    """Searches until the break is noticed: first in its own place, then, if `everywhere`, in the other scopes of `make
    check` and in its fuzz campaigns. Returns None if nothing notices it."""
    places = [*[scope.name for scope in SCOPES], FUZZ]
    if a_break is not None:
        places = [a_break.place, *[place for place in places if place != a_break.place and everywhere]]
    states_max = STATES_MAX if with_reference else ALONE_STATES_MAX
    with injected(a_break, with_reference):
        return next((found for place in places if (found := look(place, states_max)) is not None), None)


@contextmanager
def injected(a_break: Break | None, with_reference: bool = True) -> Iterator[None]:
    """Gives the core the defect within the block, and leaves out the reference unless `with_reference`."""
    with ExitStack() as stack:
        if a_break is not None:
            stack.enter_context(a_break.applied())
        if not with_reference:
            stack.enter_context(without_reference())
        yield


def look(place: str, states_max: int = STATES_MAX) -> Catch | None:
    """Searches one scope, or the fuzz campaigns. Returns what noticed, or None."""
    if place != FUZZ:
        return look_in(find(place), states_max)
    for seed in FUZZ_SEEDS:
        with TemporaryDirectory() as folder:
            found = fuzz.run(FUZZ_EXAMPLES, FUZZ_STEPS, seed, folder=Path(folder))
        if found.failure is not None:
            return catch_of_fuzz(found)
    return None


def look_in(scope: Scope, states_max: int = STATES_MAX) -> Catch | None:
    """Searches one scope, breadth first, as `make check` does."""
    found = explore(scope, max_states=states_max, probes=scope.probed)
    return None if found.fault is None else catch_of(found)


def catch_of(found: Exploration) -> Catch:
    """Returns the fault of an exploration. Call it while the defect is still in the core."""
    assert found.fault is not None
    fault, lines = found.fault, program(found.scope.config, found.path)
    return Catch(found.scope.name, catcher(fault.kind, fault.detail), fault.detail, found.states, lines)


def catch_of_fuzz(found: FuzzResult) -> Catch:
    """Returns the failure of a fuzz campaign; the first line of its program is the configuration."""
    assert found.failure is not None
    kind, detail = found.failure.kind, found.failure.message
    return Catch(FUZZ, catcher(kind, detail), detail, found.steps, found.failure.program)


def catcher(kind: str, detail: str) -> str:
    """Returns which check noticed. A deviation says what differs: reply, effects, state, or the fold of the log."""
    if kind != "lockstep":
        return kind
    what = detail.partition(":")[0]
    return what if what == "recovery" else f"lockstep, {what}"


def program(config: SessionConfig, events: tuple[AnyEvent, ...]) -> tuple[str, ...]:
    """Returns the events as lines. The last one is not played, since the core may fail on it."""
    session, lines = Session(config), []
    for event in events:
        lines.append(line_of(event, session))
        if event is not events[-1]:
            session, _ = core_step(session, event)
    return tuple(lines)


# Without the reference


@contextmanager
def without_reference() -> Iterator[None]:
    """Puts a second copy of the core in place of the reference, so that no comparison can differ."""
    stand_ins: tuple[tuple[Where, Any], ...] = (
        ((lockstep, "start"), lambda config: (Session(config), Session(config))),
        ((lockstep, "TRANSLATE"), dict.fromkeys(lockstep.TRANSLATE, lambda event: event)),
        ((reference, "step"), step_of_copy),
        ((replay, "REFERENCE_STEP"), step_of_copy),
        ((explorer, "compare_states"), lambda *_: None),
        ((explorer, "of_world"), lambda _: None),
        ((lockstep, "compare_states"), lambda *_: None),
    )
    with ExitStack() as stack:
        for where, stand_in in stand_ins:
            stack.enter_context(put(where, stand_in))
        yield


def step_of_copy(copy: Session, event: AnyEvent) -> tuple[Session, tuple[Any, ...], list[tuple[Any, ...]]]:
    """Returns the copy's step in the reference's terms."""
    after, step = core_step(copy.fork(), event)
    return after, reply_of(step.reply), effects_of(step.effects)
