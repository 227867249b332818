"""Every refusal: when it is given, with which facts, that nothing changes, and which cause is named when there are two.

A refusal changes nothing, so several can be had from one situation. The asks of a situation are a ladder: each has all
the faults of those below it, and one more, which is the one that has to be named (semantics.md section 4, checks in the
order given). Decisions D7, D9, D10, D12, D15 and D16 say where their checks stand.
"""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from statemachine.core import events as ev
from statemachine.core.config import Overflow, SessionConfig
from statemachine.core.effects import Refused
from statemachine.core.events import HOST, ROOT
from statemachine.core.refusals import REFUSALS, InvalidConfig, Refusal
from tests.core.scenario import LIVE, Scenario

QUEUE = Overflow.QUEUE
LARGEST = '{"a":"' + "\N{EURO SIGN}" * 5458 + 'bb"}'
LARGE = LARGEST.replace("b", "bb")
"""Headers of 16 KiB, and of 2 bytes more."""
TOO_LARGE = ("one of 16386 bytes", 16386, 16384)
KINDS: dict[str, Any] = {kind.__name__: kind for kind in REFUSALS}
Ask = tuple[Any, ...]
"""An event, the name of the refusal, and its facts."""

SITUATIONS: dict[str, tuple[dict[str, Any], str, list[Ask]]] = {
    # z (1) is closed, a (2) runs and holds the only slot; the root is owed a notice, and has no place for another
    "spawn": (
        {"max_concurrent": 2, "max_depth": 1, "max_agents": 1, "max_unread": 2, "max_message_bytes": 8},
        "spawn root z by host, close host z, spawn root a, loaded a",
        [
            (ev.Spawn(9, "BAD", "", sender=8), "UnknownAgent", 9),
            (ev.Spawn(1, "BAD", "", sender=8), "AgentClosed", 1),
            (ev.Spawn(2, "BAD", "", sender=8), "UnknownAgent", 8),
            (ev.Spawn(2, "BAD", "", sender=1), "AgentClosed", 1),
            (ev.Spawn(2, "BAD", "", sender=ROOT), "InvalidName", "BAD"),
            (ev.Spawn(ROOT, "a", ""), "InvalidMessage", 0, 8),
            (ev.Spawn(ROOT, "a", "123456789"), "InvalidMessage", 9, 8),
            (ev.Spawn(ROOT, "a", "work", headers=LARGE), "InvalidHeaders", *TOO_LARGE),
            (ev.Spawn(ROOT, "a", "work", headers=""), "InvalidHeaders", "one of 0 bytes", 0, 16384),
            (ev.Spawn(ROOT, "a", "work", headers=LARGEST), "PathTaken", "/root/a", 2),
            (ev.Spawn(ROOT, "a", "work"), "PathTaken", "/root/a", 2),
            (ev.Spawn(2, "b", "123456789", sender=ROOT), "InvalidMessage", 9, 8),
            (ev.Spawn(2, "b", "work", sender=ROOT), "DepthExceeded", 2, 1),
            (ev.Spawn(ROOT, "b", "work"), "TooManyAgents", 1),
        ],
    ),
    "spawn without a free slot": (
        {"max_concurrent": 2, "max_unread": 2},
        "spawn root a, loaded a",
        [
            (ev.Spawn(ROOT, "b", "work"), "MailboxFull", ROOT, 0, 1, 2),
            (ev.Spawn(ROOT, "b", "work", sender=HOST), "ExecutionFull", 1, (1,)),
        ],
    ),
    "spawn without room in the ready queue": (
        {"max_concurrent": 2, "max_unread": 2, "max_queued": 1, "overflow": QUEUE},
        "spawn root a, loaded a, spawn root b by host",
        [
            (ev.Spawn(ROOT, "c", "work"), "MailboxFull", ROOT, 0, 1, 2),
            (ev.Spawn(ROOT, "c", "work", sender=HOST), "QueueFull", 1, (2,)),
        ],
    ),
    "spawn of a live thread": (
        {"max_concurrent": 2, "max_unread": 2, "slot_policy": LIVE},
        "spawn root a, loaded a",
        [
            (ev.Spawn(ROOT, "b", "work"), "MailboxFull", ROOT, 0, 1, 2),
            (ev.Spawn(ROOT, "b", "work", sender=HOST), "LiveThreadsFull", 1, (1,)),
        ],
    ),
    # z (1) is closed, the mailbox of a (2) is full but for the place that is for trigger mail
    "send": (
        {"max_unread": 2},
        "spawn root z by host, close host z, spawn root a by host, loaded a, send host a",
        [
            (ev.Send(8, 9, ""), "UnknownAgent", 8),
            (ev.Send(1, 9, ""), "AgentClosed", 1),
            (ev.Send(HOST, 9, ""), "UnknownAgent", 9),
            (ev.Send(HOST, 1, ""), "AgentClosed", 1),
            (ev.Send(HOST, 2, ""), "InvalidMessage", 0, 1 << 20),
            (ev.Send(HOST, 2, "work", LARGE), "InvalidHeaders", *TOO_LARGE),
            (ev.Send(HOST, 2, "work"), "MailboxFull", 2, 1, 0, 2),
        ],
    ),
    # z (1) is closed; b (2) and c (3) are idle, the mailbox of b is full of demoted mail; d (4) holds the only slot;
    # the mailbox of the root is full too, with the notice of d's end that it is owed
    "follow_up": (
        {"max_concurrent": 2, "max_resident": 3, "max_unread": 3},
        "spawn root z by host, close host z, spawn root b by host, send host b, follow_up host b, interrupt host b,"
        "loaded b, spawn root c by host, loaded c, finished c, start root, spawn root d, loaded d, send host root,"
        "start root",
        [
            (ev.FollowUp(8, 9, ""), "UnknownAgent", 8),
            (ev.FollowUp(1, 9, ""), "AgentClosed", 1),
            (ev.FollowUp(ROOT, 9, ""), "UnknownAgent", 9),
            (ev.FollowUp(ROOT, 1, ""), "AgentClosed", 1),
            (ev.FollowUp(ROOT, 2, ""), "InvalidMessage", 0, 1 << 20),
            (ev.FollowUp(ROOT, 2, "work", LARGE), "InvalidHeaders", *TOO_LARGE),
            (ev.FollowUp(ROOT, 2, "work"), "MailboxFull", 2, 3, 0, 3),
            (ev.FollowUp(ROOT, 3, "work"), "MailboxFull", ROOT, 2, 1, 3),
            (ev.FollowUp(HOST, 3, "work"), "ExecutionFull", 1, (4,)),
            (ev.FollowUp(3, ROOT, ""), "InvalidMessage", 0, 1 << 20),
            (ev.FollowUp(3, ROOT, "work"), "MailboxFull", ROOT, 2, 1, 3),
            (ev.Start(9, ""), "UnknownAgent", 9),
            (ev.Start(1, ""), "AgentClosed", 1),
            (ev.Start(2, ""), "InvalidMessage", 0, 1 << 20),
            (ev.Start(2, "work", LARGE), "InvalidHeaders", *TOO_LARGE),
            (ev.Start(2, "work"), "MailboxFull", 2, 3, 0, 3),
            (ev.Start(3, "work"), "ExecutionFull", 1, (4,)),
            (ev.Start(ROOT, "work"), "MailboxFull", ROOT, 2, 1, 3),
        ],
    ),
    # a (1) has no place for the notice that its request would bring; b (2) has; the root has a place for the request
    "follow_up of the root": (
        {"max_unread": 2},
        "spawn root a by host, loaded a, spawn root b by host, loaded b, send host a",
        [
            (ev.FollowUp(1, ROOT, "work"), "MailboxFull", 1, 1, 0, 2),
            (ev.FollowUp(2, ROOT, "work"), "RootRefused", "follow_up"),
        ],
    ),
    "follow_up of an idle agent without room in the ready queue": (
        {"max_concurrent": 2, "max_resident": 3, "max_queued": 2, "overflow": QUEUE},
        "spawn root a by host, loaded a, finished a, spawn root c by host, loaded c, spawn root d by host,"
        "spawn root b by host",
        [(ev.FollowUp(HOST, 1, "work"), "QueueFull", 2, (3, 4))],
    ),
    # z (1) is closed, a (2) has ended its first turn and runs its second, b (3) is being stopped, c (4) is starting
    "drain": (
        {},
        "spawn root z by host, close host z, spawn root a by host, loaded a, finished a, follow_up host a,"
        "spawn root b by host, loaded b, interrupt host b, spawn root c by host",
        [
            (ev.Drain(9, 1), "UnknownAgent", 9),
            (ev.Drain(1, 1), "NotRunning", 1, 1),
            (ev.Drain(2, 1), "NotRunning", 2, 1),
            (ev.Drain(2, 3), "NotRunning", 2, 3),
            (ev.Drain(3, 1), "NotRunning", 3, 1),
            (ev.Drain(4, 1), "NotRunning", 4, 1),
            (ev.Drain(ROOT, 0), "NotRunning", ROOT, 0),
        ],
    ),
    # z (1) is closed, a (2) runs, and its child b (3) too
    "interrupt": (
        {},
        "spawn root z by host, close host z, spawn root a by host, loaded a, spawn root/a b by host, loaded a/b",
        [
            (ev.Interrupt(8, 9), "UnknownAgent", 8),
            (ev.Interrupt(1, 9), "AgentClosed", 1),
            (ev.Interrupt(1, 1), "AgentClosed", 1),
            (ev.Interrupt(ROOT, 9), "UnknownAgent", 9),
            (ev.Interrupt(ROOT, 1), "AgentClosed", 1),
            (ev.Interrupt(ROOT, ROOT), "RootRefused", "interrupt"),
            (ev.Interrupt(2, ROOT), "RootRefused", "interrupt"),
            (ev.Interrupt(2, 2), "SelfRefused", "interrupt", 2),
            (ev.Interrupt(2, 2, subtree=True), "SelfRefused", "interrupt", 2),
            (ev.Interrupt(3, 2, subtree=True), "SelfRefused", "interrupt", 2),
        ],
    ),
    # z (1) is closed, a (2) is to stop, b (3) runs
    "spawn and follow_up by a turn that is to stop": (
        {},
        "spawn root z by host, close host z, spawn root a by host, loaded a, spawn root b by host, loaded b,"
        "interrupt host a",
        [
            (ev.Spawn(1, "BAD", ""), "AgentClosed", 1),
            (ev.Spawn(2, "BAD", ""), "NotRunning", 2, 1),
            (ev.Spawn(3, "BAD", "", sender=2), "NotRunning", 2, 1),
            (ev.FollowUp(2, 1, ""), "AgentClosed", 1),
            (ev.FollowUp(2, 3, ""), "InvalidMessage", 0, 1 << 20),
            (ev.FollowUp(2, ROOT, "work"), "NotRunning", 2, 1),
        ],
    ),
    # z (1) is closed; a (2) runs, and has read mail 1; unread are b's note (3) and the notice of b's end (5)
    "withdraw": (
        {},
        "spawn root z by host, close host z, spawn root a by host, loaded a, spawn root/a b, loaded a/b,"
        "send a/b a, send host a/b, finished a/b",
        [
            (ev.Withdraw(8, 99), "UnknownAgent", 8),
            (ev.Withdraw(1, 99), "AgentClosed", 1),
            (ev.Withdraw(HOST, 6), "UnknownMail", 6),
            (ev.Withdraw(HOST, -1), "UnknownMail", -1),
            (ev.Withdraw(ROOT, 1), "MailRead", 1),
            (ev.Withdraw(HOST, 0), "MailRead", 0),
            (ev.Withdraw(ROOT, 3), "NotSender", 3),
            (ev.Withdraw(2, 3), "NotSender", 3),
            (ev.Withdraw(HOST, 5), "NotSender", 5),
            (ev.Withdraw(3, 5), "NotSender", 5),
        ],
    ),
    # a (1) is closed and forgotten, b (2) is open
    "forget": (
        {},
        "spawn root a by host, close host a, forget a, spawn root b by host",
        [
            (ev.Forget(9), "UnknownAgent", 9),
            (ev.Forget(1), "UnknownAgent", 1),
            (ev.Forget(HOST), "UnknownAgent", HOST),
            (ev.Forget(ROOT), "RootRefused", "forget"),
            (ev.Forget(2), "AgentOpen", 2),
        ],
    ),
    # a (1) is forgotten: every call that names it knows it no more
    "forgotten": (
        {},
        "spawn root a by host, close host a, forget a, spawn root b by host, loaded b",
        [
            (ev.Spawn(1, "c", "work"), "UnknownAgent", 1),
            (ev.Spawn(2, "c", "work", sender=1), "UnknownAgent", 1),
            (ev.Send(HOST, 1, "work"), "UnknownAgent", 1),
            (ev.Send(1, 2, "work"), "UnknownAgent", 1),
            (ev.FollowUp(HOST, 1, "work"), "UnknownAgent", 1),
            (ev.Start(1, "work"), "UnknownAgent", 1),
            (ev.Drain(1, 1), "UnknownAgent", 1),
            (ev.Interrupt(HOST, 1), "UnknownAgent", 1),
            (ev.Close(HOST, 1), "UnknownAgent", 1),
            (ev.Resume(HOST, 1), "UnknownAgent", 1),
            (ev.Wait(1, 1, 5.0), "UnknownAgent", 1),
            (ev.Wait(2, 1, 5.0, (1,)), "UnknownAgent", 1),
            (ev.StopWaiting(1, 1, 1), "UnknownAgent", 1),
            (ev.Withdraw(1, 0), "UnknownAgent", 1),
            (ev.Status(1), "UnknownAgent", 1),
        ],
    ),
    # z (1) is closed; a (2) has a child b (3) and a grandchild c (4)
    "close": (
        {},
        "spawn root z by host, close host z, spawn root a by host, spawn root/a b by host, spawn root/a/b c by host",
        [
            (ev.Close(8, 9), "UnknownAgent", 8),
            (ev.Close(1, 9), "AgentClosed", 1),
            (ev.Close(1, 1), "AgentClosed", 1),
            (ev.Close(ROOT, 9), "UnknownAgent", 9),
            (ev.Close(ROOT, ROOT), "RootRefused", "close"),
            (ev.Close(HOST, ROOT), "RootRefused", "close"),
            (ev.Close(4, ROOT), "RootRefused", "close"),
            (ev.Close(2, 2), "SelfRefused", "close", 2),
            (ev.Close(4, 2), "SelfRefused", "close", 2),
        ],
    ),
    # z (1), a (2) and its child b (3) are closed; another a (4) has another child b (5), and that is all there may be
    "resume": (
        {"max_concurrent": 3, "max_agents": 2, "slot_policy": LIVE},
        "spawn root z by host, close host z, spawn root a by host, spawn root/a b by host, close host a,"
        "spawn root a by host, spawn root/a b by host",
        [
            (ev.Resume(8, 9), "UnknownAgent", 8),
            (ev.Resume(1, 9), "AgentClosed", 1),
            (ev.Resume(HOST, 9), "UnknownAgent", 9),
            (ev.Resume(HOST, 5), "AgentOpen", 5),
            (ev.Resume(HOST, ROOT), "AgentOpen", ROOT),
            (ev.Resume(HOST, 3), "AgentClosed", 2),
            (ev.Resume(HOST, 2), "PathTaken", "/root/a", 4),
            (ev.Resume(HOST, 1), "TooManyAgents", 2),
        ],
    ),
    "resume of a live thread without a free slot": (
        {"max_concurrent": 2, "slot_policy": LIVE},
        "spawn root z by host, close host z, spawn root a by host",
        [(ev.Resume(HOST, 1), "LiveThreadsFull", 1, (2,))],
    ),
    # a (1) runs; mail 0 is the only one that there is; b (2) has a turn that is to stop
    "wait": (
        {},
        "spawn root a by host, loaded a, spawn root b by host, loaded b, interrupt host b",
        [
            (ev.Wait(9, 9, -1.0, (8,)), "UnknownAgent", 9),
            (ev.Wait(1, 9, -1.0, (8,)), "NotRunning", 1, 9),
            (ev.Wait(1, 1, -1.0, (8,)), "InvalidTimeout", -1.0, 3600.0),
            (ev.Wait(1, 1, 3601.0, (8,)), "InvalidTimeout", 3601.0, 3600.0),
            (ev.Wait(1, 1, math.nan, (8,)), "InvalidTimeout", math.nan, 3600.0),
            (ev.Wait(1, 1, 5.0, (ROOT, 8)), "UnknownAgent", 8),
            (ev.Wait(1, 1, 5.0, (ROOT,), (2,)), "UnknownMail", 2),
            (ev.Wait(1, 1, 5.0, (), (0, -1)), "UnknownMail", -1),
            (ev.Wait(1, 1, None), "InvalidTimeout", math.inf, 3600.0),
            (ev.Wait(1, 1, None, (ROOT,), (1,), mail=False), "InvalidTimeout", math.inf, 3600.0),
            (ev.Wait(1, 1, None, (), (0,), mail=False), "WaitCircle", (1,)),
            (ev.Wait(2, 1, 5.0), "NotRunning", 2, 1),
            (ev.StopWaiting(9, 9, 1), "UnknownAgent", 9),
            (ev.StopWaiting(1, 9, 1), "NotRunning", 1, 9),
            (ev.StopWaiting(2, 1, 1), "NotRunning", 2, 1),
        ],
    ),
    "status": ({}, "", [(ev.Status(9), "UnknownAgent", 9), (ev.Status(HOST), "UnknownAgent", HOST)]),
    # Exact blockers: of a, b, c, d are one starting, one running, one stopping; the root and the idle d block nobody
    "holders": (
        {"max_concurrent": 4, "max_resident": 4},
        "start root, spawn root d by host, loaded d, finished d, spawn root a by host, spawn root b by host, loaded b,"
        "spawn root c by host, loaded c, interrupt host c",
        [
            (ev.Spawn(ROOT, "e", "work"), "ExecutionFull", 3, (2, 3, 4)),
            (ev.FollowUp(ROOT, 1, "work"), "ExecutionFull", 3, (2, 3, 4)),
        ],
    ),
    "holders of live threads are the open agents, idle or unloaded": (
        {"max_concurrent": 4, "slot_policy": LIVE},
        "start root, spawn root a by host, loaded a, finished a, spawn root b by host, load_failed b,"
        "spawn root c by host",
        [(ev.Spawn(ROOT, "d", "work"), "LiveThreadsFull", 3, (1, 2, 3))],
    ),
    "path of an unloaded agent": (
        {"idle_ttl": 1},
        "spawn root a by host, loaded a, finished a, tick 1, flushed a",
        [(ev.Spawn(ROOT, "a", "work"), "PathTaken", "/root/a", 1)],
    ),
    "mailbox with unread mail and promised notices": (
        {"max_unread": 4},
        "start root, spawn root a, loaded a, send host root, spawn root b",
        [(ev.Send(HOST, ROOT, "work"), "MailboxFull", ROOT, 1, 2, 4)],
    ),
    "message counted in bytes": (
        {"max_message_bytes": 4},
        "",
        [(ev.Send(HOST, ROOT, "\N{EURO SIGN}\N{EURO SIGN}"), "InvalidMessage", 6, 4)],
    ),
}


def arrange(config: dict[str, Any], program: str) -> Scenario:
    """The session after the program, lines separated by commas."""
    s = Scenario(**config).rush(*[line for line in program.split(",") if line])
    s.looked_at = True
    return s


@pytest.mark.parametrize("situation", SITUATIONS)
def test_refusal_names_the_first_cause_with_its_exact_facts_and_changes_nothing(situation: str) -> None:
    config, program, asks = SITUATIONS[situation]
    s = arrange(config, program)
    for event, cause, *facts in asks:
        s.feed(event)
        s.refused(cause, *facts)


# The session comes first

WRONG_OTHERWISE_TOO: list[tuple[ev.Event, str, str]] = [
    # event, refusal while draining, refusal when closed; every event has another fault as well
    (ev.Spawn(9, "BAD", ""), "SessionDraining", "SessionClosed"),
    (ev.Send(9, 9, ""), "SessionDraining", "SessionClosed"),
    (ev.FollowUp(9, 9, ""), "SessionDraining", "SessionClosed"),
    (ev.Start(9, ""), "SessionDraining", "SessionClosed"),
    (ev.Resume(9, 9), "SessionDraining", "SessionClosed"),
    (ev.Shutdown(-1.0), "InvalidTimeout", "SessionClosed"),
    (ev.Drain(9, 9), "UnknownAgent", "SessionClosed"),
    (ev.Interrupt(9, 9), "UnknownAgent", "SessionClosed"),
    (ev.Close(9, 9), "UnknownAgent", "SessionClosed"),
    (ev.Wait(9, 9, -1.0), "UnknownAgent", "SessionClosed"),
    (ev.StopWaiting(9, 9, 1), "UnknownAgent", "SessionClosed"),
    (ev.Withdraw(9, 9), "UnknownAgent", "SessionClosed"),
    (ev.Forget(9), "UnknownAgent", "SessionClosed"),
    (ev.Status(9), "UnknownAgent", "UnknownAgent"),
]
FACTS: dict[str, tuple[Any, ...]] = {"UnknownAgent": (9,), "InvalidTimeout": (-1.0, math.inf)}


@pytest.mark.parametrize(("event", "draining", "closed"), WRONG_OTHERWISE_TOO)
def test_refusal_names_the_session_before_anything_else(event: ev.Event, draining: str, closed: str) -> None:
    for program, cause in (("shutdown 5", draining), ("shutdown 5, flushed root", closed)):
        s = arrange({}, program)
        s.feed(event)
        s.refused(cause, *FACTS.get(cause, ()))


@pytest.mark.parametrize("event", [*(event for event, _, _ in WRONG_OTHERWISE_TOO), ev.ListAgents()])
def test_refusal_of_a_failed_session_names_its_store_whatever_is_asked(event: ev.Event) -> None:
    s = arrange({}, "write_failed")
    s.feed(event)
    s.refused("StoreFailed", "disk full")


def test_refusal_of_the_store_wins_over_draining() -> None:
    s = arrange({}, "start root, shutdown 5, finished root, write_failed")
    s.feed(ev.Send(HOST, ROOT, "work"))
    s.refused("StoreFailed", "disk full")


SEVERAL = {"ExecutionFull": "holders", "LiveThreadsFull": "holders", "QueueFull": "queued"}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_refusal_has_the_path_of_every_agent_that_it_names_by_id(situation: str) -> None:
    config, program, asks = SITUATIONS[situation]
    session = arrange(config, program).session
    for event, cause, *_ in asks:
        reply = session.handle(event).reply
        assert isinstance(reply, Refused)
        refusal: Any = reply.refusal
        if cause in SEVERAL:
            assert refusal.paths == tuple([session.agents[agent].path for agent in getattr(refusal, SEVERAL[cause])])
            assert refusal.paths
        elif cause == "WaitCircle":
            assert refusal.paths == tuple([session.agents[agent].path for agent in refusal.agents])
        elif "agent" in refusal.fact_names and cause != "UnknownAgent":  # who was never there is nowhere
            assert refusal.path == session.agents[refusal.agent].path
        assert {"path", "paths"}.isdisjoint(refusal.fact_names) or cause == "PathTaken"


@pytest.mark.parametrize("grace", [-1.0, math.inf, math.nan])
def test_refusal_of_a_shutdown_names_a_grace_that_is_none(grace: float) -> None:
    s = Scenario()
    s.feed(ev.Shutdown(grace))
    s.refused("InvalidTimeout", grace, math.inf)


def test_refusals_above_are_all_that_there_are() -> None:
    given = {cause for _, _, asks in SITUATIONS.values() for _, cause, *_ in asks}
    given |= {cause for _, *causes in WRONG_OTHERWISE_TOO for cause in causes} | {"StoreFailed"}
    of_the_core = {kind.__name__ for kind in Refusal.__subclasses__() if kind.__module__ == Refusal.__module__}
    assert given == set(KINDS) == of_the_core


# Messages

MESSAGES: list[tuple[str, tuple[Any, ...], str, str]] = [
    # refusal, its facts, what the message says of them, what it says to do
    ("UnknownAgent", (9,), "no agent 9", "`list` shows the open ones"),
    ("AgentClosed", (9, "/root/a"), "agent /root/a (9) is closed", "`resume` opens it again"),
    (
        "AgentOpen",
        (9, "/root/a"),
        "agent /root/a (9) is open",
        "send to it or follow up, or close it before it is forgotten",
    ),
    ("PathTaken", ("/root/a", 9), "path /root/a belongs to open agent 9", "take another name or close that agent"),
    ("InvalidName", ("BAD",), "'BAD' is not an agent name", "1 to 64 of a-z, 0-9 and _, and not 'root'"),
    ("InvalidMessage", (9, 8), "this one has 9", "a message has 1 to 8 bytes"),
    ("InvalidHeaders", (*TOO_LARGE,), "of at most 16384 bytes, not one of 16386 bytes", "put everything else into"),
    ("DepthExceeded", (3, 2), "depth 3 exceeds max_depth=2", "spawn it higher up, or raise max_depth"),
    ("TooManyAgents", (7,), "7 sub-agents are open", "close one first"),
    (
        "ExecutionFull",
        (2, (3, 4), ("/root/a", "/root/b")),
        "all 2 execution slots are held, by /root/a (3), /root/b (4)",
        "wait for one, or interrupt one",
    ),
    (
        "LiveThreadsFull",
        (2, (3, 4), ("/root/a", "/root/b")),
        "all 2 slots are held by the open agents /root/a (3), /root/b (4)",
        "close one first",
    ),
    ("QueueFull", (2, (3, 4), ("/root/a", "/root/b")), "2 turns wait for a slot already", "try again later"),
    (
        "MailboxFull",
        (5, 6, 7, 8, "/root/a"),
        "agent /root/a (5) is full: 6 unread and 7 notices to come, of 8",
        "have it read its mail, as a turn does when it begins and by `drain`, or close and resume it",
    ),
    ("RootRefused", ("interrupt",), "interrupt of the root", "only the host starts or interrupts it"),
    ("RootRefused", ("close",), "close of the root", "it is closed by shutting the session down"),
    (
        "SelfRefused",
        ("close", 5, "/root/a"),
        "close of agent /root/a (5) by itself or by one below it",
        "end the turn instead",
    ),
    (
        "SelfRefused",
        ("close", 5, "/root/a"),
        "close of agent /root/a (5) by itself",
        "leave it to the parent or the host",
    ),
    (
        "NotRunning",
        (5, 6, "/root/a"),
        "turn 6 of agent /root/a (5) is not running any more",
        "stop its work, and follow up for another turn",
    ),
    (
        "WaitCircle",
        ((5, 6), ("/root/a", "/root/b")),
        "these agents would wait for each other: /root/a (5), /root/b (6)",
        "give it a timeout, or end the turn and let the notice start the next one",
    ),
    ("UnknownMail", (9,), "mail 9 was never accepted", "give the number that the request returned"),
    ("MailRead", (9,), "mail 9 is not unread any more", "interrupt the turn that took it instead"),
    ("NotSender", (9,), "mail 9 can be withdrawn only by its sender or the host", "ask one of them"),
    ("InvalidTimeout", (-1.0, 60.0), "not -1.0", "a timeout is 0 to 60.0 seconds"),
    ("InvalidTimeout", (math.inf, math.inf), "not inf", "a timeout is a finite number of seconds, 0 or more"),
    ("SessionDraining", (), "the session is shutting down", "open it again from its log, and ask then"),
    ("SessionClosed", (), "the session is closed", "open it again from its log"),
    ("StoreFailed", ("disk full",), "the store failed (disk full)", "the session can be opened again from its log"),
]


@pytest.mark.parametrize(("name", "facts", "cause", "way_out"), MESSAGES)
def test_refusal_message_says_what_stands_in_the_way_and_what_to_do(
    name: str, facts: tuple[Any, ...], cause: str, way_out: str
) -> None:
    message = str(KINDS[name](*facts))
    assert cause in message
    assert way_out in message


def test_refusal_message_of_a_full_mailbox_advises_to_wait_only_for_notices_that_are_to_come() -> None:
    assert "wait for" not in str(KINDS["MailboxFull"](5, 6, 0, 8, "/root/a"))


def test_refusal_message_of_a_full_mailbox_says_whom_its_last_place_is_for() -> None:
    assert "of 8, the last of which is for trigger mail" in str(KINDS["MailboxFull"](5, 6, 1, 8, "/root/a"))


NO_HELP = ("wait for one", "close one", "close it", "close and resume", "spawn it higher up", "held", "follow up")
"""What helps elsewhere."""


@pytest.mark.parametrize(
    ("config", "program", "asked", "words"),
    [
        ({"max_concurrent": 1}, "", ev.Spawn(ROOT, "a", "go"), "max_concurrent=1 leaves .* raise max_concurrent"),
        (
            {"max_concurrent": 1, "slot_policy": LIVE},
            "",
            ev.Spawn(ROOT, "a", "go"),
            "max_concurrent=1 leaves .* raise max_concurrent and open",
        ),
        ({"max_depth": 0}, "", ev.Spawn(ROOT, "a", "go"), "max_depth=0 allows no .* raise max_depth and open"),
        ({"max_agents": 0}, "", ev.Spawn(ROOT, "a", "go"), "max_agents=0 allows no .* raise max_agents and open"),
        (
            {"max_unread": 2},
            "send host root",
            ev.Send(HOST, ROOT, "more"),
            "have it read .* `drain`; the host starts one",
        ),
        (
            {"max_unread": 2},
            "spawn root a, loaded a",
            ev.Spawn(ROOT, "b", "go"),
            "wait for these notices and have it read .* `drain`; the host",
        ),
        ({}, "", ev.Resume(HOST, ROOT), r"/root \(0\) is open as long as .* have the host start a turn"),
    ],
)
def test_refusal_message_advises_nothing_that_cannot_help(
    config: dict[str, Any], program: str, asked: ev.Event, words: str
) -> None:
    reply = arrange(config, program).session.handle(asked).reply
    assert isinstance(reply, Refused)
    message = str(reply.refusal)
    assert re.search(words, message)
    assert [advice for advice in NO_HELP if advice in message] == []


def test_refusal_messages_above_are_all_that_there_are() -> None:
    assert {name for name, *_ in MESSAGES} == set(KINDS)


# Configurations

AT_LEAST = {
    **{"max_concurrent": 1, "max_queued": 1, "max_unread": 2, "max_message_bytes": 1, "max_resident": 0},
    **{"max_attempts": 1, "max_overtaken": 0},
}
BOUNDS = ("max_depth", "max_agents")
TIMES = ("flush_timeout", "load_timeout", "stop_grace", "max_wait", "idle_ttl", "turn_timeout")
OPTIONAL = ("idle_ttl", "turn_timeout")

CANNOT_WORK: list[tuple[dict[str, Any], str]] = [
    *[
        ({name: bad}, f"{name} must be a whole number, at least {least}, not {bad!r}")
        for name, least in AT_LEAST.items()
        for bad in (least - 1, -2, 4.0, True, "4", None)
    ],
    *[
        ({name: bad}, f"{name} must be a whole number, at least 0, not {bad!r}")
        for name in BOUNDS
        for bad in (-1, 1.5, True, "4")
    ],
    *[
        ({name: bad}, f"{name} must be seconds, finite and at least 0, not {bad!r}")
        for name in TIMES
        for bad in (-0.1, math.nan, math.inf, True, "4")
    ],
    *[
        ({name: None}, f"{name} must be seconds, finite and at least 0, not None")
        for name in TIMES
        if name not in OPTIONAL
    ],
    *[
        ({"notify_interrupted": bad}, f"notify_interrupted must be True or False, not {bad!r}")
        for bad in (None, 1, "no")
    ],
    *[({name: "none"}, f"{name} must be one of ") for name in ("slot_policy", "overflow", "notice")],
    ({"notice": None}, "notice must be one of Notice.QUEUE, Notice.TRIGGER, Notice.NONE, not None"),
    ({"max_concurrent": 4, "max_resident": 2}, "max_resident=2 is less than the execution cap 3"),
    ({"max_concurrent": 1, "overflow": QUEUE}, "overflow=QUEUE with max_concurrent=1 leaves sub-agents no slot"),
    ({"slot_policy": LIVE, "overflow": QUEUE}, "what is queued may wait for ever; use REJECT"),
    ({"slot_policy": LIVE, "idle_ttl": 60}, "LIVE_THREADS never evicts, so idle_ttl cannot work"),
]


@pytest.mark.parametrize(("config", "reason"), CANNOT_WORK)
def test_configuration_that_cannot_work_is_refused_with_the_reason(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidConfig, match=re.escape(reason)):
        SessionConfig(**config)


@pytest.mark.parametrize(
    "config",
    [
        {"max_concurrent": 1},
        {"max_concurrent": 1, "slot_policy": LIVE},
        {"max_concurrent": 2, "max_resident": 1, "overflow": QUEUE, "max_queued": 1},
        {"max_depth": 0, "max_agents": 0, "max_unread": 2, "max_message_bytes": 1},
        dict.fromkeys(TIMES, 0),
        {"idle_ttl": None, "turn_timeout": None, "max_depth": None, "max_agents": None},
        {"max_overtaken": 0, "max_attempts": 1},
        {"notify_interrupted": True, "idle_ttl": 0.5},
    ],
)
def test_configuration_at_the_edge_of_what_works_is_taken(config: dict[str, Any]) -> None:
    taken = SessionConfig(**config)
    assert {name: getattr(taken, name) for name in config} == config


def test_configuration_leaves_room_for_every_turn_and_for_many_that_lend_by_default() -> None:
    assert [SessionConfig(max_concurrent=n).max_resident for n in (1, 2, 5, 6, 9)] == [32, 32, 32, 40, 64]


@pytest.mark.parametrize(
    ("config", "overflow"),
    [({}, QUEUE), ({"max_concurrent": 1}, Overflow.REJECT), ({"slot_policy": LIVE}, Overflow.REJECT)],
)
def test_configuration_queues_by_default_where_turns_can_queue(config: dict[str, Any], overflow: Overflow) -> None:
    assert SessionConfig(**config).overflow is overflow
