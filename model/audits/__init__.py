"""Verifies a session's trace or database afterwards.

Read `verify.py` first.
May import: `statemachine`, `reference`, `lockstep`, `coverage`, `scenarios`.
May not know: exploration, fuzzing.
"""
