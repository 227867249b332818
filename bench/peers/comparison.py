"""(g) durable turns a second: ours, and the same work on three peers, in turns; the best rate of each counts. A peer is
measured in each of its ways, several times a round, so we are measured before and after each peer.

Each is measured on one processor and on all of them. A session and every peer is one Python process, which uses little
more than one anyway; and where processors are virtual, waking a second one may cost more than it brings.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from attrs import frozen

from bench.measure import QUICK, Row, Size, at_least
from bench.peers import environment
from bench.peers.workload import AGENTS, SLOTS

OURS = "bench.runtime"


@frozen
class Peer:
    """A peer, the script that runs it, and how many times as fast we are to be."""

    name: str
    script: str
    factor: float


PEERS = (
    Peer("LangGraph", "langgraph_turns", 20),
    Peer("DBOS", "dbos_turns", 20),
    Peer("autogen-core", "autogen_turns", 1),
)


def rows(size: Size) -> list[Row]:
    """The rates, then the ratios. What could not be measured has no row, and the reason is printed."""
    rounds, turns, seconds = (1, 512, 0.1) if size is QUICK else (3, 10_000, 2.0)
    left = {} if unavailable() else {peer.name: peer for peer in PEERS}
    rates: dict[str, list[float]] = {}
    figures: dict[str, dict[str, Any]] = {}
    for _ in range(rounds):
        for processors in PROCESSORS:
            with held_on(processors):
                measure_ours(rates, processors, turns)
                for peer in list(left.values()):
                    figure = measured(peer, seconds, processors)
                    if figure is None:
                        del left[peer.name]
                    elif peer.name not in figures or rate(figures[peer.name]) < rate(figure):
                        figures[peer.name] = figure
                    measure_ours(rates, processors, turns)
    return rows_of(rates, figures)


ONE, ALL = "one processor", "all processors"
PROCESSORS = (ONE, ALL) if hasattr(os, "sched_setaffinity") else (ALL,)


@contextmanager
def held_on(processors: str) -> Generator[None]:
    """Within, what is started here, processes and threads, stays on so many processors."""
    if processors == ALL:
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def measure_ours(rates: dict[str, list[float]], processors: str, turns: int) -> None:
    """Our rate once more, on one file in a new directory, if there is a runtime."""
    if find_spec(OURS) is None:
        return
    with TemporaryDirectory(prefix="ours-") as directory:
        taken = import_module(OURS).durable_turns(Path(directory), agents=AGENTS, slots=SLOTS, turns=turns)
    rates.setdefault(processors, []).append(turns / taken)
    print(f"  ours: {turns / taken:,.0f} turns/s; {processors}", file=sys.stderr)


def unavailable() -> bool:
    """Are there no peers? Says why."""
    try:
        environment.build()
    except environment.PeersUnavailable as reason:
        print(f"the peers are left out, because {environment.HOME.name} cannot be built: {reason}", file=sys.stderr)
        return True
    return False


def measured(peer: Peer, seconds: float, processors: str) -> dict[str, Any] | None:
    """The figure of the peer; None if it failed, and says why."""
    try:
        figure = environment.run(peer.script, "--seconds", str(seconds))
    except environment.PeersUnavailable as reason:
        print(f"{peer.name} is left out: {reason}", file=sys.stderr)
        return None
    how = f"{figure['how']}, {processors}"
    print(f"  {peer.name} {figure['version']}: {rate(figure):,.0f} turns/s; {how}", file=sys.stderr)
    return figure


def rate(figure: dict[str, Any]) -> float:
    return float(figure["turns_per_second"])


def rows_of(rates: dict[str, list[float]], figures: dict[str, dict[str, Any]]) -> list[Row]:
    """The rows of what has been measured. A figure goes with the version it is of."""
    made: list[Row] = []
    our_rate = max([max(found) for found in rates.values()], default=0.0)
    if rates:
        made.append(Row("(g) durable turns", our_rate, "/s", at_least(5_000)))
        for processors, found in rates.items():
            made.append(Row(f"(g) durable turns, on {processors}", max(found), "/s"))
            made.append(Row(f"(g) durable turns, on {processors}, median", median(found), "/s"))
    for name, figure in figures.items():
        kind = "durable turns" if figure["durable"] else "turns in memory"
        made.append(Row(f"(g) {kind}, {name} {figure['version']}", rate(figure), "/s"))
    if rates:
        for peer in PEERS:
            if peer.name in figures:
                ratio = our_rate / rate(figures[peer.name])
                made.append(Row(f"(g) relative to {peer.name}", ratio, "x", at_least(peer.factor)))
    return made
