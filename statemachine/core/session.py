"""The session: a pure state machine, `event -> records, reply, effects` (semantics.md section 5).

It does no I/O, reads no clock, draws no random number and starts no thread; the same events give the same steps. An
operation (`operations.py`) or a report (`reports.py`) changes what it is about, with the moves of a turn in `turns.py`;
then the joint rules (`joint.py`) are applied until none of them fires. All of them work on one `State` (`state.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from statemachine.core.effects import Refused, Reply, Stale, Step
from statemachine.core.events import Event
from statemachine.core.fingerprint import fingerprint
from statemachine.core.joint import settle
from statemachine.core.operations import OPERATIONS
from statemachine.core.reports import REPORTS
from statemachine.core.state import State

__all__ = ["Session"]

HANDLERS: dict[type, Callable[[State, Any], Reply]] = {**OPERATIONS, **REPORTS}
"""Event class -> what it does."""


class Session(State):
    """One tree of agents. Not safe for use from several threads at once; a step takes microseconds, so use a lock."""

    __slots__ = ()

    def handle(self, event: Event) -> Step:
        """Takes one event to its step: all of it, or (refused, stale) none of it.

        Raises `TypeError` for what is not an event. Any other exception is a defect of the core: the session fails, as
        with a failed write, because half a step must not become durable.
        """
        handler = HANDLERS.get(event.__class__)
        if handler is None:
            raise TypeError(f"{event!r} is not an event of statemachine.core.events")
        self.records, self.effects = [], []
        try:
            reply = handler(self, event)
            if reply.__class__ is not Refused and reply.__class__ is not Stale:
                settle(self)
        except BaseException as error:
            self.fail(f"defect in the core: {error!r}")
            raise
        return Step(tuple(self.records), reply, tuple(self.effects))

    def fingerprint(self) -> tuple[Any, ...]:
        """Everything that decides how the session goes on, as a hashable value (`fingerprint.py`)."""
        return fingerprint(self)
