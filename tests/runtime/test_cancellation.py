"""Cancellation, swept over every await of every public verb: nothing leaks, and nothing that was accepted is lost.

Each verb is called again and again in a new session, and its caller is cancelled at its first, second, third ...
suspension, until one call comes to its end before that. Which verbs there are is asked of the classes, so a new one
without a sweep is a failure.

On asyncio a caller is also cancelled by asyncio's own means, which pass anyio's shields (`WAYS`).
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

import anyio
import pytest
from attrs import define

from statemachine import Outcome, SessionConfig, check
from statemachine.core.machines import SessionState
from statemachine.core.records import Cause, MailAccepted, MailWithdrawn
from statemachine.core.refusals import SessionClosed
from statemachine.runtime import AgentControl, Handle, Turn
from statemachine.runtime.control import inside
from statemachine.stores import Entry, MemoryStore, Receipt, Recovered, Snapshot, SQLiteStore, Write
from statemachine.stores.sqlite.ownership import Ownership
from tests.runtime.running import Open, Stage, completed, counts, ending, recorder, traced_sessions, virtual_time

pytestmark = pytest.mark.anyio
FIXTURES = (traced_sessions, virtual_time)
STEPS_MAX = 50
"""No verb is suspended more often than this."""


class CancelledAt:
    """An awaitable that runs a coroutine and calls `cancel` at its suspension with this number, from 1, and again at
    the next ones until it has done so as many `times`.
    """

    def __init__(self, work: Coroutine[Any, Any, Any], at: int, cancel: Callable[[], object], times: int = 1) -> None:
        self.work, self.at, self.cancel, self.times = work, at, cancel, times
        self.count = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        inner = self.work.__await__()
        go_on: Callable[[], Any] = partial(next, inner)
        while True:
            try:
                trap = go_on()
            except StopIteration as end:
                return end.value
            self.count += 1
            if self.at <= self.count < self.at + self.times:
                self.cancel()
            try:
                sent = yield trap
            except BaseException as error:
                go_on = partial(inner.throw, error)
            else:
                go_on = partial(inner.send, sent)

    @property
    def was_reached(self) -> bool:
        return self.count >= self.at


async def awaited(work: CancelledAt) -> Any:
    return await work


class Failed(Exception):
    """Of another task of the same group."""


async def by_scope(work: Coroutine[Any, Any, Any], at: int) -> bool:
    with anyio.CancelScope() as scope:
        steps = CancelledAt(work, at, scope.cancel)
        await steps
    return steps.was_reached


async def by_task(work: Coroutine[Any, Any, Any], at: int, times: int = 1) -> bool:
    def cancel() -> None:
        task.cancel()

    steps = CancelledAt(work, at, cancel, times)
    task = asyncio.ensure_future(awaited(steps))
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    return steps.was_reached


async def by_task_twice(work: Coroutine[Any, Any, Any], at: int) -> bool:
    return await by_task(work, at, 2)


HALF_A_SECOND = 0.5


def half_a_second_passes() -> None:
    loop: Any = asyncio.get_running_loop()
    loop._virtual.now += HALF_A_SECOND


async def by_timeout(work: Coroutine[Any, Any, Any], at: int) -> bool:
    steps = CancelledAt(work, at, half_a_second_passes)
    with suppress(TimeoutError):
        async with asyncio.timeout(HALF_A_SECOND):
            await steps
    return steps.was_reached


async def by_wait_for(work: Coroutine[Any, Any, Any], at: int) -> bool:
    steps = CancelledAt(work, at, half_a_second_passes)
    with suppress(TimeoutError):
        await asyncio.wait_for(awaited(steps), HALF_A_SECOND)
    return steps.was_reached


async def by_group(work: Coroutine[Any, Any, Any], at: int) -> bool:
    async def fail() -> None:
        raise Failed

    group = asyncio.TaskGroup()
    steps = CancelledAt(work, at, lambda: group.create_task(fail()))
    with suppress(ExceptionGroup):
        async with group:
            group.create_task(awaited(steps))
    return steps.was_reached


Way = Callable[[Coroutine[Any, Any, Any], int], Awaitable[bool]]
"""Runs work and cancels it at the suspension with this number. Tells whether there was such a suspension; a call that
is cancelled may still come to its end.
"""
WAYS: dict[str, Way] = {
    way.__name__: way for way in (by_scope, by_task, by_task_twice, by_timeout, by_wait_for, by_group)
}
BACKENDS_OF_WAYS = [("asyncio", way) for way in WAYS] + [("trio", "by_scope")]
EACH_WAY = pytest.mark.parametrize(("anyio_backend", "way"), BACKENDS_OF_WAYS, indirect=["anyio_backend"])
OF_ASYNCIO_TOO = pytest.mark.parametrize(
    ("anyio_backend", "way"),
    [case for case in BACKENDS_OF_WAYS if case[1] in ("by_scope", "by_task", "by_task_twice")],
    indirect=["anyio_backend"],
)


# The world in which a verb is called


@define
class World:
    """`/root/a` has a turn that goes on, `/root/b` is idle, `/root/c` is closed, `/root/slow` sleeps for 10 seconds.
    `unread` is a mail from `/root/a` to `/root/b`.
    """

    control: AgentControl
    turn: Turn
    slow: Handle
    unread: int
    store: MemoryStore

    async def accepted(self, kind: type, **facts: Any) -> int:
        """How many records of this kind with these facts are in the log."""
        agents = range(len(inside(self.control).session.agents))
        rollouts = [record for agent in agents for record in await self.store.rollout(agent)]
        return sum(isinstance(r, kind) and all(getattr(r, k) == v for k, v in facts.items()) for r in rollouts)


class Slow(MemoryStore):
    """Takes a second for every append, so that much can happen before it is durable."""

    async def append(self, items: Sequence[Write | Snapshot]) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(1)
        await super().append(items)


@asynccontextmanager
async def world(open_session: Open, store_class: type[MemoryStore] = MemoryStore) -> AsyncIterator[World]:
    stage, store = Stage(), store_class()

    async def work(turn: Turn) -> str:
        if (turn.path, turn.number) == ("/root/a", 1):
            return await stage(turn)
        if (turn.path, turn.number) == ("/root/slow", 1):
            await anyio.sleep(10)
        return turn.mail[-1].text

    async with open_session(work, store, max_concurrent=8) as control:
        for name in ("b", "c"):
            await (await control.spawn("/root", name, "x")).outcome()
        await control.close("/root/c")
        await control.spawn("/root", "a", "x")
        slow = await control.spawn("/root", "slow", "x")
        turn = (await stage.scene("/root/a")).turn
        yield World(control, turn, slow, await turn.send("/root/b", "unread"), store)


async def works_on(w: World) -> None:
    """Nothing is held or waits but what was there before, and everybody still does what is asked of them."""
    control = w.control
    await anyio.wait_all_tasks_blocked()
    await w.slow.outcome()
    check(inside(control).session)
    assert control.statistics().waiting == 0
    held = counts(control)["slots"]
    if (await control.status("/root/a")).open and not (await control.status("/root/a")).status.is_idle:
        assert held == 1
        await w.turn.drain()
        assert (await w.turn.wait(1)).name == "TIMEOUT"
    for path in ("/root/b", "/root/slow"):
        if (await control.status(path)).open:
            handle = await control.follow_up(path, "go on")
            assert ending(await handle.outcome()) == completed("go on")
    await anyio.wait_all_tasks_blocked()
    assert inside(control).requests.keys == []


Call = Callable[[World], Coroutine[Any, Any, Any]]


async def at_most_once(w: World, kind: type, **facts: Any) -> None:
    assert await w.accepted(kind, **facts) <= 1


async def spawned_once(w: World) -> None:
    names = [agent.path for agent in inside(w.control).session.agents]
    assert names.count("/root/b/n") <= 1
    assert names.count("/root/a/n") <= 1


async def mailed_once(w: World) -> None:
    await at_most_once(w, MailAccepted, message="swept")


async def recorded_once(w: World) -> None:
    await at_most_once(w, Entry, data="swept")


async def withdrawn_once(w: World) -> None:
    await at_most_once(w, MailWithdrawn, mail=w.unread)


async def unchanged(_: World) -> None:
    """What was only asked changes nothing; `works_on` sees the rest."""


async def lend(turn: Turn) -> None:
    async with turn.lend():
        await anyio.sleep(5)


async def all_of(outcomes: AsyncIterator[Outcome]) -> None:
    async for _ in outcomes:
        pass


CONTROL: dict[str, tuple[Call, Callable[[World], Awaitable[None]]]] = {
    "spawn": (lambda w: w.control.spawn("/root/b", "n", "x"), spawned_once),
    "send": (lambda w: w.control.send("/root/b", "swept"), mailed_once),
    "follow_up": (lambda w: w.control.follow_up("/root/b", "swept"), mailed_once),
    "start": (lambda w: w.control.start("/root", "swept"), mailed_once),
    "interrupt": (lambda w: w.control.interrupt("/root/slow"), unchanged),
    "close": (lambda w: w.control.close("/root/b"), unchanged),
    "resume": (lambda w: w.control.resume("/root/c"), unchanged),
    "forget": (lambda w: w.control.forget("/root/c"), unchanged),
    "withdraw": (lambda w: w.control.withdraw(w.unread), withdrawn_once),
    "status": (lambda w: w.control.status("/root/a"), unchanged),
    "list": (lambda w: w.control.list(), unchanged),
    "history": (lambda w: w.control.history("/root/a"), unchanged),
    "handle": (lambda w: w.control.handle(w.slow.ref), unchanged),
}
TURN: dict[str, tuple[Call, Callable[[World], Awaitable[None]]]] = {
    "drain": (lambda w: w.turn.drain(), unchanged),
    "wait": (lambda w: w.turn.wait(5), unchanged),
    "record": (lambda w: w.turn.record("swept"), recorded_once),
    "history": (lambda w: w.turn.history(), unchanged),
    "spawn": (lambda w: w.turn.spawn("n", "x"), spawned_once),
    "send": (lambda w: w.turn.send("/root/b", "swept"), mailed_once),
    "follow_up": (lambda w: w.turn.follow_up("/root/b", "swept"), mailed_once),
    "interrupt": (lambda w: w.turn.interrupt("/root/slow"), unchanged),
    "close": (lambda w: w.turn.close("/root/b"), unchanged),
    "resume": (lambda w: w.turn.resume("/root/c"), unchanged),
    "withdraw": (lambda w: w.turn.withdraw(w.unread), withdrawn_once),
    "outcomes": (lambda w: w.turn.outcomes(w.slow, w.slow), unchanged),
    "as_completed": (lambda w: all_of(w.turn.as_completed(w.slow)), unchanged),
    "lend": (lambda w: lend(w.turn), unchanged),
    "sleep": (lambda w: w.turn.sleep(5), unchanged),
    "status": (lambda w: w.turn.status("/root/a"), unchanged),
    "list": (lambda w: w.turn.list(), unchanged),
}
HANDLE: dict[str, tuple[Call, Callable[[World], Awaitable[None]]]] = {
    "outcome": (lambda w: w.slow.outcome(), unchanged),
}
ELSEWHERE = {AgentControl: {"open", "shutdown", "events", "backup"}, Turn: set[str](), Handle: set[str]()}
"""What has a test of its own, below or, for a backup, beside its other tests."""
SWEPT = {AgentControl: CONTROL, Turn: TURN, Handle: HANDLE}
CALLS = {f"{cls.__name__}.{verb}": case for cls, calls in SWEPT.items() for verb, case in calls.items()}


def other_tasks(control: AgentControl) -> int:
    """How many tasks there are, but for those of threads in memory."""
    threads = [live for live in inside(control).live.threads.values() if live.asked is not None]
    return len(anyio.get_running_tasks()) - len(threads)


async def sweep(open_session: Open, call: Call, afterwards: Callable[[World], Awaitable[None]], way: Way) -> int:
    """Cancels the call at every suspension. Returns how many there are."""
    for step in range(1, STEPS_MAX):
        async with world(open_session) as w:
            before = other_tasks(w.control)
            was_reached = await way(call(w), step)
            await works_on(w)
            await afterwards(w)
            assert other_tasks(w.control) <= before, "a task is left over"
        if not was_reached:
            return step - 1
    raise AssertionError(f"more than {STEPS_MAX} suspensions")


@OF_ASYNCIO_TOO
@pytest.mark.parametrize("name", CALLS)
async def test_verb_cancelled_at_each_of_its_awaits_leaks_nothing_and_the_session_goes_on(
    name: str, way: str, open_session: Open
) -> None:
    call, afterwards = CALLS[name]
    assert await sweep(open_session, call, afterwards, WAYS[way]) >= 1


@EACH_WAY
async def test_shutdown_cancelled_at_each_of_its_awaits_is_refused_or_comes_to_its_end(
    way: str, open_session: Open
) -> None:
    for step in range(1, STEPS_MAX):
        async with world(open_session) as w:
            was_reached = await WAYS[way](w.control.shutdown(1), step)
            assert inside(w.control).session.state is not SessionState.OPEN, "nothing is awaited before it is accepted"
        assert inside(w.control).session.state is SessionState.CLOSED
        assert counts(w.control) == {}
        if not was_reached:
            break
    assert step > 2


@EACH_WAY
async def test_reader_of_events_cancelled_at_each_of_its_awaits_misses_nothing(way: str, open_session: Open) -> None:
    async def read(control: AgentControl) -> None:
        async with control.events() as events:
            await anext(events)
            await anext(events)

    for step in range(1, STEPS_MAX):
        async with world(open_session) as w, anyio.create_task_group() as tasks:
            tasks.start_soon(w.control.send, "/root/b", "one")
            was_reached = await WAYS[way](read(w.control), step)
            async with w.control.events() as events:
                await w.control.send("/root/b", "two")
                seen = [await anext(events)]
                while getattr(seen[-1], "message", None) != "two":
                    seen.append(await anext(events))
            assert w.control._streams._streams == []
        if not was_reached or step > 3:
            break


# Keys


KEYED: dict[str, Callable[[World], Coroutine[Any, Any, Any]]] = {
    "AgentControl.spawn": lambda w: w.control.spawn("/root/b", "n", "swept", {"s": 1}, key="k"),
    "AgentControl.send": lambda w: w.control.send("/root/b", "swept", key="k"),
    "AgentControl.follow_up": lambda w: w.control.follow_up("/root/b", "swept", key="k"),
    "AgentControl.start": lambda w: w.control.start("/root/b", "swept", key="k"),
    "Turn.spawn": lambda w: w.turn.spawn("n", "swept", key="k"),
    "Turn.send": lambda w: w.turn.send("/root/b", "swept", key="k"),
    "Turn.follow_up": lambda w: w.turn.follow_up("/root/b", "swept", key="k"),
}


@EACH_WAY
@pytest.mark.parametrize("store_class", [MemoryStore, Slow])
@pytest.mark.parametrize("name", KEYED)
async def test_keyed_request_cancelled_at_each_of_its_awaits_and_repeated_is_there_exactly_once(
    name: str, store_class: type[MemoryStore], way: str, open_session: Open
) -> None:
    call = KEYED[name]
    for step in range(1, STEPS_MAX):
        async with world(open_session, store_class) as w:
            was_reached = await WAYS[way](call(w), step)
            first, second = await call(w), await call(w)
            if isinstance(first, Handle):
                assert first.ref == second.ref
                assert ending(await first.outcome()) == ending(await second.outcome()) == completed("swept")
            else:
                assert first == second
            assert await w.accepted(MailAccepted, message="swept") == 1
            await works_on(w)
        if not was_reached:
            break
    assert step > 1


# The block


@EACH_WAY
async def test_opening_cancelled_at_each_of_its_awaits_gives_the_store_back(way: str, open_session: Open) -> None:
    store = MemoryStore()

    async def enter() -> None:
        async with open_session(recorder(), store):
            pass

    for step in range(1, STEPS_MAX):
        was_reached = await WAYS[way](enter(), step)
        assert not store.log.is_owned
        if not was_reached:
            break
    assert step > 3
    async with open_session(recorder(), store) as control:
        assert ending(await (await control.spawn("/root", "a", "x")).outcome()) == completed("x")


@EACH_WAY
async def test_leaving_cancelled_at_each_of_its_awaits_closes_threads_and_gives_the_store_back(
    way: str, open_session: Open
) -> None:
    async def live(store: MemoryStore, stage: Stage, work: Any, entered: list[str]) -> None:
        async with open_session(work, store) as control:
            await control.spawn("/root", "a", "x")
            await stage.scene("/root/a")
            entered.append("and worked")

    in_the_exit = 0
    for step in range(1, STEPS_MAX):
        store, stage = MemoryStore(), Stage()
        work = recorder(stage)
        entered: list[str] = []
        was_reached = await WAYS[way](live(store, stage, work, entered), step)
        assert not store.log.is_owned
        assert work.log.count("close /root/a") == work.log.count("new /root/a"), f"cancelled at {step}"
        in_the_exit += bool(entered) and was_reached
        if not was_reached:
            break
    assert in_the_exit > 2, "the sweep went through the exit"


# What asyncio's cancellation leaves behind

ONLY_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)


async def loses_a_task() -> None:
    """In Python 3.11 this leaves a cancellation of the task counted that has come to nothing."""

    async def fail() -> None:
        raise Failed

    with suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            group.create_task(asyncio.sleep(1000))


@ONLY_ASYNCIO
async def test_block_in_which_a_task_group_of_asyncio_failed_is_left_without_an_error(open_session: Open) -> None:
    async with open_session(recorder()) as control:
        await loses_a_task()
        handle = await control.spawn("/root", "a", "x", key="k")
        assert ending(await handle.outcome()) == completed("x")


@ONLY_ASYNCIO
async def test_turn_in_which_a_task_group_of_asyncio_failed_is_interrupted_as_any_other(open_session: Open) -> None:
    async def work(_: Turn) -> None:
        await loses_a_task()
        await anyio.sleep_forever()

    async with open_session(work) as control:
        handle = await control.spawn("/root", "a", "x")
        await anyio.wait_all_tasks_blocked()
        await control.interrupt(handle)
        assert (await handle.outcome()).cause is Cause.INTERRUPTED


@ONLY_ASYNCIO
async def test_all_tasks_of_the_loop_cancelled_at_once_leave_the_block_and_lose_nothing(open_session: Open) -> None:
    """What many programs do when they are told to stop."""
    store, acknowledged = Slow(), list[str]()

    async def live() -> None:
        async with open_session(recorder(), store) as control:
            for number in range(100):
                await control.spawn("/root", f"a{number}", "x", key=str(number))
                acknowledged.append(f"/root/a{number}")

    for seconds in (2.5, 3.0):
        task = asyncio.ensure_future(live())
        ours = asyncio.all_tasks() - {task}
        await anyio.sleep(seconds)
        for other in asyncio.all_tasks() - ours:
            other.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert asyncio.all_tasks() == ours
        assert acknowledged
        async with open_session(recorder(), store, max_concurrent=200) as control:
            assert {agent.path for agent in await control.list()} >= set(acknowledged)


@ONLY_ASYNCIO
@pytest.mark.parametrize("is_cancelled_before", [True, False])
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")  # of tasks that never begin
async def test_store_is_closed_though_all_tasks_are_cancelled_in_any_pass_of_leaving(
    is_cancelled_before: bool, open_session: Open
) -> None:
    async def live(store: MemoryStore, entered: asyncio.Event) -> None:
        async with open_session(recorder(), store):
            entered.set()
            if is_cancelled_before:
                await asyncio.sleep(1000)

    ours, passes, is_left = asyncio.all_tasks(), 0, False
    while not is_left:
        store, entered = MemoryStore(), asyncio.Event()
        task = asyncio.ensure_future(live(store, entered))
        await entered.wait()
        if is_cancelled_before:
            task.cancel()
        for _ in range(passes):
            await asyncio.sleep(0)
        is_left = task.done()
        for other in asyncio.all_tasks() - ours:
            other.cancel()
        await asyncio.wait([task])
        assert not store.log.is_owned, f"pass {passes}"
        assert asyncio.all_tasks() == ours
        passes += 1
    assert passes > 5
    gc.collect()  # here, where the warnings that it brings are passed over


@pytest.mark.parametrize("cancels_caller", [True, False])
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")  # of tasks that never begin
def test_key_is_free_and_its_caller_told_though_its_task_is_cancelled_before_it_begins(cancels_caller: bool) -> None:
    async def live(entered: asyncio.Future[AgentControl]) -> None:
        async with AgentControl.open(MemoryStore(), recorder()) as control:
            entered.set_result(control)
            await asyncio.sleep(1000)

    async def main(passes: int) -> None:
        entered: asyncio.Future[AgentControl] = asyncio.Future()
        task = asyncio.ensure_future(live(entered))
        control = await entered
        before = asyncio.all_tasks()
        caller = asyncio.ensure_future(control.spawn("/root", "a", "x", key="k"))
        for _ in range(passes):
            await asyncio.sleep(0)
        for other in asyncio.all_tasks() - before - (set() if cancels_caller else {caller}):
            other.cancel()
        await asyncio.wait([caller], timeout=60)
        assert caller.done(), f"pass {passes}"
        task.cancel()
        await asyncio.wait([task])
        assert caller.cancelled() or isinstance(caller.exception(), SessionClosed | None)
        assert inside(control).requests.keys == []

    for passes in range(1, 4):  # in the first, before it begins; no code of the agent runs yet
        asyncio.run(main(passes))
    gc.collect()  # here, where the warnings that it brings are passed over


async def test_keyed_request_of_a_turn_that_is_interrupted_before_the_key_is_known_is_not_made(
    open_session: Open,
) -> None:
    """Otherwise what it spawns would escape the interrupt of the whole subtree."""
    looked_up, go_on = anyio.Event(), anyio.Event()

    class Looking(MemoryStore):
        async def receipt(self, key: str) -> Receipt | None:
            looked_up.set()
            await go_on.wait()
            return await super().receipt(key)

    async def work(turn: Turn) -> None:
        if turn.path == "/root/a":
            await turn.spawn("b", "x", key="k")

    async with open_session(work, Looking()) as control:
        handle = await control.spawn("/root", "a", "x")
        await looked_up.wait()
        await control.interrupt("/root/a", subtree=True)
        assert (await handle.outcome()).cause is Cause.INTERRUPTED
        go_on.set()
        await anyio.wait_all_tasks_blocked()
        assert [agent.path for agent in await control.list()] == ["/root", "/root/a"]
        assert inside(control).requests.keys == []
        assert ending(await (await control.spawn("/root/a", "b", "x", key="k")).outcome()) == completed(None)


class Gated(SQLiteStore):
    """Is not opened and not closed before it is told to go on."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.opens, self.closes = threading.Event(), threading.Event()

    def _open(self, config: SessionConfig, ownership: Ownership) -> Recovered:
        assert self.opens.wait(60)
        return super()._open(config, ownership)

    def _close(self) -> None:
        assert self.closes.wait(60)
        super()._close()


@pytest.mark.parametrize("is_entered", [True, False])
def test_file_is_free_as_soon_as_a_task_that_asyncio_cancels_again_and_again_has_left_it(
    is_entered: bool, tmp_path: Path
) -> None:
    path = tmp_path / "session.db"

    async def live(store: SQLiteStore, entered: asyncio.Event) -> None:
        async with AgentControl.open(store, recorder()):
            entered.set()
            await asyncio.sleep(1000)

    async def main() -> None:
        store, entered = Gated(path), asyncio.Event()
        task = asyncio.create_task(live(store, entered))
        if is_entered:
            store.opens.set()
            await entered.wait()
        for _ in range(5):
            await asyncio.sleep(0)
            task.cancel()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not task.done(), "the file is not free yet"
        store.opens.set()
        store.closes.set()
        await asyncio.wait([task])
        assert task.cancelled()
        async with AgentControl.open(path, recorder()) as control:
            assert ending(await (await control.spawn("/root", "a", "x")).outcome()) == completed("x")

    asyncio.run(main())


# Completeness


def verbs(cls: type) -> set[str]:
    """The public methods of the class that can be awaited, or entered."""
    found = inspect.getmembers(cls, callable)
    return {
        name
        for name, method in found
        if not name.startswith("_")
        and (
            inspect.iscoroutinefunction(method)
            or inspect.isasyncgenfunction(inspect.unwrap(method))
            or hasattr(get_type_hints(method).get("return"), "__aenter__")
        )
    }


@pytest.mark.parametrize("cls", SWEPT, ids=lambda cls: cls.__name__)
def test_every_public_verb_has_a_sweep(cls: type) -> None:
    assert verbs(cls) == set(SWEPT[cls]) | ELSEWHERE[cls]


def test_every_verb_with_a_key_has_a_sweep_of_its_key() -> None:
    def takes_key(cls: type, verb: str) -> bool:
        return "key" in inspect.signature(getattr(cls, verb)).parameters

    assert {f"{cls.__name__}.{verb}" for cls in SWEPT for verb in verbs(cls) if takes_key(cls, verb)} == set(KEYED)
