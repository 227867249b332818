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

from ..exploration.explorer import FAULTS
from ..exploration.symmetry import hashed
from ..lockstep import core_step
from . import tool
from .errors import SpinFailed
from .tool import Edge
from .worlds import KINDS, NEVER_DUE, Small, offers, said

ENDLESS = 10
"""A core with so many times as many states as Spin has no end of them: something of it grows that no rule bounds."""
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


def spin_edges(world: Small) -> set[Edge]:
    """Returns all edges of Spin. Raises `SpinMissing`, or `SpinFailed` if an assertion of `agents.pml` is violated."""
    with tempfile.TemporaryDirectory(prefix="statemachine-spin-") as folder:
        found, search = tool.edges(tool.build(world, Path(folder), "-DPRINT", tool.NO_CYCLES))
    if search.errors:
        raise SpinFailed(f"the verifier of {world.name}", "an assertion of agents.pml is violated")
    return found


def compare(world: Small) -> Comparison:
    """Explores both and compares. Raises `SpinMissing`."""
    began = time.perf_counter()
    spins = spin_edges(world)
    middle = time.perf_counter()
    cores = core_edges(world, {state for before, _, after in spins for state in (before, after)})
    seconds_core = time.perf_counter() - middle
    states = len({state for before, _, after in spins for state in (before, after)})
    one_sided = frozenset(cores - spins), frozenset(spins - cores)
    return Comparison(world, states, len(cores & spins), *one_sided, seconds_core, middle - began)


def core_edges(world: Small, known_to_spin: set[str]) -> set[Edge]:
    """Returns all edges of the core, from the states that Spin knows: what comes after others is one-sided anyway, and
    a broken core may never end. An offer that is refused, or at which the core raises, is an edge that Spin
    never has, and so is the last one if there is no end of states.
    """
    first = Session(world.config)
    known = {digest(world, first)}
    line: list[Session | None] = [first]
    edges: set[Edge] = set()
    for number, before in enumerate(line):
        assert before is not None
        here = said(world, before)
        for offer in offers(world, before):
            try:
                after, step = core_step(before.fork(), offer.event)
                there, mark = said(world, after), digest(world, after)
            except FAULTS as error:
                edges.add((here, offer.said, type(error).__name__))
                continue
            if step.reply.__class__ in (Refused, Stale):
                edges.add((here, offer.said, step.reply.__class__.__name__))
                continue
            edges.add((here, offer.said, there))
            if len(known) > ENDLESS * len(known_to_spin):
                return edges | {(here, offer.said, "states without end")}
            if mark not in known and there in known_to_spin:
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
