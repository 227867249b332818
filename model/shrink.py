"""A failing scenario made short: fewer events, plainer events, plainer configuration, and still the same verdict.

Works on the lines of `model/script.py`, not on events. A line names agents by their path and means the turn, thread or
flush that is current when it is played, so leaving one out shifts no number in the others; a line that makes no sense
any more is skipped. What no line can say stays as it is. Every attempt plays the whole scenario again, which takes a
fraction of a millisecond an event; Hypothesis, which shrinks the numbers that events were drawn from, needs hundreds of
times as long and ends with more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import attrs

from model import lockstep, script
from model.lockstep import AnyEvent
from model.replay import Trial, Verdict, verdict_of
from statemachine.config import SessionConfig
from statemachine.refusals import InvalidConfig
from statemachine.session import Session

ATTEMPTS_MAX = 3000
"""Scenarios played while shrinking one."""

Move = str | AnyEvent
"""An event to come: a line that says it, or the event itself."""
Scenario = tuple[SessionConfig, tuple[AnyEvent, ...]]


def judge(config: SessionConfig, moves: Iterable[Move]) -> tuple[tuple[AnyEvent, ...], Verdict] | None:
    """Plays a scenario: its events up to the first that breaks something, and what breaks. None: all held."""
    trial = Trial(config)
    played: list[AnyEvent] = []
    for move in moves:
        event = understood(move, trial.session)
        if event is None:
            continue
        played.append(event)
        try:
            trial.play(event)
        except Exception as error:  # a defect may raise anything
            return tuple(played), verdict_of(error)
    return None


def understood(move: Move, s: Session) -> AnyEvent | None:
    """The event that a move means here, if any."""
    if not isinstance(move, str):
        return move
    try:
        return script.parse(move, s)
    except (script.BadScript, IndexError):
        return None


def lines_of(config: SessionConfig, events: Iterable[AnyEvent]) -> list[Move]:
    """The events as moves."""
    session = Session(config)
    moves: list[Move] = []
    for event in events:
        line = script.line_of(event, session)
        moves.append(line if understood(line, session) == event else event)
        try:
            session, _ = lockstep.core_step(session, event)
        except Exception:  # the defect itself, at the end
            break
    return moves


def shrink(config: SessionConfig, events: Sequence[AnyEvent]) -> tuple[Scenario, Verdict] | None:
    """The shortest scenario found that breaks the same, and its verdict. None: this one breaks nothing."""
    found = judge(config, events)
    return None if found is None else Shrinker(config, *found).shrink()


class Shrinker:
    """One scenario on its way down."""

    def __init__(self, config: SessionConfig, events: tuple[AnyEvent, ...], verdict: Verdict) -> None:
        self.config, self.events, self.verdict = config, events, verdict
        self.moves: list[Move] = list(events)
        self.attempts = 0

    def shrink(self) -> tuple[Scenario, Verdict]:
        """Down, until nothing helps any more."""
        self.take(self.config, lines_of(self.config, self.events))
        while self.attempts < ATTEMPTS_MAX and (self.leave_out() | self.simplify() | self.configure()):
            pass
        return (self.config, self.events), self.verdict

    def take(self, config: SessionConfig, moves: Sequence[Move]) -> bool:
        """Takes this scenario instead, if it breaks the same."""
        self.attempts += 1
        found = judge(config, moves) if self.attempts <= ATTEMPTS_MAX else None
        if found is None or found[1].kind != self.verdict.kind:
            return False
        self.config, (self.events, self.verdict) = config, found
        self.moves = lines_of(config, self.events)
        return True

    def leave_out(self) -> bool:
        """Without this stretch of events? Long stretches first, from the end."""
        before, length = len(self.moves), max(1, len(self.moves) // 2)
        while length:
            end = len(self.moves)
            while end > 0:
                self.take(self.config, self.moves[: max(0, end - length)] + self.moves[end:])
                end = min(end - length, len(self.moves))
            length //= 2
        return len(self.moves) < before

    def simplify(self) -> bool:
        """With a plainer event in this place?"""
        simpler = False
        for index in range(len(self.moves)):
            for line in plainer(self.moves[index] if index < len(self.moves) else ""):
                if self.take(self.config, [*self.moves[:index], line, *self.moves[index + 1 :]]):
                    simpler = True
                    break
        return simpler

    def configure(self) -> bool:
        """With the default in this field of the configuration?"""
        simpler = False
        for field in attrs.fields(SessionConfig):
            ordinary: Any = self.config.execution_cap if field.name == "max_resident" else field.default
            if getattr(self.config, field.name) != ordinary:
                try:
                    config = attrs.evolve(self.config, **{field.name: ordinary})
                except InvalidConfig:
                    continue
                simpler |= self.take(config, self.moves)
        return simpler


def plainer(move: Move) -> Iterator[str]:
    """What could stand there instead: the host instead of an agent, nobody in particular, no targets."""
    if not isinstance(move, str):
        return
    verb, *words = move.split() or [""]
    if verb in ("send", "follow_up", "interrupt", "close", "resume") and words[0] != "host":
        yield f"{verb} host {words[1]}"
    if verb == "start":
        yield f"follow_up host {words[0]}"
    if verb == "spawn" and words[2:] not in ([], ["by", "host"]):
        yield f"spawn {words[0]} {words[1]} by host"
    if verb == "spawn" and words[2:]:
        yield f"spawn {words[0]} {words[1]}"
    if verb == "wait" and words[2:]:
        yield f"wait {words[0]} {words[1]}"
