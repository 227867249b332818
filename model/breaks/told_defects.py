"""More rules broken by hand (see `defects.py`): what callers are told. The reference knows of no `find`, `status` and
`list`, so properties alone can notice most of these.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve

from statemachine.core import events as ev
from statemachine.core.effects import AgentStatus, Listing, Reply
from statemachine.core.ledger import Ledger
from statemachine.core.machines import Residency, TurnState
from statemachine.core.session import HANDLERS, Session
from statemachine.core.state import State

from .defects import breaks


def is_unloaded(s: State, agent: int) -> bool:
    """Is its thread out of memory?"""
    return s.agents[agent].residency is Residency.UNLOADED


@breaks("S7 BUG-B21", "pair", (State, "find"))
def loaded_agents_alone_are_found(core: Any, self: State, path: str) -> int | None:
    """`find` returns only agents that are in memory."""
    agent: int | None = core(self, path)
    return None if agent is None or is_unloaded(self, agent) else agent


@breaks("S7", "pair", (State, "find"))
def closed_agents_are_found(core: Any, self: State, path: str) -> int | None:
    """`find` returns the agent that was last at the path, open or not."""
    return core(self, path) or next((a.id for a in reversed(self.agents) if a.path == path), None)


@breaks("S8 BUG-B21", "pair", (HANDLERS, ev.Status))
def status_of_the_unloaded_is_new(core: Any, s: Session, event: ev.Status) -> Reply:
    """`status` says of an unloaded agent that it has had no turn yet."""
    reply: Reply = core(s, event)
    is_told = isinstance(reply, AgentStatus) and is_unloaded(s, reply.agent)
    return evolve(reply, status=TurnState.NEW, outcome=None) if is_told else reply


@breaks("S8", "pair", (HANDLERS, ev.ListAgents))
def loaded_agents_alone_are_listed(core: Any, s: Session, event: ev.ListAgents) -> Reply:
    """`list` leaves out agents that are not in memory."""
    reply: Reply = core(s, event)
    if not isinstance(reply, Listing):
        return reply
    return Listing(tuple([told for told in reply.agents if not is_unloaded(s, told.agent)]))


@breaks("S8", "pair", (HANDLERS, ev.ListAgents))
def closed_agents_are_never_listed(core: Any, s: Session, event: ev.ListAgents) -> Reply:
    """`list` leaves out closed agents though they were asked for."""
    return core(s, evolve(event, closed=False))  # type: ignore[no-any-return]


@breaks("S8 N5", "pair", (Ledger, "end_turn"))
def first_outcome_stays(core: Any, self: Ledger, agent: Any, outcome: Any, started: bool) -> Any:
    """A caller is told how an agent's first turn ended, however its last one did."""
    before = agent.outcome
    answered = core(self, agent, outcome, started)
    agent.outcome = before or outcome
    return answered
