"""Processes that are killed, stopped and let go on: what they were told is in the file, and the file is sound.

The processes, the moments and the verdict are in `model/crash*.py`; `statemachine crash` runs more of the same.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from model.command import cli
from model.crashes import kills as crashes
from model.crashes.child import Order
from model.crashes.judge import Blame, Fault, Story, judge, read_log
from model.crashes.server import Moment, Server, server
from statemachine.stores.reading import check_file

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")

AT_MOST_S = 0.3
"""How long a moment waits for its acknowledgements: whoever should give them may be stopped."""


@pytest.fixture(scope="module", name="killer")
def running_server() -> Iterator[Server]:
    with server() as found:
        yield found


# Kills


def kill(kills: int, seed: int, keep: Path) -> crashes.Report:
    """So many kills. Nothing may be wrong after any."""
    report = crashes.crash(kills, seed, keep, lambda _: None)
    said = [f"{failure.command}: {blame}" for failure in report.failures for blame in failure.blames]
    assert said == []
    assert report.kills == kills
    assert report.acknowledged > 20 * kills
    for what in ("keys asked again", "unread trigger mails that ran", "outcomes told", "events replayed"):
        assert report.notes[what] > 0, what
    return report


def test_killed_50_times_under_load_a_session_loses_nothing_and_does_nothing_twice(tmp_path: Path) -> None:
    kill(50, 1, tmp_path)


@pytest.mark.nightly
def test_killed_500_times_under_load_a_session_loses_nothing_and_does_nothing_twice(tmp_path: Path) -> None:
    kill(500, 10_000, tmp_path)


def test_crash_command_that_finds_something_exits_1_names_the_command_and_keeps_the_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["statemachine", "crash", "--kills", "1", "--seed", "9", "--keep", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert (stopped.value.code, list(tmp_path.iterdir())) == (0, [])
    assert "0 lost, 0 there twice, 0 other violations" in capsys.readouterr().out
    monkeypatch.setattr(crashes, "judge", lambda *_: [Blame(Fault.LOST, "a mail")])
    with pytest.raises(SystemExit) as failed:
        cli.main()
    assert failed.value.code == 1
    said = capsys.readouterr().out
    assert "lost: a mail" in said
    assert "again: statemachine crash --kills 1 --seed 9" in said
    assert (tmp_path / "crash-9-0" / "said.ndjson").exists()


# Two owners, and a reader


def fight(killer: Server, path: Path, seed: int, takeovers: tuple[bool, bool]) -> tuple[Story, list[int]]:
    """Two processes that open the session again and again while they are stopped and let go on, and one that reads.
    Returns what was told, and how much the reader found each time.
    """
    rng = Random(f"fight {seed}")
    numbers = itertools.count()
    children = [
        ("writer", Order(path=str(path), seed=seed, number=next(numbers), takeover=takeover, contends=True))
        for takeover in takeovers
    ]
    moments: list[Moment] = []
    for number in range(10):
        one = rng.randrange(2)
        moments.append((15 * number, rng.random() * 0.01, AT_MOST_S, one, signal.SIGSTOP))
        moments.append((15 * number + 10, rng.random() * 0.01, AT_MOST_S, one, signal.SIGCONT))
    heard = killer.run([*children, ("reader", Order(path=str(path), seed=seed, number=next(numbers)))], moments)
    story = Story()
    for one_heard in heard:
        story.add(one_heard.lines)
    return story, [line["read"] for line in heard[2].lines if "read" in line]


@pytest.mark.parametrize(("takeovers", "seed"), [((True, True), 1), ((True, False), 2), ((False, False), 3)])
def test_processes_that_fight_for_a_session_have_one_history_and_a_reader_sees_its_beginnings(
    killer: Server, tmp_path: Path, takeovers: tuple[bool, bool], seed: int
) -> None:
    path = tmp_path / "session.db"
    story, read = fight(killer, path, seed, takeovers)
    assert check_file(path) == ()
    assert [str(blame) for blame in judge(story, read_log(path), in_turn=False)] == []
    owners = {process for processes in story.owners.values() for process in processes}
    assert len(owners) == 2, "both had it"
    assert len(story.acknowledged()) > 20
    assert len(story.owners) > 3, "again and again"
    assert story.lost.total() > 0, "and was refused while the other had it, or took it away"
    assert set(story.lost) <= {"StoreFailed", "SessionInUse"}
    if not any(takeovers):
        assert story.lost["StoreFailed"] == 0, "nobody loses what nobody takes"
    assert read == sorted(read)
    assert len(set(read)) > 3, "while somebody read"
