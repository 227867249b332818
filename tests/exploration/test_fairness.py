"""Runs without end on the graph of the core: theorem 2, L5, L7, L11, L12; and rules without which they fail.

The counts are golden: a change of a rule or of a scope changes them, and has to say why.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from model.breaks.catalogue import BREAKS
from model.exploration import fairness
from model.exploration.fairness import SCOPES, explore, judge, longest, starving, story, unanswered
from model.exploration.symmetry import digest_of
from model.lockstep import AnyEvent, core_step
from model.scenarios import script
from statemachine.core.config import SessionConfig
from statemachine.core.deadlines import Bound, Deadlines, Key
from statemachine.core.effects import Refused, Stale
from statemachine.core.residency import Residents
from statemachine.core.session import Session

DOCUMENT = Path(__file__).parents[2] / "specs" / "independent.md"
GOLDEN = {
    "seniority": (1_159, 4_422),
    "due": (7_459, 28_091),
    "due at once": (5_883, 22_157),
    "deep": (4_585, 39_711),
    "stops": (2_317, 17_618),
    "threads": (374, 2_632),
    "bounds": (406, 2_306),
    "seniority in time": (5_464, 36_465),
    "attempts": (4_416, 28_678),
}
"""Scope -> states, steps."""
NAMES = [name if name in fairness.QUICK else pytest.param(name, marks=pytest.mark.nightly) for name in GOLDEN]
BY_NAME = {scope.name: scope for scope in SCOPES}


@pytest.mark.parametrize("name", NAMES)
def test_every_obligation_holds_on_the_graph_of_the_core(name: str) -> None:
    states, steps = GOLDEN[name]
    verdicts = list(judge(BY_NAME[name]))
    assert [(v.property, v.obligation, v.note) for v in verdicts if not v.holds] == []
    assert all(f"{states:,} states, {steps:,} steps" in v.note for v in verdicts)
    assert tuple(v.property for v in verdicts) == fairness.spoken_of(BY_NAME[name])


def test_golden_counts_cover_every_scope_and_each_property_is_judged_in_four() -> None:
    assert list(GOLDEN) == list(BY_NAME)
    judged = Counter(known for scope in SCOPES for known in fairness.spoken_of(scope))
    assert all(judged[known] >= 4 for known in ("theorem 2", "L5", "L7", "L11", "L12"))


# Rules without which it fails


def broken(name: str, scope: str) -> set[str]:
    """The properties that a break of the catalogue violates in a scope."""
    known = next(one for one in BREAKS if one.id == name)
    with known.applied():
        return {v.property for v in judge(BY_NAME[scope]) if not v.holds}


def test_turn_starves_if_every_agent_that_gets_a_slot_is_kept_though_every_property_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """J6 of the first edition: of the engines that know no other rule, this one alone sees that it is wrong."""
    monkeypatch.setattr(Residents, "leaves_for_an_older", never)
    graph = explore(BY_NAME["seniority"], judge=True)
    starved = starving(graph)
    assert starved is not None
    beginning, circle = story(graph, starved)
    assert lines(graph.scope.config, beginning, circle) == documented()


def never(*_: object) -> bool:
    """J6 as it was: no eviction is for an older turn."""
    return False


def lines(config: SessionConfig, beginning: list[AnyEvent], circle: list[AnyEvent]) -> list[str]:
    """The run in the language of `script.py`."""
    session, said = Session(config), list[str]()
    for number, event in enumerate([*beginning, *circle]):
        if number == len(beginning):
            said.append("and without end:")
        said.append(script.line_of(event, session))
        session, _ = core_step(session, event)
    return said


def documented() -> list[str]:
    """The run as the document tells it."""
    found = re.search(r"```starving\n(.+?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    assert found is not None
    return found[1].splitlines()


def test_story_of_a_run_without_end_comes_back_to_where_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Residents, "leaves_for_an_older", never)
    graph = explore(BY_NAME["seniority"])
    beginning, circle = story(graph, starving(graph) or ("", 0))
    session = after(Session(graph.scope.config), beginning)
    here = digest_of(session, graph.scope)
    assert digest_of(after(session, circle), graph.scope) == here
    assert len(circle) > 1


def after(session: Session, events: list[AnyEvent]) -> Session:
    """The session after these events, each of which changes something."""
    for event in events:
        session, step = core_step(session.fork(), event)
        assert not isinstance(step.reply, Refused | Stale)
    return session


@pytest.mark.parametrize(
    ("name", "scope", "properties"),
    [
        ("last-in-first-out", "seniority", {"theorem 2", "L11"}),
        ("idle-agent-sleeps-on", "threads", {"theorem 2", "L7"}),
        ("finished-agents-block", "seniority", {"L7"}),
        ("no-turn-is-due", "stops", {"theorem 2", "L11"}),
        ("new-turns-come-first", "bounds", {"theorem 2", "L12"}),
        ("no-turn-is-called-back", "bounds", {"theorem 2"}),
    ],
)
def test_break_of_a_rule_is_seen(name: str, scope: str, properties: set[str]) -> None:
    assert broken(name, scope) == properties


def test_stop_that_no_deadline_bounds_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    core = Deadlines.set

    def but_for_stops(self: Deadlines, bound: Bound, agent: int, at: float) -> None:
        if bound is not Bound.STOP:
            core(self, bound, agent, at)

    monkeypatch.setattr(Deadlines, "set", but_for_stops)
    assert unanswered(explore(BY_NAME["stops"])) == ("stop", 1)


def test_flush_whose_deadline_is_put_off_again_and_again_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """No state is wrong here: there is always a deadline, and it never comes to anything."""
    core = Deadlines.pop_due

    def put_off(self: Deadlines, now: float, last: int) -> Key | None:
        key = core(self, now, last)
        if key is None or key[0] is not Bound.FLUSH:
            return key
        self.set(*key, now + 2)
        return None

    monkeypatch.setattr(Deadlines, "pop_due", put_off)
    assert unanswered(explore(BY_NAME["threads"])) == ("flush", 1)


def test_scope_that_grows_without_bound_ends_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fairness, "STATES_MAX", 100)
    with pytest.raises(fairness.TooManyStates, match="threads"):
        explore(BY_NAME["threads"])


# The walks themselves


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({}, 0),
        ({0: [(1, 2)], 1: [(2, 1), (3, 4)]}, 6),
        ({0: [(1, 1)], 1: [(0, 0)]}, None),
        ({0: [(1, 0)], 1: [(0, 0), (2, 3)]}, 3),
    ],
)
def test_longest_path_counts_weights_and_has_no_bound_on_a_cycle_with_one(
    part: dict[int, list[tuple[int, int]]], expected: int | None
) -> None:
    assert longest(part) == expected
