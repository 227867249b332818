"""More rules broken by hand (see `defects.py`): what only an event shows that no scope thought of, or a step that never
ends. The complete alphabet (`model/alphabet.py`) is the first to notice most of these.
"""

from __future__ import annotations

from typing import Any

from statemachine.core import events as ev
from statemachine.core import joint, operations, reports, turns
from statemachine.core.deadlines import Deadlines
from statemachine.core.effects import Refused, Reply
from statemachine.core.machines import Identity, Residency, SessionState
from statemachine.core.records import Cause
from statemachine.core.session import HANDLERS, Session

from .defects import breaks


@breaks("D9", "end-alone", (operations, "sender_open"))
def closed_agents_ask(core: Any, s: Session, sender: int) -> Any:
    """A closed agent may still send, ask and interrupt."""
    found = s.agent(sender)
    return None if found is not None and found.identity is Identity.CLOSED else core(s, sender)


@breaks("S9", "end-alone", (HANDLERS, ev.Loaded))
def loaded_twice(core: Any, s: Session, event: ev.Loaded) -> Reply:
    """A thread that reports again that it is loaded makes its agent the most recently used."""
    agent = reports.thread(s, event.agent, event.generation)
    if agent is not None and agent.residency is Residency.RESIDENT:
        turns.mark_use(s, agent)
        return reports.NOTED
    return core(s, event)  # type: ignore[no-any-return]


@breaks("L5", "end-alone", (Deadlines, "pop_due"))
def bounds_run_out_early(core: Any, self: Deadlines, now: float, last: int) -> Any:
    """A bound runs out up to half a second before its time."""
    return core(self, now + 0.5, last)


@breaks("S9", "end-alone", (reports, "stale"))
def stale_reports_use_up_a_number(core: Any, s: Session) -> Reply:
    """A stale report leaves the next flush with another number."""
    s.residents.last_flush += 1
    return core(s)  # type: ignore[no-any-return]


@breaks("S12", "end-alone", (HANDLERS, ev.Withdraw))
def refused_withdrawals_are_kept(core: Any, s: Session, event: ev.Withdraw) -> Reply:
    """A refused withdrawal of mail that is read is kept in the index of unread mail."""
    reply: Reply = core(s, event)
    if isinstance(reply, Refused) and 0 <= event.mail < s.ledger.next_mail:
        s.ledger.letters.setdefault(event.mail, ev.ROOT)
    return reply


@breaks("S9 S19", "live-end", (HANDLERS, ev.Aborted))
def turns_abort_unasked(_: Any, s: Session, event: ev.Aborted) -> Reply:
    """A turn that was not asked to stop aborts all the same, if the session drains."""
    agent = reports.turn(s, event.agent, event.turn)
    if agent is None or (agent.id not in s.ledger.stops and s.state is not SessionState.DRAINING):
        return reports.stale(s)
    why = s.ledger.stops.get(agent.id)
    cause, by = (Cause.SHUT_DOWN, None) if why is None else (why.cause, why.by)
    turns.end(s, agent, turns.ABORT if why else turns.FAIL, "interrupted", cause, by)
    return reports.NOTED


@breaks("N2", "spare", (turns, "mark_use"))
def ends_in_the_queue_are_no_use(core: Any, s: Session, agent: Any) -> None:
    """The end of a turn that had queued does not make its resident agent the most recently used."""
    if agent.id not in s.residents.idle:
        core(s, agent)


@breaks("section 7, draining; LIVE_THREADS", "live-end", (turns, "requeue"))
def live_threads_start_on(core: Any, s: Session, agent: Any) -> None:
    """`LIVE_THREADS`: a turn that is starting when the session is shut down starts on."""
    if not s.live_threads or agent.id == ev.ROOT:
        core(s, agent)


@breaks("section 7, draining", "end-alone", (HANDLERS, ev.Died))
def death_hides_what_was_not_flushed(core: Any, s: Session, event: ev.Died) -> Reply:
    """A shutdown does not name an agent whose thread died before its rollout was flushed."""
    reply: Reply = core(s, event)
    if s.draining is not None and reply is reports.NOTED:
        s.draining.unflushed = tuple([agent for agent in s.draining.unflushed if agent != event.agent])
    return reply


@breaks("section 3, joint rules", "drain", (joint, "end_waits_while_draining"))
def hopeless_for_ever(core: Any, s: Session) -> bool:
    """That a wait is hopeless during a shutdown is found again and again, so that the step never ends."""
    return bool(core(s)) or bool(s.waits.over or s.waits.returning)


@breaks("S14 J3", "pair", (joint, "load"))
def turns_do_not_await_their_thread(core: Any, s: Session, agent: Any) -> None:
    """A turn starts when its thread is asked to load, and not when it is loaded."""
    core(s, agent)
    if agent.residency is Residency.LOADING:
        agent.residency = Residency.RESIDENT
        s.residents.wait_over(agent.id)
        turns.start(s, agent)
        agent.residency = Residency.LOADING
