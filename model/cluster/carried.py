"""Carries the files of a task from the machine on which it ran to the one that asked for it.

A task gets a folder of its own in place of the one that was asked for. What it returns names the files as they will be
called in the end, and they travel with it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Generic, TypeVar

import attrs
from attrs import frozen

from ..pools import Task

T = TypeVar("T")


@frozen
class Carried(Generic[T]):
    """A result, and the files that it names: path within the folder -> content."""

    result: T
    files: dict[str, bytes]

    def unpack(self, folder: Path) -> T:
        """Writes the files into the folder. Returns the result."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return self.result


def carry(task: Task[T], folder: Path) -> Carried[T]:
    """Calls a task that writes into `folder`, but in a temporary one."""
    with tempfile.TemporaryDirectory(prefix="task-") as name:
        here = Path(name)
        result = task.function(*moved(task.arguments, folder, here))
        files = {
            path.relative_to(here).as_posix(): path.read_bytes() for path in sorted(here.rglob("*")) if path.is_file()
        }
        return Carried(moved(result, here, folder), files)


def moved(value: Any, here: Path, there: Path) -> Any:
    """Returns the value with every path in `here` as one in `there`: of records and of what they are in."""
    if isinstance(value, Path):
        return there / value.relative_to(here) if value.is_relative_to(here) else value
    if isinstance(value, tuple | list):
        return type(value)(moved(one, here, there) for one in value)
    if attrs.has(type(value)):
        changed = {f.name: moved(getattr(value, f.name), here, there) for f in attrs.fields(type(value)) if f.init}
        return attrs.evolve(value, **changed)
    return value
