"""Residency, eviction and what survives it: the rows L and PEER-C50 to PEER-C54 of the peer list
(`specs/peer-scenarios.md`)."""

from __future__ import annotations

from statemachine.core import effects as fx
from statemachine.core.events import HOST
from statemachine.core.machines import TurnState
from statemachine.core.records import Cause, MailAccepted, MailKind, Outcome
from tests.core.scenario import LIVE, idle, running, unloaded


def test_peer_L01_full_residency_spawn_evicts_oldest_idle() -> None:
    s = idle(max_concurrent=2)
    s.play("spawn root b by host").asks(fx.Flush(1, 1, 1)).see("""
        /root    new
        /root/a  completed 1, unloading, makes room for b
        /root/b  starting 1, slot reserved, unread host!
        session  open, slots 1/1, residency 1/1, ready -, idle -""")
    s.play("flushed a").asks(fx.Unload(1, 1), fx.Load(2, 1, "settings of b")).see("""
        /root    new
        /root/a  completed 1
        /root/b  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/1, residency 1/1, ready -, idle -""")
    s.play("loaded b").see("""
        /root    new
        /root/a  completed 1
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 1/1, residency 1/1, ready -, idle -""")
    assert not s.status("a").resident


def test_peer_L01_full_residency_evicts_the_least_recently_used_of_two() -> None:
    s = idle(max_concurrent=3)
    s.play("spawn root b by host").see("""
        /root    new
        /root/a  completed 1, resident
        /root/b  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/2, residency 2/2, ready -, idle a""")
    s.play("loaded b").see("""
        /root    new
        /root/a  completed 1, resident
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 1/2, residency 2/2, ready -, idle a""")
    s.play("finished b").see("""
        /root    new
        /root/a  completed 1, resident
        /root/b  completed 1, resident
        session  open, slots 0/2, residency 2/2, ready -, idle a b""")
    s.play("follow_up host a").see("""
        /root    new
        /root/a  running 2, resident, slot active, asked by host
        /root/b  completed 1, resident
        session  open, slots 1/2, residency 2/2, ready -, idle b""")
    s.play("finished a").see("""
        /root    new
        /root/a  completed 2, resident
        /root/b  completed 1, resident
        session  open, slots 0/2, residency 2/2, ready -, idle b a""")
    s.play("spawn root c by host").asks(fx.Flush(2, 1, 1)).see("""
        /root    new
        /root/a  completed 2, resident
        /root/b  completed 1, unloading, makes room for c
        /root/c  starting 1, slot reserved, unread host!
        session  open, slots 1/2, residency 2/2, ready -, idle a""")


def test_peer_L02_evicted_interrupted_agent_is_found_and_loaded_again() -> None:
    s = running(max_concurrent=2)
    s.play("interrupt host a").see("""
        /root    new
        /root/a  stopping 1, resident, slot active, interrupted by host, asked by host
        session  open, slots 1/1, residency 1/1, ready -, idle -""")
    s.play("aborted a").see("""
        /root    new
        /root/a  interrupted 1, resident
        session  open, slots 0/1, residency 1/1, ready -, idle a""")
    s.play("spawn root b by host").see("""
        /root    new
        /root/a  interrupted 1, unloading, makes room for b
        /root/b  starting 1, slot reserved, unread host!
        session  open, slots 1/1, residency 1/1, ready -, idle -""")
    s.play("flushed a").see("""
        /root    new
        /root/a  interrupted 1
        /root/b  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/1, residency 1/1, ready -, idle -""")
    s.play("loaded b").see("""
        /root    new
        /root/a  interrupted 1
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 1/1, residency 1/1, ready -, idle -""")
    assert s.status("a").status is TurnState.INTERRUPTED
    s.play("finished b").see("""
        /root    new
        /root/a  interrupted 1
        /root/b  completed 1, resident
        session  open, slots 0/1, residency 1/1, ready -, idle b""")
    s.play("follow_up host a").see("""
        /root    new
        /root/a  starting 2, slot reserved, unread host!
        /root/b  completed 1, unloading, makes room for a
        session  open, slots 1/1, residency 1/1, ready -, idle -""")
    s.play("flushed b").asks(fx.Unload(2, 1), fx.Load(1, 2, "settings of a")).see("""
        /root    new
        /root/a  starting 2, loading, slot reserved, unread host!
        /root/b  completed 1
        session  open, slots 1/1, residency 1/1, ready -, idle -""")


def test_flush_alone_that_is_in_flight_of_the_thread_as_it_is_now_unloads_it() -> None:
    s = idle(idle_ttl=10)
    leaving = """
        /root    new
        /root/a  completed 1, unloading
        session  open, slots 0/3, residency 1/3, ready -, idle -"""
    s.play("tick 10").see(leaving)
    s.play("flushed a 9").says(fx.Stale()).same()
    s.play("flush_failed a 9").says(fx.Stale()).same()
    s.play("flushed a").see("""
        /root    new
        /root/a  completed 1
        session  open, slots 0/3, residency 0/3, ready -, idle -""")


def test_peer_L04_agent_on_its_way_out_is_counted_and_mail_does_not_touch_it() -> None:
    s = idle(max_concurrent=3, max_resident=2)
    s.play("spawn root b by host").see("""
        /root    new
        /root/a  completed 1, resident
        /root/b  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/2, residency 2/2, ready -, idle a""")
    s.play("loaded b").see("""
        /root    new
        /root/a  completed 1, resident
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 1/2, residency 2/2, ready -, idle a""")
    s.play("spawn root c by host").asks(fx.Flush(1, 1, 1)).see("""
        /root    new
        /root/a  completed 1, unloading, makes room for c
        /root/b  running 1, resident, slot active, asked by host
        /root/c  starting 1, slot reserved, unread host!
        session  open, slots 2/2, residency 2/2, ready -, idle -""")
    s.play("send host a").asks().see("""
        /root    new
        /root/a  completed 1, unloading, unread host, makes room for c
        /root/b  running 1, resident, slot active, asked by host
        /root/c  starting 1, slot reserved, unread host!
        session  open, slots 2/2, residency 2/2, ready -, idle -""")
    s.play("flushed a").asks(fx.Unload(1, 1), fx.Load(3, 1, "settings of c")).see("""
        /root    new
        /root/a  completed 1, unread host
        /root/b  running 1, resident, slot active, asked by host
        /root/c  starting 1, loading, slot reserved, unread host!
        session  open, slots 2/2, residency 2/2, ready -, idle -""")


def test_peer_L04_agent_on_its_way_out_for_an_older_turn_leaves_though_it_gets_a_turn_and_is_loaded_anew() -> None:
    s = idle(max_concurrent=3, max_resident=2)
    s.play("spawn root b by host").see("""
        /root    new
        /root/a  completed 1, resident
        /root/b  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/2, residency 2/2, ready -, idle a""")
    s.play("loaded b").see("""
        /root    new
        /root/a  completed 1, resident
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 1/2, residency 2/2, ready -, idle a""")
    s.play("finished b").see("""
        /root    new
        /root/a  completed 1, resident
        /root/b  completed 1, resident
        session  open, slots 0/2, residency 2/2, ready -, idle a b""")
    s.play("spawn root c by host").asks(fx.Flush(1, 1, 1)).see("""
        /root    new
        /root/a  completed 1, unloading, makes room for c
        /root/b  completed 1, resident
        /root/c  starting 1, slot reserved, unread host!
        session  open, slots 1/2, residency 2/2, ready -, idle b""")
    s.play("follow_up host a").asks().see("""
        /root    new
        /root/a  starting 2, unloading, slot reserved, unread host!, makes room for c
        /root/b  completed 1, resident
        /root/c  starting 1, slot reserved, unread host!
        session  open, slots 2/2, residency 2/2, ready -, idle b""")
    s.play("flushed a").asks(fx.Unload(1, 1), fx.Load(3, 1, "settings of c"), fx.Flush(2, 1, 2)).see("""
        /root    new
        /root/a  starting 2, slot reserved, unread host!
        /root/b  completed 1, unloading, makes room for a
        /root/c  starting 1, loading, slot reserved, unread host!
        session  open, slots 2/2, residency 2/2, ready -, idle -""")
    s.play("flushed b").asks(fx.Unload(2, 1), fx.Load(1, 2, "settings of a")).see("""
        /root    new
        /root/a  starting 2, loading, slot reserved, unread host!
        /root/b  completed 1
        /root/c  starting 1, loading, slot reserved, unread host!
        session  open, slots 2/2, residency 2/2, ready -, idle -""")


def test_peer_L04_agent_on_its_way_out_for_nobody_stays_when_it_gets_a_turn() -> None:
    s = idle(idle_ttl=10)
    s.play("tick 10").asks(fx.Flush(1, 1, 1)).see("""
        /root    new
        /root/a  completed 1, unloading
        session  open, slots 0/3, residency 1/3, ready -, idle -""")
    task = MailAccepted(1, HOST, 1, MailKind.TRIGGER, "work")
    s.play("follow_up host a").asks(fx.StartTurn(1, 2, 1, (task,))).see("""
        /root    new
        /root/a  running 2, resident, slot active, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("flushed a 1").says(fx.Stale()).same()


def test_peer_L09_live_thread_is_never_evicted_for_another() -> None:
    s = idle(slot_policy=LIVE, max_concurrent=3)
    s.play("spawn root b by host").see("""
        /root    new
        /root/a  completed 1, resident, slot reserved
        /root/b  starting 1, loading, slot reserved, unread host!
        session  open, slots 2/2, residency 2/2, ready -, idle -""")
    s.play("loaded b").see("""
        /root    new
        /root/a  completed 1, resident, slot reserved
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 2/2, residency 2/2, ready -, idle -""")
    s.play("finished b").see("""
        /root    new
        /root/a  completed 1, resident, slot reserved
        /root/b  completed 1, resident, slot reserved
        session  open, slots 2/2, residency 2/2, ready -, idle -""")
    s.play("spawn root c by host").refused("LiveThreadsFull", 2, (1, 2))


def test_peer_L16_close_of_an_interrupted_parent_closes_its_evicted_grandchild_too() -> None:
    s = running(idle_ttl=10)
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
    s.play("spawn root/a/b c by host").see("""
        /root        new
        /root/a      running 1, resident, slot active, asked by host
        /root/a/b    running 1, resident, slot active, asked by host
        /root/a/b/c  starting 1, loading, slot reserved, unread host!
        session      open, slots 3/3, residency 3/3, ready -, idle -""")
    s.rush("loaded a/b/c", "finished a/b/c", "tick 10", "flushed a/b/c").see("""
        /root        new
        /root/a      running 1, resident, slot active, asked by host
        /root/a/b    running 1, resident, slot active, asked by host
        /root/a/b/c  completed 1
        session      open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("interrupt host a").see("""
        /root        new
        /root/a      stopping 1, resident, slot active, interrupted by host, asked by host
        /root/a/b    running 1, resident, slot active, asked by host
        /root/a/b/c  completed 1
        session      open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("aborted a").see("""
        /root        new
        /root/a      interrupted 1, resident
        /root/a/b    running 1, resident, slot active, asked by host
        /root/a/b/c  completed 1
        session      open, slots 1/3, residency 2/3, ready -, idle a""")
    s.play("close host a").says(fx.ClosedAgents((1, 2, 3), ("/root/a", "/root/a/b", "/root/a/b/c"))).see("""
        /root        new
        /root/a      closed, interrupted 1
        /root/a/b    closed with a, interrupted 1
        /root/a/b/c  closed with a, completed 1
        session      open, slots 0/3, residency 0/3, ready -, idle -""")


def test_peer_C50_queue_only_mail_loads_nobody_and_the_next_turn_reads_it() -> None:
    s = unloaded()
    s.play("send host a").says(fx.Accepted(1)).asks().see("""
        /root    new
        /root/a  completed 1, unread host
        session  open, slots 0/3, residency 0/3, ready -, idle -""")
    s.play("follow_up host a").asks(fx.Load(1, 2, "settings of a")).see("""
        /root    new
        /root/a  starting 2, loading, slot reserved, unread host host!
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    note, task = MailAccepted(1, HOST, 1, MailKind.QUEUE, "note"), MailAccepted(2, HOST, 1, MailKind.TRIGGER, "work")
    s.play("loaded a").asks(fx.StartTurn(1, 2, 2, (note, task))).see("""
        /root    new
        /root/a  running 2, resident, slot active, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


def test_peer_C52_dead_agent_makes_room_at_once_and_a_follow_up_loads_it_again() -> None:
    s = idle(max_concurrent=2, max_resident=2)
    s.play("spawn root b by host").see("""
        /root    new
        /root/a  completed 1, resident
        /root/b  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/1, residency 2/2, ready -, idle a""")
    s.play("loaded b").see("""
        /root    new
        /root/a  completed 1, resident
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 1/1, residency 2/2, ready -, idle a""")
    s.play("finished b").see("""
        /root    new
        /root/a  completed 1, resident
        /root/b  completed 1, resident
        session  open, slots 0/1, residency 2/2, ready -, idle a b""")
    s.play("send host b").see("""
        /root    new
        /root/a  completed 1, resident
        /root/b  completed 1, resident, unread host
        session  open, slots 0/1, residency 2/2, ready -, idle a b""")
    s.play("died a").see("""
        /root    new
        /root/a  completed 1
        /root/b  completed 1, resident, unread host
        session  open, slots 0/1, residency 1/2, ready -, idle b""")
    s.play("spawn root c by host").asks(fx.Load(3, 1, "settings of c")).see("""
        /root    new
        /root/a  completed 1
        /root/b  completed 1, resident, unread host
        /root/c  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/1, residency 2/2, ready -, idle b""")
    s.play("loaded c").see("""
        /root    new
        /root/a  completed 1
        /root/b  completed 1, resident, unread host
        /root/c  running 1, resident, slot active, asked by host
        session  open, slots 1/1, residency 2/2, ready -, idle b""")
    s.play("finished c").see("""
        /root    new
        /root/a  completed 1
        /root/b  completed 1, resident, unread host
        /root/c  completed 1, resident
        session  open, slots 0/1, residency 2/2, ready -, idle b c""")
    s.play("follow_up host a").asks(fx.Flush(2, 1, 1)).see("""
        /root    new
        /root/a  starting 2, slot reserved, unread host!
        /root/b  completed 1, unloading, unread host, makes room for a
        /root/c  completed 1, resident
        session  open, slots 1/1, residency 2/2, ready -, idle c""")
    s.play("flushed b").asks(fx.Unload(2, 1), fx.Load(1, 2, "settings of a")).see("""
        /root    new
        /root/a  starting 2, loading, slot reserved, unread host!
        /root/b  completed 1, unread host
        /root/c  completed 1, resident
        session  open, slots 1/1, residency 2/2, ready -, idle c""")


def test_peer_C53_interrupt_of_a_turn_whose_thread_is_dead_frees_everything_after_stop_grace() -> None:
    s = running()
    s.play("interrupt host a").says(fx.Interrupted(TurnState.RUNNING, (1,), ("/root/a",))).asks(fx.Cancel(1, 1)).see("""
        /root    new
        /root/a  stopping 1, resident, slot active, interrupted by host, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    ended = Outcome(1, 1, TurnState.INTERRUPTED, "interrupted; it did not stop within 5.0 s", Cause.NOT_STOPPED, HOST)
    s.play("tick 5").asks(fx.Unload(1, 1), fx.Answer((0,), ended)).see("""
        /root    new
        /root/a  interrupted 1
        session  open, slots 0/3, residency 0/3, ready -, idle -""")


def test_peer_C53_interrupt_of_an_idle_agent_whose_thread_died_finds_no_turn() -> None:
    s = idle()
    s.play("died a").see("""
        /root    new
        /root/a  completed 1
        session  open, slots 0/3, residency 0/3, ready -, idle -""")
    s.play("interrupt host a").says(fx.Interrupted(TurnState.COMPLETED, (), ())).same()


def test_peer_C54_child_is_loaded_with_its_own_settings_though_that_evicts_its_parent() -> None:
    s = idle(max_concurrent=2)
    s.play("spawn root/a b by host").see("""
        /root      new
        /root/a    completed 1, unloading, makes room for a/b
        /root/a/b  starting 1, slot reserved, unread host!
        session    open, slots 1/1, residency 1/1, ready -, idle -""")
    s.rush("flushed a", "loaded a/b", "finished a/b", "follow_up host a", "flushed a/b", "loaded a", "finished a")
    s.see("""
        /root      new
        /root/a    completed 2, resident
        /root/a/b  completed 1
        session    open, slots 0/1, residency 1/1, ready -, idle a""")
    s.play("follow_up host a/b").asks(fx.Flush(1, 2, 3)).see("""
        /root      new
        /root/a    completed 2, unloading, makes room for a/b
        /root/a/b  starting 2, slot reserved, unread host!
        session    open, slots 1/1, residency 1/1, ready -, idle -""")
    s.play("flushed a").asks(fx.Unload(1, 2), fx.Load(2, 2, "settings of b")).see("""
        /root      new
        /root/a    completed 2
        /root/a/b  starting 2, loading, slot reserved, unread host!
        session    open, slots 1/1, residency 1/1, ready -, idle -""")
