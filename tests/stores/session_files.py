"""Sessions in files, for the tests of the store on disk."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from statemachine.core.config import SessionConfig
from statemachine.core.events import ROOT
from statemachine.core.machines import TurnState
from statemachine.core.records import AgentSpawned, Cause, MailAccepted, MailKind, Outcome, TurnEnded, TurnStarted
from statemachine.log.recovery import durable_facts, fold
from statemachine.stores import Entry, Snapshot, SQLiteStore, Store, Write

S = TypeVar("S", bound=Store)

CONFIG = SessionConfig()
LIFE = (
    AgentSpawned(1, ROOT, "a", None),
    MailAccepted(0, ROOT, 1, MailKind.TRIGGER, "work"),
    TurnStarted(1, 1),
    Entry(1, 1, "said"),
    TurnEnded(Outcome(1, 1, TurnState.COMPLETED, "done", Cause.FINISHED)),
)
RECORDS = [record for record in LIFE if not isinstance(record, Entry)]
FACTS = durable_facts(fold(CONFIG, RECORDS))


async def make(path: Path, *items: Write | Snapshot) -> None:
    """A session that was opened, written to (`LIFE`, if nothing is said) and closed."""
    store = await opened(path)
    await store.append(items or [Write(LIFE)])
    await store.close()


async def opened(path: Path, config: SessionConfig = CONFIG, **options: Any) -> SQLiteStore:
    """A store that has the session in this file open; the options are those of its class."""
    return await ready(SQLiteStore(path, **options), config)


async def ready(store: S, config: SessionConfig = CONFIG) -> S:
    """The store, open."""
    await store.open(config)
    return store


def sql(path: Path, *statements: str) -> list[Any]:
    """What the last of the statements gives, by a connection of its own."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return [connection.execute(statement).fetchall() for statement in statements][-1]


def beside(path: Path) -> list[str]:
    """The files in the session's directory."""
    return sorted(entry.name for entry in path.parent.iterdir())
