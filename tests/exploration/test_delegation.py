"""Delegation that awaits its children, on the core alone: whole trees in one session, and theorem 4 in every state.

What the threads do is played here, so that the number of turns that wait at the same time depends on the core alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import attrs
import pytest
from attrs import define, field

from model.exploration.scopes import FAN, Scope, events, find
from model.exploration.symmetry import digest_of
from model.lockstep import core_step
from statemachine.checking.properties import check
from statemachine.core.config import SessionConfig
from statemachine.core.effects import Effect, Flush, Load, Refused, Spawned, Stale, StartTurn, WaitEnd, Wake
from statemachine.core.events import HOST, ROOT, Event, Finished, Flushed, Loaded, Spawn, Wait, WaitMode
from statemachine.core.machines import TurnState
from statemachine.core.session import Session

NEVER_STALLED = 256
"""The default of max_overtaken."""


@define
class Life:
    """A session whose turns spawn their children, await all of them, and finish."""

    session: Session
    children: Callable[[str], int]
    """How many children an agent has, by its path."""
    waiting: int = 0
    """Turns that waited at the same time, at most."""
    stalled: int = 0
    """Waits that ended with STALLED."""
    effects: deque[Effect] = field(factory=deque)

    def run(self, trees: int) -> None:
        """All trees begin at once, and threads answer in the order in which they are asked."""
        for number in range(trees):
            self.feed(Spawn(ROOT, f"tree{number}", "work", None, HOST))
        while self.effects:
            effect = self.effects.popleft()
            if isinstance(effect, Load):
                self.feed(Loaded(effect.agent, effect.generation))
            elif isinstance(effect, Flush):
                self.feed(Flushed(effect.agent, effect.generation, effect.flush))
            elif isinstance(effect, StartTurn):
                self.begin(effect.agent, effect.turn)
            elif isinstance(effect, Wake):
                self.stalled += effect.end is WaitEnd.STALLED
                self.feed(Finished(effect.agent, effect.turn, "done"))
            self.waiting = max(self.waiting, waiting(self.session))

    def begin(self, agent: int, turn: int) -> None:
        """The code of a turn."""
        asked: list[int] = []
        for number in range(self.children(self.session.agents[agent].path)):
            reply = self.feed(Spawn(agent, f"kid{number}", "work"))
            assert isinstance(reply, Spawned)
            asked.append(reply.mail)
        if asked:
            self.feed(Wait(agent, turn, None, (), tuple(asked), WaitMode.ALL, mail=False))
        else:
            self.feed(Finished(agent, turn, "leaf"))

    def feed(self, event: Event) -> object:
        """One event; its reply."""
        step = self.session.handle(event)
        assert not isinstance(step.reply, Refused | Stale), step.reply
        self.effects.extend(step.effects)
        return step.reply

    def check(self, agents: int) -> None:
        """Every turn came to its end."""
        check(self.session)
        assert [a.status for a in self.session.agents[1:]] == [TurnState.COMPLETED] * agents


def waiting(s: Session) -> int:
    """Turns that wait, with a slot or without one."""
    return len({*s.waits.of_agent, *s.waits.returning})


def depth(path: str) -> int:
    return path.count("/") - 1


def lived(slots: int, children: Callable[[str], int], trees: int = 1, max_overtaken: int = NEVER_STALLED) -> Life:
    """The life of these trees with the default residency slots."""
    life = Life(Session(SessionConfig(max_concurrent=slots + 1, max_overtaken=max_overtaken)), children)
    life.run(trees)
    return life


def three_each(path: str) -> int:
    return 3 if depth(path) < 4 else 0


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_tree_of_three_to_the_fourth_completes_with_few_turns_waiting(slots: int) -> None:
    deepest_first = lived(slots, three_each, trees=3)
    deepest_first.check(3 + 9 + 27 + 81)
    fifo = lived(slots, three_each, trees=3, max_overtaken=0)
    print(f"{slots} slots: {deepest_first.waiting} turns wait; FIFO: {fifo.waiting}, and {fifo.stalled} waits stalled")
    assert deepest_first.stalled == 0
    assert deepest_first.waiting <= slots * 4 + 4
    assert fifo.waiting > 2 * deepest_first.waiting


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_chain_of_depth_14_completes(slots: int) -> None:
    life = lived(slots, lambda path: int(depth(path) < 14))
    life.check(14)
    assert (life.stalled, life.waiting) == (0, 13)


def twenty(path: str) -> int:
    """A tree of 20 agents: one with 3 children, each of which has 4, of which one each, and one more, has one."""
    if depth(path) == 3:
        return int(path.endswith("kid0") or path.endswith("kid0/kid1"))
    return {1: 3, 2: 4}.get(depth(path), 0)


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_forty_trees_of_twenty_at_once_complete_and_nobody_is_stalled(slots: int) -> None:
    life = lived(slots, twenty, trees=40)
    life.check(40 * 20)
    print(f"{slots} slots: {life.waiting} turns wait")
    assert life.stalled == 0
    assert life.waiting <= slots * 4 + 4


def reachable(scope: Scope) -> Iterator[Session]:
    """Every state of the scope, by the core alone."""
    line = [Session(scope.config)]
    seen = {digest_of(line[0], scope)}
    for state in line:
        yield state
        for event in events(scope, state):
            after, step = core_step(state.fork(), event)
            if isinstance(step.reply, Refused | Stale):
                continue
            digest = digest_of(after, scope)
            if digest not in seen:
                seen.add(digest)
                line.append(after)


NESTED = attrs.evolve(find("nested"), interrupts=False, waits=("request",))
BROAD = attrs.evolve(NESTED, tree=FAN, ids=3, host_sends=("follow_up",))
TWO = attrs.evolve(BROAD, config=attrs.evolve(find("wide").config, max_resident=6))


@pytest.mark.parametrize(("scope", "most"), [(NESTED, 2), (BROAD, 1), (TWO, 1)], ids=["line", "fan", "fan, two slots"])
def test_at_most_slots_times_depth_turns_wait_where_all_await_their_descendants(scope: Scope, most: int) -> None:
    """Theorem 4; and that it is not empty: as many as the tree has parents do wait."""
    deepest = 1 + max(parent.count("/") for parent, _ in scope.tree)
    found = [waiting(state) for state in reachable(scope)]
    assert max(found) == most <= scope.config.execution_cap * deepest
