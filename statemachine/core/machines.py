"""The machines: which states there are, and which trigger leads from where to where.

A session is a tree of agents, and six small machines say everything about it (semantics.md section 3):

- *Identity*, one per agent: is it known, open, closed?
- *Residency*, one per agent: is its thread in memory, or on its way in or out?
- *Turn*, one per agent: does it work, or wait to work, or how did its last turn end?
- *Slot*, one per execution slot: is the right to have a turn free, reserved or in use?
- *Mail*, one per message: unread, read by one turn, or a dead letter?
- *Session*, one: open, draining, closed, failed?

There are two kinds of moves. Most are caused by an event: an operation of the host or of an agent, a report of a
thread, the passing of time. The others are caused by the joint state of several machines, by the joint rules J1 to
J9 (`joint.py`), which are applied after every event until none of them fires. Joint rules look at the state, never at
the event, so no wake-up can be lost.

Two house rules. All machines are declared here, once, as data. And nothing here knows more than it must: no agent, no
slot count, no clock; a guard is a sentence for the reader, and the code that decides it is named in it.

From the declaration come three things: the look-ups that the core runs (`Machine.moves`), the `transitions` machines
for stepping and drawing (`diagrams.py`), and the tables of `specs/machines.md`. `tests/core/test_machines.py` proves
that the first two agree on every (state, trigger) pair. A pair that is not in the table is refused by name
(`IllegalMove`) and changes nothing.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Generic, TypeVar

from attrs import field, frozen

__all__ = [
    "IDENTITY",
    "MACHINES",
    "MAIL",
    "RESIDENCY",
    "SESSION",
    "SLOT",
    "TURN",
    "Identity",
    "IllegalMove",
    "Machine",
    "MailState",
    "Moves",
    "Residency",
    "Row",
    "SessionState",
    "SlotState",
    "TurnState",
]


class Identity(IntEnum):
    """Is the agent part of the tree? A closed agent keeps its id and can be resumed."""

    UNKNOWN = 0
    OPEN = 1
    CLOSED = 2
    FORGOTTEN = 3


class Residency(IntEnum):
    """Is the agent's thread in memory? Everything but UNLOADED occupies a residency slot (S2)."""

    UNLOADED = 0
    LOADING = 1
    RESIDENT = 2
    UNLOADING = 3


class TurnState(IntEnum):
    """What the agent's turn does. This is the agent's *status* (S8); NEW and the three ends are the idle states."""

    NEW = 0
    COMPLETED = 1
    ERRORED = 2
    INTERRUPTED = 3
    QUEUED = 4
    STARTING = 5
    RUNNING = 6
    STOPPING = 7
    WAITING = 8
    """It waits, without a slot: another turn has it (J7)."""
    RETURNING = 9
    """A wait of it is over: it goes on as soon as it has a slot."""

    @property
    def is_idle(self) -> bool:
        """No turn: neither running nor asked for."""
        return self <= LAST_IDLE


LAST_IDLE = TurnState.INTERRUPTED
"""Reading a member from its class takes 0.1 us in Python 3.11, so code that runs in every turn reads it once."""


class SlotState(IntEnum):
    """An execution slot: reserved for a turn that is starting, active while it runs or stops."""

    FREE = 0
    RESERVED = 1
    ACTIVE = 2


class MailState(IntEnum):
    """Where an accepted mail is: in the mailbox, read by exactly one turn, or a dead letter (S5)."""

    ACCEPTED = 0
    READ = 1
    DEAD = 2


class SessionState(IntEnum):
    """The session as a whole."""

    OPEN = 0
    DRAINING = 1
    CLOSED = 2
    FAILED = 3


S = TypeVar("S", bound=IntEnum)


class IllegalMove(Exception):
    """A trigger was pulled in a state that has no row for it. Nothing was changed.

    Raised only when the core itself is wrong: operations are checked before, and stale reports are fenced before.
    """

    def __init__(self, machine: str, trigger: str, state: IntEnum) -> None:
        super().__init__(f"{machine} has no move '{trigger}' from {state.name.lower()}")
        self.machine = machine
        self.trigger = trigger
        self.state = state


class Moves(dict[S, S]):
    """One trigger of one machine, compiled: `moves[state]` is the state it leads to, or raises `IllegalMove`."""

    __slots__ = ("machine", "trigger")

    def __init__(self, machine: str, trigger: str, pairs: dict[S, S]) -> None:
        super().__init__(pairs)
        self.machine = machine
        self.trigger = trigger

    def __missing__(self, state: S) -> S:
        raise IllegalMove(self.machine, self.trigger, state)


@frozen
class Row(Generic[S]):
    """One line of a table: pulled in any of `sources`, `trigger` leads to `target`. `cause` says when, for readers."""

    trigger: str
    sources: tuple[S, ...]
    target: S
    cause: str


@frozen
class Machine(Generic[S]):
    """A state machine as data. `initial` is where a new one starts."""

    name: str
    initial: S
    rows: tuple[Row[S], ...]
    meaning: str
    states: tuple[S, ...] = field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "states", tuple(type(self.initial)))
        pairs = [(row.trigger, source) for row in self.rows for source in row.sources]
        assert len(pairs) == len(set(pairs)), f"{self.name}: a (trigger, source) pair stands in two rows"

    @property
    def triggers(self) -> tuple[str, ...]:
        """Every trigger once, in the order of the table."""
        return tuple(dict.fromkeys(row.trigger for row in self.rows))

    def moves(self, trigger: str) -> Moves[S]:
        """Compiles one trigger to a look-up. Raises `KeyError` for a trigger that the table does not have."""
        if trigger not in self.triggers:
            raise KeyError(f"{self.name} has no trigger '{trigger}'; it has {', '.join(self.triggers)}")
        return COMPILED.setdefault((self.name, trigger), Moves(self.name, trigger, self._pairs(trigger)))

    def _pairs(self, trigger: str) -> dict[S, S]:
        return {source: row.target for row in self.rows if row.trigger == trigger for source in row.sources}


COMPILED: dict[tuple[str, str], Moves[Any]] = {}
"""Every compiled look-up, one object per (machine, trigger); coverage is counted on these (`model/coverage.py`)."""


IDENTITY = Machine(
    "Identity",
    Identity.UNKNOWN,
    (
        Row("spawn", (Identity.UNKNOWN,), Identity.OPEN, "accepted `spawn`"),
        Row(
            "close",
            (Identity.OPEN,),
            Identity.CLOSED,
            "accepted `close` of the agent or of an ancestor (`LIVE_THREADS`: or its death)",
        ),
        Row("resume", (Identity.CLOSED,), Identity.OPEN, "accepted `resume`"),
        Row("forget", (Identity.CLOSED,), Identity.FORGOTTEN, "accepted `forget` of the agent or of an ancestor"),
    ),
    "Is the agent part of the tree?",
)

RESIDENCY = Machine(
    "Residency",
    Residency.UNLOADED,
    (
        Row("load", (Residency.UNLOADED,), Residency.LOADING, "J4: a residency slot is free"),
        Row("loaded", (Residency.LOADING,), Residency.RESIDENT, "the thread reports, generation matches"),
        Row("load_failed", (Residency.LOADING,), Residency.UNLOADED, "error or `load_timeout`"),
        Row("evict", (Residency.RESIDENT,), Residency.UNLOADING, "N1, N2: J5 or `idle_ttl`"),
        Row(
            "keep",
            (Residency.UNLOADING,),
            Residency.RESIDENT,
            "J6: the agent got a slot; N3: the flush failed or took longer than `flush_timeout`",
        ),
        Row("gone", (Residency.UNLOADING,), Residency.UNLOADED, "N3: the flush is durable"),
        Row(
            "died",
            (Residency.LOADING, Residency.RESIDENT, Residency.UNLOADING),
            Residency.UNLOADED,
            "the thread is lost, or was removed from outside (close, `stop_grace` over)",
        ),
    ),
    "Is the agent's thread in memory?",
)

STARTED = (TurnState.RUNNING, TurnState.STOPPING, TurnState.WAITING, TurnState.RETURNING)
"""A turn whose code is at work."""

TURN = Machine(
    "Turn",
    TurnState.NEW,
    (
        Row(
            "request",
            (TurnState.NEW, TurnState.COMPLETED, TurnState.ERRORED, TurnState.INTERRUPTED),
            TurnState.QUEUED,
            "J1: unread trigger mail",
        ),
        Row(
            "admit",
            (TurnState.QUEUED,),
            TurnState.STARTING,
            "J2: a slot is free; the deepest agent first, unless a turn is due",
        ),
        Row("start", (TurnState.STARTING,), TurnState.RUNNING, "J3: resident; drains the mailbox"),
        Row("lend", (TurnState.RUNNING,), TurnState.WAITING, "J7: it waits, and its slot is wanted"),
        Row("call_back", (TurnState.WAITING,), TurnState.RETURNING, "a wait of it is over"),
        Row(
            "go_on",
            (TurnState.RETURNING,),
            TurnState.RUNNING,
            "J2: a slot is free; before the ready queue, first come first served",
        ),
        Row("finish", STARTED, TurnState.COMPLETED, "the thread reports, turn number matches"),
        Row("fail", STARTED, TurnState.ERRORED, "the thread reports, or a running turn's thread died"),
        Row(
            "stop",
            (TurnState.RUNNING, TurnState.WAITING, TurnState.RETURNING),
            TurnState.STOPPING,
            "interrupt, close, `turn_timeout`, or the end of a shutdown's grace",
        ),
        Row(
            "abort",
            (TurnState.STOPPING, TurnState.STARTING, TurnState.QUEUED),
            TurnState.INTERRUPTED,
            "the thread reports or died, or `stop_grace` is over; at once if the turn had not started",
        ),
        Row(
            "return",
            (TurnState.RUNNING, TurnState.WAITING, TurnState.RETURNING),
            TurnState.NEW,
            "a crash or the death of its thread ended it, and the agent has attempts left",
        ),
        Row(
            "cannot_start",
            (TurnState.STARTING,),
            TurnState.ERRORED,
            "load failed, or J5: no residency slot could be made free",
        ),
        Row(
            "next",
            (TurnState.COMPLETED, TurnState.ERRORED, TurnState.INTERRUPTED),
            TurnState.STARTING,
            "in the step that ended a turn: trigger mail is unread, and no other turn comes first",
        ),
        Row("requeue", (TurnState.STARTING,), TurnState.QUEUED, "the session drains: no turn starts any more"),
    ),
    "What does the agent's turn do?",
)

SLOT = Machine(
    "Slot",
    SlotState.FREE,
    (
        Row("reserve", (SlotState.FREE,), SlotState.RESERVED, "admit, next (`LIVE_THREADS`: spawn, resume)"),
        Row("activate", (SlotState.RESERVED,), SlotState.ACTIVE, "start"),
        Row("pass_on", (SlotState.ACTIVE,), SlotState.RESERVED, "`LIVE_THREADS`: every end of a turn"),
        Row("lend", (SlotState.ACTIVE,), SlotState.FREE, "J7: its turn waits, and another one goes on or starts"),
        Row("go_on", (SlotState.FREE,), SlotState.ACTIVE, "J2: a returning turn has a slot again"),
        Row(
            "release",
            (SlotState.RESERVED, SlotState.ACTIVE),
            SlotState.FREE,
            "the turn ended, or never started (`LIVE_THREADS`: close or death)",
        ),
    ),
    "Who has the right to a turn?",
)

MAIL = Machine(
    "Mail",
    MailState.ACCEPTED,
    (
        Row("demote", (MailState.ACCEPTED,), MailState.ACCEPTED, "its turn ended before it started: now queue-only"),
        Row("read", (MailState.ACCEPTED,), MailState.READ, "a turn started or drained"),
        Row("bury", (MailState.ACCEPTED,), MailState.DEAD, "its agent is closed, or it is withdrawn"),
        Row("return", (MailState.READ,), MailState.ACCEPTED, "the turn that had read it is returned"),
    ),
    "Where is an accepted mail?",
)

SESSION = Machine(
    "Session",
    SessionState.OPEN,
    (
        Row("shutdown", (SessionState.OPEN,), SessionState.DRAINING, "accepted `shutdown`"),
        Row("drained", (SessionState.DRAINING,), SessionState.CLOSED, "no turn is running, every rollout was flushed"),
        Row("fail", (SessionState.OPEN, SessionState.DRAINING), SessionState.FAILED, "a write to the store failed"),
    ),
    "Does the session take work?",
)

MACHINES: tuple[Machine[Any], ...] = (IDENTITY, RESIDENCY, TURN, SLOT, MAIL, SESSION)
