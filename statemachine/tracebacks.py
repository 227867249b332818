"""Tells an exception of others' code as a text, with a bound on the text and on the work for it.

A message may have millions of characters, and an exception may have any number of notes, be a group of many, or the end
of a long chain. A group may even have another one twice, and that one again, so that it has more members than can be
counted. Python's own `traceback` looks at all of that before it cuts anything, while all agents wait. So an exception
is looked at first, no further than the bounds. What is within them is told as Python does, and of the rest an outline.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from statemachine.core.exact import class_name, said

EXCEPTIONS_MAX = 50
"""Exceptions in groups and chains that are told with all that they have."""
CHARACTERS_MAX = 16_000
"""Characters of all their messages and notes."""
OUTLINE_MAX, LINE_MAX = 10, 2_000
"""Of a longer one: members of its group, and links of its chain, that are named, and characters of each."""

LEFT_OUT = "... (the rest is left out: its message, notes, group or chain is too long)\n"
EXCEPTIONS = BaseExceptionGroup.__dict__["exceptions"]
"""What is in a group of exceptions, whatever its class says."""


def is_group(error: BaseException) -> bool:
    """Tells whether it is a group, whatever its class says."""
    return issubclass(type(error), BaseExceptionGroup)


def members(error: BaseException) -> tuple[BaseException, ...]:
    """Returns what is in a group."""
    found: tuple[BaseException, ...] = EXCEPTIONS.__get__(error)
    return found


def text_of(error: BaseException, frames: TracebackType | None, frames_max: int) -> str | None:
    """Returns the traceback with the last `frames_max` of these frames. None if it cannot be had, because of what the
    class of the exception does.
    """
    try:
        if is_short(error):
            return "".join(traceback.format_exception(type(error), error, frames, limit=-frames_max))
        return "".join(outline(error, frames, frames_max))
    except KeyboardInterrupt:
        raise
    except BaseException:
        return None


def is_short(error: BaseException) -> bool:
    """Tells whether the exception, with all that Python tells with it, is within the bounds."""
    todo, known = [error], {id(error)}
    count, room = 0, CHARACTERS_MAX
    while todo:
        one = todo.pop()
        count += 1
        inside = members(one) if is_group(one) else ()
        if count + len(todo) + len(inside) > EXCEPTIONS_MAX:
            return False
        room -= size_of(one, room)
        if room < 0:
            return False
        todo += inside
        for before in (one.__cause__, one.__context__):
            if before is not None and id(before) not in known:
                known.add(id(before))
                todo.append(before)
    return True


def size_of(error: BaseException, room: int) -> int:
    """Returns how many characters the exception itself is told with, or any number above `room`."""
    notes: Any = getattr(error, "__notes__", ())
    if type(notes) not in (list, tuple) or len(notes) > room:
        return room + 1
    texts = [said(error), *notes, getattr(error, "text", "") if isinstance(error, SyntaxError) else ""]
    return sum([len(text) + 1 if type(text) is str else 100 for text in texts])


def outline(error: BaseException, frames: TracebackType | None, frames_max: int) -> Iterator[str]:
    """Gives the frames, the first words of the exception, and those of some members and links."""
    if frames is not None:
        yield "Traceback (most recent call last):\n"
        yield from traceback.format_tb(frames, -frames_max)
    yield line_of(error)
    if is_group(error):
        for member in members(error)[:OUTLINE_MAX]:
            yield f"  with {line_of(member)}"
    for _ in range(OUTLINE_MAX):
        before = error.__cause__ or error.__context__
        if before is None:
            break
        error = before
        yield f"  after {line_of(error)}"
    yield LEFT_OUT


def line_of(error: BaseException) -> str:
    """Returns class and first words."""
    return f"{class_name(error)}: {said(error)[:LINE_MAX]}\n"
