"""Waits: what turns wait for, and which of them may lend their slot (J7, L4, L10; section 7).

A wait has a number, and a turn may have several, because its code may have several tasks. Waits are indexed by what
they wait for: an event looks only at those that it may end, so waits that nothing touches cost nothing.

Turns that wait and hold a slot stand in one line, in the order in which they began to wait. A turn that lends leaves
the line; when one of its waits is over it returns, first come first served, and goes on as soon as it has a slot again.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping

from attrs import define

from statemachine.core import rules
from statemachine.core.effects import WaitEnd
from statemachine.core.events import WaitMode

Index = dict[int, dict[int, None]]
"""An agent or a request -> the numbers of its waits, in the order in which they began."""


@define(eq=False, weakref_slot=False)
class Waiting:
    """One wait that is not over. Copies of a session share it: it is never changed."""

    number: int
    agent: int
    mail: bool
    """Does unread mail end it?"""
    targets: tuple[int, ...]
    requests: tuple[int, ...]
    mode: WaitMode
    """Does one of the requests end it, or all of them?"""
    is_bounded: bool
    """Does it have a timeout?"""

    @property
    def is_alive(self) -> bool:
        """J9: does it end whatever other turns do? If not, it is a wait for requests alone: waits for mail or targets
        have a timeout.
        """
        return self.is_bounded or self.is_own_choice

    @property
    def is_own_choice(self) -> bool:
        """No condition: the code itself ends the wait, which is therefore not a reason for a stall (J8)."""
        return not (self.mail or self.targets or self.requests)


class Waits:
    """The pending waits, and the turns that lend, return, or are to be told of waits that are over."""

    __slots__ = (
        "last",
        "lenders",
        "missing",
        "of_agent",
        "on_request",
        "on_target",
        "over",
        "pending",
        "returning",
        "touched",
    )

    def __init__(self) -> None:
        self.last = 0
        """The number of the latest wait."""
        self.pending: dict[int, Waiting] = {}
        self.missing: dict[int, int] = {}
        """Number of a wait -> how many of its requests are not answered yet, if any."""
        self.of_agent: Index = {}
        self.on_target: Index = {}
        self.on_request: Index = {}
        self.lenders: dict[int, None] = {}
        """Sub-agents whose turn waits and holds a slot, in the order in which they began to wait."""
        self.returning: dict[int, None] = {}
        """Agents whose turn goes on as soon as it has a slot, first come first served."""
        self.over: dict[int, tuple[tuple[int, WaitEnd], ...]] = {}
        """Agent without a slot -> its waits that are over, of which it is told when it goes on."""
        self.touched: dict[int, None] = {}
        """Waits that the events of this step may have ended."""

    def copy(self) -> Waits:
        """An independent copy."""
        other = Waits.__new__(Waits)
        other.last = self.last
        other.pending = self.pending.copy()
        other.missing = self.missing.copy()
        other.of_agent = copied(self.of_agent)
        other.on_target = copied(self.on_target)
        other.on_request = copied(self.on_request)
        other.lenders = self.lenders.copy()
        other.returning = self.returning.copy()
        other.over = self.over.copy()
        other.touched = self.touched.copy()
        return other

    def begin(self, wait: Waiting, unanswered: tuple[int, ...], holds_slot: bool) -> None:
        """Adds a wait; `unanswered` are those of its requests that are not answered yet."""
        self.last = wait.number
        self.pending[wait.number] = wait
        if unanswered:
            self.missing[wait.number] = len(unanswered)
        self.of_agent.setdefault(wait.agent, {})[wait.number] = None
        for target in wait.targets:
            self.on_target.setdefault(target, {})[wait.number] = None
        for request in unanswered:
            self.on_request.setdefault(request, {})[wait.number] = None
        if holds_slot:
            self.may_lend(wait.agent)

    def end(self, number: int) -> Waiting:
        """Removes a wait that is over or given up, and returns it."""
        wait = self.pending.pop(number)
        self.missing.pop(number, None)
        self.touched.pop(number, None)
        discard(self.of_agent, (wait.agent,), number)
        discard(self.on_target, wait.targets, number)
        discard(self.on_request, wait.requests, number)
        if wait.agent not in self.of_agent:
            self.lenders.pop(wait.agent, None)
        return wait

    def answered(self, request: int) -> None:
        """Counts the request as answered in the waits for it."""
        for number in self.on_request.pop(request, ()):
            self.missing[number] -= 1
            self.touched[number] = None

    def may_lend(self, agent: int) -> None:
        """Puts a sub-agent that waits and holds a slot at the end of the line, unless it is in it."""
        if rules.is_counted(agent):
            self.lenders.setdefault(agent)

    def touch(self, numbers: Iterable[int]) -> None:
        """Marks waits that may be over."""
        for number in numbers:
            self.touched[number] = None

    def of(self, agent: int) -> Iterator[Waiting]:
        """The waits of the agent's turn, in the order in which they began."""
        for number in tuple(self.of_agent.get(agent, ())):
            yield self.pending[number]

    def awaits(self, agent: int, requests: Iterable[int]) -> bool:
        """Does the agent's turn wait for one of these requests?"""
        if not self.on_request or agent not in self.of_agent:
            return False
        mine = self.of_agent[agent]
        return any(number in mine for request in requests for number in self.on_request.get(request, ()))

    def circle(self, begun: Waiting, asked: Mapping[int, int]) -> tuple[int, ...]:
        """J9: returns the agents that would wait for each other for ever if this wait began; none, if it is alive.
        `asked` has the agent of each request that is not answered. Looks only at waits that this one leads to.
        """
        if begun.is_alive:
            return ()
        line, known = [begun], {begun.number: begun}
        for wait in line:
            for agent in [asked[request] for request in wait.requests if request in asked]:
                mine = [*self.of(agent), *([begun] if agent == begun.agent else ())]
                new = [other for other in mine if other.number not in known and not other.is_alive]
                known.update((other.number, other) for other in new)
                line += new
        stuck = dict(known)
        while begun.number in stuck:
            stuck_agents = {wait.agent for wait in stuck.values()}
            freed = [number for number, wait in stuck.items() if has_way_out(wait, asked, stuck_agents)]
            if not freed:
                return tuple(sorted(stuck_agents))
            for number in freed:
                del stuck[number]
        return ()

    def drop(self, agent: int) -> list[tuple[int, WaitEnd]]:
        """Removes all waits of the turn. Returns those that were over with their ends, the others as interrupted, in
        the order in which they began (decision D31).
        """
        if agent not in self.of_agent and agent not in self.over:
            return []
        waits = list(self.over.pop(agent, ()))
        for number in tuple(self.of_agent.get(agent, ())):
            self.end(number)
            waits.append((number, WaitEnd.INTERRUPTED))
        self.returning.pop(agent, None)
        return sorted(waits)


def has_way_out(wait: Waiting, asked: Mapping[int, int], stuck: Container[int]) -> bool:
    """Does the wait, for requests alone, lead to enough agents that are not stuck themselves?"""
    free = [asked[request] not in stuck for request in wait.requests if request in asked]
    return all(free) if wait.mode is WaitMode.ALL else any(free)


def copied(index: Index) -> Index:
    return {key: numbers.copy() for key, numbers in index.items()} if index else {}


def discard(index: Index, keys: Iterable[int], number: int) -> None:
    for key in keys:
        numbers = index.get(key)
        if numbers is not None:
            numbers.pop(number, None)
            if not numbers:
                del index[key]
