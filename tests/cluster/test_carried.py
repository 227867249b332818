"""What a task writes on another machine comes to the folder that was asked for, under the same names."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from model.cluster.carried import carry, moved
from model.pools import Task


@frozen
class Found:
    """A result that names files."""

    name: str
    kept: Path
    others: tuple[Path, ...]


def leave(name: str, folder: Path) -> list[Found]:
    """Writes two files."""
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / name).write_bytes(b"one")
    (folder / "other").write_bytes(b"two")
    return [Found(name, folder / "deep", (folder / "other", Path("/elsewhere")))]


def test_files_of_a_task_arrive_with_its_result_and_nothing_is_written_before(tmp_path: Path) -> None:
    folder = tmp_path / "failures"
    carried = carry(Task(leave, ("trace", folder)), folder)
    assert not folder.exists()
    assert carried.unpack(folder) == [Found("trace", folder / "deep", (folder / "other", Path("/elsewhere")))]
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert files == {"deep/trace": b"one", "other": b"two"}


def test_task_that_writes_nothing_makes_no_folder(tmp_path: Path) -> None:
    folder = tmp_path / "failures"
    assert carry(Task(str, (folder,)), folder).unpack(folder) != str(folder)
    assert not folder.exists()


def test_moved_leaves_what_is_elsewhere_and_what_is_no_path() -> None:
    here, there = Path("/here"), Path("there")
    value = (Path("/here/a/b"), Path("/hereabouts"), "/here/c", [Path("/here")], 7)
    assert moved(value, here, there) == (Path("there/a/b"), Path("/hereabouts"), "/here/c", [Path("there")], 7)
