"""The session: a pure state machine, `event -> records, reply, effects` (semantics.md section 5).

It does no I/O, reads no clock, draws no random number and starts no thread; the same events give the same steps. What
happens to an event is read in the order of the imports below: an operation (`operations.py`) or a report
(`reports.py`) changes what it is about, with the moves of a turn in `turns.py`; then the joint rules (`joint.py`) are
applied until none of them fires. The facts live in four rooms: `ledger` (what is durable), `slots` (who may have a
turn), `residents` (who is in memory), `deadlines` (what is bounded).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from attrs import define

from statemachine import guard as _guard  # noqa: F401  # pyright: ignore[reportUnusedImport]  (see there)
from statemachine.config import Notice, SessionConfig, SlotPolicy
from statemachine.deadlines import Deadlines
from statemachine.effects import Effect, Refused, Reply, Stale, Step
from statemachine.ledger import Ledger
from statemachine.machines import SESSION, Residency, SessionState
from statemachine.residency import Residents
from statemachine.slots import Slots

if TYPE_CHECKING:
    from statemachine.agents import Agent
    from statemachine.events import Event
    from statemachine.records import Record

FAIL = SESSION.moves("fail")


@define(eq=False)
class Waiting:
    """A turn that waits: for mail, or for one of `targets` to be done."""

    turn: int
    targets: tuple[int, ...]


@define
class Draining:
    """A shutdown under way. Agents by id."""

    to_flush: dict[int, None]
    """Resident agents whose rollout is still to be flushed."""
    done: tuple[int, ...] = ()
    """Turns that finished within the grace."""
    interrupted: tuple[int, ...] = ()
    unflushed: tuple[int, ...] = ()

    def add(self, agent: int, was_interrupted: bool) -> None:
        """A running turn of the agent came to its end."""
        if was_interrupted:
            self.interrupted += (agent,)
        else:
            self.done += (agent,)

    def lose(self, agent: int) -> None:
        """The agent's thread is gone, and if its rollout was still to be flushed, it was not."""
        if agent in self.to_flush:
            del self.to_flush[agent]
            self.unflushed += (agent,)

    def copy(self) -> Draining:
        """An independent copy."""
        return Draining(self.to_flush.copy(), self.done, self.interrupted, self.unflushed)


class Session:
    """One tree of agents. Not safe for use from several threads at once; a step takes microseconds, so use a lock."""

    __slots__ = (
        "agents",
        "config",
        "deadlines",
        "draining",
        "effects",
        "error",
        "ledger",
        "live_threads",
        "now",
        "records",
        "residents",
        "slots",
        "stale_reports",
        "state",
        "waits",
    )

    def __init__(self, config: SessionConfig | None = None, now: float = 0.0) -> None:
        """An open session with its root. `now` is the time in seconds, on the clock of later `Tick` events."""
        self._set_up(config or SessionConfig(), now)
        self.ledger = Ledger(self.config.notice is not Notice.NONE)
        self.agents: list[Agent] = self.ledger.agents

    def _set_up(self, config: SessionConfig, now: float) -> None:
        self.config = config
        self.live_threads = config.slot_policy is SlotPolicy.LIVE_THREADS
        self.state = SessionState.OPEN
        self.now = now
        self.slots = Slots(config.execution_cap)
        self.residents = Residents(config.max_resident)
        self.deadlines = Deadlines()
        self.waits: dict[int, Waiting] = {}
        """Agent -> what its turn waits for, in the order in which they began to wait."""
        self.draining: Draining | None = None
        self.error = ""
        """Why the session failed."""
        self.stale_reports = 0
        """Reports that were ignored (S9)."""
        self.records: list[Record] = []
        self.effects: list[Effect] = []

    def handle(self, event: Event) -> Step:
        """Takes one event to its step: all of it, or (refused, stale) none of it.

        Raises `TypeError` for what is no event. Any other exception is a defect of the core: the session fails, as
        with a failed write, because half a step must not become durable.
        """
        handler = HANDLERS.get(event.__class__)
        if handler is None:
            raise TypeError(f"{event!r} is no event of statemachine.events")
        self.records, self.effects = [], []
        try:
            reply = handler(self, event)
            if reply.__class__ is not Refused and reply.__class__ is not Stale:
                settle(self)
        except BaseException as error:
            self.fail(f"defect in the core: {error!r}")
            raise
        return Step(tuple(self.records), reply, tuple(self.effects))

    def fail(self, error: str) -> None:
        """The session takes nothing more (B49: half a step is never shown)."""
        if self.state in FAIL:
            self.state = FAIL[self.state]
            self.error = error

    def fork(self) -> Session:
        """An independent copy, cheap enough to take one per explored transition."""
        other = Session.__new__(Session)
        other.config = self.config
        other.live_threads = self.live_threads
        other.state = self.state
        other.now = self.now
        other.ledger = self.ledger.copy()
        other.agents = other.ledger.agents
        other.slots = self.slots.copy()
        other.residents = self.residents.copy()
        other.deadlines = self.deadlines.copy()
        other.waits = self.waits.copy()
        other.draining = None if self.draining is None else self.draining.copy()
        other.error = self.error
        other.stale_reports = self.stale_reports
        other.records, other.effects = [], []
        return other

    def fingerprint(self) -> tuple[Any, ...]:
        """Everything that decides how the session goes on, as a hashable value (`fingerprint.py`)."""
        return fingerprint(self)

    # What the rooms' users ask for

    def begin_wait(self, agent: int, turn: int, targets: tuple[int, ...]) -> None:
        """The running turn waits."""
        self.waits[agent] = Waiting(turn, targets)

    def begin_draining(self) -> None:
        """The shutdown begins: everything that is in memory now is to be flushed."""
        resident = [agent.id for agent in self.agents if agent.residency is Residency.RESIDENT]
        self.draining = Draining(dict.fromkeys(resident))

    def agent(self, agent: int) -> Agent | None:
        """The agent with this id, if there ever was one."""
        return self.agents[agent] if 0 <= agent < len(self.agents) else None

    def find(self, path: str) -> int | None:
        """The id of the open agent at this path (S7), loaded or not."""
        return self.ledger.by_path.get(path)

    def subtree(self, agent: int) -> Iterable[Agent]:
        """The agent and all below it, open or closed, breadth first."""
        line = [agent]
        for member in line:
            found = self.agents[member]
            line.extend(found.children or ())
            yield found


from statemachine.fingerprint import fingerprint  # noqa: E402
from statemachine.joint import settle  # noqa: E402
from statemachine.operations import OPERATIONS  # noqa: E402
from statemachine.reports import REPORTS  # noqa: E402

HANDLERS: dict[type, Callable[[Session, Any], Reply]] = {**OPERATIONS, **REPORTS}
"""Event class -> what it does."""
