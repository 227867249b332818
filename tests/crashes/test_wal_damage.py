"""The file of a process that was killed, with its write-ahead log cut, torn, or gone: the beginning of the log is
there, up to the end of some append, and the session goes on from it.

What is damaged here is what a loss of power can damage: the part of the WAL that no checkpoint has copied into the
file. The process therefore makes no checkpoint. A WAL that is damaged after it was copied, with the file already ahead
of it, is no matter of crashes: SQLite has it on the disk before it copies.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import anyio
import pytest

from model.crashes.child import Order, config_of
from model.crashes.judge import Log, Story, read_log
from model.crashes.server import Server, Signal, Start, Wait, server
from statemachine import check
from statemachine.runtime import AgentControl, Turn
from statemachine.runtime.control import inside
from statemachine.stores import SQLiteStore, StoreError, Synchronous, read_session
from statemachine.stores.sqlite.reading import check_file
from tests.stores.session_files import opened

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")

HEADER, FRAME = 32, 24 + 4096
"""Bytes of the WAL's header, and of a page in it."""
Damage = Callable[[Path], object]


@pytest.fixture(scope="module", name="killer")
def running_server() -> Iterator[Server]:
    with server() as found:
        yield found


class Killed:
    """A file whose process was killed twice; the second time its WAL had all since the opening."""

    def __init__(self, killer: Server, folder: Path, seed: int) -> None:
        self.seed = seed
        self.path = folder / "session.db"
        self.story = Story()
        self.run(killer, 0, 30)
        anyio.run(self.open_and_close)
        self.run(killer, 1, 120)
        self.log = self.whole()
        self.ends = {self.log.end, *[line["commit"] for line in self.lines if "commit" in line]}
        (self.began,) = [line["position"] for line in self.lines if "open" in line]
        self.ends.add(self.began)
        self.frames = (self.wal.stat().st_size - HEADER) // FRAME

    def run(self, killer: Server, number: int, acknowledged: int) -> None:
        order = Order(path=str(self.path), seed=self.seed, number=number, checkpoints=False)
        moment = Wait(count=acknowledged, further_s=0.0005)
        (heard,) = killer.run(Start("writer", order), moment, Signal(0, signal.SIGKILL))
        self.lines = heard.lines
        self.story.add(heard.lines)

    async def open_and_close(self) -> None:
        """Now everything is in the file, and there is no WAL."""
        store = await opened(self.path, config_of(self.seed))
        await store.close()
        assert not self.wal.exists()

    @property
    def wal(self) -> Path:
        return Path(f"{self.path}-wal")

    def whole(self) -> Log:
        """What is there if nothing is damaged."""
        return read_log(self.path)

    def copy(self, to: Path, damage: Damage, suffixes: tuple[str, ...] = ("-wal",)) -> Path:
        """A copy with a damaged WAL."""
        shutil.rmtree(to, ignore_errors=True)
        to.mkdir()
        path = to / "session.db"
        for suffix in ("", *suffixes):
            shutil.copyfile(f"{self.path}{suffix}", f"{path}{suffix}")
        damage(Path(f"{path}-wal"))
        return path


@pytest.fixture(scope="module", name="killed", params=[5, 9])
def killed_process(request: pytest.FixtureRequest, killer: Server, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    return Killed(killer, tmp_path_factory.mktemp("killed"), request.param)


# Damage


def cut_at(at: int) -> Damage:
    return lambda wal: os.truncate(wal, at)


def change_at(at: int, new: Callable[[bytes], bytes], count: int = 1) -> Damage:
    def damage(wal: Path) -> None:
        with wal.open("r+b") as file:
            file.seek(at)
            old = file.read(count)
            file.seek(at)
            file.write(new(old))

    return damage


def flip_at(at: int, bit: int) -> Damage:
    return change_at(at, lambda old: bytes([old[0] ^ (1 << bit)]))


def zero_at(at: int) -> Damage:
    """A sector that was never written."""
    return change_at(at, lambda old: bytes(len(old)), 512)


def remove(wal: Path) -> None:
    wal.unlink()


def add_garbage(wal: Path) -> None:
    with wal.open("ab") as file:
        file.write(Random(1).randbytes(3 * FRAME))


def void(wal: Path) -> None:
    """None."""


def damages(killed: Killed) -> Iterator[tuple[str, Damage]]:
    """Cuts at and around the ends of frames and anywhere else, single bits, sectors, and all of it."""
    size = killed.wal.stat().st_size
    rng = Random(f"damage {killed.seed}")
    yield "removed", remove
    yield "garbage behind it", add_garbage
    for at in (0, 1, HEADER - 1, HEADER):
        yield f"cut at {at}", cut_at(at)
    for frame in rng.sample(range(1, killed.frames), 6):
        end = HEADER + frame * FRAME
        for at in (end - 1, end, end + 24):
            yield f"cut at {at}", cut_at(at)
    for _ in range(6):
        at = rng.randrange(size)
        yield f"cut at {at}", cut_at(at)
    for at in (*range(4, HEADER, 4), *[rng.randrange(size) for _ in range(15)]):
        bit = rng.randrange(8)
        yield f"bit {bit} of byte {at} flipped", flip_at(at, bit)
    for _ in range(5):
        at = rng.randrange(size // 512) * 512
        yield f"sector at {at} never written", zero_at(at)


def test_wal_damaged_anywhere_leaves_whole_appends_from_the_beginning_and_the_session_goes_on(
    killed: Killed, tmp_path: Path
) -> None:
    assert killed.frames > 50
    found: set[int] = set()
    for number, (what, damage) in enumerate(damages(killed)):
        path = killed.copy(tmp_path / "copy", damage)
        before = read_log(path)
        anyio.run(go_on, path, killed.seed)
        after = read_log(path)
        assert after.begins_with(before.rows), what
        assert is_beginning(before, killed.log), what
        assert before.end in killed.ends, f"{what}: the log ends at {before.end}, in the middle of an append"
        assert before.wrong + after.wrong == [], what
        assert check_file(path) == (), what
        found.add(before.end)
        assert number < 200
    assert killed.began in found
    assert killed.log.end in found
    assert len(found) > 10, "cuts after many appends"


def is_beginning(before: Log, whole: Log) -> bool:
    """Is the one log a beginning of the other, but for the rollouts of agents that were forgotten since?"""
    return whole.begins_with(before.rows) and before.rows[-1][0] <= before.end


async def go_on(path: Path, seed: int) -> None:
    """The session is opened and works."""

    async def work(turn: Turn) -> str:
        await turn.record({"after": "damage"})
        return "done"

    store = SQLiteStore(path, synchronous=Synchronous.NORMAL)
    async with AgentControl.open(store, {"default": work, "keeper": work}, config_of(seed)) as control:
        handle = await control.start("/root", "go on")
        assert (await handle.outcome()).result in ("done", "")
        check(inside(control).session)


def test_wal_cut_beside_its_old_index_is_read_as_a_beginning_or_named_by_a_typed_error_and_goes_on(
    killed: Killed, tmp_path: Path
) -> None:
    """The index was made for the whole WAL. An owner makes a new one; a reader, who may change nothing, cannot."""
    rng = Random(f"index {killed.seed}")
    cuts = [
        HEADER + killed.frames * FRAME,
        *[rng.randrange(HEADER + FRAME, HEADER + killed.frames * FRAME) for _ in "123456"],
    ]
    refused = 0
    for at in cuts:
        path = killed.copy(tmp_path / "copy", cut_at(at), ("-wal", "-shm"))
        try:
            read_session(path)
            found = read_log(path)
        except StoreError:
            refused += 1
        else:
            assert is_beginning(found, killed.log)
            assert found.end in killed.ends
        anyio.run(go_on, path, killed.seed)
        assert read_log(path).wrong == []
        assert check_file(path) == ()
    assert refused < len(cuts), "what is whole is read"


@pytest.mark.parametrize("begun", [0, HEADER, HEADER + FRAME // 2, HEADER + FRAME, HEADER + 20 * FRAME])
def test_file_whose_process_was_killed_in_the_first_transaction_after_opening_is_read_as_it_was_before(
    killed: Killed, tmp_path: Path, begun: int
) -> None:
    """The WAL has been begun, and its index does not know of it yet."""
    path = killed.copy(tmp_path / "closed", void)
    anyio.run(go_on, path, killed.seed)
    before = read_log(path)
    copy = tmp_path / "copy.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 1")  # so that pages are written before the commit
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO keys VALUES (?, '', '')", [(f"{key} {'x' * 2_000}",) for key in range(50)])
        for suffix in ("", "-wal", "-shm"):
            shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
        connection.execute("ROLLBACK")
    os.truncate(f"{copy}-wal", begun)
    assert read_log(copy).rows == before.rows
    assert check_file(copy) == ()


@pytest.mark.parametrize("alive", [False, True])
def test_file_whose_process_was_killed_or_stopped_while_it_made_the_index_is_read_whole(
    killed: Killed, tmp_path: Path, alive: bool
) -> None:
    """The header of the index is there twice, and written one after the other."""
    path = killed.copy(tmp_path / "copy", void, ("-wal", "-shm"))
    attach = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM meta'); print(1); input()"
    with subprocess.Popen(
        [sys.executable, "-c", attach, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        if not alive:
            process.kill()
            process.wait()
        change_at(48 + 16, lambda old: bytes([old[0] ^ 1]))(Path(f"{path}-shm"))
        assert read_log(path).rows == killed.log.rows
        assert check_file(path) == ()
        process.kill()
