"""The tie between relation and core: in small scopes, exhaustively, both take the same steps.

From each reachable state of a scope, each event of the scope goes to the real core, and the word of transitions that
the event stands for to the relation. Both must accept it or neither, and both must come to the same state. So the
relation allows every step of the core, and the core takes every step that the relation allows, of all that the scope
offers; the word of an event is a function of the event and of the state before.

One thing is the environment's, because the relation does not know what a wait is for: which waits a step ends, because
what they are for has happened, is taken from the step of the core. Given that, the rest is compared.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from attrs import define, field, frozen

from statemachine.core import events as ev
from statemachine.core import refusals as no
from statemachine.core.deadlines import Bound
from statemachine.core.effects import Refused, Stale, Step, WaitEnd, Wake
from statemachine.core.machines import Identity, SessionState, TurnState
from statemachine.core.records import MailAccepted, MailKind, MailRead
from statemachine.core.session import Session

from ..exploration.scopes import Scope, events
from ..exploration.symmetry import digest_of
from ..lockstep import AnyEvent, Restart
from .abstraction import Item, Machine, Value, Word, differences, of_session

SCOPES = (
    *("reject", "wake", "idle", "end", "nested", "bound", "gather", "wide", "anew", "tasks", "circle", "attempts"),
    *("due", "recall", "forget", "drain", "pair"),
)
"""The scopes that are tied, all completely."""

OUTSIDE = (ev.Shutdown, ev.WriteFailed, Restart)
"""Events that the relation does not speak of."""

UNSPOKEN = (
    no.PathTaken,
    no.InvalidName,
    no.InvalidMessage,
    no.InvalidHeaders,
    no.InvalidTimeout,
    no.MailboxFull,
    no.RootRefused,
    no.SelfRefused,
    no.WaitCircle,
    no.UnknownMail,
    no.MailRead,
    no.NotSender,
)
"""Refusals for reasons that the relation does not speak of: names, texts, numbers of mails, circles, and who asks."""

WORKING = (TurnState.RUNNING, TurnState.WAITING, TurnState.RETURNING)
ENDS = (ev.Finished, ev.Failed, ev.Aborted, ev.Died, ev.Tick)


class Untied(AssertionError):
    """Relation and core differ. The message says where."""


@define
class Tie:
    """The result of tying one scope."""

    scope: str
    states: int = 0
    steps: int = 0
    """Steps that both took, to the same state."""
    refused: int = 0
    """Events that both refused."""
    unspoken: int = 0
    """Events outside the relation, and refusals for reasons outside it."""
    conditions: int = 0
    """Waits that the environment ended."""
    one_sided: list[str] = field(factory=list)
    """Where they differ: one line each."""
    fired: Counter[str] = field(factory=Counter)
    seconds: float = 0.0


# Words


def item(agent: int, *names: str, optional: bool = False) -> Item:
    return Item(names, (agent,), optional)


def works(s: Session, agent: int, turn: int) -> bool:
    """Does that turn of the agent work?"""
    return s.agents[agent].status in WORKING and s.agents[agent].turn == turn


def cancelled(s: Session, agent: int) -> Word:
    """The word of an interrupt."""
    status = s.agents[agent].status
    if status in WORKING:
        return (item(agent, "stop"),)
    if status is TurnState.QUEUED:
        return (item(agent, "cancel_queued"),)
    return (item(agent, "cancel_starting"),) if status is TurnState.STARTING else ()


def below(s: Session, agent: int, identity: Identity) -> list[int]:
    """The agent and all below it in this state of identity, the deepest first."""
    return [a.id for a in s.subtree(agent) if a.identity is identity][::-1]


def interrupt(s: Session, e: ev.Interrupt) -> Word | None:
    if not is_open(s, e.target):
        return None
    return subtree(s, e.target) if e.subtree else cancelled(s, e.target)


def subtree(s: Session, target: int) -> Word:
    """All are stopped first; then mail among them wakes no more; then what has not started ends."""
    members = [a for a in s.subtree(target) if a.identity is Identity.OPEN]
    ids = {a.id for a in members}
    stops = [i for a in members if a.status in WORKING for i in cancelled(s, a.id)]
    among = [a.id for a in members for m in a.mailbox if m.kind is MailKind.TRIGGER and m.sender in ids]
    ends = [i for a in members if a.status not in WORKING for i in cancelled(s, a.id)]
    return (*stops, *(item(x, "demote") for x in among), *ends)


def close(s: Session, e: ev.Close) -> Word | None:
    if s.agents[e.target].identity is Identity.FORGOTTEN:
        return None
    return tuple(item(x, "close") for x in below(s, e.target, Identity.OPEN)) if is_open(s, e.target) else ()


def is_open(s: Session, agent: int) -> bool:
    return s.agents[agent].identity is Identity.OPEN


def forgotten(s: Session, e: ev.Forget) -> Word | None:
    if s.agents[e.target].identity is not Identity.CLOSED:
        return None
    return tuple(item(x, "forget") for x in below(s, e.target, Identity.CLOSED))


def wait(e: ev.Wait) -> Word:
    is_choice = not (e.mail or e.targets or e.requests)
    return (item(e.agent, "wait_by_choice" if is_choice else "wait"),)


def stop_waiting(s: Session, e: ev.StopWaiting) -> Word | None:
    if not works(s, e.agent, e.turn):
        return None
    return (wait_over(s, e.wait),) if e.wait in s.waits.of_agent.get(e.agent, ()) else ()


def wait_over(s: Session, number: int) -> Item:
    found = s.waits.pending[number]
    return item(found.agent, "choice_over" if found.is_own_choice else "wait_over")


def is_thread(s: Session, agent: int, generation: int) -> bool:
    return s.agents[agent].generation == generation


def flush(s: Session, e: ev.Flushed | ev.FlushFailed, name: str) -> Word | None:
    current = is_thread(s, e.agent, e.generation) and s.residents.flushes.get(e.agent) == e.flush
    return (item(e.agent, name),) if current else None


LOAD_FAILED = ("load_failed", "load_failed_starting")
DIED = (
    *("died", "load_failed_starting", "died_returned", "died_failed", "died_failed_next", "dropped", "dropped_next"),
)


def of_thread(*names: str) -> Callable[[Session, Any], Word | None]:
    return lambda s, e: (item(e.agent, *names),) if is_thread(s, e.agent, e.generation) else None


def of_turn(*names: str) -> Callable[[Session, Any], Word | None]:
    return lambda s, e: (item(e.agent, *names),) if s.agents[e.agent].turn == e.turn else None


OVERDUE: dict[Bound, tuple[str, ...]] = {
    Bound.LOAD: LOAD_FAILED,
    Bound.FLUSH: ("flush_failed",),
    Bound.STOP: ("dropped", "dropped_next"),
    Bound.TURN: ("stop",),
    Bound.IDLE: ("idle_overdue",),
}


def tick(s: Session, e: ev.Tick) -> Word:
    due = sorted((at, ticket, key) for key, (at, ticket) in s.deadlines.pending.items() if at <= e.now)
    return tuple(item(of, *OVERDUE[bound], optional=True) for _, _, (bound, of) in due if bound in OVERDUE)


def withdraw(s: Session, e: ev.Withdraw) -> Word | None:
    mail = s.ledger.find_unread(e.mail)
    if mail is None:
        return None
    if mail.kind is not MailKind.TRIGGER:
        return ()
    agent = s.agents[mail.target]
    ends = cancelled(s, agent.id) if agent.triggers == 1 and agent.status < TurnState.RUNNING else ()
    return (item(agent.id, "demote"), *ends)


WORDS: dict[type, Callable[[Session, Any], Word | None]] = {
    ev.Spawn: lambda s, e: (Item(("spawn",), (len(s.agents), e.parent)),),
    ev.Send: lambda s, e: () if is_open(s, e.target) else None,
    ev.FollowUp: lambda s, e: (item(e.target, "ask"),),
    ev.Start: lambda s, e: (item(e.target, "ask"),),
    ev.Drain: lambda s, e: (item(e.agent, "drain"),) if s.agents[e.agent].turn == e.turn else None,
    ev.Interrupt: interrupt,
    ev.Close: close,
    ev.Resume: lambda s, e: (item(e.target, "resume"),),
    ev.Forget: forgotten,
    ev.Wait: lambda s, e: wait(e) if works(s, e.agent, e.turn) else None,
    ev.StopWaiting: stop_waiting,
    ev.Withdraw: withdraw,
    ev.Loaded: of_thread("loaded"),
    ev.LoadFailed: of_thread(*LOAD_FAILED),
    ev.Flushed: lambda s, e: flush(s, e, "flushed"),
    ev.FlushFailed: lambda s, e: flush(s, e, "flush_failed"),
    ev.Finished: of_turn("finished", "finished_next"),
    ev.Failed: of_turn("failed", "failed_next"),
    ev.Aborted: of_turn("aborted", "aborted_next"),
    ev.Died: of_thread(*DIED),
    ev.Tick: tick,
}
"""Event class -> its word, None if it cannot happen."""


def conditions(before: Session, event: AnyEvent, step: Step, after: Session) -> list[Item]:
    """The environment's part of a step: the waits that it ended because what they are for has happened, or because
    their time was over, in the order in which they began.
    """
    stalled = {e.wait for e in step.effects if isinstance(e, Wake) and e.end is WaitEnd.STALLED}
    given_up = event.wait if isinstance(event, ev.StopWaiting) else None
    ended: list[Item] = []
    for number, found in before.waits.pending.items():
        a, b = before.agents[found.agent], after.agents[found.agent]
        goes_on = b.status in WORKING and a.turn == b.turn
        if number not in after.waits.pending and goes_on and number not in stalled and number != given_up:
            ended.append(wait_over(before, number))
    if isinstance(event, ev.Wait) and after.waits.last not in after.waits.pending:
        is_choice = not (event.mail or event.targets or event.requests)
        ended.append(item(event.agent, "choice_over" if is_choice else "wait_over"))
    return ended


# One scope


@frozen
class Question:
    """What the relation is asked: in this state, this word."""

    value: Value
    word: Word
    called_back: bool


def tie(scope: Scope, most: int | None = None) -> Tie:
    """Ties the scope: visits every reachable state of it, up to `most`."""
    began = time.perf_counter()
    size = scope.ids + 2
    machine, found = Machine(scope.config, size), Tie(scope.name)
    answers: dict[Question, Value | None] = {}
    first = Session(scope.config)
    line, known = [first], {digest_of(first, scope)}
    for session in line:
        if session.state is not SessionState.OPEN:
            continue
        found.states += 1
        for event in events(scope, session):
            if isinstance(event, OUTSIDE):
                found.unspoken += 1
                continue
            after = session.fork()
            step = after.handle(event)
            compare(machine, answers, found, session, event, step, after, size)
            value = digest_of(after, scope)
            if value not in known and (most is None or len(known) < most):
                known.add(value)
                line.append(after)
        if len(found.one_sided) > 20:
            break
    found.fired.update(machine.fired)
    found.seconds = time.perf_counter() - began
    return found


def compare(
    machine: Machine,
    answers: dict[Question, Value | None],
    found: Tie,
    session: Session,
    event: AnyEvent,
    step: Step,
    after: Session,
    size: int,
) -> None:
    """Compares one step of the core with the relation."""
    reply = step.reply
    if isinstance(reply, Refused) and isinstance(reply.refusal, UNSPOKEN):
        found.unspoken += 1
        return
    word = WORDS[event.__class__](session, event)
    happens = not isinstance(reply, Refused | Stale)
    ended = conditions(session, event, step, after) if happens else []
    found.conditions += len(ended)
    called_back = isinstance(event, ENDS) and any(
        session.agents[i.agents[0]].status is TurnState.WAITING for i in ended
    )
    result: Value | None = None
    start = of_session(session, session, size)
    if word is not None:
        question = Question(start, (*word, *noticed(session, step), *ended), called_back)
        if question not in answers:
            answers[question] = machine.spell(question.value, question.word, called_back)
        result = answers[question]
    if not happens:
        if result is None:
            found.refused += 1
        else:
            found.one_sided.append(f"{event}: the relation allows it, the core says {reply}")
        return
    if result is None:
        found.one_sided.append(f"{event}: the core takes it, the relation does not allow {word}")
        return
    wanted = of_session(after, session, size)
    if result != wanted:
        found.one_sided.append(f"{event}, {[i.names for i in (*(word or ()), *ended)]}: {differences(wanted, result)}")
    else:
        found.steps += 1


def noticed(before: Session, step: Step) -> Iterator[Item]:
    """Notices that ask for a turn, and those that a turn reads because it awaits them: the environment's, too."""
    kinds = {m.mail: m.kind for a in before.agents for m in a.mailbox}
    for record in step.records:
        if isinstance(record, MailAccepted):
            kinds[record.mail] = record.kind
            if record.notice is not None and record.kind is MailKind.TRIGGER:
                yield item(record.target, "notice")
        elif isinstance(record, MailRead):
            for mail in record.mails:
                if kinds[mail] is MailKind.TRIGGER:
                    yield item(record.agent, "demote")
