"""Turns at their edges: late mail, notices, promises, waits, bounds (`statemachine/core/turns.py`; semantics.md section
4).

Each test stands for a rule that could be broken without any other named test noticing. The golden traces show most of
these situations too, in longer stories; here each is alone.
"""

from __future__ import annotations

import math

import pytest

from statemachine.core import effects as fx
from statemachine.core import events as ev
from statemachine.core.config import Notice, Overflow
from statemachine.core.effects import WaitEnd
from statemachine.core.events import HOST, ROOT
from statemachine.core.machines import TurnState
from statemachine.core.records import Cause, MailAccepted, MailKind, Outcome, TurnEnded
from tests.core.scenario import LIVE, Scenario, idle, running

QUEUE = Overflow.QUEUE
DONE = Outcome(1, 1, TurnState.COMPLETED, "result", Cause.FINISHED)


# Next: late trigger mail


def contended() -> Scenario:
    """`a` runs and holds the only slot; `b` and `c` queue for it."""
    return running(max_concurrent=2, overflow=QUEUE).rush("spawn root b by host", "spawn root c by host")


@pytest.mark.parametrize(
    ("end", "status"),
    [("finished", TurnState.COMPLETED), ("failed", TurnState.ERRORED), ("aborted", TurnState.INTERRUPTED)],
)
def test_slot_of_a_turn_that_ended_with_late_trigger_mail_passes_to_the_next_though_others_queue(
    end: str, status: TurnState
) -> None:
    s = contended().rush("follow_up host a")
    if end == "aborted":
        s.rush("interrupt host a")
    s.rush(f"{end} a").see("""
        /root    new
        /root/a  running 2, resident, slot active, asked by host
        /root/b  queued 1, unread host!
        /root/c  queued 1, unread host!
        session  open, slots 1/1, residency 1/1, ready b c, overtaken 1, idle -""")
    answer, start = s.step.effects if s.step else ()
    assert isinstance(answer, fx.Answer)
    assert (answer.mails, answer.outcome.status) == ((0,), status)
    assert start == fx.StartTurn(1, 2, 1, (MailAccepted(3, HOST, 1, MailKind.TRIGGER, "work"),))
    s.play("finished a").asks(
        fx.Answer((3,), Outcome(1, 2, TurnState.COMPLETED, "result", Cause.FINISHED)), fx.Flush(1, 1, 1)
    ).see("""
        /root    new
        /root/a  completed 2, unloading, makes room for b
        /root/b  starting 1, slot reserved, unread host!
        /root/c  queued 1, unread host!
        session  open, slots 1/1, residency 1/1, ready c, idle -""")


def test_slot_of_a_turn_that_lost_its_thread_passes_to_the_next_which_is_loaded_again() -> None:
    s = contended().rush("follow_up host a", "died a")
    s.see("""
        /root    new
        /root/a  starting 2, loading, slot reserved, unread host!
        /root/b  queued 1, unread host!
        /root/c  queued 1, unread host!
        session  open, slots 1/1, residency 1/1, ready b c, overtaken 1, idle -""")
    failed = Outcome(1, 1, TurnState.ERRORED, "its thread died: lost", Cause.THREAD_DIED)
    s.asks(fx.Answer((0,), failed), fx.Load(1, 2, "settings of a"))


def test_slot_of_a_turn_that_ended_with_late_queue_only_mail_goes_to_the_first_who_queues() -> None:
    contended().rush("send host a", "finished a").see("""
        /root    new
        /root/a  completed 1, unloading, unread host, makes room for b
        /root/b  starting 1, slot reserved, unread host!
        /root/c  queued 1, unread host!
        session  open, slots 1/1, residency 1/1, ready c, idle -""")


def test_slot_of_a_turn_that_never_started_goes_to_the_first_who_queues_and_its_mail_asks_no_more() -> None:
    s = Scenario(max_concurrent=2, max_resident=2, overflow=QUEUE).rush("spawn root a by host", "spawn root b by host")
    s.rush("follow_up host a", "load_failed a").see("""
        /root    new
        /root/a  errored 1, unread host host
        /root/b  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/1, residency 1/2, ready -, idle -""")


def test_turn_that_ends_in_a_shutdown_gives_its_slot_back_in_spite_of_late_trigger_mail() -> None:
    contended().rush("follow_up host a", "shutdown 5", "finished a").see("""
        /root    new
        /root/a  completed 1, resident, unread host!
        /root/b  queued 1, unread host!
        /root/c  queued 1, unread host!
        session  draining, slots 0/1, residency 1/1, ready b c, idle a, done a, interrupted -, unflushed -""")


# Notices


def test_turn_that_a_notice_asked_for_ends_without_telling_anybody() -> None:
    s = Scenario(notice=Notice.TRIGGER).rush("spawn root a by host", "loaded a", "spawn root/a b", "finished a")
    s.rush("loaded a/b", "finished a/b").see("""
        /root      new
        /root/a    running 2, resident, slot active
        /root/a/b  completed 1, resident
        session    open, slots 1/3, residency 2/3, ready -, idle a/b""")
    s.play("finished a").asks().see("""
        /root      new
        /root/a    completed 2, resident
        /root/a/b  completed 1, resident
        session    open, slots 0/3, residency 2/3, ready -, idle a/b a""")
    assert s.step is not None
    assert s.step.records == (TurnEnded(Outcome(1, 2, TurnState.COMPLETED, "result", Cause.FINISHED)),)


def test_notice_that_asks_for_a_turn_promises_its_sender_nothing() -> None:
    s = Scenario(max_concurrent=2, overflow=QUEUE, notice=Notice.TRIGGER)
    s.rush("spawn root a by host", "loaded a", "spawn root/a b", "spawn root c by host", "finished a", "flushed a")
    s.rush("loaded a/b", "finished a/b").see("""
        /root      new
        /root/a    queued 2, unread a/b=completed!
        /root/a/b  completed 1, unloading, makes room for c
        /root/c    starting 1, slot reserved, unread host!
        session    open, slots 1/1, residency 1/1, ready a, idle -""")


def test_agent_that_asked_itself_gets_no_notice_and_is_promised_none() -> None:
    s = running().rush("follow_up a a")
    s.see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread a!
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.rush("finished a", "finished a").see("""
        /root    new
        /root/a  completed 2, resident
        session  open, slots 0/3, residency 1/3, ready -, idle a""")
    s.asks(fx.Answer((1,), Outcome(1, 2, TurnState.COMPLETED, "result", Cause.FINISHED)))


def test_requester_who_asked_twice_for_one_turn_gets_one_notice() -> None:
    s = Scenario().rush("start root", "spawn root a", "follow_up root a", "loaded a")
    s.see("""
        /root    running 1, slot active, asked by host, owed 2
        /root/a  running 1, resident, slot active, asked by root root
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("finished a").asks(fx.Answer((1, 2), DONE)).see("""
        /root    running 1, slot active, asked by host, unread a=completed
        /root/a  completed 1, resident
        session  open, slots 0/3, residency 1/3, ready -, idle a""")


# Promises


@pytest.mark.parametrize("notice", Notice)
def test_request_that_becomes_a_dead_letter_is_answered_and_its_sender_is_owed_nothing_more(notice: Notice) -> None:
    s = Scenario(max_concurrent=2, overflow=QUEUE, notice=notice, max_unread=2)
    s.rush("start root", "spawn root x by host", "spawn root a")
    owed = "" if notice is Notice.NONE else ", owed 1"
    s.see(f"""
        /root    running 1, slot active, asked by host{owed}
        /root/x  starting 1, loading, slot reserved, unread host!
        /root/a  queued 1, unread root!
        session  open, slots 1/1, residency 1/1, ready a, idle -""")
    told = {Notice.QUEUE: ", unread a=interrupted", Notice.TRIGGER: ", unread a=interrupted!", Notice.NONE: ""}[notice]
    s.play("close host a").asks(
        fx.Answer((2,), Outcome(2, 1, TurnState.INTERRUPTED, "closed", Cause.CLOSED, HOST))
    ).see(f"""
        /root    running 1, slot active, asked by host{told}
        /root/x  starting 1, loading, slot reserved, unread host!
        /root/a  closed, interrupted 1
        session  open, slots 1/1, residency 1/1, ready -, idle -""")
    s.rush("drain root", "spawn root b").see(f"""
        /root    running 1, slot active, asked by host{owed}
        /root/x  starting 1, loading, slot reserved, unread host!
        /root/a  closed, interrupted 1
        /root/b  queued 1, unread root!
        session  open, slots 1/1, residency 1/1, ready b, idle -""")


def test_late_request_of_a_turn_that_is_closed_is_answered_once_with_the_one_that_it_took() -> None:
    s = Scenario().rush("start root", "spawn root a", "loaded a", "follow_up root a")
    s.see("""
        /root    running 1, slot active, asked by host, owed 2
        /root/a  running 1, resident, slot active, asked by root, unread root!
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    closed = fx.Answer((1, 2), Outcome(1, 1, TurnState.INTERRUPTED, "closed", Cause.CLOSED, HOST))
    s.play("close host a").asks(fx.Unload(1, 1), closed).see("""
        /root    running 1, slot active, asked by host, unread a=interrupted
        /root/a  closed, interrupted 1
        session  open, slots 0/3, residency 0/3, ready -, idle -""")


def test_request_to_an_idle_agent_that_is_closed_in_a_shutdown_is_answered() -> None:
    s = Scenario().rush(
        "start root", "spawn root a by host", "loaded a", "follow_up root a", "shutdown 5", "finished a"
    )
    s.see("""
        /root    running 1, slot active, asked by host, owed 1
        /root/a  completed 1, resident, unread root!
        session  draining, slots 0/3, residency 1/3, ready -, idle a, done a, interrupted -, unflushed -""")
    closed = fx.Answer((2,), Outcome(1, 2, TurnState.INTERRUPTED, "closed", Cause.CLOSED, HOST))
    s.play("close host a").asks(fx.Unload(1, 1), closed).see("""
        /root    running 1, slot active, asked by host, unread a=interrupted
        /root/a  closed, interrupted 2
        session  draining, slots 0/3, residency 0/3, ready -, idle -, done a, interrupted -, unflushed -""")


# Death closes first


def test_live_thread_that_dies_with_late_mail_has_no_next_turn_and_its_notice_wakes_nobody_below_it() -> None:
    s = idle(slot_policy=LIVE, notice=Notice.TRIGGER).rush("spawn root/a b by host", "loaded a/b", "follow_up a/b a")
    s.rush("finished a/b", "follow_up host a").see("""
        /root      new
        /root/a    running 2, resident, slot active, asked by a/b, unread host!
        /root/a/b  completed 1, resident, slot reserved, owed 1
        session    open, slots 2/3, residency 2/3, ready -, idle -""")
    failed = Outcome(1, 2, TurnState.ERRORED, "its thread died: lost", Cause.THREAD_DIED)
    s.play("died a").asks(fx.Answer((2, 3), failed), fx.Unload(2, 1)).see("""
        /root      new
        /root/a    closed, errored 2
        /root/a/b  closed with a, completed 1
        session    open, slots 0/3, residency 0/3, ready -, idle -""")


# Waits


def test_wait_of_a_turn_that_is_interrupted_returns_so_before_the_turn_is_cancelled_and_has_no_deadline_left() -> None:
    s = running().rush("wait a 50 root", "interrupt host a")
    s.asks(fx.Wake(1, 1, 1, WaitEnd.INTERRUPTED), fx.Cancel(1, 1)).see("""
        /root    new
        /root/a  stopping 1, resident, slot active, interrupted by host, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    assert s.session.deadlines.next() == 5  # stop_grace
    s.rush("aborted a", "tick 60").asks().see("""
        /root    new
        /root/a  interrupted 1, resident
        session  open, slots 0/3, residency 1/3, ready -, idle a""")


def test_wait_of_a_turn_that_ends_by_itself_is_over_without_a_wake() -> None:
    s = running().rush("wait a 50 root", "finished a")
    s.asks(fx.Answer((0,), DONE)).see("""
        /root    new
        /root/a  completed 1, resident
        session  open, slots 0/3, residency 1/3, ready -, idle a""")
    assert s.session.deadlines.next() is None


def test_wait_that_is_given_up_wakes_nobody_and_may_begin_again() -> None:
    s = running().rush("wait a 50", "stop_waiting a")
    s.asks().see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    assert s.session.deadlines.next() is None
    s.play("stop_waiting a").same()  # there is none to give up
    s.rush("send host a", "drain a", "wait a 50").says(fx.Waiting(2))


def test_turn_that_gave_up_its_wait_is_no_reason_for_a_stall() -> None:
    s = running(max_concurrent=2, overflow=QUEUE).rush("wait a 50", "stop_waiting a", "spawn root b by host")
    s.asks().see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        /root/b  queued 1, unread host!
        session  open, slots 1/1, residency 1/1, ready b, idle -""")
    s.play("wait a 50").asks(fx.Wake(1, 1, 2, WaitEnd.STALLED))


def test_wait_ends_in_the_same_step_as_its_target_for_which_no_room_could_be_made() -> None:
    s = idle(max_concurrent=2).rush("start root", "spawn root b by host", "wait root 50 b")
    s.see("""
        /root    running 1, slot active, asked by host, waits 1 for mail or b
        /root/a  completed 1, unloading, makes room for b
        /root/b  starting 1, slot reserved, unread host!
        session  open, slots 1/1, residency 1/1, ready -, idle -""")
    failed = Outcome(2, 1, TurnState.ERRORED, "no residency slot: could not flush /root/a", Cause.NO_ROOM)
    s.play("flush_failed a").asks(fx.Answer((2,), failed), fx.Wake(ROOT, 1, 1, WaitEnd.TARGET)).see("""
        /root    running 1, slot active, asked by host
        /root/a  completed 1, resident
        /root/b  errored 1, unread host
        session  open, slots 0/1, residency 1/1, ready -, idle a""")


# A full mailbox (D16)


def test_idle_agent_with_as_much_queue_only_mail_as_it_may_have_still_gets_to_a_turn() -> None:
    s = idle(max_unread=3).rush("send host a", "send host a", "send host a")
    s.refused("MailboxFull", 1, 2, 0, 3)
    s.play("follow_up host a").says(fx.Accepted(3)).see("""
        /root    new
        /root/a  running 2, resident, slot active, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    assert s.step is not None
    (start,) = s.step.effects
    assert isinstance(start, fx.StartTurn)
    assert [mail.mail for mail in start.mail] == [1, 2, 3]


def test_agent_whose_last_place_was_taken_by_demoted_mail_gets_to_a_turn_when_closed_and_resumed() -> None:
    s = Scenario(max_unread=2).rush("spawn root a by host", "follow_up host a", "load_failed a")
    s.see("""
        /root    new
        /root/a  errored 1, unread host host
        session  open, slots 0/3, residency 0/3, ready -, idle -""")
    s.play("follow_up host a").refused("MailboxFull", 1, 2, 0, 2)
    s.rush("close host a", "resume host a", "follow_up host a").see("""
        /root    new
        /root/a  starting 2, loading, slot reserved, unread host!
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


# Bounds


def test_tick_ends_although_what_it_begins_has_no_time_at_all() -> None:
    s = running(idle_ttl=0, flush_timeout=0).rush("finished a")
    s.see("""
        /root    new
        /root/a  completed 1, resident
        session  open, slots 0/3, residency 1/3, ready -, idle a""")
    for flush in (1, 2):
        s.play("tick 0").asks(fx.Flush(1, 1, flush)).see("""
            /root    new
            /root/a  completed 1, unloading
            session  open, slots 0/3, residency 1/3, ready -, idle -""")
        s.play("tick 0").asks().see("""
            /root    new
            /root/a  completed 1, resident
            session  open, slots 0/3, residency 1/3, ready -, idle a""")


@pytest.mark.parametrize("now", [math.inf, -math.inf, math.nan])
def test_tick_of_a_time_that_is_none_changes_nothing(now: float) -> None:
    s = running().rush("interrupt host a")
    s.looked_at = True
    s.feed(ev.Tick(now))
    s.same()


def test_session_that_is_closed_before_its_grace_is_over_has_no_deadline_left() -> None:
    s = running().rush("shutdown 50", "finished a", "flushed root", "flushed a")
    s.see("""
        /root    new
        /root/a  completed 1
        session  closed, slots 0/3, residency 0/3, ready -, idle -, done a, interrupted -, unflushed -""")
    assert s.session.deadlines.next() is None


def test_thread_that_dies_in_a_shutdown_after_an_eviction_was_begun_for_it_is_not_served_any_more() -> None:
    """The explorer found that core and reference differed in whom the eviction serves, which means nothing then."""
    s = Scenario(max_concurrent=3, max_resident=2, overflow=Overflow.QUEUE)
    s.rush("spawn root a by host", "spawn root b by host", "spawn root c by host", "interrupt host a", "loaded a")
    s.rush("close host b", "shutdown 1", "loaded c", "died c", "flush_failed a").see("""
        /root    new
        /root/a  interrupted 1, resident, unread host
        /root/b  closed, interrupted 1
        /root/c  queued 1, unread host!
        session  draining, slots 0/2, residency 1/2, ready c, idle a, done -, interrupted -, unflushed a""")
    s.play("write_failed").see("""
        /root    new
        /root/a  interrupted 1, resident, unread host
        /root/b  closed, interrupted 1
        /root/c  queued 1, unread host!
        session  failed, slots 0/2, residency 1/2, ready c, idle a, done -, interrupted -, unflushed a""")
