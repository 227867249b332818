"""Each rule beside the reference model's wording of it, for CrossHair to find arguments for which they differ.

Both functions of a pair have the same parameters, and each builds the state of its side from them.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from attrs import frozen

from statemachine.core import operations, rules, turns, waits
from statemachine.core.agents import Agent
from statemachine.core.effects import WaitEnd
from statemachine.core.events import HOST, ROOT, WaitMode
from statemachine.core.machines import Identity, Residency, SessionState, TurnState
from statemachine.core.records import MailAccepted, MailKind
from statemachine.core.residency import NO_AGENT, Residents
from statemachine.core.slots import Slots
from statemachine.core.waits import Waiting

from ..reference import Caps, Letter, Unchanged, Wait, World
from .contract import Twin

PHASES: dict[TurnState, Any] = {status: status.name.lower() for status in TurnState}
PLACES: dict[Residency, Any] = dict(zip(Residency, ("out", "loading", "in", "leaving"), strict=True))
STATES: dict[SessionState, Any] = {state: state.name.lower() for state in SessionState}
WORKING = (TurnState.RUNNING, TurnState.WAITING, TurnState.RETURNING)


@frozen
class Pair:
    """A rule of the core and the reference's wording of it. `twin` is the rule with a defect."""

    about: str
    core: Callable[..., Any]
    reference: Callable[..., Any]
    twin: Twin

    @property
    def name(self) -> str:
        return self.core.__name__.removeprefix("core_").replace("_", " ")


PAIRS: list[Pair] = []


def wording(
    about: str, reference: Callable[..., Any], owner: Any, rule: str, instead: Any, defect: str
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorates the core's side of a pair: adds the pair to `PAIRS`."""

    def add(core: Callable[..., Any]) -> Callable[..., Any]:
        PAIRS.append(Pair(about, core, reference, Twin(owner, rule, instead, defect)))
        return core

    return add


def world(**caps: Any) -> World:
    """A world of the reference with the root alone. What `caps` does not say is 1, or false."""
    known: dict[str, Any] = dict.fromkeys(Caps._fields, 1) | {"live": False, "notice": "queue", "seconds": {}} | caps
    return World(Caps(**known))


def refuses(check: Callable[..., None], *arguments: Any) -> bool:
    try:
        check(*arguments)
    except Unchanged:
        return True
    return False


def agent(number: int, status: TurnState = TurnState.NEW, residency: Residency = Residency.RESIDENT) -> Agent:
    return Agent(number, 0, f"/root/{number}", 1, None, status=status, residency=residency)


def add(to: World, number: int, status: TurnState = TurnState.NEW, residency: Residency = Residency.RESIDENT) -> None:
    to.path[number], to.parent[number], to.turn[number] = f"/root/{number}", ROOT, 1
    to.phase[number], to.place[number] = PHASES[status], PLACES[residency]
    to.used[number], to.loads[number], to.attempts[number], to.load[number] = number, 0, 0, 1


# Slots and the queue


def reference_due(overtaken: int, most: int) -> bool:
    w = world(max_overtaken=most)
    add(w, 1, TurnState.QUEUED)
    w.since[1], w.passed[1] = 1, overtaken
    return w.oldest_due() == [1]


@wording("L11", reference_due, rules, "is_due", lambda overtaken, most: overtaken > most, "one too late")
def core_turn_is_due(overtaken: int, most: int) -> bool:
    slots = Slots(1)
    slots.enqueue(1, 1)
    slots.overtaken = overtaken
    return slots.is_due(most)


def reference_available(cap: int, spare: int, waiting: tuple[bool, bool], lent: bool) -> int:
    w = world(slots=2 + cap * cap, resident=2 + cap * cap + 1 + spare * spare)
    for number, has_wait in zip((1, 2), waiting, strict=True):
        add(w, number, TurnState.RUNNING)
        w.since[number] = number
        if has_wait:
            w.waits[number] = Wait(number, (), (), True, False)
    if lent:
        add(w, 3, TurnState.WAITING)
        w.lent = {3}
    return w.available()


@wording("S16", reference_available, turns, "available", lambda s: s.slots.free + len(s.waits.lenders), "all may lend")
def core_available_slots(cap: int, spare: int, waiting: tuple[bool, bool], lent: bool) -> int:
    slots = Slots(2 + cap * cap)
    slots.held, slots.lent = 2, {3: None} if lent else {}
    lenders = {number: None for number, has_wait in zip((1, 2), waiting, strict=True) if has_wait}
    config = SimpleNamespace(max_resident=slots.cap + 1 + spare * spare)
    s: Any = SimpleNamespace(slots=slots, waits=SimpleNamespace(lenders=lenders), config=config)
    return turns.available(s)


def reference_full(most: int, queues: tuple[bool, bool], holds: bool) -> bool:
    w = world(slots=1, resident=1, max_queued=most)
    for number, is_queued in zip((1, 2), queues, strict=True):
        if is_queued:
            add(w, number, TurnState.QUEUED)
            w.since[number] = number
    if holds:
        add(w, 3, TurnState.RUNNING)
    return w.is_queue_full()


@wording("L1", reference_full, rules, "queue_has_room", lambda queued, free, most: queued < most, "whatever is free")
def core_queue_is_full(most: int, queues: tuple[bool, bool], holds: bool) -> bool:
    return not rules.queue_has_room(sum(queues), 1 - holds, most)


def reference_needs_room(is_root: bool, is_live: bool, status: TurnState) -> bool:
    w, number = world(live=is_live), ROOT if is_root else 1
    w.phase[number] = PHASES[status]
    return w.would_queue(number)


@wording("L1", reference_needs_room, rules, "may_wake", lambda number, *_: number == ROOT, "whatever it does")
def core_turn_would_queue(is_root: bool, is_live: bool, status: TurnState) -> bool:
    return not rules.may_wake(ROOT if is_root else 1, status, is_live, False, 1, 0, 1, 1)


# Memory


def reference_evictable(status: TurnState, residency: Residency) -> bool:
    w = world()
    add(w, 1, status, residency)
    return w.evictable() == [1]


@wording(
    "N1",
    reference_evictable,
    rules,
    "is_evictable",
    lambda a, n, where, status: where == 2 and status < 4,
    "queued: not",
)
def core_agent_is_evictable(status: TurnState, residency: Residency) -> bool:
    return rules.is_evictable(1, False, residency, status)


def reference_victim(tried: tuple[bool, bool], triggers: tuple[bool, bool]) -> int | None:
    w = world(resident=2)
    for number in (1, 2):
        add(w, number)
        if triggers[number - 1]:
            w.mail[number] = Letter(number, HOST, number, "trigger")
    add(w, 3, TurnState.STARTING, Residency.UNLOADED)
    w.tried = [((3, 1), number) for number in (1, 2) if tried[number - 1]]
    w.make_room((3, 1))
    return next(iter(w.serves), None)


@wording("S15", reference_victim, rules, "victim", lambda candidates, tried: next(iter(candidates))[0], "the first")
def core_victim(tried: tuple[bool, bool], triggers: tuple[bool, bool]) -> int | None:
    were_tried = [number for number in (1, 2) if tried[number - 1]]
    return rules.victim(zip((1, 2), triggers, strict=True), were_tried)


def reference_keeps(mine: int, other: int, serves_one: bool) -> bool:
    w = world(resident=1)
    add(w, 1, TurnState.STARTING, Residency.UNLOADING)
    add(w, 2, TurnState.STARTING, Residency.UNLOADED)
    w.since, w.flush = {1: mine, 2: other}, {1: 1}
    w.serves = {1: (2, 1)} if serves_one else {}
    w.waits = {}
    if not serves_one:
        w.phase[2] = "queued"
    w.advance()
    return w.place[1] == "in"


@wording("J6", reference_keeps, Residents, "leaves_for_an_older", lambda self, a: False, "J6 of the first edition")
def core_eviction_is_undone(mine: int, other: int, serves_one: bool) -> bool:
    residents = Residents(1)
    residents.starting = {1: mine, 2: other}
    residents.serve(1, 2 if serves_one else NO_AGENT)
    return not residents.leaves_for_an_older(1)


# Turns and waits


def reference_cut_off(status: TurnState, failed: int, most: int) -> bool:
    w = world(max_attempts=most)
    add(w, 1, status)
    w.attempts[1] = failed
    return w.cut_off(1, "errored") == "new"


@wording("S17", reference_cut_off, rules, "has_attempts_left", lambda failed, most: failed < most, "one too many")
def core_turn_is_tried_again(status: TurnState, failed: int, most: int) -> bool:
    return status in WORKING and rules.has_attempts_left(failed, most)


def reference_end(every: bool, answered: tuple[bool, bool], mail: bool, has_mail: bool) -> str | None:
    w = world()
    requests = (5, 6)
    for number in requests:
        if not answered[number - 5]:
            w.mail[number] = Letter(number, 1, 2, "request")
    if has_mail:
        w.mail[7] = Letter(7, HOST, 1, "queue")
    return w.why_over(Wait(1, (), requests, every, mail))


@wording("L4", reference_end, rules, "is_answered", lambda mode, asked, missing: asked > missing, "ALL: one is enough")
def core_end_of_a_wait(every: bool, answered: tuple[bool, bool], mail: bool, has_mail: bool) -> str | None:
    requests = (5, 6)
    missing = len([number for number in requests if not answered[number - 5]])
    known = agent(1)
    known.mailbox = (MailAccepted(7, HOST, 1, MailKind.QUEUE, ""),) if has_mail else ()
    s: Any = SimpleNamespace(agents=[agent(0), known], waits=SimpleNamespace(missing={1: missing}))
    mode = WaitMode.ALL if every else WaitMode.ANY
    why: WaitEnd | None = turns.wait_end(s, Waiting(1, 1, mail, (), requests, mode, True))
    return None if why is None else why.name.lower()


def reference_way_out(every: bool, answered: tuple[bool, bool], stuck: tuple[bool, bool]) -> bool:
    w = world()
    for number in (5, 6):
        if not answered[number - 5]:
            w.mail[number] = Letter(number, 3, number - 4, "request")
    asked = Wait(3, (), (5, 6), every, False)
    return not w.asked(asked) or not w.is_vain(asked, {number for number in (1, 2) if stuck[number - 1]})


# With all of them answered the wait is over before it is asked for a way out.
@wording("L10", reference_way_out, waits, "has_way_out", lambda wait, asked, stuck: True, "always")
def core_wait_has_a_way_out(every: bool, answered: tuple[bool, bool], stuck: tuple[bool, bool]) -> bool:
    asked = {number: number - 4 for number in (5, 6) if not answered[number - 5]}
    wait = Waiting(1, 3, False, (), (5, 6), WaitMode.ALL if every else WaitMode.ANY, False)
    return not asked or waits.has_way_out(wait, asked, {number for number in (1, 2) if stuck[number - 1]})


# Checks


def reference_mailbox(unread: tuple[bool, bool], most: int, is_trigger: bool) -> bool:
    w = world(max_unread=most)
    add(w, 1)
    for number in (1, 2):
        if unread[number - 1]:
            w.mail[number] = Letter(number, HOST, 1, "queue")
    w.mail[3] = Letter(3, 1, 2, "request")
    return not refuses(w.check_mailbox, 1, 0 if is_trigger else 1)


@wording(
    "S5", reference_mailbox, rules, "mailbox_has_room", lambda unread, _, most, kind: unread < most, "D7, D16 left out"
)
def core_mailbox_has_room(unread: tuple[bool, bool], most: int, is_trigger: bool) -> bool:
    return rules.mailbox_has_room(sum(unread), 1, most, MailKind.TRIGGER if is_trigger else MailKind.QUEUE)


def reference_message(code: int, count: int, most: int) -> bool:
    return refuses(world(max_bytes=most).check_text, text_of(code, count))


def text_of(code: int, count: int) -> str:
    letters = ("a", "\u00e4", "\u20ac", "\U0001f600")
    return letters[code % 4] * (count % 3)


@wording("S12", reference_message, rules, "message_size", lambda text, most: None, "of any size")
def core_message_is_refused(code: int, count: int, most: int) -> bool:
    return rules.message_size(text_of(code, count), most) is not None


def reference_takes_work(state: SessionState) -> str:
    w = world()
    w.state = STATES[state]
    try:
        w.check_caller(HOST, "open")
    except Unchanged as refused:
        return str(refused.args[1])
    return ""


@wording("S12", reference_takes_work, operations, "session_takes_work", lambda s: None, "in any state")
def core_session_takes_work(state: SessionState) -> str:
    s: Any = SimpleNamespace(state=state, error="")
    refusal = operations.session_takes_work(s)
    return "" if refusal is None else type(refusal).__name__


def reference_open(number: int, is_closed: bool) -> str:
    w = world()
    add(w, 1)
    if is_closed:
        w.closed_by[1] = 1
    try:
        w.check_open(number)
    except Unchanged as refused:
        return str(refused.args[1])
    return ""


@wording("S12", reference_open, operations, "agent_open", lambda s, number: None, "whatever it is")
def core_agent_is_open(number: int, is_closed: bool) -> str:
    known = [agent(0), agent(1)]
    known[1].identity = Identity.CLOSED if is_closed else Identity.OPEN
    s: Any = SimpleNamespace(agents=known)
    refusal = operations.agent_open(s, number)
    return "" if refusal is None else type(refusal).__name__
