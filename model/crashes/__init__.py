"""Kills processes under load, and opens their sessions again. Begin at `kills.py`; `child.py` is the process that is
killed, `judge.py` says what must hold afterwards.

May import: `statemachine`, `reference`, `configurations`, `lockstep`, `coverage`, `pools`, `postgres_server`,
`scenarios`, `audits`.
May not know: exploration, simulation.
"""
