"""Loads the machines as `transitions` machines: to step through by hand, and to draw.

The core uses nothing from here, and nothing is declared here: states and moves come from `machines.py`, and
`tests/core/test_machines.py` shows that both forms agree on every (state, trigger) pair. The library is imported when a
function is called, because `import statemachine` must not pay for it.

    >>> from statemachine.checking import diagrams
    >>> from statemachine.core import machines
    >>> turn = diagrams.load(machines.TURN)
    >>> turn.request(), turn.state
    (True, 'queued')
    >>> turn.start()
    Traceback (most recent call last):
    transitions.core.MachineError: "Turn: Can't trigger event start from state queued!"

The library's own engine draws Mermaid text and needs no other package. Its engine for pictures needs the package
`graphviz` and the program `dot`; without one of them the library would return Mermaid text, and this raises instead.
"""

from __future__ import annotations

from enum import IntEnum
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from statemachine.core.machines import Machine

if TYPE_CHECKING:
    from transitions.extensions import GraphMachine

__all__ = ["DrawingUnavailable", "Model", "declaration", "load", "mermaid", "name_of", "svg"]

STYLES: dict[str, dict[str, Any]] = {
    "node": {
        "default": {"fillcolor": "white", "color": "black", "shape": "rectangle", "style": "rounded,filled"},
        "active": {"fillcolor": "lightgrey", "color": "black"},
    },
    "edge": {"default": {"color": "black"}},
    "graph": {"default": {}},
}
"""Styles of states; *active* is the initial one. The library's own styles are for machines that are being stepped."""


class DrawingUnavailable(RuntimeError):
    """A picture cannot be drawn, because `missing` is not installed; the message says how to install it."""

    def __init__(self, missing: str, remedy: str) -> None:
        super().__init__(f"drawing needs {missing}, which is not installed: {remedy}; `mermaid` works without it")
        self.missing = missing


class Model:
    """The object that a loaded machine moves: `state` is the lower-case name of a state, every trigger is a method.

    `transitions` adds the methods and `state`.
    """


def name_of(state: IntEnum) -> str:
    """Returns the name under which a state is known outside the core."""
    return state.name.lower()


def declaration(machine: Machine[Any]) -> dict[str, Any]:
    """Returns the machine as keyword arguments of `transitions.Machine`."""
    return {
        "states": [name_of(state) for state in machine.states],
        "initial": name_of(machine.initial),
        "transitions": [
            {"trigger": row.trigger, "source": [name_of(s) for s in row.sources], "dest": name_of(row.target)}
            for row in machine.rows
        ],
        "auto_transitions": False,
        "name": machine.name,
    }


def load(machine: Machine[Any], model: object | None = None) -> Any:
    """Returns a model in the machine's initial state: `model` itself if one is given, else a new `Model`.

    `model.trigger("request")` and `model.request()` do the same. A trigger that the state has no row for raises
    `transitions.MachineError` and changes nothing; one that the machine does not have at all raises `AttributeError`.
    """
    from transitions import Machine as Library  # noqa: PLC0415

    moved = Model() if model is None else model
    Library(moved, **declaration(machine))
    return moved


def mermaid(machine: Machine[Any]) -> str:
    """Returns the machine as a Mermaid state diagram, with a newline after each line."""
    # The library puts the title in a block that Mermaid reads as YAML, so it has to be a YAML mapping.
    graph: Any = _drawn(machine, "mermaid", f"title: {machine.name}")
    lines: list[str] = graph.draw(None).splitlines()
    return "".join(f"{line.rstrip()}\n" for line in lines if line.strip())


def svg(machine: Machine[Any]) -> str:
    """Returns the machine as an SVG picture. Raises `DrawingUnavailable` without the `graphviz` package or program."""
    try:
        graphviz: Any = import_module("graphviz")  # it ships no types
    except ImportError:
        remedy = "pip install 'agent-statemachine[diagrams]'"
        raise DrawingUnavailable("the Python package 'graphviz'", remedy) from None
    graph: Any = _drawn(machine, "graphviz", machine.name)
    try:
        picture: str = graph.pipe(format="svg", encoding="utf-8")
    except graphviz.ExecutableNotFound:
        remedy = "install Graphviz (`apt install graphviz`, `brew install graphviz`) and have it on PATH"
        raise DrawingUnavailable("the program 'dot'", remedy) from None
    return picture


def _drawn(machine: Machine[Any], engine: Literal["mermaid", "graphviz"], title: str) -> object:
    from transitions.extensions import GraphMachine  # noqa: PLC0415

    model: Any = Model()
    drawing: GraphMachine = GraphMachine(model, graph_engine=engine, title=title, **declaration(machine))
    drawing.style_attributes = STYLES  # type: ignore[assignment]
    return model.get_graph()
