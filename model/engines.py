"""Names the engines that judge single obligations: contracts, the proof, fair runs, the independent checker, and what
looks at everything that is written and read back.

Exploration and fuzz are not among them: they judge every property on every step (`check.py`). Each engine has a quick
part of a few seconds, which `statemachine check` runs, and all of it is run by its own command and by `statemachine
evidence`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from attrs import frozen

from . import contracts, proof, written
from .exploration import fairness
from .spin import engine as spin
from .spin import tool
from .verdicts import Verdict


class Run(Protocol):
    """What an engine offers."""

    def __call__(self, *, quick: bool, progress: Callable[[str], None]) -> tuple[Verdict, ...]:
        """Judges, and says where it is."""
        ...


def nothing() -> Exception | None:
    """What an engine lacks that comes with the extra `check` whole."""
    return None


@frozen
class Engine:
    """One engine. `command` is the word of `statemachine` that runs it alone."""

    name: str
    command: str
    judges: tuple[str, ...]
    """What its verdicts say as their engine."""
    run: Run
    lacks: Callable[[], Exception | None] = nothing
    """Returns what is not installed that it needs, as an error that says what to do; None if all is there."""


ENGINES: tuple[Engine, ...] = (
    Engine("spin", "spin", ("spin",), spin.run, tool.missing),
    Engine("proof", "prove", ("proof", "tie", "defect", "enumeration"), proof.run),
    Engine("contracts", "contracts", ("contract", "wording"), contracts.run),
    Engine("fairness", "fairness", ("fairness",), fairness.run),
    Engine("log", "log", ("log",), written.run),
)
"""All of them, the one that takes longest first: so they are begun."""


def find(name: str) -> Engine:
    """Returns the engine with this name."""
    return next(engine for engine in ENGINES if engine.name == name)
