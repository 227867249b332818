"""What a process, a path or a number cannot do: typed errors that say what to do, and nothing is done before them."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

from statemachine import AgentControl, Turn
from statemachine.core.config import SessionConfig
from statemachine.core.records import TurnStarted
from statemachine.log.recovery import fold
from statemachine.log.snapshot import facts_of
from statemachine.stores import (
    Entry,
    ForeignFile,
    MemoryStore,
    Snapshot,
    SQLiteStore,
    StoreCorrupt,
    StoreError,
    StoreExhausted,
    StoreMissing,
    Unstorable,
    Write,
    read_rollout,
    read_session,
)
from statemachine.stores.pool import ThreadPool
from statemachine.stores.sqlite import store as sqlite
from statemachine.stores.sqlite.backup import back_up
from tests.stores.session_files import CONFIG, LIFE, beside, make, opened, sql
from tests.stores.test_sqlite_versions import write_first_version

pytestmark = pytest.mark.anyio

HUGE = 2**63


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "session.db"


@contextmanager
def descriptors(count: int) -> Iterator[None]:
    """Lets the process open so many files more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = [os.open(os.devnull, os.O_RDONLY) for _ in range(count + 1)]
    for descriptor in free:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[-1], hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def work(turn: Turn) -> str:
    """Is done at once."""
    return "done"


async def test_session_that_is_open_goes_on_without_a_descriptor(path: Path) -> None:
    async with AgentControl.open(path, work) as control:
        with descriptors(0):
            with pytest.raises(OSError, match="Too many open files"):
                path.open("rb")
            handle = await control.spawn("/root", "a", "go", key="k")
            again = await control.spawn("/root", "a", "go", key="k")
            assert again.ref == handle.ref
            assert await handle.outcome() == await again.outcome()
            assert len(await control.history("/root/a")) == 3


@pytest.mark.parametrize("count", [0, 1, 2, 3])
async def test_opening_without_descriptors_is_a_typed_error_and_the_next_one_opens(path: Path, count: int) -> None:
    await make(path)
    with descriptors(count), pytest.raises(StoreExhausted, match="ulimit -n"):
        await SQLiteStore(path).open(CONFIG)
    store = await opened(path)
    assert await store.rollout(1) == LIFE[1:]
    await store.close()


async def test_opening_without_a_thread_is_a_typed_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(sqlite, "WRITING", ThreadPool("statemachine-store", 4))  # one that has no thread yet
    store = SQLiteStore(path)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(StoreExhausted, match="ulimit -u"):
            await store.open(CONFIG)
    assert beside(path) == []
    await store.open(CONFIG)
    await store.close()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio keeps threads of earlier tests
async def test_check_without_a_thread_is_a_typed_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    await make(path)
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(StoreExhausted, match="ulimit -u"):
        await SQLiteStore(path).check()
    monkeypatch.undo()
    assert await SQLiteStore(path).check() == ()


USES: dict[str, Callable[[str], Any]] = {
    "store": SQLiteStore,
    "control": lambda path: AgentControl.open(path, work),
    "reading": read_session,
    "rollout": lambda path: read_rollout(path, 1),
    "backup": lambda path: back_up(path, "backup.db", print),
    "target of a backup": lambda path: back_up("session.db", path, print),
}
PATHS: dict[str, tuple[str, type[StoreError]]] = {
    "a nul\0 in it": ("no file can have this path", StoreMissing),
    "a lone \ud800": ("no file can have this path", StoreMissing),
    ":memory:": (r"MemoryStore\(\)", ForeignFile),
    "file:session.db?mode=memory": (r"MemoryStore\(\)", ForeignFile),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("path", PATHS, ids=["nul", "surrogate", "memory", "uri"])
def test_path_that_no_file_of_a_session_has_is_a_typed_error(
    use: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said, error = PATHS[path]
    with pytest.raises(error, match=said):
        USES[use](path)
    assert os.listdir(tmp_path) == []


async def test_place_where_no_lock_can_be_made_is_not_told_as_a_session_in_use(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing, match=r"lock .* cannot be made"):
        await SQLiteStore("/proc/session.db").open(CONFIG)
    with pytest.raises(StoreMissing, match="give another path"):
        await SQLiteStore(tmp_path / ("x" * 252)).open(CONFIG)
    (tmp_path / "session.db.lock").mkdir()
    with pytest.raises(StoreError, match=r"lock .* cannot be made"):
        await SQLiteStore(tmp_path / "session.db").open(CONFIG)
    assert os.listdir(tmp_path) == ["session.db.lock"]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_id_that_no_store_can_hold_is_refused_and_the_store_goes_on(kind: str, path: Path) -> None:
    store = MemoryStore() if kind == "memory" else SQLiteStore(path)
    await store.open(CONFIG)
    ledger = fold(CONFIG, [record for record in LIFE if not isinstance(record, Entry)])
    facts = facts_of(ledger, ledger.agents[1])
    for agent in (HUGE, -1, 10**400):
        huge = Snapshot((attrs.evolve(facts, agent=agent),), (0, 0, 1))  # type: ignore[misc]
        for item in (Write((Entry(agent, 1, "x"),)), Write((TurnStarted(agent, 1),)), huge):
            with pytest.raises(Unstorable, match="an id from 0 to"):
                await store.append([Write(LIFE[:1]), item])
        assert await store.rollout(agent) == ()
    await store.append([Write(LIFE)])
    assert await store.rollout(1) == LIFE[1:]
    await store.close()
    if kind == "sqlite":
        assert read_rollout(path, HUGE) == ()


async def test_epoch_that_cannot_be_raised_leaves_an_older_file_as_it_was(path: Path) -> None:
    write_first_version(path)
    sql(path, f"UPDATE meta SET value = {2**63 - 1} WHERE name = 'epoch'")
    before = path.read_bytes()
    with pytest.raises(StoreCorrupt, match="epoch"):
        await SQLiteStore(path).open(CONFIG)
    assert path.read_bytes() == before


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_configuration_of_another_type_is_told_as_that_and_not_as_damage(kind: str, path: Path) -> None:
    store = MemoryStore() if kind == "memory" else SQLiteStore(path)
    with pytest.raises(TypeError, match=r"opened with a SessionConfig, as SessionConfig\(max_concurrent=2\), not "):
        await store.open({"max_concurrent": 2})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert beside(path) == []
    for config in ({}, {"max_concurrent": 2}, SessionConfig):
        with pytest.raises(TypeError, match=r"opened with a SessionConfig, as SessionConfig\(max_concurrent=2\), not "):
            AgentControl.open(store, work, config)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
