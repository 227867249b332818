"""Contracts on the checks of operations: S7, S10, S12, L1 and the bounds of section 2."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from statemachine.core import operations
from statemachine.core.agents import Agent
from statemachine.core.config import Overflow
from statemachine.core.events import HOST, Wait
from statemachine.core.machines import Identity, SessionState, SlotState, TurnState
from statemachine.core.refusals import (
    DepthExceeded,
    ExecutionFull,
    InvalidTimeout,
    LiveThreadsFull,
    NotRunning,
    QueueFull,
    Refusal,
    SessionClosed,
    SessionDraining,
    StoreFailed,
    TooManyAgents,
)
from statemachine.core.slots import Slots

from .contract import contract

OPEN = Identity.OPEN


def session(**facts: Any) -> Any:
    """What a check looks at of a session, and nothing else."""
    return SimpleNamespace(**facts)


def configured(**facts: Any) -> Any:
    return session(config=SimpleNamespace(**facts))


def agents(*identities: Identity, status: TurnState = TurnState.NEW) -> list[Agent]:
    return [
        Agent(n, 0, f"/root/{n}", 1, None, identity, status=status, turn=3) for n, identity in enumerate(identities)
    ]


def kind_of(refusal: Refusal | None) -> type | None:
    return None if refusal is None else type(refusal)


# The session


@contract("S12", operations, "session_takes_work", operations.session_lives, "while it drains, too")
def only_an_open_session_takes_work(state: SessionState) -> bool:
    refusal = operations.session_takes_work(session(state=state, error="why"))
    return kind_of(refusal) == {1: SessionDraining, 2: SessionClosed, 3: StoreFailed}.get(state.value)


@contract("S12", operations, "session_lives", lambda s: SessionClosed() if s.state.value >= 2 else None, "why: lost")
def session_lives_until_it_is_closed_or_failed(state: SessionState) -> bool:
    refusal = operations.session_lives(session(state=state, error="why"))
    return kind_of(refusal) == {2: SessionClosed, 3: StoreFailed}.get(state.value)


@contract("S12", operations, "session_answers", operations.session_lives, "not once it is closed")
def session_answers_unless_it_failed(state: SessionState) -> bool:
    return (operations.session_answers(session(state=state, error="why")) is None) == (state != SessionState.FAILED)


# Agents


@contract(
    "S12",
    operations,
    "agent_known",
    lambda s, agent: None if -1 <= agent < len(s.agents) else SessionClosed(),
    "-1 too",
)
def agent_is_known_by_its_id_until_it_is_forgotten(agent: int, first: Identity, second: Identity) -> bool:
    refusal = operations.agent_known(session(agents=agents(first, second)), agent)
    identity = first if agent == 0 else second if agent == 1 else Identity.FORGOTTEN
    return (refusal is None) == (identity != Identity.FORGOTTEN)


@contract("S12", operations, "agent_open", operations.agent_known, "closed ones too")
def refusal_says_whether_an_agent_is_closed_or_unknown(agent: int, identity: Identity) -> bool:
    refusal = operations.agent_open(session(agents=agents(OPEN, identity)), agent)
    if agent == 0 or (agent == 1 and identity == OPEN):
        return refusal is None
    is_closed = agent == 1 and identity != Identity.FORGOTTEN
    return refusal is not None and refusal.facts == ("AgentClosed" if is_closed else "UnknownAgent", agent)


@contract("S10", operations, "sender_open", lambda s, sender: None, "of any sender")
def sender_is_the_host_or_an_open_agent(sender: int, identity: Identity) -> bool:
    refusal = operations.sender_open(session(agents=agents(OPEN, identity)), sender)
    return (refusal is None) == (sender in (HOST, 0) or (sender == 1 and identity == OPEN))


@contract("S10", operations, "sender_not_stopping", lambda s, sender: None, "stopping ones too")
def turn_that_is_stopping_makes_no_request(by_host: bool, status: TurnState) -> bool:
    known = session(agents=agents(OPEN, OPEN, status=status))
    refusal = operations.sender_not_stopping(known, HOST if by_host else 1)
    refused = not by_host and status == TurnState.STOPPING
    return kind_of(refusal) == (NotRunning if refused else None)


def above(s: Any, target: int, agent: int) -> bool:
    return bool(s.agents[agent].parent == target)


@contract("S10", operations, "is_self_or_ancestor", above, "not itself, nor beyond the parent")
def none_closes_itself_or_what_it_is_below(second_below: bool, third_below: bool, of: tuple[bool, bool]) -> bool:
    tree = agents(OPEN, OPEN, OPEN, OPEN)
    tree[2].parent, tree[3].parent = int(second_below), 2 if third_below else 0
    agent = 3 if of[0] else 2
    target = 1 if of[1] else 2
    line = {2: {2}, 3: {3}}[agent] | ({2} if agent == 3 and third_below else set())
    line |= {1} if 2 in line and second_below else set()
    return operations.is_self_or_ancestor(session(agents=tree), target, agent) == (target in line)


# Bounds


def too_late(s: Any, depth: int) -> Refusal | None:
    most = s.config.max_depth
    return DepthExceeded(depth, most) if most is not None and depth > most + 1 else None


@contract("S10", operations, "depth_allowed", too_late, "one too deep")
def no_agent_is_deeper_than_allowed(depth: int, most: int, is_bounded: bool) -> bool:
    refusal = operations.depth_allowed(configured(max_depth=most if is_bounded else None), depth)
    return (refusal is None) == (not is_bounded or depth <= most)


def one_too_many(s: Any) -> Refusal | None:
    most = s.config.max_agents
    return TooManyAgents(most) if most is not None and s.ledger.open_agents > most else None


@contract("S10", operations, "number_has_room", one_too_many, "one too many")
def no_more_agents_are_open_than_allowed(count: int, most: int, is_bounded: bool) -> bool:
    s = configured(max_agents=most if is_bounded else None)
    s.ledger = SimpleNamespace(open_agents=count)
    return (operations.number_has_room(s) is None) == (not is_bounded or count + 1 <= most)


@contract("S12", operations, "live_thread_has_room", lambda s: None, "always")
def live_thread_needs_a_slot_and_its_refusal_names_the_holders(held: int, cap: int) -> bool:
    slots = Slots(cap)
    slots.held, slots.holders = held, {2: (1, SlotState.ACTIVE), 0: (1, SlotState.ACTIVE), 1: (1, SlotState.RESERVED)}
    refusal = operations.live_thread_has_room(session(slots=slots, paths=lambda holders: ("",) * len(holders)))
    if held < cap:
        return refusal is None
    return isinstance(refusal, LiveThreadsFull) and refusal.facts == ("LiveThreadsFull", cap, (1, 2))


def never_full(s: Any) -> Refusal | None:
    return None if s.slots.free > 0 else QueueFull(s.config.max_queued, tuple(s.slots.ready), ("",))


@contract("L1", operations, "turn_has_room", never_full, "what queues is refused too", lambda most, **_: most >= 1)
def request_is_refused_only_if_neither_a_slot_nor_the_queue_has_room(
    overflow: Overflow, free: int, most: int, queues: bool
) -> bool:
    slots = Slots(3)
    slots.held = 3 - free
    if queues:
        slots.enqueue(1, 1)
    s = configured(overflow=overflow, max_queued=most)
    s.slots, s.waits, s.paths = slots, SimpleNamespace(lenders={}), lambda named: ("",) * len(named)
    refusal = operations.turn_has_room(s)
    if overflow == Overflow.REJECT:
        return kind_of(refusal) == (ExecutionFull if free <= 0 else None)
    return kind_of(refusal) == (QueueFull if queues + 1 - free > most else None)


def any_timeout(s: Any, event: Wait) -> Refusal | None:
    return None if event.timeout is None or event.timeout >= 0 else InvalidTimeout(event.timeout, s.config.max_wait)


@contract("S12", operations, "timeout_allowed", any_timeout, "as long as it likes")
def timeout_is_within_max_wait_and_missing_only_where_none_is_needed(
    timeout: int, most: int, has_timeout: bool, mail: bool, has_target: bool, has_request: bool
) -> bool:
    targets, requests = (1,) if has_target else (), (5,) if has_request else ()
    event = Wait(1, 1, timeout if has_timeout else None, targets, requests, mail=mail)
    refusal = operations.timeout_allowed(configured(max_wait=most), event)
    fine = 0 <= timeout <= most if has_timeout else not mail and not has_target
    return kind_of(refusal) == (None if fine else InvalidTimeout)
