"""Folds a session's records to facts again, and has snapshots of these facts and traces of events.

Read `recovery.py` first.
May import: `core`, `msgspec`.
May not know: where records are kept, event loops, what judges it.
"""
