"""Simulates whole lives of the runtime, one for each seed, which decides order, clock, disk, hosts, work and crashes.
Begin at `life.py`; `judges.py` says what must hold, `campaign.py` plays many.

May import: `statemachine`, `reference`, `configurations`, `lockstep`, `coverage`, `pools`, `scenarios`, `fuzzing`,
`audits`.
May not know: exploration, real time.
"""
