"""Who lends a slot, who gets it, and when nothing can be lent: J2, J7 and J8 (`statemachine/core/joint.py`, `slots.py`;
semantics.md section 7).
"""

from __future__ import annotations

from statemachine.core import effects as fx
from statemachine.core.config import Overflow
from statemachine.core.effects import WaitEnd
from statemachine.core.events import HOST, ROOT
from statemachine.core.machines import TurnState
from statemachine.core.records import Cause, MailAccepted, MailKind, Outcome
from tests.core.scenario import LIVE, Scenario, answered

QUEUE = Overflow.QUEUE


# Who lends to whom (J7)


def test_holder_that_began_waiting_first_lends_first() -> None:
    s = Scenario(max_concurrent=3, max_resident=4, overflow=QUEUE)
    s.rush("spawn root a by host", "loaded a", "spawn root b by host", "loaded b", "wait b 9", "wait a 9").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, waits 2 for mail
        /root/b  running 1, resident, slot active, asked by host, waits 1 for mail
        session  open, slots 2/2, residency 2/4, ready -, idle -""")
    s.play("spawn root x by host").asks(fx.Load(3, 1, "settings of x")).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, waits 2 for mail
        /root/b  waiting 1, resident, asked by host, waits 1 for mail
        /root/x  starting 1, loading, slot reserved, unread host!
        session  open, slots 2/2, residency 3/4, ready -, idle -""")
    s.play("spawn root y by host").asks(fx.Load(4, 1, "settings of y")).see("""
        /root    new
        /root/a  waiting 1, resident, asked by host, waits 2 for mail
        /root/b  waiting 1, resident, asked by host, waits 1 for mail
        /root/x  starting 1, loading, slot reserved, unread host!
        /root/y  starting 1, loading, slot reserved, unread host!
        session  open, slots 2/2, residency 4/4, ready -, idle -""")


def test_holder_that_is_not_waiting_lends_nothing() -> None:
    s = Scenario(max_concurrent=3, max_resident=4, overflow=QUEUE)
    s.rush(
        "spawn root a by host", "loaded a", "spawn root b by host", "loaded b", "wait b 9", "spawn root x by host"
    ).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        /root/b  waiting 1, resident, asked by host, waits 1 for mail
        /root/x  starting 1, loading, slot reserved, unread host!
        session  open, slots 2/2, residency 3/4, ready -, idle -""")
    s.play("spawn root y by host").asks().see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        /root/b  waiting 1, resident, asked by host, waits 1 for mail
        /root/x  starting 1, loading, slot reserved, unread host!
        /root/y  queued 1, unread host!
        session  open, slots 2/2, residency 3/4, ready y, idle -""")


def test_holder_that_began_a_second_wait_keeps_its_place_among_those_who_may_lend() -> None:
    s = Scenario(max_concurrent=3, max_resident=4, overflow=QUEUE)
    s.rush(
        "spawn root a by host",
        "loaded a",
        "spawn root b by host",
        "loaded b",
        "wait a 9",
        "wait b 9",
        "wait a 9",
        "stop_waiting a 1",
    ).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, waits 3 for mail
        /root/b  running 1, resident, slot active, asked by host, waits 2 for mail
        session  open, slots 2/2, residency 2/4, ready -, idle -""")
    s.play("spawn root x by host").asks(fx.Load(3, 1, "settings of x")).see("""
        /root    new
        /root/a  waiting 1, resident, asked by host, waits 3 for mail
        /root/b  running 1, resident, slot active, asked by host, waits 2 for mail
        /root/x  starting 1, loading, slot reserved, unread host!
        session  open, slots 2/2, residency 3/4, ready -, idle -""")


def test_turn_that_goes_on_with_a_wait_left_begins_to_wait_anew() -> None:
    s = Scenario(max_concurrent=3, max_resident=5, overflow=QUEUE)
    s.rush(
        "spawn root a by host",
        "loaded a",
        "spawn root b by host",
        "loaded b",
        "wait a 9",
        "wait a - quiet",
        "spawn root x by host",
        "loaded x",
        "finished x",
        "wait b 9",
        "send host a",
    ).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread host, waits 2 for nothing
        /root/b  running 1, resident, slot active, asked by host, waits 3 for mail
        /root/x  completed 1, resident
        session  open, slots 2/2, residency 3/5, ready -, idle x""")
    s.play("spawn root y by host").asks(fx.Load(4, 1, "settings of y")).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread host, waits 2 for nothing
        /root/b  waiting 1, resident, asked by host, waits 3 for mail
        /root/x  completed 1, resident
        /root/y  starting 1, loading, slot reserved, unread host!
        session  open, slots 2/2, residency 4/5, ready -, idle x""")


def test_slot_is_lent_to_as_many_queued_turns_as_there_are_residency_slots_beyond_the_execution_slots() -> None:
    s = Scenario(max_concurrent=3, max_resident=3, overflow=QUEUE)
    s.rush(
        "spawn root a by host",
        "loaded a",
        "spawn root b by host",
        "loaded b",
        "wait a - quiet",
        "wait b - quiet",
        "spawn root x by host",
    ).see("""
        /root    new
        /root/a  waiting 1, resident, asked by host, waits 1 for nothing
        /root/b  running 1, resident, slot active, asked by host, waits 2 for nothing
        /root/x  starting 1, loading, slot reserved, unread host!
        session  open, slots 2/2, residency 3/3, ready -, idle -""")
    s.play("spawn root y by host").asks().see("""
        /root    new
        /root/a  waiting 1, resident, asked by host, waits 1 for nothing
        /root/b  running 1, resident, slot active, asked by host, waits 2 for nothing
        /root/x  starting 1, loading, slot reserved, unread host!
        /root/y  queued 1, unread host!
        session  open, slots 2/2, residency 3/3, ready y, idle -""")


def test_slot_is_lent_to_a_returning_turn_though_no_more_may_be_lent_to_the_queue() -> None:
    s = Scenario(max_concurrent=2, max_resident=2, overflow=QUEUE)
    s.rush("spawn root a by host", "loaded a", "wait a 9", "spawn root b by host", "loaded b", "send host a").see("""
        /root    new
        /root/a  returning 1, resident, asked by host, unread host
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 1/1, residency 2/2, ready -, returning a, idle -""")
    s.play("wait b 9").asks(fx.Wake(1, 1, 1, WaitEnd.MAIL)).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread host
        /root/b  waiting 1, resident, asked by host, waits 2 for mail
        session  open, slots 1/1, residency 2/2, ready -, idle -""")


def test_root_lends_nothing() -> None:
    s = Scenario(max_concurrent=2, max_resident=2, overflow=QUEUE)
    s.rush("start root", "wait root 9", "spawn root a by host", "loaded a").see("""
        /root    running 1, slot active, asked by host, waits 1 for mail
        /root/a  running 1, resident, slot active, asked by host
        session  open, slots 1/1, residency 1/2, ready -, idle -""")
    s.play("spawn root b by host").asks().see("""
        /root    running 1, slot active, asked by host, waits 1 for mail
        /root/a  running 1, resident, slot active, asked by host
        /root/b  queued 1, unread host!
        session  open, slots 1/1, residency 1/2, ready b, idle -""")


def test_live_thread_lends_nothing() -> None:
    s = Scenario(max_concurrent=3, slot_policy=LIVE)
    s.rush("spawn root a by host", "loaded a", "wait a 9", "spawn root b by host", "loaded b").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, waits 1 for mail
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 2/2, residency 2/2, ready -, idle -""")
    s.play("wait b 9").asks().see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, waits 1 for mail
        /root/b  running 1, resident, slot active, asked by host, waits 2 for mail
        session  open, slots 2/2, residency 2/2, ready -, idle -""")
    s.play("spawn root c by host").refused("LiveThreadsFull", 2, (1, 2))


def test_turn_that_stops_without_a_slot_counts_as_in_memory_without_one() -> None:
    s = Scenario(max_concurrent=2, max_resident=2, overflow=QUEUE)
    s.rush(
        "spawn root a by host",
        "loaded a",
        "wait a 9",
        "spawn root b by host",
        "loaded b",
        "interrupt host a",
        "spawn root c by host",
    ).see("""
        /root    new
        /root/a  stopping 1, resident, interrupted by host, asked by host
        /root/b  running 1, resident, slot active, asked by host
        /root/c  queued 1, unread host!
        session  open, slots 1/1, residency 2/2, ready c, idle -""")
    s.play("wait b 9").asks().see("""
        /root    new
        /root/a  stopping 1, resident, interrupted by host, asked by host
        /root/b  running 1, resident, slot active, asked by host, waits 2 for mail
        /root/c  queued 1, unread host!
        session  open, slots 1/1, residency 2/2, ready c, idle -""")
    s.play("aborted a").asks(
        fx.Answer((0,), Outcome(1, 1, TurnState.INTERRUPTED, "interrupted", Cause.INTERRUPTED, HOST)), fx.Flush(1, 1, 1)
    ).see("""
        /root    new
        /root/a  interrupted 1, unloading, makes room for c
        /root/b  waiting 1, resident, asked by host, waits 2 for mail
        /root/c  starting 1, slot reserved, unread host!
        session  open, slots 1/1, residency 2/2, ready -, idle -""")


# Available slots


def test_request_is_accepted_with_overflow_reject_if_a_waiting_holder_may_lend() -> None:
    s = Scenario(max_concurrent=2, max_resident=2)
    s.rush("spawn root a by host", "loaded a", "wait a 9").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, waits 1 for mail
        session  open, slots 1/1, residency 1/2, ready -, idle -""")
    s.play("spawn root b by host").says(fx.Spawned(2, 1)).asks(fx.Load(2, 1, "settings of b")).see("""
        /root    new
        /root/a  waiting 1, resident, asked by host, waits 1 for mail
        /root/b  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/1, residency 2/2, ready -, idle -""")
    s.play("spawn root c by host").refused("ExecutionFull", 1, (2,))


def test_request_is_refused_with_overflow_reject_if_no_more_may_be_lent() -> None:
    s = Scenario(max_concurrent=2, max_resident=1)
    s.rush("spawn root a by host", "loaded a", "wait a 9").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, waits 1 for mail
        session  open, slots 1/1, residency 1/1, ready -, idle -""")
    s.play("spawn root b by host").refused("ExecutionFull", 1, (1,))


# Stalled (J8)


def test_all_waits_of_the_holder_that_began_waiting_last_end_when_nothing_may_be_lent() -> None:
    s = Scenario(max_concurrent=3, max_resident=2, overflow=QUEUE)
    s.rush(
        "spawn root a by host", "loaded a", "spawn root b by host", "loaded b", "wait a 9", "wait b 9", "wait b - quiet"
    ).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, waits 1 for mail
        /root/b  running 1, resident, slot active, asked by host, waits 2 for mail, waits 3 for nothing
        session  open, slots 2/2, residency 2/2, ready -, idle -""")
    s.play("spawn root c by host").asks(fx.Wake(2, 1, 2, WaitEnd.STALLED), fx.Wake(2, 1, 3, WaitEnd.STALLED)).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, waits 1 for mail
        /root/b  running 1, resident, slot active, asked by host
        /root/c  queued 1, unread host!
        session  open, slots 2/2, residency 2/2, ready c, idle -""")


def test_holder_that_waits_by_its_own_choice_alone_is_no_stall() -> None:
    s = Scenario(max_concurrent=3, max_resident=2, overflow=QUEUE)
    s.rush("spawn root a by host", "loaded a", "spawn root b by host", "loaded b", "wait a 9", "wait b - quiet").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, waits 1 for mail
        /root/b  running 1, resident, slot active, asked by host, waits 2 for nothing
        session  open, slots 2/2, residency 2/2, ready -, idle -""")
    s.play("spawn root c by host").asks().see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, waits 1 for mail
        /root/b  running 1, resident, slot active, asked by host, waits 2 for nothing
        /root/c  queued 1, unread host!
        session  open, slots 2/2, residency 2/2, ready c, idle -""")


def test_holder_that_waits_is_no_stall_while_another_works() -> None:
    s = Scenario(max_concurrent=3, max_resident=2, overflow=QUEUE)
    s.rush("spawn root a by host", "loaded a", "spawn root b by host", "loaded b", "wait a 9").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, waits 1 for mail
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 2/2, residency 2/2, ready -, idle -""")
    s.play("spawn root c by host").asks().see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, waits 1 for mail
        /root/b  running 1, resident, slot active, asked by host
        /root/c  queued 1, unread host!
        session  open, slots 2/2, residency 2/2, ready c, idle -""")


def test_holder_that_waits_is_no_stall_while_nothing_wants_its_slot() -> None:
    s = Scenario(max_concurrent=2, max_resident=1, overflow=QUEUE)
    s.rush("spawn root a by host", "loaded a").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        session  open, slots 1/1, residency 1/1, ready -, idle -""")
    s.play("wait a 9").asks().see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, waits 1 for mail
        session  open, slots 1/1, residency 1/1, ready -, idle -""")


# Going on (J2, L12)


def test_turn_whose_wait_is_over_goes_on_before_any_queued_turn_starts() -> None:
    s = Scenario(max_concurrent=2, max_resident=2, overflow=QUEUE)
    s.rush(
        "spawn root a by host",
        "loaded a",
        "wait a 9",
        "spawn root b by host",
        "loaded b",
        "spawn root/b x by host",
        "send host a",
    ).see("""
        /root      new
        /root/a    returning 1, resident, asked by host, unread host
        /root/b    running 1, resident, slot active, asked by host
        /root/b/x  queued 1, unread host!
        session    open, slots 1/1, residency 2/2, ready b/x, returning a, idle -""")
    s.play("finished b").asks(answered(2, 1, 1), fx.Wake(1, 1, 1, WaitEnd.MAIL)).see("""
        /root      new
        /root/a    running 1, resident, slot active, asked by host, unread host
        /root/b    completed 1, resident
        /root/b/x  queued 1, unread host!
        session    open, slots 1/1, residency 2/2, ready b/x, overtaken 1, idle b""")


def test_returning_turns_go_on_first_come_first_served() -> None:
    s = Scenario(max_concurrent=2, max_resident=4, overflow=QUEUE)
    s.rush(
        "spawn root a by host",
        "loaded a",
        "wait a 9",
        "spawn root b by host",
        "loaded b",
        "wait b 9",
        "spawn root c by host",
        "loaded c",
        "send host b",
        "send host a",
    ).see("""
        /root    new
        /root/a  returning 1, resident, asked by host, unread host
        /root/b  returning 1, resident, asked by host, unread host
        /root/c  running 1, resident, slot active, asked by host
        session  open, slots 1/1, residency 3/4, ready -, returning b a, idle -""")
    s.play("finished c").asks(answered(3, 1, 2), fx.Wake(2, 1, 2, WaitEnd.MAIL)).see("""
        /root    new
        /root/a  returning 1, resident, asked by host, unread host
        /root/b  running 1, resident, slot active, asked by host, unread host
        /root/c  completed 1, resident
        session  open, slots 1/1, residency 3/4, ready -, returning a, idle c""")
    s.play("finished b").asks(answered(2, 1, 1), fx.Wake(1, 1, 1, WaitEnd.MAIL)).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread host
        /root/b  completed 1, resident, unread host
        /root/c  completed 1, resident
        session  open, slots 1/1, residency 3/4, ready -, idle c b""")


def test_slot_of_a_turn_that_ended_goes_to_the_turn_that_returns_by_this_end_and_not_to_the_next_one_of_its_agent() -> (
    None
):
    s = Scenario(max_concurrent=2, max_resident=2, overflow=QUEUE)
    s.rush(
        "spawn root a by host", "loaded a", "spawn root/a c", "await a 1", "loaded a/c", "follow_up host a/c"
    ).see("""
        /root      new
        /root/a    waiting 1, resident, asked by host, owed 1, waits 1 for request 1
        /root/a/c  running 1, resident, slot active, asked by a, unread host!
        session    open, slots 1/1, residency 2/2, ready -, idle -""")
    s.play("finished a/c").asks(answered(2, 1, 1), fx.Wake(1, 1, 1, WaitEnd.ANSWERED)).see("""
        /root      new
        /root/a    running 1, resident, slot active, asked by host
        /root/a/c  queued 2, resident, unread host!
        session    open, slots 1/1, residency 2/2, ready a/c, overtaken 1, idle a/c""")
    s.play("finished a").asks(
        answered(1, 1, 0), fx.StartTurn(2, 2, 1, (MailAccepted(2, HOST, 2, MailKind.TRIGGER, "work"),))
    ).see("""
        /root      new
        /root/a    completed 1, resident
        /root/a/c  running 2, resident, slot active, asked by host
        session    open, slots 1/1, residency 2/2, ready -, idle a""")


def test_turn_that_ended_without_a_slot_asks_anew_for_its_next_turn() -> None:
    s = Scenario(max_concurrent=2, max_resident=2, overflow=QUEUE)
    s.rush(
        "spawn root a by host",
        "loaded a",
        "wait a 9 quiet root",
        "spawn root b by host",
        "loaded b",
        "follow_up host a",
    ).see("""
        /root    new
        /root/a  waiting 1, resident, asked by host, unread host!, waits 1 for root
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 1/1, residency 2/2, ready -, idle -""")
    s.play("finished a").asks(answered(1, 1, 0)).see("""
        /root    new
        /root/a  queued 2, resident, unread host!
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 1/1, residency 2/2, ready a, idle a""")


def test_result_of_a_waiting_turn_that_lent_its_slot_counts_at_once_and_frees_none() -> None:
    s = Scenario(max_concurrent=2, max_resident=2, overflow=QUEUE)
    s.rush(
        "spawn root a by host", "loaded a", "wait a - quiet", "spawn root b by host", "loaded b", "spawn root c by host"
    ).see("""
        /root    new
        /root/a  waiting 1, resident, asked by host, waits 1 for nothing
        /root/b  running 1, resident, slot active, asked by host
        /root/c  queued 1, unread host!
        session  open, slots 1/1, residency 2/2, ready c, idle -""")
    s.play("finished a").asks(answered(1, 1, 0)).see("""
        /root    new
        /root/a  completed 1, resident
        /root/b  running 1, resident, slot active, asked by host
        /root/c  queued 1, unread host!
        session  open, slots 1/1, residency 2/2, ready c, idle a""")


# The ready queue (J2, L11)


def test_ready_queue_serves_the_deepest_agent_first_and_the_oldest_within_a_depth() -> None:
    s = Scenario(max_concurrent=2, max_resident=6, overflow=QUEUE)
    s.rush(
        "spawn root a by host",
        "loaded a",
        "spawn root b by host",
        "spawn root c by host",
        "spawn root/b d by host",
        "spawn root/c e by host",
    ).see("""
        /root      new
        /root/a    running 1, resident, slot active, asked by host
        /root/b    queued 1, unread host!
        /root/c    queued 1, unread host!
        /root/b/d  queued 1, unread host!
        /root/c/e  queued 1, unread host!
        session    open, slots 1/1, residency 1/6, ready b c b/d c/e, idle -""")
    s.play("finished a").asks(answered(1, 1, 0), fx.Load(4, 1, "settings of d")).see("""
        /root      new
        /root/a    completed 1, resident
        /root/b    queued 1, unread host!
        /root/c    queued 1, unread host!
        /root/b/d  starting 1, loading, slot reserved, unread host!
        /root/c/e  queued 1, unread host!
        session    open, slots 1/1, residency 2/6, ready b c c/e, overtaken 1, idle a""")
    s.play("close host b/d").asks(
        fx.Unload(4, 1),
        fx.Answer((3,), Outcome(4, 1, TurnState.INTERRUPTED, "closed", Cause.CLOSED, HOST)),
        fx.Load(5, 1, "settings of e"),
    ).see("""
        /root      new
        /root/a    completed 1, resident
        /root/b    queued 1, unread host!
        /root/c    queued 1, unread host!
        /root/b/d  closed, interrupted 1
        /root/c/e  starting 1, loading, slot reserved, unread host!
        session    open, slots 1/1, residency 2/6, ready b c, overtaken 2, idle a""")
    s.play("close host c/e").asks(
        fx.Unload(5, 1),
        fx.Answer((4,), Outcome(5, 1, TurnState.INTERRUPTED, "closed", Cause.CLOSED, HOST)),
        fx.Load(2, 1, "settings of b"),
    ).see("""
        /root      new
        /root/a    completed 1, resident
        /root/b    starting 1, loading, slot reserved, unread host!
        /root/c    queued 1, unread host!
        /root/b/d  closed, interrupted 1
        /root/c/e  closed, interrupted 1
        session    open, slots 1/1, residency 2/6, ready c, idle a""")


def test_ready_queue_is_first_in_first_out_with_max_overtaken_0() -> None:
    s = Scenario(max_concurrent=2, max_resident=6, overflow=QUEUE, max_overtaken=0)
    s.rush("spawn root a by host", "loaded a", "spawn root b by host", "spawn root/a c by host").see("""
        /root      new
        /root/a    running 1, resident, slot active, asked by host
        /root/b    queued 1, unread host!
        /root/a/c  queued 1, unread host!
        session    open, slots 1/1, residency 1/6, ready b a/c, idle -""")
    s.play("finished a").asks(answered(1, 1, 0), fx.Load(2, 1, "settings of b")).see("""
        /root      new
        /root/a    completed 1, resident
        /root/b    starting 1, loading, slot reserved, unread host!
        /root/a/c  queued 1, unread host!
        session    open, slots 1/1, residency 2/6, ready a/c, idle a""")


def test_turn_that_has_queued_longest_is_served_when_max_overtaken_others_were_served_before_it() -> None:
    s = Scenario(max_concurrent=2, max_resident=6, overflow=QUEUE, max_overtaken=1)
    s.rush(
        "spawn root a by host",
        "loaded a",
        "spawn root b by host",
        "spawn root/a c by host",
        "spawn root/a d by host",
        "finished a",
        "loaded a/c",
    ).see("""
        /root      new
        /root/a    completed 1, resident
        /root/b    queued 1, unread host!
        /root/a/c  running 1, resident, slot active, asked by host
        /root/a/d  queued 1, unread host!
        session    open, slots 1/1, residency 2/6, ready b a/d, overtaken 1, idle a""")
    s.play("finished a/c").asks(answered(3, 1, 2), fx.Load(2, 1, "settings of b")).see("""
        /root      new
        /root/a    completed 1, resident
        /root/b    starting 1, loading, slot reserved, unread host!
        /root/a/c  completed 1, resident
        /root/a/d  queued 1, unread host!
        session    open, slots 1/1, residency 3/6, ready a/d, idle a a/c""")


def test_next_turn_of_an_agent_counts_as_one_that_overtakes_and_gives_way_to_a_turn_that_is_due() -> None:
    s = Scenario(max_concurrent=2, max_resident=6, overflow=QUEUE, max_overtaken=1)
    s.rush("spawn root a by host", "loaded a", "spawn root b by host", "follow_up host a").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread host!
        /root/b  queued 1, unread host!
        session  open, slots 1/1, residency 1/6, ready b, idle -""")
    s.play("finished a").asks(
        answered(1, 1, 0), fx.StartTurn(1, 2, 1, (MailAccepted(2, HOST, 1, MailKind.TRIGGER, "work"),))
    ).see("""
        /root    new
        /root/a  running 2, resident, slot active, asked by host
        /root/b  queued 1, unread host!
        session  open, slots 1/1, residency 1/6, ready b, overtaken 1, idle -""")
    s.rush("follow_up host a").see("""
        /root    new
        /root/a  running 2, resident, slot active, asked by host, unread host!
        /root/b  queued 1, unread host!
        session  open, slots 1/1, residency 1/6, ready b, overtaken 1, idle -""")
    s.play("finished a").asks(answered(1, 2, 2), fx.Load(2, 1, "settings of b")).see("""
        /root    new
        /root/a  queued 3, resident, unread host!
        /root/b  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/1, residency 2/6, ready a, idle a""")


def test_turn_that_leaves_the_queue_takes_its_count_with_it() -> None:
    s = Scenario(max_concurrent=2, max_resident=6, overflow=QUEUE, max_overtaken=2)
    s.rush(
        "spawn root a by host",
        "loaded a",
        "spawn root b by host",
        "spawn root c by host",
        "follow_up host a",
        "finished a",
    ).see("""
        /root    new
        /root/a  running 2, resident, slot active, asked by host
        /root/b  queued 1, unread host!
        /root/c  queued 1, unread host!
        session  open, slots 1/1, residency 1/6, ready b c, overtaken 1, idle -""")
    s.play("interrupt host b").asks(
        fx.Answer((1,), Outcome(2, 1, TurnState.INTERRUPTED, "interrupted before it started", Cause.NOT_STARTED, HOST))
    ).see("""
        /root    new
        /root/a  running 2, resident, slot active, asked by host
        /root/b  interrupted 1, unread host
        /root/c  queued 1, unread host!
        session  open, slots 1/1, residency 1/6, ready c, idle -""")


def test_root_overtakes_no_turn() -> None:
    s = Scenario(max_concurrent=2, max_resident=6, overflow=QUEUE, max_overtaken=2)
    s.rush("spawn root a by host", "loaded a", "spawn root b by host").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        /root/b  queued 1, unread host!
        session  open, slots 1/1, residency 1/6, ready b, idle -""")
    s.play("start root").asks(
        fx.StartTurn(ROOT, 1, 0, (MailAccepted(2, HOST, ROOT, MailKind.TRIGGER, "work"),))
    ).see("""
        /root    running 1, slot active, asked by host
        /root/a  running 1, resident, slot active, asked by host
        /root/b  queued 1, unread host!
        session  open, slots 1/1, residency 1/6, ready b, idle -""")


def test_turn_that_is_due_comes_before_a_returning_one() -> None:
    s = Scenario(max_concurrent=2, max_resident=3, overflow=QUEUE, max_overtaken=1)
    s.rush(
        "spawn root a by host",
        "loaded a",
        "wait a 9",
        "spawn root b by host",
        "loaded b",
        "spawn root x by host",
        "follow_up host b",
        "finished b",
        "send host a",
    ).see("""
        /root    new
        /root/a  returning 1, resident, asked by host, unread host
        /root/b  running 2, resident, slot active, asked by host
        /root/x  queued 1, unread host!
        session  open, slots 1/1, residency 2/3, ready x, overtaken 1, returning a, idle -""")
    s.play("finished b").asks(answered(2, 2, 3), fx.Load(3, 1, "settings of x")).see("""
        /root    new
        /root/a  returning 1, resident, asked by host, unread host
        /root/b  completed 2, resident
        /root/x  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/1, residency 3/3, ready -, returning a, idle b""")


def test_turn_that_no_other_has_overtaken_does_not_come_before_a_returning_one_with_max_overtaken_0() -> None:
    s = Scenario(max_concurrent=2, max_resident=3, overflow=QUEUE, max_overtaken=0)
    s.rush(
        "spawn root a by host",
        "loaded a",
        "wait a 9",
        "spawn root b by host",
        "loaded b",
        "spawn root x by host",
        "send host a",
    ).see("""
        /root    new
        /root/a  returning 1, resident, asked by host, unread host
        /root/b  running 1, resident, slot active, asked by host
        /root/x  queued 1, unread host!
        session  open, slots 1/1, residency 2/3, ready x, returning a, idle -""")
    s.play("finished b").asks(answered(2, 1, 1), fx.Wake(1, 1, 1, WaitEnd.MAIL)).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread host
        /root/b  completed 1, resident
        /root/x  queued 1, unread host!
        session  open, slots 1/1, residency 2/3, ready x, overtaken 1, idle b""")
