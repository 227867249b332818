"""J9: a wait that could never end is refused, and one that has a way out is not (`waits.Waits.circle`; section 7)."""

from __future__ import annotations

from statemachine.core import effects as fx
from statemachine.core.effects import WaitEnd
from tests.core.scenario import Scenario


def test_wait_that_would_close_a_circle_of_two_is_refused_and_names_both() -> None:
    s = Scenario()
    s.rush(
        "spawn root a by host",
        "loaded a",
        "spawn root b by host",
        "loaded b",
        "follow_up a b",
        "follow_up b a",
        "await a 2",
    ).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread b!, owed 1, waits 1 for request 2
        /root/b  running 1, resident, slot active, asked by host, unread a!, owed 1
        session  open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("await b 3").refused("WaitCircle", (1, 2))


def test_wait_that_would_close_a_circle_of_three_is_refused_and_names_all_of_them() -> None:
    s = Scenario()
    s.rush(
        "spawn root a by host",
        "loaded a",
        "spawn root b by host",
        "loaded b",
        "spawn root c by host",
        "loaded c",
        "follow_up a b",
        "follow_up b c",
        "follow_up c a",
        "await a 3",
        "await b 4",
    ).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread c!, owed 1, waits 1 for request 3
        /root/b  running 1, resident, slot active, asked by host, unread a!, owed 1, waits 2 for request 4
        /root/c  running 1, resident, slot active, asked by host, unread b!, owed 1
        session  open, slots 3/3, residency 3/3, ready -, idle -""")
    s.play("await c 5").refused("WaitCircle", (1, 2, 3))


def test_wait_for_a_request_that_a_turn_made_of_itself_is_refused() -> None:
    s = Scenario()
    s.rush("spawn root a by host", "loaded a", "follow_up a a").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread a!
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("await a 1").refused("WaitCircle", (1,))


def test_wait_for_the_request_that_its_own_turn_has_taken_is_refused() -> None:
    s = Scenario()
    s.rush("spawn root a by host", "loaded a").see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("await a 0").refused("WaitCircle", (1,))


def test_circle_is_broken_by_a_timeout_of_either_wait() -> None:
    s = Scenario()
    s.rush(
        "spawn root a by host",
        "loaded a",
        "spawn root b by host",
        "loaded b",
        "follow_up a b",
        "follow_up b a",
        "await a 2",
    ).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread b!, owed 1, waits 1 for request 2
        /root/b  running 1, resident, slot active, asked by host, unread a!, owed 1
        session  open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("await b within 5 3").says(fx.Waiting(2)).asks().see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread b!, owed 1, waits 1 for request 2
        /root/b  running 1, resident, slot active, asked by host, unread a!, owed 1, waits 2 for request 3
        session  open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("tick 5").asks(fx.Wake(2, 1, 2, WaitEnd.TIMEOUT)).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread b!, owed 1, waits 1 for request 2
        /root/b  running 1, resident, slot active, asked by host, unread a!, owed 1
        session  open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("await b 3").refused("WaitCircle", (1, 2))


def test_circle_is_no_circle_if_one_of_its_waits_has_a_timeout_already() -> None:
    s = Scenario()
    s.rush(
        "spawn root a by host",
        "loaded a",
        "spawn root b by host",
        "loaded b",
        "follow_up a b",
        "follow_up b a",
        "await a within 5 2",
    ).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread b!, owed 1, waits 1 for request 2
        /root/b  running 1, resident, slot active, asked by host, unread a!, owed 1
        session  open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("await b 3").says(fx.Waiting(2)).asks().see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread b!, owed 1, waits 1 for request 2
        /root/b  running 1, resident, slot active, asked by host, unread a!, owed 1, waits 2 for request 3
        session  open, slots 2/3, residency 2/3, ready -, idle -""")


def test_turn_with_several_waits_is_in_a_circle_by_each_of_them() -> None:
    s = Scenario()
    s.rush(
        "spawn root a by host",
        "loaded a",
        "spawn root b by host",
        "loaded b",
        "follow_up a b",
        "follow_up b a",
        "await a 2",
        "wait a 9",
    ).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread b!, owed 1, waits 1 for request 2
        /root/b  running 1, resident, slot active, asked by host, unread a!, owed 1
        session  open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("await b 3").refused("WaitCircle", (1, 2))


def test_wait_for_any_of_two_requests_is_alive_if_one_leads_out_of_the_circle_and_for_all_of_them_it_is_not() -> None:
    s = Scenario()
    s.rush(
        "spawn root a by host",
        "loaded a",
        "spawn root b by host",
        "loaded b",
        "spawn root c by host",
        "loaded c",
        "follow_up a b",
        "follow_up b a",
        "follow_up b c",
        "await a 3",
    ).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread b!, owed 1, waits 1 for request 3
        /root/b  running 1, resident, slot active, asked by host, unread a!, owed 2
        /root/c  running 1, resident, slot active, asked by host, unread b!
        session  open, slots 3/3, residency 3/3, ready -, idle -""")
    s.play("await b 4 5 all").refused("WaitCircle", (1, 2))
    s.play("await b 4 5").says(fx.Waiting(2)).asks().see("""
/root    new
/root/a  running 1, resident, slot active, asked by host, unread b!, owed 1, waits 1 for request 3
/root/b  running 1, resident, slot active, asked by host, unread a!, owed 2, waits 2 for request 4 or request 5
/root/c  running 1, resident, slot active, asked by host, unread b!
session  open, slots 3/3, residency 3/3, ready -, idle -""")


def test_wait_that_leads_out_through_another_is_alive() -> None:
    s = Scenario()
    s.rush(
        "spawn root a by host",
        "loaded a",
        "spawn root b by host",
        "loaded b",
        "spawn root c by host",
        "loaded c",
        "follow_up a b",
        "follow_up b c",
        "follow_up b a",
        "await b 4 5",
    ).see("""
/root    new
/root/a  running 1, resident, slot active, asked by host, unread b!, owed 1
/root/b  running 1, resident, slot active, asked by host, unread a!, owed 2, waits 1 for request 4 or request 5
/root/c  running 1, resident, slot active, asked by host, unread b!
session  open, slots 3/3, residency 3/3, ready -, idle -""")
    s.play("await a 3").says(fx.Waiting(2)).asks().see("""
/root    new
/root/a  running 1, resident, slot active, asked by host, unread b!, owed 1, waits 2 for request 3
/root/b  running 1, resident, slot active, asked by host, unread a!, owed 2, waits 1 for request 4 or request 5
/root/c  running 1, resident, slot active, asked by host, unread b!
session  open, slots 3/3, residency 3/3, ready -, idle -""")


def test_circle_is_gone_with_the_wait_that_was_given_up() -> None:
    s = Scenario()
    s.rush(
        "spawn root a by host",
        "loaded a",
        "spawn root b by host",
        "loaded b",
        "follow_up a b",
        "follow_up b a",
        "await a 2",
        "stop_waiting a",
    ).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread b!, owed 1
        /root/b  running 1, resident, slot active, asked by host, unread a!, owed 1
        session  open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("await b 3").says(fx.Waiting(2)).asks().see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread b!, owed 1
        /root/b  running 1, resident, slot active, asked by host, unread a!, owed 1, waits 2 for request 3
        session  open, slots 2/3, residency 2/3, ready -, idle -""")


def test_circle_is_gone_with_the_answer() -> None:
    s = Scenario()
    s.rush(
        "spawn root a by host",
        "loaded a",
        "spawn root b by host",
        "loaded b",
        "follow_up a b",
        "follow_up b a",
        "await a 2",
        "withdraw a 2",
    ).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread b!
        /root/b  running 1, resident, slot active, asked by host, owed 1
        session  open, slots 2/3, residency 2/3, ready -, idle -""")
    s.play("await b 3").says(fx.Waiting(2)).asks().see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread b!
        /root/b  running 1, resident, slot active, asked by host, owed 1, waits 2 for request 3
        session  open, slots 2/3, residency 2/3, ready -, idle -""")


def test_root_may_be_in_a_circle_too() -> None:
    s = Scenario()
    s.rush("start root", "spawn root a", "loaded a", "await root 1").see("""
        /root    running 1, slot active, asked by host, owed 1, waits 1 for request 1
        /root/a  running 1, resident, slot active, asked by root
        session  open, slots 1/3, residency 1/3, ready -, idle -""")
    s.play("await a 0").refused("WaitCircle", (0, 1))


def test_wait_that_is_over_at_once_is_in_no_circle() -> None:
    s = Scenario()
    s.rush(
        "spawn root a by host",
        "loaded a",
        "spawn root b by host",
        "loaded b",
        "spawn root c by host",
        "loaded c",
        "finished c",
        "follow_up a b",
        "follow_up b a",
        "await a 3",
    ).see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread b!, owed 1, waits 1 for request 3
        /root/b  running 1, resident, slot active, asked by host, unread a!, owed 1
        /root/c  completed 1, resident
        session  open, slots 2/3, residency 3/3, ready -, idle c""")
    s.play("await b 2 4").says(fx.WaitOver(WaitEnd.ANSWERED)).asks().see("""
        /root    new
        /root/a  running 1, resident, slot active, asked by host, unread b!, owed 1, waits 1 for request 3
        /root/b  running 1, resident, slot active, asked by host, unread a!, owed 1
        /root/c  completed 1, resident
        session  open, slots 2/3, residency 3/3, ready -, idle c""")
