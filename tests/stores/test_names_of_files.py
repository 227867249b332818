"""Names that the file of a new session cannot have: those of another one's files, and too long ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from statemachine import AgentControl, Turn
from statemachine.stores import ForeignFile, SQLiteStore, StoreMissing, read_session
from statemachine.stores.errors import StoreError
from tests.stores.session_files import CONFIG, beside, make, opened

pytestmark = pytest.mark.anyio
BESIDE = ["-wal", "-shm", "-journal", ".lock"]


async def work(turn: Turn) -> None:
    """Does nothing."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "session.db"


async def back_up(path: Path, to: Path) -> list[int]:
    """Makes a backup, or is refused before anything is copied."""
    told = list[int]()
    try:
        await SQLiteStore(path).backup(to, lambda done, _: told.append(done))
    except StoreError:
        assert told == []
        raise
    return told


@pytest.mark.parametrize("of", ["session.db", "later.db"])
@pytest.mark.parametrize("suffix", BESIDE)
async def test_backup_in_the_place_of_what_lies_beside_a_session_is_refused(suffix: str, of: str, path: Path) -> None:
    await make(path)
    path.with_name("session.db.lock").unlink()
    with pytest.raises(ForeignFile, match=f"a session {of} has its {suffix[1:]} here, .* give another path"):
        await back_up(path, path.with_name(of + suffix))
    assert beside(path) == ["session.db"]


@pytest.mark.parametrize("suffix", BESIDE)
async def test_new_session_in_the_place_of_what_lies_beside_another_is_refused(suffix: str, path: Path) -> None:
    with pytest.raises(ForeignFile, match="give another path"):
        async with AgentControl.open(f"{path}{suffix}", work):
            pass
    assert beside(path) == []


async def test_session_that_has_such_a_name_already_is_opened_and_can_be_copied(path: Path) -> None:
    await make(path)
    old = path.rename(path.with_name("old.lock"))
    store = await opened(old)
    assert store.epoch == 2
    await store.close()
    await back_up(old, path.with_name("copy.db"))
    assert read_session(path.with_name("copy.db")).epoch == 2


async def test_name_of_a_backup_is_refused_as_soon_as_the_copy_could_not_be_opened(path: Path) -> None:
    await make(path)
    longest = os.pathconf(path.parent, "PC_NAME_MAX") - len("-journal")
    to = path.with_name("é" + "n" * (longest - 2))  # the limit is in bytes
    await back_up(path, to)
    await (await opened(to)).close()
    assert read_session(to).epoch == 2
    for length in (longest + 1, longest + 4, longest + 8):
        with pytest.raises(StoreMissing, match="File name too long; give another path"):
            await back_up(path, path.with_name("n" * length))
    assert sorted(beside(path)) == sorted([to.name, f"{to.name}.lock", "session.db", "session.db.lock"])


async def test_path_that_sqlite_cannot_open_is_refused_for_a_backup_and_a_new_session(path: Path) -> None:
    await make(path)
    folder = path.parent
    while len(str(folder)) < 400:
        folder /= "f" * 50
    folder.mkdir(parents=True)
    left = 504 - len(str(folder)) - 1
    to = folder / ("n" * left)
    await back_up(path, to)
    await (await opened(to)).close()
    before = beside(to)
    with pytest.raises(StoreMissing, match="504 bytes at most; give another path"):
        await back_up(path, folder / ("n" * (left + 1)))
    with pytest.raises(StoreMissing, match="504 bytes at most; give another path"):
        await SQLiteStore(folder / ("n" * (left + 1))).open(CONFIG)
    assert beside(to) == before
