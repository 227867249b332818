"""Shrunk counterexamples of the fuzz: each was a defect of the core, the reference or a property, and holds now."""

from __future__ import annotations

import pytest

from model.scenarios.replay import Trial
from model.scenarios.script import parse
from statemachine.core.config import Notice, SessionConfig

SECOND_NOTICE = (
    SessionConfig(max_concurrent=3, max_resident=5, max_queued=1, notice=Notice.TRIGGER),
    "spawn root b; loaded b; spawn b d; spawn b b; loaded b/d; finished b; loaded b/b; follow_up b/b b; finished b/d;"
    "follow_up b b/d; finished b; follow_up host b/d; restart",
)
"""Two turns that a crash ended tell one agent: with the first notice it asks for a turn, the second needs no room."""

CALLED_BACK = (
    SessionConfig(max_concurrent=3, max_resident=10, notify_interrupted=True),
    "spawn root a; spawn root b; loaded a; finished a; follow_up host root; died b; follow_up host a; spawn root c;"
    "follow_up host c; interrupt host c; follow_up host c; loaded c; follow_up host b; await a 9 all; loaded b;"
    "spawn root d; wait b 2 c; finished c",
)
"""One end ends two waits, of a request and of a target: the turn that began to wait first returns first."""

ROOM_OF_THE_CLOSED = (
    SessionConfig(max_concurrent=6, max_resident=40, max_queued=1, notice=Notice.TRIGGER),
    "spawn root b; spawn root d; spawn root e; spawn root f; close host d; spawn root g; interrupt host b;"
    "spawn root h; spawn root a; loaded g; resume host d; spawn g c; loaded h; wait h 2; follow_up host d; tick 2;"
    "follow_up b g; died g; close host g",
)
"""The slot of an agent that is closed with another is free for the turn that the notice of the other one asks for."""


@pytest.mark.parametrize(
    ("config", "program"),
    [SECOND_NOTICE, CALLED_BACK, ROOM_OF_THE_CLOSED],
    ids=["second notice", "called back by one end", "room of the closed"],
)
def test_core_and_reference_agree_on_what_the_fuzz_found(config: SessionConfig, program: str) -> None:
    trial = Trial(config)
    for line in program.split(";"):
        trial.play(parse(line, trial.session))
