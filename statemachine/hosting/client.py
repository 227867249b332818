"""Calls sessions wherever they are: `SessionClient` finds the worker that has a session, and talks to it directly.

Where a session is, the directory says (`directory.py`). If no worker has it, the client asks for it there; a request
that gives work is written beside, and is carried out by the next owner even if the client dies. Then the client makes
the same request of that owner, with the same key, and gets its answer.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from ssl import SSLContext
from types import TracebackType
from typing import Any, TypeVar

import anyio
from attrs import define

from statemachine.eventloops import to_its_end
from statemachine.hosting import wire
from statemachine.hosting.blocks import Block
from statemachine.hosting.directory import ClientDirectory, Place, Where, kind_at
from statemachine.hosting.errors import ClientLeft, HostMissing
from statemachine.hosting.patience import LEAST_S, SHORTEST_S, Patience, Stopwatch
from statemachine.hosting.remote import RemoteSession
from statemachine.hosting.talk import UNREACHED, Talk, ended
from statemachine.stores import options
from statemachine.stores.errors import StoreBusy, StoreError
from statemachine.stores.worker import Worker

__all__ = ["SessionClient"]

PAUSES = (SHORTEST_S, 0.02, 0.05, 0.1, 0.2)
"""Seconds between looks for an owner; the last one again and again."""

ROOM_S = 5.0
"""Seconds after which a worker that never had the session has said so (`host.CLAIM_S`)."""

NUMBER_MAX = 2**63
"""No connection has as many calls."""

T = TypeVar("T")


@define(eq=False)
class Attempt:
    """An attempt to connect with a worker, which all calls share that wait for it."""

    task: asyncio.Task[Talk]
    callers: int = 0
    """Those that wait. The last one ends it, if it leaves earlier."""


class SessionClient:
    """Calls the sessions of a database, from any process, or those of a folder, from any process of its machine. Use it
    within `async with`, on asyncio:

        async with SessionClient("postgresql://host/database") as client:  # or "path/to/folder"
            session = client.session("orders-17")
            handle = await session.spawn("/root", "clerk", "check the order")
            print((await handle.outcome()).result)

    A call goes on while its session moves from one worker to another, for up to `patience` seconds without an owner,
    in which the client could run. What gives work is made once, however often it has to be repeated for that. `tls` is
    what makes connections to workers that serve with TLS.

    Entering raises `StoreError` if the database or the folder cannot be reached, and `RuntimeError` elsewhere than on
    asyncio, and if the client was entered before: make another one then.
    """

    def __init__(self, place: Place, *, patience: float = 60.0, tls: SSLContext | None = None) -> None:
        """`place` is the DSN of a database, without a session, or the path of a folder. Raises `StoreUnreachable` for
        what is not a DSN, and `StoreMissing` for what is not a path, `TypeError` and `ValueError` for
        options that are not what they have to be.
        """
        self._kind = kind_at(place)
        options.one_of(tls, "tls", SSLContext, "an ssl.SSLContext")
        self._patience, self._tls = options.seconds(patience, "patience", end=False), tls
        self._block = Block("client")
        self._worker: Worker | None = None
        self._directory: ClientDirectory | None = None
        self._known: dict[str, Where] = {}
        """Session -> where it was when it was asked last."""
        self._talks: dict[str, Talk] = {}
        """Address -> the connection with that worker."""
        self._attempts: dict[Where, Attempt] = {}
        self._stopwatch = Stopwatch()

    async def __aenter__(self) -> SessionClient:
        with self._block.entering():
            self._worker = Worker("statemachine-client")
            try:
                await self._worker.do(self._connect)
            except BaseException:
                await to_its_end(self._leave)
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._block.leave():
            await to_its_end(self._leave)

    async def _leave(self) -> None:
        """Ends the connections with workers, that with the directory and its thread, whatever one of them raises."""
        worker, self._worker = self._worker, None
        assert worker is not None
        async with AsyncExitStack() as stack:
            stack.callback(worker.stop)
            stack.push_async_callback(worker.do, self._disconnect)
            for talk in self._talks.values():
                stack.push_async_callback(talk.close)

    def session(self, name: str) -> RemoteSession:
        """Returns the session with this name, which is made when it is first asked for something. Raises
        `SessionUnnamed` for what is not a name.
        """
        self._kind.check_name(name)
        return RemoteSession(self, name, self._kind.named)

    # The directory, in a thread

    def _connect(self) -> None:
        lost = self._directory
        if lost is None or lost.is_lost:  # no other call has connected meanwhile
            self._directory = self._kind.for_client()
            if lost is not None:
                lost.close()

    def _disconnect(self) -> None:
        directory, self._directory = self._directory, None
        if directory is not None:
            directory.close()

    async def _do(self, work: Callable[[], T]) -> T:
        """Makes a call in the thread. Raises `ClientLeft`."""
        return await self._thread().do(work)

    def _thread(self) -> Worker:
        """Returns the thread of a client that was entered. Raises `ClientLeft` once it was left."""
        if self._worker is None:
            raise ClientLeft
        return self._worker

    async def _look_up(self, work: Callable[[ClientDirectory], T]) -> T:
        """Makes a call with the directory, once more if the connection was lost."""

        def looked_up() -> T:
            assert self._directory is not None
            return work(self._directory)

        try:
            return await self._do(looked_up)
        except StoreError:
            if self._directory is not None and not self._directory.is_lost:
                raise
        await self._do(self._connect)
        return await self._do(looked_up)

    async def _owner(self, session: str) -> Where | None:
        return await self._look_up(lambda directory: directory.owner_of(session))

    async def _ask(self, session: str, request: bytes | None) -> None:
        await self._look_up(lambda directory: directory.ask(session, request))

    # Calls

    async def call(self, session: str, verb: str, given: dict[str, Any]) -> Any:
        """Calls a verb of a session. Returns its answer, or raises what it raised there. Raises `HostMissing` if no
        worker takes the session, or the one that has it gives no sign of life, and `StoreError` if the database or the
        folder cannot be reached, each within the client's patience, or `LEAST_S` after it; at once, why the session
        cannot be opened there, and `TooLarge`, before anything is sent, for what is too long for the connection,
        `WrongEventLoop` in another event loop than the client's, where its connections are, `RuntimeError` before the
        client is entered, and `SessionClosed` once it was left, also while the call waits.
        """
        self._block.check_here()
        self._thread()  # raises if the client was left, in any event loop
        request = wire.pack([verb, given])
        wire.bounded(wire.call_of(NUMBER_MAX, session, request), "a call of a session")
        is_asked = False
        with self._stopwatch:
            patience = Patience.of(self._patience, self._stopwatch)
            for pause in itertools.chain(PAUSES, itertools.repeat(PAUSES[-1])):
                self._thread()  # raises before a connection is made that would never be ended
                reply = None
                try:
                    where = self._known.get(session) or await self._owner(session)
                    if where is not None:
                        self._known[session] = where
                        reply = await self._told(where, session, request, patience)
                        if reply is None:
                            self._known.pop(session, None)
                            if await self._owner(session) not in (None, where):
                                continue  # it has another owner by now
                    if reply is None and not is_asked:
                        await self._ask(session, request if verb in wire.KEYED else None)
                        is_asked = True
                    if reply is not None:
                        return await wire.read(verb, reply)
                except StoreError as error:
                    if patience.is_over or (reply is not None and not isinstance(error, StoreBusy)):
                        raise
                else:
                    if patience.is_over:
                        raise HostMissing(session, self._patience)
                await anyio.sleep(min(pause, max(patience.left, SHORTEST_S)))
        raise AssertionError("there is always another look")

    async def _is_there(self, where: Where) -> bool:
        """Tells whether a worker is there; also if the directory cannot be asked."""
        try:
            return await self._look_up(lambda directory: directory.is_there(where))
        except StoreError:
            return True

    async def _talk(self, where: Where, patience: Patience) -> Talk:
        """Returns the connection with a worker, which all calls share, as they do the attempt to make it. Raises what
        comes of that, and `TimeoutError` if the patience is over before.
        """
        talk = self._talks.get(where.address)
        if talk is not None and talk.token == where.token and not talk.is_over:
            return talk
        attempt = self._attempts.get(where)
        if attempt is None or attempt.task.done():
            attempt = self._attempts[where] = Attempt(asyncio.create_task(self._begin(where)))
        attempt.callers += 1
        try:
            await self._stopwatch.wait(attempt.task, max(patience.left, LEAST_S))
            if not attempt.task.done():
                raise TimeoutError("the worker does not answer")
            return attempt.task.result()
        finally:
            attempt.callers -= 1
            if not attempt.callers:
                if self._attempts.get(where) is attempt:
                    del self._attempts[where]
                if not attempt.task.done():
                    await to_its_end(partial(ended, attempt.task))

    async def _begin(self, where: Where) -> Talk:
        """Connects with a worker, in a task of its own. Raises as `Talk.begin`."""
        begun = await Talk.begin(where, self._tls, partial(self._is_there, where))
        last, self._talks[where.address] = self._talks.get(where.address), begun
        if last is not None:
            await last.close()
        if self._worker is None:  # the client was left meanwhile
            await begun.close()
        return begun

    async def _told(self, where: Where, session: str, request: bytes, patience: Patience) -> list[Any] | None:
        """Returns what the worker answers; None: it does not have the session, or is not there. While it had the
        session, and lived, no patience is charged.
        """
        try:
            talk = await self._talk(where, patience)
        except UNREACHED:
            return None
        since = talk.now()
        try:
            reply = await talk.call(session, request, max(patience.left, LEAST_S))
        except UNREACHED:
            patience.had_owner(talk.heard_at - since)
            return None
        patience.had_owner(talk.now() - since - ROOM_S)
        return None if reply[0] == "moved" else reply
