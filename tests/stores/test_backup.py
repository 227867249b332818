"""Backups of a session's file: of one that runs, that was killed, that is damaged; and what they never do."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from statemachine import AgentControl, MemoryStore, Turn
from statemachine.stores import SQLiteStore, StoreExists, StoreFull, StoreMissing, read_session
from statemachine.stores.errors import StoreCorrupt
from statemachine.stores.sqlite import backup, interrupting
from statemachine.stores.sqlite import store as sqlite
from statemachine.stores.sqlite.backup import back_up
from tests.stores.other_process import Other, process_beside, session_path, whole_groups
from tests.stores.session_files import CONFIG, beside, make, opened
from tests.stores.test_sqlite_errors import damage_page, small_disk

pytestmark = pytest.mark.anyio
FIXTURES = (session_path, process_beside)


def quietly(done: int, pages: int) -> None:
    """Says nothing."""


@pytest.fixture(name="to")
def path_of_backup(path: Path) -> Path:
    return path.with_name("backup.db")


async def test_backup_of_a_session_that_another_process_writes_to_is_whole_and_sound(
    path: Path, to: Path, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "PAGES", 1)
    assert other.ask("open") == "1"
    other.tell("append for ever")
    for _ in range(20):
        other.hear()
    told: list[tuple[int, int]] = []

    def while_it_writes(done: int, pages: int) -> None:
        told.append((done, pages))
        other.hear()

    back_up(path, to, while_it_writes)
    assert told[-1] == (told[-1][1],) * 2
    assert len(told) > 1
    assert whole_groups(to) >= 20
    assert await SQLiteStore(to).check() == ()
    assert [name for name in beside(to) if "backup" in name] == ["backup.db"]
    other.kill()
    store = await opened(to)
    assert store.epoch == 2
    await store.close()


async def test_backup_of_a_killed_session_has_what_was_acknowledged(path: Path, to: Path, other: Other) -> None:
    other.ask("open")
    assert other.ask("append") == "durable"
    other.kill()
    back_up(path, to, quietly)
    assert len(await (await opened(to)).rollout(1)) == 1


async def work(turn: Turn) -> str:
    """Is done at once."""
    return "done"


async def test_control_backs_up_while_it_runs_and_goes_on(path: Path, to: Path) -> None:
    told: list[tuple[int, int]] = []
    async with AgentControl.open(path, work) as control:
        await (await control.spawn("/root", "a", "go", key="k")).outcome()
        await control.backup(to, lambda done, pages: told.append((done, pages)))
        await control.spawn("/root", "b", "go")
    assert told
    assert [agent.path for agent in read_session(to).ledger.agents] == ["/root", "/root/a"]
    assert stat.S_IMODE(to.stat().st_mode) == 0o600


@pytest.mark.parametrize("there", ["backup.db", "backup.db-wal", "backup.db-journal"])
async def test_backup_overwrites_nothing(there: str, path: Path, to: Path) -> None:
    await make(path)
    path.with_name(there).write_text("mine")
    with pytest.raises(StoreExists, match="give another path"):
        back_up(path, to, quietly)
    assert path.with_name(there).read_text() == "mine"
    assert not [name for name in beside(path) if name.startswith(".backup")]


async def test_backup_does_not_overwrite_what_comes_while_it_is_made(path: Path, to: Path) -> None:
    await make(path)
    with pytest.raises(StoreExists):
        back_up(path, to, lambda done, pages: to.write_text("mine"))
    assert to.read_text() == "mine"
    assert beside(path) == ["backup.db", "session.db", "session.db.lock"]


async def test_backup_that_is_cancelled_leaves_nothing(path: Path, to: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "PAGES", 1)
    await make(path)
    told: list[int] = []
    with anyio.CancelScope() as scope:

        def cancel(done: int, _: int) -> None:
            told.append(done)
            scope.cancel()

        await SQLiteStore(path).backup(to, cancel)
    assert (scope.cancelled_caught, told) == (True, [1])
    assert beside(path) == ["session.db", "session.db.lock"]


async def test_backup_that_is_cancelled_while_its_pages_are_checked_leaves_nothing(
    path: Path, to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interrupting, "OPERATIONS", 1)
    await make(path)
    told: list[tuple[int, int]] = []
    with anyio.CancelScope() as scope:

        def cancel(done: int, pages: int) -> None:
            told.append((done, pages))
            if len(told) == 2:
                scope.cancel()

        await SQLiteStore(path).backup(to, cancel)
    assert scope.cancelled_caught
    assert len(told) == 2
    assert told[0] == told[1], "the first was that all are copied"
    assert beside(path) == ["session.db", "session.db.lock"]


@pytest.mark.parametrize("by", ["session", "store"])
def test_backup_that_asyncio_cancels_has_ended_and_left_nothing(
    by: str, path: Path, to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way: list[Path] = []

    def watched(session: Path, target: Path, progress: backup.Progress) -> None:
        under_way.append(target)
        try:
            back_up(session, target, progress)
        finally:
            under_way.pop()

    async def main() -> None:
        async with AgentControl.open(path, work) as control:

            def cancel(*_: int) -> None:
                task.cancel()

            make = control.backup if by == "session" else SQLiteStore(path).backup
            task = asyncio.create_task(make(to, cancel))
            await asyncio.wait([task])
            assert task.cancelled()
            assert under_way == []
            assert [name for name in beside(path) if "backup" in name] == []

    monkeypatch.setattr(backup, "PAGES", 1)
    monkeypatch.setattr(sqlite, "back_up", watched)
    asyncio.run(main())


@pytest.mark.parametrize("raised", [ValueError, asyncio.CancelledError, SystemExit, KeyboardInterrupt])
async def test_backup_whose_progress_raises_raises_that_and_leaves_nothing(
    raised: type[BaseException], path: Path, to: Path
) -> None:
    told: list[int] = []

    def fail(done: int, _: int) -> None:
        told.append(done)
        raise raised("of progress")

    async with AgentControl.open(path, work) as control:
        with pytest.raises(raised, match="of progress"):
            await control.backup(to, fail)
        with pytest.raises(raised, match="of progress"):
            await SQLiteStore(path).backup(to, fail)
        assert len(told) == 2
        assert [name for name in beside(path) if "backup" in name] == []
        await (await control.spawn("/root", "a", "go")).outcome()
        await control.backup(to)
    assert [agent.path for agent in read_session(to).ledger.agents] == ["/root", "/root/a"]


async def test_backup_whose_progress_cannot_be_called_is_refused_before_it_begins(path: Path, to: Path) -> None:
    progress: Any = 5
    async with AgentControl.open(path, work) as control:
        with pytest.raises(TypeError, match="progress is a function of the pages copied and of all, not 5"):
            await control.backup(to, progress)
    assert not to.exists()


async def test_backup_whose_progress_is_async_is_refused_and_told_to_be_a_plain_function(path: Path, to: Path) -> None:
    async def progress(done: int, pages: int) -> None:
        """Is awaited by none."""

    class Telling:
        async def __call__(self, done: int, pages: int) -> None:
            """Is awaited by none."""

    async with AgentControl.open(path, work) as control:
        for given in (progress, Telling(), partial(progress)):
            with pytest.raises(TypeError, match="plain function"):
                await control.backup(to, given)
            with pytest.raises(TypeError, match="plain function"):
                await SQLiteStore(path).backup(to, given)
    assert not to.exists()


def void(path: Path) -> None:
    """Leaves the file as it is."""


def damage(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE x (y)")


@pytest.mark.parametrize(
    ("spoil", "to", "error"),
    [
        (Path.unlink, "backup.db", StoreMissing),
        (damage, "backup.db", StoreCorrupt),
        (void, "no/backup.db", StoreMissing),
    ],
    ids=["no session", "a damaged session", "no folder"],
)
async def test_backup_that_cannot_be_made_is_a_typed_error(
    spoil: Callable[[Path], None], to: str, error: type[Exception], path: Path
) -> None:
    await make(path)
    spoil(path)
    before = beside(path)
    with pytest.raises(error):
        back_up(path, path.parent / to, quietly)
    assert beside(path) == before


@pytest.mark.parametrize("table", ["meta", "agents", "log", "rollouts", "keys"])
async def test_backup_of_a_session_with_a_damaged_page_is_refused_and_leaves_nothing(
    table: str, path: Path, to: Path
) -> None:
    await make(path)
    damage_page(table)(path)
    before = beside(path)
    with pytest.raises(StoreCorrupt, match="would be damaged, too, and was not made") as error:
        back_up(path, to, quietly)
    assert error.value.path == str(path)
    with pytest.raises(StoreCorrupt):
        await SQLiteStore(path).backup(to, quietly)
    assert beside(path) == before


async def test_backup_on_a_full_disk_is_a_typed_error_and_leaves_nothing(path: Path) -> None:
    await make(path)
    with small_disk("16k") as disk:
        with pytest.raises(StoreFull, match="make room"):
            back_up(path, disk / "backup.db", quietly)
        assert os.listdir(disk) == []


async def test_session_in_memory_makes_no_backup_and_says_what_does(to: Path) -> None:
    async with AgentControl.open(MemoryStore(), work, CONFIG) as control:
        with pytest.raises(TypeError, match="on disk"):
            await control.backup(to)
