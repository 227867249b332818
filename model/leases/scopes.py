"""The scopes in which leases are explored, and how many states and steps each has.

The counts are golden: a change of the protocol, of its rules or of a scope changes them, and has to say why.
"""

from __future__ import annotations

from .world import Scope

ALL = frozenset({"crash", "pause", "cut", "drain", "restart", "late"})

SCOPES: tuple[Scope, ...] = (
    Scope("all", (1, 1), 1, "two workers and one session, with every fault", faults=ALL),
)
GOLDEN: dict[str, tuple[int, int]] = {}
