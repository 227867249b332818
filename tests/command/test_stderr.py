"""What a process of a command writes to stderr, or logs, has nothing that a terminal obeys or does not show, by
whatever way it comes (harm, kind 10).
"""

from __future__ import annotations

import io
import logging
import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from model.printing import Plain
from statemachine.core.machines import TurnState
from statemachine.hosting import SessionClient
from statemachine.sinks import VisibleRecord, visible
from tests.command.logging_work import EVIL, OWN

REPOSITORY = Path(__file__).parents[2]
HOST = (sys.executable, "-m", "statemachine", "host")
WORK = ("--work", "tests.command.logging_work:work")
WAYS = ("asyncio", "warning", "logger", "logged", "printed", "thread", "finalizer", "turn")
"""First words of what reaches stderr."""


def environment() -> dict[str, str]:
    """That of the tests, with a terminal that has colours, if it is one."""
    without = ("NO_COLOR", "FORCE_COLOR", "PYTHON_COLORS", "COLUMNS")
    kept = {name: value for name, value in os.environ.items() if name not in without}
    return {**kept, "PYTHONPATH": str(REPOSITORY), "TERM": "xterm"}


def on_a_terminal(program: str) -> str:
    """What the program writes to its stderr, which is a terminal, with the ends of lines that a program writes."""
    terminal, end = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", program], stderr=end, env=environment()) as child:
        os.close(end)
        said = b""
        with suppress(OSError):  # at its end
            while part := os.read(terminal, 4096):
                said += part
        assert child.wait(60) is not None
    os.close(terminal)
    return said.decode().replace("\r\n", "\n")


# A host, in whose process the code of users runs


@pytest.fixture(scope="module")
def of_a_host(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """What a host says on stdout and stderr while its agents fail in every way."""
    pytest.importorskip("websockets")
    folder = tmp_path_factory.mktemp("host")

    async def call() -> None:
        async with SessionClient(str(folder / "f")) as client:
            handle = await client.session("one").start("/root", "go")
            assert (await handle.outcome()).status is TurnState.ERRORED

    command = [*HOST, str(folder / "f"), *WORK]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), text=True, cwd=REPOSITORY
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline().startswith("serving at ")
            anyio.run(call)
        finally:
            child.terminate()
            out, err = child.communicate(timeout=60)
    return out, err


@pytest.mark.parametrize("way", WAYS)
def test_host_escapes_what_reaches_stderr(way: str, of_a_host: tuple[str, str]) -> None:
    _, err = of_a_host
    assert way in err
    assert visible(err) == err


def test_host_escapes_what_its_work_logs_to_stdout_and_leaves_what_it_prints(of_a_host: tuple[str, str]) -> None:
    out, _ = of_a_host
    assert OWN in out
    logged = out.replace(OWN, "")
    assert visible(logged) == logged
    assert logged.count("owned") == 2  # the message and its traceback


# Any command


RAISES = f"""
import atexit, sys
from model.command import cli
from model.printing import Console

class Finalized:
    def __del__(self):
        raise ValueError("late" + {EVIL!r})

def run(**_):
    Console(stderr=True).print("ours", style="bold red")
    with Console(stderr=True).status("under way"):
        sys.stderr.write("meanwhile" + {EVIL!r} + "\\x1b[35m\\x1b]8;;http://a.b\\x1b\\\\\\n")
    global kept
    kept = Finalized()
    raise RuntimeError({EVIL!r})

cli.command.main = run
cli.main()
"""


def test_error_that_ends_a_command_is_escaped_and_our_own_colours_stay() -> None:
    said = on_a_terminal(RAISES)
    assert "\x1b[1;31mours" in said
    rest = said.partition("Traceback")[2]
    assert "RuntimeError: \\u001b]0;owned" in rest
    assert "late\\u001b]0;owned" in rest
    assert visible(rest) == rest


def test_text_of_others_gets_neither_colour_nor_link_while_something_live_is_drawn_on_a_terminal() -> None:
    said = on_a_terminal(RAISES)
    line = next(line for line in said.splitlines() if "meanwhile" in line)
    assert "meanwhile\\u001b]0;owned" in line
    assert "\x1b[35m" not in line
    assert "\x1b]8" not in said


def test_own_stream_is_found_below_that_of_something_live() -> None:
    program = """
from model.command import cli
from model.printing import Console

def run(**_):
    with Console(stderr=True).status("under way"):
        Console(stderr=True).print("ours", style="bold red")

cli.command.main = run
cli.main()
"""
    assert "\x1b[1;31mours" in on_a_terminal(program)


def test_plain_stream_has_what_streams_have() -> None:
    below = io.TextIOWrapper(io.BytesIO(), "cp1252", "backslashreplace", write_through=True)
    stream = Plain(below)
    assert stream.write(f"a{EVIL}\n日") == len(f"a{EVIL}\n日")
    stream.writelines(["b", "\x07"])
    print("c\x1b", file=stream, flush=True)
    assert stream.buffer is below.buffer
    assert (stream.encoding, stream.errors, stream.isatty()) == ("cp1252", "backslashreplace", False)
    stream.reconfigure(errors="strict")
    assert stream.errors == "strict"
    stream.close()
    said = below.detach().getvalue().decode("cp1252")
    assert said == "a\\u001b]0;owned\\u0007\\u009b2J\\u202e\\ufe0f\n\\u65e5b\\u0007c\\u001b\n"


# Records


def test_record_of_any_logger_is_visible_and_a_wrong_one_disturbs_no_other() -> None:
    def made(message: str, *args: object, exc_info: object = None) -> logging.LogRecord:
        return VisibleRecord("a", logging.ERROR, "f.py", 1, message, args, exc_info)

    text = logging.Formatter("\x1b[31m%(message)s\x1b[0m").format(
        made("%s", EVIL, exc_info=(KeyError, KeyError(1), None))
    )
    assert text == "\x1b[31m\\x1b]0;owned\\x07\\x9b2J\\u202e\\ufe0f\x1b[0m\nKeyError: 1"
    assert made("x", exc_info=(1,)).getMessage() == "x"
    with pytest.raises(TypeError):
        made("%s %s", 1).getMessage()
