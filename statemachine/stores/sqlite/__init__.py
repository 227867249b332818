"""Stores a session in one SQLite file, on one machine: see `store.py`.

May import: `core`, `log`, `stores`, `pauses`, `sinks`, `anyio`, `filelock`.
May not know: the runtime, another database, what judges it.
"""

from statemachine.stores.sqlite.store import SQLiteStore

__all__ = ["SQLiteStore"]
