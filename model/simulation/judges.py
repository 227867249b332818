"""Judges a simulated life from outside: by its traces, its log, and what its callers were told.

`judge_opening` is for every opening, however it ended: the trace replays against the reference model, and log, events
and statistics are what the trace says. `judge_rest` is for the last one, when threads have answered and no requests
come. `judge_log` is for the whole life: what was acknowledged is in the log, once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

from attrs import define, field

from statemachine.checking import properties
from statemachine.checking.properties import PropertyViolation
from statemachine.core.effects import Load, Refused, Stale, Step
from statemachine.core.machines import Identity, SessionState, TurnState
from statemachine.core.records import (
    RECORDS,
    AgentsClosed,
    Cause,
    LoadBegun,
    LoadEnded,
    MailKind,
    Outcome,
    Record,
    TurnEnded,
    TurnReturned,
    TurnStarted,
)
from statemachine.core.refusals import UnknownAgent
from statemachine.core.session import Session
from statemachine.log import trace
from statemachine.log.recovery import durable_facts, restart
from statemachine.log.snapshot import ledger_of
from statemachine.runtime import AgentControl, AgentRef, Handle
from statemachine.runtime.control import inside
from statemachine.stores.protocol import Entry

from ..scenarios.answers import answers_of
from ..scenarios.passed_over import is_wrong_time
from ..scenarios.replay import Trial, verdict_of
from .observed import said, unfinished
from .store import End
from .world import Opening, Request, Told, World

FOLD_EVERY = 16
LOGGED = (Entry, *RECORDS)
HANDLES_MAX = 6
"""Most requests whose outcome is asked for again, when all is at rest."""


# One opening


@define
class Played:
    """The results of playing a trace again."""

    session: Session
    steps: list[Step] = field(factory=list[Step])
    """The accepted ones; the first is that of the recovery."""
    refusals: Counter[str] = field(factory=Counter[str])
    stale: int = 0


def judge_opening(world: World, opening: Opening) -> None:
    """Judges the trace of an opening, and all that has to agree with it."""
    if not opening.store.recovered_well:
        world.blame("the session was opened with other facts than the log folds to")
    if not opening.trace.exists():
        return  # the store could not be opened
    played = play(world, opening.trace)
    if played is None or opening.trace_failed:
        return
    judge_durable(world, played)
    control = opening.control
    if control is None:
        return
    # The trace of a session that was abandoned ends with what was durable, the session a little later.
    if not world.crashed and played.session.fingerprint() != inside(control).session.fingerprint():
        world.blame("the session is in another state than its trace says")
    judge_stream(world, opening, played)
    judge_statistics(world, opening, control, played)
    judge_leftovers(world, control)


def play(world: World, path: Path) -> Played | None:
    """Plays a trace again, beside the reference. Returns None if it fails."""
    told = trace.read(path)
    try:
        trial = Trial(told.config, FOLD_EVERY, told.facts)
    except Exception as error:
        world.blame(f"{path.name} broke at its beginning: {verdict_of(error)}")
        return None
    facts = () if told.facts is None else told.facts.agents
    states = (0, 0, 0) if told.facts is None else told.facts.mail_states
    played = Played(trial.session, [restart(told.config, ledger_of(told.config, facts, states), 0.0)[1]])
    try:
        for event in told.events:
            step = trial.play(event)
            if is_wrong_time(event, trial.session):
                world.blame(f"{path.name} has a clock that went back, by event {trial.played}: {event}")
            if isinstance(step.reply, Refused):
                played.refusals[type(step.reply.refusal).__name__] += 1
            elif isinstance(step.reply, Stale):
                played.stale += 1
            else:
                played.steps.append(step)
        trial.compare_recovery()
    except Exception as error:
        world.blame(f"{path.name} broke by event {trial.played} of {len(told.events)}: {verdict_of(error)}")
        return None
    played.session = trial.session
    return played


def judge_durable(world: World, played: Played) -> None:
    """Checks that the log of this opening is what the first steps wrote, in order, and no append ends within a step. If
    the process lives on, an append may follow which says that the loads under way have not been cut off.
    """
    written = [record for step in played.steps for record in step.records]
    ends = {0, *accumulate(len(step.records) for step in played.steps)}
    done = 0
    for number, append in enumerate(world.disk.writes):
        expected = written[done : done + len(append)]
        if append != expected and number == len(world.disk.writes) - 1:
            loading = loads_under_way(written[:done])
            if append and all(isinstance(record, LoadEnded) and record.agent in loading for record in append):
                continue
        done += len(append)
        if append != expected:
            world.blame(f"append {number} of the log is {append}, the trace has {expected}")
        elif append and done not in ends:
            world.blame(f"append {number} of the log ends within a step, with {append[-1]}")


def loads_under_way(records: Sequence[Record]) -> set[int]:
    """The agents whose last record is that their load began."""
    loading = set[int]()
    for record in records:
        if isinstance(record, LoadBegun):
            loading.add(record.agent)
        elif isinstance(record, TurnEnded):
            loading.discard(record.outcome.agent)
        elif isinstance(record, TurnStarted | TurnReturned | LoadEnded):
            loading.discard(record.agent)
    return loading


def judge_stream(world: World, opening: Opening, played: Played) -> None:
    """Checks that `events()` gave the records and effects of the steps from some step on, as far as they were durable,
    and between them the entries of turns, in the order of the log.
    """
    if opening.lost or not opening.stream:
        return
    logged = [event for event in opening.stream if isinstance(event, LOGGED)]
    if not is_part(logged, world.disk.records[world.disk.began :]):
        world.blame(f"events() gave {len(logged)} records and entries that are not a stretch of the log")
    expected = list(chain.from_iterable([(*step.records, *step.effects) for step in played.steps]))
    got = [event for event in opening.stream if not isinstance(event, Entry)]
    first = len(played.steps[0].records) + len(played.steps[0].effects)
    if got != expected[first : first + len(got)] and not is_part(got, expected):
        world.blame(f"events() gave {len(got)} things that are not a stretch of the {len(expected)} of the trace")
    elif opening.end is End.CALM and got[-1:] != expected[-1:]:
        world.blame(f"events() ended with {got[-1:]}, the trace with {expected[-1]}")


def is_part(got: list[Any], expected: list[Any]) -> bool:
    """Tells whether the one is a contiguous part of the other. The reader may have begun a little later."""
    starts = [at for at, one in enumerate(expected) if one == got[0]] if got else []
    return not got or any(expected[at : at + len(got)] == got for at in starts)


def judge_statistics(world: World, opening: Opening, control: AgentControl, played: Played) -> None:
    """Checks that the statistics are true."""
    counted = control.statistics()
    more = Counter(counted.refusals) - played.refusals
    if played.refusals - Counter(counted.refusals) or (opening.end is End.CALM and set(more) - {"SessionClosed"}):
        world.blame(f"refusals were counted as {counted.refusals}, the trace has {played.refusals}")
    if counted.stale_reports < played.stale:  # threads that were dropped at the end report after the trace's
        world.blame(f"{counted.stale_reports} stale reports were counted, the trace has {played.stale}")
    if opening.end not in (End.KEPT, End.LOST, End.CANCELLED, End.RAISED) and counted.commits != world.disk.appends:
        world.blame(f"{counted.commits} commits were counted, there were {world.disk.appends}")
    asked = sum(isinstance(effect, Load) for step in played.steps for effect in step.effects)
    if counted.loads > asked or (opening.end is End.CALM and counted.loads != asked):
        world.blame(f"{counted.loads} loads were counted, the trace asked for {asked}")
    for name in ("loads", "reloads", "evictions", "stale_reports", "commits", "records"):
        world.note(name, getattr(counted, name))


def judge_leftovers(world: World, control: AgentControl) -> None:
    """Checks that nothing is left after the block. A session that ended well has closed its threads."""
    if keys := inside(control).requests.keys:
        world.blame(f"keys are still held: {keys}")
    if world.crashed or inside(control).session.state is not SessionState.CLOSED:
        return
    for thread in world.threads:
        if thread.closed != 1 and not thread.abandoned:
            world.blame(f"a thread of agent {thread.agent.id} was closed {thread.closed} times")


# At rest


async def judge_rest(world: World, control: AgentControl) -> None:
    """Checks the session when threads have answered and no requests come: nothing is in flight, and nothing waits."""
    session = inside(control).session
    try:
        properties.check(session)
    except PropertyViolation as error:
        world.blame(f"at rest: {error}")
    for what in unfinished(world):
        world.blame(f"at rest: nothing can happen any more, and {what}")
    for turn in world.at_turn:
        world.blame(f"at rest: the code of {said(turn)} runs")
    stuck = [a.path for a in session.agents if a.identity is Identity.OPEN and a.triggers and a.status.is_idle]
    if stuck:
        world.blame(f"at rest: {stuck} have something to do")
    held = {} if session.live_threads else session.slots.holders
    if held or session.slots.ready or session.waits.pending or session.residents.loading or session.residents.flushes:
        world.blame(f"at rest: slots {held}, queue {session.slots.ready}, waits {session.waits.pending}")
    if durable_facts(world.disk.folded) != durable_facts(session.ledger):
        world.blame("at rest: the log folds to other facts than those of the session")
    alive = {agent for agent, live in inside(control).live.threads.items() if agent}
    resident = {a.id for a in session.agents[1:] if a.residency.name == "RESIDENT"}
    if alive != resident:
        world.blame(f"at rest: the threads of {sorted(alive)} are alive, resident are {sorted(resident)}")
    if any(live.turn is not None for live in inside(control).live.threads.values()):
        world.blame("at rest: a thread has a turn")
    lost = [token for token, (_, opening) in world.flushed.items() if opening == world.opening]
    for token in lost:
        if token not in world.disk.entries:
            world.blame(f"at rest: what was flushed ({token}) is not in the log")
    await judge_answers(world, control)


def answer_of(handle: Handle) -> Outcome | None:
    """Returns the handle's outcome, if it has it already."""
    return handle._request.outcome


async def judge_answers(world: World, control: AgentControl) -> None:
    """Checks that every accepted request has its answer, and a handle gives it."""
    answers = answers_of(world.disk.records)
    asked = [r for r in world.requests if r.ref is not None and r.told is Told.YES and r.is_trigger]
    for request in asked:
        assert request.ref is not None
        if request.ref.mail not in answers:
            world.blame(f"at rest: {request.verb} {request.text} to {request.ref} has no answer")
    for handle in world.handles:
        told = answer_of(handle)
        if told != answers.get(handle.ref.mail):
            world.blame(f"at rest: {handle.ref} was told {told}, the log has {answers.get(handle.ref.mail)}")
    for _ in range(min(HANDLES_MAX, len(asked))):
        ref = world.choose(asked).ref
        assert ref is not None
        if ref.id in world.disk.forgotten:
            await judge_forgotten(world, control, ref)
            continue
        handle = await control.handle(ref)
        told = answer_of(handle)
        if told != answers.get(ref.mail):
            world.blame(f"at rest: the handle of {ref} gives {told}, the log {answers.get(ref.mail)}")


async def judge_forgotten(world: World, control: AgentControl, ref: AgentRef) -> None:
    """A reference of a forgotten agent is unknown."""
    try:
        handle = await control.handle(ref)
    except UnknownAgent:
        return
    world.blame(f"at rest: agent {ref.id} is forgotten, and {ref} gives {handle}")


# The whole life


def judge_log(world: World) -> None:
    """Checks that acknowledged requests are in the log once, refused ones never, and others once at most."""
    disk = world.disk
    for twice in disk.told_twice:
        world.blame(twice)
    for request in world.requests:
        judge_request(world, request)
    for text in disk.texts:
        if text and text not in world.by_text:
            world.blame(f"mail {text!r} is in the log, and was never asked for, or refused as late")
    for number, (agent, turn, told) in world.entries.items():
        found = disk.entries.get(number, [])
        right = {Told.YES: (1,), Told.NO: (0,), Told.NOTHING: (0, 1)}[told]
        if len(found) not in right or any((e.agent, e.turn) != (agent, turn) for e in found):
            world.blame(f"entry {number} of turn {turn} of agent {agent} was told {told.name}; the log has {found}")
    for agents, count in world.closed.items():
        if disk.closed[agents] < count:
            world.blame(f"{count} closes were told {agents}, the log has {disk.closed[agents]}")
    for mail in world.withdrawn:
        if mail not in disk.withdrawn or (mail in world.read and world.read[mail][-1] not in disk.returned):
            world.blame(f"mail {mail} was told to be withdrawn, and turns {world.read.get(mail)} have read it")
    judge_attempts(world)
    judge_outcomes(world)


def judge_attempts(world: World) -> None:
    """S17: crashes and the deaths of threads alone return turns, and those of an agent max_attempts - 1 in a row."""
    returned: Counter[int] = Counter()
    for record in world.disk.records:
        if isinstance(record, TurnEnded):
            returned[record.outcome.agent] = 0
        elif isinstance(record, AgentsClosed):
            for agent in record.agents:
                returned[agent] = 0
        elif isinstance(record, TurnReturned):
            returned[record.agent] += 1
            if returned[record.agent] >= world.config.max_attempts:
                world.blame(f"{record} is in the log, {returned[record.agent]} in a row")
    for turn, append in world.disk.returned.items():
        cause, _ = world.came_to.get(turn, (None, None))
        if append > 1 and turn in world.ran and cause is not Cause.THREAD_DIED:  # 1: what a crash has ended
            world.blame(f"turn {turn} was returned, its work came to {cause}")


def judge_request(world: World, request: Request) -> None:
    """Judges one request."""
    count = world.disk.texts[request.text]
    right = {Told.YES: (1,), Told.NO: (0,), Told.NOTHING: (0, 1)}[request.told]
    if count not in right:
        world.blame(f"{request.verb} {request.text} was told {request.told.name}, and is in the log {count} times")
    if request.told is not Told.YES or request.ref is None:
        return
    mail = world.disk.mails.get(request.ref.mail)
    asked_for = MailKind.TRIGGER if request.is_trigger else MailKind.QUEUE
    if mail is None or (mail.message, mail.target, mail.kind) != (request.text, request.ref.id, asked_for):
        world.blame(f"{request.verb} {request.text} was told {request.ref}; the log has {mail}")
    elif mail.sender != request.sender:
        world.blame(f"{request.verb} {request.text} of {request.sender} is in the log as of {mail.sender}")


def judge_outcomes(world: World) -> None:
    """Checks that handles told what the log says, and that the log says what the work did."""
    answers = answers_of(world.disk.records)
    is_crowded = world.notes["work ignored its cancellation"] > 0
    for ref, outcome in world.outcomes:
        if answers.get(ref.mail) != outcome:
            world.blame(f"the handle of {ref} gave {outcome}, the log has {answers.get(ref.mail)}")
    for turn, outcome in world.disk.ended.items():
        world.note(f"turn ended by {outcome.cause.name}")
        came_to = world.came_to.get(turn)
        had_to_wait = is_crowded and turn not in world.loads  # for code that does not stop, and never began to load
        did_run = came_to is not None or outcome.status is TurnState.COMPLETED
        if outcome.status is not TurnState.INTERRUPTED and did_run and came_to != (outcome.cause, outcome.result):
            world.blame(f"{outcome} is in the log, its work came to {came_to}")
        elif outcome.cause is Cause.NOT_STOPPED and turn not in world.deaf:
            world.blame(f"{outcome} is in the log, and its work would have stopped")
        elif outcome.cause is Cause.LOAD_TIMED_OUT and turn[0] not in world.slow_loads and not had_to_wait:
            world.blame(f"{outcome} is in the log, and its thread would have been loaded")
