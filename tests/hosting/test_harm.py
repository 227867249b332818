"""What one session, call or pause does to a host and to a client harms no other (harm)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import anyio
import pytest

from statemachine import AgentControl, MemoryStore, SessionConfig, Turn, TurnState
from statemachine.errors import ForeignFile, HostMissing, RemoteError
from statemachine.hosting import SessionClient, SessionHost, host
from statemachine.hosting.directory import Claimed
from statemachine.hosting.host import Hosted
from statemachine.runtime.control import inside
from statemachine.sinks import log
from tests.hosting.test_hosts import until
from tests.hosting.work import CONFIG, work

pytestmark = pytest.mark.anyio
QUICK: Any = {"poll": 0.05, "ttl": 1.0}
LONG = 60.0
"""Seconds after which a test fails that waits for something."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where a folder is to be."""
    return tmp_path / "sessions"


# The root's turn is work


async def test_session_whose_root_is_at_work_is_left_neither_as_idle_nor_for_others(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "CLAIM_S", 0.5)
    async with (
        SessionHost(place, work, CONFIG, capacity=1, idle_ttl=0.05, **QUICK) as found,
        SessionClient(place, patience=0.5) as client,
    ):
        handle = await client.session("busy").start("/root", f"until {tmp_path / 'there'}")
        with pytest.raises(HostMissing):
            await client.session("waits").list()
        assert found.sessions == ("busy",)
        (tmp_path / "there").touch()
        assert (await handle.outcome()).status is TurnState.COMPLETED


async def test_drain_gives_the_root_s_turn_its_grace(place: Path, tmp_path: Path) -> None:
    async with SessionHost(place, work, CONFIG, grace=LONG, **QUICK) as found:
        async with SessionClient(place) as client:
            await client.session("a").start("/root", f"until {tmp_path / 'there'}")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(found.drain)
            await anyio.sleep(0.5)
            assert found.sessions == ("a",)
            (tmp_path / "there").touch()
    async with SessionHost(place, work, CONFIG, **QUICK), SessionClient(place) as client:
        assert (await client.session("a").status("/root")).status is TurnState.COMPLETED


async def test_session_is_idle_only_when_no_turn_of_any_agent_has_begun_or_was_asked_for(tmp_path: Path) -> None:
    there = tmp_path / "there"

    async def lends(turn: Turn) -> None:
        """Lends its slot, and takes its time to stop."""
        try:
            if turn.path == "/root/lends":
                await turn.sleep(LONG)
        finally:
            with anyio.CancelScope(shield=True):
                while turn.path == "/root/lends" and not there.exists():
                    await anyio.sleep(0.02)

    async with AgentControl.open(MemoryStore(), lends, SessionConfig(max_concurrent=2)) as control:
        hosted = Hosted(Claimed(1, "a", 0), control)
        assert hosted.is_idle
        await control.start("/root", "go")
        assert not hosted.is_idle
        await until(lambda: hosted.is_idle, LONG)
        handle = await control.spawn("/root", "lends", "go")
        assert not hosted.is_idle
        await until(lambda: inside(control).session.waits.of_agent, LONG)
        await (await control.spawn("/root", "other", "go")).outcome()
        assert not hosted.is_idle
        await control.interrupt("/root/lends")
        await anyio.wait_all_tasks_blocked()
        assert not hosted.is_idle, "its code runs still"
        there.touch()
        await handle.outcome()
        assert hosted.is_idle


# Sinks


async def test_handler_of_logging_that_raises_ends_neither_host_nor_client(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    met = list[str]()

    class Sick(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            met.append(record.name.partition(".")[0])
            raise RuntimeError("no log")

    async def fails(*_: object, **__: object) -> None:
        raise RuntimeError("of the verb")

    monkeypatch.setattr(log, "has_failed", False)
    monkeypatch.setattr(AgentControl, "status", fails)
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(logging.root, "handlers", [Sick()])
    place.mkdir()
    (place / "Not a name.db").write_text("which is warned of")
    (place / "text.db").write_text("this is not a database" * 100)
    async with SessionHost(place, work, CONFIG, **QUICK), SessionClient(place) as client:
        with pytest.raises(ForeignFile):
            await client.session("text").list()
        with pytest.raises(RemoteError, match="of the verb"):
            await client.session("a").status("/root")
        assert (await (await client.session("a").spawn("/root", "x", "go")).outcome()).result == "done: go"
    assert {*met} == {"statemachine", "websockets"}
    assert "handler or filter of logging raised" in capsys.readouterr().err
