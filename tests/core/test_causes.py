"""Every way in which a turn ends, and the cause that its outcome names; and a cause that is not true goes red (S8)."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import frozen

from model import lockstep
from model.scenarios import script
from statemachine.checking.causes import ASKED, STATUSES, wrong_cause
from statemachine.checking.moment import Moment
from statemachine.checking.properties import PropertyViolation, check, check_step
from statemachine.core.config import Overflow
from statemachine.core.effects import Step
from statemachine.core.events import HOST, ROOT, Event, Failed
from statemachine.core.machines import TurnState
from statemachine.core.records import Cause, Outcome, TurnEnded, TurnStopped
from statemachine.core.session import Session
from statemachine.log.recovery import fold, restart
from tests.core.scenario import LIVE, Scenario, tight

COMPLETED, ERRORED, INTERRUPTED = TurnState.COMPLETED, TurnState.ERRORED, TurnState.INTERRUPTED

End = tuple[TurnState, Cause, int | None]

ONE = ("spawn root a by host", "loaded a")
"""`a` is agent 1, and runs."""
TWO = (*ONE, "spawn root b by host", "loaded b")
ROOMLESS = (
    *("spawn root a by host", "loaded a", "finished a", "spawn root b by host"),
    "flush_failed a",
)
LIVING = {"slot_policy": LIVE}

ENDS: dict[str, tuple[tuple[str, ...], dict[str, Any], list[End]]] = {
    "its code returns": ((*ONE, "finished a"), {}, [(COMPLETED, Cause.FINISHED, None)]),
    "its code raises": ((*ONE, "failed a"), {}, [(ERRORED, Cause.FAILED, None)]),
    "its code returns though it was to stop": (
        (*ONE, "interrupt host a", "finished a"),
        {},
        [(COMPLETED, Cause.FINISHED, None)],
    ),
    "its code raises though it was to stop": (
        (*ONE, "interrupt host a", "failed a"),
        {},
        [(ERRORED, Cause.FAILED, None)],
    ),
    "its thread dies": ((*ONE, "died a"), {}, [(ERRORED, Cause.THREAD_DIED, None)]),
    "its thread dies while it stops": (
        (*ONE, "interrupt host a", "died a"),
        {},
        [(INTERRUPTED, Cause.THREAD_DIED, None)],
    ),
    "its thread dies, and that closes": (
        (*ONE, "spawn a b by host", "loaded a/b", "spawn a c by host", "died a"),
        LIVING,
        [(ERRORED, Cause.THREAD_DIED, None), *[(INTERRUPTED, Cause.CLOSED, None)] * 2],
    ),
    "its thread dies before it begins, and that closes": (
        ("start root", *ONE, "follow_up root a", "shutdown 5", "finished a", "died a"),
        LIVING,
        [(INTERRUPTED, Cause.THREAD_DIED, None)],
    ),
    "its load fails": (("spawn root a", "load_failed a"), {}, [(ERRORED, Cause.LOAD_FAILED, None)]),
    "its thread dies while it loads": (("spawn root a", "died a"), {}, [(ERRORED, Cause.LOAD_DIED, None)]),
    "its thread dies while it loads, and that closes": (
        ("spawn root a", "died a"),
        LIVING,
        [(ERRORED, Cause.LOAD_DIED, None)],
    ),
    "its load takes too long": (("spawn root a", "tick 30"), {}, [(ERRORED, Cause.LOAD_TIMED_OUT, None)]),
    "there is no room": (
        ROOMLESS,
        {"max_concurrent": 2, "overflow": Overflow.QUEUE},
        [(ERRORED, Cause.NO_ROOM, None)],
    ),
    "there is no room in time": (
        (*ROOMLESS[:-1], "tick 10"),
        {"max_concurrent": 2, "overflow": Overflow.QUEUE},
        [(ERRORED, Cause.NO_ROOM, None)],
    ),
    "the host interrupts it": ((*ONE, "interrupt host a", "aborted a"), {}, [(INTERRUPTED, Cause.INTERRUPTED, HOST)]),
    "an agent interrupts it": ((*TWO, "interrupt b a", "aborted a"), {}, [(INTERRUPTED, Cause.INTERRUPTED, 2)]),
    "two interrupt it": (
        (*TWO, "interrupt b a", "interrupt host a", "interrupt root a", "aborted a"),
        {},
        [(INTERRUPTED, Cause.INTERRUPTED, 2)],
    ),
    "it is interrupted before a shutdown's grace is over": (
        (*TWO, "shutdown 1", "interrupt b a", "tick 2", "aborted a"),
        {},
        [(INTERRUPTED, Cause.INTERRUPTED, 2)],
    ),
    "it does not stop in time": (
        (*TWO, "interrupt b a", "tick 5"),
        {},
        [(INTERRUPTED, Cause.NOT_STOPPED, 2)],
    ),
    "it is interrupted while it loads": (
        ("spawn root a", "interrupt host a"),
        {},
        [(INTERRUPTED, Cause.NOT_STARTED, HOST)],
    ),
    "it is interrupted while it queues": (
        (*ONE, "spawn root b", "interrupt a b"),
        {"max_concurrent": 2, "overflow": Overflow.QUEUE},
        [(INTERRUPTED, Cause.NOT_STARTED, 1)],
    ),
    "the host closes it": ((*ONE, "close host a"), {}, [(INTERRUPTED, Cause.CLOSED, HOST)]),
    "an agent closes it and what is below it": (
        (*TWO, "spawn a c", "close b a"),
        {},
        [(INTERRUPTED, Cause.CLOSED, 2)] * 2,
    ),
    "it is closed while it stops": (
        (*TWO, "interrupt b a", "close host a"),
        {},
        [(INTERRUPTED, Cause.CLOSED, HOST)],
    ),
    "the grace of a shutdown ends": (
        (*ONE, "shutdown 1", "tick 1", "aborted a"),
        {},
        [(INTERRUPTED, Cause.SHUT_DOWN, None)],
    ),
    "it is interrupted after the grace of a shutdown": (
        (*ONE, "shutdown 1", "tick 1", "interrupt host a", "aborted a"),
        {},
        [(INTERRUPTED, Cause.SHUT_DOWN, None)],
    ),
    "it does not stop in time at the end of a shutdown": (
        (*ONE, "shutdown 1", "tick 1", "tick 5"),
        {},
        [(INTERRUPTED, Cause.NOT_STOPPED, None)],
    ),
    "the process is lost": ((*ONE, "restart"), {}, [(INTERRUPTED, Cause.CRASHED, None)]),
    "the process is lost while it stops": (
        (*ONE, "interrupt host a", "restart"),
        {},
        [(INTERRUPTED, Cause.INTERRUPTED, HOST)],
    ),
    "the process is lost after the grace of a shutdown": (
        (*ONE, "shutdown 1", "tick 1", "restart"),
        {},
        [(INTERRUPTED, Cause.SHUT_DOWN, None)],
    ),
    "it takes longer than a turn may": (
        (*ONE, "tick 9", "aborted a"),
        {"turn_timeout": 9},
        [(INTERRUPTED, Cause.TIMED_OUT, None)],
    ),
    "it takes longer than a turn may, and does not stop in time": (
        (*ONE, "tick 9", "tick 5"),
        {"turn_timeout": 9},
        [(INTERRUPTED, Cause.TIMED_OUT, None)],
    ),
    "the process is lost while it stops because it took too long": (
        (*ONE, "tick 9", "restart"),
        {"turn_timeout": 9},
        [(INTERRUPTED, Cause.TIMED_OUT, None)],
    ),
    "it was interrupted before it took longer than a turn may": (
        (*TWO, "tick 8", "interrupt b a", "tick 1", "aborted a"),
        {"turn_timeout": 9},
        [(INTERRUPTED, Cause.INTERRUPTED, 2)],
    ),
    "the mail that asked for it is withdrawn": (
        ("spawn root a", "withdraw root 0"),
        {},
        [(INTERRUPTED, Cause.WITHDRAWN, ROOT)],
    ),
    "the mail that asked for it is withdrawn while it queues": (
        (*ONE, "spawn root b", "withdraw host 1"),
        {"max_concurrent": 2, "overflow": Overflow.QUEUE},
        [(INTERRUPTED, Cause.WITHDRAWN, HOST)],
    ),
    "crashes cut off its load again and again": (
        ("spawn root a", *["restart"] * 3),
        {},
        [(ERRORED, Cause.LOADS_LOST, None)],
    ),
    "crashes cut off its load again and again, and it has room at last": (
        (
            *("spawn root a", "restart", "restart", "spawn root/a b", "restart"),
            *("loaded a/b", "finished a/b", "flushed a/b"),
        ),
        {"max_concurrent": 2, "overflow": Overflow.QUEUE},
        [(ERRORED, Cause.LOADS_LOST, None)],
    ),
    "a subtree is interrupted": (
        (*ONE, "spawn root/a c", "interrupt host a subtree", "aborted a"),
        {},
        [(INTERRUPTED, Cause.INTERRUPTED, HOST)],
    ),
    "a subtree around it is interrupted before it starts": (
        (*ONE, "spawn root/a c", "interrupt host a subtree"),
        {},
        [(INTERRUPTED, Cause.NOT_STARTED, HOST)],
    ),
    "its last attempt dies": (
        (*ONE, "died a", "loaded a", "died a"),
        {"max_attempts": 2},
        [(ERRORED, Cause.THREAD_DIED, None)],
    ),
    "the process is lost in its last attempt": (
        (*ONE, "restart", "loaded a", "restart"),
        {"max_attempts": 2},
        [(INTERRUPTED, Cause.CRASHED, None)],
    ),
    "it dies, waiting": (
        (*ONE, "wait a 5", "spawn root b by host", "died a"),
        {"max_concurrent": 2, "max_resident": 2, "overflow": Overflow.QUEUE},
        [(ERRORED, Cause.THREAD_DIED, None)],
    ),
}
"""What happens -> a program, its configuration, and how the turns end that its last line ends."""


def ends_of(step: Step) -> list[Outcome]:
    return [record.outcome for record in step.records if isinstance(record, TurnEnded)]


@pytest.mark.parametrize(("program", "config", "ends"), ENDS.values(), ids=list(ENDS))
def test_outcome_names_the_true_cause_live_and_after_a_restart(
    program: tuple[str, ...], config: dict[str, Any], ends: list[End]
) -> None:
    s = Scenario(**config).rush(*program)
    assert s.step is not None
    outcomes = ends_of(s.step)
    assert [(outcome.status, outcome.cause, outcome.by) for outcome in outcomes] == ends
    recovered, _ = restart(s.session.config, fold(s.session.config, s.log), 0.0)
    assert [recovered.agents[outcome.agent].outcome for outcome in outcomes] == outcomes


def test_every_cause_is_among_them_and_leaves_the_statuses_that_it_may_leave() -> None:
    seen = {(cause, status) for _, _, ends in ENDS.values() for status, cause, _ in ends}
    assert {cause for cause, _ in seen} == set(Cause)
    assert seen == {(cause, status) for cause, statuses in STATUSES.items() for status in statuses}
    assert {cause for _, _, ends in ENDS.values() for _, cause, by in ends if by is not None} == {*ASKED}


@pytest.mark.parametrize("cause", [Cause.FAILED, Cause.LOAD_FAILED, Cause.LOAD_TIMED_OUT])
def test_turn_that_loads_its_thread_itself_fails_by_the_cause_that_is_reported(cause: Cause) -> None:
    s = Scenario().rush("start root")
    s.looked_at = True
    (end,) = ends_of(s.feed(Failed(ROOT, 1, "why", cause)))
    assert (end.status, end.cause, end.by) == (ERRORED, cause, None)


# What is not true is noticed


@frozen
class Played:
    """The last step of a program."""

    before: Session
    event: Event
    step: Step
    after: Session


def played(program: tuple[str, ...], config: dict[str, Any]) -> Played:
    session = Session(tight(**config))
    for line in program[:-1]:
        session, _ = lockstep.core_step(session, script.parse(line, session))
    before, event = session.fork(), script.parse(program[-1], session)
    return Played(before, event, session.handle(event), session)  # type: ignore[arg-type]


def with_cause(step: Step, ended: TurnEnded, cause: Cause, by: int | None) -> Step:
    """The step, but that this turn ended by another cause."""
    o = ended.outcome
    wrong = TurnEnded(Outcome(o.agent, o.turn, o.status, o.result, cause, by))
    return Step(tuple([wrong if record is ended else record for record in step.records]), step.reply, step.effects)


LIVE_ENDS = {what: found for what, found in ENDS.items() if found[0][-1] != "restart"}


@pytest.mark.parametrize(("program", "config", "ends"), LIVE_ENDS.values(), ids=list(LIVE_ENDS))
def test_any_other_cause_than_the_true_one_is_noticed(
    program: tuple[str, ...], config: dict[str, Any], ends: list[End]
) -> None:
    p = played(program, config)
    check_step(p.before, p.event, p.step, p.after)
    others = 0
    for record in p.step.records:
        if not isinstance(record, TurnEnded):
            continue
        for cause in Cause:
            for by in (None, HOST, ROOT, 1, 2):
                if (cause, by) == (record.outcome.cause, record.outcome.by):
                    continue
                step = with_cause(p.step, record, cause, by)
                assert wrong_cause(Moment(p.after, p.before, p.event, step)) is not None, (cause, by)
                others += 1
    assert others == len(ends) * (5 * len(Cause) - 1)


def test_wrong_cause_breaks_s8() -> None:
    p = played((*ONE, "finished a"), {})
    (ended,) = [record for record in p.step.records if isinstance(record, TurnEnded)]
    told = "turn 1 of agent 1 ended COMPLETED by FAILED; in truth COMPLETED by FINISHED"
    with pytest.raises(PropertyViolation, match=f"^S8 .*{told}$"):
        check_step(p.before, p.event, with_cause(p.step, ended, Cause.FAILED, None), p.after)


@pytest.mark.parametrize(
    ("cause", "by"), [(Cause.INTERRUPTED, HOST), (Cause.INTERRUPTED, None), (Cause.SHUT_DOWN, None)]
)
@pytest.mark.parametrize("again", [(), ("interrupt host a",), ("spawn root c",), ("tick 1",)])
def test_stop_that_is_not_the_first_one_breaks_s8(cause: Cause, by: int | None, again: tuple[str, ...]) -> None:
    p = played((*TWO, "interrupt b a", *again), {})
    p.after.ledger.stops[1] = TurnStopped(1, 1, cause, by)
    asked = cause.name if by is None else f"{cause.name} of {by}"
    told = f"agent 1 is stopped by {asked}; in truth by INTERRUPTED of 2"
    with pytest.raises(PropertyViolation, match=f"^S8 .*{told}$"):
        check_step(p.before, p.event, p.step, p.after)


@pytest.mark.parametrize("agents", [(), (2,), (1, 2)])
def test_stop_of_a_turn_that_is_not_stopping_or_none_of_one_that_is_breaks_s8(agents: tuple[int, ...]) -> None:
    session = played((*TWO, "interrupt b a"), {}).after
    check(session)
    session.ledger.stops = {agent: TurnStopped(agent, 1, Cause.INTERRUPTED, HOST) for agent in agents}
    with pytest.raises(PropertyViolation, match=r"^S8 .*\[1\] are stopping, reasons are known for"):
        check(session)


def test_view_says_why_a_turn_is_stopping_and_refusals_and_later_interrupts_change_nothing_of_it() -> None:
    s = Scenario().rush(*TWO, "interrupt b a")
    view = """
        /root    new
        /root/a  stopping 1, resident, slot active, interrupted by b, asked by host
        /root/b  running 1, resident, slot active, asked by host
        session  open, slots 2/3, residency 2/3, ready -, idle -"""
    s.see(view)
    s.play("interrupt a a").refused("SelfRefused", "interrupt", 1)
    s.play("interrupt host a").see(view)
