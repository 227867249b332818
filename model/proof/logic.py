"""One logic for two purposes: the relation is written once over it, and is then a formula of Z3 or a value of Python.

`Plain` computes with numbers and booleans over the agents that there are. `Symbolic` builds terms of Z3 over a sort of
agents of which nothing is known but the root, so what is proved holds for any number of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import product
from typing import Any, Protocol

import z3

Term = Any
"""A number or a truth value; in `Symbolic`, a term of Z3. Comparison and arithmetic are written as usual."""
Agent = Any
"""An agent: its id, or a constant of Z3."""

z3.set_param("smt.random_seed", 0)


class Logic(Protocol):
    """What formulas are built with. `forall` and `exists` take a function of one or more agents."""

    root: Agent

    def all(self, *parts: Term) -> Term: ...
    def any(self, *parts: Term) -> Term: ...
    def no(self, part: Term) -> Term: ...
    def when(self, condition: Term, then: Term) -> Term: ...
    def pick(self, condition: Term, yes: Term, no: Term) -> Term: ...
    def forall(self, body: Callable[..., Term]) -> Term: ...
    def exists(self, body: Callable[..., Term]) -> Term: ...


class Plain:
    """Python's own truth, over the agents of one session."""

    def __init__(self, agents: tuple[int, ...], root: int = 0) -> None:
        self.agents = agents
        self.root = root

    def all(self, *parts: Term) -> Term:
        return all(parts)

    def any(self, *parts: Term) -> Term:
        return any(parts)

    def no(self, part: Term) -> Term:
        return not part

    def when(self, condition: Term, then: Term) -> Term:
        return not condition or then

    def pick(self, condition: Term, yes: Term, no: Term) -> Term:
        return yes if condition else no

    def forall(self, body: Callable[..., Term]) -> Term:
        if arity(body) == 1:
            return all(body(x) for x in self.agents)
        return all(body(x, y) for x in self.agents for y in self.agents)

    def exists(self, body: Callable[..., Term]) -> Term:
        if arity(body) == 1:
            return any(body(x) for x in self.agents)
        return any(body(x, y) for x in self.agents for y in self.agents)


class Symbolic:
    """Terms of Z3."""

    def __init__(self) -> None:
        self.sort = z3.DeclareSort("Agent")
        self.root = z3.Const("root", self.sort)
        self.bound = 0

    def all(self, *parts: Term) -> Term:
        return z3.And(*parts)

    def any(self, *parts: Term) -> Term:
        return z3.Or(*parts)

    def no(self, part: Term) -> Term:
        return z3.Not(part)

    def when(self, condition: Term, then: Term) -> Term:
        return z3.Implies(condition, then)

    def pick(self, condition: Term, yes: Term, no: Term) -> Term:
        return z3.If(condition, yes, no)

    def forall(self, body: Callable[..., Term]) -> Term:
        names = self.fresh(arity(body))
        return z3.ForAll(names, body(*names))

    def exists(self, body: Callable[..., Term]) -> Term:
        names = self.fresh(arity(body))
        return z3.Exists(names, body(*names))

    def fresh(self, count: int) -> list[Agent]:
        """Constants of which nothing is known."""
        self.bound += count
        return [z3.Const(f"any{self.bound - i}", self.sort) for i in range(count)]


class Bounded(Symbolic):
    """Terms of Z3 over a few agents: formulas without quantifiers, in which a counterexample is found at once."""

    def __init__(self, agents: int) -> None:
        super().__init__()
        names = ["root", *(f"other{i}" for i in range(1, agents))]
        self.sort, members = _few_of((*names,))
        self.members = members
        self.root = members[0]

    def forall(self, body: Callable[..., Term]) -> Term:
        return z3.And(*(body(*agents) for agents in product(self.members, repeat=arity(body))))

    def exists(self, body: Callable[..., Term]) -> Term:
        return z3.Or(*(body(*agents) for agents in product(self.members, repeat=arity(body))))


@cache
def _few_of(names: tuple[str, ...]) -> tuple[Any, tuple[Agent, ...]]:
    """A sort with these members alone. Z3 knows each such sort once."""
    sort, members = z3.EnumSort(f"Agent{len(names)}", names)
    return sort, tuple(members)


def arity(body: Callable[..., Term]) -> int:
    """How many agents a formula is about. Arguments with a default are not agents."""
    code, defaults = body.__code__, body.__defaults__
    return code.co_argcount - len(defaults or ())
