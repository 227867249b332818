"""Defects of the core, each of which breaks one rule: `model/breaks/hunt.py` finds out which check notices each.

A break stands in for one function of the core. It is called with the original first, and its docstring says what is
wrong with it. Here are those about slots, turns, mail, notices and waits; `thread_defects.py` has those about threads,
close and resume, the log, and the end of a session, `delegation_defects.py` those about what section 7 adds,
`told_defects.py` those about what callers are told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from attrs import frozen

from statemachine.core import events as ev
from statemachine.core import joint, ledger, operations, reports, rules, turns
from statemachine.core.deadlines import Bound
from statemachine.core.effects import Accepted, Cancel, Refused, Reply
from statemachine.core.ledger import Ledger
from statemachine.core.machines import Residency
from statemachine.core.records import Cause, MailAccepted, TurnStopped
from statemachine.core.refusals import ExecutionFull, Refusal
from statemachine.core.residency import NO_AGENT
from statemachine.core.session import HANDLERS, Session
from statemachine.core.slots import Slots

Where = tuple[Any, Any]
"""Where a function of the core is looked up: (module or class, its name) or (table, key)."""


@frozen
class Break:
    """One broken rule."""

    id: str
    sentence: str
    """What the core does now."""
    rules: str
    """The rules that forbid it, the decisions, and the known bugs that did the same."""
    place: str
    """Where to search first: a scope, or `fuzz` if no scope shows it."""
    where: Where
    """What it replaces."""
    instead: Callable[..., Any]
    """The replacement, called like the original, with the original before the arguments."""

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Gives the core the defect within the block."""
        original = look_up(self.where)
        with put(self.where, lambda *arguments, **named: self.instead(original, *arguments, **named)):
            yield


def look_up(where: Where) -> Any:
    """Returns the present value."""
    owner, name = where
    return owner[name] if isinstance(owner, dict) else getattr(owner, name)


@contextmanager
def put(where: Where, value: Any) -> Iterator[None]:
    """Puts the value there within the block."""
    original = look_up(where)
    _set(where, value)
    try:
        yield
    finally:
        _set(where, original)


def _set(where: Where, value: Any) -> None:
    owner, name = where
    if isinstance(owner, dict):
        owner[name] = value
    else:
        setattr(owner, name, value)


BREAKS: list[Break] = []
"""All breaks, by the part of the core that they are in."""


def breaks(rule_ids: str, place: str, where: Where) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorates a function that replaces another one: adds it to `BREAKS`."""

    def add(instead: Callable[..., Any]) -> Callable[..., Any]:
        sentence = " ".join((instead.__doc__ or "").split()).rstrip(".")
        BREAKS.append(Break(instead.__name__.replace("_", "-"), sentence, rule_ids, place, where, instead))
        return instead

    return add


# Slots and the ready queue


@breaks("S3 BUG-B01", "pair", (Slots, "release"))
def slot_not_released(_: Any, self: Slots, agent: int) -> None:
    """The end of a turn gives its slot back, and the count of held slots stays."""
    self.holders.pop(agent)


@breaks("S3 S14 BUG-B02", "pair", (HANDLERS, ev.Died))
def death_keeps_the_turn(_: Any, s: Session, event: ev.Died) -> Reply:
    """A thread that dies is dropped, and its turn goes on without it."""
    agent = reports.thread(s, event.agent, event.generation)
    if agent is None or agent.residency is Residency.UNLOADED:
        return reports.stale(s)
    turns.drop_thread(s, agent, tell_thread=False)
    return reports.NOTED


@breaks("S13 BUG-B06", "root", (rules, "is_counted"))
def root_counted(*_: Any) -> bool:
    """The root's turn counts against the cap."""
    return True


@breaks("S1 J2 BUG-B09", "idle", (rules, "slot_is_free"))
def one_slot_too_many(_: Any, held: int, cap: int) -> bool:
    """A slot is free while as many are held as there are."""
    return held <= cap


@breaks("section 4, start; BUG-B08", "fuzz", (HANDLERS, ev.Start))
def second_entrance(_: Any, s: Session, event: ev.Start) -> Reply:
    """`start` asks for a turn without asking whether there is a slot for it."""
    asked = ev.FollowUp(ev.HOST, event.target, event.message)
    refusal = operations.mail_allowed(s, asked, operations.TRIGGER)
    if refusal is not None:
        return Refused(refusal)
    mail = MailAccepted(s.ledger.next_mail, ev.HOST, event.target, operations.TRIGGER, event.message)
    turns.accept(s, mail)
    return Accepted(mail.mail)


@breaks("J2", "due", (Slots, "enqueue"))
def last_in_first_out(core: Any, self: Slots, agent: int, depth: int) -> None:
    """Within a depth, the ready queue serves the last to come first."""
    core(self, agent, depth)
    for line in (self.ready, self.by_depth.get(depth)):
        if line is not None:
            line.move_to_end(agent, last=False)


@breaks("max_queued", "fuzz", (rules, "queue_has_room"))
def endless_queue(*_: Any) -> bool:
    """The ready queue takes any number of turns."""
    return True


@breaks("L1 S12 BUG-B01 BUG-B14", "reject", (operations, "turn_has_room"))
def finished_agents_block(core: Any, s: Session) -> Refusal | None:
    """An agent in memory counts as if it had a slot, so finished agents keep new ones out."""
    full = not s.residents.has_room
    holders = s.slots.counted_holders()
    return ExecutionFull(s.slots.cap, holders, s.paths(holders)) if full else core(s)


@breaks("section 4, spawn", "reject", (HANDLERS, ev.Spawn))
def spawn_evicts_first(core: Any, s: Session, event: ev.Spawn) -> Reply:
    """A spawn makes room in memory before it is known whether it will be refused."""
    if s.state is turns.OPEN_SESSION and s.residents.idle and not s.residents.has_room:
        turns.evict(s, s.agents[next(iter(s.residents.idle))], NO_AGENT)
    return core(s, event)  # type: ignore[no-any-return]


@breaks("J8 L8", "pair", (joint, "wake_stalled"))
def stall(*_: Any) -> None:
    """No turn is woken when all slot holders wait, none may lend, and another turn queues."""


@breaks("J8", "trio", (joint, "wake_stalled"))
def stall_wakes_the_first(core: Any, s: Session) -> None:
    """When all slot holders wait, none may lend, and another turn queues, the one that waits longest is woken."""
    lenders = s.waits.lenders
    s.waits.lenders = dict(reversed(lenders.items()))
    core(s)
    s.waits.lenders = {agent: None for agent in lenders if agent in s.waits.lenders}


# Mail and turns


@breaks("next BUG-B15 BUG-B45", "pair", (rules, "goes_on"))
def late_mail_waits(*_: Any) -> bool:
    """A turn that ends releases its slot even if late trigger mail asks for the next turn."""
    return False


@breaks("J1 L2 BUG-B04 BUG-B51", "pair", (turns, "consider"))
def idle_agent_sleeps_on(core: Any, s: Session, agent: Any) -> None:
    """Trigger mail to an agent that has had a turn before asks for none."""
    if agent.turn == 0:
        core(s, agent)


@breaks("J3 S5 BUG-B50", "pair", (Ledger, "start_turn"))
def turn_reads_nothing(_: Any, __: Ledger, agent: Any, turn: int) -> Any:
    """A turn starts without reading the mail that asked for it."""
    agent.turn = turn
    return agent.mailbox


@breaks("section 4, D5, S10 BUG-B47", "pair", (Ledger, "end_turn"))
def no_demotion(core: Any, self: Ledger, agent: Any, outcome: Any, started: bool) -> Any:
    """A turn that is interrupted before it started keeps its trigger mail, and starts again by itself."""
    mailbox, triggers = agent.mailbox, agent.triggers
    answered = core(self, agent, outcome, started)
    if not started:
        agent.mailbox, agent.triggers = mailbox, triggers
    return answered


@breaks("S5 BUG-B45", "pair", (Ledger, "end_turn"))
def interrupt_drops_mail(core: Any, self: Ledger, agent: Any, outcome: Any, started: bool) -> Any:
    """A turn that ends before it started takes its unread mail with it."""
    answered = core(self, agent, outcome, started)
    if not started:
        self._move_mail(ledger.BURY[ledger.ACCEPTED], agent.mailbox)
        agent.mailbox = ()
    return answered


@breaks("max_unread D7", "pair", (rules, "mailbox_has_room"))
def endless_mailbox(*_: Any) -> bool:
    """A mailbox takes any number of mails."""
    return True


@breaks("D16 L7", "pair", (rules, "mailbox_has_room"))
def no_last_place(_: Any, unread: int, promised: int, max_unread: int, __: Any) -> bool:
    """Queue-only mail may take the last place in a mailbox, so that no trigger mail finds room any more."""
    return unread + promised < max_unread


# Notices and waits


@breaks("L3 BUG-B32", "pair", (turns, "notify"))
def no_notices_at_all(*_: Any) -> bool:
    """No requester gets a notice."""
    return False


@breaks("L3 BUG-B33", "pair", (turns, "notify"))
def notices_to_loaded_agents(core: Any, s: Session, requester: Any, *about: Any) -> bool:
    """A requester that is not in memory gets no notice."""
    return requester.residency is Residency.RESIDENT and core(s, requester, *about)


@breaks("D6", "root", (rules, "is_request"))
def notice_is_a_request(_: Any, kind: Any, _is_notice: bool) -> bool:
    """The turn that a notice asked for sends a notice back."""
    return kind is rules.TRIGGER


@breaks("D8", "fuzz", (rules, "may_wake"))
def notices_overfill_the_queue(*_: Any) -> bool:
    """A notice asks for a turn even if the ready queue has no room for it."""
    return True


@breaks("notify_interrupted BUG-B40", "pair", (rules, "notice_is_due"))
def interrupts_are_announced(*_: Any) -> bool:
    """An interrupted turn sends notices even if the configuration has none."""
    return True


@breaks("section 4, close; L3 BUG-B56", "pair", (operations, "close_agent"))
def close_forgets_who_asked(core: Any, s: Session, agent: Any, _: Any, *rest: Any) -> None:
    """A requester of a turn that a closed agent never had is not told."""
    core(s, agent, (), *rest)


@breaks("S8", "pair", (turns, "stop"))
def stop_forgets_who_asked(core: Any, s: Session, agent: Any, cause: Cause, *_: Any) -> None:
    """It is forgotten who asked a turn to stop."""
    core(s, agent, cause)


@breaks("S8", "pair", (turns, "end"))
def death_is_a_failure(core: Any, *ending: Any, **told: Any) -> None:
    """A turn whose thread died says that its code failed."""
    core(*[Cause.FAILED if part is Cause.THREAD_DIED else part for part in ending], **told)


@breaks("L4 BUG-B36", "pair", (joint, "end_waits"))
def wait_misses_its_end(*_: Any) -> bool:
    """A wait that has begun does not see that its condition holds now."""
    return False


@breaks("L4 BUG-B36", "pair", (HANDLERS, ev.Wait))
def wait_does_not_look_first(core: Any, s: Session, event: ev.Wait) -> Reply:
    """A wait begins to wait without looking whether its condition holds already."""
    original, turns.wait_end = turns.wait_end, lambda *_: None
    try:
        return core(s, event)  # type: ignore[no-any-return]
    finally:
        turns.wait_end = original


@breaks("section 4, interrupt", "pair", (turns, "stop"))
def interrupt_lets_wait(_: Any, s: Session, agent: Any, *why: Any) -> None:
    """An interrupted turn that waits is not woken."""
    agent.status = turns.STOP[agent.status]
    s.ledger.stops[agent.id] = TurnStopped(agent.id, agent.turn, *why)
    s.records.append(s.ledger.stops[agent.id])
    s.effects.append(Cancel(agent.id, agent.turn))
    s.deadlines.set(Bound.STOP, agent.id, s.now + s.config.stop_grace)
