"""The core and the reference model, side by side: the same event to both, and everything compared.

What is compared after each event: the reply (of a refusal every fact), the effects (in any order), and the whole state
in a form that both can be brought to (`of_session`, `of_world`). A difference is a `Deviation`; it names both sides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from statemachine.core import effects as fx
from statemachine.core import events as ev
from statemachine.core.config import Notice, Overflow, SessionConfig
from statemachine.core.deadlines import Bound
from statemachine.core.effects import Effect, Reply, Step, WaitEnd
from statemachine.core.events import ROOT
from statemachine.core.ledger import Ledger
from statemachine.core.machines import Identity, MailState, Residency, SessionState, TurnState
from statemachine.core.records import MailAccepted, MailKind
from statemachine.core.residency import NOBODY
from statemachine.core.session import Session
from statemachine.log.recovery import forget, restart

from . import reference
from .reference import World

NEVER = 10**9
"""Stands for "no bound" in the reference."""


class Deviation(Exception):
    """The core and the reference disagree. `what` is reply, effects or state."""

    def __init__(self, what: str, core: Any, model: Any) -> None:
        super().__init__(f"{what}: the core says {core!r}, the reference {model!r}")
        self.what, self.core, self.model = what, core, model


Restart = ev.Restart
AnyEvent = ev.Event | Restart


def caps(config: SessionConfig) -> reference.Caps:
    """The configuration in the reference's terms."""
    return reference.Caps(
        config.execution_cap,
        config.max_resident,
        config.slot_policy.value == "live_threads",
        config.overflow is Overflow.QUEUE,
        config.max_queued,
        NEVER if config.max_depth is None else config.max_depth,
        NEVER if config.max_agents is None else config.max_agents,
        config.max_unread,
        config.max_message_bytes,
        None if config.notice is Notice.NONE else config.notice.value,
        config.notify_interrupted,
        config.flush_timeout,
        config.load_timeout,
        config.stop_grace,
        config.max_wait,
        config.idle_ttl,
    )


# Events

TRANSLATE: dict[type, Callable[[Any], tuple[Any, ...]]] = {
    ev.Spawn: lambda e: (World.spawn, e.parent, e.name, e.message, e.parent if e.sender is None else e.sender),
    ev.Send: lambda e: (World.send, e.sender, e.target, e.message, False),
    ev.FollowUp: lambda e: (World.send, e.sender, e.target, e.message, True),
    ev.Start: lambda e: (World.send, ev.HOST, e.target, e.message, True),
    ev.Drain: lambda e: (World.drain, e.agent, e.turn),
    ev.Interrupt: lambda e: (World.interrupt, e.sender, e.target),
    ev.Close: lambda e: (World.close, e.sender, e.target),
    ev.Resume: lambda e: (World.resume, e.sender, e.target),
    ev.Wait: lambda e: (World.wait, e.agent, e.turn, e.timeout, e.targets),
    ev.StopWaiting: lambda e: (World.stop_waiting, e.agent, e.turn),
    ev.Shutdown: lambda e: (World.shutdown, e.grace),
    ev.Loaded: lambda e: (World.loaded, e.agent, e.generation, True),
    ev.LoadFailed: lambda e: (World.loaded, e.agent, e.generation, False),
    ev.Flushed: lambda e: (World.flushed, e.agent, e.generation, e.flush, True),
    ev.FlushFailed: lambda e: (World.flushed, e.agent, e.generation, e.flush, False),
    ev.Finished: lambda e: (World.ended, e.agent, e.turn, "completed"),
    ev.Failed: lambda e: (World.ended, e.agent, e.turn, "errored"),
    ev.Aborted: lambda e: (World.ended, e.agent, e.turn, "interrupted"),
    ev.Died: lambda e: (World.died, e.agent, e.generation),
    ev.Tick: lambda e: (World.tick, e.now),
    ev.WriteFailed: lambda _: (World.write_failed,),
    Restart: lambda _: (World.restart,),
}

# Replies and effects

WAIT_END = {end: end.name.lower() for end in WaitEnd}
PHASE: dict[TurnState, Any] = {turn: turn.name.lower() for turn in TurnState}
PLACE = {
    Residency.UNLOADED: "out",
    Residency.LOADING: "loading",
    Residency.RESIDENT: "in",
    Residency.UNLOADING: "leaving",
}
WHAT = {bound: bound.name.lower() for bound in Bound}
STATE = {state: state.name.lower() for state in SessionState}
OPEN, OPEN_SESSION = Identity.OPEN, SessionState.OPEN
KIND: dict[tuple[MailKind, bool], reference.Kind] = {
    (MailKind.QUEUE, True): "queue",
    (MailKind.QUEUE, False): "queue",
    (MailKind.TRIGGER, True): "request",
    (MailKind.TRIGGER, False): "trigger",
}
"""Kind of a mail, and whether it is no notice."""

REPLIES: dict[type, Callable[[Any], tuple[Any, ...]]] = {
    fx.Refused: lambda r: ("refused", *r.refusal.facts[: 1 if r.refusal.facts[0] == "StoreFailed" else None]),
    fx.Spawned: lambda r: ("spawned", r.agent, r.mail),
    fx.Accepted: lambda r: ("accepted", r.mail),
    fx.Drained: lambda r: ("drained", tuple([m.mail for m in r.mail])),
    fx.Interrupted: lambda r: ("interrupted", PHASE[r.previous]),
    fx.ClosedAgents: lambda r: ("closed", r.agents),
    fx.Resumed: lambda r: ("resumed", r.agents, r.skipped),
    fx.WaitOver: lambda r: ("wait over", WAIT_END[r.end]),
    fx.Waiting: lambda _: ("waiting",),
    fx.ShuttingDown: lambda _: ("shutting down",),
    fx.Noted: lambda _: reference.NOTED,
    fx.Stale: lambda _: reference.STALE,
}

EFFECTS: dict[type, Callable[[Any], tuple[Any, ...]]] = {
    fx.Load: lambda e: ("load", e.agent, e.generation),
    fx.StartTurn: lambda e: ("start", e.agent, e.turn, e.generation, tuple([m.mail for m in e.mail])),
    fx.Cancel: lambda e: ("cancel", e.agent, e.turn),
    fx.Flush: lambda e: ("flush", e.agent, e.generation, e.flush),
    fx.Unload: lambda e: ("unload", e.agent, e.generation),
    fx.Wake: lambda e: ("wake", e.agent, e.turn, WAIT_END[e.end]),
    fx.Answer: lambda e: ("answer", e.mails, e.outcome.agent, PHASE[e.outcome.status]),
    fx.ShutDown: lambda e: ("shut down", e.done, e.interrupted, e.unflushed),
}


def reply_of(reply: Reply) -> tuple[Any, ...]:
    """A reply of the core in the reference's terms."""
    return REPLIES[reply.__class__](reply)


def effects_of(effects: tuple[Effect, ...]) -> list[tuple[Any, ...]]:
    """Effects of the core in the reference's terms, sorted."""
    told = [EFFECTS[e.__class__](e) for e in effects]
    return sorted(told, key=repr) if len(told) > 1 else told


# States


def of_session(s: Session) -> tuple[Any, ...]:
    """Everything about the session, in the terms of both. Once it is not open no turn is started any more, so whom an
    eviction serves, and who was tried for it, means nothing.
    """
    agents, residents = s.agents, s.residents
    starts = s.state is OPEN_SESSION
    return (
        STATE[s.state],
        [(a.path, a.parent, PHASE[a.status], PLACE[a.residency], a.turn, a.generation) for a in agents],
        {a.id: a.closed_by for a in agents if a.identity is not OPEN},
        [a.promised for a in agents],
        sorted(s.slots.holders),
        sorted(
            [
                (m.mail, m.sender, m.target, KIND[m.kind, m.notice is None], m.notice and PHASE[m.notice.status])
                for a in agents
                if a.mailbox
                for m in a.mailbox
            ]
        ),
        {m.mail for a in agents if a.asked for m in a.asked},
        [*s.slots.ready],
        [*residents.idle],
        [*residents.starting],
        [(a, w.targets) for a, w in s.waits.items()] if s.waits else [],
        residents.serves if starts else dict.fromkeys(residents.serves, NOBODY),
        residents.tried if starts else {},
        residents.flushes,
        [(at, WHAT[b], a) for at, _, b, a in sorted([(*at, *key) for key, at in s.deadlines.pending.items()])],
        s.ledger.mail_states,
        None if s.draining is None else (s.draining.done, s.draining.interrupted, s.draining.unflushed),
    )


def of_world(w: World) -> tuple[Any, ...]:
    """Everything about the world, in the terms of both."""
    held, promised, starts = w.held(), w.promised(), w.state == "open"
    return (
        w.state,
        [
            *zip(
                *(w.path.values(), w.parent.values(), w.phase.values(), w.place.values()),
                *(w.turn.values(), w.load.values()),
                strict=True,
            )
        ],
        w.closed_by,
        [promised.count(a) for a in w.path],
        [ROOT, *held] if w.phase[ROOT] in reference.HOLDING else [*held],
        [*w.mail.values()],
        w.asked.keys(),
        [*w.queue()],
        w.evictable(),
        w.in_order("starting"),
        [(a, w.waits[a][1]) for a in sorted(w.waits, key=w.waits.__getitem__)] if w.waits else [],
        {a: serves(w, a) for a in w.flush if w.place[a] == "leaving"} if w.flush else {},
        {turn[0]: tried for turn, tried in w.tried.items() if starts and w.needs_load(*turn)} if w.tried else {},
        {a: number for a, number in w.flush.items() if number is not None} if w.flush else {},
        [(w.due[key][0], *key) for key in w.bounds()] if w.due else [],
        [len(w.mail), w.posted - w.dead - len(w.mail), w.dead],
        tuple(w.lists.values()) or None,
    )


def serves(w: World, agent: int) -> int:
    """For whom the agent is evicted, if for anybody still."""
    turn = w.serves.get(agent)
    return turn[0] if turn is not None and w.state == "open" and w.needs_load(*turn) else NOBODY


def start(config: SessionConfig) -> tuple[Session, World]:
    """Both, at the beginning."""
    return Session(config), World(caps(config))


def start_from(config: SessionConfig, ledger: Ledger) -> tuple[Session, World, Step]:
    """Both, recovered from these facts, and the core's step. Raises `Deviation` if they come to different things."""
    world, reply, effects = reference.step(world_of(config, ledger), (World.restart,))
    session, step = restart(config, ledger, 0.0)
    compare_step(step, reply, effects)
    compare_states(session, world)
    return session, world, step


def world_of(config: SessionConfig, ledger: Ledger) -> World:
    """A world in which these facts hold: what `of_world` would say of it, as far as they say it."""
    w = World(caps(config))
    for a in ledger.agents:
        w.path[a.id], w.parent[a.id] = a.path, a.parent
        w.phase[a.id], w.turn[a.id] = PHASE[a.status], a.turn
        w.place[a.id], w.load[a.id] = "in" if a.id == ROOT else "out", 0
        if a.identity is not OPEN:
            w.closed_by[a.id] = a.closed_by
        w.asked.update({m.mail: letter(m) for m in a.asked})
        w.mail.update({m.mail: letter(m) for m in a.mailbox})
    w.mail = dict(sorted(w.mail.items()))
    w.posted, w.dead = ledger.next_mail, ledger.mail_states[MailState.DEAD]
    return w


def letter(m: MailAccepted) -> reference.Letter:
    """A mail of the core in the reference's terms."""
    about = None if m.notice is None else PHASE[m.notice.status]
    return reference.Letter(m.mail, m.sender, m.target, KIND[m.kind, m.notice is None], about)


def core_step(s: Session, event: AnyEvent) -> tuple[Session, Step]:
    """One event to the session itself (a restart makes a new one)."""
    if event.__class__ is Restart:
        return restart(s.config, forget(s.ledger), s.now)
    return s, s.handle(event)  # type: ignore[arg-type]


def compare_step(step: Step, reply: tuple[Any, ...], effects: list[tuple[Any, ...]]) -> None:
    """Raises `Deviation` if the core's step says or asks for something else than the reference."""
    said = REPLIES[step.reply.__class__](step.reply)
    if said != reply:
        raise Deviation("reply", said, reply)
    if not step.effects and not effects:
        return
    asked, due = effects_of(step.effects), sorted(effects, key=repr) if len(effects) > 1 else effects
    if asked != due:
        raise Deviation("effects", asked, due)


def compare_states(s: Session, w: World, said: tuple[Any, ...] | None = None) -> None:
    """Raises `Deviation` if the two are in different states. `said` is what `of_world` says of the world, if known."""
    core, model = of_session(s), said or of_world(w)
    if core != model:
        ours = [(a, b) for a, b in zip(core, model, strict=True) if a != b]
        raise Deviation("state", [a for a, _ in ours], [b for _, b in ours])
