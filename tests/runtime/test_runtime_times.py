"""Times: records say when they were committed, and `status` since when an agent is as it is."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from statemachine import SessionConfig
from statemachine.core.config import Overflow
from statemachine.core.machines import TurnState
from statemachine.core.records import MailAccepted, TurnEnded, TurnStarted
from statemachine.runtime import AgentControl, AgentStatus, Turn, engine
from statemachine.runtime.control import inside
from statemachine.stores import Entry, MemoryLog, MemoryStore, PostgresStore, SQLiteStore, Store, read_session
from tests.runtime.running import Stage, echo, virtual_time

__all__ = ["virtual_time"]

pytestmark = pytest.mark.anyio

QUEUE: dict[str, Any] = {"max_concurrent": 2, "max_resident": 3, "overflow": Overflow.QUEUE}
FILES = Path(__file__).parents[1] / "stores" / "files"


class Clock:
    """A wall clock that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def opened(work: Any, store: Store, clock: Callable[[], float], **config: Any) -> AgentControl:
    return AgentControl.open(store, work, SessionConfig(**config), clock=clock)


def times(said: AgentStatus) -> tuple[float | None, float | None, float | None]:
    return said.since, said.began, said.ended


async def test_status_tells_since_when_at_every_step_of_an_agents_life() -> None:
    clock, stage = Clock(), Stage()
    async with opened(stage, MemoryStore(), clock, **QUEUE) as control:
        clock.now = 1.0
        await control.spawn("/root", "busy", "x")
        busy = await stage.scene("/root/busy")
        clock.now = 2.0
        await control.spawn("/root", "a", "x")
        clock.now = 3.0
        await control.follow_up("/root/a", "y")  # it has been asked for its turn since 2
        assert times(await control.status("/root/a")) == (2.0, None, None)
        clock.now = 4.0
        busy.end()
        scene = await stage.scene("/root/a")
        assert times(await control.status("/root/a")) == (4.0, 4.0, None)
        assert times(await control.status("/root/busy")) == (4.0, 1.0, 4.0)
        clock.now = 5.0
        scene.end()
        await anyio.sleep(1)
        assert times(await control.status("/root/a")) == (5.0, 4.0, 5.0)
        clock.now = 6.0
        await control.close("/root/a")
        assert times(await control.status("/root/a")) == (6.0, 4.0, 5.0)
        clock.now = 7.0
        await control.resume("/root/a")
        assert times(await control.status("/root/a")) == (5.0, 4.0, 5.0)
        assert times(await control.status("/root")) == (None, None, None)


async def test_turn_that_ended_before_it_began_has_no_beginning() -> None:
    clock, stage = Clock(), Stage()
    async with opened(stage, MemoryStore(), clock, **QUEUE) as control:
        clock.now = 1.0
        await control.spawn("/root", "a", "x")
        scene = await stage.scene("/root/a")
        clock.now = 2.0
        await control.spawn("/root", "b", "x")
        clock.now = 3.0
        await control.interrupt("/root/b")
        said = await control.status("/root/b")
        assert (said.status, times(said)) == (TurnState.INTERRUPTED, (3.0, None, 3.0))
        clock.now = 4.0
        scene.end()
        await anyio.sleep(1)
        assert times(await control.status("/root/a")) == (4.0, 1.0, 4.0)
        await control.spawn("/root", "c", "x")
        await stage.scene("/root/c")
        await control.follow_up("/root/a", "again")
        clock.now = 5.0
        await control.interrupt("/root/a")
        assert times(await control.status("/root/a")) == (5.0, None, 5.0)


async def test_records_and_entries_say_when_they_were_committed() -> None:
    clock = Clock()

    async def work(turn: Turn) -> None:
        clock.now += 1
        await turn.record("looked")
        clock.now += 1

    async with opened(work, MemoryStore(), clock) as control:
        clock.now = 10.0
        await (await control.spawn("/root", "a", "x")).outcome()
        history = await control.history("/root/a")
        assert [(type(record), record.at) for record in history] == [
            (MailAccepted, 10.0),
            (TurnStarted, 10.0),
            (Entry, 11.0),
            (TurnEnded, 12.0),
        ]


async def test_turn_knows_when_its_mail_came_even_if_it_was_demoted_at_once() -> None:
    clock, stage, store = Clock(), Stage(), MemoryStore()
    seen: list[tuple[str, float | None]] = []

    async def work(turn: Turn) -> None:
        seen.extend((mail.text, mail.at) for mail in turn.mail)

    async with opened({"stage": stage, "default": work}, store, clock, **QUEUE) as control:
        await control.spawn("/root", "busy", "x", role="stage")
        busy = await stage.scene("/root/busy")
        clock.now = 1.0
        async with anyio.create_task_group() as tasks:  # both are in one commit
            tasks.start_soon(control.spawn, "/root", "a", "one")
            await anyio.lowlevel.checkpoint()
            tasks.start_soon(control.interrupt, "/root/a")
        clock.now = 2.0
        await control.send("/root/a", "two")
        clock.now = 3.0
        three = await control.follow_up("/root/a", "three")
        busy.end()
        await three.outcome()
        assert seen == [("one", 1.0), ("two", 2.0), ("three", 3.0)]


async def test_turn_knows_when_its_mail_came_even_if_a_subtree_was_interrupted_at_once() -> None:
    clock, stage = Clock(), Stage()
    async with opened(stage, MemoryStore(), clock) as control:
        await control.spawn("/root", "a", "x")
        a = await stage.scene("/root/a")
        await a.turn.spawn("kid", "x")
        await stage.scene("/root/a/kid")
        clock.now = 1.0
        async with anyio.create_task_group() as tasks:  # both are in one commit
            tasks.start_soon(a.turn.follow_up, "/root/a/kid", "one")
            await anyio.lowlevel.checkpoint()
            tasks.start_soon(lambda: control.interrupt("/root/a", subtree=True))
        clock.now = 2.0
        await control.follow_up("/root/a/kid", "two")
        kid = await stage.scene("/root/a/kid", 2)
        assert [(mail.text, mail.at) for mail in kid.turn.mail] == [("one", 1.0), ("two", 2.0)]
        kid.end()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    if request.param == "postgres":
        dsn: str = request.getfixturevalue("dsn")
        return lambda: PostgresStore(dsn)
    log = MemoryLog()
    return (lambda: MemoryStore(log)) if request.param == "memory" else (lambda: SQLiteStore(tmp_path / "s.db"))


@pytest.mark.parametrize("every", [1, 3, 10**6], ids=["snapshots", "some snapshots", "records"])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_times_survive_reopening_from_snapshots_and_from_records(
    new_store: Callable[[], Store], every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "SNAPSHOT_RECORDS", every)
    clock, stage = Clock(), Stage()
    told: list[tuple[AgentStatus, ...]] = []
    with suppress(ZeroDivisionError):
        async with opened({"stage": stage, "default": echo}, new_store(), clock, max_concurrent=9) as control:
            clock.now = 1.0
            await (await control.spawn("/root", "done", "x")).outcome()
            clock.now = 2.0
            await control.spawn("/root", "gone", "x", role="stage")
            await stage.scene("/root/gone")
            clock.now = 3.0
            await control.close("/root/gone")
            clock.now = 4.0
            await control.spawn("/root", "runs", "x", role="stage")
            await stage.scene("/root/runs")
            clock.now = 5.0
            await control.send("/root/done", "read me")
            told.append(await control.list(closed=True))
            raise ZeroDivisionError
    clock.now = 6.0
    seen: list[float | None] = []

    async def read(turn: Turn) -> None:
        seen.extend(mail.at for mail in turn.mail)

    async with opened(read, new_store(), clock, max_concurrent=9) as control:
        told.append(await control.list(closed=True))
        clock.now = 7.0
        await (await control.follow_up("/root/done", "y")).outcome()
    async with opened(read, new_store(), clock, max_concurrent=9) as control:  # from what the second opening kept
        told.append(await control.list(closed=True))
    assert seen == [5.0, 7.0]
    assert [{said.path: times(said) for said in listing} for listing in told] == [
        {
            "/root": (None, None, None),
            "/root/done": (1.0, 1.0, 1.0),
            "/root/gone": (3.0, 2.0, 3.0),
            "/root/runs": (4.0, 4.0, None),
        },
        {
            "/root": (None, None, None),
            "/root/done": (1.0, 1.0, 1.0),
            "/root/gone": (3.0, 2.0, 3.0),
            "/root/runs": (6.0, 4.0, 6.0),  # the crash is told by who opens it next
        },
        {
            "/root": (None, None, None),
            "/root/done": (7.0, 7.0, 7.0),
            "/root/gone": (3.0, 2.0, 3.0),
            "/root/runs": (6.0, 4.0, 6.0),
        },
    ]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_file_without_times_says_none_until_something_happens(tmp_path: Path) -> None:
    path = tmp_path / "session.db"
    shutil.copyfile(FILES / "session-v3.db", path)
    clock = Clock()
    clock.now = 5.0
    async with opened(echo, SQLiteStore(path), clock, max_concurrent=9) as control:
        assert times(await control.status("/root/talks")) == (None, None, None)
        assert times(await control.status("/root/shut")) == (None, None, None)
        assert times(await control.status("/root/runs")) == (5.0, None, 5.0)  # the crash was found now
        assert {record.at for record in await control.history("/root/again")} == {None}
        await (await control.follow_up("/root/talks", "again")).outcome()
        assert times(await control.status("/root/talks")) == (5.0, 5.0, 5.0)
    assert read_session(path).times.of(1) == (None, 5.0, 5.0)


async def test_list_includes_closed_agents_if_it_is_asked_to() -> None:
    async with opened(echo, MemoryStore(), Clock(), max_concurrent=9) as control:
        for name in ("b", "a"):
            await (await control.spawn("/root", name, "x")).outcome()
        await (await control.spawn("/root/a", "in", "x")).outcome()
        await control.close("/root/a")
        again = await control.spawn("/root", "a", "x")

        def told(listing: tuple[AgentStatus, ...]) -> list[tuple[str, int, bool]]:
            return [(said.path, said.agent, said.open) for said in listing]

        assert told(await control.list()) == [("/root", 0, True), ("/root/a", again.id, True), ("/root/b", 1, True)]
        assert told(await control.list("/root/a", closed=True)) == [
            ("/root/a", 2, False),
            ("/root/a", again.id, True),
            ("/root/a/in", 3, False),
        ]
        assert len(await control.list(closed=True)) == 5


async def test_clock_that_jumps_decides_nothing() -> None:
    jumps = itertools.cycle([1e10, 0.0, -5.0, float("nan")])
    async with opened(echo, MemoryStore(), lambda: next(jumps), max_concurrent=9) as control:
        for name in ("a", "b", "c"):
            assert (await (await control.spawn("/root", name, "x")).outcome()).result == "x"
        assert inside(control).session.now < 1e6
