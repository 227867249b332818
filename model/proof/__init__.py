"""The rules proved for any number of agents, and tied to the core.

`relation.py` has the rules as transitions, `invariants.py` what is proved of them, `prover.py` the obligations,
`tie.py` the comparison with the core, `defects.py` what the proof must refute, `enumeration.py` the inductive step on
the core itself, `claims.py` what all this comes to. `run` does it all, or a part in a few seconds.
May import: `statemachine`, `exploration`, `lockstep`, `verdicts`.
May not know: files, randomness, the runtime.
"""

from __future__ import annotations

from collections.abc import Callable

from ..verdicts import Verdict

__all__ = ["Verdict", "quick", "run"]


def run(*, quick: bool, progress: Callable[[str], None]) -> tuple[Verdict, ...]:
    """Proves, ties, refutes and enumerates; `quick`: the part that takes a few seconds. `progress` is told what is
    begun. Each verdict is of one obligation, scope, defect or shape.
    """
    from .verdicts import all_verdicts  # noqa: PLC0415  (Z3 takes a moment to import, and it comes with the extra)

    return tuple(all_verdicts(quick, progress))


def quick() -> tuple[Verdict, ...]:
    """The quick part, without a word of progress."""
    return run(quick=True, progress=lambda _: None)
