"""The reference model: semantics.md once more, in another shape than the code that it judges.

One world: relations over agent ids, and questions asked of them. No slot table: a slot is held
because of the phase that a turn is in. No mailboxes: one post office. No queues: the first is the
one with the oldest stamp. Who is in memory, and which notices are to come, is counted when asked
for. A bound in time, and an eviction for a turn, lapse with what they are for. An event is refused
before it changes anything; it changes a copy; joint rules then fire until none can. Rule ids are
those of semantics.md; lockstep.py has the words of the core for ours. N4, N5 need no code: only
`advance` loads, and `drop` takes only the thread. Not modelled: texts, results, listing, the log.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from math import inf
from typing import Any, Literal, NamedTuple

State = Literal["open", "draining", "closed", "failed"]  # of the session
Ending = Literal["completed", "errored", "interrupted"]
Phase = Literal["new", "queued", "starting", "running", "stopping", Ending]  # of a turn
Place = Literal["out", "loading", "in", "leaving"]  # of a thread; "in" is resident
Bound = Literal["load", "stop", "flush", "wait", "grace", "idle"]  # what must end in time
Fate = Literal["done", "interrupted", "unflushed"]  # the lists that a shutdown gives
Kind = Literal["queue", "trigger", "request"]  # of mail: a request is a trigger to be answered
Phases = tuple[Phase, ...]
Turn = tuple[int, int]  # agent, number
Ids = tuple[int, ...]
Words = tuple[Any, ...]  # an event (its method, as `World.spawn`), a reply, an effect; then facts

HOST, ROOT, NOTED, STALE = -1, 0, ("noted",), ("stale",)
REFUSAL = {"draining": "SessionDraining", "closed": "SessionClosed", "failed": "StoreFailed"}
LIVING: tuple[State, ...] = ("open", "draining")
OVER: Phases = ("completed", "errored", "interrupted")
IDLE: Phases = ("new", *OVER)
ACTIVE: Phases = ("running", "stopping")
HOLDING: Phases = ("starting", *ACTIVE)  # of a turn that holds a slot


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
    notice: Literal["queue", "trigger"] | None
    notify_interrupted: bool
    flush_timeout: float
    load_timeout: float
    stop_grace: float
    max_wait: float
    idle_ttl: float | None


class Letter(NamedTuple):
    """A mail that is unread, or a request that was read and is to be answered."""

    number: int
    sender: int
    to: int
    kind: Kind
    about: Ending | None  # how a turn ended, if this is a notice


class Unchanged(Exception):
    """A refusal or a stale report. Its arguments are the reply."""


def require(condition: bool, *refusal: Any) -> None:
    """S12: the first condition that does not hold refuses the event, before anything changes."""
    if not condition:
        raise Unchanged("refused", *refusal)


def having(relation: dict[int, Any], *values: object) -> list[int]:  # whom it gives one of these
    return [agent for agent, value in relation.items() if value in values]


class World:
    """A session. A stamp is a number that says what came before what."""

    def __init__(self, caps: Caps) -> None:
        self.caps = caps
        self.state: State = "open"
        self.effects: tuple[Words, ...] = ()  # that this step asks for
        self.now = 0.0
        self.stamps = self.flushes = self.posted = self.dead = 0  # so far; dead letters
        # Agents
        self.path = {ROOT: "/root"}
        self.parent = {ROOT: HOST}
        self.closed_by: dict[int, int] = {}  # closed agent -> the agent whose close ended it
        self.mail: dict[int, Letter] = {}  # unread, by number
        self.asked: dict[int, Letter] = {}  # requests that were read, by number
        # Turns
        self.turn = {ROOT: 0}  # number of the latest
        self.phase: dict[int, Phase] = {ROOT: "new"}  # of that turn
        self.since: dict[int, int] = {}  # queued or starting -> stamp of when that began
        self.waits: dict[int, tuple[int, Sequence[int]]] = {}  # waiting -> stamp, targets
        # Threads
        self.load = {ROOT: 0}  # number of the latest
        self.place: dict[int, Place] = {ROOT: "in"}  # of that thread
        self.used: dict[int, int] = {}  # stamp of the last use
        self.flush: dict[int, int | None] = {}  # flush in flight; None: to be asked for at the end
        self.serves: dict[int, Turn] = {}  # leaving -> the turn that it makes room for
        self.tried: dict[Turn, Ids] = {}  # turn -> whose flush failed for it
        # Time, and the end
        self.due: dict[tuple[Bound, int], tuple[float, int]] = {}  # what, agent -> when, stamp
        self.lists: dict[Fate, Ids] = {}  # from the shutdown on
        self.relations = [name for name, fact in vars(self).items() if isinstance(fact, dict)]

    def stamp(self) -> int:
        self.stamps += 1
        return self.stamps

    def ask_for(self, *effect: Any) -> None:
        self.effects += (effect,)

    # Questions

    def family(self, top: int) -> list[int]:  # and all below, breadth first
        line = [top]
        for agent in line:
            line += having(self.parent, agent)
        return line

    def unread(self, agent: int) -> list[Letter]:
        return [m for m in self.mail.values() if m.to == agent]

    def wanted(self) -> list[int]:  # who has unread trigger mail
        return [m.to for m in self.mail.values() if m.kind != "queue"]

    def promised(self) -> list[int]:  # to whom a notice is to come, for each request to another
        asked = [m for m in (*self.mail.values(), *self.asked.values()) if m.kind == "request"]
        told = self.caps.notice is not None
        return [m.sender for m in asked if told and m.sender not in (HOST, m.to)]

    def held(self) -> Ids:  # S3: the sub-agents that hold a slot
        if self.caps.live:
            return tuple([a for a in self.path if a != ROOT and a not in self.closed_by])
        return tuple([a for a, phase in self.phase.items() if phase in HOLDING and a != ROOT])

    def in_order(self, phase: Phase) -> list[int]:  # the longest first
        if not self.since:
            return []
        agents = [agent for agent in self.since if self.phase[agent] == phase]
        return sorted(agents, key=self.since.__getitem__)

    def queue(self) -> Ids:  # the ready queue: who waits for a slot; root needs none (S13)
        return tuple([a for a in self.in_order("queued") if a != ROOT and not self.caps.live])

    def would_queue(self, agent: int) -> bool:  # if trigger mail comes
        return agent != ROOT and not self.caps.live and self.phase.get(agent, "new") in IDLE

    def is_queue_full(self) -> bool:
        over = len(self.queue()) + len(self.held()) - self.caps.slots
        return self.caps.slots == 0 or over >= self.caps.max_queued

    def evictable(self) -> list[int]:  # N1, least recently used first
        places = self.place.items()
        idle = [a for a, at in places if at == "in" and a != ROOT and self.phase[a] not in HOLDING]
        return [] if self.caps.live else sorted(idle, key=self.used.__getitem__)

    def needs_load(self, agent: int, turn: int) -> bool:
        now = self.turn[agent], self.phase[agent], self.place[agent]
        return now == (turn, "starting", "out")

    def why_over(self, agent: int, targets: Sequence[int]) -> str | None:
        """What ends a wait of this agent now, if anything does (L4)."""
        over = [t for t in targets if t in self.closed_by or self.phase[t] in OVER]
        return "mail" if self.unread(agent) else "target" if over else None

    # Checks

    def check_caller(self, sender: int, *states: State) -> None:
        require(self.state in states, REFUSAL.get(self.state))
        if sender != HOST:
            self.check_open(sender)

    def check_open(self, agent: int) -> None:
        require(agent in self.path, "UnknownAgent", agent)
        require(agent not in self.closed_by, "AgentClosed", agent)

    def check_runs(self, agent: int, turn: int) -> None:
        self.check_caller(HOST, *LIVING)
        require(agent in self.path, "UnknownAgent", agent)
        running = self.phase[agent] == "running" and self.turn[agent] == turn
        require(running, "NotRunning", agent, turn)

    def check_text(self, text: str) -> None:
        size = len(text.encode("utf-8", "surrogatepass"))
        require(0 < size <= self.caps.max_bytes, "InvalidMessage", size, self.caps.max_bytes)

    def check_mailbox(self, agent: int, reserve: int) -> None:  # promised notices have theirs
        unread, notices = len(self.unread(agent)), self.promised().count(agent)
        fits = unread + notices < self.caps.max_unread - reserve
        require(fits, "MailboxFull", agent, unread, notices, self.caps.max_unread)

    def check_mail(self, sender: int, to: int, wants: bool) -> None:
        self.check_mailbox(to, 0 if wants else 1)
        if wants and sender not in (HOST, to) and self.caps.notice is not None:
            self.check_mailbox(sender, 1)  # for the notice
        require(not wants or to != ROOT or sender == HOST, "RootRefused", "follow_up")
        needs_slot = wants and self.would_queue(to)
        if needs_slot and self.caps.queueing:
            require(not self.is_queue_full(), "QueueFull", self.caps.max_queued, self.queue())
        elif needs_slot:  # L1
            self.check_slot("ExecutionFull")

    def check_slot(self, refusal: str) -> None:
        require(len(self.held()) < self.caps.slots, refusal, self.caps.slots, self.held())

    def check_opening(self, path: str) -> None:  # one more agent, here
        for agent in having(self.path, path):
            require(agent in self.closed_by, "PathTaken", path, agent)
        depth = path.count("/") - 1
        require(depth <= self.caps.max_depth, "DepthExceeded", depth, self.caps.max_depth)
        few = len(self.path) - len(self.closed_by) <= self.caps.max_agents
        require(few, "TooManyAgents", self.caps.max_agents)

    def check_current(self, condition: bool) -> None:  # S9: else the report changes nothing
        if not condition or self.state not in LIVING:
            raise Unchanged(*STALE)

    # Operations (section 4): they give their reply, or None for NOTED

    def spawn(self, parent: int, name: str, text: str, sender: int) -> Words:
        self.check_caller(HOST, "open")
        self.check_open(parent)
        self.check_caller(sender, "open")
        require(re.fullmatch("(?!root$)[a-z0-9_]{1,64}", name) is not None, "InvalidName", name)
        self.check_text(text)
        agent, path = len(self.path), f"{self.path[parent]}/{name}"
        self.check_opening(path)
        self.check_mail(sender, agent, wants=True)
        if self.caps.live:
            self.check_slot("LiveThreadsFull")
        self.path[agent] = path
        self.parent[agent] = parent
        self.turn[agent] = self.load[agent] = 0
        self.phase[agent] = "new"
        self.place[agent] = "out"
        return "spawned", agent, self.post(sender, agent, "request")

    def send(self, sender: int, to: int, text: str, wants: bool) -> Words:
        """With `wants` it is `follow_up`, and `start` if it is by the host."""
        self.check_caller(sender, "open")
        self.check_open(to)
        self.check_text(text)
        self.check_mail(sender, to, wants)
        return "accepted", self.post(sender, to, "request" if wants else "queue")

    def drain(self, agent: int, turn: int) -> Words:
        self.check_runs(agent, turn)
        return "drained", self.read(agent)

    def interrupt(self, sender: int, target: int) -> Words:  # the agents below go on
        self.check_caller(sender, *LIVING)
        self.check_open(target)
        require(target != ROOT or sender == HOST, "RootRefused", "interrupt")
        require(target != sender, "SelfRefused", "interrupt", target)
        previous = self.phase[target]
        if previous == "running":
            self.stop(target)
        elif previous in ("queued", "starting"):
            self.end(target, "interrupted")
        return "interrupted", previous

    def close(self, sender: int, target: int) -> Words:
        self.check_caller(sender, *LIVING)
        require(target in self.path, "UnknownAgent", target)
        require(target != ROOT, "RootRefused", "close")
        require(sender not in self.family(target), "SelfRefused", "close", target)
        return "closed", self.bury(target, "interrupted")

    def resume(self, sender: int, target: int) -> Words:
        """LIVE_THREADS: with what the same close ended, but for branches that cannot be opened."""
        self.check_caller(sender, "open")
        require(target in self.path, "UnknownAgent", target)
        require(target in self.closed_by, "AgentOpen", target)
        line, together = [target], having(self.closed_by, target) if self.caps.live else []
        for agent in line:
            try:
                self.check_open(self.parent[agent])
                self.check_opening(self.path[agent])
                if self.caps.live:
                    self.check_slot("LiveThreadsFull")
            except Unchanged:
                if agent == target:
                    raise
                continue
            del self.closed_by[agent]
            line += [child for child in having(self.parent, agent) if child in together]
        opened = tuple([agent for agent in line if agent not in self.closed_by])
        return "resumed", opened, tuple([agent for agent in line if agent not in opened])

    def wait(self, agent: int, turn: int, timeout: float, targets: Sequence[int]) -> Words:
        self.check_runs(agent, turn)
        require(0 <= timeout <= self.caps.max_wait, "InvalidTimeout", timeout, self.caps.max_wait)
        for target in targets:
            require(target in self.path, "UnknownAgent", target)
        require(agent not in self.waits, "AlreadyWaiting", agent, turn)
        why = self.why_over(agent, targets) or ("timeout" if timeout == 0 else None)
        if why is not None:
            return "wait over", why
        self.waits[agent] = (self.stamp(), targets)
        self.bound("wait", agent, timeout)
        return ("waiting",)

    def stop_waiting(self, agent: int, turn: int) -> None:
        self.check_runs(agent, turn)
        self.waits.pop(agent, None)

    def shutdown(self, grace: float) -> Words:
        self.check_caller(HOST, "open")
        require(0 <= grace < inf, "InvalidTimeout", grace, inf)
        self.state = "draining"
        self.lists = {"done": (), "interrupted": (), "unflushed": ()}
        self.flush.update(dict.fromkeys(having(self.place, "in")))
        self.bound("grace", ROOT, grace)
        return ("shutting down",)

    # Mail and turns

    def post(self, sender: int, to: int, kind: Kind, about: Ending | None = None) -> int:
        number = self.posted
        self.posted += 1
        if to not in self.closed_by:
            self.mail[number] = Letter(number, sender, to, kind, about)
        else:
            self.dead += 1
        if self.state == "open":
            self.request()
        return number

    def read(self, agent: int) -> Ids:  # S5: all unread mail, in order
        letters = self.unread(agent)
        self.mail = {n: m for n, m in self.mail.items() if m.to != agent}
        self.asked |= {m.number: m for m in letters if m.kind == "request"}
        return tuple([m.number for m in letters])

    def begin(self, agent: int, phase: Phase) -> None:
        self.turn[agent] += 1
        self.phase[agent] = phase
        self.since[agent] = self.stamp()

    def stop(self, agent: int) -> None:
        self.wake(agent, "interrupted")
        self.phase[agent] = "stopping"
        self.bound("stop", agent, self.caps.stop_grace)
        self.ask_for("cancel", agent, self.turn[agent])

    def wake(self, agent: int, why: str) -> None:
        if self.waits.pop(agent, None) is not None:
            self.ask_for("wake", agent, self.turn[agent], why)

    def end(self, agent: int, how: Ending) -> None:
        """One step. Mail of a turn that had not started stays, and asks for no turn any more."""
        ran = self.phase[agent] in ACTIVE
        unread = [] if ran else self.unread(agent)
        self.mail |= {m.number: m._replace(kind="queue") for m in unread}
        letters = [m for m in self.asked.values() if m.to == agent] + unread
        self.asked = {n: m for n, m in self.asked.items() if m.to != agent}
        self.since.pop(agent, None)
        self.waits.pop(agent, None)
        self.phase[agent] = how
        self.use(agent)
        if ran:
            self.list_as("interrupted" if how == "interrupted" else "done", agent)
            if self.state == "open" and agent not in self.closed_by and agent in self.wanted():
                self.begin(agent, "starting")  # next
        told = how != "interrupted" or self.caps.notify_interrupted or agent in self.closed_by
        self.answer(agent, how, [m for m in letters if m.kind == "request"], told)

    def answer(self, agent: int, how: Ending, requests: list[Letter], told: bool) -> None:
        """L3: each requester is told once. The host, who needs no mail, always."""
        if requests:
            self.ask_for("answer", tuple([m.number for m in requests]), agent, how)
        if told and self.caps.notice is not None:
            for to in dict.fromkeys([m.sender for m in requests if m.sender not in (HOST, agent)]):
                full = self.would_queue(to) and (self.is_queue_full() or self.state != "open")
                self.post(agent, to, "queue" if full else self.caps.notice, how)

    def bury(self, top: int, how: Ending) -> Ids:
        """S10: closes an agent, whose turn ends so, and everything below it. Gives these."""
        line = self.family(top) if top not in self.closed_by else []
        members = [agent for agent in line if agent not in self.closed_by]
        self.closed_by |= {agent: agent for agent in line if self.closed_by.get(agent) == top}
        self.closed_by |= dict.fromkeys(members, top)
        for agent in members:
            self.dead += len(self.read(agent))
            self.drop(agent)
            asked = [m for m in self.asked.values() if m.to == agent]
            if asked and self.phase[agent] in IDLE:
                self.begin(agent, "queued")  # while the session drains: a turn only to answer
            if self.phase[agent] not in IDLE:
                self.end(agent, how if agent == top else "interrupted")
        return tuple(members)

    # Threads, and what they report

    def use(self, agent: int) -> None:  # N2: it was loaded, or a turn of it has ended
        self.used[agent] = self.stamp()
        if self.caps.idle_ttl is not None:
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
        if agent in self.flush and agent not in self.closed_by:
            self.list_as("unflushed", agent)
        self.flush.pop(agent, None)
        self.serves.pop(agent, None)
        self.load[agent] += 1 if agent == ROOT else 0
        self.place[agent] = "in" if agent == ROOT else "out"

    def lose(self, agent: int, told: bool, with_agent: bool = False) -> None:
        """The thread has failed, and its turn with it; with LIVE_THREADS, perhaps its agent."""
        phase = self.phase[agent]
        waited = phase == "starting" and self.place[agent] == "loading"
        how: Ending = "errored" if waited or phase == "running" else "interrupted"
        self.drop(agent, told)
        if with_agent:
            self.bury(agent, how)
        elif waited or phase in ACTIVE:
            self.end(agent, how)

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
        if self.place[agent] == "leaving":
            if fine:
                self.drop(agent)
            else:
                self.place[agent] = "in"
                self.use(agent)
        if not fine:
            self.list_as("unflushed", agent)
            if turn is not None and self.needs_load(*turn):
                self.tried[turn] = (*self.tried.get(turn, ()), agent)

    def ended(self, agent: int, turn: int, how: Ending) -> None:  # aborted: only if it was stopped
        phases = ("stopping",) if how == "interrupted" else ACTIVE
        self.check_current(self.turn.get(agent) == turn and self.phase[agent] in phases)
        self.end(agent, how)

    def died(self, agent: int, load: int) -> None:
        self.check_current(self.load.get(agent) == load and self.place[agent] != "out")
        self.lose(agent, told=False, with_agent=self.caps.live and agent != ROOT)

    def list_as(self, fate: Fate, agent: int) -> None:
        if self.state == "draining":
            self.lists[fate] += (agent,)

    # Time

    def bound(self, what: Bound, agent: int, seconds: float) -> None:
        self.due[what, agent] = (self.now + seconds, self.stamp())

    def bounds(self) -> list[tuple[Bound, int]]:  # L5: what is to end in time, the first first
        keys = [key for key in self.due if LASTS[key[0]](self, key[1])]
        return sorted(keys, key=self.due.__getitem__)

    def tick(self, now: float) -> None:
        """Bounds run out one after the other. None that begins in this step ends in it."""
        self.now = max(self.now, now) if -inf < now < inf else self.now
        last = self.stamps
        if self.state not in LIVING:
            return
        while over := [key for key in self.bounds() if self.due[key] <= (self.now, last)]:
            what, agent = over[0]
            del self.due[what, agent]
            if what in ("load", "stop"):
                self.lose(agent, told=True)
            elif what == "flush":
                self.flushed(agent, self.load[agent], self.flush[agent], fine=False)
            elif what == "wait":
                self.wake(agent, "timeout")
            elif what == "grace":
                for running in having(self.phase, "running"):
                    self.stop(running)
            elif self.state == "open":
                self.place[agent] = "leaving"
                self.ask_for_flush(agent)

    def write_failed(self) -> None:
        self.state = "closed" if self.state == "closed" else "failed"

    def restart(self) -> None:
        """Section 5: what no record says is forgotten. A turn that ran is interrupted."""
        crashed = having(self.phase, *ACTIVE)
        for agent in having(self.phase, "queued", "starting"):
            self.phase[agent] = "new"
            self.turn[agent] -= 1
        self.phase.update(dict.fromkeys(crashed, "interrupted"))
        self.load = dict.fromkeys(self.path, 0)
        self.place = {**dict.fromkeys(self.path, "out"), ROOT: "in"}
        self.state = "open"
        self.flushes = 0
        for relation in (self.since, self.waits, self.flush, self.serves, self.tried, self.lists):
            relation.clear()
        requests = [*self.asked.values()]
        self.asked.clear()
        self.request()
        for agent in crashed:
            self.answer(agent, "interrupted", [m for m in requests if m.to == agent], told=True)

    # Joint rules (section 3)

    def settle(self) -> None:
        """Until none fires: nothing is stuck (L2)."""
        while self.state == "open" and (self.request() or self.admit() or self.advance()):
            continue
        for agent, (_, targets) in [*self.waits.items()]:
            why = self.why_over(agent, targets)
            if why is not None:
                self.wake(agent, why)
        holders = self.held() if self.waits and self.queue() and self.state == "open" else ()
        if holders and {*holders} <= {*self.waits}:  # J7, L8
            self.wake(max(holders, key=self.waits.__getitem__), "stalled")
        if self.state == "draining":
            self.wind_up()

    def request(self) -> bool:
        """J1: an idle agent with unread trigger mail gets a turn, queued."""
        idle = [agent for agent in self.wanted() if self.phase[agent] in IDLE]
        for agent in dict.fromkeys(idle):
            self.begin(agent, "queued")
        return idle != []

    def admit(self) -> bool:
        """J2: a free slot goes to who has been queued longest (S1). Root needs none."""
        for agent in self.in_order("queued"):
            if agent == ROOT or self.caps.live or len(self.held()) < self.caps.slots:
                self.phase[agent] = "starting"
                self.since[agent] = self.stamp()
                return True
        return False

    def advance(self) -> bool:
        """J3 to J6, for the turn that has been starting longest of those that can go on."""
        for agent in self.in_order("starting"):
            turn, place = (agent, self.turn[agent]), self.place[agent]
            in_memory = len(self.place) - len(having(self.place, "out"))
            if place == "in":  # J3, S14
                self.phase[agent] = "running"
                del self.since[agent]
                self.ask_for("start", *turn, self.load[agent], self.read(agent))
            elif place == "leaving":  # J6
                self.place[agent] = "in"
                del self.flush[agent]
                self.serves.pop(agent, None)
            elif place == "out" and in_memory <= self.caps.resident:  # J4, S2: root is one more
                self.place[agent] = "loading"
                self.load[agent] += 1
                self.bound("load", agent, self.caps.load_timeout)
                self.ask_for("load", agent, self.load[agent])
            elif place == "loading" or turn in self.serves.values() or not self.make_room(turn):
                continue
            return True
        return False

    def make_room(self, turn: Turn) -> bool:
        """J5: uses or begins an eviction for this turn, or ends the turn. False: the turn waits."""
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
        elif {*having(self.place, "loading", "leaving")} - {*self.held()}:
            return False
        else:
            self.end(turn[0], "errored")  # cannot_start
        return True

    def wind_up(self) -> None:
        """The shutdown: each rollout is flushed once no turn adds to it, then all is unloaded."""
        for agent in [a for a in having(self.flush, None) if self.phase[a] not in ACTIVE]:
            self.ask_for_flush(agent)
        if not self.flush:
            self.state = "closed"
            for agent in self.path:
                self.drop(agent)
            self.ask_for("shut down", *self.lists.values())


LASTS: dict[Bound, Callable[[World, int], bool]] = {  # what has still to end in time
    "load": lambda world, agent: world.place[agent] == "loading",
    "stop": lambda world, agent: world.phase[agent] == "stopping",
    "flush": lambda world, agent: world.flush.get(agent) is not None,
    "wait": lambda world, agent: agent in world.waits,
    "grace": lambda world, _: world.lists != {} and world.state != "closed",
    "idle": lambda world, agent: agent in world.evictable() and world.phase[agent] in IDLE,
}
DRAFT: dict[World, World] = {}  # world that has refused an event -> its copy, left as it was


def step(before: World, event: Words) -> tuple[World, Words, list[Words]]:
    """The world afterwards (the one before, if nothing has changed), the reply, the effects."""
    rule, *values = event
    if before not in DRAFT:
        DRAFT.clear()
        DRAFT[before] = World.__new__(World)
        facts = DRAFT[before].__dict__ = {**vars(before)}
        facts.update({name: facts[name].copy() for name in before.relations})
    world = DRAFT.pop(before)
    try:
        reply = rule(world, *values) or NOTED
    except Unchanged as unchanged:
        DRAFT[before] = world
        return before, unchanged.args, []
    world.settle()
    effects, world.effects = [*world.effects], ()
    return before if vars(world) == vars(before) else world, reply, effects
