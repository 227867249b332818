"""Pieces of Markdown that all documents share."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table, lines ended by a newline."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def paragraph(text: str) -> str:
    """Running text in lines of 120 columns, ended by a newline."""
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False) + "\n"
