"""Judges what is written and read back, what callers give, and what is asked of a session: whatever a comparison with
the reference, which has no files, texts or lists, cannot see.

Read `engine.py` first.
May import: `statemachine`, `lockstep`, `verdicts`, `fuzzing`, `scenarios`.
May not know: exploration, documents, the command.
"""
