"""What users install: the wheel, in an environment of its own, beside a project that has its own module `model`.

No test here needs a network: hatchling builds, pip installs the file that was built and no dependencies, and those are
taken from the environment of the tests.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import textwrap
import venv
from importlib.metadata import distribution
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

from model.fuzzing import fuzz
from statemachine import __main__ as front

REPOSITORY = Path(__file__).parents[1]
OURS = "agent-statemachine"


def run(*words: str | Path, at: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a program in a folder, with nothing of the settings of the tests around it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    return subprocess.run(
        list(map(str, words)), capture_output=True, text=True, check=False, env=environment, cwd=at, timeout=120
    )


def build(target: str, source: Path, folder: Path) -> Path:
    """Builds a distribution from a source folder; its file."""
    done = run(sys.executable, "-m", "hatchling", "build", "-t", target, "-d", folder, at=source)
    assert done.returncode == 0, done.stderr
    (made,) = folder.iterdir()
    return made


def files(wheel: Path) -> dict[str, bytes]:
    """Name -> content of every file in a wheel."""
    with ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


class Environment:
    """A virtual environment with the wheel in it, and other distributions linked from a folder or where they are."""

    def __init__(self, home: Path, wheel: Path, others: Path) -> None:
        venv.create(home)
        paths = sysconfig.get_paths("venv", {"base": str(home), "platbase": str(home)})
        self.bin = Path(paths["scripts"])
        self.python = self.bin / "python"
        pip = (sys.executable, "-m", "pip", "--python", self.python, "--disable-pip-version-check", "-q")
        done = run(*pip, "install", "--no-deps", "--no-index", "--no-compile", wheel, at=home)
        assert done.returncode == 0, done.stderr
        # a .pth file in a folder that another one names is not read, so an editable install there does not count
        Path(paths["purelib"], "others.pth").write_text(f"{others}\n", "utf-8")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", REPOSITORY, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    """As after `pip install 'agent-statemachine[check]'`."""
    return Environment(tmp_path_factory.mktemp("full"), wheel, Path(sysconfig.get_path("purelib")))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    """As after `pip install agent-statemachine`: what it requires is there, and nothing else."""
    home, others = tmp_path_factory.mktemp("plain"), tmp_path_factory.mktemp("required")
    for name in required(OURS) - {OURS}:
        found = distribution(name)
        for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            (others / top).symlink_to(Path(str(found.locate_file(top))))
    return Environment(home, wheel, others)


def required(name: str) -> set[str]:
    """The distribution and all that it requires without any extra, by their names."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        found.add(one := waiting.pop())
        needs = map(Requirement, distribution(one).requires or ())
        waiting += [
            r.name for r in needs if (r.marker is None or r.marker.evaluate({"extra": ""})) and r.name not in found
        ]
    return found


# What is built


def test_wheel_has_both_packages_whole_and_no_other_name_at_the_top(wheel: Path) -> None:
    inside = files(wheel)
    tops = {name.partition("/")[0] for name in inside}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"statemachine", "statemachine_model"}
    for folder, package in (("statemachine", "statemachine"), ("model", "statemachine_model")):
        ours = [path for path in (REPOSITORY / folder).rglob("*") if path.suffix in (".py", ".typed", ".pml")]
        expected = {f"{package}/{path.relative_to(REPOSITORY / folder).as_posix()}": path.read_bytes() for path in ours}
        assert {name: content for name, content in inside.items() if name.startswith(f"{package}/")} == expected


def test_wheel_built_from_the_source_distribution_is_the_same(wheel: Path, tmp_path: Path) -> None:
    packed = build("sdist", REPOSITORY, tmp_path / "packed")
    shutil.unpack_archive(packed, tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    assert (source / "model" / "reference.py").is_file()
    assert files(build("wheel", source, tmp_path / "again")) == files(wheel)


def test_editable_install_has_the_folders_as_they_are_and_copies_nothing(tmp_path: Path) -> None:
    inside = files(build("wheel:editable", REPOSITORY, tmp_path))
    code = {name: text.decode() for name, text in inside.items() if ".dist-info/" not in name}
    assert list(map(str.strip, code.values())) == [str(REPOSITORY)]


# A project that uses it


EXAMPLE = re.compile(r"::\n\n((?: {4}.*\n|\n)+)")
BROKEN = """\
from pathlib import Path

import pytest
from statemachine.core import rules
from test_ours import Ours, run


def test_broken_rule_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "goes_on", lambda _: False)
    failure = run(examples=30, steps=200, seed=1, folder=tmp_path, machine=Ours).failure
    assert failure is not None
    assert failure.trace.parent == tmp_path
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with its own module `model`, and tests: of that, and the one that our docstring tells it to write."""
    found = EXAMPLE.search(fuzz.__doc__ or "")
    assert found is not None
    for name, text in {
        "model.py": "PRICE = 7\n",
        "test_model.py": "import model\n\n\ndef test_price() -> None:\n    assert model.PRICE == 7\n",
        "test_ours.py": textwrap.dedent(found[1]),
        "test_broken.py": BROKEN,
    }.items():
        (tmp_path / name).write_text(text, "utf-8")
    return tmp_path


def test_project_with_its_own_model_tests_that_and_fuzzes_with_our_machine(full: Environment, project: Path) -> None:
    done = run(full.python, "-m", "pytest", "-v", "-W", "error", "-p", "no:cacheprovider", at=project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(re.findall(r"^(\S+) PASSED", done.stdout, re.MULTILINE)) == [
        "test_broken.py::test_broken_rule_is_found",
        "test_model.py::test_price",
        "test_ours.py::test_sessions_with_our_configuration_keep_every_rule",
    ]


# The command


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A folder with a module `model` that must not be taken for ours."""
    (tmp_path / "model.py").write_text("raise RuntimeError('the model of another project was imported')\n", "utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("statemachine explore reject", "620"),  # in processes that are forks
        ("statemachine crash --kills 1", "0 lost, 0 there twice"),  # in a process that is named by its module
        ("python -m statemachine simulate --seeds 2", "2 seeds from 1, "),  # in processes that are spawned
        ("python -m statemachine check --help", "Check the rules"),
    ],
)
def test_command_in_the_folder_of_another_model_works_by_name_and_as_a_module(
    words: str, expected: str, full: Environment, foreign: Path
) -> None:
    program, *arguments = words.split()
    done = run(full.bin / program, *arguments, at=foreign)
    assert (done.returncode, done.stderr) == (0, "")
    assert expected in done.stdout


def test_command_that_writes_documents_says_that_a_wheel_has_none_and_writes_nothing(
    full: Environment, tmp_path: Path
) -> None:
    (tmp_path / "specs").mkdir()
    done = run(full.bin / "statemachine", "docs", at=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "run this in a checkout of the repository" in done.stderr
    assert list((tmp_path / "specs").iterdir()) == []
    done = run(full.python, "-m", "statemachine_model.scenarios.golden", at=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "run this in a checkout of the repository" in done.stderr


def test_product_without_the_extra_works_and_a_command_that_needs_it_says_what_to_install(
    plain: Environment, foreign: Path
) -> None:
    program = "import statemachine; statemachine.AgentControl; print(statemachine.Session)"
    assert (
        run(plain.python, "-W", "error", "-c", program, at=foreign).stdout
        == "<class 'statemachine.core.session.Session'>\n"
    )
    for command in ((plain.bin / "statemachine",), (plain.python, "-m", "statemachine")):
        done = run(*command, "check", at=foreign)
        assert (done.returncode, done.stdout) == (2, "")
        assert re.fullmatch(
            r"statemachine: No module named '\w+'; the command needs: pip install 'agent-statemachine\[check\]'\n",
            done.stderr,
        )
    done = run(plain.bin / "statemachine", "demo", "--plain", "--seconds", "0", at=foreign)
    assert (done.returncode, done.stderr) == (0, "")
    assert "session.db: verdict: HELD" in done.stdout


def test_command_of_a_checkout_takes_the_model_beside_it_or_none(
    full: Environment, foreign: Path, tmp_path: Path
) -> None:
    program = "from statemachine.__main__ import judging_package; print(judging_package())"
    look_up = (full.python, "-P", "-c", program)
    assert run(*look_up, at=foreign).stdout == "statemachine_model\n"
    assert run(*look_up, at=foreign, path=REPOSITORY).stdout == "model\n", "that of the wheel is of another version"
    done = run(full.python, "-m", "statemachine", at=foreign, path=REPOSITORY)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"cannot be imported from {REPOSITORY}: it is not there, or another one comes first" in done.stderr


def test_module_of_ours_that_is_missing_is_a_defect_and_not_a_matter_of_installing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def import_module(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(front, "import_module", import_module)
    with pytest.raises(ModuleNotFoundError, match=r"model\.command\.cli"):
        front.main()
