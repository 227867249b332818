"""Checks the properties of one step: what it may change, given the state before (semantics.md section 6).

Each returns None, or what is wrong. `properties.py` gives them their names.
"""

# pyright does not know the type of a list's item if the index is a fact of type Any.
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from statemachine.checking import face
from statemachine.checking.causes import wrong_cause
from statemachine.checking.moment import Moment
from statemachine.core import refusals as rf
from statemachine.core import rules
from statemachine.core.agents import Agent
from statemachine.core.config import Notice, SessionConfig
from statemachine.core.effects import Answer, Cancel, Load, Refused, Reply, Stale, StartTurn, WaitEnd, Wake
from statemachine.core.events import (
    HOST,
    ROOT,
    Aborted,
    Close,
    Died,
    Event,
    Failed,
    Finished,
    Flushed,
    FlushFailed,
    Interrupt,
    Loaded,
    LoadFailed,
    Spawn,
    Tick,
)
from statemachine.core.machines import Identity, Residency, SessionState, TurnState
from statemachine.core.records import (
    AgentsClosed,
    AgentSpawned,
    Cause,
    MailAccepted,
    MailDemoted,
    MailDrained,
    MailRead,
    MailWithdrawn,
    NoticeBuried,
    Outcome,
    TurnEnded,
    TurnReturned,
    TurnStarted,
)
from statemachine.core.residency import NO_AGENT
from statemachine.core.session import Session

FORGOTTEN = Identity.FORGOTTEN
OPEN, LIVING = Identity.OPEN, (SessionState.OPEN, SessionState.DRAINING)
RUNNING, STOPPING, INTERRUPTED = TurnState.RUNNING, TurnState.STOPPING, TurnState.INTERRUPTED
WAITING, RETURNING = TurnState.WAITING, TurnState.RETURNING
WORKING = (RUNNING, WAITING, RETURNING)
ENDS = Finished | Failed | Aborted
STARTED, NOT_STARTED = (*WORKING, STOPPING), (TurnState.QUEUED, TurnState.STARTING)
LOADING, UNLOADING, UNLOADED = Residency.LOADING, Residency.UNLOADING, Residency.UNLOADED
"""Members that are read in every step; reading one from its class takes 0.1 us in Python 3.11."""


def s4_single(m: Moment) -> str | None:
    starts = [e.agent for e in m.of_kind(StartTurn)]
    if len(starts) > 1 and len(starts) != len(set(starts)):
        return f"two turns of one agent start in one step: {starts}"
    for e in m.of_kind(Load):
        assert m.before is not None
        before = m.before.agent(e.agent)
        if before is not None and e.generation <= before.generation:
            return f"agent {e.agent} is loaded as generation {e.generation} again"
    return None


def s5_mail(m: Moment) -> str | None:
    return overfull(m) or reordered(m)


def overfull(m: Moment) -> str | None:
    """A mailbox that exceeds its limit, and more so than before. One that a returned turn's mail, or a smaller limit,
    has filled above it takes nothing more.
    """
    assert m.before is not None
    most = m.config.max_unread
    for a in m.agents:
        owned = len(a.mailbox) + a.promised
        if owned > most and not any(r.agent == a.id for r in m.of_kind(TurnReturned)):
            before = m.before.agent(a.id)
            if before is None or owned > len(before.mailbox) + before.promised:
                return f"agent {a.id}: {len(a.mailbox)} unread, {a.promised} promised, the most is {most}"
    return None


def reordered(m: Moment) -> str | None:
    """A mailbox that has lost mail that was not read or withdrawn, or its order."""
    changed = [(before, after) for before, after in m.changed() if before.mailbox is not after.mailbox]
    if not changed:
        return None
    emptied = {r.agent for r in m.of_kind(TurnStarted)} | {r.agent for r in m.of_kind(MailDrained)}
    for closed in m.of_kind(AgentsClosed):
        emptied.update(closed.agents)
    taken = {number for r in m.of_kind(MailRead) for number in r.mails} | {r.mail for r in m.of_kind(MailWithdrawn)}
    returned = {r.agent for r in m.of_kind(TurnReturned)}
    new = m.of_kind(MailAccepted)
    for before, after in changed:
        mine = [r.mail for r in new if r.target == before.id]
        numbers = [mail.mail for mail in after.mailbox]
        known = [mail.mail for mail in before.mailbox]
        if before.id in returned:
            known = sorted([*known, *[mail.mail for mail in before.taken]])
        if before.id in emptied:
            if any(number in numbers for number in known if before.id not in returned):
                return f"agent {before.id} has read only part of its mail"
        elif numbers != [number for number in known + mine if number not in taken]:
            return f"agent {before.id} had mail {known}, got {mine}, has {numbers}"
    return None


def s6_durable(m: Moment) -> str | None:
    left = [b for b, a in m.changed() if b.residency is UNLOADING and a.residency is UNLOADED]
    closed = {agent for r in m.of_kind(AgentsClosed) for agent in r.agents} if left else ()
    for before in left:
        reported = isinstance(m.event, Flushed | Died) and m.event.agent == before.id
        if not reported and before.id not in closed and m.after.state is not SessionState.CLOSED:
            return f"agent {before.id} is unloaded, and no report said that its rollout is durable"
    return face.s6_dropped(m)


def s8_status(m: Moment) -> str | None:
    changed = m.changed()
    ended = [r.outcome.agent for r in m.of_kind(TurnEnded)] if changed else []
    for before, after in changed:
        if after.identity is FORGOTTEN:
            continue
        if before.outcome is not after.outcome and before.outcome != after.outcome and before.id not in ended:
            return f"agent {before.id} has another outcome, and no turn of it ended"
        if before.status.is_idle and before.status is not after.status and before.id not in ended:
            asked = after.triggers > 0 or any(r.agent == before.id for r in m.of_kind(TurnStarted))
            if after.status.is_idle or not asked:
                return f"agent {before.id} was {before.status.name}, is {after.status.name}, and no event asked for it"
    return wrong_cause(m) or face.s8_told(m)


def s9_stale(m: Moment) -> str | None:
    assert m.before is not None
    assert m.step is not None
    current = is_current(m.before, m.event)
    is_stale = m.step.reply.__class__ is Stale
    if not current and not is_stale:
        return f"{m.event} is not about a current thread, turn or flush, and was accepted"
    if is_stale and (m.step.records or m.step.effects or not m.is_unchanged()):
        return f"{m.event} was stale, and changed something"
    return None


def is_current(s: Session, event: Event | None) -> bool:
    """Tells whether a report is about the current thread, turn and flush. True for an event that is not a report."""
    judge = CURRENT.get(event.__class__)
    if judge is None:
        return True
    agent = s.agent(event.agent)  # type: ignore[union-attr]
    return agent is not None and s.state in LIVING and judge(s, agent, event)


def _is_loading(_: Session, a: Agent, event: Any) -> bool:
    return bool(event.generation == a.generation and a.residency is LOADING)


def _is_present(_: Session, a: Agent, event: Any) -> bool:
    return bool(event.generation == a.generation and a.residency is not UNLOADED)


def _is_flushed(s: Session, a: Agent, event: Any) -> bool:
    return bool(event.generation == a.generation and s.residents.flushes.get(a.id) == event.flush)


def _has_started(_: Session, a: Agent, event: Any) -> bool:
    return bool(event.turn == a.turn and a.status in STARTED)


def _is_stopping(_: Session, a: Agent, event: Any) -> bool:
    return bool(event.turn == a.turn and a.status is STOPPING)


CURRENT: dict[type, Callable[[Session, Agent, Any], bool]] = {
    Loaded: _is_loading,
    LoadFailed: _is_loading,
    Died: _is_present,
    Flushed: _is_flushed,
    FlushFailed: _is_flushed,
    Finished: _has_started,
    Failed: _has_started,
    Aborted: _is_stopping,
}
"""Report -> whether it is about the current thread, turn or flush."""


def s10_scope(m: Moment) -> str | None:
    assert m.before is not None
    assert m.step is not None
    if m.step.reply.__class__ is Refused:
        return None
    closed = [agent for r in m.of_kind(AgentsClosed) for agent in r.agents]
    if closed != (expected := due_to_close(m.before, m.event, m.step.reply)):
        return f"{closed} were closed, {expected} should be"
    if isinstance(m.event, Interrupt):
        return interrupt_scope(m, m.before, m.event)
    return face.s10_reopened(m)


def interrupt_scope(m: Moment, s: Session, event: Interrupt) -> str | None:
    """The agents that an interrupt touches: its target, or that and all below."""
    touched = {r.outcome.agent for r in m.of_kind(TurnEnded) if r.outcome.status is INTERRUPTED}
    touched |= {e.agent for e in m.of_kind(Cancel)}
    due = {a.id for a in s.subtree(event.target) if a.identity is OPEN} if event.subtree else {event.target}
    if touched - due:
        return f"the interrupt of {event.target} touched {sorted(touched)}"
    for agent in due:
        before, after = s.agents[agent], m.after.agents[agent]
        if before.status in NOT_STARTED and (after.status is not INTERRUPTED or after.triggers):
            return f"agent {before.id} had not started, and is {after.status.name} with {after.triggers} triggers"
        if before.status in WORKING and after.status is not STOPPING:
            return f"agent {before.id} was {before.status.name}, and is {after.status.name}"
    return None


def due_to_close(s: Session, event: Event | None, reply: Reply) -> list[int]:
    """Returns the agents that this event has to close: the open subtree of a close; with LIVE_THREADS, of a death."""
    top = None
    if isinstance(event, Close):
        top = event.target
    elif isinstance(event, Died) and s.live_threads and event.agent != ROOT and reply.__class__ is not Stale:
        top = event.agent
    if top is None or s.agents[top].identity is not OPEN:
        return []
    return [a.id for a in s.subtree(top) if a.identity is OPEN]


def s11_settings(m: Moment) -> str | None:
    for r in m.of_kind(AgentSpawned):
        if isinstance(m.event, Spawn) and r.settings != m.event.settings:
            return f"agent {r.agent} was spawned with other settings"
    for before, after in m.changed():
        is_same = before.settings is after.settings or before.settings == after.settings
        if not is_same and after.identity is not FORGOTTEN:
            return f"the settings of agent {before.id} changed"
    wrong = [e.agent for e in m.of_kind(Load) if e.settings != m.after.agents[e.agent].settings]
    return f"{wrong} are loaded with other settings than their own" if wrong else None


def _held(s: Session) -> tuple[int, ...]:
    if s.live_threads:
        return tuple([a.id for a in s.agents[1:] if a.identity is OPEN])
    holding = (TurnState.STARTING, RUNNING, STOPPING)
    return tuple([a.id for a in s.agents[1:] if a.status in holding and a.id not in s.slots.lent])


def _is_open(s: Session, agent: int) -> bool:
    return 0 <= agent < len(s.agents) and s.agents[agent].identity is OPEN


def _never_accepted(s: Session, r: rf.UnknownMail) -> bool:
    return not 0 <= r.mail < sum(s.ledger.mail_states)


def _full_mailbox(s: Session, r: rf.MailboxFull) -> bool:
    a = s.agents[r.agent]
    return (len(a.mailbox), a.promised) == (r.unread, r.promised) and r.unread + r.promised >= s.config.max_unread - 1


TRUE: dict[type[rf.Refusal], Callable[[Session, Any], bool]] = {
    rf.UnknownAgent: lambda s, r: not 0 <= r.agent < len(s.agents) or s.agents[r.agent].identity is FORGOTTEN,
    rf.AgentClosed: lambda s, r: 0 <= r.agent < len(s.agents) and s.agents[r.agent].identity is Identity.CLOSED,
    rf.AgentOpen: lambda s, r: _is_open(s, r.agent),
    rf.PathTaken: lambda s, r: _is_open(s, r.holder) and s.agents[r.holder].path == r.path,
    rf.DepthExceeded: lambda s, r: r.depth > r.max_depth == s.config.max_depth,
    rf.TooManyAgents: lambda s, r: sum(a.identity is OPEN for a in s.agents[1:]) >= r.max_agents == s.config.max_agents,
    rf.ExecutionFull: lambda s, r: r.holders == _held(s) and len(r.holders) == r.cap == s.config.execution_cap,
    rf.LiveThreadsFull: lambda s, r: r.holders == _held(s) and len(r.holders) == r.cap == s.config.execution_cap,
    rf.QueueFull: lambda s, r: (
        r.queued == tuple(s.slots.ready) and len(r.queued) >= r.max_queued == s.config.max_queued
    ),
    rf.MailboxFull: _full_mailbox,
    rf.NotRunning: lambda s, r: s.agents[r.agent].status not in WORKING or s.agents[r.agent].turn != r.turn,
    rf.UnknownMail: _never_accepted,
    rf.MailRead: lambda s, r: all(m.mail != r.mail for a in s.agents for m in a.mailbox),
    rf.NotSender: lambda s, r: any(m.mail == r.mail for a in s.agents for m in a.mailbox),
    rf.WaitCircle: lambda s, r: len(r.agents) > 0 and all(s.agents[a].status in WORKING for a in r.agents),
    rf.SessionDraining: lambda s, _: s.state is SessionState.DRAINING,
    rf.SessionClosed: lambda s, _: s.state is SessionState.CLOSED,
    rf.StoreFailed: lambda s, _: s.state is SessionState.FAILED,
}
"""Refusal -> whether its facts are true of the session. Facts about the operation alone are left to the tests."""


ABOUT_ONE = (rf.AgentClosed, rf.AgentOpen, rf.MailboxFull, rf.SelfRefused, rf.NotRunning)
"""Refusals that name an agent, with its path beside it."""


def _paths(refusal: rf.Refusal) -> Iterable[tuple[int, str]]:
    """Returns the agents that a refusal names, each with the path beside it."""
    if isinstance(refusal, ABOUT_ONE):
        return [(refusal.agent, refusal.path)]
    if isinstance(refusal, rf.ExecutionFull | rf.LiveThreadsFull):
        return zip(refusal.holders, refusal.paths, strict=True)
    if isinstance(refusal, rf.WaitCircle):
        return zip(refusal.agents, refusal.paths, strict=True)
    return zip(refusal.queued, refusal.paths, strict=True) if isinstance(refusal, rf.QueueFull) else ()


def s12_refusals(m: Moment) -> str | None:
    assert m.before is not None
    assert m.step is not None
    if not isinstance(m.step.reply, Refused):
        return None
    refusal = m.step.reply.refusal
    is_true = TRUE.get(type(refusal))
    if is_true is not None and not is_true(m.before, refusal):
        return f"refused with {refusal.facts}, which is not so"
    for agent, path in _paths(refusal):
        if m.before.agents[agent].path != path:
            return f"refused with {refusal.facts}, and agent {agent} is not at {path}"
    if m.step.records or m.step.effects or not m.is_unchanged():
        return f"{m.event} was refused, and changed something"
    return None


def asked_by(mails: tuple[MailAccepted, ...]) -> tuple[MailAccepted, ...]:
    """The requests among these mails."""
    return tuple([mail for mail in mails if mail.kind and mail.notice is None])


def l8_stalled(m: Moment) -> str | None:
    """Theorem 3: no wait ends with STALLED while fewer than max_resident turns wait."""
    stalled = [wake for wake in m.of_kind(Wake) if wake.end is WaitEnd.STALLED]
    if not stalled:
        return None
    assert m.before is not None
    after, who = m.after, {wake.agent for wake in stalled}
    lenders = set(after.waits.lenders) | who
    waiting = lenders | {a.id for a in after.agents if a.status is WAITING}
    if len(waiting) < m.config.max_resident or len(lenders) < after.slots.held:
        return f"{sorted(who)} are stalled, and only {sorted(waiting)} wait"
    if any(after.agents[agent].status is STOPPING for agent in after.slots.lent):
        return f"{sorted(who)} are stalled, though a turn is stopping without a slot"
    by_choice = [agent for agent in after.waits.lenders if all(wait.is_own_choice for wait in after.waits.of(agent))]
    ended = [m.before.waits.pending.get(wake.wait) for wake in stalled]
    if by_choice or all(wait is not None and wait.is_own_choice for wait in ended):
        return f"{sorted(who)} are stalled, though {by_choice or sorted(who)} wait by their own choice"
    return None


def l11_overtaking(m: Moment) -> str | None:
    assert m.before is not None
    before, after, config = m.before.slots, m.after.slots, m.config
    oldest = next(iter(before.ready), None)
    if oldest is None or oldest not in after.ready or m.after.state is not SessionState.OPEN:
        return None
    may_swap = len(before.lent) >= config.max_resident - config.execution_cap
    passed = after.overtaken - before.overtaken
    went_on = sum(b.status in (WAITING, RETURNING) and a.status is RUNNING for b, a in m.changed())
    if before.overtaken == 0 and went_on:  # one turn may return before a queue that is FIFO (decision D20)
        passed -= 1
    if before.overtaken >= config.max_overtaken and passed > 0 and not may_swap:
        return f"agent {oldest} is due, and {passed} others got a slot"
    return None


def l12_first(m: Moment) -> str | None:
    assert m.before is not None
    if not m.before.waits.returning and not m.after.waits.returning:
        return None
    still = [a for a in m.before.waits.returning if a in m.after.waits.returning]
    went_on = {wake.agent for wake in m.of_kind(Wake) if wake.agent in m.before.slots.lent}
    overtaken = m.before.slots.overtaken + len(went_on)  # two slots may come free in one step: one goes on, one is due,
    due = overtaken >= max(1, m.config.max_overtaken)  # be it queued in this very step (decision D20)
    got_one = [
        b.id
        for b, a in m.changed()
        if b.id and b.status not in STARTED and a.status in (TurnState.STARTING, RUNNING) and b.status is not a.status
    ]
    got_one = [a for a in got_one if m.before.agents[a].status is not TurnState.STARTING]
    if still and got_one and not due and not m.after.live_threads:
        return f"{got_one} got slots, and {still} still return"
    called_back = [a for a in m.after.waits.returning if m.before.agents[a].status is WAITING]
    if len(went_on) >= max(1, m.config.max_overtaken):  # the agent's next turn may be due by now
        return None
    for r in m.of_kind(TurnEnded) if called_back and isinstance(m.event, ENDS) else ():
        if r.outcome.agent != ROOT and m.after.agents[r.outcome.agent].status in (TurnState.STARTING, RUNNING):
            return f"agent {r.outcome.agent} has its next turn, and {called_back}, called back by its end, return"
    return None


def s15_victim(m: Moment) -> str | None:
    assert m.before is not None
    before = m.before.residents
    for victim, served in m.after.residents.serves.items():
        if served == NO_AGENT or before.serves.get(victim) is not None:
            continue  # not for pressure, or on its way before this step
        tried = m.after.residents.tried.get(served, ())
        second_choice = bool(m.after.agents[victim].triggers)
        for other in m.after.residents.idle:
            if other not in before.idle or other in tried or m.before.agents[other].triggers:
                continue  # it became evictable or a candidate in this very step, or is a second choice itself
            if m.after.agents[other].triggers or moved(m, other):
                continue
            if second_choice or not was_before(list(before.idle), victim, other):
                return f"agent {victim} is evicted, agent {other} should be"
    return None


def moved(m: Moment, agent: int) -> bool:
    """Tells whether the agent was used in this step, so that its place in the order of use is new."""
    assert m.before is not None
    stayed = [a for a in m.before.residents.idle if a in m.after.residents.idle]
    left = [a for a in m.after.residents.idle if a in m.before.residents.idle]
    return stayed != left or any(r.outcome.agent == agent for r in m.of_kind(TurnEnded))


def was_before(line: list[int], one: int, other: int) -> bool:
    """Tells whether `one` stands before `other`."""
    return one in line and line.index(one) < line.index(other)


def l1_true_failure(m: Moment) -> str | None:
    assert m.before is not None
    for r in m.of_kind(TurnEnded):
        before = m.before.agent(r.outcome.agent)
        if r.outcome.status is not TurnState.ERRORED or ran(before, r.outcome):
            continue
        if r.outcome.cause is Cause.LOADS_LOST:
            lost = m.before.ledger.loads.get(r.outcome.agent, 0)
            if rules.may_load(lost, m.config.max_attempts):
                return f"agent {r.outcome.agent} is not loaded again, after {lost} loads that crashes cut off"
            continue
        if before is not None and before.residency is Residency.LOADING and is_end_of_load(m.event, before.id):
            continue
        if m.before.ledger.loads.get(r.outcome.agent, 0) >= max(3, m.config.max_attempts):
            continue  # crashes have cut off as many loads as are tried
        tried = {*m.before.residents.tried.get(r.outcome.agent, ()), *failed_now(m)}
        known = [a for a in m.after.residents.idle if a in m.before.residents.idle or a in m.before.residents.serves]
        untried = [a for a in known if a not in tried]
        if not tried or untried:
            return f"agent {r.outcome.agent} cannot start, though {untried} were not tried"
    return None


def ran(before: Agent | None, outcome: Outcome) -> bool:
    """Tells whether the turn with this outcome had started before this step."""
    return before is not None and before.status in STARTED and outcome.turn == before.turn


def is_end_of_load(event: Event | None, agent: int) -> bool:
    """Tells whether this event may have made the load of the agent fail."""
    return isinstance(event, Tick) or (isinstance(event, LoadFailed | Died) and event.agent == agent)


def failed_now(m: Moment) -> set[int]:
    """Returns the agents whose flush failed, or ran out of time, in this step."""
    assert m.before is not None
    answered = {a for a, flush in m.before.residents.flushes.items() if m.after.residents.flushes.get(a) != flush}
    return {a for a in answered if m.after.agents[a].residency in (Residency.RESIDENT, Residency.UNLOADING)}


def l3_told(m: Moment) -> str | None:
    assert m.before is not None
    ended = m.of_kind(TurnEnded)
    answered = [number for answer in m.of_kind(Answer) for number in answer.mails]
    gone = [number for number in m.before.ledger.requests if number not in m.after.ledger.requests]
    if (answered or gone) and sorted(answered) != sorted(gone):
        return f"requests {sorted(gone)} are not open any more, and answered are {sorted(answered)}"
    if not ended:
        return None
    closed = {agent for r in m.of_kind(AgentsClosed) for agent in r.agents}
    apart = {r.mail for r in m.of_kind(MailWithdrawn)} | {x for r in m.of_kind(MailDemoted) for x in r.mails}
    for r in ended:
        before = m.before.agent(r.outcome.agent)
        if before is None:
            continue
        which = f"turn {r.outcome.turn} of agent {before.id} ended"
        requests = asked_by(before.taken) if ran(before, r.outcome) else ()
        if before.id in closed or not ran(before, r.outcome):
            requests += tuple([x for x in before.mailbox if x.kind and x.notice is None and x.mail not in apart])
        answers = [number for e in m.of_kind(Answer) if e.outcome == r.outcome for number in e.mails]
        if sorted(answers) != sorted([x.mail for x in requests]):
            return f"{which}; it was asked for by mail {[x.mail for x in requests]}, answered are {answers}"
        due = {x.sender for x in requests if x.sender not in (HOST, before.id)}
        due = {sender for sender in due if m.after.agents[sender].identity is not FORGOTTEN}
        told = told_of(m, r.outcome)
        stop = m.before.ledger.stops.get(before.id)
        always = before.id in closed or (stop is not None and stop.cause is Cause.TIMED_OUT)
        always = always or r.outcome.cause is Cause.CRASHED
        if sorted(told) != (sorted(due) if notice_due(m.config, r.outcome, always) else []):
            return f"{which}; due to be told {sorted(due)}, told {told}"
    return None


def told_of(m: Moment, outcome: Outcome) -> list[int]:
    """Returns the agents that got a notice of this outcome in this step."""
    accepted = [r.target for r in m.of_kind(MailAccepted) if r.notice == outcome]
    return accepted + [r.target for r in m.of_kind(NoticeBuried) if r.notice == outcome]


def notice_due(config: SessionConfig, outcome: Outcome, always: bool) -> bool:
    """Tells whether requesters are told of this outcome. `always`: its agent is closed (BUG-B56), or the turn took too
    long.
    """
    if config.notice is Notice.NONE:
        return False
    return outcome.status is not INTERRUPTED or config.notify_interrupted or always
