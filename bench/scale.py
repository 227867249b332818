"""(c) does a cycle cost more when many agents are open? (d) what does an unloaded agent cost in memory?"""

from __future__ import annotations

import tracemalloc

from bench.measure import Row, Size, at_most, best_seconds, traced_bytes
from bench.sessions import ReloadCycles, ResidentCycles, drive, residents, with_agents
from statemachine.core.config import SessionConfig
from statemachine.core.events import HOST, ROOT, Spawn
from statemachine.core.machines import Residency, TurnState
from statemachine.core.records import Outcome
from statemachine.core.session import Session

FEW = 100
RESIDENTS = 50


def cost_rows(size: Size) -> list[Row]:
    """Cycles in a session of few open agents and in one of many, with the same number of residents."""
    few, many = with_agents(FEW, RESIDENTS), with_agents(size.many, RESIDENTS)
    kept = {"few": few, "many": many}
    resident = {name: ResidentCycles(s, residents(s), size.cycles) for name, s in kept.items()}
    best = best_seconds(size.repetitions, resident)
    for work in resident.values():
        work.check()
    reload = {name: ReloadCycles(s, resident["many"].cycles) for name, s in kept.items()}
    slower = best_seconds(size.repetitions, reload)
    for reloading in reload.values():
        reloading.check()
    cycles = resident["many"].cycles
    agents = f"{size.many:,} agents"
    return [
        Row(f"(c) a cycle, {agents}", best["many"] / cycles * 1e6, "us"),
        Row(f"(c) relative to {FEW}", best["many"] / best["few"], "x", at_most(1.25)),
        Row(f"(c) with eviction and load, {agents}", slower["many"] / cycles * 1e6, "us"),
        Row(f"(c) relative to {FEW}", slower["many"] / slower["few"], "x"),
    ]


def memory_rows(size: Size) -> list[Row]:
    """What the session holds for agents that had one turn and were evicted: agent, path, indexes, outcome."""
    s = Session(SessionConfig(max_concurrent=2, max_resident=1))
    tracemalloc.start()
    before = traced_bytes()
    for number in range(1, size.many + 2):  # the last one stays resident
        drive(s, Spawn(ROOT, f"agent_{number}", "work", None, HOST), f"result of {number}")
    figures = [traced_bytes() - before]
    unloaded = [agent for agent in s.agents[1:] if agent.residency is Residency.UNLOADED]
    assert len(unloaded) == size.many
    assert all(agent.status is TurnState.COMPLETED for agent in unloaded)
    for agent in s.agents[1:]:
        agent.outcome = Outcome(agent.id, agent.turn, agent.status, "ok")
    figures.append(traced_bytes() - before)
    for agent in s.agents[1:]:
        agent.outcome = None
    figures.append(traced_bytes() - before)
    tracemalloc.stop()
    distinct, same, none = (figure / size.many for figure in figures)
    return [
        Row("(d) unloaded agent, results differ", distinct, "bytes", at_most(600)),
        Row("(d) unloaded agent, results are one string", same, "bytes", at_most(600)),
        Row("(d) unloaded agent, outcome left out", none, "bytes"),
    ]
