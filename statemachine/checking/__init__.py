"""Judges sessions and shows them: properties of states and steps, views, diagrams.

Read `properties.py` first.
May import: `core`, `log`, `transitions`.
May not know: event loops, stores, the reference model.
"""
