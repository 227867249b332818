"""Trace files: what is written is read back, and what would not have been written is refused with its line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, get_type_hints

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.fuzzing import chance
from statemachine.core.config import Notice, SessionConfig
from statemachine.core.events import EVENTS, Finished, ListAgents, Restart, Send, Spawn, Tick, Wait, WaitMode
from statemachine.core.facts import Json, Result
from statemachine.core.records import Cause
from statemachine.core.session import Session
from statemachine.log import trace
from statemachine.log.trace import Trace, TraceError

NUMBERS = st.integers(-(1 << 60), 1 << 60)
JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner | st.text()) | st.dictionaries(st.text(), inner | st.text()),
    max_leaves=8,
)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    int: NUMBERS,
    bool: st.booleans(),
    str: st.text(),
    float: st.floats(allow_nan=False) | st.integers(-(1 << 53), 1 << 53),
    str | None: st.none() | st.text(),
    int | None: st.none() | NUMBERS,
    tuple[int, ...]: st.lists(NUMBERS).map(tuple),
    float | None: st.none() | st.floats(allow_nan=False) | st.integers(-(1 << 53), 1 << 53),
    Cause: st.sampled_from(Cause),
    WaitMode: st.sampled_from(WaitMode),
    Result: st.text() | JSON_VALUES.map(Json),
}
HEADER = trace.header_line(SessionConfig())
REST_OF_WAIT = b'"requests":[],"mode":0,"mail":true}\n'


def events_of(kind: type) -> st.SearchStrategy[Any]:
    """Any event of this class."""
    hints = get_type_hints(kind)
    return st.builds(kind, **{field.name: VALUES[hints[field.name]] for field in attrs.fields(kind)})


# What is written is read back


QUIET = settings(deadline=None, database=None, derandomize=True)


@pytest.mark.parametrize("kind", [*EVENTS, Restart])
@QUIET
@given(data=st.data())
def test_event_of_every_class_is_read_back_as_it_was(kind: type, data: st.DataObject) -> None:
    event = data.draw(events_of(kind))
    line = trace.event_line(event)
    back = trace.event_of(line)
    assert type(back) is kind
    assert back == event
    assert json.loads(line)["event"] == kind.__name__
    assert line.count(b"\n") == 1


@QUIET
@given(code=st.binary(min_size=chance.CONFIG_BYTES, max_size=chance.CONFIG_BYTES))
def test_config_is_read_back_as_it_was(code: bytes) -> None:
    config = chance.config_of(code)
    assert trace.config_of(trace.header_line(config)) == config


def test_numbers_that_json_has_not_are_read_back() -> None:
    assert trace.event_of(trace.event_line(Wait(1, 2, math.inf))) == Wait(1, 2, math.inf)
    assert trace.event_of(trace.event_line(Tick(-math.inf))) == Tick(-math.inf)
    now = trace.event_of(trace.event_line(Tick(math.nan)))
    assert isinstance(now, Tick)
    assert math.isnan(now.now)


def test_text_that_is_no_unicode_is_read_back_and_the_file_is_utf_8() -> None:
    event = Send(1, 2, "\ud83d and é")
    line = trace.event_line(event)
    assert line.decode() == '{"event":"Send","sender":1,"target":2,"message":"\\ud83d and é","headers":null}\n'
    assert trace.event_of(line) == event


def test_file_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    told = Trace(
        SessionConfig(max_concurrent=2, notice=Notice.NONE), (Spawn(0, "a", "é\n\u2028"), Restart(), Tick(0.5))
    )
    trace.write(tmp_path / "x.ndjson", told.config, told.events)
    assert trace.read(tmp_path / "x.ndjson") == told
    assert len((tmp_path / "x.ndjson").read_bytes().split(b"\n")) == 5


def test_last_line_needs_no_end(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(HEADER + trace.event_line(Tick(1.0)).rstrip())
    assert trace.read(tmp_path / "x").events == (Tick(1.0),)


# What no reader would take is not written


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        (Trace(SessionConfig(), ()), "is not an event of statemachine.core.events"),
        (Finished(1, True, "x"), "Finished: Expected `int`, got `bool` - at `$.turn`"),
        (Finished(1, 1, 5), "Finished: Expected `str | object`, got `int` - at `$.result`"),  # type: ignore[arg-type]
        (Tick("1"), "Tick: Expected `float`, got `str` - at `$.now`"),  # type: ignore[arg-type]
        (Tick(10**400), "Tick: Number out of range - at `$.now`"),
        (Wait(1, 1, 1.0, [True]), "Wait: Expected `int`, got `bool` - at `$.targets[0]`"),  # type: ignore[arg-type]
        (Wait(1, 1, 1.0, (1, "b")), "Wait: Expected `int`, got `str` - at `$.targets[1]`"),  # type: ignore[arg-type]
        (Spawn(0, "a", "m", 7), "Spawn: Expected `str | null`, got `int` - at `$.settings`"),  # type: ignore[arg-type]
    ],
)
def test_event_with_a_wrong_value_is_not_written(event: Any, problem: str, tmp_path: Path) -> None:
    with pytest.raises(TraceError) as caught:
        trace.write(tmp_path / "x", SessionConfig(), [Tick(1.0), event])
    assert problem in str(caught.value)
    assert list(tmp_path.iterdir()) == []


# What would not have been written is refused


def told(header: dict[str, Any]) -> bytes:
    return json.dumps(header).encode()


def changed(**fields: Any) -> bytes:
    """The header with other fields; None leaves one out."""
    header = {**json.loads(HEADER), **fields}
    return told({name: value for name, value in header.items() if value is not None})


def configured(**fields: Any) -> bytes:
    return changed(config={**json.loads(HEADER)["config"], **fields})


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (b"", "the file is empty"),
        (b"\n", "this is not a trace"),
        (b"hello\n", "this is not a trace"),
        (b"\xff\xfe{}", "this is not a trace"),
        (b'{"format": "something else"}\n', "this is not a trace"),
        (trace.event_line(Tick(1.0)), "this is not a trace"),
        (b" " * (1 << 17) + HEADER, "this is not a trace"),
        (changed(version=4), "this trace has version 4, newer than 3"),
        (changed(version=0), "'version' must be a whole number from 1, not 0"),
        (changed(version="1"), "'version' must be a whole number from 1, not '1'"),
        (changed(version=True), "'version' must be a whole number from 1, not True"),
        (changed(config=None), "the header has no field 'config'"),
        (changed(more=1), "the header has a field 'more'"),
        (changed(config=[]), "config: Expected `object`, got `array`"),
        (configured(max_queue=1), "config: Object contains unknown field `max_queue`"),
        (configured(max_queued="1"), "config: Expected `int`, got `str` - at `$.max_queued`"),
        (configured(max_queued=1.0), "config: Expected `int`, got `float` - at `$.max_queued`"),
        (configured(overflow="drop"), "config: Invalid enum value 'drop' - at `$.overflow`"),
        (configured(overflow=[]), "config: Expected `str`, got `array` - at `$.overflow`"),
        (configured(notify_interrupted=1), "config: Expected `bool`, got `int` - at `$.notify_interrupted`"),
        (configured(max_resident=0), "no session can have this config: max_resident=0 is less than"),
    ],
)
def test_file_with_a_foreign_header_is_refused_in_line_1(header: bytes, problem: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(header)
    with pytest.raises(TraceError) as caught:
        trace.read(tmp_path / "x")
    assert (caught.value.line, caught.value.path) == (1, str(tmp_path / "x"))
    assert str(caught.value).startswith(f"{tmp_path / 'x'}, line 1: {problem}")
    assert "\n" not in str(caught.value)


def test_header_without_one_field_of_the_configuration_is_refused() -> None:
    for name in json.loads(HEADER)["config"]:
        config = {key: value for key, value in json.loads(HEADER)["config"].items() if key != name}
        with pytest.raises(TraceError, match=f"config: Object missing required field `{name}`"):
            trace.config_of(changed(config=config))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"\n", "this is not a line of JSON"),
        (b'{"event":"Tick","now":1.0', "the line has no end: remove it to read what comes before"),
        (b'{"event":"Tick","now":1.0\n', "this is not a line of JSON"),
        (b'{"event":"Tick","now":"\xe9"}\n', "this is not UTF-8"),
        (b"[" * 100_000 + b"\n", "this is not a line of JSON"),
        (b'["Tick", 1.0]\n', "this is not a JSON object"),
        (b'{"now":1.0}\n', "None is not an event; the field 'event' must be one of Spawn, Send, "),
        (b'{"event":"Tock","now":1.0}\n', "'Tock' is not an event"),
        (b'{"event":["Tick"],"now":1.0}\n', "['Tick'] is not an event"),
        (b'{"event":"Session"}\n', "'Session' is not an event"),
        (b'{"event":"Tick"}\n', "Tick: Object missing required field `now`"),
        (b'{"event":"Tick","now":1.0,"then":2.0}\n', "Tick: Object contains unknown field `then`"),
        (b'{"event":"Tick","now":1.0,"now":2.0}\n', "a field stands twice"),
        (b'{"event":"Tick","now":null}\n', "Tick: Expected `float`, got `null` - at `$.now`"),
        (b'{"event":"Tick","now":true}\n', "Tick: Expected `float`, got `bool` - at `$.now`"),
        (b'{"event":"Tick","now":"soon"}\n', "Tick: Expected `float`, got `str` - at `$.now`"),
        (b'{"event":"Tick","now":Infinity}\n', 'Infinity is not JSON; write "inf"'),
        (b'{"event":"Tick","now":1' + b"0" * 400 + b"}\n", "Tick: Number out of range - at `$.now`"),
        (b'{"event":"Tick","now":1' + b"0" * 5000 + b"}\n", "this is not a line of JSON"),
        (b'{"event":"Tick","now":1e999}\n', "1e999 is beyond all numbers"),
        (b'{"event":"Tick","now":-1.5e400}\n', "-1.5e400 is beyond all numbers"),
        (b'{"event":"Shutdown","grace":1e999}\n', "1e999 is beyond all numbers"),
        (b'{"event":"Restart","at":1}\n', "Restart: Object contains unknown field `at`"),
        (b'{"event":"Status","target":"a"}\n', "Status: Expected `int`, got `str` - at `$.target`"),
        (b'{"event":"ListAgents","prefix":null}\n', "ListAgents: Expected `str`, got `null` - at `$.prefix`"),
        (
            b'{"event":"Wait","agent":1,"turn":1,"timeout":1,"targets":{},' + REST_OF_WAIT,
            "Wait: Expected `array`, got `object` - at `$.targets`",
        ),
        (
            b'{"event":"Wait","agent":1,"turn":1,"timeout":1,"targets":[1.5],' + REST_OF_WAIT,
            "Wait: Expected `int`, got `float` - at `$.targets[0]`",
        ),
    ],
)
def test_file_with_a_line_that_is_no_event_is_refused_in_that_line(line: bytes, problem: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(HEADER + trace.event_line(ListAgents()) + line)
    with pytest.raises(TraceError) as caught:
        trace.read(tmp_path / "x")
    assert (caught.value.line, caught.value.path) == (3, str(tmp_path / "x"))
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing", "."])
def test_file_that_cannot_be_read_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(TraceError) as caught:
        trace.read(tmp_path / name)
    assert caught.value.line is None
    assert ("is not a regular file" if name == "." else "cannot be read") in str(caught.value)
    assert "\n" not in str(caught.value)


# A restart is for traces alone


def test_session_that_is_told_of_a_restart_refuses_it_and_nothing_changes() -> None:
    session = Session()
    before = session.fingerprint()
    with pytest.raises(TypeError, match="is not an event"):
        session.handle(Restart())  # type: ignore[arg-type]
    assert session.fingerprint() == before
    assert "Restart" not in [kind.__name__ for kind in EVENTS]
