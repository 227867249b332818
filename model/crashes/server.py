"""Starts processes, stops them, lets them go on, kills them: at moments that the order says.

A server of its own, because the process that judges has threads, and what has threads should not fork. It imports
everything once; a child is a fork of it, which costs milliseconds instead of half a second. It runs on Linux and
macOS: one order is a line on stdin, one result a line on stdout.

A moment is counted in acknowledgements, and then goes a little further, so that signals fall anywhere in a commit:
[acknowledgements, seconds after that, seconds that it waits for them at most, index of the child, signal].
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

import anyio
from anyio.lowlevel import checkpoint
from attrs import asdict, define, field

from model.crashes import child as crash_child
from model.crashes import reader as crash_reader
from model.crashes.child import Order

Moment = tuple[int, float, float, int, int]
PATIENCE_S = 30.0
"""A process that says nothing for so long hangs."""


@define(eq=False)
class Child:
    """A process, and what it has said."""

    pid: int
    pipe: int
    said: bytearray = field(factory=bytearray)
    is_over: bool = False
    """Has it closed its end?"""
    status: int | None = None
    """As `waitpid` has it."""

    def hear(self) -> None:
        """Reads what is there to be read; waits for something."""
        found = os.read(self.pipe, 1 << 16)
        self.said += found
        self.is_over = not found

    def kill(self) -> None:
        """Ends it, and hears it out."""
        if self.status is not None:
            return
        os.kill(self.pid, signal.SIGKILL)
        while not self.is_over:
            self.hear()
        _, self.status = os.waitpid(self.pid, 0)
        os.close(self.pipe)


# In the server


def serve() -> None:
    """Until nobody orders anything any more."""
    for backend in ("asyncio", "trio"):
        anyio.run(checkpoint, backend=backend)  # imports what it needs; starts no thread
    for line in sys.stdin:
        try:
            result: Any = {"children": run(json.loads(line))}
        except Exception:
            result = {"error": traceback.format_exc()}
        print(json.dumps(result), flush=True)


def run(order: dict[str, Any]) -> list[dict[str, Any]]:
    """Starts the children, waits for every moment, kills all."""
    children: list[Child] = []
    try:
        for kind, words in order["children"]:
            children.append(start(kind, words, children))
        for moment in order["moments"]:
            wait_for(moment, children)
    finally:
        for child in children:
            child.kill()
    return [{"said": child.said.decode(), "killed": os.WIFSIGNALED(child.status or 0)} for child in children]


def start(kind: str, words: dict[str, Any], others: Sequence[Child]) -> Child:
    """A child of this kind."""
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
        KINDS[kind](Order(**words), end)
    finally:
        os._exit(1)  # nothing of the server's is to be cleaned up here


KINDS = {"writer": crash_child.main, "reader": crash_reader.main}


def wait_for(moment: Moment, children: Sequence[Child]) -> None:
    """Waits for the moment, and gives the signal."""
    count, further_s, at_most_s, index, number = moment
    hear_until(children, time.monotonic() + at_most_s, count)
    hear_until(children, time.monotonic() + further_s, None)
    if not children[index].is_over:
        os.kill(children[index].pid, number)


def hear_until(children: Sequence[Child], deadline: float, count: int | None) -> None:
    """Hears the children until there are so many acknowledgements, or the time is over."""
    while count is None or sum(child.said.count(b'{"ack"') for child in children) < count:
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
    """The server, for those who order."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        self._in: IO[str] = process.stdin
        self._out: IO[str] = process.stdout

    def run(self, children: Sequence[tuple[str, Order]], moments: Sequence[Moment]) -> list[Heard]:
        """Starts these, and signals at these moments. Returns what each has said until it was killed."""
        order = {"children": [(kind, asdict(order)) for kind, order in children], "moments": list(moments)}
        self._in.write(json.dumps(order) + "\n")
        self._in.flush()
        result = json.loads(self._out.readline())
        if "error" in result:
            raise RuntimeError(result["error"])
        return [heard(child["said"], child["killed"]) for child in result["children"]]


@define
class Heard:
    """The journal of one process."""

    lines: list[dict[str, Any]]
    killed: bool
    """False: it came to an end before."""


def heard(said: str, killed: bool) -> Heard:
    """The whole lines. The last one may have been cut off."""
    return Heard([json.loads(line) for line in said.split("\n")[:-1]], killed)


@contextmanager
def server() -> Iterator[Server]:
    """A server, as long as the block lasts."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-c", "from model.crashes import server; server.serve()"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield Server(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(PATIENCE_S)
