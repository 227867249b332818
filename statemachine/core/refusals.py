"""Why an operation was refused (semantics.md section 4, S12).

A refusal is an exception with the facts of its cause as attributes and a message that says what to do. The core gives
it back as data (`Refused.refusal`); the program that runs the core raises it. Different causes are different classes
(BUG-B12), and `holders`, `blockers` name exactly those that stand in the way. Agents are named by id, with the path
beside it.
"""

from __future__ import annotations

from math import inf
from typing import Any, ClassVar

from attrs import define, field, fields

from statemachine.core.events import ROOT
from statemachine.core.facts import represent

__all__ = [
    "REFUSALS",
    "AgentClosed",
    "AgentOpen",
    "DepthExceeded",
    "ExecutionFull",
    "InvalidConfig",
    "InvalidHeaders",
    "InvalidMessage",
    "InvalidName",
    "InvalidTimeout",
    "LiveThreadsFull",
    "MailRead",
    "MailboxFull",
    "NotRunning",
    "NotSender",
    "PathTaken",
    "QueueFull",
    "Refusal",
    "RootRefused",
    "SelfRefused",
    "SessionClosed",
    "SessionDraining",
    "StoreFailed",
    "TooManyAgents",
    "UnknownAgent",
    "UnknownMail",
    "WaitCircle",
]

NO_AGENTS = "{0}=0 allows no sub-agents; raise {0} and open the session again"
NO_SLOT = "max_concurrent=1 leaves sub-agents no slot; raise max_concurrent and open the session again"

BESIDE = "beside"
"""Marks the attribute that has the path, or the paths in the same order, of the agents that the facts name by id."""


class InvalidConfig(ValueError):
    """A configuration that cannot work; the message says why and what would."""


@define(auto_exc=True)
class Refusal(Exception):
    """An operation was refused, and nothing was changed."""

    text: ClassVar[str] = "the operation was refused"

    @property
    def fact_names(self) -> tuple[str, ...]:
        """Its attributes, without the paths beside ids, which say nothing more."""
        return tuple([f.name for f in fields(type(self)) if BESIDE not in f.metadata])

    @property
    def facts(self) -> tuple[Any, ...]:
        """The class name and the facts: two refusals are the same if these are."""
        return (type(self).__name__, *[getattr(self, name) for name in self.fact_names])

    def __init_subclass__(cls) -> None:
        """Has every refusal show its attributes shortly; attrs keeps a `__repr__` that is there."""
        cls.__repr__ = represent  # type: ignore[method-assign]

    @property
    def words(self) -> str:
        """Its text, or another one if what that advises cannot help here."""
        return self.text

    def __str__(self) -> str:
        return self.words.format(self=self)


def named(agents: tuple[int, ...], paths: tuple[str, ...]) -> str:
    """Agents as a message names them."""
    return ", ".join([f"{path} ({agent})" for agent, path in zip(agents, paths, strict=True)])


@define(auto_exc=True)
class UnknownAgent(Refusal):
    """No agent has this id: it was never given, or its agent was forgotten."""

    agent: int
    text: ClassVar[str] = "there is no agent {self.agent} in this session; `list` shows the open ones"


@define(auto_exc=True)
class AgentClosed(Refusal):
    """The agent was closed."""

    agent: int
    path: str = field(metadata={BESIDE: True})
    text: ClassVar[str] = "agent {self.path} ({self.agent}) is closed; `resume` opens it again"


@define(auto_exc=True)
class AgentOpen(Refusal):
    """`resume` or `forget` of an agent that is open."""

    agent: int
    path: str = field(metadata={BESIDE: True})
    text: ClassVar[str] = (
        "agent {self.path} ({self.agent}) is open; send to it or follow up, or close it before it is forgotten"
    )
    of_root: ClassVar[str] = (
        "agent {self.path} ({self.agent}) is open as long as the session is; send to it, or have the host start a turn "
        "of it"
    )

    @property
    def words(self) -> str:
        """The root is open as long as the session is."""
        return self.of_root if self.agent == ROOT else self.text


@define(auto_exc=True)
class PathTaken(Refusal):
    """An open agent has this path, loaded or not."""

    path: str
    holder: int
    text: ClassVar[str] = "path {self.path} belongs to open agent {self.holder}; take another name or close that agent"


@define(auto_exc=True)
class InvalidName(Refusal):
    """Not a name for an agent."""

    name: str
    text: ClassVar[str] = "{self.name!r:.100} is not an agent name, which is 1 to 64 of a-z, 0-9 and _, and not 'root'"


@define(auto_exc=True)
class InvalidMessage(Refusal):
    """An empty message, or one that is too large. `size` and `max_bytes` count UTF-8 bytes."""

    size: int
    max_bytes: int
    text: ClassVar[str] = "a message has 1 to {self.max_bytes} bytes, this one has {self.size}"


@define(auto_exc=True)
class InvalidHeaders(Refusal):
    """Headers that are not a JSON object, or one that is too large. `size` counts its bytes as a JSON text; None: there
    is not such a text.
    """

    problem: str
    size: int | None
    max_bytes: int
    text: ClassVar[str] = (
        "headers are a JSON object of at most {self.max_bytes} bytes, not {self.problem}; they are for ids and the "
        "like, so put everything else into the message"
    )


@define(auto_exc=True)
class DepthExceeded(Refusal):
    """The new agent would be deeper than `max_depth`."""

    depth: int
    max_depth: int
    text: ClassVar[str] = (
        "an agent at depth {self.depth} exceeds max_depth={self.max_depth}; spawn it higher up, or raise max_depth"
    )

    @property
    def words(self) -> str:
        """With 0, there is no higher place."""
        return self.text if self.max_depth else NO_AGENTS.format("max_depth")


@define(auto_exc=True)
class TooManyAgents(Refusal):
    """`max_agents` sub-agents are open."""

    max_agents: int
    text: ClassVar[str] = "{self.max_agents} sub-agents are open, the most allowed; close one first"

    @property
    def words(self) -> str:
        """With 0, there is none to close."""
        return self.text if self.max_agents else NO_AGENTS.format("max_agents")


@define(auto_exc=True)
class ExecutionFull(Refusal):
    """Every execution slot is held, by the turns of `holders`."""

    cap: int
    holders: tuple[int, ...]
    paths: tuple[str, ...] = field(metadata={BESIDE: True})
    text: ClassVar[str] = "all {self.cap} execution slots are held, by {self.named}; wait for one, or interrupt one"

    @property
    def words(self) -> str:
        """Without slots, there is none to wait for."""
        return self.text if self.cap else NO_SLOT

    @property
    def named(self) -> str:
        """Who holds them."""
        return named(self.holders, self.paths)


@define(auto_exc=True)
class LiveThreadsFull(Refusal):
    """`LIVE_THREADS`: every slot is held, by the open agents `holders`."""

    cap: int
    holders: tuple[int, ...]
    paths: tuple[str, ...] = field(metadata={BESIDE: True})
    text: ClassVar[str] = "all {self.cap} slots are held by the open agents {self.named}; close one first"

    @property
    def words(self) -> str:
        """Without slots, no agent is open that could be closed."""
        return self.text if self.cap else NO_SLOT

    @property
    def named(self) -> str:
        """Who holds them."""
        return named(self.holders, self.paths)


@define(auto_exc=True)
class QueueFull(Refusal):
    """The ready queue is full of the turns of `queued`."""

    max_queued: int
    queued: tuple[int, ...]
    paths: tuple[str, ...] = field(metadata={BESIDE: True})
    text: ClassVar[str] = "{self.max_queued} turns wait for a slot already, the most allowed; try again later"


@define(auto_exc=True)
class MailboxFull(Refusal):
    """`agent` has `unread` unread mails and is owed `promised` notices; together they may not exceed `max_unread`, and
    the last place is for trigger mail.
    """

    agent: int
    unread: int
    promised: int
    max_unread: int
    path: str = field(metadata={BESIDE: True})
    text: ClassVar[str] = (
        "the mailbox of agent {self.path} ({self.agent}) is full: {self.unread} unread and {self.promised} notices to "
        "come, of {self.max_unread}, the last of which is for trigger mail; {self.before}have it read its mail, as a "
        "turn does when it begins and by `drain`{self.instead}"
    )

    @property
    def before(self) -> str:
        """What has to happen before it helps to read."""
        return "wait for these notices and " if self.promised else ""

    @property
    def instead(self) -> str:
        """What helps without reading. The root cannot be closed, and only the host starts it."""
        return "; the host starts one" if self.agent == ROOT else ", or close and resume it"


@define(auto_exc=True)
class RootRefused(Refusal):
    """Not for the root, or only for the host."""

    operation: str
    text: ClassVar[str] = (
        "{self.operation} of the root is refused: only the host starts or interrupts it, and it is closed by shutting "
        "the session down"
    )


@define(auto_exc=True)
class SelfRefused(Refusal):
    """An agent cannot do this to itself, or to an ancestor of itself."""

    operation: str
    agent: int
    path: str = field(metadata={BESIDE: True})
    text: ClassVar[str] = (
        "{self.operation} of agent {self.path} ({self.agent}) by itself or by one below it is refused; end the turn "
        "instead, or leave it to the parent or the host"
    )


@define(auto_exc=True)
class NotRunning(Refusal):
    """That turn of the agent is not the one that is running."""

    agent: int
    turn: int
    path: str = field(metadata={BESIDE: True})
    text: ClassVar[str] = (
        "turn {self.turn} of agent {self.path} ({self.agent}) is not running any more; stop its work, and follow up "
        "for another turn"
    )


@define(auto_exc=True)
class WaitCircle(Refusal):
    """J9: the wait could never end, because it leads to agents that wait for each other without a timeout."""

    agents: tuple[int, ...]
    paths: tuple[str, ...] = field(metadata={BESIDE: True})
    text: ClassVar[str] = (
        "this wait could never end, because these agents would wait for each other: {self.names}; give it a timeout, "
        "or end the turn and let the notice start the next one"
    )

    @property
    def names(self) -> str:
        """The agents as the message names them."""
        return named(self.agents, self.paths)


@define(auto_exc=True)
class UnknownMail(Refusal):
    """No mail with this number was ever accepted."""

    mail: int
    text: ClassVar[str] = "mail {self.mail} was never accepted; give the number that the request returned"


@define(auto_exc=True)
class MailRead(Refusal):
    """The mail is not unread any more."""

    mail: int
    text: ClassVar[str] = "mail {self.mail} is not unread any more; interrupt the turn that took it instead"


@define(auto_exc=True)
class NotSender(Refusal):
    """Only its sender or the host can withdraw a mail; a notice cannot be withdrawn at all."""

    mail: int
    text: ClassVar[str] = (
        "mail {self.mail} can be withdrawn only by its sender or the host (ask one of them), and not at all if it is a "
        "notice"
    )


@define(auto_exc=True)
class InvalidTimeout(Refusal):
    """A timeout of a wait, or the grace of a shutdown, that is not a number of seconds from 0 to `most`."""

    timeout: float
    most: float
    text: ClassVar[str] = "a timeout is {self.allowed}, not {self.timeout}"

    @property
    def allowed(self) -> str:
        """What it may be, as the message says it."""
        return f"0 to {self.most} seconds" if self.most < inf else "a finite number of seconds, 0 or more"


@define(auto_exc=True)
class SessionDraining(Refusal):
    """A shutdown has begun: no new work."""

    text: ClassVar[str] = "the session is shutting down and takes no new work; open it again from its log, and ask then"


@define(auto_exc=True)
class SessionClosed(Refusal):
    """The session is closed."""

    text: ClassVar[str] = "the session is closed; open it again from its log"


@define(auto_exc=True)
class StoreFailed(Refusal):
    """The store failed. What was acknowledged is durable; nothing more is accepted."""

    error: str
    text: ClassVar[str] = "the store failed ({self.error:.500}); the session can be opened again from its log"


REFUSALS: tuple[type[Refusal], ...] = (
    UnknownAgent,
    AgentClosed,
    AgentOpen,
    PathTaken,
    InvalidName,
    InvalidMessage,
    InvalidHeaders,
    DepthExceeded,
    TooManyAgents,
    ExecutionFull,
    LiveThreadsFull,
    QueueFull,
    MailboxFull,
    RootRefused,
    SelfRefused,
    NotRunning,
    WaitCircle,
    UnknownMail,
    MailRead,
    NotSender,
    InvalidTimeout,
    SessionDraining,
    SessionClosed,
    StoreFailed,
)
"""Every refusal there is."""
