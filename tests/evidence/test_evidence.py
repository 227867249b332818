"""What each property rests on: no row of specs/evidence.md is empty, and a run of all engines says what it found."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import attrs
import pytest

from model.breaks.catalogue import BREAKS
from model.breaks.defects import Break
from model.check import Failure, Part, Report
from model.check import Row as CheckRow
from model.command import cli
from model.command.engines import is_news
from model.documents import evidence_table, traceability
from model.documents.evidence_table import MARK, evidence_document, run_part, static_part
from model.documents.traceability import Row, Strength, property_rows
from model.engines import ENGINES
from model.evidence import campaign, hunts
from model.evidence.campaign import Results
from model.evidence.hunts import LOOKS, Hunt
from model.proof.claims import CLAIMS, Extent
from model.spin import tool
from model.verdicts import Verdict
from statemachine.checking.properties import PROPERTIES

REPOSITORY = Path(__file__).parents[2]
needs_spin = pytest.mark.skipif(tool.missing() is not None, reason=str(tool.missing()))


def rows() -> dict[str, Row]:
    return {row.id: row for row in property_rows()}


# What each property rests on


def test_there_is_a_row_for_each_property_and_each_theorem() -> None:
    theorems = re.findall(r"^\*\*(Theorem \d)", (REPOSITORY / "specs/semantics.md").read_text("utf-8"), re.MULTILINE)
    assert list(rows()) == [known.id for known in PROPERTIES] + [name.lower() for name in theorems]


def test_no_row_is_without_evidence() -> None:
    assert [row.id for row in property_rows() if row.best is None] == []


@pytest.mark.parametrize("known", PROPERTIES, ids=lambda known: known.id)
def test_property_has_code_a_rule_a_judge_a_test_and_a_break(known: Any) -> None:
    row = rows()[known.id]
    parts = {"code": row.code, "rules": row.rules, "explored": row.explored, "breaks": row.breaks}
    parts["tests"] = row.tests or ("traces",) * row.traces
    assert [name for name, part in parts.items() if not part] == []


def test_row_that_rests_on_nothing_has_no_strongest_evidence() -> None:
    row = Row("S99", "nothing is known of it", rules="J1", code=("rules.py",), breaks=("one",))
    assert row.best is None
    assert evidence_table.cells(row)[-1] == "-"


@pytest.mark.parametrize(
    ("parts", "best"),
    [
        ({"extent": Extent.WHOLE, "explored": "1 state"}, Strength.PROVED),
        ({"extent": Extent.PART, "explored": "1 state"}, Strength.PROVED_IN_PART),
        ({"explored": "1 state", "fairness": ("due",)}, Strength.EXPLORED),
        ({"fairness": ("due",), "contracts": ("is_due",)}, Strength.FAIR_RUNS),
        ({"contracts": ("is_due",), "is_confirmed": True, "fuzzed": "states"}, Strength.CONFIRMED),
        ({"contracts": ("is_due",), "fuzzed": "states"}, Strength.PLAYED),
        ({"fuzzed": "states", "traces": 1}, Strength.PLAYED),
        ({"traces": 1}, Strength.TESTED),
        ({"tests": ("test_one",)}, Strength.TESTED),
    ],
)
def test_strongest_evidence_is_the_first_of_the_kinds_that_there_are(parts: dict[str, Any], best: Strength) -> None:
    assert Row("S99", "", **parts).best is best


def test_row_has_what_the_engines_declare() -> None:
    row = rows()["L11"]
    assert (row.extent, row.proof) == (Extent.WHOLE, ("fairness of turns",))
    assert "`is_due` (4)" in row.contracts
    assert {"due", "seniority"} < {*row.fairness}
    assert row.spin == ("fair runs of 4 worlds",)
    assert any("[test_lending.py](../tests/core/test_lending.py)" in link for link in row.tests)
    assert "[`Slots.first`](../statemachine/core/slots.py)" in row.code
    assert "no-turn-is-due" in row.breaks
    assert rows()["S1"].spin == ("every state",)
    assert rows()["theorem 2"].best is Strength.FAIR_RUNS
    assert rows()["theorem 3"].explored == "as L8"


def test_ids_are_found_in_code_and_ids_of_other_kinds_are_not() -> None:
    text = "S1 and L12, J2; Theorem 2 (theorem 3), D5, BUG-B01, PEER-L01, S1x, section 4"
    assert traceability.cited_in(text) == {"S1", "L12", "J2", "theorem 2", "theorem 3"}


def test_tests_of_documents_are_not_evidence_for_a_property() -> None:
    files = {file for cited in traceability.citing_tests().values() for file, _ in cited}
    assert len(files) > 10
    assert [file for file in files if file.startswith(("../tests/documents/", "../tests/evidence/"))] == []


def test_correctness_says_what_the_claims_of_the_proof_say() -> None:
    text = (REPOSITORY / "specs/correctness.md").read_text("utf-8")
    for title, extent in (("Whole", Extent.WHOLE), ("In part", Extent.PART), ("Not", Extent.NOT)):
        names = ", ".join(claim.property for claim in CLAIMS if claim.extent is extent)
        assert f"- {title}: {names}.\n" in text


# The document


def report(*failures: Failure) -> Report:
    held = (CheckRow("S1", "exploration", "held", 9, "states"), CheckRow("S1", "fuzz", "held", 5, "states"))
    return Report(held, failures, (), 5, Counter(), (), 1.0)


GOOD = (
    Verdict("S1", "proof", "admit: slots", True, 0.25),
    Verdict("S1", "proof", "lend: slots", True, 0.25),
    Verdict("all", "tie", "gather", True, 1.5),
    Verdict("J2", "contract", "first", True, 0.1),
)
FOUND = (Hunt("one-slot-too-many", "explorer", "S1 in idle", 0.4), Hunt("one-slot-too-many", "tie", "", 2.0))


def results(*verdicts: Verdict, hunted: tuple[Hunt, ...] = FOUND, lacking: tuple[str, ...] = ()) -> Results:
    tools = (("spin", "6.5.2"),)
    return Results("2026-01-31", 600.0, 2, tools, report(), verdicts or GOOD, hunted, lacking)


def test_run_is_told_by_engine_by_property_and_by_break() -> None:
    text = run_part(results(lacking=("spin: there is no spin on the path",)))
    assert "on 2026-01-31, with 2 processes, in 10 minutes: everything held." in " ".join(text.split())
    assert "| spin | 6.5.2 |" in text
    assert "Not run: spin: there is no spin on the path." in text
    lines = [re.split(r" ?\| ?", line.strip("| ")) for line in text.splitlines() if line.startswith("| ")]
    assert ["proof", "2 obligations", "all", "0"] in lines
    assert ["spin", "0 obligations", "not run", "0"] in lines
    (head,) = [line for line in lines if line[0] == "about"]
    by_property = {line[0]: dict(zip(head[1:], line[1:], strict=True)) for line in lines if len(line) == len(head)}
    assert by_property["S1"]["exploration"] == "9 states"
    assert by_property["S1"]["proof"] == "2"
    assert by_property["J2"]["contract"] == by_property["all"]["tie"] == "1"
    assert by_property["S2"]["proof"] == "-"
    assert ["`one-slot-too-many`", "S1 in idle (0.4)", *["-"] * (len(LOOKS) - 1)] in lines


def test_obligation_that_fails_is_told_loudly_and_is_a_failure() -> None:
    found = results(*GOOD, Verdict("S1", "proof", "swap: slots", False, 0.1, "refuted"))
    assert found.failures == (Failure("proof", "S1", "swap: slots: refuted"),)
    text = run_part(found)
    assert "1 FAILED" in text
    assert "| 2 of 3: FAILED |" in text


def test_break_that_no_engine_notices_is_a_failure() -> None:
    found = results(hunted=(*FOUND, Hunt("stall", "explorer", "", 1.0), Hunt("stall", "tie", "", 1.0)))
    assert found.uncaught == ("stall",)
    assert found.failures == (Failure("breaks", "stall", "no engine notices it"),)
    assert "| 1 of 2: FAILED |" in run_part(found)


def test_run_that_is_written_leaves_the_static_part_and_make_docs_leaves_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(evidence_table, "DOCUMENT", tmp_path / "evidence.md")
    evidence_table.write(results())
    written = (tmp_path / "evidence.md").read_text("utf-8")
    assert written == static_part() + MARK + run_part(results()) == evidence_document()


# The command


@pytest.fixture
def document(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(evidence_table, "DOCUMENT", tmp_path / "evidence.md")
    return tmp_path / "evidence.md"


def exit_code(monkeypatch: pytest.MonkeyPatch, found: Results, *words: str) -> object:
    def run(jobs: int, seed: int, on_progress: Any) -> Results:
        on_progress(Part("proof", 1, doing="prove lend"))
        return found

    monkeypatch.setattr(campaign, "run", run)
    monkeypatch.setattr(sys, "argv", ["statemachine", "evidence", *words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code


def test_command_prints_what_was_found_and_writes_it(
    monkeypatch: pytest.MonkeyPatch, document: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(monkeypatch, results()) == 0
    assert not document.exists()
    said = capsys.readouterr()
    assert "all held: 600 s, 4 obligations" in said.out
    assert said.err == "proof: prove lend\n"
    assert exit_code(monkeypatch, results(), "--write") == 0
    assert MARK in document.read_text("utf-8")


def test_command_with_a_failure_exits_1_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, document: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failing = results(Verdict("S1", "proof", "swap: slots", False, 0.1))
    assert exit_code(monkeypatch, failing, "--write", "--json") == 1
    assert not document.exists()
    told = json.loads(capsys.readouterr().out)
    assert (told["held"], told["verdicts"][0]["obligation"]) == (False, "swap: slots")
    assert told["breaks"][0]["engine"] == "explorer"


def test_progress_without_a_terminal_is_a_line_for_what_begins_and_ends_and_for_each_twentieth_obligation() -> None:
    def part(states: int, doing: str = "prove lend", done: bool = False) -> Part:
        return Part("proof", states, doing=doing, done=done)

    assert is_news(part(1), None)
    assert is_news(part(40, done=True), part(40))
    assert is_news(part(20), part(19))
    assert not is_news(part(19), part(18))
    assert not is_news(part(20_000, doing=""), part(19_000, doing="")), "steps of the fuzz"


# Hunts


def noticed(a_break: Break) -> dict[str, str]:
    """Engine -> what it says of a break, of those that look in a few seconds."""
    return {name: look(a_break) for name, look in LOOKS.items() if name not in ("explorer", "spin")}


def known(id_: str) -> Break:
    return next(one for one in BREAKS if one.id == id_)


def test_break_is_noticed_by_fair_runs_contracts_and_the_tie() -> None:
    assert noticed(known("late-mail-waits")) == {"fairness": "", "contracts": "L11", "tie": ""}
    assert noticed(known("finished-agents-block")) == {"fairness": "L7", "contracts": "L1", "tie": "a step in gather"}


def test_break_that_changes_nothing_is_noticed_by_no_engine() -> None:
    sound = attrs.evolve(
        known("finished-agents-block"), instead=lambda original, *rest, **named: original(*rest, **named)
    )
    assert {*noticed(sound).values()} == {""}


@needs_spin
def test_break_is_noticed_by_spin_with_the_number_of_edges() -> None:
    assert hunts.by_spin(known("finished-agents-block")).endswith("edges in pair")
    assert hunts.edges_of_spin("pair") == hunts.edges_of_spin("pair")


def test_core_that_fails_where_an_engine_looks_is_noticed_and_a_missing_spin_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(_: Break) -> str:
        raise KeyError(1)

    monkeypatch.setattr(hunts, "LOOKS", {"tie": fails, "spin": fails})
    monkeypatch.setattr(tool, "missing", lambda: Exception("no spin"))
    (found,) = hunts.hunts("stall")
    assert (found.id, found.engine, found.by) == ("stall", "tie", hunts.CRASH)


# The run


def test_hunts_are_told_in_one_line_that_counts_the_breaks() -> None:
    told: list[Part] = []
    tell = campaign.counting(told.append)
    for part in (Part("breaks", 0, doing="stall, tie"), Part("breaks", 1, doing="stall, spin"), Part("proof", 1)):
        tell(part)
    tell(Part("breaks", 0, doing="other, tie"))
    everything = f"breaks, of {len(BREAKS)}"
    assert [(part.name, part.states) for part in told] == [
        (everything, 1),
        (everything, 1),
        ("proof", 1),
        (everything, 2),
    ]


def test_tools_have_versions_or_are_said_to_be_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "spin").write_text("#!/bin/sh\necho 'Spin Version 6.5.2 -- 6 December 2019'\n", "utf-8")
    (tmp_path / "spin").chmod(0o755)
    (tmp_path / "gcc").write_text("#!/bin/sh\necho 'gcc (Some 12.2.0-14) 12.2.1'\n", "utf-8")
    (tmp_path / "gcc").chmod(0o755)
    found = dict(campaign.tools())
    assert (found["spin"], found["gcc"]) == ("6.5.2", "12.2.1")
    assert re.fullmatch(r"\d+\.\d+.*", found["z3-solver"])
    (tmp_path / "spin").unlink()
    (tmp_path / "gcc").unlink()
    found = dict(campaign.tools())
    assert (found["spin"], found["C compiler"]) == ("not installed", "not installed")


def test_script_that_installs_spin_never_fails_and_says_what_is_left_out(tmp_path: Path) -> None:
    def said() -> tuple[int, str]:
        script = ["/bin/bash", str(REPOSITORY / ".ci/spin")]
        done = subprocess.run(script, capture_output=True, text=True, check=False, env={"PATH": str(tmp_path)})
        return done.returncode, done.stdout

    assert said() == (0, "spin or a C compiler is missing: the engine of Spin is left out\n")
    for name in ("spin", "cc"):
        (tmp_path / name).write_text("#!/bin/sh\n", "utf-8")
        (tmp_path / name).chmod(0o755)
    assert said() == (0, "")


def test_run_on_file_has_every_engine_and_every_property_and_nothing_failed_in_it() -> None:
    text = (REPOSITORY / "specs/evidence.md").read_text("utf-8").partition(MARK)[2]
    assert "everything held" in text
    assert "FAILED" not in text
    rows_of = {line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if line.startswith("| ")}
    assert rows_of >= {known.id for known in PROPERTIES}
    assert rows_of >= {"exploration", "fuzz", *(kind for engine in ENGINES for kind in engine.judges)}
    assert rows_of >= {f"`{known.id}`" for known in BREAKS}
