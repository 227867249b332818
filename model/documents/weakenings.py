"""Breaks code generically: for what a claim names as its code, returns sources in which a part of it does nothing.

A function returns a constant instead: that which its annotation allows and which means least. A class or a module is
broken function by function, a class of fields alone loses one, a table an item. `BY_HAND` has what cannot be broken so:
claims about the text of the code itself. Read `claims.py` for what is done with them.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator

from attrs import frozen

Function = ast.FunctionDef | ast.AsyncFunctionDef
Table = ast.Dict | ast.Tuple | ast.List | ast.Set

MEANS_LEAST: dict[str, tuple[str, ...]] = {
    "bool": ("True", "False"),
    "int": ("0",),
    "float": ("0.0",),
    "str": ("''",),
    "bytes": ("b''",),
    "tuple": ("()",),
    "list": ("[]",),
    "dict": ("{}",),
    "set": ("set()",),
}
"""First name of an annotation -> the constants that a broken function returns."""


class UnknownCode(LookupError):
    """The file has no code of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no {name} in that file: mend the link of the claim")
        self.name = name


@frozen
class Weakening:
    """One way to break a file."""

    what: str
    """What is broken and how, in words: `` `slot_is_free` returns True ``."""
    source: str
    """The file's text with the break in it."""


BY_HAND: dict[tuple[str, str], tuple[str, str]] = {
    ("The core does no I/O", "Session"): ("the module also imports `socket`", "import socket\n"),
    ("The core does not know what judges it", "World"): ("the module also imports the core", "import statemachine\n"),
    ("The reference is small enough", "World"): ("the module is 2,000 lines longer", "x = 1\n" * 2_000),
    ("The core changes a state only by", "Machine.moves"): (
        "the module has a function that sets a state by a look-up of its own",
        "def wake(agent: object) -> None:\n    agent.status = TurnState.QUEUED\n",
    ),
}
"""(beginning of the claim, code) -> what is added at the end of its file, in words and as text."""


def weakenings(source: str, name: str, claim: str = "") -> Iterator[Weakening]:
    """Yields ways to break what a claim calls `name` in a file with this source; a name that ends in `.py` is the file.
    Raises `UnknownCode`.
    """
    for (beginning, code), (what, text) in BY_HAND.items():
        if claim.startswith(beginning) and code == name:
            yield Weakening(what, f"{source}\n\n{text}")
            return
    tree = ast.parse(source)
    path = () if name.endswith(".py") else tuple(name.split("."))
    node = find(tree, path)
    if node is None:
        raise UnknownCode(name)
    if isinstance(node, ast.Assign | ast.AnnAssign):
        yield from without_an_item(source, name)
        return
    broken_so = list(functions(node, path))
    if isinstance(node, ast.ClassDef) and not broken_so:
        yield from without_a_field(source, path)
    for where, function in broken_so:
        for words, body in bodies(function):
            broken = ast.parse(source)
            target = find(broken, where)
            assert isinstance(target, Function)
            target.body = ast.parse(body).body
            yield Weakening(f"`{'.'.join(where)}` {words}", ast.unparse(ast.fix_missing_locations(broken)))


def find(tree: ast.Module, path: tuple[str, ...]) -> ast.AST | None:
    """Returns the function, class or assignment at this dotted path; the module itself for an empty one."""
    node: ast.AST = tree
    for name in path:
        found = next((child for child in getattr(node, "body", ()) if named(child) == name), None)
        if found is None:
            return None
        node = found
    return node


def named(node: ast.AST) -> str | None:
    """Returns the name that a statement defines."""
    if isinstance(node, Function | ast.ClassDef):
        return node.name
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return node.target.id
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    return None


def functions(node: ast.AST, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Function]]:
    """Yields the functions to break: the node itself, or those of a class or module, public ones first; of a class that
    has none, how it is made.
    """
    if isinstance(node, Function):
        yield path, node
        return
    inside = [child for child in getattr(node, "body", ()) if isinstance(child, Function)]
    plain = [child for child in inside if not child.name.startswith("__")]
    made = [child for child in inside if child.name in ("__init__", "__attrs_post_init__")]
    for child in sorted(plain, key=lambda one: one.name.startswith("_")) + made:
        yield (*path, child.name), child


def bodies(function: Function) -> Iterator[tuple[str, str]]:
    """Yields, in words and as text, bodies that do nothing."""
    decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in function.decorator_list}
    if function.name == "__init__":
        yield "keeps nothing", "pass"
    elif decorators & {"contextmanager", "asynccontextmanager"}:
        yield "does nothing around its block", "yield None"
    elif any(isinstance(inner, ast.Yield | ast.YieldFrom) for inner in own(function)):
        yield "yields nothing", "return\nyield"
    else:
        said = "None" if function.returns is None else ast.unparse(function.returns).strip("'\"")
        if said == "None":
            yield "does nothing", "return None"
        for value in MEANS_LEAST.get(said.partition("[")[0], ("None",)) if said != "None" else ():
            yield f"returns {value}", f"return {value}"


def own(function: Function) -> Iterator[ast.AST]:
    """Yields what is in the function, without what is in functions within it."""
    line: list[ast.AST] = [*function.body]
    for node in line:
        yield node
        if not isinstance(node, Function | ast.Lambda):
            line.extend(ast.iter_child_nodes(node))


def without_a_field(source: str, path: tuple[str, ...]) -> Iterator[Weakening]:
    """Yields the file without the last field of a class that is nothing but fields."""
    broken = ast.parse(source)
    node = find(broken, path)
    assert isinstance(node, ast.ClassDef)
    fields = [child for child in node.body if isinstance(child, ast.Assign | ast.AnnAssign)]
    if fields:
        node.body.remove(fields[-1])
        node.body.append(ast.Pass())
        what = f"`{'.'.join(path)}` lacks its field `{named(fields[-1])}`"
        yield Weakening(what, ast.unparse(ast.fix_missing_locations(broken)))


def without_an_item(source: str, name: str) -> Iterator[Weakening]:
    """Yields the file without the last, and without the first, item of a table."""
    drop: dict[str, Callable[[list[ast.expr | None]], object]] = {
        "last": lambda items: items.pop(),
        "first": lambda items: items.pop(0),
    }
    for which, drops in drop.items():
        broken = ast.parse(source)
        statement = find(broken, (name,))
        assert isinstance(statement, ast.Assign | ast.AnnAssign)
        inside = () if statement.value is None else ast.walk(statement.value)
        table = next((node for node in inside if isinstance(node, Table) and is_value(node)), None)
        if table is None:
            return
        for items in (table.keys, table.values) if isinstance(table, ast.Dict) else (table.elts,):
            drops(items)  # type: ignore[arg-type]
        yield Weakening(f"`{name}` lacks its {which} item", ast.unparse(ast.fix_missing_locations(broken)))


def is_value(table: Table) -> bool:
    """Tells whether the table is one that is read, and has an item to lose."""
    items = table.values if isinstance(table, ast.Dict) else table.elts
    return bool(items) and not isinstance(getattr(table, "ctx", None), ast.Store)
