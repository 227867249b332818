"""Recovers a session from its log (semantics.md section 5).

`fold` turns records into the durable facts, with the methods that the live session uses. `recover` makes a session of
them: agents are unloaded; a turn that was running is interrupted by the crash, and its requesters are told; a turn that
was only queued or starting has not begun, so its trigger mail asks for it again, oldest mail first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from statemachine.core import turns
from statemachine.core.agents import Agent
from statemachine.core.config import Notice, SessionConfig, SlotPolicy
from statemachine.core.effects import Noted, Step
from statemachine.core.events import ROOT
from statemachine.core.fingerprint import asked_again
from statemachine.core.joint import settle
from statemachine.core.ledger import Ledger
from statemachine.core.machines import Identity, Residency, TurnState
from statemachine.core.records import (
    AgentResumed,
    AgentsClosed,
    AgentSpawned,
    Cause,
    MailAccepted,
    MailDrained,
    NoticeBuried,
    Outcome,
    Record,
    TurnEnded,
    TurnStarted,
)
from statemachine.core.refusals import InvalidConfig
from statemachine.core.session import Session
from statemachine.log.snapshot import durable_turn

__all__ = ["apply", "durable_facts", "fold", "recover", "restart"]


def recover(config: SessionConfig, records: Iterable[Record], now: float = 0.0) -> tuple[Session, Step]:
    """Returns the session of this log, and its first step: the turns that the crash ended, and those asked for again.
    Append the step's records to the log. `now` is the time in seconds. Raises `InvalidConfig` as `refuse_too_small`.
    """
    return restart(config, fold(config, records), now)


def restart(config: SessionConfig, ledger: Ledger, now: float) -> tuple[Session, Step]:
    """Does what `recover` does, from facts."""
    refuse_too_small(config, ledger)
    s = Session(config, now)
    s.ledger = ledger
    s.agents = ledger.agents
    if s.live_threads:
        for agent in s.agents[1:]:
            if agent.identity is Identity.OPEN:
                s.slots.reserve(agent.id, agent.turn)
    ended = [end_by_crash(s, agent) for agent in s.agents if agent.status is TurnState.RUNNING]
    for number in asked_again(s):
        turns.consider(s, s.agents[number])
    for outcome, answered in ended:
        if answered:
            turns.tell(s, outcome, answered, tell_always=True)
    settle(s)
    return s, Step(tuple(s.records), Noted(), tuple(s.effects))


def refuse_too_small(config: SessionConfig, ledger: Ledger) -> None:
    """Raises `InvalidConfig` if the facts exceed a limit, and names the limit to raise: all limits are strict."""
    open_agents = [a for a in ledger.agents[1:] if a.identity is Identity.OPEN]
    needs: list[tuple[str, int, float | None]] = [
        ("max_agents", len(open_agents), config.max_agents),
        ("max_depth", max([a.depth for a in open_agents], default=0), config.max_depth),
        ("max_unread", max(len(a.mailbox) + a.promised for a in ledger.agents), config.max_unread),
    ]
    if config.slot_policy is SlotPolicy.LIVE_THREADS:
        needs.append(("max_concurrent", len(open_agents) + 1, config.max_concurrent))
    else:
        asking = sum(a.triggers > 0 for a in open_agents)
        needs.append(("max_queued", asking - config.execution_cap, config.max_queued))
        needs.append(("max_concurrent", 2 if asking else 1, config.max_concurrent))
    for name, need, limit in needs:
        if limit is not None and need > limit:
            raise InvalidConfig(f"the log needs {name} of at least {need}, the configuration has {limit}; raise it")


def end_by_crash(s: Session, agent: Agent) -> tuple[Outcome, tuple[MailAccepted, ...]]:
    """Interrupts a turn that was running when the session was lost. Returns its outcome and the requests to answer; the
    requesters are told even if the configuration has no notices of interrupts, because no agent asked for this one.
    """
    outcome = Outcome(agent.id, agent.turn, TurnState.INTERRUPTED, "interrupted by a crash", Cause.CRASHED)
    s.records.append(TurnEnded(outcome))
    return outcome, s.ledger.end_turn(agent, outcome, started=True)


def fold(config: SessionConfig, records: Iterable[Record]) -> Ledger:
    """Returns the facts that these records lead to, in their order."""
    ledger = Ledger(config.notice is not Notice.NONE)
    for record in records:
        apply(ledger, record)
    return ledger


def apply(ledger: Ledger, record: Record) -> None:
    """Applies one record. Raises `TypeError` for a value that is not a record."""
    change = APPLY.get(record.__class__)
    if change is None:
        raise TypeError(f"{record!r} is not a record of statemachine.core.records")
    change(ledger, record)


def _closed(ledger: Ledger, record: AgentsClosed) -> None:
    ledger.forget_earlier_close(record.target)
    for agent in record.agents:
        ledger.close(ledger.agents[agent], record.target)


def _started(ledger: Ledger, record: TurnStarted) -> None:
    agent = ledger.agents[record.agent]
    agent.status, agent.turn = TurnState.RUNNING, record.turn
    ledger.read_mail(agent)


def _ended(ledger: Ledger, record: TurnEnded) -> None:
    agent = ledger.agents[record.outcome.agent]
    ledger.end_turn(agent, record.outcome, agent.status is TurnState.RUNNING)


def _drained(ledger: Ledger, record: MailDrained) -> None:
    ledger.read_mail(ledger.agents[record.agent])


def _resumed(ledger: Ledger, record: AgentResumed) -> None:
    ledger.resume(ledger.agents[record.agent])


APPLY: dict[type, Callable[[Ledger, Any], object]] = {
    AgentSpawned: Ledger.spawn,
    MailAccepted: Ledger.accept,
    NoticeBuried: lambda ledger, _: ledger.bury_notice(),
    TurnStarted: _started,
    MailDrained: _drained,
    TurnEnded: _ended,
    AgentsClosed: _closed,
    AgentResumed: _resumed,
}
"""Record class -> how it changes the facts."""


def durable_facts(ledger: Ledger) -> tuple[Any, ...]:
    """Returns the facts as a value: equal for the ledger of a live session and for the fold of all that it recorded. A
    turn that was requested but has not started is not a durable fact.
    """
    return (tuple([_durable(agent) for agent in ledger.agents]), tuple(ledger.mail_states))


def _durable(a: Agent) -> tuple[Any, ...]:
    return (
        a.id,
        a.parent,
        a.path,
        a.settings,
        a.identity,
        a.closed_by,
        *durable_turn(a),
        a.outcome,
        a.asked,
        a.mailbox,
        a.triggers,
        a.promised,
    )


def forget(ledger: Ledger) -> Ledger:
    """Returns a copy as the fold of its records would be, without what a crash forgets."""
    copy = ledger.copy()
    for agent in copy.agents:
        agent.status, agent.turn = durable_turn(agent)
        agent.generation = 0
        if agent.id != ROOT:
            agent.residency = Residency.UNLOADED
    return copy
