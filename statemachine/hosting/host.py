"""Runs sessions of a database, as one of any number of workers, or those of a folder: `SessionHost`.

The problem. Thousands of sessions, of which few have something to do at a time, and processes that come, go and die.

What is done. It is the residency idea one floor up: a session that is not loaded stays addressable. One that has open
work, or is asked for, is claimed by a worker with room and opened there; one that has had nothing to do for `idle_ttl`
is left again. Every `poll` seconds a worker looks at the directory of sessions (`directory.py`): it says that it lives,
frees what dead workers had, claims what is free up to its share, and gives away what it has beyond it. Each session
runs in a task of its own, within `AgentControl`.

What was rejected. To end a worker that cannot reach the database: its sessions fail by themselves, with the fence, and
what it does afterwards is to try again. To move the memory of a session: it is opened anew from its log.

What remains ugly. Turns that run while their session is handed over are treated as after a crash: they are tried again
if `max_attempts` allows it.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from ssl import SSLContext
from types import TracebackType
from typing import Any, TypeVar

import anyio
from anyio import CancelScope
from anyio.abc import TaskGroup
from attrs import define, field
from websockets.asyncio.server import Server

from statemachine.core.config import SessionConfig
from statemachine.core.events import ROOT
from statemachine.core.machines import SessionState
from statemachine.core.refusals import StoreFailed
from statemachine.core.session import Session
from statemachine.eventloops import (
    clock,
    free_left_behind,
    leaving,
    misplaced,
    note_entered,
    note_left,
    to_its_end,
)
from statemachine.hosting import rules, server, wire
from statemachine.hosting.blocks import Block
from statemachine.hosting.directory import Ask, Claimed, HostDirectory, Place, Where, kind_at
from statemachine.hosting.server import CallServer, Moved
from statemachine.pauses import RunTime
from statemachine.runtime import AgentControl
from statemachine.runtime.control import inside
from statemachine.runtime.errors import WrongTask
from statemachine.runtime.threads import Roles, Work
from statemachine.sinks import log
from statemachine.stores import options
from statemachine.stores.encoding import check_config
from statemachine.stores.errors import (
    ConnectionLost,
    SessionInUse,
    StoreBusy,
    StoreError,
    StoreExhausted,
    StoreUnreachable,
)
from statemachine.stores.worker import Worker

__all__ = ["SessionHost"]

T = TypeVar("T")

UNSEEN = "sessions cannot be looked up (%s): sessions are dropped, and it is tried again"
PORT_MAX = 65_535
LOOPBACK = "127.0.0.1"
CAPACITY = 1_000
IDLE_TTL, TTL, POLL, GRACE = 30.0, 5.0, 0.5, 10.0
CLAIM_S = 5.0
"""Seconds for which a call waits for room for its session, where no other worker could have it."""
LOOKS = 4
"""How often it is looked, within `idle_ttl`, whether a session has something to do."""
PRESSED_S = 0.05
"""Seconds between two looks for idle sessions while others wait for room."""
OF_OTHERS = SessionInUse, ConnectionLost, StoreUnreachable
"""A session that leaves by these has another owner, or its server is gone: the session itself is well."""
BACKOFF_S, BACKOFF_MAX_S = 0.5, 60.0
"""Seconds after which a lost database is connected again, and a session that could not be opened is free again; for
such a session twice as many each time, up to the bound.
"""


class HandOver(Exception):
    """Leaves the block of a session as a crash does: open work stays as it is, for the next owner."""


@define(eq=False)
class Hosted:
    """A session that this worker has claimed."""

    claimed: Claimed
    control: AgentControl | None = None
    """None: it is being opened, or left."""
    ready: anyio.Event = field(factory=anyio.Event)
    """Set when it is open, or cannot be opened."""
    told: anyio.Event = field(factory=anyio.Event)
    """Set when it is to be left."""
    give_away: bool = False
    """Whether it is to be handed over, with its open work, or left only if it is idle."""
    calls: int = 0
    """Calls under way, also those that wait until it is open."""
    failure: Exception | None = None
    """Why it cannot be opened, until that is tried again. Callers are told."""
    asks: set[int] = field(factory=set[int])
    """Requests that callers left in the directory, and that are being carried out here."""
    used: float = field(factory=time.monotonic)
    """When it was called last."""

    @property
    def is_idle(self) -> bool:
        """Whether it has nothing to do."""
        return self.control is not None and not self.calls and not has_turns(inside(self.control).session)

    @property
    def has_ended(self) -> bool:
        """Whether the session was shut down, or has failed, while it was open here: nothing comes of it any more."""
        return self.control is not None and inside(self.control).session.state is not SessionState.OPEN

    async def rest(self, seconds: float) -> None:
        """Waits so long before the session is free again, unless it is to be left."""
        with anyio.move_on_after(seconds):
            await self.told.wait()

    def leave(self) -> None:
        """Has the session handed over."""
        self.give_away = True
        self.told.set()


async def happens(event: anyio.Event, seconds: float) -> None:
    """Waits for the event, for so many seconds in which the process could run."""
    run_time = RunTime(clock())
    while not event.is_set() and run_time.now() < seconds:
        with CancelScope(deadline=run_time.look(seconds)):
            await event.wait()


def has_turns(session: Session) -> bool:
    """Tells whether any agent has a turn, or was asked for one. The root has one beside the slots, which are those of
    sub-agents; a turn that has lent its slot may be in no wait any more, as one that is being stopped.
    """
    slots = session.slots
    return bool(
        slots.held or slots.lent or slots.ready or session.waits.of_agent or not session.agents[ROOT].status.is_idle
    )


class SessionHost:
    """One of N identical workers that run the sessions of a database, or the one that runs the sessions of a folder,
    each of which is a file of SQLite there. Use it within `async with`, on asyncio:

        async with SessionHost("postgresql://host/database", work) as host:  # or "path/to/folder"
            await host.run()

    `work` and `config` are those of all sessions (`AgentControl.open`). A session comes to be when a client asks for
    it; a worker has up to `capacity` of them at a time. It listens on `address` and `port`, 0 for a free one, and tells
    clients to reach it at `advertise`, a URI of websockets, by default the address itself; `tls` makes it serve with
    TLS. Seconds: a worker that is silent for `ttl` is taken for dead, it looks at the database, or at the folder, every
    `poll`, leaves a session after `idle_ttl` without anything to do, and gives turns `grace` to end before it hands
    their session over. The host of a folder is not taken for dead as long as its process is there.

    Entering raises `StoreError` if the database cannot be reached, `FolderInUse` if the folder has a host, `OSError` if
    the address cannot be had, and `RuntimeError` elsewhere than on asyncio, and if the host was entered before: make
    another one then. Leaving the block drains: all sessions are handed over, to other workers or to the next host of
    the folder.
    """

    def __init__(
        self,
        place: Place,
        work: Work | Mapping[str, Work],
        config: SessionConfig | None = None,
        *,
        address: str = LOOPBACK,
        port: int = 0,
        advertise: str | None = None,
        tls: SSLContext | None = None,
        capacity: int = CAPACITY,
        idle_ttl: float = IDLE_TTL,
        ttl: float = TTL,
        poll: float = POLL,
        grace: float = GRACE,
    ) -> None:
        """`place` is the DSN of a database, without a session, or the path of a folder, which is made if it is missing.
        Raises `StoreUnreachable` for what is not a DSN, `StoreMissing` for what is not a path, `InvalidWork`, and
        `TypeError` and `ValueError` for options that are not what they have to be.
        """
        idle_ttl = options.seconds(idle_ttl, "idle_ttl", zero=False)
        ttl, poll = options.seconds(ttl, "ttl", zero=False), options.seconds(poll, "poll", zero=False)
        grace = options.seconds(grace, "grace")
        if poll * 3 > ttl:
            problem = "give a ttl of three polls or more, or workers that live are taken for dead"
            raise ValueError(f"poll={poll:g} and ttl={ttl:g}; {problem}")
        capacity, port = options.whole(capacity, "capacity", 1), options.whole(port, "port", 0, PORT_MAX)
        address = options.text(address, "address", "a name or number of this machine, as 127.0.0.1")
        if advertise is not None:
            advertise = options.text(advertise, "advertise", "a URI, as wss://host:443")
            if not advertise.startswith(("ws://", "wss://")):
                raise ValueError(f"advertise={advertise!r:.100}; give a URI of websockets, as wss://host:443")
        options.one_of(tls, "tls", SSLContext, "an ssl.SSLContext")
        if config is not None:
            check_config(config)
        Roles(work)  # raises what opening a session would
        self._kind, self._work, self._config = kind_at(place), work, config
        self._address, self._port, self._advertise, self._tls = address, port, advertise, tls
        self._capacity, self._idle_ttl, self._ttl, self._poll, self._grace = capacity, idle_ttl, ttl, poll, grace
        self._held: dict[int, Hosted] = {}
        self._by_name: dict[str, Hosted] = {}
        self._failures: dict[str, int] = {}
        """Name of a session -> how often in a row it could not be opened here."""
        self._token = secrets.token_urlsafe(32)
        self._beat = -math.inf
        """When its last heartbeat began, by the clock of this process, which goes on while it is stopped."""
        self._awaited: dict[str, anyio.Event] = {}
        """Name of a session that callers wait for -> set when it is claimed."""
        self._is_pressed = False
        """Whether others wait for room."""
        self._block = Block("host")
        self._draining = False
        self._ended = anyio.Event()
        self._tasks: TaskGroup
        self._server: Server
        self._worker: Worker
        self._directory: HostDirectory | None = None
        self.where = ""
        """The URI of this worker."""

    @property
    def _spare(self) -> int:
        """How many of its sessions take no room, because they cannot be opened."""
        return sum(hosted.failure is not None for hosted in self._held.values())

    @property
    def sessions(self) -> tuple[str, ...]:
        """The names of the sessions that this worker has."""
        return tuple(sorted(self._by_name))

    # The block

    async def __aenter__(self) -> SessionHost:
        with self._block.entering():
            await free_left_behind()
            self._worker = Worker("statemachine-host")
            note_entered(self, self._end_elsewhere)
            try:
                await to_its_end(self._open)
            except BaseException:
                await to_its_end(self._end)
                raise
            self._tasks = anyio.create_task_group()
            await self._tasks.__aenter__()
            self._tasks.start_soon(self._watch)
        return self

    async def _open(self) -> None:
        """Begins to serve, and connects with the directory."""
        self._server = await CallServer(self._carry, self._token, self._tls).listen(self._address, self._port)
        if not self._server.sockets:  # asyncio passes over what the system refuses
            raise StoreExhausted(
                f"{self._address}:{self._port}", "the process has no file descriptor left to listen with"
            )
        port = self._server.sockets[0].getsockname()[1]
        scheme = "ws" if self._tls is None else "wss"
        host = f"[{self._address}]" if ":" in self._address else self._address
        self.where = self._advertise or f"{scheme}://{host}:{port}"
        await self._worker.do(self._connect)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        problem = misplaced(self)
        if problem is not None:  # before anything is cancelled
            raise WrongTask(problem)
        if not self._block.leave():
            return None
        try:
            with CancelScope(shield=True):
                await self._hand_over()
        finally:
            self._tasks.cancel_scope.cancel()
            try:
                with leaving(self):
                    await self._tasks.__aexit__(None, None, None)
            finally:
                await to_its_end(self._end)
        return None

    async def run(self) -> None:
        """Serves until the worker is told to drain. Raises `RuntimeError` before the block is entered, and
        `WrongEventLoop` in another event loop than that of the block.
        """
        self._block.check_here()
        await self._ended.wait()

    async def drain(self) -> None:
        """Hands over all sessions, to be claimed by others: takes no more calls and no more sessions, gives turns
        `grace` seconds to end, and returns when the worker has none left. Raises as `run`.
        """
        self._block.check_here()
        await self._hand_over()

    async def _hand_over(self) -> None:
        self._draining = True
        self._drop_all()
        for awaited in self._awaited.values():
            awaited.set()
        while self._held:
            await anyio.sleep(0.01)
        self._ended.set()

    async def _end(self) -> None:
        """Ends the connections with callers, that with the directory and its thread, whatever one of them raises."""
        async with AsyncExitStack() as stack:
            stack.callback(note_left, self)
            stack.callback(self._worker.stop)
            stack.push_async_callback(self._let_go)
            listening: Server | None = getattr(self, "_server", None)
            if listening is not None:
                stack.push_async_callback(listening.wait_closed)
                stack.callback(listening.close)

    async def _end_elsewhere(self) -> None:
        """Frees folder and address in another event loop, after that of the host was closed."""
        listening: Server | None = getattr(self, "_server", None)
        if listening is not None:
            listening.server.close()
        await self._let_go()
        self._worker.stop()

    async def _let_go(self) -> None:
        with suppress(StoreError):
            await self._worker.do(self._disconnect)

    # The directory, in a thread

    def _connect(self) -> None:
        """Connects, and joins the workers, with a number of its own each time: what it had before is lost."""
        self._disconnect()
        self._directory = self._kind.for_host(self._capacity, self._ttl)
        self._directory.join(Where(self.where, self._token))

    def _disconnect(self) -> None:
        directory, self._directory = self._directory, None
        if directory is not None:
            with suppress(StoreError):
                directory.leave()
            directory.close()

    async def _do(self, call: Callable[[HostDirectory], T]) -> T | None:
        """Makes a call of the directory, as it is connected now: a session may be from an earlier connection. Returns
        None if it cannot be reached, which the next look finds out.
        """

        def done() -> T | None:
            return None if self._directory is None else call(self._directory)

        with suppress(StoreError):
            return await self._worker.do(done)
        return None

    # Looking

    async def _watch(self) -> None:
        """Looks at the directory every `poll` seconds, or when a caller asks for a session."""
        while True:
            try:
                if not await self._look():
                    await self._pause()
            except Exception as error:  # whatever it is, no session is to end with it
                is_told = isinstance(error, StoreError)  # anything else is a defect, and its place is wanted
                log.warning(UNSEEN, error, exc_info=not is_told)
                await self._begin_again()

    async def _pause(self) -> None:
        directory = self._directory
        assert directory is not None
        with anyio.move_on_after(self._poll):
            await directory.until_asked()

    async def _look(self) -> bool:
        """Looks once. Returns whether there is more to claim at once."""
        directory = self._directory
        assert directory is not None
        begun = time.monotonic()
        found = await self._worker.do(directory.poll, [*self._held], self._spare, self._draining)
        self._beat = begun
        if found.is_buried:
            log.warning("worker %s was taken for dead, and has lost its sessions", self.where)
            self._drop_all()
        for hosted in self._held.values():
            if hosted.has_ended:
                hosted.leave()
        for claimed in found.claimed:
            self._begin(directory, claimed)
        if self._draining:
            self._drop_all()  # also what was claimed as that began
        for ask in found.asks:
            asked = self._held.get(ask.session)
            if asked is not None and ask.id not in asked.asks:
                asked.asks.add(ask.id)
                self._tasks.start_soon(self._carry_out, asked, ask)
        self._balance(found.fair, found.free)
        return len(found.claimed) == found.most > 0 and found.free > 0

    def _balance(self, fair: int, free: int) -> None:
        """Gives away what is beyond the share, and makes room if there is none."""
        if self._draining:
            return
        mine = [hosted for hosted in self._held.values() if not hosted.told.is_set()]
        surplus = rules.to_give(len(mine), fair)
        is_full = self._is_pressed = len(self._held) - self._spare >= self._capacity and free > 0
        if not surplus and not is_full:
            return  # asking each session whether it rests takes milliseconds
        mine.sort(key=lambda hosted: (not hosted.is_idle, hosted.used))
        for hosted in mine[:surplus]:
            hosted.leave()
        if is_full:
            idle = [hosted for hosted in mine[surplus:] if hosted.is_idle]
            for hosted in idle[: rules.to_unload(free, 0, len(idle))]:
                hosted.told.set()

    async def _begin_again(self) -> None:
        """Drops all sessions, which others take, and connects again."""
        self._drop_all()
        while True:
            await anyio.sleep(BACKOFF_S)
            try:
                await self._worker.do(self._connect)
            except Exception as error:
                log.info("sessions cannot be looked up yet: %s", error)
                continue
            return

    def _drop_all(self) -> None:
        for hosted in self._held.values():
            hosted.leave()

    # Sessions

    def _begin(self, directory: HostDirectory, claimed: Claimed) -> None:
        hosted = self._held[claimed.id] = self._by_name[claimed.name] = Hosted(claimed)
        if (awaited := self._awaited.pop(claimed.name, None)) is not None:
            awaited.set()
        self._tasks.start_soon(self._host, directory, hosted)

    async def _host(self, directory: HostDirectory, hosted: Hosted) -> None:
        """Has a session open until it is to be left."""
        try:
            try:
                store = directory.store(hosted.claimed)
                async with AgentControl.open(store, self._work, self._config) as control:
                    hosted.control = control
                    hosted.ready.set()
                    await self._tend(directory, hosted, control)
            finally:
                hosted.control = None
                hosted.ready.set()
        except HandOver:
            log.info("session %s is handed over", hosted.claimed.name)
        except (SessionInUse, StoreFailed, ConnectionLost, StoreUnreachable) as error:
            tell = log.info if isinstance(error, OF_OTHERS) or isinstance(error.__cause__, OF_OTHERS) else log.warning
            tell("session %s is not here any more: %s", hosted.claimed.name, error)
            if directory.is_alone and isinstance(error, SessionInUse):  # no other host can have it: a program has
                hosted.failure = StoreBusy(error.path, error.problem)
            await hosted.rest(self._poll)
        except Exception as error:  # of its rows or its configuration: the other sessions go on
            hosted.failure = error
            log.exception("session %s cannot go on here", hosted.claimed.name)
            failures = self._failures[hosted.claimed.name] = self._failures.get(hosted.claimed.name, 0) + 1
            await hosted.rest(min(BACKOFF_S * 2 ** min(failures, 10), BACKOFF_MAX_S))
        else:
            self._failures.pop(hosted.claimed.name, None)
        finally:
            with CancelScope(shield=True):
                await self._do(lambda connected: connected.give_back(hosted.claimed))
            if self._held.get(hosted.claimed.id) is hosted:
                del self._held[hosted.claimed.id]
            if self._by_name.get(hosted.claimed.name) is hosted:
                del self._by_name[hosted.claimed.name]
            if self._directory is not None:
                self._directory.stir()

    async def _tend(self, directory: HostDirectory, hosted: Hosted, control: AgentControl) -> None:
        """Returns when the session needs no owner. Raises `HandOver` if it is to be left with its open work. What it is
        given is time in which the process could run: a look that comes late counts as one that is not.
        """
        looks, used = 0, hosted.used
        while True:
            with anyio.move_on_after(self._idle_ttl / LOOKS):
                await hosted.told.wait()
            if hosted.give_away:
                await self._ends(hosted)
                if inside(control).session.state is SessionState.FAILED:
                    return  # leaving raises why
                if directory.is_alone and await self._rests(hosted, control):
                    return
                raise HandOver
            is_told = hosted.told.is_set()
            if not hosted.is_idle or hosted.used != used:
                looks, used = 0, hosted.used
            elif not is_told:
                looks += 1
            if (is_told or looks >= LOOKS) and await self._rests(hosted, control):
                return
            if hosted.told.is_set() and not hosted.give_away:
                hosted.told = anyio.Event()

    async def _ends(self, hosted: Hosted) -> None:
        """Gives the turns of a session their grace to end."""
        run_time = RunTime(clock())
        while not (hosted.is_idle or hosted.has_ended) and (now := run_time.now()) < self._grace:
            pause = min(0.02, self._poll, self._grace - now)
            run_time.look(now + pause)
            await anyio.sleep(pause)

    async def _rests(self, hosted: Hosted, control: AgentControl) -> bool:
        """Says that the session needs no owner, if it has nothing to do. Returns whether it was said: the session is to
        be left then.
        """
        if hosted.is_idle and not hosted.has_ended:
            asked = await self._do(lambda directory: directory.asked(hosted.claimed.id))
            if asked is not None and hosted.is_idle:
                hosted.control = None  # callers are told that it moves
                if await self._do(lambda directory: directory.unload(hosted.claimed, asked)):
                    return True
                hosted.control = control
        return False

    async def _carry(self, session: str, call: Callable[[AgentControl], Awaitable[Any]]) -> Any:
        """Makes a call of a session. Raises `Moved`, and why the session cannot be opened."""
        hosted = self._by_name.get(session) or await self._claimed(session)
        hosted.calls += 1
        try:
            await hosted.ready.wait()
            if hosted.failure is not None:
                raise hosted.failure.with_traceback(None)
            control = hosted.control
            if control is None or hosted.give_away:
                raise Moved
            hosted.used = time.monotonic()
            self._check_beat()
            answer = await call(control)
            self._check_beat()
            return answer
        except SessionInUse:
            hosted.leave()  # it was taken over, which the session itself finds out when it writes
            raise
        finally:
            hosted.calls -= 1
            hosted.used = time.monotonic()
            if self._is_pressed and self._directory is not None and hosted.used - self._beat > PRESSED_S:
                self._directory.stir()

    async def _claimed(self, session: str) -> Hosted:
        """Has a session claimed that is called, if no other worker could have it. Raises `Moved` if one could, or if
        there is no room soon.
        """
        directory = self._directory
        if directory is None or not directory.is_alone or self._draining:
            raise Moved
        awaited = self._awaited.setdefault(session, anyio.Event())

        def want() -> None:
            if self._directory is not directory:  # it was connected anew meanwhile
                raise Moved
            directory.want(session)

        await self._worker.do(want)
        directory.stir()
        await happens(awaited, CLAIM_S)
        hosted = self._by_name.get(session)
        if hosted is None:
            raise Moved
        return hosted

    def _check_beat(self) -> None:
        """Raises `Moved` if this worker has been silent for so long that others may have taken it for dead: it hung,
        and what it knows may be old.
        """
        if self._directory is None or time.monotonic() - self._beat > self._directory.ttl:
            raise Moved

    async def _carry_out(self, hosted: Hosted, ask: Ask) -> None:
        """Makes a request that a caller has left in the directory, and drops it there."""
        await hosted.ready.wait()
        control = hosted.control
        if control is None:
            return  # the next owner does
        hosted.calls += 1
        try:
            verb, given = wire.unpack(ask.request)
            await server.called(control, verb, given)
        except server.ELSEWHERE:
            hosted.leave()
            return  # it stays for the next owner
        except Exception as error:  # whatever it is, the caller is told when it asks
            log.info("a request of session %s was refused: %r", hosted.claimed.name, error)
        finally:
            hosted.calls -= 1
        await self._do(lambda directory: directory.done([ask.id]))
