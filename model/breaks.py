"""Who notices when a rule is broken? (`defects.py` and `thread_defects.py` have the breaks, specs/breaks.md the answers)

Each break is put into the core and hunted with the explorer, as `make check` does it: scope by scope, until something
is wrong. Each is hunted twice: with the reference model beside the core, and without it, by the properties, the fold
of the log and the core's own assertions alone. The second answer says what the properties are worth.

`python -m model.breaks` hunts every break and prints specs/breaks.md; with `--write` it writes it. That takes some
minutes, because what the properties alone do not notice is looked for in every scope.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from attrs import frozen

from model import explorer, lockstep, reference
from model.defects import Break, Place, put
from model.explorer import Exploration, explore
from model.lockstep import AnyEvent, core_step, effects_of, reply_of
from model.scopes import SCOPES, Scope, find
from model.script import line_of
from statemachine.config import SessionConfig
from statemachine.session import Session


@frozen
class Catch:
    """How a break was noticed."""

    scope: str
    kind: str
    """A property's id, `lockstep`, `recovery`, `refusal` or `crash`."""
    detail: str
    states: int
    """Found before it was."""
    lines: tuple[str, ...]
    """The way there, in the language of `script.py`."""

    @property
    def by(self) -> str:
        """The catcher; of the lockstep, also what differs."""
        return f"lockstep, {self.detail.partition(':')[0]}" if self.kind == "lockstep" else self.kind


def hunt(a_break: Break | None, with_reference: bool = True, scopes: tuple[Scope, ...] = ()) -> Catch | None:
    """Explores until the break is noticed: in its own scope first, then in the others of `make check`; or only in
    `scopes`. None: nobody notices."""
    with ExitStack() as stack:
        if a_break is not None:
            stack.enter_context(a_break.applied())
            scopes = scopes or (find(a_break.scope), *[s for s in SCOPES if s.name != a_break.scope])
        if not with_reference:
            stack.enter_context(without_reference())
        for scope in scopes or SCOPES:
            found = explore(scope)
            if found.fault is not None:
                return catch_of(found)
            assert found.closed
    return None


def catch_of(found: Exploration) -> Catch:
    """The fault that was found, while the break is still in."""
    assert found.fault is not None
    fault, lines = found.fault, program(found.scope.config, found.path)
    return Catch(found.scope.name, fault.kind, fault.detail, found.states, lines)


def program(config: SessionConfig, events: tuple[AnyEvent, ...]) -> tuple[str, ...]:
    """The events as lines; the last may be too much for the core."""
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
    stand_ins: tuple[tuple[Place, Any], ...] = (
        ((lockstep, "start"), lambda config: (Session(config), Session(config))),
        ((lockstep, "TRANSLATE"), dict.fromkeys(lockstep.TRANSLATE, lambda event: event)),
        ((reference, "step"), step_of_copy),
        ((explorer, "compare_states"), lambda *_: None),
    )
    with ExitStack() as stack:
        for place, stand_in in stand_ins:
            stack.enter_context(put(place, stand_in))
        yield


def step_of_copy(copy: Session, event: AnyEvent) -> tuple[Session, tuple[Any, ...], list[tuple[Any, ...]]]:
    """The core's own step, in the reference's terms."""
    after, step = core_step(copy.fork(), event)
    return after, reply_of(step.reply), effects_of(step.effects)
