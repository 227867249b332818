"""Residency slots: whose thread is in memory, and who makes room (S2, S6, S15; N1 to N3).

Evictable agents stand in one line, least recently used first. *Use* is: loaded, or a turn of it ended. An agent that
gets a slot leaves the line and comes back at its end, so the line is in order of use without a clock.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Container

from statemachine.core import rules
from statemachine.core.agents import Agent
from statemachine.core.machines import RESIDENCY

LOAD, LOADED, LOAD_FAILED = (RESIDENCY.moves(trigger) for trigger in ("load", "loaded", "load_failed"))
EVICT, KEEP, GONE, DIED = (RESIDENCY.moves(trigger) for trigger in ("evict", "keep", "gone", "died"))

NOBODY = -1


class Residents:
    """Who is in memory, or on the way in or out."""

    __slots__ = ("flushes", "idle", "last_flush", "loading", "max_resident", "occupied", "serves", "starting", "tried")

    def __init__(self, max_resident: int) -> None:
        self.max_resident = max_resident
        self.occupied = 0
        """Sub-agents that are loading, resident or unloading."""
        self.idle: OrderedDict[int, None] = OrderedDict()
        """The evictable agents (N1), least recently used first."""
        self.loading: dict[int, None] = {}
        """Agents whose load is in flight."""
        self.starting: dict[int, None] = {}
        """Agents with a slot whose turn has not started, in the order in which they got it."""
        self.tried: dict[int, tuple[int, ...]] = {}
        """Starting agent -> agents whose flush failed while they were evicted for it (N3)."""
        self.serves: dict[int, int] = {}
        """Unloading agent -> the starting agent that it makes room for, or NOBODY."""
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
        other.starting = self.starting.copy()
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
        self.occupied += 1

    def loaded(self, agent: Agent) -> None:
        """The thread is in memory."""
        agent.residency = LOADED[agent.residency]
        del self.loading[agent.id]

    def load_failed(self, agent: Agent) -> None:
        """The residency slot is free again."""
        agent.residency = LOAD_FAILED[agent.residency]
        del self.loading[agent.id]
        self.occupied -= 1

    def evict(self, agent: Agent, serves: int) -> int:
        """The agent is on its way out, for the sake of `serves`. Returns the number of its flush."""
        agent.residency = EVICT[agent.residency]
        del self.idle[agent.id]
        self.serves[agent.id] = serves
        return self.flush(agent)

    def flush(self, agent: Agent) -> int:
        """A flush is in flight; returns its number."""
        self.last_flush += 1
        self.flushes[agent.id] = self.last_flush
        return self.last_flush

    def keep(self, agent: Agent) -> int:
        """The agent stays. Returns whom it was to make room for."""
        agent.residency = KEEP[agent.residency]
        del self.flushes[agent.id]
        return self.serves.pop(agent.id)

    def gone(self, agent: Agent) -> None:
        """The agent is out; the residency slot is free again."""
        agent.residency = GONE[agent.residency]
        del self.flushes[agent.id]
        del self.serves[agent.id]
        self.occupied -= 1

    def died(self, agent: Agent) -> None:
        """The thread is no more, wherever it was."""
        agent.residency = DIED[agent.residency]
        self.loading.pop(agent.id, None)
        self.flushes.pop(agent.id, None)
        self.serves.pop(agent.id, None)
        self.idle.pop(agent.id, None)
        self.occupied -= 1

    # Order of use

    def used(self, agent: Agent) -> None:
        """The agent is evictable, and the most recently used."""
        self.idle[agent.id] = None
        self.idle.move_to_end(agent.id)

    def taken(self, agent: Agent) -> None:
        """The agent got a slot: it is not evictable."""
        self.idle.pop(agent.id, None)

    # Making room

    def wait_over(self, agent: int) -> None:
        """The turn of the agent is not starting any more."""
        del self.starting[agent]
        self.stop_waiting(agent)

    def stop_waiting(self, agent: int) -> None:
        """The agent waits for room no more; whoever was evicted for it serves the next (decision D11)."""
        self.tried.pop(agent, None)
        for unloading, served in self.serves.items():
            if served == agent:
                self.serves[unloading] = NOBODY

    def room_is_coming(self, agent: int) -> bool:
        """Is somebody on the way out for this starting agent? If somebody is on the way out for nobody, it is now."""
        if agent in self.serves.values():
            return True
        for unloading, served in self.serves.items():
            if served == NOBODY:
                self.serves[unloading] = agent
                return True
        return False

    def victim(self, agents: list[Agent], tried: Collection[int]) -> int | None:
        """N2: whom to evict, if anybody."""
        return rules.victim(((agent, agents[agent].triggers > 0) for agent in self.idle), tried)

    def in_transit_without_slot(self, holders: Container[int]) -> bool:
        """Is anybody on the way in or out who holds no slot? What it leaves will be a free slot or a new victim."""
        return any(agent not in holders for agent in self.loading) or any(agent not in holders for agent in self.serves)
