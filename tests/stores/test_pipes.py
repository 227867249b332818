"""Pipes where files of a session are to be: each door refuses them, and waits for none."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from model.audits import verify
from model.command import export_session, inspect_session
from statemachine.errors import FolderInUse, ForeignFile
from statemachine.hosting.folder import FolderCallers, FolderSessions
from statemachine.stores import SQLiteStore, read_rollout, read_session
from statemachine.stores.sqlite.ownership import Ownership
from tests.stores.session_files import CONFIG, make, opened

pytestmark = pytest.mark.anyio
BESIDE = ("-wal", "-shm", "-journal")
RELEASE_S = 60.0
"""Seconds after which whatever waits for a pipe is let go, so that a test fails and does not hang."""


def quiet(_done: int, _pages: int) -> None:
    """Tells no progress."""


READS: dict[str, Callable[[Path], Any]] = {
    "read": read_session,
    "rollout": lambda path: read_rollout(path, 1),
    "inspect": inspect_session.inspect,
    "verify": lambda path: verify.verify(path, 1, quiet),
    "export": lambda path: [*export_session.export(path, quiet)],
}


@pytest.fixture
def pipe() -> Iterator[Callable[[Path], None]]:
    """Makes a pipe at a path."""
    made = list[Path]()

    done = threading.Event()

    def release() -> None:
        done.wait(RELEASE_S)
        while not done.wait(0.01):
            for each in made:
                with suppress(FileNotFoundError):
                    os.close(os.open(each, os.O_RDWR | os.O_NONBLOCK))

    def make_pipe(path: Path) -> None:
        os.mkfifo(path)
        made.append(path)

    releasing = threading.Thread(target=release, daemon=True)
    releasing.start()
    yield make_pipe
    done.set()
    releasing.join()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a session is."""
    return tmp_path / "s.db"


@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize("read", READS)
async def test_reading_a_session_beside_which_a_pipe_lies_is_refused(
    read: str, beside: str, path: Path, pipe: Callable[[Path], None]
) -> None:
    await make(path)
    pipe(Path(f"{path}{beside}"))
    with pytest.raises(ForeignFile, match="not a regular file") as error:
        READS[read](path)
    assert error.value.path == f"{path}{beside}"


@pytest.mark.parametrize("beside", ["", *BESIDE, ".lock"])
async def test_opening_copying_and_checking_where_a_pipe_lies_is_refused(
    beside: str, path: Path, tmp_path: Path, pipe: Callable[[Path], None]
) -> None:
    await make(path)
    there = Path(f"{path}{beside}")
    there.unlink(missing_ok=True)
    pipe(there)
    store = SQLiteStore(path)
    with pytest.raises(ForeignFile, match="not a regular file") as error:
        await store.open(CONFIG)
    assert error.value.path == f"{there}"
    if beside != ".lock":
        with pytest.raises(ForeignFile):
            await store.check()
        with pytest.raises(ForeignFile):
            await store.backup(tmp_path / "copy", quiet)
    there.unlink()
    assert "copy" not in os.listdir(tmp_path)


async def test_session_that_is_made_beside_a_pipe_is_refused(path: Path, pipe: Callable[[Path], None]) -> None:
    pipe(Path(f"{path}-journal"))
    with pytest.raises(ForeignFile):
        await SQLiteStore(path).open(CONFIG)


async def test_session_that_wakes_beside_a_pipe_fails_and_does_not_wait(
    path: Path, pipe: Callable[[Path], None]
) -> None:
    store = await opened(path)
    assert store.rest(store.used_at + 1)
    pipe(Path(f"{path}-journal"))
    with pytest.raises(ForeignFile):
        await store.append([])
    await store.close()


async def test_socket_or_directory_in_the_place_of_a_lock_is_refused(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as found:
        found.bind(f"{path}.lock")
        for use in (Ownership(f"{path}").take, Ownership(f"{path}").is_held):
            with pytest.raises(ForeignFile, match="not a regular file"):
                use()
    os.unlink(f"{path}.lock")
    os.mkdir(f"{path}.lock")
    with pytest.raises(ForeignFile, match="this is a directory"):
        await SQLiteStore(path).open(CONFIG)


@pytest.mark.parametrize("beside", ["", *BESIDE, ".lock"])
def test_folder_whose_own_files_are_pipes_is_refused_by_host_and_client(
    beside: str, tmp_path: Path, pipe: Callable[[Path], None]
) -> None:
    folder = f"{tmp_path}"
    found = FolderSessions(folder, 1)
    with pytest.raises(FolderInUse):
        FolderSessions(folder, 1)
    found.close()
    there = tmp_path / f"host.db{beside}"
    there.unlink(missing_ok=True)
    pipe(there)
    with pytest.raises(ForeignFile, match="not a regular file"):
        FolderSessions(folder, 1)
    with pytest.raises(ForeignFile, match="not a regular file"):
        use(folder)


def use(folder: str) -> None:
    """Calls, as a client does, where a host has died."""
    callers = FolderCallers(folder)
    try:
        callers._index.connection.execute("INSERT INTO host VALUES ('ws://x', 'token', 1)")
        callers.owner_of("a")
    finally:
        callers.close()
