"""The front door and the matrix: what they say of properties, evidence and breaks is what the engines and files say."""

from __future__ import annotations

import re

import pytest

from model.breaks.catalogue import BREAKS
from model.documents import evidence, front_door, matrix
from model.documents.front_door import PROMISES, Promise, broken, noticed_by
from model.exploration.explorer import how_often
from model.exploration.golden_counts import GOLDEN, together
from statemachine.checking.properties import PROPERTIES, Property

SCREEN = 70
"""Lines."""

promises = pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.property_id)


def amount(text: str) -> int:
    """The sum of the numbers in a text."""
    return sum(int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d", text))


def known(property_id: str) -> Property:
    return next(known for known in PROPERTIES if known.id == property_id)


@pytest.mark.parametrize("one", PROPERTIES, ids=lambda one: one.id)
def test_evidence_of_a_property_is_what_an_explorer_with_these_counts_says(one: Property) -> None:
    counts = together()
    assert amount(evidence.explored(one)) == how_often(counts.states, counts.events, counts.transitions)[one.id]


def test_counts_together_are_the_sums_of_the_scopes() -> None:
    assert together().states == sum(counts.states for counts in GOLDEN.values())
    assert together().depth == max(counts.depth for counts in GOLDEN.values())


def test_breaks_on_file_are_those_that_there_are() -> None:
    assert [(b.id, b.sentence, b.rules) for b in evidence.caught()] == [(b.id, b.sentence, b.rules) for b in BREAKS]


def test_each_property_is_the_first_to_notice_some_break_without_the_reference() -> None:
    noticed = {b.by_alone for b in evidence.caught()}
    assert [one.id for one in PROPERTIES if one.id not in noticed] == []


def test_matrix_counts_for_each_property_the_breaks_that_are_about_it() -> None:
    breaks = evidence.caught()
    rows = [line.strip("| ").split(" | ") for line in matrix.properties_section(breaks).splitlines()[2:]]
    assert [row[0] for row in rows] == [one.id for one in PROPERTIES]
    for property_id, _, _, _, about, with_reference, without, itself in rows:
        mine = [b for b in breaks if re.search(rf"\b{property_id}\b", f"{b.rules} {b.by} {b.by_alone}")]
        assert int(about) == len(mine)
        assert int(with_reference) == len([b for b in mine if b.by != "nobody"])
        assert int(without) == len([b for b in mine if b.alone != "-"])
        assert itself.replace("`", "").split(", ") == [b.id for b in breaks if b.alone.startswith(f"{property_id} ")]


def test_matrix_lists_each_break_once_by_judge() -> None:
    rows = [line.strip("| ").split(" | ") for line in matrix.judges_section(evidence.caught()).splitlines()[2:]]
    *judges, total = rows
    assert total == ["all", str(len(BREAKS)), str(len(BREAKS))]
    for column in (1, 2):
        assert sum(int(row[column]) for row in judges) == len(BREAKS)


@promises
def test_promise_fits_on_a_screen(promise: Promise) -> None:
    assert len(front_door.screen(1, promise).splitlines()) <= SCREEN


@promises
def test_break_of_a_promise_is_shown_with_the_numbers_on_file(promise: Promise) -> None:
    for name in promise.breaks:
        row = next(b for b in evidence.caught() if b.id == name)
        text = broken(name, known(promise.property_id))
        assert f"notices it after {row.states} states, by" in " ".join(text.split())
        states, events = re.findall(r"\d+", row.alone.partition("(")[2])
        assert f"notices it after {states} states:" in " ".join(text.split())
        assert len(text.split("```")[1].strip().splitlines()) == int(events)


def test_break_that_another_property_notices_is_not_shown_for_a_promise() -> None:
    with pytest.raises(AssertionError, match="noticed by S1, not by S6: take another break"):
        broken("one-slot-too-many", known("S6"))


def test_judge_is_said_in_words() -> None:
    assert noticed_by("lockstep, effects") == "the reference model, which has other effects"
    assert noticed_by("S7") == "S7"
