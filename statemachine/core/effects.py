"""What a step asks for: a reply to the caller, effects on threads and callers (semantics.md section 5).

The program that runs the core makes the step's records durable first, then gives the reply, then carries out the
effects in their order. Effects never fail: a later event reports what came of one, or its bound runs out.
"""

from __future__ import annotations

from enum import IntEnum

from statemachine.core.facts import fact
from statemachine.core.machines import TurnState
from statemachine.core.records import MailAccepted, Outcome, Record
from statemachine.core.refusals import Refusal

__all__ = [
    "Accepted",
    "AgentStatus",
    "Answer",
    "Cancel",
    "ClosedAgents",
    "Drained",
    "Effect",
    "Flush",
    "Forgotten",
    "Interrupted",
    "Listing",
    "Load",
    "Noted",
    "Refused",
    "Reply",
    "Resumed",
    "ShutDown",
    "ShuttingDown",
    "Spawned",
    "Stale",
    "StartTurn",
    "Step",
    "Unload",
    "WaitEnd",
    "WaitOver",
    "Waiting",
    "Wake",
    "Withdrawn",
]


class WaitEnd(IntEnum):
    """Why a wait returned."""

    MAIL = 0
    TARGET = 1
    TIMEOUT = 2
    INTERRUPTED = 3
    STALLED = 4
    """Every slot was held by a waiting turn, and no more of them may be lent (J8)."""
    ANSWERED = 5
    """One of the requests that it waited for is answered, or with ALL, all of them."""
    DRAINING = 6
    """The session is shutting down, and the turns that could end the wait will not start."""
    GIVEN_UP = 7
    """The code that waited gave up."""


# Effects


@fact
class Load:
    """Build the agent's thread from its rollout, with its own settings. Report Loaded, LoadFailed or Died."""

    agent: int
    generation: int
    settings: str | None


@fact
class StartTurn:
    """Run the turn on the thread of this generation, with `mail` as input. Report Finished, Failed or Died."""

    agent: int
    turn: int
    generation: int
    mail: tuple[MailAccepted, ...]
    attempt: int = 1
    """One more than the turns of the agent that were returned before it, one after the other (S17)."""


@fact
class Cancel:
    """Ask the turn's work to stop. Report Aborted (or what it comes to instead)."""

    agent: int
    turn: int


@fact
class Flush:
    """Make the thread's rollout durable. Report Flushed or FlushFailed with this number."""

    agent: int
    generation: int
    flush: int


@fact
class Unload:
    """Drop the thread of this generation, whatever it does. Nothing it reports from now on counts (S9)."""

    agent: int
    generation: int


@fact
class Wake:
    """The turn's wait with this number returns. The turn has a slot, or was asked to stop."""

    agent: int
    turn: int
    wait: int
    end: WaitEnd


@fact
class Answer:
    """The requests with these mail numbers are answered: `outcome` is what came of them (L3). The holders of handles on
    them, such as the host, get it from here.
    """

    mails: tuple[int, ...]
    outcome: Outcome


@fact
class ShutDown:
    """The session is closed. `done` are the agents whose running turn ended by itself within the grace, `interrupted`
    those whose turn was interrupted, `unflushed` those whose rollout could not be flushed, whatever became of the turn.
    """

    done: tuple[int, ...]
    interrupted: tuple[int, ...]
    unflushed: tuple[int, ...]


Effect = Load | StartTurn | Cancel | Flush | Unload | Wake | Answer | ShutDown
"""What a step asks to be done."""

# Replies


@fact
class Refused:
    """The operation was refused, and nothing changed."""

    refusal: Refusal


@fact
class Spawned:
    """The agent is open, and `mail` is its first mail."""

    agent: int
    mail: int


@fact
class Accepted:
    """The mail with this number is in the target's mailbox."""

    mail: int


@fact
class Drained:
    """The mail that the turn has now read, in order."""

    mail: tuple[MailAccepted, ...]


@fact
class Interrupted:
    """`previous` is the target's status before; idle means that it had no turn. `agents` are those whose turn was asked
    to stop, or ended because it had not started; the target first.
    """

    previous: TurnState
    agents: tuple[int, ...]
    paths: tuple[str, ...]


@fact
class Withdrawn:
    """The mail is a dead letter."""


@fact
class Forgotten:
    """Nothing is known of these agents any more, the target first; `paths` are where they were."""

    agents: tuple[int, ...]
    paths: tuple[str, ...]


@fact
class ClosedAgents:
    """These agents are closed now, the target first, with their paths. Empty: it was closed already."""

    agents: tuple[int, ...]
    paths: tuple[str, ...]


@fact
class Resumed:
    """These agents are open again, the target first. `skipped` stayed closed: path taken, no slot, too many agents.
    The paths are in the same order.
    """

    agents: tuple[int, ...]
    skipped: tuple[int, ...]
    paths: tuple[str, ...]
    skipped_paths: tuple[str, ...]


@fact
class WaitOver:
    """The wait is over at once."""

    end: WaitEnd


@fact
class Waiting:
    """The wait with this number goes on; a Wake ends it."""

    wait: int


@fact
class AgentStatus:
    """The logical facts of an agent: the same whether it is loaded or not (S8), but for `resident`."""

    agent: int
    path: str
    parent: int
    open: bool
    status: TurnState
    turn: int
    unread: int
    outcome: Outcome | None
    settings: str | None
    resident: bool


@fact
class Listing:
    """Every agent below the prefix that was asked for, root first, then by path."""

    agents: tuple[AgentStatus, ...]


@fact
class ShuttingDown:
    """The shutdown has begun; the effect ShutDown ends it."""


@fact
class Noted:
    """A report or a tick was taken."""


@fact
class Stale:
    """A report about a thread, turn or flush that is not the current one: ignored and counted (S9)."""


Reply = (
    Refused
    | Spawned
    | Accepted
    | Drained
    | Interrupted
    | Withdrawn
    | Forgotten
    | ClosedAgents
    | Resumed
    | WaitOver
    | Waiting
    | AgentStatus
    | Listing
    | ShuttingDown
    | Noted
    | Stale
)
"""What a step answers. Operations have their own; reports and time get `Noted` or `Stale`."""


@fact
class Step:
    """What one event came to. Order is part of the contract: records are durable, then the reply, then the effects."""

    records: tuple[Record, ...]
    reply: Reply
    effects: tuple[Effect, ...]
