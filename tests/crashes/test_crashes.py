"""Processes that are killed, stopped and let go on: what they were told is in the file, and the file is sound.

The processes, the moments and the verdict are in `model/crash*.py`; `statemachine crash` runs more of the same.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import nullcontext
from pathlib import Path
from random import Random
from typing import TypeVar

import pytest

from model.command import cli
from model.crashes import kills as crashes
from model.crashes.child import Order
from model.crashes.judge import Blame, Fault, Story, judge, read_log
from model.crashes.server import Server, Signal, Start, Step, Wait, server
from model.pools import Task
from statemachine.stores.sqlite.reading import check_file

T = TypeVar("T")

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")

AT_MOST_S = 0.3
"""How long the next signal waits for acknowledgements: the process that should give them may be stopped."""
FIRST, SECOND, READER = range(3)
"""The processes of a fight."""
ACKNOWLEDGED, OPENED, READ = 150, 5, 5
"""How much there is at the end of a fight at least."""


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
    for what in (
        *("keys asked again", "unread trigger mails that ran", "outcomes told", "events replayed"),
        *("outcomes awaited in turns", "attempts after returned turns"),
    ):
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


def test_crash_that_is_interrupted_ends_after_its_round_and_keeps_what_was_done(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    report = crashes.crash(9, 1, tmp_path, lambda _: signal.raise_signal(signal.SIGINT))
    assert (report.kills, report.failures) == (1, [])
    assert report.summary().endswith(", stopped early")
    assert signal.getsignal(signal.SIGINT) is before


class Inline:
    """A pool that runs a task when it is submitted, in this process."""

    def submit(self, task: Task[T]) -> Future[T]:
        done: Future[T] = Future()
        done.set_result(task.function(*task.arguments))
        return done

    def ask_to_stop(self) -> None:
        pass


def test_lives_side_by_side_have_the_seeds_and_kills_of_lives_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A life that a failure ends early leaves its other kills to later seeds."""
    played: list[tuple[int, int]] = []

    def play(seed: int, rounds: int, keep: Path) -> crashes.Report:
        played.append((seed, rounds))
        if seed != 6:
            return crashes.Report(kills=rounds, acknowledged=10)
        failure = crashes.Failure(6, 2, (Blame(Fault.LOST, "a mail"),), keep)
        return crashes.Report(kills=3, acknowledged=3, failures=[failure])

    monkeypatch.setattr(crashes, "play", play)
    shown: list[int] = []
    report = crashes.crash_together(
        20, 5, tmp_path, lambda so_far: shown.append(so_far.kills), 2, lambda _: nullcontext(Inline())
    )
    assert played == [(5, 8), (6, 8), (7, 8), (8, 1)]
    assert (report.kills, report.acknowledged, [f.seed for f in report.failures]) == (20, 33, [6])
    assert shown[-1] == 20
    assert not report.interrupts


def test_life_played_as_a_task_loses_nothing(tmp_path: Path) -> None:
    report = crashes.play(3, 2, tmp_path)
    assert (report.kills, report.failures) == (2, [])
    assert report.acknowledged


# Two owners, and a reader


def fight(killer: Server, path: Path, seed: int, takeovers: tuple[bool, bool]) -> tuple[Story, list[int]]:
    """Two processes that open the session again and again while they are stopped and let go on, and one that reads.
    Returns what was told, and how much the reader found each time.

    Which of them has the session is a matter of luck. So the first one has it before there is another, both go on until
    one has lost it, and in the end the second one is alone with it.
    """
    rng = Random(f"fight {seed}")
    first, second = (
        Order(path=str(path), seed=seed, number=number, takeover=takeover, contends=True)
        for number, takeover in enumerate(takeovers)
    )
    steps: list[Step] = [Start("writer", first), Wait(count=1, child=FIRST), Start("writer", second)]
    steps.append(Start("reader", Order(path=str(path), seed=seed, number=READER)))
    for number in range(10):
        one = rng.choice((FIRST, SECOND))
        for further, signaled in ((0, signal.SIGSTOP), (10, signal.SIGCONT)):
            steps.append(Wait(count=15 * number + further, at_most_s=AT_MOST_S, further_s=rng.random() * 0.01))
            steps.append(Signal(one, signaled))
    steps += [
        Wait(count=1, line="lost"),
        Signal(FIRST, signal.SIGKILL),
        Wait(count=ACKNOWLEDGED),
        Wait(count=OPENED, line="open", child=SECOND),
        Wait(count=READ, line="read", child=READER),
    ]
    heard = killer.run(*steps)
    story = Story()
    for one_heard in heard:
        story.add(one_heard.lines)
    return story, [line["read"] for line in heard[READER].lines if "read" in line]


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
    assert len(story.acknowledged()) >= ACKNOWLEDGED
    assert len(story.owners) > OPENED, "again and again"
    assert story.lost.total() > 0, "and was refused while the other had it, or took it away"
    assert set(story.lost) <= {"StoreFailed", "SessionInUse"}
    if not any(takeovers):
        assert story.lost["StoreFailed"] == 0, "nobody loses what nobody takes"
    assert read == sorted(read)
    assert len(set(read)) >= READ, "while somebody read"


def test_server_started_in_the_folder_of_another_model_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.py").write_text("raise SystemExit('the model of another project was imported')\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    with server() as found:
        assert found.run() == []
