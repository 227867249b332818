"""The facts of one agent, as a snapshot has them (`snapshot.py`)."""

from __future__ import annotations

from attrs import field

from statemachine.core.facts import fact
from statemachine.core.machines import Identity, TurnState
from statemachine.core.records import MailAccepted, Outcome, TurnStopped

__all__ = ["AgentFacts", "AgentTimes"]

AgentTimes = tuple[float | None, float | None, float | None]
"""When an agent was opened or closed last, and when its last turn began and ended: see `times.py`."""


@fact
class AgentFacts:
    """The durable facts of one agent; what they mean is said at `agents.Agent`. `name` is the end of its path. They are
    equal whatever their times are.
    """

    agent: int
    parent: int
    name: str
    settings: str | None
    identity: Identity
    closed_by: int
    status: TurnState
    turn: int
    outcome: Outcome | None
    taken: tuple[MailAccepted, ...]
    mailbox: tuple[MailAccepted, ...]
    stopped: TurnStopped | None = None
    attempts: int = 0
    loads: int = 0
    times: AgentTimes | None = field(default=None, eq=False)
