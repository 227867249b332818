"""What the host and the agents ask for (semantics.md section 4).

Each operation is atomic: its checks come in the order of the specification, and the first that fails refuses it with
nothing changed; after the last check nothing can fail. A check gives back the refusal, or None.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from statemachine.core import rules, turns
from statemachine.core.agents import Agent
from statemachine.core.config import Overflow
from statemachine.core.deadlines import Bound
from statemachine.core.effects import (
    Accepted,
    AgentStatus,
    Answer,
    ClosedAgents,
    Drained,
    Forgotten,
    Interrupted,
    Listing,
    Noted,
    Refused,
    Reply,
    Resumed,
    ShuttingDown,
    Spawned,
    WaitEnd,
    WaitOver,
    Withdrawn,
)
from statemachine.core.effects import Waiting as WaitBegun
from statemachine.core.events import (
    HOST,
    ROOT,
    Close,
    Drain,
    FollowUp,
    Forget,
    Interrupt,
    ListAgents,
    Resume,
    Send,
    Shutdown,
    Spawn,
    Start,
    Status,
    StopWaiting,
    Wait,
    Withdraw,
)
from statemachine.core.facts import fact
from statemachine.core.ledger import requests
from statemachine.core.machines import SESSION, Identity, Moves, Residency, SessionState, TurnState
from statemachine.core.records import (
    AgentResumed,
    AgentsClosed,
    AgentsForgotten,
    AgentSpawned,
    Cause,
    MailAccepted,
    MailDemoted,
    MailDrained,
    MailKind,
    MailWithdrawn,
    Outcome,
)
from statemachine.core.refusals import (
    AgentClosed,
    AgentOpen,
    DepthExceeded,
    ExecutionFull,
    InvalidHeaders,
    InvalidMessage,
    InvalidName,
    InvalidTimeout,
    LiveThreadsFull,
    MailboxFull,
    MailRead,
    NotRunning,
    NotSender,
    PathTaken,
    QueueFull,
    Refusal,
    RootRefused,
    SelfRefused,
    SessionClosed,
    SessionDraining,
    StoreFailed,
    TooManyAgents,
    UnknownAgent,
    UnknownMail,
    WaitCircle,
)
from statemachine.core.state import State
from statemachine.core.waits import Waiting

SHUTDOWN = SESSION.moves("shutdown")
OPEN, OPEN_SESSION, DRAINING = Identity.OPEN, SessionState.OPEN, SessionState.DRAINING
FORGOTTEN, NOTED = Identity.FORGOTTEN, Noted()
STOPPING, INTERRUPTED = TurnState.STOPPING, TurnState.INTERRUPTED
NOT_STARTED = (TurnState.QUEUED, TurnState.STARTING)
WORKING = (TurnState.RUNNING, TurnState.WAITING, TurnState.RETURNING)
RUNNING, TRIGGER, QUEUE = TurnState.RUNNING, MailKind.TRIGGER, MailKind.QUEUE
REJECT = Overflow.REJECT


# Checks


def session_takes_work(s: State) -> Refusal | None:
    """New work is for open sessions only."""
    if s.state is OPEN_SESSION:
        return None
    return SessionDraining() if s.state is DRAINING else session_lives(s)


def session_lives(s: State) -> Refusal | None:
    """Not closed, not failed."""
    if s.state is SessionState.FAILED:
        return StoreFailed(s.error)
    return SessionClosed() if s.state is SessionState.CLOSED else None


def session_answers(s: State) -> Refusal | None:
    """A failed session knows things that are not durable, so it does not even tell (section 5)."""
    return StoreFailed(s.error) if s.state is SessionState.FAILED else None


def agent_known(s: State, agent: int) -> Refusal | None:
    """The id is that of an agent, open or closed, and not forgotten."""
    is_known = 0 <= agent < len(s.agents) and s.agents[agent].identity is not FORGOTTEN
    return None if is_known else UnknownAgent(agent)


def agent_open(s: State, agent: int) -> Refusal | None:
    """The agent is known and open."""
    if not 0 <= agent < len(s.agents):
        return UnknownAgent(agent)
    found = s.agents[agent]
    if found.identity is OPEN:
        return None
    return UnknownAgent(agent) if found.identity is FORGOTTEN else AgentClosed(agent, found.path)


def sender_open(s: State, sender: int) -> Refusal | None:
    """The sender is the host or an open agent: late calls of a closed one are fenced (decision D9)."""
    return None if sender == HOST else agent_open(s, sender)


def sender_not_stopping(s: State, sender: int) -> Refusal | None:
    """A turn that was asked to stop asks for no new work (BUG-B83)."""
    if sender == HOST or s.agents[sender].status is not STOPPING:
        return None
    return NotRunning(sender, s.agents[sender].turn, s.agents[sender].path)


def message_valid(s: State, message: str) -> Refusal | None:
    """Not empty, not too large."""
    size = rules.message_size(message, s.config.max_message_bytes)
    return None if size is None else InvalidMessage(size, s.config.max_message_bytes)


def headers_valid(headers: str) -> Refusal | None:
    """Not too large."""
    size = rules.message_size(headers, rules.HEADERS_BYTES_MAX)
    return None if size is None else InvalidHeaders(f"one of {size} bytes", size, rules.HEADERS_BYTES_MAX)


def mailbox_open(s: State, agent: Agent, kind: MailKind) -> Refusal | None:
    """One more mail of this kind finds room."""
    if rules.mailbox_has_room(len(agent.mailbox), agent.promised, s.config.max_unread, kind):
        return None
    return MailboxFull(agent.id, len(agent.mailbox), agent.promised, s.config.max_unread, agent.path)


def notice_has_room(s: State, sender: int, target: int) -> Refusal | None:
    """The notice that a request promises its sender will find room (decision D7)."""
    if sender in (HOST, target) or not s.ledger.promises:
        return None
    return mailbox_open(s, s.agents[sender], QUEUE)


def turn_has_room(s: State) -> Refusal | None:
    """An idle sub-agent's turn finds a slot, or room in the ready queue."""
    slots, config = s.slots, s.config
    available = slots.cap - slots.held if not s.waits.lenders else turns.available(s)
    if available > 0:  # so the queue is empty
        return None
    if config.overflow is REJECT:
        holders = slots.counted_holders()
        return ExecutionFull(slots.cap, holders, s.paths(holders))
    if rules.queue_has_room(len(slots.ready), available, config.max_queued):
        return None
    queued = tuple(slots.ready)
    return QueueFull(config.max_queued, queued, s.paths(queued))


def live_thread_has_room(s: State) -> Refusal | None:
    """`LIVE_THREADS`: one more open agent finds a slot."""
    slots = s.slots
    if rules.slot_is_free(slots.held, slots.cap):
        return None
    holders = slots.counted_holders()
    return LiveThreadsFull(slots.cap, holders, s.paths(holders))


def number_has_room(s: State) -> Refusal | None:
    """One more open sub-agent is allowed."""
    most = s.config.max_agents
    return TooManyAgents(most) if most is not None and s.ledger.open_agents >= most else None


# Spawn and mail


def spawn(s: State, event: Spawn) -> Reply:
    """Opens an agent with its first mail."""
    refusal = session_takes_work(s) or agent_open(s, event.parent)
    if refusal is None and event.sender is not None:
        refusal = sender_open(s, event.sender)
    if refusal is not None:
        return Refused(refusal)
    parent = s.agents[event.parent]
    sender = parent.id if event.sender is None else event.sender
    refusal = (
        sender_not_stopping(s, sender)
        or (None if rules.name_is_valid(event.name) else InvalidName(event.name))
        or message_valid(s, event.message)
        or (None if event.headers is None else headers_valid(event.headers))
        or path_free(s, f"{parent.path}/{event.name}")
        or depth_allowed(s, parent.depth + 1)
        or number_has_room(s)
        or notice_has_room(s, sender, len(s.agents))
        or (live_thread_has_room(s) if s.live_threads else turn_has_room(s))
    )
    if refusal is not None:
        return Refused(refusal)
    record = AgentSpawned(len(s.agents), parent.id, event.name, event.settings)
    s.records.append(record)
    agent = s.ledger.spawn(record)
    if s.live_threads:
        s.slots.reserve(agent.id, agent.turn)
    mail = MailAccepted(s.ledger.next_mail, sender, agent.id, TRIGGER, event.message, None, event.headers)
    turns.accept(s, mail)
    return Spawned(agent.id, mail.mail)


def path_free(s: State, path: str) -> Refusal | None:
    """No open agent has this path, loaded or not (BUG-B23, BUG-B28)."""
    holder = s.ledger.by_path.get(path)
    return None if holder is None else PathTaken(path, holder)


def depth_allowed(s: State, depth: int) -> Refusal | None:
    """The tree may be as deep as this."""
    most = s.config.max_depth
    return DepthExceeded(depth, most) if most is not None and depth > most else None


def send(s: State, event: Send) -> Reply:
    """Accepts queue-only mail. It loads no agent (N4)."""
    refusal = mail_allowed(s, event, QUEUE)
    if refusal is not None:
        return Refused(refusal)
    mail = MailAccepted(s.ledger.next_mail, event.sender, event.target, QUEUE, event.message, None, event.headers)
    turns.accept(s, mail)
    return Accepted(mail.mail)


def mail_allowed(s: State, event: Send | FollowUp, kind: MailKind) -> Refusal | None:
    """The checks that all mail passes."""
    return (
        session_takes_work(s)
        or sender_open(s, event.sender)
        or agent_open(s, event.target)
        or message_valid(s, event.message)
        or (None if event.headers is None else headers_valid(event.headers))
        or mailbox_open(s, s.agents[event.target], kind)
    )


def follow_up(s: State, event: FollowUp) -> Reply:
    """Trigger mail. To an agent that has or waits for a turn it is always accepted: J1 and *next* do the rest."""
    refusal = mail_allowed(s, event, TRIGGER)
    sender, target = event.sender, event.target
    if refusal is None and sender != HOST:
        refusal = sender_not_stopping(s, sender) or notice_has_room(s, sender, target)
        if target == ROOT:
            refusal = refusal or RootRefused("follow_up")
    if refusal is None and target != ROOT and s.agents[target].status <= INTERRUPTED and not s.live_threads:
        refusal = turn_has_room(s)
    if refusal is not None:
        return Refused(refusal)
    mail = MailAccepted(s.ledger.next_mail, sender, target, TRIGGER, event.message, None, event.headers)
    turns.accept(s, mail)
    return Accepted(mail.mail)


def start(s: State, event: Start) -> Reply:
    """The host's follow-up, root or not: one admission for every turn (BUG-B08)."""
    return follow_up(s, FollowUp(HOST, event.target, event.message, event.headers))


def withdraw(s: State, event: Withdraw) -> Reply:
    """Makes an unread mail a dead letter, and answers it if it is a request. A turn that has not started ends if no
    trigger mail is left for it.
    """
    refusal = session_lives(s) or sender_open(s, event.sender)
    if refusal is None and not 0 <= event.mail < s.ledger.next_mail:
        refusal = UnknownMail(event.mail)
    if refusal is not None:
        return Refused(refusal)
    mail = s.ledger.find_unread(event.mail)
    if mail is None:
        return Refused(MailRead(event.mail))
    if mail.notice is not None or event.sender not in (HOST, mail.sender):
        return Refused(NotSender(event.mail))
    agent = s.agents[mail.target]
    why = Outcome(agent.id, agent.turn, INTERRUPTED, "withdrawn", Cause.WITHDRAWN, event.sender)
    s.records.append(MailWithdrawn(agent.id, event.mail, why))
    s.ledger.withdraw(mail)
    if agent.triggers == 0 and agent.status in NOT_STARTED:
        turns.end(s, agent, turns.ABORT, "its mail was withdrawn", Cause.WITHDRAWN, event.sender)
    if rules.is_request(mail.kind, is_notice=False):
        s.effects.append(Answer((mail.mail,), why))
        s.waits.answered(mail.mail)
    return Withdrawn()


def drain(s: State, event: Drain) -> Reply:
    """Lets the turn read all unread mail, and returns it in order."""
    refusal = session_lives(s) or agent_known(s, event.agent) or turn_works(s, event.agent, event.turn)
    if refusal is not None:
        return Refused(refusal)
    mail = s.ledger.read_mail(s.agents[event.agent])
    if mail:
        s.records.append(MailDrained(event.agent, event.turn))
    return Drained(mail)


def turn_works(s: State, agent: int, turn: int) -> Refusal | None:
    """That turn of the agent has started and is not stopping. It may be waiting: its code may have several tasks."""
    found = s.agents[agent]
    works = found.status in WORKING and rules.is_current(turn, found.turn)
    return None if works else NotRunning(agent, turn, found.path)


# Interrupt, close, resume


def interrupt(s: State, event: Interrupt) -> Reply:
    """Stops the turn that the target has or waits for; a turn that has not started ends at once."""
    refusal = session_lives(s) or sender_open(s, event.sender) or agent_open(s, event.target)
    if refusal is None and event.target == ROOT and event.sender != HOST:
        refusal = RootRefused("interrupt")
    if refusal is None and event.target == event.sender:
        refusal = SelfRefused("interrupt", event.target, s.agents[event.target].path)
    if refusal is not None:
        return Refused(refusal)
    if event.subtree and event.sender != HOST and s.is_below(event.sender, event.target):
        return Refused(SelfRefused("interrupt", event.target, s.agents[event.target].path))
    agent = s.agents[event.target]
    previous = agent.status
    if event.subtree:
        stopped = interrupt_subtree(s, event)
        return Interrupted(previous, stopped, s.paths(stopped))
    if previous in WORKING:
        turns.stop(s, agent, Cause.INTERRUPTED, event.sender)
    elif previous in NOT_STARTED:
        turns.end(s, agent, turns.ABORT, "interrupted before it started", Cause.NOT_STARTED, event.sender)
    stopped = () if previous.is_idle or previous is STOPPING else (agent.id,)
    return Interrupted(previous, stopped, s.paths(stopped))


def interrupt_subtree(s: State, event: Interrupt) -> tuple[int, ...]:
    """Stops every turn that the target and its descendants have or wait for. All are stopped before any requester is
    told, and trigger mail among them becomes queue-only, so that none of them starts another.
    """
    members = {agent.id: agent for agent in s.subtree(event.target) if agent.identity is OPEN}
    for agent in members.values():
        if agent.status is STOPPING:
            turns.widen(s, agent, event.target)
    touched = [agent for agent in members.values() if agent.status in WORKING or agent.status in NOT_STARTED]
    for agent in touched:
        if agent.status in WORKING:
            turns.stop(s, agent, Cause.INTERRUPTED, event.sender, event.target)
    for agent in members.values():
        among = [mail.mail for mail in agent.mailbox if mail.kind is TRIGGER and mail.sender in members]
        if not among:
            continue
        why = Outcome(agent.id, agent.turn, INTERRUPTED, "its mail was demoted", Cause.NOT_STARTED, event.sender)
        s.records.append(MailDemoted(agent.id, tuple(among), why))
        answered = s.ledger.demote(agent, among)
        if answered:
            for requester in turns.tell(s, why, answered, below=event.target):
                turns.consider(s, requester)
    for agent in touched:
        if agent.status in NOT_STARTED:
            words = "interrupted before it started"
            turns.end(s, agent, turns.ABORT, words, Cause.NOT_STARTED, event.sender, below=event.target)
    return tuple([agent.id for agent in touched])


def close(s: State, event: Close) -> Reply:
    """Closes the target and all its descendants now, without waiting for a thread (BUG-B03, BUG-B20)."""
    refusal = session_lives(s) or sender_open(s, event.sender) or agent_known(s, event.target)
    if refusal is None and event.target == ROOT:
        refusal = RootRefused("close")
    if refusal is None and event.sender != HOST and is_self_or_ancestor(s, event.target, event.sender):
        refusal = SelfRefused("close", event.target, s.agents[event.target].path)
    if refusal is not None:
        return Refused(refusal)
    if s.agents[event.target].identity is not OPEN:
        return ClosedAgents((), ())
    closed = close_subtree(s, event.target, Ending(turns.ABORT, "closed", Cause.CLOSED, event.sender))
    return ClosedAgents(closed, s.paths(closed))


def is_self_or_ancestor(s: State, target: int, agent: int) -> bool:
    """Is `target` the agent, or above it?"""
    while agent not in (target, ROOT):
        agent = s.agents[agent].parent
    return agent == target


@fact
class Ending:
    """How a turn is to end: see `turns.end`."""

    trigger: Moves[TurnState]
    result: str
    cause: Cause
    by: int | None = None


def close_subtree(s: State, target: int, ending: Ending) -> tuple[int, ...]:
    """Aborts turns, gives back slots and residency slots, dead-letters unread mail, tells requesters. The whole set is
    closed before any requester is told, so that no agent in it starts a turn; and what it held is free for the turn
    that a notice asks for. `ending` is that of the target's own turn.
    """
    members = [agent for agent in s.subtree(target) if agent.identity is OPEN]
    ids = tuple([agent.id for agent in members])
    s.records.append(AgentsClosed(target, ids))
    dead_letters = [s.ledger.close(agent, target) for agent in members]
    below = Ending(turns.ABORT, "closed", Cause.CLOSED, ending.by)
    closing = s.holding(ids)
    for agent, letters in zip(members, dead_letters, strict=True):
        closing.discard(agent.id)
        close_agent(s, agent, requests(letters), ending if agent.id == target else below, closing)
    return ids


def close_agent(
    s: State, agent: Agent, unanswered: tuple[MailAccepted, ...], ending: Ending, closing: set[int]
) -> None:
    """What a closed agent held is given back; `unanswered` are the requests among its dead letters, and `closing` those
    whose turn it is next and that hold something.
    """
    if agent.status in WORKING and ending.trigger is turns.ABORT:
        agent.status = turns.STOP[agent.status]
    elif unanswered and agent.status.is_idle:  # only during a shutdown, when nothing is requested (D14)
        turns.request(s, agent)
    turns.drop_thread(s, agent)
    if not agent.status.is_idle:
        turns.end(
            s,
            agent,
            ending.trigger,
            ending.result,
            ending.cause,
            ending.by,
            unanswered,
            tell_always=True,
            closing=closing,
        )
    s.waits.touch(s.waits.on_target.get(agent.id, ()))
    if s.live_threads and agent.id in s.slots.holders:
        s.slots.release(agent.id)


def resume(s: State, event: Resume) -> Reply:
    """Opens a closed agent again; `LIVE_THREADS`: and those below it that were open when it was closed (PEER-C45),
    though it was skipped since, when one above it was resumed.
    """
    refusal = session_takes_work(s) or sender_open(s, event.sender) or agent_known(s, event.target)
    if refusal is None and s.agents[event.target].identity is OPEN:
        refusal = AgentOpen(event.target, s.agents[event.target].path)
    refusal = refusal or resume_allowed(s, s.agents[event.target])
    if refusal is not None:
        return Refused(refusal)
    opened: list[int] = []
    skipped: list[int] = []
    line = [event.target]
    for member in line:
        agent = s.agents[member]
        if resume_allowed(s, agent) is not None:
            skipped.append(member)
            continue
        s.records.append(AgentResumed(member))
        s.ledger.resume(agent)
        opened.append(member)
        if s.live_threads:
            s.slots.reserve(member, agent.turn)
            line.extend(child for child in agent.children or () if s.agents[child].closed_by == member)
    return Resumed(tuple(opened), tuple(skipped), s.paths(opened), s.paths(skipped))


def resume_allowed(s: State, agent: Agent) -> Refusal | None:
    """Its parent is open, its path free, and there is room for it."""
    return (
        agent_open(s, agent.parent)
        or path_free(s, agent.path)
        or depth_allowed(s, agent.depth)
        or number_has_room(s)
        or (live_thread_has_room(s) if s.live_threads else None)
    )


def forget(s: State, event: Forget) -> Reply:
    """Drops what is known of a closed agent and of all below it, which are closed too."""
    refusal = session_lives(s) or agent_known(s, event.target)
    if refusal is None and event.target == ROOT:
        refusal = RootRefused("forget")
    if refusal is None and s.agents[event.target].identity is OPEN:
        refusal = AgentOpen(event.target, s.agents[event.target].path)
    if refusal is not None:
        return Refused(refusal)
    ids = tuple([agent.id for agent in s.subtree(event.target)])
    paths = s.paths(ids)
    s.records.append(AgentsForgotten(event.target, ids))
    for agent in ids:
        s.ledger.forget(s.agents[agent])
        s.waits.touch(s.waits.on_target.get(agent, ()))
    return Forgotten(ids, paths)


# Wait


def wait(s: State, event: Wait) -> Reply:
    """Begins a wait of the turn, which is over at once if its condition holds (BUG-B36). A turn that has lent its slot,
    for another wait, is told of it as soon as it has a slot again.
    """
    refusal = session_lives(s) or agent_known(s, event.agent) or turn_works(s, event.agent, event.turn)
    refusal = refusal or timeout_allowed(s, event)
    for target in event.targets:
        refusal = refusal or agent_known(s, target)
    for request in event.requests:
        refusal = refusal or (None if 0 <= request < s.ledger.next_mail else UnknownMail(request))
    if refusal is not None:
        return Refused(refusal)
    number, requests = s.waits.last + 1, tuple(dict.fromkeys(event.requests))
    is_bounded = event.timeout is not None
    begun = Waiting(number, event.agent, event.mail, event.targets, requests, event.mode, is_bounded)
    missing = tuple([request for request in requests if request in s.ledger.requests])
    is_over = rules.is_answered(begun.mode, len(requests), len(missing)) or turns.has_target(s, begun)
    is_over = is_over or (s.state is DRAINING and not turns.has_hope(s, begun))  # decision D21
    circle = () if is_over else s.waits.circle(begun, s.ledger.requests)
    if circle:
        return Refused(WaitCircle(circle, s.paths(circle)))
    agent = s.agents[event.agent]
    read_awaited(s, agent, requests)
    s.waits.begin(begun, missing, agent.status is RUNNING)
    end = turns.wait_end(s, begun)
    if end is None and s.state is DRAINING and not turns.has_hope(s, begun):
        end = WaitEnd.DRAINING
    if end is None and event.timeout == 0:
        end = WaitEnd.TIMEOUT
    if end is None:
        if event.timeout is not None:
            s.deadlines.set(Bound.WAIT, number, s.now + event.timeout)
        return WaitBegun(number)
    if agent.status is RUNNING:
        s.waits.end(number)
        return WaitOver(end)
    turns.wait_is_over(s, number, end)
    return WaitBegun(number)


def timeout_allowed(s: State, event: Wait) -> Refusal | None:
    """The timeout is within `max_wait`. Only waits for requests alone, and those without a condition, need none."""
    if event.timeout is None:
        return InvalidTimeout(math.inf, s.config.max_wait) if event.mail or event.targets else None
    return None if 0 <= event.timeout <= s.config.max_wait else InvalidTimeout(event.timeout, s.config.max_wait)


def read_awaited(s: State, agent: Agent, requests: tuple[int, ...]) -> None:
    """Lets the turn read the notices of answered requests that it awaits, so that an outcome is delivered once."""
    answered = {request for request in requests if request not in s.ledger.requests}
    if answered and agent.mailbox:
        notices = tuple([mail.mail for mail in agent.mailbox if answered.intersection(mail.answers)])
        if notices:
            turns.read_some(s, agent, notices)


def stop_waiting(s: State, event: StopWaiting) -> Reply:
    """Ends a wait that its code gives up. The code goes on at once if the turn has a slot, else when it has one."""
    refusal = session_lives(s) or agent_known(s, event.agent) or turn_works(s, event.agent, event.turn)
    if refusal is not None:
        return Refused(refusal)
    if event.wait not in s.waits.of_agent.get(event.agent, ()):
        return NOTED  # it is over, and the wake is on its way
    if s.agents[event.agent].status is RUNNING:
        s.waits.end(event.wait)
        s.deadlines.clear(Bound.WAIT, event.wait)
        return WaitOver(WaitEnd.GIVEN_UP)
    turns.wait_is_over(s, event.wait, WaitEnd.GIVEN_UP)
    return NOTED


# Asking


def status(s: State, event: Status) -> Reply:
    """The logical facts of an agent, the same for loaded and unloaded ones (BUG-B21)."""
    refusal = session_answers(s) or agent_known(s, event.target)
    return describe(s.agents[event.target]) if refusal is None else Refused(refusal)


def describe(agent: Agent) -> AgentStatus:
    """What a caller may know of an agent."""
    return AgentStatus(
        agent.id,
        agent.path,
        agent.parent,
        agent.identity is OPEN,
        agent.status,
        agent.turn,
        len(agent.mailbox),
        agent.outcome,
        agent.settings,
        agent.residency is Residency.RESIDENT,
    )


def list_agents(s: State, event: ListAgents) -> Reply:
    """Every open agent at or below the prefix, or every one, root first, then by path. Looks at no others."""
    refusal = session_answers(s)
    if refusal is not None:
        return Refused(refusal)
    found = [agent for agent in s.below(event.prefix, event.closed) if event.closed or agent.identity is OPEN]
    return Listing(tuple([describe(agent) for agent in sorted(found, key=attrgetter("path", "id"))]))


# Shutdown


def shutdown(s: State, event: Shutdown) -> Reply:
    """Begins to drain the session; `joint.py` does the rest. A second shutdown with less grace shortens the first."""
    refusal = session_lives(s)
    if refusal is None and not 0 <= event.grace < math.inf:
        refusal = InvalidTimeout(event.grace, math.inf)
    if refusal is not None:
        return Refused(refusal)
    end = s.now + event.grace
    if s.state is DRAINING:
        before, _ = s.deadlines.pending.get((Bound.GRACE, ROOT), (-math.inf, 0))
        if end < before:
            s.deadlines.set(Bound.GRACE, ROOT, end)
        return ShuttingDown()
    s.state = SHUTDOWN[s.state]
    s.begin_draining()
    for agent in list(s.residents.starting):
        turns.requeue(s, s.agents[agent])
    s.deadlines.set(Bound.GRACE, ROOT, end)
    return ShuttingDown()


OPERATIONS: dict[type, Callable[[State, Any], Reply]] = {
    Spawn: spawn,
    Send: send,
    FollowUp: follow_up,
    Start: start,
    Drain: drain,
    Interrupt: interrupt,
    Close: close,
    Resume: resume,
    Wait: wait,
    StopWaiting: stop_waiting,
    Withdraw: withdraw,
    Forget: forget,
    Status: status,
    ListAgents: list_agents,
    Shutdown: shutdown,
}
