"""References to agents, and to what was asked of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, field

from statemachine.core.events import ROOT
from statemachine.core.facts import fact
from statemachine.core.machines import TurnState
from statemachine.core.records import MailAccepted, MailDrained, Outcome, TurnEnded, TurnStarted
from statemachine.eventloops import Signal

if TYPE_CHECKING:
    from statemachine.runtime.control import AgentControl
    from statemachine.stores.protocol import LogRecord


@fact
class AgentRef:
    """An agent, and the number of the trigger mail that asked it for a turn."""

    id: int
    path: str
    mail: int


@define(eq=False)
class Handle:
    """The host's hold on one request: on its agent, and on the outcome of the turn that takes it as input."""

    ref: AgentRef
    _control: AgentControl = field(repr=False)
    _answer: Outcome | None = field(default=None, init=False)
    _changed: Signal | None = field(default=None, init=False, repr=False)

    @property
    def id(self) -> int:
        """The agent's id."""
        return self.ref.id

    @property
    def path(self) -> str:
        """The agent's path."""
        return self.ref.path

    @property
    def is_answered(self) -> bool:
        """Is the outcome known? Then `outcome` gives it at once."""
        return self._answer is not None

    def answer(self, outcome: Outcome) -> None:
        """The core says what came of the request. For the runtime."""
        self._answer = outcome
        self.end()

    def end(self) -> None:
        """Nothing more will come. For the runtime."""
        if self._changed is not None:
            self._changed.set()

    async def outcome(self) -> Outcome:
        """How the turn ended that took the request as input, as soon as it has; it waits without a bound of its own.
        INTERRUPTED with "closed": the agent was closed before. Raises `StoreFailed` if the session failed meanwhile,
        `SessionClosed` if it was shut down and the request waits in the log for the next opening.

        Do not await it in a turn, which keeps its slot meanwhile: there, `Turn.wait` is what the core knows of.
        """
        if self._answer is None and not self._control.has_ended:
            if self._changed is None:
                self._changed = self._control.engine.signal()
            await self._changed.wait()
        if self._answer is None:
            raise self._control.ended_by()
        return self._answer


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
    """Was the agent closed when this turn ended? Its result says so: what user code says is no reason of an interrupt,
    and in an error the name of its class comes first.
    """
    if outcome.status is TurnState.INTERRUPTED and outcome.result == "closed":
        return True
    may_close = live_threads and outcome.agent != ROOT
    return may_close and outcome.result.startswith("its thread died") and outcome.status is not TurnState.COMPLETED


def not_started(rollout: tuple[LogRecord, ...], outcome: Outcome) -> bool:
    """Did this turn end before it started?"""
    return not any(isinstance(r, TurnStarted) and r.turn == outcome.turn for r in rollout)
