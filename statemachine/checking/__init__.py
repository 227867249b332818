"""What must hold of a session, and how it is shown: properties of states and steps, views, diagrams.

Read `properties.py` first.
May import: `core`, `log`, `transitions`.
May not know: event loops, stores, the reference model.
"""
