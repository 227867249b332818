"""Declares the machines of hosts: what a session in the database is, and what a worker is, as data.

*Lease* is one per session: does it need an owner, and has it one? It stands in the session's row, as `wanted` and
`worker`.
*Worker* is one per process that hosts sessions: its row, which its heartbeat keeps alive, and its connection.

As with the machines of the core, the rows here are looked up by the model (`model/leases`), and a pair that is not in a
table is refused. In the database, the statements of `leases.py` make the moves; each names its trigger.
"""

from __future__ import annotations

from enum import IntEnum

from statemachine.core.machines import Machine, Row

__all__ = ["LEASE", "WORKER", "LeaseState", "WorkerState"]


class LeaseState(IntEnum):
    """Does the session need an owner, and has it one?"""

    IDLE = 0
    """It has nothing to do, and no worker has it."""
    WANTED = 1
    """It has open work, or a caller asked for it, and no worker has it."""
    OWNED = 2
    """A worker has it."""


class WorkerState(IntEnum):
    """Is the process there to host sessions? It is told by its row, which the others see."""

    ABSENT = 0
    SERVING = 1
    DRAINING = 2
    """It takes no more sessions, and hands over those that it has."""


LEASE = Machine(
    "Lease",
    LeaseState.IDLE,
    (
        Row("ask", (LeaseState.IDLE, LeaseState.WANTED), LeaseState.WANTED, "a caller wants something of it"),
        Row("ask_owner", (LeaseState.OWNED,), LeaseState.OWNED, "the same, while a worker has it"),
        Row("claim", (LeaseState.WANTED,), LeaseState.OWNED, "a worker with room takes it, and its epoch is raised"),
        Row("unload", (LeaseState.OWNED,), LeaseState.IDLE, "it has had nothing to do for `idle_ttl`"),
        Row("hand_over", (LeaseState.OWNED,), LeaseState.WANTED, "its worker drains, has too many, or cannot run it"),
        Row("bury", (LeaseState.OWNED,), LeaseState.WANTED, "its worker is dead; its epoch is raised"),
    ),
    "Does the session need an owner, and has it one?",
)

WORKER = Machine(
    "Worker",
    WorkerState.ABSENT,
    (
        Row("join", (WorkerState.ABSENT,), WorkerState.SERVING, "it says where it can be reached"),
        Row("beat", (WorkerState.SERVING,), WorkerState.SERVING, "every `poll` seconds"),
        Row("drain", (WorkerState.SERVING,), WorkerState.DRAINING, "it was told to end, and polls"),
        Row(
            "leave",
            (WorkerState.SERVING, WorkerState.DRAINING),
            WorkerState.ABSENT,
            "it was told to end, and has handed over all sessions",
        ),
        Row(
            "bury",
            (WorkerState.SERVING, WorkerState.DRAINING),
            WorkerState.ABSENT,
            "another worker finds that its connection is gone, or that it has not beaten for `ttl`",
        ),
    ),
    "Is the process there to host sessions?",
)

MACHINES: tuple[Machine[LeaseState] | Machine[WorkerState], ...] = (LEASE, WORKER)
