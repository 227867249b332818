"""What only observes a session: its logging, and what else tells of it. No failure there is one of the session.

A sink is code of others, like a handler of `logging` or the disk of a trace. If it fails, that is told once, and work
goes on without it. `KeyboardInterrupt` alone is passed on: it is delivered to the process, and not an error of a sink.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, MutableMapping
from contextlib import ExitStack
from typing import Any

from statemachine.core.exact import class_name
from statemachine.tracebacks import text_of

__all__ = ["Log", "carry_out_all", "log"]

FRAMES_MAX = 200
"""Most frames of a traceback that is logged."""
LOGGING_FAILED = "statemachine: a handler or filter of logging raised {}; later messages may be lost, too\n"


class Log(logging.LoggerAdapter[logging.Logger]):
    """A logger whose handlers and filters may raise. The first time, that is told on the standard error output."""

    has_failed = False

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Returns both as they are: `extra` is that of the message."""
        return msg, kwargs

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Logs a message; never raises."""
        kwargs.setdefault("stacklevel", 2)  # where the caller is
        try:
            super().log(level, msg, *args, **kwargs)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if not self.has_failed:
                self.has_failed = True
                tell(LOGGING_FAILED.format(type(error).__name__))


class Visible(logging.Filter):
    """Makes the text of a traceback, which is short, and escapes in it what a terminal would obey, and what no file can
    hold: it has texts of agents in it.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets every record pass."""
        if record.exc_info and not record.exc_text:
            error = record.exc_info[1]
            text = None if error is None else text_of(error, record.exc_info[2], FRAMES_MAX)
            text = f"a {class_name(error)} that cannot be told" if text is None else text.rstrip("\n")
            record.exc_text = "".join([c if c == "\n" or c.isprintable() else escaped(c) for c in text])
        return True


def escaped(character: str) -> str:
    """Returns the escape that Python has for the character."""
    return character.encode("unicode_escape").decode("ascii")


def tell(line: str) -> None:
    """Writes to the standard error output, if there is one."""
    try:
        sys.stderr.write(line)
    except (AttributeError, OSError, ValueError):
        return  # none, a broken pipe, or closed


LOGGER = logging.getLogger("statemachine")
LOGGER.addFilter(Visible())
log = Log(LOGGER)
"""The only logger of the runtime and of the stores."""


def carry_out_all(*steps: Callable[[], object]) -> None:
    """Carries out every step, in this order, whatever another one raises. Raises the error of the last that failed; the
    others are its context.
    """
    with ExitStack() as stack:
        for step in reversed(steps):
            stack.callback(step)
