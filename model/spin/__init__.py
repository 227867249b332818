"""Checks the rules with Spin, in a model that was written from the specification alone, and compares its graph with
the core's.

Read `agents.pml` first, then `compare.py` and `engine.py`.
May import: `statemachine`, `lockstep`, `exploration`, `checkout`, `verdicts`.
May not know: the reference, random numbers.
"""
