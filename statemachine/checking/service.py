"""Judges in which order turns are served: the order of every line, and who leaves it first (S20).

Lines are those of the ready queue (J2), of turns that wait and may lend (J7, J8), of turns that return (J2), and of the
agents that can be evicted (N2). Who stood in a line before the step, and who has left it, is all that is looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from statemachine.checking.moment import Moment
from statemachine.core.effects import Interrupted, WaitEnd, Wake
from statemachine.core.events import ROOT, Interrupt
from statemachine.core.machines import Identity, Residency, SessionState, TurnState
from statemachine.core.records import MailAccepted, MailKind, TurnEnded, TurnReturned, TurnStopped
from statemachine.core.residency import NO_AGENT
from statemachine.core.session import Session

OPEN, DRAINING = SessionState.OPEN, SessionState.DRAINING
QUEUED, STARTING, RUNNING, STOPPING = TurnState.QUEUED, TurnState.STARTING, TurnState.RUNNING, TurnState.STOPPING
WAITING, RETURNING = TurnState.WAITING, TurnState.RETURNING
DECIDED = WaitEnd.MAIL, WaitEnd.TARGET, WaitEnd.ANSWERED, WaitEnd.DRAINING
"""Ends of waits that a condition decides, and not time or a call."""
TRIGGER, RESIDENT, UNLOADING = MailKind.TRIGGER, Residency.RESIDENT, Residency.UNLOADING


def s20_served(m: Moment) -> str | None:
    """No agent passes one that stands before it: in the queue, among those that lend, return, or can be evicted."""
    return queue(m) or lending(m) or returning(m) or ends_while_draining(m) or use(m) or tried_again(m)


def out_of_line(line: Iterable[int], left: Collection[int], kept: Collection[int]) -> tuple[int, int] | None:
    """Returns one who has left the line before another who stood before, and is still there."""
    first: int | None = None
    for one in line:
        if one in kept:
            first = one if first is None else first
        elif first is not None and one in left:
            return one, first
    return None


def disorder(before: Collection[int], after: Iterable[int], moved: Collection[int] = ()) -> tuple[int, int] | None:
    """Returns two that do not stand in the line as they did, or one that came before those who stood there. `moved` are
    those that had a reason to leave it and come back.
    """
    stood = [one for one in before if one not in moved]
    new = None
    line: list[int] = []
    for one in after:
        if one in stood:
            if new is not None:
                return new, one
            line.append(one)
        else:
            new = one
    kept = [one for one in stood if one in line]
    return None if kept == line else next((a, b) for a, b in zip(line, kept, strict=True) if a != b)


# The ready queue


def queue(m: Moment) -> str | None:
    """J2: deepest first, oldest first within a depth; but for the oldest, once it is due (L11)."""
    assert m.before is not None
    before, after = m.before.slots.ready, m.after.slots.ready
    if m.after.live_threads or m.after.state is not OPEN or not (before or after):
        return None
    if before == after and m.before.slots.holders == m.after.slots.holders:
        return None
    ended = {r.outcome.agent for r in m.of_kind(TurnEnded)}
    found = disorder(list(before), after, ended)
    if found is not None:
        return f"in the ready queue agent {found[0]} stands before {found[1]}"
    return passed(m, ended) or next_turn(m, m.before) or overtaken(m, m.before)


def passed(m: Moment, ended: set[int]) -> str | None:
    """One that got a slot, though another that stayed in the queue came first."""
    assert m.before is not None
    before, after = m.before.slots.ready, m.after.slots.ready
    stayed = [agent for agent in before if agent in after and agent not in ended]
    if not stayed:
        return None
    passes = m.before.slots.overtaken + grants(m, m.before) - 1 + unseen(m, m.before)
    due = m.config.max_overtaken <= passes
    line = list(before)
    for one in served(m, m.before, ended):
        depth = m.agents[one].depth
        rank = line.index(one) if one in line else len(line)
        if due and rank < line.index(stayed[0]):
            continue
        for other in stayed:
            deeper = m.agents[other].depth
            if deeper > depth or (deeper == depth and line.index(other) < rank):
                return f"agent {one} got a slot, and {other}, which comes first, still queues"
    return None


def served(m: Moment, before: Session, ended: set[int]) -> list[int]:
    """The agents whose queued turn got a slot in this step; those that have ended since are left out."""
    got: list[int] = []
    for a in m.agents[1:]:
        if a.status < STARTING or a.id in ended:
            continue
        was = before.agent(a.id)
        if was is None or was.status < STARTING:
            got.append(a.id)
    return got


def next_turn(m: Moment, before: Session) -> str | None:
    """*next*: late trigger mail has the slot of the turn that ends, if none returns and none is due."""
    for r in m.of_kind(TurnEnded):
        agent = r.outcome.agent
        was = before.agent(agent)
        if was is None or agent == ROOT or was.turn != r.outcome.turn or was.status not in (RUNNING, STOPPING):
            continue
        if not was.triggers or agent in before.slots.lent or m.agents[agent].status is not QUEUED:
            continue
        comes_back = bool(before.waits.returning or m.after.waits.returning or m.of_kind(Wake))
        comes_back = comes_back or any(agent in wait.targets for wait in before.waits.pending.values())
        if not comes_back and before.slots.overtaken + grants(m, before) < m.config.max_overtaken:
            return f"agent {agent} queues again, and its slot was passed on to another"
    return None


def grants(m: Moment, before: Session) -> int:
    """Counts the sub-agents that got a slot in this step, as far as can be seen: see `unseen`."""
    had = {agent: turn for agent, (turn, _) in before.slots.holders.items()}
    got = {agent for agent, (turn, _) in m.after.slots.holders.items() if had.get(agent) != turn}
    went_on = {wake.agent for wake in m.of_kind(Wake) if wake.agent in before.slots.lent}  # and may have lent it again
    return len({agent for agent in got | went_on if m.agents[agent].status is not STOPPING} - {ROOT})


def unseen(m: Moment, before: Session) -> int:
    """Counts the turns that may have got a slot in this step and have ended since."""
    return sum(r.outcome.agent not in before.slots.holders for r in m.of_kind(TurnEnded))


def overtaken(m: Moment, before: Session) -> str | None:
    """L11: how often the oldest was passed is counted: all who got a slot while it stayed, and anew for the next."""
    oldest, now = next(iter(before.slots.ready), None), next(iter(m.after.slots.ready), None)
    if now is None:
        return None
    got, count, more = grants(m, before), m.after.slots.overtaken, unseen(m, before)
    passed_by = count - before.slots.overtaken
    if oldest == now and oldest not in ended_of(m) and not got <= passed_by <= got + more:
        return f"agent {oldest} was passed by {got} more, counted are {passed_by}"
    if oldest != now and count > got + more:
        return f"agent {now} was passed by {got} at most, counted are {count}"
    return None


def ended_of(m: Moment) -> set[int]:
    return {r.outcome.agent for r in m.of_kind(TurnEnded)} | {r.agent for r in m.of_kind(TurnReturned)}


# Turns that wait


def lending(m: Moment) -> str | None:
    """J7: who began to wait first lends first; J8: who began last is stalled."""
    assert m.before is not None
    before, after = m.before.waits.lenders, m.after.waits.lenders
    if Wake not in m.kinds() and list(before) == list(after):
        return None
    woken = {wake.agent: wake.end for wake in m.of_kind(Wake)}
    found = disorder(before, after)  # who has another wait keeps its place
    if found is not None:
        return f"in the line of those that wait agent {found[0]} stands before {found[1]}"
    kept = [agent for agent in before if agent in after and agent not in woken]
    lent = [agent for agent in m.after.slots.lent if agent not in m.before.slots.lent]
    found = out_of_line(before, lent, kept)
    if found is not None:
        return f"agent {found[0]} has lent its slot before {found[1]}, which waits longer"
    for agent, end in woken.items():
        if end is not WaitEnd.STALLED:
            continue
        later = list(before)[list(before).index(agent) + 1 :] if agent in before else []
        if any(other in after and other not in woken for other in later):
            return f"agent {agent} is stalled, and {later} began to wait after it"
    return None


def returning(m: Moment) -> str | None:
    """J2: who was called back first goes on first."""
    assert m.before is not None
    before, after = m.before.waits.returning, m.after.waits.returning
    if not before:
        return None
    went = [a for a in m.before.slots.lent if a not in m.after.slots.lent and m.agents[a].status is RUNNING]
    found = disorder(before, after, went) or out_of_line(before, went, after)
    if found is None and after and any(agent not in before for agent in went):
        found = went[-1], next(iter(after))
    return f"agent {found[0]} goes on before {found[1]}, which was called back first" if found else None


def ends_while_draining(m: Moment) -> str | None:
    """D31: waits of a turn that are over at the same moment return in the order in which they began. During a shutdown
    all whose conditions one event decides are.
    """
    assert m.before is not None
    if m.before.state is not DRAINING:
        return None
    latest: dict[int, int] = {}
    for wake in m.of_kind(Wake):
        if wake.end in DECIDED:
            if wake.wait < latest.get(wake.agent, 0):
                return f"wait {wake.wait} of agent {wake.agent} returns after {latest[wake.agent]}, which began later"
            latest[wake.agent] = wake.wait
    return None


# Memory


def use(m: Moment) -> str | None:
    """N2: only use makes an agent the most recently used."""
    assert m.before is not None
    before, after = m.before.residents.idle, m.after.residents.idle
    if len(after) < 2 or not before:
        return None
    ended = ended_of(m)
    if not ended and list(before) == list(after):
        return None
    found = disorder(before, after, ended)
    return f"agent {found[0]} counts as used less recently than {found[1]}, which was not used" if found else None


def tried_again(m: Moment) -> str | None:
    """N3: an agent whose flush failed is not tried again for the same turn."""
    assert m.before is not None
    for agent, served_by in m.before.residents.serves.items():
        if served_by == NO_AGENT or m.after.residents.serves.get(agent) != served_by:
            continue
        if m.after.residents.flushes.get(agent) != m.before.residents.flushes.get(agent):
            same_turn = m.before.agents[served_by].turn == m.agents[served_by].turn
            if same_turn and served_by in m.before.residents.starting:
                return f"agent {agent}, whose flush failed, is evicted for {served_by} again"
    return None


# Subtrees and recovery


def s10_subtree(m: Moment) -> str | None:
    """Section 7: agents of an interrupted subtree start no turn of each other, now or when they end."""
    assert m.before is not None
    event = m.event
    if isinstance(event, Interrupt) and event.subtree and m.step is not None and isinstance(m.step.reply, Interrupted):
        members = {a.id for a in m.before.subtree(event.target) if a.identity is Identity.OPEN}
        for agent in members:
            a, stop = m.agents[agent], m.after.ledger.stops.get(agent)
            asked = [mail.mail for mail in a.mailbox if mail.kind is TRIGGER and mail.sender in members]
            if asked:
                return f"mail {asked} of the subtree asks agent {agent} for a turn"
            if stop is not None and (stop.below is None or not m.after.is_below(event.target, stop.below)):
                return f"agent {agent} is stopping, and its end may start a turn of the subtree"
    for r in m.of_kind(MailAccepted) if m.before.ledger.stops else ():
        if r.notice is None or r.kind is not TRIGGER:
            continue
        stop = m.before.ledger.stops.get(r.sender)
        if stop is None or stop.below is None or stop.turn != r.notice.turn:
            continue
        if m.after.is_below(r.target, stop.below):
            return f"the end of agent {r.sender} starts a turn of {r.target}, which was interrupted with it"
    return None


def recovered(m: Moment) -> str | None:
    """D13: recovery asks for turns in the order of the oldest unread trigger mail."""
    if m.after.live_threads or m.of_kind(TurnStopped):
        return None
    oldest = {a.id: min([x.mail for x in a.mailbox if x.kind is TRIGGER], default=-1) for a in m.agents}
    queued = list(m.after.slots.ready)
    asked = [agent for agent in queued if not any(x.notice for x in m.agents[agent].mailbox)]
    if asked != sorted(asked, key=oldest.__getitem__):
        return f"recovery asked for turns of {asked}, whose mail is {[oldest[a] for a in asked]}"
    taken = [a for a in m.agents[1:] if a.status is STARTING]
    told = any(x.notice for a in taken for x in a.mailbox) or len(queued) != len(asked)
    if told or not asked or m.of_kind(TurnEnded) or m.config.max_overtaken < 2:
        return None  # a turn that got a slot first may have been the oldest before
    first = min(asked, key=oldest.__getitem__)
    if all(oldest[first] < oldest[a.id] for a in taken) and m.after.slots.overtaken != len(taken):
        return f"agent {first} has queued longest, and {m.after.slots.overtaken} are counted that passed it"
    return None
