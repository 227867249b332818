"""Judges how waits end: for a true reason, and with each outcome told once (S21)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from statemachine.checking.moment import Moment
from statemachine.core.deadlines import Bound
from statemachine.core.effects import Answer, WaitEnd, WaitOver, Wake
from statemachine.core.events import StopWaiting, Tick, Wait, WaitMode
from statemachine.core.machines import Identity, SessionState, TurnState
from statemachine.core.records import MailAccepted, MailRead, TurnEnded, TurnReturned
from statemachine.core.waits import Waiting

DRAINING, RUNNING, ANSWERED = SessionState.DRAINING, TurnState.RUNNING, WaitEnd.ANSWERED
AWAKE = (RUNNING, TurnState.WAITING, TurnState.RETURNING)
"""A turn that is stopping reads no more."""


def s21_ended(m: Moment) -> str | None:
    """Each wait that is over has the end that it says."""
    assert m.before is not None
    wakes = m.of_kind(Wake)
    over = m.step.reply if m.step is not None and isinstance(m.step.reply, WaitOver) else None
    if not wakes and over is None:
        return read_once(m)
    known = {number: end for agent in m.before.waits.over.values() for number, end in agent}
    for wake in wakes:
        wait = m.before.waits.pending.get(wake.wait)
        if wake.wait in known:
            if known[wake.wait] is not wake.end:
                return f"wait {wake.wait} was over by {known[wake.wait].name}, told is {wake.end.name}"
        elif wait is not None and not TRUE[wake.end](m, wait):
            return f"wait {wake.wait} of agent {wake.agent} is over by {wake.end.name}, which is not so"
    if over is not None and isinstance(m.event, Wait):
        e = m.event
        asked = Waiting(-1, e.agent, e.mail, e.targets, tuple(dict.fromkeys(e.requests)), e.mode, False)
        if over.end is not WaitEnd.TIMEOUT and not TRUE[over.end](m, asked):
            return f"the wait is over at once by {over.end.name}, which is not so"
    return late(m) or read_once(m)


def enough_answered(m: Moment, wait: Waiting) -> bool:
    missing = [request for request in wait.requests if request in m.after.ledger.requests]
    return bool(wait.requests) and (not missing if wait.mode is WaitMode.ALL else len(missing) < len(wait.requests))


def is_done(m: Moment, wait: Waiting) -> bool:
    """A target is closed, idle with an outcome, or was for a moment of this step."""
    ended = {r.outcome.agent for r in m.of_kind(TurnEnded)}
    for target in wait.targets:
        a = m.agents[target]
        idle = a.status.is_idle and a.status is not TurnState.NEW
        if a.identity is not Identity.OPEN or idle or target in ended:
            return True
    return False


def is_overdue(m: Moment, wait: Waiting) -> bool:
    assert m.before is not None
    at, _ = m.before.deadlines.pending.get((Bound.WAIT, wait.number), (None, 0))
    return isinstance(m.event, Tick) and at is not None and at <= m.after.now


def has_mail(m: Moment, wait: Waiting) -> bool:
    return wait.mail and bool(m.agents[wait.agent].mailbox)


def judged_by_l8(_: Moment, __: Waiting) -> bool:
    return True


TRUE: dict[WaitEnd, Callable[[Moment, Waiting], Any]] = {
    WaitEnd.MAIL: has_mail,
    WaitEnd.TARGET: is_done,
    WaitEnd.TIMEOUT: is_overdue,
    WaitEnd.INTERRUPTED: lambda m, wait: m.agents[wait.agent].status is TurnState.STOPPING,
    WaitEnd.STALLED: judged_by_l8,
    WaitEnd.ANSWERED: enough_answered,
    WaitEnd.DRAINING: lambda m, _: m.after.state in (DRAINING, SessionState.CLOSED),
    WaitEnd.GIVEN_UP: lambda m, _: isinstance(m.event, StopWaiting),
}
"""End of a wait -> whether the wait has come to it. What a turn has read or started since is not looked for."""


def late(m: Moment) -> str | None:
    """Section 7: conditions come before timeouts, for what was answered when the time was over."""
    assert m.before is not None
    assert m.step is not None
    answered: set[int] = set()
    for effect in m.step.effects if isinstance(m.event, Tick) else ():
        if isinstance(effect, Answer):
            answered.update(effect.mails)
        elif isinstance(effect, Wake) and effect.end is WaitEnd.TIMEOUT and effect.agent in m.before.slots.holders:
            wait = m.before.waits.pending.get(effect.wait)
            if wait is not None and answered.intersection(wait.requests) and enough_answered(m, wait):
                return f"wait {wait.number} is over by TIMEOUT, though its requests {wait.requests} are answered"
    return None


def read_once(m: Moment) -> str | None:
    """Section 7: a turn that awaits a request reads its notice there and then, so that an outcome is told once."""
    assert m.before is not None
    notices = [r for r in m.of_kind(MailAccepted) if r.answers] if m.before.waits.pending else []
    ends: dict[int, WaitEnd] = {}
    read: set[int] = set()
    over: set[int] = set()
    if notices:
        ends.update({wake.wait: wake.end for wake in m.of_kind(Wake)})
        ends.update({number: end for ended in m.after.waits.over.values() for number, end in ended})
        read.update(number for r in m.of_kind(MailRead) for number in r.mails)
        over.update(r.outcome.agent for r in m.of_kind(TurnEnded))
        over.update(r.agent for r in m.of_kind(TurnReturned))
    for r in notices:
        if r.mail in read or r.target in over:
            continue
        waits = [w for w in m.before.waits.of(r.target) if ends.get(w.number, ANSWERED) is ANSWERED]
        awaited = {request for wait in waits for request in wait.requests}
        if awaited.intersection(r.answers) and m.agents[r.target].status in AWAKE:
            return f"agent {r.target} awaits {sorted(awaited)}, and the notice {r.mail} of them stays unread"
    if isinstance(m.event, Wait) and m.event.requests:
        left = [x.mail for x in m.agents[m.event.agent].mailbox if set(x.answers).intersection(m.event.requests)]
        if left:
            return f"agent {m.event.agent} awaits {m.event.requests}, and the notices {left} stay unread"
    return None


def l4_hopeless(m: Moment) -> str | None:
    """D26: no wait goes on during a shutdown that only turns which will not start could end."""
    if m.after.state is not DRAINING:
        return None
    started = {a.id for a in m.agents if a.status >= RUNNING}
    for wait in m.after.waits.pending.values():
        asked = [agent in started for r in wait.requests if (agent := m.after.ledger.requests.get(r)) is not None]
        hope = bool(asked) and (all(asked) if wait.mode is WaitMode.ALL else any(asked))
        hope = hope or any(target in started for target in wait.targets) or wait.is_own_choice
        if not hope and not (wait.mail and started - {wait.agent}):
            return f"wait {wait.number} goes on, and only turns that will not start could end it"
    return None


def l5_kept(m: Moment) -> str | None:
    """L5: what is bounded keeps its bound; only a second shutdown moves one, and to an earlier time. Before a bound
    runs out, time alone changes nothing.
    """
    assert m.before is not None
    assert m.step is not None
    if isinstance(m.event, Tick) and not any(at <= m.after.now for at, _ in m.before.deadlines.pending.values()):
        told = (*m.step.records, *m.step.effects)
        return f"no bound has run out at {m.after.now}, and there are {told}" if told else None
    before, after = m.before.deadlines.pending, m.after.deadlines.pending
    if before is after or before == after:
        return None
    for key, (at, ticket) in before.items():
        now, other = after.get(key, (at, ticket))
        if other != ticket and key[0] is Bound.GRACE and now >= at:
            return f"the grace of the shutdown was {at}, and is {now}"
        if now != at and other == ticket:
            return f"the bound {key} was {at}, and is {now}"
    return None
