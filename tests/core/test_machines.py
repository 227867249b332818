"""The machines: their tables, their two forms, and that the core moves by nothing else.

That the tables are those of specs/semantics.md, where they are written by hand, is in
`tests/documents/test_semantics.py`.
"""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from transitions import MachineError

import statemachine
from statemachine.checking import diagrams
from statemachine.core import machines
from statemachine.core.machines import (
    IDENTITY,
    MACHINES,
    RESIDENCY,
    SESSION,
    SLOT,
    TURN,
    IllegalMove,
    Machine,
    Moves,
    Residency,
    Row,
    SlotState,
    TurnState,
)

PACKAGE = Path(statemachine.__file__).parent
PURE = ("core", "log")
"""The rooms in which states change."""

every_machine = pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)


def moves_of(machine: Machine[Any]) -> list[tuple[str, str, str]]:
    """(trigger, from, to), row by row."""
    return [
        (row.trigger, source.name.lower(), row.target.name.lower()) for row in machine.rows for source in row.sources
    ]


# The tables


def test_every_machine_that_is_declared_is_in_the_list_that_all_judges_go_through() -> None:
    declared = [value for value in vars(machines).values() if isinstance(value, Machine)]
    assert len(declared) == 6
    assert {id(machine) for machine in declared} == {id(machine) for machine in MACHINES}


@every_machine
def test_a_table_has_one_target_for_a_state_and_trigger(machine: Machine[Any]) -> None:
    pairs = [(trigger, source) for trigger, source, _ in moves_of(machine)]
    assert len(pairs) == len(set(pairs))


def test_a_machine_with_two_rows_for_a_state_and_trigger_is_not_constructed() -> None:
    rows = (Row("go", (Residency.UNLOADED,), target, "") for target in (Residency.LOADING, Residency.RESIDENT))
    with pytest.raises(AssertionError, match="Twice: a"):
        Machine("Twice", Residency.UNLOADED, tuple(rows), "")


@every_machine
def test_every_state_is_reached_from_the_initial_one(machine: Machine[Any]) -> None:
    reached = {machine.initial}
    while more := {row.target for row in machine.rows if reached.intersection(row.sources)} - reached:
        reached |= more
    assert reached == set(machine.states)


# The two forms


def attempt(moves: Moves[Any], state: IntEnum) -> IntEnum | IllegalMove:
    """Where the look-up leads, or how it refuses."""
    try:
        target: IntEnum = moves[state]
    except IllegalMove as refusal:
        return refusal
    return target


@every_machine
def test_look_ups_and_the_transitions_machine_agree_on_every_state_and_trigger(machine: Machine[Any]) -> None:
    model = diagrams.load(machine)
    for trigger in machine.triggers:
        for state in machine.states:
            name = state.name.lower()
            model.state = name
            move = attempt(machine.moves(trigger), state)
            if isinstance(move, IllegalMove):
                assert (move.machine, move.trigger, move.state) == (machine.name, trigger, state)
                assert str(move) == f"{machine.name} has no move '{trigger}' from {name}"
                with pytest.raises(MachineError):
                    model.trigger(trigger)
                assert model.state == name, f"{trigger} in {name} was refused, and moved the model"
            else:
                assert model.trigger(trigger) is True, f"{trigger} in {name}"
                assert model.state == move.name.lower(), f"{trigger} in {name}"


@every_machine
def test_moves_of_a_trigger_that_the_machine_has_not_is_a_key_error_that_names_those_it_has(
    machine: Machine[Any],
) -> None:
    with pytest.raises(KeyError, match=machine.triggers[0]):
        machine.moves("no_such_trigger")


def test_an_illegal_move_leaves_the_look_up_as_it_was() -> None:
    admit = TURN.moves("admit")
    with pytest.raises(IllegalMove, match="Turn has no move 'admit' from running") as refused:
        admit[TurnState.RUNNING]
    assert (refused.value.machine, refused.value.trigger) == ("Turn", "admit")
    assert refused.value.state is TurnState.RUNNING
    assert dict(admit) == {TurnState.QUEUED: TurnState.STARTING}


def test_moves_of_one_trigger_are_one_object_so_that_its_uses_can_be_counted() -> None:
    assert SLOT.moves("reserve") is SLOT.moves("reserve")
    assert SLOT.moves("reserve") is sys.modules["statemachine.core.slots"].RESERVE


# The core moves by look-ups alone. What follows reads its source.

MACHINE_OF: dict[str, Machine[Any]] = {"status": TURN, "residency": RESIDENCY, "identity": IDENTITY, "state": SESSION}
"""Attribute of an agent or a session -> the machine that it is in."""

# (file, function, statement): what is assigned otherwise, and why that is no move.
NOT_BY_LOOK_UP = {
    # The state in which a move was refused.
    ("machines", "__init__", "self.state = state"),
    # The look-up was made in turns.end, for the outcome: see test_outcomes_get_their_status below.
    ("ledger", "end_turn", "agent.status = outcome.status"),
    # Recovery restores what a record or the ledger says; between the two nothing moved.
    ("recovery", "_started", "agent.status = TurnState.RUNNING"),
    ("recovery", "forget", "agent.status, agent.turn = durable_turn(agent)"),
    ("recovery", "forget", "agent.residency = Residency.UNLOADED"),
    (
        "snapshot",
        "ledger_of",
        "agents[ROOT].status, agents[ROOT].turn, agents[ROOT].outcome = (f.status, f.turn, f.outcome)",
    ),
    # A new session, and a copy of one.
    ("state", "_set_up", "self.state = SessionState.OPEN"),
    ("state", "fork", "other.state = self.state"),
}


def core_sources() -> Iterator[tuple[str, ModuleType, ast.Module]]:
    """Every module of the core: its name, itself, its source."""
    for path in sorted(path for room in PURE for path in (PACKAGE / room).glob("*.py")):
        if path.stem != "__init__":
            module = importlib.import_module(f"statemachine.{path.parent.name}.{path.stem}")
            yield path.stem, module, ast.parse(path.read_text("utf-8"))


def statements(tree: ast.AST, function: str = "") -> Iterator[tuple[str, ast.stmt]]:
    """Every statement with the name of the function around it, the outer ones first."""
    for node in ast.iter_child_nodes(tree):
        inner = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) else function
        if isinstance(node, ast.stmt):
            yield function, node
        yield from statements(node, inner)


def own_nodes(statement: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a statement that are not part of a statement inside it."""
    yield statement
    for node in ast.iter_child_nodes(statement):
        if not isinstance(node, ast.stmt):
            yield from own_nodes(node)


def value_of(expression: ast.expr, module: ModuleType) -> Any:
    """What a name, or an attribute of a name, means in that module; None if it means nothing there."""
    if isinstance(expression, ast.Name):
        return getattr(module, expression.id, None)
    if isinstance(expression, ast.Attribute) and isinstance(expression.value, ast.Name):
        return getattr(getattr(module, expression.value.id, None), expression.attr, None)
    return None


def looks_up(value: ast.expr, module: ModuleType, machine: Machine[Any]) -> bool:
    """Is this `TRIGGER[...]` with a look-up of that machine?"""
    moves = value_of(value.value, module) if isinstance(value, ast.Subscript) else None
    return isinstance(moves, Moves) and moves.machine == machine.name


def is_move(statement: ast.stmt, module: ModuleType) -> bool:
    """Is this `x.status = TRIGGER[x.status]`, with a look-up of the right machine?"""
    if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Attribute):
        return False
    target, value = statement.targets[0], statement.value
    if len(statement.targets) > 1 or not looks_up(value, module, MACHINE_OF[target.attr]):
        return False
    assert isinstance(value, ast.Subscript)
    return ast.unparse(value.slice) == ast.unparse(target)


def test_core_assigns_the_state_of_a_machine_only_by_a_look_up_of_that_machine() -> None:
    otherwise, moves = set(), 0
    for name, module, tree in core_sources():
        for function, statement in statements(tree):
            written = [
                node.attr
                for node in own_nodes(statement)
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del)
            ]
            if not MACHINE_OF.keys().isdisjoint(written):
                if is_move(statement, module):
                    moves += 1
                else:
                    otherwise.add((name, function, ast.unparse(statement)))
    assert otherwise == NOT_BY_LOOK_UP
    assert moves >= 15, "fewer moves than triggers: does this test still find them?"


def test_core_never_sets_the_state_of_a_machine_by_the_name_of_an_attribute() -> None:
    setters = ("setattr", "__setattr__", "evolve", "delattr")
    for name, _, tree in core_sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in setters:
                constants = {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
                assert constants, f"{name}: {ast.unparse(node)} sets who knows what"
                assert MACHINE_OF.keys().isdisjoint(constants), f"{name}: {ast.unparse(node)}"


def calls(of: str) -> set[tuple[str, str, str]]:
    """(file, function, call) of every call of that class in the core."""
    return {
        (name, function, ast.unparse(node))
        for name, _, tree in core_sources()
        for function, statement in statements(tree)
        for node in own_nodes(statement)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == of
    }


def test_core_makes_agents_in_the_ledger_alone_and_copies_them_or_reads_their_facts() -> None:
    assert {(name, function) for name, function, _ in calls("Agent")} == {
        ("ledger", "__init__"),  # the root, resident from the start (S13)
        ("ledger", "spawn"),
        ("agents", "copy"),
        ("snapshot", "_add_agent"),  # from its facts, when a store is opened
    }
    (spawned,) = (call for name, function, call in calls("Agent") if function == "spawn")
    assert spawned.endswith(", identity)")
    spawn = (PACKAGE / "core" / "ledger.py").read_text("utf-8")
    assert "identity = SPAWN[Identity.UNKNOWN]\n" in spawn


def test_outcomes_get_their_status_by_a_look_up_on_the_status_before() -> None:
    assert calls("Outcome") == {
        ("turns", "end", "Outcome(agent.id, agent.turn, trigger[before], result, cause, by)"),
        # After a crash: the turn was running or stopping, and `abort` after `stop` leads here.
        (
            *("recovery", "end_by_crash"),
            "Outcome(agent.id, agent.turn, TurnState.INTERRUPTED, 'interrupted by a crash', cause, by)",
        ),
        # What requests are answered that no turn takes any more, while the agent's turn may go on: no end of a turn.
        (
            *("operations", "withdraw"),
            "Outcome(agent.id, agent.turn, INTERRUPTED, 'withdrawn', Cause.WITHDRAWN, event.sender)",
        ),
        (
            *("operations", "interrupt_subtree"),
            "Outcome(agent.id, agent.turn, INTERRUPTED, 'its mail was demoted', Cause.NOT_STARTED, event.sender)",
        ),
    }
    assert TURN.moves("abort")[TURN.moves("stop")[TurnState.RUNNING]] is TurnState.INTERRUPTED
    ends = [(call, 2) for call in calls("turns.end") | calls("end")] + [(call, 0) for call in calls("Ending")]
    given = {ast.unparse(ast.parse(call, mode="eval").body.args[at]) for (_, _, call), at in ends}  # type: ignore[attr-defined]
    given -= {"trigger", "ending.trigger"}  # of those that are given elsewhere
    turns = sys.modules["statemachine.core.turns"]
    assert given == {f"turns.{trigger}" for trigger in ("FINISH", "FAIL", "ABORT", "CANNOT_START")}
    assert {getattr(turns, name.removeprefix("turns.")).machine for name in given} == {TURN.name}


def test_core_moves_slots_only_by_look_ups_of_the_slot_machine() -> None:
    otherwise = set()
    for name, module, tree in core_sources():
        for function, statement in statements(tree):
            if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]).startswith("self.holders["):
                value = statement.value
                assert isinstance(value, ast.Tuple), ast.unparse(statement)
                if not looks_up(value.elts[1], module, SLOT):
                    otherwise.add((name, function, ast.unparse(value.elts[1])))
    # `LIVE_THREADS`: the slot is active or reserved already, and only changes its turn.
    assert otherwise == {("slots", "use_again", "self.holders[agent][1]")}
    assert SlotState.FREE is SLOT.initial


def test_core_compiles_a_look_up_for_every_trigger_of_every_machine() -> None:
    # In a process of its own, because the tests above compile all of them.
    code = "import json, statemachine; from statemachine.core.machines import COMPILED; print(json.dumps([*COMPILED]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    compiled = {(machine, trigger) for machine, trigger in json.loads(done.stdout)}
    assert compiled == {(machine.name, trigger) for machine in MACHINES for trigger in machine.triggers}


def test_core_uses_every_look_up_that_it_compiles() -> None:
    loaded = {
        node.id if isinstance(node, ast.Name) else node.attr
        for _, _, tree in core_sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    for name, module, _ in core_sources():
        for look_up in (key for key, value in vars(module).items() if isinstance(value, Moves)):
            assert look_up in loaded, f"{name}.{look_up} is compiled and never used"
