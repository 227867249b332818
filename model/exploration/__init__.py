"""Visits and judges every reachable state of small scopes.

Read `explorer.py` first, then `scopes.py`.
May import: `statemachine`, `reference`, `lockstep`, `coverage`, `pools`, `verdicts`.
May not know: random numbers, files.
"""
