"""Every reachable state of small scopes, each visited and judged.

Read `explorer.py` first, then `scopes.py`.
May import: `statemachine`, `reference`, `lockstep`, `coverage`, `pools`.
May not know: random numbers, files.
"""
