"""The file of a session between processes: owned, taken over, read from outside, killed, cut."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

import anyio
import pytest

from model.verify import verify
from statemachine.events import ROOT
from statemachine.records import AgentSpawned, MailAccepted, MailKind
from statemachine.stores import Entry, SQLiteStore, Write, read_rollout, read_session, reading, schema, sqlite
from statemachine.stores.errors import (
    SessionInUse,
    StoreBusy,
)
from tests.session_files import CONFIG, beside

pytestmark = pytest.mark.anyio

STEPS, ENTRIES = 5, 3
"""Steps in one append of `group`, and entries in one step."""

PROGRAM = """
import os, signal, sys
import anyio
from statemachine.config import SessionConfig
from statemachine.stores import Entry, SQLiteStore, StoreError, Write, read_rollout, read_session
from tests.test_sqlite_processes import group

def say(*words):
    print(*words, flush=True)

async def main(path):
    store = SQLiteStore(path)
    number = 0
    for line in sys.stdin:
        try:
            match line.strip():
                case "open":
                    say((await store.open(SessionConfig())).epoch)
                case "append":
                    await store.append([Write((Entry(1, 1, "from the other process"),))])
                    say("durable")
                case "append for ever":
                    while True:
                        await store.append(group(number))
                        number += 1
                        say(number)
                case "begin and stop":
                    store._tables.connection.execute("BEGIN IMMEDIATE")
                    os.kill(os.getpid(), signal.SIGSTOP)
                case "close":
                    await store.close()
                    say("closed")
                case "read":
                    say(read_session(path).tail, len(read_rollout(path, 1)))
        except StoreError as error:
            say(type(error).__name__)

anyio.run(main, sys.argv[1])
"""


def group(number: int) -> list[Write]:
    """What is appended at once: some steps of some entries, all numbered."""
    first = number * STEPS
    return [
        Write(tuple([Entry(1, first + step, f"{entry} {'x' * 200}") for entry in range(ENTRIES)]))
        for step in range(STEPS)
    ]


def whole_groups(path: Path) -> int:
    """How many of those appends there are. No part of one may be there."""
    found = read_rollout(path, 1)
    count = len(found) // (STEPS * ENTRIES)
    assert found == tuple([entry for number in range(count) for write in group(number) for entry in write.records])
    return count


class Other:
    """Another process, that does what it is told."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process, self.pid = process, process.pid
        assert process.stdin is not None
        assert process.stdout is not None
        self.stdin: IO[str] = process.stdin
        self.stdout: IO[str] = process.stdout

    def tell(self, line: str) -> None:
        self.stdin.write(f"{line}\n")
        self.stdin.flush()

    def hear(self) -> str:
        return self.stdout.readline().strip()

    def ask(self, line: str) -> str:
        self.tell(line)
        return self.hear()

    def wait_until_stopped(self) -> None:
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        self.wait_until_stopped()

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def other_process(path: Path) -> Iterator[Other]:
    root = Path(__file__).parent.parent
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root
    )
    with process:
        try:
            yield Other(process)
        finally:
            process.kill()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "session.db"


@pytest.fixture
def other(path: Path) -> Iterator[Other]:
    with other_process(path) as found:
        yield found


async def opened(path: Path, takeover: bool = False) -> SQLiteStore:
    store = SQLiteStore(path, takeover=takeover)
    await store.open(CONFIG)
    return store


# Owning


async def test_session_open_in_another_process_is_refused_by_its_number_until_that_closes_it(
    path: Path, other: Other
) -> None:
    assert other.ask("open") == "1"
    with pytest.raises(SessionInUse, match=f"process {other.pid}") as refused:
        await SQLiteStore(path).open(CONFIG)
    assert (refused.value.owner, refused.value.path) == (other.pid, str(path))
    assert other.ask("append") == "durable"
    assert other.ask("close") == "closed"
    store = await opened(path)
    assert (store.epoch, other.ask("open")) == (2, "SessionInUse")
    await store.close()


async def test_session_is_one_by_whatever_name_it_is_opened(path: Path, other: Other) -> None:
    other.ask("open")
    link = path.with_name("link.db")
    link.symlink_to(path)
    with pytest.raises(SessionInUse):
        await SQLiteStore(link).open(CONFIG)
    assert read_session(link).epoch == 1


async def test_session_of_a_process_that_was_killed_can_be_opened_at_once(path: Path, other: Other) -> None:
    other.ask("open")
    other.ask("append")
    other.kill()
    store = await opened(path)
    assert (store.epoch, len(await store.rollout(1))) == (2, 1)
    await store.close()


async def test_owner_that_was_paused_while_another_took_over_writes_nothing_more(path: Path, other: Other) -> None:
    other.ask("open")
    other.ask("append")
    other.pause()
    with pytest.raises(SessionInUse):
        await SQLiteStore(path).open(CONFIG)
    store = await opened(path, takeover=True)
    await store.append([Write((Entry(1, 2, "mine"),))])
    other.go_on()
    assert other.ask("append") == "SessionInUse"
    await store.append([Write((Entry(1, 3, "mine"),))])
    assert other.ask("append") == "SessionInUse"
    with pytest.raises(SessionInUse, match=f"process {os.getpid()}"):
        await SQLiteStore(path).open(CONFIG)
    assert other.ask("close") == "closed"
    with pytest.raises(SessionInUse):  # the lock of the second owner is not that of the first
        await SQLiteStore(path).open(CONFIG)
    assert [entry.turn for entry in await store.rollout(1) if isinstance(entry, Entry)] == [1, 2, 3]
    await store.close()


async def test_owner_that_is_paused_while_it_writes_keeps_others_out_until_it_ends(
    path: Path, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_S", 0.05)
    other.ask("open")
    other.ask("append")
    other.tell("begin and stop")
    other.wait_until_stopped()
    with pytest.raises(StoreBusy, match="paused owner"):
        await SQLiteStore(path, takeover=True).open(CONFIG)
    other.kill()
    store = await opened(path)
    assert len(await store.rollout(1)) == 1
    await store.close()


# Reading from outside


async def test_other_process_reads_what_is_durable_while_this_one_writes(path: Path, other: Other) -> None:
    store = await opened(path)
    await store.append([Write((AgentSpawned(1, ROOT, "a", None), MailAccepted(0, ROOT, 1, MailKind.TRIGGER, "x")))])
    files = beside(path)
    assert other.ask("read") == "2 1"
    for number in range(10):
        other.tell("read")  # at the same time as this:
        await store.append([Write((Entry(1, 1, "a"), Entry(1, 1, "b")))])
        tail, rollout = other.hear().split()
        assert (int(tail) - 2 * number, int(rollout) - 2 * number) in {(2, 1), (4, 3), (2, 3)}
    assert other.ask("read") == "22 21"
    assert beside(path) == files
    await store.close()
    assert other.ask("read") == "22 21"
    assert beside(path) == ["session.db", "session.db.lock"]


async def test_session_whose_process_died_is_read_as_it_is_and_nothing_is_put_right(path: Path, other: Other) -> None:
    other.ask("open")
    other.ask("append")
    other.kill()
    before = {name: (path.parent / name).read_bytes() for name in beside(path)}
    assert set(before) == {"session.db", "session.db.lock", "session.db-shm", "session.db-wal"}
    assert (read_session(path).epoch, len(read_rollout(path, 1))) == (1, 1)
    assert {name: (path.parent / name).read_bytes() for name in beside(path)} == before


@pytest.mark.parametrize("suffixes", [("", "-wal"), ("", "-wal", "-shm")])
async def test_copy_of_a_session_that_runs_is_read_wherever_it_is(
    path: Path, tmp_path: Path, suffixes: tuple[str, ...]
) -> None:
    store = await opened(path)
    await store.append(group(0))
    copy = tmp_path / "elsewhere" / "copy.db"
    copy.parent.mkdir()
    for suffix in suffixes:
        shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
    await store.append(group(1))
    files = beside(copy)
    assert (whole_groups(copy), read_session(copy).tail) == (1, STEPS * ENTRIES)
    assert whole_groups(path) == 2
    assert beside(copy) == files
    await store.close()


async def test_closed_session_that_changes_while_it_is_read_is_read_again(path: Path) -> None:
    store = await opened(path)
    await store.append(group(0))
    await store.close()
    seen: list[int] = []

    def read(connection: sqlite3.Connection, times: int) -> int:
        (count,) = connection.execute("SELECT count(*) FROM log").fetchone()
        seen.append(count)
        if len(seen) <= times:
            with closing(sqlite3.connect(path)) as writer, writer:
                writer.execute("INSERT INTO log VALUES (NULL, 1, 'Entry', ?)", ("x" * 10_000,))
        return int(count)

    assert reading.reading(path, lambda connection: read(connection, 2)) == STEPS * ENTRIES + 2
    assert seen == [STEPS * ENTRIES + number for number in range(3)]
    with pytest.raises(StoreBusy):
        reading.reading(path, lambda connection: read(connection, 1000))


def read_inside(path: Path) -> None:
    read_session(path)


def open_twice(path: Path) -> None:
    with pytest.raises(SessionInUse):
        anyio.from_thread.run(SQLiteStore(path).open, CONFIG)


def copy_inside(path: Path) -> None:
    schema.copy_pages(str(path), f"{path}.copy")


def verify_inside(path: Path) -> None:
    verify(path, 1, lambda done, size: None)


@pytest.mark.parametrize("look", [read_inside, open_twice, copy_inside, verify_inside])
async def test_owner_that_looks_at_its_own_file_keeps_the_locks_that_keep_its_wal(
    path: Path, look: Callable[[Path], None]
) -> None:
    store = await opened(path)
    await store.append(group(0))
    await anyio.to_thread.run_sync(look, path)
    closes = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM log').fetchone(); c.close()"
    )
    subprocess.run(
        [sys.executable, "-c", closes, path], check=True
    )  # it takes the WAL away if nobody has the file open
    await store.append(group(1))
    assert whole_groups(path) == 2
    await store.close()


# Dying


@pytest.mark.parametrize("after", [1, 7, 40])
async def test_process_killed_while_it_appends_leaves_whole_appends_and_all_that_it_acknowledged(
    path: Path, other: Other, after: int
) -> None:
    other.ask("open")
    other.tell("append for ever")
    acknowledged = [other.hear() for _ in range(after)]
    other.kill()
    acknowledged += other.stdout.read().split()
    found = whole_groups(path)
    assert found in (len(acknowledged), len(acknowledged) + 1)
    store = await opened(path)
    assert whole_groups(path) == found
    assert await store.check() == ()
    await store.append(group(found))
    await store.close()
    assert whole_groups(path) == found + 1


async def test_log_that_was_cut_anywhere_or_damaged_near_its_end_is_found_up_to_a_whole_append(
    path: Path, tmp_path: Path
) -> None:
    store = await opened(path)
    groups = 6
    for number in range(groups):
        await store.append(group(number))
    size = Path(f"{path}-wal").stat().st_size
    counts: list[int] = []
    for number, at in enumerate(range(0, size, size // 40)):
        for cut in (False, True):
            copy = tmp_path / f"{number}-{cut}.db"
            shutil.copyfile(path, copy)
            wal = Path(f"{copy}-wal")
            shutil.copyfile(f"{path}-wal", wal)
            if cut:
                os.truncate(wal, at)
            else:
                with wal.open("r+b") as file:
                    file.seek(at)
                    byte = file.read(1)
                    file.seek(at)
                    file.write(bytes([byte[0] ^ 0x55]))
            found = await opened(copy)
            counts.append(whole_groups(copy))
            await found.close()
    await store.close()
    assert set(counts) == set(range(groups)), "cuts at all ends of appends"
