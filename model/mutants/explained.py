"""Says of each mutant that survived why it did. Written by people, after they had looked."""

from __future__ import annotations

from attrs import frozen

EQUIVALENT = "equivalent"
"""No caller can tell it from the core: it is slower or larger at most."""
MISSED = "missed"
"""A caller can, and no check of the evidence does."""
KINDS = (EQUIVALENT, MISSED)


@frozen
class Explanation:
    """Why a mutant survives: one of the kinds above, and the reason."""

    kind: str
    reason: str


SET = Explanation(EQUIVALENT, "The dict is a set in order: its keys are read, and its values never.")
EXPLAINED: dict[str, Explanation] = {
    "core.waits Waits.begin: `self.on_request.setdefault(request, {})[wait.number] = None`"
    ' -> `self.on_request.setdefault(request, {})[wait.number] = ""`': SET,
    'core.turns requeue: `s.slots.entitled[agent.id] = None` -> `s.slots.entitled[agent.id] = ""`': SET,
    'core.residency Residents.load_failed: `self.unsettled[agent.id] = None` -> `self.unsettled[agent.id] = ""`': SET,
}
"""The id of a mutant -> why it survives."""
