"""Says when and where a host or a client may be used: within its block, which is entered once, in the event loop in
which it was, and that is one of asyncio, as `websockets` needs.

What a block holds, as a thread, connections and the lock of a folder, is made when it is entered. A second entry would
put its own in their place, and those of the first would never be ended; and a host that has drained once takes no more
sessions. So the second entry is refused before it does anything, as that of `AgentControl` is.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from contextlib import contextmanager
from enum import Enum, auto

from anyio.lowlevel import current_token

from statemachine.runtime.errors import WrongEventLoop

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
        self._loop: asyncio.AbstractEventLoop | None = None

    @contextmanager
    def entering(self) -> Generator[None]:
        """Within it, the block is entered; if that fails, it was not. Raises `RuntimeError` before anything is done if
        it was entered before, or elsewhere than on asyncio.
        """
        if self.stage is not Stage.NEW:
            raise RuntimeError(f"a {self._what} is entered once; make another one")
        self._loop = loop_here()
        if self._loop is None:
            raise RuntimeError(
                f"a {self._what} needs asyncio, which does not run here; begin with asyncio.run(main()), or with "
                'anyio.run(main, backend="asyncio")'
            )
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

    def check_here(self) -> None:
        """Raises as `check`, and `WrongEventLoop` within the block, in another event loop than its own."""
        self.check()
        if self.stage is Stage.ENTERED and loop_here() is not self._loop:
            raise WrongEventLoop(threading.current_thread().name)


def loop_here() -> asyncio.AbstractEventLoop | None:
    """Returns the event loop of asyncio that runs here; None: none does, or it is another's, as trio's."""
    try:
        found = current_token().native_token
    except RuntimeError:  # none at all
        return None
    return found if isinstance(found, asyncio.AbstractEventLoop) else None
