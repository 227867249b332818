"""Defines scopes: worlds so small that every state of them can be visited.

A scope names the possible agents, the caps, the mails that an agent holds, what host and agents do, and which faults
are on. Its events are all that a host, an agent or a thread could produce there, refused events and stale reports
included, since these must change nothing.

Time is explored through deadlines: nothing happens between two of them, so the only ticks are to the next one.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from attrs import field, frozen

from statemachine.core import events as ev
from statemachine.core.config import Notice, Overflow, SessionConfig, SlotPolicy
from statemachine.core.events import HOST, ROOT
from statemachine.core.machines import STARTED, Identity, Residency, SessionState, TurnState
from statemachine.core.records import MailAccepted
from statemachine.core.session import Session

from ..lockstep import AnyEvent, Restart

FAULTS = ("load", "flush", "death", "deadlines", "restart", "fail", "shutdown", "store")
"""load: loads fail. flush: flushes fail. death: threads die. deadlines: bounds run out. restart: the process is lost.
fail: turns raise. shutdown, store: the session is shut down, the store fails."""


class BadScope(ValueError):
    """There is no such scope; the message names those that exist."""


@frozen(kw_only=True)
class Scope:
    """A small world."""

    name: str
    tree: tuple[tuple[str, str], ...]
    """(path of the parent, name) of the agents that may be spawned."""
    config: SessionConfig
    ids: int = field()
    """Most sub-agents ever spawned: with more ids than paths, a closed agent's path is taken again."""
    mails: int = 1
    """Most unread mails that senders produce per agent (the config's max_unread may be larger)."""
    faults: frozenset[str] = frozenset()
    root_runs: bool = False
    """Whether the root is given turns."""
    agents_act: bool = True
    """Whether running agents send to, interrupt and close each other, and not only the host."""
    host_sends: tuple[str, ...] = ("send", "follow_up")
    closes: bool = True
    waits: bool = True
    awaits: bool = False
    """Do turns wait for the requests that they made, and by their own choice?"""
    waits_each: int = 1
    """Waits that a turn has at the same time."""
    interrupts: bool = True
    subtrees: bool = False
    """Are whole subtrees interrupted?"""
    withdraws: bool = False
    forgets: bool = False
    symmetric: bool = False
    """Whether the sub-agents are interchangeable. Then states that differ only in their names are visited once."""
    weight: int = 0
    """Rough number of events, in thousands: the heaviest scope is begun first."""
    nightly: bool = False
    meaning: str = ""

    @ids.default
    def _one_each(self) -> int:
        return len(self.tree)


def events(scope: Scope, s: Session) -> Iterator[AnyEvent]:
    """Yields all events that may happen next."""
    yield from host_events(scope, s)
    for agent in s.agents:
        yield from agent_events(scope, s, agent.id)
        yield from thread_events(scope, s, agent.id)
    faults = scope.faults
    if "restart" in faults and s.state is not SessionState.CLOSED:
        yield Restart()
    if "deadlines" in faults:
        due = s.deadlines.next()
        if due is not None:
            yield ev.Tick(due)
    if "shutdown" in faults:
        yield ev.Shutdown(1)
    if "store" in faults:
        yield ev.WriteFailed("full")


def has_place(scope: Scope, s: Session, agent: int) -> bool:
    """Does the scope let one more mail come to the agent? What may be unread again counts as unread."""
    found = s.agents[agent]
    read = found.taken if s.config.max_attempts > 1 else ()
    return len(found.mailbox) + len(read) < scope.mails


def host_events(scope: Scope, s: Session) -> Iterator[AnyEvent]:
    """Yields the events of the embedding program."""
    if len(s.agents) <= scope.ids:
        for parent, name in scope.tree:
            found = s.find(parent)
            if found is not None:
                yield ev.Spawn(found, name, "m", None, HOST)
    if scope.root_runs and has_place(scope, s, ROOT):
        yield ev.Start(ROOT, "m")
    if scope.root_runs and scope.interrupts:
        yield ev.Interrupt(HOST, ROOT)
    for agent in s.agents[1:]:
        if has_place(scope, s, agent.id):
            if "send" in scope.host_sends:
                yield ev.Send(HOST, agent.id, "m")
            if "follow_up" in scope.host_sends:
                yield ev.FollowUp(HOST, agent.id, "m")
        if scope.interrupts:
            yield ev.Interrupt(HOST, agent.id)
        if scope.subtrees:
            yield ev.Interrupt(HOST, agent.id, subtree=True)
        if scope.closes:
            yield ev.Close(HOST, agent.id)
            yield ev.Resume(HOST, agent.id)
        if scope.forgets:
            yield ev.Forget(agent.id)
    if scope.withdraws:
        for number in range(s.ledger.next_mail):
            yield ev.Withdraw(HOST, number)
        yield ev.Withdraw(HOST, s.ledger.next_mail)


def agent_events(scope: Scope, s: Session, a: int) -> Iterator[AnyEvent]:
    """Yields the events of an agent's turn: it drains, waits, and acts on its children and its parent."""
    me = s.agents[a]
    if me.status not in STARTED:
        return
    yield ev.Drain(a, me.turn)
    children = [c for c in me.children or () if s.agents[c].identity is Identity.OPEN]
    mine = list(s.waits.of_agent.get(a, ()))
    if len(mine) < scope.waits_each:
        yield from wait_events(scope, s, a, children)
    for number in mine:
        yield ev.StopWaiting(a, me.turn, number)
    if scope.agents_act and me.status is not TurnState.STOPPING:
        if len(s.agents) <= scope.ids:
            yield from (ev.Spawn(a, name, "m") for parent, name in scope.tree if parent == me.path)
        for child in children:
            if has_place(scope, s, child) and has_place(scope, s, a):
                yield ev.FollowUp(a, child, "m")
            if scope.interrupts:
                yield ev.Interrupt(a, child)
            if scope.subtrees:
                yield ev.Interrupt(a, child, subtree=True)
            if scope.closes:
                yield ev.Close(a, child)
        if a != ROOT:
            if has_place(scope, s, me.parent):
                yield ev.Send(a, me.parent, "m")
            yield ev.FollowUp(a, ROOT, "m")
            yield ev.Interrupt(a, a)
            yield ev.Close(a, a)


def wait_events(scope: Scope, s: Session, a: int, children: list[int]) -> Iterator[AnyEvent]:
    """What the turn of an agent may begin to wait for."""
    turn = s.agents[a].turn
    if scope.waits:
        yield ev.Wait(a, turn, 1, ())
        for child in children:
            yield ev.Wait(a, turn, 1, (child,))
    if scope.awaits:
        yield ev.Wait(a, turn, None, mail=False)
        asked = [n for n, target in s.ledger.requests.items() if any(m.sender == a for m in mails_of(s, target, n))]
        for number in asked:
            yield ev.Wait(a, turn, None, (), (number,), mail=False)
            yield ev.Wait(a, turn, 1, (), (number,), mail=False)
        if len(asked) > 1:
            yield ev.Wait(a, turn, None, (), tuple(asked), ev.WaitMode.ALL, mail=False)
        notices = [n for m in s.agents[a].mailbox for n in m.answers]
        yield from (ev.Wait(a, turn, None, (), (number,), mail=False) for number in notices)


def mails_of(s: Session, agent: int, number: int) -> list[MailAccepted]:
    """The mail with this number, wherever the agent has it."""
    return [m for m in (*s.agents[agent].mailbox, *s.agents[agent].taken) if m.mail == number]


def thread_events(scope: Scope, s: Session, a: int) -> Iterator[AnyEvent]:
    """Yields the reports of a thread, current and stale."""
    me, faults = s.agents[a], scope.faults
    if me.residency is Residency.LOADING:
        yield ev.Loaded(a, me.generation)
        if "load" in faults:
            yield ev.LoadFailed(a, me.generation, "e")
    flush = s.residents.flushes.get(a)
    if flush is not None:
        yield ev.Flushed(a, me.generation, flush)
        if "flush" in faults:
            yield ev.FlushFailed(a, me.generation, flush, "e")
    if me.status in STARTED:
        yield ev.Finished(a, me.turn, "r")
        if "fail" in faults:
            yield ev.Failed(a, me.turn, "e")
    yield ev.Aborted(a, me.turn)  # stale unless stopping
    if "death" in faults and (a != ROOT or scope.root_runs):
        yield ev.Died(a, me.generation, "e")
    yield from stale_events(me.generation, me.turn, a, s.residents.last_flush)


@cache
def stale_events(generation: int, turn: int, a: int, last_flush: int) -> tuple[AnyEvent, ...]:
    """Returns reports of the thread, turn and flush before."""
    of_thread = (
        ev.Loaded(a, generation - 1),
        ev.LoadFailed(a, generation - 1, "e"),
        ev.Died(a, generation - 1, "e"),
        ev.Flushed(a, generation - 1, last_flush),
    )
    of_flush = ev.Flushed(a, generation, last_flush - 1), ev.FlushFailed(a, generation, last_flush - 1, "e")
    of_turn = ev.Finished(a, turn - 1, "r"), ev.Failed(a, turn - 1, "e")
    return (*(of_thread if generation else ()), *(of_flush if last_flush else ()), *(of_turn if turn else ()))


# The scopes


def _config(slots: int, resident: int, unread: int = 3, **rest: object) -> SessionConfig:
    bounds = {"load_timeout": 2, "flush_timeout": 2, "stop_grace": 1, "max_wait": 1}
    fields = {"max_concurrent": slots + 1, "max_resident": resident, "max_unread": unread, "overflow": Overflow.QUEUE}
    return SessionConfig(**{**bounds, **fields, **rest})  # type: ignore[arg-type]


PAIR = (("/root", "a"), ("/root/a", "b"))
TRIO = (("/root", "a"), ("/root", "b"), ("/root", "c"))
THREADS = frozenset({"load", "flush", "death", "deadlines", "fail"})
FULL = frozenset({*THREADS, "restart"})

SCOPES: tuple[Scope, ...] = (
    Scope(
        name="pair",
        tree=PAIR,
        config=_config(1, 1),
        faults=FULL,
        weight=23,
        meaning="an agent and its child on one slot and one residency slot, with every fault",
    ),
    Scope(
        name="trio",
        tree=TRIO,
        config=_config(2, 2),
        mails=2,
        symmetric=True,
        closes=False,
        agents_act=False,
        weight=127,
        meaning="three agents on two slots and two residency slots, without faults",
    ),
    Scope(
        name="reject",
        tree=PAIR,
        config=_config(1, 1, overflow=Overflow.REJECT, max_depth=1, max_agents=1),
        faults=frozenset({"load", "restart", "store"}),
        ids=3,
        meaning="no ready queue, bounds on depth and number, paths taken again, and a failing store",
    ),
    Scope(
        name="root",
        tree=(("/root", "a"),),
        config=_config(1, 1, notice=Notice.TRIGGER, notify_interrupted=True),
        faults=FULL,
        root_runs=True,
        mails=2,
        weight=90,
        meaning="a root that works, is woken by notices, waits for its child, and dies",
    ),
    Scope(
        name="wake",
        tree=PAIR,
        config=_config(1, 1, notice=Notice.TRIGGER, max_queued=1),
        faults=frozenset({"flush", "restart"}),
        host_sends=("follow_up",),
        weight=19,
        meaning="notices that wake, and a ready queue of one",
    ),
    Scope(
        name="live",
        tree=PAIR,
        config=_config(2, 2, slot_policy=SlotPolicy.LIVE_THREADS, overflow=Overflow.REJECT),
        faults=FULL,
        waits=False,
        weight=78,
        meaning="LIVE_THREADS: slots of open agents",
    ),
    Scope(
        name="idle",
        tree=TRIO[:2],
        config=_config(1, 2, idle_ttl=1),
        mails=2,
        weight=46,
        faults=frozenset({"flush", "deadlines"}),
        closes=False,
        waits=False,
        agents_act=False,
        host_sends=("follow_up",),
        meaning="idle residents are unloaded in time",
    ),
    Scope(
        name="end",
        tree=PAIR,
        config=_config(1, 1),
        faults=frozenset({"flush", "deadlines", "shutdown"}),
        agents_act=False,
        waits=False,
        host_sends=("follow_up",),
        meaning="shutdown",
    ),
)
"""The scopes that `check` explores, all completely."""

RUNGS: tuple[Scope, ...] = (
    Scope(
        name="trio-close",
        tree=TRIO,
        config=_config(2, 2),
        mails=2,
        symmetric=True,
        agents_act=False,
        meaning="trio, and agents are closed and resumed",
    ),
    Scope(
        name="trio-threads",
        tree=TRIO,
        config=_config(2, 2),
        mails=2,
        symmetric=True,
        closes=False,
        agents_act=False,
        faults=frozenset({"load", "flush", "death", "fail"}),
        meaning="trio, and threads fail",
    ),
    Scope(
        name="trio-bounds",
        tree=TRIO,
        config=_config(2, 2),
        symmetric=True,
        closes=False,
        agents_act=False,
        faults=THREADS,
        meaning="trio with one mail each, and threads fail or do not answer in time",
    ),
    Scope(
        name="pair-mails",
        tree=PAIR,
        config=_config(1, 1),
        mails=2,
        faults=FULL,
        meaning="pair, with two mails each",
    ),
    Scope(
        name="trio-faults",
        tree=TRIO,
        config=_config(2, 2),
        symmetric=True,
        faults=FULL,
        meaning="three agents, two slots, two residency slots, one mail each, close, and every fault of threads",
    ),
    Scope(
        name="trio-everything",
        tree=TRIO,
        config=_config(2, 2),
        symmetric=True,
        faults=frozenset(FAULTS),
        nightly=True,
        meaning="the same, and it may be shut down, and its store may fail: the top rung",
    ),
)
"""Larger scopes, one rung at a time."""


def find(name: str) -> Scope:
    """Returns the scope of this name. Raises `BadScope`."""
    for scope in (*SCOPES, *RUNGS):
        if scope.name == name:
            return scope
    raise BadScope(f"there is no scope '{name}'; there are {', '.join(s.name for s in (*SCOPES, *RUNGS))}")
