"""Execution slots and the ready queue (S1, S3; J2's order).

A slot records its holder: an agent, and which of its turns (a bare counter cannot say which turn leaked, BUG-B01,
BUG-B07). The root has a slot like every agent with a turn, but is not counted (S13). A turn that lent its slot is in
memory without one until it goes on or ends (S16).

The ready queue serves the deepest agent first, and the oldest request first within a depth: what was begun is finished
before more is begun, so few turns wait at the same time. The turn that has queued longest is *due* once `max_overtaken`
others were served before it (L11).
"""

from __future__ import annotations

from collections import OrderedDict

from statemachine.core import rules
from statemachine.core.machines import SLOT, SlotState

RESERVE, ACTIVATE, GO_ON = SLOT.moves("reserve"), SLOT.moves("activate"), SLOT.moves("go_on")
PASS_ON, LEND, RELEASE = SLOT.moves("pass_on"), SLOT.moves("lend"), SLOT.moves("release")
FREE, RESERVED = SlotState.FREE, SlotState.RESERVED


class Slots:
    """Which agents hold a slot, which lent one, and which wait for one."""

    __slots__ = ("by_depth", "cap", "depth", "entitled", "held", "holders", "lent", "overtaken", "ready")

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self.held = 0
        """Slots held by sub-agents."""
        self.holders: dict[int, tuple[int, SlotState]] = {}
        """Agent -> (turn, state of its slot). A `LIVE_THREADS` slot names the last turn that used it."""
        self.lent: dict[int, None] = {}
        """Agents whose turn is in memory without a slot: waiting, returning, or stopping after it had lent."""
        self.ready: OrderedDict[int, int] = OrderedDict()
        """Sub-agents whose turn waits for a slot -> their depth, the oldest request first."""
        self.depth = 0
        """The depth of all of them, while `by_depth` is empty."""
        self.by_depth: dict[int, OrderedDict[int, None]] = {}
        """The same by depth, from when a second depth joins the queue until the queue is empty."""
        self.overtaken = 0
        """Turns that got a slot since the first of `ready` became the first."""
        self.entitled: dict[int, None] = {}
        """Agents whose queued turn needs no free slot: the root is not counted, a `LIVE_THREADS` agent has its own."""

    def copy(self) -> Slots:
        """An independent copy."""
        other = Slots.__new__(Slots)
        other.cap = self.cap
        other.held = self.held
        other.holders = self.holders.copy()
        other.lent = self.lent.copy()
        other.entitled = self.entitled.copy()
        other.overtaken = self.overtaken
        other.ready = self.ready.copy() if self.ready else OrderedDict()
        other.depth = self.depth
        other.by_depth = {depth: line.copy() for depth, line in self.by_depth.items()} if self.by_depth else {}
        return other

    @property
    def free(self) -> int:
        """Slots that sub-agents could still take."""
        return self.cap - self.held

    # The ready queue

    def enqueue(self, agent: int, depth: int) -> None:
        """The turn waits for a slot."""
        ready, by_depth = self.ready, self.by_depth
        if not ready:
            self.depth = depth
        elif by_depth or depth != self.depth:
            if not by_depth:
                by_depth[self.depth] = OrderedDict.fromkeys(ready)
            by_depth.setdefault(depth, OrderedDict())[agent] = None
        ready[agent] = depth

    def dequeue(self, agent: int) -> bool:
        """Removes the turn from the queue, if it is in it. Was it the one that had queued longest?"""
        ready, by_depth = self.ready, self.by_depth
        if agent not in ready:
            return False
        was_oldest = next(iter(ready)) == agent
        if was_oldest:
            self.overtaken = 0
        depth = ready.pop(agent)
        if not ready:
            by_depth.clear()
        elif by_depth:
            del by_depth[depth][agent]
            if not by_depth[depth]:
                del by_depth[depth]
        return was_oldest

    def take(self, max_overtaken: int) -> int:
        """J2: takes the turn that the queue, which is not empty, serves next. Returns its agent."""
        if not self.by_depth:  # all of one depth
            self.overtaken = 0
            return self.ready.popitem(False)[0]
        agent = self.first(max_overtaken)
        if not self.dequeue(agent):
            self.overtaken += 1
        return agent

    def first(self, max_overtaken: int) -> int:
        """J2: returns the agent that the queue, which is sorted by depth, serves next."""
        if rules.is_due(self.overtaken, max_overtaken):
            return next(iter(self.ready))
        return next(iter(self.by_depth[max(self.by_depth)]))

    def is_due(self, max_overtaken: int) -> bool:
        """Does the turn that has queued longest come before all others?"""
        return bool(self.ready) and rules.is_due(self.overtaken, max_overtaken)

    def overtake(self, agent: int) -> None:
        """A turn of this agent, which is not queued, gets a slot before the one that has queued longest (L11)."""
        if self.ready and rules.is_counted(agent):
            self.overtaken += 1

    # Slots

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

    def lend(self, agent: int) -> None:
        """The turn waits, and others use its slot meanwhile."""
        LEND[self.holders.pop(agent)[1]]
        self.held -= 1
        self.lent[agent] = None

    def go_on(self, agent: int, turn: int) -> None:
        """The turn has a slot again."""
        assert rules.slot_is_free(self.held, self.cap), "no free slot to go on with"
        del self.lent[agent]
        self.held += 1
        self.holders[agent] = (turn, GO_ON[FREE])

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
