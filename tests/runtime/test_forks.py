"""Code of an agent forks its process: the copy of the session ends with that code (`statemachine/runtime/forks.py`)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import asyncio, os, sys, warnings

import anyio
from statemachine import AgentControl, SQLiteStore

warnings.simplefilter("ignore")  # of a fork beside threads


async def agent(turn):
    how = turn.mail[0].text
    if how == "exits in a task":
        return await asyncio.create_task(tool("exits"))
    return await tool(how)


async def tool(how):
    child = os.fork()
    if child == 0:
        if how == "exits":
            sys.exit(3)
        elif how == "says why":
            sys.exit("why")
        elif how == "raises":
            raise ValueError("of the child")
        return "a result of the child"
    _, status = await anyio.to_thread.run_sync(os.waitpid, child, 0)
    return os.waitstatus_to_exitcode(status)


async def main():
    async with AgentControl.open(SQLiteStore(sys.argv[1]), agent) as control:
        for how in ("exits", "says why", "exits in a task", "raises", "returns"):
            handle = await control.start("/root", how)
            print(how, (await handle.outcome()).result, flush=True)


asyncio.run(main())
"""


def test_process_that_code_of_an_agent_forks_ends_with_that_code_and_the_session_goes_on(tmp_path: Path) -> None:
    """By its exit, by an exit in a task, by another exception or by returning: it has no session to go on with."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "s.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines() == ["exits 3", "says why 1", "exits in a task 3", "raises 1", "returns 0"]
    assert done.returncode == 0
    assert "why" in done.stderr
    assert "ValueError: of the child" in done.stderr
