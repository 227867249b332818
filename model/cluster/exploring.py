"""Explores a scope with partitions that may be on many machines, each of which owns the states of its share.

A state is owned by the partition that its digest names (`owner`): the digest is BLAKE2 of the canonical fingerprint, so
it is the same on every machine, unlike Python's `hash`. The search is breadth first, level by level:

1. Each partition expands its states of the level, and judges there what the explorer judges (`Expander`). New states
   gather in a batch for each owner. They go from partition to partition, not through the process that asks.
2. Each owner takes the batches, and keeps what it did not know. Of several ways to a state it keeps the first one.
3. The new states are numbered as one process would have numbered them: by the state before, then by the event. So the
   state that stands for its equals, the fault that is reported and the way to it are those of one process as well.

L7 (`never_home`) is judged in rounds at the end: partitions ask the owners of the next states which of them come home.

A partition that dies takes what was seen with it. Then the scope begins again, `RESTARTS` times at most: a copy of the
seen set on another machine would cost every run more than a death costs one. A verdict is always of a whole run.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from attrs import define, field, frozen

from .. import lockstep
from ..exploration.explorer import (
    CHUNK,
    NEVER_HOME,
    Expander,
    Exploration,
    Fault,
    Kept,
    Progress,
    how_often,
    pack,
    path_to,
)
from ..exploration.scopes import Scope
from ..exploration.symmetry import Digest, digest_of
from ..lockstep import AnyEvent
from .errors import ClusterFailed, Lost

RESTARTS = 3
"""How often a scope begins again after a loss. A cluster that loses more is to be looked at by a person."""

Key = tuple[int, int]
"""How a state was reached: (number of the state before, number of the event). Keys sort as one process finds states."""
Arrival = tuple[Key, Digest, Kept]


class Actors(Protocol):
    """Objects of one class, each in a process of its own. A call returns a reference, for other calls or `get`."""

    @property
    def count(self) -> int:
        """How many there are."""
        ...

    def call(self, actor: int, method: str, *arguments: Any) -> Any:
        """Begins a call. References among the arguments arrive as what they refer to."""
        ...

    def call_for_each(self, actor: int, method: str, *arguments: Any) -> list[Any]:
        """Begins a call that returns as many values as there are actors; a reference for each."""
        ...

    def get(self, references: Sequence[Any]) -> list[Any]:
        """Returns what these refer to. Raises what the calls raised, or `Lost`."""
        ...

    def first(self, references: Sequence[Any]) -> Any:
        """Waits for one of these, and returns it."""
        ...


def owner(digest: Digest, partitions: int) -> int:
    """Returns the partition that owns the state with this digest."""
    return int.from_bytes(digest[:8]) % partitions


# In a process of its own


@frozen
class Expanded:
    """The result of expanding some states of a level."""

    offered: int
    changes: int
    coverage: Counter[str]
    fault: tuple[int, Fault] | None
    """(number of the state, what is wrong there)."""
    left: int
    """States of the level that wait. After a fault none do: those that follow cannot be the first with one."""


@define(eq=False)
class Partition:
    """Owns the states of its share, and expands them."""

    scope: Scope
    me: int
    partitions: int
    expander: Expander = field(init=False)
    known: set[Digest] = field(init=False, factory=set[Digest])
    origins: dict[int, Key] = field(init=False, factory=dict[int, Key])
    new: list[Arrival] = field(init=False, factory=list[Arrival])
    """States that have no numbers yet."""
    line: list[tuple[int, Digest, Kept]] = field(init=False, factory=list[tuple[int, Digest, Kept]])
    """The level: number, digest, and the state."""
    begun: int = field(init=False, default=0)
    """States of the level that were expanded."""
    batches: list[list[Arrival]] = field(init=False)
    """What goes to each partition."""
    mine: list[Arrival] = field(init=False, factory=list[Arrival])
    """What stays here. It is neither pickled nor sent."""
    home: set[Digest] = field(init=False, factory=set[Digest])
    """States that come to rest if threads answer."""
    underway: dict[Digest, tuple[int, Digest]] = field(init=False, factory=dict[Digest, tuple[int, Digest]])
    """States of which that is not known yet: number, and the state after one more answer."""

    def __attrs_post_init__(self) -> None:
        self.expander = Expander(self.scope, lambda digest: owner(digest, self.partitions) != self.me)
        self.batches = [[] for _ in range(self.partitions)]

    def take(self, *batches: list[Arrival]) -> list[Key]:
        """Takes states that others have found, and its own. Returns the keys of those that are new, in their order."""
        found: dict[Digest, Arrival] = {}
        for batch in (self.mine, *batches):
            for arrival in batch:
                key, digest, _ = arrival
                if digest not in self.known and (digest not in found or key < found[digest][0]):
                    found[digest] = arrival
        self.known.update(found)
        self.mine = []
        self.new = sorted(found.values(), key=lambda arrival: arrival[0])
        return [key for key, _, _ in self.new]

    def number(self, numbers: list[int]) -> None:
        """Numbers the new states. They are the next level."""
        self.line, self.begun = [], 0
        for number, (key, digest, state) in zip(numbers, self.new, strict=True):
            self.origins[number] = key
            self.line.append((number, digest, state))
        self.new = []

    def expand(self, most: int) -> Expanded:
        """Expands so many states of the level, up to the first fault."""
        part = self.line[self.begun : self.begun + most]
        self.begun += len(part)
        found = self.expander.expand([state for _, _, state in part])
        for index, event, digest, state in found.successors:
            self.batches[owner(digest, self.partitions)].append(((part[index][0], event), digest, state))
        for index, after in found.homeward:
            number, digest, _ = part[index]
            if after is None:
                self.home.add(digest)
            else:
                self.underway[digest] = number, after
        fault = None if found.fault is None else (part[found.fault[0]][0], found.fault[1])
        left = len(self.line) - self.begun if fault is None else 0
        return Expanded(found.offered, found.changes, found.coverage, fault, left)

    def outgoing(self) -> list[list[Arrival]]:
        """Returns what this level found for each other partition."""
        batches, self.batches = self.batches, [[] for _ in range(self.partitions)]
        self.mine, batches[self.me] = batches[self.me], []
        return batches

    def origin(self, number: int) -> Key | None:
        """Returns how this state was reached; None if another partition owns it."""
        return self.origins.get(number)

    # L7

    def questions(self) -> list[list[Digest]]:
        """Returns, for each partition, the states of which it is to say whether they come home."""
        asked: list[list[Digest]] = [[] for _ in range(self.partitions)]
        for _, after in self.underway.values():
            asked[owner(after, self.partitions)].append(after)
        return asked

    def answers(self, *questions: list[Digest]) -> list[list[bool]]:
        """Answers the questions of each partition."""
        return [[digest in self.home for digest in asked] for asked in questions]

    def settle(self, *answers: list[bool]) -> tuple[int, int | None]:
        """Takes the answers of each partition. Returns how many states are known by them to come home, and the first
        of those that are not.
        """
        told = [iter(by_one) for by_one in answers]
        settled = [digest for digest, (_, after) in self.underway.items() if next(told[owner(after, self.partitions)])]
        for digest in settled:
            del self.underway[digest]
        self.home.update(settled)
        return len(settled), min((number for number, _ in self.underway.values()), default=None)


# In the process that asks


def explore(
    scope: Scope,
    hire: Callable[[type[Partition], Scope], Actors],
    max_states: int | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_loss: Callable[[Lost], None] = lambda _: None,
) -> Exploration:
    """Visits every reachable state of the scope, up to the first fault or `max_states`, as `explorer.explore` does.
    `hire` gives the partitions. Raises `ClusterFailed` if they are lost too often.
    """
    began, lost = time.perf_counter(), 0
    while True:
        try:
            return Search(scope, hire(Partition, scope), began, on_progress).run(max_states)
        except Lost as loss:
            lost += 1
            if lost > RESTARTS:
                what = f"scope {scope.name} has no verdict: it lost a process of the cluster {lost} times"
                raise ClusterFailed(f"{what}: {loss}") from loss
            on_loss(loss)


@define(eq=False)
class Search:
    """One run through a scope."""

    scope: Scope
    actors: Actors
    began: float
    on_progress: Callable[[Progress], None]
    known: int = field(init=False, default=0)
    offered: int = field(init=False, default=0)
    transitions: int = field(init=False, default=0)
    coverage: Counter[str] = field(init=False, factory=Counter[str])

    def run(self, max_states: int | None) -> Exploration:
        """Searches level by level."""
        first = lockstep.start(self.scope.config)
        digest = digest_of(first[0], self.scope)
        batches: list[list[Any]] = [[] for _ in range(self.actors.count)]
        batches[owner(digest, self.actors.count)].append([((-1, -1), digest, pack(*first, travels=True))])
        new, depth = self.hand_over(batches), 0
        found: tuple[int, Fault] | None = None
        while new and found is None and (max_states is None or self.known < max_states):
            found = self.expand(depth)
            new = self.hand_over(self.exchanged("outgoing")) if found is None else 0
            depth += 1
        if found is None and not new:
            found = self.never_home()
        path: tuple[AnyEvent, ...] = ()
        fault = None
        if found is not None:
            fault = found[1]
            path = path_to(self.scope, self.way_to(found[0]))
            path = path if fault.event is None else (*path, fault.event)
        judged = how_often(self.known - new, self.offered, self.transitions)
        counts = (self.known, self.offered, self.transitions, depth - 1, time.perf_counter() - self.began)
        return Exploration(self.scope, *counts, fault is None and not new, judged, self.coverage, fault, path)

    def expand(self, depth: int) -> tuple[int, Fault] | None:
        """Has every partition expand its part of the level. Returns the first fault."""
        running = {self.actors.call(actor, "expand", CHUNK): actor for actor in range(self.actors.count)}
        left: Counter[int] = Counter()
        faults: list[tuple[int, Fault]] = []
        while running:
            reference = self.actors.first([*running])
            actor = running.pop(reference)
            (expanded,) = self.actors.get([reference])
            if expanded.left:
                running[self.actors.call(actor, "expand", CHUNK)] = actor
            if expanded.fault is not None:
                faults.append(expanded.fault)
            left[actor] = expanded.left
            self.offered, self.transitions = self.offered + expanded.offered, self.transitions + expanded.changes
            self.coverage += expanded.coverage
            self.on_progress(Progress(self.known, left.total(), depth, self.offered, time.perf_counter() - self.began))
        return min(faults, key=lambda fault: fault[0], default=None)

    def on_all(self, method: str, arguments: Sequence[Sequence[Any]]) -> list[Any]:
        """Calls a method of every partition, with arguments for each. Returns the results."""
        return self.actors.get([self.actors.call(actor, method, *each) for actor, each in enumerate(arguments)])

    def exchanged(self, method: str, arguments: Sequence[Sequence[Any]] | None = None) -> list[list[Any]]:
        """Calls a method of every partition that returns something for each of them. Returns what each gets of all."""
        count = self.actors.count
        given = arguments or [()] * count
        sent = [self.actors.call_for_each(actor, method, *given[actor]) for actor in range(count)]
        return [[of_one[actor] for of_one in sent] for actor in range(count)]

    def hand_over(self, batches: list[list[Any]]) -> int:
        """Gives each partition its batches, and numbers what is new. Returns how much that is."""
        keys: list[list[Key]] = self.on_all("take", batches)
        numbers: list[list[int]] = [[] for _ in keys]
        in_order = sorted((key, actor) for actor, of_one in enumerate(keys) for key in of_one)
        for number, (_, actor) in enumerate(in_order, self.known):
            numbers[actor].append(number)
        self.on_all("number", [(each,) for each in numbers])
        self.known += len(in_order)
        return len(in_order)

    def way_to(self, state: int) -> list[int]:
        """Returns the numbers of the events that lead to a state."""
        numbers: list[int] = []
        while state:
            told = self.on_all("origin", [(state,)] * self.actors.count)
            state, event = next(key for key in told if key is not None)
            numbers.insert(0, event)
        return numbers

    def never_home(self) -> tuple[int, Fault] | None:
        """Checks L7. Returns the first state that does not come to rest if threads answer, and the fault."""
        while True:
            results = self.on_all("settle", self.exchanged("answers", self.exchanged("questions")))
            waiting = [number for _, number in results if number is not None]
            if not waiting:
                return None
            if not any(settled for settled, _ in results):
                return min(waiting), NEVER_HOME
