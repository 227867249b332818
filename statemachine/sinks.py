"""What only observes a session: its logging, and what else tells of it. No failure there is one of the session.

A sink is code of others, like a handler of `logging` or the disk of a trace. If it fails, that is told once, and work
goes on without it. `KeyboardInterrupt` alone is passed on: it is delivered to the process, and not an error of a sink.
"""

from __future__ import annotations

import logging
import re
import sys
import unicodedata
from collections.abc import Callable, MutableMapping
from contextlib import ExitStack, suppress
from typing import Any

from statemachine.core.exact import class_name
from statemachine.tracebacks import text_of

__all__ = ["Log", "VisibleRecord", "carry_out_all", "log", "visible"]

FRAMES_MAX = 200
"""Most frames of a traceback that is logged."""
IGNORABLE = (
    "\u00ad\u034f\u061c\u115f-\u1160\u17b4-\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""What has no shape of its own, as ranges of a regular expression: `Default_Ignorable_Code_Point` in Unicode 17.0
(DerivedCoreProperties.txt, 4,174 code points, the same since 14.0). `str.isprintable` takes many of them for printable,
and `unicodedata` does not have this property.
"""
BLANK = "\u2800\U00013441-\U00013442\U00016fe4\U0001d159"
"""What looks like nothing, and is neither ignorable nor a space: the pattern of Braille without dots, the blanks of
hieroglyphs, the filler of Khitan, the notehead that is not drawn.
"""
UNSEEN = re.compile(f"[{IGNORABLE}{BLANK}]")
NOT_ASCII = re.compile(r"[^\n -~]+")
"""A run of what is not printable ASCII or the end of a line, and so has to be looked at."""
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
                tell(visible(LOGGING_FAILED.format(class_name(error))))


class Visible(logging.Filter):
    """Makes the text of a traceback, which is short, and escapes in it and in the message what a terminal would obey or
    not show, and what no file can hold: they have texts of agents and of others in them.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets every record pass."""
        message = record.getMessage()
        shown = visible(message)
        if shown != message:  # otherwise the record keeps its arguments, for those who look at them
            record.msg, record.args = shown, None
        tell_traceback(record)
        return True


class VisibleRecord(logging.LogRecord):
    """A record of any logger, told as `Visible` does, wherever a handler writes it. It is for a process in which logs
    of others' code reach a terminal, such as `statemachine host`; `logging.setLogRecordFactory` takes it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        with suppress(Exception):  # an `exc_info` that is not one is for the handler to tell, not for who logs
            tell_traceback(self)

    def getMessage(self) -> str:  # the name is that of `logging`
        """Returns the message with its arguments in it."""
        return visible(super().getMessage())


def tell_traceback(record: logging.LogRecord) -> None:
    """Makes the text of the traceback, if the record has an exception. Formatters take it, and make no other."""
    if record.exc_info and not record.exc_text:
        error = record.exc_info[1]
        text = None if error is None else text_of(error, record.exc_info[2], FRAMES_MAX)
        text = f"a {class_name(error)} that cannot be told" if text is None else text.rstrip("\n")
        record.exc_text = visible(text)


def escaped(character: str) -> str:
    """Returns the escape that Python has for the character."""
    return character.encode("unicode_escape").decode("ascii")


def visible(text: str, escape: Callable[[str], str] = escaped) -> str:
    """Returns the text with escapes for all characters that are not simply visible: control characters except the end
    of a line, those that change the direction of writing, have no shape or look like nothing, and lone surrogates.
    Spaces of every width stay.
    """

    def seen(run: re.Match[str]) -> str:
        found = run[0]
        if found.isprintable() and not UNSEEN.search(found):
            return found
        return "".join([c if is_visible(c) else escape(c) for c in found])

    return text if text.isascii() and text.isprintable() else NOT_ASCII.sub(seen, text)


def is_visible(character: str) -> bool:
    """Tells whether a person sees the character, or sees that it is a space."""
    if character.isprintable():
        return not UNSEEN.match(character)
    return unicodedata.category(character) == "Zs"


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
