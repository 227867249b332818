"""Spawn, send, list, interrupt, resume and close as callers see them: the rows PEER-H02 to PEER-H57 and PEER-H76 to
PEER-H83 of the peer list (`specs/peer-scenarios.md`)."""

from __future__ import annotations

import pytest

from statemachine.core import effects as fx
from statemachine.core.config import SlotPolicy
from statemachine.core.events import HOST, ROOT, FollowUp, Send, Spawn
from statemachine.core.machines import TurnState
from statemachine.core.records import Cause, MailAccepted, MailKind, Outcome
from tests.core.scenario import LIVE, Scenario, idle, running

# Spawn


def test_peer_H02_spawn_with_an_empty_message_is_refused() -> None:
    s = Scenario(slot_policy=LIVE)
    s.feed(Spawn(ROOT, "a", ""))
    s.refused("InvalidMessage", 0, 1 << 20)


def test_peer_H04_H27_spawn_returns_the_id_and_status_tells_the_path() -> None:
    s = Scenario(slot_policy=LIVE)
    s.play("spawn root a").says(fx.Spawned(1, 0)).see("""
        /root    new, owed 1
        /root/a  starting 1, loading, slot reserved, unread root!
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    assert s.status("a").path == "/root/a"


def test_peer_H08_spawn_by_a_live_thread_at_max_depth_is_refused() -> None:
    s = running(slot_policy=LIVE, max_depth=1)
    s.play("spawn root/a b").refused("DepthExceeded", 2, 1)


def test_peer_H09_spawn_up_to_max_depth_is_accepted() -> None:
    s = running(slot_policy=LIVE, max_depth=2)
    s.play("spawn root/a b").see("""
        /root      new
        /root/a    running 1, resident, slot active, asked by host, owed 1
        /root/a/b  starting 1, loading, slot reserved, unread a!
        session    open, slots 2/3, residency 2/3, ready -, idle -""")


def test_peer_H10_max_depth_holds_for_active_turns_too() -> None:
    s = running(max_depth=1)
    s.play("spawn root/a b").refused("DepthExceeded", 2, 1)


def test_peer_H18_spawn_without_a_name_is_refused() -> None:
    s = Scenario()
    s.feed(Spawn(ROOT, "", "work"))
    s.refused("InvalidName", "")


def test_peer_H28_spawn_with_an_upper_case_name_is_refused_with_that_name() -> None:
    s = Scenario()
    s.play("spawn root Worker").refused("InvalidName", "Worker")


# Mail


def test_peer_H29_parent_sends_queue_only_mail_to_its_child() -> None:
    s = Scenario()
    s.play("start root").see("""
        /root  running 1, slot active, asked by host
        session  open, slots 0/3, residency 0/3, ready -, idle -""")
    s.play("spawn root a").see("""
        /root    running 1, slot active, asked by host, owed 1
        /root/a  starting 1, loading, slot reserved, unread root!
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("loaded a").see("""
        /root    running 1, slot active, asked by host, owed 1
        /root/a  running 1, resident, slot active, asked by root
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("send root a").says(fx.Accepted(2)).asks().see("""
        /root    running 1, slot active, asked by host, owed 1
        /root/a  running 1, resident, slot active, asked by root, unread root
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


def test_peer_H30_child_sends_queue_only_mail_to_the_root_which_does_not_start() -> None:
    s = running()
    s.play("send a root").says(fx.Accepted(1)).asks().see("""
        /root    new, unread a
        /root/a  running 1, resident, slot active, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


@pytest.mark.parametrize("policy", SlotPolicy)
def test_peer_H35_H51_interrupt_and_follow_up_stop_the_turn_and_start_the_next_with_the_message(
    policy: SlotPolicy,
) -> None:
    s = running(slot_policy=policy)
    s.play("interrupt host a").asks(fx.Cancel(1, 1)).see("""
        /root    new
        /root/a  stopping 1, resident, slot active, interrupted by host, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("follow_up host a").says(fx.Accepted(1)).asks().see("""
        /root    new
        /root/a  stopping 1, resident, slot active, interrupted by host, asked by host, unread host!
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    task = MailAccepted(1, HOST, 1, MailKind.TRIGGER, "work")
    stopped = Outcome(1, 1, TurnState.INTERRUPTED, "interrupted", Cause.INTERRUPTED, HOST)
    s.play("aborted a").asks(fx.Answer((0,), stopped), fx.StartTurn(1, 2, 1, (task,))).see("""
        /root    new
        /root/a  running 2, resident, slot active, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


def test_peer_H47_empty_message_is_refused() -> None:
    s = idle(slot_policy=LIVE)
    s.feed(Send(HOST, 1, ""))
    s.refused("InvalidMessage", 0, 1 << 20)
    s.feed(FollowUp(HOST, 1, ""))
    s.refused("InvalidMessage", 0, 1 << 20)


@pytest.mark.parametrize("number", [HOST, -7, 2])
def test_peer_H49_send_to_what_is_no_agent_is_refused(number: int) -> None:
    s = idle(slot_policy=LIVE)
    s.play(f"send host #{number}").refused("UnknownAgent", number)


# List


def test_peer_H38_list_shows_the_root_first_then_the_completed_worker_with_its_result() -> None:
    s = idle()
    assert s.status("a").outcome == Outcome(1, 1, TurnState.COMPLETED, "result", Cause.FINISHED)
    s.lists("/root", "root", "a")


def test_peer_H38_list_is_sorted_by_path_and_not_by_age() -> None:
    s = running()
    s.play("spawn root/a z by host").see("""
        /root      new
        /root/a    running 1, resident, slot active, asked by host
        /root/a/z  starting 1, loading, slot reserved, unread host!
        session    open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("spawn root _ by host").see("""
        /root      new
        /root/a    running 1, resident, slot active, asked by host
        /root/a/z  starting 1, loading, slot reserved, unread host!
        /root/_    starting 1, loading, slot reserved, unread host!
        session    open, slots 3/3, residency 3/3, ready -, idle -""")
    s.lists("/root", "root", "_", "a", "a/z")


def test_peer_H39_list_with_a_prefix_shows_that_agent_and_those_below_it() -> None:
    s = running()
    s.play("spawn root/a worker by host").see("""
        /root           new
        /root/a         running 1, resident, slot active, asked by host
        /root/a/worker  starting 1, loading, slot reserved, unread host!
        session         open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("spawn root ab by host").see("""
        /root           new
        /root/a         running 1, resident, slot active, asked by host
        /root/a/worker  starting 1, loading, slot reserved, unread host!
        /root/ab        starting 1, loading, slot reserved, unread host!
        session         open, slots 3/3, residency 3/3, ready -, idle -""")
    s.lists("/root/a", "a", "a/worker")
    s.lists("/root/a/worker", "a/worker")


def test_peer_H40_list_leaves_out_closed_agents() -> None:
    s = idle()
    s.play("close host a").see("""
        /root    new
        /root/a  closed, completed 1
        session  open, slots 0/3, residency 0/3, ready -, idle -""")
    s.lists("/root", "root")


# Interrupt


def test_peer_H42_interrupt_stops_only_the_target_and_its_child_goes_on() -> None:
    s = running()
    s.play("spawn root/a b by host").see("""
        /root      new
        /root/a    running 1, resident, slot active, asked by host
        /root/a/b  starting 1, loading, slot reserved, unread host!
        session    open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("loaded a/b").see("""
        /root      new
        /root/a    running 1, resident, slot active, asked by host
        /root/a/b  running 1, resident, slot active, asked by host
        session    open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("interrupt host a").says(fx.Interrupted(TurnState.RUNNING, (1,), ("/root/a",))).asks(fx.Cancel(1, 1)).see("""
        /root      new
        /root/a    stopping 1, resident, slot active, interrupted by host, asked by host
        /root/a/b  running 1, resident, slot active, asked by host
        session    open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("aborted a").see("""
        /root      new
        /root/a    interrupted 1, resident
        /root/a/b  running 1, resident, slot active, asked by host
        session    open, slots 1/3, residency 2/3, ready -, idle a""")
    assert s.session.find("/root/a") == 1


def test_peer_H44_interrupt_of_the_root_by_an_agent_is_refused() -> None:
    s = running()
    s.play("start root").see("""
        /root    running 1, slot active, asked by host
        /root/a  running 1, resident, slot active, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("interrupt a root").refused("RootRefused", "interrupt")


def test_peer_H46_interrupt_of_oneself_is_refused() -> None:
    running().play("interrupt a a").refused("SelfRefused", "interrupt", 1)


# Resume


@pytest.mark.parametrize("number", [HOST, -7])
def test_peer_H53_resume_of_what_is_no_agent_is_refused(number: int) -> None:
    Scenario(slot_policy=LIVE).play(f"resume host #{number}").refused("UnknownAgent", number)


def test_peer_H54_resume_of_an_unknown_agent_is_refused_with_its_id() -> None:
    idle(slot_policy=LIVE).play("resume host #2").refused("UnknownAgent", 2)


def test_peer_H55_resume_of_an_open_agent_changes_nothing_and_says_so() -> None:
    idle(slot_policy=LIVE).play("resume host a").refused("AgentOpen", 1)


def test_peer_H56_resumed_agent_takes_mail_and_is_loaded_by_its_next_turn() -> None:
    s = idle(slot_policy=LIVE)
    s.play("close host a").see("""
        /root    new
        /root/a  closed, completed 1
        session  open, slots 0/3, residency 0/3, ready -, idle -""")
    s.play("send host a").refused("AgentClosed", 1)
    s.play("resume host a").says(fx.Resumed((1,), (), ("/root/a",), ())).asks().see("""
        /root    new
        /root/a  completed 1, slot reserved
        session  open, slots 1/3, residency 0/3, ready -, idle -""")
    s.play("send host a").says(fx.Accepted(1)).see("""
        /root    new
        /root/a  completed 1, slot reserved, unread host
        session  open, slots 1/3, residency 0/3, ready -, idle -""")
    s.play("follow_up host a").asks(fx.Load(1, 2, "settings of a")).see("""
        /root    new
        /root/a  starting 2, loading, slot reserved, unread host host!
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


def test_peer_H57_resume_at_max_depth_is_accepted_because_depth_was_checked_at_spawn() -> None:
    s = idle(slot_policy=LIVE, max_depth=1)
    s.play("close host a").see("""
        /root    new
        /root/a  closed, completed 1
        session  open, slots 0/3, residency 0/3, ready -, idle -""")
    s.play("resume host a").says(fx.Resumed((1,), (), ("/root/a",), ())).see("""
        /root    new
        /root/a  completed 1, slot reserved
        session  open, slots 1/3, residency 0/3, ready -, idle -""")


# Close


def test_peer_H76_close_drops_the_thread_and_keeps_the_previous_status_readable() -> None:
    s = idle(slot_policy=LIVE)
    s.play("close host a").says(fx.ClosedAgents((1,), ("/root/a",))).asks(fx.Unload(1, 1)).see("""
        /root    new
        /root/a  closed, completed 1
        session  open, slots 0/3, residency 0/3, ready -, idle -""")
    status = s.status("a")
    assert (status.open, status.status, status.resident) == (False, TurnState.COMPLETED, False)


@pytest.mark.parametrize("number", [HOST, -7])
def test_peer_H77_close_of_what_is_no_agent_is_refused(number: int) -> None:
    idle(slot_policy=LIVE).play(f"close host #{number}").refused("UnknownAgent", number)


@pytest.mark.parametrize("sender", ["a", "host", "root"])
def test_peer_H78_H83_close_of_the_root_is_refused_whoever_asks(sender: str) -> None:
    idle(slot_policy=LIVE).play(f"close {sender} root").refused("RootRefused", "close")
