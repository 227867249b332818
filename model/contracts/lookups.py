"""Contracts on the look-ups that the core takes from its tables, and on deadlines: section 3, S8, S14, L5."""

from __future__ import annotations

from statemachine.core import joint, ledger, operations, residency, slots, turns
from statemachine.core.deadlines import Bound, Deadlines, Key
from statemachine.core.machines import (
    MAIL,
    RESIDENCY,
    SESSION,
    SLOT,
    TURN,
    Identity,
    MailState,
    Residency,
    SessionState,
    SlotState,
    TurnState,
)

from .contract import contract

IDLE = (TurnState.NEW, TurnState.COMPLETED, TurnState.ERRORED, TurnState.INTERRUPTED)
WORKING = (TurnState.RUNNING, TurnState.WAITING, TurnState.RETURNING)
UNBEGUN = (TurnState.QUEUED, TurnState.STARTING)
STARTED = (*WORKING, TurnState.STOPPING)


@contract("J1", turns, "REQUEST", TURN.moves("admit"), "the look-up of another trigger")
def only_an_idle_agent_asks_for_a_turn(status: TurnState) -> bool:
    return turns.REQUEST.get(status) == (TurnState.QUEUED if status in IDLE else None)


@contract("S14", turns, "START", TURN.moves("admit"), "the look-up of another trigger")
def only_a_starting_turn_starts(status: TurnState) -> bool:
    return turns.START.get(status) == (TurnState.RUNNING if status == TurnState.STARTING else None)


@contract("S8", turns, "FINISH", TURN.moves("fail"), "the look-up of another trigger")
def only_a_turn_that_has_started_finishes_or_fails(status: TurnState) -> bool:
    ends = (TurnState.COMPLETED, TurnState.ERRORED) if status in STARTED else (None, None)
    return (turns.FINISH.get(status), turns.FAIL.get(status)) == ends


@contract("S10", turns, "STOP", TURN.moves("abort"), "the look-up of another trigger")
def only_a_turn_that_works_is_stopped(status: TurnState) -> bool:
    return turns.STOP.get(status) == (TurnState.STOPPING if status in WORKING else None)


@contract("S10", turns, "ABORT", TURN.moves("stop"), "the look-up of another trigger")
def turn_that_works_is_stopped_before_it_is_interrupted(status: TurnState) -> bool:
    ends_so = status in (*UNBEGUN, TurnState.STOPPING)
    return turns.ABORT.get(status) == (TurnState.INTERRUPTED if ends_so else None)


@contract("L12", turns, "GO_ON", TURN.moves("start"), "the look-up of another trigger")
def turn_that_waits_is_called_back_before_it_goes_on(status: TurnState) -> bool:
    called = turns.CALL_BACK.get(status) == (TurnState.RETURNING if status == TurnState.WAITING else None)
    return called and turns.GO_ON.get(status) == (TurnState.RUNNING if status == TurnState.RETURNING else None)


@contract("S17", ledger, "RETURN_TURN", TURN.moves("stop"), "the look-up of another trigger")
def only_a_turn_that_works_is_returned(status: TurnState) -> bool:
    return ledger.RETURN_TURN.get(status) == (TurnState.NEW if status in WORKING else None)


@contract("S4", turns, "NEXT", TURN.moves("request"), "the look-up of another trigger")
def next_turn_begins_where_one_has_ended(status: TurnState) -> bool:
    return turns.NEXT.get(status) == (TurnState.STARTING if status in IDLE[1:] else None)


@contract("S6", residency, "EVICT", RESIDENCY.moves("died"), "the look-up of another trigger")
def only_a_resident_is_evicted(where: Residency) -> bool:
    return residency.EVICT.get(where) == (Residency.UNLOADING if where == Residency.RESIDENT else None)


@contract("S2", residency, "DIED", RESIDENCY.moves("gone"), "the look-up of another trigger")
def whatever_occupies_a_residency_slot_may_die(where: Residency) -> bool:
    return residency.DIED.get(where) == (None if where == Residency.UNLOADED else Residency.UNLOADED)


@contract("N3", residency, "GONE", RESIDENCY.moves("died"), "the look-up of another trigger")
def agent_on_its_way_out_is_gone_or_kept(where: Residency) -> bool:
    is_leaving = where == Residency.UNLOADING
    ends = (Residency.UNLOADED, Residency.RESIDENT) if is_leaving else (None, None)
    return (residency.GONE.get(where), residency.KEEP.get(where)) == ends


@contract("S3", slots, "RELEASE", SLOT.moves("lend"), "the look-up of another trigger")
def every_held_slot_may_be_released_and_an_active_one_lent(state: SlotState) -> bool:
    free = SlotState.FREE
    released = slots.RELEASE.get(state) == (None if state == free else free)
    return released and slots.LEND.get(state) == (free if state == SlotState.ACTIVE else None)


@contract("S5", ledger, "READ", MAIL.moves("bury"), "the look-up of another trigger")
def unread_mail_alone_is_read_or_buried(state: MailState) -> bool:
    ends = (MailState.READ, MailState.DEAD) if state == MailState.ACCEPTED else (None, None)
    return (ledger.READ.get(state), ledger.BURY.get(state)) == ends


@contract("S5", ledger, "RETURN", MAIL.moves("demote"), "the look-up of another trigger")
def mail_that_was_read_is_returned_and_a_dead_letter_is_not(state: MailState) -> bool:
    return ledger.RETURN.get(state) == (MailState.ACCEPTED if state == MailState.READ else None)


@contract("S7", ledger, "FORGET", ledger.RESUME, "the look-up of another trigger")
def only_a_closed_agent_is_resumed_or_forgotten(identity: Identity) -> bool:
    ends = (Identity.OPEN, Identity.FORGOTTEN) if identity == Identity.CLOSED else (None, None)
    return (ledger.RESUME.get(identity), ledger.FORGET.get(identity)) == ends


@contract("S10", joint, "DRAINED", SESSION.moves("fail"), "the look-up of another trigger")
def session_drains_before_it_is_closed(state: SessionState) -> bool:
    drains = operations.SHUTDOWN.get(state) == (SessionState.DRAINING if state == SessionState.OPEN else None)
    return drains and joint.DRAINED.get(state) == (SessionState.CLOSED if state == SessionState.DRAINING else None)


# Deadlines


def pop_any(self: Deadlines, now: float, last: int) -> Key | None:
    return next(iter(self.pending), None)


@contract("L5", Deadlines, "pop_due", pop_any, "whether it is due or not")
def what_is_due_first_ends_first_and_nothing_before_it_is_due(load: int, stop: int, now: int) -> bool:
    known = Deadlines()
    known.set(Bound.LOAD, 1, load)
    known.set(Bound.STOP, 2, stop)
    due = [(at, key) for at, key in ((load, (Bound.LOAD, 1)), (stop, (Bound.STOP, 2))) if at <= now]
    first = min(due, key=lambda one: one[0])[1] if due else None
    return known.pop_due(now, known.tickets) == first


def pop_void(self: Deadlines, now: float, last: int) -> Key | None:
    return self.heap.pop(0)[2] if self.heap and self.heap[0][0] <= now else None


@contract("L5", Deadlines, "pop_due", pop_void, "what was cleared or moved, too")
def what_was_cleared_is_not_due_and_what_was_moved_is_due_later(at: int, later: int, now: int, clears: bool) -> bool:
    known = Deadlines()
    known.set(Bound.FLUSH, 1, at)
    if clears:
        known.clear(Bound.FLUSH, 1)
    else:
        known.set(Bound.FLUSH, 1, later)
    expected = None if clears or now < later else (Bound.FLUSH, 1)
    return known.pop_due(now, known.tickets) == expected


@contract("L5", Deadlines, "pop_due", pop_void, "what begins meanwhile, too")
def what_begins_while_time_passes_ends_with_a_later_tick(at: int, now: int) -> bool:
    known = Deadlines()
    last = known.tickets
    known.set(Bound.FLUSH, 1, at)
    return known.pop_due(now, last) is None
