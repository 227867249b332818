"""Sending, status, trees and their ends: the other rows C of the peer list (`specs/peer-scenarios.md`)."""

from __future__ import annotations

from typing import Any

from statemachine.core import effects as fx
from statemachine.core.events import HOST, ROOT
from statemachine.core.machines import TurnState
from statemachine.core.records import Cause, MailAccepted, MailKind, Outcome
from tests.core.scenario import LIVE, Scenario, idle, running

# Without a session to serve


def closed() -> Scenario:
    """A session that was shut down."""
    s = Scenario()
    s.play("shutdown 0").says(fx.ShuttingDown()).asks(fx.Flush(ROOT, 0, 1)).see("""
        /root  new
        session  draining, slots 0/3, residency 0/3, ready -, idle -, done -, interrupted -, unflushed -""")
    s.play("flushed root").asks(fx.Unload(ROOT, 0), fx.ShutDown((), (), ())).see("""
        /root  new
        session  closed, slots 0/3, residency 0/3, ready -, idle -, done -, interrupted -, unflushed -""")
    return s


def test_peer_C01_send_to_a_closed_session_is_refused() -> None:
    closed().play("send host root").refused("SessionClosed")


def test_peer_C02_status_is_still_told_by_a_closed_session() -> None:
    s = closed()
    assert s.status("root").status is TurnState.NEW


def test_peer_C02_status_is_not_told_by_a_session_whose_store_failed() -> None:
    s = Scenario()
    s.play("write_failed").see("""
        /root  new
        session  failed, slots 0/3, residency 0/3, ready -, idle -""")
    s.play("status root").refused("StoreFailed", "disk full")


def test_peer_C03_H05_spawn_in_a_closed_session_is_refused() -> None:
    closed().play("spawn root a").refused("SessionClosed")


def test_peer_C04_resume_in_a_closed_session_is_refused() -> None:
    closed().play("resume host root").refused("SessionClosed")


# Status


def test_peer_C05_started_turn_is_running() -> None:
    status = running().status("a")
    assert (status.status, status.turn, status.outcome) == (TurnState.RUNNING, 1, None)


def test_peer_C06_finished_turn_is_completed_with_its_result() -> None:
    status = idle().status("a")
    assert (status.status, status.outcome) == (
        TurnState.COMPLETED,
        Outcome(1, 1, TurnState.COMPLETED, "result", Cause.FINISHED),
    )


def test_peer_C07_failed_turn_is_errored_with_its_error() -> None:
    s = running()
    s.play("failed a").see("""
        /root    new
        /root/a  errored 1, resident
        session  open, slots 0/3, residency 1/3, ready -, idle a""")
    status = s.status("a")
    assert (status.status, status.outcome) == (
        TurnState.ERRORED,
        Outcome(1, 1, TurnState.ERRORED, "error", Cause.FAILED),
    )


def test_peer_C08_stopped_turn_is_interrupted_and_not_errored() -> None:
    s = running()
    s.play("interrupt host a").see("""
        /root    new
        /root/a  stopping 1, resident, slot active, interrupted by host, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("aborted a").see("""
        /root    new
        /root/a  interrupted 1, resident
        session  open, slots 0/3, residency 1/3, ready -, idle a""")
    status = s.status("a")
    assert (status.status, status.outcome) == (
        TurnState.INTERRUPTED,
        Outcome(1, 1, TurnState.INTERRUPTED, "interrupted", Cause.INTERRUPTED, HOST),
    )


def test_peer_C09_shutdown_leaves_status_and_result_as_they_were() -> None:
    s = idle()
    before = s.status("a")
    s.play("shutdown 0").asks(fx.Flush(ROOT, 0, 1), fx.Flush(1, 1, 2)).see("""
        /root    new
        /root/a  completed 1, resident
        session  draining, slots 0/3, residency 1/3, ready -, idle a, done -, interrupted -, unflushed -""")
    s.play("flushed root").see("""
        /root    new
        /root/a  completed 1, resident
        session  draining, slots 0/3, residency 1/3, ready -, idle a, done -, interrupted -, unflushed -""")
    s.play("flushed a").see("""
        /root    new
        /root/a  completed 1
        session  closed, slots 0/3, residency 0/3, ready -, idle -, done -, interrupted -, unflushed -""")
    after = s.status("a")
    assert (before.status, before.outcome) == (after.status, after.outcome)
    assert (before.resident, after.resident) == (True, False)


def test_peer_C10_H50_send_to_an_unknown_agent_is_refused_with_its_id() -> None:
    Scenario().play("send host #9").refused("UnknownAgent", 9)


def test_peer_C11_status_of_an_unknown_agent_is_refused() -> None:
    Scenario().play("status #9").refused("UnknownAgent", 9)


def test_peer_C12_spawned_agent_is_starting_and_the_root_without_work_is_new() -> None:
    s = Scenario()
    s.play("spawn root a by host").see("""
        /root    new
        /root/a  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    assert (s.status("a").status, s.status("a").turn, s.status("a").outcome) == (TurnState.STARTING, 1, None)
    assert (s.status("root").status, s.status("root").turn) == (TurnState.NEW, 0)


def test_peer_C13_wait_for_an_unknown_agent_is_refused() -> None:
    running().play("wait a 5 #9").refused("UnknownAgent", 9)


# Work


def test_peer_C15_start_gives_a_mail_number_and_one_turn_with_that_mail() -> None:
    task = MailAccepted(0, HOST, ROOT, MailKind.TRIGGER, "work")
    s = Scenario().play("start root").says(fx.Accepted(0)).asks(fx.StartTurn(ROOT, 1, 0, (task,)))
    s.see("""
        /root  running 1, slot active, asked by host
        session  open, slots 0/3, residency 0/3, ready -, idle -""")


def test_peer_C16_queue_only_mail_waits_and_starts_no_turn() -> None:
    s = idle().play("send root a").says(fx.Accepted(1)).asks()
    s.see("""
        /root    new
        /root/a  completed 1, resident, unread root
        session  open, slots 0/3, residency 1/3, ready -, idle a""")


def test_peer_C19_spawn_loads_the_agent_and_its_first_turn_gets_the_message() -> None:
    s = Scenario()
    s.play("spawn root a").says(fx.Spawned(1, 0)).asks(fx.Load(1, 1, "settings of a")).see("""
        /root    new, owed 1
        /root/a  starting 1, loading, slot reserved, unread root!
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    task = MailAccepted(0, ROOT, 1, MailKind.TRIGGER, "work")
    s.play("loaded a").asks(fx.StartTurn(1, 1, 1, (task,))).see("""
        /root    new, owed 1
        /root/a  running 1, resident, slot active, asked by root
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


def test_peer_C28_live_thread_that_dies_gives_its_slot_back() -> None:
    s = idle(max_concurrent=2, slot_policy=LIVE)
    s.play("died a").see("""
        /root    new
        /root/a  closed, completed 1
        session  open, slots 0/1, residency 0/1, ready -, idle -""")
    s.play("spawn root b by host").see("""
        /root    new
        /root/a  closed, completed 1
        /root/b  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/1, residency 1/1, ready -, idle -""")


def test_peer_C32_live_child_that_is_closed_while_it_runs_leaves_its_parent_a_notice() -> None:
    s = Scenario(slot_policy=LIVE)
    s.play("spawn root a").see("""
        /root    new, owed 1
        /root/a  starting 1, loading, slot reserved, unread root!
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("loaded a").see("""
        /root    new, owed 1
        /root/a  running 1, resident, slot active, asked by root
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    ended = Outcome(1, 1, TurnState.INTERRUPTED, "closed", Cause.CLOSED, HOST)
    s.play("close host a").asks(fx.Unload(1, 1), fx.Answer((0,), ended)).see("""
        /root    new, unread a=interrupted
        /root/a  closed, interrupted 1
        session  open, slots 0/3, residency 0/3, ready -, idle -""")
    assert s.session.agents[ROOT].mailbox == (MailAccepted(1, 1, ROOT, MailKind.QUEUE, "", ended, None, (0,)),)


def test_peer_C35_request_to_an_unknown_agent_is_refused_and_promises_no_notice() -> None:
    s = Scenario()
    s.play("start root").see("""
        /root  running 1, slot active, asked by host
        session  open, slots 0/3, residency 0/3, ready -, idle -""")
    s.play("follow_up root #9").refused("UnknownAgent", 9)


# Trees


def family(**config: Any) -> Scenario:
    """`a`, its child `a/b`, and its grandchild `a/b/c`, each asked for by the host and on its way into memory."""
    s = Scenario(**config)
    cap = s.session.config.execution_cap
    s.play("spawn root a by host").see(f"""
        /root    new
        /root/a  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/{cap}, residency 1/{cap}, ready -, idle -""")
    s.play("spawn root/a b by host").see(f"""
        /root      new
        /root/a    starting 1, loading, slot reserved, unread host!
        /root/a/b  starting 1, loading, slot reserved, unread host!
        session    open, slots 2/{cap}, residency 2/{cap}, ready -, idle -""")
    return s.play("spawn root/a/b c by host").see(f"""
        /root        new
        /root/a      starting 1, loading, slot reserved, unread host!
        /root/a/b    starting 1, loading, slot reserved, unread host!
        /root/a/b/c  starting 1, loading, slot reserved, unread host!
        session      open, slots 3/{cap}, residency 3/{cap}, ready -, idle -""")


def test_peer_C38_resumed_agent_is_the_same_and_is_loaded_with_its_own_settings() -> None:
    s = idle()
    before = s.status("a")
    s.play("close host a").see("""
        /root    new
        /root/a  closed, completed 1
        session  open, slots 0/3, residency 0/3, ready -, idle -""")
    s.play("resume host a").says(fx.Resumed((1,), (), ("/root/a",), ())).asks().see("""
        /root    new
        /root/a  completed 1
        session  open, slots 0/3, residency 0/3, ready -, idle -""")
    after = s.status("a")
    assert (after.agent, after.path, after.parent) == (before.agent, before.path, before.parent) == (1, "/root/a", ROOT)
    assert (after.settings, after.status, after.outcome) == (before.settings, before.status, before.outcome)
    s.play("follow_up host a").asks(fx.Load(1, 2, "settings of a")).see("""
        /root    new
        /root/a  starting 2, loading, slot reserved, unread host!
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


def test_peer_C40_subtree_has_closed_descendants_too_and_list_only_the_open_ones() -> None:
    s = family(max_concurrent=5)
    s.play("spawn root d by host").see("""
        /root        new
        /root/a      starting 1, loading, slot reserved, unread host!
        /root/a/b    starting 1, loading, slot reserved, unread host!
        /root/a/b/c  starting 1, loading, slot reserved, unread host!
        /root/d      starting 1, loading, slot reserved, unread host!
        session      open, slots 4/4, residency 4/4, ready -, idle -""")
    s.play("close host a/b/c").see("""
        /root        new
        /root/a      starting 1, loading, slot reserved, unread host!
        /root/a/b    starting 1, loading, slot reserved, unread host!
        /root/a/b/c  closed, interrupted 1
        /root/d      starting 1, loading, slot reserved, unread host!
        session      open, slots 3/4, residency 3/4, ready -, idle -""")
    assert [agent.id for agent in s.session.subtree(1)] == [1, 2, 3]
    assert [agent.id for agent in s.session.subtree(2)] == [2, 3]
    s.lists("/root/a", "a", "a/b")


def test_peer_C42_close_closes_the_whole_tree_and_drops_each_thread_once() -> None:
    s = family()
    ends = [Outcome(agent, 1, TurnState.INTERRUPTED, "closed", Cause.CLOSED, HOST) for agent in (1, 2, 3)]
    s.play("close host a").says(fx.ClosedAgents((1, 2, 3), ("/root/a", "/root/a/b", "/root/a/b/c"))).asks(
        *(fx.Unload(1, 1), fx.Answer((0,), ends[0])),
        *(fx.Unload(2, 1), fx.Answer((1,), ends[1])),
        *(fx.Unload(3, 1), fx.Answer((2,), ends[2])),
    )
    s.see("""
        /root        new
        /root/a      closed, interrupted 1
        /root/a/b    closed with a, interrupted 1
        /root/a/b/c  closed with a, interrupted 1
        session      open, slots 0/3, residency 0/3, ready -, idle -""")
    s.play("send host a/b").refused("AgentClosed", 2)


def test_peer_C45_resume_of_a_live_thread_opens_what_was_open_below_it() -> None:
    s = family(slot_policy=LIVE)
    s.play("close host a").see("""
        /root        new
        /root/a      closed, interrupted 1
        /root/a/b    closed with a, interrupted 1
        /root/a/b/c  closed with a, interrupted 1
        session      open, slots 0/3, residency 0/3, ready -, idle -""")
    s.play("resume host a").says(fx.Resumed((1, 2, 3), (), ("/root/a", "/root/a/b", "/root/a/b/c"), ())).see("""
        /root        new
        /root/a      interrupted 1, slot reserved
        /root/a/b    interrupted 1, slot reserved
        /root/a/b/c  interrupted 1, slot reserved
        session      open, slots 3/3, residency 0/3, ready -, idle -""")
    s.play("follow_up host a/b/c").asks(fx.Load(3, 2, "settings of c")).see("""
        /root        new
        /root/a      interrupted 1, slot reserved
        /root/a/b    interrupted 1, slot reserved
        /root/a/b/c  starting 2, loading, slot reserved, unread host!
        session      open, slots 3/3, residency 1/3, ready -, idle -""")


def test_peer_C46_agents_open_at_a_clean_shutdown_are_open_after_a_restart_without_resume() -> None:
    s = family(slot_policy=LIVE)
    s.rush("loaded a", "finished a", "loaded a/b", "finished a/b", "loaded a/b/c", "finished a/b/c", "shutdown 5")
    s.rush("flushed root", "flushed a", "flushed a/b").see("""
        /root        new
        /root/a      completed 1, resident, slot reserved
        /root/a/b    completed 1, resident, slot reserved
        /root/a/b/c  completed 1, resident, slot reserved
        session      draining, slots 3/3, residency 3/3, ready -, idle -, done -, interrupted -, unflushed -""")
    dropped = [fx.Unload(0, 0), fx.Unload(1, 1), fx.Unload(2, 1), fx.Unload(3, 1)]
    s.play("flushed a/b/c").asks(*dropped, fx.ShutDown((), (), ())).see("""
        /root        new
        /root/a      completed 1, slot reserved
        /root/a/b    completed 1, slot reserved
        /root/a/b/c  completed 1, slot reserved
        session      closed, slots 3/3, residency 0/3, ready -, idle -, done -, interrupted -, unflushed -""")
    s.play("restart").see("""
        /root        new
        /root/a      completed 1, slot reserved
        /root/a/b    completed 1, slot reserved
        /root/a/b/c  completed 1, slot reserved
        session      open, slots 3/3, residency 0/3, ready -, idle -""")
    s.play("follow_up host a/b/c").asks(fx.Load(3, 1, "settings of c")).see("""
        /root        new
        /root/a      completed 1, slot reserved
        /root/a/b    completed 1, slot reserved
        /root/a/b/c  starting 2, loading, slot reserved, unread host!
        session      open, slots 3/3, residency 1/3, ready -, idle -""")


# What was skipped when one above it was resumed


def skipped() -> Scenario:
    """An agent p, its child c and grandchild g were closed at once, and p is open again, without c and g."""
    s = Scenario(max_concurrent=4, slot_policy=LIVE)
    s.rush("spawn root p by host", "spawn p c by host", "spawn p/c g by host", "close host p")
    s.looked_at = True
    s.rush("spawn root x by host", "spawn root y by host")
    resumed(s, "resume host p", (1,), (2,), ("/root/p",), ("/root/p/c",))
    return s


def resumed(s: Scenario, line: str, *facts: tuple[Any, ...]) -> None:
    """Plays the resume, which says this. What else is there, the properties and the reference judge."""
    s.looked_at = True
    s.play(line).says(fx.Resumed(*facts))
    s.looked_at = True


def test_resume_of_what_was_skipped_opens_what_was_open_below_it_when_it_was_closed() -> None:
    s = skipped().rush("close host x", "close host y")
    resumed(s, "resume host p/c", (2, 3), (), ("/root/p/c", "/root/p/c/g"), ())


def test_resume_of_what_was_skipped_names_what_is_skipped_again_and_that_is_resumed_by_itself() -> None:
    s = skipped().rush("close host x")
    resumed(s, "resume host p/c", (2,), (3,), ("/root/p/c",), ("/root/p/c/g",))
    s.rush("close host y")
    resumed(s, "resume host p/c/g", (3,), (), ("/root/p/c/g",), ())


def test_branch_that_was_skipped_stays_together_when_the_agent_above_it_is_closed_again() -> None:
    s = skipped().rush("close host p", "close host x", "close host y")
    resumed(s, "resume host p", (1,), (), ("/root/p",), ())
    resumed(s, "resume host p/c", (2, 3), (), ("/root/p/c", "/root/p/c/g"), ())


def test_what_was_skipped_and_is_closed_when_its_parent_is_closed_again_stays_closed() -> None:
    s = skipped().rush("close host x", "resume host p/c", "close host p/c", "close host y")
    resumed(s, "resume host p/c", (2,), (), ("/root/p/c",), ())
    s.rush("close host p")
    resumed(s, "resume host p", (1, 2), (), ("/root/p", "/root/p/c"), ())


def test_what_was_skipped_is_resumed_with_what_was_open_below_it_after_a_restart_too() -> None:
    s = skipped().rush("close host p", "close host x", "close host y", "restart", "resume host p")
    resumed(s, "resume host p/c", (2, 3), (), ("/root/p/c", "/root/p/c/g"), ())
