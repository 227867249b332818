"""A session's trace or database, verified afterwards.

Read `verify.py` first.
May import: `statemachine`, `reference`, `lockstep`, `coverage`, `scenarios`.
May not know: exploration, fuzzing.
"""
