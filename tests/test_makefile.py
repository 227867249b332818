"""`make` with another Python has an environment of its own (harm, kind 20). Nothing is built here: make says what it
would do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
MAKE = shutil.which("make")

pytestmark = pytest.mark.skipif(MAKE is None, reason="make is not installed")


def would_do(*words: str, **more: str) -> str:
    """What `make` would do."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHON", "MAKEFLAGS")}
    command = [MAKE or "make", "-n", *words]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**inherited, **more}, cwd=REPOSITORY
    )
    return done.stdout


def python(folder: Path, version: str) -> Path:
    """A program that says that it is this Python."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\necho {version}\n", "utf-8")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("version", "expected"), [("3.11", ".venv"), ("3.12", ".venv-3.12"), ("3.13", ".venv-3.13"), ("3.14", ".venv-3.14")]
)
def test_make_with_a_python_of_another_version_uses_an_environment_of_its_own(
    version: str, expected: str, tmp_path: Path
) -> None:
    program = python(tmp_path, version)
    for said in (would_do("test", f"PYTHON={program}"), would_do("test", PYTHON=str(program))):
        assert f"\n{expected}/bin/python -m pytest" in f"\n{said}"
    assert f"{expected}/bin/pyright --pythonpath {expected}/bin/python" in would_do("lint", f"PYTHON={program}")


def test_make_without_a_python_uses_the_environment_of_the_reference_version() -> None:
    assert "\n.venv/bin/python -m pytest" in f"\n{would_do('test')}"
