"""Files that an earlier version of the library wrote are read whole.

`session-v2.db` has every kind of record, and turns that ended in every way there was. Three processes had it open: with
much room, until they crashed; with room for one agent; and with `LIVE_THREADS`. `session-v1.trace` is the trace of the
last. Neither is ever changed: every later version of the code has to read them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from model.scenarios.replay import Trial
from statemachine.core.events import Failed, Finished
from statemachine.core.machines import Identity, TurnState
from statemachine.core.records import RECORDS, Cause, Outcome, TurnEnded
from statemachine.log import trace
from statemachine.stores import Entry, SQLiteStore
from statemachine.stores.protocol import Receipt
from tests.stores.session_files import CONFIG, opened, sql

pytestmark = pytest.mark.anyio

FILES = Path(__file__).with_name("files")
COMPLETED, ERRORED, INTERRUPTED = TurnState.COMPLETED, TurnState.ERRORED, TurnState.INTERRUPTED

OUTCOMES: dict[str, list[tuple[TurnState, str, Cause]]] = {
    "/root": [(ERRORED, "load failed: no answer for 30.0 s", Cause.LOAD_TIMED_OUT)],
    "/root/asker": [(INTERRUPTED, "interrupted by a crash", Cause.CRASHED)],
    "/root/done": [(COMPLETED, "a river", Cause.FINISHED)],
    "/root/asker/child": [(ERRORED, "ValueError: no bridge", Cause.FAILED)],
    "/root/dies": [(ERRORED, "its thread died: lost", Cause.THREAD_DIED)],
    "/root/dies_stopping": [(INTERRUPTED, "its thread died", Cause.THREAD_DIED)],
    "/root/no_load": [(ERRORED, "load failed: cannot load", Cause.LOAD_FAILED)],
    "/root/dies_loading": [(ERRORED, "load failed: its thread died: lost", Cause.LOAD_DIED)],
    "/root/stopped": [(INTERRUPTED, "interrupted", Cause.INTERRUPTED)],
    "/root/deaf": [(INTERRUPTED, "interrupted; it did not stop within 5.0 s", Cause.NOT_STOPPED)],
    "/root/early": [(INTERRUPTED, "interrupted before it started", Cause.NOT_STARTED)],
    "/root/slow": [(ERRORED, "load failed: no answer for 30.0 s", Cause.LOAD_TIMED_OUT)],
    "/root/told": [(COMPLETED, "closed", Cause.FINISHED)],
    "/root/raises": [(ERRORED, "its thread died: so it says", Cause.THREAD_DIED)],
    "/root/says": [(COMPLETED, "its thread died: not really", Cause.FINISHED)],
    "/root/nothing": [(COMPLETED, "", Cause.FINISHED)],
    "/root/odd": [(COMPLETED, "caf\u00e9 \ud800", Cause.FINISHED)],
    "/root/gone": [(INTERRUPTED, "closed", Cause.CLOSED)],
    "/root/gone/below": [(INTERRUPTED, "closed", Cause.CLOSED)],
    "/root/again": [(COMPLETED, "first", Cause.FINISHED), (COMPLETED, "second", Cause.FINISHED)],
    "/root/runs": [(INTERRUPTED, "interrupted by a crash", Cause.CRASHED)],
    "/root/runs/stops": [(INTERRUPTED, "interrupted by a crash", Cause.CRASHED)],
    "/root/full": [(COMPLETED, "room", Cause.FINISHED)],
    "/root/roomless": [(ERRORED, "no residency slot: could not flush /root/full", Cause.NO_ROOM)],
    "/root/live": [(ERRORED, "its thread died: lost", Cause.THREAD_DIED)],
    "/root/live/child": [(INTERRUPTED, "closed", Cause.CLOSED)],
    "/root/late": [(INTERRUPTED, "its thread died", Cause.THREAD_DIED)],
    "/root/lost": [(ERRORED, "load failed: its thread died: lost", Cause.LOAD_DIED)],
    "/root/mute": [(INTERRUPTED, "interrupted; it did not stop within 5.0 s", Cause.NOT_STOPPED)],
    "/root/quits": [(INTERRUPTED, "interrupted", Cause.INTERRUPTED), (ERRORED, "RuntimeError: worn out", Cause.FAILED)],
    "/root/closes": [(INTERRUPTED, "closed", Cause.CLOSED)],
    "/root/closes/heir": [
        (INTERRUPTED, "interrupted before it started", Cause.NOT_STARTED),
        (INTERRUPTED, "closed", Cause.CLOSED),
    ],
    "/root/ends": [(INTERRUPTED, "interrupted", Cause.INTERRUPTED)],
    "/root/yields": [(COMPLETED, "in time", Cause.FINISHED)],
}
"""Path -> how each of its turns ended."""


def ending(outcome: Outcome) -> tuple[TurnState, str, Cause]:
    return outcome.status, outcome.result, outcome.cause


@pytest.fixture
def path(tmp_path: Path) -> Path:
    copy = tmp_path / "session.db"
    shutil.copyfile(FILES / "session-v2.db", copy)
    return copy


def test_file_of_the_second_version_has_every_kind_of_record(path: Path) -> None:
    kinds = {kind for (kind,) in sql(path, "SELECT DISTINCT kind FROM log")}
    assert kinds == {*[kind.__name__ for kind in RECORDS], "Entry"}
    assert sql(path, "PRAGMA user_version") == [(2,)]


async def test_file_of_the_second_version_is_found_whole(path: Path) -> None:
    store = SQLiteStore(path)
    found = await store.open(CONFIG)
    assert found.config is not None
    assert (found.config.max_concurrent, found.tail) == (60, 54)
    agents = found.ledger.agents
    assert [agent.path for agent in agents] == list(OUTCOMES)
    assert {agent.path: ending(agent.outcome) for agent in agents if agent.outcome is not None} == {
        path: ends[-1] for path, ends in OUTCOMES.items()
    }
    assert [a.path for a in agents if a.identity is Identity.CLOSED] == [
        *("/root/gone", "/root/gone/below", "/root/live", "/root/live/child", "/root/late", "/root/lost"),
        *("/root/closes", "/root/closes/heir"),
    ]
    notices = {mail.mail: mail.notice for agent in agents for mail in agent.mailbox if mail.notice is not None}
    assert {number: (agents[o.agent].path, *ending(o)) for number, o in notices.items()} == {
        4: ("/root/asker/child", ERRORED, "ValueError: no bridge", Cause.FAILED),
        35: ("/root/again", COMPLETED, "first", Cause.FINISHED),
        39: ("/root/asker", INTERRUPTED, "interrupted by a crash", Cause.CRASHED),
        40: ("/root/runs", INTERRUPTED, "interrupted by a crash", Cause.CRASHED),
        41: ("/root/runs/stops", INTERRUPTED, "interrupted by a crash", Cause.CRASHED),
    }
    assert await store.receipt("key of again") == Receipt("key of again", '{"spawn":"again"}', '[19,"/root/again",34]')
    await store.close()


async def test_rollouts_of_the_second_version_are_found_whole(path: Path) -> None:
    store = await opened(path)
    rollouts = [await store.rollout(agent) for agent in range(len(OUTCOMES))]
    ends = [record.outcome for rollout in rollouts for record in rollout if isinstance(record, TurnEnded)]
    assert {outcome.by for outcome in ends} == {None}
    told = [[ending(record.outcome) for record in rollout if isinstance(record, TurnEnded)] for rollout in rollouts]
    assert dict(zip(OUTCOMES, told, strict=True)) == OUTCOMES
    assert [record for rollout in rollouts for record in rollout if isinstance(record, Entry)] == [
        Entry(19, 2, {"said": ["hello", 1]}),
        Entry(24, 1, "kept"),
    ]
    assert await store.check() == ()
    await store.close()


def test_trace_of_the_first_version_is_played_as_it_was() -> None:
    told = trace.read(FILES / "session-v1.trace")
    assert told.facts is not None
    found = [(f.agent, *ending(f.outcome)) for f in told.facts.agents if f.outcome is not None]
    assert found == [(number, *ends[-1]) for number, ends in enumerate(OUTCOMES.values()) if number < len(found)]
    assert len(found) == 24
    assert [event for event in told.events if isinstance(event, Finished | Failed)] == [
        Failed(29, 2, "RuntimeError: worn out"),
        Finished(33, 1, "in time"),
    ]
    trial = Trial(told.config, facts=told.facts)
    for event in told.events:
        trial.play(event)
    ends = {agent.path: ending(agent.outcome) for agent in trial.session.agents if agent.outcome is not None}
    played = {"/root/ends": (INTERRUPTED, "interrupted", Cause.SHUT_DOWN)}  # the words alone do not tell
    assert ends == {path: ends[-1] for path, ends in OUTCOMES.items()} | played
