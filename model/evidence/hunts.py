"""Plants each break of `model/breaks` in the core, and asks each engine whether it notices.

Each engine looks where it takes little time: the explorer as in `make check`, the others in their smallest worlds; of
the contracts, those that call the function that the break replaces. So a dash means that it was not noticed there, and
not that the engine is blind to it. What properties notice without the reference is in specs/breaks.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

from attrs import frozen

from ..breaks.catalogue import BREAKS
from ..breaks.defects import Break, put
from ..breaks.hunt import hunt
from ..check import Part, report_part
from ..contracts import engine as contracts
from ..contracts.contract import CONTRACTS
from ..contracts.prover import Finding
from ..contracts.prover import judge as judge_contract
from ..exploration import fairness
from ..exploration.explorer import FAULTS
from ..exploration.scopes import find as find_scope
from ..proof.tie import tie
from ..spin import compare, tool
from ..spin import engine as spin
from ..spin.tool import Edge
from ..spin.worlds import Small

CRASH = "crash"
"""The core fails where the engine looks."""
FAIR_SCOPES = ("threads", "bounds", "seniority")
FAIR_STATES_MAX = 3_000
"""More than these scopes have when nothing is broken."""
TIED_SCOPES, TIED_STATES_MAX = ("gather", "reject"), 500
SPIN_WORLDS = ("pair", "asks", "threads")


@frozen
class Hunt:
    """What each engine says of one break: who noticed it, in words, and after how many seconds. `by` is empty if the
    engine noticed nothing.
    """

    id: str
    engine: str
    by: str
    seconds: float


def hunts(a_break: str) -> list[Hunt]:
    """Asks every engine about the break with this id. Runs in a process of the pool."""
    known = next(one for one in BREAKS if one.id == a_break)
    found: list[Hunt] = []
    for engine, look in LOOKS.items():
        if engine == "spin" and tool.missing() is not None:
            continue
        report_part(Part("breaks", len(found), doing=f"{a_break}, {engine}"))
        began = time.perf_counter()
        try:
            by = look(known)
        except FAULTS:
            by = CRASH
        found.append(Hunt(a_break, engine, by, time.perf_counter() - began))
    return found


def by_exploring(known: Break) -> str:
    """The explorer and the fuzz, beside the reference."""
    found = hunt(known)
    return "" if found is None else f"{found.by} in {found.place}"


def by_fairness(known: Break) -> str:
    """Runs without end on the graph of the core."""
    with known.applied(), put((fairness, "STATES_MAX"), FAIR_STATES_MAX):
        for name in FAIR_SCOPES:
            scope = next(scope for scope in fairness.SCOPES if scope.name == name)
            try:
                broken = [verdict.property for verdict in fairness.judge(scope) if not verdict.holds]
            except fairness.TooManyStates:
                return "states without end"
            if broken:
                return ", ".join(broken)
    return ""


def by_spin(known: Break) -> str:
    """Edges that Spin or the core alone has."""
    for name in SPIN_WORLDS:
        spins = edges_of_spin(name)
        with known.applied():
            states = {state for before, _, after in spins for state in (before, after)}
            one_sided = len(compare.core_edges(world(name), states) ^ spins)
        if one_sided:
            return f"{one_sided:,} edges in {name}"
    return ""


@cache
def edges_of_spin(name: str) -> set[Edge]:
    """Spin's side, which no break of the core changes."""
    return compare.spin_edges(world(name))


def world(name: str) -> Small:
    """Returns the world with this name."""
    return next(one for one in spin.WORLDS if one.name == name)


def by_contracts(known: Break) -> str:
    """The contracts that call what the break replaces."""
    assert contracts.MODULES, "importing them fills CONTRACTS"
    owner, rule = known.where
    with known.applied():
        for contract in CONTRACTS:
            calls_it = contract.twin.owner is owner and contract.twin.rule == rule
            if calls_it and judge_contract(contract).finding in (Finding.REFUTED, Finding.RAISED):
                return contract.about
    return ""


def by_tie(known: Break) -> str:
    """Steps that the relation of the proof or the core alone takes."""
    with known.applied():
        for name in TIED_SCOPES:
            if tie(find_scope(name), TIED_STATES_MAX).one_sided:
                return f"a step in {name}"
    return ""


LOOKS: dict[str, Callable[[Break], str]] = {
    "explorer": by_exploring,
    "fairness": by_fairness,
    "spin": by_spin,
    "contracts": by_contracts,
    "tie": by_tie,
}
