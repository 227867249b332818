"""Says when a host or a client may be used: within its block, which is entered once.

What a block holds, as a thread, connections and the lock of a folder, is made when it is entered. A second entry would
put its own in their place, and then nobody would end those of the first; and a host that has drained once takes no
more sessions. So the second entry is refused before it does anything, as that of `AgentControl` is.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from enum import Enum, auto

__all__ = ["Block", "Stage"]


class Stage(Enum):
    """What has become of a block."""

    NEW = auto()
    """It was not entered, or could not be: then it may be entered again."""
    ENTERED = auto()
    LEFT = auto()
    """Also while it is being left."""


class Block:
    """The block of one host or client; `what` says which, for its errors."""

    def __init__(self, what: str) -> None:
        self._what = what
        self.stage = Stage.NEW

    @contextmanager
    def entering(self) -> Generator[None]:
        """Within it, the block is entered; if that fails, it was not. Raises `RuntimeError` before anything is done if
        it was entered before.
        """
        if self.stage is not Stage.NEW:
            raise RuntimeError(f"a {self._what} is entered once; make another one")
        self.stage = Stage.ENTERED
        try:
            yield
        except BaseException:
            self.stage = Stage.NEW
            raise

    def leave(self) -> bool:
        """Marks the block as left. Returns whether it was not left before. Raises `RuntimeError` if it was not entered
        yet.
        """
        self.check()
        is_first = self.stage is Stage.ENTERED
        self.stage = Stage.LEFT
        return is_first

    def check(self) -> None:
        """Raises `RuntimeError` if the block was not entered yet."""
        if self.stage is Stage.NEW:
            raise RuntimeError(f"the {self._what} is not open: enter it with `async with` first")
