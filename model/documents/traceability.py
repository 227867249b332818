"""Finds for each property and theorem what it rests on: the static part of specs/evidence.md.

Everything is taken from where it is declared: contracts, claims of the proof, scopes of fair runs, claims of Spin, the
claims of specs/correctness.md with their code and tests, citations in code and tests, and specs/breaks.md. `Row.best`
names the strongest; a row without any would be a property that is only asserted, and a test bars it.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from enum import Enum
from functools import cache
from pathlib import Path

from attrs import frozen

from statemachine.checking.properties import PROPERTIES, Property

from .. import checkout
from ..contracts import engine as contracts
from ..contracts.contract import CONTRACTS, Contract
from ..contracts.wording import PAIRS, Pair
from ..exploration import fairness
from ..proof.claims import CLAIMS, Extent
from ..proof.invariants import INVARIANTS, SETTLED, STEPS, Invariant, Settled, StepProperty
from ..spin import engine as spin
from .breaks import NOTHING
from .evidence import SPECS, Caught, caught, explored
from .properties import golden_traces, judged_on

REPOSITORY = checkout.REPOSITORY
RULE = re.compile(r"\b[JN]\d\b")
ID = re.compile(r"(?<![\w-])(?:[SLJN]\d{1,2}|theorem \d)(?!\w)")
LINK = re.compile(r"\[`([\w.]+)`\]\(([^)]+)\)")
NOT_JUDGES = ("tests/documents", "tests/evidence")
"""Tests of documents cite what they read; they judge no rule."""


class Strength(Enum):
    """The kinds of evidence, the strongest first, in the words of the document."""

    PROVED = "proved"
    PROVED_IN_PART = "proved in part"
    EXPLORED = "explored"
    FAIR_RUNS = "explored in fair runs"
    CONFIRMED = "confirmed"
    PLAYED = "fuzzed"
    TESTED = "tested"


@frozen
class Theorem:
    """A theorem of semantics.md. `rules` are those that it follows from; `judged_as` is the property that judges it."""

    id: str
    sentence: str
    rules: str
    judged_as: str = ""


THEOREMS: tuple[Theorem, ...] = (
    Theorem("theorem 1", "a starting turn has a place in memory, or gets one, unless flushes fail", "J4, J5", "L1"),
    Theorem("theorem 2", "every trigger mail is in the end read, demoted, withdrawn, or a dead letter", "J2, J6"),
    Theorem("theorem 3", "no wait ends with STALLED while fewer than max_resident turns wait", "J8", "L8"),
    Theorem("theorem 4", "where turns await their descendants alone, execution_cap x depth of them wait", "J2, J7"),
)


@frozen
class Row:
    """What one property or theorem rests on. Each part is a list of names or links; an empty one is a dash."""

    id: str
    sentence: str
    rules: str = ""
    code: tuple[str, ...] = ()
    contracts: tuple[str, ...] = ()
    """The functions of the core that contracts about it or its rules call, each with the number of these."""
    is_confirmed: bool = False
    """Whether a contract speaks of it, and not of its rules alone."""
    extent: Extent = Extent.NOT
    proof: tuple[str, ...] = ()
    fairness: tuple[str, ...] = ()
    """Scopes."""
    explored: str = ""
    fuzzed: str = ""
    spin: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    traces: int = 0
    breaks: tuple[str, ...] = ()
    """Those that break it, or that it was the first to notice, and that were caught."""

    @property
    def kinds(self) -> list[Strength]:
        """All kinds of evidence that there are for it."""
        has = {
            Strength.PROVED: self.extent is Extent.WHOLE,
            Strength.PROVED_IN_PART: self.extent is Extent.PART,
            Strength.EXPLORED: bool(self.explored),
            Strength.FAIR_RUNS: bool(self.fairness),
            Strength.CONFIRMED: self.is_confirmed,
            Strength.PLAYED: bool(self.fuzzed),
            Strength.TESTED: bool(self.tests or self.traces),
        }
        return [kind for kind in Strength if has[kind]]

    @property
    def best(self) -> Strength | None:
        """The strongest evidence; None if there is none."""
        return next(iter(self.kinds), None)


# Rows


def property_rows() -> list[Row]:
    """Returns a row for each property and each theorem."""
    return [row_of_property(known) for known in PROPERTIES] + [row_of_theorem(theorem) for theorem in THEOREMS]


def row_of_property(known: Property) -> Row:
    """Returns what a property rests on."""
    return Row(
        known.id,
        known.sentence,
        known.source.partition("; BUG")[0],
        code=code_of(known.id),
        contracts=confirmed({known.id, *RULE.findall(known.source)}),
        is_confirmed=bool(confirmed({known.id})),
        extent=extent_of(known.id),
        proof=proved(known.id),
        fairness=fair(known.id),
        explored=explored(known),
        fuzzed="" if judged_on(known) == "paths" else judged_on(known),
        spin=claims_of_spin(known.id),
        tests=tests_of(known.id),
        traces=len(golden_traces()[known.id]),
        breaks=tuple(b.id for b in noticed() if b.names(known.id) or known.id in (b.by, b.by_alone)),
    )


def row_of_theorem(theorem: Theorem) -> Row:
    """Returns what a theorem rests on."""
    judge = theorem.judged_as
    return Row(
        theorem.id,
        theorem.sentence,
        theorem.rules,
        code=citing_code((theorem.id, *RULE.findall(theorem.rules))),
        contracts=confirmed({theorem.id, *RULE.findall(theorem.rules)}),
        is_confirmed=bool(confirmed({theorem.id})),
        extent=extent_of(theorem.id),
        proof=proved(theorem.id),
        fairness=fair(theorem.id),
        explored=f"as {judge}" if judge else "",
        fuzzed=f"as {judge}" if judge else "",
        spin=claims_of_spin(theorem.id),
        tests=tests_of(theorem.id),
        breaks=tuple(b.id for b in noticed() if theorem.id in b.rules),
    )


# Where they come from


def noticed() -> list[Caught]:
    """The breaks of specs/breaks.md that something noticed."""
    return [one for one in caught() if one.by != NOTHING]


def confirmed(ids: set[str]) -> tuple[str, ...]:
    """The functions of the core that contracts about these ids, and comparisons with the reference's wording, call."""
    assert contracts.MODULES, "importing them fills CONTRACTS"
    subjects: list[Contract | Pair] = [*CONTRACTS, *PAIRS]
    counts = Counter(one.twin.rule for one in subjects if one.about in ids)
    return tuple(f"`{rule}`" if count == 1 else f"`{rule}` ({count})" for rule, count in counts.items())


def extent_of(id_: str) -> Extent:
    """How much of it the proof covers."""
    return next(claim.extent for claim in CLAIMS if claim.property == id_)


def proved(id_: str) -> tuple[str, ...]:
    """The names of what is proved of it."""
    known: list[Invariant | StepProperty | Settled] = [*INVARIANTS.values(), *STEPS, *SETTLED]
    return tuple(one.name for one in known if one.property == id_)


def fair(id_: str) -> tuple[str, ...]:
    """The scopes in which fair runs are judged by it."""
    return tuple(scope.name for scope in fairness.SCOPES if id_ in fairness.spoken_of(scope))


def claims_of_spin(id_: str) -> tuple[str, ...]:
    """How Spin judges it: in every state, or as claims about fair runs."""
    worlds = [world for world in (*spin.FAIR, spin.NEVER) if id_ in {known for known, _ in spin.claims(world)}]
    in_states = ("every state",) if id_ in spin.ASSERTED else ()
    return (*in_states, *([f"fair runs of {len(worlds)} worlds"] if worlds else []))


@frozen
class Claimed:
    """What specs/correctness.md names beside the claims that a property judges."""

    code: dict[str, list[str]]
    """Property -> links, from specs/."""
    tests: dict[str, list[tuple[str, str]]]
    """Property -> (file, test)."""


@cache
def claimed() -> Claimed:
    """Reads the claims of specs/correctness.md."""
    found = Claimed({}, {})
    for line in (SPECS / "correctness.md").read_text("utf-8").splitlines():
        cells = line.strip("|").split(" | ")
        if not line.startswith("| ") or len(cells) != 4:
            continue
        _, code, tests, judges = cells
        for id_ in ID.findall(judges):
            found.code.setdefault(id_, []).extend(f"[`{name}`]({target})" for name, target in LINK.findall(code))
            found.tests.setdefault(id_, []).extend((target, name) for name, target in LINK.findall(tests))
    return found


def code_of(property_id: str) -> tuple[str, ...]:
    """Links to the functions of the product beside the claims that the property judges, and to other modules of the
    core that cite it.
    """
    functions = [link for link in claimed().code.get(property_id, ()) if "](../statemachine/" in link]
    files = {target for link in functions for _, target in LINK.findall(link)}
    modules = [link for link in citing_code((property_id,)) if link[link.index("(") + 1 : -1] not in files]
    return tuple(dict.fromkeys([*functions, *modules]))


def citing_code(ids: tuple[str, ...]) -> tuple[str, ...]:
    """Links to the modules of the core that cite one of these ids."""
    return tuple(
        f"[{path.name}](../{path.relative_to(REPOSITORY).as_posix()})"
        for path, cited in modules_citing().items()
        if cited & {*ids}
    )


@cache
def modules_citing() -> dict[Path, frozenset[str]]:
    """Module of the core -> the ids that it cites."""
    return {path: cited_in(path.read_text("utf-8")) for path in sorted((REPOSITORY / "statemachine/core").glob("*.py"))}


def cited_in(text: str) -> frozenset[str]:
    """The ids of properties, rules and theorems in a text."""
    return frozenset(
        id_.lower() if id_.startswith("T") else id_ for id_ in ID.findall(text.replace("Theorem", "theorem"))
    )


def tests_of(id_: str) -> tuple[str, ...]:
    """Links to the test modules with tests of it, each with the number of these: tests that cite it, or that stand
    beside a claim that it judges.
    """
    names: dict[str, set[str]] = {}
    for target, test in [*citing_tests().get(id_, ()), *claimed().tests.get(id_, ())]:
        names.setdefault(target, set()).add(test)
    return tuple(f"[{Path(target).name}]({target}) ({len(tests)})" for target, tests in sorted(names.items()))


@cache
def citing_tests() -> dict[str, list[tuple[str, str]]]:
    """Id -> (file, test) of each test whose source or decorators cite it."""
    found: dict[str, list[tuple[str, str]]] = {}
    for path in sorted((REPOSITORY / "tests").rglob("test_*.py")):
        target = path.relative_to(REPOSITORY).as_posix()
        if target.startswith(NOT_JUDGES):
            continue
        text = path.read_text("utf-8")
        lines = text.splitlines()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                begin = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                for id_ in cited_in("\n".join(lines[begin - 1 : node.end_lineno])):
                    found.setdefault(id_, []).append((f"../{target}", node.name))
    return found
