"""Runs every engine whole, and every break against every engine: what specs/evidence.md tells.

Read `campaign.py` first.
May import: `statemachine`, `check`, `engines`, `verdicts`, `pools`, `exploration`, `fuzzing`, `breaks`, `contracts`,
`proof`, `spin`.
May not know: documents, the command.
"""
