"""Bytes to events: what may happen next to a session, with the rare moments made common.

Any three bytes are an event in any state: what kind, which agent of those in question and who else, which variant.
Left to pure chance, most events would be refused or stale, and hardly anything would ever be asked of an agent in the
one step in which it is unloading. So threads mostly answer what they were asked, and `meddle` picks an agent by what it
is doing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st

from model.lockstep import AnyEvent, Restart
from statemachine import events as ev
from statemachine.agents import Agent
from statemachine.config import Notice, Overflow, SessionConfig, SlotPolicy
from statemachine.events import HOST, ROOT
from statemachine.machines import Identity, Residency, SessionState, Turn
from statemachine.session import Session

AGENTS_MAX = 13
"""The root and a dozen. Closed agents count, because they are there to be resumed."""
NAMES = ("a", "b", "c", "d")

OPEN = Identity.OPEN
LOADING, UNLOADING, UNLOADED, RESIDENT = Residency.LOADING, Residency.UNLOADING, Residency.UNLOADED, Residency.RESIDENT

T = TypeVar("T")
Play = Callable[[Session, int, int, int], AnyEvent]


# Configurations


def configs() -> st.SearchStrategy[SessionConfig]:
    """Configurations of all policies, with limits small enough to be met and large enough to get somewhere."""
    return st.builds(
        config_from,
        policy=st.sampled_from([(SlotPolicy.ACTIVE_TURNS, Overflow.REJECT), *POLICIES]),
        max_concurrent=st.sampled_from([4, 2, 3, 2, 6, 3, 1, 10]),
        more_resident=st.sampled_from([0, 0, 1, 0, 3]),
        max_queued=st.sampled_from([1000, 1, 2, 4]),
        max_depth=st.sampled_from([None, None, 2, 1, 4]),
        max_agents=st.sampled_from([None, None, 5, 3, 8]),
        max_unread=st.sampled_from([1000, 1000, 4, 2, 1]),
        max_message_bytes=st.sampled_from([1 << 20, 1 << 20, 8]),
        notice=st.sampled_from(list(Notice)),
        notify_interrupted=st.booleans(),
        flush_timeout=st.sampled_from([10.0, 2.0, 3.0, 1.0]),
        load_timeout=st.sampled_from([30.0, 4.0, 2.0, 0.0]),
        stop_grace=st.sampled_from([5.0, 3.0, 1.0, 0.0]),
        max_wait=st.sampled_from([3600.0, 3.0]),
        idle_ttl=st.sampled_from([None, None, 4.0, 1.0, 0.0]),
    )


POLICIES = (
    *[(SlotPolicy.ACTIVE_TURNS, Overflow.QUEUE)] * 3,
    *[(SlotPolicy.ACTIVE_TURNS, Overflow.REJECT)] * 2,
    (SlotPolicy.LIVE_THREADS, Overflow.REJECT),
)


def config_from(policy: tuple[SlotPolicy, Overflow], more_resident: int, **fields: Any) -> SessionConfig:
    """A configuration that can work, and is otherwise as drawn."""
    slot_policy, overflow = policy
    cap = max(0, fields["max_concurrent"] - 1)
    if slot_policy is SlotPolicy.LIVE_THREADS:
        fields["idle_ttl"] = None
    if cap == 0:
        overflow = Overflow.REJECT
    return SessionConfig(slot_policy=slot_policy, overflow=overflow, max_resident=cap + more_resident, **fields)


# Picking


def pick(among: Sequence[T], number: int) -> T:
    """One of several; the same number means the same one as long as the choice is the same."""
    return among[number % len(among)]


def opened(s: Session) -> list[int]:
    """The open agents, root included."""
    return [a.id for a in s.agents if a.identity is OPEN]


def sender(s: Session, number: int) -> int:
    """The host half of the time, else an open agent."""
    return HOST if number % 2 == 0 else pick(opened(s), number // 2)


GROUPS: tuple[Callable[[Session, Agent], bool], ...] = (
    lambda _, a: a.residency is UNLOADING,
    lambda _, a: a.residency is LOADING,
    lambda s, a: a.id in s.waits,
    lambda _, a: a.status is Turn.STOPPING,
    lambda _, a: a.status is Turn.STARTING and a.residency is UNLOADED,
    lambda _, a: a.status is Turn.QUEUED,
    lambda s, a: a.id == next(iter(s.slots.ready), None),
    lambda _, a: a.status is Turn.RUNNING,
    lambda s, a: a.id in s.residents.idle,
    lambda _, a: a.status.is_idle and a.residency is UNLOADED,
    lambda s, a: a.id in s.residents.serves and s.residents.serves[a.id] != -1,
    lambda s, a: a.id in s.residents.serves.values(),
    lambda s, a: a.id in s.residents.tried,
    lambda _, a: a.triggers > 0,
    lambda _, a: a.promised > 0,
)
"""What an agent may be doing when something else happens to it."""


def busy(s: Session, who: int, group: int) -> Agent:
    """An open agent of the group, or of the next that is not empty; any open agent if all are."""
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


def drain(s: Session, who: int, _: int, __: int) -> AnyEvent:
    agent = pick([a for a in s.agents if a.status is Turn.RUNNING] or s.agents, who)
    return ev.Drain(agent.id, agent.turn)


def wait(s: Session, who: int, other: int, variant: int) -> AnyEvent:
    ready = [a for a in s.agents if a.status is Turn.RUNNING and a.id not in s.waits and not a.mailbox]
    agent = pick(ready or s.agents, who)
    targets = (other % len(s.agents), variant % len(s.agents))[: pick([0, 1, 0, 2], variant // 16)]
    return ev.Wait(agent.id, agent.turn, pick([3.0, 1.0, 3.0, 2.0, 3.0, 0.0], variant), targets)


def interrupt(s: Session, who: int, other: int, _: int) -> AnyEvent:
    return ev.Interrupt(sender(s, other), pick(opened(s), who))


def resume(s: Session, who: int, other: int, _: int) -> AnyEvent:
    closed = [a.id for a in s.agents if a.identity is not OPEN and s.agents[a.parent].identity is OPEN]
    return ev.Resume(sender(s, other), pick(closed or opened(s), who))


def close(s: Session, who: int, other: int, _: int) -> AnyEvent:
    return ev.Close(sender(s, other), pick(s.agents, who).id)


def meddle(s: Session, who: int, other: int, variant: int) -> AnyEvent:
    """Something happens to an agent that is in the middle of something."""
    agent = busy(s, who, variant)
    by = sender(s, other)
    return pick(
        [
            ev.FollowUp(by, agent.id, "work"),
            ev.Interrupt(by, agent.id),
            ev.Send(by, agent.id, "note"),
            ev.FollowUp(HOST, agent.id, "work"),
            ev.Died(agent.id, agent.generation, "lost"),
            ev.Interrupt(HOST, agent.id),
            ev.Close(HOST, agent.id),
            ev.Start(agent.id, "work"),
        ],
        variant // len(GROUPS) + other // 2,
    )


# What threads report


def owed(s: Session) -> list[tuple[ev.Event, ...]]:
    """What threads have to answer, in order of the agents: the good answer first, then the others."""
    answers: list[tuple[ev.Event, ...]] = []
    for a in s.agents:
        died = ev.Died(a.id, a.generation, "lost")
        if a.id in s.residents.loading:
            answers.append((ev.Loaded(a.id, a.generation), ev.LoadFailed(a.id, a.generation, "cannot load"), died))
        flush = s.residents.flushes.get(a.id)
        if flush is not None:
            failed = ev.FlushFailed(a.id, a.generation, flush, "cannot flush")
            answers.append((ev.Flushed(a.id, a.generation, flush), failed, failed, died))
        if a.status >= Turn.RUNNING:
            ends = (ev.Finished(a.id, a.turn, "result"), ev.Failed(a.id, a.turn, "error"))
            answers.append((*ends, died) if a.status is Turn.RUNNING else (ev.Aborted(a.id, a.turn), *ends, died))
    return answers


def answer(s: Session, who: int, other: int, variant: int) -> AnyEvent:
    """A thread answers, three times out of four as one hopes. If none has to, somebody is given work."""
    answers = owed(s)
    if not answers:
        return (spawn if len(s.agents) < 4 or variant % 4 == 0 else follow_up)(s, who, other, variant)
    possible = pick(answers, who)
    return possible[0] if variant % 4 != 3 else pick(possible, variant // 4)


def finish(s: Session, who: int, _: int, __: int) -> AnyEvent:
    """A running turn ends well."""
    agent = pick([a for a in s.agents if a.status is Turn.RUNNING] or s.agents, who)
    return ev.Finished(agent.id, agent.turn, "result")


def fail_flush(s: Session, who: int, _: int, __: int) -> AnyEvent:
    """A flush fails for which somebody waits."""
    served = [a for a, by in s.residents.serves.items() if by != -1] or list(s.residents.flushes) or [ROOT]
    agent = pick(served, who)
    return ev.FlushFailed(agent, s.agents[agent].generation, s.residents.flushes.get(agent, 0), "cannot flush")


def stale(s: Session, who: int, other: int, variant: int) -> AnyEvent:
    """A report of each kind that comes too late, or is about nothing."""
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
    """To the next deadline, or a little on, or not at all."""
    due = s.deadlines.next()
    if due is not None and who % 2 == 0:
        return ev.Tick(due)
    return ev.Tick(s.now + pick([1.0, 0.5, 0.0, 2.0, 6.0, 40.0, -1.0, 1.0], who // 2))


def oddity(s: Session, who: int, other: int, variant: int) -> AnyEvent:
    """What no well-behaved caller asks."""
    a = pick(s.agents, who)
    nobody = len(s.agents) + other % 2
    odd: list[ev.Event] = [
        ev.Status(a.id),
        ev.ListAgents(a.path),
        ev.Wait(a.id, a.turn, pick([-1.0, 4000.0], other), ()),
        ev.Wait(a.id, a.turn, 1.0, (nobody,)),
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
    ]
    return pick(odd, variant)


def calamity(code: int) -> AnyEvent:
    """The process is lost, or the session ends, or its store is lost."""
    grace = pick([2.0, 0.0, 5.0, -1.0], code)
    return pick([Restart(), ev.Shutdown(grace), Restart(), Restart(), ev.WriteFailed("disk full")], code // 4)


# The whole choice

EVERYTHING: tuple[tuple[Play, int], ...] = (
    (spawn, 8),
    (answer, 24),
    (follow_up, 6),
    (meddle, 18),
    (finish, 4),
    (start, 2),
    (tick, 4),
    (send, 3),
    (wait, 6),
    (fail_flush, 2),
    (stale, 6),
    (interrupt, 2),
    (resume, 3),
    (drain, 2),
    (close, 1),
    (oddity, 5),
)
"""What happens, and how often in comparison. Calamities come on top."""
STORM: tuple[tuple[Play, int], ...] = ((answer, 5), (meddle, 8), (fail_flush, 2), (wait, 2), (tick, 1))
"""Few pauses: things happen to agents that are in the middle of something."""

BYTES = 3
"""Three bytes are an event: what kind, which agent and who else, which variant. The kind of a `calm` one is known."""


def spread(weights: tuple[tuple[Play, int], ...]) -> tuple[Play, ...]:
    """256 plays, one for each byte, plainer ones first."""
    plays = [play for play, weight in weights for _ in range(weight)]
    return tuple([plays[byte * len(plays) // 256] for byte in range(256)])


ANYTHING, TROUBLE = spread(EVERYTHING), spread(STORM)


def event_of(s: Session, plays: tuple[Play, ...], code: bytes) -> AnyEvent:
    """The event that these bytes mean now. When the session takes nothing more, half of all events are a restart."""
    kind, agents, variant = code
    if s.state >= SessionState.CLOSED and variant % 2:
        return Restart()
    return plays[kind](s, agents // 16, agents % 16, variant)
