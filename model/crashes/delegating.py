"""Turns that delegate, in the process that is killed: they await what they have asked for, and say what they were told.

    {"told": [2, 5], "outcome": 12, "is": [...]}      the turn has awaited request 12, and this came of it

On asyncio also by its own means: `asyncio.timeout`, `asyncio.wait_for` and a task that is cancelled. However code comes
out of a wait, its turn has a slot, or is to stop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from random import Random
from typing import Any, Protocol

import anyio
from anyio.lowlevel import checkpoint

from statemachine.core.events import WaitMode
from statemachine.core.machines import TurnState
from statemachine.core.records import Outcome
from statemachine.runtime import AgentControl, Handle, Turn
from statemachine.runtime.control import inside

AWAIT_S = 0.02
"""Less than until the kill, so that others get their turns."""
WITHOUT_SLOT = (TurnState.WAITING, TurnState.RETURNING)


class Life(Protocol):
    """What asks in the name of turns (`model/crashes/child.py`)."""

    control: AgentControl

    async def ask(self, request: dict[str, Any], turn: Turn | None = None) -> Handle | None:
        """Asks, and says what was told."""
        ...

    def work_for_others(self, rng: Random, by: int) -> dict[str, Any]:
        """A request that an agent awaits."""
        ...

    def told(self, turn: Turn, handle: Handle, outcome: Outcome) -> None:
        """Says what a turn was told that has awaited a request."""
        ...

    def broken(self, text: str) -> None:
        """Says that something is so that must not be."""
        ...


Await = Callable[[Life, Turn, Random, Sequence[Handle]], Awaitable[None]]


async def delegate(life: Life, turn: Turn, rng: Random) -> None:
    """Asks children for work, and awaits them in one of many ways."""
    handles: list[Handle] = []
    for _ in range(rng.randrange(1, 4)):
        handle = await life.ask(life.work_for_others(rng, turn.agent.id), turn)
        handles += [] if handle is None else [handle]
    if handles:
        ways = AWAITS if not is_asyncio() else (*AWAITS, *AWAITS_OF_ASYNCIO)
        await rng.choice(ways)(life, turn, rng, handles)
        check_slot(life, turn)


def is_asyncio() -> bool:
    """Does this process run on asyncio?"""
    return anyio.get_cancelled_exc_class() is asyncio.CancelledError


def check_slot(life: Life, turn: Turn) -> None:
    """Code of the turn goes on, and none of its tasks waits. In a session that lost its store, all code goes on to its
    end.
    """
    parts = inside(life.control)
    known = parts.session.agents[turn.agent.id]
    if parts.engine.error is None and known.turn == turn.number and known.status in WITHOUT_SLOT:
        life.broken(f"S1: turn {turn.number} of {turn.path} goes on while it is {known.status.name}")


async def one_by_one(life: Life, turn: Turn, _: Random, handles: Sequence[Handle]) -> None:
    for handle in handles:
        life.told(turn, handle, await handle.outcome())


async def all_at_once(life: Life, turn: Turn, _: Random, handles: Sequence[Handle]) -> None:
    for handle, outcome in zip(handles, await turn.outcomes(*handles), strict=True):
        life.told(turn, handle, outcome)


async def as_completed(_: Life, turn: Turn, rng: Random, handles: Sequence[Handle]) -> None:
    async with aclosing(turn.as_completed(*handles)) as outcomes:
        async for _outcome in outcomes:
            if rng.random() < 0.3:
                break


async def gathered(life: Life, turn: Turn, rng: Random, handles: Sequence[Handle]) -> None:
    with anyio.move_on_after(rng.random() * AWAIT_S):
        async with anyio.create_task_group() as tasks:
            for handle in handles:
                tasks.start_soon(one_by_one, life, turn, rng, (handle,))


async def within_time(life: Life, turn: Turn, rng: Random, handles: Sequence[Handle]) -> None:
    with anyio.move_on_after(rng.random() * AWAIT_S):
        await one_by_one(life, turn, rng, handles)


async def shielded(life: Life, turn: Turn, rng: Random, handles: Sequence[Handle]) -> None:
    with anyio.CancelScope(shield=True):
        await one_by_one(life, turn, rng, handles)


async def in_finally(life: Life, turn: Turn, rng: Random, handles: Sequence[Handle]) -> None:
    try:
        await turn.sleep(rng.random() * AWAIT_S)
        if rng.random() < 0.3:
            raise ValueError(f"e{turn.agent.id}.{turn.number}")
    finally:
        await one_by_one(life, turn, rng, handles)


async def while_lending(life: Life, turn: Turn, rng: Random, handles: Sequence[Handle]) -> None:
    async with turn.lend():
        with anyio.move_on_after(rng.random() * AWAIT_S):
            await anyio.sleep(rng.random() * AWAIT_S)
            await one_by_one(life, turn, rng, handles)


async def for_requests(_: Life, turn: Turn, rng: Random, handles: Sequence[Handle]) -> None:
    await turn.wait(rng.random() * AWAIT_S, requests=tuple(handles), mode=rng.choice(list(WaitMode)), mail=False)


async def asyncio_timeout(life: Life, turn: Turn, rng: Random, handles: Sequence[Handle]) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(rng.random() * AWAIT_S):
            await one_by_one(life, turn, rng, handles)


async def asyncio_wait_for(life: Life, turn: Turn, rng: Random, handles: Sequence[Handle]) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(one_by_one(life, turn, rng, handles), rng.random() * AWAIT_S)


async def asyncio_cancel(life: Life, turn: Turn, rng: Random, handles: Sequence[Handle]) -> None:
    task = asyncio.create_task(one_by_one(life, turn, rng, handles))
    for _ in range(rng.randrange(6)):
        await checkpoint()
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error


AWAITS: tuple[Await, ...] = (
    *(one_by_one, all_at_once, as_completed, gathered, within_time, shielded, in_finally, while_lending, for_requests),
)
AWAITS_OF_ASYNCIO: tuple[Await, ...] = (asyncio_timeout, asyncio_wait_for, asyncio_cancel)
