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

from collections import deque
from collections.abc import Callable
from contextvars import Context
from functools import partial
from typing import Any

import anyio
from anyio.abc import TaskGroup
from attrs import define, field

from statemachine.core import effects as fx
from statemachine.core import events as ev
from statemachine.core.events import HOST, ROOT
from statemachine.core.machines import Identity, Residency, SessionState, TurnState
from statemachine.core.records import Cause
from statemachine.core.refusals import SessionDraining
from statemachine.eventloops import Bell, is_cancelled
from statemachine.pauses import happens_within
from statemachine.runtime.calls import Call, FlushCall, InMemory, LoadCall, TurnCall
from statemachine.runtime.caps import MAX_ABANDONED, Caps
from statemachine.runtime.engine import Engine
from statemachine.runtime.errors import ThreadLost, interrupt_in, leaves, traceback_of, words
from statemachine.runtime.exits import IN_AGENT
from statemachine.runtime.settings import info_of
from statemachine.runtime.tasks import (
    OwnTask,
    ScopeLeftEntered,
    TaskScope,
    forget_cancellations,
    own_context,
    own_task,
)
from statemachine.runtime.threads import FunctionThread, Listener, Roles, listen
from statemachine.runtime.turn import Turn
from statemachine.runtime.verbs import Verbs
from statemachine.runtime.waits import Waits
from statemachine.sinks import carry_out_all, log

ABANDONED = "%s: the thread of agent %s does not stop; it was abandoned"
LOST = "%s: the thread of agent %s is reported lost: %s"
NOT_LOADED = "%s: the thread of agent %s was not loaded within %g s"
NOT_CLOSED = "%s: the thread of agent %s could not be closed"
RAISED = "%s: the code of agent %s raised in turn %d"
LEFT_ENTERED = "%s: the code of agent %s left a scope entered in its task: its thread is dropped"


@define(eq=False)
class Live(InMemory):
    """One thread, from load to unload."""

    listener: Listener
    """What the thread tells that it is lost."""
    turn: TurnCall | None = None
    """The turn that runs on it, from its start effect to its end."""
    side: LoadCall | FlushCall | None = None
    """The last load or flush, until it has ended."""
    leaving: bool = False
    """Whether it is being flushed in order to be unloaded."""
    line: deque[Call] = field(factory=deque["Call"])
    """Calls that its task makes next."""
    asked: Bell | None = None
    """Rung when a call is in line, or the thread is dropped; None until there is a task."""
    call: Call | None = None
    """The call that its task makes now, if its code runs."""
    scope: TaskScope | None = None
    """The scope of its task's calls. Cancelling it stops the call under way, and only that."""
    is_dropped: bool = False
    free: anyio.Event = field(factory=anyio.Event)
    """Set when all of its code except `close` has ended."""
    closing: TaskScope | None = None
    """The scope of `close`, while that is called."""
    closed: anyio.Event = field(factory=anyio.Event)
    """Set when its task has ended, and with it all of its code."""
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
        max_abandoned: int = MAX_ABANDONED,
    ) -> None:
        """`stop_by` leaves the session's block by KeyboardInterrupt, the one error that is not the code's own.
        `context` has the context variables with which all code of threads begins. `max_abandoned`: see `caps.py`.
        """
        self._engine = engine
        self._session = engine.session
        self._verbs = verbs
        self._roles = roles
        self._tasks = tasks
        self._stop_by = stop_by
        self._context = context.copy()
        self._context.run(IN_AGENT.set, True)
        self._cancelled = anyio.get_cancelled_exc_class()
        self.threads: dict[int, Live] = {}
        """Agent -> its thread, until that is dropped."""
        self.caps: Caps[Live] = Caps(engine.place, self._session.config.max_resident, max_abandoned)
        self.loads = self.reloads = self.evictions = 0

    # Effects

    def load(self, effect: fx.Load) -> None:
        """Builds a thread, once there is room for it in the machine."""
        self.loads += 1
        self.reloads += effect.generation > 1
        self.caps.loads.append(effect)
        self._let_in()

    def _load(self, effect: fx.Load) -> None:
        """Builds a thread. A plain function counts as loaded at once."""
        known = self._session.agents[effect.agent]
        if known.generation != effect.generation or known.residency is Residency.UNLOADED:
            return  # given up while it waited: its unload is in line
        try:
            live = self._build(effect.agent, effect.generation)
        except BaseException as error:  # of the user's constructor
            if not self._is_stopped_by(error):
                self._raised(ev.LoadFailed(effect.agent, effect.generation, words(error)), effect.agent, error)
            return
        if live.is_function:
            self._engine.report(ev.Loaded(effect.agent, effect.generation))
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
            if not self.caps.may_build_root:
                self.caps.root = effect
                return
            try:
                live = self._build(ROOT, effect.generation)
            except BaseException as error:  # of the user's constructor
                if not self._is_stopped_by(error):
                    self._raised(ev.Failed(ROOT, effect.turn, words(error), Cause.LOAD_FAILED), ROOT, error)
                return
            live.loaded = live.is_function
        live.leaving = False
        if live.side is not None:
            live.cancel(live.side)  # a flush that is not needed any more (J6)
        waits = Waits(self._engine, effect.agent, effect.turn)
        turn = Turn(self._engine, self._verbs, waits, live.info, effect)
        live.turn = TurnCall(live, self._engine, turn, waits, self._context, self._scope)
        if self.caps.left_over:
            self.caps.starts.append(live)
            self._let_in()
        else:  # as nearly always
            self._ask(live, live.turn)

    def cancel(self, effect: fx.Cancel) -> None:
        """Asks the turn's work to stop."""
        if effect.agent == ROOT and self.caps.root is not None and self.caps.root.turn == effect.turn:
            self.caps.root = None
            self._engine.report(ev.Aborted(ROOT, effect.turn))
            return
        live = self.threads.get(effect.agent)
        if live is not None and live.turn is not None and live.turn.waits.turn == effect.turn:
            live.cancel(live.turn)
            is_in_line = live.turn in live.line  # it need not wait for the call under way
            if is_in_line:
                live.line.remove(live.turn)
            if is_in_line or self.caps.give_up_start(live):
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
        self._engine.report(ev.Flushed(effect.agent, effect.generation, effect.flush))

    def unload(self, effect: fx.Unload) -> None:
        """Drops a thread, even if its code is running."""
        self.caps.give_up_load(effect.agent, effect.generation)
        live = self.threads.get(effect.agent)
        if live is not None and live.generation == effect.generation:
            session = self._session
            known = session.agents[live.agent]
            self.evictions += live.leaving and session.state is SessionState.OPEN and known.identity is Identity.OPEN
            outcome = None if live.loaded else known.outcome
            if outcome is not None and outcome.turn == known.turn and outcome.cause is Cause.LOAD_TIMED_OUT:
                log.warning(NOT_LOADED, self._engine.place, live.info.path, session.config.load_timeout)
            self._drop(live)

    def wake(self, effect: fx.Wake) -> None:
        """Ends a turn's wait."""
        live = self.threads.get(effect.agent)
        if live is not None and live.turn is not None and live.turn.waits.turn == effect.turn:
            live.turn.waits.wake(effect.wait, effect.end)

    # Dropping

    def drop_all(self) -> None:
        """Drops all threads, because the session has ended and ignores what they do."""
        self.caps.end()
        carry_out_all(*[partial(self._drop, live) for live in self.threads.values()])

    def _lose(self, live: Live) -> None:
        """Drops a thread that cannot be used any more and that the core will not ask to drop."""
        if self.threads.get(live.agent) is live:
            self._drop(live)

    def _report_lost(self, live: Live, why: str) -> None:
        """The thread has said so itself, in a call of it or between two."""
        if self.threads.get(live.agent) is live:
            log.warning(LOST, self._engine.place, live.info.path, why)
            self._drop(live)
            self._engine.report(ev.Died(live.agent, live.generation, why))

    def _drop(self, live: Live) -> None:
        del self.threads[live.agent]
        live.listener.hear = ignore
        if live.turn is not None:
            live.turn.waits.end()
        for call in (live.turn, live.side):
            if call is not None:
                live.cancel(call)
        live.is_dropped = True
        self.caps.give_up_start(live)
        if live.asked is not None:
            live.asked.ring()
            if live.call is not None or not live.is_function:
                self.caps.leave(live, live.call is not None)
                self._tasks.start_soon(self._see_off, live)
        self._let_in()

    def _let_in(self) -> None:
        """Begins what waited for threads to be gone, as far as there is room now."""
        caps = self.caps
        if caps.root is not None and caps.may_build_root:
            effect, caps.root = caps.root, None
            self.start(effect)
        while caps.loads and caps.may_load(self.threads):
            self._load(caps.loads.pop(0))
        while caps.starts and caps.may_start:
            live = caps.starts.pop(0)
            assert live.turn is not None
            self._ask(live, live.turn)

    async def _see_off(self, live: Live) -> None:
        """Abandons the code of a dropped thread if it does not end in time: the call under way, and then `close`."""
        if not await self._ends_in_time(live):
            live.is_abandoned = True
            self.caps.abandon(live)
            self._let_in()
            if live.closing is not None:
                live.closing.cancel()
            log.warning(ABANDONED, self._engine.place, live.info.path)

    async def _ends_in_time(self, live: Live) -> bool:
        grace = self._session.config.stop_grace
        if live.call is None:  # at rest: its task is about to see that it is dropped
            with anyio.CancelScope(shield=True):
                await live.free.wait()
        elif not await happens_within(live.free, grace):
            return False
        return await happens_within(live.closed, grace)

    # The task of a thread

    def _ask(self, live: Live, call: Call) -> None:
        """Has the thread's task make this call, after those already in line."""
        live.line.append(call)
        if live.asked is None:
            live.asked = self._engine.bell()
            self._tasks.start_soon(self._live_on, live)
        else:
            live.asked.ring()

    async def _live_on(self, live: Live) -> None:
        """Makes the calls in line, one after another, until the thread is dropped; then closes it."""
        task = own_task(self._cancelled)
        try:
            while not live.is_dropped:
                report = await self._stretch(live, task)
                if report is not None:
                    self._over(live, live.call, report)
                if forget_cancellations(task):
                    await self._meet_cancellation(task)
        except GeneratorExit:
            raise  # the event loop was closed, and left this task behind
        except BaseException:
            await self._end(live, task)
            raise
        await self._end(live, task)

    async def _end(self, live: Live, task: OwnTask) -> None:
        """Closes the thread, after which none of its code runs any more."""
        try:
            await self._close(live, task)
        except GeneratorExit:
            raise
        except BaseException:
            self._gone(live)
            raise
        self._gone(live)

    def _gone(self, live: Live) -> None:
        live.closed.set()
        self.caps.gone(live)
        self._let_in()

    async def _stretch(self, live: Live, task: OwnTask) -> Any:
        """Makes the calls in line, and waits for more, until the thread is dropped, or a call has raised or was
        cancelled while it ran: then `live.call` is that call, and its report is returned.

        All calls of a stretch have one scope, because to enter and leave one takes a tenth of a turn's time.
        """
        try:
            with self._scope(live) as scope:
                live.scope = scope
                while not live.is_dropped:
                    if not live.line:
                        assert live.asked is not None, "it is made with this task"
                        await live.asked.wait()
                        continue
                    call = live.call = live.line.popleft()
                    self._over(
                        live,
                        call,
                        call.cancelled()
                        if call.is_cancelled
                        else await own_context(call.make(), self._context.copy(), scope.survived),
                    )
                    if call.is_cancelled:
                        return None
                    del call  # or its turn and mail would live until the next one
                    if task is not None and task.cancelling() and forget_cancellations(task):
                        await self._meet_cancellation(task)
            return None if live.call is None else live.call.cancelled()
        except ScopeLeftEntered as error:  # it would act on all that the task does from now on
            log.warning(LEFT_ENTERED, self._engine.place, live.info.path)
            if live.call is None and live.is_dropped:
                return None
            self._lose(live)
            return ev.Died(live.agent, live.generation, words(error))
        except self._cancelled as error:
            if is_cancelled():
                raise
            if live.call is None:
                return None
            if live.call.is_cancelled:  # and counts of cancellations that its code left behind kept the scope from
                return live.call.cancelled()  # taking it for its own
            # what the code awaited was cancelled, not the code itself; or code that kept this task has cancelled it
            return self._failed(live, live.call, error)
        except BaseException as error:
            if live.call is None or isinstance(error, GeneratorExit):
                raise  # not an error of the thread's code, or the event loop was closed
            if self._is_stopped_by(error):
                await anyio.sleep_forever()  # from a task, asyncio would leave its loop at once, and the block never
            if is_cancelled() and any(issubclass(type(leaf), self._cancelled) for leaf in leaves(error)):
                await anyio.lowlevel.checkpoint()  # the session is left, and not by the errors of its agents' code
            return self._failed(live, live.call, error)

    def _failed(self, live: Live, call: Call, error: BaseException) -> ev.Report:
        """Returns the report of a call whose code raised, and logs where."""
        if isinstance(call, TurnCall) and self._is_refused_because_stopped(call, error):
            return self._stopped(live, call)
        call.traceback = self._log(live.agent, error)
        if not is_lost(error):
            return call.failed(words(error))
        self._lose(live)
        return ev.Died(live.agent, live.generation, words(error))

    def _raised(self, report: ev.Report, agent: int, error: BaseException) -> None:
        """Reports that the constructor of a thread raised."""
        self._engine.report_failure(report, agent, self._log(agent, error))

    def _log(self, agent: int, error: BaseException) -> str | None:
        """Logs an exception of an agent's code. Returns the text that its turn keeps."""
        known = self._session.agents[agent]
        place = self._engine.place
        facts = {"session": place, "agent": known.path, "turn": known.turn}
        log.error(RAISED, place, known.path, known.turn, exc_info=error, extra=facts)
        return traceback_of(error)

    def _is_refused_because_stopped(self, call: TurnCall, error: BaseException) -> bool:
        """Tells whether code was ended by nothing but the refusal of a verb because the session is shut down, or
        because this turn was asked to stop: the code may hear of that before its cancellation comes. What it raises
        instead, though from such a refusal, is an error of its own.
        """
        known = self._session.agents[call.live.agent]
        is_stopping = known.turn == call.waits.turn and known.status is TurnState.STOPPING
        if not is_stopping and self._session.state is not SessionState.DRAINING:
            return False
        return all(
            issubclass(type(leaf), (SessionDraining, self._cancelled)) or (is_stopping and call.waits.is_ended_by(leaf))
            for leaf in leaves(error)
        )

    def _stopped(self, live: Live, call: TurnCall) -> ev.Report:
        """The turn was asked to stop, or the shutdown interrupts it, as it does all others that go on: those without
        grace now, this one within it.
        """
        self._engine.tick()  # without grace, all turns are asked to stop by now
        if self._session.agents[live.agent].status is not TurnState.STOPPING:
            self._engine.report(ev.Interrupt(HOST, live.agent))
        return call.cancelled()

    def _is_stopped_by(self, error: BaseException) -> bool:
        """Has the session's block left if this is an interrupt of the process. Every other exception is the code's."""
        interrupt = interrupt_in(error)
        if interrupt is not None:
            self._stop_by(interrupt)
        return interrupt is not None

    def _scope(self, live: Live, shield: bool = False) -> TaskScope:
        """Returns a scope for code of the thread. Code that swallows its cancellation is cancelled again until it is
        abandoned.
        """

        def insist(scope: TaskScope) -> None:
            self._tasks.start_soon(scope.insist, lambda: live.is_dropped, self._session.config.stop_grace)

        return TaskScope(insist, shield)

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
        if call is None or call.traceback is None:
            self._engine.report(report)
        else:
            self._engine.report_failure(report, live.agent, call.traceback)

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
        live.scope = None  # which holds the thread
        live.free.set()
        self.caps.free(live)
        self._let_in()
        if live.is_function or live.is_abandoned:
            return
        place, path = self._engine.place, live.info.path

        async def work() -> None:
            await live.thread.close()

        try:
            with self._scope(live, shield=True) as live.closing:
                await own_context(work(), self._context.copy(), live.closing.survived)
        except self._cancelled:
            if is_cancelled():
                raise
            log.exception(NOT_CLOSED, place, path)  # what it awaited was cancelled
        except BaseException as error:
            if isinstance(error, GeneratorExit):
                raise  # the event loop was closed
            if not self._is_stopped_by(error):
                log.exception(NOT_CLOSED, place, path)
        finally:
            live.closing = None  # which holds the thread
        if forget_cancellations(task):
            await self._meet_cancellation(task)

    # Building

    def _build(self, agent: int, generation: int) -> Live:
        known = self._session.agents[agent]
        info = info_of(agent, known.path, known.settings)
        thread = self._context.copy().run(self._roles.build, info)
        listen(thread, listener := Listener(ignore))
        live = self.threads[agent] = Live(agent, generation, info, thread, isinstance(thread, FunctionThread), listener)
        listener.hear = lambda why: self._engine.tell(partial(self._report_lost, live, why))
        return live


CARRY_OUT: dict[type, Callable[[LiveThreads, Any], None]] = {
    fx.Load: LiveThreads.load,
    fx.StartTurn: LiveThreads.start,
    fx.Cancel: LiveThreads.cancel,
    fx.Flush: LiveThreads.flush,
    fx.Unload: LiveThreads.unload,
    fx.Wake: LiveThreads.wake,
}
"""Effect class -> what begins what it asks for; none of them waits."""


def ignore(_: str) -> None:
    """Takes the place of `_report_lost` for a thread that is dropped."""


def is_lost(error: BaseException) -> bool:
    """Tells whether the error is a `ThreadLost`, or a group of errors with one."""
    return any(issubclass(type(leaf), ThreadLost) for leaf in leaves(error))
