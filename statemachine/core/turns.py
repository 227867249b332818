"""The life of one turn: requested, admitted, started, ended (section 3, Turn; section 4, the end of a turn).

The end of a turn is one step: result published, late trigger mail claimed or the slot released, requesters told. The
session shows no state in which only half of this is true (BUG-B15, BUG-B21, BUG-B32, BUG-B52).
"""

from __future__ import annotations

from statemachine.core import rules
from statemachine.core.agents import Agent
from statemachine.core.config import Notice
from statemachine.core.deadlines import Bound
from statemachine.core.effects import Answer, Cancel, Flush, StartTurn, Unload, WaitEnd, Wake
from statemachine.core.events import HOST, ROOT
from statemachine.core.facts import Result
from statemachine.core.machines import TURN, Identity, Moves, Residency, SessionState, SlotState, TurnState
from statemachine.core.records import Cause, MailAccepted, MailKind, NoticeBuried, Outcome, TurnEnded, TurnStarted
from statemachine.core.state import State, Stop

REQUEST, ADMIT, START, NEXT = (TURN.moves(trigger) for trigger in ("request", "admit", "start", "next"))
FINISH, FAIL, ABORT = (TURN.moves(trigger) for trigger in ("finish", "fail", "abort"))
STOP, CANNOT_START = TURN.moves("stop"), TURN.moves("cannot_start")

OPEN_SESSION, OPEN = SessionState.OPEN, Identity.OPEN
QUEUED, STARTING, RUNNING, STOPPING = TurnState.QUEUED, TurnState.STARTING, TurnState.RUNNING, TurnState.STOPPING
RESIDENT, NO_NOTICE = Residency.RESIDENT, Notice.NONE


# From request to start


def consider(s: State, agent: Agent) -> None:
    """J1: if the agent is idle and has unread trigger mail, a turn of it is requested. Not during a shutdown: the mail
    is still unread, and still a trigger, when the session is opened again (decision D14).
    """
    if s.state is OPEN_SESSION and rules.wants_turn(agent.identity, agent.status, agent.triggers):
        request(s, agent)


def request(s: State, agent: Agent) -> None:
    """The turn queues for a slot. One that is entitled to a slot is admitted in the same step."""
    agent.status = REQUEST[agent.status]
    agent.turn += 1
    if s.config.idle_ttl is not None:
        s.deadlines.clear(Bound.IDLE, agent.id)
    if agent.id != ROOT and not s.live_threads:
        s.slots.ready[agent.id] = None
    else:
        s.slots.entitled[agent.id] = None


def admit(s: State, agent: Agent) -> None:
    """J2: the turn gets a slot."""
    agent.status = ADMIT[agent.status]
    if s.live_threads and agent.id != ROOT:
        s.slots.use_again(agent.id, agent.turn)
    else:
        s.slots.reserve(agent.id, agent.turn)
    s.residents.taken(agent)
    s.residents.starting[agent.id] = None


def start(s: State, agent: Agent) -> None:
    """J3: the turn runs, with all unread mail as its input. If it waited for room, that was over with its load (J4)."""
    assert agent.residency is RESIDENT, "S14: a turn runs on a resident thread"
    agent.status = START[agent.status]
    s.slots.activate(agent.id, agent.turn)
    del s.residents.starting[agent.id]
    s.records.append(TurnStarted(agent.id, agent.turn))
    mail = s.ledger.read_mail(agent)
    s.effects.append(StartTurn(agent.id, agent.turn, agent.generation, mail))


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
) -> None:
    """The turn that the agent has or waits for is over, by `trigger`. What `cause` and `by` say: see `Outcome`.

    `also` are requests answered by this end besides those the turn took; `tell_always` tells requesters of an
    interrupted turn even without `notify_interrupted`, because the agent is closed (BUG-B56).
    """
    before = agent.status
    started = before >= RUNNING
    outcome = Outcome(agent.id, agent.turn, trigger[before], result, cause, by)
    s.records.append(TurnEnded(outcome))
    answered = s.ledger.end_turn(agent, outcome, started)
    if before is QUEUED:
        s.slots.ready.pop(agent.id, None)
        s.slots.entitled.pop(agent.id, None)
    else:
        if before is STARTING:
            s.residents.wait_over(agent.id)
        else:
            if s.waits.pop(agent.id, None) is not None:
                s.deadlines.clear(Bound.WAIT, agent.id)
            if before is STOPPING:
                s.stops.pop(agent.id, None)
                s.deadlines.clear(Bound.STOP, agent.id)
        give_back(s, agent, started)
    if s.residents.occupied:
        mark_use(s, agent)
    if agent.triggers:
        consider(s, agent)
    if answered or also:
        tell(s, outcome, answered + also, tell_always)
    if s.draining is not None and started:
        s.draining.add(agent.id, outcome.status is TurnState.INTERRUPTED)


def give_back(s: State, agent: Agent, started: bool) -> None:
    """*next*: the slot passes to the agent's next turn if late trigger mail asks for one; else it is released."""
    if started and rules.goes_on(agent.triggers) and s.state is OPEN_SESSION and agent.identity is OPEN:
        agent.status = NEXT[agent.status]
        agent.turn += 1
        s.slots.pass_on(agent.id, agent.turn)
        s.residents.starting[agent.id] = None
    elif not s.live_threads or agent.id == ROOT:
        s.slots.release(agent.id)
    elif s.slots.holders[agent.id][1] is SlotState.ACTIVE:
        s.slots.pass_on(agent.id, agent.turn)


def mark_use(s: State, agent: Agent) -> None:
    """N2: a turn of it ended, or it was loaded. If it is evictable (N1), it is the most recently used."""
    if rules.is_evictable(agent.id, s.live_threads, agent.residency, agent.id in s.slots.holders):
        s.residents.used(agent)
        if s.config.idle_ttl is not None and agent.status.is_idle:
            s.deadlines.set(Bound.IDLE, agent.id, s.now + s.config.idle_ttl)


def tell(s: State, outcome: Outcome, answered: tuple[MailAccepted, ...], tell_always: bool) -> None:
    """L3: everyone who asked for this turn gets its outcome, once: callers their answer, agents a notice."""
    numbers: list[int] = []
    requesters: dict[int, None] = {}
    for mail in answered:
        numbers.append(mail.mail)
        if mail.sender not in (HOST, outcome.agent):
            requesters[mail.sender] = None
    s.effects.append(Answer(tuple(numbers), outcome))
    if not requesters or s.config.notice is NO_NOTICE:
        return
    if tell_always or rules.notice_is_due(outcome.status, s.config.notify_interrupted):
        for requester in requesters:
            notify(s, s.agents[requester], outcome)


def notify(s: State, requester: Agent, outcome: Outcome) -> None:
    """One notice, loaded or not (BUG-B33); to a closed requester it is a dead letter."""
    number = s.ledger.next_mail
    if requester.identity is not OPEN:
        s.records.append(NoticeBuried(number, requester.id, outcome))
        s.ledger.bury_notice()
        return
    wakes = s.config.notice is Notice.TRIGGER and rules.may_wake(
        requester.id,
        requester.status,
        s.live_threads,
        s.state is OPEN_SESSION,
        s.slots.cap,
        len(s.slots.ready),
        s.slots.free,
        s.config.max_queued,
    )
    kind = MailKind.TRIGGER if wakes else MailKind.QUEUE
    accept(s, MailAccepted(number, outcome.agent, requester.id, kind, "", outcome))


def accept(s: State, mail: MailAccepted) -> None:
    """The mail is unread; an idle agent asks for a turn (J1)."""
    s.records.append(mail)
    consider(s, s.ledger.accept(mail))


# Stopping and waiting


def stop(s: State, agent: Agent, why: Stop) -> None:
    """A running turn is asked to stop; `stop_grace` bounds how long that may take."""
    if agent.id in s.waits:
        wake(s, agent.id, WaitEnd.INTERRUPTED)
    agent.status = STOP[agent.status]
    s.stops[agent.id] = why
    s.effects.append(Cancel(agent.id, agent.turn))
    s.deadlines.set(Bound.STOP, agent.id, s.now + s.config.stop_grace)


def wake(s: State, agent: int, why: WaitEnd) -> None:
    """The agent's wait returns."""
    waiting = s.waits.pop(agent)
    s.deadlines.clear(Bound.WAIT, agent)
    s.effects.append(Wake(agent, waiting.turn, why))


def wait_end(s: State, agent: int, targets: tuple[int, ...]) -> WaitEnd | None:
    """L4: why the agent's wait on mail and on these targets returns now, or None."""
    done = any(rules.is_done(s.agents[target].identity, s.agents[target].status) for target in targets)
    return rules.wait_end(len(s.agents[agent].mailbox), done)


# Threads


def evict(s: State, agent: Agent, serves: int) -> None:
    """N3: the agent's rollout is flushed, and then it is unloaded, for the sake of `serves`."""
    number = s.residents.evict(agent, serves)
    s.deadlines.clear(Bound.IDLE, agent.id)
    s.deadlines.set(Bound.FLUSH, agent.id, s.now + s.config.flush_timeout)
    s.effects.append(Flush(agent.id, agent.generation, number))


def drop_thread(s: State, agent: Agent, tell_thread: bool = True) -> None:
    """The thread is no more, or no more ours: it holds nothing, and what it still reports is stale (S9).

    The root stays resident (S13), with a new generation: whoever runs the core builds its thread anew when a turn of
    it starts.
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
