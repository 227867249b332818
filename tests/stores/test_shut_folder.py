"""A backup into a folder that may be written and not listed, and one that fails once it has its name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from statemachine.stores import SQLiteStore, StoreError, read_session
from tests.stores.session_files import beside, make
from tests.stores.test_sqlite_errors import give_up_rights, nobody

pytestmark = pytest.mark.anyio


def quietly(done: int, pages: int) -> None:
    """Says nothing."""


async def test_backup_into_a_folder_that_cannot_be_listed_is_made() -> None:
    with nobody() as directory:
        path, folder = directory / "session.db", directory / "folder"
        directory.chmod(0o777)
        give_up_rights()
        await make(path)
        folder.mkdir()
        folder.chmod(0o300)
        with pytest.raises(PermissionError):
            os.listdir(folder)
        try:
            await SQLiteStore(path).backup(folder / "copy.db", quietly)
            assert read_session(folder / "copy.db").epoch == 1
        finally:
            folder.chmod(0o700)
        assert [entry.name for entry in folder.iterdir()] == ["copy.db"]


@pytest.mark.parametrize("fails", ["replace", "fsync"])
async def test_backup_that_is_told_as_failed_is_not_there(
    fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "session.db"
    await make(path)
    calls, real = list[object](), getattr(os, fails)

    def failing(*args: object) -> None:
        calls.append(args)
        if len(calls) == (1 if fails == "replace" else 2):  # the file is synchronized first, then its folder
            raise OSError(5, "Input/output error")
        real(*args)

    monkeypatch.setattr(os, fails, failing)
    with pytest.raises(StoreError, match="Input/output error"):
        await SQLiteStore(path).backup(tmp_path / "copy.db", quietly)
    monkeypatch.undo()
    assert beside(path) == ["session.db", "session.db.lock"]
    await SQLiteStore(path).backup(tmp_path / "copy.db", quietly)
    assert read_session(tmp_path / "copy.db").epoch == 1
