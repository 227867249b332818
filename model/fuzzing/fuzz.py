"""Fuzzes sessions statefully: long random lives of large ones, judged at every step (`model/scenarios/replay.py`).

The explorer sees everything that a small scope has. This sees a little of what no scope has: a dozen agents, all caps
and limits at once, hundreds of events, restarts and shutdowns in the middle of all faults. The rules of a Hypothesis
state machine draw bytes, and `model/fuzzing/chance.py` makes events of them that suit the present state. A failing life
is shrunk by `model/fuzzing/shrink.py`, and reported as a program and as a trace file for `statemachine replay`.

`run` plays examples from a seed. The same seed gives the same examples as long as their number, their length and the
code are the same (Hypothesis looks for interesting numbers in the modules that are loaded, so this is about one
program, not about two with the same seed). `soak` plays rounds of `run` in several processes until its time is over.

In the tests of a project, it shows that the rules hold with the configuration of that project. The wheel has this
package as `statemachine_model`, and pytest needs no more than this::

    from pathlib import Path

    from statemachine import Overflow, SessionConfig
    from statemachine_model.fuzzing.fuzz import Fuzz, run


    class Ours(Fuzz):
        config = SessionConfig(max_concurrent=3, max_resident=4, overflow=Overflow.QUEUE)


    def test_sessions_with_our_configuration_keep_every_rule(tmp_path: Path) -> None:
        result = run(examples=30, steps=200, seed=1, folder=tmp_path, machine=Ours)
        assert result.failure is None, str(result.failure)

A failure is reported as a short program, with the file of its trace. A subclass may have rules of its own, which look
at `self.trial.session` and give events to `self.feed`, and invariants::

    from hypothesis import strategies as st
    from hypothesis.stateful import invariant, rule

    from statemachine import HOST, ROOT
    from statemachine.core.events import Spawn


    class Ours(Fuzz):
        @rule(n=st.integers(0, 5))
        def helper(self, n: int) -> None:
            self.feed(Spawn(ROOT, f"helper{n}", "help", sender=HOST))

        @invariant()
        def few(self) -> None:
            assert len(self.trial.session.agents) <= 50

One that raises is a failure too, of the kind `rule-helper` or `invariant-few`: its program says between the events, in
lines that begin with `--`, what of the subclass was called. What such a call feeds comes to its end even if the life is
over then. Hypothesis' own `Ours.TestCase` is not a test here: it shrinks bytes, which takes minutes and tells a reader
nothing.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar

import attrs
import hypothesis
from attrs import define, field, frozen
from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from statemachine.core.config import SessionConfig
from statemachine.core.session import Session
from statemachine.log import trace

from ..coverage import Coverage, counting, moves_seen
from ..lockstep import AnyEvent, Restart
from ..pools import Hire, Task, campaign, stop_is_asked, workers
from ..scenarios.replay import Trial, Verdict, program_of, verdict_of
from . import chance
from .own_rules import NOT_FAILURES, TEARDOWN, Call, failures, guard, in_hypothesis
from .shrink import Scenario, Shrinker, judge, shrink

FAILURES = Path(".statemachine") / "failures"
"""Default folder for traces of failures."""

BURST = 12
"""Events that one rule plays. Drawing them as one string of bytes costs little more than drawing one."""
BURSTS = st.binary(min_size=BURST * chance.BYTES, max_size=BURST * chance.BYTES)
CHOICES = st.binary(min_size=2, max_size=2)
"""What a rare event is. Bytes rather than an integer: among integers Hypothesis prefers constants of the modules that
happen to be loaded.
"""
QUIET = 2 * BURST
"""Fewest events between two calamities, so that there is something to lose."""
FOLD_EVERY = 8
"""Events between two comparisons of the fold of the log with the session."""

BATCH = 10
"""Examples that Hypothesis plays in one go. After ten, most would be variations of earlier ones, with the same
configuration; a new life is worth more."""

ROUND_EXAMPLES, ROUND_STEPS = 100, 300
"""The size of a round of a soak campaign: some ten seconds."""
FAILURES_MAX = 10
"""Failures after which a soak campaign stops."""


class Stopped(Exception):
    """Raised by a callback of progress to end the campaign."""


class OwnRuleFails(Exception):
    """A rule of a subclass raised, in a life that is played again."""


@frozen
class Broken:
    """A life in which something of a subclass failed: its last call."""

    config: SessionConfig
    moves: tuple[AnyEvent | Call, ...]
    """Its events and calls, without the events that calls fed."""
    events: tuple[AnyEvent, ...]
    """All its events."""
    calls: tuple[tuple[int, Call], ...]
    """Its calls, and how many events were before each."""
    verdict: Verdict

    def program(self) -> tuple[str, ...]:
        """Returns the life as a program, with a line before the events of each call."""
        first, *lines = program_of(self.config, self.events)
        program, done = [first], 0
        for before, call in self.calls:
            program += [*lines[done:before], f"-- {call}"]
            done = before
        return (*program, *lines[done:])


@define
class Campaign:
    """The results of several examples."""

    steps_max: int
    """Most events of one example."""
    examples: int = 0
    """Lives for which Hypothesis found a rule. It begins others, and gives them up before anything happens."""
    steps: int = 0
    coverage: Coverage = field(factory=Coverage)
    failed: Scenario | None = None
    """The life in which the core failed."""
    broken: Broken | None = None
    """The life in which something of a subclass failed."""


class Fuzz(RuleBasedStateMachine):
    """One example: a session from its configuration to the last event, or to the first that breaks something."""

    config: ClassVar[SessionConfig | None] = None
    """Configuration of every example. None: each draws its own."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        guard(cls, Fuzz)

    def __init__(self, campaign: Campaign) -> None:
        super().__init__()
        self.campaign = campaign
        self.trial = Trial(self.config or SessionConfig())
        self.events: list[AnyEvent] = []
        self._moves: list[AnyEvent | Call] = []
        self._calls: list[tuple[int, Call]] = []
        """Both as in `Broken`."""
        self.calamity_at = QUIET
        self._is_counted = self._is_calling = self._has_failed = False

    @initialize(code=st.binary(min_size=chance.CONFIG_BYTES, max_size=chance.CONFIG_BYTES))
    def begin(self, code: bytes) -> None:
        """Opens the session, unless an initializer of a subclass came first and gave events to one."""
        if not self.events:
            self.trial = Trial(self.config or chance.config_of(code), FOLD_EVERY)

    @rule(codes=BURSTS)
    def work(self, codes: bytes) -> None:
        """Plays events of all kinds."""
        self.play(chance.ANYTHING, codes)

    @rule(codes=BURSTS)
    def storm(self, codes: bytes) -> None:
        """Plays events that hit agents in the middle of something."""
        self.play(chance.TROUBLE, codes)

    @rule(codes=BURSTS)
    def flow(self, codes: bytes) -> None:
        """Plays events without interference, with more work than can be done at once."""
        self.play(chance.PLENTY, codes)

    @precondition(lambda self: len(self.events) >= self.calamity_at)
    @rule(choice=CHOICES)
    def calamity(self, choice: bytes) -> None:
        """Plays an event that should be rare. One crash in four comes three times in a row."""
        self._count()
        self.calamity_at = len(self.events) + QUIET
        code = int.from_bytes(choice) % 20
        event = chance.calamity(code)
        for _ in range(3 if isinstance(event, Restart) and code % 4 == 3 else 1):
            self.feed(event)

    def play(self, plays: tuple[chance.Play, ...], codes: bytes) -> None:
        """Plays an event for every three bytes. Zeros are none, so that Hypothesis' simplest example costs nothing."""
        self._count()
        if not any(codes):
            return
        for at in range(0, len(codes), chance.BYTES):
            self.feed(chance.event_of(self.trial.session, plays, codes[at : at + chance.BYTES]))

    def feed(self, event: AnyEvent) -> None:
        """Plays one event, judges and counts it."""
        campaign, trial = self.campaign, self.trial
        if not self._is_calling:
            if len(self.events) >= campaign.steps_max:
                return
            self._moves.append(event)
        self.events.append(event)
        campaign.steps += 1
        try:
            step = trial.play(event)
        except Exception:
            self._has_failed = True
            campaign.failed = (trial.session.config, tuple(self.events))
            raise
        campaign.coverage.observe(trial.before, event, step, trial.session)

    def call_own(self, call: Call) -> Any:
        """Carries out a call of a subclass. What it raises is its failure, unless the core has failed in it. A life
        that is over has no more rules: what they feed would not be played, and they would miss it.
        """
        if self._is_calling:  # by the call itself
            return call.on(self)
        if call.kind == "rule":
            self._count()
            if len(self.events) >= self.campaign.steps_max:
                return call.nothing
        self._moves.append(call)
        self._calls.append((len(self.events), call))
        self._is_calling = True
        try:
            return call.on(self)
        except failures() as error:
            if not self._has_failed and not isinstance(error, NOT_FAILURES):
                self._has_failed = True
                self.campaign.broken = self._broken_by(Verdict(call.name, call.words(error)))
            raise
        finally:
            self._is_calling = False

    def _broken_by(self, verdict: Verdict) -> Broken:
        """Returns the life so far."""
        moves, calls = tuple(self._moves), tuple(self._calls)
        return Broken(self.trial.session.config, moves, tuple(self.events), calls, verdict)

    def _count(self) -> None:
        """Counts the life, once there is a rule for it."""
        self.campaign.examples += not self._is_counted
        self._is_counted = True


# A campaign


@frozen
class Failure:
    """A scenario that fails."""

    seed: int
    examples: int
    steps: int
    """Seed, examples and steps are those of the campaign that found it: `run` with them finds it again."""
    kind: str
    """The kind of its `Verdict`."""
    message: str
    program: tuple[str, ...]
    """The scenario in the language of `model/scenarios/script.py`, its configuration first. A line that begins with
    `--` is a call of a subclass; what it fed follows."""
    trace: Path
    is_own: bool = False
    """Whether a rule of a subclass failed, and not one of the core. The trace has only the events."""

    def __str__(self) -> str:
        lines = [f"{self.kind}: {self.message}", *[f"    {line}" for line in self.program]]
        origin = f"found with seed {self.seed}, {self.examples} examples of {self.steps} steps"
        if self.is_own:
            origin += "; a replay does not know what failed, and judges the rules of the core"
        return "\n".join([*lines, f"{origin}; to see it step by step: statemachine replay {self.trace}"])


@frozen
class FuzzResult:
    """The result of a campaign. `coverage` counts what was reached (`model/coverage.py`). `examples` are the lives in
    which a rule was played, a failing one each time; the simplest of them have no event.
    """

    examples: int
    steps: int
    coverage: Counter[str]
    failure: Failure | None


def run(
    examples: int,
    steps: int,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
    folder: Path = FAILURES,
    machine: type[Fuzz] = Fuzz,
) -> FuzzResult:
    """Plays `examples` lives of at most `steps` events each, up to the first failure, whose trace is saved in `folder`.
    `on_progress` gets examples and steps so far, every ten examples or so; it may raise `Stopped`. `machine` plays
    them: a subclass may have its own configuration and rules. Raises `ValueError` for numbers with which nothing would
    be played, `TypeError` for a machine that is not a subclass of `Fuzz` or whose configuration is not one, and what is
    a defect of the fuzzer, or of a precondition or strategy of a subclass.
    """
    for number, name in ((examples, "examples"), (steps, "steps")):
        if number < 1:
            raise ValueError(f"{name} is {number}: nothing would be played, and so nothing would fail; give 1 or more")
    given: Any = machine  # whatever a caller has given
    if not (isinstance(given, type) and issubclass(given, Fuzz)):
        raise TypeError(f"a machine is a subclass of Fuzz, not {machine!r:.200}")
    if not isinstance(machine.config, SessionConfig | None):
        raise TypeError(f"{machine.__name__}.config is a SessionConfig or None, not {machine.config!r:.200}")
    campaign = Campaign(steps)
    with counting() as moves:
        for number, begun in enumerate(range(0, examples, BATCH)):
            try:
                if on_progress is not None:
                    on_progress(campaign.examples, campaign.steps)
                play_batch(campaign, machine, min(BATCH, examples - begun), round_seed(seed, number))
            except Stopped:
                break
            except failures():
                if campaign.failed is None and campaign.broken is None:
                    raise  # a defect of the fuzzer, not of the core
                break
        coverage = campaign.coverage.counts + moves_seen(moves)
    failure = None
    if campaign.failed is not None:
        failure = report(campaign.failed, (seed, examples, steps), folder)
    elif campaign.broken is not None:
        failure = report_own(campaign.broken, machine, (seed, examples, steps), folder)
    return FuzzResult(campaign.examples, campaign.steps, coverage, failure)


def play_batch(campaign: Campaign, machine: type[Fuzz], examples: int, seed: int) -> None:
    """Plays some examples of a campaign. Raises what the first failure raises."""
    profile = settings(
        max_examples=examples,
        stateful_step_count=1 + -(-campaign.steps_max // BURST),
        phases=[Phase.generate],
        verbosity=Verbosity.quiet,
        report_multiple_bugs=False,
        deadline=None,
        database=None,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    start: Any = hypothesis.seed(seed)(lambda: machine(campaign))
    run_state_machine_as_test(start, settings=profile)


def report(failed: Scenario, origin: tuple[int, int, int], folder: Path) -> Failure:
    """Shrinks a failing scenario, saves its trace, and returns the failure."""
    shrunk = shrink(*failed)
    if shrunk is None:
        (config, events), kind, message = failed, "flaky", "it broke something, but not when it was played again"
    else:
        (config, events), (kind, message) = shrunk[0], (shrunk[1].kind, shrunk[1].detail)
    return Failure(*origin, kind, message, tuple(program_of(config, events)), save(config, events, kind, folder))


class Again:
    """A life of a subclass that is played again. Its rules may draw from `random`, which begins as in a test of
    Hypothesis.
    """

    def __init__(self, machine: type[Fuzz], config: SessionConfig) -> None:
        random.seed(0)
        self.machine = machine(Campaign(sys.maxsize))
        self.machine.trial = Trial(config, FOLD_EVERY)

    @property
    def session(self) -> Session:
        """The session as it is now."""
        return self.machine.trial.session

    def play(self, move: AnyEvent | Call) -> None:
        """Plays an event or a call. Raises `OwnRuleFails`, or what `Trial.play` raises."""
        if not isinstance(move, Call):
            self.machine.feed(move)
            return
        try:
            self.machine.call_own(move)
        except failures() as error:
            if self.machine.campaign.broken is None:
                raise
            raise OwnRuleFails from error

    def verdict(self, error: Exception) -> Verdict:
        """Returns the verdict for what `play` raised."""
        broken = self.machine.campaign.broken
        return verdict_of(error) if broken is None else broken.verdict

    def end(self) -> None:
        """Gives back what the machine holds, unless its end was a move."""
        if not any(call.kind == TEARDOWN for _, call in self.machine._calls):
            with suppress(*failures()):
                self.machine.teardown()


def report_own(broken: Broken, machine: type[Fuzz], origin: tuple[int, int, int], folder: Path) -> Failure:
    """Shrinks a life in which something of a subclass failed, saves the trace of its events, returns the failure."""
    found = in_hypothesis(lambda: shrink_own(broken, machine))
    message = broken.verdict.detail if found is None else found.verdict.detail
    if found is None:
        message += "; not when it was played again, so all of it is here"
    found = found or broken
    path = save(found.config, found.events, found.verdict.kind, folder)
    return Failure(*origin, found.verdict.kind, message, found.program(), path, is_own=True)


def shrink_own(broken: Broken, machine: type[Fuzz]) -> Broken | None:
    """Returns the shortest life found in which the same fails. None: it does not when it is played again."""

    def begin(config: SessionConfig) -> Again:
        return Again(machine, config)

    found = judge(broken.config, broken.moves, begin)
    if found is None or found[1].kind != broken.verdict.kind:
        return None
    shrinker = Shrinker(broken.config, *found, begin, begin, keeps_config=machine.config is not None)
    config, moves = shrinker.shrunk()
    life = begin(config)
    with suppress(Exception):  # what failed
        for move in moves:
            life.play(move)
    shrunk = life.machine.campaign.broken
    life.end()
    return shrunk


def save(config: SessionConfig, events: tuple[AnyEvent, ...], kind: str, folder: Path) -> Path:
    """Writes a trace, named by its verdict and its content. Returns its path."""
    content = b"".join([trace.header_line(config), *map(trace.event_line, events)])
    path = folder / f"{kind}-{blake2b(content, digest_size=6).hexdigest()}.ndjson"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# Soaking


@frozen
class Soak:
    """The results of a soak campaign so far."""

    seed: int
    """The seed of its first round."""
    rounds: int = 0
    examples: int = 0
    steps: int = 0
    coverage: Counter[str] = field(factory=Counter)
    failures: tuple[Failure, ...] = ()
    interrupted: bool = False
    """Whether Ctrl-C ended it before its time."""

    def plus(self, result: FuzzResult) -> Soak:
        """Returns the results with one more round."""
        return Soak(
            self.seed,
            self.rounds + 1,
            self.examples + result.examples,
            self.steps + result.steps,
            self.coverage + result.coverage,
            self.failures if result.failure is None else (*self.failures, result.failure),
        )

    def progress(self) -> str:
        """Returns the progress as a line."""
        found = f"{len(self.failures)} failures"
        return f"{self.rounds} rounds, {self.examples:,} lives, {self.steps:,} steps, {found}"

    def summary(self) -> str:
        """Returns the result as a line."""
        end = ", stopped early" if self.interrupted else ""
        return (
            f"{self.rounds} rounds from seed {self.seed}, {self.examples:,} lives, {self.steps:,} steps, "
            f"{len(self.failures)} failures{end}"
        )

    def as_json(self) -> dict[str, Any]:
        """Returns the result for programs."""
        found = [{"seed": f.seed, "kind": f.kind, "message": f.message, "program": f.program} for f in self.failures]
        result = {"rounds": self.rounds, "examples": self.examples, "steps": self.steps, "failures": found}
        return {**result, "coverage": dict(sorted(self.coverage.items()))}


def round_seed(seed: int, number: int) -> int:
    """Returns the seed of a round. The first round has the campaign's, so that one round with a printed seed repeats
    it.
    """
    if number == 0:
        return seed
    return int.from_bytes(blake2b(f"{seed}/{number}".encode(), digest_size=6).digest())


def soak(
    minutes: float,
    jobs: int,
    seed: int,
    on_progress: Callable[[Soak], None] | None = None,
    folder: Path = FAILURES,
    examples: int = ROUND_EXAMPLES,
    steps: int = ROUND_STEPS,
    hire: Hire = workers,
) -> Soak:
    """Plays rounds with derived seeds in `jobs` processes, which `hire` gives, until the time is over, but at least a
    whole round in each. Ctrl-C ends it early, and what was done is returned all the same. `on_progress` is called
    after each round.
    """
    until = time.monotonic() + 60 * minutes
    so_far = Soak(seed)

    def next_round(number: int) -> Task[FuzzResult] | None:
        is_first = number < jobs
        seconds = None if is_first else until - time.monotonic()
        if len(so_far.failures) >= FAILURES_MAX or (seconds is not None and seconds <= 0):
            return None
        return Task(play_round, (examples, steps, round_seed(seed, number), folder, seconds))

    def take(result: FuzzResult) -> None:
        nonlocal so_far
        so_far = so_far.plus(result)
        if on_progress is not None:
            on_progress(so_far)

    interrupted = campaign(jobs, next_round, take, hire=hire)
    return attrs.evolve(so_far, interrupted=interrupted)


def play_round(examples: int, steps: int, seed: int, folder: Path, seconds: float | None) -> FuzzResult:
    """Plays one round in one process: `run`, until its time is over or the campaign is stopped."""
    began = time.monotonic()

    def stop_in_time(*_: int) -> None:
        over = seconds is not None and time.monotonic() - began >= seconds
        if over or stop_is_asked():
            raise Stopped

    return run(examples, steps, seed, stop_in_time, folder)
