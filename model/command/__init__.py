"""Runs the command `statemachine`: its options, and what it prints.

Read `cli.py` first.
May import: `statemachine` and all of `model`.
No other room imports this one.
"""
