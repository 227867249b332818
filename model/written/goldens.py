"""Judges golden traces: the core does what their logs say, word by word, and each step is held to the reference."""

from __future__ import annotations

from collections.abc import Iterator

from ..scenarios import golden


def traces_are_played() -> Iterator[str]:
    """Yields which golden traces come to another log. A wheel has none."""
    for path in golden.files():
        if golden.render(golden.read(path)) != path.read_text("utf-8"):
            yield f"{path.name} has another log"
