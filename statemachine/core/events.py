"""What happens to a session, from outside: operations, reports of threads, time (semantics.md sections 4 and 5).

Agents are named by id; `HOST` stands for the embedding program. Times are seconds on any clock that does not go back:
the core reads none, it is told.
"""

from __future__ import annotations

from enum import IntEnum

from statemachine.core.facts import Result, fact
from statemachine.core.records import Cause

__all__ = [
    "EVENTS",
    "HOST",
    "ROOT",
    "Aborted",
    "Close",
    "Died",
    "Drain",
    "Event",
    "Failed",
    "Finished",
    "FlushFailed",
    "Flushed",
    "FollowUp",
    "Forget",
    "Interrupt",
    "ListAgents",
    "LoadFailed",
    "Loaded",
    "Operation",
    "Report",
    "Restart",
    "Resume",
    "Send",
    "Shutdown",
    "Spawn",
    "Start",
    "Status",
    "StopWaiting",
    "Tick",
    "Wait",
    "WaitMode",
    "Withdraw",
    "WriteFailed",
]

HOST = -1
"""The sender of what the embedding program does."""
ROOT = 0
"""The agent at `/root`."""


class WaitMode(IntEnum):
    """How many of its requests must be answered to end a wait."""

    ANY = 0
    ALL = 1


@fact
class Spawn:
    """A sub-agent `name` under `parent`, with `message` as its first (trigger) mail.

    `settings` is the agent's own configuration, given back on every load (S11); the core never looks inside. The
    first mail is from `sender`, who is told how the turn ended: None is the parent, HOST the embedding program
    (decision D10). `headers`, a JSON object as its text, go with every mail to the turn that reads it; the core looks
    at their size alone.
    """

    parent: int
    name: str
    message: str
    settings: str | None = None
    sender: int | None = None
    headers: str | None = None


@fact
class Send:
    """Queue-only mail: the target's next turn reads it, and it starts none."""

    sender: int
    target: int
    message: str
    headers: str | None = None


@fact
class FollowUp:
    """Trigger mail: asks for a turn of the target."""

    sender: int
    target: int
    message: str
    headers: str | None = None


@fact
class Start:
    """The host's direct way to a turn, root included; the same admission as every other turn (BUG-B08)."""

    target: int
    message: str
    headers: str | None = None


@fact
class Drain:
    """The running turn reads what has arrived since it started."""

    agent: int
    turn: int


@fact
class Interrupt:
    """Stops the turn that the target has or waits for, and only that one: its children go on (BUG-B13). `subtree` stops
    the turns of all its descendants too, all of them before any requester is told, so that none starts another.
    """

    sender: int
    target: int
    subtree: bool = False


@fact
class Close:
    """Closes the target and all its descendants, in this step."""

    sender: int
    target: int


@fact
class Resume:
    """Opens a closed agent again."""

    sender: int
    target: int


@fact
class Wait:
    """A wait of the turn begins. It ends when there is unread `mail`, when one of `targets` is closed or is idle with
    an outcome, when one of `requests` (numbers of trigger mail) is answered or, with ALL, all of them. With none of
    these the turn waits by its own choice, until it gives up the wait.

    `timeout` is in seconds; None is allowed for a wait on requests alone and for one without a condition.
    """

    agent: int
    turn: int
    timeout: float | None
    targets: tuple[int, ...] = ()
    requests: tuple[int, ...] = ()
    mode: WaitMode = WaitMode.ANY
    mail: bool = True


@fact
class StopWaiting:
    """The turn gives up the wait with this number, if it is not over: the code that waited goes on (decision D18)."""

    agent: int
    turn: int
    wait: int


@fact
class Withdraw:
    """An unread mail becomes a dead letter, by its sender or the host."""

    sender: int
    mail: int


@fact
class Forget:
    """The host drops a closed agent and all below it. Their ids and mail numbers are not given again."""

    target: int


@fact
class Status:
    """Asks for the logical facts of one agent, open or closed."""

    target: int


@fact
class ListAgents:
    """Asks for every open agent whose path is `prefix` or below it, root first, then by path; with `closed`, for every
    closed one too.
    """

    prefix: str = "/root"
    closed: bool = False


@fact
class Shutdown:
    """No new work; turns that have started may finish within `grace` seconds, then are interrupted; rollouts are
    flushed. Asked again, it shortens the grace, if that is less.
    """

    grace: float


@fact
class Loaded:
    """The thread of this generation is in memory."""

    agent: int
    generation: int


@fact
class LoadFailed:
    """The thread of this generation could not be loaded."""

    agent: int
    generation: int
    error: str


@fact
class Flushed:
    """The rollout is durable up to the flush with this number."""

    agent: int
    generation: int
    flush: int


@fact
class FlushFailed:
    """The flush with this number failed."""

    agent: int
    generation: int
    flush: int
    error: str


@fact
class Finished:
    """The turn's work returned `result`."""

    agent: int
    turn: int
    result: Result


@fact
class Failed:
    """The turn's work raised `error`. `cause` is FAILED; or LOAD_FAILED or LOAD_TIMED_OUT if the thread had still to be
    loaded, as the root's in its first turn.
    """

    agent: int
    turn: int
    error: str
    cause: Cause = Cause.FAILED


@fact
class Aborted:
    """The turn's work stopped, as it was asked to."""

    agent: int
    turn: int


@fact
class Died:
    """The thread of this generation is lost, or was removed from outside."""

    agent: int
    generation: int
    error: str


@fact
class Tick:
    """It is `now` at least. A smaller number than an earlier one, or one that is not finite, changes nothing."""

    now: float


@fact
class WriteFailed:
    """The records of an earlier step could not be made durable: the session fails (section 5)."""

    error: str


@fact
class Restart:
    """The process was lost, and the session recovered from its log.

    For traces and explorers. No session handles it: the one that it is about is gone, and `recovery.py` makes the next.
    """


Operation = (
    Spawn
    | Send
    | FollowUp
    | Start
    | Drain
    | Interrupt
    | Close
    | Resume
    | Wait
    | StopWaiting
    | Withdraw
    | Forget
    | Status
    | ListAgents
    | Shutdown
)
Report = Loaded | LoadFailed | Flushed | FlushFailed | Finished | Failed | Aborted | Died
Event = Operation | Report | Tick | WriteFailed
"""What `Session.handle` takes."""

EVENTS: tuple[type[Event], ...] = (*Operation.__args__, *Report.__args__, Tick, WriteFailed)
"""Every event class that a session handles."""
