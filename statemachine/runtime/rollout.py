"""The rollout as a thread that is loaded reads it: all of it, or only its end, however long it has grown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from statemachine.runtime.checks import count_of
from statemachine.runtime.stack import check_stack
from statemachine.stores.protocol import Entry, LogRecord, Store

__all__ = ["Rollout"]

FIRST_READ, GROWTH = 64, 4
"""Records that are read first when a mark is looked for, and how many times as many each time it is not among them."""


class Rollout:
    """The mail, turns and entries of an agent, for `Thread.load_from`. Each method reads the store, returns records
    with the oldest first, and raises `StoreError` if it cannot be read.
    """

    __slots__ = ("_agent", "_store")

    def __init__(self, store: Store, agent: int) -> None:
        self._store: Store | None = store
        self._agent = agent

    async def whole(self) -> tuple[LogRecord, ...]:
        """Returns all records."""
        return await self._opened().rollout(self._agent)

    async def last(self, count: int) -> tuple[LogRecord, ...]:
        """Returns the last `count` records, or all if there are no more. Raises `TypeError` or `ValueError` for what is
        not a whole number of at least 1.
        """
        count = count_of(count, "count")
        return await self._opened().rollout(self._agent, last=count)

    async def since(self, is_mark: Callable[[Any], object]) -> tuple[LogRecord, ...]:
        """Returns the newest entry that is a mark, and the records after it; all if there is none. `is_mark` gets what
        was recorded, from the newest entry back, and tells whether it is one, such as a summary of all before it.
        """
        count = FIRST_READ
        seen = 0
        while True:
            found = await self.last(count)
            for place in range(len(found) - seen - 1, -1, -1):
                record = found[place]
                if isinstance(record, Entry) and is_mark(record.data):
                    return found[place:]
            if len(found) < count:
                return found
            seen, count = len(found), count * GROWTH

    def end(self) -> None:
        """Ends reading: the load is over."""
        self._store = None

    def _opened(self) -> Store:
        if self._store is None:
            raise RuntimeError("the rollout is read in `load_from` alone; a turn reads it with `await turn.history()`")
        check_stack()
        return self._store
