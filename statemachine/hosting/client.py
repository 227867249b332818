"""Calls sessions wherever they are: `SessionClient` finds the worker that has a session, and talks to it directly.

Where a session is, the directory says (`directory.py`). If no worker has it, the client asks for it there; a request
that gives work is written beside, and is carried out by the next owner even if the client dies. Then the client makes
the same request of that owner, with the same key, and gets its answer.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from functools import partial
from ssl import SSLContext
from types import TracebackType
from typing import Any, TypeAlias, TypeVar
from uuid import uuid4

import anyio
from attrs import define, field, frozen
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from statemachine.core.effects import ClosedAgents, Forgotten, Interrupted, Resumed
from statemachine.core.exact import shown, text
from statemachine.core.records import Outcome
from statemachine.eventloops import clock, to_its_end
from statemachine.hosting import wire
from statemachine.hosting.blocks import Block
from statemachine.hosting.directory import ClientDirectory, Place, Where, kind_at
from statemachine.hosting.errors import ClientLeft, HostMissing
from statemachine.pauses import LOOKS, RunTime
from statemachine.runtime.checks import headers_of, number_of, reference_of, text_of
from statemachine.runtime.handles import AgentRef, foreign
from statemachine.runtime.settings import DEFAULT_ROLE, wrap
from statemachine.runtime.status import AgentStatus
from statemachine.stores import limits, options
from statemachine.stores.errors import StoreBusy, StoreError
from statemachine.stores.protocol import LogRecord
from statemachine.stores.worker import Worker

__all__ = ["RemoteHandle", "RemoteSession", "SessionClient"]

PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Seconds between looks for an owner; the last one again and again."""

LOOK_S = 0.5
"""Seconds between two looks for a worker that does not answer."""

LEAST_S = 1.0
"""Seconds that a worker has at least to connect, and to give a sign of life, however little is left of a patience."""

ROOM_S = 5.0
"""Seconds after which a worker that never had the session has said so (`host.CLAIM_S`)."""

CLOSE_S = 1
"""Seconds for which a worker may take leave of a connection that is ended."""

UNREACHED = (OSError, WebSocketException, TimeoutError)
"""What says that a worker does not answer, and nothing of the session."""

NUMBER_MAX = 2**63
"""No connection has as many calls."""

Target: TypeAlias = "str | int | AgentRef | RemoteHandle"
Headers = Mapping[str, Any] | None

T = TypeVar("T")


class Stopwatch:
    """The run time of a client (`pauses.py`). While anything is measured, within `with`, the event loop looks every
    `LOOK_S`, whatever callers wait for: a pause that is shorter may be charged to them.
    """

    def __init__(self) -> None:
        self._time: RunTime | None = None
        self._measured = 0
        self._look_again: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        self._measured += 1
        if self._measured == 1:
            self._look()

    def __exit__(self, *_: object) -> None:
        self._measured -= 1
        if not self._measured and self._look_again is not None:
            self._look_again.cancel()
            self._run_time().look(math.inf)

    def now(self) -> float:
        """Returns the run time, in seconds. It never goes back."""
        return self._run_time().now()

    async def wait(self, awaited: asyncio.Future[Any], seconds: float) -> None:
        """Waits until this has ended, for so many seconds."""
        due = self.now() + seconds
        while not awaited.done() and (left := due - self.now()) > 0:
            await asyncio.wait([awaited], timeout=None if left == math.inf else max(left, PAUSES[0]))

    def _run_time(self) -> RunTime:
        if self._time is None:
            self._time = RunTime(clock())
        return self._time

    def _look(self) -> None:
        run_time = self._run_time()
        at = run_time.look(run_time.now() + LOOK_S * LOOKS)
        self._look_again = asyncio.get_running_loop().call_at(at, self._look)


@define
class Patience:
    """For how long the session of one call may be without an owner that lives, in run time."""

    _stopwatch: Stopwatch
    _due: float

    @classmethod
    def of(cls, seconds: float, stopwatch: Stopwatch) -> Patience:
        """Returns a patience of so many seconds from now."""
        return cls(stopwatch, stopwatch.now() + seconds)

    @property
    def left(self) -> float:
        """Seconds, negative once it is over."""
        return self._due - self._stopwatch.now()

    @property
    def is_over(self) -> bool:
        """Whether nothing is left."""
        return self.left <= 0

    def had_owner(self, seconds: float) -> None:
        """Takes back so many of the seconds that were charged: the session had an owner. Fewer than 0 are none."""
        self._due += max(0.0, seconds)


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
                await anyio.sleep(min(pause, max(patience.left, PAUSES[0])))
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
        """Returns what the worker answers; None: it has not the session, or is not there. While it had the session, and
        lived, no patience is charged.
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
                    step = min(step, max(left, PAUSES[0]))
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


@frozen(eq=False)
class RemoteHandle:
    """A handle of a request of a session that may be anywhere. Verbs of another session raise `TypeError` for it."""

    ref: AgentRef
    _session: RemoteSession = field(repr=False)

    async def outcome(self) -> Outcome:
        """Returns how the turn ended that took the request as input, as soon as it has, whichever workers have the
        session meanwhile. Raises as a call does.
        """
        found: Outcome = await self._session.call("outcome", ref=as_list(self.ref))
        return found


@frozen
class RemoteSession:
    """The verbs of a session that may be anywhere. They do what those of `AgentControl` do, and raise the same
    refusals, `SessionClosed` once the client was left; besides `HostMissing`, `RemoteError` and `StoreError`. `spawn`,
    `send`, `follow_up` and `start` are made once, also without a `key`; of the others, a call whose worker dies is made
    again. Two are equal if they are the same session of the same database or folder, whichever client calls it.
    """

    client: SessionClient = field(repr=False, eq=False)
    name: str
    _place: str = field(repr=False)

    async def call(self, verb: str, **given: Any) -> Any:
        """Calls a verb with these arguments, as JSON has them."""
        return await self.client.call(self.name, verb, given)

    async def spawn(
        self,
        parent: Target,
        name: str,
        message: str,
        settings: Any = None,
        *,
        role: str = DEFAULT_ROLE,
        headers: Headers = None,
        key: str | None = None,
    ) -> RemoteHandle:
        """See `AgentControl.spawn`."""
        name, role = text_of(name, limits.NAME), text_of(role, limits.ROLE)
        wrap(role, settings)  # raises what it would raise there
        given = {"parent": self._as_sent(parent), "name": name, "settings": settings, "role": role}
        return await self._request("spawn", given, message, headers, key)

    async def send(self, target: Target, message: str, *, headers: Headers = None, key: str | None = None) -> int:
        """See `AgentControl.send`."""
        given = work_given({"target": self._as_sent(target)}, message, headers, key)
        mail: int = await self.call("send", **given)
        return mail

    async def follow_up(
        self, target: Target, message: str, *, headers: Headers = None, key: str | None = None
    ) -> RemoteHandle:
        """See `AgentControl.follow_up`."""
        return await self._request("follow_up", {"target": self._as_sent(target)}, message, headers, key)

    async def start(
        self, target: Target, message: str, *, headers: Headers = None, key: str | None = None
    ) -> RemoteHandle:
        """See `AgentControl.start`."""
        return await self._request("start", {"target": self._as_sent(target)}, message, headers, key)

    async def _request(
        self, verb: str, given: dict[str, Any], message: str, headers: Headers, key: str | None
    ) -> RemoteHandle:
        return RemoteHandle(await self.call(verb, **work_given(given, message, headers, key)), self)

    async def withdraw(self, request: RemoteHandle | AgentRef) -> None:
        """See `AgentControl.withdraw`."""
        await self.call("withdraw", ref=as_list(self._named(request)))

    async def interrupt(self, target: Target, *, subtree: bool = False) -> Interrupted:
        """See `AgentControl.interrupt`."""
        found: Interrupted = await self.call("interrupt", target=self._as_sent(target), subtree=bool(subtree))
        return found

    async def close(self, target: Target) -> ClosedAgents:
        """See `AgentControl.close`."""
        found: ClosedAgents = await self.call("close", target=self._as_sent(target))
        return found

    async def resume(self, target: Target) -> Resumed:
        """See `AgentControl.resume`."""
        found: Resumed = await self.call("resume", target=self._as_sent(target))
        return found

    async def forget(self, target: Target) -> Forgotten:
        """See `AgentControl.forget`."""
        found: Forgotten = await self.call("forget", target=self._as_sent(target))
        return found

    async def status(self, target: Target) -> AgentStatus:
        """See `AgentControl.status`."""
        found: AgentStatus = await self.call("status", target=self._as_sent(target))
        return found

    async def list(self, prefix: str = "/root", *, closed: bool = False) -> tuple[AgentStatus, ...]:
        """See `AgentControl.list`."""
        found: tuple[AgentStatus, ...] = await self.call(
            "list", prefix=text_of(prefix, limits.PATH), closed=bool(closed)
        )
        return found

    async def history(self, target: Target) -> tuple[LogRecord, ...]:
        """See `AgentControl.history`."""
        found: tuple[LogRecord, ...] = await self.call("history", target=self._as_sent(target))
        return found

    def _named(self, value: object) -> object:
        """Returns the reference that a handle has, and any other value as it is. Raises `TypeError` for a handle of
        another session: its numbers are those of other agents and mails here.
        """
        if not isinstance(value, RemoteHandle):
            return value
        if value._session != self:  # pyright: ignore[reportPrivateUsage]
            raise foreign(value)
        return value.ref

    def _as_sent(self, target: object) -> Any:
        """Returns a target as it is sent. Raises `TypeError` for what is not one of this session."""
        return as_sent(self._named(target))

    def handle(self, ref: AgentRef) -> RemoteHandle:
        """Returns the handle of an earlier request. `outcome` raises `UnknownRequest` if it was never made."""
        return RemoteHandle(reference_of(ref), self)


# Values are looked at before they are sent: what `AgentControl` refuses is refused in the same words.


def as_list(ref: object) -> list[Any]:
    """Returns a reference as it is sent. Raises `TypeError`."""
    found = reference_of(ref)
    return [found.id, found.path, found.mail]


def as_sent(target: object) -> Any:
    """Returns a target as it is sent. Raises `TypeError` for what is not one."""
    if isinstance(target, AgentRef):
        return as_list(target)
    path = text(target)
    found = number_of(target) if path is None else path
    if found is None:
        raise TypeError(f"a target is a path, an id or a reference, not {shown(target)}")
    return found


def work_given(given: dict[str, Any], message: object, headers: object, key: object) -> dict[str, Any]:
    """Returns the arguments of a verb that gives work. It has a key, so that it can be repeated. Raises `TypeError`,
    `TooLarge` and `InvalidHeaders`.
    """
    said = headers_of(headers)
    return {
        **given,
        "message": text_of(message, limits.MESSAGE),
        "headers": None if said is None else json.loads(said),
        "key": uuid4().hex if key is None else text_of(key, limits.KEY),
    }
