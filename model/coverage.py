"""Counts `sometimes` properties: what the engines must reach, so that "all held" cannot mean "nothing was tried".

Every row of every machine, every joint rule, every refusal, every kind of stale report, and the pairs that matter:
one thing in the middle of another. One that no engine reached fails the check.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from functools import cache
from typing import Any, TypeVar

from attrs import frozen

from statemachine.core import events as ev
from statemachine.core import rules
from statemachine.core.deadlines import Bound
from statemachine.core.effects import Cancel, Flush, Refused, ShutDown, Stale, StartTurn, Step, WaitEnd, WaitOver, Wake
from statemachine.core.machines import COMPILED, MACHINES, Identity, Moves, Residency, SessionState, TurnState
from statemachine.core.records import (
    Cause,
    MailAccepted,
    MailDemoted,
    MailDrained,
    MailKind,
    MailRead,
    NoticeBuried,
    TurnEnded,
    TurnReturned,
    TurnStarted,
    TurnStopped,
)
from statemachine.core.refusals import REFUSALS, InvalidHeaders
from statemachine.core.residency import NO_AGENT
from statemachine.core.session import Session

from .lockstep import Restart

S = TypeVar("S", bound=IntEnum)
Seen = Callable[[Session, Any, Step, Session], bool]

LOADING, UNLOADING, UNLOADED = Residency.LOADING, Residency.UNLOADING, Residency.UNLOADED
REPORTS = (ev.Loaded, ev.LoadFailed, ev.Flushed, ev.FlushFailed, ev.Finished, ev.Failed, ev.Aborted, ev.Died)


@frozen
class Sometimes:
    """A situation that must be reached. `on` are the event classes by which it can be; `by` is a class of records or
    effects that every step has that reaches it, None if there is none.
    """

    id: str
    sentence: str
    on: tuple[type, ...]
    seen: Seen
    by: type | None = None


# Moves are counted where the core looks them up

MOVES: Counter[tuple[str, str, IntEnum]] = Counter()


class CountingMoves(Moves[S]):
    """Counts look-ups. A `Moves` becomes one during `counting()`, and costs nothing otherwise."""

    __slots__ = ()

    def __getitem__(self, state: S) -> S:
        MOVES[self.machine, self.trigger, state] += 1
        return dict.__getitem__(self, state)  # what `super()` would find, at a third of the cost


def move_id(machine: str, trigger: str, source: IntEnum) -> str:
    """Returns the name under which uses of a row are counted."""
    return f"move {machine}.{trigger} from {source.name.lower()}"


@contextmanager
def counting() -> Iterator[Counter[tuple[str, str, IntEnum]]]:
    """Counts every move that the core makes in this process, from zero."""
    MOVES.clear()
    for moves in COMPILED.values():
        moves.__class__ = CountingMoves
    try:
        yield MOVES
    finally:
        for moves in COMPILED.values():
            moves.__class__ = Moves


@contextmanager
def uncounted() -> Iterator[None]:
    """What the core makes within the block does not count for `counting`."""
    kept = MOVES.copy()
    yield
    MOVES.clear()
    MOVES.update(kept)


def moves_seen(moves: Counter[tuple[str, str, IntEnum]]) -> Counter[str]:
    """Returns the counts of `counting` by the ids of `required`."""
    return Counter({move_id(*move): count for move, count in moves.items()})


# What a step reaches


def target_was(place: Residency | None = None, *phases: TurnState) -> Seen:
    """Returns a test: did the operation find its target's thread at this place, and its turn in one of these phases?"""

    def seen(before: Session, event: Any, _: Step, __: Session) -> bool:
        agent = before.agents[event.target]
        return (place is None or agent.residency is place) and (not phases or agent.status in phases)

    return seen


def agent_was(place: Residency | None = None, *phases: TurnState) -> Seen:
    """Returns a test: was the report about an agent with its thread at this place, its turn in one of these phases?"""

    def seen(before: Session, event: Any, _: Step, __: Session) -> bool:
        agent = before.agents[event.agent]
        return (place is None or agent.residency is place) and (not phases or agent.status in phases)

    return seen


def evicted_for_turn(before: Session, after: Session) -> list[int]:
    """Returns the agents whose eviction for a turn began in this step."""
    was = before.residents.serves
    return [a for a, served in after.residents.serves.items() if served != NO_AGENT and a not in was]


def second_candidate(before: Session, event: Any, _: Step, after: Session) -> bool:
    served = before.residents.serves.get(event.agent, NO_AGENT)
    return served != NO_AGENT and any(after.residents.serves[a] == served for a in evicted_for_turn(before, after))


def ended_by(*causes: Cause) -> Seen:
    def seen(_: Session, __: Any, step: Step, ___: Session) -> bool:
        return any(r.__class__ is TurnEnded and r.outcome.cause in causes for r in step.records)

    return seen


def goes_on(before: Session, event: Any, step: Step, _: Session) -> bool:
    ended = any(r.__class__ is TurnEnded and r.outcome.agent == event.agent for r in step.records)
    return ended and before.agents[event.agent].triggers > 0


def due(bound: Bound) -> Seen:
    def seen(before: Session, event: Any, _: Step, __: Session) -> bool:
        return any(key[0] is bound and at <= event.now for key, (at, ___) in before.deadlines.pending.items())

    return seen


def woken(end: WaitEnd) -> Seen:
    def seen(_: Session, __: Any, step: Step, ___: Session) -> bool:
        return any(e.__class__ is Wake and e.end is end for e in step.effects)

    return seen


def over_at_once(end: WaitEnd) -> Seen:
    return lambda _, __, step, ___: isinstance(step.reply, WaitOver) and step.reply.end is end


def notice(unloaded: bool = False, demoted: bool = False) -> Seen:
    def seen(_: Session, __: Any, step: Step, after: Session) -> bool:
        for r in step.records:
            if r.__class__ is MailAccepted and r.notice is not None:
                if unloaded and after.agents[r.target].residency is UNLOADED:
                    return True
                if demoted and after.config.notice.value == "trigger" and r.kind is MailKind.QUEUE:
                    return True
        return False

    return seen


def record_seen(kind: type) -> Seen:
    return lambda _, __, step, ___: any(r.__class__ is kind for r in step.records)


def some_agent_was(*phases: TurnState) -> Seen:
    return lambda before, *_: any(a.status in phases for a in before.agents)


def passed_on(before: Session, _: Any, __: Step, after: Session) -> bool:
    was = before.residents.serves
    now = after.residents.serves
    return bool(now) and any(served != NO_AGENT and was.get(a, served) != served for a, served in now.items())


def queued_victim(before: Session, _: Any, __: Step, after: Session) -> bool:
    return any(after.agents[a].triggers and a in before.residents.idle for a in evicted_for_turn(before, after))


def kept(before: Session, _: Any, __: Step, after: Session) -> bool:
    return any(
        before.agents[a].residency is UNLOADING
        and after.agents[a].residency is Residency.RESIDENT
        and a in after.slots.holders
        for a in before.residents.serves
    )


def became(*states: TurnState, of: tuple[TurnState, ...]) -> Seen:
    """A turn that was in one of the states `of` is in one of these now."""

    def seen(before: Session, _: Any, __: Step, after: Session) -> bool:
        return any(b.status in of and a.status in states for b, a in zip(before.agents, after.agents, strict=False))

    return seen


def lent(state: SessionState, for_returning: bool) -> Seen:
    """A turn lent its slot, to one that returns or to one that starts."""
    goes_on = became(RUNNING, of=(WAITING, RETURNING))

    def seen(before: Session, event: Any, step: Step, after: Session) -> bool:
        has_lent = after.state is state and any(a not in before.slots.lent for a in after.slots.lent)
        return has_lent and goes_on(before, event, step, after) is for_returning

    return seen


def at_the_bound(s: Session) -> bool:
    """Turns wait that would lend, and others queue, but no more may be in memory without a slot."""
    if not s.slots.ready or not s.waits.lenders or s.slots.held != s.slots.cap:
        return False
    return not rules.may_lend_to_queue(len(s.slots.lent), s.config.max_resident, s.slots.cap)


def spared(by_choice: bool) -> Seen:
    """All holders wait while others queue, and none is stalled: because one waits by its own choice, or because a turn
    is stopping without a slot.
    """

    def seen(_: Session, __: Any, ___: Step, s: Session) -> bool:
        if not at_the_bound(s) or len(s.waits.lenders) < s.slots.held:
            return False
        chosen = any(all(wait.is_own_choice for wait in s.waits.of(a)) for a in s.waits.lenders)
        return chosen is by_choice and (by_choice or any(s.agents[a].status is STOPPING for a in s.slots.lent))

    return seen


def served(oldest: bool) -> Seen:
    """Of several queued turns, a deeper one was admitted before the oldest; or the oldest, being due, before it."""

    def seen(before: Session, _: Any, __: Step, after: Session) -> bool:
        line = list(before.slots.ready.items())
        got = [agent for agent, _ in line if agent in after.slots.holders and agent not in after.slots.ready]
        if len(line) < 2 or not got:
            return False
        first, depth = line[0]
        if not oldest:
            return first in after.slots.ready
        return got == [first] and any(other > depth for _, other in line)

    return seen


def next_waits(before: Session, _: Any, step: Step, after: Session) -> bool:
    """A turn ended with a slot and late trigger mail, and its agent's next turn has to queue."""
    ended = [r.outcome.agent for r in step.records if r.__class__ is TurnEnded]
    return any(
        before.agents[a].triggers and a in before.slots.holders and before.agents[a].status in STARTED
        for a in ended
        if a < len(before.agents) and a != ev.ROOT and after.agents[a].status is TurnState.QUEUED
    )


def returned(late: bool = False) -> Seen:
    """A turn was returned; `late`: to an agent that has later mail, which comes behind."""

    def seen(before: Session, _: Any, step: Step, __: Session) -> bool:
        agents = [before.agents[r.agent] for r in step.records if r.__class__ is TurnReturned]
        return any(a.mailbox and a.taken for a in agents) if late else bool(agents)

    return seen


def no_attempts_left(before: Session, _: Any, step: Step, __: Session) -> bool:
    ended = [r.outcome for r in step.records if r.__class__ is TurnEnded]
    return any(o.agent in before.ledger.attempts and o.cause in (Cause.THREAD_DIED, Cause.CRASHED) for o in ended)


def widened(before: Session, _: Any, step: Step, __: Session) -> bool:
    return any(r.__class__ is TurnStopped and before.agents[r.agent].status is STOPPING for r in step.records)


def waits_left(before: Session, _: Any, __: Step, after: Session) -> bool:
    back = [a for a in before.slots.lent if after.agents[a].status is RUNNING]
    return any(a in after.waits.of_agent for a in back)


def all_answered(before: Session, _: Any, step: Step, __: Session) -> bool:
    waits = [
        before.waits.pending.get(e.wait) for e in step.effects if e.__class__ is Wake and e.end is WaitEnd.ANSWERED
    ]
    return any(wait is not None and wait.mode is ev.WaitMode.ALL and len(wait.requests) > 1 for wait in waits)


def asked_elsewhere(before: Session, event: Any, _: Step, __: Session) -> bool:
    forgotten = {a.id for a in before.subtree(event.target)}
    return any(m.sender in forgotten for a in before.agents for m in (*a.mailbox, *a.taken) if a.id not in forgotten)


def shortened(before: Session, _: Any, __: Step, after: Session) -> bool:
    key = (Bound.GRACE, ev.ROOT)
    was, now = before.deadlines.pending.get(key), after.deadlines.pending.get(key)
    return was is not None and now is not None and now < was


RUNNING, STOPPING = TurnState.RUNNING, TurnState.STOPPING
WAITING, RETURNING = TurnState.WAITING, TurnState.RETURNING
WORKING, NOT_STARTED = (RUNNING, WAITING, RETURNING), (TurnState.QUEUED, TurnState.STARTING)
STARTED, WITHOUT_SLOT = (*WORKING, STOPPING), (WAITING, RETURNING)
ANY: tuple[type, ...] = (*ev.EVENTS, Restart)
ENDS = (ev.Finished, ev.Failed, ev.Aborted)

SITUATIONS: tuple[Sometimes, ...] = (
    Sometimes(
        "J5 evict", "a starting turn evicts an agent", ANY, lambda b, _, __, a: bool(evicted_for_turn(b, a)), Flush
    ),
    Sometimes(
        "J5 queued victim",
        "the victim has unread trigger mail, because no other can be evicted",
        ANY,
        queued_victim,
        Flush,
    ),
    Sometimes("J5 cannot start", "every candidate's flush failed", ANY, ended_by(Cause.NO_ROOM), TurnEnded),
    Sometimes("J6 keep", "an agent gets a slot on its way out, and stays", ANY, kept, StartTurn),
    Sometimes(
        "J2 deepest", "a deeper turn is served before the one that has queued longest", ANY, served(oldest=False)
    ),
    Sometimes("J2 due", "the one that has queued longest is due, and served before a deeper", ANY, served(oldest=True)),
    Sometimes("J7 lend", "a waiting turn lends its slot to one that starts", ANY, lent(SessionState.OPEN, False)),
    Sometimes(
        "J7 lend, return", "a waiting turn lends its slot to one that returns", ANY, lent(SessionState.OPEN, True)
    ),
    Sometimes("S16 bound", "a turn waits and may not lend", ANY, lambda _, __, ___, s: at_the_bound(s)),
    Sometimes("J8 by choice", "all wait, one of them by its own choice, so none is stalled", ANY, spared(True)),
    Sometimes("J8 stopping", "all wait, but a turn is stopping without a slot, so none is stalled", ANY, spared(False)),
    Sometimes("J2 return", "a wait is over, and no slot is free", ANY, became(RETURNING, of=(WAITING,))),
    Sometimes("J2 go on", "a turn goes on while other waits of it are not over", ANY, waits_left),
    Sometimes("D11 passed on", "an eviction serves another turn than the one it began for", ANY, passed_on),
    Sometimes("next", "late trigger mail starts the next turn in the same slot", ENDS, goes_on, TurnEnded),
    Sometimes("next waits", "a turn's slot goes to another turn than the agent's next", ANY, next_waits, TurnEnded),
    Sometimes(
        "evict, follow_up", "a follow-up arrives while its target is unloading", (ev.FollowUp,), target_was(UNLOADING)
    ),
    Sometimes(
        "load, follow_up", "a follow-up arrives while its target is loading", (ev.FollowUp,), target_was(LOADING)
    ),
    Sometimes(
        "run, follow_up", "a follow-up arrives while its target runs", (ev.FollowUp,), target_was(None, *STARTED)
    ),
    Sometimes(
        "queue, interrupt", "interrupt of a queued turn", (ev.Interrupt,), target_was(None, TurnState.QUEUED), TurnEnded
    ),
    Sometimes(
        "load, interrupt",
        "interrupt of a turn that loads",
        (ev.Interrupt,),
        target_was(LOADING, TurnState.STARTING),
        TurnEnded,
    ),
    Sometimes(
        "evict, interrupt",
        "interrupt of a turn that waits for room",
        (ev.Interrupt,),
        target_was(UNLOADED, TurnState.STARTING),
        TurnEnded,
    ),
    Sometimes(
        "wait, interrupt",
        "interrupt of a waiting turn",
        (ev.Interrupt,),
        lambda b, e, *_: e.target in b.waits.of_agent,
        Cancel,
    ),
    Sometimes(
        "lent, interrupt",
        "interrupt of a turn without a slot",
        (ev.Interrupt,),
        became(STOPPING, of=WITHOUT_SLOT),
        Cancel,
    ),
    Sometimes("lent, finish", "a turn without a slot ends", (ev.Finished,), agent_was(None, *WITHOUT_SLOT), TurnEnded),
    Sometimes(
        "lent, stop, end",
        "a turn that was stopped without a slot ends",
        (ev.Aborted,),
        lambda b, e, *_: e.agent in b.slots.lent,
        TurnEnded,
    ),
    Sometimes("lent, die", "a thread dies under a turn without a slot", (ev.Died,), agent_was(None, *WITHOUT_SLOT)),
    Sometimes("lent, close", "close of a turn without a slot", (ev.Close,), target_was(None, *WITHOUT_SLOT)),
    Sometimes("lent, wait", "a turn without a slot begins a wait", (ev.Wait,), agent_was(None, *WITHOUT_SLOT)),
    Sometimes(
        "lent, wait at once",
        "a turn without a slot begins a wait that is over at once",
        (ev.Wait,),
        lambda b, e, _, a: (
            e.agent in b.slots.lent and a.waits.last > b.waits.last and a.waits.last not in a.waits.pending
        ),
    ),
    Sometimes("stop, interrupt", "interrupt of a stopping turn", (ev.Interrupt,), target_was(None, TurnState.STOPPING)),
    Sometimes("unload, close", "close while unloading", (ev.Close,), target_was(UNLOADING)),
    Sometimes("load, close", "close while loading", (ev.Close,), target_was(LOADING)),
    Sometimes("run, close", "close of a running turn", (ev.Close,), target_was(None, *STARTED)),
    Sometimes("queue, close", "close of a queued turn", (ev.Close,), target_was(None, TurnState.QUEUED)),
    Sometimes(
        "close twice",
        "close of a closed agent",
        (ev.Close,),
        lambda b, e, *_: b.agents[e.target].identity is Identity.CLOSED,
    ),
    Sometimes(
        "flush fails, second",
        "the next candidate is tried",
        (ev.FlushFailed, ev.Tick),
        lambda b, _, s, a: any(second_candidate(b, ev.FlushFailed(x, 0, 0, ""), s, a) for x in b.residents.serves),
    ),
    Sometimes(
        "load, fails",
        "a load fails and its turn cannot start",
        (ev.LoadFailed,),
        ended_by(Cause.LOAD_FAILED),
        TurnEnded,
    ),
    Sometimes(
        "load, idle",
        "a load whose turn was interrupted ends as an idle resident",
        (ev.Loaded,),
        lambda _, e, __, a: e.agent in a.residents.idle,
    ),
    Sometimes(
        "stop, finish",
        "a turn finishes though it was asked to stop",
        (ev.Finished,),
        agent_was(None, TurnState.STOPPING),
        TurnEnded,
    ),
    Sometimes("return, die", "a turn whose thread died is tried again", (ev.Died,), returned(), TurnReturned),
    Sometimes("return, restart", "a turn that a crash ended is tried again", (Restart,), returned(), TurnReturned),
    Sometimes("return, order", "its mail is unread again, before later mail", ANY, returned(late=True), TurnReturned),
    Sometimes("attempts, over", "the last attempt fails", (ev.Died, Restart), no_attempts_left, TurnEnded),
    Sometimes("loads, lost", "crashes cut off every load", ANY, ended_by(Cause.LOADS_LOST), TurnEnded),
    Sometimes("withdraw, turn", "the mail of a turn is withdrawn", ANY, ended_by(Cause.WITHDRAWN), TurnEnded),
    Sometimes("withdraw, wait", "an awaited request is withdrawn", (ev.Withdraw,), woken(WaitEnd.ANSWERED), Wake),
    Sometimes("subtree, mail", "mail within an interrupted subtree is demoted", ANY, record_seen(MailDemoted)),
    Sometimes("subtree, stop", "a turn is stopping, and a subtree around it is interrupted", (ev.Interrupt,), widened),
    Sometimes("forget, asked", "an agent is forgotten that has asked others", (ev.Forget,), asked_elsewhere),
    Sometimes("run, die", "a thread dies under a running turn", (ev.Died,), agent_was(None, TurnState.RUNNING)),
    Sometimes("stop, die", "a thread dies under a stopping turn", (ev.Died,), agent_was(None, TurnState.STOPPING)),
    Sometimes("load, die", "a thread dies while it loads", (ev.Died,), agent_was(LOADING)),
    Sometimes("unload, die", "a thread dies while it is flushed", (ev.Died,), agent_was(UNLOADING)),
    Sometimes("load, late", "load_timeout", (ev.Tick,), due(Bound.LOAD)),
    Sometimes("flush, late", "flush_timeout", (ev.Tick,), due(Bound.FLUSH)),
    Sometimes("stop, late", "stop_grace", (ev.Tick,), due(Bound.STOP)),
    Sometimes("idle, late", "idle_ttl", (ev.Tick,), due(Bound.IDLE)),
    Sometimes("turn, late", "turn_timeout", (ev.Tick,), due(Bound.TURN)),
    Sometimes("grace, late", "the grace of a shutdown", (ev.Tick,), due(Bound.GRACE)),
    *[Sometimes(f"wait, {end.name.lower()}", f"a wait ends with {end.name}", ANY, woken(end), Wake) for end in WaitEnd],
    *[
        Sometimes(
            f"wait, {end.name.lower()} at once",
            f"a wait is over at once with {end.name}",
            (ev.Wait,),
            over_at_once(end),
        )
        for end in (WaitEnd.ANSWERED, WaitEnd.MAIL, WaitEnd.TARGET, WaitEnd.TIMEOUT, WaitEnd.DRAINING)
    ],
    Sometimes("wait, all", "all of several requests are answered", ANY, all_answered, Wake),
    Sometimes(
        "wait, notice", "a turn reads the notice of what it awaits in the same step", ENDS, record_seen(MailRead)
    ),
    Sometimes("wait, notice at once", "a turn awaits what it has a notice of", (ev.Wait,), record_seen(MailRead)),
    Sometimes(
        "wait, given up",
        "a turn gives up its wait",
        (ev.StopWaiting,),
        lambda b, e, *_: e.wait in b.waits.of_agent.get(e.agent, ()),
    ),
    Sometimes(
        "drain", "a turn reads mail that came later", (ev.Drain,), lambda _, __, s, ___: bool(s.records), MailDrained
    ),
    Sometimes(
        "notice, unloaded", "a notice for a requester that is not loaded", ANY, notice(unloaded=True), MailAccepted
    ),
    Sometimes(
        "notice, closed", "a notice for a requester that is closed", ANY, record_seen(NoticeBuried), NoticeBuried
    ),
    Sometimes(
        "notice, demoted",
        "a notice that may not wake, because the queue is full",
        ANY,
        notice(demoted=True),
        MailAccepted,
    ),
    Sometimes("restart, lent", "a crash under a turn without a slot", (Restart,), some_agent_was(*WITHOUT_SLOT)),
    Sometimes("restart, run", "a crash under a running turn", (Restart,), some_agent_was(*STARTED)),
    Sometimes("restart, queue", "a crash while a turn is queued or starting", (Restart,), some_agent_was(*NOT_STARTED)),
    Sometimes(
        "restart, again", "recovery starts what had not begun", (Restart,), record_seen(TurnStarted), TurnStarted
    ),
    Sometimes("drain, lend", "a slot is lent during a shutdown", ANY, lent(SessionState.DRAINING, True)),
    Sometimes("drain, shorter", "a second shutdown has less grace", (ev.Shutdown,), shortened),
    Sometimes(
        "shut down",
        "a shutdown ends",
        ANY,
        lambda _, __, s, ___: any(e.__class__ is ShutDown for e in s.effects),
        ShutDown,
    ),
)

BY_EVENT: dict[type, dict[type | None, list[Sometimes]]] = {}
"""Event class -> class of records or effects that the step must have (None: any) -> situations it may reach."""
for _situation in SITUATIONS:
    for _kind in _situation.on:
        BY_EVENT.setdefault(_kind, {}).setdefault(_situation.by, []).append(_situation)


@cache
def possible(event: type, kinds: frozenset[type]) -> tuple[Sometimes, ...]:
    """Returns the situations that a step may reach which has records and effects of these classes."""
    by = BY_EVENT[event]
    return tuple([situation for kind in (None, *kinds) for situation in by.get(kind, ())])


def required() -> tuple[str, ...]:
    """Returns the ids of all that must be reached. No engine gives headers: the reference does not know of them."""
    moves = [move_id(m.name, row.trigger, source) for m in MACHINES for row in m.rows for source in row.sources]
    refusals = [f"refusal {refusal.__name__}" for refusal in REFUSALS if refusal is not InvalidHeaders]
    stale = [f"stale {report.__name__}" for report in REPORTS]
    return (*moves, *refusals, *stale, *[s.id for s in SITUATIONS])


class Coverage:
    """Counts what was reached."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def observe(self, before: Session, event: Any, step: Step, after: Session) -> None:
        """Counts what one step reaches. Moves are counted by `counting()`, not here."""
        reply = step.reply
        if reply.__class__ is Refused:
            self.counts[f"refusal {type(reply.refusal).__name__}"] += 1
        elif reply.__class__ is Stale:
            self.counts[f"stale {type(event).__name__}"] += 1
        else:
            kinds = frozenset([item.__class__ for item in (*step.records, *step.effects)])
            for situation in possible(event.__class__, kinds):
                if situation.seen(before, event, step, after):
                    self.counts[situation.id] += 1

    def unseen(self) -> list[str]:
        """Returns the ids that must be reached and were not."""
        return [name for name in required() if not self.counts[name]]
