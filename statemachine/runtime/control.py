"""Runs a session and offers its verbs to the host: `AgentControl` (semantics.md section 4, operations).

Every verb is one event to the core. It returns when its answer is durable, or raises the refusal; a refused verb has
changed nothing. If a caller is cancelled while it waits for the answer, the request still counts: give a `key` to
repeat it without making it twice.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from contextvars import Context
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import anyio
from attrs import frozen

from statemachine.core import effects as fx
from statemachine.core import events as ev
from statemachine.core.config import SessionConfig
from statemachine.core.effects import ClosedAgents, Forgotten, Interrupted, Resumed, ShutDown
from statemachine.core.events import HOST
from statemachine.core.exact import shown
from statemachine.core.machines import SessionState
from statemachine.core.refusals import SessionDraining
from statemachine.core.session import Session
from statemachine.eventloops import (
    Signal,
    free_left_behind,
    is_cancelled,
    leaving,
    misplaced,
    note_entered,
    note_left,
    signals,
    to_its_end,
)
from statemachine.log.recovery import restart
from statemachine.runtime.caps import MAX_ABANDONED
from statemachine.runtime.checks import count_of, reference_of, seconds_of
from statemachine.runtime.engine import Engine
from statemachine.runtime.errors import WrongTask, gives_way
from statemachine.runtime.exits import contain_exits
from statemachine.runtime.handles import AgentRef, Handle, Target
from statemachine.runtime.live import CARRY_OUT, LiveThreads
from statemachine.runtime.requests import Requests
from statemachine.runtime.settings import DEFAULT_ROLE
from statemachine.runtime.stack import check_stack
from statemachine.runtime.statistics import Statistics, statistics_of
from statemachine.runtime.status import AgentStatus
from statemachine.runtime.stream import Happening, Streams
from statemachine.runtime.tasks import cancellations, own_task
from statemachine.runtime.threads import Roles, Work
from statemachine.runtime.tracing import TraceFile, header_of
from statemachine.runtime.verbs import Verbs
from statemachine.sinks import carry_out_all, log
from statemachine.stores.encoding import check_config
from statemachine.stores.errors import StoreError
from statemachine.stores.options import check_place, one_of
from statemachine.stores.places import store_of
from statemachine.stores.protocol import BackedUp, LogRecord, Recovered, Store

__all__ = ["AgentControl", "Inside", "inside"]

UNFLUSHED = "%s: left without what the threads of these agents had still to flush: %s"


def _say_nothing(done: int, pages: int) -> None:
    """Passes over how far a backup is."""


class NotOpen:
    """Takes the place of the parts of a session that is not open."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("the session is not open yet: enter it with `async with` first")


NOT_OPEN: Any = NotOpen()


class AgentControl:
    """A session that runs: a tree of durable agents, and the verbs with which the host gives them work.

    Make it with `AgentControl.open`, and use it within `async with`:

        >>> import anyio
        >>> from statemachine import AgentControl, MemoryStore, Turn
        >>> async def work(turn: Turn) -> str:
        ...     return f"{turn.path} has read: {turn.mail[0].text}"
        >>> async def main() -> None:
        ...     async with AgentControl.open(MemoryStore(), work) as control:  # or a path: "session.db"
        ...         scout = await control.spawn("/root", "scout", "how deep is the river?", key="survey 1")
        ...         outcome = await scout.outcome()
        ...         print(outcome.status.name, "-", outcome.result)
        ...         for agent in await control.list():
        ...             print(agent.path, "- turns:", agent.turn)
        >>> anyio.run(main)
        COMPLETED - /root/scout has read: how deep is the river?
        /root - turns: 0
        /root/scout - turns: 1

    **What a verb promises.** It returns when its answer is durable. A verb that is refused raises a `Refusal` (see
    `statemachine.errors`) and has changed nothing. A caller that is cancelled loses the answer, not its request.

    **What verbs take.** A `target` is an agent: its path ("/root/a": the open agent there, or else the last one that
    was spawned there), its id, or an `AgentRef` or `Handle`. A `message` is a text of 1 to `max_message_bytes` bytes. A
    `sender` is the id of an agent in whose name the host acts, or `HOST`, the host itself: who asks for a turn is
    told how it ended. `headers` are a JSON object of at most 16 KiB, such as the context of a trace or the id of a
    tenant: the turn that reads the mail finds them beside its text. A `key` is a text of the caller's own, not empty:
    the same request with the same key is made once, whatever its headers, and every repeat gets the first answer, at
    the same time or after a restart.

    **What every verb may raise.** `SessionClosed` once the block is left, and once the session is shut down, unless the
    verb only reads; `StoreFailed` once it failed; what gives work raises `SessionDraining` during a shutdown.
    `UnknownPath` and `UnknownAgent` if no agent ever was at this path or had this id; `AgentClosed` if the target,
    parent or sender is closed. `InvalidHeaders` for headers that are not a JSON object, or too large; `TooLarge` for
    any other value that the log does not take, because of its bytes as stored (`statemachine.stores.limits`). With a
    `key`: `KeyReused` if it was used for another request, `ValueError` if it is empty, and `StoreError` if the store
    cannot be read. `TypeError` for a value of the wrong type, `RuntimeError` before the block is entered,
    `WrongEventLoop` in another thread or event loop. What a verb raises besides stands with it.

    **The end.** The task that entered the block leaves it, the last one that it entered first; otherwise `WrongTask` is
    raised, and nothing is done. If that task has ended, as that of a fixture has, any other may. Leaving the block
    shuts the session down without grace: running turns are interrupted, rollouts are flushed. Leaving it by an
    exception stops at once, as a crash would; the log has everything that was acknowledged. Either way, leaving waits
    until the code of every thread has ended. Code that does not answer within its bound is dropped, and its agent goes
    on without it; but code that swallows its cancellation for ever keeps the block from being left, and code that
    blocks the event loop stops all agents. Nothing in a process can stop either. Bounds are seconds in which the
    process could run: one that was stopped, or blocked, does not find all of them over.
    """

    def __init__(
        self,
        store: Store,
        work: Work | Mapping[str, Work],
        config: SessionConfig,
        trace: Path | None,
        clock: Callable[[], float] = time.time,
        context: Context | None = None,
        max_abandoned: int = MAX_ABANDONED,
    ) -> None:
        self._store = store
        self._roles = Roles(work)
        one_of(context, "context", Context, "a Context, as contextvars.copy_context() returns")
        self._config = config
        self._trace = trace
        self._context = Context() if context is None else context
        self._clock = clock
        self._max_abandoned = count_of(max_abandoned, "max_abandoned", 0)
        self._stack = AsyncExitStack()
        self._shut_down: ShutDown | None = None
        self._stopped_by: BaseException | None = None
        self._entered = False
        # Until the block is entered. Existing attributes cost nothing; `__getattr__` would make every access slower.
        self._session: Session = NOT_OPEN
        self._engine: Engine = NOT_OPEN
        self._ended: Signal = NOT_OPEN
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
        context: Context | None = None,
        clock: Callable[[], float] = time.time,
        max_abandoned: int = MAX_ABANDONED,
    ) -> AgentControl:
        """Makes the control of a session, which `async with AgentControl.open(...) as control:` opens.

        `store` is the path of an SQLite file, created if missing, or a `Store`. `work` is what agents do: an async
        function of a `Turn`, a class of `Thread`, or a mapping from roles to these. The root has the role "default",
        and so have agents that are spawned without one: a mapping has to have it, and a single work is the work of this
        role alone. `config` has the limits; without one they are those of `SessionConfig()`. `trace` is the path of a
        new file into which every event is written, for `statemachine replay` and `statemachine verify`; where a trace
        of an earlier opening is, the new file is beside it (`trace.2.ndjson`). If it cannot be written any more, a
        warning is logged and the session goes on without it. `context` has the context variables that the code of
        agents sees, each call a copy of its own; by default none, so what is set around the session does not leak into
        it. Give `contextvars.copy_context()` to pass them on. `clock` tells the time of records and of `status`, in
        seconds since the epoch; nothing is decided by it. `max_abandoned` is how many threads whose code does not stop
        may be left behind before loads and turns wait for one of them to end: the machine has never more threads of
        sub-agents than `max_resident` and these, and never runs the code of more turns than `execution_cap` and these.

        Raises `InvalidWork` for what cannot be the work of agents, such as a function without `async` or a class with
        an awaited method without it, and `TypeError` for a store, trace, context or clock that is not one.

        Entering raises `StoreError` if the store cannot be opened (`SessionInUse`: another process has it),
        `InvalidConfig` if the log exceeds the configuration, and `TraceError` if the trace cannot be made. What an
        earlier process had not finished goes on by itself: its running turns are interrupted, those that had not begun
        are asked for again.
        """
        if config is None:
            config = SessionConfig()
        check_config(config)
        if trace is not None:
            check_place(trace, "a trace is at a path, such as 'session.ndjson'")
        if not callable(clock):
            raise TypeError(f"a clock is a function that returns seconds, as time.time, not {shown(clock)}")
        path = None if trace is None else Path(trace)
        return cls(store_of(store), work, config, path, clock, context, max_abandoned)

    # The block

    async def __aenter__(self) -> AgentControl:
        if self._entered:
            raise RuntimeError("a session is entered once; call AgentControl.open again")
        check_stack()
        self._entered = True
        self._ended = signals()()
        await free_left_behind()
        async with AsyncExitStack() as stack:
            note_entered(self, self._store.close)
            stack.push(self._forget)  # a method: what `callback` makes of a function takes 600 bytes
            recovered = await to_its_end(partial(self._open_store, stack))
            stack.push(contain_exits())
            header = None if self._trace is None else header_of(self._config, recovered.ledger)
            self._session, step = restart(self._config, recovered.ledger, 0.0)
            trace = None
            if self._trace is not None and header is not None:  # and what was recovered fits the configuration
                trace = TraceFile(self._trace, header)
                stack.callback(trace.close)
            self._streams = Streams()
            self._engine = Engine(
                self._session, self._store, self._carry_out, self._streams.publish, trace, recovered.times, self._clock
            )
            tasks = await stack.enter_async_context(anyio.create_task_group())
            self._tasks = tasks
            self._requests = Requests(self._engine, self._roles.of, tasks.start_soon)
            self._verbs = Verbs(self._engine, self._requests)
            self._live = LiveThreads(
                self._engine, self._verbs, self._roles, tasks, self._stop_by, self._context, self._max_abandoned
            )
            stack.push(self._stop)
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

    async def _open_store(self, stack: AsyncExitStack) -> Recovered:
        recovered = await self._store.open(self._config)
        stack.push_async_exit(self._close_store)
        return recovered

    async def _close_store(self, *_: object) -> None:
        await to_its_end(self._end_store)

    async def _end_store(self) -> None:
        try:
            if self._engine is not NOT_OPEN:
                with suppress(StoreError):  # such as that of a session which another owner has taken over
                    await self._engine.end_loads()
        finally:
            await self._store.close()

    def _forget(self, *_: object) -> None:
        note_left(self)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        problem = misplaced(self)
        if problem is not None:  # before anything is cancelled
            raise WrongTask(problem)
        try:
            if kind is None:
                await self._finish()
        except BaseException as raised:
            await self._leave(raised)
            raise
        await self._leave(error)
        return None

    async def _leave(self, error: BaseException | None) -> None:
        """Stops the session, then ends all tasks and closes the store, whatever one of them raises.
        `error` is that by which the block is left. A single error, of the block or of a task, leaves the block as it
        is, not in a group of exceptions.
        """
        passed_on = None if isinstance(error, Exception) else error  # only a cancellation concerns the tasks
        task = own_task(anyio.get_cancelled_exc_class())
        before = cancellations(task)
        try:
            with leaving(self):
                await self._stack.__aexit__(type(passed_on) if passed_on else None, passed_on, None)
        except anyio.get_cancelled_exc_class():
            # A task group of asyncio in the block, of which a task failed, leaves its cancellation counted in Python
            # 3.11, and anyio then passes on the one by which the session's tasks are ended here.
            if task is None or passed_on is not None or is_cancelled() or cancellations(task) > before:
                raise
        except BaseExceptionGroup as group:
            errors = group.split(self._engine.cancelled)[1]  # trio has the cancellation in the group, asyncio has not
            only, *others = group.exceptions if errors is None else errors.exceptions
            if others:
                raise
            self._stopped_by = self._stopped_by or only
        if self._stopped_by is not None and self._stopped_by is not error:
            raise self._stopped_by

    def _stop(self, *_: object) -> None:
        """Tells all that wait that the session has ended, and ends its tasks."""
        carry_out_all(
            self._requests.leave,
            self._end,
            self._engine.abandon,
            self._live.drop_all,  # what closes threads is shielded, for stop_grace
            self._tasks.cancel_scope.cancel,
        )

    def _stop_by(self, error: BaseException) -> None:
        """Has the block left by this error of a thread, such as KeyboardInterrupt."""
        self._stopped_by = error
        self._tasks.cancel_scope.cancel()

    async def _finish(self) -> None:
        """Shuts the session down, or shortens the shutdown under way. Raises `StoreFailed` if it failed, so that a
        failure is not taken for success.
        """
        if self._session.state < SessionState.CLOSED:
            with suppress(SessionDraining):  # one without grace is under way
                unflushed = (await self.shutdown(0)).unflushed
                if unflushed:
                    paths = ", ".join([self._session.agents[agent].path for agent in unflushed])
                    log.warning(UNFLUSHED, self._engine.place, paths)
        await self._ended.wait()
        if self._engine.error is not None:
            raise self._engine.ended_by()

    async def _commit(self) -> None:
        await self._engine.commit_for_ever()
        if self._engine.error is not None:
            carry_out_all(self._live.drop_all, self._end)

    def _end(self) -> None:
        carry_out_all(self._ended.set, self._streams.end, self._requests.end)

    # Verbs that give work

    async def spawn(
        self,
        parent: Target,
        name: str,
        message: str,
        settings: Any = None,
        *,
        role: str = DEFAULT_ROLE,
        sender: int = HOST,
        headers: Mapping[str, Any] | None = None,
        key: str | None = None,
    ) -> Handle:
        """Opens an agent `name` under `parent`, with `message` as its first mail, which asks for a turn.

        Returns the handle of that request. `name` is 1 to 64 of a-z, 0-9 and _, and not "root". `role` chooses its work
        from the mapping that the session was opened with. `settings` is any JSON value, which `Turn.settings`, every
        `Thread` and `status` give back. `sender`, `headers` and `key`: see the class.

        Raises `InvalidName`, `InvalidMessage`, `PathTaken` (an open agent is there), `DepthExceeded`, `TooManyAgents`,
        `UnknownRole`, and `NotJson` for the settings. Without a free slot: `ExecutionFull`, or `LiveThreadsFull`, or
        `QueueFull` if turns may queue. `MailboxFull` if an agent is the sender, and has no room for the notice.
        """
        return await self._verbs.spawn(sender, parent, name, message, settings, role, headers, key)

    async def send(
        self,
        target: Target,
        message: str,
        *,
        sender: int = HOST,
        headers: Mapping[str, Any] | None = None,
        key: str | None = None,
    ) -> int:
        """Sends queue-only mail: the next turn of `target` reads `message`, and no agent is woken. Returns the mail's
        number. `sender`, `headers` and `key`: see the class.

        Raises `InvalidMessage` and `MailboxFull`.
        """
        return (await self._verbs.send(sender, target, message, headers, key)).ref.mail

    async def follow_up(
        self,
        target: Target,
        message: str,
        *,
        sender: int = HOST,
        headers: Mapping[str, Any] | None = None,
        key: str | None = None,
    ) -> Handle:
        """Sends trigger mail: `message` asks for a turn of `target`, or for one more after the present one. Returns the
        handle, which has the outcome of the turn that reads it. `sender`, `headers` and `key`: see the class.

        Raises `InvalidMessage` and `MailboxFull`; if the target is idle and finds no slot, `ExecutionFull` or
        `QueueFull`; `RootRefused` if an agent asks the root; `UnknownRole` if the session was opened without work for
        the role of the target.
        """
        return await self._verbs.follow_up(sender, target, message, headers, key)

    async def start(
        self, target: Target, message: str, *, headers: Mapping[str, Any] | None = None, key: str | None = None
    ) -> Handle:
        """Starts a turn of `target`, of the root or any agent, with `message`: what `follow_up` of the host does, and
        refused likewise. Returns the handle. `headers` and `key`: see the class.
        """
        return await self._verbs.start(target, message, headers, key)

    # Verbs that control

    async def withdraw(self, request: Handle | AgentRef | int, *, sender: int = HOST) -> None:
        """Takes back a mail that is still unread: it becomes a dead letter. `request` is its handle, reference or
        number. If it was trigger mail, its outcome has the cause WITHDRAWN. A turn that has not started and for which
        no other trigger mail is unread does not start.

        `sender` is the agent that sent it, or the host, who may withdraw any mail but a notice. Raises `MailRead` once
        a turn has read it, `NotSender`, and `UnknownMail` for a number that was never given.
        """
        await self._verbs.withdraw(sender, request)

    async def interrupt(self, target: Target, *, subtree: bool = False, sender: int = HOST) -> Interrupted:
        """Stops the turn of `target`, be it running or queued, and only that one: its children go on. With `subtree`,
        the turns of all agents below it are stopped too, in one step, so that no end of one starts another.

        Returns before a running turn has stopped: `previous` is the status before, and if that is idle there was no
        turn; `agents` and `paths` are those whose turn is stopped. `sender`: see the class. Raises `RootRefused` if an
        agent interrupts the root, and `SelfRefused` if it interrupts itself, or with `subtree` an agent above it.
        """
        return await self._verbs.interrupt(sender, target, subtree)

    async def close(self, target: Target, *, sender: int = HOST) -> ClosedAgents:
        """Closes `target` and all agents below it at once: turns are aborted, unread mail becomes dead letters.

        Returns `agents`, the ids of those that were open, the target first, and their `paths`; none if it was closed
        already. `sender`: see the class. Raises `RootRefused`, and `SelfRefused` if an agent closes itself or one above
        it.
        """
        return await self._verbs.close(sender, target)

    async def resume(self, target: Target, *, sender: int = HOST) -> Resumed:
        """Opens the closed agent `target` again, with its history and settings; it is loaded when it has a turn.

        Returns `agents`, the ids of those that are open again, the target first, and their `paths`. With `LIVE_THREADS`
        these are also those below it that were closed with it, and `skipped` (with `skipped_paths`) those that could
        not be opened. `sender`: see the class. Raises `AgentOpen` if it is open, `AgentClosed` if its parent is closed,
        `PathTaken`, `DepthExceeded`, `TooManyAgents` and `LiveThreadsFull`.
        """
        return await self._verbs.resume(sender, target)

    async def forget(self, target: Target) -> Forgotten:
        """Drops what is known of a closed agent, `target`, and of all below it: outcomes, history and used keys go from
        memory and from the store. Ids, mail numbers and the mail that they sent to others stay.

        Returns `agents`, the ids of those, the target first, and the `paths` where they were. From then on each verb
        that names one of them raises `UnknownAgent`. Raises `AgentOpen` if it is open, and `RootRefused`.
        """
        return await self._verbs.forget(target)

    @gives_way
    async def shutdown(self, grace: float) -> ShutDown:
        """Shuts the session down: no new work; running turns may finish within `grace` seconds, then are interrupted;
        rollouts are flushed. The session is closed when this returns, and the block may be left. A turn whose code ends
        because a verb was refused with `SessionDraining` is interrupted too.

        Returns the ids of agents whose turn was `done` within the grace, of those `interrupted`, and of those whose
        rollout could not be flushed (`unflushed`); `status` still knows their paths. Raises `InvalidTimeout` for a
        grace below 0 or without end, and `SessionDraining` if a shutdown is under way.
        """
        await self._engine.ask(ev.Shutdown(seconds_of(grace)), fx.ShuttingDown)
        await self._ended.wait()
        if self._shut_down is None:
            raise self._engine.ended_by()
        return self._shut_down

    # Verbs that read

    async def status(self, target: Target) -> AgentStatus:
        """Returns the logical facts of `target`, open or closed: path, status, turns, unread mail, last outcome, role,
        settings, and since when. They are the same for loaded and unloaded agents; `resident` alone says whether it is
        in memory.
        """
        return await self._verbs.status(target)

    async def list(self, prefix: str = "/root", *, closed: bool = False) -> tuple[AgentStatus, ...]:
        """Returns the status of every open agent whose path is `prefix` or below it, root first, then by path. With
        `closed`, of the closed ones too; those of one path stand in the order in which they were spawned.

        Of a few hundred agents it tells as of one moment. More are told in pages, each as of its own moment, while
        others are served: agents that are closed meanwhile are left out, and agents that are spawned meanwhile may be.
        """
        return await self._verbs.list(prefix, closed)

    async def history(self, target: Target) -> tuple[LogRecord, ...]:
        """Reads the rollout of `target`: the records of its mail and turns, and the entries that its turns wrote
        (`Entry`), oldest first. Raises `StoreError` if the store cannot be read.
        """
        return await self._verbs.history(target)

    @gives_way
    async def handle(self, ref: AgentRef) -> Handle:
        """Returns the handle of an earlier request, made in this process or another, by the `ref` of its handle then.

        Raises `UnknownRequest` if it was never made, and `StoreError` if the store cannot be read.
        """
        return await self._requests.find(reference_of(ref))

    @asynccontextmanager
    async def events(self, unread_max: int = 10_000) -> AsyncGenerator[AsyncIterator[Happening]]:
        """Gives what happens from now on, once it is durable, until the session ends: the records of the log and the
        entries of turns, in their order in the log, and after the records of a step its effects.

            async with control.events() as events:
                async for event in events:
                    print(event)

        Tasks that read from one block get each event once, together. The session does not wait for readers. A reader
        more than `unread_max` events behind loses them and gets one `EventsLost`; then it may go on reading. Raises
        `TypeError` or `ValueError` for an `unread_max` that is not a whole number of at least 1.
        """
        self._engine.enter()
        with self._streams.subscribe(count_of(unread_max, "unread_max")) as stream:
            yield stream

    @gives_way
    async def backup(self, to: str | os.PathLike[str], progress: Callable[[int, int], object] | None = None) -> None:
        """Makes a backup in the new file `to`: the session as of now, while it runs, in the form of a session's file.
        Only its owner may read it. `progress` is called with the pages that are copied so far, and all; what it raises
        ends the backup, and is raised here.

        Raises `StoreExists` if there is a file already, other `StoreError`s for what the disk says, and `TypeError` if
        the session is on a store that is not on disk, or `progress` cannot be called.
        """
        self._engine.enter()
        if progress is not None and not callable(progress):
            raise TypeError(f"progress is a function of the pages copied and of all, not {shown(progress)}")
        if not isinstance(self._store, BackedUp):
            kind = type(self._store).__name__
            raise TypeError(f"a {kind} makes no backups; open the session with a path or a store that is on disk")
        await self._store.backup(to, _say_nothing if progress is None else progress)

    def statistics(self) -> Statistics:
        """Returns counts: slots, residency slots, threads on their way out and the ready queue now; loads, evictions,
        refusals and commits since the session was opened.
        """
        return statistics_of(self._session, self._engine, self._live)

    # Effects

    def _carry_out(self, effect: fx.Effect) -> None:
        kind: Any = effect.__class__
        told: Any = effect
        if kind is fx.Answer:
            self._requests.answer(told)
        elif kind is ShutDown:
            self._shut_down = told
            self._end()
        else:
            CARRY_OUT[kind](self._live, effect)


@frozen
class Inside:
    """The parts that a session runs on."""

    session: Session
    engine: Engine
    requests: Requests
    live: LiveThreads


def inside(control: AgentControl) -> Inside:
    """Returns the parts of a session that is, or was, open: for judges, demonstrations and tests, which only read them.
    Not for users: the parts change without notice.
    """
    c = control
    return Inside(c._session, c._engine, c._requests, c._live)  # pyright: ignore[reportPrivateUsage]  (the one door)
