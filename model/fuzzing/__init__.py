"""Plays long random lives of large sessions, judges them after every event, and shrinks what fails.

Read `fuzz.py` first.
May import: `statemachine`, `alphabet`, `reference`, `configurations`, `lockstep`, `coverage`, `pools`, `scenarios`.
May not know: exploration.
"""
