"""Mail and names: the rows M and P of the peer list (`specs/peer-scenarios.md`)."""

from __future__ import annotations

import pytest

from statemachine.checking.view import name
from statemachine.core import effects as fx
from statemachine.core.effects import WaitEnd
from statemachine.core.events import HOST, ROOT, Spawn
from statemachine.core.records import MailAccepted, MailKind
from tests.core.scenario import Scenario, idle, running

NOTE = MailAccepted(1, HOST, 1, MailKind.QUEUE, "note")
"""The first mail to `a` that the host sends after its task."""

# Mail


def test_peer_M01_mail_numbers_rise_by_one() -> None:
    s = idle()
    s.play("send host a").says(fx.Accepted(1)).see("""
        /root    new
        /root/a  completed 1, resident, unread host
        session  open, slots 0/3, residency 1/3, ready -, idle a""")
    s.play("send root a").says(fx.Accepted(2)).see("""
        /root    new
        /root/a  completed 1, resident, unread host root
        session  open, slots 0/3, residency 1/3, ready -, idle a""")


def test_peer_M02_M05_drain_gives_unread_mail_in_order_and_leaves_none() -> None:
    s = running()
    s.play("send host a").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("send root a").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread host root
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    second = MailAccepted(2, ROOT, 1, MailKind.QUEUE, "note")
    s.play("drain a").says(fx.Drained((NOTE, second))).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("drain a").says(fx.Drained(())).same()


def test_peer_M03_M06_trigger_mail_is_told_from_queue_only_mail() -> None:
    s = running()
    s.play("send host a").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    assert s.session.agents[1].triggers == 0
    s.play("follow_up host a").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread host host!
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    assert s.session.agents[1].triggers == 1


def test_peer_M04_mail_wakes_a_wait_that_names_nobody() -> None:
    s = running()
    s.play("wait a 5").says(fx.Waiting(1)).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, waits 1 for mail
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("send host a").asks(fx.Wake(1, 1, 1, WaitEnd.MAIL)).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


def test_peer_M09_mail_that_waits_joins_the_running_turn_with_what_the_user_adds() -> None:
    s = running()
    s.play("send host a").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("follow_up host a").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread host host!
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    steer = MailAccepted(2, HOST, 1, MailKind.TRIGGER, "work")
    s.play("drain a").says(fx.Drained((NOTE, steer))).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("finished a").see("""
        /root    new
        /root/a  completed 1, resident
        session  open, slots 0/3, residency 1/3, ready -, idle a""")


def test_peer_M10_late_drain_of_an_ended_turn_takes_no_mail_from_the_next() -> None:
    s = idle()
    s.play("follow_up host a").see("""
        /root    new
        /root/a  running 2, resident, slot active, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("send host a").see("""
        /root    new
        /root/a  running 2, resident, slot active, asked by host, unread host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("drain a 1").refused("NotRunning", 1, 1)
    late = MailAccepted(2, HOST, 1, MailKind.QUEUE, "note")
    s.play("drain a 2").says(fx.Drained((late,))).see("""
        /root    new
        /root/a  running 2, resident, slot active, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


def test_peer_M11_wait_returns_at_once_for_mail_that_is_there_and_drain_takes_it() -> None:
    s = running()
    s.play("send host a").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("wait a 5").says(fx.WaitOver(WaitEnd.MAIL)).same()
    s.play("drain a").says(fx.Drained((NOTE,))).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")


# Names


def test_peer_P01_root_is_called_root_and_lives_at_its_path() -> None:
    s = Scenario()
    assert name(s.session, ROOT) == "root"
    assert s.status("root").path == "/root"


def test_peer_P03_path_is_the_parents_path_and_the_name() -> None:
    s = Scenario()
    s.play("spawn root a by host").see("""
        /root    new
        /root/a  starting 1, loading, slot reserved, unread host!
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("spawn root/a b by host").see("""
        /root      new
        /root/a    starting 1, loading, slot reserved, unread host!
        /root/a/b  starting 1, loading, slot reserved, unread host!
        session    open, slots 2/3, residency 2/3, ready -, idle -""")
    assert (s.status("a").path, s.status("a/b").path) == ("/root/a", "/root/a/b")
    assert (s.session.find("/root/a/b"), s.session.find("/root/b"), name(s.session, 2)) == (2, None, "a/b")


@pytest.mark.parametrize("bad", ["", "A", "a-b", "a.b", "..", "a/b", "/root/a", "root", " a", "a\n", "é", "a" * 65])
def test_peer_P05_name_that_is_none_is_refused(bad: str) -> None:
    s = Scenario()
    s.feed(Spawn(ROOT, bad, "work"))
    s.refused("InvalidName", bad)


@pytest.mark.parametrize("good", ["a", "0", "_", "a_b9", "root_", "a" * 64])
def test_peer_P05_name_of_allowed_characters_is_taken(good: str) -> None:
    s = Scenario()
    s.feed(Spawn(ROOT, good, "work"))
    s.says(fx.Spawned(1, 0)).see(f"""
        /root         new, owed 1
        /root/{good}  starting 1, loading, slot reserved, unread root!
        session       open, slots 1/3, residency 1/3, ready -, idle -""")
