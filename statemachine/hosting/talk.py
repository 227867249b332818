"""The connection of a client with one worker, which all its calls of that worker share."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from ssl import SSLContext
from typing import Any

from attrs import define, field, frozen
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from statemachine.eventloops import clock, to_its_end
from statemachine.hosting import wire
from statemachine.hosting.directory import Where
from statemachine.hosting.patience import LEAST_S, LOOK_S, SHORTEST_S
from statemachine.pauses import LOOKS, RunTime

CLOSE_S = 1
"""Seconds for which a worker may take leave of a connection that is ended."""

UNREACHED = (OSError, WebSocketException, TimeoutError)
"""What says that a worker does not answer, and nothing of the session."""


class LiveConnection(ClientConnection):
    """A connection that tells when anything comes: part of a long answer, or the answer to a ping."""

    heard: Callable[[], None] | None = None

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        if self.heard is not None:
            self.heard()
        super().data_received(data)


@frozen(eq=False)
class Waiting:
    """A call that waits for its reply."""

    reply: asyncio.Future[list[Any]]
    since: float
    """Run time of its connection."""
    patience: float
    """Seconds for which the worker may be silent."""


@define(eq=False)
class Talk:
    """A connection with one worker, for all calls of it. Calls are put in line for a task that sends them: a worker
    that hangs takes nothing, and then a caller that is cancelled has nothing to wait for, and what it wanted to send is
    dropped.
    """

    connection: ClientConnection
    token: str = field(repr=False)
    _waiting: dict[int, Waiting] = field(factory=dict[int, Waiting])
    _numbers: Any = field(factory=itertools.count)
    _unsaid: dict[int, bytes] = field(factory=dict[int, bytes])
    """Number of a call -> what is to be sent of it: the call, or that its caller has gone. In the order of sending."""
    _is_more: asyncio.Event = field(factory=asyncio.Event)
    """Set when something was put in line."""
    _tasks: tuple[asyncio.Task[None], ...] = ()
    is_over: bool = False
    _time: RunTime = field(factory=lambda: RunTime(clock()))
    heard_at: float = 0.0
    """When, in run time, the worker gave its last sign of life."""
    _unsent: int = 0
    """Bytes that the worker had not taken yet, at the last look."""

    @classmethod
    async def begin(cls, where: Where, tls: SSLContext | None, is_there: Callable[[], Awaitable[bool]]) -> Talk:
        """Connects. Meanwhile, and while calls wait, `is_there` is asked whether the worker still is: one that hangs
        does not end its connections, and its system takes new ones. Raises `OSError`, `TimeoutError` and
        `WebSocketException`.
        """
        connecting = asyncio.ensure_future(
            connect(
                where.address,
                additional_headers={"Authorization": f"Bearer {where.token}"},
                subprotocols=[wire.SUBPROTOCOL],
                create_connection=LiveConnection,
                ssl=tls if where.address.startswith("wss:") else None,
                max_size=wire.BYTES_MAX,
                compression=None,
                logger=wire.logs("client"),
                open_timeout=5,
                close_timeout=CLOSE_S,
                proxy=None,
            )
        )
        try:
            while not (await asyncio.wait([connecting], timeout=LOOK_S))[0]:
                if not await is_there():
                    raise ConnectionError("the worker is not there any more")
        except BaseException:
            await to_its_end(partial(given_up, connecting))
            raise
        connection = connecting.result()
        talk = cls(connection, where.token)
        if isinstance(connection, LiveConnection):
            connection.heard = talk._hear
        parts = talk._say(), talk._listen(), talk._watch(is_there), talk._ping(), talk._mind()
        talk._tasks = tuple(asyncio.create_task(part) for part in parts)
        return talk

    def now(self) -> float:
        """Returns the run time of this connection, in seconds."""
        return self._time.now()

    async def call(self, session: str, request: bytes, patience: float) -> list[Any]:
        """Returns the reply to a request as it is packed. Raises `ConnectionError` if the connection ends before, and
        `TimeoutError` if the worker gives no sign of life for these seconds of run time.
        """
        if self.is_over or self.connection.transport.is_closing():
            raise ConnectionError("the connection with the worker has ended")
        number, reply = next(self._numbers), asyncio.get_running_loop().create_future()
        self._waiting[number] = Waiting(reply, self.now(), patience)
        self._put(number, wire.call_of(number, session, request))
        is_answered = False
        try:
            answer: list[Any] = await reply
            is_answered = True
            return answer
        finally:
            del self._waiting[number]
            if self._unsaid.pop(number, None) is None and not is_answered:
                self._put(number, wire.pack([number]))

    def _put(self, number: int, message: bytes) -> None:
        self._unsaid[number] = message
        self._is_more.set()

    async def _say(self) -> None:
        """Sends what is in line, as fast as the worker takes it."""
        try:
            while await self._is_more.wait():
                self._is_more.clear()
                while self._unsaid:
                    await self.connection.send(self._unsaid.pop(next(iter(self._unsaid))))
        except (WebSocketException, OSError):
            pass
        finally:
            self._end()

    async def _listen(self) -> None:
        try:
            async for message in self.connection:
                number, *reply = wire.unpack(message)
                waiting = self._waiting.get(number)
                if waiting is not None and not waiting.reply.done():
                    waiting.reply.set_result(reply)
        except (WebSocketException, ValueError, OSError):
            pass
        finally:
            self._end()

    def _end(self) -> None:
        self.is_over = True
        for waiting in self._waiting.values():
            if not waiting.reply.done():
                waiting.reply.set_exception(ConnectionError("the connection with the worker has ended"))

    async def close(self) -> None:
        """Ends the connection, and the calls on it, within `CLOSE_S` if the worker hangs. Raises nothing of the
        connection: the others end whatever became of this one.
        """
        await to_its_end(self._close)

    async def _close(self) -> None:
        self._end()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(Exception):
            async with asyncio.timeout(CLOSE_S):  # before it says that it closes, it sends all that was written
                await self.connection.close()
        with suppress(Exception):
            self.connection.transport.abort()  # changes nothing once it is closed
            await self.connection.wait_closed()

    async def _watch(self, is_there: Callable[[], Awaitable[bool]]) -> None:
        while not self.is_over:
            await asyncio.sleep(LOOK_S)
            if self._waiting and not await is_there():
                self.connection.transport.abort()

    async def _ping(self) -> None:
        """Asks the worker for a sign of life while calls wait. It hangs as the worker does."""
        with suppress(WebSocketException, OSError):
            while not self.is_over:
                await asyncio.sleep(LOOK_S)
                if self._waiting:
                    await (await self.connection.ping())

    def _hear(self) -> None:
        self.heard_at = self.now()

    async def _mind(self) -> None:
        """Ends calls whose worker has been silent for as long as their callers have patience. The directory cannot
        tell: the host of a folder is there as long as its process is, and a worker that lives may be out of reach.
        """
        step = LOOK_S
        while not self.is_over:
            self._time.look(self.now() + step * LOOKS)
            await asyncio.sleep(step)
            transport = self.connection.transport
            unsent = 0 if transport.is_closing() else transport.get_write_buffer_size()
            if unsent < self._unsent:
                self._hear()  # a sign comes only after all that was written
            self._unsent, step = unsent, LOOK_S
            now = self.now()
            if now + step < self.heard_at + LEAST_S:
                continue  # every call has `LEAST_S` from that sign
            for waiting in self._waiting.values():
                left = max(waiting.since, self.heard_at) + waiting.patience - now
                if left > 0:
                    step = min(step, max(left, SHORTEST_S))
                elif not waiting.reply.done():
                    waiting.reply.set_exception(TimeoutError("the worker gives no sign of life"))


async def ended(task: asyncio.Task[Any]) -> None:
    """Cancels a task, and waits until it has ended, whatever it raises."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def given_up(connecting: asyncio.Future[ClientConnection]) -> None:
    """Ends a connection that is being made, or that was made as its caller was cancelled."""
    connecting.cancel()
    await asyncio.wait([connecting])
    if not connecting.cancelled() and connecting.exception() is None:
        await Talk(connecting.result(), "").close()
