"""The reference model alone: every reachable state of small scopes, breadth first, and what must hold in them.

The second edition of the rules (semantics.md section 7) is explored here before the core follows. Properties are
derived from the relations of a world, not from the questions with which the reference answers itself. What happens
within one step (who gets a slot before whom) is seen by `Watched`, a world that looks at each entry of a turn into a
phase; the rest is judged on states and on steps. L7 lets threads answer from every state; theorem 2 is judged on the
graph of all states (`starving`), under weak fairness and whatever the host does.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from . import reference
from .reference import HOST, ROOT, Caps, Letter, Wait, Words, World, step

BUSY = ("starting", "running", "waiting", "returning", "stopping")
STARTED = BUSY[1:]
WORKING = BUSY[1:4]
IDLE = ("new", "completed", "errored", "interrupted")
OVER = IDLE[1:]


class Violation(AssertionError):
    """A property does not hold: its id, and what is wrong."""

    def __init__(self, property_id: str, detail: object) -> None:
        super().__init__(f"{property_id}: {detail}")
        self.property_id = property_id


# What holds of a world, said once more


def subs(w: World) -> list[int]:
    return [agent for agent in w.path if agent != ROOT and agent not in w.closed_by]


def holders(w: World) -> list[int]:
    """Who has a slot: by phase, and by whether the turn lent it (S3')."""
    if w.caps.live:
        return subs(w)
    return [
        a for a in subs(w) if w.phase[a] in ("starting", "running") or (w.phase[a] == "stopping" and a not in w.lent)
    ]


def queued(w: World) -> list[int]:
    """Sub-agents that queue for a slot, the oldest first."""
    line = [a for a in subs(w) if w.phase[a] == "queued" and not w.caps.live]
    return sorted(line, key=lambda a: w.since[a])


def unread(w: World, agent: int) -> list[Letter]:
    return [m for m in w.mail.values() if m.to == agent and not m.read]


def pending(w: World, agent: int) -> list[Wait]:
    return [wait for wait in w.waits.values() if wait.agent == agent and wait.over is None]


def is_open_request(w: World, number: int) -> bool:
    return number in w.mail and w.mail[number].kind == "request"


def condition(w: World, wait: Wait) -> bool:
    """Does it hold now?"""
    done = [n for n in wait.requests if not is_open_request(w, n)]
    if wait.requests and (len(done) == len(wait.requests) if wait.every else done):
        return True
    if wait.mail and unread(w, wait.agent):
        return True
    return any(t in w.closed_by or w.phase[t] in OVER for t in wait.targets)


def without_slot(w: World) -> list[int]:
    return [a for a in subs(w) if w.phase[a] in ("waiting", "returning") or (w.phase[a] == "stopping" and a in w.lent)]


def alive(w: World) -> set[int]:
    """J9: the numbers of the waits that are alive, built up from those that are so by themselves."""
    waits = {n: wait for n, wait in w.waits.items() if wait.over is None}
    plain = {n for n, x in waits.items() if ("wait", n) in w.due or x.mail or not (x.targets or x.requests)}
    while True:
        stuck = {wait.agent for n, wait in waits.items() if n not in plain}
        more = set(plain)
        for n, wait in waits.items():
            ahead = [w.mail[r].to for r in wait.requests if is_open_request(w, r)] + [*wait.targets]
            if (all if wait.every else any)(agent not in stuck for agent in ahead):
                more.add(n)
        if more == plain:
            return plain
        plain = more


class Watched(World):
    """A world that judges, in the middle of a step, who gets a slot before whom (L11, L12, theorem 3)."""

    def __init__(self, caps: Caps) -> None:
        super().__init__(caps)
        self.count: tuple[tuple[int, int] | None, int] = (None, 0)
        """L11, counted apart: the oldest queued turn, and how often others passed it."""

    def enter(self, agent: int, phase: reference.Phase) -> None:
        line = queued(self)
        gets_slot = phase == "starting" or (phase == "running" and self.phase[agent] == "returning")
        if gets_slot and agent != ROOT and line:
            oldest = (line[0], self.turn[line[0]])
            passed = self.count[1] if self.count[0] == oldest else 0
            due = passed >= self.caps.max_overtaken
            swapped = phase == "running" and len(self.lent) > self.caps.resident - self.caps.slots
            if agent != line[0]:
                if due and not swapped:
                    raise Violation("L11", f"{agent} passes {oldest}, which was passed {passed} times")
                self.count = (oldest, passed + 1)
            if phase == "starting" and not (due and agent == line[0]):
                self.nobody_returns(agent)
        elif phase == "starting" and agent != ROOT:
            self.nobody_returns(agent)
        super().enter(agent, phase)

    def nobody_returns(self, agent: int) -> None:
        late = [a for a in subs(self) if self.phase[a] == "returning"]
        late += [
            a for a in subs(self) if self.phase[a] == "waiting" and any(condition(self, x) for x in pending(self, a))
        ]
        if late:
            raise Violation("L12", f"{agent} gets a slot to start, {late} are to go on")

    def wake(self, agent: int, why: str | None = None) -> None:
        waiting = [a for a in subs(self) if pending(self, a)]
        if why == "stalled" and len(waiting) < self.caps.resident:
            raise Violation("theorem 3", f"{waiting} wait, {self.caps.resident} fit into memory")
        super().wake(agent, why)

    def restart(self) -> None:
        self.count = (None, 0)
        super().restart()


# Properties of states

StateJudge = Callable[[World], object]
"""Gives what is wrong, or something false."""


def s1(w: World) -> object:
    return len(holders(w)) > w.caps.slots and holders(w)


def s2(w: World) -> object:
    present = [a for a in w.path if a != ROOT and w.place[a] != "out"]
    return len(present) > w.caps.resident and present


def s3(w: World) -> object:
    if w.state == "draining" and "starting" in w.phase.values():
        return "a turn is starting, and the session drains"
    lent = [a for a in w.lent if w.phase[a] not in ("waiting", "returning", "stopping")]
    kept = [a for a in w.path if w.phase[a] in ("waiting", "returning") and a not in w.lent]
    return lent or kept or (w.caps.live and w.lent) or (ROOT in w.lent and "root lent")


def s5(w: World) -> object:
    for agent in w.path:
        letters = [m for m in w.mail.values() if m.to == agent]
        if letters != sorted(letters):
            return f"mail of {agent} is out of order"
        if any(m.read for m in letters) and w.phase[agent] not in STARTED:
            return f"{agent} has read mail, and no turn"
        if agent in w.closed_by and letters:
            return f"{agent} is closed and has mail"
        for sender in {m.sender for m in letters}:
            plain = [m for m in letters if m.sender == sender and m.about is None]
            if [m.read for m in plain] != sorted([m.read for m in plain], reverse=True):
                return f"{agent} read mail of {sender} out of order"
    return w.dead + len(w.mail) > w.posted and "more mail than was accepted"


def s6(w: World) -> object:
    for agent in w.path:
        if w.place[agent] == "leaving":
            senior = w.serves.get(agent)
            waits = senior is not None and w.since.get(senior[0], 10**9) < w.since.get(agent, 0)
            if w.phase[agent] in STARTED or agent == ROOT or w.caps.live:
                return f"{agent} leaves, and is {w.phase[agent]}"
            if w.phase[agent] == "starting" and not waits:
                return f"{agent} is starting, and leaves for none that is older"
            if agent not in w.flush:
                return f"{agent} leaves without a flush"
    return None


def s7(w: World) -> object:
    paths = [w.path[a] for a in w.path if a not in w.closed_by]
    orphans = [a for a in subs(w) if w.parent[a] not in w.path or w.parent[a] in w.closed_by]
    strange = [a for a in w.path if a != ROOT and not w.path[a].startswith(w.path[w.parent[a]] + "/")]
    return len(paths) != len(set(paths)) or orphans or strange


def s10(w: World) -> object:
    for agent in w.closed_by:
        if w.place[agent] != "out" or w.phase[agent] not in IDLE or pending(w, agent) or agent in w.attempts:
            return f"{agent} is closed and holds something"
    return len(subs(w)) > w.caps.max_agents or any(w.path[a].count("/") - 1 > w.caps.max_depth for a in subs(w))


def s13(w: World) -> object:
    return w.place[ROOT] != "in" or ROOT in w.closed_by or w.phase[ROOT] in ("starting", "waiting", "returning")


def s14(w: World) -> object:
    return w.state in ("open", "draining") and [a for a in w.path if w.phase[a] in STARTED and w.place[a] != "in"]


def s16(w: World) -> object:
    return len(without_slot(w)) > w.caps.resident - w.caps.slots and without_slot(w)


def s17(w: World) -> object:
    most = w.caps.max_attempts
    lost = {a: n for a, n in w.loads.items() if n > max(3, most)}
    return lost or {a: n for a, n in w.attempts.items() if n > most - 1}


def l2(w: World) -> object:
    if w.state != "open":
        return None
    wanted = {m.to for m in unread_all(w) if m.kind != "queue"}
    stuck = [a for a in w.path if a in wanted and w.phase[a] in IDLE]
    stuck += [a for a in w.path if a not in wanted and w.phase[a] in ("queued", "starting")]
    free = queued(w) if len(holders(w)) < w.caps.slots else []
    return stuck or free or (w.phase[ROOT] == "queued" and "root queues")


def l4(w: World) -> object:
    if w.state not in ("open", "draining"):
        return None
    for wait in w.waits.values():
        if w.phase[wait.agent] not in WORKING:
            return f"{wait.agent} waits without a turn at work"
        if wait.over is None and condition(w, wait):
            return f"the condition of {wait} holds"
        if wait.over is not None and w.phase[wait.agent] != "returning":
            return f"{wait} is over, and its turn is {w.phase[wait.agent]}"
    started = {a for a in w.path if w.phase[a] in STARTED}
    for wait in w.waits.values() if w.state == "draining" else ():
        ahead = [w.mail[n].to in started for n in wait.requests if is_open_request(w, n)]
        hope = bool(ahead) and (all(ahead) if wait.every else any(ahead))
        hope = hope or bool({*wait.targets} & started) or (wait.mail and started != {wait.agent})
        if wait.over is None and not hope and (wait.mail or wait.targets or wait.requests):
            return f"{wait} is in vain"
    idle = [a for a in w.path if w.phase[a] == "waiting" and not pending(w, a)]
    return idle and f"{idle} wait for nothing"


def l5(w: World) -> object:
    if w.state not in ("open", "draining"):
        return None
    bounded = {(what, of) for at, _, what, of in w.bounds() if at >= w.now}
    needed = {("load", a) for a in w.path if w.place[a] == "loading"}
    needed |= {("stop", a) for a in w.path if w.phase[a] == "stopping"}
    needed |= {("flush", a) for a, number in w.flush.items() if number is not None}
    if w.caps.turn_timeout is not None:
        needed |= {("turn", a) for a in w.path if w.phase[a] in WORKING}
    late = [b for b in w.bounds() if b[0] < w.now]
    return needed - bounded or late


def l6(w: World) -> object:
    resting = {a for a in subs(w) if w.place[a] == "in" and w.phase[a] not in BUSY and not w.caps.live}
    return resting ^ {*w.evictable()}


def l8(w: World) -> object:
    """L8': no holder waits that may lend; not all wait, unless one is stopping without a slot or one by its choice."""
    if w.caps.live or len(holders(w)) < w.caps.slots or w.state not in ("open", "draining"):
        return None
    line = queued(w) if w.state == "open" else []
    returning = [a for a in subs(w) if w.phase[a] == "returning"]
    waiting = [a for a in holders(w) if pending(w, a)]
    if waiting and (returning or (line and len(without_slot(w)) < w.caps.resident - w.caps.slots)):
        return f"{waiting} may lend to {returning or line}"
    stopping = [a for a in without_slot(w) if w.phase[a] == "stopping"]
    free = [a for a in waiting if not any(x.mail or x.targets or x.requests for x in pending(w, a))]
    return line and waiting == holders(w) and not stopping and not free and f"{waiting} all wait, {line} queue"


def l9(w: World) -> object:
    in_flight = [a for a in w.path if w.place[a] in ("loading", "leaving") or w.phase[a] in STARTED]
    if in_flight or w.flush or w.state != "open" or w.caps.live:
        return None
    return holders(w) or queued(w) or w.lent or w.waits


def l10(w: World) -> object:
    return {n for n, wait in w.waits.items() if wait.over is None} - alive(w)


STATE_PROPERTIES: dict[str, StateJudge] = {
    **{"S1": s1, "S2": s2, "S3'": s3, "S5'": s5, "S6": s6, "S7": s7, "S10": s10, "S13": s13, "S14'": s14},
    **{"S16": s16, "S17": s17, "L2": l2, "L4": l4, "L5": l5, "L6": l6, "L8'": l8, "L9": l9, "L10": l10},
}

# Properties of steps


class Step(NamedTuple):
    """One event, and what came of it."""

    before: World
    event: Words
    after: World
    reply: Words
    effects: Sequence[Words]

    @property
    def verb(self) -> str:
        name: str = self.event[0].__name__
        return name


StepJudge = Callable[[Step], object]


def numbers(mails: Sequence[Letter]) -> list[int]:
    return [m.number for m in mails]


def s4_step(s: Step) -> object:
    """Turn and load numbers never fall (but at a restart), so no two turns or threads have the same."""
    if s.verb == "restart":
        return None
    same = [a for a in s.before.path if a in s.after.path]
    return [a for a in same if s.after.turn[a] < s.before.turn[a] or s.after.load[a] < s.before.load[a]]


def s5_step(s: Step) -> object:
    """Unread mail is dropped only as a dead letter, read mail only when its turn ends."""
    gone = [m for m in s.before.mail.values() if m.number not in s.after.mail]
    lost = [m for m in gone if not m.read]
    started = [e for e in s.effects if e[0] == "start"]
    taken = {n for e in started for n in e[4]} | ({*s.reply[1]} if s.reply[0] == "drained" else set())
    dead = [m for m in lost if m.number not in taken and not m.answers]
    if len(dead) > s.after.dead - s.before.dead:
        return f"{dead} are nowhere"
    kept = [m for m in gone if m.read and s.after.turn.get(m.to) == s.before.turn[m.to]]
    kept = [m for m in kept if s.after.phase[m.to] in STARTED]
    again = [
        m for m in s.before.mail.values() if m.read and m.number in s.after.mail and not s.after.mail[m.number].read
    ]
    kept += [m for m in again if s.verb not in ("died", "restart")]
    return kept and f"{kept} left a turn that has not ended"


def s6_step(s: Step) -> object:
    """A thread that was leaving is out only by a durable flush, a death, a close, a restart or the session's end."""
    gone = [a for a in s.after.path if a in s.before.path and s.before.place[a] == "leaving"]
    gone = [a for a in gone if ("unload", a, s.before.load[a]) in s.effects and a not in s.after.closed_by]
    fine = s.verb == "flushed" and s.event[4]
    return [a for a in gone if not (fine and s.event[1] == a)] if s.after.state != "closed" else None


def s8(s: Step) -> object:
    """How a turn ended stays until the next is asked for; a restart undoes only what had not begun."""
    kept = [a for a in s.before.path if a in s.after.path and s.before.phase[a] in OVER]
    kept = [a for a in kept if s.before.turn[a] == s.after.turn[a]]
    return [a for a in kept if s.after.phase[a] != s.before.phase[a]]


def s9(s: Step) -> object:
    return s.reply in (("stale",), ("refused",)) and s.after is not s.before


def s10_step(s: Step) -> object:
    """Interrupt and close touch exactly their set."""
    if s.reply[0] == "interrupted":
        line = s.before.family(s.event[2]) if s.event[3] else [s.event[2]]
        had = [a for a in line if s.before.phase[a] in ("queued", "starting", *WORKING)]
        still = [a for a in had if s.after.phase[a] not in ("stopping", *IDLE) and s.after.turn[a] == s.before.turn[a]]
        stopped = [a for a in s.after.path if s.after.phase[a] == "stopping" and s.before.phase.get(a) != "stopping"]
        among = [m for m in unread_all(s.after) if m.kind != "queue" and m.sender in line and m.to in line]
        if s.event[3] and among:
            return f"{among} may wake members of the subtree"
        return (tuple(had) != s.reply[2] and (had, s.reply)) or still or {*stopped} - {*had}
    closed = {*s.after.closed_by} - {*s.before.closed_by}
    if s.reply[0] == "closed":
        return closed ^ {*s.reply[1]}
    return closed if s.verb != "died" or not s.before.caps.live else None


def s12(s: Step) -> object:
    """A refusal names the true cause."""
    if s.reply[0] != "refused":
        return None
    w, name, facts = s.before, s.reply[1], s.reply[2:]
    agent = facts[0] if facts else None
    waiting = [a for a in holders(w) if pending(w, a)]
    may_lend = len(without_slot(w)) < w.caps.resident - w.caps.slots
    true: dict[str, Callable[[], object]] = {
        "UnknownAgent": lambda: agent not in w.path,
        "AgentClosed": lambda: agent in w.closed_by,
        "AgentOpen": lambda: agent in subs(w),
        "PathTaken": lambda: any(w.path[a] == facts[0] for a in subs(w)),
        "MailboxFull": lambda: facts[1] == len(unread(w, facts[0])) and facts[1] + facts[2] >= w.caps.max_unread - 1,
        "QueueFull": lambda: facts[1] == tuple(queued(w)) and len(facts[1]) >= w.caps.max_queued,
        "ExecutionFull": lambda: len(facts[1]) == w.caps.slots and not (waiting and may_lend),
        "LiveThreadsFull": lambda: facts[1] == tuple(holders(w)) and len(facts[1]) == w.caps.slots,
        "NotRunning": lambda: w.phase[facts[0]] not in WORKING or w.turn[facts[0]] != facts[1],
        "UnknownMail": lambda: not 0 <= facts[0] < w.posted,
        "MailRead": lambda: facts[0] not in numbers(unread_all(w)),
        "NotSender": lambda: w.mail[facts[0]].about is not None or w.mail[facts[0]].sender != s.event[1],
        "WaitCircle": lambda: is_circle(s),
        "SelfRefused": lambda: s.event[1] in w.family(facts[1]),
        "RootRefused": lambda: s.event[1 if s.verb == "forget" else 2] == ROOT,
        "SessionDraining": lambda: w.state == "draining",
        "SessionClosed": lambda: w.state == "closed",
        "StoreFailed": lambda: w.state == "failed",
    }
    return name in true and not true[name]() and f"{name} {facts} is not the cause"


def unread_all(w: World) -> list[Letter]:
    return [m for m in w.mail.values() if not m.read]


def is_circle(s: Step) -> bool:
    """Would the wait not be alive? Does each agent named have a wait that leads to another one named?"""
    w, (_, agent, _, timeout, targets, requests, every, mail) = s.before, s.event
    named = s.reply[2]
    wait = Wait(agent, targets, requests, every, mail)
    trial = World(w.caps)
    trial.__dict__.update(w.__dict__)
    trial.waits = {**w.waits, 10**6: wait}
    others = {a for x in trial.waits.values() if x.over is None and x.agent in named for a in heads(w, x)}
    return 10**6 not in alive(trial) and timeout is None and {*named} <= others


def heads(w: World, wait: Wait) -> set[int]:
    return {w.mail[n].to for n in wait.requests if is_open_request(w, n)} | {*wait.targets}


def s15(s: Step) -> object:
    """N2: no evictable agent without unread trigger mail was used longer ago than a victim that has been chosen."""
    new = [a for a in s.after.path if s.after.place[a] == "leaving" and s.before.place.get(a) != "leaving"]
    if len(new) != 1 or s.verb in ("tick", "flushed", "loaded"):
        return None
    victim = new[0]
    wanted = {m.to for m in unread_all(s.after) if m.kind != "queue"}
    others = [a for a in s.after.evictable() if a in s.before.evictable() and a not in wanted]
    tried = s.after.tried.get(s.after.serves[victim], ())
    better = [a for a in others if s.after.used[a] < s.after.used[victim] and a not in tried]
    return better and f"{victim} leaves, {better} should"


def l1(s: Step) -> object:
    """cannot_start only after this turn's load failed or was lost too often, or after each candidate's flush failed."""
    for agent in s.after.path:
        if agent not in s.before.path or s.before.turn[agent] != s.after.turn[agent]:
            continue
        if s.before.phase[agent] in ("queued", "starting") and s.after.phase[agent] == "errored":
            failed = s.verb in ("loaded", "died", "tick") and s.before.place[agent] == "loading"
            lost = s.before.loads.get(agent, 0) >= max(3, s.before.caps.max_attempts)
            tried = s.after.tried.get((agent, s.after.turn[agent]), ())
            places = s.after.place
            moving = [
                a for a in places if places[a] == "leaving" or (places[a] == "loading" and s.after.phase[a] not in BUSY)
            ]
            candidates = {*s.after.evictable()} - {*tried, agent}
            if not failed and not lost and (not tried or candidates or moving):
                return f"{agent} could not start, without a reason"
    return None


def l3(s: Step) -> object:
    """Each request that is answered is so by an effect; who asked has a notice while the turn goes on that could read
    it, unless notices are off or the end was asked for."""
    if s.reply[0] == "stale":
        return None
    answered = [n for e in s.effects if e[0] == "answer" for n in e[1]]
    gone = [n for n in s.before.mail if is_open_request(s.before, n) and not is_open_request(s.after, n)]
    if not {*gone} <= {*answered} or len(answered) != len({*answered}):
        return f"{gone} are answered no more, {answered} told"
    for effect in [e for e in s.effects if e[0] == "answer"]:
        _, mails, agent, how = effect
        told = how != "interrupted" or s.before.caps.notify_interrupted or agent in s.after.closed_by
        if s.verb == "withdraw" or not told or s.before.caps.notice is None:
            continue
        for n in mails:
            letter = s.before.mail.get(n)
            to = None if letter is None else letter.sender
            if to in subs(s.after) and to != agent and s.before.turn.get(to) == s.after.turn[to]:
                notices = [m for m in s.after.mail.values() if n in m.answers and m.to == to]
                drained = s.before.phase[to] in STARTED and s.after.phase[to] not in STARTED
                if not notices and not drained:
                    return f"{to} was not told of {n}"
    return None


STEP_PROPERTIES: dict[str, StepJudge] = {
    **{"S4": s4_step, "S5'": s5_step, "S6": s6_step, "S8": s8, "S9": s9, "S10": s10_step, "S12": s12, "S15": s15},
    **{"L1": l1, "L3": l3},
}


def judge_state(w: World) -> None:
    for property_id, judge in STATE_PROPERTIES.items():
        wrong = judge(w)
        if wrong:
            raise Violation(property_id, wrong)


def judge_step(s: Step) -> None:
    for property_id, judge in STEP_PROPERTIES.items():
        wrong = judge(s)
        if wrong:
            raise Violation(property_id, wrong)


# Scopes


class Scope(NamedTuple):
    """A small world. The verbs say what host, turns and threads do in it."""

    name: str
    caps: Caps
    tree: tuple[tuple[str, str], ...]
    """(path of the parent, name): the agents that may be spawned."""
    host: frozenset[str] = frozenset({"spawn"})
    """spawn, follow, send, start (root), interrupt, subtree, close, resume, forget, withdraw."""
    acts: frozenset[str] = frozenset({"spawn", "await"})
    """Of turns: spawn (children), follow (children), anyone (follow all), send, drain, close, interrupt, subtree,
    withdraw; await (own requests), foreign (all requests), all and any (of several), poll (with a timeout), target,
    mail, sleep, give up.
    """
    faults: frozenset[str] = frozenset()
    """load, flush, death, time, restart, fail, shutdown, store, stale."""
    ids: int = 0
    """Agents ever spawned, as many as in the tree unless given."""
    mails: int = 1
    """Unread mail of an agent above which nobody sends to it."""
    asked: int = 2
    """Open requests of one turn above which it asks for no more."""
    waits: int = 1
    """Waits of a turn, those that are over and go on with it included, above which it begins no more: its tasks."""
    orderly: bool = True
    """Do turns end only when they run and wait for nothing?"""
    meaning: str = ""


NEVER_DUE = 256
"""With this max_overtaken how often the oldest was passed is no part of the state: no scope comes that far."""


def caps(slots: int, resident: int, **rest: Any) -> Caps:
    plain = Caps(slots, resident, False, True, 100, 9, 9, 2, 99, "queue", False, 2, 2, 1, 9, None, None, 1, 256)
    return plain._replace(**rest)


def events(scope: Scope, w: World) -> Iterator[Words]:
    """All that may happen next."""
    yield from host_events(scope, w)
    for agent in w.path:
        if w.phase[agent] in WORKING:
            yield from turn_events(scope, w, agent)
        yield from thread_events(scope, w, agent)
    faults = scope.faults
    if "time" in faults and w.bounds():
        yield World.tick, w.bounds()[0][0]
    if "restart" in faults and w.state != "closed":
        yield (World.restart,)
    if "shutdown" in faults and w.state in ("open", "draining"):
        yield World.shutdown, 1
        if w.state == "draining":
            yield World.shutdown, 0
    if "store" in faults:
        yield (World.write_failed,)


def host_events(scope: Scope, w: World) -> Iterator[Words]:
    does, by_path = scope.host, {w.path[a]: a for a in w.path if a not in w.closed_by}
    for parent, name in scope.tree if "spawn" in does and w.spawned <= (scope.ids or len(scope.tree)) else ():
        if parent in by_path:
            yield World.spawn, by_path[parent], name, "m", HOST
    for agent in w.path:
        room = len(unread(w, agent)) < scope.mails
        if (agent != ROOT or "start" in does) and room:
            if "follow" in does:
                yield World.send, HOST, agent, "m", True
            if "send" in does:
                yield World.send, HOST, agent, "m", False
        if agent != ROOT or "start" in does:
            for verb in ("interrupt", "subtree"):
                if verb in does:
                    yield World.interrupt, HOST, agent, verb == "subtree"
        if agent != ROOT:
            for verb, rule in (("close", World.close), ("resume", World.resume)):
                if verb in does:
                    yield rule, HOST, agent
            if "forget" in does:
                yield World.forget, agent
    for letter in w.mail.values() if "withdraw" in does else ():
        yield World.withdraw, HOST, letter.number


def turn_events(scope: Scope, w: World, a: int) -> Iterator[Words]:
    """What the code of a turn does, in one of its tasks."""
    does, turn = scope.acts, w.turn[a]
    own = [m.number for m in w.mail.values() if m.sender == a and m.kind == "request"]
    children = [c for c in w.path if w.parent[c] == a and c not in w.closed_by]
    if "spawn" in does and w.spawned <= (scope.ids or len(scope.tree)) and len(own) < scope.asked:
        for parent, name in scope.tree:
            if parent == w.path[a]:
                yield World.spawn, a, name, "m", a
    for other in w.path:
        near, room = other in children, len(unread(w, other)) < scope.mails
        if room and other != ROOT and len(own) < scope.asked and ("anyone" in does or ("follow" in does and near)):
            yield World.send, a, other, "m", True
        if room and "send" in does and (near or other == w.parent[a]):
            yield World.send, a, other, "m", False
        for verb in ("interrupt", "subtree"):
            if verb in does and (near or other == a):
                yield World.interrupt, a, other, verb == "subtree"
        if "close" in does and near:
            yield World.close, a, other
    if "drain" in does:
        yield World.drain, a, turn
    if "withdraw" in does:
        yield from ((World.withdraw, a, number) for number in own)
    if len([wait for wait in w.waits.values() if wait.agent == a]) < scope.waits:
        yield from wait_events(scope, w, a, own, children)
    if "give up" in does:
        yield from ((World.stop_waiting, a, turn, n) for n, wait in w.waits.items() if wait.agent == a)


def wait_events(scope: Scope, w: World, a: int, own: list[int], children: list[int]) -> Iterator[Words]:
    does, start = scope.acts, (World.wait, a, w.turn[a])
    asked = [m.number for m in w.mail.values() if m.kind == "request"] if "foreign" in does else own
    told = [n for m in unread(w, a) for n in m.answers]
    for number in [*asked, *told] if {"await", "foreign"} & {*does} else ():
        yield *start, None, (), (number,), False, False
        if "poll" in does:
            yield *start, 1, (), (number,), False, False
    if len(asked) > 1:
        if "all" in does:
            yield *start, None, (), tuple(asked), True, False
        if "any" in does:
            yield *start, None, (), tuple(asked), False, False
    for child in children if "target" in does else ():
        yield *start, 1, (child,), (), False, False
    if "mail" in does:
        yield *start, 1, (), (), False, True
    if "sleep" in does:
        yield *start, None, (), (), False, False


def thread_events(scope: Scope, w: World, a: int) -> Iterator[Words]:
    faults, load, turn = scope.faults, w.load[a], w.turn[a]
    if w.place[a] == "loading":
        yield World.loaded, a, load, True
        if "load" in faults:
            yield World.loaded, a, load, False
    if w.flush.get(a) is not None:
        yield World.flushed, a, load, w.flush[a], True
        if "flush" in faults:
            yield World.flushed, a, load, w.flush[a], False
    ends = w.phase[a] in ("running", "stopping") and not pending(w, a)
    if ends or (not scope.orderly and w.phase[a] in STARTED):
        yield World.ended, a, turn, "completed"
        if "fail" in faults:
            yield World.ended, a, turn, "errored"
    if w.phase[a] == "stopping":
        yield World.ended, a, turn, "interrupted"
    if "death" in faults and w.place[a] != "out" and (a != ROOT or "start" in scope.host):
        yield World.died, a, load
    if "stale" in faults:
        yield World.ended, a, turn, "interrupted"
        yield World.ended, a, turn - 1, "completed"
        yield World.loaded, a, load - 1, True
        yield World.died, a, load - 1
        yield World.flushed, a, load, -1, True


# The scopes there are

PAIR = (("/root", "a"), ("/root/a", "b"))
CHAIN = (*PAIR, ("/root/a/b", "c"))
FAN = (*PAIR, ("/root/a", "c"))
TWO = (("/root", "a"), ("/root", "b"))
THREE = (*TWO, ("/root", "c"))
TREES = (*CHAIN, ("/root", "d"), ("/root/d", "e"), ("/root/d/e", "f"))


def some(*verbs: str) -> frozenset[str]:
    return frozenset(verbs)


def scope(name: str, bounds: Caps, tree: tuple[tuple[str, str], ...], meaning: str, **rest: Any) -> Scope:
    return Scope(name, bounds, tree, meaning=meaning, **{"asked": 1, **rest})


SCOPES: tuple[Scope, ...] = (
    scope(
        "nested", caps(1, 3, max_overtaken=1), CHAIN, "depth 3 on one slot: each awaits the one that it asked", asked=2
    ),
    scope(
        "nested on two",
        caps(2, 4, max_overtaken=1),
        CHAIN,
        "the same on two slots, and the host asks too",
        host=some("spawn", "follow"),
    ),
    scope(
        "at the bound",
        caps(1, 2, max_overtaken=1),
        CHAIN,
        "one turn may lend, two want to: the last one stalls",
        asked=2,
    ),
    scope(
        "no lending",
        caps(1, 1, max_overtaken=1),
        FAN,
        "nothing may be lent: who waits alone stalls",
        host=some("spawn", "follow"),
    ),
    scope("trees", caps(1, 6), TREES, "theorem 4: as many wait as the tree is deep, however broad it is"),
    scope(
        "circles", caps(2, 2, max_overtaken=1), TWO, "both await each other's requests", acts=some("anyone", "foreign")
    ),
    scope(
        "circle of three",
        caps(3, 3, max_overtaken=1),
        THREE,
        "three turns that ask and await one another, and one that awaits both others",
        acts=some("anyone", "foreign", "all"),
        host=some("spawn"),
        mails=1,
    ),
    scope(
        "attempts",
        caps(1, 2, max_overtaken=1, max_attempts=2),
        PAIR,
        "the process is lost and threads die, each turn is tried twice",
        host=some("spawn", "follow"),
        faults=some("death", "restart"),
    ),
    scope(
        "attempts of three",
        caps(1, 1, max_overtaken=1, max_attempts=3),
        TWO[:1],
        "each turn is tried three times, and may be stopped; loads that crashes cut off count",
        host=some("spawn", "follow", "interrupt"),
        faults=some("death", "restart", "load"),
    ),
    *[
        scope(
            f"overtaking {most}",
            caps(1, 2, max_overtaken=most),
            FAN,
            f"the oldest queued turn is due when {most} have passed it",
            host=some("spawn", "follow"),
        )
        for most in (0, 1, 2)
    ],
    scope(
        "seniority",
        caps(2, 2, max_overtaken=1),
        THREE,
        "J6: three agents, two slots, two residency slots",
        host=some("spawn", "follow"),
        acts=some(),
    ),
    scope(
        "flushes fail",
        caps(1, 1, max_overtaken=1),
        TWO,
        "evictions for one another that fail, and loads too",
        host=some("spawn", "follow", "interrupt"),
        acts=some(),
        faults=some("flush", "load", "death", "time"),
    ),
    scope(
        "draining",
        caps(1, 2, max_overtaken=1),
        PAIR,
        "a shutdown while turns wait for requests of turns that will not start any more",
        acts=some("spawn", "await"),
        faults=some("shutdown", "time"),
    ),
    scope(
        "draining by mail",
        caps(2, 2, max_overtaken=1),
        PAIR,
        "a shutdown while turns wait for mail and for agents",
        acts=some("spawn", "mail", "target"),
        faults=some("shutdown"),
    ),
    scope(
        "subtrees",
        caps(1, 2, max_overtaken=1, notice="trigger", notify_interrupted=True),
        PAIR,
        "a subtree is interrupted whose members ask and wake one another",
        host=some("spawn", "subtree", "follow"),
    ),
    scope(
        "subtrees by turns",
        caps(2, 3, max_overtaken=1, notice="trigger"),
        PAIR,
        "turns interrupt one another, alone and with what is below",
        acts=some("spawn", "await", "interrupt", "subtree"),
    ),
    scope(
        "two waits",
        caps(1, 2, max_overtaken=1),
        FAN,
        "a turn with two tasks that wait, for one request or for all, and give up",
        acts=some("spawn", "await", "all", "any", "give up"),
        asked=2,
        waits=2,
    ),
    scope(
        "polls",
        caps(1, 2, max_overtaken=1),
        PAIR,
        "waits with timeouts, for requests and for mail, and drains",
        acts=some("spawn", "await", "poll", "mail", "drain"),
        faults=some("time"),
        waits=2,
    ),
    scope(
        "sleep",
        caps(1, 2, max_overtaken=1),
        PAIR,
        "turns that wait by their own choice lend, and are left alone by J8",
        host=some("spawn", "follow"),
        acts=some("spawn", "sleep", "give up"),
    ),
    scope(
        "withdraw",
        caps(1, 2, max_overtaken=1),
        PAIR,
        "requests are taken back by who asked, and by the host",
        host=some("spawn", "follow", "withdraw"),
        acts=some("spawn", "await", "withdraw"),
    ),
    scope(
        "forget",
        caps(1, 2, max_overtaken=1),
        PAIR,
        "agents are closed, opened again, and forgotten while others await them",
        host=some("spawn", "close", "resume", "forget"),
        ids=3,
    ),
    scope(
        "turn timeout",
        caps(1, 2, max_overtaken=1, turn_timeout=3),
        PAIR,
        "turns that take too long are stopped, and so they are while they wait",
        acts=some("spawn", "await", "sleep"),
        faults=some("time", "restart"),
    ),
    scope(
        "refusals",
        caps(1, 2, max_overtaken=1, queueing=False),
        PAIR,
        "overflow is REJECT: a slot that may be lent is available",
        host=some("spawn", "follow", "send"),
        faults=some("stale"),
    ),
    scope(
        "live threads",
        caps(2, 2, max_overtaken=1, live=True, queueing=False, max_attempts=2),
        PAIR,
        "LIVE_THREADS: nothing is lent, and a death closes",
        host=some("spawn", "follow", "close", "resume"),
        faults=some("death", "restart"),
    ),
)


# The same state


def fingerprint(w: World) -> tuple[Any, ...]:
    """The world without numbers that only grow: mail, turns, waits and stamps by their order alone."""
    told = [m for m in w.mail.values() if w.caps.max_attempts > 1 or not m.read or m.kind == "request"]
    mails = sorted({*numbers(told), *(n for m in unread_all(w) for n in m.answers)})
    rank = {n: i for i, n in enumerate(mails)}
    letters = [
        (
            rank[m.number],
            m.sender,
            m.to,
            m.kind,
            m.about or "",
            tuple([rank[n] for n in m.answers if n in rank]),
            m.read,
        )
        for m in told
    ]
    order = {n: i for i, n in enumerate(sorted(w.waits))}
    waits = [
        (
            *(x.agent, tuple(x.targets), tuple([rank[n] for n in x.requests if is_open_request(w, n)])),
            *(x.every, x.mail, x.over or "", ("wait", n) in w.due),
        )
        for n, x in sorted(w.waits.items())
    ]
    agents = [
        (
            *(a, path, w.parent[a], w.closed_by.get(a, -2), w.phase[a], w.place[a], a in w.lent),
            *(
                w.attempts.get(a, 0),
                w.loads.get(a, 0),
                w.stops.get(a, (False, ()))[0],
                tuple(w.stops.get(a, (False, ()))[1]),
            ),
        )
        for a, path in w.path.items()
    ]
    serves = [(a, w.serves[a][0] if a in w.serves and w.needs_load(*w.serves[a]) else -2) for a in w.flush]
    tried = [(turn[0], tuple(sorted(all_))) for turn, all_ in w.tried.items() if w.needs_load(*turn)]
    bounds = [(at - w.now, what, order[of] if what == "wait" else of) for at, _, what, of in w.bounds()]
    flush = [(a, number is None) for a, number in w.flush.items()]
    passed = min([w.overtaken[a, w.turn[a]] for a in queued(w)[:1]], default=0)
    passed = min(passed, w.caps.max_overtaken) if w.caps.max_overtaken < NEVER_DUE else 0
    lines = [tuple(w.in_order(phase)) for phase in ("queued", "starting", "returning")]
    return (
        *(w.state, w.spawned, tuple(agents), tuple(letters), tuple(waits), tuple(serves), tuple(sorted(tried))),
        *(tuple(bounds), tuple(flush), tuple(lines), tuple(w.lenders()), tuple(w.evictable()), passed),
    )


def digest(w: World) -> bytes:
    return blake2b(marshal.dumps(fingerprint(w), 2), digest_size=16).digest()


# Exploring


Kept = frozenset[tuple[str, int]]
"""What goes on unanswered over a step: (load, flush, turn, stop, queue, return or wait; agent)."""


class Edge(NamedTuple):
    """A step in the graph of states: where to, and what was under way before and is the same after it."""

    to: int
    kept: Kept


class Exploration(NamedTuple):
    """What was found."""

    states: int
    transitions: int
    refusals: dict[str, int]
    ends: dict[str, int]
    """How often waits were told so."""
    most_waiting: int
    closed: bool
    fault: str | None
    path: tuple[Words, ...]
    edges: list[list[Edge]]
    """Of each state, if they were asked for."""


def explore(scope: Scope, most: int = 10**9, keep: bool = False, world: type[Watched] = Watched) -> Exploration:
    """Every state of the scope, up to the first fault; with `keep`, the graph of them."""
    first = world(scope.caps)
    known = {digest(first): 0}
    origin: list[tuple[int, Words]] = [(-1, ())]
    line: list[tuple[int, World]] = [(0, first)]
    edges: list[list[Edge]] = [[]]
    home: set[bytes] = set()
    refusals: dict[str, int] = {}
    ends: dict[str, int] = {}
    transitions = most_waiting = 0

    def result(fault: str | None, at: int, *event: Words) -> Exploration:
        path = list(event)
        while at > 0:
            at, before = origin[at]
            path.insert(0, before)
        closed = fault is None and not line
        return Exploration(len(known), transitions, refusals, ends, most_waiting, closed, fault, tuple(path), edges)

    while line and len(known) <= most:
        following: list[tuple[int, World]] = []
        for number, w in line:
            event: Words = ()
            try:
                judge_state(w)
                most_waiting = max(most_waiting, len([a for a in subs(w) if pending(w, a)]))
                for event in events(scope, w):
                    after, reply, effects = step(w, (getattr(world, event[0].__name__), *event[1:]))
                    judge_step(Step(w, event, after, reply, effects))
                    if reply[0] == "refused":
                        refusals[reply[1]] = refusals.get(reply[1], 0) + 1
                    if after is w:
                        continue
                    transitions += 1
                    for effect in effects:
                        if effect[0] == "wake":
                            ends[effect[4]] = ends.get(effect[4], 0) + 1
                    mark = digest(after)
                    if mark not in known:
                        known[mark] = len(origin)
                        following.append((len(origin), after))
                        origin.append((number, event))
                        edges.append([])
                    if keep:
                        edges[number].append(Edge(known[mark], kept(w, after, event)))
                event = ()
                drive_home(w, home)
            except Violation as violation:
                line = []
                return result(str(violation), number, *([event] if event else []))
        line = following
    return result(None, 0)


def kept(before: World, after: World, event: Words) -> Kept:
    """What is under way, and was not answered in this step. Nothing outlives a crash of the process: no run in which it
    crashes for ever is fair.
    """
    same: set[tuple[str, int]] = set()
    if event[0] is World.restart:
        return frozenset()
    for a in before.path:
        if a not in after.path:
            continue
        if before.place[a] == after.place[a] == "loading" and before.load[a] == after.load[a]:
            same.add(("load", a))
        if before.flush.get(a) is not None and before.flush.get(a) == after.flush.get(a):
            same.add(("flush", a))
        if before.turn[a] == after.turn[a]:
            stage = STAGE.get(before.phase[a])
            if stage is not None and stage == STAGE.get(after.phase[a]):
                same.add((stage, a))
            if before.phase[a] == after.phase[a] == "returning":
                same.add(("return", a))
    for n, wait in before.waits.items():
        endless = wait.requests and ("wait", n) not in before.due and wait.over is None
        if endless and n in after.waits and after.waits[n].over is None:
            same.add(("wait", wait.agent))
    return frozenset(same)


STAGE = {
    **{"queued": "queue", "starting": "queue", "stopping": "stop"},
    **{"running": "turn", "waiting": "turn", "returning": "turn"},
}


# Theorem 2


def starving(found: Exploration) -> tuple[str, int, list[int]] | None:
    """An agent that queues (or is to go on, or waits for a request) for ever in a fair run, and states of that run.

    Fair: each load, flush, turn and stop ends at some time; but a turn that waits for a request, or for a slot to go
    on with, need not end meanwhile. The host does what it likes.
    """
    agents = sorted({agent for edges in found.edges for edge in edges for _, agent in edge.kept})
    for agent in agents:
        for stage in ("queue", "return", "wait"):
            graph = {
                number: [edge for edge in edges if (stage, agent) in edge.kept]
                for number, edges in enumerate(found.edges)
            }
            cycle = fair_cycle({number: edges for number, edges in graph.items() if edges})
            if cycle is not None:
                return stage, agent, cycle
    return None


def fair_cycle(graph: dict[int, list[Edge]]) -> list[int] | None:
    """States of a strongly connected part of the graph on which nothing that must end goes on for ever."""
    for part in strongly_connected(graph):
        members = {*part}
        edges = [(number, edge) for number in part for edge in graph.get(number, ()) if edge.to in members]
        if not edges:
            continue
        endless = frozenset.intersection(*[edge.kept for _, edge in edges])
        if any(what in ("load", "flush", "stop") for what, _ in endless):
            continue
        turns = [a for what, a in endless if what == "turn" and not {("wait", a), ("return", a)} & endless]
        if not turns:
            return part
        inside: dict[int, list[Edge]] = {}
        for number, edge in edges:
            if {("wait", turns[0]), ("return", turns[0])} & edge.kept:
                inside.setdefault(number, []).append(edge)
        cycle = fair_cycle(inside)
        if cycle is not None:
            return cycle
    return None


def strongly_connected(graph: dict[int, list[Edge]]) -> Iterator[list[int]]:
    """Tarjan's algorithm, without recursion."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    for root, first in graph.items():
        if root in index:
            continue
        work = [(root, iter(first))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            number, edges = work[-1]
            for edge in edges:
                if edge.to not in index:
                    index[edge.to] = low[edge.to] = len(index)
                    stack.append(edge.to)
                    on_stack.add(edge.to)
                    work.append((edge.to, iter(graph.get(edge.to, ()))))
                    break
                if edge.to in on_stack:
                    low[number] = min(low[number], index[edge.to])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[number])
                if low[number] == index[number]:
                    part: list[int] = []
                    while not part or part[-1] != number:
                        part.append(stack.pop())
                        on_stack.discard(part[-1])
                    yield part


# L7


def answer(w: World) -> Words | None:
    """What a thread or a turn does next that does what it was asked. A turn that sleeps wakes up by itself; time
    passes only if nothing else is to come."""
    for a in w.path:
        if w.place[a] == "loading":
            return World.loaded, a, w.load[a], True
        if w.flush.get(a) is not None:
            return World.flushed, a, w.load[a], w.flush[a], True
        if w.phase[a] == "stopping":
            return World.ended, a, w.turn[a], "interrupted"
        if w.phase[a] == "running" and not pending(w, a):
            return World.ended, a, w.turn[a], "completed"
    for number, wait in w.waits.items():
        if wait.over is None and not (wait.requests or wait.targets or wait.mail):
            return World.stop_waiting, wait.agent, w.turn[wait.agent], number
    timed = [(at, what) for at, _, what, _ in w.bounds() if what == "wait"]
    return (World.tick, timed[0][0]) if timed else None


def drive_home(start: World, home: set[bytes]) -> None:
    """L7: threads answer, and the session comes to rest; there each open agent can get to a turn again."""
    walked: list[bytes] = []
    w = start
    while (mark := digest(w)) not in home:
        if mark in walked:
            raise Violation("L7", "threads answer for ever, and nothing comes to rest")
        walked.append(mark)
        event = answer(w) if w.state in ("open", "draining") else None
        if event is None:
            at_rest(w)
            break
        w = step(w, event)[0]
    home.update(walked)


def at_rest(w: World) -> None:
    if w.state != "open" or w.caps.slots == 0:
        return
    for agent in w.path:
        if w.phase[agent] in BUSY or w.phase[agent] == "queued":
            raise Violation("L7", f"all is at rest, and {agent} is {w.phase[agent]}")
        if agent in w.closed_by:
            continue
        trial, reply, _ = step(w, (World.send, HOST, agent, "m", True))
        if reply[:2] == ("refused", "MailboxFull") and agent != ROOT:
            for rule in (World.close, World.resume):
                trial = step(trial, (rule, HOST, agent))[0]
            trial, reply, _ = step(trial, (World.send, HOST, agent, "m", True))
        for _ in range(9 * len(w.path)):
            event = answer(trial)
            if event is None or trial.phase[agent] == "running":
                break
            trial = step(trial, event)[0]
        if trial.phase[agent] != "running":
            raise Violation("L7", f"{agent} gets to no turn any more: {reply}")
