"""The state of a session, and nothing that happens to it: the five rooms and what stands between them.

`ledger` has what is durable, `slots` which agents may have a turn, `waits` which turns wait for what, `residents` which
agents are in memory, `deadlines` what is bounded. Beside them stand a shutdown under way, and the records and effects
of the step that is being taken. Operations, reports and joint rules change it; `session.py` puts them in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Self

from attrs import define

from statemachine.core.agents import Agent
from statemachine.core.config import Notice, SessionConfig, SlotPolicy
from statemachine.core.deadlines import Deadlines
from statemachine.core.effects import Effect
from statemachine.core.events import ROOT
from statemachine.core.ledger import Ledger
from statemachine.core.machines import SESSION, Identity, Residency, SessionState
from statemachine.core.records import Record
from statemachine.core.residency import Residents
from statemachine.core.slots import Slots
from statemachine.core.waits import Waits

FAIL = SESSION.moves("fail")


@define
class Draining:
    """A shutdown under way. Agents by id."""

    to_flush: dict[int, None]
    """Resident agents whose rollout is still to be flushed."""
    done: tuple[int, ...] = ()
    """Turns that finished within the grace."""
    interrupted: tuple[int, ...] = ()
    unflushed: tuple[int, ...] = ()

    def add(self, agent: int, was_interrupted: bool) -> None:
        """A running turn of the agent came to its end."""
        if was_interrupted:
            self.interrupted += (agent,)
        else:
            self.done += (agent,)

    def lose(self, agent: int) -> None:
        """The agent's thread is gone, and if its rollout was still to be flushed, it was not."""
        if agent in self.to_flush:
            del self.to_flush[agent]
            self.unflushed += (agent,)

    def copy(self) -> Draining:
        """An independent copy."""
        return Draining(self.to_flush.copy(), self.done, self.interrupted, self.unflushed)


class State:
    """What a session knows."""

    __slots__ = (
        "agents",
        "config",
        "deadlines",
        "draining",
        "effects",
        "error",
        "ledger",
        "live_threads",
        "now",
        "records",
        "residents",
        "slots",
        "stale_reports",
        "state",
        "waits",
    )

    def __init__(self, config: SessionConfig | None = None, now: float = 0.0) -> None:
        """An open session with its root. `now` is the time in seconds, on the clock of later `Tick` events."""
        self._set_up(config or SessionConfig(), now)
        self.ledger: Ledger = Ledger(self.config.notice is not Notice.NONE, self.config.max_attempts > 1)
        self.agents: list[Agent] = self.ledger.agents

    def _set_up(self, config: SessionConfig, now: float) -> None:
        self.config = config
        self.live_threads = config.slot_policy is SlotPolicy.LIVE_THREADS
        self.state = SessionState.OPEN
        self.now = now
        self.slots = Slots(config.execution_cap)
        self.residents = Residents(config.max_resident)
        self.deadlines = Deadlines()
        self.waits = Waits()
        self.draining: Draining | None = None
        self.error = ""
        """Why the session failed."""
        self.stale_reports = 0
        """Reports that were ignored (S9)."""
        self.records: list[Record] = []
        self.effects: list[Effect] = []

    def fail(self, error: str) -> None:
        """The session takes nothing more (BUG-B49: half a step is never shown)."""
        if self.state in FAIL:
            self.state = FAIL[self.state]
            self.error = error

    def fork(self) -> Self:
        """An independent copy, cheap enough to take one per explored transition."""
        other = self.__class__.__new__(self.__class__)
        other.config = self.config
        other.live_threads = self.live_threads
        other.state = self.state
        other.now = self.now
        other.ledger = self.ledger.copy()
        other.agents = other.ledger.agents
        other.slots = self.slots.copy()
        other.residents = self.residents.copy()
        other.deadlines = self.deadlines.copy()
        other.waits = self.waits.copy()
        other.draining = None if self.draining is None else self.draining.copy()
        other.error = self.error
        other.stale_reports = self.stale_reports
        other.records, other.effects = [], []
        return other

    # What operations, reports and joint rules ask for

    def begin_draining(self) -> None:
        """The shutdown begins: everything that is in memory now is to be flushed."""
        resident = [agent.id for agent in self.agents if agent.residency is Residency.RESIDENT]
        self.draining = Draining(dict.fromkeys(resident))

    def agent(self, agent: int) -> Agent | None:
        """The agent with this id, if there ever was one."""
        return self.agents[agent] if 0 <= agent < len(self.agents) else None

    def find(self, path: str) -> int | None:
        """The id of the open agent at this path (S7), loaded or not."""
        return self.ledger.by_path.get(path)

    def find_last(self, path: str) -> int | None:
        """The id of the open agent at this path, or else of the last one that was spawned there and is closed."""
        known = self.ledger.at(path)
        return known[-1] if known else None

    def paths(self, agents: Iterable[int]) -> tuple[str, ...]:
        """Where these agents are, or were."""
        return tuple([self.agents[agent].path for agent in agents])

    def holding(self, agents: Iterable[int]) -> set[int]:
        """Those of the agents that have a slot, have lent one or wait for one."""
        holders, lent, ready, lenders = self.slots.holders, self.slots.lent, self.slots.ready, self.waits.lenders
        return {a for a in agents if a in holders or a in lent or a in ready or a in lenders}

    def is_below(self, agent: int, top: int) -> bool:
        """Is the agent `top`, or below it?"""
        while agent not in (top, ROOT):
            agent = self.agents[agent].parent
        return agent == top

    def subtree(self, agent: int) -> Iterable[Agent]:
        """The agent and all below it, open or closed, breadth first."""
        line = [agent]
        for member in line:
            found = self.agents[member]
            line.extend(found.children or ())
            yield found

    def below(self, prefix: str, closed: bool) -> Iterator[Agent]:
        """The agents to look at for a list of those at or below a path, breadth first: with `closed` they are all in
        it, otherwise those are that are open. Nothing below a closed agent is open. It may be gone through while the
        session goes on: it then has every agent that was there from the beginning to the end.
        """
        path = prefix.rstrip("/") or self.agents[ROOT].path
        holder = self.ledger.by_path.get(path)
        line = self.ledger.at(path) if closed else [] if holder is None else [holder]
        for member in line:
            found = self.agents[member]
            if closed or found.identity is Identity.OPEN:
                line.extend(found.children or ())
            yield found
