"""Who notices when a rule is broken? `defects.py` and `thread_defects.py` have the breaks, specs/breaks.md the answers.

Each break is put into the core and hunted as `make check` does it: scope by scope until something is wrong, and at
last by the fuzz campaigns. Each is hunted twice: with the reference model beside the core, and without it, by the
properties, the fold of the log and the core's own assertions alone. The second answer says what the properties are
worth.

`python -m model.breaks.hunt` prints specs/breaks.md; with `--write` it writes it. That takes two or three minutes,
because what the properties alone do not notice is looked for in thousands of states.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from attrs import evolve, frozen

from statemachine.core.config import Overflow, SessionConfig
from statemachine.core.session import Session

from .. import lockstep, reference
from ..check import FUZZ_EXAMPLES, FUZZ_STEPS
from ..documents.generated import table
from ..exploration import explorer
from ..exploration.explorer import Exploration, explore
from ..exploration.scopes import SCOPES, Scope, find
from ..fuzzing import fuzz
from ..fuzzing.fuzz import FuzzResult
from ..lockstep import AnyEvent, core_step, effects_of, reply_of
from ..scenarios import replay
from ..scenarios.script import line_of
from .defects import Break, Where, put
from .thread_defects import BREAKS

DOCUMENT = Path(__file__).parents[2] / "specs" / "breaks.md"
FUZZ = "fuzz"
FUZZ_SEEDS = (1, 2)
"""Those of `make check` with two processes."""
STATES_MAX, ALONE_STATES_MAX = 50_000, 4_000
"""States to look at in one scope, with the reference (none of the default scopes has so many) and without it."""


@frozen
class Catch:
    """How a break was noticed."""

    place: str
    """A scope, or `fuzz`."""
    by: str
    """A property's id, `recovery`, `refusal`, `crash`, or `lockstep` and what differs."""
    detail: str
    states: int
    """Found before it was; events played, if by the fuzz."""
    lines: tuple[str, ...]
    """The way there, in the language of `script.py`."""


# The hunt


def hunt(a_break: Break | None, with_reference: bool = True, everywhere: bool = True) -> Catch | None:
    """Looks until the break is noticed: where it says first, then in the other scopes of `make check`, then in its
    fuzz campaigns; or only where it says, unless `everywhere`. None: nobody notices."""
    places = [*[scope.name for scope in SCOPES], FUZZ]
    if a_break is not None:
        places = [a_break.place, *[place for place in places if place != a_break.place and everywhere]]
    states_max = STATES_MAX if with_reference else ALONE_STATES_MAX
    with injected(a_break, with_reference):
        return next((found for place in places if (found := look(place, states_max)) is not None), None)


@contextmanager
def injected(a_break: Break | None, with_reference: bool = True) -> Iterator[None]:
    """The core has the defect, and perhaps no reference beside it."""
    with ExitStack() as stack:
        if a_break is not None:
            stack.enter_context(a_break.applied())
        if not with_reference:
            stack.enter_context(without_reference())
        yield


def look(place: str, states_max: int = STATES_MAX) -> Catch | None:
    """One scope, or the fuzz campaigns."""
    if place != FUZZ:
        return look_in(find(place), states_max)
    for seed in FUZZ_SEEDS:
        with TemporaryDirectory() as folder:
            found = fuzz.run(FUZZ_EXAMPLES, FUZZ_STEPS, seed, folder=Path(folder))
        if found.failure is not None:
            return catch_of_fuzz(found)
    return None


def look_in(scope: Scope, states_max: int = STATES_MAX) -> Catch | None:
    """One scope, breadth first."""
    found = explore(scope, max_states=states_max)
    return None if found.fault is None else catch_of(found)


def catch_of(found: Exploration) -> Catch:
    """The fault of an exploration, while the defect is still there."""
    assert found.fault is not None
    fault, lines = found.fault, program(found.scope.config, found.path)
    return Catch(found.scope.name, catcher(fault.kind, fault.detail), fault.detail, found.states, lines)


def catch_of_fuzz(found: FuzzResult) -> Catch:
    """The failure of a fuzz campaign; the first line of its program is the configuration."""
    assert found.failure is not None
    kind, detail = found.failure.kind, found.failure.message
    return Catch(FUZZ, catcher(kind, detail), detail, found.steps, found.failure.program)


def catcher(kind: str, detail: str) -> str:
    """Who noticed. A deviation says what differs: the reply, the effects, the state, or what the log folds to."""
    if kind != "lockstep":
        return kind
    what = detail.partition(":")[0]
    return what if what == "recovery" else f"lockstep, {what}"


def program(config: SessionConfig, events: tuple[AnyEvent, ...]) -> tuple[str, ...]:
    """The events as lines. The last one is only written down, since it may be too much for the core."""
    session, lines = Session(config), []
    for event in events:
        lines.append(line_of(event, session))
        if event is not events[-1]:
            session, _ = core_step(session, event)
    return tuple(lines)


# Without the reference


@contextmanager
def without_reference() -> Iterator[None]:
    """A second copy of the core stands where the reference is, so nothing that is compared can differ."""
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
    """The core's own step, in the reference's terms."""
    after, step = core_step(copy.fork(), event)
    return after, reply_of(step.reply), effects_of(step.effects)


# The document

HEAD = ("break", "what the core does then", "rules", "where", "caught by", "states", "events", "without the reference")
NOBODY = "nobody"

INTRO = f"""\
# Breaks

Generated by `python -m model.breaks.hunt --write`; do not edit it.

What is a check worth that always passes? Here every rule that matters is broken by hand, one at a time
(`model/breaks/defects.py`, `model/breaks/thread_defects.py`), and hunted as `make check` does it. *Caught by* names the
first judge that noticed: a property by its id, *lockstep* if reply, effects or state differ from those of the reference
model, *recovery* if the log does not fold to the facts, *refusal* if what was refused or stale changed something,
*crash* if an assertion of the core failed. *States* is how many had been found by then, *events* is the length of the
trace. The search is breadth first, and judges a step before the state that it leads to, so some traces are one event
longer than the shortest.

The last column is the honest one. There the reference model is left out, and only properties, recovery, refusals and
assertions judge, in the same place: who noticed, after how many states, with how many events. A dash means that nobody
did in {ALONE_STATES_MAX} states, more than any of the scopes has when nothing is broken. No property says in which
order a queue is served, whom a stall wakes, or which effects a step has, and most of the dashes are about that. `fuzz`
is the campaign of random lives in `make check`, for what no scope shows; its traces are shrunk, and it counts no
states.
"""

EXAMPLES: tuple[tuple[str, str, bool, dict[str, Any], str], ...] = (
    (
        *("seed-rule", "The seed rule", False),
        {"interrupts": False, "config": evolve(find("pair").config, overflow=Overflow.REJECT)},
        """\
"Unloadable only with no pending mailbox work", read literally. There is one slot and one residency slot. Agent a is
idle, and the mail in its mailbox wakes nobody, so nobody will ever read it; nothing runs, and yet b cannot come in. The
scope is `pair` with `overflow=REJECT` and without interrupts, the reference is left out.""",
    ),
    (
        *("seed-rule", "The seed rule, shorter", True, {}),
        """\
All of `pair`. An interrupt before the turn starts leaves the first mail unread, so nobody has to send another; b queues
from the beginning.""",
    ),
    (
        *("seed-rule-waits", "The seed rule, when the turn waits", False, {"interrupts": False}),
        "Now b's turn waits for a victim instead of ending. Nothing is in flight, so it waits for ever.",
    ),
    ("stall", "Everybody waits", False, {}, "J7 left out, and the reference: a waits for mail that b would send."),
    (
        *("no-way-back", "No way back", True, {}),
        "J6 left out: a gets a slot while it is on its way out for b, whose turn is interrupted.",
    ),
)
"""(break, title, with the reference?, what is different in its scope, what to say of it)."""


def cells(a_break: Break, found: Catch | None, alone: Catch | None) -> tuple[str, ...]:
    """The row of a break."""
    last = "-" if alone is None else f"{alone.by} ({alone.states}, {length(alone)})"
    if alone is not None and alone.place == FUZZ:
        last = f"{alone.by} ({length(alone)})"
    first = (f"`{a_break.id}`", a_break.sentence, a_break.rules)
    if found is None:
        return (*first, "-", NOBODY, "-", "-", last)
    states = "-" if found.place == FUZZ else str(found.states)
    return (*first, found.place, found.by, states, str(length(found)), last)


def length(found: Catch) -> int:
    """Events of the trace."""
    return len(found.lines) - (found.place == FUZZ)


def example(name: str, title: str, with_reference: bool, narrower: dict[str, Any], note: str) -> str:
    """One trace in full, with the verdict."""
    a_break = next(known for known in BREAKS if known.id == name)
    scope = evolve(find(a_break.place), **narrower)
    with injected(a_break, with_reference):
        found = look_in(scope)
    assert found is not None, f"{name} goes unnoticed in scope {scope.name}"
    lines = "".join(f"{line}\n" for line in found.lines)
    return f"## {title}\n\n`{name}`: {a_break.sentence}.\n\n{note}\n\n```\n{lines}```\n\n{found.by}: `{found.detail}`\n"


def document(rows: list[tuple[str, ...]]) -> str:
    """specs/breaks.md."""
    caught = [row for row in rows if row[4] != NOBODY]
    fuzzed = [row for row in caught if row[3] == FUZZ]
    alone = [row for row in rows if row[7] != "-"]
    count = (
        f"{len(rows)} breaks: {len(caught)} are caught, {len(caught) - len(fuzzed)} of them by exploring and "
        f"{len(fuzzed)} by the fuzz; {len(alone)} are caught without the reference.\n"
    )
    unseen = ", ".join(row[0] for row in rows if row[4] == NOBODY)
    if unseen:
        count += f"Nobody catches {unseen}: neither scopes nor fuzz play the event that would show it; tests do.\n"
    traces = "\n".join(example(*each) for each in EXAMPLES)
    return f"{INTRO}\n{count}\n{table(HEAD, rows)}\n# Some of the traces\n\n{traces}"


def main(arguments: list[str]) -> int:
    """The command."""
    if arguments not in ([], ["--write"]):
        print("usage: python -m model.breaks.hunt [--write]", file=sys.stderr)
        return 2
    rows = []
    for a_break in BREAKS:
        found = hunt(a_break)
        alone = None if found is None else hunt(a_break, with_reference=False, everywhere=False)
        rows.append(cells(a_break, found, alone))
        print(*rows[-1], sep=" | ", file=sys.stderr)
    text = document(rows)
    if arguments:
        DOCUMENT.write_text(text, encoding="utf-8", newline="\n")
    else:
        print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
