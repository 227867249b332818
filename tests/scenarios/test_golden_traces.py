"""The golden traces in specs/traces say what the core does now, and whatever else a log could say is noticed.

`python -m model.scenarios.golden --write` rewrites the logs; read the diff before you keep it.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from model.lockstep import Deviation
from model.scenarios import golden
from statemachine.checking.properties import PropertyViolation
from statemachine.core import effects as fx
from statemachine.core import joint, operations, rules, turns
from statemachine.core.effects import Cancel, Load, WaitEnd
from statemachine.core.records import RECORDS, MailDrained
from statemachine.core.slots import Slots

NAMES = [path.stem for path in golden.files()]
EVENT = "> spawn root a\n"
HEAD = "-- What it shows.\nconfig max_concurrent=2 overflow=REJECT\n"


def copy_of(name: str, folder: Path) -> Path:
    """A golden trace to tamper with."""
    return Path(shutil.copy(golden.TRACES / f"{name}.txt", folder))


def trace(folder: Path, text: str) -> Path:
    """A file with this text."""
    path = folder / "trace.txt"
    path.write_text(text, "utf-8", newline="\n")
    return path


def script_of(path: Path) -> str:
    """What people write of a trace: the lines at the left edge."""
    return "".join(line for line in path.read_text("utf-8").splitlines(keepends=True) if not line.startswith("  "))


# The traces on file


@pytest.mark.parametrize("name", NAMES)
def test_golden_trace_on_file_says_what_the_core_does_now(name: str) -> None:
    difference = golden.difference(golden.TRACES / f"{name}.txt")
    if difference:
        pytest.fail(f"\n{difference}\nIf that is right: python -m model.scenarios.golden --write", pytrace=False)


def test_golden_traces_are_there_and_nothing_else_is_in_their_folder() -> None:
    assert len(NAMES) >= 20
    assert sorted(path.name for path in golden.TRACES.iterdir()) == [f"{name}.txt" for name in NAMES]


def test_golden_traces_together_show_every_record_effect_reply_and_wait_end() -> None:
    lines = [line.split() for path in golden.files() for line in path.read_text("utf-8").splitlines()]
    kinds: list[tuple[str, set[str]]] = [
        ("record", {record.__name__ for record in RECORDS}),
        ("effect", {effect.__name__ for effect in golden.EFFECTS}),
        ("reply", {reply.__name__ for reply in golden.REPLIES}),
    ]
    for kind, expected in kinds:
        assert {line[1] for line in lines if line[:1] == [kind]} == expected
    assert {line[-1] for line in lines if line[:2] == ["effect", "Wake"]} == {end.name for end in WaitEnd}


def test_golden_rows_name_every_record_effect_and_reply_but_the_one_without_a_line() -> None:
    assert set(golden.RECORDS) == set(RECORDS)
    assert set(golden.EFFECTS) == set(fx.Effect.__args__)
    assert set(golden.REPLIES) == set(fx.Reply.__args__) - {fx.Noted}


# Tampering


def tampered(text: str) -> dict[str, str]:
    """The text of a trace, made wrong in several ways."""
    line = "  effect  Flush /root/a generation 1 flush 1\n"
    assert text.count(line) == 1
    return {
        "other number": text.replace(line, line.replace("flush 1", "flush 2")),
        "line missing": text.replace(line, ""),
        "line twice": text.replace(line, line * 2),
        "mark missing": text.replace("  * /root/a", "    /root/a", 1),
        "blank line missing": text.replace("\n\n> ", "\n> ", 1),
        "end missing": text[: text.rindex("\n> loaded")],
        "end of file": text.rstrip("\n"),
        "line ends": text.replace("\n", "\r\n"),
    }


TAMPERED = tampered((golden.TRACES / "wedge.txt").read_text("utf-8"))


@pytest.mark.parametrize("way", [way for way in TAMPERED if way != "end missing"])
def test_golden_trace_whose_log_was_changed_differs_until_it_is_written_anew(way: str, tmp_path: Path) -> None:
    path = copy_of("wedge", tmp_path)
    as_it_was = path.read_bytes()
    path.write_bytes(TAMPERED[way].encode())
    assert golden.difference(path).startswith("--- wedge.txt, on file\n+++ wedge.txt, what the core does now\n@@")
    assert golden.write([path]) == [path]
    assert path.read_bytes() == as_it_was
    assert golden.difference(path) == ""


def test_golden_trace_without_its_last_event_is_another_trace_that_is_right(tmp_path: Path) -> None:
    assert golden.difference(trace(tmp_path, TAMPERED["end missing"])) == ""


def test_golden_difference_shows_the_changed_line_both_ways(tmp_path: Path) -> None:
    difference = golden.difference(trace(tmp_path, TAMPERED["other number"])).splitlines()
    assert "-  effect  Flush /root/a generation 1 flush 2" in difference
    assert "+  effect  Flush /root/a generation 1 flush 1" in difference


@pytest.mark.parametrize("name", NAMES)
def test_golden_write_of_a_bare_script_restores_the_file(name: str, tmp_path: Path) -> None:
    path = copy_of(name, tmp_path)
    as_it_was = path.read_bytes()
    bare = script_of(path).replace("\n\n", "\n")
    assert golden.write([trace(tmp_path, bare)]) == [tmp_path / "trace.txt"]
    assert (tmp_path / "trace.txt").read_bytes() == as_it_was
    assert golden.write([path]) == []


def test_golden_write_keeps_comments_that_follow_the_last_event(tmp_path: Path) -> None:
    path = trace(tmp_path, f"{HEAD}{EVENT}-- The end.\n")
    golden.write([path])
    assert path.read_text("utf-8").endswith("due: load a 30\n\n-- The end.\n")
    assert golden.difference(path) == ""


def test_golden_write_of_several_files_writes_none_if_one_is_no_trace(tmp_path: Path) -> None:
    good = copy_of("wedge", tmp_path)
    good.write_text(TAMPERED["line missing"], "utf-8", newline="\n")
    with pytest.raises(golden.BadTrace):
        golden.write([good, trace(tmp_path, HEAD)])
    assert good.read_text("utf-8") == TAMPERED["line missing"]


# The log


def test_golden_changes_mark_what_is_new_and_not_what_is_only_aligned_anew() -> None:
    before = ["/root  new", "session  open", "time   0"]
    after = ["/root    new", "/root/a  new", "session  open", "time     0"]
    assert list(golden.changes(before, after)) == ["  /root    new", "* /root/a  new", "  session  open"]
    assert list(golden.changes(before, [*before[:2], "time   1"])) == ["* time   1"]
    assert list(golden.changes(before, before)) == []


def test_golden_log_of_a_refusal_names_cause_and_blockers_and_has_no_view(tmp_path: Path) -> None:
    path = trace(tmp_path, f"{HEAD}{EVENT}> spawn root b\n> spawn root a\n> send host #7\n")
    golden.write([path])
    refusals = path.read_text("utf-8").split("\n\n> ")[2:]
    assert refusals == [
        "spawn root b\n  reply   Refused ExecutionFull, cap 1, holders /root/a",
        'spawn root a\n  reply   Refused PathTaken, path "/root/a", holder /root/a',
        "send host #7\n  reply   Refused UnknownAgent, agent #7\n",
    ]


def test_golden_log_tells_agents_with_the_same_path_apart_by_their_ids(tmp_path: Path) -> None:
    path = trace(tmp_path, f"{HEAD}{EVENT}> close host a\n{EVENT}> close host a\n")
    golden.write([path])
    replies = [line.strip() for line in path.read_text("utf-8").splitlines() if line.startswith("  reply")]
    assert replies == [
        "reply   Spawned /root/a, mail 0",
        "reply   ClosedAgents /root/a",
        "reply   Spawned /root/a #2, mail 2",
        "reply   ClosedAgents /root/a #2",
    ]


def test_golden_example_in_the_docstring_is_what_the_core_does_now(tmp_path: Path) -> None:
    example = [line[4:] for line in (golden.__doc__ or "").splitlines() if line.startswith("    ") or not line]
    text = "\n".join(example).strip("\n") + "\n"
    assert golden.difference(trace(tmp_path, text)) == ""


# What is no trace


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"{HEAD}{EVENT}> loadde a\n", "trace.txt:4: 'loadde' is not an event; there are spawn, send,"),
        (f"{HEAD}{EVENT}\n  reply\n> loaded b\n", "trace.txt:6: 'loaded b': no agent has the path /root/b"),
        (f"{HEAD}> loaded #9\n", "trace.txt:3: 'loaded #9': '#9' has no thread and no turn"),
        (f"{HEAD}> tick soon\n", "trace.txt:3: 'tick soon': could not convert string to float: 'soon'"),
        (f"{HEAD}> spawn root\n", "trace.txt:3: 'spawn root': missing 1 required word: 'child'"),
        (f"{HEAD}>\n", "trace.txt:3: '>' is not a comment"),
        (f"{HEAD}> -- nothing\n", "trace.txt:3: '> -- nothing' is not a comment"),
        (f"{HEAD}{EVENT}loaded a\n", "trace.txt:4: 'loaded a' is not a comment"),
        (f"{HEAD}{EVENT}  > loaded a\n", "trace.txt:4: '> loaded a' is not a comment"),
        (f"{HEAD}{EVENT}config max_queued=3\n", "trace.txt:4: 'config max_queued=3' is not a comment"),
        (f"-- x\n{EVENT}", "trace.txt:2: '> spawn root a' is not a comment"),
        (f"-- x\nconfig slots\n{EVENT}", "trace.txt:2: 'slots' is not a field=value of SessionConfig"),
        (f"-- x\nconfig notice=LOUD\n{EVENT}", "trace.txt:2: 'notice=LOUD' is not a field=value of SessionConfig"),
        (f"-- x\nconfig slots=3\n{EVENT}", "trace.txt:2: SessionConfig has no field 'slots'"),
        (f"-- x\nconfig\nconfig max_concurrent=0\n{EVENT}", "trace.txt:3: max_concurrent must be a whole number"),
        (f"config\n{EVENT}", "trace.txt:1: a trace has comments"),
        (HEAD, "trace.txt:1: a trace has comments"),
        ("", "trace.txt:1: a trace has comments"),
    ],
)
def test_golden_file_with_a_broken_line_is_refused_with_file_line_and_reason(
    text: str, why: str, tmp_path: Path
) -> None:
    path = trace(tmp_path, text)
    with pytest.raises(golden.BadTrace) as refused:
        golden.difference(path)
    assert str(refused.value).startswith(why)


# What holds a trace, besides its log


def never(*_: Any) -> bool:
    return False


def always(*_: Any) -> bool:
    return True


def cancel_of_the_next(agent: int, turn: int) -> Cancel:
    return Cancel(agent, turn + 1)


def foreign_load(agent: int, generation: int, _: str | None) -> Load:
    return Load(agent, generation, "settings of somebody else")


def drained_by_another(agent: int, turn: int) -> MailDrained:
    return MailDrained(agent - 1, turn)


@pytest.mark.parametrize(
    ("name", "owner", "attribute", "defect", "judge", "says"),
    [
        ("interrupt_after_start", rules, "notice_is_due", always, Deviation, "^state"),
        ("interrupt_after_start", turns, "Cancel", cancel_of_the_next, Deviation, "^effects"),
        ("wedge", joint, "Load", foreign_load, PropertyViolation, "S11"),
        ("wedge", Slots, "activate", never, PropertyViolation, "S3"),
        ("wait", operations, "MailDrained", drained_by_another, AssertionError, "fold to other facts"),
    ],
    ids=["reference on state", "reference on step", "step property", "state property", "fold"],
)
def test_golden_trace_of_a_core_that_errs_is_refused_by_whoever_judges_that_and_names_the_line(
    name: str,
    owner: Any,
    attribute: str,
    defect: Any,
    judge: type[Exception],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = golden.TRACES / f"{name}.txt"
    monkeypatch.setattr(owner, attribute, defect)
    with pytest.raises(judge, match=says) as refused:
        golden.difference(path)
    number, _, event = refused.value.__notes__[0].removeprefix(f"{name}.txt:").partition(": ")
    assert path.read_text("utf-8").splitlines()[int(number) - 1] == event


# The command


def test_golden_command_without_differences_prints_nothing_and_succeeds(capsys: pytest.CaptureFixture[str]) -> None:
    assert golden.main([str(golden.TRACES / "wedge.txt")]) == 0
    assert capsys.readouterr() == ("", "")


def test_golden_command_prints_differences_and_fails_then_writes_them_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = trace(tmp_path, TAMPERED["other number"])
    assert golden.main([str(path)]) == 1
    assert capsys.readouterr() == (golden.difference(path), "")
    assert golden.main(["--write", str(path)]) == 0
    assert capsys.readouterr() == ("written: trace.txt\n", "")
    assert golden.main(["--write", str(path)]) == 0
    assert capsys.readouterr() == ("nothing has changed\n", "")
    assert golden.main([str(path)]) == 0


@pytest.mark.parametrize("options", [[], ["--write"]])
def test_golden_command_says_what_is_wrong_with_a_broken_file_and_fails(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert golden.main([*options, str(trace(tmp_path, f"{HEAD}> nap a\n"))]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("trace.txt:3: 'nap' is not an event")
