"""The reference model: semantics.md once more, in another shape than the code that it judges.

One world: relations over agent ids, and questions asked of them. No slot table: a slot is held
because of the phase that a turn is in, unless it is lent. No mailboxes: one post office. No queues:
the first is the one with the oldest stamp. Who is in memory, who waits, and which notices are to
come, is counted when asked for. A bound in time, and an eviction for a turn, lapse with what they
are for. An event changes a copy of the world, which a refusal throws away; joint rules then fire
until none can. Rule ids are those of semantics.md. Not modelled: settings, texts, results, listing,
the log.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from copy import copy
from math import inf
from typing import Any, Literal, NamedTuple

# Vocabulary

State = Literal["open", "draining", "closed", "failed"]  # of the session
Phase = Literal[  # of a turn
    "new",
    "queued",
    "starting",
    "running",
    "waiting",
    "returning",
    "stopping",
    "completed",
    "errored",
    "interrupted",
]
Place = Literal["out", "loading", "in", "leaving"]  # of a thread; "in" is resident
Bound = Literal["load", "turn", "stop", "flush", "wait", "grace", "idle"]  # what must end in time
Kind = Literal["queue", "trigger", "request"]  # of mail: a request is a trigger to be answered
Turn = tuple[int, int]  # agent, number
Ids = Sequence[int]
Relation = dict[int, int]
Words = tuple[Any, ...]  # event: its method, as `World.spawn`; reply, effect: its name; then facts

HOST, ROOT = -1, 0
NOTED, STALE = ("noted",), ("stale",)
REFUSAL = {"draining": "SessionDraining", "closed": "SessionClosed", "failed": "StoreFailed"}
LIVING: tuple[State, ...] = ("open", "draining")
OVER = ("completed", "errored", "interrupted")
IDLE = ("new", *OVER)
UNBEGUN = ("queued", "starting")
WORKING = ("running", "waiting", "returning")
ACTIVE = (*WORKING, "stopping")  # of a turn that has started
BUSY = ("starting", *ACTIVE)  # of a turn that is in memory, or is to be


class Caps(NamedTuple):  # the configuration; times in seconds
    slots: int
    resident: int
    live: bool  # LIVE_THREADS: slots belong to open agents
    queueing: bool  # overflow is QUEUE
    max_queued: int
    max_depth: int
    max_agents: int
    max_unread: int
    max_bytes: int
    notice: Kind | None  # never a request
    notify_interrupted: bool
    flush_timeout: float
    load_timeout: float
    stop_grace: float
    max_wait: float
    idle_ttl: float | None
    turn_timeout: float | None
    max_attempts: int
    max_overtaken: int


class Letter(NamedTuple):
    """A mail that is unread, or that was read by a turn that has not ended."""

    number: int
    sender: int
    to: int
    kind: Kind
    about: Phase | None = None  # how a turn ended, if this is a notice
    answers: tuple[int, ...] = ()  # to which requests
    read: bool = False


class Wait(NamedTuple):
    """It is pending until it is over. Over, it goes on with its turn."""

    agent: int
    targets: Ids
    requests: Ids
    every: bool  # ALL of the requests
    mail: bool
    over: str | None = None  # why


def is_bound(wait: Wait) -> bool:
    """By a condition. If not, the turn waits by its own choice."""
    return wait.mail or len(wait.targets) + len(wait.requests) > 0


class Unchanged(Exception):
    """A refusal or a stale report. Its arguments are the reply."""


def require(condition: bool, *refusal: Any) -> None:
    """S12: the first condition that does not hold refuses the event."""
    if not condition:
        raise Unchanged("refused", *refusal)


def having(relation: dict[int, Any], *values: object) -> list[int]:
    """Whom the relation gives one of these values."""
    return [agent for agent, value in relation.items() if value in values]


class World:
    """A session. A stamp is a number that says what came before what."""

    def __init__(self, caps: Caps) -> None:
        self.caps = caps
        self.state: State = "open"
        self.effects: list[Words] = []  # that this step asks for
        self.now = 0.0
        self.stamps = self.flushes = self.waited = 0  # so far
        self.posted = self.dead = 0  # so far; dead letters
        self.spawned = 1
        # Agents
        self.path = {ROOT: "/root"}
        self.parent = {ROOT: HOST}
        self.closed_by: Relation = {}  # closed agent -> the agent whose close ended it
        self.mail: dict[int, Letter] = {}  # by number
        # Turns
        self.turn = {ROOT: 0}  # number of the latest
        self.phase: dict[int, Phase] = {ROOT: "new"}  # of that turn
        self.since: Relation = {}  # stamp of when it queued, started, began waiting, returned
        self.overtaken: Counter[Turn] = Counter()  # while it was the oldest queued
        self.waits: dict[int, Wait] = {}  # by number
        self.lent: Relation = {}  # agent, whose turn lent its slot -> that turn
        self.attempts: Counter[int] = Counter()  # turns returned since one ended
        self.stops: dict[int, tuple[bool, Ids]] = {}  # stopped -> told?, not to be woken
        # Threads
        self.load = {ROOT: 0}  # number of the latest
        self.place: dict[int, Place] = {ROOT: "in"}  # of that thread
        self.used: Relation = {}  # stamp of the last use
        self.loads: Counter[int] = Counter()  # begun since a turn of the agent started or ended
        self.flush: dict[int, int | None] = {}  # flush in flight; None: to be asked for at the end
        self.serves: dict[int, Turn] = {}  # leaving -> the turn that it makes room for
        self.tried: dict[Turn, Ids] = {}  # turn -> whose flush failed for it
        # Time, and the end
        self.due: dict[tuple[Bound, int], tuple[float, int]] = {}  # what, of whom -> when, stamp
        self.lists: dict[str, Ids] = {}  # from the shutdown on: done, interrupted, unflushed

    def stamp(self) -> int:
        self.stamps += 1
        return self.stamps

    def ask_for(self, *effect: Any) -> None:
        self.effects.append(effect)

    # Questions

    def is_open(self, agent: int) -> bool:
        return agent not in self.closed_by

    def family(self, top: int) -> list[int]:  # and all below, breadth first
        line = [top]
        for agent in line:
            line += having(self.parent, agent)
        return line

    def unread(self, agent: int) -> list[Letter]:
        return [m for m in self.mail.values() if m.to == agent and not m.read]

    def wanted(self) -> list[int]:  # who has unread trigger mail
        return [m.to for m in self.mail.values() if not m.read and m.kind != "queue"]

    def promised(self, agent: int) -> int:
        """How many notices are still to come to it: one for each request to another."""
        asked = [m.kind == "request" and m.sender == agent != m.to for m in self.mail.values()]
        return sum(asked) if self.caps.notice is not None else 0

    def held(self) -> Ids:
        """S3': the sub-agents that hold a slot."""
        subs = [a for a in self.path if a != ROOT and self.is_open(a)]
        busy = [a for a in subs if self.phase[a] in BUSY and a not in self.lent]
        return tuple(subs if self.caps.live else busy)

    def in_order(self, phase: Phase) -> list[int]:  # the longest first
        return sorted(having(self.phase, phase), key=self.since.__getitem__)

    def queue(self) -> Ids:
        """The ready queue, oldest first: who waits for a slot. Root needs none (S13)."""
        return tuple([a for a in self.in_order("queued") if a != ROOT and not self.caps.live])

    def oldest_due(self) -> list[int]:
        """L11: the oldest queued turn, if too many have passed it since it became the oldest."""
        most = self.caps.max_overtaken
        return [a for a in self.queue()[:1] if self.overtaken[a, self.turn[a]] >= most]

    def lenders(self) -> list[int]:
        """J7: who holds a slot and waits, the longest first."""
        waiting = [a for a in self.held() if self.pending(a) and not self.caps.live]
        return sorted(waiting, key=self.since.__getitem__)

    def to_lend(self) -> int:
        """S16: how many may still lend to the ready queue."""
        return self.caps.resident - self.caps.slots - len(self.lent)

    def available(self) -> int:  # slots that are free or may be lent
        may_lend = min(len(self.lenders()), max(0, self.to_lend()))
        return self.caps.slots - len(self.held()) + may_lend

    def would_queue(self, agent: int) -> bool:  # if trigger mail comes
        return agent != ROOT and not self.caps.live and self.phase[agent] in IDLE

    def is_queue_full(self) -> bool:
        asking = {agent for agent in self.wanted() if self.would_queue(agent)}
        over = len(self.queue()) + len(asking) - self.available()
        return self.caps.slots == 0 or over >= self.caps.max_queued

    def evictable(self) -> list[int]:
        """N1, least recently used first."""
        pinned = {ROOT, *self.held(), *having(self.phase, *BUSY)}
        return sorted({*having(self.place, "in")} - pinned, key=self.used.__getitem__)

    def needs_load(self, agent: int, turn: int) -> bool:
        starting = self.turn.get(agent) == turn and self.phase[agent] == "starting"
        return starting and self.place[agent] == "out"

    def pending(self, *agents: int) -> dict[int, Wait]:
        waits = self.waits.items()
        return {n: w for n, w in waits if w.over is None and (not agents or w.agent in agents)}

    def asked(self, wait: Wait) -> list[int]:
        """J9: the agents of its unanswered requests."""
        letters = [m for m in self.mail.values() if m.number in wait.requests]
        return [m.to for m in letters if m.kind == "request"]

    def why_over(self, wait: Wait) -> str | None:
        """What ends this wait now, if anything does (L4)."""
        if wait.requests and len(self.asked(wait)) < (1 if wait.every else len({*wait.requests})):
            return "answered"
        if wait.mail and self.unread(wait.agent):
            return "mail"
        if [t for t in wait.targets if not self.is_open(t) or self.phase[t] in OVER]:
            return "target"
        idle = {agent for agent in self.path if self.phase[agent] not in ACTIVE}
        return "draining" if self.state == "draining" and self.is_vain(wait, idle) else None

    def is_vain(self, wait: Wait, stuck: set[int]) -> bool:
        """Do all ways out of it lead to these agents? A turn that waits by its own choice has one."""
        asked = [agent in stuck for agent in self.asked(wait)]
        ways = [any(asked)] if wait.every and asked else asked
        ways += [target in stuck for target in wait.targets]
        senders = {*self.path} - stuck - {wait.agent}
        return is_bound(wait) and all(ways) and not (wait.mail and senders)

    def dead_waits(self) -> list[Wait]:
        """J9, L10: the pending waits that are not alive, neither by themselves nor by others."""
        dead = [w for n, w in self.pending().items() if ("wait", n) not in self.due]
        for _ in dead:
            stuck = {wait.agent for wait in dead}
            dead = [wait for wait in dead if self.is_vain(wait, stuck)]
        return dead

    # Checks

    def check_caller(self, sender: int, *states: State) -> None:
        require(self.state in states, REFUSAL.get(self.state))
        if sender != HOST:
            self.check_open(sender)

    def check_open(self, agent: int) -> None:
        require(agent in self.path, "UnknownAgent", agent)
        require(self.is_open(agent), "AgentClosed", agent)

    def check_works(self, agent: int, turn: int) -> None:
        self.check_caller(HOST, *LIVING)
        require(agent in self.path, "UnknownAgent", agent)
        works = self.phase[agent] in WORKING and self.turn[agent] == turn
        require(works, "NotRunning", agent, turn)

    def check_not_stopping(self, sender: int) -> None:
        stopping = self.phase.get(sender) == "stopping"
        require(not stopping, "NotRunning", sender, self.turn.get(sender))

    def check_text(self, text: str) -> None:
        size = len(text.encode("utf-8", "surrogatepass"))
        require(0 < size <= self.caps.max_bytes, "InvalidMessage", size, self.caps.max_bytes)

    def check_mailbox(self, agent: int, reserve: int) -> None:  # promised notices have theirs
        unread, notices = len(self.unread(agent)), self.promised(agent)
        fits = unread + notices < self.caps.max_unread - reserve
        require(fits, "MailboxFull", agent, unread, notices, self.caps.max_unread)

    def check_live(self, holders: Ids) -> None:
        fits = not self.caps.live or len(holders) < self.caps.slots
        require(fits, "LiveThreadsFull", self.caps.slots, holders)

    def check_sub(self, agent: int, operation: str) -> None:
        require(agent in self.path, "UnknownAgent", agent)
        require(agent != ROOT, "RootRefused", operation)

    def check_opening(self, path: str) -> None:  # one more agent, here
        taken, depth = [a for a in having(self.path, path) if self.is_open(a)], path.count("/") - 1
        require(not taken, "PathTaken", path, *taken)
        require(depth <= self.caps.max_depth, "DepthExceeded", depth, self.caps.max_depth)
        few = len(self.path) - len(self.closed_by) <= self.caps.max_agents
        require(few, "TooManyAgents", self.caps.max_agents)

    def check_alive(self, agent: int) -> None:
        """J9: the wait that it begins is alive. If not, it is named with all that it leads to."""
        dead = self.dead_waits()
        line = {agent}
        for _ in dead:
            ahead = {a for wait in dead if wait.agent in line for a in self.asked(wait)}
            line |= ahead & {wait.agent for wait in dead}
        require(not dead, "WaitCircle", tuple(sorted(line)))

    def check_current(self, condition: bool) -> None:
        """S9: a report on what is not in flight any more changes nothing."""
        if not condition or self.state not in LIVING:
            raise Unchanged(*STALE)

    # Operations (section 4): they give their reply, or None for NOTED

    def spawn(self, parent: int, name: str, text: str, sender: int) -> Words:
        self.check_caller(HOST, "open")
        self.check_open(parent)
        self.check_caller(sender, "open")
        self.check_not_stopping(sender)
        require(re.fullmatch("(?!root$)[a-z0-9_]{1,64}", name) is not None, "InvalidName", name)
        self.check_text(text)
        agent, path = self.spawned, f"{self.path[parent]}/{name}"
        self.check_opening(path)
        self.spawned += 1
        self.path[agent] = path
        self.parent[agent] = parent
        self.turn[agent] = self.load[agent] = 0
        self.phase[agent] = "new"
        self.place[agent] = "out"
        _, number = self.send(sender, agent, text, wants=True)
        self.check_live(self.held()[:-1])
        return "spawned", agent, number

    def send(self, sender: int, to: int, text: str, wants: bool) -> Words:
        """With `wants` it is `follow_up`, and `start` if it is by the host."""
        self.check_caller(sender, "open")
        self.check_open(to)
        self.check_text(text)
        self.check_mailbox(to, 0 if wants else 1)
        if wants:
            self.check_not_stopping(sender)
        if wants and sender not in (HOST, to) and self.caps.notice is not None:
            self.check_mailbox(sender, 1)  # for the notice
        require(not wants or to != ROOT or sender == HOST, "RootRefused", "follow_up")
        needs_slot = wants and self.would_queue(to)
        if needs_slot and self.caps.queueing:
            require(not self.is_queue_full(), "QueueFull", self.caps.max_queued, self.queue())
        elif needs_slot:  # L1
            require(self.available() > 0, "ExecutionFull", self.caps.slots, self.held())
        return "accepted", self.post(sender, to, "request" if wants else "queue")

    def withdraw(self, sender: int, number: int) -> Words:
        self.check_caller(sender, *LIVING)
        require(0 <= number < self.posted, "UnknownMail", number)
        letter = self.mail.get(number)
        if letter is None or letter.read:
            raise Unchanged("refused", "MailRead", number)
        require(sender in (HOST, letter.sender) and letter.about is None, "NotSender", number)
        del self.mail[number]
        self.dead += 1
        if self.phase[letter.to] in UNBEGUN and letter.to not in self.wanted():
            self.end(letter.to, "interrupted")
        self.answer(letter.to, "interrupted", [letter], told=False)
        return ("withdrawn",)

    def drain(self, agent: int, turn: int) -> Words:
        self.check_works(agent, turn)
        return "drained", self.read(agent)

    def interrupt(self, sender: int, target: int, subtree: bool) -> Words:
        """With `subtree` the turns below, too, and none of these agents wakes another by its end."""
        self.check_caller(sender, *LIVING)
        self.check_open(target)
        require(target != ROOT or sender == HOST, "RootRefused", "interrupt")
        line = self.family(target) if subtree else [target]
        members = [agent for agent in line if self.is_open(agent)]
        require(sender not in members, "SelfRefused", "interrupt", target)
        previous = self.phase[target]
        touched = [a for a in members if self.phase[a] in (*UNBEGUN, *WORKING)]
        for agent in touched:
            if self.phase[agent] in WORKING:
                self.stop(agent)
        for agent in [a for a in members if subtree and self.phase[a] == "stopping"]:
            told, quiet = self.stops.get(agent, (False, ()))
            self.stops[agent] = (told, (*quiet, *members))
        for agent in members:
            among = [m for m in self.unread(agent) if subtree and m.sender in members]
            self.mark(among, kind="queue")
            self.answer(agent, "interrupted", among, self.caps.notify_interrupted, members)
        for agent in touched:
            if self.phase[agent] in UNBEGUN:
                self.end(agent, "interrupted")
        return "interrupted", previous, tuple(touched)

    def close(self, sender: int, target: int) -> Words:
        self.check_caller(sender, *LIVING)
        self.check_sub(target, "close")
        require(sender not in self.family(target), "SelfRefused", "close", target)
        return "closed", self.bury(target, "interrupted")

    def forget(self, target: int) -> Words:  # by the host
        self.check_caller(HOST, *LIVING)
        self.check_sub(target, "forget")
        require(not self.is_open(target), "AgentOpen", target)
        line = self.family(target)
        for a in line:
            del self.path[a], self.parent[a], self.closed_by[a], self.turn[a], self.phase[a]
            del self.load[a], self.place[a]
        return "forgotten", tuple(line)

    def resume(self, sender: int, target: int) -> Words:
        """LIVE_THREADS: with what the same close ended, but for branches that cannot be opened."""
        self.check_caller(sender, "open")
        require(target in self.path, "UnknownAgent", target)
        require(not self.is_open(target), "AgentOpen", target)
        line, together = [target], having(self.closed_by, target) if self.caps.live else []
        for agent in line:
            try:
                self.check_open(self.parent[agent])
                self.check_opening(self.path[agent])
                self.check_live(self.held())
            except Unchanged:
                if agent == target:
                    raise
                continue
            del self.closed_by[agent]
            line += [child for child in having(self.parent, agent) if child in together]
        opened = tuple([agent for agent in line if self.is_open(agent)])
        return "resumed", opened, tuple([agent for agent in line if agent not in opened])

    def wait(
        self,
        agent: int,
        turn: int,
        timeout: float | None,
        targets: Ids,
        requests: Ids,
        every: bool,
        mail: bool,
    ) -> Words:
        """A running turn goes on at once if nothing is to be waited for; another is called back."""
        self.check_works(agent, turn)
        seconds = inf if timeout is None else timeout
        fits = 0 <= seconds <= self.caps.max_wait or (timeout is None and not mail and not targets)
        require(fits, "InvalidTimeout", seconds, self.caps.max_wait)
        for target in targets:
            require(target in self.path, "UnknownAgent", target)
        for request in requests:
            require(0 <= request < self.posted, "UnknownMail", request)
        if self.phase[agent] == "running" and not self.pending(agent):
            self.since[agent] = self.stamp()
        self.waited += 1
        number = self.waited
        wait = self.waits[number] = Wait(agent, targets, requests, every, mail)
        self.bound("wait", number, timeout)
        self.read_answers(agent)
        why = self.why_over(wait) or ("timeout" if timeout == 0 else None)
        if why is None:
            self.check_alive(agent)
        elif self.phase[agent] == "running":
            del self.waits[number]
            return "wait over", why
        else:
            self.finish(number, why)
        return "waiting", number

    def stop_waiting(self, agent: int, turn: int, number: int) -> Words | None:
        self.check_works(agent, turn)
        if number in self.pending(agent):
            if self.phase[agent] == "running":
                del self.waits[number]
                return "wait over", "given_up"
            self.finish(number, "given_up")
        return None

    def shutdown(self, grace: float) -> Words:
        """Turns that have not started stay queued. A second shutdown can only shorten the first."""
        self.check_caller(HOST, *LIVING)
        require(0 <= grace < inf, "InvalidTimeout", grace, inf)
        end, _ = self.due.get(("grace", ROOT), (-inf, 0))
        if self.state == "open" or self.now + grace < end:
            self.bound("grace", ROOT, grace)
        if self.state == "open":
            self.state = "draining"
            self.lists = dict.fromkeys(("done", "interrupted", "unflushed"), ())
            self.flush.update(dict.fromkeys(having(self.place, "in")))
            for agent in self.in_order("starting"):
                del self.loads[agent]
                self.enter(agent, "queued")
        return ("shutting down",)

    # Mail

    def post(self, sender: int, to: int, kind: Kind, *notice: Any) -> int:
        number = self.posted
        self.posted += 1
        if self.is_open(to):
            self.mail[number] = Letter(number, sender, to, kind, *notice)
        else:
            self.dead += 1
        return number

    def mark(self, letters: Sequence[Letter], **change: Any) -> None:
        self.mail.update({m.number: m._replace(**change) for m in letters})

    def read(self, agent: int) -> Ids:
        """S5: all unread mail, in order."""
        letters = self.unread(agent)
        self.mark(letters, read=True)
        return tuple([m.number for m in letters])

    def read_answers(self, agent: int) -> None:
        """An outcome is told once: who awaits a request reads of it there, not in the mailbox."""
        for wait in self.pending(agent).values():
            told = [m for m in self.unread(agent) if {*m.answers} & {*wait.requests}]
            self.mark(told, read=True)

    def answer(
        self, agent: int, how: Phase, letters: list[Letter], told: bool, quiet: Ids = ()
    ) -> None:
        """L3: each requester is told once. The host, who needs no mail, always."""
        requests = [m for m in letters if m.kind == "request"]
        if requests:
            self.ask_for("answer", tuple([m.number for m in requests]), agent, how)
        notice = self.caps.notice
        for to in dict.fromkeys([m.sender for m in requests]):
            if told and notice is not None and to in self.path and to != agent:
                asks = to in self.wanted()  # already, so one more mail needs no more room
                full = self.state != "open" or (not asks and self.is_queue_full())
                silent = to in quiet or (self.would_queue(to) and full)
                answers = tuple([m.number for m in requests if m.sender == to])
                self.post(agent, to, "queue" if silent else notice, how, answers)
                self.read_answers(to)

    # Turns

    def enter(self, agent: int, phase: Phase) -> None:
        self.phase[agent] = phase
        self.since[agent] = self.stamp()

    def begin(self, agent: int, phase: Phase) -> None:
        self.turn[agent] += 1
        self.enter(agent, phase)

    def pass_oldest(self, agent: int) -> None:
        """L11: this agent gets a slot; if it is not the oldest of the queue, that is overtaken."""
        for oldest in self.queue()[:1]:
            if agent not in (ROOT, oldest):
                self.overtaken[oldest, self.turn[oldest]] += 1

    def wake(self, agent: int, why: str | None = None) -> None:
        """The turn has a slot, or is to stop: waits that are over go on; with `why`, all of them."""
        for number, wait in [*self.waits.items()]:
            end = wait.over or why
            if wait.agent == agent and end is not None:
                del self.waits[number]
                self.ask_for("wake", agent, self.turn[agent], number, end)

    def finish(self, number: int, why: str) -> None:
        """A wait is over. A turn that lent its slot is called back, to go on when it has one."""
        wait = self.waits[number] = self.waits[number]._replace(over=why)
        if self.phase[wait.agent] == "running":
            self.wake(wait.agent)
        elif self.phase[wait.agent] == "waiting":
            self.enter(wait.agent, "returning")

    def stop(self, agent: int) -> None:
        self.phase[agent] = "stopping"
        self.wake(agent, "interrupted")
        self.bound("stop", agent, self.caps.stop_grace)
        self.ask_for("cancel", agent, self.turn[agent])

    def may_try_again(self, agent: int) -> bool:
        again = self.attempts[agent] + 1 < self.caps.max_attempts
        return again and self.phase[agent] in WORKING

    def end(self, agent: int, how: Phase) -> None:
        """One step (section 4). *next* keeps the slot, but not from those who are to go on."""
        had = self.phase[agent] in ACTIVE and agent in (ROOT, *self.held())
        self.answer(*self.conclude(agent, how))
        waits = [w for w in self.pending().values() if self.phase[w.agent] == "waiting"]
        called = having(self.phase, "returning") or any(self.why_over(wait) for wait in waits)
        free = agent == ROOT or not (called or self.oldest_due())
        if had and free and how in OVER and self.state == "open" and agent in self.wanted():
            self.pass_oldest(agent)
            self.begin(agent, "starting")
        self.request()

    def conclude(self, agent: int, how: Phase, always: bool = False) -> Words:
        """Gives what is to be answered. If the turn is returned ("new", S17), nothing, and its mail
        is unread again. Mail of a turn that had not started stays, but asks for no turn any more."""
        ran = self.phase[agent] in ACTIVE
        told, quiet = self.stops.pop(agent, (always, ()))
        told |= how != "interrupted" or self.caps.notify_interrupted or not self.is_open(agent)
        letters = [m for m in self.mail.values() if m.to == agent and (m.read or not ran)]
        self.attempts[agent] += 1
        if how == "new":
            self.mark(letters, read=False)
            letters = []
        else:
            self.mark(letters, kind="queue")
            del self.attempts[agent]
        if ran:
            self.list_as("done" if how in ("completed", "errored") else "interrupted", agent)
            self.mail = {n: m for n, m in self.mail.items() if m.to != agent or not m.read}
        self.phase[agent] = how
        self.waits = {n: wait for n, wait in self.waits.items() if wait.agent != agent}
        self.lent.pop(agent, None)
        del self.loads[agent]
        self.use(agent)
        return agent, how, letters, told, quiet

    def bury(self, top: int, how: Phase) -> Ids:
        """S10: closes an agent, whose turn ends so, and everything below it. Gives these."""
        members = [agent for agent in self.family(top) if self.is_open(agent)]
        for agent in having(self.closed_by, top) if members else ():
            self.closed_by[agent] = agent
        self.closed_by |= dict.fromkeys(members, top)
        for agent in members:
            self.dead += len(self.read(agent))
            self.drop(agent)
            del self.attempts[agent]
            asked = [m for m in self.mail.values() if m.to == agent and m.kind == "request"]
            if asked and self.phase[agent] in IDLE:
                self.begin(agent, "queued")  # while the session drains: a turn only to answer
            if self.phase[agent] not in IDLE:
                self.end(agent, how if agent == top else "interrupted")
            self.mail = {n: m for n, m in self.mail.items() if m.to != agent}
        return tuple(members)

    # Threads, and what they report

    def use(self, agent: int) -> None:
        """N2: it was loaded, or a turn of it has ended."""
        self.used[agent] = self.stamp()
        self.bound("idle", agent, self.caps.idle_ttl)

    def ask_for_flush(self, agent: int) -> None:  # N3: before it may go
        self.flushes += 1
        self.flush[agent] = self.flushes
        self.bound("flush", agent, self.caps.flush_timeout)
        self.ask_for("flush", agent, self.load[agent], self.flushes)

    def drop(self, agent: int, told: bool = True) -> None:
        """The thread goes, and is told unless it said so. Root has a new one at once."""
        if told and self.place[agent] != "out":
            self.ask_for("unload", agent, self.load[agent])
        if agent in self.flush and self.is_open(agent):
            self.list_as("unflushed", agent)
        self.flush.pop(agent, None)
        self.serves.pop(agent, None)
        self.load[agent] += 1 if agent == ROOT else 0
        self.place[agent] = "in" if agent == ROOT else "out"

    def lose(self, agent: int, told: bool, with_agent: bool = False) -> None:
        """The thread has failed, and its turn with it; with LIVE_THREADS, perhaps its agent."""
        phase = self.phase[agent]
        cannot_start = phase == "starting" and self.place[agent] == "loading"
        how: Phase = "errored" if cannot_start or phase in WORKING else "interrupted"
        self.drop(agent, told)
        if with_agent:
            self.bury(agent, how)
        elif cannot_start or phase in ACTIVE:
            self.end(agent, "new" if self.may_try_again(agent) else how)

    def loaded(self, agent: int, load: int, fine: bool) -> None:
        self.check_current(self.load.get(agent) == load and self.place[agent] == "loading")
        if fine:
            self.place[agent] = "in"
            self.use(agent)
        else:
            self.lose(agent, told=False)

    def flushed(self, agent: int, load: int, number: int | None, fine: bool) -> None:
        """N3: only if it is durable, the agent goes; else it is not tried again for the turn."""
        self.check_current(self.load.get(agent) == load and self.flush.get(agent) == number)
        del self.flush[agent]
        turn = self.serves.pop(agent, None)
        if self.place[agent] == "leaving" and fine:
            self.drop(agent)
        elif self.place[agent] == "leaving":
            self.place[agent] = "in"
            self.use(agent)
        if not fine:
            self.list_as("unflushed", agent)
            if turn is not None:
                self.tried[turn] = (*self.tried.get(turn, ()), agent)

    def ended(self, agent: int, turn: int, how: Phase) -> None:  # aborted: only if it was stopped
        phases = ("stopping",) if how == "interrupted" else ACTIVE
        self.check_current(self.turn.get(agent) == turn and self.phase[agent] in phases)
        self.end(agent, how)

    def died(self, agent: int, load: int) -> None:
        self.check_current(self.load.get(agent) == load and self.place[agent] != "out")
        self.lose(agent, told=False, with_agent=self.caps.live and agent != ROOT)

    def list_as(self, fate: str, agent: int) -> None:
        if self.state == "draining":
            self.lists[fate] = (*self.lists[fate], agent)

    # Time

    def bound(self, what: Bound, of: int, seconds: float | None) -> None:
        if seconds is not None:
            self.due[what, of] = (self.now + seconds, self.stamp())

    def bounds(self) -> list[tuple[float, int, Bound, int]]:
        """When, stamp, what, of whom: of all that goes on, the first to end first (L5)."""
        going_on = {
            "load": having(self.place, "loading"),
            "turn": having(self.phase, *WORKING),
            "stop": having(self.phase, "stopping"),
            "flush": [agent for agent, number in self.flush.items() if number is not None],
            "wait": [*self.pending()],
            "grace": [ROOT] if self.lists and self.state != "closed" else [],
            "idle": [a for a in having(self.place, "in") if a != ROOT and self.phase[a] in IDLE],
        }
        return sorted([(*at, *key) for key, at in self.due.items() if key[1] in going_on[key[0]]])

    def tick(self, now: float) -> None:
        """Bounds run out one after the other, conditions of waits before their timeouts. None that
        begins in this step ends in it."""
        self.now = max(self.now, now) if -inf < now < inf else self.now
        last = self.stamps
        while self.state in LIVING:
            over = [at for at in self.bounds() if at[0] <= self.now and at[1] <= last]
            over.sort(key=lambda at: at[2] == "wait")
            if not over:
                break
            what, of = over[0][2:]
            if what == "wait" and self.look():
                continue
            del self.due[what, of]
            if what in ("load", "stop"):
                self.lose(of, told=True)
            elif what == "flush":
                self.flushed(of, self.load[of], self.flush[of], fine=False)
            elif what == "wait":
                self.finish(of, "timeout")
            elif what == "turn":
                self.stop(of)
                self.stops[of] = (True, ())
            elif what == "grace":
                for working in having(self.phase, *WORKING):
                    self.stop(working)
            elif self.state == "open":
                self.place[of] = "leaving"
                self.ask_for_flush(of)

    def write_failed(self) -> None:
        self.state = "closed" if self.state == "closed" else "failed"

    def restart(self) -> None:
        """Section 5: what no record says is forgotten. A turn that ran is returned, or interrupted;
        one that was to stop ends by that."""
        self.state = "open"
        self.lists.clear()
        for agent in having(self.phase, *UNBEGUN):
            self.phase[agent] = "new"
            self.turn[agent] -= 1
        over = []
        for agent in having(self.phase, *ACTIVE):
            how: Phase = "new" if self.may_try_again(agent) else "interrupted"
            over.append(self.conclude(agent, how, always=self.phase[agent] in WORKING))
        self.load = dict.fromkeys(self.path, 0)
        self.place = {**dict.fromkeys(self.path, "out"), ROOT: "in"}
        self.flushes = self.waited = 0
        for relation in (self.flush, self.serves, self.tried, self.due, self.overtaken):
            relation.clear()
        self.request()
        for told in over:
            self.answer(*told)

    # Joint rules (section 3)

    def settle(self) -> None:
        """Until none fires: nothing is stuck (L2)."""
        while self.state in LIVING and (
            self.look() or self.request() or self.serve() or self.advance()
        ):
            continue
        if self.state == "open":
            self.break_stall()
        if self.state == "draining":
            self.wind_up()

    def look(self) -> bool:
        """L4: a wait whose condition holds is over."""
        over = {number: self.why_over(wait) for number, wait in self.pending().items()}
        for number, why in over.items():
            if why is not None:
                self.finish(number, why)
        return any(over.values())

    def request(self) -> bool:
        """J1: an idle agent with unread trigger mail gets a turn, queued."""
        asked = self.wanted() if self.state == "open" else []
        idle = [agent for agent in asked if self.phase[agent] in IDLE]
        for agent in dict.fromkeys(idle):
            self.begin(agent, "queued")
        return idle != []

    def serve(self) -> bool:
        """J2, J7, L12: a slot that is free or may be lent goes to the oldest of the queue if it is
        due; or to the turn that was called back first; or to the deepest of the queue, the oldest
        of these. Root needs none."""
        queued = self.in_order("queued") if self.state == "open" else []
        due = self.oldest_due() if queued else []
        ready = self.queue()
        queued.sort(key=lambda agent: -self.path[agent].count("/") if agent in ready else -inf)
        passed = [a for a in due if self.overtaken[a, self.turn[a]] > 0]
        entitled = [a for a in queued if a not in ready]
        for agent in [*entitled, *passed, *self.in_order("returning"), *due, *queued]:
            returns = self.phase[agent] == "returning"
            free = len(self.held()) < self.caps.slots or agent == ROOT or self.caps.live
            lenders = self.lenders()[:1] if returns or self.to_lend() > 0 else []
            if free or lenders:
                for lender in lenders if not free else ():
                    self.lent[lender] = self.turn[lender]
                    self.phase[lender] = "waiting"
                self.pass_oldest(agent)
                self.enter(agent, "running" if returns else "starting")
                self.lent.pop(agent, None)
                self.wake(agent)
                return True
        return False

    def break_stall(self) -> None:
        """J8, L8': the queue can get no slot, because each is of a turn that waits."""
        stuck = [a for a in self.lenders() if any(map(is_bound, self.pending(a).values()))]
        stopping = {*self.lent} & {*having(self.phase, "stopping")}
        if stuck and self.queue() and len(stuck) == len(self.held()) and not stopping:
            self.wake(stuck[-1], "stalled")

    def advance(self) -> bool:
        """J3 to J6, for the turn that has been starting longest of those that can go on."""
        for agent in self.in_order("starting"):
            turn = (agent, self.turn[agent])
            place = self.place[agent]
            in_memory = len(self.place) - len(having(self.place, "out"))
            if place == "in":  # J3, S14'
                self.phase[agent] = "running"
                del self.loads[agent]
                self.bound("turn", agent, self.caps.turn_timeout)
                mail = self.read(agent)
                self.ask_for("start", *turn, self.load[agent], mail)
            elif place == "leaving":  # J6: an older turn keeps what was evicted for it
                other = self.serves.get(agent, turn)
                if self.needs_load(*other) and self.since[other[0]] < self.since[agent]:
                    continue
                self.place[agent] = "in"
                del self.flush[agent]
                self.serves.pop(agent, None)
            elif place == "out" and in_memory <= self.caps.resident:  # J4, S2: root is one more
                if self.loads[agent] >= max(3, self.caps.max_attempts):
                    self.end(agent, "errored")  # cannot_start: each load ended in a crash
                    return True
                self.loads[agent] += 1
                self.place[agent] = "loading"
                self.load[agent] += 1
                self.bound("load", agent, self.caps.load_timeout)
                self.ask_for("load", agent, self.load[agent])
            elif place == "loading" or turn in self.serves.values() or not self.make_room(turn):
                continue
            return True
        return False

    def make_room(self, turn: Turn) -> bool:
        """J5: an eviction comes to serve this turn, or it cannot start. False: it is to wait."""
        served = [agent for agent, other in self.serves.items() if self.needs_load(*other)]
        spare = [agent for agent in self.flush if agent not in served]  # the oldest first
        victims = [agent for agent in self.evictable() if agent not in self.tried.get(turn, ())]
        if spare:
            self.serves[spare[0]] = turn
        elif victims:  # N2, S15
            wanted = self.wanted()
            victim = min(victims, key=lambda agent: agent in wanted)
            self.serves[victim] = turn
            self.place[victim] = "leaving"
            self.ask_for_flush(victim)
        elif self.flush or {*having(self.place, "loading")} - {*having(self.phase, *BUSY)}:
            return False
        else:
            self.end(turn[0], "errored")  # cannot_start
        return True

    def wind_up(self) -> None:
        """The shutdown: each rollout is flushed once no turn adds to it, then all is unloaded."""
        for agent, number in [*self.flush.items()]:
            if number is None and self.phase[agent] not in ACTIVE:
                self.ask_for_flush(agent)
        if not self.flush:
            self.state = "closed"
            for agent in self.path:
                self.drop(agent)
            self.ask_for("shut down", *self.lists.values())


def step(before: World, event: Words) -> tuple[World, Words, list[Words]]:
    """The world afterwards (the one before, if nothing has changed), the reply, the effects."""
    world = copy(before)
    for key, fact in vars(before).items():
        if isinstance(fact, dict | list):
            setattr(world, key, fact.copy())
    try:
        reply = event[0](world, *event[1:]) or NOTED
    except Unchanged as unchanged:
        return before, unchanged.args, []
    world.settle()
    effects, world.effects = world.effects, []
    return before if vars(world) == vars(before) else world, reply, effects
