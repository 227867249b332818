"""Verbs that are called in another thread or event loop than the session's, and sessions whose event loop is gone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import from_thread, to_thread

from statemachine import MemoryStore
from statemachine.core.refusals import SessionClosed
from statemachine.runtime import AgentControl, Handle, Turn, WrongEventLoop
from statemachine.runtime.control import inside
from tests.runtime.running import Stage, completed, echo, ending

REAL = pytest.mark.parametrize("backend", ["asyncio", "trio"])


async def read_events(control: AgentControl) -> None:
    async with control.events() as events:
        await anext(events)


async def all_of(turn: Turn, handle: Handle) -> None:
    async for _ in turn.as_completed(handle):
        pass


async def lend(turn: Turn) -> None:
    async with turn.lend():
        pass


Call = Callable[[AgentControl, Turn, Handle], Coroutine[Any, Any, Any]]
CALLS: dict[str, Call] = {
    "AgentControl.spawn": lambda c, t, h: c.spawn("/root", "n", "x"),
    "AgentControl.spawn with a key": lambda c, t, h: c.spawn("/root", "n", "x", key="k"),
    "AgentControl.send": lambda c, t, h: c.send("/root/a", "x"),
    "AgentControl.send with a key": lambda c, t, h: c.send("/root/a", "x", key="k"),
    "AgentControl.follow_up": lambda c, t, h: c.follow_up("/root/a", "x"),
    "AgentControl.start": lambda c, t, h: c.start("/root", "x"),
    "AgentControl.withdraw": lambda c, t, h: c.withdraw(h),
    "AgentControl.interrupt": lambda c, t, h: c.interrupt("/root/a"),
    "AgentControl.close": lambda c, t, h: c.close("/root/a"),
    "AgentControl.resume": lambda c, t, h: c.resume("/root/a"),
    "AgentControl.forget": lambda c, t, h: c.forget("/root/a"),
    "AgentControl.status": lambda c, t, h: c.status("/root/a"),
    "AgentControl.list": lambda c, t, h: c.list(),
    "AgentControl.history": lambda c, t, h: c.history("/root/a"),
    "AgentControl.handle": lambda c, t, h: c.handle(h.ref),
    "AgentControl.backup": lambda c, t, h: c.backup("never-made.db"),
    "AgentControl.shutdown": lambda c, t, h: c.shutdown(0),
    "AgentControl.events": lambda c, t, h: read_events(c),
    "Handle.outcome": lambda c, t, h: h.outcome(),
    "Turn.drain": lambda c, t, h: t.drain(),
    "Turn.wait": lambda c, t, h: t.wait(1),
    "Turn.outcomes": lambda c, t, h: t.outcomes(h),
    "Turn.as_completed": lambda c, t, h: all_of(t, h),
    "Turn.lend": lambda c, t, h: lend(t),
    "Turn.sleep": lambda c, t, h: t.sleep(1),
    "Turn.record": lambda c, t, h: t.record("x"),
    "Turn.history": lambda c, t, h: t.history(),
    "Turn.spawn": lambda c, t, h: t.spawn("n", "x"),
    "Turn.send": lambda c, t, h: t.send("/root", "x"),
    "Turn.follow_up": lambda c, t, h: t.follow_up("/root", "x"),
    "Turn.withdraw": lambda c, t, h: t.withdraw(h),
    "Turn.interrupt": lambda c, t, h: t.interrupt("/root/a"),
    "Turn.close": lambda c, t, h: t.close("/root/a"),
    "Turn.resume": lambda c, t, h: t.resume("/root/a"),
    "Turn.status": lambda c, t, h: t.status("/root/a"),
    "Turn.list": lambda c, t, h: t.list(),
}


@REAL
@pytest.mark.parametrize("other", ["asyncio", "trio"])
def test_every_verb_in_another_thread_with_an_event_loop_of_its_own_is_refused_and_changes_nothing(
    backend: str, other: str
) -> None:
    async def main() -> None:
        stage = Stage()
        async with AgentControl.open(MemoryStore(), stage) as control:
            handle = await control.spawn("/root", "a", "x")
            scene = await stage.scene("/root/a")
            before = control.statistics().records, inside(control).engine.counts.refusals.total()

            def elsewhere(call: Call) -> None:
                async def called() -> None:
                    with anyio.fail_after(30):
                        await call(control, scene.turn, handle)

                with pytest.raises(WrongEventLoop, match=r"anyio\.from_thread\.run.*run_coroutine_threadsafe") as told:
                    anyio.run(called, backend=other)
                assert told.value.thread == threading.current_thread().name

            for call in CALLS.values():
                await to_thread.run_sync(elsewhere, call)
            await anyio.wait_all_tasks_blocked()
            assert (control.statistics().records, inside(control).engine.counts.refusals.total()) == before
            assert inside(control).requests.keys == []
            assert control.statistics().waiting == 0
            scene.end()
            assert ending(await handle.outcome()) == completed("done")

    anyio.run(main, backend=backend)


def test_every_public_verb_is_called_from_elsewhere() -> None:
    from tests.runtime.test_cancellation import SWEPT, verbs  # noqa: PLC0415

    all_verbs = {f"{cls.__name__}.{verb}" for cls in SWEPT for verb in verbs(cls)} - {"AgentControl.open"}
    assert {name.split(" ")[0] for name in CALLS} == all_verbs


@REAL
def test_verb_from_a_thread_by_anyio_goes_to_the_session(backend: str) -> None:
    async def main() -> None:
        async with AgentControl.open(MemoryStore(), echo) as control:

            def elsewhere() -> Handle:
                return from_thread.run(control.spawn, "/root", "a", "x")

            handle = await to_thread.run_sync(elsewhere)
            assert ending(await handle.outcome()) == completed("x")

    anyio.run(main, backend=backend)


@REAL
def test_verb_of_a_session_that_was_left_says_so_in_any_event_loop(backend: str) -> None:
    controls: list[AgentControl] = []

    async def main() -> None:
        async with AgentControl.open(MemoryStore(), echo) as control:
            controls.append(control)

    async def late() -> None:
        for call in (controls[0].spawn("/root", "a", "x"), controls[0].send("/root", "x", key="k")):
            with pytest.raises(SessionClosed):
                await call

    anyio.run(main, backend=backend)
    anyio.run(late, backend=backend)


def test_verb_in_a_second_event_loop_of_the_same_thread_is_refused() -> None:
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    control = AgentControl.open(MemoryStore(), echo)
    entered, leave = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with control:
            entered.set()
            await leave.wait()

    try:
        held = first.create_task(hold())
        first.run_until_complete(entered.wait())
        with pytest.raises(WrongEventLoop):
            second.run_until_complete(control.spawn("/root", "a", "x"))
        handle = first.run_until_complete(control.spawn("/root", "a", "x", key="k"))
        assert ending(first.run_until_complete(handle.outcome())) == completed("x")
        leave.set()
        first.run_until_complete(held)
    finally:
        first.close()
        second.close()


LEFT_BEHIND = """
import asyncio, logging, sys
from statemachine import AgentControl

logging.disable()  # asyncio tells of the tasks that it leaves behind

async def work(turn):
    await asyncio.sleep(0 if turn.mail[-1].text == "again" else 1000)
    return "done"

path = sys.argv[1]
kept = []
for number in range(3):
    loop = asyncio.new_event_loop()
    control = AgentControl.open(path, work)
    kept.append(control)
    loop.run_until_complete(control.__aenter__())
    loop.run_until_complete(control.spawn("/root", f"a{number}", "x", key=str(number)))
    loop.close()

async def again():
    async with AgentControl.open(path, work) as control:
        for number in range(3):
            handle = await control.follow_up(f"/root/a{number}", "again")
            print((await handle.outcome()).result)

asyncio.run(again())
"""


def test_session_whose_event_loop_was_closed_in_its_block_is_opened_again_in_the_same_process(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LEFT_BEHIND, str(tmp_path / "session.db")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "done\ndone\ndone\n"), done.stderr
