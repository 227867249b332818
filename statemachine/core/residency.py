"""Residency slots: which agents are in memory, and which make room (S2, S6, S15; N1 to N3).

Evictable agents stand in one line, least recently used first. *Use* is: loaded, or a turn of it ended. An agent that
gets a slot leaves the line and comes back at its end, so the line is in order of use without a clock.

Turns that are starting are served in the order in which they got their slot. Those whose load is in flight have nothing
to do until it ends, so they stand aside: an event looks only at the others, and only if something has moved.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Container

from statemachine.core import rules
from statemachine.core.agents import Agent
from statemachine.core.machines import RESIDENCY

LOAD, LOADED, LOAD_FAILED = (RESIDENCY.moves(trigger) for trigger in ("load", "loaded", "load_failed"))
EVICT, KEEP, GONE, DIED = (RESIDENCY.moves(trigger) for trigger in ("evict", "keep", "gone", "died"))

NO_AGENT = -1


class Residents:
    """Which agents are in memory, or on their way in or out."""

    __slots__ = (
        "flushes",
        "idle",
        "last_flush",
        "last_ticket",
        "loading",
        "lost",
        "max_resident",
        "moved",
        "occupied",
        "room_for",
        "serves",
        "starting",
        "tried",
        "unsettled",
    )

    def __init__(self, max_resident: int) -> None:
        self.max_resident = max_resident
        self.occupied = 0
        """Sub-agents that are loading, resident or unloading."""
        self.idle: OrderedDict[int, None] = OrderedDict()
        """The evictable agents (N1), least recently used first."""
        self.loading: dict[int, None] = {}
        """Agents whose load is in flight."""
        self.lost: dict[int, None] = {}
        """J4: agents whose load a crash has cut off, and which that has not been made up for."""
        self.starting: dict[int, int] = {}
        """Agents with a slot whose turn has not started -> ticket, in the order in which they got it."""
        self.last_ticket = 0
        self.unsettled: dict[int, None] = {}
        """Those of them whose load is not in flight, in any order."""
        self.moved = False
        """Has anything changed since it was last seen that no starting turn can go on?"""
        self.tried: dict[int, tuple[int, ...]] = {}
        """Starting agent -> agents whose flush failed while they were evicted for it (N3)."""
        self.serves: dict[int, int] = {}
        """Unloading agent -> the starting agent that it makes room for, if any."""
        self.room_for: dict[int, int] = {}
        """The same, from the starting agent."""
        self.flushes: dict[int, int] = {}
        """Agent -> number of the flush that it has in flight (decision D3)."""
        self.last_flush = 0

    def copy(self) -> Residents:
        """An independent copy."""
        other = Residents.__new__(Residents)
        other.max_resident = self.max_resident
        other.occupied = self.occupied
        other.idle = self.idle.copy() if self.idle else OrderedDict()
        other.loading = self.loading.copy()
        other.lost = self.lost.copy()
        other.starting = self.starting.copy()
        other.last_ticket = self.last_ticket
        other.unsettled = self.unsettled.copy()
        other.moved = self.moved
        other.room_for = self.room_for.copy()
        other.tried = self.tried.copy()
        other.serves = self.serves.copy()
        other.flushes = self.flushes.copy()
        other.last_flush = self.last_flush
        return other

    @property
    def has_room(self) -> bool:
        """Is a residency slot free?"""
        return rules.residency_slot_is_free(self.occupied, self.max_resident)

    # Moves

    def load(self, agent: Agent) -> None:
        """A residency slot is taken, by a new generation of the thread."""
        assert self.has_room, "no free residency slot to load into"
        agent.residency = LOAD[agent.residency]
        agent.generation += 1
        self.loading[agent.id] = None
        self.unsettled.pop(agent.id, None)
        self.occupied += 1
        self.moved = True

    def loaded(self, agent: Agent) -> None:
        """The thread is in memory."""
        agent.residency = LOADED[agent.residency]
        del self.loading[agent.id]
        if agent.id in self.starting:
            self.unsettled[agent.id] = None
        self.moved = True

    def load_failed(self, agent: Agent) -> None:
        """The residency slot is free again."""
        agent.residency = LOAD_FAILED[agent.residency]
        del self.loading[agent.id]
        if agent.id in self.starting:
            self.unsettled[agent.id] = None
        self.occupied -= 1
        self.moved = True

    def evict(self, agent: Agent, serves: int) -> int:
        """The agent is on its way out, for the sake of `serves`. Returns the number of its flush."""
        agent.residency = EVICT[agent.residency]
        del self.idle[agent.id]
        self.serve(agent.id, serves)
        return self.flush(agent)

    def flush(self, agent: Agent) -> int:
        """A flush is in flight; returns its number."""
        self.last_flush += 1
        self.flushes[agent.id] = self.last_flush
        return self.last_flush

    def keep(self, agent: Agent) -> int:
        """Keeps the agent in memory. Returns the agent that it was to make room for."""
        agent.residency = KEEP[agent.residency]
        del self.flushes[agent.id]
        return self.serve_no_more(agent.id)

    def gone(self, agent: Agent) -> None:
        """The agent is out; the residency slot is free again."""
        agent.residency = GONE[agent.residency]
        del self.flushes[agent.id]
        self.serve_no_more(agent.id)
        self.occupied -= 1

    def died(self, agent: Agent) -> None:
        """The thread is gone, wherever it was."""
        agent.residency = DIED[agent.residency]
        self.loading.pop(agent.id, None)
        self.flushes.pop(agent.id, None)
        self.idle.pop(agent.id, None)
        if agent.id in self.serves:
            self.serve_no_more(agent.id)
        if agent.id in self.starting:
            self.unsettled[agent.id] = None
        self.occupied -= 1
        self.moved = True

    # Order of use

    def used(self, agent: Agent) -> None:
        """The agent is evictable, and the most recently used."""
        if agent.id in self.idle:
            self.idle.move_to_end(agent.id)
        else:
            self.idle[agent.id] = None
        self.moved = True

    def taken(self, agent: int) -> None:
        """The agent got a slot: it is not evictable."""
        self.idle.pop(agent, None)

    def starts(self, agent: int) -> None:
        """The turn of the agent is starting, after those that got a slot before it."""
        self.last_ticket += 1
        self.starting[agent] = self.last_ticket
        if agent not in self.loading:
            self.unsettled[agent] = None
        self.moved = True

    # Making room

    def wait_over(self, agent: int) -> None:
        """Ends the start of the agent's turn: it runs, or is over."""
        del self.starting[agent]
        self.unsettled.pop(agent, None)
        if self.tried or self.room_for:
            self.stop_waiting(agent)
        self.moved = True

    def made_up_for(self, agent: int) -> None:
        """J4: a turn of the agent started or ended, so a load of it that a crash cut off bars no other any more."""
        if agent in self.lost:
            del self.lost[agent]
            self.moved = True

    def stop_waiting(self, agent: int) -> None:
        """The agent waits for room no more; what was evicted for it serves the next (decision D11)."""
        self.tried.pop(agent, None)
        unloading = self.room_for.pop(agent, None)
        if unloading is not None:
            self.serves[unloading] = NO_AGENT

    def serve(self, unloading: int, starting: int) -> None:
        """The agent on its way out makes room for the starting one, or for none."""
        self.serves[unloading] = starting
        if starting != NO_AGENT:
            self.room_for[starting] = unloading
        self.moved = True

    def serve_no_more(self, unloading: int) -> int:
        """Ends the agent's way out. Returns the agent that it was to make room for."""
        served = self.serves.pop(unloading)
        self.room_for.pop(served, None)
        self.moved = True
        return served

    def room_is_coming(self, agent: int) -> bool:
        """Is an agent on its way out for this starting one? If one is on its way out for none, it is now."""
        if agent in self.room_for:
            return True
        if len(self.serves) > len(self.room_for):
            self.serve(next(out for out, served in self.serves.items() if served == NO_AGENT), agent)
            return True
        return False

    def leaves_for_an_older(self, agent: int) -> bool:
        """J6: does the eviction of this starting agent serve a turn that has been starting longer?"""
        served = self.serves[agent]
        return served != NO_AGENT and self.starting[served] < self.starting[agent]

    def in_order(self) -> list[int]:
        """The starting agents that may go on, in the order in which they got their slot."""
        return sorted(self.unsettled, key=self.starting.__getitem__)

    def victim(self, agents: list[Agent], tried: Collection[int]) -> int | None:
        """N2: returns the agent to evict, if there is one."""
        return rules.victim(((agent, agents[agent].triggers > 0) for agent in self.idle), tried)

    def is_in_transit(self, holders: Container[int]) -> bool:
        """J5: is a residency slot in transit, which may become free, or its agent a new victim? Every eviction under
        way is, and every load whose turn was interrupted, so that its agent holds no slot.
        """
        return bool(self.serves) or any(agent not in holders for agent in self.loading)
