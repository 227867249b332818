"""The complete alphabet: in any state each event class, about every agent that there is, was or never was, by every
sender, with every number that is current, earlier, to come or another's.

A scope offers what its author thought of. Here nothing is left out because it "cannot happen": a report with the
current number where nothing runs, an operation by a closed agent or below one, a death during a shutdown, a tick
between two deadlines. Most are refused or stale, and must leave nothing behind.

What does not bear on who and when is not multiplied: texts that are refused come from the host alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from statemachine.core import events as ev
from statemachine.core.events import HOST
from statemachine.core.machines import STARTED
from statemachine.core.session import Session

from .lockstep import AnyEvent, Restart


def complete(s: Session) -> Iterator[AnyEvent]:
    """Yields every event of the alphabet in this state, each once."""
    known = range(len(s.agents))
    agents = (*known, len(s.agents), HOST)
    senders = (HOST, *known, len(s.agents))
    yield from operations(s, agents, senders)
    for agent in agents:
        turns, generations = numbers_of(s, agent, "turn"), numbers_of(s, agent, "generation")
        yield from turn_operations(s, agent, agents, turns)
        yield from reports(s, agent, turns, generations)
    yield from of_session(s)


def operations(s: Session, agents: Iterable[int], senders: Iterable[int]) -> Iterator[AnyEvent]:
    """What any sender asks about any agent."""
    taken = list(dict.fromkeys([a.path.rpartition("/")[2] for a in s.agents[1:] if a.path]))
    for target in agents:
        for name in (*taken, "new"):
            yield from (ev.Spawn(target, name, "m", None, sender) for sender in senders)
        yield ev.Spawn(target, "new", "m")
        for sender in senders:
            yield ev.Send(sender, target, "m")
            yield ev.FollowUp(sender, target, "m")
            yield ev.Interrupt(sender, target)
            yield ev.Interrupt(sender, target, subtree=True)
            yield ev.Close(sender, target)
            yield ev.Resume(sender, target)
        yield ev.Start(target, "m")
        yield ev.Forget(target)
        yield from (ev.Spawn(target, "root", "m"), ev.Spawn(target, "", "m"), ev.Spawn(target, "new", ""))
        yield from (ev.Send(HOST, target, ""), ev.FollowUp(HOST, target, ""), ev.Start(target, ""))
    for mail in mails(s):
        yield from (ev.Withdraw(sender, mail) for sender in senders)


def turn_operations(s: Session, agent: int, agents: Iterable[int], turns: Iterable[int]) -> Iterator[AnyEvent]:
    """What the code of any turn asks for, over or not."""
    found = s.agent(agent)
    numbers = sorted({0, s.waits.last, s.waits.last + 1, *s.waits.pending, *(n for n, _ in over(s))})
    for turn in turns:
        yield ev.Drain(agent, turn)
        yield from (ev.StopWaiting(agent, turn, number) for number in numbers)
        yield ev.Wait(agent, turn, 1.0)
        if found is not None and turn == found.turn and found.status in STARTED:
            yield from waits(s, agent, turn, agents)


def waits(s: Session, agent: int, turn: int, agents: Iterable[int]) -> Iterator[AnyEvent]:
    """Whatever a turn may wait for, and for how long."""
    for timeout in (None, 0.0, s.config.max_wait, s.config.max_wait + 1, -1.0, math.nan):
        yield ev.Wait(agent, turn, timeout)
        yield ev.Wait(agent, turn, timeout, mail=False)
        yield from (ev.Wait(agent, turn, timeout, (), (mail,), mail=False) for mail in mails(s))
    yield from (ev.Wait(agent, turn, timeout, (target,)) for target in agents for timeout in (None, 1.0))
    everything = tuple(range(s.ledger.next_mail))
    for mode in ev.WaitMode:
        yield ev.Wait(agent, turn, None, (), everything, mode, mail=False)
        yield ev.Wait(agent, turn, None, (), tuple(s.ledger.requests), mode, mail=False)


def reports(s: Session, agent: int, turns: Iterable[int], generations: Iterable[int]) -> Iterator[AnyEvent]:
    """What any thread reports, of any generation, turn and flush."""
    last = s.residents.last_flush
    flushes = sorted({last + 1, last, max(0, last - 1), *s.residents.flushes.values()})
    for generation in generations:
        yield ev.Loaded(agent, generation)
        yield ev.LoadFailed(agent, generation, "e")
        yield ev.Died(agent, generation, "e")
        for flush in flushes:
            yield ev.Flushed(agent, generation, flush)
            yield ev.FlushFailed(agent, generation, flush, "e")
    for turn in turns:
        yield ev.Finished(agent, turn, "r")
        yield ev.Failed(agent, turn, "e")
        yield ev.Aborted(agent, turn)


def of_session(s: Session) -> Iterator[AnyEvent]:
    """Shutdowns, time, and misfortune."""
    yield from (ev.Shutdown(grace) for grace in (0.0, 1.0, 9.0, -1.0, math.inf, math.nan))
    due = sorted({at for at, _ in s.deadlines.pending.values()})
    moments = {s.now, s.now - 1, *(at + apart for at in (s.now, *due) for apart in (-0.25, 0.0, 0.25))}
    yield from (ev.Tick(at) for at in (*sorted(moments), math.inf, math.nan))
    yield from (ev.WriteFailed("full"), Restart())


def numbers_of(s: Session, agent: int, name: str) -> list[int]:
    """The numbers of turns, or of generations, to try for an agent: its own, the one before, the next, and those of
    the others.
    """
    found = s.agent(agent)
    numbers = {getattr(other, name) for other in s.agents}
    if found is not None:
        own = getattr(found, name)
        numbers |= {own, own + 1, max(0, own - 1)}
    return sorted(numbers)


def mails(s: Session) -> range:
    """The numbers of all mails, and one that is not given yet."""
    return range(-1, s.ledger.next_mail + 1)


def over(s: Session) -> list[tuple[int, object]]:
    """The waits that are over, and of which their turns are not told yet."""
    return [told for agent in s.waits.over.values() for told in agent]
