"""Peers: the same turns on LangGraph, DBOS and autogen-core, in an environment of their own. What and how: README.md.

`environment` builds that environment and runs a script in it, `comparison` makes the rows of `python -m bench`. The
scripts (`*_turns.py`) and `workload`, which they share, run there and not here, so they import nothing else of `bench`.
"""
