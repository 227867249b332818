"""What the README shows is true: the example runs and prints what stands there, and the rest is as generated."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from model.command.cli import command
from tests.documents.programs import HERE, REPOSITORY, assert_types_are_strict, blocks, printed_by

README = (REPOSITORY / "README.md").read_text("utf-8")


LENGTHS = {"run agents": 25}
"""Program of the README, in its order -> lines that it has at most."""


@pytest.mark.parametrize("name", LENGTHS)
def test_program_in_the_readme_prints_what_the_readme_says_and_the_same_when_run_again(
    name: str, tmp_path: Path
) -> None:
    programs = dict(
        zip(LENGTHS, zip(blocks("README.md", "python"), blocks("README.md", "text"), strict=True), strict=True)
    )
    program, expected = programs[name]
    assert len(program.splitlines()) <= LENGTHS[name]
    script = tmp_path / "program.py"
    script.write_text(program, "utf-8")
    for _ in range(2):
        printed = printed_by(script)
        assert printed.strip() == expected.strip(), f"the README should say:\n{printed}"


def test_programs_in_the_readme_pass_strict_type_checking(tmp_path: Path) -> None:
    assert_types_are_strict(blocks("README.md", "python"), tmp_path)


def test_package_imported_for_its_core_loads_nothing_of_the_runtime_until_it_is_asked_for() -> None:
    program = """
import sys, statemachine
heavy = {"anyio", "asyncio", "sqlite3", "statemachine.runtime", "statemachine.stores"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
from statemachine import AgentControl, Thread, Turn
import statemachine.runtime
assert (AgentControl, Thread, Turn) == tuple(
    getattr(statemachine.runtime, name) for name in ("AgentControl", "Thread", "Turn")
)
assert statemachine.__dict__["AgentControl"] is AgentControl
assert set(statemachine.__all__) <= {name for name in statemachine.__all__ if hasattr(statemachine, name)}
try:
    statemachine.AgentControll
except AttributeError as error:
    assert str(error) == "module 'statemachine' has no attribute 'AgentControll'", error
else:
    raise AssertionError
"""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False, env=HERE
    )
    assert (ran.returncode, ran.stderr) == (0, "")


def test_commands_in_the_readme_are_all_that_there_are() -> None:
    table = re.findall(r"^\| `statemachine (\w+)` \|", README, re.MULTILINE)
    assert sorted(table) == sorted(command.commands)
    for name in table:
        assert CliRunner().invoke(command, [name, "--help"]).exit_code == 0


def test_targets_of_make_in_the_readme_are_in_the_makefile() -> None:
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    targets = set(
        re.findall(r"\bmake (\w+)", "\n".join([*blocks("README.md", "sh"), *re.findall(r"`[^`\n]+`", README)]))
    )
    assert targets >= {"check", "test"}
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_figures_in_the_readme_stand_between_their_markers() -> None:
    begin, _, rest = README.partition("<!-- figures -->")
    figures, end, _ = rest.partition("<!-- /figures -->")
    assert begin
    assert end
    assert "| what | figure |" in figures
