"""Builds, runs, flushes and drops the threads that the core's effects are about (N3, S4, S9).

The problem. A thread is code of a user: it may raise anything, swallow its cancellation, never return, or return
after its turn was given up. The core wants one report for each effect, within its bound, and at most one call of a
thread's code at a time (S4). Neither may depend on what the code does.

What is done. A thread lives in one task of the session's task group, and that task makes all calls of its code, from
`load` to `close`, one after the other. An effect only puts a call in the task's line and never waits, so effects are
carried out in their order however slow a thread is. A thread is known by (agent, generation). When it is dropped, its
calls are cancelled and its task goes on for `stop_grace`; what it still reports names a generation that is not
current, and the core ignores it (S9, decision D4). So to drop a thread is to forget it, not to end it.

What was rejected.

- A task for each call. It is the plainest form, and cost a third of a turn: a task, two scopes and a lock. It also
  let a flush and a turn of one thread overlap while one was being cancelled.
- Ending code by force. Neither a coroutine nor an operating system's thread can be killed.
- A scope for each call. To enter and leave one is a tenth of a turn, so one scope spans the calls of a stretch, and
  only a call that was cancelled or has raised ends the stretch. That is why `_stretch` and `_live_on` are two loops.
- Waiting for a dropped thread before its agent is loaded anew. An agent would hang on code that hangs.

What remains ugly.

- Python code that does not await stops all agents and every clock. No bound of ours can run meanwhile.
- Code that swallows its cancellation for ever keeps the block of the session from being left, because a task group
  waits for its tasks. It is abandoned, and a warning names its agent.
- The root has no load effect (S13), so its thread is built when its first turn starts, and a load that fails is told
  as a failed turn.
- A cancellation can arrive between two calls, meant for the one before. `_meet_cancellation` takes it away, which is
  right only because no code of a user runs at that point.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any

import anyio
from anyio.abc import TaskGroup
from attrs import define, field

from statemachine.core import effects as fx
from statemachine.core import events as ev
from statemachine.core.events import ROOT
from statemachine.core.machines import Identity, SessionState
from statemachine.core.records import Cause
from statemachine.eventloops import Signal, is_cancelled
from statemachine.runtime.calls import Call, FlushCall, InMemory, LoadCall, TurnCall
from statemachine.runtime.engine import Engine
from statemachine.runtime.errors import ThreadLost, words
from statemachine.runtime.settings import info_of
from statemachine.runtime.tasks import (
    OwnTask,
    ScopeLeftEntered,
    TaskScope,
    forget_cancellations,
    own_context,
    own_task,
)
from statemachine.runtime.threads import FunctionThread, Roles
from statemachine.runtime.turn import Turn
from statemachine.runtime.verbs import Verbs
from statemachine.runtime.waits import Waits

log = logging.getLogger("statemachine")

ABANDONED = "the thread of agent %s does not stop; it was abandoned"
NOT_CLOSED = "the thread of agent %s could not be closed"
LEFT_ENTERED = "the code of agent %s left a scope entered in its task: its thread is dropped"


@define(eq=False)
class Live(InMemory):
    """One thread, from load to unload."""

    turn: TurnCall | None = None
    """The turn that runs on it, from its start effect to its end."""
    side: LoadCall | FlushCall | None = None
    """The last load or flush, until it has ended."""
    leaving: bool = False
    """Whether it is being flushed in order to be unloaded."""
    line: deque[Call] = field(factory=deque["Call"])
    """Calls that its task makes next."""
    asked: Signal | None = None
    """Set when a call is in line, or the thread is dropped; None until there is a task."""
    call: Call | None = None
    """The call that its task makes now, if its code runs."""
    scope: TaskScope | None = None
    """The scope of its task's calls. Cancelling it stops the call under way, and only that."""
    free: anyio.Event = field(factory=anyio.Event)
    """Set when all of its code except `close` has ended."""
    end_by: float = math.inf
    """Once it is dropped: the time at which code that has not ended is abandoned."""
    is_abandoned: bool = False

    @property
    def is_function(self) -> bool:
        """Whether its work is a plain function, which holds nothing in memory."""
        return self.thread.__class__ is FunctionThread

    def cancel(self, call: Call) -> None:
        """Asks the call to stop, unless it has ended."""
        call.is_cancelled = True
        if self.call is call:
            assert self.scope is not None
            self.scope.cancel()


class LiveThreads:
    """All threads of a session."""

    def __init__(
        self,
        engine: Engine,
        verbs: Verbs,
        roles: Roles,
        tasks: TaskGroup,
        stop_by: Callable[[BaseException], None],
        context: Context,
    ) -> None:
        """`stop_by` leaves the session's block by an error that is not the code's own, such as KeyboardInterrupt.
        `context` has the context variables with which all code of threads begins.
        """
        self._engine = engine
        self._session = engine.session
        self._verbs = verbs
        self._roles = roles
        self._tasks = tasks
        self._stop_by = stop_by
        self._context = context
        self._cancelled = anyio.get_cancelled_exc_class()
        self.threads: dict[int, Live] = {}
        """Agent -> its thread, until that is dropped."""
        self.loads = self.reloads = self.evictions = 0

    # Effects

    def carry_out(self, effect: fx.Effect) -> None:
        """Begins what the effect asks for; never waits."""
        CARRY_OUT[effect.__class__](self, effect)

    def load(self, effect: fx.Load) -> None:
        """Builds a thread. A plain function counts as loaded at once."""
        self.loads += 1
        self.reloads += effect.generation > 1
        try:
            live = self._build(effect.agent, effect.generation)
        except (KeyboardInterrupt, SystemExit) as error:
            self._stop_by(error)
            return
        except (Exception, self._cancelled) as error:  # of the user's constructor
            self._engine.apply(ev.LoadFailed(effect.agent, effect.generation, words(error)))
            return
        if live.is_function:
            self._engine.apply(ev.Loaded(effect.agent, effect.generation))
        else:
            live.side = LoadCall(live, self._engine)
            self._ask(live, live.side)

    def start(self, effect: fx.StartTurn) -> None:
        """Runs a turn on its thread. The root has no load effect: its thread is built when a turn names it."""
        live = self.threads.get(effect.agent)
        if live is None or live.generation != effect.generation:
            known = self._session.agents[effect.agent]
            if effect.agent != ROOT or known.generation != effect.generation:
                return  # its thread was lost while the start was in line, and the turn with it
            try:
                live = self._build(ROOT, effect.generation)
            except (KeyboardInterrupt, SystemExit) as error:
                self._stop_by(error)
                return
            except (Exception, self._cancelled) as error:  # of the user's constructor
                self._engine.apply(ev.Failed(ROOT, effect.turn, words(error), Cause.LOAD_FAILED))
                return
            live.loaded = live.is_function
        live.leaving = False
        if live.side is not None:
            live.cancel(live.side)  # a flush that is not needed any more (J6)
        waits = Waits(self._engine, effect.agent, effect.turn)
        turn = Turn(self._engine, self._verbs, waits, live.info, effect)
        live.turn = TurnCall(live, self._engine, turn, waits, self._context)
        self._ask(live, live.turn)

    def cancel(self, effect: fx.Cancel) -> None:
        """Asks the turn's work to stop."""
        live = self.threads.get(effect.agent)
        if live is not None and live.turn is not None and live.turn.waits.turn == effect.turn:
            live.cancel(live.turn)
            if live.turn in live.line:  # it need not wait for the call under way
                live.line.remove(live.turn)
                self._over(live, live.turn, live.turn.cancelled())

    def flush(self, effect: fx.Flush) -> None:
        """Flushes a thread. A plain function has nothing to flush: its entries are durable when they are made."""
        live = self.threads.get(effect.agent)
        if live is not None and not live.is_function:
            live.leaving = True
            if live.side is not None:
                live.cancel(live.side)  # one that took too long
            live.side = FlushCall(live, self._engine, effect.flush)
            self._ask(live, live.side)
            return
        if live is not None:
            live.leaving = True
        self._engine.apply(ev.Flushed(effect.agent, effect.generation, effect.flush))

    def unload(self, effect: fx.Unload) -> None:
        """Drops a thread, even if its code is running."""
        live = self.threads.get(effect.agent)
        if live is not None and live.generation == effect.generation:
            session = self._session
            is_open = session.state is SessionState.OPEN and session.agents[live.agent].identity is Identity.OPEN
            self.evictions += live.leaving and is_open
            self._drop(live)

    def wake(self, effect: fx.Wake) -> None:
        """Ends a turn's wait."""
        live = self.threads.get(effect.agent)
        if live is not None and live.turn is not None and live.turn.waits.turn == effect.turn:
            live.turn.waits.wake(effect.wait, effect.end)

    # Dropping

    def drop_all(self) -> None:
        """Drops all threads, because the session has ended and ignores what they do."""
        for live in list(self.threads.values()):
            self._drop(live)

    def _lose(self, live: Live) -> None:
        """Drops a thread that cannot be used any more and that the core will not ask to drop."""
        if self.threads.get(live.agent) is live:
            self._drop(live)

    def _drop(self, live: Live) -> None:
        del self.threads[live.agent]
        if live.turn is not None:
            live.turn.waits.end()
        for call in (live.turn, live.side):
            if call is not None:
                live.cancel(call)
        live.end_by = anyio.current_time() + self._session.config.stop_grace
        if live.asked is not None:
            live.asked.set()
        if live.call is not None and not live.is_function:
            self._tasks.start_soon(self._warn, live)

    async def _warn(self, live: Live) -> None:
        """Logs a warning if the code of a dropped thread does not end in time."""
        with anyio.CancelScope(deadline=live.end_by, shield=True) as scope:
            await live.free.wait()
        if scope.cancelled_caught:
            live.is_abandoned = True
            log.warning(ABANDONED, live.info.path)

    # The task of a thread

    def _ask(self, live: Live, call: Call) -> None:
        """Has the thread's task make this call, after those already in line."""
        live.line.append(call)
        if live.asked is None:
            live.asked = self._engine.signal()
            self._tasks.start_soon(self._live_on, live)
        else:
            live.asked.set()

    async def _live_on(self, live: Live) -> None:
        """Makes the calls in line, one after another, until the thread is dropped; then closes it."""
        task = own_task(self._cancelled)
        try:
            while live.end_by == math.inf:
                report = await self._stretch(live, task)
                if report is not None:
                    self._over(live, live.call, report)
                if forget_cancellations(task):
                    await self._meet_cancellation(task)
        except GeneratorExit:
            raise  # the event loop was closed, and left this task behind
        except BaseException:
            await self._close(live, task)
            raise
        await self._close(live, task)

    async def _stretch(self, live: Live, task: OwnTask) -> Any:
        """Makes the calls in line, and waits for more, until the thread is dropped, or a call has raised or was
        cancelled while it ran: then `live.call` is that call, and its report is returned.

        All calls of a stretch have one scope, because to enter and leave one takes a tenth of a turn's time.
        """
        try:
            with TaskScope() as live.scope:
                while live.end_by == math.inf:
                    if not live.line:
                        live.asked = self._engine.signal()
                        await live.asked.wait()
                        continue
                    call = live.call = live.line.popleft()
                    self._over(
                        live,
                        call,
                        call.cancelled() if call.is_cancelled else await own_context(call.make(), self._context.copy()),
                    )
                    if call.is_cancelled:
                        return None
                    del call  # or its turn and mail would live until the next one
                    if forget_cancellations(task):
                        await self._meet_cancellation(task)
            return None if live.call is None else live.call.cancelled()
        except ScopeLeftEntered as error:  # it would act on all that the task does from now on
            log.warning(LEFT_ENTERED, live.info.path)
            if live.call is None and live.end_by < math.inf:
                return None
            self._lose(live)
            return ev.Died(live.agent, live.generation, words(error))
        except Exception as error:
            if live.call is None:
                raise  # not an error of the thread's code
            if not is_lost(error):
                return live.call.failed(words(error))
            self._lose(live)
            return ev.Died(live.agent, live.generation, words(error))
        except BaseExceptionGroup as group:  # of tasks that the code has started: some were cancelled, others raised
            cancelled, errors = group.split(self._cancelled)
            if cancelled is None or not isinstance(errors, ExceptionGroup) or not is_cancelled():
                raise
            raise cancelled from None  # the session is left, and not by the errors of its agents' code
        except (KeyboardInterrupt, SystemExit) as error:
            self._stop_by(error)  # from a task, asyncio would leave its loop at once, and the block never
            await anyio.sleep_forever()
        except self._cancelled as error:
            if is_cancelled():
                raise
            # what the code awaited was cancelled, not the code itself; or code that kept this task has cancelled it
            return None if live.call is None else live.call.failed(words(error))

    def _over(self, live: Live, call: Call | None, report: ev.Report) -> None:
        """Notes that the call has ended, even if it never began, and reports it. `call` is None if there was none."""
        if live.call is call:
            live.call = None
        if call is live.side:
            live.side = None
        elif isinstance(call, TurnCall):
            call.waits.end()
            if live.turn is call:
                live.turn = None
        if not live.loaded:  # a load that failed, or the first turn of the root
            self._lose(live)
        self._engine.apply(report)

    async def _meet_cancellation(self, task: OwnTask) -> None:
        """Takes away a cancellation that arrives between two calls of the thread's code and is not the session's."""
        try:
            await anyio.lowlevel.checkpoint()
        except self._cancelled:
            if is_cancelled():
                raise
            forget_cancellations(task)

    async def _close(self, live: Live, task: OwnTask) -> None:
        live.call = None
        live.free.set()
        if live.is_function or live.is_abandoned:
            return
        path = live.info.path

        async def work() -> None:
            await live.thread.close()

        try:
            with anyio.move_on_after(self._session.config.stop_grace, shield=True) as scope:
                await own_context(work(), self._context.copy())
            if scope.cancelled_caught:
                log.warning(ABANDONED, path)
        except (KeyboardInterrupt, SystemExit) as error:
            self._stop_by(error)
        except Exception:
            log.exception(NOT_CLOSED, path)
        except self._cancelled:
            if is_cancelled():
                raise
            log.exception(NOT_CLOSED, path)  # what it awaited was cancelled
        if forget_cancellations(task):
            await self._meet_cancellation(task)

    # Building

    def _build(self, agent: int, generation: int) -> Live:
        known = self._session.agents[agent]
        info = info_of(agent, known.path, known.settings)
        thread = self._context.copy().run(self._roles.build, info)
        live = self.threads[agent] = Live(agent, generation, info, thread, isinstance(thread, FunctionThread))
        return live


CARRY_OUT: dict[type, Callable[[LiveThreads, Any], None]] = {
    fx.Load: LiveThreads.load,
    fx.StartTurn: LiveThreads.start,
    fx.Cancel: LiveThreads.cancel,
    fx.Flush: LiveThreads.flush,
    fx.Unload: LiveThreads.unload,
    fx.Wake: LiveThreads.wake,
}


def is_lost(error: Exception) -> bool:
    """Tells whether the error is a `ThreadLost`, or a group of errors with one, without asking the group's class."""
    line: list[BaseException] = [error]
    for one in line:
        if issubclass(type(one), ThreadLost):
            return True
        if issubclass(type(one), BaseExceptionGroup):
            line.extend(EXCEPTIONS.__get__(one))
    return False


EXCEPTIONS = BaseExceptionGroup.__dict__["exceptions"]
"""What is in a group of exceptions."""
