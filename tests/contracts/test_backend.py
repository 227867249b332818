"""A stateful machine over the slot table, with arguments that CrossHair chooses (Hypothesis's backend `crosshair`).

It is slow, about ten events a second, so it runs nightly. Random arguments find a defect that many have; this looks for
the one that only a certain argument shows.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from statemachine.core import rules
from statemachine.core.machines import SlotState
from statemachine.core.slots import Slots

CAP = 2


class SlotTable(RuleBasedStateMachine):
    """Takes and gives back slots. It has one rule: of several, Hypothesis draws which are on, which is symbolic too."""

    def __init__(self) -> None:
        super().__init__()
        self.slots = Slots(CAP)
        self.agents = 0

    @rule(takes=st.booleans(), turn=st.integers(1, 10_000))
    def step(self, takes: bool, turn: int) -> None:
        slots = self.slots
        if takes and rules.slot_is_free(slots.held, slots.cap):
            self.agents += 1
            slots.reserve(self.agents, turn)
            assert slots.holders[self.agents] == (turn, SlotState.RESERVED)
        elif slots.holders:
            slots.release(next(iter(slots.holders)))

    @invariant()
    def holders_are_counted_and_within_the_cap(self) -> None:
        assert self.slots.held == len(self.slots.holders) <= CAP


def search(examples: int) -> None:
    pytest.importorskip("hypothesis_crosshair_provider", reason="the backend: pip install hypothesis-crosshair")
    run_state_machine_as_test(
        SlotTable,
        settings=settings(
            backend="crosshair",
            max_examples=examples,
            stateful_step_count=5,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.nightly
def test_slot_table_keeps_its_cap_with_arguments_that_crosshair_chooses() -> None:
    search(20)


@pytest.mark.nightly
def test_crosshair_chooses_the_turn_whose_slot_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Slots.reserve

    def forgetful(self: Slots, agent: int, turn: int) -> None:
        original(self, agent, turn)
        if turn == 4711:
            self.held -= 1

    monkeypatch.setattr(Slots, "reserve", forgetful)
    with pytest.raises(AssertionError):
        search(50)


@pytest.mark.nightly
def test_crosshair_finds_one_slot_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "slot_is_free", lambda held, cap: held <= cap)
    with pytest.raises(AssertionError):
        search(50)
