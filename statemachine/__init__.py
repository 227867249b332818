"""Many durable agents on few execution slots and little memory, as explicit state machines.

The core is `Session`: `session.handle(event)` gives a `Step` of records, reply and effects, and does no I/O. Start
reading at `machines.py`, then `session.py`. What judges it is the folder `model`, installed as `statemachine_model`.

`AgentControl` runs a session: see `statemachine.runtime`, which is imported when one of its names is first asked for
here, so that whoever uses the core alone needs `attrs` and nothing else.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING

from statemachine import guard as _guard  # noqa: F401  # pyright: ignore[reportUnusedImport]  (first: refuses to work next to python-statemachine)
from statemachine.checking.properties import check
from statemachine.core.config import Notice, Overflow, SessionConfig, SlotPolicy
from statemachine.core.effects import Step
from statemachine.core.events import HOST, ROOT, Event
from statemachine.core.machines import TurnState
from statemachine.core.records import Cause, Outcome, Record
from statemachine.core.refusals import InvalidConfig, Refusal
from statemachine.core.session import Session
from statemachine.log.recovery import recover

if TYPE_CHECKING:
    from statemachine.runtime import AgentControl, Thread, Turn

__all__ = [
    "HOST",
    "ROOT",
    "AgentControl",
    "Cause",
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
    "Thread",
    "Turn",
    "TurnState",
    "check",
    "recover",
]

_OF_THE_RUNTIME = frozenset(("AgentControl", "Thread", "Turn"))


def __getattr__(name: str) -> object:
    """The names of the runtime, on first use."""
    if name not in _OF_THE_RUNTIME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(_import_module("statemachine.runtime"), name)
    return found
