"""Stores sessions: `MemoryStore` for tests, `SQLiteStore` on one machine.

Read `protocol.py` first: it says what a store does.
May import: `core`, `log`, `eventloops`, `anyio`, `msgspec`, `stores.sqlite`.
May not know: the runtime, what judges it.
"""

from statemachine.stores.errors import (
    ForeignFile,
    NewerSchema,
    OlderSchema,
    SessionInUse,
    StoreBusy,
    StoreClosed,
    StoreCorrupt,
    StoreError,
    StoreExhausted,
    StoreExists,
    StoreFull,
    StoreMissing,
    StoreReadOnly,
    Unstorable,
)
from statemachine.stores.memory import MemoryLog, MemoryStore
from statemachine.stores.places import read_rollout, read_session
from statemachine.stores.protocol import BackedUp, Entry, LogRecord, Receipt, Recovered, Snapshot, Store, Write
from statemachine.stores.sqlite import SQLiteStore, Synchronous

__all__ = [
    "BackedUp",
    "Entry",
    "ForeignFile",
    "LogRecord",
    "MemoryLog",
    "MemoryStore",
    "NewerSchema",
    "OlderSchema",
    "Receipt",
    "Recovered",
    "SQLiteStore",
    "SessionInUse",
    "Snapshot",
    "Store",
    "StoreBusy",
    "StoreClosed",
    "StoreCorrupt",
    "StoreError",
    "StoreExhausted",
    "StoreExists",
    "StoreFull",
    "StoreMissing",
    "StoreReadOnly",
    "Synchronous",
    "Unstorable",
    "Write",
    "read_rollout",
    "read_session",
]
