"""The rules that decide, one small pure function each, over numbers, enums and tuples (semantics.md sections 2 to 6).

The session asks these functions and does what they say, so a rule has one place where it can be read, checked, or
replaced by a defect to see what notices it (`model/breaks/hunt.py`). In which order turns are served is decided where
the lines stand: `joint.py`, `residency.py` and `slots.py`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from statemachine.core.effects import WaitEnd
from statemachine.core.events import ROOT, WaitMode
from statemachine.core.machines import Identity, Residency, TurnState
from statemachine.core.records import MailKind

NAME = re.compile(r"[a-z0-9_]{1,64}", re.ASCII)

TURN_COMPLETED, TURN_INTERRUPTED = TurnState.COMPLETED, TurnState.INTERRUPTED
STARTING, RUNNING, STOPPING = TurnState.STARTING, TurnState.RUNNING, TurnState.STOPPING
RESIDENT, OPEN, TRIGGER = Residency.RESIDENT, Identity.OPEN, MailKind.TRIGGER
ALL = WaitMode.ALL


def is_counted(agent: int) -> bool:
    """S13: every agent but the root counts against the caps."""
    return agent != ROOT


def slot_is_free(held: int, cap: int) -> bool:
    """S1: may one more sub-agent hold an execution slot?"""
    return held < cap


def residency_slot_is_free(occupied: int, max_resident: int) -> bool:
    """S2: may one more sub-agent be in memory, or on its way in or out?"""
    return occupied < max_resident


def queue_has_room(queued: int, free: int, max_queued: int) -> bool:
    """May one more turn wait? `free` slots are about to be given to the first of the `queued`."""
    return queued - free < max_queued


def mailbox_has_room(unread: int, promised: int, max_unread: int, kind: MailKind) -> bool:
    """May one more mail be accepted, so that every promised notice still finds room? (decision D7) The last place is
    for trigger mail, so that an idle agent whose mailbox is full of queue-only mail still gets to a turn (D16).
    """
    return unread + promised < (max_unread if kind is TRIGGER else max_unread - 1)


def wants_turn(identity: Identity, status: TurnState, unread_triggers: int) -> bool:
    """J1: an idle open agent has unread trigger mail."""
    return unread_triggers > 0 and status <= TURN_INTERRUPTED and identity is OPEN


def goes_on(held_slot: bool, may_begin: bool, is_wanted: bool) -> bool:
    """*next*: does the slot of a turn that ended pass to the agent's next turn, for which late trigger mail asks? Not
    if a returning turn, or a queued one that is due, wants it (L11, L12).
    """
    return held_slot and may_begin and not is_wanted


def is_due(overtaken: int, max_overtaken: int) -> bool:
    """J2: have so many others got a slot before the turn that has queued longest that it comes first now? (L11)"""
    return overtaken >= max_overtaken


def may_lend_to_queue(lent: int, max_resident: int, cap: int) -> bool:
    """J7: may one more turn be in memory without a slot, and leave `execution_cap` residency slots to others? (S16)"""
    return lent < max_resident - cap


def is_evictable(agent: int, never_evict: bool, residency: Residency, status: TurnState) -> bool:
    """N1: a sub-agent, `ACTIVE_TURNS`, resident, and without a turn that is starting, running, waiting, returning or
    stopping. Mail and outcomes do not matter.
    """
    return agent != ROOT and not never_evict and residency is RESIDENT and status < STARTING


def victim(candidates: Iterable[tuple[int, bool]], tried: Collection[int]) -> int | None:
    """N2: returns the agent to evict. `candidates` are the evictable agents, least recently used first, each with
    whether it has unread trigger mail; `tried` those whose flush failed for this turn (N3). None: every candidate was
    tried.
    """
    second_choice: int | None = None
    for agent, has_trigger in candidates:
        if agent in tried:
            continue
        if not has_trigger:
            return agent
        if second_choice is None:
            second_choice = agent
    return second_choice


def is_current(reported: int, current: int) -> bool:
    """S9: is a report about the current generation, turn or flush?"""
    return reported == current


def wait_end(has_answer: bool, has_mail: bool, has_target: bool) -> WaitEnd | None:
    """L4: the reason for which a wait is over now, if there is one."""
    if has_answer:
        return WaitEnd.ANSWERED
    if has_mail:
        return WaitEnd.MAIL
    return WaitEnd.TARGET if has_target else None


def is_answered(mode: WaitMode, requests: int, missing: int) -> bool:
    """Are enough of so many requests answered, if so many are not?"""
    return requests > 0 and (missing == 0 if mode is ALL else missing < requests)


def is_done(identity: Identity, status: TurnState) -> bool:
    """Is this target of a wait closed, or idle with an outcome?"""
    return identity is not OPEN or TURN_COMPLETED <= status <= TURN_INTERRUPTED


def is_stalled(waiting: int, held: int, by_choice: int, stopping: int) -> bool:
    """J8: a slot is wanted and none may be lent. Does every holder wait, none by its own choice alone, and does no turn
    stop without a slot?
    """
    return waiting == held and held > 0 and by_choice == 0 and stopping == 0


def has_attempts_left(failed: int, max_attempts: int) -> bool:
    """Is a turn that a crash or a death ended tried again, after so many failed attempts in a row? (S17)"""
    return failed + 1 < max_attempts


def may_load(lost: int, max_attempts: int) -> bool:
    """Is an agent loaded again after crashes cut off so many of its loads in a row? (BUG-B84)"""
    return lost < max(3, max_attempts)


def notice_is_due(status: TurnState, notify_interrupted: bool) -> bool:
    """Does a turn that ended so tell its requesters? (BUG-B40)"""
    return notify_interrupted or status is not TURN_INTERRUPTED


def may_wake(
    agent: int,
    status: TurnState,
    live_threads: bool,
    takes_work: bool,
    cap: int,
    queued: int,
    free: int,
    max_queued: int,
) -> bool:
    """May a notice be trigger mail? Not if the turn that it asks for would find no room in the ready queue (D8), now
    or, if the session takes no new work, when it is opened again; nor if sub-agents share no slot at all, as in a log
    that is opened again with `max_concurrent=1`.
    """
    needs_room = agent != ROOT and not live_threads and status <= TURN_INTERRUPTED
    return not needs_room or (takes_work and cap > 0 and queue_has_room(queued, free, max_queued))


def is_request(kind: MailKind, is_notice: bool) -> bool:
    """Is this mail a request, so that its sender is told when the turn that takes it ends? A notice is not (D6)."""
    return kind is TRIGGER and not is_notice


def name_is_valid(name: str) -> bool:
    """`[a-z0-9_]+`, at most 64, and not `root`."""
    return NAME.fullmatch(name) is not None and name != "root"


HEADERS_BYTES_MAX = 16 * 1024
"""UTF-8 bytes of the headers of a mail, as JSON text."""


def message_size(message: str, max_bytes: int) -> int | None:
    """The size in UTF-8 bytes if a message is empty or too large, else None."""
    if message and len(message) * 4 <= max_bytes:
        return None
    size = len(message.encode("utf-8", "surrogatepass"))
    return None if 1 <= size <= max_bytes else size
