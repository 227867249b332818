"""What commands print: no text of another acts on a terminal, and errors are short (harm, kind 10)."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from model import printing
from model.command import cli
from model.scenarios import replay
from statemachine import AgentControl, SessionConfig, Turn
from statemachine.core import events as ev
from statemachine.log import trace
from tests.runtime.running import in_session

REPOSITORY = Path(__file__).parents[2]
EVIL = "\x1b]0;owned\x07\x1b[31m\x9b2J\u202egnp.exe\u2066\u200b\ufeff\r\x08\x7f\u2028\U000e0041\ud800日本"
"""Sets the title, colours, clears (C1), turns the direction, hides, goes back, and is not even UTF-8. The end is
visible, but not in every encoding.
"""


def is_safe(text: str) -> bool:
    """Tells whether a terminal shows the text as it is."""
    return all(c.isprintable() or c == "\n" for c in text)


@pytest.mark.parametrize("character", EVIL[:1] + EVIL[1:])
def test_printable_escapes_every_character_that_is_not_plainly_visible(character: str) -> None:
    said = printing.printable(f"a{character}b")
    assert is_safe(said)
    assert (said == f"a{character}b") is character.isprintable()


@pytest.mark.parametrize("text", ["plain", "two\nlines", "été", "日本\u3000語", "non\u00a0breaking", "🙂"])
def test_printable_leaves_visible_text_alone(text: str) -> None:
    assert printing.printable(text) == text


def test_escapes_in_printed_json_are_those_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    printing.say(json.dumps({EVIL: EVIL}, indent=2))
    out = capsys.readouterr().out
    assert is_safe(out)
    assert json.loads(out) == {EVIL: EVIL}


def test_console_prints_texts_tables_and_strings_safely(capsys: pytest.CaptureFixture[str]) -> None:
    console = printing.Console()
    table = Table("head" + EVIL)
    table.add_row(Text(EVIL))
    for what in (Text(EVIL, "red"), EVIL, table):
        console.print(what, markup=False)
    out = capsys.readouterr().out
    assert is_safe(out)
    assert out.count("gnp.exe") == 2  # a table crops what became wider


def test_console_on_a_terminal_still_has_colours_of_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    printing.Console().print(Text("\x1b[5mx", "bold"))
    out = capsys.readouterr().out
    assert out.startswith("\x1b[1m")
    assert "\x1b[5m" not in out


# Every command


async def babble(turn: Turn) -> str:
    """Work that says nothing but evil."""
    await turn.record({EVIL: EVIL})
    if turn.mail[-1].text.endswith("fail"):
        raise RuntimeError(EVIL)
    return EVIL


async def with_evil(control: AgentControl) -> None:
    """A session in which every text is evil."""
    await (await control.spawn("/root", "scout", EVIL, {EVIL: EVIL}, key="k")).outcome()
    await (await control.follow_up("/root/scout", f"{EVIL} fail")).outcome()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files of which every text is evil."""
    folder = tmp_path_factory.mktemp("evil")
    in_session(folder / "session.db", with_evil, babble, SessionConfig(), folder / "trace.ndjson")
    renamed = folder / "renamed.db"
    renamed.write_bytes((folder / "session.db").read_bytes())
    with closing(sqlite3.connect(renamed)) as connection, connection:
        connection.execute("UPDATE log SET kind = ?", (EVIL.encode("utf-8", "replace").decode() + "[/red]",))
    events: list[ev.Event] = [ev.Spawn(0, EVIL, EVIL, EVIL), ev.Spawn(0, "a", EVIL), ev.Failed(1, 1, EVIL)]
    trace.write(folder / "names.ndjson", SessionConfig(), events)
    lines = (folder / "names.ndjson").read_bytes().splitlines(keepends=True)
    word = json.dumps(EVIL).encode()
    for name, line in {
        "event.ndjson": b'{"event":%s}\n' % word,
        "field.ndjson": b'{"event":"Tick","now":1.0,%s:1}\n' % word,
        "value.ndjson": b'{"event":"Tick","now":%s}\n' % word,
    }.items():
        (folder / name).write_bytes(lines[0] + line)
    (folder / "header.ndjson").write_bytes(lines[0].replace(b'"config"', b'%s:1,"config"' % word))
    (folder / "version.ndjson").write_bytes(lines[0].replace(b'"version":3', b'"version":%s' % word))
    return folder


COMMANDS = [
    *(f"replay {name}.ndjson" for name in ("trace", "names", "event", "field", "value", "header", "version")),
    *(f"verify {name}.ndjson" for name in ("trace", "names", "event", "field", "value", "header", "version")),
    *("verify session.db", "verify renamed.db", "inspect renamed.db"),
    *(
        "inspect session.db",
        "inspect session.db --agent 1",
        "inspect session.db --json",
        "inspect session.db --agent @",
    ),
    *("inspect session.db --agent 1 --json", "@", "properties @", "diagram @", "replay @", "verify @", "inspect @"),
]
"""`@` is an evil word, as a shell can give one: what is not UTF-8 comes as such a surrogate."""
EVIL_WORD = EVIL.replace("\ud800", "\udcff")


@pytest.mark.parametrize("words", COMMANDS)
def test_command_prints_nothing_that_a_terminal_obeys(
    words: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    arguments = [EVIL_WORD if word == "@" else word for word in words.split()]
    monkeypatch.setattr(sys, "argv", ["statemachine", *arguments])
    with suppress(SystemExit):
        cli.main()
    said = capsys.readouterr()
    assert is_safe(said.out)
    assert is_safe(said.err)
    assert said.out or said.err


@pytest.mark.parametrize("words", ["replay trace.ndjson", "verify event.ndjson", "inspect session.db --agent 1"])
def test_command_with_an_output_that_cannot_encode_everything_ends_without_a_traceback(
    words: str, folder: Path
) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "statemachine", *words.split()]
    done = subprocess.run(command, capture_output=True, check=False, env=environment, cwd=folder, timeout=60)
    assert done.returncode in (0, 2)
    assert b"Traceback" not in done.stderr
    assert is_safe((done.stdout + done.stderr).decode("cp1252").replace("\r\n", "\n"))


# Length


def test_error_of_use_is_short_however_long_its_cause(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    long = "x" * 200_000
    path = tmp_path / "t.ndjson"
    trace.write(path, SessionConfig(), [])
    path.write_bytes(path.read_bytes() + json.dumps({"event": long}).encode() + b"\n")
    for words in ((long,), ("properties", long), ("verify", str(path)), ("replay", str(path))):
        monkeypatch.setattr(sys, "argv", ["statemachine", *words])
        with pytest.raises(SystemExit):
            cli.main()
        said = capsys.readouterr()
        assert said.out == ""
        assert len(said.err) < printing.ERROR_MAX + 100


def test_verify_and_replay_print_of_a_long_line_only_its_start(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "t.ndjson"
    trace.write(path, SessionConfig(), [ev.Start(0, "x" * 3_000_000)])
    monkeypatch.setattr(replay, "REFERENCE_STEP", lambda world, _: (world, ("something else",), []))
    for command in ("verify", "replay"):
        monkeypatch.setattr(sys, "argv", ["statemachine", command, str(path)])
        with pytest.raises(SystemExit):
            cli.main()
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) < printing.LINE_MAX + 100
        assert any("... (3,0" in line for line in lines)
