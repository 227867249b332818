"""Recovers a session from its log (semantics.md section 5).

`fold` turns records into the durable facts, with the methods that the live session uses. `recover` makes a session of
them: agents are unloaded; a turn that was running is interrupted by the crash, and its requesters are told; a turn that
was only queued or starting has not begun, so its trigger mail asks for it again, oldest mail first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from statemachine.core import rules, turns
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
    AgentsForgotten,
    AgentSpawned,
    Cause,
    LoadBegun,
    LoadEnded,
    MailAccepted,
    MailDemoted,
    MailDrained,
    MailRead,
    MailWithdrawn,
    NoticeBuried,
    Outcome,
    Record,
    TurnEnded,
    TurnReturned,
    TurnStarted,
    TurnStopped,
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
    s.residents.lost = dict.fromkeys(ledger.loads)
    if s.live_threads:
        for agent in s.agents[1:]:
            if agent.identity is Identity.OPEN:
                s.slots.reserve(agent.id, agent.turn)
    crashed = [agent for agent in s.agents if agent.status is TurnState.RUNNING]
    ended = [ending for ending in [end_by_crash(s, agent) for agent in crashed] if ending is not None]
    for number in asked_again(s):
        turns.consider(s, s.agents[number])
    for outcome, answered, stopped in ended:
        if answered:
            always = stopped is None or stopped.cause is Cause.TIMED_OUT
            told = turns.tell(s, outcome, answered, always, None if stopped is None else stopped.below)
            for requester in told:
                turns.consider(s, requester)
    settle(s)
    return s, Step(tuple(s.records), Noted(), tuple(s.effects))


def refuse_too_small(config: SessionConfig, ledger: Ledger) -> None:
    """Raises `InvalidConfig` if the facts exceed a limit, and names the limit to raise: all limits are strict."""
    open_agents = [a for a in ledger.agents[1:] if a.identity is Identity.OPEN]
    needs: list[tuple[str, int, float | None]] = [
        ("max_agents", len(open_agents), config.max_agents),
        ("max_depth", max([a.depth for a in open_agents], default=0), config.max_depth),
    ]
    if config.slot_policy is SlotPolicy.LIVE_THREADS:
        needs.append(("max_concurrent", len(open_agents) + 1, config.max_concurrent))
    else:
        asking = sum(a.triggers > 0 for a in open_agents)
        needs.append(("max_concurrent", 2 if asking else 1, config.max_concurrent))
    for name, need, limit in needs:
        if limit is not None and need > limit:
            raise InvalidConfig(f"the log needs {name} of at least {need}, the configuration has {limit}; raise it")


def end_by_crash(s: Session, agent: Agent) -> tuple[Outcome, tuple[MailAccepted, ...], TurnStopped | None] | None:
    """Ends a turn that had started when the session was lost. It is returned (None) if its agent has attempts left and
    it was not asked to stop. Else it is interrupted: by what had asked it to stop, and its requesters are told as they
    would have been (decision D23); or by the crash, of which they are always told, because no caller asked for it.
    """
    stopped = s.ledger.stops.get(agent.id)
    failed = s.ledger.attempts.get(agent.id, 0)
    if stopped is None and rules.has_attempts_left(failed, s.config.max_attempts):
        s.records.append(TurnReturned(agent.id, agent.turn))
        s.ledger.return_turn(agent, agent.turn)
        return None
    cause, by = (Cause.CRASHED, None) if stopped is None else (stopped.cause, stopped.by)
    outcome = Outcome(agent.id, agent.turn, TurnState.INTERRUPTED, "interrupted by a crash", cause, by)
    s.records.append(TurnEnded(outcome))
    return outcome, s.ledger.end_turn(agent, outcome, started=True), stopped


def fold(config: SessionConfig, records: Iterable[Record]) -> Ledger:
    """Returns the facts that these records lead to, in their order."""
    ledger = Ledger(config.notice is not Notice.NONE, config.max_attempts > 1)
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
    for agent in record.agents:
        ledger.close(ledger.agents[agent], record.target)


def _started(ledger: Ledger, record: TurnStarted) -> None:
    agent = ledger.agents[record.agent]
    agent.status = TurnState.RUNNING
    ledger.start_turn(agent, record.turn)


def _ended(ledger: Ledger, record: TurnEnded) -> None:
    agent = ledger.agents[record.outcome.agent]
    ledger.end_turn(agent, record.outcome, agent.status is TurnState.RUNNING)


def _drained(ledger: Ledger, record: MailDrained) -> None:
    ledger.read_mail(ledger.agents[record.agent])


def _read(ledger: Ledger, record: MailRead) -> None:
    ledger.read_some(ledger.agents[record.agent], record.mails)


def _withdrawn(ledger: Ledger, record: MailWithdrawn) -> None:
    mail = ledger.find_unread(record.mail)
    assert mail is not None, "what is withdrawn is unread"
    ledger.withdraw(mail)


def _demoted(ledger: Ledger, record: MailDemoted) -> None:
    ledger.demote(ledger.agents[record.agent], record.mails)


def _stopped(ledger: Ledger, record: TurnStopped) -> None:
    ledger.stops[record.agent] = record


def _returned(ledger: Ledger, record: TurnReturned) -> None:
    ledger.return_turn(ledger.agents[record.agent], record.turn)


def _load_begun(ledger: Ledger, record: LoadBegun) -> None:
    ledger.loads[record.agent] = ledger.loads.get(record.agent, 0) + 1


def _load_ended(ledger: Ledger, record: LoadEnded) -> None:
    ledger.loads.pop(record.agent, None)


def _forgotten(ledger: Ledger, record: AgentsForgotten) -> None:
    for agent in record.agents:
        ledger.forget(ledger.agents[agent])


def _resumed(ledger: Ledger, record: AgentResumed) -> None:
    ledger.resume(ledger.agents[record.agent])


APPLY: dict[type, Callable[[Ledger, Any], object]] = {
    AgentSpawned: Ledger.spawn,
    MailAccepted: Ledger.accept,
    NoticeBuried: lambda ledger, _: ledger.bury_notice(),
    MailWithdrawn: _withdrawn,
    MailDemoted: _demoted,
    LoadBegun: _load_begun,
    LoadEnded: _load_ended,
    TurnStarted: _started,
    MailDrained: _drained,
    MailRead: _read,
    TurnStopped: _stopped,
    TurnReturned: _returned,
    TurnEnded: _ended,
    AgentsClosed: _closed,
    AgentResumed: _resumed,
    AgentsForgotten: _forgotten,
}
"""Record class -> how it changes the facts."""


def durable_facts(ledger: Ledger) -> tuple[Any, ...]:
    """Returns the facts as a value: equal for the ledger of a live session and for the fold of all that it recorded. A
    turn that was requested but has not started is not a durable fact.
    """
    return (
        tuple([_durable(agent) for agent in ledger.agents]),
        tuple(ledger.mail_states),
        ledger.requests,
        ledger.letters,
        ledger.stops,
        ledger.attempts,
        ledger.loads,
    )


def _durable(a: Agent) -> tuple[Any, ...]:
    return (
        a.id,
        a.parent,
        a.path,
        a.depth,
        a.settings,
        a.identity,
        a.closed_by,
        *durable_turn(a),
        a.outcome,
        a.taken,
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
