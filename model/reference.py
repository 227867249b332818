"""The reference model: semantics.md once more, in another shape than the code that it judges.

One world, a few relations over agent ids, and questions asked of them. No slot table: a slot is held because of the
phase that a turn is in. No mailboxes: one post office of unread letters. No queues: the first has the oldest stamp.
Nobody counts who is in memory or what is owed: it is counted when asked for. Rules fire until none does.

`step(world, event)` gives (world afterwards, reply, effects) and leaves the world before as it was. An event is a
tuple: its name, then its values, agents by id. A reply is ("refused", name, facts ...), STALE or (name, values ...). The
order of effects means nothing. Not modelled: settings, texts, results, listing, and the log (a restart forgets instead).
Laid out by hand: a rule is a line, as far as that goes. J1 to J7, N1 to N3, S and L name what semantics.md says.
"""

# fmt: off
import re
from collections import namedtuple
from math import inf

HOST, ROOT, NOTED, STALE = -1, 0, ("noted",), ("stale",)
OVER = ("completed", "errored", "interrupted")
IDLE = ("new", *OVER)
ACTIVE = ("running", "stopping")
HOLDING = ("starting", *ACTIVE)
Caps = namedtuple("Caps", """slots resident live queueing max_queued max_depth max_agents max_unread max_bytes notice
    notify_interrupted flush_timeout load_timeout stop_grace max_wait idle_ttl""")
RELATIONS = "life path parent phase place turn load since used waits due flush serves tried".split()
Letter = namedtuple("Letter", "number sender to wants about")  # wants a turn; about: how a turn ended, if it is a notice


class World:
    """life: "open", or whose close ended it. phase: of its turn. place: of its thread. since, used: stamps of asking for
    a turn or getting a slot, and of last use. waits: agent -> (stamp, targets). due: (what, agent) -> (when, stamp).
    flush: agent -> its flush in flight. serves: leaving -> starting agent. tried: starting agent -> tried in vain."""

    def __init__(w, caps):
        w.caps, w.mail, w.taken, w.posted, w.dead, w.out, w.state = caps, (), (), 0, 0, [], "open"
        w.now, w.stamps, w.flushes, w.to_flush, w.lists = 0, 0, 0, (), None
        w.life, w.path, w.parent, w.phase, w.place = {0: "open"}, {0: "/root"}, {0: HOST}, {0: "new"}, {0: "in"}
        w.turn, w.load, w.since, w.used, w.waits, w.due, w.flush, w.serves, w.tried = {0: 0}, {0: 0}, *({} for _ in range(7))


class Refused(Exception):
    """Nothing has changed."""


def step(before, event):
    w = World.__new__(World)
    relations = w.__dict__ = before.__dict__.copy()
    for relation in RELATIONS: relations[relation] = relations[relation].copy()
    w.out = []
    if before.state in ("closed", "failed") and event[0] in REPORTS: return before, STALE, []
    try: reply = EVENTS[event[0]](w, *event[1:]) or NOTED
    except Refused as refusal: return before, ("refused", *refusal.args), []
    if reply is STALE: return before, STALE, []
    settle(w)
    return w, reply, w.out

# Questions
def stamp(w): w.stamps += 1; return w.stamps
def unread(w, a): return [m for m in w.mail if m.to == a]
def wanted(w, a): return any([m.wants for m in w.mail if m.to == a])
def asks(m): return m.wants and not m.about
def owed(w, a): return sum([m.sender == a != m.to and asks(m) for m in w.mail + w.taken]) if w.caps.notice else 0
def held(w): return tuple([a for a in w.path if a and (w.life[a] == "open" if w.caps.live else w.phase[a] in HOLDING)])
def first(w, phase):
    return sorted([a for a, p in w.phase.items() if p == phase], key=w.since.get) if phase in w.phase.values() else []
def queue(w): return () if w.caps.live else tuple([a for a in first(w, "queued") if a])
def evictable(w): return sorted([a for a in w.path if a and w.place[a] == "in" and a not in held(w)], key=w.used.get)  # N1
def crowded(w): return len(w.place) - 1 - list(w.place.values()).count("out") >= w.caps.resident
def long_queue(w): return len(queue(w)) - (w.caps.slots - len(held(w))) >= w.caps.max_queued
def over(w, a): return w.life[a] != "open" or w.phase[a] in OVER
def below(w, line): return line + below(w, kids) if (kids := [a for b in line for a in w.path if w.parent[a] == b]) else line

# Checks: each refuses, or does nothing
def no(condition, *refusal):
    if condition: raise Refused(*refusal)
def lives(w): no(w.state == "failed", "StoreFailed"); no(w.state == "closed", "SessionClosed")
def takes_work(w): lives(w); no(w.state == "draining", "SessionDraining")
def known(w, a): no(a not in w.life, "UnknownAgent", a)
def is_open(w, a): known(w, a); no(w.life[a] != "open", "AgentClosed", a)
def may_act(w, a): a == HOST or is_open(w, a)
def sound(w, text): n = len(text.encode()); no(not 0 < n <= w.caps.max_bytes, "InvalidMessage", n, w.caps.max_bytes)
def has_room(w, a, wants=False):  # the last place is for trigger mail
    n, k = len(unread(w, a)), owed(w, a)
    no(n + k >= w.caps.max_unread - (not wants), "MailboxFull", a, n, k, w.caps.max_unread)
def can_be_told(w, a, to): a in (HOST, to) or not w.caps.notice or has_room(w, a)
def path_free(w, path): [no(w.path[a] == path and w.life[a] == "open", "PathTaken", path, a) for a in w.path]
def countable(w): no(list(w.life.values()).count("open") > w.caps.max_agents, "TooManyAgents", w.caps.max_agents)
def live_room(w): no(w.caps.live and len(held(w)) >= w.caps.slots, "LiveThreadsFull", w.caps.slots, held(w))
def runs(w, a, turn): known(w, a); no(w.phase[a] != "running" or w.turn[a] != turn, "NotRunning", a, turn)
def turn_room(w, a):
    if w.caps.live or a == ROOT or w.phase.get(a, "new") not in IDLE: return
    if w.caps.queueing: no(long_queue(w), "QueueFull", w.caps.max_queued, queue(w))
    else: no(len(held(w)) >= w.caps.slots, "ExecutionFull", w.caps.slots, held(w))

# Operations
def spawn(w, parent, name, text, sender):
    takes_work(w), is_open(w, parent), may_act(w, sender)
    no(not re.fullmatch("[a-z0-9_]{1,64}", name) or name == "root", "InvalidName", name)
    path, a = f"{w.path[parent]}/{name}", len(w.path)
    sound(w, text), path_free(w, path)
    no(path.count("/") - 1 > w.caps.max_depth, "DepthExceeded", path.count("/") - 1, w.caps.max_depth)
    countable(w), can_be_told(w, sender, a), live_room(w), turn_room(w, a)
    w.path[a], w.parent[a], w.life[a], w.phase[a], w.place[a], w.turn[a], w.load[a] = path, parent, "open", "new", "out", 0, 0
    return "spawned", a, post(w, sender, a, True)
def send(w, sender, to, text, wants):
    takes_work(w), may_act(w, sender), is_open(w, to), sound(w, text), has_room(w, to, wants)
    if wants: can_be_told(w, sender, to), no(to == ROOT and sender != HOST, "RootRefused", "follow_up"), turn_room(w, to)
    return "accepted", post(w, sender, to, wants)
def drain(w, a, turn):
    lives(w), runs(w, a, turn)
    return "drained", read(w, a)
def interrupt(w, sender, a):
    lives(w), may_act(w, sender), is_open(w, a)
    no(a == ROOT and sender != HOST, "RootRefused", "interrupt"), no(a == sender, "SelfRefused", "interrupt", a)
    previous = w.phase[a]
    if previous == "running": stop(w, a)
    elif previous in ("queued", "starting"): end(w, a, "interrupted")
    return "interrupted", previous
def close(w, sender, a):
    lives(w), may_act(w, sender), known(w, a), no(a == ROOT, "RootRefused", "close")
    no(sender != HOST and sender in below(w, [a]), "SelfRefused", "close", a)
    return "closed", bury(w, a)
def bury(w, top, died=False):
    if w.life[top] == "open": w.life.update({a: a for a in below(w, [top]) if w.life[a] == top})
    members = [a for a in below(w, [top]) if w.life[a] == "open" == w.life[top]]
    letters = [m for m in w.mail if m.to in members]
    w.mail, w.dead = tuple([m for m in w.mail if m.to not in members]), w.dead + len(letters)
    w.life.update(dict.fromkeys(members, top))
    for a in members:
        unanswered = [m for m in letters if m.to == a and asks(m)]
        if unanswered and w.phase[a] in IDLE: w.phase[a], w.turn[a] = "queued", w.turn[a] + 1
        drop(w, a)
        how = "errored" if died and a == top and w.phase[a] in ("running", "starting") else "interrupted"
        if w.phase[a] not in IDLE: end(w, a, how, unanswered, must_tell=True)
    return tuple(members)
def resume(w, sender, target):
    def may_open(a): is_open(w, w.parent[a]), path_free(w, w.path[a]), countable(w), live_room(w)
    takes_work(w), may_act(w, sender), known(w, target), no(w.life[target] == "open", "AgentOpen", target), may_open(target)
    opened, skipped, line = [], [], [target]
    for a in line:
        try: may_open(a)
        except Refused: skipped.append(a); continue
        w.life[a] = "open"
        opened.append(a)
        line += [child for child in w.path if w.caps.live and w.parent[child] == a and w.life[child] == target]
    return "resumed", tuple(opened), tuple(skipped)
def wait(w, a, turn, timeout, targets):
    lives(w), runs(w, a, turn), no(not 0 <= timeout <= w.caps.max_wait, "InvalidTimeout", timeout, w.caps.max_wait)
    [known(w, target) for target in targets], no(a in w.waits, "AlreadyWaiting", a, turn)
    why = wait_over(w, a, targets) or (None if timeout else "timeout")
    if why: return "wait over", why
    w.waits[a], w.due["wait", a] = (stamp(w), targets), (w.now + timeout, stamp(w))
    return ("waiting",)
def stop_waiting(w, a, turn): lives(w), runs(w, a, turn), w.waits.pop(a, None), w.due.pop(("wait", a), None)
def shutdown(w, grace):
    takes_work(w), no(not 0 <= grace < inf, "InvalidTimeout", grace, inf)
    w.lists = ((), (), ())
    w.state, w.due["grace", ROOT], w.to_flush = "draining", (w.now + grace, stamp(w)), {a for a in w.place if w.place[a] == "in"}
    return ("shutting down",)

# Mail and turns
def post(w, sender, to, wants, about=None):
    if w.life[to] == "open": w.mail += (Letter(w.posted, sender, to, wants, about),)
    else: w.dead += 1
    w.posted += 1
    ask(w)
    return w.posted - 1
def read(w, a):
    mail = unread(w, a)
    w.taken += tuple([m for m in mail if asks(m)])
    w.mail = tuple([m for m in w.mail if m.to != a])
    return tuple([m.number for m in mail])
def stop(w, a):
    if a in w.waits: wake(w, a, "interrupted")
    w.phase[a], w.due["stop", a] = "stopping", (w.now + w.caps.stop_grace, stamp(w))
    w.out.append(("cancel", a, w.turn[a]))
def wake(w, a, why):
    w.waits.pop(a), w.due.pop(("wait", a), None)
    w.out.append(("wake", a, w.turn[a], why))
def end(w, a, how, buried=(), must_tell=False, crash=False):
    ran = w.phase[a] in ACTIVE
    answers = [m for m in (w.taken if ran else w.mail) if m.to == a and asks(m)] + list(buried)
    w.taken = tuple([m for m in w.taken if m.to != a])
    if not ran: w.mail = tuple([m._replace(wants=False) if m.to == a else m for m in w.mail])
    w.phase[a] = how
    w.waits.pop(a, None), w.due.pop(("wait", a), None), w.due.pop(("stop", a), None), has_what_it_needs(w, a)
    if ran and not crash and wanted(w, a) and w.state == "open" == w.life[a]:  # next
        w.phase[a], w.turn[a], w.since[a] = "starting", w.turn[a] + 1, stamp(w)
    use(w, a)
    if ran and w.state == "draining":
        w.lists = (*((w.lists[0], w.lists[1] + (a,)) if how == "interrupted" else (w.lists[0] + (a,), w.lists[1])), w.lists[2])
    if not crash: ask(w); tell(w, a, how, answers, must_tell)
    return a, how, answers
def tell(w, a, how, answers, must_tell):  # L3
    if answers: w.out.append(("answer", tuple([m.number for m in answers]), a, how))
    if w.caps.notice and (must_tell or w.caps.notify_interrupted or how != "interrupted"):
        for to in dict.fromkeys([m.sender for m in answers if m.sender not in (HOST, a)]):
            needs_room = to and not w.caps.live and w.phase[to] in IDLE
            post(w, a, to, w.caps.notice == "trigger" and not (needs_room and (not w.caps.slots or long_queue(w) or w.state != "open")), how)

# Threads
def use(w, a):
    w.used[a] = stamp(w)
    if w.caps.idle_ttl is not None and a and w.place[a] == "in" and w.phase[a] in IDLE:
        w.due["idle", a] = (w.now + w.caps.idle_ttl, stamp(w))
def has_what_it_needs(w, a):
    w.tried.pop(a, None)
    w.serves.update({leaving: None for leaving, starting in w.serves.items() if starting == a})
def flush(w, a):  # N3
    w.flushes += 1
    w.flush[a], w.due["flush", a] = w.flushes, (w.now + w.caps.flush_timeout, stamp(w))
    w.out.append(("flush", a, w.load[a], w.flushes))
def evict(w, a, serves):
    w.place[a], w.serves[a] = "leaving", serves
    w.due.pop(("idle", a), None), flush(w, a)
def drop(w, a, told=True):
    if w.place[a] != "out" and told: w.out.append(("unload", a, w.load[a]))
    if w.state == "draining" and a in w.to_flush and w.life[a] == "open":
        w.to_flush, w.lists = w.to_flush - {a}, (*w.lists[:2], w.lists[2] + (a,))
    w.flush.pop(a, None), w.serves.pop(a, None), [w.due.pop((what, a), None) for what in ("load", "flush", "idle")]
    if a == ROOT: w.load[a] += 1
    else: w.place[a] = "out"

# Reports and time
def loaded(w, a, load, fine):
    if w.place.get(a) != "loading" or w.load[a] != load: return STALE
    w.place[a] = "in" if fine else "out"
    w.due.pop(("load", a), None)
    if fine: use(w, a)
    elif w.phase[a] == "starting": end(w, a, "errored")
def flushed(w, a, load, number, fine):
    if w.flush.get(a) != number or w.load[a] != load: return STALE
    w.flush.pop(a), w.due.pop(("flush", a), None)
    served = w.serves.pop(a, None)
    if w.place[a] == "leaving" and fine: w.place[a] = "out"; w.out.append(("unload", a, load))
    elif w.place[a] == "leaving": w.place[a] = "in"; use(w, a)
    if not fine and served is not None: w.tried[served] = (*w.tried.get(served, ()), a)
    if not fine and w.state == "draining": w.lists, w.to_flush = (*w.lists[:2], w.lists[2] + (a,)), w.to_flush - {a}
def ended(w, a, turn, how):
    if w.turn.get(a) != turn or w.phase[a] not in ACTIVE[how == "interrupted":]: return STALE
    end(w, a, how)
def died(w, a, load):
    if w.load.get(a) != load or w.place[a] == "out": return STALE
    if w.state == "draining" and a in w.flush: flushed(w, a, load, w.flush[a], False)
    lost = w.phase[a] in ACTIVE or w.phase[a] == "starting" and w.place[a] == "loading"
    drop(w, a, told=False)
    if w.caps.live and a: bury(w, a, died=lost)
    elif lost: end(w, a, "interrupted" if w.phase[a] == "stopping" else "errored")
def tick(w, now):
    w.now, last = max(w.now, now) if -inf < now < inf else w.now, w.stamps
    while w.state in ("open", "draining") and (due := min([(*at, key) for key, at in w.due.items() if at[0] <= w.now and at[1] <= last], default=None)):
        what, a = due[2]
        del w.due[what, a]
        if what == "load": w.out.append(("unload", a, w.load[a])); loaded(w, a, w.load[a], False)
        elif what == "flush": flushed(w, a, w.load[a], w.flush[a], False)
        elif what == "stop": drop(w, a); end(w, a, "interrupted")
        elif what == "wait": wake(w, a, "timeout")
        elif what == "grace": [stop(w, b) for b in w.path if w.phase[b] == "running"]
        elif w.state == "open": evict(w, a, None)
def write_failed(w):
    if w.state != "closed": w.state = "failed"
def restart(w):  # what no record says is forgotten: threads, slots, queue, waits; what was running is interrupted
    crashed = [a for a in w.path if w.phase[a] in ACTIVE]
    w.state, w.place, w.load, w.flushes = "open", {**dict.fromkeys(w.path, "out"), ROOT: "in"}, dict.fromkeys(w.path, 0), 0
    w.waits, w.due, w.flush, w.serves, w.tried, w.lists, w.to_flush = {}, {}, {}, {}, {}, None, ()
    for a in w.path:
        if w.phase[a] in ("queued", "starting"): w.phase[a], w.turn[a] = "new", w.turn[a] - 1
    ends = [end(w, a, "interrupted", crash=True) for a in crashed]
    ask(w)
    for how_it_ended in ends: tell(w, *how_it_ended, must_tell=True)

# Joint rules
def settle(w):
    while w.state == "open" and (ask(w) or admit(w) or advance(w)): pass
    for a in sorted(w.waits, key=w.waits.get):
        if why := wait_over(w, a, w.waits[a][1]): wake(w, a, why)
    stalled = [a for a in sorted(w.waits, key=w.waits.get) if a]
    if stalled and w.state == "open" and queue(w) and len(stalled) == len(held(w)): wake(w, stalled[-1], "stalled")  # J7
    if w.state == "draining": drain_on(w)
def wait_over(w, a, targets):  # L4
    return "mail" if unread(w, a) else "target" if any([over(w, target) for target in targets]) else None
def ask(w):  # J1
    for m in w.mail if w.state == "open" else ():
        if m.wants and w.phase[m.to] in IDLE:
            w.phase[m.to], w.turn[m.to], w.since[m.to] = "queued", w.turn[m.to] + 1, stamp(w)
            w.due.pop(("idle", m.to), None)
def admit(w):  # J2
    for a in first(w, "queued"):
        if a == ROOT or w.caps.live or len(held(w)) < w.caps.slots:
            w.phase[a], w.since[a] = "starting", stamp(w)
            return True
def advance(w):
    for a in first(w, "starting"):
        if w.place[a] == "in":  # J3
            w.phase[a] = "running"
            w.out.append(("start", a, w.turn[a], w.load[a], read(w, a))), has_what_it_needs(w, a)
        elif w.place[a] == "out" and not crowded(w):  # J4
            w.place[a], w.load[a], w.due["load", a] = "loading", w.load[a] + 1, (w.now + w.caps.load_timeout, stamp(w))
            w.out.append(("load", a, w.load[a])), has_what_it_needs(w, a)
        elif w.place[a] == "leaving":  # J6
            w.place[a] = "in"
            del w.flush[a], w.serves[a], w.due["flush", a]
        elif w.place[a] == "out" and a not in w.serves.values():  # J5
            spare = [x for x, serves in w.serves.items() if serves is None]
            victims = sorted([v for v in evictable(w) if v not in w.tried.get(a, ())], key=lambda v: wanted(w, v))  # N2
            if spare: w.serves[spare[0]] = a
            elif victims: evict(w, victims[0], a)
            elif [b for b in w.path if w.place[b] in ("loading", "leaving") and b not in held(w)]: continue
            else: end(w, a, "errored")
        else: continue
        return True
def drain_on(w):
    w.to_flush = {a for a in w.to_flush if w.place[a] == "in"}
    for a in [a for a in w.to_flush if w.phase[a] not in ACTIVE and a not in w.flush]: w.to_flush -= {a}; flush(w, a)
    if not w.to_flush and not w.flush:
        w.state, w.due = "closed", {}
        for a in w.path: drop(w, a)
        w.out.append(("shut down", *w.lists))


REPORTS = ("loaded", "flushed", "ended", "died")
EVENTS = {rule.__name__: rule for rule in (spawn, send, drain, interrupt, close, resume, wait, stop_waiting, shutdown,
                                           loaded, flushed, ended, died, tick, write_failed, restart)}
