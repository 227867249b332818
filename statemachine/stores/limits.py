"""How large what goes into a log may be: every bound of a caller's value stands here, in bytes as it is stored.

SQLite takes rows of a gigabyte, and a row too large fails the session, for all. So each value is measured at the door
through which it comes, as the JSON string that it becomes: a NUL takes six bytes there, a quote in settings four. What
stands beside it in its row takes little, or has a bound of its own. The core bounds messages and headers too, by what
its configuration says, and so do its rules for names.
"""

from __future__ import annotations

from attrs import Factory, field, frozen

__all__ = ["ENTRY", "ERROR", "KEY", "MESSAGE", "NAME", "PATH", "RESULT", "ROLE", "ROW_BYTES_MAX", "SETTINGS", "Limit"]

MIB = 1 << 20
ESCAPE_BYTES_MAX = 6
"""Bytes as stored of one character: those of the escape of a NUL, or fewer."""


@frozen
class Limit:
    """A bound at one door: what comes through it, as errors name it, and the most bytes that it may have."""

    what: str
    bytes_max: int
    length_fits: int = field(
        init=False, default=Factory(lambda self: self.bytes_max // ESCAPE_BYTES_MAX, takes_self=True)
    )
    """A text of so many characters fits, whatever they are."""

    def excess(self, text: str) -> int | None:
        """Returns the size of a text, as a string within JSON, if that is too large, else None."""
        if len(text) <= self.length_fits:
            return None
        size = stored_size(text)
        return size if size > self.bytes_max else None

    def excess_of_json(self, text: str) -> int | None:
        """Returns the size of a JSON text, which stands as it is within JSON, if that is too large, else None."""
        return utf8_size(text) if is_larger(text, self.bytes_max) else None


MESSAGE = Limit("a message", 64 * MIB)
RESULT = Limit("a result", 96 * MIB)
ENTRY = Limit("an entry", 96 * MIB)
SETTINGS = Limit("a role with its settings", 96 * MIB)
ROLE = Limit("a role", 1024)
KEY = Limit("a key", 4 * 1024)
PATH = Limit("a path", 64 * 1024)
"""Agents are nested so deep that their path is no longer: 1,000 with the longest names, 32,000 with the shortest."""
NAME = Limit("a name", 1024)
"""The core takes 64 characters at most, and says so of what is no longer than this."""
ERROR = Limit("the text of an error", 64 * 1024)
"""What exceeds it is cut; an error is refused by nothing."""

ROW_BYTES_MAX = 999 * 1000 * 1000
"""The most that a store takes as one row. A session comes to less by the bounds above."""


def utf8_size(text: str) -> int:
    """Returns how many bytes of UTF-8 the text takes."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def is_larger(data: str | bytes, bytes_max: int) -> bool:
    """Tells whether what is stored takes more than so many bytes."""
    if len(data) * 4 <= bytes_max:
        return False
    return (len(data) if isinstance(data, bytes) else utf8_size(data)) > bytes_max


def stored_size(text: str) -> int:
    """Returns how many bytes the text takes within JSON: those of UTF-8, and more for what is escaped."""
    size = utf8_size(text)
    if text.isprintable() and '"' not in text and "\\" not in text:
        return size
    short = sum([text.count(escaped) for escaped in '"\\\n\r\t\b\f'])
    long = sum([text.count(chr(code)) for code in range(ord(" ")) if chr(code) not in "\n\r\t\b\f"])
    return size + short + long * (ESCAPE_BYTES_MAX - 1)


def cut(text: str) -> str:
    """Returns the text of an error, or as much of it as may be stored."""
    if len(text) <= ERROR.bytes_max and ERROR.excess(text) is None:  # a long text is not measured
        return text
    return f"{text[: ERROR.bytes_max // ESCAPE_BYTES_MAX - len(CUT)]}{CUT}"


CUT = "... (cut)"
