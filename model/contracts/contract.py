"""What a contract is, and how one is declared.

A contract is a function of the parameters that it speaks of. It calls a rule of the core by its name, and returns
whether what the rule promises holds; `given` says for which arguments. A planted *twin* comes with each: the rule with
a defect, which takes the rule's place when it is shown that the contract can be refuted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from attrs import frozen


def always(**_: Any) -> bool:
    """The precondition of a contract for all arguments of the types of its parameters."""
    return True


@frozen
class Twin:
    """The rule with a defect: `owner` has it under the name `rule`, and `instead` takes its place. As a text, what the
    defect is.
    """

    owner: Any
    rule: str
    instead: Any
    defect: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.defect}"

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Gives the core the defect within the block."""
        original = vars(self.owner)[self.rule]
        setattr(self.owner, self.rule, self.instead)
        try:
            yield
        finally:
            setattr(self.owner, self.rule, original)


@frozen
class Contract:
    """One contract: `holds` is to be true wherever `given` is. Both are called with the same named arguments."""

    about: str
    """The property or rule of semantics.md that it is about."""
    holds: Callable[..., bool]
    given: Callable[..., bool]
    twin: Twin

    @property
    def name(self) -> str:
        return self.holds.__name__.replace("_", " ")

    @property
    def room(self) -> str:
        """The module that it stands in."""
        return self.holds.__module__.rpartition(".")[2]


CONTRACTS: list[Contract] = []
"""All contracts, in the order of their declaration."""

Declared = Callable[..., bool]


def contract(
    about: str, owner: Any, rule: str, instead: Any, defect: str, given: Declared = always
) -> Callable[[Declared], Declared]:
    """Decorates a function that is a contract: adds it to `CONTRACTS`. For the arguments see `Contract` and `Twin`."""

    def add(holds: Declared) -> Declared:
        CONTRACTS.append(Contract(about, holds, given, Twin(owner, rule, instead, defect)))
        return holds

    return add
