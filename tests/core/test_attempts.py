"""Turns that end in time, and again: attempts, loads that crashes cut off, `turn_timeout` (semantics.md section 7)."""

from __future__ import annotations

from statemachine.core import effects as fx
from statemachine.core.config import Notice, Overflow
from statemachine.core.effects import WaitEnd
from statemachine.core.events import HOST, ROOT
from statemachine.core.machines import TurnState
from statemachine.core.records import Cause, MailAccepted, MailKind, Outcome
from tests.core.scenario import LIVE, Scenario

QUEUE = Overflow.QUEUE
TRIGGER = Notice.TRIGGER


# Attempts (S17)


def test_turn_whose_thread_dies_is_returned_and_all_that_it_had_read_is_unread_again_in_its_place() -> None:
    s = Scenario(max_attempts=2)
    s.rush("spawn root a by host", "send host a", "loaded a", "follow_up host a", "drain a", "send host a").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host host, unread host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("died a").asks(fx.Load(1, 2, "settings of a")).see("""
        /root    new
        /root/a  starting 2, loading, slot reserved, unread host! host host! host, returned 1
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


def test_turn_that_a_crash_ends_is_returned_and_its_own_requests_stay() -> None:
    s = Scenario(max_attempts=2)
    s.rush("start root", "spawn root a", "loaded a", "spawn root/a b").see("""
        /root      running 1, slot active, asked by host, owed 1
        /root/a    running 1, resident, slot active, asked by root, owed 1
        /root/a/b  starting 1, loading, slot reserved, unread a!
        session    open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("restart").asks(
        fx.StartTurn(ROOT, 2, 0, (MailAccepted(0, HOST, ROOT, MailKind.TRIGGER, "work"),), 2),
        fx.Load(2, 1, "settings of b"),
    ).see("""
        /root      running 2, slot active, asked by host, owed 1, returned 1
        /root/a    starting 2, slot reserved, unread root!, owed 1, returned 1
        /root/a/b  starting 1, loading, slot reserved, unread a!, loads lost 1
        session    open, slots 2/3, residency 1/3, ready -, idle -""")


def test_waiting_turn_that_a_death_ends_is_returned_with_its_waits_over() -> None:
    s = Scenario(max_concurrent=2, max_resident=2, max_attempts=2, overflow=QUEUE)
    s.rush("spawn root a by host", "loaded a", "wait a 9", "spawn root b by host", "loaded b").see("""
        /root    new
        /root/a  waiting 1, resident, asked by host, waits 1 for mail
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 1/1, residency 2/2, ready -, idle -""")
    s.play("died a").asks().see("""
        /root    new
        /root/a  queued 2, unread host!, returned 1
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 1/1, residency 1/2, ready a, idle -""")


def test_poison_turn_ends_after_its_attempts_and_its_requesters_are_told_then() -> None:
    s = Scenario(max_attempts=3)
    s.rush("start root", "spawn root a", "loaded a", "died a", "loaded a", "died a", "loaded a").see("""
        /root    running 1, slot active, asked by host, owed 1
        /root/a  running 3, resident, slot active, asked by root, returned 2
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("died a").asks(
        fx.Answer((1,), Outcome(1, 3, TurnState.ERRORED, "its thread died: lost", Cause.THREAD_DIED))
    ).see("""
        /root    running 1, slot active, asked by host, unread a=errored
        /root/a  errored 3
        session  open, slots 0/3, residency 0/3, ready -, idle -""")


def test_attempts_begin_anew_after_an_end_of_another_kind() -> None:
    s = Scenario(max_attempts=2)
    s.rush("spawn root a by host", "loaded a", "died a", "loaded a", "failed a", "follow_up host a", "loaded a").see("""
        /root    new
        /root/a  running 3, resident, slot active, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("died a").asks(fx.Load(1, 3, "settings of a")).see("""
        /root    new
        /root/a  starting 4, loading, slot reserved, unread host!, returned 1
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


def test_attempts_begin_anew_when_the_agent_is_closed() -> None:
    s = Scenario(max_attempts=2)
    s.rush(
        "spawn root a by host", "loaded a", "died a", "close host a", "resume host a", "follow_up host a", "loaded a"
    ).see("""
        /root    new
        /root/a  running 3, resident, slot active, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("died a").asks(fx.Load(1, 4, "settings of a")).see("""
        /root    new
        /root/a  starting 4, loading, slot reserved, unread host!, returned 1
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


def test_attempts_begin_anew_when_an_idle_agent_is_closed_whose_last_turn_was_returned() -> None:
    s = Scenario(notice=TRIGGER, max_attempts=2)
    s.rush(
        "spawn root a by host",
        "loaded a",
        "spawn root/a b",
        "loaded a/b",
        "finished a",
        "finished a/b",
        "shutdown 9",
        "died a",
    ).see("""
        /root      new
        /root/a    new 2, unread a/b=completed!, returned 1
        /root/a/b  completed 1, resident
        session    draining, slots 0/3, residency 1/3, ready -, idle a/b, done -, interrupted a, unflushed a""")
    s.rush("close host a", "restart", "resume host a", "follow_up host a", "loaded a").see("""
        /root      new
        /root/a    running 3, resident, slot active, asked by host
        /root/a/b  closed with a, completed 1
        session    open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("died a").asks(fx.Load(1, 2, "settings of a")).see("""
        /root      new
        /root/a    starting 4, loading, slot reserved, unread host!, returned 1
        /root/a/b  closed with a, completed 1
        session    open, slots 1/3, residency 1/3, ready -, idle -""")


def test_attempts_begin_anew_after_an_interrupt_before_the_start() -> None:
    s = Scenario(max_attempts=2)
    s.rush(
        "spawn root a by host",
        "loaded a",
        "died a",
        "interrupt host a",
        "load_failed a",
        "follow_up host a",
        "loaded a",
    ).see("""
        /root    new
        /root/a  running 3, resident, slot active, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("died a").asks(fx.Load(1, 4, "settings of a")).see("""
        /root    new
        /root/a  starting 4, loading, slot reserved, unread host host!, returned 1
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


def test_stopping_turn_that_loses_its_thread_is_not_returned() -> None:
    s = Scenario(max_attempts=2)
    s.rush("spawn root a by host", "loaded a", "interrupt host a").see("""
        /root    new
        /root/a  stopping 1, resident, slot active, interrupted by host, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("died a").asks(
        fx.Answer((0,), Outcome(1, 1, TurnState.INTERRUPTED, "its thread died", Cause.THREAD_DIED))
    ).see("""
        /root    new
        /root/a  interrupted 1
        session  open, slots 0/3, residency 0/3, ready -, idle -""")


def test_stopping_turn_that_a_crash_cuts_off_ends_by_its_stop_and_its_requesters_are_told_as_that_would_have() -> None:
    s = Scenario(max_attempts=2)
    s.rush("start root", "spawn root a", "loaded a", "interrupt host a").see("""
        /root    running 1, slot active, asked by host, owed 1
        /root/a  stopping 1, resident, slot active, interrupted by host, asked by root
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("restart").asks(
        fx.Answer((1,), Outcome(1, 1, TurnState.INTERRUPTED, "interrupted by a crash", Cause.INTERRUPTED, HOST)),
        fx.StartTurn(ROOT, 2, 0, (MailAccepted(0, HOST, ROOT, MailKind.TRIGGER, "work"),), 2),
    ).see("""
        /root    running 2, slot active, asked by host, returned 1
        /root/a  interrupted 1
        session  open, slots 0/3, residency 0/3, ready -, idle -""")


def test_turn_that_fails_is_not_returned() -> None:
    s = Scenario(max_attempts=2)
    s.rush("spawn root a by host", "loaded a").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("failed a").asks(fx.Answer((0,), Outcome(1, 1, TurnState.ERRORED, "error", Cause.FAILED))).see("""
        /root    new
        /root/a  errored 1, resident
        session  open, slots 0/3, residency 1/3, ready -, idle a""")


def test_live_thread_that_dies_is_closed_and_not_returned() -> None:
    s = Scenario(slot_policy=LIVE, max_attempts=2)
    s.rush("spawn root a by host", "loaded a").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("died a").asks(
        fx.Answer((0,), Outcome(1, 1, TurnState.ERRORED, "its thread died: lost", Cause.THREAD_DIED))
    ).see("""
        /root    new
        /root/a  closed, errored 1
        session  open, slots 0/3, residency 0/3, ready -, idle -""")


def test_turn_with_one_attempt_ends_by_its_first_death_as_ever() -> None:
    s = Scenario()
    s.rush("start root", "spawn root a", "loaded a").see("""
        /root    running 1, slot active, asked by host, owed 1
        /root/a  running 1, resident, slot active, asked by root
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("died a").asks(
        fx.Answer((1,), Outcome(1, 1, TurnState.ERRORED, "its thread died: lost", Cause.THREAD_DIED))
    ).see("""
        /root    running 1, slot active, asked by host, unread a=errored
        /root/a  errored 1
        session  open, slots 0/3, residency 0/3, ready -, idle -""")


def test_mail_that_is_returned_may_exceed_max_unread() -> None:
    s = Scenario(max_attempts=2, max_unread=2)
    s.rush("spawn root a by host", "loaded a", "send host a", "drain a", "send host a").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("died a").asks(fx.Load(1, 2, "settings of a")).see("""
        /root    new
        /root/a  starting 2, loading, slot reserved, unread host! host host, returned 1
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("send host a").refused("MailboxFull", 1, 3, 0, 2)


def test_slot_of_a_turn_that_is_returned_goes_to_the_first_who_queues() -> None:
    s = Scenario(max_concurrent=2, max_attempts=2, overflow=QUEUE)
    s.rush("spawn root a by host", "loaded a", "spawn root b by host").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        /root/b  queued 1, unread host!
        session  open, slots 1/1, residency 1/1, ready b, idle -""")
    s.play("died a").asks(fx.Load(2, 1, "settings of b")).see("""
        /root    new
        /root/a  queued 2, unread host!, returned 1
        /root/b  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/1, residency 1/1, ready a, idle -""")


# Loads that crashes cut off


def test_load_that_crashes_cut_off_three_times_is_not_tried_a_fourth_time() -> None:
    s = Scenario()
    s.rush("start root", "spawn root a", "restart", "restart").see("""
        /root    interrupted 1, owed 1
        /root/a  starting 1, loading, slot reserved, unread root!, loads lost 2
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("restart").asks(
        fx.Answer((1,), Outcome(1, 1, TurnState.ERRORED, "load failed: 3 crashes cut it off", Cause.LOADS_LOST))
    ).see("""
        /root    interrupted 1, unread a=errored
        /root/a  errored 1, unread root
        session  open, slots 0/3, residency 0/3, ready -, idle -""")


def test_load_that_a_crash_cut_off_is_made_alone_so_that_the_next_crash_tells_whose_fault_it_is() -> None:
    s = Scenario(max_concurrent=5, max_resident=4)
    s.rush("spawn root a by host", "spawn root b by host", "spawn root c by host").rush("restart").see("""
        /root    new
        /root/a  starting 1, loading, slot reserved, unread host!, loads lost 1
        /root/b  starting 1, slot reserved, unread host!, loads lost 1
        /root/c  starting 1, slot reserved, unread host!, loads lost 1
        session  open, slots 3/4, residency 1/4, ready -, idle -""")
    s.rush("restart", "restart").see("""
        /root    new
        /root/a  errored 1, unread host
        /root/b  starting 1, loading, slot reserved, unread host!, loads lost 1
        /root/c  starting 1, slot reserved, unread host!, loads lost 1
        session  open, slots 2/4, residency 1/4, ready -, idle -""")
    s.play("spawn root d by host").asks().see("""
        /root    new
        /root/a  errored 1, unread host
        /root/b  starting 1, loading, slot reserved, unread host!, loads lost 1
        /root/c  starting 1, slot reserved, unread host!, loads lost 1
        /root/d  starting 1, slot reserved, unread host!
        session  open, slots 3/4, residency 1/4, ready -, idle -""")
    s.rush("loaded b", "loaded c").see("""
        /root    new
        /root/a  errored 1, unread host
        /root/b  running 1, resident, slot active, asked by host
        /root/c  running 1, resident, slot active, asked by host
        /root/d  starting 1, loading, slot reserved, unread host!
        session  open, slots 3/4, residency 3/4, ready -, idle -""")


def test_interrupt_of_a_queued_turn_whose_load_was_lost_lets_the_others_load() -> None:
    s = Scenario(max_concurrent=3, overflow=QUEUE)
    s.rush("spawn root a", "spawn root d", "spawn a e", "loaded a", "spawn a c", "restart").see("""
        /root      new, unread a=interrupted, owed 1
        /root/a    interrupted 1, owed 2
        /root/d    queued 1, unread root!, loads lost 1
        /root/a/e  starting 1, loading, slot reserved, unread a!
        /root/a/c  starting 1, slot reserved, unread a!
        session  open, slots 2/2, residency 1/2, ready d, overtaken 2, idle -""")
    interrupted = Outcome(2, 1, TurnState.INTERRUPTED, "interrupted before it started", Cause.NOT_STARTED, -1)
    s.play("interrupt host d").asks(fx.Answer((1,), interrupted), fx.Load(4, 1, "settings of c"))


def test_load_is_tried_as_often_as_attempts_are_if_those_are_more() -> None:
    s = Scenario(max_attempts=4)
    s.rush("spawn root a by host", "restart", "restart", "restart").see("""
        /root    new
        /root/a  starting 1, loading, slot reserved, unread host!, loads lost 3
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("restart").asks(
        fx.Answer((0,), Outcome(1, 1, TurnState.ERRORED, "load failed: 4 crashes cut it off", Cause.LOADS_LOST))
    ).see("""
        /root    new
        /root/a  errored 1, unread host
        session  open, slots 0/3, residency 0/3, ready -, idle -""")


def test_loads_are_counted_anew_after_a_turn_started() -> None:
    s = Scenario()
    s.rush(
        "spawn root a by host", "restart", "restart", "loaded a", "finished a", "restart", "follow_up host a", "restart"
    ).see("""
        /root    new
        /root/a  starting 2, loading, slot reserved, unread host!, loads lost 1
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("restart").asks(fx.Load(1, 1, "settings of a")).see("""
        /root    new
        /root/a  starting 2, loading, slot reserved, unread host!, loads lost 2
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


def test_loads_that_failed_are_not_counted() -> None:
    s = Scenario()
    s.rush("spawn root a by host", "restart", "restart", "load_failed a", "follow_up host a").see("""
        /root    new
        /root/a  starting 2, loading, slot reserved, unread host host!
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("restart").asks(fx.Load(1, 1, "settings of a")).see("""
        /root    new
        /root/a  starting 2, loading, slot reserved, unread host host!, loads lost 1
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


def test_load_that_a_shutdown_ends_is_not_counted() -> None:
    s = Scenario()
    s.rush("spawn root a by host", "restart", "restart", "shutdown 5", "loaded a", "flushed root").see("""
        /root    new
        /root/a  queued 1, unread host!
        session  closed, slots 0/3, residency 0/3, ready a, idle -, done -, interrupted -, unflushed -""")
    s.play("restart").asks(fx.Load(1, 1, "settings of a")).see("""
        /root    new
        /root/a  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


# turn_timeout


def test_turn_timeout_counts_from_the_start_and_not_from_the_request() -> None:
    s = Scenario(turn_timeout=5)
    s.rush("spawn root a by host", "tick 3", "loaded a").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("tick 4").asks().see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("tick 1").asks(fx.Cancel(1, 1)).see("""
        /root    new
        /root/a  stopping 1, resident, slot active, timed out, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


def test_turn_timeout_counts_while_the_turn_waits_without_a_slot() -> None:
    s = Scenario(max_concurrent=2, max_resident=2, turn_timeout=5, overflow=QUEUE)
    s.rush("spawn root a by host", "loaded a", "wait a 9", "spawn root b by host", "tick 3", "loaded b").see("""
        /root    new
        /root/a  waiting 1, resident, asked by host, waits 1 for mail
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 1/1, residency 2/2, ready -, idle -""")
    s.play("tick 2").asks(fx.Wake(1, 1, 1, WaitEnd.INTERRUPTED), fx.Cancel(1, 1)).see("""
        /root    new
        /root/a  stopping 1, resident, timed out, asked by host
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 1/1, residency 2/2, ready -, idle -""")


def test_turn_timeout_stops_a_turn_that_returns() -> None:
    s = Scenario(max_concurrent=2, max_resident=2, turn_timeout=5, overflow=QUEUE)
    s.rush(
        "spawn root a by host", "loaded a", "wait a 9", "spawn root b by host", "tick 3", "loaded b", "send host a"
    ).see("""
        /root    new
        /root/a  returning 1, resident, asked by host, unread host
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 1/1, residency 2/2, ready -, returning a, idle -""")
    s.play("tick 2").asks(fx.Wake(1, 1, 1, WaitEnd.MAIL), fx.Cancel(1, 1)).see("""
        /root    new
        /root/a  stopping 1, resident, timed out, asked by host, unread host
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 1/1, residency 2/2, ready -, idle -""")


def test_turn_that_timed_out_tells_its_requesters_though_interrupted_turns_do_not() -> None:
    s = Scenario(turn_timeout=5)
    s.rush("start root", "tick 1", "spawn root a", "loaded a", "finished root", "tick 5").see("""
        /root    completed 1, owed 1
        /root/a  stopping 1, resident, slot active, timed out, asked by root
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("aborted a").asks(
        fx.Answer((1,), Outcome(1, 1, TurnState.INTERRUPTED, "interrupted", Cause.TIMED_OUT))
    ).see("""
        /root    completed 1, unread a=interrupted
        /root/a  interrupted 1, resident
        session  open, slots 0/3, residency 1/3, ready -, idle a""")


def test_turn_that_timed_out_and_does_not_stop_has_timed_out() -> None:
    s = Scenario(turn_timeout=5)
    s.rush("spawn root a by host", "loaded a", "tick 5").see("""
        /root    new
        /root/a  stopping 1, resident, slot active, timed out, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("tick 5").asks(
        fx.Unload(1, 1),
        fx.Answer(
            (0,), Outcome(1, 1, TurnState.INTERRUPTED, "interrupted; it did not stop within 5.0 s", Cause.TIMED_OUT)
        ),
    ).see("""
        /root    new
        /root/a  interrupted 1
        session  open, slots 0/3, residency 0/3, ready -, idle -""")


def test_turn_that_was_interrupted_has_no_turn_timeout_any_more() -> None:
    s = Scenario(turn_timeout=5, stop_grace=9)
    s.rush("spawn root a by host", "loaded a", "interrupt host a").see("""
        /root    new
        /root/a  stopping 1, resident, slot active, interrupted by host, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("tick 5").asks().see("""
        /root    new
        /root/a  stopping 1, resident, slot active, interrupted by host, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


def test_turn_timeout_of_a_turn_that_ended_is_gone() -> None:
    s = Scenario(turn_timeout=5)
    s.rush("spawn root a by host", "loaded a", "finished a", "tick 3", "follow_up host a").see("""
        /root    new
        /root/a  running 2, resident, slot active, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("tick 2").asks().see("""
        /root    new
        /root/a  running 2, resident, slot active, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
