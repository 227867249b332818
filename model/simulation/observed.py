"""What the code of turns does, seen from outside: which turns work, and which wait for what (S1 by observation).

One task runs at a time here, so what code does between two awaits is one moment. A turn *works* while none of its tasks
waits in the session: then it has a slot, unless it is root's or was asked to stop. `waiting` stands around every wait,
and looks when the code goes on, however it came to that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from statemachine.core.events import ROOT
from statemachine.core.machines import SessionState, TurnState
from statemachine.core.records import Outcome
from statemachine.core.refusals import (
    NotRunning,
    Refusal,
    SessionClosed,
    SessionDraining,
    StoreFailed,
    WaitCircle,
)
from statemachine.runtime import Handle, Turn
from statemachine.runtime.errors import Stalled

from .world import World, keep_outcome

T = TypeVar("T")

WITH_SLOT = (TurnState.STARTING, TurnState.RUNNING)
ENDS_OF_WAITS = (NotRunning, SessionClosed, SessionDraining, Stalled, StoreFailed, WaitCircle)
"""Refusals by which `Handle.outcome` and its like may end in a turn's code."""


@contextmanager
def at_work(world: World, turn: Turn) -> Iterator[None]:
    """The code of the turn runs."""
    world.at_turn.append(turn)
    try:
        yield
    finally:
        world.at_turn.remove(turn)


@contextmanager
def waiting(world: World, turn: Turn, what: str) -> Iterator[None]:
    """One task of the turn waits in the session."""
    wait = (turn, what)
    world.waits.append(wait)
    try:
        yield
    finally:
        world.waits.remove(wait)
        check_slots(world, turn)


def check_slots(world: World, turn: Turn) -> None:
    """Code of the turn goes on: it has a slot, and no more turns work than there are slots (S1)."""
    if has_ended(world):
        return
    session = world.inside.session
    working = [other for other in world.at_turn if works(world, other)]
    if turn in working and session.agents[turn.agent.id].status not in WITH_SLOT:
        status = session.agents[turn.agent.id].status.name
        world.blame(f"S1: {said(turn)} goes on without a slot: it is {status}")
    if len(working) > session.slots.cap:
        world.blame(f"S1: {', '.join(map(said, working))} work at the same time, on {session.slots.cap} slots")


def has_ended(world: World) -> bool:
    """Has the session ended, or is its process dying? Then code goes on as it can."""
    inside = world.inside
    return world.crashed or inside.requests.has_ended or inside.session.state is SessionState.FAILED


def works(world: World, turn: Turn) -> bool:
    """Does the turn need a slot now? Not if its code waits, and not if it is over or to stop: its code may be late."""
    known = world.inside.session.agents[turn.agent.id]
    lasts = known.turn == turn.number and known.status >= TurnState.RUNNING and known.status is not TurnState.STOPPING
    return turn.agent.id != ROOT and lasts and all(waiter is not turn for waiter, _ in world.waits)


def said(turn: Turn) -> str:
    """Which turn it is."""
    return f"turn {turn.number} of {turn.path}"


def unfinished(world: World) -> Iterator[str]:
    """Every turn that lasts, and what its code waits for."""
    for agent in world.inside.session.agents:
        if agent.status.is_idle:
            continue
        code = [turn for turn in world.at_turn if (turn.agent.id, turn.number) == (agent.id, agent.turn)]
        waits = [what for turn, what in world.waits if turn in code]
        what = f"waits for {' and '.join(waits)}" if waits else "waits for nothing" if code else "has no code"
        yield f"turn {agent.turn} of {agent.path} is {agent.status.name} and {what}"


async def awaited(world: World, turn: Turn, what: str, call: Callable[[], Awaitable[T]]) -> T | None:
    """Awaits what is a wait of the turn. None: the session refused the wait, or ended it."""
    try:
        with waiting(world, turn, what):
            return await call()
    except ENDS_OF_WAITS as refusal:
        world.note(f"wait refused {type(refusal).__name__}")
        check_refusal(world, turn, refusal)
        return None


def check_refusal(world: World, turn: Turn, refusal: Refusal) -> None:
    """What ended the wait is so."""
    if has_ended(world):
        return
    session = world.inside.session
    if isinstance(refusal, NotRunning) and works(world, turn):
        world.blame(f"{said(turn)} runs, and its wait ended with {refusal!r}")
    if isinstance(refusal, SessionDraining) and session.state is SessionState.OPEN:
        world.blame(f"a wait of {said(turn)} ended with {refusal!r}, and the session is open")


async def await_outcome(world: World, turn: Turn, handle: Handle) -> Outcome | None:
    """Awaits the outcome in the turn's code."""
    outcome = await awaited(world, turn, f"mail {handle.ref.mail} of {handle.path}", handle.outcome)
    if outcome is not None:
        was_told(world, turn, handle, outcome)
    return outcome


def was_told(world: World, turn: Turn, handle: Handle, outcome: Outcome) -> None:
    """The turn has been told of the outcome by awaiting it. If its agent has asked for it, no mail tells it again."""
    world.note("outcome awaited in a turn")
    keep_outcome(world, handle, outcome)
    mail = world.disk.mails.get(handle.ref.mail)
    if mail is not None and mail.sender == turn.agent.id and not turn.over:
        world.awaited[turn.agent.id, handle.ref.mail] = (turn.agent.id, turn.number)
