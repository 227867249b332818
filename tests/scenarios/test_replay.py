"""Replay: every step of a trace is shown and judged, and the first that breaks something is the last."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from model import kept, lockstep
from model.fuzzing import chance, shrink
from model.lockstep import AnyEvent
from model.scenarios import replay, script
from model.scenarios.replay import Frame, Verdict
from statemachine.checking import properties
from statemachine.checking.properties import Property
from statemachine.core import rules
from statemachine.core import session as core
from statemachine.core.config import Notice, Overflow, SessionConfig
from statemachine.core.effects import Noted, Step, WaitEnd, Wake
from statemachine.core.events import HOST, Finished, FollowUp, Loaded, Restart, Send, Spawn, Tick, Wait
from statemachine.core.ledger import Ledger
from statemachine.core.records import Record, TurnEnded
from statemachine.core.session import Session
from statemachine.log import judging, recovery, trace
from statemachine.log.agent_facts import AgentFacts
from statemachine.log.trace import Trace, TraceError

SMALL = SessionConfig(max_concurrent=2, max_resident=1)


def events_of(config: SessionConfig, *program: str) -> tuple[AnyEvent, ...]:
    """What the lines of a program mean."""
    session, events = Session(config), []
    for line in program:
        events.append(script.parse(line, session))
        session, _ = lockstep.core_step(session, events[-1])
    return tuple(events)


def saved(folder: Path, config: SessionConfig, *program: str) -> Path:
    """The trace file of a program."""
    path = folder / "trace.ndjson"
    trace.write(path, config, events_of(config, *program))
    return path


def shown(path: Path) -> tuple[int, str]:
    """Exit code and all that is printed."""
    console = Console(file=io.StringIO(), width=40, color_system=None)
    code = replay.show(path, console)
    assert isinstance(console.file, io.StringIO)
    return code, console.file.getvalue()


def frames_of(config: SessionConfig, *program: str) -> list[Frame]:
    """The frames of a program."""
    return list(replay.frames(Trace(config, events_of(config, *program))))


# What is shown


def test_trace_in_which_all_but_one_report_holds_is_shown_step_by_step_and_its_end_says_so(tmp_path: Path) -> None:
    code, text = shown(saved(tmp_path, SMALL, "spawn root a by host", "loaded a", "spawn root b", "loaded a"))
    assert code == 1
    assert (
        text
        == """\
0  the beginning
     /root    new
     session  open, slots 0/1, residency 0/1, ready -, idle -
     time     0, due: -

1  spawn root a by host
   {"event":"Spawn","parent":0,"name":"a","message":"work","settings":"settings of a","sender":-1,"headers":null}
   reply   Spawned /root/a, mail 0
   record  AgentSpawned /root/a, "settings of a"
   record  MailAccepted 0 host! to /root/a, "work"
   record  LoadBegun /root/a
   effect  Load /root/a generation 1, "settings of a"
     /root    new
   * /root/a  starting 1, loading, slot reserved, unread host!
   * session  open, slots 1/1, residency 1/1, ready -, idle -
   * time     0, due: load a 30

2  loaded a
   {"event":"Loaded","agent":1,"generation":1}
   record  TurnStarted /root/a turn 1
   effect  StartTurn /root/a turn 1 generation 1, reads 0 host!
     /root    new
   * /root/a  running 1, resident, slot active, asked by host
     session  open, slots 1/1, residency 1/1, ready -, idle -
   * time     0, due: -

3  spawn root b
   {"event":"Spawn","parent":0,"name":"b","message":"work","settings":"settings of b","sender":null,"headers":null}
   reply   Spawned /root/b, mail 1
   record  AgentSpawned /root/b, "settings of b"
   record  MailAccepted 1 root! to /root/b, "work"
   * /root    new, owed 1
     /root/a  running 1, resident, slot active, asked by host
   * /root/b  queued 1, unread root!
   * session  open, slots 1/1, residency 1/1, ready b, idle -
     time     0, due: -

4  loaded a
   {"event":"Loaded","agent":1,"generation":1}
   reply   Stale
     /root    new, owed 1
     /root/a  running 1, resident, slot active, asked by host
     /root/b  queued 1, unread root!
     session  open, slots 1/1, residency 1/1, ready b, idle -
     time     0, due: -

only 3 of 4 events held: every property, and the core did what the reference does
1 event stale because not asked for, and changed nothing; the first is event 4:
    {"event":"Loaded","agent":1,"generation":1}
verdict: ONLY 3 OF 4 EVENTS HELD, 1 WAS STALE: the core passed over what its runtime reported without being asked, \
so nothing was judged of that; 0 stale because late, 0 refused
"""
    )


def test_status_listing_and_restart_are_replayed() -> None:
    frames = frames_of(SMALL, "spawn root a", "status a", "list /root", "restart", "tick 30")
    assert [frame.line for frame in frames[1:]] == ["spawn root a", "status a", "list /root", "restart", "tick 30"]
    assert [frame.broken for frame in frames] == [None] * 6
    assert any("Listing" in line for line in frames[3].step)


def test_trace_that_is_none_is_refused_before_anything_is_printed(tmp_path: Path) -> None:
    path = saved(tmp_path, SMALL, "spawn root a", "loaded a")
    path.write_bytes(path.read_bytes() + b"{}\n")
    console = Console(file=io.StringIO())
    with pytest.raises(TraceError, match="line 4"):
        replay.show(path, console)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == ""
    with pytest.raises(TraceError, match="line 4"):
        replay.replay(path)  # at once: nobody has asked for a frame yet


def test_markup_in_a_message_is_shown_as_it_is(tmp_path: Path) -> None:
    trace.write(tmp_path / "x", SMALL, [Spawn(0, "a", "[bold]x[/bold]")])
    assert '"message":"[bold]x[/bold]"' in shown(tmp_path / "x")[1]


# What breaks

PROGRAM = ("spawn root a by host", "loaded a", "follow_up host a", "finished a", "finished a", "tick 5")


@pytest.fixture
def reference_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No property judges steps, so that the reference is the first to notice."""
    monkeypatch.setattr(properties, "STEP_PROPERTIES", ())
    monkeypatch.setattr(replay, "NOTHING_CHANGED", ())


@pytest.mark.usefixtures("reference_alone")
def test_core_that_does_something_else_than_the_reference_breaks_lockstep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path, SessionConfig(), "spawn root a", "spawn root b", "spawn root a")
    monkeypatch.setattr(rules, "name_is_valid", lambda name: name != "b")
    frames = list(replay.replay(path))
    assert [frame.number for frame in frames] == [0, 1, 2]
    assert frames[-1].step == ('reply   Refused InvalidName, name "b"',)
    assert frames[-1].broken is not None
    assert frames[-1].broken.kind == "lockstep"
    assert "('refused', 'InvalidName', 'b')" in frames[-1].broken.detail
    code, text = shown(path)
    assert code == 1
    assert text.endswith(f"broken by event 2 of 3 events: {frames[-1].broken}\n")
    assert f"\n   broken: {frames[-1].broken}\n" in text


def test_property_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, SessionConfig(), *PROGRAM)
    never = Property("S0", "nobody runs twice", "", lambda m: "a second turn" if m.after.agents[-1].turn == 2 else None)
    monkeypatch.setattr(properties, "STATE_PROPERTIES", (*properties.STATE_PROPERTIES, never))
    frames = list(replay.replay(path))
    assert frames[-1].broken == Verdict("S0", "nobody runs twice: a second turn")
    assert frames[-1].line == "finished a"
    assert shown(path)[0] == 1


@pytest.mark.parametrize(
    ("event", "reply", "broken"),
    [(Send(HOST, 9, "note"), "Refused UnknownAgent, agent #9", "S12"), (Loaded(1, 9), "Stale", "S9")],
)
def test_refused_or_stale_event_that_changes_something_is_named(
    event: AnyEvent, reply: str, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Trace(SessionConfig(), (*events_of(SessionConfig(), "spawn root a"), event))
    handler = core.HANDLERS[type(event)]

    def meddling(s: Session, event: Any) -> Any:
        s.agents[1].promised += 1
        return handler(s, event)

    monkeypatch.setitem(core.HANDLERS, type(event), meddling)
    frame = list(replay.frames(told))[-1]
    assert frame.step == (f"reply   {reply}",)
    assert frame.broken is not None
    assert frame.broken.kind == broken


def test_core_that_raises_is_a_crash_and_its_state_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, SessionConfig(), *PROGRAM)

    def goes_on(*_: bool) -> bool:
        raise KeyError("lost")

    monkeypatch.setattr(rules, "goes_on", goes_on)
    frames = list(replay.replay(path))
    assert frames[-1].broken == Verdict("crash", "KeyError: 'lost'")
    assert frames[-1].step == ()
    assert any("failed" in line for line in frames[-1].view)
    assert shown(path)[0] == 1


def test_state_that_cannot_be_shown_is_a_frame_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def finished(s: Session, _: Any) -> Any:
        s.slots.ready[99] = 1
        raise KeyError("lost")

    told = Trace(SessionConfig(), events_of(SessionConfig(), *PROGRAM))
    monkeypatch.setitem(core.HANDLERS, type(told.events[3]), finished)
    frame = list(replay.frames(told))[-1]
    assert frame.view == ("cannot be shown: IndexError: list index out of range",)
    assert frame.changed == (True,)
    assert frame.broken == Verdict("crash", "KeyError: 'lost'")


def test_beginning_that_cannot_be_shown_is_a_frame_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def view(_: Session) -> list[str]:
        raise IndexError("list index out of range")

    monkeypatch.setattr("model.scenarios.golden.view", view)
    frame, after = replay.frames(Trace(SMALL, (Restart(),), None))
    assert frame.view[0].startswith("cannot be shown: IndexError")
    assert (frame.broken, after.broken) == (None, None)


def test_log_that_folds_to_other_facts_is_a_defect_of_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(ledger: Ledger, record: Record) -> None:
        if not isinstance(record, TurnEnded):
            recovery.apply(ledger, record)

    told = Trace(SessionConfig(), events_of(SessionConfig(), *PROGRAM))
    monkeypatch.setattr(kept, "apply", forgetful)
    frame = list(replay.frames(told))[-1]
    assert frame.line == "finished a"
    assert frame.broken is not None
    assert frame.broken.kind == "recovery"


def test_trial_compares_recovery_as_often_as_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "follow", lambda *_: None)
    events = events_of(SessionConfig(), *PROGRAM)
    trial = replay.Trial(SessionConfig(), fold_every=3)
    trial.play(events[0])
    trial.play(events[1])
    with pytest.raises(kept.RecoveryDiffers):
        trial.play(events[2])


@pytest.mark.usefixtures("reference_alone")
def test_effect_that_the_reference_does_not_ask_for_breaks_lockstep(monkeypatch: pytest.MonkeyPatch) -> None:
    events = events_of(SessionConfig(), *PROGRAM)
    tick = core.HANDLERS[Tick]

    def tick_and_wake(s: Session, event: Any) -> Any:
        reply = tick(s, event)
        s.effects.append(Wake(1, 9, 9, WaitEnd.MAIL))
        return reply

    monkeypatch.setitem(core.HANDLERS, Tick, tick_and_wake)
    trial = replay.Trial(SessionConfig())
    for event in events[:-1]:
        trial.play(event)
    with pytest.raises(lockstep.Deviation, match="effects"):
        trial.play(events[-1])
    assert trial.step == Step((), Noted(), (Wake(1, 9, 9, WaitEnd.MAIL),))


@pytest.mark.usefixtures("reference_alone")
def test_state_that_is_not_the_one_of_the_reference_breaks_lockstep(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = ("loaded a", "finished a", "spawn root b", "loaded b", "finished b")
    told = Trace(SessionConfig(), events_of(SessionConfig(), "spawn root a", *ends))
    finished = core.HANDLERS[Finished]

    def forget_use(s: Session, event: Finished) -> Any:
        reply = finished(s, event)
        s.residents.idle.move_to_end(1)
        return reply

    monkeypatch.setitem(core.HANDLERS, Finished, forget_use)
    frame = list(replay.frames(told))[-1]
    assert frame.line == "finished b"
    assert frame.broken == Verdict("lockstep", "state: the core says [[2, 1]], the reference [[1, 2]]")


# Programs


def test_program_says_what_the_configuration_has_that_the_default_has_not() -> None:
    config = SessionConfig(max_concurrent=2, max_resident=3, notice=Notice.NONE, notify_interrupted=True, idle_ttl=2.5)
    line = replay.program_of(config, ())[0]
    assert line == "config max_concurrent=2 max_resident=3 notice=NONE notify_interrupted=true idle_ttl=2.5"
    assert replay.program_of(SessionConfig(), ()) == ["config"]
    assert replay.program_of(SessionConfig(max_concurrent=7), ()) == ["config max_concurrent=7"]


def test_program_adds_the_event_where_the_line_does_not_say_all() -> None:
    events = (Spawn(0, "a", "work", "settings of a"), Spawn(0, "b", "other"), FollowUp(HOST, 1, ""), Wait(1, 7, 1.0))
    lines = replay.program_of(SessionConfig(), events)[1:]
    assert lines[0] == "spawn root a"
    assert lines[1] == (
        'spawn root b  -- {"event":"Spawn","parent":0,"name":"b","message":"other",'
        '"settings":null,"sender":null,"headers":null}'
    )
    assert lines[2] == 'follow_up host a  -- {"event":"FollowUp","sender":-1,"target":1,"message":"","headers":null}'
    assert lines[3].startswith("wait a 1  -- ")


@settings(deadline=None, database=None, derandomize=True)
@given(
    config=st.binary(min_size=chance.CONFIG_BYTES, max_size=chance.CONFIG_BYTES),
    codes=st.lists(st.binary(min_size=chance.BYTES, max_size=chance.BYTES), max_size=60),
)
def test_lines_of_any_scenario_mean_its_events(config: bytes, codes: list[bytes]) -> None:
    session = Session(chance.config_of(config))
    events: list[AnyEvent] = []
    for code in codes:
        events.append(chance.event_of(session, chance.ANYTHING, code))
        session, _ = lockstep.core_step(session, events[-1])
    session = Session(session.config)
    moves, _ = shrink.lines_of(session.config, events)
    for move, event in zip(moves, events, strict=True):
        assert repr(shrink.understood(move, session)) == repr(event)  # a tick may be at nan, which equals nothing
        session, _ = lockstep.core_step(session, event)


# Shrinking


def test_scenario_that_breaks_nothing_cannot_be_shrunk() -> None:
    assert shrink.shrink(SessionConfig(), events_of(SessionConfig(), *PROGRAM)) is None


@pytest.mark.usefixtures("reference_alone")
def test_failing_scenario_is_shrunk_to_what_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    config = SessionConfig(max_concurrent=2, max_resident=5, overflow=Overflow.QUEUE, max_depth=4, stop_grace=1.0)
    noise = ("spawn root c by host", "loaded c", "tick 1", "start root", *["send c root"] * 30, "finished c")
    middle = ("spawn root a by c", "loaded a", "wait a 0 root", "spawn root b by a", "follow_up c a", "tick 0.5")
    events = events_of(config, *noise, *middle, "drain root", "finished a", "close host c", "loaded b", "restart")
    monkeypatch.setattr(rules, "goes_on", lambda *_: False)
    found = shrink.shrink(config, events)
    assert found is not None
    (config, short), verdict = found
    assert replay.program_of(config, short) == [
        "config max_concurrent=2",
        "spawn root a",
        "loaded a",
        "spawn root b",
        "follow_up host a",
        "finished a",
    ]
    assert verdict.kind == "lockstep"


def test_scenario_that_breaks_something_else_is_not_taken_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: Any) -> Any:
        raise KeyError("lost")

    events = events_of(SessionConfig(), "spawn root a", "loaded a", "wait a 3", "finished a")
    monkeypatch.setitem(core.HANDLERS, Finished, crash)
    found = shrink.judge(SessionConfig(), events)
    assert found is not None
    shrinker = shrink.Shrinker(SessionConfig(), *found)
    monkeypatch.setattr(rules, "wait_end", lambda *_: WaitEnd.MAIL)
    assert not shrinker.take(SessionConfig(), events[:3]), "the reference does not end the wait"
    assert (shrinker.events, shrinker.verdict.kind) == (events, "crash")


def test_crash_is_shrunk_to_the_event_that_crashes(monkeypatch: pytest.MonkeyPatch) -> None:
    events = (*events_of(SessionConfig(), *PROGRAM), Restart(), Loaded(1, 1), Tick(99.0))
    tick = core.HANDLERS[Tick]

    def late(s: Session, event: Tick) -> Any:
        assert event.now < 50
        return tick(s, event)

    monkeypatch.setitem(core.HANDLERS, Tick, late)
    found = shrink.shrink(evolve(SessionConfig(), max_queued=3, stop_grace=2.0), events)
    assert found is not None
    (config, short), verdict = found
    assert replay.program_of(config, short) == ["config", "tick 94"]
    assert verdict.kind == "crash"


def test_judge_that_refuses_what_the_core_writes_is_a_defect_of_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session would not be opened again: mail 2 is read after mail 3, the notice of an outcome that is awaited."""
    config = SessionConfig(max_concurrent=2, max_resident=3, max_attempts=2, overflow=Overflow.QUEUE)
    awaited = ("spawn root a", "loaded a", "spawn a b", "await a 1", "loaded a/b", "follow_up host a", "finished a/b")
    told = Trace(config, events_of(config, *awaited, "drain a"))
    assert [frame.broken for frame in replay.frames(told) if frame.broken] == []

    def in_order(f: AgentFacts, *_: int) -> str | None:
        return None if [*f.taken] == sorted(f.taken, key=lambda mail: mail.mail) else "mail was read in another order"

    monkeypatch.setattr(judging, "mail_problem", in_order)
    frame = list(replay.frames(told))[-1]
    assert frame.broken is not None
    assert (frame.line, frame.broken.kind) == ("drain a", "recovery")
    assert "mail was read in another order" in frame.broken.detail
    monkeypatch.undo()
    monkeypatch.setattr(judging, "tail_problem", lambda *_: "no record at all")
    frame = list(replay.frames(told))[-1]
    assert frame.broken is not None
    assert (frame.line, frame.broken.kind) == ("spawn root a", "recovery")
