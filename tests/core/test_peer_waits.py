"""Waiting: the rows PEER-H58 to PEER-H75 and PEER-C14 of the peer list (`specs/peer-scenarios.md`)."""

from __future__ import annotations

import pytest

from statemachine.core import effects as fx
from statemachine.core.effects import WaitEnd
from statemachine.core.events import HOST, ROOT, Wait
from statemachine.core.machines import TurnState
from statemachine.core.records import Cause, MailAccepted, MailKind, Outcome
from tests.core.scenario import Scenario, running


def root_and_worker(asked_by: str) -> Scenario:
    """The root runs, and the worker `a` too."""
    s = Scenario()
    s.play("start root").see("""
        /root  running 1, slot active, asked by host
        session  open, slots 0/3, residency 0/3, ready -, idle -""")
    s.play(f"spawn root a by {asked_by}")
    mark, owed = (asked_by, ", owed 1") if asked_by == "root" else (asked_by, "")
    s.see(f"""
        /root    running 1, slot active, asked by host{owed}
        /root/a  starting 1, loading, slot reserved, unread {mark}!
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    return s.play("loaded a").see(f"""
        /root    running 1, slot active, asked by host{owed}
        /root/a  running 1, resident, slot active, asked by {mark}
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


# Timeouts


@pytest.mark.parametrize("timeout", [-1.0, -0.001, float("-inf"), float("nan")])
def test_peer_H58_H66_wait_for_less_than_no_time_is_refused(timeout: float) -> None:
    s = running()
    s.feed(Wait(1, 1, timeout))
    s.refused("InvalidTimeout", timeout, 3600.0)


@pytest.mark.parametrize("targets", ["", " root"])
def test_peer_H67_H69_wait_for_no_time_returns_at_once(targets: str) -> None:
    running().play(f"wait a 0{targets}").says(fx.WaitOver(WaitEnd.TIMEOUT)).same()


@pytest.mark.parametrize("timeout", [60.001, float("inf")])
def test_peer_H70_wait_for_longer_than_max_wait_is_refused(timeout: float) -> None:
    running(max_wait=60).play(f"wait a {timeout}").refused("InvalidTimeout", timeout, 60)


def test_peer_H71_wait_for_max_wait_is_accepted() -> None:
    running(max_wait=60).play("wait a 60").says(fx.Waiting(1)).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, waits 1 for mail
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


def test_peer_H62_wait_for_a_target_without_an_outcome_times_out() -> None:
    s = running()
    s.play("wait a 5 root").says(fx.Waiting(1)).asks().see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, waits 1 for mail or root
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("tick 4.5").asks().see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, waits 1 for mail or root
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("tick 0.5").asks(fx.Wake(1, 1, 1, WaitEnd.TIMEOUT)).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


def test_peer_H63_short_timeout_is_kept_as_it_is() -> None:
    s = running()
    s.play("wait a 0.25").says(fx.Waiting(1)).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, waits 1 for mail
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("tick 0.25").asks(fx.Wake(1, 1, 1, WaitEnd.TIMEOUT)).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


# Targets


@pytest.mark.parametrize("number", [HOST, -7])
def test_peer_H59_wait_for_what_is_no_agent_is_refused(number: int) -> None:
    running().play(f"wait a 5 root #{number}").refused("UnknownAgent", number)


def test_peer_H60_H65_wait_without_targets_waits_for_mail() -> None:
    running().play("wait a 5").says(fx.Waiting(1)).asks().see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, waits 1 for mail
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


def test_peer_H61_wait_for_unknown_agents_is_refused_and_names_the_first() -> None:
    running().play("wait a 5 #8 #9").refused("UnknownAgent", 8)


def test_peer_C14_H64_close_of_a_target_ends_the_wait() -> None:
    s = root_and_worker("host")
    s.play("wait root 5 a").says(fx.Waiting(1)).see("""
        /root    running 1, slot active, asked by host, waits 1 for mail or a
        /root/a  running 1, resident, slot active, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    ended = Outcome(1, 1, TurnState.INTERRUPTED, "closed", Cause.CLOSED, HOST)
    woken = fx.Wake(ROOT, 1, 1, WaitEnd.TARGET)
    s.play("close host a").asks(fx.Unload(1, 1), fx.Answer((1,), ended), woken).see("""
        /root    running 1, slot active, asked by host
        /root/a  closed, interrupted 1
        session  open, slots 0/3, residency 0/3, ready -, idle -""")


def test_peer_H64_wait_for_a_target_that_is_done_returns_at_once() -> None:
    s = root_and_worker("host")
    s.play("finished a").see("""
        /root    running 1, slot active, asked by host
        /root/a  completed 1, resident
        session  open, slots 0/3, residency 1/3, ready -, idle a""")
    s.play("wait root 5 a").says(fx.WaitOver(WaitEnd.TARGET)).same()


# Mail


def test_peer_H72_mail_from_the_worker_ends_the_wait() -> None:
    s = root_and_worker("root")
    s.play("wait root 5").see("""
        /root    running 1, slot active, asked by host, owed 1, waits 1 for mail
        /root/a  running 1, resident, slot active, asked by root
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("send a root").asks(fx.Wake(ROOT, 1, 1, WaitEnd.MAIL)).see("""
        /root    running 1, slot active, asked by host, unread a, owed 1
        /root/a  running 1, resident, slot active, asked by root
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


def test_peer_H74_wait_for_mail_ends_with_the_first_of_two_workers_that_reports() -> None:
    s = root_and_worker("root")
    s.play("spawn root b").see("""
        /root    running 1, slot active, asked by host, owed 2
        /root/a  running 1, resident, slot active, asked by root
        /root/b  starting 1, loading, slot reserved, unread root!
        session  open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("loaded b").see("""
        /root    running 1, slot active, asked by host, owed 2
        /root/a  running 1, resident, slot active, asked by root
        /root/b  running 1, resident, slot active, asked by root
        session  open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("wait root 5").see("""
        /root    running 1, slot active, asked by host, owed 2, waits 1 for mail
        /root/a  running 1, resident, slot active, asked by root
        /root/b  running 1, resident, slot active, asked by root
        session  open, slots 2/3, residency 2/3, ready -, idle -""")
    ended = Outcome(2, 1, TurnState.COMPLETED, "result", Cause.FINISHED)
    s.play("finished b").asks(fx.Answer((2,), ended), fx.Wake(ROOT, 1, 1, WaitEnd.MAIL)).see("""
        /root    running 1, slot active, asked by host, unread b=completed, owed 1
        /root/a  running 1, resident, slot active, asked by root
        /root/b  completed 1, resident
        session  open, slots 1/3, residency 2/3, ready -, idle b""")


def test_peer_H75_wait_tells_only_why_it_ended_and_drain_gives_the_result() -> None:
    s = root_and_worker("root")
    s.play("wait root 5").see("""
        /root    running 1, slot active, asked by host, owed 1, waits 1 for mail
        /root/a  running 1, resident, slot active, asked by root
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    ended = Outcome(1, 1, TurnState.COMPLETED, "result", Cause.FINISHED)
    s.play("finished a").asks(fx.Answer((1,), ended), fx.Wake(ROOT, 1, 1, WaitEnd.MAIL)).see("""
        /root    running 1, slot active, asked by host, unread a=completed
        /root/a  completed 1, resident
        session  open, slots 0/3, residency 1/3, ready -, idle a""")
    notice = MailAccepted(2, 1, ROOT, MailKind.QUEUE, "", ended, None, (1,))
    s.play("drain root").says(fx.Drained((notice,))).see("""
        /root    running 1, slot active, asked by host
        /root/a  completed 1, resident
        session  open, slots 0/3, residency 1/3, ready -, idle a""")
