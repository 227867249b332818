"""Visits and judges every reachable state of small scopes.

Read `explorer.py` first, then `scopes.py`.
May import: `statemachine`, `alphabet`, `reference`, `lockstep`, `kept`, `coverage`, `pools`, `verdicts`, `watch`.
May not know: random numbers, files.
"""
