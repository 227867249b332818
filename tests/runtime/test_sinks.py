"""What only observes a session may fail, and every step of leaving may (harm, kind 2)."""

from __future__ import annotations

import errno
import logging
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup

import statemachine
from statemachine import MemoryStore, SQLiteStore
from statemachine.core.records import MailAccepted
from statemachine.core.refusals import SessionClosed, StoreFailed
from statemachine.log import trace
from statemachine.runtime import AgentControl, EventsLost, Handle, tracing
from statemachine.runtime.control import inside
from statemachine.runtime.engine import Engine
from statemachine.runtime.live import LiveThreads
from statemachine.runtime.requests import Requests
from statemachine.runtime.stream import Stream, Streams
from statemachine.runtime.threads import Work
from statemachine.runtime.tracing import TraceFile
from statemachine.sinks import Log, log
from tests.runtime.running import (
    Open,
    Stage,
    completed,
    echo,
    ending,
    in_session,
    recorder,
    traced_sessions,
    virtual_time,
)

FIXTURES = (traced_sessions, virtual_time)

FULL = OSError(errno.ENOSPC, "No space left on device")


async def ask(control: AgentControl, path: str = "/root") -> None:
    """Asks for a turn, which completes."""
    assert ending(await (await control.start(path, "go")).outcome()) == completed("go")


# Traces


class FullDisk:
    """A file that takes so many writes. What it could not write, it tries again to write when it is closed."""

    name = "trace.ndjson"

    def __init__(self, writes: int) -> None:
        self.left, self.lines = writes, b""
        self.is_closed = False

    def write(self, lines: bytes) -> None:
        self.left -= 1
        if self.left >= 0:
            self.lines += lines

    def flush(self) -> None:
        if self.left < 0:
            raise FULL

    def close(self) -> None:
        self.is_closed = True
        self.flush()


def use_disk(disk: FullDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traces are written there."""

    def made(_: Path) -> FullDisk:
        return disk

    monkeypatch.setattr(tracing, "new_file", made)


@pytest.mark.parametrize("writes", range(6))
def test_trace_that_cannot_be_written_any_more_gives_one_warning_and_the_session_goes_on(
    writes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = FullDisk(writes)
    use_disk(disk, monkeypatch)

    async def work(control: AgentControl) -> None:
        for _ in range(4):
            await ask(control)
        await control.spawn("/root", "a", "go")

    in_session(tmp_path / "s.db", work, trace=tmp_path / "t")
    assert disk.is_closed
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "goes on without" in caplog.text
    assert "No space left" in caplog.text
    if writes:
        (tmp_path / "t").write_bytes(disk.lines)
        assert trace.read(tmp_path / "t").facts is None
    in_session(tmp_path / "s.db", ask)  # the lock is free again


def test_trace_of_an_event_that_cannot_be_a_line_ends_the_trace_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(event: object) -> bytes:
        raise ValueError(f"{event}")

    monkeypatch.setattr(tracing, "event_line", fails)
    in_session(MemoryStore(), ask, trace=tmp_path / "t.ndjson")
    assert caplog.text.count("goes on without") == 1
    assert (tmp_path / "t.ndjson").read_bytes().count(b"\n") == 1, "the header"


def test_trace_that_fails_while_the_session_is_left_by_an_error_leaves_it_by_that_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FullDisk(1000)
    use_disk(disk, monkeypatch)

    async def raises(control: AgentControl) -> None:
        await ask(control)
        disk.left = 0
        raise KeyError("of the host")

    with pytest.raises(KeyError, match="of the host"):
        in_session(tmp_path / "s.db", raises, trace=tmp_path / "t")
    in_session(tmp_path / "s.db", ask)


# Logging


class Sick(logging.Handler):
    """A handler that raises, which those of `logging` itself do not."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error, self.met = error, 0

    def emit(self, record: logging.LogRecord) -> None:
        self.met += 1
        raise self.error


@pytest.fixture
def sick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sick]:
    handler = Sick(request.param)
    monkeypatch.setattr(log, "has_failed", False)
    log.logger.addHandler(handler)
    yield handler
    log.logger.removeHandler(handler)


@pytest.mark.anyio
@pytest.mark.parametrize("sick", [RuntimeError("no log"), SystemExit(3)], indirect=True)
async def test_handler_of_logging_that_raises_is_told_once_and_disturbs_no_agent(
    open_session: Open, sick: Sick, capsys: pytest.CaptureFixture[str]
) -> None:
    work = recorder()
    work.fail["close"] = RuntimeError("cannot be closed, which is logged")
    async with open_session(work) as control:
        for name in "ab":
            await control.spawn("/root", name, "go")
            await anyio.wait_all_tasks_blocked()
            await control.close(f"/root/{name}")
            await anyio.wait_all_tasks_blocked()
        await ask(control)
    assert sick.met >= 2
    assert capsys.readouterr().err.count("handler or filter of logging raised") == 1


def test_logging_passes_on_an_interrupt_of_the_process_and_names_the_line_that_logs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger = logging.getLogger("statemachine.test")
    Log(logger).warning("here")
    assert caplog.records[-1].filename == Path(__file__).name
    handler = Sick(KeyboardInterrupt())
    logger.addHandler(handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            Log(logger).warning("there")
    finally:
        logger.removeHandler(handler)


def test_no_module_but_that_of_sinks_makes_a_logger() -> None:
    found = {
        path.name
        for path in Path(statemachine.__file__).parent.rglob("*.py")
        if re.search(r"^\s*(import|from) logging\b|getLogger", path.read_text(), re.MULTILINE)
    }
    assert found == {"sinks.py"}


# The clock of records, and events()


@pytest.mark.parametrize("value", [RuntimeError("no time"), SystemExit(1), float("nan"), float("inf"), None, "noon"])
def test_clock_that_fails_gives_one_warning_and_the_time_of_the_machine(
    value: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def clock() -> float:
        if isinstance(value, BaseException):
            raise value
        return value  # type: ignore[no-any-return]

    async def work(control: AgentControl) -> None:
        await ask(control)
        await ask(control)
        assert (await control.history("/root"))[-1].at == 12.5

    monkeypatch.setattr(time, "time", lambda: 12.5)
    in_session(MemoryStore(), work, clock=clock)
    assert caplog.text.count("that of the machine is used instead") == 1


@pytest.mark.anyio
async def test_reader_of_events_that_fails_loses_them_and_no_other_reader_does(
    open_session: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = Stream.add

    def add(stream: Stream, event: Any) -> None:
        if stream is bad:
            raise MemoryError("no room")
        real(stream, event)

    async with open_session(echo) as control, control.events() as bad, control.events() as good:
        monkeypatch.setattr(Stream, "add", add)
        await ask(control)
        await ask(control)
        with pytest.raises(EventsLost):
            await anext(bad)
        with pytest.raises(StopAsyncIteration):
            await anext(bad)
        assert isinstance(await anext(good), MailAccepted)
    assert caplog.text.count("gets no more of them") == 1


@pytest.mark.anyio
@pytest.mark.parametrize("unread_max", ["10", None, 2.5, True, 0, -1])
async def test_events_with_a_bound_that_is_not_a_count_are_refused_and_the_session_goes_on(
    open_session: Open, unread_max: Any
) -> None:
    async with open_session(echo) as control:
        with pytest.raises((TypeError, ValueError), match="unread_max is"):
            async with control.events(unread_max):
                raise AssertionError("not reached")
        await ask(control)


# Leaving: each step raises, in turn

STEPS: dict[str, tuple[Any, str]] = {
    "requests.leave": (Requests, "leave"),
    "requests.end": (Requests, "end"),
    "all streams": (Streams, "end"),
    "one stream": (Stream, "end"),
    "engine.abandon": (Engine, "abandon"),
    "trace.write": (TraceFile, "write"),
    "all threads": (LiveThreads, "drop_all"),
    "one thread": (LiveThreads, "_drop"),
    "trace.close": (TraceFile, "close"),
    "store.close": (SQLiteStore, "close"),
}


class Break:
    """A step that raises, the first time after it is armed, when it has been carried out."""

    def __init__(self, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
        owner, name = STEPS[step]
        real = getattr(owner, name)
        self.step, self.is_armed, self.raised = step, False, 0

        async def later(*args: Any) -> Any:
            await real(*args)
            self.fail()

        def at_once(*args: Any) -> Any:
            real(*args)
            self.fail()

        monkeypatch.setattr(owner, name, later if step == "store.close" else at_once)

    def fail(self) -> None:
        if self.is_armed and not self.raised:
            self.raised = 1
            raise ArithmeticError(self.step)


class Host:
    """A host with a session in which something of everything is under way, and what it learns from its end."""

    def __init__(self, folder: Path) -> None:
        self.stage, self.keeper = Stage(), recorder()
        self.path = folder / "s.db"
        self.told: list[str] = []
        work: dict[str, Work] = {"default": echo, "stage": self.stage, "keep": self.keeper}
        self.control = AgentControl.open(self.path, work, trace=folder / "t.ndjson")

    async def furnish(self, callers: TaskGroup) -> None:
        """Two idle threads, a turn that runs, and callers outside of the block that wait."""
        for name in "ab":
            await (await self.control.spawn("/root", name, "go", role="keep")).outcome()
        handle = await self.control.spawn("/root", "c", "go", role="stage")
        await self.stage.scene("/root/c")
        callers.start_soon(self._hear, handle)
        for _ in range(2):
            callers.start_soon(self._read)
        await anyio.wait_all_tasks_blocked()

    async def _hear(self, handle: Handle) -> None:
        try:
            outcome = await handle.outcome()
            self.told.append(outcome.status.name)
        except (SessionClosed, StoreFailed) as refusal:
            self.told.append(type(refusal).__name__)

    async def _read(self) -> None:
        async with self.control.events() as events:
            async for _ in events:
                pass
        self.told.append("read all")

    def check_all_is_done(self) -> None:
        """Every step of leaving was carried out."""
        assert sorted(self.told)[1:] == ["read all", "read all"], self.told
        assert [line for line in self.keeper.log if "close" in line] in (
            ["close /root/a", "close /root/b"],
            ["close /root/b", "close /root/a"],
        )
        assert self.stage.scenes["/root/c", 1].was_cancelled
        assert inside(self.control).live.threads == {}
        in_session(self.path, ask)  # the lock is free


@pytest.mark.parametrize("how", ["in peace", "by an error", "cancelled", "failed"])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_step_of_leaving_that_raises_keeps_no_other_from_being_carried_out(
    step: str, how: str, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, host = Break(step, monkeypatch), Host(tmp_path)

    async def use(scope: anyio.CancelScope, callers: TaskGroup) -> None:
        async with host.control:
            await host.furnish(callers)
            broken.is_armed = True
            if how == "by an error":
                raise KeyError("of the host")
            if how == "cancelled":
                scope.cancel()
                await anyio.sleep_forever()
            if how == "failed":
                inside(host.control).engine.fail(OSError("the disk"))

    async def main() -> None:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as callers:
                with anyio.CancelScope() as scope:
                    with suppress(ArithmeticError, KeyError, StoreFailed):
                        await use(scope, callers)
                await anyio.lowlevel.checkpoint()  # the task of the host is not cancelled any more

    anyio.run(main, backend=backend)
    monkeypatch.undo()
    assert broken.raised
    host.check_all_is_done()
