"""(a) turn cycles a second, (b) the same triggers on `transitions` machines, one set per agent."""

from __future__ import annotations

import tracemalloc
from typing import Any

from transitions import Machine

from bench.measure import Row, Size, at_least, best_seconds, traced_bytes
from bench.sessions import ResidentCycles, residents, with_agents
from statemachine.checking.diagrams import Model, declaration, load
from statemachine.core.machines import MAIL, SLOT, TURN

MACHINES = (TURN, SLOT, MAIL)


class TransitionsCycles:
    """One turn cycle as the triggers that it pulls on the machines of one agent; no records, effects or checks.

    Mail is read once, so the mail model is put back where it began; that costs next to nothing.
    """

    def __init__(self, cycles: int) -> None:
        self.cycles = cycles
        self.turn, self.slot, self.mail = (load(machine) for machine in MACHINES)

    def all_triggers(self) -> None:
        turn, slot, mail = self.turn, self.slot, self.mail
        for _ in range(self.cycles):
            mail.state = "accepted"
            turn.request()
            turn.admit()
            slot.reserve()
            turn.start()
            slot.activate()
            mail.read()
            turn.finish()
            slot.release()

    def turn_triggers(self) -> None:
        turn = self.turn
        for _ in range(self.cycles):
            turn.request()
            turn.admit()
            turn.start()
            turn.finish()

    def check(self) -> None:
        """The last cycle went all the way."""
        assert (self.turn.state, self.slot.state, self.mail.state) == ("completed", "free", "read")


def rows(size: Size) -> list[Row]:
    """The core and both forms of the competition, taking turns."""
    s = with_agents(1, 1)
    core, library = ResidentCycles(s, residents(s), size.cycles), TransitionsCycles(size.cycles)
    best = best_seconds(size.repetitions, {"core": core, "all": library.all_triggers, "turn": library.turn_triggers})
    core.check()
    library.check()
    rate = {name: size.cycles / taken for name, taken in best.items()}
    return [
        Row("(a) turn cycles, core", rate["core"], "/s", at_least(50_000)),
        Row("(b) transitions, the same eight triggers", rate["all"], "/s"),
        Row("(b) transitions, the four turn triggers", rate["turn"], "/s"),
        Row("(b) core relative to eight triggers", rate["core"] / rate["all"], "x", at_least(5)),
        Row("(b) core relative to four triggers", rate["core"] / rate["turn"], "x"),
        Row("(b) memory of an agent's three transitions models", model_bytes(size), "bytes"),
    ]


def model_bytes(size: Size) -> float:
    """What the three models of one agent take, bound to machines that all agents share."""
    shared: list[Machine] = [Machine(None, **declaration(machine)) for machine in MACHINES]
    agents = max(100, size.many // 100)  # binding looks through all models bound before, so it is quadratic
    kept: list[Any] = []
    tracemalloc.start()
    before = traced_bytes()
    for _ in range(agents):
        for machine in shared:
            model = Model()
            machine.add_model(model)
            kept.append(model)
    taken = traced_bytes() - before
    tracemalloc.stop()
    return taken / agents
