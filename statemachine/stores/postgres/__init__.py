"""Stores sessions in a database of PostgreSQL: see `store.py`.

Only `driver.py` imports psycopg, when the first connection is made: who has no session in PostgreSQL does without it.
May import: `core`, `log`, `stores`, `eventloops`, `pauses`, `sinks`, `anyio`, `psycopg`.
May not know: the runtime, another database, what judges it.
"""

from statemachine.stores.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
