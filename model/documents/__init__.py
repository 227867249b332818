"""Writes the documents in `specs/` that are generated from the code.

Read `generated.py` first.
May import: `statemachine`, `checkout`, `reference`, `lockstep`, `coverage`, `pools`, `check`, `scenarios`,
`exploration`, `breaks`, `contracts`, `engines`, `evidence`, `leases`, `mutants`, `proof`, `spin`, `verdicts`.
May not know: the command.
"""
