"""Many durable agents on few execution slots and little memory, as explicit state machines.

The core is `Session`: `session.handle(event)` returns a `Step` of records, reply and effects, and does no I/O. Start
reading at `machines.py`, then `session.py`. The folder `model`, installed as `statemachine_model`, judges it.

`AgentControl` runs a session: see `statemachine.runtime`. All that its verbs take, return or show can be imported from
here, and every error from `statemachine.errors`. The names of the runtime and of the stores are imported when they are
first used, so that the core alone needs nothing but `attrs`. The events of the core are in `statemachine.core.events`.
"""

from typing import TYPE_CHECKING

from statemachine import interrupts as _interrupts  # noqa: F401  # isort: skip  # pyright: ignore[reportUnusedImport]  (first: it guards the imports of the command)
from statemachine import guard as _guard  # noqa: F401  # pyright: ignore[reportUnusedImport]  (first: refuses to work next to python-statemachine)
from statemachine.checking.properties import check
from statemachine.core.config import Notice, Overflow, SessionConfig, SlotPolicy
from statemachine.core.effects import (
    Answer,
    Cancel,
    ClosedAgents,
    Effect,
    Flush,
    Forgotten,
    Interrupted,
    Load,
    Resumed,
    ShutDown,
    StartTurn,
    Step,
    Unload,
    WaitEnd,
    Wake,
)
from statemachine.core.events import HOST, ROOT, Event, WaitMode
from statemachine.core.machines import TurnState
from statemachine.core.records import (
    AgentResumed,
    AgentsClosed,
    AgentsForgotten,
    AgentSpawned,
    Cause,
    LoadBegun,
    LoadEnded,
    MailAccepted,
    MailDemoted,
    MailDrained,
    MailKind,
    MailRead,
    MailWithdrawn,
    NoticeBuried,
    Outcome,
    Record,
    TurnEnded,
    TurnReturned,
    TurnStarted,
    TurnStopped,
)
from statemachine.core.refusals import InvalidConfig, Refusal
from statemachine.core.session import Session
from statemachine.lazy import lazily as _lazily
from statemachine.log.recovery import recover

if TYPE_CHECKING:
    from statemachine.runtime import (
        AgentControl,
        AgentInfo,
        AgentRef,
        AgentStatus,
        Handle,
        Happening,
        Lending,
        Mail,
        Rollout,
        Statistics,
        Target,
        Thread,
        ThreadLost,
        Turn,
        Work,
    )
    from statemachine.stores import (
        BackedUp,
        Entry,
        LogRecord,
        MemoryLog,
        MemoryStore,
        PostgresStore,
        Receipt,
        Recovered,
        Snapshot,
        SQLiteStore,
        Store,
        Synchronous,
        Write,
        read_rollout,
        read_session,
    )

__all__ = [
    "HOST",
    "ROOT",
    "AgentControl",
    "AgentInfo",
    "AgentRef",
    "AgentResumed",
    "AgentSpawned",
    "AgentStatus",
    "AgentsClosed",
    "AgentsForgotten",
    "Answer",
    "BackedUp",
    "Cancel",
    "Cause",
    "ClosedAgents",
    "Effect",
    "Entry",
    "Event",
    "Flush",
    "Forgotten",
    "Handle",
    "Happening",
    "Interrupted",
    "InvalidConfig",
    "Lending",
    "Load",
    "LoadBegun",
    "LoadEnded",
    "LogRecord",
    "Mail",
    "MailAccepted",
    "MailDemoted",
    "MailDrained",
    "MailKind",
    "MailRead",
    "MailWithdrawn",
    "MemoryLog",
    "MemoryStore",
    "Notice",
    "NoticeBuried",
    "Outcome",
    "Overflow",
    "PostgresStore",
    "Receipt",
    "Record",
    "Recovered",
    "Refusal",
    "Resumed",
    "Rollout",
    "SQLiteStore",
    "Session",
    "SessionConfig",
    "ShutDown",
    "SlotPolicy",
    "Snapshot",
    "StartTurn",
    "Statistics",
    "Step",
    "Store",
    "Synchronous",
    "Target",
    "Thread",
    "ThreadLost",
    "Turn",
    "TurnEnded",
    "TurnReturned",
    "TurnStarted",
    "TurnState",
    "TurnStopped",
    "Unload",
    "WaitEnd",
    "WaitMode",
    "Wake",
    "Work",
    "Write",
    "check",
    "read_rollout",
    "read_session",
    "recover",
]

__getattr__ = _lazily(__name__, __all__, ("statemachine.runtime", "statemachine.stores"))


def __dir__() -> list[str]:
    """Lists all names, those not imported yet included."""
    return sorted({*globals(), *__all__})
