"""What is given as work, and for which roles: what cannot be work is refused when the session is opened (harm)."""

from __future__ import annotations

import re
import types
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial, wraps
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import anyio
import attrs
import pytest

from statemachine import AgentControl, AgentInfo, MemoryStore, Thread, Turn
from statemachine.errors import ForeignFile, InvalidWork, UnknownRole
from statemachine.stores import LogRecord
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


async def of_nothing() -> str:
    """Takes no turn."""
    return ""


async def of_two(turn: Turn, other: object) -> str:
    return f"{turn.path} {other}"


async def by_keyword(turn: Turn, *, other: object) -> str:
    return f"{turn.path} {other}"


async def of_two_completed(turn: Turn, other: object) -> str:
    assert other == "x"
    return turn.path


class OfNothing:
    async def __call__(self) -> str:
        """Takes no turn."""
        return ""

    async def work(self) -> str:
        """Takes no turn."""
        return ""


of_one: Any = AsyncCall().work
TAKE_NO_TURN = {
    "function of nothing": of_nothing,
    "function of two": of_two,
    "function with a keyword": by_keyword,
    "method of nothing": OfNothing().work,
    "object with a call of nothing": OfNothing(),
    "function completed too much": partial(of_one, None),
    "function completed too little": partial(of_two),
}


@pytest.mark.parametrize("work", TAKE_NO_TURN.values(), ids=TAKE_NO_TURN)
def test_function_that_cannot_be_called_with_a_turn_alone_is_refused_and_told_what_to_write(work: Any) -> None:
    with pytest.raises(InvalidWork, match="cannot be called with a turn and nothing else; write `async def work"):
        AgentControl.open(MemoryStore(), work)


def a_class(*bases: type, **members: Any) -> Any:
    """A class of threads with these members, and a right `run`."""
    return type("Made", bases or (Thread,), {"run": Worker.run, **members})


class SyncFlush:
    """A mixin."""

    def flush(self) -> None:
        """Is not async."""


def of_self(self: Any) -> None:
    """A method that is not async."""


def of_self_and_one(self: Any, _: Any) -> None:
    """A method that is not async, with one argument."""


def sync_of_self(self: Any, turn: Turn) -> str:
    return str(turn.path)


def generates(self: Any, turn: Turn) -> Any:
    yield turn


async def async_of_self(self: Any) -> None:
    """A method without an argument."""


async def async_of_three(self: Any, _: Any, __: Any) -> None:
    """A method with two arguments."""


async def yields(self: Any, turn: Turn) -> Any:
    yield turn.path


async def init(self: Any, agent: Any) -> None:
    """Makes nothing."""


class Unfinished(Thread, ABC):
    @abstractmethod
    async def run(self, turn: Turn) -> str:
        """Is written in classes derived from this."""


THREADS_THAT_CANNOT_WORK: dict[str, tuple[Any, str]] = {
    "no run": (type("NoRun", (Thread,), {}), "has no method `run`; write `async def run(self, turn)`"),
    "Thread itself": (Thread, "has no method `run`"),
    "run of a mixin that comes too late": (type("Late", (Thread, Plain), {}), "has no method `run`"),
    "sync run": (a_class(run=of_self_and_one), "`run` is not async; write `async def run(self, turn)`"),
    "sync run of a base": (type("Made", (a_class(run=of_self_and_one),), {}), "`run` is not async"),
    "async generator": (a_class(run=yields), "`run` is an async generator, because it has a `yield`"),
    "run of nothing": (a_class(run=async_of_self), "`run` cannot be called with turn; write"),
    "run of two": (a_class(run=async_of_three), "`run` cannot be called with turn; write"),
    "run that is not there": (a_class(run=None), "`run` cannot be called; write"),
    "static run": (a_class(run=staticmethod(init)), "`run` cannot be called with turn; write"),
    "sync load": (a_class(load=of_self_and_one), "`load` is not async; write `async def load(self, history)`"),
    "load of nothing": (a_class(load=async_of_self), "`load` cannot be called with history; write"),
    "sync load_from": (a_class(load_from=of_self_and_one), "`load_from` is not async; write"),
    "sync flush": (a_class(flush=of_self), "`flush` is not async; write `async def flush(self)`"),
    "sync flush of a mixin": (a_class(SyncFlush, Thread), "`flush` is not async"),
    "flush of one": (a_class(flush=init), "`flush` cannot be called with nothing else; write"),
    "sync close": (a_class(close=of_self), "`close` is not async; write `async def close(self)`"),
    "run that says that it returns a text": (a_class(run=sync_of_self), "`run` is not async"),
    "run that returns a text": (a_class(run=lambda self, turn: "x"), "`run` is not async"),
    "run that returns a list": (a_class(run=lambda self, turn: [turn]), "`run` is not async"),
    "generator": (a_class(run=generates), "`run` is not async"),
    "sync class method": (a_class(close=classmethod(of_self)), "`close` is not async"),
    "init of nothing": (a_class(__init__=of_self), "cannot be made of an agent and nothing else; write"),
    "async init": (a_class(__init__=init), "`__init__` is async; write `def __init__(self, agent)`"),
    "abstract": (Unfinished, "is abstract"),
}


@pytest.mark.parametrize(("work", "problem"), THREADS_THAT_CANNOT_WORK.values(), ids=THREADS_THAT_CANNOT_WORK)
def test_class_of_threads_that_cannot_work_is_refused_and_told_what_to_write(work: Any, problem: str) -> None:
    for given, role in ((work, None), ({"default": echo, "other": work}, "other")):
        with pytest.raises(InvalidWork, match=re.escape(problem)) as refused:
            AgentControl.open(MemoryStore(), given)
        assert refused.value.role == role


class RunOfInit(Thread):
    """Has a `run` of each object."""

    def __init__(self, agent: AgentInfo, **_: Any) -> None:
        super().__init__(agent)
        self.run = AsyncCall().work  # type: ignore[method-assign]


class RunOfLoad(Thread):
    """Has a `run` from its load on."""

    async def load(self, history: tuple[LogRecord, ...]) -> None:
        self.run = AsyncCall().work  # type: ignore[method-assign]


def given_two(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """A decorator that gives a function what the caller does not."""

    @wraps(function)
    async def call(*arguments: Any) -> Any:
        return await function(*arguments, "given")

    return call


@given_two
async def gets_two(turn: Turn, given: str) -> str:
    assert given == "given"
    return turn.path


async def run_of_two(self: Any, turn: Turn, given: str) -> str:
    assert given == "given"
    return turn.path


class Decorated(Thread):
    run: Any = given_two(run_of_two)

    @staticmethod
    async def flush() -> None:
        """Belongs to no object."""

    @classmethod
    async def close(cls) -> None:
        """Belongs to the class."""


def wrapped_as_sync(_: Any, turn: Turn) -> Any:
    return returning(turn)


wraps(sync_of_self)(wrapped_as_sync)


class Annotated(Thread):
    def run(self, turn: Turn) -> Coroutine[Any, Any, str]:
        return AsyncCall().work(turn)


@attrs.define
class Attrs(Thread):
    agent: AgentInfo
    said: str = ""

    async def run(self, turn: Turn) -> str:
        return turn.path


class Mixed(AsyncCall, Thread):
    run = AsyncCall.work


WORK: dict[str, Any] = {
    "class whose init makes its run": RunOfInit,
    "class whose load makes its run": RunOfLoad,
    "function that is given two by its decorator": gets_two,
    "function of two, completed": partial(of_two_completed, other="x"),
    "class with decorated and static methods": Decorated,
    "class with a method that says that it returns an awaitable": Annotated,
    "class with a method that returns what is awaited, and says nothing": a_class(run=lambda _, turn: returning(turn)),
    "class with a method that may return what is awaited": a_class(
        run=lambda _, turn: returning(turn) if turn.mail else None
    ),
    "class with a wrapper that has the annotations of another": a_class(run=wrapped_as_sync),
    "class with a partial": a_class(run=staticmethod(partial(AsyncCall().work))),
    "class of attrs": Attrs,
    "class with a mixin": Mixed,
    "class whose run is a mock": a_class(run=AsyncMock(return_value="/root")),
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


@pytest.mark.parametrize("context", [{}, 5, "x"])
def test_context_that_is_not_one_is_refused_and_says_what_makes_one(context: Any) -> None:
    with pytest.raises(TypeError, match=r"contextvars.copy_context\(\)"):
        AgentControl.open(MemoryStore(), echo, context=context)
