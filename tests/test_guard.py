"""python-statemachine uses the import name `statemachine` too: whoever has both is told, and by which imports.

Each case is a process of its own, with a folder on its path in which the other distribution seems to be installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import statemachine
from statemachine.guard import MESSAGE, refuse_the_other

ROOT = Path(statemachine.__file__).parent.parent

# What the other distribution's __init__.py looks like: it imports modules that only it has.
FOREIGN = """\
from .event import Event
from .statemachine import StateChart

__version__ = "3.2.2"
__all__ = ["Event", "StateChart"]
"""


def run(code: str, *path: Path) -> subprocess.CompletedProcess[str]:
    """Runs the code in a new process in which these folders come first on the path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    command = [sys.executable, "-B", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=path[0])


def assert_refused(done: subprocess.CompletedProcess[str]) -> None:
    """The process ended with the guard's message as its error."""
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"ImportError: {MESSAGE}"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A folder in which python-statemachine is installed, as far as its metadata goes."""
    folder = tmp_path / "other"
    (folder / "python_statemachine-3.2.2.dist-info").mkdir(parents=True)
    return folder


def install(folder: Path) -> Path:
    """Our packages in this folder: the model under the name that a checkout has, and that of a wheel."""
    for package, name in (("statemachine", "statemachine"), ("model", "model"), ("model", "statemachine_model")):
        shutil.copytree(ROOT / package, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which this distribution is installed."""
    return install(tmp_path_factory.mktemp("ours"))


@pytest.fixture
def overwritten(tmp_path: Path) -> Path:
    """A folder in which both are installed, and the other one came last: its files have replaced ours."""
    folder = install(tmp_path / "overwritten")
    (folder / "python_statemachine-3.2.2.dist-info").mkdir()
    (folder / "statemachine" / "__init__.py").write_text(FOREIGN)
    (folder / "statemachine" / "events.py").write_text("class Events: ...\n")
    (folder / "statemachine" / "event.py").write_text("class Event: ...\n")
    (folder / "statemachine" / "statemachine.py").write_text("class StateChart: ...\n")
    return folder


IMPORTS = (
    "import statemachine",
    "import model",
    "from statemachine.core.session import Session",
    "import model.lockstep",
    "import statemachine_model",
    "from statemachine_model.fuzzing.fuzz import Fuzz",
)
COMMAND = "from statemachine.__main__ import main; main()"


@pytest.mark.parametrize("code", IMPORTS)
def test_an_import_without_the_other_distribution_works(code: str, tmp_path: Path, ours: Path) -> None:
    done = run(code, tmp_path, ours)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("code", [*IMPORTS, COMMAND])
def test_an_import_beside_the_other_distribution_fails_with_the_reason_and_the_remedy(
    code: str, other: Path, ours: Path
) -> None:
    assert_refused(run(code, other, ours))


@pytest.mark.parametrize("code", [*IMPORTS[1:], COMMAND])
def test_an_import_of_our_modules_after_the_other_has_replaced_init_still_says_so(code: str, overwritten: Path) -> None:
    assert_refused(run(code, overwritten))


@pytest.mark.parametrize("code", [*IMPORTS, COMMAND])
def test_an_import_when_the_other_has_replaced_modules_but_not_init_says_so_before_it_stumbles_over_them(
    code: str, overwritten: Path
) -> None:
    shutil.copy(ROOT / "statemachine" / "__init__.py", overwritten / "statemachine" / "__init__.py")
    assert_refused(run(code, overwritten))


def test_the_replaced_package_itself_is_the_others_so_nothing_of_ours_can_speak(overwritten: Path) -> None:
    done = run("import statemachine; print(statemachine.__version__)", overwritten)
    assert (done.returncode, done.stdout) == (0, "3.2.2\n"), "if this fails, the cases above test something else"


def test_an_import_beside_a_distribution_with_a_similar_name_works(tmp_path: Path) -> None:
    for name in ("python_statemachine_extras-1.0.dist-info", "agent_statemachine-0.1.0.dist-info"):
        (tmp_path / name).mkdir()
    assert run("import statemachine", tmp_path, ROOT).returncode == 0


@pytest.mark.parametrize(
    "name",
    ["python_statemachine-3.2.2.dist-info", "python_statemachine-0.9.0.egg-info", "python_statemachine.egg-info"],
)
def test_the_guard_knows_the_other_by_every_kind_of_metadata(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(ImportError, match="pip uninstall python-statemachine agent-statemachine") as caught:
        refuse_the_other([str(tmp_path)])
    assert caught.value.name == "statemachine"


def test_the_guard_passes_over_places_on_the_path_that_are_no_folders(tmp_path: Path) -> None:
    (tmp_path / "archive.zip").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    refuse_the_other([str(tmp_path / name) for name in ("archive.zip", "empty", "gone", "archive.zip/inside")])


def test_the_guard_looks_into_the_working_directory_for_the_empty_entry(
    other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(other)
    with pytest.raises(ImportError, match="python-statemachine is installed beside agent-statemachine"):
        refuse_the_other([""])
