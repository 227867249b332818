"""Judges the times of agents: what is kept beside a session says of each agent what its records say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random

from statemachine.core.agents import Agent
from statemachine.core.machines import Identity, TurnState
from statemachine.core.records import (
    AgentResumed,
    AgentsClosed,
    AgentsForgotten,
    AgentSpawned,
    MailDemoted,
    Record,
    TurnEnded,
    TurnReturned,
    TurnStarted,
)
from statemachine.log.snapshot import facts_of
from statemachine.log.times import Moments, Times, stamp
from statemachine.stores import Entry

from .lives import life

ASKED = 0.5
"""When the mail came that asks for a turn."""
NOTHING = Moments(None, None, None)
Log = list[tuple[float, Record]]


def known(log: Log, agent: int) -> tuple[float | None, float | None, float | None]:
    """Reads from all records when the agent was opened or closed last, and when its last turn began and ended."""
    mine = [(at, record) for at, record in log if agent in about(record)]
    if any(isinstance(record, AgentsForgotten) for _, record in mine):
        return None, None, None
    opened = [at for at, one in mine if isinstance(one, AgentSpawned | AgentsClosed | AgentResumed | TurnReturned)]
    turns = [(at, one) for at, one in mine if isinstance(one, TurnStarted | TurnEnded | TurnReturned)]
    starts = [at for at, one in turns if isinstance(one, TurnStarted)]
    ends = [at for at, one in turns if isinstance(one, TurnEnded)]
    kinds = [one.__class__ for _, one in turns]
    unbegun = kinds[-1:] == [TurnEnded] and kinds[-2:-1] != [TurnStarted]
    return last(opened), None if unbegun else last(starts), last(ends)


def last(times: list[float]) -> float | None:
    return times[-1] if times else None


def about(record: Record) -> tuple[int, ...]:
    """Returns the agents that a record is about."""
    if isinstance(record, AgentsClosed | AgentsForgotten):
        return record.agents
    if isinstance(record, TurnEnded):
        return (record.outcome.agent,)
    return (record.agent,) if isinstance(record, AgentSpawned | AgentResumed | TurnStarted | TurnReturned) else ()


def moments(log: Log, agent: Agent) -> Moments:
    """Returns since when the agent is as it is."""
    changed, began, ended = known(log, agent.id)
    status = agent.status
    asks = status in (TurnState.QUEUED, TurnState.STARTING)
    works = not asks and not status.is_idle
    if asks:
        since: float | None = ASKED
    elif works:
        since = began
    else:
        since = changed if status is TurnState.NEW else ended
    if agent.identity is not Identity.OPEN:
        since = changed
    return Moments(since, None if asks else began, None if asks or works else ended)


def lives_are_timed(seeds: Iterable[int]) -> Iterator[str]:
    """Yields what is wrong with the times that are committed, noted, or restored from snapshots."""
    for seed in seeds:
        rnd = Random(seed)
        told, noted, restored, log = Times(), Times(), Times(), list[tuple[float, Record]]()
        started = set[int]()
        for number, (s, _, step) in enumerate(life(rnd)):
            if step is None:
                continue
            at = number + rnd.random()
            demoting = [whose for record in step.records if (whose := demoted(record, started)) is not None]
            if told.commit(step.records, at) != demoting:
                yield f"seed {seed}, event {number}: it is not said whose mail may be demoted"
            for record in step.records:
                log.append((at, record))
                noted.note(record)
                restored.note(record)
            noted.note(Entry(0, 1, "of a rollout", at=at))
            if rnd.random() < 0.1:
                restored = Times()
                restored.restore(facts_of(s.ledger, agent, told.of(agent.id)) for agent in s.agents)
            for agent in s.agents:
                expected = NOTHING if agent.identity is Identity.FORGOTTEN else moments(log, agent)
                for times in (told, noted, restored):
                    if times.moments(agent.id, agent.identity is Identity.OPEN, agent.status, ASKED) != expected:
                        yield f"seed {seed}, event {number}: the times of agent {agent.id} are not {expected}"


def demoted(record: Record, started: set[int]) -> int | None:
    """Returns the agent of which the record may make unread mail queue-only. `started` are those with a turn that has
    started.
    """
    if isinstance(record, TurnStarted):
        started.add(record.agent)
    elif isinstance(record, TurnReturned):
        started.discard(record.agent)
    elif isinstance(record, TurnEnded):
        agent = record.outcome.agent
        if agent not in started:
            return agent
        started.remove(agent)
    return record.agent if isinstance(record, MailDemoted) else None


def others_are_unknown() -> Iterator[str]:
    """Yields what is said of agents and records of which nothing is known."""
    times, record = Times(), AgentSpawned(1, 0, "a", None)
    if times.of(0) is not None or times.of(1) is not None or times.moments(9, True, TurnState.NEW) != NOTHING:
        yield "something is said of an agent of which nothing is known"
    times.note(record)
    if times.of(1) is not None:
        yield "a record without a time says one"
    stamp([record], 3.0)
    times.note(record)
    if record.at != 3.0 or times.of(1) != (3.0, None, None):
        yield "a time that was told is not known"
    times.note(AgentSpawned(4, 0, "d", None, at=4.0))
    if [times.of(agent) for agent in range(6)] != [None, (3.0, None, None), None, None, (4.0, None, None), None]:
        yield "times of one agent are said of another"
