"""Every error that a caller may get, in one place.

A `Refusal` says that a request was refused and changed nothing; its attributes are the facts. A `StoreError` is about
the file or the disk. Each message says what to do next.
"""

from typing import TYPE_CHECKING

from statemachine.checking.properties import PropertyViolation
from statemachine.core.machines import IllegalMove
from statemachine.core.refusals import (
    AgentClosed,
    AgentOpen,
    DepthExceeded,
    ExecutionFull,
    InvalidConfig,
    InvalidHeaders,
    InvalidMessage,
    InvalidName,
    InvalidTimeout,
    LiveThreadsFull,
    MailboxFull,
    MailRead,
    NotRunning,
    NotSender,
    PathTaken,
    QueueFull,
    Refusal,
    RootRefused,
    SelfRefused,
    SessionClosed,
    SessionDraining,
    StoreFailed,
    TooManyAgents,
    UnknownAgent,
    UnknownMail,
    WaitCircle,
)
from statemachine.lazy import lazily as _lazily
from statemachine.log.trace import TraceError

if TYPE_CHECKING:
    from statemachine.checking.diagrams import DrawingUnavailable
    from statemachine.runtime.errors import (
        EventsLost,
        InvalidWork,
        KeyReused,
        NotJson,
        Stalled,
        ThreadLost,
        TooLarge,
        UnknownPath,
        UnknownRequest,
        UnknownRole,
        WrongEventLoop,
    )
    from statemachine.stores.errors import (
        AgentCorrupt,
        ConnectionLost,
        DriverMissing,
        ForeignFile,
        NewerSchema,
        OlderSchema,
        SessionInUse,
        SessionUnnamed,
        StoreBusy,
        StoreClosed,
        StoreCorrupt,
        StoreError,
        StoreExhausted,
        StoreExists,
        StoreFull,
        StoreMissing,
        StoreReadOnly,
        StoreUnreachable,
        Unstorable,
    )

__all__ = [
    "AgentClosed",
    "AgentCorrupt",
    "AgentOpen",
    "ConnectionLost",
    "DepthExceeded",
    "DrawingUnavailable",
    "DriverMissing",
    "EventsLost",
    "ExecutionFull",
    "ForeignFile",
    "IllegalMove",
    "InvalidConfig",
    "InvalidHeaders",
    "InvalidMessage",
    "InvalidName",
    "InvalidTimeout",
    "InvalidWork",
    "KeyReused",
    "LiveThreadsFull",
    "MailRead",
    "MailboxFull",
    "NewerSchema",
    "NotJson",
    "NotRunning",
    "NotSender",
    "OlderSchema",
    "PathTaken",
    "PropertyViolation",
    "QueueFull",
    "Refusal",
    "RootRefused",
    "SelfRefused",
    "SessionClosed",
    "SessionDraining",
    "SessionInUse",
    "SessionUnnamed",
    "Stalled",
    "StoreBusy",
    "StoreClosed",
    "StoreCorrupt",
    "StoreError",
    "StoreExhausted",
    "StoreExists",
    "StoreFailed",
    "StoreFull",
    "StoreMissing",
    "StoreReadOnly",
    "StoreUnreachable",
    "ThreadLost",
    "TooLarge",
    "TooManyAgents",
    "TraceError",
    "UnknownAgent",
    "UnknownMail",
    "UnknownPath",
    "UnknownRequest",
    "UnknownRole",
    "Unstorable",
    "WaitCircle",
    "WrongEventLoop",
]

__getattr__ = _lazily(
    __name__, __all__, ("statemachine.runtime.errors", "statemachine.stores.errors", "statemachine.checking.diagrams")
)
