"""The statements of leases, one after the other: what each move does to the rows, and who may make it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from statemachine import SessionConfig
from statemachine.hosting import leases
from statemachine.hosting.directory import Claimed, Where
from statemachine.hosting.leases import Leases
from statemachine.stores.errors import SessionInUse
from statemachine.stores.postgres import PostgresStore
from statemachine.stores.postgres.claiming import Lease
from statemachine.stores.postgres.dsn import dsn_of, with_session
from tests.stores.databases import sql, until_unlocked

TTL = 5.0
ROW = "SELECT name, wanted, worker, epoch, asked FROM statemachine.sessions ORDER BY id"


@pytest.fixture
def joined(database: str) -> Iterator[Callable[..., Leases]]:
    """Has a worker join at this address."""
    names, made = dsn_of(with_session(database, "x")), list[Leases]()

    def join(address: str, capacity: int = 10) -> Leases:
        made.append(Leases(names.database, names.shown, capacity, TTL))
        made[-1].join(Where(address, f"token of {address}"))
        return made[-1]

    yield join
    for each in made:
        each.close()


def rows(database: str, statement: str = ROW) -> list[tuple[object, ...]]:
    return sql(with_session(database, "x"), statement)


def ask(worker: Leases, name: str, request: bytes | None = None) -> None:
    leases.ask(worker.connection, "test", name, request)


def silence(database: str, worker: Leases, seconds: float) -> None:
    """Has a worker been silent for so long."""
    rows(database, f"UPDATE statemachine.workers SET beat = beat - interval '{seconds} s' WHERE id = {worker.worker}")


def cut_off(database: str, worker: Leases) -> None:
    """Ends the connection of a worker, and waits until the server has noticed, which takes it a while under load."""
    worker.connection.close()
    until_unlocked(with_session(database, "x"), worker.worker)


def test_session_that_is_asked_for_is_claimed_by_one_worker_with_its_epoch_raised(
    database: str, joined: Callable[..., Leases]
) -> None:
    one, other = joined("one"), joined("other")
    ask(one, "a", b"request")
    assert rows(database) == [("a", True, None, 0, 1)]
    found = one.poll([], 0, draining=False)
    (claimed,) = found.claimed
    assert (claimed.name, claimed.epoch) == ("a", 1)
    assert [each.request for each in found.asks] == [b"request"]
    assert other.poll([], 0, draining=False).claimed == ()
    assert rows(database) == [("a", True, one.worker, 1, 1)]
    assert leases.owner_of(one.connection, "test", "a") == Where("one", "token of one")


def test_worker_whose_connection_ends_is_buried_by_the_next_that_looks(
    database: str, joined: Callable[..., Leases]
) -> None:
    one, other = joined("one"), joined("other")
    ask(one, "a")
    one.poll([], 0, draining=False)
    assert other.poll([], 0, draining=False).claimed == ()
    cut_off(database, one)
    (claimed,) = other.poll([], 0, draining=False).claimed
    assert (claimed.name, claimed.epoch) == ("a", 3)  # the burial raised it, and the claim
    assert len(rows(database, "SELECT * FROM statemachine.workers")) == 1
    assert not leases.is_there(other.connection, "test", Where("one", "token of one"))


def test_worker_that_is_silent_for_longer_than_the_ttl_is_buried_and_joins_again_when_it_wakes(
    database: str, joined: Callable[..., Leases]
) -> None:
    one, other = joined("one"), joined("other")
    ask(one, "a")
    (mine,) = one.poll([], 0, draining=False).claimed
    silence(database, one, TTL - 1)
    assert other.poll([], 0, draining=False).claimed == ()
    silence(database, one, 2)
    assert [each.name for each in other.poll([], 0, draining=False).claimed] == ["a"]
    found = one.poll([mine.id], 0, draining=False)
    assert (found.is_buried, found.claimed) == (True, ())
    assert rows(database) == [("a", True, other.worker, 3, 1)]
    assert not one.poll([], 0, draining=False).is_buried


def test_sessions_of_a_dead_worker_that_are_locked_are_freed_later_and_the_worker_stays_until_then(
    database: str, joined: Callable[..., Leases]
) -> None:
    one, other = joined("one"), joined("other")
    ask(one, "a")
    ask(one, "b")
    claimed = one.poll([], 0, draining=False).claimed + one.poll([1], 0, draining=False).claimed
    cut_off(database, one)
    third = joined("third")
    with third.connection.transaction():
        third.connection.execute("SELECT * FROM statemachine.sessions WHERE name = 'a' FOR UPDATE")
        other.poll([], 0, draining=False)
        assert rows(database)[0][2] == (one.worker if claimed[0].name == "a" else None)
    other.poll([], 0, draining=False)
    assert one.worker not in [row[2] for row in rows(database)]
    assert [row[0] for row in rows(database, "SELECT address FROM statemachine.workers ORDER BY address")] == [
        "other", "third"
    ]  # fmt: skip


def test_session_that_is_asked_for_while_it_is_being_left_stays_wanted(
    database: str, joined: Callable[..., Leases]
) -> None:
    one = joined("one")
    ask(one, "a")
    (mine,) = one.poll([], 0, draining=False).claimed
    asked, earlier = one.asked(mine.id), Claimed(mine.id, mine.name, mine.epoch - 1)
    ask(one, "a")
    assert not one.unload(mine, asked), "a caller has asked for it"
    assert not one.unload(earlier, asked + 1), "another has had it"
    rows(database, f"INSERT INTO statemachine.asks (session, request) VALUES ({mine.id}, 'x')")
    assert not one.unload(mine, asked + 1), "a request is not carried out"
    rows(database, "DELETE FROM statemachine.asks")
    rows(database, "UPDATE statemachine.sessions SET worker = 4711")
    assert not one.unload(mine, asked + 1), "another has it"
    rows(database, f"UPDATE statemachine.sessions SET worker = {one.worker}")
    assert one.unload(mine, asked + 1)
    assert rows(database) == [("a", False, one.worker, 1, 2)], "nothing claims it before it is left"
    one.give_back(earlier)
    assert rows(database) == [("a", False, one.worker, 1, 2)], "it was another opening"
    one.give_back(mine)
    assert rows(database) == [("a", False, None, 2, 2)]
    assert one.poll([], 0, draining=False).claimed == ()


def test_worker_that_was_buried_between_its_heartbeat_and_its_claim_claims_nothing(
    database: str, joined: Callable[..., Leases], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = joined("one"), joined("other")
    ask(one, "a")

    def hangs() -> None:
        silence(database, one, TTL + 1)
        Leases._bury(other)

    monkeypatch.setattr(one, "_bury", hangs)
    assert one.poll([], 0, draining=False).claimed == ()
    assert rows(database) == [("a", True, None, 0, 1)]
    assert len(other.poll([], 0, draining=False).claimed) == 1


def test_worker_that_leaves_frees_what_it_has_even_so(database: str, joined: Callable[..., Leases]) -> None:
    one, other = joined("one"), joined("other")
    ask(one, "a")
    assert len(one.poll([], 0, draining=False).claimed) == 1
    one.leave()
    assert rows(database) == [("a", True, None, 2, 1)]
    assert len(other.poll([], 0, draining=False).claimed) == 1


def test_worker_that_drains_or_is_full_claims_nothing(database: str, joined: Callable[..., Leases]) -> None:
    one, other = joined("one", 1), joined("other", 10)
    for name in ("a", "b", "c"):
        ask(one, name)
    assert one.poll([], 0, draining=True).claimed == ()
    assert rows(database, "SELECT draining FROM statemachine.workers ORDER BY address") == [(True,), (False,)]
    (mine,) = one.poll([], 0, draining=False).claimed
    assert one.poll([mine.id], 0, draining=False).claimed == ()
    assert len(other.poll([], 0, draining=False).claimed) == 2


def test_session_of_a_program_that_died_is_freed_when_it_is_asked_for(
    database: str, joined: Callable[..., Leases]
) -> None:
    one = joined("one")
    ask(one, "a")
    rows(database, "UPDATE statemachine.sessions SET worker = 4711, epoch = 7")
    found = list[Claimed]()
    for _ in range(11):
        found += one.poll([each.id for each in found], 0, draining=False).claimed
    assert [(each.name, each.epoch) for each in found] == [("a", 9)]


def test_session_of_a_program_that_lives_is_not_taken_from_it(database: str, joined: Callable[..., Leases]) -> None:
    one, living = joined("one"), joined("living")
    living.leave()  # it has a connection and a lock, and is not among the workers
    ask(one, "a")
    rows(database, f"UPDATE statemachine.sessions SET worker = {living.worker}")
    assert [each for _ in range(11) for each in one.poll([], 0, draining=False).claimed] == []


def test_idle_poll_looks_at_no_session_that_rests(database: str, joined: Callable[..., Leases]) -> None:
    one = joined("one")
    rows(database, "INSERT INTO statemachine.sessions (name) SELECT 's' || n FROM generate_series(1, 10000) AS n")
    rows(database, "ANALYZE statemachine.sessions")
    one.connection.execute("SET enable_seqscan = on")
    for statement in (leases.COUNTS, leases.CLAIM, leases.ORPHANS):
        values = {"me": 1, "most": 5, "held": [1]}
        plan = one.connection.execute(f"EXPLAIN {statement}", values).fetchall()
        assert "Seq Scan on sessions" not in "\n".join(line for (line,) in plan), statement


def test_session_that_is_a_worker_s_in_the_database_alone_is_freed(
    database: str, joined: Callable[..., Leases]
) -> None:
    one = joined("one")
    ask(one, "a")
    ask(one, "b")
    held = [each.id for each in one.poll([], 0, draining=False).claimed]
    assert len(held) == 2
    (again,) = one.poll(held[:1], 0, draining=False).claimed
    assert (again.id, again.epoch) == (held[1], 3)
    assert [row[2:4] for row in rows(database)] == [(one.worker, 1), (one.worker, 3)]


@pytest.mark.anyio
@pytest.mark.parametrize("what", ["epoch = epoch + 1", "worker = 4711"], ids=["a later claim", "another worker"])
async def test_session_whose_lease_is_not_held_any_more_is_not_opened_with_it(
    database: str, joined: Callable[..., Leases], what: str
) -> None:
    """The worker hung between its claim and the opening."""
    one = joined("one")
    ask(one, "a")
    (mine,) = one.poll([], 0, draining=False).claimed
    rows(database, f"UPDATE statemachine.sessions SET {what}")
    before = rows(database)
    store = PostgresStore(with_session(database, "a"), lease=Lease(mine.epoch, one.worker))
    with pytest.raises(SessionInUse):
        await store.open(SessionConfig())
    assert rows(database) == before
