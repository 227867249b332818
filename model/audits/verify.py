"""Verifies what a session left behind: its trace, or its database.

A *trace* has every event, so it is played again: core and reference in lockstep, every property at every step
(`model/scenarios/replay.py`). A *database* has no events, only what became of them. Its file is checked page by page,
and its log record by record (`model/audits/audit.py`): that a session could have written it, not that this one did what
it was asked.

Either way, the first deviation is named, and the last line is the verdict.

A trace holds if the core did what the rules say with every event in it, and there is one. Requests that were *refused*
are judged, and so are reports that came *late*, which every runtime has. One that was *not asked* for has not held,
because the runtime does something else than the core asked, and so has a tick that told a time in the past
(`model/scenarios/passed_over.py`).
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from attrs import frozen

from statemachine.checking import properties
from statemachine.core.config import SessionConfig
from statemachine.core.effects import Step
from statemachine.core.ledger import Ledger
from statemachine.core.machines import Identity
from statemachine.core.records import MailAccepted
from statemachine.log import receipts, trace
from statemachine.log.trace import TraceError
from statemachine.stores import places
from statemachine.stores.contents import Contents
from statemachine.stores.encoding import decode_facts, text_of
from statemachine.stores.errors import StoreCorrupt
from statemachine.stores.protocol import LogRecord
from statemachine.stores.rows import decode_at
from statemachine.stores.sqlite.schema import mark_of
from statemachine.stores.sqlite.translation import of_sqlite

from .. import lockstep, reference
from ..kept import follow
from ..lockstep import NEVER, AnyEvent
from ..scenarios.passed_over import PassedOver
from ..scenarios.replay import CUT, Trial, Verdict, begin, json_of, program_line, verdict_of
from .audit import Unsound, audit

FOLD_EVERY = 64
"""Events between two comparisons of the fold of the log with the session. If one fails, they are played again with a
comparison after each, to name the first.
"""

Progress = Callable[[int, int], object]
"""Called with the bytes judged so far, and all bytes."""


@frozen
class Result:
    """The verdict: `lines` say what was found, in reading order, and the last one comes to the verdict in words; `held`
    is whether all that was asked about held, and there was something to judge.
    """

    held: bool
    lines: tuple[str, ...]


def verify(place: str | Path, every: int, progress: Progress) -> Result:
    """Verifies a trace or a session. Raises `TraceError` or `StoreError` for a file that is neither.

    `every` is for traces: after how many events the state is judged. Replies and effects are compared after each.
    """
    if places.is_dsn(place):
        return verify_database(place)
    path = Path(place)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise TraceError("is not a regular file; give the path of a trace or of a session", None, str(path))
        is_database = mark_of(os.path.realpath(path)) is not None
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}; give the path of a trace or of a session"
        raise TraceError(problem, None, str(path)) from None
    except sqlite3.Error as error:
        raise of_sqlite(str(path), error) from error
    return verify_database(path) if is_database else verify_trace(path, every, progress)


# Traces


@frozen
class Deviates:
    """The first event of a trace that deviates; number 0 is the beginning."""

    number: int
    line: str
    """The event as a line of a program (`model/scenarios/script.py`)."""
    json: str
    verdict: Verdict


@frozen
class Played:
    """The number of events of a trace without a deviation, those among them that changed nothing, and what ended it."""

    events: int
    without: PassedOver
    deviates: Deviates | None
    is_cut: bool
    """Whether the last line is incomplete."""


def verify_trace(path: Path, every: int, progress: Progress) -> Result:
    """Plays the trace, up to the first event that deviates. Raises `TraceError` if it is not a trace."""
    played = play(path, every, progress)
    without = played.without
    if (found := played.deviates) is not None:
        where = f"event {found.number:,} deviates" if found.number else "the beginning deviates"
        event = (f"    {found.line}", f"    {found.json}") if found.number else ()
        before = f"    {without.said_of(played.events)} before it"
        hint = f"    step by step: statemachine replay {path}"
        verdict = f"verdict: FAILED at {f'event {found.number:,}' if found.number else 'the beginning'}"
        return Result(False, (f"{where}: {found.verdict}", *event, before, *without.lines(), hint, verdict))
    judged = "" if every == 1 else f" after every {every:,} events"
    said = f"{without.said_of(played.events)}: every property{judged}, and the core did what the reference does"
    lines = (said[: len(said) * bool(played.events)], *without.lines(), *([CUT] if played.is_cut else []))
    return Result(without.held(played.events), (*filter(None, lines), without.verdict(played.events)))


def play(path: Path, every: int, progress: Progress) -> Played:
    """Plays the trace line by line. Raises `TraceError` for an invalid line, unless it is the last one and cut off: a
    trace is written while its session runs.
    """
    size, number, is_cut = path.stat().st_size, 0, False
    with path.open("rb") as file:
        header = header_of(path, file)
        trial, deviates = begin(header.config, NEVER, header.facts), None
        if isinstance(trial, Verdict):
            return Played(0, PassedOver(), Deviates(0, "", "", trial), False)
        player = Player(trial, every)
        done = file.tell()
        for line in file:
            done += len(line)
            try:
                event = trace.event_of(line, header.version)
            except TraceError as error:
                is_cut = trace.is_cut_off(line)
                if is_cut:
                    break
                raise TraceError(f"{error.problem}; what is before it held", number + 2, str(path)) from None
            number += 1
            deviates = player.play(event)
            if deviates is not None:
                return player.played(deviates, False)
            progress(done, size)
    deviates = player.end_block()
    return player.played(deviates, is_cut)


class Player:
    """Plays events in blocks. Within a block, checks that are costly with many agents are left out; if anything
    deviates, the block is played again from its beginning, with every check after each event, which names the first
    deviation.
    """

    def __init__(self, trial: Trial, every: int) -> None:
        self.trial = trial
        self.every = every
        self.number = 0
        """Number of events before the block."""
        self.block: list[AnyEvent] = []
        self.without = PassedOver()
        self.without.begin(trial.step)
        self.checkpoint()

    def checkpoint(self) -> None:
        """Begins a block."""
        self.number += len(self.block)
        self.block = []
        trial = self.trial
        self.begun = trial.session.fork(), trial.world, trial.folded.copy()
        self.without.count()

    def play(self, event: AnyEvent) -> Deviates | None:
        """Plays one event. Returns the first of its block that deviates, once one does."""
        self.block.append(event)
        try:
            step = self.trial.play(event) if self.every == 1 else self.play_quickly(event)
        except Exception:  # a verdict, or a crash of the core, which is one too
            return self.blame()
        self.without.take(self.number + len(self.block), event, step, self.trial.session)
        return self.end_block() if len(self.block) >= max(self.every, FOLD_EVERY) else None

    def played(self, deviates: Deviates | None, is_cut: bool) -> Played:
        """Returns what has held so far."""
        events = self.number + len(self.block) if deviates is None else deviates.number - 1
        return Played(events, self.without, deviates, is_cut)

    def play_quickly(self, event: AnyEvent) -> Step:
        """Plays one event. Judges its reply, effects and records, and the state after every few events."""
        trial = self.trial
        trial.session, step = lockstep.core_step(trial.session, event)
        if lockstep.asks_reference(event, step):
            trial.world, reply, effects = reference.step(trial.world, lockstep.TRANSLATE[event.__class__](event))
            lockstep.compare_step(step, reply, effects)
        follow(trial.folded, step.records)
        if len(self.block) % self.every == 0:
            lockstep.compare_states(trial.session, trial.world)
            properties.check(trial.session)
        return step

    def end_block(self) -> Deviates | None:
        """Judges what is pending, and begins the next block."""
        trial = self.trial
        try:
            lockstep.compare_states(trial.session, trial.world)
            properties.check(trial.session)
            trial.compare_recovery()
        except Exception:
            return self.blame()
        self.checkpoint()
        return None

    def blame(self) -> Deviates:
        """Plays the block again, step by step. Returns the first event that deviates."""
        session, self.trial.world, self.trial.folded = self.begun
        self.trial.session, self.trial.fold_every = session, 1
        for number, event in enumerate(self.block, self.number + 1):
            try:
                self.trial.play(event)
            except Exception as error:
                self.without.count(before=number)
                return Deviates(number, program_line(event, self.trial.before), json_of(event), verdict_of(error))
        raise AssertionError("the core is not deterministic: what deviated does so no more when played again")


def header_of(path: Path, file: BinaryIO) -> trace.Header:
    """Returns the first line of the trace."""
    line = file.readline(trace.HEADER_BYTES_MAX)
    if line.startswith(trace.BEGINNING) and not line.endswith(b"\n"):
        line += file.readline()
    try:
        return trace.header_of(line)
    except TraceError as error:
        raise TraceError(error.problem, 1, str(path)) from None


# Databases


def verify_database(place: str | Path) -> Result:
    """Checks what the file or the DSN names, and audits its log. Raises `StoreError` if it is not a session, or cannot
    be opened.
    """
    what = "session" if places.is_dsn(place) else "file"
    try:
        problems = places.check(place)
    except StoreCorrupt as error:
        problems = (error.problem,)
    if problems:
        lines = [f"    {problem}" for problem in problems]
        return Result(False, (f"the {what} is damaged:", *lines, f"verdict: FAILED, the {what} is damaged"))
    try:
        return places.read(place, audited)
    except Unsound as error:
        return Result(False, (f"the log deviates: {error}", "verdict: FAILED, no session could have written this log"))


def audited(contents: Contents) -> Result:
    """Audits the log in this database. Raises `Unsound`."""
    meta = contents.meta()
    config = meta.config or SessionConfig()
    facts = [decode_facts(data) for _, data in contents.facts()]
    count, accepted = 0, dict[int, int]()

    def log() -> Iterator[tuple[int, LogRecord]]:
        nonlocal count
        for position, _, kind, data in contents.log():
            count += 1
            record = decode_at(position, kind, data)
            if isinstance(record, MailAccepted):
                accepted[record.mail] = receipts.mark_of(record)
            yield position, record

    ledger = audit(config, facts, meta.mail_states, meta.covered, log())
    for key, request, answer in contents.receipts():
        check_receipt(text_of(key), text_of(request), text_of(answer), ledger, accepted)
    agents = len(ledger.agents)
    return Result(
        True,
        (
            f"{count:,} records of {agents:,} agent{'s' * (agents != 1)} held: the file is sound, each record could be "
            "written where it stands, and what is recovered from them has every property",
            "a database has no events, so this says nothing of what was asked and refused: for that, verify a trace",
            f"verdict: HELD, {count:,} records",
        ),
    )


def check_receipt(key: str, request: str, text: str, ledger: Ledger, accepted: dict[int, int]) -> None:
    """Raises `Unsound` unless the receipt has a request of an agent, and names that agent, its path, and the mail that
    the request made for it, which is taken out of those that were accepted; or an agent that is forgotten.
    """
    try:
        answer = receipts.answer_in(text)
        problem = receipts.problem_of(request, answer, ledger.agents)
        if problem is None and ledger.agents[answer.agent].identity is not Identity.FORGOTTEN:
            asked = receipts.request_in(request)
            is_there = asked and accepted.pop(answer.mail, None) == receipts.mark_wanted(asked, answer.agent)
            problem = None if is_there else f"it says {text:.100}, a mail that is not there or has another receipt"
    except ValueError as error:
        problem = str(error)
    if problem is not None:
        raise Unsound(0, None, f"the receipt for key {key!r:.100}: {problem}")
