"""Says what the name of a session is, where a session has a name and not only a path."""

from __future__ import annotations

from statemachine.stores import options
from statemachine.stores.errors import SessionUnnamed

NAME_MAX = 200
"""The most characters of a name."""


def check_name(shown: str, name: str) -> None:
    """Raises `SessionUnnamed` unless this is the name of a session: 1 to 200 characters that can be printed. `shown`
    is where the session would be. Raises `TypeError` for what is not a text.
    """
    name = options.text(name, "session", "the name of a session")
    if not 1 <= len(name) <= NAME_MAX or not name.isprintable():
        raise SessionUnnamed(shown, f"{name!r:.100} is not the name of a session")
