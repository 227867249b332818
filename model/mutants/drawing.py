"""Draws mutants: copies of a module of the core or the log that differ in one place.

`operators.py` says what could stand there instead. A place is in a function: tables and constants of modules, and the
fields of classes, are not mutated. Nor is what changes words alone, or nothing: annotations, decorators, parameters,
what is asserted, and what is raised (when it is raised is mutated).
"""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from attrs import frozen

import statemachine

from .operators import Edit, Text, edits

PACKAGE = Path(statemachine.__file__).parent
ROOMS = ("core", "log")
"""The rooms of the product that are mutated."""
SKIPPED = (ast.Assert, ast.JoinedStr, ast.Raise, ast.arguments)


@frozen
class Mutant:
    """One module with one place changed."""

    module: str
    """Its name: `statemachine.core.slots`."""
    function: str
    """Where in it: `Slots.release`."""
    before: str
    """The first line that differs, as it is."""
    after: str
    source: str
    """The text of the whole module, and what it is without the change."""
    original: str

    @property
    def id(self) -> str:
        """What names it in documents; it stays the same when other lines are changed."""
        return f"{self.module.removeprefix('statemachine.')} {self.function}: `{self.before}` -> `{self.after}`"


def draw(number: int, seed: int) -> list[Mutant]:
    """Draws so many mutants, each place equally likely, none twice. The same seed draws the same from the same code."""
    every = [(path, name, edit) for path in modules() for name, edit in places(path)]
    random.Random(seed).shuffle(every)
    drawn: dict[str, Mutant] = {}
    for path, name, edit in every:
        if len(drawn) == number:
            break
        mutant = made(path, name, edit)
        if mutant is not None:
            drawn.setdefault(mutant.id, mutant)
    return list(drawn.values())


def modules() -> list[Path]:
    """Returns the files that are mutated."""
    return sorted(path for room in ROOMS for path in (PACKAGE / room).glob("*.py"))


def places(path: Path) -> Iterator[tuple[str, Edit]]:
    """Yields every change of a module, with the name of the function that it is in."""
    text = Text(path.read_bytes())
    return within(ast.parse(text.source), (), False, text)


def within(node: ast.AST, names: tuple[str, ...], in_function: bool, text: Text) -> Iterator[tuple[str, Edit]]:
    """Yields the changes of a node and of all below it."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        names = (*names, node.name)
        in_function = in_function or isinstance(node, ast.FunctionDef)
    if in_function:
        yield from ((".".join(names), edit) for edit in edits(node, text))
    for field, below in ast.iter_fields(node):
        if field not in ("annotation", "decorator_list", "returns"):
            for child in below if isinstance(below, list) else [below]:
                if isinstance(child, ast.AST) and not isinstance(child, SKIPPED):
                    yield from within(child, names, in_function, text)


def made(path: Path, function: str, edit: Edit) -> Mutant | None:
    """Makes the change. None: it is not Python, so it says nothing about any check."""
    original = path.read_bytes()
    source = original[: edit.start] + edit.text.encode() + original[edit.end :]
    try:
        compile(source, "mutant", "exec", dont_inherit=True)
    except SyntaxError:
        return None
    old, new = original.decode(), source.decode()
    pairs = zip_longest(old.splitlines(), new.splitlines(), fillvalue="")
    before, after = next((one, other) for one, other in pairs if one != other)
    name = ".".join((statemachine.__name__, *path.relative_to(PACKAGE).with_suffix("").parts))
    return Mutant(name, function, before.strip(), after.strip(), new, old)
