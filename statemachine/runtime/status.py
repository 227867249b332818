"""The status of an agent, as `status` and `list` return it, with role and settings as they were given."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from statemachine.core import effects as fx
from statemachine.core.facts import represent
from statemachine.core.machines import TurnState
from statemachine.core.records import Outcome
from statemachine.log.times import Moments
from statemachine.runtime.handles import copy_of
from statemachine.runtime.settings import unwrap

__all__ = ["AgentStatus"]


@frozen
class AgentStatus:
    """The logical facts of an agent. All but `resident` are the same whether it is loaded or not (S8)."""

    agent: int
    """Its id."""
    path: str
    parent: int
    """The parent's id; -1 for the root."""
    open: bool
    """False: it was closed."""
    status: TurnState
    """The state of its turn, or how its last one ended."""
    turn: int
    """Number of its last turn, from 1; 0: none yet."""
    unread: int
    """Mails in its mailbox."""
    outcome: Outcome | None
    """How its last turn ended."""
    role: str
    settings: Any
    """As they were given to `spawn`, as JSON has them: a tuple is a list."""
    resident: bool
    """Whether its thread is in memory."""
    since: float | None
    """When it came into its status, in seconds since the epoch; of a turn that is asked for: when the mail came that
    asks for it; of a closed agent: when it was closed. This and the other times are None if the file is of a version
    that recorded no times.
    """
    began: float | None
    """When its last turn began; None also if it has not, or ended before it did."""
    ended: float | None
    """When its last turn ended; None also if it has not."""

    __repr__ = represent


def status_of(said: fx.AgentStatus, moments: Moments) -> AgentStatus:
    """Returns the status for callers: the core has role and settings as one text, and no times."""
    role, settings = unwrap(said.settings)
    return AgentStatus(
        said.agent,
        said.path,
        said.parent,
        said.open,
        said.status,
        said.turn,
        said.unread,
        None if said.outcome is None else copy_of(said.outcome),
        role,
        settings,
        said.resident,
        moments.since,
        moments.began,
        moments.ended,
    )
