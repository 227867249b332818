"""Sessions to measure on, and a host for them that answers every effect at once."""

from __future__ import annotations

from collections.abc import Callable

from statemachine.core.config import SessionConfig
from statemachine.core.effects import Effect, Flush, Load, StartTurn
from statemachine.core.events import HOST, ROOT, Event, Finished, Flushed, FollowUp, Loaded, Spawn
from statemachine.core.machines import Residency, TurnState
from statemachine.core.session import Session


def drive(s: Session, event: Event, result: str = "ok") -> None:
    """Handles the event, and then what the threads report: loads and flushes succeed, turns finish with `result`."""
    waiting: list[Effect] = list(s.handle(event).effects)
    for effect in waiting:
        kind = effect.__class__
        if kind is Load:
            waiting += s.handle(Loaded(effect.agent, effect.generation)).effects  # type: ignore[union-attr]
        elif kind is Flush:
            waiting += s.handle(Flushed(effect.agent, effect.generation, effect.flush)).effects  # type: ignore[union-attr]
        elif kind is StartTurn:
            waiting += s.handle(Finished(effect.agent, effect.turn, result)).effects  # type: ignore[union-attr]


def with_agents(count: int, residents: int, result: Callable[[int], str] = lambda _: "ok") -> Session:
    """A session with so many open sub-agents below the root, each of which had one turn; the last ones are resident."""
    s = Session(SessionConfig(max_concurrent=2, max_resident=residents))
    for number in range(1, count + 1):
        drive(s, Spawn(ROOT, f"agent_{number}", "work", None, HOST), result(number))
    return s


def residents(s: Session) -> list[int]:
    """The sub-agents that are in memory."""
    return [agent.id for agent in s.agents[1:] if agent.residency is Residency.RESIDENT]


class ResidentCycles:
    """Turn cycles that go round over resident agents: a follow-up by the host, and the turn finishes."""

    def __init__(self, s: Session, agents: list[int], cycles: int) -> None:
        self.session, self.agents = s, agents
        self.rounds = max(1, cycles // len(agents))
        self.turn = s.agents[agents[0]].turn
        assert all(s.agents[agent].turn == self.turn for agent in agents), "one number serves all of them"

    @property
    def cycles(self) -> int:
        """How many a call makes."""
        return self.rounds * len(self.agents)

    def __call__(self) -> None:
        handle, agents = self.session.handle, self.agents
        first, self.turn = self.turn + 1, self.turn + self.rounds
        for turn in range(first, self.turn + 1):
            for agent in agents:
                handle(FollowUp(HOST, agent, "x"))
                handle(Finished(agent, turn, "ok"))

    def check(self) -> None:
        """Every cycle was one: nothing was refused or stale, nobody was unloaded."""
        s = self.session
        assert s.stale_reports == 0
        for agent in (s.agents[number] for number in self.agents):
            assert agent.turn == self.turn
            assert agent.status is TurnState.COMPLETED
            assert agent.residency is Residency.RESIDENT


class ReloadCycles:
    """Turn cycles that go round over all agents: each evicts the agent used longest ago and loads its own."""

    def __init__(self, s: Session, cycles: int) -> None:
        self.session, self.cycles = s, cycles
        self.before = self.counts()
        self.done = 0

    def counts(self) -> tuple[int, int]:
        """How many turns and loads there have been."""
        agents = self.session.agents
        return sum(agent.turn for agent in agents), sum(agent.generation for agent in agents)

    def __call__(self) -> None:
        s, count = self.session, len(self.session.agents) - 1
        for number in range(self.done, self.done + self.cycles):
            drive(s, FollowUp(HOST, number % count + 1, "x"))
        self.done += self.cycles

    def check(self) -> None:
        """Every cycle was one, and went with an eviction and a load."""
        assert self.session.stale_reports == 0
        assert self.counts() == (self.before[0] + self.done, self.before[1] + self.done)
