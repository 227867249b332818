"""The durable log: what a step writes, and what recovery folds (semantics.md section 5).

A record says what became true, never what was asked. Residency, slots, the ready queue and waits are not recorded:
after a crash nothing is loaded and nothing runs, and the joint rules ask again for what had not begun.
"""

from __future__ import annotations

from enum import IntEnum

from statemachine.core.facts import fact
from statemachine.core.machines import TurnState


class MailKind(IntEnum):
    """Does a mail ask for a turn?"""

    QUEUE = 0
    """Queue-only: wakes nobody."""
    TRIGGER = 1
    """Asks for a turn."""


@fact
class Outcome:
    """How a turn ended: `status` is COMPLETED, ERRORED or INTERRUPTED, `result` its result or the reason."""

    agent: int
    turn: int
    status: TurnState
    result: str


@fact
class AgentSpawned:
    """An agent is open. Ids count up from 1."""

    agent: int
    parent: int
    name: str
    settings: str | None


@fact
class MailAccepted:
    """A mail is in the target's mailbox. Mail numbers count up over the session, so they give the order.

    A mail with an outcome is a *notice*: it tells the requester of a turn how that turn ended. A notice of kind
    TRIGGER asks for a turn, but nobody is told when that turn ends (decision D6).
    """

    mail: int
    sender: int
    target: int
    kind: MailKind
    message: str
    notice: Outcome | None = None


@fact
class NoticeBuried:
    """A notice for a requester that is closed: a dead letter on arrival."""

    mail: int
    target: int
    notice: Outcome


@fact
class TurnStarted:
    """The turn runs, and has read all mail that was unread."""

    agent: int
    turn: int


@fact
class MailDrained:
    """The running turn has read all mail that was unread."""

    agent: int
    turn: int


@fact
class TurnEnded:
    """The turn is over. If it had not started, its unread trigger mail is now queue-only."""

    outcome: Outcome


@fact
class AgentsClosed:
    """`target` and its open descendants (`agents`, target first) are closed; their unread mail are dead letters."""

    target: int
    agents: tuple[int, ...]


@fact
class AgentResumed:
    """A closed agent is open again."""

    agent: int


Record = (
    AgentSpawned | MailAccepted | NoticeBuried | TurnStarted | MailDrained | TurnEnded | AgentsClosed | AgentResumed
)

RECORDS: tuple[type[Record], ...] = Record.__args__
"""Every record class there is."""
