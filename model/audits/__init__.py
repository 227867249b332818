"""Verifies a session's trace or database afterwards.

Read `verify.py` first.
May import: `statemachine`, `reference`, `lockstep`, `kept`, `coverage`, `scenarios`.
May not know: exploration, fuzzing.
"""
