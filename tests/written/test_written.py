"""What is written is judged: all of it holds, and what is broken is noticed by who looks at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from model.breaks.defects import put
from model.written import engine, run, snapshots
from model.written.engine import OBLIGATIONS, Obligation, judge
from statemachine.core import facts, operations, rules, state, turns
from statemachine.core.config import SessionConfig
from statemachine.core.facts import Json
from statemachine.core.records import MailRead, NoticeBuried, TurnReturned
from statemachine.core.residency import Residents
from statemachine.core.turns import available
from statemachine.log import older, snapshot, strict, trace
from statemachine.log import times as log_times
from statemachine.log.recovery import recover
from statemachine.log.snapshot import TOUCHED
from statemachine.log.times import NOTES, Times


def test_every_obligation_holds_and_is_told_of() -> None:
    told: list[str] = []
    verdicts = run(quick=True, progress=told.append)
    assert [verdict for verdict in verdicts if not verdict.holds] == []
    assert len(told) == len(verdicts) == len(OBLIGATIONS)
    assert {verdict.engine for verdict in verdicts} == {"log"}


def nothing(*_: Any, **__: Any) -> Any:
    return None


def without(table: dict[type, Any], kind: type) -> dict[type, Any]:
    """A table by record class, that has nothing for this one."""
    return {known: value for known, value in table.items() if known is not kind}


def knows_too_much(self: Times, agent: int) -> None:
    """Has a time for an agent of which nothing is known."""
    for known in (self._changed, self._began, self._ended):
        known.extend([0.0] * agent)


def forgetful(copy: Callable[[Residents], Residents]) -> Callable[[Residents], Residents]:
    """A copy that has forgotten which agents were tried."""

    def forgets(self: Residents) -> Residents:
        other = copy(self)
        other.tried = {}
        return other

    return forgets


BREAKS: tuple[tuple[str, Any, str, Any], ...] = (
    ("facts and the records", snapshot, "TOUCHED", without(TOUCHED, MailRead)),
    ("facts and the records", snapshot, "durable_turn", lambda agent: (agent.status, agent.turn)),
    ("a log is recovered", snapshots, "recover", lambda config, log, now: recover(config, log)),
    ("facts that no log", snapshot, "_add_mail", nothing),
    ("facts of this and", snapshot, "_closed_by", lambda f, _: f.closed_by),
    ("each agent has", log_times, "NOTES", without(NOTES, TurnReturned)),
    ("each agent has", log_times, "MailDemoted", NoticeBuried),
    ("of others nothing", Times, "_know", knows_too_much),
    ("what is written is read", trace, "NUMBERS", dict.fromkeys(trace.NUMBERS, ())),
    ("a file is read whole", trace, "HEADER_BYTES_MAX", 20),
    ("a file is read whole", trace, "check_regular", nothing),
    ("readers take", strict, "shape_of", lambda kind, whole=True: kind),
    ("what no version writes", trace, "_only", nothing),
    ("what no version writes", trace, "_fields_once", dict),
    ("what no version writes", trace, "_no_constant", float),
    ("what earlier versions", older, "NO_WAIT", 1),
    ("what earlier versions", older, "ERRORED", older.ERRORED[::-1]),
    ("configurations have", SessionConfig, "__attrs_post_init__", nothing),
    ("headers are carried", rules, "HEADERS_BYTES_MAX", 10),
    ("results are JSON", facts, "is_too_deep", lambda *_: False),
    ("results are JSON", Json, "__attrs_post_init__", nothing),
    ("values are shown", facts, "SHOWN_MAX", 41),
    ("a copy has", Residents, "copy", forgetful(Residents.copy)),
    ("golden traces have", turns, "available", lambda s, closing=(): available(s)),
    ("status, list", state.State, "below", lambda self, *_: iter(self.agents)),
    ("status, list", operations, "describe", nothing),
)
"""How an obligation begins, and where a break of it is put."""


@pytest.mark.parametrize(("sentence", "owner", "name", "instead"), BREAKS, ids=[f"{b[0]}, {b[2]}" for b in BREAKS])
def test_obligation_notices_what_breaks_it(sentence: str, owner: Any, name: str, instead: Any) -> None:
    (obligation,) = [one for one in OBLIGATIONS if one.sentence.startswith(sentence)]
    with put((owner, name), instead):
        verdict = judge(obligation, range(1, 25))
    assert not verdict.holds
    assert verdict.note


def test_every_obligation_has_a_break_that_it_notices() -> None:
    noticed = [one.sentence for one in OBLIGATIONS if any(one.sentence.startswith(sentence) for sentence, *_ in BREAKS)]
    assert noticed == [one.sentence for one in OBLIGATIONS]


def raising(seeds: range) -> Iterator[str]:
    yield {9: "a"}[seeds[0]]


@pytest.mark.parametrize(
    ("wrong", "note"), [(lambda _: ["a", "b"], "a"), (raising, "KeyError: 0")], ids=["first of several", "raises"]
)
def test_verdict_says_the_first_thing_that_is_wrong(wrong: Callable[[range], Any], note: str) -> None:
    verdict = judge(Obligation("S1", "it holds", wrong), range(1))
    assert (verdict.holds, verdict.note) == (False, note)
    assert engine.first(iter(())) is None
