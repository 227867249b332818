"""Counts the threads that the machine has, which are more than those of the core (semantics.md S1, S2; section 2).

The problem. In the core a residency slot is free in the step in which its agent is unloaded, and an execution slot in
that in which its turn ended. The machine is slower: the thread has still to be closed, and code that ignores its
cancellation runs on after its turn was given up. What is loaded or begun meanwhile comes on top of that.

What is done. Threads on their way out are *closing*, and *abandoned* once their code did not end within `stop_grace`.
Those whose turn, load or flush still runs, and those that are abandoned, are *left over*.

- A load waits while loaded and closing threads are `max_resident`, and while more than `max_abandoned` are left over.
  So there are never more than `max_resident + max_abandoned` threads of sub-agents.
- The code of a turn waits while more than `max_abandoned` are left over. So never more than
  `execution_cap + max_abandoned` turns of sub-agents run, beside those that wait or that were stopped while they did.

- The root has one thread, which takes no residency slot. It gets a new one when the last is closed, or abandoned.

What waits is bounded as if it had begun: a load by `load_timeout`, a turn by `turn_timeout` or an interrupt. What waits
begins in the order in which it was asked for.

What was rejected.

- To give the slot back in the core when the thread is closed. An agent that was evicted and is asked again would have
  to wait for code that hangs, and the core would have one more state for every thread.
- To have no bound for abandoned code. An agent that is interrupted again and again would fill the machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

from attrs import define, field

from statemachine.core import effects as fx
from statemachine.core.events import ROOT
from statemachine.runtime.calls import InMemory
from statemachine.sinks import log

MAX_ABANDONED = 64
"""Default of `max_abandoned`."""
TOO_MANY = (
    "%s: the code of %d threads does not stop, and max_abandoned is %d: loads and turns wait until that of one has"
    " ended"
)

L = TypeVar("L", bound=InMemory)


@define(eq=False)
class Caps(Generic[L]):
    """The threads on their way out, and what waits until they are gone. `place` names the session in the log."""

    place: str
    max_resident: int
    max_abandoned: int
    closing: dict[L, None] = field(factory=dict[L, None], init=False)
    """Dropped threads that are not closed yet."""
    abandoned: dict[L, None] = field(factory=dict[L, None], init=False)
    """Dropped threads whose code did not end in time, and still runs."""
    left_over: dict[L, None] = field(factory=dict[L, None], init=False)
    """The abandoned ones, and the closing ones that are not at `close` yet."""
    loads: list[fx.Load] = field(factory=list[fx.Load], init=False)  # a deque begins with 600 bytes
    """Loads that wait."""
    starts: list[L] = field(factory=list[L], init=False)
    """Threads whose turn waits."""
    root: fx.StartTurn | None = field(default=None, init=False)
    """The turn of the root, if it waits until the root may have a thread."""

    def may_load(self, loaded: Iterable[int]) -> bool:
        """May another thread be loaded, beside those of these agents?"""
        if not self.closing:
            return self.may_start  # the core has seen to the others
        threads = sum(agent != ROOT for agent in loaded) + sum(live.agent != ROOT for live in self.closing)
        return threads < self.max_resident and self.may_start

    @property
    def may_start(self) -> bool:
        """May the code of another turn begin?"""
        return len(self.left_over) <= self.max_abandoned

    @property
    def may_build_root(self) -> bool:
        """May the root have a new thread? It has no residency slot: its last thread has to be closed, or abandoned."""
        return self.may_start and not any(live.agent == ROOT for live in self.closing)

    def give_up_load(self, agent: int, generation: int) -> None:
        """The load waits no more, if it did."""
        for effect in [one for one in self.loads if (one.agent, one.generation) == (agent, generation)]:
            self.loads.remove(effect)

    def give_up_start(self, live: L) -> bool:
        """The turn of the thread waits no more. Did it?"""
        did = live in self.starts
        if did:
            self.starts.remove(live)
        return did

    def leave(self, live: L, is_at_work: bool) -> None:
        """The thread is dropped, and has to be closed, or has code that has not ended."""
        self.closing[live] = None
        if is_at_work:
            self.left_over[live] = None

    def free(self, live: L) -> None:
        """All of its code has ended, but for `close`."""
        if live not in self.abandoned:
            self.left_over.pop(live, None)

    def abandon(self, live: L) -> None:
        """Its code did not end in time."""
        del self.closing[live]
        self.abandoned[live] = self.left_over[live] = None
        if len(self.abandoned) == self.max_abandoned + 1:
            log.warning(TOO_MANY, self.place, len(self.abandoned), self.max_abandoned)

    def gone(self, live: L) -> None:
        """All of its code has ended."""
        for threads in (self.closing, self.abandoned, self.left_over):
            threads.pop(live, None)

    def end(self) -> None:
        """Nothing begins any more."""
        self.root = None
        self.loads.clear()
        self.starts.clear()
