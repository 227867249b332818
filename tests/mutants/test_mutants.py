"""Mutants are drawn by a seed, differ in one place, run in place of the core, and are judged by who notices them."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from model.check import Part
from model.documents import mutants as document
from model.mutants import campaign, judging
from model.mutants.campaign import NothingIsNoticed, Results, unmutated
from model.mutants.drawing import PACKAGE, Mutant, draw
from model.mutants.explained import EQUIVALENT, EXPLAINED, TESTS, Explanation
from model.mutants.judging import PLANTED, Verdict, first_to_notice, judge, planted, said_by


@pytest.fixture(scope="module")
def drawn() -> list[Mutant]:
    return draw(5, 7)


def slots(before: str, after: str) -> Mutant:
    """A mutant of the slots, made by hand."""
    original = (PACKAGE / "core" / "slots.py").read_text("utf-8")
    assert original.count(before) >= 1
    source = original.replace(before, after, 1)
    return Mutant("statemachine.core.slots", "Slots", 1, before, after, source, original)


# Drawing


def test_seed_draws_the_same_mutants_and_another_seed_others(drawn: list[Mutant]) -> None:
    assert draw(5, 7) == drawn
    assert {mutant.id for mutant in draw(5, 8)} != {mutant.id for mutant in drawn}


def test_mutant_is_python_and_differs_from_its_module_in_the_lines_that_it_names(drawn: list[Mutant]) -> None:
    assert len({mutant.id for mutant in drawn}) == 5
    for mutant in drawn:
        path = PACKAGE.joinpath(*mutant.module.split(".")[1:]).with_suffix(".py")
        assert mutant.original == path.read_text("utf-8")
        assert ast.dump(ast.parse(mutant.source)) != ast.dump(ast.parse(mutant.original))
        assert mutant.before in mutant.original
        assert mutant.after in mutant.source


# Judging


def test_planted_text_is_what_a_program_imports_and_the_file_stays_as_it_was(tmp_path: Path) -> None:
    text = tmp_path / "text.py"
    text.write_text("from statemachine.core import nothing_of_this_name\n", "utf-8")
    asked = [*planted("statemachine.core.slots", text), "tests.mutants.asked"]
    assert "runpy.run_module" in PLANTED
    told = subprocess.run(asked, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert "nothing_of_this_name" in told.stderr


def test_mutant_that_breaks_a_rule_is_caught_by_the_evidence() -> None:
    verdict = judge(slots("self.held += 1", "self.held += 2"))
    assert verdict.is_caught_by_evidence, verdict.by
    assert verdict.by.startswith("scope ")


def test_mutant_that_cannot_be_imported_has_crashed() -> None:
    assert judge(slots("class Slots", "raise ValueError\n\nclass Slots")).by == "crash"


def test_check_that_raises_or_does_not_end_has_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def raises() -> bool:
        raise KeyError("a")

    def hangs() -> bool:
        while True:
            pass

    monkeypatch.setattr(judging, "CHECK_SECONDS_MAX", 1)
    for notices, by in ((lambda: False, ""), (lambda: True, "one"), (raises, "one"), (hangs, "one")):
        monkeypatch.setattr(judging, "checks", lambda *_, notices=notices: iter([("one", notices)]))
        assert first_to_notice("", "") == by


def test_what_a_process_says_last_counts_and_one_that_says_nothing_has_crashed() -> None:
    assert said_by('noise\n\n{"by": "scope pair"}\n') == "scope pair"
    assert said_by('{"by": ""}\n') == ""
    for text in ("", "Killed\n", "[]\n", "1\n"):
        assert said_by(text) == "crash"


# The campaign


def results(*by: str) -> Results:
    one = slots("self.held += 1", "self.held += 2")
    return Results("2026-01-31", 7, 60.0, tuple(Verdict(evolve(one, after=f"{n}"), b, 1.0) for n, b in enumerate(by)))


def test_share_leaves_out_what_nobody_could_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    found = results("scope pair", "tests", "", "fuzz")
    missed, equivalent = found.survivors
    assert (found.caught, found.share) == (2, 0.5)
    monkeypatch.setitem(EXPLAINED, equivalent.mutant.id, Explanation(EQUIVALENT, "it is slower"))
    assert (found.share, found.unexplained) == (2 / 3, (missed,))
    monkeypatch.setitem(EXPLAINED, missed.mutant.id, Explanation(TESTS, "no engine opens files"))
    assert (found.share, found.unexplained) == (2 / 3, ())
    text = document.document(found)
    assert "4 mutants" in text
    assert "66.7% of those that are not" in " ".join(text.split())
    assert "| yes | tests | no engine opens files |" in text
    assert "| no | equivalent | it is slower |" in text


def test_campaign_tries_what_is_not_mutated_and_says_nothing_if_that_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = list[Part]()

    def judged(jobs: int, tasks: Any, on_progress: Any) -> list[Verdict]:
        first, *others = [task.arguments[0] for task in tasks]
        assert first.source == first.original == unmutated(others[0]).source
        return [Verdict(first, noticed, 1.0), *[Verdict(mutant, "scope pair", 1.0) for mutant in others]]

    monkeypatch.setattr(campaign, "side_by_side", judged)
    noticed = ""
    assert campaign.run(2, 7, 1, told.append).caught == 2
    assert [part.name for part in told] == ["drawing", "drawing"]
    noticed = "tests"
    with pytest.raises(NothingIsNoticed, match="tests fails on the core as it is"):
        campaign.run(2, 7, 1, told.append)


def test_every_survivor_that_is_explained_is_of_a_known_kind() -> None:
    for id_, why in EXPLAINED.items():
        assert why.kind in ("equivalent", "words", "tests", "missed"), id_
        assert why.reason
