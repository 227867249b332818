"""A shutdown with turns that start, wait and return (`statemachine/core/joint.py`; semantics.md section 7)."""

from __future__ import annotations

from statemachine.core import effects as fx
from statemachine.core.config import Overflow
from statemachine.core.effects import WaitEnd
from statemachine.core.events import ROOT
from tests.core.scenario import Scenario, answered

QUEUE = Overflow.QUEUE


def test_shutdown_puts_starting_turns_back_into_the_queue_and_gives_their_slots_back() -> None:
    s = Scenario(max_concurrent=3, max_resident=2, overflow=QUEUE)
    s.rush("spawn root a by host", "loaded a", "spawn root b by host", "spawn root c by host").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        /root/b  starting 1, loading, slot reserved, unread host!
        /root/c  queued 1, unread host!
        session  open, slots 2/2, residency 2/2, ready c, idle -""")
    s.play("shutdown 9").asks(fx.Flush(ROOT, 0, 1)).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        /root/b  queued 1, loading, unread host!
        /root/c  queued 1, unread host!
        session  draining, slots 1/2, residency 2/2, ready c b, idle -, done -, interrupted -, unflushed -""")
    s.play("loaded b").asks().see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        /root/b  queued 1, resident, unread host!
        /root/c  queued 1, unread host!
        session  draining, slots 1/2, residency 2/2, ready c b, idle b, done -, interrupted -, unflushed -""")


def test_shutdown_stops_making_room_for_starting_turns() -> None:
    s = Scenario(max_concurrent=3, max_resident=2, overflow=QUEUE)
    s.rush(
        "spawn root a by host", "loaded a", "finished a", "spawn root b by host", "loaded b", "spawn root c by host"
    ).see("""
        /root    new
        /root/a  completed 1, unloading, makes room for c
        /root/b  running 1, resident, slot active, asked by host
        /root/c  starting 1, slot reserved, unread host!
        session  open, slots 2/2, residency 2/2, ready -, idle -""")
    s.play("shutdown 9").asks(fx.Flush(ROOT, 0, 2)).see("""
        /root    new
        /root/a  completed 1, unloading
        /root/b  running 1, resident, slot active, asked by host
        /root/c  queued 1, unread host!
        session  draining, slots 1/2, residency 2/2, ready c, idle -, done -, interrupted -, unflushed -""")
    s.play("flushed a").asks(fx.Unload(1, 1)).see("""
        /root    new
        /root/a  completed 1
        /root/b  running 1, resident, slot active, asked by host
        /root/c  queued 1, unread host!
        session  draining, slots 1/2, residency 1/2, ready c, idle -, done -, interrupted -, unflushed -""")


def test_wait_for_a_turn_that_will_not_start_is_over_and_one_for_a_turn_at_work_goes_on() -> None:
    s = Scenario()
    s.rush("start root", "spawn root a", "loaded a", "spawn root b", "await root 1", "await root 2").see("""
        /root    running 1, slot active, asked by host, owed 2, waits 1 for request 1, waits 2 for request 2
        /root/a  running 1, resident, slot active, asked by root
        /root/b  starting 1, loading, slot reserved, unread root!
        session  open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("shutdown 9").asks(fx.Wake(ROOT, 1, 2, WaitEnd.DRAINING)).see("""
        /root    running 1, slot active, asked by host, owed 2, waits 1 for request 1
        /root/a  running 1, resident, slot active, asked by root
        /root/b  queued 1, loading, unread root!
        session  draining, slots 1/3, residency 2/3, ready b, idle -, done -, interrupted -, unflushed -""")
    s.play("finished a").asks(answered(1, 1, 1), fx.Wake(ROOT, 1, 1, WaitEnd.ANSWERED), fx.Flush(1, 1, 1)).see("""
        /root    running 1, slot active, asked by host, owed 1
        /root/a  completed 1, resident
        /root/b  queued 1, loading, unread root!
        session  draining, slots 0/3, residency 2/3, ready b, idle a, done a, interrupted -, unflushed -""")


def test_wait_for_any_of_two_requests_goes_on_while_one_of_them_may_be_answered() -> None:
    s = Scenario()
    s.rush("start root", "spawn root a", "loaded a", "spawn root b", "await root 1 2").see("""
        /root    running 1, slot active, asked by host, owed 2, waits 1 for request 1 or request 2
        /root/a  running 1, resident, slot active, asked by root
        /root/b  starting 1, loading, slot reserved, unread root!
        session  open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("shutdown 9").asks().see("""
        /root    running 1, slot active, asked by host, owed 2, waits 1 for request 1 or request 2
        /root/a  running 1, resident, slot active, asked by root
        /root/b  queued 1, loading, unread root!
        session  draining, slots 1/3, residency 2/3, ready b, idle -, done -, interrupted -, unflushed -""")


def test_wait_for_all_of_two_requests_is_over_if_one_of_them_will_not_be_answered() -> None:
    s = Scenario()
    s.rush("start root", "spawn root a", "loaded a", "spawn root b", "await root 1 2 all").see("""
        /root    running 1, slot active, asked by host, owed 2, waits 1 for request 1 and request 2
        /root/a  running 1, resident, slot active, asked by root
        /root/b  starting 1, loading, slot reserved, unread root!
        session  open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("shutdown 9").asks(fx.Wake(ROOT, 1, 1, WaitEnd.DRAINING)).see("""
        /root    running 1, slot active, asked by host, owed 2
        /root/a  running 1, resident, slot active, asked by root
        /root/b  queued 1, loading, unread root!
        session  draining, slots 1/3, residency 2/3, ready b, idle -, done -, interrupted -, unflushed -""")


def test_wait_for_a_target_that_will_not_start_is_over() -> None:
    s = Scenario()
    s.rush("start root", "spawn root b by host", "wait root 5 quiet b").see("""
        /root    running 1, slot active, asked by host, waits 1 for b
        /root/b  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("shutdown 9").asks(fx.Wake(ROOT, 1, 1, WaitEnd.DRAINING)).see("""
        /root    running 1, slot active, asked by host
        /root/b  queued 1, loading, unread host!
        session  draining, slots 0/3, residency 1/3, ready b, idle -, done -, interrupted -, unflushed -""")


def test_wait_for_mail_goes_on_while_another_turn_is_at_work_and_is_over_when_none_is() -> None:
    s = Scenario()
    s.rush("start root", "spawn root a by host", "loaded a", "wait root 5").see("""
        /root    running 1, slot active, asked by host, waits 1 for mail
        /root/a  running 1, resident, slot active, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("shutdown 9").asks().see("""
        /root    running 1, slot active, asked by host, waits 1 for mail
        /root/a  running 1, resident, slot active, asked by host
        session  draining, slots 1/3, residency 1/3, ready -, idle -, done -, interrupted -, unflushed -""")
    s.play("finished a").asks(answered(1, 1, 1), fx.Wake(ROOT, 1, 1, WaitEnd.DRAINING), fx.Flush(1, 1, 1)).see("""
        /root    running 1, slot active, asked by host
        /root/a  completed 1, resident
        session  draining, slots 0/3, residency 1/3, ready -, idle a, done a, interrupted -, unflushed -""")


def test_wait_by_choice_is_left_alone() -> None:
    s = Scenario()
    s.rush("start root", "wait root - quiet").see("""
        /root    running 1, slot active, asked by host, waits 1 for nothing
        session  open, slots 0/3, residency 0/3, ready -, idle -""")
    s.play("shutdown 9").asks().see("""
        /root    running 1, slot active, asked by host, waits 1 for nothing
        session  draining, slots 0/3, residency 0/3, ready -, idle -, done -, interrupted -, unflushed -""")


def test_timeout_is_no_way_out_of_a_wait_in_vain() -> None:
    s = Scenario()
    s.rush("start root", "spawn root b by host", "await root within 5 1").see("""
        /root    running 1, slot active, asked by host, waits 1 for request 1
        /root/b  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("shutdown 9").asks(fx.Wake(ROOT, 1, 1, WaitEnd.DRAINING)).see("""
        /root    running 1, slot active, asked by host
        /root/b  queued 1, loading, unread host!
        session  draining, slots 0/3, residency 1/3, ready b, idle -, done -, interrupted -, unflushed -""")


def test_wait_that_is_begun_in_vain_is_over_at_once() -> None:
    s = Scenario()
    s.rush("start root", "spawn root b by host", "shutdown 9").see("""
        /root    running 1, slot active, asked by host
        /root/b  queued 1, loading, unread host!
        session  draining, slots 0/3, residency 1/3, ready b, idle -, done -, interrupted -, unflushed -""")
    s.play("await root 1").says(fx.WaitOver(WaitEnd.DRAINING)).same()
    s.play("wait root 5").says(fx.WaitOver(WaitEnd.DRAINING)).same()
    s.play("wait root 5 quiet b").says(fx.WaitOver(WaitEnd.DRAINING)).same()


def test_turn_that_returns_gets_the_slot_of_a_starting_turn() -> None:
    s = Scenario(max_concurrent=2, max_resident=2, overflow=QUEUE)
    s.rush("spawn root a by host", "loaded a", "wait a 5", "spawn root b by host", "send host a").see("""
        /root    new
        /root/a  returning 1, resident, asked by host, unread host
        /root/b  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/1, residency 2/2, ready -, returning a, idle -""")
    s.play("shutdown 9").asks(fx.Wake(1, 1, 1, WaitEnd.MAIL), fx.Flush(ROOT, 0, 1)).see("""
/root    new
/root/a  running 1, resident, slot active, asked by host, unread host
/root/b  queued 1, loading, unread host!
session  draining, slots 1/1, residency 2/2, ready b, overtaken 1, idle -, done -, interrupted -, unflushed -""")


def test_slot_is_lent_to_a_returning_turn_and_not_to_the_queue() -> None:
    s = Scenario(max_concurrent=2, max_resident=4, overflow=QUEUE)
    s.rush(
        "spawn root a by host",
        "loaded a",
        "wait a 5",
        "spawn root b by host",
        "loaded b",
        "spawn root c by host",
        "shutdown 9",
    ).see("""
        /root    new
        /root/a  waiting 1, resident, asked by host, waits 1 for mail
        /root/b  running 1, resident, slot active, asked by host
        /root/c  queued 1, unread host!
        session  draining, slots 1/1, residency 2/4, ready c, idle -, done -, interrupted -, unflushed -""")
    s.play("wait b - quiet").asks().see("""
        /root    new
        /root/a  waiting 1, resident, asked by host, waits 1 for mail
        /root/b  running 1, resident, slot active, asked by host, waits 2 for nothing
        /root/c  queued 1, unread host!
        session  draining, slots 1/1, residency 2/4, ready c, idle -, done -, interrupted -, unflushed -""")
    s.play("tick 5").asks(fx.Wake(1, 1, 1, WaitEnd.TIMEOUT)).see("""
/root    new
/root/a  running 1, resident, slot active, asked by host
/root/b  waiting 1, resident, asked by host, waits 2 for nothing
/root/c  queued 1, unread host!
session  draining, slots 1/1, residency 2/4, ready c, overtaken 1, idle -, done -, interrupted -, unflushed -""")


def test_next_turn_does_not_begin_and_its_mail_waits_for_the_session_that_opens_the_log() -> None:
    s = Scenario()
    s.rush("spawn root a by host", "loaded a", "follow_up host a", "shutdown 9").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread host!
        session  draining, slots 1/3, residency 1/3, ready -, idle -, done -, interrupted -, unflushed -""")
    s.play("finished a").asks(answered(1, 1, 0), fx.Flush(1, 1, 2)).see("""
        /root    new
        /root/a  completed 1, resident, unread host!
        session  draining, slots 0/3, residency 1/3, ready -, idle a, done a, interrupted -, unflushed -""")


def test_end_of_the_grace_stops_waiting_and_returning_turns_too() -> None:
    s = Scenario(max_concurrent=2, max_resident=3, overflow=QUEUE)
    s.rush(
        "spawn root a by host",
        "loaded a",
        "wait a - quiet",
        "spawn root b by host",
        "loaded b",
        "wait b 5 quiet root",
        "spawn root c by host",
        "loaded c",
        "shutdown 9",
    ).see("""
/root    new
/root/a  waiting 1, resident, asked by host, waits 1 for nothing
/root/b  returning 1, resident, asked by host
/root/c  running 1, resident, slot active, asked by host
session  draining, slots 1/1, residency 3/3, ready -, returning b, idle -, done -, interrupted -, unflushed -""")
    s.play("tick 9").asks(
        fx.Wake(1, 1, 1, WaitEnd.INTERRUPTED),
        fx.Cancel(1, 1),
        fx.Wake(2, 1, 2, WaitEnd.DRAINING),
        fx.Cancel(2, 1),
        fx.Cancel(3, 1),
    ).see("""
        /root    new
        /root/a  stopping 1, resident, shut down, asked by host
        /root/b  stopping 1, resident, shut down, asked by host
        /root/c  stopping 1, resident, slot active, shut down, asked by host
        session  draining, slots 1/1, residency 3/3, ready -, idle -, done -, interrupted -, unflushed -""")


def test_second_shutdown_with_less_grace_ends_it_sooner() -> None:
    s = Scenario()
    s.rush("spawn root a by host", "loaded a", "shutdown 9", "tick 2").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        session  draining, slots 1/3, residency 1/3, ready -, idle -, done -, interrupted -, unflushed -""")
    s.play("shutdown 3").says(fx.ShuttingDown()).asks().see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        session  draining, slots 1/3, residency 1/3, ready -, idle -, done -, interrupted -, unflushed -""")
    s.play("tick 3").asks(fx.Cancel(1, 1)).see("""
        /root    new
        /root/a  stopping 1, resident, slot active, shut down, asked by host
        session  draining, slots 1/3, residency 1/3, ready -, idle -, done -, interrupted -, unflushed -""")


def test_second_shutdown_with_more_grace_changes_nothing() -> None:
    s = Scenario()
    s.rush("spawn root a by host", "loaded a", "shutdown 9", "tick 2").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        session  draining, slots 1/3, residency 1/3, ready -, idle -, done -, interrupted -, unflushed -""")
    s.play("shutdown 8").says(fx.ShuttingDown()).asks().see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        session  draining, slots 1/3, residency 1/3, ready -, idle -, done -, interrupted -, unflushed -""")
    s.play("tick 7").asks(fx.Cancel(1, 1)).see("""
        /root    new
        /root/a  stopping 1, resident, slot active, shut down, asked by host
        session  draining, slots 1/3, residency 1/3, ready -, idle -, done -, interrupted -, unflushed -""")


def test_turn_that_is_returned_in_a_shutdown_does_not_begin_again_and_is_listed_as_interrupted() -> None:
    s = Scenario(max_attempts=2)
    s.rush("spawn root a by host", "loaded a", "shutdown 9", "flushed root").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        session  draining, slots 1/3, residency 1/3, ready -, idle -, done -, interrupted -, unflushed -""")
    s.play("died a").asks(fx.Unload(ROOT, 0), fx.ShutDown((), (1,), (1,))).see("""
        /root    new
        /root/a  new 1, unread host!, returned 1
        session  closed, slots 0/3, residency 0/3, ready -, idle -, done -, interrupted a, unflushed a""")


def test_wait_that_is_over_at_once_because_the_session_drains_is_in_no_circle() -> None:
    """It awaits its own request, which it has taken, and one that will not start: it has no way out (D21, D26)."""
    s = Scenario(max_concurrent=2, max_resident=2, overflow=Overflow.QUEUE)
    s.rush("spawn root a by host", "spawn a b by host", "loaded a", "shutdown 5", "await a 0 1 all")
    assert s.step is not None
    assert s.step.reply == fx.WaitOver(fx.WaitEnd.DRAINING)


def test_wait_that_nothing_can_end_any_more_at_the_moment_of_its_timeout_is_over_because_the_session_drains() -> None:
    """Conditions come before timeouts, and so does that no turn which works is left (D26)."""
    s = Scenario(max_concurrent=4, stop_grace=1)
    s.rush("spawn root c", "loaded c", "follow_up host root", "interrupt host c", "wait root 1", "shutdown 9", "tick 1")
    assert s.step is not None
    assert [effect for effect in s.step.effects if isinstance(effect, fx.Wake)] == [
        fx.Wake(ROOT, 1, 1, fx.WaitEnd.DRAINING)
    ]
