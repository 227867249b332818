"""Nothing decides by the words of a result or an error: they are for people, and `Cause` is for code.

This reads the source of product and model. The one module that may look is the one that reads files of older versions.
"""

from __future__ import annotations

import ast

import pytest

from tests.test_rooms import modules

MAY_LOOK = {"statemachine.log.older"}
WORDS = {"result", "error", "reason"}
"""What holds the words of how a turn ended, as an attribute or a variable."""
LOOKS = {"startswith", "endswith", "removeprefix", "find", "index", "partition", "split"}


def holds_words(node: ast.expr) -> bool:
    return (node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")) in WORDS


def is_text(node: ast.expr) -> bool:
    """Some words, or a constant that has a name of its own, as constants have. Whether there are words at all may be
    asked.
    """
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and node.value != ""
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Name) and node.id.isupper())


def looks(source: str) -> list[str]:
    """The expressions of a module that look at words."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in LOOKS and holds_words(node.func.value):
                found.append(ast.unparse(node))
        elif isinstance(node, ast.Compare) and not any(isinstance(op, ast.Is | ast.IsNot) for op in node.ops):
            sides = [node.left, *node.comparators]
            if any(map(holds_words, sides)) and any(map(is_text, sides)):
                found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize(
    "source",
    [
        'outcome.status is INTERRUPTED and outcome.result == "closed"',
        'may_close and outcome.result.startswith("its thread died")',
        "GRACE_OVER in outcome.result and turn not in world.deaf",
        "outcome.result.startswith(LOAD_OVER)",
        "r.outcome.result.startswith(why)",
        '(agent, turn) in log.started and result != "closed"',
        'f"{name}: gone" == event.error',
    ],
)
def test_look_at_the_words_of_an_outcome_is_found(source: str) -> None:
    assert len(looks(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        *("outcome.cause is Cause.CLOSED", "outcome.result == told.result", "self.error is None", "print(error)"),
        *('outcome.result == ""', "result is NOTHING"),
    ],
)
def test_other_expressions_are_not_taken_for_looks(source: str) -> None:
    assert looks(source) == []


def test_nothing_but_the_reader_of_older_files_looks_at_words() -> None:
    found = {name: looks(path.read_text("utf-8")) for name, path in modules().items() if name not in MAY_LOOK}
    assert {name: expressions for name, expressions in found.items() if expressions} == {}
