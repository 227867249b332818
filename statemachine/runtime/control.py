"""AgentControl: a session that runs (semantics.md section 4, operations).

Every verb is one event to the core. It returns when what it tells is durable, or raises the refusal; a refused verb has
changed nothing. A caller that is cancelled while it waits for the answer has asked all the same: give a `key` to ask
again without doing it twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, cast
from weakref import WeakValueDictionary

import anyio

from statemachine.core import effects as fx
from statemachine.core import events as ev
from statemachine.core.config import SessionConfig
from statemachine.core.events import HOST, Event
from statemachine.core.machines import SessionState
from statemachine.core.records import MailAccepted
from statemachine.core.refusals import SessionClosed, StoreFailed, UnknownAgent
from statemachine.core.session import Session
from statemachine.log.recovery import restart
from statemachine.log.trace import event_line
from statemachine.runtime.checks import check_reference, check_seconds, check_sender, check_text
from statemachine.runtime.engine import Engine
from statemachine.runtime.errors import KeyReused, UnknownPath, UnknownRequest, words
from statemachine.runtime.handles import AgentRef, Handle, Target, outcome_in
from statemachine.runtime.live import LiveThreads
from statemachine.runtime.statistics import Statistics, statistics_of
from statemachine.runtime.stream import Streams
from statemachine.runtime.threads import DEFAULT_ROLE, Roles, Work, json_text, wrap
from statemachine.runtime.tracing import TraceFile
from statemachine.stores.protocol import LogRecord, Receipt, Store
from statemachine.stores.sqlite import SQLiteStore

R = TypeVar("R")
REFERENCES = (Handle, AgentRef)


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
        self._handles: dict[int, Handle] = {}
        """Mail -> the handle of a request that was made here and is not answered yet."""
        self._looked_up: WeakValueDictionary[int, Handle] = WeakValueDictionary()
        """Mail -> a handle on a request that was made before, answered or not."""
        self._keys: dict[str, anyio.Event] = {}
        self._ended = anyio.Event()
        self.has_ended = False
        """Has the session been shut down, or failed?"""
        self._shut_down: fx.ShutDown | None = None
        self._stopped_by: BaseException | None = None
        self._entered = self._is_left = False
        # Until the block is entered. An attribute that is there costs nothing; `__getattr__` would cost all of them.
        self.session: Session = NOT_OPEN
        self.engine: Engine = NOT_OPEN
        self._live: LiveThreads = NOT_OPEN
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
            self.session, step = restart(self._config, recovered.ledger, 0.0)
            self._streams = Streams()
            self.engine = Engine(self.session, self._store, self._carry_out, self._streams.publish, trace)
            tasks = await stack.enter_async_context(anyio.create_task_group())
            self._tasks = tasks
            self._live = LiveThreads(self, self._roles, tasks)
            self.engine.put(step)
            tasks.start_soon(self._commit)
            tasks.start_soon(self.engine.keep_time)
            self._stack = stack.pop_all()
        try:
            await self.engine.settled()
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
        self._is_left = True
        self._end()
        self.engine.abandon()
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

    def stop_by(self, error: BaseException) -> None:
        """The block is left by this error of a thread, such as KeyboardInterrupt. For the runtime."""
        self._stopped_by = error
        self._tasks.cancel_scope.cancel()

    async def _finish(self) -> None:
        """The session is shut down. Raises `StoreFailed` if it failed, so that nobody takes it for done."""
        if self.session.state is SessionState.OPEN:
            await self.shutdown(0)
        await self._ended.wait()
        if self.engine.error is not None:
            raise self.ended_by()

    async def _commit(self) -> None:
        await self.engine.commit_for_ever()
        if self.engine.error is not None:
            self._live.drop_all()
            self._end()

    def _end(self) -> None:
        self.has_ended = True
        self._ended.set()
        self._streams.end()
        for handle in [*self._handles.values(), *self._looked_up.values()]:
            handle.end()

    # Verbs

    async def spawn(
        self,
        parent: Target,
        name: str,
        message: str,
        settings: Any = None,
        *,
        role: str = DEFAULT_ROLE,
        key: str | None = None,
    ) -> Handle:
        """A new agent `name` under `parent`, with `message` as its first mail.

        `settings` is any JSON value, given back at every load. Raises what `spawn` is refused with (semantics.md
        section 4), `UnknownRole` and `NotJson`.
        """
        return await self.spawn_for(HOST, parent, name, message, settings, role, key)

    def spawn_for(
        self, sender: int, parent: Target, name: str, message: str, settings: Any, role: str, key: str | None
    ) -> Coroutine[Any, Any, Handle]:
        """`spawn` in the name of the host or of an agent, which is told how the turn ended."""
        check_text(message)
        check_text(name, "a name")
        check_text(role, "a role")
        event = ev.Spawn(self.id_of(parent), name, message, wrap(role, settings), sender)
        return self._request(key, event, None, role)

    async def send(self, target: Target, message: str, *, sender: int = HOST, key: str | None = None) -> int:
        """Queue-only mail: the target's next turn reads it, and nobody is woken. Returns the mail's number."""
        check_text(message)
        check_sender(sender)
        agent = self.id_of(target)
        return (await self._request(key, ev.Send(sender, agent, message), agent)).ref.mail

    async def follow_up(self, target: Target, message: str, *, key: str | None = None) -> Handle:
        """Trigger mail: asks for a turn of the target, or for its next one. The handle has the outcome."""
        return await self.follow_up_for(HOST, target, message, key)

    def follow_up_for(self, sender: int, target: Target, message: str, key: str | None) -> Coroutine[Any, Any, Handle]:
        """`follow_up` in the name of the host or of an agent."""
        check_text(message)
        agent = self.id_of(target)
        return self._request(key, ev.FollowUp(sender, agent, message), agent)

    async def start(self, target: Target, message: str, *, key: str | None = None) -> Handle:
        """The direct way to a turn of the root, or of any agent; the same admission as every other turn."""
        check_text(message)
        agent = self.id_of(target)
        return await self._request(key, ev.Start(agent, message), agent)

    async def interrupt(self, target: Target, *, sender: int = HOST) -> fx.Interrupted:
        """Stops the turn that the target has or waits for, and only that one: its children go on. The reply has the
        status before; an idle one means that there was no turn. Returns before a running turn has stopped.
        """
        check_sender(sender)
        return await self.ask(ev.Interrupt(sender, self.id_of(target)), fx.Interrupted)

    async def close(self, target: Target, *, sender: int = HOST) -> tuple[int, ...]:
        """Closes the target and all below it, at once; never waits for a thread. Returns the ids of those that were
        open. Closing a closed agent succeeds.
        """
        check_sender(sender)
        return (await self.ask(ev.Close(sender, self.id_of(target)), fx.ClosedAgents)).agents

    async def resume(self, target: Target, *, sender: int = HOST) -> tuple[int, ...]:
        """Opens a closed agent again, not loaded. Returns the ids of those that are open again, the target first."""
        check_sender(sender)
        return (await self.ask(ev.Resume(sender, self.id_of(target)), fx.Resumed)).agents

    async def status(self, target: Target) -> fx.AgentStatus:
        """The logical facts of an agent, the same for loaded and unloaded ones, and whether it is resident."""
        return await self.ask(ev.Status(self.id_of(target)), fx.AgentStatus)

    async def list(self, prefix: str = "/root") -> tuple[fx.AgentStatus, ...]:
        """Every open agent at or below `prefix`, root first, then by path."""
        check_text(prefix, "a prefix")
        return (await self.ask(ev.ListAgents(prefix), fx.Listing)).agents

    async def history(self, target: Target) -> tuple[LogRecord, ...]:
        """The rollout of an agent: its mail, turns and entries, oldest first."""
        agent = self.id_of(target)
        if not 0 <= agent < len(self.session.agents):
            raise UnknownAgent(agent)
        await self.engine.settled()
        return await self._rollout(agent)

    async def _rollout(self, agent: int) -> tuple[LogRecord, ...]:
        self._check_not_left()
        return await self._store.rollout(agent)

    def _check_not_left(self) -> None:
        """Raises `SessionClosed` or `StoreFailed` once the block has been left, and the store with it."""
        if self._is_left:
            raise self.ended_by()

    async def handle(self, ref: AgentRef) -> Handle:
        """A handle on a request that was made before, in this process or an earlier one. Raises `UnknownRequest` if it
        never was.
        """
        check_reference(ref)
        found = self._handles.get(ref.mail) or self._looked_up.get(ref.mail)
        if found is None:
            found = self._looked_up[ref.mail] = Handle(ref, self)
        if not found.is_answered:  # also if it was there: who made it may have been cancelled before it was known
            rollout = await self._rollout(ref.id)
            if not any(isinstance(record, MailAccepted) and record.mail == ref.mail for record in rollout):
                raise UnknownRequest(ref.path, ref.mail)
            outcome = outcome_in(rollout, ref.mail, self.session.live_threads)
            if outcome is not None:
                found.answer(outcome)
        return found

    async def shutdown(self, grace: float) -> fx.ShutDown:
        """No new work; running turns may finish within `grace` seconds, then are interrupted; rollouts are flushed.
        Returns who was done, who was interrupted and who could not be flushed. The session is closed then.
        """
        check_seconds(grace)
        await self.ask(ev.Shutdown(grace), fx.ShuttingDown)
        await self._ended.wait()
        if self._shut_down is None:
            raise self.ended_by()
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
        return statistics_of(self.session, self.engine, self._live)

    # For the verbs, here and at `Turn`

    def id_of(self, target: Target) -> int:
        """The id. A path means the open agent there, or else the last that was closed there. Raises `UnknownPath`."""
        if isinstance(target, REFERENCES):
            return target.id
        if isinstance(target, int) and not isinstance(target, bool):
            return target
        if not isinstance(target, str):
            raise TypeError(f"a target is a path, an id or a reference, not {target!r}")
        found = self.session.find(target)
        if found is None:
            found = next((a.id for a in reversed(self.session.agents) if a.path == target), None)
        if found is None:
            raise UnknownPath(target)
        return found

    async def ask(self, event: Event, kind: type[R]) -> R:
        """One event, and its reply once that is durable. Raises the refusal if it is refused."""
        return await self.answered(self.engine.apply(event), kind)

    async def answered(self, reply: fx.Reply, kind: type[R]) -> R:
        """The reply, once it is durable."""
        await self.engine.settled()
        if isinstance(reply, fx.Refused):
            raise reply.refusal
        assert isinstance(reply, kind)
        return reply

    def _request(
        self, key: str | None, event: Event, target: int | None, role: str | None = None
    ) -> Coroutine[Any, Any, Handle]:
        """Carries out a request, to an agent that is there or (None) to be spawned with this role."""
        if key is not None:
            return self._request_once(key, event, target, role)
        if role is not None:
            self._roles.of(role)
        return self._carried_out(event, target, None)

    async def _request_once(self, key: str, event: Event, target: int | None, role: str | None) -> Handle:
        """If the key was used before, the first answer is given again."""
        check_text(key, "a key")
        while key in self._keys:
            await self._keys[key].wait()
        self._keys[key] = anyio.Event()
        try:
            request = event_line(event).decode().strip()
            self._check_not_left()
            first = await self._store.receipt(key)
            if first is not None and first.request != request:
                raise KeyReused(key, first.request)
            if first is not None:
                return await self.handle(AgentRef(*json.loads(first.answer)))
            if role is not None:
                self._roles.of(role)
            with anyio.CancelScope(shield=True):  # until it is known whether the key is used
                return await self._carried_out(event, target, (key, request))
            raise AssertionError("a shield swallows no exception")
        finally:
            self._keys.pop(key).set()

    async def _carried_out(self, event: Event, target: int | None, key: tuple[str, str] | None) -> Handle:
        receipt = None if key is None else partial(self._receipt_of, key, target)
        reply = self.engine.apply(event, receipt)
        if reply.__class__ is fx.Refused:
            await self.answered(reply, fx.Accepted)
        handle = Handle(self._ref_of(target, reply), self)
        if event.__class__ is not ev.Send:  # which is not answered
            self._handles[handle.ref.mail] = handle  # before anything is awaited, so that no answer is missed
        await self.engine.settled()
        return handle

    def _ref_of(self, target: int | None, reply: Any) -> AgentRef:
        agent = reply.agent if target is None else target
        return AgentRef(agent, self.session.agents[agent].path, reply.mail)

    def _receipt_of(self, key: tuple[str, str], target: int | None, reply: fx.Reply) -> Receipt:
        ref = self._ref_of(target, reply)
        return Receipt(*key, json_text([ref.id, ref.path, ref.mail]))

    # Effects

    def _carry_out(self, effect: fx.Effect) -> None:
        kind = effect.__class__
        if kind is fx.Answer:
            answer = cast("fx.Answer", effect)
            for mail in answer.mails:
                if (handle := self._handles.pop(mail, None)) is not None:
                    handle.answer(answer.outcome)
                if self._looked_up and (handle := self._looked_up.pop(mail, None)) is not None:
                    handle.answer(answer.outcome)  # also if it was looked up before the mail was there
        elif kind is fx.ShutDown:
            self._shut_down = cast("fx.ShutDown", effect)
            self._end()
        else:
            self._live.carry_out(effect)

    def ended_by(self) -> Exception:
        """Why the session has ended."""
        if self.engine.error is None:
            return SessionClosed()
        refusal = StoreFailed(words(self.engine.error))
        refusal.__cause__ = self.engine.error
        return refusal
