"""The command: exit codes, one line on stderr for errors of use, and nothing written then."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
import pytest

from model.command import cli, numbers
from statemachine.core import rules


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    """The command with these words: exit code, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["statemachine", *words])
    code: object = 0
    try:
        cli.main()
    except SystemExit as stopped:
        code = stopped.code
    said = capsys.readouterr()
    assert isinstance(code, int)
    return code, said.out, said.err


HOST = ("host", "f", "--work", "tests.hosting.work:work")
ERRORS_OF_USE: dict[str, tuple[list[str], str]] = {
    "unknown command": (["dance"], "No such command 'dance'"),
    "unknown scope": (["explore", "nowhere"], "there is no scope 'nowhere'; there are pair,"),
    "unknown property": (["properties", "S99"], "there is no property 'S99'; there are S1,"),
    "unknown machine": (["diagram", "toaster"], "there is no machine 'toaster'; there are identity,"),
    "no such trace": (["replay", "missing.ndjson"], "missing.ndjson"),
    "jobs below one": (["check", "--jobs", "0"], "0 is not in the range"),
    "minutes that are no number": (["fuzz", "--minutes", "soon"], "'soon' is not a valid float"),
    "host of nothing": (["host", "--work", "os:path"], "give a folder, or --dsn and a database"),
    "host of both": (["host", "f", "--dsn", "postgresql:///x", "--work", "os:path"], "give a folder, or --dsn"),
    "host of a folder in none": (["host", "no/f", "--work", "tests.hosting.work:work"], "in a directory that is there"),
    "minutes that are not a number": (["fuzz", "--minutes", "nan"], "nan is not a finite number"),
    "minutes without an end": (["fuzz", "--minutes", "inf"], "inf is not in the range"),
    "seconds that are not a number": (["demo", "--seconds", "nan"], "nan is not a finite number"),
    "seconds without an end": (["demo", "--seconds", "inf"], "inf is not in the range"),
    "seed beyond all": (["crash", "--seed", "9" * 40], "is not in the range"),
    "ttl that is not a number": ([*HOST, "--ttl", "nan"], "nan is not a finite number"),
    "capacity below one": ([*HOST, "--capacity", "-5"], "-5 is not in the range"),
    "poll of nothing": ([*HOST, "--poll", "0"], "0.0 is not in the range"),
    "time to live below nothing": ([*HOST, "--idle-ttl", "-1"], "-1.0 is not in the range"),
    "poll that is longer than the ttl": ([*HOST, "--poll", "5", "--ttl", "1"], "give a ttl of three polls or more"),
    "work that is not work": (["host", "f", "--work", "os:getcwd"], "work"),
    "work whose module raises": (["host", "f", "--work", "tests.command.raising:work"], "RuntimeError: in the module"),
    "configuration that is not one": ([*HOST, "--config", "os:sep"], "'os:sep' is not a SessionConfig"),
    "no folder for documents": (["docs", "--folder", "elsewhere"], "there is no folder 'elsewhere'"),
}


def test_every_number_among_the_options_is_finite_and_has_bounds() -> None:
    for name, found in cli.command.commands.items():
        for option in found.params:
            is_number = isinstance(option.type, click.types.IntParamType | click.types.FloatParamType)
            if is_number or (isinstance(option.default, int | float) and not isinstance(option.default, bool)):
                assert isinstance(option.type, numbers.Whole | numbers.Seconds), f"{name} {option.name}"
                assert option.type.min is not None
                assert option.type.max is not None


@pytest.mark.parametrize("name", ERRORS_OF_USE)
def test_command_with_an_error_of_use_says_one_line_and_writes_nothing(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    words, text = ERRORS_OF_USE[name]
    code, out, err = run(capsys, monkeypatch, *words)
    assert (code, out) == (2, "")
    assert text in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_replay_of_a_foreign_file_says_one_line_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("dear diary\n", encoding="utf-8")
    code, out, err = run(capsys, monkeypatch, "replay", "notes.txt")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "notes.txt" in err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_explore_scope_that_holds_exits_0_with_its_counts_as_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = run(capsys, monkeypatch, "explore", "reject", "--jobs", "1", "--json")
    assert code == 0
    (scope,) = json.loads(out)
    assert (scope["scope"], scope["states"], scope["closed"]) == ("reject", 620, True)


def test_explore_broken_core_exits_1_with_a_program_and_a_trace_that_replays_to_the_same(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rules, "goes_on", lambda *_: False)
    code, out, _ = run(capsys, monkeypatch, "explore", "pair", "--jobs", "1")
    assert code == 1
    assert "follow_up host a" in out
    (trace,) = tmp_path.rglob("*.ndjson")
    assert str(trace.relative_to(tmp_path)) in out
    code, out, _ = run(capsys, monkeypatch, "replay", str(trace))
    assert code == 1
    assert "broken by event 5 of 5 events: S20" in out
    monkeypatch.undo()
    code, out, _ = run(capsys, monkeypatch, "replay", str(trace))
    assert code == 0
    assert "verdict: HELD, 5 events" in out


def test_explore_list_names_every_scope(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = run(capsys, monkeypatch, "explore", "--list")
    assert code == 0
    assert "trio-everything" in out
    assert "(nightly)" in out


def test_properties_of_some_ids_shows_those(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = run(capsys, monkeypatch, "properties", "s15", "L7")
    assert code == 0
    assert "S15" in out
    assert "L7" in out
    assert "S14" not in out


def test_diagram_of_one_machine_is_mermaid(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = run(capsys, monkeypatch, "diagram", "slot")
    assert code == 0
    assert "stateDiagram" in out
    assert "reserved" in out


def test_docs_check_of_stale_documents_exits_1_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "machines.md").write_text("old\n", encoding="utf-8")
    code, out, _ = run(capsys, monkeypatch, "docs", "--check", "--folder", str(tmp_path))
    assert code == 1
    assert "stale" in out
    assert (tmp_path / "machines.md").read_text(encoding="utf-8") == "old\n"
