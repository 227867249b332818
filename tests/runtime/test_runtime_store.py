"""The store under a running session: when it fails, nobody is told what is not durable; on disk, with real threads."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from statemachine import SessionConfig, check
from statemachine.core.machines import SessionState, TurnState
from statemachine.core.records import MailAccepted
from statemachine.core.refusals import SessionClosed, StoreFailed
from statemachine.runtime import AgentControl, AgentRef, Handle, Turn
from statemachine.runtime.control import inside
from statemachine.stores import Entry, LogRecord, MemoryStore, Snapshot, SQLiteStore, Write
from statemachine.stores.errors import SessionInUse, StoreError, StoreFull
from tests.runtime.running import (
    Open,
    Stage,
    completed,
    counts,
    echo,
    ending,
    in_session,
    judge,
    recorder,
    traced_sessions,
    virtual_time,
)

FIXTURES = (traced_sessions, virtual_time)


class Failing(MemoryStore):
    """Fails at the append with this number, from 0; every later one raises the same."""

    def __init__(self, at: int, error: Exception) -> None:
        super().__init__()
        self.at, self.error, self.appends = at, error, -1

    async def append(self, items: Sequence[Write | Snapshot]) -> None:
        self.appends += 1
        if self.appends >= self.at:
            await anyio.lowlevel.checkpoint()
            raise self.error
        await super().append(items)


async def busy(control: AgentControl, acknowledged: list[str]) -> None:
    """Asks for one thing after the other, and notes what was acknowledged."""
    number = 0
    while True:
        await control.send("/root/a", f"{number}")
        acknowledged.append(f"{number}")
        number += 1


@pytest.mark.anyio
@pytest.mark.parametrize("at", range(9))
@pytest.mark.parametrize("error", [StoreFull("memory", "no room"), RuntimeError("a defect of the store")])
async def test_append_that_fails_fails_everybody_who_waits_and_the_log_has_all_that_was_acknowledged(
    open_session: Open, at: int, error: Exception
) -> None:
    store, stage = Failing(at, error), Stage()
    work = recorder(stage)
    acknowledged: list[str] = []
    raised: list[StoreFailed] = []

    async def caller(call: Any, *args: Any) -> None:
        try:
            await call(*args)
        except StoreFailed as refusal:
            raised.append(refusal)

    async def block() -> None:
        async with open_session(work, store, max_concurrent=3) as control:
            first = await control.spawn("/root", "a", "x", key="a")
            acknowledged.append("x")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(caller, first.outcome)
                for _ in range(2):
                    tasks.start_soon(caller, busy, control, acknowledged)
            assert inside(control).session.state is SessionState.FAILED
            for call in (control.status, control.history, control.interrupt, control.close):
                with pytest.raises(StoreFailed):
                    await call("/root/a")
            effects = len(work.log)
            await anyio.wait_all_tasks_blocked()
            assert [line for line in work.log[effects:] if not line.startswith("close")] == []

    with pytest.raises(StoreFailed) as failed:
        await block()
    assert failed.value.__cause__ is error
    assert all(refusal.__cause__ is error for refusal in raised)
    assert len(raised) == (3 if acknowledged else 0)
    assert work.log.count("close /root/a") == work.log.count("new /root/a")
    async with open_session(echo, MemoryStore(store.log), max_concurrent=3) as control:
        if acknowledged:
            texts = [r.message for r in await control.history("/root/a") if isinstance(r, MailAccepted)]
            assert sorted(texts) == sorted(acknowledged), "what was refused is not there"
        handle = await control.spawn("/root", "a", "x", key="a")
        assert handle.id == 1
        assert (await handle.outcome()).status in (TurnState.COMPLETED, TurnState.INTERRUPTED)


@pytest.mark.anyio
async def test_defect_of_the_core_fails_the_session_and_tells_everybody(
    open_session: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage()
    told: list[type] = []

    async def outcome(handle: Any) -> None:
        try:
            await handle.outcome()
        except StoreFailed as error:
            told.append(type(error.__cause__))

    async def block() -> None:
        async with open_session(stage) as control, anyio.create_task_group() as tasks:
            handle = await control.spawn("/root", "a", "x")
            tasks.start_soon(outcome, handle)
            await anyio.wait_all_tasks_blocked()
            monkeypatch.setattr(inside(control).session.ledger, "by_path", None)
            with pytest.raises(AttributeError):
                await control.list()
            monkeypatch.undo()

    with pytest.raises(StoreFailed):
        await block()
    assert told == [AttributeError]


@pytest.mark.anyio
async def test_callers_outside_of_a_block_that_is_left_by_an_error_are_told_that_it_is_closed(
    open_session: Open,
) -> None:
    class Slow(MemoryStore):
        async def append(self, items: Sequence[Write | Snapshot]) -> None:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(1)
            await super().append(items)

    ends: list[str] = []
    store = Slow()

    async def caller(control: AgentControl, name: str) -> None:
        try:
            await control.spawn("/root", name, "x", key=name)
            ends.append(f"{name} is there")
        except SessionClosed:
            ends.append(f"{name} is not")

    async def block(tasks: Any) -> None:
        async with open_session(echo, store) as control:
            tasks.start_soon(caller, control, "a")
            await anyio.sleep(0.5)
            tasks.start_soon(caller, control, "b")
            await anyio.sleep(0.1)
            raise LookupError

    async with anyio.create_task_group() as tasks:
        with pytest.raises(LookupError):
            await block(tasks)
    assert sorted(ends) == ["a is there", "b is not"]
    async with open_session(echo, MemoryStore(store.log)) as control:
        assert [agent.path for agent in inside(control).session.agents] == ["/root", "/root/a"]


class Gated(MemoryStore):
    """Its appends, and its readers, wait while the gate is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = anyio.Event()
        self.gate.set()

    async def append(self, items: Sequence[Write | Snapshot]) -> None:
        with anyio.CancelScope(shield=True):
            await self.gate.wait()
        await super().append(items)

    async def rollout(self, agent: int, since: int | None = None) -> tuple[LogRecord, ...]:
        await self.gate.wait()
        return await super().rollout(agent, since)


@pytest.mark.anyio
async def test_no_effect_is_carried_out_and_no_reply_is_given_before_the_commit_of_its_step(open_session: Open) -> None:
    store, work, told = Gated(), recorder(), list[str]()

    async def spawn(control: AgentControl) -> None:
        await control.spawn("/root", "a", "x")
        told.append("spawned")

    async with open_session(work, store) as control, anyio.create_task_group() as tasks:
        store.gate = anyio.Event()
        tasks.start_soon(spawn, control)
        await anyio.wait_all_tasks_blocked()
        assert inside(control).session.find("/root/a") is not None, "the step was taken"
        assert (work.log, told) == ([], [])
        store.gate.set()
        await anyio.wait_all_tasks_blocked()
        assert work.log[0] == "new /root/a"
        assert told == ["spawned"]


@pytest.mark.anyio
async def test_entries_and_records_of_one_commit_stand_in_the_order_in_which_they_came(open_session: Open) -> None:
    store, said = Gated(), list[int]()

    async def work(turn: Turn) -> str:
        store.gate = anyio.Event()
        async with anyio.create_task_group() as tasks:
            for call in (turn.record, turn.record, partial(turn.send, "/root"), turn.record):
                tasks.start_soon(call, f"{len(said)}")
                said.append(0)
                await anyio.wait_all_tasks_blocked()
            before = control.statistics().commits
            store.gate.set()
        assert control.statistics().commits == before + 2, "the first of them, and all others"
        return "done"

    async with open_session(work, store) as control:
        await (await control.start("/root", "x")).outcome()
        told = await control.history("/root")
    assert [r.data if isinstance(r, Entry) else type(r).__name__ for r in told] == [
        *("MailAccepted", "TurnStarted", "0", "1", "MailAccepted", "3", "TurnEnded")
    ]


@pytest.mark.anyio
async def test_handle_that_was_asked_for_before_its_mail_was_there_is_answered_too(open_session: Open) -> None:
    store, over = Gated(), anyio.Event()

    async def work(_: Turn) -> str:
        await over.wait()
        return "done"

    async with open_session(work, store) as control:
        first = await control.start("/root", "a")
        guessed = AgentRef(first.ref.id, first.ref.path, first.ref.mail + 1)
        found: list[Handle] = []

        async def look() -> None:
            found.append(await control.handle(guessed))

        closed = store.gate = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            await anyio.wait_all_tasks_blocked()
            store.gate = anyio.Event()
            store.gate.set()
            second = await control.follow_up("/root", "b")
            assert second.ref == guessed
            closed.set()
        over.set()
        assert await second.outcome() == await found[0].outcome()


# On disk, in real time

REAL = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@REAL
def test_session_on_disk_goes_on_after_shutdown_and_after_a_crash(backend: str, tmp_path: Path) -> None:
    path, config = tmp_path / "session.db", SessionConfig(max_concurrent=2)

    async def first(control: AgentControl) -> None:
        await (await control.spawn("/root", "a", "one", {"n": 1}, key="a")).outcome()
        await (await control.spawn("/root", "b", "two")).outcome()
        with pytest.raises(SessionInUse):
            await AgentControl.open(path, echo).__aenter__()

    async def crash(control: AgentControl) -> None:
        await (await control.follow_up("/root/a", "three", key="f")).outcome()
        raise ConnectionAbortedError

    async def last(control: AgentControl) -> None:
        assert ending(await (await control.follow_up(1, "three", key="f")).outcome()) == completed("three")
        again = await control.spawn("/root", "a", "one", {"n": 1}, key="a")
        assert ending(await again.outcome()) == completed("one")
        assert [s.path for s in await control.list()] == ["/root", "/root/a", "/root/b"]
        assert control.statistics().loads == 0
        check(inside(control).session)

    in_session(path, first, config=config, trace=tmp_path / "1", backend=backend)
    with pytest.raises(ConnectionAbortedError):
        in_session(path, crash, config=config, trace=tmp_path / "2", backend=backend)
    in_session(path, last, config=config, trace=tmp_path / "3", backend=backend)
    for number in "123":
        judge(tmp_path / number)


@REAL
def test_commit_that_fails_on_disk_fails_the_session_and_keeps_what_was_acknowledged(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "session.db"
    store = SQLiteStore(path)
    commit, calls = store._commit, threading.Semaphore(4)

    def failing(*args: Any) -> None:
        if not calls.acquire(blocking=False):
            raise OSError(28, "No space left on device")
        commit(*args)

    monkeypatch.setattr(store, "_commit", failing)
    acknowledged: list[str] = []

    async def main(control: AgentControl) -> None:
        await control.spawn("/root", "a", "x")
        await busy(control, acknowledged)

    with pytest.raises(StoreFailed) as failed:
        in_session(store, main, backend=backend)
    assert isinstance(failed.value.__cause__, StoreError)

    async def again(control: AgentControl) -> None:
        texts = [r.message for r in await control.history("/root/a") if isinstance(r, MailAccepted)]
        assert texts == ["x", *acknowledged]

    in_session(path, again, backend=backend)


GROUP = BaseExceptionGroup("of tasks", [ValueError("no"), KeyboardInterrupt()])


@REAL
@pytest.mark.parametrize("error", [KeyboardInterrupt(), GROUP], ids=["alone", "in a group"])
def test_interrupt_of_the_process_in_a_turn_stops_the_session_and_the_log_has_all_that_was_acknowledged(
    backend: str, error: BaseException, tmp_path: Path
) -> None:
    path = tmp_path / "session.db"

    async def work(turn: Turn) -> str:
        if turn.mail[-1].text == "stop":
            raise error
        return await echo(turn)

    async def main(control: AgentControl) -> None:
        await (await control.spawn("/root", "a", "x")).outcome()
        await control.follow_up("/root/a", "stop")
        await anyio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        in_session(path, main, work, backend=backend)
    for thread in [thread for thread in threading.enumerate() if "AnyIO" in thread.name]:
        thread.join(60)
        assert not thread.is_alive(), "it would keep the process"

    async def again(control: AgentControl) -> None:
        assert (await control.status("/root/a")).status is TurnState.INTERRUPTED
        assert ending(await (await control.follow_up("/root/a", "y")).outcome()) == completed("y")
        assert counts(control) == {"resident": 1}

    in_session(path, again, backend=backend)


@REAL
def test_verbs_that_read_the_store_say_that_the_session_is_closed_after_the_block(backend: str) -> None:
    async def main() -> None:
        async with AgentControl.open(MemoryStore(), echo) as control:
            handle = await control.spawn("/root", "a", "x", key="k")
        for call in (
            lambda: control.history("/root/a"),
            lambda: control.follow_up("/root/a", "x", key="k2"),
            lambda: control.handle(AgentRef(handle.id, handle.path, 99)),
        ):
            with pytest.raises(SessionClosed):
                await call()

    anyio.run(main, backend=backend)
