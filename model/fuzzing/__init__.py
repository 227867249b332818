"""Long random lives of large sessions, judged after every event, and what fails made short.

Read `fuzz.py` first.
May import: `statemachine`, `reference`, `configurations`, `lockstep`, `coverage`, `pools`, `scenarios`.
May not know: exploration.
"""
