"""Spreads exploration and campaigns over the machines of a Ray cluster.

Read `exploring.py` first, which needs no Ray; `ray_adapter.py` is the only module that imports it.
May import: `statemachine`, `lockstep`, `pools`, `exploration`.
May not know: which campaigns there are, the command.
"""
