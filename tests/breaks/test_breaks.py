"""Every broken rule is noticed, by whom specs/breaks.md says, after as many states, with as short a trace."""

from __future__ import annotations

import re

import pytest

from model.breaks.catalogue import BREAKS
from model.breaks.defects import Break, look_up
from model.breaks.hunt import FUZZ, Catch, hunt, injected, look_in
from model.documents import breaks as documents
from model.documents.breaks import NOTHING, cells
from model.exploration.scopes import RUNGS, SCOPES, find
from model.pools import CONTEXT
from model.scenarios import script
from model.scenarios.replay import Trial
from statemachine.checking.properties import PROPERTIES
from statemachine.core.config import SessionConfig

ROW = re.compile(r"^\| (`[a-z-]+` \| .*) \|$", re.MULTILINE)
ROWS = [tuple(row.split(" | ")) for row in ROW.findall(documents.DOCUMENT.read_text("utf-8"))]
"""The rows of the document: break, sentence, rules, where, caught by, states, events, without the reference."""
WRITTEN = {row[0].strip("`"): row for row in ROWS}
EXPLORED = [b for b in BREAKS if WRITTEN[b.id][3] not in (FUZZ, "-")]
FUZZED = [b for b in BREAKS if WRITTEN[b.id][3] == FUZZ]
UNSEEN = [b for b in BREAKS if WRITTEN[b.id][4] == NOTHING]
ALONE = [b for b in EXPLORED if WRITTEN[b.id][7] != "-"]
NEVER_ALONE = [b for b in EXPLORED if WRITTEN[b.id][7] == "-"]
SMALL = ("reject", "end")


def name(a_break: Break) -> str:
    return a_break.id


def hunted(a_break: Break, with_reference: bool = True) -> Catch:
    found = hunt(a_break, with_reference, everywhere=False)
    assert found is not None, f"{a_break.id} goes unnoticed in {a_break.place}"
    return found


def test_document_lists_every_break_once_with_its_sentence_and_rules() -> None:
    assert [row[:3] for row in ROWS] == [cells(b, None, None)[:3] for b in BREAKS]
    assert len(WRITTEN) == len(BREAKS) >= 24


def test_no_break_goes_unnoticed() -> None:
    assert [b.id for b in UNSEEN] == []


def test_document_is_what_its_rows_and_the_traces_of_today_make_it() -> None:
    written, now = documents.DOCUMENT.read_text("utf-8"), documents.document(ROWS)
    assert written.splitlines() == now.splitlines(), (
        "run `python -m model.documents.breaks --write`, then read the diff"
    )
    assert written == now


def test_agent_that_gets_no_turn_any_more_is_noticed_by_driving_every_agent_to_one() -> None:
    (sleeps_on,) = [b for b in BREAKS if b.id == "idle-agent-sleeps-on"]
    found = hunted(sleeps_on, with_reference=False)
    assert (found.by, found.detail.partition(":")[0]) == ("L7", "agent 1 gets no turn any more")


@pytest.mark.parametrize("a_break", EXPLORED, ids=name)
def test_break_is_caught_by_whom_the_document_says_and_its_trace_is_to_the_point(a_break: Break) -> None:
    found = hunted(a_break)
    assert cells(a_break, found, None)[:7] == WRITTEN[a_break.id][:7]
    if found.by == "L7":  # about what can be reached; a trial judges no such thing
        return
    config = find(found.place).config
    assert broken_by(config, found.lines) is None
    with injected(a_break):
        assert broken_by(config, found.lines) == len(found.lines)


def broken_by(config: SessionConfig, lines: tuple[str, ...]) -> int | None:
    """The number of the line that breaks something, when they are played as a program."""
    trial = Trial(config)
    for number, line in enumerate(lines, 1):
        try:
            trial.play(script.parse(line, trial.session))
        except Exception:
            return number
    return None


@pytest.mark.parametrize("a_break", ALONE, ids=name)
def test_break_is_caught_without_the_reference_by_whom_the_document_says(a_break: Break) -> None:
    assert cells(a_break, None, hunted(a_break, with_reference=False))[7] == WRITTEN[a_break.id][7]


@pytest.mark.parametrize("a_break", FUZZED, ids=name)
def test_break_that_no_scope_shows_is_caught_by_the_fuzz(a_break: Break) -> None:
    with CONTEXT.Pool(1) as pool:  # as the document was written: what the fuzz draws depends on the modules loaded
        assert pool.apply(documents.row, (a_break.id, True))[:7] == WRITTEN[a_break.id][:7]


@pytest.mark.parametrize("with_reference", [True, False])
@pytest.mark.parametrize("scope", SMALL)
def test_hunt_without_a_break_finds_nothing(scope: str, with_reference: bool) -> None:
    with injected(None, with_reference):
        assert look_in(find(scope)) is None


def test_break_is_taken_back_even_if_the_core_raises() -> None:
    for a_break in BREAKS:
        before = look_up(a_break.where)
        with pytest.raises(ZeroDivisionError):
            raise_with(a_break)
        assert look_up(a_break.where) is before


def raise_with(a_break: Break) -> None:
    before = look_up(a_break.where)
    with injected(a_break, with_reference=False):
        assert look_up(a_break.where) is not before
        raise ZeroDivisionError


def test_properties_and_place_that_a_break_names_exist() -> None:
    known = {p.id for p in PROPERTIES}
    for a_break in BREAKS:
        assert set(re.findall(r"\b[SL]\d+\b", a_break.rules)) <= known
        assert a_break.place in (FUZZ, *[scope.name for scope in (*SCOPES, *RUNGS)])


# Absence takes long to show


@pytest.mark.nightly
@pytest.mark.parametrize("a_break", NEVER_ALONE, ids=name)
def test_break_with_a_dash_is_noticed_by_no_property_in_its_scope(a_break: Break) -> None:
    assert hunt(a_break, with_reference=False, everywhere=False) is None


@pytest.mark.nightly
@pytest.mark.parametrize("a_break", FUZZED, ids=name)
def test_break_left_to_the_fuzz_is_shown_by_no_scope(a_break: Break) -> None:
    with injected(a_break):
        assert [s.name for s in SCOPES if look_in(s) is not None] == []


@pytest.mark.nightly
@pytest.mark.parametrize("a_break", UNSEEN, ids=name)
def test_break_that_nobody_notices_is_noticed_by_nobody(a_break: Break) -> None:
    assert hunt(a_break) is None
