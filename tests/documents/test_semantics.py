"""specs/semantics.md says what the code does: its tables and lists are those of the code. Traces: `test_specs.py`."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path

import attrs
import pytest

from statemachine.checking.properties import PROPERTIES
from statemachine.core.config import SessionConfig
from statemachine.core.events import (
    Close,
    Drain,
    FollowUp,
    Forget,
    Interrupt,
    ListAgents,
    Resume,
    Send,
    Shutdown,
    Spawn,
    Start,
    Status,
    StopWaiting,
    Wait,
    Withdraw,
)
from statemachine.core.machines import MACHINES, Machine
from statemachine.core.operations import OPERATIONS
from statemachine.core.refusals import REFUSALS
from statemachine.core.reports import REPORTS

TEXT = (Path(__file__).parents[2] / "specs" / "semantics.md").read_text("utf-8")
NAMES = {
    "spawn": Spawn,
    "send": Send,
    "follow_up": FollowUp,
    "start": Start,
    "drain": Drain,
    "interrupt": Interrupt,
    "close": Close,
    "resume": Resume,
    "wait": Wait,
    "stop_waiting": StopWaiting,
    "withdraw": Withdraw,
    "forget": Forget,
    "status": Status,
    "list": ListAgents,
    "shutdown": Shutdown,
}
"""Operation in the specification -> its event."""
OF_TIME_AND_STORE = {"Tick", "WriteFailed"}
"""Reports that are not of a thread."""


def section(number: int) -> str:
    """The text of a section, without its heading."""
    return re.split(r"^## \d\. .*$", TEXT, flags=re.MULTILINE)[number]


def rows(text: str) -> list[list[str]]:
    """The cells of every row of every table, heads left out."""
    lines = re.findall(r"^\| (.*) \|\n(?!\| ---)", text, re.MULTILINE)
    return [line.split(" | ") for line in lines if not line.startswith("---")]


def test_configuration_has_a_row_for_every_field_with_its_default() -> None:
    config = SessionConfig()
    expected = []
    for field in attrs.fields(SessionConfig):
        value = getattr(config, field.name)
        default = f"`{value.name}`" if isinstance(value, Enum) else "none" if value is None else f"{value:g}"
        if isinstance(value, bool):
            default = str(value).lower()
        if isinstance(value, int) and not isinstance(value, bool):
            default = str(value)
        expected.append((f"`{field.name}`", default))
    told = [(name, default) for name, default, _ in rows(section(2))]
    assert dict(told) == {**dict(expected), "`max_resident`": "larger of 32 and 8 x `execution_cap`"}
    assert [SessionConfig(max_concurrent=cap + 1).max_resident for cap in (3, 4, 5)] == [32, 32, 40]
    assert len(told) == len(expected)


def machine_of(name: str) -> tuple[str, list[list[str]]]:
    """Initial state and rows of a machine in section 3."""
    found = re.search(rf"^\*\*{name}\*\* begins as (\w+)\b(.*?)(?=^\*\*|^###|\Z)", section(3), re.MULTILINE | re.DOTALL)
    assert found is not None, f"section 3 has no machine {name}"
    return found[1], rows(found[2])


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_table_of_a_machine_has_its_initial_state_and_its_moves(machine: Machine) -> None:  # type: ignore[type-arg]
    initial, table = machine_of(machine.name)
    assert initial == machine.initial.name.lower()
    expected = [
        (f"`{row.trigger}`", ", ".join(source.name.lower() for source in row.sources), row.target.name.lower())
        for row in machine.rows
    ]
    assert [tuple(row[:3]) for row in table] == expected


def test_section_of_machines_has_every_machine_once() -> None:
    assert re.findall(r"^\*\*(\w+)\*\* begins", section(3), re.MULTILINE) == [machine.name for machine in MACHINES]


def test_table_of_operations_has_every_operation_once() -> None:
    told = [row[0].strip("`") for row in rows(section(4))]
    assert [NAMES[name] for name in told] == list(OPERATIONS)


def test_refusals_and_reports_are_all_that_there_are() -> None:
    refusals = section(4).partition("**Refusals**")[2].partition("**Threads report**")[0]
    assert re.findall(r"`([A-Z]\w+)`", refusals.partition("):")[2]) == [refusal.__name__ for refusal in REFUSALS]
    reports = section(4).partition("**Threads report**:")[2].partition(".")[0]
    assert re.findall(r"`(\w+)`", reports) == [r.__name__ for r in REPORTS if r.__name__ not in OF_TIME_AND_STORE]


def test_properties_begin_with_the_sentences_of_the_code() -> None:
    table = rows(section(6))
    assert [row[0] for row in table] == [known.id for known in PROPERTIES]
    for (_, sentence), known in zip(table, PROPERTIES, strict=True):
        assert sentence.startswith(known.sentence), known.id


def test_decisions_are_all_linked_where_they_apply() -> None:
    told = {int(number) for number in re.findall(r"\[D(\d+)\](?!:)", TEXT)}
    assert told == set(range(1, 31))
