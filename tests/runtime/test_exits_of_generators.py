"""`sys.exit` in the clean-up of an async generator that an agent's code has broken off: it does not end the event loop,
whatever drops it.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import anyio
import pytest

from statemachine.runtime import AgentControl, Turn
from statemachine.runtime.exits import IN_AGENT
from statemachine.stores import MemoryStore
from tests.runtime.running import echo, in_session

pytestmark = pytest.mark.filterwarnings("ignore:Async generator .* was garbage collected:ResourceWarning")  # by trio

Numbers = AsyncGenerator[int, None]
EXITED = "a task of the agent's code has exited (SystemExit: 3)"


@pytest.fixture(autouse=True)
def no_collection_before_its_time() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


async def stream() -> Numbers:
    try:
        while True:
            await anyio.lowlevel.checkpoint()
            yield 1
    finally:
        sys.exit(3)


async def awaiting() -> Numbers:
    try:
        yield 1
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.lowlevel.checkpoint()
        sys.exit(3)


class Tool:
    """Holds a stream, and itself."""

    def __init__(self, numbers: Numbers) -> None:
        self.me = self
        self.numbers = numbers


async def first_of(numbers: Numbers) -> int:
    async for number in numbers:
        return number
    return 0


async def let_all_run() -> None:
    for _ in range(10):
        await anyio.lowlevel.checkpoint()


async def answer(control: AgentControl, text: str) -> Any:
    return (await (await control.start("/root", text)).outcome()).result


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("numbers", [stream, awaiting])
def test_generator_of_a_turn_that_the_host_collects_ends_no_session_by_its_exit(
    numbers: Any, backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(turn: Turn) -> str:
        await first_of(Tool(numbers()).numbers)
        return await echo(turn)

    async def do(control: AgentControl) -> None:
        for text in ("a", "b"):
            assert await answer(control, text) == text
            gc.collect()
            await let_all_run()
        assert (await (await control.spawn("/root", "other", "c")).outcome()).result == "c"
        gc.collect()
        await let_all_run()

    with caplog.at_level(logging.ERROR):
        in_session(MemoryStore(), do, work, backend=backend)
    gc.collect()
    if backend == "asyncio":
        assert caplog.text.count(f"RuntimeError: {EXITED}") == 3


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_generator_of_a_turn_whose_last_reference_the_host_drops_ends_no_session_by_its_exit(backend: str) -> None:
    kept: list[Numbers] = []

    async def work(turn: Turn) -> str:
        kept.append(stream())
        await first_of(kept[0])
        return await echo(turn)

    async def do(control: AgentControl) -> None:
        assert await answer(control, "a") == "a"
        kept.clear()
        await let_all_run()
        assert await answer(control, "b") == "b"
        kept.clear()
        await let_all_run()

    in_session(MemoryStore(), do, work, backend=backend)


def test_generator_of_one_session_is_contained_while_another_one_is_open() -> None:
    kept: list[Numbers] = []

    async def work(turn: Turn) -> str:
        kept.append(stream())
        await first_of(kept[0])
        return await echo(turn)

    async def do(control: AgentControl) -> None:
        async with AgentControl.open(MemoryStore(), work) as other:
            assert await answer(other, "a") == "a"
        kept.clear()
        await let_all_run()
        assert await answer(control, "b") == "b"

    in_session(MemoryStore(), do)


def test_hooks_of_the_loop_are_called_and_are_as_they_were_once_all_sessions_are_left() -> None:
    told: list[tuple[str, str, bool]] = []

    def begun(numbers: Any) -> None:
        told.append(("begun", numbers.__name__, IN_AGENT.get()))

    def dropped(numbers: Any) -> None:
        told.append(("dropped", numbers.__name__, IN_AGENT.get()))

    async def of_agent() -> Numbers:
        yield 1

    async def of_host() -> Numbers:
        yield 2

    kept: list[Any] = []

    async def work(turn: Turn) -> str:
        kept.append(of_agent())
        await first_of(kept[0])
        return await echo(turn)

    async def main() -> None:
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(begun, dropped)
        try:
            async with AgentControl.open(MemoryStore(), work) as control:
                async with AgentControl.open(MemoryStore(), echo):
                    pass
                await answer(control, "a")
                kept.append(of_host())
                await first_of(kept[1])
                assert [one.__qualname__ for one in kept] == [of_agent.__qualname__, of_host.__qualname__]
                assert of_agent.__qualname__ in repr(kept[0])
                kept.pop()
                kept.clear()
                assert [one for one in told if one[1] in ("of_agent", "of_host")] == [
                    ("begun", "of_agent", True),
                    ("begun", "of_host", False),
                    ("dropped", "of_host", False),
                    ("dropped", "of_agent", True),
                ]
            assert tuple(sys.get_asyncgen_hooks()) == (begun, dropped)
        finally:
            sys.set_asyncgen_hooks(*hooks)

    asyncio.run(main())


def test_hook_that_other_code_has_put_around_ours_is_called_and_exits_are_contained() -> None:
    kept: list[Numbers] = []

    async def work(turn: Turn) -> str:
        kept.append(stream())
        await first_of(kept[0])
        return await echo(turn)

    told: list[str] = []

    async def do(control: AgentControl) -> None:
        ours = sys.get_asyncgen_hooks()

        def begun(numbers: Any) -> None:
            assert ours.firstiter is not None
            ours.firstiter(numbers)
            told.append(numbers.__name__)

        sys.set_asyncgen_hooks(begun)
        async with AgentControl.open(MemoryStore(), work) as other:  # puts hooks around that one
            assert await answer(other, "a") == "a"
            kept.clear()
            await let_all_run()
        assert await answer(control, "b") == "b"
        assert "stream" in told

    in_session(MemoryStore(), do)
