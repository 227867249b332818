"""The documents in `specs/` that are written from the code.

Read `generated.py` first.
May import: `statemachine`, `checkout`, `reference`, `lockstep`, `coverage`, `check`, `scenarios`, `exploration`,
`breaks`.
May not know: the command.
"""
