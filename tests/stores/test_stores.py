"""What every store does, in memory, on disk and in a database, on asyncio and on trio."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from anyio import CancelScope

from model.fuzzing import chance
from model.lockstep import Restart, core_step
from statemachine.core.config import Notice, SessionConfig
from statemachine.core.events import HOST, ROOT
from statemachine.core.machines import TurnState
from statemachine.core.records import (
    AgentResumed,
    AgentsClosed,
    AgentSpawned,
    Cause,
    MailAccepted,
    MailDrained,
    MailKind,
    NoticeBuried,
    Outcome,
    TurnEnded,
    TurnStarted,
)
from statemachine.core.session import Session
from statemachine.log.recovery import durable_facts, fold
from statemachine.log.snapshot import facts_of, touched
from statemachine.runtime.handles import outcome_in
from statemachine.stores import (
    Entry,
    MemoryStore,
    PostgresStore,
    Receipt,
    Snapshot,
    SQLiteStore,
    Store,
    Write,
    memory,
    rows,
)
from statemachine.stores.encoding import decode
from statemachine.stores.errors import SessionInUse, StoreClosed, Unstorable
from tests.stores.session_files import ready

CONFIG = SessionConfig()
SPAWNED = AgentSpawned(1, ROOT, "a", "settings of a")
MAIL = MailAccepted(0, ROOT, 1, MailKind.TRIGGER, "work")
STARTED = TurnStarted(1, 1)
ENTRY = Entry(1, 1, {"said": ["hello", 1, 2.5, None, True]})
ENDED = TurnEnded(Outcome(1, 1, TurnState.COMPLETED, "done", Cause.FINISHED))
LIFE = (SPAWNED, MAIL, STARTED, ENTRY, ENDED)
"""One agent, one turn."""

NewStore = Callable[..., Store]
"""Makes one more store for the same session; the arguments are those of its class."""


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> NewStore:
    if request.param == "postgres":
        dsn: str = request.getfixturevalue("dsn")
        return lambda **options: PostgresStore(dsn, **options)
    if request.param == "sqlite":
        return lambda **options: SQLiteStore(tmp_path / "session.db", **options)
    first = MemoryStore()
    return lambda **options: MemoryStore(first.log, **options)


pytestmark = pytest.mark.anyio


# Opening


async def test_opening_a_new_store_gives_the_root_alone_in_the_first_epoch(new_store: NewStore) -> None:
    found = await new_store().open(CONFIG)
    assert (found.epoch, found.config, found.tail) == (1, None, 0)
    assert durable_facts(found.ledger) == durable_facts(Session(CONFIG).ledger)


async def test_opening_again_gives_the_fold_of_all_that_was_appended(new_store: NewStore) -> None:
    store = await ready(new_store())
    await store.append([Write(LIFE[:2]), Write(LIFE[2:])])
    await store.append([Write((MailAccepted(1, 1, ROOT, MailKind.QUEUE, "note"),))])
    await store.close()
    again = await new_store().open(CONFIG)
    assert (again.epoch, again.config, again.tail) == (2, CONFIG, 6)
    whole = fold(CONFIG, [SPAWNED, MAIL, STARTED, ENDED, MailAccepted(1, 1, ROOT, MailKind.QUEUE, "note")])
    assert durable_facts(again.ledger) == durable_facts(whole)


async def test_opening_keeps_what_it_folded_so_the_next_one_folds_nothing(new_store: NewStore) -> None:
    store = await ready(new_store())
    await store.append([Write(LIFE)])
    await store.close()
    second = new_store()
    ledger = (await second.open(CONFIG)).ledger
    await second.close()
    third = await new_store().open(CONFIG)
    assert third.tail == 0
    assert durable_facts(third.ledger) == durable_facts(ledger)


async def test_opening_with_another_configuration_tells_the_last_one_and_folds_with_the_new(
    new_store: NewStore,
) -> None:
    store = await ready(new_store())
    request = MailAccepted(1, 1, ROOT, MailKind.TRIGGER, "work")
    await store.append([Write((SPAWNED, MAIL, request))])
    await store.close()
    other = SessionConfig(max_concurrent=7, notice=Notice.NONE, idle_ttl=1.5)
    second = new_store()
    found = await second.open(other)
    assert (found.config, found.ledger.agents[1].promised) == (CONFIG, 0)
    await second.close()
    third = await new_store().open(CONFIG)
    assert (third.config, third.ledger.agents[1].promised) == (other, 1)


async def test_snapshot_and_what_comes_after_it_give_the_whole_ledger_when_opened(new_store: NewStore) -> None:
    store = await ready(new_store())
    ledger = fold(CONFIG, [SPAWNED, MAIL])
    snapshot = Snapshot(tuple([facts_of(ledger, agent) for agent in ledger.agents]), tuple(ledger.mail_states))
    await store.append([Write((SPAWNED, MAIL)), snapshot, Write((STARTED, ENTRY)), Write((ENDED,))])
    await store.close()
    found = await new_store().open(CONFIG)
    assert found.tail == 3
    assert durable_facts(found.ledger) == durable_facts(fold(CONFIG, [SPAWNED, MAIL, STARTED, ENDED]))


@pytest.mark.parametrize("seed", range(4))
async def test_random_run_with_snapshots_and_crashes_is_found_whole_at_every_opening(
    new_store: NewStore, seed: int
) -> None:
    rnd = random.Random(seed)
    config = chance.config_of(rnd.randbytes(chance.CONFIG_BYTES))
    s, store = Session(config), await ready(new_store(), config)
    dirty: set[int] = set()
    appended = 0
    for _ in range(12):
        items: list[Write | Snapshot] = []
        for _ in range(12):
            plays = rnd.choice((chance.ANYTHING, chance.PLENTY))
            event = Restart() if rnd.random() < 0.02 else chance.event_of(s, plays, rnd.randbytes(chance.BYTES))
            s, step = core_step(s, event)
            dirty |= touched(step.records, s.ledger)
            appended += len(step.records)
            items.append(Write(step.records))
            if rnd.random() < 0.1:
                items.append(
                    Snapshot(tuple([facts_of(s.ledger, s.agents[a]) for a in dirty]), tuple(s.ledger.mail_states))
                )
                dirty.clear()
        await store.append(items)
        if rnd.random() < 0.5:
            store = new_store(takeover=True)
            found = await store.open(config)
            assert durable_facts(found.ledger) == durable_facts(s.ledger)
            dirty.clear()
        for agent in s.agents:
            whole = await store.rollout(agent.id)
            for mail in [record.mail for record in whole if isinstance(record, MailAccepted)]:
                some = await store.rollout(agent.id, mail)
                assert some == whole[len(whole) - len(some) :]
                assert outcome_in(some, mail, s.live_threads) == outcome_in(whole, mail, s.live_threads)
            for count in {0, 1, rnd.randrange(len(whole) + 2), len(whole), len(whole) + 100}:
                assert await store.rollout(agent.id, last=count) == whole[max(0, len(whole) - count) :]
    assert appended > 50


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds of the records that stores decode from now on."""
    kinds = list[str]()

    def counted(kind: str, data: Any) -> Any:
        kinds.append(kind)
        return decode(kind, data)

    for module in (memory, rows):
        monkeypatch.setattr(module, "decode", counted)
    return kinds


@pytest.mark.parametrize("is_covered", [True, False])
async def test_how_a_late_mail_was_answered_is_found_without_reading_what_came_before(
    new_store: NewStore, is_covered: bool, decoded: list[str]
) -> None:
    store = await ready(new_store())
    await store.append([Write((SPAWNED, MailAccepted(0, HOST, ROOT, MailKind.QUEUE, "note")))])
    for turn in range(1, 101):
        mail, outcome = attrs.evolve(MAIL, mail=turn), attrs.evolve(ENDED.outcome, turn=turn)  # type: ignore[misc]
        await store.append([Write((mail, TurnStarted(1, turn), *[Entry(1, turn, "x")] * 5, TurnEnded(outcome)))])
    if is_covered:
        await store.close()
        store = await ready(new_store())
    decoded.clear()
    assert [type(record).__name__ for record in await store.rollout(1, 100)] == [
        "TurnEnded", "MailAccepted", "TurnStarted", "TurnEnded"
    ]  # fmt: skip
    assert len(decoded) < 40
    assert "Entry" not in decoded
    assert len(await store.rollout(1, 1)) == 300
    assert await store.rollout(1, 101) == (await store.rollout(1, 100))[-4:]
    await store.close()


@pytest.mark.parametrize("is_covered", [True, False])
async def test_last_records_of_a_rollout_are_found_without_reading_what_came_before(
    new_store: NewStore, is_covered: bool, decoded: list[str]
) -> None:
    store = await ready(new_store())
    await store.append([Write((SPAWNED, *[Entry(1, 1, number) for number in range(300)]))])
    if is_covered:
        await store.close()
        store = await ready(new_store())
        await store.append([Write((Entry(1, 1, 300),))])
    whole = await store.rollout(1)
    for count in (1, 2, 33, 70):
        decoded.clear()
        assert await store.rollout(1, last=count) == whole[-count:]
        assert len(decoded) == count
    assert await store.rollout(77, last=5) == ()
    await store.close()


# Rollouts


async def test_rollout_has_the_agents_mail_turns_and_entries_in_order_and_nothing_else(new_store: NewStore) -> None:
    store = await ready(new_store())
    other = (AgentSpawned(2, ROOT, "b", None), MailAccepted(1, 1, 2, MailKind.TRIGGER, "work"), TurnStarted(2, 1))
    drained = MailDrained(1, 1)
    late = MailAccepted(2, HOST, 1, MailKind.QUEUE, "late")
    closing = (
        AgentsClosed(2, (2,)),
        AgentResumed(2),
        NoticeBuried(3, 1, Outcome(2, 1, TurnState.ERRORED, "why", Cause.FAILED)),
    )
    await store.append([Write((*LIFE[:3], *other)), Write((ENTRY,)), Write((late, drained, *closing)), Write((ENDED,))])
    expected = (MAIL, STARTED, ENTRY, late, drained, ENDED)
    assert await store.rollout(1) == expected
    assert await store.rollout(2) == other[1:]
    assert await store.rollout(ROOT) == ()
    assert await store.rollout(77) == ()


async def test_rollout_is_whole_after_snapshots_and_reopening(new_store: NewStore) -> None:
    store = await ready(new_store())
    ledger = fold(CONFIG, [SPAWNED, MAIL, STARTED])
    await store.append([Write(LIFE[:4]), Snapshot((facts_of(ledger, ledger.agents[1]),), tuple(ledger.mail_states))])
    await store.append([Write((ENDED,))])
    for _ in range(2):
        await store.close()
        store = await ready(new_store())
        assert await store.rollout(1) == LIFE[1:]


async def test_entry_data_comes_back_as_json_has_it(new_store: NewStore) -> None:
    store = await ready(new_store())
    await store.append([Write((Entry(1, 1, (1, {2: "x"})), Entry(1, 2, None), Entry(1, 3, "text")))])
    assert await store.rollout(1) == (Entry(1, 1, [1, {"2": "x"}]), Entry(1, 2, None), Entry(1, 3, "text"))


async def test_entry_that_is_changed_afterwards_stays_as_it_was_recorded(new_store: NewStore) -> None:
    store = await ready(new_store())
    data = {"said": "hello"}
    await store.append([Write((Entry(1, 1, data),))])
    data["said"] = "something else"
    assert await store.rollout(1) == (Entry(1, 1, {"said": "hello"}),)


async def test_texts_with_lone_surrogates_and_nuls_survive(new_store: NewStore) -> None:
    odd = '\ud83d\ude00 \ud800 \x00 "\\ \u2028 😀'
    records = (
        AgentSpawned(1, ROOT, "a", odd),
        MailAccepted(0, HOST, 1, MailKind.TRIGGER, odd),
        TurnStarted(1, 1),
        Entry(1, 1, {odd: odd}),
        TurnEnded(Outcome(1, 1, TurnState.ERRORED, odd, Cause.FAILED)),
    )
    store = await ready(new_store())
    await store.append([Write(records, Receipt(odd, odd, '"answer"'))])
    assert await store.rollout(1) == records[1:]
    assert await store.receipt(odd) == Receipt(odd, odd, '"answer"')
    await store.close()
    for _ in range(2):
        store = new_store(takeover=True)
        agent = (await store.open(CONFIG)).ledger.agents[1]
        assert (agent.settings, agent.outcome) == (odd, Outcome(1, 1, TurnState.ERRORED, odd, Cause.FAILED))


# Receipts


async def test_receipt_is_found_by_its_key_and_survives_reopening(new_store: NewStore) -> None:
    store = await ready(new_store())
    assert await store.receipt("key") is None
    first, other = Receipt("key", "spawn a", '{"agent":1}'), Receipt("other", "", "null")
    await store.append([Write(LIFE, first), Write((), other)])
    assert await store.receipt("key") == first
    await store.close()
    store = await ready(new_store())
    assert await store.receipt("key") == first
    assert await store.receipt("other") == other
    assert await store.receipt("third") is None


async def test_later_receipt_for_a_key_replaces_the_earlier_one(new_store: NewStore) -> None:
    store = await ready(new_store())
    await store.append([Write((), Receipt("key", "a", "1")), Write((), Receipt("key", "b", "2"))])
    assert await store.receipt("key") == Receipt("key", "b", "2")


# Appending


@pytest.mark.parametrize(
    "bad",
    [
        Entry(1, 1, {1, 2}),
        Entry(1, 1, math.nan),
        Entry(1, "1", None),  # type: ignore[arg-type]
        TurnEnded(Outcome(1, 1, TurnState.COMPLETED, b"bytes", Cause.FINISHED)),  # type: ignore[arg-type]
        "no record",
    ],
    ids=["set", "nan", "turn", "bytes", "no record"],
)
async def test_append_of_what_no_log_can_hold_appends_nothing_of_it_and_the_store_goes_on(
    new_store: NewStore, bad: Any
) -> None:
    store = await ready(new_store())
    with pytest.raises(Unstorable):
        await store.append([Write((ENTRY,), Receipt("key", "", "1")), Write((STARTED, bad)), Write((ENDED,))])
    assert await store.rollout(1) == ()
    assert await store.receipt("key") is None
    await store.append([Write((STARTED,))])
    assert await store.rollout(1) == (STARTED,)


async def test_append_by_a_cancelled_caller_is_durable_when_it_returns(new_store: NewStore) -> None:
    store = await ready(new_store())
    with CancelScope() as scope:
        scope.cancel()
        await store.append([Write((ENTRY,))])
        scope.deadline = math.inf  # reached: the append was not interrupted
    assert await store.rollout(1) == (ENTRY,)


# Owning


async def test_store_that_is_not_open_takes_and_gives_nothing(new_store: NewStore) -> None:
    store = new_store()
    for _ in range(2):
        with pytest.raises(StoreClosed):
            await store.append([Write(())])
        with pytest.raises(StoreClosed):
            await store.rollout(1)
        with pytest.raises(StoreClosed):
            await store.receipt("key")
        await store.open(CONFIG)
        await store.append([Write(())])
        await store.close()
        await store.close()


async def test_opening_what_is_open_is_refused_until_it_is_closed(new_store: NewStore) -> None:
    first = await ready(new_store())
    second = new_store()
    for store in (second, first):
        with pytest.raises(SessionInUse):
            await store.open(CONFIG)
    await first.append([Write((ENTRY,))])
    await first.close()
    assert (await second.open(CONFIG)).epoch == 2


async def test_taking_over_fences_the_first_owner_and_leaves_the_second_in_peace(new_store: NewStore) -> None:
    first = await ready(new_store())
    await first.append([Write((ENTRY,))])
    second = new_store(takeover=True)
    assert (await second.open(CONFIG)).epoch == 2
    for _ in range(2):
        with pytest.raises(SessionInUse):
            await first.append([Write((STARTED,), Receipt("key", "", "1"))])
    await second.append([Write((ENDED,))])
    await first.close()
    with pytest.raises(SessionInUse):
        await new_store().open(CONFIG)
    await second.append([Write((STARTED,))])
    assert await second.rollout(1) == (ENTRY, ENDED, STARTED)
    assert await second.receipt("key") is None
