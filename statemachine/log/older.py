"""What versions before causes were recorded wrote of how a turn ended: its status, and words.

The cause is told from the words here, once, when such a file or trace is read, and nowhere else. Who interrupted a turn
or closed its agent they do not say, and an interrupt and the end of a shutdown's grace have the same words. What a
turn's code returned is told by the status; what it raised begins with the name of a class, unless whoever ran the core
chose other words.
"""

from __future__ import annotations

from typing import Any

from statemachine.core.machines import TurnState
from statemachine.core.records import Cause

ERRORED: tuple[tuple[str, Cause], ...] = (
    ("its thread died: ", Cause.THREAD_DIED),
    ("load failed: its thread died: ", Cause.LOAD_DIED),
    ("load failed: no answer for ", Cause.LOAD_TIMED_OUT),
    ("load failed: ", Cause.LOAD_FAILED),
    ("no residency slot: ", Cause.NO_ROOM),
    ("", Cause.FAILED),
)
INTERRUPTED: tuple[tuple[str, Cause], ...] = (
    ("closed", Cause.CLOSED),
    ("its thread died", Cause.THREAD_DIED),
    ("interrupted before it started", Cause.NOT_STARTED),
    ("interrupted by a crash", Cause.CRASHED),
    ("interrupted; it did not stop within ", Cause.NOT_STOPPED),
    ("", Cause.INTERRUPTED),
)
"""How the words begin, and what they tell. The first that fits counts."""

STATUS = {status.name.lower(): status for status in TurnState}
OUTCOME_FIELDS = {"agent", "turn", "status", "result"}
"""All that an outcome had."""


def cause_in_words(status: TurnState, words: str) -> Cause:
    """What ended a turn that left this status and these words."""
    if status is TurnState.COMPLETED:
        return Cause.FINISHED
    known = ERRORED if status is TurnState.ERRORED else INTERRUPTED
    return next(cause for beginning, cause in known if words.startswith(beginning))


def with_causes(found: Any) -> Any:
    """The JSON of a trace's facts, with the causes that version 1 did not have. What is no outcome stays as it is."""
    if found.__class__ is list:
        return [with_causes(one) for one in found]
    if found.__class__ is not dict:
        return found
    fields = {name: with_causes(value) for name, value in found.items()}
    status, words = fields.get("status"), fields.get("result")
    if fields.keys() == OUTCOME_FIELDS and isinstance(words, str) and status in STATUS:
        fields |= {"cause": cause_in_words(STATUS[status], words).name.lower(), "by": None}
    return fields
