"""The work that every peer does, and how it is timed. Standard library only: it runs in the environment of the peers.

64 agents, 8 slots. A slot has turns one after another, going round over eight agents of its own, so no agent ever has
two turns at once. A turn takes a message for its agent, does the work (`answer`), and gives the result to the caller.
A slot stops after the first turn that ends past the deadline; the clock stops with the last slot.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import count
from time import perf_counter
from typing import Any

AGENTS = 64
SLOTS = 8
WARM_UP_SECONDS = 0.2


def answer(message: str) -> str:
    """The work of a turn."""
    return f"done: {message}"


def slot_turns(slot: int) -> Iterator[tuple[str, str]]:
    """The agent and the message of every turn of a slot, without an end."""
    for number in count():
        agent = slot + SLOTS * (number % (AGENTS // SLOTS))
        yield str(agent), f"message {number} for agent {agent}"


@dataclass
class Work:
    """Turns that go on where the last call stopped; `turns` and `last` count the warm-up too."""

    slots: list[Iterator[tuple[str, str]]] = field(default_factory=lambda: [slot_turns(slot) for slot in range(SLOTS)])
    turns: int = 0
    last: dict[str, str] = field(default_factory=dict)
    """The last message of each agent."""

    def in_threads(self, turn: Callable[[str, str], str], seconds: float) -> tuple[int, float]:
        """Each slot is a thread. Returns the number of turns and the seconds they took."""
        begin = perf_counter()

        def run(slot: Iterator[tuple[str, str]]) -> list[tuple[str, str]]:
            done = []
            for agent, message in slot:
                check(turn(agent, message), message)
                done.append((agent, message))
                if perf_counter() - begin >= seconds:
                    break
            return done

        with ThreadPoolExecutor(SLOTS) as pool:
            done = list(pool.map(run, self.slots))
        return self._count(done, perf_counter() - begin)

    async def in_tasks(self, turn: Callable[[str, str], Awaitable[str]], seconds: float) -> tuple[int, float]:
        """The same, but each slot is a task."""
        begin = perf_counter()

        async def run(slot: Iterator[tuple[str, str]]) -> list[tuple[str, str]]:
            done = []
            for agent, message in slot:
                check(await turn(agent, message), message)
                done.append((agent, message))
                if perf_counter() - begin >= seconds:
                    break
            return done

        done = await asyncio.gather(*map(run, self.slots))
        return self._count(done, perf_counter() - begin)

    def _count(self, done: list[list[tuple[str, str]]], seconds: float) -> tuple[int, float]:
        turns = sum(map(len, done))
        self.turns += turns
        for turns_of_slot in done:
            self.last.update(turns_of_slot)
        return turns, seconds


def check(result: str, message: str) -> None:
    """The turn did its work, on its own message."""
    if result != answer(message):
        raise AssertionError(f"{message!r} got {result!r}")


@dataclass(frozen=True)
class Way:
    """One way to do the work with a peer. `measure` gets the seconds it may take, and returns turns and seconds."""

    how: str
    measure: Callable[[float], tuple[int, float]]
    counts: bool = True
    """Does it do the same work, and is it among the fastest? The others are only measured with `--all`."""


def main(peer: str, package: str, durable: bool, ways: list[Way]) -> None:
    """Measures the ways one after another, and prints the fastest that counts as one line of JSON."""
    parser = argparse.ArgumentParser(description=f"Turns a second on {peer}; see bench/peers/README.md.")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each way (default: 2)")
    parser.add_argument("--all", action="store_true", help="measure the ways that do not count, too")
    chosen = parser.parse_args()
    figures = [_figure(way, chosen.seconds) for way in ways if way.counts or chosen.all]
    best = max((f for f in figures if f["counts"]), key=lambda f: f["turns_per_second"])
    also = [f for f in figures if f is not best]
    print(json.dumps({"peer": peer, "version": version(package), "durable": durable, **best, "also": also}))


def _figure(way: Way, seconds: float) -> dict[str, Any]:
    turns, taken = way.measure(seconds)
    rate = round(turns / taken, 1)
    print(f"{rate:>9,} turns/s  {way.how}", file=sys.stderr)
    return {
        "how": way.how,
        "counts": way.counts,
        "turns": turns,
        "seconds": round(taken, 3),
        "turns_per_second": rate,
    }
