"""Counts what a session holds and has done, as one frozen record: `statistics()`."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from statemachine.core.session import Session
from statemachine.runtime.engine import Engine
from statemachine.runtime.live import LiveThreads

__all__ = ["Statistics"]


@frozen
class Statistics:
    """Agents, slots, residency slots and queues as they are now, and counts since the session was opened."""

    open_agents: int
    """Sub-agents that are open."""
    slots_held: int
    execution_cap: int
    resident: int
    """Residency slots in use, those of agents on their way in or out included."""
    max_resident: int
    closing: int
    """Threads that were unloaded, and whose code or `close` has not ended yet. Loads wait for those of sub-agents."""
    abandoned: int
    """Threads that were unloaded, and whose code did not end within `stop_grace`, and still runs."""
    queued: int
    """Turns in the ready queue."""
    waiting: int
    """Turns in a wait."""
    loads: int
    reloads: int
    """Loads of agents that had been loaded before."""
    evictions: int
    """Threads that were unloaded to make room, or because they were idle."""
    stale_reports: int
    refusals: Mapping[str, int]
    """Name of the refusal -> count."""
    commits: int
    """Transactions."""
    records: int
    """Records in them."""


def statistics_of(session: Session, engine: Engine, live: LiveThreads) -> Statistics:
    """Returns the record as of now."""
    return Statistics(
        session.ledger.open_agents,
        session.slots.held,
        session.config.execution_cap,
        session.residents.occupied,
        session.config.max_resident,
        len(live.caps.closing),
        len(live.caps.abandoned),
        len(session.slots.ready),
        len(session.waits.of_agent),
        live.loads,
        live.reloads,
        live.evictions,
        session.stale_reports,
        dict(engine.counts.refusals),
        engine.counts.commits,
        engine.counts.records,
    )
