"""AgentControl: a session that runs (semantics.md section 4, operations).

Every verb is one event to the core. It returns when what it tells is durable, or raises the refusal; a refused verb has
changed nothing. A caller that is cancelled while it waits for the answer has asked all the same: give a `key` to ask
again without doing it twice.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import anyio
from attrs import frozen

from statemachine.core import effects as fx
from statemachine.core import events as ev
from statemachine.core.config import SessionConfig
from statemachine.core.events import HOST
from statemachine.core.machines import SessionState
from statemachine.core.session import Session
from statemachine.log.recovery import restart
from statemachine.runtime.checks import check_reference, check_seconds
from statemachine.runtime.engine import Engine
from statemachine.runtime.handles import AgentRef, Handle, Target
from statemachine.runtime.live import LiveThreads
from statemachine.runtime.requests import Requests
from statemachine.runtime.settings import DEFAULT_ROLE
from statemachine.runtime.statistics import Statistics, statistics_of
from statemachine.runtime.stream import Streams
from statemachine.runtime.threads import Roles, Work
from statemachine.runtime.tracing import TraceFile
from statemachine.runtime.verbs import Verbs
from statemachine.stores.protocol import LogRecord, Store
from statemachine.stores.sqlite import SQLiteStore


class NotOpen:
    """Stands where an open session has its parts."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("the session is not open yet: enter it with `async with` first")


NOT_OPEN: Any = NotOpen()


class AgentControl:
    """One open session. Make it with `AgentControl.open`, use it as an async context manager.

    Leaving the block shuts the session down without grace: running turns are interrupted, rollouts are flushed. Leaving
    it by an exception stops at once, as a crash would; the log has everything that was acknowledged. Either way it is
    left when the code of every thread has come to its end. Code that does not answer within its bound is dropped, and
    its agent goes on without it; but code that swallows its cancellation for ever keeps the block from being left, and
    code that blocks the event loop keeps everybody from everything. Nothing in a process can stop either.
    """

    def __init__(
        self, store: Store, work: Work | Mapping[str, Work], config: SessionConfig, trace: Path | None
    ) -> None:
        self._store = store
        self._roles = Roles(work)
        self._config = config
        self._trace = trace
        self._stack = AsyncExitStack()
        self._ended = anyio.Event()
        self._shut_down: fx.ShutDown | None = None
        self._stopped_by: BaseException | None = None
        self._entered = False
        # Until the block is entered. An attribute that is there costs nothing; `__getattr__` would cost all of them.
        self._session: Session = NOT_OPEN
        self._engine: Engine = NOT_OPEN
        self._live: LiveThreads = NOT_OPEN
        self._requests: Requests = NOT_OPEN
        self._verbs: Verbs = NOT_OPEN
        self._streams: Streams = NOT_OPEN

    @classmethod
    def open(
        cls,
        store: str | os.PathLike[str] | Store,
        work: Work | Mapping[str, Work],
        config: SessionConfig | None = None,
        *,
        trace: str | os.PathLike[str] | None = None,
    ) -> AgentControl:
        """The session in this SQLite file (made if it is not there) or this store, with this work for its agents.

        `trace` is a file into which every event is written, for `statemachine replay` and `statemachine verify`.
        Entering the block raises `StoreError` if the store cannot be opened, `InvalidConfig` if the log exceeds the
        configuration.
        """
        if isinstance(store, str | os.PathLike):
            store = SQLiteStore(Path(store))
        return cls(store, work, config or SessionConfig(), None if trace is None else Path(trace))

    # The block

    async def __aenter__(self) -> AgentControl:
        if self._entered:
            raise RuntimeError("a session is entered once; call AgentControl.open again")
        self._entered = True
        async with AsyncExitStack() as stack:
            recovered = await self._store.open(self._config)
            stack.push_async_callback(self._store.close)
            trace = None
            if self._trace is not None:
                trace = TraceFile(self._trace, self._config, recovered.ledger)
                stack.callback(trace.close)
            self._session, step = restart(self._config, recovered.ledger, 0.0)
            self._streams = Streams()
            self._engine = Engine(self._session, self._store, self._carry_out, self._streams.publish, trace)
            self._requests = Requests(self._engine, self._roles.of)
            self._verbs = Verbs(self._engine, self._requests)
            tasks = await stack.enter_async_context(anyio.create_task_group())
            self._tasks = tasks
            self._live = LiveThreads(self._engine, self._verbs, self._roles, tasks, self._stop_by)
            self._engine.put(step)
            tasks.start_soon(self._commit)
            tasks.start_soon(self._engine.keep_time)
            self._stack = stack.pop_all()
        try:
            await self._engine.settled()
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        try:
            if kind is None:
                await self._finish()
        except BaseException as raised:
            await self._leave(raised)
            raise
        await self._leave(error)
        return None

    async def _leave(self, error: BaseException | None) -> None:
        """Ends all tasks and gives the store back; the block is left by this error. If there is one error alone, of the
        block or of a task, it leaves the block as it is, in no group of exceptions.
        """
        self._requests.leave()
        self._end()
        self._engine.abandon()
        self._live.drop_all()  # what closes threads is shielded, for stop_grace
        self._tasks.cancel_scope.cancel()
        passed_on = None if isinstance(error, Exception) else error  # of the tasks' business is only a cancellation
        try:
            await self._stack.__aexit__(type(passed_on) if passed_on else None, passed_on, None)
        except BaseExceptionGroup as group:
            only, *others = group.exceptions
            if others:
                raise
            self._stopped_by = self._stopped_by or only
        if self._stopped_by is not None and self._stopped_by is not error:
            raise self._stopped_by

    def _stop_by(self, error: BaseException) -> None:
        """The block is left by this error of a thread, such as KeyboardInterrupt."""
        self._stopped_by = error
        self._tasks.cancel_scope.cancel()

    async def _finish(self) -> None:
        """The session is shut down. Raises `StoreFailed` if it failed, so that nobody takes it for done."""
        if self._session.state is SessionState.OPEN:
            await self.shutdown(0)
        await self._ended.wait()
        if self._engine.error is not None:
            raise self._engine.ended_by()

    async def _commit(self) -> None:
        await self._engine.commit_for_ever()
        if self._engine.error is not None:
            self._live.drop_all()
            self._end()

    def _end(self) -> None:
        self._ended.set()
        self._streams.end()
        self._requests.end()

    # Verbs

    async def spawn(
        self,
        parent: Target,
        name: str,
        message: str,
        settings: Any = None,
        *,
        role: str = DEFAULT_ROLE,
        sender: int = HOST,
        key: str | None = None,
    ) -> Handle:
        """A new agent `name` under `parent`, with `message` as its first mail.

        `settings` is any JSON value, given back at every load. Raises what `spawn` is refused with (semantics.md
        section 4), `UnknownRole` and `NotJson`.
        """
        return await self._verbs.spawn(sender, parent, name, message, settings, role, key)

    async def send(self, target: Target, message: str, *, sender: int = HOST, key: str | None = None) -> int:
        """Queue-only mail: the target's next turn reads it, and nobody is woken. Returns the mail's number."""
        return await self._verbs.send(sender, target, message, key)

    async def follow_up(self, target: Target, message: str, *, sender: int = HOST, key: str | None = None) -> Handle:
        """Trigger mail: asks for a turn of the target, or for its next one. The handle has the outcome."""
        return await self._verbs.follow_up(sender, target, message, key)

    async def start(self, target: Target, message: str, *, key: str | None = None) -> Handle:
        """The direct way to a turn of the root, or of any agent; the same admission as every other turn."""
        return await self._verbs.start(target, message, key)

    async def interrupt(self, target: Target, *, sender: int = HOST) -> fx.Interrupted:
        """Stops the turn that the target has or waits for, and only that one: its children go on. The reply has the
        status before; an idle one means that there was no turn. Returns before a running turn has stopped.
        """
        return await self._verbs.interrupt(sender, target)

    async def close(self, target: Target, *, sender: int = HOST) -> tuple[int, ...]:
        """Closes the target and all below it, at once; never waits for a thread. Returns the ids of those that were
        open. Closing a closed agent succeeds.
        """
        return await self._verbs.close(sender, target)

    async def resume(self, target: Target, *, sender: int = HOST) -> tuple[int, ...]:
        """Opens a closed agent again, not loaded. Returns the ids of those that are open again, the target first."""
        return await self._verbs.resume(sender, target)

    async def status(self, target: Target) -> fx.AgentStatus:
        """The logical facts of an agent, the same for loaded and unloaded ones, and whether it is resident."""
        return await self._verbs.status(target)

    async def list(self, prefix: str = "/root") -> tuple[fx.AgentStatus, ...]:
        """Every open agent at or below `prefix`, root first, then by path."""
        return await self._verbs.list(prefix)

    async def history(self, target: Target) -> tuple[LogRecord, ...]:
        """The rollout of an agent: its mail, turns and entries, oldest first."""
        return await self._verbs.history(target)

    async def handle(self, ref: AgentRef) -> Handle:
        """A handle on a request that was made before, in this process or an earlier one. Raises `UnknownRequest` if it
        never was.
        """
        check_reference(ref)
        return await self._requests.find(ref)

    async def shutdown(self, grace: float) -> fx.ShutDown:
        """No new work; running turns may finish within `grace` seconds, then are interrupted; rollouts are flushed.
        Returns who was done, who was interrupted and who could not be flushed. The session is closed then.
        """
        check_seconds(grace)
        await self._engine.ask(ev.Shutdown(grace), fx.ShuttingDown)
        await self._ended.wait()
        if self._shut_down is None:
            raise self._engine.ended_by()
        return self._shut_down

    @asynccontextmanager
    async def events(self, unread_max: int = 10_000) -> AsyncGenerator[AsyncIterator[Any]]:
        """What happens from here on, as records and effects in their order, once it is durable:
        `async with control.events() as events: async for event in events: ...`. Ends with the session. Raises
        `EventsLost` at a reader that is more than `unread_max` behind.
        """
        with self._streams.subscribe(unread_max) as stream:
            yield stream

    def statistics(self) -> Statistics:
        """Slots, residency, ready queue, and how often what happened since the session was opened."""
        return statistics_of(self._session, self._engine, self._live)

    # Effects

    def _carry_out(self, effect: fx.Effect) -> None:
        kind = effect.__class__
        if kind is fx.Answer:
            self._requests.answer(cast("fx.Answer", effect))
        elif kind is fx.ShutDown:
            self._shut_down = cast("fx.ShutDown", effect)
            self._end()
        else:
            self._live.carry_out(effect)


@frozen
class Inside:
    """What a session runs on."""

    session: Session
    engine: Engine
    requests: Requests
    live: LiveThreads


def inside(control: AgentControl) -> Inside:
    """What is within a session that is, or was, open: for judges, demonstrations and tests, which look and change
    nothing. Users need none of it: it changes without notice.
    """
    c = control
    return Inside(c._session, c._engine, c._requests, c._live)  # pyright: ignore[reportPrivateUsage]  (the one door)
