"""More rules broken by hand (see `defects.py`): what section 7 adds. Turns that lend their slot and go on, the order
in which slots are given, waits that are alive, attempts, withdrawn mail, subtrees, shutdowns, forgotten agents.
"""

from __future__ import annotations

from typing import Any

from statemachine.core import events as ev
from statemachine.core import joint, operations, reports, rules, turns, waits
from statemachine.core.deadlines import Bound
from statemachine.core.effects import Interrupted, Reply, WaitEnd
from statemachine.core.ledger import Ledger
from statemachine.core.machines import Identity, SessionState, SlotState, TurnState
from statemachine.core.records import (
    AgentsForgotten,
    Cause,
    LoadBegun,
    MailDemoted,
    MailRead,
    MailWithdrawn,
    TurnReturned,
    TurnStopped,
)
from statemachine.core.residency import Residents
from statemachine.core.session import HANDLERS, Session
from statemachine.core.slots import Slots
from statemachine.core.state import State
from statemachine.core.waits import Waits
from statemachine.log import recovery

from .defects import breaks, put
from .thread_defects import missing

# Lending


@breaks("J7 L8, theorem 3", "nested", (rules, "may_lend_to_queue"))
def no_turn_lends(*_: Any) -> bool:
    """A turn that waits keeps its slot, though others queue."""
    return False


@breaks("J7 S16, theorem 1", "bound", (rules, "may_lend_to_queue"))
def endless_lending(*_: Any) -> bool:
    """Any number of turns may be in memory without a slot."""
    return True


@breaks("J7 S16, theorem 1", "bound", (joint, "serve"))
def stopping_turns_take_no_memory(core: Any, s: Session) -> None:
    """A turn that is stopping without a slot does not count at the bound of lending."""
    stopping = [agent for agent in s.slots.lent if s.agents[agent].status is TurnState.STOPPING]
    for agent in stopping:
        del s.slots.lent[agent]
    core(s)
    s.slots.lent.update(dict.fromkeys(stopping))


@breaks("J4 S17, D30", "attempts", (joint, "advance"))
def lost_loads_side_by_side(core: Any, s: Session) -> bool:
    """After a crash has cut off a load, others are loaded beside it as if nothing had happened."""
    lost, s.residents.lost = s.residents.lost, {}
    is_any = bool(core(s))
    s.residents.lost = {agent: None for agent in lost if agent in s.ledger.loads}
    return is_any


@breaks("J4, D30", "fuzz", (Residents, "made_up_for"))
def loads_wait_for_ever(core: Any, self: Residents, agent: int) -> None:
    """That a lost load is made up for does not let those go on that have waited for it."""
    moved = self.moved
    core(self, agent)
    self.moved = moved


@breaks("J7 S16", "bound", (joint, "serve"))
def lending_without_a_queue(core: Any, s: Session) -> None:
    """A turn that waits lends its slot at once, though no turn queues for it."""
    core(s)
    while s.waits.lenders:
        turns.lend(s, s.agents[next(iter(s.waits.lenders))])


@breaks("J7 L8", "wide", (joint, "serve"))
def returning_turns_are_bounded(core: Any, s: Session) -> None:
    """Where no more turns may be in memory without a slot, none is lent to a returning turn either."""
    is_full = s.slots.free == 0 and len(s.slots.lent) >= s.config.max_resident - s.slots.cap
    if not (is_full and s.waits.returning):
        core(s)


@breaks("J7", "wide", (turns, "lend"))
def last_to_wait_lends_first(core: Any, s: Session, _: Any) -> None:
    """Of several turns that wait, the one that began last lends its slot."""
    core(s, s.agents[next(reversed(s.waits.lenders))])


@breaks("J7", "anew", (turns, "go_on"))
def place_in_line_is_kept(core: Any, s: Session, agent: Any) -> None:
    """A turn that goes on and still waits lends its slot before those that began to wait meanwhile."""
    core(s, agent)
    if agent.id in s.waits.lenders:
        del s.waits.lenders[agent.id]
        s.waits.lenders = {agent.id: None, **s.waits.lenders}


@breaks("S3 BUG-B01", "nested", (turns, "stop"))
def stopped_turn_takes_a_slot(core: Any, s: Session, agent: Any, *why: Any) -> None:
    """A turn that is stopped while it has no slot takes one, free or not."""
    core(s, agent, *why)
    if agent.id in s.slots.lent:
        del s.slots.lent[agent.id]
        s.slots.held += 1
        s.slots.holders[agent.id] = (agent.turn, SlotState.ACTIVE)


@breaks("section 7, available", "fuzz", (turns, "available"))
def lendable_slots_do_not_count(_: Any, s: Session) -> int:
    """A slot that a waiting turn would lend is not available to a request."""
    return s.slots.free


# Stalled


@breaks("J8 L8", "bound", (rules, "is_stalled"))
def chosen_waits_are_stalled(core: Any, waiting: int, held: int, _by_choice: int, stopping: int) -> Any:
    """A turn that waits by its own choice is told that nothing comes of it."""
    return core(waiting, held, 0, stopping)


@breaks("J8 L8", "bound", (rules, "is_stalled"))
def stalled_too_early(core: Any, waiting: int, held: int, by_choice: int, _stopping: int) -> Any:
    """A wait is stalled though a turn is stopping without a slot, and will leave its room."""
    return core(waiting, held, by_choice, 0)


# Circles


@breaks("J9 L10", "circle", (Waits, "circle"))
def circles_are_taken(*_: Any) -> tuple[int, ...]:
    """Turns may wait for each other for ever."""
    return ()


@breaks("J9", "nested", (waits, "has_way_out"))
def no_wait_for_those_who_wait(*_: Any) -> bool:
    """A wait that leads to an agent that waits itself is refused, circle or not."""
    return False


@breaks("J9 L10", "circle", (waits, "has_way_out"))
def one_way_out_of_all(core: Any, wait: Any, asked: Any, stuck: Any) -> Any:
    """A wait for all of several requests counts as alive if one of them may be answered."""
    return any(asked[request] not in stuck for request in wait.requests if request in asked) or core(wait, asked, stuck)


# Called back


@breaks("L4 L7 BUG-B36", "nested", (turns, "call_back"))
def no_turn_is_called_back(core: Any, s: Session, agent: Any, number: int, why: Any) -> None:
    """A turn without a slot does not see that a wait of it is over."""
    if agent.status is TurnState.RUNNING:
        core(s, agent, number, why)


@breaks("L4 BUG-B36", "nested", (Waits, "answered"))
def answers_end_no_wait(*_: Any) -> None:
    """A wait does not see that its request is answered."""


@breaks("section 7, what can be waited for", "gather", (rules, "is_answered"))
def one_answer_is_all(_: Any, _mode: Any, requests: int, missing_now: int) -> bool:
    """A wait for all of several requests is over with the first answer."""
    return requests > 0 and missing_now < requests


@breaks("L4", "nested", (turns, "end_waits"))
def waits_outlive_their_turn(core: Any, s: Session, agent: Any, told: bool) -> None:
    """A turn that ends while it waits leaves its waits behind."""
    if told:
        core(s, agent, told)


@breaks("section 7, conditions before timeouts", "tasks", (reports, "end_overdue"))
def timeouts_come_first(_: Any, s: Session, overdue: list[int]) -> None:
    """A wait whose request is answered when its timeout is over ends with the timeout."""
    for number in overdue:
        if number in s.waits.pending:
            turns.wait_is_over(s, number, WaitEnd.TIMEOUT)


@breaks("S5, section 7", "nested", (Waits, "awaits"))
def outcome_comes_twice(*_: Any) -> bool:
    """The notice of an awaited request stays unread, so the turn that awaited it is told once more."""
    return False


@breaks("S5, section 7", "nested", (operations, "read_awaited"))
def late_wait_leaves_the_notice(*_: Any) -> None:
    """A turn that awaits a request which is answered leaves the notice unread."""


# Who gets a slot


@breaks("J2 L12", "due", (joint, "serve"))
def new_turns_come_first(core: Any, s: Session) -> None:
    """A slot goes to the ready queue before it goes to a turn whose wait is over."""
    returning, s.waits.returning = s.waits.returning, {}
    core(s)
    s.waits.returning = returning
    core(s)


@breaks("J2", "nested", (turns, "go_on"))
def last_called_back_goes_on_first(core: Any, s: Session, _: Any) -> None:
    """Of several returning turns, the one whose wait was over last goes on first."""
    core(s, s.agents[next(reversed(s.waits.returning))])


@breaks("J2, theorem 4", "due", (Slots, "first"))
def first_in_first_out(_: Any, self: Slots, __: int) -> int:
    """The ready queue serves the oldest request, however deep the others are."""
    return next(iter(self.ready))


@breaks("J2 L11, theorem 2", "due", (rules, "is_due"))
def no_turn_is_due(*_: Any) -> bool:
    """A turn may be overtaken any number of times."""
    return False


@breaks("J2 L11", "due", (Slots, "overtake"))
def only_admissions_count(*_: Any) -> None:
    """A turn that goes on, or that follows a turn of its agent, does not count as overtaking the queue."""


@breaks("J2", "due", (Slots, "dequeue"))
def overtaken_for_ever(core: Any, self: Slots, agent: int) -> Any:
    """How often the oldest was overtaken is not counted anew for the next oldest."""
    overtaken = self.overtaken
    was_oldest = core(self, agent)
    self.overtaken = overtaken
    return was_oldest


@breaks("next, L12", "due", (turns, "is_wanted"))
def next_comes_first(*_: Any) -> bool:
    """The slot of a turn that ends passes to its agent's next turn, though others return or are due."""
    return False


@breaks("next, L12, D19", "due", (turns, "is_wanted"))
def next_before_notices(core: Any, s: Session, agent: Any) -> Any:
    """Who has the slot next is decided before the end of the turn has called others back."""
    touched, s.waits.touched = s.waits.touched, {}
    wanted = core(s, agent)
    s.waits.touched = touched
    return wanted


# Turns that end in time, and again


@breaks("section 7, turn_timeout; L3", "drain", (turns, "tell"))
def timed_out_in_silence(core: Any, s: Session, outcome: Any, answered: Any, always: bool = False, *rest: Any) -> Any:
    """Who asked for a turn that took too long is not told, as after any interrupt."""
    return core(s, outcome, answered, always and outcome.cause is not Cause.TIMED_OUT, *rest)


@breaks("S17", "attempts", (rules, "has_attempts_left"))
def endless_attempts(*_: Any) -> bool:
    """A turn that a crash ends is tried again for ever."""
    return True


@breaks("section 7, attempts", "attempts", (rules, "has_attempts_left"))
def one_attempt(*_: Any) -> bool:
    """A turn that a crash or a death ends is not tried again."""
    return False


@breaks("section 7, attempts", "attempts", (Ledger, "end_turn"))
def attempts_add_up(core: Any, self: Ledger, agent: Any, *ending: Any) -> Any:
    """A turn that ends does not set the attempts of its agent to none."""
    failed = self.attempts.get(agent.id)
    answered = core(self, agent, *ending)
    if failed is not None:
        self.attempts[agent.id] = failed
    return answered


@breaks("S5, section 7, attempts", "attempts", (Ledger, "return_turn"))
def returned_mail_comes_last(core: Any, self: Ledger, agent: Any, turn: int) -> None:
    """The mail of a turn that is tried again comes after later mail."""
    later = len(agent.mailbox)
    core(self, agent, turn)
    if later:
        agent.mailbox = (*agent.mailbox[-later:], *agent.mailbox[:-later])


@breaks("S5 BUG-B45", "attempts", (Ledger, "return_turn"))
def returned_mail_is_lost(core: Any, self: Ledger, agent: Any, turn: int) -> None:
    """A turn that is tried again has nothing left of the mail that it had read."""
    taken, agent.taken = agent.taken, ()
    core(self, agent, turn)
    agent.taken = taken


@breaks("section 7, attempts", "attempts", (recovery, "end_by_crash"))
def crash_forgets_the_stop(core: Any, s: Session, agent: Any) -> Any:
    """A turn that was asked to stop when the process crashed is tried again."""
    s.ledger.stops.pop(agent.id, None)
    return core(s, agent)


@breaks("J4 S17 BUG-B84", "attempts", (rules, "may_load"))
def endless_loads(*_: Any) -> bool:
    """An agent is loaded again, however many of its loads a crash has cut off."""
    return True


missing(LoadBegun, "load_unrecorded", "section 7, attempts; BUG-B84", "That a load begins is not recorded")
missing(TurnStopped, "stop_unrecorded", "section 7, attempts", "That a turn was asked to stop is not recorded")
missing(TurnReturned, "return_unrecorded", "S17, section 5", "That a turn is tried again is not recorded", "attempts")
missing(MailRead, "awaited_unrecorded", "S5, section 5", "That a turn read what it awaited is not recorded", "nested")


# Withdrawn, interrupted, shut down, forgotten


@breaks("section 7, withdraw", "recall", (HANDLERS, ev.Withdraw))
def turn_outlives_its_mail(core: Any, s: Session, event: ev.Withdraw) -> Reply:
    """A turn that has not started starts, though the mail that asked for it was withdrawn."""
    with put((operations, "NOT_STARTED"), ()):
        return core(s, event)  # type: ignore[no-any-return]


@breaks("section 7, withdraw", "fuzz", (HANDLERS, ev.Withdraw))
def any_agent_withdraws(core: Any, s: Session, event: ev.Withdraw) -> Reply:
    """Any agent may withdraw any mail."""
    return core(s, ev.Withdraw(ev.HOST, event.mail))  # type: ignore[no-any-return]


missing(MailWithdrawn, "withdrawal_unrecorded", "S5, section 5", "That mail was withdrawn is not recorded", "recall")


@breaks("S10, section 7, subtree", "recall", (HANDLERS, ev.Interrupt))
def subtree_one_by_one(core: Any, s: Session, event: ev.Interrupt) -> Reply:
    """A subtree is interrupted one agent after the other, so that those stopped wake those that were."""
    reply: Reply = core(s, ev.Interrupt(event.sender, event.target))
    if event.subtree and isinstance(reply, Interrupted):
        for agent in list(s.subtree(event.target))[1:]:
            core(s, ev.Interrupt(event.sender, agent.id))
    return reply


@breaks("section 7, subtree", "recall", (turns, "widen"))
def stopping_turns_wake_the_subtree(*_: Any) -> None:
    """A turn that is stopping when a subtree around it is interrupted wakes that subtree when it ends."""


@breaks("section 7, subtree", "recall", (turns, "stop"))
def stopped_turns_wake_the_subtree(core: Any, s: Session, agent: Any, cause: Any, by: Any = None, *_: Any) -> None:
    """A turn that is stopped with its subtree wakes that subtree when it ends."""
    core(s, agent, cause, by)


missing(
    MailDemoted, "demotion_unrecorded", "S5, section 5", "That mail in a subtree was demoted is not recorded", "recall"
)


@breaks("section 4, BUG-B83", "fuzz", (operations, "sender_not_stopping"))
def stopping_turns_delegate(*_: Any) -> None:
    """A turn that is asked to stop may still spawn agents and ask for turns."""


@breaks("section 7, draining", "end", (turns, "requeue"))
def shutdown_lets_turns_start(*_: Any) -> None:
    """A turn that is starting when the session is shut down keeps its slot."""


@breaks("section 7, draining", "drain", (turns, "has_hope"))
def shutdown_lets_turns_wait(*_: Any) -> bool:
    """A turn waits on during a shutdown for what only turns could do that will not start."""
    return True


@breaks("decision D31", "drain-tasks", (joint, "end_waits_while_draining"))
def draining_ends_waits_one_kind_after_the_other(core: Any, s: Session) -> bool:
    """During a shutdown answered waits are over before hopeless ones that began earlier."""
    return bool(joint.end_waits(s)) or bool(core(s))


@breaks("section 7, draining", "drain", (joint, "return_turns"))
def shutdown_lends_nothing(*_: Any) -> bool:
    """A turn whose wait is over gets no slot during a shutdown."""
    return False


@breaks("section 7, draining", "drain", (HANDLERS, ev.Shutdown))
def shutdown_is_put_off(core: Any, s: Session, event: ev.Shutdown) -> Reply:
    """A second shutdown with more grace lengthens the first."""
    reply: Reply = core(s, event)
    if s.state is SessionState.DRAINING and event.grace >= 0:
        s.deadlines.set(Bound.GRACE, ev.ROOT, s.now + event.grace)
    return reply


@breaks("section 7, forget", "forget", (Ledger, "forget"))
def forgotten_agents_are_known(*_: Any) -> None:
    """An agent that is forgotten is as before."""


@breaks("section 7, forget; S7", "forget", (HANDLERS, ev.Forget))
def forget_leaves_the_children(core: Any, s: Session, event: ev.Forget) -> Reply:
    """Of a closed subtree, only the top is forgotten."""
    with put((State, "subtree"), lambda self, agent: [self.agents[agent]]):
        return core(s, event)  # type: ignore[no-any-return]


@breaks("section 7, forget", "forget", (turns, "notify"))
def forgotten_agents_are_told(core: Any, s: Session, requester: Any, *about: Any) -> Any:
    """An agent that is forgotten gets a dead letter when what it asked for ends."""
    identity = requester.identity
    if identity is Identity.FORGOTTEN:
        requester.identity = Identity.CLOSED
    told = core(s, requester, *about)
    requester.identity = identity
    return told


missing(
    AgentsForgotten, "forgetting_unrecorded", "section 7, forget", "That agents are forgotten is not recorded", "forget"
)
