"""A working directory that was deleted: relative paths lead nowhere, absolute ones do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from statemachine import AgentControl, SQLiteStore, Turn, read_rollout, read_session
from statemachine.hosting import SessionClient, SessionHost
from statemachine.stores.errors import StoreMissing
from tests.stores.session_files import beside, make

pytestmark = pytest.mark.anyio


async def work(turn: Turn) -> None:
    """Does nothing."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "session.db"


@pytest.fixture
def gone(tmp_path: Path) -> Iterator[None]:
    before, deleted = Path.cwd(), tmp_path / "deleted"
    deleted.mkdir()
    os.chdir(deleted)
    deleted.rmdir()
    yield
    os.chdir(before)


@pytest.mark.usefixtures("gone")
@pytest.mark.parametrize(
    "use",
    [
        lambda path: AgentControl.open(path, work),
        SQLiteStore,
        read_session,
        lambda path: read_rollout(path, 1),
        lambda path: SessionHost(path, work),
        SessionClient,
    ],
    ids=["AgentControl.open", "SQLiteStore", "read_session", "read_rollout", "SessionHost", "SessionClient"],
)
@pytest.mark.parametrize("relative", ["session.db", Path("session.db"), "folder/session.db"])
def test_relative_path_from_a_working_directory_that_is_gone_is_told_as_that(
    use: Callable[[str | Path], object], relative: str | Path
) -> None:
    with pytest.raises(StoreMissing, match=r"session\.db: the working directory was deleted, .* absolute") as caught:
        use(relative)
    assert caught.value.path == str(relative)


@pytest.mark.usefixtures("gone")
async def test_session_goes_on_without_the_working_directory_and_refuses_a_backup_at_a_relative_path(
    path: Path,
) -> None:
    async with AgentControl.open(path, work) as control:
        await (await control.spawn("/root", "a", "go")).outcome()
        with pytest.raises(StoreMissing, match=r"copy\.db: the working directory"):
            await control.backup("copy.db")
        await control.backup(path.with_name("copy.db"))
        await (await control.spawn("/root", "b", "go")).outcome()
    assert [len(read_session(found).ledger.agents) for found in (path, path.with_name("copy.db"))] == [3, 2]


async def test_backup_at_a_relative_path_is_refused_before_anything_is_done(
    path: Path, request: pytest.FixtureRequest
) -> None:
    await make(path)
    request.getfixturevalue("gone")
    told: list[int] = []
    with pytest.raises(StoreMissing):
        await SQLiteStore(path).backup("copy.db", lambda done, _: told.append(done))
    assert (told, beside(path)) == ([], ["session.db", "session.db.lock"])
