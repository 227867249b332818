"""References to agents, and to what was asked of them.

A `Request` is the runtime's side of one request, a `Handle` what a caller holds of it. Every handle on a request shows
the same one, so an answer is given once and everybody who waits has it.
"""

from __future__ import annotations

from typing import Protocol

from attrs import define, field

from statemachine.core.events import ROOT
from statemachine.core.facts import fact
from statemachine.core.records import Cause, MailAccepted, MailDrained, Outcome, TurnEnded, TurnStarted
from statemachine.eventloops import Signal
from statemachine.stores.protocol import LogRecord

__all__ = ["AgentRef", "Handle", "Target"]


@fact
class AgentRef:
    """An agent, and the number of the trigger mail that asked it for a turn."""

    id: int
    path: str
    mail: int


class Asker(Protocol):
    """What a request has to know of the session in which it was made."""

    has_ended: bool
    """Has the session been shut down, or failed? Then nothing is answered any more."""

    def signal(self) -> Signal:
        """A new signal, for code to wait for."""
        ...

    def ended_by(self) -> Exception:
        """Why the session has ended."""
        ...


@define(eq=False)
class Request:
    """One request, and what came of it."""

    ref: AgentRef
    _asker: Asker = field(repr=False)
    outcome: Outcome | None = field(default=None, init=False)
    """None: nothing yet."""
    _changed: Signal | None = field(default=None, init=False, repr=False)

    def answer(self, outcome: Outcome) -> None:
        """The core says what came of it."""
        self.outcome = outcome
        self.end()

    def end(self) -> None:
        """Nothing more will come."""
        if self._changed is not None:
            self._changed.set()

    async def wait(self) -> Outcome:
        """What came of it, as soon as it is known. Raises why it never will be.

        Whoever awaits this within a turn is no waiting turn as far as the core knows. Here is where to tell it.
        """
        if self.outcome is None and not self._asker.has_ended:
            if self._changed is None:
                self._changed = self._asker.signal()
            await self._changed.wait()
        if self.outcome is None:
            raise self._asker.ended_by()
        return self.outcome


@define(eq=False, repr=False)
class Handle:
    """The hold on one request: on its agent, and on the outcome of the turn that takes it as input."""

    _request: Request

    def __repr__(self) -> str:
        return f"Handle({self.ref})"

    @property
    def ref(self) -> AgentRef:
        """What finds the request again, in this process or a later one: `AgentControl.handle`."""
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
        """Is the outcome known? Then `outcome` gives it at once."""
        return self._request.outcome is not None

    async def outcome(self) -> Outcome:
        """How the turn ended that took the request as input, as soon as it has; it waits without a bound of its own.
        Its cause is CLOSED if the agent was closed before. Raises `StoreFailed` if the session failed meanwhile,
        `SessionClosed` if it was shut down and the request waits in the log for the next opening.

        Do not await it in a turn, which keeps its slot meanwhile: there, `Turn.wait` is what the core knows of.
        """
        return await self._request.wait()


Target = str | int | AgentRef | Handle
"""How an agent is named: by path, by id, or by a reference. A path means the open agent there."""


def outcome_in(rollout: tuple[LogRecord, ...], mail: int, live_threads: bool) -> Outcome | None:
    """What came of a request, from the rollout of the agent that it was sent to; None: nothing yet.

    It is answered by the first turn to end after it was accepted which had read it, or which ended before it started,
    or with which its agent was closed.
    """
    accepted = taken = False
    for record in rollout:
        if isinstance(record, MailAccepted) and record.mail == mail:
            accepted = True
        elif not accepted:
            continue
        elif isinstance(record, TurnStarted | MailDrained):
            taken = True
        elif isinstance(record, TurnEnded) and (
            taken or closed_with(record.outcome, live_threads) or not_started(rollout, record.outcome)
        ):
            return record.outcome
    return None


def closed_with(outcome: Outcome, live_threads: bool) -> bool:
    """Was the agent closed when this turn ended? With `LIVE_THREADS`, the death of its thread closes an agent."""
    if outcome.cause in (Cause.THREAD_DIED, Cause.LOAD_DIED):
        return live_threads and outcome.agent != ROOT
    return outcome.cause is Cause.CLOSED


def not_started(rollout: tuple[LogRecord, ...], outcome: Outcome) -> bool:
    """Did this turn end before it started?"""
    return not any(isinstance(r, TurnStarted) and r.turn == outcome.turn for r in rollout)
