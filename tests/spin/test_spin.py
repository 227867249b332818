"""Spin's graph of the rules beside the core's, breaks that show there, and claims that can fail."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from model.breaks.catalogue import BREAKS
from model.command import cli
from model.spin import compare, engine, tool
from model.spin.compare import compare as compare_world
from model.spin.errors import SpinFailed, SpinMissing
from model.spin.tool import Edge
from model.spin.worlds import CODE, FEATURES, KINDS, Small

MISSING = tool.missing()
needs_spin = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

GOLDEN = {
    "pair": (69, 156),
    "trio": (241, 726),
    "trio, two mails": (703, 2_595),
    "trio, sends": (673, 1_761),
    "stops": (518, 2_496),
    "threads": (95, 668),
    "trio, threads": (2_029, 23_331),
    "asks": (72, 213),
    "chain": (2_162, 9_586),
    "chain, bound": (2_052, 7_023),
    "chain, two slots": (1_602, 6_339),
    "fan": (1_805, 5_877),
    "fan, two slots": (1_693, 8_730),
    "asks, threads": (454, 4_021),
    "wakes": (267, 1_006),
    "wakes, threads": (536, 4_739),
    "wakes, fan": (1_979, 6_201),
    "attempts": (314, 2_282),
    "asks, trees": (1_204, 8_780),
    "attempts, two mails": (8_688, 69_347),
    "attempts, trio": (9_571, 89_859),
    "fan, trees": (9_921, 88_111),
    "fan, threads": (22_673, 270_166),
}
"""World -> states, edges: of both."""
QUICK = ("pair", "trio", "threads", "asks", "asks, threads", "wakes, threads", "attempts")
NAMES = [*QUICK, *(pytest.param(name, marks=pytest.mark.nightly) for name in GOLDEN if name not in QUICK)]
BY_NAME = {world.name: world for world in (*engine.WORLDS, *engine.SLOW)}


@needs_spin
@pytest.mark.parametrize("name", NAMES)
def test_spin_and_the_core_have_the_same_edges(name: str) -> None:
    found = compare_world(BY_NAME[name])
    assert found.differences() == []
    assert (found.states, found.edges) == GOLDEN[name]


def test_golden_counts_cover_every_world() -> None:
    assert list(GOLDEN) == list(BY_NAME)


# Breaks


@pytest.fixture(scope="module")
def graphs() -> dict[str, set[Edge]]:
    """Spin's edges of the worlds in which breaks are looked for."""
    return {
        name: compare.spin_edges(BY_NAME[name])
        for name in ("pair", "threads", "asks", "trio, sends", "chain, two slots")
    }


def one_sided(graphs: dict[str, set[Edge]], world: str, break_id: str | None) -> int:
    """The number of edges that only one side has, of a core with this break."""
    spins = graphs[world]
    known = {state for before, _, after in spins for state in (before, after)}
    if break_id is None:
        return len(compare.core_edges(BY_NAME[world], known) ^ spins)
    with next(one for one in BREAKS if one.id == break_id).applied():
        return len(compare.core_edges(BY_NAME[world], known) ^ spins)


@needs_spin
@pytest.mark.parametrize(
    ("break_id", "world"),
    [
        ("slot-not-released", "pair"),
        ("last-in-first-out", "pair"),
        ("late-mail-waits", "pair"),
        ("death-keeps-the-turn", "threads"),
        ("no-demotion", "threads"),
        ("no-notices-at-all", "asks"),
        ("mail-is-use", "trio, sends"),
        ("stall-wakes-the-first", "chain, two slots"),
    ],
)
def test_break_of_the_core_shows_as_one_sided_edges(break_id: str, world: str, graphs: dict[str, set[Edge]]) -> None:
    assert one_sided(graphs, world, None) == 0
    assert one_sided(graphs, world, break_id) > 0


@needs_spin
def test_core_whose_states_have_no_end_is_told_apart_and_not_followed_for_ever(graphs: dict[str, set[Edge]]) -> None:
    known = {state for before, _, after in graphs["pair"] for state in (before, after)}
    with next(one for one in BREAKS if one.id == "unloaded-not-found").applied():
        edges = compare.core_edges(BY_NAME["pair"], known)
    assert [after for _, _, after in edges - graphs["pair"] if after == "states without end"] == ["states without end"]


@needs_spin
def test_one_sided_edge_is_told_with_both_sides_and_the_event_by_name() -> None:
    with next(one for one in BREAKS if one.id == "slot-not-released").applied():
        verdict = engine.compared(Small("one", (0,), 1, 1))
    assert not verdict.holds
    assert "only the core: " in verdict.note
    assert "only Spin: " in verdict.note
    assert "-- FINISHED 1 -->" in verdict.note


# Claims about fair runs


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@needs_spin
def test_claims_hold_and_what_they_speak_of_comes_up() -> None:
    verdicts = list(engine.claimed(engine.FAIR[0]))
    assert {v.property for v in verdicts} == {"theorem 2", "L5", "L7", "L11"}
    assert [v for v in verdicts if not v.holds] == []


@needs_spin
@pytest.mark.parametrize(
    ("rule", "world", "properties"),
    [
        (1, engine.FAIR[0], {"theorem 2", "L5", "L7"}),
        (2, engine.FAIR[0], {"theorem 2", "L7", "L11"}),
        (3, engine.NEVER, {"L12"}),
    ],
)
def test_claims_fail_if_a_rule_is_broken(rule: int, world: Small, properties: set[str]) -> None:
    """J6 of the first edition; no turn is ever due; the ready queue comes before returning turns."""
    assert {v.property for v in engine.claimed(world, f"-DSPOIL={rule}") if not v.holds} == properties


@needs_spin
def test_claims_of_a_world_in_which_nothing_comes_up_are_no_evidence() -> None:
    """With a slot for each agent nothing queues, and with room for each nothing is evicted."""
    verdicts = list(engine.claimed(Small("roomy", (0, 1), 1, 2, overtaken=1, features=("ASKS",))))
    assert "roomy: not never_returning" in [v.obligation for v in verdicts if not v.holds]


# The tools


@needs_spin
def test_search_that_is_cut_short_is_an_error_and_not_a_smaller_result(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    verifier = tool.build(BY_NAME["pair"], folder, tool.NO_CYCLES)
    whole = tool.search(verifier)
    assert (whole.states, whole.errors) == (GOLDEN["pair"][0], 0)
    monkeypatch.setattr(tool, "DEPTH_MAX", 10)
    with pytest.raises(SpinFailed, match="cut short"):
        tool.search(verifier)


def test_without_spin_the_engine_says_so_and_has_no_verdicts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    said: list[str] = []
    assert engine.run(progress=said.append) == ()
    assert said == ["spin: there is no spin on the path; install it (apt-get install spin gcc), and run this again"]
    with pytest.raises(SpinMissing):
        tool.build(BY_NAME["pair"], tmp_path)


def test_without_a_compiler_the_engine_names_the_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "spin").write_text("#!/bin/sh\n", "utf-8")
    (tmp_path / "spin").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "there is no C compiler" in str(tool.missing())


def test_command_without_spin_says_what_to_install_and_exits_2(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["statemachine", "spin"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    said = capsys.readouterr()
    assert (stopped.value.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert "install it" in said.err


def test_events_have_the_same_numbers_on_both_sides() -> None:
    text = tool.MODEL.read_text("utf-8")
    events = text[text.index("/* Events */") :]
    numbers = {name: int(value) for name, value in re.findall(r"^#define ([A-Z_]+) (\d+)$", events, re.MULTILINE)}
    assert numbers == CODE
    assert len(KINDS) == len(CODE)


def test_every_feature_of_a_world_is_one_of_the_model() -> None:
    text = tool.MODEL.read_text("utf-8")
    assert all(f"#ifdef {feature}\n" in text for feature in FEATURES)
    assert all(set(world.features) <= set(FEATURES) for world in (*engine.WORLDS, *engine.LARGE, *engine.FAIR))


def test_properties_that_the_engine_says_are_asserted_are_those_of_the_model() -> None:
    asserted = re.findall(r"^\s+assert\(.*?/\* (.+?) \*/$", tool.MODEL.read_text("utf-8"), re.MULTILINE)
    assert {name for names in asserted for name in names.split(", ")} == set(engine.ASSERTED)
