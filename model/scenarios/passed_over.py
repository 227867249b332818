"""Counts the events of a trace that changed nothing, and words the verdict of a trace that has no deviation.

Four kinds of events change nothing. A request that was *refused* is judged: the reference refuses it too. A report
that is *late* answers what the core had asked for, once, and does not need any more: the turn was closed meanwhile, the
load was given up. Every runtime has such reports, and the rules say that they change nothing (S9). A report that is
*unasked* answers what the core never asked for, or what was answered before. No rule says what it means, so nothing is
judged of it, and a trace that has one has not held. Nor has one with a tick of a *wrong time*: in the past, infinite or
not a number. The core's clock stands still at it, and goes on only with a time that is later than all before. What took
longer than its bound meanwhile was not ended, and the trace looks as if it had been in time. An equal time is right.

A clock or a crash alone (`Tick`, `Restart`) that moves nothing is not an event in which something could be wrong: a
trace of those has nothing to judge.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from attrs import define, field

from statemachine.core import effects as fx
from statemachine.core import events as ev
from statemachine.core.effects import Refused, Stale, Step
from statemachine.core.machines import SessionState, TurnState
from statemachine.core.session import Session
from statemachine.log import trace

from ..lockstep import AnyEvent, Restart

LOAD, FLUSH, TURN, THREAD = range(4)
Ask = tuple[int, ...]
"""What the core asks for, and what a report answers: one of the four above, an agent, and the number of its thread or
turn; of a flush, the number of the flush too.
"""


def asked_by(effect: fx.Effect) -> Ask | None:
    """Returns what an effect asks for, if a report answers it."""
    match effect:
        case fx.Load():
            return (LOAD, effect.agent, effect.generation)
        case fx.Flush():
            return (FLUSH, effect.agent, effect.generation, effect.flush)
        case fx.StartTurn():
            return (TURN, effect.agent, effect.turn)
    return None


def answered_by(event: AnyEvent) -> Ask | None:
    """Returns what a report answers; None for what is not one. That a thread is lost is always asked for, once."""
    match event:
        case ev.Loaded() | ev.LoadFailed():
            return (LOAD, event.agent, event.generation)
        case ev.Flushed() | ev.FlushFailed():
            return (FLUSH, event.agent, event.generation, event.flush)
        case ev.Finished() | ev.Failed() | ev.Aborted():
            return (TURN, event.agent, event.turn)
        case ev.Died():
            return (THREAD, event.agent, event.generation)
    return None


@define
class Asked:
    """What the core has asked for and is not answered yet, and the threads that were told to be lost."""

    pending: set[Ask] = field(factory=set[Ask])
    lost: set[Ask] = field(factory=set[Ask])

    def take(self, event: AnyEvent, step: Step, after: Session) -> bool:
        """Takes an event and its step. Returns whether the event, if it is a report, answers what was asked."""
        if isinstance(event, Restart):  # no thread of the process is left to answer
            self.pending.clear()
            self.lost.clear()
        answer = answered_by(event)
        is_asked = answer is None or self.is_asked(answer, event, after)
        if answer is not None and is_asked:
            self.pending.discard(answer)
            if answer[0] == THREAD:
                self.lost.add(answer)
        self.pending.update(ask for effect in step.effects if (ask := asked_by(effect)) is not None)
        return is_asked

    def is_asked(self, answer: Ask, event: AnyEvent, after: Session) -> bool:
        """Tells whether this was asked for, and not answered before."""
        kind, number, of, *_ = answer
        if kind == THREAD:
            known = 0 <= number < len(after.agents) and of <= after.agents[number].generation
            return known and of >= (number != ev.ROOT) and answer not in self.lost
        if answer not in self.pending:
            return False
        # A turn that goes on was not asked to stop. None does in a session that has failed or is closed.
        agent, goes_on = after.agents[number], after.state in (SessionState.OPEN, SessionState.DRAINING)
        is_running = goes_on and agent.turn == of and agent.status >= TurnState.RUNNING
        return not (isinstance(event, ev.Aborted) and is_running)


def is_wrong_time(event: AnyEvent, after: Session) -> bool:
    """Tells whether this is a tick at which the clock stood still, and not because no time had passed. `after` is the
    session after it.
    """
    return isinstance(event, ev.Tick) and not after.now <= event.now < math.inf


@define
class Events:
    """The events of one kind that changed nothing."""

    count: int = 0
    first: int = 0
    """Number of the first of them."""
    event: str = ""
    """The first of them, as JSON."""

    def add(self, number: int, event: AnyEvent) -> None:
        """Adds an event."""
        self.count += 1
        if self.count == 1:
            self.first, self.event = number, trace.event_line(event).decode().rstrip("\n")

    def told(self, what: str) -> Iterator[str]:
        """Yields lines about them, if there are any; `what` is what was the matter with them."""
        if self.count:
            yield f"{counted(self.count)} {what}; the first is event {self.first:,}:"
            yield f"    {self.event}"


@define
class PassedOver:
    """Counts the events that changed nothing, by kind."""

    refused: Events = field(factory=Events)
    late: Events = field(factory=Events)
    unasked: Events = field(factory=Events)
    wrong_time: Events = field(factory=Events)
    idle: int = 0
    """Ticks and crashes that moved nothing."""
    asked: Asked = field(factory=Asked)
    new: list[tuple[Events, int, AnyEvent]] = field(factory=list[tuple[Events, int, AnyEvent]])
    """What is not counted yet."""

    def begin(self, step: Step | None) -> None:
        """Takes what a session that is recovered asks for, when it begins."""
        self.asked.pending.update(ask for e in (step.effects if step else ()) if (ask := asked_by(e)) is not None)

    def take(self, number: int, event: AnyEvent, step: Step, after: Session) -> None:
        """Takes an event, its step and the session after it."""
        is_asked = self.asked.take(event, step, after)
        self.idle += isinstance(event, ev.Tick | Restart) and not step.records and not step.effects
        if isinstance(step.reply, Refused):
            self.new.append((self.refused, number, event))
        elif isinstance(step.reply, Stale):
            self.new.append((self.late if is_asked else self.unasked, number, event))
        elif is_wrong_time(event, after):
            self.new.append((self.wrong_time, number, event))

    def count(self, before: int | None = None) -> None:
        """Counts what is new; or of it, only what came before the event with this number."""
        for kind, number, event in self.new:
            if before is None or number < before:
                kind.add(number, event)
        self.new.clear()

    def lines(self) -> Iterator[str]:
        """Yields lines about what changed nothing."""
        yield from self.late.told("stale because late, and changed nothing")
        yield from self.unasked.told("stale because not asked for, and changed nothing")
        yield from self.wrong_time.told("told a time in the past, or none, and moved no clock")
        yield from self.refused.told("refused, and changed nothing")

    @property
    def wrong(self) -> int:
        """Returns how many events keep a trace from holding."""
        return self.unasked.count + self.wrong_time.count

    def held(self, events: int) -> bool:
        """Tells whether a trace of so many events, without a deviation, has held, and has something that could."""
        return not self.wrong and events > self.late.count + self.refused.count + self.idle

    def said_of(self, events: int) -> str:
        """Returns how many of so many events held."""
        if not self.wrong:
            return f"{counted(events)} held"
        return f"only {events - self.wrong:,} of {counted(events)} held"

    def verdict(self, events: int) -> str:
        """Returns the last line about a trace of so many events without a deviation. It does not praise what the core
        passed over.
        """
        late, refused = self.late.count, self.refused.count
        also = f"{late:,} stale because late, {refused:,} refused" if late else f"none stale, {refused:,} refused"
        if self.wrong:
            rest = f"{late:,} stale because late, {refused:,} refused"
            return f"verdict: {self.said_of(events).upper()}, {'; '.join([*self.reproaches(), rest])}"
        if not events:
            return "verdict: NOTHING TO JUDGE, the trace has no events"
        if not self.held(events):
            return f"verdict: NOTHING TO JUDGE, no event had an effect: {also}"
        return f"verdict: HELD, {counted(events)}, {also}"

    def reproaches(self) -> Iterator[str]:
        """Yields what keeps the trace from holding, and what was not judged because of it."""
        if unasked := self.unasked.count:
            was = "WAS" if unasked == 1 else "WERE"
            yield (
                f"{unasked:,} {was} STALE: the core passed over what its runtime reported without being asked, so "
                "nothing was judged of that"
            )
        if wrong := self.wrong_time.count:
            yield (
                f"{wrong:,} TOLD A WRONG TIME: the core passed over times in the past, so no bound was judged until "
                "the clock had caught up"
            )


def counted(events: int) -> str:
    """Returns a number of events in words."""
    return f"{events:,} event{'s' * (events != 1)}"
