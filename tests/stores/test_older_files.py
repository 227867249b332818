"""Files that an earlier version of the library wrote are read whole.

`session-v3.db` has texts with lone surrogates, results and entries of every class, requests with keys, unread mail, and
a turn that runs; two processes had it open. `session-v2.trace` is the trace of the second, cut off by its crash.
`session-v2.db` has every kind of record, and turns that ended in every way there was. Three processes had it open: with
much room, until they crashed; with room for one agent; and with `LIVE_THREADS`. `session-v1.trace` is the trace of the
last. None of them is ever changed: every later version of the code has to read them.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from model.scenarios.replay import Trial
from statemachine import AgentControl, AgentRef, SessionConfig, Turn
from statemachine.core.events import HOST, Failed, Finished, FollowUp
from statemachine.core.facts import Json
from statemachine.core.machines import Identity, TurnState
from statemachine.core.records import Cause, MailAccepted, MailKind, Outcome, TurnEnded
from statemachine.errors import KeyReused
from statemachine.log import trace
from statemachine.stores import Entry, SQLiteStore, StoreCorrupt
from statemachine.stores.protocol import Receipt
from statemachine.stores.sqlite import schema
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


def copy_of(name: str, folder: Path) -> Path:
    copy = folder / "session.db"
    shutil.copyfile(FILES / name, copy)
    return copy


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return copy_of("session-v2.db", tmp_path)


@pytest.fixture
def third(tmp_path: Path) -> Path:
    return copy_of("session-v3.db", tmp_path)


FIRST_EDITION = (
    "AgentSpawned MailAccepted NoticeBuried TurnStarted MailDrained TurnEnded AgentsClosed AgentResumed Entry"
)
"""Every kind of record that there was up to the third version."""


def test_file_of_the_second_version_has_every_kind_of_record_that_there_was(path: Path) -> None:
    kinds = {kind for (kind,) in sql(path, "SELECT DISTINCT kind FROM log")}
    assert kinds == {*FIRST_EDITION.split()}
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


SAID = {"odd": "\ud800 caf\u00e9", "big": 2**70}
LOOKS_LIKE_AN_OUTCOME = {"agent": 1, "turn": 1, "status": "completed", "result": "looks like an outcome"}
NOT_AN_OUTCOME = {"status": "completed", "result": "not an outcome"}
RUNS = [Outcome(10, 1, INTERRUPTED, "interrupted by a crash", Cause.CRASHED)]
THIRD: dict[str, tuple[list[Outcome], list[Any]]] = {
    "/root": ([], []),
    "/root/talks": ([Outcome(1, 1, COMPLETED, "HELLO\ud83d", Cause.FINISHED)], [{"said": "hello", **SAID}]),
    "/root/fails": ([Outcome(2, 1, ERRORED, "ValueError: no bridge", Cause.FAILED)], []),
    "/root/asks": (
        [Outcome(3, 1, COMPLETED, Json(LOOKS_LIKE_AN_OUTCOME), Cause.FINISHED)],
        [["asked", "/root/asks/child"]],
    ),
    "/root/asks/child": (
        [Outcome(4, 1, COMPLETED, "ANSWER ME\ud83d", Cause.FINISHED)],
        [{"said": "answer me", **SAID}],
    ),
    "/root/big": ([Outcome(5, 1, COMPLETED, Json(2**80), Cause.FINISHED)], []),
    "/root/stopped": ([Outcome(6, 1, INTERRUPTED, "interrupted", Cause.INTERRUPTED, HOST)], [NOT_AN_OUTCOME]),
    "/root/shut": ([Outcome(7, 1, INTERRUPTED, "closed", Cause.CLOSED, HOST)], [NOT_AN_OUTCOME]),
    "/root/shut/below": ([Outcome(8, 1, COMPLETED, "HELLO\ud83d", Cause.FINISHED)], [{"said": "hello", **SAID}]),
    "/root/again": (
        [
            Outcome(9, 1, COMPLETED, "HELLO\ud83d", Cause.FINISHED),
            Outcome(9, 2, COMPLETED, "HELLO AGAIN\ud83d", Cause.FINISHED),
        ],
        [{"said": "hello", **SAID}, {"said": "hello again", **SAID}],
    ),
    "/root/runs": (RUNS, [NOT_AN_OUTCOME] * 2),
}
"""Path -> how its turns ended, and what they recorded, in the file of the third version."""


async def test_file_of_the_third_version_is_found_whole(third: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "ROWS_AT_ONCE", 7)
    assert sql(third, "PRAGMA user_version") == [(3,)]
    store = SQLiteStore(third)
    found = await store.open(CONFIG)
    assert found.config is not None
    assert (found.config.max_concurrent, found.config.stop_grace, found.tail) == (9, 1.5, 5)
    agents = found.ledger.agents
    assert {agent.path: agent.outcome for agent in agents} == {
        path: ends[-1] if ends else None for path, (ends, _) in THIRD.items()
    }
    assert [agent.path for agent in agents if agent.identity is Identity.CLOSED] == ["/root/shut", "/root/shut/below"]
    assert [(agent.path, agent.turn) for agent in agents if agent.status is TurnState.RUNNING] == [("/root/runs", 2)]
    assert agents[10].taken == (MailAccepted(16, 1, 10, MailKind.TRIGGER, "hang"),)
    notice = THIRD["/root/shut/below"][0][0]
    assert {agent.path: agent.mailbox for agent in agents if agent.mailbox} == {
        "/root": (MailAccepted(14, HOST, 0, MailKind.QUEUE, "to the root"),),
        "/root/talks": (
            MailAccepted(9, 8, 1, MailKind.QUEUE, "", notice),
            MailAccepted(13, HOST, 1, MailKind.QUEUE, "read me later \udfff"),
            MailAccepted(17, HOST, 1, MailKind.QUEUE, "one more"),
        ),
        "/root/asks": (MailAccepted(4, 4, 3, MailKind.QUEUE, "", THIRD["/root/asks/child"][0][0]),),
    }
    assert {agent.path: agent.settings for agent in agents if agent.settings is not None} == {
        "/root/fails": '{"role":"default","settings":{"temper":"bad"}}',
        "/root/asks/child": '{"role":"default","settings":{"deep":[1,2.5,null]}}',
    }
    assert found.ledger.mail_states == [5, 12, 1]
    rollouts = [await store.rollout(agent) for agent in range(len(THIRD))]
    told = [
        (
            [record.outcome for record in rollout if isinstance(record, TurnEnded)],
            [record.data for record in rollout if isinstance(record, Entry)],
        )
        for rollout in rollouts
    ]
    assert dict(zip(THIRD, told, strict=True)) == THIRD
    assert await store.check() == ()
    await store.close()


async def test_request_of_the_third_version_is_known_by_its_key(third: Path) -> None:
    async def work(turn: Turn) -> str:
        return "again"

    async with AgentControl.open(third, work, SessionConfig(max_concurrent=9)) as control:
        talks = await control.spawn("/root", "talks", "hello", key="key of talks")
        assert (talks.ref, (await talks.outcome()).result) == (AgentRef(1, "/root/talks", 0), "HELLO\ud83d")
        again = await control.follow_up("/root/again", "hello again", key="key of again")
        assert again.ref == AgentRef(9, "/root/again", 12)
        with pytest.raises(KeyReused):
            await control.follow_up("/root/again", "something else", key="key of again")


@pytest.mark.parametrize(
    ("table", "where", "data"),
    [
        (
            "log",
            "position = 5",
            '{"outcome":{"agent":1,"turn":1,"status":"completed","result":"","cause":"fate","by":null}}',
        ),
        ("log", "position = 5", '{"outcome":{"agent":1,"turn":1,"status":1,"result":"","cause":"finished","by":null}}'),
        ("log", "position = 4", '{"agent":1,"turn":1,"data":NaN}'),
        ("log", "position = 3", '{"agent":1,"turn":1,"more":1}'),
        ("log", "position = 3", '{"agent":1,"turn":true}'),
        ("agents", "agent = 5", '[5,0,"big",null,"open",-1,"completed",1,[5,1,"completed","","finished",null],[]]'),
        ("agents", "agent = 5", '[5,0,"big",null,"open",-1,"completed",1,[5,1],[],[]]'),
    ],
)
async def test_damage_in_a_file_of_the_third_version_is_named_and_the_file_stays_as_it_is(
    third: Path, table: str, where: str, data: str
) -> None:
    column = "data" if table == "log" else "facts"
    sql(third, f"UPDATE {table} SET {column} = '{data}' WHERE {where}")
    before = sql(third, "SELECT * FROM log"), sql(third, "SELECT * FROM agents")
    with pytest.raises(StoreCorrupt):
        await SQLiteStore(third).open(CONFIG)
    assert (sql(third, "SELECT * FROM log"), sql(third, "SELECT * FROM agents")) == before
    assert sql(third, "PRAGMA user_version") == [(3,)]


def test_trace_of_the_second_version_is_played_as_it_was() -> None:
    told = trace.read(FILES / "session-v2.trace")
    assert told.facts is not None
    assert [f.outcome for f in told.facts.agents if f.agent < 10] == [
        ends[-1] if ends else None for path, (ends, _) in THIRD.items() if path != "/root/runs"
    ]
    assert told.events[0] == FollowUp(1, 10, "hang")
    trial = Trial(told.config, facts=told.facts)
    for event in told.events:
        trial.play(event)
    assert {agent.path: agent.outcome for agent in trial.session.agents} == {
        path: ends[-1] if ends else None for path, (ends, _) in THIRD.items()
    }


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
