"""Gives readers what happens in a session: `events()`. The session does not wait for them."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import anyio
from attrs import evolve, fields, has

from statemachine.core.effects import Effect, Step
from statemachine.runtime.errors import EventsLost, give_way, words
from statemachine.sinks import carry_out_all, log
from statemachine.stores.protocol import Entry, LogRecord

__all__ = ["Happening"]

NOT_TOLD = "a reader of events() gets no more of them (%s)"

Happening = LogRecord | Effect
"""What `events()` gives: a record of the log, an entry of a turn, or an effect."""


KEPT = ("Outcome", "MailAccepted")
"""The facts in records and effects that the core goes on with. No assignment to a fact is refused at run time."""


@cache
def parts(kind: type) -> tuple[str, ...] | None:
    """Returns the fields with facts that the core keeps. None: it keeps none of this, or of what is in it."""
    found = tuple([f.alias for f in fields(kind) if any(name in str(f.type) for name in KEPT)]) if has(kind) else ()
    return found if found or kind.__name__ in KEPT else None


def apart(event: Any) -> Any:
    """Returns what happened as a copy as far as the core keeps it, so that a reader may change what it has."""
    if event.__class__ is tuple:
        return tuple([apart(part) for part in event])
    names = parts(event.__class__)
    return event if names is None else evolve(event, **{name: apart(getattr(event, name)) for name in names})


class Stream(AsyncIterator[Happening]):
    """The events that one reader has not read yet. Tasks that read it together get each of them once."""

    def __init__(self, unread_max: int) -> None:
        self._unread_max = unread_max
        self._unread: deque[Happening] = deque()
        self._lost = self._over = False
        self._changed = anyio.Event()

    def add(self, event: Step | Entry) -> None:
        """Adds a step or an entry."""
        if isinstance(event, Step):
            self._unread.extend(event.records)
            self._unread.extend(event.effects)
        else:
            self._unread.append(event)
        if len(self._unread) > self._unread_max:
            self._unread.clear()
            self._lost = True
        self._changed.set()

    def end(self) -> None:
        """Ends the stream after what is unread."""
        self._over = True
        self._changed.set()

    def break_off(self) -> None:
        """Ends the stream, of which events are lost."""
        self._unread.clear()
        self._lost = True
        self.end()

    async def __anext__(self) -> Happening:
        while not self._unread and not self._lost:
            if self._over:
                await give_way()
                raise StopAsyncIteration
            if self._changed.is_set():  # otherwise others wait for it too
                self._changed = anyio.Event()
            await self._changed.wait()
        if self._lost:
            self._lost = False
            await give_way()
            raise EventsLost(self._unread_max)
        happened: Happening = apart(self._unread.popleft())
        return happened


class Streams:
    """All readers."""

    def __init__(self) -> None:
        self._streams: list[Stream] = []
        self._over = False

    def publish(self, events: Sequence[Step | Entry]) -> None:
        """Adds steps and entries to the stream of every reader."""
        for stream in tuple(self._streams):
            try:
                for event in events:
                    stream.add(event)
            except Exception as error:
                self._streams.remove(stream)
                stream.break_off()
                log.warning(NOT_TOLD, words(error))

    def end(self) -> None:
        """Ends all streams, because the session has ended."""
        self._over = True
        carry_out_all(*[stream.end for stream in self._streams])

    @contextmanager
    def subscribe(self, unread_max: int) -> Generator[Stream]:
        """Gives a stream of what happens while the block lasts. Then it ends, after what is unread."""
        stream = Stream(unread_max)
        if self._over:
            stream.end()
        self._streams.append(stream)
        try:
            yield stream
        finally:
            stream.end()
            if stream in self._streams:
                self._streams.remove(stream)
