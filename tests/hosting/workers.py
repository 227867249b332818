"""Workers that are processes of their own, to be killed, stopped and drained."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


class WorkerProcess:
    """A process that runs `statemachine host`, and serves."""

    def __init__(self, dsn: str, *options: str) -> None:
        command = [sys.executable, "-m", "statemachine", "host", "--dsn", dsn, "--work", "tests.hosting.work:work"]
        command += ["--config", "tests.hosting.work:CONFIG", "--grace", "0.5", *options]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("serving at "), line + self.process.stdout.read()
        self.where = line.removeprefix("serving at ").strip()

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> tuple[int, str]:
        """Has it drain. Returns its exit code, and what it said."""
        self.send(signal.SIGTERM)
        said, _ = self.process.communicate(timeout=60)
        return self.process.returncode, said


@contextmanager
def workers(dsn: str, number: int, *options: str) -> Iterator[list[WorkerProcess]]:
    """Some workers, which are killed afterwards."""
    found: list[WorkerProcess] = []
    try:
        found.extend(WorkerProcess(dsn, *options) for _ in range(number))
        yield found
    finally:
        for each in found:
            each.kill()
            if each.process.stdout is not None:
                each.process.stdout.close()
