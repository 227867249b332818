"""Ends the command quietly when Ctrl-C comes while it is still imported, which takes a second or two.

Most of that time passes before `__main__` runs: Python imports this package first, so its first line imports this
module. It does something only where the package is imported as the command. A `KeyboardInterrupt` there would be a
traceback, or be taken by what is imported for an error of its own.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any, NoReturn

INTERRUPTED = 130
"""Exit code, as a shell reports SIGINT."""
SCRIPT_BYTES_MAX = 4096
"""More than any installer's script has."""


def is_run_as_module() -> bool:
    """Tells whether this is `python -m statemachine`."""
    program = sys.argv[0] if sys.argv else ""
    if program != "-m" and not program.endswith(os.path.join("statemachine", "__main__.py")):
        return False
    _, _, after = " ".join(sys.orig_argv).partition(" -m ")  # the first one is that of Python
    return after.split(" ")[0] in ("statemachine", "statemachine.__main__")


def is_run_as_script() -> bool:
    """Tells whether this is the script `statemachine` that an installer made, which imports `statemachine.__main__`."""
    path = sys.argv[0] if sys.argv else ""
    if os.path.basename(path) != "statemachine":
        return False
    try:
        with open(path, "rb") as file:
            return b"statemachine.__main__" in file.read(SCRIPT_BYTES_MAX)
    except OSError:
        return False


def end(*_: Any) -> NoReturn:
    """Ends the process with one line: nothing has begun that would have to be ended first."""
    try:
        os.write(2, b"statemachine: interrupted\n")
    finally:
        os._exit(INTERRUPTED)


def begin_quiet() -> None:
    """From now on Ctrl-C ends the process with one line, unless it is ignored or has a handler already."""
    is_main = threading.current_thread() is threading.main_thread()  # no other one may set a handler
    if is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end)


def end_quiet() -> None:
    """From now on Ctrl-C raises `KeyboardInterrupt` again."""
    if signal.getsignal(signal.SIGINT) is end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


if is_run_as_module() or is_run_as_script():
    begin_quiet()
