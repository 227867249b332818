"""The reference model: semantics.md once more, in another shape than the code that it judges.

One world, a few relations over agent ids, and questions asked of them. No slot table: a slot is held because of the
phase that a turn is in. No mailboxes: one post office of unread letters. No queues: the first has the oldest stamp.
Nobody counts who is in memory or what is owed: it is counted when asked for. A bound, and an eviction for a turn, lapse
with what they are for: nobody takes them back. Rules fire until none does. J1 to J7, N1 to N3, S and L: semantics.md.

`step(world, event)` gives (world afterwards, reply, effects) and leaves the world before as it was: a relation is never
changed but replaced. If nothing changed, that is given. An event is (name of its rule, values ...), agents by id. A
reply is ("refused", name, facts ...), STALE or (name, values ...). The order of effects means nothing. Not modelled:
settings, texts, results, listing, the log (a restart forgets). Laid out by hand: a rule is a line, if it fits.
"""

# fmt: off
import re
from collections import namedtuple
from math import inf

HOST, ROOT, NOTED, STALE, NAME = -1, 0, ("noted",), ("stale",), "(?!root$)[a-z0-9_]{1,64}"
OVER, ACTIVE, NO_TURN = ("completed", "errored", "interrupted"), ("running", "stopping"), (ROOT, 0)  # root is never loaded
IDLE, HOLDING = ("new", *OVER), ("open", "starting", *ACTIVE)  # lives or phases that hold a slot
LIVING, WHY = ("open", "draining"), {"failed": "StoreFailed", "closed": "SessionClosed", "draining": "SessionDraining"}
Caps = namedtuple("Caps", """slots resident live queueing max_queued max_depth max_agents max_unread max_bytes notice
    notify_interrupted flush_timeout load_timeout stop_grace max_wait idle_ttl""")
Letter = namedtuple("Letter", "number sender to wants about")  # wants a turn; about: how one ended, if it is a notice

class World:
    """life: "open", or whose close ended it. phase: of its turn. place: of its thread. turn, load: numbers. since, used:
    stamps of asking for a turn or getting a slot, until it starts, and of last use. taken: what its turn has read and
    must answer. waits: agent -> (stamp, targets). due: (what, agent) -> (when, stamp). flush: agent -> its flush in
    flight, None: the shutdown will ask for it. serves: leaving -> (agent, turn). tried: (agent, turn) -> in vain."""
    def __init__(w, caps):
        w.caps, w.state, w.mail, w.turn, w.load = caps, "open", (), {0: 0}, {0: 0}
        w.path, w.parent, w.life, w.phase, w.place = {0: "/root"}, {0: HOST}, {0: "open"}, {0: "new"}, {0: "in"}
        w.now = w.stamps = w.flushes = w.posted = w.dead = 0
        w.since = w.used = w.taken = w.waits = w.due = w.flush = w.serves = w.tried = w.lists = {}
class Unchanged(Exception): """A refusal, or a report that comes too late."""

def step(before, event):
    w = World.__new__(World); w.__dict__ = {**before.__dict__, "out": []}
    try: reply = globals()[event[0]](w, *event[1:]) or NOTED
    except Unchanged as unchanged: return before, unchanged.args, []
    settle(w); effects = w.__dict__.pop("out")
    return before if w.__dict__ == before.__dict__ else w, reply, effects

# Relations, and questions asked of them
def let(w, key, **facts):
    for name, fact in facts.items(): w.__dict__[name] = {**w.__dict__[name], key: fact}
def lose(w, key, *names):
    for name in names: w.__dict__[name] = {k: fact for k, fact in w.__dict__[name].items() if k != key}
def stamp(w): w.stamps += 1; return w.stamps
def do(w, *effect): w.out.append(effect)
def bound(w, what, a, seconds): seconds is None or let(w, (what, a), due=(w.now + seconds, stamp(w)))
def unread(w, a): return [m for m in w.mail if m.to == a]
def wanted(w, a): return any([m.wants for m in w.mail if m.to == a])
def asks(m): return m.wants and not m.about
def owed(w): return [m.sender for line in (w.mail, *w.taken.values()) for m in line if m.sender not in (HOST, m.to) and asks(m)] if w.caps.notice else []
def held(w): return tuple([a for a, now in (w.life if w.caps.live else w.phase).items() if now in HOLDING and a])
def first(w, phase): return [a for a in sorted(w.since, key=w.since.get) if w.phase[a] == phase] if w.since else []
def queue(w): return () if w.caps.live else tuple([a for a in first(w, "queued") if a])
def would_queue(w, a): return a != ROOT and not w.caps.live and w.phase.get(a, "new") in IDLE  # if it got trigger mail
def long_queue(w): return not w.caps.slots or len(queue(w)) - (w.caps.slots - len(held(w))) >= w.caps.max_queued
def evictable(w, busy): return sorted([a for a in w.path if a and w.place[a] == "in" and a not in busy], key=w.used.get)
def crowded(w): return len(w.place) - 1 - list(w.place.values()).count("out") >= w.caps.resident
def needs_load(w, a, turn): return w.turn[a] == turn and w.phase[a] == "starting" and w.place[a] == "out"
def over(w, a): return w.life[a] != "open" or w.phase[a] in OVER
def wait_over(w, a, targets): return "mail" if unread(w, a) else "target" if [t for t in targets if over(w, t)] else None
def below(w, line): kids = [a for b in line for a in w.path if w.parent[a] == b]; return line + (kids and below(w, kids))
def bounds(w): return sorted([(*at, what, a) for (what, a), at in w.due.items() if BOUNDS[what][0](w, a)])

# Checks: either it is so, or no
def no(*refusal): raise Unchanged("refused", *refusal)
def current(w, so):  # S9
    if not so or w.state not in LIVING: raise Unchanged(*STALE)
def lives(w): w.state in LIVING or no(WHY[w.state])
def takes_work(w): w.state == "open" or no(WHY[w.state])
def known(w, a): a in w.life or no("UnknownAgent", a)
def is_open(w, a): known(w, a), w.life[a] == "open" or no("AgentClosed", a)
def may_act(w, a): a == HOST or is_open(w, a)
def not_root(a, sender, what): a != ROOT or sender == HOST or no("RootRefused", what)
def not_self(sender, line, what): sender not in line or no("SelfRefused", what, line[0])
def runs(w, a, turn): known(w, a), (w.phase[a] == "running" and w.turn[a] == turn) or no("NotRunning", a, turn)
def sound(w, text): n = len(text.encode("utf-8", "surrogatepass")); 0 < n <= w.caps.max_bytes or no("InvalidMessage", n, w.caps.max_bytes)
def has_room(w, a, wants=False):  # the last place is for trigger mail
    n, k = len(unread(w, a)), owed(w).count(a); n + k < w.caps.max_unread - (not wants) or no("MailboxFull", a, n, k, w.caps.max_unread)
def can_be_told(w, a, to): a in (HOST, to) or not w.caps.notice or has_room(w, a)
def path_free(w, path): [w.path[a] != path or w.life[a] != "open" or no("PathTaken", path, a) for a in w.path]
def countable(w): list(w.life.values()).count("open") <= w.caps.max_agents or no("TooManyAgents", w.caps.max_agents)
def slot_free(w, name): len(held(w)) < w.caps.slots or no(name, w.caps.slots, held(w))
def live_room(w): not w.caps.live or slot_free(w, "LiveThreadsFull")
def queue_room(w): not long_queue(w) or no("QueueFull", w.caps.max_queued, queue(w))
def turn_room(w, a): not would_queue(w, a) or (queue_room(w) if w.caps.queueing else slot_free(w, "ExecutionFull"))

# Operations
def spawn(w, parent, name, text, sender):
    takes_work(w), is_open(w, parent), may_act(w, sender), re.fullmatch(NAME, name) or no("InvalidName", name)
    a, path, depth = len(w.path), f"{w.path[parent]}/{name}", w.path[parent].count("/")
    sound(w, text), path_free(w, path), depth <= w.caps.max_depth or no("DepthExceeded", depth, w.caps.max_depth)
    countable(w), can_be_told(w, sender, a), live_room(w), turn_room(w, a)
    let(w, a, path=path, parent=parent, life="open", phase="new", place="out", turn=0, load=0)
    return "spawned", a, post(w, sender, a, True)
def send(w, sender, to, text, wants):
    takes_work(w), may_act(w, sender), is_open(w, to), sound(w, text), has_room(w, to, wants)
    if wants: can_be_told(w, sender, to), not_root(to, sender, "follow_up"), turn_room(w, to)
    return "accepted", post(w, sender, to, wants)
def drain(w, a, turn): lives(w), runs(w, a, turn); return "drained", read(w, a)
def interrupt(w, sender, a):
    lives(w), may_act(w, sender), is_open(w, a), not_root(a, sender, "interrupt"), not_self(sender, [a], "interrupt")
    previous = w.phase[a]
    if previous == "running": stop(w, a)
    elif previous in ("queued", "starting"): end(w, a, "interrupted")
    return "interrupted", previous
def close(w, sender, a):
    lives(w), may_act(w, sender), known(w, a), not_root(a, None, "close"), not_self(sender, below(w, [a]), "close")
    return "closed", bury(w, a, "interrupted")
def bury(w, top, how):
    line = below(w, [top]) if w.life[top] == "open" else []  # who was closed before is not opened with top again
    members = [a for a in line if w.life[a] == "open"]
    w.life = {**w.life, **{a: a for a in line if w.life[a] == top}, **dict.fromkeys(members, top)}
    for a in members:
        w.dead += len(read(w, a)); drop(w, a)
        if w.taken.get(a) and w.phase[a] in IDLE: begin(w, a, "queued")  # and ends, so that who asked is told
        if w.phase[a] not in IDLE: end(w, a, how if a == top else "interrupted")
    return tuple(members)
def resume(w, sender, target):
    def may_open(a): is_open(w, w.parent[a]), path_free(w, w.path[a]), countable(w), live_room(w)
    takes_work(w), may_act(w, sender), known(w, target), w.life[target] != "open" or no("AgentOpen", target), may_open(target)
    line = [target]
    for a in line:
        try: may_open(a), let(w, a, life="open")
        except Unchanged: continue
        line += [child for child in w.path if w.caps.live and w.parent[child] == a and w.life[child] == target]
    return "resumed", tuple([a for a in line if w.life[a] == "open"]), tuple([a for a in line if w.life[a] != "open"])
def wait(w, a, turn, timeout, targets):
    lives(w), runs(w, a, turn), 0 <= timeout <= w.caps.max_wait or no("InvalidTimeout", timeout, w.caps.max_wait)
    [known(w, target) for target in targets], a not in w.waits or no("AlreadyWaiting", a, turn)
    if why := wait_over(w, a, targets) or (None if timeout else "timeout"): return "wait over", why
    let(w, a, waits=(stamp(w), targets)), bound(w, "wait", a, timeout); return ("waiting",)
def stop_waiting(w, a, turn): lives(w), runs(w, a, turn), lose(w, a, "waits")
def shutdown(w, grace):
    takes_work(w), 0 <= grace < inf or no("InvalidTimeout", grace, inf), bound(w, "grace", ROOT, grace)
    w.state, w.lists = "draining", {"done": (), "interrupted": (), "unflushed": ()}
    w.flush = {**w.flush, **{a: None for a in w.place if w.place[a] == "in"}}; return ("shutting down",)

# Mail and turns
def post(w, sender, to, wants, about=None):
    if w.life[to] == "open": w.mail = (*w.mail, Letter(w.posted, sender, to, wants, about))
    else: w.dead += 1
    w.posted += 1; ask(w); return w.posted - 1
def read(w, a):
    mail = unread(w, a)
    w.mail = tuple([m for m in w.mail if m.to != a]); let(w, a, taken=(*w.taken.get(a, ()), *filter(asks, mail)))
    return tuple([m.number for m in mail])
def begin(w, a, phase): let(w, a, phase=phase, turn=w.turn[a] + 1, since=stamp(w))
def stop(w, a):
    wake(w, a, "interrupted"), let(w, a, phase="stopping"), bound(w, "stop", a, w.caps.stop_grace)
    do(w, "cancel", a, w.turn[a])
def wake(w, a, why): a in w.waits and (lose(w, a, "waits"), do(w, "wake", a, w.turn[a], why))
def end(w, a, how):
    ran = w.phase[a] in ACTIVE
    answers = w.taken.get(a, ()) + (() if ran else tuple(filter(asks, unread(w, a))))
    if not ran: w.mail = tuple([m._replace(wants=False) if m.to == a else m for m in w.mail])
    lose(w, a, "since", "taken", "waits"), use(w, a, phase=how)
    if ran: listed(w, a, "interrupted" if how == "interrupted" else "done")
    if ran and w.state == "open" == w.life[a] and wanted(w, a): begin(w, a, "starting")  # next
    tell(w, a, how, answers, must_tell=w.life[a] != "open")
def tell(w, a, how, answers, must_tell):  # L3
    if answers: do(w, "answer", tuple([m.number for m in answers]), a, how)
    if not w.caps.notice or (how == "interrupted" and not (must_tell or w.caps.notify_interrupted)): return
    for to in dict.fromkeys([m.sender for m in answers if m.sender not in (HOST, a)]):
        post(w, a, to, w.caps.notice == "trigger" and not (would_queue(w, to) and (long_queue(w) or w.state != "open")), how)

# Threads, their reports, and time
def listed(w, a, fate): w.state == "draining" and let(w, fate, lists=(*w.lists[fate], a))
def use(w, a, **facts): let(w, a, used=stamp(w), **facts), bound(w, "idle", a, w.caps.idle_ttl)
def flush(w, a):  # N3
    w.flushes += 1
    let(w, a, flush=w.flushes), bound(w, "flush", a, w.caps.flush_timeout), do(w, "flush", a, w.load[a], w.flushes)
def evict(w, a, turn=NO_TURN): let(w, a, place="leaving", serves=turn), flush(w, a)
def drop(w, a, told=True):
    if w.place[a] != "out" and told: do(w, "unload", a, w.load[a])
    if a in w.flush and w.life[a] == "open": listed(w, a, "unflushed")
    lose(w, a, "flush", "serves"), let(w, a, place="out") if a else let(w, a, load=w.load[a] + 1)
def gone(w, a, told, fatal=False):  # fatal: its agent is closed with it
    how = {"running": "errored", "stopping": "interrupted", "starting": w.place[a] == "loading" and "errored"}.get(w.phase[a])
    drop(w, a, told)
    if fatal: bury(w, a, how or "interrupted")
    elif how: end(w, a, how)
def loaded(w, a, load, fine):
    current(w, w.place.get(a) == "loading" and w.load[a] == load), use(w, a, place="in") if fine else gone(w, a, told=False)
def flushed(w, a, load, number, fine):
    current(w, w.flush.get(a) == number and w.load[a] == load)
    turn, leaving = w.serves.get(a, NO_TURN), w.place[a] == "leaving"
    lose(w, a, "flush", "serves")
    if leaving: drop(w, a) if fine else use(w, a, place="in")
    if not fine: listed(w, a, "unflushed"), needs_load(w, *turn) and let(w, turn, tried=(*w.tried.get(turn, ()), a))
def ended(w, a, turn, how): current(w, w.turn.get(a) == turn and w.phase[a] in ACTIVE[how == "interrupted":]), end(w, a, how)
def died(w, a, load):
    current(w, w.load.get(a) == load and w.place[a] != "out")
    if w.state == "draining" and a in w.flush: flushed(w, a, load, w.flush[a], False)
    gone(w, a, told=False, fatal=w.caps.live and a)
BOUNDS = {  # what is bounded, how long that goes on, and what happens when time is up
    "load": (lambda w, a: w.place[a] == "loading", lambda w, a: gone(w, a, told=True)),
    "stop": (lambda w, a: w.phase[a] == "stopping", lambda w, a: gone(w, a, told=True)),
    "flush": (lambda w, a: w.flush.get(a), lambda w, a: flushed(w, a, w.load[a], w.flush[a], False)),
    "wait": (lambda w, a: a in w.waits, lambda w, a: wake(w, a, "timeout")),
    "grace": (lambda w, _: w.lists and w.state != "closed", lambda w, _: [stop(w, a) for a in w.path if w.phase[a] == "running"]),
    "idle": (lambda w, a: a and w.place[a] == "in" and w.phase[a] in IDLE, lambda w, a: w.state != "open" or evict(w, a))}
def tick(w, now):
    w.now, last = max(w.now, now) if -inf < now < inf else w.now, w.stamps
    while w.state in LIVING and (due := [at for at in bounds(w) if at[0] <= w.now and at[1] <= last]):
        what, a = due[0][2:]
        lose(w, (what, a), "due"), BOUNDS[what][1](w, a)
def write_failed(w): w.state = "closed" if w.state == "closed" else "failed"
def restart(w):  # what no record says is forgotten: threads, slots, queue, waits; what was running is interrupted
    crashed = {a: w.taken.get(a, ()) for a in w.path if w.phase[a] in ACTIVE}
    for a in [a for a in w.path if w.phase[a] in ("queued", "starting")]: let(w, a, phase="new", turn=w.turn[a] - 1)
    for a in crashed: let(w, a, phase="interrupted")
    w.state, w.place, w.load, w.flushes = "open", {**dict.fromkeys(w.path, "out"), ROOT: "in"}, dict.fromkeys(w.path, 0), 0
    w.since = w.taken = w.waits = w.flush = w.serves = w.tried = w.lists = {}
    ask(w)
    for a, answers in crashed.items(): tell(w, a, "interrupted", answers, must_tell=True)

# Joint rules
def settle(w):
    while w.state == "open" and (ask(w) or w.since and (admit(w) or advance(w))): pass
    if w.waits: [wake(w, a, why) for a, (_, targets) in w.waits.items() if (why := wait_over(w, a, targets))]  # L4
    if w.state == "open" and w.waits and queue(w) and held(w) and {*held(w)} <= {*w.waits}:  # J7
        wake(w, max(held(w), key=w.waits.get), "stalled")
    if w.state == "draining":
        [flush(w, a) for a in w.flush if w.flush[a] is None and w.phase[a] not in ACTIVE]
        if not w.flush: w.state = "closed"; [drop(w, a) for a in w.path]; do(w, "shut down", *w.lists.values())
def ask(w): [begin(w, m.to, "queued") for m in w.mail if m.wants and w.state == "open" and w.phase[m.to] in IDLE]  # J1
def admit(w):  # J2
    able = [a for a in first(w, "queued") if a == ROOT or w.caps.live or len(held(w)) < w.caps.slots]
    if able: let(w, able[0], phase="starting", since=stamp(w)); return True
def advance(w):
    for a in first(w, "starting"):
        me = (a, w.turn[a])
        if w.place[a] == "in": let(w, a, phase="running"), lose(w, a, "since"), do(w, "start", *me, w.load[a], read(w, a))  # J3
        elif w.place[a] == "out" and not crowded(w):  # J4
            let(w, a, place="loading", load=w.load[a] + 1), bound(w, "load", a, w.caps.load_timeout), do(w, "load", a, w.load[a])
        elif w.place[a] == "leaving": let(w, a, place="in"), lose(w, a, "flush", "serves")  # J6
        elif w.place[a] == "loading" or me in w.serves.values(): continue  # the rest is J5
        elif spare := [x for x, turn in w.serves.items() if not needs_load(w, *turn)]: let(w, spare[0], serves=me)
        elif victims := [v for v in evictable(w, held(w)) if v not in w.tried.get(me, ())]:  # N2
            evict(w, min(victims, key=lambda v: wanted(w, v)), me)
        elif [b for b in w.path if w.place[b] in ("loading", "leaving") and b not in held(w)]: continue  # in transit
        else: end(w, a, "errored")
        return True
