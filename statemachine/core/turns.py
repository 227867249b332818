"""The life of one turn: requested, admitted, started, ended (section 3, Turn; section 4, the end of a turn).

The end of a turn is one step: result published, late trigger mail claimed or the slot released, requesters told. The
session shows no state in which only half of this is true (BUG-B15, BUG-B21, BUG-B32, BUG-B52).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from statemachine.core import rules
from statemachine.core.agents import Agent
from statemachine.core.config import Notice
from statemachine.core.deadlines import Bound
from statemachine.core.effects import Answer, Cancel, Flush, StartTurn, Unload, WaitEnd, Wake
from statemachine.core.events import HOST, ROOT, WaitMode
from statemachine.core.facts import Result
from statemachine.core.machines import TURN, Identity, Moves, Residency, SessionState, SlotState, TurnState
from statemachine.core.records import (
    Cause,
    LoadEnded,
    MailAccepted,
    MailKind,
    MailRead,
    NoticeBuried,
    Outcome,
    TurnEnded,
    TurnReturned,
    TurnStarted,
    TurnStopped,
)
from statemachine.core.state import State
from statemachine.core.waits import Waiting

REQUEST, ADMIT, START, NEXT = (TURN.moves(trigger) for trigger in ("request", "admit", "start", "next"))
FINISH, FAIL, ABORT = (TURN.moves(trigger) for trigger in ("finish", "fail", "abort"))
STOP, CANNOT_START, REQUEUE = TURN.moves("stop"), TURN.moves("cannot_start"), TURN.moves("requeue")
LEND, CALL_BACK, GO_ON = TURN.moves("lend"), TURN.moves("call_back"), TURN.moves("go_on")

OPEN_SESSION, OPEN = SessionState.OPEN, Identity.OPEN
QUEUED, STARTING, RUNNING, STOPPING = TurnState.QUEUED, TurnState.STARTING, TurnState.RUNNING, TurnState.STOPPING
WAITING, TIMED_OUT = TurnState.WAITING, Cause.TIMED_OUT
RESIDENT, NO_NOTICE = Residency.RESIDENT, Notice.NONE


# From request to start


def consider(s: State, agent: Agent) -> None:
    """J1: requests a turn if the agent is idle and has unread trigger mail. Not during a shutdown: the mail is still
    unread, and still a trigger, when the session is opened again (decision D14).
    """
    if s.state is OPEN_SESSION and rules.wants_turn(agent.identity, agent.status, agent.triggers):
        request(s, agent)


def request(s: State, agent: Agent) -> None:
    """Queues the turn for a slot. One that is entitled to a slot is admitted in the same step."""
    agent.status = REQUEST[agent.status]
    agent.turn += 1
    if s.config.idle_ttl is not None:
        s.deadlines.clear(Bound.IDLE, agent.id)
    if agent.id != ROOT and not s.live_threads:
        s.slots.enqueue(agent.id, agent.depth)
    else:
        s.slots.entitled[agent.id] = None


def admit(s: State, agent: Agent) -> None:
    """J2: gives a slot to the turn, which was taken out of its line."""
    agent.status = ADMIT[agent.status]
    if s.live_threads and agent.id != ROOT:
        s.slots.use_again(agent.id, agent.turn)
    else:
        s.slots.reserve(agent.id, agent.turn)
    residents = s.residents
    residents.taken(agent.id)
    if agent.residency is RESIDENT and not residents.unsettled and not s.waits.returning:
        start(s, agent)  # J3, of which no other turn is in the way: slots come before starts (decision D31)
    else:
        residents.starts(agent.id)


def start(s: State, agent: Agent) -> None:
    """J3: starts the turn, with all unread mail as its input. If it waited for room, that ended with its load (J4)."""
    assert agent.residency is RESIDENT, "S14: a turn runs on a resident thread"
    agent.status = START[agent.status]
    s.slots.activate(agent.id, agent.turn)
    if s.config.turn_timeout is not None:
        s.deadlines.set(Bound.TURN, agent.id, s.now + s.config.turn_timeout)
    s.records.append(TurnStarted(agent.id, agent.turn))
    mail = s.ledger.start_turn(agent, agent.turn)
    if s.residents.lost:
        s.residents.made_up_for(agent.id)
    attempts = s.ledger.attempts
    attempt = attempts.get(agent.id, 0) + 1 if attempts else 1
    s.effects.append(StartTurn(agent.id, agent.turn, agent.generation, mail, attempt))


def requeue(s: State, agent: Agent) -> None:
    """Puts a starting turn back into the queue when the session begins to drain, and frees its slot."""
    agent.status = REQUEUE[agent.status]
    s.residents.wait_over(agent.id)
    if s.ledger.loads.pop(agent.id, None) is not None:
        s.residents.made_up_for(agent.id)
        s.records.append(LoadEnded(agent.id))
    if s.live_threads and agent.id != ROOT:
        s.slots.entitled[agent.id] = None
        return
    s.slots.release(agent.id)
    if agent.id == ROOT:
        s.slots.entitled[agent.id] = None
    else:
        s.slots.enqueue(agent.id, agent.depth)
    mark_use(s, agent)


# Waiting


def lend(s: State, agent: Agent) -> None:
    """J7: lends the slot of a waiting turn."""
    agent.status = LEND[agent.status]
    del s.waits.lenders[agent.id]
    s.slots.lend(agent.id)


def go_on(s: State, agent: Agent) -> None:
    """J2: gives a returning turn a slot, and tells it which of its waits are over. If it has others, it waits anew."""
    agent.status = GO_ON[agent.status]
    del s.waits.returning[agent.id]
    s.slots.overtake(agent.id)
    s.slots.go_on(agent.id, agent.turn)
    for number, why in sorted(s.waits.over.pop(agent.id)):  # in the order in which they began (decision D31)
        s.effects.append(Wake(agent.id, agent.turn, number, why))
    if agent.id in s.waits.of_agent:
        s.waits.may_lend(agent.id)


def wait_is_over(s: State, number: int, why: WaitEnd) -> None:
    """Ends the wait. The turn is told at once if it has a slot, else as soon as it has one again."""
    wait = s.waits.end(number)
    s.deadlines.clear(Bound.WAIT, number)
    call_back(s, s.agents[wait.agent], number, why)


def wait_end(s: State, wait: Waiting) -> WaitEnd | None:
    """L4: returns why the wait is over now, or None."""
    missing = s.waits.missing.get(wait.number, 0)
    return rules.wait_end(
        rules.is_answered(wait.mode, len(wait.requests), missing),
        wait.mail and bool(s.agents[wait.agent].mailbox),
        has_target(s, wait),
    )


def has_target(s: State, wait: Waiting) -> bool:
    """Is a target of the wait done?"""
    return any(rules.is_done(s.agents[target].identity, s.agents[target].status) for target in wait.targets)


def has_hope(s: State, wait: Waiting) -> bool:
    """Could a turn that has started end the wait?"""

    def works(agent: int) -> bool:
        return s.agents[agent].status >= RUNNING

    if wait.is_own_choice or any(works(target) for target in wait.targets):
        return True
    if wait.mail and any(a.status >= RUNNING and a.id != wait.agent for a in s.agents):
        return True
    awaited = [works(s.ledger.requests[request]) for request in wait.requests if request in s.ledger.requests]
    return bool(awaited) and (all(awaited) if wait.mode is WaitMode.ALL else any(awaited))


def call_back(s: State, agent: Agent, number: int, why: WaitEnd) -> None:
    """Tells a running turn that its wait is over; calls a waiting one back."""
    if agent.status is RUNNING:
        s.effects.append(Wake(agent.id, agent.turn, number, why))
        return
    s.waits.over[agent.id] = (*s.waits.over.get(agent.id, ()), (number, why))
    if agent.status is WAITING:
        agent.status = CALL_BACK[agent.status]
        s.waits.returning[agent.id] = None


def end_waits(s: State, agent: Agent, told: bool) -> None:
    """Ends all waits of a turn that is over or was asked to stop; `told` says whether its code is told."""
    for number, why in s.waits.drop(agent.id):
        s.deadlines.clear(Bound.WAIT, number)
        if told:
            s.effects.append(Wake(agent.id, agent.turn, number, why))


# The end


def end(
    s: State,
    agent: Agent,
    trigger: Moves[TurnState],
    result: Result,
    cause: Cause,
    by: int | None = None,
    also: tuple[MailAccepted, ...] = (),
    tell_always: bool = False,
    below: int | None = None,
    closing: Collection[int] = (),
) -> None:
    """Ends the turn that the agent has or waits for, by `trigger`. What `cause` and `by` say: see `Outcome`.

    `also` are requests answered by this end besides those the turn took; `tell_always` tells requesters of an
    interrupted turn even without `notify_interrupted`, because the agent is closed (BUG-B56). `below`: see
    `TurnStopped`. `closing` are agents that are closed in this step, and may hold a slot still.
    """
    before = agent.status
    started = before >= RUNNING
    stopped = s.ledger.stops.get(agent.id) if before is STOPPING else None
    outcome = Outcome(agent.id, agent.turn, trigger[before], result, cause, by)
    s.records.append(TurnEnded(outcome))
    answered = s.ledger.end_turn(agent, outcome, started)
    if s.residents.lost:
        s.residents.made_up_for(agent.id)
    had_slot = lay_down(s, agent, before)
    told: Iterable[Agent] = ()
    if answered or also:
        within = below if stopped is None else stopped.below
        timed_out = stopped is not None and stopped.cause is TIMED_OUT
        told = tell(s, outcome, answered + also, tell_always or timed_out, within, closing)
    if started and agent.triggers and rules.goes_on(had_slot, may_begin(s, agent), is_wanted(s, agent)):
        begin_next(s, agent)
    mark_use(s, agent)
    if agent.triggers:
        consider(s, agent)
    for requester in told:
        consider(s, requester)
    if s.draining is not None and started:
        s.draining.add(agent.id, outcome.status is TurnState.INTERRUPTED)


def give_up(s: State, agent: Agent) -> None:
    """Returns the turn: what it had read is unread again, J1 asks for the next turn, no requester is told (S17)."""
    before = agent.status
    s.records.append(TurnReturned(agent.id, agent.turn))
    s.ledger.return_turn(agent, agent.turn)
    lay_down(s, agent, before)
    mark_use(s, agent)
    consider(s, agent)
    if s.draining is not None:
        s.draining.add(agent.id, was_interrupted=True)


def lay_down(s: State, agent: Agent, before: TurnState) -> bool:
    """Takes a turn that is over, and was `before`, out of queue, waits and deadlines; waits for its agent may be over.
    Frees its slot (`LIVE_THREADS`: the agent keeps it), and returns whether it held one.
    """
    slots, waits = s.slots, s.waits
    if waits.pending or waits.over:
        end_waits(s, agent, told=False)
        if agent.id in waits.on_target:
            waits.touch(waits.on_target[agent.id])
    if before is QUEUED:
        slots.dequeue(agent.id)
        slots.entitled.pop(agent.id, None)
        return False
    if before is STARTING:
        s.residents.wait_over(agent.id)
    else:
        if s.config.turn_timeout is not None:
            s.deadlines.clear(Bound.TURN, agent.id)
        if before is STOPPING:
            s.deadlines.clear(Bound.STOP, agent.id)
    if agent.id in slots.lent:
        del slots.lent[agent.id]
        return False
    if not s.live_threads or agent.id == ROOT:
        slots.release(agent.id)
    elif slots.holders[agent.id][1] is SlotState.ACTIVE:
        slots.pass_on(agent.id, agent.turn)
    return True


def begin_next(s: State, agent: Agent) -> None:
    """*next*: gives the slot of the turn that is over to the agent's next turn."""
    agent.status = NEXT[agent.status]
    agent.turn += 1
    s.slots.overtake(agent.id)
    if s.live_threads and agent.id != ROOT:
        s.slots.use_again(agent.id, agent.turn)
    else:
        s.slots.reserve(agent.id, agent.turn)
    s.residents.taken(agent.id)
    s.residents.starts(agent.id)


def may_begin(s: State, agent: Agent) -> bool:
    """May a turn of the agent begin at all?"""
    return s.state is OPEN_SESSION and agent.identity is OPEN


def is_wanted(s: State, agent: Agent) -> bool:
    """Does another turn come before the agent's own next turn: one that returns, is called back by this very end, or is
    due? The slots of the root and of live threads are of no use to others.
    """
    if agent.id == ROOT or s.live_threads:
        return False
    waits = s.waits
    if waits.returning or s.slots.is_due(s.config.max_overtaken):
        return True
    touched = [waits.pending[number] for number in waits.touched]
    return any(s.agents[wait.agent].status is WAITING and wait_end(s, wait) is not None for wait in touched)


def mark_use(s: State, agent: Agent) -> None:
    """N2: makes the agent, if it is evictable (N1), the most recently used: a turn of it ended, or it was loaded."""
    if rules.is_evictable(agent.id, s.live_threads, agent.residency, agent.status):
        s.residents.used(agent)
        if s.config.idle_ttl is not None and agent.status.is_idle:
            s.deadlines.set(Bound.IDLE, agent.id, s.now + s.config.idle_ttl)


def tell(
    s: State,
    outcome: Outcome,
    answered: tuple[MailAccepted, ...],
    tell_always: bool = False,
    below: int | None = None,
    closing: Collection[int] = (),
) -> list[Agent]:
    """L3: tells each requester the outcome once: callers by an answer, agents by a notice. Then the waits for these
    requests may be over. Returns the agents that may ask for a turn now (J1). `below`: see `TurnStopped`; `closing`:
    see `end`.
    """
    told: list[Agent] = []
    numbers: list[int] = []
    requesters: dict[int, tuple[int, ...]] = {}
    for mail in answered:
        numbers.append(mail.mail)
        if mail.sender not in (HOST, outcome.agent):
            requesters[mail.sender] = (*requesters.get(mail.sender, ()), mail.mail)
    s.effects.append(Answer(tuple(numbers), outcome))
    if (
        requesters
        and s.config.notice is not NO_NOTICE
        and (tell_always or rules.notice_is_due(outcome.status, s.config.notify_interrupted))
    ):
        for requester, asked in requesters.items():
            if notify(s, s.agents[requester], outcome, asked, below, told, closing):
                told.append(s.agents[requester])
    if s.waits.on_request:
        for number in numbers:
            s.waits.answered(number)
    return told


def notify(
    s: State,
    requester: Agent,
    outcome: Outcome,
    asked: tuple[int, ...],
    below: int | None,
    told: list[Agent],
    closing: Collection[int] = (),
) -> bool:
    """Sends one notice, whether the requester is loaded or not (BUG-B33). To a closed requester it is a dead letter; a
    turn that awaits one of the requests reads it in this step, so that an outcome is delivered once (section 7). `told`
    are the agents that this outcome may wake already, and what `closing` ones hold is free. Returns whether the notice
    asks for a turn.
    """
    if requester.identity is Identity.FORGOTTEN:
        return False
    number = s.ledger.next_mail
    if requester.identity is not OPEN:
        s.records.append(NoticeBuried(number, requester.id, outcome))
        s.ledger.bury_notice()
        return False
    queued = len(s.slots.ready) - sum([agent in s.slots.ready for agent in closing])
    wakes = s.config.notice is Notice.TRIGGER and rules.may_wake(
        requester.id,
        requester.status,
        s.live_threads,
        s.state is OPEN_SESSION,
        s.slots.cap,
        queued + asking(s, s.agents[outcome.agent], told),
        available(s, closing),
        s.config.max_queued,
    )
    wakes = wakes and (below is None or not s.is_below(requester.id, below))
    kind = MailKind.TRIGGER if wakes else MailKind.QUEUE
    accept(s, MailAccepted(number, outcome.agent, requester.id, kind, "", outcome, None, asked), asks=False)
    if s.waits.awaits(requester.id, asked):
        read_some(s, requester, (number,))
    return wakes


def asking(s: State, ended: Agent, told: list[Agent]) -> int:
    """Counts the turns that will queue and do not yet: of agents that were told of this end, and the agent's own."""
    if s.live_threads:
        return 0
    return sum(agent.id != ROOT and agent.triggers > 0 and agent.status.is_idle for agent in (ended, *told))


def available(s: State, closing: Collection[int] = ()) -> int:
    """Counts the slots that a request would find: those that are free, or that agents hold which are closed in this
    step, and those that waiting holders may lend.
    """
    slots, lenders = s.slots, len(s.waits.lenders)
    free, lent = slots.free, len(slots.lent)
    for agent in closing:
        free += agent in slots.holders
        lenders -= agent in s.waits.lenders
        lent -= agent in slots.lent
    if not lenders:
        return free
    return free + min(lenders, max(0, s.config.max_resident - slots.cap - lent))


def read_some(s: State, agent: Agent, mails: tuple[int, ...]) -> None:
    """Lets the turn read these mails alone: the notices of requests that it awaits."""
    s.records.append(MailRead(agent.id, agent.turn, mails))
    s.ledger.read_some(agent, mails)


def accept(s: State, mail: MailAccepted, asks: bool = True) -> None:
    """Puts the mail into the target's mailbox; an idle agent asks for a turn (J1), unless that is left for later."""
    s.records.append(mail)
    target = s.ledger.accept(mail)
    if s.waits.pending and target.id in s.waits.of_agent:
        s.waits.touch(s.waits.of_agent[target.id])
    if asks:
        consider(s, target)


# Stopping


def stop(s: State, agent: Agent, cause: Cause, by: int | None = None, below: int | None = None) -> None:
    """Asks a turn that has started to stop; `stop_grace` bounds how long that may take."""
    end_waits(s, agent, told=True)
    agent.status = STOP[agent.status]
    if s.config.turn_timeout is not None:
        s.deadlines.clear(Bound.TURN, agent.id)
    stopped = TurnStopped(agent.id, agent.turn, cause, by, below)
    s.records.append(stopped)
    s.ledger.stops[agent.id] = stopped
    s.effects.append(Cancel(agent.id, agent.turn))
    s.deadlines.set(Bound.STOP, agent.id, s.now + s.config.stop_grace)


def widen(s: State, agent: Agent, below: int) -> None:
    """Extends the stop of a turn that is stopping already when a subtree around it is interrupted: its end starts no
    turn in there either.
    """
    stopped = s.ledger.stops[agent.id]
    if stopped.below is not None and s.is_below(below, stopped.below):
        return
    s.ledger.stops[agent.id] = TurnStopped(agent.id, agent.turn, stopped.cause, stopped.by, below)
    s.records.append(s.ledger.stops[agent.id])


# Threads


def evict(s: State, agent: Agent, serves: int) -> None:
    """N3: flushes the agent's rollout, to unload the agent then, in favour of `serves`."""
    number = s.residents.evict(agent, serves)
    s.deadlines.clear(Bound.IDLE, agent.id)
    s.deadlines.set(Bound.FLUSH, agent.id, s.now + s.config.flush_timeout)
    s.effects.append(Flush(agent.id, agent.generation, number))


def drop_thread(s: State, agent: Agent, tell_thread: bool = True) -> None:
    """Drops a thread that is lost or given up: it holds nothing any more, and what it still reports is stale (S9).

    The root stays resident (S13), with a new generation: the program that runs the core builds its thread anew when a
    turn of it starts.
    """
    if agent.residency is Residency.UNLOADED:
        return
    if tell_thread:
        s.effects.append(Unload(agent.id, agent.generation))
    if s.draining is not None and agent.identity is OPEN:
        s.draining.lose(agent.id)
    for bound in (Bound.LOAD, Bound.FLUSH, Bound.IDLE):
        s.deadlines.clear(bound, agent.id)
    if agent.id == ROOT:
        agent.generation += 1
        s.residents.flushes.pop(ROOT, None)
    else:
        s.residents.died(agent)
