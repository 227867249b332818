"""Prints for people and programs: the one way to stdout and stderr for every command.

Texts of agents, of files and of users are printed too, and a terminal obeys what it gets. So every character that could
act on a terminal, hide, or change the order of others is printed as its escape, whatever the encoding of the output.
What has no bound of its own gets one with `bounded`.
"""

from __future__ import annotations

import io
import os
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table

LINE_MAX = 2_000
"""Most characters of a line about something that has no bound of its own, such as a line of a trace."""
ERROR_MAX = 1_000
"""Most characters of an error."""
READER_LEFT = 141
"""Exit code of a command whose output is not read to its end, as a shell reports SIGPIPE."""
FILE_WIDTH = 200
"""Columns of an output that is not a terminal, unless COLUMNS says otherwise."""


def printable(text: str) -> str:
    """Returns the text with escapes for all characters that are not simply visible: control characters except the end
    of a line, those that change the direction of writing or have no width, and lone surrogates.
    """
    if text.isprintable():
        return text
    return "".join([c if c.isprintable() or c == "\n" or unicodedata.category(c) == "Zs" else escape(c) for c in text])


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


class Console(RichConsole):
    """A console that prints texts of others safely, and does not cut off tables where there is room."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr)
        if not self.is_terminal and "COLUMNS" not in os.environ:
            self.width = FILE_WIDTH

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yields the pieces of what is printed: the texts among them printable, the rest made by rich."""
        for piece in super().render(renderable, options):
            yield piece if piece.control else Segment(printable(piece.text), piece.style)

    def on_broken_pipe(self) -> None:
        """Called when the reader has gone. Raises `ReaderLeft`."""
        raise ReaderLeft from None


def say(text: str) -> None:
    """Prints a text to stdout. Raises `ReaderLeft`."""
    try:
        click.echo(printable(text))
    except BrokenPipeError:
        raise ReaderLeft from None


def table(*headers: str, title: str | None = None) -> Table:
    """Returns a table that folds what is too wide for its column, where rich would cut it off."""
    made = Table(title=title, title_justify="left")
    for header in headers:
        made.add_column(header, overflow="fold")
    return made


@contextmanager
def until_reader_leaves() -> Iterator[None]:
    """Prepares stdout and stderr for characters that they cannot encode. Within the block, the process ends quietly
    with code `READER_LEFT` when its output is not read any more.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            yield
        finally:
            flush()
    except BaseException as error:
        if not is_about_the_reader(error):
            raise
        # What is still in the buffer cannot be written. Python would try it once more at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(READER_LEFT)


def flush() -> None:
    """Writes what is in the buffer of stdout. Raises `ReaderLeft`."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderLeft from None


def is_about_the_reader(raised: BaseException) -> bool:
    """Tells whether an error is `ReaderLeft`, or a group of nothing else."""
    if isinstance(raised, BaseExceptionGroup):
        return raised.split(ReaderLeft)[1] is None
    return isinstance(raised, ReaderLeft)
