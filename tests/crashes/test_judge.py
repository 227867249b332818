"""The verdict on killed processes: what counts as lost, as twice, and as other than told (`model/crashes/judge.py`)."""

from __future__ import annotations

from typing import Any

import pytest

from model.crashes.child import words_of
from model.crashes.judge import Fault, Log, Story, judge_outcomes, judge_reading
from statemachine.core.events import HOST
from statemachine.core.ledger import Ledger
from statemachine.core.machines import TurnState
from statemachine.core.records import (
    Cause,
    MailAccepted,
    MailDemoted,
    MailKind,
    MailRead,
    MailWithdrawn,
    Outcome,
    Record,
    TurnEnded,
    TurnReturned,
    TurnStarted,
)
from statemachine.stores.encoding import encode

DONE = Outcome(2, 1, TurnState.COMPLETED, "done", Cause.FINISHED)
UNREAD = Outcome(1, 1, TurnState.INTERRUPTED, "its mail was withdrawn", Cause.WITHDRAWN, HOST)
TASK = MailAccepted(0, HOST, 1, MailKind.TRIGGER, "task")
ASKED = MailAccepted(1, 1, 2, MailKind.TRIGGER, "asked")
NOTICE = MailAccepted(2, 2, 1, MailKind.QUEUE, "", DONE, None, (1,))

RETURNED = (TASK, TurnStarted(1, 1), TurnReturned(1, 1), TurnStarted(1, 2))
AWAITED = (
    *(TASK, TurnStarted(1, 1), ASKED, TurnStarted(2, 1), TurnEnded(DONE), NOTICE, MailRead(1, 1, (2,))),
    *(TurnReturned(1, 1), TurnStarted(1, 2)),
)


def log_of(*records: Record) -> Log:
    """The log of these records."""
    rows: list[tuple[int, int, str, Any]] = []
    for position, record in enumerate(records):
        kind, agent, data = encode(record)
        assert agent is not None, "all of them are in rollouts"
        rows.append((position, agent, kind, data))
    return Log(rows, len(rows), {}, Ledger(True)).fold()


def story_of(*lines: dict[str, Any]) -> Story:
    """What a process said."""
    story = Story()
    story.add(lines)
    return story


def took(turn: int, *mail: int, attempt: int = 1) -> dict[str, Any]:
    """A turn of agent 1 runs, and has read these mails."""
    return {"took": [1, turn], "mail": list(mail), "attempt": attempt}


def told(turn: int, outcome: Outcome, mail: int = 1) -> dict[str, Any]:
    """A turn of agent 1 has awaited this request."""
    return {"told": [1, turn], "outcome": mail, "is": list(words_of(outcome))}


@pytest.mark.parametrize(
    ("log", "story", "faults"),
    [
        (RETURNED, [took(1, 0), took(2, 0, attempt=2)], []),
        (RETURNED, [took(1, 0), took(2, 0)], [Fault.OTHER]),  # it is the second attempt
        (RETURNED, [took(1, 0), took(2, attempt=2)], [Fault.LOST]),  # it does not read what was returned
        ((TASK, TurnStarted(1, 1)), [took(1, 0), took(2, 0)], [Fault.LOST, Fault.OTHER, Fault.TWICE, Fault.OTHER]),
        (AWAITED, [took(1, 0), told(1, DONE), took(2, 0, 2, attempt=2)], []),
        (AWAITED[:-2], [took(1, 0), told(1, DONE)], []),
        (
            (*AWAITED[:-3], TurnEnded(Outcome(1, 1, TurnState.COMPLETED, "", Cause.FINISHED)), TurnStarted(1, 2)),
            [took(1, 0), told(1, DONE), took(2, 2)],
            [Fault.TWICE],  # the notice of what was awaited
        ),
        ((TASK, MailWithdrawn(1, 0, UNREAD), TurnStarted(1, 1)), [took(1, 0)], [Fault.OTHER]),
    ],
)
def test_reading_is_judged_by_who_has_read_what_before(
    log: tuple[Record, ...], story: list[dict[str, Any]], faults: list[Fault]
) -> None:
    assert [blame.fault for blame in judge_reading(story_of(*story), log_of(*log))] == faults


@pytest.mark.parametrize(
    ("log", "faults"),
    [
        ((TASK, MailWithdrawn(1, 0, UNREAD)), []),
        ((TASK, MailDemoted(1, (0,), UNREAD), MailWithdrawn(1, 0, DONE)), []),
        ((TASK, MailDemoted(1, (0,), DONE)), [Fault.LOST]),
        ((TASK,), [Fault.LOST]),
    ],
)
def test_outcome_of_a_request_that_no_turn_took_is_compared_with_the_record_of_that(
    log: tuple[Record, ...], faults: list[Fault]
) -> None:
    story = story_of({"outcome": 0, "is": list(words_of(UNREAD))})
    assert [blame.fault for blame in judge_outcomes(story, log_of(*log))] == faults


def test_withdrawal_that_was_acknowledged_and_is_not_in_the_log_is_lost() -> None:
    story = story_of({"ask": "1", "do": "withdraw", "by": HOST, "mail": 0}, {"ack": "1"})
    assert [blame.fault for blame in judge_outcomes(story, log_of(TASK))] == [Fault.LOST]
    assert list(judge_outcomes(story, log_of(TASK, MailWithdrawn(1, 0, UNREAD)))) == []


@pytest.mark.parametrize(
    "records",
    [
        (TASK, TurnStarted(1, 1), MailWithdrawn(1, 0, UNREAD)),
        (TASK, TurnStarted(1, 1), MailDemoted(1, (0,), UNREAD)),
        (TASK, TurnStarted(1, 1), MailRead(1, 1, (0,))),
        (TASK, MailRead(1, 1, ())),
    ],
)
def test_log_that_takes_away_what_was_read_is_wrong(records: tuple[Record, ...]) -> None:
    assert len(log_of(*records).wrong) == 1
