"""Waits that are over at the same moment: the turns return in the order in which they began to wait (J2, FIFO)."""

from __future__ import annotations

from statemachine.core import effects as fx
from statemachine.core.config import Notice, Overflow
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


def test_answered_and_hopeless_waits_stand_in_one_line_during_a_shutdown() -> None:
    """The turn of b will not start again: the request that it has read is answered, the other one is in vain (D31)."""
    s = Scenario(max_concurrent=3, max_resident=2, overflow=Overflow.QUEUE)
    s.rush("spawn root a by host", "loaded a", "spawn a b", "loaded a/b", "follow_up a a/b")
    s.rush("await a 2", "await a 1", "shutdown 1", "finished a/b")
    assert s.step is not None
    wakes = [(effect.wait, effect.end) for effect in s.step.effects if isinstance(effect, fx.Wake)]
    assert wakes == [(1, WaitEnd.DRAINING), (2, WaitEnd.ANSWERED)]


def test_turn_that_waited_in_vain_returns_before_one_that_began_later_to_wait_and_is_answered() -> None:
    """The same of two turns that have lent the one slot there is."""
    s = Scenario(max_concurrent=2, max_resident=4, overflow=Overflow.QUEUE)
    s.rush("spawn root a by host", "loaded a", "spawn root b by host", "spawn root c by host", "wait a - quiet")
    s.rush("loaded b", "follow_up b c", "wait b - quiet", "loaded c", "follow_up a c", "await a 4", "await b 3")
    s.rush("shutdown 1", "finished c")
    assert s.step is not None
    wakes = [(effect.agent, effect.end) for effect in s.step.effects if isinstance(effect, fx.Wake)]
    assert wakes == [(1, WaitEnd.DRAINING), (2, WaitEnd.ANSWERED)]


def test_turn_queued_in_a_step_may_be_due_in_it_once_another_one_has_gone_on() -> None:
    """The end of b asks for a's next turn and gives its slot to c, which waits anew and lends it: with
    `max_overtaken=1` that turn comes before d, which returns (decision D20).
    """
    s = Scenario(max_concurrent=2, max_resident=4, max_overtaken=1, notice=Notice.TRIGGER, overflow=Overflow.QUEUE)
    s.rush("spawn root a by host", "loaded a", "spawn a b", "spawn root c by host", "spawn root d by host")
    s.rush("finished a", "loaded a/b", "wait a/b - quiet", "loaded c", "wait c - quiet", "wait c - quiet")
    s.rush("loaded d", "wait d - quiet", "stop_waiting a/b 1", "stop_waiting c 2", "stop_waiting d 4").see("""
        /root      new
        /root/a    completed 1, resident, owed 1
        /root/a/b  running 1, resident, slot active, asked by a
        /root/c    returning 1, resident, asked by host, waits 3 for nothing
        /root/d    returning 1, resident, asked by host
        session    open, slots 1/1, residency 4/4, ready -, returning c d, idle a""")
    s.rush("finished a/b").see("""
        /root      new
        /root/a    running 2, resident, slot active
        /root/a/b  completed 1, resident
        /root/c    waiting 1, resident, asked by host, waits 3 for nothing
        /root/d    returning 1, resident, asked by host
        session    open, slots 1/1, residency 4/4, ready -, returning d, idle a/b""")
