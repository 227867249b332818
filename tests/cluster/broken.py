"""What the tests have the processes of a cluster do. They import it by its name."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from pathlib import Path

from model.cluster.exploring import Partition
from model.exploration.scopes import Scope
from model.simulation import campaign
from statemachine.core import rules


def never(*_: object) -> bool:
    return False


def always(*_: object) -> bool:
    return True


class BrokenPartition(Partition):
    """Explores a core with a broken rule: late trigger mail is forgotten."""

    def __init__(self, scope: Scope, me: int, partitions: int) -> None:
        super().__init__(scope, me, partitions)
        rules.goes_on = never  # type: ignore[assignment]


class MortalPartition(Partition):
    """A partition whose process can be killed."""

    def die(self) -> None:
        die()


def play_broken(seeds: Iterable[int], folder: Path) -> campaign.Campaign:
    """Simulates a core that begins a turn again after each crash."""
    right = rules.has_attempts_left
    rules.has_attempts_left = always  # type: ignore[assignment]
    try:
        return campaign.play(seeds, folder)
    finally:
        rules.has_attempts_left = right


def play_with_a_crash(seeds: Iterable[int], folder: Path, once: Path) -> campaign.Campaign:
    """Simulates seeds; the first process that comes here dies in the middle, and leaves the file `once`."""
    seeds = [*seeds]
    campaign.play(seeds[:2], folder)
    try:
        once.touch(exist_ok=False)
    except FileExistsError:
        return campaign.play(seeds, folder)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
