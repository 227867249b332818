"""Contracts on turns: which is asked for, goes on, is tried again, is told of: J1, S3, S9, S13, S17, L1, L3, L12."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from statemachine.core import reports, rules, turns
from statemachine.core.agents import Agent
from statemachine.core.events import HOST, ROOT
from statemachine.core.ledger import Ledger
from statemachine.core.machines import Identity, Residency, SessionState, SlotState, TurnState
from statemachine.core.records import Cause, MailAccepted, MailKind, Outcome
from statemachine.core.slots import Slots

from .contract import contract

OPEN, FORGOTTEN = Identity.OPEN, Identity.FORGOTTEN
IDLE = (TurnState.NEW, TurnState.COMPLETED, TurnState.ERRORED, TurnState.INTERRUPTED)
UNBEGUN = (TurnState.QUEUED, TurnState.STARTING)
OVER = IDLE[1:]


def is_natural(**counts: int) -> bool:
    """No count is negative."""
    return all(count >= 0 for count in counts.values())


def letter(number: int, kind: MailKind, sender: int = HOST, target: int = 1) -> MailAccepted:
    return MailAccepted(number, sender, target, kind, "")


# From request to start


@contract("J1", rules, "wants_turn", lambda identity, status, n: n > 0 and identity is OPEN, "while it has one, too")
def open_idle_agent_with_trigger_mail_wants_a_turn(identity: Identity, status: TurnState, triggers: int) -> bool:
    expected = identity == OPEN and status in IDLE and not triggers <= 0
    return rules.wants_turn(identity, status, triggers) == expected


@contract("L12", rules, "goes_on", lambda held, may, wanted: held and may, "though another turn wants the slot")
def slot_stays_with_its_agent_only_if_no_other_comes_first(held: bool, may: bool, wanted: bool) -> bool:
    return rules.goes_on(held, may, wanted) == all((held, may, not wanted))


def is_wanted_always(s: Any, agent: Agent) -> bool:
    return bool(s.waits.returning)


@contract("S13", turns, "is_wanted", is_wanted_always, "the root's slot, too")
def slot_of_the_root_and_of_live_threads_is_of_no_use_to_others(
    is_root: bool, is_live: bool, returns: bool, overtaken: int, most: int
) -> bool:
    slots = Slots(1)
    slots.enqueue(3, 1)
    slots.overtaken = overtaken
    waits = SimpleNamespace(returning={2: None} if returns else {}, touched={}, pending={})
    config = SimpleNamespace(max_overtaken=most)
    s: Any = SimpleNamespace(slots=slots, waits=waits, config=config, live_threads=is_live, agents=[])
    wanted = turns.is_wanted(s, Agent(ROOT if is_root else 1, 0, "/root", 0, None))
    return wanted == ((returns or overtaken >= most) and not is_root and not is_live)


@contract("J1", turns, "may_begin", lambda s, agent: agent.identity is OPEN, "whatever the session does")
def turn_begins_only_for_an_open_agent_of_an_open_session(state: SessionState, identity: Identity) -> bool:
    s: Any = SimpleNamespace(state=state)
    begins = turns.may_begin(s, Agent(1, 0, "/root/a", 1, None, identity=identity))
    return begins == (state == SessionState.OPEN and identity == Identity.OPEN)


# Attempts


@contract("S17", rules, "has_attempts_left", lambda failed, most: failed < most, "one too many", is_natural)
def at_most_max_attempts_less_one_turns_in_a_row_are_returned(failed: int, most: int) -> bool:
    returned = failed + 1
    return returned <= most - 1 if rules.has_attempts_left(failed, most) else returned > most - 1


@contract("S17", rules, "may_load", lambda lost, most: lost < most, "three are not always tried", is_natural)
def three_loads_are_tried_or_as_many_as_attempts(lost: int, most: int) -> bool:
    return rules.may_load(lost, most) == (lost <= 2 or lost + 1 <= most)


def return_unread(self: Ledger, agent: Agent, turn: int) -> None:
    agent.status = TurnState.NEW
    self.attempts[agent.id] = self.attempts.get(agent.id, 0) + 1


@contract("S17", Ledger, "return_turn", return_unread, "its mail stays read", is_natural)
def returned_turn_gives_all_mail_back_in_its_old_order(failed: int, turn: int) -> bool:
    ledger, agent = Ledger(True, True), Agent(1, 0, "/root/a", 1, None, status=TurnState.RUNNING)
    ledger.agents.append(agent)
    for number, kind in enumerate((MailKind.TRIGGER, MailKind.QUEUE)):
        ledger.accept(letter(number, kind))
    ledger.start_turn(agent, turn)
    ledger.accept(letter(2, MailKind.TRIGGER))
    ledger.attempts[1] = failed
    ledger.return_turn(agent, turn)
    is_new = agent.status == TurnState.NEW and agent.turn == turn and ledger.attempts == {1: failed + 1}
    unread = tuple([mail.mail for mail in agent.mailbox])
    is_known = ledger.requests == {0: 1, 2: 1} and ledger.letters == {1: 1}
    return is_new and is_known and unread == (0, 1, 2) and agent.triggers == 2 and ledger.mail_states == [3, 0, 0]


def end_attempted(self: Ledger, agent: Agent, outcome: Outcome, started: bool) -> tuple[MailAccepted, ...]:
    agent.turn, agent.status, agent.outcome = outcome.turn, outcome.status, outcome
    return ()


@contract("S17", Ledger, "end_turn", end_attempted, "attempts are counted on", lambda turn, failed: failed > 0)
def any_other_end_sets_the_attempts_to_none(turn: int, failed: int) -> bool:
    ledger, agent = Ledger(True, True), Agent(1, 0, "/root/a", 1, None, status=TurnState.RUNNING)
    ledger.attempts[1] = ledger.loads[1] = failed
    outcome = Outcome(1, turn, TurnState.COMPLETED, "", Cause.FINISHED)
    ledger.end_turn(agent, outcome, True)
    return not ledger.attempts and not ledger.loads and agent.turn == turn and agent.outcome == outcome


# The end


@contract("S3", turns, "lay_down", lambda s, agent, before: agent.id in s.slots.holders, "it keeps the slot")
def turn_that_is_over_gives_back_the_slot_that_it_has(others: int, lent: bool, is_live: bool) -> bool:
    slots = Slots(others + 1)
    slots.held = others
    if lent:
        slots.lent[1] = None
    else:
        slots.holders[1], slots.held = (1, SlotState.ACTIVE), others + 1
    waits, config = SimpleNamespace(pending={}, over={}), SimpleNamespace(turn_timeout=None)
    s: Any = SimpleNamespace(slots=slots, waits=waits, config=config, live_threads=is_live)
    had = turns.lay_down(s, Agent(1, 0, "/root/a", 1, None, turn=1), TurnState.RUNNING)
    keeps = is_live and not lent
    holders = {1: (1, SlotState.RESERVED)} if keeps else {}
    return had != lent and not slots.lent and slots.holders == holders and slots.held == others + keeps


@contract("L3", rules, "notice_is_due", lambda status, wanted: status is not TurnState.ERRORED, "errors are not told")
def every_end_but_an_interrupt_is_told(status: TurnState, notify_interrupted: bool) -> bool:
    return rules.notice_is_due(status, notify_interrupted) != (
        status == TurnState.INTERRUPTED and not notify_interrupted
    )


@contract("L1", rules, "may_wake", lambda *_: True, "however full the queue is", lambda status, **_: status in OVER)
def notice_wakes_an_idle_sub_agent_only_if_its_turn_finds_room(
    status: TurnState, takes_work: bool, cap: int, queued: int, free: int, most: int
) -> bool:
    wakes = rules.may_wake(1, status, False, takes_work, cap, queued, free, most)
    return wakes == (takes_work and cap >= 1 and queued + 1 <= most + free)


@contract("L1", rules, "may_wake", lambda *facts: facts[3] and facts[4] > 0, "no one while the session drains")
def notice_wakes_the_root_live_threads_and_turns_that_wait_or_work(
    is_root: bool, status: TurnState, is_live: bool, takes_work: bool, cap: int
) -> bool:
    needs_no_room = is_root or is_live or status not in IDLE
    return not needs_no_room or rules.may_wake(ROOT if is_root else 1, status, is_live, takes_work, cap, 9, 0, 1)


# Reports


@contract("S9", rules, "is_current", lambda reported, current: reported <= current, "earlier ones too")
def only_a_report_with_the_current_number_is_current(reported: int, current: int) -> bool:
    return rules.is_current(reported, current) == (not reported < current and not reported > current)


def living(state: SessionState, agent: Agent) -> Any:
    known = {ROOT: Agent(ROOT, -1, "/root", 0, None, status=agent.status, turn=agent.turn), 1: agent}
    residents = SimpleNamespace(flushes={})
    return SimpleNamespace(state=state, agents=[*known.values()], agent=known.get, residents=residents)


@contract("S9", reports, "thread", lambda s, agent, generation: s.agent(agent), "of any generation")
def report_of_a_thread_is_fenced_by_its_generation(
    state: SessionState, is_known: bool, generation: int, current: int
) -> bool:
    agent = Agent(1, 0, "/root/a", 1, None, generation=current)
    found = reports.thread(living(state, agent), 1 if is_known else 2, generation)
    lives = state in (SessionState.OPEN, SessionState.DRAINING)
    return (found is agent) == (lives and is_known and generation == current) and found in (None, agent)


@contract("S9", reports, "turn", lambda s, agent, number: s.agent(agent), "of any turn")
def report_of_a_turn_is_fenced_by_its_number_and_its_state(
    state: SessionState, of: int, status: TurnState, number: int, current: int
) -> bool:
    agent = Agent(1, 0, "/root/a", 1, None, status=status, turn=current)
    s = living(state, agent)
    found = reports.turn(s, of, number)
    lives = state in (SessionState.OPEN, SessionState.DRAINING)
    is_current = lives and status not in (*IDLE, *UNBEGUN) and number == current
    expected = (s.agents[0] if of == ROOT else agent if of == 1 else None) if is_current else None
    return found is expected


@contract("S9", reports, "flush_in_flight", lambda s, agent, generation, flush: s.agent(agent), "of any flush")
def report_of_a_flush_is_fenced_by_its_number(flush: int, current: int, generation: int, is_in_flight: bool) -> bool:
    agent = Agent(1, 0, "/root/a", 1, None, generation=generation, residency=Residency.UNLOADING)
    s = living(SessionState.OPEN, agent)
    if is_in_flight:
        s.residents.flushes[1] = current
    found = reports.flush_in_flight(s, 1, generation, flush)
    return (found is agent) == (is_in_flight and flush == current)
