"""What is given as work, and for which roles: what cannot be work is refused when the session is opened (harm)."""

from __future__ import annotations

import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial, wraps
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import anyio
import pytest

from statemachine import AgentControl, MemoryStore, Thread, Turn
from statemachine.errors import ForeignFile, InvalidWork, UnknownRole
from tests.runtime.running import Open, completed, counts, echo, ending, traced_sessions, virtual_time

FIXTURES = (traced_sessions, virtual_time)


def sync(turn: Turn) -> str:
    return turn.path


async def several(turn: Turn) -> Any:
    yield turn.path


class Plain:
    def run(self, turn: Turn) -> str:
        return turn.path


class SyncCall:
    def __call__(self, turn: Turn) -> str:
        return turn.path


class AsyncCall:
    async def __call__(self, turn: Turn) -> str:
        return turn.path

    async def work(self, turn: Turn) -> str:
        return turn.path

    def sync(self, turn: Turn) -> str:
        return turn.path


class Worker(Thread):
    async def run(self, turn: Turn) -> str:
        return turn.path


@types.coroutine
def old(turn: Turn) -> Generator[Any, Any, str]:
    yield from anyio.lowlevel.checkpoint().__await__()
    return turn.path


def logged(function: Callable[[Turn], Awaitable[Any]]) -> Callable[[Turn], Awaitable[Any]]:
    """A decorator that is not async."""

    @wraps(function)
    def call(turn: Turn) -> Awaitable[Any]:
        return function(turn)

    return call


def made_async(function: Callable[[Turn], Any]) -> Callable[[Turn], Awaitable[Any]]:
    """A decorator that makes a function async."""

    @wraps(function)
    async def call(turn: Turn) -> Any:
        await anyio.lowlevel.checkpoint()
        return function(turn)

    return call


def returning(turn: Turn) -> Awaitable[str]:
    return AsyncCall().work(turn)


def returning_object(turn: Turn) -> Any:
    return AsyncCall().work(turn)


returning_object.__annotations__["return"] = Coroutine[Any, Any, str]
NOT_WORK = {
    "function": (sync, "not an async function"),
    "lambda": (lambda turn: turn, "not an async function"),
    "async generator": (several, "not an async function"),
    "decorated function": (wraps(sync)(lambda turn: f"{sync(turn)}"), "not an async function"),
    "completed function": (partial(sync), "not an async function"),
    "method": (AsyncCall().sync, "not an async function"),
    "builtin": (print, "not an async function"),
    "object with a call": (SyncCall(), "not an async function"),
    "class": (Plain, "a class that is not derived from Thread"),
    "class with a call": (AsyncCall, "a class that is not derived from Thread"),
    "completed class": (partial(Worker), "not an async function"),
    "object": (Plain(), "cannot be called"),
    "nothing": (None, "cannot be called"),
}


@pytest.mark.parametrize(("work", "problem"), NOT_WORK.values(), ids=NOT_WORK)
def test_what_cannot_be_work_is_refused_before_anything_is_opened_and_told_what_to_write(
    work: Any, problem: str, tmp_path: Path
) -> None:
    for given, role in ((work, None), ({"default": echo, "other": work}, "other")):
        with pytest.raises(InvalidWork, match=problem) as refused:
            AgentControl.open(tmp_path / "s.db", given)
        assert refused.value.role == role
        assert "write `async def work(turn)`" in str(refused.value)
        assert ("'other'" in str(refused.value)) == (role is not None)
    assert list(tmp_path.iterdir()) == []


def test_object_of_a_thread_is_refused_with_the_hint_to_give_its_class() -> None:
    thread: Any = Worker(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidWork, match="give the class"):
        AgentControl.open(MemoryStore(), thread)


WORK: dict[str, Any] = {
    "method": AsyncCall().work,
    "object with a call": AsyncCall(),
    "completed function": partial(logged(partial(AsyncCall().work))),
    "decorated function": logged(AsyncCall().work),
    "function made async": made_async(sync),
    "coroutine of types": old,
    "function that says that it returns an awaitable": returning,
    "function annotated with a coroutine": returning_object,
    "class of threads": Worker,
}


@pytest.mark.anyio
@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
async def test_whatever_is_async_in_some_way_is_work(work: Any) -> None:
    with anyio.fail_after(60):
        async with AgentControl.open(MemoryStore(), work) as control:
            assert ending(await (await control.start("/root", "x")).outcome()) == completed("/root")


@pytest.mark.anyio
async def test_mock_that_is_awaited_is_work(open_session: Open) -> None:
    async with open_session(AsyncMock(return_value="mocked")) as control:
        assert ending(await (await control.start("/root", "x")).outcome()) == completed("mocked")


@pytest.mark.parametrize("work", [{}, {"reader": echo}], ids=["none at all", "another role"])
def test_mapping_without_the_role_of_the_root_is_refused_and_says_which_it_is(work: Any) -> None:
    with pytest.raises(InvalidWork, match="without the role 'default', which the root has"):
        AgentControl.open(MemoryStore(), work)


def test_role_that_is_not_a_text_is_refused() -> None:
    work: Any = {"default": echo, 1: echo}
    with pytest.raises(InvalidWork, match="1 for a role, which is not a text"):
        AgentControl.open(MemoryStore(), work)


@pytest.mark.anyio
async def test_role_that_has_no_work_is_refused_when_an_agent_is_spawned_with_it(open_session: Open) -> None:
    for work, roles in ((echo, ("default",)), ({"default": echo, "reader": echo}, ("default", "reader"))):
        async with open_session(work) as control:
            for key in (None, "k"):
                with pytest.raises(UnknownRole, match="no work for role 'writer'") as refused:
                    await control.spawn("/root", "a", "x", role="writer", key=key)
                assert (refused.value.role, refused.value.roles) == ("writer", roles)
            assert len(await control.list()) == 1
            assert counts(control) == {}
            handle = await control.spawn("/root", "a", "x", role="default", key="k")
            assert ending(await handle.outcome()) == completed("x")


def test_path_that_means_memory_to_sqlite_is_refused_with_the_name_of_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ForeignFile, match=r"open MemoryStore\(\)"):
        AgentControl.open(":memory:", echo)
    assert list(tmp_path.iterdir()) == []
