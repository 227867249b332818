"""Shrinks a failing scenario: fewer events, plainer events, plainer configuration, and still the same verdict.

It works on the lines of `model/scenarios/script.py`, not on events. A line names agents by their path and means the
turn, thread or flush that is current when it is played, so leaving one out shifts no number in the others but those of
mail, which are counted anew; a line that makes no sense any more is skipped. An event that no line can express stays as
it is. Every attempt plays the whole scenario again, which takes a fraction of a millisecond an event; Hypothesis, which
shrinks the numbers that events were drawn from, needs hundreds of times as long and ends with a longer one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from string import ascii_lowercase
from typing import Any, Protocol

import attrs

from statemachine.core.config import SessionConfig
from statemachine.core.refusals import InvalidConfig
from statemachine.core.session import Session

from .. import lockstep
from ..lockstep import AnyEvent
from ..scenarios import script
from ..scenarios.replay import Trial, Verdict, verdict_of
from .own_rules import Call

EVENTS_MAX = 60_000
"""Most events played while shrinking one scenario: about half a minute."""
PAIRS_MAX = 24
"""Most events of a scenario for which trying to leave out any two is cheap."""

Played = AnyEvent | Call
"""What happens in a life."""
Move = str | Played
"""What is to come: an event as a line, or as itself, or a call of a subclass of `Fuzz`."""
Scenario = tuple[SessionConfig, tuple[AnyEvent, ...]]


class Life(Protocol):
    """What a scenario is played on."""

    @property
    def session(self) -> Session:
        """The session as it is now."""
        ...

    def play(self, move: Any) -> object:
        """Plays what happens. Raises if it fails."""

    def verdict(self, error: Exception) -> Verdict:
        """Returns the verdict for what `play` raised."""
        ...

    def end(self) -> None:
        """Ends it."""


class Judged:
    """A session that is judged at every step."""

    def __init__(self, config: SessionConfig) -> None:
        self.trial = Trial(config)
        self.play, self.verdict = self.trial.play, verdict_of

    @property
    def session(self) -> Session:
        """The session as it is now."""
        return self.trial.session

    def end(self) -> None:
        """Holds nothing."""


class Sketched:
    """A session alone, which takes a small part of the time."""

    def __init__(self, config: SessionConfig) -> None:
        self.session, self.verdict = Session(config), verdict_of

    def play(self, event: AnyEvent) -> None:
        """Plays an event. Raises what the core raises."""
        self.session, _ = lockstep.core_step(self.session, event)

    def end(self) -> None:
        """Holds nothing."""


Begin = Callable[[SessionConfig], Life]


def judge(
    config: SessionConfig, moves: Iterable[Move], begin: Begin = Judged
) -> tuple[tuple[Played, ...], Verdict] | None:
    """Plays a scenario. Returns what happened up to the first that fails, and the verdict; None: all held."""
    life = begin(config)
    played: list[Played] = []
    try:
        for move in moves:
            event = understood(move, life.session)
            if event is None:
                continue
            played.append(event)
            try:
                life.play(event)
            except Exception as error:  # a defect may raise anything
                return tuple(played), life.verdict(error)
    finally:
        life.end()
    return None


def understood(move: Move, s: Session) -> Played | None:
    """Returns what a move means here, if anything."""
    if not isinstance(move, str):
        return move
    try:
        return script.parse(move, s)
    except (script.BadScript, IndexError):
        return None


def lines_of(config: SessionConfig, played: Iterable[Played], begin: Begin = Sketched) -> tuple[list[Move], list[int]]:
    """Returns what happened as moves, and the number of the next mail before each."""
    life = begin(config)
    moves: list[Move] = []
    mails: list[int] = []
    try:
        for event in played:
            mails.append(life.session.ledger.next_mail)
            moves.append(event if isinstance(event, Call) else line_if_exact(event, life.session))
            try:
                life.play(event)
            except Exception:  # the defect itself, at the end
                break
    finally:
        life.end()
    return moves, mails


def line_if_exact(event: AnyEvent, s: Session) -> Move:
    """Returns the event as a line, if that says all of it."""
    line = script.line_of(event, s)
    return line if understood(line, s) == event else event


def shrink(config: SessionConfig, events: Sequence[AnyEvent]) -> tuple[Scenario, Verdict] | None:
    """Returns the shortest scenario found that fails alike, and its verdict. None: this one does not fail."""
    found = judge(config, events)
    return None if found is None else Shrinker(config, *found).shrink()


class Shrinker:
    """One scenario that is being shrunk. `begin` begins the lives that are judged, `sketch` those in which events
    become lines.
    """

    def __init__(
        self,
        config: SessionConfig,
        events: tuple[Played, ...],
        verdict: Verdict,
        begin: Begin = Judged,
        sketch: Begin = Sketched,
        *,
        keeps_config: bool = False,
    ) -> None:
        self.config, self.events, self.verdict = config, events, verdict
        self.begin, self.sketch, self.keeps_config = begin, sketch, keeps_config
        self.moves: list[Move] = list(events)
        self.mails: list[int] = []
        self.events_left = EVENTS_MAX

    def shrink(self) -> tuple[Scenario, Verdict]:
        """Shrinks a scenario of events. Returns it, and its verdict."""
        config, played = self.shrunk()
        return (config, tuple([event for event in played if not isinstance(event, Call)])), self.verdict

    def shrunk(self) -> tuple[SessionConfig, tuple[Played, ...]]:
        """Shrinks until no attempt helps any more."""
        self.take(self.config, lines_of(self.config, self.events, self.sketch)[0])
        while self.events_left > 0 and (
            self.leave_out() | self.simplify() | self.configure() or self.leave_out_two() or self.lower()
        ):
            pass
        self.take(self.config, renamed(self.moves))
        return self.config, self.events

    def take(self, config: SessionConfig, moves: Sequence[Move]) -> bool:
        """Takes this scenario instead if it fails alike. Returns whether it did."""
        found = judge(config, moves, self.begin) if self.events_left > 0 else None
        self.events_left -= len(moves)
        if found is None or found[1].kind != self.verdict.kind:
            return False
        self.config, (self.events, self.verdict) = config, found
        self.moves, self.mails = lines_of(config, self.events, self.sketch)
        return True

    def leave_out(self) -> bool:
        """Tries to leave out stretches of events, long ones first, from the end."""
        before, length = len(self.moves), max(1, len(self.moves) // 2)
        while length:
            end = len(self.moves)
            while end > 0:
                self.take(self.config, self.without(range(max(0, end - length), end)))
                end = min(end - length, len(self.moves))
            length //= 2
        return len(self.moves) < before

    def leave_out_two(self) -> bool:
        """Tries to leave out two events: they may need each other, or one may be there only for the other."""
        pairs = combinations(range(len(self.moves)), 2) if len(self.moves) <= PAIRS_MAX else ()
        return any(self.take(self.config, self.without(pair)) for pair in pairs)

    def lower(self) -> bool:
        """Tries a residency slot less: then one agent less may do, which is up to two events. Returns whether there are
        fewer events; if not, all is as before, since `configure` would only take the slot back, and so without end.
        """
        if self.keeps_config:
            return False
        first, before = self.config, len(self.moves)
        try:
            config = attrs.evolve(self.config, max_resident=self.config.max_resident - 1)
        except InvalidConfig:
            return False
        few = range(3) if len(self.moves) <= PAIRS_MAX else range(1)
        if any(
            self.take(config, self.without(gone)) for size in few for gone in combinations(range(len(self.moves)), size)
        ):
            if len(self.moves) < before or self.leave_out() or self.leave_out_two():
                return True
            self.take(first, self.moves)
        return False

    def without(self, gone: Collection[int]) -> list[Move]:
        """Returns the moves without these, with the numbers that the mail has then."""
        new: dict[str, str] = {}
        lower = 0
        kept: list[Move] = []
        for index, move in enumerate(self.moves):
            accepted = range(
                self.mails[index], self.mails[index + 1] if index + 1 < len(self.mails) else self.mails[index]
            )
            if index in gone:
                lower += len(accepted)
                continue
            new |= {str(mail): str(mail - lower) for mail in accepted}
            kept.append(renumbered(move, new))
        return kept

    def simplify(self) -> bool:
        """Tries plainer events in each place."""
        simpler = False
        for index in range(len(self.moves)):
            for moves in plainer(self.moves, index):
                if self.take(self.config, moves):
                    simpler = True
                    break
        return simpler

    def configure(self) -> bool:
        """Tries the default in each field of the configuration."""
        if self.keeps_config:
            return False
        simpler = False
        for field in attrs.fields(SessionConfig):
            default = SessionConfig(max_concurrent=self.config.max_concurrent)  # others depend on it
            ordinary: Any = field.default if field.name == "max_concurrent" else getattr(default, field.name)
            if getattr(self.config, field.name) != ordinary:
                try:
                    config = attrs.evolve(self.config, **{field.name: ordinary})
                except InvalidConfig:
                    continue
                simpler |= self.take(config, self.moves)
        return simpler


def plainer(moves: list[Move], index: int) -> Iterator[list[Move]]:
    """Yields the moves with a plainer event at this place: the host instead of an agent, no sender, fewer targets, a
    child of the root instead of another's."""
    move = moves[index] if index < len(moves) else None
    if not isinstance(move, str):
        return
    verb, *words = move.split()
    lines: list[str] = []
    if verb in ("send", "follow_up", "interrupt", "close", "resume") and words[0] != "host":
        lines = [f"{verb} host {words[1]}"]
    elif verb == "start":
        lines = [f"follow_up host {words[0]}"]
    elif verb == "interrupt" and words[2:]:
        lines = [f"{verb} host {words[1]}"]
    elif verb in ("wait", "await"):
        first = 2 if verb == "wait" else 1
        lines = [" ".join([verb, *words[:place], *words[place + 1 :]]) for place in range(first, len(words))]
    elif verb == "spawn":
        lines = [f"spawn {words[0]} {words[1]} by host", f"spawn {words[0]} {words[1]}"][words[2:] == ["by", "host"] :]
        lines = lines if words[2:] else []
    for line in lines:
        yield [*moves[:index], line, *moves[index + 1 :]]
    if verb == "spawn" and words[0] != "root":
        yield moved_up(moves, index, words)


def moved_up(moves: list[Move], index: int, words: list[str]) -> list[Move]:
    """Returns the moves with the agent of this line spawned as a child of the root, under an unused name."""
    parent, name, *rest = words
    fresh = next((letter for letter in ascii_lowercase if letter not in names_in(moves)), name)
    old = f"{parent}/{name}"

    def moved(word: str) -> str:
        return fresh + word.removeprefix(old) if word == old or word.startswith(f"{old}/") else word

    others = [" ".join(map(moved, move.split(" "))) if isinstance(move, str) else move for move in moves]
    return [*others[:index], " ".join(["spawn", "root", fresh, *rest]), *others[index + 1 :]]


def renumbered(move: Move, new: Mapping[str, str]) -> Move:
    """Returns the move with other numbers of mail."""
    if not isinstance(move, str) or not move.startswith(("await ", "withdraw ")):
        return move
    verb, who, *words = move.split()
    keep = 2 if words[:1] == ["within"] else 0  # a time
    return " ".join([verb, who, *words[:keep], *[new.get(word, word) for word in words[keep:]]])


def renamed(moves: list[Move]) -> list[Move]:
    """Returns the moves with the names a, b, c ... in the order in which they first occur."""
    new = dict(zip(names_in(moves), ascii_lowercase, strict=False))

    def rename(word: str) -> str:
        return "/".join(new.get(name, name) for name in word.split("/"))

    return [
        " ".join([move.split(" ")[0], *map(rename, move.split(" ")[1:])]) if isinstance(move, str) else move
        for move in moves
    ]


def names_in(moves: list[Move]) -> list[str]:
    """Returns the names of all agents, in the order in which they are spawned."""
    spawns = [move.split() for move in moves if isinstance(move, str) and move.startswith("spawn ")]
    return list(dict.fromkeys(words[2] for words in spawns))
