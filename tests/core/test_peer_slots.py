"""Execution slots, depth and paths: the rows R, X and E of the peer list (`specs/peer-scenarios.md`)."""

from __future__ import annotations

import attrs
import pytest

from statemachine.core import effects as fx
from statemachine.core.config import Overflow
from statemachine.core.events import HOST, ROOT
from statemachine.core.machines import TurnState
from statemachine.core.records import Cause, MailAccepted, MailKind, Outcome
from tests.core.scenario import LIVE, Scenario, idle, running, unloaded

# Depth


def test_peer_R02_root_has_depth_zero_so_its_child_exceeds_max_depth_zero() -> None:
    s = Scenario(max_depth=0)
    s.play("spawn root a").refused("DepthExceeded", 1, 0)
    s.play("start root").see("""
        /root  running 1, slot active, asked by host
        session  open, slots 0/3, residency 0/3, ready -, idle -""")


def test_peer_R03_child_of_a_child_has_depth_two_and_exceeds_max_depth_one() -> None:
    s = running(max_depth=1)
    s.play("spawn root/a b").refused("DepthExceeded", 2, 1)


def test_peer_R04_depth_is_that_of_the_place_even_if_the_host_asks() -> None:
    s = Scenario(max_depth=1)
    s.play("spawn root a by host").see("""
        /root    new
        /root/a  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("spawn root/a b by host").refused("DepthExceeded", 2, 1)


# Taking and giving back


def test_peer_R05_turn_that_never_started_gives_its_slot_back() -> None:
    s = Scenario(max_concurrent=2, max_resident=2)
    s.play("spawn root a by host").see("""
        /root    new
        /root/a  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/1, residency 1/2, ready -, idle -""")
    s.play("interrupt host a").see("""
        /root    new
        /root/a  interrupted 1, loading, unread host
        session  open, slots 0/1, residency 1/2, ready -, idle -""")
    s.play("spawn root b by host").see("""
        /root    new
        /root/a  interrupted 1, loading, unread host
        /root/b  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/1, residency 2/2, ready -, idle -""")


def test_peer_R06_live_thread_holds_its_slot_until_it_is_closed() -> None:
    s = idle(slot_policy=LIVE, max_concurrent=2)
    s.play("spawn root b by host").refused("LiveThreadsFull", 1, (1,))
    s.play("close host a").see("""
        /root    new
        /root/a  closed, completed 1
        session  open, slots 0/1, residency 0/1, ready -, idle -""")
    s.play("spawn root b by host").see("""
        /root    new
        /root/a  closed, completed 1
        /root/b  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/1, residency 1/1, ready -, idle -""")


def test_peer_R08_unknown_agent_and_foreign_generation_give_no_slot_back() -> None:
    s = idle(slot_policy=LIVE, max_concurrent=2)
    s.play("close host #9").refused("UnknownAgent", 9)
    s.play("died a 9").says(fx.Stale()).same()
    s.play("spawn root b by host").refused("LiveThreadsFull", 1, (1,))
    s.play("died a").see("""
        /root    new
        /root/a  closed, completed 1
        session  open, slots 0/1, residency 0/1, ready -, idle -""")
    s.play("spawn root b by host").see("""
        /root    new
        /root/a  closed, completed 1
        /root/b  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/1, residency 1/1, ready -, idle -""")


def test_peer_R14_root_is_found_by_its_path_from_the_beginning() -> None:
    s = Scenario()
    assert s.session.find("/root") == ROOT
    assert s.status("root") == fx.AgentStatus(ROOT, "/root", -1, True, TurnState.NEW, 0, 0, None, None, True)


def test_peer_R15_refused_spawn_leaves_path_and_id_free() -> None:
    s = running(max_concurrent=2, max_resident=2)
    s.play("spawn root b by host").refused("ExecutionFull", 1, (1,))
    assert s.session.find("/root/b") is None
    s.play("finished a").see("""
        /root    new
        /root/a  completed 1, resident
        session  open, slots 0/1, residency 1/2, ready -, idle a""")
    s.play("spawn root b by host").says(fx.Spawned(2, 1)).see("""
        /root    new
        /root/a  completed 1, resident
        /root/b  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/1, residency 2/2, ready -, idle a""")


def test_peer_R16_path_finds_the_agent_until_it_is_closed() -> None:
    s = idle()
    assert s.session.find("/root/a") == 1
    s.play("close host a").see("""
        /root    new
        /root/a  closed, completed 1
        session  open, slots 0/3, residency 0/3, ready -, idle -""")
    assert s.session.find("/root/a") is None


# Counting turns


def test_peer_X01_slot_counts_turns_so_a_completed_agent_blocks_nobody() -> None:
    s = running(max_concurrent=2, max_resident=2)
    s.play("spawn root b by host").refused("ExecutionFull", 1, (1,))
    s.play("finished a").see("""
        /root    new
        /root/a  completed 1, resident
        session  open, slots 0/1, residency 1/2, ready -, idle a""")
    s.play("spawn root b by host").see("""
        /root    new
        /root/a  completed 1, resident
        /root/b  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/1, residency 2/2, ready -, idle a""")


def test_peer_X02_root_needs_no_slot_when_all_are_held() -> None:
    s = running(max_concurrent=2)
    s.play("start root").see("""
        /root    running 1, slot active, asked by host
        /root/a  running 1, resident, slot active, asked by host
        session  open, slots 1/1, residency 1/1, ready -, idle -""")


def test_peer_X02_live_thread_needs_no_second_slot_for_its_turn() -> None:
    s = idle(slot_policy=LIVE, max_concurrent=2)
    s.play("follow_up host a").see("""
        /root    new
        /root/a  running 2, resident, slot active, asked by host
        session  open, slots 1/1, residency 1/1, ready -, idle -""")


def test_peer_X03_cap_cannot_be_changed_and_a_running_turn_holds_its_slot_to_its_end() -> None:
    s = idle(max_concurrent=2, max_resident=2)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        s.session.config.max_concurrent = 3  # type: ignore[misc]
    s.play("follow_up host a").see("""
        /root    new
        /root/a  running 2, resident, slot active, asked by host
        session  open, slots 1/1, residency 1/2, ready -, idle -""")
    s.play("spawn root b by host").refused("ExecutionFull", 1, (1,))
    s.play("finished a").see("""
        /root    new
        /root/a  completed 2, resident
        session  open, slots 0/1, residency 1/2, ready -, idle a""")
    s.play("spawn root b by host").see("""
        /root    new
        /root/a  completed 2, resident
        /root/b  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/1, residency 2/2, ready -, idle a""")


def test_peer_X04_cap_of_zero_stops_sub_agents_but_not_the_root() -> None:
    s = Scenario(max_concurrent=1)
    s.play("start root").see("""
        /root  running 1, slot active, asked by host
        session  open, slots 0/0, residency 0/0, ready -, idle -""")
    s.play("spawn root a").refused("ExecutionFull", 0, ())


def test_peer_X04_cap_of_zero_leaves_live_threads_no_slot() -> None:
    s = Scenario(max_concurrent=1, slot_policy=LIVE)
    s.play("start root").see("""
        /root  running 1, slot active, asked by host
        session  open, slots 0/0, residency 0/0, ready -, idle -""")
    s.play("spawn root a").refused("LiveThreadsFull", 0, ())


def test_peer_X09_reserved_slot_becomes_active_or_free_and_is_counted_once() -> None:
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
    s.play("failed b").see("""
        /root    new
        /root/a  completed 1, resident
        /root/b  errored 1, resident
        session  open, slots 0/1, residency 2/2, ready -, idle a b""")
    s.play("follow_up host b").see("""
        /root    new
        /root/a  completed 1, resident
        /root/b  running 2, resident, slot active, asked by host
        session  open, slots 1/1, residency 2/2, ready -, idle a""")
    s.play("interrupt host b").see("""
        /root    new
        /root/a  completed 1, resident
        /root/b  stopping 2, resident, slot active, interrupted by host, asked by host
        session  open, slots 1/1, residency 2/2, ready -, idle a""")
    s.play("aborted b").see("""
        /root    new
        /root/a  completed 1, resident
        /root/b  interrupted 2, resident
        session  open, slots 0/1, residency 2/2, ready -, idle a b""")


def test_peer_X10_slot_that_is_freed_admits_whoever_waits_in_the_same_step() -> None:
    s = running(max_concurrent=2, max_resident=2, overflow=Overflow.QUEUE)
    s.play("spawn root b by host").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        /root/b  queued 1, unread host!
        session  open, slots 1/1, residency 1/2, ready b, idle -""")
    s.play("finished a").see("""
        /root    new
        /root/a  completed 1, resident
        /root/b  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/1, residency 2/2, ready -, idle a""")


# Requests for turns


def test_peer_E01_follow_up_without_a_free_slot_is_refused_and_its_text_never_arrives() -> None:
    s = idle(max_concurrent=2, max_resident=2)
    s.play("start root").see("""
        /root    running 1, slot active, asked by host
        /root/a  completed 1, resident
        session  open, slots 0/1, residency 1/2, ready -, idle a""")
    s.play("spawn root b by host").see("""
        /root    running 1, slot active, asked by host
        /root/a  completed 1, resident
        /root/b  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/1, residency 2/2, ready -, idle a""")
    s.play("follow_up root a").refused("ExecutionFull", 1, (2,))
    s.play("interrupt host b").see("""
        /root    running 1, slot active, asked by host
        /root/a  completed 1, resident
        /root/b  interrupted 1, loading, unread host
        session  open, slots 0/1, residency 2/2, ready -, idle a""")
    task = MailAccepted(3, ROOT, 1, MailKind.TRIGGER, "work")
    s.play("follow_up root a").says(fx.Accepted(3)).asks(fx.StartTurn(1, 2, 1, (task,))).see("""
        /root    running 1, slot active, asked by host, owed 1
        /root/a  running 2, resident, slot active, asked by root
        /root/b  interrupted 1, loading, unread host
        session  open, slots 1/1, residency 2/2, ready -, idle -""")


def test_peer_E03_unloaded_agent_keeps_its_result_and_its_next_turn_gets_only_the_new_task() -> None:
    s = unloaded()
    outcome = Outcome(1, 1, TurnState.COMPLETED, "result", Cause.FINISHED)
    assert s.status("a").outcome == outcome
    s.play("follow_up host a").asks(fx.Load(1, 2, "settings of a")).see("""
        /root    new
        /root/a  starting 2, loading, slot reserved, unread host!
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    task = MailAccepted(1, HOST, 1, MailKind.TRIGGER, "work")
    s.play("loaded a").asks(fx.StartTurn(1, 2, 2, (task,))).see("""
        /root    new
        /root/a  running 2, resident, slot active, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


def test_peer_E05_agent_that_cannot_be_loaded_tells_so_and_is_never_resident() -> None:
    s = unloaded()
    s.play("follow_up host a").see("""
        /root    new
        /root/a  starting 2, loading, slot reserved, unread host!
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    failed = Outcome(1, 2, TurnState.ERRORED, "load failed: cannot load", Cause.LOAD_FAILED)
    s.play("load_failed a").asks(fx.Answer((1,), failed)).see("""
        /root    new
        /root/a  errored 2, unread host
        session  open, slots 0/3, residency 0/3, ready -, idle -""")
    assert not s.status("a").resident


def test_peer_E07_seven_spawns_on_two_slots_over_three_levels_all_report_to_whoever_asked() -> None:
    s = Scenario(max_concurrent=3, overflow=Overflow.QUEUE)
    s.rush("start root", "spawn root a", "spawn root b", "loaded a", "loaded b")
    s.rush("spawn root c", "spawn root/a d", "spawn root/a e", "spawn root/b f", "spawn root/b g").see("""
        /root      running 1, slot active, asked by host, owed 3
        /root/a    running 1, resident, slot active, asked by root, owed 2
        /root/b    running 1, resident, slot active, asked by root, owed 2
        /root/c    queued 1, unread root!
        /root/a/d  queued 1, unread a!
        /root/a/e  queued 1, unread a!
        /root/b/f  queued 1, unread b!
        /root/b/g  queued 1, unread b!
        session    open, slots 2/2, residency 2/2, ready c a/d a/e b/f b/g, idle -""")
    s.rush("finished a", "flushed a", "loaded a/d", "finished b", "flushed b", "loaded a/e").see("""
        /root      running 1, slot active, asked by host, unread a=completed b=completed, owed 1
        /root/a    completed 1, owed 2
        /root/b    completed 1, owed 2
        /root/c    queued 1, unread root!
        /root/a/d  running 1, resident, slot active, asked by a
        /root/a/e  running 1, resident, slot active, asked by a
        /root/b/f  queued 1, unread b!
        /root/b/g  queued 1, unread b!
        session    open, slots 2/2, residency 2/2, ready c b/f b/g, overtaken 2, idle -""")
    s.rush("finished a/d", "flushed a/d", "loaded b/f", "finished a/e", "flushed a/e", "loaded b/g").see("""
        /root      running 1, slot active, asked by host, unread a=completed b=completed, owed 1
        /root/a    completed 1, unread a/d=completed a/e=completed
        /root/b    completed 1, owed 2
        /root/c    queued 1, unread root!
        /root/a/d  completed 1
        /root/a/e  completed 1
        /root/b/f  running 1, resident, slot active, asked by b
        /root/b/g  running 1, resident, slot active, asked by b
        session    open, slots 2/2, residency 2/2, ready c, overtaken 4, idle -""")
    s.rush("finished b/f", "flushed b/f", "loaded c", "finished b/g", "finished c", "finished root").see("""
        /root      completed 1, unread a=completed b=completed c=completed
        /root/a    completed 1, unread a/d=completed a/e=completed
        /root/b    completed 1, unread b/f=completed b/g=completed
        /root/c    completed 1, resident
        /root/a/d  completed 1
        /root/a/e  completed 1
        /root/b/f  completed 1
        /root/b/g  completed 1, resident
        session    open, slots 0/2, residency 2/2, ready -, idle b/g c""")


def test_late_trigger_mail_starts_the_next_turn_in_the_same_slot_though_another_queues() -> None:
    s = running(max_concurrent=2, max_resident=3, overflow=Overflow.QUEUE)
    s.play("spawn root b by host").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        /root/b  queued 1, unread host!
        session  open, slots 1/1, residency 1/3, ready b, idle -""")
    s.play("follow_up host a").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread host!
        /root/b  queued 1, unread host!
        session  open, slots 1/1, residency 1/3, ready b, idle -""")
    s.play("finished a").see("""
        /root    new
        /root/a  running 2, resident, slot active, asked by host
        /root/b  queued 1, unread host!
        session  open, slots 1/1, residency 1/3, ready b, overtaken 1, idle -""")
