"""What agents do in the tests of hosts: the mail says it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio

from statemachine import SessionConfig, Turn

CONFIG = SessionConfig(max_attempts=5)
QUICK: Any = {"poll": 0.05, "ttl": 1.0}
LONG = 60.0
"""Seconds after which a test fails that waits for something."""


async def work(turn: Turn) -> str:
    """Does what the first mail says: `sleep SECONDS`, `until FILE` is there, or nothing."""
    verb, _, what = turn.mail[0].text.partition(" ")
    if verb == "sleep":
        await turn.sleep(float(what))
    elif verb == "until":
        while not Path(what).exists():
            await anyio.sleep(0.02)
    await turn.record(turn.mail[0].text)
    return f"done: {turn.mail[0].text}"
