"""When things happened: wall-clock seconds since the epoch, told of records when they are committed.

The core reads no clock and decides nothing by these times. A record has its time in `at`, which is not part of its
value: two records are equal whatever theirs are. What is asked of an agent long after, when the records are far back in
the log, is kept here: three numbers an agent, in arrays, because there may be a hundred thousand of them.

Files of versions that recorded no times have None, and so has what they say until it happens again.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable
from typing import Any

from attrs import frozen

from statemachine.core.machines import TurnState
from statemachine.core.records import (
    AgentResumed,
    AgentsClosed,
    AgentsForgotten,
    AgentSpawned,
    MailDemoted,
    TurnEnded,
    TurnReturned,
    TurnStarted,
)
from statemachine.log.snapshot import AgentFacts, AgentTimes

UNKNOWN = math.nan
RUNNING = TurnState.RUNNING


@frozen
class Moments:
    """When an agent came to be as it is, in seconds since the epoch; None where no record says so."""

    since: float | None
    """When it came into its status; of a turn that is asked for: when its mail came; of a closed agent: when it was
    closed.
    """
    began: float | None
    """When its last turn began."""
    ended: float | None
    """When its last turn ended."""


class Times:
    """The times of all agents, by id."""

    def __init__(self) -> None:
        self._changed, self._began, self._ended = [array("d", [UNKNOWN]) for _ in range(3)]
        """When each was opened or closed last, and when its last turn began and ended. The root is always known."""
        self._running: set[int] = set()
        """Agents whose last turn began and has not ended."""

    def restore(self, snapshot: Iterable[AgentFacts]) -> None:
        """What a snapshot says of its agents."""
        for facts in snapshot:
            if facts.status is RUNNING:
                self._running.add(facts.agent)
            self._know(facts.agent)
            if facts.times is not None:
                changed, began, ended = facts.times
                self._changed[facts.agent] = _known(changed)
                self._began[facts.agent] = _known(began)
                self._ended[facts.agent] = _known(ended)

    def commit(self, records: Iterable[Any], at: float) -> list[int]:
        """Tells the records that they are committed now, before anything has seen their times, and notes what they say.
        Returns the agents of which they may demote unread mail.
        """
        stamp(records, at)
        return self._note(records, at)

    def note(self, record: Any) -> None:
        """Notes what a record says. What is not a record of the core says nothing."""
        self._note((record,), _known(record.at))

    def _note(self, records: Iterable[Any], at: float) -> list[int]:
        """Notes the time of these records. Every turn begins and ends, so that stands here."""
        demoting: list[int] = []
        running = self._running
        for record in records:
            kind = record.__class__
            if kind is TurnStarted:
                self._began[record.agent] = at
                running.add(record.agent)
            elif kind is TurnEnded:
                agent = record.outcome.agent
                self._ended[agent] = at
                if agent in running:
                    running.remove(agent)
                else:  # it ended before it began
                    self._began[agent] = UNKNOWN
                    demoting.append(agent)
            elif kind is MailDemoted:
                demoting.append(record.outcome.agent)
            elif (note := NOTES.get(kind)) is not None:
                note(self, record, at)
        return demoting

    def turn_returned(self, record: TurnReturned, at: float) -> None:
        self._running.discard(record.agent)
        self._changed[record.agent] = at

    def spawned(self, record: AgentSpawned, at: float) -> None:
        self._know(record.agent)
        self._changed[record.agent] = at

    def resumed(self, record: AgentResumed, at: float) -> None:
        self._changed[record.agent] = at

    def closed(self, record: AgentsClosed, at: float) -> None:
        for agent in record.agents:
            self._changed[agent] = at

    def forgotten(self, record: AgentsForgotten, _: float) -> None:
        for agent in record.agents:
            for times in (self._changed, self._began, self._ended):
                times[agent] = UNKNOWN

    def of(self, agent: int) -> AgentTimes | None:
        """When the agent was opened or closed last, and when its last turn began and ended; None: nothing is known."""
        if agent >= len(self._changed):
            return None
        found = [times[agent] for times in (self._changed, self._began, self._ended)]
        changed, began, ended = [None if math.isnan(time) else time for time in found]
        return None if changed is began is ended is None else (changed, began, ended)

    def moments(self, agent: int, is_open: bool, status: TurnState, asked: float | None = None) -> Moments:
        """What they say of an agent of this status. `asked` is when the oldest mail came that asks for a turn of it."""
        changed, began, ended = self.of(agent) or (None, None, None)
        if status in (TurnState.QUEUED, TurnState.STARTING):
            since, began, ended = asked, None, None
        elif not status.is_idle:
            since, ended = began, None
        else:
            since = changed if status is TurnState.NEW else ended
        return Moments(since if is_open else changed, began, ended)

    def _know(self, agent: int) -> None:
        """Makes room for the times of a new agent."""
        missing = agent + 1 - len(self._changed)
        if missing > 0:
            for times in (self._changed, self._began, self._ended):
                times.extend([UNKNOWN] * missing)


def _known(at: float | None) -> float:
    return UNKNOWN if at is None else at


NOTES: dict[type, Callable[[Times, Any, float], None]] = {
    AgentSpawned: Times.spawned,
    TurnReturned: Times.turn_returned,
    AgentsClosed: Times.closed,
    AgentResumed: Times.resumed,
    AgentsForgotten: Times.forgotten,
}
"""Record class -> what notes its time, but for those of each turn. The others say nothing."""


def stamp(records: Iterable[Any], at: float) -> None:
    """Tells the records that they were committed then."""
    for record in records:
        record.at = at
