"""Says which operations are to be refused, and with what: the checks of semantics.md section 4, in their order (S18).

They are told here a second time, by what an observer sees: statuses, mailboxes, who waits. The lines and counters with
which the core decides are not believed. S12 judges the facts that a refusal names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

from statemachine.checking.circles import dead_waits
from statemachine.checking.moment import Moment
from statemachine.core import refusals as rf
from statemachine.core.config import Notice, Overflow
from statemachine.core.effects import Refused
from statemachine.core.events import (
    HOST,
    ROOT,
    Close,
    Drain,
    FollowUp,
    Forget,
    Interrupt,
    Resume,
    Send,
    Shutdown,
    Spawn,
    Start,
    StopWaiting,
    Wait,
    WaitMode,
    Withdraw,
)
from statemachine.core.machines import Identity, SessionState, TurnState
from statemachine.core.session import Session
from statemachine.core.waits import Waiting

OPEN, CLOSED, FORGOTTEN = Identity.OPEN, Identity.CLOSED, Identity.FORGOTTEN
OPEN_SESSION, DRAINING = SessionState.OPEN, SessionState.DRAINING
RUNNING, STOPPING, INTERRUPTED = TurnState.RUNNING, TurnState.STOPPING, TurnState.INTERRUPTED
WAITING, RETURNING, COMPLETED = TurnState.WAITING, TurnState.RETURNING, TurnState.COMPLETED
STARTING, QUEUED = TurnState.STARTING, TurnState.QUEUED
WORKING = (RUNNING, WAITING, RETURNING)
STATES = {
    DRAINING: rf.SessionDraining,
    SessionState.CLOSED: rf.SessionClosed,
    SessionState.FAILED: rf.StoreFailed,
}
HEADERS_BYTES_MAX = 16 * 1024

Checks = Iterator[type[rf.Refusal] | None]


def s18_admitted(m: Moment) -> str | None:
    """The operation is refused exactly if a check fails, and with what the first that fails says."""
    checks = CHECKS.get(m.event.__class__)
    if checks is None:
        return None
    assert m.before is not None
    assert m.step is not None
    due = next(filter(None, checks(m.before, m.event)), None)
    said = m.step.reply.refusal.__class__ if isinstance(m.step.reply, Refused) else None
    if due is said or (due is rf.WaitCircle and said is None):
        return None  # L10 judges waits that begin in a circle
    return f"{m.event} was {named(said)}, and is to be {named(due)}"


def named(refusal: type | None) -> str:
    return "accepted" if refusal is None else f"refused with {refusal.__name__}"


# Checks that several operations have


def session(s: Session, latest: SessionState = OPEN_SESSION) -> Checks:
    """Open, or at most draining."""
    if s.state is not OPEN_SESSION and s.state is not latest:
        yield STATES[s.state]


def known(s: Session, agent: int) -> Checks:
    if not 0 <= agent < len(s.agents) or s.agents[agent].identity is FORGOTTEN:
        yield rf.UnknownAgent


def is_open(s: Session, agent: int) -> Checks:
    yield from known(s, agent)
    if s.agents[agent].identity is CLOSED:
        yield rf.AgentClosed


def caller(s: Session, sender: int) -> Checks:
    if sender != HOST:
        yield from is_open(s, sender)


def goes_on(s: Session, sender: int) -> Checks:
    """BUG-B83: a turn that is stopping asks for no new work."""
    if sender != HOST and s.agents[sender].status is STOPPING:
        yield rf.NotRunning


def text(s: Session, message: str, headers: str | None) -> Checks:
    if not 0 < len(message.encode("utf-8", "surrogatepass")) <= s.config.max_message_bytes:
        yield rf.InvalidMessage
    if headers is not None and not 0 < len(headers.encode("utf-8", "surrogatepass")) <= HEADERS_BYTES_MAX:
        yield rf.InvalidHeaders


def mailbox(s: Session, agent: int, spare: int) -> Checks:
    """D7, D16: so many places are left beside those for promised notices."""
    a = s.agents[agent]
    if len(a.mailbox) + a.promised >= s.config.max_unread - spare:
        yield rf.MailboxFull


def notice(s: Session, sender: int, target: int) -> Checks:
    """D7: the notice finds room, too."""
    if sender not in (HOST, target) and s.config.notice is not Notice.NONE:
        yield from mailbox(s, sender, 1)


def room(s: Session) -> Checks:
    """The turn of an idle sub-agent finds a slot that is free or may be lent, or room in the ready queue."""
    statuses = [a.status for a in s.agents[1:]]
    without = len(s.slots.lent)
    held = sum(status in (STARTING, RUNNING, STOPPING) for status in statuses)
    held -= sum(s.agents[agent].status is STOPPING for agent in s.slots.lent)
    lenders = {w.agent for w in s.waits.pending.values() if s.agents[w.agent].status is RUNNING} - {ROOT}
    may_lend = max(0, s.config.max_resident - s.config.execution_cap - without)
    available = s.config.execution_cap - held + min(len(lenders), may_lend)
    if available > 0:
        return
    if s.config.overflow is Overflow.REJECT:
        yield rf.ExecutionFull
    if statuses.count(QUEUED) - available >= s.config.max_queued:
        yield rf.QueueFull


def opening(s: Session, path: str) -> Checks:
    """One more agent may be open, at this path."""
    opened = [a.path for a in s.agents if a.identity is OPEN]
    if path in opened:
        yield rf.PathTaken
    if s.config.max_depth is not None and path.count("/") - 1 > s.config.max_depth:
        yield rf.DepthExceeded
    if s.config.max_agents is not None and len(opened) > s.config.max_agents:  # the root is one of them
        yield rf.TooManyAgents


def live(s: Session) -> Checks:
    if s.live_threads and sum(a.identity is OPEN for a in s.agents) > s.config.execution_cap:
        yield rf.LiveThreadsFull


def works(s: Session, agent: int, turn: int) -> Checks:
    yield from session(s, DRAINING)
    yield from known(s, agent)
    if s.agents[agent].status not in WORKING or s.agents[agent].turn != turn:
        yield rf.NotRunning


def is_below(s: Session, agent: int, top: int) -> bool:
    while agent not in (top, ROOT, HOST):
        agent = s.agents[agent].parent
    return agent == top


# Operations


def spawn(s: Session, e: Spawn) -> Checks:
    yield from session(s)
    yield from is_open(s, e.parent)
    sender = e.parent if e.sender is None else e.sender
    yield from caller(s, sender)
    yield from goes_on(s, sender)
    if re.fullmatch("(?!root$)[a-z0-9_]{1,64}", e.name, re.ASCII) is None:
        yield rf.InvalidName
    yield from text(s, e.message, e.headers)
    yield from opening(s, f"{s.agents[e.parent].path}/{e.name}")
    yield from notice(s, sender, len(s.agents))
    yield from live(s) if s.live_threads else room(s)


def mail(s: Session, e: Send | FollowUp, spare: int) -> Checks:
    yield from session(s)
    yield from caller(s, e.sender)
    yield from is_open(s, e.target)
    yield from text(s, e.message, e.headers)
    yield from mailbox(s, e.target, spare)


def follow_up(s: Session, e: FollowUp) -> Checks:
    yield from mail(s, e, 0)
    yield from goes_on(s, e.sender)
    yield from notice(s, e.sender, e.target)
    if e.target == ROOT and e.sender != HOST:
        yield rf.RootRefused
    if e.target != ROOT and not s.live_threads and s.agents[e.target].status.is_idle:
        yield from room(s)


def interrupt(s: Session, e: Interrupt) -> Checks:
    yield from session(s, DRAINING)
    yield from caller(s, e.sender)
    yield from is_open(s, e.target)
    if e.target == ROOT and e.sender != HOST:
        yield rf.RootRefused
    if e.sender == e.target or (e.subtree and is_below(s, e.sender, e.target)):
        yield rf.SelfRefused


def close(s: Session, e: Close) -> Checks:
    yield from session(s, DRAINING)
    yield from caller(s, e.sender)
    yield from known(s, e.target)
    if e.target == ROOT:
        yield rf.RootRefused
    if is_below(s, e.sender, e.target):
        yield rf.SelfRefused


def resume(s: Session, e: Resume) -> Checks:
    yield from session(s)
    yield from caller(s, e.sender)
    yield from known(s, e.target)
    agent = s.agents[e.target]
    if agent.identity is OPEN:
        yield rf.AgentOpen
    yield from is_open(s, agent.parent)
    yield from opening(s, agent.path)
    yield from live(s)


def forget(s: Session, e: Forget) -> Checks:
    yield from session(s, DRAINING)
    yield from known(s, e.target)
    if e.target == ROOT:
        yield rf.RootRefused
    if s.agents[e.target].identity is OPEN:
        yield rf.AgentOpen


def withdraw(s: Session, e: Withdraw) -> Checks:
    yield from session(s, DRAINING)
    yield from caller(s, e.sender)
    if not 0 <= e.mail < sum(s.ledger.mail_states):
        yield rf.UnknownMail
    found = [unread for a in s.agents if a.mailbox for unread in a.mailbox if unread.mail == e.mail]
    if not found:
        yield rf.MailRead
    if found[0].notice is not None or e.sender not in (HOST, found[0].sender):
        yield rf.NotSender


def wait(s: Session, e: Wait) -> Checks:
    yield from works(s, e.agent, e.turn)
    if e.timeout is None and (e.mail or e.targets):
        yield rf.InvalidTimeout
    if e.timeout is not None and not 0 <= e.timeout <= s.config.max_wait:
        yield rf.InvalidTimeout
    for target in e.targets:
        yield from known(s, target)
    given = sum(s.ledger.mail_states)
    if any(not 0 <= request < given for request in e.requests):
        yield rf.UnknownMail
    if e.timeout is None and e.requests and not is_over(s, e):
        begun = Waiting(-1, e.agent, False, (), e.requests, e.mode, False)
        if begun in dead_waits([*s.waits.pending.values(), begun], s.ledger.requests):
            yield rf.WaitCircle


def is_over(s: Session, e: Wait) -> bool:
    """D21: is a wait for requests alone over at once, because enough are answered, or none will be any more?"""
    requests = set(e.requests)
    asked = [s.agents[s.ledger.requests[request]] for request in requests if request in s.ledger.requests]
    if len(asked) < (1 if e.mode is WaitMode.ALL else len(requests)):
        return True
    hopes = [a.status >= RUNNING for a in asked]
    return s.state is DRAINING and not (all(hopes) if e.mode is WaitMode.ALL else any(hopes))


def shutdown(s: Session, e: Shutdown) -> Checks:
    yield from session(s, DRAINING)
    if not 0 <= e.grace < math.inf:
        yield rf.InvalidTimeout


CHECKS: dict[type, Callable[[Session, Any], Checks]] = {
    Spawn: spawn,
    Send: lambda s, e: mail(s, e, 1),
    FollowUp: follow_up,
    Start: lambda s, e: follow_up(s, FollowUp(HOST, e.target, e.message, e.headers)),
    Drain: lambda s, e: works(s, e.agent, e.turn),
    Interrupt: interrupt,
    Close: close,
    Resume: resume,
    Forget: forget,
    Withdraw: withdraw,
    Wait: wait,
    StopWaiting: lambda s, e: works(s, e.agent, e.turn),
    Shutdown: shutdown,
}
"""Operation -> its checks: each yields a refusal where it fails, and the first one counts."""
