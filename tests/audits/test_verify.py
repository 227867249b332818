"""Verify, as a command on files: what a session left behind holds, and of damage the first thing is named."""

from __future__ import annotations

import io
import json
import math
import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest
from attrs import evolve
from click.testing import CliRunner
from rich.console import Console

from model import lockstep
from model.audits import verify
from model.command import cli
from model.fuzzing import chance
from model.lockstep import AnyEvent
from model.scenarios import replay
from statemachine import AgentControl, Overflow, Session, SessionConfig, Turn
from statemachine.checking import properties
from statemachine.checking.moment import Moment
from statemachine.checking.properties import Property
from statemachine.core import events as ev
from statemachine.core import rules, turns
from statemachine.core.records import TurnStarted
from statemachine.log import recovery, trace
from tests.runtime.running import in_session

SMALL = SessionConfig(max_concurrent=2, overflow=Overflow.QUEUE)


def verified(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, path: Path) -> tuple[int, str, str]:
    """`statemachine verify`: exit code, stdout, stderr."""
    return said_by("verify", capsys, monkeypatch, path)


def said_by(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, path: Path
) -> tuple[int, str, str]:
    """`statemachine verify` or `replay`: exit code, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["statemachine", command, str(path)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    said = capsys.readouterr()
    assert isinstance(stopped.value.code, int)
    return stopped.value.code, said.out, said.err


async def answer(turn: Turn) -> str:
    """Work that does little."""
    await turn.record("thought")
    return "done"


def session_in(folder: Path) -> tuple[Path, Path]:
    """A session of two openings, with a snapshot in its middle: database, and the trace of the second opening."""
    path, traced = folder / "session.db", folder / "trace.ndjson"

    async def first(control: AgentControl) -> None:
        for name in ("a", "b"):
            await (await control.spawn("/root", name, "go", key=name)).outcome()

    async def second(control: AgentControl) -> None:
        await (await control.follow_up("/root/a", "again", key="again")).outcome()
        await control.close("/root/b")
        await control.send("/root/a", "by the way")

    in_session(path, first, answer, SMALL)
    in_session(path, second, answer, SMALL, traced)
    return path, traced


def changed_by(path: Path, statements: str, *values: Any) -> None:
    """Statements on a database, each of which changes one row."""
    connection = sqlite3.connect(path)
    with connection:
        for statement in statements.split(";"):
            assert connection.execute(statement, values).rowcount == 1
    connection.close()


def test_verify_of_what_a_session_left_behind_holds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    database, traced = session_in(tmp_path)
    before = database.read_bytes()
    code, out, _ = verified(capsys, monkeypatch, database)
    assert (code, out.count("\n")) == (0, 3)
    assert out.startswith("15 records of 3 agents held: ")
    assert "has no events" in out
    assert out.endswith("\nverdict: HELD, 15 records\n")
    assert database.read_bytes() == before
    code, out, _ = verified(capsys, monkeypatch, traced)
    events = len(traced.read_text("utf-8").splitlines()) - 1
    assert (code, out) == (
        0,
        f"{events} events held: every property, and the core did what the reference does\n"
        f"verdict: HELD, {events} events, none stale, 0 refused\n",
    )


DAMAGES: dict[str, tuple[str, tuple[Any, ...], str]] = {
    "another turn in a rollout": (
        "UPDATE log SET data = ? WHERE position = (SELECT min(position) FROM log WHERE kind = 'TurnStarted')",
        ('{"agent":1,"at":null,"turn":2}',),
        "turn 2 of agent 1 starts, its last one was 0",
    ),
    "a record of another kind": (
        "UPDATE log SET kind = 'MailDrained' "
        "WHERE position = (SELECT max(position) FROM log WHERE kind = 'TurnStarted')",
        (),
        "cannot follow what comes before it: its turn",
    ),
    "a record that is gone from the tail": (
        "DELETE FROM log WHERE position = (SELECT max(position) - 1 FROM log)",
        (),
        "is missing",
    ),
    "a record that is no JSON": ("UPDATE log SET data = 'x' WHERE position = 2", (), "the file is damaged:"),
    "a mail that is gone from the log": (
        "DELETE FROM log WHERE position = 2",
        (),
        "position 2, which is not in the log",
    ),
    "a mail that is gone from a rollout": (
        "DELETE FROM log WHERE position = 2; DELETE FROM rollouts WHERE position = 2",
        (),
        "receipt 'a': agent 1 never got its mail 0",
    ),
    "a receipt of no mail": (
        "UPDATE keys SET answer = ? WHERE key = 'again'",
        ('[1,"/root/a",7]',),
        "receipt 'again': agent 1 never got its mail 7",
    ),
    "a receipt of another agent": (
        "UPDATE keys SET answer = ? WHERE key = 'again'",
        ('[2,"/root/a",2]',),
        "receipt 'again': it names agent 2 as '/root/a', and that one is /root/b",
    ),
    "a receipt that is none": (
        "UPDATE keys SET answer = '{}' WHERE key = 'again'",
        (),
        "its answer is '{}', and not an agent",
    ),
    "a receipt whose request is none": (
        "UPDATE keys SET request = 'zz' WHERE key = 'again'",
        (),
        "the receipt for key 'again': its request is 'zz', and not the line of one",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_verify_of_a_damaged_database_exits_1_and_names_the_damage(
    damage: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    statement, values, text = DAMAGES[damage]
    database, _ = session_in(tmp_path)
    changed_by(database, statement, *values)
    code, out, err = verified(capsys, monkeypatch, database)
    assert (code, err) == (1, "")
    assert text in out
    assert out.splitlines()[-1].startswith("verdict: FAILED, ")


def test_verify_of_a_database_with_a_damaged_page_exits_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    database, _ = session_in(tmp_path)
    data = bytearray(database.read_bytes())
    data[4096 * 3 : 4096 * 4] = b"\x55" * 4096
    database.write_bytes(data)
    code, out, _ = verified(capsys, monkeypatch, database)
    assert code == 1
    assert out.startswith("the file is damaged:\n    ")


def test_verify_of_a_trace_that_deviates_names_its_first_event(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, traced = session_in(tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr(turns, "tell", lambda *_: [])
        code, out, _ = verified(capsys, broken, traced)
    lines = traced.read_text("utf-8").splitlines()
    number = next(n for n, line in enumerate(lines) if '"Finished"' in line)
    first, line, event, before, hint, verdict = out.splitlines()
    assert code == 1
    assert verdict == f"verdict: FAILED at event {number}"
    assert first.startswith(f"event {number} deviates: ")
    assert line.strip().startswith("finished ")
    assert event.strip() == lines[number]
    assert before.strip() == f"{number - 1} events held before it"
    assert hint.strip() == f"step by step: statemachine replay {traced}"


def test_verify_of_a_trace_whose_records_do_not_fold_names_the_first_event_that_differs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, traced = session_in(tmp_path)
    number = next(frame.number for frame in replay.replay(traced) if "TurnStarted" in "".join(frame.step))
    monkeypatch.setitem(recovery.APPLY, TurnStarted, lambda _, __: None)
    code, out, _ = verified(capsys, monkeypatch, traced)
    assert len(traced.read_bytes().splitlines()) < verify.FOLD_EVERY
    assert code == 1
    assert out.startswith(f"event {number} deviates: recovery: the log folds to ")


def random_trace(path: Path, seed: int) -> int:
    """A trace of many events, without a calamity. Returns how many."""
    random, session, events = Random(seed), Session(SMALL), list[lockstep.AnyEvent]()
    for _ in range(400):
        events.append(chance.event_of(session, chance.PLENTY, random.randbytes(chance.BYTES)))
        session, _ = lockstep.core_step(session, events[-1])
    trace.write(path, SMALL, events)
    return len(events)


def third_turn(moment: Moment) -> str | None:
    """A rule that every life breaks, from some event on."""
    return next((f"agent {a.id} has its third turn" for a in moment.agents if a.turn >= 3), None)


@pytest.mark.parametrize("every", [1, 7, 100, 1000])
def test_verify_in_larger_steps_names_the_same_first_event(
    every: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "trace.ndjson"
    count = random_trace(path, 8)
    progress: list[tuple[int, int]] = []
    result = verify.verify(path, every, lambda done, size: progress.append((done, size)))
    assert result.held
    assert result.lines[0].startswith(f"{count} events held: every property")
    assert ("after every" in result.lines[0]) is (every > 1)
    assert progress[-1] == (path.stat().st_size, path.stat().st_size)
    assert len(progress) == count
    with monkeypatch.context() as broken:  # the core does something else than the reference
        broken.setattr(rules, "goes_on", lambda *_: False)
        first = next(frame for frame in replay.replay(path) if frame.broken)
        assert verify.FOLD_EVERY / 2 < first.number < count
        result = verify.verify(path, every, lambda *_: None)
        assert result.lines[:2] == (f"event {first.number} deviates: {first.broken}", f"    {first.line}")
    with monkeypatch.context() as broken:  # a property fails
        known = Property("S0", "no third turn", "this test", third_turn)
        broken.setattr(properties, "STATE_PROPERTIES", (*properties.STATE_PROPERTIES, known))
        first = next(frame for frame in replay.replay(path) if frame.broken)
        result = verify.verify(path, every, lambda *_: None)
        assert result.lines[:2] == (f"event {first.number} deviates: {first.broken}", f"    {first.line}")
        assert "has its third turn" in result.lines[0]


# The beginning


def header_changed_by(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """The header of a trace, changed."""
    header, *events = path.read_bytes().splitlines(keepends=True)
    found = json.loads(header)
    change(found)
    path.write_bytes(b"".join([json.dumps(found, separators=(",", ":")).encode(), b"\n", *events]))


@pytest.mark.parametrize(
    "limit",
    [{"max_agents": 1}, {"max_depth": 0}, {"max_concurrent": 2, "slot_policy": "live_threads", "overflow": "reject"}],
)
@pytest.mark.parametrize("command", ["verify", "replay"])
def test_trace_whose_facts_its_configuration_cannot_hold_cannot_be_read(
    command: str,
    limit: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """As the runtime began one, before it refused to open the session."""
    _, traced = session_in(tmp_path)
    header_changed_by(traced, lambda header: header["config"].update(limit))
    code, out, err = said_by(command, capsys, monkeypatch, traced)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "line 1: no session with these facts can have this config" in err
    assert f"needs {next(iter(limit))} of at least" in err


def test_trace_whose_beginning_deviates_is_told_so_by_verify_and_replay_in_the_same_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, traced = session_in(tmp_path)
    header_changed_by(traced, lambda header: header["facts"]["agents"][1].update(attempts=5))
    code, out, err = said_by("verify", capsys, monkeypatch, traced)
    first, *_, verdict = out.splitlines()
    assert (code, err, verdict) == (1, "", "verdict: FAILED at the beginning")
    assert first.startswith("the beginning deviates: S17: ")
    code, out, err = said_by("replay", capsys, monkeypatch, traced)
    assert (code, err) == (1, "")
    broken = f"   broken: {first.removeprefix('the beginning deviates: ')}"
    assert out.splitlines() == ["0  the beginning", broken, "", first]


# The verdict


FOREIGN = (
    ev.Spawn(0, "a", "work"),
    ev.Loaded(1, 1),
    ev.Flushed(1, 1, 1),
    ev.Send(0, 9, "to an agent that is not there"),
    ev.Loaded(1, 2),
    ev.Finished(1, 1, "done"),
    ev.Finished(1, 1, "done"),
)
"""The runtime evicted a busy agent, loaded it once more, and reported its end twice: none of that was asked for."""
LATE = (
    ev.Spawn(0, "a", "work"),
    ev.Loaded(1, 1),
    ev.Close(ev.HOST, 1),
    ev.Aborted(1, 1),
    ev.Spawn(0, "b", "work"),
    ev.Close(ev.HOST, 2),
    ev.Loaded(2, 1),
    ev.Died(2, 1, "dropped"),
)
"""A turn that is closed reports its end, and a load that is not wanted any more its success, as our runtime does."""


@pytest.mark.parametrize("every", [1, 3])
def test_verify_of_a_trace_with_unasked_reports_fails_says_how_many_and_does_not_praise_it(
    every: int, tmp_path: Path
) -> None:
    path = tmp_path / "trace.ndjson"
    trace.write(path, SMALL, FOREIGN)
    result = verify.verify(path, every, lambda *_: None)
    assert not result.held
    assert result.lines[0].startswith("only 4 of 7 events held: ")
    assert result.lines[1:] == (
        "3 events stale because not asked for, and changed nothing; the first is event 3:",
        '    {"event":"Flushed","agent":1,"generation":1,"flush":1}',
        "1 event refused, and changed nothing; the first is event 4:",
        '    {"event":"Send","sender":0,"target":9,"message":"to an agent that is not there","headers":null}',
        "verdict: ONLY 4 OF 7 EVENTS HELD, 3 WERE STALE: the core passed over what its runtime reported without being "
        "asked, so nothing was judged of that; 0 stale because late, 1 refused",
    )


@pytest.mark.parametrize("every", [1, 3])
def test_verify_of_a_trace_with_late_reports_holds_and_says_how_many(every: int, tmp_path: Path) -> None:
    path = tmp_path / "trace.ndjson"
    trace.write(path, SMALL, LATE)
    result = verify.verify(path, every, lambda *_: None)
    assert result.held
    assert result.lines[1:] == (
        "3 events stale because late, and changed nothing; the first is event 4:",
        '    {"event":"Aborted","agent":1,"turn":1}',
        "verdict: HELD, 8 events, 3 stale because late, 0 refused",
    )


UNASKED: dict[str, tuple[AnyEvent, ...]] = {
    "a load that failed": (ev.LoadFailed(1, 2, "x"),),
    "a flush": (ev.FlushFailed(0, 0, 3, "x"),),
    "a stop that was not asked for": (ev.Loaded(1, 1), ev.Aborted(1, 1)),
    "a turn that never was": (ev.Failed(1, 7, "x"),),
    "a thread that never was": (ev.Died(1, 2, "x"),),
    "a thread that is lost twice": (ev.Died(1, 1, "x"), ev.Died(1, 1, "x")),
    "an agent that never was": (ev.Died(-5, 1, "x"),),
    "the answer to an earlier process": (ev.Close(ev.HOST, 1), ev.Restart(), ev.Loaded(1, 1)),
}


@pytest.mark.parametrize("case", UNASKED)
def test_report_that_was_not_asked_for_keeps_a_trace_from_holding(case: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.ndjson"
    trace.write(path, SMALL, (ev.Spawn(0, "a", "work"), *UNASKED[case]))
    result = verify.verify(path, 1, lambda *_: None)
    assert not result.held
    assert "1 WAS STALE" in result.lines[-1]
    console = Console(file=io.StringIO())
    assert replay.show(path, console) == 1
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines()[-1] == result.lines[-1]


BACKWARDS: dict[str, tuple[AnyEvent, ...]] = {
    "a time before the last one": (ev.Tick(900.0),),
    "a time that is less than the last one by as little as can be": (ev.Tick(math.nextafter(1000.0, 0)),),
    "a time below zero": (ev.Tick(-1.0),),
    "a clock that begins anew behind a restart": (ev.Restart(), ev.Tick(0.0)),
    "no end": (ev.Tick(math.inf),),
    "no beginning": (ev.Tick(-math.inf),),
    "no number": (ev.Tick(math.nan),),
    "a time before the last one, told to a session that drains": (ev.Shutdown(0.0), ev.Tick(1.0)),
    "a time before the last one, told to a session that has failed": (ev.WriteFailed("full"), ev.Tick(1.0)),
}


def verdicts(path: Path, every: int = 1) -> tuple[verify.Result, str]:
    """What `verify` finds in a trace. It says and is what `replay` says and is."""
    result = verify.verify(path, every, lambda *_: None)
    console = Console(file=io.StringIO())
    assert replay.show(path, console) == (0 if result.held else 1)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines()[-len(result.lines) :][1:] == [*result.lines[1:]]
    return result, result.lines[-1]


@pytest.mark.parametrize("case", BACKWARDS)
def test_tick_of_a_wrong_time_keeps_a_trace_from_holding(case: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.ndjson"
    events = (ev.Tick(1000.0), ev.Spawn(0, "a", "work"), ev.Loaded(1, 1), *BACKWARDS[case])
    trace.write(path, SMALL, events)
    result, verdict = verdicts(path)
    assert not result.held
    assert verdict.startswith(f"verdict: ONLY {len(events) - 1} OF {len(events)} EVENTS HELD, 1 TOLD A WRONG TIME: ")


@pytest.mark.parametrize("every", [1, 3])
def test_trace_whose_clock_stood_still_does_not_say_that_a_turn_was_in_time(every: int, tmp_path: Path) -> None:
    """The turn took 890 seconds of its ten."""
    path = tmp_path / "trace.ndjson"
    ticks = [ev.Tick(float(now)) for now in (0, 100, 500, 900)]
    events: tuple[AnyEvent, ...] = (
        ev.Tick(1000.0),
        ev.Spawn(0, "a", "work"),
        ev.Loaded(1, 1),
        *ticks,
        ev.Finished(1, 1, "done"),
    )
    trace.write(path, evolve(SMALL, turn_timeout=10.0), events)
    result, verdict = verdicts(path, every)
    assert not result.held
    assert result.lines[0].startswith("only 4 of 8 events held: ")
    assert result.lines[1:3] == (
        "4 events told a time in the past, or none, and moved no clock; the first is event 4:",
        '    {"event":"Tick","now":0.0}',
    )
    assert verdict == (
        "verdict: ONLY 4 OF 8 EVENTS HELD, 4 TOLD A WRONG TIME: the core passed over times in the past, so no bound "
        "was judged until the clock had caught up; 0 stale because late, 0 refused"
    )


def test_verdict_on_a_trace_with_unasked_reports_and_wrong_times_names_both(tmp_path: Path) -> None:
    path = tmp_path / "trace.ndjson"
    trace.write(path, SMALL, (*FOREIGN, ev.Tick(1.0), ev.Tick(0.0), ev.Tick(0.5)))
    result, verdict = verdicts(path)
    assert not result.held
    assert verdict.startswith("verdict: ONLY 5 OF 10 EVENTS HELD, 3 WERE STALE: ")
    assert "; 2 TOLD A WRONG TIME: " in verdict
    assert verdict.endswith("; 0 stale because late, 1 refused")


def test_ticks_of_an_equal_time_and_of_one_that_goes_on_behind_a_restart_hold(tmp_path: Path) -> None:
    path = tmp_path / "trace.ndjson"
    spawned = (ev.Spawn(0, "a", "work"), ev.Loaded(1, 1))
    trace.write(path, SMALL, (ev.Tick(0.0), *spawned, ev.Tick(2.0), ev.Tick(2.0), ev.Restart(), ev.Tick(2.0)))
    result, verdict = verdicts(path)
    assert result.held, verdict


def test_report_that_answers_what_a_recovered_session_asks_for_is_not_unasked(tmp_path: Path) -> None:
    """The first effects of a session that is recovered are in no step of an event."""
    traced = tmp_path / "trace.ndjson"

    async def leave(control: AgentControl) -> None:
        await control.spawn("/root", "a", "work")

    async def close(control: AgentControl) -> None:
        await control.close("/root/a")

    async def sleep(_: Turn) -> None:
        await anyio.sleep_forever()

    in_session(tmp_path / "session.db", leave, sleep, SMALL)
    in_session(tmp_path / "session.db", close, sleep, SMALL, traced)
    assert verify.verify(traced, 1, lambda *_: None).held


@pytest.mark.parametrize("every", [1, 3, 100])
def test_verify_counts_what_was_stale_before_the_deviation_and_not_after(
    every: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "trace.ndjson"
    trace.write(path, SMALL, FOREIGN)
    monkeypatch.setattr(turns, "tell", lambda *_: [])  # of `Finished`, which is event 6
    result = verify.verify(path, every, lambda *_: None)
    assert not result.held
    assert result.lines[0].startswith("event 6 deviates: ")
    assert "    only 3 of 5 events held before it" in result.lines
    assert "2 events stale because not asked for, and changed nothing; the first is event 3:" in result.lines
    assert result.lines[-1] == "verdict: FAILED at event 6"


@pytest.mark.parametrize(
    ("events", "verdict"),
    [
        ((), "verdict: NOTHING TO JUDGE, the trace has no events"),
        (
            (ev.Send(0, 9, "x"), ev.Send(0, 9, "x")),
            "verdict: NOTHING TO JUDGE, no event had an effect: none stale, 2 refused",
        ),
    ],
)
def test_verify_and_replay_of_a_trace_with_nothing_to_judge_fail(
    events: tuple[AnyEvent, ...], verdict: str, tmp_path: Path
) -> None:
    path = tmp_path / "trace.ndjson"
    trace.write(path, SMALL, events)
    result = verify.verify(path, 1, lambda *_: None)
    assert (result.held, result.lines[-1]) == (False, verdict)
    console = Console(file=io.StringIO())
    assert replay.show(path, console) == 1
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines()[-1] == verdict


@pytest.mark.parametrize("events", [(ev.Tick(1.0),), (ev.Restart(),), (ev.Tick(1.0), ev.Restart(), ev.Tick(2.0))])
def test_verify_and_replay_of_a_trace_in_which_nothing_was_asked_or_reported_fail(
    events: tuple[AnyEvent, ...], tmp_path: Path
) -> None:
    path = tmp_path / "trace.ndjson"
    trace.write(path, SMALL, events)
    result = verify.verify(path, 1, lambda *_: None)
    assert not result.held
    assert result.lines[-1].startswith("verdict: NOTHING TO JUDGE, no event had an effect")
    assert replay.show(path, Console(file=io.StringIO())) == 1


def test_replay_of_a_trace_whose_last_line_is_cut_off_says_what_verify_says(tmp_path: Path) -> None:
    path = tmp_path / "trace.ndjson"
    trace.write(path, SMALL, LATE)
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rindex(b"{") + 12])
    console = Console(file=io.StringIO(), width=200)
    assert replay.show(path, console) == 0
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue().splitlines()
    lines = verify.verify(path, 1, lambda *_: None).lines
    assert tuple(said[-len(lines) :]) == lines
    assert any("the last line has no end" in line for line in said)
    path.write_bytes(whole[: whole.rindex(b"{") - 5])
    assert replay.show(path, console) == 0
    path.write_bytes(whole + b'{"event" : "Tick"')
    with pytest.raises(trace.TraceError, match="line 10"):
        replay.show(path, console)


def test_verify_of_garbage_without_an_end_of_line_says_that_it_cannot_be_read(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "trace.ndjson"
    for content in (b"\0" * 100_000, b'{"event" : "Tick"', b"x"):
        trace.write(path, SMALL, LATE)
        path.write_bytes(path.read_bytes() + content)
        code, out, err = verified(capsys, monkeypatch, path)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "line 10: " in err


@pytest.mark.parametrize("grace", [10**300, 1e308])
def test_verify_of_a_shutdown_with_an_enormous_grace_holds(grace: float, tmp_path: Path) -> None:
    path = tmp_path / "trace.ndjson"
    trace.write(path, SMALL, [ev.Spawn(0, "a", "x"), ev.Loaded(1, 1), ev.Shutdown(grace), ev.Tick(1.0)])
    assert verify.verify(path, 1, lambda *_: None).held


# What is not whole


def test_verify_of_a_trace_whose_last_line_is_cut_off_holds_and_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, traced = session_in(tmp_path)
    data = traced.read_bytes()
    lines = len(data.splitlines())
    traced.write_bytes(data[:-5])
    code, out, _ = verified(capsys, monkeypatch, traced)
    assert code == 0
    assert out.startswith(f"{lines - 2} events held: ")
    assert out.splitlines()[-1].startswith(f"verdict: HELD, {lines - 2} events, ")
    assert "the last line has no end" in out
    traced.write_bytes(data.replace(b'{"event":"Close"', b'{"event":"Dance"'))
    code, out, err = verified(capsys, monkeypatch, traced)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "'Dance' is not an event" in err
    assert "what is before it held" in err


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("missing", None, "No such file"),
        ("empty", b"", "the file is empty"),
        ("diary", b"dear diary\n", "this is not a trace"),
        ("other.db", b"SQLite format 3\0" + b"\0" * 100, "this is a database, but not of a session"),
        ("newer.ndjson", b'{"format":"agent-statemachine-trace","version":9}\n', "version 9, newer than 3"),
    ],
)
def test_verify_of_what_is_neither_says_one_line_and_exits_2(
    name: str,
    content: bytes | None,
    text: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    code, out, err = verified(capsys, monkeypatch, path)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert text in err
    assert name in err


def test_verify_of_what_is_no_file_does_not_wait_for_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        code, out, err = verified(capsys, monkeypatch, path)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "not a regular file" in err


@pytest.mark.parametrize("command", ["verify", "replay"])
def test_help_says_what_the_exit_codes_mean(command: str) -> None:
    said = " ".join(CliRunner().invoke(cli.command, [command, "--help"]).stdout.split())
    assert "Exit code 0: everything held, and there was something to judge" in said
    assert "2: it cannot be read." in said
    assert "A report that came late" in said


def test_verify_help_says_what_of_a_database_cannot_be_verified() -> None:
    said = CliRunner().invoke(cli.command, ["verify", "--help"]).stdout
    assert "Refused requests are not in a database" in " ".join(said.split())
