"""One agent, as the session holds it.

Everything a caller can see of an agent is durable and independent of its thread (N5); only the last two fields are
about the thread. There may be a hundred thousand agents and few threads, so what only a working agent needs lives in
the rooms that serve it: slots and queue in `slots.py`, threads in `residency.py`, waits in `waits.py`.
"""

from __future__ import annotations

from attrs import define

from statemachine.core.facts import represent
from statemachine.core.machines import Identity, Residency, TurnState
from statemachine.core.records import MailAccepted, Outcome


@define(eq=False, weakref_slot=False)
class Agent:
    """The state of one agent. Mutable, and changed by the session alone."""

    id: int
    parent: int
    path: str
    depth: int
    """The root has depth 0."""
    settings: str | None
    identity: Identity = Identity.OPEN
    closed_by: int = -1
    """Its parent, if one close closed both, so that `resume` of the parent opens it too; or else itself. -1: none."""
    children: list[int] | None = None
    """Ids in order of spawning, closed ones included."""
    status: TurnState = TurnState.NEW
    turn: int = 0
    """Number of the last turn; turns count from 1."""
    outcome: Outcome | None = None
    taken: tuple[MailAccepted, ...] = ()
    """What the turn that is at work has read: the requests among it are answered when it ends."""
    mailbox: tuple[MailAccepted, ...] = ()
    """Unread mail, oldest first."""
    triggers: int = 0
    """Unread mail of kind TRIGGER."""
    promised: int = 0
    """Notices that this agent is still owed, one per unanswered request it sent."""
    residency: Residency = Residency.UNLOADED
    generation: int = 0
    """Number of the last load; threads count from 1 (the root's from 0)."""

    __repr__ = represent

    def copy(self) -> Agent:
        """An independent copy."""
        return Agent(
            self.id,
            self.parent,
            self.path,
            self.depth,
            self.settings,
            self.identity,
            self.closed_by,
            None if self.children is None else self.children[:],
            self.status,
            self.turn,
            self.outcome,
            self.taken,
            self.mailbox,
            self.triggers,
            self.promised,
            self.residency,
            self.generation,
        )
