"""Checks what must hold: S1 to S17 and L1 to L12 of semantics.md sections 6 and 7, as named objects.

A property looks at a `Moment`: the session after a step, and, for those about steps, the session before it, the event
and the step. It returns None if it holds, or what is wrong. It changes nothing, and it derives what it can from other
data than the code that it judges: a slot is expected because of a status, not because of the slot table.

`check(session)` verifies every property of one state, `check_step` every property of one step. L7 is about reachable
states, so only the explorer can judge it (`model/exploration/explorer.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from attrs import field, frozen

from statemachine.checking import admission, causes, endings, face, service, step_properties, told
from statemachine.checking.circles import dead_waits
from statemachine.checking.moment import Moment
from statemachine.core import rules
from statemachine.core.agents import Agent
from statemachine.core.deadlines import Bound
from statemachine.core.effects import Step
from statemachine.core.events import ROOT, Event, WaitMode
from statemachine.core.machines import Identity, MailState, Residency, SessionState, SlotState, TurnState
from statemachine.core.records import MailKind
from statemachine.core.session import Session

__all__ = ["PROPERTIES", "STATE_PROPERTIES", "STEP_PROPERTIES", "Property", "PropertyViolation", "check", "check_step"]

QUEUED, STARTING, RUNNING, STOPPING = TurnState.QUEUED, TurnState.STARTING, TurnState.RUNNING, TurnState.STOPPING
WAITING, RETURNING = TurnState.WAITING, TurnState.RETURNING
HOLDING, LIVING = (STARTING, RUNNING, STOPPING), (SessionState.OPEN, SessionState.DRAINING)
WORKING = (RUNNING, WAITING, RETURNING)
UNLOADED, LOADING = Residency.UNLOADED, Residency.LOADING
RESIDENT, UNLOADING = Residency.RESIDENT, Residency.UNLOADING
OPEN, OPEN_SESSION, ACTIVE, TRIGGER = Identity.OPEN, SessionState.OPEN, SlotState.ACTIVE, MailKind.TRIGGER
LOAD, FLUSH, STOP, WAIT = Bound.LOAD, Bound.FLUSH, Bound.STOP, Bound.WAIT
IDLE, GRACE, TURN = Bound.IDLE, Bound.GRACE, Bound.TURN
"""Members that are read for every agent; reading one from its class takes 0.1 us in Python 3.11."""

Judge = Callable[[Moment], str | None]


class PropertyViolation(AssertionError):
    """A property does not hold: `property` names it, `detail` says what is wrong."""

    def __init__(self, violated: Property, detail: str) -> None:
        super().__init__(f"{violated.id} ({violated.sentence}): {detail}")
        self.property = violated
        self.detail = detail


@frozen
class Property:
    """One property. `state` judges one state, `step` one step, `crash` the step by which a session recovers, of which
    no event is known; each may be missing.
    """

    id: str
    sentence: str
    source: str
    """Rules of semantics.md, and the known bugs that it would catch."""
    state: Judge | None = field(default=None, repr=False)
    step: Judge | None = field(default=None, repr=False)
    crash: Judge | None = field(default=None, repr=False)


# Safety


def s1_cap(m: Moment) -> str | None:
    if m.after.live_threads:
        return None if len(open_subs(m)) <= m.cap else f"{len(open_subs(m))} agents open, cap {m.cap}"
    holding = [a for a in subs(m) if holds_slot(m, a)]
    return None if len(holding) <= m.cap else f"{ids(holding)} hold slots, cap {m.cap}"


def s2_residency(m: Moment) -> str | None:
    present = [a for a in subs(m) if a.residency is not UNLOADED]
    if len(present) > m.config.max_resident:
        return f"{ids(present)} are in memory, cap {m.config.max_resident}"
    counted = m.after.residents.occupied
    return None if counted == len(present) else f"{counted} counted, {ids(present)} are in memory"


def s3_conserved(m: Moment) -> str | None:
    holders = m.after.slots.holders
    live = m.after.live_threads
    expected = {a.id for a in subs(m) if (a.identity is OPEN if live else holds_slot(m, a))}
    lent = {a.id for a in subs(m) if a.status in (WAITING, RETURNING)}
    without = set(m.after.slots.lent)
    if not lent <= without or any(m.agents[a].status is not STOPPING for a in without - lent):
        return f"known without a slot {sorted(without)}, waiting or returning {sorted(lent)}"
    if m.agents[ROOT].status in HOLDING:
        expected.add(ROOT)
    if set(holders) != expected:
        return f"held by {sorted(holders)}, expected {sorted(expected)}"
    if m.after.slots.held != len(expected - {ROOT}):
        return f"{m.after.slots.held} counted, {len(expected - {ROOT})} held"
    for agent, (turn, state) in holders.items():
        status = m.agents[agent].status
        active = status is RUNNING or status is STOPPING
        last = m.agents[agent].turn
        if (state is ACTIVE) != active or turn > last or (status >= STARTING and turn != last):
            return f"agent {agent} is {status.name}, its slot {state.name} for turn {turn}"
    return None


def s4_single(m: Moment) -> str | None:
    residents = m.after.residents
    loading = {a.id for a in m.agents if a.residency is LOADING}
    if set(residents.loading) != loading:
        return f"loads in flight {sorted(residents.loading)}, loading {sorted(loading)}"
    starting = {a.id for a in m.agents if a.status is STARTING}
    if set(residents.starting) != starting:
        return f"known as starting {sorted(residents.starting)}, starting {sorted(starting)}"
    queued = {a.id for a in m.agents if a.status is QUEUED}
    lined = [*m.after.slots.ready, *m.after.slots.entitled]
    return None if set(lined) == queued and len(lined) == len(queued) else f"in line {lined}, queued {sorted(queued)}"


def s5_mail(m: Moment) -> str | None:
    for a in m.agents:
        numbers = [mail.mail for mail in a.mailbox]
        if len(numbers) > 1 and numbers != sorted(set(numbers)):
            return f"agent {a.id} has mail {numbers}, out of order"
        if a.triggers != len([mail for mail in a.mailbox if mail.kind is TRIGGER]):
            return f"agent {a.id} counts {a.triggers} triggers"
    unread = sum(len(a.mailbox) for a in m.agents)
    counted = m.after.ledger.mail_states[MailState.ACCEPTED]
    return None if counted == unread else f"{counted} counted as unread, {unread} are"


def s6_unloading(m: Moment) -> str | None:
    residents = m.after.residents
    leaving = {a.id for a in m.agents if a.residency is UNLOADING}
    if set(residents.serves) != leaving or not leaving <= set(residents.flushes):
        return f"unloading {sorted(leaving)}, known as such {sorted(residents.serves)}"
    wrong = [a for a in leaving if a == ROOT or m.after.live_threads or not may_leave(m, a)]
    return f"{wrong} may not be unloaded" if wrong else None


def s7_identity(m: Moment) -> str | None:
    paths = [a.path for a in m.agents if a.identity is OPEN]
    if len(paths) != len(set(paths)):
        return f"of the open paths {paths}, two are the same"
    detail = face.s7_found(m)
    if detail is not None:
        return detail
    for a in m.agents[1:]:
        if a.identity is Identity.FORGOTTEN:
            continue
        parent = m.agents[a.parent]
        if a.identity is OPEN and parent.identity is not OPEN:
            return f"agent {a.id} is open, its parent {parent.id} is not"
        if not a.path.startswith(f"{parent.path}/") or a.id not in (parent.children or ()):
            return f"agent {a.id} at {a.path} is not a child of {parent.path}"
    return None


def s8_status(m: Moment) -> str | None:
    return causes.s8_stops(m) or face.s8_answers(m)


def s10_bounds(m: Moment) -> str | None:
    for a in m.agents:
        if a.identity is Identity.CLOSED:
            holds = a.residency is not UNLOADED or a.id in m.after.slots.holders or not a.status.is_idle
            if holds or a.mailbox or a.taken or a.id in m.after.waits.of_agent:
                return f"closed agent {a.id} still holds something"
        elif m.config.max_depth is not None and a.depth > m.config.max_depth:
            return f"agent {a.id} has depth {a.depth}"
    most, are_open = m.config.max_agents, len(open_subs(m))
    if most is not None and are_open > most:
        return f"{are_open} agents open, the most is {most}"
    counted = m.after.ledger.open_agents
    return None if counted == are_open else f"{counted} counted as open, {are_open} are"


def s13_root(m: Moment) -> str | None:
    root, residents = m.agents[ROOT], m.after.residents
    if root.residency is not RESIDENT or root.identity is not OPEN:
        return "the root is not resident and open"
    rooms: tuple[Iterable[int], ...] = (m.after.slots.ready, residents.idle, residents.loading, residents.serves)
    return "the root stands in a line for sub-agents" if any(ROOT in room for room in rooms) else None


def s14_running(m: Moment) -> str | None:
    wrong = [a for a in m.agents if a.status >= RUNNING and a.residency is not RESIDENT]
    return f"{ids(wrong)} run without a thread" if wrong else None


# Progress


def l2_stuck(m: Moment) -> str | None:
    if m.after.state is not OPEN_SESSION:
        return None
    stuck = [a for a in m.agents if rules.wants_turn(a.identity, a.status, a.triggers)]
    if stuck:
        return f"{ids(stuck)} are idle with unread trigger mail"
    queue = list(m.after.slots.ready)
    if m.after.slots.entitled:
        return f"{list(m.after.slots.entitled)} need no slot and are not admitted"
    if m.after.slots.held < m.cap and queue:
        return f"a slot is free and {queue} queue"
    return None


def l4_waits(m: Moment) -> str | None:
    for wait in m.after.waits.pending.values():
        agent = m.agents[wait.agent]
        if agent.status not in WORKING:
            return f"agent {agent.id} waits without a turn that works"
        if wait.mail and agent.mailbox:
            return f"agent {agent.id} waits with unread mail"
        for target in wait.targets:
            if rules.is_done(m.agents[target].identity, m.agents[target].status):
                return f"agent {agent.id} waits for {target}, which is done"
        answered = [request for request in wait.requests if not is_open_request(m, request)]
        if answered and (wait.mode is WaitMode.ANY or len(answered) == len(wait.requests)):
            return f"agent {agent.id} waits for requests {wait.requests}, of which {answered} are answered"
    hopeless = endings.l4_hopeless(m)
    if hopeless is not None:
        return hopeless
    returning = {a.id for a in m.agents if a.status is RETURNING}
    if set(m.after.waits.returning) != returning or not returning <= set(m.after.waits.over):
        return f"known to return {list(m.after.waits.returning)}, returning {sorted(returning)}"
    return None


def l5_bounded(m: Moment) -> str | None:
    if m.after.state not in LIVING:
        return None
    pending, residents = m.after.deadlines.pending, m.after.residents
    expected = {
        *((LOAD, a) for a in residents.loading),
        *((FLUSH, a) for a in residents.flushes),
        *((STOP, a.id) for a in m.agents if a.status is STOPPING),
        *((WAIT, number) for number, wait in m.after.waits.pending.items() if wait.is_bounded),
        *((TURN, a.id) for a in m.agents if m.config.turn_timeout is not None and a.status in WORKING),
    }
    set_now = {key for key in pending if key[0] not in (IDLE, GRACE)}
    if set_now != expected:
        return f"bounded {sorted(set_now)}, in flight {sorted(expected)}"
    now, config = m.after.now, m.config
    resting = {(IDLE, a) for a in residents.idle if m.agents[a].status.is_idle and config.idle_ttl is not None}
    if m.after.state is OPEN_SESSION and {key for key in pending if key[0] is IDLE} != resting:
        return f"{sorted(resting)} are to be unloaded in time, and of {sorted(pending)} only it is known when"
    longest = {
        LOAD: config.load_timeout,
        FLUSH: config.flush_timeout,
        STOP: config.stop_grace,
        WAIT: config.max_wait,
        IDLE: config.idle_ttl or 0.0,
        TURN: config.turn_timeout or 0.0,
    }
    wrong = [key for key, (at, _) in pending.items() if not now <= at <= now + longest.get(key[0], math.inf)]
    return f"{wrong} are overdue, or due later than their bounds allow" if wrong else None


def l6_evictable(m: Moment) -> str | None:
    resting = {a.id for a in subs(m) if a.residency is RESIDENT and a.status < STARTING and not m.after.live_threads}
    line = m.after.residents.idle
    return None if set(line) == resting else f"evictable {sorted(line)}, resident and without a slot {sorted(resting)}"


def l8_stall(m: Moment) -> str | None:
    s = m.after
    returning = [a.id for a in m.agents if a.status is RETURNING]
    queue = list(s.slots.ready) if s.state is OPEN_SESSION else []
    if s.state not in LIVING or s.live_threads or not (returning or queue) or s.slots.held < m.cap:
        return None
    waits = {w.agent: [x.is_own_choice for x in s.waits.of(w.agent)] for w in s.waits.pending.values()}
    lenders = [a for a in waits if a != ROOT and m.agents[a].status is RUNNING]
    may_lend = bool(returning) or len(s.slots.lent) < m.config.max_resident - m.cap
    if lenders and may_lend:
        return f"{lenders} wait and may lend, while {returning} return and {queue} queue"
    by_choice = any(all(waits[a]) for a in lenders)
    stopping = any(m.agents[a].status is STOPPING for a in s.slots.lent)
    stalled = lenders and len(lenders) == s.slots.held and not by_choice and not stopping
    return f"{lenders} all wait while {queue} queue" if stalled else None


def s16_lent(m: Moment) -> str | None:
    without = [a for a in subs(m) if a.status >= RUNNING and not holds_slot(m, a)]
    most = m.config.max_resident - m.cap
    is_over = not m.after.live_threads and len(without) > most
    return f"{ids(without)} are in memory without a slot, the most is {most}" if is_over else None


def s17_attempts(m: Moment) -> str | None:
    most = max(3, m.config.max_attempts)
    lost = {agent: count for agent, count in m.after.ledger.loads.items() if count > most}
    if lost:
        return f"loads begun in a row {lost}, of at most {most}"
    residents = m.after.residents
    cut_off = {agent for agent, begun in m.after.ledger.loads.items() if begun > (agent in residents.loading)}
    if set(residents.lost) != cut_off:
        return f"known to have lost loads {sorted(residents.lost)}, lost loads {sorted(cut_off)}"
    wrong = {agent: count for agent, count in m.after.ledger.attempts.items() if count > m.config.max_attempts - 1}
    return f"returned in a row {wrong}, of {m.config.max_attempts} attempts" if wrong else None


def l10_alive(m: Moment) -> str | None:
    dead = [wait.number for wait in dead_waits(m.after.waits.pending.values(), m.after.ledger.requests)]
    return f"waits {dead} can never end" if dead else None


def l9_quiescent(m: Moment) -> str | None:
    s = m.after
    in_flight = s.residents.loading or s.residents.flushes or any(a.status >= RUNNING for a in m.agents)
    if in_flight or s.state is not OPEN_SESSION:
        return None
    held = [] if s.live_threads else list(s.slots.holders)
    if held or s.slots.ready or s.residents.starting:
        return f"nothing is in flight, but {held} hold slots and {list(s.slots.ready)} queue"
    return None


# Helpers


def holds_slot(m: Moment, agent: Agent) -> bool:
    """S3: is it starting, running, or stopping and had a slot when it was asked to stop?"""
    return agent.status in HOLDING and not (agent.status is STOPPING and agent.id in m.after.slots.lent)


def may_leave(m: Moment, agent: int) -> bool:
    """May it be on its way out? J6: a turn that is starting may have to let it, for one that has been for longer."""
    if m.agents[agent].status is not STARTING:
        return m.agents[agent].status < STARTING
    served = m.after.residents.serves.get(agent)
    return served is not None and served in m.after.residents.starting


def is_open_request(m: Moment, request: int) -> bool:
    """Is it in the mailbox of an agent, or read by a turn that has not ended?"""
    return any(mail.mail == request and mail.kind is TRIGGER for a in m.agents for mail in (*a.mailbox, *a.taken))


def subs(m: Moment) -> list[Agent]:
    return m.agents[1:]


def open_subs(m: Moment) -> list[Agent]:
    return [a for a in m.agents[1:] if a.identity is OPEN]


def ids(agents: Iterable[Agent]) -> list[int]:
    return [a.id for a in agents]


def s19_state(m: Moment) -> str | None:
    return told.s19_moves(m) or told.s19_work(m)


def s19_step(m: Moment) -> str | None:
    return told.s19_told(m) or told.loads_apart(m)


def s10_step(m: Moment) -> str | None:
    return step_properties.s10_scope(m) or service.s10_subtree(m)


def s17_crash(m: Moment) -> str | None:
    assert m.before is not None
    return told.returned_in_time(m, m.before) or told.loads_apart(m)


sp = step_properties

PROPERTIES: tuple[Property, ...] = (
    Property("S1", "at most execution_cap sub-agents hold a slot", "section 2, J2; BUG-B06 BUG-B08 BUG-B09", s1_cap),
    Property(
        "S2",
        "at most max_resident sub-agents are in memory or in transit",
        "section 2, J4; BUG-B18 BUG-B24",
        s2_residency,
    ),
    Property(
        "S3",
        "slots are held exactly by turns that start, run, or stop having held one (LIVE_THREADS: by open agents)",
        "section 3, Slot; BUG-B01 BUG-B02 BUG-B03 BUG-B07 BUG-B18 BUG-B29 BUG-B47 BUG-B54",
        s3_conserved,
    ),
    Property(
        "S4",
        "one thread and one turn per agent",
        "section 3; BUG-B28 BUG-B43 BUG-B54 BUG-B57 BUG-B69",
        s4_single,
        sp.s4_single,
    ),
    Property(
        "S5",
        "every accepted mail is unread, read by one turn or a dead letter, in order",
        "section 3, Mail; BUG-B15 BUG-B18 BUG-B33 BUG-B39 BUG-B43 BUG-B45 BUG-B52 BUG-B59 BUG-B61 BUG-B64 BUG-B66 "
        "BUG-B74 BUG-D04",
        s5_mail,
        sp.s5_mail,
    ),
    Property(
        "S6",
        "only an evictable agent is ever unloading; unloaded means its rollout is durable",
        "N1, N3; BUG-B27 BUG-B67 BUG-D02 BUG-D04",
        s6_unloading,
        sp.s6_durable,
    ),
    Property(
        "S7",
        "every open agent is found by id and path; open paths are unique; the tree is well-formed",
        "section 1; BUG-B21 BUG-B23 BUG-B28 BUG-B63 BUG-D07 BUG-D08 BUG-D10",
        s7_identity,
    ),
    Property(
        "S8",
        "status is that of the logical agent, unchanged by load, unload and restart; an outcome names its true cause",
        "N5; section 3, Turn; BUG-B21 BUG-B25 BUG-B40 BUG-B49 BUG-B54 BUG-B58",
        s8_status,
        sp.s8_status,
    ),
    Property("S9", "a stale report changes nothing", "section 4, reports; BUG-B41 BUG-B43 BUG-B74", None, sp.s9_stale),
    Property(
        "S10",
        "interrupt, close and resume touch exactly their set; what is closed holds nothing; bounds hold",
        "section 4; BUG-B11 BUG-B13 BUG-B40 BUG-B41 BUG-B42 BUG-B47 BUG-D07",
        s10_bounds,
        s10_step,
    ),
    Property("S11", "a reloaded agent has its own settings", "section 4, spawn; BUG-B22", None, sp.s11_settings),
    Property(
        "S12",
        "every refusal names the true cause and the exact blockers",
        "section 4; BUG-B12 BUG-B29",
        None,
        sp.s12_refusals,
    ),
    Property("S13", "root is resident and in no count", "section 1; BUG-B06", s13_root),
    Property("S14", "running, waiting, returning or stopping implies resident", "J3; BUG-D04", s14_running),
    Property("S15", "the victim is the one that N2 names", "N2; BUG-B14 BUG-B17", None, sp.s15_victim),
    Property(
        "S16", "at most max_resident - execution_cap turns are in memory without a slot", "J7; theorem 1", s16_lent
    ),
    Property(
        "S17",
        "at most max_attempts - 1 turns of an agent, one after the other, are returned, and max(3, max_attempts) loads"
        " lost",
        "section 7; BUG-B84",
        s17_attempts,
        crash=s17_crash,
    ),
    Property(
        "S18",
        "what is accepted passes every check of its operation; what is refused is told the first that fails",
        "section 4; BUG-B08 BUG-B12 BUG-B29",
        None,
        admission.s18_admitted,
    ),
    Property(
        "S19",
        "threads, callers and the log are told of each change and nothing else; no turn that may go on stands still",
        "section 5; J3, J4, J5, N3; BUG-B02 BUG-B03 BUG-B27 BUG-B49",
        s19_state,
        s19_step,
    ),
    Property(
        "S20",
        "every line is served in its order: the ready queue, turns that lend, return or start, agents to be evicted",
        "J2, J6, J7, J8, N2, N3; BUG-B51",
        None,
        service.s20_served,
        service.recovered,
    ),
    Property(
        "S21",
        "a wait ends for the reason that is told, and a turn that awaits an outcome reads it there, once",
        "section 7; BUG-B36 BUG-B38",
        None,
        endings.s21_ended,
    ),
    Property(
        "L1",
        "no false refusal and no false failure",
        "J5, theorem 1; BUG-B01 BUG-B02 BUG-B13 BUG-B14 BUG-B17 BUG-B18 BUG-B20 BUG-B29 BUG-B30 BUG-B47",
        None,
        sp.l1_true_failure,
    ),
    Property(
        "L2",
        "never idle with unread trigger mail; never a free slot while the ready queue is not empty",
        "J1, J2; BUG-B04 BUG-B15 BUG-B35 BUG-B45 BUG-B50 BUG-B51 BUG-B64",
        l2_stuck,
    ),
    Property(
        "L3",
        "every ended turn has told each of its requesters",
        "section 4, notices; BUG-B32 BUG-B33 BUG-B35 BUG-B39 BUG-B42 BUG-B52 BUG-B56 BUG-B59",
        None,
        sp.l3_told,
        sp.l3_told,
    ),
    Property("L4", "no waiter whose condition holds", "section 4, wait; BUG-B36 BUG-B38 BUG-B40", l4_waits),
    Property(
        "L5",
        "nothing waits for a thread longer than its bound",
        "section 2; BUG-B03 BUG-B20 BUG-B38 BUG-B57 BUG-B63 BUG-B70",
        l5_bounded,
        endings.l5_kept,
    ),
    Property(
        "L6",
        "every idle resident sub-agent is evictable",
        "N1; BUG-B14 BUG-B15 BUG-B17 BUG-B25 BUG-B70 BUG-B71",
        l6_evictable,
    ),
    Property(
        "L7",
        "no dead end: if threads answer, every open agent can get to a turn again",
        "section 6; BUG-B02 BUG-B03 BUG-B12 BUG-B23 BUG-B30 BUG-B49 BUG-B54 BUG-B57 BUG-B58 BUG-B63 BUG-B70 BUG-D10",
    ),
    Property(
        "L8",
        "while a slot is wanted and none is free, no holder waits that may lend, and not all wait but by choice",
        "J7, J8, theorem 3",
        l8_stall,
        sp.l8_stalled,
    ),
    Property(
        "L9",
        "quiescent and no turn running implies: no slot held, nothing in transit, no ready queue",
        "section 1; BUG-B07 BUG-B47 BUG-B49",
        l9_quiescent,
    ),
    Property("L10", "every wait is alive", "J9", l10_alive),
    Property(
        "L11",
        "of max_overtaken + 1 turns that get a slot in a row, one is that which has queued longest",
        "J2",
        None,
        sp.l11_overtaking,
    ),
    Property("L12", "a turn whose wait is over goes on before any turn that starts", "J2", None, sp.l12_first),
)
"""All properties, in the order of semantics.md."""

STATE_PROPERTIES = tuple([p for p in PROPERTIES if p.state is not None])
OF_OUTSIDE = ("S18", "S19", "S20", "S21")
STEP_PROPERTIES = tuple(sorted([p for p in PROPERTIES if p.step is not None], key=lambda p: p.id in OF_OUTSIDE))
"""Those about what a step tells and which turn it serves come last: where another is broken too, that says more."""
CRASH_PROPERTIES = tuple([p for p in PROPERTIES if p.crash is not None])
REFUSED_BY, STALE_BY = ("S12", "S18"), ("S9",)
"""The properties that judge refused operations, and stale reports: those must change nothing."""


def check(session: Session) -> None:
    """Verifies every property of one state. Raises `PropertyViolation` for the first that fails."""
    moment = Moment(session)
    for known in STATE_PROPERTIES:
        judge(known, known.state, moment)


def check_step(before: Session, event: Event, step: Step, after: Session) -> None:
    """Verifies every property of one step; `before` is a fork from before `event` was handled. Raises
    `PropertyViolation` for the first that fails.
    """
    moment = Moment(after, before, event, step)
    for known in STEP_PROPERTIES:
        judge(known, known.step, moment)


def check_crash(before: Session, step: Step, after: Session) -> None:
    """Verifies what must hold of the step by which a session recovers; `before` is the one that was lost. Raises
    `PropertyViolation` for the first that fails.
    """
    moment = Moment(after, before, None, step)
    for known in CRASH_PROPERTIES:
        judge(known, known.crash, moment)


def judge(known: Property, predicate: Judge | None, moment: Moment) -> None:
    """Raises `PropertyViolation` if the predicate finds a fault."""
    detail = None if predicate is None else predicate(moment)
    if detail is not None:
        raise PropertyViolation(known, detail)
