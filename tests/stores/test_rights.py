"""The rights of other users on the files of a session."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from statemachine import AgentControl, Turn
from statemachine.sinks import log
from statemachine.stores import Entry, Write
from statemachine.stores.sqlite import rights, schema
from tests.stores.session_files import make, opened

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "session.db"


def modes(folder: Path) -> dict[str, str]:
    """The rights on each file there."""
    return {file.name: f"{stat.S_IMODE(file.stat().st_mode):o}" for file in folder.iterdir()}


async def work(turn: Turn) -> None:
    """Does nothing."""


async def test_all_files_of_a_session_are_of_their_owner_alone(path: Path) -> None:
    async with AgentControl.open(path, work, trace=path.with_name("trace.ndjson")) as control:
        await (await control.spawn("/root", "a", "secret")).outcome()
        found = modes(path.parent)
    names = ["session.db", "session.db-shm", "session.db-wal", "session.db.lock", "trace.ndjson"]
    assert found == dict.fromkeys(names, "600")
    async with AgentControl.open(path, work, trace=path.with_name("trace.ndjson")):
        assert modes(path.parent) == dict.fromkeys([*names, "trace.2.ndjson"], "600")


async def test_file_is_private_before_anything_is_in_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate, seen = schema.migrate, list[dict[str, str]]()

    def look(*args: object) -> None:
        seen.append(modes(path.parent))
        migrate(*args)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(schema, "migrate", look)
    await make(path)
    assert seen == [{"session.db": "600", "session.db.lock": "600"}]


async def test_file_with_wider_rights_is_opened_with_a_warning_and_left_so(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await make(path)
    with caplog.at_level(logging.WARNING, "statemachine"):
        store = await opened(path)
        assert caplog.messages == []
        await store.close()
        path.chmod(0o640)
        Path(f"{path}.lock").chmod(0o604)
        store = await opened(path)
        await store.append([Write((Entry(1, 1, "more"),))])
        await store.close()
    (said,) = caplog.messages  # one for all files
    wal = {f"{path}-wal", f"{path}-shm"}  # as wide as the file itself
    assert {*said.split(": ")[0].split(", ")} - wal == {str(path), f"{path}.lock"}
    assert "mode 640, 604" in said
    assert "chmod 600" in said
    assert modes(path.parent) == {"session.db": "640", "session.db.lock": "604"}


async def test_warning_whose_handler_raises_keeps_no_file_from_being_opened(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(path)
    path.chmod(0o640)

    def fail(*_: object) -> None:
        raise SystemExit("no log")

    monkeypatch.setattr(log, "has_failed", True)  # and was told
    monkeypatch.setattr(log.logger, "callHandlers", fail)
    store = await opened(path)
    await store.append([Write((Entry(1, 1, "more"),))])
    await store.close()


def test_empty_file_that_is_there_keeps_its_rights(path: Path) -> None:
    path.touch(0o644)
    rights.make_private(str(path))
    assert modes(path.parent) == {"session.db": "644"}
