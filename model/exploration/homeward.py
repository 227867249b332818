"""Checks L7, no dead end: from a state at rest, threads that answer get every open agent to a turn.

That any other state comes to rest if threads answer is seen from all states together (`explorer.never_home`). A turn
that waits for something answers only when that has come: so a state in which turns can only wait for each other counts
as one at rest, and is found to be a dead end.
"""

from __future__ import annotations

from collections.abc import Iterator

from statemachine.checking.properties import PROPERTIES, PropertyViolation
from statemachine.core import events as ev
from statemachine.core.agents import Agent
from statemachine.core.deadlines import Bound
from statemachine.core.effects import Refused, Reply
from statemachine.core.machines import Identity, TurnState
from statemachine.core.refusals import MailboxFull
from statemachine.core.session import Session

from ..lockstep import AnyEvent

L7 = next(known for known in PROPERTIES if known.id == "L7")

ANSWERS_EACH = 8
"""Answers that an agent gets there in, for each agent that there is: loads, flushes, and turns before its own."""


def is_answer(session: Session, event: AnyEvent) -> bool:
    """Is this a thread that does what it was asked, or the code of a turn that goes on with what it may?"""
    if isinstance(event, ev.Finished):
        return may_finish(session, session.agents[event.agent])
    if isinstance(event, ev.StopWaiting):
        return event.wait in session.waits.pending and session.waits.pending[event.wait].is_own_choice
    return event.__class__ in (ev.Loaded, ev.Flushed, ev.Aborted)


def may_finish(s: Session, agent: Agent) -> bool:
    """Has the turn a slot, and nothing to wait for?"""
    return agent.status is TurnState.RUNNING and agent.id not in s.waits.of_agent


def drive_home(session: Session) -> None:
    """L7 in a state at rest: every open agent gets to a turn that waits for nothing, if threads answer."""
    if session.state.name != "OPEN" or session.config.execution_cap == 0:
        return
    for agent in session.agents:
        if agent.identity is not Identity.OPEN or may_finish(session, agent):
            continue
        trial = session.fork()
        event = ev.FollowUp(ev.HOST, agent.id, "drive")
        reply = trial.handle(event).reply
        if (
            is_full(reply) and agent.status.is_idle and agent.id != ev.ROOT
        ):  # of mail demoted from trigger: it is closed, and opened again
            trial.handle(ev.Close(ev.HOST, agent.id))
            trial.handle(ev.Resume(ev.HOST, agent.id))
            reply = trial.handle(event).reply
        for _ in range(ANSWERS_EACH * len(trial.agents)):
            answer = next(answers_of(trial), None)
            if answer is None or may_finish(trial, trial.agents[agent.id]):
                break
            trial.handle(answer)
        if not may_finish(trial, trial.agents[agent.id]):
            raise PropertyViolation(L7, f"agent {agent.id} gets no turn any more: {reply}")


def is_full(reply: Reply) -> bool:
    """Tells whether the operation was refused because a mailbox is full."""
    return isinstance(reply, Refused) and isinstance(reply.refusal, MailboxFull)


def answers_of(s: Session) -> Iterator[ev.Event]:
    """What the threads owe, then what turns do that wait by their own choice; and where there is nothing else, the
    first timeout of a wait.
    """
    for a in s.agents:
        if a.id in s.residents.loading:
            yield ev.Loaded(a.id, a.generation)
        if a.id in s.residents.flushes:
            yield ev.Flushed(a.id, a.generation, s.residents.flushes[a.id])
        if may_finish(s, a):
            yield ev.Finished(a.id, a.turn, "r")
        if a.status is TurnState.STOPPING:
            yield ev.Aborted(a.id, a.turn)
    for wait in s.waits.pending.values():
        if wait.is_own_choice:
            yield ev.StopWaiting(wait.agent, s.agents[wait.agent].turn, wait.number)
    due = [at for (bound, _), (at, _) in s.deadlines.pending.items() if bound is Bound.WAIT]
    if due:
        yield ev.Tick(min(due))
