"""The reference model: semantics.md once more, in another shape than the code that it judges.

One world: relations over agent ids, and questions asked of them. No slot table: a slot is held
because of the phase that a turn is in, unless it is lent. No mailboxes: one post office. No queues:
the first is the one with the oldest stamp. Who is in memory, who waits, and which notices are to
come, is counted when asked for. A bound in time, and an eviction for a turn, lapse with what they
are for. An event changes a copy of the world, which a refusal throws away; joint rules then fire
until none can. Rule ids are those of semantics.md. Not modelled: settings, texts, listing, the log.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import inf
from typing import Any, Literal, NamedTuple

# Vocabulary

State = Literal["open", "draining", "closed", "failed"]  # of the session
Ending = Literal["completed", "errored", "interrupted"]  # of a turn
Phase = Literal["new", "queued", "starting", "running", "waiting", "returning", "stopping", Ending]
Place = Literal["out", "loading", "in", "leaving"]  # of a thread; "in" is resident
Bound = Literal["load", "turn", "stop", "flush", "wait", "grace", "idle"]  # what must end in time
Kind = Literal["queue", "trigger", "request"]  # of mail: a request is a trigger to be answered
Turn = tuple[int, int]  # agent, number
Ids = Sequence[int]
Relation = dict[int, int]
Words = tuple[Any, ...]  # event: its method, as `World.spawn`; reply, effect: its name; then facts

HOST, ROOT, NONE = -1, 0, -2
NOTED = ("noted",)
REFUSAL = {"draining": "SessionDraining", "closed": "SessionClosed", "failed": "StoreFailed"}
LIVING = ("open", "draining")
OVER = ("completed", "errored", "interrupted")
IDLE = ("new", *OVER)
UNBEGUN = ("queued", "starting")
WORKING = ("running", "waiting", "returning")
ACTIVE = (*WORKING, "stopping")  # of a turn that has started
BUSY = ("starting", *ACTIVE)  # of a turn that is in memory, or is to be


class Caps(NamedTuple):  # the configuration
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
    max_wait: float  # seconds
    max_attempts: int
    max_overtaken: int
    seconds: dict[Bound, float | None]  # for a load, turn, stop, flush; until an idle one goes


class Letter(NamedTuple):  # a mail that is unread, or that was read by a turn that has not ended
    number: int
    sender: int
    to: int
    kind: Kind
    about: Phase | None = None  # how a turn ended, if this is a notice
    answers: Ids = ()  # to which requests
    read: bool = False


class Wait(NamedTuple):  # it is pending until it is over; then it goes on with its turn
    agent: int
    targets: Ids
    requests: Ids
    every: bool  # ALL of the requests
    mail: bool
    over: str | None = None  # why


class Unchanged(Exception):
    """A refusal or a stale report. Its arguments are the reply."""


def require(condition: bool, *refusal: Any) -> None:
    """S12: the first condition that does not hold refuses the event."""
    if not condition:
        raise Unchanged("refused", *refusal)


def having(relation: dict[int, Any], *values: object) -> list[int]:  # agents with one of these
    return [agent for agent, value in relation.items() if value in values]


class World:
    """A session. A stamp is a number that says what came before what."""

    def __init__(self, caps: Caps) -> None:
        self.caps = caps
        self.state: State = "open"
        self.effects: list[Words] = []  # that this step asks for
        self.now = 0.0
        self.stamps = self.flushes = self.waited = self.posted = self.dead = 0  # so far
        self.path = {ROOT: "/root"}
        self.parent = {ROOT: HOST}
        self.closed_by: Relation = {}  # closed agent -> what to be resumed with
        self.mail: dict[int, Letter] = {}  # by number
        self.turn = {ROOT: 0}  # number of the latest, of every agent that was ever spawned
        self.phase: dict[int, Phase] = {ROOT: "new"}  # of that turn
        self.since: Relation = {}  # stamp of when it queued, started, began waiting, returned
        self.passed: Relation = {}  # by how many, while it was the oldest of the queue
        self.waits: dict[int, Wait] = {}  # by number
        self.lent: set[int] = set()  # agents whose turn has lent its slot
        self.attempts = {ROOT: 0}  # turns returned since one ended
        self.loud: set[int] = set()  # agents whose turn is stopped by its turn_timeout, or a crash
        self.quiet: Relation = {}  # stopping -> the agent below which its end wakes none
        self.load = {ROOT: 0}  # number of the latest
        self.place: dict[int, Place] = {ROOT: "in"}  # of that thread
        self.used: Relation = {}  # stamp of the last use
        self.loads = {ROOT: 0}  # begun since a turn of the agent started or ended
        self.flush: dict[int, int | None] = {}  # flush in flight; None: to be asked for at the end
        self.serves: dict[int, Turn] = {}  # leaving -> the turn that it makes room for
        self.tried: list[tuple[Turn, int]] = []  # a turn, and an agent whose flush failed for it
        self.due: dict[tuple[Bound, int], tuple[float, int]] = {}  # what, of which -> when, stamp
        self.lists: dict[str, Ids] = {}  # from the shutdown on: done, interrupted, unflushed

    def stamp(self) -> int:
        self.stamps += 1
        return self.stamps

    def ask_for(self, *effect: Any) -> None:
        self.effects += [effect]

    # Questions

    def family(self, top: int) -> list[int]:  # and all below, breadth first
        line = [top]
        for agent in line:
            line += having(self.parent, agent)
        return line

    def unread(self, agent: int) -> list[Letter]:
        return [m for m in self.mail.values() if m.to == agent and not m.read]

    def wanted(self) -> list[int]:  # the agents that have unread trigger mail
        return [m.to for m in self.mail.values() if not m.read and m.kind != "queue"]

    def promised(self) -> list[int]:
        """The agents to which notices are still to come, one for each request to another."""
        letters = self.mail.values() if self.caps.notice else ()
        return [m.sender for m in letters if m.kind == "request" and m.sender != m.to]

    def held(self) -> Ids:  # S3': the sub-agents that hold a slot
        agents = {*(self.path if self.caps.live else having(self.phase, *BUSY))}
        return tuple(sorted(agents - {ROOT, *self.closed_by, *self.lent}))

    def in_order(self, phase: Phase) -> list[int]:  # the longest first
        return sorted(having(self.phase, phase), key=self.since.__getitem__)

    def queue(self) -> Ids:  # the ready queue: agents that wait for a slot, the oldest first
        return tuple(self.in_order("queued"))

    def oldest_due(self) -> list[int]:
        """L11: the oldest queued turn, if too many have passed it since it became the oldest."""
        return [a for a in self.queue()[:1] if self.passed[a] >= self.caps.max_overtaken]

    def lenders(self) -> list[int]:
        """J7: the agents that hold a slot and wait, the longest first."""
        waiting = {wait.agent for wait in self.pending().values()}
        return sorted(waiting & {*self.held()}, key=self.since.__getitem__) if waiting else []

    def available(self) -> int:  # slots that are free or may be lent
        more = self.caps.resident - self.caps.slots - len(self.lent)  # may lend to the queue (S16)
        return self.caps.slots - len(self.held()) + min(len(self.lenders()), more)

    def would_queue(self, agent: int) -> bool:
        """If trigger mail comes. Root needs no free slot (S13), and with LIVE_THREADS no agent."""
        return agent != ROOT and not self.caps.live and self.phase.get(agent, "new") in IDLE

    def is_queue_full(self) -> bool:
        over = len({*self.queue(), *filter(self.would_queue, self.wanted())}) - self.available()
        return over >= self.caps.max_queued or not self.caps.slots

    def evictable(self) -> list[int]:  # N1, least recently used first
        idle = {*having(self.place, "in")} - {ROOT, *having(self.phase, *BUSY)}
        return [] if self.caps.live else sorted(idle, key=self.used.__getitem__)

    def needs_load(self, agent: int, turn: int) -> bool:
        return (self.turn[agent], self.phase[agent], self.place[agent]) == (turn, "starting", "out")

    def pending(self, *of: int) -> dict[int, Wait]:
        return {n: w for n, w in self.waits.items() if not w.over and w.agent in (of or self.path)}

    def asked(self, wait: Wait) -> list[int]:  # J9: by its unanswered requests
        return [m.to for n, m in self.mail.items() if n in wait.requests and m.kind == "request"]

    def why_over(self, wait: Wait) -> str | None:  # L4: if anything ends it now
        if wait.requests and len(self.asked(wait)) < (1 if wait.every else len({*wait.requests})):
            return "answered"
        if wait.mail and self.unread(wait.agent):
            return "mail"
        if any(self.phase[t] in OVER or t in self.closed_by for t in wait.targets):
            return "target"
        idle = {*having(self.phase, *IDLE, *UNBEGUN)}
        return "draining" if self.state == "draining" and self.is_vain(wait, idle) else None

    def is_vain(self, wait: Wait, stuck: set[int]) -> bool:
        """Do all ways out of it lead to these agents? A wait with no condition has another."""
        asked = [agent in stuck for agent in self.asked(wait)]
        ways = [any(asked)] if wait.every and asked else asked
        ways += [target in stuck for target in wait.targets]
        senders = {*self.path} - stuck - {wait.agent}
        return (wait.mail or ways != []) and all(ways) and not (wait.mail and senders)

    # Checks

    def check_caller(self, sender: int, latest: State = "draining") -> None:
        require(self.state in ("open", latest), REFUSAL.get(self.state))
        if sender != HOST:
            self.check_open(sender)

    def check_known(self, agent: int) -> None:
        require(agent in self.path, "UnknownAgent", agent)

    def check_open(self, agent: int) -> None:
        self.check_known(agent)
        require(agent not in self.closed_by, "AgentClosed", agent)

    def check_works(self, agent: int, turn: int) -> None:
        self.check_caller(HOST)
        self.check_known(agent)
        works = self.turn[agent] == turn and self.phase[agent] in WORKING
        require(works, "NotRunning", agent, turn)

    def check_not_stopping(self, sender: int) -> None:
        require(self.phase.get(sender) != "stopping", "NotRunning", sender, self.turn.get(sender))

    def check_text(self, text: str) -> None:
        size = len(text.encode("utf-8", "surrogatepass"))
        require(0 < size <= self.caps.max_bytes, "InvalidMessage", size, self.caps.max_bytes)

    def check_mailbox(self, agent: int, reserve: int) -> None:  # promised notices have theirs
        unread, notices = len(self.unread(agent)), self.promised().count(agent)
        fits = unread + notices < self.caps.max_unread - reserve
        require(fits, "MailboxFull", agent, unread, notices, self.caps.max_unread)

    def check_request(self, sender: int, to: int) -> None:
        self.check_not_stopping(sender)
        if sender not in (HOST, to) and self.caps.notice:
            self.check_mailbox(sender, 1)  # for the notice
        require(to != ROOT or sender == HOST, "RootRefused", "follow_up")
        if self.would_queue(to):
            if self.caps.queueing:
                require(not self.is_queue_full(), "QueueFull", self.caps.max_queued, self.queue())
            else:  # L1
                require(self.available() > 0, "ExecutionFull", self.caps.slots, self.held())

    def check_live(self) -> None:
        slots, held = self.caps.slots, self.held()
        require(not self.caps.live or len(held) < slots, "LiveThreadsFull", slots, held)

    def check_opening(self, path: str) -> None:  # one more agent, here
        taken = {*having(self.path, path)} - {*self.closed_by}
        depth = path.count("/") - 1
        require(not taken, "PathTaken", path, *taken)
        require(depth <= self.caps.max_depth, "DepthExceeded", depth, self.caps.max_depth)
        most = self.caps.max_agents
        require(len(self.path) - len(self.closed_by) <= most, "TooManyAgents", most)

    def check_alive(self, agent: int) -> None:
        """J9, L10: its wait is alive, by itself or by others; else all it leads to are named."""
        dead = [wait for n, wait in self.pending().items() if ("wait", n) not in self.due]
        for _ in dead:
            dead = [wait for wait in dead if self.is_vain(wait, {other.agent for other in dead})]
        line = [agent]
        for named in line:
            ahead = {a for wait in dead if wait.agent == named for a in self.asked(wait)}
            line += ahead & {wait.agent for wait in dead} - {*line}
        require(not dead, "WaitCircle", tuple(sorted(line)))

    def check_current(self, condition: bool) -> None:
        """S9: a report on what is not in flight any more changes nothing."""
        if not condition or self.state not in LIVING:
            raise Unchanged("stale")

    # Operations (section 4): they give their reply; reports give none

    def spawn(self, parent: int, name: str, text: str, sender: int) -> Words:
        self.check_caller(HOST, "open")
        self.check_open(parent)
        self.check_caller(sender, "open")
        self.check_not_stopping(sender)
        require(re.fullmatch("(?!root$)[a-z0-9_]{1,64}", name) is not None, "InvalidName", name)
        self.check_text(text)
        agent, path = len(self.turn), f"{self.path[parent]}/{name}"
        self.check_opening(path)
        self.check_request(sender, agent)
        self.check_live()
        self.path[agent] = path
        self.parent[agent] = parent
        self.turn[agent] = self.load[agent] = self.attempts[agent] = self.loads[agent] = 0
        self.phase[agent] = "new"
        self.place[agent] = "out"
        return "spawned", agent, self.post(sender, agent, "request")

    def send(self, sender: int, to: int, text: str, wants: bool) -> Words:
        """With `wants` it is `follow_up`, and `start` if it is by the host."""
        self.check_caller(sender, "open")
        self.check_open(to)
        self.check_text(text)
        self.check_mailbox(to, not wants)
        if wants:
            self.check_request(sender, to)
        return "accepted", self.post(sender, to, "request" if wants else "queue")

    def withdraw(self, sender: int, number: int) -> Words:
        self.check_caller(sender)
        require(0 <= number < self.posted, "UnknownMail", number)
        require(number in self.mail and not self.mail[number].read, "MailRead", number)
        letter = self.mail[number]
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
        """S10: with `subtree` the turns below too; none of these agents then wakes another."""
        self.check_caller(sender)
        self.check_open(target)
        require(target != ROOT or sender == HOST, "RootRefused", "interrupt")
        line = self.family(target) if subtree else [target]
        members = [agent for agent in line if agent not in self.closed_by]
        require(sender not in members, "SelfRefused", "interrupt", target)
        previous = self.phase[target]
        touched = [a for a in members if self.phase[a] in (*UNBEGUN, *WORKING)]
        for agent in members:
            if self.phase[agent] in WORKING:
                self.stop(agent)
            if subtree and self.phase[agent] == "stopping":
                self.quiet[agent] = min(target, self.quiet.get(agent, target))  # the elder is above
        for agent in members:
            among = [m for m in self.unread(agent) if subtree and m.sender in members]
            self.mark(among, kind="queue")
            self.answer(agent, "interrupted", among, self.caps.notify_interrupted, target)
        for agent in touched:
            if self.phase[agent] in UNBEGUN:
                self.end(agent, "interrupted")
        return "interrupted", previous, tuple(touched)

    def close(self, sender: int, target: int) -> Words:
        self.check_caller(sender)
        self.check_known(target)
        require(target != ROOT, "RootRefused", "close")
        require(sender not in self.family(target), "SelfRefused", "close", target)
        return "closed", self.bury(target, "interrupted")

    def forget(self, target: int) -> Words:  # by the host
        self.check_caller(HOST)
        self.check_known(target)
        require(target != ROOT, "RootRefused", "forget")
        require(target in self.closed_by, "AgentOpen", target)
        line = tuple(self.family(target))
        for agent in line:  # without a path it is unknown
            del self.path[agent], self.parent[agent], self.closed_by[agent]
        return "forgotten", line

    def resume(self, sender: int, target: int) -> Words:
        """LIVE_THREADS: with what the same close ended, but for branches that cannot be opened."""
        self.check_caller(sender, "open")
        self.check_known(target)
        require(target in self.closed_by, "AgentOpen", target)
        line = [target]
        for agent in line:
            try:
                self.check_open(self.parent[agent])
                self.check_opening(self.path[agent])
                self.check_live()
            except Unchanged:
                if agent == target:
                    raise
                continue
            del self.closed_by[agent]
            line += having(self.closed_by, agent) if self.caps.live else []
        opened = tuple(agent for agent in line if agent not in self.closed_by)
        return "resumed", opened, tuple(agent for agent in line if agent not in opened)

    def wait(self, turn: int, timeout: float | None, wait: Wait) -> Words:
        """A running turn goes on at once if nothing is to be waited for; another is called back."""
        agent, most = wait.agent, self.caps.max_wait
        self.check_works(agent, turn)
        endless = timeout is None and not wait.mail and not wait.targets
        seconds = inf if timeout is None else timeout
        require(endless or 0 <= seconds <= most, "InvalidTimeout", seconds, most)
        for target in wait.targets:
            self.check_known(target)
        for request in wait.requests:
            require(0 <= request < self.posted, "UnknownMail", request)
        if self.phase[agent] == "running" and not self.pending(agent):
            self.since[agent] = self.stamp()
        number = self.waited = self.waited + 1
        self.waits[number] = wait
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

    def stop_waiting(self, agent: int, turn: int, number: int) -> Words:
        self.check_works(agent, turn)
        if number in self.pending(agent):
            if self.phase[agent] == "running":
                del self.waits[number]
                return "wait over", "given_up"
            self.finish(number, "given_up")
        return NOTED

    def shutdown(self, grace: float) -> Words:
        """Turns that have not started stay queued. A second shutdown can only shorten the first."""
        self.check_caller(HOST)
        require(0 <= grace < inf, "InvalidTimeout", grace, inf)
        end, _ = self.due.get(("grace", ROOT), (-inf, 0))
        if self.state == "open" or self.now + grace < end:
            self.bound("grace", ROOT, grace)
        if self.state == "open":
            self.state = "draining"
            self.lists = dict.fromkeys(("done", "interrupted", "unflushed"), ())
            self.flush |= dict.fromkeys(having(self.place, "in"))
            for agent in self.in_order("starting"):
                self.loads[agent] = 0
                self.enter(agent, "queued")
        return ("shutting down",)

    # Mail

    def post(self, sender: int, to: int, kind: Kind, *notice: Any) -> int:
        number = self.posted
        self.posted += 1
        if to not in self.closed_by:
            self.mail[number] = Letter(number, sender, to, kind, *notice)
        else:
            self.dead += 1
        return number

    def mark(self, letters: Sequence[Letter], **change: Any) -> None:
        self.mail |= {m.number: m._replace(**change) for m in letters}

    def read(self, agent: int) -> Ids:  # S5: all unread mail, in order
        letters = self.unread(agent)
        self.mark(letters, read=True)
        return tuple(m.number for m in letters)

    def read_answers(self, agent: int) -> None:
        """An outcome is told once: a turn that awaits a request has read of it there."""
        for wait in self.pending(agent).values():
            told = [m for m in self.unread(agent) if {*m.answers} & {*wait.requests}]
            self.mark(told, read=True)

    def answer(self, by: int, how: Phase, mail: list[Letter], told: bool, top: int = NONE) -> None:
        """L3: each requester is told once. The host, who needs no mail, always."""
        requests = [m for m in mail if m.kind == "request" and how != "new"]
        if requests:
            self.ask_for("answer", tuple(m.number for m in requests), by, how)
        notice = self.caps.notice
        for to in dict.fromkeys(m.sender for m in requests):
            if told and notice and to in self.path and to != by:
                full = to not in self.wanted() and self.is_queue_full()  # or it asks already
                full |= self.state != "open"
                silent = to in self.family(top) or (self.would_queue(to) and full)
                answers = tuple(m.number for m in requests if m.sender == to)
                self.post(by, to, "queue" if silent else notice, how, answers)
                self.read_answers(to)

    # Turns

    def enter(self, agent: int, phase: Phase) -> None:
        """L11: if it gets a slot, it passes the oldest of the queue."""
        for oldest in self.queue()[:1] if phase in ("starting", "running") else ():
            if agent not in (ROOT, oldest):
                self.passed[oldest] += 1
        self.passed[agent] = 0
        self.phase[agent] = phase
        self.since[agent] = self.stamp()

    def wake(self, agent: int, why: str | None = None) -> None:
        """Waits that are over go on, for the turn has a slot; with `why`, all of its waits do."""
        for number, wait in [*self.waits.items()]:
            end = wait.over or why
            if wait.agent == agent and end:
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
        self.bound("stop", agent)
        self.ask_for("cancel", agent, self.turn[agent])

    def cut_off(self, agent: int, how: Phase) -> Phase:
        """S17: how a turn ends that a crash or death cuts off; "new" if it is to be tried again."""
        again = self.attempts[agent] + 1 < self.caps.max_attempts
        return "new" if again and self.phase[agent] in WORKING else how

    def end(self, agent: int, how: Phase) -> None:
        """One step (section 4). *next* keeps the slot, unless a turn is to go on or is due."""
        had = self.phase[agent] in ACTIVE and agent in (ROOT, *self.held())
        self.answer(*self.conclude(agent, how))
        waits = [wait for wait in self.waits.values() if self.phase[wait.agent] != "running"]
        called = any(wait.over or self.why_over(wait) for wait in waits)
        free = agent == ROOT or not (called or self.oldest_due())
        if had and free and how in OVER and self.state == "open" and agent in self.wanted():
            self.turn[agent] += 1
            self.enter(agent, "starting")
        self.request()

    def conclude(self, agent: int, how: Phase) -> Words:
        """Gives what is to be answered. S17: mail of a turn that is returned is unread again.
        Mail of one that had not started stays, and asks for no turn any more."""
        ran = self.phase[agent] in ACTIVE
        told = how != "interrupted" or self.caps.notify_interrupted
        told |= agent in {*self.loud, *self.closed_by}
        letters = [m for m in self.mail.values() if m.to == agent and (m.read or not ran)]
        self.attempts[agent] = self.attempts[agent] + 1 if how == "new" else 0
        if how == "new":
            self.mark(letters, read=False)
        elif ran:
            for m in letters:
                del self.mail[m.number]
        else:
            self.mark(letters, kind="queue")
        if ran:
            self.list_as("done" if how in ("completed", "errored") else "interrupted", agent)
        self.phase[agent] = how
        self.waits = {n: wait for n, wait in self.waits.items() if wait.agent != agent}
        self.lent -= {agent}
        self.loud -= {agent}
        self.loads[agent] = 0
        self.use(agent)
        return agent, how, letters, told, self.quiet.pop(agent, NONE)

    def bury(self, top: int, how: Phase) -> Ids:
        """S10: closes an agent, whose turn ends so, and everything below it. Gives these."""
        members = [agent for agent in self.family(top) if agent not in self.closed_by]
        kept = {a: a if above in members else above for a, above in self.closed_by.items()}
        self.closed_by = kept | {a: self.parent[a] for a in members}
        for agent in members:
            self.dead += len(self.read(agent))
            self.drop(agent)
            self.attempts[agent] = 0
            asked = "request" in [m.kind for m in self.mail.values() if m.to == agent]
            if asked and self.phase[agent] in IDLE:
                self.turn[agent] += 1  # while the session drains: a turn only to answer
                self.enter(agent, "queued")
            if self.phase[agent] not in IDLE:
                self.end(agent, how if agent == top else "interrupted")
            self.mail = {n: m for n, m in self.mail.items() if m.to != agent}
        return tuple(members)

    # Threads, and what they report

    def use(self, agent: int) -> None:  # N2: it was loaded, or a turn of it has ended
        self.used[agent] = self.stamp()
        self.bound("idle", agent)

    def ask_for_flush(self, agent: int) -> None:  # N3: before it may go
        self.flush[agent] = self.flushes = self.flushes + 1
        self.bound("flush", agent)
        self.ask_for("flush", agent, self.load[agent], self.flushes)

    def drop(self, agent: int, told: bool = True) -> None:
        """The thread goes, and is told unless it said so. Root has a new one at once."""
        if told and self.place[agent] != "out":
            self.ask_for("unload", agent, self.load[agent])
        self.flush.pop(agent, None)
        self.serves.pop(agent, None)
        self.load[agent] += agent == ROOT
        self.place[agent] = "in" if agent == ROOT else "out"

    def lose(self, agent: int, told: bool = True, with_agent: bool = False) -> None:
        """The thread has failed, and its turn with it; with LIVE_THREADS, perhaps its agent."""
        phase = self.phase[agent]
        cannot_start = phase == "starting" and self.place[agent] == "loading"
        how: Phase = "errored" if cannot_start or phase in WORKING else "interrupted"
        if agent in self.flush:
            self.list_as("unflushed", agent)
        self.drop(agent, told)
        if with_agent:
            self.bury(agent, how)
        elif cannot_start or phase in ACTIVE:
            self.end(agent, self.cut_off(agent, how))

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
        leaves = self.place[agent] == "leaving"
        if leaves and fine:
            self.drop(agent)
        elif leaves:
            self.place[agent] = "in"
            self.use(agent)
        if not fine:
            self.list_as("unflushed", agent)
            if turn is not None:
                self.tried += [(turn, agent)]

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

    def bound(self, what: Bound, of: int, seconds: float | None = None) -> None:
        """L5: it is to end within these seconds, or within those of the configuration."""
        lasts = self.caps.seconds.get(what, seconds)
        if lasts is not None:
            self.due[what, of] = (self.now + lasts, self.stamp())

    def goes_on(self, what: Bound, of: int) -> bool:  # L5: is it bounded still?
        match what:
            case "load":
                return self.place[of] == "loading"
            case "turn":
                return self.phase[of] in WORKING
            case "stop":
                return self.phase[of] == "stopping"
            case "flush":
                return self.flush.get(of) is not None
            case "wait":
                return of in self.pending()
            case "grace":
                return self.state != "closed"
            case "idle":
                return self.phase[of] in IDLE and of in self.evictable()

    def bounds(self) -> list[tuple[Bound, int]]:
        """L5: what is to end in time, and of which; the first to end first."""
        return sorted([key for key in self.due if self.goes_on(*key)], key=self.due.__getitem__)

    def tick(self, now: float) -> None:
        """L5: bounds run out one by one, the timeouts of waits last; none that begins meanwhile."""
        self.now = max(self.now, now) if now < inf else self.now
        last = (self.now, self.stamps)
        if self.state not in LIVING:
            return
        while over := [key for key in self.bounds() if self.due[key] <= last]:
            what, of = min(over, key=lambda key: key[0] == "wait")
            if what == "wait" and self.look():
                continue
            del self.due[what, of]
            if what in ("load", "stop"):
                self.lose(of)
            elif what == "flush":
                self.flushed(of, self.load[of], self.flush[of], fine=False)
            elif what == "wait":
                self.finish(of, "timeout")
            elif what == "turn":
                self.stop(of)
                self.loud |= {of}
            elif what == "grace":
                for working in having(self.phase, *WORKING):
                    self.stop(working)
            elif self.state == "open":
                self.place[of] = "leaving"
                self.ask_for_flush(of)

    def write_failed(self) -> None:
        if self.state in LIVING:
            self.state = "failed"

    def restart(self) -> None:
        """Section 5: what no record says is forgotten. Turns end that had started (S17)."""
        self.state = "open"
        self.loud |= {*having(self.phase, *WORKING)}
        for agent in having(self.phase, *UNBEGUN):
            self.phase[agent] = "new"
            self.turn[agent] -= 1
        ran = having(self.phase, *ACTIVE)
        over = [self.conclude(agent, self.cut_off(agent, "interrupted")) for agent in ran]
        self.load = dict.fromkeys(self.path, 0)
        self.place = {**dict.fromkeys(self.path, "out"), ROOT: "in"}
        self.flushes = self.waited = 0
        for relation in (self.flush, self.serves, self.tried, self.passed, self.due, self.lists):
            relation.clear()
        for told in over:
            self.request()
            self.answer(*told)

    # Joint rules (section 3)

    def settle(self) -> None:  # until none fires: nothing is stuck (L2)
        fires = self.state in LIVING
        while fires:
            fires = self.look() or self.request() or self.serve() or self.advance()
        if self.state == "open" and self.waits and self.queue():
            self.break_stall()
        if self.state == "draining":
            self.wind_up()

    def look(self) -> bool:  # L4: a wait whose condition holds is over
        over = [(n, why) for n, wait in self.pending().items() if (why := self.why_over(wait))]
        for number, why in over:
            self.finish(number, why)
        return over != []

    def request(self) -> bool:
        """J1: an idle agent with unread trigger mail gets a turn, queued."""
        asked = self.wanted() if self.state == "open" else []
        idle = dict.fromkeys(agent for agent in asked if self.phase[agent] in IDLE)
        for agent in idle:
            self.turn[agent] += 1
            self.enter(agent, "queued" if self.would_queue(agent) else "starting")
        return idle != {}

    def serve(self) -> bool:
        """J2, J7, L12: a slot that is free or may be lent goes to the oldest of the queue if it is
        due; or to the turn that was called back first; or to the deepest of the queue."""
        queued = self.queue() if self.state == "open" else ()
        due = self.oldest_due() if queued else []
        returning = self.in_order("returning")
        deepest = sorted(queued, key=lambda agent: -self.path[agent].count("/"))
        for agent in [*filter(self.passed.get, due), *returning, *due, *deepest]:
            lenders = [] if len(self.held()) < self.caps.slots else self.lenders()[:1]
            if self.available() > 0 or (agent in returning and lenders):
                for lender in lenders:
                    self.lent |= {lender}
                    self.phase[lender] = "waiting"
                self.enter(agent, "running" if agent in returning else "starting")
                self.lent -= {agent}
                self.wake(agent)
                return True
        return False

    def break_stall(self) -> None:
        """J8, L8': the queue can get no slot, because each is of a turn that waits."""
        bound = [w.agent for w in self.pending().values() if w.mail or w.targets or w.requests]
        stuck = [agent for agent in self.lenders() if agent in bound]
        stopping = self.lent & {*having(self.phase, "stopping")}
        if stuck and len(stuck) == len(self.held()) and not stopping:
            self.wake(stuck[-1], "stalled")

    def advance(self) -> bool:
        """J3 to J6, for the turn that has been starting longest of those that can go on."""
        self.serves = {a: turn for a, turn in self.serves.items() if self.needs_load(*turn)}
        for agent in self.in_order("starting"):
            turn = (agent, self.turn[agent])
            place = self.place[agent]
            in_memory = sum(p != "out" for p in self.place.values())
            if place == "in":  # J3, S14'
                self.phase[agent] = "running"
                self.loads[agent] = 0
                self.bound("turn", agent)
                self.ask_for("start", *turn, self.load[agent], self.read(agent))
            elif place == "leaving":  # J6: an older turn keeps what was evicted for it
                other, _ = self.serves.get(agent, turn)
                if self.since[other] < self.since[agent]:
                    continue
                self.place[agent] = "in"
                del self.flush[agent]
                self.serves.pop(agent, None)
            elif place == "out" and in_memory <= self.caps.resident:  # J4, S2: root is one more
                loading = having(self.place, "loading")
                if loading and any(self.loads[a] > (a in loading) for a in self.path):
                    continue  # one at a time, because a crash has cut off one
                if self.loads[agent] >= max(3, self.caps.max_attempts):
                    self.end(agent, "errored")  # cannot_start: each load ended in a crash
                    return True
                self.loads[agent] += 1
                self.place[agent] = "loading"
                self.load[agent] += 1
                self.bound("load", agent)
                self.ask_for("load", agent, self.load[agent])
            elif place == "loading" or turn in self.serves.values() or not self.make_room(turn):
                continue
            return True
        return False

    def make_room(self, turn: Turn) -> bool:
        """J5: an eviction comes to serve this turn, or it cannot start. False: it is to wait."""
        spare = [agent for agent in self.flush if agent not in self.serves]  # the oldest first
        victims = [agent for agent in self.evictable() if (turn, agent) not in self.tried]
        if spare:
            self.serves[spare[0]] = turn
        elif victims:  # N2, S15
            victim = min(victims, key=lambda agent: agent in self.wanted())
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
        for agent in having(self.flush, None):
            if self.phase[agent] not in ACTIVE:
                self.ask_for_flush(agent)
        if not self.flush:
            self.state = "closed"
            for agent in self.path:
                self.drop(agent)
            self.ask_for("shut down", *self.lists.values())


DRAFT: dict[World, dict[str, Any]] = {}  # the facts of a copy that an event has left as they were


def step(before: World, event: Words) -> tuple[World, Words, list[Words]]:
    """The world afterwards (the one before, if nothing has changed), the reply, the effects."""
    world = World.__new__(before.__class__)
    facts = world.__dict__ = DRAFT.pop(before, {}) or {
        key: fact.copy() if hasattr(fact, "copy") else fact for key, fact in vars(before).items()
    }
    DRAFT.clear()
    try:
        reply = event[0](world, *event[1:]) or NOTED
        world.settle()
    except Unchanged as unchanged:
        world, reply = before, unchanged.args
    effects, world.effects = world.effects, []
    if facts == vars(before):
        world, DRAFT[before] = before, facts
    return world, reply, effects
