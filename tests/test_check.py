"""The main job: every property gets a verdict with evidence, and what is broken or unseen is a failure."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import attrs
import pytest

from model import check as checking
from model import engines
from model.check import Failure, Part, as_json, judge_tables, make_rows
from model.coverage import Coverage, required
from model.engines import ENGINES
from model.exploration.explorer import Exploration, explore
from model.exploration.golden_counts import GOLDEN, Counts
from model.exploration.scopes import find
from model.fuzzing import fuzz
from model.spin.errors import SpinMissing
from model.verdicts import Verdict
from statemachine.checking import diagrams
from statemachine.checking.properties import PROPERTIES
from statemachine.core import rules
from statemachine.core.machines import MACHINES

SMALL = attrs.evolve(find("reject"), name="small", ids=1, agents_act=False, waits=())


Parts = tuple[list[Exploration], list[fuzz.FuzzResult], tuple[Verdict, ...]]
HELD = tuple(Verdict("S1", engine.judges[0], "it holds", True, 0.1) for engine in ENGINES)


def in_this_process(jobs: int, seed: int, *_: object) -> Parts:
    """Parts as `run_parts` returns them, small and without a pool, so that a patched rule is seen."""
    return [explore(SMALL)], [fuzz.run(2, 60, seed + n, None, Path("unused")) for n in range(jobs)], HELD


def explored_alone(*_: object) -> Parts:
    """The same, without any fuzz."""
    return [explore(SMALL)], [], HELD


def test_judge_tables_covers_every_pair_and_finds_a_changed_table(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs, failures = judge_tables()
    assert pairs == sum(len(m.states) * len(m.triggers) for m in MACHINES)
    assert failures == []
    honest = diagrams.declaration

    def changed(machine: Any) -> dict[str, Any]:
        told = honest(machine)
        if machine.name == "Residency":
            told["transitions"][0]["dest"] = "resident"
        return told

    monkeypatch.setattr(diagrams, "declaration", changed)
    (failure,) = judge_tables()[1]
    assert failure == Failure("tables", "Residency", "load from unloaded: the core has loading, the table resident")


def test_check_of_a_sound_core_gives_every_property_a_verdict_per_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "run_parts", in_this_process)
    report = checking.check(jobs=1)
    judged = {(row.subject, row.engine) for row in report.rows if row.evidence > 0 and row.verdict == "held"}
    for known in PROPERTIES:
        assert (known.id, "exploration") in judged
        assert known.id == "L7" or (known.id, "fuzz") in judged
    kinds = {failure.engine for failure in report.failures}
    assert kinds <= {"sometimes"}, "only what these small parts cannot reach may be missing"
    assert as_json(report)["fuzz_steps"] == report.fuzz_steps > 0


def test_check_of_a_broken_core_names_what_broke_with_its_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(checking, "run_parts", explored_alone)
    monkeypatch.setattr(rules, "is_current", lambda *_: True)
    report = checking.check(folder=tmp_path)
    assert not report.held
    failure = report.failures[0]
    assert failure.engine == "exploration"
    assert failure.program
    assert Path(failure.trace).is_file()
    assert any(row.verdict == "BROKEN" for row in report.rows if row.engine == "exploration")


def test_check_that_has_not_seen_everything_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "run_parts", explored_alone)
    report = checking.check()
    unseen = {failure.detail for failure in report.failures if failure.engine == "sometimes"}
    assert "S16 bound" in unseen
    assert not report.held


def test_check_that_counts_other_states_than_the_golden_ones_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    found = explore(SMALL)
    counts = Counts(found.states, found.offered, found.transitions, found.depth)
    monkeypatch.setattr(checking, "run_parts", explored_alone)
    for golden, details in ((counts, []), (attrs.evolve(counts, states=1), [f"scope small: {counts}, where "])):
        monkeypatch.setitem(GOLDEN, "small", golden)
        told = [failure.detail for failure in checking.check().failures if failure.kind == "counts"]
        assert [detail.partition("Counts(states=1,")[0] for detail in told] == details


def test_make_rows_counts_states_for_states_and_steps_for_steps() -> None:
    found = explore(SMALL)
    rows = make_rows(1, [found], 7, Counter(required()), [])
    by = {(row.subject, row.engine): row for row in rows}
    assert by["S1", "exploration"].evidence == found.states
    assert by["S12", "exploration"].evidence == found.offered
    assert by["S15", "exploration"].evidence == found.transitions
    assert by["lockstep", "fuzz"].evidence == 7
    assert by["sometimes", "all"].verdict == "held"


def test_coverage_unseen_names_what_has_no_count() -> None:
    coverage = Coverage()
    coverage.counts.update(required())
    assert coverage.unseen() == []
    del coverage.counts["S16 bound"]
    assert coverage.unseen() == ["S16 bound"]


# The engines that judge single obligations


def test_check_has_a_line_for_each_engine_and_an_obligation_that_fails_is_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refuted = Verdict("S3", "tie", "reject", False, 0.1, "one-sided")
    monkeypatch.setattr(checking, "run_parts", lambda *_: (*explored_alone()[:2], (*HELD, refuted)))
    report = checking.check(engines=tuple(attrs.evolve(engine, lacks=lambda: None) for engine in ENGINES))
    lines = {row.engine: (row.verdict, row.evidence) for row in report.rows if row.subject == "quick part"}
    assert lines == {
        "spin": ("held", 1),
        "proof": ("BROKEN", 2),
        "contracts": ("held", 1),
        "fairness": ("held", 1),
        "log": ("held", 1),
    }
    assert Failure("tie", "S3", "reject: one-sided") in report.failures


def test_check_goes_on_without_an_engine_whose_tools_are_missing_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def parts(*arguments: Any) -> Parts:
        asked.extend(engine.name for engine in arguments[-2])
        return explored_alone()

    monkeypatch.setattr(checking, "run_parts", parts)
    without_spin = [attrs.evolve(engine, lacks=lambda: SpinMissing("spin")) for engine in ENGINES[:1]]
    report = checking.check(engines=(*without_spin, *ENGINES[1:]))
    assert asked == [engine.name for engine in ENGINES[1:]]
    (row,) = [row for row in report.rows if row.engine == "spin"]
    assert (row.verdict, row.evidence) == ("not run", 0)
    assert "install it" in row.unit
    assert {failure.engine for failure in report.failures} <= {"sometimes"}


def test_engine_that_ran_gives_a_verdict_for_each_of_its_obligations(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Part] = []
    monkeypatch.setattr(checking, "report_part", told.append)
    monkeypatch.setattr(checking, "find_engine", lambda name: attrs.evolve(engines.find(name), run=lambda **_: HELD))
    assert checking.run_engine("contracts", quick=True) == HELD
    assert [(part.name, part.states, part.done) for part in told] == [("contracts", len(HELD), True)]


def test_engine_that_raises_has_failed_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(**_: Any) -> tuple[Verdict, ...]:
        raise ZeroDivisionError("a slip")

    monkeypatch.setattr(checking, "find_engine", lambda name: attrs.evolve(engines.find(name), run=raises))
    (verdict,) = checking.run_engine("contracts", quick=True)
    assert (verdict.engine, verdict.holds, verdict.note) == ("contract", False, "ZeroDivisionError: a slip")


def test_engine_that_is_asked_to_stop_does_not_count_as_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "stop_is_asked", lambda: True)
    with pytest.raises(checking.Interrupted):
        checking.run_engine("fairness", quick=True)


def test_engine_that_judges_nothing_is_broken() -> None:
    assert checking.engine_row(ENGINES[1], ()).verdict == "BROKEN"


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_quick_part_holds_and_its_verdicts_are_the_engines_own(engine: engines.Engine) -> None:
    if engine.lacks() is not None:
        pytest.skip(str(engine.lacks()))
    verdicts = engine.run(quick=True, progress=lambda _: None)
    assert [verdict for verdict in verdicts if not verdict.holds] == []
    assert {verdict.engine for verdict in verdicts} <= set(engine.judges)
    assert len(verdicts) > 10


@pytest.mark.nightly
def test_check_whole_holds() -> None:
    report = checking.check()
    assert report.failures == ()
