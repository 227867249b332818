"""Execution slots and the ready queue (S1, S3; J2's order).

A slot records its holder: an agent, and which of its turns (a bare counter cannot say who leaked, BUG-B01, BUG-B07).
The root has a slot like everybody else, but is not counted (S13).
"""

from __future__ import annotations

from collections import OrderedDict

from statemachine.core import rules
from statemachine.core.machines import SLOT, SlotState

RESERVE, ACTIVATE = SLOT.moves("reserve"), SLOT.moves("activate")
PASS_ON, RELEASE = SLOT.moves("pass_on"), SLOT.moves("release")
FREE, RESERVED = SlotState.FREE, SlotState.RESERVED


class Slots:
    """Who holds a slot, and who waits for one."""

    __slots__ = ("cap", "entitled", "held", "holders", "ready")

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self.held = 0
        """Slots held by sub-agents."""
        self.holders: dict[int, tuple[int, SlotState]] = {}
        """Agent -> (turn, state of its slot). A `LIVE_THREADS` slot names the last turn that used it."""
        self.ready: OrderedDict[int, None] = OrderedDict()
        """Sub-agents whose turn waits for a slot, first in, first out."""
        self.entitled: dict[int, None] = {}
        """Agents whose queued turn needs no free slot: the root is not counted, a `LIVE_THREADS` agent has its own."""

    def copy(self) -> Slots:
        """An independent copy."""
        other = Slots.__new__(Slots)
        other.cap = self.cap
        other.held = self.held
        other.holders = self.holders.copy()
        other.entitled = self.entitled.copy()
        other.ready = self.ready.copy() if self.ready else OrderedDict()
        return other

    @property
    def free(self) -> int:
        """Slots that sub-agents could still take."""
        return self.cap - self.held

    def reserve(self, agent: int, turn: int) -> None:
        """The turn is starting: it has a slot."""
        assert agent not in self.holders, "one slot per agent"
        if rules.is_counted(agent):
            assert rules.slot_is_free(self.held, self.cap), "no free slot to reserve"
            self.held += 1
        self.holders[agent] = (turn, RESERVE[FREE])

    def activate(self, agent: int, turn: int) -> None:
        """The turn runs."""
        self.holders[agent] = (turn, ACTIVATE[self.holders[agent][1]])

    def pass_on(self, agent: int, turn: int) -> None:
        """The slot stays with the agent, for the turn with this number."""
        self.holders[agent] = (turn, PASS_ON[self.holders[agent][1]])

    def use_again(self, agent: int, turn: int) -> None:
        """`LIVE_THREADS`: the slot that the agent has anyway is for the turn with this number now."""
        self.holders[agent] = (turn, self.holders[agent][1])

    def release(self, agent: int) -> None:
        """The slot is free again."""
        RELEASE[self.holders.pop(agent)[1]]
        if rules.is_counted(agent):
            self.held -= 1

    def counted_holders(self) -> tuple[int, ...]:
        """The sub-agents that hold a slot: the exact blockers of a request that finds none (S12)."""
        return tuple(sorted([agent for agent in self.holders if rules.is_counted(agent)]))
