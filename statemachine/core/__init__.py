"""The core: what a session is and what happens to it, as a pure function of events (semantics.md sections 1 to 6).

Read `machines.py` first, then `rules.py`, then `session.py` and what it imports.
May import: `attrs`, and data structures and `json` of the standard library.
May not know: files, clocks, randomness, event loops, stores, what judges it.
"""

from statemachine import guard as _guard  # noqa: F401  # pyright: ignore[reportUnusedImport]  (says so if another distribution has replaced `statemachine/__init__.py`)
