"""What the view shows that no row of the peer list needs, and the view as text (`statemachine/checking/view.py`)."""

from __future__ import annotations

import pytest

from statemachine.checking.view import is_quiescent, text
from statemachine.core.config import Notice, Overflow
from statemachine.core.effects import ShutDown, Unload
from tests.core.scenario import LIVE, Scenario, idle, running


def test_view_as_text_aligns_what_is_said_of_each_agent_and_ends_each_line() -> None:
    s = running(max_concurrent=2, overflow=Overflow.QUEUE).rush("spawn root/a b")
    assert text(s.session) == (
        "/root      new\n"
        "/root/a    running 1, resident, slot active, asked by host, owed 1\n"
        "/root/a/b  queued 1, unread a!\n"
        "session    open, slots 1/1, residency 1/1, ready a/b, idle -\n"
    )


def test_view_as_text_of_paths_shorter_than_the_word_session_is_aligned_by_that_word() -> None:
    assert text(running(max_concurrent=2).session) == (
        "/root    new\n"
        "/root/a  running 1, resident, slot active, asked by host\n"
        "session  open, slots 1/1, residency 1/1, ready -, idle -\n"
    )
    assert text(Scenario(max_concurrent=2).session) == (
        "/root    new\nsession  open, slots 0/1, residency 0/1, ready -, idle -\n"
    )


def test_view_of_a_wait_names_its_targets() -> None:
    s = running()
    s.play("spawn root/a b").see("""
        /root      new
        /root/a    running 1, resident, slot active, asked by host, owed 1
        /root/a/b  starting 1, loading, slot reserved, unread a!
        session    open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("wait a 5 root a/b").see("""
        /root      new
        /root/a    running 1, resident, slot active, asked by host, owed 1, waits 1 for mail or root or a/b
        /root/a/b  starting 1, loading, slot reserved, unread a!
        session    open, slots 2/3, residency 2/3, ready -, idle -""")


def test_view_of_a_starting_turn_names_those_that_could_not_be_flushed_for_it() -> None:
    s = idle(max_concurrent=2, max_resident=2)
    s.rush("spawn root b by host", "loaded b", "finished b", "spawn root c by host", "flush_failed a").see("""
        /root    new
        /root/a  completed 1, resident
        /root/b  completed 1, unloading, makes room for c
        /root/c  starting 1, slot reserved, unread host!, tried a
        session  open, slots 1/1, residency 2/2, ready -, idle a""")
    s.play("flush_failed b").see("""
        /root    new
        /root/a  completed 1, resident
        /root/b  completed 1, resident
        /root/c  errored 1, unread host
        session  open, slots 0/1, residency 2/2, ready -, idle a b""")


def test_view_of_an_eviction_for_nobody_names_nobody() -> None:
    s = idle(max_concurrent=2)
    s.rush("spawn root b by host", "interrupt host b").see("""
        /root    new
        /root/a  completed 1, unloading
        /root/b  interrupted 1, unread host
        session  open, slots 0/1, residency 1/1, ready -, idle -""")


def test_view_of_a_notice_names_the_outcome_and_marks_what_asks_for_a_turn() -> None:
    s = Scenario(max_concurrent=2, notice=Notice.TRIGGER, overflow=Overflow.QUEUE)
    s.rush("start root", "spawn root a", "loaded a", "follow_up a a", "failed a").see("""
        /root    running 1, slot active, asked by host, unread a=errored!
        /root/a  running 2, resident, slot active, asked by a
        session  open, slots 1/1, residency 1/1, ready -, idle -""")


def test_view_of_a_closed_agent_names_whose_close_it_was() -> None:
    s = running(slot_policy=LIVE)
    s.rush("spawn root/a b by host", "spawn root/a c by host", "close host a/c", "close host a").see("""
        /root      new
        /root/a    closed, interrupted 1
        /root/a/b  closed with a, interrupted 1
        /root/a/c  closed, interrupted 1
        session    open, slots 0/3, residency 0/3, ready -, idle -""")


def test_view_of_a_shutdown_names_who_finished_who_was_interrupted_and_what_was_not_flushed() -> None:
    s = Scenario()
    s.rush("spawn root a by host", "loaded a", "spawn root b by host", "loaded b", "shutdown 5", "finished a", "tick 5")
    s.see("""
        /root    new
        /root/a  completed 1, resident
        /root/b  stopping 1, resident, slot active, shut down, asked by host
        session  draining, slots 1/3, residency 2/3, ready -, idle a, done a, interrupted -, unflushed -""")
    s.play("aborted b").see("""
        /root    new
        /root/a  completed 1, resident
        /root/b  interrupted 1, resident
        session  draining, slots 0/3, residency 2/3, ready -, idle a b, done a, interrupted b, unflushed -""")
    s.play("flush_failed a").see("""
        /root    new
        /root/a  completed 1, resident
        /root/b  interrupted 1, resident
        session  draining, slots 0/3, residency 2/3, ready -, idle a b, done a, interrupted b, unflushed a""")
    s.rush("flushed root", "flushed b").asks(
        *[Unload(n, g) for n, g in ((0, 0), (1, 1), (2, 1))], ShutDown((1,), (2,), (1,))
    )
    s.see("""
        /root    new
        /root/a  completed 1
        /root/b  interrupted 1
        session  closed, slots 0/3, residency 0/3, ready -, idle -, done a, interrupted b, unflushed a""")


@pytest.mark.parametrize(
    ("program", "quiescent"),
    [
        ([], True),
        (["spawn root a"], False),
        (["spawn root a", "load_failed a"], True),
        (["spawn root a", "interrupt host a"], False),
        (["spawn root a", "loaded a"], False),
        (["spawn root a", "loaded a", "interrupt host a"], False),
        (["spawn root a", "loaded a", "finished a"], True),
        (["spawn root a", "loaded a", "finished a", "tick 1"], False),
        (["spawn root a", "loaded a", "finished a", "tick 1", "flushed a"], True),
        (["shutdown 5"], False),
        (["shutdown 5", "flushed root"], True),
    ],
)
def test_session_is_quiescent_exactly_if_no_thread_owes_an_answer(program: list[str], quiescent: bool) -> None:
    s = Scenario(idle_ttl=1).rush(*program)
    assert is_quiescent(s.session) is quiescent
