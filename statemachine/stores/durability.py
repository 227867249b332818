"""Says when a commit is durable, and how long it may be kept waiting."""

from __future__ import annotations

from enum import Enum

__all__ = ["Synchronous"]

BUSY_TIMEOUT = 60.0
"""Seconds for which others may keep the file, or the row of the session, locked, unless the store is told otherwise."""


class Synchronous(Enum):
    """The point at which a commit counts as durable."""

    FULL = "FULL"
    """The disk has it; in a database also what it waits for besides, such as a standby."""
    NORMAL = "NORMAL"
    """The operating system or the server has it: it survives the process, but not a loss of power. Several times as
    fast.
    """
