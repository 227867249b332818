"""Draws a machine in a document: its meaning, its diagram, its table."""

from __future__ import annotations

from inspect import getdoc
from typing import Any

from statemachine.checking.diagrams import mermaid, name_of
from statemachine.core.machines import Machine

from .markdown import table


def machine_section(machine: Machine[Any]) -> str:
    """Returns the section of one machine: meaning, diagram, table."""
    rows = [
        (f"`{row.trigger}`", ", ".join(name_of(source) for source in row.sources), name_of(row.target), row.cause)
        for row in machine.rows
    ]
    more = (getdoc(type(machine.initial)) or "").removeprefix(machine.meaning).strip()
    diagram = f"```mermaid\n{mermaid(machine)}```\n"
    meaning = f"{machine.meaning} {more}".rstrip()
    return f"## {machine.name}\n\n{meaning}\n\n{diagram}\n{table(('trigger', 'from', 'to', 'cause'), rows)}"
