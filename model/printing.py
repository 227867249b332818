"""Prints for people and programs: the one way to stdout and stderr for every command.

Texts of agents, of files and of users are printed too, and a terminal obeys what it gets. So every character that could
act on a terminal, hide, or change the order of others is printed as its escape, whatever the encoding of the output.
What has no bound of its own gets one with `bounded`.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.status import Status as RichStatus
from rich.table import Table
from rich.text import Text

from statemachine.sinks import visible

if TYPE_CHECKING:
    from typing_extensions import Buffer

LINE_MAX = 2_000
"""Most characters of a line about something that has no bound of its own, such as a line of a trace."""
ERROR_MAX = 1_000
"""Most characters of an error."""
READER_LEFT = 141
"""Exit code of a command whose output is not read to its end, as a shell reports SIGPIPE."""
FILE_WIDTH = 200
"""Columns of an output that is not a terminal, unless COLUMNS says otherwise."""


def printable(text: str) -> str:
    """Returns the text with escapes for all characters that are not simply visible (`statemachine.sinks.visible`)."""
    return visible(text, escape)


def on_one_line(text: str) -> str:
    """Returns the text as `printable` does, with escapes for the ends of lines too: it looks like nothing else."""
    return printable(text).replace("\n", escape("\n"))


def escape(character: str) -> str:
    r"""Returns the escape of a character. JSON has the same for those up to U+FFFF, so printed JSON stays JSON: it has
    no others, because `json.dumps` writes them in ASCII.
    """
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def bounded(text: str, most: int = LINE_MAX) -> str:
    """Returns the text, or its first `most` characters and how many there are."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"


class ReaderLeft(Exception):
    """The output is not read any more, as by `head` once it has enough."""


class Status(RichStatus):
    """A line about what is under way. Its texts are shown as they are, where rich would look for markup in them."""

    def __init__(self, status: RenderableType, **how: Any) -> None:
        super().__init__(literal(status), **how)

    def update(self, status: RenderableType | None = None, **how: Any) -> None:
        """Shows another text."""
        super().update(None if status is None else literal(status), **how)


def literal(shown: RenderableType) -> RenderableType:
    """Returns a text as one in which rich looks for nothing; what is not a text, as it is."""
    return Text(shown) if isinstance(shown, str) else shown


class Console(RichConsole):
    """A console that prints texts of others safely, and does not cut off tables where there is room. It obeys no markup
    and draws no emoji by their names, in the cells of tables either: a text may look like one by chance, or by intent.
    Colours are given as styles.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False)
        if not self.is_terminal and "COLUMNS" not in os.environ:
            self.width = FILE_WIDTH

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yields the pieces of what is printed: the texts among them printable, the rest made by rich."""
        for piece in super().render(renderable, options):
            yield piece if piece.control else Segment(printable(piece.text), piece.style)

    def status(self, status: RenderableType, **how: Any) -> Status:
        """Returns a line about what is under way, to be entered."""
        return Status(status, console=self, **how)

    def on_broken_pipe(self) -> None:
        """Called when the reader has gone. Raises `ReaderLeft`."""
        raise ReaderLeft from None

    def _check_buffer(self) -> None:
        try:
            super()._check_buffer()
        except ReaderLeft:
            raise
        except OSError as error:
            raise Unwritten(error.errno, error.strerror) from None


def say(text: str) -> None:
    """Prints a text to stdout. Raises `ReaderLeft`."""
    try:
        click.echo(printable(text))
    except BrokenPipeError:
        raise ReaderLeft from None
    except OSError as error:
        raise Unwritten(error.errno, error.strerror) from None


def table(*headers: str, title: str | None = None) -> Table:
    """Returns a table that folds what is too wide for its column, where rich would cut it off."""
    made = Table(title=title, title_justify="left")
    for header in headers:
        made.add_column(header, overflow="fold")
    return made


class Unfailing(io.RawIOBase):
    """Writes to stderr, and drops what cannot be written: what is said there for people decides nothing."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def fileno(self) -> int:
        """Returns the number of the file."""
        return self.number

    def isatty(self) -> bool:
        """Tells whether it is a terminal."""
        return os.isatty(self.number)

    def writable(self) -> bool:
        """Tells that it can be written to."""
        return True

    def write(self, data: Buffer, /) -> int:
        """Writes bytes, or drops them."""
        try:
            return os.write(self.number, data)
        except OSError:
            return len(memoryview(data))


def open_what_is_closed() -> None:
    """Opens stdin, stdout and stderr where they are closed (`>&-`), as if they were /dev/null: Python has None for
    them, and the next file that is opened would get their numbers.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


@contextmanager
def until_reader_leaves() -> Iterator[None]:
    """Prepares stdout and stderr for characters that they cannot encode, and for not being there. Within the block, the
    process ends quietly with code `READER_LEFT` when its output is not read any more, and says so in one line if it
    cannot be written; what is said on stderr may fail.
    """
    open_what_is_closed()
    stderr = sys.stderr
    if stderr is sys.__stderr__ and stderr is not None:
        raw = io.BufferedWriter(Unfailing(stderr.fileno()))
        sys.stderr = io.TextIOWrapper(raw, stderr.encoding, "backslashreplace", line_buffering=True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            yield
        finally:
            flush()
    except BaseException as error:
        if is_about_the_reader(error):
            drop_output()
            sys.exit(READER_LEFT)
        failed = unwritten(error)
        if failed is None:
            raise
        drop_output()
        print(f"statemachine: the output cannot be written: {failed.strerror}", file=sys.stderr)
        sys.exit(2)
    finally:
        sys.stderr.flush()
        sys.stderr = stderr


def drop_output() -> None:
    """Drops what is still in the buffer of stdout. Python would try to write it once more at its end, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Unwritten(OSError):
    """The output cannot be written, as on a full disk."""


def flush() -> None:
    """Writes what is in the buffer of stdout. Raises `ReaderLeft` or `Unwritten`."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderLeft from None
    except OSError as error:
        raise Unwritten(error.errno, error.strerror) from None


def unwritten(raised: BaseException) -> Unwritten | None:
    """Returns the `Unwritten` that was raised, if an error is one, or a group of nothing else."""
    while isinstance(raised, BaseExceptionGroup) and raised.split(Unwritten)[1] is None:
        raised = raised.exceptions[0]
    return raised if isinstance(raised, Unwritten) else None


def is_about_the_reader(raised: BaseException) -> bool:
    """Tells whether an error is `ReaderLeft`, or a group of nothing else."""
    if isinstance(raised, BaseExceptionGroup):
        return raised.split(ReaderLeft)[1] is None
    return isinstance(raised, ReaderLeft)
