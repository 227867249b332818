"""Live threads: builds, runs, flushes and drops the threads that the core's effects are about (N3, S4, S9).

A thread lives in one task of the session's task group, in which all calls of its code are made, so no two run at a
time. A thread is known by (agent, generation): what an older one still does is not stopped by force, because nothing
can, but nobody listens to it any more (S9, decision D4).
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import anyio
from anyio.abc import TaskGroup
from attrs import define, field

from statemachine import effects as fx
from statemachine import events as ev
from statemachine.events import ROOT
from statemachine.machines import Identity, SessionState
from statemachine.runtime.checks import check_result
from statemachine.runtime.errors import ThreadLost, words
from statemachine.runtime.tasks import forget_cancellations, is_session_cancelled, own_context
from statemachine.runtime.threads import AgentInfo, FunctionThread, Roles, Thread, info_of, json_value
from statemachine.runtime.turn import Turn
from statemachine.stores.protocol import Entry

if TYPE_CHECKING:
    from statemachine.runtime.control import AgentControl

log = logging.getLogger("statemachine")

ABANDONED = "the thread of agent %s does not stop; it was abandoned"
NOT_CLOSED = "the thread of agent %s could not be closed"

Work = Callable[[], Awaitable[None]]


@define(eq=False)
class Live:
    """One thread, from load to unload."""

    agent: int
    generation: int
    info: AgentInfo
    thread: Thread
    loaded: bool
    turn: Turn | None = None
    """The turn that runs on it, from its start effect on."""
    turn_scope: anyio.CancelScope | None = None
    run: Work | None = None
    """The last turn's work: if it is in `line`, it has not begun."""
    side_scope: anyio.CancelScope | None = None
    """Of the load or flush that runs now."""
    leaving: bool = False
    """It is flushed in order to be unloaded."""
    line: deque[Work] = field(factory=deque["Work"])
    """What its task does next."""
    asked: anyio.Event | None = None
    """Set when there is something to do, or no more; None until there is a task."""
    is_working: bool = False
    """Does its code run?"""
    free: anyio.Event = field(factory=anyio.Event)
    """Set when all of its code has ended, but for `close`."""
    end_by: float = math.inf
    """When its code has to have ended, once it is dropped: then it is abandoned."""
    is_abandoned: bool = False

    @property
    def is_function(self) -> bool:
        """Is there nothing in memory?"""
        return self.thread.__class__ is FunctionThread


class LiveThreads:
    """All threads of a session."""

    def __init__(self, control: AgentControl, roles: Roles, tasks: TaskGroup) -> None:
        self._control = control
        self._roles = roles
        self._tasks = tasks
        self._cancelled = anyio.get_cancelled_exc_class()
        self._live: dict[int, Live] = {}
        self.loads = self.reloads = self.evictions = 0

    # Effects

    def carry_out(self, effect: fx.Effect) -> None:
        """Begins to do what the effect asks for; never waits."""
        CARRY_OUT[effect.__class__](self, effect)

    def load(self, effect: fx.Load) -> None:
        """Builds a thread. A plain function is there at once."""
        self.loads += 1
        self.reloads += effect.generation > 1
        try:
            live = self._build(effect.agent, effect.generation)
        except (KeyboardInterrupt, SystemExit) as error:
            self._control.stop_by(error)
            return
        except (Exception, self._cancelled) as error:  # of the user's constructor
            self._control.engine.apply(ev.LoadFailed(effect.agent, effect.generation, words(error)))
            return
        if live.is_function:
            self._control.engine.apply(ev.Loaded(effect.agent, effect.generation))
        else:
            live.side_scope = anyio.CancelScope()
            self._ask(live, partial(self._load, live, live.side_scope))

    def start(self, effect: fx.StartTurn) -> None:
        """Runs a turn on its thread. The root has no load effect: its thread is built when a turn names it."""
        live = self._live.get(effect.agent)
        if live is None or live.generation != effect.generation:
            known = self._control.session.agents[effect.agent]
            if effect.agent != ROOT or known.generation != effect.generation:
                return  # its thread was lost while the start was in line, and the turn with it
            try:
                live = self._build(ROOT, effect.generation)
            except (KeyboardInterrupt, SystemExit) as error:
                self._control.stop_by(error)
                return
            except (Exception, self._cancelled) as error:  # of the user's constructor
                self._control.engine.apply(ev.Failed(ROOT, effect.turn, words(error)))
                return
            live.loaded = live.is_function
        live.leaving = False
        if live.side_scope is not None:
            live.side_scope.cancel()  # a flush that is not wanted any more (J6)
        live.turn = Turn(self._control, live.info, effect)
        live.turn_scope = anyio.CancelScope()
        live.run = partial(self._run, live, live.turn, live.turn_scope)
        self._ask(live, live.run)

    def cancel(self, effect: fx.Cancel) -> None:
        """Asks the turn's work to stop."""
        live = self._live.get(effect.agent)
        if live is not None and live.turn is not None and live.turn.number == effect.turn:
            assert live.turn_scope is not None
            live.turn_scope.cancel()
            if live.run is not None and live.run in live.line:  # whatever the thread is busy with need not end first
                live.line.remove(live.run)
                live.turn.end()
                live.turn = live.turn_scope = None
                if not live.loaded:  # the root
                    self._lose(live)
                self._control.engine.apply(ev.Aborted(effect.agent, effect.turn))

    def flush(self, effect: fx.Flush) -> None:
        """Flushes a thread. With a plain function there is nothing to flush: entries are durable as they are made."""
        live = self._live.get(effect.agent)
        if live is not None and not live.is_function:
            live.leaving = True
            if live.side_scope is not None:
                live.side_scope.cancel()  # one that took too long
            live.side_scope = anyio.CancelScope()
            self._ask(live, partial(self._flush, live, live.side_scope, effect))
            return
        if live is not None:
            live.leaving = True
        self._control.engine.apply(ev.Flushed(effect.agent, effect.generation, effect.flush))

    def unload(self, effect: fx.Unload) -> None:
        """Drops a thread, whatever it does."""
        live = self._live.get(effect.agent)
        if live is not None and live.generation == effect.generation:
            session = self._control.session
            is_open = session.state is SessionState.OPEN and session.agents[live.agent].identity is Identity.OPEN
            self.evictions += live.leaving and is_open
            self._drop(live)

    def wake(self, effect: fx.Wake) -> None:
        """A turn's wait is over."""
        live = self._live.get(effect.agent)
        if live is not None and live.turn is not None and live.turn.number == effect.turn:
            live.turn.wake(effect.end)

    # Dropping

    def drop_all(self) -> None:
        """The session has ended: nothing that threads do counts any more."""
        for live in list(self._live.values()):
            self._drop(live)

    def _lose(self, live: Live) -> None:
        """The thread is of no use any more, and the core will not ask to drop it."""
        if self._live.get(live.agent) is live:
            self._drop(live)

    def _drop(self, live: Live) -> None:
        del self._live[live.agent]
        if live.turn is not None:
            live.turn.end()
        for scope in (live.turn_scope, live.side_scope):
            if scope is not None:
                scope.cancel()
        live.end_by = anyio.current_time() + self._control.session.config.stop_grace
        if live.asked is not None:
            live.asked.set()
        if live.is_working and not live.is_function:
            self._tasks.start_soon(self._warn, live)

    async def _warn(self, live: Live) -> None:
        """Says so if the code of a dropped thread does not end in time."""
        with anyio.CancelScope(deadline=live.end_by, shield=True) as scope:
            await live.free.wait()
        if scope.cancelled_caught:
            live.is_abandoned = True
            log.warning(ABANDONED, live.info.path)

    # The task of a thread

    def _ask(self, live: Live, work: Work) -> None:
        """Has the thread's task do this, after what it was asked before."""
        live.line.append(work)
        if live.asked is None:
            live.asked = anyio.Event()
            self._tasks.start_soon(self._live_on, live)
        else:
            live.asked.set()

    async def _live_on(self, live: Live) -> None:
        """Does what is asked, one thing after another, until the thread is dropped; then closes it."""
        try:
            while live.end_by == math.inf:
                if live.line:
                    live.is_working = True
                    await live.line.popleft()()
                    live.is_working = False
                    if forget_cancellations(self._cancelled):
                        await self._idle(anyio.lowlevel.checkpoint)
                else:
                    live.asked = anyio.Event()
                    await self._idle(live.asked.wait)
        except GeneratorExit:
            raise  # the event loop has gone, and left this task behind
        except BaseException:
            await self._close(live)
            raise
        await self._close(live)

    async def _idle(self, pause: Callable[[], Awaitable[None]]) -> None:
        """Between two calls of the thread's code, when only the whole session can be cancelled."""
        try:
            await pause()
        except self._cancelled:
            if is_session_cancelled():
                raise
            forget_cancellations(self._cancelled)

    async def _close(self, live: Live) -> None:
        live.is_working = False
        live.free.set()
        if live.is_function or live.is_abandoned:
            return
        path = live.info.path

        async def work() -> None:
            await live.thread.close()

        try:
            with anyio.move_on_after(self._control.session.config.stop_grace, shield=True) as scope:
                await own_context(work())
            if scope.cancelled_caught:
                log.warning(ABANDONED, path)
        except (KeyboardInterrupt, SystemExit) as error:
            self._control.stop_by(error)
        except Exception:
            log.exception(NOT_CLOSED, path)
        except self._cancelled:
            if is_session_cancelled():
                raise
            log.exception(NOT_CLOSED, path)  # it awaited what somebody else cancelled

    # What it does

    def _build(self, agent: int, generation: int) -> Live:
        known = self._control.session.agents[agent]
        info = info_of(agent, known.path, known.settings)
        thread = self._roles.build(info)
        live = self._live[agent] = Live(agent, generation, info, thread, isinstance(thread, FunctionThread))
        return live

    async def _load(self, live: Live, scope: anyio.CancelScope) -> None:
        async def work() -> ev.Report:
            await self._load_thread(live)
            return ev.Loaded(live.agent, live.generation)

        def failed(error: str) -> ev.Report:
            return ev.LoadFailed(live.agent, live.generation, error)

        report = await self._do(live, scope, work, failed, "cancelled")
        if not live.loaded:
            self._lose(live)
        self._control.engine.apply(report)

    async def _load_thread(self, live: Live) -> None:
        # What led to this load is durable, so nothing of this agent is still in line.
        await live.thread.load(await self._control.engine.store.rollout(live.agent))
        live.loaded = True

    async def _run(self, live: Live, turn: Turn, scope: anyio.CancelScope) -> None:
        async def work() -> ev.Report:
            if not live.loaded:  # the root
                load_timeout = self._control.session.config.load_timeout
                with anyio.move_on_after(load_timeout):
                    await self._load_thread(live)
                if not live.loaded:
                    return failed(f"load failed: no answer for {load_timeout} s")
            result = await live.thread.run(turn)
            check_result(result)
            return ev.Finished(live.agent, turn.number, result or "")

        def failed(error: str) -> ev.Report:
            return ev.Failed(live.agent, turn.number, error)

        try:
            report = await self._do(live, scope, work, failed, None) or ev.Aborted(live.agent, turn.number)
        finally:
            turn.end()
            if live.turn is turn:
                live.turn = live.turn_scope = None
        if not live.loaded:
            self._lose(live)
        self._control.engine.apply(report)

    async def _flush(self, live: Live, scope: anyio.CancelScope, effect: fx.Flush) -> None:
        async def work() -> ev.Report:
            data = await live.thread.flush()
            if data is not None and not scope.cancel_called:
                turn = self._control.session.agents[live.agent].turn
                self._control.engine.record(Entry(live.agent, turn, json_value(data)))
            return ev.Flushed(live.agent, live.generation, effect.flush)

        def failed(error: str) -> ev.Report:
            return ev.FlushFailed(live.agent, live.generation, effect.flush, error)

        self._control.engine.apply(await self._do(live, scope, work, failed, "cancelled"))

    async def _do(
        self,
        live: Live,
        scope: anyio.CancelScope,
        work: Callable[[], Coroutine[Any, Any, ev.Report]],
        failed: Callable[[str], ev.Report],
        cancelled: str | None,
    ) -> Any:
        """Does the work. Returns the report of what came of it; if it was cancelled, the failure with that reason, or
        None.
        """
        report = None if cancelled is None else failed(cancelled)
        try:
            with scope:
                if not scope.cancel_called:
                    report = await own_context(work())
        except Exception as error:
            if not is_lost(error):
                return failed(words(error))
            self._lose(live)
            return ev.Died(live.agent, live.generation, words(error))
        except (KeyboardInterrupt, SystemExit) as error:
            self._control.stop_by(error)  # from a task, asyncio would leave its loop at once, and the block never
            await anyio.sleep_forever()
        except self._cancelled as error:
            if is_session_cancelled():
                raise
            return failed(words(error))  # of something that the work awaited: nobody asked the work itself to stop
        finally:
            if live.side_scope is scope:
                live.side_scope = None
        return report


CARRY_OUT: dict[type, Callable[[LiveThreads, Any], None]] = {
    fx.Load: LiveThreads.load,
    fx.StartTurn: LiveThreads.start,
    fx.Cancel: LiveThreads.cancel,
    fx.Flush: LiveThreads.flush,
    fx.Unload: LiveThreads.unload,
    fx.Wake: LiveThreads.wake,
}


def is_lost(error: Exception) -> bool:
    """Does the error say that its thread is lost, be it in a group of errors?"""
    if not isinstance(error, ExceptionGroup):
        return isinstance(error, ThreadLost)
    return cast("ExceptionGroup[Exception]", error).subgroup(ThreadLost) is not None
