"""Mutates the core and the log at random, one place at a time, to see which check notices.

The breaks of `breaks/` were thought of by people. What people do not think of, no check is tried against; so here
chance draws, and a printed seed says what it drew. Read `campaign.py` first.
May import: `statemachine`, `check`, `engines`, `pools`, `checkout`, `exploration`, `breaks`,
`evidence`.
May not know: documents, the command.
"""
