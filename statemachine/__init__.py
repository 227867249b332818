"""Many durable agents on few execution slots and little memory, as explicit state machines.

The core is `Session`: `session.handle(event)` gives a `Step` of records, reply and effects, and does no I/O. Start
reading at `machines.py`, then `session.py`. What judges it is the package `model`.
"""

from statemachine import guard as _guard  # noqa: F401  # pyright: ignore[reportUnusedImport]  (first: refuses to work next to python-statemachine)
from statemachine.config import Notice, Overflow, SessionConfig, SlotPolicy
from statemachine.effects import Step
from statemachine.events import HOST, ROOT, Event
from statemachine.properties import check
from statemachine.records import Outcome, Record
from statemachine.recovery import recover
from statemachine.refusals import InvalidConfig, Refusal
from statemachine.session import Session

__all__ = [
    "HOST",
    "ROOT",
    "Event",
    "InvalidConfig",
    "Notice",
    "Outcome",
    "Overflow",
    "Record",
    "Refusal",
    "Session",
    "SessionConfig",
    "SlotPolicy",
    "Step",
    "check",
    "recover",
]
