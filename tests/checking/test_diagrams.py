"""The machines as the library `transitions` shows them: stepped by hand, as Mermaid text, as a picture.

That their moves are those of the core is the matter of `test_machines.py`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from transitions import MachineError

from statemachine.checking import diagrams
from statemachine.core.machines import MACHINES, TURN, Machine

every_machine = pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)


def edges(machine: Machine[Any]) -> set[tuple[str, str, str]]:
    """(trigger, from, to), by the names that readers see."""
    return {(r.trigger, s.name.lower(), r.target.name.lower()) for r in machine.rows for s in r.sources}


def test_load_without_a_model_gives_one_in_the_initial_state_that_triggers_move() -> None:
    turn = diagrams.load(TURN)
    seen = [turn.state]
    for step in (turn.request, turn.admit, lambda: turn.trigger("start"), turn.finish):
        assert step() is True
        seen.append(turn.state)
    assert seen == ["new", "queued", "starting", "running", "completed"]


def test_load_with_a_model_moves_that_model() -> None:
    class Mine:
        state = ""

    mine = Mine()
    assert diagrams.load(TURN, mine) is mine
    assert mine.state == "new"


def test_a_loaded_machine_refuses_an_illegal_trigger_with_the_librarys_error_and_stays() -> None:
    turn = diagrams.load(TURN)
    with pytest.raises(MachineError, match="Turn: Can't trigger event finish from state new"):
        turn.finish()
    assert turn.state == "new"


@every_machine
def test_a_loaded_machine_has_no_triggers_but_those_of_its_table(machine: Machine[Any]) -> None:
    model = diagrams.load(machine)
    assert [name for name in dir(model) if name.startswith("to_")] == []
    with pytest.raises(AttributeError):
        model.trigger(f"to_{machine.states[-1].name.lower()}")


@every_machine
def test_mermaid_draws_exactly_the_moves_of_the_table_and_where_it_begins(machine: Machine[Any]) -> None:
    lines = [line.strip() for line in diagrams.mermaid(machine).splitlines()]
    assert lines[:4] == ["---", f"title: {machine.name}", "---", "stateDiagram-v2"]
    drawn = [line.partition(": ") for line in lines if " --> " in line]
    start = f"[*] --> {machine.initial.name.lower()}"
    assert [line for line, _, label in drawn if not label] == [start]
    found = [(trigger, *arrow.split(" --> ")) for arrow, _, label in drawn if label for trigger in label.split(" | ")]
    assert len(found) == len(set(found))
    assert set(found) == edges(machine)


@every_machine
def test_mermaid_gives_every_state_one_style_that_is_defined(machine: Machine[Any]) -> None:
    words = [line.split() for line in diagrams.mermaid(machine).splitlines()]
    defined = {line[1] for line in words if line[0] == "classDef"}
    styled = {line[1]: line[2] for line in words if line[0] == "Class"}
    initial = machine.initial.name.lower()
    assert styled == {s.name.lower(): "s_active" if s.name.lower() == initial else "s_default" for s in machine.states}
    assert set(styled.values()) == defined


def stand_in_for_dot(folder: Path) -> None:
    """A program `dot` that says what it was asked for and given."""
    program = folder / "dot"
    program.write_text(f"#!{sys.executable}\nimport sys\nprint(sys.argv[1:])\nprint(sys.stdin.read())\n")
    program.chmod(0o755)


def test_svg_with_the_program_dot_gives_back_what_it_draws_of_the_whole_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in_for_dot(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    asked, *given = diagrams.svg(TURN).splitlines()
    assert "-Tsvg" in asked
    found = set()
    for line in given:
        arrow, _, rest = line.partition(" [label=")
        if " -> " in arrow:
            labels = rest.split("]")[0].split(" color=")[0].strip('"')
            found |= {(trigger, *arrow.split(" -> ")) for trigger in labels.split(" | ")}
    assert {tuple(part.strip() for part in edge) for edge in found} == edges(TURN)


@pytest.mark.skipif(shutil.which("dot") is None, reason="the Graphviz program 'dot' is not installed")
@every_machine
def test_svg_with_graphviz_installed_is_a_picture_with_every_state_in_it(machine: Machine[Any]) -> None:
    picture = ElementTree.fromstring(diagrams.svg(machine))
    texts = {element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert {state.name.lower() for state in machine.states} <= texts


def test_svg_without_the_program_dot_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(diagrams.DrawingUnavailable, match="apt install graphviz") as caught:
        diagrams.svg(TURN)
    assert caught.value.missing == "the program 'dot'"


def test_svg_without_the_package_graphviz_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "graphviz", None)
    with pytest.raises(diagrams.DrawingUnavailable, match=r"pip install 'agent-statemachine\[diagrams\]'") as caught:
        diagrams.svg(TURN)
    assert caught.value.missing == "the Python package 'graphviz'"


def test_import_of_the_package_and_of_diagrams_does_not_import_transitions() -> None:
    imports = "import sys, statemachine, statemachine.checking.diagrams"
    code = f"{imports}; print(*sorted({{'transitions', 'graphviz'}} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
