"""Plays random lives of a session, for those who judge what is left behind. A seed is a life."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from statemachine.core.effects import Step
from statemachine.core.events import Shutdown
from statemachine.core.session import Session

from ..fuzzing import chance
from ..lockstep import AnyEvent, Restart, core_step

EVENTS = 150
"""In one life."""
PLAYS = (chance.ANYTHING, chance.TROUBLE, chance.PLENTY)


def life(rnd: Random, events: int = EVENTS) -> Iterator[tuple[Session, AnyEvent | None, Step | None]]:
    """Yields a session, first as it begins, and then after each event, with its step."""
    s = Session(chance.config_of(rnd.randbytes(chance.CONFIG_BYTES)))
    yield s, None, None
    for _ in range(events):
        event = happening(rnd, s)
        s, step = core_step(s, event)
        yield s, event, step


def happening(rnd: Random, s: Session) -> AnyEvent:
    """Returns what happens next, calamities included."""
    if rnd.random() < 0.02:
        return Restart()
    if s.residents.starting and rnd.random() < 0.01:
        return Shutdown(1.0)
    return chance.event_of(s, rnd.choice(PLAYS), rnd.randbytes(chance.BYTES))
