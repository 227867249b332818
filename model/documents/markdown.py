"""Makes the pieces of Markdown that all documents share."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

HOLD = "\N{NO-BREAK SPACE}"
"""Stands for a space at which no line ends. (textwrap breaks at ASCII spaces only.)"""


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Returns a Markdown table, with a newline after each line."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def paragraph(text: str) -> str:
    """Returns running text in lines of 120 columns, with a newline at the end. Code stays on one line."""
    held = re.sub(r"`[^`]*`", lambda code: code[0].replace(" ", HOLD), text)
    return textwrap.fill(held, 120, break_long_words=False, break_on_hyphens=False).replace(HOLD, " ") + "\n"
