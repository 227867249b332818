"""Plays programs of events as people write them: the language, golden traces, the replay of a trace.

Read `script.py` first, then `golden.py` and `replay.py`.
May import: `statemachine`, `checkout`, `printing`, `reference`, `lockstep`, `kept`, `coverage`, `watch`.
May not know: exploration, fuzzing.
"""
