"""Traces of sessions that are opened again and again with the same path (harm, kind 21)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from statemachine import AgentControl
from statemachine.core.events import Start, Tick
from statemachine.log import trace
from statemachine.log.trace import TraceError
from statemachine.runtime import tracing
from statemachine.runtime.control import inside
from statemachine.runtime.engine import TICK_SECONDS
from tests.runtime.running import Open, echo, in_session, traced_sessions, virtual_time

FIXTURES = (traced_sessions, virtual_time)


async def ask(control: AgentControl) -> None:
    await (await control.start("/root", "go")).outcome()


async def nothing(_: AgentControl) -> None:
    pass


def test_session_opened_again_with_the_same_trace_path_writes_a_new_file_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.trace.ndjson"
    after: dict[str, bytes] = {}
    for _ in range(3):
        before = {found.name: found.read_bytes() for found in tmp_path.glob("*.ndjson")}
        in_session(tmp_path / "s.db", ask, trace=path)
        after = {found.name: found.read_bytes() for found in tmp_path.glob("*.ndjson")}
        assert {name: after[name] for name in before} == before
        assert len(after) == len(before) + 1
    assert sorted(after) == ["a.trace.2.ndjson", "a.trace.3.ndjson", "a.trace.ndjson"]
    for name in after:
        assert Start(0, "go") in trace.read(tmp_path / name).events
    assert trace.read(path).facts is None
    assert trace.read(tmp_path / "a.trace.3.ndjson").facts is not None


@pytest.mark.anyio
async def test_tick_right_after_an_alarm_that_came_early_does_not_go_back(open_session: Open, tmp_path: Path) -> None:
    """An alarm tells when it was due, though it may come up to `TICK_SECONDS` before that."""
    async with open_session(echo) as control:
        engine = inside(control).engine
        due = engine.now() + TICK_SECONDS / 2
        engine.apply_at_once(Tick(due))
        engine.tick()
        assert inside(control).session.now == due
    (found,) = tmp_path.glob("*.ndjson")
    times = [event.now for event in trace.read(found).events if isinstance(event, Tick)]
    assert times == sorted(times)
    assert times[:2] == [due, due]


def test_trace_beside_an_empty_file_of_an_opening_that_was_killed_goes_beside_it(tmp_path: Path) -> None:
    (tmp_path / "t.ndjson").touch()
    in_session(tmp_path / "s.db", nothing, trace=tmp_path / "t.ndjson")
    assert trace.read(tmp_path / "t.2.ndjson").events
    assert (tmp_path / "t.ndjson").read_bytes() == b""


def test_trace_at_the_path_of_something_else_is_refused_and_leaves_it_alone(tmp_path: Path) -> None:
    diary, pipe, folder = tmp_path / "diary.txt", tmp_path / "pipe", tmp_path / "folder"
    diary.write_text("dear diary\n", "utf-8")
    os.mkfifo(pipe)
    folder.mkdir()
    for path, text in (
        (diary, "is not a trace; give another path"),
        (pipe, "not a regular"),
        (folder, "not a regular"),
    ):
        with pytest.raises(TraceError, match=text) as caught:
            in_session(tmp_path / "s.db", nothing, trace=path)
        assert caught.value.path == str(path)
    assert diary.read_text("utf-8") == "dear diary\n"
    assert sorted(found.name for found in tmp_path.iterdir()) == ["diary.txt", "folder", "pipe", "s.db", "s.db.lock"]


def test_trace_of_which_there_are_too_many_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "TRACES_MAX", 2)
    for _ in range(2):
        in_session(tmp_path / "s.db", nothing, trace=tmp_path / "t.ndjson")
    with pytest.raises(TraceError, match="move them away"):
        in_session(tmp_path / "s.db", nothing, trace=tmp_path / "t.ndjson")


def test_read_of_what_is_not_a_regular_file_does_not_wait_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path(os.devnull)):
        with pytest.raises(TraceError, match="is not a regular file; give the path of a trace file"):
            trace.read(path)
    with pytest.raises(TraceError, match="cannot be read"):
        trace.read(tmp_path / "a\0b")
