"""Programs of events as people write and read them: the language, golden traces, the replay of a trace.

Read `script.py` first, then `golden.py` and `replay.py`.
May import: `statemachine`, `checkout`, `reference`, `lockstep`, `coverage`.
May not know: exploration, fuzzing.
"""
