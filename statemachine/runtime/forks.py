"""Ends a process that an agent's code has forked, where that code ends.

Such a process has a copy of the session and of the event loop. `sys.exit` in it is an exit of the agent's code, which
in the process of the session is an error of its turn alone: the copy would go on, and wait for ever on what belongs to
the other process.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import NoReturn

from statemachine.core.exact import said


def end_if_forked(process: int, error: BaseException) -> None:
    """Ends this process if it is not `process`, where the code of a coroutine has ended by this exception: with the
    code with which Python ends a program that it leaves, and with 0 if the coroutine has returned.
    """
    if os.getpid() != process:
        _end(error)


def _end(error: BaseException) -> NoReturn:
    code = 1
    with suppress(BaseException):
        if isinstance(error, StopIteration):
            code = 0
        elif not isinstance(error, SystemExit):
            sys.excepthook(type(error), error, error.__traceback__)
        elif error.code is None or isinstance(error.code, int):
            code = error.code or 0
        else:
            print(said(error), file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        with suppress(BaseException):
            stream.flush()
    os._exit(code & 0xFF)  # nothing that was begun before the fork is this process's to clean up
