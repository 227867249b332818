"""Where sessions are kept: `MemoryStore` for tests, `SQLiteStore` on one machine. `protocol.py` says what they do."""

from statemachine.stores.errors import StoreError
from statemachine.stores.memory import MemoryLog, MemoryStore
from statemachine.stores.protocol import Entry, LogRecord, Receipt, Recovered, Snapshot, Store, Write
from statemachine.stores.reading import read_rollout, read_session
from statemachine.stores.sqlite import SQLiteStore, Synchronous

__all__ = [
    "Entry",
    "LogRecord",
    "MemoryLog",
    "MemoryStore",
    "Receipt",
    "Recovered",
    "SQLiteStore",
    "Snapshot",
    "Store",
    "StoreError",
    "Synchronous",
    "Write",
    "read_rollout",
    "read_session",
]
