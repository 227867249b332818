"""Texts that look like markup or names of emoji are shown as they are, by every way to print (harm, kind 10)."""

from __future__ import annotations

import io
import json
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import RenderableType
from rich.live import Live
from rich.panel import Panel

from model.command import cli
from model.command.demo_view import Show, tree
from model.printing import Console, table
from statemachine import AgentControl, SessionConfig, Turn
from tests.runtime.running import in_session

LIKE_MARKUP = ("[/x]", "[red]boo[/red]", "[link=http://a.b]z", ":smile:", "[/]", "[bold", "\\[x]", "[@click=f]y[/]")


async def work(turn: Turn) -> str:
    return turn.mail[-1].text


async def with_a_child(control: AgentControl) -> None:
    """A session with an agent below the root, whose result looks like markup, too."""
    await (await control.spawn("/root", "abc", "[/x] :smile:")).outcome()


async def nothing(_: AgentControl) -> None:
    pass


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of such a session."""
    path = tmp_path_factory.mktemp("markup") / "session.db"
    in_session(path, with_a_child, work, SessionConfig())
    in_session(path, nothing, work, SessionConfig())  # which writes a snapshot, with the name
    return path


def renamed(sound: Path, path: Path, name: str) -> Path:
    """A copy of a session's file in which the agent has another name, as no session could have written."""
    path.write_bytes(sound.read_bytes())
    with closing(sqlite3.connect(path)) as connection, connection:
        where = "UPDATE agents SET facts = replace(facts, '\"abc\"', ?) WHERE facts LIKE '%\"abc\"%'"
        assert connection.execute(where, (json.dumps(name),)).rowcount == 1
    return path


@pytest.mark.parametrize("name", LIKE_MARKUP)
def test_inspect_tells_of_a_name_that_looks_like_markup_as_it_is(
    name: str, sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = renamed(sound, tmp_path / "session.db", name)
    monkeypatch.setattr(sys, "argv", ["statemachine", "inspect", str(path)])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        cli.main()
    said = capsys.readouterr()
    assert f"{name!r} is not a name" in said.err
    assert said.out == ""


def test_inspect_shows_results_that_look_like_markup_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def spawned(control: AgentControl) -> None:
        for number, text in enumerate((*LIKE_MARKUP, "x\nverdict: HELD")):
            await (await control.spawn("/root", f"a{number}", text)).outcome()

    path = tmp_path / "session.db"
    in_session(path, spawned, work, SessionConfig())
    monkeypatch.setenv("COLUMNS", "200")
    for words in ((), *[("--agent", str(number + 1)) for number in range(len(LIKE_MARKUP) + 1)]):
        monkeypatch.setattr(sys, "argv", ["statemachine", "inspect", str(path), *words])
        cli.main()
    out = capsys.readouterr().out
    for text in LIKE_MARKUP:
        assert json.dumps(text) in out
    assert not [line for line in out.splitlines() if line.strip().startswith("verdict")]


def in_table(text: str) -> RenderableType:
    made = table("[/x]", title=text)
    made.add_row(text)
    return made


@pytest.mark.parametrize("text", LIKE_MARKUP)
@pytest.mark.parametrize("render", [str, in_table, Panel], ids=["text", "table", "panel"])
def test_console_shows_a_text_that_looks_like_markup_as_it_is_wherever_it_stands(
    render: Callable[[str], RenderableType], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Console().print(render(text))
    assert text in capsys.readouterr().out


def terminal(monkeypatch: pytest.MonkeyPatch) -> tuple[Console, io.StringIO]:
    """A console on a terminal, and what is written to it."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    console, written = Console(stderr=True), io.StringIO()
    console.file = written
    return console, written


@pytest.mark.parametrize("text", LIKE_MARKUP)
def test_progress_shows_a_text_that_looks_like_markup_as_it_is(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    console, written = terminal(monkeypatch)
    with console.status(f"first {text}") as status:
        status.update(spinner="dots")  # draws at once
        status.update(f"then {text}", spinner="line")
    with Live(console=console, transient=True) as live:
        live.update(in_table(text), refresh=True)
    said = written.getvalue()
    assert f"first {text}" in said
    assert f"then {text}" in said
    assert f" {text} " in said
    assert "\x1b]8" not in said  # a link


def test_demo_shows_a_name_that_looks_like_markup_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Show, "name", lambda *_: "[/x]:smile:")

    async def look(control: AgentControl) -> None:
        Console().print(tree(Show(control)))

    in_session(tmp_path / "session.db", look, work, SessionConfig())
    assert "[/x]:smile:" in capsys.readouterr().out
