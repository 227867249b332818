"""Work in several processes ends well, also by Ctrl-C, which reaches all of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from model import pools
from model.pools import Task, campaign, deaf_to_interrupts, noting_interrupts, workers

ROOT = str(Path(__file__).parents[1])

PROGRAMS = {
    "soak": """
from model.fuzzing import fuzz
if __name__ == "__main__":
    print(fuzz.soak(1e6, 2, 7, lambda so_far: print(so_far.rounds, flush=True), examples=10, steps=40).interrupted)
""",
    "simulate": """
from model.simulation import campaign
if __name__ == "__main__":
    print(campaign.campaign(10**6, 1, 2, lambda so_far: print(so_far.seeds, flush=True)).interrupted)
""",
    "explore": """
from model.exploration.explorer import explore
from model.exploration.scopes import find
if __name__ == "__main__":
    try:
        explore(find("trio-everything"), 2, None, lambda so_far: print(so_far.states, flush=True))
    except KeyboardInterrupt:
        print(True)
""",
    "check": """
from model.check import check
if __name__ == "__main__":
    try:
        check(2, 1, lambda part: print(part.states, flush=True))
    except KeyboardInterrupt:
        print(True)
""",
}


@pytest.mark.skipif(sys.platform == "win32", reason="process groups")
@pytest.mark.parametrize("name", PROGRAMS)
def test_ctrl_c_ends_work_in_several_processes_without_noise(name: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAMS[name])
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ROOT},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip().isdigit()
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out.splitlines()[-1], err) == (0, "True", "")


# In this process


def test_interrupt_while_deaf_is_heard_afterwards_and_once_noted_is_raised_by_nobody() -> None:
    done: list[str] = []

    def work() -> None:
        with deaf_to_interrupts():
            signal.raise_signal(signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            done.append("deaf")
        done.append("never")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["deaf"]
    with noting_interrupts() as noted:
        with deaf_to_interrupts():
            signal.raise_signal(signal.SIGINT)
            done.append("deaf again")
        assert noted == [signal.SIGINT]
    assert done == ["deaf", "deaf again"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_interrupt_while_workers_end_is_heard_when_they_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    shutdown, ended = ProcessPoolExecutor.shutdown, []

    def interrupted(self: ProcessPoolExecutor, **options: bool) -> None:
        signal.raise_signal(signal.SIGINT)
        shutdown(self, **options)
        ended.append(options)

    def work() -> None:
        with workers(1) as processes:
            processes.submit(Task(abs, (-1,))).result()

    monkeypatch.setattr(ProcessPoolExecutor, "shutdown", interrupted)
    with pytest.raises(KeyboardInterrupt):
        work()
    assert ended == [{"cancel_futures": True}]


def test_thread_that_is_not_the_main_one_may_have_workers_too() -> None:
    found: list[list[int]] = []

    def work() -> None:
        with workers(1) as processes:
            found.append([*processes.map(abs, [-1, -2])])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert found == [[1, 2]]


def test_campaign_takes_every_result_and_asks_for_tasks_until_there_are_none() -> None:
    taken: list[int] = []
    asked: list[int] = []

    def next_task(number: int) -> Task[int] | None:
        asked.append(number)
        return Task(abs, (-number,)) if number < 5 else None

    assert campaign(2, next_task, taken.append, in_line=1) is False
    assert sorted(taken) == [0, 1, 2, 3, 4]
    assert sorted(set(asked)) == [0, 1, 2, 3, 4, 5]


def test_workers_whose_block_raises_are_asked_to_stop() -> None:
    def fail() -> None:
        with workers(1) as processes:
            assert processes.submit(Task(pools.stop_is_asked, ())).result() is False
            stops.append(processes._stop)
            raise ZeroDivisionError

    stops: list[Event] = []
    with pytest.raises(ZeroDivisionError):
        fail()
    assert stops[0].is_set()
    assert not pools.stop_is_asked()
