"""Contracts on how a turn ends and by which cause: S8, S17 and D4, on a session with one sub-agent."""

from __future__ import annotations

from statemachine.core import joint, reports, rules, turns
from statemachine.core.agents import Agent
from statemachine.core.config import Overflow, SessionConfig, SlotPolicy
from statemachine.core.effects import WaitEnd
from statemachine.core.events import Aborted, Died, Finished
from statemachine.core.exact import WHOLE_MAX
from statemachine.core.machines import Residency, SlotState, TurnState
from statemachine.core.records import Cause, Outcome, TurnStopped
from statemachine.core.state import State

from .contract import contract

RUNNING, STOPPING, STARTING = TurnState.RUNNING, TurnState.STOPPING, TurnState.STARTING
ERRORED, INTERRUPTED = TurnState.ERRORED, TurnState.INTERRUPTED


def session(
    status: TurnState, residency: Residency, max_attempts: int = 1, is_live: bool = False
) -> tuple[State, Agent]:
    """A session in which the agent 1 has its first turn, in this state."""
    policy = SlotPolicy.LIVE_THREADS if is_live else SlotPolicy.ACTIVE_TURNS
    overflow = Overflow.REJECT if is_live else Overflow.QUEUE
    s = State(SessionConfig(slot_policy=policy, overflow=overflow, max_attempts=max_attempts))
    agent = Agent(1, 0, "/root/a", 1, None, status=status, residency=residency, turn=1, generation=1)
    s.ledger.agents.append(agent)
    s.ledger.by_path[agent.path] = 1
    s.ledger.open_agents = s.residents.occupied = s.slots.held = 1
    s.agents[0].children = [1]
    s.slots.holders[1] = (1, SlotState.RESERVED if status == STARTING else SlotState.ACTIVE)
    if status == STARTING:
        s.residents.starting[1] = 1
    if residency == Residency.LOADING:
        s.residents.loading[1] = None
    return s, agent


def is_free(s: State) -> bool:
    """Does the turn that is over hold nothing any more?"""
    residents = s.residents
    rooms = (s.slots.holders, residents.starting, residents.loading, residents.flushes, s.ledger.stops)
    return s.slots.held == 0 and not any(rooms)


def end_of(agent: Agent) -> tuple[TurnState, Cause, int | None] | None:
    outcome: Outcome | None = agent.outcome
    return None if outcome is None else (outcome.status, outcome.cause, outcome.by)


@contract(
    "S17",
    reports,
    "has_attempts_left",
    lambda failed, most: False,
    "no turn is tried again",
    lambda failed, most, **_: failed >= 0 and 1 <= most <= WHOLE_MAX,
)
def turn_that_loses_its_thread_is_returned_while_attempts_are_left(failed: int, most: int) -> bool:
    s, agent = session(RUNNING, Residency.RESIDENT, most)
    if failed > 0:
        s.ledger.attempts[1] = failed
    reports.died(s, Died(1, 1, "lost"))
    at_rest = is_free(s) and agent.residency == Residency.UNLOADED
    if failed + 2 <= most:
        return at_rest and agent.status == TurnState.NEW and s.ledger.attempts == {1: failed + 1}
    return at_rest and end_of(agent) == (ERRORED, Cause.THREAD_DIED, None) and not s.ledger.attempts


@contract(
    "S8",
    turns,
    "ABORT",
    turns.FAIL,
    "a turn that was asked to stop has failed",
    lambda by, cause: cause not in (Cause.FINISHED, Cause.FAILED),
)
def turn_that_stops_ends_by_what_had_stopped_it(cause: Cause, by: int) -> bool:
    s, agent = session(STOPPING, Residency.RESIDENT)
    s.ledger.stops[1] = TurnStopped(1, 1, cause, by)
    reports.aborted(s, Aborted(1, 1))
    return end_of(agent) == (INTERRUPTED, cause, by) and is_free(s)


def stop_overdue_always(s: State, agent: Agent) -> None:
    turns.drop_thread(s, agent)
    turns.end(s, agent, turns.ABORT, "", Cause.NOT_STOPPED, s.ledger.stops[agent.id].by)


@contract(
    "S8",
    reports,
    "stop_overdue",
    stop_overdue_always,
    "a turn that took too long has not stopped",
    lambda by, cause: cause not in (Cause.FINISHED, Cause.FAILED),
)
def turn_that_does_not_stop_in_time_says_so_unless_it_took_too_long(cause: Cause, by: int) -> bool:
    s, agent = session(STOPPING, Residency.RESIDENT)
    s.ledger.stops[1] = TurnStopped(1, 1, cause, by)
    reports.stop_overdue(s, agent)
    true = cause if cause == Cause.TIMED_OUT else Cause.NOT_STOPPED
    return end_of(agent) == (INTERRUPTED, true, by) and is_free(s) and agent.residency == Residency.UNLOADED


@contract("S9", reports, "turn", lambda s, agent, number: s.agent(agent), "of any turn")
def finished_turn_completes_and_another_number_changes_nothing(number: int, is_stopping: bool) -> bool:
    s, agent = session(STOPPING if is_stopping else RUNNING, Residency.RESIDENT)
    if is_stopping:
        s.ledger.stops[1] = TurnStopped(1, 1, Cause.INTERRUPTED, 0)
    before = s.fork()
    reports.finished(s, Finished(1, number, "done"))
    if number == 1:
        return end_of(agent) == (TurnState.COMPLETED, Cause.FINISHED, None) and is_free(s)
    same = agent.status == before.agents[1].status and s.slots.holders == before.slots.holders
    return same and end_of(agent) is None and s.stale_reports == 1 and s.ledger.stops == before.ledger.stops


def is_small(lost: int, most: int) -> bool:
    """The result of the turn shows how many loads were lost, each a path of its own: so they are bounded."""
    return 0 <= lost <= 5 and 1 <= most <= 5


@contract("S17", rules, "may_load", lambda lost, most: True, "for ever", is_small)
def load_that_crashes_cut_off_too_often_is_not_tried_again(lost: int, most: int) -> bool:
    s, agent = session(STARTING, Residency.UNLOADED, most)
    s.residents.occupied = 0
    s.ledger.loads[1] = lost
    joint.load(s, agent)
    if lost >= 3 and lost >= most:
        return end_of(agent) == (ERRORED, Cause.LOADS_LOST, None) and is_free(s)
    return agent.residency == Residency.LOADING and s.ledger.loads == {1: lost + 1} and end_of(agent) is None


# Who gets the slot


def add(s: State, number: int, status: TurnState, residency: Residency) -> Agent:
    agent = Agent(number, 0, f"/root/{number}", 1, None, status=status, residency=residency, turn=1, generation=1)
    s.ledger.agents.append(agent)
    s.residents.occupied += residency != Residency.UNLOADED
    return agent


def add_returning(s: State, number: int) -> Agent:
    agent = add(s, number, TurnState.RETURNING, Residency.RESIDENT)
    s.slots.lent[number] = s.waits.returning[number] = None
    s.waits.over[number] = ((number, WaitEnd.TIMEOUT),)
    return agent


def add_queued(s: State, number: int) -> Agent:
    agent = add(s, number, TurnState.QUEUED, Residency.UNLOADED)
    s.slots.enqueue(number, agent.depth)
    return agent


@contract(
    "L12",
    rules,
    "is_due",
    lambda overtaken, most: True,
    "whatever queues comes first",
    lambda overtaken, most: overtaken >= 0 and 0 <= most <= WHOLE_MAX,
)
def returning_turn_comes_before_the_queue_unless_a_turn_is_due_that_one_has_passed(overtaken: int, most: int) -> bool:
    s = State(SessionConfig(max_concurrent=2, max_overtaken=most))
    queued, returning = add_queued(s, 1), add_returning(s, 2)
    s.slots.overtaken = overtaken
    joint.serve(s)
    is_due = overtaken >= 1 and overtaken >= most
    served, left = (queued, returning) if is_due else (returning, queued)
    states = (STARTING, TurnState.RETURNING) if is_due else (RUNNING, TurnState.QUEUED)
    return list(s.slots.holders) == [served.id] and s.slots.held == 1 and (served.status, left.status) == states


@contract(
    "S16",
    rules,
    "may_lend_to_queue",
    lambda lent, max_resident, cap: lent <= max_resident - cap,
    "one too many",
    lambda resident: 1 <= resident <= WHOLE_MAX,
)
def holder_that_waits_lends_to_the_queue_up_to_the_bound(resident: int) -> bool:
    s = State(SessionConfig(max_concurrent=2, max_resident=resident))
    s.slots.lent[3] = None
    waiting, queued = add(s, 1, RUNNING, Residency.RESIDENT), add_queued(s, 2)
    add(s, 3, STOPPING, Residency.RESIDENT)
    s.slots.holders[1], s.slots.held, s.waits.lenders[1] = (1, SlotState.ACTIVE), 1, None
    joint.serve(s)
    if resident - 1 > 1:
        return (waiting.status, queued.status) == (TurnState.WAITING, STARTING) and list(s.slots.lent) == [3, 1]
    return (waiting.status, queued.status) == (RUNNING, TurnState.QUEUED) and list(s.slots.lent) == [3]


@contract(
    "L11",
    rules,
    "goes_on",
    lambda held, may, wanted: held and may,
    "though another turn wants the slot",
    lambda overtaken, most, **_: overtaken >= 0 and 0 <= most <= WHOLE_MAX,
)
def agent_keeps_the_slot_for_its_next_turn_unless_one_is_due(overtaken: int, most: int) -> bool:
    s, agent = session(RUNNING, Residency.RESIDENT)
    s.config = SessionConfig(max_concurrent=2, max_overtaken=most)
    s.slots.cap = 1
    agent.triggers = 1
    add_queued(s, 2)
    s.slots.overtaken = overtaken
    reports.finished(s, Finished(1, 1, "done"))
    if overtaken >= most:
        return agent.status == TurnState.QUEUED and not s.slots.holders and list(s.slots.ready) == [2, 1]
    return agent.status == STARTING and s.slots.overtaken == overtaken + 1 and list(s.slots.holders) == [1]
