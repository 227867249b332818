"""Waits of turns: for mail, targets and requests; several of one turn; begun, over and given up with a slot and without
one (`statemachine/core/waits.py`; semantics.md section 7).
"""

from __future__ import annotations

from statemachine.core import effects as fx
from statemachine.core.config import Overflow
from statemachine.core.effects import WaitEnd
from statemachine.core.events import HOST
from statemachine.core.machines import TurnState
from statemachine.core.records import Cause, MailAccepted, MailKind, Outcome
from tests.core.scenario import Scenario, answered

QUEUE = Overflow.QUEUE


# Mail and targets


def test_wait_for_mail_ends_with_the_first_mail_and_not_with_a_target() -> None:
    s = Scenario()
    s.rush("spawn root a by host", "loaded a", "spawn root b by host", "loaded b", "wait a 9").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, waits 1 for mail
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("finished b").asks(answered(2, 1, 1)).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, waits 1 for mail
        /root/b  completed 1, resident
        session  open, slots 1/3, residency 2/3, ready -, idle b""")
    s.play("send host a").asks(fx.Wake(1, 1, 1, WaitEnd.MAIL)).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread host
        /root/b  completed 1, resident
        session  open, slots 1/3, residency 2/3, ready -, idle b""")


def test_wait_for_a_target_alone_is_not_ended_by_mail() -> None:
    s = Scenario()
    s.rush("spawn root a by host", "loaded a", "spawn root b by host", "loaded b", "wait a 9 quiet b").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, waits 1 for b
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("send host a").asks().see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread host, waits 1 for b
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("finished b").asks(answered(2, 1, 1), fx.Wake(1, 1, 1, WaitEnd.TARGET)).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread host
        /root/b  completed 1, resident
        session  open, slots 1/3, residency 2/3, ready -, idle b""")


# Requests


def test_wait_for_a_request_ends_when_the_turn_that_took_it_ends_and_reads_its_notice_in_that_step() -> None:
    s = Scenario()
    s.rush("spawn root a by host", "loaded a", "spawn root/a b", "loaded a/b", "await a 1").see("""
        /root      new
        /root/a    running 1, resident, slot active, asked by host, owed 1, waits 1 for request 1
        /root/a/b  running 1, resident, slot active, asked by a
        session    open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("finished a/b").asks(answered(2, 1, 1), fx.Wake(1, 1, 1, WaitEnd.ANSWERED)).see("""
        /root      new
        /root/a    running 1, resident, slot active, asked by host
        /root/a/b  completed 1, resident
        session    open, slots 1/3, residency 2/3, ready -, idle a/b""")
    s.play("drain a").says(fx.Drained(())).asks().see("""
        /root      new
        /root/a    running 1, resident, slot active, asked by host
        /root/a/b  completed 1, resident
        session    open, slots 1/3, residency 2/3, ready -, idle a/b""")


def test_wait_for_a_request_reads_its_notice_before_a_wait_for_mail_is_looked_at() -> None:
    s = Scenario()
    s.rush("spawn root a by host", "loaded a", "spawn root/a b", "loaded a/b", "wait a 9", "await a 1").see("""
        /root      new
        /root/a    running 1, resident, slot active, asked by host, owed 1, waits 1 for mail, waits 2 for request 1
        /root/a/b  running 1, resident, slot active, asked by a
        session    open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("finished a/b").asks(answered(2, 1, 1), fx.Wake(1, 1, 2, WaitEnd.ANSWERED)).see("""
        /root      new
        /root/a    running 1, resident, slot active, asked by host, waits 1 for mail
        /root/a/b  completed 1, resident
        session    open, slots 1/3, residency 2/3, ready -, idle a/b""")


def test_wait_for_a_request_of_another_agent_leaves_the_notice_to_its_requester() -> None:
    s = Scenario()
    s.rush(
        "spawn root a by host", "loaded a", "spawn root b by host", "loaded b", "follow_up a b", "await b within 5 0"
    ).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, owed 1
        /root/b  running 1, resident, slot active, asked by host, unread a!, waits 1 for request 0
        session  open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("finished a").asks(answered(1, 1, 0), fx.Wake(2, 1, 1, WaitEnd.ANSWERED)).see("""
        /root    new
        /root/a  completed 1, resident, owed 1
        /root/b  running 1, resident, slot active, asked by host, unread a!
        session  open, slots 1/3, residency 2/3, ready -, idle a""")


def test_wait_for_a_request_that_is_answered_is_over_at_once_and_reads_the_notice_that_is_there() -> None:
    s = Scenario()
    s.rush("spawn root a by host", "loaded a", "spawn root/a b", "loaded a/b", "finished a/b").see("""
        /root      new
        /root/a    running 1, resident, slot active, asked by host, unread a/b=completed
        /root/a/b  completed 1, resident
        session    open, slots 1/3, residency 2/3, ready -, idle a/b""")
    s.play("await a 1").says(fx.WaitOver(WaitEnd.ANSWERED)).asks().see("""
        /root      new
        /root/a    running 1, resident, slot active, asked by host
        /root/a/b  completed 1, resident
        session    open, slots 1/3, residency 2/3, ready -, idle a/b""")
    s.play("await a 1").says(fx.WaitOver(WaitEnd.ANSWERED)).same()


def test_wait_for_any_of_two_requests_ends_with_the_first_answer() -> None:
    s = Scenario()
    s.rush(
        "spawn root a by host",
        "loaded a",
        "spawn root/a b",
        "loaded a/b",
        "spawn root/a c",
        "loaded a/c",
        "await a 1 2",
    ).see("""
        /root      new
        /root/a    running 1, resident, slot active, asked by host, owed 2, waits 1 for request 1 or request 2
        /root/a/b  running 1, resident, slot active, asked by a
        /root/a/c  running 1, resident, slot active, asked by a
        session    open, slots 3/3, residency 3/3, ready -, idle -""")
    s.play("finished a/c").asks(answered(3, 1, 2), fx.Wake(1, 1, 1, WaitEnd.ANSWERED)).see("""
        /root      new
        /root/a    running 1, resident, slot active, asked by host, owed 1
        /root/a/b  running 1, resident, slot active, asked by a
        /root/a/c  completed 1, resident
        session    open, slots 2/3, residency 3/3, ready -, idle a/c""")


def test_wait_for_all_of_two_requests_ends_with_the_last_answer() -> None:
    s = Scenario()
    s.rush(
        "spawn root a by host",
        "loaded a",
        "spawn root/a b",
        "loaded a/b",
        "spawn root/a c",
        "loaded a/c",
        "await a 1 2 all",
    ).see("""
        /root      new
        /root/a    running 1, resident, slot active, asked by host, owed 2, waits 1 for request 1 and request 2
        /root/a/b  running 1, resident, slot active, asked by a
        /root/a/c  running 1, resident, slot active, asked by a
        session    open, slots 3/3, residency 3/3, ready -, idle -""")
    s.play("finished a/c").asks(answered(3, 1, 2)).see("""
        /root      new
        /root/a    running 1, resident, slot active, asked by host, owed 1, waits 1 for request 1 and request 2
        /root/a/b  running 1, resident, slot active, asked by a
        /root/a/c  completed 1, resident
        session    open, slots 2/3, residency 3/3, ready -, idle a/c""")
    s.play("finished a/b").asks(answered(2, 1, 1), fx.Wake(1, 1, 1, WaitEnd.ANSWERED)).see("""
        /root      new
        /root/a    running 1, resident, slot active, asked by host
        /root/a/b  completed 1, resident
        /root/a/c  completed 1, resident
        session    open, slots 1/3, residency 3/3, ready -, idle a/c a/b""")


def test_wait_for_all_is_not_ended_by_the_same_request_twice() -> None:
    s = Scenario()
    s.rush(
        "spawn root a by host",
        "loaded a",
        "spawn root/a b",
        "loaded a/b",
        "spawn root/a c",
        "loaded a/c",
        "await a 1 1 2 all",
    ).see("""
        /root      new
        /root/a    running 1, resident, slot active, asked by host, owed 2, waits 1 for request 1 and request 2
        /root/a/b  running 1, resident, slot active, asked by a
        /root/a/c  running 1, resident, slot active, asked by a
        session    open, slots 3/3, residency 3/3, ready -, idle -""")
    s.play("finished a/b").asks(answered(2, 1, 1)).see("""
        /root      new
        /root/a    running 1, resident, slot active, asked by host, owed 1, waits 1 for request 1 and request 2
        /root/a/b  completed 1, resident
        /root/a/c  running 1, resident, slot active, asked by a
        session    open, slots 2/3, residency 3/3, ready -, idle a/b""")


def test_wait_for_a_request_ends_when_the_request_is_demoted() -> None:
    s = Scenario(max_concurrent=2, max_resident=2, overflow=QUEUE)
    s.rush("spawn root a by host", "loaded a", "spawn root/a b", "await a 1").see("""
        /root      new
        /root/a    waiting 1, resident, asked by host, owed 1, waits 1 for request 1
        /root/a/b  starting 1, loading, slot reserved, unread a!
        session    open, slots 1/1, residency 2/2, ready -, idle -""")
    s.play("load_failed a/b").asks(
        fx.Answer((1,), Outcome(2, 1, TurnState.ERRORED, "load failed: cannot load", Cause.LOAD_FAILED)),
        fx.Wake(1, 1, 1, WaitEnd.ANSWERED),
    ).see("""
        /root      new
        /root/a    running 1, resident, slot active, asked by host
        /root/a/b  errored 1, unread a
        session    open, slots 1/1, residency 1/2, ready -, idle -""")


def test_wait_for_a_request_ends_when_the_request_is_a_dead_letter() -> None:
    s = Scenario()
    s.rush("spawn root a by host", "loaded a", "spawn root/a b", "loaded a/b", "follow_up a a/b", "await a 2").see("""
        /root      new
        /root/a    running 1, resident, slot active, asked by host, owed 2, waits 1 for request 2
        /root/a/b  running 1, resident, slot active, asked by a, unread a!
        session    open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("close host a/b").asks(
        fx.Unload(2, 1),
        fx.Answer((1, 2), Outcome(2, 1, TurnState.INTERRUPTED, "closed", Cause.CLOSED, HOST)),
        fx.Wake(1, 1, 1, WaitEnd.ANSWERED),
    ).see("""
        /root      new
        /root/a    running 1, resident, slot active, asked by host
        /root/a/b  closed, interrupted 1
        session    open, slots 1/3, residency 1/3, ready -, idle -""")


# Several


def test_waits_of_one_turn_end_each_by_itself_and_in_any_order() -> None:
    s = Scenario()
    s.rush(
        "spawn root a by host", "loaded a", "spawn root b by host", "loaded b", "wait a 9", "wait a 5 quiet b"
    ).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, waits 1 for mail, waits 2 for b
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("tick 5").asks(fx.Wake(1, 1, 2, WaitEnd.TIMEOUT)).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, waits 1 for mail
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("tick 4").asks(fx.Wake(1, 1, 1, WaitEnd.TIMEOUT)).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 2/3, residency 2/3, ready -, idle -""")


def test_waits_of_a_turn_that_ends_are_over_without_a_wake() -> None:
    s = Scenario()
    s.rush("spawn root a by host", "loaded a", "wait a 9", "wait a - quiet").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, waits 1 for mail, waits 2 for nothing
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("finished a").asks(answered(1, 1, 0)).see("""
        /root    new
        /root/a  completed 1, resident
        session  open, slots 0/3, residency 1/3, ready -, idle a""")


def test_waits_of_a_turn_that_is_interrupted_are_all_told_so_and_those_that_were_over_keep_their_end() -> None:
    s = Scenario(max_concurrent=2, max_resident=2, overflow=QUEUE)
    s.rush(
        "spawn root a by host",
        "loaded a",
        "wait a 9",
        "wait a - quiet",
        "spawn root b by host",
        "loaded b",
        "send host a",
    ).see("""
        /root    new
        /root/a  returning 1, resident, asked by host, unread host, waits 2 for nothing
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 1/1, residency 2/2, ready -, returning a, idle -""")
    s.play("interrupt host a").asks(
        fx.Wake(1, 1, 1, WaitEnd.MAIL), fx.Wake(1, 1, 2, WaitEnd.INTERRUPTED), fx.Cancel(1, 1)
    ).see("""
        /root    new
        /root/a  stopping 1, resident, interrupted by host, asked by host, unread host
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 1/1, residency 2/2, ready -, idle -""")


# Begun without a slot


def test_wait_that_a_waiting_turn_begins_goes_on_like_any_other() -> None:
    s = Scenario(max_concurrent=2, max_resident=2, overflow=QUEUE)
    s.rush("spawn root a by host", "loaded a", "wait a - quiet", "spawn root b by host", "loaded b").see("""
        /root    new
        /root/a  waiting 1, resident, asked by host, waits 1 for nothing
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 1/1, residency 2/2, ready -, idle -""")
    s.play("wait a 5").says(fx.Waiting(2)).asks().see("""
        /root    new
        /root/a  waiting 1, resident, asked by host, waits 1 for nothing, waits 2 for mail
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 1/1, residency 2/2, ready -, idle -""")
    s.play("finished b").asks(answered(2, 1, 1)).see("""
        /root    new
        /root/a  waiting 1, resident, asked by host, waits 1 for nothing, waits 2 for mail
        /root/b  completed 1, resident
        session  open, slots 0/1, residency 2/2, ready -, idle b""")


def test_wait_that_a_waiting_turn_begins_and_is_over_at_once_calls_it_back_and_is_told_when_it_has_a_slot() -> None:
    s = Scenario(max_concurrent=2, max_resident=2, overflow=QUEUE)
    s.rush("spawn root a by host", "loaded a", "wait a - quiet", "spawn root b by host", "loaded b").see("""
        /root    new
        /root/a  waiting 1, resident, asked by host, waits 1 for nothing
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 1/1, residency 2/2, ready -, idle -""")
    s.play("wait a 0").says(fx.Waiting(2)).asks().see("""
        /root    new
        /root/a  returning 1, resident, asked by host, waits 1 for nothing
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 1/1, residency 2/2, ready -, returning a, idle -""")
    s.play("finished b").asks(answered(2, 1, 1), fx.Wake(1, 1, 2, WaitEnd.TIMEOUT)).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, waits 1 for nothing
        /root/b  completed 1, resident
        session  open, slots 1/1, residency 2/2, ready -, idle b""")


def test_wait_that_a_returning_turn_begins_and_is_over_at_once_is_told_with_the_others() -> None:
    s = Scenario(max_concurrent=2, max_resident=2, overflow=QUEUE)
    s.rush("spawn root a by host", "loaded a", "wait a 5", "spawn root b by host", "loaded b", "tick 5").see("""
        /root    new
        /root/a  returning 1, resident, asked by host
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 1/1, residency 2/2, ready -, returning a, idle -""")
    s.play("wait a 0").says(fx.Waiting(2)).asks().see("""
        /root    new
        /root/a  returning 1, resident, asked by host
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 1/1, residency 2/2, ready -, returning a, idle -""")
    s.play("finished b").asks(
        answered(2, 1, 1), fx.Wake(1, 1, 1, WaitEnd.TIMEOUT), fx.Wake(1, 1, 2, WaitEnd.TIMEOUT)
    ).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        /root/b  completed 1, resident
        session  open, slots 1/1, residency 2/2, ready -, idle b""")


def test_drain_of_a_waiting_turn_reads_its_mail() -> None:
    s = Scenario(max_concurrent=2, max_resident=2, overflow=QUEUE)
    s.rush(
        "spawn root a by host", "loaded a", "wait a - quiet", "spawn root b by host", "loaded b", "send host a"
    ).see("""
        /root    new
        /root/a  waiting 1, resident, asked by host, unread host, waits 1 for nothing
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 1/1, residency 2/2, ready -, idle -""")
    s.play("drain a").says(fx.Drained((MailAccepted(2, HOST, 1, MailKind.QUEUE, "note"),))).asks().see("""
        /root    new
        /root/a  waiting 1, resident, asked by host, waits 1 for nothing
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 1/1, residency 2/2, ready -, idle -""")


# Timeouts


def test_timeout_of_a_turn_without_a_slot_is_in_time_and_told_when_it_has_one() -> None:
    s = Scenario(max_concurrent=2, max_resident=2, overflow=QUEUE)
    s.rush("spawn root a by host", "loaded a", "wait a 5", "spawn root b by host", "loaded b").see("""
        /root    new
        /root/a  waiting 1, resident, asked by host, waits 1 for mail
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 1/1, residency 2/2, ready -, idle -""")
    s.play("tick 5").asks().see("""
        /root    new
        /root/a  returning 1, resident, asked by host
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 1/1, residency 2/2, ready -, returning a, idle -""")
    s.play("finished b").asks(answered(2, 1, 1), fx.Wake(1, 1, 1, WaitEnd.TIMEOUT)).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        /root/b  completed 1, resident
        session  open, slots 1/1, residency 2/2, ready -, idle b""")


def test_condition_that_holds_when_the_timeout_comes_counts() -> None:
    s = Scenario()
    s.rush(
        "spawn root b by host",
        "loaded b",
        "tick 0.5",
        "spawn root a by host",
        "loaded a",
        "await a within 4.5 0",
        "interrupt host b",
    ).see("""
        /root    new
        /root/b  stopping 1, resident, slot active, interrupted by host, asked by host
        /root/a  running 1, resident, slot active, asked by host, waits 1 for request 0
        session  open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("tick 5").asks(
        fx.Unload(1, 1),
        fx.Answer(
            (0,),
            Outcome(1, 1, TurnState.INTERRUPTED, "interrupted; it did not stop within 5.0 s", Cause.NOT_STOPPED, HOST),
        ),
        fx.Wake(2, 1, 1, WaitEnd.ANSWERED),
    ).see("""
        /root    new
        /root/b  interrupted 1
        /root/a  running 1, resident, slot active, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


# Given up


def test_wait_that_is_given_up_by_a_running_turn_is_over_at_once_and_the_other_goes_on() -> None:
    s = Scenario()
    s.rush("spawn root a by host", "loaded a", "wait a 9", "wait a 5").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, waits 1 for mail, waits 2 for mail
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("stop_waiting a 1").says(fx.WaitOver(WaitEnd.GIVEN_UP)).asks().see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, waits 2 for mail
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("tick 5").asks(fx.Wake(1, 1, 2, WaitEnd.TIMEOUT)).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


def test_wait_that_is_given_up_without_a_slot_is_told_when_the_turn_has_one() -> None:
    s = Scenario(max_concurrent=2, max_resident=2, overflow=QUEUE)
    s.rush("spawn root a by host", "loaded a", "wait a 9", "spawn root b by host", "loaded b").see("""
        /root    new
        /root/a  waiting 1, resident, asked by host, waits 1 for mail
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 1/1, residency 2/2, ready -, idle -""")
    s.play("stop_waiting a 1").says(fx.Noted()).asks().see("""
        /root    new
        /root/a  returning 1, resident, asked by host
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 1/1, residency 2/2, ready -, returning a, idle -""")
    s.play("stop_waiting a 1").says(fx.Noted()).same()
    s.play("finished b").asks(answered(2, 1, 1), fx.Wake(1, 1, 1, WaitEnd.GIVEN_UP)).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        /root/b  completed 1, resident
        session  open, slots 1/1, residency 2/2, ready -, idle b""")
