"""The demo: it ends by itself with all that it is for, cleans up, and its files are what they should be."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from attrs import evolve
from click.testing import CliRunner
from rich.console import Console

from model.command import cli, demo, demo_view
from model.command.inspect_session import inspect
from model.scenarios import replay
from statemachine import AgentControl
from statemachine.core.machines import Identity
from statemachine.runtime import Statistics

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for what is temporary; whoever puts something there takes it away again."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def played(keep: Path | None, plain: bool = True, terminal: bool = False) -> tuple[int, str]:
    """The demo without pauses: exit code and all that is printed."""
    console = Console(file=io.StringIO(), width=110, height=45, force_terminal=terminal, color_system=None)
    code = demo.run(0, plain, keep, console)
    assert isinstance(console.file, io.StringIO)
    return code, console.file.getvalue()


def kinds(text: str) -> list[str]:
    """The kinds of the lines about what happened."""
    return re.findall(r"^ +\d+\.\d s  (\w+) ", text, re.MULTILINE)


def test_demo_shows_evictions_and_reloads_and_verifies_what_it_left_behind() -> None:
    code, text = played(None)
    assert code == 0
    seen = kinds(text)
    assert {"mail", "notice", "spawned", "started", "ended", "failed", "closed", "load", "unload"} <= set(seen)
    assert seen.count("spawned") == 7
    assert seen.count("evict") >= 4  # seven agents were in memory, with room for three
    assert seen.count("reload") >= 4  # and each was asked once more
    (evictions, reloads) = re.findall(r"(\d+) (?:evictions|reloads)", text)
    assert int(reloads) == seen.count("reload")
    assert int(evictions) <= seen.count("evict")
    assert re.search(r"^trace\.ndjson: \d+ events held", text, re.MULTILINE)
    assert re.search(r"^session\.db: \d+ records of 8 agents held", text, re.MULTILINE)
    assert "the files are gone" in text
    assert text.count("I remember: ") == 7
    assert "I remember: a map of north, a map of south" in text  # after it was out of memory


def test_demo_that_keeps_its_files_says_how_to_look_at_them_and_does_not_overwrite_them(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "demo"
    code, text = played(folder)
    assert code == 0
    commands = re.findall(r"^    statemachine (.*)$", text, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["inspect", "inspect", "verify", "verify", "replay"]
    for command in commands:
        assert CliRunner().invoke(cli.command, command.split()).exit_code == 0, command
    found = inspect(folder / demo.SESSION)
    assert [agent.path for agent in found.agents if agent.identity is Identity.CLOSED] == [
        "/root/forge",
        "/root/forge/code",
        "/root/forge/tests",
    ]
    *_, last = replay.replay(folder / demo.TRACE)
    assert last.broken is None
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(Exception, match="there is such a file already"):
        played(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_demo_on_a_terminal_draws_slots_residency_queue_tree_and_log() -> None:
    code, text = played(None, plain=False, terminal=True)
    assert code == 0
    for title in ("execution slots", "residency slots", "ready queue", "what happens", "last outcome"):
        assert title in text
    last = text[text.rindex("execution slots") :]
    assert re.search(r"forge +closed", last)
    assert re.search(r"south +completed", last)
    assert "closed   forge, code, tests" in last


def test_demo_without_a_terminal_prints_lines() -> None:
    _, text = played(None, plain=False, terminal=False)
    assert "evict" in kinds(text)
    assert "execution slots" not in text


HELD = (r"root +running, waits", r"running +1 +resident(?s:.*)running +1 +resident", r"ready queue ─", r"queued +1 +1 ")


def test_screen_in_the_middle_shows_who_holds_what_and_who_queues(tmp_path: Path) -> None:
    """Every agent is held at its first step of work, so the screen comes to this, and stays so."""

    async def stand_still(seconds: float) -> None:
        if seconds > 1:
            await anyio.sleep_forever()

    async def main() -> str:
        async with AgentControl.open(tmp_path / "s.db", demo.roles(stand_still), demo.CONFIG) as control:
            show = demo_view.Show(control)
            await control.start("/root", "make a survey")
            text = ""
            with anyio.move_on_after(60):
                while not all(re.search(part, text) for part in HELD):
                    await anyio.sleep(0.01)
                    console = Console(file=io.StringIO(), width=110, height=45)
                    console.print(demo_view.screen(show, 45))
                    assert isinstance(console.file, io.StringIO)
                    text = console.file.getvalue()
            return text

    text = anyio.run(main)
    assert [part for part in HELD if not re.search(part, text)] == [], text


@pytest.mark.parametrize("count", ["evictions", "reloads"])
def test_demo_without_what_it_is_for_exits_1_and_says_so(count: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = AgentControl.statistics

    def statistics(control: AgentControl) -> Statistics:
        found = real(control)
        return evolve(found, evictions=0) if count == "evictions" else evolve(found, reloads=0)

    monkeypatch.setattr(AgentControl, "statistics", statistics)
    code, text = played(None)
    assert code == 1
    assert f"{'an eviction' if count == 'evictions' else 'a reload'} was to be seen, and was not" in text


def test_demo_that_is_interrupted_ends_at_once_and_leaves_nothing(temporary: Path) -> None:
    words = [sys.executable, "-u", "-m", "model.command.cli", "demo", "--plain", "--seconds", "3600"]
    here = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(temporary)}
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=here, cwd=REPOSITORY
    ) as child:
        assert child.stdout is not None
        assert "host asks root" in child.stdout.readline()
        assert len(list(temporary.iterdir())) == 1
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (130, "\nstatemachine: interrupted\n")  # a line of its own, after ^C
