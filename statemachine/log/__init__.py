"""What is kept of a session: its records folded to facts again, snapshots of them, and traces of events.

Read `recovery.py` first.
May import: `core`, `msgspec`.
May not know: where records are kept, event loops, what judges it.
"""
