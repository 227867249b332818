"""What a property looks at: one state, or one step with the state before and after. Read-only by agreement."""

from __future__ import annotations

from typing import Any

from attrs import field

from statemachine.agents import Agent
from statemachine.config import SessionConfig
from statemachine.effects import Step
from statemachine.events import Event
from statemachine.facts import fact
from statemachine.session import Session


@fact
class Moment:
    """`before`, `event` and `step` are there for a step, missing for a state."""

    after: Session
    before: Session | None = None
    event: Event | None = None
    step: Step | None = None
    unchanged: bool | None = None
    """Is the session known to be as it was? None: `is_unchanged` finds out."""
    sorted_out: dict[type, list[Any]] = field(factory=dict[type, list[Any]], eq=False, repr=False)
    """The step's records and effects by class, once anybody has asked for some."""

    def is_unchanged(self) -> bool:
        """Is the session as it was before the step?"""
        if self.unchanged is not None:
            return self.unchanged
        return self.before is not None and self.before.fingerprint() == self.after.fingerprint()

    def of_kind(self, kind: type) -> list[Any]:
        """The step's records or effects of one class, in their order."""
        found = self.sorted_out
        if not found and self.step is not None:
            for item in (*self.step.records, *self.step.effects):
                found.setdefault(item.__class__, []).append(item)
        return found.get(kind, [])

    @property
    def agents(self) -> list[Agent]:
        """Every agent, by id."""
        return self.after.agents

    @property
    def config(self) -> SessionConfig:
        """The session's configuration."""
        return self.after.config

    @property
    def cap(self) -> int:
        """Slots that sub-agents share."""
        return self.after.config.execution_cap
