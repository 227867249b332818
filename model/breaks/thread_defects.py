"""More defects of the core (see `defects.py`): residency, fences and bounds, close and resume, what threads are asked,
the log, and the end of a session.
"""

from __future__ import annotations

from typing import Any

from statemachine.core import events as ev
from statemachine.core import joint, operations, reports, rules, turns
from statemachine.core.deadlines import Bound, Deadlines
from statemachine.core.effects import Accepted, Answer, Cancel, Flush, Load, Reply, Step, Unload, Wake
from statemachine.core.machines import Identity, Residency, TurnState
from statemachine.core.records import Cause, MailDrained, TurnEnded
from statemachine.core.refusals import NotRunning
from statemachine.core.residency import Residents
from statemachine.core.session import HANDLERS, Session
from statemachine.core.state import State
from statemachine.log import recovery

from .defects import breaks

# Residency


@breaks("S2 BUG-B18", "pair", (rules, "residency_slot_is_free"))
def one_resident_too_many(_: Any, occupied: int, most: int) -> bool:
    """A residency slot is free while as many are taken as there are."""
    return occupied <= most


@breaks("J5", "trio", (Residents, "room_is_coming"))
def eviction_for_each_pass(*_: Any) -> bool:
    """A starting turn evicts another victim though one is on its way out for it."""
    return False


@breaks("J6", "pair", (Residents, "leaves_for_an_older"))
def no_way_back(*_: Any) -> bool:
    """An agent that gets a slot on its way out goes all the way out before it is loaded again."""
    return True


@breaks("J6, theorem 2", "trio", (Residents, "leaves_for_an_older"))
def always_a_way_back(*_: Any) -> bool:
    """An agent that gets a slot on its way out stays, and the turn that it made room for may starve."""
    return False


@breaks("N1 L1 BUG-B14", "pair", (Residents, "victim"))
def seed_rule(_: Any, self: Residents, agents: Any, tried: Any) -> int | None:
    """Unread mail pins an agent in memory (the seed rule of this field); without a victim, the turn cannot start."""
    candidates = [(agent, agents[agent].triggers > 0) for agent in self.idle if not agents[agent].mailbox]
    return rules.victim(candidates, tried)


@breaks("N1 L9 BUG-B14", "pair", (joint, "make_room"))
def seed_rule_waits(core: Any, s: Session, agent: Any) -> bool:
    """Unread mail pins an agent in memory; without a victim, the turn waits for one."""
    pinned = all(s.agents[a].mailbox for a in s.residents.idle)
    return False if pinned and s.residents.idle else core(s, agent)


@breaks("N1 BUG-B17", "pair", (Residents, "victim"))
def interrupted_agents_stay(_: Any, self: Residents, agents: Any, tried: Any) -> int | None:
    """An agent whose last turn was interrupted cannot be evicted."""
    idle = [agent for agent in self.idle if agents[agent].status is not TurnState.INTERRUPTED]
    return rules.victim([(agent, agents[agent].triggers > 0) for agent in idle], tried)


@breaks("N2 J5 L1", "trio", (rules, "victim"))
def no_second_choice(core: Any, candidates: Any, tried: Any) -> int | None:
    """An agent with unread trigger mail is not evicted, even if no other can be."""
    return core([(agent, False) for agent, has_trigger in candidates if not has_trigger], tried)  # type: ignore[no-any-return]


@breaks("N2 S15", "trio", (rules, "victim"))
def most_recent_victim(core: Any, candidates: Any, tried: Any) -> int | None:
    """The victim is the most recently used agent."""
    return core(reversed(list(candidates)), tried)  # type: ignore[no-any-return]


@breaks("N2", "trio", (HANDLERS, ev.Send))
def mail_is_use(core: Any, s: Session, event: ev.Send) -> Reply:
    """Queue-only mail makes its target the most recently used agent."""
    reply: Reply = core(s, event)
    if reply.__class__ is Accepted and event.target in s.residents.idle:
        s.residents.used(s.agents[event.target])
    return reply


@breaks("N1 S6", "trio", (Residents, "victim"))
def busy_agents_make_room(_: Any, self: Residents, agents: Any, tried: Any) -> int | None:
    """The victim is the resident agent that was spawned first, at work or not."""
    for agent in agents[1:]:
        if agent.residency is Residency.RESIDENT and agent.id not in tried:
            self.idle.setdefault(agent.id)
            return int(agent.id)
    return None


@breaks("N1 S6 S13", "pair", (Residents, "victim"))
def root_makes_room(_: Any, self: Residents, *__: Any) -> int:
    """The victim is the root."""
    self.idle[ev.ROOT] = None
    return ev.ROOT


@breaks("N1 S13", "root", (rules, "is_evictable"))
def root_is_evictable(core: Any, agent: int, live: bool, place: Any, status: TurnState) -> Any:
    """The root stands in the line of those that can be evicted."""
    return core(agent or 1, live, place, status)


@breaks("S6 L6 BUG-B18 BUG-B43", "pair", (Residents, "taken"))
def holder_is_evictable(*_: Any) -> None:
    """An agent that gets a slot still stands in the line of those that can be evicted."""


@breaks("N3 S6 BUG-B27 BUG-D04", "pair", (turns, "evict"))
def unload_before_flush(_: Any, s: Session, agent: Any, _serves: int) -> None:
    """A victim is unloaded at once; its rollout is not flushed."""
    turns.drop_thread(s, agent)


@breaks("N3 S6", "pair", (HANDLERS, ev.FlushFailed))
def failed_flush_unloads(_: Any, s: Session, event: ev.FlushFailed) -> Reply:
    """An agent whose flush failed is unloaded all the same."""
    return reports.flushed(s, ev.Flushed(event.agent, event.generation, event.flush))


@breaks("N3", "pair", (reports, "flush_is_lost"))
def same_victim_again(core: Any, s: Session, agent: Any) -> None:
    """Which flushes failed for a waiting turn is forgotten, so the same victim is tried again, for ever."""
    core(s, agent)
    s.residents.tried.clear()


@breaks("D11", "pair", (Residents, "stop_waiting"))
def eviction_for_the_departed(_: Any, self: Residents, agent: int) -> None:
    """An eviction that its turn does not need any more serves no other turn."""
    self.tried.pop(agent, None)


@breaks("N1 L6 LIVE_THREADS", "live", (rules, "is_evictable"))
def live_threads_evictable(core: Any, agent: int, _live: bool, place: Any, status: TurnState) -> Any:
    """`LIVE_THREADS` agents stand in the line of those that can be evicted, though each holds a slot."""
    return core(agent, False, place, status)


@breaks("N5 S8 BUG-B21", "pair", (Residents, "gone"))
def status_lost(core: Any, self: Residents, agent: Any) -> None:
    """An unloaded agent forgets how its last turn ended."""
    core(self, agent)
    agent.status, agent.outcome = TurnState.NEW, None


@breaks("N5 S7 BUG-B21", "idle", (HANDLERS, ev.Flushed))
def unloaded_not_found(core: Any, s: Session, event: ev.Flushed) -> Reply:
    """An unloaded agent is not found by its path any more."""
    reply: Reply = core(s, event)
    agent = s.agent(event.agent)
    if agent is not None and agent.residency is Residency.UNLOADED:
        s.ledger.by_path.pop(agent.path, None)
    return reply


@breaks("S11 BUG-B22", "fuzz", (joint, "load"))
def settings_of_the_parent(core: Any, s: Session, agent: Any) -> None:
    """An agent is loaded with the settings of its parent."""
    core(s, agent)
    if s.effects and s.effects[-1] == Load(agent.id, agent.generation, agent.settings):
        s.effects[-1] = Load(agent.id, agent.generation, s.agents[agent.parent].settings)


# Fences and bounds


@breaks("S4 BUG-B69", "pair", (Residents, "load"))
def same_generation(core: Any, self: Residents, agent: Any) -> None:
    """A thread that is loaded again has the generation of the one before it."""
    core(self, agent)
    agent.generation = 1


@breaks("S9 BUG-B18", "pair", (reports, "thread"))
def any_generation(_: Any, s: Session, agent: int, _generation: int) -> Any:
    """A report about any generation of the thread is accepted."""
    return s.agent(agent) if s.state in reports.LIVING else None


@breaks("S9 BUG-B74", "pair", (reports, "turn"))
def any_turn(_: Any, s: Session, agent: int, _number: int) -> Any:
    """A report about any turn is accepted."""
    found = s.agent(agent) if s.state in reports.LIVING else None
    return found if found is not None and found.status >= TurnState.RUNNING else None


@breaks("S9 D3", "pair", (reports, "flush_in_flight"))
def any_flush(_: Any, s: Session, agent: int, generation: int, _flush: int) -> Any:
    """A report about any flush is accepted while one is in flight."""
    return reports.thread(s, agent, generation) if agent in s.residents.flushes else None


@breaks("S9", "fuzz", (operations, "turn_works"))
def any_caller(_: Any, s: Session, agent: int, turn: int) -> Any:
    """A turn that is over may still drain and wait in the name of the next."""
    found = s.agents[agent]
    return None if found.status in operations.WORKING else NotRunning(agent, turn, found.path)


def unbounded(bound: Bound, rule_ids: str, sentence: str) -> None:
    """Adds a break that leaves out one kind of deadline."""

    def instead(core: Any, self: Deadlines, what: Bound, agent: int, at: float) -> None:
        if what is not bound:
            core(self, what, agent, at)

    instead.__name__, instead.__doc__ = f"unbounded_{bound.name.lower()}", sentence
    place = {Bound.IDLE: "idle", Bound.TURN: "drain"}.get(bound, "pair")
    breaks(rule_ids, place, (Deadlines, "set"))(instead)


unbounded(Bound.LOAD, "L5 BUG-B57", "Nothing bounds a load")
unbounded(Bound.FLUSH, "L5 BUG-B20 BUG-B70", "Nothing bounds a flush")
unbounded(Bound.STOP, "L5 BUG-B03", "Nothing bounds how long a turn may take to stop")
unbounded(Bound.WAIT, "L5 BUG-B38", "Nothing bounds a wait that has a timeout")
unbounded(Bound.TURN, "L5 turn_timeout", "Nothing bounds a turn")
unbounded(Bound.IDLE, "idle_ttl BUG-B67", "`idle_ttl` is not measured")


@breaks("D4", "pair", (reports.OVERDUE, Bound.STOP))
def stuck_thread_is_kept(_: Any, s: Session, agent: Any) -> None:
    """A thread that does not stop in time is kept, though it may still be at work."""
    turns.end(s, agent, turns.ABORT, "interrupted", Cause.NOT_STOPPED, s.ledger.stops[agent.id].by)


@breaks("cannot_start BUG-B49", "pair", (reports, "load_is_lost"))
def load_is_tried_again(_: Any, s: Session, agent: Any, *_why: Any) -> None:
    """A turn whose load failed asks for the next load, for ever."""
    s.residents.load_failed(agent)
    s.deadlines.clear(Bound.LOAD, agent.id)


# Close and resume


@breaks("S7 S10 BUG-B13", "pair", (State, "subtree"))
def close_forgets_children(_: Any, self: State, agent: int) -> Any:
    """Closing an agent leaves its children open."""
    return [self.agents[agent]]


@breaks("S10 BUG-B02 BUG-B03", "pair", (turns, "drop_thread"))
def close_keeps_the_thread(core: Any, s: Session, agent: Any, tell_thread: bool = True) -> None:
    """A closed agent's thread stays in memory."""
    if agent.identity is Identity.OPEN:
        core(s, agent, tell_thread)


@breaks("S3 LIVE_THREADS PEER-C28", "live", (operations, "close_agent"))
def close_keeps_the_slot(core: Any, s: Session, agent: Any, *rest: Any) -> None:
    """`LIVE_THREADS`: a closed agent keeps its slot."""
    slot, held = s.slots.holders.get(agent.id), s.slots.held
    core(s, agent, *rest)
    if slot is not None:
        s.slots.holders[agent.id], s.slots.held = slot, held


@breaks("D2", "live", (reports, "close_subtree"))
def death_leaves_it_open(_: Any, s: Session, target: int, ending: operations.Ending) -> None:
    """`LIVE_THREADS`: an agent whose thread died stays open, without a thread."""
    if s.agents[target].status in ending.trigger:
        turns.end(s, s.agents[target], ending.trigger, ending.result, ending.cause)


@breaks("D12 S10", "fuzz", (operations, "resume_allowed"))
def resume_over_the_number(_: Any, s: Session, agent: Any) -> Any:
    """Resume does not ask whether one more open agent is allowed."""
    room = operations.live_thread_has_room(s) if s.live_threads else None
    return operations.agent_open(s, agent.parent) or operations.path_free(s, agent.path) or room


@breaks("max_depth BUG-B11", "reject", (operations, "depth_allowed"))
def endless_depth(*_: Any) -> None:
    """The depth of the tree is not limited."""


@breaks("S7 BUG-B23 BUG-B28", "reject", (operations, "path_free"))
def unloaded_path_is_free(core: Any, s: Session, path: str) -> Any:
    """The path of an agent that is not in memory is free."""
    holder = s.find(path)
    return core(s, path) if holder is None or s.agents[holder].residency is not Residency.UNLOADED else None


# What threads and callers are asked and told


def missing(kind: type, name: str, rule_ids: str, sentence: str, place: str = "pair") -> None:
    """A break that leaves out one kind of record or effect."""

    def instead(core: Any, s: Session, event: ev.Event) -> Step:
        step: Step = core(s, event)
        records = tuple([record for record in step.records if record.__class__ is not kind])
        return Step(records, step.reply, tuple([effect for effect in step.effects if effect.__class__ is not kind]))

    instead.__name__, instead.__doc__ = name, sentence
    breaks(rule_ids, place, (Session, "handle"))(instead)


missing(Load, "no_load", "section 5", "No thread is asked to load")
missing(Flush, "no_flush", "N3 section 5", "No thread is asked to flush")
missing(Unload, "no_unload", "section 5; BUG-B02", "No thread is told to go")
missing(Cancel, "no_cancel", "section 4, interrupt", "No thread is told to stop its turn")
missing(Wake, "no_wake", "section 4, wait", "A wait that is over is not told to return")
missing(Answer, "no_answer", "L3 BUG-B32", "No caller gets the outcome of the turn it asked for")
missing(TurnEnded, "end_unrecorded", "section 5; BUG-B25", "The end of a turn is not recorded")
missing(MailDrained, "reading_unrecorded", "section 5; BUG-B61", "That a running turn read its mail is not recorded")


# Restart, shutdown, and a store that fails


@breaks("D13", "pair", (recovery, "asked_again"))
def recovery_out_of_order(core: Any, s: Session) -> list[int]:
    """Recovery asks for turns in the wrong order."""
    return list(reversed(core(s)))


@breaks("section 5, recovery; J1", "pair", (recovery, "asked_again"))
def recovery_asks_for_nothing(*_: Any) -> list[int]:
    """Recovery does not ask again for turns that had not begun."""
    return []


@breaks("section 5, recovery; BUG-B54", "pair", (recovery, "end_by_crash"))
def crash_tells_no_requester(core: Any, s: Session, agent: Any) -> Any:
    """Who asked for a turn that a crash ended is not told."""
    ended = core(s, agent)
    return None if ended is None else (ended[0], (), ended[2])


@breaks("section 4, shutdown; BUG-D04", "end", (joint, "drain"))
def shutdown_without_flush(_: Any, s: Session) -> None:
    """A shutdown closes the session without having flushed what is in memory."""
    if all(agent.status < TurnState.RUNNING for agent in s.agents):
        joint.close_session(s)


@breaks("section 4, shutdown; D14", "end", (joint, "drain"))
def shutdown_serves_the_queue(core: Any, s: Session) -> None:
    """A turn that is queued gets a slot during a shutdown."""
    while s.slots.ready and s.slots.free > 0:
        turns.admit(s, s.agents[s.slots.take(s.config.max_overtaken)])
    core(s)


@breaks("section 5; BUG-B49", "reject", (State, "fail"))
def failed_store_goes_on(*_: Any) -> None:
    """A session whose store failed goes on as if nothing had happened."""
