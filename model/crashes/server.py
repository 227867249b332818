"""Starts, stops, continues and kills processes, step by step, as an order says.

It is a process of its own, because the process that judges has threads, and a process with threads should not fork. It
imports everything once; a child is a fork of it, which costs milliseconds instead of half a second. It runs on Linux
and macOS: one order is a pickle on stdin, one result a line of JSON on stdout.

A moment is counted in lines that the children write, plus a little time, so that signals fall anywhere in a commit.
"""

from __future__ import annotations

import json
import os
import pickle
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any

import anyio
from anyio.lowlevel import checkpoint
from attrs import define, field, frozen

from ..pools import deaf_to_interrupts
from . import child as crash_child
from . import reader as crash_reader
from .child import Order

PATIENCE_S = 60.0
"""A process that writes nothing for so long hangs."""


# What to do


@frozen
class Start:
    """Starts one more child. Children count from 0."""

    kind: str
    order: Order


@frozen(kw_only=True)
class Wait:
    """Waits until so many different lines of a kind were written since the beginning, and then `further_s`."""

    count: int
    line: str = "ack"
    """The beginning of such a line (`model/crashes/child.py`)."""
    child: int | None = None
    """The child that writes them; None: all together."""
    at_most_s: float = PATIENCE_S
    """Longest wait; then the order goes on."""
    further_s: float = 0.0


@frozen
class Signal:
    """Sends a signal to a child, unless it has ended."""

    child: int
    number: int


Step = Start | Wait | Signal


@define(eq=False)
class Child:
    """A process, and what it has written."""

    pid: int
    pipe: int
    said: bytearray = field(factory=bytearray)
    is_over: bool = False
    """Whether it has closed its end of the pipe."""
    status: int | None = None
    """The status of `waitpid`."""

    def hear(self) -> None:
        """Reads what it has written; waits until there is something."""
        found = os.read(self.pipe, 1 << 16)
        self.said += found
        self.is_over = not found

    def lines(self, kind: str) -> set[bytes]:
        """Returns the different complete lines of this kind."""
        begin = f'{{"{kind}"'.encode()
        return {line for line in bytes(self.said).split(b"\n")[:-1] if line.startswith(begin)}

    def kill(self) -> None:
        """Kills it, and reads what it wrote."""
        if self.status is not None:
            return
        os.kill(self.pid, signal.SIGKILL)
        while not self.is_over:
            self.hear()
        _, self.status = os.waitpid(self.pid, 0)
        os.close(self.pipe)


# In the server


def serve() -> None:
    """Answers orders until stdin ends."""
    for backend in ("asyncio", "trio"):
        anyio.run(checkpoint, backend=backend)  # imports what it needs; starts no thread
    with suppress(EOFError):
        while True:
            answer(pickle.load(sys.stdin.buffer))


def answer(steps: Sequence[Step]) -> None:
    """Carries out one order."""
    try:
        result: Any = {"children": run(steps)}
    except Exception:
        result = {"error": traceback.format_exc()}
    print(json.dumps(result), flush=True)


def run(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Takes the steps, and kills all children. Returns what each has written."""
    children: list[Child] = []
    try:
        for step in steps:
            take(step, children)
    finally:
        for child in children:
            child.kill()
    return [{"said": child.said.decode(), "killed": os.WIFSIGNALED(child.status or 0)} for child in children]


def take(step: Step, children: list[Child]) -> None:
    """Does what the step says."""
    match step:
        case Start():
            children.append(start(step, children))
        case Wait():
            wait(step, children)
        case Signal(index, number) if not children[index].is_over:
            os.kill(children[index].pid, number)


def start(step: Start, others: Sequence[Child]) -> Child:
    """Starts one more child."""
    pipe, end = os.pipe()
    pid = os.fork()
    if pid:
        os.close(end)
        return Child(pid, pipe)
    try:
        for file in (pipe, *[other.pipe for other in others]):
            os.close(file)
        void = os.open(os.devnull, os.O_RDWR)
        for file in (0, 1, 2):
            os.dup2(void, file)
        KINDS[step.kind](step.order, end)
    finally:
        os._exit(1)  # the server's clean-up must not run here


KINDS = {"writer": crash_child.main, "reader": crash_reader.main}


def wait(step: Wait, children: Sequence[Child]) -> None:
    """Reads from the children until they have written the lines, or cannot any more."""
    chosen = children if step.child is None else [children[step.child]]

    def is_over() -> bool:
        said = sum(len(child.lines(step.line)) for child in chosen)
        return said >= step.count or all(child.is_over for child in chosen)

    hear_until(is_over, children, step.at_most_s)
    hear_until(lambda: False, children, step.further_s)


def hear_until(is_over: Callable[[], bool], children: Sequence[Child], at_most_s: float) -> None:
    """Reads from all children, so that none waits for its pipe to be emptied."""
    deadline = time.monotonic() + at_most_s
    while not is_over():
        living = [child for child in children if not child.is_over]
        remaining = deadline - time.monotonic()
        if not living or remaining <= 0:
            return
        ready, _, _ = select.select([child.pipe for child in living], (), (), remaining)
        for child in living:
            if child.pipe in ready:
                child.hear()


# On the other side


class Server:
    """The server as its client sees it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        self._in: IO[bytes] = process.stdin
        self._out: IO[bytes] = process.stdout

    def run(self, *steps: Step) -> list[Heard]:
        """Has the server take these steps. Returns what each child wrote until it was killed."""
        pickle.dump(steps, self._in)
        self._in.flush()
        answer = json.loads(self._out.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return [heard(child["said"], child["killed"]) for child in answer["children"]]


@define
class Heard:
    """The journal of one process."""

    lines: list[dict[str, Any]]
    killed: bool
    """False: it ended by itself before."""


def heard(said: str, killed: bool) -> Heard:
    """Returns the complete lines. The last one may have been cut off."""
    return Heard([json.loads(line) for line in said.split("\n")[:-1]], killed)


@contextmanager
def server() -> Iterator[Server]:
    """Gives a server for the block."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    # -P: the working directory, in which a project may have its own `model`, is on the path only if it was on ours
    words = [sys.executable, "-P", "-c", f"from {__package__} import server; server.serve()"]
    with deaf_to_interrupts():
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    with process:
        try:
            yield Server(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(PATIENCE_S)
