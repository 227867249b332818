"""A fleet of hosts under blows, and that its judge notices what it is there for."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest

from model.crashes.fleet import (
    WORKERS,
    Blow,
    FleetResult,
    Told,
    WorkerProcess,
    judge_one,
    strike,
    terminated_as_interrupted,
)
from model.crashes.judge import Fault
from model.pools import delaying_interrupts
from model.postgres_server import Server
from statemachine.core.machines import TurnState
from statemachine.core.records import Cause, MailAccepted, MailKind, Outcome, TurnEnded, TurnStarted
from statemachine.runtime import AgentRef

OUTCOME = Outcome(1, 1, TurnState.COMPLETED, "done: request 1", Cause.FINISHED)
ROLLOUT = (MailAccepted(0, -1, 1, MailKind.TRIGGER, "request 1"), TurnStarted(1, 1), TurnEnded(OUTCOME))
TOLD = Told("s", "request 1", "k", AgentRef(1, "/root/a", 0), OUTCOME)


def test_fleet_that_is_struck_loses_nothing_and_does_nothing_twice() -> None:
    shown = list[str]()
    result = strike(2, 1, 1, seed=1, show=lambda so_far: shown.append(so_far.progress()))
    assert result.failures == []
    assert result.blows == {Blow.KILL: 2, Blow.PAUSE: 1, Blow.RESTART: 1}
    assert len(result.told) > 10
    assert all(seconds < 20 for found in result.first_answers.values() for seconds in found)
    assert len(shown) == 4
    assert "0 faults" in result.summary()


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]


IN_THE_BACKGROUND = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")
"""As a shell begins what it starts in the background: Ctrl-C is ignored."""


@pytest.mark.parametrize(
    ("number", "begin"),
    [(signal.SIGTERM, ()), (signal.SIGTERM, IN_THE_BACKGROUND), (signal.SIGINT, ())],
    ids=["SIGTERM", "SIGTERM in the background", "Ctrl-C"],
)
@pytest.mark.parametrize("workers", [1, WORKERS], ids=["while they start", "when they run"])
def test_campaign_that_is_ended_leaves_no_process(number: int, begin: tuple[str, ...], workers: int) -> None:
    words = [*begin, sys.executable, "-m", "model.command.cli", "crash", "--fleet", "--kills", "1000", "--json"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as command:
        try:
            while len(children := children_of(command.pid)) < 1 + workers:  # the server too
                assert command.poll() is None
                time.sleep(0.02)
            command.send_signal(number)
            _, said = command.communicate(timeout=60)
        finally:
            command.kill()
    assert command.returncode == 130, said
    assert [child for child in children if Path(f"/proc/{child}").exists()] == []


@pytest.mark.parametrize("begin", [partial(WorkerProcess, "a folder", "a:b"), Server], ids=["a worker", "the database"])
def test_process_that_is_about_to_begin_at_ctrl_c_is_ended(
    begin: Callable[[], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there, and the call that makes it has not returned yet."""
    made: list[subprocess.Popen[str]] = []

    class Interrupted(subprocess.Popen[str]):
        def __init__(self, args: list[str], **how: Any) -> None:
            super().__init__(args, **how)
            if Path(args[0]).name != "initdb":
                made.append(self)
                signal.raise_signal(signal.SIGINT)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        begin()
    assert [process.poll() is None for process in made] == [False]


@pytest.mark.parametrize("ctrl_c", [signal.SIG_IGN, signal.default_int_handler], ids=["ignored", "not ignored"])
def test_end_that_is_asked_for_while_a_process_begins_is_not_lost(ctrl_c: Any) -> None:
    """Ctrl-C is ignored in what a shell starts in the background."""
    begun = list[bool]()

    def begin() -> None:
        with terminated_as_interrupted(), delaying_interrupts():
            with delaying_interrupts():
                signal.raise_signal(signal.SIGTERM)
            begun.append(True)

    before = signal.signal(signal.SIGINT, ctrl_c)
    try:
        with pytest.raises(KeyboardInterrupt):
            begin()
    finally:
        signal.signal(signal.SIGINT, before)
    assert begun


def test_life_as_it_was_told_has_no_fault() -> None:
    assert list(judge_one("s", [TOLD], {1: ROLLOUT})) == []


@pytest.mark.parametrize(
    ("fault", "told", "rollout"),
    [
        (Fault.LOST, TOLD, ()),
        (Fault.LOST, attrs.evolve(TOLD, text="request 2"), ROLLOUT),
        (Fault.TWICE, TOLD, (*ROLLOUT, MailAccepted(1, -1, 1, MailKind.TRIGGER, "request 1"))),
        (Fault.OTHER, attrs.evolve(TOLD, outcome=attrs.evolve(OUTCOME, turn=2)), ROLLOUT),  # type: ignore[misc]
        (Fault.OTHER, TOLD, ROLLOUT[:2]),
        (Fault.OTHER, attrs.evolve(TOLD, outcome=None), ROLLOUT[:2]),
    ],
)
def test_what_is_lost_doubled_or_other_than_told_is_a_fault(
    fault: Fault, told: Told, rollout: tuple[object, ...]
) -> None:
    assert [blame.fault for blame in judge_one("s", [told], {1: rollout})] == [fault]  # type: ignore[dict-item]


def test_result_says_what_happened() -> None:
    result = FleetResult(1)
    assert result.progress() == "0 of 1 blows, 0 requests acknowledged"
    assert result.as_json() == {"requests": 0, "blows": {}, "seconds": {}, "faults": []}
