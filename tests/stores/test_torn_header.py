"""A session beside a WAL whose header a power cut has torn: it is read as opening would read it, and stays as it is."""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from statemachine.stores import Entry, SQLiteStore, Write, read_rollout, read_session
from statemachine.stores.sqlite import reading, tables
from statemachine.stores.sqlite.backup import back_up
from tests.stores.other_process import ENTRIES, STEPS, group, other_process, whole_groups
from tests.stores.session_files import CONFIG, beside, opened

pytestmark = pytest.mark.anyio
HEADER, FRAME = 32, 24 + 4096
BIG = 0x377F0683


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "running").mkdir()
    (tmp_path / "killed").mkdir()
    return tmp_path / "killed" / "session.db"


@pytest.fixture
def wal(path: Path) -> Path:
    return Path(f"{path}-wal")


async def kill_one(path: Path) -> None:
    """A session with a group in its file, and an entry in the WAL, as it is found when its process was killed."""
    store = await opened(path.parents[1] / "running" / "session.db")
    await store.append(group(0))
    await store.close()
    await store.open(CONFIG)
    await store.append([Write((Entry(1, 1, "in the WAL"),))])
    for suffix in ("", "-wal", "-shm"):
        shutil.copyfile(f"{store.path}{suffix}", f"{path}{suffix}")
    await store.close()


def contents(path: Path) -> dict[str, bytes]:
    return {name: (path.parent / name).read_bytes() for name in beside(path)}


def flipped(at: int) -> Callable[[bytes], bytes]:
    return lambda wal: wal[:at] + bytes([wal[at] ^ 1]) + wal[at + 1 :]


TORN: dict[str, Callable[[bytes], bytes]] = {
    "zeros": lambda wal: bytes(HEADER) + wal[HEADER:],
    "ones": lambda wal: b"\xff" * HEADER + wal[HEADER:],
    "half": lambda wal: wal[:16] + bytes(16) + wal[HEADER:],
    "all zeros": lambda wal: bytes(len(wal)),
    **{f"a bit of word {word}": flipped(4 * word + 3) for word in (0, 2, 3, 4, 5, 6, 7)},
}


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    ("torn", "index"), [*[(torn, "as it was") for torn in TORN], ("all zeros", "zeros"), ("zeros", "missing")]
)
async def test_session_beside_a_wal_with_a_torn_header_is_read_as_it_would_be_opened_and_not_changed(
    torn: str, index: str, path: Path, wal: Path
) -> None:
    await kill_one(path)
    wal.write_bytes(TORN[torn](wal.read_bytes()))
    if index == "missing":
        os.unlink(f"{path}-shm")
    elif index == "zeros":
        Path(f"{path}-shm").write_bytes(bytes(os.path.getsize(f"{path}-shm")))
    before = contents(path)
    found = read_session(path)
    assert whole_groups(path) == 1
    assert await SQLiteStore(path).check() == ()
    back_up(path, path.with_name("copy"), lambda *_: None)
    assert whole_groups(path.with_name("copy")) == 1
    path.with_name("copy").unlink()
    assert contents(path) == before
    store = SQLiteStore(path)
    opening = await store.open(CONFIG)
    assert (found.epoch + 1, found.tail) == (opening.epoch, opening.tail)
    assert len(await store.rollout(1)) == len(read_rollout(path, 1)) == STEPS * ENTRIES
    await store.close()


@pytest.mark.parametrize("length", [0, 1, HEADER - 1, HEADER, HEADER + 1, HEADER + FRAME - 1])
async def test_session_beside_a_wal_that_is_cut_in_its_first_page_is_read_as_it_would_be_opened(
    length: int, path: Path, wal: Path
) -> None:
    await kill_one(path)
    os.truncate(wal, length)
    before = contents(path)
    assert (read_session(path).epoch, whole_groups(path)) == (1, 1)
    assert contents(path) == before
    store = await opened(path)
    assert store.epoch == 2
    await store.close()


def summed(data: bytes, start: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    """The checksum of a WAL in the order of bytes of big machines."""
    first, second = start
    for one, other in struct.iter_unpack(">II", data):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return first, second


def as_of_a_big_machine(wal: bytes) -> bytes:
    """The WAL as a machine of the other order of bytes writes it."""
    begin = struct.pack(">I", BIG) + wal[4:24]
    found = summed(begin)
    parts = [begin, struct.pack(">II", *found)]
    for at in range(HEADER, len(wal), FRAME):
        frame = wal[at : at + FRAME]
        found = summed(frame[:8] + frame[24:], found)
        parts += [frame[:16], struct.pack(">II", *found), frame[24:]]
    return b"".join(parts)


async def test_wal_of_a_machine_with_another_order_of_bytes_is_read(path: Path, wal: Path) -> None:
    await kill_one(path)
    wal.write_bytes(as_of_a_big_machine(wal.read_bytes()))
    copy = path.with_name("copy")
    for suffix in ("", "-wal"):
        shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
    for found in (path, copy):
        assert read_session(found).epoch == 2
        assert len(read_rollout(found, 1)) == STEPS * ENTRIES + 1


async def test_session_that_is_opened_while_its_torn_wal_is_passed_over_is_read_again(path: Path, wal: Path) -> None:
    await kill_one(path)
    wal.write_bytes(TORN["zeros"](wal.read_bytes()))
    found = list[int]()
    with other_process(path) as third:

        def read(connection: sqlite3.Connection) -> int:
            found.append(len(tables.read_rollout(connection, 1)))
            if len(found) == 1:
                third.ask("open")
                third.ask("append")
            return found[-1]

        assert reading.reading(path, read) == STEPS * ENTRIES + 1
    assert found == [STEPS * ENTRIES, STEPS * ENTRIES + 1]
