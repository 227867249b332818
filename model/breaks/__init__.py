"""Breaks rules by hand, one at a time, to see which check notices.

Read `hunt.py` first.
May import: `statemachine`, `reference`, `lockstep`, `coverage`, `check`, `scenarios`, `exploration`, `fuzzing`.
May not know: the runtime, stores.
"""
