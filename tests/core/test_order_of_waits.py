"""Waits that are over at the same moment: the turns return in the order in which they began to wait (J2, FIFO)."""

from __future__ import annotations

from statemachine.core import effects as fx
from statemachine.core.config import Overflow
from statemachine.core.effects import WaitEnd
from tests.core.scenario import Scenario


def test_turn_that_waits_for_a_request_returns_before_one_that_began_later_to_wait_for_its_agent() -> None:
    s = Scenario(max_concurrent=2, max_resident=4, overflow=Overflow.QUEUE)
    s.rush("spawn root a", "loaded a", "spawn root b", "spawn a c by a", "await a 2", "loaded a/c")
    s.rush("wait a/c 5", "loaded b", "wait b 5 quiet a/c", "send host a/c", "finished a/c")
    assert s.step is not None
    wakes = [effect for effect in s.step.effects if isinstance(effect, fx.Wake)]
    assert wakes == [fx.Wake(1, 1, 1, WaitEnd.ANSWERED)]
    assert list(s.session.waits.returning) == [2], "b, which began later and waits for the end of the same turn"


def test_waits_of_a_turn_return_in_the_order_in_which_they_began() -> None:
    """Whichever was over first, and whether the turn goes on or is stopped (decision D31)."""
    for last, ends in (
        ("finished b", [(1, WaitEnd.GIVEN_UP), (2, WaitEnd.TIMEOUT)]),
        ("interrupt host a", [(1, WaitEnd.INTERRUPTED), (2, WaitEnd.TIMEOUT)]),
    ):
        s = Scenario(max_concurrent=2, max_resident=3, overflow=Overflow.QUEUE)
        s.rush("spawn root a by host", "loaded a", "wait a - quiet", "wait a 5", "spawn root b by host", "loaded b")
        s.rush("tick 5", *(["stop_waiting a 1"] if last == "finished b" else []), last)
        assert s.step is not None
        wakes = [(effect.wait, effect.end) for effect in s.step.effects if isinstance(effect, fx.Wake)]
        assert wakes == ends


def test_turn_that_goes_on_is_told_before_one_that_starts_though_that_one_was_due_first() -> None:
    """Two slots are free in one step: slots come before starts (decision D31)."""
    s = Scenario(max_concurrent=3, max_resident=32, max_overtaken=1, load_timeout=1, overflow=Overflow.QUEUE)
    s.rush("spawn root a", "spawn root b", "spawn root e", "interrupt host b", "spawn e c by a", "loaded e")
    s.rush("follow_up host e", "wait e - quiet", "finished e", "loaded e/c", "spawn e/c a", "await e/c 6", "tick 1")
    assert s.step is not None
    told = [effect for effect in s.step.effects if isinstance(effect, fx.Wake | fx.StartTurn)]
    assert [(effect.__class__, effect.agent) for effect in told] == [(fx.Wake, 4), (fx.StartTurn, 3)]
