"""Room for the turn that has been starting longest: J5 and J6 with seniority (`statemachine/core/joint.py`,
`residency.py`; semantics.md section 3).
"""

from __future__ import annotations

import pytest

from model.scenarios import script
from statemachine.checking import properties
from statemachine.core import effects as fx
from statemachine.core.config import Overflow, SessionConfig
from statemachine.core.events import HOST
from statemachine.core.machines import TurnState
from statemachine.core.records import Cause, MailAccepted, MailKind, Outcome
from statemachine.core.residency import Residents
from statemachine.core.session import Session
from tests.core.scenario import Scenario

ROUNDS = 1_000


def played(session: Session, line: str) -> None:
    """One line, with every property checked. Without the reference, which knows the right rule alone."""
    before, event = session.fork(), script.parse(line, session)
    step = session.handle(event)  # type: ignore[arg-type]
    properties.check(session)
    properties.check_step(before, event, step, session)  # type: ignore[arg-type]


def swapping() -> Session:
    """`a` has a slot and waits for room; `b` and `c` have the room, and one slot between them: the one that is not at
    work makes room for `a`.
    """
    session = Session(SessionConfig(max_concurrent=3, max_resident=2))
    for line in ("spawn root c by host", "loaded c", "finished c", "spawn root b by host", "loaded b"):
        played(session, line)
    played(session, "spawn root a by host")
    return session


def swap(session: Session, working: str, leaving: str) -> None:
    """The agent that makes room is asked for a turn, and gets the slot of the other before its flush is durable."""
    played(session, f"follow_up host {leaving}")
    played(session, f"finished {working}")


def test_turn_that_waits_for_room_gets_the_place_of_an_agent_that_gets_a_slot_meanwhile() -> None:
    session = swapping()
    swap(session, "b", "c")
    played(session, "flushed c")
    played(session, "loaded a")
    assert session.agents[3].path == "/root/a"
    assert session.agents[3].status is TurnState.RUNNING


def test_turn_that_waits_for_room_would_starve_if_every_agent_that_gets_a_slot_were_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """J6 as it was: no property of a state or a step fails in a thousand rounds, and `a` holds a slot in vain."""
    monkeypatch.setattr(Residents, "leaves_for_an_older", lambda *_: False)
    session = swapping()
    working, leaving = "b", "c"
    for _ in range(ROUNDS):
        swap(session, working, leaving)
        working, leaving = leaving, working
    assert session.agents[3].status is TurnState.STARTING
    assert sum(agent.turn for agent in session.agents) == ROUNDS + 3


# What is in transit (J5)


def leaving_with_a_slot() -> Scenario:
    """`v` makes room for `q`, and has a slot itself by now; no other victim for `p` could be flushed."""
    s = Scenario(max_concurrent=4, max_resident=3)
    s.rush("spawn root v by host", "loaded v", "finished v", "spawn root x by host", "loaded x", "finished x")
    s.rush("spawn root y by host", "loaded y", "finished y", "spawn root q by host", "spawn root p by host")
    return s.rush("follow_up host v", "flush_failed x", "flush_failed y")


def test_turn_whose_victims_could_not_be_flushed_waits_for_an_eviction_though_its_agent_has_a_slot() -> None:
    s = leaving_with_a_slot()
    s.asks().see("""
        /root    new
        /root/v  starting 2, unloading, slot reserved, unread host!, makes room for q
        /root/x  completed 1, resident
        /root/y  completed 1, resident
        /root/q  starting 1, slot reserved, unread host!
        /root/p  starting 1, slot reserved, unread host!, tried x y
        session  open, slots 3/3, residency 3/3, ready -, idle x y""")
    s.rush("interrupt host q").see("""
        /root    new
        /root/v  starting 2, unloading, slot reserved, unread host!, makes room for p
        /root/x  completed 1, resident
        /root/y  completed 1, resident
        /root/q  interrupted 1, unread host
        /root/p  starting 1, slot reserved, unread host!, tried x y
        session  open, slots 2/3, residency 3/3, ready -, idle x y""")


def test_turn_whose_victims_could_not_be_flushed_cannot_start_when_nothing_is_in_transit_any_more() -> None:
    s = leaving_with_a_slot()
    words = "no residency slot: could not flush /root/x, /root/y"
    failed = fx.Answer((4,), Outcome(5, 1, TurnState.ERRORED, words, Cause.NO_ROOM))
    s.rush("flushed v").asks(fx.Unload(1, 1), fx.Load(4, 1, "settings of q"), failed, fx.Flush(2, 1, 4)).see("""
        /root    new
        /root/v  starting 2, slot reserved, unread host!
        /root/x  completed 1, unloading, makes room for v
        /root/y  completed 1, resident
        /root/q  starting 1, loading, slot reserved, unread host!
        /root/p  errored 1, unread host
        session  open, slots 2/3, residency 3/3, ready -, idle y""")


# Slots before room (J2 before J5)


def test_slot_of_a_turn_that_cannot_start_goes_to_the_queue_before_the_next_turn_makes_room() -> None:
    """Found by killing sessions whose flushes fail: several turns wait for room, and when the first of them cannot
    start, the turn that queues for its slot is admitted before its agent could be evicted for the next one.
    """
    s = Scenario(max_concurrent=3, overflow=Overflow.QUEUE)
    s.rush("spawn root x by host", "loaded x", "finished x", "spawn root q by host", "loaded q", "finished q")
    s.rush("spawn root p by host", "flush_failed x", "spawn root r by host", "follow_up host q", "flush_failed x")
    s.see("""
        /root    new
        /root/x  completed 1, resident
        /root/q  queued 2, unloading, unread host!, makes room for p
        /root/p  starting 1, slot reserved, unread host!, tried x
        /root/r  starting 1, slot reserved, unread host!, tried x
        session  open, slots 2/2, residency 2/2, ready q, idle x""")
    failed = [
        fx.Answer((number,), Outcome(agent, 1, TurnState.ERRORED, f"no residency slot: {words}", Cause.NO_ROOM))
        for number, agent, words in ((2, 3, "could not flush /root/x, /root/q"), (3, 4, "could not flush /root/x"))
    ]
    work = MailAccepted(4, HOST, 2, MailKind.TRIGGER, "work")
    s.play("flush_failed q").asks(*failed, fx.StartTurn(2, 2, 1, (work,))).see("""
        /root    new
        /root/x  completed 1, resident
        /root/q  running 2, resident, slot active, asked by host
        /root/p  errored 1, unread host
        /root/r  errored 1, unread host
        session  open, slots 1/2, residency 2/2, ready -, idle x""")
