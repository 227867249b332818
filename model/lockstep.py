"""The core and the reference model, side by side: the same event to both, and everything compared.

What is compared after each event: the reply (of a refusal every fact), the effects in their order (decision D31), and
the whole state in a form that both can be brought to (`of_session`, `of_world`). A difference is a `Deviation`; it
names both sides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from statemachine.core import effects as fx
from statemachine.core import events as ev
from statemachine.core.agents import Agent
from statemachine.core.config import Notice, Overflow, SessionConfig
from statemachine.core.deadlines import Bound
from statemachine.core.effects import Effect, Reply, Step, WaitEnd
from statemachine.core.events import ROOT
from statemachine.core.ledger import Ledger
from statemachine.core.machines import Identity, MailState, Residency, SessionState, TurnState
from statemachine.core.records import Cause, MailAccepted, MailKind
from statemachine.core.refusals import InvalidHeaders
from statemachine.core.residency import NO_AGENT
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
        config.max_wait,
        config.max_attempts,
        config.max_overtaken,
        {
            "load": config.load_timeout,
            "turn": config.turn_timeout,
            "stop": config.stop_grace,
            "flush": config.flush_timeout,
            "idle": config.idle_ttl,
        },
    )


# Events

TRANSLATE: dict[type, Callable[[Any], tuple[Any, ...]]] = {
    ev.Spawn: lambda e: (World.spawn, e.parent, e.name, e.message, e.parent if e.sender is None else e.sender),
    ev.Send: lambda e: (World.send, e.sender, e.target, e.message, False),
    ev.FollowUp: lambda e: (World.send, e.sender, e.target, e.message, True),
    ev.Start: lambda e: (World.send, ev.HOST, e.target, e.message, True),
    ev.Drain: lambda e: (World.drain, e.agent, e.turn),
    ev.Interrupt: lambda e: (World.interrupt, e.sender, e.target, e.subtree),
    ev.Close: lambda e: (World.close, e.sender, e.target),
    ev.Resume: lambda e: (World.resume, e.sender, e.target),
    ev.Wait: lambda e: (
        *(World.wait, e.turn, e.timeout),
        reference.Wait(e.agent, e.targets, e.requests, e.mode is ev.WaitMode.ALL, e.mail),
    ),
    ev.StopWaiting: lambda e: (World.stop_waiting, e.agent, e.turn, e.wait),
    ev.Withdraw: lambda e: (World.withdraw, e.sender, e.mail),
    ev.Forget: lambda e: (World.forget, e.target),
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


def asks_reference(event: AnyEvent, step: Step) -> bool:
    """Is the event, of which the core has made this step, one for the reference? It has no answer to `status` and
    `list`, and does not know of headers.
    """
    reply = step.reply
    return event.__class__ in TRANSLATE and not (
        isinstance(reply, fx.Refused) and isinstance(reply.refusal, InvalidHeaders)
    )


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
TRIGGER, OPEN, OPEN_SESSION = MailKind.TRIGGER, Identity.OPEN, SessionState.OPEN
FORGOTTEN, ALL = Identity.FORGOTTEN, ev.WaitMode.ALL

REPLIES: dict[type, Callable[[Any], tuple[Any, ...]]] = {
    fx.Refused: lambda r: ("refused", *r.refusal.facts[: 1 if r.refusal.facts[0] == "StoreFailed" else None]),
    fx.Spawned: lambda r: ("spawned", r.agent, r.mail),
    fx.Accepted: lambda r: ("accepted", r.mail),
    fx.Drained: lambda r: ("drained", tuple([m.mail for m in r.mail])),
    fx.Interrupted: lambda r: ("interrupted", PHASE[r.previous], r.agents),
    fx.Withdrawn: lambda _: ("withdrawn",),
    fx.Forgotten: lambda r: ("forgotten", r.agents),
    fx.ClosedAgents: lambda r: ("closed", r.agents),
    fx.Resumed: lambda r: ("resumed", r.agents, r.skipped),
    fx.WaitOver: lambda r: ("wait over", WAIT_END[r.end]),
    fx.Waiting: lambda r: ("waiting", r.wait),
    fx.ShuttingDown: lambda _: ("shutting down",),
    fx.Noted: lambda _: reference.NOTED,
    fx.Stale: lambda _: ("stale",),
}

EFFECTS: dict[type, Callable[[Any], tuple[Any, ...]]] = {
    fx.Load: lambda e: ("load", e.agent, e.generation),
    fx.StartTurn: lambda e: ("start", e.agent, e.turn, e.generation, tuple([m.mail for m in e.mail])),
    fx.Cancel: lambda e: ("cancel", e.agent, e.turn),
    fx.Flush: lambda e: ("flush", e.agent, e.generation, e.flush),
    fx.Unload: lambda e: ("unload", e.agent, e.generation),
    fx.Wake: lambda e: ("wake", e.agent, e.turn, e.wait, WAIT_END[e.end]),
    fx.Answer: lambda e: ("answer", e.mails, e.outcome.agent, PHASE[e.outcome.status]),
    fx.ShutDown: lambda e: ("shut down", e.done, e.interrupted, e.unflushed),
}


def reply_of(reply: Reply) -> tuple[Any, ...]:
    """A reply of the core in the reference's terms."""
    return REPLIES[reply.__class__](reply)


def effects_of(effects: tuple[Effect, ...]) -> list[tuple[Any, ...]]:
    """Effects of the core in the reference's terms."""
    return [EFFECTS[e.__class__](e) for e in effects]


# States


def of_session(s: Session) -> tuple[Any, ...]:
    """Everything about the session, in the terms of both. Once it is not open no turn is started any more, so
    which turn an eviction serves, and which agents were tried for it, means nothing.
    """
    known = [a for a in s.agents if a.identity is not FORGOTTEN]
    residents, waits = s.residents, s.waits
    starts = s.state is OPEN_SESSION
    return (
        STATE[s.state],
        [(a.id, a.path, a.parent, PHASE[a.status], PLACE[a.residency], a.turn, a.generation) for a in known],
        {a.id: closed_with(s.agents, a) for a in known if a.identity is not OPEN},
        [a.promised for a in known],
        sorted(s.slots.holders),
        sorted(
            [
                (m.mail, m.sender, m.target, m.kind is TRIGGER, m.notice and PHASE[m.notice.status], m.answers)
                for a in known
                if a.mailbox
                for m in a.mailbox
            ]
        ),
        sorted([m.mail for a in known if a.taken for m in a.taken]),
        [*s.slots.ready],
        [*residents.idle],
        [*residents.starting],
        [(n, w.agent, w.targets, w.requests, w.mode is ALL, w.mail) for n, w in waits.pending.items()],
        sorted([(n, a, WAIT_END[why]) for a, over in waits.over.items() for n, why in over]) if waits.over else [],
        [] if s.live_threads else [*waits.lenders],
        [*waits.returning],
        sorted(s.slots.lent),
        s.slots.overtaken if starts else 0,
        (s.ledger.attempts, s.ledger.loads),
        sorted([(a, stop.below) for a, stop in s.ledger.stops.items() if stop.below is not None]),
        sorted([a for a, stop in s.ledger.stops.items() if stop.cause is Cause.TIMED_OUT]),
        residents.serves if starts else dict.fromkeys(residents.serves, NO_AGENT),
        residents.tried if starts else {},
        residents.flushes,
        [(at, WHAT[b], a) for at, _, b, a in sorted([(*at, *key) for key, at in s.deadlines.pending.items()])],
        s.ledger.mail_states,
        None if s.draining is None else (s.draining.done, s.draining.interrupted, s.draining.unflushed),
    )


def closed_with(agents: list[Agent], a: Agent) -> str:
    """Says together with which agent a closed one is opened again. A parent that is open by now does not count."""
    together = a.closed_by == a.parent and agents[a.parent].identity is not OPEN
    return "closed with its parent" if together else "closed"


def resumed_with(w: World, a: int) -> str:
    """The same of the world."""
    together = w.closed_by[a] == w.parent[a] and w.parent[a] in w.closed_by
    return "closed with its parent" if together else "closed"


def of_world(w: World) -> tuple[Any, ...]:
    """Everything about the world, in the terms of both."""
    held, queue, starts = w.held(), () if w.caps.live else w.queue(), w.state == "open"
    promised = w.promised()
    serves = {a: turn[0] for a, turn in w.serves.items() if starts and w.needs_load(*turn)}
    unread = [m for m in w.mail.values() if not m.read]
    return (
        w.state,
        [(a, path, w.parent[a], w.phase[a], w.place[a], w.turn[a], w.load[a]) for a, path in w.path.items()],
        {a: resumed_with(w, a) for a in w.closed_by},
        [promised.count(a) for a in w.path] if promised else [0] * len(w.path),
        [ROOT, *held] if w.phase[ROOT] in reference.BUSY else [*held],
        [(m.number, m.sender, m.to, m.kind != "queue", m.about, m.answers) for m in unread],
        [n for n, m in w.mail.items() if m.read and (w.caps.max_attempts > 1 or m.kind == "request")],
        [*queue],
        w.evictable(),
        w.in_order("starting"),
        [
            (n, wait.agent, wait.targets, tuple(dict.fromkeys(wait.requests)), wait.every, wait.mail)
            for n, wait in w.pending().items()
        ],
        [(n, wait.agent, wait.over) for n, wait in w.waits.items() if wait.over is not None],
        [] if w.caps.live else w.lenders(),
        w.in_order("returning"),
        sorted(w.lent),
        w.passed[queue[0]] if starts and queue else 0,
        ({a: n for a, n in w.attempts.items() if n}, {a: n for a, n in w.loads.items() if n}),
        sorted(w.quiet.items()),
        sorted(w.loud),
        {a: serves.get(a, NO_AGENT) for a in reference.having(w.place, "leaving")},
        tried_of(w) if starts and w.tried else {},
        {a: number for a, number in w.flush.items() if number is not None} if w.flush else {},
        [(w.due[key][0], *key) for key in w.bounds()] if w.due else [],
        [len(unread), w.posted - w.dead - len(unread), w.dead],
        tuple(w.lists.values()) or None,
    )


def tried_of(w: World) -> dict[int, tuple[int, ...]]:
    """Agent whose turn waits for room -> the agents whose flush failed for it."""
    found: dict[int, tuple[int, ...]] = {}
    for turn, agent in w.tried:
        if w.needs_load(*turn):
            found[turn[0]] = (*found.get(turn[0], ()), agent)
    return found


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
    w.turn = dict.fromkeys(range(len(ledger.agents)), 0)
    for a in [agent for agent in ledger.agents if agent.identity is not FORGOTTEN]:
        w.path[a.id], w.parent[a.id] = a.path, a.parent
        w.phase[a.id], w.turn[a.id] = PHASE[a.status], a.turn
        w.attempts[a.id] = w.loads[a.id] = 0
        w.place[a.id], w.load[a.id] = "in" if a.id == ROOT else "out", 0
        if a.identity is not OPEN:
            w.closed_by[a.id] = a.closed_by
        w.mail.update({m.mail: letter(m, read=True) for m in a.taken})
        w.mail.update({m.mail: letter(m, read=False) for m in a.mailbox})
    w.mail = dict(sorted(w.mail.items()))
    w.posted, w.dead = ledger.next_mail, ledger.mail_states[MailState.DEAD]
    w.attempts.update(ledger.attempts)
    w.loads.update(ledger.loads)
    for agent, stop in ledger.stops.items():
        w.phase[agent] = "stopping"  # a ledger that was folded has it as running, beside why it is to stop
        if stop.cause is Cause.TIMED_OUT:
            w.loud.add(agent)
        if stop.below is not None:
            w.quiet[agent] = stop.below
    return w


def letter(m: MailAccepted, read: bool) -> reference.Letter:
    """A mail of the core in the reference's terms."""
    about = None if m.notice is None else PHASE[m.notice.status]
    kind: Any = "queue" if m.kind is not TRIGGER else "request" if about is None else "trigger"
    return reference.Letter(m.mail, m.sender, m.target, kind, about, m.answers, read)


def core_step(s: Session, event: AnyEvent) -> tuple[Session, Step]:
    """One event to the session itself (a restart makes a new one)."""
    if event.__class__ is Restart:
        return restart(s.config, forget(s.ledger), s.now)
    return s, s.handle(event)  # type: ignore[arg-type]


def compare_step(step: Step, reply: tuple[Any, ...], effects: list[tuple[Any, ...]]) -> None:
    """Raises `Deviation` if the core's step says or asks for something else than the reference."""
    said = reply_of(step.reply)
    if said != reply:
        raise Deviation("reply", said, reply)
    if not step.effects and not effects:
        return
    asked = effects_of(step.effects)
    if asked != effects and lines_of(asked) != lines_of(effects):
        raise Deviation("effects", asked, effects)


def lines_of(effects: list[tuple[Any, ...]]) -> tuple[list[tuple[Any, ...]], ...]:
    """Effects on the root, in their order, and all others in theirs: the root stands in no line with others (D31)."""
    of_root = [effect for effect in effects if effect[1] == ROOT and effect[0] in ("start", "wake", "cancel", "unload")]
    return of_root, [effect for effect in effects if effect not in of_root]


def compare_states(s: Session, w: World, said: tuple[Any, ...] | None = None) -> None:
    """Raises `Deviation` if the two are in different states. `said` is what `of_world` says of the world, if known."""
    core, model = of_session(s), said or of_world(w)
    if core != model:
        ours = [(a, b) for a, b in zip(core, model, strict=True) if a != b]
        raise Deviation("state", [a for a, _ in ours], [b for _, b in ours])
