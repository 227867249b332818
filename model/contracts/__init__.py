"""Contracts on the rules of the core, confirmed by CrossHair over all paths, and what shows that they can be refuted.

Read `contract.py` first, then `slots.py` for what contracts look like, and `prover.py` for when one counts.
May import: `statemachine`, `reference`, `verdicts`.
May not know: the runtime, stores.
"""

from .engine import run

__all__ = ["run"]
