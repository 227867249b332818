"""Draws mutants: copies of a module of the core or the log that differ in one place.

The operators are those of mutmut: another comparison, number, keyword or value, an argument left out, and so on. Left
out are the places where they change no behaviour, or only words: texts, annotations, decorators, parameters, what is
asserted, and what is raised (when it is raised is not left out).
"""

from __future__ import annotations

import random
from itertools import zip_longest
from pathlib import Path

import libcst as cst
from attrs import frozen
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

import statemachine

PACKAGE = Path(statemachine.__file__).parent
ROOMS = ("core", "log")
"""The rooms of the product that are mutated."""
SKIPPED = (cst.Annotation, cst.Assert, cst.BaseString, cst.Decorator, cst.Parameters, cst.Raise)


@frozen
class Mutant:
    """One module with one place changed."""

    module: str
    """Its name: `statemachine.core.slots`."""
    function: str
    """Where in it: `Slots.release`."""
    line: int
    before: str
    """The line as it is; only the first, if the change takes several."""
    after: str
    source: str
    """The text of the whole module, and what it is without the change."""
    original: str

    @property
    def id(self) -> str:
        """What names it in documents; it stays the same when other lines are changed."""
        return f"{self.module.removeprefix('statemachine.')} {self.function}: `{self.before}` -> `{self.after}`"


class Places(cst.CSTVisitor):
    """Collects (function, line, node, what could stand there instead) of a module."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.within = 0
        """Functions around the place."""
        self.found: list[tuple[str, int, cst.CSTNode, cst.CSTNode]] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, SKIPPED):
            return False
        if isinstance(node, cst.FunctionDef | cst.ClassDef):
            self.names.append(node.name.value)
            self.within += isinstance(node, cst.FunctionDef)
        if self.within:
            line = self.get_metadata(PositionProvider, node).start.line
            for kind, operator in mutation_operators:
                if isinstance(node, kind):
                    self.found += [(".".join(self.names), line, node, instead) for instead in operator(node)]
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if isinstance(original_node, cst.FunctionDef | cst.ClassDef):
            self.names.pop()
            self.within -= isinstance(original_node, cst.FunctionDef)


@frozen
class Place:
    """One change of a module, not yet made."""

    path: Path
    function: str
    line: int
    node: cst.CSTNode
    instead: cst.CSTNode

    def mutant(self, module: cst.Module) -> Mutant | None:
        """Makes the change. None: it is not Python, or leaves the text as it was."""
        changed = module.deep_replace(self.node, self.instead)
        assert isinstance(changed, cst.Module)
        text, source = module.code, changed.code
        pairs = zip_longest(text.splitlines(), source.splitlines(), fillvalue="")
        before, after = next(((one, other) for one, other in pairs if one != other), ("", ""))
        name = ".".join((statemachine.__name__, *self.path.relative_to(PACKAGE).with_suffix("").parts))
        made = Mutant(name, self.function, self.line, before.strip(), after.strip(), source, text)
        return made if made.before != made.after and is_python(source) else None


def is_python(source: str) -> bool:
    """Tells whether a mutant can be compiled. One that cannot says nothing about any check."""
    try:
        compile(source, "mutant", "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return True


def draw(number: int, seed: int) -> list[Mutant]:
    """Draws so many mutants, each place equally likely, none twice. The same seed draws the same from the same code."""
    modules: dict[Path, cst.Module] = {}
    every: list[Place] = []
    for path in sorted(path for room in ROOMS for path in (PACKAGE / room).glob("*.py")):
        wrapper, found = MetadataWrapper(cst.parse_module(path.read_text("utf-8"))), Places()
        wrapper.visit(found)
        modules[path] = wrapper.module
        every += [Place(path, *rest) for rest in found.found]
    random.Random(seed).shuffle(every)
    drawn: dict[str, Mutant] = {}
    for place in every:
        if len(drawn) == number:
            break
        mutant = place.mutant(modules[place.path])
        if mutant is not None:
            drawn.setdefault(mutant.id, mutant)
    return list(drawn.values())
