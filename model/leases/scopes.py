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
    "crash": (4_176, 21_598),
    "stop": (15_927, 85_579),
    "cut": (25_015, 131_746),
    "drain": (25_323, 135_195),
    "restart": (747, 3_296),
    "late": (3_989, 18_928),
    "clocks": (7_949, 37_740),
    "full": (5_211, 25_421),
    "shares": (681, 3_860),
    "rooms": (799, 3_844),
    "three": (6_575, 40_949),
    "fleet": (34_081, 217_758),
    "kills": (29_093, 214_623),
    "network": (30_244, 218_639),
    "pair": (78_754, 522_208),
    "everything": (175_068, 1_449_943),
    "trio": (18_584, 108_496),
}
"""Scope -> states, steps."""


def find(name: str) -> Scope:
    """Returns the scope of this name."""
    return next(scope for scope in SCOPES if scope.name == name)
