"""Stores sessions: `MemoryStore` for tests, `SQLiteStore` on one machine, `PostgresStore` for many.

Read `protocol.py` first: it says what a store does.
May import: `core`, `log`, `eventloops`, `pauses`, `sinks`, `anyio`, `msgspec`, `stores.sqlite`, `stores.postgres`.
May not know: the runtime, what judges it.
"""

from statemachine.stores.durability import Synchronous
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
from statemachine.stores.memory import MemoryLog, MemoryStore
from statemachine.stores.places import read_rollout, read_session
from statemachine.stores.postgres import PostgresStore
from statemachine.stores.protocol import BackedUp, Entry, LogRecord, Receipt, Recovered, Snapshot, Store, Write
from statemachine.stores.sqlite import SQLiteStore

__all__ = [
    "AgentCorrupt",
    "BackedUp",
    "ConnectionLost",
    "DriverMissing",
    "Entry",
    "ForeignFile",
    "LogRecord",
    "MemoryLog",
    "MemoryStore",
    "NewerSchema",
    "OlderSchema",
    "PostgresStore",
    "Receipt",
    "Recovered",
    "SQLiteStore",
    "SessionInUse",
    "SessionUnnamed",
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
    "StoreUnreachable",
    "Synchronous",
    "Unstorable",
    "Write",
    "read_rollout",
    "read_session",
]
