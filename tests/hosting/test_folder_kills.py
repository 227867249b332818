"""The host of a folder is killed again and again while callers ask, as `crash --fleet` does with workers."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random
from typing import Any, cast

import anyio
import pytest

from model.crashes.fleet import CALLERS, REST_S, SESSIONS, Fleet, FleetResult, Told, WorkerProcess, judge
from statemachine.hosting import SessionClient

pytestmark = [pytest.mark.anyio, pytest.mark.nightly]
KILLS = 15
OPTIONS = ("--config", "model.crashes.fleet:CONFIG", "--poll", "0.1", "--idle-ttl", "0.2", "--capacity", "10")


@pytest.mark.parametrize("seed", range(4))
async def test_host_that_is_killed_again_and_again_loses_nothing_and_does_nothing_twice(
    tmp_path: Path, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    place, result, rng = tmp_path / "sessions", FleetResult(KILLS), Random(seed)
    fleet = Fleet(cast("Any", None), str(place), result, rng, lambda _: None)
    answered = list[float]()

    def begin() -> WorkerProcess:
        return WorkerProcess(str(place), "model.crashes.fleet:work", *OPTIONS)

    process = begin()
    try:
        async with SessionClient(place, patience=REST_S) as client, anyio.create_task_group() as tasks:
            for number in range(CALLERS):
                tasks.start_soon(fleet.call, client, number)
            for _ in range(KILLS):
                await anyio.sleep(rng.uniform(0.2, 1.2))
                process.kill()
                process = await anyio.to_thread.run_sync(begin)
                begun = time.monotonic()
                await client.session(f"s{rng.randrange(SESSIONS)}").list()
                answered.append(time.monotonic() - begun)
            fleet.is_over = True
        async with SessionClient(place, patience=REST_S) as client:
            for told in [each for each in result.told if each.outcome is None]:
                with anyio.fail_after(REST_S):
                    outcome = await client.session(told.session).handle(told.ref).outcome()
                result.told.append(Told(told.session, told.text, told.key, told.ref, outcome))
        assert (await anyio.to_thread.run_sync(process.drain))[0] == 0
    finally:
        process.kill()
    with capsys.disabled():
        print(f"seed {seed}: {len(result.told):,} told, first answers {sorted(round(each, 2) for each in answered)}")
    assert [str(each) for each in judge(lambda name: str(place / f"{name}.db"), result.told)] == []
    assert len(result.told) > 100
