"""Sessions that run: `AgentControl` carries out what the core asks for, on asyncio or trio.

Read `control.py` first, then `engine.py` and `live.py`.
May import: `core`, `log`, `stores`, `eventloops`, `anyio`.
May not know: SQLite (it gets a `Store`), what judges it.
"""

from statemachine.runtime.control import AgentControl
from statemachine.runtime.errors import (
    EventsLost,
    KeyReused,
    NotJson,
    ThreadLost,
    UnknownPath,
    UnknownRequest,
    UnknownRole,
)
from statemachine.runtime.handles import AgentRef, Handle
from statemachine.runtime.statistics import Statistics
from statemachine.runtime.threads import AgentInfo, Thread
from statemachine.runtime.turn import Mail, Turn

__all__ = [
    "AgentControl",
    "AgentInfo",
    "AgentRef",
    "EventsLost",
    "Handle",
    "KeyReused",
    "Mail",
    "NotJson",
    "Statistics",
    "Thread",
    "ThreadLost",
    "Turn",
    "UnknownPath",
    "UnknownRequest",
    "UnknownRole",
]
