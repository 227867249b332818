"""Contracts on residency slots, victims, and turns that wait for room: S2, S4, S6, S15, J4, J5, J6, N1 to N3."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from statemachine.core import rules
from statemachine.core.agents import Agent
from statemachine.core.machines import Residency, TurnState
from statemachine.core.residency import NO_AGENT, Residents

from .contract import contract

FOUR = (1, 2, 3, 4)
UNLOADED, LOADING = Residency.UNLOADED, Residency.LOADING
RESIDENT, UNLOADING = Residency.RESIDENT, Residency.UNLOADING
Flags = tuple[bool, bool, bool, bool]


def one(residency: Residency, generation: int = 1) -> Agent:
    return Agent(1, 0, "/root/a", 1, None, residency=residency, generation=generation)


def occupied(count: int, most: int) -> Residents:
    residents = Residents(most)
    residents.occupied = count
    return residents


def leaving(agent: Agent, count: int, serves: int, last_flush: int = 0) -> Residents:
    """Residents among which this agent, which is in memory, was just asked to leave."""
    residents = occupied(count, count)
    residents.idle[agent.id] = None
    residents.last_flush = last_flush
    residents.evict(agent, serves)
    return residents


def is_counted(count: int, **_: Any) -> bool:
    return count >= 1


def tried_and_left(was_tried: Flags) -> tuple[tuple[int, ...], list[int]]:
    tried = tuple([agent for agent, is_so in zip(FOUR, was_tried, strict=True) if is_so])
    return tried, [agent for agent in FOUR if agent not in tried]


# The victim


@contract(
    "S2",
    rules,
    "residency_slot_is_free",
    lambda count, most: count <= most,
    "one too many",
    lambda count, most: 0 <= count <= most,
)
def residency_slot_is_free_until_the_cap_is_reached(count: int, most: int) -> bool:
    return count + 1 <= most if rules.residency_slot_is_free(count, most) else count == most


@contract("N1", rules, "is_evictable", lambda agent, never, where, status: status < TurnState.QUEUED, "queued: not")
def evictable_is_what_is_resident_and_has_no_turn_that_began(
    is_root: bool, never: bool, residency: Residency, status: TurnState
) -> bool:
    at_rest = status.is_idle or status == TurnState.QUEUED
    expected = at_rest and residency == RESIDENT and not is_root and not never
    return rules.is_evictable(0 if is_root else 1, never, residency, status) == expected


@contract("S6", rules, "is_evictable", lambda agent, never, where, status: agent != 0 and status < 5, "wherever it is")
def what_is_in_transit_is_not_evictable(residency: Residency, status: TurnState) -> bool:
    return residency == RESIDENT or not rules.is_evictable(1, False, residency, status)


@contract("S15", rules, "victim", lambda candidates, tried: min(a for a, _ in candidates), "the least recently used")
def victim_is_the_first_without_trigger_mail_or_else_the_first(was_tried: Flags, triggers: Flags) -> bool:
    tried, left = tried_and_left(was_tried)
    quiet = [agent for agent in left if not triggers[agent - 1]]
    chosen = rules.victim(zip(FOUR, triggers, strict=True), tried)
    return chosen == (quiet[0] if quiet else left[0] if left else None)


@contract("N3", rules, "victim", lambda candidates, tried: next((a for a, t in candidates if not t), None), "tried too")
def victim_was_not_tried_for_this_turn(was_tried: Flags, triggers: Flags) -> bool:
    tried, left = tried_and_left(was_tried)
    chosen = rules.victim(zip(FOUR, triggers, strict=True), tried)
    return chosen is None if not left else chosen in left


@contract("N2", Residents, "victim", lambda self, agents, tried: next(iter(self.idle)), "mail: not")
def victim_is_chosen_by_the_count_of_trigger_mail(first: int, second: int) -> bool:
    residents = Residents(2)
    agents = [Agent(n, 0, "/root/a", 1, None, triggers=count) for n, count in ((0, 0), (1, first), (2, second))]
    for agent in agents[1:]:
        residents.used(agent)
    return residents.victim(agents, ()) == (2 if first > 0 and second <= 0 else 1)


# Moves


def load_twice(self: Residents, agent: Agent) -> None:
    agent.residency = LOADING
    self.occupied += 1


@contract(
    "S4", Residents, "load", load_twice, "its generation stays", lambda count, most, generation: 0 <= count < most
)
def load_takes_a_slot_for_a_new_generation(count: int, most: int, generation: int) -> bool:
    residents, agent = occupied(count, most), one(UNLOADED, generation)
    residents.load(agent)
    is_new = agent.generation == generation + 1 and agent.residency == LOADING
    return is_new and residents.occupied == count + 1 and list(residents.loading) == [1]


@contract("S2", Residents, "load", load_twice, "without room too", lambda count, most: 0 <= most <= count)
def nothing_is_loaded_without_room(count: int, most: int) -> bool:
    residents, agent = occupied(count, most), one(UNLOADED)
    try:
        residents.load(agent)
    except AssertionError:
        return residents.occupied == count and agent.residency == UNLOADED
    return False


@contract("S2", Residents, "loaded", Residents.load_failed, "as if it had failed", is_counted)
def loaded_agent_keeps_its_slot(count: int, is_starting: bool) -> bool:
    residents, agent = occupied(count, count), one(LOADING)
    residents.loading[1] = None
    if is_starting:
        residents.starting[1] = 1
    residents.loaded(agent)
    is_there = agent.residency == RESIDENT and residents.occupied == count and not residents.loading
    return is_there and (1 in residents.unsettled) == is_starting


@contract("S2", Residents, "load_failed", Residents.loaded, "as if it had not", is_counted)
def failed_load_gives_its_slot_back(count: int) -> bool:
    residents, agent = occupied(count, count), one(LOADING)
    residents.loading[1] = None
    residents.load_failed(agent)
    return agent.residency == UNLOADED and residents.occupied == count - 1 and not residents.loading


def flush_again(self: Residents, agent: Agent) -> int:
    self.flushes[agent.id] = self.last_flush
    return self.last_flush


@contract("S9", Residents, "flush", flush_again, "the number of the flush before", is_counted)
def eviction_has_a_flush_of_its_own_and_keeps_the_slot(count: int, last: int) -> bool:
    agent = one(RESIDENT)
    residents = leaving(agent, count, 2, last)
    is_leaving = agent.residency == UNLOADING and residents.occupied == count and not residents.idle
    return is_leaving and residents.flushes == {1: last + 1} and residents.last_flush == last + 1


def keep_for(self: Residents, agent: Agent) -> int:
    agent.residency = RESIDENT
    del self.flushes[agent.id]
    return self.serves.pop(agent.id)


@contract("J6", Residents, "keep", keep_for, "the other one goes on waiting for it", is_counted)
def kept_agent_makes_room_for_none(count: int, serves_one: bool) -> bool:
    agent, served = one(RESIDENT), 2 if serves_one else NO_AGENT
    residents = leaving(agent, count, served)
    told = residents.keep(agent)
    at_rest = agent.residency == RESIDENT and residents.occupied == count
    return at_rest and told == served and not (residents.flushes or residents.serves or residents.room_for)


def gone_in_count(self: Residents, agent: Agent) -> None:
    agent.residency = UNLOADED
    del self.flushes[agent.id]
    self.serve_no_more(agent.id)


@contract("S2", Residents, "gone", gone_in_count, "its slot stays taken", is_counted)
def agent_that_is_gone_gives_its_slot_back(count: int, serves_one: bool) -> bool:
    agent = one(RESIDENT)
    residents = leaving(agent, count, 2 if serves_one else NO_AGENT)
    residents.gone(agent)
    is_gone = agent.residency == UNLOADED and residents.occupied == count - 1
    return is_gone and not (residents.flushes or residents.serves or residents.room_for)


def died_leaving(self: Residents, agent: Agent) -> None:
    agent.residency = UNLOADED
    self.loading.pop(agent.id, None)
    self.idle.pop(agent.id, None)
    self.occupied -= 1


@contract(
    "S4",
    Residents,
    "died",
    died_leaving,
    "its flush goes on",
    lambda count, residency: count >= 1 and residency != UNLOADED,
)
def dead_thread_holds_nothing(count: int, residency: Residency) -> bool:
    agent = one(RESIDENT)
    residents = occupied(count, count)
    if residency == UNLOADING:
        residents = leaving(agent, count, 2)
    elif residency == LOADING:
        agent.residency = LOADING
        residents.loading[1] = None
    else:
        residents.used(agent)
    residents.died(agent)
    rooms = (residents.loading, residents.flushes, residents.idle, residents.serves, residents.room_for)
    return agent.residency == UNLOADED and residents.occupied == count - 1 and not any(rooms)


# Order


@contract("N2", Residents, "used", lambda self, agent: self.idle.setdefault(agent.id), "its place stays")
def used_agent_is_the_last_to_be_evicted(is_first: bool, is_new: bool) -> bool:
    residents = Residents(3)
    for number in (1, 2):
        residents.used(Agent(number, 0, "/root/a", 1, None))
    used = 3 if is_new else 1 if is_first else 2
    residents.used(Agent(used, 0, "/root/a", 1, None))
    return list(residents.idle) == [*[number for number in (1, 2) if number != used], used]


def starts_with_another(self: Residents, agent: int) -> None:
    self.starting[agent] = self.last_ticket
    self.unsettled[agent] = None


@contract("J5", Residents, "starts", starts_with_another, "with the ticket of another")
def turn_with_a_slot_starts_behind_all_others_and_is_not_evictable(last: int, at_once: bool) -> bool:
    residents = occupied(1, 1)
    residents.starting[2], residents.last_ticket, residents.idle[1] = last, last, None
    residents.taken(1)
    if not at_once:
        residents.starts(1)
    waits = {} if at_once else {1: last + 1}
    return not residents.idle and residents.starting == {2: last, **waits} and set(residents.unsettled) == set(waits)


@contract("J6", Residents, "leaves_for_an_older", lambda self, agent: False, "J6 of the first edition: always kept")
def eviction_goes_on_for_a_turn_that_has_been_starting_longer(mine: int, other: int, serves_one: bool) -> bool:
    residents = leaving(one(RESIDENT), 2, 2 if serves_one else NO_AGENT)
    residents.starting = {1: mine, 2: other}
    return residents.leaves_for_an_older(1) == (serves_one and other < mine)


@contract("J5", Residents, "in_order", lambda self: list(self.unsettled), "in any order")
def turns_start_in_the_order_of_their_tickets(
    tickets: tuple[int, int, int], unsettled: tuple[bool, bool, bool]
) -> bool:
    residents = Residents(3)
    residents.starting = dict(zip((1, 2, 3), tickets, strict=True))
    residents.unsettled = {agent: None for agent in (1, 2, 3) if unsettled[agent - 1]}
    line = residents.in_order()
    return set(line) == set(residents.unsettled) and all(tickets[a - 1] <= tickets[b - 1] for a, b in pairwise(line))


# Room


@contract("J5", Residents, "room_is_coming", lambda self, agent: agent in self.room_for, "D11 is left out", is_counted)
def eviction_that_serves_none_serves_the_next_turn(count: int, serves_one: bool, serves_me: bool) -> bool:
    served = (3 if serves_me else 2) if serves_one else NO_AGENT
    residents = leaving(one(RESIDENT), count, served)
    is_coming = residents.room_is_coming(3)
    if served == 2:
        return not is_coming and residents.serves == {1: 2} and residents.room_for == {2: 1}
    return is_coming and residents.serves == {1: 3} and residents.room_for == {3: 1}


@contract("J5", Residents, "is_in_transit", lambda self, holders: bool(self.serves or self.loading), "its own too")
def only_what_is_on_its_way_without_a_turn_is_in_transit(
    leaves: bool, loads: tuple[bool, bool], holds: tuple[bool, bool]
) -> bool:
    residents = Residents(3)
    if leaves:
        residents.serve(3, NO_AGENT)
    residents.loading = {agent: None for agent in (1, 2) if loads[agent - 1]}
    holders = {agent for agent in (1, 2) if holds[agent - 1]}
    loose = [agent for agent in residents.loading if agent not in holders]
    return residents.is_in_transit(holders) == (leaves or len(loose) > 0)


@contract("J5", Residents, "stop_waiting", lambda self, agent: self.tried.pop(agent, None), "it is served still")
def turn_that_waits_for_room_no_more_leaves_its_eviction_to_others(count: int, serves_me: bool) -> bool:
    residents = leaving(one(RESIDENT), count, 2 if serves_me else 3)
    residents.tried[2] = (4,)
    residents.stop_waiting(2)
    return residents.serves == {1: NO_AGENT if serves_me else 3} and 2 not in residents.tried | residents.room_for
