"""Defines scopes: worlds so small that every state of them can be visited.

A scope names the possible agents, the caps, the mails that an agent holds, what host and agents do, and which faults
are on. Its events are all that a host, an agent or a thread could produce there, refused events and stale reports
included, since these must change nothing.

Time is explored through deadlines: nothing happens between two of them, so the only ticks are to the next one.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from attrs import field, frozen

from statemachine.core import events as ev
from statemachine.core.config import Notice, Overflow, SessionConfig, SlotPolicy
from statemachine.core.events import HOST, ROOT
from statemachine.core.machines import STARTED, Identity, Residency, SessionState, TurnState
from statemachine.core.session import Session

from ..lockstep import AnyEvent, Restart

FAULTS = ("load", "flush", "death", "deadlines", "restart", "fail", "shutdown", "store")
"""load: loads fail. flush: flushes fail. death: threads die. deadlines: bounds run out. restart: the process is lost.
fail: turns raise. shutdown, store: the session is shut down, the store fails."""


WAITS = ("mail", "target", "request", "bounded", "all", "choice")
"""mail: for mail. target: for mail or a child. request: for a request of its own, answered or not. bounded: for one,
with a timeout. all: for all that are not answered. choice: for nothing, by its own choice."""


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
    """Do running agents send to, interrupt and close each other, or only the host?"""
    agents_send: bool = True
    """Do they send queue-only mail to their parents?"""
    asks_up: bool = False
    """Do they ask their parents and themselves for turns, not only their children?"""
    host_sends: tuple[str, ...] = ("send", "follow_up")
    host_spawns: bool = True
    """Does the host spawn every agent, or only those below the root, and the others are spawned by their parents?"""
    closes: bool = True
    waits: tuple[str, ...] = ("mail", "target")
    """What turns wait for, of `WAITS`."""
    waits_each: int = 1
    """Waits that a turn has at the same time."""
    interrupts: bool = True
    subtrees: bool = False
    """Are whole subtrees interrupted?"""
    withdraws: bool = False
    forgets: bool = False
    stale: bool = True
    """Do threads report what is stale?"""
    threads: bool = True
    """Do threads report at all? Without, all agents stay as their host left them: spawned, closed, resumed."""
    symmetric: bool = False
    """Whether the sub-agents are interchangeable. Then states that differ only in their names are visited once."""
    probed: bool = False
    """Does `make check` try the complete alphabet in each of its states, too? `make evidence` does so in all scopes."""
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
        if scope.threads:
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
            if found is not None and (scope.host_spawns or found == ROOT):
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
        if scope.asks_up:
            for other in (me.parent, a):
                if other != ROOT and has_place(scope, s, other) and other not in asked(s, a).values():
                    yield ev.FollowUp(a, other, "m")
        if a != ROOT:
            if scope.agents_send and has_place(scope, s, me.parent):
                yield ev.Send(a, me.parent, "m")
            yield ev.FollowUp(a, ROOT, "m")
            yield ev.Interrupt(a, a)
            yield ev.Close(a, a)


def wait_events(scope: Scope, s: Session, a: int, children: list[int]) -> Iterator[AnyEvent]:
    """What the turn of an agent may begin to wait for."""
    turn = s.agents[a].turn
    kinds = scope.waits
    if "mail" in kinds:
        yield ev.Wait(a, turn, 1, ())
    if "target" in kinds:
        yield from (ev.Wait(a, turn, 1, (child,)) for child in children)
    if "choice" in kinds:
        yield ev.Wait(a, turn, None, mail=False)
    if "request" in kinds:
        mine = asked(s, a)
        notices = [n for m in s.agents[a].mailbox for n in m.answers]
        for number in (*mine, *notices):
            yield ev.Wait(a, turn, None, (), (number,), mail=False)
            if "bounded" in kinds:
                yield ev.Wait(a, turn, 1, (), (number,), mail=False)
        if len(mine) > 1 and "all" in kinds:
            yield ev.Wait(a, turn, None, (), tuple(mine), ev.WaitMode.ALL, mail=False)


def asked(s: Session, a: int) -> dict[int, int]:
    """The requests of an agent that are not answered -> the agent that it asked."""
    return {
        number: target
        for number, target in s.ledger.requests.items()
        for m in (*s.agents[target].mailbox, *s.agents[target].taken)
        if m.mail == number and m.sender == a
    }


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
    if scope.stale or me.status is TurnState.STOPPING:
        yield ev.Aborted(a, me.turn)
    if "death" in faults and (a != ROOT or scope.root_runs):
        yield ev.Died(a, me.generation, "e")
    if scope.stale:
        last = s.residents.last_flush
        yield from stale_events(me.generation, me.turn, a, last, last if flush == last - 1 else last - 1)


@cache
def stale_events(generation: int, turn: int, a: int, last_flush: int, other_flush: int) -> tuple[AnyEvent, ...]:
    """Returns reports of the thread and turn before, and of a flush that is not the agent's, if it has one: where two
    are in flight, the one before the last may be.
    """
    of_thread = (
        ev.Loaded(a, generation - 1),
        ev.LoadFailed(a, generation - 1, "e"),
        ev.Died(a, generation - 1, "e"),
        ev.Flushed(a, generation - 1, last_flush),
    )
    of_flush = ev.Flushed(a, generation, other_flush), ev.FlushFailed(a, generation, other_flush, "e")
    of_turn = ev.Finished(a, turn - 1, "r"), ev.Failed(a, turn - 1, "e")
    return (*(of_thread if generation else ()), *(of_flush if last_flush else ()), *(of_turn if turn else ()))


# The scopes


def small_config(slots: int, resident: int, unread: int = 3, **rest: object) -> SessionConfig:
    """A configuration of a scope: so many slots and residency slots for sub-agents, a queue, and short bounds."""
    bounds = {"load_timeout": 2, "flush_timeout": 2, "stop_grace": 1, "max_wait": 1}
    fields = {"max_concurrent": slots + 1, "max_resident": resident, "max_unread": unread, "overflow": Overflow.QUEUE}
    return SessionConfig(**{**bounds, **fields, **rest})  # type: ignore[arg-type]


PAIR = (("/root", "a"), ("/root/a", "b"))
TRIO = (("/root", "a"), ("/root", "b"), ("/root", "c"))
LINE = (*PAIR, ("/root/a/b", "c"))
FAN = (*PAIR, ("/root/a", "c"))
LINE_AND_TWO = (*LINE, ("/root", "d"), ("/root", "e"))
THREADS = frozenset({"load", "flush", "death", "deadlines", "fail"})
FULL = frozenset({*THREADS, "restart"})


def _delegation(**rest: Any) -> Scope:
    """A scope about turns that wait for each other. What does not bear on that is left to the other scopes."""
    plain: dict[str, Any] = {
        "waits": ("request",),
        "host_sends": (),
        "host_spawns": False,
        "agents_send": False,
        "closes": False,
        "stale": False,
    }
    return Scope(**{**plain, **rest})


SCOPES: tuple[Scope, ...] = (
    Scope(
        name="pair",
        tree=PAIR,
        config=small_config(1, 1),
        faults=FULL,
        weight=23,
        meaning="an agent and its child on one slot and one residency slot, with every fault",
    ),
    Scope(
        name="trio",
        tree=TRIO,
        config=small_config(2, 2),
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
        config=small_config(1, 1, overflow=Overflow.REJECT, max_depth=1, max_agents=1),
        faults=frozenset({"load", "restart", "store"}),
        ids=3,
        meaning="no ready queue, bounds on depth and number, paths taken again, and a failing store",
    ),
    Scope(
        name="root",
        tree=(("/root", "a"),),
        config=small_config(1, 1, notice=Notice.TRIGGER, notify_interrupted=True),
        faults=FULL,
        root_runs=True,
        mails=2,
        weight=90,
        meaning="a root that works, is woken by notices, waits for its child, and dies",
    ),
    Scope(
        name="wake",
        tree=PAIR,
        config=small_config(1, 1, notice=Notice.TRIGGER, max_queued=1),
        faults=frozenset({"flush", "restart"}),
        host_sends=("follow_up",),
        weight=19,
        meaning="notices that wake, and a ready queue of one",
    ),
    Scope(
        name="live",
        tree=PAIR,
        config=small_config(2, 2, slot_policy=SlotPolicy.LIVE_THREADS, overflow=Overflow.REJECT),
        faults=FULL,
        waits=(),
        weight=78,
        meaning="LIVE_THREADS: slots of open agents",
    ),
    Scope(
        name="idle",
        tree=TRIO[:2],
        config=small_config(1, 2, idle_ttl=1),
        mails=2,
        weight=46,
        faults=frozenset({"flush", "deadlines"}),
        closes=False,
        waits=(),
        agents_act=False,
        host_sends=("follow_up",),
        meaning="idle residents are unloaded in time",
    ),
    Scope(
        name="end",
        tree=PAIR,
        config=small_config(1, 1),
        faults=frozenset({"flush", "deadlines", "shutdown"}),
        agents_act=False,
        waits=(),
        host_sends=("follow_up",),
        meaning="shutdown",
    ),
    _delegation(
        name="nested",
        tree=LINE,
        config=small_config(1, 3, 2),
        waits=("request", "choice"),
        weight=33,
        meaning="delegation three deep on one slot: turns that await their children lend it",
    ),
    _delegation(
        name="bound",
        tree=LINE,
        config=small_config(1, 2, 2),
        waits=("request", "choice"),
        weight=9,
        meaning="the same where one turn less may lend: the last wait is stalled, unless it is by choice",
    ),
    _delegation(
        name="gather",
        tree=FAN,
        config=small_config(1, 2),
        interrupts=False,
        waits=("request", "all"),
        weight=4,
        meaning="a parent that awaits one or all of its two children, at the bound of lending",
    ),
    _delegation(
        name="wide",
        tree=FAN,
        config=small_config(2, 3),
        interrupts=False,
        waits=("request", "choice"),
        weight=4,
        meaning="two slots, one of which may be lent",
    ),
    _delegation(
        name="anew",
        tree=TRIO,
        config=small_config(2, 3),
        symmetric=True,
        agents_act=False,
        host_spawns=True,
        host_sends=("follow_up",),
        interrupts=False,
        waits=("choice",),
        waits_each=2,
        weight=25,
        meaning="turns that go on while another wait of theirs is not over, and begin to wait anew",
    ),
    _delegation(
        name="tasks",
        tree=PAIR,
        config=small_config(1, 2, 2),
        waits=("request", "bounded", "choice"),
        waits_each=2,
        faults=frozenset({"deadlines"}),
        weight=7,
        meaning="turns with two waits, with and without timeouts",
    ),
    _delegation(
        name="circle",
        tree=PAIR,
        config=small_config(1, 2, 2),
        asks_up=True,
        waits=("request", "all"),
        waits_each=2,
        weight=18,
        meaning="a child asks its parent, and turns ask themselves: waits in circles are refused",
    ),
    _delegation(
        name="attempts",
        tree=PAIR,
        config=small_config(1, 2, 2, max_attempts=2),
        host_sends=("follow_up",),
        faults=frozenset({"death", "restart"}),
        weight=20,
        meaning="turns that a death or a crash ended are tried once more",
    ),
    _delegation(
        name="read",
        tree=PAIR,
        config=small_config(1, 2, max_attempts=2),
        host_sends=("follow_up",),
        interrupts=False,
        mails=2,
        faults=frozenset({"death"}),
        weight=17,
        meaning="turns that are tried once more and have read several mails, of outcomes that they awaited among them",
    ),
    _delegation(
        name="due",
        tree=FAN,
        config=small_config(1, 2, 2, max_overtaken=1),
        host_sends=("follow_up",),
        interrupts=False,
        weight=10,
        meaning="the turn that has queued longest is due after one other",
    ),
    _delegation(
        name="recall",
        tree=PAIR,
        config=small_config(1, 2, 2, notice=Notice.TRIGGER),
        host_sends=("follow_up",),
        subtrees=True,
        withdraws=True,
        weight=6,
        meaning="mail is withdrawn, and subtrees are interrupted, while notices wake",
    ),
    _delegation(
        name="forget",
        tree=PAIR,
        config=small_config(1, 2, 2),
        interrupts=False,
        closes=True,
        asks_up=True,
        forgets=True,
        waits=("target", "request"),
        weight=8,
        meaning="agents are closed and forgotten while others wait for them",
    ),
    _delegation(
        name="drain",
        tree=PAIR,
        config=small_config(1, 2, 2, turn_timeout=3),
        interrupts=False,
        waits=("target", "request", "choice"),
        faults=frozenset({"deadlines", "shutdown"}),
        weight=12,
        meaning="a shutdown while turns wait, and turns that take too long",
    ),
    _delegation(
        name="drain-tasks",
        tree=PAIR,
        config=small_config(2, 2),
        interrupts=False,
        waits=("request", "bounded"),
        waits_each=2,
        faults=frozenset({"deadlines", "shutdown"}),
        weight=6,
        meaning="a shutdown while turns have two waits, for two requests to one child",
    ),
    Scope(
        name="spare",
        tree=TRIO,
        config=small_config(1, 3),
        symmetric=True,
        closes=False,
        agents_act=False,
        waits=(),
        host_sends=("follow_up",),
        stale=False,
        weight=2,
        meaning="three agents that all stay in memory, with room to spare: queued ones are interrupted there",
    ),
    Scope(
        name="end-alone",
        tree=PAIR[:1],
        config=small_config(1, 1, idle_ttl=1),
        faults=frozenset({*THREADS, "shutdown"}),
        agents_act=False,
        waits=("choice",),
        host_sends=("follow_up",),
        stale=False,
        probed=True,
        weight=20,
        meaning="deaths, failures, timeouts and the idle limit of one agent, before and during a shutdown",
    ),
    Scope(
        name="end-faults",
        tree=TRIO[:2],
        config=small_config(1, 2, idle_ttl=1),
        faults=frozenset({*THREADS, "shutdown"}),
        symmetric=True,
        closes=False,
        interrupts=False,
        agents_act=False,
        waits=(),
        host_sends=("follow_up",),
        stale=False,
        weight=8,
        meaning="the same of two agents, which are neither closed nor interrupted",
    ),
    Scope(
        name="live-end",
        tree=PAIR[:1],
        config=small_config(1, 1, slot_policy=SlotPolicy.LIVE_THREADS, overflow=Overflow.REJECT),
        faults=frozenset({*FULL, "shutdown"}),
        agents_act=False,
        waits=("mail",),
        host_sends=("follow_up",),
        stale=False,
        probed=True,
        weight=20,
        meaning="LIVE_THREADS, every fault, and a shutdown",
    ),
)
"""The scopes that `check` explores, all completely."""

RUNGS: tuple[Scope, ...] = (
    Scope(
        name="trio-close",
        tree=TRIO,
        config=small_config(2, 2),
        mails=2,
        symmetric=True,
        agents_act=False,
        meaning="trio, and agents are closed and resumed",
    ),
    Scope(
        name="trio-threads",
        tree=TRIO,
        config=small_config(2, 2),
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
        config=small_config(2, 2),
        symmetric=True,
        closes=False,
        agents_act=False,
        faults=THREADS,
        meaning="trio with one mail each, and threads fail or do not answer in time",
    ),
    Scope(
        name="pair-mails",
        tree=PAIR,
        config=small_config(1, 1),
        mails=2,
        faults=FULL,
        meaning="pair, with two mails each",
    ),
    Scope(
        name="trio-faults",
        tree=TRIO,
        config=small_config(2, 2),
        symmetric=True,
        faults=FULL,
        meaning="three agents, two slots, two residency slots, one mail each, close, and every fault of threads",
    ),
    Scope(
        name="live-line",
        tree=LINE_AND_TWO,
        config=small_config(3, 3, slot_policy=SlotPolicy.LIVE_THREADS, overflow=Overflow.REJECT),
        agents_act=False,
        host_sends=(),
        interrupts=False,
        waits=(),
        threads=False,
        nightly=True,
        meaning="LIVE_THREADS: three generations and two more agents on three slots are closed and resumed, partly",
    ),
    Scope(
        name="trio-everything",
        tree=TRIO,
        config=small_config(2, 2),
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
