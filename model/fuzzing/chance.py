"""Makes events of bytes: what may happen next to a session, with the rare moments made common.

Any three bytes are an event in any state: its kind, the agent and another one, the variant. By pure chance, most events
would be refused or stale, and an agent would hardly ever get a request in the one step in which it is unloading. So
threads mostly answer what they were asked, and `meddle` picks an agent by what it is doing. Once in a while comes any
event of the complete alphabet (`model/alphabet.py`), which has those that no caller would think of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from statemachine.core import events as ev
from statemachine.core.agents import Agent
from statemachine.core.config import SessionConfig
from statemachine.core.events import HOST, ROOT, WaitMode
from statemachine.core.machines import Identity, Residency, SessionState, TurnState
from statemachine.core.records import MailAccepted
from statemachine.core.residency import NO_AGENT
from statemachine.core.session import Session

from ..alphabet import complete
from ..configurations import FUZZED, draw
from ..lockstep import AnyEvent, Restart

AGENTS_MAX = 13
"""The root and a dozen. Closed agents count, because they can be resumed."""
NAMES = ("a", "b", "c", "d")

OPEN = Identity.OPEN
LOADING, UNLOADING, UNLOADED, RESIDENT = Residency.LOADING, Residency.UNLOADING, Residency.UNLOADED, Residency.RESIDENT

T = TypeVar("T")
Play = Callable[[Session, int, int, int], AnyEvent]


CONFIG_BYTES = len(FUZZED)


def config_of(code: bytes) -> SessionConfig:
    """Returns the configuration for these bytes, one for each field; zeros are the default."""
    codes = iter(code)
    return draw(FUZZED, lambda among: choose(among, next(codes)))


# Picking


def pick(among: Sequence[T], number: int) -> T:
    """Returns one of several; the same for the same number, as long as the choice is the same."""
    return among[number % len(among)]


def choose(among: Sequence[T], byte: int) -> T:
    """Returns one of several, the first for the smallest bytes."""
    return among[byte * len(among) // 256]


def opened(s: Session) -> list[int]:
    """Returns the open agents, root included."""
    return [a.id for a in s.agents if a.identity is OPEN]


def sender(s: Session, number: int) -> int:
    """Returns the host half of the time, else an open agent."""
    return HOST if number % 2 == 0 else pick(opened(s), number // 2)


GROUPS: tuple[Callable[[Session, Agent], bool], ...] = (
    lambda _, a: a.residency is UNLOADING,
    lambda _, a: a.residency is LOADING,
    lambda s, a: a.id in s.waits.of_agent,
    lambda _, a: a.status is TurnState.WAITING,
    lambda _, a: a.status is TurnState.RETURNING,
    lambda s, a: a.id in s.slots.lent and a.status is TurnState.STOPPING,
    lambda s, a: a.id in s.waits.lenders,
    lambda s, a: a.id in s.ledger.attempts,
    lambda _, a: a.status is TurnState.STOPPING,
    lambda _, a: a.status is TurnState.STARTING and a.residency is UNLOADED,
    lambda _, a: a.status is TurnState.QUEUED,
    lambda s, a: a.id == next(iter(s.slots.ready), None),
    lambda _, a: a.status is TurnState.RUNNING,
    lambda s, a: a.id in s.residents.idle,
    lambda _, a: a.status.is_idle and a.residency is UNLOADED,
    lambda s, a: a.id in s.residents.serves and s.residents.serves[a.id] != NO_AGENT,
    lambda s, a: a.id in s.residents.serves.values(),
    lambda s, a: a.id in s.residents.tried,
    lambda _, a: a.triggers > 0,
    lambda _, a: a.promised > 0,
)
"""What an agent may be doing when something else happens to it."""


def busy(s: Session, who: int, group: int) -> Agent:
    """Returns an open agent of the group, or of the next group with one; any open agent if all are empty."""
    agents = [a for a in s.agents[1:] if a.identity is OPEN]
    for shift in range(len(GROUPS)):
        is_one = GROUPS[(group + shift) % len(GROUPS)]
        if found := [a for a in agents if is_one(s, a)]:
            return found[who % len(found)]
    return s.agents[pick(opened(s), who)]


# What the host and the agents ask for


def spawn(s: Session, who: int, other: int, variant: int) -> AnyEvent:
    if len(s.agents) >= AGENTS_MAX:
        return follow_up(s, who, other, variant)
    parent = pick(opened(s), who)
    name = pick(NAMES, other)
    by = pick([None, HOST, None, pick(opened(s), variant // 4)], variant)
    return ev.Spawn(parent, name, "work", f"settings of {name}", by)


def send(s: Session, who: int, other: int, _: int) -> AnyEvent:
    return ev.Send(sender(s, other), pick(opened(s), who), "note")


def follow_up(s: Session, who: int, other: int, _: int) -> AnyEvent:
    return ev.FollowUp(sender(s, other), pick(opened(s), who), "work")


def start(s: Session, who: int, _: int, __: int) -> AnyEvent:
    return ev.Start(pick(opened(s), who), "work")


WORKING = (TurnState.RUNNING, TurnState.WAITING, TurnState.RETURNING)


def running(s: Session) -> list[Agent]:
    """Returns the agents with a running turn."""
    return [a for a in s.agents if a.status is TurnState.RUNNING]


def working(s: Session) -> list[Agent]:
    """Returns the agents with a turn whose code is at work: perhaps it waits, and another task of it goes on."""
    return [a for a in s.agents if a.status in WORKING]


def at_work(s: Session) -> list[Agent]:
    """Returns the agents whose turn waits for nothing; if there is none, all with a turn whose code is at work."""
    return [a for a in running(s) if a.id not in s.waits.of_agent] or running(s) or working(s)


def drain(s: Session, who: int, other: int, variant: int) -> AnyEvent:
    late = [a for a in working(s) if a.mailbox] or working(s)
    if not late:
        return answer(s, who, other, variant)
    agent = pick(late, who)
    return ev.Drain(agent.id, agent.turn)


def wait(s: Session, who: int, other: int, variant: int) -> AnyEvent:
    """Has a turn wait, for mail or for agents that are not done, or give a wait up."""
    if s.waits.pending and variant % 16 == 15:
        given_up = s.waits.pending[pick(list(s.waits.pending), who)]
        return ev.StopWaiting(given_up.agent, s.agents[given_up.agent].turn, given_up.number)
    ready = [a for a in running(s) if not a.mailbox] or working(s)
    if not ready:
        return answer(s, who, other, variant)
    agent = pick(ready, who)
    undone = [a.id for a in s.agents if not a.status.is_idle and a is not agent] or opened(s)
    targets = (pick(undone, other), other % len(s.agents))[: pick([0, 1, 1, 2], variant // 8)]
    timeout = pick([3.0, 1.0, 3.0, 3.0, 2.0, 3.0, 3.0, 0.0], variant)
    return ev.Wait(agent.id, agent.turn, timeout, targets, mail=variant % 32 < 24)


def pending(s: Session) -> list[MailAccepted]:
    """The requests that are not answered, in the order of their agents."""
    return [m for a in s.agents for m in (*a.taken, *a.mailbox) if m.mail in s.ledger.requests]


def delegate(s: Session, who: int, other: int, variant: int) -> AnyEvent:
    """A turn asks another agent for a turn and, having asked, mostly waits for its end as ordinary code does."""
    asked = pending(s)
    able = at_work(s)
    if not able:
        return answer(s, who, other, variant)
    agent = pick(able, who)
    mine = [m.mail for m in asked if m.sender == agent.id and m.target != agent.id]
    told = [number for m in agent.mailbox for number in m.answers]
    if told and variant % 8 == 3:  # what it asked for is answered, and the notice unread
        return ev.Wait(agent.id, agent.turn, None, (), (pick(told, other),), mail=False)
    if not mine or variant % 8 == 7:
        if variant % 2 or len(s.agents) >= AGENTS_MAX:
            return ev.FollowUp(agent.id, pick(opened(s), other), "work")
        name = pick(NAMES, other)
        return ev.Spawn(agent.id, name, "work", f"settings of {name}")
    numbers = tuple(mine) if variant % 4 == 0 else (pick(mine, other),)
    if variant % 16 == 9:  # of another's request, or of one that is answered
        numbers = (*numbers, (variant * 7 + other) % max(1, s.ledger.next_mail))
    timeout = pick([None, None, None, 3.0], variant // 4)
    mode = pick([WaitMode.ALL, WaitMode.ANY], variant // 16)
    return ev.Wait(agent.id, agent.turn, timeout, (), numbers, mode, mail=timeout is not None and variant % 64 == 3)


def lend(s: Session, who: int, other: int, variant: int) -> AnyEvent:
    """A turn waits by its own choice, with or without a bound, or such a wait is given up."""
    by_choice = [w for w in s.waits.pending.values() if w.is_own_choice]
    if by_choice and variant % 2:
        own = pick(by_choice, who)
        return ev.StopWaiting(own.agent, s.agents[own.agent].turn, own.number)
    if not running(s):
        return answer(s, who, other, variant)
    agent = pick(at_work(s), who)
    return ev.Wait(agent.id, agent.turn, pick([None, 2.0], variant // 2), (), mail=False)


def withdraw(s: Session, who: int, other: int, variant: int) -> AnyEvent:
    """An unread mail is withdrawn, mostly by one who may."""
    unread = [m for a in s.agents for m in a.mailbox if m.notice is None or variant % 8 == 7]
    if not unread:
        return follow_up(s, who, other, variant)
    mail = pick(unread, who + 16 * other)
    return ev.Withdraw(pick([mail.sender, HOST, mail.sender, sender(s, other)], variant), mail.mail)


def interrupt(s: Session, who: int, other: int, variant: int) -> AnyEvent:
    lent = list(s.slots.lent)
    target = pick(lent, who) if lent and variant % 4 < 3 else pick(opened(s), who)
    return ev.Interrupt(sender(s, other), target, variant % 4 == 1)


def forget(s: Session, who: int, _: int, variant: int) -> AnyEvent:
    """A closed agent is forgotten, or one that is not closed is asked to be."""
    closed = [a.id for a in s.agents if a.identity is Identity.CLOSED]
    return ev.Forget(pick(closed if closed and variant % 4 else list(range(len(s.agents))), who))


def resume(s: Session, who: int, other: int, _: int) -> AnyEvent:
    closed = [a.id for a in s.agents if a.identity is Identity.CLOSED and s.agents[a.parent].identity is OPEN]
    return ev.Resume(sender(s, other), pick(closed or opened(s), who))


def close(s: Session, who: int, other: int, _: int) -> AnyEvent:
    return ev.Close(sender(s, other), pick(s.agents, who).id)


def meddle(s: Session, who: int, other: int, variant: int) -> AnyEvent:
    """Acts on an agent that is in the middle of something."""
    agent = busy(s, who, variant)
    by = sender(s, other)
    happenings: list[AnyEvent] = [
        ev.FollowUp(by, agent.id, "work"),
        ev.Send(by, agent.id, "note"),
        ev.Interrupt(HOST, agent.id, variant % 8 == 5),
        ev.FollowUp(HOST, agent.id, "work"),
        ev.Died(agent.id, agent.generation, "lost"),
        ev.FollowUp(by, agent.id, "work"),
        ev.Start(agent.id, "work"),
        ev.Close(HOST, agent.id) if variant % 2 else ev.Interrupt(by, agent.id),
    ]
    return pick(happenings, variant // len(GROUPS) + other // 2)


# What threads report


def owed(s: Session) -> list[tuple[ev.Event, ...]]:
    """Returns the answers that threads owe, in order of the agents: the good answer first, then the others."""
    answers: list[tuple[ev.Event, ...]] = []
    for a in s.agents:
        died = ev.Died(a.id, a.generation, "lost")
        if a.id in s.residents.loading:
            answers.append((ev.Loaded(a.id, a.generation), ev.LoadFailed(a.id, a.generation, "cannot load"), died))
        flush = s.residents.flushes.get(a.id)
        if flush is not None:
            failed = ev.FlushFailed(a.id, a.generation, flush, "cannot flush")
            answers.append((ev.Flushed(a.id, a.generation, flush), failed, failed, died))
        if a.status >= TurnState.RUNNING:
            ends = (ev.Finished(a.id, a.turn, "result"), ev.Failed(a.id, a.turn, "error"))
            answers.append((*ends, died) if a.status in WORKING else (ev.Aborted(a.id, a.turn), *ends, died))
    return answers


def answer(s: Session, who: int, other: int, variant: int) -> AnyEvent:
    """Has a thread answer, well three times out of four. If no answer is due, gives an agent work."""
    answers = owed(s)
    if not answers:
        return (spawn if len(s.agents) < 4 or variant % 4 == 0 else follow_up)(s, who, other, variant)
    possible = pick(answers, who)
    return possible[0] if variant % 4 != 3 else pick(possible, variant // 4)


def finish(s: Session, who: int, other: int, variant: int) -> AnyEvent:
    """Ends a running turn well."""
    if not running(s):
        return answer(s, who, other, variant)
    agent = pick(running(s), who)
    return ev.Finished(agent.id, agent.turn, "result")


def fail_flush(s: Session, who: int, other: int, variant: int) -> AnyEvent:
    """Fails a flush, if possible one that a turn waits for."""
    flushing = [a for a, by in s.residents.serves.items() if by != NO_AGENT] or list(s.residents.flushes)
    if not flushing:
        return answer(s, who, other, variant)
    agent = pick(flushing, who)
    return ev.FlushFailed(agent, s.agents[agent].generation, s.residents.flushes[agent], "cannot flush")


def stale(s: Session, who: int, other: int, variant: int) -> AnyEvent:
    """Returns a report that comes too late, or is about nothing; of each kind."""
    a = pick(s.agents, who)
    generation, turn = a.generation - other % 2, a.turn - other % 2
    flush = s.residents.flushes.get(a.id, s.residents.last_flush) - variant // 8 % 2
    reports: list[ev.Event] = [
        ev.Loaded(a.id, generation),
        ev.LoadFailed(a.id, generation, "cannot load"),
        ev.Flushed(a.id, generation, flush),
        ev.FlushFailed(a.id, generation, flush, "cannot flush"),
        ev.Finished(a.id, turn - 1, "result"),
        ev.Failed(a.id, turn - 1, "error"),
        ev.Aborted(a.id, turn),
        ev.Died(a.id, generation - 1, "lost"),
    ]
    return pick(reports, variant)


# Time and misfortune


def tick(s: Session, who: int, _: int, __: int) -> AnyEvent:
    """Moves the time to the next deadline, or a little on, or not at all."""
    due = s.deadlines.next()
    if due is not None and who % 2 == 0:
        return ev.Tick(due)
    return ev.Tick(s.now + pick([1.0, 0.5, 0.0, 2.0, 6.0, 40.0, -1.0, 1.0], who // 2))


def oddity(s: Session, who: int, other: int, variant: int) -> AnyEvent:
    """Returns a request that no well-behaved caller makes."""
    a = pick(running(s) or s.agents, who)
    nobody = len(s.agents) + other % 2
    odd: list[ev.Event] = [
        ev.Status(a.id),
        ev.ListAgents(a.path),
        ev.Wait(a.id, a.turn, pick([-1.0, 4000.0], other), ()),
        ev.Wait(a.id, a.turn, 1.0, (nobody,)),
        ev.Wait(a.id, a.turn - 1, 1.0, ()),
        ev.Drain(a.id, a.turn - 1),
        ev.StopWaiting(a.id, a.turn, s.waits.last + other % 2),
        ev.Wait(a.id, a.turn, None, (a.id,)),
        ev.Wait(a.id, a.turn, 1.0, (), (pick([-1, s.ledger.next_mail], other),)),
        ev.Withdraw(HOST, pick([-1, s.ledger.next_mail, 0], other)),
        ev.Forget(pick([ROOT, nobody], other)),
        ev.Spawn(a.id, pick(["root", "A", ""], other), "work"),
        ev.Spawn(nobody, "a", "work"),
        ev.Send(a.id, nobody, "note"),
        ev.Send(nobody, a.id, "note"),
        ev.Send(HOST, a.id, ""),
        ev.FollowUp(a.id, pick(s.agents, other).id, "work" * 3),
        ev.FollowUp(a.id, ROOT, "work"),
        ev.Interrupt(a.id, pick([ROOT, a.id], other)),
        ev.Close(a.id, pick([ROOT, a.id, a.parent], other)),
        ev.Resume(a.id, pick([nobody, *range(len(s.agents))], other)),
        ev.Died(ROOT, s.agents[ROOT].generation, "lost"),
        ev.Finished(nobody, 1, "result"),
        ev.Tick(pick([math.inf, math.nan, -1.0], other)),
    ]
    return pick(odd, variant)


def stranger(s: Session, who: int, other: int, variant: int) -> AnyEvent:
    """Returns any event of the complete alphabet, whether a caller would make it or not."""
    return pick(list(complete(s)), (who * 16 + other) * 256 + variant)


def calamity(code: int) -> AnyEvent:
    """Returns an event by which the process is lost, or the session ends, or its store fails."""
    grace = pick([9.0, 0.0, 5.0, -1.0], code)
    calamities = (Restart(), ev.Shutdown(grace), Restart(), Restart(), ev.WriteFailed("disk full"))
    return calamities[code // 4 % len(calamities)]


# The whole choice

EVERYTHING: tuple[tuple[Play, int], ...] = (
    (spawn, 10),
    (answer, 20),
    (follow_up, 12),
    (meddle, 16),
    (start, 2),
    (tick, 3),
    (send, 3),
    (wait, 5),
    (delegate, 12),
    (lend, 2),
    (withdraw, 1),
    (forget, 1),
    (fail_flush, 2),
    (stale, 5),
    (interrupt, 1),
    (resume, 4),
    (drain, 2),
    (close, 1),
    (oddity, 4),
    (stranger, 1),
)
"""Kinds of events with their weights. Calamities come on top."""
STORM: tuple[tuple[Play, int], ...] = (
    *((answer, 5), (meddle, 8), (follow_up, 2), (fail_flush, 2)),
    *((delegate, 6), (wait, 2), (lend, 2), (interrupt, 2), (tick, 1)),
)
"""Few pauses: events hit agents that are in the middle of something."""
FLOW: tuple[tuple[Play, int], ...] = ((answer, 8), (spawn, 2), (follow_up, 3), (delegate, 12), (wait, 2), (finish, 2))
"""No interference, and more work than can be done at once."""

BYTES = 3
"""Bytes of an event: its kind, the agent and another one, the variant."""


def spread(weights: tuple[tuple[Play, int], ...]) -> tuple[Play, ...]:
    """Returns 256 plays, one for each byte, plainer ones first."""
    plays = [play for play, weight in weights for _ in range(weight)]
    return tuple([choose(plays, byte) for byte in range(256)])


ANYTHING, TROUBLE, PLENTY = spread(EVERYTHING), spread(STORM), spread(FLOW)


def event_of(s: Session, plays: tuple[Play, ...], code: bytes) -> AnyEvent:
    """Returns the event that these bytes mean now. While the session drains, some of them move that on; while a turn
    is without a slot, some have others begin to wait, or end the session; once it is closed or has failed, half of them
    are a restart."""
    kind, agents, variant = code
    if s.state is SessionState.DRAINING and variant % 16 == 15:
        return ev.WriteFailed("disk full")
    if s.state is SessionState.DRAINING and variant % 16 == 7:
        return ev.Shutdown(pick([0.0, 1.0, 9.0], agents))
    if s.state is SessionState.DRAINING and variant % 8 in (1, 2, 5, 6):
        return pick((delegate, delegate, lend), agents)(s, agents // 16, agents % 16, variant)
    if s.slots.lent and variant in (5, 13, 21):
        return ev.Shutdown(9.0) if variant == 13 else Restart()
    if s.slots.lent and variant % 8 == 5:
        return pick((delegate, lend), agents)(s, agents // 16, agents % 16, variant // 8)
    if s.state is SessionState.DRAINING and variant % 4 == 3:
        return tick(s, 0, 0, 0)
    if s.state >= SessionState.CLOSED and variant % 2:
        return Restart()
    return plays[kind](s, agents // 16, agents % 16, variant)
