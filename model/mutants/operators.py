"""Says what could stand in place of a piece of code: the operators of mutmut, as edits of the text.

Mutmut itself is not used: it wants to run tests, and brings a tool for terminals with it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise

from attrs import frozen


@frozen
class Edit:
    """A piece of a text, from byte to byte, and what stands there instead."""

    start: int
    end: int
    text: str


class Text:
    """The text of a module, and where its nodes are in it."""

    def __init__(self, source: bytes) -> None:
        self.source = source
        self.lines = [0]
        for line in source.splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line))

    def start(self, node: ast.expr | ast.stmt | ast.keyword) -> int:
        return self.lines[node.lineno - 1] + node.col_offset

    def end(self, node: ast.expr | ast.stmt | ast.keyword) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self.lines[node.end_lineno - 1] + node.end_col_offset

    def replace(self, node: ast.expr | ast.stmt, instead: str) -> Edit:
        """Another text for a node. A generator that is a call's only argument has the parentheses of the call."""
        start, end = self.start(node), self.end(node)
        is_call = isinstance(node, ast.GeneratorExp)
        return Edit(start, end, f"({instead})" if is_call else instead)

    def between(self, left: ast.expr, right: ast.expr, word: str, instead: str) -> Edit:
        """Another word for the one that stands between two nodes."""
        start = self.end(left)
        found = re.search(rb"\s+".join(re.escape(part.encode()) for part in word.split()), self.source[start:])
        assert found is not None
        assert start + found.end() <= self.start(right)
        return Edit(start + found.start(), start + found.end(), instead)


WORDS: dict[type[ast.AST], tuple[str, str]] = {
    ast.And: ("and", "or"),
    ast.Or: ("or", "and"),
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "/"),
    ast.Mod: ("%", "/"),
    ast.Pow: ("**", "*"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.BitXor: ("^", "&"),
}
"""Operator -> how it is written, and the other one."""
METHODS = {
    one: other
    for pair in (
        ("lower", "upper"),
        ("lstrip", "rstrip"),
        ("find", "rfind"),
        ("ljust", "rjust"),
        ("index", "rindex"),
        ("removeprefix", "removesuffix"),
        ("partition", "rpartition"),
        ("split", "rsplit"),
    )
    for one, other in (pair, pair[::-1])
}
"""Method of a text -> its counterpart."""


def edits(node: ast.AST, text: Text) -> Iterator[Edit]:
    """Yields what could stand in place of this node, or of a part of it that is not a node of its own."""
    match node:
        case ast.Constant():
            yield from constant(node, text)
        case ast.UnaryOp(op=ast.Not() | ast.Invert() as op):
            start = text.start(node)
            yield Edit(start, start + (4 if isinstance(op, ast.Not) else 1), "")
        case ast.BinOp(left=left, op=op, right=right):
            yield text.between(left, right, *WORDS[type(op)])
        case ast.BoolOp(op=op, values=values):
            yield from (text.between(left, right, *WORDS[type(op)]) for left, right in pairwise(values))
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            sides = pairwise([left, *comparators])
            yield from (text.between(*side, *WORDS[type(op)]) for side, op in zip(sides, ops, strict=True))
        case ast.AugAssign(target=target, op=op, value=value):
            word, other = WORDS[type(op)]
            yield text.between(target, value, f"{word}=", f"{other}=")
            yield text.between(target, value, f"{word}=", "=")
        case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
            yield text.replace(value, '""' if is_none(value) else "None")
        case ast.Lambda(body=body):
            yield text.replace(body, "0" if is_none(body) else "None")
        case ast.Break():
            yield text.replace(node, "return")
        case ast.Continue():
            yield text.replace(node, "break")
        case ast.Call():
            yield from call(node, text)
        case _:
            pass


def constant(node: ast.Constant, text: Text) -> Iterator[Edit]:
    """Yields other values. A text with a blank is words for people, and stays."""
    value = node.value
    if isinstance(value, bool):
        yield text.replace(node, str(not value))
    elif isinstance(value, int | float):
        yield text.replace(node, repr(value + 1))
    elif isinstance(value, str) and " " not in value:
        yield text.replace(node, repr(f"XX{value}XX"))


def call(node: ast.Call, text: Text) -> Iterator[Edit]:
    """Yields the call with None for an argument, without an argument, and of another method."""
    arguments: list[ast.expr | ast.keyword] = [*node.args, *node.keywords]
    for argument in arguments:
        value = argument.value if isinstance(argument, ast.keyword) else argument
        if not isinstance(value, ast.Starred) and not is_none(value):
            yield text.replace(value, "None")
    if len(arguments) > 1:
        yield Edit(text.start(arguments[0]), text.start(arguments[1]), "")
        yield from (Edit(text.end(left), text.end(right), "") for left, right in pairwise(arguments))
    if isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
        end = text.end(node.func)
        yield Edit(end - len(node.func.attr), end, METHODS[node.func.attr])


def is_none(node: ast.expr) -> bool:
    """Is it the constant None?"""
    return isinstance(node, ast.Constant) and node.value is None
