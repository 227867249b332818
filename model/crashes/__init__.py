"""Processes under load that are killed and opened again. Begin at `kills.py`; `child.py` is what is killed, `judge.py`
says what must hold afterwards.

May import: `statemachine`, `reference`, `configurations`, `lockstep`, `coverage`, `pools`, `scenarios`, `audits`.
May not know: exploration, simulation.
"""
