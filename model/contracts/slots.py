"""Contracts on execution slots and the ready queue: S1, S3, S13, S16, J2, J7, L11."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from statemachine.core import rules, turns
from statemachine.core.events import ROOT
from statemachine.core.machines import SlotState
from statemachine.core.slots import Slots

from .contract import contract

THREE = (1, 2, 3)
RESERVED, ACTIVE = SlotState.RESERVED, SlotState.ACTIVE


def held_by(agent: int, cap: int, others: int, turn: int, state: SlotState = RESERVED) -> Slots:
    """Slots of which `others` are held by agents that are not looked at, and one by this agent."""
    slots = Slots(cap)
    slots.held = others + (agent != ROOT)
    slots.holders[agent] = (turn, state)
    return slots


def line(deep: tuple[bool, bool, bool], overtaken: int) -> Slots:
    """The agents 1 to 3 in the ready queue, in this order, each at the depth 1 or, if it is deep, 2."""
    slots = Slots(1)
    for agent, is_deep in zip(THREE, deep, strict=True):
        slots.enqueue(agent, 2 if is_deep else 1)
    slots.overtaken = overtaken
    return slots


def is_within(held: int, cap: int, **_: Any) -> bool:
    return 0 <= held < cap


# Caps


@contract(
    "S1", rules, "slot_is_free", lambda held, cap: held <= cap, "one too many", lambda held, cap: 0 <= held <= cap
)
def slot_is_free_until_the_cap_is_reached(held: int, cap: int) -> bool:
    return held + 1 <= cap if rules.slot_is_free(held, cap) else held == cap


@contract("S13", rules, "is_counted", lambda _: True, "the root too")
def every_agent_but_the_root_is_counted(agent: int) -> bool:
    return rules.is_counted(agent) != (agent == ROOT)


@contract(
    "S16",
    rules,
    "may_lend_to_queue",
    lambda lent, max_resident, cap: lent <= max_resident - cap,
    "one too many",
    lambda lent, max_resident, cap: 0 <= lent <= max_resident - cap and cap >= 0,
)
def lending_leaves_the_cap_of_residency_slots_to_others(lent: int, max_resident: int, cap: int) -> bool:
    if rules.may_lend_to_queue(lent, max_resident, cap):
        return lent + 1 + cap <= max_resident
    return lent + cap == max_resident


@contract(
    "L1",
    rules,
    "queue_has_room",
    lambda queued, _, max_queued: queued < max_queued,
    "slots that are free do not count",
    lambda queued, free, max_queued: queued >= 0 and free >= 0 and max_queued >= 1,
)
def queue_has_room_if_what_no_slot_awaits_fits(queued: int, free: int, max_queued: int) -> bool:
    left = queued + 1 - free
    return rules.queue_has_room(queued, free, max_queued) == (left <= max_queued)


@contract(
    "S16",
    turns,
    "available",
    lambda s: s.slots.free + len(s.waits.lenders),
    "all that wait may lend",
    lambda cap, held, spare, **_: cap >= held >= 0 and spare >= 0,
)
def available_slots_are_the_free_ones_and_those_that_may_be_lent(
    cap: int, held: int, spare: int, waiting: tuple[bool, bool], lent: tuple[bool, bool]
) -> bool:
    slots = Slots(cap)
    slots.held = held
    slots.lent = {agent: None for agent, is_so in zip((3, 4), lent, strict=True) if is_so}
    lenders = {agent: None for agent, is_so in zip((1, 2), waiting, strict=True) if is_so}
    s: Any = SimpleNamespace(
        slots=slots, waits=SimpleNamespace(lenders=lenders), config=SimpleNamespace(max_resident=cap + spare)
    )
    more = turns.available(s) - (cap - held)
    left = spare - len(slots.lent)
    return 0 <= more <= len(lenders) and (more <= left or more == 0) and (more == len(lenders) or more >= left)


# Who holds a slot


@contract("S3", Slots, "free", property(lambda self: self.cap), "held ones too")
def free_and_held_slots_are_the_cap(cap: int, held: int) -> bool:
    slots = Slots(cap)
    slots.held = held
    return slots.free + slots.held == cap


@contract(
    "S1",
    Slots,
    "reserve",
    lambda self, agent, turn: self.holders.update({agent: (turn, RESERVED)}),
    "the count stays",
    is_within,
)
def reserved_slot_counts_unless_it_is_the_roots(held: int, cap: int, turn: int, is_root: bool) -> bool:
    slots, agent = Slots(cap), ROOT if is_root else 1
    slots.held = held
    slots.reserve(agent, turn)
    return slots.holders == {agent: (turn, RESERVED)} and slots.held == held + (not is_root)


def reserve_unchecked(self: Slots, agent: int, turn: int) -> None:
    self.held += 1
    self.holders[agent] = (turn, RESERVED)


@contract("S1", Slots, "reserve", reserve_unchecked, "beyond the cap too", lambda held, cap: 0 <= cap <= held)
def no_slot_is_reserved_beyond_the_cap(held: int, cap: int) -> bool:
    slots = Slots(cap)
    slots.held = held
    try:
        slots.reserve(1, 1)
    except AssertionError:
        return slots.held == held and not slots.holders
    return False


@contract("S3", Slots, "activate", lambda self, agent, turn: None, "it stays reserved", is_within)
def active_slot_is_the_same_slot(held: int, cap: int, turn: int) -> bool:
    slots = held_by(1, cap, held, turn)
    slots.activate(1, turn)
    return slots.holders == {1: (turn, ACTIVE)} and slots.held == held + 1


def lend_twice(self: Slots, agent: int) -> None:
    del self.holders[agent]
    self.lent[agent] = None


@contract("S3", Slots, "lend", lend_twice, "the count stays", is_within)
def lent_slot_is_free(held: int, cap: int, turn: int) -> bool:
    slots = held_by(1, cap, held, turn, ACTIVE)
    slots.lend(1)
    return not slots.holders and slots.held == held and list(slots.lent) == [1]


def go_on_lent(self: Slots, agent: int, turn: int) -> None:
    self.held += 1
    self.holders[agent] = (turn, ACTIVE)


@contract("S3", Slots, "go_on", go_on_lent, "it counts as lent still", is_within)
def turn_that_goes_on_has_lent_nothing_any_more(held: int, cap: int, turn: int) -> bool:
    slots = held_by(1, cap, held, turn, ACTIVE)
    slots.lend(1)
    slots.go_on(1, turn)
    return slots.holders == {1: (turn, ACTIVE)} and slots.held == held + 1 and not slots.lent


@contract("S3", Slots, "pass_on", lambda self, agent, turn: self.holders.pop(agent), "it is given up", is_within)
def live_thread_keeps_its_slot_between_turns(held: int, cap: int, turn: int) -> bool:
    slots = held_by(1, cap, held, turn, ACTIVE)
    slots.pass_on(1, turn)
    return slots.holders == {1: (turn, RESERVED)} and slots.held == held + 1


@contract("S3", Slots, "use_again", lambda self, agent, turn: None, "it names the turn before", is_within)
def live_threads_slot_names_the_next_turn(held: int, cap: int, turn: int) -> bool:
    slots = held_by(1, cap, held, turn)
    slots.use_again(1, turn + 1)
    return slots.holders == {1: (turn + 1, RESERVED)} and slots.held == held + 1


@contract("S3", Slots, "release", lambda self, agent: self.holders.pop(agent), "the count stays", is_within)
def released_slot_is_free_unless_it_was_the_roots(held: int, cap: int, turn: int, is_root: bool) -> bool:
    agent = ROOT if is_root else 1
    slots = held_by(agent, cap, held, turn)
    slots.release(agent)
    return not slots.holders and slots.held == held


@contract("S12", Slots, "counted_holders", lambda self: tuple(self.holders), "in any order, the root too")
def blockers_are_the_sub_agents_that_hold_a_slot(holds: tuple[bool, bool, bool, bool]) -> bool:
    slots = Slots(3)
    for agent in (3, 0, 2, 1):
        if holds[agent]:
            slots.holders[agent] = (1, RESERVED)
    return slots.counted_holders() == tuple([agent for agent in THREE if holds[agent]])


# The ready queue


@contract("L11", rules, "is_due", lambda overtaken, most: overtaken > most, "one too late")
def turn_is_due_once_as_many_have_passed_it(overtaken: int, most: int) -> bool:
    return rules.is_due(overtaken, most) != (overtaken + 1 <= most)


@contract("L11", Slots, "is_due", lambda self, most: self.overtaken >= most, "in an empty queue too")
def no_turn_is_due_in_an_empty_queue(overtaken: int, most: int, is_empty: bool) -> bool:
    slots = Slots(1)
    slots.overtaken = overtaken
    if not is_empty:
        slots.enqueue(1, 1)
    return slots.is_due(most) == (not is_empty and overtaken >= most)


def overtake_always(self: Slots, _: int) -> None:
    self.overtaken += 1


@contract("L11", Slots, "overtake", overtake_always, "by the root and with an empty queue too")
def only_sub_agents_overtake_and_only_what_queues(overtaken: int, is_root: bool, is_empty: bool) -> bool:
    slots = Slots(1)
    slots.overtaken = overtaken
    if not is_empty:
        slots.enqueue(1, 1)
    slots.overtake(ROOT if is_root else 2)
    return slots.overtaken == overtaken + (not is_root and not is_empty)


@contract("J2", Slots, "first", lambda self, _: next(iter(self.ready)), "the oldest first")
def queue_serves_the_turn_that_is_due_or_else_the_deepest(
    deep: tuple[bool, bool, bool], overtaken: int, most: int
) -> bool:
    taken = line(deep, overtaken).take(most)
    deepest = [agent for agent, is_deep in zip(THREE, deep, strict=True) if is_deep] or [1]
    return taken == (1 if overtaken >= most else deepest[0])


def take_uncounted(self: Slots, most: int) -> int:
    agent = self.first(most) if self.by_depth else next(iter(self.ready))
    self.dequeue(agent)
    return agent


@contract("L11", Slots, "take", take_uncounted, "nothing is counted", lambda deep, overtaken, most: overtaken >= 0)
def queue_counts_who_passes_the_oldest_and_begins_anew_behind_it(
    deep: tuple[bool, bool, bool], overtaken: int, most: int
) -> bool:
    slots = line(deep, overtaken)
    taken = slots.take(most)
    return slots.overtaken == (0 if taken == 1 else overtaken + 1)


@contract(
    "L11",
    rules,
    "is_due",
    lambda overtaken, most: overtaken == most + 1,
    "one too late",
    lambda deep, overtaken, most: 0 <= overtaken <= most,
)
def no_turn_of_the_queue_is_overtaken_more_often_than_allowed(
    deep: tuple[bool, bool, bool], overtaken: int, most: int
) -> bool:
    slots = line(deep, overtaken)
    slots.take(most)
    return 0 <= slots.overtaken <= most


@contract("J2", Slots, "take", lambda self, _: next(iter(self.ready)), "it stays in the queue")
def queue_serves_each_turn_once_and_is_empty_then(deep: tuple[bool, bool, bool], overtaken: int, most: int) -> bool:
    slots = line(deep, overtaken)
    served = {slots.take(most), slots.take(most), slots.take(most)}
    return served == {*THREE} and not slots.ready and not slots.by_depth


def dequeue_first(self: Slots, agent: int) -> bool:
    self.ready.popitem(last=False)
    return True


@contract("S4", Slots, "dequeue", dequeue_first, "another one leaves")
def turn_that_leaves_the_queue_changes_no_order(deep: tuple[bool, bool, bool], leaves: tuple[bool, bool]) -> bool:
    slots = line(deep, 1)
    agent = 1 if leaves[0] else 2 if leaves[1] else 3
    was_oldest = slots.dequeue(agent)
    left = [other for other in THREE if other != agent]
    if list(slots.ready) != left or was_oldest != (agent == 1) or slots.overtaken != (0 if was_oldest else 1):
        return False
    deepest = [other for other in left if deep[other - 1]] or left
    return slots.take(2) == deepest[0]
