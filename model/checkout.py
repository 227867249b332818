"""What only a checkout has: the documents in `specs/` and the README. A wheel has the code alone."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


class NeedsCheckout(Exception):
    """What is asked for reads or writes a document of the repository, and this is an installed wheel."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"there is no {path}; a wheel has no documents: run this in a checkout of the repository")
        self.path = path


def require(path: Path) -> None:
    """Raises `NeedsCheckout` if that file or folder of the repository is not there."""
    if not path.exists():
        raise NeedsCheckout(path)
