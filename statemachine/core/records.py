"""The durable log: what a step writes, and what recovery folds (semantics.md section 5).

A record says what became true, never what was asked. Residency, slots, the ready queue and waits are not recorded:
after a crash nothing is loaded and nothing runs, and the joint rules ask again for what had not begun.

`at` is when a record was committed, in seconds since the epoch. The host of the core tells it then; the core reads it
never, and records are equal whatever it is. None: it is not committed, or by a version that recorded no times.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from attrs import field

from statemachine.core.facts import Json, Result, fact, short
from statemachine.core.machines import TurnState

__all__ = [
    "RECORDS",
    "AgentResumed",
    "AgentSpawned",
    "AgentsClosed",
    "AgentsForgotten",
    "Cause",
    "LoadBegun",
    "LoadEnded",
    "MailAccepted",
    "MailDemoted",
    "MailDrained",
    "MailKind",
    "MailRead",
    "MailWithdrawn",
    "NoticeBuried",
    "Outcome",
    "Record",
    "TurnEnded",
    "TurnReturned",
    "TurnStarted",
    "TurnStopped",
]


class MailKind(IntEnum):
    """Does a mail ask for a turn?"""

    QUEUE = 0
    """Queue-only: starts no turn."""
    TRIGGER = 1
    """Asks for a turn."""


class Cause(IntEnum):
    """What ended a turn. Decide by this, never by the words of a result: they are for people."""

    FINISHED = 0
    """Its code returned."""
    FAILED = 1
    """Its code raised."""
    THREAD_DIED = 2
    """Its thread was lost. Its status is ERRORED, or INTERRUPTED if it was not running: stopping, or not started."""
    LOAD_FAILED = 3
    """Its thread could not be loaded."""
    LOAD_DIED = 4
    """Its thread was lost while it was loaded."""
    LOAD_TIMED_OUT = 5
    """Its thread was not loaded within `load_timeout`."""
    NO_ROOM = 6
    """No residency slot could be made free for its thread (J5)."""
    INTERRUPTED = 7
    """It was interrupted, and stopped."""
    NOT_STARTED = 8
    """It was interrupted before it started."""
    NOT_STOPPED = 9
    """It was asked to stop, by an interrupt or a shutdown, and did not within `stop_grace`."""
    CLOSED = 10
    """Its agent was closed."""
    SHUT_DOWN = 11
    """It was stopped at the end of a shutdown's grace."""
    CRASHED = 12
    """The process was lost."""
    TIMED_OUT = 13
    """It was stopped at the end of `turn_timeout`."""
    WITHDRAWN = 14
    """It had not started, and the mail that asked for it was withdrawn."""
    LOADS_LOST = 15
    """A crash has cut off every load of its thread, as often in a row as is tried (BUG-B84)."""


@fact
class Outcome:
    """How a turn ended: `status` is COMPLETED, ERRORED or INTERRUPTED.

    `by` is the agent, or HOST, that interrupted it, withdrew its mail or closed its agent. It is None for every other
    cause, if no caller asked (a shutdown; a death that closed an ancestor), and if the file is of a version that did
    not record it.
    """

    agent: int
    turn: int
    status: TurnState
    raw: Result = field(alias="result")
    """The result as the core carries it."""
    cause: Cause
    by: int | None = None

    @property
    def result(self) -> Any:
        """What the turn's code returned, any JSON value; or, of a turn that is not COMPLETED, the reason in words."""
        raw = self.raw
        return raw.value if isinstance(raw, Json) else raw

    def __repr__(self) -> str:
        said = (f"{name}={short(getattr(self, name))}" for name in ("agent", "turn", "status", "result", "cause", "by"))
        return f"Outcome({', '.join(said)})"


@fact
class AgentSpawned:
    """An agent is open. Ids count up from 1."""

    agent: int
    parent: int
    name: str
    settings: str | None
    at: float | None = field(default=None, eq=False, kw_only=True, repr=False)


@fact
class MailAccepted:
    """A mail is in the target's mailbox. Mail numbers count up over the session, so they give the order.

    A mail with an outcome is a *notice*: it tells the requester of a turn how that turn ended. A notice of kind
    TRIGGER asks for a turn, but the end of that turn is told to no requester (decision D6).

    `headers` are a JSON object as its text: what its sender gave with it.
    """

    mail: int
    sender: int
    target: int
    kind: MailKind
    message: str
    notice: Outcome | None = None
    headers: str | None = None
    answers: tuple[int, ...] = ()
    """The requests of the target that a notice answers."""
    at: float | None = field(default=None, eq=False, kw_only=True, repr=False)


@fact
class NoticeBuried:
    """A notice for a requester that is closed: a dead letter on arrival."""

    mail: int
    target: int
    notice: Outcome
    at: float | None = field(default=None, eq=False, kw_only=True, repr=False)


@fact
class MailWithdrawn:
    """An unread mail of the agent is a dead letter, because its sender or the host asked for that. If it was a request,
    `outcome` answers it.
    """

    agent: int
    mail: int
    outcome: Outcome
    at: float | None = field(default=None, eq=False, kw_only=True, repr=False)


@fact
class MailDemoted:
    """These unread mails of the agent ask for no turn any more, and are queue-only. `outcome` answers the requests
    among them.
    """

    agent: int
    mails: tuple[int, ...]
    outcome: Outcome
    at: float | None = field(default=None, eq=False, kw_only=True, repr=False)


@fact
class LoadBegun:
    """The load of the agent's thread began. If no later record is about it, a crash cut it off (BUG-B84)."""

    agent: int
    at: float | None = field(default=None, eq=False, kw_only=True, repr=False)


@fact
class LoadEnded:
    """A shutdown took the turn back for which the agent was loaded, or the session was left in order meanwhile: that
    load, and those before it, do not count as cut off by a crash.
    """

    agent: int
    at: float | None = field(default=None, eq=False, kw_only=True, repr=False)


@fact
class TurnStarted:
    """The turn runs, and has read all mail that was unread."""

    agent: int
    turn: int
    at: float | None = field(default=None, eq=False, kw_only=True, repr=False)


@fact
class MailDrained:
    """The running turn has read all mail that was unread."""

    agent: int
    turn: int
    at: float | None = field(default=None, eq=False, kw_only=True, repr=False)


@fact
class MailRead:
    """The turn has read these unread mails: the notices of requests that it awaited."""

    agent: int
    turn: int
    mails: tuple[int, ...]
    at: float | None = field(default=None, eq=False, kw_only=True, repr=False)


@fact
class TurnStopped:
    """The turn was asked to stop. `cause` and `by` are as its outcome will say. `below` is the target of an interrupt
    of a whole subtree: notices of this turn start no turn at or below it.
    """

    agent: int
    turn: int
    cause: Cause
    by: int | None = None
    below: int | None = None
    at: float | None = field(default=None, eq=False, kw_only=True, repr=False)


@fact
class TurnReturned:
    """A crash, or the death of its thread, ended the turn, and its agent has attempts left: all mail that the turn had
    read is unread again (S17).
    """

    agent: int
    turn: int
    at: float | None = field(default=None, eq=False, kw_only=True, repr=False)


@fact
class TurnEnded:
    """The turn is over. If it had not started, its unread trigger mail is now queue-only.

    `traceback` is where its code raised, if it did: a short text, for people. The host of the core tells it, as it
    tells `at`.
    """

    outcome: Outcome
    at: float | None = field(default=None, eq=False, kw_only=True, repr=False)
    traceback: str | None = field(default=None, eq=False, kw_only=True, repr=False)


@fact
class AgentsClosed:
    """`target` and its open descendants (`agents`, target first) are closed; their unread mail are dead letters."""

    target: int
    agents: tuple[int, ...]
    at: float | None = field(default=None, eq=False, kw_only=True, repr=False)


@fact
class AgentResumed:
    """A closed agent is open again."""

    agent: int
    at: float | None = field(default=None, eq=False, kw_only=True, repr=False)


@fact
class AgentsForgotten:
    """`target` and all below it (`agents`, target first) are forgotten. Their ids are not given again."""

    target: int
    agents: tuple[int, ...]
    at: float | None = field(default=None, eq=False, kw_only=True, repr=False)


Record = (
    AgentSpawned
    | MailAccepted
    | NoticeBuried
    | MailWithdrawn
    | MailDemoted
    | LoadBegun
    | LoadEnded
    | TurnStarted
    | MailDrained
    | MailRead
    | TurnStopped
    | TurnReturned
    | TurnEnded
    | AgentsClosed
    | AgentResumed
    | AgentsForgotten
)
"""What the log has of a session. The fold of all of them is its durable state."""

RECORDS: tuple[type[Record], ...] = Record.__args__
"""Every record class there is."""
