"""Cancellation, swept over every await of every public verb: nothing leaks, and nothing that was accepted is lost.

Each verb is called again and again in a new session, and its caller is cancelled at its first, second, third ...
suspension, until one call comes to its end before that. Which verbs there are is asked of the classes, so a new one
without a sweep is a failure.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, get_type_hints

import anyio
import pytest
from attrs import define

from statemachine import Outcome, check
from statemachine.core.machines import SessionState
from statemachine.core.records import MailAccepted, MailWithdrawn
from statemachine.runtime import AgentControl, Handle, Turn
from statemachine.runtime.control import inside
from statemachine.stores import Entry, MemoryStore, Snapshot, Write
from tests.runtime.running import Open, Stage, completed, counts, ending, recorder, traced_sessions, virtual_time

pytestmark = pytest.mark.anyio
FIXTURES = (traced_sessions, virtual_time)
STEPS_MAX = 50
"""No verb is suspended more often than this."""


class CancelledAt:
    """An awaitable that runs a coroutine and cancels the scope at its suspension with this number, from 1."""

    def __init__(self, work: Coroutine[Any, Any, Any], at: int, scope: anyio.CancelScope) -> None:
        self.work, self.at, self.scope = work, at, scope
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
            if self.count == self.at:
                self.scope.cancel()
            try:
                sent = yield trap
            except BaseException as error:
                go_on = partial(inner.throw, error)
            else:
                go_on = partial(inner.send, sent)


class NotReached:
    """The call came to its end before the suspension at which it was to be cancelled."""


async def cancelled_at(step: int, work: Coroutine[Any, Any, Any]) -> type[NotReached] | None:
    """Runs the work, cancelled at this suspension. A call that is cancelled may still come to its end."""
    with anyio.CancelScope() as scope:
        steps = CancelledAt(work, step, scope)
        await steps
    return None if scope.cancel_called else NotReached


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
ELSEWHERE = {AgentControl: {"open", "shutdown", "events"}, Turn: set[str](), Handle: set[str]()}
"""What has a test of its own below."""
SWEPT = {AgentControl: CONTROL, Turn: TURN, Handle: HANDLE}
CALLS = {f"{cls.__name__}.{verb}": case for cls, calls in SWEPT.items() for verb, case in calls.items()}


def other_tasks(control: AgentControl) -> int:
    """How many tasks there are, but for those of threads in memory."""
    threads = [live for live in inside(control).live.threads.values() if live.asked is not None]
    return len(anyio.get_running_tasks()) - len(threads)


async def sweep(open_session: Open, call: Call, afterwards: Callable[[World], Awaitable[None]]) -> int:
    """Cancels the call at every suspension. Returns how many there are."""
    for step in range(1, STEPS_MAX):
        async with world(open_session) as w:
            before = other_tasks(w.control)
            reached = await cancelled_at(step, call(w))
            await works_on(w)
            await afterwards(w)
            assert other_tasks(w.control) <= before, "a task is left over"
        if reached is NotReached:
            return step - 1
    raise AssertionError(f"more than {STEPS_MAX} suspensions")


@pytest.mark.parametrize("name", CALLS)
async def test_verb_cancelled_at_each_of_its_awaits_leaks_nothing_and_the_session_goes_on(
    name: str, open_session: Open
) -> None:
    call, afterwards = CALLS[name]
    assert await sweep(open_session, call, afterwards) >= 1


async def test_shutdown_cancelled_at_each_of_its_awaits_is_refused_or_comes_to_its_end(open_session: Open) -> None:
    for step in range(1, STEPS_MAX):
        async with world(open_session) as w:
            reached = await cancelled_at(step, w.control.shutdown(1))
            assert inside(w.control).session.state is not SessionState.OPEN, "nothing is awaited before it is accepted"
        assert inside(w.control).session.state is SessionState.CLOSED
        assert counts(w.control) == {}
        if reached is NotReached:
            break
    assert step > 2


async def test_reader_of_events_cancelled_at_each_of_its_awaits_misses_nothing(open_session: Open) -> None:
    async def read(control: AgentControl) -> None:
        async with control.events() as events:
            await anext(events)
            await anext(events)

    for step in range(1, STEPS_MAX):
        async with world(open_session) as w, anyio.create_task_group() as tasks:
            tasks.start_soon(w.control.send, "/root/b", "one")
            reached = await cancelled_at(step, read(w.control))
            async with w.control.events() as events:
                await w.control.send("/root/b", "two")
                seen = [await anext(events)]
                while getattr(seen[-1], "message", None) != "two":
                    seen.append(await anext(events))
            assert w.control._streams._streams == []
        if reached is NotReached or step > 3:
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


@pytest.mark.parametrize("store_class", [MemoryStore, Slow])
@pytest.mark.parametrize("name", KEYED)
async def test_keyed_request_cancelled_at_each_of_its_awaits_and_repeated_is_there_exactly_once(
    name: str, store_class: type[MemoryStore], open_session: Open
) -> None:
    call = KEYED[name]
    for step in range(1, STEPS_MAX):
        async with world(open_session, store_class) as w:
            reached = await cancelled_at(step, call(w))
            first, second = await call(w), await call(w)
            if isinstance(first, Handle):
                assert first.ref == second.ref
                assert ending(await first.outcome()) == ending(await second.outcome()) == completed("swept")
            else:
                assert first == second
            assert await w.accepted(MailAccepted, message="swept") == 1
            await works_on(w)
        if reached is NotReached:
            break
    assert step > 2


# The block


async def test_opening_cancelled_at_each_of_its_awaits_gives_the_store_back(open_session: Open) -> None:
    store = MemoryStore()

    async def enter() -> None:
        async with open_session(recorder(), store):
            pass

    for step in range(1, STEPS_MAX):
        reached = await cancelled_at(step, enter())
        assert not store.log.is_owned
        if reached is NotReached:
            break
    assert step > 3
    async with open_session(recorder(), store) as control:
        assert ending(await (await control.spawn("/root", "a", "x")).outcome()) == completed("x")


async def test_leaving_cancelled_at_each_of_its_awaits_closes_threads_and_gives_the_store_back(
    open_session: Open,
) -> None:
    async def live(store: MemoryStore, stage: Stage, work: Any, entered: list[int], steps: list[CancelledAt]) -> None:
        async with open_session(work, store) as control:
            await control.spawn("/root", "a", "x")
            await stage.scene("/root/a")
            entered.append(steps[0].count)

    first_step = 1
    for step in range(1, STEPS_MAX):
        store, stage = MemoryStore(), Stage()
        work = recorder(stage)
        entered: list[int] = []
        with anyio.CancelScope() as scope:
            steps: list[CancelledAt] = []
            steps.append(CancelledAt(live(store, stage, work, entered, steps), step, scope))
            await steps[0]
        assert not store.log.is_owned
        assert work.log.count("close /root/a") == work.log.count("new /root/a"), f"cancelled at {step}"
        if entered:
            first_step = max(first_step, entered[0])
        if not scope.cancel_called:
            break
    assert step > first_step + 2, "the sweep went through the exit"


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
