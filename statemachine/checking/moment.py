"""The input of a property: one state, or one step with the state before and after. Read-only by agreement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from attrs import define, field

from statemachine.checking.whole import difference
from statemachine.core.agents import Agent
from statemachine.core.config import SessionConfig
from statemachine.core.effects import Step
from statemachine.core.events import Event
from statemachine.core.session import Session

T = TypeVar("T")


@define(eq=False, weakref_slot=False)
class Moment:
    """One state or step. `before`, `event` and `step` are None for a state."""

    after: Session
    before: Session | None = None
    event: Event | None = None
    step: Step | None = None
    unchanged: bool | None = None
    """Whether the session is as it was before the step. None: not known yet; `is_unchanged` finds out."""
    sorted_out: dict[type, list[Any]] | None = field(default=None, repr=False)
    """The step's records and effects by class, filled by the first call of `of_kind`."""
    differing: list[tuple[Agent, Agent]] | None = field(default=None, repr=False)
    """The result of `changed`, filled by its first call."""

    def is_unchanged(self) -> bool:
        """Tells whether the session is as it was before the step."""
        if self.unchanged is not None:
            return self.unchanged
        return self.before is not None and difference(self.before, self.after) is None

    def of_kind(self, kind: type[T]) -> Sequence[T]:
        """Returns the step's records or effects of one class, in their order."""
        found = self.sorted_out
        return (self.kinds() if found is None else found).get(kind, ())

    def kinds(self) -> dict[type, list[Any]]:
        """Returns the step's records and effects by their class."""
        found = self.sorted_out
        if found is None:
            found = self.sorted_out = {}
            if self.step is not None:
                for item in (*self.step.records, *self.step.effects):
                    found.setdefault(item.__class__, []).append(item)
        return found

    def changed(self) -> list[tuple[Agent, Agent]]:
        """Returns, as pairs of before and after, the agents that existed before and now have another status, outcome,
        mailbox, residency or settings.
        """
        found = self.differing
        if found is None:
            assert self.before is not None
            found = self.differing = [
                (a, b)
                for a, b in zip(self.before.agents, self.after.agents, strict=False)
                if a.status is not b.status
                or a.mailbox is not b.mailbox
                or a.residency is not b.residency
                or a.outcome is not b.outcome
                or a.settings is not b.settings
            ]
        return found

    @property
    def agents(self) -> list[Agent]:
        """All agents, by id."""
        return self.after.agents

    @property
    def config(self) -> SessionConfig:
        """The session's configuration."""
        return self.after.config

    @property
    def cap(self) -> int:
        """The number of slots that sub-agents share."""
        return self.after.config.execution_cap
