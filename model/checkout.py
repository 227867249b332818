"""Finds what only a checkout has: the documents in `specs/` and the README. A wheel has the code alone."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


class NeedsCheckout(Exception):
    """A document of the repository is needed, and this is an installed wheel."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"there is no {path}; a wheel has no documents: run this in a checkout of the repository")
        self.path = path


def require(path: Path) -> None:
    """Raises `NeedsCheckout` if this file or folder of the repository does not exist."""
    if not path.exists():
        raise NeedsCheckout(path)
