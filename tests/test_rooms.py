"""The arrows between rooms: what a folder says that it may import is all that it imports.

No import leads back to where it came from: product and model have no circle of modules at all.

The `__init__` of each folder has a line `May import:`, and this reads it. Imports in functions and for type checkers
count too, at any depth of folders. Other distributions count in the product alone: a judge may use what helps it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
FRONT = {
    "model": {
        *("reference", "checkout", "configurations", "lockstep", "coverage", "pools", "printing", "check", "verdicts"),
        *("alphabet", "engines", "kept", "postgres_server", "watch"),
    },
    "statemachine": {"guard", "errors", "eventloops", "interrupts", "lazy", "pauses", "sinks", "tracebacks"},
}
"""Modules beside the rooms."""
FREE = {"attrs", "statemachine.guard"}
"""What every room may import."""


@cache
def modules() -> dict[str, Path]:
    """Dotted name -> file, of product and model."""
    found: dict[str, Path] = {}
    for top in ("statemachine", "model"):
        for path in (REPOSITORY / top).rglob("*.py"):
            name = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def imports(path: Path) -> set[str]:
    """The modules that a file imports, by their dotted names; of `from a import b`, `a.b` if that is a module."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = (
                ".".join(path.relative_to(REPOSITORY).parent.parts[: 1 - node.level or None]) if node.level else ""
            )
            module = ".".join(filter(None, (package, node.module)))
            found |= {name if (name := f"{module}.{alias.name}") in modules() else module for alias in node.names}
    return found


ROOMS = sorted({name for name, path in modules().items() if path.name == "__init__.py" and "." in name})


def room_of(module: str) -> str:
    """`statemachine.core` for what is in there, `statemachine.stores.sqlite` for what is in that room of a room; the
    module itself if it stands beside the rooms.
    """
    around = [".".join(module.split(".")[:depth]) for depth in range(module.count(".") + 1, 1, -1)]
    return next((one for one in around if one in ROOMS), ".".join(module.split(".")[:2]))


def allowed(room: str) -> set[str]:
    """What the room's `__init__` says that it may import, by dotted or distribution name."""
    top = room.partition(".")[0]
    text = ast.get_docstring(ast.parse(modules()[room].read_text("utf-8"))) or ""
    line = re.search(r"^May import: (.+?\.)$", text, re.MULTILINE | re.DOTALL)
    assert line is not None, f"{room}: its __init__ has no line `May import:`"
    found = {room, *FREE}
    for name in re.findall(r"`([\w.]+)`", line[1]):
        siblings = {f"{top}.{name}"} & {*ROOMS, *(f"{top}.{front}" for front in FRONT[top])}
        found |= siblings or {name}
        if name == "statemachine":
            found |= {one for one in modules() if one.startswith("statemachine")}
    return found


def foreign(room: str) -> tuple[set[str], int]:
    """What the room imports beyond what is allowed and the standard library; and how many imports were looked at."""
    fine, found, looked_at = allowed(room), set[str](), 0
    for name, path in modules().items():
        if room_of(name) != room:
            continue
        for imported in imports(path):
            looked_at += 1
            top = imported.partition(".")[0]
            is_judged = imported in modules() or room.startswith("statemachine")
            if is_judged and not {room_of(imported), imported, top} & fine and top not in sys.stdlib_module_names:
                found.add(imported)
    return found, looked_at


@pytest.mark.parametrize("room", ROOMS)
def test_room_imports_nothing_but_what_its_init_allows(room: str) -> None:
    found, looked_at = foreign(room)
    assert found == set()
    assert looked_at > len([name for name in modules() if room_of(name) == room and name != room])


def test_every_folder_is_a_room_and_every_file_was_looked_at() -> None:
    folders = {path.parent for path in modules().values()} - {REPOSITORY / "statemachine", REPOSITORY / "model"}
    assert {".".join(folder.relative_to(REPOSITORY).parts) for folder in folders} == set(ROOMS)
    assert len(ROOMS) == 25, "a new room stands in the documents too"
    assert len(modules()) > 100


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """A way through the graph that ends where it begins; empty if there is none, so nothing is connected both ways."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [*error.args[1]]
    return []


def test_modules_import_each_other_in_no_circle() -> None:
    graph = {name: imports(path) & modules().keys() for name, path in modules().items()}
    assert circle(graph) == []
    assert len(graph) > 110
    assert sum(len(imported) for imported in graph.values()) > 600


@pytest.mark.parametrize(
    "line", ["from b import x", "import b", "def f():\n    from b import x", "if TYPE_CHECKING:\n    import b"]
)
def test_circle_is_found_wherever_its_imports_stand(line: str, tmp_path: Path) -> None:
    module = tmp_path / "a.py"
    module.write_text(line, "utf-8")
    assert sorted(circle({"a": {name.partition(".")[0] for name in imports(module)}, "b": {"c"}, "c": {"a"}})[1:]) == [
        "a",
        "b",
        "c",
    ]
    assert circle({"a": {"b"}, "b": {"c"}}) == []
    assert circle({"a": {"a"}}) == ["a", "a"]


def test_product_imports_nothing_of_the_model_and_the_reference_nothing_at_all() -> None:
    judges = {"model", "statemachine_model", "tests", "bench"}
    for name, path in modules().items():
        if name.startswith("statemachine"):
            assert {top.partition(".")[0] for top in imports(path)}.isdisjoint(judges), name
            assert "statemachine.__main__" not in imports(path), f"{name}: only a person asks for the command"
    known = imports(modules()["model.reference"])
    assert {name.partition(".")[0] for name in known} <= sys.stdlib_module_names


def test_model_imports_itself_by_relative_names_because_a_wheel_has_it_under_another() -> None:
    relative, absolute = 0, set[str]()
    for path in (path for name, path in modules().items() if name.startswith("model")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                absolute |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                absolute.add(node.module or "")
            elif isinstance(node, ast.ImportFrom):
                relative += 1
    assert {name for name in absolute if name.partition(".")[0] in ("model", "statemachine_model")} == set()
    assert relative > 50
