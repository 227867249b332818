"""Inspect: what it says of a session's file is true, it changes nothing, and it works while the session runs."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from model.command import cli
from model.command.inspect_session import TEXT_MAX, short
from model.lockstep import core_step
from model.scenarios import script
from statemachine import AgentControl, Overflow, Session, SessionConfig, Turn
from statemachine.core.events import Spawn
from statemachine.core.records import TurnStarted
from statemachine.log import trace
from statemachine.log.times import stamp
from statemachine.runtime.settings import wrap
from statemachine.stores import SQLiteStore, Write
from statemachine.stores.errors import SessionInUse
from statemachine.stores.sqlite import schema
from tests.runtime.running import in_session

AT = 1_800_000_000.25
WHEN = "2027-01-15 08:00:00"
"""A time in seconds, and for people."""
CONFIG = SessionConfig(max_concurrent=2, overflow=Overflow.QUEUE, max_unread=50)


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    """`statemachine inspect` with these words: exit code, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["statemachine", "inspect", *words])
    monkeypatch.setenv("COLUMNS", "140")
    code: Any = 0
    try:
        cli.main()
    except SystemExit as stopped:
        code = stopped.code
    said = capsys.readouterr()
    return code, said.out, said.err


async def work(turn: Turn) -> str:
    """Fails if it is told so, else records what it was told, and is done."""
    if turn.mail[-1].text == "fail":
        raise RuntimeError("no \x1b[31mriver\ud800\n")
    if turn.mail[-1].text == "wait":
        await anyio.sleep_forever()
    await turn.record({"told": turn.mail[-1].text})
    return "done"


async def live_a_little(control: AgentControl) -> None:
    """Three agents: one is done and has mail, one has failed, one is closed and spawned again."""
    await (await control.spawn("/root", "scout", "look", {"deep": 1}, key="scout")).outcome()
    await (await control.spawn("/root/scout", "clerk", "fail")).outcome()
    await (await control.spawn("/root", "guard", "go")).outcome()
    await control.close("/root/guard")
    await control.send("/root/scout", "by the way")
    await (await control.spawn("/root", "guard", "again")).outcome()


def closed_session(path: Path) -> Path:
    """Such a session, closed again."""
    in_session(path, live_a_little, work, CONFIG, clock=lambda: AT)
    return path


def test_inspect_of_a_closed_session_says_what_is_in_it_and_leaves_every_file_as_it_was(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = closed_session(tmp_path / "session.db")
    before = {found.name: found.read_bytes() for found in tmp_path.iterdir()}
    code, out, _ = run(capsys, monkeypatch, str(path), "--json")
    assert code == 0
    said = json.loads(out)
    agents = {(agent.pop("path"), agent.pop("id")): agent for agent in said.pop("agents")}
    guard = {"status": "completed", "turn": 1, "unread": 0, "triggers": 0, "settings": None}
    guard |= {"since": AT, "began": AT, "ended": AT}
    never = dict.fromkeys(("since", "began", "ended"))
    done = {"turn": 1, "status": "completed", "result": "done", "cause": "finished", "by": None}
    failed = {"turn": 1, "status": "errored", "result": "RuntimeError: no \x1b[31mriver\ud800\n", "cause": "failed"}
    assert agents == {
        ("/root", 0): {**guard, "open": True, "status": "new", "turn": 0, "outcome": None, **never},
        ("/root/guard", 3): {**guard, "open": False, "outcome": done},
        ("/root/guard", 4): {**guard, "open": True, "outcome": done},
        ("/root/scout", 1): {
            **guard,
            "open": True,
            "unread": 1,
            "settings": '{"role":"default","settings":{"deep":1}}',
            "outcome": done,
        },
        ("/root/scout/clerk", 2): {
            **guard,
            "open": True,
            "status": "errored",
            "outcome": {**failed, "by": None},
        },
    }
    assert said == {
        "path": str(path),
        "schema": len(schema.MIGRATIONS),
        "epoch": 1,
        "owner": os.getpid(),
        "records": 25,
        "position": 25,
        "tail": 25,
        "receipts": 1,
        "file_bytes": path.stat().st_size,
        "wal_bytes": 0,
        "mail": {"accepted": 1, "read": 4, "dead": 0},
        "forgotten": [],
        "config": json.loads(trace.header_line(CONFIG))["config"],
    }
    assert {found.name: found.read_bytes() for found in tmp_path.iterdir()} == before


def test_inspect_for_people_shows_each_agent_on_a_line_and_no_control_characters(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code, out, _ = run(capsys, monkeypatch, str(closed_session(tmp_path / "session.db")))
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert code == 0
    assert lines[1:5] == [
        "config max_concurrent=2 max_unread=50",
        "agents 4 open, 1 closed",
        "mail 1 unread, 4 read, 0 dead",
        f"log 25 records kept of 25, 25 behind the last snapshot, 1 receipts, "
        f"{(tmp_path / 'session.db').stat().st_size:,} bytes and 0 in the WAL",
    ]
    assert lines[7:] == [
        "0 /root yes new 0",
        f'3 /root/guard no completed 1 {WHEN} completed "done"',
        f'4 /root/guard yes completed 1 {WHEN} completed "done"',
        f'1 /root/scout yes completed 1 1 {WHEN} completed "done"',
        rf'2 /root/scout/clerk yes errored 1 {WHEN} errored "RuntimeError: no \u001b[31mriver\ud800\n"',
    ]
    assert out.replace("\n", "").isprintable()


def test_inspect_of_an_agent_tells_its_life_by_path_and_by_id(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = str(closed_session(tmp_path / "session.db"))
    life = f"""\
/root/scout: agent 1, open, completed
    {WHEN}  trigger mail 0 from host: "look"
    {WHEN}  turn 1 starts, and reads what is unread
    {WHEN}  turn 1 records {{"told": "look"}}
    {WHEN}  turn 1 ends: completed "done"
    {WHEN}  mail 3 from host: "by the way"
"""
    for wanted in ("/root/scout", "1"):
        assert run(capsys, monkeypatch, path, "--agent", wanted) == (0, life, "")
    code, out, _ = run(capsys, monkeypatch, path, "--agent", "/root/scout", "--json")
    assert code == 0
    said = json.loads(out)
    assert (said["id"], said["open"], said["unread"]) == (1, True, 1)
    kinds = ["MailAccepted", "TurnStarted", "Entry", "TurnEnded", "MailAccepted"]
    assert [record["record"] for record in said["rollout"]] == kinds
    assert said["rollout"][2] == {"record": "Entry", "agent": 1, "turn": 1, "data": {"told": "look"}, "at": AT}
    assert said["rollout"][0]["kind"] == "trigger"
    done = {"agent": 1, "turn": 1, "status": "completed", "result": "done", "cause": "finished", "by": None}
    assert said["rollout"][3] == {"record": "TurnEnded", "outcome": done, "at": AT, "traceback": None}
    _, out, _ = run(capsys, monkeypatch, path, "--agent", "/root/guard")
    assert out.startswith("/root/guard: agent 4, open")  # the one that is open now
    _, out, _ = run(capsys, monkeypatch, path, "--agent", "3")
    assert out.startswith("/root/guard: agent 3, closed")


def test_inspect_of_a_running_session_sees_what_is_durable_and_does_not_disturb_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "session.db"

    async def main(control: AgentControl) -> None:
        await live_a_little(control)
        async with control.events() as events:
            await control.follow_up("/root/scout", "wait")
            while await anext(events) != TurnStarted(1, 2):
                pass
        code, out, _ = run(capsys, monkeypatch, str(path), "--json")
        said = json.loads(out)
        scout = next(agent for agent in said["agents"] if agent["path"] == "/root/scout")
        assert (code, scout["status"], scout["turn"], scout["unread"]) == (0, "running", 2, 0)
        assert said["wal_bytes"] == Path(f"{path}-wal").stat().st_size > 0
        with pytest.raises(SessionInUse):
            async with AgentControl.open(path, work, CONFIG):
                raise AssertionError
        await control.follow_up("/root/guard", "more")

    in_session(path, main, work, CONFIG)
    _, out, _ = run(capsys, monkeypatch, str(path), "--json")
    said = {agent["id"]: agent for agent in json.loads(out)["agents"]}
    assert (said[1]["status"], said[4]["triggers"]) == ("interrupted", 1)


def test_inspect_of_an_agent_with_a_notice_and_mail_of_agents_names_them_by_path(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "session.db"

    async def ask(turn: Turn) -> str:
        if turn.path != "/root":
            await turn.send("/root", "on my way")
            return "here"
        scout = await turn.spawn("scout", "come")
        await turn.wait(60, (scout,))
        await turn.drain()
        while (await turn.status(scout)).outcome is None:
            await turn.wait(60, (scout,))
        await turn.drain()
        return "x" * 2 * TEXT_MAX

    async def main(control: AgentControl) -> None:
        await (await control.start("/root", "go")).outcome()

    in_session(path, main, ask, CONFIG)
    _, out, _ = run(capsys, monkeypatch, str(path), "--agent", "/root")
    assert 'mail 2 from /root/scout: "on my way"\n' in out
    assert 'notice 3 of turn 1 of /root/scout: completed "here"\n' in out
    assert "turn 1 reads what came meanwhile\n" in out
    assert f'ends: completed "{"x" * (TEXT_MAX - 1)}... (202 characters)\n' in out
    _, out, _ = run(capsys, monkeypatch, str(path), "--agent", "/root/scout")
    assert 'trigger mail 1 from /root: "come"\n' in out


LIFE = """
    spawn root a by host; loaded a; died a; loaded a; spawn a kid; loaded a/kid; await a 1; finished a/kid; send host a;
    withdraw host 3; follow_up a a/kid; follow_up a/kid a; follow_up a a; interrupt host a subtree; aborted a;
    aborted a/kid; close host a/kid; forget a/kid
"""


def test_inspect_tells_what_was_withdrawn_demoted_awaited_stopped_returned_and_forgotten(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "session.db"
    config = SessionConfig(max_attempts=2)

    async def live() -> None:
        store, session = SQLiteStore(path), Session(config)
        await store.open(config)
        for line in LIFE.split(";"):
            event = script.parse(line.strip(), session)
            if isinstance(event, Spawn):
                settings = wrap("default", None)  # as the runtime has them
                event = Spawn(event.parent, event.name, event.message, settings, event.sender, event.headers)
            session, step = core_step(session, event)
            stamp(step.records, AT)
            await store.append([Write(step.records)])
        await store.close()

    anyio.run(live)
    _, out, _ = run(capsys, monkeypatch, str(path), "--agent", "/root/a")
    assert [line.replace(WHEN, "").strip() for line in out.splitlines()[1:]] == [
        'trigger mail 0 from host: "work"',
        "turn 1 starts, and reads what is unread",
        "turn 1 is returned, and what it has read is unread again",
        "turn 2 starts, and reads what is unread",
        'notice 2 of turn 1 of forgotten: completed "result"',
        "turn 2 reads notice 2",
        'mail 3 from host: "note"',
        "mail 3 is withdrawn by host",
        'trigger mail 5 from forgotten: "work"',
        'trigger mail 6 from /root/a: "work"',
        "turn 2 is asked to stop: interrupted by host",
        "mail 5, 6 asks for no turn any more: not started by host",
        'turn 2 ends: interrupted "interrupted"',
    ]
    _, out, _ = run(capsys, monkeypatch, str(path), "--json")
    said = json.loads(out)
    assert ([agent["path"] for agent in said["agents"]], said["forgotten"]) == (["/root", "/root/a"], [2])
    _, out, _ = run(capsys, monkeypatch, str(path))
    assert "agents  2 open, 0 closed, 1 forgotten\n" in out
    code, out, err = run(capsys, monkeypatch, str(path), "--agent", "2")
    assert (code, out) == (2, "")
    assert f"agent 2 of {path} is forgotten" in err


def test_short_text_is_one_printable_line() -> None:
    assert short({"a": "b\u2028\x9b\ud800é"}) == '{"a": "b\\u2028\\u009b\\ud800é"}'
    assert short("x" * TEXT_MAX).endswith(f"... ({TEXT_MAX + 2} characters)")


def altered(path: Path, statement: str) -> None:
    """One statement on a database."""
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.close()


def make_missing(_: Path) -> None:
    """Nothing there."""


def make_empty(path: Path) -> None:
    path.touch()


def make_text(path: Path) -> None:
    path.write_text("dear diary\n" * 20, "utf-8")


def make_foreign(path: Path) -> None:
    altered(path, "CREATE TABLE diary (entry)")


def make_folder(path: Path) -> None:
    path.mkdir()


def make_newer(path: Path) -> None:
    altered(closed_session(path), f"PRAGMA user_version = {len(schema.MIGRATIONS) + 1}")


def make_corrupt(path: Path) -> None:
    altered(closed_session(path), "UPDATE log SET data = '{' WHERE position = 2")


def make_cut(path: Path) -> None:
    path.write_bytes(closed_session(path).read_bytes()[:5000])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (make_missing, "there is no session"),
        (make_empty, "there is no session"),
        (make_text, "this is not a session"),
        (make_foreign, "this is a database, but not of a session"),
        (make_folder, "this is a directory"),
        (make_newer, "newer than"),
        (make_corrupt, "log position 2: "),
        (make_cut, "malformed"),
    ],
)
def test_inspect_of_what_is_no_sound_session_says_one_line_and_exits_2(
    make: Any, text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "file.db"
    make(path)
    before = {found.name: found.read_bytes() for found in tmp_path.iterdir() if found.is_file()}
    for words in ((), ("--json",), ("--agent", "/root")):
        code, out, err = run(capsys, monkeypatch, str(path), *words)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert text in err
        assert str(path) in err
    assert {found.name: found.read_bytes() for found in tmp_path.iterdir() if found.is_file()} == before


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM log WHERE agent = 1",
        "DELETE FROM rollouts WHERE agent = 1",
        "DELETE FROM log WHERE agent = 1 AND kind = 'TurnEnded'",
    ],
)
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_inspect_of_an_agent_whose_rollout_is_not_what_its_facts_say_names_that_and_exits_1(
    options: tuple[str, ...],
    statement: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    path = closed_session(tmp_path / "session.db")

    async def open_again() -> None:
        store = SQLiteStore(path)
        await store.open(CONFIG)  # a snapshot has all facts now
        await store.close()

    anyio.run(open_again)
    code, _, err = run(capsys, monkeypatch, str(path), "--agent", "1", *options)
    assert (code, err) == (0, "")
    altered(path, statement)
    code, out, err = run(capsys, monkeypatch, str(path), "--agent", "1", *options)
    assert code == 1
    assert out
    assert "its facts say" in err
    assert "statemachine verify" in err


def test_inspect_of_an_agent_that_never_was_says_one_line_and_exits_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = closed_session(tmp_path / "session.db")
    code, out, err = run(capsys, monkeypatch, str(path), "--agent", "/root/nobody")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "there is no agent '/root/nobody'" in err


@pytest.mark.parametrize(
    ("now", "said"), [(1.7e12, "1.7e+12 s, no date"), (-1e12, "-1e+12 s, no date"), (1e300, "1e+300 s")]
)
def test_inspect_of_a_time_that_no_calendar_has_shows_it_as_a_number(
    now: float, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "session.db"
    in_session(path, live_a_little, work, clock=lambda: now)
    for words in ((), ("--agent", "/root/scout"), ("--json",)):
        code, out, err = run(capsys, monkeypatch, str(path), *words)
        assert (code, err) == (0, "")
        assert (said in out) is (words != ("--json",))
