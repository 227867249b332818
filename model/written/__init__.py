"""Judges what is written and read back, what callers give, and what is asked of a session: whatever a comparison with
the reference, which has no files, texts or lists, cannot see.

Read `engine.py` first.
May import: `statemachine`, `lockstep`, `verdicts`, `fuzzing`, `scenarios`.
May not know: exploration, documents, the command.
"""

from __future__ import annotations

from collections.abc import Callable

from ..verdicts import Verdict

__all__ = ["Verdict", "run"]


def run(*, quick: bool, progress: Callable[[str], None]) -> tuple[Verdict, ...]:
    """Judges every obligation; `quick`: in fewer lives. `progress` is told what is begun."""
    from .engine import run_all  # noqa: PLC0415  (the fuzz draws other lives where more modules with numbers are loaded)

    return run_all(quick, progress)
