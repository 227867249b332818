"""The worlds that Spin and the core explore side by side, what happens in them, and what a state of the core is in
Spin's words.

Agents have the numbers of their place in `tree`, in both. The offers below are those of `agents.pml`, `OF_HOST` to
`OF_ASKER`; an offer is what may happen, and no rule: what comes of it, each side says for itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from attrs import frozen

from statemachine.core import events as ev
from statemachine.core.agents import Agent
from statemachine.core.config import Notice, SessionConfig
from statemachine.core.events import HOST, ROOT
from statemachine.core.machines import STARTED, Identity, Residency, TurnState
from statemachine.core.records import MailAccepted, MailKind
from statemachine.core.session import Session

NEVER_DUE = 200
"""`max_overtaken` that no run of a world reaches: how often the oldest was passed is not a part of the state then."""

FEATURES = ("ASKS", "WAKES", "INTERRUPTS", "TREES", "CLOSES", "FAULTS", "SENDS", "ATTEMPTS")


@frozen
class Small:
    """A small world: one that both sides can build."""

    name: str
    parents: tuple[int, ...]
    """The parent of agent 1, 2, ...; 0 is the root. A parent has a smaller number."""
    slots: int
    resident: int
    mails: int = 1
    overtaken: int = NEVER_DUE
    features: tuple[str, ...] = ()

    @property
    def config(self) -> SessionConfig:
        """The configuration of the core."""
        overtaken = self.overtaken if self.overtaken < NEVER_DUE else 10**9
        notice = Notice.TRIGGER if "WAKES" in self.features else Notice.QUEUE
        return SessionConfig(
            max_concurrent=self.slots + 1,
            max_resident=self.resident,
            max_overtaken=overtaken,
            notice=notice,
            max_attempts=2 if "ATTEMPTS" in self.features else 1,
        )

    @property
    def paths(self) -> tuple[str, ...]:
        """Number -> path."""
        paths = ["/root"]
        for number, parent in enumerate(self.parents, 1):
            paths.append(f"{paths[parent]}/{'_abcdefg'[number]}")
        return tuple(paths)

    @property
    def flags(self) -> list[str]:
        """The parameters of `agents.pml`."""
        numbers = {"N": len(self.parents), "CAP": self.slots, "RES": self.resident, "MAILS": self.mails}
        numbers |= {"OVER": self.overtaken, **{f"P{n}": parent for n, parent in enumerate(self.parents, 1)}}
        return [*(f"-D{name}={value}" for name, value in numbers.items()), *(f"-D{name}" for name in self.features)]


class Offer(NamedTuple):
    """An event in Spin's words, and the core's."""

    said: str
    event: ev.Event


# What may happen

KINDS = (
    *("SPAWN", "FOLLOW_UP", "SEND", "LOADED", "FLUSHED", "FINISHED", "INTERRUPT", "ABORTED", "CLOSE", "RESUME"),
    *("LOAD_FAILED", "FLUSH_FAILED", "FAILED", "DIED", "ASK_SPAWN", "ASK", "WAIT", "WAIT_ANSWERED", "STOP_WAITING"),
    *("DRAIN", "INTERRUPT_TREE"),
)
CODE = {kind: number for number, kind in enumerate(KINDS, 1)}
"""The numbers of the events in `agents.pml`."""
WORKING = (TurnState.RUNNING, TurnState.WAITING, TurnState.RETURNING)


def offers(world: Small, s: Session) -> Iterator[Offer]:
    """Yields all that may happen next."""
    here = {path: s.find(path) for path in world.paths}
    closed = {a.path: a.id for a in s.agents if a.identity is Identity.CLOSED}
    for number, parent in enumerate(world.parents, 1):
        path, above = world.paths[number], world.paths[parent]
        agent, opened = here[path], here[above]
        if agent is None and path not in closed and opened is not None:
            yield Offer(f"{CODE['SPAWN']} {number} 0", ev.Spawn(opened, path.rpartition("/")[2], "m", None, HOST))
        if agent is not None:
            yield from of_host(world, number, s.agents[agent])
            yield from of_thread(world, s, number, s.agents[agent])
        if "CLOSES" in world.features and (agent is not None or path in closed):
            yield Offer(f"{CODE['CLOSE']} {number} 0", ev.Close(HOST, closed[path] if agent is None else agent))
            if agent is None and opened is not None:
                yield Offer(f"{CODE['RESUME']} {number} 0", ev.Resume(HOST, closed[path]))
        if "ASKS" in world.features and parent and opened is not None:
            yield from of_parent(world, s, (parent, s.agents[opened]), (number, agent, path in closed))


def of_host(world: Small, n: int, a: Agent) -> Iterator[Offer]:
    """What the host does to an open agent."""
    if len(a.mailbox) < world.mails:
        yield Offer(f"{CODE['FOLLOW_UP']} {n} 0", ev.FollowUp(HOST, a.id, "m"))
        if "SENDS" in world.features:
            yield Offer(f"{CODE['SEND']} {n} 0", ev.Send(HOST, a.id, "m"))
    if "INTERRUPTS" in world.features:
        yield Offer(f"{CODE['INTERRUPT']} {n} 0", ev.Interrupt(HOST, a.id))
    if "TREES" in world.features:
        yield Offer(f"{CODE['INTERRUPT_TREE']} {n} 0", ev.Interrupt(HOST, a.id, subtree=True))


def of_thread(world: Small, s: Session, n: int, a: Agent) -> Iterator[Offer]:
    """What an agent's thread and the code of its turn do, other than to ask."""
    faults = "FAULTS" in world.features
    if a.residency is Residency.LOADING:
        yield Offer(f"{CODE['LOADED']} {n} 0", ev.Loaded(a.id, a.generation))
        if faults:
            yield Offer(f"{CODE['LOAD_FAILED']} {n} 0", ev.LoadFailed(a.id, a.generation, "e"))
    if a.residency is Residency.UNLOADING:
        flush = s.residents.flushes[a.id]
        yield Offer(f"{CODE['FLUSHED']} {n} 0", ev.Flushed(a.id, a.generation, flush))
        if faults:
            yield Offer(f"{CODE['FLUSH_FAILED']} {n} 0", ev.FlushFailed(a.id, a.generation, flush, "e"))
    if a.status in STARTED:
        yield Offer(f"{CODE['FINISHED']} {n} 0", ev.Finished(a.id, a.turn, "r"))
        if faults:
            yield Offer(f"{CODE['FAILED']} {n} 0", ev.Failed(a.id, a.turn, "e"))
    if a.status is TurnState.STOPPING:
        yield Offer(f"{CODE['ABORTED']} {n} 0", ev.Aborted(a.id, a.turn))
    if faults and a.residency is not Residency.UNLOADED:
        yield Offer(f"{CODE['DIED']} {n} 0", ev.Died(a.id, a.generation, "e"))
    if "ASKS" in world.features and a.status in WORKING:
        for wait in s.waits.of_agent.get(a.id, ()):
            yield Offer(f"{CODE['STOP_WAITING']} {n} 0", ev.StopWaiting(a.id, a.turn, wait))
        if a.mailbox:
            yield Offer(f"{CODE['DRAIN']} {n} 0", ev.Drain(a.id, a.turn))


def of_parent(
    world: Small, s: Session, parent: tuple[int, Agent], child: tuple[int, int | None, bool]
) -> Iterator[Offer]:
    """How a turn asks a child, and awaits what it asked."""
    (p, me), (n, agent, is_closed) = parent, child
    if me.status not in WORKING:
        return
    if agent is None and not is_closed:
        yield Offer(f"{CODE['ASK_SPAWN']} {p} {n}", ev.Spawn(me.id, world.paths[n].rpartition("/")[2], "m"))
    asked = [] if agent is None else requests_of(s.agents[agent], me.id)
    if agent is not None and not asked and max(len(s.agents[agent].mailbox), len(me.mailbox)) < world.mails:
        yield Offer(f"{CODE['ASK']} {p} {n}", ev.FollowUp(me.id, agent, "m"))
    if me.id in s.waits.of_agent:
        return
    for number in asked:
        yield Offer(f"{CODE['WAIT']} {p} {n}", ev.Wait(me.id, me.turn, None, (), (number,), mail=False))
    told = [m for m in me.mailbox if m.notice is not None and s.agents[m.sender].path == world.paths[n]]
    for number in told[0].answers[:1] if told else ():
        yield Offer(f"{CODE['WAIT_ANSWERED']} {p} {n}", ev.Wait(me.id, me.turn, None, (), (number,), mail=False))


def requests_of(a: Agent, sender: int) -> list[int]:
    """The numbers of this sender's requests at an agent, unread or read by its turn, that are not answered."""
    return [m.mail for m in (*a.taken, *a.mailbox) if m.sender == sender and is_request(m)]


def is_request(m: MailAccepted) -> bool:
    """Does the mail ask for a turn, and is it no notice?"""
    return m.kind is MailKind.TRIGGER and m.notice is None


# A state of the core, in Spin's words

IDENTITY = {Identity.OPEN: 1, Identity.CLOSED: 2}
STATUS = {
    **{TurnState.NEW: 0, TurnState.QUEUED: 1, TurnState.STARTING: 2, TurnState.RUNNING: 3, TurnState.WAITING: 4},
    **{TurnState.RETURNING: 5, TurnState.STOPPING: 6},
    **dict.fromkeys((TurnState.COMPLETED, TurnState.ERRORED, TurnState.INTERRUPTED), 7),
}
PLACE = {Residency.UNLOADED: 0, Residency.LOADING: 1, Residency.RESIDENT: 2, Residency.UNLOADING: 3}
TRIGGER, NOTICE, AWAITED = 8, 16, 32


def said(world: Small, s: Session) -> str:
    """The state as `show` in `agents.pml` prints it."""
    number = {path: n for n, path in enumerate(world.paths)}
    of = {a.id: number[a.path] for a in s.agents}
    by = {of[a.id]: a for a in s.agents}
    of[HOST] = ROOT
    awaited = {request for wait in s.waits.pending.values() for request in wait.requests}

    def mail(m: MailAccepted) -> str:
        marks = TRIGGER * (m.kind is MailKind.TRIGGER) + NOTICE * (m.notice is not None) + AWAITED * (m.mail in awaited)
        return f"{of[m.sender] + marks},"

    def row(n: int) -> str:
        a = by.get(n)
        if a is None:
            return "000000[][]0,0 "
        slot, waits = int(a.id in s.slots.holders), int(a.id in s.waits.of_agent)
        attempts = s.ledger.attempts.get(a.id, 0)
        returns = a.status in WORKING and attempts + 1 < world.config.max_attempts
        kept = [m for m in a.taken if returns or (is_request(m) and m.sender != HOST)]
        tried = sum(1 << (of[v] - 1) for v in s.residents.tried.get(a.id, ()))
        server = s.residents.serves.get(a.id, -1)
        serves = of[server] if needs_room(s, server) else 0
        state = f"{IDENTITY[a.identity]}{STATUS[a.status]}{PLACE[a.residency]}{slot}{waits}{attempts}"
        return f"{state}[{''.join(map(mail, a.mailbox))}][{''.join(map(mail, kept))}]{tried},{serves} "

    lines = (s.slots.ready, s.residents.starting, s.residents.idle, s.waits.returning, s.waits.lenders)
    passed = min(s.slots.overtaken, max(1, world.overtaken)) if s.slots.ready and world.overtaken < NEVER_DUE else 0
    rows = "".join(row(n) for n in range(1, len(world.paths)))
    return rows + "".join(" " + "".join(str(of[a]) for a in line) for line in lines) + f" {passed}"


def needs_room(s: Session, agent: int) -> bool:
    """Is its turn starting, and not in memory?"""
    return (
        agent >= 0 and s.agents[agent].status is TurnState.STARTING and s.agents[agent].residency is Residency.UNLOADED
    )
