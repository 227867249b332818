"""Reads and writes scenarios as short programs for people, one event a line.

    spawn root a            spawn root/a b by host      send host a        follow_up root a     start root
    drain a                 wait a 5 b c                interrupt host a   close host a         resume host a
    stop_waiting a 1        interrupt host a subtree    withdraw host 3    forget a             await a 3 4 all
    loaded a                load_failed a               flushed a          flush_failed a       died a
    finished a              failed a                    aborted a          tick 2.5             shutdown 5
    status a                list                        restart            write_failed

Agents are named by their path below the root; `root` and `host` are themselves. A report is about the thread, turn or
flush that is current, unless a number follows: `finished a 1` is turn 1, `loaded a 2` generation 2. A closed agent is
found by its path too, or by `#` and its id when another agent has the path now. `tick 2.5` is 2.5 seconds later.
`wait a 5 b` is a wait for mail or b, `wait a 5 quiet b` one for b alone, `wait a - quiet` one by choice. `await a 3 4`
is a wait without a timeout on the requests 3 and 4: for one of them, or for `all`; `await a within 5 3` has a timeout.
`parse` makes an event of a line, `line_of` a line of an event. Blank lines and what follows `--` are comments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from statemachine.checking.view import name
from statemachine.core import events as ev
from statemachine.core.agents import Agent
from statemachine.core.events import HOST, ROOT
from statemachine.core.machines import Identity
from statemachine.core.session import Session

from ..lockstep import AnyEvent, Restart


class BadScript(ValueError):
    """The line is not an event; the message says why."""


def parse(line: str, s: Session) -> AnyEvent:
    """Returns the event that the line means in the present state of the session. Raises `BadScript`."""
    verb, *words = line.split("--", maxsplit=1)[0].split() or [""]
    make = VERBS.get(verb)
    if make is None:
        raise BadScript(f"'{verb}' is not an event; there are {', '.join(VERBS)}")
    try:
        return make(s, *words)
    except (TypeError, ValueError, LookupError) as error:
        why = str(error).split("() ")[-1].replace("positional argument", "word")
        raise BadScript(f"'{line.strip()}': {why}") from None


def agent(s: Session, word: str) -> int:
    """Returns the id of a named agent. An open agent wins over closed ones with its path, a younger one over older."""
    if word in ("host", "root"):
        return HOST if word == "host" else ROOT
    if word.startswith("#"):
        return int(word[1:])
    path = f"/root/{word}"
    ids = [a.id for a in s.agents if a.path == path]
    found = s.find(path)
    if found is None and not ids:
        raise BadScript(f"no agent has the path {path}")
    return ids[-1] if found is None else found


def known(s: Session, word: str) -> Agent:
    """Returns the named agent, which must exist: a report without a number is about its current turn or thread."""
    a = agent(s, word)
    if not 0 <= a < len(s.agents):
        raise BadScript(f"'{word}' has no thread and no turn")
    return s.agents[a]


def _spawn(s: Session, parent: str, child: str, by: str = "by", sender: str = "") -> ev.Event:
    if by != "by":
        raise BadScript("spawn PARENT NAME [by SENDER]")
    parent = parent.removeprefix("root/")
    return ev.Spawn(agent(s, parent), child, "work", f"settings of {child}", agent(s, sender) if sender else None)


def _thread(kind: Callable[..., ev.Event], *rest: str) -> Callable[..., ev.Event]:
    def make(s: Session, who: str, generation: str = "") -> ev.Event:
        number = int(generation) if generation else known(s, who).generation
        return kind(agent(s, who), number, *rest)

    return make


def _flush(kind: Callable[..., ev.Event], *rest: str) -> Callable[..., ev.Event]:
    def make(s: Session, who: str, flush: str = "") -> ev.Event:
        a = known(s, who)
        return kind(a.id, a.generation, int(flush) if flush else s.residents.flushes.get(a.id, 0), *rest)

    return make


def _turn(kind: Callable[..., ev.Event], *rest: str) -> Callable[..., ev.Event]:
    def make(s: Session, who: str, turn: str = "") -> ev.Event:
        return kind(agent(s, who), int(turn) if turn else known(s, who).turn, *rest)

    return make


def _wait(s: Session, who: str, timeout: str, *words: str) -> ev.Event:
    a, mail = known(s, who), words[:1] != ("quiet",)
    targets = tuple(agent(s, target) for target in (words if mail else words[1:]))
    return ev.Wait(a.id, a.turn, None if timeout == "-" else float(timeout), targets, mail=mail)


def _await(s: Session, who: str, *words: str) -> ev.Event:
    a, timeout = known(s, who), None
    if words[:1] == ("within",):
        timeout, words = float(words[1]), words[2:]
    mode = ev.WaitMode.ALL if words[-1:] == ("all",) else ev.WaitMode.ANY
    requests = tuple(int(word) for word in words if word != "all")
    return ev.Wait(a.id, a.turn, timeout, (), requests, mode, mail=False)


def _interrupt(s: Session, sender: str, target: str, subtree: str = "") -> ev.Event:
    if subtree not in ("", "subtree"):
        raise BadScript("interrupt SENDER TARGET [subtree]")
    return ev.Interrupt(agent(s, sender), agent(s, target), subtree == "subtree")


def _stop_waiting(s: Session, who: str, wait: str = "") -> ev.Event:
    a = known(s, who)
    last = max(s.waits.of_agent.get(a.id, ()), default=0)
    return ev.StopWaiting(a.id, a.turn, int(wait) if wait else last)


VERBS: dict[str, Callable[..., AnyEvent]] = {
    "spawn": _spawn,
    "send": lambda s, a, b: ev.Send(agent(s, a), agent(s, b), "note"),
    "follow_up": lambda s, a, b: ev.FollowUp(agent(s, a), agent(s, b), "work"),
    "start": lambda s, a: ev.Start(agent(s, a), "work"),
    "drain": _turn(ev.Drain),
    "wait": _wait,
    "await": _await,
    "stop_waiting": _stop_waiting,
    "withdraw": lambda s, a, mail: ev.Withdraw(agent(s, a), int(mail)),
    "forget": lambda s, a: ev.Forget(agent(s, a)),
    "interrupt": _interrupt,
    "close": lambda s, a, b: ev.Close(agent(s, a), agent(s, b)),
    "resume": lambda s, a, b: ev.Resume(agent(s, a), agent(s, b)),
    "status": lambda s, a: ev.Status(agent(s, a)),
    "list": lambda _, prefix="/root": ev.ListAgents(prefix),
    "shutdown": lambda _, grace: ev.Shutdown(float(grace)),
    "loaded": _thread(ev.Loaded),
    "load_failed": _thread(ev.LoadFailed, "cannot load"),
    "flushed": _flush(ev.Flushed),
    "flush_failed": _flush(ev.FlushFailed, "cannot flush"),
    "finished": _turn(ev.Finished, "result"),
    "failed": _turn(ev.Failed, "error"),
    "aborted": _turn(ev.Aborted),
    "died": _thread(ev.Died, "lost"),
    "tick": lambda s, seconds: ev.Tick(s.now + float(seconds)),
    "write_failed": lambda _: ev.WriteFailed("disk full"),
    "restart": lambda _: Restart(),
}
"""Verb -> the function that makes the event of its words."""


def line_of(event: AnyEvent, s: Session) -> str:
    """Returns the line for an event that comes next to this session; `parse` makes an event of the same effect."""
    words = WORDS[event.__class__](event, s)
    return " ".join(str(word) for word in words if word != "")


def _n(s: Session, a: int) -> str:
    found = s.agent(a)
    if a != HOST and (found is None or found.identity is Identity.FORGOTTEN):  # which has no path any more
        return f"#{a}"
    word = name(s, a)
    return word if a in (HOST, ROOT) or agent(s, word) == a else f"#{a}"


def _unless(number: int, current: int | None) -> str:
    return "" if number == current else str(number)


def _generation(s: Session, a: int, number: int) -> str:
    found = s.agent(a)
    return _unless(number, None if found is None else found.generation)


def _turn_number(s: Session, a: int, number: int) -> str:
    found = s.agent(a)
    return _unless(number, None if found is None else found.turn)


def _thread_words(verb: str) -> Callable[[Any, Session], tuple[Any, ...]]:
    return lambda e, s: (verb, _n(s, e.agent), _generation(s, e.agent, e.generation))


def _flush_words(verb: str) -> Callable[[Any, Session], tuple[Any, ...]]:
    return lambda e, s: (verb, _n(s, e.agent), _unless(e.flush, s.residents.flushes.get(e.agent, 0)))


def _turn_words(verb: str) -> Callable[[Any, Session], tuple[Any, ...]]:
    return lambda e, s: (verb, _n(s, e.agent), _turn_number(s, e.agent, e.turn))


def _pair_words(verb: str) -> Callable[[Any, Session], tuple[Any, ...]]:
    return lambda e, s: (verb, _n(s, e.sender), _n(s, e.target))


def _wait_words(e: ev.Wait, s: Session) -> tuple[Any, ...]:
    seconds = "-" if e.timeout is None else f"{e.timeout:g}"
    if not e.requests:
        return ("wait", _n(s, e.agent), seconds, *(() if e.mail else ("quiet",)), *[_n(s, t) for t in e.targets])
    within = () if e.timeout is None else ("within", seconds)
    return ("await", _n(s, e.agent), *within, *e.requests, "all" if e.mode is ev.WaitMode.ALL else "")


WORDS: dict[type, Callable[[Any, Session], tuple[Any, ...]]] = {
    ev.Spawn: lambda e, s: (
        *("spawn", _n(s, e.parent), e.name),
        *(() if e.sender is None else ("by", _n(s, e.sender))),
    ),
    ev.Send: _pair_words("send"),
    ev.FollowUp: _pair_words("follow_up"),
    ev.Start: lambda e, s: ("start", _n(s, e.target)),
    ev.Drain: _turn_words("drain"),
    ev.Wait: _wait_words,
    ev.StopWaiting: lambda e, s: ("stop_waiting", _n(s, e.agent), e.wait),
    ev.Withdraw: lambda e, s: ("withdraw", _n(s, e.sender), e.mail),
    ev.Forget: lambda e, s: ("forget", _n(s, e.target)),
    ev.Interrupt: lambda e, s: ("interrupt", _n(s, e.sender), _n(s, e.target), "subtree" if e.subtree else ""),
    ev.Close: _pair_words("close"),
    ev.Resume: _pair_words("resume"),
    ev.Status: lambda e, s: ("status", _n(s, e.target)),
    ev.ListAgents: lambda e, _: ("list", e.prefix),
    ev.Shutdown: lambda e, _: ("shutdown", f"{e.grace:g}"),
    ev.Loaded: _thread_words("loaded"),
    ev.LoadFailed: _thread_words("load_failed"),
    ev.Flushed: _flush_words("flushed"),
    ev.FlushFailed: _flush_words("flush_failed"),
    ev.Finished: _turn_words("finished"),
    ev.Failed: _turn_words("failed"),
    ev.Aborted: _turn_words("aborted"),
    ev.Died: _thread_words("died"),
    ev.Tick: lambda e, s: ("tick", f"{e.now - s.now:g}"),
    ev.WriteFailed: lambda *_: ("write_failed",),
    Restart: lambda *_: ("restart",),
}
"""Event class -> the words of its line."""
