"""Contracts on waits: J8, J9, L4, L10 and section 7."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from statemachine.core import rules, turns, waits
from statemachine.core.agents import Agent
from statemachine.core.effects import WaitEnd
from statemachine.core.events import ROOT, WaitMode
from statemachine.core.machines import Identity, TurnState
from statemachine.core.waits import Waiting, Waits

from .contract import contract

OVER = (TurnState.COMPLETED, TurnState.ERRORED, TurnState.INTERRUPTED)
AT_WORK = (TurnState.RUNNING, TurnState.STOPPING, TurnState.WAITING, TurnState.RETURNING)


def a_wait(
    number: int,
    agent: int,
    requests: tuple[int, ...] = (),
    mode: WaitMode = WaitMode.ALL,
    *,
    mail: bool = False,
    targets: tuple[int, ...] = (),
    is_bounded: bool = False,
) -> Waiting:
    return Waiting(number, agent, mail, targets, requests, mode, is_bounded)


# When a wait is over


@contract("L4", rules, "wait_end", lambda answer, mail, target: WaitEnd.MAIL if mail else None, "mail comes first")
def end_of_a_wait_says_answered_before_mail_before_target(answer: bool, mail: bool, target: bool) -> bool:
    why = rules.wait_end(answer, mail, target)
    holding = [e for e, holds in ((WaitEnd.ANSWERED, answer), (WaitEnd.MAIL, mail), (WaitEnd.TARGET, target)) if holds]
    return why == (holding[0] if holding else None)


@contract(
    "L4",
    rules,
    "is_answered",
    lambda mode, requests, missing: requests > 0 and missing < requests,
    "one is enough for ALL",
    lambda mode, requests, missing: 0 <= missing <= requests,
)
def wait_for_requests_is_over_when_one_or_all_are_answered(mode: WaitMode, requests: int, missing: int) -> bool:
    answered = requests - missing
    needed = 1 if mode == WaitMode.ANY else requests
    return rules.is_answered(mode, requests, missing) == (requests != 0 and answered >= needed)


@contract("L4", rules, "is_done", lambda identity, status: status.is_idle, "a new one too")
def target_is_done_if_it_is_closed_or_idle_with_an_outcome(identity: Identity, status: TurnState) -> bool:
    return rules.is_done(identity, status) == (identity != Identity.OPEN or status in OVER)


@contract("L4", turns, "wait_end", lambda s, wait: WaitEnd.MAIL if s.agents[1].mailbox else None, "whatever it is for")
def wait_ends_by_nothing_that_it_is_not_for(mail: bool, target: bool, has_mail: bool, status: TurnState) -> bool:
    mailbox: Any = ("a mail",) if has_mail else ()
    agents = [Agent(n, 0, "/root/a", 1, None, mailbox=mailbox, status=status) for n in (0, 1, 2)]
    s: Any = SimpleNamespace(agents=agents, waits=Waits())
    why = turns.wait_end(s, a_wait(1, 1, mail=mail, targets=(2,) if target else ()))
    expected = WaitEnd.MAIL if mail and has_mail else WaitEnd.TARGET if target and status in OVER else None
    return why == expected


@contract("L4", Waits, "answered", lambda self, request: None, "nothing is counted", lambda missing: missing >= 1)
def answer_counts_in_the_waits_for_it_alone(missing: int) -> bool:
    known = Waits()
    known.begin(a_wait(1, 1, (5, 6)), (5, 6), holds_slot=False)
    known.begin(a_wait(2, 2, (6,)), (6,), holds_slot=False)
    known.missing[1] = missing
    known.answered(5)
    return known.missing == {1: missing - 1, 2: 1} and list(known.touched) == [1] and list(known.on_request) == [6]


def end_carelessly(self: Waits, number: int) -> Waiting:
    return self.pending.pop(number)


@contract("L4", Waits, "end", end_carelessly, "it stays in the indexes")
def wait_that_is_over_leaves_nothing_behind(mail: bool, has_target: bool, has_request: bool, mode: WaitMode) -> bool:
    known = Waits()
    asked = (7,) if has_request else ()
    known.begin(a_wait(1, 1, asked, mode, mail=mail, targets=(2,) if has_target else ()), asked, holds_slot=True)
    wait = known.end(1)
    left = (known.pending, known.missing, known.of_agent, known.on_target, known.on_request, known.lenders)
    return wait.number == 1 and not any(left)


@contract("S13", Waits, "may_lend", lambda self, agent: self.lenders.setdefault(agent), "the root too")
def sub_agents_that_wait_with_a_slot_may_lend_it(is_root: bool, holds_slot: bool) -> bool:
    known, agent = Waits(), ROOT if is_root else 1
    known.begin(a_wait(1, agent), (), holds_slot)
    return list(known.lenders) == ([1] if holds_slot and not is_root else [])


@contract("L4", Waits, "awaits", lambda self, agent, asked: agent in self.of_agent, "whatever it waits for")
def agent_awaits_the_requests_of_its_own_waits(mine: bool, others: bool, request: bool) -> bool:
    known = Waits()
    known.begin(a_wait(1, 1, (5,) if mine else (6,)), (5,) if mine else (6,), holds_slot=False)
    if others:
        known.begin(a_wait(2, 2, (5, 6)), (5, 6), holds_slot=False)
    return known.awaits(1, (5,) if request else (6,)) == (mine == request)


def drop_quietly(self: Waits, agent: int) -> list[tuple[int, WaitEnd]]:
    for number in tuple(self.of_agent.get(agent, ())):
        self.end(number)
    return []


@contract("L4", Waits, "drop", drop_quietly, "its code is not told")
def waits_of_a_turn_that_is_over_end_as_interrupted(first: bool, second: bool, other: bool) -> bool:
    known, mine = Waits(), [number for number, begins in ((1, first), (2, second)) if begins]
    for number in mine:
        known.begin(a_wait(number, 1), (), holds_slot=True)
    if other:
        known.begin(a_wait(3, 2), (), holds_slot=True)
    left = [3] if other else []
    return (
        known.drop(1) == [(n, WaitEnd.INTERRUPTED) for n in mine]
        and [*known.pending] == left
        and 1 not in known.lenders
    )


# Stalls and circles


def is_stalled_by_choice(waiting: int, held: int, _: int, stopping: int) -> bool:
    return waiting == held and held > 0 and stopping == 0


@contract(
    "L8",
    rules,
    "is_stalled",
    is_stalled_by_choice,
    "those by choice too",
    lambda waiting, held, by_choice, stopping: 0 <= by_choice <= waiting <= held and stopping >= 0,
)
def only_a_stall_of_all_holders_is_broken(waiting: int, held: int, by_choice: int, stopping: int) -> bool:
    works = held - waiting
    return rules.is_stalled(waiting, held, by_choice, stopping) == (held >= 1 and works + by_choice + stopping == 0)


@contract("L10", Waiting, "is_alive", property(lambda self: self.is_bounded), "never by choice")
def wait_is_alive_by_itself_with_a_timeout_or_by_choice(
    mail: bool, target: bool, request: bool, is_bounded: bool, number: int
) -> bool:
    wait = a_wait(number, 1, (5,) if request else (), mail=mail, targets=(2,) if target else (), is_bounded=is_bounded)
    return wait.is_alive == (is_bounded or not (mail or target or request))


@contract("L10", waits, "has_way_out", lambda wait, asked, stuck: True, "always")
def wait_has_a_way_out_by_one_or_by_all_of_its_agents(
    mode: WaitMode, stuck: tuple[bool, bool], answered: tuple[bool, bool]
) -> bool:
    asked = {request: agent for request, agent in ((5, 1), (6, 2)) if not answered[agent - 1]}
    out = waits.has_way_out(a_wait(1, 3, (5, 6), mode), asked, {agent for agent in (1, 2) if stuck[agent - 1]})
    free = [not stuck[agent - 1] for agent in asked.values()]
    return out == (all(free) if mode == WaitMode.ALL else True in free)


def circle_of_two(self: Waits, begun: Waiting, asked: Any) -> tuple[int, ...]:
    return ()


@contract("L10", Waits, "circle", circle_of_two, "none is found")
def two_that_wait_for_each_other_are_a_circle_unless_one_is_alive(
    mode: WaitMode, is_bounded: bool, begun_bounded: bool, has_other: bool
) -> bool:
    known, asked = Waits(), {5: 2, 6: 1, 7: 3}
    known.begin(a_wait(1, 1, (5,), is_bounded=is_bounded), (5,), holds_slot=True)
    begun = a_wait(2, 2, (6, 7) if has_other else (6,), mode, is_bounded=begun_bounded)
    stuck = known.circle(begun, asked)
    is_out = is_bounded or begun_bounded or (has_other and mode == WaitMode.ANY)
    return stuck == (() if is_out else (1, 2))


@contract("L10", turns, "has_hope", lambda s, wait: False, "none has")
def wait_has_hope_while_a_turn_that_has_started_could_end_it(
    mail: bool, has_target: bool, status: TurnState, is_own: bool
) -> bool:
    agents = [Agent(n, 0, "/root/a", 1, None, status=TurnState.RUNNING if n == 1 else TurnState.NEW) for n in (0, 1, 2)]
    agents[2].status = status
    s: Any = SimpleNamespace(agents=agents, ledger=SimpleNamespace(requests={}))
    wait = a_wait(1, 1, () if is_own else (5,), mail=mail, targets=(2,) if has_target else ())
    works = status in AT_WORK
    by_choice = is_own and not mail and not has_target
    return turns.has_hope(s, wait) == (by_choice or ((mail or has_target) and works))
