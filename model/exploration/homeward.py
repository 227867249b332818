"""Checks L7, no dead end: from a state at rest, threads that answer get every open agent to a turn.

That every other state comes to rest if threads answer is checked over all states together (`explorer.never_home`).
"""

from __future__ import annotations

from collections.abc import Iterator

from statemachine.checking.properties import PROPERTIES, PropertyViolation
from statemachine.core import events as ev
from statemachine.core.effects import Refused, Reply
from statemachine.core.machines import Identity, TurnState
from statemachine.core.refusals import MailboxFull
from statemachine.core.session import Session

from ..lockstep import AnyEvent

L7 = next(known for known in PROPERTIES if known.id == "L7")


def is_answer(event: AnyEvent) -> bool:
    """Tells whether this is the report of a thread that did what it was asked."""
    return event.__class__ in (ev.Loaded, ev.Flushed, ev.Finished, ev.Aborted)


def drive_home(session: Session) -> None:
    """Checks L7 in a state at rest: every open agent gets to a turn, if threads answer. Raises `PropertyViolation`."""
    if session.state.name != "OPEN" or session.config.execution_cap == 0:
        return
    for agent in session.agents:
        if agent.identity is not Identity.OPEN or agent.status is TurnState.RUNNING:
            continue
        trial = session.fork()
        event = ev.FollowUp(ev.HOST, agent.id, "drive")
        reply = trial.handle(event).reply
        if is_full(reply) and agent.id != ev.ROOT:  # of mail demoted from trigger: it is closed, and opened again
            trial.handle(ev.Close(ev.HOST, agent.id))
            trial.handle(ev.Resume(ev.HOST, agent.id))
            reply = trial.handle(event).reply
        for _ in range(4 * len(trial.agents)):
            answer = next(answers_of(trial), None)
            if answer is None or trial.agents[agent.id].status is TurnState.RUNNING:
                break
            trial.handle(answer)
        if trial.agents[agent.id].status is not TurnState.RUNNING:
            raise PropertyViolation(L7, f"agent {agent.id} gets no turn any more: {reply}")


def is_full(reply: Reply) -> bool:
    """Tells whether the operation was refused because a mailbox is full."""
    return isinstance(reply, Refused) and isinstance(reply.refusal, MailboxFull)


def answers_of(s: Session) -> Iterator[ev.Event]:
    """Yields the reports that threads owe."""
    for a in s.agents:
        if a.id in s.residents.loading:
            yield ev.Loaded(a.id, a.generation)
        if a.id in s.residents.flushes:
            yield ev.Flushed(a.id, a.generation, s.residents.flushes[a.id])
        if a.status is TurnState.RUNNING:
            yield ev.Finished(a.id, a.turn, "r")
        if a.status is TurnState.STOPPING:
            yield ev.Aborted(a.id, a.turn)
