"""Another process that does with a session's file what it is told, for the tests of several processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from statemachine.stores import Entry, Write, read_rollout

STEPS, ENTRIES = 5, 3
"""Steps in one append of `group`, and entries in one step."""

PROGRAM = """
import os, signal, sys
import anyio
from statemachine.core.config import SessionConfig
from statemachine.stores import Entry, SQLiteStore, StoreError, Write, read_rollout, read_session
from tests.stores.other_process import group

def say(*words):
    print(*words, flush=True)

async def main(path):
    store = SQLiteStore(path)
    number = 0
    for line in sys.stdin:
        try:
            match line.strip():
                case "open":
                    say((await store.open(SessionConfig())).epoch)
                case "append":
                    await store.append([Write((Entry(1, 1, "from the other process"),))])
                    say("durable")
                case "append for ever":
                    while True:
                        await store.append(group(number))
                        number += 1
                        say(number)
                case "rest":
                    say(store.rest(float("inf")))
                case "begin and stop":
                    store._tables.connection.execute("BEGIN IMMEDIATE")
                    os.kill(os.getpid(), signal.SIGSTOP)
                case "close":
                    await store.close()
                    say("closed")
                case "read":
                    say(read_session(path).tail, len(read_rollout(path, 1)))
        except StoreError as error:
            say(type(error).__name__)

anyio.run(main, sys.argv[1])
"""


def group(number: int) -> list[Write]:
    """What is appended at once: some steps of some entries, all numbered."""
    first = number * STEPS
    return [
        Write(tuple([Entry(1, first + step, f"{entry} {'x' * 200}") for entry in range(ENTRIES)]))
        for step in range(STEPS)
    ]


def whole_groups(path: Path) -> int:
    """How many of those appends there are. No part of one may be there."""
    found = read_rollout(path, 1)
    count = len(found) // (STEPS * ENTRIES)
    assert found == tuple([entry for number in range(count) for write in group(number) for entry in write.records])
    return count


class Other:
    """Another process, that does what it is told."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process, self.pid = process, process.pid
        assert process.stdin is not None
        assert process.stdout is not None
        self.stdin: IO[str] = process.stdin
        self.stdout: IO[str] = process.stdout

    def tell(self, line: str) -> None:
        self.stdin.write(f"{line}\n")
        self.stdin.flush()

    def hear(self) -> str:
        return self.stdout.readline().strip()

    def ask(self, line: str) -> str:
        self.tell(line)
        return self.hear()

    def wait_until_stopped(self) -> None:
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        self.wait_until_stopped()

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def other_process(path: Path) -> Iterator[Other]:
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root
    )
    with process:
        try:
            yield Other(process)
        finally:
            process.kill()


@pytest.fixture(name="path")
def session_path(tmp_path: Path) -> Path:
    """Where a session's file may be."""
    return tmp_path / "session.db"


@pytest.fixture(name="other")
def process_beside(path: Path) -> Iterator[Other]:
    """Another process that looks at the same path."""
    with other_process(path) as found:
        yield found
