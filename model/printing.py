"""Prints for people and programs: the one way to stdout and stderr for every command.

Texts of agents, of files and of users are printed too, and a terminal obeys what it gets. So every character that could
act on a terminal, hide, or change the order of others is printed as its escape, whatever the encoding of the output.
What has no bound of its own gets one with `bounded`.

In `statemachine host`, code of users runs in the process of the command. What it prints to stdout is its own. On stderr
it is not alone: any logger, `warnings`, and a traceback by whatever way tells texts of others there. So all that is
written to `sys.stderr` is escaped (`Plain`), and what this module prints there, with its colours, goes past that. Logs
are escaped wherever they go (`command/host_sessions.py`).
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO, cast

import click
from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderableType, RenderHook
from rich.file_proxy import FileProxy
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
        super().__init__(file=own(sys.stderr) if stderr else None, stderr=stderr, markup=False, emoji=False)
        if not self.is_terminal and "COLUMNS" not in os.environ:
            self.width = FILE_WIDTH

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yields the pieces of what is printed: the texts among them printable, the rest made by rich."""
        for piece in super().render(renderable, options):
            yield piece if piece.control else Segment(printable(piece.text), piece.style)

    def status(self, status: RenderableType, **how: Any) -> Status:
        """Returns a line about what is under way, to be entered."""
        return Status(status, console=self, **how)

    def push_render_hook(self, hook: RenderHook) -> None:
        """Called when something live begins to be drawn. On a terminal, rich then has a stderr of its own, which takes
        colours and links from what is written to it.
        """
        super().push_render_hook(hook)
        stream: object = sys.stderr
        if isinstance(stream, FileProxy):
            sys.stderr = plain(stream)

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


class Plain(io.TextIOBase):
    """Writes a text as `printable`, to a stream. It is not a terminal, even if its stream is one: nothing that it is
    given acts on one. So those who ask for that write no colours.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        """Whatever else streams have, such as `reconfigure`, is that of the stream."""
        return getattr(self.stream, name)

    @property
    def buffer(self) -> BinaryIO:
        """The bytes of the stream. What is written there is not a text, and stays as it is."""
        return self.stream.buffer

    @property
    def encoding(self) -> str:  # type: ignore[override]  # is an attribute there
        """That of the stream."""
        return self.stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """That of the stream."""
        return self.stream.errors

    def fileno(self) -> int:
        """Returns the number of the file."""
        return self.stream.fileno()

    def isatty(self) -> bool:
        """Tells that it is not a terminal."""
        return False

    def writable(self) -> bool:
        """Tells that it can be written to."""
        return True

    def write(self, text: str, /) -> int:
        """Writes the text. Returns how many characters of it were written: all."""
        self.stream.write(printable(text))
        return len(text)

    def flush(self) -> None:
        """Writes what is in the buffer of the stream."""
        self.stream.flush()


def plain(stream: TextIO | FileProxy) -> TextIO:
    """Returns a `Plain` to the stream, as what it is used for."""
    return cast("TextIO", Plain(cast("TextIO", stream)))


def own(stream: TextIO) -> TextIO:
    """Returns the stream to which this module itself prints."""
    while isinstance(stream, Plain | FileProxy):
        stream = stream.stream if isinstance(stream, Plain) else cast("TextIO", stream.rich_proxied_file)
    return stream


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
    """Prepares stdout and stderr for characters that they cannot encode, and for not being there, and stderr for texts
    of others. That stays so until the process ends, because some errors are told after all else. Within the block, the
    process ends quietly with code `READER_LEFT` when its output is not read any more, and says so in one line if it
    cannot be written; what is said on stderr may fail.
    """
    open_what_is_closed()
    before = sys.stderr
    stderr = before
    is_of_process = before is sys.__stderr__
    if is_of_process and not isinstance(before, Plain):
        raw = io.BufferedWriter(Unfailing(before.fileno()))
        stderr = io.TextIOWrapper(raw, before.encoding, "backslashreplace", line_buffering=True)
        os.environ.setdefault("PYTHON_COLORS", "0")  # of tracebacks, since 3.13, which asks the file itself
    for stream in (sys.stdout, stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.stderr = plain(own(stderr))
    if is_of_process:
        sys.__stderr__ = cast("Any", sys.stderr)  # type: ignore[misc]  # Python uses that one at its very end
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
        if not is_of_process:  # it belongs to a caller within the process
            sys.stderr = before


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
