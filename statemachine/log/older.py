"""Reads outcomes of versions that did not record causes: they wrote only the status, and words.

The cause is derived from the words here, once, when such a file or trace is read, and nowhere else. The words do not
say who interrupted a turn or closed its agent, and they are the same for an interrupt and for the end of a shutdown's
grace. The status tells a result; an error begins with the name of a class, unless the host of the core chose other
words.
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
"""How the words begin, and the cause that they mean. The first match counts."""

STATUS = {status.name.lower(): status for status in TurnState}
OUTCOME_FIELDS = {"agent", "turn", "status", "result"}
"""All fields of an outcome then."""


def cause_in_words(status: TurnState, words: str) -> Cause:
    """Returns the cause of an outcome with this status and these words."""
    if status is TurnState.COMPLETED:
        return Cause.FINISHED
    known = ERRORED if status is TurnState.ERRORED else INTERRUPTED
    return next(cause for beginning, cause in known if words.startswith(beginning))


def with_causes(found: Any) -> Any:
    """Adds the causes that version 1 did not have to the JSON of a trace's facts. Only outcomes change."""
    if found.__class__ is list:
        return [with_causes(one) for one in found]
    if found.__class__ is not dict:
        return found
    fields = {name: with_causes(value) for name, value in found.items()}
    status, words = fields.get("status"), fields.get("result")
    if fields.keys() == OUTCOME_FIELDS and isinstance(words, str) and status in STATUS:
        fields |= {"cause": cause_in_words(STATUS[status], words).name.lower(), "by": None}
    return fields
