"""References to agents and to requests.

A `Request` is the runtime's side of one request, a `Handle` the caller's. All handles of a request share it, so one
answer reaches every waiting caller.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol

from attrs import define, field, frozen

from statemachine.core.events import ROOT, WaitMode
from statemachine.core.exact import shown
from statemachine.core.facts import represent
from statemachine.core.machines import Identity
from statemachine.core.records import (
    Cause,
    MailAccepted,
    MailDemoted,
    MailDrained,
    MailWithdrawn,
    Outcome,
    TurnEnded,
    TurnReturned,
    TurnStarted,
)
from statemachine.core.session import Session
from statemachine.eventloops import Signal
from statemachine.runtime.errors import give_way
from statemachine.runtime.waits import TURN, Waits
from statemachine.stores.protocol import LogRecord

__all__ = ["AgentRef", "Handle", "Target"]


@frozen
class AgentRef:
    """An agent, and the number of the trigger mail that asked it for a turn."""

    id: int
    path: str
    mail: int

    __repr__ = represent


def copy_of(outcome: Outcome) -> Outcome:
    """Returns an outcome for a caller: nothing refuses assignments to it, and the core goes on with its own."""
    return Outcome(outcome.agent, outcome.turn, outcome.status, outcome.raw, outcome.cause, outcome.by)


class Asker(Protocol):
    """What a request needs from the session in which it was made."""

    session: Session
    has_ended: bool
    """Whether the session was shut down or has failed. Then requests get no more answers."""

    def signal(self) -> Signal:
        """Returns a new signal, for code to wait for."""
        ...

    def ended_by(self) -> Exception:
        """Returns why the session has ended."""
        ...

    def check_here(self) -> None:
        """Raises `WrongEventLoop` outside of the session's event loop."""
        ...


@define(eq=False)
class Request:
    """One request and its outcome."""

    ref: AgentRef
    _asker: Asker = field(repr=False)
    outcome: Outcome | None = field(default=None, init=False)
    """None: nothing yet."""
    place: int = field(default=0, init=False)
    """How many requests of the session were answered before it."""
    _changed: Signal | None = field(default=None, init=False, repr=False)

    def answer(self, outcome: Outcome, place: int) -> None:
        """Sets the outcome, which the core has told."""
        self.outcome = outcome
        self.place = place
        if self._changed is not None:
            self._changed.set()

    def end(self) -> None:
        """Ends the waits: no answer will come."""
        if self._changed is not None:
            self._changed.set()

    def wait(self) -> Coroutine[Any, Any, Outcome]:
        """Returns what came of it, as soon as it is known. In a turn's code this is a wait of that turn. Raises why the
        outcome will never be known, or the turn cannot wait for it.
        """
        turn = TURN.get()
        if turn is None or not turn.lasts_in(self._asker.session):
            return self.told()
        return self._awaited_in(turn)

    async def _awaited_in(self, turn: Waits) -> Outcome:
        await turn.until_answered((self.ref.mail,), WaitMode.ALL)
        return await self.told()

    async def told(self) -> Outcome:
        """Returns what came of it, as soon as it is known. The core is told nothing of this wait."""
        if self.outcome is None and not self._asker.has_ended:
            self._asker.check_here()
            if self._changed is None:
                self._changed = self._asker.signal()
            await self._changed.wait()
        if self.outcome is None:
            raise self._asker.ended_by()
        return copy_of(self.outcome)

    def is_of(self, session: Session) -> bool:
        """Tells whether it was made in that session."""
        return self._asker.session is session


@define(eq=False, repr=False)
class Handle:
    """A caller's handle of one request: gives its agent, and the outcome of the turn that takes it as input."""

    _request: Request

    def __repr__(self) -> str:
        return f"Handle({self.ref})"

    @property
    def ref(self) -> AgentRef:
        """The reference with which `AgentControl.handle` finds the request again, in this process or a later one."""
        return self._request.ref

    @property
    def id(self) -> int:
        """The agent's id."""
        return self._request.ref.id

    @property
    def path(self) -> str:
        """The agent's path."""
        return self._request.ref.path

    @property
    def is_answered(self) -> bool:
        """Whether the outcome is known. Then `outcome` returns it at once."""
        return self._request.outcome is not None

    async def outcome(self) -> Outcome:
        """Returns how the turn ended that took the request as input, as soon as it has; it waits without a bound of its
        own. Its cause is CLOSED if the agent was closed before. Raises `StoreFailed` if the session failed meanwhile,
        `SessionClosed` if it was shut down and the request stays in the log for the next opening.

        In a turn's code this is a wait of that turn, which lends its slot meanwhile, in whichever task of the turn it
        is awaited. If that turn's agent made the request, its notice counts as read. There it also raises `WaitCircle`
        if agents would wait for each other for ever, `Stalled` if no more turns may wait in memory, `SessionDraining`
        if the request's turn does not start any more because the session is shut down, and `NotRunning` in code that is
        shielded from the end of its turn.
        """
        try:
            return await self._request.wait()
        except Exception:
            await give_way()  # as `gives_way`, which would be one more coroutine for each turn
            raise


def requests_of(session: Session, handles: tuple[object, ...]) -> list[Request]:
    """Returns the requests that the handles hold. Raises `TypeError` for what is not a handle of this session."""
    return [request_of(session, handle) for handle in handles]


def request_of(session: Session, handle: object) -> Request:
    """Returns the request that a handle holds. Raises `TypeError` for what is not a handle of this session."""
    request = handle._request if isinstance(handle, Handle) else None  # pyright: ignore[reportPrivateUsage]
    if type(request) is not Request or not request.is_of(session):
        raise foreign(handle)
    return request


def foreign(handle: object) -> TypeError:
    """Returns what is raised for the handle of another session, or what is not a handle."""
    return TypeError(
        f"{shown(handle)} is not a handle of this session; give what its spawn, follow_up or start returned, or for an"
        " earlier opening of the session its handle(ref)"
    )


def check_own(session: Session, handle: Handle) -> Handle:
    """Returns the handle. Raises `TypeError` if it is one of another session."""
    request_of(session, handle)
    return handle


def is_at(session: Session, ref: AgentRef) -> bool:
    """Tells whether the agent with this number is at the path of the reference, or may have been before it was
    forgotten. If not, the reference is one of another session, which has the same numbers.
    """
    known = session.agents[ref.id] if 0 <= ref.id < len(session.agents) else None
    return known is None or known.identity is Identity.FORGOTTEN or known.path == ref.path


Target = str | int | AgentRef | Handle
"""Names an agent: by path, by id, or by a reference. A path means the open agent there."""


def outcome_in(rollout: tuple[LogRecord, ...], mail: int, live_threads: bool) -> Outcome | None:
    """Returns what came of a request, from the rollout of the agent that it was sent to; None: nothing yet.

    It is answered when it is withdrawn or demoted, or else by the first turn to end after it was accepted which had
    read it, or which ended before it started, or with which its agent was closed. A turn that is returned answers
    nothing: what it had read is unread again.
    """
    accepted = taken = False
    for record in rollout:
        if isinstance(record, MailAccepted) and record.mail == mail:
            accepted = True
        elif not accepted:
            continue
        elif (isinstance(record, MailWithdrawn) and record.mail == mail) or (
            isinstance(record, MailDemoted) and mail in record.mails
        ):
            return record.outcome
        elif isinstance(record, TurnStarted | MailDrained):
            taken = True
        elif isinstance(record, TurnReturned):
            taken = False
        elif isinstance(record, TurnEnded) and (
            taken or closed_with(record.outcome, live_threads) or not_started(rollout, record.outcome)
        ):
            return record.outcome
    return None


def closed_with(outcome: Outcome, live_threads: bool) -> bool:
    """Tells whether the end of this turn closed the agent. With `LIVE_THREADS`, the death of its thread does."""
    if outcome.cause in (Cause.THREAD_DIED, Cause.LOAD_DIED):
        return live_threads and outcome.agent != ROOT
    return outcome.cause is Cause.CLOSED


def not_started(rollout: tuple[LogRecord, ...], outcome: Outcome) -> bool:
    """Tells whether this turn ended before it started."""
    return not any(isinstance(r, TurnStarted) and r.turn == outcome.turn for r in rollout)
