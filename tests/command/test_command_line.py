"""The command as a process: what it prints when its reader leaves, when it is interrupted, and without the extra
(harm, kind 21).
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from model.command import cli
from model.printing import READER_LEFT, Console, ReaderLeft, is_about_the_reader, table
from statemachine import AgentControl, SessionConfig
from tests.runtime.running import in_session

REPOSITORY = Path(__file__).parents[2]
STATEMACHINE = [sys.executable, "-m", "statemachine"]
EXTRA = ("hypothesis", "pytest", "_pytest", "trio", "z3", "crosshair")
"""What comes with the extra alone."""


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), **more}


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    """The command with these words: exit code, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["statemachine", *words])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    said = capsys.readouterr()
    assert isinstance(stopped.value.code, int)
    return stopped.value.code, said.out, said.err


def test_bare_command_prints_its_help_on_many_lines_and_exits_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = run(capsys, monkeypatch)
    assert (code, err) == (2, "")
    assert [line.split()[0] for line in out.splitlines() if line.startswith("  verify")] == ["verify"]
    assert "..." not in out.partition("Commands:")[2], "what a command does is said whole"


# A reader that leaves


@pytest.mark.parametrize("words", ["demo --plain --seconds 0", "demo --plain --seconds 20", "diagram"])
def test_command_whose_reader_leaves_after_a_line_ends_without_a_word(words: str, tmp_path: Path) -> None:
    with subprocess.Popen(
        [*STATEMACHINE, *words.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(TMPDIR=str(tmp_path), PYTHONUNBUFFERED="1"),
        cwd=REPOSITORY,
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline()
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(60) in ((READER_LEFT,) if words.startswith("demo") else (READER_LEFT, 0))
    assert list(tmp_path.iterdir()) == []


def test_command_whose_reader_left_before_the_buffer_was_written_ends_without_a_word() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*STATEMACHINE, "properties", "S1"], stdout=write, stderr=subprocess.PIPE, check=False, env=environment()
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (READER_LEFT, b"")


def test_error_beside_that_of_the_reader_is_not_taken_for_it() -> None:
    nested = BaseExceptionGroup("", [ReaderLeft(), BaseExceptionGroup("", [ReaderLeft()])])
    assert is_about_the_reader(nested)
    assert not is_about_the_reader(BaseExceptionGroup("", [nested, ValueError()]))
    assert not is_about_the_reader(BrokenPipeError())  # of another pipe


# An output that is closed, or full


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the database and the trace of a session."""
    folder = tmp_path_factory.mktemp("session")
    in_session(folder / "session.db", nothing, config=SessionConfig(), trace=folder / "trace.ndjson")
    return folder


LOOKS = ("verify trace.ndjson", "verify session.db", "replay trace.ndjson", "inspect session.db", "export session.db")


def by_shell(words: str, redirections: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The command by a shell, with these redirections."""
    line = f"exec {shlex.join(STATEMACHINE)} {words} {redirections}"
    return subprocess.run(
        line, shell=True, capture_output=True, text=True, check=False, env=environment(), cwd=folder, timeout=60
    )


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&- 2>&-", "2>&-"])
@pytest.mark.parametrize("words", [*LOOKS, "properties S1"])
def test_command_whose_output_is_closed_goes_on_as_without_a_reader(words: str, closed: str, session: Path) -> None:
    done = by_shell(words, closed, session)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", [*LOOKS, "properties S1", "demo --plain --seconds 0"])
def test_command_whose_output_is_full_says_one_line_and_exits_2(words: str, session: Path) -> None:
    done = by_shell(words, "> /dev/full", session)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr == "statemachine: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize(
    ("words", "code"), [*[(words, 0) for words in LOOKS], ("backup session.db copy.db", 0), ("verify missing", 2)]
)
def test_stderr_that_is_full_changes_no_exit_code(words: str, code: int, session: Path) -> None:
    done = by_shell(words, "2> /dev/full", session)
    assert done.returncode == code
    assert bool(done.stdout) is (code == 0)


# Interrupted


INTERRUPTED_AT = {
    "the package": "statemachine.core.config",
    "the entry point": "statemachine.__main__",
    "the command": "model.command.cli",
    "what the command needs": "statemachine.runtime",
}
SITE = """
import signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            sys.meta_path.remove(self)
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize("as_script", [False, True])
@pytest.mark.parametrize("at", INTERRUPTED_AT)
def test_command_interrupted_at_any_import_says_one_line(at: str, as_script: bool, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SITE.format(name=INTERRUPTED_AT[at]), "utf-8")
    script = tmp_path / "statemachine"
    script.write_text("import sys\nfrom statemachine.__main__ import main\nsys.exit(main())\n", "utf-8")
    command = [sys.executable, str(script)] if as_script else STATEMACHINE
    path = os.pathsep.join([str(tmp_path / "site"), str(REPOSITORY)])
    (tmp_path / "site").mkdir()
    (tmp_path / "sitecustomize.py").rename(tmp_path / "site" / "sitecustomize.py")
    done = subprocess.run(
        [*command, "properties"], capture_output=True, text=True, check=False, env=environment(PYTHONPATH=path)
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "statemachine: interrupted\n")


def test_import_by_another_program_leaves_its_interrupts_alone(tmp_path: Path) -> None:
    program = "import signal, statemachine; assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    for name, words in (("other", ()), ("statemachine", ()), ("other", ("-m", "statemachine"))):
        (tmp_path / name).write_text(program, "utf-8")
        done = subprocess.run(
            [sys.executable, str(tmp_path / name), *words], capture_output=True, check=False, env=environment()
        )
        assert (done.returncode, done.stderr) == (0, b"")


IN_A_FINALIZER = """
import _thread, sys, threading, time
from model.command import cli

begun = []

class Timer(threading.Timer):  # its end comes before the hook is left, as many times as is said
    def start(self):
        begun.append(self)
        if len(begun) > int(sys.argv[1]):
            super().start()
        else:
            _thread.interrupt_main()

threading.Timer = Timer

class Finalized:
    def __del__(self):
        raise KeyboardInterrupt

def interrupted():
    Finalized()
    due = time.monotonic() + 60
    while time.monotonic() < due:
        pass
    print("not interrupted")

cli.command.main = lambda **_: interrupted()
cli.main()
"""


@pytest.mark.parametrize("too_early", [0, 1, 5])
def test_interrupt_in_a_finalizer_ends_the_command_and_is_not_printed(too_early: int) -> None:
    """Ctrl-C in a finalizer of z3, of which there are many, would be printed and then forgotten."""
    done = subprocess.run(
        [sys.executable, "-c", IN_A_FINALIZER, str(too_early)],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "statemachine: interrupted\n")


def test_command_interrupted_while_it_imports_says_one_line(tmp_path: Path) -> None:
    """An import of the command takes a second or two, in which Ctrl-C comes as easily as later."""
    (tmp_path / "click.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n", "utf-8")
    path = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
    done = subprocess.run(
        [*STATEMACHINE, "crash"], capture_output=True, text=True, check=False, env=environment(PYTHONPATH=path)
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "statemachine: interrupted\n")


# Without the extra


async def nothing(_: AgentControl) -> None:
    pass


@pytest.fixture
def left_behind(tmp_path: Path) -> Path:
    """A folder with what a session leaves behind, and stand-ins for what is not installed."""
    in_session(tmp_path / "session.db", nothing, config=SessionConfig(), trace=tmp_path / "trace.ndjson")
    for name in EXTRA:
        text = f"raise ModuleNotFoundError(\"No module named '{name}'\", name={name!r})\n"
        (tmp_path / f"{name}.py").write_text(text, "utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("demo --plain --seconds 0", "started  turn 1 of root"),
        ("inspect session.db", "1 open, 0 closed"),
        ("inspect session.db --agent /root --json", '"rollout"'),
        ("replay trace.ndjson", "verdict: HELD"),
        ("verify trace.ndjson", "verdict: "),
        ("verify session.db", "verdict: "),
        ("diagram", "stateDiagram"),
        ("properties", "S15"),
        ("--help", "simulate"),
        ("check --help", "--seed"),
    ],
)
def test_command_that_looks_works_without_the_extra(words: str, expected: str, left_behind: Path) -> None:
    path = os.pathsep.join([str(left_behind), str(REPOSITORY)])
    done = subprocess.run(
        [*STATEMACHINE, *words.split()],
        capture_output=True,
        text=True,
        check=False,
        env=environment(PYTHONPATH=path),
        cwd=left_behind,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert expected in done.stdout


@pytest.mark.parametrize("words", ["check", "fuzz", "simulate", "crash", "explore pair"])
def test_command_that_needs_the_extra_says_what_to_install(words: str, left_behind: Path) -> None:
    path = os.pathsep.join([str(left_behind), str(REPOSITORY)])
    done = subprocess.run(
        [*STATEMACHINE, *words.split()], capture_output=True, text=True, check=False, env=environment(PYTHONPATH=path)
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.endswith("; the command needs: pip install 'agent-statemachine[check]'\n")
    assert "No module named" in done.stderr


# Width


LONG = "/root/" + "/".join(["a" * 30] * 4)


@pytest.mark.parametrize("columns", [80, 40])
def test_table_that_is_too_wide_folds_and_cuts_nothing_off(columns: int, capsys: pytest.CaptureFixture[str]) -> None:
    made = table("property", "transitions", "events/s", "behind it", "last outcome")
    made.add_row(LONG, "1,234,567", "123,456", "1,234,567 states", "completed")
    console = Console()
    console.width = columns
    console.print(made)
    out = capsys.readouterr().out
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= columns
    cells = [[part.strip() for part in line.replace("┃", "│").split("│")] for line in out.splitlines() if "│" in line]
    assert "".join(cell[1] for cell in cells) == LONG


def test_table_in_a_file_is_as_wide_as_it_needs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    made = table("agent")
    made.add_row(LONG)
    Console().print(made)
    assert LONG in capsys.readouterr().out
