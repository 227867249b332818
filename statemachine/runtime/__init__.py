"""Runs sessions: `AgentControl` carries out what the core asks for, on asyncio or trio.

Read `threads.py` (what users write), `turn.py` (what its code gets), `handles.py` and `control.py` first, then what is
behind them, from below: `engine.py`, `requests.py`, `verbs.py`, `waits.py`, `calls.py`, `live.py`.
May import: `core`, `log`, `stores`, `eventloops`, `pauses`, `sinks`, `tracebacks`, `anyio`.
May not know: SQLite (it gets a `Store`), what judges it.
"""

from statemachine.runtime.control import AgentControl
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
    WrongTask,
)
from statemachine.runtime.handles import AgentRef, Handle, Target
from statemachine.runtime.rollout import Rollout
from statemachine.runtime.settings import AgentInfo
from statemachine.runtime.statistics import Statistics
from statemachine.runtime.status import AgentStatus
from statemachine.runtime.stream import Happening
from statemachine.runtime.threads import Thread, Work
from statemachine.runtime.turn import Mail, Turn
from statemachine.runtime.waits import Lending

__all__ = [
    "AgentControl",
    "AgentInfo",
    "AgentRef",
    "AgentStatus",
    "EventsLost",
    "Handle",
    "Happening",
    "InvalidWork",
    "KeyReused",
    "Lending",
    "Mail",
    "NotJson",
    "Rollout",
    "Stalled",
    "Statistics",
    "Target",
    "Thread",
    "ThreadLost",
    "TooLarge",
    "Turn",
    "UnknownPath",
    "UnknownRequest",
    "UnknownRole",
    "Work",
    "WrongEventLoop",
    "WrongTask",
]
