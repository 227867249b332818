"""Keeps `SystemExit` in a task of an agent's code from ending the event loop of all.

asyncio passes `SystemExit` of any task on to the code that runs the loop, at once: `await asyncio.wait_for(tool(), 5)`,
whose tool calls `sys.exit`, ended every session there. What asyncio offers is the task factory of the loop. Ours leaves
the making of tasks to the one that was there, and touches no task but those that code of agents starts, which is known
by a context variable that tasks inherit: such a task fails by an ordinary error that names the exit, and code that
awaits it sees that. `KeyboardInterrupt` is the process's and stays what it is. trio needs none of this.

An async generator that code has broken off is closed in a task, too, which asyncio makes where the generator is found
to be garbage, which may be in code of the host. So it is marked where it is first iterated, by a hook for async
generators around that of the loop, and its closing begins as in the code of agents. trio closes generators without
being ended by what they raise.

Not seen here: a callback (`loop.call_soon(sys.exit)`), a task that is made past the loop (`asyncio.Task(...)`), one
that another thread of the machine asks for, unless anyio started that thread, and a generator that is closed after all
sessions of the loop were left, or that is first iterated once the loop was stopped and runs again.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from types import CellType
from typing import Any
from weakref import WeakKeyDictionary

from statemachine.core.exact import said
from statemachine.runtime.forks import end_if_forked

EXITED = "a task of the agent's code has exited (SystemExit: {:.200})"
EAGER = getattr(getattr(asyncio, "eager_task_factory", None), "__code__", None)
"""By which an eager factory is known, whatever it makes tasks with; None before Python 3.12."""
IN_AGENT: ContextVar[bool] = ContextVar("statemachine.in_agent", default=False)
"""Whether the code that runs is an agent's."""


class Contained(Coroutine[Any, Any, Any]):
    """A coroutine whose exit is an error."""

    def __init__(self, code: Coroutine[Any, Any, Any]) -> None:
        self._code = code
        self._process = os.getpid()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._code, name)  # what asyncio and anyio look at: its frame, its name

    def __await__(self) -> Generator[Any, Any, Any]:
        raise TypeError("a task drives it")

    def send(self, value: Any) -> Any:
        """Runs it to its next await."""
        try:
            return self._code.send(value)
        except BaseException as error:
            end_if_forked(self._process, error)
            if not isinstance(error, SystemExit):
                raise
            raise RuntimeError(EXITED.format(said(error))) from error

    def throw(self, *error: Any) -> Any:
        """Raises an exception where it awaits."""
        try:
            return self._code.throw(*error)
        except BaseException as raised:
            end_if_forked(self._process, raised)
            if not isinstance(raised, SystemExit):
                raise
            raise RuntimeError(EXITED.format(said(raised))) from raised

    def close(self) -> None:
        """Ends it."""
        self._code.close()


class OfAgent(str):
    """The qualified name of an async generator that code of agents has begun. A generator takes no attributes, and weak
    references to it are dead when it is garbage, so its name is what can be marked.
    """

    __slots__ = ()


class Generators:
    """The hooks for async generators in the thread of a loop in which sessions are open, around those of the loop."""

    def __init__(self) -> None:
        self._before = sys.get_asyncgen_hooks()
        self._hook = self._begun  # one object, by which it is known
        sys.set_asyncgen_hooks(self._hook, self._dropped)

    def are_there(self) -> bool:
        """Tells whether the hooks are those of the thread that runs here."""
        return sys.get_asyncgen_hooks().firstiter is self._hook

    def take_away(self) -> None:
        """Puts back the hooks that were there; those that other code has put in place of ours stay."""
        if self.are_there():
            sys.set_asyncgen_hooks(*self._before)

    def _begun(self, generator: Any) -> None:
        if IN_AGENT.get():
            with suppress(Exception):  # of a generator that is not Python's own
                generator.__qualname__ = OfAgent(generator.__qualname__)
        if self._before.firstiter is not None:
            self._before.firstiter(generator)

    def _dropped(self, generator: Any) -> None:
        """Has it closed. The context is that in which the task for this is made."""
        if self._before.finalizer is None:
            return
        context = copy_context()
        if type(getattr(generator, "__qualname__", None)) is OfAgent:
            context.run(IN_AGENT.set, True)
        context.run(self._before.finalizer, generator)


class Containing:
    """The task factory of a loop in which sessions are open."""

    def __init__(self, before: Any) -> None:
        self.before = before
        self.sessions = 0
        self._generators: Generators | None = None
        if EAGER is not None and getattr(before, "__code__", None) is EAGER:
            self._show(before)

    def _show(self, eager: Any) -> None:
        """Looks like an eager factory. A task group of anyio must not be eager: it takes from such a factory what that
        makes tasks with, and knows one by its code.
        """
        make = eager.__closure__[0].cell_contents

        def made(code: Any, **options: Any) -> Any:
            return make(contained(code, options.get("context")), **options)

        self.__code__ = EAGER
        self.__closure__ = (CellType(made),)

    def enter(self) -> None:
        """A session is opened."""
        self.sessions += 1
        if self._generators is None or not self._generators.are_there():
            self._generators = Generators()

    def leave(self) -> None:
        """A session is left."""
        self.sessions -= 1
        if not self.sessions and self._generators is not None:
            self._generators.take_away()
            self._generators = None

    def __call__(self, loop: asyncio.AbstractEventLoop, code: Any, **options: Any) -> Any:
        code = contained(code, options.get("context"))
        if self.before is not None:
            return self.before(loop, code, **options)
        return asyncio.Task(code, loop=loop, **options)


def contained(code: Any, context: Context | None) -> Any:
    """Returns the code of a task: what an agent's code starts, in whichever context, has its exit contained."""
    of_agent = IN_AGENT.get() or (context is not None and context.get(IN_AGENT))
    return Contained(code) if of_agent and asyncio.iscoroutine(code) else code


FACTORIES: WeakKeyDictionary[asyncio.AbstractEventLoop, Containing] = WeakKeyDictionary()
"""Loop -> its factory, while sessions are open in it."""


def put_in(loop: asyncio.AbstractEventLoop) -> Containing:
    """Gives the loop a factory of ours, around the one that it has."""
    factory = FACTORIES[loop] = Containing(loop.get_task_factory())
    loop.set_task_factory(factory)
    return factory


def contain_exits() -> Callable[..., None]:
    """Sees to the tasks and async generators of agents in the loop that runs here. Returns what ends that, when the
    last session is left, and can be pushed to an exit stack; a factory or hook that other code has put in place of ours
    stays.
    """
    loop = asyncio._get_running_loop()
    if loop is None:
        return lambda *_: None
    known = FACTORIES.get(loop)
    is_there = loop.get_task_factory() is known
    factory = known if known is not None and is_there else put_in(loop)
    factory.enter()

    def end(*_: object) -> None:
        factory.leave()
        if not factory.sessions and loop.get_task_factory() is factory:
            loop.set_task_factory(factory.before)
            FACTORIES.pop(loop, None)

    return end
