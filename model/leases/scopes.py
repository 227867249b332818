"""The scopes in which leases are explored, and how many states and steps each has.

The counts are golden: a change of the protocol, of its rules or of a scope changes them, and has to say why.
"""

from __future__ import annotations

from .world import Scope


def fault(*names: str) -> frozenset[str]:
    """Returns these faults."""
    return frozenset(names)


SCOPES: tuple[Scope, ...] = (
    Scope("crash", (1, 1), 1, "processes are killed, and started again", faults=fault("crash"), ttl=2),
    Scope("stop", (1, 1), 1, "processes are stopped for any time, and go on", faults=fault("pause", "late")),
    Scope("cut", (1, 1), 1, "processes are cut off from the database, and write on", faults=fault("cut")),
    Scope("drain", (1, 1), 1, "processes are told to end, and started again", faults=fault("drain", "late")),
    Scope("restart", (1, 1), 1, "the database restarts", faults=fault("restart")),
    Scope("late", (1, 1), 1, "workers poll when they like, also later than TTL", faults=fault("late")),
    Scope(
        name="clocks",
        capacities=(1, 1),
        sessions=1,
        meaning="the clocks of both workers stand, and that of one is ahead",
        faults=fault("late"),
        rates=(0, 0),
        ahead=(0, 3),
    ),
    Scope("full", (1, 1), 2, "as many sessions as there is room for"),
    Scope("shares", (6, 6), 6, "six sessions are spread over two workers", asks=False, faults=fault("crash")),
    Scope("rooms", (1, 4), 4, "workers of different capacity", asks=False, faults=fault("crash")),
    Scope("three", (3, 3, 3), 3, "three sessions, three workers", asks=False, faults=fault("crash")),
    Scope("fleet", (1, 1), 2, "two sessions, and processes are killed", faults=fault("crash"), long=True),
    Scope(
        "kills",
        (1, 1),
        1,
        "killed, stopped, and the database restarts",
        faults=fault("crash", "pause", "restart"),
        long=True,
    ),
    Scope(
        "network",
        (1, 1),
        1,
        "cut off, killed, and the database restarts",
        faults=fault("cut", "crash", "restart"),
        long=True,
    ),
    Scope("pair", (2, 2), 2, "the same, and each worker has room for both", faults=fault("crash"), long=True),
    Scope(
        name="everything",
        capacities=(1, 1),
        sessions=1,
        meaning="every fault but partitions",
        faults=fault("crash", "pause", "drain", "restart", "late"),
        long=True,
    ),
    Scope("trio", (1, 1, 1), 2, "three workers with room for one session each", long=True),
)
"""All scopes. Without `long`, those take some seconds together."""

GOLDEN: dict[str, tuple[int, int]] = {
    "crash": (4_199, 21_706),
    "stop": (21_318, 113_730),
    "cut": (29_008, 152_975),
    "drain": (44_347, 228_056),
    "restart": (792, 3_498),
    "late": (5_342, 24_938),
    "clocks": (10_634, 49_676),
    "full": (5_674, 27_471),
    "shares": (688, 3_909),
    "rooms": (795, 3_841),
    "three": (7_460, 46_736),
    "fleet": (34_698, 221_528),
    "kills": (34_541, 254_998),
    "network": (34_553, 250_394),
    "pair": (87_736, 581_556),
    "everything": (271_515, 2_252_403),
    "trio": (24_429, 141_848),
}
"""Scope -> states, steps."""


def find(name: str) -> Scope:
    """Returns the scope of this name."""
    return next(scope for scope in SCOPES if scope.name == name)
