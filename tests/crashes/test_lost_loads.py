"""Agents whose load ends the process, at every opening (harm, kind 3): a real process that is killed in load."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CHILD = """
import json, os, signal, sys
import anyio
from statemachine import AgentControl, SessionConfig, Thread

path, where, attempts, ask = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]
is_first = not os.path.exists(path)
loading = []

def die(here):
    if here == where:
        os.kill(os.getpid(), signal.SIGKILL)

class Poison(Thread):
    def __init__(self, agent):
        super().__init__(agent)
        die("init")

    async def load(self, history):
        while is_first and len(loading) < 2:  # the others are being loaded, too
            await anyio.sleep(0.001)
        die("load")

    async def run(self, turn):
        die("run")
        return "survived"

class Healthy(Thread):
    async def load(self, history):
        loading.append(self.agent.path)
        if is_first:
            await anyio.sleep_forever()

    async def run(self, turn):
        return "fine"

async def main():
    config = SessionConfig(max_concurrent=4, max_attempts=attempts)
    async with AgentControl.open(path, {"default": Healthy, "poison": Poison}, config) as control:
        if is_first:  # all three in one commit
            async with anyio.create_task_group() as tasks:
                for name in "abc":
                    role = "poison" if name == "b" else "default"
                    tasks.start_soon(lambda n=name, r=role: control.spawn("/root", n, "x", role=r))
        for target in ask:
            await control.follow_up(target, "again")
        found = {}
        for name in "abc":
            while not (await control.status(f"/root/{name}")).status.is_idle:
                await anyio.sleep(0.001)
            outcome = (await control.status(f"/root/{name}")).outcome
            found[name] = [outcome.cause.name, outcome.result]
        print(json.dumps(found))

anyio.run(main)
"""


def openings(path: Path, where: str, attempts: int, *ask: str) -> tuple[int, dict[str, Any]]:
    """Opens the session until an opening is not killed. Returns how many were, and the outcomes of the agents."""
    for killed in range(10):
        child = subprocess.run(
            [sys.executable, "-c", CHILD, str(path), where, str(attempts), *ask],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        ask = ()
        if child.returncode != -signal.SIGKILL:
            assert child.returncode == 0, child.stderr
            return killed, json.loads(child.stdout)
    raise AssertionError("every opening is killed")


@pytest.mark.parametrize("where", ["init", "load"])
@pytest.mark.parametrize(("attempts", "killed"), [(1, 3), (4, 4)])
def test_agent_whose_load_ends_the_process_is_given_up_after_its_attempts_and_no_other_agent_is(
    where: str, attempts: int, killed: int, tmp_path: Path
) -> None:
    """Without attempts, a turn that runs when the process is killed is over, as by any crash."""
    path = tmp_path / "s.db"
    well = {"FINISHED"} if attempts > 1 else {"FINISHED", "CRASHED"}
    for ask, deaths in (((), killed), ((), 0), (("/root/b",), killed)):  # by itself; no more; by a request
        openings_killed, found = openings(path, where, attempts, *ask)
        assert openings_killed == deaths
        assert found["b"] == ["LOADS_LOST", f"load failed: {killed} crashes cut it off"]
        assert {found["a"][0], found["c"][0]} <= well


@pytest.mark.parametrize(("attempts", "killed", "cause"), [(1, 1, "CRASHED"), (2, 2, "CRASHED")])
def test_agent_whose_turn_ends_the_process_is_given_up_after_its_attempts(
    attempts: int, killed: int, cause: str, tmp_path: Path
) -> None:
    found = openings(tmp_path / "s.db", "run", attempts)
    assert (found[0], found[1]["b"][0]) == (killed, cause)
