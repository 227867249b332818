"""What takes work back: withdraw, the interrupt of a subtree, forget (`statemachine/core/operations.py`; semantics.md
section 7).
"""

from __future__ import annotations

from statemachine.core import effects as fx
from statemachine.core.config import Notice, Overflow
from statemachine.core.effects import WaitEnd
from statemachine.core.events import HOST, ROOT
from statemachine.core.machines import TurnState
from statemachine.core.records import Cause, MailAccepted, MailKind, Outcome
from tests.core.scenario import Scenario, answered

QUEUE = Overflow.QUEUE
TRIGGER = Notice.TRIGGER


# Withdraw


def test_mail_that_is_withdrawn_is_a_dead_letter_and_its_sender_is_owed_no_notice_any_more() -> None:
    s = Scenario()
    s.rush("start root", "spawn root a", "loaded a", "follow_up root a").see("""
        /root    running 1, slot active, asked by host, owed 2
        /root/a  running 1, resident, slot active, asked by root, unread root!
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("withdraw root 2").asks(
        fx.Answer((2,), Outcome(1, 1, TurnState.INTERRUPTED, "withdrawn", Cause.WITHDRAWN, 0))
    ).see("""
        /root    running 1, slot active, asked by host, owed 1
        /root/a  running 1, resident, slot active, asked by root
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("finished a").asks(answered(1, 1, 1)).see("""
        /root    running 1, slot active, asked by host, unread a=completed
        /root/a  completed 1, resident
        session  open, slots 0/3, residency 1/3, ready -, idle a""")


def test_queue_only_mail_may_be_withdrawn() -> None:
    s = Scenario()
    s.rush("spawn root a by host", "loaded a", "send host a").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("withdraw host 1").asks().see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


def test_host_withdraws_the_mail_of_an_agent() -> None:
    s = Scenario()
    s.rush("start root", "spawn root a", "loaded a", "send root a").see("""
        /root    running 1, slot active, asked by host, owed 1
        /root/a  running 1, resident, slot active, asked by root, unread root
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("withdraw host 2").says(fx.Withdrawn()).asks().see("""
        /root    running 1, slot active, asked by host, owed 1
        /root/a  running 1, resident, slot active, asked by root
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


def test_queued_turn_for_which_no_trigger_mail_is_left_ends_interrupted_and_its_queue_only_mail_stays() -> None:
    s = Scenario(max_concurrent=2, overflow=QUEUE)
    s.rush("spawn root a by host", "loaded a", "spawn root b by host", "send host b").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        /root/b  queued 1, unread host! host
        session  open, slots 1/1, residency 1/1, ready b, idle -""")
    s.play("withdraw host 1").asks(
        fx.Answer((1,), Outcome(2, 1, TurnState.INTERRUPTED, "withdrawn", Cause.WITHDRAWN, HOST))
    ).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        /root/b  interrupted 1, unread host
        session  open, slots 1/1, residency 1/1, ready -, idle -""")


def test_starting_turn_for_which_no_trigger_mail_is_left_ends_interrupted_and_its_load_goes_on() -> None:
    s = Scenario()
    s.rush("spawn root a by host").see("""
        /root    new
        /root/a  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("withdraw host 0").asks(
        fx.Answer((0,), Outcome(1, 1, TurnState.INTERRUPTED, "withdrawn", Cause.WITHDRAWN, HOST))
    ).see("""
        /root    new
        /root/a  interrupted 1, loading
        session  open, slots 0/3, residency 1/3, ready -, idle -""")
    s.play("loaded a").asks().see("""
        /root    new
        /root/a  interrupted 1, resident
        session  open, slots 0/3, residency 1/3, ready -, idle a""")


def test_starting_turn_for_which_another_trigger_mail_is_left_goes_on() -> None:
    s = Scenario()
    s.rush("spawn root a by host", "follow_up host a").see("""
        /root    new
        /root/a  starting 1, loading, slot reserved, unread host! host!
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("withdraw host 0").asks(
        fx.Answer((0,), Outcome(1, 1, TurnState.INTERRUPTED, "withdrawn", Cause.WITHDRAWN, HOST))
    ).see("""
        /root    new
        /root/a  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


def test_slot_of_a_turn_that_a_withdrawal_ended_goes_to_the_first_who_queues() -> None:
    s = Scenario(max_concurrent=2, max_resident=2, overflow=QUEUE)
    s.rush("spawn root a by host", "spawn root b by host").see("""
        /root    new
        /root/a  starting 1, loading, slot reserved, unread host!
        /root/b  queued 1, unread host!
        session  open, slots 1/1, residency 1/2, ready b, idle -""")
    s.play("withdraw host 0").asks(
        fx.Answer((0,), Outcome(1, 1, TurnState.INTERRUPTED, "withdrawn", Cause.WITHDRAWN, HOST)),
        fx.Load(2, 1, "settings of b"),
    ).see("""
        /root    new
        /root/a  interrupted 1, loading
        /root/b  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/1, residency 2/2, ready -, idle -""")


def test_mail_that_a_failed_turn_left_unread_may_be_withdrawn_and_has_had_its_answer() -> None:
    s = Scenario()
    s.rush("spawn root a by host", "load_failed a").see("""
        /root    new
        /root/a  errored 1, unread host
        session  open, slots 0/3, residency 0/3, ready -, idle -""")
    s.play("withdraw host 0").asks().see("""
        /root    new
        /root/a  errored 1
        session  open, slots 0/3, residency 0/3, ready -, idle -""")


def test_mail_that_a_returned_turn_had_read_may_be_withdrawn() -> None:
    s = Scenario(max_attempts=2)
    s.rush("spawn root a by host", "loaded a", "died a").see("""
        /root    new
        /root/a  starting 2, loading, slot reserved, unread host!, returned 1
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("withdraw host 0").asks(
        fx.Answer((0,), Outcome(1, 2, TurnState.INTERRUPTED, "withdrawn", Cause.WITHDRAWN, HOST))
    ).see("""
        /root    new
        /root/a  interrupted 2, loading
        session  open, slots 0/3, residency 1/3, ready -, idle -""")


# Interrupt of a subtree


def test_interrupt_of_a_subtree_stops_every_turn_in_it_at_once_and_none_beside_it() -> None:
    s = Scenario(max_concurrent=5)
    s.rush(
        "spawn root a by host",
        "loaded a",
        "spawn root/a b by host",
        "loaded a/b",
        "spawn root/a/b c by host",
        "spawn root x by host",
        "loaded x",
    ).see("""
        /root        new
        /root/a      running 1, resident, slot active, asked by host
        /root/a/b    running 1, resident, slot active, asked by host
        /root/a/b/c  starting 1, loading, slot reserved, unread host!
        /root/x      running 1, resident, slot active, asked by host
        session      open, slots 4/4, residency 4/4, ready -, idle -""")
    s.play("interrupt host a subtree").says(
        fx.Interrupted(TurnState.RUNNING, (1, 2, 3), ("/root/a", "/root/a/b", "/root/a/b/c"))
    ).asks(
        fx.Cancel(1, 1),
        fx.Cancel(2, 1),
        fx.Answer((2,), Outcome(3, 1, TurnState.INTERRUPTED, "interrupted before it started", Cause.NOT_STARTED, HOST)),
    ).see("""
        /root        new
        /root/a      stopping 1, resident, slot active, interrupted by host, asked by host
        /root/a/b    stopping 1, resident, slot active, interrupted by host, asked by host
        /root/a/b/c  interrupted 1, loading, unread host
        /root/x      running 1, resident, slot active, asked by host
        session      open, slots 3/4, residency 4/4, ready -, idle -""")


def test_interrupt_of_a_subtree_whose_top_is_idle_stops_those_below_it() -> None:
    s = Scenario()
    s.rush("spawn root a by host", "loaded a", "spawn root/a b by host", "loaded a/b", "finished a").see("""
        /root      new
        /root/a    completed 1, resident
        /root/a/b  running 1, resident, slot active, asked by host
        session    open, slots 1/3, residency 2/3, ready -, idle a""")
    s.play("interrupt host a subtree").says(fx.Interrupted(TurnState.COMPLETED, (2,), ("/root/a/b",))).asks(
        fx.Cancel(2, 1)
    ).see("""
        /root      new
        /root/a    completed 1, resident
        /root/a/b  stopping 1, resident, slot active, interrupted by host, asked by host
        session    open, slots 1/3, residency 2/3, ready -, idle a""")


def test_interrupt_of_a_subtree_in_which_no_turn_is_stops_none() -> None:
    s = Scenario()
    s.rush("spawn root a by host", "loaded a", "finished a").see("""
        /root    new
        /root/a  completed 1, resident
        session  open, slots 0/3, residency 1/3, ready -, idle a""")
    s.play("interrupt host a subtree").says(fx.Interrupted(TurnState.COMPLETED, (), ())).asks().see("""
        /root    new
        /root/a  completed 1, resident
        session  open, slots 0/3, residency 1/3, ready -, idle a""")


def test_interrupt_without_subtree_leaves_the_children_at_work() -> None:
    s = Scenario()
    s.rush("spawn root a by host", "loaded a", "spawn root/a b by host", "loaded a/b").see("""
        /root      new
        /root/a    running 1, resident, slot active, asked by host
        /root/a/b  running 1, resident, slot active, asked by host
        session    open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("interrupt host a").says(fx.Interrupted(TurnState.RUNNING, (1,), ("/root/a",))).asks(fx.Cancel(1, 1)).see("""
        /root      new
        /root/a    stopping 1, resident, slot active, interrupted by host, asked by host
        /root/a/b  running 1, resident, slot active, asked by host
        session    open, slots 2/3, residency 2/3, ready -, idle -""")


def test_end_of_a_member_wakes_no_other_by_its_notice_though_notices_are_trigger_mail() -> None:
    s = Scenario(notice=TRIGGER, notify_interrupted=True)
    s.rush(
        "spawn root a by host", "loaded a", "spawn root/a b", "loaded a/b", "interrupt host a subtree", "aborted a"
    ).see("""
        /root      new
        /root/a    interrupted 1, resident, owed 1
        /root/a/b  stopping 1, resident, slot active, interrupted by host, asked by a
        session    open, slots 1/3, residency 2/3, ready -, idle a""")
    s.play("aborted a/b").asks(
        fx.Answer((1,), Outcome(2, 1, TurnState.INTERRUPTED, "interrupted", Cause.INTERRUPTED, HOST))
    ).see("""
        /root      new
        /root/a    interrupted 1, resident, unread a/b=interrupted
        /root/a/b  interrupted 1, resident
        session    open, slots 0/3, residency 2/3, ready -, idle a a/b""")


def test_end_of_a_member_wakes_a_requester_outside_the_subtree() -> None:
    s = Scenario(notice=TRIGGER, notify_interrupted=True)
    s.rush(
        "spawn root x by host", "loaded x", "spawn root a by x", "loaded a", "finished x", "interrupt host a subtree"
    ).see("""
        /root    new
        /root/x  completed 1, resident, owed 1
        /root/a  stopping 1, resident, slot active, interrupted by host, asked by x
        session  open, slots 1/3, residency 2/3, ready -, idle x""")
    s.play("aborted a").asks(
        fx.Answer((1,), Outcome(2, 1, TurnState.INTERRUPTED, "interrupted", Cause.INTERRUPTED, HOST)),
        fx.StartTurn(
            1,
            2,
            1,
            (
                MailAccepted(
                    2,
                    2,
                    1,
                    MailKind.TRIGGER,
                    "",
                    Outcome(2, 1, TurnState.INTERRUPTED, "interrupted", Cause.INTERRUPTED, HOST),
                    None,
                    (1,),
                ),
            ),
        ),
    ).see("""
        /root    new
        /root/x  running 2, resident, slot active
        /root/a  interrupted 1, resident
        session  open, slots 1/3, residency 2/3, ready -, idle a""")


def test_end_of_a_member_that_was_stopping_before_wakes_no_other_either() -> None:
    s = Scenario(notice=TRIGGER, notify_interrupted=True)
    s.rush(
        "spawn root a by host",
        "loaded a",
        "spawn root/a b",
        "loaded a/b",
        "interrupt host a/b",
        "interrupt host a subtree",
        "aborted a",
    ).see("""
        /root      new
        /root/a    interrupted 1, resident, owed 1
        /root/a/b  stopping 1, resident, slot active, interrupted by host, asked by a
        session    open, slots 1/3, residency 2/3, ready -, idle a""")
    s.play("aborted a/b").asks(
        fx.Answer((1,), Outcome(2, 1, TurnState.INTERRUPTED, "interrupted", Cause.INTERRUPTED, HOST))
    ).see("""
        /root      new
        /root/a    interrupted 1, resident, unread a/b=interrupted
        /root/a/b  interrupted 1, resident
        session    open, slots 0/3, residency 2/3, ready -, idle a a/b""")


def test_trigger_mail_among_members_asks_for_no_turn_any_more_and_mail_from_outside_does() -> None:
    s = Scenario()
    s.rush(
        "spawn root a by host",
        "loaded a",
        "spawn root/a b by host",
        "loaded a/b",
        "follow_up a a/b",
        "follow_up host a",
        "interrupt host a subtree",
    ).see("""
        /root      new
        /root/a    stopping 1, resident, slot active, interrupted by host, asked by host, unread host!
        /root/a/b  stopping 1, resident, slot active, interrupted by host, asked by host, unread a
        session    open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("aborted a/b").asks(
        fx.Answer((1,), Outcome(2, 1, TurnState.INTERRUPTED, "interrupted", Cause.INTERRUPTED, HOST))
    ).see("""
        /root      new
        /root/a    stopping 1, resident, slot active, interrupted by host, asked by host, unread host!
        /root/a/b  interrupted 1, resident, unread a
        session    open, slots 1/3, residency 2/3, ready -, idle a/b""")
    s.play("aborted a").asks(
        fx.Answer((0,), Outcome(1, 1, TurnState.INTERRUPTED, "interrupted", Cause.INTERRUPTED, HOST)),
        fx.StartTurn(1, 2, 1, (MailAccepted(3, HOST, 1, MailKind.TRIGGER, "work"),)),
    ).see("""
        /root      new
        /root/a    running 2, resident, slot active, asked by host
        /root/a/b  interrupted 1, resident, unread a
        session    open, slots 1/3, residency 2/3, ready -, idle a/b""")


def test_notice_of_kind_trigger_among_members_asks_for_no_turn_any_more() -> None:
    s = Scenario(notice=TRIGGER)
    s.rush("spawn root a by host", "loaded a", "spawn root/a b", "loaded a/b", "finished a/b").see("""
        /root      new
        /root/a    running 1, resident, slot active, asked by host, unread a/b=completed!
        /root/a/b  completed 1, resident
        session    open, slots 1/3, residency 2/3, ready -, idle a/b""")
    s.play("interrupt host a subtree").asks(fx.Cancel(1, 1)).see("""
        /root      new
        /root/a    stopping 1, resident, slot active, interrupted by host, asked by host, unread a/b=completed
        /root/a/b  completed 1, resident
        session    open, slots 1/3, residency 2/3, ready -, idle a/b""")
    s.play("aborted a").asks(
        fx.Answer((0,), Outcome(1, 1, TurnState.INTERRUPTED, "interrupted", Cause.INTERRUPTED, HOST))
    ).see("""
        /root      new
        /root/a    interrupted 1, resident, unread a/b=completed
        /root/a/b  completed 1, resident
        session    open, slots 0/3, residency 2/3, ready -, idle a/b a""")


def test_interrupt_of_a_subtree_by_an_agent_outside_it_is_that_of_the_host() -> None:
    s = Scenario()
    s.rush("spawn root a by host", "loaded a", "spawn root b by host", "loaded b").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("interrupt b a subtree").says(fx.Interrupted(TurnState.RUNNING, (1,), ("/root/a",))).asks(
        fx.Cancel(1, 1)
    ).see("""
        /root    new
        /root/a  stopping 1, resident, slot active, interrupted by b, asked by host
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 2/3, residency 2/3, ready -, idle -""")


def test_stop_of_a_subtree_outlives_a_crash() -> None:
    s = Scenario(notice=TRIGGER, notify_interrupted=True)
    s.rush("spawn root a by host", "loaded a", "spawn root/a b", "loaded a/b", "interrupt host a subtree").see("""
        /root      new
        /root/a    stopping 1, resident, slot active, interrupted by host, asked by host, owed 1
        /root/a/b  stopping 1, resident, slot active, interrupted by host, asked by a
        session    open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("restart").asks(
        fx.Answer((0,), Outcome(1, 1, TurnState.INTERRUPTED, "interrupted by a crash", Cause.INTERRUPTED, HOST)),
        fx.Answer((1,), Outcome(2, 1, TurnState.INTERRUPTED, "interrupted by a crash", Cause.INTERRUPTED, HOST)),
    ).see("""
        /root      new
        /root/a    interrupted 1, unread a/b=interrupted
        /root/a/b  interrupted 1
        session    open, slots 0/3, residency 0/3, ready -, idle -""")


# Stopping turns begin nothing


def test_turn_that_is_to_stop_may_still_send_mail_and_give_its_result() -> None:
    s = Scenario()
    s.rush("spawn root a by host", "loaded a", "spawn root b by host", "loaded b", "interrupt host a").see("""
        /root    new
        /root/a  stopping 1, resident, slot active, interrupted by host, asked by host
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("send a b").says(fx.Accepted(2)).asks().see("""
        /root    new
        /root/a  stopping 1, resident, slot active, interrupted by host, asked by host
        /root/b  running 1, resident, slot active, asked by host, unread a
        session  open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("finished a").asks(answered(1, 1, 0)).see("""
        /root    new
        /root/a  completed 1, resident
        /root/b  running 1, resident, slot active, asked by host, unread a
        session  open, slots 1/3, residency 2/3, ready -, idle a""")


# Forget


def test_forget_of_a_closed_agent_drops_what_is_below_it_and_leaves_those_beside_it() -> None:
    s = Scenario()
    s.rush(
        "spawn root a by host", "loaded a", "spawn root/a b by host", "spawn root/a c by host", "close host a"
    ).see("""
        /root      new
        /root/a    closed, interrupted 1
        /root/a/b  closed with a, interrupted 1
        /root/a/c  closed with a, interrupted 1
        session    open, slots 0/3, residency 0/3, ready -, idle -""")
    s.play("forget a").says(fx.Forgotten((1, 2, 3), ("/root/a", "/root/a/b", "/root/a/c"))).asks().see("""
        /root    new
        #1       forgotten
        #2       forgotten
        #3       forgotten
        session  open, slots 0/3, residency 0/3, ready -, idle -""")
    s.play("list /root").says(
        fx.Listing((fx.AgentStatus(ROOT, "/root", -1, True, TurnState.NEW, 0, 0, None, None, True),))
    ).asks().see("""
        /root    new
        #1       forgotten
        #2       forgotten
        #3       forgotten
        session  open, slots 0/3, residency 0/3, ready -, idle -""")


def test_forget_of_a_child_leaves_its_closed_parent_and_siblings_known() -> None:
    s = Scenario()
    s.rush(
        "spawn root a by host", "loaded a", "spawn root/a b by host", "spawn root/a c by host", "close host a"
    ).see("""
        /root      new
        /root/a    closed, interrupted 1
        /root/a/b  closed with a, interrupted 1
        /root/a/c  closed with a, interrupted 1
        session    open, slots 0/3, residency 0/3, ready -, idle -""")
    s.play("forget a/b").says(fx.Forgotten((2,), ("/root/a/b",))).asks().see("""
        /root      new
        /root/a    closed, interrupted 1
        #2         forgotten
        /root/a/c  closed with a, interrupted 1
        session    open, slots 0/3, residency 0/3, ready -, idle -""")
    s.play("resume host a").says(fx.Resumed((1,), (), ("/root/a",), ())).asks().see("""
        /root      new
        /root/a    interrupted 1
        #2         forgotten
        /root/a/c  closed with a, interrupted 1
        session    open, slots 0/3, residency 0/3, ready -, idle -""")


def test_id_of_a_forgotten_agent_is_never_given_again() -> None:
    s = Scenario()
    s.rush("spawn root a by host", "close host a", "forget a").see("""
        /root    new
        #1       forgotten
        session  open, slots 0/3, residency 0/3, ready -, idle -""")
    s.play("spawn root a by host").says(fx.Spawned(2, 1)).asks(fx.Load(2, 1, "settings of a")).see("""
        /root    new
        #1       forgotten
        /root/a  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


def test_number_of_a_forgotten_mail_is_never_given_again_and_counts_as_answered() -> None:
    s = Scenario()
    s.rush("spawn root a by host", "close host a", "forget a", "spawn root b by host", "loaded b").see("""
        /root    new
        #1       forgotten
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("await b 0").says(fx.WaitOver(WaitEnd.ANSWERED)).asks().see("""
        /root    new
        #1       forgotten
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


def test_request_of_a_forgotten_agent_is_answered_to_no_agent() -> None:
    s = Scenario()
    s.rush("spawn root a by host", "loaded a", "spawn root b by a", "loaded b", "close host a", "forget a").see("""
        /root    new
        #1       forgotten
        /root/b  running 1, resident, slot active, asked by #1
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("finished b").asks(answered(2, 1, 1)).see("""
        /root    new
        #1       forgotten
        /root/b  completed 1, resident
        session  open, slots 0/3, residency 1/3, ready -, idle b""")


def test_mail_of_a_forgotten_agent_stays_where_it_is() -> None:
    s = Scenario()
    s.rush("spawn root a by host", "loaded a", "spawn root b by host", "send a b", "close host a", "forget a").see("""
        /root    new
        #1       forgotten
        /root/b  starting 1, loading, slot reserved, unread host! #1
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("loaded b").asks(
        fx.StartTurn(
            2, 1, 1, (MailAccepted(1, HOST, 2, MailKind.TRIGGER, "work"), MailAccepted(2, 1, 2, MailKind.QUEUE, "note"))
        )
    ).see("""
        /root    new
        #1       forgotten
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


def test_report_of_a_forgotten_agent_is_stale() -> None:
    s = Scenario()
    s.rush("spawn root a by host", "loaded a", "close host a", "forget a").see("""
        /root    new
        #1       forgotten
        session  open, slots 0/3, residency 0/3, ready -, idle -""")
    s.play("loaded #1 1").says(fx.Stale()).same()
    s.play("finished #1 1").says(fx.Stale()).same()
    s.play("died #1 1").says(fx.Stale()).same()


def test_forgotten_agent_stays_so_after_a_restart() -> None:
    s = Scenario()
    s.rush("spawn root a by host", "loaded a", "spawn root b by a", "loaded b", "close host a", "forget a").see("""
        /root    new
        #1       forgotten
        /root/b  running 1, resident, slot active, asked by #1
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("restart").asks(
        fx.Answer((1,), Outcome(2, 1, TurnState.INTERRUPTED, "interrupted by a crash", Cause.CRASHED))
    ).see("""
        /root    new
        #1       forgotten
        /root/b  interrupted 1
        session  open, slots 0/3, residency 0/3, ready -, idle -""")
