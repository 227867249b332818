"""Compares, edge for edge, the graph that Spin makes of `agents.pml` with the graph of the core.

An edge is a state, an event and the state after it, all in Spin's words (`worlds.said`). Two states of the core that
say the same but go on differently show as an edge that only the core has.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from attrs import frozen

from statemachine.core.effects import Refused, Stale
from statemachine.core.fingerprint import fingerprint
from statemachine.core.session import Session

from ..exploration.symmetry import hashed
from ..lockstep import core_step
from . import tool
from .tool import Edge
from .worlds import KINDS, NEVER_DUE, Small, offers, said

SHOWN = 3
"""One-sided edges that a comparison tells in words."""


@frozen
class Comparison:
    """What two graphs of a world have in common."""

    world: Small
    states: int
    """States as both call them."""
    edges: int
    """Edges that both have."""
    core_only: frozenset[Edge]
    spin_only: frozenset[Edge]
    seconds_core: float
    seconds_spin: float
    """Spin, the compiler and the verifier together."""

    @property
    def is_same(self) -> bool:
        """Is there no edge that only one side has?"""
        return not self.core_only and not self.spin_only

    def differences(self) -> list[str]:
        """Some of the one-sided edges, the shortest states first."""
        sides = [("the core", edge) for edge in self.core_only] + [("Spin", edge) for edge in self.spin_only]
        sides.sort(key=lambda one: (len(one[1][0]), one))
        return [f"only {side}: {told(edge)}" for side, edge in sides[:SHOWN]]


def told(edge: Edge) -> str:
    """The edge, with the event by its name."""
    before, event, after = edge
    kind, *agents = event.split()
    return f"{before} -- {KINDS[int(kind) - 1]} {' '.join(a for a in agents if a != '0')} --> {after}"


def compare(world: Small) -> Comparison:
    """Explores both and compares. Raises `SpinMissing`."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="statemachine-spin-") as folder:
        verifier = tool.build(world, Path(folder), "-DPRINT", tool.NO_CYCLES)
        spins, search = tool.edges(verifier)
    middle = time.perf_counter()
    if search.errors:
        raise tool.SpinFailed(f"the verifier of {world.name}", "an assertion of agents.pml is violated")
    cores = core_edges(world)
    seconds_core = time.perf_counter() - middle
    states = len({state for before, _, after in spins for state in (before, after)})
    return Comparison(
        world, states, len(cores & spins), frozenset(cores - spins), frozenset(spins - cores), seconds_core, middle - began
    )


def core_edges(world: Small) -> set[Edge]:
    """Returns all edges of the core. A refused offer is an edge to `refused`, which Spin never has."""
    first = Session(world.config)
    known = {digest(world, first)}
    line: list[Session | None] = [first]
    edges: set[Edge] = set()
    for number, before in enumerate(line):
        assert before is not None
        here = said(world, before)
        for offer in offers(world, before):
            after, step = core_step(before.fork(), offer.event)
            if step.reply.__class__ in (Refused, Stale):
                edges.add((here, offer.said, "refused"))
                continue
            edges.add((here, offer.said, said(world, after)))
            mark = digest(world, after)
            if mark not in known:
                known.add(mark)
                line.append(after)
        line[number] = None  # room for those to come
    return edges


def digest(world: Small, s: Session) -> bytes:
    """Tells states apart: all that decides how the session goes on, but for the order of recovery, since no process is
    lost here, and how often the oldest turn was passed where none can be due.
    """
    value = fingerprint(s)
    return hashed(value[:-1] if world.overtaken < NEVER_DUE else value[:-2])
