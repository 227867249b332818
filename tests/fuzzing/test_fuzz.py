"""The fuzzer: it reaches what it should, finds what is broken, and what it finds can be seen again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import Future
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import assume, note, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from model import pools
from model.coverage import SITUATIONS, required
from model.fuzzing import chance, fuzz, shrink
from model.fuzzing.fuzz import Failure, FuzzResult, Soak
from model.pools import CONTEXT
from model.scenarios import replay, script
from statemachine.core import refusals, rules, turns
from statemachine.core.config import Overflow, SessionConfig
from statemachine.core.effects import StartTurn
from statemachine.core.events import HOST, Spawn, Tick
from statemachine.core.machines import TurnState
from statemachine.core.session import Session
from statemachine.log import trace

ROOT = str(Path(fuzz.__file__).parents[2])
SEED = 20


@pytest.fixture(autouse=True)
def same_lives_in_any_order_of_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hypothesis draws, now and then, a constant of the modules that are loaded, and other tests load others."""
    monkeypatch.setattr(providers, "_get_local_constants", Constants)
    providers.CONSTANTS_CACHE.cache.clear()


# The core under the fuzzer


@pytest.mark.parametrize(("examples", "steps"), [(400, 200), pytest.param(5000, 600, marks=pytest.mark.nightly)])
def test_core_holds_and_every_deep_pair_is_reached(examples: int, steps: int, tmp_path: Path) -> None:
    result = fuzz.run(examples, steps, SEED, folder=tmp_path)
    assert result.failure is None, str(result.failure)
    deep = [situation.id for situation in SITUATIONS]
    assert [name for name in deep if not result.coverage[name]] == []
    assert [name for name in required() if not result.coverage[name]] == []
    assert list(tmp_path.iterdir()) == []


# A campaign


def test_run_with_the_same_seed_does_the_same() -> None:
    told: list[tuple[int, int]] = []
    first = fuzz.run(25, 60, 7, on_progress=lambda *so_far: told.append(so_far))
    assert fuzz.run(25, 60, 7) == first
    assert fuzz.run(25, 60, 8) != first
    assert len(told) == 3
    assert told[0] == (0, 0)
    assert 10 <= told[1][0] < told[2][0] < first.examples
    assert 0 < told[1][1] < told[2][1] < first.steps


def test_run_plays_no_longer_lives_than_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    monkeypatch.setattr(fuzz.Fuzz, "teardown", lambda self: lengths.append(len(self.events)))
    result = fuzz.run(20, 30, 1)
    assert max(lengths) == 30
    assert sum(lengths) == result.steps


class Machine(fuzz.Fuzz):
    """As a project makes one: with its configuration, and a rule of its own."""

    config = SessionConfig(max_concurrent=3, max_depth=1, overflow=Overflow.QUEUE)
    lives: ClassVar[list[Machine]] = []

    def __init__(self, campaign: fuzz.Campaign) -> None:
        super().__init__(campaign)
        self.lives.append(self)

    @rule()
    def deeper(self) -> None:
        self.feed(Spawn(len(self.trial.session.agents) - 1, "deep", "m", sender=HOST))


def test_run_of_a_subclass_has_its_configuration_in_every_life_and_its_rules_in_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Machine, "lives", [])
    result = fuzz.run(30, 100, SEED, folder=tmp_path, machine=Machine)
    assert result.failure is None, str(result.failure)
    assert result.examples == 30 <= len(Machine.lives)
    assert {life.trial.session.config for life in Machine.lives} == {Machine.config}
    assert result.steps == sum(len(life.events) for life in Machine.lives)
    assert any(isinstance(event, Spawn) and event.name == "deep" for life in Machine.lives for event in life.events)


def test_fuzzer_imported_into_a_project_leaves_its_profiles_of_hypothesis_alone() -> None:
    program = """
from hypothesis import settings
settings.register_profile("ci", max_examples=7)
settings.register_profile("nightly", max_examples=7)
settings.load_profile("ci")
from model.fuzzing import fuzz
assert {settings.default.max_examples, *[settings.get_profile(p).max_examples for p in ("ci", "nightly")]} == {7}
"""
    here = {**os.environ, "PYTHONPATH": ROOT}
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=here)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_run_that_is_stopped_says_what_was_done() -> None:
    def stop(examples: int, _: int) -> None:
        if examples > 0:
            raise fuzz.Stopped

    assert 10 <= fuzz.run(50, 30, 1, on_progress=stop).examples < 20


# What is broken


def no_stall(*_: Any) -> bool:
    return False


def newest_victim(candidates: Any, tried: Any) -> int | None:
    return next((agent for agent, _ in reversed([*candidates]) if agent not in tried), None)


def lost_mail(s: Session, agent: Any) -> None:
    """The turn starts without its mail."""
    START(s, agent)
    s.effects[-1] = StartTurn(agent.id, agent.turn, agent.generation, ())


START = turns.start

BREAKS: dict[str, tuple[Any, str, Any]] = {
    "next": (rules, "goes_on", lambda _: False),
    "queue": (rules, "queue_has_room", lambda *_: True),
    "stale": (rules, "is_current", lambda *_: True),
    "stall": (rules, "is_stalled", no_stall),
    "victim": (rules, "victim", newest_victim),
    "wait": (rules, "is_done", lambda _, status: status is TurnState.COMPLETED),
    "mail": (turns, "start", lost_mail),
    "evict": (rules, "is_evictable", lambda *_: False),
}


@pytest.mark.parametrize("name", BREAKS)
def test_broken_core_is_found_shrunk_and_replayed_with_the_same_verdict(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(*BREAKS[name])
    failure = fuzz.run(150, 200, SEED, folder=tmp_path).failure
    assert failure is not None
    assert len(failure.program) <= 13, failure.program
    assert failure.trace.parent == tmp_path
    assert failure.trace.name.startswith(f"{failure.kind}-")
    last = list(replay.replay(failure.trace))[-1]
    assert last.broken is not None
    assert (last.broken.kind, last.broken.detail) == (failure.kind, failure.message)
    assert last.number == len(trace.read(failure.trace).events) == len(failure.program) - 1
    monkeypatch.undo()
    assert list(replay.replay(failure.trace))[-1].broken is None


@pytest.mark.parametrize("name", ["queue", "evict"])
def test_shrinking_ends_once_nothing_helps_any_more(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot less and a slot more were tried in turns until all attempts were used up: half a minute for 4 lines."""
    monkeypatch.setattr(*BREAKS[name])
    left: list[int] = []

    class Counted(shrink.Shrinker):
        def shrink(self) -> tuple[shrink.Scenario, replay.Verdict]:
            found = super().shrink()
            left.append(self.events_left)
            return found

    monkeypatch.setattr(shrink, "Shrinker", Counted)
    assert fuzz.run(150, 200, SEED, folder=tmp_path).failure is not None
    assert left[0] > shrink.EVENTS_MAX * 9 // 10


def test_failure_says_how_to_see_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*BREAKS["stall"])
    failure = fuzz.run(150, 200, SEED, folder=tmp_path).failure
    assert failure is not None
    first, *program, last = str(failure).splitlines()
    assert first == f"{failure.kind}: {failure.message}"
    assert program[0].startswith("    config max_concurrent=2 ")
    assert program == [f"    {line}" for line in failure.program]
    assert f"seed {SEED}, 150 examples of 200 steps" in last
    assert last.endswith(f"statemachine replay {failure.trace}")
    again = fuzz.run(failure.examples, failure.steps, failure.seed, folder=tmp_path).failure
    assert again == failure
    assert len(list(tmp_path.iterdir())) == 1


def test_shrunk_program_is_a_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*BREAKS["queue"])
    failure = fuzz.run(150, 200, SEED, folder=tmp_path).failure
    assert failure is not None
    told = trace.read(failure.trace)
    trial = replay.Trial(told.config)
    for line in failure.program[1:-1]:
        trial.play(script.parse(line, trial.session))
    assert script.parse(failure.program[-1], trial.session) == told.events[-1]


def test_failure_that_does_not_come_again_is_told_as_flaky(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [300]

    def moody(held_slot: bool, may_begin: bool, is_wanted: bool) -> bool:
        left[0] -= 1
        assert left[0] != 0
        return held_slot and may_begin and not is_wanted

    monkeypatch.setattr(rules, "goes_on", moody)
    failure = fuzz.run(150, 200, SEED, folder=tmp_path).failure
    assert failure is not None
    assert failure.kind == "flaky"
    assert len(trace.read(failure.trace).events) == len(failure.program) - 1


def test_defect_of_the_fuzzer_is_no_failure_of_the_core(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(chance, "event_of", broken)
    with pytest.raises(ZeroDivisionError):
        fuzz.run(20, 30, 1)


# Rules of one's own


class Checks(fuzz.Fuzz):
    """A project's machine, for subclasses with a check."""

    config: ClassVar[SessionConfig | None] = SessionConfig(max_concurrent=3, max_resident=4, overflow=Overflow.QUEUE)

    def agents(self) -> int:
        return len(self.trial.session.agents)

    def spawn(self, name: str) -> None:
        self.feed(Spawn(0, name, "work", f"settings of {name}", HOST))


class RuleFails(Checks):
    """What it leaves makes its teardown fail, too."""

    is_left = False

    @rule(n=st.integers(0, 5))
    def ours(self, n: int) -> None:
        self.spawn(f"x{n}")
        self.is_left = self.agents() >= 6
        assert not self.is_left, "never more than six"

    def teardown(self) -> None:
        assert not self.is_left, "something is left"


class InvariantFails(Checks):
    @invariant()
    def few(self) -> None:
        assert self.agents() < 6, "never more than six"


class InvariantOfAnyConfigurationFails(InvariantFails):
    config: ClassVar[SessionConfig | None] = None


class InitializerFails(Checks):
    @initialize()
    def prepare(self) -> None:
        self.spawn("first")
        assert self.agents() == 1, "there is one"


class TeardownFails(Checks):
    def teardown(self) -> None:
        super().teardown()
        assert self.agents() < 6, "never more than six"


class PytestFails(Checks):
    @precondition(lambda self: self.agents() >= 6)
    @rule()
    def told(self) -> None:
        pytest.fail("never more than six")


class RuleWithStateFails(Checks):
    """Fails by what an earlier call left, of which no event says anything; and says so to Hypothesis."""

    def __init__(self, campaign: fuzz.Campaign) -> None:
        super().__init__(campaign)
        self.seen: list[int] = []

    @rule(n=st.integers(0, 5))
    def ours(self, n: int) -> None:
        note(f"it is {n}")
        self.seen.append(n)
        assert not {1, 2} <= {*self.seen}, "not both"


class RuleWithBundleFails(Checks):
    names = Bundle("names")

    @rule(target=names, n=st.integers(0, 5))
    def named(self, n: int) -> str:
        self.spawn(f"x{n}")
        return f"x{n}"

    @rule(name=names)
    def used(self, name: str) -> None:
        assert name != "x3", "not three"


OWN: dict[type[Checks], tuple[str, str, int, int]] = {
    RuleFails: ("rule-ours", "AssertionError: never more than six", 5, 5),
    InvariantFails: ("invariant-few", "AssertionError: never more than six", 5, 1),
    InvariantOfAnyConfigurationFails: ("invariant-few", "AssertionError: never more than six", 8, 1),
    InitializerFails: ("initialize-prepare", "AssertionError: there is one", 1, 1),
    TeardownFails: ("teardown-teardown", "AssertionError: never more than six", 5, 1),
    PytestFails: ("rule-told", "Failed: never more than six", 5, 1),
    RuleWithStateFails: ("rule-ours", "AssertionError: not both", 0, 2),
    RuleWithBundleFails: ("rule-used", "AssertionError: not three", 0, 1),
}
"""Machine -> kind of its failure, the words, most events and calls of the shortest life."""


@pytest.mark.parametrize("machine", OWN, ids=lambda machine: machine.__name__)
def test_failure_of_a_rule_of_ones_own_is_named_and_shrunk_and_its_trace_saved(
    machine: type[Checks], tmp_path: Path
) -> None:
    kind, words, most, calls = OWN[machine]
    folder = tmp_path / "failures"
    failure = fuzz.run(20, 200, SEED, folder=folder, machine=machine).failure
    assert failure is not None
    assert failure.kind == kind
    assert failure.message.startswith(words)
    assert f"{kind.split('-')[1]}, test_fuzz.py line " in failure.message
    config, *program = failure.program
    told = trace.read(failure.trace)
    assert config == replay.program_of(told.config, ())[0]
    assert machine.config in (None, told.config)
    named = [line for line in program if line.startswith("-- ")]
    assert len(program) - len(named) == len(told.events) <= most
    assert 1 <= len(named) <= calls
    assert named[-1].startswith(f"-- {kind.replace('-', ' ')}(")
    assert replay.program_of(told.config, told.events)[1:] == [line for line in program if line not in named]
    assert all(frame.broken is None for frame in replay.replay(failure.trace))
    assert f"found with seed {SEED}, 20 examples of 200 steps; a replay does not know what failed" in str(failure)
    assert [*folder.iterdir()] == [failure.trace]
    assert failure.trace.name.startswith(f"{kind}-")
    again = fuzz.run(failure.examples, failure.steps, failure.seed, folder=folder, machine=machine).failure
    assert again == failure


def test_core_that_fails_in_a_rule_of_ones_own_is_told_as_a_failure_of_the_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the rule, and a teardown after it, say something else of it."""

    class Covers(TeardownFails):
        @rule()
        def ours(self) -> None:
            try:
                self.feed(Spawn(7, "a", "work", sender=HOST))
            except Exception:
                raise AssertionError("it fails") from None

        def teardown(self) -> None:
            raise AssertionError("it fails")

    monkeypatch.setattr(chance, "event_of", lambda *_: Tick(0.0))
    monkeypatch.setattr(refusals.UnknownAgent, "facts", property(lambda _: ("Other",)))
    failure = fuzz.run(20, 200, SEED, folder=tmp_path, machine=Covers).failure
    assert failure is not None
    assert (failure.kind, failure.is_own, len(failure.program)) == ("lockstep", False, 2)


def test_rule_that_assumes_what_is_not_so_or_skips_fails_nothing(tmp_path: Path) -> None:
    class Assumes(Checks):
        @rule(n=st.integers(0, 5))
        def ours(self, n: int) -> None:
            assume(n < 5)

    result = fuzz.run(20, 60, SEED, folder=tmp_path, machine=Assumes)
    assert (result.failure, [*tmp_path.iterdir()]) == (None, [])


def test_failure_that_does_not_come_again_has_the_whole_life(tmp_path: Path) -> None:
    left = [20]

    class Moody(Checks):
        @invariant()
        def few(self) -> None:
            if len(self.events) > 12:
                left[0] -= 1
                assert left[0] != 0, "moody"

    failure = fuzz.run(20, 200, SEED, folder=tmp_path, machine=Moody).failure
    assert failure is not None
    assert failure.kind == "invariant-few"
    assert failure.message.startswith("AssertionError: moody")
    assert failure.message.endswith("; not when it was played again, so all of it is here")
    assert len(trace.read(failure.trace).events) > 12
    assert failure.program[-1] == "-- invariant few()"


def test_rule_of_ones_own_is_called_in_lives_that_go_on_alone_and_feeds_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would look for an agent that it has spawned, and of which the life has no more event."""
    lengths: list[int] = []

    class Looks(Checks):
        names = Bundle("names")

        @rule(target=names)
        def ours(self) -> str:
            assert len(self.events) < 30
            before = len(self.events)
            for name in "abcdefghijklmnop":
                self.feed(Spawn(0, name, "work", sender=HOST))
            assert len(self.events) == before + 16
            return "some"

    monkeypatch.setattr(fuzz.Fuzz, "teardown", lambda self: lengths.append(len(self.events)))
    assert fuzz.run(20, 30, SEED, folder=tmp_path, machine=Looks).failure is None
    assert 30 < max(lengths) < 30 + 16


def test_initializer_of_ones_own_gives_events_to_the_session_of_the_life(tmp_path: Path) -> None:
    """Hypothesis calls initializers in any order, and that of the fuzz opened another session after it."""

    class Prepares(Checks):
        @initialize()
        def prepare(self) -> None:
            self.spawn("first")

        @invariant()
        def there(self) -> None:
            assert self.trial.session.find("/root/first") is not None or len(self.events) > 1

    assert fuzz.run(20, 30, SEED, folder=tmp_path, machine=Prepares).failure is None


def test_rules_of_ones_own_are_those_of_a_subclass_of_a_subclass_and_of_a_class_beside_it(tmp_path: Path) -> None:
    called: list[str] = []

    class Beside:
        @rule()
        def beside(self) -> None:
            called.append(type(self).__name__)

    class Ours(Beside, RuleFails):
        @invariant()
        def few(self) -> None:
            assert self.agents() < 4, "never more than four"

    class Other(Beside, RuleBasedStateMachine):
        pass

    failure = fuzz.run(20, 200, SEED, folder=tmp_path, machine=Ours).failure
    assert failure is not None
    assert failure.kind == "invariant-few"
    assert failure.program.count("-- invariant few()") == 1
    run_state_machine_as_test(Other, settings=settings(max_examples=1, database=None))
    assert {*called} == {"Ours", "Other"}


def test_precondition_that_raises_is_raised_and_not_told_as_a_failure(tmp_path: Path) -> None:
    class Wrong(Checks):
        @precondition(lambda self: self.nothing)
        @rule()
        def ours(self) -> None:
            pass

    with pytest.raises(AttributeError, match="nothing"):
        fuzz.run(20, 30, SEED, folder=tmp_path, machine=Wrong)


# Soaking


def test_soak_without_time_plays_one_round_in_each_process(tmp_path: Path) -> None:
    told: list[Soak] = []
    done = fuzz.soak(0, 2, 7, told.append, tmp_path, examples=10, steps=40)
    with CONTEXT.Pool(1) as pool:  # as the campaign does: what Hypothesis draws depends on the modules that are loaded
        rounds = pool.starmap(fuzz.run, [(10, 40, fuzz.round_seed(7, number)) for number in range(2)])
    assert (done.rounds, done.failures, done.interrupted) == (2, (), False)
    assert done.examples == sum(result.examples for result in rounds)
    assert done.steps == sum(result.steps for result in rounds)
    assert done.coverage == rounds[0].coverage + rounds[1].coverage
    assert [so_far.rounds for so_far in told] == [1, 2]
    assert told[-1] == done


def test_first_round_has_the_seed_of_the_campaign_and_the_others_their_own() -> None:
    assert fuzz.round_seed(7, 0) == 7
    assert len({fuzz.round_seed(seed, number) for seed in range(20) for number in range(20)}) == 400


class Pool:
    """Stands in for the pool of processes: every round is over at once, and has failed."""

    stop: Any = None

    def __init__(self, _: int, __: object, ___: object, arguments: tuple[Any, ...]) -> None:
        Pool.stop = arguments[0]

    def shutdown(self, cancel_futures: bool) -> None:
        pass

    def submit(self, _: object, examples: int, steps: int, seed: int, *__: object) -> Future[FuzzResult]:
        future: Future[FuzzResult] = Future()
        failure = Failure(seed, examples, steps, "S1", "", (), Path("x"))
        future.set_result(FuzzResult(examples, steps, Counter(), failure))
        return future


def test_soak_gives_up_after_so_many_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "ProcessPoolExecutor", Pool)
    done = fuzz.soak(1e6, 1, 7)
    assert done.rounds == fuzz.FAILURES_MAX
    assert [failure.seed for failure in done.failures] == [fuzz.round_seed(7, n) for n in range(fuzz.FAILURES_MAX)]
    assert not done.interrupted
    assert not Pool.stop.is_set()


def test_soak_that_is_interrupted_stops_its_rounds_and_says_what_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(so_far: Soak) -> None:
        if so_far.rounds == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(pools, "ProcessPoolExecutor", Pool)
    done = fuzz.soak(1e6, 3, 7, interrupt)
    assert (done.rounds, len(done.failures), done.interrupted) == (3, 3, True), "three were under way"
    assert Pool.stop.is_set()


def test_round_that_is_stopped_or_out_of_time_ends_early(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fuzz.play_round(30, 20, 7, Path("unused"), seconds=1e6).examples >= 30
    assert fuzz.play_round(30, 20, 7, Path("unused"), seconds=0).examples == 0
    stop = pools.CONTEXT.Event()
    monkeypatch.setattr(pools, "_is_asked", stop.is_set)
    assert fuzz.play_round(30, 20, 7, Path("unused"), seconds=None).examples >= 30
    stop.set()
    assert fuzz.play_round(30, 20, 7, Path("unused"), seconds=None).examples == 0


def test_run_that_would_play_nothing_or_no_fuzz_is_refused(tmp_path: Path) -> None:
    """Its result would have no failure, which reads as if something had held."""
    for examples, steps, wrong in ((0, 1, "examples is 0"), (1, 0, "steps is 0"), (-1, 1, "examples is -1")):
        with pytest.raises(ValueError, match=f"{wrong}: nothing would be played"):
            fuzz.run(examples, steps, 1, folder=tmp_path)
    machine: Any = int
    with pytest.raises(TypeError, match="a machine is a subclass of Fuzz, not <class 'int'>"):
        fuzz.run(1, 1, 1, folder=tmp_path, machine=machine)

    class Wrong(fuzz.Fuzz):
        config: ClassVar[Any] = {"max_concurrent": 2}

    with pytest.raises(TypeError, match=r"Wrong.config is a SessionConfig or None, not \{'max_concurrent': 2\}"):
        fuzz.run(1, 1, 1, folder=tmp_path, machine=Wrong)
