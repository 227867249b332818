"""Files of a session that belong to another user, who can read them whatever their mode is."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from statemachine.hosting import SessionHost
from statemachine.stores import Entry, Write
from tests.stores.session_files import LIFE, make, opened

pytestmark = pytest.mark.anyio
NOBODY = 65534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "session.db"


@pytest.fixture
def give_away(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], int]:
    """Gives a file to another user; who is not root becomes another one instead, as far as Python knows."""

    def give(file: Path) -> int:
        if os.geteuid() == 0:
            os.chown(file, NOBODY, NOBODY)
        else:
            monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
        return file.stat().st_uid

    return give


@pytest.mark.parametrize("is_new", [True, False])
async def test_session_whose_file_belongs_to_another_user_is_opened_with_a_warning(
    is_new: bool, path: Path, give_away: Callable[[Path], int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "statemachine")
    if is_new:
        path.touch(0o600)
    else:
        await make(path)
    assert caplog.messages == []
    owner = give_away(path)
    store = await opened(path)
    await store.append([Write(LIFE if is_new else (Entry(1, 1, "more"),))])
    (said,) = caplog.messages  # one for all files
    assert {str(path), f"{path}-wal"} <= {*said.split(": ")[0].split(", ")}
    assert f"belong to another user (uid {owner}), who can read the conversations" in said
    assert "chown them" in said
    await store.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="the file of root has to be that of another user")
async def test_file_of_root_is_opened_without_a_warning_since_root_reads_everything(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "statemachine")
    await make(path)
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    await (await opened(path)).close()
    assert caplog.messages == []


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_host_s_own_file_that_belongs_to_another_user_is_used_with_a_warning(
    tmp_path: Path, give_away: Callable[[Path], int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "statemachine")
    index = tmp_path / "host.db"
    index.touch(0o600)
    owner = give_away(index)

    async def work(turn: object) -> None:
        """Does nothing."""

    async with SessionHost(tmp_path, work):
        pass
    said = [message for message in caplog.messages if str(index) in message]
    assert f"(uid {owner})" in said[0]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_folder_of_a_host_that_belongs_to_another_user_is_used_with_a_warning(
    tmp_path: Path, give_away: Callable[[Path], int], caplog: pytest.LogCaptureFixture
) -> None:
    async def work(turn: object) -> None:
        """Does nothing."""

    place = tmp_path / "sessions"
    place.mkdir(0o700)
    owner = give_away(place)
    async with SessionHost(place, work):
        pass
    assert [message for message in caplog.messages if message.startswith(f"{place}: ") and f"(uid {owner})" in message]
